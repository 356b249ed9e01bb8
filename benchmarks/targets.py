"""What was to be reached, what was, and whether that is met, from the rows of the results."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

Row = dict[str, Any]
# Data sets whose optima nobody has listed.
OTHERS = ("digits", "cancer")
POINT = ("work", "structure", "fits", "n", "d", "k", "largest", "restarts")


def targets(rows: list[Row]) -> list[Row]:
    """One row per target whose case was measured."""
    return [row for check in CHECKS for row in check(rows)]


def grouped(rows: Iterable[Row], case: str, *, by: tuple[str, ...] = ("dtype", *POINT)) -> dict[tuple, list[Row]]:
    """The rows of a case by point."""
    found: dict[tuple, list[Row]] = {}
    for row in rows:
        if row["case"] == case:
            found.setdefault(tuple((name, row[name]) for name in by if name in row), []).append(row)
    return found


def fastest(rows: Iterable[Row], name: str, field: str = "median") -> float:
    """The least time of contenders of that name that reached the common likelihood; NaN if there is none."""
    mine = [row for row in rows if row["contender"].split(",")[0] == name and row.get(field) is not None]
    return min((row[field] for row in mine if row.get("equal") is not False), default=np.nan)


def ratio(rows: list[Row], peer: str, field: str = "median") -> float:
    """How many times longer a peer takes than the fastest of ours that is no less likely.

    Of a peer's ways those count that reach the best likelihood, or all where none does; the fastest decides. NaN if
    there are none, or none of ours is as likely.
    """
    theirs = [row for row in rows if row["contender"].split(",")[0] == peer and row.get("median") is not None]
    theirs = [row for row in theirs if row.get("equal") is not False] or theirs
    # Inside `fit` only the steps are counted, not the call.
    ours = [row for row in rows if row["contender"].split(", ")[-1] != "inside fit" and row.get(field) is not None]
    ours = [row for row in ours if row["contender"].split(",")[0] == "jaxgmm"]
    found = []
    for row in theirs:
        least = row.get("log_likelihood", -np.inf) - row.get("within", 0)
        as_likely = [mine[field] for mine in ours if mine.get("log_likelihood", np.inf) >= least]
        found.append(row["median"] / min(as_likely, default=np.nan))
    return float(np.min(found)) if found else np.nan


def target(case: str, claim: str, reached: float, met: bool | None, unit: str = "x") -> Row:
    """A row of the table."""
    unknown = reached is None or np.isnan(reached)
    figure = "no such pair" if unknown else f"{reached:.3g}{unit}"
    return {"case": case, "target": claim, "reached": figure, "met": "-" if unknown or met is None else bool(met)}


def geometric(values: Iterable[float]) -> float:
    """Geometric mean of those that were measured."""
    values = [value for value in values if not np.isnan(value)]
    return float(np.exp(np.mean(np.log(values)))) if values else np.nan


def grid(rows: list[Row]) -> Iterator[Row]:
    """Against sklearn, gmmx and bare matrix products."""
    for dtype, least in (("float32", 30), ("float64", 15)):
        points = [g for key, g in grouped(rows, "grid").items() if ("dtype", dtype) in key]
        if not points:
            continue
        value = geometric(ratio(g, "sklearn") for g in points)
        yield target("grid", f"sklearn, {dtype}, geometric mean: at least {least}x", value, value >= least)
        value = geometric(ratio(g, "gmmx") for g in points)
        yield target("grid", f"gmmx, {dtype}, geometric mean: at least 10x", value, value >= 10)
        large = [g for g in points if g[0].get("P", 0) * g[0]["k"] >= 2000]
        value = max((1 / ratio(g, "two GEMMs") for g in large), default=np.nan)
        yield target("grid", f"two bare GEMMs, {dtype}, worst with k·P >= 2000: at most 2x", value, value <= 2)


def structures(rows: list[Row]) -> Iterator[Row]:
    """Against sklearn, by structure."""
    points = grouped(rows, "structures")
    for structure in ("tied", "diag", "spherical"):
        for dtype in ("float32", "float64"):
            mine = [g for key, g in points.items() if {("dtype", dtype), ("structure", structure)} <= set(key)]
            if mine:
                value = geometric(ratio(g, "sklearn") for g in mine)
                claim = f"sklearn, {structure}, {dtype}, geometric mean: at least 8x"
                yield target("structures", claim, value, value >= 8)


def whole_fit(rows: list[Row]) -> Iterator[Row]:
    """Against sklearn, and from where on compiling pays."""
    for dtype in ("float32", "float64"):
        points = {g[0]["n"]: g for key, g in grouped(rows, "whole_fit").items() if ("dtype", dtype) in key}
        if not points:
            continue
        value = min((ratio(g, "sklearn") for n, g in points.items() if n >= 10_000), default=np.nan)
        yield target("whole_fit", f"sklearn, {dtype}, least from n = 1e4 up: at least 10x", value, value >= 10)
        even = min((n for n, g in points.items() if ratio(g, "sklearn", "first") >= 1), default=np.nan)
        claim = f"{dtype}, first n where compiling and fitting beats sklearn: at most 1e5"
        yield target("whole_fit", claim, even, even <= 1e5, " rows")


def many_fits(rows: list[Row]) -> Iterator[Row]:
    """Against loops."""
    yield from _least(rows, "many_fits", "sklearn", 50)
    yield from _least(rows, "many_fits", "tgmm", 10)


def restarts(rows: list[Row]) -> Iterator[Row]:
    """Against n_init, without and with compile time."""
    yield from _least(rows, "restarts", "sklearn", 15)
    yield from _least(rows, "restarts", "sklearn", 3, "first", ", with compile time")


def _least(rows: list[Row], case: str, peer: str, least: float, field: str = "median", more: str = "") -> Iterator[Row]:
    for dtype in ("float32", "float64"):
        points = [g for key, g in grouped(rows, case).items() if ("dtype", dtype) in key]
        if points:
            value = float(np.min([ratio(g, peer, field) for g in points]))
            yield target(case, f"{peer}, {dtype}{more}: at least {least}x", value, value >= least)


def photometry(rows: list[Row]) -> Iterator[Row]:
    """Time of the whole fit."""
    for key, g in grouped(rows, "photometry").items():
        value = 1e3 * fastest(g, "jaxgmm")
        claim = f"{dict(key)['dtype']}, at the likelihood sklearn reaches: at most 100 ms"
        yield target("photometry", claim, value, value <= 100, " ms")


def memory(rows: list[Row]) -> Iterator[Row]:
    """Peak over the data, of the largest data."""
    ours = [row for row in rows if row["case"] == "memory" and row["contender"] == "jaxgmm" and "over_data_mib" in row]
    if ours:
        row = max(ours, key=lambda row: row["n"])
        claim = f"n = {row['n']:.0e}, peak over data and imported process: less than 300 MiB"
        yield target("memory", claim, row["over_data_mib"], row["over_data_mib"] < 300, " MiB")


def large(rows: list[Row]) -> Iterator[Row]:
    """A pass over a file beside one in memory, peak memory, and what a single pass reaches."""
    mine = [row for row in rows if row["case"] == "large" and "peak_mib" in row]
    for n in sorted({row["n"] for row in mine}):
        of = {row["contender"].split(", ")[1]: row for row in mine if row["n"] == n and "jaxgmm" in row["contender"]}
        size = f"n = {n:.0e}"
        if {"from a file", "in memory"} <= of.keys():
            value = of["in memory"]["seconds"] / of["from a file"]["seconds"]
            yield target("large", f"{size}, speed of a pass over a file: at least 0.8 of memory", value, value >= 0.8)
        if "from a file" in of:
            value = of["from a file"]["peak_mib"]
            yield target(
                "large", f"{size}, peak of a pass over a file: less than 1000 MiB", value, value < 1000, " MiB"
            )
        if {"seen once", "to the end"} <= of.keys():
            value = 1e3 * (of["to the end"]["log_likelihood"] - of["seen once"]["log_likelihood"])
            claim = f"{size}, seen once, thousandths of log-likelihood per row below the optimum: at most 1"
            yield target("large", claim, value, value <= 1)


def acceleration(rows: list[Row]) -> Iterator[Row]:
    """Passes saved, and how often another optimum is reached."""
    for group in ("overlapping", "separated"):
        here = [row for row in rows if row["case"] == "acceleration" and row.get("group") == group]
        if not here:
            continue
        value = geometric(row["ratio"] for row in here if not row["worse"])
        needed = ": at least 2.5x" if group == "overlapping" else ""
        claim = f"passes saved where components are {group}, geometric mean{needed}"
        yield target("acceleration", claim, value, value >= 2.5 if needed else None)
        worse, better = (100 * sum(row[name] for row in here) / len(here) for name in ("worse", "better"))
        claim = f"{group}: a worse optimum in at most 2 % of cases (a better one in {better:.3g} %)"
        yield target("acceleration", claim, worse, worse <= 2, " %")


def likelihood(rows: list[Row]) -> Iterator[Row]:
    """Gradient against forward, and both against the peers."""
    for key, g in grouped(rows, "likelihood").items():
        dtype = dict(key)["dtype"]
        time = {row["contender"]: row.get("median", np.nan) for row in g}
        value = time.get("jaxgmm, gradient", np.nan) / time.get("jaxgmm, forward", np.nan)
        yield target("likelihood", f"{dtype}, gradient over forward: at most 3x", value, value <= 3)
        for peer in ("numpyro", "distrax"):
            for what in ("forward", "gradient"):
                value = time.get(f"{peer}, {what}", np.nan) / time.get(f"jaxgmm, {what}", np.nan)
                yield target("likelihood", f"{peer}, {dtype}, {what}: at least 3x", value, value >= 3)


def cold_start(rows: list[Row]) -> Iterator[Row]:
    """CPU-seconds of whole processes, against sklearn's or a number of them."""
    most = {"fit": 1.0, "select": 1 / 3, "grid search": 1.5}
    seconds = {"fit_restarts": {"jaxgmm": 2.5}, "command": {"jaxgmm": 10.0, "jaxgmm, again": 3.0}}
    for key, g in grouped(rows, "cold_start").items():
        work = dict(key)["work"]
        if work in most:
            value = 1 / ratio([row for row in g if row["contender"] in ("jaxgmm", "sklearn")], "sklearn")
            yield target("cold_start", f"{work}, over sklearn's: at most {most[work]:.2g}x", value, value <= most[work])
        for row in g:
            limit = seconds.get(work, {}).get(row["contender"])
            if limit is not None and row.get("median") is not None:
                value = row["median"]
                name = f"{work}, {row['contender']}: at most {limit:g} CPU-seconds"
                yield target("cold_start", name, value, value <= limit, " s")


