"""The same on an accelerator: `JAX_ENABLE_X64=0 python -m benchmarks.gpu [--cases grid select …] [--quick]`.

Needs jaxgmm and numpy; gmm-gpu has its row where it is installed. Time on a large card is short: what is measured is
compiled beforehand, on all cores, and goes into the file of results row by row.
"""

import argparse
import concurrent.futures
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

import jaxgmm
from benchmarks import data, ours, peers, results
from benchmarks.cases import iteration, many_fits, panel
from benchmarks.harness import Contender, Row, contest, derived, mean_log_likelihood

RESULTS = Path(__file__).parent / "results" / "gpu.json"
MORE_ROWS = 10
LARGE = {"n": 1_000_000, "d": 128, "k": 1024}
FITS = {"fits": 10_000, "n": 200, "d": 2, "k": 3}
SELECT = {"n": 100_000, "d": 8, "k": 5, "largest": 10, "restarts": 100}
# What a fit takes for a step of its own: with many rows, and with few.
STEPS = ({"n": 1_000_000, "d": 8, "k": 16}, {"n": 500, "d": 5, "k": 4})
# Rows at a time, beginning with what suits a CPU.
BLOCKS = (
    ({"structure": "full", "n": 1_000_000, "d": 8, "k": 16}, (2**11, 2**14, 2**17, 1_000_000)),
    ({"structure": "full", "n": 500_000, "d": 32, "k": 64}, (2**9, 2**13, 2**15, 2**17)),
)
BUDGET = 0.6

T = TypeVar("T")
Makers = dict[str, Callable[[], Contender]]


def main() -> None:
    """Measure in the dtype of this process and replace its rows."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--cases", nargs="*", choices=CASES, default=[*CASES], help="default all")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that everything runs")
    parser.add_argument("--results", type=Path, help="the file that rows are written into")
    given = parser.parse_args()
    dtype = np.float64 if jax.config.jax_enable_x64 else np.float32
    path = Path(tempfile.gettempdir()) / "jaxgmm-quick-gpu.json" if given.quick else RESULTS
    path = given.results or path
    bounds = ceilings(dtype, given.quick)
    for case in given.cases:
        rows: list[Row] = []
        for row in CASES[case](dtype, given.quick):
            row = {"case": case, "dtype": np.dtype(dtype).name, **row}
            if row.get("flops") and row.get("median"):
                row["of_GEMM"] = row["flops"] / row["median"] / bounds["GEMM flop/s"]
                row["of_bandwidth"] = row["bytes"] / row["median"] / bounds["bandwidth byte/s"]
            rows.append(json.loads(json.dumps(row, default=lambda value: value.item())))
            print(json.dumps(rows[-1]), flush=True)
            results.merge(path, case, np.dtype(dtype).name, rows, first=True, quick=given.quick)
            note(path, bounds, dtype)


def note(path: Path, bounds: dict[str, float], dtype: type) -> None:
    """Which card it was, and what it reaches by itself."""
    content = results.load(path)
    known = content["machine"].get("ceilings", {}) | {np.dtype(dtype).name: bounds}
    content["machine"] |= {"accelerator": jax.devices()[0].device_kind, "ceilings": known}
    path.write_text(json.dumps(content, indent=1) + "\n")


def ceilings(dtype: type, quick: bool) -> dict[str, float]:
    """Operations per second of a large square product at full precision, bytes per second of one pass over an array."""
    size, length = (256, 1 << 16) if quick else (8192, 1 << 28)
    square = jax.random.normal(jax.random.key(0), (size, size), dtype)
    long = jnp.ones(length, dtype)
    product = jax.jit(lambda a: jnp.matmul(a, a, precision=jax.lax.Precision.HIGHEST))
    scaled = jax.jit(lambda a: 2 * a)
    makers = {
        "product": lambda: Contender(lambda _: jax.block_until_ready(product(square))),
        "pass": lambda: Contender(lambda _: jax.block_until_ready(scaled(long))),
    }
    times = {row["contender"]: row["median"] for row in contest(makers, budget=0 if quick else BUDGET)}
    return {
        "GEMM flop/s": 2 * size**3 / times["product"],
        "bandwidth byte/s": 2 * length * np.dtype(dtype).itemsize / times["pass"],
    }


def least_work(n: int, d: int, k: int, structure: str, dtype: type) -> Row:
    """Operations and bytes that an iteration cannot do without: products with the features, and the rows read once."""
    columns = {"full": 1 + d + d * (d + 1) // 2, "tied": 1 + d, "diag": 1 + 2 * d, "spherical": 2 + d}[structure]
    return {"flops": 4.0 * n * k * columns, "bytes": float(n * d * np.dtype(dtype).itemsize)}


def prepared(function: Callable[..., Any], *given: Any) -> tuple[Callable[..., Any], Row]:
    """A function compiled for what it is given; and how long that took, and the memory that a call takes."""
    start = time.perf_counter()
    program = jax.jit(function).lower(*given).compile()
    notes = {"compile": time.perf_counter() - start}
    if (needs := program.memory_analysis()) is not None:
        taken = needs.temp_size_in_bytes, needs.argument_size_in_bytes, needs.output_size_in_bytes
        notes |= {"scratch_mib": taken[0] / 2**20, "peak_mib": sum(taken) / 2**20}
    return program, notes


def compiled(function: Callable[..., Any], *given: Any) -> Contender:
    """A call of a function, prepared."""
    program, notes = prepared(function, *given)
    return Contender(lambda _: jax.block_until_ready(program(*given)), notes=notes)


def all_at_once(makers: list[dict[str, Callable[[], T]]]) -> Iterator[dict[str, Callable[[], T]]]:
    """The same makers, whose work is done, for all of them on all cores; what was raised is raised again."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        futures = [{name: pool.submit(make) for name, make in some.items()} for some in makers]
    return ({name: future.result for name, future in some.items()} for some in futures)


