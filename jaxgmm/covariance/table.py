"""The one table from the public names of covariance structures to what they are made of."""

import dataclasses
import math
import re
from abc import ABC, abstractmethod
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgmm.covariance.apart import Shapes, Volumes
from jaxgmm.covariance.factor import Factor
from jaxgmm.covariance.low_rank import LowRank
from jaxgmm.covariance.oriented import OwnAxes, SharedAxes
from jaxgmm.covariance.scale import Scale
from jaxgmm.covariance.scales import Scales
from jaxgmm.covariance.spiked import waves
from jaxgmm.covariance.structure import Each, Shared, Structure
from jaxgmm.covariance.tril import Tril
from jaxgmm.covariance.unit import Unit, UnitScales, UnitTril
from jaxgmm.ground import linalg
from jaxgmm.ground.checks import one_of

# Steps after which covariances that are in a family are found in it, from no correlation and equal sizes.
_STEPS = 50
# Multiples of it are far from each other, but for whole numbers.
_GOLDEN = (math.sqrt(5) - 1) / 2


class Kind(ABC):
    """A structure as what it is made of, before there are numbers in it."""

    shares_in_part = False
    """Whether not any covariances in the shape that it takes them are of this kind."""

    @property
    def shared(self) -> bool:
        """Whether all components have one covariance."""
        return False

    @abstractmethod
    def made(self, structure: Any) -> bool:
        """Whether a structure is of this kind."""

    @abstractmethod
    def covariances_shape(self, n_components: int, n_columns: int) -> tuple[int, ...]:
        """Shape in which `from_covariances` takes the covariances of all components."""

    @abstractmethod
    def from_covariances(self, covariances: Float[Array, "..."], n_columns: int) -> Structure:
        """With these covariances, or the nearest that there are; NaN where they are not positive definite."""

    @abstractmethod
    def from_roots(self, roots: Float[Array, "..."], n_columns: int) -> Structure:
        """With these Cholesky factors or standard deviations, in the shape of the covariances, or the nearest."""

    @abstractmethod
    def nearest(self, roots: Float[Array, "k d d"]) -> Structure:
        """The nearest to covariances of components with these Cholesky factors, whatever shape it has its own in."""

    @abstractmethod
    def variances(self, covariances: Any) -> Any:
        """Variances (..., d), or (..., 1), of covariances in that shape."""

    @abstractmethod
    def uncorrelated(self, scale: Float[Array, " d"], n_components: int) -> Structure:
        """Every component with standard deviations `scale` and no correlation."""


@dataclasses.dataclass(frozen=True)
class Composed(Kind):
    """A factor and how it is shared."""

    sharing: type[Each] | type[Shared]
    factor: type[Factor]

    @property
    def shared(self) -> bool:
        return self.sharing is Shared

    def made(self, structure: Any) -> bool:
        return type(structure) is self.sharing and type(structure.factor) is self.factor

    def covariances_shape(self, n_components: int, n_columns: int) -> tuple[int, ...]:
        return (*self.sharing.batch(n_components), *self.factor.shape(n_columns))

    def from_covariances(self, covariances: Float[Array, "..."], n_columns: int) -> Each | Shared:
        return self.sharing(self.factor.of_covariances(covariances, n_columns))

    def from_roots(self, roots: Float[Array, "..."], n_columns: int) -> Each | Shared:
        return self.sharing(self.factor.of_roots(roots, n_columns))

    def nearest(self, roots: Float[Array, "k d d"]) -> Structure:
        (k, d, _), dtype = roots.shape, roots.dtype
        start = self.uncorrelated(jnp.ones(d, dtype), k)
        # As d rows of each component would have it.
        scatter = start.scatter(jnp.swapaxes(roots, 1, 2), jnp.ones((d, k), dtype))
        return start.maximize(jnp.ones(k, dtype), scatter, jnp.zeros(d, dtype), jnp.ones(k, bool))[0]

    def variances(self, covariances: Any) -> Any:
        return self.factor.variances(covariances)

    def uncorrelated(self, scale: Float[Array, " d"], n_components: int) -> Each | Shared:
        return self.sharing(self.factor.uncorrelated(scale, self.sharing.batch(n_components)))


