"""Online EM: rows are seen once, a batch at a time, and each batch moves the mixture."""

import dataclasses
import functools
import itertools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxgmm.fitting.result import Status
from jaxgmm.ground import checks, linalg, pytree
from jaxgmm.ground.batches import Batches
from jaxgmm.ground.programs import program
from jaxgmm.ground.progress import Bar
from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.ground.rows import Evidence
from jaxgmm.model import extents
from jaxgmm.model.evidence import batches
from jaxgmm.model.mixture import Mixture, check_mixture, check_rows, present_clusters
from jaxgmm.model.objective import Objective, objective_of
from jaxgmm.model.passes import block_size_of, of_passes
from jaxgmm.model.scale import floor_of, scale_from
from jaxgmm.model.statistics import Statistics
from jaxgmm.model.steps import maximize, take_statistics

# Rows for each free parameter before a mixture is moved for the first time.
_ROWS_EACH = 2
# For how many passes good machine code is compiled.
_PASSES = 30


@record
class Online:
    """Where online EM stands: a pytree, all that the next batch needs.

    Fields:
        mixture: the one that the rows so far lead to.
        statistics: an average over the rows so far, per unit weight, in which later ones count more; about the means of
            the mixture. Its `log_likelihood` is of each batch under the mixture before it, which had not seen it.
        weight: (), of all rows so far.
        n: (), how many rows of positive weight there were so far.
        scale: (d,), of the columns, which the floor is relative to.
        status: (), a code of `Status`: `RUNNING`, or `NON_FINITE` if some batch could not be taken. Such a batch has
            changed nothing else.
    """

    mixture: Mixture
    statistics: Statistics
    weight: Leaf
    n: Leaf
    scale: Leaf
    status: Leaf


def online(mixture: Mixture, scale: Any) -> Online:
    """Where online EM begins: at a mixture, without any rows.

    Args:
        mixture: where to start, such as `init` of the first rows gives.
        scale: of each column (d,), such as `scale_of` the first rows.

    Raises:
        TypeError, ValueError: arguments of the wrong kind or shape, or a scale that is not positive.
    """
    mixture = check_mixture(mixture)
    dtype = mixture.log_weights.dtype
    scale = checks.scale(scale, mixture.n_columns, dtype)
    if scale is None:
        raise TypeError("scale is None; expected that of each column of the data, such as jaxgmm.scale_of(x).")
    return _begin(mixture, scale)


def online_step(
    state: Any,
    x: Any,
    weights: Any = None,
    *,
    decay: Any = 0.6,
    memory: Any = np.inf,
    regularization: Any = 1e-6,
    objective: Any = None,
) -> Online:
    """The state after another batch of rows: one E-step of them, and an M-step of all so far.

    Statistics s of the batch, of weight b, are averaged into those before it, of weight W in all, as
    (1 - g) S + g s with g = (b / (W + b))^decay. So every row counts, and earlier ones, which were seen by mixtures
    that knew less, count less. As long as there are not two rows for each free parameter, all count alike and the
    mixture stays.

    Args:
        state: from `online`, or the step before.
        x: rows (n, d), or rows made by `jaxgmm.rows`. Some hundreds at a time, at least: each step costs an M-step.
        weights: weight of each row (n,), as for `fit`. Default ones.
        decay: from 0.5, where the start is forgotten fast, to 1, where all rows count alike.
        memory: weight of the rows after which earlier ones count 1 / e of what they did, for data that drift. Default
            without end.
        regularization: as for `fit`.
        objective: as for `fit`. What the data decide of it is decided by the mixture at hand, and its prior counts
            beside the weight of all rows, or of those in memory.

    Nothing says that the likelihood rises from step to step. All arguments are traced.

    Raises:
        TypeError, ValueError: arguments of the wrong kind, shape or sign, or, outside `jit`, NaN or inf in `x`.

    Source: Cappé & Moulines (2009), On-line expectation-maximization algorithm for latent data models, JRSS B 71.

    >>> import jax, jaxgmm
    >>> x = jax.random.normal(jax.random.key(0), (4000, 2)).at[::2].add(5.0)
    >>> start = jaxgmm.init(jax.random.key(1), x[:500], 2)
    >>> state = jaxgmm.online(start, jaxgmm.scale_of(x[:500]))
    >>> for batch in x.reshape(8, 500, 2):
    ...     state = jaxgmm.online_step(state, batch)
    >>> float(state.weight)
    4000.0
    """
    if not isinstance(state, Online):
        raise TypeError(f"state is of type {type(state).__name__}; expected what jaxgmm.online or online_step gives.")
    mixture, rows = check_rows(state.mixture, x, weights, scored=False)
    dtype = rows.x.dtype
    climbed = objective_of(objective, mixture.n_components, mixture.n_columns, dtype)
    with rows.on_devices():
        return _stepped(
            pytree.cast(dataclasses.replace(state, mixture=mixture), dtype),
            climbed.rows_of(rows),
            _share("decay", decay, 0.5, 1.0, dtype),
            _share("memory", memory, 0.0, np.inf, dtype),
            checks.scalar("regularization", regularization, dtype),
            climbed,
            block_size=block_size_of(mixture, rows),
        )


