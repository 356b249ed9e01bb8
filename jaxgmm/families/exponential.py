"""Exponential components: waiting times for what happens at a constant rate."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.families.columnwise import Columnwise
from jaxgmm.families.family import Views, each_column
from jaxgmm.families.poisson import positive_center
from jaxgmm.families.support import Support
from jaxgmm.ground.bounds import positive
from jaxgmm.ground.pytree import Leaf, record


@record
class Exponential(Columnwise):
    """Independent numbers of exponential distribution: m p(x) = exp(-x / m) of x >= 0.

    Fields: `means` (k, d), in the units of the data, which are the standard deviations as well.
    """

    means: Leaf = positive()

    support: ClassVar[Support] = "nonnegative"

    @classmethod
    def blank(cls, n_components: int, center: Float[Array, " d"], scale: Float[Array, " d"]) -> "Exponential":
        return cls(jnp.broadcast_to(positive_center(center, scale), (n_components, center.size)))

    @classmethod
    def view(cls, x: Float[Array, "n d"], **options: Any) -> Views:
        # Of fourth roots the distribution is nearly normal, and of the same width at each rate but for a factor.
        return each_column(jnp.sqrt(jnp.sqrt(jnp.maximum(x, 0))))

    def variances(self) -> Float[Array, "*batch k d"]:
        return self.means**2

    def log_density(self, x: Float[Array, "d n"]) -> Float[Array, "k d n"]:
        means = self.means[:, :, None]
        return jnp.where(x >= 0, -jnp.log(means) - x / means, -jnp.inf)

    def terms(self, x: Float[Array, "d n"]) -> tuple[Float[Array, "d n"]]:
        return (x,)

    def estimated(
        self, mass: Float[Array, "k _"], sums: tuple[Float[Array, "k d"], ...], floor: Float[Array, " d"]
    ) -> tuple["Exponential", Bool[Array, "k d"]]:
        means, lowest = sums[0] / mass, jnp.sqrt(floor)
        return type(self)(jnp.maximum(means, lowest)), ~(means > lowest)

    def floored(self, floor: Float[Array, " d"], alive: Bool[Array, " k"]) -> tuple["Exponential", Bool[Array, " k"]]:
        held = alive[:, None] & ~(self.means > jnp.sqrt(floor))
        return type(self)(jnp.where(held, jnp.sqrt(floor), self.means)), jnp.any(held, axis=1)

    def pseudo_terms(self, mean: Float[Array, " d"]) -> tuple[Float[Array, " d"]]:
        return (mean,)

    def log_density_of_terms(self, terms: tuple[Float[Array, " d"], ...]) -> Float[Array, "k d"]:
        return -jnp.log(self.means) - terms[0] / self.means

    def sample(self, key: jax.Array, labels: Int[Array, " n"]) -> Float[Array, "n d"]:
        means = self.means[labels]
        return means * jax.random.exponential(key, means.shape, means.dtype)

    def information(self, weights: Float[Array, " k"]) -> "Exponential":
        return type(self)(jnp.broadcast_to(weights[:, None], self.means.shape))

    def n_parameters(self, n_components: int) -> int:
        return n_components * self.n_columns
