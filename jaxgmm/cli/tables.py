"""Files of rows: read a part at a time, and written whole or not at all."""

import contextlib
import csv
import dataclasses
import glob
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from jaxgmm.cli.layout import FORMATS, Layout
from jaxgmm.cli.problem import Problem
from jaxgmm.cli.text import Part, Text, Write, joined, writer
from jaxgmm.ground.files import replacing
from jaxgmm.ground.sources import files_within, let_go
from jaxgmm.ground.written import Growing

# So many numbers are in memory at a time, in so many rows at most.
_NUMBERS, _MOST_ROWS = 2**22, 2**16
# Bytes of a column of Parquet that are read at a time.
_BUFFER = 2**20
_ENDINGS = {"tab": "tsv", "txt": "tsv", "dat": "tsv", "data": "csv", "pq": "parquet"}
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows that can be read again and again.

    Fields: `name`, for messages; `parts` gives parts with the columns `columns`; `text`, how it is laid out if it is
    text; `types` of the columns, if they have some; `notes`, what was found out about it that is worth a line;
    `closing`, what is closed with it.
    """

    name: str
    columns: list[str]
    format: str
    parts: Callable[[], Iterator[Part]]
    text: Text | None = None
    types: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    closing: contextlib.ExitStack = dataclasses.field(default_factory=contextlib.ExitStack)

    def told(self) -> list[str]:
        """What is worth a line once the table has been read."""
        return (self.text.told() if self.text else []) + self.notes


def as_it_stands(table: Table, part: Part, columns: Sequence[str]) -> pd.DataFrame:
    """Some columns of a part, of text each entry as it is written; with missing ones as the format has them."""
    if table.text is None or part.lines is None:
        return part.frame
    places = sorted(table.columns.index(name) for name in columns)
    frame = table.text.read(part.lines, dtype=str, usecols=places)
    return frame.set_axis([table.columns[place] for place in places], axis=1)


@contextlib.contextmanager
def opened(path: str, layout: Layout) -> Iterator[Table]:
    """The table at `path`; `-` is standard input, which is kept in a temporary file as it cannot be read twice."""
    if path != "-":
        table = _table(path, path, layout)
        with table.closing:
            yield table
        return
    with tempfile.TemporaryDirectory(prefix="jaxgmm-") as folder:
        copy = os.path.join(folder, "rows")
        with open(copy, "wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        layout = dataclasses.replace(layout, format=layout.format or "csv")
        table = _table("standard input", copy, layout)
        with table.closing:
            yield table


def format_of(path: str, layout: Layout, unsaid: str = "csv") -> str:
    """The format by name, or by the ending of the path."""
    if layout.format:
        return layout.format
    if path == "-":
        return unsaid
    kind = _kind_of(path)
    if kind is None:
        raise Problem(f"{path}: cannot tell the format by the ending; say --format {'|'.join(FORMATS)}.")
    return kind


def _kind_of(path: str) -> str | None:
    """The format by the ending of the path, None if that does not tell."""
    stem = path.lower()
    for ending in _COMPRESSED:
        stem = stem.removesuffix(ending)
    ending = os.path.splitext(stem)[1].removeprefix(".")
    kind = _ENDINGS.get(ending, ending)
    return kind if kind in FORMATS else None


def _table(name: str, path: str, layout: Layout) -> Table:
    """One file, or those of a folder or a pattern, one after the other."""
    paths = _paths(path, name, layout)
    # Of one file, the name that it was given.
    tables = [_file(name if one == path else one, one, layout) for one in paths]
    first = tables[0]
    for other in tables[1:]:
        if other.columns != first.columns:
            raise Problem(
                f"{other.name}: {_differs(other, first)}; expected the same columns in the same order in all."
            )
        for column, one, same in zip(first.columns, other.types, first.types, strict=False):
            if one != same:
                raise Problem(
                    f"{other.name}: column {column!r} is of type {one}, and in {first.name} of {same}; expected the "
                    "same type in all."
                )
        if other.text and first.text and other.text.recognised.layout != first.text.recognised.layout:
            raise Problem(f"{other.name}: is laid out otherwise than {first.name}; say how, as by --separator.")
    if len(tables) == 1:
        return first

    def parts() -> Iterator[Part]:
        for table in tables:
            yield from table.parts()

    return dataclasses.replace(first, name=name, parts=parts)


def _paths(path: str, name: str, layout: Layout) -> list[str]:
    """The files that a path names: itself, those of a folder of one format, or those of a pattern."""
    if os.path.isfile(path):
        return [path]
    if not os.path.isdir(path):
        found = sorted(filter(os.path.isfile, glob.glob(path)))
        if not found and any(mark in path for mark in "*?["):
            raise Problem(f"{name}: there is no file of such a name.")
        if not found:
            format_of(path, layout)  # which may be what is wrong
            raise Problem(f"{name}: there is no such file.")
        return found
    found = sorted(files_within(path))
    kinds = {kind for one in found if (kind := _kind_of(one)) is not None}
    kind = layout.format or (kinds.pop() if len(kinds) == 1 else None)
    if kind is None:
        several = f"files of several formats, {' and '.join(sorted(kinds))}"
        what = several if kinds else "no files of a known format"
        raise Problem(f"{name}: a folder with {what}; name those to read by a pattern, such as '{path}/*.parquet'.")
    return [one for one in found if layout.format or _kind_of(one) == kind]


def _differs(other: Table, first: Table) -> str:
    if set(other.columns) == set(first.columns):
        return f"has the columns {', '.join(other.columns[:20])}, and {first.name} has {', '.join(first.columns[:20])}"
    lacking = [column for column in first.columns if column not in other.columns]
    if lacking:
        return f"lacks the column {lacking[0]!r} of {first.name}"
    more = [column for column in other.columns if column not in first.columns]
    return f"has a column {more[0]!r}, which {first.name} has not"


def _file(name: str, path: str, layout: Layout) -> Table:
    kind = format_of(path, layout)
    if kind not in READ_SEPARATORS and layout.na:
        raise Problem(f"--na is for text; {name} is {kind}, which has a value of its own for what is missing.", 2)
    with _readable(name, kind):
        columns, parts, text, types = READERS[kind](path, name, layout)
    if not columns:
        raise Problem(f"{name}: no columns in it.")

    def guarded() -> Iterator[Part]:
        with _readable(name, kind):
            yield from parts()

    return Table(name, columns, kind, guarded, text, types=types)


@contextlib.contextmanager
def _readable(name: str, kind: str) -> Iterator[None]:
    """What cannot be read, in one line that calls the table by its name."""
    try:
        yield
    except UnicodeDecodeError:
        raise Problem(f"{name}: is no text in UTF-8; save it as UTF-8, or convert it with iconv.") from None
    except (ValueError, csv.Error, zipfile.BadZipFile, pa.ArrowException) as error:
        what = str(error).strip().splitlines()
        raise Problem(f"{name}: not readable as {kind}: {what[0] if what else type(error).__name__}") from None


def _size(n_columns: int) -> int:
    """Rows to read at a time."""
    return max(min(_NUMBERS // max(n_columns, 1), _MOST_ROWS), 256)


# Columns, parts, how text is laid out, and the types of the columns if they have some.
_Read = tuple[list[str], Callable[[], Iterator[Part]], Text | None, list[str]]


def _text(separator: str) -> Callable[[str, str, Layout], _Read]:
    def read(path: str, name: str, layout: Layout) -> _Read:
        text = Text.at(path, name, layout, separator)
        columns = text.recognised.columns
        return columns, lambda: text.parts(_size(len(columns))), text, []

    return read


def _parquet(path: str, name: str, layout: Layout) -> _Read:
    with pq.ParquetFile(path) as file:
        columns = [str(column).strip() for column in file.schema_arrow.names]
        types = [str(kind) for kind in file.schema_arrow.types]

    def parts() -> Iterator[Part]:
        # A column at a time of its pages, not whole groups of rows.
        with pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as file:
            for batch in file.iter_batches(_size(len(columns))):
                # An index that pandas kept is a column as others are.
                frame = batch.to_pandas(types_mapper=_NULLABLE.get, ignore_metadata=True)
                yield Part(frame.reset_index(drop=True).set_axis(columns, axis=1))
        # Arrow keeps what it has read into for what it may read next.
        pa.default_memory_pool().release_unused()

    return columns, parts, None, types


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


def _npy(path: str, name: str, layout: Layout) -> _Read:
    return _array(name, np.load(path, mmap_mode="r", allow_pickle=False))


def _npz(path: str, name: str, layout: Layout) -> _Read:
    with zipfile.ZipFile(path) as archive:
        names = [one.removesuffix(".npy") for one in archive.namelist()]
        if "x" not in names and len(names) != 1:
            raise Problem(f"{name}: has the arrays {', '.join(names)}; expected one array, or one called x.")
        member = archive.namelist()[names.index("x") if "x" in names else 0]
        with archive.open(member) as file:
            shape, by_columns, dtype = _header(file)
    if by_columns or len(shape) != 2 or dtype.kind not in "iuf":
        with np.load(path, allow_pickle=False) as arrays:
            return _array(name, arrays[member.removesuffix(".npy")])

    def blocks(size: int) -> Iterator[np.ndarray]:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            _header(file)
            for start in range(0, shape[0], size):
                n = min(size, shape[0] - start)
                yield np.frombuffer(file.read(n * shape[1] * dtype.itemsize), dtype).reshape(n, shape[1])

    return _numbered(blocks, shape[1], dtype)


def _header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether it goes by columns, and type of an array in a file, which is read up to its numbers."""
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in read:
        raise ValueError(f"version {version} of the .npy format")
    return read[version](file)


