"""Rows as points, by the component they belong to."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgmm.families.support import Axis
from jaxgmm.model.mixture import Mixture
from jaxgmm.plot import canvas, kinds, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# By where rows are: below, within or above what the axes show, across and up.
_ARROWS = {
    (-1, 1): r"$\nwarrow$",
    (0, 1): r"$\uparrow$",
    (1, 1): r"$\nearrow$",
    (-1, 0): r"$\leftarrow$",
    (1, 0): r"$\rightarrow$",
    (-1, -1): r"$\swarrow$",
    (0, -1): r"$\downarrow$",
    (1, -1): r"$\searrow$",
}
_SIDES = {"ha": ("center", "right", "left"), "va": ("center", "top", "bottom")}
_NOTE = "rows outside"
# Of rows of a noise component.
_NO_CLUSTER = "."
# Of up to so many whole numbers, rows are spread by so much to both sides, as they would be on top of each other.
_FEW, _ASIDE = 60, 0.3
# How long a tick is, as a share of the axes.
_TICK = 0.03


def assignment(
    mixture: Mixture,
    x: Any,
    ax: "Axes | None" = None,
    soft: bool = True,
    weights: Any = None,
    errors: bool = False,
) -> "Axes":
    """The rows of `x` in two columns, each in the colour of its component.

    The axes follow where most rows are: those far from these are counted at the edge, unless limits that the caller has
    set beforehand show them.

    A row of which one entry alone is seen is a tick at the edge, at that entry and in the colour that it says.

    Rows of a noise component are grey. Those of levels or a few counts, which would hide each other, are spread at
    random to both sides of them.

    Up to 1,000 rows have the marker of their most probable component too. Of more than 10,000 rows, 10,000 are shown,
    the same ones each time; many points are small, transparent, and stored as an image in vector graphics.

    Args:
        mixture: with two columns.
        x: (n, 2), a frame or an array, whose names of columns are put on the axes; or what `jaxgmm.rows` makes of them.
        ax: where to draw; by default a new figure.
        soft: mix the colours of the components in proportion to the responsibilities. Otherwise each row has the
            colour of its most probable component.
        weights: (n,), weights of the rows, shown as the areas of their markers. Rows of weight 0 are left out.
        errors: draw one standard error of rows with noise: bars along the columns, or ellipses where errors are given
            as covariances.

    Returns:
        The axes, with a legend for two to seven components.

    Raises:
        ValueError: a stack of mixtures, another number of columns, or rows of weight that are NaN or infinite.
        ImportError: without matplotlib.
    """
    mixture, rows = canvas.read(canvas.single(mixture, 2), x, weights)
    ax = style.axes(ax)
    shown = rows.shown()
    axes = kinds.axes_of(mixture)
    canvas.aim(mixture, rows, ax)
    points(ax, mixture, spread(shown, axes), mixture.responsibilities(shown.known), soft)
    if errors:
        uncertain(ax, shown)
    for line, axis in zip((ax.xaxis, ax.yaxis), axes, strict=True):
        kinds.dress(line, axis)
    outside(ax, rows)
    style.label(ax, rows.names)
    key(ax, mixture, len(shown.x))
    return ax


def points(
    ax: "Axes",
    mixture: Mixture,
    rows: canvas.Rows,
    responsibilities: Any,
    soft: bool,
    size: float = 1.0,
    hollow: np.ndarray | None = None,
) -> None:
    """Rows in two columns with their responsibilities (n, k); `size` is less than 1 in small pictures.

    Those that are `hollow` (n,) have an edge of their colour and nothing inside.
    """
    kept, noise = style.present(mixture).tolist(), mixture.noise_component
    colors = [style.color(rank) for rank in range(len(kept))]
    marks = [style.marker(rank) for rank in range(len(kept))]
    if noise is not None:
        kept, colors, marks = [*kept, noise], [*colors, style.NOISE], [*marks, _NO_CLUSTER]
    responsibilities = np.asarray(responsibilities, float)[:, kept]
    labels = np.argmax(responsibilities, axis=1)
    filled = style.blend(responsibilities if soft else np.eye(len(colors))[labels], colors)
    n = len(rows.x)
    _ticks(ax, rows, filled)
    whole = _whole(rows)
    outlined = np.zeros(n, bool) if hollow is None else hollow & whole
    for empty, some in ((False, whole & ~outlined), (True, outlined)):
        if n > canvas.N_MARKED:
            _points(ax, rows.of(some), n, size, filled[some], empty)
            continue
        for label in np.unique(labels).tolist():
            chosen = (labels == label) & some
            _points(ax, rows.of(chosen), n, size, filled[chosen], empty, marker=marks[label])


def plain(ax: "Axes", rows: canvas.Rows, size: float = 1.0) -> None:
    """Rows in two columns that say nothing about components."""
    from matplotlib.colors import to_rgb

    n = len(rows.x)
    _ticks(ax, rows, np.tile(to_rgb(style.NEUTRAL), (n, 1)))
    _points(ax, rows.of(_whole(rows)), n, size, style.NEUTRAL)


def uncertain(ax: "Axes", rows: canvas.Rows) -> None:
    """One standard error of rows in two columns around what is seen of them."""
    from matplotlib.collections import EllipseCollection, LineCollection

    noise = rows.evidence.noise
    if noise is None:
        return
    whole = _whole(rows)
    x, noise = rows.x[whole].astype(float), np.asarray(noise, float)[whole]
    look: dict[str, Any] = {"edgecolors": style.NEUTRAL, "linewidths": 0.6, "alpha": 0.5, "zorder": 0.9}
    if noise.ndim == 2:
        reach = np.sqrt(noise)[:, :, None] * np.eye(2)
        bars = np.stack([x[:, None] - reach, x[:, None] + reach], axis=2).reshape(-1, 2, 2)
        ax.add_collection(LineCollection(bars.tolist(), **look), autolim=False)
        return
    variances, directions = np.linalg.eigh(noise)
    minor, major = 2 * np.sqrt(np.maximum(variances, 0)).T
    angles = np.degrees(np.arctan2(directions[:, 1, 1], directions[:, 0, 1]))
    outlines = EllipseCollection(
        major, minor, angles, units="xy", offsets=x, offset_transform=ax.transData, facecolors="none", **look
    )
    ax.add_collection(outlines, autolim=False)


def _whole(rows: canvas.Rows) -> np.ndarray:
    return ~np.isnan(rows.x).any(axis=1)


def _ticks(ax: "Axes", rows: canvas.Rows, colors: np.ndarray) -> None:
    """Rows of which one of two entries is seen, at the edge along which it is known where they are."""
    from matplotlib.collections import LineCollection

    for column, transform in enumerate((ax.get_xaxis_transform(), ax.get_yaxis_transform())):
        chosen = np.isnan(rows.x[:, 1 - column]) & ~np.isnan(rows.x[:, column])
        if not chosen.any():
            continue
        at = rows.x[chosen, column].astype(float)
        ends = np.tile([[0.0, 0.0], [_TICK, _TICK]], (len(at), 1, 1))
        ends[:, :, column] = at[:, None]
        alpha = np.clip(50 / np.sqrt(len(at)), 0.3, 0.9)
        ticks = LineCollection(
            ends.tolist(), colors=colors[chosen], linewidths=1.0, alpha=alpha, transform=transform, zorder=1.5
        )
        ax.add_collection(ticks, autolim=False)
        ax.update_datalim(np.stack([at, at], axis=1), updatex=column == 0, updatey=column == 1)
        ax.autoscale_view()


def spread(rows: canvas.Rows, axes: Sequence[Axis]) -> canvas.Rows:
    """The rows with those of the same few whole numbers beside each other: the same way each time, at random."""
    span = np.nanmax(rows.x, axis=0, initial=0) - np.nanmin(rows.x, axis=0, initial=np.inf)
    ways = [axis.whole and (axis.n_levels or most) <= _FEW for axis, most in zip(axes, span, strict=True)]
    if not any(ways):
        return rows
    aside = np.random.default_rng(0).uniform(-_ASIDE, _ASIDE, rows.x.shape)
    return rows._replace(x=(rows.x + np.where(ways, aside, 0)).astype(rows.x.dtype))


def outside(ax: "Axes", rows: canvas.Rows) -> None:
    """Count at the edges of the axes the rows in one or two columns that are not within them."""
    limits = np.array([ax.get_xlim(), ax.get_ylim()])[: rows.x.shape[1]]
    sides = np.sign(rows.x - np.clip(rows.x, *np.sort(limits, axis=1).T)) * np.sign(limits[:, 1] - limits[:, 0])
    sides = np.where(np.isnan(sides), 0, sides)
    # A picture drawn over another one of the same rows counts them again.
    for note in [text for text in ax.texts if text.get_gid() == _NOTE]:
        note.remove()
    sides = sides[np.any(sides != 0, axis=1)].astype(int)
    for side, count in zip(*np.unique(sides, axis=0, return_counts=True), strict=True):
        across, up = [*side.tolist(), 0][:2]
        arrow, said = _ARROWS[across, up], f"{count:,} {'row' if count == 1 else 'rows'}"
        place = across, up if len(side) > 1 else 1
        if len(side) == 1:
            # Room at the top of a histogram.
            ax.margins(y=0.2)
        ax.annotate(
            f"{arrow} {said}" if across < 0 else f"{said} {arrow}",
            (0.5 + 0.5 * place[0], 0.5 + 0.5 * place[1]),
            (-4 * place[0], -4 * place[1]),
            xycoords="axes fraction",
            textcoords="offset points",
            ha=_SIDES["ha"][place[0]],
            va=_SIDES["va"][place[1]],
            fontsize="small",
            bbox={"fc": "white", "alpha": 0.8, "lw": 0, "pad": 1.5},
            gid=_NOTE,
            zorder=5,
        )


def _points(
    ax: "Axes", rows: canvas.Rows, n: int, size: float, colors: Any, hollow: bool = False, **options: Any
) -> None:
    """Points that are some of n: the more, the smaller and the more transparent."""
    if not len(rows.x):
        return
    few = n <= canvas.N_MARKED
    filled = {"c": colors, "linewidths": 0.3 if few else 0, "edgecolors": "white" if few else "none"}
    ax.scatter(
        rows.x[:, 0],
        rows.x[:, 1],
        s=size * np.clip(30 * np.sqrt(100 / n), 3, 30) * np.minimum(rows.weights, 10),
        alpha=np.clip(25 / np.sqrt(n), 0.3, 0.9),
        rasterized=not few,
        **({"facecolors": "none", "edgecolors": colors, "linewidths": 0.8} if hollow else filled),
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
        if mixture.noise_component is not None:
            mark = _NO_CLUSTER if n <= canvas.N_MARKED else "o"
            handles.append(Line2D([], [], ls="", marker=mark, color=style.NOISE, label="-1, noise"))
        style.legend(ax, handles, title="component")
