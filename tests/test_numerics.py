"""Bounds on the experiments whose tables stand in docs/numerics.md and docs/priors.md."""

import how_many
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxgmm

import experiments
from cases import CASES
from compilations import equations
from tolerance import dtype, once

both_dtypes = pytest.mark.skipif(dtype() is not np.float64, reason="compares with float64 in one process")
IN_FLOAT32 = dtype() is np.float32
# The tables have every structure in both dtypes; here each dtype takes half, as a compilation takes a second.
HALF = ("full", "spherical") if IN_FLOAT32 else ("tied", "diag")


@both_dtypes
def test_offsets():
    for row in experiments.offsets():
        # Where columns in their own units share one variance, rows lie between the components, and one unit in the last
        # place of a mean at 1e5 moves so much of them that the variance changes by 5e-4. A few such units are rounding.
        between = row["offset"].startswith("own") and row["structure"] == "spherical"
        assert row["variance"] < (3e-3 if between else 1e-3), row
        assert row["mean log-likelihood"] < 1e-4, row


def test_units():
    for row in experiments.units(dtype()):
        assert row["same labels"] == 1, row
        assert row["mean log-likelihood"] < (1e-5 if IN_FLOAT32 else 1e-12), row
        assert row["status"] == "CONVERGED", row


@jax.jit
def slopes(mixture, x):
    """In free coordinates: of the variances (k, d), of one step of EM, and the Fisher information per row."""
    flat, rebuild = ravel_pytree(mixture.unconstrain())

    def stepped(flat):
        here = rebuild(flat).constrain()
        return ravel_pytree(jaxgmm.m_step(here, jaxgmm.e_step(here, x), jaxgmm.scale_of(x), 1e-12).unconstrain())[0]

    variances = jax.jacfwd(lambda flat: jnp.einsum("kii->ki", rebuild(flat).constrain().covariances))(flat)
    scores = jax.jacfwd(lambda flat: rebuild(flat).constrain().log_prob(x))(flat)
    return variances, jax.jacfwd(stepped)(flat), scores.T @ scores / len(x)


@both_dtypes
def test_tight_components():
    """A fit in float32 ends where rounding hides the gain of a step; what is left there follows from the rate of EM."""
    eps = float(np.finfo(np.float32).eps)
    for width, structure, x, single, double in experiments.tight_fits():
        name = f"{structure}, width {width}"
        # the expanded kernel keeps 0.6 of the digits; a sum has a few such roundings
        digits = 10 * (eps**0.6 if width >= 0.1 else 10 * eps)
        best, x = double.mixture, x.astype(np.float64)
        mine = jax.tree.map(lambda leaf: leaf.astype(np.float64), single.mixture)
        variances = np.einsum("kii->ki", best.covariances)
        slope, step, fisher = map(np.asarray, slopes(best, x))
        # Where g is left, the slowest step gains g (1 - rate^2). Means are rounded in units of their component's width.
        rate = np.max(np.abs(np.linalg.eigvals(step)))
        rounded = np.sum((eps * best.means) ** 2 / variances) / 2
        limit = eps / (1 - rate**2) + rounded + digits**2 / 2
        left = float(jaxgmm.log_likelihood(best, x) - jaxgmm.log_likelihood(mine, x)) / len(x)
        assert rate < 1, name
        assert left < limit, name
        spread = np.einsum("kip,pq,kiq->ki", slope, np.linalg.pinv(fisher, rtol=1e-10), slope)
        error = np.abs(np.einsum("kii->ki", mine.covariances) - variances)
        assert np.max(error / np.sqrt(2 * limit * spread)) < 1, name
        here = jax.tree.map(lambda leaf: leaf.astype(np.float32), best)
        stepped = jaxgmm.m_step(here, jaxgmm.e_step(here, x.astype(np.float32)), jaxgmm.scale_of(x), 1e-12).covariances
        unit = np.sqrt(variances[:, :, None] * variances[:, None, :])
        assert np.max(np.abs(stepped - best.covariances) / unit) < digits, name
        assert abs(float(single.log_likelihood - double.log_likelihood)) / len(x) < 1e-4, name
        assert jaxgmm.Status(int(single.status)) == jaxgmm.Status.CONVERGED, name


def test_weights():
    for row in experiments.weights(dtype(), HALF):
        assert row["means"] < (1e-3 if IN_FLOAT32 else 1e-10), row
        assert row["mean log-likelihood"] < (2e-6 if IN_FLOAT32 else 1e-12), row


MAY_BE_REGULAR = {
    # structures that keep a variance in these data, where the others have none to keep
    "far outlier, k = 1": {"diag", "spherical"},
    "collinear columns": {"diag", "spherical"},
    "constant column": {"spherical"},
    "column of zeros": {"spherical"},
    "0/1 column": {"spherical"},
    "d = 50, n = 20": {"diag", "spherical"},
    "heavy duplicates": {"tied"},
    "starts on one point": {"tied"},
    "integers in one column": {"full", "tied", "diag", "spherical"},
}


