"""Components matched between fits, and labels compared."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

import jaxgmm

from tolerance import assert_close


def test_weights_count_rows_in_the_rand_index():
    rng = np.random.default_rng(0)
    labels, others = rng.integers(0, 3, (2, 40))
    weights = rng.integers(0, 4, 40)
    repeated = jaxgmm.adjusted_rand_index(np.repeat(labels, weights), np.repeat(others, weights))
    assert_close(jaxgmm.adjusted_rand_index(labels, others, weights=weights), repeated, "exact")
    assert_close(
        jaxgmm.adjusted_rand_index(labels, others, weights=np.ones(40)),
        jaxgmm.adjusted_rand_index(labels, others),
        "exact",
    )
    padded = [np.concatenate([given, np.full(25, value)]) for given, value in ((labels, 2), (others, 0), (weights, 0))]
    assert_close(jaxgmm.adjusted_rand_index(padded[0], padded[1], weights=padded[2]), repeated, "exact")


def test_align_undoes_any_order(case):
    reference = case.mixture()
    for order in ([1, 2, 0], [2, 1, 0], [0, 2, 1]):
        aligned = jaxgmm.align(reference.take(jnp.array(order)), reference)
        assert_close(aligned.weights, reference.weights, "exact")
        assert_close(aligned.means, reference.means, "exact")
        assert_close(aligned.covariances, reference.covariances, "exact")


def test_align_works_under_vmap_whatever_the_units():
    means = jnp.array([[0.0, 0.0], [1.0, 1e6], [3.0, -1e6]])
    reference = jaxgmm.from_parameters([0.2, 0.3, 0.5], means, [[1.0, 1e10]] * 3, "diag")
    orders = jnp.array([[0, 1, 2], [2, 0, 1], [1, 0, 2]])
    stacked = jax.vmap(reference.take)(orders)
    aligned = jax.vmap(jaxgmm.align, in_axes=(0, None))(stacked, reference)
    assert_close(aligned.weights, jnp.broadcast_to(reference.weights, (3, 3)), "exact")


def test_align_pairs_absent_components_with_absent_ones():
    x = np.random.default_rng(0).normal(size=(60, 2))
    roomy = jaxgmm.init(jax.random.key(0), x, jnp.asarray(2), "diag", max_components=4)
    aligned = jaxgmm.align(roomy.take(jnp.array([3, 1, 2, 0])), roomy)
    assert_close(aligned.weights, roomy.weights, "exact")


def test_align_refuses_what_cannot_be_matched():
    one = jaxgmm.from_parameters([1.0], [[0.0]], [1.0], "spherical")
    two = jaxgmm.from_parameters([0.5, 0.5], [[0.0], [1.0]], [1.0, 1.0], "spherical")
    with pytest.raises(ValueError, match="mixture has 1 components in 1 columns, reference 2 in 1"):
        jaxgmm.align(one, two)


@pytest.mark.parametrize("n_labels", [(1, 1), (2, 3), (5, 5), (40, 4)])
def test_adjusted_rand_index_is_sklearns(n_labels):
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, k, 200) for k in n_labels)
    b[:100] = a[:100] % n_labels[1]
    assert_close(jaxgmm.adjusted_rand_index(a, b), adjusted_rand_score(a, b), "close")
    assert_close(jaxgmm.adjusted_rand_index(a, a), 1.0, "exact")


def test_adjusted_rand_index_under_vmap():
    labels = jnp.array([[0, 0, 1, 1], [0, 1, 0, 1]])
    found = jax.vmap(lambda a: jaxgmm.adjusted_rand_index(a, labels[0], n_labels=2))(labels)
    assert_close(found, [1.0, -0.5], "exact")


@pytest.mark.parametrize(
    ("labels", "others", "error", "message"),
    [
        ([0, 1], [0, 1, 1], ValueError, "expected the same rows"),
        ([0.5, 1], [0, 1], TypeError, "expected integers"),
        ([-1, 1], [0, 1], ValueError, "expected 0 to 1"),
    ],
)
def test_labels_that_make_no_sense(labels, others, error, message):
    with pytest.raises(error, match=message):
        jaxgmm.adjusted_rand_index(np.array(labels), np.array(others))


def test_adjusted_rand_index_needs_a_size_under_jit():
    with pytest.raises(TypeError, match="n_labels"):
        jax.jit(jaxgmm.adjusted_rand_index)(jnp.array([0, 1]), jnp.array([0, 1]))
