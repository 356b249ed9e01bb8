"""Gaps filled by a mixture: scikit-learn's contract, an independent reference, and what cannot be filled."""

import pickle
import warnings

import jax
import numpy as np
import pandas
import pytest
import slow_reference as slow
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from jaxgmm.sklearn import MixtureImputer

from compilations import counted
from tolerance import once

pytestmark = once

IRIS, KINDS = load_iris().data, load_iris().target
SEEN = slow.gaps(IRIS, 0.2, 0)
GAPS = np.where(SEEN, IRIS, np.nan)


def parameters(mixture):
    k = mixture.n_components
    return slow.Parameters(
        *(np.asarray(array, float) for array in (mixture.weights, mixture.means, mixture.covariances[:k]))
    )


def test_scikit_learns_own_checks():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Nothing that is looked at depends on the form, and diagonal ones compile sooner.
        done = check_estimator(MixtureImputer(form="diag"), on_skip=None)
    assert len(done) > 40
    assert {one["status"] for one in done if one["check_name"] != "check_array_api_input"} == {"passed"}


@pytest.mark.parametrize(("n_components", "form"), [(1, "full"), (2, "full"), (3, "tied")])
def test_it_fills_in_the_expectation_at_a_maximum(n_components, form):
    imputer = MixtureImputer(n_components, form=form, random_state=0)
    filled = imputer.fit_transform(GAPS)
    assert np.array_equal(filled[SEEN], IRIS[SEEN])
    with jax.enable_x64(True):
        state = parameters(imputer.mixture_)
    rows = slow.Rows(GAPS)
    np.testing.assert_allclose(filled, slow.conditional(state, rows)[0], rtol=1e-8)
    # A step of exact EM finds nothing to gain but what `tol` leaves.
    after = slow.em_step(state, rows, form)
    assert slow.log_likelihood(after, rows) - slow.log_likelihood(state, rows) < 150 * 1e-5
    assert imputer.n_components_ == n_components


def test_it_guesses_better_than_the_mean():
    def error(imputer):
        return np.sqrt(np.mean((imputer.fit_transform(GAPS) - IRIS)[~SEEN] ** 2))

    assert error(MixtureImputer(2, random_state=0)) < 0.5 * error(SimpleImputer())


def test_bic_chooses():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2)) + 8 * rng.integers(2, size=(200, 1))
    x[rng.random(x.shape) < 0.1] = np.nan
    for n_components in ([1, 2, 3], range(1, 4)):
        imputer = clone(MixtureImputer(n_components, form="spherical", n_restarts=4, random_state=0)).fit(x)
        assert imputer.n_components_ == imputer.mixture_.n_components == 2
    # Weights count rows, and of more rows BIC believes more.
    flat = rng.uniform(size=(60, 2))
    options = {"form": "spherical", "n_restarts": 4, "random_state": 0}
    found = [MixtureImputer([1, 2], **options).fit(flat, sample_weight=np.full(60, w)) for w in (1.0, 100.0)]
    assert [one.n_components_ for one in found] == [1, 2]


def test_draws_spread_as_the_data_do():
    rng = np.random.default_rng(1)
    x = rng.multivariate_normal([0, 0], [[1.0, 0.6], [0.6, 1.0]], size=250)
    x[:200, 1] = np.nan
    options = {"random_state": 0}
    expected, drawn = (MixtureImputer(sample=sample, **options).fit_transform(x) for sample in (False, True))
    assert np.array_equal(expected[200:], x[200:])
    assert np.array_equal(drawn[200:], x[200:])
    assert abs(expected[:200, 1].std() - 0.6) < 0.15
    assert abs(drawn[:200, 1].std() - 1.0) < 0.15
    imputer = MixtureImputer(sample=True, random_state=0).fit(x)
    assert np.array_equal(imputer.transform(x), imputer.transform(x))
    again = imputer.set_params(random_state=1).transform(x)
    assert np.mean(again[:200, 1] != drawn[:200, 1]) == 1
    imputer.set_params(random_state=np.random.RandomState(0))
    assert not np.array_equal(imputer.transform(x), imputer.transform(x))


def test_columns_of_which_nothing_is_there():
    x = np.column_stack([GAPS[:, :2], np.full(150, np.nan), GAPS[:, 2:]])
    with pytest.warns(UserWarning, match=r"columns \[2\] of X, which are left out"):
        imputer = MixtureImputer().fit(x)
    plain = MixtureImputer().fit(GAPS)
    np.testing.assert_allclose(imputer.transform(x), plain.transform(GAPS), rtol=1e-9)
    assert imputer.get_feature_names_out().tolist() == ["x0", "x1", "x3", "x4"]
    assert imputer.columns_.tolist() == [0, 1, 3, 4]
    # As scikit-learn does.
    simple = SimpleImputer().fit(x)
    assert imputer.get_feature_names_out().tolist() == simple.get_feature_names_out().tolist()
    keeps = MixtureImputer(keep_empty_features=True).fit(x)
    filled = keeps.transform(np.where(np.arange(150)[:, None] == 3, 7.0, x))
    assert filled.shape == (150, 5)
    assert filled[3, 2] == 7.0
    assert np.all(np.delete(filled[:, 2], 3) == 0)


