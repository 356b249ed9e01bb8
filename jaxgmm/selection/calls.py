"""Many independent calls of one compiled program: in chunks of one shape, on all cores."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np

from jaxgmm.ground.progress import shown
from jaxgmm.ground.threads import side_by_side

T = TypeVar("T")


def in_chunks(call: Callable[[Any], T], given: Any, chunk_size: int, progress: bool, what: str) -> T:
    """`call` of chunks of the leading axis of the arrays in `given`, put together again in numpy.

    All chunks have the same size, so that `call` is compiled once: the last one is filled up with repetitions.
    """
    n = jax.tree.leaves(given)[0].shape[0]

    def chunk(start: int) -> Any:
        places = np.minimum(np.arange(start, start + chunk_size), n - 1)
        return jax.tree.map(lambda leaf: leaf[places], given)

    done = side_by_side(lambda start: jax.tree.map(np.asarray, call(chunk(start))), range(0, n, chunk_size))
    parts = list(shown(done, -(-n // chunk_size), progress, what))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:n], *parts)
