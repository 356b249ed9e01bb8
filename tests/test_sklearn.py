"""The scikit-learn estimator: scikit-learn's own contract, its results, and what it lacks; conversion both ways."""

import pickle
import warnings

import jax
import numpy as np
import pandas
import polars
import pytest
import sklearn.mixture
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import jaxgmm
from jaxgmm.sklearn import BayesianGaussianMixture, GaussianMixture, from_sklearn, to_sklearn
from jaxgmm.sklearn.seeding import SEEDINGS

from cases import CASES, COVARIANCES, MEANS, WEIGHTS
from compilations import counted
from tolerance import TOLERANCES, assert_close, once

IRIS = load_iris().data
ARRAYS = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")
DTYPES = (np.float32, np.float64)
SPREAD = np.cov(IRIS.T)
START = {
    "full": np.stack([np.linalg.inv(SPREAD)] * 3),
    "tied": np.linalg.inv(SPREAD),
    "diag": np.ones((3, 4)) / np.diag(SPREAD),
    "spherical": np.ones(3),
}


def started(kind, **options):
    return {
        "n_components": 3,
        "covariance_type": kind,
        "weights_init": [0.2, 0.3, 0.5],
        "means_init": IRIS[[0, 60, 120]],
        "precisions_init": START[kind],
    } | options


