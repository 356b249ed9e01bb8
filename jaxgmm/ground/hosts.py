"""Rows on devices of several processes: what each of these sees of them, and what all agree upon.

A process can look at the values of its own rows alone. An error that only one of them raised would leave the others
waiting for it at the next sum, so that whatever is found is told to all: all raise, or none.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Int

from jaxgmm.ground.programs import program

T = TypeVar("T")


def is_spread(array: Any) -> bool:
    """Whether parts of it are on devices of other processes, where this one cannot look at them."""
    if not isinstance(array, jax.Array) or isinstance(array, jax.core.Tracer):
        return False
    return not (array.is_fully_addressable or array.is_fully_replicated)


def own(name: str, value: Any, x: jax.Array) -> np.ndarray:
    """The entries of a value (n, ...) for the rows of `x` that this process has, in order.

    Of an array that lies as `x` does, or one that is whole in every process.
    """
    pieces = _pieces(x)
    if not is_spread(value):
        value = np.asarray(value)
        if value.shape[:1] != x.shape[:1]:
            raise ValueError(
                f"{name} has shape {value.shape} and x has {x.shape[0]} rows, which lie on devices of several "
                f"processes; expected {name} for all of them, by jax.make_array_from_process_local_data as x was made."
            )
        return np.concatenate([value[start:stop] for start, stop in pieces])
    there = {shard.index[0].indices(value.shape[0])[:2]: shard for shard in value.addressable_shards}
    if value.shape[:1] != x.shape[:1] or not set(pieces) <= set(there):
        raise ValueError(
            f"{name} lies on devices otherwise than x, by {value.sharding}; expected as x does, by {x.sharding}."
        )
    return np.concatenate([np.asarray(there[piece].data) for piece in pieces])


def whole(part: Any, x: jax.Array) -> jax.Array:
    """An array (n, ...) that lies as the rows of `x` do, of the `part` that each process has, as `own` gives it."""
    part = np.asarray(part)
    sharding = NamedSharding(_mesh(x), PartitionSpec(*x.sharding.spec[:1]))  # type: ignore[attr-defined]
    begins, begin = {}, 0
    for piece in _pieces(x):
        begins[piece], begin = begin, begin + piece[1] - piece[0]
    shape = x.shape[:1] + part.shape[1:]
    arrays = []
    for device, index in sharding.addressable_devices_indices_map(shape).items():
        start, stop = index[0].indices(shape[0])[:2]  # type: ignore[index]
        arrays.append(jax.device_put(part[begins[start, stop] :][: stop - start], device))
    return jax.make_array_from_single_device_arrays(shape, sharding, arrays)


def agreed(x: jax.Array, look: Callable[[], T]) -> T:
    """What `look` returns, of the rows of `x` that this process has; raises in all of them where one raises.

    Raises:
        ValueError: `look` raised, in another process.
    """
    try:
        found, error = look(), None
    except Exception as raised:
        error = raised
    first = int(_least(_of_processes(x, jax.process_count() if error is None else jax.process_index())))
    if error is not None:
        raise error
    if first < jax.process_count():
        raise ValueError(
            f"x, or what is known of its rows, is not as it must be in process {first}, whose own error says what is "
            "wrong; the rows that this process has are."
        )
    return found


def anywhere(x: jax.Array, there: bool) -> bool:
    """Whether it holds in any of the processes that have rows of `x`."""
    return int(_least(_of_processes(x, 0 if there else 1))) == 0


def _pieces(x: jax.Array) -> list[tuple[int, int]]:
    """Where the rows begin and end that the devices of this process have, each once and in order."""
    n = x.shape[0]
    return sorted({shard.index[0].indices(n)[:2] for shard in x.addressable_shards})


def _mesh(x: jax.Array) -> Any:
    return x.sharding.mesh  # type: ignore[attr-defined]


def _of_processes(x: jax.Array, number: int) -> jax.Array:
    """A number of each process, for each of the devices that have rows of `x`."""
    mesh = _mesh(x)
    sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    mine = np.full((1,), number, np.int32)
    arrays = [jax.device_put(mine, device) for device in mesh.local_devices]
    return jax.make_array_from_single_device_arrays((mesh.size,), sharding, arrays)


@program
def _least(numbers: Int[Array, " devices"]) -> Int[Array, ""]:
    return jnp.min(numbers)
