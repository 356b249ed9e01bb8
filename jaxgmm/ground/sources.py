"""Where rows are that are read a part at a time: arrays with slices, files, lists of these, functions giving them."""

import dataclasses
import functools
import glob
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxgmm.ground import containers, frames, partitions
from jaxgmm.ground.partitions import Partitions
from jaxgmm.ground.parts import Part
from jaxgmm.ground.rows import Evidence

Beside = Mapping[str, Any]
"""What stands beside x, by the names of a part: arrays, or names of columns of a table; nothing that is None."""

_TABLES = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".feather": "feather",
    ".arrow": "ipc",
    ".ipc": "ipc",
    ".orc": "orc",
}
_FUNCTION = "Give a function that makes it anew, such as lambda: read(path), as every pass begins at the first row"
_IN_RECORDS = "make each part by jaxgmm.rows, which takes it too"
# Bytes of a mapped file that may be in memory at a time.
_MAPPED = 2**26


@dataclasses.dataclass(frozen=True)
class Source:
    """Rows that can be gone through again and again.

    Fields: `parts`, from about how many rows there are to be in one to all parts from the first row on; `names` of the
    columns, if they have some; `n`, how many rows there are, if that is known before all are read; `blank`, a part as
    the others are, of one row of zeros, where that is known so; `partitions` and how one is `opened`, where an engine
    holds the rows.
    """

    parts: Callable[[int], Iterator[Part]]
    names: tuple[str, ...] = ()
    n: int | None = None
    blank: Part | None = None
    partitions: Partitions | None = None
    opened: Callable[[Any], "Source"] | None = None


def source_of(value: Any, beside: Beside, columns: Sequence[str] | None = None) -> Source:
    """The rows that a value holds, names, or makes.

    Raises:
        TypeError, ValueError: it is none of these, or what stands `beside` is not of its kind; with what to write.
        OSError: there is no such file.
    """
    beside = {name: given for name, given in beside.items() if given is not None}
    for applies, read in _KINDS:
        if applies(value):
            return read(value, beside, columns)
    what = f"source is of type {type(value).__name__}"
    if hasattr(value, "__next__"):
        raise TypeError(
            f"{what}, which can be read once only. {_FUNCTION}; or let jaxgmm.fit_online go through it once."
        )
    if frames.is_column(value) or getattr(value, "ndim", 2) != 2:
        raise ValueError(f"{what} and has shape {value.shape}; expected two axes, (rows, columns).")
    raise TypeError(
        f"{what}; expected an array, a path, a list of these, a data set of pyarrow, or a function that gives parts."
    )


def _of_slices(value: Any, beside: Beside, columns: Sequence[str] | None) -> Source:
    """Anything with a shape and slices: arrays, mapped files, Zarr, HDF5."""
    _no_columns(columns, "an array")
    n = value.shape[0]
    for name, given in beside.items():
        if not hasattr(given, "shape"):
            raise TypeError(
                f"{name} is of type {type(given).__name__}; expected an array with an entry for each row, as source is "
                f"one. Use numpy.asarray({name}) of a list."
            )
        if given.shape[:1] != (n,):
            raise ValueError(f"{name} has shape {given.shape} and source has {n} rows; expected an entry for each row.")
    arrays = {"x": value, **beside}

    def parts(size: int) -> Iterator[Part]:
        read = 0
        for start in range(0, n, size):
            yield {name: _plain(array[start : start + size]) for name, array in arrays.items()}
            read += size
            if read * value.shape[1] * np.dtype(value.dtype).itemsize > _MAPPED:
                read = 0
                for array in arrays.values():
                    let_go(array)

    return Source(parts, n=n)


def _plain(array: Any) -> np.ndarray:
    """Without a mask: NaN stands there."""
    return frames.filled(array) if isinstance(array, np.ma.MaskedArray) else np.asarray(array)


