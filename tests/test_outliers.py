"""Rows that stand alone: decided once, for all candidates, and listed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.selection import outliers

from tolerance import dtype, once

FORMS = ("full", "tied", "diag", "spherical")
# One program for each form.
OPTIONS = {"n_components": (1, 2, 3), "forms": FORMS, "n_restarts": 8}
TRUTH = np.repeat([0, 1], 100)


def blobs(first=None, n_far=1):
    x = np.random.default_rng(0).normal(size=(200, 2)) + 8.0 * TRUTH[:, None]
    if first is not None:
        x[:n_far] = first
    return x.astype(dtype())


def table(x, **options):
    return jaxgmm.select(jax.random.key(0), x, **(OPTIONS | options))


def chosen(selection, form):
    """The candidate that the criterion prefers among those of a form."""
    mine = [one for one in selection.ranked if one.form == form]
    assert mine[0].regular
    return mine[0]


@pytest.mark.parametrize("far", [20.0, 1e3, 1e6, 1e12])
def test_one_row_decides_nothing(far):
    if dtype() is np.float32 and far > 1e6:
        pytest.skip("float32 does not hold the blobs beside it")
    x = blobs(far)
    selection = table(x)
    assert selection.outliers == (0,)
    assert "1 row stands alone and is set aside, with weight 0 in every candidate: 0" in repr(selection)
    for form in FORMS:
        best = chosen(selection, form)
        assert best.n_components == 2
        labels = np.asarray(best.result.mixture.predict(x[1:]))
        assert jaxgmm.adjusted_rand_index(labels, TRUTH[1:]) == 1
    # As if the row were absent.
    weights = np.ones(200, dtype())
    weights[0] = 0
    without = table(x, weights=weights)
    assert without.outliers == ()
    assert [one.log_likelihood for one in without.candidates] == [one.log_likelihood for one in selection.candidates]


def test_rows_can_be_kept_and_the_table_says_what_it_passed_over():
    selection = table(blobs(20.0), outliers="keep", forms=FORMS[:1])
    assert selection.outliers == ()
    over = selection.passed_over
    assert over.candidate.n_components == 3
    assert over.lower > 50
    told = repr(selection).splitlines()[-1]
    assert told.startswith("Passed over: full 3")
    assert told.endswith(f", {over.lower:.2f} lower but with a spurious component.")
    accepted = table(blobs(20.0), outliers="keep", forms=FORMS[:1], spurious=True)
    assert accepted.winner.n_components == 3
    assert accepted.passed_over is None
    assert not accepted.winner.regular


def test_a_group_is_no_outlier_and_several_rows_may_be_outliers():
    assert table(blobs(60.0, n_far=1)).outliers == (0,)
    group = blobs()
    group[:6] += 60
    assert table(group).outliers == ()
    several = blobs()
    several[:3] = [[60, 0], [-500, 3], [0, 9e3]]
    assert table(several).outliers == (0, 1, 2)


def test_few_that_are_far_together_do_not_hide_each_other():
    two = blobs()
    two[:2] = [[500, 500], [501, 501]]
    assert table(two).outliers == (0, 1)


def test_numbers_that_stand_for_nothing():
    """Of these, not even the squares are finite."""
    x = blobs()
    x[3, 1] = 1e37 if dtype() is np.float32 else 1e300
    selection = table(x)
    assert selection.outliers == (3,)
    assert selection.winner.n_components == 2


@once
def test_long_tails_are_kept():
    x = np.random.default_rng(0).standard_cauchy(size=(200, 9)).astype(dtype())
    assert table(x, n_components=(1, 2), forms="diag").outliers == ()
    assert [outliers.most_alone(n) for n in (5, 20, 80, 200, 10**6)] == [0, 2, 5, 10, 2000]


@once
def test_a_small_group_in_many_columns_is_one():
    random = np.random.default_rng(0)
    x = random.normal(size=(200, 9)) + np.where(np.arange(200) < 6, 40, 0)[:, None]
    selection = table(x.astype(dtype()), n_components=(1, 2), forms="diag")
    assert selection.outliers == ()
    assert selection.winner.n_components == 2


@once
def test_a_column_that_only_an_outlier_varies_in_is_constant():
    x = np.insert(blobs(), 1, 3, axis=1)
    x[5, 1] = 9
    selection = table(x, forms=FORMS[2])
    assert selection.outliers == (5,)
    assert selection.constants == {1: 3.0}
    assert "Column 1 is 3 in every row but those set aside, and is left out." in repr(selection)
    assert selection.winner.n_components == 2


def test_rows_without_weight_are_never_listed():
    x, weights = blobs(1e4), np.ones(200)
    weights[0], x[1] = 0, np.inf
    weights[1] = 0
    assert table(x, weights=weights).outliers == ()


def test_an_unknown_word_is_refused():
    with pytest.raises(ValueError, match="outliers is 'drop'; expected one of 'exclude', 'keep'"):
        table(blobs(), outliers="drop")


@once
@pytest.mark.parametrize(("m", "d"), [(20, 2), (60, 3), (200, 1)])
def test_few_gaussian_rows_are_further_than_their_limit(m, d):
    """With no more than the chance it was made for is any of the rows beyond, or one more beside them."""
    inside, outside = (limit[-1, 0] for limit in outliers._limits(jnp.ones(1), jnp.asarray(m), d))  # of chance 0.1
    x = np.random.default_rng(0).normal(size=(4000, m + 1, d))
    gaps = x - x[:, :m].mean(axis=1, keepdims=True)
    scatter = np.einsum("nmi,nmj->nij", gaps[:, :m], gaps[:, :m]) / m
    depth = np.einsum("nmi,nij,nmj->nm", gaps, np.linalg.inv(scatter), gaps) / 2
    assert np.mean(np.any(depth[:, :m] > inside, axis=1)) < 0.1
    assert np.mean(depth[:, m] > outside) < 0.1 / m + 2 * np.sqrt(0.1 / m / 4000)
