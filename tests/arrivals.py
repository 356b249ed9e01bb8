"""A family the library does not know: arrivals in each column at a rate of its own for each component."""

from typing import Self

import jax
import jax.numpy as jnp

from jaxgmm import Family
from jaxgmm.ground.bounds import positive
from jaxgmm.ground.pytree import Leaf, record


@record
class Arrivals(Family):
    support = "counts"

    means: Leaf = positive()

    @property
    def covariances(self):
        return self.means[:, :, None] * jnp.eye(self.means.shape[1], dtype=self.means.dtype)

    @classmethod
    def blank(cls, n_components, center, scale) -> Self:
        return cls(jnp.broadcast_to(center, (n_components, center.size)))

    def log_prob(self, x):
        rates = self.means
        exponents = jnp.matmul(x, jnp.log(rates).T, precision="highest")  # or accelerators round to fewer digits
        return exponents - jnp.sum(rates, axis=1) - jnp.sum(jax.scipy.special.gammaln(x + 1), axis=1)[:, None]

    def statistics(self, x, responsibilities):
        return jnp.matmul(responsibilities.T, x, precision="highest")

    def maximize(self, counts, statistics, alive, floor):
        rates = jnp.maximum(statistics / counts[:, None], floor)  # a rate is a variance
        return type(self)(jnp.where(alive[:, None], rates, self.means)), jnp.zeros(alive.shape, bool)

    def sample(self, key, labels):
        return jax.random.poisson(key, self.means[labels]).astype(self.means.dtype)

    def n_parameters(self, n_components):
        return n_components * self.means.shape[-1]

    def marginal(self, columns) -> Self:
        return type(self)(self.means[:, columns])

    def condition(self, given, kept, values) -> Self:
        return self.marginal(kept)