def fit_online(
    mixture: Mixture,
    source: Any,
    *,
    decay: Any = 0.6,
    memory: Any = np.inf,
    regularization: Any = 1e-6,
    scale: Any = None,
    objective: Any = None,
    batch_size: int | None = None,
    max_seconds: Any = None,
    callback: Any = None,
    progress: bool = False,
) -> Online:
    """One pass over rows that may not be read again: `online_step` for each batch.

    Of a source that can be read again, it comes within a thousandth of the optimum of `fit_batches` in about a pass,
    where there are many batches; `fit_batches` goes on from there.

    Args:
        mixture: where to start, such as `init` of the first rows gives.
        source: `Batches`, what `jaxgmm.batches` takes, or an iterator over any of these, which is used up.
        decay, memory, regularization, objective: as for `online_step`.
        scale: of each column (d,). Default `scale_of` the first batch.
        batch_size: rows in a step, where `source` is not `Batches`; as for `jaxgmm.batches`.
        max_seconds: stop after so many seconds.
        callback: called after every step with the state so far; it may return something true to stop.
        progress: show a progress bar of rows (needs tqdm).

    Ctrl-C ends it early: the state says by its `weight` how much it has seen.

    Raises:
        TypeError, ValueError: arguments of the wrong kind, shape or sign, or rows that cannot be taken.

    >>> import jax, jaxgmm, numpy as np
    >>> rng = np.random.default_rng(0)
    >>> def stream():
    ...     for _ in range(50):
    ...         yield rng.normal(size=(1000, 2)).astype(np.float32) + 5 * rng.integers(2, size=(1000, 1))
    >>> start = jaxgmm.init(jax.random.key(0), next(stream()), 2)
    >>> jaxgmm.fit_online(start, stream(), batch_size=1000).mixture.weights.round(1).tolist()
    [0.5, 0.5]
    """
    mixture = check_mixture(mixture)
    checks.function("callback", callback)
    ends = time.monotonic() + checks.seconds("max_seconds", max_seconds)
    rows_in = source if isinstance(source, Batches) else batches(_again(source), batch_size=batch_size)
    if rows_in.processes.number > 1:
        raise NotImplementedError("fit_online takes the rows of one process; source has those of several: fit_batches.")
    if rows_in.n_columns != mixture.n_columns:
        raise ValueError(f"source has {rows_in.n_columns} columns; the mixture was made for {mixture.n_columns}.")
    mixture = pytree.cast(mixture, rows_in.dtype)
    state = None if scale is None else online(mixture, scale)
    with Bar(None, progress, "rows") as bar:
        try:
            for n, rows in rows_in.each(extent=functools.partial(extents.of_whole, mixture)):
                if state is None:
                    state = online(mixture, scale_from(rows))
                state = online_step(
                    state, rows, decay=decay, memory=memory, regularization=regularization, objective=objective
                )
                bar.update(n)
                if time.monotonic() > ends or (callback is not None and bool(callback(state))):
                    break
        except KeyboardInterrupt:
            if state is None:
                raise
    if state is None:
        raise ValueError("weights are all zero; at least one row must have a positive weight.")
    return state


