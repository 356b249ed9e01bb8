"""Columns of other libraries as numbers: of pandas, polars and pyarrow, and the fields of numpy's structured arrays.

None of them is imported before it is needed: a column is told by what it can do. What is missing becomes NaN. A column
that holds no numbers is refused, by its name and with a conversion of it.
"""

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

_NUMBERS = "biuf"


def columns_of(value: Any) -> list[tuple[Hashable, Any]] | None:
    """Names and columns of a table; None for anything else."""
    if isinstance(value, np.ndarray) and value.dtype.names:
        return [(name, value[name]) for name in value.dtype.names]
    if hasattr(value, "column_names") and hasattr(value, "schema"):
        return list(zip(value.column_names, value.columns, strict=True))
    if hasattr(value, "get_columns") and hasattr(value, "columns"):
        return list(zip(value.columns, value.get_columns(), strict=True))
    if hasattr(value, "iloc") and hasattr(value, "columns"):
        return [(name, value.iloc[:, place]) for place, name in enumerate(value.columns)]
    return None


def names_of(value: Any) -> tuple[Hashable, ...]:
    """Names of the columns of a table; none where it is no table, or where they are but numbered from 0 in order.

    An array of xarray is one if its second axis has coordinates.
    """
    if isinstance(value, np.ndarray):
        return tuple(value.dtype.names or ())
    found = getattr(value, "column_names", None)
    if found is None and hasattr(value, "coords") and len(getattr(value, "dims", ())) == 2:
        axis = value.dims[1]
        found = np.asarray(value.coords[axis]).tolist() if axis in value.coords else ()
    if found is None and (hasattr(value, "__array__") or hasattr(value, "to_numpy")):
        found = getattr(value, "columns", None)
    names = () if found is None else tuple(found)
    return () if names == tuple(range(len(names))) else names


def is_column(value: Any) -> bool:
    """Whether this is a column, such as a Series, and not merely an array with one axis."""
    return any(applies(value) for applies, _, _ in _KINDS) and not isinstance(value, np.ndarray)


def numbers(name: str, label: Hashable | None, column: Any) -> np.ndarray:
    """The numbers (n,) that a column of `name` holds, NaN where they are missing; `label` is what it is called there.

    Raises:
        TypeError: it holds something else; naming the column, and what to write in its place.
    """
    for applies, read, advice in _KINDS:
        if applies(column):
            found = read(column)
            if found is not None:
                return found
            where, code = (name, name) if label is None else (f"column {label!r} of {name}", f"{name}[{label!r}]")
            what = getattr(column, "dtype", getattr(column, "type", None))
            raise TypeError(
                f"{where} has dtype {what}; expected real numbers. {advice(name, label, code, column)}".rstrip()
            )
    raise TypeError(f"{name} is of type {type(column).__name__}; expected real numbers.")


def filled(array: np.ndarray) -> np.ndarray:
    """Numbers of a masked array as a plain one, NaN where they are masked."""
    mask = np.ma.getmaskarray(array)
    values = np.asarray(np.ma.getdata(array))
    if not mask.any():
        return values
    return np.where(mask, np.nan, values.astype(values.dtype if values.dtype.kind == "f" else np.float64))


def _from_numpy(column: Any) -> np.ndarray | None:
    return filled(column) if column.dtype.kind in _NUMBERS and column.ndim == 1 else None


def _from_pandas(column: Any) -> np.ndarray | None:
    dtype = column.dtype
    kind = getattr(dtype, "kind", "O")
    if kind not in _NUMBERS:
        return _of_truths(column) if kind == "O" else None
    if isinstance(dtype, np.dtype) or hasattr(dtype, "subtype"):  # the latter are sparse
        return np.asarray(column)
    if column.isna().any():
        size = dtype.itemsize if kind == "f" else 8
        return column.to_numpy(np.dtype(f"f{size}"), na_value=np.nan)
    return column.to_numpy(np.dtype(bool if kind == "b" else f"{kind}{dtype.itemsize}"))


def _of_truths(column: Any) -> np.ndarray | None:
    """Truths of which some are missing, which make a column one of any objects."""
    known = column[column.notna()]
    if not len(known) or any(type(one) is not bool for one in known):
        return None
    return column.astype(object).where(column.notna(), np.nan).to_numpy(np.float64)


def whole(column: Any) -> bool:
    """Whether a column is one of whole numbers, by its type."""
    kind: Any = getattr(column, "dtype", None)
    if hasattr(kind, "is_integer"):
        return bool(kind.is_integer())
    if kind is None:
        return str(getattr(column, "type", "")).startswith(("int", "uint"))
    return getattr(kind, "kind", "O") in "iu"


def _from_polars(column: Any) -> np.ndarray | None:
    kind = str(column.dtype)
    if not (column.dtype.is_numeric() or kind in ("Boolean", "Null")):
        return None
    plain = not column.null_count() and (column.dtype.is_integer() or column.dtype.is_float())
    found = column.to_numpy() if plain else column.cast(float).to_numpy()
    return found if found.dtype.kind in _NUMBERS else column.cast(float).to_numpy()


