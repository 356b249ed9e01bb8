"""What is known of the rows of a table: entries that may be missing, and columns that hold their standard errors."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from jaxgmm.cli.numbers import Codes, arrays
from jaxgmm.cli.problem import Problem
from jaxgmm.cli.tables import Table
from jaxgmm.cli.text import Part

# What is done about rows with missing entries.
MISSING = ("drop", "fail", "em")


@dataclasses.dataclass(frozen=True)
class Entries:
    """Entries of some rows.

    Fields: `part`, these rows of a table; `values` (m, d), NaN where an entry is missing; `errors` (m, d), standard
    errors, 0 in columns that have none, NaN or infinite where an entry is as good as missing; None if no column has
    any.
    """

    part: Part
    values: np.ndarray
    errors: np.ndarray | None

    @property
    def known(self) -> np.ndarray:
        """The values, NaN where an entry is missing or its error says nothing of it."""
        return self.values if self.errors is None else np.where(np.isfinite(self.errors), self.values, np.nan)

    @property
    def noise(self) -> np.ndarray | None:
        """The squares of the errors, 0 where there is no entry."""
        if self.errors is None:
            return None
        return np.where(np.isnan(self.known), 0, self.errors) ** 2

    def only(self, taken: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """What is known and its noise, with rows that are not `taken` as if they were whole."""
        noise = self.noise
        return np.where(taken[:, None], self.known, 0), None if noise is None else np.where(taken[:, None], noise, 0)


def errors_of(table: Table, prefix: str, columns: Sequence[str]) -> dict[str, str]:
    """Which column holds the standard errors of which of these columns."""
    found = {name: prefix + name for name in columns if prefix + name in table.columns and prefix}
    if not found:
        expected = ", ".join(repr(prefix + name) for name in columns[:3]) + (", ..." if len(columns) > 3 else "")
        raise Problem(
            f"--noise: {table.name} has no column of standard errors; expected {expected}, or some of them, beside "
            f"{', '.join(columns[:3])}{', ...' if len(columns) > 3 else ''}.",
            2,
        )
    return found


def entries(
    table: Table,
    columns: Sequence[str],
    errors: Mapping[str, str],
    beside: Sequence[str] = (),
    coded: Mapping[str, Codes] | None = None,
) -> Iterator[tuple[Entries, np.ndarray]]:
    """Parts of the table with the entries of `columns`, some of them `coded`, and the numbers (m, b) `beside`."""
    d, before = len(columns), 0
    inexact = [place for place, name in enumerate(columns) if name in errors]
    beside = [*(errors[columns[place]] for place in inexact), *beside]
    for part, numbers in arrays(table, [*columns, *beside], infinite=errors.values(), coded=coded):
        values, given, others = np.split(numbers, (d, d + len(inexact)), axis=1)
        if (given < 0).any():
            row, place = np.argwhere(given < 0)[0]
            raise Problem(
                f"{table.name}: row {before + row + 1} of column {beside[place]!r} is {given[row, place]:g}; expected "
                "a standard error, which is not negative."
            )
        before += len(numbers)
        spread = None
        if errors:
            spread = np.zeros_like(values)
            spread[:, inexact] = given
        yield Entries(part, values, spread), others
