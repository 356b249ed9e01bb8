"""Names in tables: levels and codes, the form of a table, and what verbs do about frames that hold names."""

import datetime
import re

import jax
import numpy as np
import pandas
import polars
import pyarrow
import pytest

import jaxgmm
from jaxgmm import Bernoulli, Categorical, LogNormal, NegativeBinomial, Poisson, Product, Schema, table_form

from tolerance import once

KEY = jax.random.key(0)
COLUMNS = {
    "colour": ["red", "blue", None, "red", "green", "blue"],
    "size": [1.5, 2.0, 3.25, None, 2.5, 0.5],
    "ok": [True, None, False, True, True, False],
    "grade": [1, 2, 5, 2, 1, 5],
}
FRAME = pandas.DataFrame(COLUMNS)
ORDER = ["red", "green", "blue"]
# As libraries have such a table, and the order of the colours' codes.
FRAMES = {
    "texts of pandas": (FRAME, sorted(ORDER)),
    "objects": (FRAME.astype({"colour": object}), sorted(ORDER)),
    "nullable": (FRAME.convert_dtypes(), sorted(ORDER)),
    "of pyarrow": (FRAME.convert_dtypes(dtype_backend="pyarrow"), sorted(ORDER)),
    "categories": (FRAME.astype({"colour": pandas.CategoricalDtype(ORDER)}), ORDER),
    "texts of polars": (polars.DataFrame(COLUMNS), sorted(ORDER)),
    "enum": (polars.DataFrame(COLUMNS).with_columns(polars.col("colour").cast(polars.Enum(ORDER))), ORDER),
    "categorical": (
        polars.DataFrame(COLUMNS).with_columns(polars.col("colour").cast(polars.Categorical)),
        sorted(ORDER),
    ),
    "texts of pyarrow": (pyarrow.table(COLUMNS), sorted(ORDER)),
    "dictionary": (
        pyarrow.table(COLUMNS).set_column(0, "colour", pyarrow.array(COLUMNS["colour"]).dictionary_encode()),
        sorted(ORDER),
    ),
    "ordered dictionary": (
        pyarrow.Table.from_pandas(FRAME.astype({"colour": pandas.CategoricalDtype(ORDER, ordered=True)})),
        ORDER,
    ),
    "dictionaries in chunks": (
        pyarrow.concat_tables(
            [
                pyarrow.table({name: values[part] for name, values in COLUMNS.items()} | {
                    "colour": pyarrow.array(COLUMNS["colour"][part]).dictionary_encode()
                })
                for part in (slice(0, 4), slice(4, 6))
            ]
        ),
        sorted(ORDER),
    ),
}  # fmt: skip


@once
@pytest.mark.parametrize("kind", FRAMES)
def test_names_become_codes_in_the_order_of_their_levels(kind):
    frame, order = FRAMES[kind]
    schema = Schema.of(frame)
    assert schema.names == tuple(COLUMNS)
    assert schema.levels == (tuple(order), None, None, None)
    rows = schema.rows(frame)
    assert rows.dtype.kind == "f"
    expected = [np.nan if name is None else order.index(name) for name in COLUMNS["colour"]]
    np.testing.assert_array_equal(rows[:, 0], expected)
    np.testing.assert_array_equal(rows[:, 2], [1, np.nan, 0, 1, 1, 0])
    np.testing.assert_array_equal(rows[:, 3], COLUMNS["grade"])
    np.testing.assert_array_equal(schema.rows(frame, missing="nan").seen, ~np.isnan(rows))
    # As another library has the same table, under the first one's schema.
    for other, _ in FRAMES.values():
        np.testing.assert_array_equal(schema.rows(other), rows)


@once
@pytest.mark.parametrize("kind", FRAMES)
def test_values_are_levels_where_that_is_said(kind):
    schema = Schema.of(FRAMES[kind][0], categorical=["gr*", "colour"])
    assert schema.levels[3] == (1, 2, 5)
    np.testing.assert_array_equal(schema.rows(FRAMES[kind][0])[:, 3], [0, 1, 2, 1, 0, 2])
    assert str(table_form(FRAMES[kind][0], schema=schema)) == (
        "Product((0, 3): Categorical(levels=3), 1: diag, 2: Bernoulli)"
    )


@once
@pytest.mark.parametrize("kind", FRAMES)
def test_an_entry_that_is_no_level_is_named_or_a_gap(kind):
    schema = Schema(["colour"], {"colour": ["reed", "blue"]})
    with pytest.raises(
        ValueError,
        match=r"frame holds 'red' in row 0 of column 'colour', and others elsewhere, which are no level of it; "
        r"expected 'reed', 'blue'\. Is 'reed' meant\? .*unknown='missing'",
    ):
        schema.rows(FRAMES[kind][0])
    found = schema.rows(FRAMES[kind][0], unknown="missing")
    np.testing.assert_array_equal(found[:, 0], [np.nan, 1, np.nan, np.nan, np.nan, 1])
    assert schema.rows(FRAMES[kind][0], unknown="missing", missing="nan").seen.sum() == 2


