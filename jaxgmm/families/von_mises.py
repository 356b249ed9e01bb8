"""Von Mises components: angles."""

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import i0e, i1e
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.families.columnwise import Columnwise, EntrySums
from jaxgmm.families.family import Views
from jaxgmm.families.support import Axis, Support
from jaxgmm.ground.bounds import positive
from jaxgmm.ground.pytree import Leaf, record

# Concentrations from which on 1 - I1 / I0 is taken by its series, by the number of bits.
_LARGE = {32: 20.0, 64: 500.0}
_NEWTON = 6
# The least concentration: as good as even.
_LEAST = 1e-3


@record
class VonMises(Columnwise):
    """Independent angles, in radians, of any number of turns: p(x) in proportion to exp(c cos(x - m)).

    Fields: `directions` (k, d), m, of any number of turns; `concentrations` (k, d), c, without units: about 1 over the
    variance where they are large, and even around the circle where they are small.

    Source: Mardia & Jupp (2000), Directional Statistics.
    """

    directions: Leaf
    concentrations: Leaf = positive()

    support: ClassVar[Support] = "real"
    linear: ClassVar[bool] = False

    @classmethod
    def blank(cls, n_components: int, center: Float[Array, " d"], scale: Float[Array, " d"]) -> "VonMises":
        shape = (n_components, center.size)
        return cls(jnp.broadcast_to(wrapped(center), shape), jnp.full(shape, 0.1, center.dtype))

    @classmethod
    def view(cls, x: Float[Array, "n d"], **options: Any) -> Views:
        return ((np.arange(x.shape[1]), jnp.stack([jnp.cos(x), jnp.sin(x)], axis=-1)),)

    @property
    def means(self) -> Float[Array, "*batch k d"]:
        """Mean direction of each component (k, d), in radians between -pi and pi."""
        return wrapped(jnp.asarray(self.directions))

    def axis(self, column: int) -> Axis:
        return Axis(-math.pi, math.pi, around=True)

    def variances(self) -> Float[Array, "*batch k d"]:
        """Mean square of the chord to the mean direction (k, d): the variance of what is narrow, at most 2."""
        return 2 * short_of_one(self.concentrations)

    def log_density(self, x: Float[Array, "d n"]) -> Float[Array, "k d n"]:
        c = self.concentrations[:, :, None]
        half = jnp.sin((x - self.directions[:, :, None]) / 2)
        return -2 * c * half**2 - (jnp.log(i0e(c)) + math.log(2 * math.pi))

    def terms(self, x: Float[Array, "d n"]) -> tuple[Float[Array, "k d n"], ...]:
        away = x - self.directions[:, :, None]
        return jnp.sin(away), 2 * jnp.sin(away / 2) ** 2

    def estimated(
        self, mass: Float[Array, "k _"], sums: tuple[Float[Array, "k d"], ...], floor: Float[Array, " d"]
    ) -> tuple["VonMises", Bool[Array, "k d"]]:
        sine, short = (one / mass for one in sums)
        length = jnp.sqrt(sine**2 + (1 - short) ** 2)
        # 1 - length, with the digits of what it is made of.
        lacking = jnp.maximum(short * (2 - short) - sine**2, 0) / (1 + length)
        # No direction at all, where there is none.
        turn = jnp.arctan2(sine, jnp.where((sine == 0) & (short == 1), 1, 1 - short))
        found = concentration_of(lacking)
        most = 1 / jnp.maximum(floor, jnp.finfo(found.dtype).eps)
        # As many turns as before, so that nobody takes a step over an end of the circle for a long one.
        return type(self)(self.directions + turn, jnp.clip(found, _LEAST, most)), ~(found < most)

    def floored(self, floor: Float[Array, " d"], alive: Bool[Array, " k"]) -> tuple["VonMises", Bool[Array, " k"]]:
        most = 1 / jnp.maximum(floor, jnp.finfo(self.concentrations.dtype).eps)
        held = alive[:, None] & ~(self.concentrations < most)
        return type(self)(self.directions, jnp.where(held, most, self.concentrations)), jnp.any(held, axis=1)

    def recentred(self, counts: Float[Array, " k"], statistics: EntrySums, other: Any) -> EntrySums:
        mass = counts[:, None] if statistics.mass is None else statistics.mass
        sine, short = statistics.sums
        turn = self.directions - other.directions
        half = 2 * jnp.sin(turn / 2) ** 2
        return EntrySums(
            (
                sine * jnp.cos(turn) + (mass - short) * jnp.sin(turn),
                short * jnp.cos(turn) + mass * half + sine * jnp.sin(turn),
            ),
            statistics.mass,
        )

    def sample(self, key: jax.Array, labels: Int[Array, " n"]) -> Float[Array, "n d"]:
        return wrapped(self.directions[labels] + _drawn(key, self.concentrations[labels]))

    def information(self, weights: Float[Array, " k"]) -> "VonMises":
        c, short = self.concentrations, short_of_one(self.concentrations)
        told = c**2 * (short * (2 - short) - (1 - short) / c)
        return type(self)(weights[:, None] * c * (1 - short), weights[:, None] * jnp.maximum(told, 1e-3))

    def n_parameters(self, n_components: int) -> int:
        return 2 * n_components * self.n_columns


