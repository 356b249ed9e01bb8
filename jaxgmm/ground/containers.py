"""What containers say: numbers as a plain array, with NaN where they are masked or missing, or a refusal."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxgmm.ground import frames


def plain(name: str, value: Any) -> np.ndarray:
    """Real numbers in numpy, from a list, an array, a masked array, or a table or column of another library.

    Raises:
        TypeError: it holds something else, or says it in a way that must be undone first; with what to write instead.
    """
    if type(value) is np.ndarray and value.dtype.kind in "biuf":
        return value
    _check_not_folded(name, value)
    table = frames.columns_of(value)
    if table is not None:
        columns = [frames.numbers(name, label, column) for label, column in table]
        return np.column_stack(columns) if columns else np.empty((len(value), 0))
    if frames.is_column(value):
        return frames.numbers(name, None, value)
    try:
        masked = isinstance(value, (list, tuple)) and any(isinstance(part, np.ma.MaskedArray) for part in value)
        array = np.ma.array(value) if masked else np.asanyarray(value)
    except Exception as error:
        raise TypeError(f"{name} cannot be read as an array: {error}") from error
    if array.dtype == object and array.ndim == 0:
        raise TypeError(f"{name} is of type {type(value).__name__}; expected an array of real numbers.")
    if array.dtype.names:
        return plain(name, np.asarray(array) if not isinstance(array, np.ma.MaskedArray) else array)
    if not is_real(array.dtype):
        raise TypeError(f"{name} has dtype {array.dtype}; expected real numbers. {_advice(name, array)}".rstrip())
    return frames.filled(array) if isinstance(array, np.ma.MaskedArray) else np.asarray(array)


def is_real(dtype: np.dtype) -> bool:
    """Whether these are real numbers or truths, in types that numpy has been taught too, such as bfloat16."""
    return dtype.kind != "m" and (
        dtype == np.dtype(bool) or any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer))
    )


def _check_not_folded(name: str, value: Any) -> None:
    what = f"{name} is of type {type(value).__name__}"
    if isinstance(value, Mapping):
        raise TypeError(f"{what}; expected an array. Use numpy.column_stack(list({name}.values())).")
    if hasattr(value, "collect") and hasattr(value, "lazy"):
        raise TypeError(f"{what}, which is not computed yet; expected an array. Use {name}.collect().")
    for method in ("toarray", "todense"):
        if hasattr(value, method) and not hasattr(value, "__array__"):
            raise TypeError(f"{what}, which is sparse; expected a dense array. Use {name}.{method}().")


def _advice(name: str, array: np.ndarray) -> str:
    """What to write in the place of an array that holds no numbers."""
    kind = array.dtype.kind
    if kind == "M":
        return f"Use ({name} - numpy.datetime64('2000-01-01', 's')) / numpy.timedelta64(1, 'D')."
    if kind == "m":
        return f"Use {name} / numpy.timedelta64(1, 's')."
    if kind == "c":
        return f"Use numpy.hstack([{name}.real, {name}.imag])."
    for place, entry in np.ndenumerate(array):
        if entry is np.ma.masked:
            continue
        try:
            np.asarray(entry, dtype=float)[()]
        except (TypeError, ValueError):
            return f"The entry {list(place)} is {entry!r}: put a number in its place, or NaN."
    return f"Convert it first, for example with numpy.asarray({name}, dtype=float)."
