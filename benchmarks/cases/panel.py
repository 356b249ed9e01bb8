"""A number of components for each of many ragged data sets, compile time included, beside a loop over sklearn."""

import os
import resource
import time
import warnings
from collections.abc import Iterator

import jax
import numpy as np

import jaxgmm
from benchmarks.harness import Row

STRUCTURE = "diag"
PANEL = {"fits": 20_000, "largest": 4, "restarts": 2}
# Loops are timed over this many data sets and scaled up; likelihoods are compared over the same ones.
LOOPED = 200
TOL = 1e-3
# Ours is what is still to be gained, theirs what the last step gained.
OURS = {"": {}, ", tol=3e-3": {"tol": 3e-3, "screening_tol": 3e-3}}


def points(case: str, quick: bool) -> list[Row]:
    """One panel."""
    return [PANEL | ({"fits": 40} if quick else {})]


def sets(count: int, dtype: type, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Data sets of 30 to 400 rows in 2 or 3 columns, and their numbers of groups, at least 6 deviations apart.

    A hundredth holds NaN and another one is all zeros: these have no number, 0.
    """
    rng = np.random.default_rng(seed)
    xs, ks = [], []
    for place in range(count):
        n, d, k = int(rng.integers(30, 401)), 2 + place % 2, int(rng.integers(1, 5))
        while True:
            means = 6 * rng.normal(size=(k, d))
            gaps = np.linalg.norm(means[:, None] - means[None], axis=2)
            if np.all(gaps[np.triu_indices(k, 1)] > 6):
                break
        labels = rng.choice(k, n, p=rng.dirichlet(np.full(k, 8.0)))
        x = means[labels] + rng.normal(size=(n, d)) * rng.uniform(0.7, 1.3, size=(k, d))[labels]
        fault = rng.random()
        if fault < 0.01:
            x[rng.integers(n), 0] = np.nan
        elif fault < 0.02:
            x[:] = 0
        xs.append(x.astype(dtype))
        ks.append(0 if fault < 0.02 else k)
    return xs, np.array(ks)


def run(point: Row, dtype: type, quick: bool, *, with_peers: bool = True) -> Iterator[Row]:
    """Ours with the default tolerance and with one that reaches sklearn's likelihood, and loops of one thread."""
    count, largest, restarts = point.values()
    xs, ks = sets(count, dtype)
    tried, few = range(1, largest + 1), min(count, 5 if quick else LOOPED)
    reached = None
    for note, options in OURS.items():
        first = _timed(
            lambda o=options: jaxgmm.select_many(jax.random.key(0), xs, tried, STRUCTURE, n_restarts=restarts, **o)
        )
        again = _timed(
            lambda o=options: jaxgmm.select_many(jax.random.key(1), xs, tried, STRUCTURE, n_restarts=restarts, **o)
        )
        found = first.pop("result")
        again.pop("result")
        sound = ks > 0
        looked_at = np.flatnonzero(sound)[:few]
        values = found.values[looked_at, 0]
        reached = values if reached is None else reached
        yield {
            **point,
            "contender": f"jaxgmm, select_many{note}",
            "first": first["wall"],
            "median": again["wall"],
            "cpu_first": first["cpu"],
            "cpu": again["cpu"],
            "right": float(np.mean(found.n_components[sound] == ks[sound])),
            "lower": float(np.median(values - reached) / 2),
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10,
        }
    if not with_peers:
        return
    for init in ("kmeans", "k-means++", "random_from_data"):
        took = _timed(lambda init=init: _loop([xs[place] for place in looked_at], tried, restarts, init))
        values = took.pop("result")
        yield {
            **point,
            "contender": f"sklearn, {init}",
            "first": took["wall"] * count / few,
            "median": took["wall"] * count / few,
            "cpu_first": took["cpu"] * count / few,
            "cpu": took["cpu"] * count / few,
            "looped": few,
            "right": float(np.mean(1 + np.argmin(values, axis=1) == ks[looked_at])),
            "lower": float(np.median(values - reached) / 2),
        }


def _loop(xs: list[np.ndarray], tried: range, restarts: int, init: str) -> np.ndarray:
    """BIC of every data set and number of components, of one thread."""
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    warnings.simplefilter("ignore")
    options = {"covariance_type": STRUCTURE, "n_init": restarts, "init_params": init, "tol": TOL, "random_state": 0}
    with threadpool_limits(1):
        return np.array([[GaussianMixture(k, **options).fit(x).bic(x) for k in tried] for x in xs])


def _timed(function) -> Row:
    before, start = os.times(), time.perf_counter()
    result = function()
    after = os.times()
    cpu = after.user + after.system - before.user - before.system
    return {"result": result, "cpu": cpu, "wall": time.perf_counter() - start}
