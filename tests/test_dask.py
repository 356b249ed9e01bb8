"""Fits of rows that Dask holds in partitions: in threads of this process, and on a cluster of other processes."""

import os
import pickle
import signal

import jax
import numpy as np
import pandas as pd
import pytest

import jaxgmm
from jaxgmm.ground.partitioned import Partitioned
from jaxgmm.ground.surveys import Spread

pytest.importorskip("distributed")
import dask
import dask.array
import dask.bag
import dask.dataframe
from distributed import Client, LocalCluster

X64 = bool(jax.config.jax_enable_x64)
# To rounding of sums over some thousand rows.
CLOSE = {"rtol": 1e-9, "atol": 1e-10} if X64 else {"rtol": 2e-4, "atol": 2e-4}
COLUMNS = ["a", "b"]


def table(n=6000):
    """Three components, weights of which a third is zero, labels of some rows, gaps, and an error of each entry."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(n, 2))
    component = np.arange(n) % 3
    x += np.array([[0, 0], [6, 1], [-3, 8]])[component]
    frame = pd.DataFrame(x, columns=COLUMNS).astype(np.float64 if X64 else np.float32)
    frame["w"] = generator.integers(0, 3, n).astype(float)
    frame["label"] = np.where(generator.random(n) < 0.1, component, -1)
    for name in COLUMNS:
        frame[f"error of {name}"] = generator.uniform(0.01, 0.2, n)
    frame.loc[generator.random(n) < 0.1, "b"] = np.nan
    return frame


KNOWN = {
    "weights": "w",
    "labels": "label",
    "noise": ["error of a", "error of b"],
    "missing": "nan",
    "columns": COLUMNS,
}


def in_memory(frame):
    return jaxgmm.rows(
        frame[COLUMNS].to_numpy(),
        weights=frame["w"].to_numpy(),
        labels=frame["label"].to_numpy(),
        noise=frame[["error of a", "error of b"]].to_numpy(),
        missing="nan",
    )


START = jaxgmm.from_parameters([0.3, 0.3, 0.4], [[0.5, 0.0], [5.0, 1.0], [-2.0, 7.0]], np.stack([np.eye(2)] * 3))


def assert_same_fit(found, expected):
    assert int(found.status) == jaxgmm.Status.CONVERGED
    for a, b in zip(jax.tree.leaves(found.mixture), jax.tree.leaves(expected.mixture), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, **CLOSE)
    np.testing.assert_allclose(found.log_likelihood, expected.log_likelihood, rtol=CLOSE["rtol"])


def assert_same_bits(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def in_64_bits():
    return bool(jax.config.jax_enable_x64)


@pytest.fixture(scope="module")
def cluster():
    """Two processes; JAX starts there in float32, as none of the settings of this process reaches them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("JAX_ENABLE_X64", raising=False)
        with (
            LocalCluster(processes=True, n_workers=2, threads_per_worker=1, dashboard_address=":0") as processes,
            Client(processes, set_as_default=False) as client,
        ):
            assert not any(client.run(in_64_bits).values())
            yield client


def test_frame_with_all_that_is_known_of_its_rows():
    frame = table()
    source = jaxgmm.batches(dask.dataframe.from_pandas(frame, npartitions=5), **KNOWN)
    assert isinstance(source, Partitioned)
    assert source.names == ("a", "b")
    rows = in_memory(frame)
    assert source.totals() == jaxgmm.batches(rows).totals()
    assert_same_fit(jaxgmm.fit_batches(START, source), jaxgmm.fit(START, rows))


def test_frame_as_it_is():
    frame = table()[COLUMNS].fillna(0)
    found = jaxgmm.fit_batches(START, dask.dataframe.from_pandas(frame, npartitions=3))
    assert_same_fit(found, jaxgmm.fit(START, frame.to_numpy()))


def test_array_with_others_beside_it_in_chunks_of_their_own():
    frame = table()
    x, weights = frame[COLUMNS].to_numpy(), frame["w"].to_numpy()
    source = jaxgmm.batches(
        dask.array.from_array(np.nan_to_num(x), chunks=(1000, 1)),
        weights=dask.array.from_array(weights, chunks=700),
        missing=np.isnan(x),
    )
    rows = jaxgmm.rows(x, weights=weights, missing="nan")
    assert_same_fit(jaxgmm.fit_batches(START, source), jaxgmm.fit(START, rows))


