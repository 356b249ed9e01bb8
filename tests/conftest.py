import gc
import io
import os
import pathlib
import sys

import jax
import pytest

from jaxgmm.ground import programs

from cases import CASES
from compilations import total

# Every compiled program takes memory maps, of which Linux gives a process 65,530; beyond them the compiler crashes.
MANY_MAPS = 40_000
MAPS = pathlib.Path("/proc/self/maps")
# Reading so many takes as long as compiling a small program, so they are read after this many; a large one takes some
# hundred maps.
BETWEEN = 30
looked = 0
# Tracing makes so many objects that looking for garbage among them, as often as Python does, takes a fifth of its time.
gc.set_threshold(50_000, 10, 10)
# A suite calls far more kinds of programs, and by turns, than its users do.
programs._store.size = sys.maxsize

if os.environ.get("OWN_OPTIONS") == "0":
    # What XLA_FLAGS say then holds for every program (`make test-perturbed`).
    programs._options = lambda work, leaves: {}


def pytest_collection_modifyitems(items):
    """What takes longest starts first, so that no worker is waited for at the end."""
    items.sort(key=lambda item: item.path.name != "test_sharding.py")


@pytest.fixture(autouse=True)
def _no_more_programs_than_maps():
    """Programs are kept, as other files need them too, and let go while there is still room for the next ones."""
    global looked
    yield
    if total() - looked > BETWEEN and MAPS.exists():
        looked = total()
        if MAPS.read_bytes().count(b"\n") > MANY_MAPS:
            jax.clear_caches()
            gc.collect()


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request):
    """Every registered case in turn."""
    return request.param


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Runs a command in a folder of its own; what it printed, what it complained of, and its exit code."""
    from jaxgmm.cli import commands

    monkeypatch.chdir(tmp_path)

    def call(*arguments, given=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        with pytest.raises(SystemExit) as end, jax.enable_x64(True):
            commands.execute([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return printed.out, printed.err, end.value.code or 0

    return call
