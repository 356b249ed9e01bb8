"""Derivatives of fits at the default tolerance against the reference's."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import reference
from sklearn import datasets

import jaxgmm
from jaxgmm import Status

STRUCTURES = ("full", "tied", "diag", "spherical")
DATA = Path(__file__).parent.parent / "examples" / "data"
# All data sets with as many columns, and all numbers of components, share one program: what they lack is absent.
ROOM, MOST, READOUTS = 512, 4, 6


def data_sets():
    """Name to rows: six of two columns, four of four."""
    table = functools.partial(np.genfromtxt, delimiter=",", skip_header=1)
    iris, wine, cancer = (load().data for load in (datasets.load_iris, datasets.load_wine, datasets.load_breast_cancer))
    generator = np.random.default_rng(0)
    return {
        "Old Faithful": table(DATA / "faithful.csv"),
        "diabetes": table(DATA / "diabetes.csv", usecols=(1, 2)),
        "iris, petals": iris[:, 2:],
        "breast cancer": cancer[:ROOM, [0, 1]],
        "three apart": generator.normal(size=(500, 2)) + 6 * np.eye(3, 2)[np.arange(500) % 3],
        "three overlapping": generator.normal(size=(500, 2)) + 2.5 * np.eye(3, 2)[np.arange(500) % 3],
        "penguins": table(DATA / "penguins.csv", usecols=(0, 1, 2, 3)),
        "iris": iris,
        "wine": wine[:, [0, 6, 9, 12]],
        "four columns, heavy tails": generator.standard_t(5, size=(400, 4)) + 3 * np.eye(2, 4)[np.arange(400) % 2],
    }


def flat(mixture, center, scale, xp=np):
    """Weights, means and dense covariances in rows without units."""
    means, covariances = (mixture.means - center) / scale, mixture.covariances / scale / scale[:, None]
    return xp.concatenate([mixture.weights, means.ravel(), covariances.ravel()])


@functools.partial(jax.jit, static_argnames="structure")
def found(x, weights, k, center, scale, readouts, *, structure):
    """A fit, and gradients of readouts of it in the weights of rows and in the rows."""
    start = jaxgmm.init(jax.random.key(1), x, k, structure, max_components=MOST, weights=weights)

    def read(x, weights):
        result = jaxgmm.fit(start, x, weights)
        return readouts @ flat(result.mixture, center, scale, jnp), result

    _, pull, result = jax.vjp(read, x, weights, has_aux=True)
    return result, *jax.vmap(pull)(jnp.eye(READOUTS, dtype=x.dtype))


def expected(result, x, k, center, scale, readouts, structure):
    """The reference's gradients of the same readouts at the point of rest next to a fit, if there is one."""
    mixture = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), result.mixture)
    z, d = (x - center) / scale, x.shape[1]
    weights, means, covariances = np.asarray(mixture.weights), mixture.means, np.asarray(mixture.covariances)
    covariances = covariances / scale / scale[:, None]
    theta = reference.packed(
        weights[:k] / weights[:k].sum(), ((means - center) / scale)[:k], covariances[:k], structure
    )
    theta, last = reference.rested(theta, z, k, structure)
    if not last < 1e-8:
        return None
    by_weight, by_row = reference.derivative(theta, z, k, structure)

    def seen(theta):
        """As `flat` has them, of components that are present; the map is linear."""
        parts = reference.unpacked(theta, k, d, structure)
        rooms = [np.pad(part, [(0, 0), (0, MOST - k)] + [(0, 0)] * (part.ndim - 2)) for part in parts]
        return np.concatenate([room.reshape(len(theta), -1) for room in rooms], axis=1)

    of = readouts @ seen(np.eye(theta.size)).T
    return of @ by_weight, np.einsum("rp,pnd->rnd", of, by_row) / scale


def errors(dtype, names=None, structures=STRUCTURES):
    """For each data set, structure and number of components: errors of the gradients of six readouts of a fit."""
    readouts = {d: np.random.default_rng(d).normal(size=(READOUTS, MOST * (1 + d + d * d))) for d in (2, 4)}
    for name, rows in data_sets().items():
        # What float32 is given is what the reference is given.
        x = np.asarray(rows if names is None or name in names else rows[:0], np.float32).astype(np.float64)
        for structure in structures if len(x) else ():
            for k in range(2, MOST + 1):
                # One variance for all columns is one in other units only if these are the same for all of them.
                scale = np.full(x.shape[1], x.std()) if structure == "spherical" else x.std(axis=0)
                given = x, k, x.mean(axis=0), scale, readouts[x.shape[1]] * of_present(k, x.shape[1])
                room = np.pad(x, [(0, ROOM - len(x)), (0, 0)]), np.pad(np.ones(len(x)), (0, ROOM - len(x)))
                cast = [jnp.asarray(array, dtype) for array in (*room, *given[2:])]
                result, by_row, by_weight = found(*cast[:2], k, *cast[2:], structure=structure)
                if Status(int(result.status)) != Status.CONVERGED:
                    continue
                truth = expected(result, *given, structure)
                if truth is None:
                    continue
                weight, row = truth
                n = len(x)
                off = {}
                for what, actual, truth in (
                    ("weights", np.asarray(by_weight)[:, :n], weight),
                    ("rows", np.asarray(by_row)[:, :n] * x.std(axis=0), row * x.std(axis=0)),
                ):
                    miss, size = (
                        np.sqrt(np.sum(a.reshape(READOUTS, -1) ** 2, axis=1)) for a in (actual - truth, truth)
                    )
                    off[what] = miss / size
                yield {"data": name, "structure": structure, "k": k, "remaining": float(result.remaining), **off}


def of_present(k, d):
    """Which entries of `flat` belong to the first k components. A tied covariance is that of the absent ones too."""
    here = np.arange(MOST) < k
    return np.concatenate([np.repeat(here, size) for size in (1, d, d * d)])


def derivatives(dtype):
    """Shares of gradients within a hundredth of the truth, and those that are NaN."""
    everything = list(errors(dtype))
    for name in data_sets():
        some = [row for row in everything if row["data"] == name]
        yield {"dtype": dtype.__name__, "data": name, "fits": len(some)} | summary(some)
    yield {"dtype": dtype.__name__, "data": "all", "fits": len(everything)} | summary(everything)


def summary(rows):
    """Over all gradients: how many are right, how many are NaN, and how far off the worst of the others is."""
    made = {}
    for what in ("weights", "rows"):
        off = np.concatenate([row[what] for row in rows]) if rows else np.array([np.nan])
        made |= {
            f"in {what}: within 1e-2": f"{100 * np.mean(off < 1e-2):.1f} %",
            f"in {what}: NaN": f"{100 * np.mean(np.isnan(off)):.1f} %",
            f"in {what}: worst": float(np.max(off, where=~np.isnan(off), initial=0)),
        }
    return made
