"""Contractions, whichever way they are computed; triangular inverses and factors; when the floor costs anything."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxgmm
from jaxgmm.ground import linalg

from compilations import equations
from tolerance import assert_close, dtype

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


# Written out, one call of LAPACK, and by halves: of even, odd and twice odd size.
SIZES = [1, 2, 3, 4, 7, 32, 33, 70]


def factors_of(d):
    """Lower triangles that are hard on an inverse, in float64."""
    generator = np.random.default_rng(d)
    square = generator.normal(size=(d, d))
    usual = np.linalg.cholesky(square @ square.T / d + np.eye(d))
    grades = np.geomspace(1e-4, 1e4, d)
    directions = np.linalg.qr(square)[0]
    along = np.arange(d)
    return {
        "rows of all sizes": grades[:, None] * usual,
        "columns of all sizes": usual * grades,
        "a covariance of condition 1e10": np.linalg.qr((directions * np.geomspace(1, 1e5, d)).T)[1].T,
        "neighbours nearly equal": np.linalg.cholesky(0.999 ** abs(along[:, None] - along)),
        "Kahan's": (np.tril(np.full((d, d), -np.cos(1.2)), -1) + np.eye(d)) * np.sin(1.2) ** along[:, None],
    }


@pytest.mark.parametrize("d", SIZES)
def test_tril_inverse(d):
    """Both residuals are within a few roundings of the numbers they are differences of, as those of a solve are."""
    given = factors_of(d)
    factors = np.stack(list(given.values())).astype(dtype())
    noise = np.triu(np.ones((d, d), dtype()), 1)
    inverses = np.asarray(jax.jit(linalg.tril_inverse)(jnp.asarray(factors + noise)))
    for name, factor, inverse in zip(given, factors.astype(np.longdouble), inverses.astype(np.longdouble), strict=True):
        assert np.all(np.triu(inverse, 1) == 0), name
        for first, second in [(factor, inverse), (inverse, factor)]:
            missing = abs(first @ second - np.eye(d))
            assert np.all(missing <= 8 * np.finfo(dtype()).eps * (abs(first) @ abs(second))), name


@pytest.mark.parametrize("d", SIZES)
@pytest.mark.parametrize("name", ["tril_inverse", "cholesky"])
def test_derivatives_of_factors(name, d):
    """First and second derivatives, forward and reverse, are those of LAPACK's solve and factorisation."""

    def solved(factor):
        identity = jnp.broadcast_to(jnp.eye(d, dtype=factor.dtype), factor.shape)
        return jax.lax.linalg.triangular_solve(factor, identity, left_side=True, lower=True)

    ours, theirs = {
        "tril_inverse": (linalg.tril_inverse, solved),
        "cholesky": (linalg.cholesky, jnp.linalg.cholesky),
    }[name]
    generator = np.random.default_rng(0)
    start, way, weight = (jnp.asarray(generator.normal(size=(2, d, d)), dtype()) for _ in range(3))
    start = start @ jnp.swapaxes(start, 1, 2) / d + jnp.eye(d)
    if name == "tril_inverse":
        start = jnp.linalg.cholesky(start)

    def derivatives(function):
        @jax.jit
        def of(start):
            value, forward = jax.jvp(function, (start,), (way,))
            reverse = jax.grad(lambda at: jnp.sum(weight * function(at)))
            return value, forward, *jax.jvp(reverse, (start,), (way,))

        return of(start)

    for mine, other in zip(derivatives(ours), derivatives(theirs), strict=True):
        assert_close(mine, other, "close", scale=float(jnp.max(jnp.abs(other))))


@pytest.fixture(scope="module")
def all_eigendecompositions():
    """One list for all tests of this file, so that they share programs."""
    taken = []
    clip = linalg._clip

    def counted(matrix):
        jax.debug.callback(lambda: taken.append(matrix.shape))
        return clip(matrix)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linalg, "_clip", counted)
        jax.clear_caches()
        yield taken
    jax.clear_caches()


@pytest.fixture
def eigendecompositions(all_eigendecompositions):
    """How often the branch for covariances on the floor has been taken, as a list that grows."""
    all_eigendecompositions.clear()
    return all_eigendecompositions


def two_groups():
    x = jax.random.normal(jax.random.key(0), (120, 2))
    return x.at[:60].add(6.0)


# The second component's rows, a line of them, have no width across it.
@pytest.mark.parametrize("form", ["full", "tied"])
@pytest.mark.parametrize("flat", [False, True])
def test_the_floor_costs_nothing_where_nothing_lies_on_it(eigendecompositions, form, flat):
    x = two_groups()
    x = x.at[:, 1].set(0) if flat else x
    start = jaxgmm.init(jax.random.key(1), x, 2, form, max_components=4)
    result = jaxgmm.fit(start, x, tol=1e-3)
    jax.effects_barrier()
    assert int(result.n_iter) > 0
    assert bool(eigendecompositions) == flat


@pytest.mark.parametrize("form", ["full", "tied"])
def test_an_absent_component_far_below_the_floor_costs_nothing(eigendecompositions, form):
    """Neither in steps of EM nor in those of an optimiser, whatever covariance it came with."""
    x = two_groups()
    covariances = jnp.array([jnp.eye(2), jnp.eye(2), 1e-12 * jnp.eye(2)])
    means = [[0.0, 0.0], [6.0, 6.0], [3.0, 3.0]]
    covariances = covariances if form == "full" else jnp.eye(2)
    start = jaxgmm.from_parameters([0.5, 0.5, 0.0], means, covariances, form)
    moved = jaxgmm.fit_gradient(start, x, optax.adam(0.05), n_steps=3).mixture
    fitted = jaxgmm.fit(start, x, max_iter=3).mixture, moved
    jax.effects_barrier()
    assert not eigendecompositions
    if form == "full":
        for mixture in fitted:
            assert_close(mixture.covariances[2], start.covariances[2], "exact", scale=1e-12)


@pytest.mark.parametrize("d", [3, 40])
def test_which_covariances_are_lifted(d):
    """Exactly those with an eigenvalue, in units of the floor, not above 1; an absent one never is."""
    directions = np.linalg.qr(np.random.default_rng(0).normal(size=(d, d)))[0]
    lowest = np.array([0.5, 0.99, 1.01, 2.0, 0.0, np.nan])
    spectra = np.stack([np.concatenate([[low], np.linspace(3, 9, d - 1)]) for low in lowest])
    floor = np.geomspace(1e-3, 1e3, d)
    covariances = np.einsum("ij,kj,lj->kil", directions, spectra, directions) * np.sqrt(floor[:, None] * floor)
    present = np.array([True, True, True, True, False, False])
    given = jnp.asarray(covariances, dtype()), jnp.asarray(floor, dtype()), jnp.asarray(present)
    factors, held = jax.jit(linalg.floored_cholesky)(*given)
    assert held.tolist() == [True, True, False, False, False, False]
    assert bool(jnp.all(jnp.isfinite(factors)))
    clipped = np.maximum(spectra[:4], 1)
    expected = np.einsum("ij,kj,lj->kil", directions, clipped, directions)
    relative = np.asarray(factors[:4]) / np.sqrt(floor)[:, None]
    assert_close(relative @ np.swapaxes(relative, 1, 2), expected, "close")
