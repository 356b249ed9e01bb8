"""One column of a mixture over its rows, as suits what it holds: curves, counts, levels, or a rose of angles."""

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgmm.families.support import Axis
from jaxgmm.model.mixture import Mixture
from jaxgmm.plot import canvas, kinds, scatter, shapes, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# More bars than this cannot be told apart, and rows that are dense in one place would ask for any number.
_MOST_BARS = 200
# Of more counts than this, not each has a bar and a marker.
_MOST_COUNTS = 60
# How many parts of a circle are told apart.
_PARTS = (12, 72)
# Of more levels than this, not each has a tick.
_MOST_TICKS = 16
# Names of levels that are longer than this together stand aslant.
_CHARACTERS = 30
# Where each component's curve is drawn besides an even grid, in its standard deviations: peaks may be thin.
_STANDARD = np.linspace(-4, 4, 33)
# A density without bound where numbers end is cut if it is so many times what it is elsewhere, and where.
_CUT, _SHOWN = 2.0, 1.5
_LINE = Axis()
_BARS: dict[str, Any] = {"color": "0.85", "edgecolor": "white", "linewidth": 0.5}


def draw(
    ax: "Axes",
    mixture: Mixture,
    rows: canvas.Rows | None,
    bins: Any,
    low: float,
    high: float,
    levels: list[str] | None = None,
) -> list[Any]:
    """A mixture in one column over its rows, from low to high; what a legend is to name, components among it.

    On polar axes, angles are a rose, in which areas are shares.
    """
    axis = mixture.components.axis(0)
    seen = rows
    if rows is not None:
        present = ~np.isnan(rows.x[:, 0])
        seen = rows.of(present) if present.any() else None
    if axis.n_levels is not None:
        return _levels(ax, mixture, seen, levels or [f"{axis.low + place:g}" for place in range(axis.n_levels)])
    if axis.around:
        return _angles(ax, mixture, axis, seen, bins)
    handles = (_counts if axis.whole else _measured)(ax, mixture, axis, seen, bins, low, high)
    if rows is not None:
        scatter.outside(ax, rows)
    return handles


def _measured(
    ax: "Axes", mixture: Mixture, axis: Axis, rows: canvas.Rows | None, bins: Any, low: float, high: float
) -> list[Any]:
    """A density."""
    top = 0.0
    if rows is not None:
        values = rows.x[:, 0].astype(float)
        edges = _edges(values[(values >= low) & (values <= high)], bins)
        top = np.max(_bars(ax, rows, edges), initial=0.0)
    low, high = canvas.inside(axis, low, high)
    places = np.clip(_places(mixture, low, high), low, high).astype(mixture.log_weights.dtype)
    total, parts = _densities(mixture, places)
    # Where a density has no bound at an end, what is elsewhere is to be seen.
    at = int(np.argmax(total))
    ends = np.array([one for one in (low, high) if min(one - axis.low, axis.high - one) < 0.01 * (high - low)])
    inner = total[np.all(np.abs(places[:, None] - ends) > 0.02 * (high - low), axis=1)]
    usual = max(top, float(np.max(inner, initial=0.0)))
    if np.any(np.abs(places[at] - ends) < 1e-3 * (high - low)):
        _cut(ax, total, usual)
    return _lines(ax, mixture, places, total, parts)


def _counts(
    ax: "Axes", mixture: Mixture, axis: Axis, rows: canvas.Rows | None, bins: Any, low: float, high: float
) -> list[Any]:
    """The probability of each count: a marker for each of a few, and elsewhere a line."""
    low, high = max(axis.low, float(np.floor(low))), min(axis.high, float(np.ceil(high)))
    few, top = high - low <= _MOST_COUNTS, 0.0
    if rows is not None:
        values = rows.x[:, 0].astype(float)
        if np.ndim(bins):
            edges = np.asarray(bins, float)
        else:
            shown = values[(values >= low) & (values <= high)]
            width = 1.0 if few and isinstance(bins, str) else float(np.diff(_edges(shown, bins))[0])
            width = max(1.0, np.round(width))
            edges = np.arange(low, high + width + 1, width) - 0.5
        top = np.max(_bars(ax, rows, edges), initial=0.0)
    places = np.clip(np.round(_places(mixture, low, high)), low, high)
    total, parts = _densities(mixture, places)
    if not few:
        # A bar is as high as the counts in it are on average, of which a few may be much more common than others.
        _cut(ax, total, top)
    # Each once, after all of them, so that nothing is compiled anew for the next column.
    places, first = np.unique(places, return_index=True)
    looks = {"marker": "o", "ms": 3.0} if few else {}
    return _lines(ax, mixture, places, total[first], {place: part[first] for place, part in parts.items()}, **looks)


