"""Choosing a model: the table, its winner, and what a sweep costs."""

import jax
import numpy as np
import pytest

import jaxgmm
from jaxgmm.selection import select as module

from compilations import counted
from tolerance import tolerance

QUICK = {"n_restarts": 4, "n_finalists": 1}


def blobs(seed=0, n=150, k=3):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)) + 8 * rng.integers(0, k, n)[:, None]


@pytest.fixture(scope="module")
def table():
    return jaxgmm.select(jax.random.key(0), blobs(), range(1, 5), ("diag", "spherical"), **QUICK)


def test_the_winner_is_what_the_data_are_made_of(table):
    assert (table.winner.covariance_type, table.winner.n_components) == ("spherical", 3)
    assert table.best.converged
    assert table.best.mixture.n_components == 3
    assert len(table.candidates) == 8
    assert [c.n_components for c in table.candidates[:4]] == [1, 2, 3, 4]


def test_criteria_are_the_functions_of_the_same_name(table):
    x = blobs()
    for candidate in table.candidates:
        mixture = candidate.result.mixture
        assert candidate.n_parameters == int(mixture.n_parameters)
        for name in ("aic", "aicc", "bic", "icl"):
            expected = getattr(jaxgmm, name)(mixture, x)
            np.testing.assert_allclose(getattr(candidate, name), expected, rtol=tolerance("close"))


@pytest.mark.parametrize("criterion", ["aic", "icl", "cv"])
def test_other_criteria(criterion):
    found = jaxgmm.select(jax.random.key(0), blobs(), (1, 3), ("spherical",), criterion=criterion, n_folds=3, **QUICK)
    assert found.winner.n_components == 3


def test_held_out_rows_take_no_part():
    x = blobs()
    found = jaxgmm.select(jax.random.key(0), x, [1], ["spherical"], criterion="cv", n_folds=150, **QUICK)
    expected = 0.0
    for row in range(len(x)):
        rest = np.delete(x, row, axis=0)
        variance = rest.var(axis=0).mean()
        gap = np.sum((x[row] - rest.mean(axis=0)) ** 2)
        expected += gap / variance + 2 * np.log(2 * np.pi * variance)
    np.testing.assert_allclose(found.winner.cv, expected, rtol=tolerance("close"))


def test_the_table_reads_in_a_terminal_and_in_pandas(table):
    lines = repr(table).splitlines()
    assert lines[0].split() == ["covariance", "k", "parameters", "log-likelihood", "bic", "behind"]
    assert lines[1].split()[:3] == ["spherical", "3", "11"]
    assert lines[1].split()[-1] == "0.00"
    assert len(lines) == 9
    frame = table.to_pandas()
    assert frame["n_components"].iloc[0] == 3
    assert (frame["behind"].diff().dropna() >= 0).all()
    assert set(frame["status"]) <= {"CONVERGED", "DEGENERATE", "MAX_ITER"}


def test_one_number_of_components_and_one_structure(table):
    found = jaxgmm.select(jax.random.key(0), blobs(), 3, "diag", **QUICK)
    assert [(one.covariance_type, one.n_components) for one in found.candidates] == [("diag", 3)]


def test_a_second_sweep_compiles_nothing(table):
    with counted() as again:
        jaxgmm.select(jax.random.key(5), blobs(1), (4, 2, 3), ("diag", "spherical"), tol=1e-4, **QUICK)
    assert again == []


def test_a_candidate_that_fails_has_its_row(monkeypatch):
    def out_of_memory(plan, key, x, weights, present):
        if int(present.sum()) == 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory\nmore")
        return kept(plan, key, x, weights, present)

    kept = module.best_of_restarts
    monkeypatch.setattr(module, "best_of_restarts", out_of_memory)
    found = jaxgmm.select(jax.random.key(0), blobs(), (1, 2, 3, 4), ("spherical",), **QUICK)
    assert found.winner.n_components == 3
    assert "ERROR: RESOURCE_EXHAUSTED: out of memory" in repr(found).splitlines()[-1]
    none = jaxgmm.select(jax.random.key(0), blobs(), (2,), ("spherical",), **QUICK)
    with pytest.raises(RuntimeError, match="No candidate could be fitted"):
        none.best  # noqa: B018


def test_more_components_than_rows_has_its_row():
    found = jaxgmm.select(jax.random.key(0), blobs(n=6), (1, 8), ("spherical",), **QUICK)
    assert found.winner.n_components == 1
    assert found.candidates[1].n_components == 8
    assert not found.candidates[1].regular
    assert "DEGENERATE" in repr(found).splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"criterion": "best"}, "criterion is 'best'"),
        ({"n_components": []}, "nothing to try"),
        ({"n_components": [0]}, "n_components is 0"),
        ({"criterion": "cv", "n_folds": 1}, "n_folds is 1"),
        ({"criterion": "cv", "n_folds": 151}, "no more folds than rows"),
        ({"covariance_types": ["round"]}, "'round'"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        jaxgmm.select(jax.random.key(0), blobs(), **options)
