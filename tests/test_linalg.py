"""Contractions, whichever way they are computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgmm.ground import linalg

from compilations import equations
from tolerance import assert_close

SUBSCRIPTS = ["ij,jk->ik", "kij,kj->ki", "kni,kji->knj", "nk,pn->kp", "n,nd->d", "a,ab,b->", "ij,kjl,ml->kim"]


@pytest.mark.parametrize("size", [2, 60])
@pytest.mark.parametrize("subscripts", SUBSCRIPTS)
def test_einsum(subscripts, size):
    """Against numpy, with axes of different lengths, below and above the size where a library is called."""
    lengths = {name: size + place for place, name in enumerate(sorted(set(subscripts) - set(",->")))}
    generator = np.random.default_rng(0)
    shapes = [[lengths[name] for name in term] for term in subscripts.split("->")[0].split(",")]
    operands = [generator.normal(size=shape) for shape in shapes]
    given = [jnp.asarray(operand) for operand in operands]
    expected = np.einsum(subscripts, *operands)
    assert_close(linalg.einsum(subscripts, *given), expected, "exact", scale=10 * size)
    program = jax.make_jaxpr(lambda *arrays: linalg.einsum(subscripts, *arrays))(*given)
    if size == 2:
        assert "dot_general" not in {equation.primitive.name for equation in equations(program.jaxpr)}
