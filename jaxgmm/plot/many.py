"""Many data sets: how many components they have, and a picture of each of some of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from jaxgmm.families.support import Axis
from jaxgmm.fitting.result import Status
from jaxgmm.ground import checks
from jaxgmm.ground.rows import Evidence
from jaxgmm.ground.sets import Given, read
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.scale import scale_of
from jaxgmm.plot import canvas, kinds, one_column, scatter, shapes, style
from jaxgmm.selection.selections import Selections

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CHOICES = ("even", "unsure")
# More characters than this have no room side by side.
_CHARACTERS = 50
# Width and height of a picture of one data set, in inches, how many of them are across for each one up, and the size
# of points in them.
_PANEL, _ASPECT, _POINTS = (2.3, 2.0), 1.2, 0.4
_SPURIOUS, _ERROR = "not regular", "ERROR"
_CROSS = "x"


def selections(selections: Selections, ax: "Axes | None" = None) -> "Axes":
    """How many of many data sets have how many components: a bar for each number, stacked by form, its count on top.

    Every data set is in one bar. What did not converge on a regular fit is in bars of its own at the right, called as
    in the table: by its status, `not regular` where a component is spurious, and `ERROR` where there is no fit.
    """
    ax = style.axes(ax)
    bars = _bars(selections)
    # Numbers of components first, and after a gap the others.
    tried = sorted({*selections.tried, *selections.n_components[selections.n_components > 0].tolist()})
    others = [name for name in (*Status.__members__, _SPURIOUS, _ERROR) if name in bars]
    labels = [*map(str, tried), *others]
    at = np.array([*range(len(tried)), *range(len(tried) + 1, len(labels) + 1)], float)
    place = np.array([labels.index(label) for label in bars.tolist()], int)
    forms = selections.form
    bottom = np.zeros(len(labels), int)
    for rank, form in enumerate((*selections.forms, None)):
        mine = np.array([which is form for which in forms], bool)
        if mine.any():
            heights = np.bincount(place[mine], minlength=len(labels))
            color, label = (style.NEUTRAL, None) if form is None else (style.color(rank), str(form))
            ax.bar(at, heights, 0.8, bottom=bottom, color=color, label=label)
            bottom += heights
    upright = len(labels) * len(f"{bottom.max():,}") > _CHARACTERS
    above: dict[str, Any] = {"xytext": (0, 3), "textcoords": "offset points", "ha": "center"}
    for x, count in zip(at[bottom > 0], bottom[bottom > 0].tolist(), strict=True):
        ax.annotate(f"{count:,}", (x, count), fontsize="small", rotation=90 if upright else 0, **above)
    ax.set_ylim(0, bottom.max() * (1.2 if upright else 1.1))
    ax.set_xticks(at, labels)
    for text in ax.get_xticklabels()[len(tried) :]:
        text.set(rotation=30, ha="right", rotation_mode="anchor", fontsize="small")
    ax.yaxis.set_major_formatter("{x:,.0f}")
    ax.locator_params(axis="y", integer=True)
    ax.set(xlabel="number of components", ylabel="data sets")
    if len(selections.forms) > 1 and any(form is not None for form in forms):
        style.legend(ax, ax.get_legend_handles_labels()[0])
    return ax


def multiples(
    selections: Selections,
    xs: Any,
    names: Sequence[Any] | None = None,
    *,
    by: Any = None,
    weights: Any = None,
    choose: str = "even",
    n: int = 12,
    columns: Sequence[Any] | None = None,
    axes: Any = None,
) -> np.ndarray:
    """Some of many data sets side by side: the rows of each in the colours of its components, and these as ellipses.

    Two columns of each are shown, or one as a histogram. Components come by their weights, the heaviest first, so that
    those of one colour are the first of each data set. Rows that were set aside are crosses; those far from most of the
    others are counted at the edge. A data set without a mixture has its rows in grey.

    Args:
        selections: what `select_many` gave.
        xs, by, weights: what it was given.
        names: which data sets to show; by default `n` of those that have a mixture.
        choose: how to take these: "even", as many of each number of components as there are, in it from the surest to
            the least sure; "unsure", those where the next candidate is closest behind.
        n: how many.
        columns: the places, or names, of one or two columns. By default the first two of each that vary.
        axes: as many of matplotlib's, or more; by default those of a new figure.

    Returns:
        The axes, one for each data set (c,). Its name stands above it, with k, its number of components.

    Raises:
        ValueError: data sets or columns that there are not, too few axes, or `xs` of other data sets.
        ImportError: without matplotlib.
    """
    choose = checks.one_of("choose", choose, _CHOICES)
    given = read(xs, weights, by, "multiples")
    if given.schema is not None and selections.schema is not None and given.schema != selections.schema:
        raise ValueError(
            f"xs has the columns {list(given.schema.names)}; expected those of the selections, "
            f"{list(selections.schema.names)}."
        )
    places = _places(selections, columns)
    chosen = _chosen(selections, choose, checks.count("n", n), places) if names is None else list(names)
    panels = [_panel(selections, given, name, places) for name in chosen]
    grid = _grid(axes, len(panels))
    # As many rows and components in all, or each picture would compile programs of its own.
    room = max(len(panel.x) for panel in panels)
    most = max((panel.mixture.n_components for panel in panels if panel.mixture is not None), default=0)
    crosses = False
    alike = axes is None and len({tuple(panel.labels or ()) for panel in panels}) == 1
    across = grid[0].get_gridspec().ncols if alike else 1
    for place, (ax, panel) in enumerate(zip(grid, panels, strict=True)):
        ax.set_title(panel.title, loc="left", fontsize="small")
        ax.set_title(panel.chosen(several=len(selections.forms) > 1), loc="right", fontsize="small")
        ax.tick_params(labelsize="x-small")
        crosses |= _draw(ax, panel, room, most)
        if panel.labels is not None:
            ax.set_xlabel(panel.labels[0] if not alike or place + across >= len(panels) else "", fontsize="small")
            ax.set_ylabel(panel.labels[-1] if (not alike or place % across == 0) and len(panel.labels) > 1 else "")
            ax.yaxis.label.set_fontsize("small")
        if panel.mixture is None:
            ax.set_xlabel(selections.errors.get(panel.name, ""), fontsize="small")
    if axes is None and crosses:
        from matplotlib.lines import Line2D

        handle = Line2D([], [], ls="", marker=_CROSS, color="black", label="set aside")
        grid[0].figure.legend(handles=[handle], loc="outside lower right", fontsize="small", frameon=False)
    return grid


class _Panel(NamedTuple):
    """A data set: its rows, which of them have weight and which were set aside, and its mixture in `columns`."""

    name: Any
    x: np.ndarray
    weights: np.ndarray
    aside: np.ndarray
    form: Any
    mixture: Mixture | None
    columns: list[int]
    shown: list[int]
    labels: list[str] | None

    @property
    def present(self) -> np.ndarray:
        """Places of the rows that can be seen."""
        return np.flatnonzero((self.weights > 0) & np.isfinite(self.x[:, self.shown]).all(axis=1))

    @property
    def title(self) -> str:
        """What the data set is called."""
        return ", ".join(map(str, self.name)) if isinstance(self.name, tuple) else str(self.name)

    def chosen(self, *, several: bool) -> str:
        """The number of components, and the form where there are several."""
        if self.mixture is None:
            return "no fit"
        return f"k = {self.mixture.n_clusters}" + (f", {self.form}" if several else "")


def _bars(selections: Selections) -> np.ndarray:
    """The name of the bar that each data set is in."""
    status = np.array([text.split(":")[0] for text in selections.status])
    bars = np.where(selections.regular, selections.n_components.astype(str), _SPURIOUS)
    return np.where(status == Status.CONVERGED.name, bars, status)


def _places(selections: Selections, columns: Sequence[Any] | None) -> list[int] | None:
    """Places of the columns that are asked for."""
    if columns is None:
        return None
    known = [] if selections.schema is None else list(selections.schema.names)
    asked: list[Any] = list(columns) if isinstance(columns, (list, tuple, range, np.ndarray)) else [columns]
    missing = [column for column in asked if isinstance(column, str) and column not in known]
    if missing or not 1 <= len(asked) <= 2:
        raise ValueError(
            f"columns is {columns!r}; expected one or two, by their places"
            + (f" or names: {', '.join(map(repr, known))}." if known else ".")
        )
    return [known.index(column) if isinstance(column, str) else int(column) for column in asked]


def _chosen(selections: Selections, choose: str, n: int, places: list[int] | None) -> list[Any]:
    """Names of up to n data sets that have a mixture of these columns."""
    needed = set() if places is None else set(places)
    fitted = np.array(
        [
            number
            for number, name in enumerate(selections.names)
            if selections.n_components[number] and needed <= set(selections.columns(name))
        ],
        int,
    )
    if not fitted.size:
        raise ValueError("selections has no mixture of these columns, so there is no data set to choose; give names.")
    behind = np.where(np.isnan(selections.behind), np.inf, selections.behind)[fitted]
    if choose == "unsure":
        return [selections.names[number] for number in fitted[np.argsort(behind, kind="stable")[:n]]]
    ks = selections.n_components[fitted]
    known, counts = np.unique(ks, return_counts=True)
    # One of each, the most common first, and again until there are enough.
    taken = np.zeros(len(known), int)
    while taken.sum() < min(n, len(fitted)):
        for place in np.argsort(-counts, kind="stable").tolist():
            taken[place] += taken[place] < counts[place] and taken.sum() < n
    numbers: list[int] = []
    for k, count, some in zip(known, counts, taken, strict=True):
        mine = np.flatnonzero(ks == k)[np.argsort(-behind[ks == k], kind="stable")]
        numbers += fitted[mine[((np.arange(some) + 0.5) * count / max(some, 1)).astype(int)]].tolist()
    return [selections.names[number] for number in numbers]


def _panel(selections: Selections, given: Given, name: Any, places: list[int] | None) -> _Panel:
    """What is drawn of a data set."""
    if name not in selections.names or name not in given.names:
        where = "selections" if name not in selections.names else "xs"
        raise ValueError(f"{where} has no data set {name!r}.")
    number = given.names.index(name)
    part = next(part for part in given.sets if number in part.numbers)
    rows = part.rows(int(np.flatnonzero(part.numbers == number)[0]))
    x, weights = part.x[rows], part.weights[rows]
    aside = np.isin(np.arange(len(x)), selections.outliers.get(name, ()))
    columns = list(selections.columns(name))
    fitted = bool(columns)
    if not fitted:
        # Whatever is wrong with it, its rows can be seen.
        columns, weights = list(range(x.shape[1])), np.ones(len(x), x.dtype)
    shown = columns[:2] if places is None else places
    if not set(shown) <= set(columns):
        raise ValueError(f"data set {name!r} has no column {sorted(set(shown) - set(columns))[0]} that was fitted.")
    names = None if selections.schema is None else [selections.schema.names[place] for place in shown]
    if names is None and (x.shape[1] > 2 or shown not in ([0], [0, 1])):
        names = [f"column {place}" for place in shown]
    form = selections.form[selections.names.index(name)]
    mixture = selections.mixture(name) if fitted else None
    return _Panel(name, x, weights, aside, form, mixture, columns, shown, names)


def _draw(ax: "Axes", panel: _Panel, room: int, most: int) -> bool:
    """A data set on its axes; whether a row that was set aside is to be seen there."""
    present = panel.present
    if not present.size:
        ax.set(xticks=[], yticks=[])
        return False
    x, aside = panel.x[present][:, panel.shown], panel.aside[present]
    weights = np.where(aside & ~aside.all(), 0, panel.weights[present])
    # Repetitions without weight fill it up.
    filled = np.minimum(np.arange(room), len(present) - 1)
    scale = scale_of(x[filled], np.where(np.arange(room) < len(present), weights[filled], 0))
    near = canvas.near(x[weights > 0], weights[weights > 0], np.asarray(scale, float))
    own: Any = panel.weights[present]
    marginal, axes = None, [Axis()] * x.shape[1]
    if panel.mixture is not None:
        mixture = _with_room(panel.mixture, most)
        inside = [panel.columns.index(place) for place in panel.shown]
        marginal = mixture if inside == list(range(len(panel.columns))) else mixture.marginal(inside)
        axes = kinds.axes_of(marginal)
        x, near = kinds.turned(x, axes), kinds.of_lines(near, axes)
    every = canvas.Rows(x, own / own.mean(), panel.labels, near, Evidence(x, own))
    rows = every.of(weights > 0)
    if marginal is None:
        _bare(ax, rows)
    else:
        if len(panel.shown) == 1:
            low, high = canvas.extent(marginal, rows, canvas.OVER_ROWS)
            one_column.draw(ax, marginal, rows, "auto", low[0], high[0])
        else:
            whole = panel.x[present][:, panel.columns]
            responsibilities = np.asarray(mixture.responsibilities(whole[filled]))[: len(x)][weights > 0]
            canvas.aim(marginal, rows, ax)
            scatter.points(ax, marginal, scatter.spread(rows, axes), responsibilities, soft=False, size=_POINTS)
            if all(map(kinds.is_line, axes)):
                shapes.draw(ax, marginal, np.array([0, 1]), (0.5, 0.95), shapes.palette(marginal), fill=False)
            for line, axis in zip((ax.xaxis, ax.yaxis), axes, strict=True):
                kinds.dress(line, axis)
    if len(panel.shown) == 1:
        ax.set_yticks([])
    # What is drawn or counted now is not to move the axes.
    limits = np.array([ax.get_xlim(), ax.get_ylim()])
    ax.set(xlim=limits[0], ylim=limits[1])
    crosses = np.array([*x[aside].T, np.zeros(int(aside.sum()))][:2]).T
    seen = np.all((crosses >= limits[:, 0]) & (crosses <= limits[:, 1]), axis=1)
    ax.scatter(crosses[seen, 0], crosses[seen, 1], s=20, marker=_CROSS, color="black", linewidths=1.2, zorder=3)
    scatter.outside(ax, every)
    return bool(seen.any())


def _bare(ax: "Axes", rows: canvas.Rows) -> None:
    """Rows that nothing is known of but where they are."""
    inside = np.all((rows.x >= rows.near[0]) & (rows.x <= rows.near[1]), axis=1)
    if rows.x.shape[1] == 1:
        ax.hist(rows.x[inside, 0].astype(float), color="0.85", edgecolor="white", linewidth=0.5)
    else:
        scatter.plain(ax, rows.of(inside), _POINTS)


def _with_room(mixture: Mixture, most: int) -> Mixture:
    """The mixture with so many components, of which those after its own are absent."""
    known = mixture.n_clusters
    behind = mixture.n_components - known
    places = np.concatenate([np.arange(most - behind) % known, np.arange(known, known + behind)])
    # In numpy, or every number of components would compile slices of its own.
    whole = jax.tree.map(np.asarray, mixture)
    there = (np.arange(most) < known) | (np.arange(most) >= most - behind)
    weights: Any = np.where(there, whole.log_weights[places], -np.inf)
    return jax.device_put(Mixture(weights.astype(whole.log_weights.dtype), whole.components.take(places)))


def _grid(axes: Any, n: int) -> np.ndarray:
    """As many axes; those left of a new figure are switched off."""
    if axes is None:
        across = min(n, int(np.ceil(np.sqrt(_ASPECT * n))))
        up = -(-n // across)
        size = _PANEL[0] * across, _PANEL[1] * up
        grid = style.pyplot().subplots(up, across, figsize=size, layout="constrained", squeeze=False)[1].ravel()
    else:
        grid = np.asarray(axes, object).ravel()
        if len(grid) < n:
            raise ValueError(f"axes holds {len(grid)} axes; expected {n}, one for each data set.")
    for ax in grid[n:]:
        ax.set_axis_off()
    return grid[:n]
