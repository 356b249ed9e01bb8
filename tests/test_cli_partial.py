"""The command line and what is known of rows: gaps, standard errors, classes."""

import contextlib
import io
import json
import re
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

import jaxgmm
from jaxgmm.cli import commands, numbers, tables
from jaxgmm.cli.layout import Layout

from tolerance import dtype

# The program computes in float64 whatever the suite does.
pytestmark = pytest.mark.skipif(dtype() is not np.float64, reason="the program has its own dtype")

N = 150
FAST = ("--forms", "diag", "--restarts", "2")
KNOWN = ("--missing", "em", "--noise", "se_")
# In the order of their names, which is not that in which they come.
CLASSES, MEANS = ["far", "near"], np.array([[6.0, 2.0], [0.0, 0.0]])


def frame():
    """Rows of two classes, of which few have their name; gaps, errors of one column, and a row with nothing in it."""
    random = np.random.default_rng(0)
    number = (np.arange(N) + 1) % 2
    x = MEANS[number] + random.normal(size=(N, 2))
    errors = random.uniform(0.1, 1.0, N)
    x[:, 0] += errors * random.normal(size=N)
    table = pd.DataFrame({"id": [f"row {i}" for i in range(N)], "b": x[:, 1], "a": x[:, 0], "se_a": errors})
    table["kind"] = [CLASSES[place] if row % 7 == 0 else None for row, place in enumerate(number)]
    table[["a", "b"]] = table[["a", "b"]].mask(random.random(N)[:, None] < [0.15, -1])
    table["b"] = table["b"].mask(table["a"].notna() & (random.random(N) < 0.15))
    table.loc[8, ["a", "b"]] = np.nan
    table.loc[10, ["a", "b"]], table.loc[10, "kind"] = np.nan, "near"
    table.loc[11, ["a", "b", "se_a"]] = 1.0, 2.0, np.nan
    table.loc[12, ["a", "b", "se_a"]] = 6.0, 2.0, np.inf
    return table


