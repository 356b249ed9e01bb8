"""What the components of a mixture are like, column by column."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgmm.families.support import Axis
from jaxgmm.model.mixture import Mixture
from jaxgmm.plot import canvas, kinds, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_COLUMNS = 60
# Widths in inches: of a column along lines, of a component beside others, of what names and legends take, and of all.
_STEP, _BESIDE = 0.5, 1.1
_NAMES, _KEY = 0.8, 1.2
_LEAST, _MOST_WIDE = 5.0, 14.0
# Heights: of lines, a character below them, a bar, and what is around bars.
_LINES, _CHARACTER, _BAR, _EDGES = 2.6, 0.03, 0.3, 1.0
# Few columns take as much of the width as so many.
_FEW = 3
# Names that are longer than this stand aslant.
_SHORT = 8
_STANDARD = "mean, in standard deviations\nfrom that of the mixture"


def profiles(
    mixture: Mixture, names: Sequence[str] | None = None, levels: Any = None, figure: Any = None
) -> np.ndarray:
    """What each component is like in every column: profiles of latent classes.

    Means of numbers are a line for each component, as far from the mean of the mixture as standard deviations of the
    mixture say, so that columns in any units stand side by side. Of columns with two levels the lines are the
    probabilities of the second. Of those with more, the probabilities of all levels are bars, with axes for each
    component. Angles are points, the mean directions. What a mixture has none of is left out.

    Args:
        mixture: of any family that has marginals, with up to 60 columns. Noise is left out.
        names: of the columns, d strings.
        levels: names of the levels, as for `marginals`.
        figure: where to draw, a figure of matplotlib's or a part of one; by default a new one.

    Returns:
        The axes, of numbers, two levels and angles as far as there are such, and those of bars by component.

    Raises:
        ValueError: a stack of mixtures, too many columns, or names or levels that do not fit.
        NotImplementedError: a family without marginals.
        ImportError: without matplotlib.

    Source: Collins & Lanza (2010), Latent Class and Latent Transition Analysis.

    >>> import jax.numpy as jnp
    >>> import jaxgmm
    >>> from jaxgmm import plot
    >>> answers = jaxgmm.Bernoulli(jnp.array([[2.0, 2.0, -1.0], [-2.0, 1.0, 3.0]]))
    >>> axes = plot.profiles(jaxgmm.Mixture(jnp.log(jnp.array([0.3, 0.7])), answers))
    >>> axes[0].get_ylabel()
    'probability of 1'
    """
    mixture = canvas.single(mixture)
    d, axes = mixture.n_columns, kinds.axes_of(mixture)
    if d > _MOST_COLUMNS:
        raise ValueError(
            f"mixture has {d} columns; expected up to {_MOST_COLUMNS}. Choose some: mixture.marginal([0, 1, 2])."
        )
    names = canvas.names_of(names, None, d)
    named = kinds.levels_of(levels, names, axes)
    names = [f"column {place}" for place in range(d)] if names is None and d <= 6 else names
    names = list(map(str, range(d))) if names is None else names
    listed = [place for place, axis in enumerate(axes) if axis.n_levels is not None]
    measured = [place for place, axis in enumerate(axes) if kinds.is_line(axis)]
    around = [place for place, axis in enumerate(axes) if axis.around]
    shares = {place: _shares(mixture, place, axes[place]) for place in listed}
    two = [place for place in listed if axes[place].n_levels == 2]
    more = [place for place in listed if axes[place].n_levels != 2]
    means = _means(mixture, sorted([*measured, *around]))
    kept = style.present(mixture)
    lines: list[tuple[list[int], str, Any]] = []
    if measured:
        lines.append((measured, _STANDARD, _standardised(mixture, measured, means)[kept]))
    if two:
        second = np.stack([shares[place][:, 1] for place in two], axis=1)[kept]
        lines.append((two, _second(axes, named, two), second))
    if around:
        lines.append((around, "mean direction, in degrees", np.degrees(np.stack([means[j] for j in around], 1))[kept]))
    grids = _axes(figure, mixture, lines, more, max(map(len, names)))
    for ax, (columns, label, values) in zip(grids[0], lines, strict=True):
        goes_around = columns is around
        _draw_lines(ax, mixture, values, [names[place] for place in columns], joined=not goes_around)
        ax.set_ylabel(label, fontsize="small")
        if goes_around:
            ax.set(ylim=(-190, 190), yticks=np.arange(-180, 181, 90))
        elif columns is two:
            ax.set_ylim(-0.03, 1.03)
    if lines:
        style.legend(grids[0][-1], _key(mixture), title="component", fontsize="small")
    if more:
        _draw_bars(grids[1], mixture, {place: shares[place] for place in more}, names, named)
    return np.array([*grids[0], *grids[1]], object)


def _shares(mixture: Mixture, column: int, axis: Axis) -> np.ndarray:
    """Probability of each level in each component (k, L); those without weight have none."""
    part = mixture.marginal([column])
    levels: Any = (axis.low + np.arange(axis.n_levels or 0)).astype(part.log_weights.dtype)[:, None]
    total = np.exp(np.asarray(part.log_prob(levels), float))
    weights = style.weights(part).astype(float)
    parts = total[:, None] * np.asarray(part.responsibilities(levels), float)
    return (parts / np.where(weights > 0, weights, 1)).T


def _means(mixture: Mixture, columns: list[int]) -> dict[int, np.ndarray]:
    """Of the components (k,), by column."""
    if not columns:
        return {}
    found = np.asarray(mixture.marginal(columns).means, float)
    return {place: found[:, rank] for rank, place in enumerate(columns)}


def _standardised(mixture: Mixture, columns: list[int], means: dict[int, np.ndarray]) -> np.ndarray:
    """Means of the components (k, d), less that of all clusters together and over their standard deviation."""
    weights = style.weights(mixture).astype(float)[: mixture.n_clusters]
    weights = (weights / weights.sum())[:, None]
    own = np.stack([means[place] for place in columns], axis=1)
    inside, wide = own[: mixture.n_clusters], canvas.deviations(mixture)[: mixture.n_clusters, columns]
    present = weights > 0
    middle = np.sum(np.where(present, weights * inside, 0), axis=0)
    spread = np.sqrt(np.sum(np.where(present, weights * (wide**2 + (inside - middle) ** 2), 0), axis=0))
    return (own - middle) / np.where(spread > 0, spread, 1)


def _second(axes: list[Axis], named: list[list[str] | None], columns: list[int]) -> str:
    """What the probabilities of columns of two levels are of."""
    known = {(named[place] or [f"{axes[place].low + level:g}" for level in range(2)])[1] for place in columns}
    return f"probability of {known.pop()}" if len(known) == 1 else "probability of the second level"


def _axes(
    figure: Any, mixture: Mixture, lines: list[Any], bars: list[int], longest: int
) -> tuple[list["Axes"], list["Axes"]]:
    """As many as there are lines, and below them one for each component of bars."""
    k = len(style.present(mixture))
    steps = [max(_FEW, len(columns)) for columns, *_ in lines]
    widths = [
        (_NAMES * len(lines) + _STEP * sum(steps) + _KEY) * bool(lines),
        (_NAMES + _BESIDE * k + _KEY) * bool(bars),
    ]
    heights = [(_LINES + _CHARACTER * longest) * bool(lines), (_EDGES + _BAR * len(bars)) * bool(bars)]
    if figure is None:
        size = min(max(_LEAST, *widths), _MOST_WIDE), sum(heights)
        figure = style.pyplot().figure(figsize=size, layout="constrained")
    both: list[Any] = list(figure.subfigures(2, 1, height_ratios=heights)) if lines and bars else [figure, figure]
    above = list(both[0].subplots(1, len(lines), squeeze=False, width_ratios=steps).ravel()) if lines else []
    below = list(both[1].subplots(1, k, sharex=True, sharey=True, squeeze=False).ravel()) if bars else []
    return above, below


def _draw_lines(ax: "Axes", mixture: Mixture, values: np.ndarray, names: list[str], joined: bool) -> None:
    """A line, or points, for each component that is present, (k, d)."""
    places = np.arange(values.shape[1])
    # Those that agree are beside each other, not on top.
    aside = np.linspace(-0.12, 0.12, len(values)) if len(values) > 1 else np.zeros(1)
    for rank, own in enumerate(values):
        look = _look(rank)
        ax.plot(places + aside[rank], own, ls=_dashes(rank) if joined else "", zorder=2, **look)
    ax.set_xticks(places, names, fontsize="small")
    if max(map(len, names)) > _SHORT:
        for text in ax.get_xticklabels():
            text.set(rotation=30, ha="right", rotation_mode="anchor")
    ax.set_xlim(-0.5, values.shape[1] - 0.5)
    ax.tick_params(axis="y", labelsize="small")
    ax.grid(axis="x", color="0.9", lw=0.6)
    ax.set_axisbelow(True)
    if joined and values.min() < 0 < values.max():
        ax.axhline(0, color="0.6", lw=0.8, zorder=1)


def _draw_bars(
    axes: list["Axes"],
    mixture: Mixture,
    shares: dict[int, np.ndarray],
    names: list[str],
    named: list[list[str] | None],
) -> None:
    """Probabilities of levels (k, L) by column, one after the other along bars; axes for each component."""
    from matplotlib.patches import Patch

    kept, weights = style.present(mixture), style.weights(mixture)
    most = max(one.shape[1] for one in shares.values())
    colors = [style.shades("YlGnBu", 0.15, 0.95, one.shape[1]) for one in shares.values()]
    places = np.arange(len(shares))
    for ax, place, rank in zip(axes, kept.tolist(), range(len(kept)), strict=True):
        for at, one, shade in zip(places, shares.values(), colors, strict=True):
            start = np.concatenate([[0], np.cumsum(one[place])[:-1]])
            ax.barh([at] * len(start), one[place], 0.8, left=start, color=shade, edgecolor="white", linewidth=0.5)
        look: dict[str, Any] = {"color": style.color(rank)} if len(kept) <= len(style.COLORS) else {}
        ax.set_title(f"{place}\n{weights[place]:.0%}", fontsize="small", **look)
        ax.set(xlim=(0, 1), xticks=(0, 0.5, 1))
        ax.set_xticklabels(["0", ".5", "1"])
        ax.tick_params(labelsize="small")
        ax.tick_params(axis="y", length=0)
    told = {tuple(named[place] or ()) for place in shares}
    same = len(told) == 1
    labels = [
        names[place] if same or named[place] is None else f"{names[place]}\n{' | '.join(named[place] or ())}"
        for place in shares
    ]
    axes[0].set_yticks(places, labels)
    axes[0].set_ylim(len(shares) - 0.5, -0.5)
    axes[0].figure.supxlabel("probability of each level", fontsize="small")
    shades = style.shades("YlGnBu", 0.15, 0.95, most)
    texts = next(iter(told)) if same and next(iter(told)) else [f"level {level}" for level in range(most)]
    handles = [Patch(color=shade, label=text) for shade, text in zip(shades, texts, strict=True)]
    style.legend(axes[-1], handles, fontsize="small")


def _look(rank: int) -> dict[str, Any]:
    return {"color": style.color(rank), "marker": style.marker(rank), "ms": 5.5, "lw": 1.3, "mec": "white", "mew": 0.5}


def _dashes(rank: int) -> str:
    return "-" if rank < len(style.COLORS) else "--"


def _key(mixture: Mixture) -> list[Any]:
    from matplotlib.lines import Line2D

    weights = style.weights(mixture)
    return [
        Line2D([], [], ls=_dashes(rank), label=f"{place}: {weights[place]:.0%}", **_look(rank))
        for rank, place in enumerate(style.present(mixture).tolist())
    ]
