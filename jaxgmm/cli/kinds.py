"""Columns of every kind: which hold names and what these are, and what `--family` asks for."""

import collections
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

import jaxgmm
from jaxgmm.cli.groups import as_numbers
from jaxgmm.cli.layout import Layout
from jaxgmm.cli.numbers import INDEX, Codes, layout_of, read
from jaxgmm.cli.problem import Problem
from jaxgmm.cli.tables import Table, as_it_stands
from jaxgmm.covariance.table import names_shown
from jaxgmm.families.kinds import (
    CATEGORICAL,
    NUMBERS,
    Column,
    are_counts,
    are_few,
    asked_of,
    forms_of_columns,
    together,
)
from jaxgmm.families.table import form_of
from jaxgmm.ground import levels

UNKNOWN = ("error", "missing")
AUTO = "auto"
# More names in a column are no levels, nor are so many where nearly every row has its own.
_MOST, _NAMES = 1000, 20
_PADDED = re.compile(r"0\d+")
# Values that a line names.
_SHOWN = 5


@dataclasses.dataclass
class Coding(Codes):
    """How entries of a column become codes.

    Fields: `levels`, texts, numbers or truths in the order of their codes; whether what is no level is `unknown`, an
    "error", or "missing"; `met`, how often each such entry was met.
    """

    levels: Sequence[Any]
    unknown: str = "error"
    met: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

    def codes(self, where: str, before: int, column: pd.Series, layout: Layout | None) -> np.ndarray:
        """Codes (m,) of a part of the column, called `where`, after so many rows; NaN where they are missing."""
        found, values = entries_of(column, layout)
        place = {level: code for code, level in enumerate(self.levels)}
        texts = {_text(level): code for code, level in enumerate(self.levels)}
        if all(isinstance(level, bool) for level in self.levels):
            # As they are written in text.
            place |= {form(text): code for text, code in texts.items() for form in (str.lower, str.upper)}
        elif layout is not None and not any(isinstance(level, str) for level in self.levels):
            values = [_number(value, layout) for value in values]
        own = np.array([*(place.get(value, texts.get(_text(value), -1)) for value in values), -1])
        codes = own[found]
        unknown = (codes < 0) & (found >= 0)
        if unknown.any() and self.unknown == "error":
            row = int(np.argmax(unknown))
            value = values[found[row]]
            raise Problem(
                f"{where.format(row=before + row + 1)} is {value!r}, which is none of its levels: "
                f"{levels.shown(self.levels)}.{levels.guess(value, self.levels)} Correct it, or say --unknown-levels "
                "missing, to take such entries for missing ones."
            )
        self.met.update(_text(values[code]) for code in found[unknown])
        return np.where(codes < 0, np.nan, codes.astype(float))

    def names(self, codes: np.ndarray) -> pd.Series:
        """What codes stand for, as a column."""
        return pd.Series(np.array(self.levels, object)[codes.astype(int)])


