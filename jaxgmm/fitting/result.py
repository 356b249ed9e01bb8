"""What a fit returns, and why it stopped."""

import enum
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
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
    STOPPED = 5

    @property
    def text(self) -> str:
        """What the code means and what to do about it, one sentence."""
        return _TEXTS[self]


_TEXTS = {
    Status.RUNNING: "The fit has not finished.",
    Status.CONVERGED: "No more than tol per unit weight is estimated to be still gained, or rounding hides it.",
    Status.MAX_ITER: "max_iter steps were taken and the likelihood still rises: raise max_iter, or tol.",
    Status.DEGENERATE: (
        "A component is held up by the covariance floor or holds less than one row of average weight: try fewer "
        "components, another seed or a form with fewer parameters, and leave out constant columns and those that "
        "others determine. Where many rows are equal, or nearly so, such a component may be what they are."
    ),
    Status.NON_FINITE: (
        "The likelihood is not finite: look for NaN, inf or extreme values in the data, the weights and the mixture "
        "the fit started from."
    ),
    Status.STOPPED: (
        "The fit was stopped before its end, by an interrupt, max_seconds or a callback, and the likelihood may still "
        "rise: go on from its checkpoint, or start from its mixture."
    ),
}


class FitError(RuntimeError):
    """A fit that did not converge on a regular mixture. `result` holds all it returned."""

    def __init__(self, message: str, result: "FitResult") -> None:
        super().__init__(message)
        self.result = result


@record
class FitResult:
    """A fitted mixture and how the fit went. A pytree; under `vmap` every field gains a leading axis.

    Fields:
        mixture: the last one with a finite likelihood, or the start if there was none.
        log_likelihood: (), total, of this mixture, as `log_likelihood(mixture, x, weights)` gives it.
        objective: (), what the fit climbed: the same, unless another objective was given.
        n_iter: (), steps tried: passes over the rows after the one at the start, those included that were not taken.
        status: (), a code of `Status`.
        history: (h,), the objective before the first step and after each, NaN past the last. A step that was not taken
            repeats it. Once it is full, its last entry is the latest.
        degenerate_components: (k,), those held by the covariance floor or left with less than one row of average
            weight.
        remaining: (), log-likelihood per unit weight that more steps would still gain, as estimated where the fit
            ended; inf where that cannot be told. Where rounding ended a fit, it may be above `tol`.
    """

    mixture: Mixture
    log_likelihood: Leaf
    objective: Leaf
    n_iter: Leaf
    status: Leaf
    history: Leaf
    degenerate_components: Leaf
    remaining: Leaf

    def raise_if_failed(self) -> "FitResult":
        """This result, if its status is `CONVERGED`; otherwise raise, for code that must not go on with less.

        For a stack of fits, as `vmap` gives, all must have converged.

        Raises:
            FitError: with the status, what it means, what to try, and which components or fits are concerned.
            TypeError: inside `jit` or `vmap`, where a status is not known yet.

        >>> import jax, jaxgmm
        >>> x = jax.random.normal(jax.random.key(0), (500, 2))
        >>> result = jaxgmm.fit(jaxgmm.init(jax.random.key(1), x, 2, "tied"), x).raise_if_failed()
        """
        if isinstance(self.status, jax.core.Tracer):
            raise TypeError("raise_if_failed needs a status that is known: call it on what jit or vmap returns.")
        codes = np.asarray(self.status)
        if np.all(codes == Status.CONVERGED):
            return self
        raise FitError(_describe(self, codes), self)

    @property
    def converged(self) -> Bool[Array, "*batch"]:
        """Whether the fit ended by its tolerance on a mixture without degenerate components."""
        return self.status == Status.CONVERGED


def _describe(result: FitResult, codes: np.ndarray) -> str:
    if codes.ndim == 0:
        status = Status(int(codes))
        message = f"{status.name} after {int(result.n_iter)} steps. {status.text}"
        if status == Status.DEGENERATE:
            bad = np.flatnonzero(result.degenerate_components).tolist()
            message += f" Components {bad} of {result.mixture.n_components}."
            message += "".join(
                f" Column {place} has the mean {value:g} in all components: is it constant?"
                for place, value in _constant(result)
            )
        return message
    lines = [f"{np.sum(codes != Status.CONVERGED)} of {codes.size} fits did not converge."]
    for status in Status:
        places = np.argwhere(codes == status)
        if len(places) and status != Status.CONVERGED:
            shown = ", ".join("[" + ", ".join(map(str, place)) + "]" for place in places[:5].tolist())
            lines.append(f"{status.name} in {len(places)}: {shown}{', …' if len(places) > 5 else ''}. {status.text}")
    return "\n".join(lines)


def _constant(result: FitResult) -> Iterator[tuple[int, float]]:
    """Columns in which the means of all components, if there are several, are the same, and their value."""
    if result.mixture.components.support != "real":
        return
    means = np.asarray(result.mixture.means, np.float64)[np.asarray(result.mixture.log_weights) > -np.inf]
    if len(means) > 1:
        close = np.ptp(means, axis=0) <= 16 * jnp.finfo(result.mixture.means.dtype).eps * np.abs(means[0])
        yield from ((int(place), float(means[0, place])) for place in np.flatnonzero(close))
