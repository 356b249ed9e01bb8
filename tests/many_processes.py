"""One of several processes that fit together: `python many_processes.py PLACE NUMBER PORT FOLDER WHAT`."""

import os
import signal
import sys
from pathlib import Path

import jax

place, number, port, folder, what = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), sys.argv[5]
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"localhost:{port}", number, place)

import numpy as np  # noqa: E402

import jaxgmm  # noqa: E402
from jaxgmm.fitting import batches  # noqa: E402

x = np.load(folder / "x.npy")
# Each has a part of its own, and not as many rows as another.
ends = [0, len(x) // 3, len(x)] if number == 2 else [0, len(x)]
source = jaxgmm.batches(x[ends[place] : ends[place + 1]], batch_size=100, all_processes=True)
batches._SECONDS_BETWEEN = 0


accept, steps = batches._accept, 0


def interrupted(*given):
    """Ctrl-C while this process is at something of its own."""
    global steps
    steps += 1
    if what == "interrupt" and place == 1 and steps == 3:
        os.kill(os.getpid(), signal.SIGINT)
    return accept(*given)


batches._accept = interrupted


def callback(result):
    step = int(result.n_iter)
    if place == 1 and step == 3:
        if what == "error":
            raise ValueError("Rows that cannot be taken.")
        if what == "killed":
            os.kill(os.getpid(), 9)
    return what == "stop" and place == 1 and step == 3


start, scale = jaxgmm.load(folder / "start.npz"), jaxgmm.scale_of(x)
checkpoint = folder / "fit.npz" if what in ("killed", "again") and place == 0 else None
try:
    result = jaxgmm.fit_batches(
        start,
        source,
        scale=scale,
        tol=0,
        max_iter=8,
        checkpoint=checkpoint,
        objective=jaxgmm.Posterior(jaxgmm.Prior(jaxgmm.Dirichlet(20.0), None)) if what == "interrupt" else None,
        callback=callback if place == 1 else None,
    )
except Exception as error:
    print(type(error).__name__, error, flush=True)
    os._exit(1)  # without waiting for the others
sample = source.sample(jax.random.key(0), 60)
np.savez(
    folder / f"{what}-{number}-{place}.npz",
    means=result.mixture.means,
    objective=result.objective,
    log_likelihood=result.log_likelihood,
    status=result.status,
    n_iter=result.n_iter,
    n=source.totals().n,
    sample=sample.x,
)
