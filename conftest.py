"""Shape annotations are checked while testing, and examples in docstrings and documents are run."""

import doctest
import os

from jaxtyping import install_import_hook

install_import_hook("jaxgmm", "beartype.beartype")

import pytest  # noqa: E402
from sybil import Sybil  # noqa: E402
from sybil.parsers.doctest import DocTestParser  # noqa: E402
from sybil.parsers.myst import PythonCodeBlockParser  # noqa: E402

os.environ.setdefault("MPLBACKEND", "agg")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The examples of one file share their names, so one worker runs them all, in order."""
    for item in items:
        if item.path.parent.name != "tests":
            item.add_marker(pytest.mark.xdist_group(str(item.path)))


pytest_collect_file = (
    Sybil(parsers=[DocTestParser(optionflags=doctest.ELLIPSIS)], patterns=["jaxgmm/**/*.py"])
    + Sybil(parsers=[PythonCodeBlockParser()], patterns=["README.md", "docs/*.md"])
).pytest()
