"""How firmly parameters are known, as `BayesianGaussianMixture` counts it: in numbers of rows."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import digamma, gammaln
from jaxtyping import Array, Float

from jaxgmm.ground.pytree import record


@record
class Finite:
    """Dirichlet's distribution of the weights.

    Fields: `amounts` (k,), scikit-learn's `weight_concentration_`; here and below, of numpy outside compiled calls.
    """

    amounts: Any

    @classmethod
    def of(cls, prior: Any, counts: Float[Array, " k"]) -> "Finite":
        """For components of so many rows."""
        return cls(prior + counts)

    @property
    def attribute(self) -> Any:
        """`weight_concentration_`."""
        return self.amounts

    def expected_logs(self) -> Float[Array, " k"]:
        """E[log w_k]."""
        return digamma(self.amounts) - digamma(jnp.sum(self.amounts))

    def log_volume(self) -> Float[Array, ""]:
        """Logarithm of what normalises the density."""
        return jnp.sum(gammaln(self.amounts)) - gammaln(jnp.sum(self.amounts))

    def weights(self) -> Float[Array, " k"]:
        """E[w_k]."""
        return self.amounts / jnp.sum(self.amounts)


@record
class Process:
    """A Dirichlet process's distribution of the weights, cut off after k components, by the breaking of a stick.

    Fields: `taken` and `left` (k,), parameters of the beta distributions of the share that each component takes of what
    those before have left: scikit-learn's `weight_concentration_`.
    """

    taken: Any
    left: Any

    @classmethod
    def of(cls, prior: Any, counts: Float[Array, " k"]) -> "Process":
        """For components of so many rows."""
        after = jnp.cumsum(counts[::-1])[::-1]
        return cls(1 + counts, prior + jnp.append(after[1:], 0))

    @property
    def attribute(self) -> Any:
        """`weight_concentration_`."""
        return self.taken, self.left

    def expected_logs(self) -> Float[Array, " k"]:
        """E[log w_k]."""
        whole = digamma(self.taken + self.left)
        left = jnp.cumsum(digamma(self.left) - whole)
        return digamma(self.taken) - whole + jnp.append(jnp.zeros_like(left[:1]), left[:-1])

    def log_volume(self) -> Float[Array, ""]:
        """Logarithm of what normalises the density."""
        return jnp.sum(gammaln(self.taken) + gammaln(self.left) - gammaln(self.taken + self.left))

    def weights(self) -> Float[Array, " k"]:
        """E[w_k], over their sum: what is left of the stick in the end belongs to nobody."""
        share = self.taken / (self.taken + self.left)
        rest = jnp.cumprod(self.left / (self.taken + self.left))
        weights = share * jnp.append(jnp.ones_like(rest[:1]), rest[:-1])
        return weights / jnp.sum(weights)


CONCENTRATIONS: dict[str, type[Finite] | type[Process]] = {
    "dirichlet_distribution": Finite,
    "dirichlet_process": Process,
}
"""The one table from scikit-learn's `weight_concentration_prior_type` to distributions of the weights."""


def concentration_of(attribute: Any, dtype: Any) -> Finite | Process:
    """From `weight_concentration_`: a pair for a process."""
    if isinstance(attribute, tuple):
        return Process(*(np.asarray(part, dtype) for part in attribute))
    return Finite(np.asarray(attribute, dtype))


@record
class Certainty:
    """What the distributions of the parameters say beside their expectations, which are a mixture.

    Fields: `concentration`, the distribution of the weights; `mean_precision` (k,), of how many rows the means are;
    `degrees` (k,), the degrees of freedom of the precisions.
    """

    concentration: Any
    mean_precision: Any
    degrees: Any

    def log_weights(self, n_columns: int) -> Float[Array, " k"]:
        """Logarithms of weights with which the expected mixture takes responsibility for rows (k,).

        The expected logarithms of the weights, and by how much the expected log-density of a row exceeds that at the
        expected mean and precision.
        """
        halves = (self.degrees[:, None] - jnp.arange(n_columns)) / 2
        spread = jnp.sum(digamma(halves) - jnp.log(self.degrees / 2)[:, None], axis=1)
        return self.concentration.expected_logs() + (spread - n_columns / self.mean_precision) / 2

    def log_volume(self, half_log_dets: Float[Array, " k"], n_columns: int) -> Float[Array, ""]:
        """Logarithm of what normalises the density of all parameters, up to constants that scikit-learn leaves out.

        `half_log_dets` are half the log-determinants of the covariances.
        """
        degrees, d = self.degrees, n_columns
        halves = (degrees[:, None] - jnp.arange(d)) / 2
        wisharts = jnp.sum(gammaln(halves), axis=1) - degrees * (half_log_dets + d / 2 * jnp.log(degrees / 2))
        means = d / 2 * jnp.sum(jnp.log(self.mean_precision))
        return jnp.sum(wisharts) - means + self.concentration.log_volume()
