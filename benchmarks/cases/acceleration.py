"""Passes over the data that fits need, plain and accelerated. Counts, not times."""

import importlib
from collections.abc import Iterator

from benchmarks.harness import Row


def points(case: str, quick: bool) -> list[Row]:
    """All in one process."""
    return [{}]


def run(point: Row, dtype: type, quick: bool) -> Iterator[Row]:
    """The rows of `benchmarks.acceleration`, or the reason why there are none."""
    try:
        module = importlib.import_module("benchmarks.acceleration")
    except ModuleNotFoundError as error:
        yield {"contender": "jaxgmm", "reason": f"{type(error).__name__}: {error}"}
        return
    suite = module.suite(n=200, seeds=range(1)) if quick else module.suite()
    for row in module.compared(list(suite)[:4] if quick else suite):
        yield {"contender": "jaxgmm", "reason": None, "name": row.pop("case"), **row}
