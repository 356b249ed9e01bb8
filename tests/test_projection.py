"""Directions that tell components apart: a generalised eigenproblem, Fisher's, maps of the rows, derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import sklearn.datasets

import jaxgmm
from jaxgmm import StudentT

from compilations import counted
from tolerance import assert_close, dtype, tolerance

X, KINDS = sklearn.datasets.load_iris(return_X_y=True)
WEIGHTS = np.array([0.2, 0.3, 0.5])
GROUPS = [X[KINDS == 0], X[KINDS == 1], X[KINDS == 2]]
MEANS = np.array([group.mean(axis=0) for group in GROUPS])
FULL = np.stack([np.cov(group.T) for group in GROUPS])
COVARIANCES = {
    "full": FULL,
    "tied": FULL.mean(axis=0),
    "diag": np.diagonal(FULL, axis1=1, axis2=2),
    "spherical": np.array([0.1, 0.2, 0.4]),
}


def made(form="full", weights=WEIGHTS, means=MEANS, covariances=None):
    return jaxgmm.from_parameters(weights, means, COVARIANCES[form] if covariances is None else covariances, form)


def kernel(mixture, share):
    """The matrices of the eigenproblem, by their definition in Scrucca (2010), Stat. Comput. 20."""
    given = mixture.weights, mixture.means, mixture.covariances
    weights, means, covariances = (np.asarray(one, float) for one in given)
    away = means - weights @ means
    between = np.einsum("k,ki,kj->ij", weights, away, away)
    within = np.einsum("k,kij->ij", weights, covariances)
    whole = between + within
    inverse = np.linalg.inv(whole)
    differences = sum(w * (c - within) @ inverse @ (c - within) for w, c in zip(weights, covariances, strict=True))
    return 2 * share * between @ inverse @ between + 2 * (1 - share) * differences, whole


@pytest.mark.parametrize("share", [0.5, 1.0, 0.0])
@pytest.mark.parametrize("form", ["full", "diag", "spherical"])
def test_the_directions_solve_the_eigenproblem(form, share):
    mixture = made(form)
    found = jaxgmm.projection(mixture, 4, means=share)
    matrix, whole = kernel(mixture, share)
    values = scipy.linalg.eigh(matrix, whole, eigvals_only=True)[::-1]
    assert_close(found.separation, np.maximum(values, 0), "close")
    vectors = np.asarray(found.matrix, float).T
    assert_close(vectors.T @ whole @ vectors, np.eye(4), "close")
    expected = whole @ vectors * np.asarray(found.separation, float)
    assert_close(matrix @ vectors, expected, "close", scale=np.abs(matrix @ vectors).max() + 1)
    flat = mixture.affine(found.matrix, found.offset)
    assert_close(flat.mean, np.zeros(4), "close")
    assert_close(flat.covariance, np.eye(4), "close")
    if share == 1:
        assert np.all(found.separation[2:] < tolerance("close"))
    # Fewer of them are the first ones.
    few = jaxgmm.projection(mixture, means=share)
    assert few.matrix.shape == (2, 4)
    assert_close(few.matrix, found.matrix[:2], "close", scale=np.abs(found.matrix).max())


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_of_two_components_of_one_covariance_the_first_is_fishers(share):
    mixture = made("tied", weights=[0.3, 0.7], means=MEANS[:2])
    (direction,) = np.asarray(jaxgmm.projection(mixture, 1, means=share).matrix, float)
    fisher = np.linalg.solve(COVARIANCES["tied"], MEANS[1] - MEANS[0])
    assert_close(direction / np.linalg.norm(direction), fisher / np.linalg.norm(fisher), "close")


def test_a_linear_map_of_the_rows_changes_nothing():
    mixture = made()
    generator = np.random.default_rng(0)
    found = jaxgmm.projection(mixture, 3)
    x = X[::10]
    expected = x @ np.asarray(found.matrix).T + np.asarray(found.offset)
    maps = [(np.diag([1e3, 1.0, 1e-3, 1.0]), np.zeros(4)), (generator.normal(size=(4, 4)), generator.normal(size=4))]
    for matrix, offset in maps:
        again = jaxgmm.projection(mixture.affine(matrix, offset), 3)
        assert_close(again.separation, found.separation, "close")
        moved = (x @ matrix.T + offset) @ np.asarray(again.matrix, float).T + np.asarray(again.offset)
        assert_close(moved, expected, "close", scale=np.abs(expected).max() * 20)


def test_order_and_sign_are_fixed():
    mixture = made()
    found = jaxgmm.projection(mixture, 3)
    # The first of those far out is on the negative side.
    means = np.asarray(mixture.affine(found.matrix, found.offset).means)
    far = np.abs(means) >= np.abs(means).max(axis=0) / 2
    assert np.all(means[far.argmax(axis=0), np.arange(3)] < 0)
    assert np.all(np.diff(found.separation) < 0)
    # A component that is absent is nowhere, and takes no part.
    far, wide = np.vstack([MEANS, [[90.0] * 4]]), np.concatenate([FULL, 1e3 * FULL[:1]])
    absent = made(weights=[*WEIGHTS, 0.0], means=far, covariances=wide)
    for one in (absent, absent.take([0, 1, 2])):
        again = jaxgmm.projection(one, 3)
        assert_close(again.matrix, found.matrix, "close", scale=np.abs(found.matrix).max())
        assert_close(again.separation, found.separation, "close")


def test_noise_is_no_component_to_tell_apart():
    clusters = jaxgmm.from_parameters([0.4, 0.6], [[0.0, 0.0], [3.0, 1.0]], [[[1.0, 0.2], [0.2, 2.0]]] * 2)
    noisy = jaxgmm.with_noise(clusters, 1e4, weight=0.3)
    found, expected = jaxgmm.projection(noisy, 1), jaxgmm.projection(clusters, 1)
    assert_close(found.matrix, expected.matrix, "close")
    assert_close(found.offset, expected.offset, "close")
    with pytest.raises(ValueError, match="one component"):
        jaxgmm.projection(noisy.take([0, 2]))


def test_covariances_alone_tell_too():
    """Of components at one place, the direction in which one is much wider."""
    wide, narrow = np.diag([1.0, 1.0, 25.0]), np.eye(3)
    mixture = jaxgmm.from_parameters([0.5, 0.5], np.ones((2, 3)), [wide, narrow])
    found = jaxgmm.projection(mixture, 1)
    assert_close(found.matrix, [[0.0, 0.0, 1 / np.sqrt(13)]], "close")
    assert_close(found.separation, [(12 / 13) ** 2], "close")
    assert jaxgmm.projection(mixture, 1, means=1.0).separation[0] < tolerance("exact")


def test_one_column_and_other_families():
    single = jaxgmm.from_parameters([0.5, 0.5], [[1.0], [5.0]], [4.0, 4.0], "spherical")
    found = jaxgmm.projection(single, 1)
    assert_close(found.matrix, [[1 / np.sqrt(8)]], "exact")
    assert_close(found.offset, [-3 / np.sqrt(8)], "exact")
    # Whose covariance is infinite, by what they have as their width.
    tails = StudentT.form("full", nu=2.0)
    labelled = jaxgmm.rows(X, labels=KINDS)
    heavy = jaxgmm.fit(jaxgmm.init(jax.random.key(0), labelled, 3, tails), labelled).mixture
    found = jaxgmm.projection(heavy, 2)
    assert np.all(np.isfinite(found.matrix))
    widths = jaxgmm.from_parameters(heavy.weights, heavy.means, heavy.components.dispersions)
    assert_close(found.matrix, jaxgmm.projection(widths, 2).matrix, "close", scale=10)


def first_two(means, covariances, form):
    return jaxgmm.projection(made(form, means=means, covariances=covariances), 2).matrix


@pytest.mark.skipif(dtype() is np.float32, reason="differences of float32 numbers tell no derivative")
@pytest.mark.parametrize("form", ["full", "tied"])
def test_derivatives_are_those_of_differences(form):
    generator = np.random.default_rng(1)
    covariances = COVARIANCES[form]
    change = generator.normal(size=MEANS.shape), 0.05 * covariances
    moved = jax.jvp(lambda *given: first_two(*given, form), (jnp.asarray(MEANS), jnp.asarray(covariances)), change)[1]
    step = 1e-5
    ends = [first_two(MEANS + s * change[0], covariances + s * change[1], form) for s in (step, -step)]
    assert_close(moved, (ends[0] - ends[1]) / (2 * step), "converged", scale=np.abs(moved).max())
    pulled = jax.grad(lambda means: jnp.sum(first_two(means, covariances, form) * np.arange(8).reshape(2, 4)))(
        jnp.asarray(MEANS)
    )
    forward = jax.jvp(lambda means: first_two(means, covariances, form), (jnp.asarray(MEANS),), change[:1])[1]
    assert_close(jnp.sum(pulled * change[0]), jnp.sum(forward * np.arange(8).reshape(2, 4)), "close", scale=100)


def test_where_directions_tell_the_same_there_is_no_derivative():
    """Two components of one covariance differ in one direction, and all others are alike."""
    means = jnp.asarray(MEANS[:2])

    def total(means, n_columns):
        mixture = made("tied", weights=[0.5, 0.5], means=means)
        return jnp.sum(jaxgmm.projection(mixture, n_columns).matrix)

    assert np.all(np.isfinite(jax.grad(total)(means, 1)))
    assert np.all(np.isnan(jax.grad(total)(means, 2)))


def test_it_composes_and_values_compile_nothing():
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), made(), made(means=MEANS[::-1]))
    both = jax.jit(jax.vmap(jaxgmm.projection))(stack)
    for place, one in enumerate((made(), made(means=MEANS[::-1]))):
        expected = jaxgmm.projection(one)
        assert_close(both.matrix[place], expected.matrix, "close", scale=np.abs(expected.matrix).max())
    with counted() as programs:
        for share in (0.2, 0.7):
            jaxgmm.projection(made(weights=[0.3, 0.3, 0.4]), means=share)
    assert programs == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: jaxgmm.projection(made(), 5), "n_columns is 5, and the mixture has 4"),
        (lambda: jaxgmm.projection(made(), 0), "n_columns"),
        (lambda: jaxgmm.projection(made(weights=[1.0], means=MEANS[:1], covariances=FULL[:1])), "one component"),
        (lambda: jaxgmm.projection(made(weights=[0.0, 1.0, 0.0])), "one component"),
        (lambda: jaxgmm.projection(made(), means=1.5), "means is 1.5; expected a share"),
        (lambda: jaxgmm.projection(made(), means=-0.5), "means"),
        (lambda: jaxgmm.projection(jax.tree.map(lambda leaf: leaf[None], made())), "stack"),
    ],
)
def test_bad_input_gets_one_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()
