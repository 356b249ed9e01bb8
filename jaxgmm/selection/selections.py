"""What `select_many` chose: a row for each data set, their mixtures, and what belongs to which component."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxgmm.fitting.result import Status
from jaxgmm.ground.programs import program
from jaxgmm.ground.progress import Bar
from jaxgmm.ground.rows import Evidence
from jaxgmm.ground.schema import Schema
from jaxgmm.ground.sets import Sets, read
from jaxgmm.ground.tables import pandas_for
from jaxgmm.model.mixture import Mixture, places_of
from jaxgmm.model.objective import Variational, objective_of, of_counts
from jaxgmm.model.passes import posterior
from jaxgmm.selection.chosen import Stack
from jaxgmm.selection.rooms import Chunk, Layout, over_sets

if TYPE_CHECKING:
    import pandas

_LISTED, _FILLED = 8, 64


@dataclasses.dataclass(frozen=True, eq=False)
class Selections:
    """What was chosen for each of many data sets. Its text is how many of them have how many components.

    Fields:
        names: what the data sets are called, numbers from 0 where they have no names.
        forms, tried: the forms and the numbers of components that were asked for.
        criterion: by which lower is better.
        n_components: (b,), chosen; 0 where none could be.
        n_parameters: (b,), free parameters.
        log_likelihood: (b,), total, natural logarithm.
        value: (b,), of the criterion.
        behind: (b,), how far the next candidate is behind, of those that are no tie; NaN where there is none.
        passed_over: (b,), by how much, at least, the criterion is lower of a fit that was not chosen as a component is
            spurious; 0 if none is.
        regular: (b,), whether the fit is without spurious components. It is if any candidate's is.
        values: (b, f, m), the criterion of every form and number of components; infinite where a fit failed, NaN where
            there was none. Of those that could not become the best, as it is at `screening_tol`.
        outliers: by name, places of the rows that stand alone, and have weight 0; of data sets that have any.
        errors: by name, why a data set could not be fitted.
        schema: what the columns were called, None if they had no names.
        by: the column, or columns, that `names` come from.

    Components are in the order of their weights, the heaviest first.
    """

    names: tuple[Any, ...]
    forms: tuple[Any, ...]
    tried: tuple[int, ...]
    criterion: str
    n_components: np.ndarray
    n_parameters: np.ndarray
    log_likelihood: np.ndarray
    value: np.ndarray
    behind: np.ndarray
    passed_over: np.ndarray
    regular: np.ndarray
    values: np.ndarray
    outliers: dict[Any, tuple[int, ...]]
    errors: dict[Any, str]
    schema: Schema | None
    by: Any
    _widths: np.ndarray
    _codes: np.ndarray
    _forms: np.ndarray
    _stacks: list[Stack]
    _where: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    @property
    def form(self) -> tuple[Any, ...]:
        """The form of each that was chosen, None where none could be."""
        return tuple(None if place < 0 else self.forms[place] for place in self._forms.tolist())

    @property
    def status(self) -> tuple[str, ...]:
        """Name of the status of the best fit of each, or what went wrong."""
        names = {int(code): code.name for code in Status}
        return tuple(
            f"ERROR: {self.errors[name]}" if name in self.errors else names[code]
            for name, code in zip(self.names, self._codes.tolist(), strict=True)
        )

    def mixture(self, name: Any) -> Mixture:
        """The mixture of a data set, in its `columns`, with as many components as were chosen.

        Raises:
            KeyError: there is no such data set.
            RuntimeError: it could not be fitted.
        """
        number = self._number(name)
        stack, place = self._where[number].tolist()
        if stack < 0:
            raise RuntimeError(f"Data set {name!r} could not be fitted: it {self.errors.get(name, 'has no fit')}.")
        whole = jax.tree.map(lambda leaf: leaf[place], self._stacks[stack].mixture)
        places = places_of(whole, int(self.n_components[number]))
        # In numpy, or every number of components would compile slices of its own.
        return jax.device_put(Mixture(whole.log_weights[places], whole.components.take(places)))

    def kept(self, objective: Any, totals: Any) -> "Selections":
        """The same without the components that fits by `Variational` do not use: that have less than half a row.

        `n_components` is how many are left. Where that is none, as of weights that count no rows, all stay. What tells
        of fits, such as `log_likelihood`, `value` and `values`, is of those with all of their components.

        Args:
            objective: the `Variational` that was climbed.
            totals: (b,), what the weights of the rows of each data set add up to, without outliers.

        Raises:
            TypeError, ValueError: another objective, or another number of totals.
        """
        if not isinstance(objective, Variational):
            raise TypeError(f"objective is of type {type(objective).__name__}; expected the jaxgmm.Variational.")
        totals = np.asarray(totals, np.float64)
        if totals.shape != (len(self),):
            raise ValueError(f"totals has shape {totals.shape}; expected ({len(self)},), one for each data set.")
        counts, stacks = self.n_components.copy(), []
        for place, stack in enumerate(self._stacks):
            some = stack.mixture.log_weights
            given = objective_of(objective, some.shape[-1], stack.columns.shape[1], some.dtype)
            total = totals[stack.numbers].astype(some.dtype)
            mixture, left = jax.device_get(_used(given, stack.mixture, total))
            stacks.append(dataclasses.replace(stack, mixture=mixture))
            latest = self._where[stack.numbers, 0] == place
            counts[stack.numbers[latest]] = left[latest]
        return dataclasses.replace(self, n_components=counts, _stacks=stacks)

    def columns(self, name: Any) -> tuple[int, ...]:
        """Places of the columns of a data set that were fitted, all but the constant ones; none without a mixture."""
        stack, place = self._where[self._number(name)].tolist()
        return () if stack < 0 else tuple(self._stacks[stack].columns[place].tolist())

    def rows(self) -> Iterator[dict[str, Any]]:
        """The table, row by row: a row for each data set."""
        labels, status, forms = self._labels(), self.status, self.form
        for place, name in enumerate(self.names):
            yield dict(zip(labels, name if len(labels) > 1 else (name,), strict=True)) | {
                "form": None if forms[place] is None else str(forms[place]),
                "n_components": int(self.n_components[place]),
                "n_parameters": int(self.n_parameters[place]),
                "log_likelihood": float(self.log_likelihood[place]),
                self.criterion: float(self.value[place]),
                "behind": float(self.behind[place]),
                "status": status[place],
                "regular": bool(self.regular[place]),
                "passed_over": float(self.passed_over[place]),
                "outliers": len(self.outliers.get(name, ())),
                "columns": len(self.columns(name)),
            }

    def to_pandas(self, *, parameters: bool = False) -> "pandas.DataFrame":
        """The table as a data frame (needs pandas).

        Args:
            parameters: with weights, means and standard deviations of the components, heaviest first, in columns such
                as `weight[0]`, `mean[0,height]` and `sd[0,height]`; missing where there are fewer components. That of a
                noise component is `weight[noise]`.
        """
        pandas = pandas_for("to_pandas")
        table = pandas.DataFrame(list(self.rows()))
        if not parameters:
            return table
        weights, means, deviations = self._moments()
        new: dict[str, np.ndarray] = {}
        for component in range(weights.shape[1]):
            new[f"weight[{component}]"] = weights[:, component]
            for name, array in (("mean", means), ("sd", deviations)):
                for place, column in enumerate(self._column_names()):
                    new[f"{name}[{component},{column}]"] = array[:, component, place]
        if not np.isnan(noise := self._noise()).all():
            new["weight[noise]"] = noise
        return pandas.concat([table, pandas.DataFrame(new)], axis=1)

    def components(self) -> "pandas.DataFrame":
        """All components as a data frame, a row for each (needs pandas): weight, means and standard deviations.

        What a data set has no component for, or no column, is missing.
        """
        pandas = pandas_for("components")
        weights, means, deviations = self._moments()
        number, component = np.nonzero(weights > 0)
        named = {
            f"mean[{column}]": means[number, component, place] for place, column in enumerate(self._column_names())
        }
        named |= {
            f"sd[{column}]": deviations[number, component, place] for place, column in enumerate(self._column_names())
        }
        beside = {"component": component, "weight": weights[number, component], **named}
        return pandas.DataFrame(self._labelled(number) | beside)

    def assign(self, xs: Any, *, by: Any = None) -> "pandas.DataFrame":
        """Which component each row belongs to, as a long data frame in the order of the rows (needs pandas).

        Args:
            xs: data sets of the same names and columns, as `select_many` takes them; rows may be others.
            by: as for `select_many`. The columns are found by their names.

        Returns:
            For each row its data set, its place there as `row`, `component`, its `probability` and `log_density`. -1
            and missing where the data set has no mixture or the row holds NaN; -1 with a probability where it is of the
            noise component. Of a frame, all rows in its order and,
            of pandas, with its index; those that belong to no data set are at place -1.

        Raises:
            TypeError, ValueError: as for `select_many`, and data sets of a name or of columns that have no mixture.
        """
        pandas = pandas_for("assign")
        only = None if by is None or self.schema is None else self.schema.names
        given = read(xs, None, by, "assign", only)
        if self.schema is not None and given.schema not in (None, self.schema):
            raise ValueError(
                f"xs has the columns {', '.join(map(repr, given.schema.names))}; expected "
                f"{', '.join(map(repr, self.schema.names))}. Write [selections.schema.rows(x) for x in xs]."
            )
        unknown = [name for name in given.names if name not in self._numbers]
        if unknown:
            more = f", and {len(unknown) - 1} more like it" if len(unknown) > 1 else ""
            raise ValueError(
                f"xs has a data set {unknown[0]!r}, for which nothing was chosen{more}; leave out what select_many was "
                "not given."
            )
        lengths = np.zeros(len(given.names), int)
        for part in given.sets:
            lengths[part.numbers] = part.lengths
        first = np.cumsum(lengths) - lengths
        n = int(lengths.sum())
        component, probability, density = np.full(n, -1), np.full(n, np.nan), np.full(n, np.nan)
        for part in given.sets:
            mine = np.array([self._numbers[given.names[number]] for number in part.numbers.tolist()])
            if (other := self._widths[mine] != part.x.shape[1]).any():
                first_other = int(mine[np.argmax(other)])
                raise ValueError(
                    f"data set {self.names[first_other]!r} has {part.x.shape[1]} columns; expected "
                    f"{self._widths[first_other]}, as where it was chosen for."
                )
            for stack in self._stacks:
                self._assign(part, mine, stack, first, component, probability, density)
        number = np.repeat(np.arange(len(lengths)), lengths)
        mine = np.array([self._numbers[name] for name in given.names])[number]
        row = np.arange(n) - first[number]
        found = {"component": component, "probability": probability, "log_density": density}
        table = pandas.DataFrame(self._labelled(mine) | {"row": row} | found)
        if given.order is None:
            return table
        # Rows without a data set are in the frame as well.
        table = table.set_index(given.order).reindex(np.arange(len(xs)))
        table = table.astype({"row": float, "component": float}).fillna({"row": -1, "component": -1})
        table = table.astype({"row": int, "component": int})
        return table.set_index(xs.index) if hasattr(xs, "iloc") else table

    def _assign(self, part: Sets, mine: np.ndarray, stack: Stack, first: np.ndarray, *into: np.ndarray) -> None:
        """Put what a stack says of the data sets of a part, which are `mine` here, where their rows are."""
        latest = self._where[stack.numbers, 0] == self._stacks.index(stack)
        place_of = dict(zip(stack.numbers[latest].tolist(), np.flatnonzero(latest).tolist(), strict=True))
        places = np.array([place for place, number in enumerate(mine.tolist()) if number in place_of], int)
        if not places.size:
            return
        chosen = np.array([place_of[number] for number in mine[places].tolist()])
        sets = part.of(places, stack.columns[chosen])
        fine = np.isfinite(sets.x).all(axis=1)
        sets = dataclasses.replace(sets, x=np.where(fine[:, None], sets.x, 0), weights=np.ones(len(fine), sets.x.dtype))
        mixture = jax.tree.map(lambda leaf: leaf[chosen], stack.mixture)
        # By all that were given, so that what was chosen for them compiles nothing.
        layout = Layout.of(part.lengths, mixture.log_weights.shape[1] * sets.x.shape[1])
        jobs = layout.jobs(sets.lengths)
        with Bar(0, progress=False, what="") as bar:
            for job, results in over_sets(_assign_each, sets, lambda job: (job.of(mixture),), jobs, bar):
                rows, n = sets.rows_of(job.places), len(job.places)
                starts = np.repeat(first[sets.numbers[job.places]], sets.lengths[job.places])
                here = np.concatenate([np.arange(length) for length in sets.lengths[job.places]]) + starts
                for whole, result in zip(into, results, strict=True):
                    values = sets.from_room(result[:n], job.places)
                    whole[here[fine[rows]]] = values[fine[rows]]

    def __repr__(self) -> str:
        fitted = self._forms[self.n_components > 0]
        lines = [f"{len(self)} data sets by {self.criterion}, {len(fitted)} of them fitted"]
        shown = [which for which in range(len(self.forms)) if np.any(fitted == which)]
        cells = [["k", *(str(self.forms[which]) for which in shown)]]
        for k in np.unique(self.n_components[self.n_components > 0]).tolist():
            here = self._forms[self.n_components == k]
            cells.append([str(k), *(str(int(np.sum(here == which))) for which in shown)])
        widths = [max(len(line[place]) for line in cells) for place in range(len(cells[0]))]
        if shown:
            lines += ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
        counts: dict[str, int] = {}
        for text in self.status:
            if text != Status.CONVERGED.name:
                counts[text.split(":")[0]] = counts.get(text.split(":")[0], 0) + 1
        lines += [f"{number} {text}" for text, number in sorted(counts.items())]
        for name, text in list(self.errors.items())[:_LISTED]:
            lines.append(f"  {name}: {text}")
        if len(self.errors) > _LISTED:
            lines.append(f"  and {len(self.errors) - _LISTED} more, in `errors`")
        if self.outliers:
            number = sum(map(len, self.outliers.values()))
            which = "1 row stands alone and is" if number == 1 else f"{number} rows stand alone and are"
            lines.append(f"{which} set aside, in {len(self.outliers)} of the data sets")
        if number := int(np.sum(self.passed_over > 0)):
            lines.append(f"passed over in {number} of them: a fit lower by {self.criterion}, with a spurious component")
        return "\n".join(lines)

    @functools.cached_property
    def _numbers(self) -> dict[Any, int]:
        return {name: number for number, name in enumerate(self.names)}

    def _number(self, name: Any) -> int:
        if name not in self._numbers:
            shown = ", ".join(map(repr, self.names[:_LISTED])) + (", ..." if len(self) > _LISTED else "")
            raise KeyError(f"There is no data set {name!r}; there are {shown}.")
        return self._numbers[name]

    def _labels(self) -> list[str]:
        if self.by is None:
            return ["data_set"]
        return [self.by] if isinstance(self.by, str) or not isinstance(self.by, Sequence) else list(self.by)

    def _labelled(self, numbers: np.ndarray) -> dict[str, list[Any]]:
        """Columns that say which data sets these are."""
        labels, names = self._labels(), [self.names[number] for number in numbers.tolist()]
        if len(labels) == 1:
            return {labels[0]: names}
        return {label: [name[place] for name in names] for place, label in enumerate(labels)}

    def _column_names(self) -> list[Any]:
        d = 1 + max((int(stack.columns.max()) for stack in self._stacks), default=-1)
        return list(range(d)) if self.schema is None else list(self.schema.names)

    def _noise(self) -> np.ndarray:
        """Weights of noise components (b,), NaN where there is none."""
        weights = np.full(len(self), np.nan)
        for place, stack in enumerate(self._stacks):
            if stack.mixture.noise_component is not None:
                latest = self._where[stack.numbers, 0] == place
                weights[stack.numbers[latest]] = np.exp(np.asarray(stack.mixture.log_weights)[latest, -1])
        return weights

    def _moments(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weights (b, k), means and standard deviations (b, k, d) of all data sets; NaN where there are none."""
        b, k, d = len(self), int(self.n_components.max(initial=0)), len(self._column_names())
        weights = np.full((b, k), np.nan)
        means, deviations = np.full((b, k, d), np.nan), np.full((b, k, d), np.nan)
        for place, stack in enumerate(self._stacks):
            latest = self._where[stack.numbers, 0] == place
            here = stack.numbers[latest]
            # Filled up to a power of two, so that how many there are of a form compiles little.
            filled = np.minimum(np.arange(max(_FILLED, 1 << (len(latest) - 1).bit_length())), len(latest) - 1)
            moments = _moments(jax.tree.map(lambda leaf, filled=filled: leaf[filled], stack.mixture))
            w, m, v = (np.asarray(leaf)[: len(latest)][latest, :k] for leaf in moments)
            absent = np.arange(k) >= self.n_components[here, None]
            weights[here] = np.where(absent, np.nan, w)
            for whole, part in ((means, m), (deviations, np.sqrt(v))):
                part = np.where(absent[:, :, None], np.nan, part)
                at = here[:, None, None], np.arange(k)[None, :, None], stack.columns[latest][:, None, :]
                whole[at] = part
        return weights, means, deviations


