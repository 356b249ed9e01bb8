"""Draws in proportion to weights, in memory for the weights and the draws, not for their product."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

# Draws, or masses to draw from, up to which every one is compared with every other.
_FEW = 64


def places(key: jax.Array, mass: Float[Array, " n"], draws: int) -> Int[Array, " draws"]:
    """Places drawn in proportion to `mass`; never one without mass."""
    return places_at(jax.random.uniform(key, (draws,), mass.dtype), mass)


def places_at(shares: Float[Array, " draws"], mass: Float[Array, " n"]) -> Int[Array, " draws"]:
    """The places up to which `mass` sums to these shares of all of it, from 0 to 1; never one without mass."""
    cumulative = jnp.cumsum(mass)
    # Counting what lies below is one operation, a search a loop of many.
    way = "compare_all" if min(mass.size, shares.size) <= _FEW else "scan"
    found = jnp.searchsorted(cumulative, shares * cumulative[-1], side="right", method=way)
    last = mass.size - 1 - jnp.argmax(mass[::-1] > 0)
    return jnp.minimum(found, last)


def on_the_host(key: jax.Array) -> np.random.Generator:
    """A generator of numpy that this key alone decides, for what needs float64 or shapes of its own."""
    return np.random.default_rng(np.asarray(jax.random.bits(key, (4,), np.uint32)))


def resampled(
    generator: np.random.Generator, weights: Float[Array, " n"] | Float[np.ndarray, " n"], n_draws: int
) -> np.ndarray:
    """How often each row is drawn (n_draws, n), of as many draws as there are rows, which is what the weights count."""
    given = np.asarray(weights)
    inside = np.flatnonzero(given > 0)
    mass = given[inside].astype(np.float64)
    times = generator.multinomial(max(1, round(mass.sum())), mass / mass.sum(), n_draws)
    drawn = np.zeros((n_draws, given.size), given.dtype)
    drawn[:, inside] = times
    return drawn
