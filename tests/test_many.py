"""Fits of many data sets: as each alone, in few shapes, none spoilt by another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.ground import progress as bars
from jaxgmm.selection import rooms

from compilations import counted
from tolerance import once, tolerance


def blobs(seed, n=60):
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(size=(n // 2, 2)), rng.normal(size=(n - n // 2, 2)) + 7])


KEY = jax.random.key(0)


def test_a_stack_is_fitted_as_each_alone():
    xs = np.stack([blobs(seed) for seed in range(5)])
    found = jaxgmm.fit_many(KEY, xs, 2, "diag", chunk_size=4)
    assert found.best.mixture.means.shape == (5, 2, 2)
    for place, x in enumerate(xs):
        alone = jaxgmm.fit_restarts(jax.random.fold_in(KEY, place), x, 2, "diag", n_restarts=1)
        np.testing.assert_allclose(found.best.log_likelihood[place], alone.best.log_likelihood, rtol=tolerance("close"))


def test_ragged_data_sets_come_back_in_order_from_few_shapes():
    lengths = [40, 61, 33, 58, 100, 47, 64, 90]
    xs = [blobs(seed, n) for seed, n in enumerate(lengths)]
    with counted() as first:
        found = jaxgmm.fit_many(KEY, xs, 2, "diag", chunk_size=4)
    assert len(first) > 0
    for place, x in enumerate(xs):
        value = jaxgmm.log_likelihood(jax.tree.map(lambda leaf, p=place: leaf[p], found.best.mixture), x)
        np.testing.assert_allclose(found.best.log_likelihood[place], value, rtol=tolerance("close"))
        np.testing.assert_allclose(np.sort(found.best.mixture.means[place, :, 0]), [0, 7], atol=1)
    assert np.all(found.best.converged)
    with counted() as second:
        jaxgmm.fit_many(
            KEY, [blobs(seed, n) for seed, n in enumerate([50, 64, 33, 63, 100, 65])], 2, "diag", chunk_size=4
        )
    assert second == []


def test_one_failure_leaves_the_others_alone():
    xs = np.stack([blobs(0), np.zeros((60, 2)), blobs(1), blobs(2), blobs(3), blobs(4)])
    weights = np.ones(xs.shape[:2])
    xs[3, 7, 0], xs[5, 7, 0] = np.nan, np.nan
    weights[4], weights[5, 7] = 0, 0
    found = jaxgmm.fit_many(KEY, xs, 2, "diag", weights=weights)
    assert found.best.converged.tolist() == [True, False, True, False, False, True]
    assert (found.best.status[jnp.array([3, 4])] == jaxgmm.Status.NON_FINITE).all()


def test_a_set_without_rows_is_one_that_cannot_be_fitted():
    found = jaxgmm.fit_many(KEY, [blobs(0, 100), np.ones((0, 2)), blobs(1, 40)], 2, "diag", chunk_size=4)
    assert found.best.converged.tolist() == [True, False, True]


def test_chunks_of_one_size_are_one_program_for_any_number_of_sets():
    xs = np.stack([blobs(seed) for seed in range(7)])
    jaxgmm.fit_many(KEY, xs[:3], 2, "diag", chunk_size=4)
    with counted() as compiled:
        whole = jaxgmm.fit_many(KEY, xs, 2, "diag", chunk_size=4)
        one = jaxgmm.fit_many(KEY, xs[:1], 2, "diag", chunk_size=4)
    assert compiled == []
    np.testing.assert_array_equal(one.best.mixture.means[0], whole.best.mixture.means[0])


def test_each_data_set_has_its_own_number_of_components_and_weights():
    xs = np.stack([blobs(0), blobs(1)])
    weights = np.ones((2, 60))
    weights[0, 30:] = 0
    found = jaxgmm.fit_many(KEY, xs, [1, 2], "diag", weights=weights)
    assert (np.asarray(found.best.mixture.weights) > 0).tolist() == [[True, False], [True, True]]
    np.testing.assert_allclose(found.best.mixture.means[0, 0], xs[0, :30].mean(axis=0), atol=1e-4)


def test_threads_keep_the_setting_of_the_caller():
    x = np.stack([blobs(0), blobs(1)])
    with jax.enable_x64(True):
        found = jaxgmm.fit_many(KEY, x, 2, "diag")
    assert found.best.mixture.means.dtype == np.float64


@once
def test_progress_is_shown(capsys, monkeypatch):
    monkeypatch.setattr(bars, "_SECONDS", 0)
    jaxgmm.fit_many(KEY, np.stack([blobs(0), blobs(1)]), 2, "diag", progress=True)
    assert "data sets: 2 of 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("xs", "options", "message"),
    [
        ([], {}, "xs holds no data sets"),
        ([blobs(0), np.ones((60, 3))], {}, r"data sets of 2, 3 columns.*x.shape\[1\] == 2"),
        ([blobs(0)], {"weights": [np.ones(60), np.ones(60)]}, "weights has 2 entries for 1 data sets"),
        ([blobs(0)], {"weights": [np.ones(59)]}, "data set 0: weights has shape"),
        ([blobs(0)], {"chunk_size": 0}, "chunk_size is 0"),
    ],
)
def test_bad_arguments(xs, options, message):
    with pytest.raises(ValueError, match=message):
        jaxgmm.fit_many(KEY, xs, 2, **options)


@once
def test_an_accelerator_takes_as_many_sets_as_fill_it(monkeypatch):
    assert rooms._chunk_for(2**20, 2**20, 200 * 3 * 2, on_cpu=False) == 2**14
    assert rooms._chunk_for(2**20, 2**20, 20_000 * 8 * 8, on_cpu=False) * 20_000 * 8 * 8 <= 2**28
    assert rooms._chunk_for(2**20, 2**20, 2**40, on_cpu=False) == 1
