"""How a text is laid out, told by its first lines. Where two readings are plausible, one line says what to add."""

import csv
import dataclasses
import itertools
import re
from collections.abc import Callable, Collection, Iterable, Sequence

from jaxgmm.cli.layout import Layout
from jaxgmm.cli.problem import Problem

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", " ": "blank"}
# Decimal points and what stands between thousands; the first that reads as many entries as any is taken.
_READINGS = [(".", ""), (".", ","), (",", ""), (",", "."), (",", " "), (".", " "), (".", "'"), (",", "'")]
# Entries that are looked at.
_MOST = 20_000
# Share of the rows that must be as most are; the rest may have lost empty entries at their end, or hold words.
_LONG = 0.9


@dataclasses.dataclass(frozen=True)
class Recognised:
    """What the first lines tell.

    Fields: `layout`, with nothing left to be recognised; `columns`, their names; `head`, the line that has the names,
    None if there is none; `from_comment`, whether that is a comment above the rows; `told`, what is worth a line.
    """

    layout: Layout
    columns: list[str]
    head: str | None
    from_comment: bool
    told: list[str]


def recognised(lines: Sequence[str], above: str | None, given: Layout, usual: str) -> Recognised:
    """The layout of a text whose first lines, at least one, are `lines`, below the comment `above`.

    What `given` says is so; `usual` is the separator that such a file has if nothing speaks against it.
    """
    layout, rows, width = _separated(lines, given, usual)
    separator = layout.separator or usual
    row_names = _has_row_names(rows, layout)
    first = ["", *rows[0]] if row_names else rows[0]
    named_above = entries(above, separator) if above else []
    named_above = named_above if len(named_above) == width and not any(map(_is(layout), named_above)) else []
    header = given.header
    if header is None:
        header = row_names or _is_header(first, rows[1:], layout)
        if header is None and not named_above:
            shown = ", ".join(first[:4]) + (", ..." if len(first) > 4 else "")
            raise Problem(f"the first line is {shown}; say --header if these are names, --no-header if they are a row.")
    from_comment = given.header is None and not header and bool(named_above)
    layout = dataclasses.replace(layout, header=bool(header))
    head: str | None = None
    if header:
        columns, head = names(first), lines[0]
    elif from_comment:
        columns, head = names(named_above), above
    else:
        columns = [f"c{place}" for place in range(1, width + 1)]
        lone = [line.strip() for line in lines]
        if given.separator is None and width == 2 and readings(given, lone, _LONG):
            raise Problem(f"{lone[0]!r} may be one number or two; say --separator ';' or --separator {separator!r}.")
    return Recognised(layout, columns, head, from_comment, _told(given, layout, usual, from_comment))


def entries(line: str, separator: str) -> list[str]:
    """The entries of a line, quotes taken away; a blank as separator is any number of blanks and tabs."""
    line = re.sub("[\r\n]+", " ", line.strip("\r\n"))
    if separator == " ":
        line = line.replace("\t", " ").strip()
    return [entry.strip() for entry in next(csv.reader([line], delimiter=separator, skipinitialspace=True), [""])]


def names(given: Iterable[str]) -> list[str]:
    """Names of columns as pandas makes them: each is one, and another one than those before it."""
    found: dict[str, None] = {}
    for place, name in enumerate(given):
        unique, copies = name or f"Unnamed: {place}", 0
        while unique in found:
            copies += 1
            unique = f"{name}.{copies}"
        found[unique] = None
    return list(found)


def readings(given: Layout, words: Collection[str], share: float = 1.0) -> list[Layout]:
    """Layouts with other decimal points or thousands than these, in which this share of the words are numbers."""
    there = [_read_as(given, *reading) for reading in _READINGS]
    return [layout for layout in there if sum(map(bool, map(_is(layout), words))) >= share * len(words)]


def said(layout: Layout) -> str:
    """What to add on the command line for these decimal points and thousands."""
    return f'--decimal "{layout.decimal}"' + (f' --thousands "{layout.thousands}"' if layout.thousands else "")


def _read_as(layout: Layout, decimal: str, thousands: str) -> Layout:
    return dataclasses.replace(layout, decimal=decimal, thousands=thousands)


def _separated(lines: Sequence[str], given: Layout, usual: str) -> tuple[Layout, list[list[str]], int]:
    """The layout with separator, decimal point and thousands, the entries of the lines, and how many a row has."""
    candidates = [given.separator] if given.separator else [usual, *(mark for mark in SEPARATORS if mark != usual)]
    found = []
    for separator in candidates:
        try:
            rows = _some([entries(line, separator) for line in lines])
        except csv.Error:  # as of an entry too long to be one
            continue
        lengths = [len(row) for row in rows[1:] or rows]
        width = max(lengths, key=lengths.count)
        layout = dataclasses.replace(given, separator=separator)
        whole = width > 1 and lengths.count(width) >= _LONG * len(lengths)
        if whole and (len(rows[0]) == width or _has_row_names(rows, layout)):
            possible, share = _possible(rows[1:] or rows, layout)
            found.append(((share, len(rows[0]) == width), possible, rows, width))
    if not found:
        layout = dataclasses.replace(given, separator=candidates[0])
        rows = _some([entries(line, candidates[0]) for line in lines])
        return _decided(_possible(rows[1:] or rows, layout)[0], rows[1:] or rows, given), rows, len(rows[0])
    if any(one[1][0].separator == "\t" for one in found):
        found = [one for one in found if one[1][0].separator != " "]
    best = max(one[0] for one in found)
    tied = [one for one in found if one[0] == best]
    marks = [one[1][0].separator for one in tied]
    if best[0] > 0 and len(tied) > 1:
        shown = " or ".join(f'--separator "{mark}"' for mark in marks)
        raise Problem(f"entries may be divided in several ways; say {shown}.")
    _, possible, rows, width = tied[0]
    return _decided(possible, rows[1:] or rows, given), rows, width


