"""Names of columns, which stay on the host: a pytree cannot carry them."""

import dataclasses
from collections.abc import Hashable, Iterable
from typing import Any, overload

import numpy as np

from jaxgmm.ground import frames, known

_SHOWN = 10


@dataclasses.dataclass(frozen=True, init=False)
class Schema:
    """What the columns of a mixture are called, in its order.

    Inside a pytree, a name would compile everything again, keep `cond` from working or come out of `jit` as that of the
    first call. So a mixture has none, and its methods refuse frames. A schema is made where a frame is at hand,
    `select` keeps it and `save` writes it, and its `rows` make an array of any other frame.

    Fields: `names`, one text for each column, all different.

    Raises:
        TypeError, ValueError: names that are no text, or none, or twice the same.

    >>> import jax, jaxgmm, pandas
    >>> x = jax.random.normal(jax.random.key(0), (100, 2))
    >>> frame = pandas.DataFrame(x, columns=["width", "height"])
    >>> schema = jaxgmm.Schema.of(frame)
    >>> mixture = jaxgmm.init(jax.random.key(1), frame, 2)
    >>> other = frame[["height", "width"]]
    >>> bool((mixture.log_prob(schema.rows(other)) == mixture.log_prob(x)).all())
    True
    """

    names: tuple[str, ...]

    def __init__(self, names: Any) -> None:
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

    @classmethod
    def of(cls, frame: Any) -> "Schema":
        """The schema of a mixture that is made from this frame.

        Args:
            frame: of pandas, polars or pyarrow, anything with `columns` that is an array too, a structured array of
                numpy, or an array of xarray whose second axis has coordinates.

        Raises:
            TypeError, ValueError: it is none, its columns have no names, which numbers from 0 in order are not either,
                or such as no schema can have.
        """
        names = frames.names_of(frame)
        if not names:
            raise TypeError(
                f"frame is of type {type(frame).__name__} and has no names of columns; expected a frame that has. "
                "Write jaxgmm.Schema(['width', 'height']) with names of your own."
            )
        return cls(names)

    @overload
    def rows(self, frame: Any) -> np.ndarray: ...

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
    ) -> Any:
        """Rows (n, d) with the columns of this schema, in its order, and what else is known of them.

        Columns are found by their names, and others are left out. What is missing in them becomes NaN, which
        `missing="nan"` takes for gaps.

        Args:
            frame: as for `of`.
            weights, missing, noise, labels, label_of_component, log_evidence: as for `jaxgmm.rows`. Variances in a
                frame are found by the names of their columns as well, and so is what is `missing`.

        Returns:
            An array of numpy, or, if anything else is known of the rows, what `jaxgmm.rows` makes of that.

        Raises:
            TypeError, ValueError: no frame, a column holds no numbers, is not there, or more than once; or as
                `jaxgmm.rows`, of what is known beside the frame.

        >>> import jaxgmm, pandas
        >>> schema = jaxgmm.Schema(["width", "height"])
        >>> frame = pandas.DataFrame({"height": [1.5, None], "width": [2.0, 3.0]})
        >>> schema.rows(frame, missing="nan").seen.tolist()
        [[True, True], [True, False]]
        """
        x = self._found("frame", frame)
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

    def _found(self, what: str, frame: Any) -> np.ndarray:
        """The numbers of this schema's columns in a frame, in its order."""
        columns = _columns(frame)
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
        parts = [columns[place[name]][1] for name in self.names]
        return np.column_stack([frames.numbers(what, name, part) for name, part in zip(self.names, parts, strict=True)])


def schema_of(x: Any) -> Schema | None:
    """The schema of rows that are a frame whose columns have names; None of others."""
    return Schema.of(x) if frames.names_of(x) else None


def _columns(frame: Any) -> list[tuple[Hashable, Any]]:
    columns = frames.columns_of(frame)
    if columns is None and (names := frames.names_of(frame)):
        array = np.asarray(frame)
        columns = [(name, array[:, place]) for place, name in enumerate(names)]
    if columns is None:
        raise TypeError(
            f"frame is of type {type(frame).__name__}, whose columns have no names; expected a frame that has. An "
            "array whose columns are in the order of the mixture goes to the mixture itself."
        )
    return columns
