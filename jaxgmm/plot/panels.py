"""One column, all of them by themselves, and all pairs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgmm.families.support import Axis
from jaxgmm.model.mixture import Mixture
from jaxgmm.plot import canvas, kinds, one_column, scatter, shapes, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# More columns than this leave too little room for each pair.
_MOST_COLUMNS = 12
# Of single columns there is room for more. How many are across for each one up, and their size in inches.
_MOST_PANELS, _ASPECT, _PANEL = 40, 1.4, (2.6, 2.1)


def histogram(
    mixture: Mixture, x: Any = None, ax: "Axes | None" = None, bins: Any = "auto", weights: Any = None
) -> "Axes":
    """The density of a mixture in one column, with its components, over a histogram of the rows.

    Counts have the probability of each count. Levels have two bars each, the share of the rows and beside it the
    probabilities of the components, one on the other. Angles are a rose on polar axes, as new ones are, where areas
    are shares and radii the roots of densities; on others they are from -pi to pi.

    Args:
        mixture: of any family, with one column. That of several columns has `mixture.marginal([i])`.
        x: (n, 1), a frame or an array; the name of a frame's column is put on the axis; or what `jaxgmm.rows` makes of
            them. All rows are counted whose entry is seen; those far from most of the others at the edge.
        ax: where to draw; by default a new figure.
        bins: as `numpy.histogram_bin_edges` takes them; what it chooses by itself it chooses without weights.
        weights: (n,), weights of the rows. Rows of weight 0 are left out.

    Returns:
        The axes. Their vertical axis is the density, per unit of the column, or a probability; each component has its
        own times its weight.

    Raises:
        ValueError: a stack of mixtures, another number of columns, or rows of weight that are NaN or infinite.
        ImportError: without matplotlib.
    """
    mixture = canvas.single(mixture, 1)
    mixture, rows = (mixture, None) if x is None else canvas.read(mixture, x, weights)
    (axis,) = kinds.axes_of(mixture)
    if ax is None and axis.around:
        ax = style.pyplot().subplots(layout="constrained", subplot_kw={"projection": "polar"})[1]
    ax = style.axes(ax)
    low, high = canvas.extent(mixture, rows, canvas.OVER_ROWS)
    handles = one_column.draw(ax, mixture, rows, bins, low[0], high[0])
    style.label(ax, None if rows is None else rows.names)
    if ax.name != "polar":
        ax.set_ylabel("probability" if axis.whole else "density")
    if len(handles) > 1 and len(style.present(mixture)) <= len(style.COLORS):
        style.legend(ax, handles)
    return ax


def marginals(
    mixture: Mixture,
    x: Any = None,
    names: Sequence[str] | None = None,
    levels: Any = None,
    axes: Any = None,
    weights: Any = None,
) -> np.ndarray:
    """Every column by itself as `histogram` draws it, whatever kind each is of.

    Args:
        mixture: of any family that has marginals, with d columns, up to 40.
        x: (n, d), a frame or an array, or what `jaxgmm.rows` makes of them.
        names: of the columns, d strings. By default those of a frame.
        levels: names of the levels: a list, for all columns that have as many; or a mapping to lists from columns, by
            their places or names.
        axes: d of matplotlib's, or more; by default those of a new figure, polar ones for angles, with a legend.
        weights: (n,), weights of the rows. Rows of weight 0 are left out.

    Returns:
        The axes, an array (d,).

    Raises:
        ValueError: a stack of mixtures, too many columns, names, levels or axes that do not fit, or rows of weight that
            are NaN or infinite.
        NotImplementedError: a family without marginals.
        ImportError: without matplotlib.

    >>> import jax.numpy as jnp
    >>> import jaxgmm
    >>> from jaxgmm import plot
    >>> counts = jaxgmm.Mixture(jnp.log(jnp.array([0.5, 0.5])), jaxgmm.Poisson(jnp.array([[1.0, 9.0], [5.0, 2.0]])))
    >>> plot.marginals(counts).shape
    (2,)
    """
    mixture = canvas.single(mixture)
    d = mixture.n_columns
    if d > _MOST_PANELS:
        raise ValueError(
            f"mixture has {d} columns; expected up to {_MOST_PANELS}. Choose some: mixture.marginal([0, 1, 2]) with "
            "x[:, [0, 1, 2]]."
        )
    mixture, rows = (mixture, None) if x is None else canvas.read(mixture, x, weights)
    names = canvas.names_of(names, rows, d)
    found = kinds.axes_of(mixture)
    named = kinds.levels_of(levels, names, found)
    parts = [mixture.marginal([column]) for column in range(d)]
    panels = _panels(axes, found)
    low, high = canvas.extent(mixture, rows, canvas.OVER_ROWS)
    for column, (ax, part) in enumerate(zip(panels, parts, strict=True)):
        own = None if rows is None else rows.columns([column])
        one_column.draw(ax, part, own, "auto", float(low[column]), float(high[column]), named[column])
        ax.set_yticks([])
        ax.tick_params(labelsize="small")
        title = f"column {column}" if names is None else names[column]
        ax.set_title(title, loc="left" if ax.name != "polar" else "center", fontsize="medium")
    if axes is None:
        _legend(panels[0].figure, mixture, rows is not None)
    return panels


def pairs(
    mixture: Mixture, x: Any = None, names: Sequence[str] | None = None, axes: Any = None, weights: Any = None
) -> np.ndarray:
    """Every column by itself, and every two columns against each other.

    On the diagonal the density of each column over its histogram, as `histogram` draws it; below it the components'
    ellipses, which hold 50 and 95 % of each, over the rows as `assignment` shows them. Rows have the colour of their
    most probable component in all columns together, or in those that are seen. Those far from most of the others are
    counted on the diagonal. Columns of levels and angles have no ellipses.

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
    found = kinds.axes_of(mixture)
    lines = all(map(kinds.is_line, found))
    for i, j in np.ndindex(d, d):
        ax: Any = grid[i, j]
        if j > i:
            ax.set_axis_off()
            continue
        ax.set_xlim(low[j], high[j])
        if i == j:
            own = None if rows is None else rows.columns([i])
            one_column.draw(ax, mixture.marginal([i]), own, "auto", float(low[i]), float(high[i]))
            ax.set_yticks([])
        else:
            ax.set_ylim(low[i], high[i])
            both = [found[j], found[i]]
            if shown is not None:
                two = scatter.spread(shown.columns([j, i]), both)
                scatter.points(ax, mixture, two, responsibilities, soft=False)
            if all(map(kinds.is_line, both)):
                part, places = (mixture, [j, i]) if lines else (mixture.marginal([j, i]), [0, 1])
                shapes.draw(ax, part, np.array(places), (0.5, 0.95), shapes.palette(mixture), fill=shown is None)
            for line, axis in zip((ax.xaxis, ax.yaxis), both, strict=True):
                kinds.dress(line, axis)
        ax.tick_params(labelbottom=i == d - 1, labelleft=j == 0)
        if names is not None:
            ax.set_xlabel(names[j] if i == d - 1 else "")
            ax.set_ylabel(names[i] if j == 0 else "")
    return grid


