"""The EM loop: how it ends, and what it leaves behind."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import Status

from tolerance import dtype

KEY = jax.random.key(0)


def data(n=200):
    return np.random.default_rng(0).normal(size=(n, 2)) + 4 * (np.arange(n) % 2)[:, None]


def status_of(result):
    return Status(int(result.status))


def test_a_step_not_taken_ends_the_fit():
    """A first step that lowers the likelihood, then one that rounding turns down: once, nothing ended this loop."""
    tight = jaxgmm.from_parameters([1.0], [[0.0]], [1e-6], "spherical")
    for seed in range(12, 24):
        x = 1e-3 * jax.random.normal(jax.random.key(seed), (200, 1))
        result = jaxgmm.fit(tight, x, regularization=2.0, max_iter=5)
        assert status_of(result) != Status.RUNNING
        assert int(result.n_iter) <= 5


def test_a_deep_fall_of_the_first_step_costs_no_digits():
    """Narrow components, started at the default floor and fitted below it: the next likelihood is 8e7 higher."""
    generator, labels = np.random.default_rng(2), np.arange(3000) % 3
    noise = generator.normal(size=(3000, 2)) @ [[1, 0.6], [0, 0.8]]
    x = np.array([[-1.2, -0.7], [1.1, -0.4], [0.1, 1.3]])[labels] + 3e-4 * noise
    for seed in (1, 2):
        order = np.random.default_rng(seed).permutation(3000)
        start = jaxgmm.from_responsibilities(x[order], np.eye(3)[labels[order]])
        result = jaxgmm.fit(start, x[order], tol=0, max_iter=5000, regularization=1e-12)
        assert status_of(result) == Status.CONVERGED
        expected = jaxgmm.log_likelihood(result.mixture, x[order])
        np.testing.assert_allclose(result.log_likelihood, expected, rtol=2e-6)


@pytest.mark.parametrize("max_iter", [0, 1, 7])
def test_max_iter(max_iter):
    start = jaxgmm.init(KEY, data(), 3)
    result = jaxgmm.fit(start, data(), tol=0, max_iter=max_iter)
    assert status_of(result) == Status.MAX_ITER
    assert int(result.n_iter) == max_iter
    assert np.sum(np.isfinite(result.history)) == max_iter + 1


def test_unbounded_max_iter_and_tol_below_resolution_end():
    result = jaxgmm.fit(jaxgmm.init(KEY, data(), 2), data(), tol=0, max_iter=np.inf)
    assert status_of(result) == Status.CONVERGED


def test_looser_tol_stops_earlier():
    start = jaxgmm.init(KEY, data(), 3, method="random")
    steps = [int(jaxgmm.fit(start, data(), tol=tol).n_iter) for tol in (1e-2, 1e-4, 1e-6)]
    assert steps[0] < steps[1] <= steps[2]


def test_history_keeps_the_first_and_the_latest():
    start = jaxgmm.init(KEY, data(), 3, method="random")
    long = jaxgmm.fit(start, data(), tol=0, max_iter=40)
    short = jaxgmm.fit(start, data(), tol=0, max_iter=40, history_size=5)
    np.testing.assert_allclose(short.history[:4], long.history[:4], rtol=1e-6)
    assert float(short.history[-1]) == float(short.log_likelihood)
    assert short.history.shape == (5,)


@pytest.mark.skipif(dtype() is not np.float64, reason="these gains lie below the resolution of float32")
def test_growing_gains_do_not_end_a_fit():
    """Random responsibilities start near a saddle, where a step gains 1e-6 per row and each next one more."""
    start = jaxgmm.init(KEY, data(), 2, "tied", method="random")
    result = jaxgmm.fit(start, data(), tol=1e-5)
    assert float(result.history[1] - result.history[0]) / 200 < 1e-5
    assert float(result.log_likelihood - result.history[0]) / 200 > 0.3


@pytest.mark.skipif(dtype() is not np.float32, reason="float64 sees the gains")
@pytest.mark.parametrize("seed", [8, 31, 35])
def test_gains_that_rounding_hides_do_not_end_a_fit_near_a_saddle(seed):
    """Random responsibilities start next to one Gaussian for all, 163 nats below the optimum."""
    x = np.loadtxt(Path(__file__).parent.parent / "examples" / "data" / "faithful.csv", delimiter=",", skiprows=1)
    start = jaxgmm.init(jax.random.key(seed), x.astype(np.float32), 3, "tied", method="random")
    result = jaxgmm.fit(start, x.astype(np.float32))
    assert status_of(result) == Status.CONVERGED
    assert float(result.log_likelihood) > -1150


@pytest.mark.parametrize("unit", [1e-30, 1.0, 1e30])
def test_weights_in_any_scale(unit):
    x, weights = data(), np.random.default_rng(2).uniform(0.5, 2, 200)
    plain = jaxgmm.fit(jaxgmm.init(KEY, x, 2, weights=weights), x, weights)
    scaled = jaxgmm.fit(jaxgmm.init(KEY, x, 2, weights=weights * unit), x, weights * unit)
    assert status_of(scaled) == Status.CONVERGED
    np.testing.assert_allclose(scaled.mixture.means, plain.mixture.means, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(scaled.log_likelihood / unit, plain.log_likelihood, rtol=1e-5)


def test_under_jit_and_vmap_over_everything_traced():
    x = jnp.asarray(data())
    start = jaxgmm.init(KEY, x, 2)

    @jax.jit
    def many(x, weights, tol, max_iter, regularization):
        return jax.vmap(lambda t, m, r: jaxgmm.fit(start, x, weights, tol=t, max_iter=m, regularization=r).n_iter)(
            tol, max_iter, regularization
        )

    steps = many(x, jnp.ones(200), jnp.array([1e-6, 1e-6]), jnp.array([1, 100]), jnp.array([1e-6, 1e-3]))
    assert steps[0] == 1
    assert steps[1] > 1
