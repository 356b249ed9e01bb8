"""What a fit climbs: a small record, which only adds to what the likelihood is made of."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxgmm.families.conjugate import NormalWishart
from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.ground.rows import Evidence
from jaxgmm.model.mixture import Mixture, of_clusters
from jaxgmm.model.proportions import Dirichlet
from jaxgmm.model.scale import spread_from


@record
class Objective:
    """The log-likelihood of the rows, and what others that a fit can climb may change in it.

    A fit climbs (sum over rows of w log p(row)) + `penalty`, with the densities of the mixture that `read_by` gives.
    Each step takes the M-step that the statistics of the rows lead to with what `sums` and `log_weights` make of them,
    which must not lower that. What is None is not in the program. The type is static and its fields are traced, so that
    other values compile nothing.
    """

    @property
    def sustains(self) -> bool:
        """Whether components stand without rows, as they do where there is a prior on all they consist of."""
        return False

    @property
    def relative(self) -> bool:
        """Whether the data decide something of it, which `within` then settles."""
        return False

    @property
    def reshapes(self) -> bool:
        """Whether `placed` may take covariances off the floor, or below it."""
        return False

    @property
    def all_free(self) -> bool:
        """Whether criteria count every parameter of a mixture."""
        return True

    @property
    def given(self) -> Bool[Array, " k"] | None:
        """Which components are known but for their weights, and so cannot degenerate; None if none is."""
        return None

    def within(self, center: Float[Array, " d"], scale: Float[Array, " d"], present: Bool[Array, " k"]) -> "Objective":
        """Settled for data of this center and scale, and for the clusters that are `present`."""
        return self

    @property
    def sighted(self) -> bool:
        """Whether it is about rows alone of which something is known."""
        return False

    def rows_of(self, rows: Evidence) -> Evidence:
        """The rows that it is about, of these: the others have weight 0."""
        return rows.told if self.sighted else rows

    def counting(self, total: Float[Array, ""]) -> "Objective":
        """For rows of so much weight in all."""
        return self

    def over(self, unit: Float[Array, ""]) -> "Objective":
        """The same over `unit`, of rows whose weights are divided by it."""
        return self

    def checked(self, n_components: int, n_columns: int, dtype: Any) -> "Objective":
        """With its numbers in `dtype`; `ValueError` where they are none that k components can have."""
        return self

    def read_by(self, mixture: Mixture) -> Mixture:
        """What takes responsibility for rows: the mixture, or one whose weights need not sum to one."""
        return mixture

    def penalty(self, mixture: Mixture) -> Float[Array, ""] | None:
        """What is added to the log-likelihood, such as the logarithm of a prior."""
        return None

    def log_weights(
        self, mixture: Mixture, counts: Float[Array, " k"], alive: Bool[Array, " k"]
    ) -> Float[Array, " k"] | None:
        """Logarithms of the weights that components of so many rows get; None for their shares in the rows.

        One that is not `alive` has so few that it may be none.
        """
        return None

    def sums(self, mixture: Mixture, counts: Float[Array, " k"], sums: Any) -> Any:
        """What parameters are estimated from, of the sums over rows about the mixture's means."""
        return sums

    def placed(self, mixture: Mixture) -> Mixture:
        """The mixture with all in its place that is known of it."""
        return mixture

    def n_parameters(self, mixture: Mixture) -> Any:
        """Number of free parameters of such a mixture, as criteria count them, of an objective that is settled."""
        return mixture.n_parameters


@record
class Prior:
    """What is known of the parameters of a mixture beforehand.

    Fields: `weights`, a `Dirichlet` or, for `Variational`, a `StickBreaking`; `components`, a `NormalWishart`, for
    `Posterior` alone `PseudoRows` or a `ProductPrior`, or None where nothing is known of what they are.

    >>> import jaxgmm
    >>> jaxgmm.Prior(jaxgmm.Dirichlet(2.0)).components.pseudo_rows
    0.01
    """

    weights: Any = Dirichlet()
    components: Any = NormalWishart()