def wrapped(angles: Float[Array, "..."]) -> Float[Array, "..."]:
    """The same directions, between -pi and pi."""
    return angles - 2 * jnp.pi * jnp.round(angles / (2 * jnp.pi))


def short_of_one(c: Float[Array, "..."]) -> Float[Array, "..."]:
    """1 - I1(c) / I0(c): how much shorter than 1 the mean of unit vectors of such a concentration is."""
    return _short_and_slope(c)[0]


def concentration_of(lacking: Float[Array, "..."]) -> Float[Array, "..."]:
    """Inverse of `short_of_one`, of numbers between 0 and 1; as large as the dtype lets it be at 0.

    Source: Best & Fisher (1981), Commun. Stat. Simul. Comput. 10, for where it starts.
    """
    length, least = 1 - lacking, jnp.sqrt(jnp.finfo(lacking.dtype).tiny)
    wide = length * (2 + length**2 + 5 / 6 * length**4)
    middle = 1.39 * length - 0.4 + 0.43 / jnp.maximum(lacking, 0.1)
    narrow = 1 / jnp.maximum(lacking * length * (2 + lacking), least)
    c = jnp.maximum(jnp.where(length < 0.53, wide, jnp.where(length < 0.85, middle, narrow)), _LEAST)
    for _ in range(_NEWTON):
        short, slope = _short_and_slope(c)
        # In 1 / c, of which it is nearly a line where c is large, and elsewhere in c.
        inverse = jnp.maximum(1 / c + (lacking - short) / slope, least)
        c = jnp.where(c < 1, jnp.maximum(c + (short - lacking) * c**2 / slope, _LEAST), 1 / inverse)
    return c


def _short_and_slope(c: Float[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """1 - I1(c) / I0(c), and its derivative in 1 / c."""
    large = _LARGE[jnp.finfo(c.dtype).bits]
    z, few = 1 / jnp.maximum(c, large), jnp.minimum(c, large)
    series = z * (1 / 2 + z * (1 / 8 + z * (1 / 8 + z * (25 / 128 + z * (13 / 32 + z * 1073 / 1024)))))
    slope = 1 / 2 + z * (1 / 4 + z * (3 / 8 + z * (25 / 32 + z * (65 / 32 + z * 3219 / 512))))
    short = 1 - i1e(few) / i0e(few)
    own = few**2 * (short * (2 - short) - (1 - short) / few)
    return jnp.where(c < large, short, series), jnp.where(c < large, own, slope)


def _drawn(key: jax.Array, c: Float[Array, "..."]) -> Float[Array, "..."]:
    """Angles about 0 of these concentrations, by rejection.

    Source: Best & Fisher (1979), Appl. Stat. 28.
    """
    c = jnp.minimum(c, 1 / jnp.finfo(c.dtype).eps)
    root = jnp.sqrt(1 + jnp.sqrt(1 + 4 * c**2))
    rho = 2 * c / (root * (root + math.sqrt(2)))
    more = (1 - rho) ** 2 / (2 * rho)
    info = jnp.finfo(c.dtype)

    def again(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        key, angles, waiting = state
        key, of_angle, of_chance, of_side = jax.random.split(key, 4)
        # 1 - cos of an even angle, and of the one that is proposed.
        even = 2 * jnp.sin(jnp.pi / 2 * jax.random.uniform(of_angle, c.shape, c.dtype)) ** 2
        short = more * even / (2 + more - even)
        cost = c * (more + short)
        chance = jax.random.uniform(of_chance, c.shape, c.dtype, minval=info.tiny)
        taken = (cost * (2 - cost) > chance) | (jnp.log(cost / chance) + 1 - cost >= 0)
        side = jnp.where(jax.random.bernoulli(of_side, shape=c.shape), 1, -1)
        found = side * 2 * jnp.arcsin(jnp.sqrt(jnp.clip(short / 2, 0, 1)))
        return key, jnp.where(waiting & taken, found, angles), waiting & ~taken

    def unfinished(state: tuple[Array, Array, Array]) -> Array:
        return jnp.any(state[2])

    # What is not a number waits for ever.
    start = key, jnp.where(c > 0, 0, jnp.nan).astype(c.dtype), c > 0
    return jax.lax.while_loop(unfinished, again, start)[1]
