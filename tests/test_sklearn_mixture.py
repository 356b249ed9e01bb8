"""Mixtures of any form as an estimator: scikit-learn's contract, the core's results, and rows that no form holds."""

import itertools
import pickle
import re
import warnings

import numpy as np
import pandas
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import check_estimator, estimator_checks_generator

import jaxgmm
from jaxgmm.sklearn import Mixture, from_sklearn

from compilations import counted
from tolerance import dtype, once

RANDOM = np.random.default_rng(0)
KINDS = np.repeat([0, 1], [180, 120])
PLACES = RANDOM.normal(size=(300, 2)) + 5 * KINDS[:, None]
ANSWERS = (RANDOM.random((300, 4)) < np.where(KINDS, 0.9, 0.1)[:, None]).astype(float)
VISITS = RANDOM.poisson(np.where(KINDS, 20, 4)).astype(float)
TABLE = np.column_stack([ANSWERS[:, :2], PLACES[:, 0], VISITS])
MIXED = jaxgmm.Product.form({(0, 1): jaxgmm.Bernoulli.form(), 2: "full", 3: jaxgmm.Poisson.form()})
# Particularistic answers of students to four situations, and how often each pattern was given (Goodman 1974).
PATTERNS = np.array(list(itertools.product([0.0, 1.0], repeat=4)))
GIVEN = np.array([42, 23, 6, 25, 6, 24, 7, 38, 1, 4, 1, 6, 2, 9, 2, 20.0])


@pytest.fixture(scope="module")
def mixed():
    """Of a frame, in the type of the suite."""
    frame = pandas.DataFrame(TABLE.astype(dtype()), columns=["hot", "cold", "place", "visits"])
    return frame, Mixture(2, MIXED, n_init=4, random_state=0).fit(frame)


@once
def test_scikit_learns_own_checks():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = check_estimator(Mixture(), on_skip=None)
    assert len(done) > 40
    assert {one["status"] for one in done if one["check_name"] != "check_array_api_input"} == {"passed"}


@once
@pytest.mark.parametrize(
    ("form", "names"),
    [
        (jaxgmm.StudentT.form("full", nu=4), ["check_methods_subset_invariance"]),
        (
            jaxgmm.Exponential.form(),
            ["check_positive_only_tag", "check_sample_weight_equivalence_on_dense"],
        ),
    ],
    ids=str,
)
def test_scikit_learns_own_checks_of_other_forms(form, names):
    """All of them pass."""
    found = estimator_checks_generator(Mixture(form=form))
    checks = {getattr(check, "func", check).__name__: check for _, check in found}
    for name in names:
        assert any(one.startswith(name) for one in checks)
    for name, check in checks.items():
        if name.startswith(tuple(names)):
            check(Mixture(form=form))


def test_latent_classes_as_published():
    """Two classes of the four answers; weights count the rows that gave a pattern."""
    patterns = PATTERNS.astype(dtype())
    estimator = Mixture(2, jaxgmm.Bernoulli.form(), random_state=0).fit(patterns, sample_weight=GIVEN)
    total = estimator.score(patterns, sample_weight=GIVEN) * 216
    assert abs(total + 504.4677) < 2e-3
    assert abs(estimator.lower_bound_ * 216 - total) < 2e-3
    np.testing.assert_allclose(np.sort(estimator.weights_), [0.28, 0.72], atol=0.01)
    assert estimator.converged_
    assert estimator.n_iter_ > 1
    assert np.isclose(estimator.bic(patterns, GIVEN), -2 * total + 9 * np.log(216))
    assert np.isclose(estimator.aic(patterns, GIVEN), -2 * total + 18)
    with pytest.raises(ValueError, match="fitted with sample_weight"):
        estimator.bic(patterns)


def test_it_is_the_mixture_of_the_core(mixed):
    frame, estimator = mixed
    x = frame.to_numpy()
    mixture = estimator.mixture_
    assert type(mixture) is jaxgmm.Mixture
    assert from_sklearn(estimator).components.parts[0].logits.dtype == dtype()
    np.testing.assert_allclose(mixture.log_prob(x), estimator.score_samples(frame), rtol=1e-5)
    np.testing.assert_allclose(mixture.responsibilities(x), estimator.predict_proba(frame), atol=1e-5)
    np.testing.assert_allclose(mixture.weights, estimator.weights_, rtol=1e-6)
    np.testing.assert_allclose(jaxgmm.bic(mixture, x), estimator.bic(frame), rtol=1e-5)
    best = jaxgmm.fit(mixture, x)
    assert float(best.log_likelihood) - 300 * estimator.lower_bound_ < 300 * 2e-6 + 1e-5 * abs(best.log_likelihood)
    assert estimator.score_samples(frame).dtype == estimator.weights_.dtype == dtype()
    assert jaxgmm.adjusted_rand_index(estimator.predict(frame), KINDS) > 0.98
    assert estimator.schema_ == jaxgmm.Schema(["hot", "cold", "place", "visits"])