@pytest.mark.parametrize("name", experiments.hard_data())
def test_degenerate_fits(name):
    for row in experiments.degenerate(dtype(), {name}, HALF):
        assert not row["NaN"], row
        assert row["finite"], row
        assert row["monotone"], row
        regular = row["structure"] in MAY_BE_REGULAR.get(name, set())
        assert row["status"] in {"DEGENERATE", "CONVERGED"} if regular else {"DEGENERATE"}, row
        assert (row["status"] == "DEGENERATE") == (not row["degenerate"].startswith("0 ")), row


def test_poisoned_lanes():
    for row in experiments.lanes(dtype(), HALF):
        assert row["other status"] == 0, row
        # two ways to add up the same rows stop within tol = 1e-6 of one optimum, each where its rounding lets it
        assert row["means"] < (5e-3 if IN_FLOAT32 else 1e-6), row
        assert not row["NaN"], row
        statuses = {name: row[name] for name in experiments.POISON.values()}
        assert "CONVERGED" not in statuses.values()
        assert statuses["NaN in a row"] == "NON_FINITE"


def test_far_away():
    for row in experiments.far_away(dtype(), HALF):
        assert row["NaN"] == "none", row
        assert row["sum of responsibilities"] < 1e-6, row
        assert row["log_prob"] < -1e6, row


def precisions(function, mixture):
    """Of every matrix product in a program."""
    found = equations(jax.make_jaxpr(function)(mixture).jaxpr)
    return [equation.params["precision"] for equation in found if equation.primitive.name == "dot_general"]


@once
@pytest.mark.parametrize("block_size", [500, 2000])
def test_matrix_products_ask_for_full_precision(case, block_size):
    """Or else a GPU would take TF32 and a TPU bfloat16 for float32."""
    if case.integer:
        pytest.skip("the products of this family are its own")
    x = case.data(2000)  # products of few numbers are none

    def step(mixture):
        return jaxgmm.m_step(mixture, jaxgmm.e_step(mixture, x, block_size=block_size), jaxgmm.scale_of(x))

    def whole(mixture):
        seeded = jaxgmm.init(jax.random.key(0), x, 3, method="kmeans", **case.options)
        return jaxgmm.fit(seeded, x, block_size=block_size), jaxgmm.fit(mixture, x, block_size=block_size)

    highest = jax.lax.Precision.HIGHEST
    for function in (step, whole):
        found = precisions(function, case.mixture())
        assert len(found) >= 1
        assert set(found) == {(highest, highest)}
        if case is CASES[0]:  # the control: what is asked for is seen
            with jax.default_matmul_precision("bfloat16"):
                assert (highest, highest) not in precisions(function, case.mixture())


@pytest.mark.parametrize("structure", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("value", [2.7e-5, 2.7e5])
def test_data_without_spread(structure, value):
    """Standard deviations next to rounding, whose products under- or overflow."""
    x = np.full((1, 1), value)
    result = jaxgmm.fit(jaxgmm.init(jax.random.key(0), x, 1, structure), x)
    assert jaxgmm.Status(int(result.status)) == jaxgmm.Status.DEGENERATE
    assert np.isfinite(float(result.log_likelihood))


def test_last_finite_mixture_comes_back():
    x = np.random.default_rng(0).normal(size=(50, 2))
    start = jaxgmm.init(jax.random.key(0), x, 2)
    result = jax.jit(jaxgmm.fit)(start, jnp.asarray(x).at[3, 1].set(jnp.nan))
    assert jaxgmm.Status(int(result.status)) == jaxgmm.Status.NON_FINITE
    np.testing.assert_array_equal(result.mixture.means, start.means)
    assert int(result.n_iter) == 0


def test_one_row_of_many_without_density_fails_honestly():
    """A row 1e25 standard deviations away from a given mixture: its likelihood is not representable."""
    x = np.zeros((10, 1))
    x[4] = 1e25 if IN_FLOAT32 else 1e200
    mixture = jaxgmm.from_parameters([1.0], [[0.0]], [1.0], "spherical")
    assert float(jaxgmm.log_likelihood(mixture, x)) == -np.inf
    result = jaxgmm.fit(mixture, x)
    assert jaxgmm.Status(int(result.status)) == jaxgmm.Status.NON_FINITE


@once
def test_how_many():
    """Of rows that were drawn from five Gaussians; the page has what others say."""
    x = how_many.drawn(5, 3, 1000, 5, 2)
    assert how_many.swept(x) == 5
    assert how_many.left(x, how_many.PRUNING["Dirichlet, 0.01"]) == 5
