"""Pictures say what the numbers say."""

import jax
import matplotlib
import numpy as np
import pytest

import jaxgmm
from jaxgmm import plot

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(150, 2)) + 8 * rng.integers(0, 3, 150)[:, None]
    options = {"n_restarts": 4, "n_finalists": 1}
    return jaxgmm.select(jax.random.key(0), x, range(1, 5), ("diag", "spherical"), **options)


@pytest.fixture(autouse=True)
def _closed():
    yield
    matplotlib.pyplot.close("all")


def test_criterion_curves(table):
    ax = plot.criterion(table)
    curves = {line.get_label(): line for line in ax.lines if line.get_label() in ("diag", "spherical")}
    for name, line in curves.items():
        expected = [c.bic for c in table.candidates if c.covariance_type == name]
        np.testing.assert_allclose(line.get_ydata(), expected)
    assert len(curves) == 2
    assert "spherical k = 3" in [text.get_text() for text in ax.texts]


def test_criterion_that_is_infinite_for_most():
    """AICc with fewer rows than parameters."""
    x = np.random.default_rng(0).normal(size=(8, 2))
    few = jaxgmm.select(jax.random.key(0), x, range(1, 5), ("diag",), criterion="aicc", n_restarts=2)
    assert sum(np.isinf(c.aicc) for c in few.candidates) > 2
    assert np.all(np.isfinite(plot.criterion(few).get_ylim()))


def test_restarts_are_sorted(table):
    restarts = table.winner.restarts
    ax = plot.restarts(restarts)
    points = np.concatenate([line.get_xydata() for line in ax.lines if line.get_label() != "best"])
    points = points[np.argsort(points[:, 0])]
    assert points[:, 0].tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(points[:, 1], np.sort(restarts.log_likelihood)[::-1])


def test_convergence_of_one_fit_and_of_a_stack(table):
    own = matplotlib.pyplot.subplots()[1]
    assert plot.convergence(table.best, own) is own
    assert len(own.lines) == 1
    stack = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), table.best)
    assert len(plot.convergence(stack).lines) == 2
