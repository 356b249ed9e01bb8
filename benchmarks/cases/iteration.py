"""One iteration of EM from given parameters: the grid of shapes, and the structures of covariance."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import data, ours, peers
from benchmarks.harness import Contender, Row, contest, derived, mean_log_likelihood

# Rows, columns, components. As many rows as the slowest contenders take in seconds.
SHAPES = ((100_000, 2, 5), (100_000, 8, 16), (100_000, 16, 32), (50_000, 32, 64), (20_000, 64, 16))
MORE_STEPS, FEW_STEPS = 11, 1


def points(case: str, quick: bool) -> list[Row]:
    """The shapes, with full covariances or with each of the others."""
    structures = ("full",) if case == "grid" else ("tied", "diag", "spherical")
    shapes = SHAPES[:2] if quick else SHAPES
    return [
        {"structure": structure, "n": n // 50 if quick else n, "d": d, "k": k}
        for structure in structures
        for n, d, k in shapes
    ]


def run(point: Row, dtype: type, quick: bool, *, with_peers: bool = True) -> Iterator[Row]:
    """Ours by the two verbs and inside `fit`, the peers, and the matrix products that the work comes down to."""
    n, d, k, structure = (point[name] for name in ("n", "d", "k", "structure"))
    x, start = data.mixture(n, d, k, dtype, structure)
    makers = {"jaxgmm": lambda: ours.iteration(x, start, structure)}
    for name, steps in (("more", MORE_STEPS), ("few", FEW_STEPS)):
        makers[name] = lambda steps=steps: ours.steps_of_fit(x, start, structure, steps)
    if with_peers:
        makers |= {name: lambda peer=peer: peer(x, start, structure) for name, peer in peers.ITERATIONS.items()}
    sizes = {"P": 1 + d + d * (d + 1) // 2} if structure == "full" else {}
    if sizes:
        makers["two GEMMs, jax"] = lambda: products_jax(n, k, sizes["P"], dtype)
        makers["two GEMMs, numpy"] = lambda: products_numpy(n, k, sizes["P"], dtype)
    budget = 0 if quick else 4.0
    rows = {row["contender"]: row for row in contest(makers, lambda p: mean_log_likelihood(x, p), budget=budget)}
    more, few = rows.pop("more"), rows.pop("few")
    # The likelihood after eleven steps is not one to compare with.
    best = max((row["log_likelihood"] for row in rows.values() if "log_likelihood" in row), default=np.nan)
    for row in rows.values():
        if "log_likelihood" in row:
            row["gap"] = best - row["log_likelihood"]
            row["equal"] = row["gap"] <= 1e-4
    taken = max(more.get("steps", MORE_STEPS) - few.get("steps", FEW_STEPS), 1)
    rows["inside"] = derived("jaxgmm, inside fit", more, few, rows["jaxgmm"], taken) | {"compile": few.get("compile")}
    for row in rows.values():
        yield {**row, **sizes}


def products_numpy(n: int, k: int, columns: int, dtype: type) -> Contender:
    """(k, P) @ (P, n) and (k, n) @ (n, P) by the BLAS of numpy."""
    generator = np.random.default_rng(0)
    parameters, features, responsibilities = (
        generator.random(shape, np.float32).astype(dtype) for shape in ((k, columns), (columns, n), (k, n))
    )
    outputs = np.empty((k, n), dtype), np.empty((k, columns), dtype)

    def call(_: int) -> None:
        np.matmul(parameters, features, out=outputs[0])
        np.matmul(responsibilities, features.T, out=outputs[1])

    return Contender(call)


def products_jax(n: int, k: int, columns: int, dtype: type) -> Contender:
    """The same two products by XLA, at full precision."""
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = ((k, columns), (columns, n), (k, n))
    arrays = [jax.random.uniform(key, shape, dtype) for key, shape in zip(keys, shapes, strict=True)]

    @jax.jit
    def both(parameters: jax.Array, features: jax.Array, responsibilities: jax.Array) -> tuple[jax.Array, jax.Array]:
        precision = jax.lax.Precision.HIGHEST
        product = jnp.matmul(parameters, features, precision=precision)
        return product, jnp.matmul(responsibilities, features.T, precision=precision)

    return Contender(lambda _: jax.block_until_ready(both(*arrays)))
