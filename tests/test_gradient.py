"""Gradient fits: the optimum EM finds, going on, losses of one's own, mini-batches, honest statuses, compilations."""

import functools
import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxgmm
from jaxgmm import Status
from jaxgmm.fitting.optimiser import Optimizer, Rule

from cases import CASES, FEW, VARIED
from compilations import counted
from tolerance import assert_close, dtype, once, tolerance

N = 200
FULL = CASES[0]


def start_of(case):
    """Not far from the optimum, so that every way of climbing ends at the same one."""
    x = case.data(N)
    return case.init(jax.random.key(5), x, method="kmeans"), x


def per_row(result, x):
    return float(jaxgmm.log_likelihood(result.mixture, x)) / len(x)


# Slopes in the free coordinates of all structures are a law; the other optimiser asks for no more of them.
@pytest.mark.parametrize(
    ("case", "optimizer"),
    [*((case, optax.adam(0.05)) for case in VARIED), *((case, optax.lbfgs()) for case in FEW)],
    ids=[*(f"{case.name}-adam" for case in VARIED), *(f"{case.name}-lbfgs" for case in FEW)],
)
def test_same_optimum_as_em(case, optimizer):
    start, x = case.start(), case.data(N)
    best = jaxgmm.fit(start, x, tol=0, max_iter=3000)
    tol = 1e-12 if dtype() is np.float64 else 1e-7
    result = jaxgmm.fit_gradient(start, x, optimizer, n_steps=3000, tol=tol)
    assert per_row(result, x) == pytest.approx(per_row(best, x), abs=2e-6)
    rtol = max(1e-4, tolerance("converged"))
    for leaf, expected in zip(
        (result.mixture.weights, result.mixture.means, result.mixture.covariances),
        (best.mixture.weights, best.mixture.means, best.mixture.covariances),
        strict=True,
    ):
        np.testing.assert_allclose(leaf, expected, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("optimizer", [optax.adam(0.05), optax.lbfgs()], ids=["adam", "lbfgs"])
@pytest.mark.parametrize("tol", [1e-3, 1e-5])
def test_converged_means_that_no_more_than_tol_is_left(optimizer, tol):
    start, x = start_of(FULL)
    best = jaxgmm.fit(start, x, tol=0, max_iter=3000)
    result = jaxgmm.fit_gradient(start, x, optimizer, n_steps=3000, tol=tol)
    assert result.status == Status.CONVERGED
    assert per_row(best, x) - per_row(result, x) <= 3 * tol
    assert 0 <= float(result.remaining) <= tol


def test_two_calls_are_one():
    start, x = start_of(FULL)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(0.1, 50)))
    for options in ({"tol": 0}, {"batch_size": 20, "key": jax.random.key(1)}):
        whole = jaxgmm.fit_gradient(start, x, optimizer, n_steps=50, **options)
        half = jaxgmm.fit_gradient(start, x, optimizer, n_steps=20, **options)
        both = jaxgmm.fit_gradient(half, x, optimizer, n_steps=30, **options)
        assert (int(half.n_iter), int(both.n_iter), int(both.state.taken)) == (20, 30, 50)
        jax.tree.map(lambda a, b: assert_close(a, b, "exact"), both.mixture, whole.mixture)


@once
def test_what_compiles():
    """Optimisers that compute the same share a program; what differs in a number does not."""
    start, x = start_of(FULL)

    def fitted(make, n_steps=5, seed=0):
        weights = jnp.linspace(0.5, 1.5 + seed, N)
        options = {"tol": 1e-9 * (1 + seed), "regularization": 1e-7 * (1 + seed), "weights": weights}
        result = jaxgmm.fit_gradient(start, x * (1 + seed), make(), n_steps=n_steps, **options)
        return jax.block_until_ready(result)

    injected = optax.inject_hyperparams(optax.adam)
    for make in (lambda: optax.adam(0.05), optax.lbfgs, lambda: injected(learning_rate=0.05)):
        fitted(make)
        with counted() as again:
            fitted(make, n_steps=7, seed=1)
        assert again == []
    with counted() as again:
        other = fitted(lambda: injected(learning_rate=0.01))
    assert again == []
    slower = fitted(lambda: optax.adam(0.01))
    assert_close(slower.mixture.means, other.mixture.means, "close")
    assert np.any(np.abs(slower.mixture.means - fitted(lambda: optax.adam(0.05)).mixture.means) > 0.01)


