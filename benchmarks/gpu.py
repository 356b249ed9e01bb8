"""The same on an accelerator: `JAX_ENABLE_X64=0 python -m benchmarks.gpu [--quick]`. Needs jaxgmm and numpy alone."""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import data, ours, results
from benchmarks.cases import iteration, many_fits
from benchmarks.harness import Contender, Row, contest

RESULTS = Path(__file__).parent / "results" / "gpu.json"
MORE_ROWS = 10
LARGE = {"n": 1_000_000, "d": 128, "k": 1024}
FITS = {"fits": 10_000, "n": 200, "d": 2, "k": 3}


def main() -> None:
    """Measure everything in the dtype of this process and replace its rows."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that everything runs")
    quick = parser.parse_args().quick
    dtype = np.float64 if jax.config.jax_enable_x64 else np.float32
    path = Path(tempfile.gettempdir()) / "jaxgmm-quick-gpu.json" if quick else RESULTS
    bounds = ceilings(dtype, quick)
    for case, measured in (("grid", grid), ("large", large), ("many_fits", fits)):
        rows: list[Row] = []
        for row in measured(dtype, quick):
            row = {"case": case, "dtype": np.dtype(dtype).name, **row}
            if row.get("flops") and row.get("median"):
                row["of_GEMM"] = row["flops"] / row["median"] / bounds["GEMM flop/s"]
                row["of_bandwidth"] = row["bytes"] / row["median"] / bounds["bandwidth byte/s"]
            rows.append(row)
            print(json.dumps(row, default=lambda value: value.item()), flush=True)
        rows = json.loads(json.dumps(rows, default=lambda value: value.item()))
        results.merge(path, case, np.dtype(dtype).name, rows, first=True, quick=quick)
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
    times = {row["contender"]: row["median"] for row in contest(makers, budget=0 if quick else 3.0)}
    return {
        "GEMM flop/s": 2 * size**3 / times["product"],
        "bandwidth byte/s": 2 * length * np.dtype(dtype).itemsize / times["pass"],
    }


def least_work(n: int, d: int, k: int, structure: str, dtype: type) -> Row:
    """Operations and bytes that an iteration cannot do without: products with the features, and the rows read once."""
    columns = {"full": 1 + d + d * (d + 1) // 2, "tied": 1 + d, "diag": 1 + 2 * d, "spherical": 2 + d}[structure]
    return {"flops": 4.0 * n * k * columns, "bytes": float(n * d * np.dtype(dtype).itemsize)}


def grid(dtype: type, quick: bool) -> Iterator[Row]:
    """The grid of shapes with ten times the rows, without the peers."""
    for point in iteration.points("grid", quick):
        point |= {"n": point["n"] * (1 if quick else MORE_ROWS)}
        for row in iteration.run(point, dtype, quick, with_peers=False):
            if row["contender"] != "two GEMMs, numpy":
                yield {**point, **row, **least_work(point["n"], point["d"], point["k"], point["structure"], dtype)}


def large(dtype: type, quick: bool) -> Iterator[Row]:
    """A thousand components in many columns."""
    shape = {"n": 2000, "d": 16, "k": 32} if quick else LARGE
    for structure in ("diag", "spherical"):
        x, start = data.mixture(**shape, dtype=dtype, structure=structure)
        makers = {"jaxgmm": lambda x=x, start=start, structure=structure: ours.iteration(x, start, structure)}
        for row in contest(makers, budget=0 if quick else 5.0):
            yield {**shape, "structure": structure, **row, **least_work(**shape, structure=structure, dtype=dtype)}


def fits(dtype: type, quick: bool) -> Iterator[Row]:
    """Many small fits in one call."""
    point = FITS | ({"fits": 20} if quick else {})
    for row in many_fits.run(point, dtype, quick, with_peers=False):
        yield {**point, **row}


if __name__ == "__main__":
    main()
