"""Passes over the data that fits need, plain and accelerated, and whether they stop where they say.

Counts, not times, so the machine does not matter. JAX must run with x64 enabled, as limits are told apart by 1e-6.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

import jaxgmm

STRUCTURES = ("full", "tied", "diag", "spherical")
SHAPES = ((1, 3), (2, 2), (2, 4), (2, 8), (5, 3), (5, 5), (10, 2), (10, 4))
# Distance of a component's mean to the nearest other one, in standard deviations, on average.
GROUPS = {"overlapping": 2.0, "separated": 7.0}
NEAR = 1e-6
# Mean log-likelihoods further apart than this belong to different optima.
APART = 1e-4
LONGEST = 3000


@dataclass(frozen=True)
class Case:
    """Rows drawn from a mixture, and where a fit to them starts."""

    group: str
    structure: str
    k: int
    x: np.ndarray
    start: jaxgmm.Mixture
    name: str


def suite(n: int = 1000, seeds: Iterable[int] = range(2)) -> Iterator[Case]:
    """Overlapping and separated mixtures over all structures, started by k-means++."""
    for (d, k), structure, group, seed in itertools.product(SHAPES, STRUCTURES, GROUPS, seeds):
        if d == 1 and structure in ("full", "spherical"):
            continue  # the same model as diag
        generator = np.random.default_rng([d, k, STRUCTURES.index(structure), seed])
        x = rows_of_mixture(generator, n, d, k, structure, GROUPS[group])
        start = jaxgmm.init(jax.random.key(seed), x, k, structure)
        yield Case(group, structure, k, x, start, f"{group} d={d} k={k} {structure} seed={seed}")


def rows_of_mixture(
    generator: np.random.Generator, n: int, d: int, k: int, structure: str, distance: float
) -> np.ndarray:
    """n rows of k components with the covariances of the structure."""
    means = generator.normal(size=(k, d))
    between = np.linalg.norm(means[:, None] - means, axis=2) + np.diag(np.full(k, np.inf))
    means *= distance / np.mean(np.min(between, axis=1))
    scale = {
        "full": lambda: np.eye(d) + 0.3 * generator.normal(size=(k, d, d)),
        "tied": lambda: np.broadcast_to(np.eye(d) + 0.3 * generator.normal(size=(d, d)), (k, d, d)),
        "diag": lambda: generator.uniform(0.6, 1.4, size=(k, d, 1)) * np.eye(d),
        "spherical": lambda: generator.uniform(0.6, 1.4, size=(k, 1, 1)) * np.eye(d),
    }[structure]()
    labels = generator.choice(k, size=n, p=generator.dirichlet(np.full(k, 5.0)))
    return means[labels] + np.einsum("nij,nj->ni", scale[labels], generator.normal(size=(n, d)))


def compared(cases: Iterable[Case], acceleration: str = "anderson", tol: float = 1e-6) -> Iterator[dict[str, Any]]:
    """For each case, passes to within `NEAR` of the limit, and what was left to gain where `tol` stopped the fit.

    `worse` and `better`: the accelerated fit ended at another optimum than plain EM, more than `APART` away.
    `left` is in units of tol, from the limit of the fit that was stopped.
    """
    for case in cases:
        n = len(case.x)
        path, ends, stops = {}, {}, {}
        for name in (None, acceleration):
            options = {"acceleration": name, "max_iter": LONGEST, "history_size": LONGEST + 1}
            result = jaxgmm.fit(case.start, case.x, tol=0, **options)
            path[name] = np.asarray(result.history)[: int(result.n_iter) + 1] / n
            ends[name] = float(result.log_likelihood) / n
            stops[name] = int(jaxgmm.fit(case.start, case.x, tol=tol, **options).n_iter)
        gap = ends[acceleration] - ends[None]
        same = abs(gap) <= APART
        limit = {name: max(ends.values()) if same else end for name, end in ends.items()}
        goal = max(ends.values()) if same else min(ends.values())
        passes = {
            name: 1 + int(np.argmax(p >= goal - NEAR)) if p[-1] >= goal - NEAR else LONGEST + 1
            for name, p in path.items()
        }
        yield {
            "case": case.name,
            "group": case.group,
            "structure": case.structure,
            "passes EM": passes[None],
            "passes accelerated": passes[acceleration],
            "ratio": passes[None] / passes[acceleration],
            "worse": gap < -APART,
            "better": gap > APART,
            "gap": gap,
            "stopped EM": 1 + stops[None],
            "stopped accelerated": 1 + stops[acceleration],
            "left EM": (limit[None] - path[None][min(stops[None], len(path[None]) - 1)]) / tol,
            "left accelerated": (limit[acceleration] - path[acceleration][stops[acceleration]]) / tol,
        }


def summary(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Geometric means of the ratio by group and structure, optima, and how often less than 1, 3, 10 tol were left."""
    for group, structure in itertools.product(GROUPS, (*STRUCTURES, "all")):
        here = [row for row in rows if row["group"] == group and structure in (row["structure"], "all")]
        if not here:
            continue
        ratio = np.array([row["ratio"] for row in here if not row["worse"]])
        honest = {
            f"left {name} < {factor}": float(np.mean([row[f"left {name}"] < factor for row in here]))
            for name, factor in itertools.product(("EM", "accelerated"), (1, 3, 10))
        }
        yield {
            "group": group,
            "structure": structure,
            "cases": len(here),
            "ratio": float(np.exp(np.mean(np.log(ratio)))),
            "smallest ratio": float(np.min(ratio)),
            "extra passes": max(row["passes accelerated"] - row["passes EM"] for row in here if not row["worse"]),
            "worse": sum(row["worse"] for row in here),
            "better": sum(row["better"] for row in here),
            **honest,
        }


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    measured = []
    for row in compared(suite()):
        measured.append(row)
        print({key: f"{value:.4g}" if isinstance(value, float) else value for key, value in row.items()}, flush=True)
    for row in summary(measured):
        print({key: f"{value:.3g}" if isinstance(value, float) else value for key, value in row.items()})
