"""Densities and moments of rows of which only a part is known: entries are unseen, or have errors.

Of a component N(m, S) with S = L L^T, a row tells x = m + L z through what is seen of it. What is left of z is Gaussian
too, with mean t and covariance 1 - H, and the moments of x about m follow from those of z, as L (t t^T + 1 - H) L^T. H
lies between 0, where nothing is seen, and 1, where all is: no digits are lost to units, nor to correlation.
"""

import dataclasses
import math
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
from jaxgmm.ground import linalg, pytree
from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.ground.rows import Evidence

T = TypeVar("T")

# Of a variance, what others tell of it leaves so many roundings at least.
_ROUNDINGS = 4


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

    def log_prob(self, rows: "_Known") -> Float[Array, "n k"]:
        return self.components.log_density(rows.squares, rows.half_log_det, rows.n_columns).T

    def statistics(self, rows: "_Known", responsibilities: Float[Array, "n k"]) -> Moments:
        influence = self.components.influence(rows.squares, rows.n_columns)
        if influence is None:
            return Moments(*rows.moments(responsibilities, responsibilities))
        shares = responsibilities * influence.T
        return Moments(*rows.moments(shares, responsibilities), jnp.sum(shares, axis=0))

    def finish(self, counts: Float[Array, " k"], sums: Moments) -> Moments:
        structure = self.components.structure
        first = structure.factor.times(sums.first[:, None, :])[:, 0]
        return Moments(first, structure.unwhitened(sums.second), sums.mass)


