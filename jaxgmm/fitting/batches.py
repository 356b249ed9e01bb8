"""The loop of `fit`, driven from Python: over rows that are read in batches, or that others hold."""

import contextlib
import dataclasses
import functools
import os
import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxgmm.fitting import kept
from jaxgmm.fitting.acceleration import scheme_of
from jaxgmm.fitting.em import Climb, Proposal, State
from jaxgmm.fitting.questions import Question, statistics_of
from jaxgmm.fitting.result import FitResult, Status
from jaxgmm.ground import checks, pytree
from jaxgmm.ground.batches import Batches
from jaxgmm.ground.processes import StoppedError
from jaxgmm.ground.programs import program
from jaxgmm.ground.progress import Bar
from jaxgmm.model.evidence import batches
from jaxgmm.model.mixture import Mixture, check_mixture, present_clusters
from jaxgmm.model.objective import LIKELIHOOD, objective_of, within_data
from jaxgmm.model.scale import floor_of, scale_from
from jaxgmm.model.statistics import Statistics

# A state is kept no more often than that, but at the end and where a fit is stopped.
_SECONDS_BETWEEN = 1.0
# Share of the weight of all rows by which rounding does not change it.
_OTHER = 1e-4


def fit_batches(
    mixture: Mixture,
    source: Any,
    *,
    tol: Any = 1e-6,
    max_iter: Any = 1000,
    regularization: Any = 1e-6,
    scale: Any = None,
    objective: Any = None,
    acceleration: str | None = "anderson",
    history_size: int = 128,
    checkpoint: str | os.PathLike[str] | None = None,
    max_seconds: Any = None,
    callback: Any = None,
    progress: bool = False,
) -> FitResult:
    """`fit` to rows that need not fit into memory, or that others hold: the same steps, each a pass over all rows.

    The rows may be read again for each pass, so that memory is for some batches of them and for what the mixture takes.
    The result is that of `fit` of all rows, to rounding, as sums over rows are added in other parts.

    Between passes it is Python that goes on. So a fit can be watched, stopped and taken up again: after `max_seconds`,
    when `callback` returns something true, or by Ctrl-C, it returns the best mixture so far, with the status `STOPPED`.

    Args:
        mixture: where to start, such as `init` or `fit_restarts` of `source.sample(key)` give.
        source: `Batches`, or what `jaxgmm.batches` takes.
        tol, max_iter, regularization, objective, acceleration, history_size: as for `fit`.
        scale: of each column (d,). Default `scale_of` 100,000 of the rows, always the same ones, which an earlier pass
            draws. What the data decide of an `objective` is decided by these rows too.
        checkpoint: path of a file that keeps where the fit stands, at most every second, and after an error. If it is
            there already, the fit goes on from it, to the bits that it would have had uninterrupted. It must be of this
            fit: the same start, rows and arguments, but for `tol` and `max_iter`.
        max_seconds: stop after so many seconds, in the middle of a pass if need be, which is then lost. The pass for
            the log-likelihood, where something else was climbed, comes after that.
        callback: called after every pass with the `FitResult` so far, `RUNNING` but for the last; its `log_likelihood`
            is what was climbed. It may return something true to stop the fit.
        progress: show a progress bar for each pass (needs tqdm).

    Returns:
        A `FitResult`, without derivatives. Failures the data cause are told by its `status`. Beside an `objective` that
        is not the likelihood, this is told by one more pass. Of a fit that was stopped before its first pass was done,
        both are NaN, and the mixture is the start; where that last pass is stopped, the log-likelihood is.

    Raises:
        TypeError, ValueError: arguments of the wrong kind, shape or sign, rows that cannot be taken, or a checkpoint of
            another fit.
        LoadError: a checkpoint that is damaged, or something else.
        OSError: the checkpoint cannot be written. Later on, that is a warning, and the fit goes on.

    >>> import jax, jaxgmm, numpy as np
    >>> x = np.random.default_rng(0).normal(size=(10_000, 2)).astype(np.float32)
    >>> x[:5000] += 5
    >>> source = jaxgmm.batches(x, batch_size=4096)
    >>> start = jaxgmm.init(jax.random.key(0), source.sample(jax.random.key(1)), 2)
    >>> result = jaxgmm.fit_batches(start, source)
    >>> jaxgmm.Status(int(result.status)).name
    'CONVERGED'
    """
    started = time.monotonic()
    checks.function("callback", callback)
    rows = source if isinstance(source, Batches) else batches(source)
    mixture = pytree.cast(check_mixture(mixture), rows.dtype)
    if rows.n_columns != mixture.n_columns:
        raise ValueError(f"source has {rows.n_columns} columns; the mixture was made for {mixture.n_columns}.")
    climb, average = _climb(mixture, rows, tol, max_iter, regularization, scale, objective, acceleration)
    state = _start(climb, mixture, history_size=checks.count("history_size", history_size))
    totals = rows.totals()
    of = {
        "mixture": kept.digest(mixture),
        "rows": [totals.n, totals.weight, totals.told, totals.fingerprint],
        "regularization or scale": kept.digest(climb.floor),
        "objective": kept.digest(climb.objective),
        "acceleration": acceleration,
        "history_size": history_size,
        "tol": float(climb.tol),
    }
    processes = rows.processes
    # The first process has the file, whether or not the others see it, or are told of it.
    keeps = checkpoint if processes.first else None
    leaves, ended_by = processes.ask(functools.partial(_begun, keeps, of, state))[0]
    state = _taken_up(_from_leaves(state, leaves), climb, ended_by)
    saved = started
    ends = started + checks.seconds("max_seconds", max_seconds)
    with Bar(rows.n_here, progress, "pass 0") as bar, processes.held():

        def watch(n: int) -> None:
            bar.update(n)
            if processes.interrupted or time.monotonic() > ends:
                raise StoppedError

        stopped = False
        try:
            while int(state.status) == Status.RUNNING and not stopped:
                bar.restart()
                bar.say(f"pass {int(state.n_iter) + 1}")
                proposal = _propose(climb, state)
                question = Question(proposal.mixture, climb.objective, climb.unit, proposal.reference)
                statistics = statistics_of(rows, question, watch)
                _check_weight(statistics, climb)
                state = _accept(climb, state, proposal, _in_type(statistics, rows.dtype))
                if keeps is not None and time.monotonic() > saved + _SECONDS_BETWEEN:
                    _kept(keeps, of, state)
                    saved = time.monotonic()
                so_far = None if callback is None else _so_far(climb, state, mixture, average, Status.RUNNING)
                stopped = any(processes.ask(functools.partial(_says_so, callback, so_far)))
        except (KeyboardInterrupt, StoppedError):
            pass
        finally:
            if keeps is not None:
                _kept(keeps, of, state)
    result = _so_far(climb, state, mixture, average, Status.STOPPED)
    nothing = jnp.asarray(np.nan, rows.dtype)
    if int(state.n_iter) < 0:
        return dataclasses.replace(result, log_likelihood=nothing, objective=nothing)
    if jax.eval_shape(climb.objective.penalty, mixture) is None:
        return result
    # Not what the penalty leaves of what was climbed, as that may be far larger.
    question = Question(result.mixture, LIKELIHOOD, climb.unit, jnp.zeros_like(climb.unit))
    value = nothing
    with contextlib.suppress(KeyboardInterrupt, StoppedError):
        alone = statistics_of(rows, question).log_likelihood * float(climb.unit)
        value = jnp.asarray(alone, rows.dtype)
    return dataclasses.replace(result, log_likelihood=jnp.where(jnp.isnan(result.objective), jnp.nan, value))


