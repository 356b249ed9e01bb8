"""Write the results into docs/benchmarks.md, between the marks that name their parts.

`python -m benchmarks.page`; `make bench` does it by itself.
"""

import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from benchmarks import plots, results
from benchmarks.targets import POINT, geometric, grouped, slopes, targets

Row = dict[str, Any]
ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
RESULTS = ROOT / "benchmarks" / "results"
PICTURES = "_static/benchmarks"


def write(path: Path = RESULTS / "cpu.json", quick: bool = False) -> None:
    """Replace every part of the page; a quick run writes a copy elsewhere instead."""
    page = Path(tempfile.gettempdir()) / "jaxgmm-quick" / "benchmarks.md" if quick else PAGE
    (page.parent / PICTURES).mkdir(parents=True, exist_ok=True)
    content, card = results.load(path), results.load(RESULTS / "gpu.json")
    drawn = plots.draw(content["rows"], page.parent / PICTURES)
    text = PAGE.read_text()
    for name in re.findall(r"<!-- begin (\w+) -->", text):
        part = gpu(card) if name == "gpu" else part_of(name, content)
        if name in drawn:
            part += f"\n\n![{name.replace('_', ' ')}]({PICTURES}/{drawn[name]})"
        pattern = rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)"
        text = re.sub(pattern, lambda found, part=part: f"{found[1]}\n{part}\n\n{found[2]}", text, flags=re.S)
    page.write_text(text)
    print(f"wrote {page}")


def part_of(name: str, content: Row) -> str:
    """The text of one part."""
    rows = content["rows"]
    if name == "machine":
        return machine(content)
    if name == "targets":
        return table(targets(rows))
    if name == "summary":
        return summary(rows)
    mine = [row for row in rows if row["case"] == name]
    if not mine:
        return "Not measured yet."
    special = {
        "memory": memory,
        "large": large,
        "acceleration": acceleration,
        "growth": growth,
        "optimum": optimum,
        "choice": choice,
        "panel": panel,
        "recovery": recovery,
        "gradient": gradient,
        "derivative": derivative,
    }
    return "\n\n".join(filter(None, (special.get(name, timings)(mine), remarks(mine))))


def machine(content: Row) -> str:
    """What everything ran on, when."""
    if "machine" not in content:
        return "Not measured yet."
    has = content["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    dates = sorted({ran["date"] for ran in content["ran"].values()})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return f"{has['cpu']}, {has['cores']} cores, {has['memory_gib']:g} GiB, {has['system']}; {versions}; {when}."


def summary(rows: list[Row]) -> str:
    """How many times ours each peer takes, by what is done."""
    compared = plots.comparisons(rows)
    return table([{"what": text} | {peer: times(value) for peer, value in r.items()} for text, r in compared.items()])


def timings(rows: list[Row]) -> str:
    """One line per point, one column per contender: median, and how many times ours with quartiles."""
    lines = []
    names = list(dict.fromkeys(row["contender"] for row in rows))
    for key, group in grouped(rows, rows[0]["case"]).items():
        line: Row = dict(key)
        if any("P" in row for row in group):
            line["k·P"] = line["k"] * next(row["P"] for row in group if "P" in row)
        found = {row["contender"]: row for row in group}
        line |= {name: cell(found.get(name)) for name in names if name != "all that is missing"}
        compiled = [row["compile"] for row in group if row["contender"].startswith("jaxgmm") and row.get("compile")]
        line["compile"] = duration(min(compiled)) if compiled else ""
        lines.append(line)
    return table(lines)


def cell(row: Row | None) -> str:
    """A median, the ratio to ours, and a mark if the likelihood is another one."""
    if row is None or row.get("median") is None:
        return "-"
    text = duration(row["median"])
    if row.get("ratio") is not None and row["ratio"] != 1:
        text += f" ({times(row['ratio'])}x, {times(row['ratio_q1'])} to {times(row['ratio_q3'])})"
    return text + (" ≠" if row.get("equal") is False else "")


def times(ratio: float) -> str:
    """Two digits, never as a power of ten."""
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}"


def duration(seconds: float) -> str:
    """In the unit that suits it."""
    unit, factor = next(((u, f) for u, f in (("s", 1), ("ms", 1e3)) if seconds * f >= 1), ("µs", 1e6))
    return f"{seconds * factor:.3g} {unit}" if seconds * factor < 999.5 else f"{seconds * factor:.0f} {unit}"


