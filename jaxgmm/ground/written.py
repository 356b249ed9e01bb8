"""Files of what is said of rows, which may be larger than memory: written as it comes."""

import io
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

# Kinds of types that files of numpy and of Arrow have.
_NUMBERS = "biuf"


def _to_npy(draft: str, told: Iterator[Any]) -> int:
    with Growing(draft) as file:
        for one in told:
            if not isinstance(one, np.ndarray):
                raise ValueError(f"function gave a {type(one).__name__}; expected an array, for a .npy file.")
            file.add(one)
    return file.n


class Growing:
    """A .npy file that is appended to: at the end the shape, `n` long, is put into the header, for which there is room.

    It is of the type and width of the first array.
    """

    def __init__(self, path: str) -> None:
        self._path, self.n = path, 0
        self._dtype: Any = np.dtype(np.float64)
        self._shape: tuple[int, ...] = ()

    def __enter__(self) -> "Growing":
        self._file = open(self._path, "wb")
        return self

    def __exit__(self, *_: object) -> None:
        with self._file:
            self._file.seek(0)
            self._file.write(_header(self._dtype, self._shape, self.n))

    def add(self, array: np.ndarray) -> None:
        """More rows."""
        if array.dtype.kind not in _NUMBERS:
            raise ValueError(f"an array has dtype {array.dtype}; expected numbers that numpy itself knows.")
        if not self.n:
            self._dtype, self._shape = array.dtype, array.shape[1:]
            self._file.seek(0)
            self._file.write(_header(self._dtype, self._shape, 0))
        if array.dtype != self._dtype or array.shape[1:] != self._shape:
            raise ValueError(
                f"an array changes from {self._dtype} to {array.dtype}, or its width; expected one of both."
            )
        self._file.write(np.ascontiguousarray(array).tobytes())
        self.n += len(array)


def _header(dtype: np.dtype, shape: tuple[int, ...], n: int) -> bytes:
    stream = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (n, *shape)}
    np.lib.format.write_array_header_1_0(stream, described)
    return stream.getvalue()


def _to_parquet(draft: str, told: Iterator[Any]) -> int:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ImportError("A .parquet file is written by pyarrow: pip install 'jaxgmm[files]'.") from None
    n = 0
    writer: Any = None
    try:
        for one in told:
            if not isinstance(one, dict):
                raise ValueError(
                    f"function gave a {type(one).__name__}; expected a dictionary of arrays by the names of columns, "
                    "for a .parquet file."
                )
            columns = flat(one)
            if other := [name for name, array in columns.items() if array.dtype.kind not in _NUMBERS]:
                kind = columns[other[0]].dtype
                raise ValueError(f"column {other[0]!r} has dtype {kind}; expected numbers that numpy itself knows.")
            table = pyarrow.table(columns)
            writer = writer or pyarrow.parquet.ParquetWriter(draft, table.schema)
            writer.write_table(table)
            n += table.num_rows
    finally:
        if writer is not None:
            writer.close()
    return n


def flat(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays (n,) by the names of columns: numbered, of arrays with more axes."""
    columns: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        named = [f"{name}_{place}" for place in range(math.prod(array.shape[1:]))] if array.ndim > 1 else [name]
        if twice := sorted(columns.keys() & set(named)):
            raise ValueError(f"two arrays make a column {twice[0]!r}; expected other names.")
        columns |= dict(zip(named, array.reshape(len(array), -1).T, strict=True))
    if not columns:
        raise ValueError("function gave no arrays; expected at least one.")
    return columns


WRITERS: dict[str, Callable[[str, Iterator[Any]], int]] = {".npy": _to_npy, ".parquet": _to_parquet}
"""By the endings of their names: what writes to a path, and says how many rows it were."""
