"""scikit-learn's Bayesian estimator, computed by jaxgmm: its numbers, its own tests, and what it lacks."""

import warnings

import jax
import numpy as np
import pytest
import sklearn.mixture
import sklearn.mixture.tests.test_bayesian_mixture as theirs_of_their_own
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import check_estimator

import jaxgmm
from jaxgmm.sklearn import BayesianGaussianMixture, from_sklearn
from jaxgmm.sklearn.checks import HOOKS_OF_BAYES

from compilations import counted
from tolerance import once

# The estimator computes in float64, whatever JAX is set to.
pytestmark = once

IRIS, KINDS = load_iris().data, load_iris().target
THEIRS = sklearn.mixture.BayesianGaussianMixture
FORMS = ("full", "tied", "diag", "spherical")
PROCESS, DIRICHLET = TYPES = ("dirichlet_process", "dirichlet_distribution")
ARRAYS = (
    "weights_",
    "means_",
    "covariances_",
    "precisions_",
    "precisions_cholesky_",
    "weight_concentration_",
    "mean_precision_",
    "degrees_of_freedom_",
    "weight_concentration_prior_",
    "mean_precision_prior_",
    "mean_prior_",
    "degrees_of_freedom_prior_",
    "covariance_prior_",
    "lower_bounds_",
    "lower_bound_",
)
VARIANCES = IRIS.var(axis=0)
# For each form its covariance prior.
SCATTER = {
    "full": np.diag(VARIANCES) / 2,
    "tied": np.diag(VARIANCES) / 2,
    "diag": VARIANCES / 2,
    "spherical": VARIANCES.mean() / 2,
}


def priors(kind):
    return {
        "weight_concentration_prior": 0.2,
        "mean_prior": IRIS[0],
        "mean_precision_prior": 0.5,
        "degrees_of_freedom_prior": 5.5,
        "covariance_prior": SCATTER[kind],
    }


