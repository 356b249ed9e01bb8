"""What the benchmarks use of jaxgmm: the one place to change when its interface does."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxgmm
from benchmarks.data import Parameters, compact
from benchmarks.harness import Contender, Row

# Plain EM, for what is measured per iteration; whole fits take the defaults.
PLAIN = {"acceleration": None}
LONGEST = 1000


def mixture_of(parameters: Parameters, structure: str, dtype: type) -> jaxgmm.Mixture:
    """The mixture with given dense covariances."""
    weights, means = (jnp.asarray(p, dtype) for p in (parameters.weights, parameters.means))
    covariances = jnp.asarray(compact(parameters.covariances, structure), dtype)
    return jaxgmm.from_parameters(weights, means, covariances, structure)


def parameters_of(mixture: jaxgmm.Mixture) -> Parameters:
    """Its parameters in numpy."""
    return Parameters(*(np.asarray(p, np.float64) for p in (mixture.weights, mixture.means, mixture.covariances)))


def iteration(x: np.ndarray, start: Parameters, structure: str) -> Contender:
    """One iteration of EM from given parameters, under one jit."""
    rows, mixture = jnp.asarray(x), mixture_of(start, structure, x.dtype)
    scale = jaxgmm.scale_of(rows)
    step = jax.jit(lambda mixture, rows: jaxgmm.m_step(mixture, jaxgmm.e_step(mixture, rows), scale))
    return Contender(lambda _: jax.block_until_ready(step(mixture, rows)), parameters_of)


def steps_of_fit(x: np.ndarray, start: Parameters, structure: str, n_steps: int) -> Contender:
    """`fit` from given parameters for a number of steps."""
    rows, mixture = jnp.asarray(x), mixture_of(start, structure, x.dtype)
    run = jax.jit(lambda mixture, rows, most: jaxgmm.fit(mixture, rows, tol=0, max_iter=most, **PLAIN))
    notes: Row = {}

    def parameters(result: jaxgmm.FitResult) -> Parameters:
        notes["steps"] = int(result.n_iter)
        return parameters_of(result.mixture)

    return Contender(lambda _: jax.block_until_ready(run(mixture, rows, n_steps)), parameters, notes)


def seeded_fit(
    key: jax.Array, x: Any, k: int, structure: str, tol: Any = 1e-3, method: str = "k-means++", **options: Any
) -> jaxgmm.FitResult:
    """Seeding and EM; to be compiled by the caller."""
    options = {"max_iter": LONGEST, "history_size": 2} | options
    return jaxgmm.fit(jaxgmm.init(key, x, k, structure, method=method), x, tol=tol, **options)


def whole_fit(x: np.ndarray, k: int, structure: str, tol: float, method: str, seed: int = 0) -> Contender:
    """Seeding and EM from scratch, compiled as one; the seed of a call is added to `seed`."""
    rows = jnp.asarray(x)
    run = jax.jit(functools.partial(seeded_fit, k=k, structure=structure, method=method))
    return Contender(
        lambda i: jax.block_until_ready(run(jax.random.key(seed + i), rows, tol=tol)),
        lambda result: parameters_of(result.mixture),
        {"tol": tol, "seeding": method},
    )


def two_stage_fit(x: np.ndarray, k: int, structure: str, tol: float, method: str) -> Contender:
    """Seeding and EM on every fifth row, then EM on all of them, compiled as one."""
    rows = jnp.asarray(x)

    @jax.jit
    def run(key: jax.Array, rows: jax.Array, tol: Any) -> jaxgmm.FitResult:
        few = seeded_fit(key, rows[::5], k, structure, tol, method)
        return jaxgmm.fit(few.mixture, rows, tol=tol, max_iter=LONGEST, history_size=2)

    return Contender(
        lambda i: jax.block_until_ready(run(jax.random.key(i), rows, tol)),
        lambda result: parameters_of(result.mixture),
        {"tol": tol, "seeding": method},
    )


def path(x: np.ndarray, k: int, structure: str, tol: float, method: str, seed: int) -> np.ndarray:
    """Mean log-likelihood after each step of a fit."""
    fit = jax.jit(functools.partial(seeded_fit, k=k, structure=structure, method=method, history_size=LONGEST + 1))
    result = fit(jax.random.key(seed), jnp.asarray(x), tol=tol)
    return np.asarray(result.history, np.float64)[: int(result.n_iter) + 1] / len(x)


def many(function: Callable[..., Any], how: str) -> Callable[..., Any]:
    """`function` over the leading axis of its arguments, by "vmap" or by "map"."""
    return jax.vmap(function) if how == "vmap" else lambda *given: jax.lax.map(lambda one: function(*one), given)
