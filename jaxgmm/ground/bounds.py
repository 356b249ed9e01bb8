"""Bounds on the fields of records, and the free coordinates that follow from them.

A bound stands where the field does, `scale: Leaf = positive()`, and nowhere else. What has none is any real number.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from jaxgmm.ground import bijectors

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Bound:
    """Maps between what a field may hold and free coordinates of the same shape: any real numbers."""

    to_free: Callable[[Any], Any]
    from_free: Callable[[Any], Any]


_POSITIVE = Bound(bijectors.positive_to_free, bijectors.free_to_positive)
_LOWER_FACTOR = Bound(bijectors.tril_to_free, bijectors.free_to_tril)
_UNIT_PRODUCT = Bound(bijectors.positive_to_free, bijectors.free_to_unit_product)
_UNIT_FACTOR = Bound(bijectors.tril_to_free, bijectors.free_to_unit_tril)
_ORTHOGONAL = Bound(lambda axes: axes, bijectors.free_to_orthogonal)
_LOG_SIMPLEX = Bound(lambda log_weights: log_weights, bijectors.free_to_log_simplex)
# Their own coordinates, to the last digit, and nothing that follows a slope moves them.
_KNOWN = Bound(lambda values: values, jax.lax.stop_gradient)
_KNOWN_POSITIVE = Bound(lambda values: values, lambda free: jax.lax.stop_gradient(jnp.abs(free)))


def bounded(bound: Bound) -> Any:
    """A field whose values keep to `bound`."""
    return dataclasses.field(metadata={"bound": bound})


def positive() -> Any:
    """A field of positive numbers; their logarithms are free."""
    return bounded(_POSITIVE)


def lower_factor() -> Any:
    """A field of lower Cholesky factors (..., d, d); the logarithms of their diagonals and what is below are free."""
    return bounded(_LOWER_FACTOR)


def unit_product() -> Any:
    """A field of positive numbers (..., d) whose product is 1; their logarithms, up to a common one, are free."""
    return bounded(_UNIT_PRODUCT)


def unit_lower_factor() -> Any:
    """A field of lower Cholesky factors (..., d, d) of determinant 1; free as those of `lower_factor`, up to size."""
    return bounded(_UNIT_FACTOR)


def orthogonal() -> Any:
    """A field of orthogonal matrices (..., d, d); any regular matrix stands for the nearest of them."""
    return bounded(_ORTHOGONAL)


def log_simplex() -> Any:
    """A field of log-weights (..., k) of sum one; they are their own free coordinates."""
    return bounded(_LOG_SIMPLEX)


def known(*, positive: bool = False) -> Any:
    """A field of numbers that no fit moves, all of them `positive` if so: they are coordinates without derivatives."""
    return bounded(_KNOWN_POSITIVE if positive else _KNOWN)


def unconstrain(one: T) -> T:
    """The same record with free coordinates in its leaves."""
    return _mapped(one, lambda bound: bound.to_free)


def constrain(one: T) -> T:
    """Inverse of `unconstrain`."""
    return _mapped(one, lambda bound: bound.from_free)


def _mapped(one: T, side: Callable[[Bound], Callable[[Any], Any]]) -> T:
    changed = {}
    for field in dataclasses.fields(one):  # type: ignore[arg-type]
        value = getattr(one, field.name)
        if bound := field.metadata.get("bound"):
            changed[field.name] = side(bound)(value)
        elif dataclasses.is_dataclass(value) and not field.metadata.get("static"):
            changed[field.name] = _mapped(value, side)
        elif isinstance(value, tuple) and not field.metadata.get("static"):
            changed[field.name] = tuple(_mapped(part, side) for part in value)
    return dataclasses.replace(one, **changed)  # type: ignore[type-var]