@once
def test_levels_keep_single_precision_beside_them():
    frame = FRAME[["colour", "size"]].astype({"size": np.float32})
    assert Schema.of(frame).rows(frame).dtype == np.float32


@once
def test_levels_of_other_types_are_what_they_are_called():
    ages = pandas.DataFrame(
        {"age": pandas.cut([3, 15, 40], [0, 10, 20, 50]), "half": pandas.Categorical([0.5, 1.0, 0.5])}
    )
    schema = Schema.of(ages)
    assert schema.levels == (("(0, 10]", "(10, 20]", "(20, 50]"), (0.5, 1))
    assert schema.rows(ages).tolist() == [[0, 0], [1, 1], [2, 0]]
    fields = np.array([("b", 1.5), ("a", 2.0)], [("name", "U3"), ("size", float)])
    assert Schema.of(fields).levels == (("a", "b"), None)
    assert Schema.of(fields).rows(fields).tolist() == [[1, 1.5], [0, 2.0]]


DAYS = [f"2024-0{month}-13" for month in range(1, 7)]
FORBIDDEN = {
    "dates": (pandas.to_datetime(DAYS), "has dtype datetime64"),
    "days of Python": ([datetime.date(2024, 1, day) for day in range(1, 7)], "has dtype object"),
    "durations": (pandas.to_timedelta(range(6), unit="h"), "has dtype timedelta64"),
    "texts of dates": (DAYS, "holds texts that are dates, such as '2024-01-13'"),
    "texts of numbers": (["3.5", "4", "n/a?", "7", "1e3", None], "are numbers, such as '3.5', beside 'n/a"),
    "texts and numbers": (["3.5", 4, "x", None, 1, "y"], "holds '3.5' beside 4 of type int"),
    "nothing": ([None] * 6, "has no entries"),
}  # fmt: skip


@once
@pytest.mark.parametrize("kind", FORBIDDEN)
def test_what_is_no_name_is_refused_with_a_conversion_that_works(kind):
    values, message = FORBIDDEN[kind]
    frame = FRAME.assign(day=values)
    with pytest.raises((TypeError, ValueError), match=f"column 'day' of frame .*{message}") as refused:
        Schema.of(frame)
    said = str(refused.value)
    if kind == "nothing":
        return
    code = re.search(r"[Uu]se (\S.*?) in its place", said).group(1)
    found = frame.assign(day=eval(code, {"pandas": pandas, "frame": frame}))
    assert Schema.of(found).levels == (tuple(sorted(ORDER)), None, None, None, None)
    assert np.isfinite(Schema.of(found).rows(found)[:, 4]).sum() >= 3
    if "categorical=" in said:
        code = said[said.index("jaxgmm.Schema") :].split(".rows")[0]
        assert len(eval(code, {"jaxgmm": jaxgmm, "frame": frame}).levels[4]) >= 5


@once
@pytest.mark.parametrize(
    ("values", "what", "place"),
    [(["3.5", "4", "x"], "numbers", 3.5), (["2000-01-03", "2000-01-02", "2001-01-01"], "dates", 10959.0)],
)
def test_texts_of_other_libraries_are_converted_as_they_say(values, what, place):
    frame = polars.DataFrame({"day": values, "a": [1.0, 2.0, 3.0]})
    with pytest.raises(TypeError, match=f"holds texts that are {what}") as refused:
        Schema.of(frame)
    code = str(refused.value).split(", use ")[1].split(" in its place")[0]
    converted = frame.with_columns(eval(code).alias("day"))
    assert Schema.of(converted).rows(converted)[0, 0] == pytest.approx(place)
    frame = pyarrow.table({"day": ["2000-01-03", "2000-01-02"] if what == "dates" else ["3.5", "4"]})
    with pytest.raises(TypeError, match=f"holds texts that are {what}") as refused:
        Schema.of(frame)
    code = str(refused.value).split(", use ")[1].split(" in its place")[0]
    assert eval(code).to_pylist()[0] == (10959 if what == "dates" else 3.5)


