"""Covariances shrunk for few rows: scikit-learn's own, units, blocks, components without rows, derivatives, gains."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf, oas

import jaxgmm
from jaxgmm.sklearn import MixtureClassifier

from compilations import counted
from tolerance import assert_close, dtype, once, tolerance

METHODS = {"oas": oas, "ledoit-wolf": ledoit_wolf}
TARGET = np.array([3.0, 1.0, 0.5, 2.0])


def table(n, d, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 3).astype(dtype())


def one(x):
    """One component at the mean of rows."""
    return jaxgmm.from_parameters([1.0], x.mean(axis=0)[None], [2.0], "spherical")


def two(form="full"):
    """Two components that overlap, and rows of them."""
    x = jnp.asarray(np.concatenate([table(9, 4), table(12, 4, 1) + 4]))
    return jaxgmm.init(jax.random.key(0), x, 2, form), x


def by_hand(x, shares, mean, method, scale):
    """The covariance of one component and its intensity, in float64 and from sums written out."""
    z = (np.asarray(x, float) - np.asarray(mean, float)) / np.asarray(scale, float)
    shares, d = np.asarray(shares, float), z.shape[1]
    n = shares.sum()
    s = np.einsum("i,ij,il->jl", shares, z, z) / n
    mean_variance = np.trace(s) / d
    excess = np.sum((s - mean_variance * np.eye(d)) ** 2)
    if method == "oas":
        rho = min(1, (np.sum(s**2) + np.trace(s) ** 2) / ((n + 1) * excess))
    else:
        spread = np.einsum("ij,il->ijl", z, z) - s
        rho = min(1, np.einsum("i,ijl->", shares, spread**2) / n**2 / excess)
    found = (1 - rho) * s + rho * mean_variance * np.eye(d)
    return found * np.outer(scale, scale), rho


@pytest.mark.parametrize("method", METHODS)
def test_one_component_is_what_scikit_learn_finds(method):
    for n, d in ((30, 5), (6, 12)):
        x = table(n, d)
        found = jaxgmm.shrunk(one(x), x, method=method, scale=np.ones(d))
        covariance, intensity = METHODS[method]((x - x.mean(axis=0)).astype(np.float64), assume_centered=True)
        limit = 1e-10 if dtype() is np.float64 else tolerance("exact")
        np.testing.assert_allclose(
            found.mixture.covariances[0], covariance, rtol=limit, atol=limit * np.max(covariance)
        )
        np.testing.assert_allclose(found.intensity, [intensity], rtol=limit)
        assert 0 < intensity < 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("form", ["full", "tied", "diag"])
def test_rows_are_those_that_a_component_is_responsible_for(method, form):
    mixture, x = two(form)
    weights = np.linspace(0, 2, len(x)).astype(dtype())
    shares = mixture.responsibilities(x) * weights[:, None]
    scale = jaxgmm.scale_of(x, weights)
    found = jaxgmm.shrunk(mixture, x, weights, method=method)
    for k in range(2):
        covariance, intensity = by_hand(x, shares[:, k], mixture.means[k], method, scale)
        assert_close(found.mixture.covariances[k], covariance, "close", np.max(covariance))
        assert_close(found.intensity[k], intensity, "close")
    assert np.array_equal(found.mixture.means, mixture.means)
    assert np.array_equal(found.mixture.weights, mixture.weights)
    # Two weights, of which one is free, and of each component a mean and an unrestricted covariance.
    assert found.mixture.n_parameters == 1 + 2 * (4 + 10)


def test_units_do_not_matter_and_weights_count_rows():
    mixture, x = two()
    stretched = mixture.affine(np.diag(TARGET), np.full(4, 5.0))
    plain, other = jaxgmm.shrunk(mixture, x), jaxgmm.shrunk(stretched, x * TARGET + 5)
    assert_close(other.intensity, plain.intensity, "close")
    assert_close(other.mixture.covariances, plain.mixture.affine(np.diag(TARGET)).covariances, "close", 10)
    counts = np.arange(len(x)) % 3
    for method in METHODS:
        weighted = jaxgmm.shrunk(mixture, x, counts, method=method, scale=TARGET)
        repeated = jaxgmm.shrunk(mixture, jnp.repeat(x, counts, axis=0), method=method, scale=TARGET)
        assert_close(weighted.intensity, repeated.intensity, "close")
        assert_close(weighted.mixture.covariances, repeated.mixture.covariances, "close", 10)


@pytest.mark.parametrize("method", METHODS)
def test_positive_definite_whatever_the_rows(method):
    """Fewer rows than columns, two rows, rows that are equal, and a component that no row belongs to."""
    x = jnp.asarray(table(5, 8))
    two_rows, equal = jnp.concatenate([x[:2], x[:2]])[:4], jnp.broadcast_to(x[0], (4, 8))
    # All lie at one mean, and one component is a hundred thousand deviations away.
    apart = jaxgmm.from_parameters([0.5, 0.5], [[0.0] * 8, [1e5] * 8], [4.0, 4.0], "spherical")
    for rows in (x[:4], two_rows, equal):
        centred = rows - rows.mean(axis=0)
        found = jaxgmm.shrunk(apart, centred, method=method, scale=np.ones(8))
        roots = np.linalg.eigvalsh(np.asarray(found.mixture.covariances[0], float))
        assert np.all(roots > 0.9e-6)
        assert jnp.all(jnp.isfinite(found.mixture.log_prob(centred)))
        assert np.array_equal(found.mixture.covariances[1], apart.covariances[1])
        assert 0 <= found.intensity[0] <= 1
        assert found.intensity[1] == 0
    # Products of two rows about their mean are equal: nothing says how uncertain they are.
    pair = jnp.concatenate([x[:2] - x[:2].mean(axis=0)] * 2)
    few = jaxgmm.shrunk(apart, pair, [1.0, 1.0, 0.0, 0.0], method=method, scale=np.ones(8))
    assert few.intensity[0] > 0.5 if method == "oas" else few.intensity[0] < tolerance("close")


def test_a_component_far_narrower_than_the_data_keeps_its_digits():
    x = table(7, 3)
    away = np.asarray(x - x.mean(axis=0), float)
    for method in METHODS:
        narrow = jaxgmm.from_parameters([1.0], np.zeros((1, 3)), [1e-18], "spherical")
        found = jaxgmm.shrunk(narrow, away * 1e-9, method=method, scale=np.ones(3), regularization=0)
        wide = jaxgmm.shrunk(one(x), x, method=method, scale=np.ones(3))
        assert_close(found.intensity, wide.intensity, "close")
        assert_close(found.mixture.covariances * 1e18, wide.mixture.covariances, "close", 10)


def test_blocks_and_known_components_and_noise():
    rng = np.random.default_rng(2)
    x = jnp.asarray(rng.normal(size=(6000, 3)) * [1, 2, 3] + rng.integers(0, 2, (6000, 1)) * 9, dtype())
    labels = np.where(np.arange(6000) % 2 == 0, np.asarray(x[:, 0] > 4.5).astype(int), -1)
    mixture = jaxgmm.with_noise(jaxgmm.init(jax.random.key(1), x, 2, "diag"))
    rows = jaxgmm.rows(x, labels=labels)
    found = jaxgmm.shrunk(mixture, rows, method="ledoit-wolf")
    shares = mixture.responsibilities(rows)
    for k in range(2):
        covariance, intensity = by_hand(x, shares[:, k], mixture.means[k], "ledoit-wolf", jaxgmm.scale_of(x))
        assert_close(found.mixture.covariances[k], covariance, "close", 10)
        assert_close(found.intensity[k], intensity, "close")
    assert found.intensity.shape == (2,)
    assert found.mixture.noise_component == 2
    assert np.array_equal(found.mixture.components.widths, mixture.components.widths)


def test_under_transformations():
    mixture, x = two("diag")

    def of(x):
        found = jaxgmm.shrunk(mixture, x, scale=TARGET)
        return jnp.sum(found.mixture.covariances * jnp.arange(4)) + jnp.sum(found.intensity)

    many = jax.jit(jax.vmap(of))(jnp.stack([x, x + 0.1]))
    assert_close(many, [of(x), of(x + 0.1)], "close", 10)
    slope = jax.grad(of)(x)
    way = jnp.asarray(table(len(x), 4, 3))
    step = 1e-5 if dtype() is np.float64 else 3e-2
    rise = (of(x + step * way) - of(x - step * way)) / (2 * step)
    assert_close(jnp.sum(slope * way), rise, "converged", 10)
    alone = jax.grad(lambda x: jnp.sum(jaxgmm.shrunk(mixture, x, method="ledoit-wolf").mixture.covariances))(x[:2])
    assert jnp.all(jnp.isfinite(alone))


@once
def test_other_values_compile_nothing():
    mixture, x = two("diag")
    moved = x + 1
    jaxgmm.shrunk(mixture, x, np.ones(len(x)), scale=TARGET)
    with counted() as programs:
        jaxgmm.shrunk(mixture, moved, np.arange(len(x)), scale=TARGET * 2, regularization=1e-3)
    assert programs == []


@once
def test_what_cannot_be():
    mixture, x = two()
    with pytest.raises(ValueError, match="method is 'shrink'; expected one of 'oas', 'ledoit-wolf'"):
        jaxgmm.shrunk(mixture, x, method="shrink")
    with pytest.raises(NotImplementedError, match=r"StudentT components .* shrunk"):
        jaxgmm.shrunk(jaxgmm.init(jax.random.key(0), x, 2, jaxgmm.StudentT.form("full", nu=4)), x)
    with pytest.raises(NotImplementedError, match="shrunk takes no rows with gaps"):
        jaxgmm.shrunk(mixture, jaxgmm.rows(x, missing=np.arange(x.size).reshape(x.shape) == 3))
    with pytest.raises(NotImplementedError, match="shrunk takes no rows with noise"):
        jaxgmm.shrunk(mixture, jaxgmm.rows(x, noise=np.ones(x.shape)))
    with pytest.raises(ValueError, match="scale has shape"):
        jaxgmm.shrunk(mixture, x, scale=np.ones(3))


@once
@pytest.mark.parametrize("method", METHODS)
def test_other_rows_are_more_likely_than_under_what_few_say(method):
    rng = np.random.default_rng(5)
    root = rng.normal(size=(10, 10)) / 3 + np.eye(10)
    few, others = (rng.normal(size=(n, 10)) @ root.T for n in (15, 2000))
    plain = jaxgmm.fit(jaxgmm.init(jax.random.key(0), few, 1), few).mixture
    gain = jaxgmm.shrunk(plain, few, method=method).mixture.log_prob(others) - plain.log_prob(others)
    assert jnp.mean(gain) > 1
    assert jaxgmm.log_likelihood(jaxgmm.shrunk(plain, few).mixture, few) < jaxgmm.log_likelihood(plain, few)


def classes(n, seed=0):
    """Three classes of rows in ten columns, that differ in their means and, less, in their covariances."""
    rng = np.random.default_rng(7)
    means, roots = rng.normal(size=(3, 10)) * 0.9, rng.normal(size=(3, 10, 10)) / 10 + np.eye(10)
    y = np.arange(n) % 3
    noise = np.random.default_rng(seed).normal(size=(n, 10))
    return (means[y] + np.einsum("nij,nj->ni", roots[y], noise)) * np.geomspace(1e-3, 1e3, 10), y


@once
@pytest.mark.parametrize("shared", [False, True])
def test_a_classifier_errs_less_with_few_rows(shared):
    x, y = classes(42)
    others, kinds = classes(3000, 1)
    wrong = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for shrinkage in (None, *METHODS):
            found = MixtureClassifier(shrinkage=shrinkage, shared=shared).fit(x, y)
            wrong[shrinkage] = np.mean(found.predict(others) != kinds)
    assert max(wrong["oas"], wrong["ledoit-wolf"]) < 0.6 * wrong[None]
    # One component each: covariances are those of shrunk, in the scale of all rows.
    with jax.enable_x64(True):
        mine = x[y == 1]
        fitted = jaxgmm.from_parameters([1.0], mine.mean(axis=0)[None], [1.0], "spherical")
        expected = jaxgmm.shrunk(fitted, mine, method="ledoit-wolf", scale=jaxgmm.scale_of(x)).mixture
        np.testing.assert_allclose(found.mixtures_[1].covariances, expected.covariances, rtol=1e-6)
    many, of = classes(6000, 2)
    plain, drawn = (MixtureClassifier(shrinkage=method, shared=shared).fit(many, of) for method in (None, "oas"))
    assert abs(drawn.score(others, kinds) - plain.score(others, kinds)) < 0.005
    assert drawn.bic_ == plain.bic_


@once
def test_a_classifier_of_fewer_rows_than_columns():
    x, y = classes(15)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        few = MixtureClassifier([1, 2], forms=["full", "diag"], shrinkage="oas", random_state=0).fit(x, y)
    others, kinds = classes(3000, 1)
    assert few.score(others, kinds) > 0.5
    with pytest.raises(NotImplementedError, match=r"StudentT components .* shrunk"):
        MixtureClassifier(forms=jaxgmm.StudentT.form("full", nu=4), shrinkage="oas").fit(x, y)
    with pytest.raises(NotImplementedError, match="shrinkage takes no rows with gaps"):
        MixtureClassifier(missing="em", shrinkage="oas").fit(np.where(x == x[3, 2], np.nan, x), y)
    with pytest.raises(ValueError, match="shrinkage"):
        MixtureClassifier(shrinkage="auto").fit(x, y)
