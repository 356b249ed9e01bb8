"""One column, and all pairs of columns."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgmm.model.mixture import Mixture
from jaxgmm.plot import canvas, scatter, shapes, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# More columns than this leave too little room for each pair.
_MOST_COLUMNS = 12
# More bars than this cannot be told apart, and rows that are dense in one place would ask for any number.
_MOST_BARS = 200
# Where each component's curve is drawn besides an even grid, in its standard deviations: peaks may be thin.
_STANDARD = np.linspace(-4, 4, 33)


def histogram(
    mixture: Mixture, x: Any = None, ax: "Axes | None" = None, bins: Any = "auto", weights: Any = None
) -> "Axes":
    """The density of a mixture in one column, with its components, over a histogram of the rows.

    Args:
        mixture: of any family, with one column. That of several columns has `mixture.marginal([i])`.
        x: (n, 1), a frame or an array; the name of a frame's column is put on the axis; or what `jaxgmm.rows` makes of
            them. All rows are counted whose entry is seen; those far from most of the others at the edge.
        ax: where to draw; by default a new figure.
        bins: as `numpy.histogram_bin_edges` takes them; what it chooses by itself it chooses without weights.
        weights: (n,), weights of the rows. Rows of weight 0 are left out.

    Returns:
        The axes. Their vertical axis is the density, per unit of the column; each component has its own times its
        weight.

    Raises:
        ValueError: a stack of mixtures, another number of columns, or rows of weight that are NaN or infinite.
        ImportError: without matplotlib.
    """
    mixture = canvas.single(mixture, 1)
    mixture, rows = (mixture, None) if x is None else canvas.read(mixture, x, weights)
    ax = style.axes(ax)
    low, high = canvas.extent(mixture, rows, canvas.OVER_ROWS)
    lines = curves(ax, mixture, rows, bins, low[0], high[0])
    style.label(ax, None if rows is None else rows.names)
    ax.set_ylabel("density")
    if 1 < len(lines) <= 1 + len(style.COLORS):
        style.legend(ax, lines)
    return ax


def pairs(
    mixture: Mixture, x: Any = None, names: Sequence[str] | None = None, axes: Any = None, weights: Any = None
) -> np.ndarray:
    """Every column by itself, and every two columns against each other.

    On the diagonal the density of each column over its histogram, as `histogram` draws it; below it the components'
    ellipses, which hold 50 and 95 % of each, over the rows as `assignment` shows them. Rows have the colour of their
    most probable component in all columns together, or in those that are seen. Those far from most of the others are
    counted on the diagonal.

    Args:
        mixture: with d columns, from 2 to 12.
        x: (n, d), a frame or an array, or what `jaxgmm.rows` makes of them.
        names: of the columns, d strings. By default those of a frame.
        axes: (d, d) of matplotlib's; by default those of a new figure. What is above the diagonal is switched off.
        weights: (n,), weights of the rows. Rows of weight 0 are left out.

    Returns:
        The axes, an array (d, d).

    Raises:
        ValueError: a stack of mixtures, too few or too many columns, names or axes that do not fit, or rows of weight
            that are NaN or infinite.
        ImportError: without matplotlib.
    """
    mixture = canvas.single(mixture)
    d = mixture.n_columns
    if not 2 <= d <= _MOST_COLUMNS:
        advice = "Use plot.histogram." if d < 2 else "Choose some: mixture.marginal([0, 1, 2]) with x[:, [0, 1, 2]]."
        raise ValueError(f"mixture has {d} columns; expected 2 to {_MOST_COLUMNS}. {advice}")
    mixture, rows = (mixture, None) if x is None else canvas.read(mixture, x, weights)
    names = canvas.names_of(names, rows, d)
    grid = _grid(axes, d)
    low, high = canvas.extent(mixture, rows, canvas.OVER_ROWS)
    shown = None if rows is None else rows.shown()
    responsibilities = None if shown is None else mixture.responsibilities(shown.known)
    for i, j in np.ndindex(d, d):
        ax: Any = grid[i, j]
        if j > i:
            ax.set_axis_off()
            continue
        ax.set_xlim(low[j], high[j])
        if i == j:
            own = None if rows is None else rows.columns([i])
            curves(ax, mixture.marginal([i]), own, "auto", low[i], high[i])
            ax.set_yticks([])
        else:
            ax.set_ylim(low[i], high[i])
            if shown is not None:
                scatter.points(ax, mixture, shown.columns([j, i]), responsibilities, soft=False)
            shapes.draw(ax, mixture, np.array([j, i]), (0.5, 0.95), shapes.palette(mixture), fill=shown is None)
        ax.tick_params(labelbottom=i == d - 1, labelleft=j == 0)
        if names is not None:
            ax.set_xlabel(names[j] if i == d - 1 else "")
            ax.set_ylabel(names[i] if j == 0 else "")
    return grid


def curves(ax: "Axes", mixture: Mixture, rows: canvas.Rows | None, bins: Any, low: Any, high: Any) -> list[Any]:
    """A mixture in one column over its rows: its line, and those of the components where there are several."""
    if rows is not None and not np.isnan(rows.x).all():
        rows = rows.of(~np.isnan(rows.x[:, 0]))
        values = rows.x[:, 0].astype(float)
        edges = _edges(values[(values >= low) & (values <= high)], bins)
        # A density over all rows, whether or not there is a bar over them.
        heights = np.histogram(values, edges, weights=rows.weights)[0] / rows.weights.sum() / np.diff(edges)
        ax.hist(edges[:-1], edges.tolist(), weights=heights, color="0.85", edgecolor="white", linewidth=0.5)
    kept = style.present(mixture)
    peaks = np.asarray(mixture.means, float)[kept] + canvas.deviations(mixture)[kept] * _STANDARD
    # As many places whatever the column, so that nothing is compiled anew for the next one.
    places = np.concatenate([canvas.line(mixture, low, high), np.clip(peaks, low, high).ravel()])
    places = np.sort(places.astype(mixture.means.dtype))
    total = np.exp(np.asarray(mixture.log_prob(places[:, None]), float))
    # Components on top: where one is all there is, the mixture still shows around it.
    lines = ax.plot(places, total, color=style.NEUTRAL, lw=2.4, label="mixture")
    if len(kept) > 1:
        parts = total[:, None] * np.asarray(mixture.responsibilities(places[:, None]), float)
        for place, color in shapes.palette(mixture).items():
            lines += ax.plot(places, parts[:, place], color=color, lw=1.2, label=f"component {place}")
    if rows is not None:
        scatter.outside(ax, rows)
    return lines


def _edges(values: np.ndarray, bins: Any) -> np.ndarray:
    """As numpy has them, but where it chooses how many itself, no more than can be seen."""
    if isinstance(bins, str):
        # The widths that numpy knows of go with those of Freedman and Diaconis (1981), or are wider.
        width = 2 * np.subtract(*np.quantile(values, (0.75, 0.25))) / len(values) ** (1 / 3)
        bins = _MOST_BARS if 0 < width * _MOST_BARS < np.ptp(values) else bins
    return np.histogram_bin_edges(values, bins)


def _grid(axes: Any, d: int) -> np.ndarray:
    if axes is None:
        size = 1 + 1.8 * d
        return style.pyplot().subplots(d, d, figsize=(size, size), layout="constrained", squeeze=False)[1]
    grid = np.asarray(axes, object)
    if grid.shape != (d, d):
        raise ValueError(f"axes has shape {grid.shape}; expected ({d}, {d}), a row and a column of axes per column.")
    return grid
