"""The command line and columns of every kind: names, truths, counts and numbers in one table."""

import contextlib
import io
import json
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

import jaxgmm
from jaxgmm.cli import commands, selected

from tolerance import dtype

# The program computes in float64 whatever the suite does.
pytestmark = pytest.mark.skipif(dtype() is not np.float64, reason="the program has its own dtype")

N = 300
FAST = ("--restarts", "2", "--seed", "1")
LEVELS = ["north", "south", "west"]
USED = ["region", "member", "size", "visits", "answer", "code"]


def frame():
    """Two groups; what cannot be fitted: names of rows, dates, nothing; answers from 1, and names like numbers."""
    random = np.random.default_rng(0)
    group = np.arange(N) % 2
    table = pd.DataFrame(
        {
            "id": [f"row {i}" for i in range(N)],
            "day": pd.date_range("2024-01-01", periods=N).strftime("%Y-%m-%d"),
            "region": np.array(LEVELS)[np.where(random.random(N) < 0.8, group, 2)],
            "member": random.random(N) < 0.2 + 0.6 * group,
            "size": random.normal(size=N) + 6 * group,
            "visits": random.poisson(random.gamma(2.0, 1.0 + 3 * group)),
            "answer": 1 + random.binomial(2, 0.2 + 0.6 * group),
            "code": np.array(["07", "7a", "7b"])[random.integers(3, size=N)],
            "nothing": np.nan,
        }
    )
    holes = random.random((N, 6)) < 0.05
    return table.astype(object).assign(**table[USED].astype(object).mask(holes)), group


def run(*arguments):
    """What a command prints, and to where; it may end the program."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.suppress(SystemExit):
        commands.execute([*map(str, arguments)])
    return out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A folder with rows, a model of them, and what the fit printed, as text and as JSON."""
    folder = tmp_path_factory.mktemp("families")
    table, group = frame()
    table.to_csv(folder / "data.csv", index=False)
    with contextlib.chdir(folder):
        arguments = ("fit", "data.csv", "--family", "auto", "--components", "2", "--missing", "em", *FAST)
        text, err = run(*arguments, "--out", "model.npz", "--assign", "assigned.csv", "--figure", "x.svg")
        assert not [line for line in err.splitlines() if "error" in line]
        told = json.loads(run(*arguments, "--json")[0])
    return folder, group, text, told


@pytest.fixture
def folder(fitted, monkeypatch):
    monkeypatch.chdir(fitted[0])
    return fitted[0]


def test_columns_are_used_by_their_kinds(fitted):
    _, _, text, told = fitted
    assert told["columns"] == USED
    assert told["columns_unused"] == ["id", "day", "nothing"]
    assert {name: found["family"] for name, found in told["best"]["parameters"].items()} == {
        **{"region": "categorical", "member": "bernoulli", "size": "gaussian", "visits": "negative-binomial"},
        **{"answer": "categorical", "code": "categorical"},
    }
    assert told["best"]["fit"]["families"]["size"] == "gaussian"
    for line in (
        "Column 'id' holds 300 names in 300 rows; it is not used.",
        "Column 'day' holds dates or durations; write them as numbers, such as days, or say --family day=categorical",
        "Column 'nothing' has no entries; it is not used.",
        "Families: categorical (region, answer, code), bernoulli (member), gaussian (size), negative-binomial",
        "schema = jaxgmm.load_schema('model.npz')",
    ):
        assert line in text


def test_each_column_is_drawn_with_its_levels(fitted, folder):
    picture = Path("x.svg").read_text()
    assert all(f"<!-- {text} -->" in picture for text in [*USED, *LEVELS, "7a"])


