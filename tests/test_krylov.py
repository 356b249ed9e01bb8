"""Linear systems by their products: solutions, and honest ends where there is none."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgmm.ground.krylov import gmres

from compilations import equations
from tolerance import dtype, tolerance

solve = functools.partial(gmres, tol=100 * float(np.finfo(dtype()).eps), n_directions=30, n_cycles=20)


def system(p):
    rng = np.random.default_rng(p)
    matrix = np.eye(p) + 0.5 * rng.normal(size=(p, p)) / np.sqrt(p)
    return jnp.asarray(matrix, dtype()), jnp.asarray(rng.normal(size=p), dtype())


@pytest.mark.parametrize("p", [1, 7, 90])
def test_solutions(p):
    """Of fewer unknowns than directions, and of more, which takes several cycles."""
    matrix, target = system(p)
    solution, missing = jax.jit(lambda matrix, target: solve(lambda v: matrix @ v, target))(matrix, target)
    exact = np.linalg.solve(np.asarray(matrix, float), np.asarray(target, float))
    np.testing.assert_allclose(solution, exact, rtol=0, atol=10 * tolerance("exact") * np.abs(exact).max())
    assert missing <= 100 * np.finfo(dtype()).eps * jnp.linalg.norm(target)


def test_lanes_and_transposes():
    matrix, _ = system(7)
    targets = jnp.asarray(np.random.default_rng(0).normal(size=(3, 7)), dtype())
    lanes = jax.vmap(lambda target: solve(lambda v: matrix.T @ v, target)[0])(targets)
    np.testing.assert_allclose(lanes @ matrix, targets, atol=10 * tolerance("exact"))


def test_singular_systems():
    """One that has solutions gets one of them; of one that has none, the residual tells."""
    matrix = jnp.diag(jnp.array([1.0, 2.0, 0.0], dtype()))
    solution, missing = solve(lambda v: matrix @ v, jnp.array([1.0, 1.0, 0.0], dtype()))
    np.testing.assert_allclose(solution, [1, 0.5, 0], atol=tolerance("exact"))
    assert missing < tolerance("exact")
    assert not solve(lambda v: matrix @ v, jnp.ones(3, dtype()))[1] < 0.9


def test_nothing_and_nan():
    matrix, target = system(7)
    assert np.all(solve(lambda v: matrix @ v, 0 * target)[0] == 0)
    assert np.isnan(solve(lambda v: matrix @ v, target.at[2].set(jnp.nan))[1])
    assert np.isnan(solve(lambda v: matrix @ v * jnp.nan, target)[1])


def test_one_product_in_the_program():
    program = jax.make_jaxpr(lambda target: solve(lambda v: v + 0.1 * jnp.sin(v), target))(jnp.ones(7))
    assert [equation.primitive.name for equation in equations(program.jaxpr)].count("sin") == 1
