"""Divergences and distances of mixtures: against quadrature, against other programs, and where digits are at stake."""

import functools
import itertools

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
from jax.flatten_util import ravel_pytree

import jaxgmm

from cases import CASES
from compilations import counted
from tolerance import assert_close, dtype

LINE = np.linspace(-16, 18, 137)
GRID = np.stack(np.meshgrid(LINE, LINE, indexing="ij"), axis=-1).reshape(-1, 2)
VOLUME = (LINE[1] - LINE[0]) ** 2
CLOSED = {
    "kl lower": lambda p, q: jaxgmm.kl_bounds(p, q).lower,
    "kl upper": lambda p, q: jaxgmm.kl_bounds(p, q).upper,
    "l2": jaxgmm.l2_distance,
    "bures": lambda p, q: jnp.sum(jaxgmm.bures_distance(p, q)),
    "mw2": lambda p, q: jaxgmm.mixture_wasserstein(p, q).distance,
}


def moved(mixture, weights=(0.25, 0.45, 0.3), shift=(0.8, -0.5), stretch=1.2):
    """Another mixture of the same structure."""
    scales = jax.tree.map(lambda leaf: leaf * stretch, mixture.components.covariance)
    return jaxgmm.Mixture(jnp.log(jnp.array(weights)), jaxgmm.Gaussian(mixture.means + jnp.array(shift), scales))


@functools.cache
def pair(name):
    """Two mixtures by name: of one structure, or of two."""
    cases = {case.name: case.mixture() for case in CASES}
    return (cases["full"], moved(cases["diag"])) if name == "mixed" else (cases[name], moved(cases[name]))


@pytest.fixture(params=["full", "tied", "diag", "spherical", "mixed"])
def two(request):
    return pair(request.param)


def leaves_finite(tree):
    return all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(tree))


def test_against_quadrature(two):
    p, q = two
    log_p, log_q = (np.asarray(mixture.log_prob(GRID), np.float64) for mixture in two)
    density = np.exp(log_p)
    divergence = np.sum(density * (log_p - log_q)) * VOLUME
    bounds = jaxgmm.kl_bounds(p, q)
    assert bounds.lower <= divergence <= bounds.upper
    assert bounds.upper < 2 * divergence
    entropy = -np.sum(density * log_p) * VOLUME
    bounds = jaxgmm.entropy_bounds(p)
    assert entropy - 0.5 < bounds.lower <= entropy <= bounds.upper < entropy + 0.1
    square = np.sum((density - np.exp(log_q)) ** 2) * VOLUME
    assert_close(jaxgmm.l2_distance(p, q), np.sqrt(square), "close")
    found = jaxgmm.kl_divergence(jax.random.key(0), p, q, 4000)
    assert abs(found.value - divergence) < 4 * found.standard_error
    assert 0.005 < found.standard_error < 0.05


def test_a_lower_bound_that_says_something():
    p, q = pair("full")[0], moved(pair("full")[0], shift=(4.0, 4.0), stretch=1.0)
    log_p, log_q = (np.asarray(mixture.log_prob(GRID), np.float64) for mixture in (p, q))
    divergence = np.sum(np.exp(log_p) * (log_p - log_q)) * VOLUME
    bounds = jaxgmm.kl_bounds(p, q)
    assert 0.3 * divergence < bounds.lower <= divergence <= bounds.upper < 1.3 * divergence


@pytest.mark.parametrize("n", [2, 5])
def test_the_derivative_by_weights_is_right_on_average_however_few_rows(n):
    """Components far apart: the divergence is that of the weights, sum w log(w / v)."""
    free, v = jnp.log(jnp.array([0.2, 0.3, 0.5])), np.array([0.6, 0.3, 0.1])
    means = [[0.0], [100.0], [200.0]]
    q = jaxgmm.from_parameters(v, means, [1.0, 1.0, 1.0], "spherical")

    def estimate(free, key):
        return jaxgmm.kl_divergence(key, jaxgmm.Mixture(jax.nn.log_softmax(free), q.components), q, n).value

    slopes = jax.jit(jax.vmap(jax.grad(estimate), (None, 0)))(free, jax.random.split(jax.random.key(0), 20_000))
    slopes, w = np.asarray(slopes, np.float64), np.exp(np.asarray(free, np.float64))
    gain = np.log(w / v)
    error = slopes.std(axis=0) / np.sqrt(len(slopes))
    np.testing.assert_array_less(np.abs(slopes.mean(axis=0) - w * (gain - w @ gain)), 4 * error)


