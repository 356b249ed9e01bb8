"""Calls of compiled programs in several threads, under the settings of JAX of the one that asks."""

import collections
import concurrent.futures
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import jax

T = TypeVar("T")

_NO_SETTING = object()


def side_by_side(function: Callable[[Any], T], given: Iterable[Any], *, in_turn: bool = False) -> Iterator[T]:
    """`function` of each, in order; on a CPU as many at a time as there are cores, of which one program fills one.

    Programs that take several devices wait for each other there, so that they are to be called `in_turn`.
    """
    with concurrent.futures.ThreadPoolExecutor(1 if in_turn else cores()) as pool:
        yield from pool.map(in_this_setting(function), given)


def as_they_come(function: Callable[[Any], T], given: Iterable[Any], workers: int) -> Iterator[T]:
    """`function` of each, in order, so many at a time; of the given, no more than one beyond these is taken ahead."""
    call = in_this_setting(function)
    coming: collections.deque[concurrent.futures.Future[T]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for one in given:
            coming.append(pool.submit(call, one))
            if len(coming) > workers:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def ahead(parts: Iterable[T]) -> Iterator[T]:
    """The same, each one made by another thread while the one before it is used."""
    end: Any = object()
    source = iter(parts)
    following = in_this_setting(lambda source: next(source, end))
    with concurrent.futures.ThreadPoolExecutor(1) as reader:
        coming = reader.submit(following, source)
        while (part := coming.result()) is not end:
            coming = reader.submit(following, source)
            yield part


def cores() -> int:
    """Of a CPU, how many this process may use; 1 where programs run on an accelerator, which one of them fills."""
    if jax.default_backend() != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_this_setting(function: Callable[[Any], T]) -> Callable[[Any], T]:
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
