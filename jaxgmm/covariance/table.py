"""The one table from the public names of covariance structures to what they are made of."""

import dataclasses
from abc import ABC, abstractmethod
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgmm.covariance.apart import Shapes, Volumes
from jaxgmm.covariance.factor import Factor
from jaxgmm.covariance.oriented import OwnAxes, SharedAxes
from jaxgmm.covariance.scale import Scale
from jaxgmm.covariance.scales import Scales
from jaxgmm.covariance.structure import Each, Shared, Structure
from jaxgmm.covariance.tril import Tril
from jaxgmm.covariance.unit import Unit, UnitScales, UnitTril
from jaxgmm.ground.checks import one_of

# Steps after which covariances that are in a family are found in it, from no correlation and equal sizes.
_STEPS = 50


class Kind(ABC):
    """A structure as what it is made of, before there are numbers in it."""

    shares_in_part = False
    """Whether not any covariances in the shape that it takes them are of this kind."""

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

    def made(self, structure: Any) -> bool:
        return type(structure) is self.sharing and type(structure.factor) is self.factor

    def covariances_shape(self, n_components: int, n_columns: int) -> tuple[int, ...]:
        return (*self.sharing.batch(n_components), *self.factor.shape(n_columns))

    def from_covariances(self, covariances: Float[Array, "..."], n_columns: int) -> Each | Shared:
        return self.sharing(self.factor.of_covariances(covariances, n_columns))

    def from_roots(self, roots: Float[Array, "..."], n_columns: int) -> Each | Shared:
        """With these Cholesky factors or standard deviations."""
        return self.sharing(self.factor.of_roots(roots, n_columns))

    def variances(self, covariances: Any) -> Any:
        return self.factor.variances(covariances)

    def uncorrelated(self, scale: Float[Array, " d"], n_components: int) -> Each | Shared:
        return self.sharing(self.factor.uncorrelated(scale, self.sharing.batch(n_components)))


class Restricted(Kind):
    """Covariances of components that share something, given as matrices (k, d, d)."""

    shares_in_part = True
    diagonal: bool
    """Whether columns are independent."""

    def covariances_shape(self, n_components: int, n_columns: int) -> tuple[int, ...]:
        return (n_components, n_columns, n_columns)

    def from_covariances(self, covariances: Float[Array, "k d d"], n_columns: int) -> Structure:
        factor = Tril.of_covariances(covariances, n_columns)
        ones = jnp.ones(covariances.shape[:1], covariances.dtype)
        scatter = self.variances(covariances) if self.diagonal else covariances
        start = self.uncorrelated(jnp.sqrt(jnp.mean(self.variances(covariances), axis=0)), ones.size)
        none, all_of_them = jnp.zeros(n_columns, scatter.dtype), jnp.ones(ones.shape, bool)

        def step(found: Structure, _: None) -> tuple[Structure, None]:
            return found.maximize(ones, found.gathered(scatter), none, all_of_them)[0], None

        found = jax.lax.scan(step, start, None, length=_STEPS)[0]
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
    diagonal = False

    def made(self, structure: Any) -> bool:
        return type(structure) is self.turning and self.along.made(structure.along)

    def uncorrelated(self, scale: Float[Array, " d"], n_components: int) -> OwnAxes | SharedAxes:
        axes = jnp.eye(scale.size, dtype=scale.dtype)
        if self.turning is OwnAxes:
            axes = jnp.broadcast_to(axes, (n_components, *axes.shape))
        return self.turning(axes, self.along.uncorrelated(scale, n_components))


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


def known_as(name: str) -> str:
    """The name of a structure, which may be given by its letters; `ValueError` naming the known ones if there is none."""
    return LETTERS[name] if isinstance(name, str) and name in LETTERS else one_of("covariance", name, STRUCTURES)


def structure_of(name: str) -> Kind:
    """The structure called `name`; `ValueError` naming the known ones if there is none."""
    return STRUCTURES[known_as(name)]


def name_of(structure: Structure | None) -> str | None:
    """The name of a structure; None if it has none, or if there is none."""
    return next((name for name, one in STRUCTURES.items() if one.made(structure)), None)
