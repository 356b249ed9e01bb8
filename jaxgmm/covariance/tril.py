"""Unrestricted covariance matrices by their Cholesky factors."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxgmm.covariance.expansion import Expansion, LinearFrame
from jaxgmm.covariance.factor import Factor, Wishart
from jaxgmm.ground import checks, factors, linalg
from jaxgmm.ground.bounds import lower_factor
from jaxgmm.ground.pytree import ColumnIndices, Leaf, record


@record
class Tril(Factor):
    """Unrestricted covariance matrices: Sigma = L L^T.

    Fields: `scale_tril` (d, d) or (k, d, d), lower Cholesky factors in the units of the data.
    """

    scale_tril: Leaf = lower_factor()

    @classmethod
    def of_roots(cls, roots: Float[Array, "*b d d"], n_columns: int) -> "Tril":
        return cls(roots)

    @classmethod
    def of_covariances(cls, covariances: Float[Array, "*b d d"], n_columns: int) -> "Tril":
        return cls(jnp.linalg.cholesky(checks.symmetric("covariances", covariances)))

    @classmethod
    def uncorrelated(cls, scale: Float[Array, " d"], batch: tuple[int, ...]) -> "Tril":
        return cls(jnp.broadcast_to(jnp.diag(scale), (*batch, scale.size, scale.size)))

    @staticmethod
    def shape(n_columns: int) -> tuple[int, ...]:
        return (n_columns, n_columns)

    @staticmethod
    def variances(covariances: Any) -> Any:
        return covariances.diagonal(axis1=-2, axis2=-1)

    @property
    def n_parameters(self) -> int:
        return math.comb(self.scale_tril.shape[-1] + 1, 2)

    @property
    def batch(self) -> str:
        return "k" if self.scale_tril.ndim == 3 else ""

    @property
    def wishart(self) -> Wishart:
        return Wishart(self.scale_tril.shape[-1], 1, 1)

    def dense(self) -> Float[Array, "*b d d"]:
        each = self.batch
        return linalg.einsum(f"{each}ij,{each}lj->{each}il", self.scale_tril, self.scale_tril)

    def tril(self) -> "Tril":
        return self

    def inverse(self) -> "Tril":
        return type(self)(linalg.tril_inverse(self.scale_tril))

    def times(self, vectors: Float[Array, "k n d"]) -> Float[Array, "k n d"]:
        return linalg.einsum(f"kni,{self.batch}ji->knj", vectors, self.scale_tril)

    def unwhitened(self, second: Float[Array, "k d d"], kept: str) -> Float[Array, "*b d d"]:
        moments = second if kept else jnp.sum(second, axis=0)
        return linalg.einsum(f"{kept}ij,{kept}jl,{kept}ml->{kept}im", self.scale_tril, moments, self.scale_tril)

    def half_log_det(self) -> Float[Array, "*b"]:
        return linalg.half_log_det(self.scale_tril)

    def traces(self, second: Float[Array, "k d d"]) -> Float[Array, " k"]:
        each, inverse = self.batch, linalg.tril_inverse(self.scale_tril)
        precisions = linalg.einsum(f"{each}ji,{each}jl->{each}il", inverse, inverse)
        return linalg.einsum(f"kij,{each}ij->k", second, precisions)

    def diagonal(self) -> Float[Array, "*b d"]:
        return jnp.sum(self.scale_tril**2, axis=-1)

    def precisions(self) -> Float[Array, "*b d"]:
        return jnp.sum(linalg.tril_inverse(self.scale_tril) ** 2, axis=-2)

    def above(self, floor: Float[Array, " d"]) -> Bool[Array, "*b"]:
        return linalg.above_floor(self.dense(), floor)

    def information(self, weights: Float[Array, "*b"], precisions: Float[Array, "*b d"]) -> "Tril":
        return type(self)(weights[..., None, None] * linalg.tril_information(self.scale_tril, precisions))

    @staticmethod
    def scatter(
        differences: Float[Array, "k n d"], responsibilities: Float[Array, "n k"], kept: str
    ) -> Float[Array, "*b d d"]:
        weighted = differences * responsibilities.T[:, :, None]
        return linalg.einsum(f"kni,knj->{kept}ij", weighted, differences)

    def maximize(
        self,
        scatter: Float[Array, "*b d d"],
        weight: Float[Array, "*b"],
        floor: Float[Array, " d"],
        alive: Bool[Array, "*b"],
    ) -> tuple["Tril", Bool[Array, "*b"]]:
        factor, held = linalg.floored_cholesky(scatter / weight[..., None, None], floor, alive)
        return type(self)(jnp.where(alive[..., None, None], factor, self.scale_tril)), held

    def floored(self, floor: Float[Array, " d"], alive: Bool[Array, "*b"]) -> tuple["Tril", Bool[Array, "*b"]]:
        factor, held = linalg.floored_cholesky(self.dense(), floor, alive)
        return type(self)(jnp.where(held[..., None, None], factor, self.scale_tril)), held

    def spectrum(self, scale: Float[Array, " d"]) -> Float[Array, "*b d"]:
        root = self.scale_tril / scale[:, None]
        return jnp.linalg.eigvalsh(linalg.einsum("...ij,...kj->...ik", root, root))

    def bounded(
        self, scale: Float[Array, " d"], least: Float[Array, "*#b"] | None, most: Float[Array, "*#b"]
    ) -> "Tril":
        every = jnp.ones(self.scale_tril.shape[:-2], bool)
        one = jnp.ones_like(scale)
        root = self.scale_tril / scale[:, None]
        # A covariance is below a bound where its inverse is above the bound's.
        units = jnp.sqrt(jnp.broadcast_to(most, every.shape))[..., None, None]
        inverse = linalg.tril_inverse(root) * units
        precision = linalg.einsum("...ji,...jk->...ik", inverse, inverse)
        cut, wide = linalg.floored_cholesky(precision, one, every)
        narrower = units * linalg.lower_factor(jnp.swapaxes(linalg.tril_inverse(cut), -1, -2))
        root = jnp.where(wide[..., None, None], narrower, root)
        if least is not None:
            units = jnp.sqrt(jnp.broadcast_to(least, every.shape))[..., None, None]
            covariance = linalg.einsum("...ij,...kj->...ik", root / units, root / units)
            cut, flat = linalg.floored_cholesky(covariance, one, every)
            root = jnp.where(flat[..., None, None], units * cut, root)
        return type(self)(scale[:, None] * root)

    def frame(self, means: Float[Array, "k d"]) -> LinearFrame:
        center = jnp.mean(means, axis=0)
        away = means - center
        rows = jnp.concatenate([away[:, None, :], jnp.swapaxes(self.scale_tril, -1, -2)], axis=1)
        spread = linalg.einsum("kri,krj->ij", rows, rows) / means.shape[0]
        return LinearFrame.of(*jax.lax.stop_gradient((center, linalg.scaled_cholesky(spread))))

    def own_frame(self, center: Float[Array, " d"]) -> LinearFrame:
        return LinearFrame.of(center, self.scale_tril)

    @staticmethod
    def squares(coordinates: Float[Array, "d n"]) -> Float[Array, "q n"]:
        row, column = np.triu_indices(coordinates.shape[0])
        return coordinates[row] * coordinates[column]

    @staticmethod
    def moments_of(squares: Float[Array, "k q"]) -> Float[Array, "k d d"]:
        # There are d (d + 1) / 2 of them.
        d = math.isqrt(2 * squares.shape[1])
        row, column = np.triu_indices(d)
        place = np.zeros((d, d), int)
        place[row, column] = place[column, row] = np.arange(row.size)
        return squares[:, place]

    def expand(self, frame: LinearFrame, means: Float[Array, "k d"]) -> Expansion:
        row, column = np.triu_indices(means.shape[1])
        inverse = linalg.tril_inverse(self.scale_tril)
        whitening = linalg.einsum("kij,jl->kil", inverse, frame.factor)
        white = linalg.einsum("kij,kj->ki", whitening, means)
        precision = linalg.einsum("kji,kjl->kil", whitening, whitening)
        factor = linalg.einsum("ij,kjl->kil", frame.inverse, self.scale_tril)
        size = jnp.sqrt(means**2 + jnp.sum(factor**2, axis=2))
        terms = precision * size[:, :, None] * size[:, None, :]
        return Expansion(
            constant=-jnp.sum(white**2, axis=1) / 2,
            linear=linalg.einsum("kji,kj->ki", whitening, white),
            quadratic=precision[:, row, column] * np.where(row == column, -0.5, -1).astype(precision.dtype),
            steepest=jnp.max(jnp.diagonal(precision, axis1=1, axis2=2)),
            cancellation=jnp.sqrt(jnp.sum(terms**2, axis=(1, 2))),
        )

    @staticmethod
    def gram(coordinates: Float[Array, "d n"], weights: Float[Array, " n"]) -> Float[Array, "d d"]:
        return linalg.einsum("in,jn->ij", coordinates * weights, coordinates)

    @staticmethod
    def cross(a: Float[Array, "k d"], b: Float[Array, "k d"], kept: str) -> Float[Array, "*b d d"]:
        half = a[:, :, None] * b[:, None, :] if kept else linalg.einsum("ki,kj->ij", a, b)
        return half + jnp.swapaxes(half, -1, -2)

    def marginal(self, columns: ColumnIndices) -> "Tril":
        return type(self)(linalg.lower_factor(self.scale_tril[..., columns, :]))

    def condition(
        self, given: ColumnIndices, kept: ColumnIndices, differences: Float[Array, "k g"]
    ) -> tuple[Float[Array, "k h"], "Tril"]:
        rows = self.scale_tril[..., np.concatenate([given, kept]), :]
        own, slope, rest = factors.split(rows, given.size)
        return self._regressed(own, slope, differences), type(self)(rest)

    def affine(self, matrix: Float[Array, "m d"]) -> "Tril":
        image = linalg.einsum(f"mi,{self.batch}ij->{self.batch}mj", matrix, self.scale_tril)
        return type(self)(linalg.lower_factor(image))

    def plus(self, other: "Tril") -> "Tril":
        return type(self)(factors.combined(self.scale_tril, other.scale_tril))

    def fuse(self, other: "Tril", gaps: Float[Array, "k d"]) -> tuple[Float[Array, "k d"], "Tril"]:
        own, slope, rest = factors.fused(self.scale_tril, other.scale_tril)
        return self._regressed(own, slope, gaps), type(self)(rest)

    def relative_entropy(self, other: "Tril") -> Float[Array, "*b"]:
        return factors.relative_entropy(self.scale_tril, other.scale_tril)

    def squared_bures(self, other: "Tril") -> Float[Array, "*b"]:
        return factors.squared_bures(self.scale_tril, other.scale_tril)

    def _regressed(
        self, own: Float[Array, "*b g g"], slope: Float[Array, "*b h g"], differences: Float[Array, "k g"]
    ) -> Float[Array, "k h"]:
        white = linalg.einsum(f"{self.batch}ij,kj->ki", linalg.tril_inverse(own), differences)
        return linalg.einsum(f"{self.batch}hg,kg->kh", slope, white)
