"""Regression by a mixture, as a scikit-learn regressor."""

from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from jaxgmm.model.mixture import Mixture
from jaxgmm.sklearn.checks import checked_counts, said
from jaxgmm.sklearn.joint import Joint


class MixtureRegressor(RegressorMixin, BaseEstimator):
    """Gaussian mixture regression: a mixture of X and y together, of which y is predicted given X.

    The prediction is the conditional expectation: linear in each component, and between them by how probable each is
    at that X. One component is linear regression. With `return_std` comes how sure it is, which differs from place to
    place; several targets are predicted together. float64 data are computed in float64, whatever JAX's own setting,
    and float32 data in float32; results are numpy arrays.

    Args:
        n_components: number of components, or several of them, of which the one of the lowest BIC of X and y is taken.
            By what predicts best: `GridSearchCV`.
        form: what components are, as `form` of `jaxgmm.init`: "full" or "tied", or such as
            `jaxgmm.StudentT.form("full", nu=4)`, which rows far out move less. Under "diag" and "spherical", X tells
            only the component.
        n_restarts: number of starts of each fit, where there are several components.
        regularization: floor under every covariance, relative to the square of the scale of each column, as in
            `jaxgmm.fit`. Rows that are no more than a few times the columns want a larger one.
        missing: "error", or "em" for NaN in X that stands for an entry that is missing: the fit is to what is there,
            and the prediction is given what is there.
        random_state: of the starts.

    Attributes:
        mixture_: the `jaxgmm.Mixture` of those columns of X and y, in this order, that vary; None if none does. It is
            of the type that JAX's setting allows, float32 by default.
        columns_: places of these columns (m,).
        n_components_: how many components there are.
        n_features_in_, feature_names_in_: as in scikit-learn.

    Source: Ghahramani & Jordan (1994), NIPS 6.

    >>> import numpy as np
    >>> from jaxgmm.sklearn import MixtureRegressor
    >>> x = np.linspace(-1, 1, 200)[:, None]
    >>> y = np.abs(x[:, 0]) + 0.05 * np.random.default_rng(0).normal(size=200)
    >>> mean, std = MixtureRegressor(2, random_state=0).fit(x, y).predict([[-0.5], [0.5]], return_std=True)
    >>> mean.round(1).tolist(), std.round(1).tolist()
    ([0.5, 0.5], [0.1, 0.1])
    """

    _parameter_constraints: dict = {  # noqa: RUF012
        "n_components": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "form": "no_validation",
        "n_restarts": [Interval(Integral, 1, None, closed="left")],
        "regularization": [Interval(Real, 0, None, closed="left")],
        "missing": [StrOptions({"error", "em"})],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_components: Any = 1,
        *,
        form: Any = "full",
        n_restarts: Any = 8,
        regularization: Any = 1e-6,
        missing: Any = "error",
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.form = form
        self.n_restarts = n_restarts
        self.regularization = regularization
        self.missing = missing
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "MixtureRegressor":
        """The mixture of X and y.

        Args:
            X: rows (n, d), in any units.
            y: what is to be predicted (n,), or several of it (n, t), in any units.
            sample_weight: weight of each row (n,), not negative; it counts rows. Default ones.

        Returns:
            The regressor itself, fitted.

        Raises:
            ValueError: parameters or data that are not as they must be, such as fewer rows than components.

        Warns:
            ConvergenceWarning: the fit has not converged, or a component has no width of its own in some direction, as
                where y follows from X exactly.
        """
        X, y = self._checked(X, y, multi_output=True, y_numeric=True)
        counts = checked_counts(sample_weight, X, self.n_components)
        self._flat = y.ndim == 1
        # In the wider of their types, so that neither loses digits.
        table = np.column_stack([X, y]).astype(np.result_type(X, y, np.float32), copy=False)
        self._joint = Joint.fitted(
            table,
            counts,
            n_components=self.n_components,
            form=self.form,
            n_restarts=self.n_restarts,
            regularization=self.regularization,
            random_state=self.random_state,
        )
        self.columns_, self.n_components_ = self._joint.columns, self._joint.n_components
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """The conditional expectation of y given X, and if asked for its standard deviation.

        Args:
            X: rows (n, d).
            return_std: whether to return standard deviations too: of y itself, not of its expectation alone.

        Returns:
            (n,), or (n, t) where y was (n, t), in the units of y; with `return_std` two such.
        """
        check_is_fitted(self)
        X = self._checked(X, reset=False)
        place = X.shape[1]
        targets = np.full((len(X), len(self._joint.constants) - place), np.nan, X.dtype)
        table = np.column_stack([X, targets])
        mean = self._shaped(self._joint.imputed(table)[:, place:])
        if not return_std:
            return mean
        return mean, self._shaped(np.sqrt(self._joint.variances(table)[:, place:]))

    @property
    def mixture_(self) -> Mixture | None:
        """The mixture of the columns `columns_`, None if no column varies."""
        check_is_fitted(self)
        return self._joint.mixture

    def _shaped(self, values: np.ndarray) -> np.ndarray:
        return values[:, 0] if self._flat else values

    def _checked(self, X: Any, *y: Any, **options: Any) -> Any:
        """Rows as floating point numbers, with NaN only where entries may be missing."""
        finite = "allow-nan" if self.missing == "em" else True
        return validate_data(self, said(X), *y, dtype=[np.float64, np.float32], ensure_all_finite=finite, **options)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "em"
        tags.target_tags.multi_output = True
        return tags
