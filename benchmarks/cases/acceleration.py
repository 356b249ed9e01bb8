"""Passes over the data that fits need, plain and accelerated. Counts, not times."""

from collections.abc import Iterator

from benchmarks import acceleration
from benchmarks.harness import Row


def points(case: str, quick: bool) -> list[Row]:
    """All in one process."""
    return [{}]


def run(point: Row, dtype: type, quick: bool) -> Iterator[Row]:
    """The rows of `benchmarks.acceleration`."""
    suite = list(acceleration.suite(n=200, seeds=range(1)))[:4] if quick else acceleration.suite()
    for row in acceleration.compared(suite):
        yield {"contender": "jaxgmm", "reason": None, "name": row.pop("case"), **row}
