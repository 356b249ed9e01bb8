"""What a covariance structure must provide. Families with a location (Gaussian, Student-t) are written over it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxgmm.ground.pytree import Columns, Places

T = TypeVar("T")


class Structure(ABC):
    """Covariances of k components in d columns, positive definite by construction.

    A structure is a record whose leaves are Cholesky factors or standard deviations ("factors"). In `scatter` and
    `maximize`, the second moments have whatever shape the structure needs, as long as they add up over rows.

    Densities and moments are taken from differences to each mean (`whiten`, `scatter`), which is exact whatever the
    means. A structure that also has them as matrix products for all components at once is an `Expandable`.
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

    @classmethod
    def scatter_at(cls, counts: Float[Array, " k"], differences: Float[Array, "k d"]) -> Float[Array, "..."]:
        """The scatter of so many rows of each component, all of them in one place.

        About their own means, second moments are least: those about any other place are larger by this.
        """
        return cls.scatter(differences[:, None, :], counts[None, :])

    @abstractmethod
    def maximize(
        self,
        counts: Float[Array, " k"],
        scatter: Float[Array, "..."],
        floor: Float[Array, " d"],
        alive: Bool[Array, " k"],
    ) -> tuple["Structure", Bool[Array, " k"]]:
        """The likelihood's maximum among covariances not below diag(floor), and which components are held by the floor.

        `scatter` is about the new means. `counts` are positive; a component that is not `alive` keeps its covariance.
        """

    @abstractmethod
    def floored(self, floor: Float[Array, " d"], alive: Bool[Array, " k"]) -> tuple["Structure", Bool[Array, " k"]]:
        """These covariances, none of them below diag(floor), and which had to be lifted; the others as they are.

        So is that of a component that is not `alive`.
        """

    def needs_centring(self, means: Float[Array, "k d"]) -> Bool[Array, ""]:
        """Whether moments of components with these means lose digits unless taken about these very means."""
        return jnp.ones((), bool)

    def choose(self, means: Float[Array, "k d"], centred: Callable[[], T], expanded: Callable[..., T]) -> T:
        """The result of `centred` or, where the structure can and keeps enough digits, of `expanded`.

        `expanded` takes the structure itself and what it had to find out in order to choose, an `Expanded`.
        """
        return centred()

    def scale_trils(self, n_components: int, n_columns: int) -> Float[Array, "k d d"]:
        """Lower Cholesky factors of the covariance matrices."""
        return jnp.linalg.cholesky(self.dense(n_components, n_columns))

    def full(self, n_components: int, n_columns: int) -> "Structure":
        """The same covariances as one unrestricted matrix per component."""
        from jaxgmm.covariance.full import Full  # which derives from this class

        return Full(self.scale_trils(n_components, n_columns))

    def marginal(self, columns: Columns, n_components: int, n_columns: int) -> "Structure":
        """The covariances of these columns, in this order."""
        return self.full(n_components, n_columns).marginal(columns, n_components, n_columns)

    def condition(
        self, given: Columns, kept: Columns, differences: Float[Array, "k g"]
    ) -> tuple[Float[Array, "k h"], "Structure"]:
        """How the means of the columns `kept` move, and the covariances that remain there.

        The columns `given` are known to lie `differences` away from their means.
        """
        return self.full(differences.shape[0], given.size + kept.size).condition(given, kept, differences)

    def affine(self, matrix: Float[Array, "m d"], n_components: int, n_columns: int) -> "Structure":
        """The covariances of `matrix x`; the structure is whatever they have."""
        return self.full(n_components, n_columns).affine(matrix, n_components, n_columns)

    def plus(self, other: Any, n_components: int, n_columns: int) -> "Structure":
        """The sums of the covariances."""
        first, second = self.full(n_components, n_columns), other.full(n_components, n_columns)
        return first.plus(second, n_components, n_columns)

    def fuse(self, other: Any, gaps: Float[Array, "k d"]) -> tuple[Float[Array, "k d"], "Structure"]:
        """Mean and covariance of N(x; 0, S) N(x; gap, T), normalised."""
        return self.full(*gaps.shape).fuse(other.full(*gaps.shape), gaps)

    def relative_entropy(self, other: Any, n_components: int, n_columns: int) -> Float[Array, "..."]:
        """KL divergence from N(0, S) to N(0, T), (k,), or () where all components share one."""
        first, second = self.full(n_components, n_columns), other.full(n_components, n_columns)
        return first.relative_entropy(second, n_components, n_columns)

    def squared_bures(self, other: Any, n_components: int, n_columns: int) -> Float[Array, "..."]:
        """Squared 2-Wasserstein distance of N(0, S) and N(0, T), (k,), or () where all components share one."""
        first, second = self.full(n_components, n_columns), other.full(n_components, n_columns)
        return first.squared_bures(second, n_components, n_columns)

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

    def take(self, places: Places) -> "Structure":
        """The covariances of the components at these places. By default every leaf's, along axis 0."""
        return jax.tree.map(lambda leaf: leaf[places], self)

    @staticmethod
    @abstractmethod
    def n_parameters(n_components: int, n_columns: int) -> int:
        """Number of free parameters."""