def _check_weight(statistics: Statistics, climb: Climb) -> None:
    """Raise where a pass has seen other rows than the first one counted."""
    weight, total = float(statistics.n), float(climb.total)
    if abs(weight - total) > _OTHER * total:
        unit = float(climb.unit)
        raise ValueError(
            f"source has given rows of weight {unit * weight:g} in a pass, and had {unit * total:g} before; expected "
            "the same rows in every pass. Write them to files first, or let jaxgmm.fit_online go through them once."
        )


def _kept(path: str | os.PathLike[str], of: dict[str, Any], state: State) -> None:
    """Where the fit stands, in the file; where that fails, the fit is worth more than the file."""
    try:
        kept.keep(path, of, state)
    except OSError as error:
        warnings.warn(f"The checkpoint could not be written, and is of an earlier step: {error}", stacklevel=3)


def _so_far(climb: Climb, state: State, start: Mixture, average: Float[Array, ""], unfinished: Status) -> FitResult:
    """What there is by now, with that status where it is not the end."""
    result: FitResult = _result(climb, state, start, average)
    if int(state.status) != Status.RUNNING:
        return result
    return dataclasses.replace(result, status=jnp.asarray(unfinished, jnp.int32))


def _says_so(callback: Callable[[FitResult], Any] | None, result: Any) -> bool:
    return callback is not None and bool(callback(result))


