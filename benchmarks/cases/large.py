"""A file of rows: read in batches, seen once, and held in memory, in processes that do nothing else."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.cases.memory import MIB, peak_resident, reset_peak
from benchmarks.harness import Row

CONTENDERS = (
    "jaxgmm, in memory",
    "jaxgmm, from a file",
    "jaxgmm, seen once",
    "jaxgmm, to the end",
    "sklearn, in memory",
)
# Passes of those that are timed, and rows that are held in memory at most.
PASSES, HELD = 3, 10_000_000
JUDGED = 1_000_000


def points(case: str, quick: bool) -> list[Row]:
    """As much as fits into memory, for both, and ten times as much."""
    return [{"n": n, "d": 8, "k": 16} for n in ((100_000,) if quick else (HELD, 10 * HELD))]


def run(point: Row, dtype: type, quick: bool) -> Iterator[Row]:
    """One process per contender, all of one file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        write(path, dtype=dtype, **point)
        for contender in CONTENDERS:
            if "memory" in contender and point["n"] > HELD:
                continue
            given = json.dumps(point | {"contender": contender, "path": str(path)})
            command = [sys.executable, "-m", "benchmarks.cases.large", given]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode == 0:
                yield {"contender": contender, "reason": None, **json.loads(done.stdout.splitlines()[-1])}
            else:
                last = (done.stderr.strip().splitlines() or ["no message"])[-1]
                yield {"contender": contender, "reason": f"ended with code {done.returncode}: {last[:200]}"}


def known(d: int, k: int):
    """What the rows are drawn from, and where fits start."""
    from benchmarks import data

    generator = np.random.default_rng([d, k])
    parameters = data.truth(generator, d, k)
    return parameters, data.near(generator, parameters, "full")


def write(path: Path, n: int, d: int, k: int, dtype: type) -> None:
    """The file, a part at a time."""
    from benchmarks import data

    rows = np.lib.format.open_memmap(path, "w+", dtype, (n, d))
    part = 1 << 20
    for start in range(0, n, part):
        size = min(part, n - start)
        rows[start : start + size] = data.sample(np.random.default_rng([start, d]), size, known(d, k)[0], dtype)
    rows.flush()


def measure(n: int, d: int, k: int, contender: str, path: str) -> Row:
    """Seconds and CPU-seconds of a pass, MiB at most, and the likelihood of the first rows."""
    from benchmarks.harness import mean_log_likelihood

    start = known(d, k)[1]
    call, passes = {"jaxgmm": of_jaxgmm, "sklearn": of_sklearn}[contender.split(",")[0]](start, contender, path)
    call(1)
    reset_peak()
    begun, used = time.perf_counter(), time.process_time()
    parameters, steps = call(passes)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - used
    peak = peak_resident()
    judged = np.array(np.load(path, mmap_mode="r")[:JUDGED])
    return {
        "passes": steps,
        "seconds": seconds / steps,
        "cpu_seconds": cpu / steps,
        "rows_per_second": n * steps / seconds,
        "peak_mib": peak / MIB,
        "data_mib": judged.itemsize * n * d / MIB,
        "log_likelihood": mean_log_likelihood(judged, parameters),
    }


def of_jaxgmm(start, contender, path):
    """A call of so many passes, which gives parameters and how many passes it took."""
    import jax
    import jax.numpy as jnp

    import jaxgmm
    from benchmarks import ours

    x = np.load(path, mmap_mode="r")
    mixture = ours.mixture_of(start, "full", x.dtype)
    scale = jaxgmm.scale_of(np.array(x[:100_000]))
    source = jaxgmm.batches(path)
    if contender.endswith("in memory"):
        held = jnp.asarray(np.array(x))

    def call(passes):
        if contender.endswith("in memory"):
            result = jaxgmm.fit(mixture, held, tol=0, max_iter=passes, scale=scale)
        elif contender.endswith("seen once"):
            state = jax.block_until_ready(jaxgmm.fit_online(mixture, source, scale=scale))
            return ours.parameters_of(state.mixture), 1
        else:
            limits = {} if contender.endswith("end") and passes > 1 else {"tol": 0, "max_iter": passes}
            result = jaxgmm.fit_batches(mixture, source, scale=scale, **limits)
        result = jax.block_until_ready(result)
        return ours.parameters_of(result.mixture), int(result.n_iter) + 1

    return call, PASSES


def of_sklearn(start, contender, path):
    """A call of so many steps of `fit`, each of which is a pass."""
    import warnings

    from sklearn.mixture import GaussianMixture

    from benchmarks.peers import sklearn_parameters

    warnings.simplefilter("ignore")
    x = np.array(np.load(path, mmap_mode="r"))
    options = {
        "weights_init": start.weights.astype(np.float64),
        "means_init": start.means.astype(x.dtype),
        "precisions_init": np.linalg.inv(start.covariances).astype(x.dtype),
    }

    def call(steps):
        model = GaussianMixture(len(start.weights), max_iter=steps, tol=0, **options)
        return sklearn_parameters(model.fit(x)), model.n_iter_ + 1

    return call, 1


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
