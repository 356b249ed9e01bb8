"""Measure and write the page: `python -m benchmarks.run [--cases grid structures …] [--quick]`.

Every point of every case runs in a process of its own and each dtype in its own setting of JAX, so that a crash loses
one point. What is measured goes into benchmarks/results/ as it comes; a case that is run again replaces its own rows.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.cases import CASES, dtypes_of, module_of

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def main() -> None:
    """Run the cases, or be the process of one point."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", nargs="*", choices=CASES, help="default all")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that everything runs; no page")
    parser.add_argument("--dtypes", nargs="*", choices=("float32", "float64"), help="default both")
    parser.add_argument("--point", nargs=3, metavar=("CASE", "DTYPE", "INDEX"), help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.point:
        measure(*given.point[:2], int(given.point[2]), given.quick, Path(given.out))
        return
    from benchmarks import page, results

    path = Path(tempfile.gettempdir()) / "jaxgmm-quick.json" if given.quick else RESULTS / "cpu.json"
    for case in given.cases or CASES:
        for dtype in dtypes_of(case):
            if given.dtypes and dtype not in given.dtypes:
                continue
            for index, rows in points(case, dtype, given.quick):
                results.merge(path, case, dtype, rows, first=index == 0, quick=given.quick)
    page.write(path, quick=given.quick)


def points(case: str, dtype: str, quick: bool):
    """The rows of each point of a case, from processes of their own."""
    environment = os.environ | threads(quick) | {"JAX_ENABLE_X64": "1" if dtype == "float64" else "0"}
    count, index = 1, 0
    while index < count:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "rows"
            command = [sys.executable, "-m", "benchmarks.run", "--point", case, dtype, str(index), "--out", str(out)]
            command += ["--quick"] if quick else []
            start = time.perf_counter()
            done = subprocess.run(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
            lines = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
        rows = [line for line in lines if "count" not in line]
        count = next((line["count"] for line in lines if "count" in line), count)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            point = next((line["point"] for line in lines if "count" in line), {})
            reason = f"process ended with code {done.returncode}: {last[:200]}"
            rows.append({"case": case, "dtype": dtype, **point, "contender": "all that is missing", "reason": reason})
        print(f"{case} {dtype} {index + 1}/{count}: {len(rows)} rows, {time.perf_counter() - start:.0f} s", flush=True)
        for row in rows:
            if row.get("reason"):
                print(f"  {row.get('contender')}: {row['reason']}", flush=True)
        yield index, rows
        index += 1


def threads(quick: bool = False) -> dict[str, str]:
    """The same number of threads for everybody, one if only to see that it runs; XLA takes all cores by itself."""
    cores = "1" if quick else str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    return dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), cores)


def measure(case: str, dtype: str, index: int, quick: bool, out: Path) -> None:
    """Run one point and write its rows, one per line, as they come."""
    import jax
    import numpy as np

    module = module_of(case)
    everything = module.points(case, quick)
    point = everything[index]
    jax.block_until_ready(jax.numpy.zeros(1) + 1)  # what JAX sets up once is nobody's compile time
    with out.open("w") as file:
        file.write(json.dumps({"count": len(everything), "point": point}) + "\n")
        for row in module.run(point, getattr(np, dtype), quick):
            complete = {"case": case, "dtype": dtype, **point, **row}
            file.write(json.dumps(complete, default=lambda value: value.item()) + "\n")
            file.flush()


if __name__ == "__main__":
    main()
