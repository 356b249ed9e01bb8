"""Covariances that are the same in every direction."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxgmm.covariance.expansion import Expansion, ScaledFrame, scaled_expansion
from jaxgmm.covariance.factor import Factor, Wishart
from jaxgmm.covariance.scales import Scales, diagonals
from jaxgmm.covariance.tril import Tril
from jaxgmm.ground import factors, linalg
from jaxgmm.ground.bounds import positive
from jaxgmm.ground.pytree import ColumnIndices, Leaf, record, static


@record
class Scale(Factor):
    """One variance for all columns, no correlation: Sigma = s^2 I.

    Fields: `scale` () or (k,), standard deviations in the units of the data; `n_columns`, d, static.
    """

    scale: Leaf = positive()
    n_columns: int = static()

    @classmethod
    def of_roots(cls, roots: Float[Array, "*b"], n_columns: int) -> "Scale":
        return cls(roots, n_columns)

    @classmethod
    def of_covariances(cls, covariances: Float[Array, "*b"], n_columns: int) -> "Scale":
        return cls(jnp.sqrt(covariances), n_columns)

    @classmethod
    def uncorrelated(cls, scale: Float[Array, " d"], batch: tuple[int, ...]) -> "Scale":
        return cls(jnp.broadcast_to(jnp.sqrt(jnp.mean(scale**2)), batch), scale.size)

    @staticmethod
    def shape(n_columns: int) -> tuple[int, ...]:
        return ()

    @staticmethod
    def variances(covariances: Any) -> Any:
        return covariances[..., None]

    @property
    def n_parameters(self) -> int:
        return 1

    @property
    def batch(self) -> str:
        return "k" if self.scale.ndim == 1 else ""

    @property
    def wishart(self) -> Wishart:
        return Wishart(1, 1, self.n_columns)

    def dense(self) -> Float[Array, "*b d d"]:
        return (self.scale**2)[..., None, None] * jnp.eye(self.n_columns, dtype=self.scale.dtype)

    def tril(self) -> Tril:
        return Tril(self.scale[..., None, None] * jnp.eye(self.n_columns, dtype=self.scale.dtype))

    def inverse(self) -> "Scale":
        return type(self)(1 / self.scale, self.n_columns)

    def times(self, vectors: Float[Array, "k n d"]) -> Float[Array, "k n d"]:
        return vectors * self.scale[..., None, None]

    def deviations(self) -> Float[Array, "*b d"]:
        return jnp.broadcast_to(self.scale[..., None], (*self.scale.shape, self.n_columns))

    def unwhitened(self, second: Float[Array, "..."], kept: str) -> Float[Array, "*b"]:
        return self.scale**2 * jnp.sum(diagonals(second, kept), axis=-1)

    def half_log_det(self) -> Float[Array, "*b"]:
        return self.n_columns * jnp.log(self.scale)

    def traces(self, second: Float[Array, " k"]) -> Float[Array, " k"]:
        return second / self.scale**2

    def diagonal(self) -> Float[Array, "*b d"]:
        return self.deviations() ** 2

    def precisions(self) -> Float[Array, "*b d"]:
        return jnp.broadcast_to(1 / self.scale[..., None] ** 2, (*self.scale.shape, self.n_columns))

    def above(self, floor: Float[Array, " d"]) -> Bool[Array, "*b"]:
        return self.scale**2 > jnp.mean(floor)

    def information(self, weights: Float[Array, "*b"], precisions: Float[Array, "*b d"]) -> "Scale":
        return type(self)(2 * self.n_columns * weights, self.n_columns)

    @staticmethod
    def scatter(
        differences: Float[Array, "k n d"], responsibilities: Float[Array, "n k"], kept: str
    ) -> Float[Array, "*b"]:
        return linalg.einsum(f"nk,kn->{kept}", responsibilities, jnp.sum(differences**2, axis=2))

    def maximize(
        self,
        scatter: Float[Array, "*b"],
        weight: Float[Array, "*b"],
        floor: Float[Array, " d"],
        alive: Bool[Array, "*b"],
    ) -> tuple["Scale", Bool[Array, "*b"]]:
        variance, held = linalg.floored_variance(scatter / (weight * self.n_columns), jnp.mean(floor))
        return type(self)(jnp.where(alive, jnp.sqrt(variance), self.scale), self.n_columns), held

    def floored(self, floor: Float[Array, " d"], alive: Bool[Array, "*b"]) -> tuple["Scale", Bool[Array, "*b"]]:
        variance, held = linalg.floored_variance(self.scale**2, jnp.mean(floor))
        held = held & alive
        return type(self)(jnp.where(held, jnp.sqrt(variance), self.scale), self.n_columns), held

    def spectrum(self, scale: Float[Array, " d"]) -> Float[Array, "*b 1"]:
        return (self.scale**2 / jnp.mean(scale**2))[..., None]

    def bounded(
        self, scale: Float[Array, " d"], least: Float[Array, "*#b"] | None, most: Float[Array, "*#b"]
    ) -> "Scale":
        unit = jnp.sqrt(jnp.mean(scale**2))
        cut = jnp.minimum(self.scale, unit * jnp.sqrt(most))
        return type(self)(cut if least is None else jnp.maximum(cut, unit * jnp.sqrt(least)), self.n_columns)

    def frame(self, means: Float[Array, "k d"]) -> ScaledFrame:
        center = jnp.mean(means, axis=0)
        scale = jnp.sqrt(jnp.mean(self.scale**2) + jnp.mean((means - center) ** 2))
        return ScaledFrame(*jax.lax.stop_gradient((center, scale)))

    def own_frame(self, center: Float[Array, " d"]) -> ScaledFrame:
        return ScaledFrame(center, self.scale)

    @staticmethod
    def squares(coordinates: Float[Array, "d n"]) -> Float[Array, "1 n"]:
        return jnp.sum(coordinates**2, axis=0, keepdims=True)

    @staticmethod
    def moments_of(squares: Float[Array, "k 1"]) -> Float[Array, " k"]:
        return squares[:, 0]

    def expand(self, frame: ScaledFrame, means: Float[Array, "k d"]) -> Expansion:
        return scaled_expansion((self.scale / frame.scale)[:, None], means)

    @staticmethod
    def gram(coordinates: Float[Array, "d n"], weights: Float[Array, " n"]) -> Float[Array, ""]:
        return jnp.sum(jnp.sum(coordinates**2, axis=0) * weights)

    @staticmethod
    def cross(a: Float[Array, "k d"], b: Float[Array, "k d"], kept: str) -> Float[Array, "*b"]:
        return jnp.sum(Scales.cross(a, b, kept), axis=-1)

    def marginal(self, columns: ColumnIndices) -> "Scale":
        return type(self)(self.scale, columns.size)

    def condition(
        self, given: ColumnIndices, kept: ColumnIndices, differences: Float[Array, "k g"]
    ) -> tuple[Float[Array, "k h"], "Scale"]:
        return jnp.zeros((differences.shape[0], kept.size), differences.dtype), self.marginal(kept)

    def plus(self, other: "Scale") -> "Scale":
        return type(self)(jnp.hypot(self.scale, other.scale), self.n_columns)

    def fuse(self, other: "Scale", gaps: Float[Array, "k d"]) -> tuple[Float[Array, "k d"], "Scale"]:
        share = self.scale / jnp.hypot(self.scale, other.scale)
        return (share**2)[..., None] * gaps, type(self)(share * other.scale, self.n_columns)

    def relative_entropy(self, other: "Scale") -> Float[Array, "*b"]:
        return self.n_columns * factors.scale_entropy(self.scale / other.scale)

    def squared_bures(self, other: "Scale") -> Float[Array, "*b"]:
        return self.n_columns * (self.scale - other.scale) ** 2