def optimum(rows: list[Row]) -> Iterator[Row]:
    """How often the best known likelihood is reached, and at what cost."""
    for key, g in grouped(rows, "optimum", by=("dtype",)).items():
        dtype = dict(key)["dtype"]
        ours = [row for row in g if row["contender"] == "jaxgmm"]
        known, others = ([row for row in ours if (row["data"] in OTHERS) == other] for other in (False, True))
        parts = (
            ("best known, k <= 4: at least 95 %", [row for row in known if row["k"] <= 4], 95),
            ("best known, all k: at least 90 %", known, 90),
            ("other data, the best of 60 other starts and sklearn's 50, all k: at least 90 %", others, 90),
        )
        for claim, rows_of, least in parts:
            if rows_of:
                value = 100 * float(np.mean([row["reached"] for row in rows_of]))
                yield target("optimum", f"{dtype}, {claim}", value, value >= least, " %")
        if others:
            value = 100 * float(np.mean([row["reached_beyond"] for row in others]))
            yield target("optimum", f"{dtype}, other data, the best of 4,000 starts, all k", value, None, " %")
        theirs = sum(row["median"] for row in g if row["contender"] == "sklearn")
        value = theirs / sum(row["median"] for row in ours)
        yield target(
            "optimum", f"{dtype}, sklearn's best of 50 starts takes longer, all rows together", value, value > 1
        )


