"""Pictures of mixtures and of their fits, on matplotlib's Axes (needs the extra `plot`).

A component keeps its colour and marker in all of them. Titles are left to the caller.
"""

from jaxgmm.plot.fits import convergence, criterion, restarts
from jaxgmm.plot.many import multiples, selections
from jaxgmm.plot.maps import anomalies, density, uncertainty
from jaxgmm.plot.panels import histogram, marginals, pairs
from jaxgmm.plot.profile import profiles
from jaxgmm.plot.projections import projection
from jaxgmm.plot.scatter import assignment
from jaxgmm.plot.shapes import ellipses

__all__ = [
    "anomalies",
    "assignment",
    "convergence",
    "criterion",
    "density",
    "ellipses",
    "histogram",
    "marginals",
    "multiples",
    "pairs",
    "profiles",
    "projection",
    "restarts",
    "selections",
    "uncertainty",
]
