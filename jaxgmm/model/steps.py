"""The two steps of EM and the likelihood they climb, as pure functions of a mixture and rows."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxgmm.families.family import Kernel
from jaxgmm.ground import checks
from jaxgmm.ground.programs import program
from jaxgmm.ground.rows import Evidence, sum_over_blocks, total_over_blocks
from jaxgmm.model.mixture import Mixture, check_mixture, check_rows
from jaxgmm.model.objective import LIKELIHOOD, Objective
from jaxgmm.model.passes import block_size_of, of_passes, posterior, with_kernel
from jaxgmm.model.scale import floor_of
from jaxgmm.model.statistics import Statistics

# A covariance within so many times the floor is on it, but for rounding.
_ON_THE_FLOOR = 1.001


def e_step(mixture: Mixture, x: Any, weights: Any = None, *, block_size: int | None = None) -> Statistics:
    """What the rows `x` say about `mixture`: expected counts and moments, and the log-likelihood.

    Statistics of the same mixture on different rows add up with `+`.

    Args:
        mixture: the mixture that takes responsibility for the rows.
        x: rows (n, d), in any units.
        weights: weight of each row (n,), not negative; 0 means the row is absent, whatever it holds. Default ones.
        block_size: rows taken at a time; memory grows with it, not with n. Default by the size of the mixture.

    Raises:
        TypeError, ValueError: arguments of the wrong kind, shape or sign, or, outside `jit`, NaN or inf in `x`.

    Source: Dempster, Laird & Rubin (1977), JRSS B 39.

    >>> import jax, jaxgmm
    >>> x = jax.random.normal(jax.random.key(0), (100, 2))
    >>> mixture = jaxgmm.init(jax.random.key(1), x, 3)
    >>> statistics = jaxgmm.e_step(mixture, x[:50]) + jaxgmm.e_step(mixture, x[50:])
    >>> float(statistics.n)
    100.0
    """
    mixture, rows = check_rows(mixture, x, weights)
    return _e_step(mixture, rows, block_size=block_size_or_default(block_size, mixture, rows))


def m_step(mixture: Mixture, statistics: Statistics, scale: Any, regularization: Any = 1e-6) -> Mixture:
    """The mixture that maximises the expected log-likelihood given `statistics` that `mixture` took.

    Args:
        mixture: the mixture passed to `e_step`; the statistics are about its means.
        statistics: what `e_step` returned, or a sum of such.
        scale: of each column of the data (d,), `scale_of(x)` of all rows; statistics of some do not know it.
        regularization: floor under every covariance, relative to the square of the scale, so that the units of the data
            do not matter. A covariance above the floor is not changed by it.

    A component without any weight keeps its parameters and gets weight 0.

    Raises:
        TypeError, ValueError: arguments of the wrong kind or shape, a scale that is not positive, or a negative
            regularization.

    >>> import jax, jaxgmm
    >>> x = jax.random.normal(jax.random.key(0), (100, 2))
    >>> mixture = jaxgmm.init(jax.random.key(1), x, 3)
    >>> stepped = jaxgmm.m_step(mixture, jaxgmm.e_step(mixture, x), jaxgmm.scale_of(x))
    >>> bool(jaxgmm.log_likelihood(stepped, x) > jaxgmm.log_likelihood(mixture, x))
    True
    """
    mixture = check_mixture(mixture)
    if not isinstance(statistics, Statistics):
        raise TypeError(f"statistics is of type {type(statistics).__name__}; expected what jaxgmm.e_step returns.")
    mixture, statistics = checks.common_dtype(mixture, statistics)
    dtype = statistics.n.dtype
    if scale is None:
        raise TypeError("scale is None; expected that of each column of the data, jaxgmm.scale_of(x).")
    scale = checks.scale(scale, mixture.n_columns, dtype)
    return _m_step(mixture, statistics, scale, checks.scalar("regularization", regularization, dtype))


def log_likelihood(mixture: Mixture, x: Any, weights: Any = None, *, block_size: int | None = None) -> Float[Array, ""]:
    """Total over rows of weight times log-density: natural logarithm, density per unit volume in the units of the data.

    Arguments and errors as for `e_step`. Exactly -inf if a row with weight is further away than its logarithm can say.

    >>> import jax.numpy as jnp, jaxgmm
    >>> mixture = jaxgmm.from_parameters([1.0], [[0.0]], [1.0], form="spherical")
    >>> float(jaxgmm.log_likelihood(mixture, jnp.zeros((2, 1)))) # 2 log N(0; 0, 1)
    -1.8378...
    """
    mixture, rows = check_rows(mixture, x, weights)
    return _log_likelihood(mixture, rows, block_size=block_size_or_default(block_size, mixture, rows))


def take_statistics(mixture: Mixture, rows: Evidence, reference: Float[Array, ""] | float = 0.0) -> Statistics:
    """`e_step` over rows in blocks; log-densities, and so the log-likelihood, are counted from `reference`."""

    def block(given: tuple[Array, Kernel, Array | float], rows: Evidence) -> Statistics:
        log_weights, kernel, reference = given
        seen = kernel.read(rows)
        log_prob, responsibilities = posterior(log_weights, kernel.log_prob(seen), rows, weighted=True)
        return Statistics(
            counts=jnp.sum(responsibilities, axis=0),
            sums=kernel.statistics(seen, responsibilities),
            log_likelihood=weighted_sum(log_prob - reference, rows.weights),
            n=jnp.sum(rows.weights),
        )

    def take(kernel: Kernel, rows: Evidence) -> Statistics:
        given = mixture.log_weights, kernel, reference
        return finish(kernel, sum_over_blocks(block, given, rows, rows.shards))

    return with_kernel(mixture.components, mixture.n_components, rows, take)


def sum_over_rows(
    function: Callable[[Float[Array, " b"], Float[Array, "b k"]], Float[Array, " b"]],
    mixture: Mixture,
    rows: Evidence,
    block_size: int,
) -> Float[Array, ""]:
    """Weighted sum over rows of a function of their log-densities and responsibilities, in one pass."""

    def block(mixture: tuple[Array, Kernel], rows: Evidence) -> Float[Array, ""]:
        log_weights, kernel = mixture
        log_prob = kernel.log_prob(kernel.read(rows))
        return weighted_sum(function(*posterior(log_weights, log_prob, rows)), rows.weights)

    def total(kernel: Kernel, rows: Evidence) -> Float[Array, ""]:
        return total_over_blocks(block, (mixture.log_weights, kernel), rows, rows.shards)

    return with_kernel(mixture.components, mixture.n_components, rows.in_blocks(block_size), total)


def finish(kernel: Kernel, statistics: Statistics) -> Statistics:
    """Statistics summed over the rows of a pass with `kernel`, as `maximize` takes them."""
    return dataclasses.replace(statistics, sums=kernel.finish(statistics.counts, statistics.sums))


def maximize(
    mixture: Mixture, statistics: Statistics, floor: Float[Array, " d"], objective: Objective = LIKELIHOOD
) -> tuple[Mixture, Bool[Array, " k"]]:
    """`m_step` of an objective, and which components it left degenerate: held by the floor, or without rows."""
    counts = statistics.counts
    # The components' total weight, not n: rows may belong to none of these components.
    total = jnp.sum(counts)
    # Below this share, sums over rows underflow; NaN counts as alive, so that it shows in the result.
    alive = ~(counts <= total * jnp.sqrt(jnp.finfo(counts.dtype).tiny))
    some = jnp.any(alive)
    log_weights = objective.log_weights(mixture, counts, alive)
    sums = objective.sums(mixture, counts, statistics.sums)
    if objective.sustains:
        alive = mixture.log_weights > -jnp.inf
    counts = jnp.where(alive, counts, 1)
    components, held = mixture.components.maximize(counts, sums, alive, floor)
    if log_weights is None:
        log_weights = jnp.where(alive, jnp.log(counts) - jnp.log(jnp.where(some, total, 1)), -jnp.inf)
    stepped = Mixture(jnp.where(some, log_weights, mixture.log_weights), components)
    placed = objective.placed(stepped)
    if objective.reshapes:
        _, held = placed.components.floored(_ON_THE_FLOOR * floor, alive)
    degenerate, given = components.among_clusters(held | ~alive), objective.given
    return placed, degenerate if given is None else degenerate & ~given


def block_size_or_default(block_size: int | None, mixture: Mixture, rows: Evidence) -> int:
    """The caller's block size, checked and not above the rows of a device, or the one that suits the mixture."""
    if block_size is None:
        return block_size_of(mixture, rows)
    return min(rows.n_here, checks.count("block_size", block_size))


