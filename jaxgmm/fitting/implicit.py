"""Derivatives of a fit, by the implicit function theorem at the fixed point of EM.

Where EM comes to rest, theta = M(theta, x, w, f). So d theta = (I - dM/dtheta)^-1 (dM/dx dx + dM/dw dw + dM/df df): one
linear solve with Jacobian-vector products of a single EM step, in memory that does not depend on the number of steps.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from jaxgmm.fitting.acceleration import Place
from jaxgmm.fitting.acceleration import coordinates as free_coordinates
from jaxgmm.fitting.coordinates import Coordinates
from jaxgmm.ground.krylov import gmres
from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.ground.rows import Evidence
from jaxgmm.model.free import Named
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.objective import Objective
from jaxgmm.model.steps import log_likelihood, maximize, take_statistics

# Directions GMRES keeps at a time, and how often it starts again.
_KRYLOV, _RESTARTS = 30, 20
# A solution larger than its right-hand side by more than rounding to this power has lost the digits of an EM step.
_MOST_DIGITS = -0.6
# Newton's steps to rest are trusted up to this length in the metric of the Fisher information, and if each solves its
# equation up to this share. Where EM itself steps no further than some roundings, none is needed.
_NEAR, _MISS, _ROUNDINGS = 0.1, 0.01, 10
# After a step shorter than this, another one would change nothing that can be seen; and there are no more than so many.
_CLOSE, _STEPS = 1e-3, 3


@functools.partial(jax.custom_jvp, nondiff_argnums=(4,))
def at_fixed_point(
    mixture: Mixture, rows: Evidence, floor: Float[Array, " d"], objective: Objective, block_size: int
) -> Mixture:
    """`mixture`, where a fit ended, with derivatives in the rows, their weights, the floor and the objective's numbers.

    They are those of the point where EM comes to rest, a few Newton steps away; NaN where that is far.
    """
    return mixture


@at_fixed_point.defjvp
def _(block_size: int, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Mixture, Mixture]:
    mixture, *given = primals
    still: Any = jax.lax.stop_gradient(primals)
    end = _nearer_to_rest(still[0], still[1], still[2], still[3], block_size)
    rested, moved = jax.jvp(lambda *given: _at_rest(end, *given, block_size), tuple(given), tuple(tangents[1:]))
    # A weight, and not its logarithm, moves here as it does there. Both places move alike, and so their distance stays.
    ahead = jnp.where(mixture.log_weights > -jnp.inf, rested.log_weights - mixture.log_weights, 0)
    factor = jax.lax.stop_gradient(jnp.exp(ahead))
    moved = dataclasses.replace(moved, log_weights=moved.log_weights * factor)
    return _moving_as(mixture, rested), moved


@functools.partial(jax.custom_jvp, nondiff_argnums=(4,))
def _at_rest(
    mixture: Mixture, rows: Evidence, floor: Float[Array, " d"], objective: Objective, block_size: int
) -> Mixture:
    """`mixture`, where EM has come to rest, with its derivatives."""
    return mixture


@_at_rest.defjvp
def _(block_size: int, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Mixture, Mixture]:
    # With the derivative it has itself, so that this one can be differentiated again.
    mixture = _at_rest(*primals, block_size)
    coordinates = Coordinates.at(mixture)
    here = coordinates.start
    (rows, *others), (drows, *dothers) = primals[1:], tangents[1:]
    # Apart from the step, so that both of its derivatives read the same rows.
    rows, drows = jax.jvp(lambda rows: rows.in_blocks(block_size), (rows,), (drows,))
    given = rows, *others
    _, moved = jax.jvp(functools.partial(_step, coordinates, here), given, (drows, *dothers))
    _, contract = jax.linearize(lambda position: _step(coordinates, position, *given), here)

    # One vector: the solve's transpose wants either all of the right-hand side linear or none.
    target, as_position = ravel_pytree(moved)
    away = functools.partial(_away, contract, as_position)
    solution = jax.lax.custom_linear_solve(away, target, solve=_solved, transpose_solve=_solved)
    return mixture, jax.jvp(coordinates.leave, (here,), (as_position(solution),))[1]


@jax.custom_jvp
def _moving_as(mixture: Mixture, other: Mixture) -> Mixture:
    """`mixture` with the derivatives of another one."""
    return mixture


@_moving_as.defjvp
def _(primals: tuple[Mixture, Mixture], tangents: tuple[Mixture, Mixture]) -> tuple[Mixture, Mixture]:
    return _moving_as(*primals), tangents[1]


def _nearer_to_rest(
    mixture: Mixture, rows: Evidence, floor: Float[Array, " d"], objective: Objective, block_size: int
) -> Mixture:
    """By Newton's steps, each of which about squares the distance; NaN where they lead too far to be such.

    A fit ends where little likelihood is left to be gained. Where EM is slow, the likelihood is flat, and its
    parameters may still be some way from rest.
    """
    given = rows.in_blocks(block_size), floor, objective

    def walk(way: _Way) -> _Way:
        end = way.end
        coordinates = Coordinates.at(end)
        here = coordinates.start
        moved, contract = jax.linearize(lambda position: _step(coordinates, position, *given), here)
        target, as_position = ravel_pytree(moved)
        eps = float(jnp.finfo(target.dtype).eps)
        away = functools.partial(_away, contract, as_position)
        solution, miss = gmres(away, target, math.sqrt(eps), _KRYLOV, _RESTARTS)
        there = coordinates.leave(as_position(solution))
        near = (_distance(mixture, there) <= _NEAR) & (miss <= _MISS * jnp.linalg.norm(target))
        # Of a step that is all rounding, nothing follows.
        free = ravel_pytree(jax.tree.map(jnp.divide, coordinates.origin.coordinates, coordinates.unit))[0]
        arrived = jnp.linalg.norm(target) <= _ROUNDINGS * eps * jnp.linalg.norm(1 + jnp.abs(free))
        moves = jnp.where(near, _distance(end, there), 0)
        end = jax.tree.map(lambda new, old: jnp.where(near, new, jnp.where(arrived, old, jnp.nan)), there, end)
        return _Way(end, moves, way.steps + 1)

    start = _Way(mixture, jnp.full_like(floor[0], jnp.inf), jnp.asarray(0, jnp.int32))
    return jax.lax.while_loop(lambda way: (way.moves > _CLOSE) & (way.steps < _STEPS), walk, start).end


@record
class _Way:
    """Where Newton's steps have led, how far the latest of them, and how many there were."""

    end: Mixture
    moves: Leaf
    steps: Leaf


