"""Shape annotations are checked while testing in float32, and examples in docstrings and documents are run."""

import doctest
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
from jaxtyping import install_import_hook

# Shapes do not depend on the dtype, so they are checked in one.
if not jax.config.jax_enable_x64:
    install_import_hook("jaxgmm", "beartype.beartype")

from sybil import Sybil
from sybil.parsers.doctest import DocTestParser
from sybil.parsers.myst import CodeBlockParser, PythonCodeBlockParser

os.environ.setdefault("MPLBACKEND", "agg")
DATA = Path(__file__).parent / "examples" / "data"
# How far a command is, which it says after some seconds: whether it does depends on the machine.
PROGRESS = re.compile(r".+: \d+ of \d+ after .+ left")


def run_console(example):
    """Commands of a terminal, the lines after `$`, print what stands below them; all of a document in one folder."""
    if "folder" not in example.namespace:
        folder = example.namespace["folder"] = tempfile.TemporaryDirectory()
        for path in DATA.glob("*.csv"):
            shutil.copy(path, folder.name)
    folder = example.namespace["folder"].name
    found = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(DATA.parent.parent),
        "XDG_CACHE_HOME": folder,
    }
    for part in ("\n" + example.parsed).split("\n$ ")[1:]:
        command, _, expected = part.partition("\n")
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=os.environ | found,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        lines = [line.rstrip() for line in done.stdout.strip().splitlines()]
        printed = "\n".join(line for line in lines if not PROGRESS.fullmatch(line))
        options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        if not doctest.OutputChecker().check_output(expected.strip(), printed, options):
            return f"$ {command}\nprinted\n{printed}\nexpected\n{expected}"
    return None


pytest_collect_file = (
    Sybil(parsers=[DocTestParser(optionflags=doctest.ELLIPSIS)], patterns=["jaxgmm/**/*.py"])
    + Sybil(
        parsers=[PythonCodeBlockParser(), CodeBlockParser(language="console", evaluator=run_console)],
        patterns=["README.md", "docs/*.md"],
    )
).pytest()
