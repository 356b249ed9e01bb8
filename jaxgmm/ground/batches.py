"""Rows that are read a batch at a time, as often as they are needed, and what all of them say in one pass."""

import concurrent.futures
import dataclasses
import io
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from jaxgmm.ground import checks, digits, draws, files, known
from jaxgmm.ground.digits import Extent
from jaxgmm.ground.processes import Alone, Together
from jaxgmm.ground.rows import Evidence
from jaxgmm.ground.sources import Part, Source, source_of

T = TypeVar("T")

# Numbers in a batch, and its most rows: what a pass does beside its work on the rows, some tenths of a millisecond,
# is then little of it, and a few batches are little memory.
_NUMBERS, _MOST_ROWS = 2**21, 2**18
_SAMPLE = 100_000
# That of the rows whose spread is taken for that of all where no scale is given.
_SEED = 0


def batches(
    source: Any,
    *,
    weights: Any = None,
    missing: Any = "error",
    noise: Any = None,
    labels: Any = None,
    label_of_component: Any = None,
    log_evidence: Any = None,
    columns: Sequence[str] | None = None,
    batch_size: int | None = None,
    sharding: Any = None,
    all_processes: bool = False,
) -> "Batches":
    """Rows that need not fit into memory: they are read a batch at a time, for every pass anew.

    Args:
        source: where the rows are. An array or anything with slices (n, d), such as a mapped .npy file, an array of
            Zarr or a data set of HDF5; a path of a .npy, .parquet, .csv, .feather, .arrow or .orc file, a folder of
            such files of one kind, or a pattern such as "rows-*.parquet" (tables need pyarrow); a data set of
            `pyarrow.dataset`; a table in memory; rows made by `jaxgmm.rows`; a list of any of these, one after the
            other; or a function without arguments that gives an iterable of any of these, each time from the first row
            on.
        weights, labels, noise, log_evidence: as for `jaxgmm.rows`: arrays, or anything with slices, with an entry for
            each row, where `source` is an array; where it is a table, the name of a column, of as many as there are
            columns for `noise`. For functions and lists of arrays, make each part by `jaxgmm.rows`.
        missing: "error", "nan" or, where `source` is an array, a mask, as for `jaxgmm.rows`.
        label_of_component: as for `jaxgmm.rows`.
        columns: names of the columns of a table that are x, in this order. Default all that are nothing else.
        batch_size: rows in a batch. By default some two million numbers.
        sharding: a `jax.sharding.NamedSharding` of rows: batches are spread over its devices.
        all_processes: the rows of all processes of `jax.distributed` are one data set, of which each has its own
            `source`. All of them then call the same methods, and get the same sample, totals and fit.

    Returns:
        `Batches`. The first rows are looked at now, all others when they are needed.

    Raises:
        TypeError, ValueError: what it cannot be, with what to write; later, what is wrong with the rows of a batch.
        OSError: there is no such file.

    >>> import jaxgmm, numpy as np
    >>> x = np.random.default_rng(0).normal(size=(1000, 2)).astype(np.float32)
    >>> source = jaxgmm.batches([x[:400], x[400:]], batch_size=256)
    >>> [rows.x.shape for rows in source][-1]  # filled up with rows of weight 0
    (256, 2)
    >>> source.totals().n
    1000
    """
    if isinstance(source, Batches):
        raise TypeError("source is Batches already; give what it was made from, with all that is known of its rows.")
    beside = {"weights": weights, "labels": labels, "noise": noise, "log_evidence": log_evidence}
    if not isinstance(missing, str):
        beside["missing"] = missing
        missing = "error"
    elif missing not in ("error", "nan"):
        checks.one_of("missing", missing, ("error", "nan"))
    return Batches(
        source_of(source, beside, columns),
        missing=missing,
        classes=None if label_of_component is None else tuple(label_of_component),
        batch_size=None if batch_size is None else checks.count("batch_size", batch_size),
        sharding=sharding,
        processes=Together() if all_processes else Alone(),
    )