@program(static=("block_size",), work=of_passes(1))
def _e_step(mixture: Mixture, rows: Evidence, *, block_size: int) -> Statistics:
    return take_statistics(mixture, rows.in_blocks(block_size))


@program
def _m_step(
    mixture: Mixture, statistics: Statistics, scale: Float[Array, " d"], regularization: Float[Array, ""]
) -> Mixture:
    return maximize(mixture, statistics, floor_of(scale, regularization))[0]


@program(static=("block_size",), work=of_passes(1))
def _log_likelihood(mixture: Mixture, rows: Evidence, *, block_size: int) -> Float[Array, ""]:
    return sum_over_rows(lambda log_prob, responsibilities: log_prob, mixture, rows, block_size)


@jax.custom_jvp
def weighted_sum(values: Float[Array, " n"], weights: Float[Array, " n"]) -> Float[Array, ""]:
    """Sum of the values of rows that are present; an absent one would add its own if it were there."""
    return jnp.sum(jnp.where(weights > 0, weights * values, 0))


@weighted_sum.defjvp
def _(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (values, weights), (dvalues, dweights) = primals, tangents
    # Where even the logarithm underflows, the lowest number: -inf times 0 would be NaN.
    slopes = jnp.maximum(values, jnp.finfo(values.dtype).min)
    return weighted_sum(values, weights), jnp.sum(weights * dvalues) + jnp.sum(dweights * slopes)
