"""New processes, from nothing to an answer: what importing and compiling cost somebody who looks once."""

import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks import data
from benchmarks.data import Parameters
from benchmarks.harness import Contender, Row, contest, mean_log_likelihood

# What the programs share: rows, the largest number of components, and a folder for what is kept.
_BEGIN = "import json, sys, numpy as np; x, k, folder = np.load(sys.argv[1]), int(sys.argv[2]), sys.argv[3]\n"
_END = "print(json.dumps([kind] + [np.asarray(part).tolist() for part in found]))"
_OURS = "kind, found = 'full', (m.weights, m.means, m.covariances)\n"
_THEIRS = "kind, found = m.covariance_type, (m.weights_, m.means_, m.covariances_)\n"
_KEEP = "import jaxgmm; jaxgmm.keep_programs(folder)\n"
_FIT = """
import jax, jaxgmm
m = jaxgmm.fit(jaxgmm.init(jax.random.key(0), x, k), x, tol=1e-3).mixture
m.predict(x)
"""
_RESTARTS = """
import jax, jaxgmm
m = jaxgmm.fit_restarts(jax.random.key(0), x, k).best.mixture
"""
_SELECT = """
import jax, jaxgmm
m = jaxgmm.select(jax.random.key(0), x, range(1, k + 1), n_restarts=20).best.mixture
"""
_LOOP = """
from sklearn.mixture import GaussianMixture
models = [GaussianMixture(j, covariance_type=s, n_init={n_init}, random_state=0).fit(x)
          for s in {structures} for j in range(1, k + 1)]
m = min(models, key=lambda model: model.bic(x))
"""
_SEARCH = """
from sklearn.model_selection import GridSearchCV
from {module} import GaussianMixture
wanted = {{"n_components": range(1, k + 1), "covariance_type": ["full", "tied", "diag"]}}
m = GridSearchCV(GaussianMixture(random_state=0), wanted, cv=3).fit(x).best_estimator_
"""
PROGRAMS = {
    "fit": {
        "jaxgmm": _FIT + _OURS,
        "jaxgmm, kept": _KEEP + _FIT + _OURS,
        "sklearn": """
from sklearn.mixture import GaussianMixture
m = GaussianMixture(k, random_state=0).fit(x)
m.predict(x)
"""
        + _THEIRS,
        "gmmx": """
from gmmx import EMFitter, GaussianMixtureModelJax
m = EMFitter(tol=1e-3).fit(x, GaussianMixtureModelJax.from_k_means(x, k, n_init=1, random_state=0)).gmm
m.predict(x)
covariances = np.asarray(m.covariances.values_dense).reshape(k, 2, 2)
kind, found = "full", (m.weights_numpy.reshape(k), m.means_numpy, covariances)
""",
        "tgmm": """
import torch
from tgmm import GaussianMixture
x = torch.from_numpy(x)
m = GaussianMixture(n_components=k, random_state=0, device="cpu").fit(x)
m.predict(x)
kind, found = "full", (m.weights_, m.means_, m.covariances_)
""",
    },
    "fit_restarts": {
        "jaxgmm": _RESTARTS + _OURS,
        "jaxgmm, kept": _KEEP + _RESTARTS + _OURS,
        "sklearn": "from sklearn.mixture import GaussianMixture\nm = GaussianMixture(k, n_init=200).fit(x)\n" + _THEIRS,
    },
    "select": {
        "jaxgmm": _SELECT + _OURS,
        "sklearn": _LOOP.format(structures=data.STRUCTURES, n_init=20) + _THEIRS,
    },
    "grid search": {
        "jaxgmm": _SEARCH.format(module="jaxgmm.sklearn") + _THEIRS,
        "sklearn": _SEARCH.format(module="sklearn.mixture") + _THEIRS,
    },
    "command": {"sklearn": _LOOP.format(structures=("full", "diag"), n_init=20) + _THEIRS},
}
# Different seedings may end in different optima of these small sets.
EQUAL = 1e-2


def points(case: str, quick: bool) -> list[Row]:
    """What is asked, and of how many rows."""
    sizes = {
        "fit": (500, 2, 3),
        "fit_restarts": (1_000, 4, 5),
        "select": (10_000, 4, 10),
        "grid search": (5_000, 7, 12),
        "command": (342, 4, 6),
    }
    every = [{"work": work} | dict(zip("ndk", size, strict=True)) for work, size in sizes.items()]
    return every[:1] if quick else every


def run(point: Row, dtype: type, quick: bool) -> Iterator[Row]:
    """CPU-seconds of processes, in turns; the first of each fills the caches of the disk and is not counted."""
    work, n, d, k = point.values()
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "x.csv"
        x = penguins(table) if work == "command" else data.mixture(n, d, min(k, 5), dtype)[0]
        np.save(table.with_suffix(".npy"), x)
        makers: dict[str, Callable[[], Contender]] = {
            name: lambda name=name, text=text: program(text, table.with_suffix(".npy"), k, Path(folder) / name)
            for name, text in PROGRAMS[work].items()
        }
        if work == "command":
            folders = (Path(folder) / str(number) for number in itertools.count())
            again = Path(folder) / "again"
            commands = {
                "jaxgmm": lambda: command(table, k, lambda: next(folders)),
                "jaxgmm, again": lambda: command(table, k, lambda: again),
            }
            makers = commands | makers
        rows = contest(makers, lambda p: mean_log_likelihood(x, p), budget=0 if quick else 20.0, most=7, equal=EQUAL)
    for row in rows:
        yield row | {"first": None, "compile": None}


def penguins(table: Path) -> np.ndarray:
    """The penguins' measurements, also as the table that the command reads."""
    source = Path(__file__).parents[2] / "examples" / "data" / "penguins.csv"
    rows = np.loadtxt(source, delimiter=",", skiprows=1, usecols=range(4))
    np.savetxt(table, rows, delimiter=",", header="a,b,c,d", comments="")
    return rows


def program(text: str, path: Path, k: int, folder: Path) -> Contender:
    """Import, fit and print, keeping programs in the folder if it keeps any."""
    arguments = ["-c", _BEGIN + text + _END, str(path), str(k), str(folder)]

    def parameters(printed: str) -> Parameters:
        kind, weights, means, covariances = json.loads(printed.splitlines()[-1])
        return Parameters(np.asarray(weights), np.asarray(means), data.dense(covariances, kind, *np.shape(means)))

    return Contender(lambda _: output_of(arguments), parameters, clock=spent)


def command(table: Path, k: int, folder: Callable[[], Path]) -> Contender:
    """The command with its files, in the folder where it keeps programs."""

    def call(_: int) -> Path:
        own = folder()
        own.mkdir(exist_ok=True)
        asked = ["fit", str(table), "--components", f"1:{k}", "--forms", "full,diag"]
        files = ["--out", str(own / "m.npz"), "--assign", str(own / "rows.csv")]
        output_of(["-m", "jaxgmm", *asked, *files], XDG_CACHE_HOME=str(own))
        return own / "m.npz"

    def parameters(path: Path) -> Parameters:
        import jaxgmm
        from benchmarks.ours import parameters_of

        return parameters_of(jaxgmm.load(path, dtype="float32"))

    return Contender(call, parameters, clock=spent)


def output_of(arguments: list[str], **environment: str) -> str:
    """What a new Python prints."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=os.environ | environment)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return done.stdout


def spent() -> float:
    """CPU-seconds of all processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system
