"""Student-t components over any covariance structure."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxgmm.covariance.structure import Each, Structure
from jaxgmm.covariance.table import known_as, structure_of
from jaxgmm.families import kernels
from jaxgmm.families.family import Family, Form, Kernel
from jaxgmm.families.kernels import CentredKernel, ExpandedKernel, Moments
from jaxgmm.families.located import Located
from jaxgmm.ground import checks, linalg
from jaxgmm.ground.pytree import ColumnIndices, Leaf, Places, record, static
from jaxgmm.ground.rows import Evidence

T = TypeVar("T")


@record
class StudentT(Located):
    """Student-t components, whose tails outliers do not move: t(x; nu, m_k, Sigma_k).

    Fields: `means` (k, d) in the units of the data; `dispersion`, a structure such as `Each(Tril(...))` of
    the matrices Sigma_k; `nu`, degrees of freedom, the same for all and static: a fit takes them as given. The
    covariance is nu / (nu - 2) Sigma, and infinite where nu <= 2.

    A row counts for r u in the moments of a component, with u = (nu + d) / (nu + squared distance), and the scatter is
    divided by the sum of r u: EM with expanded parameters, with the same maxima and fewer steps.

    Sources: Peel & McLachlan (2000), Stat. Comput. 10; Liu, Rubin & Wu (1998), Biometrika 85.
    """

    means: Leaf
    dispersion: Structure
    nu: float = static()

    @property
    def covariances(self) -> Float[Array, "*batch k d d"]:
        """Dense covariance of each component (k, d, d), in squared units of the data; inf where nu <= 2."""
        dense = self.dispersions
        # Not inf times 0, where columns are uncorrelated.
        return dense * (self.nu / (self.nu - 2)) if self.nu > 2 else jnp.where(dense == 0, 0, jnp.inf * dense)

    @property
    def dispersions(self) -> Float[Array, "*batch k d d"]:
        return kernels.dense(self.means, self.dispersion)

    @classmethod
    def form(cls, covariance: str = "full", *, nu: Any) -> Form:
        """Student-t components with `nu` degrees of freedom each, and this `covariance`, the name of a structure.

        Raises:
            TypeError, ValueError: a name that is not known, or a `nu` that is not positive.
        """
        covariance = known_as(covariance)
        try:
            number = math.nan if isinstance(nu, (str, bool)) else float(nu)
        except TypeError:
            number = math.nan
        if not 0 < number < math.inf:
            raise ValueError(f"nu is {nu!r}; expected a positive number, known when a program is compiled.")
        return Form(cls, (("covariance", covariance), ("nu", number)), f"StudentT({covariance}, nu={number:.12g})")

    @classmethod
    def blank(
        cls,
        n_components: int,
        center: Float[Array, " d"],
        scale: Float[Array, " d"],
        *,
        covariance: str,
        nu: float,
    ) -> "StudentT":
        return cls(
            means=jnp.broadcast_to(center, (n_components, center.size)),
            dispersion=structure_of(covariance).uncorrelated(scale, n_components),
            nu=nu,
        )

    @property
    def structure(self) -> Structure:
        return self.dispersion

    def moved(self, means: Float[Array, "k d"], structure: Structure) -> "StudentT":
        return type(self)(means, structure, self.nu)

    def log_prob(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        kernel = self._of(CentredKernel.of(self.means, self.dispersion, self._zeros))
        return kernel.log_prob(x)

    def statistics(self, x: Float[Array, "n d"], responsibilities: Float[Array, "n k"]) -> Moments:
        kernel = self._of(CentredKernel.of(self.means, self.dispersion, self._zeros))
        return kernel.finish(jnp.sum(responsibilities, axis=0), kernel.statistics(x, responsibilities))

    def with_kernel(self, use: Callable[[Kernel], T]) -> T:
        return kernels.with_kernel(self.means, self.dispersion, self._zeros, lambda distances: use(self._of(distances)))

    def with_kernel_of_parts(self, rows: Evidence, use: Callable[[Kernel, Evidence], T]) -> T:
        if rows.noise is not None:
            # The sum of a t and a normal variable has no density in closed form.
            return Family.with_kernel_of_parts(self, rows, use)
        return super().with_kernel_of_parts(rows, use)

    def log_density(self, squares: Array, half_log_det: Array, n_columns: Any) -> Array:
        constants = jnp.asarray([self._constant(count) for count in range(self.means.shape[1] + 1)], squares.dtype)
        return constants[n_columns] - half_log_det - (self.nu + n_columns) / 2 * jnp.log1p(squares / self.nu)

    def influence(self, squares: Array, n_columns: Any) -> Array:
        return (self.nu + n_columns) / (self.nu + squares)

    def stretch(self, squares: Array, n_columns: Any) -> Array:
        rest = self.nu + n_columns - 2
        return jnp.where(rest > 0, (self.nu + squares) / jnp.where(rest > 0, rest, 1), jnp.inf)

    def sample_stretch(self, key: jax.Array, squares: Array, n_columns: Any) -> Array:
        drawn = jax.random.loggamma(key, (self.nu + n_columns) / 2, squares.shape, squares.dtype)
        return (self.nu + squares) / 2 * jnp.exp(-drawn)

    def sample(self, key: jax.Array, labels: Int[Array, " n"]) -> Float[Array, "n d"]:
        for_noise, for_tails = jax.random.split(key)
        noise = jax.random.normal(for_noise, (labels.size, self.means.shape[1]), self.means.dtype)
        # By logarithms, as with few degrees of freedom the numbers themselves underflow.
        squares = math.log(2) + jax.random.loggamma(for_tails, self.nu / 2, labels.shape, noise.dtype)
        noise = noise * jnp.exp((math.log(self.nu) - squares) / 2)[:, None]
        return self.means[labels] + self.dispersion.take(labels).factor.times(noise[:, None, :])[:, 0]

    def information(self, weights: Float[Array, " k"]) -> "StudentT":
        # A row tells less than of a Gaussian.
        precisions, total = self._precisions(), self.nu + self.means.shape[1]
        weights = weights * (total / (total + 2))
        return self.moved(weights[:, None] * precisions, self.dispersion.information(weights, precisions))

    def take(self, places: Places) -> "StudentT":
        places = checks.places("places", places, self.means.shape[0], "component")
        return type(self)(self.means[places], self.dispersion.take(places), self.nu)

    def condition(self, given: ColumnIndices, kept: ColumnIndices, values: Float[Array, " g"]) -> "StudentT":
        away = values - self.means[:, given]
        shift, factor = self.dispersion.factor.condition(given, kept, away)
        white = self.dispersion.factor.marginal(given).inverse().times(away[:, None, :])[:, 0]
        # Far out in the columns that are known, the others are wider.
        nu = self.nu + given.size
        wider = jnp.sqrt((self.nu + linalg.clipped_square(white)) / nu)
        return type(self)(self.means[:, kept] + shift, Each(factor.stretched(wider)), nu)

    @property
    def _zeros(self) -> Float[Array, " k"]:
        return jnp.zeros_like(self.means[:, 0])

    def _of(self, distances: CentredKernel | ExpandedKernel) -> "_Kernel":
        constant = self._constant(self.means.shape[1])
        return _Kernel(distances, constant - self.dispersion.factor.half_log_det(), self.nu)

    def _constant(self, n_columns: int) -> float:
        """Logarithm of the density at its highest, but for the dispersion."""
        total = self.nu + n_columns
        return math.lgamma(total / 2) - math.lgamma(self.nu / 2) - n_columns / 2 * math.log(math.pi * self.nu)


@record
class _Kernel(Kernel):
    """Fields: `distances`, whose `log_prob` is minus half the squared distance; `log_normalizer` (k,) or (); `nu`."""

    distances: Any
    log_normalizer: Leaf
    nu: float = static()

    def read(self, rows: Evidence) -> Any:
        return self.distances.read(rows)

    def log_prob(self, rows: Any) -> Float[Array, "n k"]:
        return self.log_normalizer - self._total / 2 * jnp.log1p(self._squares(rows) / self.nu)

    def statistics(self, rows: Any, responsibilities: Float[Array, "n k"]) -> tuple[Float[Array, " k"], Any]:
        shares = responsibilities * (self._total / (self.nu + self._squares(rows)))
        return jnp.sum(shares, axis=0), self.distances.statistics(rows, shares)

    def finish(self, counts: Float[Array, " k"], sums: tuple[Float[Array, " k"], Any]) -> Moments:
        mass, moments = sums
        moments = self.distances.finish(mass, moments)
        return Moments(moments.first, moments.second, mass)

    @property
    def _total(self) -> float:
        return self.nu + self.distances.means.shape[1]

    def _squares(self, rows: Any) -> Float[Array, "n k"]:
        """Squared distances, kept finite."""
        half = -self.distances.log_prob(rows)
        return 2 * jnp.clip(half, 0, linalg.saturation(half.dtype))
