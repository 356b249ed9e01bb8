"""One variance per component and column, no correlation."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxgmm.covariance.expansion import Expandable, Expansion, ScaledFrame, scaled_expansion
from jaxgmm.ground import bijectors, factors, linalg
from jaxgmm.ground.pytree import Columns, Leaf, record


@record
class Diagonal(Expandable):
    """One variance per component and column, no correlation: Sigma_k = diag(s_k1^2, ..., s_kd^2).

    Fields: `scale` (k, d), standard deviations in the units of the data.
    """

    scale: Leaf

    @classmethod
    def from_covariances(cls, covariances: Float[Array, "k d"]) -> "Diagonal":
        return cls(jnp.sqrt(covariances))

    @classmethod
    def isotropic(cls, scale: Float[Array, " d"], n_components: int) -> "Diagonal":
        return cls(jnp.broadcast_to(scale, (n_components, scale.size)))

    @staticmethod
    def covariances_shape(n_components: int, n_columns: int) -> tuple[int, ...]:
        return (n_components, n_columns)

    def dense(self, n_components: int, n_columns: int) -> Float[Array, "k d d"]:
        return (self.scale**2)[:, :, None] * jnp.eye(n_columns, dtype=self.scale.dtype)

    def inverse_factor(self) -> Float[Array, "k d"]:
        return 1 / self.scale

    @staticmethod
    def whiten(inverse_factor: Float[Array, "k d"], differences: Float[Array, "k n d"]) -> Float[Array, "k n d"]:
        return differences * inverse_factor[:, None, :]

    def half_log_det(self, n_columns: int) -> Float[Array, " k"]:
        return jnp.sum(jnp.log(self.scale), axis=1)

    def color(self, noise: Float[Array, "n d"], labels: Array) -> Float[Array, "n d"]:
        return self.scale[labels] * noise

    @staticmethod
    def scatter(differences: Float[Array, "k n d"], responsibilities: Float[Array, "n k"]) -> Float[Array, "k d"]:
        return linalg.einsum("nk,knd->kd", responsibilities, differences**2)

    def frame(self, means: Float[Array, "k d"]) -> ScaledFrame:
        center = jnp.mean(means, axis=0)
        scale = jnp.sqrt(jnp.mean(self.scale**2 + (means - center) ** 2, axis=0))
        return ScaledFrame(*jax.lax.stop_gradient((center, scale)))

    @staticmethod
    def squares(coordinates: Float[Array, "d n"]) -> Float[Array, "d n"]:
        return coordinates**2

    def expand(self, frame: ScaledFrame, means: Float[Array, "k d"]) -> Expansion:
        return scaled_expansion(self.scale / frame.scale, means)

    @staticmethod
    def second(
        frame: ScaledFrame,
        means: Float[Array, "k d"],
        counts: Float[Array, " k"],
        first: Float[Array, "k d"],
        squares: Float[Array, "k d"],
        spread: Any,
    ) -> Float[Array, "k d"]:
        return (squares - (2 * first - counts[:, None] * means) * means) * frame.scale**2

    def maximize(
        self,
        counts: Float[Array, " k"],
        scatter: Float[Array, "k d"],
        floor: Float[Array, " d"],
        alive: Bool[Array, " k"],
    ) -> tuple["Diagonal", Bool[Array, " k"]]:
        variance, held = linalg.floored_variance(scatter / counts[:, None], floor)
        return type(self)(jnp.where(alive[:, None], jnp.sqrt(variance), self.scale)), jnp.any(held, axis=1) & alive

    def floored(self, floor: Float[Array, " d"], alive: Bool[Array, " k"]) -> tuple["Diagonal", Bool[Array, " k"]]:
        variance, lifted = linalg.floored_variance(self.scale**2, floor)
        lifted = lifted & alive[:, None]
        return type(self)(jnp.where(lifted, jnp.sqrt(variance), self.scale)), jnp.any(lifted, axis=1)

    def scale_trils(self, n_components: int, n_columns: int) -> Float[Array, "k d d"]:
        return self.scale[:, :, None] * jnp.eye(n_columns, dtype=self.scale.dtype)

    def marginal(self, columns: Columns, n_components: int, n_columns: int) -> "Diagonal":
        return type(self)(self.scale[:, columns])

    def condition(
        self, given: Columns, kept: Columns, differences: Float[Array, "k g"]
    ) -> tuple[Float[Array, "k h"], "Diagonal"]:
        remains = self.scale[:, kept]
        return jnp.zeros_like(remains), type(self)(remains)

    def plus(self, other: "Diagonal", n_components: int, n_columns: int) -> "Diagonal":
        return type(self)(jnp.hypot(self.scale, other.scale))

    def fuse(self, other: "Diagonal", gaps: Float[Array, "k d"]) -> tuple[Float[Array, "k d"], "Diagonal"]:
        share = self.scale / jnp.hypot(self.scale, other.scale)
        return share**2 * gaps, type(self)(share * other.scale)

    def relative_entropy(self, other: "Diagonal", n_components: int, n_columns: int) -> Float[Array, " k"]:
        return jnp.sum(factors.scale_entropy(self.scale / other.scale), axis=1)

    def squared_bures(self, other: "Diagonal", n_components: int, n_columns: int) -> Float[Array, " k"]:
        return jnp.sum((self.scale - other.scale) ** 2, axis=1)

    def unconstrain(self) -> "Diagonal":
        return type(self)(bijectors.positive_to_free(self.scale))

    def constrain(self) -> "Diagonal":
        return type(self)(bijectors.free_to_positive(self.scale))

    def information(self, weights: Float[Array, " k"], precisions: Float[Array, "k d"]) -> "Diagonal":
        return type(self)(jnp.broadcast_to(2 * weights[:, None], self.scale.shape))

    @staticmethod
    def n_parameters(n_components: int, n_columns: int) -> int:
        return n_components * n_columns
