"""Fits of rows that Spark holds in partitions, in local mode: a JVM and its Python workers."""

import os
import pathlib
import shutil
import signal
import sys

import jax
import numpy as np
import pandas as pd
import pytest

import jaxgmm
from jaxgmm.ground.partitioned import Partitioned

sql = pytest.importorskip("pyspark.sql")
if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
    pytest.skip("Spark needs Java", allow_module_level=True)

# Those of other libraries, about versions of each other, the sockets that they leave open, and what comes one day.
pytestmark = pytest.mark.filterwarnings("ignore")

X64 = bool(jax.config.jax_enable_x64)
# To rounding of sums over some thousand rows.
CLOSE = {"rtol": 1e-9, "atol": 1e-10} if X64 else {"rtol": 2e-4, "atol": 2e-4}
COLUMNS = ["a", "b"]
KNOWN = {
    "weights": "w",
    "labels": "label",
    "noise": ["error of a", "error of b"],
    "missing": "nan",
    "columns": COLUMNS,
}
START = jaxgmm.from_parameters([0.3, 0.3, 0.4], [[0.5, 0.0], [5.0, 1.0], [-2.0, 7.0]], np.stack([np.eye(2)] * 3))


@pytest.fixture(scope="module")
def spark(tmp_path_factory):
    """Two workers, which find this package, and a partition that is lost is tried again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(pathlib.Path(jaxgmm.__file__).parents[1]), *sys.path[1:]]))
        # JAX starts there in float32, whatever is set here.
        patch.delenv("JAX_ENABLE_X64", raising=False)
        settings = {
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),
        }
        session = sql.SparkSession.builder.master("local[2,4]").config(map=settings).getOrCreate()
        session.sparkContext.setLogLevel("OFF")
        yield session
        session.stop()


@pytest.fixture(scope="module")
def frame():
    """Three components; weights of which a third is zero, labels of some rows, gaps, errors of entries, and names."""
    n = 3000
    generator = np.random.default_rng(0)
    x = generator.normal(size=(n, 2))
    component = np.arange(n) % 3
    x += np.array([[0, 0], [6, 1], [-3, 8]])[component]
    found = pd.DataFrame(x, columns=COLUMNS).astype(np.float64 if X64 else np.float32)
    found["w"] = generator.integers(0, 3, n).astype(float)
    found["label"] = np.where(generator.random(n) < 0.1, component, -1)
    for name in COLUMNS:
        found[f"error of {name}"] = generator.uniform(0.01, 0.2, n)
    found.loc[generator.random(n) < 0.1, "b"] = np.nan
    found["name"] = "z"
    return found


@pytest.fixture(scope="module")
def held(spark, frame, tmp_path_factory):
    """The same rows, in files, and so in partitions that do not change."""
    folder = tmp_path_factory.mktemp("rows")
    for place in range(5):
        frame.iloc[place * 600 : (place + 1) * 600].to_parquet(folder / f"{place}.parquet", index=False)
    return spark.read.option("spark.sql.files.openCostInBytes", 2**30).parquet(str(folder)).repartition(4).cache()


@pytest.fixture(scope="module")
def expected(frame):
    rows = jaxgmm.rows(
        frame[COLUMNS].to_numpy(),
        weights=frame["w"].to_numpy(),
        labels=frame["label"].to_numpy(),
        noise=frame[["error of a", "error of b"]].to_numpy(),
        missing="nan",
    )
    return rows, jaxgmm.fit(START, rows)


def assert_same_bits(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def test_all_that_is_known_of_rows(held, expected):
    rows, in_memory = expected
    source = jaxgmm.batches(held, **KNOWN)
    assert isinstance(source, Partitioned)
    assert source.names == ("a", "b")
    assert source.totals() == jaxgmm.batches(rows).totals()
    found = jaxgmm.fit_batches(START, source)
    assert int(found.status) == jaxgmm.Status.CONVERGED
    for a, b in zip(jax.tree.leaves(found.mixture), jax.tree.leaves(in_memory.mixture), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, **CLOSE)
    few = source.sample(jax.random.key(0), 100)
    assert few.n == 100
    assert_same_bits(few, source.sample(jax.random.key(0), 100))


def test_partitions_without_rows(held, expected):
    none = held.where("w < 0")
    found = jaxgmm.fit_batches(START, jaxgmm.batches(none.union(held).union(none), **KNOWN))
    np.testing.assert_allclose(found.mixture.means, expected[1].mixture.means, **CLOSE)
    with pytest.raises(ValueError, match="source has no rows"):
        jaxgmm.batches(none, **KNOWN).totals()


def test_a_killed_worker_changes_nothing(held, tmp_path):
    flag = tmp_path / "flag"

    def killed_once(batches, flag=str(flag)):
        for batch in batches:
            if os.path.exists(flag):
                os.remove(flag)
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch

    source = jaxgmm.batches(held.mapInArrow(killed_once, held.schema), **KNOWN)
    undisturbed = jaxgmm.fit_batches(START, source)
    found = jaxgmm.fit_batches(START, source, callback=lambda result: int(result.n_iter) == 1 and flag.touch())
    assert int(found.n_iter) > 2
    assert not flag.exists()
    assert_same_bits(found, undisturbed)


def test_rows_can_be_brought_here(held, frame):
    source = jaxgmm.batches(held, **KNOWN, batch_size=512)
    brought = np.concatenate([np.asarray(rows.weights) for rows in source])
    assert brought.sum() == frame["w"].sum()


def test_what_cannot_be_is_refused(held):
    with pytest.raises(ValueError, match=r"In partition \d: In the rows from 0 to \d+ .* x is NaN or infinite"):
        jaxgmm.batches(held, columns=COLUMNS).totals()
    with pytest.raises(TypeError, match="column 'name' of source"):
        jaxgmm.batches(held)
    with pytest.raises(TypeError, match="weights is of type ndarray; expected the name of a column"):
        jaxgmm.batches(held, weights=np.ones(3000))
    with pytest.raises(TypeError, match="Column of Spark; expected a data frame"):
        jaxgmm.batches(held["a"])


def test_columns_of_what_a_mixture_says(held, frame):
    """Beside all columns there are, of rows with gaps, in the precision of this process."""
    source = jaxgmm.batches(held, missing="nan", columns=COLUMNS)
    functions = {"label of": jaxgmm.Mixture.predict, "density": jaxgmm.Mixture.log_prob}
    found = source.with_columns(START, functions).toPandas()
    assert list(found.columns) == [*frame.columns, "label of", "density"]
    assert len(found) == len(frame)
    rows = jaxgmm.rows(found[COLUMNS].to_numpy(), missing="nan")
    assert found["density"].dtype == START.log_prob(rows).dtype
    np.testing.assert_array_equal(found["label of"], START.predict(rows))
    np.testing.assert_allclose(found["density"], START.log_prob(rows), rtol=1e-12 if X64 else 1e-5)
