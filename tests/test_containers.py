"""Containers that say more than their values: what they say, or a refusal with advice that works."""

import datetime
import decimal
import re

import jax
import jax.numpy as jnp
import numpy as np
import pandas
import polars
import pyarrow
import pytest
import scipy.sparse
from jax.experimental import sparse

import jaxgmm
from jaxgmm.ground import containers

from tolerance import once

pytestmark = once
KEY = jax.random.key(0)
A, B = np.random.default_rng(0).normal(size=(2, 12)).round(3)
GAP = 5
MASK = np.arange(12) == GAP
HOLED = np.column_stack([A, np.where(MASK, np.nan, B)])
RECORDS = np.array(list(zip(A, B, strict=True)), dtype=[("a", float), ("b", float)])


def with_b(values, dtype=None):
    return pandas.DataFrame({"a": A, "b": pandas.Series(values, dtype=dtype)})


def gapped(values):
    return [None if gap else value for value, gap in zip(values, MASK, strict=True)]


# Each stands for the rows of HOLED, or of its whole numbers.
HOLES = {
    "masked": np.ma.array(np.column_stack([A, B]), mask=np.column_stack([np.zeros(12), MASK])),
    "masked, of a large value": np.ma.array(
        np.column_stack([A, np.where(MASK, 1e30, B)]), mask=np.column_stack([np.zeros(12), MASK])
    ),
    "list of masked": [
        np.ma.array([a, b], mask=[False, gap]) for a, b, gap in zip(A, np.where(MASK, 1e30, B), MASK, strict=True)
    ],
    "masked records": np.ma.array(RECORDS, mask=[(False, gap) for gap in MASK]),
    "Float64": with_b(gapped(B), "Float64"),
    "double[pyarrow]": with_b(gapped(B), "double[pyarrow]"),
    "sparse pandas": with_b(pandas.arrays.SparseArray(HOLED[:, 1])),
    "polars": polars.DataFrame({"a": A, "b": gapped(B)}),
    "pyarrow": pyarrow.table({"a": A, "b": gapped(B)}),
    "pyarrow batch": pyarrow.RecordBatch.from_pydict({"a": A, "b": gapped(B)}),
}
WHOLE = np.arange(12) % 4
WHOLE_HOLES = {
    "Int64": with_b(gapped(WHOLE), "Int64"),
    "UInt8": with_b(gapped(WHOLE), "UInt8"),
    "int64[pyarrow]": with_b(gapped(WHOLE), "int64[pyarrow]"),
    "polars": polars.DataFrame({"a": A, "b": gapped(WHOLE.tolist())}),
    "polars decimal": polars.DataFrame({"a": A, "b": gapped([decimal.Decimal(int(v)) for v in WHOLE])}),
    "pyarrow": pyarrow.table({"a": A, "b": gapped(WHOLE.tolist())}),
    "pyarrow decimal": pyarrow.table({"a": A, "b": gapped([decimal.Decimal(int(v)) for v in WHOLE])}),
    "masked": np.ma.array(np.column_stack([A, WHOLE]), mask=np.column_stack([np.zeros(12), MASK])),
}
TRUTHS = {
    "boolean": with_b(gapped(WHOLE > 1), "boolean"),
    "bool[pyarrow]": with_b(gapped(WHOLE > 1), "bool[pyarrow]"),
    "polars": polars.DataFrame({"a": A, "b": gapped((WHOLE > 1).tolist())}),
    "pyarrow": pyarrow.table({"a": A, "b": gapped((WHOLE > 1).tolist())}),
}
ALL_HOLES = (
    [pytest.param(x, HOLED[:, 1], id=name) for name, x in HOLES.items()]
    + [pytest.param(x, np.where(MASK, np.nan, WHOLE), id=f"whole {name}") for name, x in WHOLE_HOLES.items()]
    + [pytest.param(x, np.where(MASK, np.nan, WHOLE > 1), id=f"truth {name}") for name, x in TRUTHS.items()]
)


@pytest.mark.parametrize(("x", "b"), ALL_HOLES)
def test_what_is_missing_is_nan(x, b):
    np.testing.assert_array_equal(containers.plain("x", x), np.column_stack([A, b]))


