"""Derivatives of a fit, by the implicit function theorem at the fixed point of EM.

Where EM stops, theta = M(theta, x, w, r). So d theta = (I - dM/dtheta)^-1 (dM/dx dx + dM/dw dw + dM/dr dr): one linear
solve with Jacobian-vector products of a single EM step, in memory that does not depend on the number of iterations.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from jaxgmm.fitting.coordinates import Coordinates
from jaxgmm.ground.krylov import gmres
from jaxgmm.ground.rows import Rows
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.steps import log_likelihood, maximize, take_statistics

# Directions GMRES keeps at a time, and how often it starts again.
_KRYLOV, _RESTARTS = 30, 20
# A solution larger than its right-hand side by more than rounding to this power has lost the digits of an EM step.
_MOST_DIGITS = -0.6


@functools.partial(jax.custom_jvp, nondiff_argnums=(4,))
def at_fixed_point(
    mixture: Mixture,
    x: Float[Array, "n d"],
    weights: Float[Array, " n"],
    regularization: Float[Array, ""],
    block_size: int,
) -> Mixture:
    """`mixture`, where EM has come to rest, with its derivatives in the rows, their weights and the regularization."""
    return mixture


@at_fixed_point.defjvp
def _(block_size: int, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Mixture, Mixture]:
    given = primals[1:]
    # With the derivative it has itself, so that this one can be differentiated again.
    mixture = at_fixed_point(*primals, block_size)
    coordinates = Coordinates.at(mixture)
    here = jax.tree.map(jnp.zeros_like, mixture)

    def step(position: Mixture, x: Array, weights: Array, regularization: Array) -> Mixture:
        statistics = take_statistics(coordinates.leave(position), Rows.of(x, weights, block_size))
        return coordinates.enter(maximize(coordinates.leave(position), statistics, regularization)[0])

    _, moved = jax.jvp(functools.partial(step, here), tuple(given), tuple(tangents[1:]))
    _, contract = jax.linearize(lambda position: step(position, *given), here)

    # One vector: the solve's transpose wants either all of the right-hand side linear or none.
    target, as_position = ravel_pytree(moved)

    def away(direction: Float[Array, " p"]) -> Float[Array, " p"]:
        return direction - ravel_pytree(contract(as_position(direction)))[0]

    solution = jax.lax.custom_linear_solve(away, target, solve=_solved, transpose_solve=_solved)
    return mixture, jax.jvp(coordinates.leave, (here,), (as_position(solution),))[1]


@jax.custom_jvp
def with_derivative(
    value: Float[Array, ""], mixture: Mixture, x: Float[Array, "n d"], weights: Float[Array, " n"]
) -> Float[Array, ""]:
    """`value`, known to be the log-likelihood of the mixture, with the log-likelihood's derivatives."""
    return value


@with_derivative.defjvp
def _(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    return primals[0], jax.jvp(log_likelihood, primals[1:], tangents[1:])[1]


def _solved(matvec: Callable[[Array], Array], target: Float[Array, " p"]) -> Float[Array, " p"]:
    """The solution, NaN where there is none or its digits are lost."""
    # EM contracts, so this solves to rounding in a few steps; a flat direction takes all of them.
    eps = float(jnp.finfo(target.dtype).eps)
    solution, miss = gmres(matvec, target, 100 * eps, _KRYLOV, _RESTARTS)
    size = jnp.linalg.norm(target)
    solved = (miss <= 10 * math.sqrt(eps) * size) & (jnp.linalg.norm(solution) <= eps**_MOST_DIGITS * size)
    return jnp.where(solved, solution, jnp.nan)