def remarks(rows: list[Row]) -> str:
    """Who could not run, and who ended at another likelihood."""
    lines: dict[str, list[str]] = {}
    for row in rows:
        where = ", ".join(str(row[name]) for name in ("dtype", *POINT) if name in row)
        if row.get("reason"):
            reason = row["reason"].replace("`", "")
            lines.setdefault(f"- {row['contender']} could not run: `{reason}`", []).append(where)
        elif row.get("equal") is False:
            lines.setdefault(f"- ≠ {row['contender']}: {row['gap']:.2g} off", []).append(where)
    return "\n".join(f"{line} ({'; '.join(where)})" for line, where in lines.items())


def memory(rows: list[Row]) -> str:
    """MiB by contender."""
    names = {"over_data_mib": "peak over both", "peak_mib": "peak", "baseline_mib": "imported", "data_mib": "data"}
    return table(
        [
            {name: row[name] for name in ("n", "d", "k", "contender", "steps")}
            | {f"{name}, MiB": f"{row[field]:.0f}" for field, name in names.items()}
            for row in rows
            if "peak_mib" in row
        ]
    )


def large(rows: list[Row]) -> str:
    """Speed, memory and likelihood by contender."""
    best = {
        row["n"]: max(other["log_likelihood"] for other in rows if other.get("n") == row["n"])
        for row in rows
        if "peak_mib" in row
    }
    return table(
        [
            {name: row[name] for name in ("n", "d", "k", "contender", "passes")}
            | {
                "seconds a pass": f"{row['seconds']:.3g}",
                "CPU-seconds a pass": f"{row['cpu_seconds']:.3g}",
                "rows a second": f"{row['rows_per_second']:.2g}",
                "peak, MiB": f"{row['peak_mib']:.0f}",
                "data, MiB": f"{row['data_mib']:.0f}",
                "log-likelihood lower by": f"{best[row['n']] - row['log_likelihood']:.1e}",
            }
            for row in rows
        ]
    )


def acceleration(rows: list[Row]) -> str:
    """Geometric mean of the saving by group and structure."""
    groups = grouped([row for row in rows if "ratio" in row], "acceleration", by=("group", "structure"))
    return table(
        [
            dict(key)
            | {
                "cases": len(g),
                "passes saved, times": f"{geometric(row['ratio'] for row in g):.2f}",
                "least": f"{min(row['ratio'] for row in g):.2f}",
                "ended worse": sum(row["worse"] for row in g),
                "ended better": sum(row.get("better", False) for row in g),
            }
            for key, g in groups.items()
        ]
    )


def optimum(rows: list[Row]) -> str:
    """How often the best known is reached, by data and structure, and what is above it."""
    lines, above = [], []
    for key, group in grouped(rows, "optimum", by=("data", "structure")).items():
        ours, theirs = ([row for row in group if row["contender"] == name] for name in ("jaxgmm", "sklearn"))
        seconds = [sum(row["median"] for row in mine) for mine in (ours, theirs)]
        lines.append(
            dict(key)
            | {
                "k": f"{min(row['k'] for row in ours)} to {max(row['k'] for row in ours)}",
                "reached": share(row["reached"] for row in ours),
                "of k <= 4": share(row["reached"] for row in ours if row["k"] <= 4),
                "sklearn reached": share(row["reached"] for row in theirs),
                "time, all k": duration(seconds[0]),
                "sklearn": f"{duration(seconds[1])} ({times(seconds[1] / seconds[0])}x)",
            }
        )
        above += [
            dict(key)
            | {"k": row["k"], "above the best known": f"{row['highest'] - row['best_known']:.2f}"}
            | {
                "least relative variance": f"{row['flattest']:.1e}",
                "rows there": f"{row['rows_there']:.0f}",
            }
            for row in ours
            if row["highest"] > row["best_known"] + 0.1
        ]
    return f"{table(lines)}\n\nAbove the best known:\n\n{table(above)}"


def share(values: Iterable[float]) -> str:
    """Their mean in percent."""
    return f"{100 * np.mean(list(values)):.0f} %"


def choice(rows: list[Row]) -> str:
    """What is chosen, by whom, and the time of a sweep."""
    lines = []
    for row in rows:
        line = {"data": row["data"], "contender": row["contender"], "chosen": row["chosen"]}
        line["keys that agree"] = share([row["agreement"]]) if "agreement" in row else ""
        line["others chose"] = row.get("others", "")
        line["with compile time"] = duration(row["first"]) if "first" in row else ""
        line["again"] = duration(row["median"]) if "median" in row else ""
        counted = [str(row[name]) for name in ("compilations", "compilations_again") if name in row]
        line["compilations"] = ", then ".join(counted)
        lines.append(line)
    return table(lines)


