"""The rows and columns of a table that are fitted."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

import jaxgmm
from jaxgmm.cli import report
from jaxgmm.cli.groups import GroupReader, Groups
from jaxgmm.cli.held import Held, Parts, Rows, Spool
from jaxgmm.cli.kinds import Kinds, families
from jaxgmm.cli.numbers import named, numeric_columns
from jaxgmm.cli.partial import Entries, entries, errors_of
from jaxgmm.cli.problem import Problem
from jaxgmm.cli.tables import Table
from jaxgmm.cli.text import Part
from jaxgmm.ground.batches import Batches
from jaxgmm.ground.padding import padded
from jaxgmm.ground.sources import Source

# A table of more numbers is read anew for each pass over it. What is held of it is a sample of so many rows or, of many
# columns, of about so many numbers: to compare candidates takes thirty times the memory of what they are fitted to.
MOST, SAMPLE, SAMPLED, LEAST = 2**20, 100_000, 2**18, 10_000
# Numbers in a batch of one, and its most rows.
_BATCH, MOST_ROWS = 2**19, 2**16
# Formats that take as long to read as a pass over the rows takes, or longer.
_SLOW = ("csv", "tsv")


@dataclasses.dataclass(frozen=True)
class Whole:
    """All rows of a table that are fitted, of which a sample is held.

    Fields: `parts`, from about how many rows there are to be in one to all parts; `n`, how many rows there are;
    `incomplete`, rows with missing entries; `least` and `most` entry of each column; `classed` (c,), rows of each
    class; `aside`, which rows of the table stand alone and are not among these.
    """

    parts: Parts
    n: int
    incomplete: int
    least: np.ndarray
    most: np.ndarray
    classed: np.ndarray
    aside: np.ndarray

    def of(self, columns: list[int]) -> "Whole":
        """The same rows in these columns, but for those of which nothing is seen in them."""

        def parts(size: int) -> Iterator[Rows]:
            for rows in self.parts(size):
                rows = rows | {name: rows[name][:, columns] for name in ("x", "noise") if name in rows}
                nothing = np.isnan(rows["x"]).all(axis=1) & (rows.get("labels", np.array(-1)) < 0)
                yield _where(rows, ~nothing)

        return dataclasses.replace(self, parts=parts, least=self.least[columns], most=self.most[columns])

    def without(self, aside: np.ndarray) -> "Whole":
        """The same, but for these rows of the table."""

        def parts(size: int) -> Iterator[Rows]:
            for rows in self.parts(size):
                yield _where(rows, ~np.isin(rows["place"], aside))

        return dataclasses.replace(self, parts=parts, aside=aside)

    def batches(self, names: list[str]) -> Batches:
        """The rows as `fit_batches` takes them."""

        def parts(size: int) -> Iterator[Rows]:
            for rows in self.parts(size):
                yield {name: array for name, array in rows.items() if name != "place"}

        missing = "nan" if self.incomplete else "error"
        return Batches(Source(parts, tuple(names)), missing=missing, batch_size=self.batch_size)

    @property
    def batch_size(self) -> int:
        """Rows to work on at a time."""
        return max(1, min(_BATCH // len(self.least), MOST_ROWS))

    def evidence(self, rows: Rows) -> jaxgmm.Evidence:
        """Some of the rows as the library takes them, filled up to one of a few lengths."""
        weights = rows.get("weights", np.ones((), rows["x"].dtype))
        weights = np.broadcast_to(weights, len(rows["x"]))
        return _record(padded, rows["x"], weights, rows.get("noise"), None, gaps=self.incomplete > 0)


def _where(rows: Rows, chosen: np.ndarray) -> Rows:
    return rows if chosen.all() else {name: array[chosen] for name, array in rows.items()}


def _record(
    of: Callable[[np.ndarray], np.ndarray],
    x: np.ndarray,
    weights: np.ndarray,
    noise: np.ndarray | None,
    labels: np.ndarray | None,
    *,
    gaps: bool,
) -> jaxgmm.Evidence:
    return jaxgmm.rows(
        of(x),
        of(weights),
        missing="nan" if gaps else "error",
        noise=None if noise is None else of(noise),
        labels=None if labels is None else of(labels),
    )


@dataclasses.dataclass(frozen=True)
class Selected:
    """What is fitted, or of a large table a sample of it, and the `whole`.

    Fields: `x` (n, d), NaN where an entry is missing; `weights` (n,); `places` (n,), which rows of the table these are;
    `columns`, d names; `unused`, names of columns left out; `dropped`, number of rows left out; `missing`, entries that
    are by column; `duplicates`, rows that are like another one before them, None if that is not known; `notes`, what
    was found out about the table; `groups`, which rows of the table belong together, None if all do; `noise` (n, d),
    variances of errors, from the columns `errors`; `labels` (n,), number of the class of each row, -1 where it is not
    known, and `label_of` gives them for a part of the table; `classes`, what these are called in the column `labelled`;
    `partial`, whether rows are fitted by what there is of them; `kinds` of the columns, None if all are of numbers.
    """

    x: np.ndarray
    weights: np.ndarray
    places: np.ndarray
    columns: list[str]
    unused: list[str]
    dropped: int
    missing: dict[str, int]
    duplicates: int | None
    notes: list[str]
    groups: Groups | None = None
    noise: np.ndarray | None = None
    errors: dict[str, str] = dataclasses.field(default_factory=dict)
    labels: np.ndarray | None = None
    label_of: Callable[[Part], np.ndarray] | None = None
    classes: list[str] = dataclasses.field(default_factory=list)
    labelled: str | None = None
    partial: bool = False
    whole: Whole | None = None
    kinds: Kinds | None = None

    @classmethod
    def read(
        cls,
        table: Table,
        *,
        columns: list[str] | None,
        exclude: list[str] | None,
        weights: str | None,
        missing: str,
        dtype: str,
        by: list[str] | None = None,
        noise: str | None = None,
        labels: str | None = None,
        seed: int = 0,
        family: list[str] | None = None,
    ) -> "Selected":
        """What the options choose of a table; `by` are columns whose entries say which rows belong together.

        With a `family`, columns of every kind are chosen, and names become codes.

        Of a large table without `by`, the rows held are drawn with the seed.
        """
        reader = _Reader.of(table, columns, exclude, weights, missing, dtype, by, noise, labels, family)
        d = len(reader.chosen)
        size = max(LEAST, min(SAMPLE, SAMPLED // d))
        # No sample is of more numbers than a table that is held whole.
        most = np.inf if by else max(MOST, size * d)
        spooled = (lambda: Spool(table.closing)) if table.format in _SLOW else None
        held, count = Held(most, size, seed, spooled), _Count(len(reader.counted), d)
        for rows, (every, inside), lacking in reader.parts():
            held.add(rows)
            count.add(rows, every, inside, lacking)
        groups = reader.grouped.groups() if reader.grouped else None
        by_column = {name: int(n) for name, n in zip(reader.counted, count.lacking, strict=True) if n}
        every_gap = by_column | (groups.missing if groups else {})
        if missing == "fail" and count.n < count.every:
            raise Problem(
                f"{table.name}: {count.every - count.n} rows have missing entries ({report.missing(every_gap)}); "
                "fill them in, or say --missing drop to leave these rows out, or em to fit them by what there is."
            )
        if not count.n:
            reason = "nothing to fit" if missing == "em" else "a missing entry"
            advice = "" if missing == "em" or groups else "; --missing em fits rows by what is there"
            raise Problem(f"{table.name}: every row has {reason} ({report.missing(every_gap)}){advice}.")
        if count.lowest < 0 or not count.highest > 0:
            raise Problem(f"--weights: column {reader.beside[0]!r} has negative weights or none above 0.")
        kept = held.rows()
        x = kept["x"]
        copies = None if held.large else 0
        if groups is None and not held.large:
            # By their hashes, in an eighth of the time; 0 makes one of both zeros.
            copies = int(pd.util.hash_pandas_object(pd.DataFrame(x + 0), index=False).duplicated().sum())
        read = cls(
            x=x,
            weights=kept["weights"] if reader.beside else np.broadcast_to(np.ones((), dtype), len(x)),
            places=kept["place"],
            columns=reader.chosen,
            unused=[name for name in table.columns if name not in reader.used],
            dropped=count.dropped,
            missing=by_column,
            duplicates=copies,
            notes=table.told(),
            groups=groups,
            noise=kept.get("noise"),
            errors=reader.errors,
            partial=missing == "em",
            kinds=reader.kinds,
        )
        order = number = None
        if reader.classes:
            order = reader.order_of_classes(count.classed)
            number = np.full(len(reader.classes.names(0)) + 1, -1)
            number[order] = np.arange(len(order))
            read = read._labelled(reader, reader.classes, order, number, kept["codes"])
        if not held.large:
            return read
        parts = held.file.parts if held.file else lambda size: (rows for rows, _, _ in reader.parts())
        whole = Whole(
            _labelled(parts, number),
            count.n,
            count.incomplete,
            count.least,
            count.most,
            count.classed[[] if order is None else order],
            np.zeros(0, int),
        )
        if rare := [name for place, name in enumerate(read.classes) if not np.any(read.labels == place)]:
            raise Problem(
                f"--labels: class {rare[0]!r} has no row in the sample of {len(x)} rows that the model is chosen on; "
                "give more rows their class, or leave rows without one out of the table."
            )
        return dataclasses.replace(read, whole=whole)

    def _labelled(
        self, reader: "_Reader", classes: GroupReader, order: np.ndarray, number: np.ndarray, codes: np.ndarray
    ) -> "Selected":
        """With the classes of rows: their codes in the order of their names, and their numbers by these codes."""
        return dataclasses.replace(
            self,
            labels=number[codes],
            label_of=lambda part: number[classes.numbered(part)[0]],
            classes=[str(name) for name in classes.names(0).iloc[order].tolist()],
            labelled=reader.label,
        )

    def noted(self, *notes: str) -> "Selected":
        """The same, with more that is worth a line."""
        return dataclasses.replace(self, notes=[*self.notes, *notes])

    def varying(self, constants: Iterable[int]) -> list[str]:
        """A sentence for each column that is constant in what is held, and is not in the whole."""
        if self.whole is None:
            return []
        varying = [self.columns[place] for place in constants if self.whole.most[place] > self.whole.least[place]]
        return [f"Column {name!r} varies in rows that are not in the sample, and is left out." for name in varying]

    @property
    def n(self) -> int:
        """Rows that are fitted."""
        return len(self.x) if self.whole is None else self.whole.n

    @property
    def incomplete(self) -> int:
        """Rows that are fitted by what is there of them."""
        return int(np.sum(np.isnan(self.x).any(axis=1))) if self.whole is None else self.whole.incomplete

    @property
    def classed(self) -> dict[str, int]:
        """How many rows are known to be of each class."""
        if self.labels is None:
            return {}
        held: np.ndarray = np.bincount(self.labels[self.labels >= 0], minlength=len(self.classes))
        counts = held if self.whole is None else self.whole.classed
        return dict(zip(self.classes, counts.tolist(), strict=True))

    def evidence(self) -> tuple[Any, Any]:
        """Rows and weights as the library takes them, filled up to one of a few lengths; a record alone if need be."""
        plain = self.incomplete == 0 and self.noise is None and self.labels is None
        return (padded(self.x), padded(self.weights)) if plain else (self._record(padded), None)

    def record(self) -> jaxgmm.Evidence:
        """All that is known of the rows."""
        return self._record(lambda array: array)

    def _record(self, of: Callable[[np.ndarray], np.ndarray]) -> jaxgmm.Evidence:
        gaps = bool(np.isnan(self.x).any())
        return _record(of, self.x, self.weights, self.noise, self.labels, gaps=gaps)

    def told(self, selection: jaxgmm.Selection) -> jaxgmm.Selection:
        """The selection in the names and places of the table."""
        return dataclasses.replace(
            selection,
            schema=self._schema([self.columns[place] for place in selection.columns]),
            outliers=tuple(self.places[list(selection.outliers)].tolist()),
            constants=dict(self._said(place, value) for place, value in selection.constants.items()),
        )

    def _schema(self, columns: list[str]) -> jaxgmm.Schema:
        return jaxgmm.Schema(columns) if self.kinds is None else self.kinds.schema(columns)

    def _said(self, place: int, value: float) -> tuple[str, Any]:
        """The name of a column that has one value, and this."""
        name = self.columns[place]
        own = None if self.kinds is None else self.kinds.levels.get(name)
        return name, value if own is None or np.isnan(value) else own[int(value)]

    def of(self, selection: jaxgmm.Selection) -> "Selected":
        """Those of the rows and columns that the candidates were fitted to."""
        columns = list(selection.columns)
        remain = np.ones(len(self.x), bool)
        remain[list(selection.outliers)] = False
        # Where all that is seen of a row is a constant.
        nothing = remain & np.isnan(self.x[:, columns]).all(axis=1)
        nothing = nothing if self.labels is None else nothing & (self.labels < 0)
        taken = self._taken(remain & ~nothing, columns)
        return taken if self.whole else dataclasses.replace(taken, dropped=self.dropped + int(np.sum(nothing)))

    def of_columns(self, columns: list[int]) -> "Selected":
        """All rows, in these columns."""
        return self._taken(np.ones(len(self.x), bool), columns)

    def _taken(self, rows: np.ndarray, columns: list[int]) -> "Selected":
        names = [self.columns[place] for place in columns]
        return dataclasses.replace(
            self,
            x=self.x[rows][:, columns],
            weights=self.weights[rows],
            places=self.places[rows],
            columns=names,
            noise=None if self.noise is None else self.noise[rows][:, columns],
            errors={name: self.errors[name] for name in names if name in self.errors},
            labels=None if self.labels is None else self.labels[rows],
            whole=None if self.whole is None else self.whole.of(columns),
        )


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Which rows and columns of a table are taken: gone through part by part, as often as need be.

    Fields: `chosen` columns, that of weights in `beside`, those of `errors`, the one of classes, called `label`;
    `counted`, those whose missing entries are; `used`, all of these; `grouped` and `classes`, who reads what belongs
    together; what is done about `missing` entries, and the `dtype` of what is read.
    """

    table: Table
    chosen: list[str]
    beside: list[str]
    errors: dict[str, str]
    label: str | None
    grouped: GroupReader | None
    classes: GroupReader | None
    used: tuple[str, ...]
    missing: str
    dtype: str
    kinds: Kinds | None = None

    @classmethod
    def of(
        cls,
        table: Table,
        columns: list[str] | None,
        exclude: list[str] | None,
        weights: str | None,
        missing: str,
        dtype: str,
        by: list[str] | None,
        noise: str | None,
        labels: str | None,
        family: list[str] | None,
    ) -> "_Reader":
        """By what the options say."""
        apart = named(table, by, "--by") if by else []
        classes = _one(table, labels, "--labels")
        beside = _one(table, weights, "--weights")
        excluded = named(table, exclude or [], "--exclude")
        every_kind = family is not None
        if columns:
            chosen = named(table, columns, "--columns")
        else:
            chosen = table.columns if every_kind else numeric_columns(table)
        # Errors of a column that is left out are no data either.
        every = {noise + name for name in table.columns} if noise else set()
        chosen = [name for name in chosen if name not in (*excluded, *beside, *apart, *classes, *every)]
        kinds = None
        if family is not None:
            kinds = Kinds.of(table, chosen, families(family, chosen), said=bool(columns))
            chosen = kinds.columns
        if not chosen:
            what = "columns" if every_kind else "columns of numbers"
            raise Problem(f"{table.name}: no {what} are left among {', '.join(table.columns)}.")
        errors = {} if noise is None else errors_of(table, noise, chosen)
        return cls(
            table,
            chosen,
            beside,
            errors,
            classes[0] if classes else None,
            GroupReader(table, apart, "--by") if apart else None,
            GroupReader(table, classes, "--labels") if classes else None,
            (*chosen, *beside, *apart, *classes, *errors.values()),
            missing,
            dtype,
            kinds,
        )

    @property
    def counted(self) -> list[str]:
        return [*self.chosen, *self.beside, *self.errors.values()]

    def parts(self) -> Iterator[tuple[Rows, tuple[int, int], np.ndarray]]:
        """Rows that are taken, each with its place; how many there were, of groups; and missing entries by column."""
        start = 0
        for found, shares in self._entries():
            values, part = found.known, found.part
            inside = self.grouped.has_group(part) if self.grouped else np.ones(len(values), bool)
            codes = self.classes.numbered(part)[0] if self.classes else np.full(len(values), -1, np.int32)
            gaps = np.isnan(values)
            enough = ~gaps.all(axis=1) | (codes >= 0) if self.missing == "em" else ~gaps.any(axis=1)
            enough &= ~np.isnan(shares).any(axis=1)
            inexact = [self.chosen.index(name) for name in self.errors]
            unsure = [gaps[:, place] & ~np.isnan(found.values[:, place]) for place in inexact]
            lacking = np.column_stack([np.isnan(found.values), np.isnan(shares), *unsure])
            here = enough & inside
            rows = {"x": values[here].astype(self.dtype), "place": start + np.flatnonzero(here)}
            if self.beside:
                rows["weights"] = shares[here, 0].astype(self.dtype)
            if found.noise is not None:
                rows["noise"] = found.noise[here].astype(self.dtype)
            if self.classes:
                rows["codes"] = codes[here]
            start += len(values)
            yield rows, (len(values), int(inside.sum())), np.sum(lacking[inside], axis=0)

    def _entries(self) -> Iterator[tuple[Entries, np.ndarray]]:
        if self.kinds is None:
            yield from entries(self.table, self.chosen, self.errors, self.beside)
            return
        try:
            yield from entries(self.table, self.chosen, self.errors, self.beside, self.kinds.codings())
        except Problem as problem:
            if not self.kinds.mixed:
                raise
            raise Problem(
                f"{problem} If its entries are names, say --family {self.kinds.mixed[0]}=categorical.", problem.code
            ) from None

    def order_of_classes(self, counts: np.ndarray) -> np.ndarray:
        """The codes of classes that have so many rows by these, but for those without any, in the order of names."""
        assert self.classes is not None
        there = np.flatnonzero(counts)
        if not len(there):
            raise Problem(f"--labels: column {self.label!r} of {self.table.name} has no entry in a row that is fitted.")
        return there[np.argsort(self.classes.names(0).iloc[there].to_numpy(), kind="stable")]


