"""Covariances without correlation."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxgmm.covariance.expansion import Expansion, ScaledFrame, scaled_expansion
from jaxgmm.covariance.factor import Factor, Wishart
from jaxgmm.covariance.tril import Tril
from jaxgmm.ground import factors, linalg
from jaxgmm.ground.bounds import positive
from jaxgmm.ground.pytree import ColumnIndices, Leaf, record


def diagonals(second: Float[Array, "..."], kept: str) -> Float[Array, "*b d"]:
    """Diagonals of second moments (k, d, d), or given (k, d), of each component ("k") or of their sum ("")."""
    each = second if second.ndim == 2 else jnp.diagonal(second, axis1=1, axis2=2)
    return each if kept else jnp.sum(each, axis=0)


@record
class Scales(Factor):
    """One variance per column, no correlation: Sigma = diag(s_1^2, ..., s_d^2).

    Fields: `scale` (d,) or (k, d), standard deviations in the units of the data.
    """

    scale: Leaf = positive()

    @classmethod
    def of_roots(cls, roots: Float[Array, "*b d"], n_columns: int) -> "Scales":
        return cls(roots)

    @classmethod
    def of_covariances(cls, covariances: Float[Array, "*b d"], n_columns: int) -> "Scales":
        return cls(jnp.sqrt(covariances))

    @classmethod
    def uncorrelated(cls, scale: Float[Array, " d"], batch: tuple[int, ...]) -> "Scales":
        return cls(jnp.broadcast_to(scale, (*batch, scale.size)))

    @staticmethod
    def shape(n_columns: int) -> tuple[int, ...]:
        return (n_columns,)

    @staticmethod
    def variances(covariances: Any) -> Any:
        return covariances

    @property
    def n_parameters(self) -> int:
        return self.scale.shape[-1]

    @property
    def batch(self) -> str:
        return "k" if self.scale.ndim == 2 else ""

    @property
    def wishart(self) -> Wishart:
        return Wishart(1, self.scale.shape[-1], 1)

    def dense(self) -> Float[Array, "*b d d"]:
        return (self.scale**2)[..., None] * jnp.eye(self.scale.shape[-1], dtype=self.scale.dtype)

    def tril(self) -> Tril:
        return Tril(self.scale[..., None] * jnp.eye(self.scale.shape[-1], dtype=self.scale.dtype))

    def inverse(self) -> "Scales":
        return type(self)(1 / self.scale)

    def times(self, vectors: Float[Array, "k n d"]) -> Float[Array, "k n d"]:
        return vectors * self.scale[..., None, :]

    def deviations(self) -> Float[Array, "*b d"]:
        return self.scale

    def unwhitened(self, second: Float[Array, "..."], kept: str) -> Float[Array, "*b d"]:
        return self.scale**2 * diagonals(second, kept)

    def half_log_det(self) -> Float[Array, "*b"]:
        return jnp.sum(jnp.log(self.scale), axis=-1)

    def traces(self, second: Float[Array, "k d"]) -> Float[Array, " k"]:
        return jnp.sum(second / self.scale**2, axis=-1)

    def diagonal(self) -> Float[Array, "*b d"]:
        return self.scale**2

    def precisions(self) -> Float[Array, "*b d"]:
        return 1 / self.scale**2

    def above(self, floor: Float[Array, " d"]) -> Bool[Array, "*b"]:
        return jnp.all(self.scale**2 > floor, axis=-1)

    def information(self, weights: Float[Array, "*b"], precisions: Float[Array, "*b d"]) -> "Scales":
        return type(self)(jnp.broadcast_to(2 * weights[..., None], self.scale.shape))

    @staticmethod
    def scatter(
        differences: Float[Array, "k n d"], responsibilities: Float[Array, "n k"], kept: str
    ) -> Float[Array, "*b d"]:
        return linalg.einsum(f"nk,knd->{kept}d", responsibilities, differences**2)

    def maximize(
        self,
        scatter: Float[Array, "*b d"],
        weight: Float[Array, "*b"],
        floor: Float[Array, " d"],
        alive: Bool[Array, "*b"],
    ) -> tuple["Scales", Bool[Array, "*b"]]:
        variance, held = linalg.floored_variance(scatter / weight[..., None], floor)
        return type(self)(jnp.where(alive[..., None], jnp.sqrt(variance), self.scale)), jnp.any(held, axis=-1)

    def floored(self, floor: Float[Array, " d"], alive: Bool[Array, "*b"]) -> tuple["Scales", Bool[Array, "*b"]]:
        variance, held = linalg.floored_variance(self.scale**2, floor)
        held = held & alive[..., None]
        return type(self)(jnp.where(held, jnp.sqrt(variance), self.scale)), jnp.any(held, axis=-1)

    def spectrum(self, scale: Float[Array, " d"]) -> Float[Array, "*b d"]:
        return (self.scale / scale) ** 2

    def bounded(
        self, scale: Float[Array, " d"], least: Float[Array, "*#b"] | None, most: Float[Array, "*#b"]
    ) -> "Scales":
        cut = jnp.minimum(self.scale, scale * jnp.sqrt(most)[..., None])
        return type(self)(cut if least is None else jnp.maximum(cut, scale * jnp.sqrt(least)[..., None]))

    def frame(self, means: Float[Array, "k d"]) -> ScaledFrame:
        center = jnp.mean(means, axis=0)
        scale = jnp.sqrt(jnp.mean(self.scale**2 + (means - center) ** 2, axis=0))
        return ScaledFrame(*jax.lax.stop_gradient((center, scale)))

    def own_frame(self, center: Float[Array, " d"]) -> ScaledFrame:
        return ScaledFrame(center, self.scale)

    @staticmethod
    def squares(coordinates: Float[Array, "d n"]) -> Float[Array, "d n"]:
        return coordinates**2

    @staticmethod
    def moments_of(squares: Float[Array, "k d"]) -> Float[Array, "k d"]:
        return squares

    def expand(self, frame: ScaledFrame, means: Float[Array, "k d"]) -> Expansion:
        return scaled_expansion(self.scale / frame.scale, means)

    @staticmethod
    def gram(coordinates: Float[Array, "d n"], weights: Float[Array, " n"]) -> Float[Array, " d"]:
        return linalg.einsum("dn,n->d", coordinates**2, weights)

    @staticmethod
    def cross(a: Float[Array, "k d"], b: Float[Array, "k d"], kept: str) -> Float[Array, "*b d"]:
        each = 2 * a * b
        return each if kept else jnp.sum(each, axis=0)

    def marginal(self, columns: ColumnIndices) -> "Scales":
        return type(self)(self.scale[..., columns])

    def condition(
        self, given: ColumnIndices, kept: ColumnIndices, differences: Float[Array, "k g"]
    ) -> tuple[Float[Array, "k h"], "Scales"]:
        return jnp.zeros((differences.shape[0], kept.size), differences.dtype), self.marginal(kept)

    def plus(self, other: "Scales") -> "Scales":
        return type(self)(jnp.hypot(self.scale, other.scale))

    def fuse(self, other: "Scales", gaps: Float[Array, "k d"]) -> tuple[Float[Array, "k d"], "Scales"]:
        share = self.scale / jnp.hypot(self.scale, other.scale)
        return share**2 * gaps, type(self)(share * other.scale)

    def relative_entropy(self, other: "Scales") -> Float[Array, "*b"]:
        return jnp.sum(factors.scale_entropy(self.scale / other.scale), axis=-1)

    def squared_bures(self, other: "Scales") -> Float[Array, "*b"]:
        return jnp.sum((self.scale - other.scale) ** 2, axis=-1)
