"""What the derivative of a fit costs, in steps of EM."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxgmm
from benchmarks import data, ours
from benchmarks.harness import Row
from jaxgmm.fitting import implicit

SHAPES = ((1_000, 2, 3), (10_000, 8, 8), (100_000, 8, 16), (20_000, 16, 16))


def points(case: str, quick: bool) -> list[Row]:
    """Rows, columns, components."""
    return [{"n": n, "d": d, "k": k} for n, d, k in SHAPES[: 1 if quick else None]]


def run(point: Row, dtype: type, quick: bool) -> Iterator[Row]:
    """The gradient of a number of the fitted mixture in all row weights, apart from the fit itself."""
    x, near = data.mixture(point["n"], point["d"], point["k"], dtype)
    rows, weights = jnp.asarray(x), jnp.ones(len(x), dtype)
    fitted = jaxgmm.fit(ours.mixture_of(near, "full", dtype), rows, tol=0).mixture
    scale = jaxgmm.scale_of(rows)

    def value(weights: jax.Array) -> jax.Array:
        # No steps: what is timed is the derivative where the fit ended.
        mixture = jaxgmm.fit(fitted, rows, weights, max_iter=0, history_size=2).mixture
        return jnp.sum(jnp.sin(mixture.means)) + jnp.sum(mixture.weights**2)

    step = jax.jit(lambda weights: jaxgmm.m_step(fitted, jaxgmm.e_step(fitted, rows, weights), scale))
    calls = {"step": step, "fit": jax.jit(value), "gradient": jax.jit(jax.grad(value))}
    times = {name: [] for name in calls}
    for call in calls.values():
        jax.block_until_ready(call(weights))
    for _ in range(3 if quick else 9):
        for name, call in calls.items():
            begin = time.perf_counter()
            jax.block_until_ready(call(weights))
            times[name].append(time.perf_counter() - begin)
    medians = {name: float(np.median(of)) for name, of in times.items()}
    products = counted(jax.grad(value), weights)
    extra = medians["gradient"] - medians["fit"]
    yield {
        "contender": "jaxgmm",
        "median": extra,
        "step": medians["step"],
        "products": products,
        "steps": extra / medians["step"],
        "steps_each": extra / medians["step"] / products,
    }


def counted(gradient: Callable[[jax.Array], Any], weights: jax.Array) -> int:
    """Products with the Jacobian of a step that the linear solve takes."""
    found: list[int] = []
    solve = implicit._gmres

    def counting(matvec: Callable[[jax.Array], jax.Array], target: jax.Array) -> jax.Array:
        def product(direction: jax.Array) -> jax.Array:
            jax.debug.callback(lambda: found.append(0))
            return matvec(direction)

        return solve(product, target)

    implicit._gmres = counting
    try:
        jax.clear_caches()
        jax.block_until_ready(gradient(weights))
        jax.effects_barrier()
    finally:
        implicit._gmres = solve
        jax.clear_caches()
    return len(found)
