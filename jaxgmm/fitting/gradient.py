"""Maximum likelihood, or any other loss, by an optimiser of optax in free coordinates."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.fitting.acceleration import Memory, Place, look_ahead
from jaxgmm.fitting.coordinates import Coordinates, information_of
from jaxgmm.fitting.optimiser import Optimizer, Rule
from jaxgmm.fitting.result import FitResult, Status
from jaxgmm.ground import checks, pytree
from jaxgmm.ground.programs import program
from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.ground.rows import Evidence
from jaxgmm.model.free import Named, named
from jaxgmm.model.init import standard
from jaxgmm.model.mixture import Mixture, check_rows, present_clusters
from jaxgmm.model.objective import Objective, objective_of, within_data
from jaxgmm.model.scale import floor_of
from jaxgmm.model.steps import block_size_or_default, log_likelihood, take_statistics

Loss = Callable[[Mixture, Evidence], Float[Array, ""]]

# A loss that is not EM's need not have moved along the directions in which it falls slowly: so many looks in a row must
# find that little is left.
_LOOKS = 5
# A component this close to the covariance floor, as a factor, is held by it: optimisers waver.
_CLOSE_TO_THE_FLOOR = 1.1


@record
class GradientState:
    """Where a gradient fit stands, so that another call can go on.

    Fields: `coordinates`, in which it moves; `position`, numbers there by the names of the parameters; `optimizer`,
    the optimiser's state; `taken` (), steps so far, of all calls.
    """

    coordinates: Coordinates
    position: Named
    optimizer: Any
    taken: Leaf


@record
class GradientResult(FitResult):
    """A `FitResult` from `fit_gradient`, from which another call can go on.

    Fields beside those of `FitResult`: `state`, a `GradientState`. `history` (h,) has minus the loss times the total
    weight, which is the objective unless another loss was given, and of the rows drawn where there are
    mini-batches; entry i is that after i s steps, for the smallest whole s with which `n_steps` fit. `remaining` is
    how far the loss would still fall, inf where there are mini-batches.
    """

    state: GradientState


def negative_log_likelihood(mixture: Mixture, x: Any, weights: Any = None) -> Float[Array, ""]:
    """Minus the log-likelihood of weighted rows, the loss of `fit_gradient` unless another is given.

    Args:
        mixture: k components over d columns.
        x: rows (n, d), or what `jaxgmm.rows` makes of them.
        weights: weight of each row (n,). Default ones.

    Returns:
        Minus the weighted sum over rows, a scalar in nats.
    """
    return -log_likelihood(mixture, x, weights)


def fit_gradient(
    mixture: Mixture | GradientResult,
    x: Any,
    optimizer: Any,
    *,
    n_steps: Any,
    batch_size: int | None = None,
    key: jax.Array | None = None,
    weights: Any = None,
    loss: Loss = negative_log_likelihood,
    objective: Any = None,
    tol: Any = 1e-6,
    regularization: Any = 1e-6,
    scale: Any = None,
    history_size: int = 128,
    block_size: int | None = None,
) -> GradientResult:
    """Maximum likelihood by gradient steps of an optax optimiser, from `mixture` on.

    `fit` is faster and needs no step size. This is for what EM cannot do: a loss of one's own, mini-batches, a few
    steps of a larger optimisation. Steps are taken in the coordinates of `unconstrain`, counted from the start in
    standard deviations of each parameter as one row of its component tells it. So a learning rate is a share of those,
    whatever the units of the data: 0.01 to 0.1 suit `optax.adam`.

    Args:
        mixture: where to start; or what an earlier call returned, to go on from there as if it had not stopped.
        x: rows (n, d).
        optimizer: an optax optimiser, such as `optax.adam(0.05)`, `optax.lbfgs()` or a chain with schedules and
            clipping. Its parameters are arrays by their names, as in `Free`. Two that compute the same share one
            compilation; for other learning rates to do so too, wrap it in `optax.inject_hyperparams`.
        n_steps: number of steps of the optimiser.
        batch_size: number of rows drawn for each step, uniformly and with replacement. By default every step takes all
            of them. Static.
        key: mini-batches are drawn with this key.
        weights: weight of each row (n,), as for `fit`.
        loss: `loss(mixture, rows)`, a number to be minimised; `rows` is `Evidence`, with `rows.x` and `rows.weights`.
            These sum to one over all rows; those of a mini-batch are such that its loss is right on average.
            `-jaxgmm.log_likelihood(mixture, rows)` is the default, to which a penalty may be added. Another function
            object compiles again. Static.
        objective: as for `fit`; what it adds to the log-likelihood is taken off the loss, whatever that is.
        tol: stop when the loss is estimated to fall by no more than this. With mini-batches only the end is looked at.
        regularization, scale: floor under every covariance as in `fit`; a step that goes below it is held there.
        history_size: length of the result's `history`. Static.
        block_size: rows taken at a time by the likelihood at the end. Static.

    Returns:
        A `GradientResult`, a `FitResult` with a `state`. Its status is `CONVERGED` by `tol`, `MAX_ITER` after
        `n_steps`, `NON_FINITE` where the loss or its gradient was not finite: the mixture is then the last one before.
        It is not differentiable in reverse: let `fit` go on from it, whose result is.

    Raises:
        TypeError, ValueError: arguments of the wrong kind, shape or sign, mini-batches without a key, the state of
            another optimiser, or, outside `jit`, NaN or inf in `x`.

    >>> import jax, jaxgmm, optax
    >>> x = jax.random.normal(jax.random.key(0), (500, 2))
    >>> start = jaxgmm.init(jax.random.key(1), x, 2, "tied")
    >>> result = jaxgmm.fit_gradient(start, x, optax.lbfgs(), n_steps=200)
    >>> jaxgmm.Status(int(result.status)).name
    'CONVERGED'
    """
    state = mixture.state if isinstance(mixture, GradientResult) else None
    start = mixture.mixture if isinstance(mixture, GradientResult) else mixture
    start, rows = check_rows(start, x, weights, scored=False)
    dtype = rows.x.dtype
    if not (callable(getattr(optimizer, "init", None)) and callable(getattr(optimizer, "update", None))):
        raise TypeError(f"optimizer is {optimizer!r}; expected one of optax, such as optax.adam(0.05).")
    if batch_size is not None:
        batch_size = checks.count("batch_size", batch_size)
        if key is None:
            raise ValueError(f"batch_size is {batch_size} and key is None; expected a key to draw mini-batches with.")
    key = None if key is None else checks.key(key)
    held = Optimizer(optimizer)  # for as long as this call traces
    rule = Rule(held, named(start))
    if state is None:
        coordinates = Coordinates.at(start)
        position = coordinates.start
        state = GradientState(coordinates, position, rule.init(position), jnp.asarray(0, jnp.int32))
    else:
        earlier = state.position["log_weights"].dtype
        if earlier != dtype:
            raise ValueError(f"x has dtype {dtype} and the earlier fit {earlier}; expected the same.")
        kinds = (jax.tree.structure(one) for one in (state.optimizer, jax.eval_shape(rule.init, state.position)))
        if len(set(kinds)) > 1:
            raise ValueError("mixture is a result whose state another kind of optimizer left; expected the same kind.")
    scale = checks.scale(scale, start.n_columns, dtype)
    climbed = objective_of(objective, start.n_components, start.n_columns, dtype)
    rows = climbed.rows_of(rows)
    with rows.on_devices():
        return _fit_gradient(
            state,
            rows,
            key,
            checks.steps("n_steps", n_steps),
            checks.scalar("tol", tol, dtype),
            checks.scalar("regularization", regularization, dtype),
            scale,
            within_data(climbed, rows, scale, present_clusters(start)),
            optimizer=rule,
            loss=loss,
            batch_size=batch_size,
            history_size=checks.count("history_size", history_size, 2),
            block_size=block_size_or_default(block_size, start, rows),
        )


@record
class _Task:
    """What stays the same from step to step."""

    coordinates: Coordinates
    rows: Evidence  # of weights that sum to one
    floor: Leaf
    objective: Objective  # over the total weight
    tol: Leaf
    n_steps: Leaf
    key: Any
    taken: Leaf  # steps by earlier calls
    optimizer: Rule = pytree.static()
    loss: Loss = pytree.static()
    batch_size: int | None = pytree.static()

    def sought(self, n_iter: Int[Array, ""]) -> Callable[[Named], Float[Array, ""]]:
        """The loss as a function of the position, on the rows of this step."""
        if self.batch_size is None:
            return self.whole
        n = self.rows.n
        drawn = jax.random.randint(jax.random.fold_in(self.key, self.taken + n_iter), (self.batch_size,), 0, n)
        rows = self.rows.drawn(drawn)
        rows = dataclasses.replace(rows, weights=rows.weights * (n / self.batch_size))
        return lambda position: self.of(position, rows)

    def whole(self, position: Named) -> Float[Array, ""]:
        """The loss on all rows."""
        return self.of(position, self.rows)

    def of(self, position: Named, rows: Evidence) -> Float[Array, ""]:
        """The loss on these rows."""
        mixture = self.objective.placed(self.coordinates.leave(position))
        penalty, loss = self.objective.penalty(mixture), self.loss(self.objective.read_by(mixture), rows)
        return loss if penalty is None else loss - penalty

    def floored(self, position: Named) -> tuple[Named, Bool[Array, ""]]:
        """The position, moved to where no covariance is below the floor, and whether it had to be."""
        mixture = self.coordinates.leave(position)
        present = self.coordinates.present
        components, held = mixture.components.floored(self.floor, present)
        moved = jnp.any(held)
        above = self.coordinates.enter(dataclasses.replace(mixture, components=components))
        return pytree.where(moved, above, position), moved

    def place(self, position: Named, gradient: Named) -> Place:
        """Where that is, with the step that is the gradient in the metric of the Fisher information."""
        mixture = self.coordinates.leave(position)
        information = information_of(mixture, mixture.weights)
        metric = jax.tree.map(lambda leaf, unit: leaf * unit**2, information, self.coordinates.unit)
        step = jax.tree.map(lambda slope, size: -slope / jnp.where(size > 0, size, jnp.inf), gradient, metric)
        return Place(*(ravel_pytree(one)[0] for one in (position, jax.tree.map(jnp.add, position, step), metric)))


@record
class _State:
    position: Named
    before: Named  # the latest step
    optimizer: Any
    place: Place
    memory: Memory
    remaining: Leaf  # to be gained, by the latest look
    settled: Leaf  # looks in a row that found no more than tol left
    n_iter: Leaf
    status: Leaf
    history: Leaf


@program(static=("optimizer", "loss", "batch_size", "history_size", "block_size"))
def _fit_gradient(
    start: GradientState,
    rows: Evidence,
    key: Any,
    n_steps: Int[Array, ""],
    tol: Float[Array, ""],
    regularization: Float[Array, ""],
    scale: Float[Array, " d"] | None,
    objective: Objective,
    *,
    optimizer: Rule,
    loss: Loss,
    batch_size: int | None,
    history_size: int,
    block_size: int,
) -> GradientResult:
    # In units of the largest weight, so that sums neither over- nor underflow whatever scale the weights have. Where
    # all are 0 there is nothing to fit: NaN, as after any failure, and not the log-likelihood 0 of no rows.
    dtype = rows.x.dtype
    unit = jnp.max(rows.weights)
    unit = jnp.where(unit > 0, unit, jnp.nan)
    rows = rows.divided(unit)
    weights = rows.weights
    total = jnp.maximum(jnp.sum(weights), jnp.finfo(dtype).tiny)
    gapless, columns = standard(rows, scale)
    floor = floor_of(columns.scale, regularization)
    whole = jnp.where(weights[:, None] > 0, rows.x, gapless.x)
    task = _Task(
        start.coordinates,
        dataclasses.replace(rows, x=whole, weights=weights / total),
        floor,
        objective.over(unit * total).counting(jnp.ones((), dtype)),
        tol,
        n_steps,
        key,
        start.taken,
        optimizer,
        loss,
        batch_size,
    )
    nowhere = jax.tree.map(jnp.zeros_like, start.position)
    state = _State(
        position=start.position,
        before=start.position,
        optimizer=start.optimizer,
        place=task.place(start.position, nowhere),
        memory=Memory.blank(ravel_pytree(start.position)[0]),
        remaining=jnp.asarray(jnp.inf, dtype),
        settled=jnp.asarray(0, jnp.int32),
        n_iter=jnp.asarray(0, jnp.int32),
        status=jnp.asarray(Status.RUNNING, jnp.int32),
        history=jnp.full((history_size,), jnp.nan, dtype),
    )
    end = jax.lax.while_loop(
        lambda state: state.status == Status.RUNNING, functools.partial(_advance, task, unit * total), state
    )
    mixture = objective.placed(start.coordinates.leave(end.position))
    statistics = take_statistics(mixture, rows.in_blocks(block_size))
    average = jnp.sum(weights) / jnp.maximum(jnp.sum(weights > 0), 1)
    present = start.coordinates.present
    held = mixture.components.floored(_CLOSE_TO_THE_FLOOR * floor, present)[1]
    alone = jnp.zeros_like(held) if objective.sustains else ~(statistics.counts >= average)
    degenerate = mixture.components.among_clusters(held | alone) & present
    if (given := objective.given) is not None:
        degenerate = degenerate & ~given
    status = end.status
    if batch_size is not None:
        change = task.place(end.position, jax.grad(task.whole)(end.position))
        settled = jnp.sum(change.metric * change.change**2) / 2 <= tol
        status = jnp.where((status == Status.MAX_ITER) & settled, Status.CONVERGED, status)
    fine = (status != Status.NON_FINITE) & jnp.isfinite(statistics.log_likelihood)
    status = jnp.where(fine, jnp.where(jnp.any(degenerate), Status.DEGENERATE, status), Status.NON_FINITE)
    objective = objective.counting(unit * total)
    penalty, reader = objective.penalty(mixture), objective.read_by(mixture)
    log_likelihood = reached = unit * statistics.log_likelihood
    if reader is not mixture:
        reached = unit * take_statistics(reader, rows.in_blocks(block_size)).log_likelihood
    return GradientResult(
        mixture=mixture,
        log_likelihood=log_likelihood,
        objective=reached if penalty is None else reached + penalty,
        n_iter=end.n_iter,
        status=status.astype(jnp.int32),
        history=end.history,
        degenerate_components=degenerate,
        remaining=jnp.where(end.remaining >= 0, end.remaining, jnp.inf),
        state=GradientState(start.coordinates, end.position, end.optimizer, start.taken + end.n_iter),
    )


def _advance(task: _Task, total: Float[Array, ""], state: _State) -> _State:
    """Look at the loss here, and take a step unless that is the end."""
    import optax

    sought, n_iter = task.sought(state.n_iter), state.n_iter
    value, gradient = _value_and_gradient(sought, state, reuse=task.batch_size is None)
    fine = jnp.isfinite(value) & jnp.all(jnp.isfinite(ravel_pytree(gradient)[0]))
    place, memory, remaining, settled = state.place, state.memory, state.remaining, state.settled
    if task.batch_size is None:
        place = task.place(state.position, gradient)
        memory = pytree.where(n_iter > 0, memory.extended(state.place, place), memory)
        # Only what is left to gain is of use here: where to step is the optimiser's business.
        remaining = look_ahead(memory, place).remaining
        settled = jnp.where(remaining <= task.tol, settled + 1, 0)
    status = jnp.select(
        [~fine, settled >= _LOOKS, n_iter >= task.n_steps],
        [Status.NON_FINITE, Status.CONVERGED, Status.MAX_ITER],
        Status.RUNNING,
    ).astype(jnp.int32)

    def step() -> tuple[Named, Any]:
        changes, optimizer = task.optimizer.update(
            gradient, state.optimizer, state.position, value=value, grad=gradient, value_fn=sought
        )
        position, moved = task.floored(optax.apply_updates(state.position, changes))
        if _keeps_value(optimizer):
            # What a line search found out where the step led to does not hold where it is held.
            kept = optax.tree.get(optimizer, "value")
            optimizer = optax.tree.set(optimizer, value=jnp.where(moved, jnp.inf, kept))
        return position, optimizer

    position, optimizer = jax.lax.cond(
        status == Status.RUNNING,
        step,
        lambda: (pytree.where(fine, state.position, state.before), state.optimizer),
    )
    every = jnp.maximum(1, -(-task.n_steps // (state.history.size - 1)))
    here = jnp.where(n_iter % every == 0, n_iter // every, state.history.size)
    return _State(
        position=position,
        before=state.position,
        optimizer=optimizer,
        place=place,
        memory=memory,
        remaining=remaining,
        settled=settled,
        n_iter=n_iter + (status == Status.RUNNING),
        status=status,
        history=state.history.at[here].set(jnp.where(fine, -value * total, jnp.nan), mode="drop"),
    )


def _value_and_gradient(
    sought: Callable[[Named], Float[Array, ""]], state: _State, *, reuse: bool
) -> tuple[Float[Array, ""], Named]:
    if reuse and _keeps_value(state.optimizer):
        import optax

        return optax.value_and_grad_from_state(sought)(state.position, state=state.optimizer)
    return jax.value_and_grad(sought)(state.position)


def _keeps_value(optimizer: Any) -> bool:
    """Whether the state has the loss and its gradient where the latest step led, as line searches leave them."""
    import optax

    return all(optax.tree.get_all_with_path(optimizer, name) for name in ("value", "grad"))
