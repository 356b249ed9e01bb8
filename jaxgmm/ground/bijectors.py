"""Maps between constrained parameters and free coordinates. `ground/bounds.py` names them where a field is bounded.

Each pair keeps the shape of its argument, so that constrained and unconstrained parameters share one type.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxgmm.ground import factors


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


def free_to_unit_product(free: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
    """Any d numbers to positive ones whose product is 1; their logarithms lead back."""
    return jnp.exp(free - jnp.mean(free, axis=-1, keepdims=True))


def free_to_unit_tril(free: Float[Array, "*batch d d"]) -> Float[Array, "*batch d d"]:
    """As `free_to_tril`, to Cholesky factors of determinant 1; `tril_to_free` leads back."""
    diagonal = jnp.diagonal(free, axis1=-2, axis2=-1)
    excess = jnp.mean(diagonal, axis=-1)[..., None, None]
    return free_to_tril(jnp.where(np.eye(free.shape[-1], dtype=bool), free - excess, free))


def free_to_orthogonal(free: Float[Array, "*batch d d"]) -> Float[Array, "*batch d d"]:
    """Any regular matrix to the nearest orthogonal one; orthogonal matrices are their own free coordinates."""
    return factors.polar(free)


def free_to_log_simplex(free: Float[Array, "*batch k"]) -> Float[Array, "*batch k"]:
    """Any k numbers to log-weights that sum to one; log-weights are their own free coordinates."""
    return jax.nn.log_softmax(free, axis=-1)


def _below(matrix: Float[Array, "*batch d d"]) -> np.ndarray:
    return np.tri(matrix.shape[-1], k=-1, dtype=bool)
