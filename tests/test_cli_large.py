"""The command line and tables of which a sample is held in memory: what is chosen on it and fitted to all rows."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import jaxgmm
from jaxgmm.cli import selected

from tolerance import dtype

# The program computes in float64 whatever the suite does.
pytestmark = pytest.mark.skipif(dtype() is not np.float64, reason="the program has its own dtype")

ROOT = Path(__file__).parent.parent
MEANS = np.array([[0.0, 0.0], [4.0, 1.0]])
FAST = ("-k", "1:3", "--forms", "diag,full", "--restarts", "4")
N, SAMPLED = 3000, 500


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Tables are large from few numbers on, are read in small parts, and few of their rows are held."""
    monkeypatch.setattr(selected, "MOST", 1000)
    monkeypatch.setattr(selected, "SAMPLE", SAMPLED)
    monkeypatch.setattr(selected, "LEAST", 10)
    monkeypatch.setattr(selected, "MOST_ROWS", 512)
    monkeypatch.setattr("jaxgmm.cli.tables._MOST_ROWS", 256)


def in_memory(monkeypatch):
    monkeypatch.setattr(selected, "MOST", 2**20)


def frame(n=N):
    """Two groups, a name, weights, and some entries that are missing."""
    random = np.random.default_rng(0)
    labels = np.arange(n) % 2
    x = MEANS[labels] + random.normal(size=(n, 2)) * [1.0, 0.5]
    table = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "name": [f"row {i}" for i in range(n)]})
    table["n"] = random.integers(1, 4, n)
    table["kind"] = np.where(random.random(n) < 0.2, np.where(labels == 0, "near", "far"), None)
    return table


def test_the_fit_is_that_of_all_rows(run, monkeypatch):
    """Numbers and form as in memory, and the same mixture, criterion and rows, though a sample chose them."""
    frame()[["a", "b"]].to_csv("data.csv", index=False)
    output, _, code = run("fit", "data.csv", *FAST, "--tol", "1e-9", "-o", "large.npz", "--assign", "large.csv")
    assert code == 0
    assert f"Chosen on a sample of {SAMPLED} of {N} rows:" in output
    assert f"fitted to all {N} rows: log-likelihood " in output
    told = json.loads(run("fit", "data.csv", *FAST, "--tol", "1e-9", "--json")[0])
    assert (told["rows"], told["sample"]["rows"], told["rows_duplicated"]) == (N, SAMPLED, None)
    in_memory(monkeypatch)
    assert run("fit", "data.csv", *FAST, "--tol", "1e-9", "-o", "small.npz", "--assign", "small.csv")[2] == 0
    large, small = (jaxgmm.load_metadata(name)["fit"] for name in ("large.npz", "small.npz"))
    assert (large["form"], large["n_components"]) == (small["form"], small["n_components"])
    assert large["log_likelihood"] == pytest.approx(small["log_likelihood"], rel=1e-8)
    assert told["whole"]["log_likelihood"] == large["log_likelihood"]
    mixture, x = jaxgmm.load("large.npz"), frame()[["a", "b"]].to_numpy()
    assert large["log_likelihood"] == pytest.approx(float(jaxgmm.log_likelihood(mixture, x)), rel=1e-12)
    assert large["bic"] == pytest.approx(float(jaxgmm.bic(mixture, x)), rel=1e-12)
    # The criterion is that of the sample, and is not given for that of all rows.
    assert "criterion_value" not in large
    assert large["sample"]["criterion_value"] < large["bic"]
    assigned = pd.read_csv("large.csv")
    assert assigned["component"].tolist() == np.asarray(mixture.predict(x)).tolist()
    assert f"Chosen on a sample of {SAMPLED} of them by bic." in run("show", "large.npz")[0]


