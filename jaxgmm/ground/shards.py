"""Rows on several devices: which of them each device has, and what is computed where they are."""

import contextlib
import dataclasses
import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int

from jaxgmm.ground.programs import at_top_level
from jaxgmm.ground.pytree import Packed

T = TypeVar("T")
U = TypeVar("U")


@dataclasses.dataclass(frozen=True)
class Shards:
    """How axis 0 of an array of rows lies on the devices of a mesh: over these of its axes, the first outermost."""

    mesh: Mesh | AbstractMesh
    axes: tuple[str, ...]

    @classmethod
    def of(cls, array: jax.Array) -> "Shards | None":
        """Those of an array; None where its rows are on one device, on all, or where that cannot be seen.

        A tracer tells only of axes of type `Explicit`.
        """
        return cls._along(array, 0)

    @classmethod
    def splits_rows(cls, array: jax.Array) -> bool:
        """Whether axis 1 of an array lies on several devices as part of its type, so that no device has whole rows."""
        columns = cls._along(array, 1)
        return columns is not None and columns.explicit

    @classmethod
    def _along(cls, array: jax.Array, axis: int) -> "Shards | None":
        sharding = jax.typeof(array).sharding if isinstance(array, jax.core.Tracer) else array.sharding
        if not isinstance(sharding, NamedSharding) or len(sharding.spec) <= axis:
            return None
        axes = sharding.spec[axis]
        if axes is None or axes is PartitionSpec.UNCONSTRAINED:
            return None
        return cls(sharding.mesh, axes if isinstance(axes, tuple) else (axes,))

    @property
    def number(self) -> int:
        """How many shards there are."""
        return math.prod(self.mesh.shape[axis] for axis in self.axes)

    @property
    def explicit(self) -> bool:
        """Whether arrays have their sharding as part of their type."""
        types = dict(zip(self.mesh.axis_names, self.mesh.axis_types, strict=True))
        return all(types[axis] == AxisType.Explicit for axis in self.axes)

    def entered(self) -> contextlib.AbstractContextManager[Any]:
        """Within, what a program makes is on the mesh too, as where arrays have shardings loops and updates want."""
        if not self.explicit or not jax.sharding.get_abstract_mesh().empty:
            return contextlib.nullcontext()
        if isinstance(self.mesh, AbstractMesh):
            return jax.sharding.use_abstract_mesh(self.mesh)
        return jax.set_mesh(self.mesh) if at_top_level() else jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh)

    def place(self, array: Array) -> Array:
        """The array (n, ...), each row of it where that of the rows is."""
        sharding = NamedSharding(self.mesh, PartitionSpec(self.axes))
        if not isinstance(array, jax.core.Tracer) and isinstance(self.mesh, Mesh):
            with jax.ensure_compile_time_eval():  # so that a constant stays one, and can be looked at
                return jax.device_put(array, sharding)
        return jax.sharding.reshard(array, sharding) if self.explicit else array

    def everywhere(self, array: Array) -> Array:
        """The array as one that is not by rows, where its type says that it is: what draws by their own rows want."""
        return jax.sharding.reshard(array, NamedSharding(self.mesh, PartitionSpec())) if self.explicit else array

    def apply(self, function: Callable[[Any, Any], tuple[T, U]], parameters: Any, rows: Any) -> tuple[T, U]:
        """`function(parameters, rows)` on every device, of the rows it has: trees of arrays with rows on axis 0.

        It returns what all devices agree upon, and what has an entry on axis 0 for each of the rows it was given, or of
        their blocks.
        """
        everywhere, here = PartitionSpec(), PartitionSpec(self.axes)
        # Families may loop over what is the same on all devices and what is not alike, which the check has no patience
        # with. Closures would be refused where types have shardings.
        mapped = jax.shard_map(
            function, mesh=self.mesh, in_specs=(everywhere, here), out_specs=(everywhere, here), check_vma=False
        )
        return mapped(parameters, rows)

    def total(self, tree: T) -> T:
        """Inside of `apply`, the sum over devices of a tree of floats, by one exchange."""
        packed = Packed.of(tree)
        return Packed(jax.lax.psum(packed.vector, self.axes), packed.layout).tree

    def first(self, there: Array, entry: Array) -> Array:
        """Inside of `apply`, the `entry` of the first device where one is `there`; zeros if it is nowhere."""
        place = self.here()
        chosen = jax.lax.pmin(jnp.where(there, place, self.number), self.axes)
        return jax.lax.psum(jnp.where(place == chosen, entry, 0), self.axes)

    def any(self, there: Array) -> Array:
        """Inside of `apply`, whether it holds on any device."""
        return jax.lax.psum(there.astype(jnp.int32), self.axes) > 0

    def here(self) -> Int[Array, ""]:
        """Inside of `apply`, which of the shards the rows of this device are."""
        return jax.lax.axis_index(self.axes)

    def each(self, entry: Array) -> Array:
        """Inside of `apply`, the `entry` () of every device, (number,)."""
        return jax.lax.psum(jnp.where(jnp.arange(self.number) == self.here(), entry, 0), self.axes)


# What passes over rows that lie in shards, or on one device, which costs nothing.


def on_each(
    shards: Shards | None, function: Callable[[Any, Any], tuple[T, U]], parameters: Any, rows: Any
) -> tuple[T, U]:
    """`Shards.apply`, or a call where all rows are on one device."""
    return function(parameters, rows) if shards is None else shards.apply(function, parameters, rows)


def total(shards: Shards | None, tree: T) -> T:
    """Inside of `on_each`, the sum over devices of a tree of floats."""
    return tree if shards is None else shards.total(tree)


def anywhere(shards: Shards | None, there: Array) -> Array:
    """Inside of `on_each`, whether it holds on any device."""
    return there if shards is None else shards.any(there)


def first_of(shards: Shards | None, array: Array, there: Array) -> Array:
    """Inside of `on_each`, the entry of the first place that is `there`, of all devices; any if none is."""
    entry = array[jnp.argmax(there)]
    return entry if shards is None else shards.first(jnp.any(there), entry)


def taken(shards: Shards | None, array: Array, places: Int[Array, "*draws"]) -> Array:
    """Inside of `on_each`, the entries of all devices at these places, -1 for those of another device."""
    if shards is None:
        return array[places]
    mine = jnp.reshape(places >= 0, (*places.shape, *(1 for _ in array.shape[1:])))
    own = jnp.where(mine, array[jnp.maximum(places, 0)], 0)
    return jax.lax.psum(own, shards.axes).astype(array.dtype)
