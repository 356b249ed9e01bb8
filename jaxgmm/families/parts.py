"""Kernels for rows of which only a part is known: entries are unseen, or have errors."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.covariance.expansion import Expanded
from jaxgmm.covariance.structure import Structure
from jaxgmm.covariance.tril import Tril
from jaxgmm.families.family import Kernel
from jaxgmm.families.kernels import CentredKernel, ExpandedKernel, Moments
from jaxgmm.families.told import Scaled, Solved, Told, seen_of
from jaxgmm.ground import linalg, pytree
from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.ground.rows import Evidence

T = TypeVar("T")


def with_kernel(components: Any, rows: Evidence, use: Callable[[Kernel, Evidence], T]) -> T:
    """`use(kernel, rows)` for components with a location, a `structure`, a `log_density` and an `influence`.

    Where all rows of a block are seen in the same columns, they are plain rows of these columns, and a kernel of whole
    rows takes them. Otherwise every row is solved for on its own.
    """
    structure, means = components.structure, components.means
    if rows.seen is None or not rows.patterned or structure.factor.deviations() is not None:
        return use(RowKernel(components), rows)
    patterns = jax.vmap(lambda seen: _Pattern.of(means, structure, seen))(rows.seen[:, 0])

    def of(kernels: CentredKernel | ExpandedKernel) -> T:
        return use(PatternKernel(components), dataclasses.replace(rows, ready=(patterns, kernels)))

    nothing = jnp.zeros_like(means[:, 0])

    def centred() -> T:
        return of(jax.vmap(lambda one: CentredKernel.of(one.means, one.covariance, nothing))(patterns))

    def expanded() -> T:
        def one(pattern: _Pattern) -> ExpandedKernel:
            return ExpandedKernel.of(pattern.means, pattern.covariance, nothing, pattern.expanded)

        return of(jax.vmap(one)(patterns))

    lost = jax.vmap(lambda pattern: pattern.expanded.loses_digits)(patterns)
    lost = jnp.any(lost) & pytree.without_nan(jax.lax.stop_gradient((means, structure)))
    return jax.lax.cond(linalg.any_lane(lost), centred, expanded)


class _PartsKernel(Kernel):
    """What follows from what is known of z. Fields: `components`."""

    components: Any

    def log_prob(self, rows: "Told") -> Float[Array, "n k"]:
        return self.components.log_density(rows.squares, rows.half_log_det, rows.n_columns).T

    def statistics(self, rows: "Told", responsibilities: Float[Array, "n k"]) -> Moments:
        influence = self.components.influence(rows.squares, rows.n_columns)
        if influence is None:
            return Moments(*rows.moments(responsibilities, responsibilities))
        shares = responsibilities * influence.T
        tails = self.components.tails(rows.squares, rows.n_columns)
        return Moments(
            *rows.moments(shares, responsibilities),
            mass=jnp.sum(shares, axis=0),
            tails=None if tails is None else jnp.sum(responsibilities.T * tails, axis=1),
        )

    def finish(self, counts: Float[Array, " k"], sums: Moments) -> Moments:
        structure = self.components.structure
        first = structure.factor.times(sums.first[:, None, :])[:, 0]
        return dataclasses.replace(sums, first=first, second=structure.unwhitened(sums.second))


@record
class RowKernel(_PartsKernel):
    """Every row is solved for on its own."""

    components: Any

    def read(self, rows: Evidence) -> Any:
        structure, means = self.components.structure, self.components.means
        deviations = structure.factor.deviations()
        if deviations is None or (rows.noise is not None and rows.noise.ndim > 2):
            return Solved.of(means, structure.factor.tril().scale_tril, rows)
        return Scaled.of(means, deviations, rows)

    def true_values(self, rows: "Told") -> tuple[Float[Array, "k d n"], Float[Array, "k d d n"]]:
        components = self.components
        factor = self._factor()
        half = linalg.einsum("kij,kjln->kiln", factor, rows.remains)
        covariances = linalg.einsum("kiln,kjl->kijn", half, factor)
        stretch = components.stretch(rows.squares, rows.n_columns)
        covariances = covariances if stretch is None else covariances * stretch[:, None, None]
        away = linalg.einsum("kij,kjn->kin", factor, rows.mean)
        return components.means[:, :, None] + away, jnp.broadcast_to(covariances, (*away.shape[:2], *away.shape[1:]))

    def roots_of_true_values(
        self, rows: "Told", chosen: Int[Array, " n"]
    ) -> tuple[Float[Array, "n d"], Float[Array, "d d n"], Float[Array, " n"]]:
        places = jnp.arange(chosen.size)
        means, factor = self.components.means[chosen], self._factor()[chosen]
        mean, squares = rows.mean[chosen, :, places], rows.squares[chosen, places]
        root = linalg.semidefinite_root(jnp.moveaxis(rows.remains[chosen, :, :, places], 0, -1))
        return means + linalg.einsum("nij,nj->ni", factor, mean), linalg.einsum("nij,jln->iln", factor, root), squares

    def _factor(self) -> Float[Array, "k d d"]:
        k, d = self.components.means.shape
        return jnp.broadcast_to(self.components.structure.factor.tril().scale_tril, (k, d, d))


@record
class PatternKernel(_PartsKernel):
    """All rows of a block are seen in the same columns."""

    components: Any

    def read(self, rows: Evidence) -> "_Patterned":
        pattern, kernel = rows.ready
        features = kernel.read(dataclasses.replace(rows, x=jnp.where(seen_of(rows), rows.x, 0)))
        half = jnp.clip(-kernel.log_prob(features), 0, 2 * linalg.saturation(rows.x.dtype))
        return _Patterned(2 * half.T, features, pattern, kernel)


@record
class _Pattern:
    """Components as they are seen through some columns: the others have mean 0, variance 1, and no correlation.

    Fields: `means` (k, d); `covariance`, a structure; `half_log_det` (k,) or (1,); `seen` (d,); `transform` (k, d, d)
    or (1, d, d), which takes differences of rows from the means to t; `left`, 1 - H, as much.
    """

    means: Leaf
    covariance: Any
    half_log_det: Leaf
    seen: Leaf
    transform: Leaf
    left: Leaf

    @classmethod
    def of(cls, means: Float[Array, "k d"], structure: Structure, seen: Bool[Array, " d"]) -> "_Pattern":
        d = means.shape[1]
        given = structure.factor.tril().scale_tril
        factor = jnp.reshape(given, (-1, d, d))
        unit = jnp.max(jnp.abs(factor), axis=2)
        factor = factor / unit[:, :, None]
        identity = np.eye(d, dtype=factor.dtype)
        products = linalg.einsum("kij,klj->kil", factor, factor)
        root = linalg.cholesky(jnp.where(seen[:, None] & seen[None, :], products, identity))
        inverse = linalg.tril_inverse(root)
        told = linalg.einsum("kij,kjl->kil", inverse, jnp.where(seen[:, None], factor, 0))
        unit = jnp.where(seen, unit, 1)
        return cls(
            means=jnp.where(seen, means, 0),
            covariance=structure.of_factor(Tril(jnp.reshape(unit[:, :, None] * root, given.shape))),
            half_log_det=linalg.half_log_det(root) + jnp.sum(jnp.log(unit), axis=1),
            seen=seen,
            transform=linalg.einsum("kij,kil->kjl", told, inverse) / unit[:, None, :],
            left=jnp.asarray(identity) - linalg.einsum("kij,kil->kjl", told, told),
        )

    @property
    def expanded(self) -> Expanded:
        """These components in a frame of theirs."""
        return self.covariance.expanded(self.means)


@record
class _Patterned(Told):
    """Rows that are all seen in the same columns, by the `features` that a `kernel` of whole rows has read."""

    squares: Leaf
    features: Any
    pattern: _Pattern
    kernel: Any

    @property
    def half_log_det(self) -> Float[Array, "k 1"]:
        return self.pattern.half_log_det[:, None]

    @property
    def n_columns(self) -> Any:
        return jnp.sum(self.pattern.seen)

    def moments(self, shares: Float[Array, "n k"], responsibilities: Float[Array, "n k"]) -> tuple[Array, Array]:
        pattern, mass = self.pattern, jnp.sum(shares, axis=0)
        plain = self.kernel.finish(mass, self.kernel.statistics(self.features, shares))
        counts = mass if shares is responsibilities else jnp.sum(responsibilities, axis=0)
        transform, d = pattern.transform, plain.first.shape[1]
        each = jnp.broadcast_to(transform, (plain.first.shape[0], d, d))
        first = linalg.einsum("kij,kj->ki", each, plain.first)
        second = jnp.reshape(plain.second, transform.shape)
        second = linalg.einsum("kij,kjl,kml->kim", transform, second, transform)
        counts = counts if transform.shape[0] == counts.size else jnp.sum(counts, keepdims=True)
        return first, second + counts[:, None, None] * pattern.left