def test_draws_can_be_rows(mixed):
    frame, estimator = mixed
    drawn, labels = estimator.sample(400)
    assert drawn.shape == (400, 4)
    assert np.all(np.diff(labels) >= 0)
    found = estimator.predict(pandas.DataFrame(drawn, columns=list(frame)))
    assert np.mean(found == labels) > 0.97
    np.testing.assert_array_equal(estimator.sample(400)[0], drawn)
    with pytest.raises(ValueError, match="n_samples"):
        estimator.sample(0)


def test_what_the_form_cannot_hold_is_named(mixed):
    frame, estimator = mixed
    wrong = frame.copy()
    wrong.loc[7, "visits"] = 2.5
    wrong.loc[9, "hot"] = -1
    message = r"X holds 2\.5 in row 7, column 'visits', and 1 more .* Poisson components .* missing='em'"
    calls = [clone(estimator).fit, *(getattr(estimator, name) for name in ("predict", "score", "predict_proba", "aic"))]
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call(wrong)
    with pytest.raises(ValueError, match=r"holds 2\.5 in row 7, column 3"):
        Mixture(2, MIXED).fit(wrong.to_numpy())
    # The estimator that could not be fitted again is the one that it was.
    with pytest.raises(ValueError, match="Categorical components are of codes here: whole numbers from 0 to 1"):
        estimator.set_params(form=jaxgmm.Categorical.form(2)).fit(frame)
    estimator.set_params(form=MIXED)
    assert jaxgmm.adjusted_rand_index(estimator.predict(frame), KINDS) > 0.98
    # A row that does not count may hold anything.
    there = np.ones(300)
    there[[7, 9]] = 0
    again = clone(estimator).fit(wrong, sample_weight=there)
    assert jaxgmm.adjusted_rand_index(again.predict(frame), KINDS) > 0.98


@once
def test_negative_numbers_in_scikit_learns_words():
    for form in (jaxgmm.Poisson.form(), jaxgmm.LogNormal.form("full")):
        assert Mixture(form=form).__sklearn_tags__().input_tags.positive_only
        with pytest.raises(ValueError, match=r"X holds -.* Negative values in data have density 0"):
            Mixture(form=form).fit(-1 - VISITS[:, None])
    assert not Mixture(form=MIXED).__sklearn_tags__().input_tags.positive_only
    assert not Mixture().__sklearn_tags__().input_tags.positive_only


def test_gaps_labels_and_another_type(mixed):
    frame, estimator = mixed
    holes = frame.mask(np.random.default_rng(1).random(frame.shape) < 0.2)
    for call in (clone(estimator).fit, estimator.predict):
        with pytest.raises(ValueError, match="NaN"):
            call(holes)
    labels = np.where(np.arange(300) % 10, -1, 1 - KINDS)
    partial = clone(estimator).set_params(missing="em")
    found = partial.fit_predict(holes, labels)
    assert np.mean(found == 1 - KINDS) > 0.9
    assert np.array_equal(found[labels >= 0], labels[labels >= 0])
    rows = jaxgmm.rows(holes.to_numpy(), missing="nan")
    np.testing.assert_allclose(partial.mixture_.log_prob(rows), partial.score_samples(holes), rtol=1e-4, atol=1e-4)
    assert np.isclose(partial.bic(holes), jaxgmm.bic(partial.mixture_, rows), rtol=1e-5)
    # Computed in the type of the rows, whatever JAX is set to.
    assert partial.score_samples(holes.astype(np.float64)).dtype == np.float64


@once
def test_what_no_components_have_densities_of():
    # Errors that are the same for all rows are what their variance lacks.
    noise = np.full(PLACES.shape, 0.1)
    sharp = Mixture(form="diag", tol=1e-9).fit(PLACES, noise=noise)
    np.testing.assert_allclose(sharp.mixture_.covariances[0], np.diag(PLACES.var(axis=0) - 0.1), rtol=1e-4, atol=1e-6)
    assert np.isclose(sharp.score(PLACES, noise=noise), sharp.lower_bound_, rtol=1e-6)
    with pytest.raises(NotImplementedError, match="noise"):
        Mixture(form=jaxgmm.StudentT.form("full", nu=4)).fit(PLACES, noise=noise)
    counts = np.where(np.arange(600).reshape(300, 2) == 7, np.nan, np.column_stack([VISITS, VISITS]))
    with pytest.raises(NotImplementedError, match="Multinomial"):
        Mixture(form=jaxgmm.Multinomial.form(), missing="em").fit(counts)