def test_equal_mixtures_are_no_distance_apart(two):
    p, _ = two
    again = p.take(np.array([0, 1, 2]))
    assert_close(jaxgmm.kl_bounds(p, again).upper, 0, "exact")
    assert jaxgmm.kl_bounds(p, again).lower == 0
    assert jaxgmm.kl_divergence(jax.random.key(0), p, again, 100).value == 0
    assert_close(jaxgmm.mixture_wasserstein(p, again).distance, 0, "exact")
    assert_close(jnp.diagonal(jaxgmm.bures_distance(p, again)), 0, "exact")
    assert jaxgmm.l2_distance(p, again) < 2 * np.sqrt(np.finfo(dtype()).eps)


def test_components_against_matrix_functions(two):
    p, q = two
    means, covariances = ([np.asarray(getattr(m, name), np.float64) for m in two] for name in ("means", "covariances"))
    distances, entropies = np.asarray(jaxgmm.bures_distance(p, q)), p.components.relative_entropy(q.components)
    for i, j in itertools.product(range(3), range(3)):
        gap = means[0][i] - means[1][j]
        first, second = covariances[0][i], covariances[1][j]
        root = scipy.linalg.sqrtm(first)
        square = gap @ gap + np.trace(first + second - 2 * scipy.linalg.sqrtm(root @ second @ root).real)
        assert_close(distances[i, j] ** 2, square, "close")
        ratio = np.linalg.solve(second, first)
        entropy = gap @ np.linalg.solve(second, gap) + np.trace(ratio) - 2 - np.log(np.linalg.det(ratio))
        assert_close(np.asarray(entropies)[i, j], entropy / 2, "close")


def test_close_components_keep_their_distance():
    # (1 + e)^2 S is e sqrt(tr S) away from S, which the difference of traces only resolves to sqrt(eps).
    p, _ = pair("full")
    small = 1e3 * np.finfo(dtype()).eps
    near = moved(p, shift=(0.0, 0.0), stretch=1 + small)
    expected = small * np.sqrt(np.trace(p.covariances, axis1=1, axis2=2))
    np.testing.assert_allclose(jnp.diagonal(jaxgmm.bures_distance(p, near)), expected, rtol=0.02)
    entropy = p.components.relative_entropy(near.components)
    np.testing.assert_allclose(jnp.diagonal(entropy), 2 * small**2, rtol=0.05)


@pytest.mark.parametrize("name", ["full", "spherical"])
def test_derivatives_where_components_are_equal_or_round(name):
    p, _ = pair(name)

    @jax.grad
    def square(q):
        return jnp.trace(jaxgmm.bures_distance(p, q) ** 2)

    @jax.grad
    def distance(q):
        return jnp.trace(jaxgmm.bures_distance(p, q)) + jaxgmm.mixture_wasserstein(p, q).distance

    for leaf in jax.tree.leaves(square(p)):
        assert_close(leaf, 0, "close")
    assert leaves_finite(distance(p))


@pytest.mark.parametrize("name", ["full", "spherical"])
def test_gradients_agree_with_finite_differences(name):
    flat, rebuild = ravel_pytree(tuple(mixture.unconstrain() for mixture in pair(name)))

    @jax.jit
    @jax.value_and_grad
    def both(flat):
        p, q = (free.constrain() for free in rebuild(flat))
        return sum(
            factor * verb(p, q) for factor, verb in zip((1.0, 0.7, 3.0, 0.1, -0.8), CLOSED.values(), strict=True)
        )

    direction = jax.random.normal(jax.random.key(5), flat.shape)
    step = 3e-6 if dtype() is np.float64 else 5e-3
    expected = (both(flat + step * direction)[0] - both(flat - step * direction)[0]) / (2 * step)
    scale = 100 if dtype() is np.float64 else 20
    assert_close(both(flat)[1] @ direction, expected, "close", scale=scale)


