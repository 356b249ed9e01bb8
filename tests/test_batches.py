"""Rows that are read in batches: the same rows from whatever holds them, and what is wrong with them said."""

import jax
import numpy as np
import pandas
import pyarrow
import pyarrow.dataset
import pyarrow.feather
import pyarrow.parquet
import pytest

import jaxgmm

from tolerance import assert_close, dtype, once

N, D = 1000, 3
KEY = jax.random.key(3)


def x():
    return np.random.default_rng(0).normal(size=(N, D)).astype(dtype())


def table():
    return pyarrow.table({f"c{place}": column for place, column in enumerate(x().T)})


class Sliced:
    """As Zarr and HDF5 give rows: a shape and slices."""

    def __init__(self, array):
        self._array, self.shape, self.dtype, self.slices = array, array.shape, array.dtype, []

    def __getitem__(self, rows):
        self.slices.append(rows)
        return self._array[rows]


def npy(folder):
    np.save(folder / "rows.npy", x())
    return str(folder / "rows.npy")


def npys(folder):
    np.save(folder / "a.npy", x()[:700])
    np.save(folder / "b.npy", x()[700:])
    return folder


def parquet(folder):
    pyarrow.parquet.write_table(table(), folder / "rows.parquet", row_group_size=300)
    return folder / "rows.parquet"


def pattern(folder):
    for place, start in enumerate(range(0, N, 400)):
        pyarrow.parquet.write_table(table().slice(start, 400), folder / f"rows-{place}.parquet")
    return str(folder / "rows-*.parquet")


def parquets(folder):
    pattern(folder)
    return str(folder)


def csv(folder):
    table().to_pandas().to_csv(folder / "rows.csv", index=False)
    return folder / "rows.csv"


def feather(folder):
    pyarrow.feather.write_feather(table(), folder / "rows.feather")
    return folder / "rows.feather"


def hdf5(folder):
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "rows.h5", "w") as file:
        file["x"] = x()
    return h5py.File(folder / "rows.h5")["x"]


def zarr(folder):
    module = pytest.importorskip("zarr")
    array = module.create_array(str(folder / "rows.zarr"), shape=(N, D), dtype=x().dtype, chunks=(128, D))
    array[:] = x()
    return array


