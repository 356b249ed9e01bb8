"""How many components are found: by a sweep over numbers, and by pruning of one fit that has room for all."""

import time
from pathlib import Path

import jax
import numpy as np
from sklearn.datasets import load_iris, load_wine

import jaxgmm

DATA = Path(__file__).parent.parent / "examples" / "data"
KEY = jax.random.key(0)
ROOM, N_RESTARTS = 10, 24
PRUNING = {
    f"{name}, {rows:g}": jaxgmm.Variational(jaxgmm.Prior(weights, jaxgmm.NormalWishart(pseudo_rows=rows)))
    for rows in (0.01, 1.0)
    for name, weights in (("Dirichlet", jaxgmm.Dirichlet()), ("stick", jaxgmm.StickBreaking(1.0)))
}
ALL_STAY = jaxgmm.Variational(jaxgmm.Prior(jaxgmm.Dirichlet(1.0)))


def read(name, n_columns):
    """Rows of one of the examples' files."""
    return np.loadtxt(DATA / f"{name}.csv", delimiter=",", skiprows=1, usecols=range(n_columns))


def drawn(k, d, n, apart, seed):
    """Rows of k Gaussians whose means are as far `apart` as normal variables of that standard deviation are."""
    generator = np.random.default_rng(seed)
    means, group = apart * generator.normal(size=(k, d)), generator.integers(k, size=n)
    factors = np.eye(d) + 0.4 * generator.normal(size=(k, d, d))
    return means[group] + np.einsum("nij,nj->ni", factors[group], generator.normal(size=(n, d)))


def sets():
    """Rows, and how many groups they have: known where they are drawn, by others where they are measured."""
    yield "faithful", read("faithful", 2), "2"
    yield "galaxies", read("galaxies", 1)[:, None], "3 to 6"
    yield "diabetes", read("diabetes", 3), "3"
    yield "iris", load_iris().data, "2 or 3"
    yield "wine, six columns", load_wine().data[:, [0, 6, 9, 12, 5, 10]], "3"
    yield "one Gaussian", drawn(1, 2, 300, 0, 0), "1"
    yield "three Gaussians", drawn(3, 2, 240, 4, 1), "3"
    yield "five Gaussians", drawn(5, 3, 1000, 5, 2), "5"
    yield "four Gaussians", drawn(4, 6, 400, 3, 3), "4"
    yield "tails, t of 4 degrees", np.random.default_rng(5).standard_t(4, size=(500, 2)), "1"


def timed(call):
    """What a second call returns, and the CPU-seconds that it takes."""
    call()
    begin = time.process_time()
    found = call()
    return found, time.process_time() - begin


def swept(x, **options):
    """The number of components that a criterion chooses of 1 to 10."""
    table = jaxgmm.select(KEY, x, range(1, ROOM + 1), "full", n_restarts=N_RESTARTS, **options)
    return table.winner.n_components


def left(x, objective):
    """How many of ten components have a row's weight at the best optimum of the bound."""
    best = jaxgmm.fit_restarts(KEY, x, ROOM, n_restarts=N_RESTARTS, objective=objective).best
    return int(jaxgmm.credible(best, x, objective).used.sum())


def how_many():
    """Numbers of full components, by two sweeps and by four priors that prune."""
    for name, x, groups in sets():
        by_bic, of_bic = timed(lambda x=x: swept(x))
        by_evidence, of_evidence = timed(lambda x=x: swept(x, objective=ALL_STAY, criterion="evidence"))
        pruned = {
            prior: timed(lambda x=x, objective=objective: left(x, objective)) for prior, objective in PRUNING.items()
        }
        yield {
            "rows": name,
            "n x d": f"{x.shape[0]} x {x.shape[1]}",
            "groups": groups,
            "BIC": by_bic,
            "evidence": by_evidence,
            **{prior: number for prior, (number, _) in pruned.items()},
            "s: BIC": of_bic,
            "s: evidence": of_evidence,
            "s: pruned": float(np.mean([seconds for _, seconds in pruned.values()])),
        }
