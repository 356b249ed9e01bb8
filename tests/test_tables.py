"""Tables as people have them: how text is laid out is recognised and said, or refused with advice that works."""

import gzip
import io
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer.main

import jaxgmm
from jaxgmm.cli import applying, commands, fitting, numbers, report, tables
from jaxgmm.cli.layout import Layout
from jaxgmm.cli.problem import Problem

from tolerance import dtype

# The program computes in float64 whatever the suite does.
pytestmark = pytest.mark.skipif(dtype() is not np.float64, reason="the program has its own dtype")
# Two rows, and the same for every table below; enough of them that a layout is no accident.
X = np.array([[1234.5, -0.25], [0.5, 1e6], [12.0, 3.125], [-7.75, 2048.0]])


RECOGNISED = Layout()


def lines(*rows):
    return "".join(f"{row}\n" for row in rows)


def saved(write, *arguments, **options):
    """What a library writes."""
    file = io.StringIO()
    write(file, *arguments, **options)
    return file.getvalue()


def numbers_of(path, layout=RECOGNISED):
    """Columns that are used, their numbers, and what is said of the table."""
    with tables.opened(str(path), layout) as table:
        columns = numbers.numeric_columns(table)
        values = np.concatenate([part for _, part in numbers.arrays(table, columns)])
        return columns, values, " ".join(table.told())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


FRAME = pd.DataFrame(X, columns=["a", "b"])
TOLD = {
    "plain": ("x.csv", FRAME.to_csv(index=False), ""),
    "savetxt": ("x.txt", saved(np.savetxt, X), "Read as blank-separated, without header."),
    "savetxt with header": (
        "x.dat",
        saved(np.savetxt, X, header="a b"),
        "Read as blank-separated, with names from the comment above the rows.",
    ),
    "savetxt with remarks": (
        "x.txt",
        saved(np.savetxt, X, header="by a lab, in two lines\nof more words"),
        "Read as blank-separated, without header. 2 lines that begin with # are comments.",
    ),
    "savetxt with commas": ("x.csv", saved(np.savetxt, X, delimiter=","), "Read as comma-separated, without header."),
    "empty lines": (
        "x.csv",
        "\n" + FRAME.to_csv(index=False, sep=" ").replace("\n", "\n\n   \n"),
        "Read as blank-separated.",
    ),
    "aligned": ("x.csv", lines("   a      b", *(f"{a:9.3f} {b:12.3f}" for a, b in X)), "Read as blank-separated."),
    "European": (
        "x.csv",
        FRAME.to_csv(index=False, sep=";", decimal=","),
        "Read as semicolon-separated, with decimal commas.",
    ),
    "German": (
        "x.csv",
        lines("a;b", "1.234,5;-0,25", "0,5;1.000.000", "12;3,125", "-7,75;2.048"),
        "Read as semicolon-separated, with decimal commas, with points between thousands.",
    ),
    "French": (
        "x.csv",
        lines("a;b", "1 234,5;-0,25", "0,5;1\u202f000\u202f000", "12;3,125", "-7,75;2\u00a0048"),
        "Read as semicolon-separated, with decimal commas, with blanks between thousands.",
    ),
    "American": (
        "x.csv",
        lines("a,b", '"1,234.5",-0.25', '0.5,"1,000,000"', "12,3.125", '-7.75,"2,048"'),
        "Read as comma-separated, with commas between thousands.",
    ),
    "Excel": (
        "x.csv",
        "\ufeffsep=;\r\n" + FRAME.to_csv(index=False, sep=";", decimal=",", lineterminator="\r\n"),
        "Read as semicolon-separated, with decimal commas.",
    ),
    "pandas": ("x.csv", FRAME.to_csv(), "Column 'Unnamed: 0' is an index without a name and no data; it is not used."),
    "pandas without names": (
        "x.csv",
        pd.DataFrame(X).to_csv(),
        "Column 'Unnamed: 0' is an index without a name and no data; it is not used.",
    ),
    "R": (
        "x.txt",
        lines('"a" "b"', *(f'"{place + 1}" {a} {b}' for place, (a, b) in enumerate(X))),
        "Read as blank-separated. Column 'Unnamed: 0' is an index without a name and no data; it is not used.",
    ),
    "comments": (
        "x.csv",
        "# made by hand\n" + FRAME[:2].to_csv(index=False) + "# broken\n" + FRAME[2:].to_csv(index=False, header=False),
        "2 lines that begin with # are comments.",
    ),
    "bars": ("x.csv", FRAME.to_csv(index=False, sep="|"), "Read as bar-separated."),
    "tabs": ("x.csv", FRAME.to_csv(index=False, sep="\t"), "Read as tab-separated."),
    "tabs and blanks": (
        "x.csv",
        lines(*(f"on 31.01.2020\t{a}\t{b}" for a, b in X)),
        "Read as tab-separated, without header.",
    ),
    "text without header": (
        "x.data",
        FRAME.assign(c="a, b").to_csv(index=False, header=False),
        "Read as comma-separated, without header.",
    ),
    "dates": ("x.csv", FRAME.assign(c="2020-01-31 10:15:00").to_csv(index=False), ""),
    "German dates": (
        "x.csv",
        FRAME.assign(c="31.01.2020").to_csv(index=False, sep=";", decimal=","),
        "Read as semicolon-separated, with decimal commas.",
    ),
    "quotes": ("x.csv", FRAME.assign(c='two "lines",\nand a comma').to_csv(index=False), ""),
    "inches": ("x.csv", lines("a,b,c", *(f'{a},{b},3/4" pipe' for a, b in X)), ""),
    "an empty column": (
        "x.csv",
        lines("a,b,c,", *(f"{a},{b},," for a, b in X)),
        "Column 'c' has no entries; it is not used.",
    ),
    "shorter rows": ("x.csv", lines("a,b,c", *(f"{a},{b},red" for a, b in X[:3]), f"{X[3, 0]},{X[3, 1]}"), ""),
}


