"""jaxgmm: differentiable mixture models on JAX."""

from jaxgmm.covariance.diagonal import Diagonal
from jaxgmm.covariance.full import Full
from jaxgmm.covariance.spherical import Spherical
from jaxgmm.covariance.tied import Tied
from jaxgmm.families.family import Family
from jaxgmm.families.gaussian import Gaussian
from jaxgmm.fitting.em import fit
from jaxgmm.fitting.result import FitError, FitResult, Status
from jaxgmm.model.init import from_responsibilities, init
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.parameters import from_parameters
from jaxgmm.model.statistics import Statistics
from jaxgmm.model.steps import e_step, log_likelihood, m_step
from jaxgmm.selection.criteria import aic, aicc, bic, icl

__version__ = "0.1.0"

__all__ = [
    "Diagonal",
    "Family",
    "FitError",
    "FitResult",
    "Full",
    "Gaussian",
    "Mixture",
    "Spherical",
    "Statistics",
    "Status",
    "Tied",
    "aic",
    "aicc",
    "bic",
    "e_step",
    "fit",
    "from_parameters",
    "from_responsibilities",
    "icl",
    "init",
    "log_likelihood",
    "m_step",
]
