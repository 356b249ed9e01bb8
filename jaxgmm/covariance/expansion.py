"""Covariance structures whose densities and moments are sums over features of the rows, the same for all components."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxgmm.covariance.structure import Structure
from jaxgmm.ground import linalg, pytree
from jaxgmm.ground.pytree import Leaf, record

T = TypeVar("T")

# Of the digits of the dtype, this share must survive cancellation.
_DIGITS_KEPT = 0.6


@record
class Expansion:
    """Quadratic forms as sums over features of a row u in the coordinates of a frame: [u, squares(u)] times these.

    Fields: `constant` (k,), `linear` (k, d), `quadratic` (k, q) with minus half the squared distance to the mean of
    component k as their sum; `steepest` (), the largest curvature among them; `cancellation` (k,), how many times
    larger the terms of that sum are than the sum, at rows of component k.
    """

    constant: Leaf
    linear: Leaf
    quadratic: Leaf
    steepest: Leaf
    cancellation: Leaf


class Frame(ABC):
    """Coordinates u of rows in which the components as a whole have mean 0 and spread 1 or so."""

    @abstractmethod
    def enter(self, x: Float[Array, "n d"]) -> Float[Array, "d n"]:
        """Coordinates of rows, by columns."""

    @abstractmethod
    def leave(self, coordinates: Float[Array, "k d"]) -> Float[Array, "k d"]:
        """Differences of rows in the units of the data, from differences of coordinates."""


@record
class LinearFrame(Frame):
    """x = center + factor u, with `center` (d,), a lower triangular `factor` (d, d), and its `inverse`."""

    center: Leaf
    factor: Leaf
    inverse: Leaf

    @classmethod
    def of(cls, center: Float[Array, " d"], factor: Float[Array, "d d"]) -> "LinearFrame":
        return cls(center, factor, linalg.tril_inverse(factor))

    def enter(self, x: Float[Array, "n d"]) -> Float[Array, "d n"]:
        return linalg.einsum("ij,jn->in", self.inverse, x.T - self.center[:, None])

    def leave(self, coordinates: Float[Array, "k d"]) -> Float[Array, "k d"]:
        return linalg.einsum("ij,kj->ki", self.factor, coordinates)


@record
class ScaledFrame(Frame):
    """x = center + scale u, with `center` (d,) and `scale` (d,), or () where all columns share it."""

    center: Leaf
    scale: Leaf

    def enter(self, x: Float[Array, "n d"]) -> Float[Array, "d n"]:
        return (x.T - self.center[:, None]) / jnp.reshape(self.scale, (-1, 1))

    def leave(self, coordinates: Float[Array, "k d"]) -> Float[Array, "k d"]:
        return coordinates * self.scale


@record
class Expanded:
    """Components in a frame: the `frame`, their `means` (k, d) in its coordinates, and the `expansion` there."""

    frame: Frame
    means: Leaf
    expansion: Expansion


def scaled_expansion(scale: Float[Array, "k _"], means: Float[Array, "k d"]) -> Expansion:
    """For standard deviations `scale` along the axes, in units of the frame; one column where all axes share it."""
    # Behind a barrier, or XLA would fold these divisions into the ones before, by a product that can underflow.
    steepness = jax.lax.optimization_barrier(1 / scale)
    white = means * steepness
    return Expansion(
        constant=-jnp.sum(white**2, axis=1) / 2,
        linear=white * steepness,
        quadratic=-(steepness**2) / 2,
        steepest=jnp.max(steepness**2),
        cancellation=jnp.sqrt(jnp.sum((white**2 + 1) ** 2, axis=1)),
    )


class Expandable(Structure):
    """A structure that has densities and moments also from features of the rows in one frame for all components."""

    def needs_centring(self, means: Float[Array, "k d"]) -> Bool[Array, ""]:
        return self._loses_digits(means, self.expanded(means))

    def choose(
        self,
        means: Float[Array, "k d"],
        centred: Callable[[], T],
        expanded: Callable[["Expandable", Expanded], T],
    ) -> T:
        ready = self.expanded(means)
        return jax.lax.cond(linalg.any_lane(self._loses_digits(means, ready)), centred, lambda: expanded(self, ready))

    def expanded(self, means: Float[Array, "k d"]) -> Expanded:
        """Components with these means in the frame that suits them."""
        frame = self.frame(means)
        inside = frame.enter(means).T
        return Expanded(frame, inside, self.expand(frame, inside))

    def _loses_digits(self, means: Float[Array, "k d"], expanded: Expanded) -> Bool[Array, ""]:
        # NaN, which nothing helps, must not take the other lanes of a vmap along.
        structure, means, cancellation = jax.lax.stop_gradient((self, means, expanded.expansion.cancellation))
        limit = jnp.finfo(means.dtype).eps ** (_DIGITS_KEPT - 1)
        return ~(jnp.max(cancellation) <= limit) & pytree.without_nan((means, structure))

    @abstractmethod
    def frame(self, means: Float[Array, "k d"]) -> Frame:
        """The frame that suits these components.

        As far as densities and moments do not depend on it, it is a constant to a derivative.
        """

    @staticmethod
    @abstractmethod
    def squares(coordinates: Float[Array, "d n"]) -> Float[Array, "q n"]:
        """The second-order features that the structure's quadratic forms are made of."""

    @abstractmethod
    def expand(self, frame: Any, means: Float[Array, "k d"]) -> Expansion:
        """The quadratic forms of components with these means, given in coordinates of what `frame` returned."""

    @staticmethod
    def spread(coordinates: Float[Array, "d n"], weights: Float[Array, " n"]) -> Any:
        """What `second` needs of the rows beyond the sums of their features, for all components together."""
        return None

    @staticmethod
    @abstractmethod
    def second(
        frame: Any,
        means: Float[Array, "k d"],
        counts: Float[Array, " k"],
        first: Float[Array, "k d"],
        squares: Float[Array, "k q"],
        spread: Any,
    ) -> Float[Array, "..."]:
        """Second moments about the means, as `scatter` gives them, from sums of the features in the frame.

        `first` is the sum of r u; means and first are in coordinates of the frame, the result in those of the data.
        """