@pytest.mark.parametrize("case", TOLD)
def test_a_layout_is_recognised_and_said(folder, case):
    name, text, told = TOLD[case]
    Path(name).write_text(text, newline="", encoding="utf-8")
    columns, values, said = numbers_of(name)
    names = re.sub(r"\s*\d+ lines? that.*", "", told)
    expected = {"pandas without names": ["0", "1"], "tabs and blanks": ["c2", "c3"]}.get(
        case, ["c1", "c2"] if "without header" in names else ["a", "b"]
    )
    assert (columns, said) == (expected, told)
    np.testing.assert_array_equal(values, X)


def test_standard_input_is_recognised(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TOLD["German"][1].encode())))
    _, values, said = numbers_of("-")
    np.testing.assert_array_equal(values, X)
    assert "points between thousands" in said


def options(advice):
    """The layout that options on a command line are understood as."""
    fit = typer.main.get_command(commands.app).commands["fit"]
    given = fit.make_context("fit", ["data.csv", *shlex.split(advice)]).params
    names = ("format", "header", "separator", "decimal", "thousands", "na", "comment")
    return commands._layout(*(list(one) if isinstance(one := given[name], tuple) else one for name in names))


NAMES = {"ints": [[0, 1, 2], [3, 4, 5], [6, 7, 8]], "rows": [[3, 4, 5], [6, 7, 8]]}
REFUSED = {
    "three digits after a point": (
        lines("a;b", "1;1.234", "2;5.678"),
        "x.csv: '1.234' may be 1.234 or 1234; say ",
        {'--decimal "."': [[1, 1.234], [2, 5.678]], '--decimal "," --thousands "."': [[1, 1234], [2, 5678]]},
    ),
    "three digits after a comma": (
        lines("a;b", "1;1,234", "2;5,678"),
        "x.csv: '1,234' may be 1234 or 1.234; say ",
        {'--decimal "."': None, '--decimal "." --thousands ","': [[1, 1234], [2, 5678]]}
        | {'--decimal ","': [[1, 1.234], [2, 5.678]]},
    ),
    "commas that divide and are decimal": (
        lines("a,b", '1,"1,5"', '2,"2,25"'),
        "x.csv: entries such as '1,5': say ",
        {'--decimal ","': [[1, 1.5], [2, 2.25]], '--decimal "." --exclude b': None},
    ),
    "names that are numbers": (
        lines("0,1,2", "3,4,5", "6,7,8"),
        "x.csv: the first line is 0, 1, 2; say --header if these are names, --no-header if they are a row.",
        {"--header": NAMES["rows"], "--no-header": NAMES["ints"]},
    ),
    "a row that may be a comment": (
        lines("a,b,c", "0,1,2", "#3,4,5", "6,7,8"),
        "x.csv: a line begins with # and has as many entries as a row, '#3,4,5'; say ",
        {"--comment '#'": [[0, 1, 2], [6, 7, 8]], "--comment '' --na '#3'": [[0, 1, 2], [np.nan, 4, 5], [6, 7, 8]]},
    ),
    "one column of decimal commas": (
        lines("a", "1,5", "2,25"),
        "x.csv: row 1 has 2 entries; expected 1, as in the first line; if it is one number, say ",
        {"--separator ';' --decimal ','": [[1.5], [2.25]]},
    ),
    "lines that may be one number": (
        lines("1,234.5", *["-5,678.25"] * 9, "NA"),
        "x.csv: '1,234.5' may be one number or two; say ",
        {"--separator ';'": [[1234.5], *[[-5678.25]] * 9, [np.nan]]}
        | {"--separator ','": [[1, 234.5], *[[-5, 678.25]] * 9, [np.nan, np.nan]]},
    ),
    "two separators": (
        lines("31.01.2020;0,5", "28.02.2020;1,25"),
        "x.csv: entries may be divided in several ways; say ",
        {'--separator ";"': [[0.5], [1.25]]},
    ),
    "words": (
        lines("a,b", "1,2", "-,3", "4,unknown", "<0.1,5", "-,6", "7,8"),
        "x.csv: 3 of 6 entries of column 'a' are no numbers ('-' 2 times, '<0.1'); 1 of 6 entries of column 'b' is no "
        "number ('unknown'): say --na - --na '<0.1' --na unknown if they stand for missing entries, or leave the ",
        {"--na - --na '<0.1' --na unknown": [[1, 2], [np.nan, 3], [4, np.nan], [np.nan, 5], [np.nan, 6], [7, 8]]},
    ),
    "thousands far below": (
        lines("a,b", *(f"{place},{place}.5" for place in range(2000)), '1,"2,000.5"'),
        "x.csv: 1 of 2,001 entries of column 'b' is no number ('2,000.5'): if they are numbers, say ",
        {'--decimal "." --thousands ","': [*([place, place + 0.5] for place in range(2000)), [1, 2000.5]]},
    ),
    "decimal commas far below": (
        lines("a;b", *(f"{place};{place}" for place in range(2000)), "1;2,5"),
        "x.csv: 1 of 2,001 entries of column 'b' is no number ('2,5'): if they are numbers, say ",
        {'--decimal ","': [*([place, place] for place in range(2000)), [1, 2.5]]},
    ),
    "another decimal point far below": (
        lines("a;b", *(f"{place};{place}.5" for place in range(2000)), "2,5;1"),
        "x.csv: 1 of 2,001 entries of column 'a' is no number ('2,5'): if it is one, write it as the others are; else "
        "say --na 2,5 if it stands for a missing entry, or leave the column out.",
        {"--na 2,5": [*([place, place + 0.5] for place in range(2000)), [np.nan, 1]]},
    ),
    "a word like an option": (
        lines("a,b", "1,2", "--,3", "4,5"),
        "x.csv: 1 of 3 entries of column 'a' is no number ('--'): say --na -- if it stands for a missing entry, or ",
        {"--na --": [[1, 2], [np.nan, 3], [4, 5]]},
    ),
    "decimal points and commas": (
        lines("a;b", "0,5;0.5", "1,5;1.5"),
        "x.csv: 2 of 2 entries of column 'a' are no numbers ('0,5', '1,5'): their decimal point is not that of "
        "other columns; write it so, or leave such columns out.",
        {},
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_may_be_read_in_two_ways_says_what_to_add(folder, case):
    """Every advice of a refusal is tried."""
    text, message, advice = REFUSED[case]
    Path("x.csv").write_text(text)
    with pytest.raises(Problem) as refused:
        numbers_of("x.csv")
    assert str(refused.value).startswith(message)
    for added, expected in advice.items():
        if expected is None:
            continue
        assert shlex.split(added)[0] in str(refused.value)
        np.testing.assert_array_equal(numbers_of("x.csv", options(added))[1], expected)


def test_what_is_said_wins(folder):
    Path("x.csv").write_text(lines("a;b", "1,5;2", "2,5;3"))
    assert numbers_of("x.csv")[1].tolist() == [[1.5, 2], [2.5, 3]]
    assert numbers_of("x.csv", options("--separator ';' --decimal ,"))[2] == ""
    with pytest.raises(Problem, match="row 1 has 2 entries; expected 1"):
        numbers_of("x.csv", options("--separator ,"))
    with pytest.raises(Problem, match="2 of 2 entries of column 'a' are no numbers"):
        numbers_of("x.csv", options("--decimal ."))
    with pytest.raises(
        Problem, match=r"1 of 3 entries of column 'c1' is no number .'a'.; 1 of 3 entries of column 'c2'"
    ):
        numbers_of("x.csv", options("--no-header --decimal ,"))
    Path("y.csv").write_text(lines("1.5,2", "2.5,3"))
    columns, values, told = numbers_of("y.csv", options("--header"))
    assert (columns, values.tolist(), told) == (["1.5", "2"], [[2.5, 3]], "")
    with pytest.raises(Problem, match="expected one character"):
        numbers_of("x.csv", options("--separator ::"))


def test_sentinels_are_missing(folder):
    Path("x.csv").write_text(lines("a,b", "1,-999", "2,-999.0", "3,4"))
    np.testing.assert_array_equal(numbers_of("x.csv", options("--na -999"))[1], [[1, np.nan], [2, np.nan], [3, 4]])
    FRAME.to_parquet("x.parquet")
    with pytest.raises(Problem, match=r"--na is for text; x.parquet is parquet"):
        numbers_of("x.parquet", options("--na -999"))


def test_an_index_that_pandas_keeps_in_parquet_is_a_column(folder):
    FRAME.set_axis(pd.Index([2.5, 0.5, 1.5, 4.5], name="at")).to_parquet("x.parquet")
    columns, values, _ = numbers_of("x.parquet")
    assert sorted(columns) == ["a", "at", "b"]
    assert values[:, columns.index("at")].tolist() == [2.5, 0.5, 1.5, 4.5]
    FRAME.set_axis(list("wxyz")).to_parquet("x.parquet")
    assert numbers_of("x.parquet")[0] == ["a", "b"]


def test_a_table_may_be_very_wide(folder):
    wide = pd.DataFrame(np.arange(6000.0).reshape(3, 2000) + 0.5).add_prefix("a column with a name " * 4)
    wide.to_csv("x.csv", index=False)
    columns, values, told = numbers_of("x.csv")
    assert (columns, told) == (wide.columns.tolist(), "")
    np.testing.assert_array_equal(values, wide)


def test_text_stays_unused(folder):
    Path("x.csv").write_text(lines("a,b,c,d,e", "1,red,$1,x,True", "2,3,4,NA,False", "3,blue,5%,y,True"))
    assert numbers_of("x.csv")[0] == ["a"]


def test_what_is_no_text(folder):
    Path("x.csv").write_bytes("Größe;b\n1;2\n".encode("latin-1"))
    with pytest.raises(Problem, match=r"x.csv: is no text in UTF-8; save it as UTF-8, or convert it with iconv"):
        numbers_of("x.csv")
    if shutil.which("iconv"):
        Path("z.csv").write_bytes(subprocess.check_output(["iconv", "-f", "WINDOWS-1252", "-t", "UTF-8", "x.csv"]))
        assert numbers_of("z.csv")[0] == ["Größe", "b"]
    Path("y.csv").write_text(lines("a,b", '1,"2', *["3,4"] * 100_000))
    with pytest.raises(Problem, match=r"y.csv: an entry of row 1 begins with a quote that does not end"):
        numbers_of("y.csv")


@pytest.fixture(scope="module")
def model():
    mixture = jaxgmm.from_parameters([0.5, 0.5], [[0.0, 50.0], [9.0, 50.0]], [4.0, 4.0], "spherical")
    return applying.Loaded("two.npz", mixture, {}, jaxgmm.Schema(["width", "height"]))


VERBATIM = {
    "x.csv": lines(
        "name,width,height,when,n",
        "plain,4.9690584e+08,1.50,2020-01-31,007",
        '"two\nlines, a ""quote""",  .5,50,"31 Jan",1',
        'needlessly,"9.0","50",,-0',
        "missing,NA,50,,",
        "short,9.00,51",
    ),
    "crlf.csv": "width,height\r\n1.0,2.00\r\n9,50.\r\n",
    "x.csv.gz": "width,height\n1.0,2.00\n9,50.\n",
    "semicolons.csv": "width;height;note\n1,50;1.234,5;a,b\n9,0;50,0;c\n",
    "x.tsv": "width\theight\n1.0\t2.00\n9\t50.\n",
    "blanks.txt": "#  width   height\n  1.000   2.00e+00\n nan      50\n",
    "bare.txt": "1.000e+00 2.00e+00\n9 50.0\n",
}


@pytest.mark.parametrize("name", VERBATIM)
@pytest.mark.parametrize("to", ["file", "-"])
def test_lines_come_back_as_they_were(folder, model, capsys, monkeypatch, name, to):
    """Whatever is in them; what is added is divided from them, and written, as they are."""
    text = VERBATIM[name]
    Path(name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    out = f"out-{name}" if to == "file" else "-"
    monkeypatch.setattr(tables, "_size", lambda n_columns: 2)
    applying.predict(model, name, out, Layout(), None, "", applying.Known(), probabilities=False)
    written = capsys.readouterr().out if out == "-" else Path(out).read_bytes()
    if out != "-":
        written = (gzip.decompress(written) if name.endswith("gz") else written).decode()
    newline = "\r\n" if "\r\n" in text else "\n"
    left = written
    for line in text.removesuffix(newline).split(newline):
        assert left.startswith(line)
        left = left.removeprefix(line)
        end, _, left = left.partition(newline)
        if not line.startswith('"two'):
            assert re.fullmatch(r"(,,)?([,;\t ](component|probability|nan|\d([.,]\d+(e-\d+)?)?)?){2}", end), end
    assert left == ""
    with tables.opened(name, Layout()) as before:
        columns = before.columns
        x = np.concatenate([values for _, values in numbers.arrays(before, model.columns_of(before, None))])
    if out == "-":
        return
    with tables.opened(out, Layout()) as after:
        assert after.columns == [*columns, *(["component", "probability"] if "bare" not in name else ["c3", "c4"])]
        again = np.concatenate([values for _, values in numbers.arrays(after, after.columns[-2:])])
    expected = np.argmax(applying.densities(model.mixture, x)[1], axis=1)
    np.testing.assert_array_equal(again[:, 0], np.where(np.isnan(x).any(axis=1), np.nan, expected))


def test_entries_come_back_as_they_were_in_another_layout(folder, model):
    Path("x.csv").write_text(VERBATIM["x.csv"])
    applying.predict(model, "x.csv", "y.tsv", Layout(), None, "", applying.Known(), probabilities=False)
    before, after = (
        pd.read_csv(name, sep=mark, dtype=str, keep_default_na=False, skipinitialspace=True)
        for name, mark in (("x.csv", ","), ("y.tsv", "\t"))
    )
    pd.testing.assert_frame_equal(after[before.columns], before)
    applying.predict(model, "x.csv", "y.parquet", Layout(), None, "", applying.Known(), probabilities=False)
    typed = pd.read_parquet("y.parquet")
    assert typed["width"].tolist()[:3] == [4.9690584e08, 0.5, 9.0]


def test_missing_entries_are_counted_by_column(folder, capsys):
    Path("x.csv").write_text(lines("a,b,c", "1,2,x", "1,2,y", "1,2,z", "NA,,w", "3,,v", "4,5,u"))
    fit = typer.main.get_command(commands.app).commands["fit"]
    with pytest.raises(Problem, match=r"4 rows; expected at least as many as components, 10"):
        fit.main(["x.csv"], standalone_mode=False, obj=lambda: None)
    with pytest.raises(Problem, match=r"2 rows have missing entries \(b 2, a 1\)"):
        fit.main(["x.csv", "--missing", "fail"], standalone_mode=False, obj=lambda: None)


def many(d, k=3):
    mixture = jaxgmm.from_parameters(
        np.full(k, 1 / k), np.arange(k * d).reshape(k, d) * 1000.0, np.ones(k), "spherical"
    )
    names = [f"a rather long name {place}" for place in range(d)]
    return applying.Loaded("model.npz", mixture, {}, jaxgmm.Schema(names))


def test_piped_tables_are_whole(capsys):
    report.shown(many(40, 12), json=False)
    out = capsys.readouterr().out
    assert "…" not in out
    assert "more" not in out
    assert len(out.splitlines()) == 1 + 1 + 12
    assert all(f"a rather long name {place}" in out for place in range(40))


@pytest.mark.parametrize("terminal", [False, True])
def test_all_candidates_go_into_a_pipe(monkeypatch, terminal):
    mixture = many(12).mixture
    end = jaxgmm.Status.CONVERGED.value
    result = jaxgmm.FitResult(mixture, -1e6, -1e6, 3, np.int32(end), np.zeros(3), np.zeros(3, bool), 0.0)
    candidates = [jaxgmm.Candidate("full", k, result=result, regular=True, bic=float(k)) for k in range(1, 41)]
    rows = fitting.Selected(
        x=np.zeros((5, 12)),
        weights=np.ones(5),
        places=np.arange(5),
        columns=many(12).columns,
        unused=[],
        dropped=3,
        missing={"a": 1, "b": 2},
        duplicates=2,
        notes=["A note."],
    )
    file = io.StringIO()
    console = report.Console(file=file, force_terminal=terminal, highlight=False, width=80 if terminal else 10**6)
    monkeypatch.setattr(report, "_console", lambda **where: console)
    selection = jaxgmm.Selection(tuple(candidates), "bic")
    report.fitted(selection, many(12), rows, None, json=False, to_stderr=False, unsaved=True, saved=False)
    out = file.getvalue()
    assert out.count("full") == (10 if terminal else 40)
    assert ("... and 30 more; --json, or a pipe, has all." in out) == terminal
    for line in ("A note.", "3 rows with missing entries are left out; 5 remain (b 2, a 1).", "2 rows are like others"):
        assert line in out


@pytest.mark.parametrize("width", [60, 80, 200])
def test_tables_fit_a_terminal(monkeypatch, width):
    file = io.StringIO()
    console = report.Console(file=file, force_terminal=True, no_color=True, width=width, highlight=False)
    monkeypatch.setattr(report, "_console", lambda **where: console)
    report.shown(many(40, 12), json=False)
    out = re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())
    assert "…" not in out
    assert "... and 16 more columns" in out
    assert max(map(len, out.splitlines())) <= width
    assert all(f"a rather long name {place}" in out for place in range(24))
    assert out.count("component ") == -(-24 // ((width - 17) // 24))
