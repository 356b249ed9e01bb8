"""Digits: whether numbers in a type of fewer digits still say what they said, and an error where they do not."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

# Rounding is not seen where the numbers of a type lie closer together than this share of a standard deviation.
SHARE = 1e-3
# What varies by no more than so many of its own roundings is constant.
_CONSTANT = 64
# Rows that are looked at together, so that what is computed of them stays in the cache; and that are read as one.
_BLOCK, _FOLD = 2**12, 64


class Extent(NamedTuple):
    """Where columns lie and how far they reach, (d,) each."""

    mean: np.ndarray
    deviation: np.ndarray


def narrowed(
    name: str,
    array: np.ndarray,
    dtype: Any,
    present: np.ndarray | None = None,
    extent: Extent | None = None,
    labels: tuple[Any, ...] = (),
) -> np.ndarray:
    """Columns (n, d) in floating point of type `dtype`, where what is rounded away does not matter.

    It matters where an entry moves by more than a two-thousandth of the larger of two lengths: the standard deviation
    of its column, and its own distance from the mean. They are those of the rows that are `present`, or of `extent`,
    which a mixture has. A column that is constant in the type it came in loses nothing.

    Raises:
        ValueError: it matters; with the first such column, called by `labels`, and what to do.
    """
    with np.errstate(over="ignore"):
        rounded = array.astype(dtype, copy=False)
    if not holds_more(array.dtype, dtype):
        return rounded
    rows = array if present is None or present.all() else array[present]
    if all_kept(rows, dtype, extent):
        return rounded
    rows = rows[np.isfinite(rows).all(axis=1)]
    if not len(rows):
        return rounded
    mean, deviation = extent or _extent(rows)
    for start in range(0, len(rows), _BLOCK):
        block = slice(start, start + _BLOCK)
        exact = rows[block].astype(_exact(rows.dtype))
        moved = np.abs(exact - _as_computed(rows[block], dtype))
        # As a distance from infinity is infinite, what does not fit matters in any case.
        matters = moved > SHARE / 2 * np.hypot(deviation, exact - mean[block] if mean.ndim > 1 else exact - mean)
        if extent is None:
            matters &= (deviation > 0) | np.isinf(moved)
        if matters.any():
            row, column = (int(place) for place in np.argwhere(matters)[0])
            length = float(np.broadcast_to(deviation, rows.shape)[start + row, column])
            where = f"column {labels[column] if labels else column!r}"
            raise ValueError(_message(name, array.dtype, dtype, where, float(moved[row, column]), length, extent))
    return rounded


def all_kept(rows: np.ndarray, dtype: Any, extent: Extent | None = None) -> bool:
    """Whether no entry of these rows can matter as `narrowed` has it, by a few quick looks; False is no verdict."""
    low, high = (_over_rows(of, rows) for of in (np.minimum, np.maximum))
    if extent is not None:
        return _are_close(low, high, extent.deviation, dtype)
    if not np.all(np.isfinite(low) & np.isfinite(high)):
        return False
    if _are_close(low, high, _least(low, high, len(rows)), dtype):
        return True
    return _are_close(low, high, np.where(low == high, np.inf, _extent(rows).deviation), dtype)


def all_kept_in_sets(rows: np.ndarray, first: np.ndarray, dtype: Any) -> bool:
    """The same of many sets of rows, each beginning at its place in `first`; NaN stands for an absent row."""
    low, high = (of.reduceat(rows, first, axis=0) for of in (np.fmin, np.fmax))
    lengths = np.diff(np.append(first, len(rows)))
    return _are_close(low, high, _least(low, high, lengths[:, None]), dtype)


def _least(low: np.ndarray, high: np.ndarray, n: Any) -> np.ndarray:
    """No standard deviation of n numbers in this range is smaller; infinite for a constant, which loses nothing."""
    reach = high.astype(_exact(high.dtype)) - low
    return np.where(reach == 0, np.inf, reach / np.sqrt(2 * n))


def _are_close(low: np.ndarray, high: np.ndarray, deviation: np.ndarray, dtype: Any) -> bool:
    """Whether all that lies in this range is moved by too little to matter beside such a standard deviation."""
    exact = _exact(low.dtype)
    largest = np.maximum(np.abs(low.astype(exact)), np.abs(high.astype(exact)))
    info = jnp.finfo(dtype)
    # JAX computes with 0 for what lies below the smallest normal number.
    moved = largest * (float(info.eps) / 2) + float(info.tiny)
    return bool(np.all((largest <= float(info.max)) & (moved <= SHARE / 2 * deviation)))


def holds_more(dtype: Any, other: Any) -> bool:
    """Whether numbers of type `dtype` may have digits that the floating point type `other` has not."""
    digits = jnp.finfo(other).nmant
    if jnp.issubdtype(dtype, jnp.integer):
        return bool(jnp.iinfo(dtype).bits > digits + 1)
    return dtype != np.dtype(bool) and (np.finfo(dtype) if dtype == np.longdouble else jnp.finfo(dtype)).nmant > digits


def faint(mean: np.ndarray, deviation: np.ndarray, dtype: Any) -> np.ndarray:
    """Where means and standard deviations of components, of one shape, are not told apart well enough in `dtype`."""
    return (mean != 0) & (np.abs(mean) * float(jnp.finfo(dtype).eps) >= SHARE * deviation)


def _exact(dtype: np.dtype) -> Any:
    """A type that holds numbers of type `dtype` as they are; integers of 64 bits have more digits than float64."""
    return np.longdouble if dtype.kind in "iu" or dtype.itemsize > 8 else np.float64


def _as_computed(rows: np.ndarray, dtype: Any) -> np.ndarray:
    with np.errstate(over="ignore"):
        rounded = rows.astype(dtype)
    return np.where(np.abs(rounded) < jnp.finfo(dtype).tiny, 0, rounded)


def _over_rows(of: np.ufunc, rows: np.ndarray) -> np.ndarray:
    """A reduction over the rows; wide rows made of several are faster."""
    n, d = rows.shape
    whole = n - n % _FOLD
    if whole < 2 * _FOLD or not rows.flags.c_contiguous:
        return of.reduce(rows, axis=0)
    parts = of.reduce(rows[:whole].reshape(-1, _FOLD * d), axis=0).reshape(_FOLD, d)
    return of.reduce(np.concatenate([parts, rows[whole:]]), axis=0)


def _extent(rows: np.ndarray) -> Extent:
    """Their own mean and standard deviation; 0 is the latter for what is constant but for rounding."""
    exact = _exact(rows.dtype)
    low, high = (_over_rows(of, rows).astype(exact) for of in (np.minimum, np.maximum))
    reach = high - low
    # In units of the range, so that no square underflows.
    unit = np.where(reach > 0, reach, 1)
    total = squares = np.zeros(rows.shape[1], exact)
    for start in range(0, len(rows), _BLOCK):
        away = (rows[start : start + _BLOCK] - low) / unit
        total, squares = total + away.sum(axis=0), squares + np.square(away).sum(axis=0)
    mean = total / len(rows)
    deviation = unit * np.sqrt(np.maximum(squares / len(rows) - mean**2, 0))
    rounding = 0 if rows.dtype.kind in "iu" else np.finfo(rows.dtype).eps
    varies = reach > _CONSTANT * rounding * np.maximum(np.abs(low), np.abs(high))
    return Extent(low + unit * mean, np.where(varies, deviation, 0))


def _message(
    name: str, given: Any, dtype: Any, column: str, moved: float, deviation: float, extent: Extent | None
) -> str:
    found = f"{name} holds numbers of type {given} in {column} that {np.dtype(dtype)}"
    narrow = np.dtype(dtype) != np.float64
    first = "turn on JAX's 64-bit mode first, jax.config.update('jax_enable_x64', True), or " if narrow else ""
    if np.isinf(moved):
        return f"{found} cannot hold: {first}take them in a larger unit."
    if moved < jnp.finfo(dtype).tiny:
        return f"{found} takes for 0, and it spreads by {deviation:.3g}: {first}take them in a smaller unit."
    whose = "its standard deviation" if extent is None else "the mixture's standard deviation there"
    how = f"such as {name} - {name}.min(axis=0)" if extent is None else "the same as from the rows it was fitted to"
    return f"{found} rounds by {moved:.3g}, and {whose} is {deviation:.3g}: {first}subtract an offset, {how}."
