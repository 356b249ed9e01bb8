"""Mixtures as frozen distributions of scipy."""

from typing import Any

import numpy as np

from jaxgmm.families.gaussian import Gaussian
from jaxgmm.model.mixture import Mixture, check_mixture


def to_scipy(mixture: Mixture) -> list[Any]:
    """The components as frozen `scipy.stats.multivariate_normal`, k of them, in float64.

    scipy has no mixture of several columns: `mixture.weights` are the other half of it. Covariances go over as Cholesky
    factors, so that no digits are lost on the way. Components of weight 0 stay, so that indices mean the same.

    Args:
        mixture: one mixture of k Gaussians over d columns, of any covariance structure.

    Returns:
        A list of k frozen distributions, with `pdf`, `logpdf`, `cdf`, `rvs`, `mean` and `cov_object`.

    Raises:
        TypeError, ValueError: not one mixture.
        NotImplementedError: components that are not Gaussian.

    >>> import jaxgmm
    >>> mixture = jaxgmm.from_parameters([0.3, 0.7], [[0.0], [4.0]], [1.0, 1.0], "spherical")
    >>> components = jaxgmm.to_scipy(mixture)
    >>> below = sum(w * one.cdf(2.0) for w, one in zip(mixture.weights, components))  # P(x <= 2)
    >>> f"{below:.4f}"
    '0.3091'
    """
    import scipy.stats

    mixture = check_mixture(mixture)
    if type(mixture.components) is not Gaussian:
        raise NotImplementedError(
            f"to_scipy makes normal distributions, and has none for {type(mixture.components).__name__} components; "
            "expected Gaussian ones."
        )
    k, d = mixture.n_components, mixture.n_columns
    means = np.asarray(mixture.means, np.float64)
    factors = np.broadcast_to(np.asarray(mixture.components.covariance.factor.tril().scale_tril, np.float64), (k, d, d))
    return [
        scipy.stats.multivariate_normal(mean, scipy.stats.Covariance.from_cholesky(factor))
        for mean, factor in zip(means, factors, strict=True)
    ]