def test_columns_of_one_value():
    x = np.column_stack([GAPS, np.where(SEEN[:, 0], 3.5, np.nan)])
    filled = MixtureImputer().fit_transform(x)
    assert np.all(filled[:, 4] == 3.5)
    np.testing.assert_allclose(filled[:, :4], MixtureImputer().fit_transform(GAPS), rtol=1e-9)
    chosen = MixtureImputer([1, 2], n_restarts=4, random_state=0).fit(x)
    assert np.all(chosen.transform(x)[:, 4] == 3.5)
    nothing = MixtureImputer().fit(np.array([[1.0, 2.0], [1.0, np.nan]]))
    assert nothing.mixture_ is None
    assert nothing.n_components_ == 0
    assert nothing.transform([[np.nan, 5.0], [np.nan, np.nan]]).tolist() == [[1.0, 5.0], [1.0, 2.0]]


def test_new_rows_rows_without_an_entry_and_other_marks():
    imputer = MixtureImputer(2, random_state=0).fit(GAPS)
    new = imputer.transform(np.full((3, 4), np.nan))
    with jax.enable_x64(True):
        np.testing.assert_allclose(new, np.tile(imputer.mixture_.mean, (3, 1)), rtol=1e-9)
    marked = np.where(SEEN, IRIS, -1)
    by_mark = MixtureImputer(2, missing_values=-1, random_state=0).fit(marked)
    np.testing.assert_array_equal(by_mark.transform(marked), imputer.transform(GAPS))
    with pytest.raises(ValueError, match="NaN"):
        by_mark.transform(GAPS)
    with pytest.raises(NotFittedError):
        assert MixtureImputer().mixture_
    with pytest.raises(NotFittedError):
        MixtureImputer().transform(GAPS)


def test_weights_are_repetitions():
    counts = np.arange(150) % 3
    one = MixtureImputer().fit(GAPS, sample_weight=counts).transform(GAPS)
    other = MixtureImputer().fit(np.repeat(GAPS, counts, axis=0)).transform(GAPS)
    np.testing.assert_allclose(one, other, rtol=1e-6)


def test_types_frames_and_the_setting_of_jax():
    narrow = MixtureImputer(2, random_state=0).fit(GAPS.astype(np.float32))
    assert narrow.transform(GAPS.astype(np.float32)).dtype == np.float32
    assert narrow.transform(GAPS).dtype == np.float64
    wide = MixtureImputer(2, random_state=0).fit(GAPS)
    expected = wide.transform(GAPS)
    np.testing.assert_allclose(narrow.transform(GAPS), expected, rtol=0.02)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(wide.transform(GAPS), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(wide)).transform(GAPS), expected)
    frame = pandas.DataFrame(GAPS, columns=list("abcd")).astype("Float64")
    framed = MixtureImputer(2, random_state=0).set_output(transform="pandas").fit_transform(frame)
    assert list(framed) == list("abcd")
    np.testing.assert_array_equal(framed, expected)
    # Far from 0, what is computed in float64 keeps its digits.
    far = MixtureImputer(2, random_state=0).fit_transform(GAPS + 1e7)
    np.testing.assert_allclose(far - 1e7, expected, atol=1e-3)


def test_in_a_pipeline_and_a_search():
    pipeline = make_pipeline(MixtureImputer(n_restarts=2, random_state=0), RandomForestClassifier(20, random_state=0))
    search = GridSearchCV(pipeline, {"mixtureimputer__n_components": [1, 2]}, cv=2).fit(GAPS, KINDS)
    assert search.best_score_ > 0.85


def test_what_cannot_be():
    with pytest.raises(ValueError, match="n_components"):
        MixtureImputer(0).fit(GAPS)
    with pytest.raises(ValueError, match="n_samples >= n_components"):
        MixtureImputer(151).fit(GAPS)
    with pytest.raises(ValueError, match="nothing to try"):
        MixtureImputer([]).fit(GAPS)
    with pytest.raises(ValueError, match="form"):
        MixtureImputer(form="round").fit(GAPS)
    with pytest.raises(ValueError, match="infinity"):
        MixtureImputer().fit(np.where(SEEN, IRIS, np.inf))
    twice = np.column_stack([IRIS, IRIS[:, 0]])
    with pytest.warns(ConvergenceWarning, match="DEGENERATE"):
        MixtureImputer().fit(twice)


def test_other_lengths_compile_nothing():
    def done(n):
        MixtureImputer(2, n_restarts=4, random_state=n).fit_transform(np.where(SEEN[:n], IRIS[:n], np.nan))

    done(150)
    with counted() as programs:
        for n in (100, 120, 140):
            done(n)
    assert programs == []
