"""Beta components: shares and rates between 0 and 1."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.families.columnwise import Columnwise, EntrySums
from jaxgmm.families.family import Views, each_column
from jaxgmm.families.support import Support
from jaxgmm.ground import special
from jaxgmm.ground.bounds import positive
from jaxgmm.ground.pytree import Leaf, record

# Steps of Newton's method.
_STEPS = 12
# Rounding moves a mean by no more than the root of this, in standard deviations.
_DIGITS = 1e-3


@record
class Beta(Columnwise):
    """Independent numbers between 0 and 1 of beta distribution: p(x) in proportion to x^(a - 1) (1 - x)^(b - 1).

    Fields: `alphas` (k, d), a, and `betas` (k, d), b, without units. Means are a / (a + b).
    """

    alphas: Leaf = positive()
    betas: Leaf = positive()

    support: ClassVar[Support] = "unit"

    @classmethod
    def blank(cls, n_components: int, center: Float[Array, " d"], scale: Float[Array, " d"]) -> "Beta":
        mean = jnp.clip(center, 0.05, 0.95)
        total = jnp.maximum(mean * (1 - mean) / scale**2 - 1, 1)
        shape = (n_components, center.size)
        return cls(jnp.broadcast_to(mean * total, shape), jnp.broadcast_to((1 - mean) * total, shape))

    @classmethod
    def view(cls, x: Float[Array, "n d"], **options: Any) -> Views:
        return each_column(jnp.arcsin(jnp.sqrt(jnp.clip(x, 0, 1))))

    @property
    def means(self) -> Float[Array, "*batch k d"]:
        """Expectation of each component (k, d)."""
        return self.alphas / (self.alphas + self.betas)

    def variances(self) -> Float[Array, "*batch k d"]:
        total = self.alphas + self.betas
        return (self.alphas / total) * (self.betas / total) / (1 + total)

    def log_density(self, x: Float[Array, "d n"]) -> Float[Array, "k d n"]:
        a, b = self.alphas[:, :, None], self.betas[:, :, None]
        inside = (x > 0) & (x < 1)
        x = jnp.where(inside, x, 0.5)
        _, below, above = self.terms(x)
        peak = special.log_peak(a) + special.log_peak(b) - special.log_peak(a + b) + jnp.log(a) - jnp.log1p(a / b)
        return jnp.where(inside, peak - jnp.log(x) - jnp.log1p(-x) - a * below - b * above, -jnp.inf)

    def terms(self, x: Float[Array, "d n"]) -> tuple[Float[Array, "k d n"], ...]:
        x = jnp.where((x > 0) & (x < 1), x, 0.5)
        a, b = self.alphas[:, :, None], self.betas[:, :, None]
        # From the mean, and the log-excess of both parts of 1 over theirs.
        mean, rest = a / (a + b), b / (a + b)
        away = _apart((x, 1 - x), (mean, rest))
        below, above = (
            special.log_excess(sign * away / own, part, own) for sign, part, own in ((1, x, mean), (-1, 1 - x, rest))
        )
        return away, below, above

    def estimated(
        self, mass: Float[Array, "k _"], sums: tuple[Float[Array, "k d"], ...], floor: Float[Array, " d"]
    ) -> tuple["Beta", Bool[Array, "k d"]]:
        away, below, above = (one / mass for one in sums)
        total = self.alphas + self.betas
        # Means of log(x) and log(1 - x), from those of the means so far.
        logs = jnp.stack([away * total / self.alphas - below, -away * total / self.betas - above])
        shares = jnp.stack([self.alphas, self.betas]) / total

        def spare_of(given: Float[Array, "2 k d"], whole: Float[Array, "k d"]) -> Float[Array, "2 k d"]:
            """Means of logarithms over those of the means of `given`."""
            own = given / whole
            # One difference for both parts, whose rounding then has no part in the likelihood.
            apart = _apart(own, shares)
            apart = jnp.stack([apart, -apart]) / shares
            return logs - apart + special.log_excess(apart, own, shares)

        def slopes(given: Float[Array, "2 k d"]) -> Float[Array, "2 k d"]:
            whole = jnp.sum(given, axis=0)
            return spare_of(given, whole) + special.log_less_digamma(given) - special.log_less_digamma(whole)

        def step(_: Int[Array, ""], given: Float[Array, "2 k d"]) -> Float[Array, "2 k d"]:
            slope, curve, whole = slopes(given), special.trigamma(given), jnp.sum(given, axis=0)
            # The inverse of diag(curve) - trigamma(whole), by Sherman and Morrison: of the inverses of these, which
            # are about as large as what they are of, by how much they are less.
            spare = jnp.sum(_less(given), axis=0) - _less(whole)
            common = jnp.sum(slope / curve, axis=0) / spare
            return jnp.clip(given + (slope + common) / curve, given / 4, 4 * given)

        def likelihood(given: Float[Array, "2 k d"]) -> Float[Array, "k d"]:
            """Of a row."""
            whole = jnp.sum(given, axis=0)
            peak = jnp.sum(special.log_peak(given), axis=0) - special.log_peak(whole)
            parts = jnp.sum(given * spare_of(given, whole), axis=0)
            return peak + parts + jnp.log(given[0]) - jnp.log1p(given[0] / given[1])

        # Of the size that narrow rows about their mean would have, from where Newton's steps lead there. Narrower than
        # the rounding of sums about a mean that is far from theirs they cannot be told to be.
        moved, info = jnp.stack([away, -away]), jnp.finfo(away.dtype)
        mean = jnp.maximum(shares + moved, info.eps)
        spare = jnp.stack([below, above]) - special.log_excess(moved / shares, mean, shares)
        size = 0.5 / jnp.maximum(jnp.sum(mean * spare, axis=0), info.eps * jnp.abs(away) + info.tiny)
        found = jax.lax.fori_loop(0, _STEPS, step, mean * jnp.minimum(size, _most(mean[0] * mean[1])))
        now = jnp.stack([self.alphas, self.betas])
        found = jnp.where(likelihood(found) >= likelihood(now), found, now)
        return _floored(found[0], found[1], floor)

    def floored(self, floor: Float[Array, " d"], alive: Bool[Array, " k"]) -> tuple["Beta", Bool[Array, " k"]]:
        found, held = _floored(self.alphas, self.betas, floor)
        held = held & alive[:, None]
        return jax.tree.map(lambda new, old: jnp.where(held, new, old), found, self), jnp.any(held, axis=1)

    def needs_centring(self) -> Bool[Array, ""]:
        return jnp.ones((), bool)

    def recentred(self, counts: Float[Array, " k"], statistics: EntrySums, other: Any) -> EntrySums:
        mass = counts[:, None] if statistics.mass is None else statistics.mass
        away, below, above = statistics.sums
        total, whole = self.alphas + self.betas, other.alphas + other.betas
        moved = away + mass * _apart((self.means, self.betas / total), (other.means, other.betas / whole))

        def of(excess: Array, part: Array, sign: int, their: Array, ratio: Array) -> Array:
            # Sums of logarithms stay what they are, but for the places they are about.
            logs = sign * away * total / part - excess
            return sign * moved * whole / their - (logs + mass * jnp.log(ratio))

        below = of(below, self.alphas, 1, other.alphas, self.means / other.means)
        above = of(above, self.betas, -1, other.betas, (self.betas / total) / (other.betas / whole))
        return EntrySums((moved, below, above), statistics.mass)

    def sample(self, key: jax.Array, labels: Int[Array, " n"]) -> Float[Array, "n d"]:
        first, second = jax.random.split(key)
        a, b = (jax.random.loggamma(one, shape[labels]) for one, shape in ((first, self.alphas), (second, self.betas)))
        # Neither 0 nor 1, where there is no density.
        edge = jnp.finfo(a.dtype).epsneg
        return jnp.clip(jax.nn.sigmoid(a - b), jnp.finfo(a.dtype).tiny, 1 - edge)

    def information(self, weights: Float[Array, " k"]) -> "Beta":
        whole = special.trigamma(self.alphas + self.betas)
        own = [shape**2 * (special.trigamma(shape) - whole) for shape in (self.alphas, self.betas)]
        return type(self)(*(weights[:, None] * one for one in own))

    def n_parameters(self, n_components: int) -> int:
        return 2 * n_components * self.n_columns


def _apart(parts: Any, others: Any) -> Float[Array, "..."]:
    """By how much the first part of 1 is more than another, from the smaller of both parts, which has more digits."""
    return jnp.where(others[0] < others[1], parts[0] - others[0], others[1] - parts[1])


def _less(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """a - 1 / trigamma(a), which is about 1/2 where a is large."""
    excess = special.trigamma_excess(a)
    return excess / (1 + excess / a)


def _most(spread: Float[Array, "k d"]) -> Float[Array, "k d"]:
    """The largest a + b whose mean has the digits for it, as a and b are rounded; `spread` is mean times its rest."""
    return _DIGITS / (float(jnp.finfo(spread.dtype).eps) ** 2 * spread)


def _floored(a: Float[Array, "k d"], b: Float[Array, "k d"], floor: Float[Array, " d"]) -> tuple[Beta, Array]:
    """The same means, and variances not below the floor, which is out of reach where it is more than all of them.

    Nor so small that they are lost in the rounding of the mean.
    """
    total = a + b
    spread = (a / total) * (b / total)
    most = jnp.maximum(spread / jnp.maximum(floor, jnp.finfo(a.dtype).tiny) - 1, 1e-3)
    most = jnp.minimum(most, _most(spread))
    held = ~(total < most)
    unit = jnp.where(held, most / total, 1)
    return Beta(a * unit, b * unit), held
