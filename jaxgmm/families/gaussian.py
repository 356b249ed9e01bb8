"""Gaussian components over any covariance structure."""

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.covariance.structure import Structure
from jaxgmm.covariance.table import structure_of
from jaxgmm.families.family import Family, Kernel
from jaxgmm.families.kernels import CentredKernel, ExpandedKernel, Moments
from jaxgmm.ground import checks, linalg
from jaxgmm.ground.pytree import Columns, Leaf, Places, record, static

T = TypeVar("T")


@record
class Gaussian(Family):
    """Gaussian components: N(x; m_k, Sigma_k).

    Fields: `means` (k, d) in the units of the data; `covariance`, a structure such as `Full` or `Tied`.
    """

    means: Leaf
    covariance: Structure

    @property
    def covariances(self) -> Float[Array, "*batch k d d"]:
        """Dense covariance of each component (k, d, d), in squared units of the data."""
        *batch, k, d = self.means.shape
        dense = functools.reduce(lambda of, _: jax.vmap(of), batch, lambda covariance: covariance.dense(k, d))
        return dense(self.covariance)

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
        return self.covariance.needs_centring(self.means)

    def with_kernel(self, use: Callable[[Kernel], T]) -> T:
        return self.covariance.choose(
            self.means,
            centred=lambda: use(CentredKernel.of(self.means, self.covariance)),
            expanded=lambda covariance, ready: use(ExpandedKernel.of(self.means, covariance, ready)),
        )

    def maximize(
        self,
        counts: Float[Array, " k"],
        statistics: "Moments",
        alive: Bool[Array, " k"],
        floor: Float[Array, " d"],
    ) -> tuple["Gaussian", Bool[Array, " k"]]:
        shift = jnp.where(alive[:, None], statistics.first / counts[:, None], 0)
        scatter = statistics.second - self.covariance.scatter_at(counts, shift)
        covariance, collapsed = self.covariance.maximize(counts, scatter, floor, alive)
        return type(self)(self.means + shift, covariance), collapsed

    def recentred(self, counts: Float[Array, " k"], statistics: "Moments", other: Any) -> "Moments":
        some = jnp.where(counts > 0, counts, 1)[:, None]
        center, away = statistics.first / some, other.means - self.means
        scatter = self.covariance.scatter_at
        second = statistics.second - scatter(counts, center) + scatter(counts, center - away)
        return Moments(first=statistics.first - counts[:, None] * away, second=second)

    def floored(self, floor: Float[Array, " d"], alive: Bool[Array, " k"]) -> tuple["Gaussian", Bool[Array, " k"]]:
        covariance, lifted = self.covariance.floored(floor, alive)
        return type(self)(self.means, covariance), lifted

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

    def take(self, places: Places) -> "Gaussian":
        places = checks.places("places", places, self.means.shape[0], "component")
        return type(self)(self.means[places], self.covariance.take(places))

    def marginal(self, columns: Columns) -> "Gaussian":
        return type(self)(self.means[:, columns], self.covariance.marginal(columns, *self.means.shape))

    def condition(self, given: Columns, kept: Columns, values: Float[Array, " g"]) -> "Gaussian":
        shift, covariance = self.covariance.condition(given, kept, values - self.means[:, given])
        return type(self)(self.means[:, kept] + shift, covariance)

    def affine(self, matrix: Float[Array, "m d"], offset: Float[Array, " m"]) -> "Gaussian":
        means = linalg.einsum("md,kd->km", matrix, self.means) + offset
        return type(self)(means, self.covariance.affine(matrix, *self.means.shape))

    def product(self, other: "Gaussian") -> "Gaussian":
        pairs = _Pairs.of(self, other)
        shift, covariance = pairs.first.fuse(pairs.second, pairs.gaps)
        return type(self)(pairs.means + shift, covariance)

    def log_overlap(self, other: "Gaussian") -> Float[Array, "k l"]:
        pairs = _Pairs.of(self, other)
        # N(a; b, S + T): how likely the gap is.
        kernel = CentredKernel.of(pairs.gaps, pairs.first.plus(pairs.second, *pairs.gaps.shape))
        return pairs.table(kernel.log_prob(jnp.zeros_like(pairs.gaps[:1]))[0])

    def entropy(self) -> Float[Array, " k"]:
        k, d = self.means.shape
        return jnp.broadcast_to(d / 2 * (1 + math.log(2 * math.pi)) + self.covariance.half_log_det(d), (k,))

    def relative_entropy(self, other: "Gaussian") -> Float[Array, "k l"]:
        pairs = _Pairs.of(self, other)
        white = pairs.second.whiten(pairs.second.inverse_factor(), pairs.gaps[:, None, :])[:, 0]
        spread = pairs.first.relative_entropy(pairs.second, *pairs.gaps.shape)
        return pairs.table(linalg.clipped_square(white) / 2 + spread)

    def squared_wasserstein(self, other: "Gaussian") -> Float[Array, "k l"]:
        pairs = _Pairs.of(self, other)
        spread = pairs.first.squared_bures(pairs.second, *pairs.gaps.shape)
        return pairs.table(jnp.sum(pairs.gaps**2, axis=1) + spread)

    def n_parameters(self, n_components: int) -> int:
        n_columns = self.means.shape[-1]
        return n_components * n_columns + self.covariance.n_parameters(n_components, n_columns)


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
        first, second = a.covariance, b.covariance
        if type(first) is not type(second):
            first, second = first.full(*a.means.shape), second.full(*b.means.shape)
        shape = a.means.shape[0], b.means.shape[0]
        i, j = (places.ravel() for places in np.indices(shape))
        means = a.means[i]
        return cls(means, b.means[j] - means, first.take(i), second.take(j), shape)

    def table(self, values: Float[Array, "..."]) -> Float[Array, "k l"]:
        """Values of the pairs, or one that all share, by the two components."""
        return jnp.broadcast_to(values, (self.shape[0] * self.shape[1],)).reshape(self.shape)
