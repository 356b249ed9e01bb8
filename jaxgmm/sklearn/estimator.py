"""scikit-learn's `GaussianMixture`, computed by jaxgmm."""

import math
from typing import Any

import jax
import numpy as np
import sklearn.mixture
from sklearn.utils._param_validation import StrOptions

from jaxgmm.ground.rows import Evidence
from jaxgmm.sklearn.base import CompiledMixture, if_given
from jaxgmm.sklearn.checks import checked_start, row_counts
from jaxgmm.sklearn.evidence import padded_rows
from jaxgmm.sklearn.objectives import Ridge
from jaxgmm.sklearn.programs import Parameters


class GaussianMixture(CompiledMixture, sklearn.mixture.GaussianMixture):
    """`sklearn.mixture.GaussianMixture`, computed by jaxgmm, with what it lacks.

    Parameters, attributes and methods have scikit-learn's names, defaults and meanings, and from the same start it
    takes the same steps. A `random_state` draws the same start, in which every row already belongs to some component.
    Rows are filled up to a few lengths by rows of weight 0, so data of any length compile few programs. float64 data
    are computed in float64, whatever JAX's own setting, and float32 data in float32; results are numpy arrays.

    Beside scikit-learn's, rows may have `sample_weight`, gaps, `noise` of their own, and for some of them a label.

    Args:
        missing: "error", or "em" for NaN in X that stands for an entry that is missing: the likelihood is that of the
            entries that are there, in fits by exact EM, and in scores and predictions. A row without any has density 1.

    All others are scikit-learn's. Where rows have gaps, noise or labels, `init_params` names the library's own
    seedings, as `jaxgmm.init` has them: on standardised columns, by the entries that are there, from labels if there
    are some.

    >>> import numpy as np
    >>> from jaxgmm.sklearn import GaussianMixture
    >>> x = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> estimator = GaussianMixture(n_components=2, random_state=0).fit(x, sample_weight=[1, 1, 1, 2, 2, 2])
    >>> sorted(estimator.weights_.round(3).tolist())
    [0.333, 0.667]
    >>> gaps = np.array([[1, 2], [1, 4], [np.nan, 0], [10, 2], [10, 4], [10, np.nan]])
    >>> estimator = GaussianMixture(n_components=2, missing="em", random_state=0).fit(gaps, [0, -1, -1, 1, -1, -1])
    >>> estimator.predict([[1, np.nan], [10, np.nan]]).tolist()
    [0, 1]
    """

    _theirs = sklearn.mixture.GaussianMixture
    _climbed = "mean log-likelihood"
    _parameter_constraints = {  # noqa: RUF012
        **sklearn.mixture.GaussianMixture._parameter_constraints,
        "missing": [StrOptions({"error", "em"})],
    }

    def __init__(
        self,
        n_components: Any = 1,
        *,
        covariance_type: Any = "full",
        tol: Any = 1e-3,
        reg_covar: Any = 1e-6,
        max_iter: Any = 100,
        n_init: Any = 1,
        init_params: Any = "kmeans",
        weights_init: Any = None,
        means_init: Any = None,
        precisions_init: Any = None,
        random_state: Any = None,
        warm_start: Any = False,
        verbose: Any = 0,
        verbose_interval: Any = 10,
        missing: Any = "error",
    ) -> None:
        super().__init__(
            n_components,
            covariance_type=covariance_type,
            tol=tol,
            reg_covar=reg_covar,
            max_iter=max_iter,
            n_init=n_init,
            init_params=init_params,
            weights_init=weights_init,
            means_init=means_init,
            precisions_init=precisions_init,
            random_state=random_state,
            warm_start=warm_start,
            verbose=verbose,
            verbose_interval=verbose_interval,
        )
        self.missing = missing

    def bic(self, X: Any, sample_weight: Any = None, noise: Any = None) -> float:
        """Bayesian information criterion, lower is better; rows count `sample_weight` times each, `noise` as in `fit`.

        Rows without any entry do not count.

        Raises:
            ValueError: without `sample_weight`, after a fit that had it.
        """
        total, n = self._total(X, sample_weight, noise)
        return -2 * total + self._n_parameters() * math.log(n)

    def aic(self, X: Any, sample_weight: Any = None, noise: Any = None) -> float:
        """Akaike information criterion, lower is better; rows, noise and errors as for `bic`."""
        return -2 * self._total(X, sample_weight, noise)[0] + 2 * self._n_parameters()

    def _start(self, X: np.ndarray) -> Parameters:
        return checked_start(self, X)

    def _objective(self, rows: Evidence, unit: float, prior: dict[str, Any]) -> Ridge:
        return Ridge(rows.x.dtype.type(self.reg_covar))

    def _total(self, X: Any, sample_weight: Any, noise: Any) -> tuple[float, float]:
        """Log-likelihood of the rows, and how many they are."""
        values = self.score_samples(X, **if_given(noise))
        counts = row_counts(self, sample_weight, len(values))
        if self.missing == "em" or noise is not None:
            X = self._checked(X, reset=False)
            with jax.enable_x64(X.dtype == np.float64):
                told = padded_rows(X, np.ones(len(X), X.dtype), noise=noise).counted[: len(X)] > 0
            counts = np.where(told, counts, 0)
        return float(np.sum(counts * np.where(counts > 0, values, 0), dtype=np.float64)), float(counts.sum())