@dataclasses.dataclass(frozen=True)
class Totals:
    """What all rows add up to. Those of parts of the rows add up with `+`.

    Fields: `n`, how many rows there are; `present`, how many of positive weight; `weight` of all; `told`, that of rows
    of which something is known; `largest` weight of one.
    """

    n: int = 0
    present: int = 0
    weight: float = 0.0
    told: float = 0.0
    largest: float = 0.0

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(
            self.n + other.n,
            self.present + other.present,
            self.weight + other.weight,
            self.told + other.told,
            max(self.largest, other.largest),
        )

    def checked(self) -> "Totals":
        """`ValueError` where there is nothing to fit."""
        if not self.n:
            raise ValueError("source has no rows; expected at least one.")
        if not self.present:
            raise ValueError("weights are all zero; at least one row must have a positive weight.")
        return self


class Reservoir:
    """So many of the rows that it is offered, each as likely as any other: those of least priority (Vitter 1985)."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._priorities: list[np.ndarray] = []
        self._parts: list[Part] = []
        self._held, self._bound = 0, np.inf
        self.offered = 0

    def offer(self, priorities: np.ndarray, part: Part) -> None:
        """Rows, with a number each that was drawn evenly between 0 and 1; of 2 or more, they are left out."""
        self.offered += int(np.count_nonzero(priorities < 2))
        chosen = np.flatnonzero(priorities < min(self._bound, 2))
        if not chosen.size:
            return
        self._priorities.append(priorities[chosen])
        self._parts.append({name: array[chosen] for name, array in part.items()})
        self._held += chosen.size
        if self._held >= 2 * self.size:
            self._thin()

    def kept(self) -> tuple[np.ndarray, Part]:
        """The rows, in the order in which they were offered, and their priorities."""
        self._thin()
        return self._priorities[0], self._parts[0]

    def least(self, size: int) -> Part:
        """As many of them, or all; nothing of a reservoir that was offered nothing."""
        if not self._parts:
            return {}
        self.size = min(self.size, size)
        return self.kept()[1]

    def _thin(self) -> None:
        priorities = np.concatenate(self._priorities)
        part = joined(self._parts)
        if priorities.size > self.size:
            chosen = np.sort(np.argpartition(priorities, self.size - 1)[: self.size])
            priorities, part = priorities[chosen], {name: array[chosen] for name, array in part.items()}
            self._bound = priorities.max()
        self._priorities, self._parts, self._held = [priorities], [part], priorities.size


class Batches:
    """Rows that are read a batch at a time: made by `jaxgmm.batches`, and taken by `jaxgmm.fit_batches`.

    Going through it gives every batch as rows of one shape, the last one filled up by rows of weight 0 if it is not the
    only one. The next batch is read, by another thread, while one is worked on.

    Attributes: `n_columns`; `names` of the columns, if they have some; `dtype` of the rows; `batch_size`; `processes`,
    those that have rows of the data set.
    """

    def __init__(
        self,
        source: Source,
        *,
        missing: str = "error",
        classes: tuple[int, ...] | None = None,
        batch_size: int | None = None,
        sharding: Any = None,
        processes: Alone | None = None,
    ) -> None:
        self.processes = processes or Alone()
        self._source, self._missing, self._classes, self._sharding = source, missing, classes, sharding
        first = next(iter(source.parts(1)), None)
        if first is None:
            raise ValueError("source has no rows; expected at least one.")
        given = checks.table("source", first["x"], None).array
        self.names, self.n_columns = source.names, given.shape[1]
        self.dtype = np.dtype(checks.float_of(given.dtype))
        self._type_given = given.dtype
        self.batch_size = batch_size or self._suitable(source.n)
        self._totals: Totals | None = None

    def _suitable(self, n: int | None) -> int:
        size = max(1, min(_NUMBERS // self.n_columns, _MOST_ROWS))
        return size if n is None else min(size, n)

    def __repr__(self) -> str:
        n = "" if self._totals is None else f"{self._totals.n} rows of "
        return f"Batches({n}{self.n_columns} columns, {self.dtype}, batch_size={self.batch_size})"

    def __iter__(self) -> Iterator[Evidence]:
        for _, rows in self.each():
            yield rows

    def each(self, *, weighted: bool = True) -> Iterator[tuple[int, Evidence]]:
        """Every batch, with how many of its rows are no filling.

        If they are to be `weighted`, batches without any weight are left out.
        """
        start = 0
        for part in ahead(self._parts()):
            n = len(part["x"])
            given = part.get("weights")
            if not weighted or given is None or np.any(given != 0):
                # One batch alone is no larger than its rows.
                size = self.batch_size if start else n
                yield n, self._rows(_filled(part, size), start, n, arranged=True)
            start += n

    def totals(self) -> Totals:
        """What all rows add up to: one pass, the first time.

        Raises:
            ValueError: there is nothing to fit, or rows that cannot be taken.
        """
        if self._totals is None:
            self.look(np.random.default_rng(_SEED), 1)
        found: Any = self._totals
        return found

    def sample(self, key: jax.Array | None = None, n: int = _SAMPLE) -> Evidence:
        """So many rows, each of positive weight as likely as any other, with all that is known of them: one pass.

        To start a fit from, to choose a model by, and to look at. All rows if there are no more. Which rows they are
        depends on the key alone, not on the batches.

        Args:
            key: rows are drawn with this key. Default one that is always the same.
            n: number of rows.

        Raises:
            TypeError, ValueError: a key or a number that is none, or rows that cannot be taken.
        """
        generator = np.random.default_rng(_SEED) if key is None else draws.on_the_host(checks.key(key))
        return self.of_part(self.look(generator, checks.count("n", n)))

    def look(self, generator: np.random.Generator, size: int) -> Part:
        """A sample of the rows. Every row is looked at on the way, and what all add up to is kept.

        Of several processes, each has as large a share in it as in the rows.
        """
        reservoir = Reservoir(size)
        each = self.processes.ask(lambda: self._looked(generator, reservoir))
        self._totals = sum(each, Totals()).checked()
        if len(each) == 1:
            return reservoir.kept()[1]
        share = size if self._totals.present <= size else size / self._totals.present
        parts = self.processes.ask(lambda: reservoir.least(math.ceil(share * reservoir.offered)))
        return joined([part for part in parts if part])

    def _looked(self, generator: np.random.Generator, reservoir: Reservoir) -> Totals:
        totals, start = Totals(), 0
        spread = _Spread(self.n_columns) if digits.holds_more(self._type_given, self.dtype) else None
        for part in ahead(self._parts()):
            n = len(part["x"])
            given = part.get("weights")
            present = np.ones(n, bool) if given is None else np.asarray(given) != 0
            if present.any():
                rows = self._rows(part, start, n, arranged=False)
                weights = np.asarray(rows.weights, np.float64)
                told = np.asarray(rows.told.weights, np.float64)
                totals += Totals(n, int(present.sum()), float(weights.sum()), float(told.sum()), float(weights.max()))
                if spread is not None:
                    spread.add(part["x"][present], self.dtype)
            else:
                totals += Totals(n)
            # One draw for each row, so that no batch decides over the next.
            reservoir.offer(np.where(present, generator.random(n), 2), part)
            start += n
        if spread is not None:
            spread.check(self._type_given, self.dtype, self.names)
        return totals

    def of_part(self, part: Part) -> Evidence:
        """Rows that were taken from it before."""
        return self._rows(part, None, len(part["x"]), arranged=False)

    def apply(self, function: Callable[[Evidence], T]) -> Iterator[T]:
        """What a function says of the rows, batch by batch: a tree of arrays with an entry for each row on axis 0.

        Args:
            function: of rows as `jaxgmm.rows` makes them, such as `mixture.predict`.

        Returns:
            An iterator over trees of arrays of numpy, whose entries are those of all rows in their order.

        Raises:
            ValueError: rows that cannot be taken, or a function that does not say something of every row.
        """
        if self._totals is None and digits.holds_more(self._type_given, self.dtype):
            self.totals()  # whether they have the digits is seen from all of them
        for n, rows in self.each(weighted=False):
            told = function(rows)
            for leaf in jax.tree.leaves(told):
                if np.shape(leaf)[:1] != (rows.n,):
                    raise ValueError(
                        f"function gave an array of shape {np.shape(leaf)} for {rows.n} rows; expected one entry each."
                    )
            yield jax.tree.map(lambda leaf, n=n: np.asarray(leaf)[:n], told)

    def write(self, path: str | os.PathLike[str], function: Callable[[Evidence], Any]) -> int:
        """What a function says of the rows, as `apply`, in a file that may be larger than memory.

        The file appears whole or not at all.

        Args:
            path: a .npy file, for a function that gives an array, or a .parquet file (needs pyarrow), for one that
                gives a dictionary of arrays (n,) or (n, m), by the names of columns; of m columns they are numbered.
            function: as for `apply`.

        Returns:
            The number of rows.

        Raises:
            ValueError: another ending, or a function that gives something else; and as `apply`.
            OSError: the file cannot be written.

        >>> import jaxgmm, numpy as np, os, tempfile
        >>> x = np.random.default_rng(0).normal(size=(1000, 2)).astype(np.float32)
        >>> mixture = jaxgmm.from_parameters([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], [1.0, 1.0], "spherical")
        >>> path = os.path.join(tempfile.mkdtemp(), "density.npy")
        >>> jaxgmm.batches(x, batch_size=256).write(path, mixture.log_prob)
        1000
        >>> np.load(path).shape
        (1000,)
        """
        ending = os.path.splitext(os.fspath(path))[1].lower()
        checks.one_of("the ending of path", ending, _WRITERS)
        with files.replacing(path) as draft:
            return _WRITERS[ending](draft, self.apply(function))

    def _parts(self) -> Iterator[Part]:
        """All rows in parts of the size of a batch, but for the last."""
        return recut(self._checked(self._source.parts(self.batch_size)), self.batch_size)

    def _checked(self, parts: Iterator[Part]) -> Iterator[Part]:
        names: set[str] | None = None
        for part in parts:
            if part["x"].ndim != 2 or part["x"].shape[1] != self.n_columns:
                raise ValueError(
                    f"source has a part of shape {part['x'].shape}, and its first one has {self.n_columns} columns; "
                    "expected the same columns in all."
                )
            names = names or set(part)
            if set(part) != names:
                other = sorted(set(part) ^ names)[0]
                raise ValueError(f"source has {other} in some of its parts only; expected it in all or in none.")
            yield part

    def _rows(self, part: Part, start: int | None, n: int, *, arranged: bool) -> Evidence:
        """Rows as verbs take them; `start` is the number of the first, for messages, and `n` of them are no filling."""
        x, others = part["x"], {name: array for name, array in part.items() if name != "x"}
        missing = others.pop("missing", None)
        weights = others.pop("weights", None)
        if n < len(x):
            weights = np.ones(len(x), self.dtype) if weights is None else weights
            weights = np.where(np.arange(len(x)) < n, weights, 0)
        if self._sharding is not None:
            x = jax.device_put(x.astype(self.dtype, copy=False), self._sharding)
        try:
            return known.evidence(
                _plain(x, self.dtype),
                weights,
                others.get("labels"),
                label_of_component=self._classes,
                # Whether the type has digits enough is seen from all rows.
                extent=lambda rough: Extent(np.zeros(self.n_columns), np.full(self.n_columns, np.inf)),
                missing=self._missing if missing is None else missing.astype(bool, copy=False),
                noise=others.get("noise"),
                log_evidence=others.get("log_evidence"),
                arranged=arranged,
            )
        except ValueError as error:
            if start is None:
                raise
            found = str(error).replace("write jaxgmm.rows(x, missing='nan') in the place of x", "say missing='nan'")
            raise ValueError(
                f"In the rows from {start} to {start + n - 1} of source, counted from the first of these: {found}"
            ) from None


class _Spread:
    """How far columns spread, and how far their entries would be moved by rounding."""

    def __init__(self, n_columns: int) -> None:
        self.n, self.origin = 0, np.full(n_columns, np.nan)
        self.sums: Any = np.zeros(n_columns)
        self.squares: Any = np.zeros(n_columns)
        self.moved: Any = np.zeros(n_columns)

    def add(self, x: np.ndarray, dtype: Any) -> None:
        with np.errstate(all="ignore"):
            exact = x.astype(np.float64)
            moved = np.abs(exact - x.astype(dtype))
            self.origin = self.origin if self.n else exact[0]
            away = np.where(np.isfinite(exact), exact - self.origin, 0)
            self.moved = np.fmax(self.moved, np.nan_to_num(moved, nan=0).max(axis=0))
            self.n += len(x)
            self.sums, self.squares = self.sums + away.sum(axis=0), self.squares + (away**2).sum(axis=0)

    def check(self, given: Any, dtype: Any, names: tuple[str, ...]) -> None:
        mean = self.sums / max(self.n, 1)
        deviation = np.sqrt(np.maximum(self.squares / max(self.n, 1) - mean**2, 0))
        for place in np.flatnonzero((self.moved > digits.SHARE / 2 * deviation) & (deviation > 0)):
            column = names[place] if names else int(place)
            raise ValueError(
                f"source holds numbers of type {given} in column {column!r} that {dtype} rounds by "
                f"{self.moved[place]:.3g}, and its standard deviation is {deviation[place]:.3g}: turn on JAX's 64-bit "
                "mode first, jax.config.update('jax_enable_x64', True), or subtract an offset from that column."
            )


def ahead(parts: Iterable[T]) -> Iterator[T]:
    """The same, each one made by another thread while the one before it is used."""
    end = object()
    source = iter(parts)
    with concurrent.futures.ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, source, end)
        while True:
            part: Any = coming.result()
            if part is end:
                return
            coming = reader.submit(next, source, end)
            yield part


def recut(parts: Iterator[Part], size: int) -> Iterator[Part]:
    """The same rows in parts of `size` rows, but for the last."""
    held: list[Part] = []
    n = 0
    for part in parts:
        place, length = 0, len(part["x"])
        while place < length:
            taken = min(size - n, length - place)
            held.append({name: array[place : place + taken] for name, array in part.items()})
            n, place = n + taken, place + taken
            if n == size:
                yield joined(held)
                held, n = [], 0
    if n:
        yield joined(held)


def joined(parts: list[Part]) -> Part:
    """One after the other."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _filled(part: Part, size: int) -> Part:
    """Repetitions of its last row bring it to that size."""
    short = size - len(part["x"])
    if not short:
        return part
    return {name: np.concatenate([array, np.repeat(array[-1:], short, axis=0)]) for name, array in part.items()}


def _plain(x: Any, dtype: Any) -> Any:
    """Of the type of all rows: one part may be of whole numbers alone."""
    if isinstance(x, jax.Array) or x.dtype.kind == "f" or not np.issubdtype(dtype, np.floating):
        return x
    return x.astype(np.float64)


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
            columns: dict[str, Any] = {}
            for name, array in one.items():
                many = array.ndim > 1
                named = [f"{name}_{place}" for place in range(math.prod(array.shape[1:]))] if many else [name]
                columns |= dict(zip(named, array.reshape(len(array), -1).T, strict=True))
            table = pyarrow.table(columns)
            writer = writer or pyarrow.parquet.ParquetWriter(draft, table.schema)
            writer.write_table(table)
            n += table.num_rows
    finally:
        if writer is not None:
            writer.close()
    return n


_WRITERS: dict[str, Callable[[str, Iterator[Any]], int]] = {".npy": _to_npy, ".parquet": _to_parquet}
