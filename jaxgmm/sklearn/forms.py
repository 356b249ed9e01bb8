"""Covariances as scikit-learn keeps them, and the factors that structures hold.

In numpy, so that no shape compiles anything, and in float64, so that no factor loses digits on the way.
"""

from typing import Any

import numpy as np
from sklearn.utils._param_validation import StrOptions

from jaxgmm.covariance.table import LETTERS, NAMES, known_as


class Matrices:
    """A structure whose factor is a lower Cholesky factor, or a stack of them."""

    @staticmethod
    def covariances(factor: np.ndarray) -> np.ndarray:
        """L L^T."""
        return factor @ np.swapaxes(factor, -1, -2)

    @staticmethod
    def precisions(root: np.ndarray) -> np.ndarray:
        """P P^T, of a root P such as scikit-learn's `precisions_cholesky_`."""
        return root @ np.swapaxes(root, -1, -2)

    @staticmethod
    def root_of_factor(factor: np.ndarray) -> np.ndarray:
        """The upper triangular root of the precisions, L^-T."""
        return np.triu(np.swapaxes(np.linalg.inv(factor), -1, -2))

    @staticmethod
    def root_of_precisions(precisions: np.ndarray) -> np.ndarray:
        """Some root of the precisions; `numpy.linalg.LinAlgError` where they have none."""
        if not np.allclose(precisions, np.swapaxes(precisions, -1, -2)):
            raise np.linalg.LinAlgError("not symmetric")
        return np.linalg.cholesky(precisions)

    @staticmethod
    def factor_of_covariances(covariances: np.ndarray) -> np.ndarray:
        """L."""
        return np.linalg.cholesky(covariances)

    @staticmethod
    def factor(root: np.ndarray) -> np.ndarray:
        """L from any root P of the precisions, triangular or not."""
        # The covariance P^-T P^-1 is not formed: that would square the condition number.
        upper = np.linalg.qr(np.linalg.inv(root), mode="r")
        sign = np.where(np.diagonal(upper, axis1=-2, axis2=-1) < 0, -1, 1)
        return np.swapaxes(sign[..., :, None] * upper, -1, -2)


class Scales:
    """A structure whose factor is standard deviations."""

    @staticmethod
    def covariances(factor: np.ndarray) -> np.ndarray:
        """Variances."""
        return factor**2

    @staticmethod
    def precisions(root: np.ndarray) -> np.ndarray:
        """Inverse variances."""
        return root**2

    @staticmethod
    def root_of_factor(factor: np.ndarray) -> np.ndarray:
        """Inverse standard deviations."""
        return 1 / factor

    @staticmethod
    def root_of_precisions(precisions: np.ndarray) -> np.ndarray:
        """Inverse standard deviations; `numpy.linalg.LinAlgError` where there are none."""
        if not np.all(precisions > 0):
            raise np.linalg.LinAlgError("not positive")
        return np.sqrt(precisions)

    @staticmethod
    def factor_of_covariances(covariances: np.ndarray) -> np.ndarray:
        """Standard deviations."""
        return np.sqrt(covariances)

    @staticmethod
    def factor(root: np.ndarray) -> np.ndarray:
        """Standard deviations."""
        return 1 / root


FORMS: dict[str, type[Matrices] | type[Scales]] = {
    "full": Matrices,
    "tied": Matrices,
    "diag": Scales,
    "spherical": Scales,
}
"""The one table from scikit-learn's names of covariance types to how their arrays are computed."""


class CovarianceTypes(StrOptions):
    """scikit-learn's constraint of a parameter, to names of structures that are told by their covariances."""

    def __init__(self) -> None:
        super().__init__({*NAMES, *LETTERS})

    def __str__(self) -> str:
        names = ", ".join(map(repr, dict.fromkeys([*NAMES, *LETTERS])))
        return f"one of {names}; covariances of low rank, such as 'lowrank-2', are for jaxgmm.init and jaxgmm.fit"


def kept_as(covariance_type: str) -> str:
    """The one of scikit-learn's names in whose shapes covariances are kept: "full" of what it has no name for."""
    name = known_as(covariance_type, "covariance_type")
    return name if name in FORMS else "full"


def form_of(covariance_type: str) -> type[Matrices] | type[Scales]:
    """How arrays of these covariances are computed."""
    return FORMS[kept_as(covariance_type)]


def covariance_attributes(covariance_type: str, factor: Any, dtype: Any) -> dict[str, np.ndarray]:
    """`covariances_`, `precisions_cholesky_` and `precisions_` of a structure that is kept as this factor."""
    form, factor = form_of(covariance_type), np.asarray(factor, np.float64)
    root = form.root_of_factor(factor)
    arrays = {
        "covariances_": form.covariances(factor),
        "precisions_cholesky_": root,
        "precisions_": form.precisions(root),
    }
    return {name: array.astype(dtype) for name, array in arrays.items()}


def factor_of(estimator: Any, dtype: Any) -> np.ndarray:
    """What the structure is kept as, by the attributes of a fitted estimator or by those that a user has set.

    It is `precisions_cholesky_` that counts, as in scikit-learn, and `covariances_` where there is none.
    """
    kind, root = estimator.covariance_type, getattr(estimator, "precisions_cholesky_", None)
    if root is not None:
        return factor_of_root(kind, root, dtype)
    return form_of(kind).factor_of_covariances(np.asarray(estimator.covariances_, np.float64)).astype(dtype)


def factor_of_root(covariance_type: str, root: Any, dtype: Any) -> np.ndarray:
    """What the structure is kept as whose precisions have this root."""
    return form_of(covariance_type).factor(np.asarray(root, np.float64)).astype(dtype)