def record(table, labels=None):
    """The same rows as Python has them, in the order b, a."""
    noise = np.stack([np.zeros(N), table["se_a"].to_numpy() ** 2], axis=1)
    x = table[["b", "a"]].to_numpy()
    x = np.where(np.isfinite(noise), x, np.nan)
    return jaxgmm.rows(x, missing="nan", noise=np.where(np.isnan(x), 0, noise), labels=labels)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A folder with rows, a model of them, and what the fit printed as JSON."""
    folder = tmp_path_factory.mktemp("partial")
    frame().to_csv(folder / "data.csv", index=False)
    files = ["-o", "model.npz", "--assign", "assigned.csv", "--figure", "fit.png", "--json"]
    printed = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as end:
        commands.execute(["fit", "data.csv", *FAST, *KNOWN, "--labels", "kind", *files])
    assert not end.value.code
    return folder, json.loads(printed.getvalue())


def model_of(fitted):
    return jaxgmm.load(fitted[0] / "model.npz")


def test_all_that_is_known_is_fitted(fitted):
    folder, told = fitted
    table, mixture = frame(), model_of(fitted)
    metadata = jaxgmm.load_metadata(folder / "model.npz")
    number = table["kind"].map({name: place for place, name in enumerate(CLASSES)}).fillna(-1).to_numpy(int)
    rows = record(table, number)
    assert metadata["component_names"] == told["best"]["component_names"] == CLASSES
    np.testing.assert_allclose(mixture.means, MEANS[:, ::-1], atol=0.5)
    value = float(jaxgmm.log_likelihood(mixture, rows))
    assert metadata["fit"]["log_likelihood"] == pytest.approx(value, rel=1e-12)
    # What is counted: rows with an entry or a class.
    assert told["rows"] == metadata["fit"]["rows"] == int(np.sum(rows.counted)) == N - 1
    assert told["candidates"][0]["bic"] == pytest.approx(float(jaxgmm.bic(mixture, rows)), rel=1e-12)
    assert told["rows_dropped"] == 1
    gaps = table[["b", "a"]].isna()
    assert told["missing"] == {"b": int(gaps["b"].sum()), "a": int(gaps["a"].sum()), "se_a": 2}
    assert told["rows_incomplete"] == int((gaps.any(axis=1) | table["se_a"].isna() | np.isinf(table["se_a"])).sum()) - 1
    assert told["noise"] == {"a": "se_a"}
    counts = table["kind"].value_counts()
    assert told["labels"] == {"column": "kind", "rows": {name: int(counts[name]) for name in CLASSES}}
    assert (told["columns"], told["columns_unused"]) == (["b", "a"], ["id"])
    assert (folder / "fit.png").read_bytes().startswith(b"\x89PNG")


def test_rows_are_called_by_their_classes(fitted):
    folder, _ = fitted
    table, mixture = frame(), model_of(fitted)
    after = pd.read_csv(folder / "assigned.csv")
    lines = zip(*((folder / name).read_text().splitlines() for name in ("data.csv", "assigned.csv")), strict=True)
    assert all(after.startswith(before) for before, after in lines)
    named = table["kind"].notna()
    assert after["component"][named].tolist() == table["kind"][named].tolist()
    assert np.all(after["probability"][named] == 1)
    shares = np.asarray(mixture.responsibilities(record(table)))
    others = ~named & (table.index != 8)
    assert after["component"][others].tolist() == [CLASSES[place] for place in np.argmax(shares, axis=1)[others]]
    np.testing.assert_allclose(after["probability"][others], np.max(shares, axis=1)[others], rtol=1e-12)
    assert after.loc[8, ["component", "probability"]].isna().all()


def test_predict_tells_what_it_can(run, fitted):
    table, model, data = frame(), fitted[0] / "model.npz", fitted[0] / "data.csv"
    out, said, code = run("predict", model, data, *KNOWN, "--probabilities")
    assert (code, said) == (0, "2 rows have no entry in any column of the mixture, and get no component.\n")
    after = pd.read_csv(io.StringIO(out))
    expected = np.asarray(model_of(fitted).responsibilities(record(table)))
    there = after["component"].notna()
    assert np.flatnonzero(~there).tolist() == [8, 10]
    np.testing.assert_allclose(after.loc[there, ["p_far", "p_near"]], expected[there], rtol=1e-10, atol=1e-300)
    # Without being told, rows with a gap get nothing, and fail by their number.
    dropped = pd.read_csv(io.StringIO(run("predict", model, data)[0]))
    np.testing.assert_array_equal(dropped["component"].isna(), table[["a", "b"]].isna().any(axis=1))
    first = int(np.flatnonzero(table[["a", "b"]].isna().any(axis=1))[0]) + 1
    _, said, code = run("predict", model, data, "--missing", "fail", "-o", "never.csv")
    assert (code, f"row {first} has a missing entry in column" in said) == (1, True)
    assert not Path("never.csv").exists()
    run("predict", model, data, *KNOWN, "-o", "out.npz")
    with np.load("out.npz") as arrays:
        assert arrays["component"].tolist() == [
            CLASSES.index(name) if name == name else -1 for name in after["component"].tolist()
        ]
    assert "near" in run("show", model)[0]
    assert set(pd.read_csv(io.StringIO(run("sample", model, "-n", 50, "--labels")[0]))["component"]) == set(CLASSES)


def test_scores_of_parts_of_rows_are_not_compared_with_those_of_whole_rows(run, fitted):
    model, data = fitted[0] / "model.npz", fitted[0] / "data.csv"
    rows, table = record(frame()), frame()
    out, _, _ = run("score", model, data, *KNOWN, "-o", "s.csv", "--json", "--quantile", "0.1")
    told, after = json.loads(out), pd.read_csv("s.csv")
    there = ~after["log_density"].isna().to_numpy()
    assert np.flatnonzero(~there).tolist() == [8, 10]
    np.testing.assert_allclose(after["log_density"][there], model_of(fitted).log_prob(rows)[there], rtol=1e-10)
    whole = np.asarray(rows.seen).all(axis=1)
    np.testing.assert_array_equal(after["anomaly"].isna(), ~whole)
    assert told["rows_missing"] == 2
    assert told["rows_not_compared"] == told["rows_incomplete"] == int(there.sum() - whole.sum())
    # The quantile is of whole rows.
    assert abs(told["anomalies"] - 0.1 * whole.sum()) <= 1.5
    told = json.loads(run("score", model, data, *KNOWN, "-o", "s.csv", "--json", "--threshold", "-2.5")[0])
    assert told["rows_not_compared"] == 0
    assert told["anomalies"] == int((after["log_density"] < -2.5).sum())
    assert "rows have missing entries and a log-density of fewer columns" in run("score", model, data, *KNOWN)[1]
    assert len(table) == told["rows"]


def test_gaps_are_filled_and_all_else_stays(run, fitted):
    model, table = fitted[0] / "model.npz", frame()
    table.index = pd.Index(np.arange(N)[::-1] * 3, name="place")
    table["count"] = pd.array([None if row % 5 == 0 else row for row in range(N)], "Int64")
    table.to_parquet("data.parquet")
    out, said, code = run("impute", model, "data.parquet", "--noise", "se_", "-o", "filled.parquet", "--json")
    assert (code, said) == (0, "")
    after, before = pd.read_parquet("filled.parquet"), pd.read_parquet("data.parquet").reset_index()
    before = before[after.columns]
    gaps = before[["b", "a"]].isna()
    assert json.loads(out)["entries"] == {name: int(gaps[name].sum()) for name in ("b", "a")}
    assert json.loads(out)["rows"] == int(gaps.any(axis=1).sum())
    pd.testing.assert_frame_equal(
        after.drop(columns=["a", "b"]), before.drop(columns=["a", "b"]), check_exact=True, check_dtype=False
    )
    expected = np.asarray(jaxgmm.impute(model_of(fitted), record(table)))
    np.testing.assert_array_equal(after[["b", "a"]].to_numpy(float)[~gaps], before[["b", "a"]].to_numpy(float)[~gaps])
    np.testing.assert_allclose(after[["b", "a"]].to_numpy(float)[gaps], expected[gaps], rtol=1e-10)


def test_draws_follow_the_seed_and_spread(run, fitted):
    model = fitted[0] / "model.npz"
    pd.DataFrame({"b": 0.0, "a": np.full(4000, np.nan)}).to_csv("half.csv", index=False)
    one, other, again = (run("impute", model, "half.csv", "--sample", seed)[0] for seed in (1, 2, 1))
    assert one == again != other
    drawn = pd.read_csv(io.StringIO(one))
    assert np.all(drawn["b"] == 0)
    given = model_of(fitted).condition([0], [0.0])
    assert drawn["a"].mean() == pytest.approx(float(given.mean[0]), abs=0.1)
    assert drawn["a"].std() == pytest.approx(float(given.covariance[0, 0]) ** 0.5, rel=0.1)
    mean = pd.read_csv(io.StringIO(run("impute", model, "half.csv")[0]))
    np.testing.assert_allclose(mean["a"], float(given.mean[0]), rtol=1e-9)


# In brackets what stands for a missing entry, and after a bar what is in its place then, # for a number.
TEXTS = {
    "x.csv": 'name,b,a\n"two, ""quoted""",<>,1.50\n plain , 007,<NA>\nq,<"">,9e-1\nlast,2,3\n',
    "short.csv": "b,a,note\n1<|,#,>\n<>,2,x\n1,2\n",
    "crlf.tsv": "b\ta\r\n1.0\t<>\r\n<>\t2\r\n",
    "decimal.csv": "b;a;c\n1,5;<>;red\n< >;2,25;\n",
    "blanks.txt": "b    a\n  1.0   <nan>\n <nan>   2\n",
    "bare.txt": "1.50 <NA>\n2 3.0\n<NA> <NA>\n",
    "commas.csv": 'b,a\n"1,5",<|"#">\n"2,5","3,5"\n',
}


