"""How tables are laid out in files."""

import dataclasses
import re

FORMATS = ("csv", "tsv", "parquet", "npy", "npz")
# Entries of text that are missing, as pandas has them; told here, so that what recognises a table knows the same ones.
MISSING = frozenset(
    {"", "NA", "N/A", "n/a", "<NA>", "#N/A", "#NA", "#N/A N/A", "NaN", "nan", "-NaN", "-nan", "null", "NULL", "None"}
    | {"1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"}
)
# What stands between thousands where that is a blank: also those that do not break a line.
_BLANKS = " \u00a0\u202f"


@dataclasses.dataclass(frozen=True)
class Layout:
    """How text is laid out, and of which format a file is whose name does not say so; None is to be recognised.

    Fields: `separator`, one character, a blank for any number of blanks and tabs; `thousands`, what stands between
    thousands, "" for nothing; `na`, words that are missing entries beside `MISSING`; `comment`, what a line begins with
    that is none of the table, "" for nothing.
    """

    format: str | None = None
    header: bool | None = None
    separator: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    na: tuple[str, ...] = ()
    comment: str | None = None

    @property
    def missing(self) -> frozenset[str]:
        """Entries that are missing."""
        return MISSING.union(self.na)

    @property
    def number(self) -> str:
        """A regular expression for a whole entry that is a number; thousands stand in groups of three."""
        decimal = re.escape(self.decimal or ".")
        whole = r"\d+"
        if self.thousands:
            whole = rf"(?:\d+|[1-9]\d{{0,2}}(?:{self._between}\d{{3}})+)"
        return rf"[+-]?(?:{whole}(?:{decimal}\d*)?|{decimal}\d+)(?:[eE][+-]?\d+)?"

    @property
    def _between(self) -> str:
        return f"[{_BLANKS}]" if self.thousands == " " else re.escape(self.thousands or "")

    def plain(self, entry: str) -> str:
        """A number as programs write it."""
        if self.thousands:
            entry = re.sub(self._between, "", entry)
        return entry.replace(self.decimal or ".", ".")
