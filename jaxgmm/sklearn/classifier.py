"""Classification by mixtures, as a scikit-learn classifier."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import jax
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from jaxgmm.families.table import form_of, forms_of
from jaxgmm.model.mixture import Mixture
from jaxgmm.sklearn.checks import checked_counts, said
from jaxgmm.sklearn.classes import Classes, Options, apart, together
from jaxgmm.sklearn.joint import constant_columns


class MixtureClassifier(ClassifierMixin, BaseEstimator):
    """Classification by mixtures: a density for each class, and the class whose share times density is largest.

    Each class has a mixture of its own (MclustDA). With `shared=True` all classes are one mixture of which it is known
    what class the rows are, so that components of all classes share what their form says: with one component each,
    "tied" is linear discriminant analysis (EDDA), with several, the mixture discriminant analysis of Hastie and
    Tibshirani. With one component each, "full" is quadratic discriminant analysis and "diag" Gaussian naive Bayes, in
    both cases. Numbers of components and forms are chosen by BIC, which looks at no other class and at no error.

    float64 data are computed in float64, whatever JAX's own setting, and float32 data in float32; results are numpy
    arrays. Classes of all sizes share a few compiled programs.

    Args:
        n_components: number of components of each class, or several of them to choose among, for each class by itself;
            with `shared=True` as many for each class. Or a dict of class to such. Of several, those are left out that
            are more than a class has rows.
        forms: what components are, as `form` of `jaxgmm.init`, or several to choose among, "mclust" for all models of
            volume, shape and orientation: for each class by itself, with `shared=True` for all together.
        shared: whether the classes are one mixture, whose components share what their form says.
        priors: share of each class (c,), in the order of `classes_`, that add up to 1. Default the shares in the rows.
        n_restarts: number of starts of each fit, where there are several components.
        regularization: floor under every covariance, relative to the square of the scale of each column in all rows,
            as in `jaxgmm.fit`. Rows of a class that are no more than a few times the columns want a larger one.
        shrinkage: "oas" or "ledoit-wolf" to estimate covariances anew after the fits, drawn towards equal variances of
            the columns by as much as the rows of each component say, as `jaxgmm.shrunk` does: for few rows. They are
            then "full" whatever the form; that a fit without it was degenerate is no warning. Not with gaps.
        missing: "error", or "em" for NaN in X that stands for an entry that is missing: fits and predictions are by
            what is there.
        random_state: of the starts.

    Attributes:
        classes_: the classes (c,).
        priors_: share of each (c,).
        mixtures_: the `jaxgmm.Mixture` of each class, a list of c, of those columns of X that vary; empty if none does.
            They are of the type that JAX's setting allows, float32 by default.
        columns_: places of these columns (m,).
        n_components_: how many components each class has (c,).
        forms_: the form of each, a list of c.
        bic_: of the rows together with their classes, lower is better: whatever the options, of the same rows the
            difference tells which model BIC prefers. Mixtures of classes by themselves are chosen by that of their own
            rows. It is that of the fits, before any shrinkage.
        n_features_in_, feature_names_in_: as in scikit-learn.

    Sources: Hastie & Tibshirani (1996), JRSS B 58; Bensmail & Celeux (1996), JASA 91; Fraley & Raftery (2002), JASA 97.

    >>> import numpy as np
    >>> from jaxgmm.sklearn import MixtureClassifier
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat(["inside", "around"], 150)
    >>> x = rng.normal(size=(300, 1)) + np.where(y == "around", 4 * rng.choice([-1, 1], 300), 0)[:, None]
    >>> classifier = MixtureClassifier([1, 2], random_state=0).fit(x, y)
    >>> classifier.predict([[0.0], [4.0]]).tolist()
    ['inside', 'around']
    >>> dict(zip(classifier.classes_.tolist(), classifier.n_components_.tolist()))
    {'around': 2, 'inside': 1}
    """

    _parameter_constraints: dict = {  # noqa: RUF012
        "n_components": [Interval(Integral, 1, None, closed="left"), "array-like", dict],
        "forms": "no_validation",
        "shared": ["boolean"],
        "priors": ["array-like", None],
        "n_restarts": [Interval(Integral, 1, None, closed="left")],
        "regularization": [Interval(Real, 0, None, closed="left")],
        "shrinkage": [StrOptions({"oas", "ledoit-wolf"}), None],
        "missing": [StrOptions({"error", "em"})],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_components: Any = 1,
        *,
        forms: Any = "full",
        shared: Any = False,
        priors: Any = None,
        n_restarts: Any = 8,
        regularization: Any = 1e-6,
        shrinkage: Any = None,
        missing: Any = "error",
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.forms = forms
        self.shared = shared
        self.priors = priors
        self.n_restarts = n_restarts
        self.regularization = regularization
        self.shrinkage = shrinkage
        self.missing = missing
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "MixtureClassifier":
        """The mixtures of the classes.

        Args:
            X: rows (n, d), in any units.
            y: the class of each row (n,).
            sample_weight: weight of each row (n,), not negative; it counts rows. Default ones.

        Returns:
            The classifier itself, fitted.

        Raises:
            ValueError: parameters or data that are not as they must be, such as a class of fewer rows than components;
                or no fit of a class has ended with numbers that are finite.
            NotImplementedError: forms with noise, and shrinkage of components that are not Gaussian, or with gaps in X.

        Warns:
            ConvergenceWarning: the mixture of a class, which is named, has not converged, or a component has no width
                of its own in some direction, as where a class has no more rows than columns.
        """
        X, y = self._checked(X, y)
        check_classification_targets(y)
        classes, labels = np.unique(y, return_inverse=True)
        names = classes.tolist()
        weights = checked_counts(sample_weight, X, 1)
        priors = _priors(self.priors, np.bincount(labels, weights.astype(np.float64), len(names)), names)
        columns = np.flatnonzero(np.isnan(constant_columns(X, weights)) & ~np.isnan(X[weights > 0]).all(axis=0))
        table = X[:, columns]
        told = (weights > 0) & ~(np.isnan(table).all(axis=1) if columns.size else np.isnan(X).all(axis=1))
        counts = _counts(self.n_components, names, np.bincount(labels[told], minlength=len(names)), bool(self.shared))
        forms = _forms(self.forms, columns.size)
        if self.shrinkage is not None and columns.size:
            _check_shrinkage(forms, columns.size, bool(np.isnan(X[weights > 0]).any()))
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        found: Classes | None = None
        if columns.size:
            fitted = together if self.shared else apart
            options = Options(forms, counts, self.n_restarts, self.regularization, self.shrinkage)
            found = fitted(seed, table, labels, weights, names, options)
        self.classes_, self.priors_, self.columns_, self._found = classes, priors, columns, found
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row (n,)."""
        joint = self._joint(X)
        return self.classes_[np.argmax(joint, axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class for each row (n, c); rows sum to one. Far from all classes, the shares answer."""
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Natural logarithm of `predict_proba` (n, c)."""
        joint = self._joint(X)
        return joint - np.logaddexp.reduce(joint, axis=1, keepdims=True)

    def decision_function(self, X: Any) -> np.ndarray:
        """Log-share plus log-density of each class (n, c); of two classes, how far the second is ahead (n,)."""
        joint = self._joint(X)
        return joint[:, 1] - joint[:, 0] if len(self.classes_) == 2 else joint

    def score_samples(self, X: Any) -> np.ndarray:
        """Log-density of each row, of all classes together by their shares (n,): low where no class has such rows.

        Natural logarithm, of the columns `columns_`, and exactly -inf where even the logarithm underflows.
        """
        log_prob = self._log_prob(X)
        return np.logaddexp.reduce(log_prob + self._log_priors(log_prob.dtype), axis=1)

    @property
    def mixtures_(self) -> list[Mixture]:
        """The mixture of the columns `columns_` of each class, in the order of `classes_`."""
        check_is_fitted(self)
        return [] if self._found is None else self._found.mixtures()

    @property
    def n_components_(self) -> np.ndarray:
        """How many components each class has (c,)."""
        check_is_fitted(self)
        return np.zeros(len(self.classes_), int) if self._found is None else self._found.n_components

    @property
    def forms_(self) -> list[Any]:
        """The form of each class, as it was given."""
        check_is_fitted(self)
        return [] if self._found is None else list(self._found.form_of)

    @property
    def bic_(self) -> float:
        """Of the rows together with their classes; NaN if no column varies."""
        check_is_fitted(self)
        return np.nan if self._found is None else self._found.bic

    def _joint(self, X: Any) -> np.ndarray:
        """Log-share plus log-density (n, c); the log-shares alone where no density is above 0."""
        log_prob = self._log_prob(X)
        log_priors = self._log_priors(log_prob.dtype)
        joint = log_prob + log_priors
        return np.where(np.all(joint == -np.inf, axis=1, keepdims=True), log_priors, joint)

    def _log_priors(self, dtype: Any) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.log(self.priors_).astype(dtype)

    def _log_prob(self, X: Any) -> np.ndarray:
        """Log-density of each class (n, c), in the type of X."""
        check_is_fitted(self)
        X = self._checked(X, reset=False)
        if self._found is None:
            return np.zeros((len(X), len(self.classes_)), X.dtype)
        return self._found.log_prob(X[:, self.columns_])

    def _checked(self, X: Any, *y: Any, **options: Any) -> Any:
        """Rows as floating point numbers, with NaN only where entries may be missing."""
        finite = "allow-nan" if self.missing == "em" else True
        return validate_data(self, said(X), *y, dtype=[np.float64, np.float32], ensure_all_finite=finite, **options)

    def __sklearn_is_fitted__(self) -> bool:
        # Not by the number of columns, which a fit that fails has seen.
        return hasattr(self, "_found")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "em"
        return tags


def _priors(given: Any, shares: np.ndarray, names: Sequence[Any]) -> np.ndarray:
    """Shares of the classes, those given or those of the rows."""
    if lacking := [name for name, share in zip(names, shares.tolist(), strict=True) if not share > 0]:
        raise ValueError(f"class {lacking[0]!r} has no row of positive weight; expected one, or leave out its rows.")
    if given is None:
        return shares / shares.sum()
    priors = np.asarray(given, np.float64)
    if priors.shape != shares.shape:
        raise ValueError(
            f"priors has shape {priors.shape}, and there are {len(names)} classes; expected ({len(names)},), one for "
            "each in the order of classes_."
        )
    if not np.all(priors >= 0) or not abs(priors.sum() - 1) < 1e-6:
        raise ValueError(f"priors is {priors.tolist()}; expected shares of the classes, that add up to 1.")
    return priors / priors.sum()


def _forms(given: Any, n_columns: int) -> list[Any]:
    """The forms to try, each once."""
    forms = forms_of(given, n_columns)
    if not forms:
        raise ValueError("forms holds nothing to try; expected at least one.")
    for form in map(form_of, forms):
        if form.n_background:
            raise NotImplementedError(
                f"MixtureClassifier has a mixture of clusters for each class, and {form.name} has noise, which belongs "
                "to none. Leave with_noise out."
            )
    return forms


def _check_shrinkage(forms: Sequence[Any], n_columns: int, gaps: bool) -> None:
    """Before anything is fitted, whether the covariances of these forms can be shrunk."""
    if gaps:
        raise NotImplementedError(
            "shrinkage takes no rows with gaps, and X holds NaN; fill them, by MixtureImputer for one, or leave "
            "shrinkage out."
        )
    one = np.ones(n_columns, np.float32)
    for form in forms:
        jax.eval_shape(lambda one, form=form: form_of(form).blank(1, one, one).clusters.unrestricted(), one)


def _counts(given: Any, names: Sequence[Any], n_rows: np.ndarray, shared: bool) -> list[list[int]]:
    """The numbers of components to try for each class: those of so many for which it has rows."""
    if isinstance(given, dict):
        unknown, lacking = set(given) - set(names), [name for name in names if name not in given]
        if unknown or lacking:
            which = f"no entry for class {lacking[0]!r}" if lacking else f"an entry for {unknown.pop()!r}, no class"
            raise ValueError(f"n_components has {which}; expected one for each of {names}.")
        asked = [given[name] for name in names]
    else:
        asked = [given] * len(names)
    found = []
    for name, numbers, n in zip(names, asked, n_rows.tolist(), strict=True):
        ks = list(dict.fromkeys(np.atleast_1d(numbers).tolist()))
        if not ks or any(not isinstance(k, int) or k < 1 for k in ks):
            raise ValueError(f"n_components is {numbers!r} for class {name!r}; expected whole numbers from 1 on.")
        if n < min(ks):
            raise ValueError(
                f"class {name!r} has {n} rows of positive weight with an entry, and is to have {min(ks)} components; "
                "expected n_samples >= n_components. Try fewer components, or leave the class out."
            )
        found.append([k for k in ks if k <= n])
    if not shared:
        return found
    if isinstance(given, dict):
        if several := [name for name, ks in zip(names, found, strict=True) if len(ks) > 1]:
            raise ValueError(
                f"n_components names several numbers for class {several[0]!r}, and with shared=True one mixture has "
                "components of all classes; expected one number for each class, or several that are the same for all."
            )
        return found
    fewest = min(found, key=len)
    return [fewest] * len(names)
