"""Checks of what a fit is given, with scikit-learn's errors."""

from typing import Any

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import _check_sample_weight

from jaxgmm.covariance.table import known_as, structure_of
from jaxgmm.ground.frames import filled
from jaxgmm.sklearn.forms import factor_of_root, form_of, kept_as
from jaxgmm.sklearn.programs import Parameters

# Where scikit-learn lets a subclass step in, and the compiled programs do not call.
HOOKS = (
    "_check_parameters",
    "_compute_lower_bound",
    "_e_step",
    "_estimate_log_prob",
    "_estimate_log_prob_resp",
    "_estimate_log_weights",
    "_estimate_weighted_log_prob",
    "_get_parameters",
    "_initialize",
    "_initialize_parameters",
    "_m_step",
    "_set_parameters",
)
HOOKS_OF_BAYES = (
    *HOOKS,
    "_check_means_parameters",
    "_check_precision_parameters",
    "_check_weights_parameters",
    "_checkcovariance_prior_parameter",
    "_estimate_means",
    "_estimate_precisions",
    "_estimate_weights",
    "_estimate_wishart_diag",
    "_estimate_wishart_full",
    "_estimate_wishart_spherical",
    "_estimate_wishart_tied",
)


def check_nothing_overridden(estimator: Any) -> None:
    """Refuse an estimator with steps of its own, which would be left out."""
    theirs = estimator._theirs
    for name in estimator._hooks:
        own = getattr(type(estimator), name, None) is not getattr(theirs, name, None) or name in vars(estimator)
        if own and hasattr(estimator, name):
            raise TypeError(
                f"{type(estimator).__name__} overrides {name}, which the compiled fit never calls. Derive it from "
                f"sklearn.mixture.{theirs.__name__}, which does, or write a jaxgmm.Family for other components."
            )


def said(value: Any) -> Any:
    """What a masked array says: NaN where it is masked, which scikit-learn then refuses."""
    return filled(value) if isinstance(value, np.ma.MaskedArray) else value


def row_counts(estimator: Any, sample_weight: Any, n: int) -> np.ndarray:
    """How many rows each of n rows counts for in a criterion, if anything is known of it."""
    if sample_weight is None and estimator._is_weighted:
        raise ValueError(
            "The estimator was fitted with sample_weight, and a criterion of rows that all count once would be one of "
            "other data. Pass sample_weight for these rows, or numpy.ones(len(X)) where each counts once."
        )
    counts = _check_sample_weight(said(sample_weight), np.empty((n, 1)), dtype=np.float64)
    if np.any(counts < 0) or not np.any(counts):
        raise ValueError(
            f"Negative or no positive values in data passed to `sample_weight`: from {counts.min():g} to "
            f"{counts.max():g}; expected numbers >= 0, not all of them 0."
        )
    return counts


def checked_weights(sample_weight: Any, X: np.ndarray, n_components: Any = 1) -> np.ndarray:
    """Weights of the rows in the dtype of X, of largest 1; no fewer of them positive than there are components."""
    weights = _check_sample_weight(said(sample_weight), X, dtype=np.float64)
    if np.any(weights < 0):
        raise ValueError(
            f"Negative values in data passed to `sample_weight`: the smallest is {weights.min():g}; expected >= 0."
        )
    # In units of the largest, so that sums neither over- nor underflow.
    weights = (weights / (weights.max() if np.any(weights > 0) else 1)).astype(X.dtype)
    told = ~np.isnan(X).reshape(len(X), -1).all(axis=1)
    present = int(np.count_nonzero(weights * told))
    if present < n_components:
        raise ValueError(
            f"Expected n_samples >= n_components but got n_components = {n_components}, n_samples = {present}"
            + (" of positive weight" if np.any(weights == 0) else "")
            + (" with an entry that is not missing" if not told.all() else "")
        )
    return weights


def checked_counts(sample_weight: Any, X: np.ndarray, n_components: Any) -> np.ndarray:
    """Weights of the rows as they are, in the dtype of X: criteria count by them. Checked as by `checked_weights`."""
    checked_weights(sample_weight, X, int(min(np.ravel(n_components), default=1)))
    return _check_sample_weight(said(sample_weight), X, dtype=X.dtype)


def checked_start(estimator: Any, X: np.ndarray) -> Parameters:
    """What the user has said about the start, None where nothing, in the dtype of X."""
    k, d, kind = estimator.n_components, X.shape[1], estimator.covariance_type
    weights = _shaped("weights", estimator.weights_init, (k,), X.dtype)
    means = _shaped("means", estimator.means_init, (k, d), X.dtype)
    precisions = _shaped(
        f"{kind} precision", estimator.precisions_init, structure_of(kept_as(kind)).covariances_shape(k, d), X.dtype
    )
    if weights is not None and (weights.min() < 0 or weights.max() > 1):
        raise ValueError(
            "The parameter 'weights' should be in the range [0, 1], but got max value "
            f"{weights.max():.5f}, min value {weights.min():.5f}"
        )
    if weights is not None and abs(1 - weights.sum()) > (1e-6 if X.dtype == np.float32 else 1e-8):
        raise ValueError(f"The parameter 'weights' should be normalized, but got sum(weights) = {weights.sum():.5f}")
    if precisions is None:
        return Parameters(weights, means, None)
    try:
        root = form_of(kind).root_of_precisions(precisions.astype(np.float64))
    except np.linalg.LinAlgError as error:
        raise ValueError(f"'{kind} precision' should be symmetric, positive-definite") from error
    return Parameters(weights, means, factor_of_root(kind, root, X.dtype))


def check_previous_fit(estimator: Any, X: np.ndarray) -> None:
    """Refuse to go on from a fit of another kind of mixture than the estimator describes now."""
    k, d = estimator.n_components, X.shape[1]
    found = estimator.means_.shape, estimator.covariances_.shape
    expected = (k, d), structure_of(kept_as(estimator.covariance_type)).covariances_shape(k, d)
    if found != expected:
        raise ValueError(
            f"warm_start continues a fit with means_ and covariances_ of shapes {found[0]} and {found[1]}; "
            f"n_components, covariance_type and X now make them {expected[0]} and {expected[1]}. "
            "Set warm_start=False to start anew."
        )
    before = estimator._kind or estimator.covariance_type
    if known_as(before) != known_as(estimator.covariance_type):
        raise ValueError(
            f"warm_start continues a fit of covariance_type {before!r}, and it is {estimator.covariance_type!r} now. "
            "Set it back, or warm_start=False to start anew."
        )


def _shaped(name: str, value: Any, shape: tuple[int, ...], dtype: Any) -> np.ndarray | None:
    if value is None:
        return None
    array = check_array(value, dtype=[np.float64, np.float32], ensure_2d=False, allow_nd=True)
    if array.shape != shape:
        raise ValueError(f"The parameter '{name}' should have the shape of {shape}, but got {array.shape}")
    return array.astype(dtype)