def test_the_model_keeps_levels_and_is_that_of_the_library(fitted, folder):
    _, group, _, told = fitted
    schema, mixture = jaxgmm.load_schema("model.npz"), jaxgmm.load("model.npz")
    assert schema == jaxgmm.Schema(USED, [LEVELS, [False, True], None, None, [1, 2, 3], ["07", "7a", "7b"]])
    table = pd.read_csv("data.csv", dtype={"code": str})
    rows = schema.rows(table, missing="nan")
    assigned = pd.read_csv("assigned.csv")
    np.testing.assert_array_equal(assigned["component"], mixture.predict(rows))
    np.testing.assert_allclose(assigned["probability"], np.max(mixture.responsibilities(rows), axis=1), rtol=1e-9)
    assert jaxgmm.adjusted_rand_index(assigned["component"].to_numpy(), group) > 0.95
    np.testing.assert_allclose(told["best"]["fit"]["log_likelihood"], jaxgmm.log_likelihood(mixture, rows), rtol=1e-6)
    assert jaxgmm.load_metadata("model.npz")["fit"]["families"]["visits"] == "negative-binomial"


def test_the_report_has_what_the_components_are_like(fitted, folder):
    _, _, text, told = fitted
    mixture, found = jaxgmm.load("model.npz"), told["best"]["parameters"]
    parts = {columns: part for part, columns in zip(mixture.components.parts, mixture.components.columns, strict=True)}
    levels = next(part for columns, part in parts.items() if 0 in columns)
    np.testing.assert_allclose(found["region"]["probabilities"], levels.probabilities[:, 0], rtol=1e-9)
    assert found["region"]["levels"] == LEVELS
    np.testing.assert_allclose(np.array(found["member"]["probabilities"])[:, 1], parts[1,].means[:, 0], rtol=1e-9)
    np.testing.assert_allclose(found["size"]["mean"], parts[2,].means[:, 0], rtol=1e-9)
    np.testing.assert_allclose(found["visits"]["sd"], np.sqrt(parts[3,].variances()[:, 0]), rtol=1e-9)
    lines = [line.split() for line in text.splitlines()]
    shares = [f"{one:.3f}" for one in np.array(found["region"]["probabilities"])[:, 1]]
    assert ["south", *shares] in lines
    assert ["member", "True", *(f"{one[1]:.3f}" for one in found["member"]["probabilities"])] in lines
    assert not [line for line in lines if "False" in line]
    shown = run("show", "model.npz")[0]
    assert "south" in shown
    assert text[text.index("column ") : text.index("In Python")].strip() in shown


def test_entries_that_are_no_level_are_refused_or_missing(fitted, folder):
    table = pd.read_csv("data.csv", dtype=str)
    table.loc[[3, 5], "region"] = ["sotuh", "mars"]
    table.loc[4, "member"] = "maybe"
    table.to_csv("new.csv", index=False)
    _, err = run("predict", "model.npz", "new.csv")
    assert (
        "row 4 of column 'region' is 'sotuh', which is none of its levels: 'north', 'south', 'west'. Is 'south'" in err
    )
    for command in ("predict", "score"):
        _, err = run(
            command, "model.npz", "new.csv", "--unknown-levels", "missing", "--missing", "em", "--out", "p.csv"
        )
        assert "2 entries of column 'region' are no level of it, taken for missing: 'sotuh', 'mars'." in err
        assert "1 entry of column 'member' is no level of it, taken for missing: 'maybe'." in err
    told = pd.read_csv("p.csv", dtype=str)
    assert told["region"].tolist() == table["region"].tolist()
    table.loc[[3, 5], "region"], table.loc[4, "member"] = None, None
    rows = jaxgmm.load_schema("model.npz").rows(
        table.assign(**{name: pd.to_numeric(table[name]) for name in ("size", "visits", "answer")}).assign(
            member=table["member"].map({"True": True, "False": False})
        ),
        missing="nan",
    )
    expected = jaxgmm.load("model.npz").log_prob(rows)
    np.testing.assert_allclose(pd.to_numeric(told["log_density"]), expected, rtol=1e-6)
    # Without an entry, a row is dropped where rows are.
    run("predict", "model.npz", "new.csv", "--unknown-levels", "missing", "--out", "p.csv")
    assert pd.read_csv("p.csv")["component"][[3, 4, 5]].isna().all()
    assert "expected error or missing" in run("predict", "model.npz", "new.csv", "--unknown-levels", "drop")[1]


