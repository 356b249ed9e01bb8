"""Covariances of all components: a factor, and how it is shared. Families with a location are written over them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxgmm.covariance.expansion import Expanded, Expansion
from jaxgmm.covariance.factor import Wishart
from jaxgmm.covariance.root import Root
from jaxgmm.ground import pytree
from jaxgmm.ground.pytree import ColumnIndices, Places, record

S = TypeVar("S", bound="Parsimonious")


class Structure(ABC):
    """Covariances of k components in d columns, positive definite by construction: a record.

    Second moments have whatever shape the structure needs, as long as they add up over rows. Densities and moments are
    taken from differences to each mean, by the `factor` and `scatter`, which is exact whatever the means. Where
    `expanded` gives something, they are also matrix products for all components at once.
    """

    factor: Any
    """Roots of the covariances, a `Factor`, one for each component or one that all share; as a field or a property."""

    def of_factor(self, factor: Root) -> "Structure":
        """A structure with this factor, of its own kind where that goes, or else `Each` or `Shared`."""
        return Each(factor) if factor.batch else Shared(factor)

    @abstractmethod
    def scatter(self, differences: Float[Array, "k n d"], responsibilities: Float[Array, "n k"]) -> Float[Array, "..."]:
        """Second moments of the differences, weighted by responsibilities and summed over rows."""

    @abstractmethod
    def unwhitened(self, second: Float[Array, "..."]) -> Float[Array, "..."]:
        """As `scatter` gives them, of second moments (k, d, d) of coordinates in which covariances are the identity.

        Or of their diagonals (k, d), where columns are independent.
        """

    def gathered(self, second: Float[Array, "k ..."]) -> Float[Array, "..."]:
        """As `scatter` gives them, of second moments of each component."""
        return second

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
        """These covariances, none of them below diag(floor), and which are held by the floor; the others as they are.

        So is that of a component that is not `alive`.
        """

    def free_scales(self, ratios: Float[Array, " k"], weights: Float[Array, " k"]) -> Float[Array, " k"]:
        """Factors, one for each, by which the best covariances may be multiplied and stay of this kind.

        As near to `ratios` as they may be: by default one for all, the mean by `weights`.
        """
        total = jnp.sum(weights)
        mean = jnp.where(total > 0, jnp.sum(weights * ratios) / jnp.where(total > 0, total, 1), 1)
        return jnp.broadcast_to(mean, ratios.shape)

    def information(self, weights: Float[Array, " k"], precisions: Float[Array, "k d"]) -> "Structure":
        """Diagonal of the Fisher information in the free coordinates, where component k has `weights[k]` of the rows.

        `precisions` are the diagonals of the inverse covariances. As in `Family`, the default suits free coordinates
        without units.
        """
        return jax.tree.map(jnp.ones_like, self)

    @abstractmethod
    def take(self, places: Places) -> "Structure":
        """The covariances of the components at these places."""

    @property
    def wishart(self) -> Wishart:
        """The conjugate distributions of the inverse of a covariance.

        It, `portions` and `pooled` are for priors of covariances; structures without one have none of them.
        """
        self._has_no_prior()

    def portions(self, present: Bool[Array, " k"]) -> Float[Array, " k"]:
        """Which share of a covariance each component has: those of one covariance add up to 1."""
        self._has_no_prior()

    def pooled(self, counts: Float[Array, " k"]) -> Float[Array, " k"]:
        """How many rows tell the covariance of each component."""
        self._has_no_prior()

    def _has_no_prior(self) -> NoReturn:
        raise NotImplementedError(
            f"{type(self).__name__} covariances have no conjugate prior. Posterior takes Prior(components=None), a "
            "prior of the weights alone."
        )

    def _has_mode_alone(self) -> NoReturn:
        raise NotImplementedError(
            f"{type(self).__name__} covariances have no distributions in closed form, which Variational needs. "
            "Posterior takes them."
        )

    @abstractmethod
    def n_parameters(self, n_components: int) -> int:
        """Number of free parameters of that many components together."""

    def expanded(self, means: Float[Array, "k d"]) -> Expanded | None:
        """Components with these means in a frame where rows have features for all of them; None if there is none."""
        return None

    def marginal(self, columns: ColumnIndices) -> "Structure":
        """The covariances of these columns, in this order."""
        return self.of_factor(self.factor.marginal(columns))

    def reshaped(self, change: Callable[[Any], Any]) -> "Structure":
        """With another factor of the same kind, which `change` makes of this one."""
        raise NotImplementedError(
            f"{type(self).__name__} covariances cannot be changed one by one and stay what they are. 'full', 'diag' "
            "and 'spherical' ones can, and those that are shared as a whole."
        )

    @property
    def regression(self) -> Float[Array, "k q d"]:
        """What q factors behind the columns are expected to be, of differences of a row from the mean."""
        raise NotImplementedError(
            f"{type(self).__name__} covariances have no factors; those of low rank have, such as 'lowrank-2'."
        )

    @property
    def about_means(self) -> bool:
        """Whether second moments are about the means alone, and can be moved to others."""
        return True

    @property
    def whitens(self) -> bool:
        """Whether a matrix of columns by columns is no more than it works with anyway."""
        return True

    def defined_by(self, n_columns: int) -> int:
        """How many rows, and one more, define the covariance of a component."""
        return n_columns

    def flat(self, scale: Float[Array, " d"], share: float) -> Bool[Array, " k"] | None:
        """Which components are flat: narrower in some direction than the data by `share`, of variances.

        None where it is to be told from the matrices.
        """
        return None


class Expandable(Structure):
    """A structure that has densities and moments also from features of the rows in one frame for all components."""

    @abstractmethod
    def expanded(self, means: Float[Array, "k d"]) -> Expanded: ...

    @abstractmethod
    def squares(self, coordinates: Float[Array, "d n"]) -> Float[Array, "q n"]:
        """The second-order features that the structure's quadratic forms are made of."""

    def spread(self, coordinates: Float[Array, "d n"], responsibilities: Float[Array, "n k"], projected: Any) -> Any:
        """What `second` needs of the rows beyond the sums of their features; `projected` by what `expanded` says."""
        return None

    @abstractmethod
    def second(
        self,
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


class Individual(Expandable):
    """Every component has a covariance of its own, `factor` has k roots, and moments are of each component.

    How much of these covariances the components share is another matter.
    """

    @property
    def wishart(self) -> Wishart:
        return self.factor.wishart

    def scatter(
        self, differences: Float[Array, "k n d"], responsibilities: Float[Array, "n k"]
    ) -> Float[Array, "k ..."]:
        return self.factor.scatter(differences, responsibilities, "k")

    def unwhitened(self, second: Float[Array, "..."]) -> Float[Array, "k ..."]:
        return self.factor.unwhitened(second, "k")

    def portions(self, present: Bool[Array, " k"]) -> Float[Array, " k"]:
        return present.astype(self.factor.half_log_det().dtype)

    def expanded(self, means: Float[Array, "k d"]) -> Expanded:
        frame = self.factor.frame(means)
        inside = frame.enter(means).T
        return Expanded(frame, inside, self.factor.expand(frame, inside))

    def squares(self, coordinates: Float[Array, "d n"]) -> Float[Array, "q n"]:
        return self.factor.squares(coordinates)

    def second(
        self,
        frame: Any,
        means: Float[Array, "k d"],
        counts: Float[Array, " k"],
        first: Float[Array, "k d"],
        squares: Float[Array, "k q"],
        spread: Any,
    ) -> Float[Array, "k ..."]:
        # S - s m^T - m s^T + N m m^T, as one symmetric pair of products.
        away = self.factor.cross(first - counts[:, None] * means / 2, means, "k")
        return frame.leave_moments(self.factor.moments_of(squares) - away)


class Parsimonious(Individual):
    """Covariances that share something, and so move together."""

    def floored(self: S, floor: Float[Array, " d"], alive: Bool[Array, " k"]) -> tuple[S, Bool[Array, " k"]]:
        factor = self.factor
        held = alive & ~factor.above(floor)
        ones = jnp.ones(alive.shape, floor.dtype)
        identity = jnp.broadcast_to(jnp.eye(floor.size, dtype=floor.dtype), (*alive.shape, floor.size, floor.size))
        # As rows that have these covariances would have it.
        raised, _ = self.maximize(ones, factor.unwhitened(identity, "k"), floor, alive)
        either: Any = pytree.where(jnp.any(held), raised, self)
        return either, held

    def pooled(self, counts: Float[Array, " k"]) -> Float[Array, " k"]:
        self._has_mode_alone()


def masked(second: Float[Array, "k ..."], alive: Bool[Array, " k"]) -> Float[Array, "k ..."]:
    """Second moments of the components that are `alive`, 0 for the others."""
    return jnp.where(jnp.reshape(alive, (-1, *[1] * (second.ndim - 1))), second, 0)


@record
class Each(Individual):
    """Every component has a covariance of its own.

    Fields: `factor`, of k roots.
    """

    factor: Any

    @staticmethod
    def batch(n_components: int) -> tuple[int, ...]:
        """The leading axes of the factor of so many components."""
        return (n_components,)

    def of_factor(self, factor: Root) -> "Each":
        return type(self)(factor)

    def reshaped(self, change: Callable[[Any], Any]) -> "Each":
        return type(self)(change(self.factor))

    def maximize(
        self,
        counts: Float[Array, " k"],
        scatter: Float[Array, "k ..."],
        floor: Float[Array, " d"],
        alive: Bool[Array, " k"],
    ) -> tuple["Each", Bool[Array, " k"]]:
        factor, held = self.factor.maximize(scatter, counts, floor, alive)
        return type(self)(factor), held & alive

    def free_scales(self, ratios: Float[Array, " k"], weights: Float[Array, " k"]) -> Float[Array, " k"]:
        return ratios

    def floored(self, floor: Float[Array, " d"], alive: Bool[Array, " k"]) -> tuple["Each", Bool[Array, " k"]]:
        factor, held = self.factor.floored(floor, alive)
        return type(self)(factor), held

    def information(self, weights: Float[Array, " k"], precisions: Float[Array, "k d"]) -> "Each":
        return type(self)(self.factor.information(weights, precisions))

    def take(self, places: Places) -> "Each":
        return jax.tree.map(lambda leaf: leaf[places], self)

    def pooled(self, counts: Float[Array, " k"]) -> Float[Array, " k"]:
        return counts

    def n_parameters(self, n_components: int) -> int:
        return n_components * self.factor.n_parameters


@record
class Shared(Expandable):
    """All components have the same covariance.

    Fields: `factor`, of one root.
    """

    factor: Any

    @staticmethod
    def batch(n_components: int) -> tuple[int, ...]:
        """The leading axes of the factor: none."""
        return ()

    def of_factor(self, factor: Root) -> "Shared":
        return type(self)(factor)

    def reshaped(self, change: Callable[[Any], Any]) -> "Shared":
        return type(self)(change(self.factor))

    def scatter(self, differences: Float[Array, "k n d"], responsibilities: Float[Array, "n k"]) -> Float[Array, "..."]:
        return self.factor.scatter(differences, responsibilities, "")

    def unwhitened(self, second: Float[Array, "..."]) -> Float[Array, "..."]:
        return self.factor.unwhitened(second, "")

    def gathered(self, second: Float[Array, "k ..."]) -> Float[Array, "..."]:
        return jnp.sum(second, axis=0)

    def maximize(
        self,
        counts: Float[Array, " k"],
        scatter: Float[Array, "..."],
        floor: Float[Array, " d"],
        alive: Bool[Array, " k"],
    ) -> tuple["Shared", Bool[Array, " k"]]:
        # The components' total weight, not n: rows may carry weights, and may belong to none of these components.
        weight = jnp.where(jnp.any(alive), jnp.sum(jnp.where(alive, counts, 0)), 1)
        factor, held = self.factor.maximize(scatter, weight, floor, jnp.any(alive))
        return type(self)(factor), held & alive

    def floored(self, floor: Float[Array, " d"], alive: Bool[Array, " k"]) -> tuple["Shared", Bool[Array, " k"]]:
        factor, held = self.factor.floored(floor, jnp.any(alive))
        return type(self)(factor), held & alive

    def information(self, weights: Float[Array, " k"], precisions: Float[Array, "k d"]) -> "Shared":
        # Every row tells the one covariance, whichever component it belongs to.
        return type(self)(self.factor.information(jnp.sum(weights), precisions[0]))

    def take(self, places: Places) -> "Shared":
        return self

    @property
    def wishart(self) -> Wishart:
        return self.factor.wishart

    def portions(self, present: Bool[Array, " k"]) -> Float[Array, " k"]:
        each = present.astype(self.factor.half_log_det().dtype)
        return each / jnp.maximum(jnp.sum(each), 1)

    def pooled(self, counts: Float[Array, " k"]) -> Float[Array, " k"]:
        return jnp.broadcast_to(jnp.sum(counts), counts.shape)

    def n_parameters(self, n_components: int) -> int:
        return self.factor.n_parameters

    def expanded(self, means: Float[Array, "k d"]) -> Expanded:
        frame = self.factor.own_frame(jax.lax.stop_gradient(jnp.mean(means, axis=0)))
        inside = frame.enter(means).T
        return Expanded(frame, inside, _euclidean(inside))

    def squares(self, coordinates: Float[Array, "d n"]) -> Float[Array, "1 n"]:
        return jnp.sum(coordinates**2, axis=0, keepdims=True)

    def spread(
        self, coordinates: Float[Array, "d n"], responsibilities: Float[Array, "n k"], projected: None
    ) -> Float[Array, "..."]:
        return self.factor.gram(coordinates, jnp.sum(responsibilities, axis=1))

    def second(
        self,
        frame: Any,
        means: Float[Array, "k d"],
        counts: Float[Array, " k"],
        first: Float[Array, "k d"],
        squares: Float[Array, "k 1"],
        spread: Float[Array, "..."],
    ) -> Float[Array, "..."]:
        away = self.factor.cross(first - counts[:, None] * means / 2, means, "")
        return frame.leave_moments(spread - away)


def _euclidean(means: Float[Array, "k d"]) -> Expansion:
    """In a frame that is the covariance itself, distances are Euclidean."""
    return Expansion(
        constant=-jnp.sum(means**2, axis=1) / 2,
        linear=means,
        quadratic=jnp.full((means.shape[0], 1), -0.5, means.dtype),
        steepest=jnp.ones((), means.dtype),
        cancellation=jnp.sqrt(jnp.sum((means**2 + 1) ** 2, axis=1)),
    )
