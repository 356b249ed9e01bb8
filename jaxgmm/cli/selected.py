"""The rows and columns of a table that are fitted."""

import dataclasses

import numpy as np
import pandas as pd

import jaxgmm
from jaxgmm.cli import report
from jaxgmm.cli.groups import GroupReader, Groups
from jaxgmm.cli.numbers import arrays, named, numeric_columns
from jaxgmm.cli.problem import Problem
from jaxgmm.cli.tables import Table

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

    Fields: `x` (n, d); `weights` (n,); `places` (n,), which rows of the table these are; `columns`, d names; `unused`,
    names of columns left out; `dropped`, number of rows left out, `missing` of them with nothing in a column;
    `duplicates`, rows that are like another one before them; `notes`, what was found out about the table; `groups`,
    which rows of the table belong together, None if all do.
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
    ) -> "Selected":
        """What the options choose of a table; `by` are columns whose entries say which rows belong together."""
        labels = named(table, by, "--by") if by else []
        beside = named(table, [weights], "--weights") if weights else []
        excluded = named(table, exclude or [], "--exclude")
        chosen = named(table, columns, "--columns") if columns else numeric_columns(table)
        chosen = [name for name in chosen if name not in (*excluded, *beside, *labels)]
        if not chosen:
            raise Problem(f"{table.name}: no columns of numbers are left among {', '.join(table.columns)}.")
        reader = GroupReader(table, labels) if labels else None
        parts, remaining, lacking = _Joined(), [], np.zeros(len(chosen + beside), int)
        for part, values in arrays(table, chosen + beside):
            inside = reader.has_group(part) if reader else np.ones(len(values), bool)
            whole = ~np.isnan(values).any(axis=1)
            remaining.append(np.where(inside, whole, -1).astype(np.int8))
            lacking += np.sum(np.isnan(values[inside]), axis=0)
            parts.add(values[whole & inside].astype(dtype))
        groups = reader.groups() if reader else None
        state = np.concatenate(remaining)
        places = np.flatnonzero(state == 1)
        dropped = int(np.sum(state == 0))
        by_column = {name: int(n) for name, n in zip(chosen + beside, lacking, strict=True) if n}
        every = by_column | (groups.missing if groups else {})
        if missing == "fail" and len(places) < len(state):
            raise Problem(
                f"{table.name}: {len(state) - len(places)} rows have missing entries ({report.missing(every)}); fill "
                "them in, or say --missing drop."
            )
        joined = parts.whole()
        x, shares = joined[:, : len(chosen)], joined[:, len(chosen) :]
        shares = shares[:, 0] if beside else np.broadcast_to(np.ones((), dtype), len(x))
        if len(x) == 0:
            raise Problem(f"{table.name}: every row has a missing entry ({report.missing(every)}).")
        if np.any(shares < 0) or not np.any(shares > 0):
            raise Problem(f"--weights: column {beside[0]!r} has negative weights or none above 0.")
        unused = [name for name in table.columns if name not in (*chosen, *beside, *labels)]
        copies = 0
        if groups is None:
            # By their hashes, in an eighth of the time; 0 makes one of both zeros.
            copies = int(pd.util.hash_pandas_object(pd.DataFrame(x + 0), index=False).duplicated().sum())
        return cls(x, shares, places, chosen, unused, dropped, by_column, copies, table.told(), groups)

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
        remain = np.ones(len(self.x), bool)
        remain[list(selection.outliers)] = False
        columns = [self.columns[place] for place in selection.columns]
        x = self.x[remain][:, list(selection.columns)]
        return dataclasses.replace(self, x=x, weights=self.weights[remain], places=self.places[remain], columns=columns)
