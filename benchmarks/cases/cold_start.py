"""A new process, from nothing to the first fit."""

import json
import subprocess
import sys
from collections.abc import Iterator

import numpy as np

from benchmarks import data
from benchmarks.data import Parameters
from benchmarks.harness import Contender, Row, contest, mean_log_likelihood

_BEGIN = "import json, sys, numpy as np; x = np.load(sys.argv[1]); k = int(sys.argv[2])\n"
PROGRAMS = {
    "jaxgmm": """
import jax, jaxgmm
result = jaxgmm.fit(jaxgmm.init(jax.random.key(0), x, k), x, tol=1e-3)
m = result.mixture
found = m.weights, m.means, m.covariances
""",
    "sklearn": """
from sklearn.mixture import GaussianMixture
m = GaussianMixture(k, random_state=0).fit(x)
found = m.weights_, m.means_, m.covariances_
""",
    "gmmx": """
from gmmx import EMFitter, GaussianMixtureModelJax
m = EMFitter(tol=1e-3).fit(x, GaussianMixtureModelJax.from_k_means(x, k, n_init=1, random_state=0)).gmm
found = m.weights_numpy.reshape(k), m.means_numpy, np.asarray(m.covariances.values_dense).reshape(k, 2, 2)
""",
    "tgmm": """
import torch
from tgmm import GaussianMixture
m = GaussianMixture(n_components=k, random_state=0, device="cpu").fit(torch.from_numpy(x))
found = m.weights_, m.means_, m.covariances_
""",
}
_END = "print(json.dumps([np.asarray(part).tolist() for part in found]))"
# Different seedings may end in different optima of this small set.
EQUAL = 1e-2


def points(case: str, quick: bool) -> list[Row]:
    """The one size."""
    return [{"n": 500, "d": 2, "k": 3}]


def run(point: Row, dtype: type, quick: bool) -> Iterator[Row]:
    """Wall time of processes, in turns; the first of each fills the caches of the disk and is not counted."""
    import tempfile

    n, d, k = point.values()
    x, _ = data.mixture(n, d, k, dtype)
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        np.save(file, x)
        file.flush()
        makers = {name: lambda name=name: process(name, file.name, k) for name in PROGRAMS}
        rows = contest(makers, lambda p: mean_log_likelihood(x, p), budget=0 if quick else 20.0, most=7, equal=EQUAL)
    for row in rows:
        yield row | {"first": None, "compile": None}


def process(name: str, path: str, k: int) -> Contender:
    """Import, fit and print."""
    command = [sys.executable, "-c", _BEGIN + PROGRAMS[name] + _END, path, str(k)]

    def call(_: int) -> str:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        return done.stdout.splitlines()[-1]

    return Contender(call, lambda text: Parameters(*(np.asarray(part) for part in json.loads(text))))
