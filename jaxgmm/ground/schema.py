"""Names of columns and of what they hold, which stay on the host: a pytree cannot carry them."""

import dataclasses
import fnmatch
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, overload

import numpy as np

from jaxgmm.ground import checks, frames, known, levels
from jaxgmm.ground.levels import Level

_SHOWN = 10
_UNKNOWN = ("error", "missing")


@dataclasses.dataclass(frozen=True, init=False, repr=False)
class Schema:
    """What the columns of a mixture are called, in its order, and what their codes stand for.

    Inside a pytree, a name would compile everything again, keep `cond` from working or come out of `jit` as that of the
    first call. So a mixture has none, and its methods refuse frames. A schema is made where a frame is at hand,
    `select` keeps it and `save` writes it, and its `rows` make an array of any other frame.

    Fields: `names`, one text for each column, all different; `levels`, for each column its levels, texts or numbers in
    the order of their codes 0, 1, ..., or None where it holds numbers.

    Args:
        names: of the columns.
        levels: of those that hold names, a mapping from their names to sequences; or a sequence with a sequence or None
            for each column. Default none holds names.

    Raises:
        TypeError, ValueError: names that are no text, or none, or twice the same; or levels that are no texts or
            numbers, none, twice the same, or of no column.

    >>> import jax, jaxgmm, pandas
    >>> x = jax.random.normal(jax.random.key(0), (100, 2))
    >>> frame = pandas.DataFrame(x, columns=["width", "height"])
    >>> schema = jaxgmm.Schema.of(frame)
    >>> mixture = jaxgmm.init(jax.random.key(1), frame, 2)
    >>> other = frame[["height", "width"]]
    >>> bool((mixture.log_prob(schema.rows(other)) == mixture.log_prob(x)).all())
    True

    >>> jaxgmm.Schema.of(pandas.DataFrame({"colour": ["red", "blue", None], "age": [31, 58, 40]}))
    Schema(names=('colour', 'age'), levels=(('blue', 'red'), None))
    """

    names: tuple[str, ...]
    levels: tuple[tuple[Level, ...] | None, ...]

    def __init__(self, names: Any, levels: Any = None) -> None:
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise TypeError(f"names is {names!r}; expected texts in a sequence, such as ['width', 'height'].")
        names = tuple(str(name) if isinstance(name, str) else name for name in names)
        if wrong := [name for name in names if not isinstance(name, str)]:
            raise TypeError(
                f"names holds {wrong[0]!r} of type {type(wrong[0]).__name__}; expected texts. In a frame of pandas, "
                "write x.set_axis([str(name) for name in x.columns], axis=1) in the place of x; in an array of xarray, "
                "x.assign_coords({x.dims[1]: list(map(str, x[x.dims[1]].values))})."
            )
        if not names:
            raise ValueError("names is empty; expected one for each column.")
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"names holds {twice[0]!r} more than once; expected each column to have its own.")
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "levels", _levels(names, levels))

    def __repr__(self) -> str:
        shown = f", levels={self.levels!r}" if any(self.levels) else ""
        return f"Schema(names={self.names!r}{shown})"

    @classmethod
    def of(cls, frame: Any, categorical: Any = ()) -> "Schema":
        """The schema of a mixture that is made from this frame.

        Categories of pandas, dictionaries of pyarrow, Categorical and Enum of polars, and columns of texts hold names.
        Levels are in the order that the column declares, with those of which there is no row, and sorted where it
        declares none. Truths are numbers, 0 and 1. Texts that are mostly numbers or dates are refused, as they are
        seldom meant as names.

        Args:
            frame: of pandas, polars or pyarrow, anything with `columns` that is an array too, a structured array of
                numpy, or an array of xarray whose second axis has coordinates.
            categorical: columns whose values are levels whatever they are, such as grades from 1 to 5: names, or
                patterns such as "answer*".

        Raises:
            TypeError, ValueError: it is none, its columns have no names, which numbers from 0 in order are not either,
                or such as no schema can have; or a column holds neither numbers nor names, as dates do, with what to
                write instead; or no column is called as in `categorical`.
        """
        return _schema_of("frame", frame, categorical)

    def take(self, columns: Iterable[int]) -> "Schema":
        """That of some columns, by their numbers, in this order."""
        places = list(columns)
        return type(self)([self.names[place] for place in places], [self.levels[place] for place in places])

    @property
    def has_levels(self) -> bool:
        """Whether any column holds names."""
        return any(self.levels)

    @overload
    def rows(self, frame: Any, *, unknown: str = "error") -> np.ndarray: ...

    @overload
    def rows(
        self,
        frame: Any,
        weights: Any = None,
        *,
        missing: Any = "error",
        noise: Any = None,
        labels: Any = None,
        label_of_component: Any = None,
        log_evidence: Any = None,
        unknown: str = "error",
    ) -> Any: ...

    def rows(
        self,
        frame: Any,
        weights: Any = None,
        *,
        missing: Any = "error",
        noise: Any = None,
        labels: Any = None,
        label_of_component: Any = None,
        log_evidence: Any = None,
        unknown: Any = "error",
    ) -> Any:
        """Rows (n, d) with the columns of this schema, in its order, and what else is known of them.

        Columns are found by their names, and others are left out. What is missing in them becomes NaN, which
        `missing="nan"` takes for gaps. In columns that have levels, names become their codes.

        Args:
            frame: as for `of`.
            weights, missing, noise, labels, label_of_component, log_evidence: as for `jaxgmm.rows`. Variances in a
                frame are found by the names of their columns as well, and so is what is `missing`.
            unknown: "error", where an entry that is no level is one, or "missing", where it becomes NaN.

        Returns:
            An array of numpy, or, if anything else is known of the rows, what `jaxgmm.rows` makes of that.

        Raises:
            TypeError, ValueError: no frame, a column holds no numbers, is not there, or more than once; an entry is no
                level of its column; or as `jaxgmm.rows`, of what is known beside the frame.

        >>> import jaxgmm, pandas
        >>> schema = jaxgmm.Schema(["width", "height"])
        >>> frame = pandas.DataFrame({"height": [1.5, None], "width": [2.0, 3.0]})
        >>> schema.rows(frame, missing="nan").seen.tolist()
        [[True, True], [True, False]]

        >>> schema = jaxgmm.Schema(["size"], {"size": ["small", "large"]})
        >>> schema.rows(pandas.DataFrame({"size": ["large", "huge", "small"]}), unknown="missing").tolist()
        [[1.0], [nan], [0.0]]
        """
        checks.one_of("unknown", unknown, _UNKNOWN)
        x = self._found("frame", frame, coded=True, unknown_is_missing=unknown == "missing")
        plain = isinstance(missing, str) and missing == "error"
        others = weights, noise, labels, label_of_component, log_evidence
        if plain and all(given is None for given in others):
            return x
        if frames.names_of(missing):
            missing = self._found("missing", missing)
        if frames.names_of(noise):
            noise = self._found("noise", noise)
        return known.evidence(
            x,
            weights,
            labels,
            label_of_component=label_of_component,
            missing=missing,
            noise=noise,
            log_evidence=log_evidence,
            arranged=False,
        )

    def _found(self, what: str, frame: Any, *, coded: bool = False, unknown_is_missing: bool = False) -> np.ndarray:
        """The numbers of this schema's columns in a frame, in its order, with codes for names if they are `coded`."""
        columns = columns_of(frame)
        found = [name for name, _ in columns]
        if lacking := [name for name in self.names if name not in found]:
            shown = ", ".join(map(repr, found[:_SHOWN])) + (", …" if len(found) > _SHOWN else "")
            raise ValueError(
                f"{what} lacks the column {lacking[0]!r}; it has {shown}, and expected are "
                f"{', '.join(map(repr, self.names))}. Rename its columns, or pass an array whose columns are in this "
                "order to the mixture itself."
            )
        if twice := [name for name in self.names if found.count(name) > 1]:
            raise ValueError(f"{what} has several columns {twice[0]!r}; expected one. Drop or rename the others.")
        place = {name: place for place, name in enumerate(found)}
        parts = []
        for name, own in zip(self.names, self.levels, strict=True):
            column = columns[place[name]][1]
            if own is None or not coded:
                parts.append(frames.numbers(what, name, column))
            else:
                parts.append(levels.codes_of(what, name, column, own, unknown_is_missing=unknown_is_missing))
        return np.column_stack(parts)