def _from_arrow(column: Any) -> np.ndarray | None:
    kind = str(column.type)
    if not kind.startswith(("int", "uint", "float", "double", "halffloat", "decimal", "bool", "null")):
        return None
    if column.null_count or not kind.startswith(("int", "uint", "float", "double", "halffloat")):
        column = column.cast("float64")
    return np.asarray(column)


def _advice_of_numpy(name: str, label: Hashable | None, code: str, column: Any) -> str:
    return f"Leave it out: choose the fields of numbers, as in {name}[['a', 'b']]."


def _advice_of_pandas(name: str, label: Hashable | None, code: str, column: Any) -> str:
    import pandas

    dtype, values = column.dtype, pandas.Series(column)
    kind, called = getattr(dtype, "kind", "O"), type(dtype).__name__
    numeric = pandas.to_numeric(values.astype(object), errors="coerce")
    known = values[values.notna()]
    if hasattr(dtype, "categories"):
        numeric_categories = pandas.api.types.is_numeric_dtype(dtype.categories.dtype)
        instead = f"{code}.astype(float)" if numeric_categories else None
    elif kind == "M" or (len(known) and hasattr(known.iloc[0], "year") and called != "PeriodDtype"):
        zone = ", tz='UTC'" if getattr(getattr(dtype, "pyarrow_dtype", dtype), "tz", None) else ""
        moments = code if kind == "M" else f"pandas.to_datetime({code})"
        instead = f"({moments} - pandas.Timestamp('2000-01-01'{zone})) / pandas.Timedelta('1D')"
    elif called == "PeriodDtype":
        instead = f"({code}.dt.to_timestamp() - pandas.Timestamp('2000-01-01')) / pandas.Timedelta('1D')"
    elif kind == "m":
        instead = f"{code} / pandas.Timedelta('1s')"
    elif kind == "c":
        instead = f"{code}.to_numpy().real"
    elif called == "IntervalDtype":
        instead = f"pandas.arrays.IntervalArray({code}).mid"
    elif len(known) and numeric[values.notna()].notna().all():
        instead = f"pandas.to_numeric({code}, errors='coerce')"
    else:
        instead = None
    if label is None:
        return f"Use {instead or f'pandas.get_dummies({name}, dtype=float, drop_first=True)'} in its place."
    if instead:
        return f"Use {instead} in its place, or {name}.drop(columns={label!r})."
    whole = f"pandas.get_dummies({name}, columns=[{label!r}], dtype=float, drop_first=True)"
    return f"{_of_names(name)} Use {whole}, or {name}.drop(columns={label!r})."


def _advice_of_polars(name: str, label: Hashable | None, code: str, column: Any) -> str:
    kind = str(column.dtype)
    instead = None
    if kind.startswith("Date"):
        instead = f"{code}.dt.timestamp('ms') / 86_400_000"
    elif kind.startswith("Duration"):
        instead = f"{code}.dt.total_milliseconds() / 1000"
    elif kind.startswith("Time"):
        instead = f"{code}.cast(int) / 1e9"
    elif kind.startswith(("String", "Categorical", "Enum")):
        if column.cast(str).cast(float, strict=False).null_count() == column.null_count():
            instead = f"{code}.cast(str).cast(float)"
        else:
            whole = f"{name}.to_dummies()" if label is None else f"{name}.to_dummies([{label!r}], drop_first=True)"
            return f"Use {whole}." if label is None else f"{_of_names(name)} Use {whole}, or {name}.drop({label!r})."
    if label is None:
        return f"Use {instead} in its place." if instead else ""
    return (
        (f"Use {instead} in its place, or {name}.drop({label!r})") + "." if instead else f"Use {name}.drop({label!r})."
    )


def _advice_of_arrow(name: str, label: Hashable | None, code: str, column: Any) -> str:
    if label is None:
        return f"Use {name}.to_pandas(), which can be converted."
    names = f"{_of_names(name)} " if str(column.type).startswith(("string", "large_string", "dictionary")) else ""
    return f"{names}Use {name}.to_pandas(), where it can be converted, or {name}.drop_columns([{label!r}])."


def _of_names(name: str) -> str:
    return (
        f"If these are names, jaxgmm.Schema.of({name}).rows({name}) has codes of them, which components of names take: "
        f"jaxgmm.table_form({name}). Else they may be made numbers."
    )


_Kind = tuple[
    Callable[[Any], bool], Callable[[Any], np.ndarray | None], Callable[[str, Hashable | None, str, Any], str]
]
# What tells a column of each library, how to read it, and what to say of one that holds no numbers.
_KINDS: list[_Kind] = [
    (lambda column: isinstance(column, np.ndarray), _from_numpy, _advice_of_numpy),
    (lambda column: hasattr(column, "null_count") and hasattr(column, "to_frame"), _from_polars, _advice_of_polars),
    (lambda column: hasattr(column, "null_count") and hasattr(column, "type"), _from_arrow, _advice_of_arrow),
    (lambda column: hasattr(column, "isna") and hasattr(column, "dtype"), _from_pandas, _advice_of_pandas),
]
