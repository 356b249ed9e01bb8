"""Gaussian components over any covariance structure."""

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.covariance.factor import Factor
from jaxgmm.covariance.structure import Each, Structure
from jaxgmm.covariance.table import structure_of
from jaxgmm.covariance.tril import Tril
from jaxgmm.families import kernels
from jaxgmm.families.family import Family, Kernel
from jaxgmm.families.kernels import CentredKernel, Moments
from jaxgmm.ground import checks, linalg
from jaxgmm.ground.pytree import Columns, Leaf, Places, record, static

T = TypeVar("T")


@record
class Gaussian(Family):
    """Gaussian components: N(x; m_k, Sigma_k).

    Fields: `means` (k, d) in the units of the data; `covariance`, a structure such as `Each(Tril(...))`.
    """

    means: Leaf
    covariance: Structure

    @property
    def covariances(self) -> Float[Array, "*batch k d d"]:
        """Dense covariance of each component (k, d, d), in squared units of the data."""
        *batch, k, d = self.means.shape

        def dense(covariance: Structure) -> Array:
            return jnp.broadcast_to(covariance.factor.dense(), (k, d, d))

        return functools.reduce(lambda of, _: jax.vmap(of), batch, dense)(self.covariance)

    @classmethod
    def blank(
        cls, n_components: int, center: Float[Array, " d"], scale: Float[Array, " d"], covariance_type: str | None
    ) -> "Gaussian":
        structure = structure_of("full" if covariance_type is None else covariance_type)
        return cls(
            means=jnp.broadcast_to(center, (n_components, center.size)),
            covariance=structure.isotropic(scale, n_components),
        )

    def log_prob(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        return CentredKernel.of(self.means, self.covariance).log_prob(x)

    def statistics(self, x: Float[Array, "n d"], responsibilities: Float[Array, "n k"]) -> Moments:
        return CentredKernel.of(self.means, self.covariance).statistics(x, responsibilities)

    def needs_centring(self) -> Bool[Array, ""]:
        return kernels.needs_centring(self.means, self.covariance)

    def with_kernel(self, use: Callable[[Kernel], T]) -> T:
        return kernels.with_kernel(self.means, self.covariance, use)

    def maximize(
        self,
        counts: Float[Array, " k"],
        statistics: "Moments",
        alive: Bool[Array, " k"],
        regularization: Float[Array, ""],
    ) -> tuple["Gaussian", Bool[Array, " k"]]:
        shift = jnp.where(alive[:, None], statistics.first / counts[:, None], 0)
        floor = regularization * self._column_variances(counts, statistics, alive)
        scatter = statistics.second - self._scatter_at(counts, shift)
        covariance, collapsed = self.covariance.maximize(counts, scatter, floor, alive)
        return type(self)(self.means + shift, covariance), collapsed

    def recentred(self, counts: Float[Array, " k"], statistics: "Moments", other: Any) -> "Moments":
        some = jnp.where(counts > 0, counts, 1)[:, None]
        center, away = statistics.first / some, other.means - self.means
        second = statistics.second - self._scatter_at(counts, center) + self._scatter_at(counts, center - away)
        return Moments(first=statistics.first - counts[:, None] * away, second=second)

    def floored(
        self, variances: Float[Array, " d"], regularization: Float[Array, ""], alive: Bool[Array, " k"]
    ) -> tuple["Gaussian", Bool[Array, " k"]]:
        covariance, lifted = self.covariance.floored(regularization * variances, alive)
        return type(self)(self.means, covariance), lifted

    def sample(self, key: jax.Array, labels: Int[Array, " n"]) -> Float[Array, "n d"]:
        noise = jax.random.normal(key, (labels.size, self.means.shape[1]), self.means.dtype)
        return self.means[labels] + self.covariance.take(labels).factor.times(noise[:, None, :])[:, 0]

    def information(self, weights: Float[Array, " k"]) -> "Gaussian":
        k, d = self.means.shape
        columns = jnp.broadcast_to(jnp.eye(d, dtype=self.means.dtype), (k, d, d))
        precisions = jnp.sum(self.covariance.factor.inverse().times(columns) ** 2, axis=2)
        return type(self)(weights[:, None] * precisions, self.covariance.information(weights, precisions))

    def take(self, places: Places) -> "Gaussian":
        places = checks.places("places", places, self.means.shape[0], "component")
        return type(self)(self.means[places], self.covariance.take(places))

    def marginal(self, columns: Columns) -> "Gaussian":
        return self._with(self.means[:, columns], self.covariance.factor.marginal(columns))

    def condition(self, given: Columns, kept: Columns, values: Float[Array, " g"]) -> "Gaussian":
        shift, factor = self.covariance.factor.condition(given, kept, values - self.means[:, given])
        return self._with(self.means[:, kept] + shift, factor)

    def affine(self, matrix: Float[Array, "m d"], offset: Float[Array, " m"]) -> "Gaussian":
        means = linalg.einsum("md,kd->km", matrix, self.means) + offset
        return self._with(means, self.covariance.factor.affine(matrix))

    def product(self, other: "Gaussian") -> "Gaussian":
        pairs = _Pairs.of(self, other)
        shift, factor = pairs.first.factor.fuse(pairs.second.factor, pairs.gaps)
        return type(self)(pairs.means + shift, pairs.first.of_factor(factor))

    def log_overlap(self, other: "Gaussian") -> Float[Array, "k l"]:
        pairs = _Pairs.of(self, other)
        # N(a; b, S + T): how likely the gap is.
        sums = pairs.first.of_factor(pairs.first.factor.plus(pairs.second.factor))
        kernel = CentredKernel.of(pairs.gaps, sums)
        return pairs.table(kernel.log_prob(jnp.zeros_like(pairs.gaps[:1]))[0])

    def entropy(self) -> Float[Array, " k"]:
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

    def n_parameters(self, n_components: int) -> int:
        n_columns = self.means.shape[-1]
        return n_components * n_columns + self.covariance.n_parameters(n_components)

    def _with(self, means: Float[Array, "k d"], factor: Factor) -> "Gaussian":
        return type(self)(means, self.covariance.of_factor(factor))

    def _scatter_at(self, counts: Float[Array, " k"], differences: Float[Array, "k d"]) -> Float[Array, "..."]:
        """The scatter of so many rows of each component, all of them in one place.

        About their own means, second moments are least: those about any other place are larger by this.
        """
        return self.covariance.scatter(differences[:, None, :], counts[None, :])

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
        own = self.covariance.factor.variances(statistics.second)
        own = (jnp.sum(own, axis=0) if own.ndim == 2 else own) * own.shape[-1] / self.means.shape[1]
        within = jnp.broadcast_to(own, self.means.shape[1:])
        between = jnp.sum(2 * offset * statistics.first + counts[:, None] * offset**2, axis=0)
        variance = (within + between) / weight
        # A column that varies by no more than its own rounding is constant: any scale does, so one in its own unit.
        info = jnp.finfo(variance.dtype)
        rounding = (4 * info.eps * (origin + center)) ** 2
        variance = jnp.maximum(variance, rounding)
        return jnp.where(variance > info.tiny, variance, 1)


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
            first, second = (Each(_trils(one, i.size)) for one in (first, second))
        means = a.means[i]
        return cls(means, b.means[j] - means, first, second, shape)

    def table(self, values: Float[Array, "..."]) -> Float[Array, "k l"]:
        """Values of the pairs, or one that all share, by the two components."""
        return jnp.broadcast_to(values, (self.shape[0] * self.shape[1],)).reshape(self.shape)


def _trils(covariance: Structure, n: int) -> Tril:
    """A Cholesky factor for each of n components."""
    roots = covariance.factor.tril().scale_tril
    return Tril(jnp.broadcast_to(roots, (n, *roots.shape[-2:])))
