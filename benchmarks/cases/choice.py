"""Which number of components and structure BIC chooses, with different keys, and what a sweep costs."""

import time
import warnings
from collections.abc import Iterator

import jax
import numpy as np

import jaxgmm
from benchmarks import data, real
from benchmarks.harness import Row

SETS = ("faithful", "iris", "galaxies", "diabetes", "wine", "penguins")
STRUCTURES = ("full", "tied", "diag", "spherical")
KEYS = 10
LARGEST = 9
SWEEP = {"n": 10_000, "d": 4, "k": 5, "largest": 10, "restarts": 20}


def points(case: str, quick: bool) -> list[Row]:
    """The real data sets, and the sweep over synthetic data."""
    if quick:
        return [{"data": "faithful"}, {"data": "sweep"} | SWEEP | {"n": 500, "largest": 2, "restarts": 4}]
    return [{"data": name} for name in SETS] + [{"data": "sweep"} | SWEEP]


def run(point: Row, dtype: type, quick: bool) -> Iterator[Row]:
    """The choice, or the time."""
    yield from sweep(point, dtype) if point["data"] == "sweep" else choice(point, dtype, quick)


def choice(point: Row, dtype: type, quick: bool) -> Iterator[Row]:
    """What most keys choose, and how many; sklearn's choice by its own BIC over the same models."""
    x = real.load(point["data"]).astype(dtype)
    structures = STRUCTURES if x.shape[1] > 1 else ("full", "tied")
    ks = range(1, 3 if quick else LARGEST + 1)
    options = {"n_restarts": 8} if quick else {}
    chosen = []
    for seed in range(2 if quick else KEYS):
        table = jaxgmm.select(jax.random.key(seed), x, ks, structures, **options)
        chosen.append((table.winner.form, table.winner.n_components))
    most = max(set(chosen), key=chosen.count)
    yield {
        "contender": "jaxgmm",
        "chosen": f"{most[0]} {most[1]}",
        "agreement": chosen.count(most) / len(chosen),
        "others": ", ".join(sorted({f"{s} {k}" for s, k in chosen} - {f"{most[0]} {most[1]}"})),
    }
    if not quick:
        # In float64, as single precision has it raise on some of these.
        wide = x.astype(float)
        scores = {(s, k): sklearn(wide, k, s, 10).bic(wide) for s in structures for k in ks}
        structure, k = min(scores, key=scores.__getitem__)
        yield {"contender": "sklearn", "chosen": f"{structure} {k}"}


def sweep(point: Row, dtype: type) -> Iterator[Row]:
    """Every structure and number of components, compile time included, and again without; sklearn's serial loop."""
    ks, restarts = range(1, point["largest"] + 1), point["restarts"]
    x, _ = data.mixture(point["n"], point["d"], point["k"], dtype, "full")
    compiled: list[str] = []

    def note(event: str, duration: float, **_: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    times, compilations = [], []
    for seed in range(3):
        before, started = len(compiled), time.perf_counter()
        table = jaxgmm.select(jax.random.key(seed), x, ks, STRUCTURES, n_restarts=restarts, n_finalists=4)
        times.append(time.perf_counter() - started)
        compilations.append(len(compiled) - before)
    yield {
        "contender": "jaxgmm",
        "first": times[0],
        "median": float(np.median(times[1:])),
        "compilations": compilations[0],
        "compilations_again": compilations[1],
        "chosen": f"{table.winner.form} {table.winner.n_components}",
        "score": table.winner.bic,
    }
    started = time.perf_counter()
    scores = {(s, k): sklearn(x, k, s, restarts).bic(x) for s in STRUCTURES for k in ks}
    structure, k = min(scores, key=scores.__getitem__)
    took = time.perf_counter() - started
    yield {
        "contender": "sklearn",
        "first": took,
        "median": took,
        "chosen": f"{structure} {k}",
        "score": min(scores.values()),
    }


def sklearn(x: np.ndarray, k: int, structure: str, n_init: int):
    """A fitted `GaussianMixture`, with its own defaults but for the number of starts."""
    from sklearn.mixture import GaussianMixture

    warnings.simplefilter("ignore")
    return GaussianMixture(k, covariance_type=structure, n_init=n_init, random_state=0).fit(x)