@record
class Posterior(Objective):
    """The log-likelihood and the logarithm of a `prior` on the parameters: a fit ends at the posterior's mode (MAP).

    Where few rows say little, the prior decides, so a component on a handful of rows keeps its size. With n_k rows of
    mean c_k and scatter A_k about it, the mode of a component's mean is (n_k c_k + kappa m) / (n_k + kappa), that of a
    "full" covariance (Lambda + A_k + kappa n_k / (kappa + n_k) b b^T) / (nu + n_k + d + 2) with b = c_k - m; with kappa
    the `pseudo_rows`, nu the `degrees`, Lambda the `scatter` and m the `mean` of a `NormalWishart`. The weight is
    (n_k + a_k - 1) / (n + sum of a - k). What is climbed is known up to a constant that depends on the prior alone, and
    criteria such as `bic` are of the likelihood.

    Fields: `prior`, a `Prior`; `unit`, weight by which that of a row was divided, 1 where None.

    Sources: Gauvain & Lee (1994), IEEE Trans. Speech Audio Process. 2; Fraley & Raftery (2007), J. Classif. 24.

    >>> import jax, jaxgmm
    >>> x = jax.random.normal(jax.random.key(0), (300, 1)).at[:3].set(8.0)  # a component on three equal rows
    >>> start = jaxgmm.from_parameters([0.9, 0.1], [[0.0], [8.0]], [1.0, 0.5], "spherical")
    >>> for objective in (None, jaxgmm.Posterior()):
    ...     result = jaxgmm.fit(start, x, objective=objective)
    ...     print(jaxgmm.Status(int(result.status)).name, f"{result.mixture.covariances[1, 0, 0] ** 0.5:.3f}")
    DEGENERATE 0.001
    CONVERGED 0.313
    """

    prior: Any = Prior()
    unit: Leaf | None = None

    @property
    def sustains(self) -> bool:
        return self.prior.components is not None

    @property
    def relative(self) -> bool:
        return _relative(self.prior)

    def within(self, center: Float[Array, " d"], scale: Float[Array, " d"], present: Bool[Array, " k"]) -> "Posterior":
        return dataclasses.replace(self, prior=_within(self.prior, center, scale, present, flat=True))

    def over(self, unit: Float[Array, ""]) -> "Posterior":
        return dataclasses.replace(self, unit=unit)

    def checked(self, n_components: int, n_columns: int, dtype: Any) -> "Posterior":
        prior = _checked(self.prior, n_components, n_columns, dtype, strict=False)
        return dataclasses.replace(self, prior=dataclasses.replace(prior, weights=prior.weights.for_mode()))

    def penalty(self, mixture: Mixture) -> Float[Array, ""]:
        present, prior = _present(mixture), self.prior
        value = prior.weights.log_density(mixture.log_weights, present)
        if prior.components is not None:
            value = value + prior.components.log_density(mixture.components.clusters, of_clusters(mixture, present))
        return value / _unit(self)

    def log_weights(self, mixture: Mixture, counts: Float[Array, " k"], alive: Bool[Array, " k"]) -> Float[Array, " k"]:
        return self.prior.weights.mode(_unit(self) * jnp.where(alive, counts, 0), _present(mixture))

    def sums(self, mixture: Mixture, counts: Float[Array, " k"], sums: Any) -> Any:
        if self.prior.components is None:
            return sums
        counts, present = (of_clusters(mixture, values) for values in (counts, _present(mixture)))
        return self.prior.components.mode_moments(mixture.components.clusters, counts, sums, present, _unit(self))