def one_iteration(mixture: jaxgmm.Mixture, rows: jax.Array, block_size: int | None = None) -> Contender:
    """One iteration of EM by the two verbs."""

    def step(mixture: jaxgmm.Mixture, rows: jax.Array) -> jaxgmm.Mixture:
        return jaxgmm.m_step(mixture, jaxgmm.e_step(mixture, rows, block_size=block_size))

    return compiled(step, mixture, rows)


def two_products(n: int, k: int, columns: int, dtype: type) -> Contender:
    """(k, P) @ (P, n) and (k, n) @ (n, P) at full precision."""
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = ((k, columns), (columns, n), (k, n))
    arrays = [jax.random.uniform(key, shape, dtype) for key, shape in zip(keys, shapes, strict=True)]

    def both(parameters: jax.Array, features: jax.Array, responsibilities: jax.Array) -> tuple[jax.Array, jax.Array]:
        precision = jax.lax.Precision.HIGHEST
        product = jnp.matmul(parameters, features, precision=precision)
        return product, jnp.matmul(responsibilities, features.T, precision=precision)

    return compiled(both, *arrays)


def drawn(n: int, d: int, k: int, structure: str, dtype: type) -> tuple[jaxgmm.Mixture, jax.Array]:
    """A mixture and its rows; those of many components and columns are drawn on the card."""
    if structure == "full":
        x, start = data.mixture(n, d, k, dtype, structure)
        return ours.mixture_of(start, structure, dtype), jnp.asarray(x)
    generator = np.random.default_rng([n, d, k])
    means = generator.normal(scale=data.DISTANCE / np.sqrt(2 * d), size=(k, d))
    variances = np.exp(generator.uniform(np.log(0.3), np.log(3.0), (k, d) if structure == "diag" else k))
    weights = generator.dirichlet(np.full(k, 5.0))
    mixture = jaxgmm.from_parameters(*(p.astype(dtype) for p in (weights, means, variances)), structure)
    return mixture, mixture.sample(jax.random.key(0), n)


