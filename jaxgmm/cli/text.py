"""Tables of text: the lines of a file as they stand, and beside them what they say."""

import dataclasses
import io
import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from jaxgmm.cli.layout import Layout
from jaxgmm.cli.problem import Problem
from jaxgmm.cli.recognising import SEPARATORS, Recognised, entries, recognised

# Lines and characters that the layout is recognised by, and characters that a row with quotes may have.
_FIRST, _LOOKED_AT, _LONGEST = 1000, 2**20, 2**17
_ENDS = "\r\n"
# An entry in quotes, and one whose quotes do not end.
_QUOTED = r'((?:^|[{marks}])[ ]*)"(?:[^"]|"")*"'
_OPEN = r'(?:^|[{marks}])[ ]*"'
# What Excel is told the separator by.
_EXCEL = re.compile('"?sep=."?', re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Part:
    """Some rows of a table, and the lines they were read from if it is text."""

    frame: pd.DataFrame
    lines: list[str] | None = None


@dataclasses.dataclass
class Comments:
    """Lines that are none of the table: how many, and the first of them with the number of rows before."""

    number: int = 0
    first: list[tuple[int, str]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Text:
    """A table of text: how it is laid out, how its lines end, and the comments among them, as far as it was read."""

    path: str
    name: str
    recognised: Recognised
    newline: str
    comments: Comments

    @classmethod
    def at(cls, path: str, name: str, layout: Layout, usual: str) -> "Text":
        """The text at `path`, its layout told by its first lines."""
        if layout.separator == "\\t":
            layout = dataclasses.replace(layout, separator="\t")
        marks = {"separator": layout.separator, "decimal": layout.decimal, "thousands": layout.thousands or None}
        for option, mark in marks.items():
            if mark is not None and len(mark) != 1:
                raise Problem(f"--{option} is {mark!r}; expected one character.", 2)
        comments = Comments()
        comment = "#" if layout.comment is None else layout.comment
        lines: list[str] = []
        for line in itertools.islice(_lines(path, name, comment, layout.separator, comments), _FIRST):
            lines.append(line)
            if len(lines) > 2 and len(line) * len(lines) > _LOOKED_AT:
                break
        if not lines:
            raise Problem(f"{name}: no columns in it: it is empty, or all comments.")
        above = [line for before, line in comments.first if before == 0]
        said = above[-1].strip().lstrip(comment).strip() if above else None
        try:
            found = recognised(lines, said, layout, usual)
        except Problem as problem:
            raise Problem(f"{name}: {problem}", problem.code) from None
        found = dataclasses.replace(
            found,
            layout=dataclasses.replace(found.layout, comment=comment),
            head=above[-1] if found.from_comment else found.head,
        )
        text = cls(path, name, found, "\r\n" if lines[0].endswith("\r\n") else "\n", Comments())
        if layout.comment is None:
            text._refuse_rows_among(comments, lines)
        return text

    def told(self) -> list[str]:
        """What is worth a line once the table has been read."""
        number = self.comments.number - self.recognised.from_comment
        mark = self.recognised.layout.comment
        found = [f"{number} lines that begin with {mark} are comments."] if number > 1 else []
        return self.recognised.told + ([f"1 line that begins with {mark} is a comment."] if number == 1 else found)

    @property
    def width(self) -> int:
        """Entries of a row, its name included."""
        return len(self.recognised.columns)

    def parts(self, size: int) -> Iterator[Part]:
        """The rows, so many at a time."""
        layout, columns = self.recognised.layout, self.recognised.columns
        self.comments.number = 0
        rows = _lines(self.path, self.name, layout.comment or "", layout.separator, self.comments)
        before = 0
        for _ in range(bool(layout.header)):
            next(rows, None)
        while lines := list(itertools.islice(rows, size)):
            self._refuse_longer(lines, before)
            frame = self.read(lines)
            yield Part(frame.set_axis(columns, axis=1), lines)
            before += len(lines)

    def read(self, lines: list[str], **options: Any) -> pd.DataFrame:
        """What the lines say; entries that are numbers in some rows of a column and words in others are all text."""
        layout = self.recognised.layout
        frame = pd.read_csv(
            io.BytesIO("".join(lines).encode()),
            sep=r"\s+" if layout.separator == " " else layout.separator,
            decimal=layout.decimal or ".",
            header=None,
            names=range(self.width),
            index_col=False,
            skipinitialspace=True,
            skip_blank_lines=False,
            low_memory=False,
            **{"keep_default_na": False, "na_values": sorted(layout.missing), "dtype_backend": "numpy_nullable"}
            | options,
        )
        if len(frame) != len(lines):
            raise Problem(f"{self.name}: quotes that do not end, between entries or in a comment.")
        return frame

    def longer(self, line: str) -> int:
        """By how many entries the line is longer than a row, negative if it is shorter."""
        separator = self.recognised.layout.separator or ","
        if separator == " ":
            return len(entries(line, " ") if '"' in line else line.split()) - self.width
        if '"' in line:
            line = re.sub(_QUOTED.format(marks=re.escape(separator)), r"\1", line)
        return line.count(separator) + 1 - self.width

    def replaced(self, line: str, entries: dict[int, str]) -> str:
        """The line, filled up to the width of a row, with other entries at these places and all else as it stands."""
        mark = re.escape(self.recognised.layout.separator or ",")
        blank = mark == re.escape(" ")
        field = re.compile(r'[ \t]*("(?:[^"]|"")*"[^ \t]*|[^ \t]+)' if blank else rf'(?: *"(?:[^"]|"")*")?[^{mark}]*')
        body = line.rstrip(_ENDS)
        body += "" if blank else -self.longer(line) * (self.recognised.layout.separator or ",")
        spans: list[tuple[int, int]] = []
        start = 0
        while len(spans) < self.width and (found := field.match(body, start)):
            spans.append(found.span(1) if blank else found.span())
            start = found.end() + (not blank)
        for place in sorted(entries, reverse=True):
            first, last = spans[place]
            body = body[:first] + entries[place] + body[last:]
        return body + line[len(line.rstrip(_ENDS)) :]

    def written(self, value: Any) -> str:
        """A number as this text has it."""
        layout = self.recognised.layout
        plain = str(value).replace(".", layout.decimal or ".")
        return f'"{plain}"' if layout.decimal == layout.separator else plain

    def _refuse_longer(self, lines: list[str], before: int) -> None:
        separator = self.recognised.layout.separator or ","
        blank, most = separator == " ", self.width - 1
        for place, line in enumerate(lines):
            # Fewer marks are fewer entries, whatever is in quotes.
            if not blank and line.count(separator) <= most:
                continue
            more = self.longer(line)
            if more > 0 or (blank and more < 0):
                advice = ""
                if self.width == 1:
                    advice = "; if it is one number, say --separator ';' --decimal ','"
                raise Problem(
                    f"{self.name}: row {before + place + 1} has {self.width + more} entries; expected {self.width}, "
                    f"as in the first line{advice}."
                )

    def _refuse_rows_among(self, comments: Comments, lines: list[str]) -> None:
        """A line that begins with a comment's mark and has an entry for each column may as well be a row."""
        layout = self.recognised.layout
        number = re.compile(layout.number).fullmatch
        rows = [entries(line, layout.separator or ",") for line in lines[bool(layout.header) :]]
        numeric = [
            place
            for place in range(1, self.width)
            if all(number(row[place]) for row in rows if place < len(row) and row[place] not in layout.missing)
        ]
        for before, line in comments.first:
            found = entries(line[1:], layout.separator or ",")
            if before and len(found) == self.width > 1 and numeric and all(number(found[place]) for place in numeric):
                raise Problem(
                    f"{self.name}: a line begins with # and has as many entries as a row, {line.strip()[:40]!r}; say "
                    "--comment '#' if it is to be left out, --comment '' if it is a row."
                )


# Appends new columns and, if it is given one as `part`, a part of a table before them.
Write = Callable[..., None]


def writer(file: Any, layout: Layout, source: Text | None) -> Write:
    """A function that writes parts of a table and more columns; lines of text of this layout stay as they are."""
    separator = layout.separator or ","
    newline = source.newline if source else "\n"
    options: Any = {
        "sep": separator,
        "decimal": layout.decimal or ".",
        "index": False,
        "lineterminator": newline,
        "na_rep": "nan" if separator == " " else "",
    }
    first = layout.header is not False or (source is not None and source.recognised.from_comment)
    verbatim = source is not None and source.recognised.layout.separator == separator

    def write(new: pd.DataFrame, part: Part | None = None) -> None:
        nonlocal first
        if source is None or part is None or part.lines is None:
            joined(new, part).to_csv(file, header=first, **options)
        elif not verbatim:
            cells = source.read(part.lines, dtype=str, na_values=[]).set_axis(part.frame.columns, axis=1)
            joined(new, Part(cells)).to_csv(file, header=first, **options)
        else:
            head = source.recognised.head
            if new.columns.empty:
                lines = [head, *part.lines] if first and head is not None else part.lines
                file.writelines(line.rstrip(_ENDS) + newline for line in lines)
                first = False
                return
            if first and head is not None:
                names = pd.DataFrame(columns=new.columns).to_csv(**options)
                file.write(head.rstrip(_ENDS) + separator + names)
            ends = new.to_csv(header=False, **options).splitlines(keepends=True)
            for line, end in zip(part.lines, ends, strict=True):
                lost = -source.longer(line) * separator
                file.write(f"{line.rstrip(_ENDS)}{lost}{separator}{end}")
        first = False

    return write


def joined(new: pd.DataFrame, part: Part | None) -> pd.DataFrame:
    """Columns of a part, if there is one, and more beside them."""
    return new if part is None else pd.concat([part.frame, new], axis=1)


def replaced(text: Text | None, part: Part, columns: dict[str, np.ndarray]) -> Part:
    """A part of a table with numbers in the place of entries of these columns, where they are not NaN."""
    frame = part.frame.copy()
    for name, values in columns.items():
        there = ~np.isnan(values)
        numeric = pd.api.types.is_numeric_dtype(frame[name].dtype)
        if not numeric and text is not None:
            values = np.array([text.written(value) for value in values], object)
        elif pd.api.types.is_integer_dtype(frame[name].dtype):
            # Integers that are there stay what they are in a type that has fractions.
            frame[name] = frame[name].astype("Float64")
        frame[name] = frame[name].mask(there, pd.Series(values, index=frame.index))
    if text is None or part.lines is None:
        return Part(frame)
    entries: list[dict[int, str]] = [{} for _ in part.lines]
    for name, values in columns.items():
        place = part.frame.columns.get_loc(name)
        for row in np.flatnonzero(~np.isnan(values)).tolist():
            entries[row][place] = text.written(values[row])
    lines = [text.replaced(line, new) if new else line for line, new in zip(part.lines, entries, strict=True)]
    return Part(frame, lines)


def _lines(path: str, name: str, comment: str, separator: str | None, comments: Comments) -> Iterator[str]:
    """The lines of a file that are rows: those within quotes in one, without empty ones and comments."""
    marks = re.escape(separator or "".join(SEPARATORS))
    quoted, opened = re.compile(_QUOTED.format(marks=marks)), re.compile(_OPEN.format(marks=marks))
    empty = " \r\n\t" if separator == " " else " \r\n"
    pending: list[str] = []
    number = 0
    with pd.io.common.get_handle(path, "r", encoding="utf-8-sig", compression="infer") as handles:
        for line in handles.handle:
            if not pending:
                if not line.strip(empty) or (number == 0 and _EXCEL.fullmatch(line.strip())):
                    continue
                if comment and line.startswith(comment):
                    comments.number += 1
                    if len(comments.first) < _FIRST:
                        comments.first.append((number, line))
                    continue
                if '"' not in line:
                    number += 1
                    yield line
                    continue
            pending.append(line)
            if '"' not in line:
                continue
            row = "".join(pending)
            if row.count('"') % 2 and opened.search(quoted.sub(r"\1", row)):
                if len(row) > _LONGEST:
                    break
                continue
            number += 1
            yield row
            pending = []
    if pending:
        raise Problem(f"{name}: an entry of row {number} begins with a quote that does not end.")