class _Count:
    """What rows add up to as they come."""

    def __init__(self, n_counted: int, n_columns: int) -> None:
        self.n, self.every, self.inside, self.incomplete = 0, 0, 0, 0
        self.lacking = np.zeros(n_counted, int)
        self.least, self.most = np.full(n_columns, np.inf), np.full(n_columns, -np.inf)
        self.lowest, self.highest = np.inf, -np.inf
        self.classed = np.zeros(0, int)

    @property
    def dropped(self) -> int:
        return self.inside - self.n

    def add(self, rows: Rows, every: int, inside: int, lacking: np.ndarray) -> None:
        """Some more."""
        x, n = rows["x"], len(rows["x"])
        weights = rows.get("weights", np.ones(n))
        self.n += n
        self.every += every
        self.inside += inside
        self.lacking += lacking
        self.incomplete += int(np.sum(np.isnan(x).any(axis=1)))
        self.least = np.fmin(self.least, np.fmin.reduce(x, axis=0, initial=np.inf))
        self.most = np.fmax(self.most, np.fmax.reduce(x, axis=0, initial=-np.inf))
        self.lowest = min(self.lowest, weights.min(initial=np.inf))
        self.highest = max(self.highest, weights.max(initial=-np.inf))
        if "codes" in rows:
            codes = rows["codes"][(rows["codes"] >= 0) & (weights > 0)]
            counts: np.ndarray = np.bincount(codes, minlength=len(self.classed))
            counts[: len(self.classed)] += self.classed
            self.classed = counts


def _labelled(parts: Parts, number: np.ndarray | None) -> Parts:
    """The same rows with the numbers of their classes, if they have any, instead of codes."""

    def labelled(size: int) -> Iterator[Rows]:
        for rows in parts(size):
            if number is not None:
                rows["labels"] = number[rows.pop("codes")]
            yield rows

    return labelled


def _one(table: Table, name: str | None, option: str) -> list[str]:
    """The column that an option names, if it does."""
    names = named(table, [name], option) if name else []
    if len(names) > 1:
        raise Problem(f"{option} is {name!r}; expected one column.", 2)
    return names
