"""Covariances that share volume, shape or orientation."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import Posterior, Status
from jaxgmm.covariance.oriented import _rounds
from jaxgmm.covariance.table import LETTERS
from jaxgmm.families.table import forms_of
from jaxgmm.ground import linalg

from compilations import counted
from tolerance import assert_close, dtype, tolerance

KEY = jax.random.key(5)
NAMES = ("VEI", "EVI", "VEE", "EVV", "EEV", "VEV", "EVE", "VVE")
N, K, D = 300, 3, 4


@functools.cache
def data():
    """Three groups of different volumes, shapes and axes."""
    rng = np.random.default_rng(3)
    groups = []
    for k in range(K):
        axes, _ = np.linalg.qr(rng.normal(size=(D, D)))
        scale = np.exp(rng.normal(scale=0.7, size=D) + 0.5 * k)
        groups.append(rng.normal(size=(N // K, D)) * scale @ axes.T + 4 * rng.normal(size=D))
    return np.concatenate(groups)


def start(name, x):
    """Rough groups, in which neither shapes nor axes are those of the data."""
    labels = np.repeat(np.arange(K), N // K)
    return jaxgmm.from_responsibilities(x, 0.7 * np.eye(K)[labels] + 0.1, name)


def parts(mixture):
    """Volumes (k,), shapes (k, d), sorted, and axes (k, d, d) of the covariances, from the matrices alone."""
    values, axes = np.linalg.eigh(np.asarray(mixture.covariances, np.float64))
    volumes = np.exp(np.mean(np.log(values), axis=1))
    return volumes, values / volumes[:, None], axes


def rows_of(kind, x):
    if kind == "gaps":
        return jaxgmm.rows(x, missing=np.random.default_rng(1).random(x.shape) < 0.1)
    return jaxgmm.rows(x)


@pytest.mark.parametrize("objective", [None, Posterior()], ids=["likelihood", "MAP"])
@pytest.mark.parametrize("kind", ["plain", "gaps"])
@pytest.mark.parametrize("name", NAMES)
def test_laws(name, kind, objective):
    """What is climbed never falls, its gradient is 0 at the end, and the covariances share what their name says."""
    x = jnp.asarray(data())
    rows = rows_of(kind, x)
    result = jaxgmm.fit(start(name, x), rows, objective=objective, tol=0, max_iter=3000)
    assert int(result.status) == Status.CONVERGED
    history = np.asarray(result.history)
    assert np.all(np.diff(history[~np.isnan(history)]) >= 0)
    volumes, shapes, axes = parts(result.mixture)
    near = {"rtol": 30 * np.sqrt(np.finfo(dtype()).eps)}
    if name[0] == "E":
        np.testing.assert_allclose(volumes, volumes[0], **near)
    if name[1] == "E":
        np.testing.assert_allclose(shapes, shapes[:1].repeat(K, 0), **near)
    if name[2] == "E":
        turn = np.einsum("kij,il->kjl", axes, axes[0])
        # Axes of shapes of their own may come in any order.
        turn = np.sort(np.abs(turn), axis=1)[:, :-1] if name[1] == "V" else turn * (1 - np.eye(D))
        assert np.max(np.abs(turn)) < 30 * np.sqrt(np.finfo(dtype()).eps)
    if name[2] == "I":
        assert not np.any(np.asarray(result.mixture.covariances) * (1 - np.eye(D)))
    if objective is None:
        free = result.mixture.unconstrain()

        def value(coordinates):
            return jaxgmm.log_likelihood(dataclasses.replace(free, coordinates=coordinates).constrain(), rows) / N

        slopes = jax.grad(value)(free.coordinates)
        # As large as it can be where rounding hides what a step gains.
        limit = 3 * np.sqrt(2 * 4 * 60 * np.finfo(dtype()).eps / np.sqrt(N))
        assert max(float(jnp.max(jnp.abs(leaf))) for leaf in slopes.values()) < limit


@pytest.mark.parametrize("name", LETTERS)
def test_parameters_are_counted_as_by_volume_shape_and_orientation(name):
    for d in (1, 2, 5):
        blank = jaxgmm.Gaussian.form(name).blank(K, jnp.zeros(d), jnp.ones(d))
        one, axes = {"I": 0, "E": 1, "V": K}, d * (d - 1) // 2
        expected = one[name[0]] + one[name[1]] * (d - 1) + one[name[2]] * axes
        assert blank.n_parameters(K) - K * d == expected


def test_letters_are_names():
    for letters, name in LETTERS.items():
        assert jaxgmm.Gaussian.form(letters) == jaxgmm.Gaussian.form(name)
    assert str(jaxgmm.StudentT.form("EEE", nu=4)) == "StudentT(tied, nu=4)"


@pytest.mark.parametrize("name", NAMES)
def test_the_floor_binds_inside_of_the_form(name):
    """A floor above what many directions have: no step but the first falls, and nothing is ever below it."""
    x, floor = jnp.asarray(data()), 0.15
    result = jaxgmm.fit(start(name, x), x, regularization=floor, tol=0, max_iter=500)
    assert int(result.status) == Status.DEGENERATE
    history = np.asarray(result.history)
    assert np.all(np.diff(history[1:][~np.isnan(history[1:])]) >= 0)
    units = np.asarray(jaxgmm.scale_of(x)) * np.sqrt(floor)
    if name in ("EEV", "VEV", "EVE", "VVE"):
        units = np.full(D, np.sqrt(np.mean(units**2)))
    covariances = np.asarray(result.mixture.covariances, np.float64) / units[:, None] / units
    least = np.linalg.eigvalsh(covariances).min(axis=1)
    assert np.all(least > 1 - tolerance("close"))
    np.testing.assert_array_equal(result.degenerate_components, least < 1.002)
    volumes = parts(result.mixture)[0]
    if name[0] == "E":
        np.testing.assert_allclose(volumes, volumes[0], rtol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_absent_components_change_nothing(name):
    x = jnp.asarray(data())
    two = start(name, x).take([0, 1])
    weights = jnp.concatenate([two.log_weights, jnp.array([-jnp.inf])])
    three = jaxgmm.Mixture(weights, two.components.take(np.array([0, 1, 1])))
    short = {"tol": 0, "max_iter": 4, "acceleration": None}
    alone, beside = jaxgmm.fit(two, x, **short), jaxgmm.fit(three, x, **short)
    assert_close(beside.log_likelihood, alone.log_likelihood, "exact", scale=10)
    assert beside.mixture.n_parameters == alone.mixture.n_parameters


@pytest.mark.parametrize("name", NAMES)
def test_rows_too_few_for_their_covariances(name):
    """Scatters of rank one and less: covariances on the floor, and no NaN."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(100, 3))[:4] * [1.0, 2.0, 0.5])
    result = jaxgmm.fit(jaxgmm.init(KEY, x, 2, name), x)
    assert int(result.status) in (Status.CONVERGED, Status.DEGENERATE)
    assert np.isfinite(float(result.log_likelihood))
    assert np.all(np.linalg.eigvalsh(np.asarray(result.mixture.covariances, np.float64)) > 0)
    same = jnp.ones((20, 3), x.dtype)
    alone = jaxgmm.fit(jaxgmm.init(KEY, same, 2, name), same)
    assert int(alone.status) == Status.DEGENERATE
    assert np.isfinite(float(alone.log_likelihood))