def _climb(
    mixture: Mixture,
    rows: Batches,
    tol: Any,
    max_iter: Any,
    regularization: Any,
    scale: Any,
    objective: Any,
    acceleration: str | None,
) -> tuple[Climb, Float[Array, ""]]:
    """The loop, and the average weight of the rows in units of the largest."""
    dtype = rows.dtype
    floor_share = checks.scalar("regularization", regularization, dtype)
    climbed = objective_of(objective, mixture.n_components, mixture.n_columns, dtype)
    scale = checks.scale(scale, mixture.n_columns, dtype)
    if scale is None or climbed.relative:
        sample = rows.sample()
        scale = scale_from(sample) if scale is None else scale
        climbed = within_data(climbed, climbed.rows_of(sample), scale, present_clusters(mixture))
    totals = rows.totals()
    unit = totals.largest
    total = np.asarray((totals.told if climbed.sighted else totals.weight) / unit, dtype)
    climb = Climb(
        _scaled(climbed, np.asarray(unit, dtype), total),
        floor_of(scale, floor_share),
        jnp.asarray(unit, dtype),
        jnp.asarray(total),
        checks.scalar("tol", tol, dtype),
        checks.steps("max_iter", max_iter),
        scheme_of(acceleration),
    )
    return climb, jnp.asarray(total / totals.present, dtype)


def _scaled(objective: Any, unit: Any, total: Any) -> Any:
    return objective.over(jnp.asarray(unit)).counting(jnp.asarray(total))


def _begun(path: str | os.PathLike[str] | None, of: dict[str, Any], blank: State) -> tuple[list[np.ndarray], float]:
    """The leaves of the state in the file, or of a blank one, and the tolerance that it came from.

    The file is written at once, before hours are lost.
    """
    found = None if path is None else kept.kept(path, of, blank, free=("tol",))
    state, written = (blank, of) if found is None else found
    if path is not None and found is None:
        kept.keep(path, of, state)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)], written["tol"]


def _from_leaves(blank: State, leaves: list[np.ndarray]) -> State:
    return jax.tree.unflatten(jax.tree.structure(blank), [jnp.asarray(leaf) for leaf in leaves])


def _taken_up(state: State, climb: Climb, tol: float) -> State:
    """A state that fewer steps or a larger tolerance `tol` has ended: there is more to be done."""
    ended = {Status.MAX_ITER: True, Status.CONVERGED: float(climb.tol) < tol}
    more = ended.get(Status(int(state.status)), False) and int(state.n_iter) < int(climb.max_iter)
    return dataclasses.replace(state, status=jnp.asarray(Status.RUNNING, jnp.int32)) if more else state


def _in_type(statistics: Statistics, dtype: Any) -> Any:
    with np.errstate(over="ignore"):  # which the status tells
        return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, dtype)), statistics)


@program(static=("history_size",))
def _start(climb: Climb, mixture: Mixture, *, history_size: int) -> State:
    return climb.start(climb.objective.placed(mixture), history_size)


@program
def _propose(climb: Climb, state: State) -> Proposal:
    return climb.propose(state)


@program
def _accept(climb: Climb, state: State, proposal: Proposal, statistics: Statistics) -> State:
    return climb.accept(state, proposal, statistics)


@program
def _result(climb: Climb, state: State, start: Mixture, average: Float[Array, ""]) -> FitResult:
    return climb.result(state, start, average)
