"""The columns of a table that a mixture is of, as arrays."""

import collections
import re
import shlex
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from jaxgmm.cli.layout import Layout
from jaxgmm.cli.problem import Problem
from jaxgmm.cli.recognising import readings, said
from jaxgmm.cli.tables import Table, as_it_stands
from jaxgmm.cli.text import Part

# Words of a column, and columns with words, that a line names.
_WORDS, _COLUMNS = 5, 4
# Words that tell whether a column is of numbers that are written otherwise.
_LOOKED_AT = 1000
# What pandas and R call a column that has no name: the first of the rows, or an index that Parquet keeps.
INDEX = re.compile(r"Unnamed: 0(\.\d+)?|__index_level_\d+__")


class Codes(ABC):
    """What makes codes of the names in a column."""

    @abstractmethod
    def codes(self, where: str, before: int, column: pd.Series, layout: Layout | None) -> np.ndarray:
        """Codes (m,) of a part of it, NaN where an entry is missing; `where` and `before` are for messages."""


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
    """Columns of numbers, as far as the first rows tell; true and false are none.

    A column of text is one of numbers with some words in it if at least half of its entries are numbers, or would be
    with another decimal point. An index without a name and columns without entries are none, which the table's notes
    say.
    """
    layout = layout_of(table)
    for part in table.parts():
        if part.frame.empty:
            break
        chosen = []
        for name in table.columns:
            numbers, words = read(part.frame[name], layout)
            n_numbers = int(np.sum(~np.isnan(numbers)))
            if INDEX.fullmatch(name) and n_numbers:
                table.notes.append(f"Column {name!r} is an index without a name and no data; it is not used.")
            elif n_numbers == len(words) == 0:
                if not name.startswith("Unnamed: "):
                    table.notes.append(f"Column {name!r} has no entries; it is not used.")
            elif n_numbers >= len(words) or _otherwise(words, layout):
                chosen.append(name)
        return chosen
    raise Problem(f"{table.name}: no rows in it.")


def arrays(
    table: Table, columns: Sequence[str], infinite: Collection[str] = (), coded: Mapping[str, Codes] | None = None
) -> Iterator[tuple[Part, np.ndarray]]:
    """Parts of the table with their numbers (m, d) in float64, NaN where an entry is missing.

    Entries of columns that are `coded` become codes.
    Numbers are finite but in the columns that may be `infinite`. Words are found to the last row before they are an
    error, so that it names them all.
    """
    finite = np.array([name not in infinite for name in columns], bool)
    layout, before, integers = layout_of(table), 0, True
    found: dict[str, collections.Counter[str]] = {}
    names = [name for name in columns if coded and name in coded]
    for part in table.parts():
        values = np.empty((len(part.frame), len(columns)))
        words = as_it_stands(table, part, names) if names else part.frame
        for place, name in enumerate(columns):
            if coded and name in coded:
                where = f"{table.name}: row {{row}} of column {name!r}"
                values[:, place] = coded[name].codes(where, before, words[name], layout)
                continue
            values[:, place], others = read(part.frame[name], layout)
            if len(others):
                found.setdefault(name, collections.Counter()).update(others.astype(str))
        integers = integers and bool(np.all((values == np.round(values)) | np.isnan(values)))
        if (wrong := np.isinf(values) & finite).any():
            row, place = np.argwhere(wrong)[0]
            raise Problem(
                f"{table.name}: row {before + row + 1} of column {columns[place]!r} is infinite; leave it out."
            )
        before += len(part.frame)
        if not found:
            yield part, values
    if found:
        raise Problem(f"{table.name}: {_no_numbers(found, before, layout, integers)}")


def layout_of(table: Table) -> Layout | None:
    """How it is laid out, if it is text."""
    return table.text.recognised.layout if table.text else None


def read(column: pd.Series, layout: Layout | None) -> tuple[np.ndarray, pd.Series]:
    """The numbers of a column, NaN where there is none, and its entries that are neither numbers nor missing."""
    if pd.api.types.is_bool_dtype(column.dtype):
        return np.full(len(column), np.nan), column.dropna()
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.to_numpy(np.float64, na_value=np.nan), column[:0]
    if layout is None or not pd.api.types.is_string_dtype(column.dtype):
        return np.full(len(column), np.nan), column.dropna()
    entries = column.str.strip()
    entries = entries.mask(entries.isin(layout.missing))
    numbers = entries.str.fullmatch(layout.number).fillna(False).to_numpy(bool)
    values = np.full(len(column), np.nan)
    values[numbers] = [float(layout.plain(entry)) for entry in entries[numbers]]
    return values, entries[entries.notna() & ~numbers]


def _otherwise(words: pd.Series, layout: Layout | None) -> bool:
    """Whether most of these words are numbers with other decimal points or thousands."""
    return layout is not None and bool(readings(layout, words[:_LOOKED_AT].astype(str), share=0.5))


def _no_numbers(found: dict[str, collections.Counter[str]], n: int, layout: Layout | None, integers: bool) -> str:
    """What to say of words in columns of numbers, and what to add; `integers` if all numbers there are."""
    shown = list(found.items())[:_COLUMNS]
    parts = [
        f"{words.total():,} of {n:,} entries of column {name!r} {_are(words)} ({_listed(words)})"
        for name, words in shown
    ]
    more = [f"{len(found) - len(shown)} more columns have such entries"] if len(found) > len(shown) else []
    every = sorted({word for words in found.values() for word in words})
    written = readings(layout, every) if layout else []
    # With another decimal point, numbers that have one would be words.
    others = [one for one in written if layout and (integers or one.decimal == layout.decimal)]
    one = sum(words.total() for words in found.values()) == 1
    if layout and others:
        different = {other.plain(every[0]): other for other in reversed(others)}
        advice = f"if they are numbers, say {' or '.join(sorted(map(said, different.values())))}"
    elif layout is None or max(words.total() for words in found.values()) > n / 2:
        advice = "leave such columns out"
        if layout and readings(layout, every, share=0.5):
            advice = f"their decimal point is not that of other columns; write it so, or {advice}"
    elif len(every) > _WORDS:
        advice = "say --na WORD for each that stands for a missing entry, or leave the column out"
    else:
        options = " ".join(f"--na {shlex.quote(word)}" for word in every)
        stand = "it stands for a missing entry" if one else "they stand for missing entries"
        advice = f"say {options} if {stand}, or leave the column out"
        if written:
            advice = f"if {'it is one, write it' if one else 'they are, write them'} as the others are; else {advice}"
    return f"{'; '.join(parts + more)}: {advice}."


def _are(words: collections.Counter[str]) -> str:
    return "is no number" if words.total() == 1 else "are no numbers"


def _listed(words: collections.Counter[str]) -> str:
    shown = [f"{word!r}" + (f" {number:,} times" if number > 1 else "") for word, number in words.most_common(_WORDS)]
    return ", ".join(shown) + (f" and {len(words) - _WORDS} others" if len(words) > _WORDS else "")
