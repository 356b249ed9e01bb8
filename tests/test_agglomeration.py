"""Merging clusters: against a greedy search and scipy, with weights and labels, and as a start of mixtures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.cluster.hierarchy

import jaxgmm
from jaxgmm.ground import draws
from jaxgmm.model import agglomeration

from tolerance import assert_close, dtype, once

KEY = jax.random.key(0)
merge = jax.jit(agglomeration.tree, static_argnums=3)


def cut(x, k, weights=None, tags=None, classes=False):
    """The clusters of rows, each as the set of places in it; `k` of each group where these are `classes`."""
    weights = jnp.ones(len(x)) if weights is None else jnp.asarray(weights, float)
    tags = jnp.full(len(x), -1, jnp.int32) if tags is None else jnp.asarray(tags, jnp.int32)
    tree = merge(jnp.asarray(x), weights, tags, classes)
    keep = jnp.full(len(x), k) if classes else jnp.asarray(k)
    cluster = np.asarray(agglomeration.clusters(tree, weights, tags if classes else None, keep))
    return partition(cluster, np.asarray(weights) > 0)


def partition(labels, there=True):
    labels = np.asarray(labels)
    return {frozenset(np.flatnonzero((labels == one) & there)) for one in np.unique(labels)} - {frozenset()}


def greedy(x, k, weights, tags, classes=False):
    """The cheapest merge that is allowed, one after the other, until `k` clusters are left, or none is allowed."""
    given = enumerate(zip(np.float64(x), weights, tags, strict=True))
    found = [([place], w, row, tag) for place, (row, w, tag) in given]
    while len(found) > k:
        best = (np.inf, 0, 0)
        for i, (_, w, mean, tag) in enumerate(found):
            for j, (_, other_w, other_mean, other) in enumerate(found[:i]):
                if tag == other if classes else (tag < 0 or other < 0):
                    best = min(best, (w * other_w / (w + other_w) * np.sum((mean - other_mean) ** 2), i, j))
        if best[0] == np.inf:
            break
        (i, w, mean, tag), (j, other_w, other_mean, other) = found.pop(best[1]), found.pop(best[2])
        both = w + other_w
        found.append((i + j, both, (w * mean + other_w * other_mean) / both, max(tag, other)))
    return {frozenset(places) for places, *_ in found}


@pytest.mark.parametrize("d", [1, 4])
def test_clusters_are_those_of_scipy_for_every_number_of_them(d):
    for seed in range(5):
        x = np.random.default_rng(seed).standard_t(3, size=(90, d)).astype(dtype())
        tree = scipy.cluster.hierarchy.linkage(x.astype(float), method="ward")
        for k in (1, 2, 3, 5, 9, 90):
            assert cut(x, k) == partition(scipy.cluster.hierarchy.cut_tree(tree, k)[:, 0]), (seed, k)


def test_costs_are_what_the_squared_distances_to_the_means_grow_by():
    x = np.random.default_rng(0).normal(size=(60, 3)).astype(dtype())
    tree = merge(jnp.asarray(x), jnp.ones(60), jnp.full(60, -1, jnp.int32), False)
    costs = np.sort(np.asarray(tree.cost))[1:]
    assert_close(np.sum(costs), np.sum((x - x.mean(axis=0)) ** 2), "close")
    # scipy's heights are lengths, of twice the cost.
    assert_close(np.sqrt(2 * costs), scipy.cluster.hierarchy.linkage(x.astype(float), "ward")[:, 2], "close")


def test_a_weight_counts_as_so_many_rows_and_none_is_no_row():
    for seed in range(3):
        generator = np.random.default_rng(seed)
        x, times = generator.normal(size=(30, 2)).astype(dtype()), generator.permutation(np.arange(30) % 4)
        places, there = np.repeat(np.arange(30), times), np.flatnonzero(times > 0)
        for k in (2, 4, 7):
            found = cut(x, k, times)
            assert found == {frozenset(places[list(members)]) for members in cut(x[places], k)}
            slow = greedy(x[there], k, times[there], np.full(len(there), -1))
            assert found == {frozenset(there[list(members)]) for members in slow}


def test_clusters_with_two_labels_are_not_merged_and_the_rest_goes_on():
    tags = np.full(30, -1)
    tags[:3] = [0, 1, 2]
    for seed in range(3):
        generator = np.random.default_rng(seed)
        x, weights = generator.normal(size=(30, 2)).astype(dtype()), generator.uniform(0.5, 2, 30)
        for k in (3, 4, 7):
            found = cut(x, k, weights, tags)
            assert found == greedy(x, k, weights, tags)
            assert all(len(members & {0, 1, 2}) <= 1 for members in found)
        # No fewer than there are that may not be merged.
        assert cut(x, 1, weights, tags) == cut(x, 3, weights, tags)


def test_classes_are_clustered_on_their_own():
    for seed in range(3):
        generator = np.random.default_rng(seed)
        x, weights = generator.normal(size=(30, 2)).astype(dtype()), generator.uniform(0.5, 2, 30)
        tags = generator.permutation(np.arange(30) % 3 - 1)
        for k in (1, 2, 4):
            expected = set()
            for tag in (-1, 0, 1):
                own = np.flatnonzero(tags == tag)
                slow = greedy(x[own], k, weights[own], tags[own], classes=True)
                expected |= {frozenset(own[list(members)]) for members in slow}
            assert cut(x, k, weights, tags, classes=True) == expected


def test_copies_of_rows_and_rows_far_out_end_the_search():
    x = np.repeat(np.random.default_rng(0).integers(0, 3, (20, 2)), 6, axis=0).astype(dtype())
    sizes = sorted(map(len, cut(x, len(np.unique(x, axis=0)))))
    assert sizes == sorted(np.unique(x, axis=0, return_counts=True)[1])
    far = np.concatenate([np.random.default_rng(0).normal(size=(30, 2)), [[1e15, 0], [0, -1e18]]]).astype(dtype())
    assert cut(far, 3) == {frozenset(range(30)), frozenset({30}), frozenset({31})}


@once
def test_the_earliest_come_in_order_and_no_more_than_there_are():
    times = jnp.asarray([3.0, 1.0, jnp.inf, 2.0, 5.0])
    places, after = draws.earliest(times, 2)
    assert places.tolist() == [1, 3]
    assert float(after) == 3
    places, after = draws.earliest(times, 8)
    assert places.tolist() == [0, 1, 2, 3, 4]
    assert float(after) == np.inf


@once
def test_rows_of_a_sample_stand_for_all_rows():
    """Sums over the sample are right on average, whatever the weights; and all rows are taken where they are few."""
    generator = np.random.default_rng(0)
    weights = jnp.asarray(generator.exponential(size=400) ** 2 * (np.arange(400) % 5 > 0), jnp.float32)
    rows = jaxgmm.rows(generator.normal(size=(400, 1)).astype(np.float32) + 3, weights)

    def sample(key, size):
        waits = jax.random.exponential(key, (400,))
        x, stand, _ = agglomeration._sampled(rows, waits, rows.weights, size)
        return jnp.sum(stand), jnp.sum(stand * x[:, 0])

    found = np.array(jax.vmap(lambda key: sample(key, 50))(jax.random.split(KEY, 4000)))
    expected = np.array([jnp.sum(weights), jnp.sum(weights * rows.x[:, 0])])
    error = found.std(axis=1) / np.sqrt(4000)
    assert np.all(error < 0.01 * expected)
    np.testing.assert_array_less(np.abs(found.mean(axis=1) - expected), 5 * error)
    assert_close(np.array(sample(KEY, 400)), expected, "close")


def whitened(x):
    x = np.asarray(x, np.float64) - np.mean(x, axis=0)
    return x @ np.linalg.inv(np.linalg.cholesky(x.T @ x / len(x))).T


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_a_mixture_starts_from_the_clusters_of_whitened_rows(k):
    """Each row goes to the nearest mean of a cluster; few rows are all taken, whatever the key."""
    generator = np.random.default_rng(1)
    x = (generator.normal(size=(150, 2)) + 4 * generator.integers(0, 3, (150, 1))) @ [[3.0, 0.0], [40.0, 2.0]]
    z = whitened(x)
    clusters = scipy.cluster.hierarchy.cut_tree(scipy.cluster.hierarchy.linkage(z, "ward"), k)[:, 0]
    means = np.stack([z[clusters == one].mean(axis=0) for one in range(k)])
    labels = np.argmin(np.sum((z[:, None] - means) ** 2, axis=2), axis=1)
    expected = np.sort(np.stack([x[labels == one].mean(axis=0) for one in range(k)]), axis=0)
    for seed in range(2):
        start = jaxgmm.init(jax.random.key(seed), x.astype(dtype()), k, method="hierarchical")
        assert_close(np.sort(start.means, axis=0), expected, "close", scale=100)


@once
def test_numbers_of_components_and_keys_side_by_side_are_those_alone():
    x = np.random.default_rng(0).normal(size=(400, 2)) + 5 * (np.arange(400)[:, None] % 3)
    keys, ks = jax.random.split(KEY, 3), jnp.asarray([1, 3, 6])

    def start(key, k):
        return jaxgmm.init(key, x, k, "diag", max_components=6, method="hierarchical")

    together = jax.jit(jax.vmap(start))(keys, ks)
    for lane, k in enumerate(ks.tolist()):
        alone = jaxgmm.init(keys[lane], x, k, "diag", method="hierarchical")
        assert_close(together.means[lane, :k], alone.means, "close", scale=10)
        assert_close(together.weights[lane], np.pad(alone.weights, (0, 6 - k)), "close")


@once
def test_among_other_kinds_of_starts_it_is_the_same():
    x = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
    options = {"n_restarts": 4, "n_finalists": 4, "max_iter": 1, "tol": 0.0}
    both = jaxgmm.fit_restarts(KEY, x, 4, methods=("k-means++", "hierarchical"), **options)
    for lanes in (1, 2):
        other = jaxgmm.fit_restarts(KEY, x, 4, methods=("random", "hierarchical"), lanes=lanes, **options)
        assert_close(both.log_likelihood[1::2], other.log_likelihood[1::2], "close", scale=100)
        assert not np.allclose(both.log_likelihood[::2], other.log_likelihood[::2], atol=1.0)


@once
def test_more_components_than_rows_of_a_sample_or_of_all():
    few = jaxgmm.init(KEY, np.eye(3, dtype=np.float32), 5, "diag", method="hierarchical")
    assert np.all(np.isfinite(few.means))
    many = jaxgmm.init(KEY, np.random.default_rng(0).normal(size=(2000, 2)), 300, "spherical", method="hierarchical")
    # Each of them has some rows that are nearest.
    assert np.min(many.weights) > 0.9 / 2000


@once
def test_labels_draw_the_clusters_they_are_in():
    """One row of a group of many is enough for the group to be the labelled component."""
    generator = np.random.default_rng(0)
    truth = np.arange(3000) % 3
    x = generator.normal(size=(3000, 2)) + np.array([[0, 0], [12, 0], [0, 12]])[truth]
    labels = np.full(3000, -1)
    labels[[4, 8]] = [2, 0]  # rows of groups 1 and 2
    start = jaxgmm.init(KEY, jaxgmm.rows(x, labels=labels), 3, method="hierarchical")
    assert_close(start.means, [[0, 12], [0, 0], [12, 0]], "converged", scale=10)
    # A class of two components and rows in two of the groups, beside one without labels.
    known = np.where(np.arange(3000) % 10 == 0, np.array([0, 1, 0])[truth], -1)
    rows = jaxgmm.rows(x, labels=known, label_of_component=(0, 1, 0))
    start = jaxgmm.init(KEY, rows, 3, method="hierarchical")
    found = np.asarray(start.means)
    assert_close(found[1], [12, 0], "converged", scale=20)
    assert_close(found[[0, 2]][np.argsort(found[[0, 2], 1])], [[0, 0], [0, 12]], "converged", scale=20)