@dataclasses.dataclass(frozen=True)
class Kinds:
    """Columns that are fitted, each by a family of its own.

    Fields: `columns`; `levels` of those that hold names; `whole`, those whose numbers are all whole by their type;
    what is `asked` for columns; `mixed`, those of numbers with some words among them.
    """

    columns: list[str]
    levels: dict[str, tuple[Any, ...]]
    whole: set[str]
    asked: dict[str, Any]
    mixed: list[str] = dataclasses.field(default_factory=list)

    @classmethod
    def of(cls, table: Table, names: Sequence[str], families: Mapping[str, Any], *, said: bool) -> "Kinds":
        """What the columns of these names hold, by all rows; those that were `said` are used or refused."""
        asked = _usage(lambda: asked_of(names, families))
        # What is said of all columns is no word for one that can hardly be meant.
        named = _usage(lambda: asked_of(names, {name: one for name, one in families.items() if name != "*"}))
        layout, found = layout_of(table), {name: _Found() for name in names}
        for part in table.parts():
            words = as_it_stands(table, part, names)
            for name in names:
                found[name].add(part.frame[name], words[name], layout)
        kinds = cls([], {}, set(), asked)
        for name in names:
            if (why := found[name].refusal(name, asked.get(name), layout, insisted=name in named)) is None:
                kinds.columns.append(name)
                if (own := found[name].levels(asked.get(name), layout)) is not None:
                    kinds.levels[name] = own
                elif found[name].words and name not in asked:
                    kinds.mixed.append(name)
                if found[name].whole:
                    kinds.whole.add(name)
            elif said or name in families:
                raise Problem(f"{table.name}: column {name!r} {why}.")
            elif why:
                table.notes.append(f"Column {name!r} {why}; it is not used.")
        return kinds

    def codings(self) -> dict[str, Coding]:
        """How entries of columns of names become codes."""
        return {name: Coding(own) for name, own in self.levels.items()}

    def forms(self, columns: Sequence[str], x: np.ndarray, places: np.ndarray) -> dict[str, jaxgmm.Form]:
        """The form that each of some columns is a part of, by their rows (n, d), which are at these places."""
        chosen = [
            Column(name, self.levels.get(name), x[:, place], name in self.whole, places + 1)
            for place, name in enumerate(columns)
        ]
        asked = {name: self.asked[name] for name in columns if name in self.asked}
        return dict(zip(columns, forms_of_columns(chosen, asked), strict=True))

    def schema(self, columns: Sequence[str]) -> jaxgmm.Schema:
        """Names of some columns, and their levels."""
        return jaxgmm.Schema(columns, [self.levels.get(name) for name in columns])


def form_together(forms: Sequence[jaxgmm.Form]) -> jaxgmm.Form:
    """The form of a table of these, by a short name."""
    form = together(forms)
    return form if len(set(forms)) == 1 else dataclasses.replace(form, name="mixed")


def family_of(form: jaxgmm.Form) -> str:
    """What the option calls a form."""
    called = {known: name for name, known in NUMBERS.items()}
    return called.get(form, CATEGORICAL if form.options and form.options[0][0] == "levels" else form.name)


