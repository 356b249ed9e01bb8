"""Against other people's numbers: scipy's densities, scikit-learn's EM, R mclust's optima."""

import functools
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.stats
import sklearn.datasets
import sklearn.mixture

import jaxgmm

from cases import GAUSSIANS
from tolerance import assert_close, dtype

FAITHFUL = Path(__file__).parent.parent / "examples" / "data" / "faithful.csv"
STRUCTURES = ["full", "tied", "diag", "spherical"]

needs_float64 = pytest.mark.skipif(dtype() is not np.float64, reason="a reference in float64")


@functools.cache
def dataset(name):
    if name == "faithful":
        return np.loadtxt(FAITHFUL, delimiter=",", skiprows=1)
    return getattr(sklearn.datasets, f"load_{name}")().data


@pytest.mark.parametrize("case", GAUSSIANS, ids=lambda case: case.name)
def test_log_density_is_scipys(case):
    mixture, x = case.mixture(), np.asarray(case.data(50), np.float64)
    components = [
        np.log(weight) + scipy.stats.multivariate_normal(mean, covariance).logpdf(x)
        for weight, mean, covariance in zip(
            *(np.asarray(a, np.float64) for a in (mixture.weights, mixture.means, mixture.covariances)), strict=True
        )
    ]
    assert_close(mixture.log_prob(x), scipy.special.logsumexp(components, axis=0), "exact", scale=10)
    assert_close(mixture.responsibilities(x), scipy.special.softmax(components, axis=0).T, "exact", scale=10)


@needs_float64
@pytest.mark.parametrize("name", ["faithful", "iris", "wine"])
@pytest.mark.parametrize("covariance_type", STRUCTURES)
def test_em_is_sklearns(name, covariance_type):
    x = dataset(name)
    start = jaxgmm.init(jax.random.key(0), x, 2, covariance_type, method="kmeans")
    covariances = np.asarray(start.covariances)
    precisions = {
        "full": lambda: np.linalg.inv(covariances),
        "tied": lambda: np.linalg.inv(covariances[0]),
        "diag": lambda: 1 / np.diagonal(covariances, axis1=1, axis2=2),
        "spherical": lambda: 1 / covariances[:, 0, 0],
    }[covariance_type]()
    theirs = sklearn.mixture.GaussianMixture(
        2,
        covariance_type=covariance_type,
        tol=1e-13,
        max_iter=5000,
        reg_covar=0,
        weights_init=np.asarray(start.weights),
        means_init=np.asarray(start.means),
        precisions_init=precisions,
    ).fit(x)
    ours = jaxgmm.fit(start, x, tol=1e-13, max_iter=5000, regularization=0)
    assert jaxgmm.Status(int(ours.status)) == jaxgmm.Status.CONVERGED
    assert float(ours.log_likelihood) == pytest.approx(theirs.score(x) * len(x), rel=1e-6)
    np.testing.assert_allclose(ours.mixture.weights, theirs.weights_, rtol=1e-4)
    np.testing.assert_allclose(ours.mixture.means, theirs.means_, rtol=1e-4)
    expected = np.asarray(
        jaxgmm.from_parameters(theirs.weights_, theirs.means_, theirs.covariances_, covariance_type).covariances
    )
    np.testing.assert_allclose(ours.mixture.covariances, expected, rtol=1e-4, atol=1e-4 * expected.max())


@pytest.mark.parametrize("covariance_type", STRUCTURES)
def test_one_m_step_is_sklearns(covariance_type):
    """The M-step alone, from one set of responsibilities, in both dtypes."""
    x = dataset("iris")
    responsibilities = np.random.default_rng(0).dirichlet(np.ones(3), len(x))
    weights, means, covariances = sklearn.mixture._gaussian_mixture._estimate_gaussian_parameters(
        x, responsibilities, 0.0, covariance_type
    )
    mixture = jaxgmm.from_responsibilities(x, responsibilities, covariance_type, regularization=0)
    assert_close(mixture.weights, weights / len(x), "exact")
    assert_close(mixture.means, means, "exact")
    expected = jaxgmm.from_parameters(weights, means, covariances, covariance_type).covariances
    assert_close(mixture.covariances, expected, "close")


@pytest.mark.parametrize(
    ("covariance_type", "n_components", "optimum"),
    [("full", 2, -1130.264), ("tied", 3, -1126.316)],
    ids=["VVV", "EEE"],
)
def test_mclust_optima_on_old_faithful(covariance_type, n_components, optimum):
    """R mclust's VVV and EEE optima, from the library's own seeding."""
    x = dataset("faithful")
    keys = jax.random.split(jax.random.key(0), 10)
    starts = jax.vmap(lambda key: jaxgmm.init(key, x, n_components, covariance_type))(keys)
    results = jax.vmap(lambda start: jaxgmm.fit(start, x, tol=0, max_iter=2000))(starts)
    assert float(np.max(results.log_likelihood)) == pytest.approx(optimum, abs=1e-3)
