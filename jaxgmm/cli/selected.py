"""The rows and columns of a table that are fitted."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

import jaxgmm
from jaxgmm.cli import report
from jaxgmm.cli.groups import GroupReader, Groups
from jaxgmm.cli.numbers import named, numeric_columns
from jaxgmm.cli.partial import entries, errors_of
from jaxgmm.cli.problem import Problem
from jaxgmm.cli.tables import Table
from jaxgmm.ground.padding import padded

# Numbers from which on an array is memory of its own, which goes back at once.
_LARGE = 2**22


class _Joined:
    """Arrays one after the other, large ones of several, as many small ones leave holes in memory."""

    def __init__(self) -> None:
        self._large: list[np.ndarray] = []
        self._small: list[np.ndarray] = []

    def add(self, part: np.ndarray) -> None:
        """One more at the end."""
        self._small.append(part)
        if sum(one.size for one in self._small) >= _LARGE:
            self._large.append(np.concatenate(self._small))
            self._small.clear()

    def whole(self) -> np.ndarray:
        """All of them as one."""
        return np.concatenate([*self._large, *self._small])


@dataclasses.dataclass(frozen=True)
class Selected:
    """What is fitted.

    Fields: `x` (n, d), NaN where an entry is missing; `weights` (n,); `places` (n,), which rows of the table these are;
    `columns`, d names; `unused`, names of columns left out; `dropped`, number of rows left out; `missing`, entries that
    are by column; `duplicates`, rows that are like another one before them; `notes`, what was found out about the
    table; `groups`, which rows of the table belong together, None if all do; `noise` (n, d), variances of errors, from
    the columns `errors`; `labels` (n,), number of the class of each row, -1 where it is not known, and `every_label`
    likewise of all rows of the table; `classes`, what these are called in the column `labelled`; `partial`, whether
    rows are fitted by what there is of them.
    """

    x: np.ndarray
    weights: np.ndarray
    places: np.ndarray
    columns: list[str]
    unused: list[str]
    dropped: int
    missing: dict[str, int]
    duplicates: int
    notes: list[str]
    groups: Groups | None = None
    noise: np.ndarray | None = None
    errors: dict[str, str] = dataclasses.field(default_factory=dict)
    labels: np.ndarray | None = None
    every_label: np.ndarray | None = None
    classes: list[str] = dataclasses.field(default_factory=list)
    labelled: str | None = None
    partial: bool = False

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
    ) -> "Selected":
        """What the options choose of a table; `by` are columns whose entries say which rows belong together."""
        apart = named(table, by, "--by") if by else []
        classes = _one(table, labels, "--labels")
        beside = _one(table, weights, "--weights")
        excluded = named(table, exclude or [], "--exclude")
        chosen = named(table, columns, "--columns") if columns else numeric_columns(table)
        # Errors of a column that is left out are no data either.
        every = {noise + name for name in table.columns} if noise else set()
        chosen = [name for name in chosen if name not in (*excluded, *beside, *apart, *classes, *every)]
        if not chosen:
            raise Problem(f"{table.name}: no columns of numbers are left among {', '.join(table.columns)}.")
        errors = {} if noise is None else errors_of(table, noise, chosen)
        reader = GroupReader(table, apart, "--by") if apart else None
        class_reader = GroupReader(table, classes, "--labels") if classes else None
        read, remaining = [_Joined() for _ in range(3)], []
        counted = [*chosen, *beside, *errors.values()]
        lacking = np.zeros(len(counted), int)
        for found, shares in entries(table, chosen, errors, beside):
            values, part = found.known, found.part
            inside = reader.has_group(part) if reader else np.ones(len(values), bool)
            told = class_reader.has_group(part) if class_reader else np.zeros(len(values), bool)
            gaps = np.isnan(values)
            enough = ~gaps.all(axis=1) | told if missing == "em" else ~gaps.any(axis=1)
            enough &= ~np.isnan(shares).any(axis=1)
            remaining.append(np.where(inside, enough, -1).astype(np.int8))
            unsure = [gaps[:, chosen.index(name)] & ~np.isnan(found.values[:, chosen.index(name)]) for name in errors]
            what = np.column_stack([np.isnan(found.values), np.isnan(shares), *unsure])
            lacking += np.sum(what[inside], axis=0)
            here = enough & inside
            for joined, array in zip(read, (values, shares, found.noise), strict=True):
                if array is not None:
                    joined.add(array[here].astype(dtype))
        groups = reader.groups() if reader else None
        state = np.concatenate(remaining)
        places = np.flatnonzero(state == 1)
        dropped = int(np.sum(state == 0))
        by_column = {name: int(n) for name, n in zip(counted, lacking, strict=True) if n}
        every_gap = by_column | (groups.missing if groups else {})
        if missing == "fail" and len(places) < len(state):
            raise Problem(
                f"{table.name}: {len(state) - len(places)} rows have missing entries ({report.missing(every_gap)}); "
                "fill them in, or say --missing drop to leave these rows out, or em to fit them by what there is."
            )
        if len(places) == 0:
            reason = "nothing to fit" if missing == "em" else "a missing entry"
            advice = "" if missing == "em" or groups else "; --missing em fits rows by what is there"
            raise Problem(f"{table.name}: every row has {reason} ({report.missing(every_gap)}){advice}.")
        x, shares = read[0].whole(), read[1].whole()
        shares = shares[:, 0] if beside else np.broadcast_to(np.ones((), dtype), len(x))
        if np.any(shares < 0) or not np.any(shares > 0):
            raise Problem(f"--weights: column {beside[0]!r} has negative weights or none above 0.")
        used = (*chosen, *beside, *apart, *classes, *errors.values())
        copies = 0
        if groups is None:
            # By their hashes, in an eighth of the time; 0 makes one of both zeros.
            copies = int(pd.util.hash_pandas_object(pd.DataFrame(x + 0), index=False).duplicated().sum())
        whole = cls(
            x=x,
            weights=shares,
            places=places,
            columns=chosen,
            unused=[name for name in table.columns if name not in used],
            dropped=dropped,
            missing=by_column,
            duplicates=copies,
            notes=table.told(),
            groups=groups,
            noise=read[2].whole() if errors else None,
            errors=errors,
            partial=missing == "em",
        )
        return whole if class_reader is None else whole._labelled(class_reader.groups(), table)

    def _labelled(self, classes: Groups, table: Table) -> "Selected":
        """With the classes of rows that remain, in the order of their names."""
        (column,) = classes.labels
        owner = classes.owner[self.places]
        there = np.unique(owner[(owner >= 0) & (self.weights > 0)])
        if not len(there):
            raise Problem(f"--labels: column {column!r} of {table.name} has no entry in a row that is fitted.")
        order = there[np.argsort(classes.names[column].iloc[there].to_numpy(), kind="stable")]
        number = np.full(len(classes) + 1, -1)
        number[order] = np.arange(len(order))
        called = [str(name) for name in classes.names[column].iloc[order].tolist()]
        every = number[classes.owner]
        return dataclasses.replace(self, labels=every[self.places], every_label=every, classes=called, labelled=column)

    @property
    def incomplete(self) -> int:
        """Rows that are fitted by what is there of them."""
        return int(np.sum(np.isnan(self.x).any(axis=1)))

    def evidence(self) -> tuple[Any, Any]:
        """Rows and weights as the library takes them, filled up to one of a few lengths; a record alone if need be."""
        plain = self.incomplete == 0 and self.noise is None and self.labels is None
        return (padded(self.x), padded(self.weights)) if plain else (self._record(padded), None)

    def record(self) -> jaxgmm.Evidence:
        """All that is known of the rows."""
        return self._record(lambda array: array)

    def _record(self, of: Callable[[np.ndarray], np.ndarray]) -> jaxgmm.Evidence:
        return jaxgmm.rows(
            of(self.x),
            of(self.weights),
            missing="nan" if self.incomplete else "error",
            noise=None if self.noise is None else of(self.noise),
            labels=None if self.labels is None else of(self.labels),
        )

    def told(self, selection: jaxgmm.Selection) -> jaxgmm.Selection:
        """The selection in the names and places of the table."""
        return dataclasses.replace(
            selection,
            schema=jaxgmm.Schema([self.columns[place] for place in selection.columns]),
            outliers=tuple(self.places[list(selection.outliers)].tolist()),
            constants={self.columns[place]: value for place, value in selection.constants.items()},
        )

    def of(self, selection: jaxgmm.Selection) -> "Selected":
        """Those of the rows and columns that the candidates were fitted to."""
        columns = list(selection.columns)
        remain = np.ones(len(self.x), bool)
        remain[list(selection.outliers)] = False
        # Where all that is seen of a row is a constant.
        nothing = remain & np.isnan(self.x[:, columns]).all(axis=1)
        nothing = nothing if self.labels is None else nothing & (self.labels < 0)
        taken = self._taken(remain & ~nothing, columns)
        return dataclasses.replace(taken, dropped=self.dropped + int(np.sum(nothing)))

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
        )


def _one(table: Table, name: str | None, option: str) -> list[str]:
    """The column that an option names, if it does."""
    names = named(table, [name], option) if name else []
    if len(names) > 1:
        raise Problem(f"{option} is {name!r}; expected one column.", 2)
    return names
