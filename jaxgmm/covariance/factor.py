"""What the factor of a covariance must provide: a root L of Sigma = L L^T, or a batch of them."""

from abc import abstractmethod
from typing import Any, NamedTuple

from jaxtyping import Array, Bool, Float

from jaxgmm.covariance.expansion import Expansion, Frame
from jaxgmm.covariance.root import Root


class Wishart(NamedTuple):
    """Which conjugate distributions one precision has.

    Fields: `dimension` of each; `number` of them, independent; `per_row`, degrees of freedom that a row adds to each.
    """

    dimension: int
    number: int
    per_row: int


class Factor(Root):
    """Roots of covariance matrices of one kind, a record with one array: one root, or one for each of k components.

    A factor knows its columns, and by its leading axis whether it is one or k; what belongs to it has the same axis,
    `*b` below. Second moments are kept in the shape of the covariances.
    """

    @classmethod
    @abstractmethod
    def of_roots(cls, roots: Float[Array, "..."], n_columns: int) -> "Factor":
        """From the array that such a factor holds."""

    @classmethod
    @abstractmethod
    def of_covariances(cls, covariances: Float[Array, "..."], n_columns: int) -> "Factor":
        """From covariances as this kind keeps them; NaN where they are not positive definite."""

    @classmethod
    @abstractmethod
    def uncorrelated(cls, scale: Float[Array, " d"], batch: tuple[int, ...]) -> "Factor":
        """Standard deviations `scale` and no correlation, in every place of a batch of this shape."""

    @staticmethod
    @abstractmethod
    def shape(n_columns: int) -> tuple[int, ...]:
        """Shape in which one covariance is kept."""

    @staticmethod
    @abstractmethod
    def variances(covariances: Any) -> Any:
        """Variances (..., d), or (..., 1) where all columns have one, of covariances as they are kept."""

    @property
    @abstractmethod
    def n_parameters(self) -> int:
        """Number of free parameters of one covariance."""

    @property
    @abstractmethod
    def wishart(self) -> Wishart:
        """The conjugate distributions of a precision, the inverse of one covariance."""

    @abstractmethod
    def unwhitened(self, second: Float[Array, "..."], kept: str) -> Float[Array, "..."]:
        """L M L^T as it is kept, of second moments M (k, d, d) of white coordinates, or of their diagonals (k, d).

        Of each component ("k"), or of their sum (""), where the first axis may have been summed over before.
        """

    @abstractmethod
    def traces(self, second: Float[Array, "k ..."]) -> Float[Array, " k"]:
        """tr(M_k Sigma^-1) of second moments M_k of each component as they are kept."""

    @abstractmethod
    def information(self, weights: Float[Array, "*b"], precisions: Float[Array, "*b d"]) -> "Factor":
        """Diagonal of the Fisher information in the free coordinates, of rows of so much weight.

        `precisions` are the diagonals of the inverse covariances.
        """

    @staticmethod
    @abstractmethod
    def scatter(
        differences: Float[Array, "k n d"], responsibilities: Float[Array, "n k"], kept: str
    ) -> Float[Array, "..."]:
        """Second moments of the differences, weighted and summed over rows: of each component ("k") or all ("")."""

    @abstractmethod
    def maximize(
        self,
        scatter: Float[Array, "..."],
        weight: Float[Array, "*b"],
        floor: Float[Array, " d"],
        alive: Bool[Array, "*b"],
    ) -> tuple["Factor", Bool[Array, "*b"]]:
        """The likelihood's maximum among covariances not below the floor, and which of them it holds.

        `scatter` is about the means, of rows of so much `weight`. What is not `alive` stays as it is. The floor is a
        variance for each column; one variance for all of them keeps to its mean.
        """

    @abstractmethod
    def floored(self, floor: Float[Array, " d"], alive: Bool[Array, "*b"]) -> tuple["Factor", Bool[Array, "*b"]]:
        """These covariances, none of those `alive` below diag(floor), and which are held by the floor."""

    @abstractmethod
    def spectrum(self, scale: Float[Array, " d"]) -> Float[Array, "*b d"]:
        """Eigenvalues of the covariances in units of `scale`, those that may differ between directions."""

    @abstractmethod
    def bounded(
        self, scale: Float[Array, " d"], least: Float[Array, "*#b"] | None, most: Float[Array, "*#b"]
    ) -> "Factor":
        """With eigenvalues in units of `scale` cut to these bounds; those that are within stay as they are."""

    # Densities and moments as matrix products with features of the rows in one frame.

    @abstractmethod
    def frame(self, means: Float[Array, "k d"]) -> Frame:
        """The frame that suits components with these means, each with its own covariance.

        As far as densities and moments do not depend on it, it is a constant to a derivative.
        """

    @abstractmethod
    def own_frame(self, center: Float[Array, " d"]) -> Frame:
        """The frame in which this one covariance is the identity."""

    @staticmethod
    @abstractmethod
    def squares(coordinates: Float[Array, "d n"]) -> Float[Array, "q n"]:
        """The second-order features that quadratic forms of this kind are made of."""

    @staticmethod
    @abstractmethod
    def moments_of(squares: Float[Array, "k q"]) -> Float[Array, "k ..."]:
        """Second moments, from sums of the squares."""

    @abstractmethod
    def expand(self, frame: Any, means: Float[Array, "k d"]) -> Expansion:
        """The quadratic forms of components with these means, given in coordinates of what `frame` returned."""

    @staticmethod
    @abstractmethod
    def gram(coordinates: Float[Array, "d n"], weights: Float[Array, " n"]) -> Float[Array, "..."]:
        """Second moments about 0 of all rows."""

    @staticmethod
    @abstractmethod
    def cross(a: Float[Array, "k d"], b: Float[Array, "k d"], kept: str) -> Float[Array, "..."]:
        """a b^T + b a^T in the shape of second moments: of each component ("k") or summed over all ("")."""