def test_a_part_of_a_table_is_read_as_the_whole(fitted, folder):
    """Columns whose first rows are numbers, or truths, alone."""
    table, _ = frame()
    part = table[table["code"].isin(["07"]) & table["member"].notna()].head(3)
    part.to_csv("part.csv", index=False)
    found = pd.read_csv(io.StringIO(run("predict", "model.npz", "part.csv", "--missing", "em")[0]))
    whole = pd.read_csv("assigned.csv")
    assert found["probability"].tolist() == pytest.approx(whole["probability"][part.index].tolist())


def test_rows_that_are_drawn_have_names(fitted, folder):
    run("sample", "model.npz", "--rows", "200", "--out", "drawn.parquet")
    drawn = pd.read_parquet("drawn.parquet")
    assert set(drawn["region"]) == set(LEVELS)
    assert set(drawn["member"]) == {False, True}
    assert set(drawn["code"]) == {"07", "7a", "7b"}
    found = pd.read_csv(io.StringIO(run("predict", "model.npz", "drawn.parquet", "--out", "-")[0]))
    assert found["component"].notna().all()


def test_families_are_named_by_columns_and_patterns(fitted, folder):
    options = ("--components", "2", "--columns", "region,size,visits,answer", *FAST, "--json")
    said = ("--family", "s*=full,visits=poisson", "--family", "'answer'=categorical")
    told = json.loads(run("fit", "data.csv", *options, *said)[0])
    families = {name: found["family"] for name, found in told["best"]["parameters"].items()}
    assert families == {"region": "categorical", "size": "full", "visits": "poisson", "answer": "categorical"}
    told = json.loads(
        run("fit", "data.csv", "--columns", "region,code", "--family", "categorical", *options[:2], *FAST, "--json")[0]
    )
    assert [one["form"] for one in told["candidates"]] == ["Categorical(levels=3)"]


def test_names_among_numbers_are_told_how_to_be_names(fitted, folder):
    Path("mixed.csv").write_text("a,b\n" + "".join(f"{i}.5,{'x' if i % 5 == 4 else i % 5}\n" for i in range(50)))
    options = ("--components", "1", *FAST)
    _, err = run("fit", "mixed.csv", "--family", "auto", *options)
    assert "10 of 50 entries of column 'b' are no numbers ('x' 10 times)" in err
    assert "If its entries are names, say --family b=categorical." in err
    told = json.loads(run("fit", "mixed.csv", "--family", "b=categorical", *options, "--json")[0])
    assert told["best"]["parameters"]["b"]["levels"] == ["0", "1", "2", "3", "x"]
    np.testing.assert_allclose(told["best"]["parameters"]["b"]["probabilities"], [[0.2] * 5], rtol=1e-6)


def test_what_is_said_of_all_columns_is_no_word_for_those_that_tell_rows_apart(fitted, folder):
    options = ("--components", "1", "--exclude", "day,nothing,visits", "--missing", "em", *FAST, "--json")
    told = json.loads(run("fit", "data.csv", "--family", "categorical", *options)[0])
    assert told["columns"] == ["region", "member", "answer", "code"]
    assert set(told["columns_unused"]) >= {"id", "size"}
    assert next(note.split(" holds ")[1] for note in told["notes"] if "'size'" in note).endswith(
        "rows; it is not used."
    )


def test_whole_numbers_that_begin_with_a_zero_are_names(folder):
    Path("zip.csv").write_text("a,zip\n" + "".join(f"{i}.5,{('01234', '99084')[i % 2]}\n" for i in range(40)))
    told = json.loads(run("fit", "zip.csv", "--family", "auto", "--components", "1", *FAST, "--json")[0])
    assert told["best"]["parameters"]["zip"]["levels"] == ["01234", "99084"]


def test_labels_and_weights_stand_beside_families(fitted, folder):
    table, group = frame()
    table["kind"] = np.where(np.arange(N) % 10 < 2, np.array(["odd", "even"])[group], None)
    table["n"] = 1 + np.arange(N) % 3
    table.to_csv("labelled.csv", index=False)
    options = ("--labels", "kind", "--weights", "n", "--missing", "em", *FAST, "--out", "labelled.npz", "--json")
    told = json.loads(run("fit", "labelled.csv", "--family", "auto", "--exclude", "id,day", *options)[0])
    assert told["best"]["component_names"] == ["even", "odd"]
    assert told["columns"] == USED
    assert told["best"]["parameters"]["size"]["mean"][0] > told["best"]["parameters"]["size"]["mean"][1]
    header = run("show", "labelled.npz")[0]
    assert "even" in header
    assert "odd" in header


