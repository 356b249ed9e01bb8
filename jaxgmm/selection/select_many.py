"""How many components, and of what form, for each of many data sets."""

import contextlib
import dataclasses
import functools
import itertools
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.families.family import Form
from jaxgmm.families.table import form_of
from jaxgmm.ground import checks
from jaxgmm.ground.programs import program
from jaxgmm.ground.rows import Evidence
from jaxgmm.ground.sets import Sets, read
from jaxgmm.model.mixture import Mixture
from jaxgmm.selection.calls import Bar, side_by_side
from jaxgmm.selection.components import CRITERIA, ComponentSelection, best_of_components
from jaxgmm.selection.outliers import Seen, beyond, most_alone, standing_alone
from jaxgmm.selection.parts import Parts
from jaxgmm.selection.restarts import METHODS, Plan
from jaxgmm.selection.rooms import Chunk, Job, Layout
from jaxgmm.selection.select import FORMS, LOOKS, OUTLIERS, far_out, listed, ranges
from jaxgmm.selection.selections import Chosen, Selections

# Chunks that a program is compiled for, and the work from which machine code is not the quickest to compile.
_CHUNKS, _AT_LEAST = 4, 3e7


def select_many(
    key: jax.Array,
    xs: Any,
    n_components: Iterable[int] | int = range(1, 11),
    forms: Sequence[str | Form] | str | Form = FORMS,
    *,
    by: Any = None,
    criterion: str = "bic",
    weights: Any = None,
    outliers: str = "exclude",
    parts: Any = None,
    chunk_size: int | None = None,
    progress: bool = False,
    n_restarts: int = 8,
    screening_tol: Any = 1e-3,
    methods: Sequence[str] = METHODS,
    spurious: Any = False,
    lanes: int | None = 1,
    tol: Any = 1e-6,
    max_iter: Any = 1000,
    regularization: Any = 1e-6,
    objective: Any = None,
    acceleration: str | None = "anderson",
    block_size: int | None = None,
) -> Selections:
    """`select` for each of many data sets: the number of components and the form of every one, in a single call.

    All data sets go through a few compiled programs, one for each form and length that they are filled up to: on a GPU
    side by side, on a CPU on every core. A data set that cannot be fitted says why in its row of the table, and the
    others go on. As with `select`, rows that stand alone are set aside and constant columns left out, in each data set
    by itself; unlike there, all candidates get the same starts, and criteria are evaluated in the type of the rows.

    Args:
        key: what is drawn is drawn with this key; what a data set gets does not depend on the others.
        xs: an array (b, n, d), a sequence of b arrays or frames (n_i, d), whose d may differ too, a mapping of names to
            such, or a frame with a column `by`.
        n_components: numbers of components to try, or one.
        forms: what the components may be, or one of it; each as `form` of `init`.
        by: name of the column of the frame `xs` that says which rows belong together, or several names. Rows where it
            is missing belong to none.
        criterion: "aic", "aicc", "bic" or "icl". Lower is better for all of them.
        weights: of the rows, (b, n), a sequence of b arrays (n_i,) or a mapping to such; of a frame, one for each row
            or the name of a column. They count rows. Default ones.
        outliers: "exclude" or "keep" rows that stand alone, as in `select`.
        parts: a file that what is done is written to as it is done. A call that was stopped goes on from it if it is
            called in the same way again.
        chunk_size: data sets in one call of a program, as in `fit_many`.
        progress: show a progress bar with the time that is left (needs tqdm).
        n_restarts: starts of each candidate of each data set.
        screening_tol: as for `select_components`.

    All others are as for `fit_restarts`; `scale` is that of each data set.

    Raises:
        TypeError, ValueError: as for `fit_restarts`, an unknown criterion, nothing to try, no data set, or parts of
            another call.

    >>> import jax, jaxgmm
    >>> xs = jax.random.normal(jax.random.key(0), (3, 100, 2)).at[1, :50].add(8.0).at[2, 0, 0].set(float("nan"))
    >>> table = jaxgmm.select_many(jax.random.key(1), xs, range(1, 4), "diag", n_restarts=4)
    >>> table.n_components.tolist()
    [1, 2, 0]
    >>> table.status[2]
    'ERROR: is NaN or infinite in 1 of 100 rows'
    """
    criterion = checks.one_of("criterion", criterion, CRITERIA)
    outliers = checks.one_of("outliers", outliers, OUTLIERS)
    key = checks.key(key)
    ks = list(dict.fromkeys(checks.count("n_components", k) for k in listed(n_components)))
    forms = list({form_of(form): form for form in reversed(listed(forms))}.values())[::-1]
    if not ks or not forms:
        raise ValueError("n_components and forms hold nothing to try; expected at least one of each.")
    given = read(xs, weights, by, "select_many")
    if chunk_size is not None:
        chunk_size = checks.count("chunk_size", chunk_size)
    plan_of = functools.partial(
        Plan.of,
        n_restarts=n_restarts,
        n_finalists=n_restarts,
        screening_tol=screening_tol,
        methods=methods,
        spurious=spurious,
        lanes=lanes,
        tol=tol,
        max_iter=max_iter,
        regularization=regularization,
        scale=None,
        objective=objective,
        acceleration=acceleration,
        history_size=1,
        block_size=block_size,
    )
    plans = [plan_of(part.x.dtype, (max(ks), part.x.shape[1]), form) for part in given.sets for form in forms]
    table = Selections.blank(given, forms, ks, criterion, by)
    asked = (
        repr((forms, ks, criterion, outliers, chunk_size, plans, _version(), jax.__version__)),
        _data_of(key),
    )
    with contextlib.ExitStack() as stack:
        kept = stack.enter_context(Parts(parts, _question(given.sets, *asked))) if parts is not None else None
        n_fits = (len(given.names) - len(given.faults)) * len(forms)
        bar = stack.enter_context(Bar(n_fits, progress, "fits of data sets"))
        call = _Call(plan_of, key, forms, ks, criterion, chunk_size, kept, bar)
        for part in given.sets:
            sound = np.flatnonzero(~np.isin(part.numbers, list(given.faults)))
            if sound.size:
                _select_part(call, table, part, sound, exclude=outliers == "exclude")
    return table