def _distance(mixture: Mixture, other: Mixture) -> Float[Array, ""]:
    """In the metric of the Fisher information."""
    return jnp.sqrt(Place.of(free_coordinates(mixture), mixture, other).length)


def _step(
    coordinates: Coordinates, position: Named, rows: Evidence, floor: Float[Array, " d"], objective: Objective
) -> Named:
    """Where EM leads to from there. It leaves absent components as they are, and so does the equation to be solved."""
    mixture = coordinates.leave(position)
    objective = objective.counting(jnp.sum(rows.weights))
    step, _ = maximize(mixture, take_statistics(objective.read_by(mixture), rows), floor, objective)
    return coordinates.held(coordinates.enter(step))


def _away(contract: Callable[[Named], Named], as_position: Callable[[Array], Named], direction: Array) -> Array:
    """(I - dM/dtheta) times a direction."""
    return direction - ravel_pytree(contract(as_position(direction)))[0]


def values_of(
    reached: Float[Array, ""], end: Mixture, fitted: Mixture, rows: Evidence, objective: Objective
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Log-likelihood and objective of what was fitted, from the value that was `reached` at the end of the fit."""
    objective = objective.counting(jnp.sum(rows.weights))
    still, stopped = jax.lax.stop_gradient((objective, end))
    penalty, reader = still.penalty(stopped), objective.read_by(fitted)
    if penalty is None:
        value = with_derivative(reached, fitted, rows)
        return value, value
    added: Any = objective.penalty(fitted)
    read = with_derivative(reached - penalty, reader, rows)
    # Not what the penalty leaves of it, as that may be far larger; and NaN after a failure.
    alone = log_likelihood(fitted, rows)
    return jnp.where(jnp.isnan(reached), jnp.nan, alone), read + added


@jax.custom_jvp
def with_derivative(value: Float[Array, ""], mixture: Mixture, rows: Evidence) -> Float[Array, ""]:
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