def test_a_large_table_is_fitted_from_a_sample_to_all_of_it(folder, monkeypatch):
    monkeypatch.setattr(selected, "MOST", 600)
    monkeypatch.setattr(selected, "LEAST", 100)
    monkeypatch.setattr(selected, "SAMPLE", 150)
    options = ("--components", "2", "--missing", "em", *FAST, "--out", "large.npz", "--json")
    told = json.loads(run("fit", "data.csv", "--family", "auto", *options)[0])
    assert told["sample"]["rows"] < told["rows"] == N
    rows = jaxgmm.load_schema("large.npz").rows(pd.read_csv("data.csv", dtype={"code": str}), missing="nan")
    found = jaxgmm.log_likelihood(jaxgmm.load("large.npz"), rows)
    np.testing.assert_allclose(told["whole"]["log_likelihood"], found, rtol=1e-6)


def test_without_a_family_nothing_is_new(fitted, folder):
    told = json.loads(
        run("fit", "data.csv", "--components", "1", "--forms", "diag", "--columns", "size", *FAST, "--json")[0]
    )
    assert "means" in told["best"]
    assert "families" not in told["best"]["fit"]
    _, err = run("fit", "data.csv", "--components", "1", "--columns", "region")
    assert "are no numbers" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--family", "auto", "--forms", "full"), "--forms is of Gaussian columns alone, whose covariances --family"),
        (("--family", "auto", "--noise", "se_"), "--noise is of Gaussian columns alone"),
        (("--family", "auto", "--noise-component"), "--noise-component is of Gaussian columns alone"),
        (("--family", "auto", "--objective", "map"), "--objective map is of Gaussian columns alone"),
        (("--family", "auto", "--by", "region"), "--by is of columns of numbers, and takes no --family"),
        (("--family", "sice=gaussian"), "--family: holds 'sice', which is no column; expected some of 'id'"),
        (
            ("--family", "size=gausian"),
            "--family: 'size=gausian' is no column and family; expected such as age=gaussian",
        ),
        (("--family", "size=gamma", "--family", "size=beta"), "--family: 'size' is gamma and beta; say one."),
        (("--family", "s*=gamma,*e=beta"), "both are 'size'"),
        (
            ("--family", "region=poisson"),
            "column 'region' holds names ('north', 'south', 'west'), and Poisson has numbers",
        ),
        (("--family", "size=poisson"), "column 'size' holds -0.104447069 in row 1; Poisson"),
        (("--family", "nothing=gaussian"), "column 'nothing' has no entries."),
        (("--family", "auto", "--columns", "day,size"), "column 'day' holds dates or durations"),
        (("--family", "auto", "--columns", "id,size"), "column 'id' holds 300 names in 300 rows."),
    ],
)
def test_what_cannot_be_is_said(fitted, folder, options, message):
    _, err = run("fit", "data.csv", "--components", "1", *FAST, "--missing", "em", *options)
    assert message in err


def test_names_are_not_filled(fitted, folder):
    assert "columns of names" in run("impute", "model.npz", "data.csv")[1]


def test_a_mixture_of_python_is_shown_by_kind(folder):
    form = jaxgmm.Product.form({0: jaxgmm.Categorical.form(3), 1: "diag"})
    x = np.column_stack([np.arange(60) % 3, np.random.default_rng(0).normal(size=60)])
    mixture = jaxgmm.init(jax.random.key(0), x, 1, form)
    jaxgmm.save(
        Path("python.npz"), mixture, schema=jaxgmm.Schema(["colour", "size"], {"colour": ["red", "green", "blue"]})
    )
    assert "green" in run("show", "python.npz")[0]
    jaxgmm.save(Path("python.npz"), mixture)
    told = json.loads(run("show", "python.npz", "--json")[0])
    assert told["parameters"]["c1"]["levels"] == [0, 1, 2]
    np.testing.assert_allclose(told["parameters"]["c1"]["probabilities"], [[1 / 3] * 3], atol=1e-2)
