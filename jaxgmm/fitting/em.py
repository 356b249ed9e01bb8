"""The one EM loop, cut at the pass over the rows: what is proposed, and what its statistics make of it."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.fitting.acceleration import (
    Memory,
    Outlook,
    Place,
    Scheme,
    coordinates,
    look_ahead,
    mixture_at,
    scheme_of,
)
from jaxgmm.fitting.implicit import at_fixed_point, values_of
from jaxgmm.fitting.loop import Loop, Take
from jaxgmm.fitting.result import FitResult, Status
from jaxgmm.ground import checks, pytree
from jaxgmm.ground.programs import program
from jaxgmm.ground.pytree import Leaf, Packed, record, static
from jaxgmm.ground.rows import Evidence
from jaxgmm.model.mixture import Mixture, check_rows, present_clusters
from jaxgmm.model.objective import Objective, objective_of, within_data
from jaxgmm.model.passes import of_passes
from jaxgmm.model.scale import floor_of, scale_from
from jaxgmm.model.statistics import Statistics
from jaxgmm.model.steps import block_size_or_default, maximize, take_statistics


def fit(
    mixture: Mixture,
    x: Any,
    weights: Any = None,
    *,
    tol: Any = 1e-6,
    max_iter: Any = 1000,
    regularization: Any = 1e-6,
    scale: Any = None,
    objective: Any = None,
    acceleration: str | None = "anderson",
    history_size: int = 128,
    block_size: int | None = None,
) -> FitResult:
    """Maximum likelihood by expectation-maximisation, from `mixture` to a stationary point.

    Args:
        mixture: where to start, from `init`, `from_parameters` or an earlier fit.
        x: rows (n, d).
        weights: weight of each row (n,), not negative, in any scale; 0 means the row is absent. Default ones.
        tol: stop when the log-likelihood still to be gained, per unit weight, is estimated to be no more than this.
            Below the resolution of the dtype, 0 included, the fit goes on until rounding hides any gain.
        max_iter: stop after this many steps, those that were tried and not taken included. Each is one pass over the
            rows.
        regularization: floor under every covariance, relative to the square of the scale of each column. A covariance
            above the floor is not changed by it.
        scale: of each column (d,). Default `scale_of(x, weights)`; give that of all rows where these are some of them,
            or one that is known already.
        objective: what the fit climbs, the likelihood unless another is given, such as `Posterior()`.
        acceleration: "anderson" extrapolates from the latest steps of EM, which saves most of them where components
            overlap; None takes every step as EM gives it. The points where a fit may rest are the same. Static.
        history_size: length of the result's `history`. Static.
        block_size: rows taken at a time, as in `e_step`. Static.

    The fitted mixture and its log-likelihood are differentiable in `x`, `weights`, `regularization`, `scale` and the
    numbers of the `objective`, forward and reverse, as the point where a converged fit comes to rest. The start
    `mixture` has no influence on that point, and `history` no derivative.

    What is climbed never falls: an extrapolation that would lower it is not taken, and a step of EM is tried instead;
    where even that one would, as rounding can at the very end, the fit is over. Only the first step may lower it, where
    the starting mixture lies below the floor. Nothing recompiles when the values of traced arguments (all but the
    static ones) change.

    How much is still to be gained follows from the length of the EM step and from how fast such steps get shorter,
    `|f|^2 / (2 (1 - rate))` in units of the Fisher information. A start near a saddle, where steps get longer, is not
    taken for an end. In float32 a saddle that a fit is led to may be: rounding hides the way down from it.

    Returns:
        A `FitResult`. Failures the data cause are told by its `status`.

    Raises:
        TypeError, ValueError: arguments of the wrong kind, shape or sign, or, outside `jit`, NaN or inf in `x`.

    Sources: Dempster, Laird & Rubin (1977), JRSS B 39; Henderson & Varadhan (2019), J. Comput. Graph. Stat. 28, for
    monotone acceleration of EM.

    >>> import jax, jaxgmm
    >>> x = jax.random.normal(jax.random.key(0), (500, 2))
    >>> result = jaxgmm.fit(jaxgmm.init(jax.random.key(1), x, 2, "tied"), x)
    >>> jaxgmm.Status(int(result.status)).name
    'CONVERGED'
    """
    mixture, rows = check_rows(mixture, x, weights, scored=False)
    dtype = rows.x.dtype
    with rows.on_devices():
        scale = scale_from(rows) if scale is None else checks.scale(scale, mixture.n_columns, dtype)
        climbed = objective_of(objective, mixture.n_components, mixture.n_columns, dtype)
        rows = climbed.rows_of(rows)
        return _fit(
            mixture,
            rows,
            checks.scalar("tol", tol, dtype),
            checks.steps("max_iter", max_iter),
            checks.scalar("regularization", regularization, dtype),
            scale,
            within_data(climbed, rows, scale, present_clusters(mixture)),
            scheme=scheme_of(acceleration),
            history_size=checks.count("history_size", history_size),
            block_size=block_size_or_default(block_size, mixture, rows),
        )


@record
class Point:
    """A mixture and what the rows say about it.

    Fields: `mixture`; `value` (), of the objective, counted from `reference` (), a log-density, for each unit of
    weight; `counts` (k,), weight of the rows of each component; `degenerate` (k,), those that the way there left so;
    `step`, where EM leads from here, and `step_degenerate` (k,), which components that leaves so; `place`, of both.
    """

    mixture: Mixture
    value: Leaf
    counts: Leaf
    reference: Leaf
    degenerate: Leaf
    step: Mixture
    step_degenerate: Leaf
    place: Place

    @property
    def finite(self) -> Bool[Array, ""]:
        """Whether the fit may go there."""
        # -inf is where what cannot be negative is 0.
        return jnp.all(self.place.mixture < jnp.inf) & jnp.isfinite(self.value)

    @property
    def absent(self) -> Bool[Array, " k"]:
        """Components without weight after the step."""
        return self.step.log_weights == -jnp.inf

    @property
    def floor_binds(self) -> Bool[Array, ""]:
        """Whether the floor binds the step."""
        return jnp.any(self.step_degenerate & ~self.absent)


@record
class State:
    """Where a fit stands: all that the next step needs, and the history. A pytree, so that it can be kept.

    Fields: `point` and `ahead`, a `Point` and what lies ahead of it, packed, as a loop moves one vector by one
    operation; `n_iter` (), -1 before the first pass, at the start itself; `status` (), a code of `Status`, `RUNNING`
    until the fit is over; `history` (h,).
    """

    point: Packed
    ahead: Packed  # Memory, Outlook, and whether the latest step was turned down
    n_iter: Leaf
    status: Leaf
    history: Leaf

    @property
    def opened(self) -> "_Opened":
        """Unpacked."""
        memory, outlook, turned_down = self.ahead.tree
        return _Opened(self.point.tree, memory, outlook, turned_down, self.n_iter < 0, self.n_iter == 0)


@record
class _Opened:
    here: Point
    memory: Memory
    outlook: Outlook
    turned_down: Leaf
    arrives: Leaf  # at the start
    first: Leaf


@record
class Proposal:
    """Where to look next.

    Fields: `mixture`, whose statistics are asked for, with log-densities counted from `reference` (); `free` (p,), its
    free coordinates; `degenerate` (k,), components that the way there leaves so; `leaps` (), whether it is no step of
    EM.
    """

    mixture: Mixture
    free: Leaf
    degenerate: Leaf
    leaps: Leaf
    reference: Leaf


@record
class Climb(Loop):
    """The loop of `fit`: steps of EM and leaps along them, never down, until little is left to be gained.

    Fields: `objective`, in units of `unit` (), by which the weights of the rows were divided; `total` (), what they add
    up to after it; `floor` (d,), least variances; `tol`, `max_iter`, as for `fit`; `scheme`, static.
    """

    objective: Objective
    floor: Leaf
    unit: Leaf
    total: Leaf
    tol: Leaf
    max_iter: Leaf
    scheme: Scheme = static()

    def start(self, mixture: Mixture, history_size: int) -> State:
        """Before the first pass, which takes the statistics of `mixture` itself and is one like any other."""
        dtype = mixture.log_weights.dtype
        nobody, nowhere = jnp.zeros_like(mixture.log_weights), jnp.zeros(mixture.log_weights.shape, bool)
        nothing, place = jnp.zeros((), dtype), Place.unmoved(mixture)
        return State(
            point=Packed.of(Point(mixture, nothing, nobody, nothing, nowhere, mixture, nowhere, place)),
            ahead=Packed.of((Memory.blank(place.mixture), Outlook.blank(place.mixture), jnp.asarray(False))),
            n_iter=jnp.asarray(-1, jnp.int32),
            status=jnp.asarray(Status.RUNNING, jnp.int32),
            history=jnp.full((history_size,), jnp.nan, dtype),
        )

    def unfinished(self, state: State) -> Bool[Array, ""]:
        return state.status == Status.RUNNING

    def propose(self, state: State) -> Proposal:
        return self._propose(state.opened)

    def accept(self, state: State, proposal: Proposal, statistics: Statistics) -> State:
        return self._accept(state, state.opened, proposal, statistics)

    def step(self, state: State, take: Take) -> State:
        # A state is opened once for both.
        opened = state.opened
        proposal = self._propose(opened)
        return self._accept(state, opened, proposal, take(proposal.mixture, proposal.reference))

    def reached(self, point: Point) -> Float[Array, ""]:
        """The value of the objective there, in the weights that the rows had."""
        return self.unit * (self.total * point.reference + point.value)

    def result(self, end: State, start: Mixture, average: Float[Array, ""]) -> FitResult:
        """Where a loop from `start` has come to, of rows of `average` weight; log-likelihood is what was climbed."""
        opened = end.opened
        point = opened.here
        # A component that was absent from the start is no part of the model.
        alone = jnp.zeros_like(point.degenerate) if self.objective.sustains else ~(point.counts >= average)
        if (whole := self.objective.given) is not None:
            alone = alone & ~whole
        alone = start.components.among_clusters(alone)
        degenerate = (point.degenerate | alone) & (start.log_weights > -jnp.inf)
        fine = end.status != Status.NON_FINITE
        reached = self.reached(point)
        return FitResult(
            mixture=point.mixture,
            log_likelihood=reached,
            objective=reached,
            n_iter=end.n_iter,
            status=jnp.where(fine & jnp.any(degenerate), Status.DEGENERATE, end.status),
            history=end.history,
            degenerate_components=degenerate,
            # NaN where the step from there is not finite.
            remaining=jnp.where(opened.outlook.remaining >= 0, opened.outlook.remaining, jnp.inf),
        )

    def _propose(self, opened: _Opened) -> Proposal:
        here = opened.here
        proposal = here.step, here.place.step, here.step_degenerate
        leaps = jnp.asarray(False)
        if self.scheme.leaps:
            outlook = opened.outlook
            # The floor binds the M-step, not a leap: near it, only steps of EM are safe.
            leaps = outlook.worthwhile & ~opened.turned_down & ~here.floor_binds
            ahead, free = mixture_at(outlook.leap, here.step)
            placed = self.objective.placed(ahead)
            if placed.components.leaps_are_floored:
                components, _ = placed.components.floored(self.floor, placed.log_weights > -jnp.inf)
                placed = dataclasses.replace(placed, components=components)
            free = free if placed is ahead else coordinates(placed)
            proposal = pytree.where(leaps, (placed, free, here.absent), proposal)
        # Log-densities are counted from their mean before the step. So the sums that a gain is the difference of are
        # small, and it is resolved far below the rounding of the log-likelihood itself. Not from far below, where the
        # first step may have fallen to: they would all be rounded to its size.
        before = here.reference + here.value / self.total
        reference = jnp.where(opened.first, before, jnp.maximum(before, here.reference))
        return Proposal(*proposal, leaps, reference)

    def _accept(self, state: State, opened: _Opened, proposal: Proposal, statistics: Statistics) -> State:
        here, memory, outlook = opened.here, opened.memory, opened.outlook
        arrives, first, leaps = opened.arrives, opened.first, proposal.leaps
        there = self._seen(proposal, statistics)
        # Per unit weight.
        gain = there.reference - here.reference + (there.value - here.value) / self.total
        # Near a saddle steps of EM get longer, and rounding may hide what they gain: that is no end.
        hidden = ~arrives & ~leaps & (jnp.abs(gain) <= jnp.finfo(gain.dtype).eps * (1 + jnp.abs(here.reference)))
        longer = there.place.length > jnp.maximum(here.place.length, here.place.noise)
        growing = hidden & jnp.isinf(outlook.remaining) & longer
        uphill = (gain >= 0) | first | growing
        taken = arrives | (there.finite & jnp.where(leaps, (gain > 0) & ~there.floor_binds, uphill))
        packed = pytree.where(taken, Packed.of(there), state.point)
        point: Point = packed.tree
        memory = memory.judged(leaps, taken, outlook.least)
        extended = memory.extended(here.place, there.place, gain)
        memory = pytree.where(taken & (gain > 0) & ~arrives, extended, memory)
        outlook = look_ahead(memory, point.place)
        n_iter = state.n_iter + 1
        settled = taken & (outlook.remaining <= self.tol)
        nothing_gained = ~leaps & ~(gain > 0) & ~(first & (gain < 0)) & ~arrives & ~growing
        status = jnp.select(
            [~leaps & ~there.finite, settled | nothing_gained, n_iter >= self.max_iter],
            [Status.NON_FINITE, Status.CONVERGED, Status.MAX_ITER],
            Status.RUNNING,
        )
        last = state.history.size - 1
        # The total rounds more coarsely than the gain, which must not make the history look as if it fell.
        latest = jnp.where(arrives | first, -jnp.inf, state.history[jnp.minimum(state.n_iter, last)])
        value = jnp.maximum(self.reached(point), latest)
        return State(
            point=packed,
            ahead=Packed.of((memory, outlook, ~taken)),
            n_iter=n_iter,
            status=status.astype(jnp.int32),
            history=jax.lax.dynamic_update_index_in_dim(state.history, value, jnp.minimum(n_iter, last), 0),
        )

    def _seen(self, proposal: Proposal, statistics: Statistics) -> Point:
        """The mixture proposed, with what the M-step makes of its statistics."""
        mixture = proposal.mixture
        step, left = maximize(mixture, statistics, self.floor, self.objective)
        penalty = self.objective.penalty(mixture)
        return Point(
            mixture=mixture,
            value=statistics.log_likelihood if penalty is None else statistics.log_likelihood + penalty,
            counts=statistics.counts,
            reference=proposal.reference,
            degenerate=proposal.degenerate,
            step=step,
            step_degenerate=left,
            place=Place.of(proposal.free, mixture, step),
        )


@program(static=("scheme", "history_size", "block_size"), work=of_passes(30))
def _fit(
    mixture: Mixture,
    rows: Evidence,
    tol: Float[Array, ""],
    max_iter: Int[Array, ""],
    regularization: Float[Array, ""],
    scale: Float[Array, " d"],
    objective: Objective,
    *,
    scheme: Scheme,
    history_size: int,
    block_size: int,
) -> FitResult:
    # In units of the largest weight, so that sums neither over- nor underflow whatever scale the weights have. Where
    # all are 0 there is nothing to fit: NaN, as after any failure, and not the log-likelihood 0 of no rows.
    unit = jax.lax.stop_gradient(jnp.max(rows.weights))
    unit = jnp.where(unit > 0, unit, jnp.nan)
    blocks = rows.divided(unit).in_blocks(block_size)
    floor = floor_of(scale, regularization)
    given = rows, floor, objective
    # The loop is not differentiated: derivatives are those of the point where it ends.
    fixed = jax.lax.stop_gradient((mixture, tol, unit, blocks, floor, objective))
    mixture, tol, unit, blocks, floor, climbed = fixed
    weights = blocks.weights
    total = jnp.maximum(jnp.sum(weights), jnp.finfo(weights.dtype).tiny)
    climb = Climb(climbed.over(unit).counting(total), floor, unit, total, tol, max_iter, scheme)
    end = climb.run(
        climb.start(climb.objective.placed(mixture), history_size),
        lambda mixture, reference: take_statistics(climb.objective.read_by(mixture), blocks, reference),
    )
    average = jnp.sum(weights) / jnp.maximum(jnp.sum(weights > 0), 1)
    result = climb.result(end, mixture, average)
    fitted = at_fixed_point(result.mixture, *given, block_size)
    log_likelihood, reached = values_of(result.objective, result.mixture, fitted, rows, objective)
    return dataclasses.replace(result, mixture=fitted, log_likelihood=log_likelihood, objective=reached)
