"""Acceleration and the stopping rule: fewer passes, the same fixed points, and an honest end."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import Status
from jaxgmm.fitting.acceleration import _ritz

from cases import COVARIANCES, WEIGHTS
from compilations import counted
from tolerance import assert_close, dtype, once

KEY = jax.random.key(3)
in_float64 = pytest.mark.skipif(dtype() is not np.float64, reason="gains this small are rounded away in float32")


def overlapping(n=400, d=2, k=3):
    generator = np.random.default_rng(1)
    return generator.normal(size=(n, d)) + 2.5 * np.eye(k, d)[np.arange(n) % k]


def steps_until(result, goal):
    history = np.asarray(result.history)[: int(result.n_iter) + 1]
    return int(np.argmax(history >= goal)) if history[-1] >= goal else np.inf


def long_fit(start, x, **options):
    """One program for all tests with as many rows and components."""
    return jaxgmm.fit(start, x, **{"tol": 0, "max_iter": 3000, "history_size": 3001} | options)


@pytest.mark.parametrize("form", COVARIANCES)
def test_fewer_passes_to_the_same_likelihood(form):
    """Over a few starts: a leap may lead a single one elsewhere, and rounding end it early."""
    x, passes, gains = overlapping(), [], []
    for seed in range(5):
        start = jaxgmm.init(jax.random.key(seed), x, 3, form)
        plain, fast = long_fit(start, x, acceleration=None), long_fit(start, x)
        passes.append([int(plain.n_iter), int(fast.n_iter)])
        gains.append(float(fast.log_likelihood - plain.log_likelihood) / len(x))
    plain, fast = np.sum(passes, axis=0)
    assert plain > 1.5 * fast
    assert np.median(gains) > -1e-5


def check_it_never_fell(result, x):
    history = np.asarray(result.history)[: int(result.n_iter) + 1]
    assert np.all(np.diff(history) >= 0)
    assert_close(result.log_likelihood, jaxgmm.log_likelihood(result.mixture, x), "exact", scale=1000)


def test_never_falls(case):
    """With a component too many. Without acceleration, these are the steps that the laws of EM are about."""
    x = np.asarray(case.data())
    x = jnp.asarray(x[np.asarray(case.mixture().predict(x)) < 2][:400])
    assert len(x) == 400
    for seed in range(4):
        check_it_never_fell(long_fit(case.start_from_rows(x, seed), x, max_iter=100), x)


def test_stays_where_plain_em_rests(case):
    x = case.data(400)
    check_it_never_fell(long_fit(case.start(), x, max_iter=100, acceleration=None), x)
    settled = long_fit(case.mixture(), x, acceleration=None)
    again = long_fit(settled.mixture, x)
    for name in ("weights", "means", "covariances"):
        assert_close(getattr(again.mixture, name), getattr(settled.mixture, name), "converged")


def test_rests_where_plain_em_stays(case):
    x = case.data(400)
    fast = long_fit(case.mixture(), x)
    stepped = jaxgmm.m_step(fast.mixture, jaxgmm.e_step(fast.mixture, x), jaxgmm.scale_of(x))
    for name in ("weights", "means", "covariances"):
        assert_close(getattr(stepped, name), getattr(fast.mixture, name), "converged", scale=0.1)


def test_a_fit_that_converges_at_once_pays_at_most_one_step():
    x = np.random.default_rng(0).normal(size=(400, 2)) + 20 * (np.arange(400) % 3)[:, None]
    start = jaxgmm.init(KEY, x, 3, method="kmeans")
    plain, fast = long_fit(start, x, tol=1e-6, acceleration=None), long_fit(start, x, tol=1e-6)
    assert int(fast.n_iter) <= 1 + int(plain.n_iter)


@pytest.mark.parametrize("form", ["full", "tied", "diag"])
def test_units_and_offsets_do_not_matter(form):
    """Every pass finds the same, up to the rounding of the rows."""
    x = overlapping()
    scale, offset = np.array([2.0**12, 2.0**-12]), np.array([2.0**10, -(2.0**-9)])
    start = jaxgmm.from_responsibilities(x, np.eye(3)[np.arange(400) % 3], form)
    moved = jaxgmm.from_responsibilities(x * scale + offset, np.eye(3)[np.arange(400) % 3], form)
    a, b = long_fit(start, x, max_iter=6), long_fit(moved, x * scale + offset, max_iter=6)
    assert_close(b.mixture.covariances / np.outer(scale, scale), a.mixture.covariances, "close", scale=1)
    assert_close((b.mixture.means - offset) / scale, a.mixture.means, "close", scale=1)
    shift = np.sum(np.log(scale))
    assert_close(b.history[:7] / 400 + shift, a.history[:7] / 400, "close")


def test_far_from_the_origin():
    x = overlapping()
    a, b = (long_fit(jaxgmm.init(KEY, rows, 3, "tied", method="kmeans"), rows) for rows in (x, x + 2.0**13))
    assert_close(b.log_likelihood / 400, a.log_likelihood / 400, "close", scale=0.1)


@in_float64
@pytest.mark.parametrize("acceleration", ["anderson", None])
@pytest.mark.parametrize("form", COVARIANCES)
def test_about_tol_is_left(form, acceleration):
    x = overlapping()
    for tol, seed in ((1e-4, 0), (1e-6, 1), (1e-8, 2)):
        start = jaxgmm.init(jax.random.key(seed), x, 3, form)
        result = long_fit(start, x, tol=tol, max_iter=5000, acceleration=acceleration)
        assert Status(int(result.status)) == Status.CONVERGED
        left = float(long_fit(result.mixture, x).log_likelihood - result.log_likelihood) / len(x)
        # an estimate, not a bound: of benchmarks/acceleration.py, 95 in 100 cases are left with less than 3 tol
        assert left < 10 * tol


def test_the_result_says_what_is_left():
    """The estimate by which a fit ends, also where it ended by something else."""
    x = overlapping(1000)
    start = jaxgmm.init(KEY, x, 3, "tied")
    limit = long_fit(start, x)
    ended, begun = (long_fit(start, x, tol=1e-4, max_iter=most) for most in (5000, 0))
    cut = long_fit(start, x, tol=1e-4, max_iter=int(ended.n_iter) - 1)
    assert Status(int(ended.status)) == Status.CONVERGED
    assert Status(int(cut.status)) == Status.MAX_ITER
    assert 0 < float(ended.remaining) <= 1e-4 < float(cut.remaining)
    left = float(limit.log_likelihood - ended.log_likelihood) / len(x)
    assert left / 10 < float(ended.remaining) < 10 * left
    assert float(begun.remaining) == np.inf
    huge = long_fit(start, np.where(np.arange(1000)[:, None] == 3, np.finfo(dtype()).max, x))
    assert Status(int(huge.status)) == Status.NON_FINITE
    assert float(huge.remaining) == np.inf


@in_float64
def test_the_end_is_not_overstayed():
    """Stopping costs no more steps than reaching a tenth of tol does."""
    x = overlapping()
    for acceleration in ("anderson", None):
        start = jaxgmm.init(KEY, x, 3, "full")
        limit = long_fit(start, x, acceleration=acceleration)
        stopped = long_fit(start, x, tol=1e-6, acceleration=acceleration)
        assert int(stopped.n_iter) <= 3 + steps_until(limit, float(limit.log_likelihood) - 1e-7 * len(x))


@pytest.mark.parametrize("acceleration", ["anderson", None])
def test_absent_components_stay_absent(acceleration):
    x = overlapping()
    covariances = np.ones((4, 2))
    start = jaxgmm.from_parameters([*WEIGHTS, 0.0], [[2.0, 0], [0, 2], [0, 0], [9, 9]], covariances, "diag")
    without = jaxgmm.from_parameters(WEIGHTS, [[2.0, 0], [0, 2], [0, 0]], covariances[:3], "diag")
    a, b = (long_fit(mixture, x, max_iter=10, acceleration=acceleration) for mixture in (start, without))
    assert float(a.mixture.log_weights[3]) == -np.inf
    assert_close(a.history[:11], b.history[:11], "exact", scale=100)
    assert_close(a.mixture.means[:3], b.mixture.means, "close")
    assert not np.any(a.degenerate_components)


def test_vmap_is_a_loop_in_every_phase():
    """Lanes leap, fall back and stop at different steps."""
    x = overlapping(150)
    keys = jax.random.split(KEY, 6)

    def pipeline(key):
        start = jaxgmm.init(key, x, 4, "spherical", method="random_from_data")
        return jaxgmm.fit(start, x, tol=1e-4, max_iter=60)

    together = jax.vmap(pipeline)(keys)
    alone = [pipeline(key) for key in keys]
    assert len({int(result.n_iter) for result in alone}) > 1
    assert_close(together.log_likelihood, jnp.stack([result.log_likelihood for result in alone]), "close", scale=10)


@once
def test_each_scheme_compiles_once():
    x = overlapping(131)
    start = jaxgmm.init(KEY, x, 3, "diag")
    jaxgmm.fit(start, x)
    with counted() as other:
        jaxgmm.fit(start, x, acceleration=None)
    with counted() as again:
        jaxgmm.fit(start, x, tol=1e-3, max_iter=7, acceleration="anderson")
        jaxgmm.fit(start, x, tol=1e-3, max_iter=7, acceleration=None)
    assert len(other) == 1
    assert again == []


@once
def test_one_pass_per_step():
    """The rows are read at one place of the program, by either kernel, or by the components where they are few."""
    for n, kernels in ((100, 1), (1000, 2)):
        x = overlapping(n)
        start, scale = jaxgmm.init(KEY, x, 3, "diag"), jaxgmm.scale_of(x)
        fit = functools.partial(jaxgmm.fit, block_size=n // 2, scale=scale)
        program = jax.make_jaxpr(lambda m, x, fit=fit: fit(m, x).n_iter)(start, jnp.asarray(x))
        assert str(program).count("scan[") == kernels


@once
@pytest.mark.parametrize("name", ["squarem", ""])
def test_unknown_scheme(name):
    with pytest.raises(ValueError, match=r"acceleration is .*; expected one of 'anderson'"):
        jaxgmm.fit(jaxgmm.init(KEY, overlapping(), 2), overlapping(), acceleration=name)


def test_curvatures_of_a_quadratic():
    """Moves that span an invariant space give the eigenvalues there, also when some are parallel or missing."""
    curvature = np.diag([0.5, 0.01, 0.9])
    moves = np.array([[1.0, 1, 0], [2, 2, 0], [1, -1, 0], [0, 0, 0]])
    values, basis = _ritz(jnp.asarray(moves @ moves.T), jnp.asarray(moves @ curvature @ moves.T))
    assert_close(np.sort(values), [0.01, 0.5, 1, 1], "exact", scale=10)
    assert np.all(np.isfinite(basis))
