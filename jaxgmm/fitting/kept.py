"""Where a fit stands, in a file: so that another process goes on from there, to the same bits."""

import hashlib
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgmm.fitting.em import State
from jaxgmm.ground import archive

_FORMAT, _VERSION = "jaxgmm fit", 1
_TYPES = (*archive.FLOATS, "<i4")


def digest(tree: Any) -> str:
    """What tells one tree of arrays from another."""
    leaves, structure = jax.tree.flatten(tree)
    found = hashlib.sha256(str(structure).encode())
    for leaf in leaves:
        array = np.asarray(leaf)
        found.update(f"{array.dtype}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def keep(path: str | os.PathLike[str], of: dict[str, Any], state: State) -> None:
    """Write a state of the fit that `of` tells from others, whole or not at all."""
    arrays = {f"{place}": np.asarray(leaf) for place, leaf in enumerate(jax.tree.leaves(state))}
    archive.write(path, {"format": _FORMAT, "version": _VERSION, "of": of}, arrays)


def kept(
    path: str | os.PathLike[str], of: dict[str, Any], blank: State, free: tuple[str, ...] = ()
) -> tuple[State, dict[str, Any]] | None:
    """The state at `path`, with the shapes of a `blank` one, and what it is of; None if there is no such file.

    What is `free` may be another one.

    Raises:
        ValueError: it is of another fit; with what differs.
        LoadError: it is damaged, or something else.
    """
    if not os.path.exists(path):
        return None
    leaves, structure = jax.tree.flatten(blank)
    with archive.reading(path, "the checkpoint of a fit", "remove it to begin anew") as source:
        header = source.header()
        if header.get("format") != _FORMAT or header.get("version") != _VERSION:
            raise archive.LoadError(f"is of format {header.get('format')!r}; expected one that fit_batches wrote.")
        written = header["of"]
        other = [name for name, value in of.items() if name not in free and written.get(name) != value]
        if not other:
            arrays = [source.array(f"{place}", _TYPES) for place in range(len(leaves))]
    if other:
        raise ValueError(
            f"{os.fspath(path)} is the checkpoint of another fit, with other {', '.join(other)}. Give what that fit "
            "had, or another path, or remove the file to begin anew."
        )
    return jax.tree.unflatten(structure, [jnp.asarray(array) for array in arrays]), written
