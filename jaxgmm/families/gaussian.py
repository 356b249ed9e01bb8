"""Gaussian components over any covariance structure."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxgmm.covariance.structure import Each, Structure
from jaxgmm.covariance.table import known_as, structure_of
from jaxgmm.covariance.tril import Tril
from jaxgmm.families import kernels
from jaxgmm.families.family import Form, Kernel
from jaxgmm.families.kernels import CentredKernel, Moments
from jaxgmm.families.located import Located
from jaxgmm.ground import checks, linalg
from jaxgmm.ground.pytree import ColumnIndices, Leaf, Places, record, static

T = TypeVar("T")


@record
class Gaussian(Located):
    """Gaussian components: N(x; m_k, Sigma_k).

    Fields: `means` (k, d) in the units of the data; `covariance`, a structure such as `Each(Tril(...))`.
    """

    means: Leaf
    covariance: Structure

    @property
    def covariances(self) -> Float[Array, "*batch k d d"]:
        """Dense covariance of each component (k, d, d), in squared units of the data."""
        return kernels.dense(self.means, self.covariance)

    @classmethod
    def form(cls, covariance: str = "full") -> Form:
        """Gaussian components with this `covariance`, the name of a structure. That name alone is short for it.

        >>> import jaxgmm
        >>> jaxgmm.Gaussian.form("tied").name
        'tied'
        """
        name = known_as(covariance)
        return Form(cls, (("covariance", name),), name)

    @classmethod
    def blank(
        cls, n_components: int, center: Float[Array, " d"], scale: Float[Array, " d"], *, covariance: str
    ) -> "Gaussian":
        return cls(
            means=jnp.broadcast_to(center, (n_components, center.size)),
            covariance=structure_of(covariance).uncorrelated(scale, n_components),
        )

    @property
    def structure(self) -> Structure:
        return self.covariance

    def moved(self, means: Float[Array, "k d"], structure: Structure) -> "Gaussian":
        return type(self)(means, structure)

    def log_prob(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        return self._centred().log_prob(x)

    def statistics(self, x: Float[Array, "n d"], responsibilities: Float[Array, "n k"]) -> Moments:
        return self._centred().statistics(x, responsibilities)

    def with_kernel(self, use: Callable[[Kernel], T]) -> T:
        return kernels.with_kernel(self.means, self.covariance, log_normalizer(self.means, self.covariance), use)

    def log_density(self, squares: Array, half_log_det: Array, n_columns: Any) -> Array:
        return -half_log_det - (squares + n_columns * math.log(2 * math.pi)) / 2

    def influence(self, squares: Array, n_columns: Any) -> None:
        return None

    def sample(self, key: jax.Array, labels: Int[Array, " n"]) -> Float[Array, "n d"]:
        noise = jax.random.normal(key, (labels.size, self.means.shape[1]), self.means.dtype)
        return self.means[labels] + self.covariance.take(labels).factor.times(noise[:, None, :])[:, 0]

    def information(self, weights: Float[Array, " k"]) -> "Gaussian":
        precisions = self._precisions()
        return type(self)(weights[:, None] * precisions, self.covariance.information(weights, precisions))

    def take(self, places: Places) -> "Gaussian":
        places = checks.places("places", places, self.means.shape[0], "component")
        return type(self)(self.means[places], self.covariance.take(places))

    def condition(self, given: ColumnIndices, kept: ColumnIndices, values: Float[Array, " g"]) -> "Gaussian":
        shift, factor = self.covariance.factor.condition(given, kept, values - self.means[:, given])
        return self._with(self.means[:, kept] + shift, factor)

    def product(self, other: "Gaussian") -> "Gaussian":
        pairs = _Pairs.of(self, other)
        shift, factor = pairs.first.factor.fuse(pairs.second.factor, pairs.gaps)
        return type(self)(pairs.means + shift, pairs.first.of_factor(factor))

    def log_overlap(self, other: "Gaussian") -> Float[Array, "k l"]:
        pairs = _Pairs.of(self, other)
        # N(a; b, S + T): how likely the gap is.
        sums = pairs.first.of_factor(pairs.first.factor.plus(pairs.second.factor))
        kernel = CentredKernel.of(pairs.gaps, sums, log_normalizer(pairs.gaps, sums))
        return pairs.table(kernel.log_prob(jnp.zeros_like(pairs.gaps[:1]))[0])

    def differential_entropy(self) -> Float[Array, " k"]:
        k, d = self.means.shape
        return jnp.broadcast_to(d / 2 * (1 + math.log(2 * math.pi)) + self.covariance.factor.half_log_det(), (k,))

    def relative_entropy(self, other: "Gaussian") -> Float[Array, "k l"]:
        pairs = _Pairs.of(self, other)
        white = pairs.second.factor.inverse().times(pairs.gaps[:, None, :])[:, 0]
        spread = pairs.first.factor.relative_entropy(pairs.second.factor)
        return pairs.table(linalg.clipped_square(white) / 2 + spread)

    def squared_wasserstein(self, other: "Gaussian") -> Float[Array, "k l"]:
        pairs = _Pairs.of(self, other)
        spread = pairs.first.factor.squared_bures(pairs.second.factor)
        return pairs.table(jnp.sum(pairs.gaps**2, axis=1) + spread)

    def unrestricted(self) -> "Gaussian":
        return type(self)(self.means, Each(trils(self.covariance, self.means.shape[0])))

    def _centred(self) -> CentredKernel:
        return CentredKernel.of(self.means, self.covariance, log_normalizer(self.means, self.covariance))


@record
class _Pairs:
    """Every component of one family with every one of another, the second index running fastest.

    Fields: `means` (k l, d) of the first; `gaps` (k l, d) from there to the mean of the second; `first` and `second`,
    their covariances, of one type.
    """

    means: Leaf
    gaps: Leaf
    first: Structure
    second: Structure
    shape: tuple[int, int] = static()

    @classmethod
    def of(cls, a: Gaussian, b: Gaussian) -> "_Pairs":
        shape = a.means.shape[0], b.means.shape[0]
        i, j = (places.ravel() for places in np.indices(shape))
        first, second = a.covariance.take(i), b.covariance.take(j)
        if (type(first), type(first.factor)) != (type(second), type(second.factor)):
            first, second = (Each(trils(one, i.size)) for one in (first, second))
        means = a.means[i]
        return cls(means, b.means[j] - means, first, second, shape)

    def table(self, values: Float[Array, "..."]) -> Float[Array, "k l"]:
        """Values of the pairs, or one that all share, by the two components."""
        return jnp.broadcast_to(values, (self.shape[0] * self.shape[1],)).reshape(self.shape)


def trils(covariance: Structure, n: int) -> Tril:
    """A Cholesky factor for each of n components."""
    roots = covariance.factor.tril().scale_tril
    return Tril(jnp.broadcast_to(roots, (n, *roots.shape[-2:])))


def log_normalizer(means: Float[Array, "k d"], covariance: Structure) -> Float[Array, " k"]:
    """Logarithm of the density of each component at its mean."""
    n_components, n_columns = means.shape
    value = -n_columns / 2 * math.log(2 * math.pi) - covariance.factor.half_log_det()
    return jnp.broadcast_to(value, (n_components,)).astype(means.dtype)
