"""Fits a mixture to rows that several processes have, each its own files: on one machine or on a cluster.

Here, as many processes as are asked for:

    python cluster/fit.py --processes 2

On a cluster with SLURM, a process on each node (`cluster.sbatch`), of which JAX finds out by itself:

    srun python fit.py --rows 100000000 --state state.npz

By hand, the same command on each machine, with its number:

    python fit.py --coordinator first.machine:1234 --processes 4 --process 0

Every process makes its rows here; put what reads yours in `own_rows`. With `--state` the first process keeps where the
fit stands, and it goes on from there when the command is given again.
"""

import argparse
import os
import pathlib
import socket
import subprocess
import sys
import time
import traceback

ARGUMENTS = argparse.ArgumentParser(description=__doc__.splitlines()[0])
ARGUMENTS.add_argument("--processes", type=int, default=None, help="how many; by default as SLURM says")
ARGUMENTS.add_argument("--process", type=int, default=None, help="which of them this is; by default all are started")
ARGUMENTS.add_argument("--coordinator", default=None, help="address and port of the first process")
ARGUMENTS.add_argument("--rows", type=int, default=100_000, help="of all processes")
ARGUMENTS.add_argument("--components", type=int, default=3)
ARGUMENTS.add_argument("--state", type=pathlib.Path, default=None, help="file of the first process, to go on from")
# A process that does not answer for so long has failed: the others end, too.
HEARTBEAT_SECONDS = 20


def started_here(processes: int) -> int:
    """Start all processes on this machine, and end all where one fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, *sys.argv, "--coordinator", coordinator, "--process"]
    running = [subprocess.Popen([*command, str(number)]) for number in range(processes)]
    try:
        while any(process.poll() is None for process in running):
            if failed := [process.returncode for process in running if process.returncode]:
                return failed[0]
            time.sleep(0.1)
    finally:
        for process in running:
            process.kill()
    return max(process.returncode for process in running)


def own_rows(n, process, processes):
    """Those of this process: anything that `jaxgmm.batches` takes, such as the path of a file or of a folder."""
    import numpy as np

    rng = np.random.default_rng(process)
    begin, end = (n * number // processes for number in (process, process + 1))
    x = rng.normal(size=(end - begin, 2)) + 6 * rng.integers(0, 3, (end - begin, 1))
    return x.astype(np.float32)


def main(given) -> None:
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")  # where there are no accelerators
    jax.distributed.initialize(
        given.coordinator, given.processes, given.process, heartbeat_timeout_seconds=HEARTBEAT_SECONDS
    )
    import jaxgmm

    process, processes = jax.process_index(), jax.process_count()
    source = jaxgmm.batches(own_rows(given.rows, process, processes), all_processes=True)
    sample = source.sample(jax.random.key(0))  # the same rows in every process, some from each
    start = jaxgmm.init(jax.random.key(1), sample, given.components)
    result = jaxgmm.fit_batches(start, source, checkpoint=given.state, callback=told if process == 0 else None)
    if process == 0:
        n = source.totals().n
        print(f"{jaxgmm.Status(int(result.status)).name} at {float(result.log_likelihood) / n:.6f} per row")
        for weight, mean in zip(result.mixture.weights, result.mixture.means, strict=True):
            print(f"{weight:.3f}", *(f"{value:.3f}" for value in mean))


def told(result):
    print(f"after step {int(result.n_iter)}: {float(result.objective):.1f}", flush=True)


if __name__ == "__main__":
    given = ARGUMENTS.parse_args()
    if given.processes and given.process is None and "SLURM_PROCID" not in os.environ:
        sys.exit(started_here(given.processes))
    try:
        main(given)
    except Exception:
        traceback.print_exc()
        # The others would wait for this one at the barrier at which processes that end well meet.
        sys.stderr.flush()
        os._exit(1)
