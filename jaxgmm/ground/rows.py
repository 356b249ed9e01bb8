"""Rows in blocks: sums and maps over the rows of arrays in memory that grows with the block, not with n."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgmm.ground.pytree import Leaf, record

T = TypeVar("T")

# Numbers one block may spread to inside a kernel: a few megabytes, which stay in the cache. Matrix products want at
# least some hundred rows at a time, and gain nothing from more than two thousand.
_BLOCK_NUMBERS = 2**20
_SMALLEST_BLOCK, _LARGEST_BLOCK = 256, 2**11


def block_size_for(n: int, numbers_per_row: int) -> int:
    """Rows in a block when each row spreads to `numbers_per_row` numbers: near a fixed budget, with little padding."""
    target = min(_LARGEST_BLOCK, max(_SMALLEST_BLOCK, _BLOCK_NUMBERS // max(1, numbers_per_row)))
    if n <= 2 * target:
        return n
    # Whole vector registers and cache lines, whatever the dtype.
    sizes = range(target - target % 64, target // 2, -64)
    return min(sizes, key=lambda size: max(-n % size, n // 64))


@record
class Rows:
    """Weighted rows in blocks: `x` (blocks, b, d), `weights` (blocks, b). What fills up the last block has weight 0."""

    x: Leaf
    weights: Leaf

    @classmethod
    def of(cls, x: Float[Array, "n d"], weights: Float[Array, " n"], block_size: int) -> "Rows":
        """Rows of weight 0 are absent: a row that is present stands in for whatever they hold, NaN included."""
        x = jnp.where(weights[:, None] > 0, x, x[jnp.argmax(weights > 0)])
        return cls(into_blocks(x, block_size, "edge"), into_blocks(weights, block_size, "constant"))


def into_blocks(array: Array, block_size: int, padding: str) -> Array:
    """(n, ...) as (blocks, block_size, ...), the last block filled up as `jnp.pad` does in mode `padding`."""
    n = array.shape[0]
    blocks = math.ceil(n / block_size)
    if short := blocks * block_size - n:
        array = jnp.pad(array, [(0, short)] + [(0, 0)] * (array.ndim - 1), mode=padding)
    return array.reshape((blocks, block_size, *array.shape[1:]))


def sum_over_blocks(function: Callable[[Any], T], blocks: Any) -> T:
    """Sum of `function(block)` over the leading axis of the arrays in `blocks`; `function` returns a tree of floats.

    The sum is compensated (Kahan, 1965), so its error does not grow with the number of blocks, and its derivative
    recomputes each block instead of storing it.
    """
    if jax.tree.leaves(blocks)[0].shape[0] == 1:
        return function(jax.tree.map(lambda array: array[0], blocks))

    def step(carry: tuple[T, T], block: Any) -> tuple[tuple[T, T], None]:
        total, lost = carry
        value = jax.tree.map(jnp.subtract, jax.checkpoint(function)(block), lost)
        grown = jax.tree.map(jnp.add, total, value)
        lost = jax.tree.map(lambda g, t, v: jnp.where(jnp.isfinite(g), (g - t) - v, 0), grown, total, value)
        return (grown, lost), None

    shape = jax.eval_shape(function, jax.tree.map(lambda array: array[0], blocks))
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shape)
    (total, _), _ = jax.lax.scan(step, (zeros, zeros), blocks)
    return total


def map_rows(function: Callable[[jax.Array], T], rows: jax.Array, block_size: int) -> T:
    """`function` of row blocks (b, ...) -> tree of (b, ...), put together again to (n, ...)."""
    n = rows.shape[0]
    blocks = into_blocks(rows, block_size, "edge")
    if blocks.shape[0] == 1:
        return function(rows)
    out = jax.lax.map(jax.checkpoint(function), blocks)
    return jax.tree.map(lambda array: array.reshape((-1, *array.shape[2:]))[:n], out)