def let_go(array: Any) -> None:
    """What was read of a mapped file need not stay in memory: the file has it."""
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap) and array.mode == "c":
            return
        array = array.base
    if hasattr(array, "madvise"):
        import mmap

        if hasattr(mmap, "MADV_DONTNEED"):
            array.madvise(mmap.MADV_DONTNEED)


def _of_frame(value: Any, beside: Beside, columns: Sequence[str] | None) -> Source:
    """A table in memory."""
    names = [str(name) for name, _ in frames.columns_of(value) or ()]
    return _of_table(_Chosen.of(names, beside, columns), value)


def _of_table(chosen: "_Chosen", value: Any) -> Source:
    return Source(lambda size: iter([chosen.part(value)]), chosen.names, len(value))


def _of_part(arrays: Part) -> Source:
    return _of_slices(arrays["x"], {name: array for name, array in arrays.items() if name != "x"}, None)


def _of_partitions(value: Any, beside: Beside, columns: Sequence[str] | None) -> Source:
    """What an engine has: a table of columns, or arrays."""
    held = partitions.held(value, beside)
    opened: Callable[[Any], Source] = _of_part
    if held.names:
        chosen = _Chosen.of(held.names, beside, columns)
        held, opened = held.only(chosen.all), functools.partial(_of_table, chosen)
    else:
        _no_columns(columns, "an array")
    like = opened(held.blank)
    blank = {name: np.zeros((1, *array.shape[1:]), array.dtype) for name, array in next(like.parts(1)).items()}

    def parts(size: int) -> Iterator[Part]:
        for one in held.brought():
            yield from opened(one).parts(size)

    return Source(parts, like.names, blank=blank, partitions=held, opened=opened)


def _of_dataset(value: Any, beside: Beside, columns: Sequence[str] | None) -> Source:
    """Of pyarrow.dataset: one file or many, in whatever format it reads."""
    chosen = _Chosen.of(value.schema.names, beside, columns)

    def parts(size: int) -> Iterator[Part]:
        import pyarrow

        batches = value.to_batches(
            columns=chosen.all, batch_size=size, batch_readahead=1, fragment_readahead=1, use_threads=False
        )
        for batch in batches:
            if batch.num_rows:
                yield chosen.part(batch)
        # Arrow keeps what it has read into for what it may read next.
        pyarrow.default_memory_pool().release_unused()

    return Source(parts, chosen.names)


def _of_path(value: Any, beside: Beside, columns: Sequence[str] | None) -> Source:
    """A file, a folder of files of one kind, or a pattern such as `rows-*.parquet`."""
    path = os.fspath(value)
    paths = sorted(glob.glob(path)) if not os.path.exists(path) else [path]
    if not paths:
        raise FileNotFoundError(f"{path}: there is no such file, folder, or file of such a name.")
    if len(paths) == 1 and os.path.isdir(paths[0]):
        endings = {os.path.splitext(name)[1].lower() for name in files_within(paths[0])}
        known = sorted(endings & {*_TABLES, ".npy"})
        if len(known) != 1:
            found = ", ".join(known) or "none"
            raise ValueError(f"{path} is a folder with files of the endings {found}; expected files of one known kind.")
        (ending,) = known
    else:
        ending, *others = dict.fromkeys(os.path.splitext(name)[1].lower() for name in paths)
        if others:
            raise ValueError(f"{path} stands for files of the endings {ending} and {others[0]}; expected one kind.")
    if ending == ".npy":
        files = [name for one in paths for name in _files(one, ending)]
        arrays = [_mapped(name) for name in files]
        return _of_slices(arrays[0], beside, columns) if len(arrays) == 1 else _of_list(arrays, beside, columns)
    if ending not in _TABLES:
        raise ValueError(
            f"{path} ends in {ending!r}; expected .npy or {', '.join(_TABLES)}. Other files: open them, and give what "
            "they hold if it has slices, or a function that reads them part by part."
        )
    try:
        import pyarrow.dataset
    except ImportError:
        raise ImportError(f"{path} is read by pyarrow: pip install 'jaxgmm[files]'.") from None
    opened = functools.partial(pyarrow.dataset.dataset, paths if len(paths) > 1 else paths[0], format=_TABLES[ending])
    return _of_dataset(opened(schema=_schema_of(opened(), text=ending == ".csv")), beside, columns)