def schema_of(x: Any) -> Schema | None:
    """The schema of rows that are a frame whose columns have names; None of others."""
    return _schema_of("x", x) if frames.names_of(x) else None


def matching(what: str, pattern: Any, names: Sequence[str]) -> list[str]:
    """The names that a pattern such as "answer*" stands for, in their order; a name stands for itself.

    Raises:
        TypeError, ValueError: no text, or there are none.
    """
    if not isinstance(pattern, str):
        raise TypeError(f"{what} holds {pattern!r} of type {type(pattern).__name__}; expected names of columns.")
    found = [pattern] if pattern in names else [name for name in names if fnmatch.fnmatchcase(name, pattern)]
    if not found:
        listed = ", ".join(map(repr, names[:_SHOWN])) + (", …" if len(names) > _SHOWN else "")
        raise ValueError(
            f"{what} holds {pattern!r}, which is no column; expected some of {listed}, or patterns of them."
        )
    return found


def columns_of(frame: Any, what: str = "frame") -> list[tuple[Hashable, Any]]:
    """Names and columns of a frame.

    Raises:
        TypeError: it is none.
    """
    columns = frames.columns_of(frame)
    if columns is None and (names := frames.names_of(frame)):
        array = np.asarray(frame)
        columns = [(name, array[:, place]) for place, name in enumerate(names)]
    if columns is None:
        raise TypeError(
            f"{what} is of type {type(frame).__name__}, whose columns have no names; expected a frame that has. An "
            "array whose columns are in the order of the mixture goes to the mixture itself."
        )
    return columns