@record
class RowKernel(_PartsKernel):
    """Every row is solved for on its own."""

    components: Any

    def read(self, rows: Evidence) -> Any:
        structure, means = self.components.structure, self.components.means
        deviations = structure.factor.deviations()
        if deviations is None or (rows.noise is not None and rows.noise.ndim > 2):
            return _Solved.of(means, structure.factor.tril().scale_tril, rows)
        return _Scaled.of(means, deviations, rows)

    def true_values(self, rows: "_Known") -> tuple[Float[Array, "k d n"], Float[Array, "k d d n"]]:
        components = self.components
        factor = self._factor()
        half = linalg.einsum("kij,kjln->kiln", factor, rows.remains)
        covariances = linalg.einsum("kiln,kjl->kijn", half, factor)
        stretch = components.stretch(rows.squares, rows.n_columns)
        covariances = covariances if stretch is None else covariances * stretch[:, None, None]
        away = linalg.einsum("kij,kjn->kin", factor, rows.mean)
        return components.means[:, :, None] + away, jnp.broadcast_to(covariances, (*away.shape[:2], *away.shape[1:]))

    def roots_of_true_values(
        self, rows: "_Known", chosen: Int[Array, " n"]
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
        features = kernel.read(dataclasses.replace(rows, x=jnp.where(_seen(rows), rows.x, 0)))
        half = jnp.clip(-kernel.log_prob(features), 0, 2 * linalg.saturation(rows.x.dtype))
        return _Patterned(2 * half.T, features, pattern, kernel)


class _Known:
    """What is known of z of each row under each component: `squares` (k, n), of the distance of what is seen from the
    mean, `half_log_det` (k, n) of its covariance, and `n_columns` (n,), how many are seen; each may have 1 for k or n.
    """

    squares: Any
    half_log_det: Any
    n_columns: Any
    mean: Any
    """(k, d, n), t."""

    @property
    def remains(self) -> Float[Array, "k d d n"]:
        """1 - H."""
        raise NotImplementedError

    def moments(self, shares: Float[Array, "n k"], responsibilities: Float[Array, "n k"]) -> tuple[Array, Array]:
        """Sum over rows of shares t (k, d), and of shares t t^T + responsibilities (1 - H).

        (k, d, d), or (1, d, d) of all components where they share their covariance; (k, d) of the diagonals.
        """
        raise NotImplementedError


@record
class _Scaled(_Known):
    """Where columns are independent: `mean` (k, d, n) of z, and `left` (k, d, n), the diagonal of 1 - H."""

    squares: Leaf
    half_log_det: Leaf
    n_columns: Leaf
    mean: Leaf
    left: Leaf

    @classmethod
    def of(cls, means: Float[Array, "k d"], deviations: Float[Array, "*b d"], rows: Evidence) -> "_Scaled":
        scale = jnp.reshape(deviations, (-1, means.shape[1], 1))
        seen, away = _seen(rows).T, _differences(means, rows) / scale
        log_scale = jnp.log(scale)
        if rows.noise is None:
            gain = root = seen.astype(away.dtype)[None]
            left = 1 - gain
        else:
            ratio = jnp.where(seen, rows.noise.T / scale / scale, 0)
            gain = jnp.where(seen, 1 / (1 + ratio), 0)
            root, log_scale = jnp.sqrt(gain), log_scale + jnp.log1p(ratio) / 2
            left = jnp.where(seen, ratio * gain, 1)
        return cls(
            squares=_squares(away * root),
            half_log_det=jnp.sum(jnp.where(seen, log_scale, 0), axis=1),
            n_columns=jnp.sum(seen, axis=0),
            mean=away * gain,
            left=left,
        )

    @property
    def remains(self) -> Float[Array, "k d d n"]:
        """1 - H."""
        k, d, n = self.mean.shape
        return jnp.eye(d, dtype=self.mean.dtype)[:, :, None] * jnp.broadcast_to(self.left, (k, d, n))[:, :, None]

    def moments(self, shares: Float[Array, "n k"], responsibilities: Float[Array, "n k"]) -> tuple[Array, Array]:
        first = linalg.einsum("nk,kdn->kd", shares, self.mean)
        second = linalg.einsum("nk,kdn->kd", shares, self.mean**2)
        left = jnp.broadcast_to(self.left, self.mean.shape)
        return first, second + linalg.einsum("nk,kdn->kd", responsibilities, left)


@record
class _Solved(_Known):
    """Where columns are correlated: `mean` (k, d, n) of z, and `left` (k, d, d, n), 1 - H.

    Columns are taken in one after the other, each a measurement of z (Kalman's update), for all rows at once. Where
    components share their covariance, 1 stands for k in `left`.
    """

    squares: Leaf
    half_log_det: Leaf
    n_columns: Leaf
    mean: Leaf
    left: Leaf

    @classmethod
    def of(cls, means: Float[Array, "k d"], factor: Float[Array, "*b d d"], rows: Evidence) -> "_Solved":
        d = means.shape[1]
        factor = jnp.reshape(factor, (-1, d, d))
        # In units of the columns, so that no square over- or underflows.
        unit = jnp.max(jnp.abs(factor), axis=2)
        seen, away = _seen(rows).T, _differences(means, rows) / unit[:, :, None]
        # What each column measures of z.
        asks = (factor / unit[:, :, None])[..., None]
        variances = jnp.zeros((1, d, 1), factor.dtype)
        if rows.noise is not None and rows.noise.ndim == 2:
            variances = rows.noise.T / unit[:, :, None] / unit[:, :, None]
        elif rows.noise is not None:
            # Errors that may be correlated are unknowns like z, and are told apart from it by nothing else.
            noise = jnp.where(seen[:, None] & seen[None, :], jnp.moveaxis(rows.noise, 0, -1), 0)
            root = linalg.semidefinite_root(noise) / unit[:, :, None, None]
            asks = jnp.concatenate([jnp.broadcast_to(asks, root.shape), root], axis=2)
        found = _measured(jnp.broadcast_to(seen, (d, rows.x.shape[0])), away, asks, variances)
        log_unit = jnp.sum(jnp.where(seen, jnp.log(unit)[:, :, None], 0), axis=1)
        return cls(
            squares=found.squares,
            half_log_det=found.half_log_det + log_unit,
            n_columns=jnp.sum(seen, axis=0),
            mean=found.mean[:, :d],
            left=found.left[:, :d, :d],
        )

    @property
    def remains(self) -> Float[Array, "k d d n"]:
        """1 - H."""
        return jnp.broadcast_to(self.left, (self.mean.shape[0], *self.left.shape[1:]))

    def moments(self, shares: Float[Array, "n k"], responsibilities: Float[Array, "n k"]) -> tuple[Array, Array]:
        first = linalg.einsum("nk,kdn->kd", shares, self.mean)
        weighted = self.mean * shares.T[:, None]
        if self.left.shape[0] < self.mean.shape[0]:
            # The sum over components is all that is wanted.
            second = linalg.einsum("kin,kjn->ij", weighted, self.mean)
            left = linalg.einsum("ijn,n->ij", self.left[0], jnp.sum(responsibilities, axis=1))
            return first, (second + left)[None]
        second = linalg.einsum("kin,kjn->kij", weighted, self.mean)
        return first, second + linalg.einsum("kijn,nk->kij", self.left, responsibilities)


@record
class _Told:
    squares: Leaf
    half_log_det: Leaf
    mean: Leaf
    left: Leaf


def _measured(
    seen: Bool[Array, "d n"],
    away: Float[Array, "k d n"],
    asks: Float[Array, "_ d m _"],
    variances: Float[Array, "_ d _"],
) -> _Told:
    """What columns tell of m unknowns of mean 0, variance 1 and no correlation, each with an error of its own.

    Column j of row i is `asks[:, j, :, i]` times the unknowns. `away` is what was found.
    """
    k, _, n = away.shape
    each, m = asks.shape[0], asks.shape[2]
    least = _ROUNDINGS * float(jnp.finfo(away.dtype).eps)

    def column(told: _Told, given: tuple[Array, Array, Array, Array]) -> tuple[_Told, None]:
        seen, found, ask, variance = given
        shadow = jnp.sum(told.left * ask[:, None], axis=2)
        expected = jnp.sum(told.mean * ask, axis=1)
        # An equation that follows from those before, but for rounding, tells nothing.
        total = jnp.sum(ask**2, axis=1) + variance
        total = jnp.where(seen, jnp.maximum(jnp.sum(shadow * ask, axis=1) + variance, least * total), 1)
        shadow = jnp.where(seen, shadow, 0)
        gap = jnp.where(seen, found - expected, 0)
        gain = shadow / total[:, None]
        told = _Told(
            squares=told.squares + _square(gap / jnp.sqrt(total)),
            half_log_det=told.half_log_det + jnp.log(total) / 2,
            mean=told.mean + gain * gap[:, None],
            left=told.left - gain[:, :, None] * shadow[:, None],
        )
        return told, None

    nothing = _Told(
        squares=jnp.zeros((k, n), away.dtype),
        half_log_det=jnp.zeros((each, n), away.dtype),
        mean=jnp.zeros((k, m, n), away.dtype),
        left=jnp.broadcast_to(jnp.eye(m, dtype=away.dtype)[:, :, None], (each, m, m, n)),
    )
    columns = seen, jnp.swapaxes(away, 0, 1), jnp.swapaxes(asks, 0, 1), jnp.swapaxes(variances, 0, 1)
    return jax.lax.scan(column, nothing, columns)[0]


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
class _Patterned(_Known):
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


def _seen(rows: Evidence) -> Any:
    """Which entries of a block are (n, d), or one row for all of them."""
    return jnp.ones((1, rows.x.shape[1]), bool) if rows.seen is None else rows.seen


def _differences(means: Float[Array, "k d"], rows: Evidence) -> Float[Array, "k d n"]:
    """Of what is seen from the means, rows along memory; 0 where nothing is."""
    return jnp.where(_seen(rows).T, rows.x.T - means[:, :, None], 0)


def _squares(white: Float[Array, "k d n"]) -> Float[Array, "k n"]:
    """As `linalg.clipped_square`."""
    return jnp.sum(_square(white), axis=1)


def _square(white: Array) -> Array:
    limit = 2 * math.sqrt(linalg.saturation(white.dtype))
    return jnp.clip(white, -limit, limit) ** 2
