"""The command line: what goes in comes out, and what is wrong is one line and an exit code."""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

import jaxgmm
from jaxgmm.cli import commands, tables
from jaxgmm.covariance.table import LETTERS
from jaxgmm.families.table import forms_of

from tolerance import dtype

ROOT = Path(__file__).parent.parent
# The program computes in float64 whatever the suite does.
pytestmark = pytest.mark.skipif(dtype() is not np.float64, reason="the program has its own dtype")

MEANS = np.array([[0.0, 0.0], [6.0, 1.0]])
FAST = ("--components", "1:2", "--forms", "diag", "--restarts", "2")


def frame(n=200):
    """Two groups; a name, an integer and a missing entry beside the numbers."""
    random = np.random.default_rng(0)
    labels = np.arange(n) % 2
    x = MEANS[labels] + random.normal(size=(n, 2))
    table = pd.DataFrame({"name": [f"row {i}" for i in range(n)], "width": x[:, 0], "height": x[:, 1], "id": range(n)})
    table.loc[5, "height"] = np.nan
    return table


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A folder with rows, a model of them, and what the fit printed as JSON."""
    folder = tmp_path_factory.mktemp("fitted")
    frame().to_csv(folder / "data.csv", index=False)
    arguments = [
        "fit",
        "data.csv",
        "-c",
        "width,height",
        *FAST,
        "-o",
        "model.npz",
        "--assign",
        "assigned.csv",
        "--json",
    ]
    printed = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as end:
        commands.execute(arguments)
    assert not end.value.code
    return folder, json.loads(printed.getvalue())


def test_fit_tells_and_keeps_what_it_found(fitted):
    folder, told = fitted
    mixture, metadata = jaxgmm.load(folder / "model.npz"), jaxgmm.load_metadata(folder / "model.npz")
    assert told["best"]["n_components"] == mixture.n_components == 2
    assert mixture.log_weights.dtype == np.float64
    assert list(jaxgmm.load_schema(folder / "model.npz").names) == told["columns"] == ["width", "height"]
    assert (told["rows"], told["rows_dropped"]) == (199, 1)
    assert told["columns_unused"] == ["name", "id"]
    assert told["missing"] == {"height": 1}
    assert (told["rows_duplicated"], told["notes"]) == (0, [])
    x = frame()[["width", "height"]].dropna().to_numpy()
    value = float(jaxgmm.log_likelihood(mixture, x))
    assert value == pytest.approx(metadata["fit"]["log_likelihood"], rel=1e-12)
    assert {row["n_components"] for row in told["candidates"]} == {1, 2}
    np.testing.assert_allclose(np.sort(mixture.means[:, 0]), MEANS[:, 0], atol=0.5)


def test_rows_keep_their_order_and_their_columns(fitted):
    folder, _ = fitted
    before, after = pd.read_csv(folder / "data.csv"), pd.read_csv(folder / "assigned.csv")
    pd.testing.assert_frame_equal(after[before.columns], before, check_exact=True)
    assert after[["component", "probability"]].isna().all(axis=1).tolist() == (before["height"].isna()).tolist()
    x = before[["width", "height"]].dropna()
    mixture = jaxgmm.load(folder / "model.npz")
    there = after["component"].dropna().to_numpy(int)
    assert there.tolist() == np.asarray(mixture.predict(x.to_numpy())).tolist()
    expected = np.max(mixture.responsibilities(x.to_numpy()), axis=1)
    np.testing.assert_allclose(after["probability"].dropna(), expected, rtol=1e-12)


def test_priors_and_variational_bayes(run):
    """Of more components than are needed most lose their rows and are left out, and the evidence is what decides."""
    frame()[["width", "height"]].dropna().to_csv("data.csv", index=False)
    quick = ["--effort", "low", "--forms", "full", "--outliers", "keep"]
    bayes = ["--objective", "variational"]
    files = ["--out", "model.npz", "--assign", "assigned.csv", "--figure", "fit.png"]
    output, _, code = run("fit", "data.csv", *quick, *bayes, "-k", "6", *files)
    assert code == 0
    assert "4 of 6 components had less than half a row and were left out.\n" in output
    assert "evidence" in output
    assert "bic" not in output
    mixture, told = jaxgmm.load("model.npz"), jaxgmm.load_metadata("model.npz")["fit"]
    assert (told["objective"], told["criterion"], told["n_components"]) == ("variational", "evidence", 2)
    assert mixture.n_components == 2
    np.testing.assert_allclose(mixture.weights.sum(), 1, rtol=1e-12)
    assert set(pd.read_csv("assigned.csv")["component"]) == {0, 1}
    assert "2 components over 2 columns" in run("show", "model.npz")[0]
    printed = json.loads(run("fit", "data.csv", *quick, *bayes, "-k", "6", "--sort", "width", "--json")[0])
    assert (printed["best"]["n_components"], printed["candidates"][0]["n_components"]) == (2, 6)
    assert np.diff(np.array(printed["best"]["means"])[:, 0]) > 0
    assert printed["notes"] == ["4 of 6 components had less than half a row and were left out."]
    printed = json.loads(run("fit", "data.csv", *quick, *bayes, "-k", "1:3", "--criterion", "bic", "--json")[0])
    assert (printed["criterion"], printed["best"]["n_components"]) == ("bic", 2)
    output, _, code = run("fit", "data.csv", *quick, "--objective", "map", "-k", "2")
    assert (code, "bic" in output) == (0, True)
    _, complaints, code = run("fit", "data.csv", "--criterion", "evidence")
    assert (code, complaints.count("say --objective variational as well")) == (2, 1)
    _, complaints, code = run("fit", "data.csv", "--objective", "posterior")
    assert (code, complaints.count("expected some of likelihood, map, variational")) == (2, 1)


def test_forms_by_letters_and_of_low_rank(run):
    frame()[["width", "height"]].dropna().to_csv("data.csv", index=False)
    quick = ["--effort", "low", "--outliers", "keep", "-k", "2", "--restarts", "2"]
    output, _, code = run("fit", "data.csv", *quick, "--forms", "VEE,lowrank-1-spherical", "--out", "model.npz")
    assert code == 0
    assert "VEE " in output
    assert "lowrank-1-spherical " in output
    found = jaxgmm.load_metadata("model.npz")["fit"]
    assert found["form"] in ("VEE", "lowrank-1-spherical")
    assert f"Gaussian {found['form']}" in run("show", "model.npz")[0]
    assert run("predict", "model.npz", "data.csv")[2] == 0
    assert forms_of("mclust", 2) == list(LETTERS.values())
    assert forms_of(["VVV", "mclust"], 1) == ["full", "tied-spherical", "spherical"]


def test_components_of_classes_stay_and_so_do_all_where_weights_count_no_rows(run):
    table = frame()[["width", "height"]].dropna()
    table["kind"] = ["one", *[None] * (len(table) - 1)]
    table["share"] = 1e-4
    table.to_csv("data.csv", index=False)
    bayes = ["--effort", "low", "--forms", "full", "--outliers", "keep", "--objective", "variational", "-k", "4"]
    run("fit", "data.csv", *bayes, "-c", "width,height", "--labels", "kind", "--out", "model.npz")
    metadata = jaxgmm.load_metadata("model.npz")
    assert (metadata["component_names"], metadata["fit"]["n_components"]) == (["one"], 2)
    output = run("fit", "data.csv", *bayes, "-c", "width,height", "--weights", "share", "--out", "model.npz")[0]
    assert "Every component has less than half a row, and all stay: --weights are to count rows.\n" in output
    assert jaxgmm.load("model.npz").n_components == 4


def test_a_messy_table(run):
    """A constant column, a row that stands alone, and one that is incomplete: all three are named."""
    table = frame().assign(constant=3.0).drop(columns="id")
    table.loc[7, ["width", "height"]] = 9e11, 1
    table.to_csv("data.csv", index=False)
    output, complaints, code = run("fit", "data.csv", *FAST, "--out", "model.npz")
    assert (code, complaints) == (0, "")
    assert "Column 'constant' is 3 in every row but those set aside, and is left out." in output
    # The eighth row of the table, though one before it is incomplete.
    assert "1 row stands alone and is set aside, with weight 0 in every candidate: 8, counted from 1." in output
    metadata = jaxgmm.load_metadata("model.npz")["fit"]
    assert metadata["constants"] == {"constant": 3.0}
    assert metadata["outliers"] == [8]
    assert jaxgmm.load_schema("model.npz").names == ("width", "height")
    assert run("predict", "model.npz", "data.csv", "--out", "labels.csv")[2] == 0
    assert len(pd.read_csv("labels.csv")) == 200
    kept = json.loads(run("fit", "data.csv", *FAST, "--outliers", "keep", "--json")[0])
    assert kept["outliers"] == []


@pytest.mark.parametrize(
    ("values", "options", "cures"),
    [
        ("spike", ("--components", "2"), [("--components", "2", "--spurious"), ("--components", "1")]),
        ("copy", ("--components", "1", "--forms", "full"), [("--forms", "diag"), ("--exclude", "b"), ("--spurious",)]),
    ],
)
def test_advice_that_is_given_helps(run, values, options, cures):
    random = np.random.default_rng(0)
    if values == "spike":
        table = pd.DataFrame({"a": np.concatenate([random.normal(size=100), np.full(10, 4.0)])})
    else:
        table = pd.DataFrame({"a": random.normal(size=110)}).assign(b=lambda frame: 2 * frame["a"])
    table.to_csv("data.csv", index=False)
    command = ("fit", "data.csv", "--restarts", "2", "--forms", "full")
    _, complaints, code = run(*command, *options)
    assert code == 3
    for cure in cures:
        assert cure[-1].split(",")[0] in complaints or cure[0] in complaints
        output, _, code = run(*command, *options, *cure)
        assert code == 0, cure
    assert ("spurious" in output) == (cures[-1][-1] == "--spurious")


def test_effort_is_how_many_starts(run, monkeypatch):
    asked = []

    def select(*arguments, **options):
        asked.append(options.get("n_restarts"))
        raise ValueError("enough")

    frame().to_csv("data.csv", index=False)
    monkeypatch.setattr(jaxgmm, "select", select)
    for options in ([], ["--effort", "low"], ["--effort", "high"], ["--effort", "low", "--restarts", "3"]):
        assert run("fit", "data.csv", *options)[2] == 1
    assert asked == [None, 8, 200, 3]


def test_copies_of_rows_are_counted(run):
    table = pd.DataFrame(
        {"a": [0.0, -0.0, 1.0, 1.0, 1.0, 2.0], "b": [5.0, 5.0, 1.0, 1.0, 1.0, 2.0], "c": list("uvwxyz")}
    )
    table.to_csv("copies.csv", index=False)
    assert json.loads(run("fit", "copies.csv", *FAST, "-k", "1", "--json")[0])["rows_duplicated"] == 3


def test_weights_count_rows(run):
    table = frame(40).dropna()
    table["n"] = np.arange(len(table)) % 3
    table.to_csv("weighted.csv", index=False)
    table.loc[table.index.repeat(table["n"])].to_csv("repeated.csv", index=False)
    options = ("-c", "width", *FAST, "-k", "1", "--json")
    one, two = (
        json.loads(run("fit", *what, *options)[0])["best"]
        for what in (("weighted.csv", "--weights", "n"), ("repeated.csv",))
    )
    np.testing.assert_allclose(one["means"], two["means"], rtol=1e-10)
    assert one["fit"]["criterion_value"] == pytest.approx(two["fit"]["criterion_value"], rel=1e-10)


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.parquet", "rows.csv.gz"])
def test_predict_through_files(run, fitted, name):
    folder, _ = fitted
    table, layout = frame(), tables.Layout()
    with tables.writing(name, layout, []) as write:
        write(table[:150])
        write(table[150:])
    out, complaints, code = run("predict", folder / "model.npz", name, "-o", f"out-{name}", "--probabilities")
    assert (out, complaints, code) == ("", "", 0)
    with tables.opened(f"out-{name}", layout) as read:
        after = pd.concat(part.frame for part in read.parts())
    expected = pd.read_csv(folder / "assigned.csv")
    assert after["component"].astype("Int64").tolist() == expected["component"].astype("Int64").tolist()
    assert after["name"].tolist() == table["name"].tolist()
    assert after["width"].to_numpy(float).tolist() == table["width"].tolist()
    np.testing.assert_allclose((after["p0"] + after["p1"]).dropna().to_numpy(float), 1)


@pytest.mark.parametrize("name", ["rows.npy", "rows.npz"])
def test_predict_through_arrays(run, fitted, name):
    folder, _ = fitted
    x = frame()[["width", "height"]].to_numpy()
    (np.save if name.endswith("npy") else np.savez)(name, x)
    assert run("predict", folder / "model.npz", name, "-o", "out.npz")[2] == 0
    with np.load("out.npz") as out:
        assert out.files == ["component", "probability"]
        expected = pd.read_csv(folder / "assigned.csv")["component"].fillna(-1)
        assert out["component"].tolist() == expected.tolist()
    assert run("score", folder / "model.npz", name, "-o", "out.npy", "--prefix", "a_")[2] == 0
    assert np.load("out.npy").shape == (200, 2)


def test_standard_input_and_output(run, fitted):
    folder, _ = fitted
    text = (folder / "data.csv").read_bytes()
    out, complaints, code = run("predict", folder / "model.npz", "-", given=text)
    assert (complaints, code) == ("", 0)
    assert out == (folder / "assigned.csv").read_text()
    semicolons = text.replace(b",", b";").replace(b".", b",")
    out, _, code = run("predict", folder / "model.npz", "-", "--separator", ";", "--decimal", ",", given=semicolons)
    assert out.replace(",", ".").replace(";", ",") == (folder / "assigned.csv").read_text()


def test_parts_of_a_table_are_like_the_whole(run, fitted, monkeypatch):
    """No more than a part is read at a time."""
    folder, _ = fitted
    monkeypatch.setattr(tables, "_size", lambda n_columns: 7)
    with tables.opened(str(folder / "data.csv"), tables.Layout()) as table:
        assert {len(part.frame) for part in table.parts()} == {7, 200 % 7}
    assert run("predict", folder / "model.npz", folder / "data.csv")[0] == (folder / "assigned.csv").read_text()


def test_scores_mark_the_share_that_was_asked_for(run, fitted):
    folder, _ = fitted
    for share in (0.01, 0.05, 0.2):
        out, _, code = run(
            "score", folder / "model.npz", folder / "data.csv", "-o", "s.csv", "--quantile", share, "--json"
        )
        told = json.loads(out)
        assert code == 0
        assert abs(told["anomalies"] - share * 199) <= 1.5
        assert (told["rows"], told["rows_missing"]) == (200, 1)
        scores = pd.read_csv("s.csv")
        assert scores["anomaly"].sum() == told["anomalies"] == (scores["log_density"] < told["threshold"]).sum()
    x = frame()[["width", "height"]].dropna().to_numpy()
    expected = jaxgmm.load(folder / "model.npz").log_prob(x)
    np.testing.assert_allclose(scores["log_density"].dropna(), expected, rtol=1e-12)
    _, told, _ = run("score", folder / "model.npz", folder / "data.csv", "--threshold", "-1e9")
    assert "0 of 200 rows, 1 with missing entries" in told


def test_samples_follow_the_seed(run, fitted):
    folder, _ = fitted
    one, other, again = (
        run("sample", folder / "model.npz", "-n", 1000, "--seed", seed, "--labels")[0] for seed in (1, 2, 1)
    )
    assert one == again != other
    rows = pd.read_csv(io.StringIO(one))
    assert rows.columns.tolist() == ["width", "height", "component"]
    assert len(rows) == 1000
    means = rows.groupby("component")[["width", "height"]].mean()
    np.testing.assert_allclose(means, jaxgmm.load(folder / "model.npz").means, atol=0.3)


def test_show(run, fitted):
    folder, _ = fitted
    out, _, code = run("show", folder / "model.npz")
    assert code == 0
    for text in ("2 components over 2 columns, Gaussian diag, float64", "width", "height", "199 rows of data.csv"):
        assert text in out
    told = json.loads(run("show", folder / "model.npz", "--json")[0])
    np.testing.assert_array_equal(told["means"], jaxgmm.load(folder / "model.npz").means)
    # A model that Python saved, with no names of columns.
    jaxgmm.save("plain.npz", jaxgmm.from_parameters([1.0], [[0.0, 1.0]], [1.0], "spherical"))
    assert "c2" in run("show", "plain.npz")[0]


def test_columns_of_a_model_that_python_saved_are_found_by_name(run):
    mixture = jaxgmm.from_parameters([0.5, 0.5], [[0.0, 50.0], [9.0, 50.0]], [1.0, 1.0], "spherical")
    jaxgmm.save("two.npz", mixture, schema=jaxgmm.Schema(["width", "height"]))
    table = pd.DataFrame({"height": [50.0, 50.5, 49.0], "width": [0.0, 9.0, 8.0]})
    table.to_csv("turned.csv", index=False)
    run("predict", "two.npz", "turned.csv", "-o", "assigned.csv")
    assert pd.read_csv("assigned.csv")["component"].tolist() == [0, 1, 1]
    assert "height" in run("show", "two.npz")[0]
    table.drop(columns="width").assign(other=1.0).to_csv("lacking.csv", index=False)
    assert "lacks the column 'width'" in run("predict", "two.npz", "lacking.csv", "-o", "never.csv")[1]


def test_for_people(run, fitted):
    folder, _ = fitted
    out, _, code = run("fit", folder / "data.csv", "-x", "id", *FAST)
    assert code == 0
    assert "1 row with missing entries is left out; 199 remain (height 1)." in out
    assert "Columns not used: name, id." in out
    assert "±" in out
    assert "Nothing was written; --out model.npz keeps the mixture." in out


def test_components_in_order_and_in_python(run):
    """Numbers of components follow --sort, in every file, and the line that is printed reads the model."""
    far = frame().dropna()
    far["width"] = 1.7e9 - far["width"]
    far.to_csv("far.csv", index=False)
    files = ("-o", "it's sorted.npz", "--assign", "assigned.csv")
    out, complaint, code = run("fit", "far.csv", "-c", "height,width", *FAST, "--sort", "width", *files)
    assert code == 0, complaint
    mixture, assigned = jaxgmm.load("it's sorted.npz"), pd.read_csv("assigned.csv")
    assert np.all(np.diff(mixture.means[:, 1]) > 1)
    assert np.all(np.diff(assigned.groupby("component")["width"].mean()) > 1)
    (line,) = (line.removeprefix("In Python: ") for line in out.splitlines() if line.startswith("In Python: "))
    told = "; print(mixture.means[0, 1])"
    done = subprocess.run(
        [sys.executable, "-c", line + told],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"JAX_ENABLE_X64": "0"},
    )
    assert float(done.stdout) == mixture.means[0, 1]
    _, complaint, code = run("fit", "far.csv", "--sort", "name")
    assert (code, "--sort is 'name'; expected weight or one of width, height, id." in complaint) == (2, True)


LINES = {
    "text.csv": "a,b\n1,2\n3,x\n5,6\n",
    "infinite.csv": "a\n1\ninf\n",
    "empty.csv": "",
    "names.csv": "a,b\n",
    "numbers.csv": "1,2\n3,4\n",
    "ragged.csv": "a,b\n1,2\n1,2,3,4\n",
    "long.csv": "a,b\n1,2,3\n4,5,6\n",
    "words.csv": "a\nx\ny\n",
    "missing.csv": "a,b\n1,\n,2\n3,\n",
    "same.csv": "a,b\n" + "1,2\n" * 30,
    "taken.csv": "width,height,component\n1,2,3\n",
    "other.csv": "x,y\n1,2\n",
    "foreign.npz": "not a zip file",
}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("fit nothing.csv", 1, "nothing.csv: there is no such file."),
        ("fit text.csv -c a,b", 1, "1 of 3 entries of column 'b' is no number ('x'): say --na x"),
        ("fit infinite.csv", 1, "row 2 of column 'a' is infinite"),
        ("fit empty.csv", 1, "empty.csv: no columns in it"),
        ("fit names.csv", 1, "no rows in it"),
        ("fit numbers.csv", 1, "say --header if these are names, --no-header if they are a row."),
        ("fit ragged.csv", 1, "ragged.csv: row 2 has 4 entries; expected 2"),
        ("fit long.csv", 1, "long.csv: row 1 has 3 entries; expected 2"),
        ("fit words.csv", 1, "no columns of numbers are left among a"),
        ("fit missing.csv", 1, "every row has a missing entry (b 2, a 1)"),
        (
            "fit missing.csv --missing fail",
            1,
            "3 rows have missing entries (b 2, a 1); fill them in, or say --missing drop",
        ),
        ("fit text.csv -c a -k 4", 1, "3 rows; expected at least as many as components, 4"),
        ("fit same.csv -k 1 --restarts 1 --forms diag", 1, "no column that varies"),
        ("fit text.csv -c c", 2, "has no column 'c'; it has a, b."),
        ("fit text.csv -k 0:3", 2, "--components is '0:3'; expected numbers from 1 on"),
        ("fit text.csv --forms round", 2, "--forms is 'round'; expected some of full, tied, diag, tied-diag"),
        ("fit text.csv --criterion aicd", 2, "--criterion is 'aicd'"),
        ("fit text.csv --assign - --json", 2, "both want standard output"),
        ("fit text.csv --out no/model.npz", 1, "no/model.npz: cannot be written there"),
        ("fit text.csv --figure fit.doc", 2, "--figure is 'fit.doc'; expected a name that ends in"),
        ("fit rows.xyz", 1, "cannot tell the format by the ending; say --format"),
        ("predict MODEL other.csv", 1, "lacks the column 'width'"),
        ("predict MODEL other.csv -c x", 1, "names 1 columns of numbers"),
        ("predict MODEL taken.csv", 2, "has a column 'component' already; say --prefix"),
        ("predict foreign.npz taken.csv", 1, "foreign.npz"),
        ("predict MODEL taken.csv -o no/such/folder.csv --prefix p_", 1, "cannot be written there"),
        ("score MODEL taken.csv --quantile 0.1 --threshold 3", 2, "give one of them"),
        ("score MODEL taken.csv --quantile 2", 2, "--quantile is 2; expected a share"),
        ("score BARE taken.csv", 1, "say --threshold"),
        ("show nothing.npz", 1, "nothing.npz: No such file or directory"),
    ],
)
def test_what_is_wrong_is_one_line(run, fitted, arguments, code, words):
    for name, text in LINES.items():
        Path(name).write_text(text)
    jaxgmm.save("bare.npz", jaxgmm.load(fitted[0] / "model.npz"), schema=jaxgmm.Schema(["width", "height"]))
    named = arguments.replace("MODEL", str(fitted[0] / "model.npz")).replace("BARE", "bare.npz")
    out, complaint, ended = run(*named.split())
    assert ended == code, complaint
    assert words in complaint
    assert complaint.count("\n") == 1
    assert complaint.startswith("jaxgmm: error: ")
    assert out == ""


def test_what_fails_half_way_leaves_nothing(run, fitted, monkeypatch):
    monkeypatch.setattr(tables, "_size", lambda n_columns: 2)
    Path("late.csv").write_text("width,height\n" + "1,2\n" * 9 + "1,two\n")
    Path("out.csv").write_text("as it was")
    _, complaint, code = run("predict", fitted[0] / "model.npz", "late.csv", "-o", "out.csv")
    assert (code, "1 of 10 entries of column 'height' is no number ('two')" in complaint) == (1, True)
    assert Path("out.csv").read_text() == "as it was"
    assert sorted(os.listdir()) == ["late.csv", "out.csv"]


def test_stopped(run, fitted, monkeypatch):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(jaxgmm, "select", stop)
    assert run("fit", fitted[0] / "data.csv", *FAST) == ("", "jaxgmm: error: stopped.\n", 130)


def test_wrong_usage(run):
    for arguments in (["fit"], ["fitt"], ["fit", "data.csv", "--no-such"], ["sample", "m.npz", "-n", "0"]):
        assert run(*arguments)[2] == 2, arguments
    assert run("--version")[0].startswith(f"jaxgmm {jaxgmm.__version__}, jax {jax.__version__}")
    assert "Exit codes" in run("--help")[0]


def process(*arguments, **environment):
    # JAX has set this one here, and a user has not.
    inherited = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, "-m", "jaxgmm", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=inherited | environment,
        check=False,
    )


def test_a_second_run_compiles_nothing(fitted, tmp_path):
    folder, _ = fitted
    runs, kept = [], []
    for _ in range(2):
        runs.append(process("predict", folder / "model.npz", folder / "data.csv", XDG_CACHE_HOME=str(tmp_path)))
        kept.append({path.name for path in tmp_path.rglob("*-cache")})
    assert [run.returncode for run in runs] == [0, 0], runs[0].stderr
    assert runs[0].stdout == runs[1].stdout == (folder / "assigned.csv").read_text()
    assert [run.stderr for run in runs] == ["", ""]
    assert kept[0] == kept[1] != set()


def test_without_a_folder_for_programs(run, fitted, tmp_path):
    """Nothing is kept where there is no place for it, and all else goes on."""
    (tmp_path / "file").touch()
    arguments = ("score", fitted[0] / "model.npz", fitted[0] / "data.csv", "--threshold", "-5")
    not_kept = process(*arguments, XDG_CACHE_HOME=str(tmp_path / "file"))
    assert not_kept.returncode == 0, not_kept.stderr
    assert not_kept.stdout == run(*arguments)[0] != ""


def test_without_the_extra():
    code = "import sys; sys.modules['typer'] = None; from jaxgmm.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert done.stderr == "jaxgmm: the command line needs typer: pip install 'jaxgmm[cli]'\n"


def test_a_reader_that_has_seen_enough(fitted):
    command = f"{sys.executable} -m jaxgmm sample {fitted[0] / 'model.npz'} -n 200000 | head -2"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.startswith("width,height\n")
    assert done.stderr == ""
