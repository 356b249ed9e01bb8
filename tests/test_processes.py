"""Fits of the rows of several processes: the same in all of them, and none is left waiting for one that has ended."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import jaxgmm

from cases import CASES
from tolerance import once

# Nothing of it depends on the dtype.
pytestmark = once
HERE = Path(__file__).parent
SECONDS = 250


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    np.save(folder / "x.npy", np.asarray(CASES[0].data()))
    jaxgmm.save(folder / "start.npz", CASES[0].start(0.1))
    return folder


def run(folder, number, what):
    """How each process ended, and what it printed."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (HERE.parent, HERE)))}
    processes = [
        subprocess.Popen(
            [sys.executable, "many_processes.py", str(place), str(number), str(port), str(folder), what],
            cwd=HERE,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for place in range(number)
    ]
    try:
        told = [process.communicate(timeout=SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *said) for process, said in zip(processes, told, strict=True)]


def result(folder, number, what):
    ended = run(folder, number, what)
    assert all(code == 0 for code, *_ in ended), ended
    return [dict(np.load(folder / f"{what}-{number}-{place}.npz")) for place in range(number)]


@pytest.fixture(scope="module")
def alone(folder):
    return result(folder, 1, "fit")[0]


def test_all_come_to_the_fit_of_all_rows(folder, alone):
    """To the same bits, and to those of one process but for rounding; a sample has rows of both."""
    first, second = result(folder, 2, "fit")
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    assert first["n"] == alone["n"] == 600
    assert first["n_iter"] == alone["n_iter"]
    np.testing.assert_allclose(first["means"], alone["means"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(first["objective"], alone["objective"], rtol=1e-6)
    x = np.load(folder / "x.npy")
    places = [np.flatnonzero((x == row).all(axis=1))[0] for row in first["sample"]]
    assert len(set(places)) == 60
    assert sum(place < 200 for place in places) == 20


def test_a_stop_or_an_error_in_one_ends_all(folder):
    first, second = result(folder, 2, "stop")
    assert first["status"] == second["status"] == jaxgmm.Status.STOPPED
    assert first["n_iter"] == second["n_iter"] == 3
    # Wherever one of them is by then; and all tell the likelihood beside a prior.
    first, second = result(folder, 2, "interrupt")
    assert first["status"] == second["status"] == jaxgmm.Status.STOPPED
    assert np.isfinite(first["log_likelihood"])
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    (first_code, first_told, _), (second_code, second_told, _) = run(folder, 2, "error")
    assert first_code == second_code == 1
    assert "RuntimeError Process 1 failed, and with it all others: ValueError: Rows that cannot" in first_told
    assert "ValueError Rows that cannot be taken." in second_told


def test_one_that_is_killed_ends_all_and_the_fit_goes_on(folder):
    """From what the first process has kept, to the bits that it would have had."""
    whole = result(folder, 2, "fit")[0]
    (code, told, _), (killed, _, _) = run(folder, 2, "killed")
    assert killed == -signal.SIGKILL
    assert code == 1
    assert "RuntimeError This process has lost the others" in told
    assert (folder / "fit.npz").exists()
    again = result(folder, 2, "again")
    for name in ("means", "objective", "n_iter"):
        np.testing.assert_array_equal(again[0][name], whole[name])
        np.testing.assert_array_equal(again[1][name], whole[name])