def test_curvature_of_the_distance_of_components():
    flat, rebuild = ravel_pytree(tuple(mixture.unconstrain() for mixture in pair("full")))
    slope = jax.jit(jax.grad(lambda flat: CLOSED["bures"](*(free.constrain() for free in rebuild(flat)))))
    direction = jax.random.normal(jax.random.key(5), flat.shape)
    step = 3e-6 if dtype() is np.float64 else 5e-3
    expected = (slope(flat + step * direction) - slope(flat - step * direction)) / (2 * step)
    scale = 100
    assert_close(jax.jvp(slope, (flat,), (direction,))[1], expected, "close", scale=scale)


def test_gradient_of_the_estimate_is_that_of_the_divergence():
    p, q = (mixture.marginal([0]) for mixture in pair("full"))
    line = jnp.linspace(-16, 18, 400)[:, None]

    def by_quadrature(free):
        log_p, log_q = free[0].constrain().log_prob(line), free[1].constrain().log_prob(line)
        return jnp.sum(jnp.exp(log_p) * (log_p - log_q)) * (line[1, 0] - line[0, 0])

    def by_drawing(free, key):
        return jaxgmm.kl_divergence(key, free[0].constrain(), free[1].constrain(), 2000).value

    free = p.unconstrain(), q.unconstrain()
    expected = ravel_pytree(jax.jit(jax.grad(by_quadrature))(free))[0]
    keys = jax.random.split(jax.random.key(0), 20)
    found = jax.jit(jax.vmap(lambda key: ravel_pytree(jax.grad(by_drawing)(free, key))[0]))(keys)
    error = jnp.std(found, axis=0) / np.sqrt(len(keys))
    assert np.all(abs(jnp.mean(found, axis=0) - expected) < 4 * error + 1e-4)
    assert np.max(abs(expected)) > 10 * np.max(error)


def test_transport_between_equal_weights_is_the_best_matching(two):
    p, q = (jaxgmm.Mixture(jnp.full(3, -jnp.log(3.0)), mixture.components) for mixture in two)
    costs = np.asarray(jaxgmm.bures_distance(p, q)) ** 2
    best = min(np.mean(costs[range(3), order]) for order in itertools.permutations(range(3)))
    assert_close(jaxgmm.mixture_wasserstein(p, q).distance, np.sqrt(best), "exact", scale=10)
    one = p.take(np.array([1])), q.take(np.array([2]))
    assert_close(jaxgmm.mixture_wasserstein(*one).distance, jaxgmm.bures_distance(*one)[0, 0], "exact", scale=10)


def test_transport_moves_all_mass_at_the_least_cost():
    p, q = pair("mixed")
    found = jaxgmm.mixture_wasserstein(p, q)
    assert_close(jnp.sum(found.plan, axis=1), p.weights, "exact")
    assert_close(jnp.sum(found.plan, axis=0), q.weights, "exact")
    assert np.all(found.plan >= 0)
    costs = np.asarray(jaxgmm.bures_distance(p, q), np.float64) ** 2
    rows = np.vstack([np.kron(np.eye(3), np.ones(3)), np.kron(np.ones(3), np.eye(3))])
    masses = np.concatenate([p.weights, q.weights]).astype(float)
    best = scipy.optimize.linprog(costs.ravel(), A_eq=rows[:-1], b_eq=masses[:-1], method="highs-ipm").fun
    assert_close(found.distance**2, best, "close")


