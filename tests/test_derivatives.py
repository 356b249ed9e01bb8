"""Derivatives at the edges: rows and components of weight 0, fits that have not come to rest."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import Status

from cases import CASES, FEW, TWO_WAYS, TWO_WAYS_VARIED
from tolerance import assert_close, dtype, tolerance

KEY = jax.random.key(5)
N = 120
ABSENT = 7
in_blocks = pytest.mark.parametrize(
    ("case", "block_size"),
    [*((case, 50) for case in TWO_WAYS), *((case, None) for case in FEW)],
    ids=[*(f"{case.name}-blocks" for case in TWO_WAYS), *(f"{case.name}-one block" for case in FEW)],
)


def few_present(case, fill=None):
    """Rows of which one is absent, and weights; `fill` stands in its place."""
    x, weights = jnp.asarray(case.data(N), dtype()), jnp.ones(N).at[ABSENT].set(0)
    return x if fill is None else x.at[ABSENT].set(fill), weights


@in_blocks
def test_weight_of_an_absent_row_in_the_likelihood(case, block_size):
    """The likelihood is linear in weights, so nothing changes where one of them is 0."""
    x, weights = few_present(case)
    mixture = case.mixture()
    slope = jax.grad(lambda w: jaxgmm.log_likelihood(mixture, x, w, block_size=block_size))(weights)
    assert_close(slope, mixture.log_prob(x), "close")
    forward = jax.jvp(lambda w: jaxgmm.log_likelihood(mixture, x, w, block_size=block_size), (weights,), (weights,))[1]
    assert_close(forward, jnp.sum(weights * mixture.log_prob(x)), "close")


@in_blocks
def test_weight_of_an_absent_row_in_statistics(case, block_size):
    x, weights = few_present(case)
    mixture = case.mixture()

    def taken(weights):
        return jaxgmm.e_step(mixture, x, weights, block_size=block_size)

    alone = taken(jnp.zeros(N).at[ABSENT].set(1))
    way = jnp.zeros(N).at[ABSENT].set(1)
    moved = jax.jvp(taken, (weights,), (way,))[1]
    for actual, expected in zip(jax.tree.leaves(moved), jax.tree.leaves(alone), strict=True):
        assert_close(actual, expected, "close", scale=10)


@jax.jit
@functools.partial(jax.grad, argnums=(1, 2))
def slopes_of_a_fit(start, x, weights):
    """By rows and by weights."""
    result = jaxgmm.fit(start, x, weights, tol=0)
    spread = jnp.sum(jnp.sin(result.mixture.covariances[:3]))  # of those that are there
    return jnp.sum(jnp.sin(result.mixture.means)) + result.mixture.weights[0] + spread + result.log_likelihood / 100


@pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)
def test_weight_of_an_absent_row_in_a_fit(case):
    """As of a row that is hardly there."""
    x, weights = few_present(case)
    start = jaxgmm.fit(case.mixture(), x, weights, tol=0).mixture
    by_row, by_weight = slopes_of_a_fit(start, x, weights)
    _, hardly = slopes_of_a_fit(start, x, weights.at[ABSENT].set(1e-6))
    assert abs(float(hardly[ABSENT] - hardly[0])) > 10 * tolerance("converged") * float(jnp.max(jnp.abs(hardly)))
    assert_close(by_weight, hardly, "converged", scale=float(jnp.max(jnp.abs(hardly))))
    assert np.all(by_row[ABSENT] == 0)


@pytest.mark.parametrize("fill", [np.nan, np.inf, 1e30, 1e200])
def test_absent_rows_without_a_derivative(fill):
    """NaN for their own weights, and nothing else."""
    case = CASES[0]
    if fill == 1e200 and dtype() is np.float32:
        pytest.skip("not a number of float32")
    if fill == 1e30 and dtype() is np.float64:
        fill = 1e160
    x, weights = few_present(case, jnp.asarray(fill, dtype()))
    mixture = case.mixture()

    def readout(w):
        return jnp.sum(jnp.sin(jaxgmm.fit(mixture, x, w).mixture.means)) + jaxgmm.log_likelihood(mixture, x, w)

    slope, way = jax.grad(readout)(weights), jnp.sin(jnp.arange(N)).at[ABSENT].set(0)
    assert np.flatnonzero(np.isnan(slope)).tolist() == [ABSENT]
    forward = jax.jvp(readout, (weights,), (way,))[1]
    assert_close(forward, jnp.sum(jnp.where(way == 0, 0, slope * way)), "converged", scale=10)
    assert np.isnan(jax.jvp(readout, (weights,), (way.at[ABSENT].set(1),))[1])
    by_row = jax.grad(lambda x: jaxgmm.log_likelihood(mixture, x, weights))(x)
    assert np.all(np.isfinite(by_row))


def test_mixed_second_derivative_of_an_absent_row():
    case = CASES[0]
    x, weights = few_present(case)
    mixture = case.mixture()

    def value(row, weight):
        return jaxgmm.log_likelihood(mixture, x.at[ABSENT].set(row), weights.at[ABSENT].set(weight))

    expected = jax.grad(lambda row: mixture.log_prob(row[None])[0])(x[ABSENT])
    for first, second in ((0, 1), (1, 0)):
        mixed = jax.jit(jax.jacfwd(jax.grad(value, argnums=first), argnums=second))(x[ABSENT], jnp.zeros((), x.dtype))
        assert_close(mixed, expected, "close")


def test_what_fills_up_a_block_has_no_derivative():
    case = CASES[0]
    x, weights = few_present(case)

    def slopes(size):
        def readout(x, weights):
            return jnp.sum(jnp.sin(jaxgmm.e_step(case.mixture(), x, weights, block_size=size).sums.first))

        return jax.grad(readout, argnums=(0, 1))(x, weights)

    whole, blocks = slopes(N), slopes(50)
    for actual, expected in zip(blocks, whole, strict=True):
        assert_close(actual, expected, "close", scale=10)


@pytest.mark.parametrize("case", TWO_WAYS_VARIED, ids=lambda case: case.name)
def test_an_absent_component_stays_where_it_is(case):
    """Its own parameters have derivative 0, and say nothing against those of the others."""
    x, weights = jnp.asarray(case.data(N), dtype()), jnp.ones(N)
    few = jaxgmm.fit(case.mixture(), x, weights, tol=0).mixture
    places = np.array([0, 1, 2, 0])
    room = jaxgmm.Mixture(few.log_weights[places].at[3].set(-jnp.inf), few.components.take(places))
    for actual, expected in zip(slopes_of_a_fit(room, x, weights), slopes_of_a_fit(few, x, weights), strict=True):
        assert_close(actual, expected, "converged", scale=float(jnp.max(jnp.abs(expected))))


def test_a_fit_that_was_cut_off_has_no_derivative():
    case = CASES[0]
    x = case.data(200)
    start = case.init(KEY, x, method="random")

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def slope_of_a_mean(x, max_iter):
        result = jaxgmm.fit(start, x, max_iter=max_iter)
        return result.mixture.means[0, 0], result.status

    slope, status = slope_of_a_mean(x, 3)
    assert Status(int(status)) == Status.MAX_ITER
    assert np.all(np.isnan(slope))
    slope, status = slope_of_a_mean(x, 1000)
    assert Status(int(status)) == Status.CONVERGED
    assert np.all(np.isfinite(slope))


def test_derivative_where_em_is_slow():
    """A fit ends where its likelihood hardly rises, a derivative is that of the point where EM rests."""
    x = np.random.default_rng(1).normal(size=(400, 2)) + 2.5 * np.eye(3, 2)[np.arange(400) % 3]
    x = jnp.asarray(x, dtype())
    rested = jaxgmm.fit(jaxgmm.init(KEY, x, 3), x, tol=0, max_iter=3000).mixture
    # Somewhat off, so that a fit has to come back.
    start = jaxgmm.Mixture(rested.log_weights, jaxgmm.Gaussian(rested.means + 0.1, rested.components.covariance))

    @jax.jit
    def slope(start, tol):
        return jax.grad(lambda w: jnp.sum(jnp.sin(jaxgmm.fit(start, x, w, tol=tol).mixture.means)))(jnp.ones(400))

    expected, actual = slope(rested, 0.0), slope(start, 1e-5)
    assert float(jnp.linalg.norm(actual - expected)) < 0.01 * float(jnp.linalg.norm(expected))


def test_derivative_in_a_weight_of_zero():
    """A density is linear in weights, also where one of them is 0."""
    means, scales = [[0.0], [1.0], [-1.0]], [1.0, 1.0, 1.0]
    row = jnp.array([[0.3]])

    def log_prob(weights):
        return jaxgmm.from_parameters(weights, means, scales, "spherical").log_prob(row)[0]

    weights = jnp.array([0.0, 0.5, 0.5])
    by_component = jnp.exp(jax.vmap(log_prob)(jnp.eye(3)) - log_prob(weights))
    expected = by_component - 1
    assert_close(jax.jit(jax.grad(log_prob))(weights), expected, "exact")
    assert_close(jax.jit(jax.jacfwd(log_prob))(weights), expected, "exact")
    # Second derivatives of the logarithm of a sum over its normaliser, but the one in the weight of 0 alone.
    second = (1 - jnp.outer(by_component, by_component)).at[0, 0].set(jnp.nan)
    assert_close(jax.jit(jax.hessian(log_prob))(weights), second, "exact", scale=10)


@pytest.mark.parametrize(
    "what",
    [
        lambda mixture: mixture.weights,
        lambda mixture: mixture.mean,
        lambda mixture: mixture.covariance,
        lambda mixture: mixture.take([2, 0]).weights,
        lambda mixture: mixture.condition([0], [0.4]).weights,
        lambda mixture: mixture.condition([0], [0.4]).log_prob(jnp.array([[0.3]])),
        lambda mixture: mixture.unconstrain().constrain().weights,
        lambda mixture: mixture.responsibilities(jnp.array([[0.3, 0.1]])),
        lambda mixture: jaxgmm.product(mixture, mixture)[0],
        lambda mixture: jaxgmm.product(mixture, mixture)[1].weights,
        lambda mixture: jaxgmm.l2_distance(mixture, mixture.take([1])),
        lambda mixture: jaxgmm.e_step(mixture, jnp.array([[0.3, 0.1], [0.0, 2.0]])).counts,
        lambda mixture: jaxgmm.to_numpyro(mixture).log_prob(jnp.array([0.3, 0.1])),
    ],
)
def test_whatever_follows_from_a_weight_of_zero(what):
    """What follows from a weight next to 0."""
    means, scales = [[0.0, 0.0], [1.0, 0.5], [-1.0, 1.0]], [1.0, 2.0, 1.5]

    def of(weight):
        return what(jaxgmm.from_parameters(jnp.stack([weight, 0.4, 0.6]), means, scales, "spherical"))

    forward, backward = jax.jit(jax.jacfwd(of)), jax.jit(jax.jacrev(of))(jnp.zeros(()))
    actual, hardly = forward(jnp.zeros(())), forward(jnp.asarray(1e-9, dtype()))
    assert np.any(np.abs(actual) > 1e-3)
    assert_close(actual, hardly, "close", scale=1)
    assert_close(backward, hardly, "close", scale=1)