SOURCES = {
    "array": lambda folder: x(),
    "JAX": lambda folder: jax.numpy.asarray(x()),
    "slices": lambda folder: Sliced(x()),
    "mapped": lambda folder: np.load(npy(folder), mmap_mode="r"),
    "npy": npy,
    "npys": npys,
    "parquet": parquet,
    "pattern": pattern,
    "parquets": parquets,
    "csv": csv,
    "feather": feather,
    "data set": lambda folder: pyarrow.dataset.dataset(parquet(folder)),
    "hdf5": hdf5,
    "zarr": zarr,
    "pandas": lambda folder: table().to_pandas(),
    "arrow": lambda folder: table(),
    "rows": lambda folder: jaxgmm.rows(x()),
    "list": lambda folder: [x()[:1], x()[1:600], table().slice(600).to_pandas().to_numpy()],
    "tables": lambda folder: [table().slice(0, 10), table().slice(10)],
    "function": lambda folder: lambda: (x()[start : start + 77] for start in range(0, N, 77)),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_the_same_rows_from_everything_that_holds_them(kind, tmp_path):
    """In their order, again and again, in batches of one shape, filled up by rows of weight 0."""
    source = jaxgmm.batches(SOURCES[kind](tmp_path), batch_size=128)
    for _ in range(2):
        found = list(source)
        assert {rows.x.shape for rows in found} == {(128, D)}
        together = np.concatenate([np.asarray(rows.x) for rows in found])
        assert_close(together[:N], x(), "exact")
        assert np.concatenate([rows.weights for rows in found]).tolist() == [1.0] * N + [0.0] * (1024 - N)
    assert source.totals() == jaxgmm.batches(x()).totals()
    assert source.totals().n == N
    assert source.n_columns == D


@once
def test_all_that_is_known_of_rows_travels_with_them():
    rng = np.random.default_rng(1)
    known = {
        "weights": rng.uniform(size=N),
        "noise": rng.uniform(size=(N, D)),
        "labels": rng.integers(-1, 2, N),
        "log_evidence": rng.normal(size=(N, 2)),
        "missing": rng.random((N, D)) < 0.2,
    }
    whole = jaxgmm.rows(x(), **known)
    for source in (jaxgmm.batches(x(), **known, batch_size=300), jaxgmm.batches([whole], batch_size=300)):
        found = list(source)
        assert len(found) == 4
        for name in ("x", "weights", "noise", "labels", "log_evidence", "seen"):
            together = np.concatenate([np.asarray(getattr(rows, name)) for rows in found])[:N]
            there = whole.seen if name == "x" else np.ones(1, bool)
            np.testing.assert_array_equal(np.where(there, together, 0), np.where(there, getattr(whole, name), 0))
        totals = source.totals()
        assert totals.present == N
        np.testing.assert_allclose(totals.weight, np.asarray(whole.weights, np.float64).sum())
    unseen = jaxgmm.batches(x(), missing=np.ones((N, D), bool) & (np.arange(N) < 10)[:, None]).totals()
    assert (unseen.weight, unseen.told) == (N, N - 10)


@once
def test_columns_of_tables_say_what_is_known(tmp_path):
    frame = table().to_pandas().assign(w=np.arange(N) % 3, kind=np.arange(N) % 2, e0=0.1, e1=0.2, e2=0.3)
    frame.loc[5, "c1"] = np.nan
    frame.to_parquet(tmp_path / "rows.parquet")
    for source in (frame, tmp_path / "rows.parquet", lambda: iter([frame[:50], frame[50:]])):
        found = jaxgmm.batches(
            source, weights="w", labels="kind", noise=["e0", "e1", "e2"], missing="nan", columns=["c0", "c1", "c2"]
        )
        (rows,) = list(found)
        assert found.totals().weight == N - 1
        assert rows.labels.tolist() == frame["kind"].tolist()
        assert not rows.seen[5, 1]
        assert np.sum(~np.asarray(rows.seen)) == 1
        np.testing.assert_allclose(rows.noise[0], [0.1, 0.2, 0.3], rtol=1e-6)
    assert jaxgmm.batches(frame.drop(columns="kind"), weights="w", missing="nan").names == (
        *("c0", "c1", "c2"),
        *("e0", "e1", "e2"),
    )


@once
def test_a_sample_depends_on_the_key_alone():
    """Each row of positive weight is as likely, whatever the batches; and all of them if they are few."""
    weights = np.where(np.arange(N) % 4 == 0, 0, 1 + np.arange(N) % 3)
    one, other = (jaxgmm.batches(x(), weights=weights, batch_size=size) for size in (64, 700))
    sample, same = one.sample(KEY, 100), other.sample(KEY, 100)
    np.testing.assert_array_equal(sample.x, same.x)
    np.testing.assert_array_equal(sample.weights, same.weights)
    assert sample.n == 100
    assert np.all(np.asarray(sample.weights) > 0)
    assert not np.array_equal(one.sample(jax.random.key(4), 100).x, sample.x)
    np.testing.assert_array_equal(one.sample(KEY, N).x, x()[weights > 0])
    times = np.zeros(N)
    for seed in range(200):
        rows = one.sample(jax.random.key(seed), 100).x
        times += np.isin(x()[:, 0], np.asarray(rows)[:, 0])
    assert np.all(times[weights == 0] == 0)
    expected = 200 * 100 / 750
    assert np.all(np.abs(times[weights > 0] - expected) < 5.5 * np.sqrt(expected))


def test_what_a_function_says_of_the_rows(tmp_path):
    mixture = jaxgmm.from_parameters([0.5, 0.5], [[0.0] * D, [1.0] * D], [1.0, 2.0], "spherical")
    source = jaxgmm.batches(x(), batch_size=300)
    assert_close(np.concatenate(list(source.apply(mixture.log_prob))), mixture.log_prob(x()), "exact", scale=10)
    assert source.write(tmp_path / "density.npy", mixture.log_prob) == N
    assert_close(np.load(tmp_path / "density.npy"), mixture.log_prob(x()), "exact", scale=10)
    assert source.write(tmp_path / "shares.npy", mixture.responsibilities) == N
    assert np.load(tmp_path / "shares.npy").shape == (N, 2)
    source.write(
        tmp_path / "rows.parquet",
        lambda rows: {"component": mixture.predict(rows), "p": mixture.responsibilities(rows), "x": rows.x},
    )
    found = pandas.read_parquet(tmp_path / "rows.parquet")
    assert list(found) == ["component", "p_0", "p_1", "x_0", "x_1", "x_2"]
    assert found["component"].tolist() == mixture.predict(x()).tolist()
    with pytest.raises(ValueError, match=r"the ending of path is '.txt'; expected one of '.npy', '.parquet'"):
        source.write(tmp_path / "rows.txt", mixture.predict)
    with pytest.raises(ValueError, match=r"function gave an array of shape \(\) for 300 rows"):
        source.write(tmp_path / "sums.npy", lambda rows: rows.x.sum())
    assert not (tmp_path / "sums.npy").exists()


def test_a_mapped_file_is_let_go_while_it_is_read(tmp_path, monkeypatch):
    """So that memory does not grow with it; one that is mapped to be changed keeps its changes."""
    monkeypatch.setattr("jaxgmm.ground.sources._MAPPED", 4096)
    np.save(tmp_path / "rows.npy", x())
    for mode in ("r", "c"):
        mapped = np.load(tmp_path / "rows.npy", mmap_mode=mode)
        if mode == "c":
            mapped[0] = 7.0
        found = np.concatenate([np.asarray(rows.x) for rows in jaxgmm.batches(mapped, batch_size=100)])
        assert found[0, 0] == mapped[0, 0]
        np.testing.assert_array_equal(found[:N], mapped)


def changed(place, value):
    return np.where(np.arange(N)[:, None] == place, value, x())


WRONG = {
    "iterator": (lambda: iter([x()]), {}, TypeError, "list_iterator, which can be read once only. Give a function"),
    "nothing": (lambda: [], {}, ValueError, "source is an empty list"),
    "no rows": (lambda: x()[:0], {}, ValueError, "source has no rows"),
    "numbers": (lambda: [1.0, 2.0], {}, ValueError, "source is a list of numbers; expected two axes"),
    "one axis": (lambda: np.ones(4), {}, ValueError, r"has shape \(4,\); expected two axes"),
    "no file": (lambda: "nowhere.npy", {}, FileNotFoundError, "nowhere.npy: there is no such file"),
    "ending": (lambda: __file__, {}, ValueError, "ends in '.py'; expected .npy or .parquet"),
    "an object": (object, {}, TypeError, "source is of type object; expected an array, a path"),
    "twice": (lambda: jaxgmm.batches(x()), {}, TypeError, "source is Batches already"),
    "weights": (x, {"weights": np.ones(5)}, ValueError, r"weights has shape \(5,\) and source has 1000 rows"),
    "weights by name": (x, {"weights": "w"}, TypeError, "weights is of type str; expected an array"),
    "weights beside a list": (lambda: [x()], {"weights": np.ones(N)}, TypeError, "make each part by jaxgmm.rows"),
    "no column": (table, {"weights": "w"}, ValueError, "'w' is no column of source, which has c0, c1, c2"),
    "columns": (x, {"columns": ["a"]}, TypeError, "whose columns have no names"),
    "missing": (x, {"missing": "drop"}, ValueError, "missing is 'drop'; expected one of 'error', 'nan'"),
    "a key": (lambda: KEY, {}, ValueError, r"and has shape \(\); expected two axes"),
    "weights as a list": (x, {"weights": [1.0] * N}, TypeError, "weights is of type list; expected an array"),
    "words": (lambda: pandas.DataFrame({"a": ["b"]}), {}, TypeError, "column 'a' of source has dtype"),
}


@once
@pytest.mark.parametrize("kind", WRONG)
def test_what_no_rows_can_be_read_from(kind):
    source, options, error, message = WRONG[kind]
    with pytest.raises(error, match=message):
        jaxgmm.batches(source(), **options)


FOUND_LATER = {
    "NaN": (
        lambda: changed(613, np.nan),
        {},
        "In the rows from 600 to 699 of source.*NaN or infinite in 1 of 100 rows: 13.*say missing='nan'",
    ),
    "weights": (x, {"weights": np.where(np.arange(N) == 613, -1.0, 1.0)}, "In the rows from 600 to 699.*negative"),
    "no weight": (x, {"weights": np.zeros(N)}, "weights are all zero"),
    "columns": (lambda: [x(), x()[:, :2]], {}, r"a part of shape \(.*2\), and its first one has 3 columns"),
    "known in some": (
        lambda: [jaxgmm.rows(x()), jaxgmm.rows(x(), labels=np.zeros(N, int))],
        {},
        "source has labels in some of its parts only",
    ),
}


@once
@pytest.mark.parametrize("kind", FOUND_LATER)
def test_what_is_wrong_with_rows_that_are_read(kind):
    source, options, message = FOUND_LATER[kind]
    with pytest.raises(ValueError, match=message):
        jaxgmm.batches(source(), batch_size=100, **options).totals()


@pytest.mark.skipif(dtype() is np.float64, reason="nothing is rounded")
def test_digits_are_looked_at_over_all_rows():
    """A column that is sorted spreads little within a batch, and float32 is enough all the same."""
    spread = np.linspace(1e9, 2e9, N)[:, None]
    assert jaxgmm.batches(spread, batch_size=10).totals().n == N
    with pytest.raises(ValueError, match=r"source holds numbers of type float64 in column 0 that float32 rounds by"):
        jaxgmm.batches(1e9 + np.linspace(0, 100, N)[:, None], batch_size=10).totals()


def test_parts_of_other_types_are_of_the_first_ones():
    """Whole numbers, and a wider type that says the same; one that says more is refused."""
    whole = np.round(x()).astype(np.float32)
    for parts in ([whole, whole.astype(int)], [whole, whole.astype(np.float64)]):
        found = list(jaxgmm.batches(parts, batch_size=300))
        assert {rows.x.dtype for rows in found} == {np.dtype(np.float32)}
        assert_close(np.concatenate([rows.x for rows in found])[: 2 * N], np.concatenate([whole, whole]), "exact")
    with pytest.raises(ValueError, match="a part of dtype float64 behind one of float32, which has fewer digits"):
        jaxgmm.batches([whole, whole + np.float64(0.1)]).totals()


@once
def test_settings_of_the_thread_hold_where_parts_are_made():
    with jax.enable_x64(True):
        exact = 1e6 + x().astype(np.float64)

        for of in (jax.numpy.asarray, jaxgmm.rows):

            def parts(of=of):
                yield from (of(exact[:500]), of(exact[500:]))

            found = np.concatenate([rows.x for rows in jaxgmm.batches(parts, batch_size=300)])
            assert found.dtype == np.float64
            np.testing.assert_array_equal(found[:N], exact)


@once
def test_files_beside_a_table_are_no_part_of_it(tmp_path):
    parquets(tmp_path)
    (tmp_path / "_log.csv").write_text("a,b\n1,2\n")
    (tmp_path / ".rows-9.parquet").write_bytes(b"half")
    assert jaxgmm.batches(tmp_path).totals().n == N
    (tmp_path / "rows-9.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"files of the endings \.csv, \.parquet; expected files of one known kind"):
        jaxgmm.batches(tmp_path)
    with pytest.raises(ValueError, match=r"stands for files of the endings .parquet and .csv; expected one kind"):
        jaxgmm.batches(tmp_path / "rows-*")


@once
def test_what_is_masked_is_missing():
    mask = np.random.default_rng(1).random((N, D)) < 0.2
    masked = np.ma.masked_array(np.where(mask, -9999.0, x()), mask)
    source = jaxgmm.batches(masked, missing="nan", batch_size=300)
    found = list(source)
    np.testing.assert_array_equal(np.concatenate([rows.seen for rows in found])[:N], ~mask)
    with pytest.raises(ValueError, match="NaN or infinite"):
        jaxgmm.batches(masked).totals()


@once
def test_rows_without_weight_are_told_of_as_well():
    mixture = jaxgmm.from_parameters([0.5, 0.5], [[0.0] * D, [1.0] * D], [1.0, 2.0], "spherical")
    weights = np.where(np.arange(N) < 500, 1, 0)
    rows = np.where((np.arange(N) == 700)[:, None], np.nan, x())
    told = np.concatenate(list(jaxgmm.batches(rows, weights=weights, batch_size=250).apply(mixture.log_prob)))
    assert told.shape == (N,)
    np.testing.assert_allclose(told[500:600], mixture.log_prob(x()[500:600]), rtol=1e-5)


@once
def test_files_that_cannot_be_written_as_they_are(tmp_path):
    source = jaxgmm.batches(x(), batch_size=300)
    for name, function, message in (
        ("a.npy", lambda rows: np.full(rows.n, None), "an array has dtype object"),
        ("a.npy", lambda rows: rows.x.astype("bfloat16"), "an array has dtype bfloat16"),
        ("a.parquet", lambda rows: {"p": rows.x, "p_1": rows.x[:, 0]}, "two arrays make a column 'p_1'"),
        ("a.parquet", lambda rows: {"p": rows.x.astype("bfloat16")}, "column 'p_0' has dtype bfloat16"),
        ("a.parquet", lambda rows: {}, "function gave no arrays"),
    ):
        with pytest.raises(ValueError, match=message):
            source.write(tmp_path / name, function)
        assert not (tmp_path / name).exists()


@once
def test_tables_are_of_the_columns_of_all_files(tmp_path):
    """Of types that hold what is in any of them, and in text wherever a fraction comes first."""
    whole = pandas.DataFrame({"a": np.arange(N), "b": 1.5})
    whole.to_parquet(tmp_path / "1.parquet")
    (whole + 0.5).to_parquet(tmp_path / "2.parquet")
    found = jaxgmm.batches(tmp_path)
    assert found.totals().n == 2 * N
    np.testing.assert_allclose(found.sample(n=2 * N).x[N:, 0], np.arange(N) + 0.5)
    whole.rename(columns={"b": "c"}).to_parquet(tmp_path / "3.parquet")
    with pytest.raises(ValueError, match=r"3\.parquet and .*1\.parquet differ in column 'b'"):
        jaxgmm.batches(tmp_path, missing="nan")
    late = pandas.DataFrame({"a": [1] * 200_000 + [0.5]})
    late["a"] = [str(value) for value in [1] * 200_000 + [0.5]]
    late.to_csv(tmp_path / "late.csv", index=False)
    assert jaxgmm.batches(tmp_path / "late.csv").totals().n == 200_001


@once
def test_a_function_may_give_a_single_part():
    for given in (x(), table(), jaxgmm.rows(x())):
        assert jaxgmm.batches(lambda given=given: given).totals().n == N


@once
def test_the_first_rows_of_a_table_are_soon_looked_at(tmp_path, monkeypatch):
    """Not one by one: a reader takes as long for one row as for some thousands."""
    pyarrow.parquet.write_table(table(), tmp_path / "rows.parquet")
    asked, of = [], pyarrow.dataset.FileSystemDataset.to_batches

    class Watched:
        def __init__(self, dataset):
            self._dataset, self.schema = dataset, dataset.schema

        def to_batches(self, **options):
            asked.append(options["batch_size"])
            return of(self._dataset, **options)

    jaxgmm.batches(Watched(pyarrow.dataset.dataset(tmp_path / "rows.parquet")))
    assert min(asked) >= 1000
