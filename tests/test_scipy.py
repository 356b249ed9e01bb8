"""Components as scipy's frozen distributions, and back."""

import jax
import numpy as np
import pytest
from scipy.special import logsumexp

import jaxgmm
from jaxgmm import Poisson

from cases import COVARIANCES, MEANS, WEIGHTS
from tolerance import assert_close


@pytest.mark.parametrize("kind", COVARIANCES)
def test_round_trips_keep_densities(kind):
    mixture = jaxgmm.from_parameters(WEIGHTS, MEANS, COVARIANCES[kind], kind)
    x = np.asarray(mixture.sample(jax.random.key(0), 50))
    theirs = jaxgmm.to_scipy(mixture)
    joint = [np.log(weight) + one.logpdf(x) for weight, one in zip(mixture.weights, theirs, strict=True)]
    assert_close(logsumexp(joint, axis=0), mixture.log_prob(x), "close")
    dense = np.stack([one.cov_object.covariance for one in theirs])
    back = jaxgmm.from_parameters(mixture.weights, np.stack([one.mean for one in theirs]), dense)
    assert_close(back.log_prob(x), mixture.log_prob(x), "close")


def test_what_scipy_has_no_distribution_for():
    counts = jaxgmm.Mixture(np.zeros(1), Poisson(np.ones((1, 2))))
    with pytest.raises(NotImplementedError, match="Poisson components; expected Gaussian ones"):
        jaxgmm.to_scipy(counts)
