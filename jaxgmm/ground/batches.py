"""Rows that are read a batch at a time, as often as they are needed, and what all of them say in one pass."""

import concurrent.futures
import dataclasses
import io
import math
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from jaxgmm.ground import checks, digits, draws, files, known
from jaxgmm.ground.digits import Extent
from jaxgmm.ground.partitions import Partitions
from jaxgmm.ground.rows import Evidence
from jaxgmm.ground.sources import Part, Source, source_of

T = TypeVar("T")
Watch = Callable[[int], None]
"""Told of so many more rows that a pass has seen; it may raise, which ends the pass."""

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
) -> "Batches":
    """Rows that need not fit into memory: they are read a batch at a time, for every pass anew.

    Args:
        source: where the rows are. An array or anything with slices (n, d), such as a mapped .npy file, an array of
            Zarr or a data set of HDF5; a path of a .npy, .parquet, .csv, .feather, .arrow or .orc file, a folder of
            such files of one kind, or a pattern such as "rows-*.parquet" (tables need pyarrow); a data set of
            `pyarrow.dataset`; a table in memory; rows made by `jaxgmm.rows`; a list of any of these, one after the
            other; or a function without arguments that gives an iterable of any of these, each time from the first row
            on. Or a data frame of Dask or Spark, or an array (n, d) of Dask, whose workers then go through their
            partitions where they are.
        weights, labels, noise, log_evidence: as for `jaxgmm.rows`: arrays, or anything with slices, with an entry for
            each row, where `source` is an array; where it is a table, the name of a column, of as many as there are
            columns for `noise`. For functions and lists of arrays, make each part by `jaxgmm.rows`.
        missing: "error", "nan" or, where `source` is an array, a mask, as for `jaxgmm.rows`.
        label_of_component: as for `jaxgmm.rows`.
        columns: names of the columns of a table that are x, in this order. Default all that are nothing else.
        batch_size: rows in a batch. By default some two million numbers.
        sharding: a `jax.sharding.NamedSharding` of rows: batches are spread over its devices. Not for the partitions
            of others.

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
    found = source_of(source, beside, columns)
    kind = Batches if found.partitions is None else Partitioned
    return kind(
        found,
        missing=missing,
        classes=None if label_of_component is None else tuple(label_of_component),
        batch_size=None if batch_size is None else checks.count("batch_size", batch_size),
        sharding=sharding,
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

    def __init__(self, size: int, bound: float = np.inf) -> None:
        """Of no row whose priority is not below the `bound`."""
        self.size = size
        self._priorities: list[np.ndarray] = []
        self._parts: list[Part] = []
        self._held, self._bound = 0, bound

    def offer(self, priorities: np.ndarray, part: Part) -> None:
        """Rows, with a number each that was drawn evenly between 0 and 1; of 2 or more, they are left out."""
        chosen = np.flatnonzero(priorities < min(self._bound, 2))
        if not chosen.size:
            return
        self._priorities.append(priorities[chosen])
        self._parts.append({name: array[chosen] for name, array in part.items()})
        self._held += chosen.size
        if self._held >= 2 * self.size:
            self._thin()

    def __add__(self, other: "Reservoir") -> "Reservoir":
        """Of the rows that were offered to both, first those of this one."""
        found = Reservoir(self.size)
        for one in (self, other):
            for priorities, part in zip(one._priorities, one._parts, strict=True):
                found.offer(priorities, part)
        return found

    @property
    def n(self) -> int:
        """How many there are."""
        return min(self._held, self.size)

    def kept(self) -> tuple[np.ndarray, Part]:
        """The rows, in the order in which they were offered, and their priorities."""
        self._thin()
        return self._priorities[0], self._parts[0]

    def _thin(self) -> None:
        priorities = np.concatenate(self._priorities)
        part = joined(self._parts)
        if priorities.size > self.size:
            chosen = np.sort(np.argpartition(priorities, self.size - 1)[: self.size])
            priorities, part = priorities[chosen], {name: array[chosen] for name, array in part.items()}
            self._bound = priorities.max()
        self._priorities, self._parts, self._held = [priorities], [part], priorities.size


@dataclasses.dataclass(frozen=True)
class Survey:
    """What one pass says of rows. Those of parts of the rows add up with `+`.

    Fields: `totals`; `reservoir`, to which all were offered; `spread`, where digits might be lost.
    """

    totals: Totals
    reservoir: Reservoir
    spread: "_Spread | None"

    def __add__(self, other: "Survey") -> "Survey":
        spread = None if self.spread is None or other.spread is None else self.spread + other.spread
        return Survey(self.totals + other.totals, self.reservoir + other.reservoir, spread)


class Batches:
    """Rows that are read a batch at a time: made by `jaxgmm.batches`, and taken by `jaxgmm.fit_batches`.

    Going through it gives every batch as rows of one shape, the last one filled up by rows of weight 0. The next batch
    is read, by another thread, while one is worked on.

    Attributes: `n_columns`; `names` of the columns, if they have some; `dtype` of the rows; `batch_size`.
    """

    def __init__(
        self,
        source: Source,
        *,
        missing: str = "error",
        classes: tuple[int, ...] | None = None,
        batch_size: int | None = None,
        sharding: Any = None,
    ) -> None:
        self._source, self._missing, self._classes, self._sharding = source, missing, classes, sharding
        first = source.blank or next(iter(source.parts(1)), None)
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
                yield n, self._rows(_filled(part, self.batch_size), start, n, arranged=True)
            start += n

    def total(
        self,
        function: Callable[[Any, "Batches", Watch], T],
        asked: Any,
        add: Callable[[T, T], T],
        watch: Watch = lambda n: None,
    ) -> T:
        """What a function says of something that is asked, a tree of arrays, and of all rows.

        It may be called for parts of the rows, anywhere, and what it says is then added; so all of it must be of a
        kind that can be pickled, but `watch`, which is told of so many more rows that have been seen.
        """
        return function(asked, self, watch)

    def totals(self) -> Totals:
        """What all rows add up to: one pass, the first time.

        Raises:
            ValueError: there is nothing to fit, or rows that cannot be taken.
        """
        if self._totals is None:
            self.look(np.random.default_rng(_SEED), 1)
        assert self._totals is not None
        return self._totals

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
        _, part = self.look(generator, checks.count("n", n)).kept()
        return self.of_part(part)

    def look(self, generator: np.random.Generator, size: int) -> Reservoir:
        """A sample of the rows. Every row is looked at on the way, and what all add up to is kept."""
        return self._taken(self.survey(generator, Reservoir(size))).reservoir

    def survey(self, generator: np.random.Generator, reservoir: Reservoir) -> "Survey":
        """What one pass says of the rows, each of which is offered to a reservoir."""
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
        return Survey(totals, reservoir, spread)

    def _taken(self, survey: "Survey") -> "Survey":
        """The same, if it is of rows that can be fitted."""
        self._totals = survey.totals.checked()
        if survey.spread is not None:
            survey.spread.check(self._type_given, self.dtype, self.names)
        return survey

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
            yield jax.tree.map(lambda leaf, n=n: np.asarray(leaf)[:n], _each(function(rows), rows.n))

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

    def with_columns(self, mixture: Any, functions: Mapping[str, Callable[[Any, Evidence], Any]]) -> Any:
        """The data frame of Dask or Spark it was made from, with columns of what functions say of its rows.

        Lazily, partition by partition, in the precision that JAX has here. The other columns stay.

        Args:
            mixture: the first argument of all functions, a tree of arrays.
            functions: by the names of their columns; of the mixture and of rows, such as `Mixture.predict`,
                `Mixture.log_prob` or `impute`. Of those that give (n, m), the m columns are numbered.

        Returns:
            A data frame of Dask or Spark.

        Raises:
            TypeError: the rows are not those of a data frame of Dask or Spark.
            ValueError: a function that does not say something of every row; later, rows that cannot be taken.

        >>> import dask.dataframe, jaxgmm, numpy as np, pandas as pd
        >>> frame = pd.DataFrame(np.random.default_rng(0).normal(size=(100, 2)), columns=["a", "b"])
        >>> source = jaxgmm.batches(dask.dataframe.from_pandas(frame.astype(np.float32), npartitions=2))
        >>> mixture = jaxgmm.from_parameters([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], [1.0, 1.0], "spherical")
        >>> list(source.with_columns(mixture, {"label": jaxgmm.Mixture.predict}).compute().columns)
        ['a', 'b', 'label']
        """
        raise TypeError("source is no data frame of Dask or Spark; use apply, or write for a file.")

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
            raise ValueError(
                f"In the rows from {start} to {start + n - 1} of source, counted from the first of these: {error}"
            ) from None


class Partitioned(Batches):
    """Batches of rows that an engine holds in partitions.

    What is added over all rows, `totals` and the statistics of a fit, is so by its workers, and what they say travels,
    as do the rows of a sample. Whatever else goes through the batches brings the rows here, one partition after the
    other.
    """

    def __init__(self, source: Source, **options: Any) -> None:
        super().__init__(source, **options)
        if options.pop("sharding") is not None:
            raise TypeError("sharding is of devices here, and source has its rows elsewhere; leave it out.")
        self._options = options

    def __repr__(self) -> str:
        return f"Partitioned{super().__repr__().removeprefix('Batches')}"

    def total(
        self,
        function: Callable[[Any, Batches, Watch], T],
        asked: Any,
        add: Callable[[T, T], T],
        watch: Watch = lambda n: None,
    ) -> T:
        partitions, task = self._task(function, asked)
        found = partitions.total(task, add)
        if self._totals is not None:
            watch(self._totals.n)
        return found

    def with_columns(self, mixture: Any, functions: Mapping[str, Callable[[Any, Evidence], Any]]) -> Any:
        if digits.holds_more(self._type_given, self.dtype):
            self.totals()  # whether they have the digits is seen from all of them
        assert self._source.blank is not None
        part = {name: np.ones_like(array) if name in _ONES else array for name, array in self._source.blank.items()}
        like = {name: array[:0] for name, array in _columns(functions, mixture, self.of_part(part)).items()}
        partitions, task = self._task(_told, (tuple(functions.items()), mixture, tuple(like.items())))
        return partitions.extended(task, like)

    def _task(self, function: Callable[[Any, Any, Watch], Any], asked: Any) -> tuple[Partitions, "_Task"]:
        source = self._source
        assert source.partitions is not None
        assert source.opened is not None
        # Arrays of numpy keep their type wherever they are unpickled.
        plain = jax.tree.map(lambda leaf: np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf, asked)
        in_64_bits = checks.float_of(np.dtype(np.float64)) == np.float64
        return source.partitions, _Task(source.opened, source.blank, self._options, in_64_bits, function, plain)

    def totals(self) -> Totals:
        if self._totals is None:
            self._taken(self.total(_survey, (0, 1, 0.0), operator.add))
        assert self._totals is not None
        return self._totals

    def look(self, generator: np.random.Generator, size: int) -> Reservoir:
        """A sample of the rows, which depends on how they are divided into partitions, but not on who works on them."""
        seed, present = int(generator.integers(2**63)), self.totals().present
        # So many are below the bound that hardly ever another pass is needed, and few more than that travel.
        bound = (size + 6 * math.sqrt(size) + 30) / present
        while True:
            found = self.total(_survey, (seed, size, bound), operator.add).reservoir
            if found.n == min(size, present):
                return found
            bound *= 2


@dataclasses.dataclass(frozen=True)
class _Task:
    """What an engine's worker does to a partition: it makes batches of it, in the precision of who asks."""

    opened: Callable[[Any], Source]
    blank: Part | None
    options: dict[str, Any]
    in_64_bits: bool
    function: Callable[[Any, Batches, Watch], Any]
    asked: Any

    def __call__(self, place: int, value: Any) -> Any:
        with jax.enable_x64(self.in_64_bits):
            try:
                source = dataclasses.replace(self.opened(value), blank=self.blank)
                return self.function(self.asked, _Partition(source, place, **self.options), lambda n: None)
            except (TypeError, ValueError) as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise kind(f"In partition {place}: {error}") from error


