"""What the rows say about a mixture, summed: the one thing that passes from the E-step to the M-step."""

from typing import Any

from jaxgmm.ground import pytree
from jaxgmm.ground.pytree import Leaf, record


@record
class Statistics:
    """Sums over rows, so that statistics of the same mixture on different rows add up with `+`.

    Fields: `counts` (k,), weight of the rows each component is responsible for; `sums`, what the family needs besides,
    for Gaussians the moments about the current means; `log_likelihood` (), total over rows of weight times log-density
    (natural logarithm); `n` (), total weight of the rows.
    """

    counts: Leaf
    sums: Any
    log_likelihood: Leaf
    n: Leaf

    def __add__(self, other: "Statistics") -> "Statistics":
        return pytree.add(self, other)