@pytest.mark.parametrize("name", NAMES)
def test_what_has_no_volume_is_no_failure(name):
    """A column that is constant, fewer rows than columns, or as many components as rows: all of it finite, and told."""
    random = np.random.default_rng(1)
    constant = random.normal(size=(40, 3)) + np.repeat([0, 5], 20)[:, None]
    constant[:, 1] = 7
    few = random.normal(size=(5, 8))
    alone = np.random.default_rng(5).normal(size=(3, 3))
    for x, k in ((constant, 2), (few, 2), (alone, 3)):
        found = jaxgmm.fit(jaxgmm.init(KEY, x, k, name), x)
        assert found.status in (Status.DEGENERATE, Status.CONVERGED)
        assert found.status == Status.DEGENERATE or x is few  # a shared volume may have rows enough
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(found.mixture))


@pytest.mark.parametrize("name", ["VEI", "EVI", "VEE", "EVV"])
def test_units_of_columns_do_not_matter(name):
    x = np.random.default_rng(1).normal(size=(120, 3)) + np.repeat([0, 4], 60)[:, None]
    units = np.array([1e-12, 1, 1e12])
    plain, scaled = (jaxgmm.fit(jaxgmm.init(KEY, one, 2, name), one) for one in (x, x * units))
    assert scaled.status == Status.CONVERGED
    assert_close(scaled.mixture.means / units, plain.mixture.means, "converged")
    assert_close(scaled.log_likelihood, plain.log_likelihood, "converged", scale=abs(float(plain.log_likelihood)))


def test_every_two_axes_meet_once():
    for d in (1, 2, 3, 6, 7):
        met = [tuple(sorted((a, int(b)))) for partner in _rounds(d) for a, b in enumerate(partner) if a != b]
        assert sorted(met) == sorted(2 * [(a, b) for a in range(d) for b in range(a + 1, d)])


