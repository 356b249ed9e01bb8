"""What users of scikit-learn do beside fit and predict: step in, set attributes, count rows, watch, meet the worst."""

import re
import warnings

import numpy as np
import pytest
import sklearn.mixture
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning

from jaxgmm.sklearn import GaussianMixture, from_sklearn
from jaxgmm.sklearn.checks import HOOKS

from tolerance import once

IRIS = load_iris().data
THEIRS = sklearn.mixture.GaussianMixture
START = {"n_components": 3, "covariance_type": "diag", "means_init": IRIS[[0, 60, 120]], "random_state": 0}
COVARIANCES = {
    "full": np.stack([np.cov(IRIS.T), np.eye(4), 2 * np.eye(4)]),
    "tied": np.cov(IRIS.T),
    "diag": np.stack([np.ones(4), np.arange(1.0, 5.0), np.full(4, 0.5)]),
    "spherical": np.array([1.0, 2.0, 0.5]),
}


@once
def test_every_hook_is_one_of_scikit_learn():
    """And none of its steps of a fit is left out."""
    own = {name for name in vars(sklearn.mixture._base.BaseMixture) if re.match(r"_[a-z]", name)}
    own -= {"_parameter_constraints", "_abc_impl", "_doc_link_template"}
    told = {name for name in own if name.startswith("_print_verbose")}
    assert own - told <= set(HOOKS)
    assert all(hasattr(THEIRS, name) for name in HOOKS)


@once
@pytest.mark.parametrize("name", HOOKS)
def test_a_step_of_ones_own_is_refused_and_not_ignored(name):
    cls = type("Own", (GaussianMixture,), {name: lambda self, *args, **kwargs: None})
    with pytest.raises(TypeError, match=f"Own overrides {name}, which .* Derive it from sklearn"):
        cls(2).fit(IRIS)
    fitted = GaussianMixture(2, random_state=0).fit(IRIS)
    setattr(fitted, name, lambda *args: None)
    with pytest.raises(TypeError, match=f"overrides {name}"):
        fitted.predict(IRIS)


@once
def test_other_methods_of_ones_own_are_called():
    class Counted(GaussianMixture):
        def _n_parameters(self):
            return 7

        def score_samples(self, X):
            return super().score_samples(X) + 1

    one, other = (cls(2, random_state=0).fit(IRIS) for cls in (Counted, GaussianMixture))
    assert np.isclose(one.score(IRIS), other.score(IRIS) + 1)
    assert np.isclose(one.aic(IRIS), -2 * 150 * one.score(IRIS) + 14)


@once
@pytest.mark.parametrize("kind", COVARIANCES)
@pytest.mark.parametrize("n_components", [1, 3])
def test_attributes_set_by_hand(kind, n_components):
    root = sklearn.mixture._gaussian_mixture._compute_precision_cholesky(COVARIANCES[kind], kind)
    made = []
    for cls in (THEIRS, GaussianMixture, GaussianMixture):
        estimator = cls(n_components, covariance_type=kind)
        estimator.weights_, estimator.means_ = np.array([0.2, 0.3, 0.5]), IRIS[[0, 60, 120]]
        estimator.covariances_ = COVARIANCES[kind]
        made.append(estimator)
    for estimator in made[:2]:
        estimator.precisions_cholesky_ = root
    theirs, ours, without_root = made
    for estimator in (ours, without_root):
        assert np.array_equal(estimator.predict(IRIS), theirs.predict(IRIS))
        for name in ("score_samples", "predict_proba", "score", "aic", "bic"):
            np.testing.assert_allclose(getattr(estimator, name)(IRIS), getattr(theirs, name)(IRIS), rtol=1e-9)
        np.testing.assert_allclose(from_sklearn(estimator).weights, theirs.weights_, rtol=1e-6)
    # it is the root that counts where both are there
    theirs.covariances_ = ours.covariances_ = 9 * COVARIANCES[kind]
    np.testing.assert_allclose(ours.score(IRIS), theirs.score(IRIS), rtol=1e-9)