@once
@pytest.mark.parametrize(
    ("make", "exception", "message"),
    [
        (lambda: Schema(["a"], {"b": ["x"]}), ValueError, "levels are of 'b', which is no column; .*'a'"),
        (lambda: Schema(["a"], [["x", "x"]]), ValueError, "levels of 'a' hold 'x' more than once"),
        (lambda: Schema(["a"], [["x", None]]), TypeError, "levels of 'a' hold None; expected texts or numbers"),
        (lambda: Schema(["a"], [[]]), ValueError, "levels of 'a' are none"),
        (lambda: Schema(["a"], ["xy"]), TypeError, "levels of 'a' are 'xy'; expected texts or numbers in a sequence"),
        (lambda: Schema(["a"], [None, ["x"]]), ValueError, "expected a mapping .* for each of the 1 columns"),
        (lambda: Schema.of(FRAME, categorical="x*"), ValueError, r"'x\*', which is no column; .* 'colour'"),
        (lambda: Schema.of(FRAME).rows(FRAME, unknown="drop"), ValueError, "unknown is 'drop'; expected"),
        (
            lambda: Schema(["grade"], [["1", "2", "5"]]).rows(FRAME),
            ValueError,
            "holds 1 in row 0 .* It is of type int, and the level of str",
        ),
        (lambda: Schema.of(FRAME).rows(FRAME.assign(size="big")), TypeError, "column 'size' of frame has dtype"),
        (lambda: table_form(FRAME, {"x*": "diag"}), ValueError, r"families holds 'x\*', which is no column"),
        (lambda: table_form(FRAME, {"size": "gausian"}), ValueError, "'gausian' for 'size'; .*'gaussian'"),
        (lambda: table_form(FRAME, {"size": 3}), TypeError, "families has 3 for 'size'"),
        (lambda: table_form(FRAME, ["diag"]), TypeError, "families is .*; expected a mapping"),
        (lambda: table_form(FRAME, {"colour": "poisson"}), ValueError, "'colour' holds names .* Poisson has numbers"),
        (lambda: table_form(FRAME, {"colour": Poisson.form()}), ValueError, "'colour' holds names"),
        (lambda: table_form(FRAME, {"size": "poisson"}), ValueError, "'size' holds 1.5 in row 0; Poisson .* counts"),
        (
            lambda: table_form(FRAME, {"s*": "full", "*e": "diag"}),
            ValueError,
            r"has 's\*' as full and '\*e' as diag, and both are 'size'",
        ),
        (
            lambda: table_form(FRAME, {"grade": "categorical"}),
            ValueError,
            r"numbers from 1 to 5, which are no codes from 0.*Schema\.of\(x, categorical=\['grade'\]\)",
        ),
        (lambda: table_form(np.ones((3, 2))), TypeError, r"no names of columns; expected a frame.*Product\.form"),
        (
            lambda: table_form(pandas.DataFrame({"a": [1, 2, 3] * 9, "b": 0.5})),
            ValueError,
            r"'a' holds but 3 whole numbers, 1, 2, 3, and Gaussian .* categorical=\['a'\].*'poisson'.*'gaussian'",
        ),
        (lambda: table_form(FRAME, schema=3), TypeError, "schema is of type int"),
        (
            lambda: table_form(pandas.DataFrame({"id": [f"row {i}" for i in range(50)]})),
            ValueError,
            "'id' holds 50 names in 50 rows, so that nearly each has its own: leave it out",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(make, exception, message):
    with pytest.raises(exception, match=message):
        make()


@once
def test_a_form_is_told_by_kinds_and_by_names():
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame(
        {
            "visits": rng.poisson(rng.gamma(1.0, 9.0, 200)),
            "even": rng.binomial(40, 0.5, 200),
            "below": rng.integers(-9, 9, 200),
            "flag": rng.integers(2, size=200).astype(float),
            "size": rng.normal(size=200),
            "pay": rng.gamma(2.0, size=200),
            "kind": rng.integers(3, size=200),
        }
    )
    count, flag = NegativeBinomial.form(), Bernoulli.form()
    # Varying less than Poisson's, or below 0, whole numbers are numbers.
    assert table_form(frame[["visits", "even", "below", "flag", "size"]]) == Product.form(
        {0: count, (1, 2, 4): "diag", 3: flag}
    )
    assert table_form(frame[["size", "pay"]]) == table_form(frame[["size"]]) == jaxgmm.Gaussian.form("diag")
    assert table_form(frame[["size", "pay"]], {"*": "full"}) == jaxgmm.Gaussian.form("full")
    # Of columns that are given the same, in one block; a name before a pattern; codes from 0.
    asked = {
        "*": "full",
        "pay": LogNormal.form("diag"),
        "kind": "categorical",
        "flag": "bernoulli",
        "visits": "poisson",
    }
    assert table_form(frame, asked) == Product.form(
        {0: Poisson.form(), (1, 2, 4): "full", 3: flag, 5: LogNormal.form("diag"), 6: Categorical.form(3)}
    )
    # Truths are said as such, also by levels.
    truths = Schema(["flag"], {"flag": [False, True]})
    assert table_form(frame, schema=truths) == flag
    # All that are not named otherwise.
    assert table_form(frame, {"*": "full", "v*": "poisson", "flag": "bernoulli", "kind": "full"}) == Product.form(
        {0: Poisson.form(), (1, 2, 4, 5, 6): "full", 3: flag}
    )
    part = Schema(["pay", "visits"])
    assert table_form(frame, schema=part) == Product.form({0: "diag", 1: count})


def test_a_frame_of_names_is_fitted_as_its_codes_are():
    rng = np.random.default_rng(0)
    kind = rng.integers(2, size=200)
    frame = pandas.DataFrame(
        {
            "colour": np.array(["red", "blue", "green"])[np.where(rng.random(200) < 0.9, kind, 2)],
            "size": kind * 6 + rng.normal(size=200),
            "same": "one",
        }
    )
    form = table_form(frame)
    table = jaxgmm.select(KEY, frame, [2], form, n_restarts=4)
    assert table.schema == Schema(["colour", "size"], {"colour": ["blue", "green", "red"]})
    assert table.constants == {"same": "one"}
    assert "Column 'same' is 'one' in every row, and is left out." in list(table.notes())
    rows = table.schema.rows(frame.iloc[::-1])
    again = jaxgmm.select(KEY, rows[::-1], [2], form.of_columns([0, 1]), n_restarts=4)
    np.testing.assert_array_equal(again.best.mixture.weights, table.best.mixture.weights)
    found = table.best.mixture.sorted()
    assert jaxgmm.adjusted_rand_index(found.predict(table.schema.rows(frame)), kind) > 0.95
    likely = {table.schema.levels[0][int(code)] for code in found.components.centers[:, 0]}
    assert likely == {"red", "blue"}


@once
def test_verbs_never_take_names_for_numbers():
    named = FRAME[["colour", "grade"]].dropna()
    with pytest.raises(ValueError, match=r"names in column 'colour' \('blue'.*full has numbers there.*table_form\(x\)"):
        jaxgmm.select(KEY, named, [1])
    both = Product.form({0: Categorical.form(3), 1: "diag"})
    with pytest.raises(ValueError, match="diag has numbers there"):
        jaxgmm.select(KEY, named, [1], [both, "diag"])
    with pytest.raises(ValueError, match=r"Poisson.* has numbers there"):
        jaxgmm.select(KEY, named, [1], Product.form({(0, 1): Poisson.form()}))
    for verb in (lambda x: jaxgmm.init(KEY, x, 1), lambda x: jaxgmm.fit_restarts(KEY, x, 1), lambda x: jaxgmm.rows(x)):
        with pytest.raises(TypeError, match=r"column 'colour' of x has dtype .*Schema\.of\(x\)\.rows\(x\)"):
            verb(named[["colour"]])
    with pytest.raises(TypeError, match="column 'colour' of xs has dtype"):
        jaxgmm.select_many(KEY, named, [1], ["diag"], by="grade")


def test_levels_come_back_from_a_file(tmp_path):
    schema = Schema(["size", "colour", "grade", "half"], [None, ["röt", "blue"], [1, 2, 5], [0.5, 1.5]])
    mixture = jaxgmm.init(KEY, np.random.default_rng(0).normal(size=(30, 4)), 2, "diag")
    path = tmp_path / "mixture.npz"
    jaxgmm.save(path, mixture, schema=schema)
    back = jaxgmm.load_schema(path)
    assert back == schema
    assert [type(level) for level in back.levels[2]] == [int] * 3


@once
@pytest.mark.parametrize("said", [{"names": ["a", "b"], "levels": [None]}, {"levels": []}, {"names": ["a", "a"]}, [1]])
def test_a_damaged_schema_is_said(tmp_path, said):
    from jaxgmm.ground import archive

    path, mixture = tmp_path / "mixture.npz", jaxgmm.from_parameters([1.0], [[0.0, 0.0]], [[1.0, 1.0]], "diag")
    jaxgmm.save(path, mixture, schema=Schema(["a", "b"]))
    with archive.reading(path) as source:
        header = source.header()
        arrays = {name.removesuffix(".npy"): source.array(name.removesuffix(".npy")) for name in source.unread()}
    archive.write(path, header | {"schema": said}, arrays)
    with pytest.raises(jaxgmm.LoadError, match="has a schema that is none"):
        jaxgmm.load_schema(path)


@once
def test_part_of_a_schema():
    schema = Schema(["size", "colour"], {"colour": ["red", "blue"]})
    assert schema.take([1]) == Schema(["colour"], [["red", "blue"]])
    assert (schema.has_levels, schema.take([0]).has_levels) == (True, False)
    assert repr(schema) == "Schema(names=('size', 'colour'), levels=(None, ('red', 'blue')))"
    assert len({schema, Schema(["size", "colour"]), Schema(["size", "colour"], [None, ("red", "blue")])}) == 2
