"""The scale of a data set: what it is, what cannot move it, and that floors and seedings go by it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.ground.rows import Evidence
from jaxgmm.model.scale import _GAUSSIAN, spread_of

from cases import CASES, THIN
from tolerance import assert_close, dtype

KEY = jax.random.key(3)
# One of each family whose floor is one of variances.
FEW = [CASES[0], CASES[-2]]


def blobs(n=200):
    rows = np.random.default_rng(0).normal(size=(2 * n, 2))
    rows[n:] += 8
    return rows


def test_of_a_gaussian_it_is_the_standard_deviation():
    x = np.random.default_rng(0).normal(size=(20_000, 2)) * [1e-3, 1e3] + [5.0, 5.0]
    np.testing.assert_allclose(jaxgmm.scale_of(x) / np.std(x, axis=0), 1, atol=0.02)


@pytest.mark.parametrize("far", [8.0, 20.0, 100.0, 1e3, 1e6, 1e9, 1e12])
@pytest.mark.parametrize("n", [25, 200])
def test_one_row_cannot_move_it(far, n):
    x = blobs(n)
    before = np.asarray(jaxgmm.scale_of(x))
    x[0] = far
    after = np.asarray(jaxgmm.scale_of(x))
    limit = 1.1 if n > 100 or far < 1e9 else 2
    assert np.all((after < limit * before) & (after > before / 1.1)), after / before
    assert far < 1e3 or np.all(np.std(x, axis=0) > 2 * before)


def test_the_constant_is_that_of_a_gaussian():
    """The two weighings of a Gaussian, by quadrature."""
    z, width = np.linspace(1e-6, 12, 400_001, retstep=True)
    density = np.exp(-(z**2) / 2) * width
    value = np.exp(np.sum(density * np.log(z)) / np.sum(density))
    for _ in range(2):
        share = density * (1 - 1 / (1 + (z / value) ** 2)) * (1 + (z / value) ** 2) ** (-1 / 8)
        value = np.exp(np.sum(share * np.log(z)) / np.sum(share))
    assert pytest.approx(value, rel=1e-4) == _GAUSSIAN


@pytest.mark.parametrize("offset", [0.0, 1e4, -1e4])
@pytest.mark.parametrize("unit", [1.0, 1e-6, 1e6])
def test_units_offsets_and_order(offset, unit):
    x = blobs()
    expected = jaxgmm.scale_of(x)
    moved = unit * (np.random.default_rng(2).permutation(x) + offset)
    assert_close(jaxgmm.scale_of(moved) / unit, expected, "close", scale=10)


def test_weights_are_repetitions_and_absent_rows_are_not_looked_at():
    x, counts = blobs(), np.random.default_rng(0).integers(0, 4, 400)
    garbage = np.where(counts[:, None] > 0, x, np.nan)
    expected = jaxgmm.scale_of(np.repeat(x, counts, axis=0))
    for unit in (1.0, 1e-30, 1e30):
        assert_close(jaxgmm.scale_of(garbage, unit * counts), expected, "close")
    assert_close(jaxgmm.scale_of(jaxgmm.rows(garbage, counts)), expected, "close")


@pytest.mark.parametrize("block_size", [7, 100, 399])
def test_blocks_jit_and_vmap_do_not_matter(block_size):
    x = jnp.asarray(blobs())
    expected = jaxgmm.scale_of(x)
    in_blocks = jax.jit(lambda x: spread_of(Evidence(x, jnp.ones_like(x[:, 0])).in_blocks(block_size)).scale)
    assert_close(in_blocks(x), expected, "exact", scale=10)
    stack = jax.jit(jax.vmap(jaxgmm.scale_of))(jnp.stack([x, 3 * x]))
    assert_close(stack, jnp.stack([expected, 3 * expected]), "exact", scale=10)


@pytest.mark.parametrize("n", [100, 1000, 20_000])
@pytest.mark.parametrize("share", [0.25, 0.5, 0.7, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("other", ["normal", "exponential", "beside"])
def test_ties_are_no_collapse(other, share, n):
    """Of a column that is mostly zeros, it is about what the standard deviation is or what that of the others is."""
    generator = np.random.default_rng(1)
    others = {
        "normal": generator.normal(size=n),
        "exponential": generator.exponential(size=n),
        "beside": 3 + generator.normal(size=n),
    }[other]
    x = np.where(generator.random(n) < share, 0, others)[:, None]
    assert np.std(x) / 3 < float(jaxgmm.scale_of(x)[0]) < 3 * np.sqrt(np.mean(others**2))


@pytest.mark.parametrize(
    "x",
    [
        np.repeat([0.0, 1.0], 50),
        np.array([0.0, 1.0]),
        np.random.default_rng(0).poisson(2.0, 1000),
        np.round(10 * np.random.default_rng(0).normal(size=150)) / 10,
        np.concatenate([1e-3 * blobs()[:200, 0], 8 + 1e-3 * blobs()[:200, 0]]),
        np.where(np.arange(400) < 300, 1e-9, 1.0) * np.random.default_rng(0).normal(size=400),
        np.random.default_rng(0).uniform(size=1000),
    ],
    ids=["two values", "two rows", "counts", "rounded", "tight groups", "nearly tied", "uniform"],
)
def test_where_nothing_is_far_out_it_is_near_the_standard_deviation(x):
    assert 0.6 < float(jaxgmm.scale_of(x[:, None])[0]) / np.std(x) < 1.7


@pytest.mark.parametrize("structure", ["full", "tied", "diag", "spherical"])
def test_a_column_that_is_constant_has_a_unit_of_its_own(structure):
    eps = np.finfo(dtype()).eps
    x = np.stack([np.zeros(50), np.full(50, -2.7e5), np.where(np.arange(50) < 9, 0.3, 0.3 * (1 + eps))], axis=1)
    assert_close(jaxgmm.scale_of(x), [1, 4 * eps * 2.7e5, 4 * eps * 0.3], "close", scale=0)
    assert_close(jaxgmm.scale_of(x[:1]), [1, 4 * eps * 2.7e5, 4 * eps * 0.3], "close", scale=0)
    start = jaxgmm.init(KEY, x, 2, structure)
    assert all(np.all(leaf < np.inf) for leaf in jax.tree.leaves(start))


@pytest.mark.skipif(dtype() is not np.float64, reason="finite differences need float64")
def test_derivative():
    x, way = blobs(20), np.random.default_rng(5).normal(size=(40, 2))
    weights = np.linspace(0.5, 1.5, 40)

    def at(t):
        return jnp.log(jaxgmm.scale_of(x + t * way, weights + t * way[:, 0] / 10))

    step = 1e-6
    for derivative in (jax.jacfwd, jax.jacrev):
        np.testing.assert_allclose(derivative(at)(0.0), (at(step) - at(-step)) / (2 * step), rtol=1e-6)
    tied = jax.jacrev(jaxgmm.scale_of)(np.repeat(x[:4], 10, axis=0))
    assert np.all(np.isfinite(tied))


def test_the_floor_is_relative_to_the_scale(case):
    """A scale that is given is the one that counts, and the one that is made is `scale_of`."""
    if case.integer or case is THIN:
        pytest.skip("the floor is one of rates, or of noise beside factors that one step does not find")
    x = case.data(200)
    scale = jaxgmm.scale_of(x)
    start = case.mixture().take(np.array([0]))
    plain, statistics = jaxgmm.fit(start, x, regularization=4.0), jaxgmm.e_step(start, x)
    assert bool(plain.degenerate_components[0])
    for factor in (1.0, 10.0):
        stepped = jaxgmm.m_step(start, statistics, factor * scale, 4.0).covariances
        assert_close(stepped, factor**2 * plain.mixture.covariances, "close", scale=factor**2)
        assert np.all(np.diagonal(stepped[0]) >= 3.9 * factor**2 * np.min(scale) ** 2)
        if case in FEW:  # which takes it to the step as it is, whatever the structure
            given = jaxgmm.fit(start, x, regularization=4.0, scale=factor * scale)
            assert_close(given.mixture.covariances, stepped, "close", scale=factor**2)
            assert bool(given.degenerate_components[0])


def test_every_fit_takes_a_scale():
    """Of a part of the rows, as of all of them."""
    x = blobs()[::2]
    scale = 10 * jaxgmm.scale_of(x)
    options = {"regularization": 1.0, "scale": scale}
    expected = jaxgmm.fit(jaxgmm.init(KEY, x, 1, "diag", **options), x, **options).mixture.covariances
    assert_close(jnp.diagonal(expected[0]), scale**2, "close", scale=float(scale[0]) ** 2)
    restarts = jaxgmm.fit_restarts(KEY, x, 1, "diag", n_restarts=1, **options).best
    many = jaxgmm.fit_many(KEY, x[None], 1, "diag", **options).best
    chosen = jaxgmm.select(KEY, x, 1, "diag", n_restarts=1, **options).best
    again = jaxgmm.from_responsibilities(x, np.ones((len(x), 1)), "diag", **options)
    for mixture in (restarts.mixture, jax.tree.map(lambda leaf: leaf[0], many.mixture), chosen.mixture, again):
        assert_close(mixture.covariances, expected, "close", scale=float(scale[0]) ** 2)


def test_one_row_far_out_leaves_the_others_their_seeds():
    """Both groups are told apart, whatever one row among them holds."""
    for far in (1e2, 1e4, 1e6):
        x = blobs()
        x[0] = far
        found = jaxgmm.fit_restarts(KEY, x, 3, "full", n_restarts=12, spurious=True).best.mixture
        means = np.sort(np.asarray(found.means)[:, 0])
        np.testing.assert_allclose(means[:2], [0, 8], atol=0.3)
        np.testing.assert_allclose(means[2], far, rtol=1e-3)


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (1e-6, r"scale has shape \(\); expected \(2,\), one for each column, as jaxgmm.scale_of\(x\) gives"),
        ([1.0, 0.0], r"scale is \[1.0, 0.0\]; expected positive numbers"),
        ([1.0, np.nan], "expected positive numbers"),
        (None, r"scale is None; expected that of each column of the data, jaxgmm.scale_of\(x\)"),
    ],
)
def test_what_is_no_scale(scale, message):
    x = blobs()
    start = jaxgmm.init(KEY, x, 1)
    statistics = jaxgmm.e_step(start, x)
    with pytest.raises((ValueError, TypeError), match=message):
        jaxgmm.m_step(start, statistics, scale)
    if scale is not None:
        with pytest.raises(ValueError, match=message):
            jaxgmm.fit(start, x, scale=scale)


def test_without_rows_that_take_part_there_is_none():
    assert np.all(np.isnan(jax.jit(jaxgmm.scale_of)(jnp.full((5, 2), jnp.nan))))
    assert np.all(np.isnan(jax.jit(jaxgmm.scale_of)(jnp.ones((5, 2)), jnp.zeros(5))))
    x = jnp.arange(10.0).reshape(5, 2)
    assert_close(jax.jit(jaxgmm.scale_of)(x.at[2].set(jnp.nan)), jaxgmm.scale_of(jnp.delete(x, 2, axis=0)), "exact")
