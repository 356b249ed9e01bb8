"""Testing for one more component, and whether groups come back."""

import dataclasses
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.ground import draws
from jaxgmm.selection import bootstrap as module

from tolerance import dtype, once

QUICK = {"n_restarts": 2, "n_finalists": 2}


def test_one_more_component_is_seen_where_there_is_one():
    rng = np.random.default_rng(0)
    apart = np.concatenate([rng.normal(size=(50, 1)), rng.normal(size=(50, 1)) + 6])
    test = jaxgmm.likelihood_ratio_test(jax.random.key(0), apart, 1, "spherical", n_bootstrap=39, **QUICK)
    assert float(test.p_value) == np.float32(1 / 40)
    assert test.simulated.shape == (39,)
    assert test.null.mixture.n_parameters == 2
    assert test.alternative.mixture.n_parameters == 5
    value = 2 * (test.alternative.log_likelihood - test.null.log_likelihood)
    assert float(test.statistic) == float(value)


@once
def test_p_values_are_not_small_where_there_is_none():
    values = []
    for seed in range(6):
        x = np.random.default_rng(seed).normal(size=(100, 1))
        test = jaxgmm.likelihood_ratio_test(jax.random.key(seed), x, 1, "spherical", n_bootstrap=39, **QUICK)
        values.append(float(test.p_value))
    assert np.median(values) > 0.1


@once
def test_groups_that_are_there_come_back_and_others_do_not():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(60, 2)), rng.normal(size=(60, 2)) + 8])
    options = {"n_repeats": 6, "n_restarts": 4, "n_finalists": 2}
    right = jaxgmm.stability(jax.random.key(0), x, 2, "spherical", **options)
    wrong = jaxgmm.stability(jax.random.key(0), x, 5, "spherical", **options)
    assert right.resamples.shape == right.restarts.shape == (6,)
    assert np.min(right.restarts) == 1
    assert np.min(right.resamples) > 0.9
    assert np.median(wrong.resamples) < 0.9


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_refits_that_fail_make_no_p_value_small(value, monkeypatch):
    """They count as at least as large as what was found, whatever number a failed fit left."""
    failed = 7

    def some_fail(key, xs, n_components, *args, **options):
        found = kept(key, xs, n_components, *args, **options)
        if len(xs) == 2:
            return found
        last = jnp.arange(len(xs)) >= len(xs) - failed
        status = jnp.where(last, jaxgmm.Status.NON_FINITE, found.best.status)
        numbers = jnp.where(last & (n_components == 2), value, found.best.log_likelihood)
        return dataclasses.replace(found, best=dataclasses.replace(found.best, status=status, log_likelihood=numbers))

    kept = module.fit_many
    rng = np.random.default_rng(0)
    apart = np.concatenate([rng.normal(size=(50, 1)), rng.normal(size=(50, 1)) + 6])
    options = {"n_bootstrap": 39, **QUICK}
    monkeypatch.setattr(module, "fit_many", some_fail)
    test = jaxgmm.likelihood_ratio_test(jax.random.key(0), apart, 1, "spherical", **options)
    assert int(test.n_failed) == failed
    assert np.sum(np.isnan(test.simulated)) == failed
    assert float(test.p_value) == np.float32((1 + failed) / 40)


def test_a_statistic_that_is_none_has_no_p_value():
    x = np.random.default_rng(0).normal(size=(100, 1)) * (1e25 if dtype() is np.float32 else 1e200)
    test = jaxgmm.likelihood_ratio_test(jax.random.key(0), x, 1, "spherical", n_bootstrap=39, **QUICK)
    assert np.isnan(test.statistic)
    assert np.isnan(test.p_value)
    assert int(test.n_failed) == 39


def grouped():
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(size=(30, 2)), rng.normal(size=(30, 2)) + 5])


def test_stability_sees_no_rows_that_are_absent():
    """Whatever these hold, and in resamples too."""
    x, options = grouped(), {"n_repeats": 4, "n_restarts": 2, "n_finalists": 2}
    weights = np.concatenate([np.ones(60), np.zeros(60)])
    found = [
        jaxgmm.stability(jax.random.key(0), np.concatenate([x, rest]), 3, "spherical", weights=weights, **options)
        for rest in (np.full((60, 2), np.nan), np.tile(x[:1], (60, 1)))
    ]
    for name in ("restarts", "resamples"):
        values = np.asarray(getattr(found[0], name))
        assert np.all(np.isfinite(values))
        np.testing.assert_array_equal(values, getattr(found[1], name))
    # Three groups in what are two: rows drawn again do not agree on the third.
    assert np.any(np.asarray(found[0].resamples) < 1)


def test_as_many_rows_are_drawn_again_as_the_weights_count():
    weights = jnp.asarray([0.0, 3.0, 0.5, 0.0, 6.5, 0.0])
    drawn = draws.resampled(np.random.default_rng(0), weights, 4000)
    assert np.all(drawn.sum(axis=1) == 10)
    assert np.all(drawn == np.rint(drawn))
    assert np.all(drawn[:, np.asarray(weights) == 0] == 0)
    np.testing.assert_allclose(drawn.mean(axis=0), weights, atol=4 * np.sqrt(10 / 4 / 4000))
    # A row and its neighbour: independent draws, not shares.
    assert np.std(drawn[:, 4]) == pytest.approx(np.sqrt(10 * 0.65 * 0.35), rel=0.05)


def test_resampling_takes_memory_for_the_rows_alone():
    n = 100_000
    weights = jnp.ones(n)
    tracemalloc.start()
    draws.resampled(np.random.default_rng(0), weights, 2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * n


def test_stability_where_a_fit_fails():
    x = np.concatenate([grouped(), grouped()]) * (1e25 if dtype() is np.float32 else 1e200)
    found = jaxgmm.stability(jax.random.key(0), x, 3, "spherical", n_repeats=2, n_restarts=2, n_finalists=2)
    assert np.all(np.isnan(found.restarts))
    assert np.all(np.isnan(found.resamples))
