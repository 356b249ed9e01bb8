"""The one table from public names of families to their types: those that a saved mixture may name."""

from jaxgmm.families.family import Family
from jaxgmm.families.gaussian import Gaussian

FAMILIES: dict[str, type[Family]] = {"Gaussian": Gaussian}