@once
def test_criteria_count_weighted_rows():
    weights = np.arange(150) % 3
    repeated = np.repeat(IRIS, weights, axis=0)
    once = GaussianMixture(**START).fit(IRIS, sample_weight=weights)
    twice = GaussianMixture(**START).fit(repeated)
    for name in ("aic", "bic"):
        criterion = getattr(once, name)
        np.testing.assert_allclose(criterion(IRIS, sample_weight=weights), getattr(twice, name)(repeated), rtol=1e-8)
        with pytest.raises(ValueError, match=r"fitted with sample_weight.*numpy\.ones\(len\(X\)\)"):
            criterion(IRIS)
        unweighted = GaussianMixture(**START).fit(IRIS)
        np.testing.assert_allclose(
            getattr(unweighted, name)(IRIS), getattr(unweighted, name)(IRIS, np.ones(150)), rtol=1e-12
        )
        np.testing.assert_allclose(
            getattr(unweighted, name)(IRIS), getattr(THEIRS(**START).fit(IRIS), name)(IRIS), rtol=1e-8
        )
        for wrong in (-np.ones(150), np.zeros(150)):
            with pytest.raises(ValueError, match=r"(?i)sample.weight"):
                criterion(IRIS, sample_weight=wrong)


@once
def test_rows_without_any_likelihood_leave_the_start_and_a_warning():
    far = {"n_components": 3, "covariance_type": "diag", "means_init": np.arange(12.0).reshape(3, 4) * 1e180}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = THEIRS(**far, max_iter=1, random_state=0).fit(IRIS)
    for n_init, max_iter in ((1, 1), (1, 100), (3, 100)):
        estimator = GaussianMixture(**far, max_iter=max_iter, n_init=n_init, random_state=0)
        with pytest.warns(ConvergenceWarning, match="so far from all components that their likelihood is 0"):
            estimator.fit(IRIS)
        assert estimator.lower_bound_ == theirs.lower_bound_ == -np.inf
        assert estimator.lower_bounds_ == theirs.lower_bounds_ == [-np.inf]
        assert (estimator.n_iter_, estimator.converged_) == (theirs.n_iter_, theirs.converged_) == (1, False)
        np.testing.assert_array_equal(estimator.means_, far["means_init"])
        assert all(np.isfinite(getattr(estimator, name)).all() for name in ("weights_", "covariances_", "precisions_"))


def lines(capsys):
    """What was printed, without times."""
    return [re.sub(r"\t? ?time lapse [\d.]+s", "", line) for line in capsys.readouterr().out.splitlines()]


@once
@pytest.mark.parametrize(
    "options",
    [
        {"verbose": 1},
        {"verbose": 2, "verbose_interval": 1},
        {"verbose": 2, "verbose_interval": 5},
        {"verbose": 2, "max_iter": 7, "verbose_interval": 3},
        {"verbose": 2, "max_iter": 6, "verbose_interval": 3},
        {"verbose": 1, "max_iter": 0},
    ],
)
def test_it_prints_what_scikit_learn_prints_and_fits_as_if_it_did_not(options, capsys):
    quiet = {name: value for name, value in options.items() if name == "max_iter"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        THEIRS(**START, **options).fit(IRIS)
        expected = lines(capsys)
        ours = GaussianMixture(**START, **options).fit(IRIS)
        assert lines(capsys) == expected
        other = GaussianMixture(**START, **quiet).fit(IRIS)
    assert (ours.n_iter_, ours.converged_) == (other.n_iter_, other.converged_)
    np.testing.assert_allclose(ours.means_, other.means_, rtol=1e-9)
    np.testing.assert_allclose(ours.lower_bounds_, other.lower_bounds_, rtol=1e-9)
    assert lines(capsys) == []


@once
def test_it_prints_while_it_runs():
    seen = []

    class Watched(GaussianMixture):
        def _print_verbose_msg_iter_end(self, n_iter, diff_ll):
            seen.append(n_iter)
            if n_iter == 4:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Watched(**START, verbose=1, verbose_interval=2, tol=0).fit(IRIS)
    assert seen == [2, 4]


@once
def test_masked_entries_are_missing():
    masked = np.ma.array(IRIS, mask=np.arange(600).reshape(150, 4) == 7)
    with pytest.raises(ValueError, match="NaN"):
        GaussianMixture(2).fit(masked)
    with pytest.raises(ValueError, match="NaN"):
        GaussianMixture(2, random_state=0).fit(IRIS).predict(masked)
    with pytest.raises(ValueError, match=r"(?i)nan"):
        GaussianMixture(2).fit(IRIS, sample_weight=np.ma.array(np.ones(150), mask=np.arange(150) == 7))
    GaussianMixture(2, random_state=0).fit(np.ma.array(IRIS))
