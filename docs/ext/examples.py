"""How the gallery orders the examples, and what they find when they run."""

import builtins
import shutil
from functools import cache
from pathlib import Path

import jax

EXAMPLES = Path(__file__).parents[2] / "examples"


@cache
def told() -> str:
    """The page that introduces the examples."""
    return (EXAMPLES / "index.rst").read_text()


def as_told(path: str) -> int:
    """The place of an example: where that page names it first."""
    return told().index(Path(path).name)


def around(gallery_conf: object, name: str, when: str) -> None:
    """Before and after each example, in the process that runs it."""
    # sphinx-gallery runs scripts without a `__file__`, beside which they find their data.
    builtins.__file__ = str(EXAMPLES / Path(name).name)  # type: ignore[attr-defined]
    # Compiled programs take memory maps, of which a process has only so many.
    jax.clear_caches()
    # Of an example that asks for float64, the next one knows nothing.
    jax.config.update("jax_enable_x64", False)
    # A folder that an example writes would be taken for a gallery of its own.
    if when == "after":
        shutil.rmtree(EXAMPLES / "out", ignore_errors=True)
