"""Choosing a model: the table, its winner, and what a sweep costs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pandas
import pytest
import scipy.special

import jaxgmm
from jaxgmm.ground import progress as bars
from jaxgmm.selection import contest
from jaxgmm.selection import select as module
from jaxgmm.selection.restarts import merged

from compilations import counted
from tolerance import dtype, once, tolerance

QUICK = {"n_restarts": 4, "n_finalists": 1}


def blobs(seed=0, n=150, k=3):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)) + 8 * rng.integers(0, k, n)[:, None]


def sweep():
    return jaxgmm.select(jax.random.key(0), blobs(), range(1, 5), ("diag", "spherical"), **QUICK)


@pytest.fixture(scope="module")
def table():
    return sweep()


def test_the_winner_is_what_the_data_are_made_of(table):
    assert (table.winner.form, table.winner.n_components) == ("spherical", 3)
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


@once
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
    assert lines[0].split() == ["form", "k", "parameters", "log-likelihood", "bic", "behind"]
    assert lines[1].split()[:3] == ["spherical", "3", "11"]
    assert lines[1].split()[-1] == "0.00"
    assert len(lines) == 9
    frame = table.to_pandas()
    assert frame["n_components"].iloc[0] == 3
    assert (frame["behind"].diff().dropna() >= 0).all()
    assert set(frame["status"]) <= {"CONVERGED", "DEGENERATE", "MAX_ITER"}


def test_constant_columns_are_left_out_and_named(table):
    x, options = blobs(), {"forms": ("diag", "spherical"), "n_components": range(1, 5), **QUICK}
    wide = np.insert(x, 1, 7.5, axis=1)
    found = jaxgmm.select(jax.random.key(0), wide, scale=[1.0, 1.0, 2.0], **options)
    expected = jaxgmm.select(jax.random.key(0), x, scale=[1.0, 2.0], **options)
    assert found.columns == (0, 2)
    assert found.constants == {1: 7.5}
    assert repr(found) == f"{expected!r}\nColumn 1 is 7.5 in every row, and is left out."
    frame = pandas.DataFrame(wide, columns=["a", "b", "c"])
    named = jaxgmm.select(jax.random.key(0), frame, **options)
    assert named.constants == {"b": 7.5}
    assert named.schema.names == ("a", "c")
    assert named.best.mixture.predict(named.schema.rows(frame)).shape == (150,)
    assert table.constants == {}
    # Rows without weight hold whatever they like.
    wide[3], weights = np.nan, np.ones(150)
    weights[3] = 0
    assert jaxgmm.select(jax.random.key(0), wide, weights=weights, **options).constants == {1: 7.5}
    with pytest.raises(ValueError, match=r"x has no column that varies: every row is \[2.0, 2.0\]"):
        jaxgmm.select(jax.random.key(0), np.full((9, 2), 2.0), 1)


@once
def test_a_failed_fit_names_the_constant_column():
    x = np.insert(blobs(), 1, 7.5, axis=1)
    result = jaxgmm.fit(jaxgmm.init(jax.random.key(0), x, 3, "diag"), x)
    with pytest.raises(jaxgmm.FitError, match=r"Column 1 has the mean 7\.5 in all components: is it constant"):
        result.raise_if_failed()


@once
def test_candidates_that_are_far_behind_get_no_more_starts(table):
    found = jaxgmm.select(jax.random.key(0), blobs(), (1, 3), ("spherical",), n_restarts=24, n_finalists=6)
    starts = {one.n_components: one.restarts for one in found.candidates}
    assert [starts[k].status.size for k in (1, 3)] == [4, 24]
    best = starts[3]
    assert best.log_likelihood[best.winner] == best.log_likelihood[best.regular].max()
    np.testing.assert_allclose(best.best.log_likelihood, best.log_likelihood[best.winner], rtol=tolerance("close"))
    assert np.sum(best.finished) == 6
    assert found.winner.log_likelihood >= table.winner.log_likelihood - found.resolution


def test_starts_by_the_size_of_the_data():
    assert [module._starts(size) for size in (10, 2**18, 2**19, 2**30)] == [40, 40, 20, 8]


def test_several_calls_are_one_with_all_their_starts():
    mixture = jaxgmm.from_parameters([1.0], [[0.0]], [1.0], "spherical")

    def call(value, regular, status=jaxgmm.Status.CONVERGED):
        best = jaxgmm.FitResult(mixture, np.float32(value), np.float32(value), 1, status, None, None, None)
        ends = [np.full(2, value), np.full(2, status), np.full(2, regular), np.full(2, True)]
        return jaxgmm.Restarts(best, *ends, np.int32(1))

    parts = [call(1.0, True), call(9.0, False), call(2.0, True), call(np.inf, True, jaxgmm.Status.NON_FINITE)]
    regular, spurious = merged(parts, False), merged(parts, True)
    assert (regular.winner, regular.best.objective) == (5, 2)
    assert (spurious.winner, spurious.best.objective) == (3, 9)
    assert regular.log_likelihood.tolist() == [1, 1, 9, 9, 2, 2, np.inf, np.inf]
    assert merged(parts[:1], False) is parts[0]


@once
def test_spurious_fits_win_where_they_may():
    """A spike of equal values among others is a group, though no covariance is wide enough for it."""
    x = np.concatenate([np.random.default_rng(0).normal(size=100), np.full(10, 4.0)])[:, None]
    usual = jaxgmm.select(jax.random.key(0), x, (1, 2), "full", **QUICK)
    assert usual.winner.n_components == 1
    assert usual.passed_over.candidate.n_components == 2
    asked = jaxgmm.select(jax.random.key(0), x, (1, 2), "full", spurious=True, **QUICK)
    assert asked.winner.n_components == 2
    assert asked.passed_over is None
    assert "DEGENERATE spurious" in repr(asked).splitlines()[1]


def test_how_far_it_is_is_told_in_lines_where_there_is_no_terminal(monkeypatch, capsys):
    monkeypatch.setattr(bars, "_SECONDS", 0)
    with bars.Bar(3, True, "fits") as bar:
        bar.update()
        bar.expect(-1)
        bar.update()
    lines = capsys.readouterr().err.replace("\r", "").split("\n")
    assert lines[0].startswith("fits: 0 of 3 after 00:00")
    assert any(line.startswith("fits: 2 of 2 after 00:00") for line in lines)


def test_one_number_of_components_and_one_structure(table):
    found = jaxgmm.select(jax.random.key(0), blobs(), 4, "diag", **QUICK)
    assert [(one.form, one.n_components) for one in found.candidates] == [("diag", 4)]


def density(mixture, x):
    """In numpy and float64, of spherical and diagonal components: the joint log-density (n, k)."""
    weights, means = (np.asarray(value, np.float64) for value in (mixture.weights, mixture.means))
    variances = np.asarray(jnp.diagonal(mixture.covariances, axis1=1, axis2=2), np.float64)
    gaps = np.asarray(x, np.float64)[:, None] - means
    return np.log(weights) - np.sum(gaps**2 / variances + np.log(2 * np.pi * variances), axis=2) / 2


def test_numbers_are_those_of_float64_however_large_the_total(table):
    """A float32 near 1e9 is 64 apart from the next."""
    x = blobs().astype(dtype())
    weights = np.full(150, 1e6)
    found = jaxgmm.select(jax.random.key(0), x, range(1, 5), ("diag", "spherical"), weights=weights, **QUICK)
    for candidate in found.candidates:
        joint = density(candidate.result.mixture, x)
        value, completed = 1e6 * np.sum(scipy.special.logsumexp(joint, axis=1)), 1e6 * np.sum(np.max(joint, axis=1))
        assert abs(value) > 4e8
        # The variances are those of the float32 factors, squared again in float32.
        np.testing.assert_allclose(candidate.log_likelihood, value, rtol=1e-7)
        p, price = candidate.n_parameters, candidate.n_parameters * np.log(150e6)
        assert candidate.aic == 2 * p - 2 * candidate.log_likelihood
        np.testing.assert_allclose(candidate.bic, price - 2 * candidate.log_likelihood, rtol=1e-14)
        np.testing.assert_allclose(candidate.icl - candidate.bic, 2 * (value - completed), rtol=1e-4, atol=1e3)


@pytest.mark.parametrize("criterion", ["bic", "icl", "cv"])
@pytest.mark.parametrize("order", [("full", "diag", "spherical"), ("spherical", "full", "diag")])
def test_ties_go_to_the_first_asked_for(criterion, order):
    """In one column these are one model, whose fits end where rounding leads them."""
    x = np.random.default_rng(1).normal(size=(80, 1)) + np.repeat([[0.0], [3.0]], [60, 20], axis=0)
    found = jaxgmm.select(jax.random.key(0), x, 2, order, criterion=criterion, n_folds=2, **QUICK)
    assert [one.form for one in found.ranked] == list(order)
    assert [row["behind"] for row in found.rows()] == [0.0, 0.0, 0.0]


def test_a_tie_needs_as_many_parameters_and_as_good_a_fit():
    def ranked(*likelihoods, p=(5, 5, 5)):
        names = ("full", "diag", "spherical")
        candidates = [
            jaxgmm.Candidate(name, 2, n, regular=True, log_likelihood=value, bic=-2 * value)
            for name, n, value in zip(names, p, likelihoods, strict=True)
        ]
        return [one.form for one in jaxgmm.Selection(tuple(candidates), "bic", 0.5).ranked]

    assert ranked(-10.3, -10.0, -10.4) == ["full", "diag", "spherical"]
    assert ranked(-10.6, -10.0, -10.4) == ["diag", "full", "spherical"]
    assert ranked(-10.3, -10.0, -10.4, p=(5, 4, 5)) == ["diag", "full", "spherical"]
    assert ranked(np.nan, -10.0, -9.0) == ["spherical", "diag", "full"]


def test_only_rows_that_are_present_are_dealt_out():
    weights = np.concatenate([np.ones(10), np.zeros(246)])
    for seed in range(40):
        folds = contest._folds(jax.random.key(seed), weights, 5)
        assert np.bincount(folds[:10]).tolist() == [2] * 5
        assert np.all(folds[10:] == -1)
    few = jaxgmm.select(jax.random.key(0), blobs(), (1, 4), "spherical", criterion="cv", **QUICK)
    padded = np.concatenate([blobs(n=15), np.full((135, 2), np.nan)])
    weights = np.repeat([1.0, 0.0], [15, 135])
    found = jaxgmm.select(jax.random.key(0), padded, (1, 4), "spherical", weights=weights, criterion="cv", **QUICK)
    assert np.isfinite(few.winner.cv)
    assert np.isfinite(found.winner.cv)
    with pytest.raises(ValueError, match="x has 15 rows of positive weight; expected no more folds than rows"):
        jaxgmm.select(jax.random.key(0), padded, 1, "spherical", weights=weights, criterion="cv", n_folds=16, **QUICK)


def test_a_fold_that_fails_is_reported_in_the_row_of_its_candidate(monkeypatch):
    def fails(plan, key, rows, present):
        found = kept(plan, key, rows, present)
        if int(present.sum()) == 4 and not np.all(np.asarray(rows.weights) > 0):
            best = dataclasses.replace(found.best, status=jnp.asarray(jaxgmm.Status.NON_FINITE, jnp.int32))
            return dataclasses.replace(found, best=best)
        return found

    kept = contest.best_of_restarts
    monkeypatch.setattr(contest, "best_of_restarts", fails)
    found = jaxgmm.select(jax.random.key(0), blobs(), (1, 4), "spherical", criterion="cv", **QUICK)
    assert found.winner.n_components == 1
    failed = found.candidates[1]
    assert np.isnan(failed.cv)
    assert failed.result.mixture.n_components == 4
    assert "ERROR: NON_FINITE without fold 0 of the cross-validation" in repr(found).splitlines()[-1]
    none = jaxgmm.select(jax.random.key(0), blobs(), 4, "spherical", criterion="cv", **QUICK)
    with pytest.raises(RuntimeError, match="No candidate could be fitted; the first one: ERROR: NON_FINITE"):
        none.best  # noqa: B018


@pytest.mark.parametrize("power", [25, -25] if dtype() is np.float32 else [200, -200])
def test_columns_whose_squares_are_none_are_refused(power):
    with pytest.raises(ValueError, match=r"x spreads by .* in column 0, whose square is none that float\d\d can hold"):
        jaxgmm.select(jax.random.key(0), blobs() * 10.0**power, (1, 4), "spherical", **QUICK)


def test_where_nothing_can_be_fitted_every_row_says_so(monkeypatch):
    def fails(plan, key, rows, present):
        found = kept(plan, key, rows, present)
        best = dataclasses.replace(found.best, status=jnp.asarray(jaxgmm.Status.NON_FINITE, jnp.int32))
        return dataclasses.replace(found, best=best)

    kept = contest.best_of_restarts
    monkeypatch.setattr(contest, "best_of_restarts", fails)
    found = jaxgmm.select(jax.random.key(0), blobs(), (1, 4), "spherical", **QUICK)
    assert [one.status for one in found.candidates] == ["NON_FINITE", "NON_FINITE"]
    assert [one.n_parameters for one in found.candidates] == [3, 15]
    assert np.all(np.isnan([(one.log_likelihood, one.bic, one.icl) for one in found.candidates]))
    with pytest.raises(RuntimeError, match="No candidate could be fitted; the first one: NON_FINITE"):
        found.best  # noqa: B018


def test_likelihoods_that_fall_get_more_starts_and_are_told():
    """Whatever two components reach, three do as well; a candidate that lacks that has not been fitted well."""

    def call(value):
        return jaxgmm.Restarts(
            jaxgmm.FitResult(mixture, np.float32(value), np.float32(value), 1, 1, None, None, None),
            *[np.full(4, one) for one in (value, 1, True, True)],
            np.int32(0),
        )

    mixture = jaxgmm.from_parameters([1.0], [[0.0]], [1.0], "spherical")
    options = {"tol": 1e-6, "max_iter": 9, "regularization": 1e-6, "scale": None, "objective": None, "block_size": None}
    options |= {"methods": ("random",), "n_restarts": 4, "n_finalists": 1, "screening_tol": 0.0, "spurious": False}
    plan = module.Plan.of(dtype(), (4, 1), "diag", lanes=1, acceleration=None, history_size=8, **options)
    tried = contest.Contest({"diag": plan, "tied": plan}, jax.random.key(0), 4, 3, "bic", 5)
    ends = {("diag", 2): -100.0, ("diag", 3): -300.0, ("diag", 1): -200.0, ("tied", 3): -300.0}
    going = tried._hopeful({pair: call(value) for pair, value in ends.items()}, 50.0)
    assert going == [("diag", 2), ("diag", 3)]
    rows = [
        jaxgmm.Candidate(*pair, regular=True, log_likelihood=value, bic=-2 * value, n_parameters=pair[1])
        for pair, value in ends.items()
    ]
    notes = list(jaxgmm.Selection(tuple(rows), "bic", 0.5).notes())
    assert notes == ["Likelihoods that more starts would raise: diag 3 below diag 2."]
    # Where something else was climbed, the likelihood may fall.
    other = [
        dataclasses.replace(one, result=dataclasses.replace(call(0).best, objective=np.float32(9))) for one in rows
    ]
    assert not list(jaxgmm.Selection(tuple(other), "bic", 0.5).notes())


@once
def test_a_second_sweep_compiles_nothing():
    sweep()
    with counted() as again:
        jaxgmm.select(jax.random.key(5), blobs(1), (4, 2, 3), ("diag", "spherical"), tol=1e-4, **QUICK)
    assert again == []


def test_a_candidate_that_fails_has_its_row(monkeypatch):
    def out_of_memory(plan, key, rows, present):
        if int(present.sum()) == 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory\nmore")
        return kept(plan, key, rows, present)

    kept = contest.best_of_restarts
    monkeypatch.setattr(contest, "best_of_restarts", out_of_memory)
    found = jaxgmm.select(jax.random.key(0), blobs(), (1, 2, 3, 4), ("spherical",), **QUICK)
    assert found.winner.n_components == 3
    assert "ERROR: RESOURCE_EXHAUSTED: out of memory" in repr(found).splitlines()[-1]
    none = jaxgmm.select(jax.random.key(0), blobs(), (2,), ("spherical",), **QUICK)
    with pytest.raises(RuntimeError, match="No candidate could be fitted"):
        none.best  # noqa: B018


@once
def test_more_components_than_rows_has_its_row():
    found = jaxgmm.select(jax.random.key(0), blobs(n=6), (1, 8), ("spherical",), **QUICK)
    assert found.winner.n_components == 1
    assert found.candidates[1].n_components == 8
    assert not found.candidates[1].regular
    assert "DEGENERATE" in repr(found).splitlines()[2]


@once
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"criterion": "best"}, "criterion is 'best'"),
        ({"n_components": []}, "nothing to try"),
        ({"n_components": [0]}, "n_components is 0"),
        ({"criterion": "cv", "n_folds": 1}, "n_folds is 1"),
        ({"criterion": "cv", "n_folds": 151}, "no more folds than rows"),
        ({"forms": ["round"]}, "'round'"),
    ],
)
def test_bad_arguments(options, message):
    usual = {"n_components": [1], "forms": ["spherical"], **QUICK}
    with pytest.raises(ValueError, match=message):
        jaxgmm.select(jax.random.key(0), blobs(), **(usual | options))
