"""Many independent calls of one compiled program: in chunks of one shape, on all cores."""

import concurrent.futures
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np

from jaxgmm.ground.progress import shown

T = TypeVar("T")

_NO_SETTING = object()


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


def side_by_side(function: Callable[[Any], T], given: Iterable[Any], *, in_turn: bool = False) -> Iterator[T]:
    """`function` of each, in order; on a CPU as many at a time as there are cores, of which one program fills one.

    Programs that take several devices wait for each other there, so that they are to be called `in_turn`.
    """
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if in_turn or jax.default_backend() != "cpu":
        workers = 1
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        yield from pool.map(_in_this_setting(function), given)


def _in_this_setting(function: Callable[[Any], T]) -> Callable[[Any], T]:
    """`function` under the settings of JAX that hold here, which other threads do not see."""
    here = _settings()

    def call(given: Any) -> T:
        there = _settings()
        with contextlib.ExitStack() as stack:
            for name, value in here.items():
                if value != there[name]:
                    stack.enter_context(getattr(jax, name)(value))
            return function(given)

    return call


def _settings() -> dict[str, Any]:
    """All settings of JAX that a thread may have for itself: those with a context manager of their name."""
    values = ((name, getattr(jax.config, f"jax_{name}", _NO_SETTING)) for name in dir(jax))
    return {name: value for name, value in values if value is not _NO_SETTING}
