"""The one EM loop."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxgmm.fitting.implicit import at_fixed_point, with_derivative
from jaxgmm.fitting.result import FitResult, Status
from jaxgmm.ground import checks, pytree
from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.ground.rows import Rows
from jaxgmm.model.mixture import Mixture, check_weighted_rows
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
    history_size: int = 128,
    block_size: int | None = None,
) -> FitResult:
    """Maximum likelihood by expectation-maximisation, from `mixture` to a stationary point.

    Args:
        mixture: where to start, from `init`, `from_parameters` or an earlier fit.
        x: rows (n, d).
        weights: weight of each row (n,), not negative, in any scale; 0 means the row is absent. Default ones.
        tol: stop when a step gains no more log-likelihood than this per unit weight, and no more than the step before.
            Below the resolution of the dtype, 0 included, the fit goes on until rounding hides any gain.
        max_iter: stop after this many steps.
        regularization: floor under every covariance, relative to the variance of each column of the data. A covariance
            above the floor is not changed by it.
        history_size: length of the result's `history`. Static.
        block_size: rows taken at a time, as in `e_step`. Static.

    The fitted mixture and its log-likelihood are differentiable in `x`, `weights` and `regularization`, forward and
    reverse, as the point where a converged fit comes to rest. The start `mixture` has no influence on that point, and
    `history` no derivative.

    The likelihood never falls: a step that would lower it, as rounding can at the very end, is not taken and ends the
    fit. Only the first step may, where the starting mixture lies below the floor. Nothing recompiles when the values of
    traced arguments (all but the static ones) change.

    Returns:
        A `FitResult`. Failures the data cause are told by its `status`.

    Raises:
        TypeError, ValueError: arguments of the wrong kind, shape or sign, or, outside `jit`, NaN or inf in `x`.

    Source: Dempster, Laird & Rubin (1977), JRSS B 39.

    >>> import jax, jaxgmm
    >>> x = jax.random.normal(jax.random.key(0), (500, 2))
    >>> result = jaxgmm.fit(jaxgmm.init(jax.random.key(1), x, 2, "tied"), x)
    >>> jaxgmm.Status(int(result.status)).name
    'CONVERGED'
    """
    mixture, x, weights = check_weighted_rows(mixture, x, weights)
    return _fit(
        mixture,
        x,
        weights,
        checks.scalar("tol", tol, x.dtype),
        checks.steps("max_iter", max_iter),
        checks.scalar("regularization", regularization, x.dtype),
        history_size=checks.count("history_size", history_size),
        block_size=block_size_or_default(block_size, mixture, x.shape[0]),
    )


@record
class _State:
    mixture: Mixture
    statistics: Statistics  # of this very mixture, its log-likelihood counted from reference
    reference: Leaf
    gain: Leaf
    degenerate: Leaf
    n_iter: Leaf
    status: Leaf
    history: Leaf


@functools.partial(jax.jit, static_argnames=("history_size", "block_size"))
def _fit(
    mixture: Mixture,
    x: Float[Array, "n d"],
    weights: Float[Array, " n"],
    tol: Float[Array, ""],
    max_iter: Int[Array, ""],
    regularization: Float[Array, ""],
    *,
    history_size: int,
    block_size: int,
) -> FitResult:
    given = x, weights, regularization
    # The loop is not differentiated: derivatives are those of the point where it ends.
    mixture, x, weights, regularization, tol = jax.lax.stop_gradient((mixture, *given, tol))
    # In units of the largest weight, so that sums neither over- nor underflow whatever scale the weights have.
    unit = jnp.max(weights)
    unit = jnp.where(unit > 0, unit, 1)
    weights = weights / unit
    rows = Rows.of(x, weights, block_size)

    total = jnp.maximum(jnp.sum(weights), jnp.finfo(x.dtype).tiny)

    def log_likelihood(reference: Float[Array, ""], statistics: Statistics) -> Float[Array, ""]:
        return unit * (total * reference + statistics.log_likelihood)

    def advance(state: _State) -> _State:
        mixture, degenerate = maximize(state.mixture, state.statistics, regularization)
        # Log-densities are counted from their mean before the step. So the sums that a gain is the difference of are
        # small, and it is resolved far below the rounding of the log-likelihood itself.
        reference = state.reference + state.statistics.log_likelihood / total
        statistics = take_statistics(mixture, rows, reference)
        gain = total * (reference - state.reference)
        gain = gain + (statistics.log_likelihood - state.statistics.log_likelihood)
        finite = pytree.without_nan(mixture) & jnp.isfinite(statistics.log_likelihood)
        first = state.n_iter == 0
        taken = finite & ((gain >= 0) | first)
        # Gains that still grow belong to a start near a saddle, as random responsibilities give, not to an end.
        settled = ~taken | ((gain <= tol * total) & (gain <= state.gain) & ~(first & (gain < 0)))
        n_iter = state.n_iter + taken
        status = jnp.select(
            [~finite, settled, n_iter >= max_iter],
            [Status.NON_FINITE, Status.CONVERGED, Status.MAX_ITER],
            Status.RUNNING,
        ).astype(jnp.int32)
        place = jnp.minimum(n_iter, history_size - 1)
        # The total rounds more coarsely than the gain, which must not make the history look as if it fell.
        latest = jnp.where(first, -jnp.inf, log_likelihood(state.reference, state.statistics))
        return pytree.where(
            taken,
            _State(
                mixture=mixture,
                statistics=statistics,
                reference=reference,
                gain=gain,
                degenerate=degenerate,
                n_iter=n_iter,
                status=status,
                history=state.history.at[place].set(jnp.maximum(log_likelihood(reference, statistics), latest)),
            ),
            dataclasses.replace(state, status=status),
        )

    statistics = take_statistics(mixture, rows)
    finite = jnp.isfinite(statistics.log_likelihood) & pytree.without_nan(mixture)
    start = _State(
        mixture=mixture,
        statistics=statistics,
        reference=jnp.zeros((), x.dtype),
        gain=jnp.zeros((), x.dtype),
        degenerate=jnp.zeros(mixture.log_weights.shape, bool),
        n_iter=jnp.asarray(0, jnp.int32),
        status=jnp.select([~finite, max_iter <= 0], [Status.NON_FINITE, Status.MAX_ITER], Status.RUNNING).astype(
            jnp.int32
        ),
        history=jnp.full((history_size,), jnp.nan, x.dtype).at[0].set(unit * statistics.log_likelihood),
    )
    end = jax.lax.while_loop(lambda state: state.status == Status.RUNNING, advance, start)
    average = jnp.sum(weights) / jnp.maximum(jnp.sum(weights > 0), 1)
    degenerate = end.degenerate | ~(end.statistics.counts >= average)
    fine = end.status != Status.NON_FINITE
    fitted = at_fixed_point(end.mixture, *given, block_size)
    return FitResult(
        mixture=fitted,
        log_likelihood=with_derivative(log_likelihood(end.reference, end.statistics), fitted, *given[:2]),
        n_iter=end.n_iter,
        status=jnp.where(fine & jnp.any(degenerate), Status.DEGENERATE, end.status),
        history=end.history,
        degenerate_components=degenerate,
    )
