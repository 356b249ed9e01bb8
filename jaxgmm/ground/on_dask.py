"""Data frames of Dask, and arrays of it whose rows are in chunks."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import dask.array
import dask.dataframe
import numpy as np
from dask.base import compute
from dask.delayed import delayed

from jaxgmm.ground.partitions import Partitions

T = TypeVar("T")

# So many results are added by one task, so that no worker and no link has to take all of them.
_ADDED = 8


def held(value: Any, beside: Mapping[str, Any]) -> Partitions:
    """The partitions of a data frame, or of an array and others beside it."""
    if hasattr(value, "dtypes") and hasattr(value, "columns"):
        return _Frame(value)
    if hasattr(value, "chunks"):
        return _Arrays(value, beside)
    raise TypeError(f"source is of type {type(value).__name__} of Dask; expected a data frame, or an array (n, d).")


class _Delayed(Partitions):
    """Of lazy values of Dask, made anew for every pass, unless it has been told to keep them."""

    names: tuple[str, ...] = ()

    def __init__(self, blank: Any, parts: Sequence[Any]) -> None:
        self.blank, self._parts = blank, parts

    def brought(self) -> Iterator[Any]:
        for part in self._parts:
            yield compute(part)[0]

    def total(self, task: Callable[[int, Any], T], add: Callable[[T, T], T]) -> T:
        # As a value of its own it goes to each worker once, and not along with every partition.
        sent = delayed(task, traverse=False)
        said = [delayed(_told)(sent, place, part) for place, part in enumerate(self._parts)]
        while len(said) > 1:
            said = [delayed(_sum)(add, said[place : place + _ADDED]) for place in range(0, len(said), _ADDED)]
        return compute(said[0])[0]


class _Frame(_Delayed):
    def __init__(self, whole: Any, columns: Sequence[Any] | None = None) -> None:
        frame = whole if columns is None else whole[columns]
        super().__init__(frame._meta, frame.to_delayed())
        self._whole = whole
        self.names = tuple(map(str, frame.columns))

    def only(self, names: list[str]) -> Partitions:
        return _Frame(self._whole, [self._whole.columns[self.names.index(name)] for name in names])

    def extended(self, task: Callable[[int, Any], dict[str, Any]], like: dict[str, Any]) -> Any:
        sent, parts = delayed(task, traverse=False), self._whole.to_delayed()
        longer = [delayed(_longer)(sent, place, part) for place, part in enumerate(parts)]
        meta = self._whole._meta.assign(**like)
        return dask.dataframe.from_delayed(longer, meta=meta, divisions=self._whole.divisions, verify_meta=False)


class _Arrays(_Delayed):
    def __init__(self, x: Any, beside: Mapping[str, Any]) -> None:
        if x.ndim != 2:
            raise ValueError(f"source has shape {x.shape}; expected two axes, (rows, columns).")
        arrays = {"x": x.rechunk({1: -1})}
        for name, given in beside.items():
            arrays[name] = _beside(name, given, arrays["x"])
        blank = {name: np.zeros((1, *array.shape[1:]), array.dtype) for name, array in arrays.items()}
        chunks = [array.to_delayed().ravel() for array in arrays.values()]
        super().__init__(blank, [dict(zip(arrays, one, strict=True)) for one in zip(*chunks, strict=True)])

    def only(self, names: list[str]) -> Partitions:
        raise TypeError(f"columns is {names!r}, and source is an array, whose columns have no names.")

    def extended(self, task: Callable[[int, Any], dict[str, Any]], like: dict[str, Any]) -> Any:
        raise TypeError("source is an array of Dask; make a data frame of it, dask.dataframe.from_dask_array(x).")


def _beside(name: str, given: Any, x: Any) -> Any:
    """An array with an entry for each row, in the same chunks."""
    if not hasattr(given, "shape"):
        raise TypeError(f"{name} is {given!r}; expected an array with an entry for each row, as source is one.")
    array = dask.array.asarray(given)
    known = not np.isnan([*array.shape[:1], x.shape[0]]).any()
    if array.numblocks[0] != x.numblocks[0] if not known else array.shape[0] != x.shape[0]:
        found = f"{name} has shape {array.shape} in {array.numblocks[0]} chunks"
        raise ValueError(
            f"{found} and source has {x.shape[0]} rows in {x.numblocks[0]}; expected an entry for each row."
        )
    chunks = dict.fromkeys(range(1, array.ndim), -1)
    return array.rechunk({0: x.chunks[0], **chunks} if known else chunks)


def _told(task: Callable[[int, Any], T], place: int, part: Any) -> T:
    return task(place, part)


def _longer(task: Callable[[int, Any], dict[str, Any]], place: int, part: Any) -> Any:
    return part.assign(**task(place, part))


def _sum(add: Callable[[T, T], T], said: Sequence[T]) -> T:
    return functools.reduce(add, said)
