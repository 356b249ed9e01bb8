"""Linear algebra that holds in float32: pinned matrix products, triangular inverses, covariances kept above a floor."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Bool, Float

# A covariance is kept above this many units of rounding of its own diagonal, so that its factor always exists.
_ROUNDING_UNITS = 8
# Contractions of no more multiplications than this are faster as a loop than as a call of a library.
_FEW_PRODUCTS = 2**12
# Up to this size an inverse that is written out compiles and runs faster than a call of LAPACK, and up to the next one
# of two halves that are.
_WRITTEN_OUT, _HALVED = 3, 4
# From this size on OpenBLAS solves on threads of its own, matrix by matrix, and on a busy machine waits for them each
# time: some ten milliseconds for one solve.
_THREADED = 32


def einsum(subscripts: str, *operands: Array) -> Array:
    """`jnp.einsum` at the highest matmul precision, unless the caller chose one with `jax.default_matmul_precision`.

    GPUs default to TF32 and TPUs to bfloat16 for float32 products, which would cost a likelihood four digits. A product
    of two small operands is a sum of products instead, which fuses with what is around it: calling a library takes
    longer than the arithmetic.
    """
    if "." not in subscripts:
        (first, second, *others), result = (part.split(",") for part in subscripts.split("->"))
        if others:
            kept = "".join(name for name in dict.fromkeys(first + second) if name in "".join([*result, *others]))
            product = einsum(f"{first},{second}->{kept}", *operands[:2])
            return einsum(f"{','.join([kept, *others])}->{result[0]}", product, *operands[2:])
        sizes = dict(zip(first + second, operands[0].shape + operands[1].shape, strict=True))
        if math.prod(sizes.values()) <= _FEW_PRODUCTS:
            order = result[0] + "".join(name for name in sizes if name not in result[0])
            product = _spread(operands[0], first, order, sizes) * _spread(operands[1], second, order, sizes)
            return jnp.sum(product, axis=tuple(range(len(result[0]), len(order))))
    chosen = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    return jnp.einsum(subscripts, *operands, precision=jax.lax.Precision.HIGHEST if chosen is None else None)


def _spread(array: Array, names: str, order: str, sizes: dict[str, int]) -> Array:
    """Repeated along the axes that it lacks, all of them in the order of their names."""
    present = [name for name in order if name in names]
    moved = jax.lax.transpose(array, [names.index(name) for name in present]) if present != [*names] else array
    shape = [sizes[name] for name in order]
    return jax.lax.broadcast_in_dim(moved, shape, [order.index(name) for name in present])


def saturation(dtype: Any) -> float:
    """Log-densities below minus this are reported as -inf; kernels may stop telling values beyond it apart."""
    return float(jnp.finfo(dtype).max) * 1e-6


@jax.custom_jvp
def tril_inverse(factor: Float[Array, "*batch d d"]) -> Float[Array, "*batch d d"]:
    """Inverse of lower triangular matrices; what stands above the diagonal is not looked at.

    Large ones by halves: the two blocks on the diagonal together, and two products for the block below them.
    """
    d = factor.shape[-1]
    if d <= _WRITTEN_OUT:
        return _written_out(factor)
    if _HALVED < d < _THREADED:
        identity = jnp.broadcast_to(jnp.eye(d, dtype=factor.dtype), factor.shape)
        return jax.lax.linalg.triangular_solve(factor, identity, left_side=True, lower=True)
    if d % 2:
        larger = jnp.pad(factor, [(0, 0)] * (factor.ndim - 2) + [(0, 1), (0, 1)])
        return tril_inverse(larger.at[..., d, d].set(1))[..., :d, :d]
    h = d // 2
    first, second = tril_inverse(jnp.stack([factor[..., :h, :h], factor[..., h:, h:]]))
    below = -_product(_product(second, factor[..., h:, :h]), first)
    upper = jnp.concatenate([first, jnp.zeros_like(first)], axis=-1)
    return jnp.concatenate([upper, jnp.concatenate([below, second], axis=-1)], axis=-2)


@tril_inverse.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    inverse = tril_inverse(primals[0])
    return inverse, -_product(_product(inverse, jnp.tril(tangents[0])), inverse)


def _written_out(factor: Float[Array, "*batch d d"]) -> Float[Array, "*batch d d"]:
    """Inverse of lower triangular matrices of up to three rows: for L = D (1 + N), it is (1 - N + N^2) D^-1."""
    d = factor.shape[-1]
    diagonal = jnp.sum(jnp.where(np.eye(d, dtype=bool), factor, 0), axis=-1)
    inside = jnp.where(np.tri(d, k=-1, dtype=bool), factor, 0) / diagonal[..., :, None]
    series = jnp.asarray(np.eye(d, dtype=factor.dtype)) - inside
    return (series + _product(inside, inside) if d > 2 else series) / diagonal[..., None, :]


def _product(first: Float[Array, "*batch i j"], second: Float[Array, "*batch j k"]) -> Float[Array, "*batch i k"]:
    if first.size * second.shape[-1] <= _FEW_PRODUCTS:
        return jnp.sum(first[..., :, :, None] * second[..., None, :, :], axis=-2)
    return einsum("...ij,...jk->...ik", first, second)


@jax.custom_jvp
def cholesky(matrix: Float[Array, "*batch d d"]) -> Float[Array, "*batch d d"]:
    """Lower triangular factors of positive definite matrices, NaN where one is not; read off their lower triangles."""
    return jax.lax.linalg.cholesky(matrix, symmetrize_input=False)


@cholesky.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    factor = cholesky(primals[0])
    return factor, _factor_tangent(factor, tangents[0])


def _factor_tangent(
    factor: Float[Array, "*batch d d"], tangent: Float[Array, "*batch d d"]
) -> Float[Array, "*batch d d"]:
    """How a Cholesky factor moves with its matrix: L times the lower half of L^-1 dA L^-T."""
    inverse = tril_inverse(factor)
    tangent = (tangent + jnp.swapaxes(tangent, -1, -2)) / 2
    middle = jnp.tril(_product(_product(inverse, tangent), jnp.swapaxes(inverse, -1, -2)))
    return _product(factor, middle - jnp.eye(middle.shape[-1], dtype=middle.dtype) * middle / 2)


def semidefinite_root(matrices: Float[Array, "d d n"]) -> Float[Array, "d d n"]:
    """Lower triangular roots of many small matrices without negative eigenvalues, along the last axis."""
    d = matrices.shape[0]
    least = _ROUNDING_UNITS * float(jnp.finfo(matrices.dtype).eps) * jnp.diagonal(matrices).T
    places = np.arange(d)[:, None]

    def column(rest: Float[Array, "d d n"], given: tuple[Array, Array]) -> tuple[Array, Array]:
        place, least = given
        below = jax.lax.dynamic_index_in_dim(rest, place, 1, keepdims=False)
        pivot = jax.lax.dynamic_index_in_dim(below, place, 0, keepdims=False)
        there = pivot > least
        root = jnp.where(there & (places >= place), below / jnp.sqrt(jnp.where(there, pivot, 1)), 0)
        return rest - root[:, None] * root[None, :], root

    return jnp.swapaxes(jax.lax.scan(column, matrices, (jnp.arange(d), least))[1], 0, 1)


def half_log_det(factor: Float[Array, "*batch d d"]) -> Float[Array, "*batch"]:
    """Sum of the logarithms of a Cholesky factor's diagonal: half the log-determinant of the covariance."""
    return jnp.sum(jnp.log(jnp.where(np.eye(factor.shape[-1], dtype=bool), factor, 1)), axis=(-2, -1))


