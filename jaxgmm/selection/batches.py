"""Many independent calls of one compiled program: in chunks of one shape, on all cores, with a progress bar."""

import concurrent.futures
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np

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


def side_by_side(function: Callable[[Any], T], given: Iterable[Any]) -> Iterator[T]:
    """`function` of each, in order; on a CPU as many at a time as there are cores, of which one program fills one."""
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if jax.default_backend() != "cpu":
        workers = 1
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        yield from pool.map(_in_this_setting(function), given)


def shown(done: Iterable[T], total: int, progress: bool, what: str) -> Iterable[T]:
    """The same, with a progress bar if one is asked for."""
    if not progress:
        return done
    try:
        from tqdm.auto import tqdm
    except ImportError:
        raise ImportError("progress=True needs tqdm: pip install 'jaxgmm[progress]'.") from None
    return tqdm(done, total=total, desc=what)


def _in_this_setting(function: Callable[[Any], T]) -> Callable[[Any], T]:
    """`function` under the settings of JAX that hold here, which other threads do not see."""
    x64, precision = jax.config.jax_enable_x64, jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]

    def call(given: Any) -> T:
        with jax.enable_x64(x64), jax.default_matmul_precision(precision):
            return function(given)

    return call