def _panels(axes: Any, along: list[Axis]) -> np.ndarray:
    """One for each column."""
    d = len(along)
    if axes is not None:
        given = np.asarray(axes, object).ravel()
        if len(given) < d:
            raise ValueError(f"axes holds {len(given)} axes; expected {d}, one for each column.")
        return given[:d]
    across = min(d, int(np.ceil(np.sqrt(_ASPECT * d))))
    up = -(-d // across)
    figure = style.pyplot().figure(figsize=(_PANEL[0] * across + 1, _PANEL[1] * up), layout="constrained")
    found = np.empty(d, object)
    for place, axis in enumerate(along):
        found[place] = figure.add_subplot(up, across, place + 1, projection="polar" if axis.around else None)
    return found


def _legend(figure: Any, mixture: Mixture, over_rows: bool) -> None:
    """Of all panels, as each has the same components."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    kept = style.present(mixture)
    handles: list[Any] = [Patch(color="0.85", label="rows")] if over_rows else []
    handles.append(Line2D([], [], color=style.NEUTRAL, lw=2.4, label="mixture"))
    if 1 < len(kept) <= len(style.COLORS):
        colors = shapes.palette(mixture).items()
        handles += [Line2D([], [], color=color, lw=2.4, label=f"component {place}") for place, color in colors]
    figure.legend(handles=handles, loc="outside right upper", frameon=False)


def _grid(axes: Any, d: int) -> np.ndarray:
    if axes is None:
        size = 1 + 1.8 * d
        return style.pyplot().subplots(d, d, figsize=(size, size), layout="constrained", squeeze=False)[1]
    grid = np.asarray(axes, object)
    if grid.shape != (d, d):
        raise ValueError(f"axes has shape {grid.shape}; expected ({d}, {d}), a row and a column of axes per column.")
    return grid
