"""scikit-learn's `GaussianMixture`, computed by jaxgmm."""

import functools
import math
import warnings
from typing import Any

import jax
import numpy as np
import sklearn.mixture
from sklearn.base import _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from jaxgmm.ground.padding import padded
from jaxgmm.ground.schema import Schema
from jaxgmm.selection.calls import side_by_side
from jaxgmm.sklearn.checks import (
    check_nothing_overridden,
    check_previous_fit,
    checked_start,
    checked_weights,
    row_counts,
    said,
)
from jaxgmm.sklearn.forms import covariance_attributes, factor_of
from jaxgmm.sklearn.programs import Parameters, Run, log_prob, responsibilities, run_em
from jaxgmm.sklearn.seeding import SEEDINGS
from jaxgmm.sklearn.verbose import Runner, told

# The bounds of so many steps are kept, so that few values of `max_iter` differ in shape; no more than the second.
_SHORTEST, _LONGEST = 128, 2**20


class GaussianMixture(sklearn.mixture.GaussianMixture):
    """`sklearn.mixture.GaussianMixture`, computed by jaxgmm, with `sample_weight`.

    Parameters, attributes and methods have scikit-learn's names, defaults and meanings, and from the same start it
    takes the same steps. A `random_state` draws the same start, in which every row already belongs to some component.
    Rows are filled up to a few lengths by rows of weight 0, so data of any length compile few programs. float64 data
    are computed in float64, whatever JAX's own setting, and float32 data in float32; results are numpy arrays.

    >>> import numpy as np
    >>> from jaxgmm.sklearn import GaussianMixture
    >>> x = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> estimator = GaussianMixture(n_components=2, random_state=0).fit(x, sample_weight=[1, 1, 1, 2, 2, 2])
    >>> sorted(estimator.weights_.round(3).tolist())
    [0.333, 0.667]
    """

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> "GaussianMixture":
        """The likeliest of `n_init` fits by EM.

        Args:
            X: rows (n, d), n >= 2.
            y: not used.
            sample_weight: weight of each row (n,), not negative; a row of weight 2 counts as two, one of weight 0 is
                absent. Default ones.

        Returns:
            The estimator itself, fitted.

        Raises:
            ValueError: parameters or data that are not as scikit-learn takes them; or no fit has ended with
                covariances above rounding.
            TypeError: a subclass overrides a step of the fit.

        Warns:
            ConvergenceWarning: the likeliest fit did not converge within `max_iter` steps. Where every fit met rows
                of likelihood 0, `lower_bound_` is -inf and the parameters are those before.
        """
        check_nothing_overridden(self)
        X = validate_data(self, said(X), dtype=[np.float64, np.float32], ensure_min_samples=2)
        weights = checked_weights(sample_weight, X, self.n_components)
        given = checked_start(self, X)
        before = self.warm_start and hasattr(self, "converged_")
        if before:
            check_previous_fit(self, X)
        random = check_random_state(self.random_state)
        rows, counts, real = padded(X), padded(weights), X.dtype.type

        def start() -> np.ndarray:
            # An absent row would still decide on what scale scikit-learn's k-means is done.
            there = weights > 0
            shares = None if sample_weight is None else weights[there]
            drawn = SEEDINGS[self.init_params](random, X[there], shares, self.n_components)
            whole = np.zeros((len(X), *drawn.shape[1:]), np.int32 if drawn.ndim == 1 else X.dtype)
            whole[there] = drawn
            return padded(whole)

        def run(start: np.ndarray | None, parameters: Parameters, bound: Any, steps: int) -> Run:
            with jax.enable_x64(X.dtype == np.float64):
                end = run_em(
                    rows,
                    counts,
                    start,
                    parameters,
                    real(bound),
                    real(self.tol),
                    real(self.reg_covar),
                    np.int32(min(steps, 2**31 - 1)),
                    n_components=self.n_components,
                    covariance_type=self.covariance_type,
                    history_size=min(max(_SHORTEST, 1 << int(self.max_iter).bit_length()), _LONGEST),
                )
                return jax.tree.map(np.asarray, end)

        known = before or given.complete
        starts = [None if known else start() for _ in range(1 if before else self.n_init)]
        first = (self._parameters(X.dtype), self.lower_bound_) if before else (given, -np.inf)
        if self.verbose:
            runs = [told(run, self, number, start, *first) for number, start in enumerate(starts)]
        else:
            # The first alone, so that the others find it compiled.
            quiet = functools.partial(_quiet, run, first, self.max_iter)
            runs = [quiet(starts[0]), *side_by_side(quiet, starts[1:])]
        self._keep(_best(runs), X.dtype)
        self._is_weighted = sample_weight is not None
        return self

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> np.ndarray:
        """`fit`, then `predict` of the same rows."""
        return self.fit(X, sample_weight=sample_weight).predict(X)

    def score_samples(self, X: Any) -> np.ndarray:
        """Log-density of each row (n,), natural logarithm."""
        return self._evaluate(log_prob, X)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Mean over rows of their log-density, with `sample_weight` their weighted mean."""
        values = self.score_samples(X)
        if sample_weight is None:
            return float(np.mean(values))
        weights = checked_weights(sample_weight, values)
        present = weights > 0
        return float(np.average(values[present], weights=weights[present]))

    def bic(self, X: Any, sample_weight: Any = None) -> float:
        """Bayesian information criterion, lower is better; rows count `sample_weight` times each.

        Raises:
            ValueError: without `sample_weight`, after a fit that had it.
        """
        total, n = self._total(X, sample_weight)
        return -2 * total + self._n_parameters() * math.log(n)

    def aic(self, X: Any, sample_weight: Any = None) -> float:
        """Akaike information criterion, lower is better; rows and errors as for `bic`."""
        return -2 * self._total(X, sample_weight)[0] + 2 * self._n_parameters()

    def predict(self, X: Any) -> np.ndarray:
        """Most probable component of each row (n,)."""
        return np.argmax(self.predict_proba(X), axis=1)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Posterior probability of each component for each row (n, k); rows sum to one."""
        return self._evaluate(responsibilities, X)

    @property
    def schema_(self) -> Schema | None:
        """Names of the columns it was fitted to, as `jaxgmm.Schema`; None if they had none."""
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", None)
        return None if names is None else Schema(names)

    # Whether the latest fit had weights; attributes that a user sets are of no fit.
    _is_weighted = False

    def _total(self, X: Any, sample_weight: Any) -> tuple[float, float]:
        """Log-likelihood of the rows, and how many they are."""
        values = self.score_samples(X)
        counts = row_counts(self, sample_weight, len(values))
        return float(np.sum(counts * np.where(counts > 0, values, 0), dtype=np.float64)), float(counts.sum())

    def _evaluate(self, program: Any, X: Any) -> np.ndarray:
        check_is_fitted(self)
        check_nothing_overridden(self)
        X = validate_data(self, said(X), dtype=[np.float64, np.float32], reset=False)
        dtype = np.result_type(X.dtype, np.asarray(self.means_).dtype)
        rows = padded(X.astype(dtype, copy=False))
        with jax.enable_x64(dtype == np.float64):
            values = program(self._parameters(dtype), rows, covariance_type=self.covariance_type)
        return np.array(values)[: len(X)]

    def _parameters(self, dtype: Any) -> Parameters:
        # From the attributes that scikit-learn's own methods read, which users may set.
        return Parameters(
            weights=np.asarray(self.weights_, dtype),
            means=np.asarray(self.means_, dtype),
            factor=factor_of(self, dtype),
        )

    def _keep(self, run: Run, dtype: Any) -> None:
        n_iter = int(run.n_iter)
        converged = bool(np.abs(run.change) < self.tol)
        if not run.bound < np.inf or run.degenerate.any():
            raise ValueError(_failure(run, dtype))
        if not converged and self.max_iter > 0:
            last = f"the last one changed the mean log-likelihood by {float(run.change):.3g}, and tol is {self.tol:g}"
            if run.bound == -np.inf:
                last = "some rows were so far from all components that their likelihood is 0"
            warnings.warn(
                f"Best performing initialization did not converge: after {n_iter} steps, {last}. Try different init "
                "parameters, or increase max_iter, tol, or check for degenerate data.",
                ConvergenceWarning,
                stacklevel=4,
            )
        self.weights_, self.means_ = run.parameters.weights, run.parameters.means
        for name, array in covariance_attributes(self.covariance_type, run.parameters.factor, dtype).items():
            setattr(self, name, array)
        self.converged_ = converged
        self.n_iter_ = n_iter
        self.lower_bound_ = float(run.bound)
        self.lower_bounds_ = run.bounds[:n_iter].tolist()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.array_api_support = False
        return tags


def _quiet(run: Runner, first: tuple[Parameters, Any], steps: int, start: np.ndarray | None) -> Run:
    return run(start, *first, steps)


def _best(runs: list[Run]) -> Run:
    """The likeliest that has not failed; the first if all have."""

    def height(run: Run) -> tuple[bool, float]:
        failed = bool(run.degenerate.any() or np.isnan(run.bound))
        return not failed, -np.inf if failed else float(run.bound)

    return max(runs, key=height)


def _failure(run: Run, dtype: Any) -> str:
    if not run.degenerate.any():
        return "Fitting the mixture model failed: the likelihood is not finite. Look for extreme values in X."
    message = (
        "Fitting the mixture model failed because some components have ill-defined empirical covariance: "
        f"{np.flatnonzero(run.degenerate).tolist()} of {run.degenerate.size}, in the best of all starts. They hold too "
        "few or equal rows, or columns depend on each other. Try to decrease the number of components, increase "
        "reg_covar, or scale the input data."
    )
    return message + (" float64 data instead of float32 may help too." if dtype == np.float32 else "")
