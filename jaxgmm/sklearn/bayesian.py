"""scikit-learn's `BayesianGaussianMixture`, computed by jaxgmm."""

import dataclasses
from typing import Any

import numpy as np
import sklearn.mixture
from sklearn.utils._param_validation import StrOptions

from jaxgmm.covariance.table import structure_of
from jaxgmm.ground.rows import Evidence
from jaxgmm.sklearn.base import CompiledMixture
from jaxgmm.sklearn.certainty import CONCENTRATIONS, Certainty, concentration_of
from jaxgmm.sklearn.checks import HOOKS_OF_BAYES
from jaxgmm.sklearn.objectives import Bayes
from jaxgmm.sklearn.priors import bayes, prior_of
from jaxgmm.sklearn.programs import Parameters
from jaxgmm.sklearn.seeding import INIT_PARAMS, SEEDINGS_WITH_PRIOR


class BayesianGaussianMixture(CompiledMixture, sklearn.mixture.BayesianGaussianMixture):
    """`sklearn.mixture.BayesianGaussianMixture`, computed by jaxgmm, with what it lacks.

    Parameters, attributes and methods have scikit-learn's names, defaults and meanings, and from the same start it
    takes the same steps to the same lower bound. A `random_state` draws the same start. Rows of any length,
    `sample_weight`, gaps, `noise` and labels are as in `GaussianMixture`; weights and gaps tell the default priors too.
    All data are computed in float64, as there: the lower bound is a total over rows, and `tol` a small change of it.

    The steps are those of `jaxgmm.Variational` where covariances are "full" and `reg_covar` is 0. Of other covariances
    scikit-learn's are not conjugate, and its lower bound leaves out constants, so that it compares no numbers of
    components; `jaxgmm.fit` with that objective does.

    Args:
        missing: "error", or "em" for NaN in X that stands for an entry that is missing. A row without any tells
            nothing.

    All others are scikit-learn's.

    >>> import numpy as np
    >>> from jaxgmm.sklearn import BayesianGaussianMixture
    >>> x = np.concatenate([np.random.default_rng(0).normal(size=(50, 2)) + place for place in (0, 9)])
    >>> estimator = BayesianGaussianMixture(n_components=5, random_state=0, max_iter=500).fit(x)
    >>> int((estimator.weights_ > 0.02).sum())
    2
    """

    _theirs = sklearn.mixture.BayesianGaussianMixture
    _hooks = HOOKS_OF_BAYES
    _seedings = SEEDINGS_WITH_PRIOR
    _climbed = "lower bound"
    # A small change of the bound, a total over rows, ends a fit: more digits than float32 has.
    _dtypes = (np.float64,)
    _parameter_constraints = {  # noqa: RUF012
        **sklearn.mixture.BayesianGaussianMixture._parameter_constraints,
        "init_params": [StrOptions(set(INIT_PARAMS))],
        "missing": [StrOptions({"error", "em"})],
    }

    def __init__(
        self,
        *,
        n_components: Any = 1,
        covariance_type: Any = "full",
        tol: Any = 1e-3,
        reg_covar: Any = 1e-6,
        max_iter: Any = 100,
        n_init: Any = 1,
        init_params: Any = "kmeans",
        weight_concentration_prior_type: Any = "dirichlet_process",
        weight_concentration_prior: Any = None,
        mean_precision_prior: Any = None,
        mean_prior: Any = None,
        degrees_of_freedom_prior: Any = None,
        covariance_prior: Any = None,
        random_state: Any = None,
        warm_start: Any = False,
        verbose: Any = 0,
        verbose_interval: Any = 10,
        missing: Any = "error",
    ) -> None:
        super().__init__(
            n_components=n_components,
            covariance_type=covariance_type,
            tol=tol,
            reg_covar=reg_covar,
            max_iter=max_iter,
            n_init=n_init,
            init_params=init_params,
            weight_concentration_prior_type=weight_concentration_prior_type,
            weight_concentration_prior=weight_concentration_prior,
            mean_precision_prior=mean_precision_prior,
            mean_prior=mean_prior,
            degrees_of_freedom_prior=degrees_of_freedom_prior,
            covariance_prior=covariance_prior,
            random_state=random_state,
            warm_start=warm_start,
            verbose=verbose,
            verbose_interval=verbose_interval,
        )
        self.missing = missing

    def _start(self, X: np.ndarray) -> Parameters:
        return Parameters(None, None, None)

    def _check_previous(self, X: np.ndarray) -> None:
        super()._check_previous(X)
        expected = CONCENTRATIONS[self.weight_concentration_prior_type]
        if type(concentration_of(self.weight_concentration_, X.dtype)) is not expected:
            raise ValueError(
                "warm_start continues a fit with another weight_concentration_prior_type than "
                f"{self.weight_concentration_prior_type!r}. Set warm_start=False to start anew."
            )

    def _evidence(self, rows: Evidence) -> Evidence:
        # Of a row without entries the steps would still make something.
        return rows if rows.seen is None else dataclasses.replace(rows, weights=rows.counted)

    def _prior(self, X: np.ndarray, rows: Evidence, unit: float) -> dict[str, Any]:
        return prior_of(self, X, rows, unit)

    def _objective(self, rows: Evidence, unit: float, prior: dict[str, Any]) -> Bayes:
        return bayes(self, rows, unit, prior)

    def _fitted(self, parameters: Parameters) -> dict[str, Any]:
        certainty: Any = parameters.certainty
        shared = structure_of(self.covariance_type).shared
        return {
            "weight_concentration_": certainty.concentration.attribute,
            "mean_precision_": certainty.mean_precision,
            "degrees_of_freedom_": certainty.degrees[0] if shared else certainty.degrees,
        }

    def _parameters(self, dtype: Any) -> Parameters:
        found = super()._parameters(dtype)
        k = len(found.means)
        certainty = Certainty(
            concentration=concentration_of(self.weight_concentration_, dtype),
            mean_precision=np.asarray(self.mean_precision_, dtype),
            degrees=np.array(np.broadcast_to(self.degrees_of_freedom_, (k,)), dtype),
        )
        return dataclasses.replace(found, certainty=certainty)