def lower_factor(rows: Float[Array, "*batch m r"]) -> Float[Array, "*batch m m"]:
    """Cholesky factor of `rows rows^T`, m <= r, by QR of the transpose: it keeps the digits that the product loses."""
    upper = jnp.linalg.qr(jnp.swapaxes(rows, -1, -2), mode="r")
    sign = jnp.where(jnp.diagonal(upper, axis1=-2, axis2=-1) < 0, -1, 1).astype(upper.dtype)
    return jnp.swapaxes(sign[..., :, None] * upper, -1, -2)


def clipped_square(white: Float[Array, "*batch d"]) -> Float[Array, "*batch"]:
    """Squared length, of coordinates in standard deviations.

    Past the limit the square would overflow; clipped, values stay ordered and gradients finite.
    """
    limit = 2 * math.sqrt(saturation(white.dtype))
    return jnp.sum(jnp.clip(white, -limit, limit) ** 2, axis=-1)


def scaled_cholesky(covariance: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """Cholesky factor whatever the units of the columns; that of the diagonal alone where there is none."""
    variance = jnp.diagonal(covariance)
    unit = jnp.sqrt(jnp.where((variance > 0) & jnp.isfinite(variance), variance, 1))
    factor = cholesky(covariance / unit[:, None] / unit[None, :])
    identity = jnp.eye(unit.size, dtype=unit.dtype)
    return unit[:, None] * jnp.where(jnp.all(jnp.isfinite(factor)), factor, identity)


def tril_information(
    factor: Float[Array, "*batch d d"], precisions: Float[Array, "*batch d"]
) -> Float[Array, "*batch d d"]:
    """Fisher information of a Gaussian in each entry of its Cholesky factor, in the logarithm of the diagonal ones.

    A change T = L^-1 dL has |T|^2 + tr(T^2), with `precisions` the diagonal of (L L^T)^-1.
    """
    d = factor.shape[-1]
    precisions = precisions[..., :, None]
    inside = jnp.where(np.eye(d, dtype=bool), factor**2 * precisions + 1, precisions)
    return jnp.where(np.tri(d, dtype=bool), inside, 0)


def floored_variance(
    variance: Float[Array, "*shape"], floor: Float[Array, "*#shape"]
) -> tuple[Float[Array, "*shape"], Bool[Array, "*shape"]]:
    """Variances not below `floor`, and which of them are held by it."""
    floor = jnp.maximum(floor, jnp.finfo(variance.dtype).tiny)
    held = ~(variance > floor)
    return jnp.where(held, jnp.where(jnp.isnan(variance), variance, floor), variance), held


def floor_units(floor: Float[Array, " d"], variance: Float[Array, "*batch d"]) -> Float[Array, "*batch d"]:
    """Standard deviations at the floor, or at a few roundings of these variances where that is higher."""
    info = jnp.finfo(variance.dtype)
    return jnp.sqrt(jnp.maximum(jnp.maximum(floor, _ROUNDING_UNITS * info.eps * variance), info.tiny))


def least_share(dtype: Any, d: int) -> float:
    """Of the largest variance in any direction of d, what is above a few roundings of the variance of each column."""
    return float(_ROUNDING_UNITS * d * jnp.finfo(dtype).eps)


def above_floor(covariance: Float[Array, "*batch d d"], floor: Float[Array, " d"]) -> Bool[Array, "*batch"]:
    """Which covariances are above diag(floor), in every direction."""
    unit = floor_units(floor, jnp.diagonal(covariance, axis1=-2, axis2=-1))
    excess = covariance / unit[..., :, None] / unit[..., None, :] - jnp.eye(floor.shape[-1], dtype=covariance.dtype)
    return jnp.all(jnp.isfinite(cholesky(excess)), axis=(-2, -1))


def floored_cholesky(
    covariance: Float[Array, "*batch d d"], floor: Float[Array, " d"], present: Bool[Array, "*batch"]
) -> tuple[Float[Array, "*batch d d"], Bool[Array, "*batch"]]:
    """Cholesky factors of the covariances, none of them below diag(floor), and which of them are held by it.

    Among all Sigma >= diag(floor), the result maximises the Gaussian likelihood of the scatter `covariance`: its
    eigenvalues in the coordinates x / sqrt(floor) are clipped at 1 from below. A covariance above the floor comes back
    as it is, and costs two Cholesky factorisations; the eigendecomposition is a branch taken only when one is needed
    (anywhere in the batch under `vmap`). Differentiable also where eigenvalues coincide. A covariance that is not
    `present` needs nothing, whatever it holds, and what comes back for it is any factor.
    """
    info = jnp.finfo(covariance.dtype)
    covariance = jnp.where(present[..., None, None], covariance, jnp.diag(2 * jnp.maximum(floor, info.tiny)))
    unit = floor_units(floor, jnp.diagonal(covariance, axis1=-2, axis2=-1))
    scaled = covariance / unit[..., :, None] / unit[..., None, :]
    identity = jnp.eye(covariance.shape[-1], dtype=covariance.dtype)
    above = jnp.all(jnp.isfinite(cholesky(scaled - identity)), axis=(-2, -1))
    mask = above[..., None, None]
    plain = cholesky(jnp.where(mask, scaled, identity))
    factor = jax.lax.cond(
        any_lane(~jnp.all(above)),
        lambda: jnp.where(mask, plain, _clipped_cholesky(jnp.where(mask, identity, scaled))),
        lambda: plain,
    )
    return unit[..., :, None] * factor, ~above


@jax.custom_jvp
def eigh(matrix: Float[Array, "*batch d d"]) -> tuple[Float[Array, "*batch d"], Float[Array, "*batch d d"]]:
    """Eigenvalues, the smallest first, and eigenvectors; what they turn to where eigenvalues coincide has derivative 0.

    So derivatives of what does not depend on which of the eigenvectors it is given are right there as well.
    """
    values, vectors = jnp.linalg.eigh(matrix)
    return values, vectors


@eigh.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    values, vectors = eigh(primals[0])
    tangent = (tangents[0] + jnp.swapaxes(tangents[0], -1, -2)) / 2
    inner = einsum("...ji,...jk,...kl->...il", vectors, tangent, vectors)
    difference = values[..., None, :] - values[..., :, None]
    apart = jnp.abs(difference) > jnp.finfo(values.dtype).eps * jnp.max(jnp.abs(values), axis=-1)[..., None, None]
    turn = jnp.where(apart, inner / jnp.where(apart, difference, 1), 0)
    moved = jnp.diagonal(inner, axis1=-2, axis2=-1), einsum("...ij,...jk->...ik", vectors, turn)
    return (values, vectors), moved


@custom_vmap
def any_lane(predicate: Bool[Array, ""]) -> Bool[Array, ""]:
    """The predicate itself; under `vmap`, whether it holds in any lane, so that a `lax.cond` on it stays a branch."""
    return predicate


@any_lane.def_vmap
def _(axis_size: int, in_batched: list[bool], predicate: Bool[Array, " lanes"]) -> tuple[Bool[Array, ""], bool]:
    return jnp.any(predicate), False


@jax.custom_jvp
def _clipped_cholesky(matrix: Float[Array, "*batch d d"]) -> Float[Array, "*batch d d"]:
    return _clip(matrix)[0]


@_clipped_cholesky.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    factor, eigenvalues, vectors = _clip(primals[0])
    # Daleckii-Krein: divided differences of max(., 1), which stay defined where eigenvalues coincide.
    difference = eigenvalues[..., :, None] - eigenvalues[..., None, :]
    clipped = jnp.maximum(eigenvalues, 1)
    rise = clipped[..., :, None] - clipped[..., None, :]
    slope = jnp.broadcast_to((eigenvalues > 1)[..., :, None].astype(rise.dtype), rise.shape)
    ratio = jnp.where(difference == 0, slope, rise / jnp.where(difference == 0, 1, difference))
    tangent = (tangents[0] + jnp.swapaxes(tangents[0], -1, -2)) / 2
    inner = ratio * einsum("...ji,...jk,...kl->...il", vectors, tangent, vectors)
    return factor, _factor_tangent(factor, einsum("...ij,...jk,...lk->...il", vectors, inner, vectors))


def _clip(matrix: Float[Array, "*batch d d"]) -> tuple[Array, Array, Array]:
    eigenvalues, vectors = jnp.linalg.eigh(matrix)
    root = jnp.sqrt(jnp.maximum(eigenvalues, 1))
    # The small eigenvalues' digits would be lost in forming the matrix again.
    return lower_factor(vectors * root[..., None, :]), eigenvalues, vectors
