"""Gaps filled by a mixture, as a scikit-learn transformer."""

import warnings
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._mask import _get_mask
from sklearn.utils._missing import is_scalar_nan
from sklearn.utils._param_validation import Interval, MissingValues
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data

from jaxgmm.model.mixture import Mixture
from jaxgmm.sklearn.checks import checked_counts, said
from jaxgmm.sklearn.joint import Joint


class MixtureImputer(TransformerMixin, BaseEstimator):
    """Fills gaps with what a mixture expects there, given the entries of the row that are there.

    The mixture is fitted to all entries that are there, of incomplete rows too, by exact EM on their likelihood: right
    where entries are missing at random, whatever the others of their row may have to do with it. One component is the
    classical regression on all other columns; several fill in by the kind of row. float64 data are computed in
    float64, whatever JAX's own setting, and float32 data in float32; results are numpy arrays.

    Args:
        n_components: number of components, or several of them, of which the one of the lowest BIC is taken.
        form: what components are, as `form` of `jaxgmm.init`: "full", "tied", "diag", "spherical", or such as
            `jaxgmm.StudentT.form("full", nu=4)`, which rows far out move less.
        n_restarts: number of starts of each fit, where there are several components.
        regularization: floor under every covariance, relative to the square of the scale of each column, as in
            `jaxgmm.fit`. Rows that are no more than a few times the columns want a larger one.
        sample: fill in a draw in the place of the expectation: multiple imputation, one table for each `random_state`.
            What is filled in then spreads as the data do.
        missing_values: what stands for a missing entry.
        keep_empty_features: keep columns of which nothing was there in `fit`, and fill them with 0. Otherwise they are
            left out, as in `sklearn.impute.SimpleImputer`.
        random_state: of the starts, and of what is drawn; an int makes each `transform` draw the same.

    Attributes:
        mixture_: the `jaxgmm.Mixture` of the columns `columns_`, None if no column varies; one of a single value is
            filled with it. It is of the type that JAX's setting allows, float32 by default.
        columns_: places of these columns (m,).
        n_components_: how many components there are.
        n_features_in_, feature_names_in_: as in scikit-learn.

    Sources: Ghahramani & Jordan (1994), NIPS 6; Rubin (1987), Multiple Imputation for Nonresponse in Surveys.

    >>> import numpy as np
    >>> from jaxgmm.sklearn import MixtureImputer
    >>> x = np.array([[1.0, 2.1], [2.0, 3.9], [3.0, 6.1], [4.0, 7.9], [5.0, np.nan]])
    >>> MixtureImputer().fit_transform(x)[4].round(2).tolist()
    [5.0, 9.9]
    """

    _parameter_constraints: dict = {  # noqa: RUF012
        "n_components": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "form": "no_validation",
        "n_restarts": [Interval(Integral, 1, None, closed="left")],
        "regularization": [Interval(Real, 0, None, closed="left")],
        "sample": ["boolean"],
        "missing_values": [MissingValues()],
        "keep_empty_features": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_components: Any = 1,
        *,
        form: Any = "full",
        n_restarts: Any = 8,
        regularization: Any = 1e-6,
        sample: Any = False,
        missing_values: Any = np.nan,
        keep_empty_features: Any = False,
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.form = form
        self.n_restarts = n_restarts
        self.regularization = regularization
        self.sample = sample
        self.missing_values = missing_values
        self.keep_empty_features = keep_empty_features
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> "MixtureImputer":
        """The mixture of the rows.

        Args:
            X: rows (n, d), in any units.
            y: not used.
            sample_weight: weight of each row (n,), not negative; it counts rows. Default ones.

        Returns:
            The imputer itself, fitted.

        Raises:
            ValueError: parameters or data that are not as they must be, such as fewer rows than components.

        Warns:
            ConvergenceWarning: the fit has not converged, or a component has no width of its own in some direction.
            UserWarning: columns of which nothing is there are left out.
        """
        X = self._checked(X)
        counts = checked_counts(sample_weight, X, self.n_components)
        self._joint = Joint.fitted(
            X,
            counts,
            n_components=self.n_components,
            form=self.form,
            n_restarts=self.n_restarts,
            regularization=self.regularization,
            random_state=self.random_state,
        )
        self.columns_, self.n_components_ = self._joint.columns, self._joint.n_components
        empty = np.isnan(self._joint.constants)
        empty[self.columns_] = False
        self._kept = np.flatnonzero(~empty | self.keep_empty_features)
        if len(self._kept) < X.shape[1]:
            warnings.warn(
                f"Nothing is there in columns {np.flatnonzero(empty).tolist()} of X, which are left out. With "
                "keep_empty_features=True they are filled with 0.",
                stacklevel=3,
            )
        return self

    def transform(self, X: Any) -> np.ndarray:
        """The rows with their gaps filled (n, d), less the columns that are left out; what is there stays as it is."""
        check_is_fitted(self)
        X = self._checked(X, reset=False)
        if self.sample:
            filled = self._joint.drawn(X, check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        else:
            filled = self._joint.imputed(X)
        filled = filled[:, self._kept]
        return np.where(np.isnan(filled), 0, filled) if self.keep_empty_features else filled

    @property
    def mixture_(self) -> Mixture | None:
        """The mixture of the columns `columns_`, None if no column varies."""
        check_is_fitted(self)
        return self._joint.mixture

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the columns that `transform` gives: those of X, or x0, x1, ...; without those that are left out."""
        check_is_fitted(self)
        return _check_feature_names_in(self, input_features)[self._kept]

    def _checked(self, X: Any, **options: Any) -> np.ndarray:
        """Rows as floating point numbers, NaN where an entry is missing."""
        finite = "allow-nan" if is_scalar_nan(self.missing_values) else True
        X = validate_data(self, said(X), dtype=[np.float64, np.float32], ensure_all_finite=finite, **options)
        return np.where(_get_mask(X, self.missing_values), np.nan, X).astype(X.dtype, copy=False)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = is_scalar_nan(self.missing_values)
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
