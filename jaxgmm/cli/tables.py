"""Files of rows: read a part at a time, and written whole or not at all."""

import contextlib
import dataclasses
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from jaxgmm.cli.layout import FORMATS, Layout
from jaxgmm.cli.problem import Problem
from jaxgmm.ground.files import replacing

# So many numbers are in memory at a time, in so many rows at most.
_NUMBERS, _MOST_ROWS = 2**22, 2**16
_ENDINGS = {"tab": "tsv", "txt": "tsv", "pq": "parquet"}
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows that can be read again and again. `name` is for messages; `rows` gives frames with the columns `columns`."""

    name: str
    columns: list[str]
    format: str
    rows: Callable[[], Iterator[pd.DataFrame]]


@contextlib.contextmanager
def opened(path: str, layout: Layout) -> Iterator[Table]:
    """The table at `path`; `-` is standard input, which is kept in a temporary file as it cannot be read twice."""
    if path != "-":
        yield _table(path, path, layout)
        return
    with tempfile.TemporaryDirectory(prefix="jaxgmm-") as folder:
        copy = os.path.join(folder, "rows")
        with open(copy, "wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        layout = dataclasses.replace(layout, format=layout.format or "csv")
        yield _table("standard input", copy, layout)


def format_of(path: str, layout: Layout, unsaid: str = "csv") -> str:
    """The format by name, or by the ending of the path."""
    if layout.format:
        return layout.format
    if path == "-":
        return unsaid
    stem = path.lower()
    for ending in _COMPRESSED:
        stem = stem.removesuffix(ending)
    ending = os.path.splitext(stem)[1].removeprefix(".")
    kind = _ENDINGS.get(ending, ending)
    if kind not in FORMATS:
        raise Problem(f"{path}: cannot tell the format by the ending; say --format {'|'.join(FORMATS)}.")
    return kind


def _table(name: str, path: str, layout: Layout) -> Table:
    kind = format_of(path, layout)
    if not os.path.isfile(path):
        raise Problem(f"{name}: there is no such file.")
    try:
        columns, rows = READERS[kind](path, layout)
    except Problem:
        raise
    except (ValueError, pa.ArrowException, pd.errors.ParserWarning) as error:
        raise _unreadable(name, kind, error) from None
    if not columns:
        raise Problem(f"{name}: no columns in it.")

    def guarded() -> Iterator[pd.DataFrame]:
        try:
            yield from rows()
        except (ValueError, pa.ArrowException, pd.errors.ParserWarning) as error:
            raise _unreadable(name, kind, error) from None

    return Table(name, columns, kind, guarded)


def _unreadable(name: str, kind: str, error: Exception) -> Problem:
    if isinstance(error, pd.errors.ParserWarning):
        return Problem(f"{name}: some rows have more entries than there are names in the first line.")
    what = str(error).strip().splitlines()
    return Problem(f"{name}: not readable as {kind}: {what[0] if what else type(error).__name__}")


def _size(n_columns: int) -> int:
    """Rows to read at a time."""
    return max(min(_NUMBERS // max(n_columns, 1), _MOST_ROWS), 256)


def _text(separator: str) -> Any:
    def read(path: str, layout: Layout) -> tuple[list[str], Callable[[], Iterator[pd.DataFrame]]]:
        options: dict[str, Any] = {
            "sep": layout.separator or separator,
            "decimal": layout.decimal,
            "header": 0 if layout.header else None,
            "index_col": False,
            "skipinitialspace": True,
            "low_memory": False,
            "dtype_backend": "numpy_nullable",
        }
        first = pd.read_csv(path, nrows=0 if layout.header else 1, **options)
        columns = _names(first.columns) if layout.header else _numbered(first.shape[1])
        if len(columns) == 1 and (other := [mark for mark in ";\t|" if mark in str(first.columns[0])]):
            raise Problem(f"{path}: one column, {columns[0]!r}; if that is several, say --separator {other[0]!r}.")
        if layout.header and all(_is_number(name) for name in columns):
            raise Problem(f"{path}: the first line is all numbers ({', '.join(columns[:4])}, ...); say --no-header.")

        def rows() -> Iterator[pd.DataFrame]:
            with pd.read_csv(path, chunksize=_size(len(columns)), **options) as parts:
                for frame in parts:
                    yield frame.set_axis(columns, axis=1)

        return columns, rows

    return read


def _parquet(path: str, layout: Layout) -> tuple[list[str], Callable[[], Iterator[pd.DataFrame]]]:
    with pq.ParquetFile(path) as file:
        columns = _names(file.schema_arrow.names)

    def rows() -> Iterator[pd.DataFrame]:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_size(len(columns))):
                frame = batch.to_pandas(types_mapper=_NULLABLE.get)
                yield frame.reset_index(drop=True).set_axis(columns, axis=1)

    return columns, rows


_NULLABLE = {
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.uint8(): pd.UInt8Dtype(),
    pa.uint16(): pd.UInt16Dtype(),
    pa.uint32(): pd.UInt32Dtype(),
    pa.uint64(): pd.UInt64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
    pa.float32(): pd.Float32Dtype(),
    pa.float64(): pd.Float64Dtype(),
}


def _npy(path: str, layout: Layout) -> tuple[list[str], Callable[[], Iterator[pd.DataFrame]]]:
    return _array(path, np.load(path, mmap_mode="r", allow_pickle=False))


def _npz(path: str, layout: Layout) -> tuple[list[str], Callable[[], Iterator[pd.DataFrame]]]:
    with np.load(path, allow_pickle=False) as archive:
        names = archive.files
        if "x" not in names and len(names) != 1:
            raise Problem(f"{path}: has the arrays {', '.join(names)}; expected one array, or one called x.")
        return _array(path, archive["x" if "x" in names else names[0]])


def _array(path: str, array: np.ndarray) -> tuple[list[str], Callable[[], Iterator[pd.DataFrame]]]:
    if array.ndim == 1 and array.dtype.names is None:
        array = array[:, None]
    if array.ndim != 2 or array.dtype.kind not in "iuf":
        raise Problem(f"{path}: an array of shape {array.shape} and dtype {array.dtype}; expected numbers in 2 axes.")
    columns = _numbered(array.shape[1])

    def rows() -> Iterator[pd.DataFrame]:
        size = _size(len(columns))
        for start in range(0, len(array), size):
            yield pd.DataFrame(np.array(array[start : start + size]), columns=columns)

    return columns, rows


READERS: dict[str, Any] = {"csv": _text(","), "tsv": _text("\t"), "parquet": _parquet, "npy": _npy, "npz": _npz}


@contextlib.contextmanager
def writing(path: str, layout: Layout, added: list[str]) -> Iterator[Callable[[pd.DataFrame], None]]:
    """A function that appends frames to the table at `path`, which is there once the block has ended well.

    `-` is standard output. Arrays get the columns `added` alone: an .npz each under its name, an .npy side by side.
    """
    kind = format_of(path, layout)
    if path == "-":
        if kind not in ("csv", "tsv"):
            raise Problem(f"standard output takes csv or tsv, not {kind}; name a file.", 2)
        yield _text_writer(sys.stdout, layout, kind)
        sys.stdout.flush()
        return
    check_folder(path)
    with replacing(path) as draft, WRITERS[kind](draft, layout, kind, added) as write:
        yield write


def check_folder(path: str) -> None:
    """Refuse a file that could not be written, before there is anything to lose."""
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK) or os.path.isdir(path):
        raise Problem(f"{path}: cannot be written there; name a file in a folder that exists and is yours.")


@contextlib.contextmanager
def _writing_text(draft: str, layout: Layout, kind: str, added: list[str]) -> Iterator[Callable[[pd.DataFrame], None]]:
    with pd.io.common.get_handle(draft, "w", compression="infer") as handles:
        yield _text_writer(handles.handle, layout, kind)


def _text_writer(file: Any, layout: Layout, kind: str) -> Callable[[pd.DataFrame], None]:
    separator = layout.separator or (READ_SEPARATORS[kind])
    first = True

    def write(frame: pd.DataFrame) -> None:
        nonlocal first
        frame.to_csv(
            file,
            sep=separator,
            decimal=layout.decimal,
            index=False,
            header=first and layout.header,
            lineterminator="\n",
        )
        first = False

    return write


READ_SEPARATORS = {"csv": ",", "tsv": "\t"}


@contextlib.contextmanager
def _writing_parquet(
    draft: str, layout: Layout, kind: str, added: list[str]
) -> Iterator[Callable[[pd.DataFrame], None]]:
    with contextlib.ExitStack() as stack:
        writer: Any = None

        def write(frame: pd.DataFrame) -> None:
            nonlocal writer
            table = pa.Table.from_pandas(frame, preserve_index=False)
            if writer is None:
                writer = stack.enter_context(pq.ParquetWriter(draft, table.schema))
            try:
                writer.write_table(table.cast(writer.schema))
            except pa.ArrowException as error:
                raise Problem(f"a column changes its type between rows ({error}); write CSV instead.") from None

        yield write


@contextlib.contextmanager
def _writing_arrays(
    draft: str, layout: Layout, kind: str, added: list[str]
) -> Iterator[Callable[[pd.DataFrame], None]]:
    parts: list[pd.DataFrame] = []
    yield lambda frame: parts.append(frame[added])
    whole = pd.concat(parts, ignore_index=True)
    arrays = {name: _plain(whole[name]) for name in added}
    with open(draft, "wb") as file:
        if kind == "npz":
            np.savez(file, allow_pickle=False, **arrays)
        else:
            np.save(file, np.column_stack(list(arrays.values())) if len(arrays) > 1 else arrays[added[0]])


def _plain(column: pd.Series) -> np.ndarray:
    """Missing numbers as NaN, missing integers as -1, missing truths as false."""
    if pd.api.types.is_bool_dtype(column.dtype):
        return column.fillna(False).to_numpy(bool)
    if pd.api.types.is_integer_dtype(column.dtype):
        return column.fillna(-1).to_numpy(np.int64)
    return column.to_numpy(np.float64, na_value=np.nan)


WRITERS: dict[str, Any] = {
    "csv": _writing_text,
    "tsv": _writing_text,
    "parquet": _writing_parquet,
    "npy": _writing_arrays,
    "npz": _writing_arrays,
}


def _names(columns: Any) -> list[str]:
    return [str(name).strip() for name in columns]


def _numbered(n: int) -> list[str]:
    return [f"c{place}" for place in range(1, n + 1)]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
