"""Counting what XLA compiles."""

import contextlib
from collections.abc import Iterator

import jax

_compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, duration, **kwargs: event == "/jax/core/compile/backend_compile_duration" and _compiled.append(event)
)


@contextlib.contextmanager
def counted() -> Iterator[list[str]]:
    """A list that grows by one for each compilation inside the block."""
    before = len(_compiled)
    inside: list[str] = []
    try:
        yield inside
    finally:
        inside.extend(_compiled[before:])
