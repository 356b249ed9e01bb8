"""Names in columns of other libraries: their levels, and the codes that stand for them.

Categories, dictionaries and texts hold names. Those that are declared keep their order, and texts are sorted. Texts
that are mostly numbers or dates are no names unless somebody says so: hundreds of levels would be fitted without a
word.
"""

import difflib
import re
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxgmm.ground import frames

Level = str | int | float | bool

DATE = re.compile(r"\s*(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4})([ T]\s*\d{1,2}:\d{2}.*)?\s*")
_SHOWN = 8


class Distinct(NamedTuple):
    """Different entries of a column.

    Fields: `codes` (n,), the place of each row's entry among the `values`, negative where it is missing; `declared`,
    whether the type of the column says that they are names, in this order.
    """

    codes: np.ndarray
    values: list[Any]
    declared: bool = False


def levels_of(name: str, label: Hashable, column: Any, *, whatever: bool = False) -> tuple[Level, ...] | None:
    """Levels of a column of names, in the order of their codes; None of a column of numbers.

    With `whatever`, what is there are names, also numbers.

    Raises:
        TypeError, ValueError: it holds neither, or texts that may be meant as numbers or dates; with what to write.
    """
    found = _distinct(column) if whatever or _may_hold_names(column) else None
    if found is not None and found.declared:
        return tuple(map(_plain, found.values))
    texts = found is not None and all(isinstance(value, str) for value in found.values)
    if found is not None and not (texts or whatever):
        _check_mixed(name, label, column, found.values)
    if found is None or not (texts or whatever):
        frames.numbers(name, label, column)
        return None
    if not found.values:
        raise ValueError(f"column {label!r} of {name} has no entries, of which levels could be told; leave it out.")
    if not whatever:
        _check_names(name, label, column, found.values)
    return tuple(sorted(map(_plain, found.values), key=_order))


def codes_of(
    name: str, label: Hashable, column: Any, levels: Sequence[Level], *, unknown_is_missing: bool = False
) -> np.ndarray:
    """Codes (n,) of a column's entries as floating point numbers, NaN where they are missing.

    Raises:
        TypeError, ValueError: the column can have no names, or an entry is no level and not to be taken for missing.
    """
    found = _distinct(column)
    if found is None:
        raise TypeError(f"column {label!r} of {name} has dtype {_type_of(column)}; expected some of {shown(levels)}.")
    place = {level: code for code, level in enumerate(levels)}
    values = [_plain(value) for value in found.values]
    own = np.array([*(place.get(value, -1) for value in values), -1])
    codes = own[np.where(found.codes < 0, len(values), found.codes)]
    unknown = (codes < 0) & (found.codes >= 0)
    if unknown.any() and not unknown_is_missing:
        row = int(np.argmax(unknown))
        value = values[found.codes[row]]
        several = len(set(found.codes[unknown].tolist())) > 1
        raise ValueError(
            f"{name} holds {value!r} in row {row} of column {label!r}"
            + (", and others elsewhere" if several else "")
            + f", which {'are' if several else 'is'} no level of it; expected {shown(levels)}.{guess(value, levels)} "
            "Correct what is there, or take it for an entry that is not known, with unknown='missing'."
        )
    # Numbers of single precision beside it stay what they are.
    small = np.float32 if len(levels) < 2**24 else np.float64
    return np.where(codes < 0, np.nan, codes).astype(small)


def shown(levels: Sequence[Level]) -> str:
    """Some levels, for messages."""
    return ", ".join(map(repr, levels[:_SHOWN])) + (f" and {len(levels) - _SHOWN} more" * (len(levels) > _SHOWN))


def is_level(value: Any) -> bool:
    """Whether it can be a level: a text or a number, as JSON has them."""
    return isinstance(value, (str, bool, int)) or (isinstance(value, float) and value == value)


