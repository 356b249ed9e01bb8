"""Memory of a fit over that of the data, in processes that do nothing else."""

import gc
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.harness import Row

STEPS = {"jaxgmm": 3, "sklearn": 1}
MIB = 2**20


def points(case: str, quick: bool) -> list[Row]:
    """Large data for both; a tenth of it as well, which sklearn can hold on small machines."""
    return [{"n": n, "d": 8, "k": 32} for n in ((20_000,) if quick else (500_000, 5_000_000))]


def run(point: Row, dtype: type, quick: bool) -> Iterator[Row]:
    """One process per contender."""
    for contender, steps in STEPS.items():
        given = json.dumps(point | {"contender": contender, "steps": steps, "dtype": np.dtype(dtype).name})
        done = subprocess.run([sys.executable, "-m", "benchmarks.cases.memory", given], capture_output=True, text=True)
        if done.returncode == 0:
            yield {"contender": contender, "reason": None, "steps": steps, **json.loads(done.stdout.splitlines()[-1])}
        else:
            last = (done.stderr.strip().splitlines() or ["no message, as when the system ends it for its memory"])[-1]
            yield {"contender": contender, "reason": f"ended with code {done.returncode}: {last[:200]}"}


def measure(n: int, d: int, k: int, contender: str, steps: int, dtype: str) -> Row:
    """MiB held before the data, with the data, and at most during the fit."""
    from benchmarks import data

    generator = np.random.default_rng([n, d, k])
    parameters = data.truth(generator, d, k)
    start = data.near(generator, parameters, "full")
    fit, convert, likelihood = {"jaxgmm": ours_fit, "sklearn": sklearn_fit}[contender](start, np.dtype(dtype), steps)
    # Imports and whatever is allocated once are in the baseline, compilation for the size of the data is not.
    small = data.sample(generator, 1000, parameters, np.dtype(dtype))
    fit(convert(small))
    del small
    gc.collect()
    baseline = resident()
    x = convert(data.sample(generator, n, parameters, np.dtype(dtype)))
    gc.collect()
    before = resident()
    reset_peak()
    result = fit(x)
    peak = peak_resident()
    return {
        "baseline_mib": baseline / MIB,
        "data_mib": n * d * np.dtype(dtype).itemsize / MIB,
        "before_mib": before / MIB,
        "peak_mib": peak / MIB,
        "over_data_mib": (peak - before) / MIB,
        "log_likelihood": likelihood(result, np.asarray(x[:100_000])),
    }


def ours_fit(start, dtype, steps):
    """`fit` from given parameters on a JAX array."""
    import jax
    import jax.numpy as jnp

    import jaxgmm
    from benchmarks import ours
    from benchmarks.harness import mean_log_likelihood

    mixture = ours.mixture_of(start, "full", dtype)
    return (
        lambda x: jax.block_until_ready(jaxgmm.fit(mixture, x, tol=0, max_iter=steps, **ours.PLAIN)),
        jnp.asarray,
        lambda result, x: mean_log_likelihood(x, ours.parameters_of(result.mixture)),
    )


def sklearn_fit(start, dtype, steps):
    """`fit` from given parameters, whatever its seeding would hold left out."""
    import warnings

    from sklearn.mixture import GaussianMixture

    from benchmarks.harness import mean_log_likelihood
    from benchmarks.peers import sklearn_parameters

    warnings.simplefilter("ignore")
    options = {
        "weights_init": start.weights.astype(np.float64),
        "means_init": start.means.astype(dtype),
        "precisions_init": np.linalg.inv(start.covariances).astype(dtype),
    }
    model = GaussianMixture(len(start.weights), max_iter=steps, tol=0, **options)
    return model.fit, lambda x: x, lambda model, x: mean_log_likelihood(x, sklearn_parameters(model))


def resident() -> int:
    """Bytes resident now."""
    import psutil

    return psutil.Process(os.getpid()).memory_info().rss


def reset_peak() -> None:
    """Begin a new peak, where the system can."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def peak_resident() -> int:
    """Bytes resident at most since `reset_peak`, or since the start of the process where that is not known."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(1024 * int(s.split()[1]) for s in status.read_text().splitlines() if s.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
