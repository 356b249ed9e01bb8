"""The picture that `jaxgmm fit --figure` draws."""

import importlib.util
import os
from typing import Any

import numpy as np

import jaxgmm
from jaxgmm.cli.problem import Problem
from jaxgmm.ground.files import replacing

# Columns that a picture of pairs still shows.
_MOST_COLUMNS = 6


def check_figure(path: str) -> None:
    """Refuse before the work instead of after it."""
    if importlib.util.find_spec("matplotlib") is None:
        raise Problem("--figure needs matplotlib: pip install 'jaxgmm[plot]'")
    from matplotlib.figure import Figure

    if _kind(path) not in (kinds := Figure().canvas.get_supported_filetypes()):
        raise Problem(f"--figure is {path!r}; expected a name that ends in one of {', '.join(sorted(kinds))}.", 2)


def draw(path: str, selection: jaxgmm.Selection, x: np.ndarray, columns: list[str]) -> None:
    """The rows in the winner's colours and, if there were several candidates, the criterion that chose it."""
    from matplotlib.figure import Figure

    from jaxgmm import plot

    mixture: Any = selection.best.mixture
    shown = columns[:_MOST_COLUMNS]
    d = len(shown)
    if len(columns) > d:
        mixture = mixture.marginal(range(d))
        x = x[:, :d]
    compared = len(selection.candidates) > 1
    size = 5.0 if d <= 2 else 1.9 * d
    figure = Figure(figsize=(size * (2 if compared else 1), size * (0.85 if d <= 2 else 1)), layout="constrained")
    parts: Any = figure.subfigures(1, 2) if compared else [figure]
    if d == 1:
        ax = parts[0].subplots()
        plot.histogram(mixture, x, ax=ax)
        ax.set_xlabel(shown[0])
    elif d == 2:
        ax = parts[0].subplots()
        plot.assignment(mixture, x, ax=ax)
        plot.ellipses(mixture, ax=ax)
        ax.set(xlabel=shown[0], ylabel=shown[1])
    else:
        plot.pairs(mixture, x, names=shown, axes=parts[0].subplots(d, d))
    if compared:
        plot.criterion(selection, parts[1].subplots())
    with replacing(path) as draft:
        figure.savefig(draft, dpi=150, format=_kind(path))


def _kind(path: str) -> str:
    return os.path.splitext(path)[1].removeprefix(".").lower()
