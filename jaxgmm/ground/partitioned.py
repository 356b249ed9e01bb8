"""Batches of rows that an engine holds in partitions: it works on them where they are."""

import dataclasses
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np

from jaxgmm.ground import checks, digits
from jaxgmm.ground.batches import Batches, Watch, each_row
from jaxgmm.ground.partitions import Partitions
from jaxgmm.ground.parts import Part
from jaxgmm.ground.rows import Evidence
from jaxgmm.ground.sources import Source
from jaxgmm.ground.surveys import Reservoir, Survey, Totals
from jaxgmm.ground.written import flat

T = TypeVar("T")


class Partitioned(Batches):
    """Batches of rows that an engine holds in partitions.

    What is added over all rows, `totals` and the statistics of a fit, is so by its workers, and what they say travels,
    as do the rows of a sample. Whatever else goes through the batches brings the rows here, one partition after the
    other.
    """

    def __init__(self, source: Source, **options: Any) -> None:
        super().__init__(source, **options)
        beyond = {"sharding": "sharding is of devices", "processes": "all_processes is of processes"}
        for name, what in beyond.items():
            if options.pop(name) is not None:
                raise TypeError(f"{what} here, and source has its rows elsewhere; leave it out.")
        self._options = options

    def total(
        self,
        function: Callable[[Any, Batches, Watch], T],
        asked: Any,
        add: Callable[[T, T], T],
        watch: Watch = lambda n: None,
    ) -> T:
        partitions, task = self._task(function, asked)
        found = partitions.total(task, add)
        if self._totals is not None:
            watch(self._totals.n)
        return found

    def with_columns(self, mixture: Any, functions: Mapping[str, Callable[[Any, Evidence], Any]]) -> Any:
        if digits.holds_more(self._type_given, self.dtype):
            self.totals()  # whether they have the digits is seen from all of them
        assert self._source.blank is not None
        part = {name: np.ones_like(array) if name in _ONES else array for name, array in self._source.blank.items()}
        like = {name: array[:0] for name, array in _columns(functions, mixture, self.of_part(part)).items()}
        partitions, task = self._task(_told, (tuple(functions.items()), mixture, tuple(like.items())))
        return partitions.extended(task, like)

    def _task(self, function: Callable[[Any, Any, Watch], Any], asked: Any) -> tuple[Partitions, "_Task"]:
        source = self._source
        assert source.partitions is not None
        assert source.opened is not None
        # Arrays of numpy keep their type wherever they are unpickled.
        plain = jax.tree.map(lambda leaf: np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf, asked)
        in_64_bits = checks.float_of(np.dtype(np.float64)) == np.float64
        return source.partitions, _Task(source.opened, source.blank, self._options, in_64_bits, function, plain)

    def totals(self) -> Totals:
        if self._totals is None:
            self.n_here = self._taken(self.total(_survey, (0, 1, 0.0), operator.add)).n
        assert self._totals is not None
        return self._totals

    def look(self, generator: np.random.Generator, size: int) -> Part:
        """A sample of the rows, which depends on how they are divided into partitions, but not on who works on them."""
        seed, present = int(generator.integers(2**63)), self.totals().present
        # So many are below the bound that hardly ever another pass is needed, and few more than that travel.
        bound = (size + 6 * math.sqrt(size) + 30) / present
        while True:
            found = self.total(_survey, (seed, size, bound), operator.add).reservoir
            if found.n == min(size, present):
                return found.kept()[1]
            if bound > 1:
                raise ValueError(
                    f"source had {present} rows with weight, and now has {found.n}; expected the same in every pass. "
                    "Keep them where they are by persist() or cache(), or write them to files first."
                )
            bound *= 2


@dataclasses.dataclass(frozen=True)
class _Task:
    """What an engine's worker does to a partition: it makes batches of it, in the precision of who asks."""

    opened: Callable[[Any], Source]
    blank: Part | None
    options: dict[str, Any]
    in_64_bits: bool
    function: Callable[[Any, Batches, Watch], Any]
    asked: Any

    def __call__(self, place: int, value: Any) -> Any:
        with jax.enable_x64(self.in_64_bits):
            try:
                source = dataclasses.replace(self.opened(value), blank=self.blank)
                return self.function(self.asked, _Partition(source, place, **self.options), lambda n: None)
            except (TypeError, ValueError) as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise kind(f"In partition {place}: {error}") from error


class _Partition(Batches):
    """The partition of that number. Few sizes of batches serve partitions of many sizes, as each is compiled for."""

    def __init__(self, source: Source, place: int, **options: Any) -> None:
        super().__init__(source, **options)
        self.place = place

    @property
    def workers(self) -> int:
        # An engine has as many workers as there are cores.
        return 1

    def _suitable(self, n: int | None) -> int:
        fineness = 1 if n is None else 2 ** max(0, n.bit_length() - 3)
        return super()._suitable(n if n is None else -(-n // fineness) * fineness)


def _survey(asked: tuple[int, int, float], batches: Any, watch: Watch) -> Survey:
    seed, size, bound = asked
    return batches.survey(np.random.default_rng((int(seed), batches.place)), Reservoir(int(size), float(bound)))


# What of rows is not zero where nothing is known of them.
_ONES = ("weights", "noise")


def _told(asked: Any, batches: Batches, watch: Watch) -> dict[str, np.ndarray]:
    # As pairs, as a dictionary comes out of JAX in the order of its names.
    functions, mixture, like = dict(asked[0]), asked[1], dict(asked[2])
    mixture = jax.tree.map(jax.numpy.asarray, mixture)
    found = [(n, _columns(functions, mixture, rows)) for n, rows in batches.each(weighted=False)]
    return {name: np.concatenate([array, *(one[name][:n] for n, one in found)]) for name, array in like.items()}


def _columns(functions: Mapping[str, Callable[[Any, Evidence], Any]], mixture: Any, rows: Evidence) -> dict[str, Any]:
    told = {name: function(mixture, rows) for name, function in functions.items()}
    return flat({name: np.asarray(array) for name, array in each_row(told, rows.n).items()})
