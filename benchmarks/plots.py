"""The pictures of the page, small and from the results alone."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.targets import fastest, grouped

Row = dict[str, Any]
COLOURS = {"jaxgmm": "#0b6e4f", "sklearn": "#d1495b", "gmmx": "#3d6cb9", "tgmm": "#8c5e9e", "pomegranate": "#b58900"}
DTYPE = "float32"


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
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
            plt.close(figure)
            drawn[name] = f"{name}.svg"
    return drawn


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
