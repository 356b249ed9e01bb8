"""How the gallery orders the examples, and what they find when they run."""

import builtins
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


def prepare(gallery_conf: object, name: str) -> None:
    """Before each example: a `__file__`, beside which it finds its data, and no compiled programs of the last one.

    sphinx-gallery runs scripts without a `__file__`. Programs take memory maps, of which a process has only so many.
    """
    builtins.__file__ = str(EXAMPLES / Path(name).name)  # type: ignore[attr-defined]
    jax.clear_caches()
