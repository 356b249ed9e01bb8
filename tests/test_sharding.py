"""Rows sharded over devices, in a process that has several: values, derivatives, and that no row is moved."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_on_four_devices(kind):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    command = [sys.executable, "sharded.py", kind]
    done = subprocess.run(
        command, cwd=HERE, env=os.environ | {"XLA_FLAGS": flags}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
