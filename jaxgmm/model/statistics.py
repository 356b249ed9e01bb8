"""What the rows say about a mixture, summed: the one thing that passes from the E-step to the M-step."""

import dataclasses
from typing import TYPE_CHECKING, Any

from jaxgmm.ground import pytree
from jaxgmm.ground.pytree import Leaf, record

if TYPE_CHECKING:
    from jaxgmm.model.mixture import Mixture


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

    def recentred(self, mixture: "Mixture", other: "Mixture") -> "Statistics":
        """What `mixture` took, as statistics about the means of `other`, so that they add up with those that it takes.

        Counts and log-likelihood stay what they were, those of `mixture`, and so do the weights that rows of Student-t
        components have in the moments: rows are not looked at again.

        Args:
            mixture: the one that was passed to `e_step`.
            other: k components of the same type.

        >>> import jax, jaxgmm
        >>> x = jax.random.normal(jax.random.key(0), (100, 2))
        >>> first = jaxgmm.init(jax.random.key(1), x, 3)
        >>> early = jaxgmm.e_step(first, x[:50])
        >>> second = jaxgmm.m_step(first, early, jaxgmm.scale_of(x))
        >>> both = early.recentred(first, second) + jaxgmm.e_step(second, x[50:])
        >>> float(both.n)
        100.0
        """
        sums = mixture.components.recentred(self.counts, self.sums, other.components)
        return dataclasses.replace(self, sums=sums)