def _array(name: str, array: np.ndarray) -> _Read:
    if array.ndim == 1 and array.dtype.names is None:
        array = array[:, None]
    if array.ndim != 2 or array.dtype.kind not in "iuf":
        raise Problem(f"{name}: an array of shape {array.shape} and dtype {array.dtype}; expected numbers in 2 axes.")

    def blocks(size: int) -> Iterator[np.ndarray]:
        for start in range(0, len(array), size):
            yield np.array(array[start : start + size])
            let_go(array)

    return _numbered(blocks, array.shape[1], array.dtype)


def _numbered(blocks: Callable[[int], Iterator[np.ndarray]], d: int, dtype: np.dtype) -> _Read:
    """Columns without names, in blocks of so many rows."""
    columns = [f"c{place}" for place in range(1, d + 1)]

    def parts() -> Iterator[Part]:
        for block in blocks(_size(d)):
            yield Part(pd.DataFrame(block, columns=columns))

    return columns, parts, None, [str(dtype)] * d


READERS: dict[str, Any] = {"csv": _text(","), "tsv": _text("\t"), "parquet": _parquet, "npy": _npy, "npz": _npz}


@contextlib.contextmanager
def writing(path: str, layout: Layout, added: list[str], source: Table | None = None) -> Iterator[Write]:
    """A function that appends new columns, and a part of `source` before them, to the table at `path`.

    It is there once the block has ended well. `-` is standard output. Text of the kind of `source` is laid out as
    that is. Arrays get the columns `added` alone: an .npz each under its name, an .npy side by side.
    """
    text = source.text if source else None
    kind = format_of(path, layout, source.format if text and source else "csv")
    layout = text.recognised.layout if text else layout
    if layout.separator is None or (source and source.format != kind):
        layout = dataclasses.replace(layout, separator=READ_SEPARATORS.get(kind))
    if path == "-":
        if kind not in READ_SEPARATORS:
            raise Problem(f"standard output takes csv or tsv, not {kind}; name a file.", 2)
        yield writer(sys.stdout, layout, text)
        sys.stdout.flush()
        return
    check_folder(path)
    with replacing(path) as draft, WRITERS[kind](draft, layout, kind, added, text) as write:
        yield write


