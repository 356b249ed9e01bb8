"""What a picture is drawn from: checked mixtures and rows, the region it shows, and the grid over it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from jaxgmm.ground import containers, frames
from jaxgmm.ground.programs import program
from jaxgmm.model.mixture import Mixture, check_mixture, check_rows, check_stack
from jaxgmm.plot import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Points along each axis of a map: half of what a screen shows of it, and contours interpolate.
N_GRID = 256
# More rows than this show no more; and up to so many, their markers can be told apart.
N_SHOWN, N_MARKED = 10_000, 1_000
# How far around its components a mixture is shown, in their standard deviations.
_AROUND = 3
_ADVICE = {
    1: "Use plot.histogram for one column, or mixture.marginal([i]) with x[:, [i]] for one of several.",
    2: "Use plot.pairs, or two columns: mixture.marginal([i, j]) with x[:, [i, j]]. For one column, plot.histogram.",
}


class Rows(NamedTuple):
    """Rows that are present: `x` (n, d) and `weights` (n,), which average one; `names` of the columns, if known."""

    x: np.ndarray
    weights: np.ndarray
    names: list[str] | None

    def of(self, chosen: np.ndarray) -> "Rows":
        """These rows."""
        return Rows(self.x[chosen], self.weights[chosen], self.names)

    def columns(self, columns: list[int]) -> "Rows":
        """These columns."""
        return Rows(self.x[:, columns], self.weights, self.names and [self.names[column] for column in columns])

    def shown(self) -> "Rows":
        """As many of the rows as can be seen: the same ones each time, in an order of no meaning."""
        return self.of(np.random.default_rng(0).permutation(len(self.x))[:N_SHOWN])


class Plane(NamedTuple):
    """A grid over two columns: the coordinates along each, and all points (n, 2), the first column running fastest."""

    first: np.ndarray
    second: np.ndarray
    points: np.ndarray

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
    """The rows that have weight, and the mixture in their floating point type."""
    names = frames.names_of(x)
    x = containers.plain("x", x) if names else x
    mixture, rows = check_rows(mixture, x, weights)
    kept = np.asarray(rows.weights) > 0
    present = np.asarray(rows.weights)[kept]
    columns = [str(name) for name in names] or None
    return mixture, Rows(np.asarray(rows.x)[kept], present / present.mean(), columns)


def around(mixture: Mixture, reach: float = _AROUND) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest of what the components that are present hold, in each column."""
    kept = style.present(mixture)
    means, spread = np.asarray(mixture.means, float)[kept], deviations(mixture)[kept]
    return np.min(means - reach * spread, axis=0), np.max(means + reach * spread, axis=0)


def deviations(mixture: Mixture) -> np.ndarray:
    """Standard deviations of the components (k, d)."""
    return np.sqrt(np.diagonal(covariances(mixture), axis1=1, axis2=2))


def covariances(mixture: Mixture) -> np.ndarray:
    """Dense covariances of the components (k, d, d), finite where they are present."""
    dense = np.asarray(_covariances(mixture), float)
    if not np.all(np.isfinite(dense[style.present(mixture)])):
        raise ValueError("mixture has components without a finite covariance, so there is no extent to draw them in.")
    return dense


@program
def _covariances(mixture: Mixture) -> jax.Array:
    return mixture.covariances


def extent(mixture: Mixture, rows: Rows | None) -> tuple[np.ndarray, np.ndarray]:
    """The region that rows take up with a margin, or the mixture where there are none or all are the same."""
    low, high = around(mixture)
    if rows is not None:
        least, most = np.min(rows.x, axis=0).astype(float), np.max(rows.x, axis=0).astype(float)
        varies = most > least
        margin = 0.05 * (most - least)
        low, high = np.where(varies, least - margin, low), np.where(varies, most + margin, high)
    if mixture.components.support != "real":
        low = np.maximum(low, 0)
    return low, high


def plane(mixture: Mixture, rows: Rows | None, ax: "Axes") -> Plane:
    """A grid over what the axes show already and over the rows, or else over the mixture; the axes then show all of it.

    Limits that the caller has set stay.
    """
    low, high = extent(mixture, rows)
    shown = np.sort([ax.get_xlim(), ax.get_ylim()], axis=1).T
    if not (ax.get_autoscalex_on() or ax.get_autoscaley_on()):
        low, high = shown
    elif ax.has_data():
        low, high = shown if rows is None else (np.minimum(low, shown[0]), np.maximum(high, shown[1]))
    first, second = (line(mixture, *ends) for ends in zip(low, high, strict=True))
    points = np.stack(np.meshgrid(first, second), axis=-1).reshape(-1, 2)
    return Plane(first, second, points)


def line(mixture: Mixture, low: float, high: float, n: int = N_GRID) -> np.ndarray:
    """Coordinates from low to high that are numbers of the mixture's type, so values are drawn where they are taken."""
    return np.unique(np.linspace(low, high, n).astype(mixture.means.dtype))


def names_of(names: Sequence[str] | None, rows: Rows | None, n_columns: int) -> list[str] | None:
    """Names of the columns: the caller's, or else those of the rows."""
    if names is None:
        return None if rows is None else rows.names
    if len(names) != n_columns:
        raise ValueError(f"names holds {len(names)} names; expected {n_columns}, one for each column.")
    return list(names)
