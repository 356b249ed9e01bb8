"""The compiled programs under the estimator."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.covariance.structure import Structure
from jaxgmm.covariance.table import known_as, name_of, structure_of
from jaxgmm.families.gaussian import Gaussian, trils
from jaxgmm.families.noise import WithNoise, of_volume, usual_sides
from jaxgmm.fitting.loop import Loop
from jaxgmm.ground import linalg, pytree
from jaxgmm.ground.programs import program
from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.ground.rows import Evidence
from jaxgmm.model.init import before_noise, extent_of, from_shares, standard
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.passes import block_size_of
from jaxgmm.model.scale import floor_of
from jaxgmm.model.seeding import SEEDINGS
from jaxgmm.model.statistics import Statistics
from jaxgmm.model.steps import maximize, take_statistics
from jaxgmm.sklearn.certainty import Certainty
from jaxgmm.sklearn.forms import FORMS, kept_as
from jaxgmm.sklearn.objectives import Ridge

# A component narrower than so many roundings of the data's spread has no width that its rows could tell.
_ROUNDINGS = 8


@record
class Parameters:
    """A mixture as plain arrays.

    Fields: `weights` (k,), and one more of a noise component; `means` (k, d); `factor`, what the covariance structure
    holds, or k Cholesky factors (k, d, d) of one that scikit-learn does not have; `certainty`, None where parameters
    have no distributions; `box` (2, d), center and widths of that of a noise component, None without one. Of numpy
    outside compiled calls, and None for what `run_em` is to take from seeds.
    """

    weights: Any
    means: Any
    factor: Any
    certainty: Certainty | None = None
    box: Any = None

    def mixture(self, covariance_type: str, covariance: Structure | None = None) -> Mixture:
        """What takes responsibility for rows.

        Where there is no `covariance`, it is that of the `factor`, or the nearest of a structure that holds another.
        """
        if covariance is None:
            kind, own = structure_of(covariance_type), kept_as(covariance_type) == known_as(covariance_type)
            covariance = kind.from_roots(self.factor, self.means.shape[1]) if own else kind.nearest(self.factor)
        certainty = self.certainty
        log_weights = jnp.log(self.weights) if certainty is None else certainty.log_weights(self.means.shape[1])
        clusters = Gaussian(self.means, covariance)
        return Mixture(log_weights, clusters if self.box is None else WithNoise(clusters, self.box[0], self.box[1]))

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be seeded."""
        return all(field is not None for field in (self.weights, self.means, self.factor))

    def filled(self, other: "Parameters") -> "Parameters":
        """With those of the other where there are none."""
        return Parameters(*(b if a is None else a for a, b in zip(_fields(self), _fields(other), strict=True)))

    @classmethod
    def of(cls, mixture: Mixture, certainty: Certainty | None = None) -> "Parameters":
        components: Any = mixture.components
        clusters: Any = components.clusters
        if name_of(clusters.covariance) in FORMS:
            (factor,) = jax.tree.leaves(clusters.covariance)
        else:
            factor = trils(clusters.covariance, clusters.means.shape[0]).scale_tril
        weights = mixture.weights if certainty is None else certainty.concentration.weights()
        box = jnp.stack([components.center, components.widths]) if components.n_background else None
        return cls(weights, clusters.means, factor, certainty, box)


@record
class Run:
    """Where EM ended.

    Fields: `parameters`, after the last M-step; `bound` (), what the objective says of that step, such as the mean
    log-likelihood before it; `bounds` (h,), the same for every step; `n_iter` (), steps; `change` (), of the bound by
    the last one; `degenerate` (k,), components that the last M-step left without a covariance.
    """

    parameters: Parameters
    bound: Leaf
    bounds: Leaf
    n_iter: Leaf
    change: Leaf
    degenerate: Leaf


@record
class _Stand:
    """Where the fit is: the `mixture` after the last M-step, its `certainty`, and what there is to tell of the way."""

    mixture: Mixture
    certainty: Certainty | None
    run: Run


@record
class _Next:
    mixture: Mixture
    reference: Leaf


