"""The pictures of the page, small and from the results alone."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.targets import fastest, grouped, ratio

Row = dict[str, Any]
COLOURS = {"jaxgmm": "#0b6e4f", "sklearn": "#d1495b", "gmmx": "#3d6cb9", "tgmm": "#8c5e9e", "pomegranate": "#b58900"}
DTYPE = "float32"
# Told apart from white and from black alike.
GREY = "#7a7a7a"
MARKERS = {"sklearn": "o", "gmmx": "s", "tgmm": "^", "pomegranate": "D", "numpyro": "v", "distrax": "P"}
# What the summary shows: the case, what holds of the point, and what to call it.
SUMMARY = (
    ("grid", {"d": 2}, "one iteration of EM, 100,000 x 2, k = 5"),
    ("grid", {"d": 8}, "one iteration of EM, 100,000 x 8, k = 16"),
    ("grid", {"d": 64}, "one iteration of EM, 20,000 x 64, k = 16"),
    ("whole_fit", {"n": 10_000}, "seeding and EM, 10,000 x 4, k = 5"),
    ("whole_fit", {"n": 1_000_000}, "seeding and EM, 1,000,000 x 4, k = 5"),
    ("many_fits", {"n": 200}, "1,000 fits of 200 x 2, k = 3"),
    ("restarts", {}, "10 restarts for each k of 1 … 10, 10,000 x 4"),
    ("likelihood", {}, "log-likelihood and its gradient, 100,000 x 4, k = 8"),
    ("cold_start", {"work": "fit"}, "CPU time of a new process to its first fit, 500 x 2"),
)


def draw(rows: list[Row], folder: Path) -> dict[str, str]:
    """File names of the pictures that the rows allow, by case."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    # Text stays text and nothing depends on the day, so files are small and change only with their content.
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "jaxgmm", "font.size": 9, "axes.spines.top": False})
    plt.rcParams.update({"axes.spines.right": False, "figure.constrained_layout.use": True})
    drawn = {}
    for name, picture in {"grid": grid, "whole_fit": whole_fit, "growth": growth, "recovery": recovery}.items():
        mine = [row for row in rows if row["case"] == name and row["dtype"] == DTYPE]
        if mine:
            figure = picture(mine, plt)
            save(figure, folder / f"{name}.svg")
            plt.close(figure)
            drawn[name] = f"{name}.svg"
    if compared := comparisons(rows):
        figure = summary(compared, plt)
        save(figure, folder / "summary.svg", transparent=True)
        plt.close(figure)
        drawn["summary"] = "summary.svg"
    return drawn


def save(figure: Any, path: Path, **options: Any) -> None:
    """Write it with no more than can be seen."""
    from scour import scour

    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None}, **options)
    shortened = re.sub(r"\d+\.\d{2,}", lambda found: f"{float(found[0]):.1f}", text.getvalue())
    # A reader's own font, and not all that matplotlib knows of, with every word.
    shortened = re.sub(r"('[^';\"]*', )+sans-serif", "sans-serif", shortened)
    wanted = [
        "--shorten-ids",
        "--enable-id-stripping",
        "--remove-metadata",
        "--strip-xml-prolog",
        "--indent=none",
        "--no-line-breaks",
        "--quiet",
    ]
    path.write_text(scour.scourString(shortened, scour.parse_args(wanted)))


def comparisons(rows: list[Row]) -> dict[str, dict[str, float]]:
    """How many times ours each peer takes, by what is done; what was not measured or not reached is left out."""
    found = {}
    for case, point, text in SUMMARY:
        groups = [g for key, g in grouped(rows, case).items() if {("dtype", DTYPE), *point.items()} <= set(key)]
        if case == "likelihood":
            groups = [[row for row in g if row["contender"].endswith("gradient")] for g in groups]
        ratios = {peer: ratio(g, peer) for g in groups for peer in MARKERS}
        ratios = {peer: value for peer, value in ratios.items() if not np.isnan(value)}
        if ratios:
            found[text] = ratios
    return found


def summary(compared: dict[str, dict[str, float]], plt: Any) -> Any:
    """A line for each thing done, a mark for each peer; to the right of the line at 1, ours is faster."""
    colours = COLOURS | {"numpyro": "#2a9d8f", "distrax": "#e07a1f"}
    with plt.rc_context(dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), GREY)):
        figure, axes = plt.subplots(figsize=(7.2, 3.1))
        places = np.arange(len(compared))[::-1]
        axes.hlines(places, 0, 1, transform=axes.get_yaxis_transform(), color=GREY, lw=0.4, alpha=0.5)
        axes.axvline(1, color=COLOURS["jaxgmm"], lw=2)
        for peer, marker in MARKERS.items():
            shown = [(r[peer], place) for r, place in zip(compared.values(), places, strict=True) if peer in r]
            if shown:
                axes.plot(*zip(*shown, strict=True), marker, color=colours[peer], ms=6, label=peer, clip_on=False)
        axes.set_xscale("log")
        ticks = (0.25, 0.5, 1, 2, 5, 10, 20, 50)
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_yticks(places, list(compared))
        axes.tick_params(left=False)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        figure.supxlabel(f"time over jaxgmm's, {DTYPE}, two CPU cores; left of 1, jaxgmm is slower", fontsize=9)
        figure.legend(loc="outside upper center", frameon=False, ncols=6, handletextpad=0.1, columnspacing=1)
    return figure


