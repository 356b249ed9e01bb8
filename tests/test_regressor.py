"""Regression by a mixture: scikit-learn's contract, an independent reference, gaps, and several targets."""

import pickle
import warnings

import jax
import numpy as np
import pytest
import slow_reference as slow
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from jaxgmm.sklearn import MixtureRegressor

from compilations import counted
from tolerance import once

pytestmark = once

IRIS = load_iris().data
SEEN = slow.gaps(IRIS, 0.2, 0)[:, :3]
X, Y = IRIS[:, :3], IRIS[:, 3]
GAPS = np.where(SEEN, X, np.nan)


def parameters(regressor):
    """Of the mixture that was fitted."""
    with jax.enable_x64(True):
        mixture = regressor.mixture_
        return slow.Parameters(*(np.asarray(array) for array in (mixture.weights, mixture.means, mixture.covariances)))


def conditional(regressor, x, n_targets=1):
    """Mean and standard deviation of the targets, by the reference."""
    rows = slow.Rows(np.column_stack([x, np.full((len(x), n_targets), np.nan)]))
    mean, covariance = slow.conditional(parameters(regressor), rows)
    return mean[:, -n_targets:], np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))[:, -n_targets:]


@pytest.mark.parametrize("missing", ["error", "em"])
def test_scikit_learns_own_checks(missing):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = check_estimator(MixtureRegressor(missing=missing), on_skip=None)
    assert len(done) > 40
    assert {one["status"] for one in done if one["check_name"] != "check_array_api_input"} == {"passed"}


def test_one_component_is_linear_regression():
    counts = np.arange(150) % 3
    for weights in (None, counts):
        ours = MixtureRegressor().fit(X, Y, sample_weight=weights).predict(X)
        theirs = LinearRegression().fit(X, Y, sample_weight=weights).predict(X)
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-8)
    mean, std = MixtureRegressor().fit(X, Y).predict(X, return_std=True)
    np.testing.assert_allclose(std, np.full(150, np.sqrt(np.mean((mean - Y) ** 2))), rtol=1e-6)


@pytest.mark.parametrize("x", [X, GAPS], ids=["whole", "gaps"])
def test_the_prediction_is_the_conditional_expectation(x):
    regressor = MixtureRegressor(2, missing="em", random_state=0).fit(x, Y)
    mean, std = regressor.predict(x, return_std=True)
    expected = conditional(regressor, x)
    np.testing.assert_allclose(mean, expected[0][:, 0], rtol=1e-8)
    np.testing.assert_allclose(std, expected[1][:, 0], rtol=1e-7)
    assert mean.shape == std.shape == (150,)
    # A step of exact EM on the likelihood of all that is there finds nothing to gain but what `tol` leaves.
    state, rows = parameters(regressor), slow.Rows(np.column_stack([x, Y]))
    gain = slow.log_likelihood(slow.em_step(state, rows, "full"), rows) - slow.log_likelihood(state, rows)
    assert gain < 150 * 1e-5
    assert regressor.score(x, Y) > 0.85


def test_several_targets_are_predicted_together():
    regressor = MixtureRegressor(2, random_state=0).fit(X[:, :2], IRIS[:, 2:])
    mean, std = regressor.predict(X[:, :2], return_std=True)
    expected = conditional(regressor, X[:, :2], 2)
    np.testing.assert_allclose(mean, expected[0], rtol=1e-8)
    np.testing.assert_allclose(std, expected[1], rtol=1e-7)
    column = MixtureRegressor().fit(X, Y[:, None]).predict(X)
    assert column.shape == (150, 1)
    np.testing.assert_array_equal(column[:, 0], MixtureRegressor().fit(X, Y).predict(X))


def test_gaps():
    with pytest.raises(ValueError, match="NaN"):
        MixtureRegressor().fit(GAPS, Y)
    regressor = MixtureRegressor(missing="em").fit(GAPS, Y)
    assert regressor.__sklearn_tags__().input_tags.allow_nan
    mean, std = regressor.predict(np.full((1, 3), np.nan), return_std=True)
    np.testing.assert_allclose(mean, Y.mean(), rtol=1e-8)
    np.testing.assert_allclose(std, Y.std(), rtol=1e-6)
    with pytest.raises(ValueError, match="NaN"):
        regressor.fit(X, np.where(np.arange(150) == 3, np.nan, Y))
    # A column that was never there tells nothing, even where it is.
    empty = np.column_stack([GAPS, np.full(150, np.nan)])
    again = MixtureRegressor(missing="em").fit(empty, Y)
    assert again.columns_.tolist() == [0, 1, 2, 4]
    np.testing.assert_allclose(again.predict(np.column_stack([X, Y])), regressor.predict(X), rtol=1e-9)


