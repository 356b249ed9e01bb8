"""Many data sets as one array of rows, and what keeps some of them from being fitted. All of it in numpy."""

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxgmm.ground import checks, containers, digits, frames
from jaxgmm.ground.rows import Evidence
from jaxgmm.ground.schema import Schema, schema_of


@dataclasses.dataclass(frozen=True, eq=False)
class Sets:
    """Data sets of as many columns each, in an order of their own.

    Fields: `x` (N, d) and `weights` (N,), the rows of one after the other; `lengths` (b,), how many rows are whose;
    `numbers` (b,), which of all data sets these are; `beside`, what else is known of the rows, (N, ...) by the names
    of the fields of `Evidence`; `classes`, as there.
    """

    x: np.ndarray
    weights: np.ndarray
    lengths: np.ndarray
    numbers: np.ndarray
    beside: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    classes: tuple[int, ...] | None = None

    @property
    def first(self) -> np.ndarray:
        """Where the rows of each begin, (b,)."""
        return np.cumsum(self.lengths) - self.lengths

    @property
    def together(self) -> Evidence:
        """The rows of all as they are."""
        return Evidence(self.x, self.weights, seen=self.beside.get("seen"))  # type: ignore[arg-type]

    @property
    def owner(self) -> np.ndarray:
        """Which place of these each row belongs to, (N,)."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    def rows(self, place: int) -> slice:
        """Where the rows of one are."""
        start = int(self.first[place])
        return slice(start, start + int(self.lengths[place]))

    def in_room(self, array: np.ndarray, places: np.ndarray, room: int) -> np.ndarray:
        """What an array (N, ...) has of the rows of some sets, (c, room, ...), filled up by zeros."""
        inside = np.arange(room) < self.lengths[places, None]
        whole = np.zeros((*inside.shape, *array.shape[1:]), array.dtype)
        whole[inside] = array[self.rows_of(places)]
        return whole

    def from_room(self, array: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Back from what `in_room` made, (c, room, ...): the rows of these sets, one after the other."""
        return array[np.arange(array.shape[1]) < self.lengths[places, None]]

    def rows_of(self, places: np.ndarray) -> np.ndarray:
        """The rows of these sets, one set after the other."""
        lengths = self.lengths[places]
        return np.repeat(self.first[places] - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())

    def extremes(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Least and largest numbers of each column (c, d) in the rows of positive weight, of sets that have such."""
        rows = self.rows_of(places)
        there = self.weights[rows] > 0
        owner = np.repeat(np.arange(len(places)), self.lengths[places])[there]
        first = np.searchsorted(owner, np.arange(len(places)))
        x = self.x[rows][there]
        return np.minimum.reduceat(x, first, axis=0), np.maximum.reduceat(x, first, axis=0)

    def of(self, places: np.ndarray, columns: np.ndarray) -> "Sets":
        """Some of the sets, with some of their columns, as many for each: places (c, e), ascending."""
        if columns.shape[1] == self.x.shape[1] and np.array_equal(places, np.arange(len(self.lengths))):
            return self
        taken, lengths = self.rows_of(places), self.lengths[places]
        each = np.repeat(columns, lengths, axis=0)
        x = np.take_along_axis(self.x[taken], each, axis=1)
        beside = {name: array[taken] for name, array in self.beside.items()}
        for name in beside.keys() & {"seen", "noise"}:
            wide = beside[name].ndim > 2
            beside[name] = np.take_along_axis(beside[name], each[:, :, None] if wide else each, axis=1)
            if wide:
                beside[name] = np.take_along_axis(beside[name], each[:, None], axis=2)
        return Sets(x, self.weights[taken], lengths, self.numbers[places], beside, self.classes)

    def evidence(self, places: np.ndarray, room: int) -> Evidence:
        """What is known of the rows of some sets, (c, room, ...), filled up by rows that are absent."""
        beside: Any = {name: self.in_room(array, places, room) for name, array in self.beside.items()}
        own: Any = [self.in_room(array, places, room) for array in (self.x, self.weights)]
        return Evidence(own[0], own[1], **beside, classes=self.classes)


@dataclasses.dataclass(frozen=True, eq=False)
class Given:
    """What was given.

    Fields: `sets`, one `Sets` for each number of columns; `names`, what all the data sets are called, numbers from 0
    where they have none; `faults`, by number, why a data set cannot be fitted; its rows have weight 0; `schema`, of the
    columns, where they have names; `order`, which row of a grouped frame each of the rows is, those of the first data
    set first, None where there was no frame.
    """

    sets: tuple[Sets, ...]
    names: tuple[Any, ...]
    faults: dict[int, str]
    schema: Schema | None = None
    order: np.ndarray | None = None

    @property
    def widths(self) -> np.ndarray:
        """How many columns each of all the data sets has, (b,)."""
        widths = np.zeros(len(self.names), int)
        for part in self.sets:
            widths[part.numbers] = part.x.shape[1]
        return widths


def read(
    xs: Any, weights: Any = None, by: Any = None, verb: str = "fit_many", only: Sequence[str] | None = None
) -> Given:
    """The data sets in an array (b, n, d), a sequence of arrays (n_i, d) or a mapping to such, or in a grouped frame.

    A data set that holds NaN or inf in a row of positive weight, that has no rows or no weight is left without weight,
    and has its entry among the faults. Rows of weight 0 may hold anything. Of a grouped frame `only` these columns, if
    so.

    Raises:
        TypeError, ValueError: what is no data set, and numbers whose digits the dtype does not hold, naming which.
    """
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((xs, weights))):
        instead = "select_components" if verb == "select_many" else "fit_restarts"
        raise TypeError(
            f"xs is traced by jit, vmap or grad, and {verb} looks at values. Use jax.vmap of jaxgmm.{instead} in there."
        )
    if by is not None:
        return _grouped(xs, weights, by, only)
    names: tuple[Any, ...] | None = None
    if isinstance(xs, Mapping):
        names, xs = tuple(xs), list(xs.values())
        if isinstance(weights, Mapping):
            if lacking := [name for name in names if name not in weights]:
                raise ValueError(f"weights has no entry {lacking[0]!r}; expected one for each data set of xs.")
            weights = [weights[name] for name in names]
    if isinstance(xs, Evidence):
        if xs.x.ndim != 3:
            raise ValueError(
                f"xs is what jaxgmm.rows made of rows of shape {xs.x.shape}; expected a sequence of such, or a stack "
                "of them as jax.vmap gives, (b, n, d)."
            )
        stack = jax.tree.map(np.asarray, xs)
        xs = [jax.tree.map(lambda leaf, place=place: leaf[place], stack) for place in range(len(xs.x))]
    if isinstance(xs, (list, tuple)) and any(isinstance(x, Evidence) for x in xs):
        if weights is not None:
            raise TypeError("weights stand beside xs, some of which are rows made by jaxgmm.rows: give weights there.")
        records = [x if isinstance(x, Evidence) else _alone(place, x) for place, x in enumerate(xs)]
        arrays = [_plain("xs", one.x) for one in records]
        own = [None if one.weights is None else np.asarray(one.weights) for one in records]
        found = _given(arrays, own, names or tuple(range(len(arrays))), None, _beside(records))
        sets = tuple(dataclasses.replace(part, classes=_classes(records)) for part in found.sets)
        return dataclasses.replace(found, sets=sets)
    if not hasattr(xs, "__len__") or len(xs) == 0:
        raise ValueError("xs holds no data sets; expected an array (b, n, d) or a sequence of arrays (n_i, d).")
    if frames.columns_of(xs) is not None:
        raise ValueError(
            "xs is a frame; expected a sequence of them or, where there is an argument by, the name of the column that "
            "says which rows belong together, such as by='gene'."
        )
    if weights is not None and len(weights) != len(xs):
        raise ValueError(f"weights has {len(weights)} entries for {len(xs)} data sets; expected one for each.")
    if hasattr(xs, "ndim"):
        whole = _plain("xs", xs)
        if whole.ndim != 3 or whole.shape[2] < 1:
            raise ValueError(f"xs has shape {whole.shape}; expected (b, n, d), or a sequence of arrays (n_i, d).")
        arrays, schema = list(whole), None
    else:
        arrays = [_table(place, x) for place, x in enumerate(xs)]
        schema = _schema(xs)
    shares = [None] * len(arrays) if weights is None else [_plain("weights", share) for share in weights]
    return _given(arrays, shares, names or tuple(range(len(arrays))), schema)


def _grouped(frame: Any, weights: Any, by: Any, only: Sequence[str] | None) -> Given:
    columns = frames.columns_of(frame)
    if columns is None:
        raise TypeError(f"by is given, and xs is of type {type(frame).__name__}; expected a frame with that column.")
    labels = [name for name, _ in columns]
    if twice := [name for name in labels if labels.count(name) > 1]:
        raise ValueError(f"xs has several columns {twice[0]!r}; expected one. Drop or rename the others.")
    table, keys = dict(columns), [by] if isinstance(by, str) or not isinstance(by, Sequence) else list(by)
    beside = [*keys, weights] if isinstance(weights, str) else keys
    for name in (*beside, *(only or ())):
        if name not in table:
            raise ValueError(f"xs has no column {name!r}; it has {', '.join(map(repr, list(table)[:10]))}.")
    groups = [_entries(table[name]) for name in keys]
    codes: dict[Any, int] = {}
    found = np.fromiter(
        (
            -1 if any(map(_missing, one)) else codes.setdefault(one[0] if len(one) == 1 else one, len(codes))
            for one in zip(*groups, strict=True)
        ),
        int,
    )
    if not codes:
        raise ValueError(f"xs has no entry in the column {by!r}; expected the data set of each row.")
    order = np.argsort(found, kind="stable")[np.sum(found < 0) :]
    lengths = np.bincount(found[order])
    wanted = [name for name in table if name not in beside] if only is None else list(only)
    named = [(name, table[name]) for name in wanted]
    if not named:
        raise ValueError(f"xs has no column beside {', '.join(map(repr, beside))}; expected such with numbers.")
    x = np.column_stack([frames.numbers("xs", name, column) for name, column in named])
    share = None
    if weights is not None:
        share = (
            frames.numbers("xs", weights, table[weights]) if isinstance(weights, str) else _plain("weights", weights)
        )
        if share.shape != x.shape[:1]:
            raise ValueError(f"weights has shape {share.shape}; expected one weight per row of xs, ({len(x)},).")
    cuts = np.cumsum(lengths)[:-1]
    shares = [None] * len(codes) if share is None else np.split(share[order], cuts)
    names = [name for name, _ in named]
    schema = Schema(names) if all(isinstance(name, str) for name in names) else None
    return dataclasses.replace(_given(np.split(x[order], cuts), shares, tuple(codes), schema), order=order)


def _alone(place: int, x: Any) -> Evidence:
    """Rows of which nothing else is known."""
    values: Any = _table(place, x)
    weights: Any = None
    return Evidence(values, weights)


def _classes(records: Sequence[Evidence]) -> tuple[int, ...] | None:
    """The classes of components that all data sets with labels have."""
    found = {one.classes for one in records if one.labels is not None}
    if len(found) > 1:
        raise ValueError(f"label_of_component is {found} in data sets of xs; expected the same in all of them.")
    return next(iter(found), None)


def _beside(records: Sequence[Evidence]) -> list[dict[str, np.ndarray]]:
    """What is known of the rows of each besides values and weights: of all of them what is known of some."""
    n_components = {one.log_evidence.shape[1] for one in records if one.log_evidence is not None}
    if len(n_components) > 1:
        raise ValueError(
            f"log_evidence has {sorted(n_components)} columns in data sets of xs; expected as many in all of them."
        )
    wide = any(one.noise is not None and one.noise.ndim == 3 for one in records)

    def noise(one: Evidence) -> np.ndarray:
        n, d = one.x.shape
        if one.noise is None:
            return np.zeros((n, d, d) if wide else (n, d), one.x.dtype)
        array = np.asarray(one.noise)
        return array[:, :, None] * np.eye(d, dtype=array.dtype) if wide and array.ndim == 2 else array

    def log_evidence(one: Evidence) -> np.ndarray:
        given = one.log_evidence
        return np.zeros((len(one.x), *n_components), one.x.dtype) if given is None else np.asarray(given)

    ways = {
        "labels": lambda one: np.full(len(one.x), -1, np.int32) if one.labels is None else np.asarray(one.labels),
        "seen": lambda one: np.ones(one.x.shape, bool) if one.seen is None else np.asarray(one.seen),
        "noise": noise,
        "log_evidence": log_evidence,
    }
    some = [name for name in ways if any(getattr(one, name) is not None for one in records)]
    return [{name: ways[name](one) for name in some} for one in records]


def _given(
    arrays: Sequence[np.ndarray],
    shares: Sequence[np.ndarray | None],
    names: tuple[Any, ...],
    schema: Schema | None,
    beside: Sequence[dict[str, np.ndarray]] = (),
) -> Given:
    for place, (x, share) in enumerate(zip(arrays, shares, strict=True)):
        if share is not None and share.shape != x.shape[:1]:
            raise ValueError(
                f"data set {place}: weights has shape {share.shape}; expected one weight per row of x, ({len(x)},)."
            )
    sets: list[Sets] = []
    faults: dict[int, str] = {}
    widths = np.array([x.shape[1] for x in arrays])
    for width in np.unique(widths).tolist():
        mine = np.flatnonzero(widths == width).tolist()
        numbers = np.array(mine)
        rows = np.concatenate([arrays[place] for place in mine])
        lengths = np.array([len(arrays[place]) for place in mine])
        dtype = checks.float_of(rows.dtype)
        given = [np.ones(len(arrays[place]), dtype) if (share := shares[place]) is None else share for place in mine]
        others = {}
        for name in beside[mine[0]] if beside else ():
            array = np.concatenate([known[name] for place, known in enumerate(beside) if widths[place] == width])
            others[name] = array.astype(dtype) if array.dtype.kind == "f" else array
        one = Sets(rows, _weights(given, numbers, dtype), lengths, numbers, others)
        one, found = _sound(one, dtype)
        sets.append(one)
        faults |= found
    return Given(tuple(sets), names, dict(sorted(faults.items())), schema)


def _weights(shares: Sequence[Any], numbers: np.ndarray, dtype: Any) -> np.ndarray:
    weights = np.concatenate(shares)
    if weights.dtype.kind not in "biuf":
        raise TypeError(f"weights has dtype {weights.dtype}; expected real numbers.")
    info = np.finfo(dtype)
    wrong = ~((weights == 0) | ((weights >= info.tiny) & (weights <= info.max)))
    if wrong.any():
        row, ends = int(np.argmax(wrong)), np.cumsum([len(share) for share in shares])
        place = int(np.searchsorted(ends, row, side="right"))
        raise ValueError(
            f"data set {numbers[place]}: weights holds {weights[row]:g} at {row - ends[place] + len(shares[place])}; "
            f"expected numbers not below 0, which {np.dtype(dtype)} can hold."
        )
    return weights.astype(dtype)


def _sound(sets: Sets, dtype: Any) -> tuple[Sets, dict[int, str]]:
    """The sets in `dtype`, without weight where something is wrong, and what that is by number."""
    n, owner = len(sets.lengths), sets.owner
    absent = sets.weights == 0
    bad = ~np.isfinite(sets.x).all(axis=1) & ~absent
    n_bad = np.bincount(owner[bad], minlength=n)
    totals = np.bincount(owner, sets.weights, minlength=n)
    told = np.bincount(owner, np.where(_told(sets), sets.weights, 0), minlength=n)
    if (totals > np.finfo(dtype).max).any():
        place = sets.numbers[int(np.argmax(totals))]
        raise ValueError(f"data set {place}: weights add up to more than {np.dtype(dtype)} can hold.")
    faults: dict[int, str] = {}
    for place in np.flatnonzero((n_bad > 0) | (told == 0)).tolist():
        if sets.lengths[place] == 0:
            text = "has no rows"
        elif n_bad[place]:
            text = f"is NaN or infinite in {n_bad[place]} of {sets.lengths[place]} rows"
        elif totals[place] > 0:
            text = "has no entry that is seen"
        else:
            text = "has no row of positive weight"
        faults[int(sets.numbers[place])] = text
    wrong = np.isin(sets.numbers, list(faults))
    weights = np.where(wrong[owner], 0, sets.weights)
    x = sets.x
    if digits.holds_more(x.dtype, dtype):
        _check_digits(dataclasses.replace(sets, weights=weights), dtype)
        with np.errstate(over="ignore"):
            x = x.astype(dtype)
    return dataclasses.replace(sets, x=x.astype(dtype, copy=False), weights=weights), faults


def _told(sets: Sets) -> np.ndarray:
    """Of which rows something is seen, or the component known, (N,)."""
    if "seen" not in sets.beside:
        return np.ones(len(sets.x), bool)
    told = sets.beside["seen"].any(axis=1)
    return np.asarray(told | (sets.beside["labels"] >= 0) if "labels" in sets.beside else told)


def _check_digits(sets: Sets, dtype: Any) -> None:
    seen = np.flatnonzero(sets.weights > 0)
    if not seen.size:
        return
    lengths = np.bincount(sets.owner[seen], minlength=len(sets.lengths))
    there = lengths > 0
    rows, first = sets.x[seen], (np.cumsum(lengths) - lengths)[there]
    if digits.all_kept_in_sets(rows, first, dtype):
        return
    for start, n, number in zip(first, lengths[there], sets.numbers[there], strict=True):
        try:
            digits.narrowed("x", rows[start : start + n], dtype)
        except ValueError as error:
            raise ValueError(f"data set {number}: {error}") from None


def _table(place: int, value: Any) -> np.ndarray:
    array = _plain(f"xs[{place}]", value)
    if array.ndim != 2 or array.shape[1] < 1:
        advice = " Use x[:, None] for a single column." if array.ndim == 1 else ""
        raise ValueError(f"data set {place}: x has shape {array.shape}; expected (n, d), rows of d numbers.{advice}")
    return array


def _plain(name: str, value: Any) -> np.ndarray:
    return np.asarray(value) if isinstance(value, jax.Array) else containers.plain(name, value)


def _schema(xs: Sequence[Any]) -> Schema | None:
    """That of frames whose columns have the same names in the same order; others are refused."""
    names = [frames.names_of(x) for x in xs]
    for place, found in enumerate(names):
        if found != names[0]:
            raise ValueError(
                f"data set {place} has the columns {list(found)} and data set 0 {list(names[0])}; expected the same in "
                "the same order. Write [schema.rows(x) for x in xs] in the place of xs, with schema = "
                "jaxgmm.Schema.of(xs[0])."
            )
    return schema_of(xs[0]) if names[0] else None


def _entries(column: Any) -> list[Hashable]:
    for name in ("tolist", "to_pylist", "to_list"):
        if hasattr(column, name):
            return getattr(column, name)()
    return list(column)


def _missing(entry: Any) -> bool:
    """None, NaN and what other libraries have in their place."""
    if entry is None:
        return True
    try:
        return bool(entry != entry)
    except TypeError:  # pandas.NA
        return True
