"""What a family of components must provide. A mixture, its seeding and its fit use nothing else."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.families.geometry import Geometry
from jaxgmm.families.support import AXES, RULES, Axis, Support, check_support
from jaxgmm.ground import checks, linalg
from jaxgmm.ground.pytree import ColumnIndices, Places
from jaxgmm.ground.rows import Evidence

T = TypeVar("T")

Views = tuple[tuple[ColumnIndices, Float[Array, "n c q"]], ...]
"""Coordinates of rows, q for each of some columns."""


def each_column(x: Float[Array, "n d"]) -> Views:
    """The columns, one coordinate for each."""
    return ((np.arange(x.shape[1]), x[:, :, None]),)


class Kernel(ABC):
    """What one pass over the rows needs of the components: a record that may hold quantities computed once per pass."""

    def read(self, rows: Evidence) -> Any:
        """What `log_prob` and `statistics` take of a block of rows, computed once for both. By default `rows.x`."""
        return rows.x

    @abstractmethod
    def log_prob(self, rows: Any) -> Float[Array, "n k"]:
        """Log-density of every row under every component; -inf where impossible, never NaN for finite rows."""

    @abstractmethod
    def statistics(self, rows: Any, responsibilities: Float[Array, "n k"]) -> Any:
        """Sums over rows that `maximize` needs besides the counts: a tree of arrays that adds up over rows."""

    def true_values(self, rows: Any) -> tuple[Float[Array, "k d n"], Float[Array, "k d d n"]]:
        """Mean and covariance of the true values of each row under each component, where only parts are known."""
        self._cannot("true_values")

    def roots_of_true_values(
        self, rows: Any, chosen: Int[Array, " n"]
    ) -> tuple[Float[Array, "n d"], Float[Array, "d d n"], Float[Array, " n"]]:
        """Mean and a root of the covariance of the true values of each row, and its squared distance.

        Under the component that is `chosen` for it, and but for what stretches its covariance.
        """
        self._cannot("roots_of_true_values")

    def draws_of_true_values(self, rows: Any, chosen: Int[Array, " n"], noise: Float[Array, "n d"]) -> Any:
        """What `completed` makes draws of: any arrays with rows on axis 0.

        By default, as `roots_of_true_values` tells them, the mean of the true values, how far a draw that normal
        `noise` makes is from it, and the squared distance.
        """
        means, roots, squares = self.roots_of_true_values(rows, chosen)
        return means, linalg.einsum("ijn,nj->ni", roots, noise), squares

    def _cannot(self, name: str) -> NoReturn:
        raise NotImplementedError(f"{type(self).__name__} has no {name}, which parts of rows are completed by.")

    def finish(self, counts: Float[Array, " k"], sums: Any) -> Any:
        """What `maximize` takes, from `statistics` summed over all rows of a pass."""
        return sums


@dataclasses.dataclass(frozen=True)
class Form:
    """A family, and what is decided about its components beforehand. Made by `Family.form`, such as `StudentT.form`.

    Hashable and compared by value: a program is compiled for it. Wherever a form is asked for, "full" is short for
    `Gaussian.form("full")`, and so on for all names of covariance structures.

    Fields: `family`; `options`, what its `blank` is given besides; `name`, as tables show it.

    >>> import jaxgmm
    >>> jaxgmm.StudentT.form("diag", nu=5).name
    'StudentT(diag, nu=5)'
    """

    family: type["Family"]
    options: tuple[tuple[str, Hashable], ...]
    name: str = dataclasses.field(compare=False)

    def blank(
        self,
        n_components: int,
        center: Float[Array, " d"],
        scale: Float[Array, " d"],
        extent: Float[Array, " d"] | None = None,
    ) -> "Family":
        """Equal components at the center of the data, as wide as these are, where seeding takes its statistics.

        What is behind them is as wide as the `extent` of the data, where it is given.
        """
        beside = {} if extent is None else {"extent": extent}
        return self.family.blank(n_components, center, scale, **dict(self.options), **beside)

    def view(self, x: Float[Array, "n d"]) -> Views | None:
        """Rows as seedings are to see them; None where columns are as they should be."""
        return self.family.view(x, **dict(self.options))

    @property
    def blur(self) -> float:
        """What share of every row seedings leave to all components alike."""
        return self.family.blur(**dict(self.options))

    def of_columns(self, columns: Sequence[int]) -> "Form":
        """What is left of it where only these columns are."""
        return self.family.form_of_columns(self, columns)

    def check(self, rows: Evidence, name: str = "x", **told: Any) -> None:
        """Refuse rows that hold what no component of this form could be of, where that can be seen.

        What is `told` is as for `check_support`.

        Raises:
            ValueError: there are such, named by row, column and what was found.
        """
        if self.family.support != "real":
            check_support(self.by_shapes(rows.x.shape[-1], rows.x.dtype), rows, name, **told)

    def by_shapes(self, n_columns: int, dtype: Any = np.float32) -> Any:
        """A component without numbers, which knows what values its columns may hold."""
        one = jax.ShapeDtypeStruct((n_columns,), dtype)
        return jax.eval_shape(lambda at, wide: self.blank(1, at, wide), one, one)

    @property
    def n_background(self) -> int:
        """How many components its `blank` has beyond those that were asked for."""
        return self.family.n_background

    def with_background(self, present: Bool[Array, " k"]) -> Bool[Array, " _"]:
        """Which components are present, beside clusters of which these are: what is behind them always is."""
        return jnp.concatenate([present, jnp.ones(self.n_background, bool)]) if self.n_background else present

    def __str__(self) -> str:
        return self.name


class Family(Geometry, Kernel):
    """Components of one family, stacked on axis 0: a record whose leaves are parameters. By default its own kernel."""

    support: ClassVar[Support] = "real"
    """What numbers a row may hold; other libraries are told so. "counts" are whole and not negative, "unit" is what is
    between 0 and 1, and "codes" are whole numbers from 0 that stand for names."""

    n_background: ClassVar[int] = 0
    """How many of the components, the last ones, are no clusters but what is behind them, and cannot degenerate."""

    if TYPE_CHECKING:
        # Fields or properties, as suits the family; declared here they would get in a field's way.
        @property
        def means(self) -> Array:
            """Expectation of each component, (k, d)."""

        @property
        def covariances(self) -> Array:
            """Covariance of each component, (k, d, d)."""

    @property
    def centers(self) -> Float[Array, "*batch k d"]:
        """A row in the middle of each component, (k, d): by default its mean, and elsewhere one that is likely."""
        return jnp.asarray(self.means)

    @property
    def n_columns(self) -> int:
        """Number of columns of the data, d."""
        return int(self.centers.shape[-1])

    @classmethod
    def view(cls, x: Float[Array, "n d"], **options: Any) -> Views | None:
        """Rows in coordinates in which near ones belong together, for seedings; None if columns are as they should be.

        q coordinates for each of some columns, as (columns, (n, c, q)). `options` are those of the form.
        """
        return None

    @classmethod
    def blur(cls, **options: Any) -> float:
        """What share of every row seedings leave to all components alike, where clusters alone are a bad start.

        `options` are those of the form.
        """
        return 0.0

    def impossible(self, x: np.ndarray) -> np.ndarray | None:
        """Which entries of rows (n, d) are none that these components could be of, in numpy; None if they may be any.

        Asked of components without numbers as well, by their shapes alone. By default what `support` says.
        """
        return ~RULES[self.support].holds(x) if self.support in RULES else None

    def expects(self, column: int) -> str:
        """What these components are of in a column, as a sentence without its end."""
        return f"{type(self).__name__} components are of {RULES[self.support].words}"

    def axis(self, column: int) -> Axis:
        """Where the numbers of a column lie: from where to where, whether they are whole, and whether they go around.

        By default what `support` says.
        """
        return AXES.get(self.support, Axis())

    @property
    def dispersions(self) -> Float[Array, "*batch k d d"]:
        """How wide each component is, (k, d, d), in squared units of the data: by default its covariance.

        For components of which that may be infinite, matrices in proportion to what it would be.
        """
        return self.covariances

    def variances(self) -> Float[Array, "*batch k d"]:
        """How wide each component is in each column: the diagonals of its `dispersions`."""
        return jnp.diagonal(self.dispersions, axis1=-2, axis2=-1)

    @property
    def whitens(self) -> bool:
        """Whether seedings that make a matrix of columns by columns suit these components."""
        return True

    @property
    def defined_by(self) -> int:
        """How many rows, and one more, define a component: fewer leave it flat. By default one for each column."""
        return self.n_columns

    def flat(self, scale: Float[Array, " d"], correlation: Float[Array, "d d"], share: float) -> Bool[Array, " k"]:
        """Which components are narrower in some direction than the data by this `share`, of variances.

        The covariance of the data has `correlation` as its factor in units of the `scale` of the columns.
        """
        covariances = self.dispersions / scale[:, None] / scale[None, :]
        whitener = linalg.tril_inverse(correlation)
        relative = linalg.einsum("ij,kjl,ml->kim", whitener, covariances, whitener)
        # Wider than that in every direction is what has a factor after so much was taken away: no need of eigenvalues.
        wide = jnp.isfinite(linalg.cholesky(relative - share * jnp.eye(scale.size, dtype=scale.dtype)))
        return ~jnp.all(wide, axis=(1, 2))

    @property
    def clusters(self) -> "Family":
        """The components without the background."""
        return self

    def with_clusters(self, clusters: Any) -> "Family":
        """The same with other clusters, before the same background."""
        return clusters

    def among_clusters(self, marks: Bool[Array, " k"]) -> Bool[Array, " k"]:
        """The marks of components that are clusters, and none of others."""
        return marks.at[-self.n_background :].set(False) if self.n_background else marks

    @classmethod
    def form(cls, *names: Any, **options: Any) -> Form:
        """What `init` and others fit: this family, with the options that its `blank` takes."""
        if names:
            raise TypeError(f"{cls.__name__}.form was given {names!r}; expected options by their names.")
        options = dict(sorted(options.items()))
        try:
            hash(tuple(options.values()))
        except TypeError as error:
            raise TypeError(
                f"{cls.__name__}.form: {error}; expected options that a program can be compiled for."
            ) from None
        shown = ", ".join(f"{name}={value}" for name, value in options.items())
        return Form(cls, tuple(options.items()), f"{cls.__name__}({shown})" if shown else cls.__name__)

    @classmethod
    def form_of_columns(cls, form: Form, columns: Sequence[int]) -> Form:
        """A form of this family, of some of the columns: by default the same, as it says the same of all."""
        return form

    @classmethod
    @abstractmethod
    def blank(
        cls, n_components: int, center: Float[Array, " d"], scale: Float[Array, " d"], *names: Any, **options: Any
    ) -> "Family":
        """Equal components at the data's column means and scales, where seeding takes its statistics.

        Rows far out count less in both than in means and standard deviations. `options` are those of the `form`.
        """

    def with_kernel(self, use: Callable[[Kernel], T]) -> T:
        """`use(kernel)` for the components made ready for a pass over many rows.

        A family that has several kernels chooses by its parameters, with `lax.cond`; so `use` is traced once for each.
        """
        return use(self)

    def with_kernel_of_parts(self, rows: Evidence, use: Callable[[Kernel, Evidence], T]) -> T:
        """`use(kernel, rows)` for rows of which only a part is known: entries are unseen, or have errors.

        `rows` are in blocks; they may come back with more in them for the kernel's `read`. By default a family is asked
        for whole rows alone.
        """
        what = "gaps" if rows.noise is None else "noise"
        raise NotImplementedError(
            f"{type(self).__name__} components have no densities of rows with {what}. Gaussian components have; or "
            "give the family a method with_kernel_of_parts, as described for jaxgmm.Family."
        )

    def with_pseudo_rows(
        self, counts: Float[Array, " k"], sums: Any, rows: Float[Array, " k"], mean: Float[Array, " d"]
    ) -> Any:
        """Statistics with so many `rows` more, which are alike: even where probabilities are, and elsewhere `mean`."""
        self._cannot_be_pseudo()

    def log_density_of_pseudo_row(self, mean: Float[Array, " d"]) -> Float[Array, " k"]:
        """Expected log-density of such a row, up to a constant."""
        self._cannot_be_pseudo()

    def _cannot_be_pseudo(self) -> NoReturn:
        raise NotImplementedError(
            f"{type(self).__name__} components have no conjugate prior for PseudoRows to be. Posterior takes "
            "Prior(components=None), a prior of the weights alone."
        )

    @property
    def leaps_are_floored(self) -> bool:
        """Whether what is below the floor after a leap is put back to it, as components at it are not told as held."""
        return False

    def sample_stretch(self, key: jax.Array, squares: Array, n_columns: Any, labels: Int[Array, " n"]) -> Array | None:
        """A draw of what stretches covariances of true values, of one row of component `labels[i]` for each i."""
        return None

    def completed(
        self, key: jax.Array, drawn: Any, labels: Int[Array, " n"], seen: Bool[Array, "n d"]
    ) -> Float[Array, "n d"]:
        """Rows of components `labels` as draws have them, of what `draws_of_true_values` gave: what is seen aside."""
        means, away, squares = drawn
        stretch = self.sample_stretch(key, squares, jnp.sum(seen, axis=1), labels)
        return means + (away if stretch is None else away * jnp.sqrt(stretch)[:, None])

    def needs_centring(self) -> Bool[Array, ""]:
        """Whether `maximize` needs digits that statistics taken by components elsewhere do not have."""
        return jnp.zeros((), bool)

    @abstractmethod
    def maximize(
        self,
        counts: Float[Array, " k"],
        statistics: Any,
        alive: Bool[Array, " k"],
        floor: Float[Array, " d"],
    ) -> tuple["Family", Bool[Array, " k"]]:
        """Maximum of the expected log-likelihood given `statistics` taken by this object, and which the floor holds.

        `counts` are positive, also where a component is not `alive`; such a component keeps its parameters.
        `floor` is the least variance of each column, in squared units of the data and the same at every step; a
        component at it is held.
        """

    def recentred(self, counts: Float[Array, " k"], statistics: Any, other: Any) -> Any:
        """`statistics` taken by this object as `other` would take them for the same responsibilities.

        By default they are the same, as those are that are about no place of the components.
        """
        return statistics

    def floored(self, floor: Float[Array, " d"], alive: Bool[Array, " k"]) -> tuple["Family", Bool[Array, " k"]]:
        """These components, none of them below the `floor` that `maximize` keeps, and which are held by it.

        A component that is not `alive` stays as it is. By default there is no floor.
        """
        return self, jnp.zeros(self.centers.shape[:1], bool)

    @abstractmethod
    def sample(self, key: jax.Array, labels: Int[Array, " n"]) -> Float[Array, "n d"]:
        """One row from component `labels[i]` for each i."""

    def information(self, weights: Float[Array, " k"]) -> "Family":
        """How sharply a row tells each free coordinate: a record of the same type, of inverse squared units.

        Ideally the diagonal of the expected curvature of the log-density, where component k has `weights[k]` of the
        rows. It measures changes of the parameters when a fit is accelerated. The default suits coordinates that have
        no units, such as logarithms.
        """
        return jax.tree.map(jnp.ones_like, self)

    def take(self, places: Places) -> "Family":
        """The components at these places, in this order. By default every leaf's, along axis 0."""
        places = checks.places("places", places, self.centers.shape[0], "component")
        return jax.tree.map(lambda leaf: leaf[places], self)

    @abstractmethod
    def n_parameters(self, n_components: int) -> int:
        """Number of free parameters of that many components together."""
