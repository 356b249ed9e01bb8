"""Structures before there are numbers in them."""

import dataclasses
from abc import ABC, abstractmethod
from typing import Any, NoReturn

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgmm.covariance.factor import Factor
from jaxgmm.covariance.structure import Each, Shared, Structure


class Kind(ABC):
    """A structure as what it is made of, before there are numbers in it."""

    shares_in_part = False
    """Whether not any covariances in the shape that it takes them are of this kind."""

    @property
    def shared(self) -> bool:
        """Whether all components have one covariance."""
        return False

    @abstractmethod
    def made(self, structure: Any) -> bool:
        """Whether a structure is of this kind."""

    @abstractmethod
    def uncorrelated(self, scale: Float[Array, " d"], n_components: int) -> Structure:
        """Every component with standard deviations `scale` and no correlation."""

    # What follows is of structures that are told by their covariances.

    def covariances_shape(self, n_components: int, n_columns: int) -> tuple[int, ...]:
        """Shape in which `from_covariances` takes the covariances of all components."""
        self._told_by_parts()

    def from_covariances(self, covariances: Float[Array, "..."], n_columns: int) -> Structure:
        """With these covariances, or the nearest that there are; NaN where they are not positive definite."""
        self._told_by_parts()

    def from_roots(self, roots: Float[Array, "..."], n_columns: int) -> Structure:
        """With these Cholesky factors or standard deviations, in the shape of the covariances, or the nearest."""
        self._told_by_parts()

    def nearest(self, roots: Float[Array, "k d d"]) -> Structure:
        """The nearest to covariances of components with these Cholesky factors, whatever shape it has its own in."""
        self._told_by_parts()

    def variances(self, covariances: Any) -> Any:
        """Variances (..., d), or (..., 1), of covariances in that shape."""
        self._told_by_parts()

    def _told_by_parts(self) -> NoReturn:
        raise NotImplementedError(
            "Covariances of low rank are told by their parts: make jaxgmm.Mixture(log_weights, jaxgmm.Gaussian(means, "
            "jaxgmm.LowRank(loadings, noise)))."
        )


@dataclasses.dataclass(frozen=True)
class Composed(Kind):
    """A factor and how it is shared."""

    sharing: type[Each] | type[Shared]
    factor: type[Factor]

    @property
    def shared(self) -> bool:
        return self.sharing is Shared

    def made(self, structure: Any) -> bool:
        return type(structure) is self.sharing and type(structure.factor) is self.factor

    def covariances_shape(self, n_components: int, n_columns: int) -> tuple[int, ...]:
        return (*self.sharing.batch(n_components), *self.factor.shape(n_columns))

    def from_covariances(self, covariances: Float[Array, "..."], n_columns: int) -> Each | Shared:
        return self.sharing(self.factor.of_covariances(covariances, n_columns))

    def from_roots(self, roots: Float[Array, "..."], n_columns: int) -> Each | Shared:
        return self.sharing(self.factor.of_roots(roots, n_columns))

    def nearest(self, roots: Float[Array, "k d d"]) -> Structure:
        (k, d, _), dtype = roots.shape, roots.dtype
        start = self.uncorrelated(jnp.ones(d, dtype), k)
        # As d rows of each component would have it.
        scatter = start.scatter(jnp.swapaxes(roots, 1, 2), jnp.ones((d, k), dtype))
        return start.maximize(jnp.ones(k, dtype), scatter, jnp.zeros(d, dtype), jnp.ones(k, bool))[0]

    def variances(self, covariances: Any) -> Any:
        return self.factor.variances(covariances)

    def uncorrelated(self, scale: Float[Array, " d"], n_components: int) -> Each | Shared:
        return self.sharing(self.factor.uncorrelated(scale, self.sharing.batch(n_components)))
