"""One step of EM on rows of which only a part is known, beside the same step on whole rows in the same run."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

import jaxgmm
from benchmarks.harness import Row
from jaxgmm.ground.known import evidence
from jaxgmm.model.passes import block_size_of
from jaxgmm.model.steps import take_statistics

STRUCTURES = ("full", "tied", "diag")
# A peer that takes minutes for all rows has so many of them, and its time is scaled up.
FEW = 10_000
ROUNDS = 15


def points(case: str, quick: bool) -> list[Row]:
    """One size for each structure."""
    return [{"structure": one, "n": 2_000 if quick else 100_000, "d": 8, "k": 8} for one in STRUCTURES]


def known(x: np.ndarray, k: int) -> dict[str, Any]:
    """What may be known of the rows, a fifth of the entries missing where any are."""
    rng = np.random.default_rng(1)
    few = (rng.random((32, x.shape[1])) > 0.2)[rng.integers(0, 32, len(x))]
    return {
        "whole rows": jaxgmm.rows(x),
        "labels": jaxgmm.rows(x, labels=rng.integers(-1, k, len(x))),
        "gaps of 32 patterns": jaxgmm.rows(x, missing=~few),
        "gaps at random": jaxgmm.rows(x, missing=rng.random(x.shape) < 0.2),
        "noise": jaxgmm.rows(x, noise=rng.random(x.shape).astype(x.dtype)),
    }


def run(point: Row, dtype: type, quick: bool, *, with_peers: bool = True) -> Iterator[Row]:
    """Ours with each kind of rows by turns, and extreme deconvolution by astroML, of full covariances alone."""
    structure, n, d, k = (point[name] for name in ("structure", "n", "d", "k"))
    x = np.random.default_rng(0).normal(size=(n, d)).astype(dtype)
    x[: n // 2] += 3
    mixture = jaxgmm.init(jax.random.key(0), x, k, structure)
    programs: dict[str, Callable[[], Any]] = {}
    compile_times: dict[str, float] = {}
    for name, rows in known(x, k).items():
        step = _step(mixture, rows)
        start = time.perf_counter()
        step()
        compile_times[name] = time.perf_counter() - start
        programs[name] = step
    samples: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(3 if quick else ROUNDS):
        for name, step in programs.items():
            start = time.perf_counter()
            step()
            samples[name].append(time.perf_counter() - start)
    base = np.array(samples["whole rows"])
    for name, found in samples.items():
        yield _row(f"jaxgmm, {name}", np.array(found), base) | {"compile": compile_times[name]}
    if with_peers and structure == STRUCTURES[0]:
        yield _xdgmm(mixture, x[:FEW], base, n / min(n, FEW))


def _step(mixture: jaxgmm.Mixture, rows: Any) -> Callable[[], Any]:
    """The statistics that a step needs, of rows in blocks as the verbs have them, by a program like that of a fit."""
    arranged = evidence(rows)
    taken = jax.jit(lambda mixture, rows: take_statistics(mixture, rows.in_blocks(block_size_of(mixture, rows))))
    return lambda: jax.block_until_ready(taken(mixture, arranged))


def _xdgmm(mixture: jaxgmm.Mixture, x: np.ndarray, base: np.ndarray, scale: float) -> Row:
    try:
        from astroML.density_estimation import XDGMM
    except ImportError as error:
        return {"contender": "astroML XDGMM, noise", "reason": str(error)}
    noise = np.random.default_rng(1).random(x.shape)
    errors = noise[:, :, None] * np.eye(x.shape[1])
    theirs = XDGMM(mixture.n_components)
    theirs.mu, theirs.V, theirs.alpha = (
        np.asarray(leaf, np.float64) for leaf in (mixture.means, mixture.covariances, mixture.weights)
    )
    rows = x.astype(np.float64)
    found = []
    for _ in range(3):
        start = time.perf_counter()
        theirs._EMstep(rows, errors)
        found.append(scale * (time.perf_counter() - start))
    return _row("astroML XDGMM, noise", np.array(found), np.full(3, np.median(base)))


def _row(name: str, found: np.ndarray, base: np.ndarray) -> Row:
    ratios = found / base
    low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
    return {"contender": name, "median": float(np.median(found)), "ratio": middle, "ratio_q1": low, "ratio_q3": high}
