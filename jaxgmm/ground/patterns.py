"""Rows that lack entries, in blocks that lack the same ones."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from jaxgmm.ground.pytree import Leaf, record

# What a block costs beside its rows, in rows: what is done once for a pattern.
_PER_BLOCK = 512
# Rows of blocks that cost as much as a row taken alone, less the number of columns.
_ALONE = 6
_SIZES = tuple(2**power for power in range(12, 4, -1))


@record
class Patterns:
    """Which rows make up blocks of one pattern: a place in the rows for each place (blocks, b), their number if none.

    It follows from values, so it is found where they can be seen, and is no part of what a user is given.
    """

    places: Leaf

    @classmethod
    def of(cls, seen: np.ndarray) -> "Patterns | None":
        """Those of rows of which these entries (n, d) are seen; None where rows have too little in common."""
        n, d = seen.shape
        packed = np.packbits(seen, axis=1)
        keys = packed[:, 0] if packed.shape[1] == 1 else _keys(packed)
        order = np.argsort(keys, kind="stable")
        sorted_keys = keys[order]
        begins = np.flatnonzero(np.append(True, sorted_keys[1:] != sorted_keys[:-1]))
        lengths = np.diff(np.append(begins, n))
        blocks = {size: int(np.sum(-(-lengths // size))) for size in _SIZES}
        size = min(_SIZES, key=lambda size: _rounded(blocks[size]) * (size + _PER_BLOCK))
        number = _rounded(blocks[size])
        if number * (size + _PER_BLOCK) > n * (d + _ALONE):
            return None
        places = np.full((number, size), n, np.int32)
        each = -(-lengths // size)
        first_block = np.cumsum(each) - each
        # Row j of a pattern is at place j of its blocks, one after the other.
        at = np.repeat(first_block * size - begins, lengths) + np.arange(n)
        places.ravel()[at] = order
        return cls(jnp.asarray(places))

    def taken(self, array: Array) -> Array:
        """An array (n, ...) of rows as (blocks, b, ...); where there is no row, any."""
        return array.at[self.places].get(mode="clip")

    def put_back(self, array: Array, n: int) -> Array:
        """(blocks, b, ...) as (n, ...)."""
        flat: Int[Array, " m"] = self.places.ravel()
        nothing = jnp.zeros((n, *array.shape[2:]), array.dtype)
        return nothing.at[flat].set(array.reshape((-1, *array.shape[2:])), mode="drop")


def _keys(packed: np.ndarray) -> np.ndarray:
    """A number for each row of bytes, the same for the same bytes."""
    n, bytes_per_row = packed.shape
    wide = np.zeros((n, -(-bytes_per_row // 8) * 8), np.uint8)
    wide[:, :bytes_per_row] = packed
    words = wide.view(np.uint64)
    if words.shape[1] == 1:
        return words[:, 0]
    return np.unique(words, axis=0, return_inverse=True)[1].ravel()


def _rounded(number: int) -> int:
    """Up to one of four numbers between powers of two, so that other patterns are hardly another program."""
    step = max(1, 2 ** (int(number).bit_length() - 3))
    return -(-number // step) * step