def near(actual, expected, kind="close"):
    """Equal to the tolerance of the coarser of both dtypes."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    limit = TOLERANCES[kind][min(actual.dtype.type, expected.dtype.type, key=lambda dtype: np.finfo(dtype).bits)]
    np.testing.assert_allclose(actual, expected, rtol=limit, atol=limit * np.abs(expected).max())


@once
def test_scikit_learns_own_checks():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = check_estimator(GaussianMixture(), on_skip=None)
    assert len(done) > 40
    assert {one["status"] for one in done if one["check_name"] != "check_array_api_input"} == {"passed"}


@once
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", START)
def test_same_start_same_fit(kind, dtype):
    x = IRIS.astype(dtype)
    theirs = sklearn.mixture.GaussianMixture(**started(kind, reg_covar=1e-3)).fit(x)
    ours = GaussianMixture(**started(kind, reg_covar=1e-3)).fit(x)
    assert (ours.n_iter_, ours.converged_) == (theirs.n_iter_, theirs.converged_)
    for name in ARRAYS:
        assert getattr(ours, name).dtype == dtype
        near(getattr(ours, name), getattr(theirs, name))
    for name in ("lower_bound_", "lower_bounds_"):
        near(np.asarray(getattr(ours, name), dtype), np.asarray(getattr(theirs, name), dtype))
    for name in ("score_samples", "predict_proba"):
        assert getattr(ours, name)(x).dtype == dtype
        near(getattr(ours, name)(x), getattr(theirs, name)(x))
    for name in ("score", "bic", "aic"):
        near(np.asarray(getattr(ours, name)(x), dtype), np.asarray(getattr(theirs, name)(x), dtype))
    assert np.array_equal(ours.predict(x), theirs.predict(x))
    ours.random_state = theirs.random_state = 0
    for mine, yours in zip(ours.sample(20), theirs.sample(20), strict=True):
        near(np.asarray(mine, dtype), np.asarray(yours, dtype), "converged")


@once
@pytest.mark.parametrize("method", ["kmeans", "random"])
def test_same_seed_same_fit(method):
    options = {"init_params": method, "random_state": 0, "reg_covar": 1e-2}
    theirs = sklearn.mixture.GaussianMixture(3, **options).fit(IRIS)
    ours = GaussianMixture(3, **options).fit(IRIS)
    assert ours.n_iter_ == theirs.n_iter_
    near(ours.means_, theirs.means_)


@once
def test_parameters_and_defaults_are_the_same():
    own = {"missing": "error", "noise_component": False}
    assert GaussianMixture().get_params() == sklearn.mixture.GaussianMixture().get_params() | own
    assert repr(clone(GaussianMixture(2, tol=0.1))) == "GaussianMixture(n_components=2, tol=0.1)"


@once
@pytest.mark.parametrize("method", SEEDINGS)
def test_from_its_own_seeding_as_good_or_better(method):
    def mean_score(estimator):
        scores = []
        for seed in range(5):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                scores.append(estimator(3, init_params=method, random_state=seed).fit(IRIS).score(IRIS))
        return np.mean(scores)

    assert mean_score(GaussianMixture) > mean_score(sklearn.mixture.GaussianMixture) - 1e-3


@once
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_starts_may_be_those_that_scikit_learn_has_not():
    options = {"n_components": 3, "init_params": "hierarchical", "max_iter": 0}
    estimator = GaussianMixture(**options).fit(IRIS)
    with jax.enable_x64():
        start = jaxgmm.init(jax.random.key(0), IRIS, 3, method="hierarchical")
        near(estimator.means_, np.asarray(start.means))
        counts = len(IRIS) * np.asarray(start.weights)[:, None]
    # The prior of the means counts as one row at the mean of all.
    bayesian = BayesianGaussianMixture(**options).fit(IRIS)
    near(bayesian.means_, (counts * estimator.means_ + IRIS.mean(axis=0)) / (counts + 1))
    with pytest.raises(ValueError, match="'init_params' parameter of GaussianMixture must be a str among"):
        GaussianMixture(init_params="ward").fit(IRIS)


def test_results_depend_on_the_data_alone_not_on_the_setting_of_jax():
    fits = []
    for x64 in (False, True):
        with jax.enable_x64(x64):
            fits.append(GaussianMixture(3, random_state=0).fit(IRIS))
            assert jax.config.jax_enable_x64 == x64
    assert fits[0].means_.dtype == np.float64
    assert np.array_equal(fits[0].means_, fits[1].means_)
    assert fits[0].fit(IRIS.astype(np.float32)).predict_proba(IRIS.astype(np.float32)).dtype == np.float32
    assert fits[0].score_samples(IRIS).dtype == np.float64


@once
def test_weights_are_repetitions_and_absent_rows_are_absent():
    weights = np.arange(150) % 3
    repeated = np.repeat(IRIS, weights, axis=0)
    once = GaussianMixture(**started("full")).fit(IRIS, sample_weight=5.0 * weights)
    twice = GaussianMixture(**started("full")).fit(repeated)
    for name in ARRAYS:
        near(getattr(once, name), getattr(twice, name))
    near(once.score(IRIS, sample_weight=weights), twice.score(repeated))
    seeded = [
        GaussianMixture(3, random_state=0).fit(x, sample_weight=w) for x, w in ((IRIS, weights), (repeated, None))
    ]
    near(seeded[0].lower_bound_, seeded[1].lower_bound_)
    far = np.concatenate([np.full((1, 4), 1e12), IRIS])
    alone = GaussianMixture(3, random_state=0).fit(far, sample_weight=np.append(0, np.ones(150)))
    unlike = GaussianMixture(3, random_state=0).fit(IRIS)
    near(alone.lower_bound_, unlike.lower_bound_)
    assert np.abs(unlike.means_ - seeded[0].means_).max() > 1e-3


@once
@pytest.mark.parametrize(
    "weights",
    [-np.ones(150), np.zeros(150), np.ones(3), np.full(150, np.nan), np.eye(150)[:, 0]],
    ids=["negative", "zero", "too few", "nan", "one row"],
)
def test_weights_that_cannot_be(weights):
    with pytest.raises(ValueError, match=r"(?i)sample.weight|n_samples"):
        GaussianMixture(2).fit(IRIS, sample_weight=weights)


@once
def test_a_dozen_lengths_cost_a_handful_of_compilations():
    x = np.random.default_rng(0).normal(size=(1000, 2))
    lengths = np.linspace(100, 1000, 12).astype(int)
    with counted() as fits:
        for n in lengths:
            GaussianMixture(3, covariance_type="diag", random_state=n, tol=1.0).fit(x[:n])
    assert 0 < len(fits) <= 5
    options = {"reg_covar": 1e-5, "tol": 0.5, "max_iter": 90, "n_init": 2, "random_state": 0}
    with counted() as others:
        for n in lengths:
            GaussianMixture(3, covariance_type="diag", **options).fit(x[: n - 1]).sample(3)
    assert others == []


@once
def test_the_likeliest_of_several_starts_wins():
    several = GaussianMixture(3, init_params="random_from_data", n_init=4, random_state=0).fit(IRIS)
    one = GaussianMixture(3, init_params="random_from_data", random_state=np.random.RandomState(0))
    alone = [one.fit(IRIS).lower_bound_ for _ in range(4)]
    assert several.lower_bound_ == max(alone) > min(alone)


@once
def test_a_warm_start_goes_on():
    cold = GaussianMixture(**started("full", max_iter=6, tol=0))
    warm = GaussianMixture(**started("full", max_iter=2, tol=0), warm_start=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        cold.fit(IRIS)
        for _ in range(3):
            warm.fit(IRIS)
    near(warm.means_, cold.means_)
    near(warm.lower_bound_, cold.lower_bound_)
    with pytest.raises(ValueError, match="warm_start continues"):
        warm.set_params(n_components=2, weights_init=None, means_init=None, precisions_init=None).fit(IRIS)


@once
def test_no_steps_leave_the_start():
    idle = GaussianMixture(**started("diag", max_iter=0)).fit(IRIS)
    assert (idle.n_iter_, idle.converged_, idle.lower_bounds_, idle.lower_bound_) == (0, False, [], -np.inf)
    near(idle.precisions_, START["diag"])


@once
def test_failures_are_told_as_scikit_learn_tells_them():
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        GaussianMixture(**started("full", max_iter=2)).fit(IRIS)
    pairs = np.repeat([[0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 3.0, 4.0], [5.0, 5.0, 5.0, 0.0]], 20, axis=0)
    for kind in START:
        estimator = GaussianMixture(3, covariance_type=kind, reg_covar=0.0, random_state=0)
        with pytest.raises(ValueError, match="ill-defined empirical covariance"):
            estimator.fit(pairs)
        assert not hasattr(estimator, "means_")
    assert np.isfinite(GaussianMixture(3, random_state=0).fit(pairs).score(pairs))
    with pytest.raises(NotFittedError):
        GaussianMixture().predict(IRIS)


@once
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weights_init": [0.5, 0.5]}, "shape of"),
        ({"weights_init": [0.5, 0.5, 0.5]}, "normalized"),
        ({"weights_init": [1.5, -0.5, 0.0]}, "range"),
        ({"means_init": [[0.0] * 3] * 3}, "shape of"),
        ({"precisions_init": -START["full"]}, "positive-definite"),
        ({"precisions_init": START["tied"]}, "shape of"),
        ({"init_params": "best"}, "init_params"),
        ({"reg_covar": -1.0}, "reg_covar"),
        ({"n_components": 151}, "n_samples >= n_components"),
    ],
)
def test_starts_and_options_that_cannot_be(given, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(**({"n_components": 3} | given)).fit(IRIS)


@once
def test_at_home_in_scikit_learn():
    frame = pandas.DataFrame(np.random.default_rng(0).permutation(IRIS), columns=list("abcd"))
    pipeline = make_pipeline(StandardScaler(), GaussianMixture(random_state=0)).set_output(transform="pandas")
    search = GridSearchCV(pipeline, {"gaussianmixture__n_components": [1, 3]}, cv=3).fit(frame)
    assert search.best_params_ == {"gaussianmixture__n_components": 3}
    assert search.best_estimator_[-1].feature_names_in_.tolist() == list("abcd")
    assert np.isfinite(cross_val_score(pipeline, frame, cv=3)).all()
    fitted = GaussianMixture(3, random_state=0).fit(polars.DataFrame(frame.to_dict("list")))
    assert fitted.feature_names_in_.tolist() == list("abcd")
    near(fitted.score_samples(frame), GaussianMixture(3, random_state=0).fit(frame).score_samples(frame))
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.predict_proba(frame), fitted.predict_proba(frame))


@pytest.mark.parametrize("kind", COVARIANCES)
def test_round_trips_keep_densities(kind):
    mixture = jaxgmm.from_parameters(WEIGHTS, MEANS, COVARIANCES[kind], kind)
    x = np.asarray(mixture.sample(jax.random.key(0), 200))
    theirs = to_sklearn(mixture)
    assert type(theirs) is sklearn.mixture.GaussianMixture
    assert_close(theirs.score_samples(x), mixture.log_prob(x), "close")
    assert_close(theirs.predict_proba(x), mixture.responsibilities(x), "close")
    if kind.startswith("tied-"):  # which scikit-learn does not have, so that each component has its own
        near(theirs.covariances_, np.broadcast_to(np.asarray(COVARIANCES[kind], x.dtype), theirs.covariances_.shape))
        return
    near(theirs.covariances_, np.asarray(COVARIANCES[kind], x.dtype))
    kept = kind if kind in START else "full"
    assert theirs.covariance_type == kept
    matrices = kept in ("full", "tied")
    near(theirs.precisions_, np.linalg.inv(COVARIANCES[kind]) if matrices else 1 / theirs.covariances_)
    back = from_sklearn(theirs)
    expected = mixture if kept == kind else jaxgmm.from_parameters(WEIGHTS, MEANS, COVARIANCES[kind])
    for one, other in zip(jax.tree.leaves(back), jax.tree.leaves(expected), strict=True):
        assert_close(one, other, "close")
    # any root of the precisions will do, as it does for scikit-learn
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(2, 2)))[0]
    if matrices:
        theirs.precisions_cholesky_ = theirs.precisions_cholesky_ @ turn
    assert_close(from_sklearn(theirs).log_prob(x), mixture.log_prob(x), "close")


def test_conversion_refuses_what_it_cannot_hold():
    with pytest.raises(TypeError, match="expected a fitted"):
        from_sklearn(StandardScaler())
    with pytest.raises(NotFittedError):
        from_sklearn(GaussianMixture())
    with pytest.raises(NotImplementedError, match="expected Gaussian ones"):
        to_sklearn(next(case for case in CASES if case.integer).mixture())


def test_batches_one_after_the_other_come_close_to_the_fit_of_all():
    """`partial_fit` takes what `fit` does, goes on from a fit, and starts anew with the next one."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12_000, 2)) + 6 * rng.integers(2, size=(12_000, 1))
    whole = GaussianMixture(2, random_state=0, tol=1e-8, max_iter=1000).fit(x)
    for dtype in (np.float64, np.float32):
        batches = GaussianMixture(2, random_state=0)
        for start in range(0, len(x), 400):
            assert batches.partial_fit(x[start : start + 400].astype(dtype)) is batches
        assert batches.means_.dtype == dtype
        assert batches.n_iter_ == len(batches.lower_bounds_) == 30
        assert not batches.converged_
        assert whole.score(x) - batches.score(x.astype(dtype)) < 1e-3
        assert abs(batches.lower_bound_ - whole.lower_bound_) < 0.05
        np.testing.assert_allclose(batches.precisions_, np.linalg.inv(batches.covariances_), rtol=1e-3)
        batches.fit(x[:1000].astype(dtype))
        assert batches.converged_
    again = pickle.loads(pickle.dumps(whole.partial_fit(x[:400]))).partial_fit(x[400:800])
    np.testing.assert_array_equal(again.means_, whole.partial_fit(x[400:800]).means_)


