"""Fits in which covariances keep within bounds beyond the floor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_priors import FORMS, N, data, start

import jaxgmm
from jaxgmm import Bounded, Status
from jaxgmm.model.bounded import _least

from tolerance import assert_close, dtype, once

BOUNDS = {"most": 0.05, "condition": 1.2}
# One variance has no condition.
CELLS = [(form, name) for form in FORMS for name in BOUNDS if "spherical" not in form or name == "most"]


def spectra(mixture, scale):
    return np.linalg.eigvalsh(np.asarray(mixture.covariances, np.float64) / scale[:, None] / scale)


@pytest.mark.parametrize(("form", "name"), CELLS)
def test_covariances_keep_within_and_what_is_climbed_never_falls(form, name):
    x, scale = data(), np.asarray(jaxgmm.scale_of(data()), np.float64)
    bound = Bounded(**{name: BOUNDS[name]})
    free = jaxgmm.fit(start(form, x), x)
    result = jaxgmm.fit(start(form, x), x, objective=bound, tol=1e-8)
    assert int(result.status) == Status.CONVERGED
    history = np.asarray(result.history)[: int(result.n_iter) + 1]
    # The start need not keep to it.
    assert np.all(np.diff(history[1:]) >= 0)
    assert result.log_likelihood < free.log_likelihood - 0.1

    def largest(mixture):
        found = spectra(mixture, scale) if "spherical" not in form else np.asarray(mixture.covariances)[:, 0, :1]
        unit = np.mean(scale**2) if "spherical" in form else 1
        return np.max(found) / unit if name == "most" else np.max(found[:, -1] / found[:, 0])

    assert largest(free.mixture) > 1.1 * BOUNDS[name]
    assert_close(largest(result.mixture), BOUNDS[name], "exact", scale=10)
    # What is feasible and near is no better.
    settled = bound.checked(3, 2, dtype()).within(jnp.zeros(2), jnp.asarray(scale, dtype()), jnp.ones(3, bool))
    rng = np.random.default_rng(0)
    for _ in range(5):
        moved = result.mixture.unconstrain()
        moved = jax.tree.map(lambda leaf: leaf + 1e-2 * rng.normal(size=leaf.shape).astype(leaf.dtype), moved)
        other = settled.placed(moved.constrain())
        assert jaxgmm.log_likelihood(other, x) < result.log_likelihood


def test_a_bound_below_the_floor_is_no_success():
    x = data()
    result = jaxgmm.fit(start("diag", x), x, objective=Bounded(most=1e-9))
    assert int(result.status) == Status.DEGENERATE
    assert Bounded(most=1.0).n_parameters(result.mixture) == result.mixture.n_parameters


@once
def test_bounds_are_the_best_there_are():
    """Against all that lie on a fine grid."""
    rng = np.random.default_rng(1)
    variances = np.exp(2 * rng.normal(size=(40, 5)))
    found = np.asarray(_least(jnp.asarray(variances, jnp.float32), jnp.asarray(3.0)), np.float64)
    grid = np.exp(np.linspace(-8, 8, 4001))[:, None, None]

    def loss(least):
        ends = np.clip(variances, least, 3 * least)
        return np.sum(np.log(ends) + variances / ends, axis=-1)

    assert np.all(loss(found[:, None]) <= np.min(loss(grid), axis=0) + 1e-4)


def test_a_component_on_equal_rows_is_round_and_not_on_the_floor():
    x = np.concatenate([data()[:100], 30 + np.linspace(0, 1, 10)[:, None] * np.array([1.0, 1.0])])
    begin = jaxgmm.from_responsibilities(x, np.eye(2)[(np.arange(110) >= 100).astype(int)], "full")
    assert int(jaxgmm.fit(begin, x).status) == Status.DEGENERATE
    result = jaxgmm.fit(begin, x, objective=Bounded(condition=100.0))
    assert int(result.status) == Status.CONVERGED
    within = jaxgmm.Frozen(result.mixture, means=True, objective=Bounded(condition=100.0))
    assert_close(jaxgmm.fit(begin, x, objective=within).log_likelihood / N, result.log_likelihood / N, "close")


@pytest.mark.skipif(dtype() is not np.float64, reason="finite differences need float64")
def test_derivatives_in_the_bound_are_those_of_refits():
    x, begin = data(), start("full", data())

    def readout(t):
        found = jaxgmm.fit(begin, x, objective=Bounded(condition=1.5 + t), tol=0, max_iter=5000)
        return jnp.stack([found.mixture.covariances[0, 0, 1], found.log_likelihood])

    compiled = jax.jit(readout)
    near, far = (compiled(times * 5e-3) - compiled(-times * 5e-3) for times in (1, 2))
    np.testing.assert_allclose(jax.jit(jax.jacrev(readout))(0.0), (8 * near - far) / 6e-2, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("bound", "error", "message"),
    [
        (Bounded(), ValueError, "Of most and condition, one is to be given"),
        (Bounded(1.0, 2.0), ValueError, "Of most and condition, one is to be given"),
        (Bounded(most=0), ValueError, "most is 0.0; expected a positive number"),
        (Bounded(condition=0.5), ValueError, "condition is 0.5; expected at least 1"),
        (Bounded(condition=np.inf), ValueError, "condition is inf; expected at least 1"),
        (Bounded(most=np.inf), ValueError, "most is inf; expected a positive number"),
        (Bounded, TypeError, "objective is the class Bounded; expected None"),
        (Bounded(1.0, objective=jaxgmm.Variational()), NotImplementedError, "Bounded is about the parameters"),
    ],
)
def test_what_is_no_bound(bound, error, message):
    with pytest.raises(error, match=message):
        jaxgmm.fit(start("full", data()), data(), objective=bound)