@pytest.mark.parametrize("kind", ["csv", "parquet", "npy"])
def test_all_that_is_known_of_rows_travels(run, kind):
    table = frame()
    table.loc[::7, "a"] = np.nan
    table["se_b"] = 0.1
    options = ["--missing", "em"]
    if kind == "npy":
        np.save("data.npy", table[["a", "b"]].to_numpy())
        expected = {}
    else:
        table.to_csv("data.csv", index=False) if kind == "csv" else table.to_parquet("data.parquet")
        options += ["--weights", "n", "--labels", "kind", "--noise", "se_"]
        number = table["kind"].map({"far": 0, "near": 1}).fillna(-1).to_numpy(int)
        expected = {
            "weights": table["n"].to_numpy(float),
            "labels": number,
            "noise": np.broadcast_to([0.0, 0.1**2], (N, 2)),
        }
    output, complaints, code = run("fit", f"data.{kind}", "--forms", "full", "-k", "2", *options, "-o", "model.npz")
    assert code == 0, complaints
    metadata = jaxgmm.load_metadata("model.npz")
    rows = jaxgmm.rows(table[["a", "b"]].to_numpy(), missing="nan", **expected)
    value = float(jaxgmm.log_likelihood(jaxgmm.load("model.npz"), rows))
    assert metadata["fit"]["log_likelihood"] == pytest.approx(value, rel=1e-12)
    assert metadata["fit"]["total_weight"] == pytest.approx(float(np.sum(rows.weights)))
    assert metadata["fit"]["rows_incomplete"] == len(table.loc[::7])
    if kind != "npy":
        assert metadata["component_names"] == ["far", "near"]
        counts = table["kind"].value_counts()
        assert f"{counts.sum()} of {N} rows have a class in kind" in output
        assert f"far ({counts['far']}), near ({counts['near']})" in output


def test_rows_with_missing_entries_are_left_out(run):
    table = frame()
    table.loc[::10, "b"] = np.nan
    table.to_csv("data.csv", index=False)
    told = json.loads(run("fit", "data.csv", "-c", "a,b", *FAST, "--json")[0])
    assert (told["rows"], told["rows_dropped"], told["missing"]) == (2700, 300, {"b": 300})
    x = table[["a", "b"]].dropna().to_numpy()
    best = told["best"]
    mixture = jaxgmm.from_parameters(best["weights"], best["means"], best["covariances"])
    assert told["whole"]["log_likelihood"] == pytest.approx(float(jaxgmm.log_likelihood(mixture, x)), rel=1e-9)
    _, complaints, code = run("fit", "data.csv", "-c", "a,b", *FAST, "--missing", "fail")
    assert (code, complaints.count("300 rows have missing entries")) == (1, 1)


def test_rows_that_stand_alone_among_all(run):
    """Those that no sample of this seed holds are found too, by their places in the table."""
    table = frame()[["a", "b"]]
    alone = [5, 1234, 2998]
    table.loc[alone, "a"] = [1e6, -3e7, 4e8]
    table.loc[0, "b"] = np.nan
    table.to_csv("data.csv", index=False)
    told = json.loads(run("fit", "data.csv", *FAST, "--json")[0])
    assert told["outliers"] == [place + 1 for place in alone]
    assert told["rows"] == N - 1 - len(alone)
    assert np.max(np.abs(told["best"]["means"])) < 10
    output = run("fit", "data.csv", *FAST)[0]
    assert "3 of all rows stand alone, set aside in the fit to all: 6, 1235, 2999, counted from 1." in output
    assert json.loads(run("fit", "data.csv", *FAST, "--outliers", "keep", "--json")[0])["outliers"] == []


def test_what_was_chosen_is_read_as_it_was(run):
    """The same command again says the same, to the last digit, and draws and sorts as before."""
    frame()[["a", "b"]].assign(same=2.0).to_csv("data.csv", index=False)
    command = ["fit", "data.csv", *FAST, "--objective", "map", "--criterion", "icl", "--sort", "a", "--resume", "state"]
    output, _, code = run(*command, "-o", "model.npz", "--figure", "first.png")
    assert code == 0
    assert np.all(np.diff(jaxgmm.load("model.npz").means[:, 0]) > 0)
    before = Path("model.npz").read_bytes()
    assert run(*command, "-o", "model.npz", "--figure", "second.png")[0] == output
    assert Path("model.npz").read_bytes() == before
    assert Path("second.png").read_bytes().startswith(b"\x89PNG")
    Path("state.start").write_bytes(before)
    assert "state.start: holds no choice that a fit began with" in run(*command)[1]


