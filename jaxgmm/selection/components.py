"""The number of components of one form, chosen inside a program: by masks, without a loop over shapes."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.families.table import form_of
from jaxgmm.fitting.em import fit
from jaxgmm.fitting.implicit import at_fixed_point, values_of
from jaxgmm.fitting.result import FitResult, Status
from jaxgmm.ground import checks, known
from jaxgmm.ground.programs import program
from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.ground.rows import Evidence
from jaxgmm.model.objective import Objective, within_data
from jaxgmm.model.scale import floor_of, scale_from
from jaxgmm.model.steps import block_size_or_default
from jaxgmm.selection.criteria import aic_of, aicc_of, bic_of, completed_log_likelihood, criterion_of, evidence_of
from jaxgmm.selection.restarts import Plan, best_of_restarts

CRITERIA = ("aic", "aicc", "bic", "icl", "evidence")
# A fit goes on that is no further behind than so many times what it is estimated to gain.
_HOPE = 2


@record
class ComponentSelection:
    """Every number of components that was tried, and the fit of the one that the criterion prefers.

    Fields:
        n_components: (m,), what was tried.
        n_parameters: (m,), free parameters.
        log_likelihood: (m,), total, of the best fit with so many components.
        criterion: (m,), lower is better; infinite where no fit has a finite likelihood. Of those that could not become
            the best, as it is at `screening_tol`.
        status: (m,), a code of `Status` for each.
        regular: (m,), whether the best fit is without spurious components. Others are not chosen.
        passed_over: (m,), how much higher, at least, the log-likelihood was of a fit with a spurious component that
            some start led to; 0 if none was higher.
        chosen: (), which of them the criterion prefers among those with a regular fit, if there are any.
        best: its fit, as `fit` returns it, with room for the largest number.
        scale: (d,), of each column, as `scale_of` gives it; the floors of all fits are relative to it.
    """

    n_components: Leaf
    n_parameters: Leaf
    log_likelihood: Leaf
    criterion: Leaf
    status: Leaf
    regular: Leaf
    passed_over: Leaf
    chosen: Leaf
    best: FitResult
    scale: Leaf


@record
class _Tried:
    """One number of components."""

    n_parameters: Leaf
    log_likelihood: Leaf
    criterion: Leaf
    status: Leaf
    regular: Leaf
    passed_over: Leaf
    best: FitResult


def select_components(
    key: jax.Array,
    x: Any,
    n_components: Any,
    form: Any = "full",
    *,
    max_components: int | None = None,
    criterion: str = "bic",
    weights: Any = None,
    n_restarts: int = 40,
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
) -> ComponentSelection:
    """The best number of components of one form by a criterion, as a pure function: under `jit` and `vmap` as well.

    What `select` does beyond it looks at values, and so needs them: it sets rows aside that stand alone, leaves
    constant columns out, gives candidates up on the way, evaluates criteria in float64 and compares forms. Mixtures of
    different forms are different types, so inside a program call this once for each, and compare the numbers in
    `criterion`; what is done with the winner goes into the branches of `jax.lax.switch`, or into `jnp.where`.

    Args:
        key: what is drawn is drawn with this key.
        x: rows (n, d).
        n_components: numbers of components to try (m,), which may be traced. 0 is none: it is not fitted.
        max_components: the largest of them; must be given where they are traced. Static.
        criterion: "aic", "aicc", "bic" or "icl"; or "evidence", where the objective is `Variational`. Static.
        weights: of the rows (n,); they count rows. Default ones.
        n_restarts: starts of each number of components. Static.
        screening_tol: `tol` up to which all are fitted; what may then be the best goes on to `tol`.

    All others are as for `fit_restarts`.

    Raises:
        TypeError, ValueError: as for `fit_restarts`, or an unknown criterion.

    >>> import jax, jaxgmm
    >>> xs = jax.random.normal(jax.random.key(0), (2, 100, 1)).at[0, :50].add(8.0)
    >>> def best(x):
    ...     found = jaxgmm.select_components(jax.random.key(1), x, [1, 2, 3], "spherical", n_restarts=4)
    ...     return found.n_components[found.chosen]
    >>> jax.jit(jax.vmap(best))(xs).tolist()
    [2, 1]
    """
    rows = known.evidence(x, weights)
    ks, most = _counts(n_components, max_components)
    made_of = form_of(form)
    made_of.check(rows)
    behind = made_of.n_background
    rows = known.of_components(rows, np.ones(most + behind, bool))
    if not isinstance(ks, jax.core.Tracer):
        known.check_sizes(rows.log_evidence, rows.classes, np.asarray(ks).tolist(), "select_components", behind)
    plan = Plan.of(
        rows.x.dtype,
        (most, rows.x.shape[1]),
        form,
        n_restarts=n_restarts,
        n_finalists=n_restarts,
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
    criterion = criterion_of(criterion, CRITERIA, objective)
    with rows.on_devices():
        return best_of_components(plan, checks.key(key), rows, ks, most=most, criterion=criterion)


@program(
    static=("most", "criterion"),
    work=lambda plan, key, rows, ks, *, most, criterion: 20 * plan.n_restarts * ks.size * most * rows.numbers,
)
def best_of_components(
    plan: Plan, key: jax.Array, rows: Evidence, ks: Int[Array, " m"], *, most: int, criterion: str
) -> ComponentSelection:
    """`select_components` by a plan, with room for the largest number."""
    rows = plan.objective.rows_of(rows)
    scale = scale_from(rows) if plan.scale is None else plan.scale
    whole, regularization, climbed = rows, plan.regularization, plan.objective
    # The runs are not differentiated: derivatives are those of the point where the winner ends.
    plan, rows, key, fixed = jax.lax.stop_gradient((plan, rows, key, scale))
    plan = dataclasses.replace(plan, scale=fixed)
    screened = dataclasses.replace(plan, tol=jnp.maximum(plan.tol, plan.screening_tol), n_finalists=plan.n_restarts)
    total = jnp.sum(rows.counted)

    def climbed_by(k: Int[Array, ""]) -> Objective:
        return within_data(plan.objective, rows, plan.scale, jnp.arange(most) < k)

    def tried_of(best: FitResult, regular: Bool[Array, ""], higher: Float[Array, ""], k: Int[Array, ""]) -> _Tried:
        objective = climbed_by(k).counting(jnp.sum(rows.weights))
        return _tried(best, regular, higher, rows, total, criterion, objective)

    def started(k: Int[Array, ""]) -> _Tried:
        found = best_of_restarts(screened, jax.random.fold_in(key, k), rows, jnp.arange(most) < k)
        spurious = ~found.regular & (found.status != Status.NON_FINITE) & jnp.isfinite(found.log_likelihood)
        higher = jnp.max(jnp.where(spurious, found.log_likelihood, -jnp.inf))
        return tried_of(found.best, found.regular[found.winner], higher, k)

    shapes = jax.eval_shape(started, ks[0])

    def blank(k: Int[Array, ""]) -> _Tried:
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return dataclasses.replace(nothing, criterion=jnp.full_like(nothing.criterion, jnp.inf))

    tried = jax.lax.map(lambda k: jax.lax.cond(k > 0, started, blank, k), ks)

    def order(tried: _Tried) -> Int[Array, " m"]:
        """The best first."""
        keys = tried.criterion, ~(tried.regular | plan.spurious), ~jnp.isfinite(tried.criterion)
        return jnp.lexsort(keys).astype(jnp.int32)

    ranked = order(tried)
    hopeful = _n_hopeful(
        tried.criterion[ranked], (tried.regular | plan.spurious)[ranked], _HOPE * 2 * total * screened.tol
    )

    def further(number: Int[Array, ""], tried: _Tried) -> _Tried:
        place = ranked[number]
        before = jax.tree.map(lambda leaf: leaf[place], tried)
        after = fit(
            before.best.mixture,
            rows,
            tol=plan.tol,
            max_iter=plan.max_iter,
            regularization=plan.regularization,
            scale=plan.scale,
            objective=climbed_by(ks[place]),
            acceleration=plan.acceleration,
            history_size=plan.history_size,
            block_size=plan.block_size,
        )
        after = dataclasses.replace(after, n_iter=before.best.n_iter + after.n_iter)
        sound = (after.status != Status.NON_FINITE) & (after.status != Status.DEGENERATE)
        higher = before.log_likelihood + before.passed_over
        now = tried_of(after, before.regular & sound, higher, ks[place])
        return jax.tree.map(lambda leaf, new: leaf.at[place].set(new), tried, now)

    tried = jax.lax.fori_loop(0, hopeful, further, tried)
    chosen = order(tried)[0]
    best: FitResult = jax.tree.map(lambda leaf: leaf[chosen], tried.best)
    size = block_size_or_default(plan.block_size, best.mixture, rows)
    climbed = within_data(climbed, whole, scale, jnp.arange(most) < ks[chosen])
    given = whole, floor_of(scale, regularization), climbed
    mixture = at_fixed_point(best.mixture, *given, size)
    log_likelihood, reached = values_of(best.objective, best.mixture, mixture, given[0], given[2])
    best = dataclasses.replace(best, mixture=mixture, log_likelihood=log_likelihood, objective=reached)
    names = ("n_parameters", "log_likelihood", "criterion", "status", "regular", "passed_over")
    return ComponentSelection(
        n_components=ks,
        chosen=chosen,
        best=best,
        scale=scale,
        **{name: getattr(tried, name) for name in names},
    )


def _n_hopeful(criterion: Float[Array, " m"], eligible: Bool[Array, " m"], reach: Float[Array, ""]) -> Int[Array, ""]:
    """How many of the ranked may become the best if each can come down by so much: what is left is an estimate."""
    return jnp.sum((criterion - criterion[0] <= reach) & (eligible == eligible[0]))


def _tried(
    best: FitResult,
    regular: Bool[Array, ""],
    higher: Float[Array, ""],
    rows: Evidence,
    total: Float[Array, ""],
    criterion: str,
    objective: Objective,
) -> _Tried:
    """A fit by the criterion, where one with a spurious component reached a likelihood so much `higher`."""
    p = jnp.asarray(objective.n_parameters(best.mixture), total.dtype)
    value: Float[Array, ""] = {
        "aic": lambda: aic_of(best.log_likelihood, p),
        "aicc": lambda: aicc_of(best.log_likelihood, p, total),
        "bic": lambda: bic_of(best.log_likelihood, p, total),
        "icl": lambda: bic_of(_completed(best, rows), p, total),
        "evidence": lambda: evidence_of(objective, best),
    }[criterion]()
    fine = (best.status != Status.NON_FINITE) & jnp.isfinite(value)
    return _Tried(
        n_parameters=p,
        log_likelihood=best.log_likelihood,
        criterion=jnp.where(fine, value, jnp.inf),
        status=best.status,
        regular=regular,
        passed_over=jnp.where(fine, jnp.maximum(higher - best.log_likelihood, 0), 0),
        best=best,
    )


def _completed(best: FitResult, rows: Evidence) -> Float[Array, ""]:
    size = block_size_or_default(None, best.mixture, rows)
    return completed_log_likelihood(best.mixture, rows, block_size=size)


def _counts(value: Any, limit: int | None) -> tuple[Int[Array, " m"], int]:
    """Numbers of components, from 0, and the largest that there is room for."""
    traced = isinstance(value, jax.core.Tracer)
    ks: Any = value if traced else np.asarray(value)
    if ks.ndim != 1 or ks.size == 0 or not jnp.issubdtype(ks.dtype, jnp.integer):
        raise ValueError(f"n_components is {value!r}; expected whole numbers in a sequence, such as [1, 2, 3].")
    if traced:
        if limit is None:
            raise TypeError("n_components is traced, and the largest number sizes arrays: give max_components.")
        return ks.astype(jnp.int32), checks.count("max_components", limit)
    most = int(ks.max()) if limit is None else checks.count("max_components", limit)
    if ks.min() < 0 or not 1 <= ks.max() <= most:
        raise ValueError(f"n_components is {ks.tolist()}; expected numbers from 0 to {most}, one of them above 0.")
    return jnp.asarray(ks.astype(np.int32)), most