@pytest.mark.parametrize("kind", HOLES)
def test_missing_entries_are_never_fitted(kind):
    with pytest.raises(ValueError, match=r"x is NaN or infinite in 1 of 12 rows: 5\."):
        jaxgmm.init(KEY, HOLES[kind], 1)
    found = jaxgmm.init(KEY, HOLES[kind], 1, "diag", weights=1.0 * ~MASK)
    expected = jaxgmm.init(KEY, HOLED, 1, "diag", weights=1.0 * ~MASK)
    np.testing.assert_array_equal(found.means, expected.means)


def test_the_column_that_lacks_something_is_named():
    with pytest.raises(ValueError, match=r"That is column 'b'; what is missing counts as NaN\."):
        jaxgmm.init(KEY, HOLES["Float64"], 1)


def test_masked_weights_and_data_sets_are_not_their_values():
    with pytest.raises(ValueError, match="weights is negative or not finite in 1 of 12 rows: 5"):
        jaxgmm.init(KEY, np.column_stack([A, B]), 1, weights=np.ma.array(np.ones(12), mask=MASK))
    found = jaxgmm.fit_many(KEY, [np.column_stack([A, B]), HOLES["masked"]], 1)
    assert (found.best.status == jaxgmm.Status.NON_FINITE).tolist() == [False, True]


@pytest.mark.parametrize(
    "x",
    [
        np.ma.array(np.column_stack([A, B])),
        RECORDS,
        np.matrix(np.column_stack([A, B])),
        with_b(B, "Float64"),
        with_b(B, "Float32").astype({"b": "Float64"}),
        pyarrow.table({"a": A, "b": B}),
        polars.DataFrame({"a": A, "b": B}),
        pandas.DataFrame({"a": A, "b": B}).astype("Sparse[float64]"),
    ],
    ids=["masked", "records", "matrix", "Float64", "Float32", "pyarrow", "polars", "sparse"],
)
def test_what_lacks_nothing_is_what_it_was(x):
    expected = np.column_stack([A, B])
    np.testing.assert_allclose(containers.plain("x", x), expected, rtol=1e-6)


DAYS = pandas.date_range("2024-01-01", periods=12, freq="37h")
TEXTS = [f"{b}" for b in B]
WORDS = ["one", "two", "three"] * 4
PANDAS = {
    "category": with_b(WORDS, "category"),
    "category of numbers": with_b(WHOLE, "category"),
    "text": with_b(WORDS),
    "text of numbers": with_b(TEXTS),
    "text of pyarrow": with_b(WORDS, "string[pyarrow]"),
    "object": with_b(gapped(B), object),
    "object with NA": with_b([pandas.NA if gap else b for b, gap in zip(B, MASK, strict=True)], object),
    "object of words": with_b(gapped(WORDS), object),
    "decimals": with_b([decimal.Decimal(str(b)) for b in B], object),
    "dates": with_b([day.date() for day in DAYS], object),
    "datetime": with_b(DAYS),
    "datetime with a zone": with_b(DAYS.tz_localize("Europe/Berlin")),
    "datetime of pyarrow": with_b(DAYS, "timestamp[ns][pyarrow]"),
    "timedelta": with_b(DAYS - DAYS[0]),
    "period": with_b(pandas.period_range("2024-01", periods=12, freq="M")),
    "interval": with_b(pandas.interval_range(0, 12)),
    "complex": with_b(B + 1j),
}
POLARS = {
    "text": WORDS,
    "text of numbers": TEXTS,
    "category": polars.Series(WORDS, dtype=polars.Categorical),
    "enum": polars.Series(WORDS, dtype=polars.Enum(["one", "two", "three"])),
    "date": [day.date() for day in DAYS],
    "datetime": DAYS.to_pydatetime(),
    "duration": [datetime.timedelta(hours=3 * int(place)) for place in range(12)],
    "time": [datetime.time(hour=int(place)) for place in range(12)],
    "list": [[1.0]] * 12,
}


def conversions(message):
    """What an error says to write: an expression to use, and one that leaves the column out."""
    found = re.search(r"Use (.*?)(?: in its place)?(?:, or (.*))?\.$", message)
    return found.group(1), found.group(2)


def refused(x):
    with pytest.raises(TypeError) as caught:
        jaxgmm.init(KEY, x, 1)
    return str(caught.value)