@record
class Changes(Loop):
    """The loop as scikit-learn defines it: every step of EM, until one changes the objective's bound too little.

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
        return _Next(state.mixture, self.objective.reference(state.run.bound))

    def accept(self, state: _Stand, proposal: _Next, statistics: Statistics) -> _Stand:
        run = state.run
        after, held = maximize(state.mixture, statistics, self.floor, self.objective)
        bound = self.objective.bound(state.mixture, proposal.reference, statistics, self.total, after)
        certainty = self.objective.certainty(after, statistics.counts)
        # No step leads on from where the likelihood is not finite.
        after, certainty = pytree.where(jnp.isfinite(bound), (after, certainty), (state.mixture, state.certainty))
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
        return _Stand(after, certainty, run)


def least_variance(dtype: Any) -> float:
    """The least variance of a component, in units of the data's, that numbers of this type can tell."""
    return float((_ROUNDINGS * jnp.finfo(dtype).eps) ** 2)


@program(
    static=("n_components", "method", "before_noise"),
    work=lambda key, rows, n_components, **options: 5 * n_components * rows.x.size,
)
def seeds_of(key: jax.Array, rows: Evidence, *, n_components: int, method: str, before_noise: bool) -> Int[Array, " n"]:
    """The component that each row starts in, by the library's own seedings, which take rows that are known in part.

    With `before_noise`, n_components for a row that is far from all.
    """
    columns = dataclasses.replace(standard(rows)[1], before_noise=before_noise)
    return SEEDINGS[method](key, columns, jnp.ones(n_components, bool))


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
    objective: Ridge,
    max_iter: Int[Array, ""],
    volume: Float[Array, ""] | None = None,
    *,
    n_components: int,
    covariance_type: str,
    history_size: int,
) -> Run:
    """EM as scikit-learn defines it, from the parameters given and, where they are None, those of seeded rows.

    `seeds` are the component of each row, or its shares in all of them. `volume` is None without a noise component,
    else its volume, or 0 for that which follows from the scale of the rows.
    """
    dtype, weights = rows.x.dtype, rows.weights
    rows, columns = standard(rows)
    floor = floor_of(columns.scale, jnp.asarray(least_variance(dtype), dtype))
    start, form, covariance = given, Gaussian.form(covariance_type), None
    if volume is not None:
        form = WithNoise.form(form)
        if start.box is None:
            usual = jnp.maximum(extent_of(columns), usual_sides(columns.scale))
            widths = jnp.where(volume > 0, of_volume(usual, jnp.log(jnp.where(volume > 0, volume, 1))), usual)
            start = dataclasses.replace(start, box=jnp.stack([columns.center, widths]))
    if seeds is not None:
        shares = jax.nn.one_hot(seeds, n_components, dtype=dtype) if seeds.ndim == 1 else seeds
        if volume is not None:
            shares = before_noise(shares, seeds == n_components if seeds.ndim == 1 else None)
        seeded = from_shares(rows, columns, shares, floor, objective, form=form)
        counts = linalg.einsum("n,nk->k", rows.weights, shares)
        start = start.filled(Parameters.of(seeded, objective.certainty(seeded, counts)))
        if given.factor is None:
            components: Any = seeded.components
            covariance = components.clusters.covariance
    mixture = start.mixture(covariance_type, covariance)
    blocks = rows.in_blocks(block_size_of(mixture, rows))
    blank = Run(
        parameters=Parameters.of(mixture, start.certainty),
        bound=bound,
        bounds=jnp.zeros((history_size,), dtype),
        n_iter=jnp.zeros((), jnp.int32),
        change=jnp.full((), jnp.inf, dtype),
        degenerate=jnp.zeros(mixture.log_weights.shape, bool),
    )

    def take(mixture: Mixture, reference: Array) -> Statistics:
        return take_statistics(mixture, blocks, reference)

    loop = Changes(objective, floor, jnp.sum(weights), tol, max_iter)
    end = loop.run(_Stand(mixture, start.certainty, blank), take)
    return dataclasses.replace(end.run, parameters=Parameters.of(end.mixture, end.certainty))


@program(static=("covariance_type",))
def log_prob(parameters: Parameters, rows: Evidence, *, covariance_type: str) -> Float[Array, " n"]:
    """Log-density of each row."""
    return parameters.mixture(covariance_type).log_prob(rows)


@program(static=("covariance_type",))
def responsibilities(parameters: Parameters, rows: Evidence, *, covariance_type: str) -> Float[Array, "n k"]:
    """Posterior probability of each component."""
    return parameters.mixture(covariance_type).responsibilities(rows)


def _fields(parameters: Parameters) -> tuple[Any, ...]:
    return parameters.weights, parameters.means, parameters.factor, parameters.certainty, parameters.box
