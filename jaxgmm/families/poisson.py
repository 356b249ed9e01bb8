"""Poisson components: counts of what happens at a constant rate."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.families.columnwise import Columnwise
from jaxgmm.families.family import Views, each_column
from jaxgmm.families.support import Support
from jaxgmm.ground import special
from jaxgmm.ground.bounds import positive
from jaxgmm.ground.pytree import Leaf, record

# The largest of the least rates, in counts.
_LEAST = 1e-6


@record
class Poisson(Columnwise):
    """Independent counts: x! p(x) = m^x exp(-m).

    Fields: `means` (k, d), positive, which are the variances as well. A fit keeps them at a millionth or above.
    """

    means: Leaf = positive()

    support: ClassVar[Support] = "counts"
    discrete: ClassVar[bool] = True

    @classmethod
    def blank(cls, n_components: int, center: Float[Array, " d"], scale: Float[Array, " d"]) -> "Poisson":
        return cls(jnp.broadcast_to(positive_center(center, scale), (n_components, center.size)))

    @classmethod
    def view(cls, x: Float[Array, "n d"], **options: Any) -> Views:
        # Of roots the variance is about the same, whatever the rate.
        return each_column(jnp.sqrt(jnp.maximum(x, 0) + 3 / 8))

    @property
    def centers(self) -> Float[Array, "*batch k d"]:
        return jnp.round(self.means)

    def variances(self) -> Float[Array, "*batch k d"]:
        return self.means

    def log_density(self, x: Float[Array, "d n"]) -> Float[Array, "k d n"]:
        # What the largest lacks, so that large counts keep their digits.
        some, means = jnp.maximum(x, 1), self.means[:, :, None]
        lacks = jnp.where(x > 0, some * special.log_excess((means - some) / some, means, some), means)
        return jnp.where(whole(x), special.log_peak(x) - lacks, -jnp.inf)

    def terms(self, x: Float[Array, "d n"]) -> tuple[Float[Array, "d n"]]:
        return (x,)

    def estimated(
        self, mass: Float[Array, "k _"], sums: tuple[Float[Array, "k d"], ...], floor: Float[Array, " d"]
    ) -> tuple["Poisson", Bool[Array, "k d"]]:
        means = least(sums[0] / mass, floor)
        return type(self)(means), jnp.zeros(means.shape, bool)

    def floored(self, floor: Float[Array, " d"], alive: Bool[Array, " k"]) -> tuple["Poisson", Bool[Array, " k"]]:
        return type(self)(least(self.means, floor)), jnp.zeros(alive.shape, bool)

    def pseudo_terms(self, mean: Float[Array, " d"]) -> tuple[Float[Array, " d"]]:
        return (mean,)

    def log_density_of_terms(self, terms: tuple[Float[Array, " d"], ...]) -> Float[Array, "k d"]:
        return terms[0] * jnp.log(self.means) - self.means

    def sample(self, key: jax.Array, labels: Int[Array, " n"]) -> Float[Array, "n d"]:
        return jax.random.poisson(key, self.means[labels]).astype(self.means.dtype)

    def information(self, weights: Float[Array, " k"]) -> "Poisson":
        return type(self)(weights[:, None] * self.means)

    def n_parameters(self, n_components: int) -> int:
        return n_components * self.n_columns


def whole(x: Float[Array, "..."]) -> Bool[Array, "..."]:
    """Which numbers are counts."""
    return (x >= 0) & (x == jnp.floor(x))


def positive_center(center: Float[Array, " d"], scale: Float[Array, " d"]) -> Float[Array, " d"]:
    """The center of columns of positive numbers, which may have been drawn to a side where there are none."""
    return jnp.maximum(center, 0.1 * scale)


def least(means: Float[Array, "k d"], floor: Float[Array, " d"]) -> Float[Array, "k d"]:
    """Rates that are positive: not below a millionth, or a floor that is less."""
    return jnp.maximum(means, jnp.clip(floor, jnp.finfo(means.dtype).tiny, _LEAST))
