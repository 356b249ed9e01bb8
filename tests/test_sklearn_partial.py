"""The scikit-learn estimator and rows of which only a part is known: gaps, noise, labels."""

import pickle
import warnings

import jax
import numpy as np
import pandas
import polars
import pytest
import sklearn
import sklearn.mixture
import slow_reference as slow
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import jaxgmm
from jaxgmm.sklearn import GaussianMixture, from_sklearn

from compilations import counted
from tolerance import once

pytestmark = once

IRIS, KINDS = load_iris().data, load_iris().target
SPREAD = np.cov(IRIS.T)
START = {
    "full": np.stack([np.linalg.inv(SPREAD)] * 3),
    "tied": np.linalg.inv(SPREAD),
    "diag": np.ones((3, 4)) / np.diag(SPREAD),
    "spherical": np.ones(3),
}
COVARIANCES = {
    "full": np.stack([SPREAD] * 3),
    "tied": np.stack([SPREAD] * 3),
    "diag": np.stack([np.diag(np.diag(SPREAD))] * 3),
    "spherical": np.stack([np.eye(4)] * 3),
}
WEIGHTS, MEANS = np.array([0.2, 0.3, 0.5]), IRIS[[0, 60, 120]]
NOISE = slow.noises(IRIS, "partial", 0)
LABELS = np.where(np.random.default_rng(3).random(150) < 0.2, KINDS, -1)
COUNTS = np.arange(150) % 3


def with_gaps(share=0.2, seed=0):
    return np.where(slow.gaps(IRIS, share, seed), IRIS, np.nan)


def started(kind, **options):
    return GaussianMixture(
        3, covariance_type=kind, weights_init=WEIGHTS, means_init=MEANS, precisions_init=START[kind], **options
    )


def full_covariances(estimator):
    """(k, d, d), whatever the type."""
    array, kind = estimator.covariances_, estimator.covariance_type
    each = {
        "full": lambda: array,
        "tied": lambda: np.stack([array] * 3),
        "diag": lambda: np.stack([np.diag(one) for one in array]),
        "spherical": lambda: np.stack([one * np.eye(4) for one in array]),
    }
    return each[kind]()


KNOWN = {
    "gaps": (with_gaps(), {}),
    "noise": (IRIS, {"noise": NOISE}),
    "labels": (IRIS, {"y": LABELS}),
    "all": (with_gaps(), {"noise": NOISE, "y": LABELS, "sample_weight": COUNTS}),
}


