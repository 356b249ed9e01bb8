"""Shape annotations are checked while testing, and examples in docstrings and documents are run."""

import doctest
import os

from jaxtyping import install_import_hook

install_import_hook("jaxgmm", "beartype.beartype")

from sybil import Sybil  # noqa: E402
from sybil.parsers.doctest import DocTestParser  # noqa: E402
from sybil.parsers.myst import PythonCodeBlockParser  # noqa: E402

os.environ.setdefault("MPLBACKEND", "agg")


pytest_collect_file = (
    Sybil(parsers=[DocTestParser(optionflags=doctest.ELLIPSIS)], patterns=["jaxgmm/**/*.py"])
    + Sybil(parsers=[PythonCodeBlockParser()], patterns=["README.md", "docs/*.md"])
).pytest()
