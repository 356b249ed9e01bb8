import jax
import pytest

from cases import CASES


@pytest.fixture(scope="module", autouse=True)
def _few_programs():
    """Programs compiled for one file are let go, or a process would run out of memory maps."""
    yield
    jax.clear_caches()


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request):
    """Every registered case in turn."""
    return request.param
