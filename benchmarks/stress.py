"""Does every program return? Two threads call the same verb again and again, and none may wait for ever.

Each cell (verb, size, dtype) runs in a process of its own. A watchdog calls it hung once the process has used no CPU
time for a while. The control is plain JAX and hangs under jaxlib 0.10.0 to 0.11.0, which shows that a hang would be
seen.

    python -m benchmarks.stress --seconds 60
    python -m benchmarks.stress --only control --seconds 20

Linux only: CPU time is read from /proc.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

SIDE_BY_SIDE = 2
# Without any CPU time for so many seconds a process waits for something that does not come.
STILL = 20.0
# A cell that uses CPU time beyond its seconds and these is slow, not hung; it is ended and named so.
PATIENCE = 600.0

# By batch and cost, d^3 or a fraction of it, of the factorisations and solves of one step: rows, columns, components.
SIZES = {
    "50,000 x 32, k = 64": (50_000, 32, 64),
    "4,000 x 16, k = 64": (4_000, 16, 64),
    "2,000 x 64, k = 16": (2_000, 64, 16),
}
SMALL = {"32 of 1,000 x 32, k = 16": (1_000, 32, 16), "32 of 600 x 64, k = 4": (600, 64, 4)}
CHOICES = {"2,000 x 16, K = 8 and 16": (2_000, 16, 16), "1,000 x 48, K = 4": (1_000, 48, 4)}


def control(size: str) -> Callable[[int], object]:
    """Factorisations of many matrices, one after the other, in plain JAX."""
    import jax
    import jax.numpy as jnp

    batch, d = {"64 of 32 x 32": (64, 32), "16 of 64 x 64": (16, 64)}[size]

    @jax.jit
    def work(matrices: jax.Array) -> jax.Array:
        def step(carry: jax.Array, _: None) -> tuple[jax.Array, None]:
            return carry + 1e-3 * jnp.linalg.cholesky(carry), None

        return jax.lax.scan(step, matrices, None, length=100)[0]

    start = jax.random.normal(jax.random.key(0), (batch, d, 2 * d))
    start = start @ jnp.swapaxes(start, 1, 2) / d
    return lambda seed: work(start)


def fit(size: str) -> Callable[[int], object]:
    """A few steps from one start."""
    import jax

    import jaxgmm

    n, d, k = SIZES[size]
    x = groups(n, d, k)
    start = jaxgmm.init(jax.random.key(0), x, k)
    return lambda seed: jaxgmm.fit(start, x, tol=0, max_iter=5).log_likelihood


def fit_many(size: str) -> Callable[[int], object]:
    """Many data sets of one shape."""
    import jax

    import jaxgmm

    n, d, k = SMALL[size]
    xs = groups(32 * n, d, k).reshape(32, n, d)
    return lambda seed: jaxgmm.fit_many(jax.random.key(seed), xs, k, n_restarts=1, max_iter=5).log_likelihood


def select(size: str) -> Callable[[int], object]:
    """Few numbers of components, in both structures that factorise."""
    import jax

    import jaxgmm

    n, d, k = CHOICES[size]
    x = groups(n, d, k)
    numbers = sorted({max(4, k // 2), k})
    return lambda seed: (
        jaxgmm.select(jax.random.key(seed), x, numbers, ["full", "tied"], n_restarts=2, max_iter=5).best.log_likelihood
    )


def groups(n: int, d: int, k: int) -> Any:
    """Rows (n, d) of k clusters that overlap."""
    import jax

    centers = 4 * jax.random.normal(jax.random.key(1), (k, d))
    labels = jax.random.randint(jax.random.key(2), (n,), 0, k)
    return centers[labels] + jax.random.normal(jax.random.key(3), (n, d))


VERBS: dict[str, tuple[Callable[[str], Callable[[int], object]], list[str]]] = {
    "control": (control, ["64 of 32 x 32", "16 of 64 x 64"]),
    "fit": (fit, list(SIZES)),
    "fit_many": (fit_many, list(SMALL)),
    "select": (select, list(CHOICES)),
}


def run_cell(verb: str, size: str, seconds: float, calls: pathlib.Path) -> None:
    """In a process of its own: calls on all threads, noted in a file as they end."""
    import jax

    call = VERBS[verb][0](size)
    ended = [0] * SIDE_BY_SIDE
    jax.block_until_ready(call(0))
    until = time.monotonic() + seconds

    def again(thread: int) -> None:
        while time.monotonic() < until:
            jax.block_until_ready(call(thread + SIDE_BY_SIDE * ended[thread]))
            ended[thread] += 1
            calls.write_text(str(sum(ended)))

    threads = [threading.Thread(target=again, args=(number,)) for number in range(SIDE_BY_SIDE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def watch(verb: str, size: str, bits: int, seconds: float) -> tuple[str, str, float]:
    """How one cell ended, how many calls had by then, and the CPU-seconds of its process."""
    with tempfile.TemporaryDirectory() as folder:
        calls = pathlib.Path(folder) / "calls"
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.stress", "--cell", verb, size, str(calls)]
        environment = {**os.environ, "JAX_ENABLE_X64": str(int(bits == 64))}
        with tempfile.TemporaryFile() as errors:
            cell = subprocess.Popen([*command, "--seconds", str(seconds)], env=environment, stderr=errors)
            begun = moved = time.monotonic()
            used, outcome = 0.0, ""
            while not outcome:
                time.sleep(0.5)
                now, spent = time.monotonic(), cpu_seconds(cell.pid)
                if spent > used + 0.02:
                    used, moved = spent, now
                if cell.poll() is not None:
                    errors.seek(0)
                    text = errors.read().decode(errors="replace").strip()
                    outcome = "returned" if cell.returncode == 0 else f"FAILED: {text.splitlines()[-1] if text else ''}"
                elif now - moved > STILL:
                    outcome = "HUNG"
                elif now - begun > seconds + PATIENCE:
                    outcome = "SLOW"
            cell.kill()
            cell.wait()
        return outcome, calls.read_text() if calls.exists() else "0", used


def cpu_seconds(pid: int) -> float:
    """Of all threads of a process so far; of one that is gone, 0."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """The table, one row as soon as its cell has ended; exit status 1 unless all returned."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each cell (60)")
    parser.add_argument("--only", nargs="+", choices=VERBS, default=list(VERBS), help="verbs to run (all)")
    parser.add_argument("--dtypes", nargs="+", type=int, choices=[32, 64], default=[32, 64], help="bits (32 64)")
    parser.add_argument("--cell", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.cell:
        verb, size, calls = given.cell
        run_cell(verb, size, given.seconds, pathlib.Path(calls))
        return
    import jaxlib

    print(f"jaxlib {jaxlib.__version__}, {SIDE_BY_SIDE} threads, {os.cpu_count()} cores, {given.seconds:g} s a cell")
    print("\n| verb | size | dtype | calls | CPU-seconds | outcome |\n|---|---|---|---|---|---|", flush=True)
    bad = 0
    for verb in given.only:
        for size in VERBS[verb][1]:
            for bits in given.dtypes:
                outcome, calls, used = watch(verb, size, bits, given.seconds)
                print(f"| {verb} | {size} | float{bits} | {calls} | {used:.0f} | {outcome} |", flush=True)
                bad += outcome != "returned"
    print(f"\n{bad} cells did not return.")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
