"""What a family may provide besides, for marginals, conditionals, products and distances of its mixtures.

None of it is needed for a fit. A family gives what it has in closed form; for the rest, the caller is told.
"""

from typing import Any, NoReturn

from jaxtyping import Array, Float

from jaxgmm.ground.pytree import ColumnIndices


class Geometry:
    """Operations on components that a family may have; a mixture without them says so."""

    def marginal(self, columns: ColumnIndices) -> Any:
        """The components of these columns, in this order."""
        self._lacks("marginal")

    def condition(self, given: ColumnIndices, kept: ColumnIndices, values: Float[Array, " g"]) -> Any:
        """The components of the columns `kept`, where the columns `given` are known to take these values."""
        self._lacks("condition")

    def affine(self, matrix: Float[Array, "m d"], offset: Float[Array, " m"]) -> Any:
        """The components of `matrix x + offset`."""
        self._lacks("affine")

    def product(self, other: Any) -> Any:
        """The products of p_i and q_j, as component i k_q + j, each divided by what `log_overlap` says.

        Here and below, `other` is of the same family.
        """
        self._lacks("product")

    def log_overlap(self, other: Any) -> Float[Array, "k l"]:
        """Logarithm of the integral of p_i q_j for every pair; low, but never NaN, for components far apart."""
        self._lacks("log_overlap")

    def differential_entropy(self) -> Float[Array, " k"]:
        """Differential entropy of each component."""
        self._lacks("differential_entropy")

    def relative_entropy(self, other: Any) -> Float[Array, "k l"]:
        """KL divergence from p_i to q_j for every pair."""
        self._lacks("relative_entropy")

    def squared_wasserstein(self, other: Any) -> Float[Array, "k l"]:
        """Squared 2-Wasserstein distance of p_i and q_j for every pair, in squared units of the data."""
        self._lacks("squared_wasserstein")

    def unrestricted(self) -> Any:
        """The same components, each with a covariance of its own of which nothing is decided beforehand."""
        raise NotImplementedError(
            f"{type(self).__name__} components have no covariances that could be estimated by themselves, as shrunk "
            "does. Gaussian ones have."
        )

    def _lacks(self, name: str) -> NoReturn:
        raise NotImplementedError(
            f"{type(self).__name__} components have no {name}. Give the family a method of this name, as described for "
            "jaxgmm.Family, if there is a closed form."
        )
