"""One compiled program over many data sets of different lengths: filled up to a few of them, a chunk at a time."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgmm.ground.progress import Bar
from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.ground.rows import Evidence
from jaxgmm.ground.sets import Sets
from jaxgmm.ground.threads import side_by_side

# The fewest rows that data sets of different lengths are filled up to, and as many numbers as take as long to fit as a
# program takes to compile, on a CPU and elsewhere.
_SMALLEST, _COMPILING, _COMPILING_ELSEWHERE = 64, 2**23, 2**33
# Data sets in one call where one is fitted after the other: up to so many of them, and beyond.
_CHUNKS = ((64, 8), (512, 32), (math.inf, 64))
# Side by side they fill an accelerator, and all wait for the slowest and for the host: as many as spread to so many
# numbers, of some gigabytes.
_CHUNK_ELSEWHERE, _NUMBERS_ELSEWHERE = 2**14, 2**28


@record
class Chunk:
    """Some data sets of one length, as a program takes them.

    Fields: `number` (c,), which of all they are; `rows`, of (c, n, ...); `count` (), how many of them there are: what
    fills up the chunk is not looked at where one follows the other.
    """

    number: Leaf
    rows: Evidence
    count: Leaf

    def each(self, function: Callable[..., Any], *given: Any) -> Any:
        """`function(number, rows, *given)` of each, stacked: side by side on an accelerator, else one by one."""
        stacks = self.number, self.rows, *given
        if jax.default_backend() != "cpu":
            return jax.vmap(function)(*stacks)

        def at(place: Any) -> Any:
            return function(
                *jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, place, keepdims=False), stacks)
            )

        def put(place: Any, filled: Any) -> Any:
            return jax.tree.map(
                lambda leaf, new: jax.lax.dynamic_update_index_in_dim(leaf, new, place, 0), filled, at(place)
            )

        blank = jax.tree.map(
            lambda leaf: jnp.zeros((*self.number.shape, *leaf.shape), leaf.dtype), jax.eval_shape(at, self.count)
        )
        return jax.lax.fori_loop(0, self.count, put, blank)

    @property
    def is_alone(self) -> bool:
        """Whether it is one of few, by its size."""
        return self.number.shape[0] < _CHUNKS[1][1]

    @property
    def work(self) -> float:
        """Numbers that a call looks at, and more where it is one of many calls; by shapes alone."""
        calls = 1 if self.is_alone else _CHUNKS[1][1] if self.number.shape[0] < _CHUNKS[2][1] else math.inf
        return float(calls * self.rows.numbers)


@dataclasses.dataclass(frozen=True)
class Job:
    """A chunk to be made: the places of its data sets, and the numbers of rows and of data sets it has room for."""

    places: np.ndarray
    room: int
    size: int

    def chunk(self, sets: Sets) -> Chunk:
        """Filled up with repetitions of the last data set."""
        filled = self.fill(self.places)
        number: Any = sets.numbers[filled].astype(np.int32)
        count: Any = np.int32(len(self.places))
        return Chunk(number, sets.evidence(filled, self.room), count)

    def fill(self, stack: np.ndarray) -> np.ndarray:
        """The first axis filled up by its last entry."""
        return stack[np.minimum(np.arange(self.size), len(stack) - 1)]

    def of(self, stacks: Any) -> Any:
        """What stacks hold for the data sets of this chunk."""
        return jax.tree.map(lambda stack: self.fill(stack[self.places]), stacks)


@dataclasses.dataclass(frozen=True)
class Layout:
    """The numbers of rows that data sets are filled up to, and for each of them how many sets make a chunk."""

    sizes: dict[int, int]

    @classmethod
    def of(cls, lengths: np.ndarray, numbers_per_row: int, chunk_size: int | None = None) -> "Layout":
        """For data sets of these lengths, each row of which spreads to so many numbers."""
        on_cpu = jax.default_backend() == "cpu"
        rooms = _rooms_of(lengths, numbers_per_row, _COMPILING if on_cpu else _COMPILING_ELSEWHERE)
        each = _within(lengths, rooms)
        sizes = [
            chunk_size or _chunk_for(len(lengths), int(np.sum(each == room)), room * numbers_per_row, on_cpu)
            for room in rooms
        ]
        return cls(dict(zip(rooms, sizes, strict=True)))

    def jobs(self, lengths: np.ndarray) -> list[Job]:
        """The chunks of data sets of these lengths, none longer than the longest that this was made for.

        They come mixed, so that all programs are compiled side by side and what is left can be told from what is done.
        """
        jobs: list[tuple[float, Job]] = []
        each = _within(lengths, list(self.sizes))
        for room, size in self.sizes.items():
            mine = np.flatnonzero(each == room)
            parts = [Job(mine[start : start + size], room, size) for start in range(0, len(mine), size)]
            jobs += [((place + 0.5) / len(parts), job) for place, job in enumerate(parts)]
        return [job for _, job in sorted(jobs, key=lambda job: job[0])]


def over_sets(
    call: Callable[..., Any], sets: Sets, given: Callable[[Job], tuple[Any, ...]], jobs: Iterable[Job], bar: Bar
) -> Iterator[tuple[Job, Any]]:
    """`call(chunk, *given(job))` of all jobs, in numpy; of whole chunks."""

    def done(job: Job) -> tuple[Job, Any]:
        return job, jax.tree.map(np.asarray, call(job.chunk(sets), *given(job)))

    for job, result in side_by_side(done, jobs):
        yield job, result
        bar.update(len(job.places))


def stacked(results: Iterable[tuple[Job, Any]], n: int) -> Any:
    """Results of n data sets, each at its place, in numpy."""
    whole: list[np.ndarray] = []
    structure: Any = None
    for job, result in results:
        leaves, structure = jax.tree.flatten(result)
        if not whole:
            whole = [np.zeros((n, *leaf.shape[1:]), leaf.dtype) for leaf in leaves]
        for leaf, part in zip(whole, leaves, strict=True):
            leaf[job.places] = part[: len(job.places)]
    return jax.tree.unflatten(structure, whole)


def _rooms_of(lengths: np.ndarray, numbers_per_row: int, compiling: int) -> list[int]:
    """The numbers of rows to fill up to, ascending: the only one if all are equal, otherwise powers of two.

    As few of them as it is worth compiling for, at the price of so many numbers each.
    """
    if np.all(lengths == lengths[0]):
        return [max(int(lengths[0]), 1)]
    least = np.maximum(_SMALLEST, 1 << np.ceil(np.log2(np.maximum(lengths, 1))).astype(int))
    known, counts = np.unique(least, return_counts=True)
    # The least price of the first so many lengths, and where the last of their rooms begins.
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(known) + 1):
        prices = [
            (best[start][0] + compiling + numbers_per_row * float(known[end - 1] * counts[start:end].sum()), start)
            for start in range(end)
        ]
        best.append(min(prices))
    rooms, end = [], len(known)
    while end:
        rooms.append(int(known[end - 1]))
        end = best[end][1]
    return rooms[::-1]


def _within(lengths: np.ndarray, rooms: list[int]) -> np.ndarray:
    """The smallest of the rooms that each fits in."""
    return np.array(rooms)[np.searchsorted(rooms, np.maximum(lengths, 1))]


def _chunk_for(n: int, n_here: int, numbers: int, on_cpu: bool) -> int:
    """Data sets in one call, of n in all and so many of one length, each of which spreads to so many numbers."""
    if on_cpu:
        return next(size for most, size in _CHUNKS if n < most)
    most = max(1, min(_CHUNK_ELSEWHERE, _NUMBERS_ELSEWHERE // max(numbers, 1)))
    return min(most, 1 << (n_here - 1).bit_length())
