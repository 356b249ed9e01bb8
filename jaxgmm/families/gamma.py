"""Gamma components: positive numbers, skew where they are near 0."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.families.columnwise import Columnwise, EntrySums
from jaxgmm.families.family import Views, each_column
from jaxgmm.families.poisson import positive_center
from jaxgmm.families.support import Support
from jaxgmm.ground import special
from jaxgmm.ground.bounds import positive
from jaxgmm.ground.pytree import Leaf, record


@record
class Gamma(Columnwise):
    """Independent positive numbers of gamma distribution, of mean m and variance m^2 / a.

    Fields: `means` (k, d), m, in the units of the data; `shapes` (k, d), a, without units: 1 is exponential, and the
    larger, the nearer to normal.
    """

    means: Leaf = positive()
    shapes: Leaf = positive()

    support: ClassVar[Support] = "positive"

    @classmethod
    def blank(cls, n_components: int, center: Float[Array, " d"], scale: Float[Array, " d"]) -> "Gamma":
        center = positive_center(center, scale)
        means = jnp.broadcast_to(center, (n_components, center.size))
        return cls(means, jnp.broadcast_to((center / scale) ** 2, means.shape))

    @classmethod
    def view(cls, x: Float[Array, "n d"], **options: Any) -> Views:
        # Nearly normal whatever the shape (Wilson & Hilferty, 1931).
        return each_column(jnp.cbrt(jnp.maximum(x, 0)))

    def variances(self) -> Float[Array, "*batch k d"]:
        return self.means**2 / self.shapes

    def log_density(self, x: Float[Array, "d n"]) -> Float[Array, "k d n"]:
        shapes = self.shapes[:, :, None]
        some = jnp.where(x > 0, x, 1)
        lacks = shapes * self._terms(some)[1]
        peak = (special.log_peak(self.shapes) + jnp.log(self.shapes))[:, :, None]
        return jnp.where(x > 0, peak - jnp.log(some) - lacks, -jnp.inf)

    def terms(self, x: Float[Array, "d n"]) -> tuple[Float[Array, "..."], ...]:
        return self._terms(jnp.where(x > 0, x, 1))

    def estimated(
        self, mass: Float[Array, "k _"], sums: tuple[Float[Array, "k d"], ...], floor: Float[Array, " d"]
    ) -> tuple["Gamma", Bool[Array, "k d"]]:
        away, excess = (one / mass for one in sums)
        means = self.means * (1 + away)
        tiny = jnp.finfo(means.dtype).tiny
        shapes = special.shape_of(
            jnp.maximum(excess - special.log_excess(away, 1 + away, jnp.ones_like(away)), jnp.sqrt(tiny))
        )
        most = means**2 / jnp.maximum(floor, tiny)
        return type(self)(means, jnp.minimum(shapes, most)), ~(shapes < most)

    def floored(self, floor: Float[Array, " d"], alive: Bool[Array, " k"]) -> tuple["Gamma", Bool[Array, " k"]]:
        most = self.means**2 / jnp.maximum(floor, jnp.finfo(self.means.dtype).tiny)
        held = alive[:, None] & ~(self.shapes < most)
        return type(self)(self.means, jnp.where(held, most, self.shapes)), jnp.any(held, axis=1)

    def needs_centring(self) -> Bool[Array, ""]:
        return jnp.ones((), bool)

    def recentred(self, counts: Float[Array, " k"], statistics: EntrySums, other: Any) -> EntrySums:
        mass = counts[:, None] if statistics.mass is None else statistics.mass
        (away, excess), ratio = statistics.sums, self.means / other.means
        moved = (mass + away) * ratio - mass
        return EntrySums((moved, moved - (away - excess) - mass * jnp.log(ratio)), statistics.mass)

    def sample(self, key: jax.Array, labels: Int[Array, " n"]) -> Float[Array, "n d"]:
        shapes = self.shapes[labels]
        return jnp.exp(jax.random.loggamma(key, shapes)) / shapes * self.means[labels]

    def information(self, weights: Float[Array, " k"]) -> "Gamma":
        weights, shapes = weights[:, None], self.shapes
        return type(self)(weights * shapes, weights * shapes * (shapes * special.trigamma(shapes) - 1))

    def n_parameters(self, n_components: int) -> int:
        return 2 * n_components * self.n_columns

    def _terms(self, x: Float[Array, "d n"]) -> tuple[Float[Array, "k d n"], ...]:
        """How far from the means, in units of these, and the log-excess of that."""
        means = self.means[:, :, None]
        away = (x - means) / means
        return away, special.log_excess(away, x, means)
