"""Marginals, conditionals, moments, affine images and products: against the densities they come from."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxgmm
from jaxgmm.covariance.factor import Factor
from jaxgmm.covariance.table import name_of
from jaxgmm.ground.bounds import positive
from jaxgmm.ground.pytree import Leaf, record

from cases import CASES, COMPOSED, COVARIANCES, GAUSSIANS, MEANS, THIN, WEIGHTS
from compilations import counted
from tolerance import assert_close, dtype, once

ROTATED = np.array([[2.0, 1.0], [0.5, -3.0]])


@pytest.fixture(params=GAUSSIANS, ids=lambda case: case.name)
def gaussian(request):
    return request.param


@pytest.fixture(params=[GAUSSIANS[0], GAUSSIANS[2]], ids=lambda case: case.name)
def dense_or_not(request):
    """One structure of each kind, where the others share the code."""
    return request.param


SIDE = 105


def grid(case):
    """Fewer points than `case.grid`, and still exact to rounding for smooth densities."""
    return case.grid(SIDE)


def same_kind(a, b):
    """But for what a factor has to know of its columns."""
    assert [type(part) for part in parts(a)] == [type(part) for part in parts(b)]


def parts(one):
    """The records within a record, itself among them."""
    inside = (getattr(one, field.name) for field in dataclasses.fields(one))
    return [one, *(part for each in inside if dataclasses.is_dataclass(each) for part in parts(each))]


def test_conditional_is_joint_over_marginal(case):
    mixture = case.mixture()
    (line, lengths), side = case.axis(SIDE), len(case.axis(SIDE)[0])
    line = line[:, None]
    joint = np.asarray(mixture.log_prob(grid(case)[0]), np.float64).reshape(side, side)
    inside = mixture.marginal([-1]).log_prob(line)
    # Sums over a line are exact to rounding, but for long tails.
    assert_close(np.exp(inside), lengths @ np.exp(joint), "close" if case.tails else "exact")
    for place in (side // 3, side // 2):
        conditional = mixture.condition([1], line[place])
        assert_close(conditional.log_prob(line), joint[:, place] - inside[place], "exact", scale=10)
        assert_close(jnp.sum(conditional.weights), 1, "exact")
    # What covariances share they do not share in a part.
    full = GAUSSIANS[0].mixture()
    same_kind(conditional, full if case in (*COMPOSED, THIN) else mixture)
    same_kind(mixture.marginal([1, 0]), full if case in COMPOSED else mixture)


def test_moments_are_those_of_the_density(case):
    mixture = case.mixture()
    points, volume = grid(case)
    mass = np.exp(np.asarray(mixture.log_prob(points), np.float64)) * volume
    mean = mass @ points
    assert_close(mixture.mean, mean, "close")
    assert_close(mixture.covariance, (points - mean).T @ ((points - mean) * mass[:, None]), "close", scale=10)


def test_stacked_mixtures_have_means():
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[GAUSSIANS[2].mixture()] * 3)
    assert_close(stacked.mean, np.tile(GAUSSIANS[2].mixture().mean, (3, 1)), "exact")


@functools.cache
def wide():
    """Four correlated columns, three components, and the same as numpy arrays."""
    rng = np.random.default_rng(0)
    means, roots = rng.normal(size=(3, 4)), rng.normal(size=(3, 4, 6))
    covariances = roots @ roots.transpose(0, 2, 1)
    return jaxgmm.from_parameters(WEIGHTS, means, covariances), means, covariances


def test_several_columns_in_any_order_against_the_schur_complement():
    mixture, means, covariances = wide()
    values = np.array([0.3, -0.7])
    conditional = mixture.condition([3, -4], values)
    given, kept = [3, 0], [1, 2]
    for k in range(3):
        gain = covariances[k][np.ix_(kept, given)] @ np.linalg.inv(covariances[k][np.ix_(given, given)])
        assert_close(conditional.means[k], means[k, kept] + gain @ (values - means[k, given]), "close")
        remains = covariances[k][np.ix_(kept, kept)] - gain @ covariances[k][np.ix_(given, kept)]
        assert_close(conditional.covariances[k], remains, "close")
    marginal = mixture.marginal([2, 0, 1])
    assert_close(marginal.covariances, covariances[:, [2, 0, 1]][:, :, [2, 0, 1]], "close")


def test_affine_changes_variables(gaussian):
    mixture, x = gaussian.mixture(), gaussian.data(50)
    image = mixture.affine(ROTATED, [1.0, -2.0])
    expected = mixture.log_prob(x) - np.log(abs(np.linalg.det(ROTATED)))
    assert_close(image.log_prob(x @ ROTATED.T + np.array([1.0, -2.0])), expected, "exact", scale=10)
    assert_close(image.covariance, ROTATED @ np.asarray(mixture.covariance) @ ROTATED.T, "exact", scale=100)
    kept = image.components.covariance
    assert (type(kept), type(kept.factor)) == (type(mixture.components.covariance), jaxgmm.Tril)


@once
def test_a_projection_of_samples_is_a_sample_of_the_projection():
    mixture, _, _ = wide()
    matrix = np.array([[1.0, 1.0, 0.0, -1.0], [0.0, 2.0, 1.0, 0.5]])
    rows = np.asarray(mixture.sample(jax.random.key(0), 20_000)) @ matrix.T
    image = mixture.affine(matrix)
    error = np.sqrt(np.diag(np.asarray(image.covariance)) / len(rows))
    assert np.all(abs(rows.mean(axis=0) - image.mean) < 4 * error)
    np.testing.assert_allclose(np.cov(rows.T), image.covariance, rtol=0.05, atol=0.05 * np.max(image.covariance))


@pytest.mark.parametrize("offset", [1e5 if dtype() is np.float32 else 1e14, 1e20, -3e30])
def test_an_offset_that_leaves_no_digits_is_refused(offset):
    mixture = jaxgmm.from_parameters(
        [0.5, 0.5, 0.0], [[0.0, 1.3], [4.0, 1.3], [0.0, 0.0]], [1.0, 1.0, 1.0], "spherical"
    )
    with pytest.raises(ValueError, match=r"offset holds .* for row 1, beside which float\d\d rounds the mean"):
        mixture.affine(np.eye(2), [0.0, offset])
    image = jax.jit(lambda offset: mixture.affine(np.eye(2), offset))(jnp.array([0.0, offset]))
    assert image.means.shape == (3, 2)


def test_an_offset_may_be_as_large_as_the_means():
    """What is lost beside it were not digits of theirs."""
    far = jaxgmm.from_parameters([1.0], np.float32([[2e5]]), np.float32([1.0]), "spherical")
    assert_close(far.affine([[1.0]], [-2e5]).means, [[0.0]], "exact")
    assert_close(far.affine([[0.5]], [7.0]).means, [[100007.0]], "exact", scale=1e5)


def test_affine_keeps_digits_that_the_product_would_lose():
    thin = jaxgmm.from_parameters([1.0], [[0.0, 0.0]], [[1.0, 1.0]], "diag")
    # Both rows say nearly the same; A A^T has no Cholesky factor in float32 below 3e-4.
    apart = 10 * np.sqrt(np.finfo(dtype()).eps) / 30
    image = thin.affine([[1.0, 0.0], [1.0, apart]])
    factor = image.components.covariance.factor.scale_tril[0]
    np.testing.assert_allclose(factor, [[1, 0], [1, apart]], rtol=1e-2)


def check_product(p, q, kind):
    x = grid(GAUSSIANS[0])[0][::53]
    log_normalizer, both = jaxgmm.product(p, q)
    assert_close(both.log_prob(x) + log_normalizer, p.log_prob(x) + q.log_prob(x), "exact", scale=20)
    assert both.n_components == 3 * q.n_components
    assert name_of(both.components.covariance) == kind
    pair = 1 * q.n_components + 1  # the second of p with the second of q
    alone = jaxgmm.product(p.take(np.array([1])), q.take(np.array([1])))[1]
    assert_close(both.means[pair], alone.means[0], "exact", scale=10)


def test_product_is_the_product_of_the_densities(gaussian):
    p = gaussian.mixture()
    check_product(p, p.take(np.array([2, 0])), gaussian.name)


def test_product_of_two_structures():
    check_product(GAUSSIANS[1].mixture(), GAUSSIANS[2].mixture(), "full")


def shifted(mixture, offset):
    components = mixture.components
    return jaxgmm.Mixture(mixture.log_weights, type(components)(components.means + offset, components.covariance))


def test_far_from_the_origin(gaussian):
    p = gaussian.mixture()
    q = p.take(np.array([1, 2, 0]))
    far, other = shifted(p, 1e4), shifted(q, 1e4)
    ulp = float(np.spacing(dtype()(1e4)))

    def close(actual, expected):
        np.testing.assert_allclose(np.asarray(actual) - 1e4, expected, atol=4 * ulp)

    close(far.mean, p.mean)
    assert_close(far.covariance, p.covariance, "close", scale=10)
    near, away = p.condition([0], [0.5]), far.condition([0], [1e4 + 0.5])
    close(away.mean, near.mean)
    assert_close(away.covariance, near.covariance, "close", scale=10)
    (constant, near), (other_constant, away) = jaxgmm.product(p, q), jaxgmm.product(far, other)
    assert_close(other_constant, constant, "exact", scale=100)
    close(away.means, near.means)
    assert_close(away.weights, near.weights, "exact", scale=10)


@jax.jit
@functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
def answer(mixture, value):
    given = mixture.condition([0], value[None])
    return jnp.sum(given.log_weights) * 1e-6 + jnp.sum(given.means) + jnp.sum(given.covariances), given


@pytest.mark.parametrize("value", [30.0, 1e3, 1e18, 1e30])
def test_far_out_there_is_an_answer_with_a_derivative(gaussian, value):
    mixture = gaussian.mixture()
    (_, given), gradients = answer(mixture, jnp.asarray(value, dtype()))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((given, gradients)))
    if value == 1e30 and dtype() is np.float32:
        assert_close(given.weights, mixture.weights, "exact")


def test_mixtures_that_hardly_overlap_have_a_product():
    p = CASES[0].mixture()
    for offset in (1e3, 1e18):
        log_normalizer, both = jaxgmm.product(p, shifted(p, offset))
        assert log_normalizer < -1e4
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(both))


def test_absent_components_stay_absent(dense_or_not):
    p = dense_or_not.mixture()
    absent = jaxgmm.Mixture(jnp.log(jnp.array([0.4, 0.0, 0.6])), p.components)
    without = absent.take(np.array([0, 2]))
    for inside, outside in (
        (absent.condition([0], [1.0]), without.condition([0], [1.0])),
        (jaxgmm.product(absent, p)[1], jaxgmm.product(without, p)[1]),
    ):
        present = inside.log_weights > -jnp.inf
        assert int(jnp.sum(present)) == outside.n_components
        assert_close(inside.log_weights[present], outside.log_weights, "exact", scale=10)
    assert_close(absent.mean, without.mean, "exact", scale=10)
    gradient = jax.grad(lambda mixture: jaxgmm.product(mixture, p)[0])(absent)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_gradients_agree_with_finite_differences(dense_or_not):
    flat, rebuild = ravel_pytree((dense_or_not.mixture().unconstrain(), jnp.array([0.7]), jnp.asarray(ROTATED[:1])))

    @jax.jit
    @jax.value_and_grad
    def value(flat):
        free, given, matrix = rebuild(flat)
        mixture = free.constrain()
        log_normalizer, both = jaxgmm.product(mixture, mixture.take(np.array([1, 0])))
        outputs = mixture.condition([1], given), mixture.affine(matrix), both, mixture.covariance
        return log_normalizer + sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(outputs))

    direction = jax.random.normal(jax.random.key(3), flat.shape)
    step = 3e-6 if dtype() is np.float64 else 1e-3
    expected = (value(flat + step * direction)[0] - value(flat - step * direction)[0]) / (2 * step)
    scale = 100 if dtype() is np.float64 else 40
    assert_close(value(flat)[1] @ direction, expected, "close", scale=scale)


def test_values_in_batches_and_nothing_compiled_twice(gaussian):
    mixture = gaussian.mixture()

    def regression(mixture, values):
        given = jax.vmap(lambda value: mixture.condition([0], [value]))(values)
        return given.mean[:, 0], jax.vmap(lambda one: one.covariance)(given)

    together = jax.jit(regression)
    mean, covariance = together(mixture, jnp.arange(4.0))
    alone = mixture.condition([0], [2.0])
    assert_close(mean[2], alone.mean[0], "exact", scale=10)
    assert_close(covariance[2], alone.covariance, "exact", scale=10)
    jaxgmm.product(mixture, mixture)
    mixture.affine(ROTATED, [0.0, 1.0])
    mixture.marginal([1])
    other = shifted(mixture, 1.0)
    with counted() as again:
        together(other, jnp.arange(4.0))
        other.condition([0], [-3.0])
        jaxgmm.product(other, mixture)
        other.affine(2 * ROTATED, [3.0, 1.0])
        other.marginal([1])
    assert again == []


@record
class Plain(jaxgmm.Scales):
    """A factor that brings nothing of its own beyond what a fit needs."""

    scale: Leaf = positive()
    marginal = Factor.marginal
    condition = Factor.condition
    plus = Factor.plus
    fuse = Factor.fuse
    relative_entropy = Factor.relative_entropy
    squared_bures = Factor.squared_bures


def test_classes_with_the_same_fields_are_told_apart():
    """`jit` looks programs up by this; equal structures once made it take the program of another class."""
    one, other = (jax.tree.structure(kind(jnp.ones((3, 2)))) for kind in (jaxgmm.Scales, Plain))
    assert one != other


def test_a_factor_without_own_ways_becomes_a_cholesky_factor():
    diagonal = jaxgmm.from_parameters(WEIGHTS, MEANS, COVARIANCES["diag"], "diag")
    components = diagonal.components
    factor = jaxgmm.Each(Plain(components.covariance.factor.scale))
    plain = jaxgmm.Mixture(diagonal.log_weights, jaxgmm.Gaussian(components.means, factor))
    for verb in (
        lambda m: m.marginal([1]),
        lambda m: m.condition([0], [0.5]),
        lambda m: m.affine(ROTATED),
        lambda m: jaxgmm.product(m, m)[1],
    ):
        assert name_of(verb(plain).components.covariance) == "full"
        for name in ("weights", "means", "covariances"):
            assert_close(getattr(verb(plain), name), getattr(verb(diagonal), name), "exact", scale=10)
    for table in (jaxgmm.bures_distance, lambda p, q: p.components.relative_entropy(q.components)):
        assert_close(table(plain, plain), table(diagonal, diagonal), "close")


MIXTURE = CASES[0].mixture()
POISSON = CASES[-1].mixture()


@once
@pytest.mark.parametrize(
    ("call", "exception", "message"),
    [
        (lambda: MIXTURE.marginal([]), ValueError, "columns is empty; expected at least one of the mixture's 2"),
        (lambda: MIXTURE.marginal([2]), ValueError, "columns holds 2; expected 0 to 1, or -2 to -1"),
        (lambda: MIXTURE.marginal([1, -1]), ValueError, r"columns is \[1, -1\], which names column 1 more than once"),
        (lambda: MIXTURE.marginal(0), TypeError, "columns is 0; expected whole numbers in a sequence"),
        (lambda: MIXTURE.marginal([0.5]), TypeError, r"columns is \[0.5\]; expected whole numbers"),
        (lambda: jax.jit(lambda c: MIXTURE.marginal(c))(jnp.array([0])), TypeError, "columns is traced"),
        (lambda: MIXTURE.condition([0, 1], [1.0, 2.0]), ValueError, "columns names all 2 columns.*log_prob"),
        (
            lambda: MIXTURE.condition([0], [1.0, 2.0]),
            ValueError,
            r"values has shape \(2,\); expected \(1,\), one for each of the columns \[0\]",
        ),
        (lambda: MIXTURE.condition([0], [np.nan]), ValueError, r"values is \[nan\]; expected finite"),
        (lambda: MIXTURE.affine([[1.0, 0.0, 0.0]]), ValueError, r"matrix has shape \(1, 3\); expected 2 columns"),
        (lambda: MIXTURE.affine(np.ones((3, 2))), ValueError, r"matrix has shape \(3, 2\).*no more rows"),
        (lambda: MIXTURE.affine([[1.0, 2.0], [2.0, 4.0]]), ValueError, "matrix has rows that depend on each other"),
        (lambda: MIXTURE.affine([[1e-9, 0.0], [0.0, 0.0]]), ValueError, "matrix has rows that depend on each other"),
        (lambda: MIXTURE.affine([[1.0, 2.0]], [1.0, 2.0]), ValueError, r"offset has shape \(2,\); expected \(1,\)"),
        (lambda: jaxgmm.product(MIXTURE, 3), TypeError, "q is of type int; expected a jaxgmm.Mixture"),
        (lambda: jaxgmm.product(MIXTURE, MIXTURE.marginal([0])), ValueError, "p has 2 columns and q has 1"),
        (lambda: jaxgmm.product(MIXTURE, POISSON), TypeError, "p has Gaussian components and q has Poisson"),
        (lambda: POISSON.affine(ROTATED), NotImplementedError, "Poisson components have no affine"),
    ],
)
def test_bad_input_gets_one_clear_error(call, exception, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # the library's own words, not the type checker's
    with pytest.raises(exception, match=f"(?s){message}"):
        call()


def test_rows_are_independent_in_the_units_of_the_columns():
    small = np.finfo(dtype()).eps / 10
    wide = MIXTURE.affine([[1.0, 0.0], [0.0, 1 / small]])
    image = wide.affine([[1.0, 0.0], [1.0, small]])
    assert_close(image.means[:, 1], np.sum(MEANS, axis=1), "exact", scale=10)
    with pytest.raises(ValueError, match="depend on each other"):
        MIXTURE.affine([[1.0, 0.0], [1.0, small]])


def test_moments_of_stacks(gaussian):
    one = gaussian.mixture()
    stack = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]).reshape(1, 2, *leaf.shape), one)
    for name in ("weights", "means", "covariances", "mean", "covariance", "n_parameters"):
        assert_close(getattr(stack, name)[0, 1], getattr(one, name), "exact")
    assert stack.covariances.shape == (1, 2, *one.covariances.shape)
