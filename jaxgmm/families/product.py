"""Products: components of which some columns are of one family and others of another, independent of each other."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.families.family import Family, Form, Kernel, Views, each_column
from jaxgmm.families.support import Axis, Support
from jaxgmm.ground import checks
from jaxgmm.ground.pytree import ColumnIndices, Places, record, static
from jaxgmm.ground.rows import Evidence

T = TypeVar("T")


@record
class Product(Family):
    """Components of mixed tables: p(x) is the product of densities of parts of the columns, each of its own family.

    Within a component, columns of different parts are independent; within a part they are as its family has it. So
    rows of categories alone are latent classes, and a part of Gaussians in "full" is a block of dependent columns.

    Fields: `parts`, k components of a family each; `columns`, the columns of each of them, static: whole numbers from
    0, every column once.
    """

    parts: tuple[Any, ...]
    columns: tuple[tuple[int, ...], ...] = static()

    support: ClassVar[Support] = "several"

    @classmethod
    def form(cls, parts: Any) -> Form:
        """Parts of the columns and their forms, such as `{(0, 1): "full", 2: Poisson.form()}`.

        Args:
            parts: a mapping from a column, or columns in a tuple, to a form or the name of a covariance structure of
                Gaussians.

        Raises:
            TypeError, ValueError: no mapping, no forms, a column that is named twice or left out, or a part with noise.
        """
        if not isinstance(parts, Mapping) or not parts:
            raise TypeError(
                f"parts is {checks.found(parts)}; expected a mapping from columns to forms, such as "
                '{(0, 1): "full", 2: Poisson.form()}.'
            )
        found = tuple((named_columns(columns), _form(form)) for columns, form in parts.items())
        named = sorted(column for columns, _ in found for column in columns)
        if named != list(range(len(named))):
            raise ValueError(
                f"parts are of the columns {named}; expected each of {list(range(len(set(named) | {0})))} once, from 0."
            )
        shown = ", ".join(f"{_shown(columns)}: {form.name}" for columns, form in found)
        return Form(cls, (("parts", found),), f"Product({shown})")

    @classmethod
    def form_of_columns(cls, form: Form, columns: Sequence[int]) -> Form:
        parts: Any = dict(form.options)["parts"]
        left, found = list(columns), {}
        for own, part in parts:
            kept = [column for column in own if column in left]
            if kept:
                places = [own.index(column) for column in kept]
                found[tuple(left.index(column) for column in kept)] = part.of_columns(places)
        return cls.form(found)

    @classmethod
    def blank(
        cls, n_components: int, center: Float[Array, " d"], scale: Float[Array, " d"], *, parts: Any
    ) -> "Product":
        _check_columns(parts, center.size)
        made = tuple(
            form.blank(n_components, center[np.array(columns)], scale[np.array(columns)]) for columns, form in parts
        )
        return cls(made, tuple(columns for columns, _ in parts))

    @classmethod
    def view(cls, x: Float[Array, "n d"], **options: Any) -> Views:
        parts = options["parts"]
        _check_columns(parts, x.shape[1])
        return tuple(
            (np.array(columns)[places], coordinates)
            for columns, form in parts
            for places, coordinates in _seen_by(form, x[:, np.array(columns)])
        )

    @classmethod
    def blur(cls, **options: Any) -> float:
        return max(form.blur for _, form in options["parts"])

    def impossible(self, x: np.ndarray) -> np.ndarray | None:
        found = np.zeros(x.shape, bool)
        for part, columns in self._each():
            wrong = part.impossible(x[:, columns])
            if wrong is not None:
                found[:, columns] = wrong
        return found

    def expects(self, column: int) -> str:
        part, place = self._of_column(column)
        return str(part.expects(place))

    def axis(self, column: int) -> Axis:
        part, place = self._of_column(column)
        found: Axis = part.axis(place)
        return found

    @property
    def means(self) -> Float[Array, "*batch k d"]:
        """Expectation of each component (k, d), in the units of the data, where all parts have one."""
        return self._gathered(lambda part: part.means)

    @property
    def centers(self) -> Float[Array, "*batch k d"]:
        return self._gathered(lambda part: part.centers)

    @property
    def covariances(self) -> Float[Array, "*batch k d d"]:
        """Dense covariance of each component (k, d, d), in squared units of the data, where all parts have one."""
        return self._blocks(lambda part: part.covariances)

    @property
    def dispersions(self) -> Float[Array, "*batch k d d"]:
        return self._blocks(lambda part: part.dispersions)

    def variances(self) -> Float[Array, "*batch k d"]:
        return self._gathered(lambda part: part.variances())

    @property
    def n_columns(self) -> int:
        return sum(map(len, self.columns))

    @property
    def leaps_are_floored(self) -> bool:
        return any(part.leaps_are_floored for part in self.parts)

    @property
    def whitens(self) -> bool:
        return False

    @property
    def defined_by(self) -> int:
        return max(int(part.defined_by) for part in self.parts)

    def flat(self, scale: Float[Array, " d"], correlation: Float[Array, "d d"], share: float) -> Bool[Array, " k"]:
        # The covariance of some columns has the rows of the factor as its root.
        found = [
            part.flat(scale[columns], jnp.linalg.qr(correlation[columns].T, mode="r").T, share)
            for part, columns in self._each()
        ]
        return jnp.any(jnp.stack(found), axis=0)

    def log_prob(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        return functools.reduce(jnp.add, [part.log_prob(x[:, columns]) for part, columns in self._each()])

    def statistics(self, x: Float[Array, "n d"], responsibilities: Float[Array, "n k"]) -> tuple[Any, ...]:
        return tuple(part.statistics(x[:, columns], responsibilities) for part, columns in self._each())

    def finish(self, counts: Float[Array, " k"], sums: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(part.finish(counts, one) for part, one in zip(self.parts, sums, strict=True))

    def with_kernel(self, use: Callable[[Kernel], T]) -> T:
        # A part that chooses has a program for each way; so one of them does, and the others are their own kernels.
        widest = max(range(len(self.parts)), key=lambda place: len(self.columns[place]))

        def of(kernel: Kernel) -> T:
            kernels = [kernel if place == widest else part for place, part in enumerate(self.parts)]
            return use(_Kernel(tuple(kernels), self.columns))

        found: T = self.parts[widest].with_kernel(of)
        return found

    def with_kernel_of_parts(self, rows: Evidence, use: Callable[[Kernel, Evidence], T]) -> T:
        if rows.noise is not None:
            return super().with_kernel_of_parts(rows, use)

        def after(kernels: tuple[Kernel, ...], ready: tuple[Any, ...]) -> T:
            if len(kernels) == len(self.parts):
                return use(_Kernel(kernels, self.columns), dataclasses.replace(rows, ready=ready))
            part, columns = self.parts[len(kernels)], np.array(self.columns[len(kernels)])

            def more(kernel: Kernel, seen: Evidence) -> T:
                return after((*kernels, kernel), (*ready, seen.ready))

            found: T = part.with_kernel_of_parts(_of_columns(rows, columns, None), more)
            return found

        return after((), ())

    def needs_centring(self) -> Bool[Array, ""]:
        return jnp.any(jnp.stack([part.needs_centring() for part in self.parts]))

    def maximize(
        self,
        counts: Float[Array, " k"],
        statistics: tuple[Any, ...],
        alive: Bool[Array, " k"],
        floor: Float[Array, " d"],
    ) -> tuple["Product", Bool[Array, " k"]]:
        found = [
            part.maximize(counts, sums, alive, floor[columns])
            for (part, columns), sums in zip(self._each(), statistics, strict=True)
        ]
        return self._with(part for part, _ in found), jnp.any(jnp.stack([held for _, held in found]), axis=0)

    def recentred(self, counts: Float[Array, " k"], statistics: tuple[Any, ...], other: Any) -> tuple[Any, ...]:
        return tuple(
            part.recentred(counts, sums, another)
            for part, sums, another in zip(self.parts, statistics, other.parts, strict=True)
        )

    def floored(self, floor: Float[Array, " d"], alive: Bool[Array, " k"]) -> tuple["Product", Bool[Array, " k"]]:
        found = [part.floored(floor[columns], alive) for part, columns in self._each()]
        return self._with(part for part, _ in found), jnp.any(jnp.stack([held for _, held in found]), axis=0)

    def sample(self, key: jax.Array, labels: Int[Array, " n"]) -> Float[Array, "n d"]:
        keys = jax.random.split(key, len(self.parts))
        return self._gathered_of([part.sample(one, labels) for part, one in zip(self.parts, keys, strict=True)])

    def completed(
        self, key: jax.Array, drawn: tuple[Any, ...], labels: Int[Array, " n"], seen: Bool[Array, "n d"]
    ) -> Float[Array, "n d"]:
        keys = jax.random.split(key, len(self.parts))
        each = zip(self._each(), keys, drawn, strict=True)
        return self._gathered_of([part.completed(one, own, labels, seen[:, of]) for (part, of), one, own in each])

    def information(self, weights: Float[Array, " k"]) -> "Product":
        return self._with(part.information(weights) for part in self.parts)

    def take(self, places: Places) -> "Product":
        return self._with(part.take(places) for part in self.parts)

    def marginal(self, columns: ColumnIndices) -> "Product":
        wanted, parts, numbers = columns.tolist(), [], []
        for part, own in zip(self.parts, self.columns, strict=True):
            kept = [column for column in wanted if column in own]
            if kept:
                parts.append(part.marginal(np.array([own.index(column) for column in kept])))
                numbers.append(tuple(wanted.index(column) for column in kept))
        return type(self)(tuple(parts), tuple(numbers))

    def condition(self, given: ColumnIndices, kept: ColumnIndices, values: Float[Array, " g"]) -> "Product":
        known, wanted, parts, numbers = given.tolist(), kept.tolist(), [], []
        for part, own in zip(self.parts, self.columns, strict=True):
            left = [column for column in wanted if column in own]
            told = [column for column in known if column in own]
            if not left:
                continue
            places = np.array([own.index(column) for column in left])
            if told:
                of_these = values[np.array([known.index(column) for column in told])]
                parts.append(part.condition(np.array([own.index(column) for column in told]), places, of_these))
            else:
                parts.append(part.marginal(places))
            numbers.append(tuple(wanted.index(column) for column in left))
        return type(self)(tuple(parts), tuple(numbers))

    def n_parameters(self, n_components: int) -> int:
        return sum(int(part.n_parameters(n_components)) for part in self.parts)

    def _of_column(self, column: int) -> tuple[Any, int]:
        """The part that has this column, and its place there."""
        for part, columns in zip(self.parts, self.columns, strict=True):
            if column in columns:
                return part, columns.index(column)
        raise IndexError(column)

    def _each(self) -> list[tuple[Any, ColumnIndices]]:
        return [(part, np.array(columns)) for part, columns in zip(self.parts, self.columns, strict=True)]

    def _with(self, parts: Iterable[Any]) -> "Product":
        return dataclasses.replace(self, parts=tuple(parts))

    def _gathered(self, of: Callable[[Any], Array]) -> Array:
        return self._gathered_of([of(part) for part in self.parts])

    def _gathered_of(self, parts: list[Array]) -> Array:
        """Columns of the parts (..., c) in their order among all of them."""
        order = np.argsort([column for columns in self.columns for column in columns])
        return jnp.concatenate(parts, axis=-1)[..., order]

    def _blocks(self, of: Callable[[Any], Array]) -> Array:
        matrices = [of(part) for part in self.parts]
        found = jnp.zeros((*matrices[0].shape[:-2], self.n_columns, self.n_columns), matrices[0].dtype)
        for matrix, (_, columns) in zip(matrices, self._each(), strict=True):
            found = found.at[..., columns[:, None], columns].set(matrix)
        return found


@record
class _Kernel(Kernel):
    """Fields: `parts`, a kernel each; `columns`, as in `Product`."""

    parts: tuple[Any, ...]
    columns: tuple[tuple[int, ...], ...] = static()

    def read(self, rows: Evidence) -> tuple[Any, ...]:
        ready = (None,) * len(self.parts) if rows.ready is None else rows.ready
        return tuple(
            part.read(_of_columns(rows, np.array(columns), own))
            for part, columns, own in zip(self.parts, self.columns, ready, strict=True)
        )

    def log_prob(self, rows: tuple[Any, ...]) -> Float[Array, "n k"]:
        return functools.reduce(jnp.add, [part.log_prob(own) for part, own in zip(self.parts, rows, strict=True)])

    def statistics(self, rows: tuple[Any, ...], responsibilities: Float[Array, "n k"]) -> tuple[Any, ...]:
        return tuple(part.statistics(own, responsibilities) for part, own in zip(self.parts, rows, strict=True))

    def finish(self, counts: Float[Array, " k"], sums: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(part.finish(counts, one) for part, one in zip(self.parts, sums, strict=True))

    def true_values(self, rows: tuple[Any, ...]) -> tuple[Float[Array, "k d n"], Float[Array, "k d d n"]]:
        found = [part.true_values(own) for part, own in zip(self.parts, rows, strict=True)]
        order = np.argsort([column for columns in self.columns for column in columns])
        means = jnp.concatenate([means for means, _ in found], axis=1)[:, order]
        k, d, n = means.shape
        covariances = jnp.zeros((k, d, d, n), means.dtype)
        for (_, own), columns in zip(found, self.columns, strict=True):
            covariances = covariances.at[:, np.array(columns)[:, None], np.array(columns)].set(own)
        return means, covariances

    def draws_of_true_values(
        self, rows: tuple[Any, ...], chosen: Int[Array, " n"], noise: Float[Array, "n d"]
    ) -> tuple[Any, ...]:
        return tuple(
            part.draws_of_true_values(own, chosen, noise[:, np.array(columns)])
            for part, own, columns in zip(self.parts, rows, self.columns, strict=True)
        )


def _of_columns(rows: Evidence, columns: ColumnIndices, ready: Any) -> Evidence:
    """Of rows, or blocks of them, with what a kernel has found out about these columns."""
    seen = None if rows.seen is None else rows.seen[..., columns]
    return dataclasses.replace(rows, x=rows.x[..., columns], seen=seen, ready=ready)


def named_columns(columns: Any) -> tuple[int, ...]:
    """A column, or several in a tuple, as several."""
    several = columns if isinstance(columns, tuple) else (columns,)
    return tuple(checks.count("columns", column, 0) for column in several)


def _form(form: Any) -> Form:
    # What names of forms mean is known above families.
    from jaxgmm.families.table import form_of

    found = form_of(form)
    if found.n_background:
        raise ValueError(f"{found.name} is a part, and has a noise component; expected noise behind all parts.")
    return found


def _seen_by(form: Form, x: Float[Array, "n c"]) -> Views:
    view = form.view(x)
    return each_column(x) if view is None else view


def _shown(columns: tuple[int, ...]) -> str:
    return str(columns[0]) if len(columns) == 1 else f"({', '.join(map(str, columns))})"


def _check_columns(parts: Any, n_columns: int) -> None:
    number = sum(len(columns) for columns, _ in parts)
    if number != n_columns:
        raise ValueError(f"parts are of {number} columns, and the rows have {n_columns}; expected a form for each.")
