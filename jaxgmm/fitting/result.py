"""What a fit returns, and why it stopped."""

import enum

from jaxtyping import Array, Bool

from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.model.mixture import Mixture


class Status(enum.IntEnum):
    """Why a fit stopped. Integers, so that they travel through `jit` and `vmap`; `Status(int(code))` gives the name."""

    RUNNING = 0
    CONVERGED = 1
    MAX_ITER = 2
    DEGENERATE = 3
    NON_FINITE = 4

    @property
    def text(self) -> str:
        """What the code means and what to do about it, one sentence."""
        return _TEXTS[self]


_TEXTS = {
    Status.RUNNING: "The fit has not finished.",
    Status.CONVERGED: "The last step gained no more than tol per unit weight.",
    Status.MAX_ITER: "max_iter steps were taken and the likelihood still rises: raise max_iter, or tol.",
    Status.DEGENERATE: (
        "A component is held up by the covariance floor or holds less than one row of average weight: try fewer "
        "components, another seed or covariance_type, or a larger regularization; constant columns, columns that "
        "depend on each other and duplicated rows do this too."
    ),
    Status.NON_FINITE: (
        "The likelihood is not finite: look for NaN, inf or extreme values in the data, the weights and the mixture "
        "the fit started from."
    ),
}


@record
class FitResult:
    """A fitted mixture and how the fit went. A pytree; under `vmap` every field gains a leading axis.

    Fields:
        mixture: the last one with a finite likelihood, or the start if there was none.
        log_likelihood: (), total, of this mixture, as `log_likelihood(mixture, x, weights)` gives it.
        n_iter: (), M-steps taken.
        status: (), a code of `Status`.
        history: (h,), total log-likelihood before the first step and after each, NaN past the last; once it is full,
            its last entry is the latest.
        degenerate_components: (k,), those held by the covariance floor or left with less than one row of average
            weight.
    """

    mixture: Mixture
    log_likelihood: Leaf
    n_iter: Leaf
    status: Leaf
    history: Leaf
    degenerate_components: Leaf

    @property
    def converged(self) -> Bool[Array, "*batch"]:
        """Whether the fit ended by its tolerance on a mixture without degenerate components."""
        return self.status == Status.CONVERGED
