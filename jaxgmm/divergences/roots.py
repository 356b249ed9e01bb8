"""Distances from their squares."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def safe_sqrt(square: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The root; 0 with derivative 0 where the square is not positive, the one of a distance at its tip."""
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)
