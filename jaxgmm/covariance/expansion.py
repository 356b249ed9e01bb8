"""Covariance structures whose densities and moments are sums over features of the rows, the same for all components."""

from abc import abstractmethod
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


@record
class LinearFrame:
    """Coordinates u with x = center + factor u, for a lower triangular factor (d, d), and the factor's inverse."""

    factor: Leaf
    inverse: Leaf

    @classmethod
    def of(cls, factor: Float[Array, "d d"]) -> "LinearFrame":
        return cls(factor, linalg.tril_inverse(factor))


class Expandable(Structure):
    """A structure that has densities and moments also from features of the rows in one frame for all components."""

    def needs_centring(self, means: Float[Array, "k d"]) -> Bool[Array, ""]:
        # NaN, which nothing helps, must not take the other lanes of a vmap along.
        structure, means = jax.lax.stop_gradient((self, means))
        center, frame = structure.frame(means)
        cancellation = jnp.max(structure.expand(frame, structure.enter(frame, (means - center).T).T).cancellation)
        limit = jnp.finfo(means.dtype).eps ** (_DIGITS_KEPT - 1)
        return ~(cancellation <= limit) & pytree.without_nan((means, structure))

    def choose(self, means: Float[Array, "k d"], centred: Callable[[], T], expanded: Callable[[Any], T]) -> T:
        return jax.lax.cond(linalg.any_lane(self.needs_centring(means)), centred, lambda: expanded(self))

    @abstractmethod
    def frame(self, means: Float[Array, "k d"]) -> tuple[Float[Array, " d"], Any]:
        """Origin and unit of coordinates in which the components as a whole have mean 0 and spread 1 or so.

        As far as densities and moments do not depend on them, they are constants to a derivative.
        """

    @staticmethod
    @abstractmethod
    def enter(frame: Any, differences: Float[Array, "d n"]) -> Float[Array, "d n"]:
        """Differences from the origin in the unit of the frame."""

    @staticmethod
    @abstractmethod
    def leave(frame: Any, coordinates: Float[Array, "k d"]) -> Float[Array, "k d"]:
        """Coordinates in the unit of the frame as differences from the origin, row by row."""

    @staticmethod
    @abstractmethod
    def squares(coordinates: Float[Array, "d n"]) -> Float[Array, "q n"]:
        """The second-order features that the structure's quadratic forms are made of."""

    @abstractmethod
    def expand(self, frame: Any, means: Float[Array, "k d"]) -> Expansion:
        """The quadratic forms of components with these means, given in coordinates of the frame."""

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
