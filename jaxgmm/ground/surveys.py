"""What one pass says of rows: what they add up to, a sample, and whether a type has the digits for them."""

import dataclasses
import zlib
from typing import Any

import numpy as np

from jaxgmm.ground import digits
from jaxgmm.ground.parts import Part, joined


@dataclasses.dataclass(frozen=True)
class Totals:
    """What all rows add up to. Those of parts of the rows add up with `+`.

    Fields: `n`, how many rows there are; `present`, how many of positive weight; `weight` of all; `told`, that of rows
    of which something is known; `largest` weight of one; `fingerprint`, by which other rows are told from these
    where they come in the same batches.
    """

    n: int = 0
    present: int = 0
    weight: float = 0.0
    told: float = 0.0
    largest: float = 0.0
    fingerprint: int = dataclasses.field(default=0, compare=False, repr=False)

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(
            self.n + other.n,
            self.present + other.present,
            self.weight + other.weight,
            self.told + other.told,
            max(self.largest, other.largest),
            (self.fingerprint + other.fingerprint) % 2**64,
        )

    def checked(self) -> "Totals":
        """`ValueError` where there is nothing to fit."""
        if not self.n:
            raise ValueError("source has no rows; expected at least one.")
        if not self.present:
            raise ValueError("weights are all zero; at least one row must have a positive weight.")
        return self


def fingerprint_of(part: Part, start: int) -> int:
    """A number that changes with any bit of the rows from the one of that number on."""
    found = start
    for name in sorted(part):
        found = zlib.crc32(np.ascontiguousarray(part[name]).data, found & 0xFFFFFFFF)
    return found


class Reservoir:
    """So many of the rows that it is offered, each as likely as any other: those of least priority (Vitter 1985)."""

    def __init__(self, size: int, bound: float = np.inf) -> None:
        """Of no row whose priority is not below the `bound`."""
        self.size = size
        self._priorities: list[np.ndarray] = []
        self._parts: list[Part] = []
        self._held, self._bound = 0, bound
        self.offered = 0

    def offer(self, priorities: np.ndarray, part: Part) -> None:
        """Rows, with a number each that was drawn evenly between 0 and 1; of 2 or more, they are left out."""
        self.offered += int(np.count_nonzero(priorities < 2))
        chosen = np.flatnonzero(priorities < min(self._bound, 2))
        if not chosen.size:
            return
        self._priorities.append(priorities[chosen])
        self._parts.append({name: array[chosen] for name, array in part.items()})
        self._held += chosen.size
        if self._held >= 2 * self.size:
            self._thin()

    def __add__(self, other: "Reservoir") -> "Reservoir":
        """Of the rows that were offered to both, first those of this one."""
        found = Reservoir(self.size)
        for one in (self, other):
            for priorities, part in zip(one._priorities, one._parts, strict=True):
                found.offer(priorities, part)
        return found

    @property
    def n(self) -> int:
        """How many there are."""
        return min(self._held, self.size)

    def kept(self) -> tuple[np.ndarray, Part]:
        """The rows, in the order in which they were offered, and their priorities."""
        self._thin()
        return self._priorities[0], self._parts[0]

    def least(self, size: int) -> Part:
        """As many of them, or all; nothing of a reservoir that was offered nothing."""
        if not self._parts:
            return {}
        self.size = min(self.size, size)
        return self.kept()[1]

    def _thin(self) -> None:
        priorities = np.concatenate(self._priorities)
        part = joined(self._parts)
        if priorities.size > self.size:
            chosen = np.sort(np.argpartition(priorities, self.size - 1)[: self.size])
            priorities, part = priorities[chosen], {name: array[chosen] for name, array in part.items()}
            self._bound = priorities.max()
        self._priorities, self._parts, self._held = [priorities], [part], priorities.size


@dataclasses.dataclass(frozen=True)
class Survey:
    """What one pass says of rows. Those of parts of the rows add up with `+`.

    Fields: `totals`; `reservoir`, to which all were offered, or None; `spread`, where digits might be lost.
    """

    totals: Totals
    reservoir: Reservoir | None
    spread: "Spread | None"

    def __add__(self, other: "Survey") -> "Survey":
        spread = None if self.spread is None or other.spread is None else self.spread + other.spread
        mine, others = self.reservoir, other.reservoir
        reservoir = None if mine is None or others is None else mine + others
        return Survey(self.totals + other.totals, reservoir, spread)

    @property
    def alone(self) -> "Survey":
        """The same without the rows."""
        return dataclasses.replace(self, reservoir=None)


class Spread:
    """How far columns spread, and how far their entries would be moved by rounding."""

    def __init__(self, n_columns: int) -> None:
        # Entries that are known, and the first of them, by column.
        self.n: Any = np.zeros(n_columns)
        self.origin: Any = np.full(n_columns, np.nan)
        self.sums: Any = np.zeros(n_columns)
        self.squares: Any = np.zeros(n_columns)
        self.moved: Any = np.zeros(n_columns)

    def add(self, x: np.ndarray, dtype: Any) -> None:
        with np.errstate(all="ignore"):
            exact = x.astype(np.float64)
            there = np.isfinite(exact)
            first = np.where(there.any(axis=0), exact[there.argmax(axis=0), np.arange(exact.shape[1])], np.nan)
            self.origin = np.where(self.n > 0, self.origin, first)
            away = np.where(there, exact - self.origin, 0)
            moved = np.abs(exact - x.astype(dtype))
            self.moved = np.fmax(self.moved, np.nan_to_num(moved, nan=0).max(axis=0))
            self.n = self.n + there.sum(axis=0)
            self.sums, self.squares = self.sums + away.sum(axis=0), self.squares + (away**2).sum(axis=0)

    def __add__(self, other: "Spread") -> "Spread":
        found = Spread(self.origin.size)
        found.n, found.moved = self.n + other.n, np.fmax(self.moved, other.moved)
        found.origin = np.where(self.n > 0, self.origin, other.origin)
        with np.errstate(all="ignore"):
            # Where one of them has none, it adds nothing.
            away = np.where((self.n > 0) & (other.n > 0), other.origin - self.origin, 0)
            found.sums = self.sums + other.sums + other.n * away
            found.squares = self.squares + other.squares + away * (2 * other.sums + other.n * away)
        return found

    def check(self, given: Any, dtype: Any, names: tuple[str, ...]) -> None:
        n = np.maximum(self.n, 1)
        deviation = np.sqrt(np.maximum(self.squares / n - (self.sums / n) ** 2, 0))
        for place in np.flatnonzero((self.moved > digits.SHARE / 2 * deviation) & (deviation > 0)):
            column = names[place] if names else int(place)
            raise ValueError(
                f"source holds numbers of type {given} in column {column!r} that {dtype} rounds by "
                f"{self.moved[place]:.3g}, and its standard deviation is {deviation[place]:.3g}: turn on JAX's 64-bit "
                "mode first, jax.config.update('jax_enable_x64', True), or subtract an offset from that column."
            )
