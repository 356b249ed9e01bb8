"""What a picture is drawn from: checked mixtures and rows, the region it shows, and the grid over it."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from jaxgmm.families.support import Axis
from jaxgmm.ground import containers, frames, known
from jaxgmm.ground.programs import program
from jaxgmm.ground.rows import Evidence
from jaxgmm.model.mixture import Mixture, check_mixture, check_rows, check_stack
from jaxgmm.model.scale import scale_of
from jaxgmm.plot import kinds, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Points along each axis of a map: half of what a screen shows of it, and contours interpolate.
N_GRID = 256
# More rows than this show no more; and up to so many, their markers can be told apart.
N_SHOWN, N_MARKED = 10_000, 1_000
# How far around its components a mixture is shown, in their standard deviations: by itself, and at least over rows,
# where 95 % ellipses fit in.
_AROUND, OVER_ROWS = 3, 2.6
# Of at least so many rows, a share on either side, or three of few, may be far from the others: by more than so many
# times what these take up, which would leave them too little of the picture.
_MANY, _SHARE, _FAR = 10, 0.01, 3
# How far a map stays from where numbers end, as a share of what it shows: there a density may be infinite, or none.
_INSIDE = 1e-3
_ADVICE = {
    1: "Use plot.histogram for one column, or mixture.marginal([i]) with x[:, [i]] for one of several.",
    2: "Use plot.pairs, or two columns: mixture.marginal([i, j]) with x[:, [i, j]]. For one column, plot.histogram.",
}


class Rows(NamedTuple):
    """Rows that are present: `x` (n, d), NaN where an entry is not seen, and `weights` (n,), which average one.

    `names` of the columns, if known; `near`, from where to where most rows are in each; `evidence`, all that is known
    of the rows.
    """

    x: np.ndarray
    weights: np.ndarray
    names: list[str] | None
    near: tuple[np.ndarray, np.ndarray]
    evidence: Evidence

    def of(self, chosen: np.ndarray) -> "Rows":
        """These rows."""
        evidence = jax.tree.map(lambda array: array[chosen], self.evidence)
        return self._replace(x=self.x[chosen], weights=self.weights[chosen], evidence=evidence)

    def columns(self, columns: list[int]) -> "Rows":
        """These columns."""
        low, high = self.near
        names = self.names and [self.names[column] for column in columns]
        near = low[columns], high[columns]
        return Rows(self.x[:, columns], self.weights, names, near, self.evidence.of_columns(columns))

    @property
    def known(self) -> Any:
        """What a mixture is asked about: the rows themselves where nothing else is known of them."""
        others = dataclasses.replace(self.evidence, x=None, weights=None)  # type: ignore[arg-type]
        return self.evidence if jax.tree.leaves(others) else self.x

    def shown(self) -> "Rows":
        """As many of the rows as can be seen: the same ones each time, in an order of no meaning."""
        return self.of(_thinned(len(self.x)))

    @property
    def far(self) -> np.ndarray:
        """Whether a column has rows far from most of the others."""
        return np.any((self.x < self.near[0]) | (self.x > self.near[1]), axis=0)


class Plane(NamedTuple):
    """A grid over two columns: the coordinates along each, and all points (n, 2), the first column running fastest.

    `ends`, from where to where each is shown, (2, 2).
    """

    first: np.ndarray
    second: np.ndarray
    points: np.ndarray
    ends: np.ndarray

    def image(self, values: Any) -> np.ndarray:
        """Values at the points, as matplotlib takes them."""
        return np.asarray(values, float).reshape(self.second.size, self.first.size)


def single(mixture: Any, n_columns: int | None = None) -> Mixture:
    """`mixture` if it is a single one, of so many columns."""
    if shape := check_stack(mixture):
        raise ValueError(
            f"mixture holds a stack of mixtures of shape {shape}; a picture shows a single one. Take one of them with "
            "jax.tree.map(lambda leaf: leaf[0], mixture)."
        )
    if n_columns is not None and mixture.n_columns != n_columns:
        raise ValueError(f"mixture has {mixture.n_columns} columns; expected {n_columns}. {_ADVICE[n_columns]}")
    return check_mixture(mixture)


def read(mixture: Mixture, x: Any, weights: Any) -> tuple[Mixture, Rows]:
    """The rows that have weight and an entry that is seen, and the mixture in their floating point type."""
    names = frames.names_of(x)
    x = containers.plain("x", x) if names else x
    mixture, rows = check_rows(mixture, x, weights)
    # On the host, where no operation is a program of its own.
    told: Evidence = jax.device_get(dataclasses.replace(rows.without_patterns(), shards=None))
    kept = told.weights > 0
    kept = kept if told.seen is None else kept & told.seen.any(axis=1)
    if not kept.any():
        raise ValueError("x has no row with an entry that is seen; expected one at least, or there is nothing to draw.")
    told = jax.tree.map(lambda array: array[kept], told)
    values = np.asarray(told.x) if told.seen is None else np.where(told.seen, told.x, np.nan)
    axes = kinds.axes_of(mixture)
    values = kinds.turned(values, axes)
    present = np.asarray(told.weights)
    columns = [str(name) for name in names] or None
    some = _thinned(len(values))
    ends = kinds.of_lines(near(values[some], present[some]), axes)
    return mixture, Rows(values, present / present.mean(), columns, ends, told)


def _thinned(n: int) -> np.ndarray:
    """As many of n rows as can be seen, in an order of no meaning."""
    return np.random.default_rng(0).permutation(n)[:N_SHOWN]


def lower_quantile(values: np.ndarray, weights: np.ndarray, quantile: Any) -> float:
    """The largest value below which lies no more than this share of the weight."""
    if not 0 <= quantile <= 1:
        raise ValueError(f"quantile is {quantile!r}; expected a share of the rows from 0 to 1, such as 0.01.")
    order = np.argsort(values)
    below = np.cumsum(weights[order]) - weights[order]
    return float(values[order][below <= quantile * weights.sum()][-1])


def _lower(values: np.ndarray, weights: np.ndarray, share: Any) -> float:
    """The same of the values that are no NaN; infinite if there are none."""
    seen = ~np.isnan(values)
    return lower_quantile(values[seen], weights[seen], share) if seen.any() else np.inf


def deviations(mixture: Mixture) -> np.ndarray:
    """How wide the components are in each column (k, d), in its units, by the family's `variances`."""
    wide = np.sqrt(np.asarray(_variances(mixture), float))
    if not np.all(np.isfinite(wide[style.present(mixture)])):
        raise ValueError(
            "mixture has components whose variances are no finite numbers of its type, so there is no extent to draw "
            "them in; expected smaller ones, or float64."
        )
    return wide


