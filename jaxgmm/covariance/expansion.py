"""Densities and moments as sums over features of the rows in a frame, the same features for all components."""

from abc import ABC, abstractmethod
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxgmm.ground import linalg
from jaxgmm.ground.pytree import Leaf, record

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

    @abstractmethod
    def leave_moments(self, moments: Float[Array, "*b"]) -> Float[Array, "*b"]:
        """Second moments of such differences, from those of the coordinates."""


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

    def leave_moments(self, moments: Float[Array, "*b d d"]) -> Float[Array, "*b d d"]:
        each = "k" if moments.ndim == 3 else ""
        return linalg.einsum(f"ij,{each}jl,ml->{each}im", self.factor, moments, self.factor)


@record
class ScaledFrame(Frame):
    """x = center + scale u, with `center` (d,) and `scale` (d,), or () where all columns share it."""

    center: Leaf
    scale: Leaf

    def enter(self, x: Float[Array, "n d"]) -> Float[Array, "d n"]:
        return (x.T - self.center[:, None]) / jnp.reshape(self.scale, (-1, 1))

    def leave(self, coordinates: Float[Array, "k d"]) -> Float[Array, "k d"]:
        return coordinates * self.scale

    def leave_moments(self, moments: Float[Array, "*b"]) -> Float[Array, "*b"]:
        return moments * self.scale**2


@record
class Expanded:
    """Components in a frame: the `frame`, their `means` (k, d) in its coordinates, and the `expansion` there.

    `projection` (k q, d), None where there is none: half the squared length of q products of it with the coordinates is
    added to the quadratic form of each component.
    """

    frame: Frame
    means: Leaf
    expansion: Expansion
    projection: Leaf | None = None

    @property
    def loses_digits(self) -> Bool[Array, ""]:
        """Whether too few digits survive the cancellation."""
        cancellation = jax.lax.stop_gradient(self.expansion.cancellation)
        return ~(jnp.max(cancellation) <= digits_limit(cancellation.dtype))


def digits_limit(dtype: Any) -> float:
    """By how much the terms of a sum may exceed it for enough of its digits to survive."""
    return float(jnp.finfo(dtype).eps ** (_DIGITS_KEPT - 1))


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