@pytest.mark.parametrize("kind", PANDAS)
def test_columns_of_pandas_that_are_no_numbers(kind):
    x = PANDAS[kind]
    message = refused(x)
    assert message.startswith("column 'b' of x has dtype")
    instead, without = conversions(message)
    assert jaxgmm.init(KEY, eval(without), 1).n_columns == 1
    found = eval(instead)
    x = found if isinstance(found, pandas.DataFrame) else x.assign(b=found)
    values = containers.plain("x", x)
    assert values.shape[1] == (3 if "get_dummies" in instead else 2)
    # rows that were missing still are, and the others tell the entries apart
    assert len(np.unique(values[~np.isnan(values).any(axis=1)], axis=0)) >= 11
    present = np.isfinite(values).all(axis=1)
    assert jaxgmm.init(KEY, x, 1, "diag", weights=1.0 * present).n_columns == values.shape[1]


@pytest.mark.parametrize("kind", POLARS)
def test_columns_of_polars_that_are_no_numbers(kind):
    x = polars.DataFrame({"a": A, "b": POLARS[kind]})
    message = refused(x)
    assert message.startswith("column 'b' of x has dtype")
    instead, without = conversions(message)
    if without is None:
        instead, without = None, instead
    assert jaxgmm.init(KEY, eval(without), 1).n_columns == 1
    if instead is not None:
        found = eval(instead)
        x = found if isinstance(found, polars.DataFrame) else x.with_columns(found.alias("b"))
        assert jaxgmm.init(KEY, x, 1, "diag").n_columns == (3 if "to_dummies" in instead else 2)


@pytest.mark.parametrize(
    "values", [WORDS, DAYS, pyarrow.array(WORDS).dictionary_encode()], ids=["text", "time", "dict"]
)
def test_columns_of_pyarrow_that_are_no_numbers(values):
    x = pyarrow.table({"a": A, "b": values})
    message = refused(x)
    assert message.startswith("column 'b' of x has dtype")
    assert jaxgmm.init(KEY, eval(re.search(r"or (x\.drop.*)\.$", message).group(1)), 1).n_columns == 1
    assert "column 'b' of x has dtype" in refused(eval(re.search(r"Use (x\.to_pandas\(\))", message).group(1)))


ARRAYS = {
    "datetime64": np.datetime64("2024-01-01") + np.arange(12)[:, None] * np.timedelta64(37, "h"),
    "datetime64 in months": np.datetime64("2024-01", "M") + np.arange(12)[:, None],
    "timedelta64": np.arange(12)[:, None] * np.timedelta64(37, "h"),
    "complex": (B + 1j * A)[:, None],
    "object": B[:, None].astype(object),
    "object with None": np.array(gapped(B), object)[:, None],
    "text of numbers": np.array(TEXTS)[:, None],
    "scipy sparse": scipy.sparse.csr_array(np.column_stack([A, B])),
    "scipy sparse matrix": scipy.sparse.csr_matrix(np.column_stack([A, B])),
    "JAX sparse": sparse.BCOO.fromdense(jnp.column_stack([A, B])),
    "dictionary": {"a": A, "b": B},
    "lazy": polars.LazyFrame({"a": A, "b": B}),
    "rows with None": [[a, b] for a, b in zip(A.tolist(), gapped(B), strict=True)],
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_that_are_no_numbers(kind):
    x = ARRAYS[kind]
    code = re.search(r"(?:Use|for example with) (.*)\.$", refused(x)).group(1)
    found = eval(code, {"numpy": np, "x": x})
    values = containers.plain("x", found)
    assert values.shape[1] == (
        2 if kind in ("complex", "dictionary", "lazy", "rows with None") or "sparse" in kind else 1
    )
    assert jaxgmm.init(KEY, found, 1, "diag", weights=1.0 * np.isfinite(values).all(axis=1)).n_components == 1


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            [["1.5", "b"]],
            r"x has dtype <U3; expected real numbers\. The entry \[0, 1\] is .*'b'.*a number in its place",
        ),
        (np.array([[1.0, "c"]], object), r"dtype object; .* The entry \[0, 1\] is 'c'"),
        (np.array([(1.0, "c")], [("a", float), ("b", "U3")]), r"column 'b' of x has dtype <U3.*x\[\['a', 'b'\]\]"),
        (3, r"x has shape \(\); expected two axes"),
        ([1.0, 2.0], r"shape \(2,\).*numpy\.asarray\(x\)\[:, None\]"),
    ],
)
def test_what_no_conversion_mends_is_named(x, message):
    with pytest.raises((TypeError, ValueError), match=message):
        jaxgmm.init(KEY, x, 1)
