"""Rows that stand alone: too far from everything for a mixture of these data, and too few for a component."""

import dataclasses
from collections.abc import Generator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.families.family import Kernel
from jaxgmm.ground.programs import program
from jaxgmm.ground.rows import Evidence, map_rows
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.passes import block_size_of, of_passes, with_kernel
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
    """How many of n rows may stand alone: a twentieth, or up to 5 of them if these are no more than a tenth."""
    return min(max(int(_SHARE * n), min(_LEAST, n // 10)), _MOST)


@dataclasses.dataclass(frozen=True, eq=False)
class Seen:
    """Rows beside a mixture that was fitted to some of them.

    Fields: `far`, `suspect`, `doubtful` (n,), which rows are beyond each of the chances; `weights` (k,) and `means`
    (k, d) of the mixture.
    """

    far: np.ndarray
    suspect: np.ndarray
    doubtful: np.ndarray
    weights: np.ndarray
    means: np.ndarray


def standing_alone(
    x: np.ndarray, present: np.ndarray, scale: np.ndarray, seen: Seen, most: int
) -> Generator[np.ndarray, Seen, np.ndarray]:
    """Which of the rows (n, d) stand alone beside a mixture fitted to those that are present: truths (n,).

    A row is far if its density is further below the highest of each component that holds more than d + 2 rows than it
    would be of one in so many Gaussian rows with probability 1e-10: 8 or 9 standard deviations in a few columns, and
    more where a component has few rows. It stands alone if no more than d other such rows, or 4 where d is larger, are
    nearer to it than half-way to these components. As rows that are far draw a mixture towards themselves, those in
    doubt are left out of it first: this asks for what is seen beside the mixture of the rows that it says remain, as
    often as it needs that. If more than `most` are far, these are the tails of the data, and none of them stands alone.
    """
    if not seen.suspect.any():
        return seen.suspect
    for _ in range(_PASSES):
        remain = present & ~seen.doubtful
        seen = yield remain
        if np.array_equal(remain, present & ~seen.doubtful):
            break
    places = np.flatnonzero(seen.far & ~remain)
    alone = np.zeros(present.shape, bool)
    if places.size <= most:
        alone[places] = without_company(x[places], seen, int(np.sum(remain)), scale)
    return alone


@program(work=of_passes(1))
def beyond(mixture: Mixture, rows: Evidence, remain: Bool[Array, " n"]) -> Bool[Array, "c n"]:
    """Which rows are beyond each of the chances beside a mixture that was fitted to those that remain.

    None where there is a noise component: rows that would stand alone are what it is for. None of what is counted or
    has bounds, either: there it is no matter of how far out a row is.
    """
    if mixture.components.n_background or mixture.components.support != "real":
        return jnp.zeros((len(_CHANCES), rows.n), bool)
    components, means = mixture.components, mixture.means
    inside, outside = _limits(mixture.weights, jnp.sum(remain), means.shape[1])

    def block(given: Any, rows: tuple[Evidence, Array]) -> Bool[Array, "b c"]:
        kernel, means, inside, outside = given
        evidence, own = rows
        depth = _depth(kernel, means, evidence)
        limits = jnp.where(own[:, None, None], inside, outside)
        return jnp.all((depth[:, None] > limits) | (limits == -jnp.inf), axis=2) & (evidence.weights > 0)[:, None]

    def of(kernel: Kernel, rows: Evidence) -> Bool[Array, "n c"]:
        given = kernel, means, inside, outside
        return map_rows(block, given, (rows, remain), block_size_of(mixture, rows), rows.shards)

    x = jnp.where(rows.weights[:, None] > 0, rows.x, 0)
    rows = dataclasses.replace(rows.without_patterns(), x=x, labels=None, log_evidence=None)
    return with_kernel(components, means.shape[0], rows, of, own=True).T


def _depth(kernel: Kernel, means: Float[Array, "k d"], rows: Evidence) -> Float[Array, "n k"]:
    """By how much the log-density of a row lies below the highest that a row can have of which as much is known."""
    if rows.partial:
        there = [dataclasses.replace(rows, x=jnp.broadcast_to(mean, rows.x.shape)) for mean in means]
        highest = [kernel.log_prob(kernel.read(one))[:, place] for place, one in enumerate(there)]
        return jnp.stack(highest, axis=1) - kernel.log_prob(kernel.read(rows))
    highest = jnp.diagonal(kernel.log_prob(kernel.read(Evidence(means, jnp.ones_like(means[:, 0])))))
    return highest - kernel.log_prob(kernel.read(rows))


def _limits(weights: Float[Array, " k"], n: Int[Array, ""], d: int) -> tuple[Float[Array, "c k"], Float[Array, "c k"]]:
    """How far the log-density of rows of a component may lie below its highest, of its own and of others, by chance.

    Beside components of no more than d + 2 of the n rows a row may be as far as it likes, unless there are no others.

    Source: the bound of chi-squared by Laurent & Massart (2000), Ann. Statist. 28.
    """
    m = weights * n
    tells = m > d + 2
    # What a component of a handful of rows says of its width is not believed to be that vague.
    m = jnp.maximum(m, HANDFUL * (d + 1))
    tail = jnp.log(n.astype(m.dtype)) - np.log(np.array(_CHANCES, m.dtype))[:, None]
    # Distances from a Gaussian that was fitted to m other rows are larger by so much on average.
    outside = (d + 2 * jnp.sqrt(d * tail) + 2 * tail) * (m + 1) / (m - d - 1)
    # A row that the Gaussian was fitted to as well drew it nearer.
    inside = outside / (1 + outside / (m - 1))
    beside = jnp.where(jnp.any(tells), -jnp.inf, jnp.inf)
    return jnp.where(tells, inside / 2, beside), jnp.where(tells, outside / 2, beside)


def without_company(x: np.ndarray, seen: Seen, n: int, scale: np.ndarray) -> np.ndarray:
    """Which of the rows (m, d) have no more than a few others of them nearer than half-way to the components, (m,)."""
    means = seen.means[seen.weights * n > x.shape[1] + 2]
    if not len(means):
        return np.zeros(len(x), bool)

    def distances(row: np.ndarray, others: np.ndarray) -> np.ndarray:
        # In float64, and relative to the farthest, so that no square is infinite.
        gaps = (row.astype(np.float64) - others) / scale
        # What is not seen of one of them does not set them apart.
        gaps = np.where(np.isnan(gaps), 0, gaps)
        most = np.maximum(np.max(np.abs(gaps), axis=1), np.finfo(float).tiny)
        return most * np.sqrt(np.sum((gaps / most[:, None]) ** 2, axis=1))

    # A row at a time, or memory would grow with the square of their number.
    near = [np.sum(distances(row, x) < np.min(distances(row, means)) / 2) - 1 for row in x]
    return np.array(near, int) <= min(x.shape[1], _COMPANY)
