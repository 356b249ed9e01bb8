"""The derivative of a fit, against refits, closed forms and the derivative of its iterations."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.fitting.implicit import _at_rest

from cases import CASES, FEW, VARIED
from tolerance import assert_close, dtype

KEY = jax.random.key(5)


def refit(case, x, weights=None):
    return jaxgmm.fit(case.mixture(), x, weights, tol=0, max_iter=3000)


def readout(mixture):
    """A scalar that depends on all parameters of the fit."""
    leaves = (mixture.weights, mixture.means, mixture.covariances)
    return sum(jnp.sum(jnp.sin(leaf) * jnp.arange(1, leaf.size + 1).reshape(leaf.shape)) for leaf in leaves)


def slopes_of_a_refit(case, x, weights):
    """By rows and by weights."""
    return jax.jit(jax.grad(lambda x, w: readout(refit(case, x, w).mixture), argnums=(0, 1)))(x, weights)


def both_ways(case, x, weights, ways):
    """Where a refit ends, its slopes by rows and by weights, and the slope along `ways`, all of one fit."""

    @jax.jit
    def of(*given):
        def value(*given):
            mixture = refit(case, *given).mixture
            return readout(mixture), mixture

        reached, forward, mixture = jax.linearize(value, *given, has_aux=True)
        return mixture, jax.linear_transpose(forward, *given)(jnp.ones_like(reached)), forward(*ways)

    return of(x, weights)


@pytest.mark.skipif(dtype() is not np.float64, reason="finite differences need float64")
@pytest.mark.parametrize("case", VARIED, ids=lambda case: case.name)
def test_derivative_of_a_fit_agrees_with_refits(case):
    x, weights = jnp.asarray(case.data(200)), jnp.linspace(0.5, 1.5, 200)
    dx, dw = jax.random.normal(KEY, x.shape), jax.random.normal(jax.random.key(1), weights.shape)
    # Beside a count there is none.
    dx = jnp.zeros_like(dx) if case.integer else dx
    reached, gradient, forward = both_ways(case, x, weights, (dx, dw))

    @jax.jit
    def settled(t):
        """The likelihood ends a fit when its parameters hold half their digits; a difference needs them all."""
        some = x + t * dx, weights + t * dw
        scale = jaxgmm.scale_of(*some)

        def step(_, mixture):
            return jaxgmm.m_step(mixture, jaxgmm.e_step(mixture, *some), scale)

        return readout(jax.lax.fori_loop(0, 1000, step, reached))

    step = 1e-4
    expected = float(settled(step) - settled(-step)) / (2 * step)
    assert float(jnp.vdot(gradient[0], dx) + jnp.vdot(gradient[1], dw)) == pytest.approx(expected, rel=1e-4)
    assert float(forward) == pytest.approx(expected, rel=1e-4)


def test_mean_of_one_component():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(50, 2)))
    start = jaxgmm.init(KEY, x, 1)
    jacobian = jax.jit(jax.jacrev(lambda x: jaxgmm.fit(start, x).mixture.means[0]))(x)
    assert_close(jacobian, np.eye(2)[:, None, :] * np.ones((1, 50, 1)) / 50, "exact")


@pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)
def test_log_likelihood_has_the_gradient_of_the_mixture_held_fixed(case):
    """The envelope theorem: at the optimum, moving parameters add nothing."""
    x = case.data(200)
    result = refit(case, x)
    expected = jax.jit(jax.grad(lambda w: jaxgmm.log_likelihood(result.mixture, x, w)))(jnp.ones(200))
    actual = jax.jit(jax.grad(lambda w: refit(case, x, w).log_likelihood))(jnp.ones(200))
    assert_close(actual, expected, "converged")


@pytest.mark.parametrize("form", ["full", "tied", "diag", "spherical"])
def test_derivative_in_the_floor_that_holds_a_component(form):
    """A fit wholly on the floor has its covariance proportional to the regularization."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(60, 2)) * [1.0, 1.0])
    start = jaxgmm.init(KEY, x, 1, form)

    @jax.jit
    @jax.grad
    def slope(regularization):
        """Of the logarithm of the variance."""
        return jnp.log(jnp.trace(jaxgmm.fit(start, x, regularization=regularization).mixture.covariances[0]))

    assert_close(slope(4.0), 1 / 4, "close")
    assert_close(slope(1e-3), 0, "close")


@pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)
def test_under_vmap_and_jit(case):
    xs = jnp.stack([case.data(200, seed) for seed in range(2)])
    slope = jax.grad(lambda x: jaxgmm.fit(case.mixture(), x).log_likelihood)
    gradient = jax.jit(jax.vmap(slope))(xs)
    for x, row in zip(xs, gradient, strict=True):
        assert_close(row, slope(x), "converged")


@pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)
def test_gradient_goes_through_seeding_and_fit(case):
    x = case.data(100)
    gradient = jax.jit(jax.grad(lambda x: readout(jaxgmm.fit(case.init(KEY, x), x).mixture)))(x)
    assert np.all(np.isfinite(gradient))
    assert np.any(gradient != 0)


