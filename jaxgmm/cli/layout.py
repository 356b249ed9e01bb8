"""How tables are laid out in files."""

import dataclasses

FORMATS = ("csv", "tsv", "parquet", "npy", "npz")


@dataclasses.dataclass(frozen=True)
class Layout:
    """How text is laid out, and of which format a file is whose name does not say so."""

    format: str | None = None
    header: bool = True
    separator: str | None = None
    decimal: str = "."