def test_nothing_to_tell_by():
    flat = MixtureRegressor().fit(np.ones((20, 2)), Y[:20])
    mean, std = flat.predict(X[:3, :2], return_std=True)
    np.testing.assert_allclose(mean, np.full(3, Y[:20].mean()), rtol=1e-9)
    np.testing.assert_allclose(std, np.full(3, Y[:20].std()), rtol=1e-6)
    constant = MixtureRegressor().fit(X, np.full(150, 2.5))
    mean, std = constant.predict(X, return_std=True)
    assert np.all(mean == 2.5)
    assert np.all(std == 0)
    both = MixtureRegressor().fit(np.ones((20, 2)), np.full(20, 2.5))
    assert both.mixture_ is None
    assert both.predict(X[:2, :2]).tolist() == [2.5, 2.5]


def test_bic_chooses_and_a_search_may():
    x = np.linspace(-1, 1, 200)[:, None]
    y = np.abs(x[:, 0]) + 0.05 * np.random.default_rng(0).normal(size=200)
    regressor = MixtureRegressor([1, 2], n_restarts=4, random_state=0).fit(x, y)
    assert regressor.n_components_ == 2
    assert regressor.score(x, y) > 0.95
    pipeline = make_pipeline(StandardScaler(), MixtureRegressor(n_restarts=4, random_state=0))
    search = GridSearchCV(pipeline, {"mixtureregressor__n_components": [1, 2]}, cv=2)
    order = np.random.default_rng(1).permutation(200)
    search.fit(x[order], y[order])
    assert search.best_params_ == {"mixtureregressor__n_components": 2}
    assert cross_val_score(pipeline.set_params(mixtureregressor__n_components=2), x[order], y[order], cv=2).min() > 0.9


def test_types_and_pickles():
    few_digits = X.astype(np.float32)
    narrow = MixtureRegressor().fit(few_digits, Y.astype(np.float32))
    assert narrow.predict(few_digits).dtype == np.float32
    # The digits of y are not those of X.
    offset = MixtureRegressor().fit(few_digits, 1e9 + Y).predict(few_digits) - 1e9
    np.testing.assert_allclose(offset, narrow.predict(few_digits), atol=1e-3)
    wide = MixtureRegressor(2, random_state=0).fit(X, Y)
    expected = wide.predict(X)
    assert expected.dtype == np.float64
    with jax.enable_x64(True):
        np.testing.assert_array_equal(wide.predict(X), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(wide)).predict(X), expected)
    # The mixture in float32 would have lost what tells its components apart.
    far = MixtureRegressor().fit(X + 1e8, Y)
    np.testing.assert_allclose(far.predict(X + 1e8), MixtureRegressor().fit(X, Y).predict(X), atol=1e-4)
    with pytest.raises(ValueError, match="64-bit mode"):
        assert far.mixture_


def test_what_cannot_be():
    with pytest.raises(NotFittedError):
        MixtureRegressor().predict(X)
    with pytest.raises(ValueError, match="n_samples >= n_components"):
        MixtureRegressor(151).fit(X, Y)
    with pytest.raises(ValueError, match="missing"):
        MixtureRegressor(missing="drop").fit(X, Y)
    with pytest.warns(ConvergenceWarning, match="DEGENERATE"):
        regressor = MixtureRegressor().fit(X, 2 * X[:, 0] - X[:, 1])
    np.testing.assert_allclose(regressor.predict(X), 2 * X[:, 0] - X[:, 1], atol=1e-3)


def test_other_lengths_compile_nothing():
    def done(n):
        MixtureRegressor(2, n_restarts=4, random_state=n).fit(X[:n], Y[:n]).predict(X[:n], return_std=True)

    done(150)
    with counted() as programs:
        for n in (100, 120, 140):
            done(n)
    assert programs == []