def _schema_of(what: str, frame: Any, categorical: Any = ()) -> Schema:
    names = frames.names_of(frame)
    if not names:
        raise TypeError(
            f"{what} is of type {type(frame).__name__} and has no names of columns; expected a frame that has. "
            "Write jaxgmm.Schema(['width', 'height']) with names of your own."
        )
    schema = Schema(names)
    asked = [categorical] if isinstance(categorical, str) else list(categorical)
    whatever = {name for pattern in asked for name in matching("categorical", pattern, schema.names)}
    found = [
        levels.levels_of(what, name, column, whatever=name in whatever) for name, column in columns_of(frame, what)
    ]
    return Schema(names, found)


def _levels(names: tuple[str, ...], given: Any) -> tuple[tuple[Level, ...] | None, ...]:
    """The levels of each column, None where it has none."""
    if given is None:
        return (None,) * len(names)
    if isinstance(given, Mapping):
        if unknown := [name for name in given if name not in names]:
            raise ValueError(f"levels are of {unknown[0]!r}, which is no column; expected some of {names!r}.")
        given = [given.get(name) for name in names]
    if isinstance(given, str) or not isinstance(given, Iterable) or len(given := list(given)) != len(names):
        raise ValueError(
            f"levels is {given!r}; expected a mapping from columns to their levels, or for each of the {len(names)} "
            "columns its levels or None."
        )
    return tuple(None if own is None else _own_levels(name, own) for name, own in zip(names, given, strict=True))


def _own_levels(name: str, given: Any) -> tuple[Level, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(f"levels of {name!r} are {given!r}; expected texts or numbers in a sequence.")
    found = tuple(one.item() if isinstance(one, np.generic) else one for one in given)
    if wrong := [one for one in found if not levels.is_level(one)]:
        raise TypeError(f"levels of {name!r} hold {wrong[0]!r}; expected texts or numbers.")
    if not found:
        raise ValueError(f"levels of {name!r} are none; expected at least one, or None for a column of numbers.")
    if len(set(found)) < len(found):
        twice = next(one for one in found if found.count(one) > 1)
        raise ValueError(f"levels of {name!r} hold {twice!r} more than once; expected each to have its own code.")
    return found