@record
class Variational(Objective):
    """A lower bound of the evidence, log p(rows), with all parameters integrated out: variational Bayes.

    Weights, means and covariances have distributions, the closest among those in which they do not depend on what
    component a row is of. These are conjugate for every structure: Dirichlet's or a stick's, normal, and Wishart's or a
    gamma distribution for each variance of "diag" and "spherical". A fit raises the bound, which never falls, and
    components that are not needed lose their rows: start with more than there may be. `FitResult.objective` is the
    bound, by which fits of other numbers of components and forms are compared. A row of which nothing is seen has no
    part in it.

    The mixture that comes out has the expected weights and means, and the inverses of the expected precisions. With the
    objective it tells the distributions: see `credible`, and there the density of new rows, with all that is not known.

    Fields: `prior`, a `Prior`; `unit`, weight by which that of a row was divided, 1 where None; `total`, weight of the
    rows, which a fit sets.

    Sources: Attias (2000), NIPS 12; Corduneanu & Bishop (2001), AISTATS 8; Blei & Jordan (2006), Bayesian Anal. 1.

    >>> import jax, jaxgmm
    >>> x = jax.random.normal(jax.random.key(0), (300, 2)).at[:100].add(8.0)
    >>> start = jaxgmm.init(jax.random.key(1), x, 5)
    >>> result = jaxgmm.fit(start, x, objective=jaxgmm.Variational())
    >>> int((300 * result.mixture.weights > 1).sum())
    2
    """

    prior: Any = Prior()
    unit: Leaf | None = None
    total: Leaf | None = None

    @property
    def sustains(self) -> bool:
        return True

    @property
    def relative(self) -> bool:
        return _relative(self.prior)

    def within(
        self, center: Float[Array, " d"], scale: Float[Array, " d"], present: Bool[Array, " k"]
    ) -> "Variational":
        return dataclasses.replace(self, prior=_within(self.prior, center, scale, present, flat=False))

    @property
    def all_free(self) -> bool:
        return False

    @property
    def sighted(self) -> bool:
        # The bound would have a component for each of the others, and so be lower.
        return True

    def counting(self, total: Float[Array, ""]) -> "Variational":
        return dataclasses.replace(self, total=total)

    def over(self, unit: Float[Array, ""]) -> "Variational":
        return dataclasses.replace(self, unit=unit)

    def checked(self, n_components: int, n_columns: int, dtype: Any) -> "Variational":
        if self.prior.components is None:
            raise TypeError(
                "prior.components is None, and Variational integrates over all parameters; expected a prior of what "
                "components are, such as jaxgmm.NormalWishart()."
            )
        return dataclasses.replace(self, prior=_checked(self.prior, n_components, n_columns, dtype, strict=True))

    def read_by(self, mixture: Mixture) -> Mixture:
        if mixture.components.n_background:
            raise NotImplementedError(
                f"Variational integrates over all parameters, and {type(mixture.components).__name__} components have "
                "a noise component, whose volume has no prior. Posterior takes them."
            )
        present, counts = _present(mixture), self.counts(mixture)
        logs = self.prior.weights.expected_logs(counts, present)
        logs = logs + self._components.offset(mixture.components, counts)
        return dataclasses.replace(mixture, log_weights=jnp.where(present, logs, -jnp.inf))

    def penalty(self, mixture: Mixture) -> Float[Array, ""]:
        present, counts = _present(mixture), self.counts(mixture)
        divergence = self.prior.weights.divergence(counts, present)
        return -(divergence + self._components.divergence(mixture.components, counts, present)) / _unit(self)

    def log_weights(self, mixture: Mixture, counts: Float[Array, " k"], alive: Bool[Array, " k"]) -> Float[Array, " k"]:
        return self.prior.weights.mean(_unit(self) * counts, _present(mixture))

    def sums(self, mixture: Mixture, counts: Float[Array, " k"], sums: Any) -> Any:
        return self._components.mean_moments(mixture.components, counts, sums, _present(mixture), _unit(self))

    def log_evidence(self, mixture: Mixture, reached: Float[Array, ""]) -> Float[Array, ""]:
        """The bound that was `reached` for the evidence of all optima that differ in the order of components alone.

        Components without rows are the same in any order. Of a stick the order is not free.
        """
        return reached + self.prior.weights.log_orders(self.used(mixture), _present(mixture))

    def n_parameters(self, mixture: Mixture) -> Any:
        """Of the components that are used: the others are as the prior has them."""
        if self.total is None:
            return mixture.n_parameters
        used = jnp.where(self.used(mixture), mixture.log_weights, -jnp.inf)
        return dataclasses.replace(mixture, log_weights=used).n_parameters

    def used(self, mixture: Mixture) -> Bool[Array, " k"]:
        """Which components have rows: the weight of half a one, so that rounding of a whole one decides nothing."""
        return self.counts(mixture) >= _SOME

    def counts(self, mixture: Mixture) -> Float[Array, " k"]:
        """Weight of the rows that each component has, as the expected weights tell it."""
        if self.total is None:
            raise ValueError("total is None; expected the weight of the rows, as objective.counting(total) sets it.")
        return self.prior.weights.counts(mixture.log_weights, _unit(self) * self.total, _present(mixture))

    @property
    def _components(self) -> NormalWishart:
        found: NormalWishart = self.prior.components
        return found


