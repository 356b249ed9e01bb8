"""Rows sharded over devices, in a process that has several: values, derivatives, and that no row is moved."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tolerance import once

# Nothing of it depends on the dtype, so it runs once, in the one in which rounding hides least.
pytestmark = once
HERE = Path(__file__).parent


# One process for each of two workers: what is compiled for a check is there for the next ones.
PARTS = {("starts", "restarts"): 8, ("verbs", "derivatives", "check"): 4}


@pytest.mark.parametrize(("parts", "n_devices"), PARTS.items(), ids=[" ".join(parts) for parts in PARTS])
def test_on_several_devices(parts, n_devices):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={n_devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_ENABLE_X64": "1"}
    command = [sys.executable, "sharded.py", *parts]
    done = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
