"""Rows filled up to a few lengths, so that data of any length share a few compiled programs."""

import numpy as np

# Powers of two waste nothing that could be noticed on so few rows; above, a step is an eighth to a quarter.
_SMALLEST, _FINER_FROM = 256, 2**16


def padded(array: np.ndarray) -> np.ndarray:
    """Rows filled up to one of a few lengths by zeros; as weights, these make the others absent."""
    n = len(array)
    size = max(_SMALLEST, 1 << (n - 1).bit_length())
    if size > _FINER_FROM:
        size = -(-n // (size // 8)) * (size // 8)
    return np.concatenate([array, np.zeros((size - n, *array.shape[1:]), array.dtype)])