def _some(rows: list[list[str]]) -> list[list[str]]:
    return rows[: max(_MOST // max(map(len, rows)), 2)]


def _possible(rows: list[list[str]], given: Layout) -> tuple[list[Layout], float]:
    """Layouts in which the most entries are numbers, and the share of entries that are."""
    cells = [entry for row in rows for entry in row if entry not in given.missing]
    layouts = [
        _read_as(given, decimal, thousands)
        for decimal, thousands in _READINGS
        if given.decimal in (None, decimal) and given.thousands in (None, thousands)
    ] or [_read_as(given, given.decimal or ".", given.thousands or "")]
    numbers = [sum(map(bool, map(_is(layout), cells))) for layout in layouts]
    best = max(numbers)
    kept = [layout for layout, number in zip(layouts, numbers, strict=True) if number == best]
    return kept, best / len(cells) if cells else 0.0


def _decided(possible: list[Layout], rows: list[list[str]], given: Layout) -> Layout:
    """The one of these layouts to take; one line where they read other numbers and none is usual.

    Decimal points are usual. But 1.234 may be a thousand where semicolons divide, and beside whole numbers in its
    column: whoever writes three decimals writes them everywhere.
    """
    first = possible[0]
    usual = (first.decimal, first.thousands) == (".", "") and first.separator != ";"
    commas = []
    for column in itertools.zip_longest(*rows, fillvalue=""):
        numbers = list(filter(_is(first), column))
        cells = [entry for entry in numbers if re.search(r"\d\D+\d", entry)]
        commas += [entry for entry in cells if "," in entry]
        if usual and not any(entry.lstrip("+-").isdecimal() for entry in numbers):
            continue
        for other in possible[1:]:
            for entry in filter(_is(other), cells):
                if first.plain(entry) != other.plain(entry):
                    values = f"{first.plain(entry)} or {other.plain(entry)}"
                    raise Problem(f"{entry!r} may be {values}; say {said(first)} or {said(other)}.")
    if commas and first.separator == first.decimal and given.decimal is None:
        raise Problem(f'entries such as {commas[0]!r}: say --decimal "," if they are numbers, --decimal "." if not.')
    return first


def _is(layout: Layout) -> Callable[[str], re.Match[str] | None]:
    """Whether an entry is a number in this layout."""
    return re.compile(layout.number).fullmatch


def _is_header(first: list[str], rows: list[list[str]], layout: Layout) -> bool | None:
    """Whether the first line has names; None if it may, and may be a row as well."""
    number = _is(layout)
    if first[0] == "" and rows and [row[0] for row in rows] == [str(place) for place in range(len(rows))]:
        return True
    above = []
    for place, entry in enumerate(first):
        below = [row[place] for row in rows if place < len(row) and row[place] not in layout.missing]
        if entry not in layout.missing and 2 * sum(map(bool, map(number, below))) >= len(below):
            above.append(entry)
    above = above or [entry for entry in first if number(entry)]
    integers = [entry for entry in above if entry.isdecimal()]
    words = [entry for entry in above if not number(entry)]
    if len(words) + len(integers) < len(above) or len(set(integers)) < len(integers):
        return None if words else False
    if words:
        return True if any(character.isalpha() for word in words for character in word) else None
    return None if integers else True


def _has_row_names(rows: list[list[str]], layout: Layout) -> bool:
    """Whether rows have a name before their entries and the first line none for it, as R's write.table does."""
    if layout.separator not in (" ", "\t") or len(rows) < 2 or layout.header is False:
        return False
    if any(len(row) != len(rows[0]) + 1 for row in rows[1:]):
        return False
    first = [row[0] for row in rows[1:]]
    plain = re.compile(Layout(decimal=layout.decimal, thousands=layout.thousands).number).fullmatch
    return first == [str(place + 1) for place in range(len(first))] or not any(map(plain, first))


def _told(given: Layout, layout: Layout, usual: str, from_comment: bool) -> list[str]:
    parts = []
    if given.decimal is None and layout.decimal == ",":
        parts.append("with decimal commas")
    if given.thousands is None and layout.thousands:
        mark = {" ": "blanks", "'": "apostrophes", ",": "commas", ".": "points"}[layout.thousands]
        parts.append(f"with {mark} between thousands")
    if from_comment:
        parts.append("with names from the comment above the rows")
    elif given.header is None and not layout.header:
        parts.append("without header")
    separator = layout.separator or usual
    if not parts and (given.separator is not None or separator == usual):
        return []
    return [f"Read as {', '.join([f'{SEPARATORS.get(separator, separator)}-separated', *parts])}."]