def _schema_of(dataset: Any, *, text: bool) -> Any:
    """The columns that all files of a data set have, of types that hold what is in any of them."""
    import pyarrow

    schemas = [(one.path, one.physical_schema) for one in dataset.get_fragments()]
    first_path, first = schemas[0] if schemas else ("", dataset.schema)
    for path, schema in schemas:
        if other := sorted(set(schema.names) ^ set(first.names)):
            raise ValueError(f"{path} and {first_path} differ in column {other[0]!r}; expected the same ones.")
    try:
        whole = pyarrow.unify_schemas([schema for _, schema in schemas] or [first], promote_options="permissive")
    except pyarrow.ArrowException as error:
        raise ValueError(f"files of source differ in the type of a column: {error}") from error
    if not text:
        return whole
    # Of text the types are those of its first lines, and a fraction may come later.
    number = pyarrow.float64()
    whole_numbers = [place for place, field in enumerate(whole) if pyarrow.types.is_integer(field.type)]
    for place in whole_numbers:
        whole = whole.set(place, whole.field(place).with_type(number))
    return whole


def _mapped(path: str) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as .npy: {error}") from error


def _files(path: str, ending: str) -> list[str]:
    if not os.path.isdir(path):
        return [path]
    return sorted(name for name in files_within(path) if os.path.splitext(name)[1].lower() == ending)


def files_within(path: str) -> list[str]:
    """The files of a folder and of those in it, but for those that Spark and Hadoop name as no part of a table."""
    return [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names if name[0] not in "._"]


def _of_list(value: Sequence[Any], beside: Beside, columns: Sequence[str] | None) -> Source:
    """Several of them, one after the other."""
    if not value:
        raise ValueError("source is an empty list; expected at least one array, path or record of rows.")
    if np.isscalar(value[0]) and not isinstance(value[0], str):
        raise ValueError("source is a list of numbers; expected two axes, (rows, columns).")
    if all(isinstance(one, (list, tuple)) for one in value):
        return _of_slices(containers.plain("source", list(value)), beside, columns)
    named = all(isinstance(given, str) for given in beside.values())
    if beside and not named:
        name = next(name for name, given in beside.items() if not isinstance(given, str))
        raise TypeError(f"{name} stands beside a list of parts, which have a number of rows each: {_IN_RECORDS}.")
    sources = [source_of(one, beside, columns) for one in value]
    _same_names([one.names for one in sources])
    sizes = [one.n for one in sources]
    n = None if None in sizes else sum(size for size in sizes if size is not None)
    return Source(lambda size: itertools.chain.from_iterable(one.parts(size) for one in sources), sources[0].names, n)


def _of_function(value: Callable[[], Iterable[Any]], beside: Beside, columns: Sequence[str] | None) -> Source:
    """What it gives when it is called: an iterable of arrays, tables or records of rows."""
    names: list[tuple[str, ...]] = []

    def parts(size: int) -> Iterator[Part]:
        given = value()
        # One part by itself, which would be gone through by letters, names or rows.
        if any(applies(given) for applies, read in _KINDS if read not in (_of_list, _of_function)):
            given = [given]
        if not hasattr(given, "__iter__"):
            raise TypeError(f"source gave something of type {type(given).__name__}; expected an iterable of parts.")
        for one in given:
            source = source_of(one, beside, columns)
            names.append(source.names)
            _same_names(names)
            del names[1:]
            yield from source.parts(size)

    return Source(parts)


