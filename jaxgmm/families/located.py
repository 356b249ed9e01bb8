"""Components with a location and a covariance structure: what Gaussian and Student-t components share."""

import dataclasses
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxgmm.covariance.factor import Factor
from jaxgmm.covariance.structure import Structure
from jaxgmm.families import kernels, parts
from jaxgmm.families.family import Family, Kernel
from jaxgmm.families.kernels import Moments
from jaxgmm.ground import linalg
from jaxgmm.ground.pytree import ColumnIndices
from jaxgmm.ground.rows import Evidence

T = TypeVar("T")
S = TypeVar("S", bound="Located")


class Located(Family):
    """Components whose density falls with the distance to `means` in units of a covariance `structure`.

    Their moments are `Moments`, about the means.
    """

    @property
    @abstractmethod
    def structure(self) -> Structure:
        """What distances are measured by: the field that holds the covariances or, for other densities, the scales."""

    @abstractmethod
    def moved(self: S, means: Float[Array, "k d"], structure: Structure) -> S:
        """The same components in another place with another structure."""

    @abstractmethod
    def log_density(self, squares: Array, half_log_det: Array, n_columns: Any) -> Array:
        """Of rows of which so many columns are seen, at these squared distances."""

    @abstractmethod
    def influence(self, squares: Array, n_columns: Any) -> Array | None:
        """How much such rows count in moments; None where all count alike."""

    def stretch(self, squares: Array, n_columns: Any) -> Array | None:
        """By how much what is not seen of such a row varies more than of a normal one; None where it does not."""
        return None

    def tails(self, squares: Array, n_columns: Any) -> Array | None:
        """What such rows add to the `tails` of moments, (k, n); None where these have none."""
        return None

    def with_kernel_of_parts(self, rows: Evidence, use: Callable[[Kernel, Evidence], T]) -> T:
        return parts.with_kernel(self, rows, use)

    def needs_centring(self) -> Bool[Array, ""]:
        return kernels.needs_centring(self.means, self.structure)

    def maximize(
        self: S,
        counts: Float[Array, " k"],
        statistics: Moments,
        alive: Bool[Array, " k"],
        floor: Float[Array, " d"],
    ) -> tuple[S, Bool[Array, " k"]]:
        mass = counts if statistics.mass is None else jnp.where(alive, statistics.mass, 1)
        shift = jnp.where(alive[:, None], statistics.first / mass[:, None], 0)
        scatter = statistics.second - self._scatter_at(mass, shift)
        degrees = mass if statistics.degrees is None else statistics.degrees
        structure, held = self.structure.maximize(degrees, scatter, floor, alive)
        return self.moved(self.means + shift, structure), held

    def recentred(self, counts: Float[Array, " k"], statistics: Moments, other: Any) -> Moments:
        if not self.structure.about_means:
            raise NotImplementedError(
                "Statistics of components of low rank are about their loadings as well as their means, and cannot be "
                "moved to others. fit and fit_batches take them of all rows in each step."
            )
        mass = counts if statistics.mass is None else statistics.mass
        center, away = statistics.first / jnp.where(mass > 0, mass, 1)[:, None], other.means - self.means
        second = statistics.second - self._scatter_at(mass, center) + self._scatter_at(mass, center - away)
        return dataclasses.replace(statistics, first=statistics.first - mass[:, None] * away, second=second)

    def floored(self: S, floor: Float[Array, " d"], alive: Bool[Array, " k"]) -> tuple[S, Bool[Array, " k"]]:
        structure, held = self.structure.floored(floor, alive)
        return self.moved(self.means, structure), held

    def marginal(self: S, columns: ColumnIndices) -> S:
        return self.moved(self.means[:, columns], self.structure.marginal(columns))

    def affine(self: S, matrix: Float[Array, "m d"], offset: Float[Array, " m"]) -> S:
        means = linalg.einsum("md,kd->km", matrix, self.means) + offset
        return self._with(means, self.structure.factor.affine(matrix))

    def variances(self) -> Float[Array, "*batch k d"]:
        return kernels.variances(self.means, self.structure)

    @property
    def whitens(self) -> bool:
        return self.structure.whitens

    @property
    def defined_by(self) -> int:
        return self.structure.defined_by(self.means.shape[-1])

    def flat(self, scale: Float[Array, " d"], correlation: Float[Array, "d d"], share: float) -> Bool[Array, " k"]:
        found = self.structure.flat(scale, share)
        return super().flat(scale, correlation, share) if found is None else found

    def n_parameters(self, n_components: int) -> int:
        return n_components * self.means.shape[-1] + self.structure.n_parameters(n_components)

    def _with(self: S, means: Float[Array, "k d"], factor: Factor) -> S:
        return self.moved(means, self.structure.of_factor(factor))

    def _precisions(self) -> Float[Array, "k d"]:
        """Diagonals of the inverse covariances."""
        return jnp.broadcast_to(self.structure.factor.precisions(), self.means.shape)

    def _scatter_at(self, counts: Float[Array, " k"], differences: Float[Array, "k d"]) -> Float[Array, "..."]:
        """The scatter of so many rows of each component, all of them in one place.

        About their own means, second moments are least: those about any other place are larger by this.
        """
        return self.structure.scatter(differences[:, None, :], counts[None, :])
