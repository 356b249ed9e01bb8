"""Parts of rows on their way: dictionaries of arrays of numpy with the rows on axis 0, by what they say of these."""

from collections.abc import Iterator

import numpy as np

Part = dict[str, np.ndarray]
"""Of `x`, `weights`, `labels`, `noise`, `log_evidence`, and `missing`, a mask."""


def recut(parts: Iterator[Part], size: int) -> Iterator[Part]:
    """The same rows in parts of `size` rows, but for the last."""
    held: list[Part] = []
    n = 0
    for part in parts:
        place, length = 0, len(part["x"])
        while place < length:
            taken = min(size - n, length - place)
            held.append({name: array[place : place + taken] for name, array in part.items()})
            n, place = n + taken, place + taken
            if n == size:
                yield joined(held)
                held, n = [], 0
    if n:
        yield joined(held)


def joined(parts: list[Part]) -> Part:
    """One after the other."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def filled_up(part: Part, size: int) -> Part:
    """Repetitions of its last row bring it to that size."""
    short = size - len(part["x"])
    if not short:
        return part
    return {name: np.concatenate([array, np.repeat(array[-1:], short, axis=0)]) for name, array in part.items()}
