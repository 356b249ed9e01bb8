"""Information criteria against their definitions and scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

import jaxgmm

from cases import FEW, repetitions
from compilations import counted
from tolerance import assert_close, dtype

CRITERIA = {"aic": jaxgmm.aic, "aicc": jaxgmm.aicc, "bic": jaxgmm.bic, "icl": jaxgmm.icl}


def by_hand(name, mixture, x):
    n, p = len(x), mixture.n_parameters
    misfit = -2 * np.sum(np.asarray(mixture.log_prob(x), float))
    doubt = -2 * np.sum(np.log(np.max(np.asarray(mixture.responsibilities(x), float), axis=1)))
    return {
        "aic": misfit + 2 * p,
        "aicc": misfit + 2 * p + 2 * p * (p + 1) / (n - p - 1),
        "bic": misfit + p * np.log(n),
        "icl": misfit + p * np.log(n) + doubt,
    }[name]


@pytest.mark.parametrize("name", CRITERIA)
def test_definition(case, name):
    x = case.data(50)
    mixture = case.mixture()
    assert_close(CRITERIA[name](mixture, x), by_hand(name, mixture, x), "exact", scale=100)
    assert_close(CRITERIA[name](mixture, x, block_size=20), by_hand(name, mixture, x), "exact", scale=100)


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_sklearn_agrees(covariance_type):
    x = np.random.default_rng(0).normal(size=(200, 3)).astype(dtype())
    model = GaussianMixture(2, covariance_type=covariance_type, random_state=0).fit(x)
    mixture = jaxgmm.from_parameters(model.weights_, model.means_, model.covariances_, covariance_type)
    assert_close(jaxgmm.bic(mixture, x), model.bic(x), "exact", scale=100)
    assert_close(jaxgmm.aic(mixture, x), model.aic(x), "exact", scale=100)


@pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)
@pytest.mark.parametrize("name", CRITERIA)
def test_weights_count_rows(case, name):
    """A row of weight 3 is three rows; one of weight 0, whatever it holds, is none."""
    x = np.asarray(case.data(50))
    weights = repetitions(50)
    repeated = np.repeat(x, weights, axis=0)
    x = np.where(weights[:, None] > 0, x, np.nan)
    mixture = case.mixture()
    assert_close(CRITERIA[name](mixture, x, weights), CRITERIA[name](mixture, repeated), "exact", scale=100)


def test_few_rows():
    x = np.eye(6)
    mixture = jaxgmm.from_parameters([1.0], [np.zeros(6)], [np.ones(6)], "diag")  # 12 parameters
    assert float(jaxgmm.aicc(mixture, x)) == np.inf
    assert float(jaxgmm.aicc(mixture, np.zeros((13, 6)))) == np.inf
    assert np.isfinite(jaxgmm.aicc(mixture, np.zeros((14, 6))))


def test_clear_clusters_leave_no_doubt():
    x = np.array([[0.0], [1.0], [100.0], [101.0]])
    apart = jaxgmm.from_parameters([0.5, 0.5], [[0.5], [100.5]], [1.0, 1.0], "spherical")
    same = jaxgmm.from_parameters([0.5, 0.5], [[50.0], [50.0]], [1e3, 1e3], "spherical")
    assert float(jaxgmm.icl(apart, x)) == float(jaxgmm.bic(apart, x))
    assert_close(jaxgmm.icl(same, x) - jaxgmm.bic(same, x), 2 * 4 * np.log(2), "exact", scale=10)


@pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)
@pytest.mark.parametrize("name", CRITERIA)
def test_vmap_and_compilations(case, name):
    x = jnp.asarray(case.data(50))
    criterion, mixture = CRITERIA[name], case.mixture()
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), mixture)
    ones, twos = jnp.ones(50), 2 * jnp.ones(50)
    alone = criterion(mixture, x, ones)
    assert_close(jax.vmap(lambda one: criterion(one, x))(stacked), jnp.stack([alone, alone]), "exact", scale=100)
    with counted() as again:
        criterion(mixture, x, twos)
    assert again == []


def test_gradient_is_that_of_the_likelihood(case):
    x = case.data(50)
    mixture = case.mixture()
    ours, twice = (
        jax.jit(jax.grad(function))(mixture)
        for function in (lambda m: jaxgmm.bic(m, x), lambda m: -2 * jaxgmm.log_likelihood(m, x))
    )
    jax.tree.map(lambda a, b: assert_close(a, b, "exact", scale=100), ours, twice)
