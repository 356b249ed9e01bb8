"""One step of scikit-learn's variational Bayes inside `fit`, by its estimator and by ours, in turns."""

import resource
import time
import warnings
from collections.abc import Iterator

import numpy as np
import sklearn.mixture
from sklearn.exceptions import ConvergenceWarning

from benchmarks.harness import Row
from jaxgmm.sklearn import BayesianGaussianMixture

# Steps beyond the first of a fit, more of the quicker one, so that both take long enough to be told from their starts.
THEIR_STEPS, OUR_STEPS = 4, 80
ROUNDS = 5


def points(case: str, quick: bool) -> list[Row]:
    """One size."""
    return [{"structure": "full", "n": 2_000 if quick else 100_000, "d": 8, "k": 16}]


def run(point: Row, dtype: type, quick: bool) -> Iterator[Row]:
    """Both by wall clock and by seconds of all cores; fits differ by their numbers of steps alone."""
    n, d, k = (point[name] for name in ("n", "d", "k"))
    rng = np.random.default_rng(0)
    centers = 4 * rng.normal(size=(k, d))
    x = (centers[rng.integers(0, k, n)] + rng.normal(size=(n, d))).astype(dtype)
    start = time.perf_counter()
    _fit(BayesianGaussianMixture, x, k, 1)
    compiled = time.perf_counter() - start
    entrants = {
        "jaxgmm": (BayesianGaussianMixture, OUR_STEPS),
        "sklearn": (sklearn.mixture.BayesianGaussianMixture, THEIR_STEPS),
    }
    samples = np.array(
        [
            [_step(estimator, x, k, steps) for estimator, steps in entrants.values()]
            for _ in range(1 if quick else ROUNDS)
        ]
    )
    for clock, unit in enumerate(("", ", CPU")):
        base = samples[:, 0, clock]
        for which, name in enumerate(entrants):
            found = samples[:, which, clock]
            low, middle, high = np.quantile(found / base, (0.25, 0.5, 0.75))
            row = {"contender": name + unit, "median": float(np.median(found)), "compile": compiled}
            yield row | {"ratio": middle, "ratio_q1": low, "ratio_q3": high}


def _step(estimator: type, x: np.ndarray, k: int, steps: int) -> np.ndarray:
    """Seconds of a step, by the clock and of all cores."""
    few, more = (_fit(estimator, x, k, number) for number in (1, 1 + steps))
    return np.maximum(more - few, 1e-9) / steps


def _fit(estimator: type, x: np.ndarray, k: int, steps: int) -> np.ndarray:
    options = {"init_params": "random_from_data", "random_state": 0, "tol": 0.0, "max_iter": steps}
    before = _clocks()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator(n_components=k, **options).fit(x)
    return _clocks() - before


def _clocks() -> np.ndarray:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return np.array([time.perf_counter(), used.ru_utime + used.ru_stime])
