"""`jaxgmm fit --by`: a mixture for each group of rows of a table."""

import contextlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

import jaxgmm
from jaxgmm.cli import commands, grouped, tables
from jaxgmm.cli.layout import Layout
from jaxgmm.cli.selected import Selected
from jaxgmm.selection.parts import Parts

from tolerance import dtype

# The program computes in float64 whatever the suite does.
pytestmark = pytest.mark.skipif(dtype() is not np.float64, reason="the program has its own dtype")

FAST = ("-k", "1:2", "--forms", "diag", "--restarts", "2")
COLUMNS = ["--columns", "a,b"]
FILES = ["--out", "models.csv", "--assign", "assigned.csv", "--parts", "parts.bin", "--figure", "fit.png"]
COMMAND = ["fit", "genes.csv", "--by", "gene", *COLUMNS, *FAST, *FILES]
# Rows of each group; the second has two components, the third nothing in `b`, the fourth no column that varies.
SIZES = {"one": 40, "two": 60, "gaps": 30, "same": 31, "last": 50}


def frame():
    random = np.random.default_rng(0)
    gene = np.repeat(list(SIZES), list(SIZES.values()))
    # As even as normal rows can be, so that one component is one.
    x = np.empty((len(gene), 2))
    for name, size in SIZES.items():
        for column in range(2):
            x[gene == name, column] = 1 + column + random.permutation(norm.ppf((np.arange(size) + 0.5) / size))
    x[np.flatnonzero(gene == "two")[:20]] += 9
    table = pd.DataFrame({"gene": gene, "batch": np.arange(len(gene)) % 2, "a": x[:, 0], "b": x[:, 1]})
    table.loc[table["gene"] == "gaps", "b"] = np.nan
    table.loc[table["gene"] == "same", ["a", "b"]] = 3.0
    # All mixed, but for the first rows, which say the order of the groups.
    first = table.index[~table["gene"].duplicated()]
    rest = random.permutation(table.index.difference(first))
    table = table.loc[[*first, *rest]].reset_index(drop=True)
    table.loc[20, "a"] = np.nan
    table.loc[[30, 31], "gene"] = None
    table.loc[30, "b"] = np.nan
    return table


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A folder with rows, and what is written of them, and what was printed as JSON."""
    folder = tmp_path_factory.mktemp("groups")
    frame().to_csv(folder / "genes.csv", index=False)
    printed = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as end:
        commands.execute([*COMMAND, "--json"])
    assert not end.value.code
    return folder, json.loads(printed.getvalue())


def sound(table):
    """The rows that are fitted."""
    return table.dropna(subset=["gene", "a", "b"])


def test_a_row_for_each_group(fitted):
    folder, told = fitted
    models = pd.read_csv(folder / "models.csv")
    assert models["gene"].tolist() == list(SIZES)
    assert (folder / "fit.png").read_bytes().startswith(b"\x89PNG")
    assert models["n_components"].tolist() == [1, 2, 0, 0, 1]
    assert models["status"].tolist() == [
        *("CONVERGED", "CONVERGED"),
        *("ERROR: has no row without a missing entry", "ERROR: has no column that varies"),
        "CONVERGED",
    ]
    rows = sound(frame()).groupby("gene")[["a", "b"]]
    for place, name in ((0, "one"), (4, "last")):
        np.testing.assert_allclose(models.loc[place, ["mean[0,a]", "mean[0,b]"]], rows.mean().loc[name], rtol=1e-9)
        np.testing.assert_allclose(models.loc[place, ["sd[0,a]", "sd[0,b]"]], rows.std(ddof=0).loc[name], rtol=1e-5)
    # The heaviest component first.
    assert 0.6 < models.loc[1, "weight[0]"] < 0.7
    assert models.loc[1, "mean[1,a]"] - models.loc[1, "mean[0,a]"] > 7
    assert (told["groups"], told["fitted"], told["by"], told["criterion"]) == (5, 3, ["gene"], "bic")
    assert told["statuses"] == {"CONVERGED": 3, "ERROR": 2}
    assert told["errors"] == [
        {"group": ["gaps"], "error": "has no row without a missing entry"},
        {"group": ["same"], "error": "has no column that varies"},
    ]
    assert {(one["form"], one["n_components"]): one["groups"] for one in told["chosen"]} == {
        ("diag", 1): 2,
        ("diag", 2): 1,
    }
    table = frame()
    assert told["missing"] == {"a": 1, "b": int(table["b"][table["gene"].notna()].isna().sum()), "gene": 2}
    assert told["rows"] == len(sound(table))
    assert (told["rows"] + told["rows_dropped"] + told["rows_without_group"]) == len(table)


def test_the_table_is_what_python_gives(fitted):
    folder, _ = fitted
    rows = {name: part[["a", "b"]] for name, part in sound(frame()).groupby("gene", sort=False)}
    # In the numbers that the command gave them, as what is drawn for a group depends on that.
    xs = [rows[name].to_numpy() if name in rows else np.zeros((0, 2)) for name in SIZES]
    selections = jaxgmm.select_many(jaxgmm_key(), xs, [1, 2], "diag", n_restarts=2)
    models = pd.read_csv(folder / "models.csv")
    np.testing.assert_allclose(models["bic"], selections.value, rtol=1e-12)
    expected = selections.to_pandas(parameters=True).drop(columns="data_set")
    written = [name.replace(",a]", ",0]").replace(",b]", ",1]") for name in models.columns[1:]]
    assert written == expected.columns.tolist()
    assert {*grouped.COLUMNS, "bic"} == {name for name in written if "[" not in name}


def jaxgmm_key():
    import jax

    return jax.random.key(np.int64(0))


def test_rows_keep_their_order_and_get_their_component(fitted):
    folder, _ = fitted
    before, after = pd.read_csv(folder / "genes.csv"), pd.read_csv(folder / "assigned.csv")
    pd.testing.assert_frame_equal(after[before.columns], before, check_exact=True)
    given = before["gene"].isin(["one", "two", "last"]) & before[["a", "b"]].notna().all(axis=1)
    assert 100 < given.sum() < len(before)
    assert after["component"].notna().tolist() == after["probability"].notna().tolist() == given.tolist()
    two = after[given & (after["gene"] == "two")]
    assert two["component"].tolist() == (two["a"] > 5.5).astype(int).tolist()
    assert (two["probability"] > 0.99).all()
    others = after[given & (after["gene"] != "two")]
    assert set(others["component"]) == {0}
    np.testing.assert_allclose(others["probability"], 1)


def test_what_was_stopped_goes_on(run, fitted, monkeypatch):
    folder, _ = fitted
    shutil.copy(folder / "genes.csv", "genes.csv")
    add, added = Parts.add, []

    def stopping(parts, name, arrays):
        add(parts, name, arrays)
        added.append(name)
        raise KeyboardInterrupt

    monkeypatch.setattr(Parts, "add", stopping)
    _, complaint, code = run(*COMMAND)
    assert (code, len(added)) == (130, 1)
    expected = "stopped; parts.bin keeps what is done, and the same command goes on from there."
    assert expected in complaint
    assert not Path("models.csv").exists()
    again = []
    monkeypatch.setattr(Parts, "add", lambda parts, name, arrays: again.append(name) or add(parts, name, arrays))
    assert run(*COMMAND)[2] == 0
    assert again
    assert not set(added) & set(again)
    # All is kept now.
    monkeypatch.setattr(Parts, "add", stopping)
    assert run(*COMMAND)[2] == 0
    for name in ("models.csv", "assigned.csv"):
        assert Path(name).read_bytes() == (folder / name).read_bytes()
    _, complaint, code = run(*COMMAND, "--seed", 1)
    assert (code, "holds parts of another call" in complaint) == (1, True)


def test_stopped_with_nothing_kept(run, fitted, monkeypatch):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(jaxgmm, "select_many", stop, raising=False)
    _, complaint, code = run("fit", fitted[0] / "genes.csv", "--by", "gene", *COLUMNS, *FAST)
    assert (code, "stopped; nothing is kept; with --parts FILE the same command would go on" in complaint) == (
        130,
        True,
    )


def test_for_people(run, fitted):
    out, complaint, code = run("fit", fitted[0] / "genes.csv", "--by", "gene", *COLUMNS, *FAST)
    assert code == 0, complaint
    assert "2 rows have no entry in gene: of no group, and left out." in out
    assert "Columns not used: batch." in out
    assert "5 groups by gene, 3 of them fitted." in out
    assert [line.split() for line in out.splitlines() if line.split()[0] in ("k", "1", "2") and len(line) < 12] == [
        ["k", "diag"],
        ["1", "2"],
        ["2", "1"],
    ]
    assert "2 groups could not be fitted:\n  gaps: has no row without a missing entry\n  same: has no column" in out
    assert "Nothing was written; --out models.parquet keeps the table." in out


def test_two_columns_and_numbers_as_names(run, fitted):
    """By text and by integers of a Parquet file, into one; then by the integers of a table with semicolons."""
    table = frame()
    mine = table["gene"].isin(["one", "last"]) | table["gene"].isna()
    table[mine].to_parquet("genes.parquet", index=False)
    done = run("fit", "genes.parquet", "--by", "gene,batch", *COLUMNS, *FAST, "--out", "models.parquet")
    assert done[2] == 0, done[1]
    models = pd.read_parquet("models.parquet")
    assert sorted(zip(models["gene"], models["batch"], strict=True)) == [
        *(("last", 0), ("last", 1), ("one", 0), ("one", 1)),
    ]
    assert pd.api.types.is_integer_dtype(models["batch"])
    table.to_csv("german.csv", index=False, sep=";", decimal=",")
    done = run("fit", "german.csv", "--by", "batch", *COLUMNS, *FAST, "--out", "-", "--prefix", "p_")
    assert done[2] == 0, done[1]
    assert "2 groups by batch" in done[1]
    models = pd.read_csv(io.StringIO(done[0]), sep=";", decimal=",")
    assert models["batch"].tolist() == table["batch"].drop_duplicates().tolist()
    assert (models.columns[1], models["p_bic"].dtype) == ("p_form", np.float64)


def test_weights_and_rows_set_aside(run):
    table = sound(frame())
    table = table[table["gene"].isin(["one", "last"])].reset_index(drop=True)
    table["n"] = np.arange(len(table)) % 3
    far = table.index[(table["gene"] == "one") & (table["n"] == 1)][0]
    table.loc[far, "a"] = 500.0
    table.to_csv("weighted.csv", index=False)
    options = ["--by", "gene", *COLUMNS, "--weights", "n", *FAST]
    out, complaint, code = run("fit", "weighted.csv", *options, "--out", "m.csv", "--assign", "a.csv")
    assert code == 0, complaint
    assert "1 row of 1 group stands alone and is set aside" in out
    models = pd.read_csv("m.csv").set_index("gene")
    assert models["outliers"].to_dict() == {"one": 1, "last": 0}
    remain = table.drop(index=far)
    for name, part in remain.groupby("gene"):
        expected = np.average(part["a"], weights=part["n"])
        np.testing.assert_allclose(models.loc[name, "mean[0,a]"], expected, rtol=1e-9)
    # A row that is set aside gets its component all the same.
    assert pd.read_csv("a.csv").loc[far, "component"] == 0
    kept = json.loads(run("fit", "weighted.csv", *options, "--outliers", "keep", "--json")[0])
    assert kept["outliers"] == 0


def test_components_that_lose_their_rows_are_left_out(run):
    frame().to_csv("genes.csv", index=False)
    bayes = ["--objective", "variational", "-k", "5", "--forms", "diag", "--restarts", "16", "--out", "models.csv"]
    command = ["fit", "genes.csv", "--by", "gene", *COLUMNS, *bayes, "--assign", "assigned.csv", "--figure", "fit.png"]
    output, _, code = run(*command)
    assert code == 0
    models = pd.read_csv("models.csv").set_index("gene")
    left = models["n_components"].loc[["one", "two", "last"]]
    assert left["two"] == 2
    assert left.between(1, 3).all()
    assert "evidence" in models.columns
    weights = models.loc[left.index].filter(like="weight[")
    assert (weights.shape[1], weights.notna().sum(axis=1).tolist()) == (left.max(), left.tolist())
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-12)
    assigned = pd.read_csv("assigned.csv").groupby("gene")["component"].max()
    assert assigned[left.index].tolist() == (left - 1).tolist()
    note = f"{15 - left.sum()} of 15 components in 3 groups had less than half a row and were left out."
    assert note + "\n" in output
    told = json.loads(run(*command, "--json")[0])
    assert note in told["notes"]
    assert sum(one["groups"] * one["n_components"] for one in told["chosen"]) == left.sum()


def test_where_no_group_can_be_fitted_the_table_says_why(run):
    frame().query("gene == 'same' or gene == 'gaps'").to_csv("bad.csv", index=False)
    _, complaint, code = run("fit", "bad.csv", "--by", "gene", *COLUMNS, *FAST, "--out", "models.parquet")
    assert (code, complaint.count("\n")) == (3, 1)
    assert "no group could be fitted: gaps has no row without a missing entry" in complaint
    assert pd.read_parquet("models.parquet")["n_components"].tolist() == [0, 0]


def groups_of(path, by, layout):
    with tables.opened(str(path), layout) as table:
        options = {"columns": ["a"], "exclude": None, "weights": None, "missing": "drop", "dtype": "float64"}
        return Selected.read(table, **options, by=[by]).groups


@pytest.mark.parametrize(
    ("entries", "names"),
    [
        (["2", "10", "2", "", "NA", "1"], [2, 10, 1]),
        (["0.5", "2.5", "0.5"], [0.5, 2.5]),
        # One part has numbers alone.
        (["1", "2", "2", "X", "1"], ["1", "2", "X"]),
        (["007", "7"], ["007", "7"]),
        (["1.1", "1.10"], ["1.1", "1.10"]),
        (["99999999999999999999", "1"], ["99999999999999999999", "1"]),
        (["b ", "b", " a", "gone"], ["b", "a"]),
    ],
)
def test_names_of_groups_in_text(tmp_path, monkeypatch, entries, names):
    monkeypatch.setattr(tables, "_size", lambda n_columns: 2)
    path = tmp_path / "rows.csv"
    path.write_text("g,a\n" + "".join(f"{entry},{place}.5\n" for place, entry in enumerate(entries)))
    groups = groups_of(path, "g", Layout(na=("gone",)))
    assert groups.names["g"].tolist() == names
    assert list(map(type, groups.names["g"].tolist())) == list(map(type, names))
    known = {str(name): place for place, name in enumerate(names)}
    assert groups.owner.tolist() == [known.get(entry.strip(), -1) for entry in entries]
    assert groups.lacking == sum(entry in ("", "NA", "gone") for entry in entries)


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([3, 1, 3, None], dtype="Int16"),
        pd.Series([0.5, np.nan, 1.0, 0.5]),
        pd.Series(["u", "v", None, "u"], dtype="category"),
        pd.Series(["", "v", None, "NA"], dtype=object),
        pd.Series([True, False, True, True]),
        pd.Series(pd.to_datetime(["2020-01-02", None, "2020-01-01", "2020-01-02"])),
    ],
    ids=lambda column: str(column.dtype),
)
def test_names_of_groups_in_parquet(tmp_path, monkeypatch, column):
    """Of any type, as they are: an empty text is a name there, and so is NA."""
    monkeypatch.setattr(tables, "_size", lambda n_columns: 2)
    pd.DataFrame({"g": column, "a": [0.0, 1.0, 2.0, 3.0]}).to_parquet(tmp_path / "rows.parquet")
    groups = groups_of(tmp_path / "rows.parquet", "g", Layout())
    assert groups.names["g"].tolist() == column.dropna().drop_duplicates().tolist()
    assert (groups.owner < 0).tolist() == column.isna().tolist()
    again = groups.names["g"].take(groups.owner[groups.owner >= 0]).tolist()
    assert again == column.dropna().tolist()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("--by batch --criterion cv", 2, "--criterion cv takes no --by; expected one of"),
        ("--by batch --sort a", 2, "--sort is 'a'; with --by, components are in the order of their weights"),
        ("--by batch --figure fit.words", 2, "--figure is 'fit.words'; expected a name that ends in one of"),
        ("--by batch --out models.npz", 2, "models.npz: the table of mixtures has words in it"),
        ("--by batch --out - --assign -", 2, "--out and --assign both want standard output"),
        ("--by batch --out - --json", 2, "both want standard output"),
        ("--by batch --parts no/parts.bin", 1, "no/parts.bin: cannot be written there"),
        ("--by batch --effort much", 2, "--effort is 'much'"),
        ("--by nothing", 2, "--by: genes.csv has no column 'nothing'; it has gene, batch, a, b, form"),
        ("--by form", 2, "the table of mixtures has a column 'form' of its own; say --prefix"),
        ("--by batch --assign x.csv --prefix a_", 2, "has a column 'a_component' already; say --prefix"),
        ("--by batch --missing fail", 1, "32 rows have missing entries (b 31, a 1); fill them in"),
        ("--by gene --missing fail", 1, "33 rows have missing entries (b 30, gene 2, a 1); fill them in"),
        ("--parts parts.bin", 2, "--parts keeps what is done of many groups; say --by"),
    ],
)
def test_what_is_wrong_is_one_line(run, arguments, code, words):
    frame().assign(form="x", a_component=0).to_csv("genes.csv", index=False)
    out, complaint, ended = run("fit", "genes.csv", *COLUMNS, *arguments.split())
    assert ended == code, complaint
    assert words in complaint
    assert complaint.count("\n") == 1
    assert complaint.startswith("jaxgmm: error: ")
    assert out == ""
