"""What data drawn again would say: a test of one more component, and whether the same groups come back."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxgmm.fitting.result import FitResult, Status
from jaxgmm.ground import checks, draws, known
from jaxgmm.ground.progress import shown
from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.ground.rows import Evidence
from jaxgmm.ground.threads import side_by_side
from jaxgmm.model.scale import scale_of
from jaxgmm.selection.agreement import adjusted_rand_index
from jaxgmm.selection.many import fit_many
from jaxgmm.selection.restarts import Plan, best_of_restarts

# Where fits run one after the other, a call takes as many as the data themselves need, so that one program does all.
_CHUNK = {"cpu": 2}


@record
class LikelihoodRatioTest:
    """Outcome of `likelihood_ratio_test`.

    Fields:
        statistic: (), twice the rise of the log-likelihood from k to k + 1 components.
        p_value: (), share of the statistics, this one among them, that are at least as large; NaN if this one is.
        simulated: (b,), the statistic in each data set drawn from the fit with k; NaN where a fit failed.
        n_failed: (), number of data sets in which one did. They count as at least as large: the p-value is no smaller
            than it would be without failures.
        null, alternative: `FitResult` with k and with k + 1 components; both have room for k + 1.
    """

    statistic: Leaf
    p_value: Leaf
    simulated: Leaf
    n_failed: Leaf
    null: FitResult
    alternative: FitResult


@record
class Stability:
    """Outcome of `stability`: agreement with the labels of one fit, as adjusted Rand indices.

    Fields:
        reference: the `FitResult` that the others are compared with.
        restarts: (b,), of fits to the same rows with other keys. Below 1: the search does not find the same optimum.
        resamples: (b,), of fits to rows drawn again with replacement. Below 1: other rows would give other groups.

    A fit that failed, or to which the reference is, agrees with none: NaN.
    """

    reference: FitResult
    restarts: Leaf
    resamples: Leaf


def likelihood_ratio_test(
    key: jax.Array,
    x: Any,
    n_components: int,
    form: Any = "full",
    *,
    n_bootstrap: int = 99,
    progress: bool = False,
    n_restarts: int = 12,
    n_finalists: int = 4,
    screening_tol: Any = 1e-3,
    methods: Sequence[str] | None = None,
    spurious: Any = False,
    lanes: int | None = 1,
    tol: Any = 1e-6,
    max_iter: Any = 1000,
    regularization: Any = 1e-6,
    scale: Any = None,
    objective: Any = None,
    acceleration: str | None = "anderson",
    history_size: int = 128,
    block_size: int | None = None,
) -> LikelihoodRatioTest:
    """Whether `n_components` components are enough, against one more: the parametric bootstrap.

    The likelihood ratio of two mixtures does not have the usual chi-squared distribution. So it is found by drawing
    data sets from the fit with k components, and fitting both mixtures to each as they are to the data.

    Args:
        key: what is drawn is drawn with this key.
        x: rows (n, d), all of weight 1.
        n_components: k, the number of components under the null hypothesis.
        form: as for `init`.
        n_bootstrap: data sets drawn, b. The p-value is not below 1 / (b + 1).
        progress: show a progress bar (needs tqdm).

    All others are as for `fit_restarts`, for all fits.

    Raises:
        TypeError, ValueError: as for `fit_restarts`.

    Source: McLachlan (1987), Appl. Stat. 36.

    >>> import jax, jaxgmm
    >>> x = jax.random.normal(jax.random.key(0), (100, 1)).at[:50].add(8.0)
    >>> test = jaxgmm.likelihood_ratio_test(jax.random.key(1), x, 1, n_bootstrap=19, n_restarts=2)
    >>> f"{test.p_value:.2f}"
    '0.05'
    """
    key = checks.key(key)
    if isinstance(x, Evidence):
        raise NotImplementedError(
            "x is what jaxgmm.rows made, and likelihood_ratio_test draws rows like those of x, without weights or "
            "labels; expected an array."
        )
    x = known.unsharded(known.evidence(x, weighted=False), "likelihood_ratio_test").x
    k = checks.count("n_components", n_components)
    chunk = _CHUNK.get(jax.default_backend())
    fitted = functools.partial(
        fit_many,
        form=form,
        max_components=k + 1,
        chunk_size=chunk,
        progress=progress,
        n_restarts=n_restarts,
        n_finalists=n_finalists,
        screening_tol=screening_tol,
        methods=methods,
        spurious=spurious,
        lanes=lanes,
        tol=tol,
        max_iter=max_iter,
        regularization=regularization,
        scale=scale,
        objective=objective,
        acceleration=acceleration,
        history_size=history_size,
        block_size=block_size,
    )
    for_fits, for_data, for_draws = jax.random.split(key, 3)
    both = fitted(for_fits, jnp.stack([x, x]), [k, k + 1]).best
    null, alternative = (jax.tree.map(lambda leaf, place=place: leaf[place], both) for place in (0, 1))
    n_bootstrap = checks.count("n_bootstrap", n_bootstrap)
    statistic = _statistic(null, alternative)
    if jnp.isfinite(statistic):
        keys = jax.random.split(for_data, n_bootstrap)
        drawn = jax.lax.map(lambda key: null.mixture.sample(key, x.shape[0]), keys)
        fits = [fitted(for_draws, drawn, count).best for count in (k, k + 1)]
        simulated = _statistic(*fits)
    else:  # there is nothing to draw from, or nothing to compare with
        simulated = jnp.full((n_bootstrap,), jnp.nan, x.dtype)
    p_value = jnp.where(jnp.isfinite(statistic), (1 + jnp.sum(~(simulated < statistic))) / (1 + n_bootstrap), jnp.nan)
    return LikelihoodRatioTest(statistic, p_value, simulated, jnp.sum(jnp.isnan(simulated)), null, alternative)


def _statistic(null: FitResult, alternative: FitResult) -> Float[Array, "*batch"]:
    """Twice the rise of the log-likelihood; NaN where one of the fits failed."""
    values = jnp.stack([null.log_likelihood, alternative.log_likelihood])
    failed = jnp.stack([null.status, alternative.status]) == Status.NON_FINITE
    fine = jnp.all(jnp.isfinite(values) & ~failed, axis=0)
    return jnp.where(fine, 2 * (values[1] - values[0]), jnp.nan)


def stability(
    key: jax.Array,
    x: Any,
    n_components: int,
    form: Any = "full",
    *,
    n_repeats: int = 20,
    weights: Any = None,
    progress: bool = False,
    n_restarts: int = 12,
    n_finalists: int = 4,
    screening_tol: Any = 1e-3,
    methods: Sequence[str] | None = None,
    spurious: Any = False,
    lanes: int | None = None,
    tol: Any = 1e-6,
    max_iter: Any = 1000,
    regularization: Any = 1e-6,
    scale: Any = None,
    objective: Any = None,
    acceleration: str | None = "anderson",
    history_size: int = 128,
    block_size: int | None = None,
) -> Stability:
    """Whether the groups that a fit finds are found again: with other starts, and in rows drawn again.

    Labels are compared by the adjusted Rand index, which does not care about the order of the components. Groups that
    come back in resamples are a property of what the data were drawn from; a number of components at which they do not
    is too large, or not supported by so few rows.

    Args:
        key: what is drawn is drawn with this key.
        x: rows (n, d).
        n_components: number of components.
        form: as for `init`.
        n_repeats: fits with other keys, and as many to resampled rows.
        weights: of the rows (n,); they count rows, in the index and as the number of rows that are drawn again. Default
            ones.
        progress: show a progress bar (needs tqdm).
        scale: of each column (d,), of resamples too. Default that of the rows.

    All others are as for `fit_restarts`.

    Raises:
        TypeError, ValueError: as for `fit_restarts`.

    Source: Hennig (2007), Comput. Stat. Data Anal. 52, for stability under resampling.

    >>> import jax, jaxgmm
    >>> x = jax.random.normal(jax.random.key(0), (200, 2)).at[:100].add(8.0)
    >>> found = jaxgmm.stability(jax.random.key(1), x, 2, n_repeats=5, n_restarts=2)
    >>> float(found.resamples.min())
    1.0
    """
    key = checks.key(key)
    rows = known.unsharded(known.evidence(x, weights), "stability")
    x, weights = rows.x, rows.weights
    present = checks.present("n_components", n_components, "max_components", None)
    plan = Plan.of(
        x.dtype,
        (present.size, x.shape[1]),
        form,
        n_restarts=n_restarts,
        n_finalists=n_finalists,
        screening_tol=screening_tol,
        methods=methods,
        spurious=spurious,
        lanes=lanes,
        tol=tol,
        max_iter=max_iter,
        regularization=regularization,
        scale=scale_of(rows) if scale is None else scale,
        objective=objective,
        acceleration=acceleration,
        history_size=history_size,
        block_size=block_size,
    )
    n_repeats = checks.count("n_repeats", n_repeats)
    for_reference, for_restarts, for_rows = jax.random.split(key, 3)
    reference = best_of_restarts(plan, for_reference, rows, present).best
    # What absent rows hold is not looked at, nor what group they would be in.
    there = jnp.where(weights[:, None] > 0, x, x[jnp.argmax(weights > 0)])
    unlabelled = dataclasses.replace(rows, x=there, labels=None)
    keys = jax.random.split(for_restarts, 2 * n_repeats)
    resampled = draws.resampled(draws.on_the_host(for_rows), weights, n_repeats)

    def labels(fit: FitResult) -> Int[Array, " n"] | None:
        return None if int(fit.status) == Status.NON_FINITE else fit.mixture.predict(unlabelled)

    expected = labels(reference)

    def agreement(number: int) -> float:
        shares = weights if number < n_repeats else jnp.asarray(resampled[number - n_repeats])
        found = labels(best_of_restarts(plan, keys[number], dataclasses.replace(rows, weights=shares), present).best)
        if expected is None or found is None:
            return math.nan
        return float(adjusted_rand_index(expected, found, weights=weights, n_labels=reference.mixture.n_components))

    done = side_by_side(agreement, range(2 * n_repeats))
    found = jnp.asarray(list(shown(done, 2 * n_repeats, progress, "fits")), x.dtype)
    return Stability(reference, found[:n_repeats], found[n_repeats:])
