"""Maps over two columns: of the density, of doubt about the component, of what is anomalous."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxgmm.ground import checks
from jaxgmm.model.mixture import Mixture
from jaxgmm.plot import canvas, kinds, scatter, shapes, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Rows drawn to find the regions that hold a given mass, which they do to 0.4 % of all mass.
_N_DRAWN = 2**14
# Where the density is 0, contours still need a number.
_NOTHING = -1e30


def density(
    mixture: Mixture,
    x: Any = None,
    ax: "Axes | None" = None,
    components: bool = False,
    levels: Sequence[float] = (0.5, 0.8, 0.95),
    weights: Any = None,
    colorbar: bool = True,
) -> "Axes":
    """The smallest regions that hold given shares of the mixture's probability, in two columns.

    The region of share p is where the density exceeds its (1 - p)-quantile among rows drawn from the mixture (16,384 of
    them, always the same). The map covers `x`, or else the mixture, and what the axes show already.

    Args:
        mixture: of any family, with two columns.
        x: (n, 2), rows to show over it, as `assignment` does but in one colour.
        ax: where to draw; by default a new figure.
        components: draw each component's ellipse of the largest share too.
        levels: the shares, between 0 and 1.
        weights: (n,), weights of the rows. Rows of weight 0 are left out.
        colorbar: whether to say which shade is which share.

    Returns:
        The axes.

    Raises:
        ValueError: as `assignment`, or levels outside of 0 to 1.
        NotImplementedError: a column of levels, between which there is nothing.
        ImportError: without matplotlib.

    Source: Hyndman (1996), The American Statistician 50, 120-126.
    """
    mixture = canvas.single(mixture, 2)
    kinds.check_levels(mixture, "density")
    mixture, rows = (mixture, None) if x is None else canvas.read(mixture, x, weights)
    masses = shapes.shares(levels)[::-1]
    ax = style.axes(ax)
    plane = canvas.plane(mixture, rows, ax)
    drawn = np.asarray(mixture.sample(jax.random.key(0), _N_DRAWN))
    value = np.asarray(mixture.log_prob(np.concatenate([plane.points, drawn])), float)
    image = np.maximum(plane.image(value[:-_N_DRAWN]), _NOTHING)
    # Where the density is flat, regions of different shares may have the same bound.
    bounds, first = np.unique(np.quantile(value[-_N_DRAWN:], 1 - np.array(masses)), return_index=True)
    top = max(image.max(), bounds[-1]) + 1
    shades = style.shades("Blues", 0.15, 0.65, len(bounds))
    filled = ax.contourf(plane.first, plane.second, image, levels=[*bounds, top], colors=shades, zorder=0.5)
    style.frame(ax, plane)
    if rows is not None:
        scatter.plain(ax, rows.shown())
        style.label(ax, rows.names)
    if components:
        shapes.draw(ax, mixture, np.array([0, 1]), masses[:1], shapes.palette(mixture), fill=False)
    if rows is not None:
        scatter.outside(ax, rows)
    if colorbar:
        bar = ax.figure.colorbar(filled, ax=ax, ticks=bounds, label="probability within")
        bar.ax.set_yticklabels([f"{100 * masses[place]:g} %" for place in first])
    return ax


def uncertainty(
    mixture: Mixture,
    x: Any = None,
    ax: "Axes | None" = None,
    measure: str = "entropy",
    weights: Any = None,
    colorbar: bool = True,
) -> "Axes":
    """How far from certain the component of a row would be, at every place of two columns.

    The map covers `x`, or else the mixture, and what the axes show already.

    Args:
        mixture: of any family, with two columns.
        x: (n, 2), rows to show over it, as `assignment` does.
        ax: where to draw; by default a new figure.
        measure: "entropy", that of the responsibilities over log k, from 0 to 1; or "error", the probability that
            the most probable component is the wrong one, 1 - max_k r_k. k counts the components that have weight.
        weights: (n,), weights of the rows. Rows of weight 0 are left out.
        colorbar: whether to draw one.

    Returns:
        The axes.

    Raises:
        ValueError: as `assignment`, or an unknown measure.
        NotImplementedError: a column of levels, between which there is nothing.
        ImportError: without matplotlib.
    """
    mixture = canvas.single(mixture, 2)
    kinds.check_levels(mixture, "uncertainty")
    mixture, rows = (mixture, None) if x is None else canvas.read(mixture, x, weights)
    checks.one_of("measure", measure, _MEASURES)
    ax = style.axes(ax)
    plane = canvas.plane(mixture, rows, ax)
    name, of = _MEASURES[measure]
    image = plane.image(of(mixture, plane.points))
    # Among many components doubt is between a few of them, which is far from the most there could be.
    image = np.clip(image, 0, 1)
    steps = np.linspace(0, min(top for top in (0.25, 0.5, 1) if image.max() <= top), 11)
    # Rows are told apart by their colours, so the map has none, and black is left to them.
    shades = style.shades("Greys", 0.0, 0.6, 10)
    filled = ax.contourf(plane.first, plane.second, image, levels=steps, colors=shades, zorder=0.5)
    style.frame(ax, plane)
    if rows is not None:
        shown = rows.shown()
        scatter.points(ax, mixture, shown, mixture.responsibilities(shown.known), soft=False)
        style.label(ax, rows.names)
        scatter.outside(ax, rows)
    if colorbar:
        ax.figure.colorbar(filled, ax=ax, ticks=steps[::2], label=name)
    return ax


def anomalies(
    mixture: Mixture,
    x: Any,
    threshold: Any = None,
    quantile: Any = 0.01,
    ax: "Axes | None" = None,
    weights: Any = None,
) -> "Axes":
    """The rows of `x` that are less probable than a threshold, over the log-density in two columns.

    All anomalous rows are shown, up to 10,000; of the others, as many as `assignment` shows. A row of which one entry
    is seen has a density in one column, which is not compared.

    Args:
        mixture: of any family, with two columns.
        x: (n, 2), a frame or an array, whose names of columns are put on the axes; or what `jaxgmm.rows` makes of them.
        threshold: log-density below which a row is anomalous. By default the `quantile` of the rows' own.
        quantile: the share of the rows' weight, from 0 to 1, that may lie below the threshold.
        ax: where to draw; by default a new figure.
        weights: (n,), weights of the rows. Rows of weight 0 are left out.

    Returns:
        The axes, with a legend that counts the anomalous rows.

    Raises:
        ValueError: as `assignment`, or a quantile outside of 0 to 1.
        NotImplementedError: a column of levels, between which there is nothing.
        ImportError: without matplotlib.
    """
    mixture = canvas.single(mixture, 2)
    kinds.check_levels(mixture, "anomalies")
    mixture, rows = canvas.read(mixture, x, weights)
    value = np.asarray(mixture.log_prob(rows.known), float)
    whole = ~np.isnan(rows.x).any(axis=1)
    if threshold is None and not whole.any():
        raise ValueError("x has no row whose entries are all seen; expected some for the quantile, or a threshold.")
    of_whole = value[whole], rows.weights[whole]
    bound = canvas.lower_quantile(*of_whole, quantile) if threshold is None else float(threshold)
    ax = style.axes(ax)
    plane = canvas.plane(mixture, rows, ax)
    image = np.maximum(plane.image(mixture.log_prob(plane.points)), _NOTHING)
    top = max(image.max(), bound + 1)
    steps = np.linspace(2 * bound - top, top, 13)
    shades = style.shades("Blues", 0.0, 0.5, 13)
    ax.contourf(plane.first, plane.second, image, levels=steps, colors=shades, extend="min", zorder=0.5)
    if image.min() < bound < image.max():
        ax.contour(
            plane.first, plane.second, image, levels=[bound], colors="black", linewidths=1.2, linestyles="dashed"
        )
    style.frame(ax, plane)
    odd = whole & (value < bound)
    scatter.plain(ax, rows.of(~odd).shown())
    marked = rows.of(odd).shown()
    ax.scatter(
        marked.x[:, 0],
        marked.x[:, 1],
        s=36,
        c=style.COLORS[1],
        marker="X",
        linewidths=0.5,
        edgecolors="white",
        zorder=3,
    )
    style.label(ax, rows.names)
    scatter.outside(ax, rows)
    style.legend(ax, _handles(int(odd.sum()), int(whole.sum())))
    return ax


def _handles(n_odd: int, n: int) -> list[Any]:
    from matplotlib.lines import Line2D

    marker: dict[str, Any] = {"ls": "", "marker": "X", "mec": "white", "mew": 0.5, "ms": 7}
    return [
        Line2D([], [], color="black", lw=1.2, ls="dashed", label="threshold"),
        Line2D([], [], color=style.COLORS[1], label=f"{n_odd} of {n} rows", **marker),
    ]


def _entropy(mixture: Mixture, points: np.ndarray) -> np.ndarray:
    return np.asarray(mixture.entropy(points)) / np.log(max(2, len(style.present(mixture))))


def _error(mixture: Mixture, points: np.ndarray) -> np.ndarray:
    return 1 - np.max(np.asarray(mixture.responsibilities(points)), axis=1)


_MEASURES = {
    "entropy": ("entropy of the responsibilities / log k", _entropy),
    "error": ("probability of another component", _error),
}