def test_batches_have_weights_gaps_and_labels():
    rng = np.random.default_rng(0)
    side = rng.integers(2, size=3000)
    x = rng.normal(size=(3000, 2)) + 6 * side[:, None]
    weights = np.where(rng.random(3000) < 0.3, 0, 2)
    gaps = np.where((rng.random(x.shape) < 0.2), np.nan, x)
    gaps[weights == 0] = 1e6
    y = np.where(rng.random(3000) < 0.3, side, -1)
    estimator = GaussianMixture(2, missing="em", random_state=0)
    for start in range(0, 3000, 500):
        rows = slice(start, start + 500)
        estimator.partial_fit(gaps[rows], y[rows], sample_weight=weights[rows])
    np.testing.assert_allclose(estimator.means_, [[0, 0], [6, 6]], atol=0.2)
    assert float(estimator._online.weight) == weights.sum()
    with pytest.raises(ValueError, match="2 features"):
        estimator.partial_fit(x[:, :1])
    one = GaussianMixture(2, reg_covar=3.0, random_state=0)
    for start in range(0, 3000, 500):
        one.partial_fit(x[start : start + 500])
    theirs = sklearn.mixture.GaussianMixture(2, reg_covar=3.0, random_state=0).fit(x)
    order = np.argsort(one.means_[:, 0])
    np.testing.assert_allclose(one.covariances_[order], theirs.covariances_[np.argsort(theirs.means_[:, 0])], atol=0.3)


