"""Many independent calls of one compiled program: in chunks of one shape, on all cores, with a progress bar."""

import concurrent.futures
import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np

T = TypeVar("T")

_NO_SETTING = object()
# Between lines that say how far it is.
_SECONDS = 10
_LINE = "{desc}: {n_fmt} of {total_fmt} after {elapsed}, {remaining} left\n"


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


class Bar:
    """How much of a `total` is done, if that is asked for; where there is no terminal, a line now and then."""

    def __init__(self, total: int, progress: bool, what: str) -> None:
        self._bar, self._total = None, total
        if not progress:
            return
        try:
            from tqdm.auto import tqdm
        except ImportError:
            raise ImportError("progress=True needs tqdm: pip install 'jaxgmm[progress]'.") from None
        lines = {} if sys.stderr.isatty() else {"mininterval": _SECONDS, "delay": _SECONDS, "bar_format": _LINE}
        self._bar = tqdm(total=total, desc=what, **lines)

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, number: int = 1) -> None:
        """So many more are done."""
        if self._bar is not None:
            self._bar.update(number)

    def restart(self) -> None:
        """All is to be done again."""
        if self._bar is not None:
            self._bar.n = self._bar.last_print_n = 0
            self._bar.total = self._total

    def expect(self, number: int) -> None:
        """So many more are to be done, or fewer."""
        if self._bar is not None:
            self._bar.total += number


def shown(done: Iterable[T], total: int, progress: bool, what: str) -> Iterator[T]:
    """The same, with a progress bar if one is asked for."""
    with Bar(total, progress, what) as bar:
        for one in done:
            yield one
            bar.update()


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
