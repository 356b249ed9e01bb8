"""What data drawn again would say: a test of one more component, and whether the same groups come back."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgmm.fitting.result import FitResult
from jaxgmm.ground import checks
from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.selection.agreement import adjusted_rand_index
from jaxgmm.selection.batches import shown, side_by_side
from jaxgmm.selection.many import fit_many
from jaxgmm.selection.restarts import Plan, best_of_restarts

# Where fits run one after the other, a call takes as many as the data themselves need, so that one program does all.
_CHUNK = {"cpu": 2}


@record
class LikelihoodRatioTest:
    """Outcome of `likelihood_ratio_test`.

    Fields:
        statistic: (), twice the rise of the log-likelihood from k to k + 1 components.
        p_value: (), share of the statistics, this one among them, that are at least as large.
        simulated: (b,), the statistic in each data set drawn from the fit with k.
        null, alternative: `FitResult` with k and with k + 1 components; both have room for k + 1.
    """

    statistic: Leaf
    p_value: Leaf
    simulated: Leaf
    null: FitResult
    alternative: FitResult


@record
class Stability:
    """Outcome of `stability`: agreement with the labels of one fit, as adjusted Rand indices.

    Fields:
        reference: the `FitResult` that the others are compared with.
        restarts: (b,), of fits to the same rows with other keys. Below 1: the search does not find the same optimum.
        resamples: (b,), of fits to rows drawn again with replacement. Below 1: other rows would give other groups.
    """

    reference: FitResult
    restarts: Leaf
    resamples: Leaf


def likelihood_ratio_test(
    key: jax.Array,
    x: Any,
    n_components: int,
    covariance_type: str | None = None,
    *,
    n_bootstrap: int = 99,
    progress: bool = False,
    **options: Any,
) -> LikelihoodRatioTest:
    """Whether `n_components` components are enough, against one more: the parametric bootstrap.

    The likelihood ratio of two mixtures does not have the usual chi-squared distribution. So it is found by drawing
    data sets from the fit with k components, and fitting both mixtures to each as they are to the data.

    Args:
        key: what is drawn is drawn with this key.
        x: rows (n, d), all of weight 1.
        n_components: k, the number of components under the null hypothesis.
        covariance_type: as for `init`.
        n_bootstrap: data sets drawn, b. The p-value is not below 1 / (b + 1).
        progress: show a progress bar (needs tqdm).
        **options: as for `fit_restarts`, for all fits; `n_restarts` is 12 by default.

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
    x, _ = checks.weighted_data(x)
    k = checks.count("n_components", n_components)
    chunk = _CHUNK.get(jax.default_backend())
    options = {"max_components": k + 1, "n_restarts": 12, "chunk_size": chunk, "progress": progress} | options
    for_fits, for_data, for_draws = jax.random.split(key, 3)
    both = fit_many(for_fits, jnp.stack([x, x]), [k, k + 1], covariance_type, **options).best
    null, alternative = (jax.tree.map(lambda leaf, place=place: leaf[place], both) for place in (0, 1))
    keys = jax.random.split(for_data, checks.count("n_bootstrap", n_bootstrap))
    drawn = jax.lax.map(lambda key: null.mixture.sample(key, x.shape[0]), keys)
    fits = [fit_many(for_draws, drawn, count, covariance_type, **options).best for count in (k, k + 1)]
    simulated = 2 * (fits[1].log_likelihood - fits[0].log_likelihood)
    statistic = 2 * (alternative.log_likelihood - null.log_likelihood)
    p_value = (1 + jnp.sum(simulated >= statistic)) / (1 + simulated.size)
    return LikelihoodRatioTest(statistic, p_value, simulated, null, alternative)


def stability(
    key: jax.Array,
    x: Any,
    n_components: int,
    covariance_type: str | None = None,
    *,
    n_repeats: int = 20,
    weights: Any = None,
    progress: bool = False,
    **options: Any,
) -> Stability:
    """Whether the groups that a fit finds are found again: with other starts, and in rows drawn again.

    Labels are compared by the adjusted Rand index, which does not care about the order of the components. Groups that
    come back in resamples are a property of what the data were drawn from; a number of components at which they do not
    is too large, or not supported by so few rows.

    Args:
        key: what is drawn is drawn with this key.
        x: rows (n, d).
        n_components: number of components.
        covariance_type: as for `init`.
        n_repeats: fits with other keys, and as many to resampled rows.
        weights: of the rows (n,); they count rows. Default ones.
        progress: show a progress bar (needs tqdm).
        **options: as for `fit_restarts`; `n_restarts` is 12 by default.

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
    x, weights = checks.weighted_data(x, weights)
    plan = Plan.of(x.dtype, covariance_type, **({"n_restarts": 12} | options))
    n_repeats = checks.count("n_repeats", n_repeats)
    present = checks.present("n_components", n_components, "max_components", None)
    for_reference, for_restarts, for_rows = jax.random.split(key, 3)
    reference = best_of_restarts(plan, for_reference, x, weights, present).best
    labels = reference.mixture.predict(x)
    keys = jax.random.split(for_restarts, 2 * n_repeats)
    drawn = jax.lax.map(lambda key: _resampled(key, weights), jax.random.split(for_rows, n_repeats))

    def agreement(number: int) -> Float[Array, ""]:
        shares = weights if number < n_repeats else drawn[number - n_repeats]
        mixture = best_of_restarts(plan, keys[number], x, shares, present).best.mixture
        return jax.block_until_ready(adjusted_rand_index(labels, mixture.predict(x), n_labels=present.size))

    done = side_by_side(agreement, range(2 * n_repeats))
    found = jnp.stack(list(shown(done, 2 * n_repeats, progress, "fits")))
    return Stability(reference, found[:n_repeats], found[n_repeats:])


def _resampled(key: jax.Array, weights: Float[Array, " n"]) -> Float[Array, " n"]:
    """How often each row is drawn, of as many draws as there are rows, in proportion to the weights."""
    n = weights.size
    rows = jax.random.categorical(key, jnp.log(weights), shape=(n,))
    return jnp.zeros_like(weights).at[rows].add(jnp.sum(weights) / n)
