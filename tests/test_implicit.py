"""The derivative of a fit, against refits, closed forms and the derivative of its iterations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm

from cases import CASES
from tolerance import assert_close, dtype

KEY = jax.random.key(5)


def refit(case, x, weights=None, regularization=1e-6):
    start = jax.lax.stop_gradient(case.init(KEY, case.data(200)))
    return jaxgmm.fit(start, x, weights, tol=0, max_iter=3000, regularization=regularization)


def readout(mixture):
    """A scalar that depends on all parameters of the fit."""
    leaves = (mixture.weights, mixture.means, mixture.covariances)
    return sum(jnp.sum(jnp.sin(leaf) * jnp.arange(1, leaf.size + 1).reshape(leaf.shape)) for leaf in leaves)


@pytest.mark.skipif(dtype() is not np.float64, reason="finite differences need float64")
def test_derivative_of_a_fit_agrees_with_refits(case):
    x, weights = jnp.asarray(case.data(200)), jnp.linspace(0.5, 1.5, 200)
    dx, dw = jax.random.normal(KEY, x.shape), jax.random.normal(jax.random.key(1), weights.shape)

    def along(t):
        return refit(case, x + t * dx, weights + t * dw).mixture

    @jax.jit
    def settled(t):
        """The likelihood ends a fit when its parameters hold half their digits; a difference needs them all."""

        def step(_, mixture):
            return jaxgmm.m_step(mixture, jaxgmm.e_step(mixture, x + t * dx, weights + t * dw))

        return readout(jax.lax.fori_loop(0, 300, step, along(t)))

    step = 1e-4
    expected = float(settled(step) - settled(-step)) / (2 * step)
    gradient = jax.grad(lambda x, w: readout(refit(case, x, w).mixture), argnums=(0, 1))(x, weights)
    assert float(jnp.vdot(gradient[0], dx) + jnp.vdot(gradient[1], dw)) == pytest.approx(expected, rel=1e-4)
    assert float(jax.jvp(lambda t: readout(along(t)), (0.0,), (1.0,))[1]) == pytest.approx(expected, rel=1e-4)


def test_mean_of_one_component():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(50, 2)))
    start = jaxgmm.init(KEY, x, 1)
    jacobian = jax.jacrev(lambda x: jaxgmm.fit(start, x).mixture.means[0])(x)
    assert_close(jacobian, np.eye(2)[:, None, :] * np.ones((1, 50, 1)) / 50, "exact")


@pytest.mark.parametrize("case", CASES[::4], ids=lambda case: case.name)
def test_log_likelihood_has_the_gradient_of_the_mixture_held_fixed(case):
    """The envelope theorem: at the optimum, moving parameters add nothing."""
    x = case.data(200)
    result = refit(case, x)
    expected = jax.grad(lambda w: jaxgmm.log_likelihood(result.mixture, x, w))(jnp.ones(200))
    actual = jax.grad(lambda w: refit(case, x, w).log_likelihood)(jnp.ones(200))
    assert_close(actual, expected, "converged")


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_derivative_in_the_floor_that_holds_a_component(covariance_type):
    """A fit wholly on the floor has its covariance proportional to the regularization."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(60, 2)) * [1.0, 1.0])
    start = jaxgmm.init(KEY, x, 1, covariance_type)

    def log_variance(regularization):
        return jnp.log(jnp.trace(jaxgmm.fit(start, x, regularization=regularization).mixture.covariances[0]))

    assert_close(jax.grad(log_variance)(4.0), 1 / 4, "close")
    assert_close(jax.grad(log_variance)(1e-3), 0, "close")


@pytest.mark.parametrize("case", CASES[::4], ids=lambda case: case.name)
def test_under_vmap_and_jit(case):
    xs = jnp.stack([case.data(200, seed) for seed in range(2)])
    gradient = jax.jit(jax.vmap(jax.grad(lambda x: jaxgmm.fit(case.mixture(), x).log_likelihood)))(xs)
    for x, row in zip(xs, gradient, strict=True):
        assert_close(row, jax.grad(lambda x: jaxgmm.fit(case.mixture(), x).log_likelihood)(x), "converged")


@pytest.mark.parametrize("case", CASES[::4], ids=lambda case: case.name)
def test_gradient_goes_through_seeding_and_fit(case):
    x = case.data(100)
    gradient = jax.grad(lambda x: readout(jaxgmm.fit(case.init(KEY, x), x).mixture))(x)
    assert np.all(np.isfinite(gradient))
    assert np.any(gradient != 0)