def panel(rows: list[Row]) -> str:
    """Seconds by the clock and of all cores, the first time and again, and how often the right number is chosen."""
    return table(
        [
            {
                "contender": row["contender"],
                "with compile time": duration(row["first"]),
                "CPU-seconds": f"{row['cpu_first']:.0f}",
                "again": duration(row["median"]),
                "CPU-seconds again": f"{row['cpu']:.0f}",
                "right number": share([row["right"]]),
                "log-likelihood lower by": f"{row['lower']:.1e}" if row["lower"] else "",
                "peak memory, MiB": f"{row['peak_mib']:.0f}" if "peak_mib" in row else "",
            }
            for row in rows
        ]
    )


def recovery(rows: list[Row]) -> str:
    """Shares by separation and rows, over all numbers of components and columns."""
    lines = []
    for key, group in grouped(rows, "recovery", by=("separation", "n")).items():
        line: Row = dict(key)
        for name in dict.fromkeys(row["contender"] for row in rows):
            mine = [row["found"] for row in group if row["contender"] == name]
            line[name] = share(mine) if mine else ""
        lines.append(line)
    return table(lines)


def gradient(rows: list[Row]) -> str:
    """Passes to the optimum over all data sets, then the large one."""
    small, large = ([row for row in rows if ("n" in row) is given] for given in (False, True))
    lines: list[Row] = []
    for name in dict.fromkeys(row["contender"] for row in small):
        mine = [row for row in small if row["contender"] == name]
        passes = np.array([row["passes"] for row in mine])
        lines.append(
            {
                "contender": name,
                "data sets": len(mine),
                "passes, geometric mean": f"{geometric(passes):.0f}",
                "least": int(passes.min()),
                "most": int(passes.max()),
                "optimum of the best": f"{sum(row['same'] for row in mine)} of {len(mine)}",
            }
        )
    more = [
        {
            "contender": row["contender"],
            "time": duration(row["median"]),
            "steps": row["steps"],
            "passes over the rows": f"{row['passes']:.2g}" if "passes" in row else "",
            "missing per row": f"{row['missing']:.1e}",
        }
        for row in large
    ]
    return f"{table(lines)}\n\nA million rows, 8 columns, 16 components:\n\n{table(more)}"


def derivative(rows: list[Row]) -> str:
    """Cost by size of the data."""
    return table(
        [
            {
                **{name: row[name] for name in ("dtype", "n", "d", "k")},
                "derivative": duration(row["median"]),
                "step of EM": duration(row["step"]),
                "products with the Jacobian": row["products"],
                "steps of EM for each": f"{row['steps_each']:.1f}",
            }
            for row in rows
        ]
    )


def growth(rows: list[Row]) -> str:
    """The fitted slopes."""
    return table(
        [
            {"dtype": dtype, "against": axis, "contender": contender, "slope": f"{slope:.2f}"}
            for (dtype, axis, contender), slope in slopes(rows).items()
        ]
    )


def gpu(content: Row) -> str:
    """What was measured on an accelerator."""
    if not content["rows"]:
        return "Not measured yet."
    has, lines = content["machine"], []
    for row in content["rows"]:
        names = ("case", "dtype", "structure", "fits", "restarts", "n", "d", "k", "contender")
        line: Row = {name: row.get(name, "") for name in names} | {"time": cell(row)}
        for name in ("GEMM", "bandwidth"):
            line[f"of its {name}"] = f"{100 * row[f'of_{name}']:.2g} %" if f"of_{name}" in row else ""
        line["scratch, MiB"] = f"{row['scratch_mib']:.0f}" if "scratch_mib" in row else ""
        line["variances apart"] = f"{row['apart']:.1e}" if row.get("apart") else ""
        lines.append(line | {"note": row.get("note", "")})
    used = [name for name in lines[0] if any(line[name] != "" for line in lines)]
    bounds = "; ".join(
        f"{dtype}, products {of['GEMM flop/s'] / 1e12:.0f} Tflop/s, one pass over an array "
        f"{of['bandwidth byte/s'] / 1e12:.1f} TB/s"
        for dtype, of in has.get("ceilings", {}).items()
    )
    return f"{machine(content)}\n\n{has.get('accelerator', 'unknown')}: {bounds}.\n\n" + table(
        [{name: line[name] for name in used} for line in lines]
    )


def table(rows: list[Row]) -> str:
    """In the form that the other pages have."""
    if not rows:
        return "Not measured yet."
    names = list(dict.fromkeys(name for row in rows for name in row))
    plain = [{name: shown(row.get(name, "")) for name in names} for row in rows]
    return tabulate(plain, headers="keys", tablefmt="github", disable_numparse=True)


def shown(value: object) -> object:
    """Flags as words, large counts in powers of ten."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "**no**"
    return f"{value:,}".replace(",", " ") if isinstance(value, int) else value


if __name__ == "__main__":
    write()
