"""Bernoulli components: answers of yes and no."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.families.columnwise import Columnwise
from jaxgmm.families.support import Support
from jaxgmm.ground.pytree import Leaf, record

# The largest of the least probabilities and rates.
SMALL = 1e-6
# What share of rows clusters leave to others at the start.
BLUR = 0.5


@record
class Bernoulli(Columnwise):
    """Independent entries that are 1 with some probability, and else 0.

    Fields: `logits` (k, d), log(p / (1 - p)), so that probabilities near 1 keep their digits as those near 0 do.

    A fit keeps both probabilities of every column at the floor or above it, so that no row is impossible for what no
    row of a component has shown so far.
    """

    logits: Leaf

    support: ClassVar[Support] = "binary"
    discrete: ClassVar[bool] = True

    @classmethod
    def blank(cls, n_components: int, center: Float[Array, " d"], scale: Float[Array, " d"]) -> "Bernoulli":
        share = jnp.clip(center, 0.1, 0.9)
        return cls(jnp.broadcast_to(jnp.log(share / (1 - share)), (n_components, center.size)))

    @property
    def means(self) -> Float[Array, "*batch k d"]:
        """Probability of 1 (k, d)."""
        return jax.nn.sigmoid(self.logits)

    @property
    def centers(self) -> Float[Array, "*batch k d"]:
        return jnp.where(self.logits > 0, 1, 0).astype(self.logits.dtype)

    def variances(self) -> Float[Array, "*batch k d"]:
        return jax.nn.sigmoid(self.logits) * jax.nn.sigmoid(-self.logits)

    def log_density(self, x: Float[Array, "d n"]) -> Float[Array, "k d n"]:
        logits = self.logits[:, :, None]
        yes, no = -jax.nn.softplus(-logits), -jax.nn.softplus(logits)
        return jnp.where(x == 1, yes, jnp.where(x == 0, no, -jnp.inf))

    def terms(self, x: Float[Array, "d n"]) -> tuple[Float[Array, "d n"], ...]:
        return x, 1 - x

    def estimated(
        self, mass: Float[Array, "k _"], sums: tuple[Float[Array, "k d"], ...], floor: Float[Array, " d"]
    ) -> tuple["Bernoulli", Bool[Array, "k d"]]:
        least = least_share(floor, 2)
        yes, no = (jnp.clip(one / mass, least, 1 - least) for one in sums)
        return type(self)(jnp.log(yes) - jnp.log(no)), jnp.zeros(yes.shape, bool)

    def floored(self, floor: Float[Array, " d"], alive: Bool[Array, " k"]) -> tuple["Bernoulli", Bool[Array, " k"]]:
        least = least_share(floor, 2)
        most = jnp.log1p(-least) - jnp.log(least)
        return type(self)(jnp.clip(self.logits, -most, most)), jnp.zeros(alive.shape, bool)

    @classmethod
    def blur(cls, **options: Any) -> float:
        # A probability at the floor takes many steps to leave it.
        return BLUR

    def pseudo_terms(self, mean: Float[Array, " d"]) -> tuple[Float[Array, " d"], ...]:
        half = jnp.full_like(mean, 0.5)
        return half, half

    def log_density_of_terms(self, terms: tuple[Float[Array, " d"], ...]) -> Float[Array, "k d"]:
        return -terms[0] * jax.nn.softplus(-self.logits) - terms[1] * jax.nn.softplus(self.logits)

    def sample(self, key: jax.Array, labels: Int[Array, " n"]) -> Float[Array, "n d"]:
        means = self.means[labels]
        return jax.random.bernoulli(key, means).astype(means.dtype)

    def information(self, weights: Float[Array, " k"]) -> "Bernoulli":
        return type(self)(weights[:, None] * self.variances())

    def n_parameters(self, n_components: int) -> int:
        return n_components * self.n_columns


def least_share(floor: Float[Array, " d"], levels: int) -> Float[Array, " d"]:
    """The least probability of one of so many levels: a millionth, or a floor that is below, and has a logarithm."""
    return jnp.clip(floor, jnp.sqrt(jnp.finfo(floor.dtype).tiny), SMALL / levels)


def shares_above(shares: Float[Array, "... L"], least: Float[Array, "..."]) -> Float[Array, "... L"]:
    """Shares of one, none of which is below the least: what these take comes from the others, in proportion."""
    for _ in range(2):
        low = shares <= least
        rest = 1 - jnp.sum(jnp.where(low, least, 0), axis=-1, keepdims=True)
        total = jnp.sum(jnp.where(low, 0, shares), axis=-1, keepdims=True)
        shares = jnp.where(low, least, shares * rest / jnp.where(total > 0, total, 1))
    return shares / jnp.sum(shares, axis=-1, keepdims=True)
