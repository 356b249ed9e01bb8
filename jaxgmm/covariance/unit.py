"""Factors of determinant 1: the shape of a covariance apart from its volume."""

import math
from abc import abstractmethod
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxgmm.covariance.factor import Factor
from jaxgmm.covariance.scales import Scales
from jaxgmm.covariance.tril import Tril
from jaxgmm.ground import linalg
from jaxgmm.ground.bounds import unit_lower_factor, unit_product
from jaxgmm.ground.pytree import Leaf, record


class Unit(Factor):
    """Roots of covariances whose determinant is 1."""

    @property
    @abstractmethod
    def plain(self) -> Factor:
        """The same roots, as those of covariances of any size."""

    @classmethod
    @abstractmethod
    def of_plain(cls, factor: Any) -> tuple["Unit", Float[Array, "*b"]]:
        """Roots that are these but for their size, and their size: the determinant of a root to the power 1 / d."""

    @abstractmethod
    def levelled(
        self, scatter: Float[Array, "k ..."], floor: Float[Array, " d"], alive: Bool[Array, " k"]
    ) -> tuple["Unit", Bool[Array, " k"]]:
        """The likelihood's maximum among covariances of determinant 1 not below diag(floor), and which it holds.

        The product of the floor is at most 1. What is not `alive` stays as it is.
        """


@record
class UnitScales(Unit, Scales):
    """Standard deviations whose product is 1. Fields: `scale` (d,) or (k, d)."""

    scale: Leaf = unit_product()

    @property
    def plain(self) -> Scales:
        return Scales(self.scale)

    @classmethod
    def of_plain(cls, factor: Scales) -> tuple["UnitScales", Float[Array, "*b"]]:
        size = _geometric_mean(factor.scale)
        return cls(factor.scale / size[..., None]), size

    def levelled(
        self, scatter: Float[Array, "k d"], floor: Float[Array, " d"], alive: Bool[Array, " k"]
    ) -> tuple["UnitScales", Bool[Array, " k"]]:
        tiny = jnp.finfo(scatter.dtype).tiny
        floor = jnp.maximum(floor, tiny)
        safe = jnp.where(alive[:, None] & (scatter > tiny), scatter, 1)
        variances = safe / _geometric_mean(safe)[:, None]
        held = alive & jnp.any(~(variances > floor) | ~(scatter > tiny), axis=1)
        excess = jnp.log(jnp.maximum(scatter, tiny)) - jnp.log(floor)
        raised = floor * jnp.exp(_levels(excess, -jnp.sum(jnp.log(floor))))
        variances = jnp.where(held[:, None], raised, variances)
        return UnitScales(jnp.where(alive[:, None], jnp.sqrt(variances), self.scale)), held


@record
class UnitTril(Unit, Tril):
    """Cholesky factors of determinant 1. Fields: `scale_tril` (d, d) or (k, d, d)."""

    scale_tril: Leaf = unit_lower_factor()

    @property
    def plain(self) -> Tril:
        return Tril(self.scale_tril)

    @classmethod
    def of_plain(cls, factor: Tril) -> tuple["UnitTril", Float[Array, "*b"]]:
        size = jnp.exp(factor.half_log_det() / factor.scale_tril.shape[-1])
        return cls(factor.scale_tril / size[..., None, None]), size

    def levelled(
        self, scatter: Float[Array, "k d d"], floor: Float[Array, " d"], alive: Bool[Array, " k"]
    ) -> tuple["UnitTril", Bool[Array, " k"]]:
        d = scatter.shape[-1]
        there, identity = alive[:, None, None], jnp.eye(d, dtype=scatter.dtype)
        scatter = jnp.where(there, scatter, identity)
        factor = Tril(linalg.cholesky(scatter))
        found = jnp.all(jnp.isfinite(factor.scale_tril), axis=(1, 2))
        best, _ = UnitTril.of_plain(Tril(jnp.where(found[:, None, None], factor.scale_tril, identity)))
        unit = linalg.floor_units(floor, jnp.sum(best.scale_tril**2, axis=2))
        relative = best.scale_tril / unit[:, :, None]
        square = linalg.einsum("kij,klj->kil", relative, relative)
        above = found & jnp.all(jnp.isfinite(linalg.cholesky(square - identity)), axis=(1, 2))
        held = alive & ~above

        def raised() -> Array:
            # Not above what rounding asks for besides, or there may be no such covariances.
            tiny = jnp.finfo(scatter.dtype).tiny
            unit = jnp.sqrt(jnp.maximum(floor, math.sqrt(tiny)))
            values, vectors = linalg.eigh(scatter / unit[:, None] / unit)
            # What is less is rounding of the largest, and roots of these would not be found again.
            values = jnp.maximum(values, linalg.least_share(scatter.dtype, d) * values[:, -1:])
            levels = _levels(jnp.log(jnp.maximum(values, tiny)), -2 * jnp.sum(jnp.log(unit)))
            root = unit[:, None] * vectors * jnp.exp(levels / 2)[:, None, :]
            return jnp.where(held[:, None, None], linalg.lower_factor(root), best.scale_tril)

        root = jax.lax.cond(linalg.any_lane(jnp.any(held)), raised, lambda: best.scale_tril)
        return UnitTril(jnp.where(there, root, self.scale_tril)), held


def _geometric_mean(values: Float[Array, "*b d"]) -> Float[Array, "*b"]:
    # Of numbers near 1, so that their logarithms have all the digits.
    middle = jnp.exp(jnp.mean(jnp.log(values), axis=-1, keepdims=True))
    return middle[..., 0] * jnp.exp(jnp.mean(jnp.log(values / middle), axis=-1))


def _levels(excess: Float[Array, "k d"], total: Float[Array, "*#k"]) -> Float[Array, "k d"]:
    """Numbers max(excess - level, 0) whose sum over an axis is `total`, not negative; any level for each."""
    d = excess.shape[1]
    ordered = jnp.sort(excess, axis=1)
    above = jnp.cumsum(ordered[:, ::-1], axis=1)[:, ::-1]
    level = (above - jnp.reshape(total, (-1, 1))) / (d - jnp.arange(d))
    # The first at which what is left above the level is above it indeed.
    first = jnp.argmax(jax.lax.stop_gradient(ordered >= level), axis=1)
    return jnp.maximum(excess - jnp.take_along_axis(level, first[:, None], axis=1), 0)
