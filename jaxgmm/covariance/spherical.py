"""One variance per component, the same in every direction."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxgmm.covariance.expansion import Expandable, Expansion, ScaledFrame, scaled_expansion
from jaxgmm.ground import bijectors, factors, linalg
from jaxgmm.ground.pytree import Columns, Leaf, record


@record
class Spherical(Expandable):
    """One variance per component, the same in every direction: Sigma_k = s_k^2 I.

    Fields: `scale` (k,), standard deviations in the units of the data.
    """

    scale: Leaf

    @classmethod
    def from_covariances(cls, covariances: Float[Array, " k"]) -> "Spherical":
        return cls(jnp.sqrt(covariances))

    @classmethod
    def isotropic(cls, scale: Float[Array, " d"], n_components: int) -> "Spherical":
        return cls(jnp.broadcast_to(jnp.sqrt(jnp.mean(scale**2)), (n_components,)))

    @staticmethod
    def covariances_shape(n_components: int, n_columns: int) -> tuple[int, ...]:
        return (n_components,)

    def dense(self, n_components: int, n_columns: int) -> Float[Array, "k d d"]:
        return (self.scale**2)[:, None, None] * jnp.eye(n_columns, dtype=self.scale.dtype)

    def inverse_factor(self) -> Float[Array, " k"]:
        return 1 / self.scale

    @staticmethod
    def whiten(inverse_factor: Float[Array, " k"], differences: Float[Array, "k n d"]) -> Float[Array, "k n d"]:
        return differences * inverse_factor[:, None, None]

    def half_log_det(self, n_columns: int) -> Float[Array, " k"]:
        return n_columns * jnp.log(self.scale)

    def color(self, noise: Float[Array, "n d"], labels: Array) -> Float[Array, "n d"]:
        return self.scale[labels, None] * noise

    @staticmethod
    def scatter(differences: Float[Array, "k n d"], responsibilities: Float[Array, "n k"]) -> Float[Array, " k"]:
        return linalg.einsum("nk,kn->k", responsibilities, jnp.sum(differences**2, axis=2))

    def frame(self, means: Float[Array, "k d"]) -> ScaledFrame:
        center = jnp.mean(means, axis=0)
        scale = jnp.sqrt(jnp.mean(self.scale**2) + jnp.mean((means - center) ** 2))
        return ScaledFrame(*jax.lax.stop_gradient((center, scale)))

    @staticmethod
    def squares(coordinates: Float[Array, "d n"]) -> Float[Array, "1 n"]:
        return jnp.sum(coordinates**2, axis=0, keepdims=True)

    def expand(self, frame: ScaledFrame, means: Float[Array, "k d"]) -> Expansion:
        return scaled_expansion((self.scale / frame.scale)[:, None], means)

    @staticmethod
    def second(
        frame: ScaledFrame,
        means: Float[Array, "k d"],
        counts: Float[Array, " k"],
        first: Float[Array, "k d"],
        squares: Float[Array, "k 1"],
        spread: Any,
    ) -> Float[Array, " k"]:
        return (squares[:, 0] - jnp.sum((2 * first - counts[:, None] * means) * means, axis=1)) * frame.scale**2

    def maximize(
        self,
        counts: Float[Array, " k"],
        scatter: Float[Array, " k"],
        floor: Float[Array, " d"],
        alive: Bool[Array, " k"],
    ) -> tuple["Spherical", Bool[Array, " k"]]:
        variance, held = linalg.floored_variance(scatter / (counts * floor.size), jnp.mean(floor))
        return type(self)(jnp.where(alive, jnp.sqrt(variance), self.scale)), held & alive

    def floored(self, floor: Float[Array, " d"], alive: Bool[Array, " k"]) -> tuple["Spherical", Bool[Array, " k"]]:
        variance, lifted = linalg.floored_variance(self.scale**2, jnp.mean(floor))
        lifted = lifted & alive
        return type(self)(jnp.where(lifted, jnp.sqrt(variance), self.scale)), lifted

    def scale_trils(self, n_components: int, n_columns: int) -> Float[Array, "k d d"]:
        return self.scale[:, None, None] * jnp.eye(n_columns, dtype=self.scale.dtype)

    def marginal(self, columns: Columns, n_components: int, n_columns: int) -> "Spherical":
        return self

    def condition(
        self, given: Columns, kept: Columns, differences: Float[Array, "k g"]
    ) -> tuple[Float[Array, "k h"], "Spherical"]:
        return jnp.zeros((self.scale.size, kept.size), differences.dtype), self

    def plus(self, other: "Spherical", n_components: int, n_columns: int) -> "Spherical":
        return type(self)(jnp.hypot(self.scale, other.scale))

    def fuse(self, other: "Spherical", gaps: Float[Array, "k d"]) -> tuple[Float[Array, "k d"], "Spherical"]:
        share = self.scale / jnp.hypot(self.scale, other.scale)
        return (share**2)[:, None] * gaps, type(self)(share * other.scale)

    def relative_entropy(self, other: "Spherical", n_components: int, n_columns: int) -> Float[Array, " k"]:
        return n_columns * factors.scale_entropy(self.scale / other.scale)

    def squared_bures(self, other: "Spherical", n_components: int, n_columns: int) -> Float[Array, " k"]:
        return n_columns * (self.scale - other.scale) ** 2

    def unconstrain(self) -> "Spherical":
        return type(self)(bijectors.positive_to_free(self.scale))

    def constrain(self) -> "Spherical":
        return type(self)(bijectors.free_to_positive(self.scale))

    def information(self, weights: Float[Array, " k"], precisions: Float[Array, "k d"]) -> "Spherical":
        return type(self)(2 * precisions.shape[1] * weights)

    @staticmethod
    def n_parameters(n_components: int, n_columns: int) -> int:
        return n_components
