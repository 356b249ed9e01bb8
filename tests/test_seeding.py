"""Seedings: all methods, weights, and where they start a fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.model.seeding import SEEDINGS

from tolerance import assert_close, once

CENTERS = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])


def blobs(n=400, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % 4
    return CENTERS[labels] + generator.normal(size=(n, 2)), labels


@pytest.mark.parametrize("method", SEEDINGS)
@pytest.mark.parametrize("form", ["full", "spherical"])
def test_every_seeding_makes_a_valid_mixture(method, form):
    x, _ = blobs()
    mixture = jaxgmm.init(jax.random.key(0), x, 4, form, method=method)
    assert_close(jnp.sum(mixture.weights), 1, "exact")
    assert np.all(np.isfinite(mixture.means))
    assert np.all(np.linalg.eigvalsh(np.asarray(mixture.covariances, np.float64)) > 1e-3)
    assert np.all(mixture.means > np.min(x))
    assert np.all(mixture.means < np.max(x))


@pytest.mark.parametrize("method", ["kmeans", "k-means++", "hierarchical"])
def test_separated_blobs_are_found(method):
    x, _ = blobs()
    for seed in range(20):
        mixture = jaxgmm.init(jax.random.key(seed), x, 4, method=method)
        distances = np.linalg.norm(np.asarray(mixture.means)[:, None] - CENTERS, axis=2)
        # greedy k-means++ all but never takes two rows of one blob while another is empty
        assert sorted(distances.argmin(axis=1)) == [0, 1, 2, 3]
        if method != "k-means++":
            assert distances.min(axis=1).max() < 0.5


def test_keys_matter_and_repeat():
    x = np.random.default_rng(0).normal(size=(400, 2))
    for method in SEEDINGS:
        means = [jaxgmm.init(jax.random.key(seed), x, 4, method=method).means for seed in (0, 0, 1)]
        np.testing.assert_array_equal(means[0], means[1])
        assert not np.array_equal(means[0], means[2])


@once
@pytest.mark.parametrize("method", SEEDINGS)
def test_integer_weights_are_repeated_rows_in_distribution(method):
    """The mean over many keys of a statistic that does not depend on the order of components."""
    generator = np.random.default_rng(3)
    x = generator.normal(size=(30, 1)) * [3.0]
    counts = generator.integers(0, 4, 30)
    repeated = np.repeat(x, counts, axis=0)
    keys = jax.random.split(jax.random.key(0), 4000)

    def moments(x, weights):
        def largest_mean(key):
            means = jaxgmm.init(key, x, 2, "spherical", method=method, weights=weights).means
            return jnp.stack([jnp.max(means), jnp.min(means)])

        draws = np.asarray(jax.jit(jax.vmap(largest_mean))(keys), np.float64)
        return draws.mean(axis=0), draws.std(axis=0) / np.sqrt(len(keys))

    (weighted, error), (plain, other_error) = moments(x, counts), moments(repeated, None)
    if method == "random":  # drawn once per row of the data, so only the middle of the distribution is the same
        weighted, plain = weighted.sum(keepdims=True), plain.sum(keepdims=True)
        error, other_error = error.sum(), other_error.sum()
    np.testing.assert_array_less(np.abs(weighted - plain), 5 * np.hypot(error, other_error) + 1e-3)


@once
@pytest.mark.parametrize("method", SEEDINGS)
def test_rows_without_weight_are_never_drawn(method):
    x = np.concatenate([np.random.default_rng(0).normal(size=(20, 2)), np.full((300, 2), np.nan)])
    weights = np.concatenate([np.ones(20), np.zeros(300)])
    mixtures = jax.vmap(lambda key: jaxgmm.init(key, x, 3, method=method, weights=weights))(
        jax.random.split(jax.random.key(0), 50)
    )
    assert np.all(np.isfinite(mixtures.means))
    assert np.all(np.abs(mixtures.means) < 4)


def test_seeding_reads_each_column_in_its_own_unit():
    x, _ = blobs()
    for method in sorted(SEEDINGS.keys() - {"kmeans_unscaled"}):
        plain = jaxgmm.init(jax.random.key(0), x, 4, method=method)
        scaled = jaxgmm.init(jax.random.key(0), x * [1e-4, 1e5], 4, method=method)
        np.testing.assert_array_equal(plain.predict(x), scaled.predict(x * [1e-4, 1e5]))


@once
def test_coordinates_of_seedings_are_what_their_names_say():
    """Two long stripes side by side, and units that hide one of the columns."""
    rng = np.random.default_rng(0)
    side = rng.integers(0, 2, 400)
    x = np.stack([side + rng.normal(scale=0.05, size=400), rng.normal(scale=10, size=400)], axis=1)
    sheared = x @ [[1.0, 30.0], [0.0, 1.0]]

    def agreement(x, method):
        labels = jaxgmm.init(jax.random.key(0), x, 2, "tied", method=method).predict(x)
        return abs(float(jaxgmm.adjusted_rand_index(labels, side)))

    assert agreement(x, "kmeans") > 0.95
    assert agreement(x, "kmeans_unscaled") < 0.05
    assert agreement(x * [1.0, 1e-3], "kmeans_unscaled") > 0.95
    assert agreement(sheared, "kmeans_whitened") > 0.95
    assert agreement(sheared, "hierarchical") > 0.95


def test_more_components_than_distinct_rows():
    x = np.repeat([[0.0, 1.0], [2.0, 5.0]], 200, axis=0)
    for method in SEEDINGS:
        mixture = jaxgmm.init(jax.random.key(0), x, 4, method=method)
        assert np.all(np.isfinite(mixture.log_prob(x)))
        assert_close(jnp.sum(mixture.weights), 1, "exact")


def test_component_seeded_on_one_row_starts_broad():
    """Left on its row it would stay there: the spike's likelihood is unbounded but for the floor."""
    x = np.concatenate([np.random.default_rng(0).normal(size=(100, 2)), [[6.0, 6.0]]])
    labels = (np.arange(101) == 100).astype(int)
    mixture = jaxgmm.from_responsibilities(x, np.eye(2)[labels])
    assert np.all(np.sqrt(np.diagonal(mixture.covariances[1])) > 0.3)


def test_known_labels_make_the_mixture_of_their_groups():
    x, labels = blobs()
    mixture = jaxgmm.from_responsibilities(x, jax.nn.one_hot(labels, 4))
    assert_close(mixture.means, [x[labels == k].mean(axis=0) for k in range(4)], "exact", scale=10)
    assert_close(mixture.covariances, [np.cov(x[labels == k].T, ddof=0) for k in range(4)], "close")


def test_responsibilities_of_absent_rows_are_not_looked_at():
    x, labels = blobs()
    shares, weights = np.eye(4)[labels], np.ones(400)
    shares[7], weights[7] = np.nan, 0
    assert np.all(np.isfinite(jaxgmm.from_responsibilities(x, shares, weights=weights).means))


def test_responsibilities_take_the_dtype_of_the_rows():
    x = blobs()[0].astype(np.float32)
    mixture = jaxgmm.from_responsibilities(x, np.full((400, 2), 0.5, np.float64), weights=np.ones(400, np.int64))
    assert {leaf.dtype for leaf in jax.tree.leaves(mixture)} == {np.dtype(np.float32)}
