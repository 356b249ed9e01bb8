"""Classification by mixtures: scikit-learn's contract, its own classifiers, an independent reference, gaps, choices."""

import pickle
import warnings

import jax
import numpy as np
import pytest
import slow_reference as slow
from sklearn.datasets import load_iris
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import jaxgmm
from jaxgmm.sklearn import MixtureClassifier

from compilations import counted
from tolerance import once

pytestmark = once

X, Y = load_iris(return_X_y=True)
OF_CLASS = [np.flatnonzero(Y == 0), np.flatnonzero(Y == 1), np.flatnonzero(Y == 2)]
NAMES = np.array(["setosa", "versicolor", "virginica"])[Y]
GAPS = np.where(slow.gaps(X, 0.2, 0), X, np.nan)
COUNTS = np.arange(150) % 3


def reference(classifier, x):
    """Log-density of each class (n, c), by the reference."""
    with jax.enable_x64(True):
        mixtures = [
            slow.Parameters(*(np.asarray(array) for array in (one.weights, one.means, one.covariances)))
            for one in classifier.mixtures_
        ]
    rows = slow.Rows(x)
    return np.stack([np.logaddexp.reduce(slow.log_joint(one, rows), axis=1) for one in mixtures], axis=1)


def two_sided():
    """Rows in one column: those of class 1 on both sides of those of class 0."""
    rng = np.random.default_rng(0)
    y = np.arange(300) % 2
    return rng.normal(size=(300, 1)) + np.where(y == 1, 4 * rng.choice([-1, 1], 300), 0)[:, None], y