def _select_part(call: "_Call", table: Selections, sets: Sets, todo: np.ndarray, *, exclude: bool) -> None:
    """Data sets of as many columns each, those `todo`; as rows may be set aside, some of them more than once."""
    alone = np.zeros(len(sets.x), bool)
    if exclude:
        far = far_out(sets.x, sets.weights > 0)
        few = np.bincount(sets.owner[far], minlength=len(sets.lengths)) <= _most_alone(sets)
        alone = far & few[sets.owner]
    for look in reversed(range(LOOKS + 1)):
        remaining = dataclasses.replace(sets, weights=np.where(alone, 0, sets.weights))
        groups = list(_groups(table, remaining, todo))
        unfit = len(todo) - sum(len(places) for places, _ in groups)
        call.bar.expect(-unfit * len(call.forms))
        call.fit([group for _, group in groups])
        again = []
        for places, group in groups:
            chosen = call.chosen(group)
            table.record(group.sets.numbers, group.columns, chosen)
            if exclude and look:
                left = _most_alone(sets)[places] - np.bincount(sets.owner[alone], minlength=len(sets.lengths))[places]
                more = call.standing_alone(group, chosen, left)
                if more.any():
                    alone[sets.rows_of(places)[more]] = True
                    again.append(places[np.unique(group.sets.owner[more])])
        table.set_aside(sets, alone)
        if not again:
            break
        todo = np.sort(np.concatenate(again))
        call.bar.expect(len(todo) * len(call.forms))


def _groups(table: Selections, sets: Sets, todo: np.ndarray) -> "Iterator[tuple[np.ndarray, _Group]]":
    """The places of data sets that have as many columns each that vary, and what is to be fitted."""
    d = sets.x.shape[1]
    least, most = sets.extremes(todo)
    constant, wrong = ranges(least, most)
    unfit = constant.all(axis=1) | wrong.any(axis=1)
    for place in np.flatnonzero(unfit).tolist():
        what = (
            "has no column that varies"
            if constant[place].all()
            else (
                f"spreads in column {int(np.argmax(wrong[place]))} by what has no square in {sets.x.dtype}: give it in "
                "another unit"
            )
        )
        table.fail(int(sets.numbers[todo[place]]), what)
    widths = np.where(unfit, 0, d - constant.sum(axis=1))
    for width in np.unique(widths[widths > 0]).tolist():
        mine = widths == width
        columns = np.argsort(constant[mine], axis=1, kind="stable")[:, :width]
        yield todo[mine], _Group(sets.of(todo[mine], columns), columns)


@dataclasses.dataclass(frozen=True, eq=False)
class _Task:
    """A call to be made: its number, how far along the calls of its kind it is, and what is done with the result."""

    step: int
    share: float
    form: int
    job: Job
    call: Callable[[Job], Any]
    put: Any = None


