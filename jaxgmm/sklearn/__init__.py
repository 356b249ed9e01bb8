"""Mixtures as scikit-learn estimators, and their conversion to and from scikit-learn's own."""

try:
    from jaxgmm.sklearn.bayesian import BayesianGaussianMixture
    from jaxgmm.sklearn.classifier import MixtureClassifier
    from jaxgmm.sklearn.estimator import GaussianMixture
    from jaxgmm.sklearn.imputer import MixtureImputer
    from jaxgmm.sklearn.interop import from_sklearn, to_sklearn
    from jaxgmm.sklearn.mixture import Mixture
    from jaxgmm.sklearn.regressor import MixtureRegressor
except ModuleNotFoundError as error:
    if error.name is None or error.name.split(".")[0] != "sklearn":
        raise
    raise ImportError("jaxgmm.sklearn needs scikit-learn 1.6 or later: pip install 'jaxgmm[sklearn]'.") from error

__all__ = [
    "BayesianGaussianMixture",
    "GaussianMixture",
    "Mixture",
    "MixtureClassifier",
    "MixtureImputer",
    "MixtureRegressor",
    "from_sklearn",
    "to_sklearn",
]