def fitted(cls, x=IRIS, *, known=None, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return cls(**({"n_components": 4, "random_state": 0} | options)).fit(x, **(known or {}))


def alike(ours, theirs, rtol=1e-9):
    assert (ours.n_iter_, ours.converged_) == (theirs.n_iter_, theirs.converged_)
    for name in ARRAYS:
        if name == "lower_bounds_" and ours.n_iter_ == 0:
            assert getattr(ours, name) == getattr(theirs, name) == []
            continue
        mine, yours = (np.asarray(getattr(one, name), np.float64) for one in (ours, theirs))
        # There, the bound of "tied" is an array of one number.
        yours = yours.reshape(mine.shape) if name.startswith("lower") else yours
        assert mine.shape == yours.shape, name
        np.testing.assert_allclose(mine, yours, rtol=rtol, atol=rtol * np.abs(yours).max(), err_msg=name)


@pytest.mark.parametrize("weights", TYPES)
@pytest.mark.parametrize("kind", FORMS)
def test_its_numbers(kind, weights):
    """By default and with other priors, from whole clusters and from a row for each component."""
    options = {"covariance_type": kind, "weight_concentration_prior_type": weights, "tol": 1e-6, "max_iter": 300}
    # See the next test.
    picked = "kmeans" if kind == "tied" else "k-means++"
    for more in ({}, priors(kind) | {"init_params": picked}):
        ours, theirs = (fitted(cls, **options, **more) for cls in (BayesianGaussianMixture, THEIRS))
        alike(ours, theirs)
        for name in ("score_samples", "predict_proba", "predict", "score"):
            np.testing.assert_allclose(getattr(ours, name)(IRIS), getattr(theirs, name)(IRIS), rtol=1e-8, atol=1e-12)
    ours.random_state = theirs.random_state = 0
    np.testing.assert_allclose(ours.sample(9)[0], theirs.sample(9)[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("given", [[0.3], np.float32([0.25]), [0.1, 0.2, 0.3, 0.4], 1])
def test_a_spherical_prior_is_one_number_or_one_for_each_component(given):
    alike(
        *(
            fitted(cls, covariance_type="spherical", covariance_prior=given, max_iter=500)
            for cls in (BayesianGaussianMixture, THEIRS)
        )
    )


def test_a_shared_covariance_of_few_rows_does_not_depend_on_the_origin():
    """There it starts with all rows about the origin, and is divided by the few."""
    options = {"covariance_type": "tied", "init_params": "k-means++", "max_iter": 0}
    for cls, same in ((THEIRS, False), (BayesianGaussianMixture, True)):
        near, far = (fitted(cls, IRIS + shift, **options).covariances_ for shift in (0, 1000))
        assert np.allclose(near, far, rtol=1e-6) == same


def test_other_starts_and_the_best_of_several():
    for options in ({"init_params": "random"}, {"init_params": "random_from_data", "n_init": 3}):
        alike(*(fitted(cls, covariance_type="diag", **options) for cls in (BayesianGaussianMixture, THEIRS)))
    start = {"covariance_type": "diag", "max_iter": 0}
    ours, theirs = (fitted(cls, **start) for cls in (BayesianGaussianMixture, THEIRS))
    alike(ours, theirs)


def test_float32_data_are_computed_as_there():
    x = IRIS.astype(np.float32)
    ours, theirs = (fitted(cls, x, covariance_type="diag") for cls in (BayesianGaussianMixture, THEIRS))
    assert ours.means_.dtype == theirs.means_.dtype == np.float64
    alike(ours, theirs, 1e-5)


# Those of scikit-learn's own file that take least.
OWN = (
    "check_is_fitted",
    "weights",
)


@pytest.mark.parametrize("name", OWN)
def test_scikit_learns_own_tests(name, monkeypatch):
    monkeypatch.setattr(theirs_of_their_own, "BayesianGaussianMixture", BayesianGaussianMixture)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        getattr(theirs_of_their_own, f"test_bayesian_mixture_{name}")()


def test_scikit_learns_own_checks():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = check_estimator(BayesianGaussianMixture(), on_skip=None)
    assert len(done) > 40
    assert {one["status"] for one in done if one["check_name"] != "check_array_api_input"} == {"passed"}
    assert BayesianGaussianMixture().get_params() == THEIRS().get_params() | {"missing": "error"}
    assert repr(clone(BayesianGaussianMixture(tol=0.1))) == "BayesianGaussianMixture(tol=0.1)"


GAPS = np.where(np.random.default_rng(0).random(IRIS.shape) < 0.2, np.nan, IRIS)
LABELS = np.where(np.random.default_rng(2).random(150) < 0.2, np.minimum(KINDS, 1), -1)
COUNTS = np.arange(150) % 3


def test_it_ends_where_the_library_ends_whatever_is_known():
    """And both bounds differ by what depends on the prior and the number of rows alone."""
    pairs, scatter = IRIS[:, 2:], np.diag(VARIANCES[2:])
    components = jaxgmm.NormalWishart(mean=pairs[0], pseudo_rows=0.5, degrees=3.5, scatter=scatter)
    same = {"mean_prior": pairs[0], "mean_precision_prior": 0.5, "degrees_of_freedom_prior": 3.5}
    same |= {"covariance_prior": scatter, "weight_concentration_prior": 0.2}
    far = {"n_components": 2, "missing": "em", "reg_covar": 1e-14, "tol": 0, "max_iter": 200, **same}
    whole = pairs, {}, {}
    gaps = np.column_stack([IRIS[:, 2], GAPS[:, 3]])
    partial = gaps, {"y": LABELS, "sample_weight": COUNTS}, {"labels": LABELS, "weights": COUNTS}
    near = {"tol": 1e-14, "regularization": 1e-12, "acceleration": None}
    constants = []
    with jax.enable_x64(True):
        objective = jaxgmm.Variational(jaxgmm.Prior(jaxgmm.StickBreaking(0.2), components))
        for x, told, given in (whole, partial):
            estimator = fitted(BayesianGaussianMixture, x, known=told, **far)
            rows = jaxgmm.rows(x, missing="nan", **given)
            assert float(np.sum(rows.weights)) == 150
            end = jaxgmm.fit(from_sklearn(estimator), rows, objective=objective, **near)
            assert jaxgmm.Status(int(end.status)) == jaxgmm.Status.CONVERGED
            np.testing.assert_allclose(end.mixture.means, estimator.means_, rtol=1e-6)
            np.testing.assert_allclose(end.mixture.covariances, estimator.covariances_, atol=1e-6)
            constants.append(float(end.objective) - estimator.lower_bound_)
    np.testing.assert_allclose(constants[0], constants[1], rtol=1e-11)


@pytest.mark.parametrize("kind", ["full", "spherical"])
def test_weights_are_repetitions_and_tell_the_priors_too(kind):
    # A row that is absent tells nothing, wherever it is.
    x, counts = np.concatenate([IRIS, np.full((1, 4), 1e9)]), np.append(COUNTS, 0)
    once = fitted(BayesianGaussianMixture, x, known={"sample_weight": counts}, covariance_type=kind)
    alike(once, fitted(BayesianGaussianMixture, np.repeat(IRIS, COUNTS, axis=0), covariance_type=kind))
    with pytest.raises(ValueError, match=r"add up to 0\.75.* count rows"):
        fitted(BayesianGaussianMixture, known={"sample_weight": np.full(150, 0.005)})


def test_gaps_tell_the_priors_too_and_empty_rows_nothing():
    pairs = IRIS[:, :2]
    x = np.where(np.arange(300).reshape(150, 2) == 0, np.nan, pairs)
    options = {"missing": "em", "n_components": 2, "covariance_type": "diag", "max_iter": 20}
    few = fitted(BayesianGaussianMixture, x, **options)
    # Of the column without a gap, as of whole rows.
    np.testing.assert_allclose(few.covariance_prior_[1], pairs[:, 1].var(ddof=1), rtol=1e-8)
    np.testing.assert_allclose(few.mean_prior_, pairs.mean(axis=0), rtol=1e-3)
    more = fitted(BayesianGaussianMixture, np.concatenate([x, np.full((9, 2), np.nan)]), **options)
    np.testing.assert_allclose(more.lower_bound_, few.lower_bound_, rtol=1e-12)


def test_a_warm_start_goes_on():
    options = {"covariance_type": "tied", "tol": 0}
    cold = fitted(BayesianGaussianMixture, max_iter=6, **options)
    warm = BayesianGaussianMixture(n_components=4, random_state=0, max_iter=2, warm_start=True, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for _ in range(3):
            warm.fit(IRIS)
    np.testing.assert_allclose(warm.means_, cold.means_, rtol=1e-9)
    np.testing.assert_allclose(warm.lower_bound_, cold.lower_bound_, rtol=1e-9)
    with pytest.raises(ValueError, match="warm_start continues a fit with another weight_concentration_prior_type"):
        warm.set_params(weight_concentration_prior_type=DIRICHLET).fit(IRIS)


def test_it_prints_what_scikit_learn_prints(capsys):
    printed = []
    for cls in (THEIRS, BayesianGaussianMixture):
        fitted(cls, covariance_type="diag", verbose=1, verbose_interval=10)
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] != ""


def test_other_values_compile_nothing():
    options = {"covariance_type": "diag", "tol": 1.0}
    x = np.random.default_rng(0).normal(size=(250, 4))
    fitted(BayesianGaussianMixture, x, **options).predict(x)
    with counted() as programs:
        for seed in range(3):
            other = {"random_state": seed, "mean_precision_prior": 0.1 + seed, "reg_covar": 1e-5, "max_iter": 50}
            fitted(BayesianGaussianMixture, x[: 200 + seed], **(options | other)).predict(x[:100])
    assert programs == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mean_prior": [0.0]}, "'means' should have the shape of"),
        ({"covariance_prior": -np.eye(4)}, "'full covariance_prior' should be symmetric, positive-definite"),
        ({"covariance_prior": 2.0}, "'full covariance_prior' should have the shape of"),
        ({"covariance_prior": np.ones(3), "covariance_type": "diag"}, "should have the shape of"),
        ({"covariance_prior": np.ones(3), "covariance_type": "spherical"}, r"should have the shape of \(\) or \(2,\)"),
        ({"covariance_prior": np.eye(2), "covariance_type": "spherical"}, r"but got \(2, 2\)"),
        ({"covariance_prior": [1.0, -1.0], "covariance_type": "spherical"}, "should be symmetric, positive-definite"),
        ({"covariance_prior": [np.nan], "covariance_type": "spherical"}, "NaN"),
        ({"degrees_of_freedom_prior": 3.0}, "should be greater than 3, but got 3.000"),
        ({"weight_concentration_prior": 0.0}, "weight_concentration_prior"),
    ],
)
def test_priors_that_cannot_be(given, message):
    estimator = BayesianGaussianMixture(n_components=2, **given)
    with pytest.raises(ValueError, match=message):
        estimator.fit(IRIS)
    assert not hasattr(estimator, "means_")


def test_a_step_of_ones_own_is_refused_and_not_ignored():
    assert all(hasattr(THEIRS, name) for name in HOOKS_OF_BAYES)
    for name in HOOKS_OF_BAYES:
        cls = type("Own", (BayesianGaussianMixture,), {name: lambda self, *args, **kwargs: None})
        with pytest.raises(TypeError, match=f"Own overrides {name}, .* sklearn.mixture.BayesianGaussianMixture"):
            cls(n_components=2).fit(IRIS)
