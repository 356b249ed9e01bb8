"""Optimisers beside EM: passes over the data to the same optimum, and what mini-batches buy at a million rows."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxgmm
from benchmarks import acceleration, data, ours
from benchmarks.harness import Row

SHAPES = ((2, 2), (2, 4), (5, 3), (10, 4))
STRUCTURES = ("full", "diag")
OPTIMIZERS = {
    "adam, 0.03": optax.adam(0.03),
    "adam, 0.1": optax.adam(0.1),
    "lbfgs": optax.lbfgs(),
}
LONGEST = 2000
BATCHES = ((1000, 300), (1000, 3000), (10_000, 300), (10_000, 1000))


def points(case: str, quick: bool) -> list[Row]:
    """The counts, then the million rows."""
    return [{}, {"n": 20_000 if quick else 1_000_000, "d": 8, "k": 16}]


def run(point: Row, dtype: type, quick: bool) -> Iterator[Row]:
    """Passes to within 1e-6 of the limit, or the time and passes that runs of different lengths take."""
    if "n" in point:
        yield from large(point, dtype)
        return
    for case in acceleration.suite(n=200 if quick else 1000, seeds=range(1)):
        if case.structure in STRUCTURES and (case.x.shape[1], case.k) in SHAPES[: 1 if quick else None]:
            yield from passes(case)


def passes(case: acceleration.Case) -> Iterator[Row]:
    """For each way, the passes over the rows until it is within `NEAR` of its limit. A gradient takes one pass."""
    n = len(case.x)
    paths = {}
    for name, scheme in {"EM": None, "EM, accelerated": "anderson"}.items():
        options = {"acceleration": scheme, "max_iter": LONGEST, "history_size": LONGEST + 1}
        result = jaxgmm.fit(case.start, case.x, tol=0, **options)
        path = np.asarray(result.history)[: int(result.n_iter) + 1] / n
        paths[name] = np.arange(1, len(path) + 1), path
    for name, optimizer in OPTIMIZERS.items():
        paths[name] = climbed(case, optimizer, single=name == "lbfgs")
    best = max(path[-1] for _, path in paths.values())
    for name, (count, path) in paths.items():
        end = np.max(path)
        goal = min(best, end) if best - end <= acceleration.APART else end
        there = path >= goal - acceleration.NEAR
        yield {
            "contender": name,
            "name": case.name,
            "passes": int(count[np.argmax(there)]),
            "same": bool(best - end <= acceleration.APART),
        }


def climbed(case: acceleration.Case, optimizer: Any, *, single: bool) -> tuple[np.ndarray, np.ndarray]:
    """Passes so far and log-likelihood per row, step by step; a line search takes several passes a step."""
    n, counted = len(case.x), []

    def loss(mixture: jaxgmm.Mixture, x: jax.Array, weights: jax.Array) -> jax.Array:
        jax.debug.callback(lambda: counted.append(0))
        return jaxgmm.negative_log_likelihood(mixture, x, weights)

    if not single:
        options = {"history_size": LONGEST + 1, "n_steps": LONGEST, "tol": 1e-13}
        history = np.asarray(jaxgmm.fit_gradient(case.start, case.x, optimizer, **options).history)
        path = history[np.isfinite(history)] / n
        return np.arange(1, len(path) + 1), path
    result, count, path = case.start, [1], [float(jaxgmm.log_likelihood(case.start, case.x)) / n]
    for _ in range(150):
        # Each call looks at the start once more, which going on in one call would not.
        result = jax.block_until_ready(
            jaxgmm.fit_gradient(result, case.x, optimizer, n_steps=1, tol=0, loss=loss, history_size=2)
        )
        jax.effects_barrier()
        path.append(float(result.log_likelihood) / n)
        count.append(len(counted))
    return np.array(count), np.array(path)


def large(point: Row, dtype: type) -> Iterator[Row]:
    """From one start: seconds, passes and what is missing per row to the best of all."""
    x, near = data.mixture(point["n"], point["d"], point["k"], dtype)
    rows, start = jnp.asarray(x), ours.mixture_of(near, "full", dtype)
    n = len(x)
    ways: dict[str, tuple[Callable[[], Any], float]] = {}
    for tol in (1e-3, 1e-4, 1e-6):
        ways[f"EM, accelerated, tol {tol:g}"] = (lambda tol=tol: jaxgmm.fit(start, rows, tol=tol), np.nan)
    for tol in (1e-3, 1e-4):
        ways[f"lbfgs, tol {tol:g}"] = (
            lambda tol=tol: jaxgmm.fit_gradient(start, rows, OPTIMIZERS["lbfgs"], n_steps=200, tol=tol),
            np.nan,
        )
    for batch, steps in BATCHES:
        batch = min(batch, n // 20)
        ways[f"adam, {steps} batches of {batch}"] = (
            lambda batch=batch, steps=steps: jaxgmm.fit_gradient(
                start,
                rows,
                optax.adam(optax.cosine_decay_schedule(0.05, steps)),
                n_steps=steps,
                batch_size=batch,
                key=jax.random.key(0),
            ),
            batch * steps / n,
        )
    found = []
    for name, (call, count) in ways.items():
        jax.block_until_ready(call())
        times = []
        for _ in range(3):
            begin = time.perf_counter()
            result = jax.block_until_ready(call())
            times.append(time.perf_counter() - begin)
        found.append((name, float(np.median(times)), count, int(result.n_iter), float(result.log_likelihood) / n))
    best = max(value for *_, value in found)
    for name, seconds, count, steps, value in found:
        row = {"contender": name, "median": seconds, "steps": steps, "missing": best - value}
        yield row | ({"passes": count} if np.isfinite(count) else {})
