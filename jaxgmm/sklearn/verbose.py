"""A fit that tells how it goes, while it goes: the same steps as a quiet one, a few at a time."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxgmm.fitting.result import Status
from jaxgmm.selection.restarts import Restarts
from jaxgmm.sklearn.programs import Parameters, Run

Runner = Callable[[Any, Parameters, Any, int], Run]
"""From seeds, parameters, the bound before the first step, and a number of steps."""


def told(run: Runner, estimator: Any, number: int, seeds: Any, given: Parameters, bound: Any) -> Run:
    """What `run` makes of one start, printed by the methods with which scikit-learn prints it."""
    estimator._print_verbose_msg_init_beg(number)
    whole = run(seeds, given, bound, min(estimator.verbose_interval, estimator.max_iter))
    while True:
        n_iter = int(whole.n_iter)
        converged = bool(np.abs(whole.change) < estimator.tol)
        if n_iter:
            estimator._print_verbose_msg_iter_end(n_iter, whole.change)
        stopped = n_iter % estimator.verbose_interval or not n_iter
        if stopped or converged or not np.isfinite(whole.bound) or n_iter >= estimator.max_iter:
            break
        steps = min(estimator.verbose_interval, estimator.max_iter - n_iter)
        whole = _joined(whole, run(None, whole.parameters, whole.bound, steps))
    if n_iter:
        estimator._print_verbose_msg_init_end(whole.bound, converged)
    return whole


def tell_starts(found: Restarts, total: float) -> None:
    """How each start ended, printed, with the mean log-likelihood of rows of a `total` weight."""
    ends = zip(np.asarray(found.status).tolist(), np.asarray(found.log_likelihood).tolist(), strict=True)
    for number, (status, log_likelihood) in enumerate(ends):
        print(f"Initialization {number}: {Status(status).name}, mean log-likelihood {log_likelihood / total:.6g}")


def _joined(before: Run, after: Run) -> Run:
    bounds: Any = np.concatenate([before.bounds[: int(before.n_iter)], after.bounds[: int(after.n_iter)]])
    # What made the likelihood infinite in a first step happened in the last step before it.
    at_once = after.n_iter == 1 and not np.isfinite(after.bound)
    return dataclasses.replace(
        after,
        bounds=bounds,
        n_iter=before.n_iter + after.n_iter,
        degenerate=before.degenerate if at_once else after.degenerate,
    )