def _angles(ax: "Axes", mixture: Mixture, axis: Axis, rows: canvas.Rows | None, bins: Any) -> list[Any]:
    """A density around a circle, or along a line where the axes are no polar ones."""
    polar = ax.name == "polar"
    root = np.sqrt if polar else np.asarray
    if rows is not None:
        edges = bins
        if not np.ndim(bins):
            values = rows.x[:, 0].astype(float)
            n = len(np.histogram_bin_edges(values, bins, range=(axis.low, axis.high))) - 1
            n = int(np.clip(n, *_PARTS)) if isinstance(bins, str) else n
            edges = np.linspace(axis.low, axis.high, n + 1)
        if polar:
            ax.bar(edges[:-1], root(_heights(rows, edges)), np.diff(edges), align="edge", zorder=1, **_BARS)
        else:
            _bars(ax, rows, edges)
    places = _places(mixture, axis.low, axis.high, axis)
    total, parts = _densities(mixture, places)
    if polar:
        ax.set_yticklabels([])
        ax.grid(lw=0.5, alpha=0.5)
    else:
        kinds.dress(ax.xaxis, axis)
    return _lines(ax, mixture, places, root(total), {place: root(part) for place, part in parts.items()})


def _levels(ax: "Axes", mixture: Mixture, rows: canvas.Rows | None, names: list[str]) -> list[Any]:
    """What was observed of each level, and beside it what the components make of it, one on the other."""
    codes = np.arange(len(names)) + mixture.components.axis(0).low
    total, parts = _densities(mixture, codes)
    width, at = 0.8, codes
    if rows is not None:
        shares = _heights(rows, np.append(codes, codes[-1] + 1) - 0.5)
        ax.bar(codes - 0.2, shares, 0.4, label="rows", **_BARS)
        width, at = 0.4, codes + 0.2
    handles, bottom = [], np.zeros(len(codes))
    for place, color in shapes.palette(mixture).items():
        part = parts.get(place, total)
        label = f"component {place}" if parts else "mixture"
        look: dict[str, Any] = {"color": color, "edgecolor": "white", "linewidth": 0.5}
        handles.append(ax.bar(at, part, width, bottom=bottom, label=label, **look))
        bottom = bottom + part
    kinds.dress(ax.xaxis, mixture.components.axis(0))
    if len(names) <= _MOST_TICKS:
        slant = sum(map(len, names)) > _CHARACTERS
        ax.set_xticks(codes, names)
        ax.tick_params(axis="x", length=0)
        for text in ax.get_xticklabels() if slant else ():
            text.set(rotation=30, ha="right", rotation_mode="anchor")
    return handles


def _cut(ax: "Axes", total: np.ndarray, usual: float) -> None:
    """Have axes that find their limits by themselves show what is usual, if a part of a density is much more."""
    if np.max(total) > _CUT * usual > 0 and ax.get_autoscaley_on():
        ax.set_ylim(0, _SHOWN * usual)


def _lines(
    ax: "Axes", mixture: Mixture, places: np.ndarray, total: np.ndarray, parts: dict[int, np.ndarray], **looks: Any
) -> list[Any]:
    # Components on top: where one is all there is, the mixture still shows around it.
    lines = ax.plot(places, total, color=style.NEUTRAL, lw=2.4, label="mixture", **looks)
    for place, color in (shapes.palette(mixture) if parts else {}).items():
        lines += ax.plot(places, parts[place], color=color, lw=1.2, label=f"component {place}", **looks)
    return lines


def _densities(mixture: Mixture, places: np.ndarray) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Of a mixture at some places of one column, and of each component times its weight where there are several."""
    points = places.astype(mixture.log_weights.dtype)[:, None]
    total = np.exp(np.asarray(mixture.log_prob(points), float))
    kept = style.present(mixture).tolist()
    if len(kept) < 2:
        return total, {}
    shares = np.asarray(mixture.responsibilities(points), float)
    # Where nothing is possible, no component is.
    parts = np.where(total[:, None] > 0, total[:, None] * shares, 0.0)
    return total, {place: parts[:, place] for place in kept}


def _places(mixture: Mixture, low: float, high: float, axis: Axis = _LINE) -> np.ndarray:
    """Where curves are drawn: evenly, and around each component.

    As many places whatever the column, so that nothing is compiled anew for the next one.
    """
    kept = style.present(mixture)
    peaks = canvas.centers(mixture)[kept] + canvas.deviations(mixture)[kept] * _STANDARD
    peaks = kinds.turned(peaks.reshape(-1, 1), [axis]).ravel()
    places = np.concatenate([canvas.line(mixture, low, high), np.clip(peaks, low, high)])
    return np.sort(places.astype(mixture.log_weights.dtype))


def _heights(rows: canvas.Rows, edges: np.ndarray) -> np.ndarray:
    """Of bars: a density over all rows, whether or not there is a bar over them."""
    return np.histogram(rows.x[:, 0].astype(float), edges, weights=rows.weights)[0] / (
        rows.weights.sum() * np.diff(edges)
    )


def _bars(ax: "Axes", rows: canvas.Rows, edges: np.ndarray) -> np.ndarray:
    heights = _heights(rows, edges)
    ax.hist(edges[:-1], edges.tolist(), weights=heights, **_BARS)
    return heights


def _edges(values: np.ndarray, bins: Any) -> np.ndarray:
    """As numpy has them, but where it chooses how many itself, no more than can be seen."""
    if isinstance(bins, str):
        # The widths that numpy knows of go with those of Freedman and Diaconis (1981), or are wider.
        width = 2 * np.subtract(*np.quantile(values, (0.75, 0.25))) / len(values) ** (1 / 3)
        bins = _MOST_BARS if 0 < width * _MOST_BARS < np.ptp(values) else bins
    return np.histogram_bin_edges(values, bins)