def grid(dtype: type, quick: bool) -> Iterator[Row]:
    """The grid of shapes with ten times the rows, without the peers."""
    points = [p | {"n": p["n"] * (1 if quick else MORE_ROWS)} for p in iteration.points("grid", quick)]
    yield from iterations([(point, (None,)) for point in points], dtype, quick, with_products=True)


def large(dtype: type, quick: bool) -> Iterator[Row]:
    """A thousand components in many columns."""
    shape = {"n": 2000, "d": 16, "k": 32} if quick else LARGE
    yield from iterations([({"structure": s, **shape}, (None,)) for s in ("diag", "spherical")], dtype, quick)


def blocks(dtype: type, quick: bool) -> Iterator[Row]:
    """Rows at a time; how far from each other two numbers of them end is told in standard deviations."""
    given = BLOCKS
    if quick:
        given = tuple((point | {"n": 2000, "d": 3, "k": 4}, (2**8, 2**9, 2000)) for point, _ in BLOCKS)
    yield from iterations(list(given), dtype, quick, compared=True)


def iterations(
    given: list[tuple[Row, tuple[int | None, ...]]],
    dtype: type,
    quick: bool,
    *,
    with_products: bool = False,
    compared: bool = False,
) -> Iterator[Row]:
    """One iteration at each point, in each number of rows at a time."""
    makers = []
    for point, sizes in given:
        n, d, k, structure = (point[name] for name in ("n", "d", "k", "structure"))
        mixture, rows = drawn(n, d, k, structure, dtype)
        makers.append(
            {
                f"jaxgmm, {size} rows at a time" if size else "jaxgmm": lambda mixture=mixture, rows=rows, size=size: (
                    one_iteration(mixture, rows, size)
                )
                for size in sizes
            }
        )
        if with_products:
            columns = 1 + d + d * (d + 1) // 2
            makers[-1]["two GEMMs, jax"] = lambda n=n, k=k, columns=columns: two_products(n, k, columns, dtype)
    for (point, _), ready in zip(given, all_at_once(makers), strict=True):
        work = least_work(point["n"], point["d"], point["k"], point["structure"], dtype)
        apart = distances(ready) if compared else {}
        for row in contest(ready, budget=0 if quick else BUDGET):
            yield {**point, **row, **work, **apart.get(row["contender"], {})}


def distances(ready: Makers) -> dict[str, Row]:
    """How far the variances of components end from those of the first contender, relative to these."""
    found = {}
    for name, make in ready.items():
        try:
            mixture = make().call(0)
        except Exception:
            continue  # the contest tells why
        found[name] = np.asarray(jnp.diagonal(mixture.covariances, axis1=1, axis2=2), np.float64)
    first = next(iter(found.values()), None)
    return {name: {"apart": float(np.max(np.abs(variances / first - 1)))} for name, variances in found.items()}


def steps(dtype: type, quick: bool) -> Iterator[Row]:
    """A step inside `fit`: what stops and accelerates is part of it."""
    points = [point | {"structure": "full"} for point in STEPS]
    points = [point | {"n": min(point["n"], 2000)} for point in points] if quick else points

    def run(mixture: jaxgmm.Mixture, rows: jax.Array, most: jax.Array) -> jaxgmm.FitResult:
        return jaxgmm.fit(mixture, rows, tol=0, max_iter=most, **ours.PLAIN)

    counts = {"few": iteration.FEW_STEPS, "more": iteration.MORE_STEPS}
    given = [drawn(*(point[name] for name in ("n", "d", "k", "structure")), dtype) for point in points]
    makers = [{"run": lambda one=one: prepared(run, *one, jnp.asarray(1, jnp.int32))} for one in given]
    for point, one, ready in zip(points, given, all_at_once(makers), strict=True):
        program, notes = ready["run"]()

        def maker(most: int, one: Any = one, program: Any = program) -> Contender:
            return Contender(lambda _: jax.block_until_ready(program(*one, jnp.asarray(most, jnp.int32))))

        contenders = {name: lambda most=most: maker(most) for name, most in counts.items()}
        few, more = contest(contenders, budget=0 if quick else BUDGET)
        row = derived("jaxgmm, inside fit", more, few, None, counts["more"] - counts["few"])
        yield {**point, **row, **notes, **least_work(**point, dtype=dtype)}