def test_eigenvectors_have_derivatives_where_eigenvalues_coincide():
    def rebuilt(matrix):
        values, vectors = linalg.eigh(matrix)
        return (vectors * values**2) @ vectors.T

    for matrix in (
        jnp.diag(jnp.array([1.0, 1.0, 3.0])),
        jnp.array([[2.0, 0.3, 0.1], [0.3, 1.0, 0.2], [0.1, 0.2, 3.0]]),
    ):
        change = jnp.array([[0.2, 0.1, 0.0], [0.1, -0.3, 0.5], [0.0, 0.5, 0.1]])
        found = jax.jvp(rebuilt, (matrix,), (change,))[1]
        if matrix[0, 1] == 0:  # within the pair that coincides, nothing is said
            change = change.at[0, 1].set(0).at[1, 0].set(0)
            found = found.at[0, 1].set(0).at[1, 0].set(0)
        assert_close(found, matrix @ change + change @ matrix, "close")


@pytest.mark.skipif(dtype() is np.float32, reason="differences of two fits in float32 are roundings")
@pytest.mark.parametrize("name", ["EVV", "VVE"])
def test_a_fit_has_derivatives(name):
    """By the implicit function theorem and by a difference of two fits."""
    x = jnp.asarray(data())
    begin = jaxgmm.fit(start(name, x), x, tol=0, max_iter=2000).mixture
    direction = jax.random.normal(KEY, x.shape, x.dtype)

    def covariance(step):
        fitted = jaxgmm.fit(begin, x + step * direction, tol=0, max_iter=2000).mixture
        return jnp.log(jnp.linalg.det(fitted.covariances[0])) + fitted.covariances[1, 0, 1]

    step = 1e-4
    _, slope = jax.jvp(covariance, (0.0,), (1.0,))
    expected = (covariance(step) - covariance(-step)) / (2 * step)
    np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("form", ["EVE", "VVE"])
def test_axes_that_all_have_are_found_where_covariances_differ_in_what_is_along_them_alone(form):
    """Neither their sum nor their variances tell the axes."""
    covariances = np.array([[[1.0, 0.5], [0.5, 1.0]], [[1.0, -0.5], [-0.5, 1.0]]])
    mixture = jaxgmm.from_parameters([0.5, 0.5], np.zeros((2, 2)), covariances, form)
    assert_close(mixture.covariances, covariances, "exact")


def test_other_matrices_of_a_form_compile_nothing():
    first, second = (np.stack([scale * np.diag([4.0, 1.0]), np.diag([1.0, 4.0]) * scale]) for scale in (1.0, 2.5))
    jaxgmm.from_parameters([0.5, 0.5], np.zeros((2, 2)), first, "EEV")
    with counted() as programs:
        found = jaxgmm.from_parameters([0.3, 0.7], np.ones((2, 2)), second, "EEV")
    assert programs == []
    assert_close(found.covariances, second, "close")


def test_all_models_are_those_of_the_widest_table(monkeypatch):
    """Of one column there are two; of several tables, the first may have one."""
    one = jaxgmm.select_many(KEY, [data()[:, :1]], [1], "mclust", n_restarts=1, max_iter=2)
    assert one.forms == ("tied-spherical", "spherical")
    tried = []

    def first_two(given, n_columns):
        tried.extend(forms_of(given, n_columns))
        return tried[:2]

    # Which they are, without a program for each.
    monkeypatch.setattr("jaxgmm.selection.select_many.forms_of", first_two)
    jaxgmm.select_many(KEY, [data()[:, :1], data()[:, :2]], [1], "mclust", n_restarts=1, max_iter=2)
    assert len(tried) == len(LETTERS)


def test_covariances_that_are_not_of_a_form_are_refused():
    covariances = np.stack([np.eye(2), np.diag([4.0, 1.0])])
    with pytest.raises(ValueError, match=r"share less than form 'VEE' says.*component"):
        jaxgmm.from_parameters([0.5, 0.5], np.zeros((2, 2)), covariances, "VEE")
    with pytest.raises(ValueError, match="positive definite"):
        jaxgmm.from_parameters([0.5, 0.5], np.zeros((2, 2)), -covariances, "VEV")


def test_parts_that_cannot_be_known_apart_are_refused():
    x = jnp.asarray(data())
    with pytest.raises(NotImplementedError, match="Variational"):
        jaxgmm.fit(start("VEV", x), x, objective=jaxgmm.Variational())
    with pytest.raises(NotImplementedError, match="cannot be changed one by one"):
        jaxgmm.fit(start("VEV", x), x, objective=jaxgmm.Bounded(most=1.0))
    with pytest.raises(NotImplementedError, match=r"Gaussian\(VEV\).*held apart"):
        jaxgmm.fit(start("VEV", x), x, objective=jaxgmm.Frozen(start("VEV", x), covariances=True))
    held = jaxgmm.Frozen(start("VEV", x), means=[True, False, False])
    fitted = jaxgmm.fit(start("VEV", x), x, objective=held).mixture
    assert_close(fitted.means[0], start("VEV", x).means[0], "exact")