# Nothing that is looked at depends on the form, and diagonal ones compile sooner.
@pytest.mark.parametrize("options", [{}, {"missing": "em", "shared": True, "forms": "diag"}], ids=str)
def test_scikit_learns_own_checks(options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = check_estimator(MixtureClassifier(**options), on_skip=None)
    assert len(done) > 55
    assert {one["status"] for one in done if one["check_name"] != "check_array_api_input"} == {"passed"}


def test_one_component_is_discriminant_analysis():
    linear = MixtureClassifier(forms="tied", shared=True).fit(X, Y)
    theirs = LinearDiscriminantAnalysis(solver="lsqr").fit(X, Y)
    np.testing.assert_allclose(linear.predict_proba(X), theirs.predict_proba(X), rtol=1e-8, atol=1e-12)
    for options in ({}, {"shared": True}):
        for weights in (None, COUNTS):
            naive = MixtureClassifier(forms="diag", **options).fit(X, NAMES, sample_weight=weights)
            theirs = GaussianNB(var_smoothing=0).fit(X, NAMES, sample_weight=weights)
            np.testing.assert_allclose(naive.predict_proba(X), theirs.predict_proba(X), rtol=1e-8, atol=1e-12)
            np.testing.assert_allclose(naive.priors_, theirs.class_prior_, rtol=1e-12)
            assert np.array_equal(naive.predict(X), theirs.predict(X))
    # scikit-learn's covariances are divided by n - 1, and so differ from those of highest likelihood.
    quadratic = MixtureClassifier().fit(X, Y)
    covariances = [np.cov(X[mine].T, ddof=0) for mine in OF_CLASS]
    means = [X[mine].mean(axis=0) for mine in OF_CLASS]
    away = X[:, None] - np.array(means)
    expected = -0.5 * (
        np.einsum("nci,cij,ncj->nc", away, np.linalg.inv(covariances), away)
        + np.linalg.slogdet(covariances)[1]
        + 4 * np.log(2 * np.pi)
    )
    np.testing.assert_allclose(quadratic.decision_function(X), expected + np.log(1 / 3), rtol=1e-8)
    np.testing.assert_allclose(
        quadratic.score_samples(X), np.logaddexp.reduce(expected, axis=1) + np.log(1 / 3), rtol=1e-8
    )


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("x", [X, GAPS], ids=["whole", "gaps"])
def test_bayes_rule_over_densities_of_what_is_seen(x, shared):
    options = {"n_restarts": 4, "missing": "em", "random_state": 0, "shared": shared}
    classifier = MixtureClassifier(2, forms="tied", **options).fit(x, NAMES)
    assert classifier.n_components_.tolist() == [2, 2, 2]
    log_prob = reference(classifier, x)
    joint = log_prob + np.log(classifier.priors_)
    expected = joint - np.logaddexp.reduce(joint, axis=1, keepdims=True)
    np.testing.assert_allclose(classifier.predict_log_proba(x), expected, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(classifier.predict_proba(x), np.exp(expected), atol=1e-9)
    np.testing.assert_allclose(classifier.decision_function(x), joint, rtol=1e-8)
    np.testing.assert_allclose(classifier.score_samples(x), np.logaddexp.reduce(joint, axis=1), rtol=1e-8)
    assert np.array_equal(classifier.predict(x), classifier.classes_[joint.argmax(axis=1)])
    covariances = np.stack([np.asarray(one.covariances) for one in classifier.mixtures_])
    # Tied within each class, or within all.
    assert np.all(covariances == covariances[:, :1])
    assert bool(np.all(covariances == covariances[0])) == shared
    # Free parameters: means, covariances, weights within classes, and shares of classes.
    n_parameters = 3 * 2 * 4 + (1 if shared else 3) * 10 + 3 + 2
    total = joint[np.arange(150), Y].sum()
    np.testing.assert_allclose(classifier.bic_, -2 * total + n_parameters * np.log(150), rtol=1e-9)


def test_with_shared_covariances_a_step_of_em_within_classes_finds_nothing_to_gain():
    """That of Hastie & Tibshirani (1996), JRSS B 58."""
    classifier = MixtureClassifier(2, forms="tied", shared=True, n_restarts=8, random_state=0).fit(X, Y)
    with jax.enable_x64(True):
        means = np.stack([one.means for one in classifier.mixtures_])
        weights = np.stack([one.weights for one in classifier.mixtures_])
        covariance = np.asarray(classifier.mixtures_[0].covariances[0])

    def likelihood(means, weights, covariance):
        away = X[:, None] - means[Y]
        distances = np.einsum("nri,ij,nrj->nr", away, np.linalg.inv(covariance), away)
        return np.log(weights[Y]) - 0.5 * (distances + np.linalg.slogdet(2 * np.pi * covariance)[1])

    joint = likelihood(means, weights, covariance)
    found = np.logaddexp.reduce(joint, axis=1)
    shares = np.exp(joint - found[:, None])
    new_weights = np.stack([shares[mine].mean(axis=0) for mine in OF_CLASS])
    new_means = np.stack([shares[mine].T @ X[mine] / shares[mine].sum(axis=0)[:, None] for mine in OF_CLASS])
    away = X[:, None] - new_means[Y]
    new_covariance = np.einsum("nr,nri,nrj->ij", shares, away, away) / 150
    after = np.logaddexp.reduce(likelihood(new_means, new_weights, new_covariance), axis=1)
    assert 0 <= after.sum() - found.sum() < 150 * 1e-5
    alone = MixtureClassifier(forms="tied", shared=True).fit(X, Y)
    assert found.sum() > reference(alone, X)[np.arange(150), Y].sum() + 5


def test_bic_chooses_for_each_class_and_over_all():
    x, y = two_sided()
    forms = ["spherical", "tied"]
    classifier = MixtureClassifier([1, 2, 3], forms=forms, n_restarts=4, random_state=0).fit(x, y)
    assert classifier.n_components_.tolist() == [1, 2]
    # In one column with one component they are one model, and the first that was asked for goes first.
    assert classifier.forms_ == ["spherical", "tied"]
    assert classifier.score(x, y) > 0.95
    single = MixtureClassifier(random_state=0).fit(x, y)
    assert classifier.bic_ < single.bic_ - 50
    np.testing.assert_allclose(MixtureClassifier(shared=True).fit(x, y).bic_, single.bic_, rtol=1e-9)
    total = 0.0
    for c, mixture in enumerate(classifier.mixtures_):
        with jax.enable_x64(True):
            total += float(jaxgmm.bic(mixture, x[y == c]))
    shares = -2 * 300 * np.log(0.5) + np.log(300)
    n_parameters = sum(one.n_parameters for one in classifier.mixtures_)
    expected = total + shares + n_parameters * (np.log(300) - np.log(150))
    np.testing.assert_allclose(classifier.bic_, expected, rtol=1e-6)
    given = MixtureClassifier({0: 1, 1: [2]}, forms="spherical", n_restarts=4, random_state=0).fit(x, y)
    assert given.n_components_.tolist() == [1, 2]
    # One covariance for components of both classes is not the same as one within each.
    for numbers, found in (([1, 2], [2, 2]), ({0: 1, 1: 2}, [1, 2])):
        both = MixtureClassifier(numbers, forms="tied", shared=True, n_restarts=4, random_state=0).fit(x, y)
        assert both.n_components_.tolist() == found
        assert both.score(x, y) > 0.95


def test_a_search_may_choose_too():
    x, y = two_sided()
    pipeline = make_pipeline(StandardScaler(), MixtureClassifier(n_restarts=4, random_state=0))
    search = GridSearchCV(pipeline, {"mixtureclassifier__n_components": [1, 2]}, cv=2)
    # Quadratic boundaries are enough here to be right; how sure one may be is another matter.
    search.set_params(scoring="neg_log_loss").fit(x, y)
    assert search.best_params_ == {"mixtureclassifier__n_components": 2}


def test_priors():
    own = MixtureClassifier(random_state=0).fit(X[:130], Y[:130])
    np.testing.assert_allclose(own.priors_, np.array([50, 50, 30]) / 130)
    given = MixtureClassifier(priors=[0.2, 0.0, 0.8]).fit(X[:130], Y[:130])
    difference = given.decision_function(X) - own.decision_function(X)
    with np.errstate(divide="ignore"):
        expected = np.log([0.2, 0.0, 0.8]) - np.log(own.priors_)
    np.testing.assert_allclose(difference, np.broadcast_to(expected, (150, 3)), rtol=1e-9)
    assert set(given.predict(X)) == {0, 2}
    assert np.all(given.predict_proba(X)[:, 1] == 0)
    # Where all densities are 0, the shares answer.
    far = np.full((1, 4), 1e200)
    np.testing.assert_allclose(own.predict_proba(far)[0], own.priors_)
    assert own.score_samples(far)[0] == -np.inf
    for wrong, message in (([0.5, 0.5], r"shape \(2,\).*3 classes"), ([0.5, 0.6, 0.2], "add up"), ([2, -1, 0], "add")):
        with pytest.raises(ValueError, match=message):
            MixtureClassifier(priors=wrong).fit(X, Y)


def test_gaps():
    with pytest.raises(ValueError, match="NaN"):
        MixtureClassifier().fit(GAPS, Y)
    classifier = MixtureClassifier(missing="em").fit(GAPS, Y)
    assert classifier.__sklearn_tags__().input_tags.allow_nan
    assert classifier.score(GAPS, Y) > 0.93
    np.testing.assert_allclose(classifier.predict_proba(np.full((1, 4), np.nan))[0], [1 / 3] * 3)
    # A row without any entry tells how large its class is, and nothing else.
    more = MixtureClassifier(missing="em").fit(np.vstack([GAPS, np.full((50, 4), np.nan)]), np.append(Y, [1] * 50))
    np.testing.assert_allclose(more.priors_, [0.25, 0.5, 0.25])
    np.testing.assert_allclose(
        more.decision_function(X) - np.log(more.priors_), classifier.decision_function(X) - np.log(1 / 3), rtol=1e-6
    )
    # A column that was never there tells nothing, even where it is.
    empty = MixtureClassifier(missing="em").fit(np.column_stack([GAPS, np.full(150, np.nan)]), Y)
    assert empty.columns_.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(empty.predict_proba(np.column_stack([X, Y])), classifier.predict_proba(X), rtol=1e-7)


def test_weights_count_rows():
    for options in ({}, {"shared": True, "forms": "tied"}):
        weighted = MixtureClassifier(**options).fit(X, Y, sample_weight=COUNTS)
        repeated = MixtureClassifier(**options).fit(np.repeat(X, COUNTS, axis=0), np.repeat(Y, COUNTS))
        np.testing.assert_allclose(weighted.decision_function(X), repeated.decision_function(X), rtol=1e-8)
        np.testing.assert_allclose(weighted.bic_, repeated.bic_, rtol=1e-9)


def test_nothing_to_tell_by():
    flat = MixtureClassifier().fit(np.ones((20, 2)), np.arange(20) % 5 == 0)
    assert flat.mixtures_ == []
    assert flat.forms_ == []
    np.testing.assert_allclose(flat.predict_proba(np.zeros((1, 2))), [[0.8, 0.2]])
    assert np.isnan(flat.bic_)
    alone = MixtureClassifier().fit(X, np.full(150, "all"))
    assert set(alone.predict(X)) == {"all"}
    assert np.all(alone.predict_proba(X) == 1)


def test_a_class_that_does_not_vary_in_a_column_keeps_it():
    """It tells the most, and its floor is that of the whole column."""
    x = np.column_stack([X, np.where(Y == 0, 0.0, X[:, 0])])
    with pytest.warns(ConvergenceWarning, match="fit of class 0 ended as DEGENERATE"):
        classifier = MixtureClassifier(forms="diag", regularization=1e-4).fit(x, Y)
    assert classifier.columns_.tolist() == [0, 1, 2, 3, 4]
    with jax.enable_x64(True):
        floor = float(np.sqrt(1e-4) * np.asarray(jaxgmm.scale_of(x))[4])
    np.testing.assert_allclose(np.sqrt(classifier.mixtures_[0].covariances[0, 4, 4]), floor, rtol=1e-4)
    assert np.all(classifier.predict_proba(x)[Y == 0, 0] > 0.999)


def test_what_cannot_be():
    with pytest.raises(NotFittedError):
        MixtureClassifier().predict(X)
    few = np.r_[0:52, 100:150]
    with pytest.raises(ValueError, match=r"class 'versicolor' has 2 rows.* 3 components.*Try fewer"):
        MixtureClassifier(3).fit(X[few], NAMES[few])
    with pytest.raises(ValueError, match="class 1 has 2 rows"):
        MixtureClassifier([3, 4], shared=True).fit(X[few], Y[few])
    some = np.where(NAMES == "setosa", 0.0, 1.0)
    with pytest.raises(ValueError, match="class 'setosa' has no row of positive weight"):
        MixtureClassifier().fit(X, NAMES, sample_weight=some)
    for numbers, message in (
        ({0: 1, 1: 1}, "no entry for class 2"),
        ({0: 1, 1: 1, 2: 1, 7: 1}, "entry for 7, no class"),
        ({0: 1, 1: 0, 2: 1}, "0 for class 1"),
        ([], "whole numbers from 1"),
        ([1.5], "whole numbers from 1"),
        (0, "n_components"),
    ):
        with pytest.raises(ValueError, match=message):
            MixtureClassifier(numbers).fit(X, Y)
    with pytest.raises(ValueError, match="several numbers for class 0"):
        MixtureClassifier({0: [1, 2], 1: 1, 2: 1}, shared=True).fit(X, Y)
    with pytest.raises(ValueError, match="forms holds nothing"):
        MixtureClassifier(forms=[]).fit(X, Y)
    with pytest.raises(ValueError, match="form is 'oval'"):
        MixtureClassifier(forms="oval").fit(X, Y)
    # Two rows tell no covariance of four columns: it is said of which class, and others are as ever.
    with pytest.warns(ConvergenceWarning, match="class 'versicolor' ended as DEGENERATE.*shared=True"):
        thin = MixtureClassifier().fit(X[few], NAMES[few])
    assert thin.score(X[few], NAMES[few]) > 0.95
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chosen = MixtureClassifier(forms=["full", "tied"], shared=True).fit(X[few], NAMES[few])
    assert chosen.forms_ == ["tied"] * 3


def test_forms_are_those_of_the_library():
    """Letters are names, all of them are one word, and what is one form is fitted once."""
    found = MixtureClassifier(forms=["VVV", "full"]).fit(X, Y)
    assert found.forms_ == ["full"] * 3
    assert MixtureClassifier(forms="mclust").fit(X[:, :1], Y).forms_[0] in ("spherical", "tied-spherical")
    wide = np.random.default_rng(0).normal(size=(90, 10)) + 2 * (np.arange(90) % 2)[:, None]
    thin = MixtureClassifier(forms="lowrank-2", shrinkage="oas").fit(wide, np.arange(90) % 2)
    assert thin.score(wide, np.arange(90) % 2) > 0.9
    for shared in (False, True):
        with pytest.raises(NotImplementedError, match=r"full \+ noise has noise, which belongs to none"):
            MixtureClassifier(forms=jaxgmm.with_noise("full"), shared=shared).fit(X, Y)


def test_a_fit_that_fails_leaves_what_there_was():
    classifier = MixtureClassifier()
    with pytest.raises(ValueError, match="forms holds nothing"):
        classifier.set_params(forms=[]).fit(X, Y)
    with pytest.raises(NotFittedError):
        classifier.predict(X)
    before = classifier.set_params(forms="diag").fit(X, Y).predict_proba(X)
    with pytest.raises(ValueError, match=r"class 1 has 1 rows.*2 components"):
        classifier.set_params(n_components=2).fit(X[:51], Y[:51])
    np.testing.assert_array_equal(classifier.predict_proba(X), before)


def test_a_class_with_entries_in_a_constant_column_alone():
    x = np.column_stack([X[:, :2], np.ones(150)])
    x[Y == 2, :2] = np.nan
    with pytest.raises(ValueError, match="class 2 has 0 rows of positive weight with an entry"):
        MixtureClassifier(missing="em").fit(x, Y)


def test_types_and_pickles():
    narrow = MixtureClassifier().fit(X.astype(np.float32), Y)
    for name in ("predict_proba", "predict_log_proba", "score_samples", "decision_function"):
        assert getattr(narrow, name)(X.astype(np.float32)).dtype == np.float32
    expected = MixtureClassifier().fit(X, Y).predict_proba(X)
    np.testing.assert_allclose(narrow.predict_proba(X.astype(np.float32)), expected, atol=1e-3)
    wide = MixtureClassifier(2, forms="diag", n_restarts=4, random_state=0).fit(X, NAMES)
    expected = wide.predict_proba(X)
    assert expected.dtype == np.float64
    with jax.enable_x64(True):
        np.testing.assert_array_equal(wide.predict_proba(X), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(wide)).predict_proba(X), expected)
    # The mixtures in float32 would have lost what tells their components apart.
    far = MixtureClassifier().fit(X + 1e8, Y)
    np.testing.assert_allclose(far.predict_proba(X + 1e8), MixtureClassifier().fit(X, Y).predict_proba(X), atol=1e-4)
    with pytest.raises(ValueError, match="64-bit mode"):
        assert far.mixtures_


def test_classes_of_other_sizes_compile_nothing():
    def done(rows, **options):
        classifier = MixtureClassifier(n_restarts=4, random_state=0, **options).fit(X[rows], Y[rows])
        classifier.predict(X[rows])
        return classifier

    several = {"n_components": [1, 2], "forms": "spherical"}
    done(slice(0, 150), **several)
    with counted() as programs:
        for rows in (slice(0, 140), slice(20, 150), slice(10, 120)):
            done(rows, **several)
    assert programs == []
