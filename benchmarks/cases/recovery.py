"""How often each criterion finds the number of components that the data were drawn from. Shares, not times."""

import warnings
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

import jaxgmm
from benchmarks import data
from benchmarks.data import Parameters
from benchmarks.harness import Row

COMPONENTS = (2, 4, 6, 8)
LARGEST = 10
# Distance between means of two components, in typical standard deviations.
SEPARATIONS = {"hard": 3.0, "medium": 4.5, "easy": 7.0}
ROWS = (200, 1000, 5000)
COLUMNS = (2, 5, 10)
REPEATS = 4
RESTARTS = 12
FOLDS = 5
# Cross-validation fits every candidate five times more, so it is left out where data are larger than this.
MOST_NUMBERS_HELD_OUT = 2000


def points(case: str, quick: bool) -> list[Row]:
    """One process for each number of columns and of rows."""
    found = [{"d": d, "n": n} for n in ROWS for d in COLUMNS]
    return found[:1] if quick else found


def run(point: Row, dtype: type, quick: bool) -> Iterator[Row]:
    """Full covariances, K = 1 … 10, with restarts; sklearn with one start, its default."""
    n, d = point["n"], point["d"]
    for separation in list(SEPARATIONS)[: 1 if quick else None]:
        for k in COMPONENTS[: 1 if quick else None]:
            sets = [drawn(n, d, k, SEPARATIONS[separation], seed, dtype) for seed in range(2 if quick else REPEATS)]
            chosen = ours(np.stack(sets), 3 if quick else LARGEST)
            chosen["sklearn, bic"] = [sklearn(x, 3 if quick else LARGEST) for x in sets]
            for name, values in chosen.items():
                found = [int(value) for value in values]
                share = float(np.mean(np.array(found) == k))
                yield {"contender": name, "k": k, "separation": separation, "chosen": found, "found": share}


def drawn(n: int, d: int, k: int, separation: float, seed: int, dtype: type) -> np.ndarray:
    """Rows of a random mixture, standardised."""
    generator = np.random.default_rng([n, d, k, seed])
    truth = data.truth(generator, d, k)
    truth = Parameters(truth.weights, truth.means * (separation / data.DISTANCE), truth.covariances)
    x = data.sample(generator, n, truth, np.float64)
    return ((x - x.mean(axis=0)) / x.std(axis=0)).astype(dtype)


def ours(xs: np.ndarray, largest: int) -> dict[str, np.ndarray]:
    """For each criterion the number of components it chooses in each data set."""
    sets, n, d = xs.shape
    ks = np.tile(np.arange(1, largest + 1), sets)
    options = {"max_components": largest, "n_restarts": RESTARTS, "history_size": 2, "chunk_size": 4}
    every = np.repeat(xs, largest, axis=0)
    fits = jaxgmm.fit_many(jax.random.key(0), every, ks, "full", **options)
    regular = np.take_along_axis(np.asarray(fits.regular), np.asarray(fits.winner)[:, None], 1)[:, 0]
    scores = {name: criterion(name, fits.best.mixture, every) for name in ("aic", "aicc", "bic", "icl")}
    if n * d <= MOST_NUMBERS_HELD_OUT:
        scores["cv"] = np.zeros(len(every))
        folds = np.random.default_rng(0).permutation(np.arange(n) % FOLDS)
        for fold in range(FOLDS):
            inside = np.broadcast_to((folds != fold).astype(xs.dtype), every.shape[:2])
            parts = jaxgmm.fit_many(jax.random.key(1 + fold), every, ks, "full", weights=inside, **options)
            scores["cv"] -= np.asarray(held_out(parts.best.mixture, every, 1 - inside))
    return {
        name: 1 + np.argmin(np.where(regular, values, np.inf).reshape(sets, largest), axis=1)
        for name, values in scores.items()
    }


def criterion(name: str, mixtures: jaxgmm.Mixture, xs: np.ndarray) -> np.ndarray:
    """Of every mixture and its data set."""
    function = jax.jit(lambda given: jax.lax.map(lambda one: getattr(jaxgmm, name)(*one), given))
    return np.asarray(function((mixtures, jnp.asarray(xs))))


@jax.jit
def held_out(mixtures: jaxgmm.Mixture, xs: jax.Array, weights: jax.Array) -> jax.Array:
    """Log-likelihood of the rows with weight."""
    return jax.lax.map(lambda given: jaxgmm.log_likelihood(*given), (mixtures, xs, weights))


def sklearn(x: np.ndarray, largest: int) -> int:
    """The number of components with the least BIC, all else by default."""
    from sklearn.mixture import GaussianMixture

    warnings.simplefilter("ignore")
    return 1 + int(np.argmin([GaussianMixture(k, random_state=0).fit(x).bic(x) for k in range(1, largest + 1)]))
