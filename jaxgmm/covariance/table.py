"""The one table from the public names of covariance structures to their types."""

from jaxgmm.covariance.diagonal import Diagonal
from jaxgmm.covariance.full import Full
from jaxgmm.covariance.spherical import Spherical
from jaxgmm.covariance.structure import Structure
from jaxgmm.covariance.tied import Tied
from jaxgmm.ground.checks import one_of

STRUCTURES: dict[str, type[Structure]] = {"full": Full, "tied": Tied, "diag": Diagonal, "spherical": Spherical}


def structure_of(covariance_type: str) -> type[Structure]:
    """The structure called `covariance_type`; `ValueError` naming the known ones if there is none."""
    return STRUCTURES[one_of("covariance_type", covariance_type, STRUCTURES)]
