"""The compiled programs under the estimator."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.covariance.table import structure_of
from jaxgmm.families.gaussian import Gaussian
from jaxgmm.families.kernels import Moments
from jaxgmm.fitting.loop import Loop
from jaxgmm.ground import pytree
from jaxgmm.ground.programs import program
from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.ground.rows import Evidence
from jaxgmm.model.init import from_shares, standard
from jaxgmm.model.mixture import Mixture, block_size_of
from jaxgmm.model.objective import Objective
from jaxgmm.model.scale import floor_of
from jaxgmm.model.seeding import SEEDINGS
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
    every step; `n_iter` (), steps; `change` (), of the bound by the last one; `degenerate` (k,), components that the
    last M-step left without a covariance.
    """

    parameters: Parameters
    bound: Leaf
    bounds: Leaf
    n_iter: Leaf
    change: Leaf
    degenerate: Leaf


@record
class Ridge(Objective):
    """scikit-learn's: covariances that are larger by `amount` () times the identity, the `reg_covar` of its users.

    That is no prior: what is added grows with the rows that a component has, and the likelihood may fall.
    """

    amount: Leaf

    def sums(self, mixture: Mixture, counts: Float[Array, " k"], sums: Moments) -> Moments:
        # Those of rows of each component that lie, in every column, one standard deviation off its new mean.
        k, d = mixture.means.shape
        away = jnp.sqrt(self.amount) * jnp.broadcast_to(jnp.eye(d, dtype=self.amount.dtype), (k, d, d))
        components: Any = mixture.components
        second = components.covariance.scatter(away, jnp.broadcast_to(counts, (d, k)))
        return dataclasses.replace(sums, second=sums.second + second)


@record
class _Stand:
    """Where the fit is: the `mixture` after the last M-step, and what there is to tell of the way."""

    mixture: Mixture
    run: Run


@record
class _Next:
    mixture: Mixture
    reference: Leaf


@record
class Changes(Loop):
    """The loop as scikit-learn defines it: every step of EM, until one changes the mean log-likelihood too little.

    Fields: `objective`; `floor` (d,); `total` (), of the weights; `tol`, `max_iter`.
    """

    objective: Ridge
    floor: Leaf
    total: Leaf
    tol: Leaf
    max_iter: Leaf

    def unfinished(self, state: _Stand) -> Bool[Array, ""]:
        run = state.run
        fine = (run.n_iter == 0) | jnp.isfinite(run.bound)
        # Not `change >= tol`, which NaN would end as well.
        return (run.n_iter < self.max_iter) & fine & ~(jnp.abs(run.change) < self.tol)

    def propose(self, state: _Stand) -> _Next:
        # Log-densities are counted from the bound, so that their sum rounds less than the bound itself.
        return _Next(state.mixture, jnp.where(jnp.isfinite(state.run.bound), state.run.bound, 0))

    def accept(self, state: _Stand, proposal: _Next, statistics: Statistics) -> _Stand:
        run = state.run
        after, held = maximize(state.mixture, statistics, self.floor, self.objective)
        bound = proposal.reference + statistics.log_likelihood / self.total
        # No step leads on from where the likelihood is not finite.
        after = pytree.where(jnp.isfinite(bound), after, state.mixture)
        run = dataclasses.replace(
            run,
            bound=bound,
            bounds=run.bounds.at[jnp.minimum(run.n_iter, run.bounds.size - 1)].set(bound),
            n_iter=run.n_iter + 1,
            # Of rounded bounds: noise below their rounding would keep a fit from ever meeting a small tol.
            change=bound - run.bound,
            # What made the likelihood infinite happened the step before.
            degenerate=jnp.where(jnp.isfinite(bound), held & (after.log_weights > -jnp.inf), run.degenerate),
        )
        return _Stand(after, run)


@program(
    static=("n_components", "method"),
    work=lambda key, rows, n_components, **options: 5 * n_components * rows.x.size,
)
def seeds_of(key: jax.Array, rows: Evidence, *, n_components: int, method: str) -> Int[Array, " n"]:
    """The component that each row starts in, by the library's own seedings, which take rows that are known in part."""
    return SEEDINGS[method](key, standard(rows)[1], jnp.ones(n_components, bool))


@program(
    static=("n_components", "covariance_type", "history_size"),
    work=lambda rows, *others, n_components, **options: 30 * n_components * rows.x.size,
)
def run_em(
    rows: Evidence,
    seeds: Int[Array, " n"] | Float[Array, "n k"] | None,
    given: Parameters,
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
    """
    dtype, weights = rows.x.dtype, rows.weights
    least = jnp.asarray((_ROUNDINGS * jnp.finfo(dtype).eps) ** 2, dtype)
    objective = Ridge(reg_covar)
    rows, columns = standard(rows)
    floor = floor_of(columns.scale, least)
    start = given
    if seeds is not None:
        shares = jax.nn.one_hot(seeds, n_components, dtype=dtype) if seeds.ndim == 1 else seeds
        seeded = Parameters.of(
            from_shares(rows, columns, shares, floor, objective, form=Gaussian.form(covariance_type))
        )
        start = Parameters(*(b if a is None else a for a, b in zip(_fields(given), _fields(seeded), strict=True)))
    mixture = start.mixture(covariance_type)
    blocks = rows.in_blocks(block_size_of(mixture, rows))
    blank = Run(
        parameters=Parameters.of(mixture),
        bound=bound,
        bounds=jnp.zeros((history_size,), dtype),
        n_iter=jnp.zeros((), jnp.int32),
        change=jnp.full((), jnp.inf, dtype),
        degenerate=jnp.zeros((n_components,), bool),
    )
    loop = Changes(objective, floor, jnp.sum(weights), tol, max_iter)
    end = loop.run(_Stand(mixture, blank), lambda mixture, reference: take_statistics(mixture, blocks, reference))
    return dataclasses.replace(end.run, parameters=Parameters.of(end.mixture))


@program(static=("covariance_type",))
def log_prob(parameters: Parameters, rows: Evidence, *, covariance_type: str) -> Float[Array, " n"]:
    """Log-density of each row."""
    return parameters.mixture(covariance_type).log_prob(rows)


@program(static=("covariance_type",))
def responsibilities(parameters: Parameters, rows: Evidence, *, covariance_type: str) -> Float[Array, "n k"]:
    """Posterior probability of each component."""
    return parameters.mixture(covariance_type).responsibilities(rows)


def _fields(parameters: Parameters) -> tuple[Any, Any, Any]:
    return parameters.weights, parameters.means, parameters.factor