def choice(rows: list[Row]) -> Iterator[Row]:
    """Whether keys agree, and the time of a sweep."""
    mine = [row for row in rows if row["case"] == "choice"]
    agreement = [row["agreement"] for row in mine if "agreement" in row]
    if agreement:
        value = 100 * float(np.mean(agreement))
        yield target("choice", "keys that choose the same model: at least 95 %", value, value >= 95, " %")
    sweep = {row["contender"]: row for row in mine if "first" in row}
    if sweep:
        for field, text in (("first", "with compile time"), ("median", "without")):
            value = sweep["sklearn"]["median"] / sweep["jaxgmm"][field]
            yield target("choice", f"K = 1 … 10, 4 structures, 20 restarts, {text}, against sklearn", value, None)


def growth(rows: list[Row]) -> Iterator[Row]:
    """The slope in n."""
    for (dtype, axis, contender), value in slopes(rows).items():
        if axis == "n":
            yield target(
                "growth", f"{contender}, {dtype}, slope in n from 1e4 up: at most 1.05", value, value <= 1.05, ""
            )


def slopes(rows: list[Row]) -> dict[tuple[str, str, str], float]:
    """Slope of log time against log size, over the sizes where what a call costs anyway no longer shows."""
    found = {}
    for key, g in grouped(rows, "growth", by=("dtype", "axis", "contender")).items():
        timed = [row for row in g if row.get("median")]
        if not timed:
            continue
        sizes = np.array([row["size"] for row in timed], float)
        times = np.array([row["median"] for row in timed])
        upper = sizes >= (10_000 if timed[0]["axis"] == "n" else np.median(sizes))
        if np.count_nonzero(upper) >= 2:
            slope = float(np.polyfit(np.log(sizes[upper]), np.log(times[upper]), 1)[0])
            found[tuple(value for _, value in key)] = slope
    return found


CHECKS: tuple[Callable[[list[Row]], Iterator[Row]], ...] = (
    grid,
    structures,
    whole_fit,
    many_fits,
    restarts,
    photometry,
    memory,
    large,
    acceleration,
    likelihood,
    cold_start,
    growth,
    optimum,
    choice,
)
