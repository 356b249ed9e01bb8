"""What a fit may climb beside the likelihood: laws of every objective on every family."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxgmm
from jaxgmm import Dirichlet, Posterior, Prior, Status

from cases import CASES, VARIED
from tolerance import assert_close, dtype, tolerance

KEY = jax.random.key(9)
SOME = np.array([2.0, 40.0, 150.0])


# What is added to the likelihood is of the weights, whatever the structure of the components.
@pytest.fixture(params=[CASES[0], *CASES[-2:]], ids=lambda case: case.name)
def case(request):
    return request.param


def of_weights(concentration):
    """A prior of the weights alone, which any family takes."""
    return Posterior(Prior(Dirichlet(concentration), None))


def log_prior(mixture, concentration):
    return float(np.sum((np.broadcast_to(concentration, (3,)) - 1) * np.log(np.asarray(mixture.weights, np.float64))))


def test_it_never_falls_and_says_what_it_reached(case):
    x = case.data()
    result = jaxgmm.fit(case.start(), x, objective=of_weights(SOME))
    assert int(result.status) == Status.CONVERGED
    history = np.asarray(result.history)[: int(result.n_iter) + 1]
    assert np.all(np.diff(history) >= 0)
    assert_close(result.objective, history[-1], "exact", scale=100)
    assert_close(result.log_likelihood, jaxgmm.log_likelihood(result.mixture, x), "exact", scale=100)
    assert_close(result.objective - result.log_likelihood, log_prior(result.mixture, SOME), "close", scale=100)


@pytest.mark.parametrize("unit", [1.0, 1e-3, 1e3])
def test_weights_are_the_mode_given_the_rows(case, unit):
    """As if so many more rows were of each component, whatever the weights of the others are measured in."""
    x = case.data()
    result = jaxgmm.fit(case.start(), x, unit * np.ones(600), objective=of_weights(1 + unit * (SOME - 1)), tol=0)
    counts = np.sum(np.asarray(result.mixture.responsibilities(x), np.float64), axis=0)
    expected = (counts + SOME - 1) / (600 + np.sum(SOME) - 3)
    assert_close(result.mixture.weights, expected, "close" if dtype() is np.float64 else "converged", scale=0.1)
    assert np.all(np.abs(expected - counts / 600) > 0.01)


def test_its_gradient_is_zero_at_the_fixed_point(case):
    x = case.data()
    result = jaxgmm.fit(case.start(), x, objective=of_weights(SOME), tol=0, max_iter=5000)

    @jax.jit
    @jax.grad
    def gradient(free):
        mixture = free.constrain()
        value = jaxgmm.log_likelihood(mixture, x) + of_weights(jnp.asarray(SOME)).penalty(mixture)
        return value / x.shape[0]

    likeliest = jaxgmm.fit(case.start(), x, tol=0, max_iter=5000).mixture
    largest = [
        max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(gradient(mixture.unconstrain())))
        for mixture in (result.mixture, likeliest)
    ]
    # As for the likelihood.
    limit = 3 * np.sqrt(2 * 4 * 60 * np.finfo(dtype()).eps / np.sqrt(len(x)))
    assert largest[0] < limit < 5e-3
    assert largest[1] > 1e-2


def test_a_flat_prior_is_the_likelihood(case):
    x = case.data()
    plain = jaxgmm.fit(case.start(), x)
    flat = jaxgmm.fit(case.start(), x, objective=of_weights(np.ones(3)))
    jax.tree.map(functools.partial(assert_close, kind="converged"), flat.mixture, plain.mixture)
    assert_close(flat.objective, plain.objective, "exact", scale=100)
    assert plain.objective == plain.log_likelihood


@pytest.mark.skipif(dtype() is not np.float64, reason="finite differences need float64")
@pytest.mark.parametrize("case", VARIED[::2], ids=lambda case: case.name)
def test_derivatives_are_those_of_refits(case):
    """In the concentration, the rows and their weights, of the mixture and of what was reached."""
    x, weights = jnp.asarray(case.data(200), float), jnp.linspace(0.5, 1.5, 200)
    way = jnp.asarray(np.random.default_rng(0).normal(size=x.shape)) * (0 if case.integer else 1)
    start = case.init(KEY, x)

    @jax.jit
    def readout(t):
        objective = of_weights(jnp.asarray(SOME) + 3 * t)
        moved = weights * (1 + 0.1 * t)
        result = jaxgmm.fit(start, x + 0.1 * t * way, moved, objective=objective, tol=0, max_iter=5000)
        return jnp.stack(
            [jnp.sum(jnp.sin(result.mixture.means)), result.mixture.weights[0], result.objective, result.log_likelihood]
        )

    # Where a fit comes to rest is known to the root of rounding; so wide steps, and no error of their squares.
    step = 5e-3
    near, far = (readout(times * step) - readout(-times * step) for times in (1, 2))
    expected = (8 * near - far) / (12 * step)

    @jax.jit
    def derivatives(t):
        """Forward and backward, of one fit."""
        reached, forward = jax.linearize(readout, t)
        backward = jax.linear_transpose(forward, t)
        return forward(jnp.ones_like(t)), jax.vmap(lambda way: backward(way)[0])(jnp.eye(reached.size))

    for derivative in derivatives(0.0):
        np.testing.assert_allclose(derivative, expected, rtol=2e-5, atol=1e-5)
    assert np.all(np.abs(expected) > 1e-4)


def test_permuting_components_permutes_nothing_else(case):
    x, order = case.data(), np.array([2, 0, 1])
    start = case.start()
    result = jaxgmm.fit(start, x, objective=of_weights(SOME))
    other = jaxgmm.fit(start.take(order), x, objective=of_weights(SOME[order]))
    assert_close(other.objective, result.objective, "exact", scale=100)
    assert_close(other.mixture.weights, result.mixture.weights[order], "converged", scale=0.1)


def test_under_vmap_and_without_compiling_again():
    """The numbers of an objective are traced; its type is not."""
    case = CASES[0]
    x = case.data(200)
    start = case.start()
    several = jnp.array([1.0, 5.0, 50.0])
    traces = []

    @jax.jit
    def fitted(a):
        traces.append(None)
        return jaxgmm.fit(start, x, objective=of_weights(a))

    together = jax.vmap(lambda a: jaxgmm.fit(start, x, objective=of_weights(a)))(several)
    for place, a in enumerate(several):
        alone = fitted(a)
        assert_close(together.objective[place], alone.objective, "exact", scale=100)
        assert_close(together.mixture.means[place], alone.mixture.means, "converged")
    assert len(traces) == 1
    spread = jnp.std(together.mixture.weights, axis=1)
    assert np.all(np.diff(spread) < 0)


def test_absent_components_stay_absent_and_others_keep_a_weight():
    x = jnp.asarray(CASES[0].data(200))
    start = jaxgmm.init(KEY, x, 2, max_components=3)
    result = jaxgmm.fit(start, x, objective=of_weights(5.0))
    few = jaxgmm.fit(start.take([0, 1]), x, objective=of_weights(5.0))
    assert float(result.mixture.weights[2]) == 0
    assert result.mixture.n_parameters == few.mixture.n_parameters
    assert_close(result.objective, few.objective, "exact", scale=100)
    far = jaxgmm.from_parameters([0.5, 0.5], [[0.0, 0.0], [1e4, 1e4]], [1.0, 1.0], "spherical")
    kept = jaxgmm.fit(far, x, objective=of_weights(5.0))
    assert float(jaxgmm.fit(far, x).mixture.weights[1]) == 0
    assert_close(kept.mixture.weights[1], 4 / (200 + 8), "close")
    assert int(kept.status) == Status.DEGENERATE


def test_restarts_selection_and_gradient_fits_climb_it():
    case = CASES[0]
    x = case.data()
    objective = of_weights(80.0)
    found = jaxgmm.fit_restarts(KEY, x, 3, n_restarts=8, objective=objective, tol=1e-8)
    again = jaxgmm.fit(found.best.mixture, x, objective=objective)
    assert_close(found.best.objective / 600, again.objective / 600, "exact", scale=1000)
    assert_close(found.best.log_likelihood, jaxgmm.log_likelihood(found.best.mixture, x), "exact", scale=100)
    by_gradient = jaxgmm.fit_gradient(case.init(KEY, x), x, optax.lbfgs(), n_steps=300, objective=objective, tol=1e-8)
    assert_close(by_gradient.objective / 600, found.best.objective / 600, "close")
    assert_close(by_gradient.mixture.weights.sort(), found.best.mixture.weights.sort(), "converged", scale=0.1)
    chosen = jaxgmm.select(KEY, x, (2, 3), "full", n_restarts=4, objective=objective)
    expected = jaxgmm.bic(chosen.best.mixture, x)
    assert chosen.winner.n_components == 3
    assert_close(chosen.winner.bic / 600, expected / 600, "exact", scale=10)
    many = jaxgmm.fit_many(KEY, jnp.stack([x, x]), 3, n_restarts=8, objective=objective, tol=1e-8)
    assert_close(many.best.objective / 600, found.best.objective / 600, "close")


def test_labels_and_a_prior():
    """Labelled rows count in the likelihood, pseudo-rows in the weights."""
    case = CASES[0]
    mixture = case.mixture()
    x, labels = mixture.sample_with_labels(KEY, 300)
    known = jnp.where(jnp.arange(300) < 30, labels, -1)
    rows = jaxgmm.rows(x, labels=known)
    result = jaxgmm.fit(case.init(KEY, rows), rows, objective=of_weights(30.0), tol=0)
    counts = np.array(result.mixture.responsibilities(x), np.float64)
    counts[:30] = np.eye(3)[np.asarray(labels[:30])]
    expected = (counts.sum(axis=0) + 29) / (300 + 87)
    assert_close(result.mixture.weights, expected, "converged", scale=0.1)
    np.testing.assert_allclose(result.mixture.means, mixture.means, atol=0.3)


@pytest.mark.parametrize(
    ("objective", "error", "message"),
    [
        (of_weights(0.5), ValueError, "concentration is 0.5; expected numbers not below 1"),
        (of_weights([1.0, 2.0, np.nan]), ValueError, "expected positive numbers"),
        (of_weights([1.0, 2.0]), ValueError, r"concentration has shape \(2,\); expected a single number, or \(3,\)"),
        (of_weights("flat"), TypeError, "concentration has dtype"),
        (2.0, TypeError, "objective is of type float; expected None for the likelihood, or an objective"),
        (Posterior, TypeError, "objective is the class Posterior; expected None"),
    ],
)
def test_what_is_no_objective(objective, error, message):
    case = CASES[0]
    x = case.data(100)
    with pytest.raises(error, match=message):
        jaxgmm.fit(case.mixture(), x, objective=objective)
    with pytest.raises(error, match=message):
        jaxgmm.fit_restarts(KEY, x, 3, objective=objective, n_restarts=1)


def test_the_prior_decides_where_rows_say_little():
    """A component of few rows is drawn towards an even share, the more the stronger the prior is."""
    x = jnp.asarray(np.concatenate([np.random.default_rng(0).normal(size=190), [9.0] * 5, [9.5] * 5]))[:, None]
    start = jaxgmm.from_parameters([0.9, 0.1], [[0.0], [9.0]], [1.0, 0.1], "spherical")
    least = [float(jaxgmm.fit(start, x, objective=of_weights(a)).mixture.weights.min()) for a in (1.0, 10.0, 100.0)]
    expected = [(10 + a - 1) / (200 + 2 * (a - 1)) for a in (1.0, 10.0, 100.0)]
    assert_close(least, expected, "close", scale=tolerance("close"))
