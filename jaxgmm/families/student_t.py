"""Student-t components over any covariance structure."""

from collections.abc import Callable
from typing import Any, Self, TypeVar

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jaxtyping import Array, Float, Int

from jaxgmm.covariance.structure import Structure
from jaxgmm.covariance.table import structure_of
from jaxgmm.families import kernels
from jaxgmm.families.family import Kernel
from jaxgmm.families.kernels import CentredKernel, ExpandedKernel, Moments
from jaxgmm.families.located import Located
from jaxgmm.ground import checks, linalg
from jaxgmm.ground.bounds import given
from jaxgmm.ground.pytree import Leaf, Places, record

T = TypeVar("T")


@record
class StudentT(Located):
    """Student-t components, whose tails outliers do not move: t(x; nu_k, m_k, Sigma_k).

    Fields: `means` (k, d) in the units of the data; `scale`, a structure such as `Each(Tril(...))` of the scale
    matrices Sigma_k; `nu` (k,), degrees of freedom, which a fit takes as given. The covariance is nu / (nu - 2) Sigma,
    and infinite where nu <= 2.

    A row counts for r u in the moments of a component, with u = (nu + d) / (nu + squared distance), and the scatter is
    divided by the sum of r u: EM with expanded parameters, with the same maxima and fewer steps.

    Sources: Peel & McLachlan (2000), Stat. Comput. 10; Liu, Rubin & Wu (1998), Biometrika 85.
    """

    means: Leaf
    scale: Structure
    nu: Leaf = given()

    @property
    def covariances(self) -> Float[Array, "*batch k d d"]:
        """Dense covariance of each component (k, d, d), in squared units of the data; inf where nu <= 2."""
        wider = jnp.where(self.nu > 2, self.nu / jnp.where(self.nu > 2, self.nu - 2, 1), jnp.inf)
        dense = kernels.dense(self.means, self.scale)
        # Not inf times 0, where columns are uncorrelated.
        return jnp.where(dense == 0, 0, wider[..., None, None] * dense)

    @classmethod
    def blank(
        cls,
        n_components: int,
        center: Float[Array, " d"],
        scale: Float[Array, " d"],
        *,
        covariance: str,
        nu: float,
    ) -> Self:
        return cls(
            means=jnp.broadcast_to(center, (n_components, center.size)),
            scale=structure_of(covariance).isotropic(scale, n_components),
            nu=jnp.full(n_components, nu, center.dtype),
        )

    @property
    def spread(self) -> Structure:
        return self.scale

    def moved(self, means: Float[Array, "k d"], spread: Structure) -> Self:
        return type(self)(means, spread, self.nu)

    def log_prob(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        kernel = self._of(CentredKernel.of(self.means, self.scale, jnp.zeros_like(self.nu)))
        return kernel.log_prob(kernel.read(x))

    def statistics(self, x: Float[Array, "n d"], responsibilities: Float[Array, "n k"]) -> Moments:
        kernel = self._of(CentredKernel.of(self.means, self.scale, jnp.zeros_like(self.nu)))
        sums = kernel.statistics(kernel.read(x), responsibilities)
        return kernel.finish(jnp.sum(responsibilities, axis=0), sums)

    def with_kernel(self, use: Callable[[Kernel], T]) -> T:
        return kernels.with_kernel(
            self.means, self.scale, jnp.zeros_like(self.nu), lambda distances: use(self._of(distances))
        )

    def sample(self, key: jax.Array, labels: Int[Array, " n"]) -> Float[Array, "n d"]:
        for_noise, for_tails = jax.random.split(key)
        noise = jax.random.normal(for_noise, (labels.size, self.means.shape[1]), self.means.dtype)
        half = self.nu[labels] / 2
        noise = noise * jnp.sqrt(half / jax.random.gamma(for_tails, half))[:, None]
        return self.means[labels] + self.scale.take(labels).factor.times(noise[:, None, :])[:, 0]

    def information(self, weights: Float[Array, " k"]) -> Self:
        # Of the location, a row tells less than a Gaussian's by (nu + d) / (nu + d + 2).
        precisions = self._precisions()
        total = self.nu + self.means.shape[1]
        weights = weights * total / (total + 2)
        scale = self.scale.information(weights, precisions)
        return type(self)(weights[:, None] * precisions, scale, jnp.zeros_like(self.nu))

    def take(self, places: Places) -> Self:
        places = checks.places("places", places, self.means.shape[0], "component")
        return type(self)(self.means[places], self.scale.take(places), self.nu[places])

    def _of(self, distances: CentredKernel | ExpandedKernel) -> "_Kernel":
        d, half_log_det = self.means.shape[1], self.scale.factor.half_log_det()
        normalizer = (
            gammaln((self.nu + d) / 2) - gammaln(self.nu / 2) - d / 2 * jnp.log(self.nu * jnp.pi) - half_log_det
        )
        return _Kernel(distances, self.nu, normalizer)


@record
class _Kernel(Kernel):
    """Fields: `distances`, whose `log_prob` is minus half the squared distance; `nu` and `log_normalizer` (k,)."""

    distances: Any
    nu: Leaf
    log_normalizer: Leaf

    def read(self, x: Float[Array, "n d"]) -> Any:
        return self.distances.read(x)

    def log_prob(self, rows: Any) -> Float[Array, "n k"]:
        total = self.nu + self.distances.means.shape[1]
        return self.log_normalizer - total / 2 * jnp.log1p(self._squares(rows) / self.nu)

    def statistics(self, rows: Any, responsibilities: Float[Array, "n k"]) -> tuple[Float[Array, " k"], Any]:
        total = self.nu + self.distances.means.shape[1]
        shares = responsibilities * (total / (self.nu + self._squares(rows)))
        return jnp.sum(shares, axis=0), self.distances.statistics(rows, shares)

    def finish(self, counts: Float[Array, " k"], sums: tuple[Float[Array, " k"], Any]) -> Moments:
        mass, moments = sums
        moments = self.distances.finish(mass, moments)
        return Moments(moments.first, moments.second, mass)

    def _squares(self, rows: Any) -> Float[Array, "n k"]:
        """Squared distances, kept finite."""
        limit = 2 * linalg.saturation(self.nu.dtype)
        return jnp.clip(-2 * self.distances.log_prob(rows), 0, limit)
