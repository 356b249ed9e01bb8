"""What roots of covariance matrices must provide, and what follows from them."""

from abc import ABC, abstractmethod
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxgmm.ground.pytree import ColumnIndices


class Root(ABC):
    """Roots L of covariance matrices Sigma = L L^T, and what follows from them whatever their kind.

    One root, or one for each of k components; what belongs to them has the same axis, `*b` below.
    """

    @property
    @abstractmethod
    def batch(self) -> str:
        """ "k" where there is a root for each component, and "" where there is one: the axis as products name it."""

    @abstractmethod
    def dense(self) -> Float[Array, "*b d d"]:
        """The covariance matrices."""

    @abstractmethod
    def tril(self) -> Any:
        """The same covariances by lower Cholesky factors, a `Tril`."""

    @abstractmethod
    def inverse(self) -> Any:
        """L^-1, which whitens by `times`."""

    @abstractmethod
    def times(self, vectors: Float[Array, "k n d"]) -> Float[Array, "k n d"]:
        """L v, each with the L of its component."""

    def deviations(self) -> Float[Array, "*b d"] | None:
        """Standard deviations of the columns where these are independent; None where they may be correlated."""
        return None

    @abstractmethod
    def half_log_det(self) -> Float[Array, "*b"]:
        """Half the log-determinants of the covariances."""

    @abstractmethod
    def diagonal(self) -> Float[Array, "*b d"]:
        """Diagonals of the covariances."""

    @abstractmethod
    def precisions(self) -> Float[Array, "*b d"]:
        """Diagonals of the inverse covariances."""

    @abstractmethod
    def above(self, floor: Float[Array, " d"]) -> Bool[Array, "*b"]:
        """Which covariances are above diag(floor)."""

    def stretched(self, by: Float[Array, " k"]) -> "Root":
        """The roots of each component times `by`, so that there are k of them."""
        each = len(self.batch)
        return jax.tree.map(lambda root: jnp.reshape(by, (-1, *[1] * (root.ndim - each))) * root, self)

    # What follows is closed under Cholesky factors, and by default done with them.

    def marginal(self, columns: ColumnIndices) -> "Root":
        """The covariances of these columns, in this order."""
        return self.tril().marginal(columns)

    def condition(
        self, given: ColumnIndices, kept: ColumnIndices, differences: Float[Array, "k g"]
    ) -> tuple[Float[Array, "k h"], "Root"]:
        """How the means of the columns `kept` move, and the covariances that remain there.

        The columns `given` are known to lie `differences` away from their means.
        """
        return self.tril().condition(given, kept, differences)

    def affine(self, matrix: Float[Array, "m d"]) -> "Root":
        """The covariances of `matrix x`, of whatever kind they are."""
        return self.tril().affine(matrix)

    def plus(self, other: Any) -> "Root":
        """The sums of the covariances. Here and below, `other` is of the same kind and batch."""
        return self.tril().plus(other.tril())

    def fuse(self, other: Any, gaps: Float[Array, "k d"]) -> tuple[Float[Array, "k d"], "Root"]:
        """Mean and covariance of N(x; 0, S) N(x; gap, T), normalised."""
        return self.tril().fuse(other.tril(), gaps)

    def relative_entropy(self, other: Any) -> Float[Array, "*b"]:
        """KL divergence from N(0, S) to N(0, T)."""
        return self.tril().relative_entropy(other.tril())

    def squared_bures(self, other: Any) -> Float[Array, "*b"]:
        """Squared 2-Wasserstein distance of N(0, S) and N(0, T)."""
        return self.tril().squared_bures(other.tril())
