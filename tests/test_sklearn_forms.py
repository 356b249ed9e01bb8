"""Covariances in the estimator that scikit-learn has no name for."""

import pickle
import warnings

import jax
import numpy as np
import pytest
import sklearn.mixture
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator

import jaxgmm
from jaxgmm.covariance.table import LETTERS, NAMES, name_of
from jaxgmm.sklearn import BayesianGaussianMixture, GaussianMixture, from_sklearn, to_sklearn
from jaxgmm.sklearn.forms import FORMS

from compilations import counted
from tolerance import once

pytestmark = once
LETTERS_OF = {"tied-diag": "EEI", "tied-spherical": "EII"}
OWN = sorted(set(NAMES) - set(FORMS))
RANDOM = np.random.default_rng(0)
LABELS = np.repeat([0, 1], [200, 100])
TURN = np.linalg.qr(RANDOM.normal(size=(3, 3)))[0]
SPREADS = np.array([[3.0, 1.0, 0.5], [0.7, 2.0, 0.6]])
X = (RANDOM.normal(size=(300, 3)) * SPREADS[LABELS]) @ TURN.T + 4 * LABELS[:, None]
CLOSE = {"rtol": 1e-9, "atol": 1e-10}


def fitted(kind, x=X, *others, **options):
    return GaussianMixture(2, covariance_type=kind, random_state=0, **options).fit(x, *others)


