"""Rows that stand alone: too far from everything for a mixture of these data, and too few for a component."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxgmm.ground.programs import program
from jaxgmm.ground.rows import Evidence, block_size_for, map_rows
from jaxgmm.model.mixture import Mixture, of_passes
from jaxgmm.selection.restarts import HANDFUL

# Chances with which the farthest of so many rows of a Gaussian is so far: to be far, to have a look at all rows, as few
# that are far together may hide each other, and to be in doubt.
_CHANCES = (1e-10, 1e-2, 1e-1)
_PASSES = 8
# More rows that are far than this share, and these numbers at least and at most, are the tails of the data.
_SHARE, _LEAST, _MOST = 0.05, 5, 2000
# More than so many that are far together are a group, however many columns there are.
_COMPANY = 4


def most_alone(n: int) -> int:
    """How many of n rows may stand alone: a twentieth, but at least 5 and at most 2000."""
    return min(max(int(_SHARE * n), _LEAST), _MOST)


def standing_alone(
    mixture: Mixture, rows: Evidence, scale: Any, refit: Callable[[np.ndarray], Mixture], most: int
) -> np.ndarray:
    """Which of the rows stand alone beside a mixture fitted to them: truths (n,), false of absent ones.

    A row is far if its density is further below the highest of each component that holds more than d + 2 rows than it
    would be of one in so many Gaussian rows with probability 1e-10: 8 or 9 standard deviations in a few columns, and
    more where a component has few rows. It stands alone if no more than d other such rows, or 4 where d is larger, are
    nearer to it than half-way to these components. As rows that are far draw a mixture towards themselves, those in
    doubt are left out of it first, by `refit`, which is told which rows remain, truths (n,), and returns the mixture of
    these. If more than `most` are far, these are the tails of the data, and none of them stands alone.
    """
    present = np.asarray(rows.weights) > 0
    far, suspect, doubtful = _beyond(mixture, rows, present)
    if not suspect.any():
        return suspect
    for _ in range(_PASSES):
        remain = present & ~doubtful
        mixture = refit(remain)
        far, _, doubtful = _beyond(mixture, rows, remain)
        if np.array_equal(remain, present & ~doubtful):
            break
    places = np.flatnonzero(far & ~remain)
    alone = np.zeros(far.shape, bool)
    if places.size <= most:
        alone[places] = _without_company(np.asarray(rows.x)[places], mixture, int(np.sum(remain)), np.asarray(scale))
    return alone


def _beyond(mixture: Mixture, rows: Evidence, remain: np.ndarray) -> np.ndarray:
    """Which rows are beyond each of the chances, (3, n), beside a mixture that was fitted to those that remain."""
    limits = np.stack([_limits(mixture, rows.x.shape[1], remain, chance) for chance in _CHANCES], axis=1)
    return np.asarray(_compared(mixture, rows, jnp.asarray(remain), *map(jnp.asarray, limits.astype(rows.x.dtype))))


def _limits(mixture: Mixture, d: int, remain: np.ndarray, chance: float) -> np.ndarray:
    """How far the log-density of a component's own rows, and of others, may lie below its highest, (2, k).

    Beside components of no more than d + 2 rows a row may be as far as it likes, unless there are no others.

    Source: the bound of chi-squared by Laurent & Massart (2000), Ann. Statist. 28.
    """
    n = int(np.sum(remain))
    m = np.exp(np.asarray(mixture.log_weights, np.float64)) * n
    tells = m > d + 2
    # What a component of a handful of rows says of its width is not believed to be that vague.
    m = np.maximum(m, HANDFUL * (d + 1))
    tail = np.log(n / chance)
    # Distances from a Gaussian that was fitted to m other rows are larger by so much on average.
    outside = (d + 2 * np.sqrt(d * tail) + 2 * tail) * (m + 1) / (m - d - 1)
    # A row that the Gaussian was fitted to as well drew it nearer.
    inside = outside / (1 + outside / (m - 1))
    return np.where(tells, np.stack([inside, outside]) / 2, -np.inf if tells.any() else np.inf)


@program(work=of_passes(1))
def _compared(
    mixture: Mixture,
    rows: Evidence,
    remain: Bool[Array, " n"],
    inside: Float[Array, "c k"],
    outside: Float[Array, "c k"],
) -> Bool[Array, "c n"]:
    components = mixture.components
    highest = jnp.diagonal(components.log_prob(components.read(components.means)))

    def block(given: Any, rows: tuple[Array, Array, Array]) -> Bool[Array, "b c"]:
        components, highest, inside, outside = given
        x, weights, own = rows
        depth = highest - components.log_prob(components.read(x))
        limits = jnp.where(own[:, None, None], inside, outside)
        return jnp.all((depth[:, None] > limits) | (limits == -jnp.inf), axis=2) & (weights > 0)[:, None]

    given = components, highest, inside, outside
    x = jnp.where(rows.weights[:, None] > 0, rows.x, 0)
    size = block_size_for(rows.n, highest.size * x.shape[1])
    return map_rows(block, given, (x, rows.weights, remain), size).T


def _without_company(x: np.ndarray, mixture: Mixture, n: int, scale: np.ndarray) -> np.ndarray:
    """Which of the rows (m, d) have no more than a few others of them nearer than half-way to the components, (m,)."""
    means, weights = np.asarray(mixture.means), np.exp(np.asarray(mixture.log_weights))
    means = means[weights * n > x.shape[1] + 2]
    if not len(means):
        return np.zeros(len(x), bool)

    def distances(row: np.ndarray, others: np.ndarray) -> np.ndarray:
        # In float64, and relative to the farthest, so that no square is infinite.
        gaps = (row.astype(np.float64) - others) / scale
        most = np.maximum(np.max(np.abs(gaps), axis=1), np.finfo(float).tiny)
        return most * np.sqrt(np.sum((gaps / most[:, None]) ** 2, axis=1))

    # A row at a time, or memory would grow with the square of their number.
    near = [np.sum(distances(row, x) < np.min(distances(row, means)) / 2) - 1 for row in x]
    return np.array(near, int) <= min(x.shape[1], _COMPANY)
