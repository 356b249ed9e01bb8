"""Maps between constrained parameters and free coordinates. `ground/bounds.py` names them where a field is bounded.

Each pair keeps the shape of its argument, so that constrained and unconstrained parameters share one type.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def positive_to_free(value: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Positive numbers to the real line, by the logarithm."""
    return jnp.log(value)


def free_to_positive(free: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Inverse of `positive_to_free`."""
    return jnp.exp(free)


def tril_to_free(factor: Float[Array, "*batch d d"]) -> Float[Array, "*batch d d"]:
    """Cholesky factors to free lower triangles: the diagonal by its logarithm, the strict upper triangle stays 0."""
    inside = np.eye(factor.shape[-1], dtype=bool)
    return jnp.where(inside, positive_to_free(jnp.where(inside, factor, 1)), jnp.where(_below(factor), factor, 0))


def free_to_tril(free: Float[Array, "*batch d d"]) -> Float[Array, "*batch d d"]:
    """Inverse of `tril_to_free`; whatever stands above the diagonal is ignored."""
    inside = np.eye(free.shape[-1], dtype=bool)
    return jnp.where(inside, free_to_positive(jnp.where(inside, free, 0)), jnp.where(_below(free), free, 0))


def free_to_log_simplex(free: Float[Array, "*batch k"]) -> Float[Array, "*batch k"]:
    """Any k numbers to log-weights that sum to one; log-weights are their own free coordinates."""
    return jax.nn.log_softmax(free, axis=-1)


def _below(matrix: Float[Array, "*batch d d"]) -> np.ndarray:
    return np.tri(matrix.shape[-1], k=-1, dtype=bool)
