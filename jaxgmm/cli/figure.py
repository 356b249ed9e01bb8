"""The picture that `jaxgmm fit --figure` draws."""

import importlib.util
import os
from typing import Any

import numpy as np

import jaxgmm
from jaxgmm.cli.problem import Problem
from jaxgmm.ground.files import replacing

# Columns that a picture of pairs still shows, and one of each by itself, so many across.
_MOST_COLUMNS, _MOST_ALONE, _ACROSS = 6, 12, 3
# Inches that the criterion takes beside them, and how high it and a picture of few columns are.
_CRITERION, _HEIGHT = 6.0, 4.25


def check_figure(path: str) -> None:
    """Refuse before the work instead of after it."""
    if importlib.util.find_spec("matplotlib") is None:
        raise Problem("--figure needs matplotlib: pip install 'jaxgmm[plot]'")
    from matplotlib.figure import Figure

    if _kind(path) not in (kinds := Figure().canvas.get_supported_filetypes()):
        raise Problem(f"--figure is {path!r}; expected a name that ends in one of {', '.join(sorted(kinds))}.", 2)


def draw(path: str, selection: jaxgmm.Selection, mixture: Any, rows: jaxgmm.Evidence, columns: list[str]) -> str | None:
    """The rows in the colours of a mixture and, if there were several candidates, the criterion that chose it.

    Where a column holds levels or angles, each column is shown by itself. Returns what the picture leaves out, if so.
    """
    from matplotlib.figure import Figure

    from jaxgmm import plot
    from jaxgmm.plot import kinds

    alone = not all(map(kinds.is_line, kinds.axes_of(mixture)))
    most = _MOST_ALONE if alone else _MOST_COLUMNS
    shown, left_out = columns[:most], columns[most:]
    d = len(shown)
    if left_out:
        mixture = mixture.marginal(range(d))
        rows = rows.of_columns(np.arange(d))
    compared = len(selection.candidates) > 1
    width, height = (5.5, _HEIGHT) if d <= 2 else (1.9 * d, 1.9 * d)
    n_rows, n_across = -(-d // _ACROSS), min(d, _ACROSS)
    if alone:
        width, height = max(5.5, 2.6 * n_across), max(_HEIGHT, 2.2 * n_rows)
    figure = Figure(figsize=(width + _CRITERION * compared, height), layout="constrained")
    parts: Any = figure.subfigures(1, 2, width_ratios=(width, _CRITERION)) if compared else [figure]
    if alone:
        known = {} if selection.schema is None else dict(zip(columns, selection.schema.levels, strict=True))
        found = zip(shown, kinds.axes_of(mixture), strict=True)
        levels = {name: known[name] for name, axis in found if len(known.get(name) or ()) == axis.n_levels}
        panels = parts[0].subplots(n_rows, n_across, squeeze=False).ravel()
        plot.marginals(mixture, rows, shown, levels, panels)
        for ax in panels[d:]:
            ax.remove()
    elif d == 1:
        ax = parts[0].subplots()
        plot.histogram(mixture, rows, ax=ax)
        ax.set_xlabel(shown[0])
    elif d == 2:
        ax = parts[0].subplots()
        plot.assignment(mixture, rows, ax=ax)
        plot.ellipses(mixture, ax=ax)
        ax.set(xlabel=shown[0], ylabel=shown[1])
    else:
        plot.pairs(mixture, rows, names=shown, axes=parts[0].subplots(d, d))
    if compared:
        # Beside many columns, as large as beside a few.
        rest = height - _HEIGHT
        panel = parts[1].subfigures(2, 1, height_ratios=(_HEIGHT, rest))[0] if rest else parts[1]
        plot.criterion(selection, panel.subplots())
    note = None
    if left_out:
        what = f"{d} of {len(columns)} columns"
        how = f"the first {d} are drawn; name others first with --columns"
        parts[0].suptitle(f"{what}: {how}", fontsize="medium")
        note = f"{path} shows {what}, without {_listed(left_out)}: {how}."
    with replacing(path) as draft:
        figure.savefig(draft, dpi=150, format=_kind(path))
    return note


def draw_groups(path: str, selections: jaxgmm.Selections) -> None:
    """How many groups have how many components."""
    from matplotlib.figure import Figure

    from jaxgmm import plot

    figure = Figure(figsize=(_CRITERION, _HEIGHT), layout="constrained")
    plot.selections(selections, figure.subplots()).set_ylabel("groups")
    with replacing(path) as draft:
        figure.savefig(draft, dpi=150, format=_kind(path))


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_MOST_COLUMNS]) + ", ..." * (len(names) > _MOST_COLUMNS)


def _kind(path: str) -> str:
    return os.path.splitext(path)[1].removeprefix(".").lower()
