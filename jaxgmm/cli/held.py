"""Rows as they come from a table: all of them in memory, or a sample of them where they are too many for that."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jaxgmm.ground.surveys import Reservoir

Rows = dict[str, np.ndarray]
"""Arrays with the rows on axis 0, by what they say of these: `x`, `weights`, `noise`, `codes`, `place`."""

# Numbers from which on an array is memory of its own, which goes back at once.
_LARGE = 2**22


class Joined:
    """Arrays one after the other, large ones of several, as many small ones leave holes in memory."""

    def __init__(self) -> None:
        self._large: list[np.ndarray] = []
        self._small: list[np.ndarray] = []

    def add(self, part: np.ndarray) -> None:
        """One more at the end."""
        self._small.append(part)
        if sum(one.size for one in self._small) >= _LARGE:
            self._large.append(np.concatenate(self._small))
            self._small.clear()

    def whole(self) -> np.ndarray:
        """All of them as one."""
        return np.concatenate([*self._large, *self._small])


class Held:
    """All rows that come, until they hold more numbers than `most`: then `size` of them, each as likely as any other.

    Rows of weight 0 are in no sample. All rows are written to the file that `spooled` makes then, if it is given.
    """

    def __init__(self, most: float, size: int, seed: int, spooled: "Callable[[], Spool] | None") -> None:
        self._most, self._spooled, self._numbers = most, spooled, 0
        self.file: Spool | None = None
        self._joined: dict[str, Joined] = {}
        self._sample = Reservoir(size)
        self._generator = np.random.default_rng(seed)
        self.large = False

    def add(self, rows: Rows) -> None:
        """Some more."""
        self._numbers += rows["x"].size
        if self.large:
            self._offer(rows)
            return
        for name, array in rows.items():
            self._joined.setdefault(name, Joined()).add(array)
        if self._numbers > self._most:
            self.large = True
            self.file = self._spooled() if self._spooled else None
            self._offer(self.rows())
            self._joined.clear()

    def _offer(self, rows: Rows) -> None:
        priorities = self._generator.random(len(rows["x"]))
        if "weights" in rows:
            priorities = np.where(rows["weights"] > 0, priorities, 2)
        self._sample.offer(priorities, rows)
        if self.file is not None:
            self.file.add(rows)

    def rows(self) -> Rows:
        """What is held, in the order in which it came."""
        if self._joined:
            return {name: joined.whole() for name, joined in self._joined.items()}
        return self._sample.kept()[1]


class Spool:
    """Rows in a file without a name, which goes with the process: text takes ten times as long to read."""

    def __init__(self, closing: contextlib.ExitStack) -> None:
        self._file = closing.enter_context(tempfile.TemporaryFile(prefix="jaxgmm-"))  # noqa: SIM115
        self._type: Any = None
        self._n = 0

    def add(self, rows: Rows) -> None:
        """Some more at the end."""
        self._type = np.dtype([(name, array.dtype, array.shape[1:]) for name, array in rows.items()])
        table = np.empty(len(rows["x"]), self._type)
        for name, array in rows.items():
            table[name] = array
        self._file.write(table.tobytes())
        self._n += len(table)

    def parts(self, size: int) -> Iterator[Rows]:
        """All of them, so many at a time."""
        width = self._type.itemsize
        for start in range(0, self._n, size):
            self._file.seek(start * width)
            table = np.frombuffer(self._file.read(size * width), self._type)
            yield {name: table[name] for name in self._type.names}


Parts = Callable[[int], Iterator[Rows]]