def em_steps(mixture, x, weights, n_steps):
    """Steps of EM one after the other, differentiated as such."""

    def step(mixture, _):
        return jaxgmm.m_step(mixture, jaxgmm.e_step(mixture, x, weights), jaxgmm.scale_of(x, weights)), None

    return jax.lax.scan(step, mixture, None, length=n_steps)[0]


def test_agrees_with_unrolling():
    case, weights = CASES[0], jnp.linspace(0.5, 1.5, 200)
    x = case.data(200)
    start = jax.lax.stop_gradient(refit(case, x, weights).mixture)
    unrolled = jax.jit(jax.grad(lambda x, w: readout(em_steps(start, x, w, 200)), argnums=(0, 1)))(x, weights)
    implicit = slopes_of_a_refit(case, x, weights)
    for actual, expected in zip(implicit, unrolled, strict=True):
        assert_close(actual, expected, "converged", scale=float(jnp.max(jnp.abs(expected))))


def test_units_of_columns_do_not_matter():
    """The linear solve is done without units, or the digits of a small column would be those of the largest."""
    case, units = CASES[0], jnp.array([1e4, 1e-4])
    x = case.data(200)
    start = case.init(KEY, x)
    scaled = jaxgmm.Mixture(
        start.log_weights,
        jaxgmm.Gaussian(
            start.means * units,
            jaxgmm.Each(jaxgmm.Tril(start.components.covariance.factor.scale_tril * units[:, None])),
        ),
    )

    @jax.jit
    def slope(start, x, units):
        return jax.grad(lambda w: jnp.sum(jnp.sin(jaxgmm.fit(start, x, w, tol=0).mixture.means / units)))(jnp.ones(200))

    plain = slope(start, x, jnp.ones(2))
    assert_close(slope(scaled, x * units, units), plain, "converged", scale=float(jnp.max(jnp.abs(plain))))


def test_where_there_is_no_derivative():
    """Two components in one place: how they share their weight is any value's fixed point, their density only one's."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(60, 1)))
    twice = jaxgmm.from_parameters([0.3, 0.7], jnp.zeros((2, 1)), jnp.ones((2, 1)), "diag")
    once = jaxgmm.from_parameters([1.0], jnp.zeros((1, 1)), jnp.ones((1, 1)), "diag")

    def density(start):
        return lambda x: jaxgmm.fit(start, x, tol=0, acceleration=None).mixture.log_prob(jnp.ones((1, 1)))[0]

    slopes = (jax.jit(jax.grad(density(start)))(x) for start in (twice, once))
    assert_close(*slopes, "converged", scale=0.01)
    weight = jax.grad(lambda w: jaxgmm.fit(twice, x, w, tol=0, acceleration=None).mixture.weights[0])
    share = jax.jit(weight)(jnp.ones(60))
    assert np.all(np.isnan(share))


def test_where_rest_is_far_nothing_is_known():
    """Of no parameter, forward or in reverse: a derivative of 0 would be an answer."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(40, 3)))
    rows, start = jaxgmm.rows(x), jaxgmm.init(KEY, x, 2, "diag")
    # What Newton's steps end at where they lead too far.
    lost = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), start)

    def means(x):
        given = dataclasses.replace(rows, x=x), jnp.ones(3), jaxgmm.Objective(), 40
        return _at_rest(lost, *given).means

    assert np.all(np.isnan(jax.jvp(means, (x,), (jnp.ones_like(x),))[1]))
    assert np.all(np.isnan(jax.grad(lambda x: jnp.sum(means(x)))(x)))


def test_second_derivative():
    """Of the log-density at a point in a shift of one row."""
    case = CASES[3]
    x = case.data(200)
    start = refit(case, x).mixture

    def value(t):
        moved = jnp.asarray(x).at[0, 0].add(t)
        return jaxgmm.fit(start, moved, tol=0, max_iter=3000).mixture.log_prob(jnp.zeros((1, 2)))[0]

    slope = jax.jit(jax.grad(value))
    step = 1e-3 if dtype() is np.float64 else 0.3
    expected = (slope(step) - slope(-step)) / (2 * step)
    rtol = 1e-4 if dtype() is np.float64 else 0.1
    assert float(jax.jit(jax.grad(slope))(0.0)) == pytest.approx(float(expected), rel=rtol)


@pytest.mark.skipif(dtype() is not np.float64, reason="finite differences need float64")
def test_through_the_winner_of_restarts():
    case = CASES[0]
    x, weights = jnp.asarray(case.data(200)), jnp.linspace(0.5, 1.5, 200)
    way = jnp.sin(jnp.arange(200.0))

    def found(t):
        """Sorted, as starts that tie end at the same optimum in another order."""
        some = jaxgmm.fit_restarts(KEY, x, 3, weights=weights + t * way, n_restarts=8, tol=0, max_iter=3000)
        return some.best.mixture.take(jnp.argsort(some.best.mixture.means[:, 0]))

    @jax.jit
    def settled(t):
        return readout(em_steps(found(t), x, weights + t * way, 300))

    step = 1e-4
    expected = float(settled(step) - settled(-step)) / (2 * step)
    assert float(jax.jit(jax.grad(lambda t: readout(found(t))))(0.0)) == pytest.approx(expected, rel=1e-4)