class Restricted(Kind):
    """Covariances of components that share something, given as matrices (k, d, d)."""

    shares_in_part = True

    @property
    def diagonal(self) -> bool:
        """Whether columns are independent."""
        return False

    def covariances_shape(self, n_components: int, n_columns: int) -> tuple[int, ...]:
        return (n_components, n_columns, n_columns)

    def from_covariances(self, covariances: Float[Array, "k d d"], n_columns: int) -> Structure:
        return self._found(covariances, Tril.of_covariances(covariances, n_columns))

    def from_roots(self, roots: Float[Array, "k d d"], n_columns: int) -> Structure:
        # Without a factor of their squares, which would not be sound in half the digits.
        return self._found(Tril(roots).dense(), Tril(roots))

    def nearest(self, roots: Float[Array, "k d d"]) -> Structure:
        return self.from_roots(roots, roots.shape[-1])

    def begun(self, covariances: Float[Array, "k d d"]) -> Structure:
        """Where steps begin that lead to these covariances."""
        return self.uncorrelated(jnp.sqrt(jnp.mean(self.variances(covariances), axis=0)), covariances.shape[0])

    def _found(self, covariances: Float[Array, "k d d"], factor: Tril) -> Structure:
        """The nearest to covariances with this factor; NaN where it is not finite."""
        k, d, _ = covariances.shape
        scatter = self.variances(covariances) if self.diagonal else covariances
        ones, none, all_of_them = jnp.ones(k, scatter.dtype), jnp.zeros(d, scatter.dtype), jnp.ones(k, bool)

        def step(found: Structure, _: None) -> tuple[Structure, None]:
            return found.maximize(ones, found.gathered(scatter), none, all_of_them)[0], None

        found = jax.lax.scan(step, self.begun(covariances), None, length=_STEPS)[0]
        sound = jnp.all(jnp.isfinite(factor.scale_tril))
        return jax.tree.map(lambda leaf: jnp.where(sound, leaf, jnp.nan), found)

    def variances(self, covariances: Any) -> Any:
        return covariances.diagonal(axis1=-2, axis2=-1)


@dataclasses.dataclass(frozen=True)
class Parted(Restricted):
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
class Turned(Restricted):
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

    def covariances_shape(self, n_components: int, n_columns: int) -> tuple[int, ...]:
        raise NotImplementedError(
            "Covariances of low rank are told by their parts: make jaxgmm.Mixture(log_weights, jaxgmm.Gaussian(means, "
            "jaxgmm.LowRank(loadings, noise)))."
        )

    def from_covariances(self, covariances: Float[Array, "..."], n_columns: int) -> LowRank:
        raise NotImplementedError("Covariances of low rank are told by their parts.")

    def from_roots(self, roots: Float[Array, "..."], n_columns: int) -> LowRank:
        return self.from_covariances(roots, n_columns)

    def nearest(self, roots: Float[Array, "k d d"]) -> LowRank:
        return self.from_covariances(roots, roots.shape[-1])

    def variances(self, covariances: Any) -> Any:
        return covariances.diagonal(axis1=-2, axis2=-1)

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


STRUCTURES: dict[str, Kind] = {
    "full": Composed(Each, Tril),
    "tied": Composed(Shared, Tril),
    "diag": Composed(Each, Scales),
    "tied-diag": Composed(Shared, Scales),
    "spherical": Composed(Each, Scale),
    "tied-spherical": Composed(Shared, Scale),
    "VEI": Parted(Volumes, UnitScales),
    "EVI": Parted(Shapes, UnitScales),
    "VEE": Parted(Volumes, UnitTril),
    "EVV": Parted(Shapes, UnitTril),
    "EEV": Turned(OwnAxes, Composed(Shared, Scales)),
    "VEV": Turned(OwnAxes, Parted(Volumes, UnitScales)),
    "EVE": Turned(SharedAxes, Parted(Shapes, UnitScales)),
    "VVE": Turned(SharedAxes, Composed(Each, Scales)),
}
LETTERS = {
    "EII": "tied-spherical",
    "VII": "spherical",
    "EEI": "tied-diag",
    "VEI": "VEI",
    "EVI": "EVI",
    "VVI": "diag",
    "EEE": "tied",
    "VEE": "VEE",
    "EVE": "EVE",
    "VVE": "VVE",
    "EEV": "EEV",
    "VEV": "VEV",
    "EVV": "EVV",
    "VVV": "full",
}
"""The fourteen models of volume, shape and orientation, each equal (E), varying (V) or none (I), by their names here.

Source: Celeux & Govaert (1995), Pattern Recognit. 28; Banfield & Raftery (1993), Biometrics 49, for the letters.
"""


_LOW_RANK = re.compile(r"lowrank-([1-9]\d{0,5})(?:-(tied-diag|spherical|tied-spherical))?")
KNOWN = (*STRUCTURES, "lowrank-1", "lowrank-2-spherical")
"""Names of structures, of low rank two that stand for all of them."""


def known_as(name: Any, what: str = "covariance") -> str:
    """The name of a structure that may be given by its letters; `ValueError` naming the known ones if there is none."""
    if isinstance(name, str) and name in LETTERS:
        return LETTERS[name]
    if isinstance(name, str) and _LOW_RANK.fullmatch(name):
        return name
    return one_of(what, name, KNOWN)


def structure_of(name: str) -> Kind:
    """The structure called `name`; `ValueError` naming the known ones if there is none."""
    name = known_as(name)
    if found := _LOW_RANK.fullmatch(name):
        noise = STRUCTURES[found[2] or "diag"]
        assert isinstance(noise, Composed)
        return Thin(int(found[1]), noise)
    return STRUCTURES[name]


def name_of(structure: Structure | None) -> str | None:
    """The name of a structure; None if it has none, or if there is none."""
    if type(structure) is LowRank:
        noise = name_of(structure.noise)
        return f"lowrank-{structure.rank}" + ("" if noise == "diag" else f"-{noise}")
    return next((name for name, one in STRUCTURES.items() if one.made(structure)), None)
