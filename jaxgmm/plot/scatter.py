"""Rows as points, by the component they belong to."""

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgmm.model.mixture import Mixture
from jaxgmm.plot import canvas, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def assignment(mixture: Mixture, x: Any, ax: "Axes | None" = None, soft: bool = True, weights: Any = None) -> "Axes":
    """The rows of `x` in two columns, each in the colour of its component.

    Up to 1,000 rows have the marker of their most probable component too. Of more than 10,000 rows, 10,000 are shown,
    the same ones each time; many points are small, transparent, and stored as an image in vector graphics.

    Args:
        mixture: with two columns.
        x: (n, 2), a frame or an array; the names of a frame's columns are put on the axes.
        ax: where to draw; by default a new figure.
        soft: mix the colours of the components in proportion to the responsibilities. Otherwise each row has the
            colour of its most probable component.
        weights: (n,), weights of the rows, shown as the areas of their markers. Rows of weight 0 are left out.

    Returns:
        The axes, with a legend for two to seven components.

    Raises:
        ValueError: a stack of mixtures, another number of columns, or rows of weight that are NaN or infinite.
        ImportError: without matplotlib.
    """
    mixture, rows = canvas.read(canvas.single(mixture, 2), x, weights)
    ax = style.axes(ax)
    shown = rows.shown()
    points(ax, mixture, shown, mixture.responsibilities(shown.x), soft)
    style.label(ax, rows.names)
    key(ax, mixture, len(shown.x))
    return ax


def points(ax: "Axes", mixture: Mixture, rows: canvas.Rows, responsibilities: Any, soft: bool) -> None:
    """Rows in two columns with their responsibilities (n, k)."""
    responsibilities = np.asarray(responsibilities, float)[:, style.present(mixture)]
    colors = [style.color(rank) for rank in range(responsibilities.shape[1])]
    labels = np.argmax(responsibilities, axis=1)
    filled = style.blend(responsibilities if soft else np.eye(len(colors))[labels], colors)
    if len(rows.x) > canvas.N_MARKED:
        _points(ax, rows, c=filled)
        return
    n = len(rows.x)
    for label in np.unique(labels).tolist():
        chosen = labels == label
        _points(ax, rows.of(chosen), n, c=filled[chosen], marker=style.marker(label))


def plain(ax: "Axes", rows: canvas.Rows) -> None:
    """Rows in two columns that say nothing about components."""
    _points(ax, rows, c=style.NEUTRAL)


def _points(ax: "Axes", rows: canvas.Rows, n: int | None = None, **options: Any) -> None:
    """Points that are some of n: the more, the smaller and the more transparent."""
    n = len(rows.x) if n is None else n
    if not n:
        return
    few = n <= canvas.N_MARKED
    ax.scatter(
        rows.x[:, 0],
        rows.x[:, 1],
        s=np.clip(30 * np.sqrt(100 / n), 3, 30) * np.minimum(rows.weights, 10),
        alpha=np.clip(25 / np.sqrt(n), 0.3, 0.9),
        linewidths=0.3 if few else 0,
        edgecolors="white" if few else "none",
        rasterized=not few,
        **options,
    )


def key(ax: "Axes", mixture: Mixture, n: int) -> None:
    """The legend of the components, where they have a colour each."""
    from matplotlib.lines import Line2D

    kept = style.present(mixture)
    if 2 <= len(kept) <= len(style.COLORS):
        marks = [style.marker(rank) if n <= canvas.N_MARKED else "o" for rank in range(len(kept))]
        handles = [
            Line2D([], [], ls="", marker=mark, color=style.color(rank), label=str(place))
            for rank, (mark, place) in enumerate(zip(marks, kept, strict=True))
        ]
        style.legend(ax, handles, title="component")
