"""What scikit-learn's estimators climb, as they define it."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxgmm.covariance.structure import Structure
from jaxgmm.families.gaussian import log_normalizer
from jaxgmm.families.kernels import Moments
from jaxgmm.ground.pytree import Leaf, record, static
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.objective import Objective
from jaxgmm.model.statistics import Statistics
from jaxgmm.sklearn.certainty import CONCENTRATIONS, Certainty


@record
class Ridge(Objective):
    """scikit-learn's likelihood: covariances are larger by `amount` () times the identity, `reg_covar` of its users.

    That is no prior: what is added grows with the rows that a component has, and the likelihood may fall.
    """

    amount: Leaf

    def sums(self, mixture: Mixture, counts: Float[Array, " k"], sums: Moments) -> Moments:
        # Those of rows of each component that lie, in every column, one standard deviation off its new mean.
        clusters: Any = mixture.components.clusters
        k, d = clusters.means.shape
        away = jnp.sqrt(self.amount) * jnp.broadcast_to(jnp.eye(d, dtype=self.amount.dtype), (k, d, d))
        second = clusters.covariance.scatter(away, jnp.broadcast_to(counts if counts.size == k else counts[:k], (d, k)))
        return dataclasses.replace(sums, second=sums.second + second)

    def certainty(self, mixture: Mixture, counts: Float[Array, " k"]) -> Certainty | None:
        """What the mixture does not say of the step that such components, of so many rows, lead to."""
        return None

    def reference(self, bound: Float[Array, ""]) -> Float[Array, ""]:
        """What log-densities are counted from in the step after one with this bound."""
        # So that their sum rounds less than the bound itself.
        return jnp.where(jnp.isfinite(bound), bound, 0)

    def bound(
        self, mixture: Mixture, reference: Float[Array, ""], statistics: Statistics, total: Any, after: Mixture
    ) -> Float[Array, ""]:
        """What a step is judged by: of a `mixture`, its statistics of rows of a `total` weight, and the one after."""
        return reference + statistics.log_likelihood / total


@record
class Bayes(Ridge):
    """scikit-learn's lower bound of the evidence. The mixtures that it passes take responsibility for rows.

    That is, they are the expected ones with the weights of `Certainty.log_weights`. Of "full" covariances, updates are
    those of `jaxgmm.Variational`, but for `amount`. Of the others they are scikit-learn's own: a shared covariance has
    as many rows as a component has on average, and one of a single variance counts rows, not entries. The bound is
    scikit-learn's too, which leaves out constants and, where `amount` is not 0, may fall.

    Fields: `concentration` (), `mean` (d,), `mean_precision` (), `degrees` () and `scatter`, as covariances are kept:
    the priors; `unit` (), weight by which those of the rows were divided; `prior_type`, of the weights, by its name in
    scikit-learn.
    """

    concentration: Leaf
    mean: Leaf
    mean_precision: Leaf
    degrees: Leaf
    scatter: Leaf
    unit: Leaf
    prior_type: str = static()

    @property
    def sustains(self) -> bool:
        return True

    def certainty(self, mixture: Mixture, counts: Float[Array, " k"]) -> Certainty:
        counts = self.unit * counts
        structure, portions = _shared(mixture)
        return Certainty(
            concentration=CONCENTRATIONS[self.prior_type].of(self.concentration, counts),
            mean_precision=self.mean_precision + counts,
            degrees=self.degrees + structure.pooled(counts) * portions,
        )

    def log_weights(self, mixture: Mixture, counts: Float[Array, " k"], alive: Bool[Array, " k"]) -> Float[Array, " k"]:
        return self.certainty(mixture, counts).log_weights(mixture.n_columns)

    def sums(self, mixture: Mixture, counts: Float[Array, " k"], sums: Moments) -> Moments:
        counts, sums = jax.tree.map(lambda leaf: self.unit * leaf, (counts, sums))
        sums = super().sums(mixture, counts, sums)
        structure, portions = _shared(mixture)
        away = self.mean - mixture.means
        rows = jnp.broadcast_to(self.mean_precision, counts.shape)
        pseudo = structure.scatter(away[:, None, :], rows[None, :])
        # A prior for each component, of moments that are summed over the columns where they are kept so.
        scatter = self.scatter * (structure.factor.wishart.per_row / portions[0])
        return Moments(
            first=sums.first + rows[:, None] * away,
            second=sums.second + pseudo + scatter,
            mass=counts + rows,
            degrees=counts + self.degrees,
        )

    def reference(self, bound: Float[Array, ""]) -> Float[Array, ""]:
        return jnp.zeros_like(bound)

    def bound(
        self, mixture: Mixture, reference: Float[Array, ""], statistics: Statistics, total: Any, after: Mixture
    ) -> Float[Array, ""]:
        certainty = self.certainty(mixture, statistics.counts)
        half_log_dets = jnp.broadcast_to(_shared(after)[0].factor.half_log_det(), statistics.counts.shape)
        # Of the responsibilities, and of what is not known of the rows.
        entropy = statistics.log_likelihood - _expected(mixture, statistics)
        bound = self.unit * entropy + certainty.log_volume(half_log_dets, mixture.n_columns)
        # Where no component has any density, there are no responsibilities either.
        return jnp.where(jnp.isfinite(statistics.log_likelihood), bound, statistics.log_likelihood)


def _shared(mixture: Mixture) -> tuple[Structure, Float[Array, " k"]]:
    """The covariances, and which share of one each component has."""
    components: Any = mixture.components
    return components.covariance, components.covariance.portions(jnp.ones(mixture.n_components, bool))


def _expected(mixture: Mixture, statistics: Statistics) -> Float[Array, ""]:
    """Sum over rows of the expected log-density of the row as if it were whole, and of its component."""
    structure, portions = _shared(mixture)
    k, d = mixture.means.shape
    columns = jnp.broadcast_to(jnp.eye(d, dtype=mixture.means.dtype), (k, d, d))
    roots = jnp.swapaxes(structure.factor.inverse().times(columns), 1, 2)
    precisions = structure.scatter(roots, jnp.broadcast_to(portions / structure.factor.wishart.per_row, (d, k)))
    at_means = mixture.log_weights + log_normalizer(mixture.means, structure)
    return jnp.sum(statistics.counts * at_means) - jnp.sum(precisions * statistics.sums.second) / 2
