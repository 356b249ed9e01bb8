"""Records: frozen dataclasses that JAX sees as pytrees, and the few tree operations the library needs."""

import dataclasses
import math
from typing import TYPE_CHECKING, Any, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from jaxgmm.ground import bounds

T = TypeVar("T")

Places = Int[Array, " j"] | Int[np.ndarray, " j"]
"""Indices along the leading axis of a record's leaves."""

ColumnIndices = Int[np.ndarray, " _"]
"""Indices of columns, which a program is compiled for."""

# JAX rebuilds records with tracers, stacked leaves and placeholders, so their fields are not checked at run time.
if TYPE_CHECKING:
    Leaf = Array
else:
    Leaf = Any


def static(*, shown: bool = True, default: Any = dataclasses.MISSING) -> Any:
    """A field of a record that is no child of the pytree but part of its type: hashable, and compiled in."""
    return dataclasses.field(default=default, repr=shown, metadata={"static": True})


@dataclass_transform(
    frozen_default=True,
    eq_default=False,
    field_specifiers=(
        dataclasses.field,
        static,
        bounds.positive,
        bounds.lower_factor,
        bounds.unit_product,
        bounds.unit_lower_factor,
        bounds.orthogonal,
        bounds.log_simplex,
        bounds.known,
    ),
)
def record(cls: type[T]) -> type[T]:
    """Make `cls` a frozen dataclass whose fields are the children of a pytree. Nothing is validated on construction.

    Not by `jax.tree_util.register_dataclass`: the structures of two such classes with as many fields are equal
    (jaxlib 0.10.2), so that `jit` now and then takes the program of one for the other. Here the class is part of them.
    """
    cls = dataclasses.dataclass(frozen=True, eq=False)(cls)
    fields: Any = dataclasses.fields(cls)  # type: ignore[arg-type]
    inside = [field.name for field in fields if not field.metadata.get("static")]
    beside = [field.name for field in fields if field.metadata.get("static")]
    keys = [jax.tree_util.GetAttrKey(name) for name in inside]

    def children(one: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return tuple(getattr(one, name) for name in inside), (cls, *(getattr(one, name) for name in beside))

    def children_with_keys(one: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        values, kind = children(one)
        return tuple(zip(keys, values, strict=True)), kind

    def again(kind: tuple[Any, ...], values: Any) -> T:
        return cls(**dict(zip(inside, values, strict=True)), **dict(zip(beside, kind[1:], strict=True)))

    jax.tree_util.register_pytree_with_keys(cls, children_with_keys, again, children)
    return cls


def add(a: T, b: T) -> T:
    """Leaf by leaf sum of two trees of the same structure."""
    return jax.tree.map(jnp.add, a, b)


def where(condition: Bool[Array, ""], a: T, b: T) -> T:
    """Tree `a` where the scalar `condition` holds, else `b`."""
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), a, b)


def cast(tree: T, dtype: Any) -> T:
    """The same tree with every leaf that holds real numbers of type `dtype`."""

    def of(leaf: Any) -> Any:
        return leaf if leaf.dtype == dtype or not jnp.issubdtype(leaf.dtype, jnp.floating) else leaf.astype(dtype)

    return jax.tree.map(of, tree)


def without_nan(tree: Any) -> Bool[Array, ""]:
    """Whether no leaf holds NaN or +inf; -inf is allowed, as the log of a zero weight."""
    leaves = [jnp.all(leaf < jnp.inf) for leaf in jax.tree.leaves(tree)]
    return jnp.all(jnp.stack(leaves))


@record
class Packed:
    """A tree of numbers of one floating point type, with whole numbers and truth values, as one vector.

    A loop moves it by one operation. Whole numbers must be ones that the type holds.

    Fields: `vector` (m,); `layout`, how the tree lies in it.
    """

    vector: Leaf
    layout: Any = static()

    @classmethod
    def of(cls, tree: Any) -> "Packed":
        leaves, structure = jax.tree.flatten(tree)
        dtype = jnp.result_type(*(leaf.dtype for leaf in leaves))
        vector = jnp.concatenate([jnp.ravel(leaf).astype(dtype) for leaf in leaves])
        return cls(vector, (structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)))

    @property
    def tree(self) -> Any:
        structure, shapes = self.layout
        ends = np.cumsum([math.prod(shape) for shape, _ in shapes]).tolist()
        leaves = [
            self.vector[end - math.prod(shape) : end].reshape(shape)
            for end, (shape, _) in zip(ends, shapes, strict=True)
        ]
        return jax.tree.unflatten(structure, [leaf.astype(of) for leaf, (_, of) in zip(leaves, shapes, strict=True)])
