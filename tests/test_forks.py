"""Forked processes: none waits for what cannot come."""

import os
import subprocess
import sys
import textwrap

import pytest

from tolerance import once

pytestmark = [once, pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")]

# As users write it, in a file of their own, which spawned processes read again.
SCRIPT = """
import multiprocessing
import sys

import numpy as np

import jaxgmm

x = np.random.default_rng(0).normal(size=(50, 2))
start = [1.0], [[0.0, 0.0]], [1.0], "spherical"


def fitted(_):
    try:
        return int(jaxgmm.fit(jaxgmm.from_parameters(*start), x).status)
    except RuntimeError as error:
        return str(error)


def elsewhere(how):
    if how == "joblib":
        from joblib import Parallel, delayed

        return Parallel(n_jobs=2)(delayed(fitted)(i) for i in range(1))
    with multiprocessing.get_context(how).Pool(1) as pool:
        return pool.map(fitted, [0])


if __name__ == "__main__":
    if "before" in sys.argv:
        fitted(0)
    if "elsewhere" in sys.argv:
        import jax

        jax.numpy.zeros(1)
    print(*elsewhere(sys.argv[1]))
"""


def answer(folder, how, *what):
    script = folder / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, "-W", "ignore", str(script), how, *what]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout.strip()


@pytest.mark.parametrize("used", ["before", "elsewhere"])
def test_a_fork_after_jax_has_run_raises(tmp_path, used):
    """Whether jaxgmm ran it or somebody else did."""
    told = answer(tmp_path, "fork", used)
    assert "forked" in told
    assert "spawn" in told


def test_a_fork_before_jax_has_run_fits(tmp_path):
    assert answer(tmp_path, "fork") == "1"


@pytest.mark.parametrize("how", ["spawn", "joblib"])
def test_what_the_message_advises_fits(tmp_path, how):
    assert answer(tmp_path, how, "before") == "1"
