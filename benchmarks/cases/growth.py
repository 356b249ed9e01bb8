"""How time grows with rows, columns, components and restarts."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import data, ours
from benchmarks.harness import Contender, Row, contest

BASE = {"n": 100_000, "d": 8, "k": 8}
AXES = {
    "n": (1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000),
    "d": (2, 4, 8, 16, 32, 64),
    "k": (2, 4, 8, 16, 32, 64, 128),
    "restarts": (1, 2, 4, 8, 16, 32, 64),
}
STEPS = 10


def points(case: str, quick: bool) -> list[Row]:
    """One process per axis."""
    return [{"axis": axis} for axis in AXES]


def run(point: Row, dtype: type, quick: bool) -> Iterator[Row]:
    """An iteration of EM for every size; for restarts seeding and ten iterations each."""
    axis = point["axis"]
    sizes = AXES[axis][:2] if quick else AXES[axis]
    for size in sizes:
        shape = BASE | ({"n": 2000} if quick else {}) | ({axis: size} if axis != "restarts" else {"n": 5000})
        x, start = data.mixture(shape["n"], shape["d"], shape["k"], dtype)
        makers = {"jaxgmm": lambda x=x, start=start: ours.iteration(x, start, "full")}
        if axis == "restarts":
            makers = {
                f"jaxgmm, {how}": lambda x=x, k=shape["k"], size=size, how=how: restarted(x, k, size, how)
                for how in ("map", "vmap")
            }
        for row in contest(makers, budget=0 if quick else 2.0):
            yield row | {"size": size, **shape}


def restarted(x: Any, k: int, restarts: int, how: str) -> Contender:
    """Seedings and a fixed number of steps."""
    options = {"max_iter": STEPS, **ours.PLAIN}

    @jax.jit
    def run(keys: jax.Array, rows: jax.Array) -> jax.Array:
        fits = ours.many(lambda key: ours.seeded_fit(key, rows, k, "full", 0.0, **options), how)(keys)
        return fits.log_likelihood

    rows, keys = jnp.asarray(x), jax.random.split(jax.random.key(0), restarts)
    return Contender(lambda _: jax.block_until_ready(run(keys, rows)))