class _Partition(Batches):
    """The partition of that number. Few sizes of batches serve partitions of many sizes, as each is compiled for."""

    def __init__(self, source: Source, place: int, **options: Any) -> None:
        super().__init__(source, **options)
        self.place = place

    def _suitable(self, n: int | None) -> int:
        fineness = 1 if n is None else 2 ** max(0, n.bit_length() - 3)
        return super()._suitable(n if n is None else -(-n // fineness) * fineness)


def _survey(asked: tuple[int, int, float], batches: Any, watch: Watch) -> "Survey":
    seed, size, bound = asked
    return batches.survey(np.random.default_rng((int(seed), batches.place)), Reservoir(int(size), float(bound)))


# What of rows is not zero where nothing is known of them.
_ONES = ("weights", "noise")


def _told(asked: Any, batches: Batches, watch: Watch) -> dict[str, np.ndarray]:
    # As pairs, as a dictionary comes out of JAX in the order of its names.
    functions, mixture, like = dict(asked[0]), asked[1], dict(asked[2])
    mixture = jax.tree.map(jax.numpy.asarray, mixture)
    found = [(n, _columns(functions, mixture, rows)) for n, rows in batches.each(weighted=False)]
    return {name: np.concatenate([array, *(one[name][:n] for n, one in found)]) for name, array in like.items()}


def _columns(functions: Mapping[str, Callable[[Any, Evidence], Any]], mixture: Any, rows: Evidence) -> dict[str, Any]:
    told = {name: function(mixture, rows) for name, function in functions.items()}
    return _flat({name: np.asarray(array) for name, array in _each(told, rows.n).items()})


class _Spread:
    """How far columns spread, and how far their entries would be moved by rounding."""

    def __init__(self, n_columns: int) -> None:
        # Entries that are known, and the first of them, by column.
        self.n: Any = np.zeros(n_columns)
        self.origin: Any = np.full(n_columns, np.nan)
        self.sums: Any = np.zeros(n_columns)
        self.squares: Any = np.zeros(n_columns)
        self.moved: Any = np.zeros(n_columns)

    def add(self, x: np.ndarray, dtype: Any) -> None:
        with np.errstate(all="ignore"):
            exact = x.astype(np.float64)
            there = np.isfinite(exact)
            first = np.where(there.any(axis=0), exact[there.argmax(axis=0), np.arange(exact.shape[1])], np.nan)
            self.origin = np.where(self.n > 0, self.origin, first)
            away = np.where(there, exact - self.origin, 0)
            moved = np.abs(exact - x.astype(dtype))
            self.moved = np.fmax(self.moved, np.nan_to_num(moved, nan=0).max(axis=0))
            self.n = self.n + there.sum(axis=0)
            self.sums, self.squares = self.sums + away.sum(axis=0), self.squares + (away**2).sum(axis=0)

    def __add__(self, other: "_Spread") -> "_Spread":
        found = _Spread(self.origin.size)
        found.n, found.moved = self.n + other.n, np.fmax(self.moved, other.moved)
        found.origin = np.where(self.n > 0, self.origin, other.origin)
        with np.errstate(all="ignore"):
            # Where one of them has none, it adds nothing.
            away = np.where((self.n > 0) & (other.n > 0), other.origin - self.origin, 0)
            found.sums = self.sums + other.sums + other.n * away
            found.squares = self.squares + other.squares + away * (2 * other.sums + other.n * away)
        return found

    def check(self, given: Any, dtype: Any, names: tuple[str, ...]) -> None:
        n = np.maximum(self.n, 1)
        deviation = np.sqrt(np.maximum(self.squares / n - (self.sums / n) ** 2, 0))
        for place in np.flatnonzero((self.moved > digits.SHARE / 2 * deviation) & (deviation > 0)):
            column = names[place] if names else int(place)
            raise ValueError(
                f"source holds numbers of type {given} in column {column!r} that {dtype} rounds by "
                f"{self.moved[place]:.3g}, and its standard deviation is {deviation[place]:.3g}: turn on JAX's 64-bit "
                "mode first, jax.config.update('jax_enable_x64', True), or subtract an offset from that column."
            )


def _each(told: T, n: int) -> T:
    """The same, if it is of each of n rows."""
    for leaf in jax.tree.leaves(told):
        if np.shape(leaf)[:1] != (n,):
            raise ValueError(f"function gave an array of shape {np.shape(leaf)} for {n} rows; expected one entry each.")
    return told


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
    """Appended, with the shape put into the header at the end, for which there is room."""
    n = 0
    dtype: Any = None
    shape: tuple[int, ...] = ()
    with open(draft, "wb") as file:
        for one in told:
            if not isinstance(one, np.ndarray):
                raise ValueError(f"function gave a {type(one).__name__}; expected an array, for a .npy file.")
            if dtype is None:
                dtype, shape = one.dtype, one.shape[1:]
                file.write(_header(dtype, shape, 0))
            file.write(np.ascontiguousarray(one).tobytes())
            n += len(one)
        file.seek(0)
        file.write(_header(dtype, shape, n))
    return n


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
            table = pyarrow.table(_flat(one))
            writer = writer or pyarrow.parquet.ParquetWriter(draft, table.schema)
            writer.write_table(table)
            n += table.num_rows
    finally:
        if writer is not None:
            writer.close()
    return n


def _flat(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays (n,) by the names of columns: numbered, of arrays with more axes."""
    columns: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        named = [f"{name}_{place}" for place in range(math.prod(array.shape[1:]))] if array.ndim > 1 else [name]
        columns |= dict(zip(named, array.reshape(len(array), -1).T, strict=True))
    return columns


_WRITERS: dict[str, Callable[[str, Iterator[Any]], int]] = {".npy": _to_npy, ".parquet": _to_parquet}
