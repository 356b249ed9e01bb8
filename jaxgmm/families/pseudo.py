"""Conjugate priors of families of counts, answers and waiting times, and of products."""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxgmm.families.family import Family
from jaxgmm.families.product import named_columns
from jaxgmm.ground import checks
from jaxgmm.ground.pytree import record, static


@record
class PseudoRows:
    """Every component has so many rows more, which are alike: the conjugate prior of families without covariances.

    In `Bernoulli`, `Categorical` and `Multinomial` components they say every answer equally often, so probabilities
    have a Dirichlet distribution of 1 + rows / levels; of `Multinomial` they are single counts. Of `Poisson` and
    `Exponential` components they are `mean`, so rates have a gamma distribution, and means of times an inverse one. A
    component without rows is as the prior has it.

    Fields:
        rows: (), how many, in the unit of the weights of rows.
        mean: (d,), in the units of the data; by default their center. Nothing to families of probabilities.

    Source: Gelman et al. (2013), Bayesian Data Analysis, section 2.4.

    >>> import jax.numpy as jnp, jaxgmm
    >>> x = jnp.array([[1.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    >>> start = jaxgmm.from_responsibilities(x, jnp.ones((3, 1)), jaxgmm.Bernoulli.form())
    >>> prior = jaxgmm.Prior(components=jaxgmm.PseudoRows(2.0))
    >>> means = jaxgmm.fit(start, x, objective=jaxgmm.Posterior(prior)).mixture.means
    >>> [f"{mean:.2f}" for mean in means[0]]
    ['0.80', '0.40']
    """

    rows: Any = 1.0
    mean: Any = None

    @property
    def relative(self) -> bool:
        """Whether the data decide something of it."""
        return self.mean is None

    def checked(self, n_columns: int, dtype: Any, *, strict: bool) -> "PseudoRows":
        """With its numbers in `dtype`."""
        if strict:
            raise NotImplementedError(
                "Variational has closed forms of Gaussian components alone, with a NormalWishart prior; expected "
                "Posterior with PseudoRows."
            )
        rows = checks.scalar("rows", self.rows, dtype)
        if not checks.holds(lambda rows: 0 < rows < math.inf, rows):
            raise ValueError(f"rows is {float(rows)}; expected a positive number.")
        mean = None if self.mean is None else checks.vector("mean", self.mean, n_columns, "column").astype(dtype)
        return type(self)(checks.valid(rows, (rows > 0) & (rows < jnp.inf)), mean)

    def within(
        self, center: Float[Array, " d"], scale: Float[Array, " d"], n_components: Float[Array, ""]
    ) -> "PseudoRows":
        """With what the data decide."""
        # A center of 0 would be a rate of 0.
        mean = jnp.maximum(center, 0.1 * scale) if self.mean is None else self.mean
        return type(self)(self.rows, mean)

    def mode_moments(
        self, components: Family, counts: Float[Array, " k"], sums: Any, present: Bool[Array, " k"], unit: Any
    ) -> Any:
        """Sums that lead to the mode given the rows, in whose weights `unit` is 1."""
        return components.with_pseudo_rows(counts, sums, jnp.where(present, self.rows / unit, 0), self.mean)

    def log_density(self, components: Family, present: Bool[Array, " k"]) -> Float[Array, ""]:
        """Of the parameters, up to a constant that depends on the prior alone."""
        return self.rows * jnp.sum(jnp.where(present, components.log_density_of_pseudo_row(self.mean), 0))


@record
class ProductPrior:
    """What is known of each part of a `Product`: a prior of each, by its columns.

    Made by `ProductPrior.of`.

    Fields: `priors`, a tuple of a `NormalWishart` or `PseudoRows` each; `columns`, those of each of them, static.
    """

    priors: tuple[Any, ...]
    columns: tuple[tuple[int, ...], ...] = static()

    @classmethod
    def of(cls, priors: Any) -> "ProductPrior":
        """Columns and their priors, such as `{(0, 1): NormalWishart(), 2: PseudoRows()}`: of the parts of a product.

        Raises:
            TypeError, ValueError: no mapping, or columns that are no whole numbers.
        """
        if not isinstance(priors, Mapping) or not priors:
            raise TypeError(
                f"priors is {checks.found(priors)}; expected a mapping from columns to priors, such as "
                "{(0, 1): NormalWishart(), 2: PseudoRows()}."
            )
        for prior in priors.values():
            if isinstance(prior, type) or not hasattr(prior, "mode_moments"):
                raise TypeError(f"priors holds {prior!r}; expected a jaxgmm.NormalWishart or jaxgmm.PseudoRows.")
        return cls(tuple(priors.values()), tuple(map(named_columns, priors)))

    @property
    def relative(self) -> bool:
        """Whether the data decide something of it."""
        return any(prior.relative for prior in self.priors)

    def checked(self, n_columns: int, dtype: Any, *, strict: bool) -> "ProductPrior":
        """With its numbers in `dtype`."""
        if sorted(column for columns in self.columns for column in columns) != list(range(n_columns)):
            raise ValueError(
                f"priors are of the columns {self.columns}; expected each of the {n_columns} once, from 0."
            )
        parts = zip(self.priors, self.columns, strict=True)
        return self._with(prior.checked(len(columns), dtype, strict=strict) for prior, columns in parts)

    def within(
        self, center: Float[Array, " d"], scale: Float[Array, " d"], n_components: Float[Array, ""]
    ) -> "ProductPrior":
        """With what the data decide."""
        places = [np.array(columns) for columns in self.columns]
        return self._with(
            prior.within(center[of], scale[of], n_components) for prior, of in zip(self.priors, places, strict=True)
        )

    def mode_moments(
        self, components: Any, counts: Float[Array, " k"], sums: Any, present: Bool[Array, " k"], unit: Any
    ) -> tuple[Any, ...]:
        """Sums that lead to the mode given the rows, in whose weights `unit` is 1."""
        return tuple(
            prior.mode_moments(part, counts, own, present, unit)
            for prior, part, own in zip(self._of(components), components.parts, sums, strict=True)
        )

    def log_density(self, components: Any, present: Bool[Array, " k"]) -> Float[Array, ""]:
        """Of the parameters, up to a constant that depends on the prior alone."""
        pairs = zip(self._of(components), components.parts, strict=True)
        found: Array = sum(prior.log_density(part, present) for prior, part in pairs)
        return found

    def _of(self, components: Any) -> list[Any]:
        """Priors in the order of the parts."""
        if getattr(components, "columns", None) is None or set(components.columns) != set(self.columns):
            raise ValueError(
                f"priors are of the columns {self.columns}, and {type(components).__name__} components have the parts "
                f"{getattr(components, 'columns', 'none')}; expected a prior of each part."
            )
        return [self.priors[self.columns.index(columns)] for columns in components.columns]

    def _with(self, priors: Any) -> "ProductPrior":
        return type(self)(tuple(priors), self.columns)