def _plain(value: Any) -> Any:
    """A level as Python has it; whole numbers as such, and of anything else, such as an interval, its text."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if is_level(value) else str(value)


def _order(level: Level) -> tuple[bool, Any]:
    return isinstance(level, str), level


def _check_mixed(name: str, label: Hashable, column: Any, values: list[Any]) -> None:
    others = [value for value in values if not isinstance(value, str)]
    if len(others) < len(values):
        text = next(value for value in values if isinstance(value, str))
        raise TypeError(
            f"column {label!r} of {name} has dtype {_type_of(column)} and holds {text!r} beside {others[0]!r} of type "
            f"{type(others[0]).__name__}. If all are names, write jaxgmm.Schema.of({name}, categorical=[{label!r}])"
            f".rows({name}); if all are meant as numbers, use {_advice(name, label, column)[0]} in its place."
        )


def _check_names(name: str, label: Hashable, column: Any, texts: list[str]) -> None:
    numbers, dates = [text for text in texts if _is_number(text)], [text for text in texts if DATE.fullmatch(text)]
    for some, what, place in ((dates, "dates", 1), (numbers, "numbers", 0)):
        if 2 * len(some) >= len(texts):
            others = [text for text in texts if text not in set(some)]
            beside = f", beside {others[0]!r}" if others else ""
            raise TypeError(
                f"column {label!r} of {name} has dtype {_type_of(column)} and holds texts that are {what}, such as "
                f"{some[0]!r}{beside}. If they are meant as {what}, use {_advice(name, label, column)[place]} in its "
                f"place; if they are names, jaxgmm.Schema.of({name}, categorical=[{label!r}]).rows({name}); or leave "
                "the column out."
            )


def _is_number(text: str) -> bool:
    try:
        return np.isfinite(float(text)) and "_" not in text
    except ValueError:
        return False


def _advice(name: str, label: Hashable, column: Any) -> tuple[str, str]:
    """Texts of a column as numbers, and as days."""
    code = f"{name}[{label!r}]"
    if isinstance(column, np.ndarray):
        days = f"({code}.astype('datetime64[s]') - numpy.datetime64('2000-01-01', 's')) / numpy.timedelta64(1, 'D')"
        return f"{code}.astype(float)", days
    if hasattr(column, "to_frame") and hasattr(column, "null_count"):
        number = f"{code}.cast(float, strict=False)"
        return number, f"{code}.str.to_datetime(time_unit='ms').dt.timestamp('ms') / 86_400_000"
    if hasattr(column, "null_count"):
        return f"{code}.cast('float64')", f"{code}.cast('date32').cast('int32')"
    days = f"(pandas.to_datetime({code}) - pandas.Timestamp('2000-01-01')) / pandas.Timedelta('1D')"
    return f"pandas.to_numeric({code}, errors='coerce')", days


def guess(value: Any, levels: Sequence[Level]) -> str:
    """What level may be meant by an entry that is none, as a sentence after a blank; nothing if none is near."""
    texts = {str(level): level for level in levels}
    if str(value) in texts:
        return f" It is of type {type(value).__name__}, and the level of {type(texts[str(value)]).__name__}."
    folded = {text.strip().casefold(): text for text in texts}
    close = difflib.get_close_matches(str(value).strip().casefold(), list(folded), 1)
    return f" Is {texts[folded[close[0]]]!r} meant?" if close else ""


def _type_of(column: Any) -> Any:
    return getattr(column, "dtype", getattr(column, "type", None))


def _may_hold_names(column: Any) -> bool:
    """Whether it is of a type of texts, categories or anything at all."""
    kind = getattr(column, "dtype", None)
    if hasattr(kind, "categories") or getattr(kind, "kind", None) in ("O", "U", "T"):
        return True
    return str(_type_of(column)).startswith(("String", "Categorical", "string", "large_string", "dictionary"))


def _distinct(column: Any) -> Distinct | None:
    """None where entries cannot be told apart, as lists cannot."""
    if isinstance(column, np.ndarray):
        return _of_numpy(column)
    if hasattr(column, "null_count") and hasattr(column, "to_frame"):
        return _of_polars(column)
    if hasattr(column, "null_count") and hasattr(column, "type"):
        return _of_arrow(column)
    return _of_pandas(column) if hasattr(column, "isna") and hasattr(column, "dtype") else None


def _of_numpy(column: np.ndarray) -> Distinct | None:
    entries, mask = np.asarray(np.ma.getdata(column)), np.ma.getmaskarray(column)
    if entries.dtype.kind == "O":
        place: dict[Any, int] = {}
        try:
            listed = [
                -1 if gap or entry is None or entry != entry else place.setdefault(entry, len(place))
                for entry, gap in zip(entries.tolist(), mask.tolist(), strict=True)
            ]
        except TypeError:
            return None
        return Distinct(np.array(listed, int), list(place))
    missing = mask | (np.isnan(entries) if entries.dtype.kind == "f" else False)
    values, found = np.unique(entries[~missing], return_inverse=True)
    codes = np.full(entries.shape, -1)
    codes[~missing] = found
    return Distinct(codes, values.tolist())


def _of_pandas(column: Any) -> Distinct | None:
    import pandas

    if hasattr(column.dtype, "categories"):
        return Distinct(column.cat.codes.to_numpy(np.int64), column.dtype.categories.tolist(), declared=True)
    try:
        codes, values = pandas.factorize(column)
    except TypeError:
        return None
    return Distinct(np.asarray(codes), values.tolist())


def _of_polars(column: Any) -> Distinct | None:
    kind = str(column.dtype)
    if column.dtype.is_nested() or kind in ("Object", "Null"):
        return None
    declared = kind.startswith(("Enum", "Categorical"))
    entries = column.cast(str) if declared else column
    values = entries.drop_nulls().unique(maintain_order=True).to_list()
    if column.dtype.is_float():
        values = [value for value in values if value == value]
    if declared:
        values = column.dtype.categories.to_list() if kind.startswith("Enum") else sorted(values)
    if not values:
        return Distinct(np.full(len(column), -1), [], declared)
    codes = entries.replace_strict(values, list(range(len(values))), default=-1).to_numpy()
    return Distinct(codes, values, declared)


def _of_arrow(column: Any) -> Distinct | None:
    kind = str(column.type)
    if kind.startswith(("list", "large_list", "struct", "map", "fixed_size_list")):
        return None
    declared, values = kind.startswith("dictionary"), None
    if declared:
        if column.type.ordered:
            values = (column.unify_dictionaries().chunk(0) if hasattr(column, "chunk") else column).dictionary
        column = column.cast(column.type.value_type)
    whole = (column.combine_chunks() if hasattr(column, "combine_chunks") else column).dictionary_encode()
    entries = whole.dictionary.to_pylist()
    there = [entry for entry in entries if entry is not None and entry == entry]
    if declared:
        there = sorted(there) if values is None else values.to_pylist()
    place = {entry: code for code, entry in enumerate(there)}
    own = np.array([*(place.get(entry, -1) for entry in entries), -1])
    return Distinct(own[whole.indices.fill_null(-1).to_numpy()], there, declared)