def test_a_column_that_varies_elsewhere(run):
    """A sample may not show it; then it is said."""
    table = frame()[["a", "b"]].assign(same=2.0, rare=1.0)
    table.loc[N - 1, "rare"] = 5.0
    table.to_csv("data.csv", index=False)
    output = run("fit", "data.csv", *FAST)[0]
    assert "Column 'rare' varies in rows that are not in the sample, and is left out." in output
    assert "Column 'same' varies" not in output
    assert "Column 'same' is 2 in every row" in output


def test_what_is_asked_of_small_tables_is_said(run, monkeypatch):
    frame(200)[["a", "b"]].to_csv("data.csv", index=False)
    in_memory(monkeypatch)
    output, _, code = run("fit", "data.csv", *FAST, "--max-seconds", "5")
    assert code == 0
    assert "The table fits into memory: --resume and --max-seconds are for larger ones." in output
    assert run("fit", "data.csv", "--by", "b", "--resume", "state")[2] == 2


def test_a_fit_that_is_told_to_stop(run):
    frame()[["a", "b"]].to_csv("data.csv", index=False)
    _, complaints, code = run("fit", "data.csv", *FAST, "--max-seconds", "0")
    assert (code, complaints.count("--max-seconds ended before the first pass")) == (1, 1)


_KILLED = """
import os, signal, sys
from jaxgmm.cli import commands, selected
from jaxgmm.fitting import batches
selected.MOST, selected.SAMPLE, selected.LEAST = 1000, 800, 10
how, stop = sys.argv[1], int(sys.argv[2])
batches._SECONDS_BETWEEN = 0
accept, steps = batches._accept, 0
def counted(*given):
    global steps
    steps += 1
    if steps == stop and how != "never":
        os.kill(os.getpid(), signal.SIGKILL if how == "kill" else signal.SIGINT)
    return accept(*given)
batches._accept = counted
def chosen(*given, **options):
    print("chosen anew", file=sys.stderr)
    return select(*given, **options)
import jaxgmm
select, jaxgmm.select = jaxgmm.select, chosen
commands.execute(sys.argv[3:], commands._settle)
"""


def call(how, stop, *arguments):
    command = [sys.executable, "-c", _KILLED, how, str(stop), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False
    )


def bits(path):
    mixture = jaxgmm.load(path)
    return [np.asarray(leaf).tobytes() for leaf in (mixture.log_weights, mixture.means, mixture.covariances)]


def test_a_killed_fit_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(3)
    # Two groups so near to each other that it takes many steps to tell them apart.
    np.save("data.npy", random.normal(size=(N, 2)) + np.where(random.random((N, 1)) < 0.3, 1.5, 0.0))
    command = ["fit", "data.npy", "-k", "2", "--forms", "full", "--restarts", "4", "--tol", "1e-10"]
    assert call("never", 0, *command, "-o", "whole.npz").returncode == 0
    killed = call("kill", 6, *command, "--resume", "state", "-o", "model.npz")
    assert killed.returncode == -signal.SIGKILL
    assert (Path("state").exists(), Path("state.start").exists(), Path("model.npz").exists()) == (True, True, False)
    stopped = call("interrupt", 3, *command, "--resume", "state", "-o", "model.npz")
    assert stopped.returncode == 130
    assert "chosen anew" not in stopped.stderr
    assert (
        "stopped; what is written is of the best mixture so far, and the same command goes on from state."
        in stopped.stderr
    )
    assert "The best fit is STOPPED." in stopped.stdout
    assert jaxgmm.load_metadata("model.npz")["fit"]["status"] == "STOPPED"
    assert bits("model.npz") != bits("whole.npz")
    again = call("never", 0, *command, "--resume", "state", "-o", "model.npz")
    assert (again.returncode, "chosen anew" in again.stderr) == (0, False)
    assert bits("model.npz") == bits("whole.npz")
    before, after = (jaxgmm.load_metadata(name)["fit"] for name in ("whole.npz", "model.npz"))
    assert before == after
    other = call("never", 0, *command, "--resume", "state", "--seed", "1")
    assert other.returncode == 1
    assert "--resume: state.start is of another fit, with other seed, rows." in other.stderr


def folder_of(table, n=3):
    """Files of a table in Parquet, with marks as Spark leaves them."""
    Path("rows").mkdir()
    for place, part in enumerate(np.array_split(np.arange(len(table)), n)):
        table.iloc[part].to_parquet(f"rows/part-{place}.parquet", index=False)
    Path("rows/_SUCCESS").touch()