@once
@pytest.mark.parametrize("inner", [jax.jit, lambda function: function, lambda f: lambda c: jax.lax.map(f, c[None])[0]])
def test_optimisers_that_differ_in_an_array_alone(inner):
    """A schedule read from a table, inside a program of its own or not."""
    start, x = start_of(FULL)

    def fitted(table):
        rate = inner(lambda count: jnp.asarray(np.array(table, x.dtype))[count])
        return jaxgmm.fit_gradient(start, x, optax.sgd(rate), n_steps=2, tol=0).mixture.means

    first, other = fitted([0.1, 0.2]), fitted([0.1, 0.3])
    assert np.any(np.abs(first - other) > 1e-4)
    with counted() as again:
        assert_close(fitted([0.1, 0.2]), first, "exact")
    assert not again


class Host:
    """A function of the host, whose text says nothing."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, gradient):
        return np.asarray(gradient) * np.asarray(self.factor, gradient.dtype)

    def __repr__(self):
        return "Host()"


def on_the_host(host):
    """Steps that a function of the host makes of gradients."""

    def update(gradient, state, position=None, **others):
        def step(leaf):
            return jax.pure_callback(host, jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), leaf)

        return jax.tree.map(step, gradient), state

    return optax.GradientTransformation(lambda position: (), update)


@once
def test_optimisers_that_differ_in_a_function_of_the_host():
    start, x = start_of(FULL)

    def fitted(host):
        return jaxgmm.fit_gradient(start, x, on_the_host(host), n_steps=1, tol=0).mixture.means

    hosts = [Host(-0.1), Host(-0.2)]
    first, other = map(fitted, hosts)
    assert_close(other - start.means, 2 * (first - start.means), "close")
    with counted() as again:
        fitted(hosts[0])
    assert again == []


@once
@pytest.mark.parametrize("wrap", [functools.partial, lambda host: host.__call__])
def test_functions_of_the_host_in_other_forms(wrap):
    start, hosts = FULL.mixture(), [Host(-0.1), Host(-0.2)]
    held = [Optimizer(on_the_host(wrap(host))) for host in (hosts[0], hosts[0], hosts[1])]
    one, same, other = (Rule(each, start) for each in held)
    assert one == same
    assert one != other


@once
@pytest.mark.parametrize("kind", ["jvp", "vjp"])
def test_optimisers_that_differ_in_a_rule_of_derivatives(kind):
    start = FULL.mixture()

    def made(factor):
        if kind == "jvp":
            step = jax.custom_jvp(lambda leaf: -0.1 * leaf)
            step.defjvp(lambda given, ways: (-0.1 * given[0], factor * ways[0]))
        else:
            step = jax.custom_vjp(lambda leaf: -0.1 * leaf)
            step.defvjp(lambda leaf: (-0.1 * leaf, None), lambda kept, way: (factor * way,))
        return optax.stateless(lambda gradient, position: jax.tree.map(step, gradient))

    held = [Optimizer(made(factor)) for factor in (-0.1, -0.1, 7.0)]
    one, same, other = (Rule(each, start) for each in held)
    assert one == same
    assert hash(one) == hash(same)
    assert one != other


@once
def test_what_an_optimiser_holds_is_let_go():
    start, x = start_of(FULL)

    class Large:
        factor = -0.1

    def of(large):
        return optax.stateless(lambda gradient, position: jax.tree.map(lambda leaf: large.factor * leaf, gradient))

    large = Large()
    alive = weakref.ref(large)
    jaxgmm.fit_gradient(start, x, of(large), n_steps=1, tol=0)
    del large
    gc.collect()
    assert alive() is None


def test_an_optimiser_made_inside_jit():
    """Its learning rate is traced: such an optimiser is like no other."""
    start, x = start_of(FULL)

    @jax.jit
    def fitted(rate):
        return jaxgmm.fit_gradient(start, x, optax.sgd(rate), n_steps=3, tol=0).mixture.means

    expected = [jaxgmm.fit_gradient(start, x, optax.sgd(rate), n_steps=3, tol=0).mixture.means for rate in (0.1, 1.0)]
    assert_close(jnp.stack([fitted(0.1), fitted(1.0)]), jnp.stack(expected), "close")
    assert_close(jax.vmap(fitted)(jnp.array([0.1, 1.0])), jnp.stack(expected), "close")


def penalised(mixture, rows):
    return jaxgmm.negative_log_likelihood(mixture, rows) + 0.3 * jnp.sum(mixture.means**2)


def test_a_loss_of_ones_own():
    start, x = start_of(FULL)
    result = jaxgmm.fit_gradient(start, x, optax.lbfgs(), n_steps=500, loss=penalised, tol=1e-12)
    free, rows = result.mixture.unconstrain(), jaxgmm.rows(x, jnp.full((N,), 1 / N))
    slope = jax.grad(lambda free: penalised(free.constrain(), rows))(free)
    assert max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(slope)) < tolerance("converged")
    assert float(jnp.sum(result.mixture.means**2)) < float(jnp.sum(start.means**2)) / 2
    assert_close(result.history[0], -N * penalised(start, rows), "exact")


def test_parameters_that_stay():
    start, x = start_of(FULL)
    labels = jax.tree.map(lambda leaf: "move", start.unconstrain().coordinates) | {"components.means": "stay"}
    optimizer = optax.multi_transform({"move": optax.adam(0.05), "stay": optax.set_to_zero()}, labels)
    result = jaxgmm.fit_gradient(start, x, optimizer, n_steps=20)
    np.testing.assert_array_equal(result.mixture.means, start.means)
    assert np.any(result.mixture.weights != start.weights)


@once
def test_mini_batches():
    start, x = start_of(FULL)
    weights = jnp.where(jnp.arange(N) < 150, 1.0, 0.0)
    x = x.at[150:].set(jnp.nan)
    best = jaxgmm.fit(start, x, weights, tol=0, max_iter=3000)
    optimizer = optax.adam(optax.cosine_decay_schedule(0.05, 1500))
    options = {"n_steps": 1500, "batch_size": 25, "weights": weights}
    results = [jaxgmm.fit_gradient(start, x, optimizer, key=jax.random.key(seed), **options) for seed in (0, 1)]
    for result in results:
        assert float(best.log_likelihood - result.log_likelihood) / 150 < 5e-3
        assert float(result.remaining) == np.inf
        assert_close(result.log_likelihood, jaxgmm.log_likelihood(result.mixture, x, weights), "exact")
    assert np.any(results[0].mixture.means != results[1].mixture.means)


def test_weights_in_any_scale():
    start, x = start_of(FULL)
    weights = jnp.linspace(0.5, 1.5, N)
    one, many = (
        jaxgmm.fit_gradient(start, x, optax.adam(0.05), n_steps=20, weights=w) for w in (weights, 1e20 * weights)
    )
    assert_close(one.mixture.means, many.mixture.means, "close")
    assert_close(one.log_likelihood * 1e20, many.log_likelihood, "exact")


def test_units_and_origin_do_not_matter():
    start, x = start_of(FULL)
    far = x * jnp.array([1e3, 1e-3]) + jnp.array([1e6, 1.0])
    moved = FULL.init(jax.random.key(5), far, method="kmeans")
    here = jaxgmm.fit_gradient(start, x, optax.adam(0.05), n_steps=30, tol=0)
    there = jaxgmm.fit_gradient(moved, far, optax.adam(0.05), n_steps=30, tol=0)
    np.testing.assert_allclose(here.history[:31], there.history[:31], atol=N * tolerance("converged") / 10)


def test_absent_components_stay_absent():
    _, x = start_of(FULL)
    start = FULL.init(jax.random.key(5), x, 2, max_components=3)
    for optimizer in (optax.adam(0.05), optax.lbfgs()):
        result = jaxgmm.fit_gradient(start, x, optimizer, n_steps=500, tol=1e-10)
        assert result.status != Status.NON_FINITE
        assert result.mixture.weights[2] == 0
        assert_close(result.log_likelihood, jaxgmm.fit(start, x, tol=1e-10).log_likelihood, "close")


def test_a_spike_ends_on_the_floor():
    """Ten copies of one row, and a component on them."""
    x = jnp.concatenate([FULL.data(N - 10), jnp.full((10, 2), 30.0)])
    start = jaxgmm.from_parameters([0.9, 0.1], [[0.0, 3.0], [30.0, 30.0]], jnp.stack([9 * jnp.eye(2), jnp.eye(2)]))
    result = jaxgmm.fit_gradient(start, x, optax.adam(0.3), n_steps=300, regularization=1e-4)
    assert result.status == Status.DEGENERATE
    assert result.degenerate_components.tolist() == [False, True]
    floor = 1e-4 * jaxgmm.scale_of(x) ** 2
    assert np.all(np.linalg.eigvalsh(result.mixture.covariances[1] / np.sqrt(np.outer(floor, floor))) > 0.99)
    assert np.isfinite(result.log_likelihood)


def broken(mixture, rows):
    """Not a number as soon as anything has moved far."""
    far = jnp.sum((mixture.means[0] - rows.x[0]) ** 2)
    return jaxgmm.negative_log_likelihood(mixture, rows) + 0 * jnp.log(1 - far)


def test_what_is_not_finite_is_said_and_nothing_lost():
    x = FULL.data(N)
    start = jaxgmm.from_parameters([0.5, 0.5], [x[0], x[1]], jnp.stack([jnp.eye(2)] * 2))
    result = jaxgmm.fit_gradient(start, x, optax.adam(0.05), n_steps=300, loss=broken)
    assert result.status == Status.NON_FINITE
    assert 0 < int(result.n_iter) < 300
    assert np.isfinite(result.log_likelihood)
    assert float(result.log_likelihood) > float(jaxgmm.log_likelihood(start, x))
    with pytest.raises(jaxgmm.FitError, match="NON_FINITE"):
        result.raise_if_failed()


def test_under_vmap():
    start, x = start_of(FULL)
    xs = jnp.stack([x, x[::-1] + 1])
    fitted = jax.vmap(lambda x: jaxgmm.fit_gradient(start, x, optax.adam(0.05), n_steps=40).log_likelihood)
    expected = [jaxgmm.fit_gradient(start, x, optax.adam(0.05), n_steps=40).log_likelihood for x in xs]
    assert_close(fitted(xs), jnp.stack(expected), "close")


@once
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"optimizer": 0.1}, TypeError, r"optimizer is 0.1; expected one of optax"),
        ({"batch_size": 10}, ValueError, r"batch_size is 10 and key is None; expected a key"),
        ({"batch_size": 0}, ValueError, r"batch_size is 0"),
        ({"n_steps": -1}, ValueError, r"n_steps is -1"),
    ],
)
def test_bad_arguments(options, error, message):
    start, x = start_of(FULL)
    with pytest.raises(error, match=message):
        jaxgmm.fit_gradient(start, x, **({"optimizer": optax.adam(0.1), "n_steps": 3} | options))


@once
def test_state_of_another_optimiser():
    start, x = start_of(FULL)
    result = jaxgmm.fit_gradient(start, x, optax.adam(0.1), n_steps=3)
    with pytest.raises(ValueError, match="another kind of optimizer"):
        jaxgmm.fit_gradient(result, x, optax.sgd(0.1), n_steps=3)
