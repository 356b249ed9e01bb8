"""Draws in proportion to weights, in memory for the weights and the draws, not for their product."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def places(key: jax.Array, mass: Float[Array, " n"], draws: int) -> Int[Array, " draws"]:
    """Places drawn in proportion to `mass`, by inversion; never one without mass."""
    cumulative = jnp.cumsum(mass)
    found = jnp.searchsorted(cumulative, jax.random.uniform(key, (draws,), mass.dtype) * cumulative[-1], side="right")
    last = mass.size - 1 - jnp.argmax(mass[::-1] > 0)
    return jnp.minimum(found, last)


def on_the_host(key: jax.Array) -> np.random.Generator:
    """A generator of numpy that this key alone decides, for what needs float64 or shapes of its own."""
    return np.random.default_rng(np.asarray(jax.random.bits(key, (4,), np.uint32)))