LIKELIHOOD = Objective()
# Weight of the rows of a component that is used.
_SOME = 0.5


def objective_of(value: Any, n_components: int, n_columns: int, dtype: Any) -> Objective:
    """What is to be climbed by k components in d columns: the likelihood, or an objective, checked."""
    if value is None:
        return LIKELIHOOD
    if not isinstance(value, Objective):
        raise TypeError(
            f"objective is {_kind(value)}; expected None for the likelihood, or an objective such as "
            "jaxgmm.Posterior()."
        )
    return value.checked(n_components, n_columns, dtype)


def within_data(
    objective: Objective, rows: Evidence, scale: Float[Array, " d"] | None, present: Bool[Array, " k"]
) -> Objective:
    """The objective with what these rows decide of it."""
    if not objective.relative:
        return objective
    spread = spread_from(rows)
    return objective.within(spread.center, spread.scale if scale is None else scale, present)


def of_counts(objective: Any, mixture: Mixture, total: Float[Array, ""], present: Bool[Array, " k"]) -> Any:
    """An objective that tells what is used of a mixture, of components that are `present` and rows of a `total` weight.

    Where the data lie and how far they spread is not in that.
    """
    nowhere = jnp.zeros(mixture.n_columns, mixture.log_weights.dtype)
    return objective.within(nowhere, nowhere + 1, present).counting(total)


def _checked(prior: Any, n_components: int, n_columns: int, dtype: Any, *, strict: bool) -> Prior:
    if not isinstance(prior, Prior):
        raise TypeError(f"prior is {_kind(prior)}; expected a jaxgmm.Prior, such as Prior(Dirichlet(2.0)).")
    for name, method in (("weights", "expected_logs"), ("components", "mode_moments")):
        part = getattr(prior, name)
        if (isinstance(part, type) or not hasattr(part, method)) and not (name == "components" and part is None):
            expected = (
                "a jaxgmm.Dirichlet"
                if name == "weights"
                else "a jaxgmm.NormalWishart, PseudoRows or ProductPrior, or None"
            )
            raise TypeError(f"prior.{name} is {_kind(part)}; expected {expected}.")
    components = None if prior.components is None else prior.components.checked(n_columns, dtype, strict=strict)
    return Prior(prior.weights.checked(n_components, dtype), components)


def _kind(value: Any) -> str:
    """What to say that something is."""
    return f"the class {value.__name__}" if isinstance(value, type) else f"of type {type(value).__name__}"


def _relative(prior: Prior) -> bool:
    return prior.weights.concentration is None or (prior.components is not None and prior.components.relative)


def _within(
    prior: Prior, center: Float[Array, " d"], scale: Float[Array, " d"], present: Bool[Array, " k"], *, flat: bool
) -> Prior:
    number = jnp.sum(present).astype(scale.dtype) if flat else jnp.ones((), scale.dtype)
    components = None if prior.components is None else prior.components.within(center, scale, number)
    return Prior(prior.weights.within(present, scale.dtype, flat=flat), components)


def _present(mixture: Mixture) -> Bool[Array, " k"]:
    return mixture.log_weights > -jnp.inf


def _unit(objective: Posterior | Variational) -> Any:
    return 1 if objective.unit is None else objective.unit
