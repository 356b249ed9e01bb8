"""Logarithms of shares, and their derivatives where a share is 0.

A density is linear in the weights of its components, also where one of them is 0: then it grows by what this component
would add. But the logarithm of 0 has no derivative that a program could pass on. So wherever the logarithm is
differentiated, a share of 0 is replaced by one that is too small to be seen beside the others. All that follows from
it has its derivative, up to what underflows beside that share.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxgmm.ground.rows import unknown


def log_shares(weights: Float[Array, " k"]) -> Float[Array, " k"]:
    """Logarithms of weights divided by their sum, -inf for a weight of 0.

    The first derivative holds at 0 too; the second one in a weight of 0, twice, is NaN.
    """
    return _log_shares(weights)


def present(log_shares: Float[Array, "*batch k"]) -> Bool[Array, "*batch k"]:
    """Whether there is anything of a share: not where it is 0, nor where what replaces 0 stands."""
    return ~(log_shares <= math.log(2 * _least(log_shares.dtype)))


def _least(dtype: Any) -> float:
    # Between what is seen beside 1, and what is left when it is multiplied by densities far smaller than the others.
    return float(jnp.finfo(dtype).tiny) ** 0.75


@jax.custom_jvp
def _log_shares(weights: Float[Array, " k"]) -> Float[Array, " k"]:
    return jnp.log(weights) - jnp.log(jnp.sum(weights))


@jax.custom_jvp
def _finite_log_shares(weights: Float[Array, " k"]) -> Float[Array, " k"]:
    return jnp.log(jnp.maximum(weights, _floor(weights))) - jnp.log(jnp.sum(weights))


def _log_shares_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (weights,), (moves,) = primals, tangents
    slopes = _reciprocal(weights, jax.lax.stop_gradient(_floor(weights)))
    return _finite_log_shares(weights), moves * slopes - jnp.sum(moves) / jnp.sum(weights)


_log_shares.defjvp(_log_shares_jvp)
_finite_log_shares.defjvp(_log_shares_jvp)


@jax.custom_jvp
def _reciprocal(weights: Float[Array, " k"], floor: Float[Array, ""]) -> Float[Array, " k"]:
    return 1 / jnp.maximum(weights, floor)


@_reciprocal.defjvp
def _(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (weights, floor), (moves, _) = primals, tangents
    gone = weights < floor
    return _reciprocal(weights, floor), -unknown(gone, moves) / jnp.where(gone, 1, weights) ** 2


def _floor(weights: Float[Array, " k"]) -> Float[Array, ""]:
    return _least(weights.dtype) * jnp.sum(weights)
