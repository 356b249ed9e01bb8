"""The few directions in which the components of a mixture differ most."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxgmm.ground import checks, linalg
from jaxgmm.ground.programs import program
from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.model import geometry
from jaxgmm.model.mixture import Mixture, check_mixture

# Eigenvalues that differ by no more than so many roundings of the largest, for each column, are the same.
_ROUNDINGS = 8


@record
class Projection:
    """Directions that tell the components of a mixture apart, the first one most.

    Fields: `matrix` (m, d) and `offset` (m,), so that z = matrix x + offset has mean 0, variance 1 and no correlation
    under the mixture as a whole; `separation` (m,), how much each direction tells, the eigenvalues, from the largest
    on: 0 where it tells nothing, and any direction will do.
    """

    matrix: Leaf
    offset: Leaf
    separation: Leaf


def projection(mixture: Mixture, n_columns: int = 2, *, means: Any = 0.5) -> Projection:
    """The few directions in which the components of a mixture differ most, by their means and covariances.

    With m and S the mean and covariance of the mixture as a whole, and W = sum_k w_k S_k that within components, they
    are the eigenvectors, in the metric of S, of the largest eigenvalues of::

        2 a B S^-1 B + 2 (1 - a) sum_k w_k (S_k - W) S^-1 (S_k - W),    B = sum_k w_k (m_k - m) (m_k - m)^T

    Where all components have one covariance, only the first term is left, whatever a is, and the first direction of two
    components is Fisher's. The directions say the same of the rows in all units and after every linear map of them.
    `mixture.affine(found.matrix, found.offset)` is the mixture of the rows `x @ found.matrix.T + found.offset`.

    Args:
        mixture: two components or more in d columns, of a family that has a location. One of noise does not count.
        n_columns: how many directions, m, up to d. Static.
        means: a, from 0 to 1: how much differences of means count beside those of covariances. With 1 they alone count,
            and directions beyond the first k - 1 tell nothing.

    Returns:
        `Projection`. The order is fixed, and so is the sign: of the components that are at least half as far out as the
        farthest, the first one is on the negative side; where means tell nothing, the column that counts most there is
        positive. Components without a covariance have in its place what they have as their width.

        Derivatives in the mixture are NaN where one of these directions tells as much as another one of all d: which
        of them is which is then decided by rounding.

    Raises:
        TypeError, ValueError: not one mixture, of one component, fewer columns than are asked for, or `means` outside
            of 0 to 1.

    Source: Scrucca (2010), Dimension reduction for model-based clustering, Stat. Comput. 20.

    >>> import jaxgmm
    >>> flat = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 9.0]]
    >>> mixture = jaxgmm.from_parameters([0.5, 0.5], [[0.0, 0.0, 0.0], [0.0, 4.0, 4.0]], flat, "tied")
    >>> found = jaxgmm.projection(mixture, 1)
    >>> [f"{abs(value):.3f}" for value in found.matrix[0] / found.matrix[0, 1]]
    ['0.000', '1.000', '0.111']
    >>> [f"{value:.2f}" for value in mixture.affine(found.matrix, found.offset).means[:, 0]]
    ['-0.90', '0.90']
    """
    mixture = check_mixture(mixture)
    if mixture.noise_component is not None:
        mixture = mixture.take(range(mixture.n_clusters))
    n_columns = checks.count("n_columns", n_columns)
    if n_columns > mixture.n_columns:
        raise ValueError(
            f"n_columns is {n_columns}, and the mixture has {mixture.n_columns}; expected no more directions than "
            "columns."
        )
    if not checks.holds(lambda log_weights: np.sum(log_weights > -np.inf) > 1, mixture.log_weights) or (
        mixture.n_components < 2
    ):
        raise ValueError(
            "mixture has one component, and there is nothing that a direction could tell apart; expected two or more."
        )
    share = checks.scalar("means", means, mixture.means.dtype)
    if not checks.holds(lambda share: share <= 1, share):
        raise ValueError(f"means is {float(share):g}; expected a share from 0 to 1.")
    return project(mixture, share, n_columns)


@program(static=("n_columns",))
def project(mixture: Mixture, means: Float[Array, ""], n_columns: int) -> Projection:
    """`projection` of what is checked."""
    weights = mixture.weights
    present = weights[:, None] > 0
    mean = geometry.mean(mixture)
    away = jnp.where(present, mixture.means - mean, 0)
    widths = jnp.where(present[:, :, None], mixture.components.dispersions, 0)
    within = linalg.einsum("k,kij->ij", weights, widths)
    whole = linalg.scaled_cholesky(geometry.dispersion(mixture))
    whiten = linalg.tril_inverse(whole)
    # In coordinates in which the whole has covariance 1.
    away = linalg.einsum("ij,kj->ki", whiten, away)
    between = linalg.einsum("ki,kj->ij", weights[:, None] * away, away)
    widths = linalg.einsum("ij,kjl,ml->kim", whiten, widths - within, whiten)
    kernel = 2 * means * linalg.einsum("ij,jl->il", between, between)
    kernel = kernel + 2 * (1 - means) * linalg.einsum("kij,kjl->il", weights[:, None, None] * widths, widths)
    separation, directions = _leading((kernel + kernel.T) / 2, n_columns)
    matrix = linalg.einsum("jm,ji->mi", directions, whiten)
    sign = _signs(linalg.einsum("ki,im->mk", away, directions), matrix * jnp.linalg.norm(whole, axis=1))
    matrix = sign[:, None] * matrix
    return Projection(matrix, -linalg.einsum("mi,i->m", matrix, mean), jnp.maximum(separation, 0))


def _signs(means: Float[Array, "m k"], loadings: Float[Array, "m d"]) -> Float[Array, " m"]:
    """Which way each direction is to be taken, by where the components are in it, or else by the columns."""
    sizes = jnp.abs(means)
    farthest = jnp.max(sizes, axis=1, keepdims=True)
    # Not by the farthest itself: two may be as far, and rounding would decide between them.
    first = jnp.take_along_axis(means, jnp.argmax(sizes >= farthest / 2, axis=1, keepdims=True), axis=1)
    largest = jnp.take_along_axis(loadings, jnp.argmax(jnp.abs(loadings), axis=1, keepdims=True), axis=1)
    told = farthest > jnp.sqrt(jnp.finfo(means.dtype).eps)
    return jax.lax.stop_gradient(jnp.where(jnp.where(told, -first, largest) < 0, -1, 1).astype(means.dtype)[:, 0])


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _leading(matrix: Float[Array, "d d"], m: int) -> tuple[Float[Array, " m"], Float[Array, "d m"]]:
    """The largest eigenvalues, in descending order, and their vectors as columns."""
    values, vectors = jnp.linalg.eigh(matrix)
    return values[::-1][:m], vectors[:, ::-1][:, :m]


@_leading.defjvp
def _(m: int, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Any, Any]:
    values, vectors = jnp.linalg.eigh(primals[0])
    values, vectors = values[::-1], vectors[:, ::-1]
    # Of those that are asked for alone: that others are like each other does not touch them.
    limit = _ROUNDINGS * values.size * float(jnp.finfo(values.dtype).eps) * jnp.max(jnp.abs(values))
    gaps = values[None, :m] - values[:, None]
    itself = jnp.eye(values.size, m, dtype=bool)
    apart = ~itself & (jnp.abs(gaps) > limit)
    rates = jnp.where(apart, 1 / jnp.where(apart, gaps, 1), jnp.where(itself, 0, jnp.nan))
    inner = linalg.einsum("ji,jm->im", vectors, linalg.einsum("jl,lm->jm", tangents[0], vectors[:, :m]))
    moves = linalg.einsum("ji,im->jm", vectors, rates * inner)
    return (values[:m], vectors[:, :m]), (jnp.diagonal(inner), moves)