@program
def _used(objective: Variational, mixtures: Mixture, totals: Float[Array, " c"]) -> tuple[Mixture, Int[Array, " c"]]:
    """Mixtures of a stack with the components first that are used, alone present, and how many these are."""

    def one(mixture: Mixture, total: Float[Array, ""]) -> tuple[Mixture, Int[Array, ""]]:
        present = mixture.log_weights > -jnp.inf
        used = of_counts(objective, mixture, total, present).used(mixture)
        used = jnp.where(jnp.any(used), used, present)
        order = jnp.argsort(~used)
        log_weights = jax.nn.log_softmax(jnp.where(used, mixture.log_weights, -jnp.inf))
        return Mixture(log_weights[order], mixture.components.take(order)), jnp.sum(used)

    return jax.vmap(one)(mixtures, totals)


@program
def _moments(mixtures: Mixture) -> tuple[Array, Array, Array]:
    """Weights, means and variances of a stack."""
    return mixtures.weights, mixtures.means, jnp.diagonal(mixtures.covariances, axis1=-2, axis2=-1)


@program(work=lambda chunk, mixtures: chunk.work * mixtures.log_weights.shape[-1])
def _assign_each(chunk: Chunk, mixtures: Mixture) -> tuple[Int[Array, "c n"], Float[Array, "c n"], Float[Array, "c n"]]:
    """The component that each row belongs to, how probably, and its log-density."""

    def one(number: Array, rows: Evidence, mixture: Mixture) -> tuple[Array, Array, Array]:
        kernel = mixture.components
        log_prob, responsibilities = posterior(mixture.log_weights, kernel.log_prob(kernel.read(rows)), rows)
        component = jnp.argmax(responsibilities, axis=1)
        if mixture.noise_component is not None:
            component = jnp.where(component == mixture.noise_component, -1, component)
        return component, jnp.max(responsibilities, axis=1), log_prob

    return chunk.each(one, mixtures)