@dataclasses.dataclass(frozen=True, eq=False)
class _Group:
    """Data sets of as many columns each that vary.

    Fields: `sets`, of these columns; `columns` (c, d), their places; `found`, for each form, what was found, stacked.
    """

    sets: Sets
    columns: np.ndarray
    found: dict[int, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(eq=False)
class _Call:
    """How groups are fitted, whatever data sets are in them."""

    plan_of: Callable[..., Plan]
    key: jax.Array
    forms: list[Any]
    ks: list[int]
    criterion: str
    chunk_size: int | None
    kept: Parts | None
    bar: Bar
    layouts: dict[int, Layout] = dataclasses.field(default_factory=dict)
    structures: dict[Any, Any] = dataclasses.field(default_factory=dict)
    steps: Iterator[int] = dataclasses.field(default_factory=itertools.count)

    def fit(self, groups: list[_Group]) -> None:
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

    def chosen(self, group: _Group) -> Chosen:
        """What the criterion prefers for each of the data sets."""
        totals = np.bincount(group.sets.owner, group.sets.weights.astype(np.float64), len(group.sets.lengths))
        plan = self._plan(group, 0)
        least = max(float(plan.tol), float(np.finfo(group.sets.x.dtype).eps))
        found = [group.found[form] for form in range(len(self.forms))]
        return Chosen.of(found, least * totals, spurious=bool(plan.spurious))

    def standing_alone(self, group: _Group, chosen: Chosen, most: np.ndarray) -> np.ndarray:
        """Which rows (N,) of the data sets stand alone, no more than so many (c,) of each."""
        sets = group.sets
        x, present, alone = sets.x, sets.weights > 0, np.zeros(len(sets.x), bool)
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
        self, group: _Group, forms: np.ndarray, places: np.ndarray, mixtures: dict[int, Mixture], remain: np.ndarray
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
        group: _Group,
        form: int,
        places: np.ndarray,
        sets: Sets,
        ks: np.ndarray,
        found: dict[int, Any] | None = None,
    ) -> list[_Task]:
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

    def _tasks(self, group: _Group, form: int, places: np.ndarray, call: Any, put: Any = None) -> list[_Task]:
        d = group.sets.x.shape[1]
        lengths = group.sets.lengths
        if d not in self.layouts or lengths.max() > max(self.layouts[d].sizes):
            numbers = self._plan(group, form).n_restarts * len(self.ks) * max(self.ks) * d
            self.layouts[d] = Layout.of(lengths, numbers, self.chunk_size)
        jobs = self.layouts[d].jobs(lengths[places])
        return [
            _Task(
                next(self.steps),
                (number + 0.5) / len(jobs),
                form,
                dataclasses.replace(job, places=places[job.places]),
                call,
                put,
            )
            for number, job in enumerate(jobs)
        ]

    def _done(self, tasks: list[_Task]) -> Iterator[tuple[_Task, Any]]:
        """What the calls return, in numpy, from the file of parts where it is there."""

        def done(task: _Task) -> tuple[_Task, Any]:
            known = self.kept.get(str(task.step)) if self.kept else None
            if known is not None:
                return task, jax.tree.unflatten(self._structure(task), known)
            result = jax.tree.map(np.asarray, task.call(task.job))
            if self.kept:
                self.kept.add(str(task.step), jax.tree.leaves(result))
            return task, result

        return side_by_side(done, tasks)

    def _structure(self, task: _Task) -> Any:
        """How the results of a task are put together, which all of its kind and form share."""
        kind = task.form, task.put is None
        if kind not in self.structures:
            self.structures[kind] = jax.tree.structure(jax.eval_shape(lambda: task.call(task.job)))
        return self.structures[kind]

    def _plan(self, group: _Group, form: int) -> Plan:
        return self.plan_of(group.sets.x.dtype, (max(self.ks), group.sets.x.shape[1]), self.forms[form])


def _version() -> str:
    return str(sys.modules[__name__.partition(".")[0]].__version__)


def _most_alone(sets: Sets) -> np.ndarray:
    """How many rows of each data set may stand alone, (b,)."""
    present = np.bincount(sets.owner[sets.weights > 0], minlength=len(sets.lengths))
    return np.array([most_alone(n) for n in present.tolist()])


def _data_of(key: jax.Array) -> bytes:
    fresh = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    return np.asarray(fresh).tobytes()


def _question(sets: Iterable[Sets], options: str, key: bytes) -> Iterator[bytes]:
    """All that the answer depends on."""
    yield options.encode()
    yield key
    for part in sets:
        for array in (part.x, part.weights, part.lengths, part.numbers):
            yield f"{array.shape} {array.dtype}".encode()
            yield np.ascontiguousarray(array).tobytes()


def _work(plan: Plan, key: jax.Array, chunk: Chunk, ks: Any, *, most: int, criterion: str) -> float:
    """That of some chunks: there are programs for each form and length, and the best ones take memory to compile."""
    own = 20.0 * plan.n_restarts * ks.shape[1] * most * chunk.x.size
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
        return beyond(mixture, rows, remain), mixture.weights, mixture.means

    return chunk.each(one, mixtures, remain)
