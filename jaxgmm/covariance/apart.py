"""Volume and shape of covariances apart: components share one of them and have the other for themselves."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxgmm.covariance.factor import Factor
from jaxgmm.covariance.structure import Parsimonious, masked
from jaxgmm.ground import linalg
from jaxgmm.ground.bounds import positive
from jaxgmm.ground.pytree import Leaf, Places, record

# Volumes and shape in turn: so many times in a step, each from where the other one is.
_SWEEPS = 3
# Squares of volumes that differ by no more than this share are the same to a bound.
_SAME = 1e-3


@record
class Volumes(Parsimonious):
    """Covariances of one shape, each of a volume of its own: Sigma_k = v_k^2 C with det C = 1.

    Fields: `volume` (k,), det(Sigma_k)^(1 / 2d), in the units of the data; `shape`, a root of C, such as
    `UnitTril(...)`.

    What is best for both has no closed form. A step improves them in turn, from where they are, so that it never lowers
    the likelihood and rests where it is stationary.

    Source: Celeux & Govaert (1995), Pattern Recognit. 28.
    """

    volume: Leaf = positive()
    shape: Any

    @property
    def factor(self) -> Factor:
        """Roots of the covariances."""
        return self.shape.plain.stretched(self.volume)

    def maximize(
        self,
        counts: Float[Array, " k"],
        scatter: Float[Array, "k ..."],
        floor: Float[Array, " d"],
        alive: Bool[Array, " k"],
    ) -> tuple["Volumes", Bool[Array, " k"]]:
        some, d = jnp.any(alive), floor.size
        total = jnp.where(some, jnp.sum(jnp.where(alive, counts, 0)), 1)
        scatter = masked(scatter, alive)

        def sweep(state: tuple[Array, Factor, Array], again: None) -> tuple[tuple[Array, Factor, Array], None]:
            squares, root, _ = state
            best = root.traces(scatter) / (d * counts)
            lowest = jnp.where(some, jnp.min(jnp.where(alive, best, jnp.inf)), 1)
            least = _least(root, floor, some, lowest)
            squares = jnp.where(alive, jnp.maximum(best, least), squares)
            lowest = jnp.where(some, jnp.min(jnp.where(alive, squares, jnp.inf)), 1)
            pooled = jnp.sum(scatter / jnp.reshape(squares, (-1, *[1] * (scatter.ndim - 1))), axis=0)
            root, at_floor = root.maximize(pooled, total, floor / lowest, some)
            held = alive & ((best <= least) | (at_floor & (squares <= lowest * (1 + _SAME))))
            return (squares, root, held), None

        start = self.volume**2, self.shape.plain, jnp.zeros(alive.shape, bool)
        (squares, root, held), _ = jax.lax.scan(sweep, start, None, length=_SWEEPS)
        shape, size = type(self.shape).of_plain(root)
        volume = jnp.where(alive, jnp.sqrt(squares) * size, self.volume)
        return Volumes(volume, shape), held

    def information(self, weights: Float[Array, " k"], precisions: Float[Array, "k d"]) -> "Volumes":
        d = precisions.shape[1]
        own = self.shape.precisions()
        return Volumes(2 * d * weights, self.shape.information(jnp.sum(weights), own))

    def take(self, places: Places) -> "Volumes":
        return Volumes(self.volume[places], self.shape)

    def n_parameters(self, n_components: int) -> int:
        return n_components + self.shape.n_parameters - 1


@record
class Shapes(Parsimonious):
    """Covariances of one volume, each of a shape of its own: Sigma_k = v^2 C_k with det C_k = 1.

    Fields: `volume` (), det(Sigma_k)^(1 / 2d), in the units of the data; `shape`, roots of the C_k, such as
    `UnitTril(...)` of k.

    Source: Celeux & Govaert (1995), Pattern Recognit. 28.
    """

    volume: Leaf = positive()
    shape: Any

    @property
    def factor(self) -> Factor:
        """Roots of the covariances."""
        plain = self.shape.plain
        return plain.stretched(jnp.broadcast_to(self.volume, jax.tree.leaves(plain)[0].shape[:1]))

    def maximize(
        self,
        counts: Float[Array, " k"],
        scatter: Float[Array, "k ..."],
        floor: Float[Array, " d"],
        alive: Bool[Array, " k"],
    ) -> tuple["Shapes", Bool[Array, " k"]]:
        some, d = jnp.any(alive), floor.size
        total = jnp.where(some, jnp.sum(jnp.where(alive, counts, 0)), 1)
        scatter = masked(scatter, alive)
        # No covariance above the floor has a smaller volume.
        lowest = jnp.exp(jnp.mean(jnp.log(jnp.maximum(floor, jnp.finfo(floor.dtype).tiny))))
        shape, held = self.shape.levelled(scatter, floor / jnp.maximum(self.volume**2, lowest * (1 + _SAME)), alive)
        best = jnp.sum(jnp.where(alive, shape.traces(scatter), 0)) / (d * total)
        least = _least(shape, floor, alive, best)
        square = jnp.maximum(best, jnp.max(jnp.where(alive, least, 0)))
        volume = jnp.where(some, jnp.sqrt(square), self.volume)
        return Shapes(volume, shape), alive & (held | (square <= least * (1 + _SAME)))

    def information(self, weights: Float[Array, " k"], precisions: Float[Array, "k d"]) -> "Shapes":
        d = precisions.shape[1]
        return Shapes(2 * d * jnp.sum(weights), self.shape.information(weights, self.shape.precisions()))

    def take(self, places: Places) -> "Shapes":
        return Shapes(self.volume, jax.tree.map(lambda leaf: leaf[places], self.shape))

    def n_parameters(self, n_components: int) -> int:
        return 1 + n_components * (self.shape.n_parameters - 1)


def _least(shape: Factor, floor: Float[Array, " d"], alive: Bool[Array, "*b"], square: Array) -> Float[Array, "*b"]:
    """The least square of a volume with which no covariance of this shape is below the floor; 0 if `square` will do."""

    def found() -> Array:
        unit = jnp.sqrt(jnp.maximum(floor, jnp.finfo(floor.dtype).tiny))
        middle = jnp.max(unit)
        return middle / jnp.min(shape.spectrum(unit / middle), axis=-1) * middle

    # Of rows that are all in one place it is 0 but for rounding, of either sign.
    below = alive & ~shape.above(floor / jnp.maximum(square, jnp.finfo(floor.dtype).tiny))
    return jax.lax.cond(linalg.any_lane(jnp.any(below)), found, lambda: jnp.zeros(alive.shape, floor.dtype))