def test_array_of_chunks_of_unknown_lengths():
    frame = dask.dataframe.from_pandas(table().fillna(0), npartitions=3)
    source = jaxgmm.batches(frame[COLUMNS].to_dask_array(), weights=frame["w"].to_dask_array())
    whole = table().fillna(0)
    rows = jaxgmm.rows(whole[COLUMNS].to_numpy(), weights=whole["w"].to_numpy())
    assert_same_fit(jaxgmm.fit_batches(START, source), jaxgmm.fit(START, rows))


def test_partitions_without_rows_or_weight():
    frame = table()
    frame.loc[1000:1999, "w"] = 0
    held = dask.dataframe.from_pandas(frame, npartitions=6)
    values = dask.array.from_array(np.random.default_rng(0).normal(size=(100, 2)), chunks=(50, 2))
    # Of chunks whose sizes are not known, the first of which is empty.
    some = values[dask.array.arange(100, chunks=50) >= 50]
    assert jaxgmm.batches(some).totals().n == 50
    empty = held[held["w"] < 0]
    source = jaxgmm.batches(dask.dataframe.concat([empty, held, empty]), **KNOWN)
    assert_same_fit(jaxgmm.fit_batches(START, source), jaxgmm.fit(START, in_memory(frame)))


@pytest.mark.parametrize("divided", [1, 10])
def test_sample_is_of_rows_with_weight_and_all_if_there_are_no_more(divided):
    frame = table()
    source = jaxgmm.batches(dask.dataframe.from_pandas(frame, npartitions=divided), **KNOWN)
    present = frame[frame["w"] > 0]
    every = source.sample(jax.random.key(0))
    np.testing.assert_array_equal(every.weights, present["w"])
    few = source.sample(jax.random.key(0), 100)
    assert few.n == 100
    assert_same_bits(few, source.sample(jax.random.key(0), 100))
    place = {tuple(row): index for index, row in zip(present.index, np.nan_to_num(present[COLUMNS]), strict=True)}
    chosen = [place[tuple(row)] for row in np.where(few.seen, few.x, 0)]
    assert chosen == sorted(set(chosen))
    # Of 100 places spread evenly over 6000, the mean is off by some 170.
    assert abs(np.mean(chosen) - 3000) < 4 * 173
    # Places within partitions of 600 are as seldom the same as those of different rows.
    assert len({place % 600 for place in chosen}) > 75
    other = source.sample(jax.random.key(1), 100)
    assert not np.array_equal(other.x, few.x)


def test_digits_are_judged_by_the_spread_of_all_partitions():
    """Of each partition alone, the spread is that of its rounding."""
    x = np.repeat([[0.0], [1e4]], 100, axis=0) + np.random.default_rng(0).normal(size=(200, 1)) * 1e-3
    far = dask.array.from_array(x, chunks=(100, 1))
    assert jaxgmm.batches(far).totals().n == 200
    if not X64:
        with pytest.raises(ValueError, match="in column 0 that float32 rounds by"):
            jaxgmm.batches(far[100:].rechunk((10, 1))).totals()
        # Also where the first row has a gap there.
        with pytest.raises(ValueError, match="in column 0 that float32 rounds by"):
            jaxgmm.batches(np.concatenate([[[np.nan]], x[100:]]), missing="nan").totals()


