"""Draws in proportion to weights, in memory for the weights and the draws, not for their product."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxgmm.ground.shards import Shards

# Draws, or masses to draw from, up to which every one is compared with every other.
_FEW = 64


def places(key: jax.Array, mass: Float[Array, " n"], draws: int) -> Int[Array, " draws"]:
    """Places drawn in proportion to `mass`; never one without mass."""
    return places_at(jax.random.uniform(key, (draws,), mass.dtype), mass)


def places_at(
    shares: Float[Array, " draws"], mass: Float[Array, " n"], shards: Shards | None = None
) -> Int[Array, " draws"]:
    """The places up to which `mass` sums to these shares of all of it, from 0 to 1; never one without mass.

    Inside of `on_each`, of the mass of all devices: -1 where the place is on another one. What these exchange is the
    total of each. The places are those of all mass in a row, but for what rounds otherwise.
    """
    cumulative = jnp.cumsum(mass)
    if shards is None:
        return _first_above(shares * cumulative[-1], cumulative, mass)
    totals = shards.each(cumulative[-1])
    ends = jnp.cumsum(totals)
    within = shares * ends[-1]
    before = jnp.where(shards.here() > 0, ends[shards.here() - 1], 0)
    mine = _first_above(within, ends, totals) == shards.here()
    return jnp.where(mine, _first_above(within - before, cumulative, mass), -1)


def earliest(
    times: Float[Array, " n"], size: int, shards: Shards | None = None
) -> tuple[Int[Array, " size"], Float[Array, ""]]:
    """The places of so many of the least of these times, in order of the rows, and the least of all others.

    Inside of `on_each`, of the times of all devices: -1 where the place is on another one. What these exchange is as
    many times of each. All places, and infinity, where there are no more. Where times are exponential, of rates in
    proportion to masses, these are drawn by their masses without replacement.

    Source: Efraimidis & Spirakis (2006), Inf. Process. Lett. 97.
    """
    n = times.size if shards is None else times.size * shards.number
    size = min(size, n)
    least, places = jax.lax.top_k(-times, min(size + 1, times.size))
    least = -least
    if shards is not None:
        here = jnp.arange(shards.number)[:, None] == shards.here()
        # Infinity is no number to add zeros to.
        largest = jnp.finfo(times.dtype).max
        each = jax.lax.psum(jnp.where(here, jnp.minimum(least, largest), 0), shards.axes)
        least = jnp.where(each < largest, each, jnp.inf).ravel()
        places = jax.lax.psum(jnp.where(here, places + shards.here() * times.size, 0), shards.axes).ravel()
    order = jax.lax.top_k(-least, size)[1]
    rest = jnp.ones(least.shape, bool).at[order].set(False)
    found = jnp.sort(places[order])
    if shards is not None:
        found = found - shards.here() * times.size
        found = jnp.where((found >= 0) & (found < times.size), found, -1)
    return found, jnp.min(jnp.where(rest, least, jnp.inf))


def _first_above(
    values: Float[Array, " draws"], cumulative: Float[Array, " n"], mass: Float[Array, " n"]
) -> Int[Array, " draws"]:
    # Counting what lies below is one operation, a search a loop of many.
    way = "compare_all" if min(mass.size, values.size) <= _FEW else "scan"
    found = jnp.searchsorted(cumulative, values, side="right", method=way)
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