@pytest.mark.parametrize(
    ("kind", "known"), [*((kind, "all") for kind in START), ("full", "gaps"), ("full", "noise"), ("diag", "labels")]
)
def test_the_steps_of_an_independent_reference(kind, known):
    x, given = KNOWN[known]
    rows = slow.Rows(x, None, given.get("noise"), given.get("sample_weight"), given.get("y"))
    state = slow.Parameters(WEIGHTS, MEANS, COVARIANCES[kind])
    bounds = []
    for _ in range(3):
        bounds.append(slow.log_likelihood(state, rows) / rows.weights.sum())
        state = slow.em_step(state, rows, kind)
    estimator = started(kind, missing="em", reg_covar=0.0, max_iter=3, tol=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(x, **given)
    np.testing.assert_allclose(estimator.lower_bounds_, bounds, rtol=1e-8)
    np.testing.assert_allclose(estimator.weights_, state.weights, rtol=1e-8)
    np.testing.assert_allclose(estimator.means_, state.means, rtol=1e-8)
    np.testing.assert_allclose(full_covariances(estimator), state.covariances, rtol=1e-7, atol=1e-9)
    # Scores know no labels.
    rows.labels = np.full(150, -1)
    noise = {"noise": given["noise"]} if "noise" in given else {}
    expected = slow.log_joint(state, rows)
    np.testing.assert_allclose(
        estimator.score_samples(x, **noise), np.logaddexp.reduce(expected, axis=1), rtol=1e-8, atol=1e-8
    )
    np.testing.assert_allclose(estimator.predict_proba(x, **noise), slow.responsibilities(state, rows), atol=1e-8)
    assert np.array_equal(estimator.predict(x, **noise), expected.argmax(axis=1))
    np.testing.assert_allclose(
        estimator.score(x, sample_weight=given.get("sample_weight"), **noise),
        slow.log_likelihood(state, rows) / rows.weights.sum(),
        rtol=1e-8,
    )


def test_it_ends_where_the_library_ends():
    x = with_gaps(0.4)
    options = {"covariance_type": "tied", "tol": 1e-10, "max_iter": 5000, "reg_covar": 1e-12}
    estimator = GaussianMixture(2, missing="em", random_state=0, **options).fit(x)
    with jax.enable_x64(True):
        rows = jaxgmm.rows(x, missing="nan")
        mixture = from_sklearn(estimator)
        end = jaxgmm.fit(mixture, rows, tol=1e-10, regularization=1e-12)
        np.testing.assert_allclose(estimator.score(x) * 150, end.log_likelihood, rtol=1e-7)
        for name in ("aic", "bic"):
            np.testing.assert_allclose(getattr(estimator, name)(x), getattr(jaxgmm, name)(mixture, rows), rtol=1e-12)


def test_rows_without_an_entry_count_in_no_criterion():
    x = np.concatenate([with_gaps(), np.full((10, 4), np.nan)])
    # They slow EM down, and do not change where it ends.
    options = {"missing": "em", "tol": 1e-13, "max_iter": 2000}
    estimator, few = (started("tied", **options).fit(rows) for rows in (x, x[:150]))
    assert estimator.n_iter_ > few.n_iter_
    np.testing.assert_allclose(estimator.means_, few.means_, rtol=1e-5)
    np.testing.assert_allclose(estimator.lower_bound_ * 160, few.lower_bound_ * 150, rtol=1e-9)
    np.testing.assert_allclose(estimator.weights_, few.weights_, rtol=1e-5)
    np.testing.assert_allclose(estimator.bic(x), estimator.bic(x[:150]), rtol=1e-12)
    np.testing.assert_allclose(estimator.score_samples(x[150:]), np.zeros(10), atol=1e-14)
    np.testing.assert_allclose(estimator.predict_proba(x[150:]), np.tile(estimator.weights_, (10, 1)), rtol=1e-9)
    # An entry with an error without bounds is none.
    noise = np.where(np.isnan(x), np.inf, 0.0)
    filled = np.where(np.isnan(x), 1.0, x)
    np.testing.assert_allclose(estimator.bic(filled, noise=noise), estimator.bic(x), rtol=1e-12)
    np.testing.assert_allclose(estimator.aic(filled, noise=noise), estimator.aic(x), rtol=1e-12)
    with pytest.raises(ValueError, match=r"n_samples = 2 with an entry that is not missing"):
        GaussianMixture(3, missing="em").fit(x[148:])


def test_a_column_that_is_never_there_tells_nothing():
    x = np.column_stack([IRIS, np.full(150, np.nan)])
    with_it = GaussianMixture(2, missing="em", random_state=0).fit(x)
    assert np.array_equal(with_it.means_[:, 4], np.zeros(2))
    with jax.enable_x64(True):
        mixture = from_sklearn(with_it).marginal([0, 1, 2, 3])
        np.testing.assert_allclose(with_it.score(x), mixture.log_prob(IRIS).mean(), rtol=1e-9)


def test_nothing_missing_is_the_plain_fit():
    plain = GaussianMixture(3, random_state=0).fit(IRIS)
    with counted() as programs:
        other = GaussianMixture(3, missing="em", random_state=0).fit(IRIS, KINDS)
        assert np.array_equal(other.score_samples(IRIS), plain.score_samples(IRIS))
    assert np.array_equal(other.means_, plain.means_)
    assert len(programs) <= 1


def test_gaps_are_refused_unless_asked_for():
    x = with_gaps()
    assert clone(GaussianMixture(2, missing="em")).get_params()["missing"] == "em"
    assert GaussianMixture(missing="em").__sklearn_tags__().input_tags.allow_nan
    assert not GaussianMixture().__sklearn_tags__().input_tags.allow_nan
    fitted = GaussianMixture(2, random_state=0).fit(IRIS)
    for call in (GaussianMixture(2).fit, fitted.predict, fitted.score_samples, fitted.bic):
        with pytest.raises(ValueError, match="NaN"):
            call(x)
    with pytest.raises(ValueError, match="missing"):
        GaussianMixture(missing="drop").fit(IRIS)
    with pytest.raises(ValueError, match="infinity"):
        GaussianMixture(missing="em").fit(np.where(np.isnan(x), np.inf, x))


def test_frames_say_missing_in_their_own_way():
    x, options = with_gaps(), {"n_components": 2, "missing": "em", "random_state": 0}
    expected = GaussianMixture(**options).fit(x)
    names = list("abcd")
    nullable = pandas.DataFrame(x, columns=names).astype("Float64")
    nulls = polars.DataFrame(dict(zip(names, x.T, strict=True))).with_columns(polars.all().fill_nan(None))
    assert nullable.isna().sum().sum() == nulls.null_count().sum_horizontal()[0] == np.isnan(x).sum()
    masked = np.ma.array(np.where(np.isnan(x), 7.0, x), mask=np.isnan(x))
    for given in (nullable, nulls, masked):
        found = GaussianMixture(**options).fit(given)
        np.testing.assert_array_equal(found.means_, expected.means_)
        np.testing.assert_array_equal(found.predict(given), expected.predict(x))
    assert found.means_.dtype == np.float64
    narrow = pickle.loads(pickle.dumps(GaussianMixture(**options).fit(x.astype(np.float32))))
    assert narrow.predict_proba(x.astype(np.float32)).dtype == narrow.means_.dtype == np.float32
    np.testing.assert_allclose(narrow.score(x), expected.score(x), atol=1e-2)


def test_labels_name_the_components():
    order = np.array([2, 0, 1])
    labels = np.where(LABELS < 0, -1, order[KINDS])
    for y in (labels, labels.astype(float), pandas.Series(labels)):
        found = GaussianMixture(3, random_state=1).fit(IRIS, y)
        assert np.mean(found.predict(IRIS) == order[KINDS]) > 0.95
    # Of a row with a label the component is known, whatever its entries say.
    wrong = labels.copy()
    wrong[0] = order[2]
    estimator = GaussianMixture(3, random_state=1)
    found = estimator.fit_predict(IRIS, wrong)
    assert found[0] == order[2] != estimator.predict(IRIS)[0]
    assert np.array_equal(found[labels < 0], estimator.predict(IRIS)[labels < 0])


@pytest.mark.parametrize(
    "y",
    [KINDS, np.where(LABELS < 0, -1, KINDS + 0.5), np.where(LABELS < 0, np.nan, KINDS), LABELS - 1, LABELS.astype(str)],
    ids=["none unknown", "fractions", "nan", "below -1", "names"],
)
def test_what_is_no_label_has_no_influence(y):
    plain = started("diag").fit(IRIS)
    assert np.array_equal(started("diag").fit(IRIS, y).means_, plain.means_)
    assert np.array_equal(started("diag").fit_predict(IRIS, y), plain.predict(IRIS))


def test_labels_that_cannot_be():
    with pytest.raises(ValueError, match=r"y holds -1, .* and 2; expected .* from 0 to 1"):
        GaussianMixture(2).fit(IRIS, LABELS)
    with pytest.raises(ValueError, match="inconsistent"):
        GaussianMixture(3).fit(IRIS, LABELS[:100])


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (-np.ones((150, 4)), "noise"),
        (np.ones(150), r"noise has shape \(150,\)"),
        (np.ones((150, 3)), "noise has shape"),
    ],
)
def test_noise_that_cannot_be(noise, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(2).fit(IRIS, noise=noise)


def test_noise_is_taken_off():
    rng = np.random.default_rng(0)
    noise = np.full(IRIS.shape, 0.3**2)
    blurred = IRIS + 0.3 * rng.normal(size=IRIS.shape)
    sharp, plain, true = (
        GaussianMixture(random_state=0).fit(x, noise=given)
        for x, given in ((blurred, noise), (blurred, None), (IRIS, None))
    )
    error = [np.abs(np.diag(one.covariances_[0]) - np.diag(true.covariances_[0])).max() for one in (sharp, plain)]
    assert error[0] < 0.5 * error[1]
    # A covariance for each row is the same if it is diagonal.
    as_matrices = GaussianMixture(random_state=0).fit(blurred, noise=noise[:, :, None] * np.eye(4))
    np.testing.assert_allclose(as_matrices.covariances_, sharp.covariances_, rtol=1e-8)


def test_noise_is_routed():
    x, noise = with_gaps(), np.full(IRIS.shape, 0.04)
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = (
            GaussianMixture(2, missing="em", random_state=0)
            .set_fit_request(noise=True)
            .set_score_request(noise=True)
            .set_predict_request(noise=True)
        )
        pipeline = make_pipeline(StandardScaler(), estimator).fit(x, noise=noise)
        z = StandardScaler().fit_transform(x)
        alone = GaussianMixture(2, missing="em", random_state=0).fit(z, noise=noise)
        np.testing.assert_array_equal(pipeline[-1].means_, alone.means_)
        assert not np.allclose(alone.means_, clone(estimator).fit(z).means_)
        np.testing.assert_array_equal(pipeline.predict(x, noise=noise), alone.predict(z, noise=noise))
        search = GridSearchCV(pipeline, {"gaussianmixture__tol": [1e-3]}, cv=2).fit(x, noise=noise)
        np.testing.assert_array_equal(search.best_estimator_[-1].means_, alone.means_)
        scores = cross_val_score(pipeline, x, cv=2, params={"noise": noise})
        np.testing.assert_array_equal(scores.mean(), search.best_score_)
        assert np.all(scores != cross_val_score(pipeline, x, cv=2))


def test_other_gaps_compile_nothing():
    x = np.random.default_rng(0).normal(size=(200, 4))
    options = {"n_components": 2, "missing": "em", "tol": 1.0, "random_state": 0}

    def done(n, seed):
        gaps = np.random.default_rng(seed).random((n, 4)) < 0.3
        given = np.where(gaps, np.nan, x[:n])
        GaussianMixture(**options).fit(given).predict(given)

    done(200, 0)
    with counted() as programs:
        for seed in range(1, 6):
            done(200 - 10 * seed, seed)
    assert programs == []


def test_scikit_learns_own_checks_with_gaps():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = check_estimator(GaussianMixture(missing="em"), on_skip=None)
    assert {one["status"] for one in done if one["check_name"] != "check_array_api_input"} == {"passed"}