def fits(dtype: type, quick: bool) -> Iterator[Row]:
    """Many small fits in one call, seeding included."""
    point = FITS | ({"fits": 20} if quick else {})
    count, n, d, k = point.values()
    x = many_fits.sets(count, n, d, k, dtype)
    looked_at = min(count, many_fits.LOOPED)
    makers: Makers = {
        "jaxgmm, vmap": lambda: many_fits.batched(x, k, looked_at, "k-means++", "vmap"),
        "jaxgmm, fit_many": lambda: many_fits.all_cores(x, k, looked_at),
        "gmm-gpu": lambda: peers.gmm_gpu_fits(x, k, many_fits.TOL, looked_at),
    }

    def score(found: list[data.Parameters]) -> float:
        return float(np.mean([mean_log_likelihood(rows, one) for rows, one in zip(x, found, strict=False)]))

    for row in contest(
        makers, score, budget=0 if quick else 5 * BUDGET, seeds=1 if quick else 3, equal=many_fits.EQUAL
    ):
        yield {**point, **row}


def select(dtype: type, quick: bool) -> Iterator[Row]:
    """Choosing the number of components, with many restarts; the second call compiles nothing."""
    point = {"n": 500, "d": 4, "k": 2, "largest": 3, "restarts": 10} if quick else SELECT
    n, d, k, largest, restarts = point.values()
    x = jnp.asarray(data.mixture(n, d, k, dtype, "full")[0])
    taken, chosen = [], []
    for seed in range(2):
        start = time.perf_counter()
        table = jaxgmm.select(jax.random.key(seed), x, range(1, largest + 1), ("full",), n_restarts=restarts)
        taken.append(time.perf_counter() - start)
        chosen.append(table.winner.n_components)
        print(f"select: {taken[-1]:.1f} s, chosen {chosen[-1]}", file=sys.stderr, flush=True)
    row = {"contender": "jaxgmm, select", "first": taken[0], "median": taken[1], "chosen": chosen, "repeats": 1}
    yield {**point, "structure": "full", **row, "compile": taken[0] - taken[1]}


def many(dtype: type, quick: bool) -> Iterator[Row]:
    """A number of components for each of many ragged data sets, side by side."""
    (point,) = panel.points("panel", quick)
    for row in panel.run(point, dtype, quick, with_peers=False):
        yield {**row, "note": f"first {row['first']:.1f} s, right {100 * row['right']:.1f} %"}


def refits(dtype: type, quick: bool) -> Iterator[Row]:
    """The bootstrap of one fit."""
    point = {"fits": 20 if quick else 1000, "n": 500, "d": 2, "k": 3}
    x = data.mixture(500, 2, 3, dtype, "full")[0]
    fit = jaxgmm.fit_restarts(jax.random.key(0), x, 3, n_restarts=8).best
    taken = []
    for seed in range(2):
        start = time.perf_counter()
        options = {"n_bootstrap": point["fits"], "method": "weighted"}
        jax.block_until_ready(jaxgmm.bootstrap(jax.random.key(seed), x, fit, **options))
        taken.append(time.perf_counter() - start)
    row = {"contender": "jaxgmm, bootstrap", "first": taken[0], "median": taken[1], "repeats": 1}
    yield {**point, "structure": "full", **row, "note": f"first {taken[0]:.1f} s"}


CASES = {"grid": grid, "blocks": blocks, "steps": steps, "large": large, "many_fits": fits, "select": select}
CASES |= {"panel": many, "bootstrap": refits}


if __name__ == "__main__":
    main()
