"""Optimisers of optax as arguments that compile once: equal where their computations are.

optax takes as long to import as all of jaxgmm twice over, so that it is imported where an optimiser is used.
"""

import functools
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_Shapes = tuple[tuple[tuple[int, ...], str], ...]


class Optimizer:
    """The functions of an optimiser. Programs know them by their `Rule`, and keep neither them nor what they hold."""

    def __init__(self, optimizer: Any) -> None:
        import optax

        extended = optax.with_extra_args_support(optimizer)
        self.init, self.update = extended.init, extended.update
        self.given = optimizer.update


class Rule:
    """An optimiser by what it computes, by which it is compared.

    optax makes an optimiser of functions that are new ones at every call, `optax.adam(1e-3)` never equal to
    `optax.adam(1e-3)`. What they compute on given coordinates is equal: the text of the traced update, with all
    constants and functions in it. A rule is only good for as long as its optimiser lives: a program that was compiled
    for it needs neither.
    """

    def __init__(self, optimizer: Optimizer, position: Any) -> None:
        self._optimizer = weakref.ref(optimizer)
        leaves, structure = jax.tree.flatten(position)
        shapes = tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)
        try:
            self._content: Any = _content(optimizer, structure, shapes)
            self._hash = hash(self._content)
        except _LikeNoOther:
            self._content = object()
            self._hash = hash(self._content)

    @property
    def init(self) -> Callable[..., Any]:
        return self._functions.init

    @property
    def update(self) -> Callable[..., Any]:
        return self._functions.update

    @property
    def _functions(self) -> Optimizer:
        optimizer = self._optimizer()
        assert optimizer is not None, "whoever traces with a rule holds its optimiser"
        return optimizer

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rule) and self._content == other._content

    def __hash__(self) -> int:
        return self._hash


class _LikeNoOther(Exception):
    """The optimiser holds what cannot be compared, such as values of a program that is being traced."""


# By the update as the caller has it, for as long as that lives; nothing in here refers to what it holds.
_CONTENTS: weakref.WeakKeyDictionary[Any, dict[Any, Any]] = weakref.WeakKeyDictionary()


def _content(optimizer: Optimizer, structure: Any, shapes: _Shapes) -> Any:
    try:
        known = _CONTENTS.setdefault(optimizer.given, {})
    except TypeError:  # a method, say, which is another object each time
        known = {}
    place = _value(optimizer.init), structure, shapes
    if place not in known:
        known[place] = _traced(optimizer, structure, shapes)
    return known[place]


def _traced(optimizer: Optimizer, structure: Any, shapes: _Shapes) -> tuple[Any, ...]:
    position = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*shape) for shape in shapes])

    def bowl(position: Any) -> jax.Array:
        return sum((jnp.sum(leaf**2) for leaf in jax.tree.leaves(position)), jnp.zeros(()))

    def update(position: Any, state: Any) -> Any:
        gradient = jax.tree.map(jnp.sin, position)
        return optimizer.update(gradient, state, position, value=bowl(position), grad=gradient, value_fn=bowl)

    program = jax.make_jaxpr(update)(position, jax.eval_shape(optimizer.init, position))
    held = tuple(_held(program))
    try:
        hash(held)  # which a weak reference remembers
    except TypeError:
        raise _LikeNoOther from None
    return str(program.jaxpr), held


def _held(program: Any) -> Iterator[Any]:
    """What tells the arrays and functions of a program from others, those of the programs inside it too.

    Its text does not show arrays, and of functions no more than a name or a place in memory, which may be used again.
    """
    for const in getattr(program, "consts", ()):
        yield _array(const)
    for equation in getattr(program, "jaxpr", program).eqns:
        for value in jax.tree.leaves(list(equation.params.values()), is_leaf=_is_program):
            if _is_program(value):
                yield from _held(value)
            elif _of_jax(value) and callable(getattr(value, "callback_func", None)):
                yield from _itself(value.callback_func)
            elif callable(value) or _of_jax(value):
                yield from _code(value, {})


def _array(value: Any) -> tuple[Any, ...]:
    if isinstance(value, jax.core.Tracer):
        raise _LikeNoOther
    array = np.asarray(value)
    return array.shape, str(array.dtype), array.tobytes()


def _itself(function: Any) -> Iterator[Any]:
    """A function that runs outside the program, and may keep count of something there: no other is like it."""
    if isinstance(function, types.MethodType):
        yield from _itself(function.__self__)
        function = function.__func__
    if isinstance(function, functools.partial):
        yield from map(_value, (*function.args, *function.keywords.items()))
        function = function.func
    yield _value(function)


def _code(value: Any, seen: dict[int, Any]) -> Iterator[Any]:
    """A rule of derivatives, which JAX wraps in functions made anew at each trace: the code there, and what it uses."""
    if id(value) in seen:
        return
    seen[id(value)] = value  # kept, so that the place is not used again
    inside: list[Any] = []
    if isinstance(value, (jax.Array, np.ndarray)):
        yield _array(value)
    elif _of_jax(value):
        inside = [getattr(value, name, None) for name in ("f", "transforms", "fun", "jvp", "fwd", "bwd")]
    elif isinstance(value, types.FunctionType):
        yield value.__code__
        yield id(value.__globals__)
        filled = [cell for cell in value.__closure__ or () if cell != types.CellType()]
        inside = [cell.cell_contents for cell in filled] + list(value.__defaults__ or ())
        if value.__module__.partition(".")[0] == "jax":
            # Where JAX remembers what it has traced.
            inside = [one for one in inside if not isinstance(one, dict)]
    elif isinstance(value, functools.partial):
        inside = [value.func, *value.args, *value.keywords.items()]
    elif isinstance(value, types.MethodType):
        inside = [value.__self__, value.__func__]
    elif isinstance(value, (tuple, list)):
        inside = list(value)
    elif type(value) is not object:  # a mark, which holds nothing
        yield _value(value)
    for one in inside:
        yield from _code(one, seen)


def _value(value: Any) -> Any:
    """A plain value itself; anything else by a reference that does not keep it alive."""
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, type)):
        return type(value), value
    if isinstance(value, tuple):
        return tuple(map(_value, value))
    try:
        return weakref.ref(value)
    except TypeError:
        return value


def _of_jax(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] in ("jax", "jaxlib")


def _is_program(value: Any) -> bool:
    return hasattr(value, "eqns")
