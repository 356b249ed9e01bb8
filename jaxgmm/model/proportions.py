"""Priors of the weights of a mixture."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import digamma, gammaln
from jaxtyping import Array, Bool, Float

from jaxgmm.ground import checks, special
from jaxgmm.ground.pytree import record

_NOTHING = -1e30


@record
class Dirichlet:
    """Dirichlet's distribution of the weights, of density in proportion to the product of w_k^(a_k - 1).

    Fields: `concentration`, a, one number for all components or (k,). None: 1 for `Posterior`, which then says nothing
    about the weights; 1 / k for `Variational`, which leaves components without rows that are not needed.
    """

    concentration: Any = None

    def checked(self, n_components: int, dtype: Any) -> "Dirichlet":
        """With its numbers in `dtype`; `ValueError` where they are none that k components can have."""
        if self.concentration is None:
            return self
        given = checks.real_array("concentration", self.concentration)
        if given.shape not in ((), (n_components,)):
            raise ValueError(
                f"concentration has shape {given.shape}; expected a single number, or ({n_components},), one for each "
                "component."
            )
        return type(self)(_positive(given).astype(dtype))

    def for_mode(self) -> "Dirichlet":
        """With numbers of which there is a mode."""
        given = self.concentration
        if given is not None and not checks.holds(lambda given: np.all(given >= 1), given):
            raise ValueError(
                f"concentration is {np.asarray(given).tolist()}; expected numbers not below 1, at which the prior is "
                "flat. Below, the posterior rises without bound as a weight goes to 0, and has no mode; Variational "
                "takes such numbers."
            )
        return self if given is None else type(self)(checks.valid(given, given >= 1))

    def within(self, present: Bool[Array, " k"], dtype: Any, *, flat: bool) -> "Dirichlet":
        """With a default for the components that are `present`."""
        if self.concentration is not None:
            return self
        one = jnp.ones((), dtype)
        return type(self)(one if flat else one / jnp.sum(present))

    def mode(self, counts: Float[Array, " k"], present: Bool[Array, " k"]) -> Float[Array, " k"]:
        """Logarithms of the weights of the highest posterior density, for components of so many rows."""
        more = jnp.where(present, self.concentration - 1, 0)
        return _log_shares(counts + more)

    def log_density(self, log_weights: Float[Array, " k"], present: Bool[Array, " k"]) -> Float[Array, ""]:
        """Up to a constant that depends on the prior alone."""
        return jnp.sum(jnp.where(present, (self.concentration - 1) * jnp.where(present, log_weights, 0), 0))

    def mean(self, counts: Float[Array, " k"], present: Bool[Array, " k"]) -> Float[Array, " k"]:
        """Logarithms of the expected weights, for components of so many rows."""
        return _log_shares(jnp.where(present, counts + self.concentration, 0))

    def counts(
        self, log_weights: Float[Array, " k"], total: Float[Array, ""], present: Bool[Array, " k"]
    ) -> Float[Array, " k"]:
        """How many rows of a `total` the components have of which these are the expected weights."""
        prior = jnp.where(present, self.concentration, 0)
        counts = jnp.exp(log_weights) * (total + jnp.sum(prior)) - prior
        return jnp.maximum(jnp.where(present, counts, 0), 0)

    def expected_logs(self, counts: Float[Array, " k"], present: Bool[Array, " k"]) -> Float[Array, " k"]:
        """E[log w_k], given so many rows of each component; 0 for one that is absent."""
        a = jnp.where(present, counts + self.concentration, 0)
        return jnp.where(present, digamma(jnp.where(present, a, 1)) - digamma(jnp.sum(a)), 0)

    def divergence(self, counts: Float[Array, " k"], present: Bool[Array, " k"]) -> Float[Array, ""]:
        """KL divergence from the posterior, given so many rows of each component, to the prior."""
        prior = jnp.where(present, self.concentration, 0)
        return special.dirichlet_divergence(jnp.where(present, counts + self.concentration, 0), prior)

    def log_orders(self, used: Bool[Array, " k"], present: Bool[Array, " k"]) -> Float[Array, ""]:
        """Logarithm of how many orders of components are the same to the prior and not to the rows.

        Components that are not `used` are the same to the rows as well.
        """
        all_of, idle = jnp.sum(present), jnp.sum(present & ~used)
        orders = gammaln(1.0 + all_of) - gammaln(1.0 + idle)
        alike = jnp.all(self.concentration == jnp.ravel(self.concentration)[0])
        return jnp.where(alike, orders, 0).astype(jnp.result_type(self.concentration))

    def marginals(
        self, counts: Float[Array, " k"], present: Bool[Array, " k"]
    ) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
        """Parameters of the beta distribution of each weight."""
        a = jnp.where(present, counts + self.concentration, 0)
        return a, jnp.sum(a) - a


@record
class StickBreaking:
    """The weights of a Dirichlet process: component k takes a share v_k of what those before have left of a stick.

    v_k has the density gamma (1 - v_k)^(gamma - 1): the first components take most, the more so the smaller gamma is,
    and a fit says how many of k are needed. What the k components leave of the stick has no rows.

    Fields: `concentration`, gamma, one positive number; by default 1 / k.

    Sources: Blei & Jordan (2006), Bayesian Anal. 1; Kurihara, Welling & Teh (2007), IJCAI 20.
    """

    concentration: Any = None

    def checked(self, n_components: int, dtype: Any) -> "StickBreaking":
        """With its number in `dtype`."""
        if self.concentration is None:
            return self
        given = checks.real_array("concentration", self.concentration)
        if given.shape:
            raise ValueError(f"concentration has shape {given.shape}; expected a single number of a stick.")
        return type(self)(_positive(given).astype(dtype))

    def for_mode(self) -> "StickBreaking":
        """None: the density rises without bound as a part of the stick goes to 0."""
        raise TypeError(
            "prior.weights is a StickBreaking, whose posterior has no mode that could be climbed to. Take a Dirichlet, "
            "or Variational as the objective."
        )

    def within(self, present: Bool[Array, " k"], dtype: Any, *, flat: bool) -> "StickBreaking":
        """With a default for the components that are `present`."""
        if self.concentration is not None:
            return self
        return type(self)(jnp.ones((), dtype) / jnp.sum(present))

    def mean(self, counts: Float[Array, " k"], present: Bool[Array, " k"]) -> Float[Array, " k"]:
        """Logarithms of the expected weights, for components of so many rows; the last one has all that is left."""
        a, b = self._shares(counts, present)
        last = _last(present)
        taken = jnp.where(last, 0, jnp.log(a) - jnp.log(a + b))
        left = jnp.where(present & ~last, jnp.log(b) - jnp.log(a + b), 0)
        return jnp.where(present, taken + jnp.cumsum(left) - left, -jnp.inf)

    def counts(
        self, log_weights: Float[Array, " k"], total: Float[Array, ""], present: Bool[Array, " k"]
    ) -> Float[Array, " k"]:
        """How many rows of a `total` the components have of which these are the expected weights.

        With R_k what is left of the stick before component k, and S_k = gamma + (rows of it and those after), expected
        shares are w_k / R_k = (1 + n_k) / (1 + S_k), and so S_k / R_k grows by 1 / R_k from one to the next. That is a
        sum of positive terms, however many rows there are.
        """
        # Nothing, but with a derivative.
        log_weights = jnp.where(present, log_weights, _NOTHING)
        log_left = jax.lax.cumlogsumexp(log_weights[::-1])[::-1]
        grows = jnp.where(present, -log_left, _NOTHING)
        start = jnp.log(self.concentration + total)
        growth = jax.lax.cumlogsumexp(jnp.concatenate([start[None], grows[:-1]]))
        after = jnp.exp(jnp.where(present, log_left + growth, 0))
        share = jnp.exp(jnp.where(present, log_weights - log_left, 0))
        counts = jnp.where(_last(present), after - self.concentration, share * (1 + after) - 1)
        return jnp.maximum(jnp.where(present, counts, 0), 0)

    def expected_logs(self, counts: Float[Array, " k"], present: Bool[Array, " k"]) -> Float[Array, " k"]:
        """E[log w_k], given so many rows of each component; 0 for one that is absent."""
        a, b = self._shares(counts, present)
        left = jnp.where(present, digamma(b) - digamma(a + b), 0)
        return jnp.where(present, digamma(a) - digamma(a + b) + jnp.cumsum(left) - left, 0)

    def divergence(self, counts: Float[Array, " k"], present: Bool[Array, " k"]) -> Float[Array, ""]:
        """KL divergence from the posterior, given so many rows of each component, to the prior."""
        a, b = self._shares(counts, present)
        prior = jnp.broadcast_to(jnp.stack([jnp.ones_like(self.concentration), self.concentration]), (counts.size, 2))
        each = special.dirichlet_divergence(jnp.stack([a, b], axis=-1), prior)
        return jnp.sum(jnp.where(present, each, 0))

    def log_orders(self, used: Bool[Array, " k"], present: Bool[Array, " k"]) -> Float[Array, ""]:
        """0: the first components are those that take most of the stick."""
        return jnp.zeros_like(self.concentration)

    def marginals(
        self, counts: Float[Array, " k"], present: Bool[Array, " k"]
    ) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
        """Parameters of beta distributions with the mean and the variance of each weight.

        The last component has what is left of the stick. A single weight is 1: its second parameter is 0.
        """
        a, b = self._shares(counts, present)
        total = a + b
        squares = jnp.where(present, b * (b + 1) / (total * (total + 1)), 1)
        rest = jnp.where(present, b / total, 1)
        last = _last(present)
        mean = jnp.where(last, 1, a / total) * jnp.cumprod(rest) / rest
        second = jnp.where(last, 1, a * (a + 1) / (total * (total + 1))) * jnp.cumprod(squares) / squares
        certain = last & (jnp.sum(present) == 1)
        size = jnp.where(certain, 1, (mean - second) / jnp.where(certain, 1, second - mean**2))
        return jnp.where(present, mean * size, 0), jnp.where(present & ~certain, (1 - mean) * size, 0)

    def _shares(
        self, counts: Float[Array, " k"], present: Bool[Array, " k"]
    ) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
        """Parameters of the beta distribution of each share of what is left of the stick."""
        counts = jnp.where(present, counts, 0)
        after = jnp.cumsum(counts[::-1])[::-1]
        rest = jnp.concatenate([after[1:], jnp.zeros_like(after[:1])])
        return 1 + counts, self.concentration + rest


def _positive(given: Array) -> Array:
    if not checks.holds(lambda given: np.all((given > 0) & (given < np.inf)), given):
        raise ValueError(f"concentration is {np.asarray(given).tolist()}; expected positive numbers.")
    return checks.valid(given, (given > 0) & (given < jnp.inf))


def _log_shares(amounts: Float[Array, " k"]) -> Float[Array, " k"]:
    some = amounts > 0
    log_total = jnp.log(jnp.sum(amounts))
    return jnp.where(some, jnp.log(jnp.where(some, amounts, 1)) - log_total, -jnp.inf)


def _last(present: Bool[Array, " k"]) -> Bool[Array, " k"]:
    """Where the last of the components that are there is."""
    return present & (jnp.cumsum(present[::-1])[::-1] == 1)
