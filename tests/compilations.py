"""What programs are made of, and counting what XLA compiles."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax

_compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, duration, **kwargs: event == "/jax/core/compile/backend_compile_duration" and _compiled.append(event)
)


def total() -> int:
    """Compilations of this process so far."""
    return len(_compiled)


@contextlib.contextmanager
def counted() -> Iterator[list[str]]:
    """A list that grows by one for each compilation inside the block.

    What is to be compiled already, a test compiles itself, right before: what other tests, fixtures or its file did may
    have been let go by then (`conftest.py`).
    """
    before = len(_compiled)
    inside: list[str] = []
    try:
        yield inside
    finally:
        inside.extend(_compiled[before:])


def equations(jaxpr: Any) -> Iterator[Any]:
    """Every equation of a program, those inside its loops and branches too."""
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda v: hasattr(v, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from equations(inner)
