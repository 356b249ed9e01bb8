"""What a covariance structure must provide. Families with a location (Gaussian, Student-t) are written over it."""

from abc import ABC, abstractmethod
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxgmm.ground import linalg
from jaxgmm.ground.pytree import Leaf, record


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


class Structure(ABC):
    """Covariances of k components in d columns, positive definite by construction.

    A structure is a record whose leaves are Cholesky factors or standard deviations ("factors"). In `scatter` and
    `maximize`, the second moments have whatever shape the structure needs, as long as they add up over rows.

    Densities and moments come in two ways: from differences to each mean (`whiten`, `scatter`), exact whatever the
    means; or from features of the rows in one frame for all components (`frame` to `second`), as matrix products.
    """

    @classmethod
    @abstractmethod
    def from_covariances(cls, covariances: Float[Array, "..."]) -> "Structure":
        """From covariances (or variances) in the structure's own shape; NaN where they are not positive definite."""

    @classmethod
    @abstractmethod
    def isotropic(cls, scale: Float[Array, " d"], n_components: int) -> "Structure":
        """Every component with standard deviations `scale` and no correlation."""

    @staticmethod
    @abstractmethod
    def covariances_shape(n_components: int, n_columns: int) -> tuple[int, ...]:
        """Shape that `from_covariances` takes."""

    @abstractmethod
    def dense(self, n_components: int, n_columns: int) -> Float[Array, "k d d"]:
        """The covariance matrices."""

    @abstractmethod
    def inverse_factor(self) -> Float[Array, "..."]:
        """What `whiten` multiplies by; computed once for a whole pass over the rows."""

    @staticmethod
    @abstractmethod
    def whiten(inverse_factor: Float[Array, "..."], differences: Float[Array, "k n d"]) -> Float[Array, "k n d"]:
        """Differences from each component's mean in units of its standard deviations: L^-1 (x - m)."""

    @abstractmethod
    def half_log_det(self, n_columns: int) -> Float[Array, "..."]:
        """Half the log-determinant of each covariance, (k,), or () where all components share one."""

    @abstractmethod
    def color(self, noise: Float[Array, "n d"], labels: Array) -> Float[Array, "n d"]:
        """Standard normal rows turned into rows with the covariance of component `labels[i]`: L z."""

    @staticmethod
    @abstractmethod
    def scatter(differences: Float[Array, "k n d"], responsibilities: Float[Array, "n k"]) -> Float[Array, "..."]:
        """Second moments of the differences, weighted by responsibilities and summed over rows."""

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
        """What `second` needs of the rows beyond the sums of their features, for each component or all together."""
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

    @staticmethod
    @abstractmethod
    def total(scatter: Float[Array, "..."], n_columns: int) -> Float[Array, " d"]:
        """Sum over components of the diagonal of the scatter."""

    @abstractmethod
    def maximize(
        self,
        counts: Float[Array, " k"],
        scatter: Float[Array, "..."],
        shift: Float[Array, "k d"],
        floor: Float[Array, " d"],
        alive: Bool[Array, " k"],
    ) -> tuple["Structure", Bool[Array, " k"]]:
        """The likelihood's maximum among covariances not below diag(floor), and which components are held by the floor.

        `scatter` is taken about means that `shift` then moves to the new ones. `counts` are positive; a component that
        is not `alive` keeps its covariance.
        """

    @abstractmethod
    def unconstrain(self) -> "Structure":
        """The same structure with free coordinates in its leaves."""

    @abstractmethod
    def constrain(self) -> "Structure":
        """Inverse of `unconstrain`."""

    def information(self, weights: Float[Array, " k"], precisions: Float[Array, "k d"]) -> "Structure":
        """Diagonal of the Fisher information in the free coordinates, where component k has `weights[k]` of the rows.

        `precisions` are the diagonals of the inverse covariances. As in `Family`, the default suits free coordinates
        without units.
        """
        return jax.tree.map(jnp.ones_like, self.unconstrain())

    @staticmethod
    @abstractmethod
    def n_parameters(n_components: int, n_columns: int) -> int:
        """Number of free parameters."""
