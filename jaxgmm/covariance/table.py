"""The one table from the public names of covariance structures to what they are made of."""

import dataclasses

from jaxtyping import Array, Float

from jaxgmm.covariance.factor import Factor
from jaxgmm.covariance.scale import Scale
from jaxgmm.covariance.scales import Scales
from jaxgmm.covariance.structure import Each, Shared, Structure
from jaxgmm.covariance.tril import Tril
from jaxgmm.ground.checks import one_of


@dataclasses.dataclass(frozen=True)
class Composed:
    """A structure as a factor and how it is shared, before there are numbers in it."""

    sharing: type[Each] | type[Shared]
    factor: type[Factor]

    def covariances_shape(self, n_components: int, n_columns: int) -> tuple[int, ...]:
        """Shape in which `from_covariances` takes the covariances of all components."""
        return (*self.sharing.batch(n_components), *self.factor.shape(n_columns))

    def from_covariances(self, covariances: Float[Array, "..."], n_columns: int) -> Each | Shared:
        """With these covariances; NaN where they are not positive definite."""
        return self.sharing(self.factor.of_covariances(covariances, n_columns))

    def from_roots(self, roots: Float[Array, "..."], n_columns: int) -> Each | Shared:
        """With these Cholesky factors or standard deviations."""
        return self.sharing(self.factor.of_roots(roots, n_columns))

    def uncorrelated(self, scale: Float[Array, " d"], n_components: int) -> Each | Shared:
        """Every component with standard deviations `scale` and no correlation."""
        return self.sharing(self.factor.uncorrelated(scale, self.sharing.batch(n_components)))


STRUCTURES: dict[str, Composed] = {
    "full": Composed(Each, Tril),
    "tied": Composed(Shared, Tril),
    "diag": Composed(Each, Scales),
    "tied-diag": Composed(Shared, Scales),
    "spherical": Composed(Each, Scale),
    "tied-spherical": Composed(Shared, Scale),
}


def structure_of(name: str) -> Composed:
    """The structure called `name`; `ValueError` naming the known ones if there is none."""
    return STRUCTURES[one_of("covariance", name, STRUCTURES)]


def name_of(structure: Structure | None) -> str | None:
    """The name of a structure; None if it has none, or if there is none."""
    made_of = type(structure), type(getattr(structure, "factor", None))
    return next((name for name, one in STRUCTURES.items() if (one.sharing, one.factor) == made_of), None)
