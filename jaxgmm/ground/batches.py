"""Rows that are read a batch at a time, as often as they are needed, and what all of them say in one pass."""

import functools
import math
import operator
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import NamedSharding

from jaxgmm.ground import checks, digits, draws, files, known
from jaxgmm.ground.digits import Extent
from jaxgmm.ground.parts import Part, filled_up, joined, recut
from jaxgmm.ground.processes import Alone
from jaxgmm.ground.rows import Evidence
from jaxgmm.ground.sources import Source
from jaxgmm.ground.surveys import Reservoir, Spread, Survey, Totals, fingerprint_of
from jaxgmm.ground.threads import ahead, cores
from jaxgmm.ground.written import WRITERS

T = TypeVar("T")
Watch = Callable[[int], None]
"""Told of so many more rows that a pass has seen; it may raise, which ends the pass."""

# Numbers in a batch, and its most rows: what a pass does beside its work on the rows, some tenths of a millisecond,
# is then little of it, and a few batches are little memory.
_NUMBERS, _MOST_ROWS = 2**21, 2**18
_SAMPLE = 100_000
# Rows to look at first: a reader of tables takes as long for one as for some thousands.
_LOOK = 2**12
# That of the rows whose spread is taken for that of all where no scale is given.
SEED = 0


class Batches:
    """Rows that are read a batch at a time: made by `jaxgmm.batches`, and taken by `jaxgmm.fit_batches`.

    Going through it gives the batches as rows of one shape, the last one filled up by rows of weight 0, and those left
    out that have no weight at all. While some are worked on, the next one is read by another thread.

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
        first = source.blank or next((part for part in source.parts(_LOOK) if len(part["x"])), None)
        if first is None:
            raise ValueError("source has no rows; expected at least one.")
        given = checks.table("source", first["x"], None).array
        self.names, self.n_columns = source.names, given.shape[1]
        self.dtype = np.dtype(checks.float_of(given.dtype))
        self._type_given = given.dtype
        most = batch_size if source.n is None or batch_size is None else min(batch_size, max(1, source.n))
        self.batch_size = self._shared_out(most or self._suitable(source.n))
        self._totals: Totals | None = None
        # Rows that this process has, once they have been counted.
        self.n_here: int | None = source.n

    def _suitable(self, n: int | None) -> int:
        size = max(1, min(_NUMBERS // self.n_columns, _MOST_ROWS))
        return size if n is None else max(1, min(size, n))

    def _shared_out(self, n: int) -> int:
        """As many rows or more, which all devices share out evenly."""
        devices = 1 if self._sharding is None else _number(self._sharding)
        return -(-n // devices) * devices

    def __repr__(self) -> str:
        n = "" if self._totals is None else f"{self._totals.n} rows of "
        return f"{type(self).__name__}({n}{self.n_columns} columns, {self.dtype}, batch_size={self.batch_size})"

    def __iter__(self) -> Iterator[Evidence]:
        for _, rows in self.each():
            yield rows

    @property
    def workers(self) -> int:
        """How many batches are worked on at a time; of batches on several devices, one."""
        return cores() if self._sharding is None else 1

    def each(self, *, weighted: bool = True, extent: Any = None) -> Iterator[tuple[int, Evidence]]:
        """Every batch, with how many of its rows are no filling.

        If they are to be `weighted`, batches without any weight are left out. The digits of entries are compared with
        an `extent`, as `known.evidence` has it; by default they have been, over all rows.
        """
        start = 0
        for part in ahead(self._parts()):
            n = len(part["x"])
            given = part.get("weights")
            if not weighted or given is None or np.any(given != 0):
                # Of rows of which it was not known how few they are, one batch is no larger than they.
                size = self._shared_out(n) if self._source.n is None and not start else self.batch_size
                yield n, self._rows(filled_up(part, size), start, n, to_work_on=True, extent=extent)
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
        each = self.processes.ask(lambda: function(asked, self, watch))
        return functools.reduce(add, each)

    def totals(self) -> Totals:
        """What all rows add up to: one pass, the first time.

        Raises:
            ValueError: there is nothing to fit, or rows that cannot be taken.
        """
        if self._totals is None:
            self.look(np.random.default_rng(SEED), 1)
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
        generator = np.random.default_rng(SEED) if key is None else draws.on_the_host(checks.key(key))
        return self.of_part(self.look(generator, checks.count("n", n)))

    def look(self, generator: np.random.Generator, size: int) -> Part:
        """A sample of the rows. Every row is looked at on the way, and what all add up to is kept.

        Of several processes, each has as large a share in it as in the rows.
        """
        reservoir = Reservoir(size)
        each = self.processes.ask(lambda: self.survey(generator, reservoir).alone)
        totals = self._taken(functools.reduce(operator.add, each))
        if len(each) == 1:
            return reservoir.kept()[1]
        share = size if totals.present <= size else size / totals.present
        parts = self.processes.ask(lambda: reservoir.least(math.ceil(share * reservoir.offered)))
        return joined([part for part in parts if part])

    def survey(self, generator: np.random.Generator, reservoir: Reservoir) -> Survey:
        """What one pass of this process says of the rows, each of which is offered to a reservoir."""
        totals, start = Totals(), 0
        spread = Spread(self.n_columns) if digits.holds_more(self._type_given, self.dtype) else None
        for part in ahead(self._parts()):
            n = len(part["x"])
            given = part.get("weights")
            present = np.ones(n, bool) if given is None else np.asarray(given) != 0
            if present.any():
                rows = self._rows(part, start, n)
                weights = np.asarray(rows.weights, np.float64)
                told = np.asarray(rows.told.weights, np.float64)
                sums = float(weights.sum()), float(told.sum()), float(weights.max())
                totals += Totals(n, int(present.sum()), *sums, fingerprint_of(part, start))
                if spread is not None:
                    spread.add(part["x"][present], self.dtype)
            else:
                totals += Totals(n)
            # One draw for each row, so that no batch decides over the next.
            reservoir.offer(np.where(present, generator.random(n), 2), part)
            start += n
        self.n_here = start
        return Survey(totals, reservoir, spread)

    def _taken(self, survey: Survey) -> Totals:
        """What they add up to, if these are rows that can be fitted."""
        self._totals = survey.totals.checked()
        if survey.spread is not None:
            survey.spread.check(self._type_given, self.dtype, self.names)
        return self._totals

    def _plain(self, x: np.ndarray) -> np.ndarray:
        """Of the type of all rows, or of one that is narrowed to it."""
        if x.dtype == self._type_given:
            return x
        if digits.holds_more(self._type_given, self.dtype):
            return x
        with np.errstate(over="ignore"):
            narrowed = x.astype(self.dtype)
        # A table without a gap in its first rows may be of a wider type where there is one.
        if digits.holds_more(x.dtype, self.dtype) and not np.array_equal(narrowed, x, equal_nan=True):
            raise ValueError(
                f"source has a part of dtype {x.dtype} behind one of {self._type_given}, which has fewer digits; "
                f"expected one type: convert it, as by x.astype({self.dtype.name!r})."
            )
        return narrowed

    def _boundless(self, rough: bool) -> Extent:
        """Beside which no digit matters."""
        return Extent(np.zeros(self.n_columns), np.full(self.n_columns, np.inf))

    def of_part(self, part: Part) -> Evidence:
        """Rows that were taken from it before."""
        return self._rows(part, None, len(part["x"]))

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
            yield jax.tree.map(lambda leaf, n=n: np.asarray(leaf)[:n], each_row(function(rows), rows.n))

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
        checks.one_of("the ending of path", ending, WRITERS)
        with files.replacing(path) as draft:
            return WRITERS[ending](draft, self.apply(function))

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
            if not len(part["x"]):
                continue
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

    def _rows(self, part: Part, start: int | None, n: int, *, to_work_on: bool = False, extent: Any = None) -> Evidence:
        """Rows as verbs take them; `start` is the number of the first, for messages, and `n` of them are no filling.

        Those that a pass works on lie on all devices, and in patterns of gaps.
        """
        x, others = part["x"], {name: array for name, array in part.items() if name != "x"}
        missing = others.pop("missing", None)
        weights = others.pop("weights", None)
        if weights is not None and not np.any(weights):
            # Absent rows, which may hold anything, of which something is to be said all the same.
            x, weights, missing = np.where(np.isfinite(x), x, 0), None, None
        if n < len(x):
            weights = np.ones(len(x), self.dtype) if weights is None else weights
            weights = np.where(np.arange(len(x)) < n, weights, 0)
        x = self._plain(x)
        if self._sharding is not None and to_work_on:
            x = jax.device_put(x.astype(self.dtype, copy=False), self._sharding)
        try:
            return known.evidence(
                x,
                weights,
                others.get("labels"),
                label_of_component=self._classes,
                extent=extent or self._boundless,
                missing=self._missing if missing is None else missing.astype(bool, copy=False),
                noise=others.get("noise"),
                log_evidence=others.get("log_evidence"),
                arranged=to_work_on,
            )
        except ValueError as error:
            if start is None:
                raise
            found = str(error).replace("write jaxgmm.rows(x, missing='nan') in the place of x", "say missing='nan'")
            raise ValueError(
                f"In the rows from {start} to {start + n - 1} of source, counted from the first of these: {found}"
            ) from None


def each_row(told: T, n: int) -> T:
    """The same, if it is of each of n rows."""
    for leaf in jax.tree.leaves(told):
        if np.shape(leaf)[:1] != (n,):
            raise ValueError(f"function gave an array of shape {np.shape(leaf)} for {n} rows; expected one entry each.")
    return told


def _number(sharding: Any) -> int:
    """Of the devices that share out the rows."""
    if not isinstance(sharding, NamedSharding):
        raise TypeError(f"sharding is of type {type(sharding).__name__}; expected a jax.sharding.NamedSharding.")
    axes = sharding.spec[0] if len(sharding.spec) else None
    names = axes if isinstance(axes, tuple) else () if axes is None else (axes,)
    return math.prod(sharding.mesh.shape[name] for name in names)
