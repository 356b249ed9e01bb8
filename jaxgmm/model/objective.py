"""What a fit climbs: a small record, which only adds to what the likelihood is made of."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxgmm.ground import checks
from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.model.mixture import Mixture


@record
class Objective:
    """The log-likelihood of the rows, and what others that a fit can climb may change in it.

    A fit climbs (sum over rows of w log p(row)) + `penalty`. Each step takes the M-step that the statistics of the rows
    and the pseudo-ones lead to, which must not lower that. What is None is not in the program. The type is static and
    its fields are traced, so that other values compile nothing.
    """

    def penalty(self, mixture: Mixture) -> Float[Array, ""] | None:
        """What is added to the log-likelihood, such as the logarithm of a prior."""
        return None

    def pseudo_counts(self, mixture: Mixture) -> Float[Array, " k"] | None:
        """Added to the weight of the rows of each component where its share of the weight is estimated."""
        return None

    def pseudo_sums(self, mixture: Mixture, counts: Float[Array, " k"]) -> Any:
        """Added to the sums over rows from which parameters are estimated: such a tree, about the mixture's means."""
        return None

    def over(self, unit: Float[Array, ""]) -> "Objective":
        """The same over `unit`, of rows whose weights are divided by it."""
        return self

    def checked(self, n_components: int, dtype: Any) -> "Objective":
        """With its numbers in `dtype`; `ValueError` where they are none that k components can have."""
        return self


@record
class Posterior(Objective):
    """The log-likelihood and the logarithm of a prior on the parameters: a fit ends at the posterior's mode (MAP).

    The prior of the weights is Dirichlet, (sum over k of (a_k - 1) log w_k), up to a constant. Its mode given
    responsibilities is w_k = (n_k + a_k - 1) / (n + sum of a - k): as if so many more rows, a_k - 1, were of component
    k, of which nothing else is known. With 1 it is the likelihood. Components that are absent from the start have no
    part in it; others then keep a weight even without rows.

    Fields: `concentration`, a, one number for all components or (k,), not below 1: there may be no mode otherwise.

    Source: Gauvain & Lee (1994), IEEE Trans. Speech Audio Process. 2.

    >>> import jax, jaxgmm
    >>> x = jax.random.normal(jax.random.key(0), (300, 1)).at[:30].add(8.0)
    >>> start = jaxgmm.init(jax.random.key(1), x, 2)
    >>> fits = [jaxgmm.fit(start, x, objective=jaxgmm.Posterior(a)) for a in (1.0, 301.0)]
    >>> [f"{fit.mixture.weights.min():.2f}" for fit in fits]
    ['0.10', '0.37']
    """

    concentration: Leaf

    def penalty(self, mixture: Mixture) -> Float[Array, ""]:
        there = mixture.log_weights > -jnp.inf
        return jnp.sum(jnp.where(there, (self.concentration - 1) * jnp.where(there, mixture.log_weights, 0), 0))

    def pseudo_counts(self, mixture: Mixture) -> Float[Array, " k"]:
        return jnp.where(mixture.log_weights > -jnp.inf, self.concentration - 1, 0)

    def over(self, unit: Float[Array, ""]) -> "Posterior":
        return type(self)(1 + (self.concentration - 1) / unit)

    def checked(self, n_components: int, dtype: Any) -> "Posterior":
        given = checks.real_array("concentration", self.concentration)
        if given.shape not in ((), (n_components,)):
            raise ValueError(
                f"concentration has shape {given.shape}; expected a single number, or ({n_components},), one for each "
                "component."
            )
        if not checks.holds(lambda given: np.all((given >= 1) & (given < np.inf)), given):
            raise ValueError(
                f"concentration is {np.asarray(given).tolist()}; expected numbers not below 1, at which the prior is "
                "flat. Below, the posterior rises without bound as a weight goes to 0, and has no mode."
            )
        return type(self)(given.astype(dtype))


LIKELIHOOD = Objective()


def objective_of(value: Any, n_components: int, dtype: Any) -> Objective:
    """What is to be climbed by a mixture of k components: the likelihood, or an objective, checked."""
    if value is None:
        return LIKELIHOOD
    if not isinstance(value, Objective):
        raise TypeError(
            f"objective is of type {type(value).__name__}; expected None for the likelihood, or an objective such as "
            "jaxgmm.Posterior(concentration=2.0)."
        )
    return value.checked(n_components, dtype)
