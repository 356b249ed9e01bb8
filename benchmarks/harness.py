"""Timing contenders side by side, and judging all results by one likelihood in float64."""

import gc
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.data import Parameters

# Quick calls are timed in bursts of this length, so that neither the clock nor a cold cache decides.
BURST = 0.02
# Threads of the contender before spin for a while after their work is done.
PAUSE = 0.02
# Mean log-likelihoods this close count as equal.
EQUAL = 1e-4
VERY_SLOW = 60.0

Row = dict[str, Any]


@dataclass(frozen=True)
class Contender:
    """One way to do the work of a case: `call(seed)` returns when the work is done, in seconds of `clock`."""

    call: Callable[[int], Any]
    parameters: Callable[[Any], Parameters] | None = None
    notes: Row = field(default_factory=dict)
    clock: Callable[[], float] = time.perf_counter


@dataclass
class _Runner:
    name: str
    contender: Contender | None = None
    reason: str | None = None
    first: float = 0.0
    typical: float = 0.0
    samples: list[float] = field(default_factory=list)
    likelihoods: dict[int, float] = field(default_factory=dict)

    def fail(self, error: Exception) -> None:
        self.reason = f"{type(error).__name__}: {error}".strip().split("\n")[0][:300]
        traceback.print_exception(error)

    def wants_more(self, budget: float, most: int, seeds: int) -> bool:
        if self.reason is not None or len(self.samples) >= most:
            return False
        least = 1 if self.typical > VERY_SLOW or not budget else 3 if self.typical > 5 else 5
        return len(self.samples) < max(least, seeds if least > 1 else 1) or sum(self.samples) < budget


def contest(
    makers: dict[str, Callable[[], Contender]],
    score: Callable[[Any], float] | None = None,
    *,
    budget: float = 3.0,
    most: int = 30,
    seeds: int = 1,
    equal: float = EQUAL,
    reference: str | None = None,
) -> list[Row]:
    """Time contenders in turns, A B C A B C …; one row each, in seconds.

    `score` takes what `Contender.parameters` returns (default the result itself) and gives a mean log-likelihood, which
    is averaged over seeds. A contender that raises gets a row with the reason. `ratio` is time over that of
    `reference`, by default the first contender; its quartiles are over pairs of turns. Turns go on until each contender
    has used its `budget` of seconds and has had at least five, three (slow) or one (a minute or longer); a budget of 0
    is one turn, to see that everything runs.
    """
    runners = [_Runner(name) for name in makers]
    for runner, make in zip(runners, makers.values(), strict=True):
        try:
            runner.contender = make()
            runner.first = _timed(runner, 0, 1, score)
            runner.typical = runner.first if runner.first > VERY_SLOW else _timed(runner, 0, 1, None)
        except Exception as error:
            runner.fail(error)
    turn = 0
    while any(runner.wants_more(budget, most, seeds) for runner in runners):
        for runner in runners:
            if runner.wants_more(budget, most, seeds):
                try:
                    if runner.typical > VERY_SLOW:
                        runner.samples.append(runner.typical)  # one call has to do
                        continue
                    burst = max(1, min(100, int(BURST / max(runner.typical, 1e-7))))
                    seed = turn % seeds
                    runner.samples.append(_timed(runner, seed, burst, None if seed in runner.likelihoods else score))
                except Exception as error:
                    runner.fail(error)
        turn += 1
    against = next((r for r in runners if r.name == (reference or runners[0].name)), None)
    best = max((np.mean(list(r.likelihoods.values())) for r in runners if r.likelihoods), default=np.nan)
    return [_row(runner, against, best, equal) for runner in runners]


def _timed(runner: _Runner, seed: int, burst: int, score: Callable[[Any], float] | None) -> float:
    gc.collect()
    time.sleep(PAUSE)
    start = runner.contender.clock()
    for _ in range(burst):
        result = runner.contender.call(seed)
    elapsed = (runner.contender.clock() - start) / burst
    if score is not None:
        parameters = runner.contender.parameters
        if parameters is not None:
            runner.likelihoods[seed] = float(score(parameters(result)))
    return elapsed


def _row(runner: _Runner, against: _Runner | None, best: float, equal: float) -> Row:
    row: Row = {"contender": runner.name, "reason": runner.reason}
    if runner.reason is not None or not runner.samples:
        return row
    row |= spread(runner.samples) | {"repeats": len(runner.samples), "first": runner.first}
    row["compile"] = max(runner.first - row["median"], 0.0)
    if against is not None and against.samples:
        row["ratio"] = row["median"] / float(np.median(against.samples))
        pairs = [a / b for a, b in zip(runner.samples, against.samples, strict=False)]
        row |= {f"ratio_{name}": value for name, value in spread(pairs).items() if name != "median"}
    if runner.likelihoods:
        row["log_likelihood"] = float(np.mean(list(runner.likelihoods.values())))
        row["gap"] = float(best - row["log_likelihood"])
        row |= {"within": equal, "equal": bool(row["gap"] <= equal)}
    return row | runner.contender.notes


def spread(values: Iterable[float]) -> Row:
    """Median and quartiles."""
    q1, median, q3 = np.quantile(np.asarray(list(values), float), [0.25, 0.5, 0.75])
    return {"median": float(median), "q1": float(q1), "q3": float(q3)}


def derived(name: str, slow: Row, fast: Row, against: Row | None, steps: int) -> Row:
    """The row of what `slow` does `steps` times more often than `fast`, both timed in one contest."""
    reason = slow.get("reason") or fast.get("reason")
    if reason is not None:
        return {"contender": name, "reason": reason}
    row: Row = {"contender": name, "reason": None, "repeats": slow["repeats"]}
    row["median"] = (slow["median"] - fast["median"]) / steps
    row["q1"], row["q3"] = ((slow[q] - fast["median"]) / steps for q in ("q1", "q3"))
    if against is not None and against.get("median"):
        row |= {r: row[q] / against["median"] for r, q in (("ratio", "median"), ("ratio_q1", "q1"), ("ratio_q3", "q3"))}
    return row


def mean_log_likelihood(x: np.ndarray, parameters: Parameters, most: int | None = None) -> float:
    """Mean log-density of rows (the first `most` of them), in float64 and numpy alone, whoever made the parameters."""
    weights, means, covariances = (np.asarray(p, np.float64) for p in parameters)
    d = means.shape[1]
    factors = np.linalg.cholesky(covariances)
    whiteners = np.linalg.inv(factors)
    with np.errstate(divide="ignore"):
        constants = np.log(weights / weights.sum()) - 0.5 * d * np.log(2 * np.pi)
    constants -= np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(1)
    total, x = 0.0, x[:most]
    for start in range(0, len(x), 1 << 14):
        rows = np.asarray(x[start : start + (1 << 14)], np.float64)
        joint = np.stack(
            [
                c - 0.5 * np.sum(((rows - m) @ w.T) ** 2, axis=1)
                for c, m, w in zip(constants, means, whiteners, strict=True)
            ]
        )
        peak = joint.max(0)
        total += float(np.sum(peak + np.log(np.exp(joint - peak).sum(0))))
    return total / len(x)
