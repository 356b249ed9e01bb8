"""Between mixtures and scikit-learn's fitted estimators."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sklearn.mixture
from sklearn.utils.validation import check_is_fitted

from jaxgmm.covariance.table import NAMES, name_of, structure_of
from jaxgmm.families.gaussian import Gaussian
from jaxgmm.ground import checks
from jaxgmm.model import extents
from jaxgmm.model.mixture import Mixture, check_mixture
from jaxgmm.sklearn.forms import FORMS, CovarianceTypes, covariance_attributes, factor_of, kept_as
from jaxgmm.sklearn.mixture import Mixture as AnyMixture
from jaxgmm.sklearn.programs import Parameters

_NAMES = CovarianceTypes()
# What scikit-learn does not have, as what it has, and "full" what is not here.
_EACH = {"tied-diag": "diag", "tied-spherical": "spherical"}


def from_sklearn(estimator: Any) -> Mixture:
    """The mixture that a fitted estimator holds, scikit-learn's own or `jaxgmm.sklearn`'s.

    Of a `BayesianGaussianMixture`, it is that of the expected weights, means and precisions; its own `score_samples`
    adds terms for how sure they are. float64 parameters become float32 where JAX has no float64 enabled and nothing is
    lost by it.

    Raises:
        TypeError: not an estimator of a mixture of all columns.
        ValueError: float32 would round its means by what its components can tell apart.
        sklearn.exceptions.NotFittedError: it has not been fitted.

    >>> import numpy as np, sklearn.mixture
    >>> from jaxgmm.sklearn import from_sklearn
    >>> x = np.random.default_rng(0).normal(size=(100, 2))
    >>> estimator = sklearn.mixture.GaussianMixture(2, random_state=0).fit(x)
    >>> bool(np.allclose(from_sklearn(estimator).log_prob(x), estimator.score_samples(x), atol=1e-3))
    True
    """
    if isinstance(estimator, AnyMixture):
        return estimator.mixture_
    if not _NAMES.is_satisfied_by(getattr(estimator, "covariance_type", None)):
        raise TypeError(
            f"estimator is of type {type(estimator).__name__}; expected a fitted GaussianMixture, "
            "BayesianGaussianMixture or Mixture."
        )
    check_is_fitted(estimator)
    kind = estimator.covariance_type
    weights, means = np.asarray(estimator.weights_), np.asarray(estimator.means_)
    box = getattr(estimator, "_box", None)
    given = Parameters(weights, means, factor_of(estimator, means.dtype), box=box)
    mixture = jax.tree.map(jnp.asarray, given).mixture(kind)
    covariances = covariance_attributes(kind, factor_of(estimator, np.float64), np.float64)["covariances_"]
    checks.keep_digits(
        "estimator.means_",
        estimator.means_,
        lambda rough: extents.about(means, covariances, structure_of(kept_as(kind))),
    )
    return mixture


def to_sklearn(mixture: Mixture) -> sklearn.mixture.GaussianMixture:
    """A fitted `sklearn.mixture.GaussianMixture` that holds this mixture, in its dtype.

    It says that it converged after 0 steps, as there is no fit it could tell of. Components of weight 0 stay, so that
    labels mean the same. Structures that scikit-learn does not have become those that it has: "tied-diag" "diag",
    "tied-spherical" "spherical", and all others "full".

    Raises:
        TypeError, ValueError: not one mixture.
        NotImplementedError: components that are not Gaussian, or of a structure without a name.

    >>> import jaxgmm
    >>> from jaxgmm.sklearn import to_sklearn
    >>> mixture = jaxgmm.from_parameters([0.5, 0.5], [[0.0], [4.0]], [1.0, 1.0], "spherical")
    >>> to_sklearn(mixture).predict([[0.5], [3.0]]).tolist()
    [0, 1]
    """
    mixture = check_mixture(mixture)
    components: Any = mixture.components
    kind = name_of(components.covariance) if type(components) is Gaussian else None
    if kind is None:
        raise NotImplementedError(
            f"to_sklearn has no counterpart of {type(components).__name__} components; expected Gaussian ones with one "
            f"of the covariances {', '.join(NAMES)}."
        )
    parameters = jax.tree.map(np.asarray, Parameters.of(mixture))
    if kind in _EACH:
        kind, (factor,) = _EACH[kind], jax.tree.leaves(components.covariance)
        factor = np.broadcast_to(factor, (mixture.n_components, *factor.shape))
        parameters = dataclasses.replace(parameters, factor=factor)
    kind = kind if kind in FORMS else "full"
    dtype = parameters.means.dtype
    estimator = sklearn.mixture.GaussianMixture(mixture.n_components, covariance_type=kind)
    estimator.weights_, estimator.means_ = parameters.weights, parameters.means
    for name, array in covariance_attributes(kind, parameters.factor, dtype).items():
        setattr(estimator, name, array)
    estimator.converged_, estimator.n_iter_ = True, 0
    estimator.lower_bound_, estimator.lower_bounds_ = -np.inf, []
    estimator.n_features_in_ = mixture.n_columns
    return estimator