@once
def test_a_search_over_forms_and_numbers():
    rng = np.random.default_rng(3)
    counts = rng.poisson(np.where(rng.permutation(KINDS)[:250], 25, 4))[:, None]
    steady, wide = jaxgmm.Poisson.form(), jaxgmm.NegativeBinomial.form()
    grid = [{"form": [wide], "n_components": [1]}, {"form": [steady], "n_components": np.array([1, 2])}]
    search = GridSearchCV(Mixture(n_init=2, random_state=0), grid, cv=2).fit(counts)
    assert search.best_params_ == {"form": steady, "n_components": 2}
    # That of many rates comes next.
    assert search.cv_results_["rank_test_score"].tolist() == [2, 3, 1]
    best = search.best_estimator_
    copy, again = clone(best), pickle.loads(pickle.dumps(best))
    assert copy.form == best.form
    assert hash(copy.form) == hash(best.form)
    assert search.best_estimator_.get_params()["form"] == best.form
    np.testing.assert_array_equal(again.predict_proba(counts), best.predict_proba(counts))
    np.testing.assert_array_equal(copy.fit(counts).weights_, best.weights_)
    # Folds of other sizes are of the same programs.
    with counted() as programs:
        for n in (200, 220):
            clone(best).fit(counts[:n], sample_weight=np.ones(n)).score(counts[:n])
    assert len(programs) <= 1


@once
def test_rows_that_belong_to_nothing():
    x = np.concatenate([PLACES, RANDOM.uniform(-20, 25, (60, 2))])
    estimator = Mixture(2, jaxgmm.with_noise("spherical"), n_init=4, random_state=0).fit(x)
    found = estimator.predict(x)
    assert set(found.tolist()) == {-1, 0, 1}
    assert np.mean(found[300:] == -1) > 0.8
    assert estimator.predict_proba(x).shape == (360, 3)
    assert estimator.weights_.shape == (3,)
    assert abs(estimator.weights_[2] - 1 / 6) < 0.05
    drawn, labels = estimator.sample(300)
    assert drawn.shape == (300, 2)
    assert labels[-1] == -1
    # Shares, means, variances, and the weight and volume of noise.
    assert np.isclose(estimator.bic(x), -2 * 360 * estimator.score(x) + (1 + 4 + 2 + 2) * np.log(360))


@once
def test_it_goes_on_tells_and_stops(capsys):
    estimator = Mixture(2, jaxgmm.Bernoulli.form(), n_init=3, random_state=0, verbose=1, init_params="random")
    estimator.fit(ANSWERS)
    told = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in told] == [f"Initialization {number}" for number in range(3)]
    ends = [float(re.fullmatch(r".*: [A-Z_]+, mean log-likelihood (-[\d.]+)", line).group(1)) for line in told]
    assert np.isclose(max(ends), estimator.lower_bound_, rtol=1e-4)
    short = clone(estimator).set_params(max_iter=2, verbose=0, warm_start=True)
    with pytest.warns(ConvergenceWarning, match="MAX_ITER after 2 steps.*raise max_iter"):
        short.fit(ANSWERS)
    assert not short.converged_
    before = short.lower_bound_
    short.set_params(max_iter=1000).fit(ANSWERS)
    assert short.converged_
    assert short.lower_bound_ > before
    assert capsys.readouterr().out == ""
    assert np.isclose(short.lower_bound_, estimator.lower_bound_, atol=1e-5)
    for other, x in (({"n_components": 3}, ANSWERS), ({"form": "full"}, ANSWERS), ({}, ANSWERS[:, :3])):
        with pytest.raises(ValueError, match=r"continues a fit of 2 components Bernoulli of 4 columns; .* make it"):
            pickle.loads(pickle.dumps(short)).set_params(**other).fit(x)


@once
def test_what_cannot_be():
    for wrong, message in (
        ({"form": "round"}, "form is 'round'"),
        ({"n_components": 0}, "n_components"),
        ({"n_components": 301}, "n_samples >= n_components"),
        ({"init_params": "best"}, "init_params"),
        ({"missing": "drop"}, "missing"),
        ({"regularization": -1.0}, "regularization"),
        ({"form": jaxgmm.Categorical.form([2, 3])}, "columns"),
    ):
        with pytest.raises(ValueError, match=message):
            Mixture(**wrong).fit(ANSWERS)
    with pytest.raises(TypeError, match=r"Write Poisson\.form\(\.\.\.\)"):
        Mixture(form=jaxgmm.Poisson).fit(ANSWERS)
    for name in ("mixture_", "weights_"):
        with pytest.raises(NotFittedError):
            getattr(Mixture(), name)
    with pytest.raises(NotFittedError):
        Mixture().sample()
    twice = np.column_stack([PLACES, PLACES[:, 0]])
    with pytest.warns(ConvergenceWarning, match="DEGENERATE"):
        assert not Mixture().fit(twice).converged_