def grid(rows: list[Row], plt: Any) -> Any:
    """Time of an iteration over ours, by shape."""
    figure, axes = plt.subplots(figsize=(6.5, 2.8))
    groups = grouped(rows, "grid")
    peers = [name for name in COLOURS if name != "jaxgmm"]
    for place, name in enumerate(peers):
        heights = [
            fastest(g, name) / fastest([r for r in g if r["contender"] == "jaxgmm"], "jaxgmm") for g in groups.values()
        ]
        axes.bar(np.arange(len(heights)) + 0.2 * (place - 1.5), heights, 0.18, label=name, color=COLOURS[name])
    axes.axhline(1, color=COLOURS["jaxgmm"], lw=1)
    axes.set_yscale("log")
    axes.set_xticks(range(len(groups)), [f"d={dict(key)['d']}, k={dict(key)['k']}" for key in groups])
    axes.set_ylabel(f"time over jaxgmm's, {DTYPE}")
    figure.legend(loc="outside upper center", frameon=False, ncols=4)
    return figure


def whole_fit(rows: list[Row], plt: Any) -> Any:
    """Time of a fit against rows."""
    figure, axes = plt.subplots(figsize=(5, 2.8))
    groups = grouped(rows, "whole_fit").values()
    n = [g[0]["n"] for g in groups]
    for name in ("jaxgmm", "sklearn"):
        axes.loglog(n, [fastest(g, name) for g in groups], "o-", color=COLOURS[name], label=name)
    first = [fastest(g, "jaxgmm", "first") for g in groups]
    axes.loglog(n, first, "o:", color=COLOURS["jaxgmm"], label="jaxgmm, compiling")
    axes.set_xlabel("rows")
    axes.set_ylabel(f"seconds, {DTYPE}")
    axes.legend(frameon=False)
    return figure


def growth(rows: list[Row], plt: Any) -> Any:
    """Time against each size."""
    names = list(dict.fromkeys(row["axis"] for row in rows))
    figure, axes = plt.subplots(1, len(names), figsize=(2.1 * len(names), 2.2), squeeze=False)
    for place, name in zip(axes[0], names, strict=True):
        for key, g in grouped([r for r in rows if r["axis"] == name], "growth", by=("contender",)).items():
            timed = [row for row in g if row.get("median")]
            place.loglog([r["size"] for r in timed], [r["median"] for r in timed], "o-", ms=3, label=key[0][1])
        place.set_xlabel(name)
        if name == "restarts":
            place.legend(frameon=False, fontsize=7)
    axes[0, 0].set_ylabel("seconds")
    return figure


def recovery(rows: list[Row], plt: Any) -> Any:
    """Share of data sets whose number of components is found, against rows, by columns and separation."""
    separations = list(dict.fromkeys(row["separation"] for row in rows))
    columns = sorted({row["d"] for row in rows})
    sizes = sorted({row["n"] for row in rows})
    figure, axes = plt.subplots(len(separations), len(columns), figsize=(7, 5), sharex=True, sharey=True, squeeze=False)
    names = list(dict.fromkeys(row["contender"] for row in rows))
    for line, separation in zip(axes, separations, strict=True):
        for place, d in zip(line, columns, strict=True):
            for name, color in zip(names, plt.get_cmap("tab10").colors, strict=False):
                here = [r for r in rows if (r["contender"], r["d"], r["separation"]) == (name, d, separation)]
                shares = {n: [r["found"] for r in here if r["n"] == n] for n in sizes}
                shown = [(n, np.mean(found)) for n, found in shares.items() if found]
                style = "--" if name.startswith("sklearn") else "-"
                place.plot(*zip(*shown, strict=True), style, marker="o", ms=3, color=color, label=name)
            place.set_title(f"{separation}, d = {d}", fontsize=8)
            place.set_xscale("log")
            place.set_xticks(sizes, [f"{size:,}" for size in sizes])
            place.minorticks_off()
    axes[0, 0].set_ylim(-0.05, 1.05)
    figure.supxlabel("rows", fontsize=9)
    figure.supylabel("share of data sets where k is found", fontsize=9)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", frameon=False, ncols=6)
    return figure
