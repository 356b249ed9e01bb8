"""What kept programs compute, compared with numpy.

A program that XLA has read from a folder was seen to compute other numbers than the one it was saved from (jaxlib
0.10.2, on a CPU, rarely). So nothing is written before numpy has confirmed it.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import scipy.linalg
import scipy.special

import jaxgmm
from jaxgmm.cli.compiled import forget_programs
from jaxgmm.cli.problem import Problem

T = TypeVar("T")
# Rows of each part of a table that are looked at.
_LOOKED_AT = 64


def confirmed(compute: Callable[[], T], agrees: Callable[[T], bool]) -> T:
    """What `compute` gives; computed by newly compiled programs where numpy does not agree with kept ones."""
    for _ in range(2):
        result = compute()
        if agrees(result):
            return result
        forget_programs()
    raise Problem("JAX computes other numbers than numpy on this machine; nothing can be trusted. Is jaxlib intact?")


def log_joint(mixture: jaxgmm.Mixture, x: np.ndarray) -> np.ndarray:
    """log w_k N(x; m_k, S_k) of a Gaussian mixture, (n, k), in float64 by numpy."""
    weights = np.asarray(mixture.weights, np.float64)
    joint = np.full((len(x), len(weights)), -np.inf)
    for place in np.flatnonzero(weights):
        factor = np.linalg.cholesky(np.asarray(mixture.covariances[place], np.float64))
        differences = np.asarray(x, np.float64) - np.asarray(mixture.means[place], np.float64)
        whitened = scipy.linalg.solve_triangular(factor, differences.T, lower=True, check_finite=False)
        constant = np.log(weights[place]) - np.sum(np.log(np.diag(factor))) - x.shape[1] / 2 * np.log(2 * np.pi)
        joint[:, place] = constant - 0.5 * np.sum(whitened**2, axis=0)
    return joint


def log_prob_agrees(mixture: jaxgmm.Mixture, x: np.ndarray, found: np.ndarray) -> bool:
    """Whether log-densities are those of the first rows, as far as these have all entries."""
    rows, found = _first(x, found)
    return _close(mixture, found, scipy.special.logsumexp(log_joint(mixture, rows), axis=1))


def responsibilities_agree(mixture: jaxgmm.Mixture, x: np.ndarray, found: np.ndarray) -> bool:
    """Likewise for the probabilities of components."""
    rows, found = _first(x, found)
    return _close(mixture, found, scipy.special.softmax(log_joint(mixture, rows), axis=1))


def likelihood_agrees(mixture: jaxgmm.Mixture, x: np.ndarray, weights: np.ndarray, found: float) -> bool:
    """Whether this is the total log-likelihood of the weighted rows."""
    parts = range(0, len(x), 2**16)
    values = [scipy.special.logsumexp(log_joint(mixture, x[start : start + 2**16]), axis=1) for start in parts]
    total = np.sum(np.concatenate(values) * weights, dtype=np.float64)
    size = np.sum(np.abs(np.concatenate(values)) * weights, dtype=np.float64)
    return bool(abs(found - total) <= _tolerance(mixture) * (size + np.sum(weights)))


def _first(x: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    chosen = np.flatnonzero(~np.isnan(x).any(axis=1))[:_LOOKED_AT]
    return x[chosen], found[chosen]


def _close(mixture: jaxgmm.Mixture, found: Any, expected: np.ndarray) -> bool:
    return bool(np.allclose(found, expected, rtol=_tolerance(mixture), atol=_tolerance(mixture)))


def _tolerance(mixture: jaxgmm.Mixture) -> float:
    return 1e-6 if mixture.log_weights.dtype == np.float64 else 2e-2
