"""Which rows of a table belong together: those that have the same entries in some columns."""

import dataclasses
import re
from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd

from jaxgmm.cli.layout import Layout
from jaxgmm.cli.problem import Problem
from jaxgmm.cli.tables import Table, as_it_stands
from jaxgmm.cli.text import Part


@dataclasses.dataclass(frozen=True)
class Groups:
    """The groups of a table, in the order in which they first come.

    Fields: `names`, a row for each group with its entries; `owner` (n,), the group that each row of the table belongs
    to, -1 where an entry is missing; `missing`, how many there are of these by column.
    """

    names: pd.DataFrame
    owner: np.ndarray
    missing: dict[str, int]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def labels(self) -> list[str]:
        """Names of the columns that say what belongs together."""
        return list(self.names.columns)

    @property
    def lacking(self) -> int:
        """Rows that belong to no group."""
        return int(np.sum(self.owner < 0))

    def entries(self, number: int) -> list[Any]:
        """The entries that a group has in these columns."""
        return [self.names[label].iloc[[number]].tolist()[0] for label in self.labels]

    def name(self, number: int) -> str:
        """What to call a group in a line of text."""
        return ", ".join(map(str, self.entries(number)))


class GroupReader:
    """Gathers the groups of a table, a part of it after the other: numbers of entries, and each entry once."""

    def __init__(self, table: Table, columns: list[str], option: str) -> None:
        self._table, self._columns, self._option = table, columns, option
        self._known: list[dict[Hashable, int]] = [{} for _ in columns]
        self._codes: list[list[np.ndarray]] = [[] for _ in columns]

    def has_group(self, part: Part) -> np.ndarray:
        """Take down a part of the table; which of its rows belong to a group."""
        for codes, found in zip(self._codes, self.numbered(part), strict=True):
            codes.append(found)
        return np.all([codes[-1] >= 0 for codes in self._codes], axis=0)

    def numbered(self, part: Part) -> list[np.ndarray]:
        """Numbers (m,) of the entries of each column, as they come; -1 where one is missing."""
        frame, columns = self._entries(part), []
        for name, known in zip(self._columns, self._known, strict=True):
            try:
                found, entries = pd.factorize(frame[name])
            except TypeError:
                raise Problem(
                    f"{self._option}: entries of column {name!r} of {self._table.name} are no names.", 2
                ) from None
            numbers = [
                -1 if (one := self._said(entry)) is None else known.setdefault(one, len(known))
                for entry in entries.tolist()
            ]
            columns.append(np.array([*numbers, -1], np.int32)[found])
        return columns

    def names(self, place: int) -> pd.Series:
        """The entries of a column by their numbers."""
        known = list(self._known[place])
        layout = self._table.text.recognised.layout if self._table.text else None
        return pd.Series(as_numbers(known, layout), dtype=None if known else object)

    def groups(self) -> Groups:
        """All of them, once every part was taken down."""
        codes = [np.concatenate(parts) for parts in self._codes]
        inside = np.all([column >= 0 for column in codes], axis=0)
        missing = {name: int(np.sum(column < 0)) for name, column in zip(self._columns, codes, strict=True)}
        number = np.zeros(int(inside.sum()), np.int64)
        for column, known in zip(codes, self._known, strict=True):
            number = pd.factorize(number * len(known) + column[inside])[0]
        owner = np.full(len(inside), -1, np.int32)
        owner[inside] = number
        first = np.flatnonzero(inside)[np.unique(number, return_index=True)[1]]
        names = {
            name: self.names(place).take(column[first]).reset_index(drop=True)
            for place, (name, column) in enumerate(zip(self._columns, codes, strict=True))
        }
        return Groups(pd.DataFrame(names), owner, {name: n for name, n in missing.items() if n})

    def _entries(self, part: Part) -> pd.DataFrame:
        """The columns that tell groups apart; of text as it stands, as one part may hold numbers and the next words."""
        return as_it_stands(self._table, part, self._columns)

    def _said(self, entry: Any) -> Hashable | None:
        """An entry as a name, None if it is missing."""
        if self._table.text is None:
            return entry
        entry = entry.strip()
        return None if entry in self._table.text.recognised.layout.missing else entry


def as_numbers(names: list[Any], layout: Layout | None) -> list[Any]:
    """Entries of text as numbers if all are, and no two of them the same: 007 is a name, as are 1.1 and 1.10."""
    if layout is None or not all(re.fullmatch(layout.number, name) for name in names):
        return names
    if any(re.match(r"[+-]?0\d", name) for name in names):
        return names
    plain = [layout.plain(name) for name in names]
    found = [int(name) if re.fullmatch(r"[+-]?\d+", name) else float(name) for name in plain]
    whole = all(isinstance(one, int) for one in found)
    fits = all(abs(one) < 2**63 for one in found) if whole else all(map(np.isfinite, found))
    return found if fits and len(set(found)) == len(found) else names
