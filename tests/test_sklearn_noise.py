"""A noise component in the estimator."""

import pickle

import jax
import numpy as np
import pytest
import sklearn.base
from sklearn.utils.estimator_checks import estimator_checks_generator

import jaxgmm
from jaxgmm.sklearn import GaussianMixture, from_sklearn, to_sklearn

from tolerance import once

pytestmark = once
RANDOM = np.random.default_rng(0)
LABELS = np.repeat([0, 1, -1], [200, 200, 80])
X = np.where(LABELS[:, None] < 0, RANDOM.uniform(-8, 14, (480, 2)), RANDOM.normal(size=(480, 2)) + 6 * LABELS[:, None])
START = {"means_init": [[0, 0], [6, 6]], "tol": 1e-7, "max_iter": 2000}


@pytest.fixture(scope="module")
def fitted():
    return GaussianMixture(2, noise_component=True, **START).fit(X)


def test_it_is_the_mixture_of_the_core(fitted):
    mixture = from_sklearn(fitted)
    assert mixture.noise_component == 2
    with jax.enable_x64(True):
        best = jaxgmm.fit(from_sklearn(fitted), X, regularization=0).mixture
        np.testing.assert_allclose(best.weights, fitted.weights_, atol=1e-3)
        np.testing.assert_allclose(best.means[:2], fitted.means_, atol=0.01)
        np.testing.assert_allclose(best.log_prob(X), fitted.score_samples(X), atol=0.01)
        core = jaxgmm.init(jax.random.key(0), X, 2, jaxgmm.with_noise("full")).components
        np.testing.assert_allclose(mixture.components.widths, core.widths, rtol=1e-5)
    with pytest.raises(NotImplementedError, match="WithNoise"):
        to_sklearn(mixture)


def test_labels_and_columns(fitted):
    shares = fitted.predict_proba(X)
    assert shares.shape == (480, 3)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    found = fitted.predict(X)
    np.testing.assert_array_equal(found, np.where(shares.argmax(axis=1) == 2, -1, shares.argmax(axis=1)))
    assert np.mean(found == LABELS) > 0.93
    np.testing.assert_array_equal(GaussianMixture(2, noise_component=True, **START).fit_predict(X), found)
    assert fitted.weights_.shape == (3,)
    assert fitted.means_.shape == (2, 2)
    assert fitted.covariances_.shape == (2, 2, 2)
    assert abs(fitted.weights_[2] - 80 / 480) < 0.03


def test_criteria_count_two_more(fitted):
    plain = GaussianMixture(2, **START).fit(X)
    assert fitted._n_parameters() == plain._n_parameters() + 2
    total = fitted.score(X) * 480
    assert np.isclose(fitted.bic(X), -2 * total + (11 + 2) * np.log(480))
    assert fitted.bic(X) < plain.bic(X) - 100


def test_draws_are_of_the_box_too(fitted):
    drawn, labels = fitted.sample(1000)
    assert set(labels.tolist()) == {-1, 0, 1}
    np.testing.assert_array_equal(np.diff(np.where(labels < 0, 2, labels)) >= 0, True)
    assert abs(np.mean(labels == -1) - fitted.weights_[2]) < 0.05
    assert drawn.shape == (1000, 2)
    with pytest.raises(ValueError, match="n_samples"):
        fitted.sample(0)


def test_copies_and_steps_go_on(fitted):
    for again in (pickle.loads(pickle.dumps(fitted)), sklearn.base.clone(fitted).fit(X)):
        np.testing.assert_array_equal(again.predict(X), fitted.predict(X))
    warm = pickle.loads(pickle.dumps(fitted)).set_params(warm_start=True, tol=1e-3)
    assert warm.fit(X).n_iter_ <= 2
    before = warm.weights_[2]
    warm.partial_fit(X)
    assert abs(warm.weights_[2] - before) < 0.05
    warm.set_params(noise_component=False)
    for method in (warm.fit, warm.partial_fit):
        with pytest.raises(ValueError, match="goes on from a fit with a noise component"):
            method(X)
    plain = warm.set_params(warm_start=False).fit(X)
    assert plain.weights_.shape == (2,)
    assert plain.predict(X).min() == 0


def test_truths_of_numpy_are_truths(fitted):
    for truth in (True, False):
        one, other = (
            GaussianMixture(2, noise_component=kind(truth), random_state=0, **START).fit(X) for kind in (bool, np.bool_)
        )
        assert one.weights_.shape == other.weights_.shape == (2 + truth,)
        np.testing.assert_array_equal(one.weights_, other.weights_)


def test_a_row_far_out_takes_no_cluster():
    x = np.concatenate([X[:320], [[1e6, -1e6]]])
    for method in ("kmeans", "k-means++"):
        found = GaussianMixture(2, noise_component=True, random_state=0, init_params=method).fit(x)
        assert found.predict(x[-1:])[0] == -1
        assert np.all(found.weights_[:2] > 0.2)
        assert np.all(np.abs(found.means_[:2]) < 100)


def test_a_volume_of_ones_own_gaps_and_a_whole_start():
    gaps = np.where(RANDOM.random(X.shape) < 0.1, np.nan, X)
    whole = {**START, "weights_init": [0.5, 0.5], "precisions_init": np.stack([np.eye(2)] * 2)}
    found = GaussianMixture(2, noise_component=484.0, missing="em", **whole).fit(gaps)
    widths = np.asarray(from_sklearn(found).components.widths)
    assert np.isclose(widths.prod(), 484)
    assert abs(found.weights_[2] - 80 / 480) < 0.04
    for wrong in (-1.0, 0, "yes"):
        with pytest.raises(ValueError, match="'noise_component' parameter"):
            GaussianMixture(noise_component=wrong).fit(X)


@pytest.mark.parametrize("name", ["check_fit2d_1sample", "check_methods_subset_invariance", "check_estimators_pickle"])
def test_scikit_learns_own_checks_of_such(name):
    """All of them are run without noise."""
    estimator = GaussianMixture(2, noise_component=True, max_iter=500)
    checks = [check for _, check in estimator_checks_generator(estimator) if check.func.__name__ == name]
    assert checks
    for check in checks:
        check(estimator)