def families(given: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """What the option says: `auto`, `age=gaussian,answer*=categorical`, or one family for all columns."""
    found: dict[str, str] = {}
    for text in given:
        one, equals, family = text.rpartition("=")
        parts = [text] if equals and one in names and family else text.split(",")
        for part in filter(None, map(str.strip, parts)):
            name, equals, family = (one.strip() for one in part.rpartition("="))
            name = name.strip("'\"") if equals else "*"
            if part == AUTO:
                continue
            _check_family(part, name, family)
            if found.setdefault(name, family) != family:
                raise Problem(f"--family: {name!r} is {found[name]} and {family}; say one.", 2)
    return found


def _check_family(part: str, name: str, family: str) -> None:
    known = family in NUMBERS or family == CATEGORICAL
    if not known:
        try:
            form_of(family)
        except (TypeError, ValueError):
            raise Problem(
                f"--family: {part!r} is no column and family; expected such as age=gaussian,'answer*'=categorical, "
                f"or {AUTO}, of the families {', '.join((*NUMBERS, CATEGORICAL))}, and covariances: "
                f"{names_shown(quoted=False)}.",
                2,
            ) from None
    if not name:
        raise Problem(f"--family: {part!r} names no column.", 2)


def counted(entries: collections.Counter[str]) -> str:
    """The most common of some entries, for messages."""
    shown = [f"{text!r}" + (f" {n} times" if n > 1 else "") for text, n in entries.most_common(_SHOWN)]
    return ", ".join(shown) + (f" and {len(entries) - _SHOWN} others" if len(entries) > _SHOWN else "")


def entries_of(column: pd.Series, layout: Layout | None) -> tuple[np.ndarray, list[Any]]:
    """The place (m,) of each entry among the different ones, -1 where it is missing; and these."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
    if layout is not None and pd.api.types.is_string_dtype(column.dtype):
        column = column.str.strip()
        column = column.mask(column.isin(layout.missing))
    try:
        codes, values = pd.factorize(column)
    except TypeError:  # of entries such as lists
        codes, values = pd.factorize(column.map(str).where(column.notna()))
    return np.asarray(codes), [_entry(value) for value in values.tolist()]


def _entry(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if levels.is_level(value) else str(value)


def _number(text: Any, layout: Layout) -> Any:
    """A number in text as such, and anything else as it is."""
    if not isinstance(text, str) or not re.fullmatch(layout.number, text):
        return text
    return _entry(float(layout.plain(text)))


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)


@dataclasses.dataclass
class _Found:
    """What a column holds: how many numbers, words and truths, and which."""

    n: int = 0
    numbers: int = 0
    words: int = 0
    truths: int = 0
    whole: bool = True
    values: dict[Any, None] = dataclasses.field(default_factory=dict)
    dates: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, column: pd.Series, entries: pd.Series, layout: Layout | None) -> None:
        """A part of it, and its entries as they stand."""
        self.n += len(column)
        numbers, words = read(column, layout)
        n_numbers = int(np.sum(~np.isnan(numbers)))
        self.numbers += n_numbers
        self.total += float(np.nansum(numbers))
        self.squares += float(np.nansum(numbers**2))
        if pd.api.types.is_bool_dtype(column.dtype):
            self.truths += len(words)
        else:
            self.words += len(words)
        self.whole = self.whole and (not n_numbers or pd.api.types.is_integer_dtype(column.dtype))
        if column.dtype.kind in "mM":
            self.dates += len(words)
        elif len(words):
            self.dates += int(words.astype(str).str.fullmatch(levels.DATE.pattern).sum())
        if len(self.values) <= 2**20:
            self.values |= dict.fromkeys(entries_of(entries, layout)[1])

    @property
    def seen(self) -> int:
        return self.numbers + self.words + self.truths

    def refusal(self, name: str, family: Any, layout: Layout | None, *, insisted: bool) -> str | None:
        """Why it is not used, "" if that needs no word; None if it is. If `insisted` on, dates may be names."""
        if not self.seen:
            return "" if name.startswith("Unnamed: ") else "has no entries"
        if INDEX.fullmatch(name) and self.numbers:
            return "is an index without a name and no data"
        if self.levels(family, layout) is None:
            return None
        if not insisted and 2 * self.dates >= self.seen:
            return f"holds dates or durations; write them as numbers, such as days, or say --family {name}=categorical"
        many, seen = len(self.values), self.seen
        if many > _MOST or (not insisted and many > max(_NAMES, seen / 2)):
            what = "names" if self.words else "different entries"
            return f"holds {many:,} {what} in {seen:,} rows"
        return None

    def levels(self, family: Any, layout: Layout | None) -> tuple[Any, ...] | None:
        """Its levels if it holds names, or is to be taken for such."""
        if family not in (None, CATEGORICAL, "bernoulli") and self.numbers:
            return None
        names = family is None and (self.padded or self._few(layout))
        if self.numbers >= self.words + self.truths and family != CATEGORICAL and not names:
            return None
        if self.truths and not self.words and not self.numbers:
            return (False, True)
        values = self._values(layout)
        if any(isinstance(value, (str, bool)) for value in values):
            return tuple(sorted(set(map(_text, values))))
        return tuple(sorted(values))

    @property
    def padded(self) -> bool:
        """Whether it holds whole numbers of which some begin with a zero, as in 007: these are names."""
        return self.whole and any(isinstance(value, str) and _PADDED.fullmatch(value) for value in self.values)

    def _values(self, layout: Layout | None) -> list[Any]:
        """Its different entries, as numbers if all are: 007 is a name."""
        return [_entry(value) for value in as_numbers(list(self.values), layout)]

    def _few(self, layout: Layout | None) -> bool:
        """Whether it holds a few whole numbers, such as answers from 1 to 5, that are neither truths nor counts."""
        values = self._values(layout)
        if not self.whole or self.seen > self.numbers or any(isinstance(one, str) for one in values):
            return False
        if set(values) <= {0, 1}:
            return False
        mean = self.total / self.numbers
        variance = self.squares / self.numbers - mean**2
        counts = are_counts(min(values), mean, variance)
        return not counts and are_few(len(values), self.numbers)


def _usage(of: Callable[[], Any]) -> Any:
    try:
        return of()
    except (TypeError, ValueError) as error:
        raise Problem(f"--family: {str(error).removeprefix('families ')}", 2) from None
