"""Testing for one more component, and whether groups come back."""

import jax
import numpy as np

import jaxgmm

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


def test_p_values_are_not_small_where_there_is_none():
    values = []
    for seed in range(6):
        x = np.random.default_rng(seed).normal(size=(100, 1))
        test = jaxgmm.likelihood_ratio_test(jax.random.key(seed), x, 1, "spherical", n_bootstrap=39, **QUICK)
        values.append(float(test.p_value))
    assert np.median(values) > 0.1


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
