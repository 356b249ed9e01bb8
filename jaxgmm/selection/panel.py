"""Every candidate fitted to many data sets: a few programs over chunks of them, and what is kept of it."""

import dataclasses
import itertools
from collections.abc import Callable, Generator, Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.ground.programs import program
from jaxgmm.ground.progress import Bar
from jaxgmm.ground.rows import Evidence
from jaxgmm.ground.sets import Sets
from jaxgmm.ground.threads import side_by_side
from jaxgmm.model.mixture import Mixture
from jaxgmm.selection.chosen import Chosen
from jaxgmm.selection.components import ComponentSelection, best_of_components
from jaxgmm.selection.outliers import Seen, beyond, standing_alone
from jaxgmm.selection.parts import Parts
from jaxgmm.selection.restarts import Plan
from jaxgmm.selection.rooms import Chunk, Job, Layout

# Chunks that a program is compiled for, and the work from which machine code is not the quickest to compile.
_CHUNKS, _AT_LEAST = 4, 3e7


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A call to be made: its number, how far along the calls of its kind it is, and what is done with the result."""

    step: int
    share: float
    form: int
    job: Job
    call: Callable[[Job], Any]
    put: Any = None


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Data sets of as many columns each that vary.

    Fields: `sets`, of these columns; `columns` (c, d), their places; `all_lengths` (b,), of all data sets that
    were given with `width` columns; `found`, for each form, what was found, stacked.
    """

    sets: Sets
    columns: np.ndarray
    all_lengths: np.ndarray
    width: int
    found: dict[int, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(eq=False)
class Call:
    """How groups are fitted, whatever data sets are in them."""

    plan_of: Callable[..., Plan]
    key: jax.Array
    forms: list[Any]
    ks: list[int]
    criterion: str
    chunk_size: int | None
    kept: Parts | None
    bar: Bar
    layouts: dict[tuple[int, int], Layout] = dataclasses.field(default_factory=dict)
    structures: dict[Any, Any] = dataclasses.field(default_factory=dict)
    steps: Iterator[int] = dataclasses.field(default_factory=itertools.count)

    def fit(self, groups: list[Group]) -> None:
        """Every form and number of components for all of them, side by side."""
        ks = np.array(self.ks, np.int32)
        tasks = [
            task
            for group in groups
            for form in range(len(self.forms))
            for task in self._fits(group, form, np.arange(len(group.sets.lengths)), group.sets, ks)
        ]
        for task, result in self._done(sorted(tasks, key=lambda task: task.share)):
            task.put(task.job, result)
            self.bar.update(len(task.job.places))

    def chosen(self, group: Group) -> Chosen:
        """What the criterion prefers for each of the data sets."""
        totals = np.bincount(group.sets.owner, group.sets.weights.astype(np.float64), len(group.sets.lengths))
        plan = self._plan(group, 0)
        least = max(float(plan.tol), float(np.finfo(group.sets.x.dtype).eps))
        found = [group.found[form] for form in range(len(self.forms))]
        return Chosen.of(found, least * totals, spurious=bool(plan.spurious))

    def standing_alone(self, group: Group, chosen: Chosen, most: np.ndarray) -> np.ndarray:
        """Which rows (N,) of the data sets stand alone, no more than so many (c,) of each."""
        sets = group.sets
        x, present, alone = sets.x, sets.weights > 0, np.zeros(len(sets.x), bool)
        if "seen" in sets.beside:
            x = np.where(sets.beside["seen"], x, np.nan)
        ks = np.array([self.ks[place] for place in chosen.count])
        fine = np.flatnonzero(np.isfinite(chosen.value))
        best = {form: group.found[form].best.mixture for form in group.found}
        looks: dict[int, Generator[np.ndarray, Seen, np.ndarray]] = {}
        remain: dict[int, np.ndarray] = {}

        def send(place: int, seen: Seen | None) -> None:
            try:
                remain[place] = next(looks[place]) if seen is None else looks[place].send(seen)
            except StopIteration as end:
                alone[sets.rows(place)] = end.value
                looks.pop(place)

        for place, seen in self._seen(group, chosen.form, fine, best, present):
            if seen.suspect.any():
                mine = sets.rows(place)
                scale = group.found[int(chosen.form[place])].scale[place]
                looks[place] = standing_alone(x[mine], present[mine], scale, seen, int(most[place]))
                send(place, None)
        while looks:
            asked = np.array(sorted(looks))
            remaining = np.zeros(len(x), bool)
            for place in asked.tolist():
                remaining[sets.rows(place)] = remain[place]
            masked = dataclasses.replace(sets, weights=np.where(remaining, sets.weights, 0))
            again: dict[int, Any] = {}
            tasks = []
            for which in np.unique(chosen.form[asked]).tolist():
                mine = asked[chosen.form[asked] == which]
                only = np.zeros((len(ks), len(self.ks)), np.int32)
                only[:, 0] = ks
                tasks += self._fits(group, which, mine, masked, only, again)
            for task, result in self._done(tasks):
                task.put(task.job, result)
            refits = {form: result.best.mixture for form, result in again.items()}
            for place, seen in self._seen(group, chosen.form, asked, refits, remaining):
                send(place, seen)
        return alone

    def _seen(
        self, group: Group, forms: np.ndarray, places: np.ndarray, mixtures: dict[int, Mixture], remain: np.ndarray
    ) -> Iterator[tuple[int, Seen]]:
        """What is seen of the data sets at these places beside their mixtures of those rows that remain."""
        tasks = []
        for which in np.unique(forms[places]).tolist():
            mine = places[forms[places] == which]

            def call(job: Job, mixture: Mixture = mixtures[which]) -> Any:
                inside = group.sets.in_room(remain, job.fill(job.places), job.room)
                return _beyond_each(job.chunk(group.sets), job.of(mixture), inside)

            tasks += self._tasks(group, which, mine, call)
        for task, result in self._done(tasks):
            for place, rows, weights, means in zip(task.job.places.tolist(), *result, strict=False):
                far, suspect, doubtful = rows[:, : group.sets.lengths[place]]
                yield place, Seen(far, suspect, doubtful, weights, means)

    def _fits(
        self,
        group: Group,
        form: int,
        places: np.ndarray,
        sets: Sets,
        ks: np.ndarray,
        found: dict[int, Any] | None = None,
    ) -> list[Task]:
        """Fits with so many components (m,), or for each of the data sets (c, m), to be put among those `found`."""
        plan, found = self._plan(group, form), group.found if found is None else found
        ks = np.broadcast_to(ks, (len(sets.lengths), len(self.ks)))

        def call(job: Job) -> Any:
            chunk = job.chunk(sets)
            return _select_each(plan, self.key, chunk, job.of(ks), most=max(self.ks), criterion=self.criterion)

        def put(job: Job, result: Any) -> None:
            if form not in found:
                found[form] = jax.tree.map(
                    lambda leaf: np.zeros((len(sets.lengths), *leaf.shape[1:]), leaf.dtype), result
                )
            for whole, part in zip(jax.tree.leaves(found[form]), jax.tree.leaves(result), strict=True):
                whole[job.places] = part[: len(job.places)]

        return self._tasks(group, form, places, call, put)

    def _tasks(self, group: Group, form: int, places: np.ndarray, call: Any, put: Any = None) -> list[Task]:
        d = group.sets.x.shape[1]
        if (group.width, d) not in self.layouts:
            numbers = self._plan(group, form).n_restarts * len(self.ks) * max(self.ks) * d
            # By what was given, not by what is fitted: no value may make another program.
            self.layouts[group.width, d] = Layout.of(group.all_lengths, numbers, self.chunk_size)
        jobs = self.layouts[group.width, d].jobs(group.sets.lengths[places])
        return [
            Task(
                next(self.steps),
                (number + 0.5) / len(jobs),
                form,
                dataclasses.replace(job, places=places[job.places]),
                call,
                put,
            )
            for number, job in enumerate(jobs)
        ]

    def _done(self, tasks: list[Task]) -> Iterator[tuple[Task, Any]]:
        """What the calls return, in numpy, from the file of parts where it is there."""

        def done(task: Task) -> tuple[Task, Any]:
            known = self.kept.get(str(task.step)) if self.kept else None
            if known is not None:
                return task, jax.tree.unflatten(self._structure(task), known)
            result = jax.tree.map(np.asarray, task.call(task.job))
            if self.kept:
                self.kept.add(str(task.step), jax.tree.leaves(result))
            return task, result

        return side_by_side(done, tasks)

    def _structure(self, task: Task) -> Any:
        """How the results of a task are put together, which all of its kind and form share."""
        kind = task.form, task.put is None
        if kind not in self.structures:
            self.structures[kind] = jax.tree.structure(jax.eval_shape(lambda: task.call(task.job)))
        return self.structures[kind]

    def _plan(self, group: Group, form: int) -> Plan:
        return self.plan_of(group.sets.x.dtype, (max(self.ks), group.sets.x.shape[1]), self.forms[form])


def _work(plan: Plan, key: jax.Array, chunk: Chunk, ks: Any, *, most: int, criterion: str) -> float:
    """That of some chunks: there are programs for each form and length, and the best ones take memory to compile."""
    own = 20.0 * plan.n_restarts * ks.shape[1] * most * chunk.rows.numbers
    return own if chunk.is_alone else max(own * _CHUNKS, _AT_LEAST)


@program(static=("most", "criterion"), work=_work)
def _select_each(
    plan: Plan, key: jax.Array, chunk: Chunk, ks: Int[Array, "c m"], *, most: int, criterion: str
) -> ComponentSelection:
    def one(number: Int[Array, ""], rows: Evidence, ks: Int[Array, " m"]) -> ComponentSelection:
        own = jax.random.fold_in(key, number)
        found = best_of_components(plan, own, rows, ks, most=most, criterion=criterion)
        return dataclasses.replace(found, best=dataclasses.replace(found.best, mixture=found.best.mixture.sorted()))

    return chunk.each(one, ks)


@program(work=lambda chunk, mixtures, remain: chunk.work * mixtures.log_weights.shape[-1])
def _beyond_each(
    chunk: Chunk, mixtures: Mixture, remain: Bool[Array, "c n"]
) -> tuple[Bool[Array, "c 3 n"], Float[Array, "c k"], Float[Array, "c k d"]]:
    def one(number: Array, rows: Evidence, mixture: Mixture, remain: Array) -> tuple[Array, Array, Array]:
        return beyond(mixture, rows, remain), mixture.weights, mixture.components.centers

    return chunk.each(one, mixtures, remain)