@pytest.mark.parametrize("name", TEXTS)
def test_lines_keep_what_is_not_filled(run, fitted, monkeypatch, name):
    """Character by character."""
    parts = re.split("<(.*?)>", TEXTS[name])
    given = "".join(part.split("|")[0] for part in parts)
    filled = "".join(
        re.escape(part) if place % 2 == 0 else re.escape([*part.split("|"), "#"][1]) for place, part in enumerate(parts)
    )
    Path(name).write_bytes(given.encode())
    monkeypatch.setattr(tables, "_size", lambda n_columns: 2)
    decimal = ("--decimal", ",") if name == "commas.csv" else ()
    _, said, code = run("impute", fitted[0] / "model.npz", name, "-o", f"out-{name}", *decimal)
    assert code == 0, said
    found = re.fullmatch(filled.replace(r"\#", "([-.,e0-9]+?)"), Path(f"out-{name}").read_bytes().decode())
    assert found, Path(f"out-{name}").read_text()
    with tables.opened(name, Layout(decimal=decimal[-1] if decimal else None)) as table:
        columns = [column for column in table.columns if column in ("a", "b", "c1", "c2")]
        x = np.concatenate([part for _, part in numbers.arrays(table, columns)])
    expected = np.asarray(jaxgmm.impute(model_of(fitted), jaxgmm.rows(x, missing="nan")))
    written = [float(text.replace(",", ".")) for text in found.groups()]
    np.testing.assert_allclose(written, expected[np.isnan(x)], rtol=1e-9)


