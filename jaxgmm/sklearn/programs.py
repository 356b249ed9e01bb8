"""The compiled programs under the estimator."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.covariance.table import structure_of
from jaxgmm.families.gaussian import Gaussian
from jaxgmm.ground import pytree
from jaxgmm.ground.programs import program
from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.ground.rows import Evidence
from jaxgmm.model.init import from_responsibilities
from jaxgmm.model.mixture import Mixture, block_size_of
from jaxgmm.model.scale import floor_of
from jaxgmm.model.statistics import Statistics
from jaxgmm.model.steps import maximize, take_statistics

# A component narrower than so many roundings of the data's spread has no width that its rows could tell.
_ROUNDINGS = 8


@record
class Parameters:
    """A mixture as plain arrays.

    Fields: `weights` (k,); `means` (k, d); `factor`, what the covariance structure holds. Of numpy outside compiled
    calls, and None for what `run_em` is to take from seeds.
    """

    weights: Any
    means: Any
    factor: Any

    def mixture(self, covariance_type: str) -> Mixture:
        covariance = structure_of(covariance_type).from_roots(self.factor, self.means.shape[1])
        return Mixture(jnp.log(self.weights), Gaussian(self.means, covariance))

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be seeded."""
        return all(field is not None for field in _fields(self))

    @classmethod
    def of(cls, mixture: Mixture) -> "Parameters":
        components: Any = mixture.components
        (factor,) = jax.tree.leaves(components.covariance)
        return cls(mixture.weights, mixture.means, factor)


@record
class Run:
    """Where EM ended.

    Fields: `parameters`, after the last M-step; `bound` (), mean log-likelihood before it; `bounds` (h,), the same for
    every step; `n_iter` (), steps; `change` (), of the bound by the last one; `collapsed` (k,), components that the
    last M-step left without a covariance.
    """

    parameters: Parameters
    bound: Leaf
    bounds: Leaf
    n_iter: Leaf
    change: Leaf
    collapsed: Leaf


@program(
    static=("n_components", "covariance_type", "history_size"),
    work=lambda x, *others, n_components, **options: 30 * n_components * x.size,
)
def run_em(
    x: Float[Array, "n d"],
    weights: Float[Array, " n"],
    seeds: Int[Array, " n"] | Float[Array, "n k"] | None,
    given: Parameters,
    scale: Float[Array, " d"],
    bound: Float[Array, ""],
    tol: Float[Array, ""],
    reg_covar: Float[Array, ""],
    max_iter: Int[Array, ""],
    *,
    n_components: int,
    covariance_type: str,
    history_size: int,
) -> Run:
    """EM as scikit-learn defines it, from the parameters given and, where they are None, those of seeded rows.

    `seeds` are the component of each row, or its shares in all of them.

    It differs from `jaxgmm.fit` in what scikit-learn's users set: `reg_covar` is added to the covariances, and a fit
    ends when a step changes the mean log-likelihood by less than `tol`. The steps are the library's own.
    """
    start = given
    if seeds is not None:
        shares = jax.nn.one_hot(seeds, n_components, dtype=x.dtype) if seeds.ndim == 1 else seeds
        mixture = from_responsibilities(x, shares, covariance_type, weights=weights, scale=scale)
        seeded = Parameters.of(_ridged(mixture, reg_covar))
        start = Parameters(*(b if a is None else a for a, b in zip(_fields(given), _fields(seeded), strict=True)))
    mixture = start.mixture(covariance_type)
    rows = Evidence(x, weights).in_blocks(block_size_of(mixture, x.shape[0]))
    total = jnp.sum(weights)
    floor = floor_of(scale, jnp.asarray((_ROUNDINGS * jnp.finfo(x.dtype).eps) ** 2, x.dtype))

    def unfinished(state: tuple[Mixture, Run]) -> Bool[Array, ""]:
        run = state[1]
        fine = (run.n_iter == 0) | jnp.isfinite(run.bound)
        # Not `change >= tol`, which NaN would end as well.
        return (run.n_iter < max_iter) & fine & ~(jnp.abs(run.change) < tol)

    def step(state: tuple[Mixture, Run]) -> tuple[Mixture, Run]:
        mixture, run = state
        # Log-densities are counted from the bound, so that their sum rounds less than the bound itself.
        reference = jnp.where(jnp.isfinite(run.bound), run.bound, 0)
        statistics = take_statistics(mixture, rows, reference)
        after, held = maximize(mixture, _with_ridge(mixture, statistics, reg_covar), floor)
        bound = reference + statistics.log_likelihood / total
        # No step leads on from where the likelihood is not finite.
        after = pytree.where(jnp.isfinite(bound), after, mixture)
        return after, dataclasses.replace(
            run,
            bound=bound,
            bounds=run.bounds.at[jnp.minimum(run.n_iter, history_size - 1)].set(bound),
            n_iter=run.n_iter + 1,
            # Of rounded bounds: noise below their rounding would keep a fit from ever meeting a small tol.
            change=bound - run.bound,
            # What made the likelihood infinite happened the step before.
            collapsed=jnp.where(jnp.isfinite(bound), held & (after.log_weights > -jnp.inf), run.collapsed),
        )

    blank = Run(
        parameters=Parameters.of(mixture),
        bound=bound,
        bounds=jnp.zeros((history_size,), x.dtype),
        n_iter=jnp.zeros((), jnp.int32),
        change=jnp.full((), jnp.inf, x.dtype),
        collapsed=jnp.zeros((n_components,), bool),
    )
    mixture, run = jax.lax.while_loop(unfinished, step, (mixture, blank))
    return dataclasses.replace(run, parameters=Parameters.of(mixture))


@program(static=("covariance_type",))
def log_prob(parameters: Parameters, x: Float[Array, "n d"], *, covariance_type: str) -> Float[Array, " n"]:
    """Log-density of each row."""
    return parameters.mixture(covariance_type).log_prob(x)


@program(static=("covariance_type",))
def responsibilities(parameters: Parameters, x: Float[Array, "n d"], *, covariance_type: str) -> Float[Array, "n k"]:
    """Posterior probability of each component."""
    return parameters.mixture(covariance_type).responsibilities(x)


def _fields(parameters: Parameters) -> tuple[Any, Any, Any]:
    return parameters.weights, parameters.means, parameters.factor


def _ridged(mixture: Mixture, ridge: Float[Array, ""]) -> Mixture:
    """The mixture with covariances larger by `ridge` times the identity."""
    components: Any = mixture.components
    k, d = mixture.means.shape
    covariance = components.covariance
    added = type(covariance.factor).uncorrelated(jnp.broadcast_to(jnp.sqrt(ridge), (d,)), covariance.batch(k))
    covariance = covariance.of_factor(covariance.factor.plus(added))
    return dataclasses.replace(mixture, components=dataclasses.replace(components, covariance=covariance))


def _with_ridge(mixture: Mixture, statistics: Statistics, ridge: Float[Array, ""]) -> Statistics:
    """The statistics that lead to covariances larger by `ridge` times the identity.

    They are those of rows of each component that lie, in every column, one standard deviation off its new mean.
    """
    k, d = mixture.means.shape
    away = jnp.sqrt(ridge) * jnp.broadcast_to(jnp.eye(d, dtype=ridge.dtype), (k, d, d))
    counts = jnp.broadcast_to(statistics.counts, (d, k))
    components: Any = mixture.components
    added = components.covariance.scatter(away, counts)
    second = pytree.add(statistics.sums.second, added)
    return dataclasses.replace(statistics, sums=dataclasses.replace(statistics.sums, second=second))
