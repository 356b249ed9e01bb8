"""Axes of covariances apart from how far they extend along them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxgmm.covariance.factor import Factor
from jaxgmm.covariance.structure import Parsimonious, masked
from jaxgmm.covariance.tril import Tril
from jaxgmm.ground import linalg
from jaxgmm.ground.bounds import orthogonal
from jaxgmm.ground.pytree import Leaf, Places, record

# Axes and variances along them in turn: so many times in a step, each from where the other one is.
_SWEEPS = 3
# Of the information about an axis, where nearly nothing depends on it.
_LEAST = 1e-2


class Oriented(Parsimonious):
    """Covariances D_k diag(s_k^2) D_k^T, with `axes` D_k and a structure `along` of standard deviations s_k along them.

    The floor is one variance in all directions, the mean of those of the columns.
    """

    axes: Any
    along: Any

    @property
    def factor(self) -> Factor:
        """Roots of the covariances."""
        scale = self._scale
        axes = jnp.broadcast_to(self.axes, (scale.shape[0], *self.axes.shape[-2:]))
        # By the roots: of a product, a covariance that is nearly flat would keep half its digits.
        return Tril(linalg.lower_factor(axes * scale[:, None, :]))

    @property
    def _scale(self) -> Float[Array, "k d"]:
        """Along the axes of each component."""
        return self.along.factor.deviations()

    def _information(self, weights: Float[Array, " k"]) -> Float[Array, "k d d"]:
        """Of each entry of the axes, of which a turn from one axis towards another changes those of both."""
        variances = self._scale**2
        ratio = variances[:, :, None] / variances[:, None, :]
        tells = jnp.maximum((ratio + jnp.swapaxes(ratio, 1, 2) - 2) / 2, _LEAST)
        axes = jnp.broadcast_to(self.axes, tells.shape)
        return weights[:, None, None] * linalg.einsum("kil,klj->kij", axes**2, tells)


@record
class OwnAxes(Oriented):
    """Every component has axes of its own.

    Fields: `axes` (k, d, d), orthogonal, in columns; `along`, whose standard deviations along the first axes, along
    the second ones, and so on have something in common, such as `Shared(Scales(...))`.

    Source: Celeux & Govaert (1995), Pattern Recognit. 28.
    """

    axes: Leaf = orthogonal()
    along: Any

    def maximize(
        self,
        counts: Float[Array, " k"],
        scatter: Float[Array, "k d d"],
        floor: Float[Array, " d"],
        alive: Bool[Array, " k"],
    ) -> tuple["OwnAxes", Bool[Array, " k"]]:
        identity = jnp.eye(floor.size, dtype=floor.dtype)
        values, vectors = linalg.eigh(jnp.where(alive[:, None, None], scatter, identity))
        # The longest axis stays the longest, whichever it is, and none turns round.
        place = jnp.argsort(jnp.argsort(self._scale, axis=1), axis=1)
        values = jnp.take_along_axis(values, place, axis=1)
        vectors = jnp.take_along_axis(vectors, place[:, None, :], axis=2)
        along = jnp.sum(self.axes * vectors, axis=1, keepdims=True)
        axes = jnp.where(alive[:, None, None], jnp.where(along < 0, -vectors, vectors), self.axes)
        variances = masked(jnp.maximum(values, 0), alive)
        even = jnp.broadcast_to(jnp.mean(floor), floor.shape)
        spread, held = self.along.maximize(counts, self.along.gathered(variances), even, alive)
        return OwnAxes(axes, spread), held

    def information(self, weights: Float[Array, " k"], precisions: Float[Array, "k d"]) -> "OwnAxes":
        return OwnAxes(self._information(weights), self.along.information(weights, 1 / self._scale**2))

    def take(self, places: Places) -> "OwnAxes":
        return OwnAxes(self.axes[places], self.along.take(places))

    def n_parameters(self, n_components: int) -> int:
        d = self.axes.shape[-1]
        return n_components * (d * (d - 1) // 2) + self.along.n_parameters(n_components)

    @property
    def _scale(self) -> Float[Array, "k d"]:
        scale = self.along.factor.deviations()
        return jnp.broadcast_to(scale, (self.axes.shape[0], scale.shape[-1]))


@record
class SharedAxes(Oriented):
    """All components have the same axes.

    Fields: `axes` (d, d), orthogonal, in columns; `along`, such as `Each(Scales(...))`.

    The best axes for all have no closed form. A step turns them two by two, each pair to where it is best, and so never
    lowers the likelihood; it rests where it is stationary.

    Sources: Celeux & Govaert (1995), Pattern Recognit. 28; Flury & Gautschi (1986), SIAM J. Sci. Stat. Comput. 7, for
    turns of two axes.
    """

    axes: Leaf = orthogonal()
    along: Any

    def maximize(
        self,
        counts: Float[Array, " k"],
        scatter: Float[Array, "k d d"],
        floor: Float[Array, " d"],
        alive: Bool[Array, " k"],
    ) -> tuple["SharedAxes", Bool[Array, " k"]]:
        scatter = masked(scatter, alive)
        even = jnp.broadcast_to(jnp.mean(floor), floor.shape)

        def sweep(state: tuple[Array, Any, Array], again: None) -> tuple[tuple[Array, Any, Array], None]:
            axes, spread, _ = state
            seen = linalg.einsum("ji,kjl,lm->kim", axes, scatter, axes)
            seen, axes = _turned(seen, axes, 1 / spread.factor.deviations() ** 2)
            variances = jnp.maximum(jnp.diagonal(seen, axis1=1, axis2=2), 0)
            return (axes, *spread.maximize(counts, spread.gathered(variances), even, alive)), None

        start = self.axes, self.along, jnp.zeros(alive.shape, bool)
        (axes, spread, held), _ = jax.lax.scan(sweep, start, None, length=_SWEEPS)
        # Roundings of many turns would add up.
        square = linalg.einsum("ji,jl->il", axes, axes)
        return SharedAxes(1.5 * axes - linalg.einsum("ij,jl->il", axes, square) / 2, spread), held

    def information(self, weights: Float[Array, " k"], precisions: Float[Array, "k d"]) -> "SharedAxes":
        axes = jnp.sum(self._information(weights), axis=0)
        return SharedAxes(axes, self.along.information(weights, 1 / self._scale**2))

    def take(self, places: Places) -> "SharedAxes":
        return SharedAxes(self.axes, self.along.take(places))

    def n_parameters(self, n_components: int) -> int:
        d = self.axes.shape[-1]
        return d * (d - 1) // 2 + self.along.n_parameters(n_components)


def _turned(
    seen: Float[Array, "k d d"], axes: Float[Array, "d d"], precisions: Float[Array, "k d"]
) -> tuple[Float[Array, "k d d"], Float[Array, "d d"]]:
    """Second moments along axes, and the axes, after every two of them have turned to where they fit best once.

    To the precisions along them: the sum of tr(M_k diag(precisions_k)) becomes least. Pairs without an axis in common
    are turned at once.
    """

    def turn(state: tuple[Array, Array], partner: Array) -> tuple[tuple[Array, Array], None]:
        seen, axes = state
        own = jnp.diagonal(seen, axis1=1, axis2=2)
        cross = seen[:, jnp.arange(partner.size), partner]
        gap = precisions - precisions[:, partner]
        level = jnp.sum((own - own[:, partner]) / 2 * gap, axis=0)
        tilt = jnp.sum(cross * gap, axis=0)
        # What is to be least is level cos(2 angle) + tilt sin(2 angle), and a constant.
        some = (level != 0) | (tilt != 0)
        angle = jnp.where(some, jnp.arctan2(-jnp.where(some, tilt, 0), -jnp.where(some, level, -1)) / 2, 0)
        cosine, sine = jnp.cos(angle), jnp.sin(angle)
        seen = cosine * seen + sine * seen[:, :, partner]
        seen = cosine[:, None] * seen + sine[:, None] * seen[:, partner, :]
        return (seen, cosine * axes + sine * axes[:, partner]), None

    rounds = jnp.asarray(_rounds(axes.shape[-1]))
    return jax.lax.scan(turn, (seen, axes), rounds)[0] if len(rounds) else (seen, axes)


def _rounds(d: int) -> np.ndarray:
    """Whom each of d plays with in every round, so that any two meet once; with itself where it has a bye."""
    even = d + d % 2
    table = np.arange(even)
    found = []
    for _ in range(even - 1 if d > 1 else 0):
        partner = np.empty(even, int)
        partner[table], partner[table[::-1]] = table[::-1], table
        partner = np.where(partner < d, partner, np.arange(even))[:d]
        found.append(partner)
        table = np.concatenate([table[:1], table[-1:], table[1:-1]])
    return np.array(found, np.int32).reshape(-1, d)
