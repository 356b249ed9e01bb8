"""Fits in which parts of the mixture stay as they are."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_priors import FORMS, LIMIT, K, N, data, start

import jaxgmm
from jaxgmm import Frozen, Status

from cases import CASES
from tolerance import assert_close, dtype, once

KEY = jax.random.key(5)


def held_values(form):
    """A mixture that no fit ends at, in whose place parts of a start may be."""
    begin = start(form, data())
    means = np.asarray(begin.means) + np.array([[0.3, -0.2], [0.5, 0.1], [-0.4, 0.2]])
    structure = jax.tree.map(lambda leaf: 1.3 * leaf, begin.components.covariance)
    return jaxgmm.Mixture(jnp.log(jnp.array([0.2, 0.3, 0.5])), begin.components.moved(jnp.asarray(means), structure))


def masks(form):
    """Some of everything."""
    shared = form.startswith("tied")
    covariances = {"diag": [[True, False], [False, False], [True, True]], "tied-diag": [False, True]}
    return {
        "weights": [True, False, False],
        "means": [[True, False], [False, False], [True, True]],
        "covariances": covariances.get(form, True if shared else [False, True, False]),
    }


@pytest.mark.parametrize("form", FORMS)
def test_what_is_held_stays_and_the_rest_is_best(form):
    """What is climbed never falls, and its gradient in what is free is 0 at the end."""
    x, values = data(), held_values(form)
    held = Frozen(values, **masks(form))
    result = jaxgmm.fit(start(form, x), x, objective=held, tol=0, max_iter=5000)
    assert int(result.status) == Status.CONVERGED
    history = np.asarray(result.history)[: int(result.n_iter) + 1]
    assert np.all(np.diff(history) >= 0)
    assert history[-1] > history[0] + 1
    assert_close(result.mixture.weights[0], 0.2, "exact")
    assert_close(jnp.sum(result.mixture.weights), 1.0, "exact")
    means = np.asarray(masks(form)["means"])
    np.testing.assert_array_equal(np.asarray(result.mixture.means)[means], np.asarray(values.means)[means])
    (root,), (kept,) = (jax.tree.leaves(one.components.covariance) for one in (result.mixture, values))
    mask = np.asarray(masks(form)["covariances"])
    expected = np.broadcast_to(mask.reshape(mask.shape + (1,) * (root.ndim - mask.ndim)), root.shape)
    # Above the diagonal of a Cholesky factor all are 0.
    estimated = np.asarray(kept) != 0
    np.testing.assert_array_equal(np.asarray(root == kept)[estimated], expected[estimated])

    def value(free):
        return jaxgmm.log_likelihood(held.checked(K, 2, dtype()).placed(free.constrain()), x) / N

    slope = jax.grad(value)(result.mixture.unconstrain())
    assert max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(slope)) < LIMIT
    free = jaxgmm.fit(start(form, x), x).log_likelihood
    assert result.log_likelihood < free - 1
    assert held.n_parameters(result.mixture) == n_free(form)


def n_free(form):
    covariances = {
        "full": 6,
        "tied": 0,
        "diag": 3,
        "spherical": 2,
        "tied-diag": 1,
        "tied-spherical": 0,
    }[form]
    return 1 + 3 + covariances


def test_whole_components_and_equal_weights():
    x, values = data(), held_values("full")
    whole = jaxgmm.fit(start("full", x), x, objective=Frozen(values, components=[True, False, False], weights="equal"))
    np.testing.assert_array_equal(whole.mixture.means[0], values.means[0])
    np.testing.assert_array_equal(whole.mixture.covariances[0], values.covariances[0])
    assert_close(whole.mixture.weights, np.full(K, 1 / 3), "exact")
    # Far from all rows it keeps what it has, and is no failure.
    far = dataclasses.replace(values.components, means=values.means.at[0].add(1e3))
    some = Frozen(
        jaxgmm.Mixture(values.log_weights, far), components=[True, False, False], weights=[True, False, False]
    )
    alone = jaxgmm.fit(start("full", x), x, objective=some)
    assert int(alone.status) == Status.CONVERGED
    assert_close(alone.mixture.weights[0], 0.2, "exact")
    case = CASES[-1]
    poisson = jaxgmm.fit(case.start(), case.data(), objective=Frozen(case.mixture(), components=[False, True, False]))
    np.testing.assert_array_equal(poisson.mixture.means[1], case.mixture().means[1])
    assert np.all(np.asarray(poisson.mixture.means[0]) != case.mixture().means[0])


def test_means_are_held_whatever_the_form():
    """What is held of covariances is of the form that is fitted, and of whole components all of it."""
    x, values = data(), held_values("full")
    fitted = jaxgmm.fit(start("tied-diag", x), x, objective=Frozen(values, means=[True, False, False], weights="equal"))
    np.testing.assert_array_equal(fitted.mixture.means[0], values.means[0])
    held = Frozen(values, means=True, covariances=[True, False, False])
    with pytest.raises(TypeError, match=r"made of Gaussian\(full\) components, and Gaussian\(tied-diag\) ones are"):
        jaxgmm.fit(start("tied-diag", x), x, objective=held)
    wide, narrow = (
        jaxgmm.Mixture(values.log_weights, jaxgmm.StudentT(values.means, values.components.covariance, nu))
        for nu in (2.0, 50.0)
    )
    with pytest.raises(TypeError, match=r"StudentT\(full, nu=50.0\) components, and StudentT\(full, nu=2.0\) ones"):
        jaxgmm.fit(wide, x, objective=Frozen(narrow, components=[True, False, False]))
    case = CASES[-1]
    with pytest.raises(TypeError, match=r"Poisson\(\) ones are fitted"):
        jaxgmm.fit(case.start(), case.data(), objective=Frozen(values, means=True))


@once
def test_every_driver_holds_it():
    """Seeds, gradient fits and selection, in which values are those of the first components."""
    x, values = data(), held_values("full")
    held = Frozen(values.take([0]), means=True)
    best = jaxgmm.fit_restarts(KEY, x, 3, n_restarts=4, objective=held).best
    np.testing.assert_array_equal(best.mixture.means[0], values.means[0])
    begin = jaxgmm.fit(best.mixture, x, objective=held, tol=1e-2).mixture
    by_gradient = jaxgmm.fit_gradient(begin, x, optax.lbfgs(), n_steps=200, objective=held)
    np.testing.assert_array_equal(by_gradient.mixture.means[0], values.means[0])
    assert_close(by_gradient.log_likelihood / N, best.log_likelihood / N, "close")
    chosen = jaxgmm.select(KEY, x, 3, ("full", "diag"), n_restarts=4, objective=held, outliers="keep")
    np.testing.assert_array_equal(chosen.best.mixture.means[0], values.means[0])
    assert {one.form: one.n_parameters for one in chosen.candidates} == {"full": 17 - 2, "diag": 14 - 2}


@pytest.mark.skipif(dtype() is not np.float64, reason="finite differences need float64")
def test_derivatives_in_what_is_held_are_those_of_refits():
    x, begin, values = jnp.asarray(data()), start("full", data()), held_values("full")

    def readout(t):
        parts = {"log_weights": jnp.log(jnp.array([0.2, 0.3, 0.5]) + jnp.array([0.1, -0.1, 0.0]) * t)}
        structure = jax.tree.map(lambda leaf: leaf * (1 + t), values.components.covariance)
        moved = jaxgmm.Mixture(components=values.components.moved(values.means + t, structure), **parts)
        found = jaxgmm.fit(begin, x, objective=Frozen(moved, **masks("full")), tol=0, max_iter=5000)
        ends = found.mixture
        return jnp.stack([ends.means[0, 1], ends.weights[1], ends.covariances[0, 0, 1], found.log_likelihood])

    step = 5e-3
    compiled = jax.jit(readout)
    near, far = (compiled(times * step) - compiled(-times * step) for times in (1, 2))
    derivative = jax.jit(jax.jacfwd(readout))(0.0)
    np.testing.assert_allclose(derivative, (8 * near - far) / (12 * step), rtol=1e-5, atol=1e-6)
    assert np.all(np.abs(derivative) > 1e-3)


@pytest.mark.parametrize(
    ("held", "error", "message"),
    [
        (lambda values: Frozen(values, weights="even"), ValueError, "weights is 'even'; expected 'equal'"),
        (lambda values: Frozen(values, weights=[1.0, 0.0, 0.0]), TypeError, "weights has dtype float"),
        (
            lambda values: Frozen(values, means=[True]),
            ValueError,
            r"means has shape \(1,\); expected \(3,\)",
        ),
        (lambda values: Frozen(values, covariances=[[True, False]] * 3), ValueError, r"covariances has shape \(3, 2\)"),
        (
            lambda values: Frozen(values, objective=jaxgmm.Variational()),
            NotImplementedError,
            "Frozen is about the parameters",
        ),
        (
            lambda values: Frozen(values.take([0, 1, 2, 0])),
            ValueError,
            "values has 4 components in 2 columns",
        ),
        (lambda values: Frozen(2.0), TypeError, "values is of type float"),
        (
            lambda values: Frozen(CASES[-1].mixture(), means=True),
            NotImplementedError,
            "Poisson components have no",
        ),
        (
            lambda values: Frozen(values.take([0, 1]), weights=True),
            ValueError,
            "weights that are held sum to 1, so nothing is left",
        ),
    ],
)
def test_what_cannot_be_held(held, error, message):
    with pytest.raises(error, match=message):
        jaxgmm.fit(start("full", data()), data(), objective=held(held_values("full")))