def _share(name: str, value: Any, least: float, most: float, dtype: Any) -> Float[Array, ""]:
    """A number in these bounds, above 0; NaN, which no batch survives, where it is none and only a program sees it."""
    number = checks.scalar(name, value, dtype)
    if not checks.holds(lambda number: least <= number <= most and number > 0, number):
        expected = "a positive number" if np.isinf(most) else f"a number from {least} to {most}"
        raise ValueError(f"{name} is {float(number):g}; expected {expected}.")
    return checks.valid(number, (number >= least) & (number <= most) & (number > 0))


def _again(source: Any) -> Any:
    """An iterator as something that can be begun twice, as long as no more than its first part has been taken."""
    if not hasattr(source, "__next__"):
        return source
    first = next((part for part in source if np.shape(getattr(part, "x", part))[:1] != (0,)), None)
    if first is None:
        raise ValueError("source has no rows; expected at least one.")
    return lambda: itertools.chain([first], source)


@program
def _begin(mixture: Mixture, scale: Float[Array, " d"]) -> Online:
    # Of one row without weight, the shapes alone.
    nowhere = Evidence(mixture.components.centers[:1], jnp.zeros_like(mixture.log_weights[:1]))
    nothing = jax.tree.map(jnp.zeros_like, take_statistics(mixture, nowhere.in_blocks(1)))
    none = jnp.zeros((), mixture.log_weights.dtype)
    return Online(mixture, nothing, none, none, scale, jnp.asarray(Status.RUNNING, jnp.int32))


def _work(state: Online, rows: Evidence, *others: Any, **options: Any) -> float:
    return of_passes(_PASSES)(state.mixture, rows)


@program(static=("block_size",), work=_work)
def _stepped(
    state: Online,
    rows: Evidence,
    decay: Float[Array, ""],
    memory: Float[Array, ""],
    regularization: Float[Array, ""],
    objective: Objective,
    *,
    block_size: int,
) -> Online:
    mixture, before, n = state.mixture, state.weight, state.n
    present = mixture.log_weights > -jnp.inf
    if objective.relative:
        center = linalg.einsum("k,kd->d", mixture.weights, jnp.where(present[:, None], mixture.components.centers, 0))
        objective = objective.within(center, state.scale, present_clusters(mixture))
    batch = jnp.sum(rows.weights)
    total = before + batch
    # Of an average over rows, beside which a prior counts as so many of them.
    objective = objective.over(jnp.maximum(jnp.minimum(total, memory), 1)).counting(jnp.ones_like(total))
    taken = take_statistics(objective.read_by(mixture), rows.in_blocks(block_size))
    even = batch / jnp.where(total > 0, total, 1)
    enough = _ROWS_EACH * mixture.n_parameters
    n_then = n + jnp.sum(rows.weights > 0)
    waiting = n < enough
    share = jnp.where(waiting, even, jnp.maximum(even**decay, -jnp.expm1(-batch / memory)))
    per_row = share / jnp.where(batch > 0, batch, 1)
    average = jax.tree.map(lambda old, new: (1 - share) * old + per_row * new, state.statistics, taken)
    moved, _ = maximize(mixture, average, floor_of(state.scale, regularization), objective)
    moved = pytree.where(n_then < enough, mixture, moved)
    there = Online(moved, average.recentred(mixture, moved), total, n_then, state.scale, state.status)
    sound = pytree.without_nan((there.mixture, there.statistics.counts)) & jnp.isfinite(average.log_likelihood)
    # Also where these count for nothing yet, as in the first step.
    sound = sound & (decay > 0) & (memory > 0)
    failed = dataclasses.replace(state, status=jnp.asarray(Status.NON_FINITE, jnp.int32))
    return pytree.where(sound, there, failed)