def check_folder(path: str) -> None:
    """Refuse a file that could not be written, before there is anything to lose."""
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK) or os.path.isdir(path):
        raise Problem(f"{path}: cannot be written there; name a file in a folder that exists and is yours.")


@contextlib.contextmanager
def _writing_text(draft: str, layout: Layout, kind: str, added: list[str], text: Text | None) -> Iterator[Write]:
    with pd.io.common.get_handle(draft, "w", compression="infer") as handles:
        yield writer(handles.handle, layout, text)


READ_SEPARATORS = {"csv": ",", "tsv": "\t"}


@contextlib.contextmanager
def _writing_parquet(draft: str, layout: Layout, kind: str, added: list[str], text: Text | None) -> Iterator[Write]:
    with contextlib.ExitStack() as stack:
        file: Any = None

        def write(new: pd.DataFrame, part: Part | None = None) -> None:
            nonlocal file
            table = pa.Table.from_pandas(joined(new, part), preserve_index=False)
            if file is None:
                file = stack.enter_context(pq.ParquetWriter(draft, table.schema))
            try:
                file.write_table(table.cast(file.schema))
            except pa.ArrowException as error:
                raise Problem(f"a column changes its type between rows ({error}); write CSV instead.") from None

        yield write


@contextlib.contextmanager
def _writing_arrays(draft: str, layout: Layout, kind: str, added: list[str], text: Text | None) -> Iterator[Write]:
    """Each array in a file that grows, and those of an .npz put together at the end."""
    with tempfile.TemporaryDirectory(prefix=".jaxgmm-", dir=os.path.dirname(draft)) as folder:
        names = added if kind == "npz" else ["all"]
        paths = [os.path.join(folder, f"{place}.npy") for place in range(len(names))]
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(Growing(path)) for path in paths]

            def write(new: pd.DataFrame, part: Part | None = None) -> None:
                whole = joined(new, part)
                arrays = [_plain(whole[name]) for name in added]
                if kind != "npz":
                    arrays = [np.column_stack(arrays) if len(arrays) > 1 else arrays[0]]
                for file, array in zip(files, arrays, strict=True):
                    file.add(array)

            yield write
        if kind == "npz":
            with zipfile.ZipFile(draft, "x", allowZip64=True) as archive:
                for name, path in zip(names, paths, strict=True):
                    archive.write(path, f"{name}.npy")
        else:
            os.replace(paths[0], draft)


def _plain(column: pd.Series) -> np.ndarray:
    """Missing numbers as NaN, missing integers as -1, missing truths as false; of words, their places in the order."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy(np.int64)
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
