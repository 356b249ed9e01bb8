"""Seedings: where the components of a mixture start. Each shares the rows out among the components that are present.

Rows are drawn in proportion to their weights. Distances are taken in coordinates that suit what is sought: of
standardised columns (mean 0, variance 1), in which the units of the data do not matter; whitened, in which no linear
map of the data matters; or unscaled, the columns as they come, which is what spherical covariances see.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.ground import draws, linalg
from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.ground.rows import Rows, block_size_for, map_rows, sum_over_blocks


@record
class Columns:
    """Rows without gaps, and the scale they are on.

    Fields: `z` (n, d), standardised rows; `weights` (n,), of largest 1; `center` and `scale` (d,), mean and standard
    deviation (1 if none) of each column, in the units of the data.
    """

    z: Leaf
    weights: Leaf
    center: Leaf
    scale: Leaf


Seeding = Callable[[jax.Array, Columns, Bool[Array, " k"]], Int[Array, " n"]]
"""From a key, the data and which components are present to the component of each row."""

_Coordinates = Callable[[Columns], Float[Array, "n d"]]
_LloydState = tuple[Array, Array, Array]
_LLOYD_ITERATIONS = 300
_LLOYD_TOLERANCE = 1e-4


def standardised(columns: Columns) -> Float[Array, "n d"]:
    """Every column with mean 0 and variance 1."""
    return columns.z


def unscaled(columns: Columns) -> Float[Array, "n d"]:
    """The columns in their own units, but for one common factor."""
    return columns.z * (columns.scale / jnp.max(columns.scale))


def whitened(columns: Columns) -> Float[Array, "n d"]:
    """Uncorrelated columns of variance 1; standardised ones where these depend on each other."""
    return linalg.einsum("ni,ji->nj", columns.z, linalg.tril_inverse(correlation_factor(columns)))


def correlation_factor(columns: Columns) -> Float[Array, "d d"]:
    """Cholesky factor of the columns' correlations; the identity where they depend on each other."""
    total = jnp.maximum(jnp.sum(columns.weights), jnp.finfo(columns.z.dtype).tiny)
    products = linalg.einsum("ni,nj->ij", columns.z * columns.weights[:, None], columns.z)
    return linalg.scaled_cholesky(products / total)


def kmeans(
    key: jax.Array, columns: Columns, present: Bool[Array, " k"], coordinates: _Coordinates = standardised
) -> Int[Array, " n"]:
    """k-means++ followed by Lloyd's algorithm; each row belongs to its nearest center.

    Source: Lloyd (1982), IEEE Trans. Inf. Theory 28. A center without rows stays where it is.
    """
    z, weights = coordinates(columns), columns.weights
    centers = _spread(key, z, weights, present.size, _squared_distance, _n_candidates(present.size))
    return _nearest(_lloyd(z, weights, centers, present), present, z)


def kmeans_plus_plus(key: jax.Array, columns: Columns, present: Bool[Array, " k"]) -> Int[Array, " n"]:
    """Centers drawn one after the other in proportion to their squared distance, the best of several candidates each.

    Source: Arthur & Vassilvitskii (2007), SODA, in its greedy form.
    """
    z, weights = columns.z, columns.weights
    centers = _spread(key, z, weights, present.size, _squared_distance, _n_candidates(present.size))
    return _nearest(centers, present, z)


def random_from_data(key: jax.Array, columns: Columns, present: Bool[Array, " k"]) -> Int[Array, " n"]:
    """Centers are distinct rows drawn in proportion to their weight."""
    return _nearest(_spread(key, columns.z, columns.weights, present.size, _is_elsewhere, 1), present, columns.z)


def random(key: jax.Array, columns: Columns, present: Bool[Array, " k"]) -> Int[Array, " n"]:
    """Every row goes to a component drawn at random.

    All components start near the mean of the data, the nearer the more rows there are. That is a saddle of the
    likelihood, which a fit leaves slowly: it may need a `tol` far below the default to get away.
    """
    return jax.random.randint(key, columns.z.shape[:1], 0, jnp.sum(present))


SEEDINGS: dict[str, Seeding] = {
    "kmeans": kmeans,
    "kmeans_whitened": functools.partial(kmeans, coordinates=whitened),
    "kmeans_unscaled": functools.partial(kmeans, coordinates=unscaled),
    "k-means++": kmeans_plus_plus,
    "random_from_data": random_from_data,
    "random": random,
}


def _nearest(centers: Float[Array, "k d"], present: Bool[Array, " k"], z: Float[Array, "n d"]) -> Int[Array, " n"]:
    return map_rows(lambda z: _assign(centers, present, z), z, block_size_for(z.shape[0], centers.size))


def _assign(centers: Float[Array, "k d"], present: Bool[Array, " k"], z: Float[Array, "b d"]) -> Int[Array, " b"]:
    return jnp.argmin(jnp.where(present[:, None], _squared_distance(centers, z), jnp.inf), axis=0)


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
    first = z[draws.places(for_first, weights, 1)]

    def step(cost: Float[Array, " n"], key: jax.Array) -> tuple[Float[Array, " n"], Float[Array, " d"]]:
        mass = weights * cost
        places = draws.places(key, jnp.where(jnp.any(mass > 0), mass, weights), n_candidates)
        costs = jnp.minimum(cost, distance(z[places], z))
        best = jnp.argmin(jnp.sum(weights * costs, axis=1))
        return costs[best], z[places[best]]

    keys = jax.random.split(for_others, n_components - 1)
    _, others = jax.lax.scan(step, distance(first, z)[0], keys)
    return jnp.concatenate([first, others])


def _lloyd(
    z: Float[Array, "n d"], weights: Float[Array, " n"], centers: Float[Array, "k d"], present: Bool[Array, " k"]
) -> Float[Array, "k d"]:
    rows = Rows.of(z, weights, block_size_for(z.shape[0], centers.size))

    def sums(centers: Float[Array, "k d"]) -> tuple[Float[Array, " k"], Float[Array, "k d"]]:
        def block(rows: Rows) -> tuple[Float[Array, " k"], Float[Array, "k d"]]:
            assigned = jax.nn.one_hot(_assign(centers, present, rows.x), present.size, dtype=z.dtype)
            assigned = assigned * rows.weights[:, None]
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