@pytest.mark.parametrize("kind", ["EVV", "VEV", "VVE", "tied-diag"])
def test_it_ends_where_the_core_ends(kind):
    """From the same start, and criteria count the same parameters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = fitted(kind, max_iter=0, reg_covar=0)
    found = fitted(kind, tol=1e-12, max_iter=10_000, reg_covar=0)
    with jax.enable_x64(True):
        mixture, begin = from_sklearn(found), from_sklearn(start)
        assert name_of(mixture.components.covariance) == name_of(begin.components.covariance) == kind
        best = jaxgmm.fit(begin, X, regularization=1e-12, tol=1e-9)
        np.testing.assert_allclose(found.score(X) * len(X), best.log_likelihood, rtol=1e-6)
        np.testing.assert_allclose(found.means_, best.mixture.means, rtol=1e-2)
        np.testing.assert_allclose(mixture.covariances, found.covariances_, **CLOSE)
        np.testing.assert_allclose(mixture.log_prob(X), found.score_samples(X), **CLOSE)
        np.testing.assert_allclose(found.bic(X), jaxgmm.bic(mixture, X), rtol=1e-10)
        np.testing.assert_allclose(found.aic(X), jaxgmm.aic(mixture, X), rtol=1e-10)
        theirs = to_sklearn(mixture)
    assert type(theirs) is sklearn.mixture.GaussianMixture
    assert theirs.covariance_type == {"tied-diag": "diag"}.get(kind, "full")
    np.testing.assert_allclose(theirs.score_samples(X), found.score_samples(X), **CLOSE)
    # It goes on from where it is, and matrices are those of one covariance.
    assert clone(found).get_params()["covariance_type"] == kind
    warm = pickle.loads(pickle.dumps(found)).set_params(warm_start=True, tol=1e-9).fit(X)
    assert warm.n_iter_ == 1
    assert abs(warm.lower_bound_ - found.lower_bound_) < 1e-9
    precisions = found.precisions_cholesky_ @ np.swapaxes(found.precisions_cholesky_, 1, 2)
    np.testing.assert_allclose(precisions, found.precisions_, **CLOSE)
    np.testing.assert_allclose(precisions @ found.covariances_, np.stack([np.eye(3)] * 2), **CLOSE)


@pytest.mark.parametrize("kind", OWN)
def test_covariances_share_what_their_name_says_with_reg_covar_too(kind):
    covariances = fitted(kind, reg_covar=0.3).covariances_
    assert covariances.shape == (2, 3, 3)
    values = np.linalg.eigvalsh(covariances)
    volume, shape, turn = LETTERS_OF.get(kind, kind)
    volumes = np.linalg.det(covariances) ** (1 / 3)
    assert np.isclose(*volumes, rtol=1e-8) == (volume == "E")
    if shape == "I":
        np.testing.assert_allclose(values, values[:, :1] * np.ones(3), **CLOSE)
    elif turn == "I":
        np.testing.assert_allclose(covariances, covariances * np.eye(3), atol=1e-10)
        shapes = np.diagonal(covariances, axis1=1, axis2=2) / volumes[:, None]
        assert np.allclose(*shapes, rtol=1e-8) == (shape == "E")
    else:
        shapes = values / volumes[:, None]
        assert np.allclose(*shapes, rtol=1e-6) == (shape == "E")
        commute = covariances[0] @ covariances[1] - covariances[1] @ covariances[0]
        assert np.allclose(commute, 0, atol=1e-6) == (turn == "E")


@pytest.mark.parametrize("kind", OWN)
def test_reg_covar_is_added_to_what_the_rows_say(kind):
    """Of one component that is to its diagonal, and it has as many parameters as its covariance has numbers."""
    found = GaussianMixture(covariance_type=kind, reg_covar=0.3).fit(X)
    expected = np.cov(X.T, ddof=0)
    if kind.endswith("I") or kind in LETTERS_OF:
        expected = np.diag(np.diag(expected))
    if kind == "tied-spherical":
        expected = np.eye(3) * np.trace(expected) / 3
    np.testing.assert_allclose(found.covariances_[0], expected + 0.3 * np.eye(3), rtol=1e-8, atol=1e-8)
    assert found._n_parameters() == 3 + {"tied-diag": 3, "tied-spherical": 1, "VEI": 3, "EVI": 3}.get(kind, 6)


def test_letters_are_names_too():
    for letters, name in (("VVV", "full"), ("EII", "tied-spherical"), ("VVI", "diag")):
        assert LETTERS[letters] == name
        one, other = fitted(letters), fitted(name)
        np.testing.assert_array_equal(one.covariances_, other.covariances_)
        np.testing.assert_array_equal(one.predict_proba(X), other.predict_proba(X))
        assert one.bic(X) == other.bic(X)
        assert one.get_params()["covariance_type"] == letters
        drawn, labels = one.sample(5000)
        np.testing.assert_allclose(np.cov(drawn.T), np.cov(other.sample(5000)[0].T), atol=0.5)
        assert np.all(np.diff(labels) >= 0)


def test_densities_of_all_are_of_one_program():
    full = fitted("full")
    full.score_samples(X)
    found = fitted("VEE")
    with counted() as programs:
        found.score_samples(X)
    assert programs == []


def test_names_that_cannot_be():
    for wrong in ("VVVV", "lowrank-2", None, 3):
        with pytest.raises(ValueError, match=r"one of 'full', 'tied'.*'VVE'.*of low rank.*jaxgmm\.fit.*Got"):
            GaussianMixture(covariance_type=wrong).fit(X)
    with pytest.raises(ValueError, match="'covariance_type' parameter of BayesianGaussianMixture"):
        BayesianGaussianMixture(covariance_type="VVE").fit(X)
    found = fitted("VVE", warm_start=True).set_params(covariance_type="full")
    with pytest.raises(ValueError, match="'VVE', and it is 'full' now"):
        found.fit(X)
    with pytest.raises(ValueError, match="covariance_type 'VVE'"):
        found.partial_fit(X)


def test_starts_are_the_nearest_of_their_kind():
    apart = np.stack([TURN @ np.diag(spread**-2.0) @ TURN.T for spread in SPREADS])
    told = {"weights_init": [0.7, 0.3], "means_init": [[0, 0, 0], [4, 4, 4]], "max_iter": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        members = fitted("VVE", precisions_init=apart, **told)
        nearest = fitted("tied-diag", precisions_init=apart, **told)
    np.testing.assert_allclose(members.precisions_, apart, rtol=1e-8, atol=1e-8)
    variances = np.diagonal(np.linalg.inv(apart), axis1=1, axis2=2).mean(axis=0)
    np.testing.assert_allclose(nearest.covariances_, np.stack([np.diag(variances)] * 2), **CLOSE)
    with pytest.raises(ValueError, match="symmetric, positive-definite"):
        fitted("VVE", precisions_init=-apart, **told)
    with pytest.raises(ValueError, match=r"should have the shape of \(2, 3, 3\)"):
        fitted("tied-diag", precisions_init=np.ones(3), **told)


def test_rows_known_in_part_batches_noise_and_several_starts():
    gaps = np.where(RANDOM.random(X.shape) < 0.1, np.nan, X)
    some = np.where(np.arange(300) % 10, -1, LABELS)
    found = fitted("VVE", gaps, some, missing="em", n_init=2)
    assert np.mean(found.predict(X) == LABELS) > 0.95
    assert np.isfinite(found.bic(gaps))
    sharp = GaussianMixture(2, covariance_type="VVE", random_state=0).fit(X, some, noise=np.full(X.shape, 0.1))
    assert np.all(np.linalg.eigvalsh(sharp.covariances_) < np.linalg.eigvalsh(fitted("VVE").covariances_))
    scattered = np.vstack([X, RANDOM.uniform(-15, 15, (60, 3))])
    noisy = fitted("VVE", scattered, noise_component=True)
    assert (noisy.weights_.shape, noisy.covariances_.shape) == ((3,), (2, 3, 3))
    assert noisy._n_parameters() == found._n_parameters() + 2
    drawn, labels = noisy.sample(500)
    assert drawn.shape == (500, 3)
    assert set(labels.tolist()) == {-1, 0, 1}
    stream = GaussianMixture(2, covariance_type="VVE", random_state=0)
    for batch in np.array_split(RANDOM.permutation(X), 3):
        stream = pickle.loads(pickle.dumps(stream.partial_fit(batch)))
    assert stream.n_iter_ == 3
    commute = stream.covariances_[0] @ stream.covariances_[1]
    np.testing.assert_allclose(commute, commute.T, atol=1e-8)
    assert stream.score(X) > fitted("VVE").score(X) - 0.1


def test_float32_rows():
    found = fitted("VEE", X.astype(np.float32))
    assert found.covariances_.dtype == np.float32
    np.testing.assert_allclose(found.score_samples(X), fitted("VEE").score_samples(X), rtol=5e-2)
    warm = found.set_params(warm_start=True).fit(X.astype(np.float32))
    assert warm.n_iter_ <= 2


def test_scikit_learns_own_checks():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = check_estimator(GaussianMixture(covariance_type="VVE"), on_skip=None)
    assert {one["status"] for one in done if one["check_name"] != "check_array_api_input"} == {"passed"}


def test_low_rank_goes_to_scikit_learn_as_matrices():
    noise = jaxgmm.Each(jaxgmm.Scale(np.array([0.9, 0.6], np.float32), 2))
    covariance = jaxgmm.LowRank(np.array([[[1.0], [0.5]], [[-0.3], [0.9]]], np.float32), noise)
    mixture = jaxgmm.Mixture(
        np.log(np.array([0.4, 0.6], np.float32)), jaxgmm.Gaussian(np.zeros((2, 2), np.float32), covariance)
    )
    mixture = jax.tree.map(jax.numpy.asarray, mixture)
    theirs = to_sklearn(mixture)
    assert theirs.covariance_type == "full"
    np.testing.assert_allclose(theirs.covariances_, mixture.covariances, rtol=1e-5)
