"""Gaussian components over any covariance structure."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.covariance.structure import Structure
from jaxgmm.covariance.table import structure_of
from jaxgmm.families.family import Family, Kernel
from jaxgmm.ground import linalg
from jaxgmm.ground.pytree import Leaf, record


@record
class Gaussian(Family):
    """Gaussian components: N(x; m_k, Sigma_k).

    Fields: `means` (k, d) in the units of the data; `covariance`, a structure such as `Full` or `Tied`.
    """

    means: Leaf
    covariance: Structure

    @property
    def covariances(self) -> Float[Array, "k d d"]:
        """Dense covariance of each component (k, d, d), in squared units of the data."""
        return self.covariance.dense(*self.means.shape)

    @classmethod
    def blank(
        cls, n_components: int, center: Float[Array, " d"], scale: Float[Array, " d"], covariance_type: str | None
    ) -> "Gaussian":
        structure = structure_of("full" if covariance_type is None else covariance_type)
        return cls(
            means=jnp.broadcast_to(center, (n_components, center.size)),
            covariance=structure.isotropic(scale, n_components),
        )

    def kernel(self) -> "CentredKernel":
        n_columns = self.means.shape[1]
        normalizer = -n_columns / 2 * math.log(2 * math.pi) - self.covariance.half_log_det(n_columns)
        return CentredKernel(
            means=self.means,
            inverse_factor=self.covariance.inverse_factor(),
            log_normalizer=jnp.broadcast_to(normalizer, self.means.shape[:1]).astype(self.means.dtype),
            covariance=self.covariance,
        )

    def log_prob(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        return self.kernel().log_prob(x)

    def statistics(self, x: Float[Array, "n d"], responsibilities: Float[Array, "n k"]) -> "Moments":
        return self.kernel().statistics(x, responsibilities)

    def maximize(
        self,
        counts: Float[Array, " k"],
        statistics: "Moments",
        alive: Bool[Array, " k"],
        regularization: Float[Array, ""],
    ) -> tuple["Gaussian", Bool[Array, " k"]]:
        shift = jnp.where(alive[:, None], statistics.first / counts[:, None], 0)
        floor = regularization * self._column_variances(counts, statistics, alive)
        covariance, collapsed = self.covariance.maximize(counts, statistics.second, shift, floor, alive)
        return type(self)(self.means + shift, covariance), collapsed

    def sample(self, key: jax.Array, labels: Int[Array, " n"]) -> Float[Array, "n d"]:
        noise = jax.random.normal(key, (labels.size, self.means.shape[1]), self.means.dtype)
        return self.means[labels] + self.covariance.color(noise, labels)

    def unconstrain(self) -> "Gaussian":
        return type(self)(self.means, self.covariance.unconstrain())

    def constrain(self) -> "Gaussian":
        return type(self)(self.means, self.covariance.constrain())

    def information(self, weights: Float[Array, " k"]) -> "Gaussian":
        k, d = self.means.shape
        columns = jnp.broadcast_to(jnp.eye(d, dtype=self.means.dtype), (k, d, d))
        precisions = jnp.sum(self.covariance.whiten(self.covariance.inverse_factor(), columns) ** 2, axis=2)
        return type(self)(weights[:, None] * precisions, self.covariance.information(weights, precisions))

    @property
    def n_parameters(self) -> int:
        return self.means.size + self.covariance.n_parameters(*self.means.shape)

    def _column_variances(
        self, counts: Float[Array, " k"], statistics: "Moments", alive: Bool[Array, " k"]
    ) -> Float[Array, " d"]:
        """Variance of each column of the data, which the sums about the means of the components add up to."""
        counts = jnp.where(alive, counts, 0)
        weight = jnp.maximum(jnp.sum(counts), jnp.finfo(counts.dtype).tiny)
        origin = self.means[jnp.argmax(counts)]
        offset = self.means - origin
        center = jnp.sum(counts[:, None] * offset + statistics.first, axis=0) / weight
        offset = offset - center
        within = self.covariance.total(statistics.second, self.means.shape[1])
        between = jnp.sum(2 * offset * statistics.first + counts[:, None] * offset**2, axis=0)
        variance = (within + between) / weight
        # A column that varies by no more than its own rounding is constant: any scale does, so one in its own unit.
        info = jnp.finfo(variance.dtype)
        rounding = (4 * info.eps * (origin + center)) ** 2
        variance = jnp.maximum(variance, rounding)
        return jnp.where(variance > info.tiny, variance, 1)


@record
class Moments:
    """First and second moments about the means of the components they were taken with, summed over rows.

    Fields: `first` (k, d), sum of r (x - m_k); `second`, sum of r (x - m_k)(x - m_k)^T as the structure keeps it.
    """

    first: Leaf
    second: Leaf


@record
class CentredKernel(Kernel):
    """Densities and moments from differences to each component's mean: exact in float32 far from the origin."""

    means: Leaf
    inverse_factor: Leaf
    log_normalizer: Leaf
    covariance: Structure

    def log_prob(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        z = self.covariance.whiten(self.inverse_factor, x - self.means[:, None, :])
        # Past this many standard deviations the square overflows; clipped, values stay ordered and gradients finite.
        limit = 2 * math.sqrt(linalg.saturation(z.dtype))
        squares = jnp.sum(jnp.clip(z, -limit, limit) ** 2, axis=2)
        return (self.log_normalizer[:, None] - squares / 2).T

    def statistics(self, x: Float[Array, "n d"], responsibilities: Float[Array, "n k"]) -> Moments:
        differences = x - self.means[:, None, :]
        return Moments(
            first=linalg.einsum("nk,knd->kd", responsibilities, differences),
            second=self.covariance.scatter(differences, responsibilities),
        )