def test_absent_components_do_not_count():
    p, q = pair("mixed")
    absent = jaxgmm.Mixture(jnp.log(jnp.array([0.4, 0.0, 0.6])), p.components)
    without = absent.take(np.array([0, 2]))
    for name, verb in CLOSED.items():
        if name != "bures":
            assert_close(verb(absent, q), verb(without, q), "close")
            assert_close(verb(q, absent), verb(q, without), "close")
    assert_close(jaxgmm.mixture_wasserstein(absent, q).plan[1], 0, "exact")
    gradient = jax.jit(jax.grad(lambda p: CLOSED["kl upper"](p, q) + CLOSED["mw2"](p, q)))(absent)
    assert leaves_finite(gradient)


SLOPES = {name: jax.jit(jax.value_and_grad(verb)) for name, verb in CLOSED.items()}


@pytest.mark.parametrize("offset", [1e4, 1e10])
def test_far_from_the_origin_and_from_each_other(offset):
    p, q = pair("full")
    if offset == 1e4:
        far = [moved(m, m.weights, (offset, offset), 1.0) for m in (p, q)]
        for verb in CLOSED.values():
            np.testing.assert_allclose(verb(*far), verb(p, q), rtol=5e-3, atol=1e-6)
    far = moved(q, q.weights, (offset, offset), 1.0)
    for name, slope in SLOPES.items():
        value, gradient = slope(p, far)
        assert value > (0.1 if name == "l2" else offset / 2)
        assert leaves_finite(gradient), name
    assert jaxgmm.kl_divergence(jax.random.key(0), p, far, 100).value > offset


def test_densities_beyond_the_range_of_numbers():
    # In 2 columns, the overlap is 1 / (4 pi s^2).
    scale = 1e-25
    p, q = (jaxgmm.from_parameters([1.0], [[m, 0.0]], [1.0], "spherical").affine(scale * np.eye(2)) for m in (0, 50))
    assert_close(jaxgmm.l2_distance(p, q) * scale, np.sqrt(2 / (4 * np.pi)), "exact")


def test_stacked_mixtures_and_nothing_compiled_twice():
    p, q = pair("diag")
    stacked = jax.vmap(lambda shift: moved(q, shift=shift))(jnp.arange(6.0).reshape(3, 2))
    together = jax.jit(jax.vmap(jaxgmm.mixture_wasserstein, (None, 0)))
    found = together(p, stacked)
    alone = jaxgmm.mixture_wasserstein(p, jax.tree.map(lambda leaf: leaf[1], stacked))
    assert_close(found.distance[1], alone.distance, "exact", scale=10)
    assert_close(found.plan[1], alone.plan, "exact")
    for verb in CLOSED.values():
        verb(p, q)
    jaxgmm.entropy_bounds(p)
    jaxgmm.kl_divergence(jax.random.key(0), p, q, 50)
    other = moved(p, shift=(1.0, 1.0))
    with counted() as again:
        for verb in CLOSED.values():
            verb(other, p)
        jaxgmm.entropy_bounds(other)
        jaxgmm.kl_divergence(jax.random.key(1), other, q, 50)
    assert again == []


@pytest.mark.parametrize(
    ("call", "exception", "message"),
    [
        (lambda p, q: jaxgmm.kl_bounds(p, q.marginal([0])), ValueError, "p has 2 columns and q has 1"),
        (lambda p, q: jaxgmm.l2_distance(p.means, q), TypeError, "p is of type .*; expected a jaxgmm.Mixture"),
        (lambda p, q: jaxgmm.entropy_bounds(3), TypeError, "p is of type int"),
        (lambda p, q: jaxgmm.kl_divergence(jax.random.key(0), p, q, 1), ValueError, "n is 1; expected at least 2"),
        (
            lambda p, q: jaxgmm.bures_distance(p, CASES[-1].mixture()),
            TypeError,
            "p has Gaussian components and q has P",
        ),
        (
            lambda p, q: jaxgmm.entropy_bounds(CASES[-1].mixture()),
            NotImplementedError,
            "Poisson components have no (entropy|relative_entropy)",
        ),
    ],
)
def test_bad_input_gets_one_clear_error(call, exception, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # the library's own words, not the type checker's
    with pytest.raises(exception, match=message):
        call(*pair("full"))
