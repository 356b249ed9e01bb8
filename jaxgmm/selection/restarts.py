"""The best of many fits of one mixture, from starts of several kinds, in one compiled call."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.families.family import Form
from jaxgmm.families.table import form_of
from jaxgmm.fitting.acceleration import scheme_of
from jaxgmm.fitting.em import fit
from jaxgmm.fitting.implicit import at_fixed_point, values_of
from jaxgmm.fitting.result import FitResult, Status
from jaxgmm.ground import checks, known, pytree
from jaxgmm.ground.programs import program
from jaxgmm.ground.pytree import Leaf, Packed, record, static
from jaxgmm.ground.rows import Evidence
from jaxgmm.ground.tables import pandas_for
from jaxgmm.model.init import from_labels, seedable, standard
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.objective import Objective, objective_of, within_data
from jaxgmm.model.scale import floor_of
from jaxgmm.model.seeding import SEEDINGS, Columns, Seedings, correlation_factor
from jaxgmm.model.steps import block_size_or_default

if TYPE_CHECKING:
    import pandas

METHODS = ("k-means++", "random_from_data", "kmeans_whitened", "random")
# A component is spurious if its variance in some direction is below this share of the data's, and it holds no more
# rows than this many times those that define a covariance at all.
_FLAT = 1e-3
HANDFUL = 5.0
# Fits that run side by side where the machine gains from it.
LANES = 64


@record
class Restarts:
    """The best of many fits, and how each of them ended.

    Fields:
        best: the winner, as `fit` returns it. `n_iter` counts its steps to `screening_tol` and on to `tol`; `history`
            has the latter.
        log_likelihood: (r,), total, that each start reached.
        status: (r,), a code of `Status` for each; by `screening_tol` for those that were not continued.
        regular: (r,), whether a start led to a mixture without spurious or degenerate components.
        finished: (r,), whether it was among those continued to convergence.
        winner: (), which start led to `best`.
    """

    best: FitResult
    log_likelihood: Leaf
    status: Leaf
    regular: Leaf
    finished: Leaf
    winner: Leaf

    def to_pandas(self) -> "pandas.DataFrame":
        """A row for each start, and whether it won, as a data frame (needs pandas).

        Of a stack, as `fit_many` gives, the first column is the number of the data set, `data_set`.

        >>> import jax, jaxgmm
        >>> x = jax.random.normal(jax.random.key(0), (100, 2)).at[:50].add(8.0)
        >>> starts = jaxgmm.fit_restarts(jax.random.key(1), x, 2, n_restarts=8).to_pandas()
        >>> list(starts), len(starts), int(starts["winner"].sum())
        (['start', 'log_likelihood', 'status', 'regular', 'finished', 'winner'], 8, 1)
        """
        shape = np.shape(self.status)
        starts = np.broadcast_to(np.arange(shape[-1]), shape)
        table = {
            "start": starts,
            "log_likelihood": np.asarray(self.log_likelihood),
            "status": np.array([status.name for status in Status], object)[np.asarray(self.status)],
            "regular": np.asarray(self.regular),
            "finished": np.asarray(self.finished),
            "winner": starts == np.asarray(self.winner)[..., None],
        }
        if len(shape) > 1:
            table = {"data_set": np.arange(math.prod(shape[:-1])).repeat(shape[-1]), **table}
        return pandas_for("to_pandas").DataFrame({name: column.ravel() for name, column in table.items()})


@record
class _Run:
    """A fit, where it started from and whether it is regular."""

    fit: FitResult
    start: Leaf
    regular: Leaf


@record
class Plan:
    """How to fit: what of it may be traced, and what is static."""

    tol: Leaf
    screening_tol: Leaf
    max_iter: Leaf
    regularization: Leaf
    scale: Leaf | None
    objective: Objective
    spurious: Leaf
    form: Form = static()
    methods: tuple[str, ...] = static()
    n_restarts: int = static()
    n_finalists: int = static()
    acceleration: str | None = static()
    history_size: int = static()
    lanes: int = static()
    block_size: int | None = static()

    @classmethod
    def of(
        cls,
        dtype: Any,
        shape: tuple[int, int],
        form: Any,
        *,
        n_restarts: int,
        n_finalists: int,
        screening_tol: Any,
        methods: Sequence[str] | None,
        spurious: Any,
        lanes: int | None,
        tol: Any,
        max_iter: Any,
        regularization: Any,
        scale: Any,
        objective: Any,
        acceleration: str | None,
        history_size: int,
        block_size: int | None,
    ) -> "Plan":
        """The plan that the options of `fit_restarts` are, checked for so many clusters and columns."""
        scheme_of(acceleration)
        form = form_of(form)
        if methods is None:
            methods = _suitable(form, *shape)
        if isinstance(methods, str) or not methods:
            raise ValueError(f"methods is {methods!r}; expected a sequence of one or more of {', '.join(SEEDINGS)}.")
        return cls(
            tol=checks.scalar("tol", tol, dtype),
            screening_tol=checks.scalar("screening_tol", screening_tol, dtype),
            max_iter=checks.steps("max_iter", max_iter),
            regularization=checks.scalar("regularization", regularization, dtype),
            scale=checks.scale(scale, shape[1], dtype),
            objective=objective_of(objective, shape[0] + form.n_background, shape[1], dtype),
            spurious=jnp.asarray(spurious, bool),
            form=form,
            methods=tuple(checks.one_of("methods", method, SEEDINGS) for method in methods),
            n_restarts=checks.count("n_restarts", n_restarts),
            n_finalists=checks.count("n_finalists", n_finalists),
            acceleration=acceleration,
            history_size=checks.count("history_size", history_size),
            lanes=(1 if jax.default_backend() == "cpu" else LANES) if lanes is None else checks.count("lanes", lanes),
            block_size=None if block_size is None else checks.count("block_size", block_size),
        )


def fit_restarts(
    key: jax.Array,
    x: Any,
    n_components: Any,
    form: Any = "full",
    *,
    max_components: int | None = None,
    weights: Any = None,
    n_restarts: int = 200,
    n_finalists: int = 4,
    screening_tol: Any = 1e-3,
    methods: Sequence[str] | None = None,
    spurious: Any = False,
    lanes: int | None = None,
    tol: Any = 1e-6,
    max_iter: Any = 1000,
    regularization: Any = 1e-6,
    scale: Any = None,
    objective: Any = None,
    acceleration: str | None = "anderson",
    history_size: int = 128,
    block_size: int | None = None,
) -> Restarts:
    """The best of many fits, from starts of several kinds; everything in one compiled call.

    Every start is fitted until it is estimated to gain no more than `screening_tol`; the best few go on to `tol`. The
    winner is the regular one of the highest objective, which is the likelihood unless another is given. The likelihood
    of a mixture has no upper bound: a component on a handful of rows that hardly differ in some direction reaches any
    height. A fit with such a spurious component is reported with its likelihood, and wins only if there is no other, or
    if `spurious` asks for it.

    Memory grows with `n_finalists`, and with `n_restarts` only by a few numbers for each. Works under `jit`, `vmap` and
    `grad`: derivatives are those of the winner, as for `fit`.

    Args:
        key: what is drawn is drawn with this key.
        x: rows (n, d), in any units.
        n_components, form, max_components: as for `init`.
        weights: weight of each row (n,), as for `fit`.
        n_restarts: number of starts. Static.
        n_finalists: how many go on to `tol`, rounded up to whole rounds of `methods`. Static.
        screening_tol: `tol` up to which all starts are fitted.
        methods: names of seedings as `init` takes them; start i has method i modulo their number. By default
            "k-means++", "random_from_data", "kmeans_whitened" and "random": different kinds of starts find more than
            more of one kind; without "kmeans_whitened" for forms of low rank, which do without such matrices. Static.
        spurious: whether a fit with a spurious component may win.
        lanes: starts that are fitted side by side, by `vmap`. By default 1 on a CPU and 64 elsewhere. Static.
        tol, max_iter, regularization, scale, objective, acceleration, history_size, block_size: as for `fit`.

    A component is spurious if, in some direction, its variance is below a thousandth of that of the data, in which rows
    far out count less, and it holds no more than 5 (d + 1) rows.

    Returns:
        `Restarts`: `best`, a `FitResult`, and how every start ended.

    Raises:
        TypeError, ValueError: arguments of the wrong kind, shape or sign, unknown names, or, outside `jit`, NaN or inf.

    >>> import jax, jaxgmm
    >>> x = jax.random.normal(jax.random.key(0), (300, 2)).at[:100].add(6.0)
    >>> found = jaxgmm.fit_restarts(jax.random.key(1), x, 2, "tied", n_restarts=20)
    >>> int(found.best.mixture.predict(x[:1])[0]) == int(found.best.mixture.predict(x[99:100])[0])
    True
    >>> int(found.finished.sum())
    4
    """
    rows = known.evidence(x, weights)
    present = checks.present("n_components", n_components, "max_components", max_components)
    made_of = form_of(form)
    made_of.check(rows)
    rows = known.of_components(rows, made_of.with_background(present))
    plan = Plan.of(
        rows.x.dtype,
        (present.size, rows.x.shape[1]),
        form,
        n_restarts=n_restarts,
        n_finalists=n_finalists,
        screening_tol=screening_tol,
        methods=methods,
        spurious=spurious,
        lanes=lanes,
        tol=tol,
        max_iter=max_iter,
        regularization=regularization,
        scale=scale,
        objective=objective,
        acceleration=acceleration,
        history_size=history_size,
        block_size=block_size,
    )
    with rows.on_devices():
        return best_of_restarts(plan, checks.key(key), rows, present)


@program(work=lambda plan, key, rows, present: 20 * plan.n_restarts * present.size * rows.numbers)
def best_of_restarts(plan: Plan, key: jax.Array, rows: Evidence, present: Bool[Array, " k"]) -> Restarts:
    """`fit_restarts` by a plan, of the components that are present."""
    rows = plan.objective.rows_of(rows)
    gapless, columns = standard(rows, plan.scale)
    floor = floor_of(columns.scale, plan.regularization)
    plan = dataclasses.replace(plan, objective=within_data(plan.objective, rows, columns.scale, present))
    given = rows, floor, plan.objective
    # The runs are not differentiated: derivatives are those of the point where the winner ends.
    plan, rows, gapless, columns, floor = jax.lax.stop_gradient((plan, rows, gapless, columns, floor))
    methods = plan.methods[: plan.n_restarts]
    clusters = seedable(columns, gapless.x, plan.form, present.size)
    seedings = Seedings.of([SEEDINGS[method] for method in methods], clusters, present)
    # So many side by side, the first ones in whole rounds of the methods.
    width = 1 if plan.lanes == 1 else len(methods) * max(1, min(plan.lanes, plan.n_restarts) // len(methods))
    n_rounds = math.ceil(plan.n_restarts / width)
    # Where all are to be continued, they need not stop in between.
    at_once = plan.n_finalists >= plan.n_restarts
    n_last = 0 if at_once else math.ceil(plan.n_finalists / width)
    pool_size = max(1, n_last) * width
    screening_tol = plan.tol if at_once else jnp.maximum(plan.tol, plan.screening_tol)
    factor = correlation_factor(columns)
    seeded = plan.objective.over(jnp.max(rows.weights))

    @jax.jit
    def start(number: Int[Array, ""]) -> Mixture:
        labels = seedings.labels(jax.random.fold_in(key, number), number % len(methods))
        return from_labels(gapless, columns, labels, present, floor, seeded, form=plan.form)

    @jax.jit
    def run(mixture: Mixture, number: Int[Array, ""], tol: Float[Array, ""]) -> _Run:
        result = fit(
            mixture,
            rows,
            tol=tol,
            max_iter=plan.max_iter,
            regularization=plan.regularization,
            scale=columns.scale,
            objective=plan.objective,
            acceleration=plan.acceleration,
            history_size=plan.history_size,
            block_size=plan.block_size,
        )
        regular = jnp.all(_is_regular(result.mixture, columns, factor)) & (result.status != Status.NON_FINITE)
        return _Run(result, number, regular & (result.status != Status.DEGENERATE))

    nobody = jnp.asarray(plan.n_restarts, jnp.int32)
    blank = jax.eval_shape(lambda: run(start(nobody), nobody, plan.tol))
    blank = Packed.of(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), blank))
    none = dataclasses.replace(blank.tree, start=nobody)
    pool = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (pool_size, leaf.size)), Packed.of(none))
    open_all = jax.vmap(lambda packed: packed.tree)

    def step(pool: Packed, number: Int[Array, ""]) -> tuple[Packed, tuple[Array, Array, Array]]:
        last = number >= n_rounds
        place = (number - n_rounds) * width
        mine = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, place, width), pool)

        def attempt(kept: Packed, start_number: Int[Array, ""]) -> Packed:
            before: _Run = kept.tree
            start_number = jnp.where(last, before.start, start_number)
            mixture = jax.lax.cond(last, lambda: before.fit.mixture, lambda: start(start_number))
            after = run(mixture, start_number, jnp.where(last, plan.tol, screening_tol))
            n_iter = after.fit.n_iter + jnp.where(last, before.fit.n_iter, 0)
            return Packed.of(dataclasses.replace(after, fit=dataclasses.replace(after.fit, n_iter=n_iter)))

        done = _over(attempt, mine, number * width + jnp.arange(width, dtype=jnp.int32))
        continued = jax.tree.map(lambda leaf, new: jax.lax.dynamic_update_slice_in_dim(leaf, new, place, 0), pool, done)
        both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), pool, done)
        best = _ranked(open_all(both), plan.n_restarts, plan.spurious)[:pool_size]
        merged = jax.tree.map(lambda leaf: leaf[best], both)
        ends: _Run = open_all(done)
        return pytree.where(last, continued, merged), (ends.fit.log_likelihood, ends.fit.status, ends.regular)

    packed, ends = jax.lax.scan(step, pool, jnp.arange(n_rounds + n_last, dtype=jnp.int32))
    finalists: _Run = open_all(packed)
    first = _ranked(finalists, plan.n_restarts, plan.spurious)[0]
    winner: _Run = jax.tree.map(lambda leaf: leaf[first], finalists)
    everyone = [leaf.reshape(-1)[: n_rounds * width] for leaf in ends]
    kept = finalists.fit.log_likelihood, finalists.fit.status, finalists.regular
    log_likelihood, status, regular = (
        leaf.at[finalists.start].set(own, mode="drop")[: plan.n_restarts]
        for leaf, own in zip(everyone, kept, strict=True)
    )
    finished = jnp.full((plan.n_restarts,), at_once).at[finalists.start].set(True, mode="drop")
    size = block_size_or_default(plan.block_size, winner.fit.mixture, rows)
    mixture = at_fixed_point(winner.fit.mixture, *given, size)
    log_likelihood_of_best, reached = values_of(winner.fit.objective, winner.fit.mixture, mixture, given[0], given[2])
    best = FitResult(
        mixture=mixture,
        log_likelihood=log_likelihood_of_best,
        objective=reached,
        n_iter=winner.fit.n_iter,
        status=winner.fit.status,
        history=winner.fit.history,
        degenerate_components=winner.fit.degenerate_components,
        remaining=winner.fit.remaining,
    )
    return Restarts(best, log_likelihood, status, regular, finished, winner.start)


def merged(parts: Sequence[Restarts], spurious: bool) -> Restarts:
    """Several calls for one mixture as one, of so many more starts; the best of the first of equals."""
    if len(parts) == 1:
        return parts[0]
    parts = jax.device_get(list(parts))

    def place(part: Restarts) -> tuple[bool, bool, float]:
        fine = part.best.status != Status.NON_FINITE and np.isfinite(part.best.objective)
        return bool(fine), bool(part.regular[part.winner] or spurious), float(part.best.objective) if fine else -np.inf

    first = max(range(len(parts)), key=lambda number: place(parts[number]))
    before = sum(part.status.size for part in parts[:first])
    names = ("log_likelihood", "status", "regular", "finished")
    ends: Any = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    winner: Any = np.asarray(before + parts[first].winner, parts[first].winner.dtype)
    return jax.device_put(Restarts(best=parts[first].best, winner=winner, **ends))


def _suitable(form: Form, n_components: int, n_columns: int) -> tuple[str, ...]:
    """The default methods, but for those that whiten where components do without a matrix of columns by columns."""
    column = jax.ShapeDtypeStruct((n_columns,), jnp.float32)
    blank = jax.eval_shape(functools.partial(form.blank, n_components), column, column)
    return tuple(name for name in METHODS if blank.whitens or not SEEDINGS[name].whitens)


def _over(function: Callable[..., Any], *given: Any) -> Any:
    """`function` over the leading axis, side by side; alone where there is one only, whose branches then stay such."""
    if jax.tree.leaves(given)[0].shape[0] > 1:
        return jax.vmap(function)(*given)
    alone = function(*jax.tree.map(lambda leaf: leaf[0], given))
    return jax.tree.map(lambda leaf: leaf[None], alone)


def _ranked(runs: _Run, n_restarts: int, spurious: Bool[Array, ""]) -> Int[Array, " r"]:
    """Places of the runs, the best first: regular ones by what they reached, the others, failed ones, and no runs."""
    fine = jnp.isfinite(runs.fit.objective) & (runs.fit.status != Status.NON_FINITE)
    value = jnp.where(fine, runs.fit.objective, -jnp.inf)
    return jnp.lexsort((-value, ~(runs.regular | spurious), ~fine, runs.start >= n_restarts))


def _is_regular(mixture: Mixture, columns: Columns, factor: Float[Array, "d d"]) -> Bool[Array, " k"]:
    """Which components have either enough rows or some width in every direction."""
    flat = mixture.components.flat(columns.scale, factor, _FLAT)
    counts = mixture.weights * jnp.sum(columns.weights > 0)
    few = ~(counts > HANDFUL * (mixture.components.defined_by + 1))
    return ~mixture.components.among_clusters(flat & few & (mixture.log_weights > -jnp.inf))