def test_a_folder_is_one_table(run):
    table = frame()[["a", "b"]]
    folder_of(table)
    table.to_parquet("whole.parquet", index=False)
    first = None
    for name in ("rows", "rows/part-*.parquet", "whole.parquet"):
        output, complaints, code = run("fit", name, *FAST, "-o", "model.npz", "--assign", "assigned.parquet")
        assert code == 0, complaints
        found = bits("model.npz"), pd.read_parquet("assigned.parquet"), output
        first = first or found
        assert found[0] == first[0]
        pd.testing.assert_frame_equal(found[1], first[1])
        assert found[2] == first[2]
    assert run("predict", "model.npz", "rows", "-o", "predicted.parquet")[2] == 0
    pd.testing.assert_frame_equal(pd.read_parquet("predicted.parquet"), first[1])
    assert run("score", "model.npz", "rows", "-o", "scored.parquet")[2] == 0
    assert len(pd.read_parquet("scored.parquet")) == N


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda table: table[["b", "a"]], "has the columns b, a, and rows/part-0.parquet has a, b"),
        (lambda table: table[["a"]], "lacks the column 'b' of rows/part-0.parquet"),
        (lambda table: table.assign(c=1.0), "has a column 'c', which rows/part-0.parquet has not"),
        (
            lambda table: table.astype({"b": "float32"}),
            "column 'b' is of type float, and in rows/part-0.parquet of double",
        ),
    ],
)
def test_files_of_other_columns(run, change, told):
    folder_of(frame()[["a", "b"]])
    change(pd.read_parquet("rows/part-1.parquet")).to_parquet("rows/part-1.parquet", index=False)
    _, complaints, code = run("fit", "rows", *FAST)
    assert (code, complaints.count("\n")) == (1, 1)
    assert f"rows/part-1.parquet: {told}" in complaints


def test_folders_of_nothing_that_is_known(run):
    folder_of(frame()[["a", "b"]])
    Path("rows/data.csv").write_text("a,b\n1,2\n")
    assert "rows: a folder with files of several formats, csv and parquet;" in run("fit", "rows")[1]
    Path("empty").mkdir()
    assert "empty: a folder with no files of a known format;" in run("fit", "empty")[1]
    assert "no-*.csv: there is no file of such a name." in run("fit", "no-*.csv")[1]


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_in_archives(run, order):
    """Of an archive, compressed or not, the array called x is read as it stands in a file of its own."""
    x = np.array(frame()[["a", "b"]], order=order)
    np.save("data.npy", x)
    np.savez_compressed("small.npz", y=x[:10], x=x)
    np.savez("plain.npz", x)
    assert run("fit", "data.npy", *FAST, "-o", "model.npz")[2] == 0
    told = [run("predict", "model.npz", name)[0] for name in ("data.npy", "small.npz", "plain.npz")]
    assert told[0] == told[1] == told[2]
    assert told[0].count("\n") == N + 1
    np.savez("several.npz", a=x, b=x)
    assert "has the arrays a, b; expected one array, or one called x." in run("fit", "several.npz")[1]
    Path("broken.npz").write_bytes(Path("small.npz").read_bytes()[:1000])
    assert run("fit", "broken.npz")[1].startswith("jaxgmm: error: broken.npz: not readable as npz: ")


def test_arrays_are_written_as_they_come(run):
    """Each part of a table goes to disk; what is read back is what a program would have put together."""
    table = frame()[["a", "b"]]
    np.save("data.npy", table.to_numpy())
    assert run("fit", "data.npy", *FAST, "-o", "model.npz")[2] == 0
    for ending in ("npy", "npz", "csv"):
        assert run("predict", "model.npz", "data.npy", "-o", f"told.{ending}")[2] == 0
    expected = pd.read_csv("told.csv")[["component", "probability"]].to_numpy()
    np.testing.assert_allclose(np.load("told.npy"), expected, rtol=1e-12)
    with np.load("told.npz") as told:
        assert (told["component"].dtype, told["component"].tolist()) == (np.int64, expected[:, 0].tolist())
        np.testing.assert_array_equal(told["probability"], np.load("told.npy")[:, 1])
    assert sorted(name for name in os.listdir() if name.startswith(".")) == []
