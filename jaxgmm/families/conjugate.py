"""The conjugate prior of components with a location and a covariance."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxgmm.covariance.structure import Structure
from jaxgmm.families.family import Family
from jaxgmm.families.kernels import Moments
from jaxgmm.ground import checks, linalg, special
from jaxgmm.ground.pytree import record


@record
class NormalWishart:
    """Where means and covariances of components are expected, and how firmly: their conjugate prior.

    Given the covariance S of a component, its mean is normal about `mean` with covariance S / pseudo_rows. The inverse
    of S has a Wishart distribution of so many `degrees` of freedom, and S an inverse one, of density in proportion to
    det(S)^-((degrees + d + 1) / 2) exp(-tr(scatter S^-1) / 2). Of "diag" and "tied-diag" each variance has such a
    distribution in one dimension with the diagonal of the scatter, and of "spherical" and "tied-spherical" the one
    variance has, with the mean of that diagonal. A covariance that is shared has one, and means have theirs given it.

    Numbers are in the units of the data, None for what the data decide.

    Fields:
        mean: (d,); by default the center of the data, to which rows far out hardly matter.
        pseudo_rows: (), for how many rows at `mean` it counts. With 0, which `Posterior` takes, nothing is known of
            means.
        degrees: (), above d - 1; by default d + 2.
        scatter: (d, d), the diagonal (d,) of such a matrix, or one number for all of its diagonal, in squared units; by
            default the squared `scale_of` each column, and for `Posterior` that divided by the number of components to
            the power 2 / d, so that as many of that size fill the space that the data do. For `Variational` their
            number is only the largest that there may be.

    The default depends on the data by their location and scale alone, so it has no units, and covariances with it need
    no floor: a component without rows has the prior's own.

    Source: Fraley & Raftery (2007), J. Classif. 24.
    """

    mean: Any = None
    pseudo_rows: Any = 0.01
    degrees: Any = None
    scatter: Any = None

    @property
    def relative(self) -> bool:
        """Whether the data decide something of it."""
        return self.mean is None or self.degrees is None or self.scatter is None

    def checked(self, n_columns: int, dtype: Any, *, strict: bool) -> "NormalWishart":
        """With its numbers in `dtype`; `strict` if it has to be a distribution, of means as well."""
        rows = checks.scalar("pseudo_rows", self.pseudo_rows, dtype)
        if not checks.holds(lambda rows: rows < np.inf and (rows > 0 or not strict), rows):
            why = ", as the means must have a distribution" if strict else " or 0"
            raise ValueError(f"pseudo_rows is {float(rows)}; expected a positive number{why}.")
        rows = checks.valid(rows, (rows > 0 if strict else rows >= 0) & (rows < jnp.inf))
        degrees = self.degrees
        if degrees is not None:
            degrees = checks.scalar("degrees", degrees, dtype)
            if not checks.holds(lambda degrees: n_columns - 1 < degrees < np.inf, degrees):
                raise ValueError(
                    f"degrees is {float(degrees)}; expected more than {n_columns - 1}, one less than there are columns."
                )
            degrees = checks.valid(degrees, (degrees > n_columns - 1) & (degrees < jnp.inf))
        mean = None if self.mean is None else checks.vector("mean", self.mean, n_columns, "column")
        return type(self)(
            mean=None if mean is None else mean.astype(dtype),
            pseudo_rows=rows,
            degrees=degrees,
            scatter=None if self.scatter is None else _matrix(self.scatter, n_columns, dtype),
        )

    def within(
        self, center: Float[Array, " d"], scale: Float[Array, " d"], n_components: Float[Array, ""]
    ) -> "NormalWishart":
        """With what the data decide, if so many components are to fill the space that they do."""
        scatter, d = self.scatter, scale.size
        if scatter is None:
            scatter = jnp.diag(scale**2 * n_components ** (-2 / d))
        return type(self)(
            mean=center if self.mean is None else self.mean,
            pseudo_rows=self.pseudo_rows,
            degrees=jnp.asarray(d + 2, scale.dtype) if self.degrees is None else self.degrees,
            scatter=scatter,
        )

    def mode_moments(
        self, components: Family, counts: Float[Array, " k"], moments: Any, present: Bool[Array, " k"], unit: Any
    ) -> Moments:
        """Moments that lead to the mode given the rows, in whose weights `unit` is 1."""
        dimension, _, per_row = _structure(components).wishart
        known = jnp.where(self.pseudo_rows > 0, 1, 0)
        return self._added(components, counts, moments, present, unit, (self.degrees + dimension + 1) / per_row, known)

    def mean_moments(
        self, components: Family, counts: Float[Array, " k"], moments: Any, present: Bool[Array, " k"], unit: Any
    ) -> Moments:
        """Moments that lead to the expectation of means and of precisions given the rows and their components."""
        per_row = _structure(components).wishart.per_row
        if moments.mass is not None:
            raise NotImplementedError(
                f"Variational has no closed form for {type(components).__name__} components, each row of which has a "
                "scale that is not known. Posterior takes them, and Variational takes Gaussian ones."
            )
        return self._added(components, counts, moments, present, unit, self.degrees / per_row, 0)

    def log_density(self, components: Family, present: Bool[Array, " k"]) -> Float[Array, ""]:
        """Of the parameters, up to a constant that depends on the prior alone."""
        structure = _structure(components)
        dimension, _, per_row = structure.wishart
        log_dets = 2 * jnp.broadcast_to(structure.factor.half_log_det(), present.shape)
        away = self.pseudo_rows * self._squares(components)
        known = jnp.where(self.pseudo_rows > 0, log_dets, 0)
        trace = self._trace(structure, present.size)
        spread = ((self.degrees + dimension + 1) * log_dets + trace) / per_row
        portions = structure.portions(present)
        return -jnp.sum(jnp.where(present, portions * spread + known + away, 0)) / 2

    def offset(self, components: Family, counts: Float[Array, " k"]) -> Float[Array, " k"]:
        """By how much the expected log-density of a row exceeds that at the expected mean and precision.

        `counts` are weights of rows that each component has.
        """
        structure = _structure(components)
        dimension, blocks, per_row = structure.wishart
        degrees, _ = self.degrees_of(components, counts)
        spread = per_row * blocks * special.log_expectation(degrees, dimension)
        return (spread - components.means.shape[1] / (self.pseudo_rows + counts)) / 2

    def degrees_of(
        self, components: Family, counts: Float[Array, " k"]
    ) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
        """Degrees of freedom of each precision given so many rows, and of the t distributions that follow from it."""
        structure = _structure(components)
        dimension, _, per_row = structure.wishart
        degrees = self.degrees + per_row * structure.pooled(counts)
        return degrees, degrees + 1 - dimension

    def divergence(
        self, components: Family, counts: Float[Array, " k"], present: Bool[Array, " k"]
    ) -> Float[Array, ""]:
        """KL divergence from the distribution of all means and precisions given rows to the prior."""
        structure = _structure(components)
        dimension, blocks, per_row = structure.wishart
        k, d = components.means.shape
        kind = type(structure.factor)
        root = _root(self.scatter)
        kept = kind.scatter(root.T[None], jnp.full((d, 1), 1 / per_row, root.dtype), "")
        own = kind.of_covariances(kept, d).half_log_det()
        ratio = 2 / per_row * (own - jnp.broadcast_to(structure.factor.half_log_det(), (k,)))
        spread = special.wishart_divergence(
            self.degrees_of(components, counts)[0],
            self.degrees,
            dimension,
            blocks,
            ratio,
            self._trace(structure, k) / per_row,
        )
        share = self.pseudo_rows / (self.pseudo_rows + counts)
        means = d * (share - 1 - jnp.log(share)) + self.pseudo_rows * self._squares(components)
        return jnp.sum(jnp.where(present, structure.portions(present) * spread + means / 2, 0))

    def _added(
        self,
        components: Family,
        counts: Float[Array, " k"],
        moments: Moments,
        present: Bool[Array, " k"],
        unit: Any,
        degrees: Float[Array, ""],
        known: Any,
    ) -> Moments:
        """With `pseudo_rows` at the mean, and the scatter, which counts for so many degrees beside `known` means."""
        structure = _structure(components)
        per_row = structure.wishart.per_row
        portions = structure.portions(present)
        away = self.mean - components.means
        mass = self.pseudo_rows / unit
        rows = jnp.where(present, mass, 0)
        columns = jnp.broadcast_to(_root(self.scatter).T, (counts.size, *self.scatter.shape))
        scatter = structure.scatter(columns, jnp.broadcast_to(portions / per_row / unit, (away.shape[1], counts.size)))
        return Moments(
            first=moments.first + rows[:, None] * away,
            second=moments.second + structure.scatter(away[:, None, :], rows[None, :]) + scatter,
            mass=(counts if moments.mass is None else moments.mass) + mass,
            tails=moments.tails,
            degrees=counts + (portions * degrees + jnp.where(present, known, 0)) / unit,
        )

    def _squares(self, components: Family) -> Float[Array, " k"]:
        """Squared distances of the means to the expected one."""
        away = (components.means - self.mean)[:, None, :]
        return jnp.sum(_structure(components).factor.inverse().times(away) ** 2, axis=(1, 2))

    def _trace(self, structure: Structure, n_components: int) -> Float[Array, " k"]:
        """Of the scatter times each precision, of dense matrices."""
        columns = jnp.broadcast_to(_root(self.scatter).T, (n_components, *self.scatter.shape))
        return jnp.sum(structure.factor.inverse().times(columns) ** 2, axis=(1, 2))


def _root(scatter: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """Its Cholesky factor, whatever the units of the columns; NaN if it is not positive definite."""
    unit = jnp.sqrt(jnp.diagonal(scatter))
    return unit[:, None] * linalg.cholesky(scatter / unit[:, None] / unit)


def _structure(components: Family) -> Structure:
    structure = getattr(components, "structure", None)
    if structure is None:
        raise NotImplementedError(
            f"{type(components).__name__} components have no means and covariances for NormalWishart to be the prior "
            "of. Posterior takes Prior(components=jaxgmm.PseudoRows()) of counts and answers, a jaxgmm.ProductPrior of "
            "tables, and Prior(components=None), a prior of the weights alone."
        )
    return structure


def _matrix(value: Any, n_columns: int, dtype: Any) -> Float[Array, "d d"]:
    """A positive definite matrix, given as such, by its diagonal, or by one number."""
    given = checks.real_array("scatter", value).astype(dtype)
    shapes = ((), (n_columns,), (n_columns, n_columns))
    if given.shape not in shapes:
        raise ValueError(
            f"scatter has shape {given.shape}; expected () for one number, ({n_columns},) for a diagonal, or "
            f"({n_columns}, {n_columns})."
        )
    matrix = given if given.ndim == 2 else jnp.diag(jnp.broadcast_to(given, (n_columns,)))
    if given.ndim == 2:
        matrix = checks.symmetric("scatter", matrix)

    def definite(matrix: np.ndarray) -> Any:
        return np.all(np.isfinite(matrix)) and np.all(np.linalg.eigvalsh(matrix) > 0)

    if not checks.holds(definite, matrix):
        raise ValueError("scatter is not positive definite; expected a matrix that a covariance could be.")
    return matrix
