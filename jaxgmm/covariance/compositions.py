"""Structures that are composed of more than a factor, before there are numbers in them.

Who names none of them does not load them.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgmm.covariance.apart import Shapes, Volumes
from jaxgmm.covariance.kinds import Composed, Kind
from jaxgmm.covariance.low_rank import LowRank
from jaxgmm.covariance.oriented import OwnAxes, SharedAxes
from jaxgmm.covariance.scales import Scales
from jaxgmm.covariance.spiked import waves
from jaxgmm.covariance.structure import Each, Shared, Structure
from jaxgmm.covariance.tril import Tril
from jaxgmm.covariance.unit import Unit, UnitScales, UnitTril
from jaxgmm.ground import linalg
from jaxgmm.ground.programs import program

# Steps after which covariances that are in a family are found in it, from no correlation and equal sizes.
_STEPS = 50
# Multiples of it are far from each other, but for whole numbers.
_GOLDEN = (math.sqrt(5) - 1) / 2


class SharedInPart(Kind):
    """Covariances of components that share something, given as matrices (k, d, d)."""

    shares_in_part = True

    @property
    def diagonal(self) -> bool:
        """Whether columns are independent."""
        return False

    def covariances_shape(self, n_components: int, n_columns: int) -> tuple[int, ...]:
        return (n_components, n_columns, n_columns)

    def from_covariances(self, covariances: Float[Array, "k d d"], n_columns: int) -> Structure:
        return _nearest(self, covariances, Tril.of_covariances(covariances, n_columns))

    def from_roots(self, roots: Float[Array, "k d d"], n_columns: int) -> Structure:
        # Without a factor of their squares, which would not be sound in half the digits.
        return _nearest(self, Tril(roots).dense(), Tril(roots))

    def nearest(self, roots: Float[Array, "k d d"]) -> Structure:
        return self.from_roots(roots, roots.shape[-1])

    def begun(self, covariances: Float[Array, "k d d"]) -> Structure:
        """Where steps begin that lead to these covariances."""
        return self.uncorrelated(jnp.sqrt(jnp.mean(self.variances(covariances), axis=0)), covariances.shape[0])

    def variances(self, covariances: Any) -> Any:
        return covariances.diagonal(axis1=-2, axis2=-1)


@dataclasses.dataclass(frozen=True)
class Parted(SharedInPart):
    """Volume and shape apart."""

    parting: type[Volumes] | type[Shapes]
    shape: type[Unit]

    @property
    def diagonal(self) -> bool:
        return self.shape is UnitScales

    def made(self, structure: Any) -> bool:
        return type(structure) is self.parting and type(structure.shape) is self.shape

    def uncorrelated(self, scale: Float[Array, " d"], n_components: int) -> Volumes | Shapes:
        batch = () if self.parting is Volumes else (n_components,)
        shape, size = self.shape.of_plain(self.shape.uncorrelated(scale, batch))
        size = jnp.broadcast_to(size, (n_components,)) if self.parting is Volumes else size[0]
        return self.parting(size, shape)


@dataclasses.dataclass(frozen=True)
class Turned(SharedInPart):
    """Axes apart from what is along them."""

    turning: type[OwnAxes] | type[SharedAxes]
    along: Composed | Parted

    def made(self, structure: Any) -> bool:
        return type(structure) is self.turning and self.along.made(structure.along)

    def uncorrelated(self, scale: Float[Array, " d"], n_components: int) -> OwnAxes | SharedAxes:
        axes = jnp.eye(scale.size, dtype=scale.dtype)
        if self.turning is OwnAxes:
            axes = jnp.broadcast_to(axes, (n_components, *axes.shape))
        return self.turning(axes, self.along.uncorrelated(scale, n_components))

    def begun(self, covariances: Float[Array, "k d d"]) -> Structure:
        start = super().begun(covariances)
        if self.turning is OwnAxes:
            return start
        # Axes that all have are those of a sum as well, and no two of them extend alike in every sum. Steps from other
        # axes would rest where two covariances are the same, but for which axis is the long one.
        k, d, _ = covariances.shape
        share = 1 + jnp.arange(k, dtype=covariances.dtype) * _GOLDEN % 1
        shares = covariances * share[:, None, None] / jnp.mean(self.variances(covariances), axis=1)[:, None, None]
        axes = linalg.eigh(jax.lax.stop_gradient(jnp.sum(shares, axis=0)))[1]
        even = jnp.broadcast_to(jnp.sqrt(jnp.mean(self.variances(covariances))), (d,))
        return SharedAxes(axes, self.along.uncorrelated(even, k))


@dataclasses.dataclass(frozen=True)
class Thin(Kind):
    """Few factors and noise."""

    rank: int
    noise: Composed

    def made(self, structure: Any) -> bool:
        return type(structure) is LowRank and structure.rank == self.rank and self.noise.made(structure.noise)

    def uncorrelated(self, scale: Float[Array, " d"], n_components: int) -> LowRank:
        """With loadings of columns that are hardly correlated: of 0, no factor would ever be found."""
        if self.rank >= scale.size:
            raise ValueError(
                f"The rank of the covariances is {self.rank}, and there are {scale.size} columns; expected fewer "
                "factors than columns, or 'full'."
            )
        half = scale * math.sqrt(0.5)
        loadings = half[:, None] * jnp.asarray(waves(scale.size, self.rank) / math.sqrt(self.rank), scale.dtype)
        noise = self.noise.uncorrelated(half, n_components)
        return LowRank(jnp.broadcast_to(loadings, (n_components, *loadings.shape)), noise)


@program(static=("kind",))
def _nearest(kind: SharedInPart, covariances: Float[Array, "k d d"], factor: Tril) -> Structure:
    """The nearest to covariances with this factor; NaN where it is not finite."""
    k, d, _ = covariances.shape
    scatter = kind.variances(covariances) if kind.diagonal else covariances
    ones, none, all_of_them = jnp.ones(k, scatter.dtype), jnp.zeros(d, scatter.dtype), jnp.ones(k, bool)

    def step(found: Structure, _: None) -> tuple[Structure, None]:
        return found.maximize(ones, found.gathered(scatter), none, all_of_them)[0], None

    found = jax.lax.scan(step, kind.begun(covariances), None, length=_STEPS)[0]
    sound = jnp.all(jnp.isfinite(factor.scale_tril))
    return jax.tree.map(lambda leaf: jnp.where(sound, leaf, jnp.nan), found)


COMPOSITIONS: dict[str, Kind] = {
    "VEI": Parted(Volumes, UnitScales),
    "EVI": Parted(Shapes, UnitScales),
    "VEE": Parted(Volumes, UnitTril),
    "EVV": Parted(Shapes, UnitTril),
    "EEV": Turned(OwnAxes, Composed(Shared, Scales)),
    "VEV": Turned(OwnAxes, Parted(Volumes, UnitScales)),
    "EVE": Turned(SharedAxes, Parted(Shapes, UnitScales)),
    "VVE": Turned(SharedAxes, Composed(Each, Scales)),
}


def rank_and_noise(structure: Any) -> tuple[int, Any] | None:
    """Of what low rank a structure is, and its structure of the noise; None if it is of none."""
    return (structure.rank, structure.noise) if type(structure) is LowRank else None