def test_lines_that_are_filled_go_into_other_files(run, fitted):
    Path("x.csv").write_text('b,a,note\n1,,"x, y"\n,2,007\n3,4,\n')
    expected = np.asarray(
        jaxgmm.impute(model_of(fitted), jaxgmm.rows([[1, np.nan], [np.nan, 2], [3.0, 4]], missing="nan"))
    )
    for name in ("y.tsv", "y.parquet", "y.npy"):
        assert run("impute", fitted[0] / "model.npz", "x.csv", "-o", name)[2] == 0
    text = pd.read_csv("y.tsv", sep="\t", dtype=str)
    assert text["note"].tolist()[:2] == ["x, y", "007"]
    assert text.loc[2].tolist()[:2] == ["3", "4"]
    typed = pd.read_parquet("y.parquet")
    for found in (text[["b", "a"]].astype(float), typed[["b", "a"]], np.load("y.npy")):
        np.testing.assert_allclose(np.asarray(found, float), expected, rtol=1e-12)
    whole = "b,a\n1,2\n"
    Path("whole.csv").write_text(whole)
    out, said, code = run("impute", fitted[0] / "model.npz", "whole.csv")
    assert (out, said, code) == (whole, "There are no missing entries to fill.\n", 0)


def test_without_gaps_it_is_the_plain_fit(run):
    frame()[["a", "b"]].dropna().to_csv("whole.csv", index=False)
    plain, by_parts = (
        json.loads(run("fit", "whole.csv", "-k", "2", *FAST, "--json", *more)[0]) for more in ((), ("--missing", "em"))
    )
    assert by_parts == plain


def test_an_error_that_says_nothing_is_a_gap(run):
    """Empty, infinite, or beside an entry that is not there: the same as an empty entry."""
    table = frame().loc[13:, ["a", "b", "se_a"]]
    table["se_a"] = 0.5
    texts = {}
    for kind, (a, error) in {"gap": (np.nan, 0.5), "empty": (1.0, np.nan), "inf": (1.0, np.inf)}.items():
        table.loc[[20, 30], "a"], table.loc[[20, 30], "se_a"] = a, error
        table.to_csv("rows.csv", index=False)
        told = json.loads(run("fit", "rows.csv", "-k", "2", *FAST, *KNOWN, "--json")[0])
        texts[kind] = told["best"] | {"rows": told["rows_incomplete"]}
    assert texts["gap"] == texts["empty"] == texts["inf"]
    # Where rows are to be whole, such are not.
    told = json.loads(run("fit", "rows.csv", "-k", "2", *FAST, "--noise", "se_", "--json")[0])
    assert told["rows"] == int(np.sum(table[["a", "b"]].notna().all(axis=1) & np.isfinite(table["se_a"])))


def test_a_row_with_nothing_but_a_constant_is_not_counted(run):
    table = frame().loc[13:, ["a", "b"]].assign(site=7.0)
    table.loc[20, ["a", "b"]], table.loc[21] = np.nan, np.nan
    table.to_csv("rows.csv", index=False)
    out, said, code = run("fit", "rows.csv", "-k", "1", *FAST, "--missing", "em", "-o", "one.npz")
    assert code == 0, said
    assert f"2 rows with nothing to fit are left out; {len(table) - 2} remain." in out
    gaps = table[["a", "b"]].isna().sum()
    assert (
        f"fitted by what there is ({', '.join(f'{name} {n}' for name, n in gaps.sort_values()[::-1].items())})." in out
    )
    metadata = jaxgmm.load_metadata("one.npz")["fit"]
    rows = jaxgmm.rows(table[["a", "b"]].to_numpy(), missing="nan")
    assert metadata["rows"] == int(np.sum(rows.counted)) == len(table) - 2
    expected = float(jaxgmm.bic(jaxgmm.load("one.npz"), rows))
    assert metadata["criterion_value"] == pytest.approx(expected, rel=1e-12)


