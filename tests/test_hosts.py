"""Rows of several processes: the same results as of one, errors that all of them raise, and one that is killed."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from tolerance import once

# Nothing of it depends on the dtype, so it runs once, in the one in which rounding hides least.
pytestmark = once
HERE = Path(__file__).parent
# Where one process fails by itself, nobody is to wait for ever.
LIMIT = 300


def run(what, processes):
    """Exit codes and what was printed, of all processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"JAX_ENABLE_X64": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, "hosts.py", what, str(process), str(processes), str(port)],
            cwd=HERE,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for process in range(processes)
    ]
    try:
        printed = [process.communicate(timeout=LIMIT)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    return [process.returncode for process in started], printed


def test_two_processes_are_as_one():
    codes, printed = run("checks", 2)
    assert codes == [0, 0], "\n".join(printed)


def test_one_process_is_killed():
    codes, printed = run("killed", 2)
    assert codes == [3, -9], "\n".join(printed)
    (told,) = [line for line in printed[0].splitlines() if line.startswith("after")]
    # The connection breaks: it isn't for a heartbeat that is waited, as JAX would end the process then.
    assert "Gloo" in told


def test_the_example_runs():
    script = HERE.parent / "cluster" / "fit.py"
    command = [sys.executable, script, "--processes", "2", "--rows", "4000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "CONVERGED" in done.stdout
