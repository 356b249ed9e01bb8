"""The columns of a table that a mixture is of, as arrays."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from jaxgmm.cli.problem import Problem
from jaxgmm.cli.tables import Table


def named(table: Table, text: Sequence[str], option: str) -> list[str]:
    """Columns by name, several in one text divided by commas; each must be there."""
    names: list[str] = []
    for one in text:
        names += [one] if one in table.columns else [part.strip() for part in one.split(",") if part.strip()]
    if unknown := [name for name in names if name not in table.columns]:
        raise Problem(
            f"{option}: {table.name} has no column {unknown[0]!r}; it has {', '.join(table.columns[:20])}"
            + (", ..." if len(table.columns) > 20 else "")
            + ".",
            2,
        )
    if len(set(names)) < len(names):
        raise Problem(f"{option}: a column is named twice.", 2)
    return names


def numeric_columns(table: Table) -> list[str]:
    """Columns of numbers, as far as the first rows tell; true and false are none."""
    for frame in table.rows():
        if frame.empty:
            break
        return [name for name in table.columns if _is_numeric(frame[name])]
    raise Problem(f"{table.name}: no rows in it.")


def arrays(table: Table, columns: Sequence[str]) -> Iterator[tuple[pd.DataFrame, np.ndarray]]:
    """Frames of the table with their numbers (m, d) in float64, NaN where an entry is missing."""
    before = 0
    for frame in table.rows():
        values = np.empty((len(frame), len(columns)))
        for place, name in enumerate(columns):
            column = frame[name]
            if not _is_numeric(column) and not column.isna().all():
                row, entry = _first_text(column)
                raise Problem(f"{table.name}: row {before + row + 1} of column {name!r} holds {entry!r}, no number.")
            values[:, place] = column.to_numpy(np.float64, na_value=np.nan) if _is_numeric(column) else np.nan
        if np.isinf(values).any():
            row, place = np.argwhere(np.isinf(values))[0]
            raise Problem(
                f"{table.name}: row {before + row + 1} of column {columns[place]!r} is infinite; leave it out."
            )
        yield frame, values
        before += len(frame)


def _is_numeric(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype)


def _first_text(column: pd.Series) -> tuple[int, str]:
    numbers = pd.to_numeric(column, errors="coerce")
    wrong = np.flatnonzero((numbers.isna() & column.notna()).to_numpy())
    row = int(wrong[0]) if len(wrong) else int(np.flatnonzero(column.notna().to_numpy())[0])
    return row, str(column.iloc[row])
