"""Maps between constrained parameters and free coordinates. A bound on a parameter lives here and nowhere else.

Each pair keeps the shape of its argument, so that constrained and unconstrained parameters share one type.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def positive_to_free(value: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Positive numbers to the real line, by the logarithm."""
    return jnp.log(value)


def free_to_positive(free: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Inverse of `positive_to_free`."""
    return jnp.exp(free)


def tril_to_free(factor: Float[Array, "*batch d d"]) -> Float[Array, "*batch d d"]:
    """Cholesky factors to free lower triangles: the diagonal by its logarithm, the strict upper triangle stays 0."""
    diagonal = jnp.diagonal(factor, axis1=-2, axis2=-1)
    return jnp.tril(factor, -1) + _diagonal_matrix(positive_to_free(diagonal))


def free_to_tril(free: Float[Array, "*batch d d"]) -> Float[Array, "*batch d d"]:
    """Inverse of `tril_to_free`; whatever stands above the diagonal is ignored."""
    diagonal = jnp.diagonal(free, axis1=-2, axis2=-1)
    return jnp.tril(free, -1) + _diagonal_matrix(free_to_positive(diagonal))


def free_to_log_simplex(free: Float[Array, "*batch k"]) -> Float[Array, "*batch k"]:
    """Any k numbers to log-weights that sum to one; log-weights are their own free coordinates."""
    return jax.nn.log_softmax(free, axis=-1)


def _diagonal_matrix(diagonal: Float[Array, "*batch d"]) -> Float[Array, "*batch d d"]:
    return diagonal[..., None] * jnp.eye(diagonal.shape[-1], dtype=diagonal.dtype)
