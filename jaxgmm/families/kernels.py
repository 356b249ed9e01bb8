"""The two ways one pass over the rows takes Gaussian densities and moments: expanded and centred.

The expanded way is two matrix products for all components at once, and loses the digits by which its terms exceed their
sum. The centred way is exact whatever the means, at twice the arithmetic in products as small as d.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxgmm.covariance.expansion import Expanded, Frame
from jaxgmm.covariance.structure import Structure
from jaxgmm.families.family import Kernel
from jaxgmm.ground import linalg, pytree
from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.ground.rows import Evidence

T = TypeVar("T")


def dense(means: Float[Array, "*batch k d"], covariance: Structure) -> Float[Array, "*batch k d d"]:
    """The matrices of all components, of one mixture or of a stack."""
    k, d = means.shape[-2:]
    return _of_stack(lambda one: jnp.broadcast_to(one.factor.dense(), (k, d, d)), means, covariance)


def variances(means: Float[Array, "*batch k d"], covariance: Structure) -> Float[Array, "*batch k d"]:
    """Their diagonals, without the matrices."""
    return _of_stack(lambda one: jnp.broadcast_to(one.factor.diagonal(), means.shape[-2:]), means, covariance)


def _of_stack(of_one: Callable[[Structure], Array], means: Array, covariance: Structure) -> Array:
    return functools.reduce(lambda of, _: jax.vmap(of), means.shape[:-2], of_one)(covariance)


def with_kernel(
    means: Float[Array, "k d"],
    covariance: Structure,
    log_normalizer: Float[Array, " k"],
    use: Callable[["CentredKernel | ExpandedKernel"], T],
) -> T:
    """`use` of the expanded kernel where it keeps enough digits, and of the centred one elsewhere.

    Their `log_prob` is `log_normalizer` less half the squared distance in standard deviations.
    """

    def centred() -> T:
        return use(CentredKernel.of(means, covariance, log_normalizer))

    ready = covariance.expanded(means)
    if ready is None:
        return centred()
    lost = linalg.any_lane(_loses_digits(means, covariance, ready))
    return jax.lax.cond(lost, centred, lambda: use(ExpandedKernel.of(means, covariance, log_normalizer, ready)))


def needs_centring(means: Float[Array, "k d"], covariance: Structure) -> Bool[Array, ""]:
    """Whether moments of these components lose digits unless taken about these very means."""
    ready = covariance.expanded(means)
    return jnp.ones((), bool) if ready is None else _loses_digits(means, covariance, ready)


def _loses_digits(means: Float[Array, "k d"], covariance: Structure, ready: Expanded) -> Bool[Array, ""]:
    # NaN, which nothing helps, must not take the other lanes of a vmap along.
    return ready.loses_digits & pytree.without_nan(jax.lax.stop_gradient((means, covariance)))


@record
class Moments:
    """First and second moments about the means of the components they were taken with, summed over rows.

    Fields: `first` (k, d), sum of r (x - m_k); `second`, sum of r (x - m_k)(x - m_k)^T as the structure keeps it;
    `mass` (k,), sum of r, None where this is the counts: rows may be weighted in moments as they do not count;
    `degrees` (k,), what the second ones are divided by where that is neither; `tails` (k,), sum of r (u - 1 - log(u))
    over rows that count for r u, where that tells degrees of freedom.
    """

    first: Leaf
    second: Leaf
    mass: Leaf | None = None
    degrees: Leaf | None = None
    tails: Leaf | None = None

    def by_number(self, counts: Float[Array, " k"]) -> "Moments":
        """With second ones that are divided by the number of rows, as is best where covariances are not free."""
        return self if self.mass is None or self.degrees is not None else dataclasses.replace(self, degrees=counts)


@record
class CentredKernel(Kernel):
    """Densities and moments from differences to each component's mean: exact in float32 far from the origin."""

    means: Leaf
    whitening: Any
    log_normalizer: Leaf
    covariance: Structure

    @classmethod
    def of(
        cls, means: Float[Array, "k d"], covariance: Structure, log_normalizer: Float[Array, " k"]
    ) -> "CentredKernel":
        return cls(means, covariance.factor.inverse(), log_normalizer, covariance)

    def log_prob(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        z = self.whitening.times(x - self.means[:, None, :])
        return (self.log_normalizer[:, None] - linalg.clipped_square(z) / 2).T

    def statistics(self, x: Float[Array, "n d"], responsibilities: Float[Array, "n k"]) -> Moments:
        differences = x - self.means[:, None, :]
        return Moments(
            first=linalg.einsum("nk,knd->kd", responsibilities, differences),
            second=self.covariance.scatter(differences, responsibilities),
        )


@record
class Features:
    """Features of rows in coordinates u of a frame, (p, n): [u, squares(u)]; and which rows are too far out, (n,).

    `projected` (k q, n), the coordinates as each component looks at them, None where it does not.
    """

    features: Leaf
    beyond: Leaf
    projected: Leaf | None = None


@record
class FeatureSums:
    """Sums over rows in coordinates of a frame: `features` (k, d + q), sum of r [u, squares(u)]; and `spread`."""

    features: Leaf
    spread: Any


@record
class ExpandedKernel(Kernel):
    """Densities and moments as matrix products with features of the rows, [u, squares(u)], in one frame for all.

    Fields: `frame`; `means` (k, d), in coordinates of the frame; `constant` (k,) and `coefficients` (k, d + q), which
    times the features give log-densities; `reach` (), the largest coordinate whose squares do not overflow;
    `covariance`, which knows its features; `projection` (k q, d), as `Expanded` has it.
    """

    frame: Frame
    means: Leaf
    constant: Leaf
    coefficients: Leaf
    reach: Leaf
    covariance: Any
    projection: Leaf | None = None

    @classmethod
    def of(
        cls, means: Float[Array, "k d"], covariance: Structure, log_normalizer: Float[Array, " k"], expanded: Expanded
    ) -> "ExpandedKernel":
        """For components at `means`, with what `covariance.expanded(means)` gives."""
        expansion = expanded.expansion
        return cls(
            frame=expanded.frame,
            means=expanded.means,
            constant=expansion.constant + log_normalizer,
            coefficients=jnp.concatenate([expansion.linear, expansion.quadratic], axis=1),
            # Further out than this, in units of the frame, squares overflow.
            reach=2 * jnp.sqrt(linalg.saturation(means.dtype) / jnp.maximum(1, expansion.steepest)),
            covariance=covariance,
            projection=expanded.projection,
        )

    def read(self, rows: Evidence) -> Features:
        coordinates = self.frame.enter(rows.x)
        beyond = jnp.max(jnp.abs(coordinates), axis=0) >= self.reach
        coordinates = jnp.where(beyond, 0, coordinates)
        features = jnp.concatenate([coordinates, self.covariance.squares(coordinates)])
        if self.projection is None:
            return Features(features, beyond)
        return Features(features, beyond, linalg.einsum("pd,dn->pn", self.projection, coordinates))

    def log_prob(self, rows: Features) -> Float[Array, "n k"]:
        value = self.constant[:, None] + linalg.einsum("kp,pn->kn", self.coefficients, rows.features)
        if rows.projected is not None:
            of_each = jnp.reshape(rows.projected, (value.shape[0], -1, value.shape[1]))
            value = value + jnp.sum(of_each**2, axis=1) / 2
        return jnp.where(rows.beyond, -jnp.inf, value).T

    def statistics(self, rows: Features, responsibilities: Float[Array, "n k"]) -> FeatureSums:
        coordinates = rows.features[: self.means.shape[1]]
        return FeatureSums(
            features=linalg.einsum("nk,pn->kp", responsibilities, rows.features),
            spread=self.covariance.spread(coordinates, responsibilities, rows.projected),
        )

    def finish(self, counts: Float[Array, " k"], sums: FeatureSums) -> Moments:
        first, squares = jnp.split(sums.features, [self.means.shape[1]], axis=1)
        return Moments(
            first=self.frame.leave(first - counts[:, None] * self.means),
            second=self.covariance.second(self.frame, self.means, counts, first, squares, sums.spread),
        )
