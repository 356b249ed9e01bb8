import pathlib

import jax
import pytest

from cases import CASES

# Every compiled program takes memory maps, of which Linux gives a process 65,530; beyond them the compiler crashes.
MANY_MAPS = 30_000


@pytest.fixture(scope="module", autouse=True)
def _few_programs():
    """Programs compiled for one file are let go."""
    yield
    jax.clear_caches()


@pytest.fixture(autouse=True)
def _no_more_programs_than_maps():
    """Programs are let go while there is still room for the next ones."""
    yield
    maps = pathlib.Path("/proc/self/maps")
    if maps.exists() and len(maps.read_bytes().splitlines()) > MANY_MAPS:
        jax.clear_caches()


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request):
    """Every registered case in turn."""
    return request.param
