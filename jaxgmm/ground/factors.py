"""Algebra of covariances by their lower triangular factors, which never forms a product that cancels."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgmm.ground.linalg import einsum, lower_factor, tril_inverse


def split(
    rows: Float[Array, "*batch m r"], given: int
) -> tuple[Float[Array, "*batch g g"], Float[Array, "*batch h g"], Float[Array, "*batch h h"]]:
    """Of variables `rows z`, with z standard normal: how the later ones depend on the first `given` of them.

    Returns the factor of the first ones, the rest's coefficients on them whitened, and the factor of what then remains.
    """
    factor = lower_factor(rows)
    return factor[..., :given, :given], factor[..., given:, :given], factor[..., given:, given:]


def solve(factor: Float[Array, "*batch d d"], vectors: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
    """L^-1 v."""
    return jax.lax.linalg.triangular_solve(factor, vectors[..., None], left_side=True, lower=True)[..., 0]


def combined(factor: Float[Array, "*batch d d"], other: Float[Array, "*batch d d"]) -> Float[Array, "*batch d d"]:
    """Factor of the sum of two covariances."""
    return lower_factor(jnp.concatenate([factor, other], axis=-1))


def fused(
    factor: Float[Array, "*batch d d"], other: Float[Array, "*batch d d"]
) -> tuple[Float[Array, "*batch d d"], Float[Array, "*batch d d"], Float[Array, "*batch d d"]]:
    """A variable and what it is seen as, with noise of the other covariance: as `split`, the sight comes first."""
    seen = jnp.concatenate([factor, other], axis=-1)
    own = jnp.concatenate([factor, jnp.zeros_like(other)], axis=-1)
    return split(jnp.concatenate([seen, own], axis=-2), factor.shape[-1])


def relative_entropy(factor: Float[Array, "*batch d d"], other: Float[Array, "*batch d d"]) -> Float[Array, "*batch"]:
    """KL divergence from the first to the other of two Gaussians with the same mean."""
    ratio = einsum("...ij,...jk->...ik", tril_inverse(other), factor)
    below = jnp.sum(jnp.tril(ratio, -1) ** 2, axis=(-2, -1)) / 2
    return below + jnp.sum(scale_entropy(jnp.diagonal(ratio, axis1=-2, axis2=-1)), axis=-1)


def scale_entropy(ratio: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The same in one dimension, by the ratio r of the standard deviations: (r^2 - 1) / 2 - log r."""
    # Not r^2 - 1, which for r near 1 would round to more than what remains.
    return (ratio - 1) * (ratio + 1) / 2 - jnp.log(ratio)


def squared_bures(factor: Float[Array, "*batch d d"], other: Float[Array, "*batch d d"]) -> Float[Array, "*batch"]:
    """Squared Bures distance of two covariances, min over rotations U of |K - L U|^2.

    The difference is taken of the factors, so nothing cancels where the two covariances are close.
    """
    rotation = polar(einsum("...ji,...jk->...ik", other, factor))
    return jnp.sum((factor - einsum("...ij,...jk->...ik", other, rotation)) ** 2, axis=(-2, -1))


@jax.custom_jvp
def polar(matrix: Float[Array, "*batch d d"]) -> Float[Array, "*batch d d"]:
    """The orthogonal matrix nearest to a regular one; differentiable also where singular values coincide."""
    left, _, right = jnp.linalg.svd(matrix)
    return einsum("...ij,...jk->...ik", left, right)


@polar.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # M = U H gives U^T dM - dM^T U = W H + H W for the skew W = U^T dU.
    rotation = polar(primals[0])
    stretch = einsum("...ji,...jk->...ik", rotation, primals[0])
    turned = einsum("...ji,...jk->...ik", rotation, tangents[0])
    skew = _lyapunov((stretch + jnp.swapaxes(stretch, -1, -2)) / 2, turned - jnp.swapaxes(turned, -1, -2))
    return rotation, einsum("...ij,...jk->...ik", rotation, skew)


@jax.custom_jvp
def _lyapunov(matrix: Float[Array, "*batch d d"], target: Float[Array, "*batch d d"]) -> Float[Array, "*batch d d"]:
    """X with `matrix X + X matrix = target`, for a symmetric positive definite matrix."""
    values, vectors = jnp.linalg.eigh(matrix)
    inner = einsum("...ji,...jk,...kl->...il", vectors, target, vectors)
    inner = inner / (values[..., :, None] + values[..., None, :])
    return einsum("...ij,...jk,...lk->...il", vectors, inner, vectors)


@_lyapunov.defjvp
def _(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    solution, (change, target) = _lyapunov(*primals), tangents
    moved = einsum("...ij,...jk->...ik", change, solution) + einsum("...ij,...jk->...ik", solution, change)
    return solution, _lyapunov(primals[0], target - moved)