def centers(mixture: Mixture) -> np.ndarray:
    """A row in the middle of each component (k, d)."""
    return np.asarray(_centers(mixture), float)


def covariances(mixture: Mixture) -> np.ndarray:
    """Dense covariances of the components (k, d, d), finite where they are present."""
    dense = np.asarray(_covariances(mixture), float)
    if not np.all(np.isfinite(dense[style.present(mixture)])):
        raise ValueError("mixture has components without a finite covariance, so there is no extent to draw them in.")
    return dense


@program
def _variances(mixture: Mixture) -> jax.Array:
    return mixture.components.variances()


@program
def _centers(mixture: Mixture) -> jax.Array:
    return mixture.components.centers


@program
def _covariances(mixture: Mixture) -> jax.Array:
    return mixture.covariances


def near(x: np.ndarray, weights: np.ndarray, scale: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """From where to where the rows of each column are not far from most of them; `scale` if it is known already."""
    if len(x) < _MANY:
        return np.full(x.shape[1], -np.inf), np.full(x.shape[1], np.inf)
    share = np.clip(3 / len(x), _SHARE, 0.25)
    gaps = np.isnan(x)
    low, high = (
        np.array([sign * _lower(sign * column, weights, share) for column in x.T.astype(float)]) for sign in (1, -1)
    )
    if scale is None:
        # Where most rows hold one value, as in a column of zeros, the scale knows of the others.
        rows = known.evidence(x, weights, missing=gaps if gaps.any() else "error", arranged=False)
        scale = np.asarray(scale_of(rows), float)
    reach = _FAR * np.maximum(high - low, 3 * scale)
    return low - reach, high + reach


def extent(mixture: Mixture, rows: Rows | None, reach: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """The region that rows take up with a margin, or the mixture where there are none or all are the same.

    Rows far from most of the others do not count. What is within `reach` standard deviations of components does, unless
    they are much larger than what rows take up, or as far as rows that do not count.
    """
    kept, axes = style.present(mixture), kinds.axes_of(mixture)
    means, spread = centers(mixture)[kept], deviations(mixture)[kept]
    low, high = np.min(means - _AROUND * spread, axis=0), np.max(means + _AROUND * spread, axis=0)
    if rows is not None:
        x = rows.x.astype(float)
        inside = (x >= rows.near[0]) & (x <= rows.near[1])
        least, most = np.min(x, axis=0, where=inside, initial=np.inf), np.max(x, axis=0, where=inside, initial=-np.inf)
        varies = most > least
        margin = 0.05 * (most - least)
        low, high = np.where(varies, least - margin, low), np.where(varies, most + margin, high)
        if reach:
            ends = means - reach * spread, means + reach * spread
            fits = np.where(
                rows.far,
                (ends[0] >= rows.near[0]) & (ends[1] <= rows.near[1]),
                2 * reach * spread <= rows.near[1] - rows.near[0],
            )
            low = np.minimum(low, np.min(ends[0], axis=0, where=fits, initial=np.inf))
            high = np.maximum(high, np.max(ends[1], axis=0, where=fits, initial=-np.inf))
    low = np.maximum(low, [axis.low - kinds.BESIDE * axis.whole for axis in axes])
    high = np.minimum(high, [axis.high for axis in axes])
    size = np.maximum(np.abs(low), np.abs(high))
    wide = high - low > 64 * np.finfo(mixture.log_weights.dtype).eps * size
    margin = np.where(wide, 0, np.where(size > 0, 0.05 * size, 1))
    # All levels, and the whole circle, whatever rows there are.
    first, last = np.array([kinds.whole_of(axis) for axis in axes]).T
    return np.where(np.isfinite(first), first, low - margin), np.where(np.isfinite(last), last, high + margin)


def view(mixture: Mixture, rows: Rows | None, ax: "Axes", reach: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """The region of two columns that axes are to show: what they do already and the rows, or else the mixture.

    Limits that the caller has set stay. Where there are rows far from most of the others, axes that show these do not.
    """
    low, high = extent(mixture, rows, reach)
    shown = np.sort([ax.get_xlim(), ax.get_ylim()], axis=1).T
    if ax.has_data() and rows is None:
        low, high = shown
    elif ax.has_data() and rows is not None:
        fits = ~rows.far | ((shown[0] >= rows.near[0]) & (shown[1] <= rows.near[1]))
        low, high = np.where(fits, np.minimum(low, shown[0]), low), np.where(fits, np.maximum(high, shown[1]), high)
    free = np.array([ax.get_autoscalex_on(), ax.get_autoscaley_on()])
    return np.where(free, low, shown[0]), np.where(free, high, shown[1])


def aim(mixture: Mixture, rows: Rows, ax: "Axes") -> None:
    """Have axes that find their limits by themselves leave out rows far from most of the others."""
    low, high = view(mixture, rows, ax, OVER_ROWS)
    if rows.far[0] and ax.get_autoscalex_on():
        ax.set_xlim(low[0], high[0])
    if rows.far[1] and ax.get_autoscaley_on():
        ax.set_ylim(low[1], high[1])


def plane(mixture: Mixture, rows: Rows | None, ax: "Axes") -> Plane:
    """A grid over what the axes show already and over the rows, or else over the mixture; the axes then show all of it.

    Limits that the caller has set stay.
    """
    ends = np.stack(view(mixture, rows, ax), axis=1)
    first, second = (along(mixture, axis, *pair) for axis, pair in zip(kinds.axes_of(mixture), ends, strict=True))
    points = np.stack(np.meshgrid(first, second), axis=-1).reshape(-1, 2)
    # Where all of a map is shown, its ends are those of what is drawn.
    drawn = np.array([first[[0, -1]], second[[0, -1]]])
    near = np.abs(drawn - ends) < 2 * _INSIDE * np.diff(ends)
    return Plane(first, second, points, np.where(near & np.isfinite(ends), ends, drawn))


def line(mixture: Mixture, low: float, high: float, n: int = N_GRID) -> np.ndarray:
    """Coordinates from low to high that are numbers of the mixture's type, so values are drawn where they are taken."""
    return np.unique(np.linspace(low, high, n).astype(mixture.log_weights.dtype))


def along(mixture: Mixture, axis: Axis, low: float, high: float) -> np.ndarray:
    """The same where a column has numbers, and where a density is one."""
    if axis.whole:
        return np.unique(np.round(line(mixture, max(low, axis.low), min(high, axis.high))))
    return line(mixture, *inside(axis, low, high))


def inside(axis: Axis, low: float, high: float) -> tuple[float, float]:
    """Low and high, a little away from where numbers end."""
    step = 0 if axis.around else _INSIDE * (high - low)
    return max(low, axis.low + step), min(high, axis.high - step)


def names_of(names: Sequence[str] | None, rows: Rows | None, n_columns: int) -> list[str] | None:
    """Names of the columns: the caller's, or else those of the rows."""
    if names is None:
        return None if rows is None else rows.names
    if isinstance(names, str) or len(names) != n_columns:
        raise ValueError(f"names holds {len(names)} names; expected {n_columns}, one for each column.")
    return list(names)
