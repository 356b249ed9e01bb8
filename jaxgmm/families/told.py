"""What parts of rows tell of components, where each row is solved for on its own.

Of a component N(m, S) with S = L L^T, a row tells x = m + L z through what is seen of it. What is left of z is Gaussian
too, with mean t and covariance 1 - H, and the moments of x about m follow from those of z, as L (t t^T + 1 - H) L^T. H
lies between 0, where nothing is seen, and 1, where all is: no digits are lost to units, nor to correlation.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxgmm.ground import linalg
from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.ground.rows import Evidence

# Of a variance, what others tell of it leaves so many roundings at least.
_ROUNDINGS = 4


class Told:
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
class Scaled(Told):
    """Where columns are independent: `mean` (k, d, n) of z, and `left` (k, d, n), the diagonal of 1 - H."""

    squares: Leaf
    half_log_det: Leaf
    n_columns: Leaf
    mean: Leaf
    left: Leaf

    @classmethod
    def of(cls, means: Float[Array, "k d"], deviations: Float[Array, "*b d"], rows: Evidence) -> "Scaled":
        scale = jnp.reshape(deviations, (-1, means.shape[1], 1))
        seen, away = seen_of(rows).T, _differences(means, rows) / scale
        log_scale = jnp.log(scale)
        if rows.noise is None:
            gain = root = seen.astype(away.dtype)[None]
            left = 1 - gain
        else:
            ratio, shrinks = _noise_in_units(rows.noise, seen, scale)
            away, log_scale = away * shrinks, log_scale + jnp.log1p(ratio) / 2 - jnp.log(shrinks)
            gain = jnp.where(seen, 1 / (1 + ratio), 0)
            root, left = jnp.sqrt(gain), jnp.where(seen, ratio * gain, 1)
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
class Solved(Told):
    """Where columns are correlated: `mean` (k, d, n) of z, and `left` (k, d, d, n), 1 - H.

    Columns are taken in one after the other, each a measurement of z (Kalman's update), for all rows at once; or, where
    errors are correlated, eliminated one after the other. Where components share their covariance, 1 stands for k in
    `left`.
    """

    squares: Leaf
    half_log_det: Leaf
    n_columns: Leaf
    mean: Leaf
    left: Leaf

    @classmethod
    def of(cls, means: Float[Array, "k d"], factor: Float[Array, "*b d d"], rows: Evidence) -> "Solved":
        d = means.shape[1]
        factor = jnp.reshape(factor, (-1, d, d))
        # In units of the columns, so that no square over- or underflows.
        unit = jnp.max(jnp.abs(factor), axis=2)
        seen, away = seen_of(rows).T, _differences(means, rows) / unit[:, :, None]
        factor = factor / unit[:, :, None]
        log_unit = jnp.log(unit)[:, :, None]
        if rows.noise is not None and rows.noise.ndim == 3:
            noise = jnp.moveaxis(rows.noise, 0, -1) / unit[:, :, None, None] / unit[:, None, :, None]
            found = _eliminated(seen, away, factor, noise)
        else:
            variances = jnp.zeros((1, d, 1), factor.dtype)
            if rows.noise is not None:
                variances, shrinks = _noise_in_units(rows.noise, seen, unit[:, :, None])
                away, log_unit = away * shrinks, log_unit - jnp.log(shrinks)
            found = _measured(jnp.broadcast_to(seen, (d, rows.x.shape[0])), away, factor, variances)
        return cls(
            squares=found.squares,
            half_log_det=found.half_log_det + jnp.sum(jnp.where(seen, log_unit, 0), axis=1),
            n_columns=jnp.sum(seen, axis=0),
            mean=found.mean,
            left=found.left,
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
class _Measured:
    """What `Solved` is made of: `squares` (k, n), `half_log_det` (k, n), `mean` (k, d, n), `left` (k, d, d, n)."""

    squares: Leaf
    half_log_det: Leaf
    mean: Leaf
    left: Leaf


def _measured(
    seen: Bool[Array, "d n"],
    away: Float[Array, "k d n"],
    factor: Float[Array, "_ d d"],
    variances: Float[Array, "_ d _"],
) -> _Measured:
    """What columns tell of z, each with an error of its own: column j is row j of the factor times z.

    `away` is what was found.
    """
    k, d, n = away.shape
    each = factor.shape[0]
    least = _ROUNDINGS * float(jnp.finfo(away.dtype).eps)

    def column(told: _Measured, given: tuple[Array, Array, Array, Array]) -> tuple[_Measured, None]:
        seen, found, ask, variance = given
        ask = ask[:, :, None]
        shadow = jnp.sum(told.left * ask[:, None], axis=2)
        expected = jnp.sum(told.mean * ask, axis=1)
        # An equation that follows from those before, but for rounding, tells nothing.
        total = jnp.sum(ask**2, axis=1) + variance
        total = jnp.where(seen, jnp.maximum(jnp.sum(shadow * ask, axis=1) + variance, least * total), 1)
        shadow = jnp.where(seen, shadow, 0)
        gap = jnp.where(seen, found - expected, 0)
        gain = shadow / total[:, None]
        told = _Measured(
            squares=told.squares + _square(gap / jnp.sqrt(total)),
            half_log_det=told.half_log_det + jnp.log(total) / 2,
            mean=told.mean + gain * gap[:, None],
            left=told.left - gain[:, :, None] * shadow[:, None],
        )
        return told, None

    nothing = _Measured(
        squares=jnp.zeros((k, n), away.dtype),
        half_log_det=jnp.zeros((each, n), away.dtype),
        mean=jnp.zeros((k, d, n), away.dtype),
        left=jnp.broadcast_to(jnp.eye(d, dtype=away.dtype)[:, :, None], (each, d, d, n)),
    )
    columns = seen, jnp.swapaxes(away, 0, 1), jnp.swapaxes(factor, 0, 1), jnp.swapaxes(variances, 0, 1)
    return jax.lax.scan(column, nothing, columns)[0]


def _eliminated(
    seen: Bool[Array, "d n"],
    away: Float[Array, "k d n"],
    factor: Float[Array, "_ d d"],
    noise: Float[Array, "_ d d n"],
) -> _Measured:
    """The same where errors may be correlated: by the Cholesky factor C of the covariance of what is seen.

    C^-1 times the factor and what was found, by columns for all rows at once.
    """
    (k, d, _), each = away.shape, factor.shape[0]
    identity = jnp.asarray(np.eye(d, dtype=factor.dtype)[:, :, None])
    # No covariance has a negative variance.
    variances = jnp.moveaxis(jnp.diagonal(noise, axis1=1, axis2=2), -1, 1)
    wrong = jnp.any(seen & ~(variances >= 0), axis=1)
    noise = jnp.where(wrong[:, None, None], jnp.nan, noise)
    covariance = linalg.einsum("kij,klj->kil", factor, factor)[..., None] + noise
    covariance = jnp.where(seen[:, None] & seen[None, :], covariance, identity)
    # Columns of what is given before its rows, so that rows of all of them lie side by side.
    told = jnp.where(seen, jnp.swapaxes(factor, 1, 2)[..., None], 0)
    found = away[:, None] if each == k else away[None]
    places = np.arange(d)[:, None]
    least = _ROUNDINGS * float(jnp.finfo(away.dtype).eps) * jnp.diagonal(covariance, axis1=1, axis2=2)

    def column(rest: Float[Array, "_ c d n"], given: tuple[Array, Array]) -> tuple[Array, Array]:
        place, least = given
        row = jax.lax.dynamic_index_in_dim(rest, place, 2, keepdims=False)
        pivot = jnp.sqrt(jnp.maximum(jax.lax.dynamic_index_in_dim(row, place, 1, keepdims=False), least))
        row = row / pivot[:, None]
        below = jax.lax.dynamic_index_in_dim(rest, place, 1, keepdims=False) / pivot[:, None]
        below = jnp.where(places > place, below, 0)
        return jnp.where(places == place, row[:, :, None], rest - below[:, None] * row[:, :, None]), pivot

    start = jnp.concatenate([covariance, jnp.broadcast_to(told, covariance.shape), found], axis=1)
    rest, pivots = jax.lax.scan(column, start, (jnp.arange(d), jnp.moveaxis(least, -1, 0)))
    told, white = rest[:, d : 2 * d], rest[:, 2 * d :]
    white = white[:, 0] if each == k else white[0]
    return _Measured(
        squares=_squares(white),
        half_log_det=jnp.sum(jnp.log(pivots), axis=0),
        mean=jnp.sum(told * white[:, None], axis=2),
        left=identity - jnp.sum(told[:, :, None] * told[:, None], axis=3),
    )


def _noise_in_units(
    noise: Float[Array, "n d"], seen: Bool[Array, "d _"], scale: Float[Array, "_ d 1"]
) -> tuple[Float[Array, "_ d n"], Float[Array, "_ d n"]]:
    """Variances of errors over squares of a scale, no more than there are numbers for; by what to shrink the rest.

    An error and what it was made in shrink alike where the former is too large.
    """
    most = float(jnp.finfo(noise.dtype).max) ** 0.8
    ratio = noise.T / scale / scale
    beyond = ratio > most
    shrinks = jnp.where(beyond, scale * (math.sqrt(most) / jnp.sqrt(jnp.where(beyond, noise.T, 1))), 1)
    return jnp.where(seen, jnp.where(beyond, most, ratio), 0), jnp.where(seen, shrinks, 1)


def seen_of(rows: Evidence) -> Any:
    """Which entries of a block are (n, d), or one row for all of them."""
    return jnp.ones((1, rows.x.shape[1]), bool) if rows.seen is None else rows.seen


def _differences(means: Float[Array, "k d"], rows: Evidence) -> Float[Array, "k d n"]:
    """Of what is seen from the means, rows along memory; 0 where nothing is."""
    return jnp.where(seen_of(rows).T, rows.x.T - means[:, :, None], 0)


def _squares(white: Float[Array, "k d n"]) -> Float[Array, "k n"]:
    """As `linalg.clipped_square`."""
    return jnp.sum(_square(white), axis=1)


def _square(white: Array) -> Array:
    limit = 2 * math.sqrt(linalg.saturation(white.dtype))
    return jnp.clip(white, -limit, limit) ** 2
