"""The priors of `BayesianGaussianMixture`: checked, and where they are not given taken from the data."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from sklearn.utils import check_array

from jaxgmm.ground.rows import Evidence
from jaxgmm.sklearn.forms import FORMS
from jaxgmm.sklearn.objectives import Bayes, Ridge
from jaxgmm.sklearn.programs import Parameters, run_em

# What is kept of a covariance matrix as prior of one component.
_KEPT: dict[str, Callable[[np.ndarray], Any]] = {
    "full": lambda covariance: covariance,
    "tied": lambda covariance: covariance,
    "diag": lambda covariance: np.diagonal(covariance).copy(),
    "spherical": lambda covariance: float(np.trace(covariance) / len(covariance)),
}
# Of the one Gaussian that tells where rows with gaps are, on the mean log-likelihood, and steps until it is there.
_TOL, _STEPS = 1e-9, np.int32(10_000)


def prior_of(estimator: Any, X: np.ndarray, rows: Evidence, unit: float) -> dict[str, Any]:
    """scikit-learn's attributes of the priors, for rows whose weights are in this unit."""
    k, d, kind = estimator.n_components, X.shape[1], estimator.covariance_type
    degrees = estimator.degrees_of_freedom_prior
    if degrees is not None and not degrees > d - 1:
        raise ValueError(
            f"The parameter 'degrees_of_freedom_prior' should be greater than {d - 1}, but got {degrees:.3f}."
        )
    mean = _shaped("means", estimator.mean_prior, (d,))
    shape = np.shape(_KEPT[kind](np.eye(d)))
    # A single number, or one for each component.
    shapes = ((), (1,), (k,)) if not shape else (shape,)
    covariance = _shaped(f"{kind} covariance_prior", estimator.covariance_prior, *shapes)
    if covariance is not None:
        try:
            FORMS[kind].root_of_precisions(np.atleast_1d(np.asarray(covariance, np.float64)))
        except np.linalg.LinAlgError as error:
            raise ValueError(f"'{kind} covariance_prior' should be symmetric, positive-definite") from error
    if mean is None or covariance is None:
        center, spread = _spread(X, rows, unit)
        mean = center if mean is None else mean
        covariance = _KEPT[kind](spread) if covariance is None else covariance
    given = {
        "weight_concentration_prior_": estimator.weight_concentration_prior,
        "mean_precision_prior_": estimator.mean_precision_prior,
        "degrees_of_freedom_prior_": degrees,
    }
    default = {"weight_concentration_prior_": 1 / k, "mean_precision_prior_": 1.0, "degrees_of_freedom_prior_": d}
    scalars = {name: default[name] if value is None else value for name, value in given.items()}
    return scalars | {"mean_prior_": mean, "covariance_prior_": covariance}


def bayes(estimator: Any, rows: Evidence, unit: float, prior: dict[str, Any]) -> Bayes:
    """What is climbed under these priors."""

    def number(value: Any) -> Any:
        return np.asarray(value, rows.x.dtype)

    return Bayes(
        amount=number(estimator.reg_covar),
        concentration=number(prior["weight_concentration_prior_"]),
        mean=number(prior["mean_prior_"]),
        mean_precision=number(prior["mean_precision_prior_"]),
        degrees=number(prior["degrees_of_freedom_prior_"]),
        scatter=number(prior["covariance_prior_"]),
        unit=number(unit),
        prior_type=estimator.weight_concentration_prior_type,
    )


def _spread(X: np.ndarray, rows: Evidence, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean (d,) and covariance (d, d) of the rows, of those known in part as one Gaussian fitted to them has them."""
    weights = np.asarray(rows.weights, np.float64)[: len(X)]
    total = unit * weights.sum()
    if not total > 1:
        raise ValueError(
            f"The weights in `sample_weight` add up to {total:g}. They count rows, and no more than one tells no "
            "covariance; expected more, or both mean_prior and covariance_prior."
        )
    if rows.partial:
        real = X.dtype.type
        with jax.enable_x64(X.dtype == np.float64):
            start = np.zeros(rows.x.shape[0], np.int32)
            options = {"n_components": 1, "covariance_type": "full", "history_size": 1}
            alone = Parameters(None, None, None)
            run = run_em(rows, start, alone, real(-np.inf), real(_TOL), Ridge(real(0)), _STEPS, **options)
            found: Any = jax.tree.map(np.asarray, run.parameters)
        return found.means[0], FORMS["full"].covariances(found.factor[0]) * (total / (total - 1))
    if unit == 1 and np.all(weights == 1):
        return X.mean(axis=0), np.atleast_2d(np.cov(X.T))
    there = weights > 0
    X, weights = X[there], weights[there]
    covariance = np.atleast_2d(np.cov(X.T, aweights=weights, ddof=0)) * (total / (total - 1))
    return np.average(X, axis=0, weights=weights).astype(X.dtype), covariance


def _shaped(name: str, value: Any, *shapes: tuple[int, ...]) -> Any:
    """As floating point numbers of one of these shapes, if it is given; one number as it is."""
    if value is None or (() in shapes and np.ndim(value) == 0):
        return value
    array = np.asarray(value)
    if array.shape not in shapes:
        expected = " or ".join(map(str, (shapes[0], *shapes[2:])))
        raise ValueError(f"The parameter '{name}' should have the shape of {expected}, but got {array.shape}")
    return check_array(array, dtype=[np.float64, np.float32], ensure_2d=False)