def test_spread_adds_up():
    """Over parts of other origins, with gaps, and without rows."""
    x = np.random.default_rng(0).normal(size=(300, 2)) * [1, 100] + np.repeat([[0.0, 1e3], [50, -1e3], [7, 0]], 100, 0)
    x[::7, 0] = np.nan
    x[1::7, 1] = np.nan
    whole, *parts = (Spread(2) for _ in range(5))
    whole.add(x[1:], np.float32)
    for part, place in zip(parts, (1, 100, 200, 300), strict=True):
        if place < 300:
            part.add(x[place : 100 * (place // 100 + 1)], np.float32)
    added = parts[3] + parts[0] + parts[1] + parts[2]
    np.testing.assert_array_equal(added.n, np.isfinite(x[1:]).sum(axis=0))
    np.testing.assert_array_equal(added.moved, whole.moved)
    deviation = np.sqrt(whole.squares / whole.n - (whole.sums / whole.n) ** 2)
    np.testing.assert_allclose(deviation, np.nanstd(x[1:], axis=0))
    for one in (added, parts[0] + (parts[1] + (parts[2] + parts[3]))):
        np.testing.assert_allclose(one.sums, whole.sums)
        np.testing.assert_allclose(one.squares, whole.squares)


def test_few_sizes_of_batches_serve_partitions_of_many_sizes():
    sizes = set()

    def seen(asked, rows, watch):
        sizes.add(rows.batch_size)
        return 0

    chunks = tuple(range(900, 1100, 20))
    x = dask.array.ones((sum(chunks), 2), chunks=(chunks, 2))
    jaxgmm.batches(x).total(seen, None, max)
    assert len(sizes) <= 3
    assert max(sizes) <= 1.25 * 1100


def test_rows_can_be_brought_here():
    frame = table()
    source = jaxgmm.batches(dask.dataframe.from_pandas(frame, npartitions=4), **KNOWN, batch_size=1024)
    labels = np.concatenate(list(source.apply(START.predict)))
    rows = jaxgmm.batches(in_memory(frame), batch_size=1024)
    np.testing.assert_array_equal(labels, np.concatenate(list(rows.apply(START.predict))))


def test_what_a_partition_holds_is_refused_with_its_number():
    frame = dask.dataframe.from_pandas(table(), npartitions=4)
    with pytest.raises(ValueError, match=r"In partition \d: In the rows from 0 to 1499 .* x is NaN or infinite"):
        jaxgmm.batches(frame, columns=COLUMNS).totals()


def test_what_cannot_be_is_refused_before_anything_is_read():
    frame = dask.dataframe.from_pandas(table().assign(name="z"), npartitions=2)
    with pytest.raises(TypeError, match="column 'name' of source"):
        jaxgmm.batches(frame)
    with pytest.raises(ValueError, match="'nothing' is no column"):
        jaxgmm.batches(frame, weights="nothing")
    with pytest.raises(TypeError, match="weights is of type ndarray; expected the name of a column"):
        jaxgmm.batches(frame, weights=np.ones(6000))
    with pytest.raises(TypeError, match="sharding is of devices here"):
        jaxgmm.batches(frame[COLUMNS], sharding=jax.NamedSharding(jax.make_mesh((1,), ("rows",)), jax.P("rows")))
    with pytest.raises(TypeError, match="Bag of Dask; expected a data frame, or an array"):
        jaxgmm.batches(dask.bag.from_sequence([1, 2]))
    x = dask.array.ones((100, 2), chunks=(10, 2))
    with pytest.raises(ValueError, match=r"weights has shape \(99,\) .* 100 rows"):
        jaxgmm.batches(x, weights=np.ones(99))
    with pytest.raises(TypeError, match="weights is 'w'; expected an array"):
        jaxgmm.batches(x, weights="w")
    with pytest.raises(TypeError, match="whose columns have no names"):
        jaxgmm.batches(x, columns=["a"])
    with pytest.raises(ValueError, match=r"shape \(100,\); expected two axes"):
        jaxgmm.batches(x[:, 0])
    with pytest.raises(ValueError, match="weights are all zero"):
        jaxgmm.batches(x, weights=np.zeros(100)).totals()


def test_processes_give_the_bits_that_threads_do(cluster):
    """In the precision of this process, which theirs is not."""
    frame = table()
    source = jaxgmm.batches(dask.dataframe.from_pandas(frame, npartitions=11), **KNOWN)
    here = jaxgmm.fit_batches(START, source)
    assert_same_fit(here, jaxgmm.fit(START, in_memory(frame)))
    sample = source.sample(jax.random.key(3), 500)
    with cluster.as_current():
        there = jaxgmm.batches(dask.dataframe.from_pandas(frame, npartitions=11), **KNOWN)
        assert_same_bits(there.sample(jax.random.key(3), 500), sample)
        assert_same_bits(jaxgmm.fit_batches(START, there), here)


def killed_once(frame, flag):
    """Rows of a partition; while there is such a file, whoever reads them takes it away and dies."""
    try:
        os.remove(flag)
    except FileNotFoundError:
        return frame
    return os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_changes_nothing(cluster, tmp_path):
    frame, flag = table(), tmp_path / "flag"
    held = dask.dataframe.from_pandas(frame, npartitions=6).map_partitions(
        killed_once, str(flag), meta=frame.iloc[:0], enforce_metadata=False
    )
    deaths = []

    def callback(result):
        if int(result.n_iter) == 1:
            flag.touch()
            deaths.append(set(cluster.run(os.getpid).values()))

    with cluster.as_current():
        expected = jaxgmm.fit_batches(START, jaxgmm.batches(held, **KNOWN))
        found = jaxgmm.fit_batches(START, jaxgmm.batches(held, **KNOWN), callback=callback)
        cluster.wait_for_workers(2)
        assert int(found.n_iter) > 2
        assert not flag.exists()
        assert set(cluster.run(os.getpid).values()) != deaths[0]
    assert_same_bits(found, expected)


def test_what_travels_is_the_size_of_the_mixture(cluster):
    """Numbers of float64 that a pass sends and gets for each partition, whatever rows it has."""
    k, d = 16, 8
    generator = np.random.default_rng(0)
    start = jaxgmm.from_parameters(
        np.full(k, 1 / k), generator.normal(size=(k, d)), np.broadcast_to(np.eye(d), (k, d, d))
    )
    sizes = {}
    for n in (2000, 20_000):
        x = dask.array.from_array(generator.normal(size=(n, d)), chunks=(n // 2, d))
        source = jaxgmm.batches(x)
        sent, got = [], []
        total = source._source.partitions.total

        def counted(task, add, total=total, sent=sent, got=got):
            sent.append(len(pickle.dumps(task)))
            found = total(task, add)
            got.append(len(pickle.dumps(found)))
            return found

        source._source.partitions.total = counted
        jaxgmm.fit_batches(start, source, max_iter=2, scale=np.ones(d))
        sizes[n] = sent[1:], got[1:]
    assert sizes[2000] == sizes[20_000]
    numbers = k * (1 + d + d * (d + 1) // 2)
    width = 8 if X64 else 4
    for one in sizes[2000][0]:
        assert one < 1.5 * width * numbers + 3000
    for one in sizes[2000][1]:
        assert one < 8 * k * (1 + d + d * d) + 2000


def test_columns_of_what_a_mixture_says(cluster):
    """Beside all columns there are, of rows with gaps, in the precision of this process, where partitions are empty."""
    frame = table()
    held = dask.dataframe.from_pandas(frame, npartitions=4)
    held = dask.dataframe.concat([held[held["w"] < 0], held])
    source = jaxgmm.batches(held, missing="nan", columns=COLUMNS)
    functions = {
        "label of": jaxgmm.Mixture.predict,
        "density": jaxgmm.Mixture.log_prob,
        "share": jaxgmm.Mixture.responsibilities,
    }
    with cluster.as_current():
        columns = source.with_columns(START, functions)
        found = columns.compute()
    rows = jaxgmm.rows(frame[COLUMNS].to_numpy(), missing="nan")
    pd.testing.assert_frame_equal(found[list(frame.columns)], frame)
    assert list(found.columns[len(frame.columns) :]) == ["label of", "density", "share_0", "share_1", "share_2"]
    assert list(found.dtypes) == list(columns.dtypes)
    np.testing.assert_array_equal(found["label of"], START.predict(rows))
    np.testing.assert_allclose(found["density"], START.log_prob(rows), rtol=1e-12 if X64 else 1e-5)
    np.testing.assert_allclose(found["share_2"], START.responsibilities(rows)[:, 2], atol=1e-12 if X64 else 1e-5)
    with pytest.raises(ValueError, match=r"gave an array of shape \(2,\) for 1 rows"):
        source.with_columns(START, {"mean": lambda mixture, rows: rows.x[0]})
    with pytest.raises(TypeError, match="source is no data frame of Dask or Spark; use apply"):
        jaxgmm.batches(frame[COLUMNS]).with_columns(START, functions)
    with pytest.raises(TypeError, match="from_dask_array"):
        jaxgmm.batches(dask.array.ones((10, 2))).with_columns(START, functions)
