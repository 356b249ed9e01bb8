"""The scale of a data set, made once: what the floor, seedings and the rule for spurious components are relative to."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxgmm.ground import known
from jaxgmm.ground.programs import program
from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.ground.rows import Evidence, block_size_for, sum_over_blocks

# A row at a distance D from n others moves the mean by D / n and, after so many passes, the center by about D / n^15.
_CENTERINGS = 3
_WEIGHINGS = 2
# What a Gaussian of standard deviation 1 has after these weighings.
_GAUSSIAN = 1.0379553537
# Numbers of rows for which it does not pay to compile good machine code.
_FEW = 2**14
# By which a column varies whose values differ by no more than rounding.
_ROUNDINGS = 4


@record
class Spread:
    """Where the columns of a data set are, and how far they spread: `center` and `scale` (d,)."""

    center: Leaf
    scale: Leaf


def scale_of(x: Any, weights: Any = None) -> Float[Array, " d"]:
    """How far each column spreads, in its own units, such that no single row decides it.

    The exponential of a mean of log|x - c|, in units in which that of a Gaussian is its standard deviation. The center
    c is the mean, drawn to where most rows are by passes that weigh rows by 1 / (1 + ((x - c) / width)^2). The mean of
    logarithms is taken twice with weights r^2 / (1 + r^2)^(9/8) of r = (x - c) / scale. So neither rows that are far
    out decide it nor those that lie at c, of which there may be many in a column that is mostly zeros. All of it is
    sums over rows and the least of distances: parts of the rows may be anywhere, and their order does not matter.

    Floors of covariances are relative to its square: hand it to `m_step`, and to any verb that has an argument `scale`,
    where the rows are only a part of the data set or it is needed more than once.

    Args:
        x: rows (n, d), in any units; a row that holds NaN or inf under `jit` takes no part.
        weights: weight of each row (n,), not negative. Default ones.

    Returns:
        (d,), positive. Of a column that varies by no more than its rounding, that; of zeros, 1. NaN if no row takes
        part, which can be under `jit` alone.

    Raises:
        TypeError, ValueError: arguments of the wrong kind, shape or sign, or, outside `jit`, NaN or inf in `x`.

    >>> import jax, jaxgmm
    >>> x = jax.random.normal(jax.random.key(0), (1000, 1)).at[0].set(1e6)
    >>> f"{x.std():.0f} {jaxgmm.scale_of(x)[0]:.2f}"
    '31607 0.99'
    """
    rows = known.evidence(x, weights)
    with rows.on_devices():
        return scale_from(rows)


def floor_of(scale: Float[Array, " d"], regularization: Float[Array, ""]) -> Float[Array, " d"]:
    """The least variance of each column, (d,), for covariances in data of this scale."""
    return regularization * scale**2


def spread_of(blocks: Evidence) -> Spread:
    """Center and scale of rows in blocks, as `Evidence.in_blocks` leaves them: finite where absent."""
    # Many loops read the rows: behind a barrier, or XLA would make a copy of them for some.
    blocks = jax.lax.optimization_barrier(blocks)
    x = blocks.x
    values = Evidence(x, blocks.weights, seen=blocks.seen)
    info = jnp.finfo(x.dtype)
    # Above the smallest number, of which the root of a root would come back as 0.
    least = 16 * info.tiny

    def mean(of: Callable[..., tuple[Array, Array]], *given: Array) -> Float[Array, " d"]:
        """Of a value of each row with a share in its weight, as `of(x, *given)` gives both."""

        def block(given: tuple[Array, ...], rows: Evidence) -> tuple[Array, Array]:
            values, shares = of(rows.x, *given)
            shares = shares * rows.weights[:, None]
            shares = shares if rows.seen is None else jnp.where(rows.seen, shares, 0)
            return jnp.sum(shares * values, axis=0), jnp.sum(shares, axis=0)

        total, share = sum_over_blocks(block, given, values, blocks.shards)
        return total / jnp.where(share > 0, share, 1)

    def closer(center: Float[Array, " d"], _: None) -> tuple[Float[Array, " d"], None]:
        def root(x: Array, center: Array) -> tuple[Array, Array]:
            away = jnp.maximum(jnp.abs(x - center), least)
            return jnp.sqrt(jnp.sqrt(jnp.sqrt(away))), jnp.ones_like(x)

        width = 2 * jnp.maximum(mean(root, center) ** 8, info.tiny)

        def near(x: Array, center: Array, width: Array) -> tuple[Array, Array]:
            return x - center, 1 / (1 + ((x - center) / width) ** 2)

        return center + mean(near, center, width), None

    # Differences from a row first, or the digits of data far from zero would be lost.
    start = blocks.first_row
    center = start + mean(lambda x, start: (x - start, jnp.ones_like(x)), start)
    center, _ = jax.lax.scan(closer, center, None, length=_CENTERINGS)
    nearest = _nearest(blocks, center)
    rounding = _ROUNDINGS * info.eps * jnp.abs(nearest)

    def weighed(scale: Float[Array, " d"], first: Bool[Array, ""]) -> tuple[Float[Array, " d"], None]:
        def of(x: Array, first: Array, scale: Array, center: Array, nearest: Array, rounding: Array) -> Any:
            # What the first of these means does not use must not overflow.
            square = 1 + jnp.where(first, 0, (x - center) / scale) ** 2
            share = (1 - 1 / square) / jnp.sqrt(jnp.sqrt(jnp.sqrt(square)))
            # Rows that hold the value next to the center would pull the first of these means down to nothing.
            share = jnp.where(first, jnp.abs(x - nearest) > rounding, share)
            return jnp.log(jnp.maximum(jnp.abs(x - center), least)), share

        return jnp.exp(mean(of, first, scale, center, nearest, rounding)), None

    scale, _ = jax.lax.scan(weighed, jnp.ones_like(center), jnp.arange(1 + _WEIGHINGS) == 0)
    # A column that varies by no more than its own rounding is constant: any scale does, so one in its own unit.
    varies = jnp.max(x, axis=(0, 1)) - jnp.min(x, axis=(0, 1)) > rounding
    scale = jnp.maximum(jnp.where(varies, scale / _GAUSSIAN, 0), rounding)
    return Spread(center, jnp.where(scale**2 > info.tiny, scale, 1))


def _nearest(blocks: Evidence, center: Float[Array, " d"]) -> Float[Array, " d"]:
    """The value of each column next to its center; of two as near, the lower one."""
    x, center = jax.lax.stop_gradient((blocks.x, center))

    def around(rows: Float[Array, "*blocks b d"]) -> tuple[Array, Array]:
        below, above = jnp.where(rows <= center, rows, -jnp.inf), jnp.where(rows > center, rows, jnp.inf)
        axes = tuple(range(rows.ndim - 1))
        return jnp.max(below, axis=axes), jnp.min(above, axis=axes)

    if blocks.shards is not None:
        below, above = around(x)
    elif x.shape[0] == 1:
        below, above = around(x[0])
    else:
        below, above = jax.lax.map(around, x)
        below, above = jnp.max(below, axis=0), jnp.min(above, axis=0)
    return jnp.where(center - below <= above - center, below, above)


def _work(rows: Evidence) -> float:
    """Little of few rows, and of more without end: what compiles in half the time runs loops over blocks at a fifth."""
    return 0.0 if rows.x.size <= _FEW else math.inf


def scale_from(rows: Evidence) -> Float[Array, " d"]:
    """`scale_of` checked rows."""
    return spread_from(rows).scale


@program(work=_work)
def spread_from(rows: Evidence) -> Spread:
    """Center and scale of checked rows; NaN if no row takes part."""
    weights = jnp.where(jnp.all(jnp.isfinite(rows.x), axis=1), rows.weights, 0)
    largest = jax.lax.stop_gradient(jnp.max(weights))
    rows = Evidence(rows.x, weights / jnp.where(largest > 0, largest, 1), seen=rows.seen, shards=rows.shards)
    spread = spread_of(rows.in_blocks(block_size_for(rows.n_here, rows.x.shape[1])))
    return jax.tree.map(lambda leaf: jnp.where(largest > 0, leaf, jnp.nan), spread)
