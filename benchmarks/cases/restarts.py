"""Choosing the number of components: ten restarts for each of K = 1 … 10, the best by BIC."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxgmm
from benchmarks import data, ours, peers
from benchmarks.data import Parameters
from benchmarks.harness import Contender, Row, contest, mean_log_likelihood

STRUCTURE = "full"
TOL = 1e-3
# BIC / -2n of the chosen model, in nats per row.
EQUAL = 1e-3


def points(case: str, quick: bool) -> list[Row]:
    """The size of the problem; `k` is that of the data."""
    return [{"n": 500 if quick else 10_000, "d": 4, "k": 5, "largest": 3 if quick else 10, "restarts": 10}]


def run(point: Row, dtype: type, quick: bool) -> Iterator[Row]:
    """One compiled program per K here, or one for all, `n_init` there; likelihoods are BIC / -2n of the best model."""
    n, d, k, largest, restarts = point.values()
    x, _ = data.mixture(n, d, k, dtype, STRUCTURE)
    makers = {f"jaxgmm, {how}": lambda how=how: ours_restarted(x, largest, restarts, how) for how in ("map", "vmap")}
    makers["jaxgmm, select"] = lambda: ours_selected(x, largest, restarts)
    for init in ("kmeans", "k-means++"):
        makers[f"sklearn, {init}"] = lambda init=init: sklearn_restarted(x, largest, restarts, init)

    def score(found: list[Parameters]) -> float:
        return max(mean_log_likelihood(x, one) - penalty(len(one.weights), d, n) for one in found)

    yield from contest(makers, score, budget=0 if quick else 10.0, seeds=1 if quick else 3, equal=EQUAL)


def penalty(k: int, d: int, n: int) -> float:
    """What BIC takes off the mean log-likelihood of full covariances: p log(n) / 2n."""
    return (k * (1 + d + d * (d + 1) // 2) - 1) * float(np.log(n)) / (2 * n)


def ours_restarted(x: np.ndarray, largest: int, restarts: int, how: str) -> Contender:
    """The best restart of each K."""
    rows = jnp.asarray(x)

    def best(key: jax.Array, rows: jax.Array, k: int) -> Any:
        keys = jax.random.split(key, restarts)
        results = ours.many(lambda key: ours.seeded_fit(key, rows, k, STRUCTURE, TOL), how)(keys)
        place = jnp.argmax(jnp.where(jnp.isnan(results.log_likelihood), -jnp.inf, results.log_likelihood))
        return jax.tree.map(lambda leaf: leaf[place], results)

    compiled = jax.jit(best, static_argnames="k")
    ks = range(1, largest + 1)
    return Contender(
        lambda i: jax.block_until_ready([compiled(jax.random.key(i), rows, k) for k in ks]),
        lambda results: [ours.parameters_of(result.mixture) for result in results],
    )


def ours_selected(x: np.ndarray, largest: int, restarts: int) -> Contender:
    """One program for every K, from a thread for each core."""
    options = {"n_restarts": restarts, "n_finalists": restarts, "tol": TOL, "history_size": 2}

    def call(i: int) -> jaxgmm.Selection:
        return jaxgmm.select(jax.random.key(i), x, range(1, largest + 1), (STRUCTURE,), **options)

    return Contender(call, lambda table: [ours.parameters_of(one.result.mixture) for one in table.candidates])


def sklearn_restarted(x: np.ndarray, largest: int, restarts: int, init: str) -> Contender:
    """The same by `n_init`."""
    each = [peers.sklearn_fit(x, k, STRUCTURE, TOL, init, n_init=restarts) for k in range(1, largest + 1)]
    return Contender(
        lambda i: [one.call(i) for one in each], lambda models: [peers.sklearn_parameters(model) for model in models]
    )
