import pytest

from cases import CASES


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request):
    """Every registered case in turn."""
    return request.param
