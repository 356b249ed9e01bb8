"""Laws of everything that fits many times: what weights mean, what absent rows hold, what one failure does to others.

One program serves most of this file: 60 rows in two columns, spherical components, room for two.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm

from tolerance import assert_close, dtype

KEY = jax.random.key(0)
# Seeded by rows drawn in proportion to their weights, so that the same rows are drawn however these are written down.
OPTIONS = {"n_restarts": 4, "n_finalists": 2, "methods": ("k-means++",)}
ROWS = np.random.default_rng(0).normal(size=(30, 2)) + np.repeat([[0.0], [9.0]], 15, axis=0)
ABSENT = np.full_like(ROWS, np.nan)
ONES, ZEROS = np.ones(30), np.zeros(30)

# One data set, thirty rows that count twice, as rows and weights: all sixty written down, or room left for others.
WRITTEN = {
    "repeated": (np.repeat(ROWS, 2, axis=0), np.ones(60)),
    "weighted": (np.concatenate([ROWS, ABSENT]), np.concatenate([2 * ONES, ZEROS])),
    "absent ones first": (np.concatenate([ABSENT, ROWS]), np.concatenate([ZEROS, 2 * ONES])),
    "absent ones between": (
        np.stack([ROWS, ABSENT], axis=1).reshape(60, 2),
        np.stack([2 * ONES, ZEROS], axis=1).ravel(),
    ),
}


def restarts(x, weights):
    found = jaxgmm.fit_restarts(KEY, x, 2, "spherical", weights=weights, **OPTIONS)
    return found.best.log_likelihood, jnp.sort(found.best.mixture.means, axis=0), jnp.sort(found.log_likelihood)


def selection(x, weights):
    found = jaxgmm.select(KEY, x, (1, 2), "spherical", weights=weights, **OPTIONS)
    names = ("n_parameters", "log_likelihood", "aic", "aicc", "bic", "icl")
    return [[getattr(candidate, name) for name in names] for candidate in found.candidates]


@pytest.mark.parametrize("verb", [restarts, selection])
def test_weights_are_repetitions_and_absent_rows_are_not_there(verb):
    expected = verb(*WRITTEN["repeated"])
    for x, weights in WRITTEN.values():
        jax.tree.map(lambda a, b: assert_close(a, b, "converged"), verb(x, weights), expected)
    assert_close(expected[0], verb(*WRITTEN["weighted"])[0], "close")


def folded(x, weights):
    found = jaxgmm.select(KEY, x, (1, 2), "spherical", weights=weights, criterion="cv", n_folds=3, **OPTIONS)
    return [candidate.cv for candidate in found.candidates]


def stable(x, weights):
    found = jaxgmm.stability(KEY, x, 2, "spherical", weights=weights, n_repeats=3, **OPTIONS)
    return found.restarts, found.resamples


@pytest.mark.parametrize("verb", [folded, stable])
def test_what_is_dealt_and_drawn_does_not_depend_on_where_absent_rows_are(verb):
    expected = verb(*WRITTEN["weighted"])
    for name in ("absent ones first", "absent ones between"):
        jax.tree.map(lambda a, b: assert_close(a, b, "converged"), verb(*WRITTEN[name]), expected)


@pytest.mark.parametrize("verb", [restarts, selection, folded, stable])
def test_the_same_key_gives_the_same_bits(verb):
    jax.tree.map(np.testing.assert_array_equal, verb(*WRITTEN["repeated"]), verb(*WRITTEN["repeated"]))


def test_data_sets_of_fit_many_are_written_down_in_any_way_and_fail_alone():
    huge = (np.repeat(ROWS, 2, axis=0) * (1e25 if dtype() is np.float32 else 1e200), np.ones(60))
    xs, weights = (np.stack(parts) for parts in zip(*WRITTEN.values(), huge, strict=True))
    found = jaxgmm.fit_many(KEY, xs, 2, "spherical", weights=weights, **OPTIONS)
    assert found.best.status.tolist() == [jaxgmm.Status.CONVERGED] * 4 + [jaxgmm.Status.NON_FINITE]
    assert np.isnan(found.best.log_likelihood[4])
    assert_close(found.best.log_likelihood[:4], found.best.log_likelihood[0], "close")
    means = jnp.sort(found.best.mixture.means[:4], axis=1)
    assert_close(means, jnp.broadcast_to(means[0], means.shape), "converged", scale=5)


def test_vmap_is_a_loop_and_a_lane_that_fails_leaves_the_others_alone():
    lanes = [WRITTEN["repeated"], (ABSENT.repeat(2, axis=0), np.ones(60)), WRITTEN["weighted"]]
    xs, weights = (jnp.stack([jnp.asarray(lane[place]) for lane in lanes]) for place in (0, 1))
    best, means, _ = jax.vmap(restarts)(xs, weights)
    assert np.isnan(best[1])
    for lane in (0, 2):
        expected = restarts(*lanes[lane])
        assert_close(best[lane], expected[0], "close")
        assert_close(means[lane], expected[1], "converged")
