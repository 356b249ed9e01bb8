"""Optimisers of optax as arguments that compile once: equal where their computations are."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax


class Rule:
    """An optimiser, and the text of what it computes, by which it is compared.

    optax makes an optimiser of functions that are new ones at every call, `optax.adam(1e-3)` never equal to
    `optax.adam(1e-3)`. What they compute on given coordinates is equal.
    """

    def __init__(self, optimizer: Any, position: Any) -> None:
        optimizer = optax.with_extra_args_support(optimizer)
        self.init, self.update = optimizer.init, optimizer.update
        leaves, structure = jax.tree.flatten(position)
        shapes = tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)
        try:
            self._text: Any = _text(optimizer, structure, shapes)
        except _Traced:
            self._text = object()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rule) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


class _Traced(Exception):
    """The optimiser holds values of a program that is being traced, so that it is like no other."""


@functools.lru_cache(maxsize=256)
def _text(optimizer: Any, structure: Any, shapes: tuple[tuple[tuple[int, ...], str], ...]) -> tuple[Any, ...]:
    position = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*shape) for shape in shapes])

    def bowl(position: Any) -> jax.Array:
        return sum((jnp.sum(leaf**2) for leaf in jax.tree.leaves(position)), jnp.zeros(()))

    def update(position: Any, state: Any) -> Any:
        gradient = jax.tree.map(jnp.sin, position)
        return optimizer.update(gradient, state, position, value=bowl(position), grad=gradient, value_fn=bowl)

    state = jax.eval_shape(optimizer.init, position)
    program = jax.make_jaxpr(update)(position, state)
    consts = list(_consts(program))
    if any(isinstance(const, jax.core.Tracer) for const in consts):
        raise _Traced
    return str(program.jaxpr), tuple((np.shape(const), np.asarray(const).tobytes()) for const in consts)


def _consts(program: Any) -> Iterator[Any]:
    """The arrays a program holds, those of the programs inside it too, which its text does not show."""
    yield from getattr(program, "consts", ())
    for equation in getattr(program, "jaxpr", program).eqns:
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_program):
            if _is_program(value):
                yield from _consts(value)


def _is_program(value: Any) -> bool:
    return hasattr(value, "eqns")