def _of_record(value: Evidence, beside: Beside, columns: Sequence[str] | None) -> Source:
    """Rows with what is known of them."""
    _no_columns(columns, "a record of rows")
    if beside:
        raise TypeError(f"{next(iter(beside))} stands beside rows made by jaxgmm.rows: give it there.")
    fields = {"x": value.x, "weights": value.weights, "labels": value.labels}
    fields |= {"noise": value.noise, "log_evidence": value.log_evidence}
    arrays = {name: np.asarray(array) for name, array in fields.items() if array is not None}
    if value.seen is not None:
        arrays["missing"] = ~np.asarray(value.seen)
    others = {name: array for name, array in arrays.items() if name != "x"}
    return _of_slices(arrays["x"], others, None)


def _same_names(names: list[tuple[str, ...]]) -> None:
    for place, one in enumerate(names):
        if one != names[0]:
            raise ValueError(f"part {place} has columns {one}, and the first one {names[0]}; expected the same ones.")


def _no_columns(columns: Sequence[str] | None, what: str) -> None:
    if columns is not None:
        raise TypeError(f"columns is {list(columns)!r}, and source is {what}, whose columns have no names.")


@dataclasses.dataclass(frozen=True)
class _Chosen:
    """Which columns of a table are what: `names` those of x, `beside` those of the other entries of a part."""

    names: tuple[str, ...]
    beside: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, names: Sequence[Any], beside: Beside, columns: Sequence[str] | None) -> "_Chosen":
        others: dict[str, tuple[str, ...]] = {}
        for name, given in beside.items():
            named = (given,) if isinstance(given, str) else given
            if not isinstance(named, (list, tuple)) or not all(isinstance(one, str) for one in named):
                raise TypeError(
                    f"{name} is of type {type(given).__name__}; expected the name of a column, as source is a table."
                )
            others[name] = tuple(named)
        taken = {one for named in others.values() for one in named}
        chosen = tuple(name for name in names if name not in taken) if columns is None else tuple(columns)
        for one in (*chosen, *taken):
            if one not in names:
                shown = ", ".join(map(str, names[:20]))
                raise ValueError(
                    f"{one!r} is no column of source, which has {shown}{', …' if len(names) > 20 else ''}."
                )
        if not chosen:
            raise ValueError("source has no columns beside those of weights and labels; expected at least one.")
        noise = others.get("noise", chosen)
        if len(noise) != len(chosen):
            raise ValueError(f"noise names {len(noise)} columns, and there are {len(chosen)}; expected one for each.")
        return cls(chosen, others)

    @property
    def all(self) -> list[str]:
        """Every column that is read, once."""
        return list(dict.fromkeys((*self.names, *(one for named in self.beside.values() for one in named))))

    def part(self, table: Any) -> Part:
        """What they hold."""
        columns = {str(name): column for name, column in frames.columns_of(table) or ()}

        def numbers(names: tuple[str, ...]) -> np.ndarray:
            return np.column_stack([frames.numbers("source", name, columns[name]) for name in names])

        others = {name: numbers(named) for name, named in self.beside.items()}
        return {"x": numbers(self.names)} | {
            name: found if name == "noise" else found[:, 0] for name, found in others.items()
        }


def _has_slices(value: Any) -> bool:
    named = isinstance(value, np.ndarray) and value.dtype.names
    return (
        all(hasattr(value, name) for name in ("shape", "dtype", "__getitem__")) and len(value.shape) == 2 and not named
    )


_KINDS: tuple[tuple[Callable[[Any], bool], Callable[[Any, Beside, Sequence[str] | None], Source]], ...] = (
    (lambda value: isinstance(value, Evidence), _of_record),
    (lambda value: isinstance(value, (str, os.PathLike)), _of_path),
    (partitions.is_held, _of_partitions),
    (lambda value: frames.columns_of(value) is not None, _of_frame),
    (_has_slices, _of_slices),
    (lambda value: hasattr(value, "to_batches") and hasattr(value, "schema"), _of_dataset),
    (lambda value: isinstance(value, (list, tuple)), _of_list),
    (lambda value: callable(value) and not hasattr(value, "shape"), _of_function),
)
