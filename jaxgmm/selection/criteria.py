"""Information criteria: the misfit of a mixture plus a price for its parameters. Lower is better for all of them."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgmm.families.family import Kernel
from jaxgmm.fitting.result import FitResult
from jaxgmm.ground import checks, pytree
from jaxgmm.ground.programs import program
from jaxgmm.ground.rows import Evidence, sum_over_blocks
from jaxgmm.model.mixture import Mixture, check_rows
from jaxgmm.model.passes import of_passes, posterior, with_kernel
from jaxgmm.model.steps import block_size_or_default, log_likelihood, sum_over_rows, weighted_sum


def aic(mixture: Mixture, x: Any, weights: Any = None, *, block_size: int | None = None) -> Float[Array, ""]:
    """Akaike's information criterion, -2 L + 2 p for log-likelihood L and p free parameters. Lower is better.

    It aims at prediction, and tends to more components than the data are made of.

    Arguments and errors as for `e_step`; weights count rows.

    Source: Akaike (1974), IEEE Trans. Autom. Control 19.

    >>> import jax.numpy as jnp, jaxgmm
    >>> mixture = jaxgmm.from_parameters([1.0], [[0.0]], [1.0], form="spherical")  # 2 parameters
    >>> f"{jaxgmm.aic(mixture, jnp.zeros((10, 1))):.3f}"  # -2 * 10 log N(0; 0, 1) + 2 * 2
    '22.379'
    """
    value = log_likelihood(mixture, x, weights, block_size=block_size)
    return aic_of(value, _n_parameters(mixture, value))


def aicc(mixture: Mixture, x: Any, weights: Any = None, *, block_size: int | None = None) -> Float[Array, ""]:
    """AIC corrected for few rows, AIC + 2 p (p + 1) / (n - p - 1); infinite where n <= p + 1. Lower is better.

    Arguments and errors as for `e_step`; n is the sum of the weights, which count rows.

    Source: Hurvich & Tsai (1989), Biometrika 76.

    >>> import jax, jaxgmm
    >>> x = jax.random.normal(jax.random.key(0), (500, 2))
    >>> mixture = jaxgmm.init(jax.random.key(1), x, 1)  # 5 parameters
    >>> f"{jaxgmm.aicc(mixture, x) - jaxgmm.aic(mixture, x):.3f}"
    '0.121'
    """
    value = log_likelihood(mixture, x, weights, block_size=block_size)
    return aicc_of(value, _n_parameters(mixture, value), _n_rows(mixture, x, weights))


def bic(mixture: Mixture, x: Any, weights: Any = None, *, block_size: int | None = None) -> Float[Array, ""]:
    """Bayesian information criterion, -2 L + p log(n). Lower is better.

    It aims at the number of components, and finds it in the limit of many rows where the components are Gaussian.

    Arguments and errors as for `e_step`; n is the sum of the weights, which count rows: a weight of 2 is the same row
    twice. Weights in any other unit make no sense here.

    Source: Schwarz (1978), Ann. Stat. 6.

    >>> import jax, jaxgmm
    >>> key, x = jax.random.key(1), jax.random.normal(jax.random.key(0), (500, 2))
    >>> x = x.at[:200].add(6.0)
    >>> scores = [float(jaxgmm.bic(jaxgmm.fit(jaxgmm.init(key, x, k), x).mixture, x)) for k in (1, 2, 3)]
    >>> 1 + scores.index(min(scores))
    2
    """
    value = log_likelihood(mixture, x, weights, block_size=block_size)
    return bic_of(value, _n_parameters(mixture, value), _n_rows(mixture, x, weights))


def icl(mixture: Mixture, x: Any, weights: Any = None, *, block_size: int | None = None) -> Float[Array, ""]:
    """Integrated completed likelihood: BIC with every row counted as its most probable component's. Lower is better.

    -2 sum_i log max_k w_k p_k(x_i) + p log(n), which is BIC and twice the doubt about labels, -sum_i log max_k r_ik. It
    aims at clusters that lie apart, and merges components that only together describe one of them.

    Arguments and errors as for `bic`.

    Source: Biernacki, Celeux & Govaert (2000), IEEE Trans. Pattern Anal. Mach. Intell. 22.

    >>> import jax, jaxgmm
    >>> x = jax.random.normal(jax.random.key(0), (500, 2))
    >>> mixture = jaxgmm.init(jax.random.key(1), x, 3)
    >>> bool(jaxgmm.icl(mixture, x) > jaxgmm.bic(mixture, x))  # three components that overlap
    True
    """
    mixture, rows = check_rows(mixture, x, weights)
    completed = completed_log_likelihood(mixture, rows, block_size=block_size_or_default(block_size, mixture, rows))
    return bic_of(completed, _n_parameters(mixture, completed), jnp.sum(rows.counted))


def aic_of(log_likelihood: Any, n_parameters: Any) -> Any:
    """AIC from a total log-likelihood."""
    return 2 * n_parameters - 2 * log_likelihood


def aicc_of(log_likelihood: Any, n_parameters: Any, n_rows: Any, xp: Any = jnp) -> Any:
    """AICc from a total log-likelihood, by the functions of numpy or JAX."""
    spare = n_rows - n_parameters - 1
    more = 2 * n_parameters * (n_parameters + 1) / xp.where(spare > 0, spare, 1)
    return xp.where(spare > 0, aic_of(log_likelihood, n_parameters) + more, xp.inf)


def bic_of(log_likelihood: Any, n_parameters: Any, n_rows: Any, xp: Any = jnp) -> Any:
    """BIC from a total log-likelihood, by the functions of numpy or JAX."""
    return n_parameters * xp.log(n_rows) - 2 * log_likelihood


def evidence_of(objective: Any, best: FitResult) -> Float[Array, ""]:
    """-2 times the bound of the log-evidence that a fit by `Variational` reached."""
    return -2 * objective.log_evidence(best.mixture, best.objective)


def criterion_of(name: Any, known: Sequence[str], objective: Any) -> str:
    """The name of a criterion, one that there is for fits of this objective."""
    name = checks.one_of("criterion", name, known)
    if name == "evidence" and not hasattr(objective, "log_evidence"):
        found = "the likelihood" if objective is None else type(objective).__name__
        raise ValueError(
            f"criterion is 'evidence', and the objective is {found}; expected objective=jaxgmm.Variational(), whose "
            "bound it is."
        )
    return name


def totals(mixture: Mixture, rows: Evidence) -> tuple[float, float]:
    """Log-likelihood and completed log-likelihood in float64, whatever the floating point type of all that is given.

    In float32, totals of 1e8 round to 8 and those of rows to the same share; what candidates differ by is lost.
    """
    with jax.enable_x64(True):
        with rows.on_devices():
            values = _totals(mixture, rows, block_size=block_size_or_default(None, mixture, rows))
        return float(values[0]), float(values[1])


def _n_parameters(mixture: Mixture, value: Float[Array, ""]) -> Float[Array, ""]:
    """As floating point, which holds numbers of any size."""
    return jnp.asarray(mixture.n_parameters, value.dtype)


def _n_rows(mixture: Mixture, x: Any, weights: Any) -> Float[Array, ""]:
    rows = check_rows(mixture, x, weights)[1]
    total = jnp.sum(rows.counted)
    # Of no rows there is no criterion.
    return total if rows.seen is None else jnp.where(total > 0, total, jnp.nan)


@program(static=("block_size",), work=of_passes(1))
def completed_log_likelihood(mixture: Mixture, rows: Evidence, *, block_size: int) -> Float[Array, ""]:
    """The log-likelihood of the rows together with their most probable components."""

    def of(log_prob: Float[Array, " n"], responsibilities: Float[Array, "n k"]) -> Float[Array, " n"]:
        return log_prob + jnp.log(jnp.max(responsibilities, axis=1))

    return sum_over_rows(of, mixture, rows, block_size)


@program(static=("block_size",), work=of_passes(1))
def _totals(mixture: Mixture, rows: Evidence, *, block_size: int) -> tuple[Float[Array, ""], Float[Array, ""]]:
    mixture, rows = pytree.cast((mixture, rows), jnp.float64)

    def block(given: tuple[Array, Kernel], rows: Evidence) -> tuple[Float[Array, ""], Float[Array, ""]]:
        log_weights, kernel = given
        log_prob, responsibilities = posterior(log_weights, kernel.log_prob(kernel.read(rows)), rows)
        completed = log_prob + jnp.log(jnp.max(responsibilities, axis=1))
        return weighted_sum(log_prob, rows.weights), weighted_sum(completed, rows.weights)

    def total(kernel: Kernel, rows: Evidence) -> tuple[Float[Array, ""], Float[Array, ""]]:
        return sum_over_blocks(block, (mixture.log_weights, kernel), rows, rows.shards)

    return with_kernel(mixture.components, mixture.n_components, rows.in_blocks(block_size), total, own=True)
