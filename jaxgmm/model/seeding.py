"""Seedings: where the components of a mixture start. Each gives the responsibilities of any block of rows.

All work on standardised rows (each column with mean 0 and variance 1), so that the units of the data do not matter, and
draw rows in proportion to their weights.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxgmm.ground import linalg
from jaxgmm.ground.rows import Rows, block_size_for, sum_over_blocks

Rule = Callable[[Float[Array, "b d"], Int[Array, " b"]], Float[Array, "b k"]]
"""Responsibilities of a block of standardised rows, given their places in the data."""

Seeding = Callable[[jax.Array, Float[Array, "n d"], Float[Array, " n"], int], Rule]
"""From a key, standardised rows, their weights and the number of components to a rule."""

_LloydState = tuple[Array, Array, Array]
_LLOYD_ITERATIONS = 300
_LLOYD_TOLERANCE = 1e-4


def kmeans(key: jax.Array, z: Float[Array, "n d"], weights: Float[Array, " n"], n_components: int) -> Rule:
    """k-means++ followed by Lloyd's algorithm; each row belongs to its nearest center.

    Source: Lloyd (1982), IEEE Trans. Inf. Theory 28. A center without rows stays where it is.
    """
    centers = _spread(key, z, weights, n_components, _squared_distance, _n_candidates(n_components))
    return _nearest(_lloyd(z, weights, centers))


def kmeans_plus_plus(key: jax.Array, z: Float[Array, "n d"], weights: Float[Array, " n"], n_components: int) -> Rule:
    """Centers drawn one after the other in proportion to their squared distance, the best of several candidates each.

    Source: Arthur & Vassilvitskii (2007), SODA, in its greedy form.
    """
    return _nearest(_spread(key, z, weights, n_components, _squared_distance, _n_candidates(n_components)))


def random_from_data(key: jax.Array, z: Float[Array, "n d"], weights: Float[Array, " n"], n_components: int) -> Rule:
    """Centers are distinct rows drawn in proportion to their weight."""
    return _nearest(_spread(key, z, weights, n_components, _is_elsewhere, 1))


def random(key: jax.Array, z: Float[Array, "n d"], weights: Float[Array, " n"], n_components: int) -> Rule:
    """Responsibilities drawn uniformly, then normalised.

    All components start near the mean of the data, the nearer the more rows there are. That is a saddle of the
    likelihood, which a fit leaves slowly: it may need a `tol` far below the default to get away.
    """

    def rule(z: Float[Array, "b d"], places: Int[Array, " b"]) -> Float[Array, "b k"]:
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, places)
        drawn = jax.vmap(lambda key: jax.random.uniform(key, (n_components,), z.dtype, minval=1e-6))(keys)
        return drawn / jnp.sum(drawn, axis=1, keepdims=True)

    return rule


SEEDINGS: dict[str, Seeding] = {
    "kmeans": kmeans,
    "k-means++": kmeans_plus_plus,
    "random_from_data": random_from_data,
    "random": random,
}


def _nearest(centers: Float[Array, "k d"]) -> Rule:
    return lambda z, places: _assign(centers, z)


def _assign(centers: Float[Array, "k d"], z: Float[Array, "b d"]) -> Float[Array, "b k"]:
    return jax.nn.one_hot(jnp.argmin(_squared_distance(centers, z), axis=0), centers.shape[0], dtype=z.dtype)


def _squared_distance(centers: Float[Array, "c d"], z: Float[Array, "n d"]) -> Float[Array, "c n"]:
    return jnp.sum((z - centers[:, None, :]) ** 2, axis=2)


def _is_elsewhere(centers: Float[Array, "c d"], z: Float[Array, "n d"]) -> Float[Array, "c n"]:
    return jnp.any(z != centers[:, None, :], axis=2).astype(z.dtype)


def _n_candidates(n_components: int) -> int:
    return 2 + int(math.log(n_components))


def _spread(
    key: jax.Array,
    z: Float[Array, "n d"],
    weights: Float[Array, " n"],
    n_components: int,
    distance: Callable[[Array, Array], Array],
    n_candidates: int,
) -> Float[Array, "k d"]:
    """Rows drawn one after the other in proportion to weight times distance to those drawn before.

    Of `n_candidates` draws the one that leaves the smallest total cost is taken. Once every row is at a center, the
    draw is in proportion to weight alone.
    """
    for_first, for_others = jax.random.split(key)
    first = z[_draw_rows(for_first, weights, 1)]

    def step(cost: Float[Array, " n"], key: jax.Array) -> tuple[Float[Array, " n"], Float[Array, " d"]]:
        mass = weights * cost
        places = _draw_rows(key, jnp.where(jnp.any(mass > 0), mass, weights), n_candidates)
        costs = jnp.minimum(cost, distance(z[places], z))
        best = jnp.argmin(jnp.sum(weights * costs, axis=1))
        return costs[best], z[places[best]]

    keys = jax.random.split(for_others, n_components - 1)
    _, others = jax.lax.scan(step, distance(first, z)[0], keys)
    return jnp.concatenate([first, others])


def _draw_rows(key: jax.Array, mass: Float[Array, " n"], draws: int) -> Int[Array, " draws"]:
    """Places drawn in proportion to `mass`, by inversion; never one without mass."""
    cumulative = jnp.cumsum(mass)
    places = jnp.searchsorted(cumulative, jax.random.uniform(key, (draws,), mass.dtype) * cumulative[-1], side="right")
    last = mass.size - 1 - jnp.argmax(mass[::-1] > 0)
    return jnp.minimum(places, last)


def _lloyd(z: Float[Array, "n d"], weights: Float[Array, " n"], centers: Float[Array, "k d"]) -> Float[Array, "k d"]:
    rows = Rows.of(z, weights, block_size_for(z.shape[0], centers.size))

    def sums(centers: Float[Array, "k d"]) -> tuple[Float[Array, " k"], Float[Array, "k d"]]:
        def block(rows: Rows) -> tuple[Float[Array, " k"], Float[Array, "k d"]]:
            assigned = _assign(centers, rows.x) * rows.weights[:, None]
            return jnp.sum(assigned, axis=0), linalg.einsum("nk,nd->kd", assigned, rows.x)

        return sum_over_blocks(block, rows)

    def step(state: _LloydState) -> _LloydState:
        centers, _, iteration = state
        counts, totals = sums(centers)
        filled = counts[:, None] > 0
        moved = jnp.where(filled, totals / jnp.where(filled, counts[:, None], 1), centers)
        return moved, jnp.sum((moved - centers) ** 2), iteration + 1

    def unfinished(state: _LloydState) -> Array:
        _, shift, iteration = state
        return (shift > _LLOYD_TOLERANCE) & (iteration < _LLOYD_ITERATIONS)

    return jax.lax.while_loop(unfinished, step, (centers, jnp.asarray(jnp.inf, z.dtype), jnp.asarray(0)))[0]
