"""What variational Bayes says of parameters and of new rows: the distributions behind a fit."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from jaxtyping import Array, Bool, Float

from jaxgmm.fitting.acceleration import Place, coordinates
from jaxgmm.ground import checks
from jaxgmm.ground.programs import program
from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.ground.rows import Evidence, block_size_for, map_rows
from jaxgmm.model.mixture import Mixture, check_rows, present_clusters
from jaxgmm.model.objective import Variational, objective_of, within_data
from jaxgmm.model.passes import block_size_of, of_passes
from jaxgmm.model.scale import floor_of, scale_from
from jaxgmm.model.steps import maximize, take_statistics
from jaxgmm.selection.uncertainty import Parameters, level_of, parameter_table

if TYPE_CHECKING:
    import pandas

# What `Credible.log_prob` has no density for, by the names of it in the rows.
_BEYOND = {"seen": "gaps", "noise": "noise", "labels": "labels", "log_evidence": "log_evidence"}
# The longest step of EM, squared, that a fit may have left undone: in units of the Fisher information per unit weight,
# and so twice what it gains, far above any tolerance of a fit.
_AT_REST = 1e-3


@record
class Credible:
    """The distributions of the parameters of a mixture after a fit by `Variational`.

    Fields:
        mixture: the fitted one, of expected weights and means and of inverses of expected precisions.
        objective: the `Variational`, with all that the rows decided of its prior.
        counts: (k,), weight of the rows that each component has.
    """

    mixture: Mixture
    objective: Variational
    counts: Leaf

    @property
    def used(self) -> Bool[Array, "*batch k"]:
        """Which components have rows (k,), the weight of half a one. The others are as the prior has them: pruned."""
        return self.objective.used(self.mixture)

    def kept(self) -> Mixture:
        """The mixture of the components that are used, the heaviest first.

        Raises:
            RuntimeError: none of them is.
        """
        used, counts = np.asarray(self.used), np.asarray(self.counts)
        order = [place for place in np.argsort(-counts, kind="stable").tolist() if used[place]]
        if not order:
            raise RuntimeError("No component has the weight of half a row. Are the weights of the rows no counts?")
        return self.mixture.take(order)

    def log_prob(self, x: Any) -> Float[Array, " n"]:
        """Log-density of new rows (n, d), given the rows of the fit: all parameters integrated out.

        A mixture of Student-t components, wider than the fitted one, the more so the fewer rows a component has; of
        "diag" and "tied-diag" each column has a Student-t distribution of its own. Natural logarithm, per unit volume
        in the units of the data.

        Raises:
            TypeError, ValueError: as `Mixture.log_prob`.
            NotImplementedError: rows with gaps, noise, labels or log_evidence.

        Source: Bishop (2006), Pattern Recognition and Machine Learning, section 10.2.3.
        """
        mixture, rows = check_rows(self.mixture, x, weighted=False)
        beyond = [what for name, what in _BEYOND.items() if getattr(rows, name) is not None]
        if beyond:
            raise NotImplementedError(
                f"Credible.log_prob takes whole rows alone, and these have {beyond[0]}. Credible.mixture.log_prob "
                "takes them, with parameters as they are expected."
            )
        return _predictive(mixture, rows, self.objective, self.counts)

    def standard_errors(self) -> Parameters:
        """Standard deviations of weights, means and standard deviations of columns; inf where there is none.

        `covariances` is None.
        """
        weights, freedom, variances = self._told()
        spread = 1 / np.asarray(self._rows)
        a, b = weights
        with np.errstate(divide="ignore", invalid="ignore"):
            of_weights = np.sqrt(a * b / (a + b + 1)) / (a + b)
            wide = np.where(freedom > 2, freedom / (freedom - 2), np.inf)[:, None]
            means = np.sqrt(wide * spread[:, None] * variances)
            # Of the root of an inverse gamma variable.
            half = freedom[:, None] / 2
            ratio = np.exp(_lgamma(half - 0.5) - _lgamma(half))
            second = np.where(half > 1, 1 / (half - 1), np.inf)
            deviations = np.sqrt(variances * half * (second - ratio**2))
        return self._parameters(of_weights, means, deviations)

    def intervals(self, level: Any = 0.95) -> Parameters:
        """Credible intervals of weights, means and standard deviations of columns, with as much left out at each end.

        Each parameter by itself. Of a weight from a stick the interval is that of a beta distribution with its mean and
        variance; all others are exact. `covariances` is None.

        Args:
            level: probability inside, between 0 and 1.

        Raises:
            TypeError, ValueError: another level.
        """
        from scipy import special

        tail = (1 - level_of(level)) / 2
        weights, freedom, variances = self._told()
        ends = np.array([tail, 1 - tail])
        column = freedom[None, :, None]
        wide = np.sqrt(variances / np.asarray(self._rows)[:, None])
        means = np.asarray(self.mixture.means, np.float64) + special.stdtrit(column, ends[:, None, None]) * wide
        chances = special.chdtri(column, ends[:, None, None])
        # Of a single component the weight is 1.
        alone = weights[1] > 0
        of_weights = special.betaincinv(weights[0], np.where(alone, weights[1], 1), ends[:, None])
        deviations = np.sqrt(column * variances / chances)
        return self._parameters(np.where(alone, of_weights, 1), means, deviations)

    def to_pandas(self, level: Any = 0.95, names: Sequence[Any] | None = None) -> "pandas.DataFrame":
        """A row for each weight, mean and standard deviation of the components that are used (needs pandas).

        Columns, arguments and errors as `Bootstrap.to_pandas`.
        """
        present = np.flatnonzero(np.asarray(self.used))
        return parameter_table(self.mixture, self.standard_errors(), self.intervals(level), present, names)

    @property
    def _rows(self) -> Float[Array, " k"]:
        """For how many rows the mean of each component is known."""
        prior: Any = self.objective.prior.components
        return prior.pseudo_rows + self.counts

    def _told(self) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray, np.ndarray]:
        """Of each weight a beta distribution, degrees of freedom (k,), and the variances (k, d) that go with them."""
        prior, present = self.objective.prior, self.mixture.log_weights > -jnp.inf
        assert prior.components is not None
        weights = prior.weights.marginals(self.counts, present)
        degrees, freedom = prior.components.degrees_of(self.mixture.components, self.counts)
        variances = jnp.diagonal(self.mixture.covariances, axis1=1, axis2=2) * (degrees / freedom)[:, None]
        found = [np.asarray(one, np.float64) for one in (*weights, freedom, variances)]
        return (found[0], found[1]), found[2], found[3]

    def _parameters(self, weights: np.ndarray, means: np.ndarray, deviations: np.ndarray) -> Parameters:
        dtype = self.mixture.log_weights.dtype
        there = np.asarray(self.mixture.log_weights) > -np.inf

        def known(values: np.ndarray) -> Array:
            shape = (-1,) + (1,) * (values.ndim - np.ndim(weights))
            return jnp.asarray(np.where(there.reshape(shape), values, np.nan).astype(dtype))

        return Parameters(known(weights), known(means), known(deviations), None)


def credible(
    fit: Any, x: Any, objective: Any, weights: Any = None, *, scale: Any = None, regularization: Any = 1e-6
) -> Credible:
    """How sure the parameters of a fit by variational Bayes are, and the density of new rows with all that is not.

    Args:
        fit: a `FitResult`, or its mixture, of these rows and this objective.
        x, weights, scale, regularization: rows (n, d), their weights (n,), the scale of the columns and the floor
            relative to it, as they were given to the fit.
        objective: the `Variational` that was climbed.

    Returns:
        `Credible`: which components are used, intervals, standard errors, a table, and the predictive density. Of this
        optimum alone: at others components have other places and, with few rows, another number.

    Raises:
        TypeError, ValueError: another objective, arguments of the wrong kind or shape, or, outside `jit`, a mixture
            from which a step of EM over these rows would lead away: one of another fit, or of one that did not end.

    >>> import jax, jaxgmm
    >>> x = jax.random.normal(jax.random.key(0), (200, 1)).at[:100].add(8.0)
    >>> objective = jaxgmm.Variational()
    >>> result = jaxgmm.fit(jaxgmm.init(jax.random.key(1), x, 4), x, objective=objective)
    >>> found = jaxgmm.credible(result, x, objective)
    >>> int(found.used.sum())
    2
    >>> [f"{error:.1f}" for error in found.standard_errors().means[found.used, 0]]  # 1 / sqrt(100)
    ['0.1', '0.1']
    """
    if not isinstance(objective, Variational):
        raise TypeError(
            f"objective is of type {type(objective).__name__}; expected the jaxgmm.Variational that was climbed. For "
            "fits of other objectives, see jaxgmm.bootstrap."
        )
    mixture, rows = check_rows(getattr(fit, "mixture", fit), x, weights, scored=False)
    d, dtype = mixture.n_columns, rows.x.dtype
    climbed: Any = objective_of(objective, mixture.n_components, d, dtype)
    regularization = checks.scalar("regularization", regularization, dtype)
    with rows.on_devices():
        scale = scale_from(rows) if scale is None else checks.scale(scale, d, dtype)
        rows = climbed.rows_of(rows)
        climbed = within_data(climbed, rows, scale, present_clusters(mixture))
        ahead = _ahead(mixture, rows, floor_of(scale, regularization), climbed)
    if not checks.holds(lambda ahead: ahead[0] <= _AT_REST + ahead[1], ahead):
        raise ValueError(
            "The mixture is not where a fit of these rows comes to rest: the next step of EM has a length of "
            f"{float(ahead[0]) ** 0.5:.2g} in units of the Fisher information of a row; expected at most "
            f"{_AT_REST**0.5:.2g}. Give the rows, weights, scale, regularization and objective of the fit, and a fit "
            "that has converged."
        )
    climbed = climbed.counting(jnp.sum(rows.weights))
    return Credible(mixture, climbed, climbed.counts(mixture))


@program(work=of_passes(1))
def _ahead(mixture: Mixture, rows: Evidence, floor: Float[Array, " d"], objective: Variational) -> Float[Array, " 2"]:
    """How far a step of EM leads, squared, in the metric of the Fisher information, and what is rounding of it."""
    # In units of the largest weight, as in a fit.
    unit = jnp.max(rows.weights)
    unit = jnp.where(unit > 0, unit, 1)
    blocks = rows.divided(unit).in_blocks(block_size_of(mixture, rows))
    climbed = objective.over(unit).counting(jnp.sum(blocks.weights))
    step, _ = maximize(mixture, take_statistics(climbed.read_by(mixture), blocks), floor, climbed)
    place = Place.of(coordinates(mixture), mixture, step)
    return jnp.stack([place.length, place.noise])


@program(work=of_passes(1))
def _predictive(mixture: Mixture, rows: Evidence, objective: Variational, counts: Float[Array, " k"]) -> Array:
    components: Any = mixture.components
    prior = objective.prior.components
    assert prior is not None
    k, d = mixture.means.shape
    factor = components.structure.factor
    blocks = factor.wishart.number
    size = d // blocks
    degrees, freedom = prior.degrees_of(components, counts)
    share = freedom * (prior.pseudo_rows + counts) / ((1 + prior.pseudo_rows + counts) * degrees)
    constant = gammaln((freedom + size) / 2) - gammaln(freedom / 2) - size / 2 * jnp.log(math.pi * freedom / share)
    given = (
        mixture.log_weights + blocks * constant - jnp.broadcast_to(factor.half_log_det(), (k,)),
        share / freedom,
        (freedom + size) / 2,
        mixture.means,
        factor.inverse(),
    )

    def block(given: Any, x: Float[Array, "n d"]) -> Float[Array, " n"]:
        constant, share, power, means, whitening = given
        white = whitening.times(x[None] - means[:, None]).reshape(k, -1, blocks, size)
        squares = share[:, None, None] * jnp.sum(white**2, axis=3)
        tails = power[:, None] * jnp.sum(jnp.log1p(squares), axis=2)
        return jax.scipy.special.logsumexp(constant[:, None] - tails, axis=0)

    return map_rows(block, given, rows.x, block_size_for(rows.n, 2 * k * d))


def _lgamma(values: np.ndarray) -> np.ndarray:
    from scipy import special

    return special.gammaln(values)