def test_groups_are_fitted_by_what_there_is_of_them(run):
    table = frame().assign(gene=np.where(np.arange(N) % 3 == 0, "p", "q"))
    table.loc[N] = {"gene": "empty"}
    table.to_csv("groups.csv", index=False)
    run("fit", "groups.csv", "--by", "gene", "-k", "2", *FAST, *KNOWN, "--columns", "b,a", "--out", "models.csv")
    found = pd.read_csv("models.csv").set_index("gene")
    assert "has no row with an entry" in found.loc["empty", "status"]
    for number, gene in enumerate(("p", "q")):
        mine = (table["gene"] == gene).to_numpy()[:N]
        whole = record(table.loc[: N - 1])
        taken = mine & np.asarray(whole.seen).any(axis=1)
        rows = jax.tree.map(lambda leaf, taken=taken: leaf[taken], whole)
        with jax.enable_x64(True):
            alone = jaxgmm.select_many(jax.random.key(0), {number: rows}, 2, "diag", n_restarts=2)
        assert found.loc[gene, "n_components"] == alone.n_components[0]
        assert found.loc[gene, "log_likelihood"] == pytest.approx(alone.log_likelihood[0], rel=1e-6)


WRONG = {
    "data.csv": "a,b,se_a,kind\n1,2,0.5,x\n3,,0.1,y\n5,6,0.2,\n",
    "negative.csv": "a,b,se_a\n1,2,0.5\n3,4,-0.1\n",
    "nothing.csv": "a,b,w\n1,2,\n3,4,\n",
}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("fit negative.csv --noise se_", 1, "row 2 of column 'se_a' is -0.1; expected a standard error, which is not"),
        ("predict MODEL negative.csv --noise se_", 1, "row 2 of column 'se_a' is -0.1"),
        ("fit data.csv --noise err_", 2, "no column of standard errors; expected 'err_a', 'err_b'"),
        ("impute MODEL data.csv --noise err_", 2, "no column of standard errors; expected 'err_b', 'err_a'"),
        ("fit data.csv --labels class", 2, "--labels: data.csv has no column 'class'"),
        ("fit data.csv --labels kind,a", 2, "--labels is 'kind,a'; expected one column"),
        ("fit data.csv --labels kind -k 1:3 --missing em", 2, "expected 2 or more, as --labels kind has 2 classes"),
        ("fit data.csv --labels kind --sort weight", 2, "--sort and --labels both say"),
        ("fit data.csv --by kind --labels kind", 2, "--labels takes no --by"),
        ("fit data.csv --missing maybe", 2, "--missing is 'maybe'; expected some of drop, fail, em"),
        ("predict MODEL data.csv --missing maybe", 2, "--missing is 'maybe'; expected one of drop, fail, em"),
        ("fit data.csv --missing fail", 1, "or say --missing drop to leave these rows out, or em to fit them"),
        ("fit nothing.csv --weights w --missing em", 1, "every row has nothing to fit (w 2)"),
        ("impute MODEL data.csv --json", 2, "--json and the table both want standard output"),
        ("impute STUDENT data.csv --noise se_ -o out.csv", 1, "noise"),
    ],
)
def test_what_is_wrong_is_one_line(run, fitted, arguments, code, words):
    for name, text in WRONG.items():
        Path(name).write_text(text)
    named = arguments.replace("MODEL", str(fitted[0] / "model.npz")).replace("STUDENT", "student.npz")
    if "student.npz" in named:
        student = jaxgmm.init(
            jax.random.key(0), frame()[["b", "a"]].dropna().to_numpy(), 1, jaxgmm.StudentT.form("diag", nu=4.0)
        )
        jaxgmm.save("student.npz", student, schema=jaxgmm.Schema(["b", "a"]))
    out, complaint, ended = run(*named.split())
    assert ended == code, complaint
    assert words in complaint
    assert complaint.count("\n") == 1
    assert complaint.startswith("jaxgmm: error: ")
    assert out == ""


def test_for_people(run, fitted):
    """Each sentence once, and components beyond the classes have names of their own."""
    out, said, code = run("fit", fitted[0] / "data.csv", *FAST, *KNOWN, "--labels", "kind", "-k", "3", "--spurious")
    assert code == 0, said
    assert "1 row with nothing to fit is left out; 149 remain." in out
    assert "rows have missing entries and are fitted by what there is (" in out
    assert "Standard errors: se_a; b is taken as exact." in out
    assert "have a class in kind, the components in this order: far (" in out
    assert all(any(line.split()[:1] == [name] for line in out.splitlines()) for name in CLASSES)
    assert "component 2" in out