def test_a_batch_that_cannot_be_taken_changes_nothing():
    x = np.random.default_rng(0).normal(size=(300, 2))
    estimator = GaussianMixture(2, random_state=0).fit(x)
    before = {name: np.array(value) for name, value in vars(estimator).items() if name.endswith("_")}
    for given in ({"X": np.full((300, 2), 1e300)}, {"X": x, "decay": 7.0}, {"X": x, "memory": 0.0}):
        with pytest.raises(ValueError, match=r"not finite|decay is 7|memory is 0"):
            estimator.partial_fit(**given)
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(estimator, name), value)


def test_batches_are_of_the_mixture_that_there_is():
    x = np.random.default_rng(0).normal(size=(300, 2))
    estimator = GaussianMixture(2, random_state=0).partial_fit(x)
    for given in ({"n_components": 3}, {"covariance_type": "tied"}):
        with pytest.raises(ValueError, match="partial_fit goes on from 2 components of covariance_type 'full'"):
            estimator.set_params(**given).partial_fit(x)
        estimator.set_params(n_components=2, covariance_type="full")
    with pytest.raises(ValueError, match="reg_covar"):
        estimator.set_params(reg_covar=-1).partial_fit(x)
    # Digits that it has by now are kept.
    assert estimator.set_params(reg_covar=1e-6).partial_fit(x.astype(np.float32)).means_.dtype == np.float64
