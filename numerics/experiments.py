"""Experiments on the numerics of jaxgmm. Each returns rows of a table; tests state bounds on the same rows.

Both dtypes are compared in one process, so JAX must run with x64 enabled; float32 rows then stay float32 throughout.
"""

import functools
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import jaxgmm
from jaxgmm import Status
from jaxgmm.ground import pytree

FAITHFUL = Path(__file__).parent.parent / "examples" / "data" / "faithful.csv"
STRUCTURES = ("full", "tied", "diag", "spherical")
KEY = jax.random.key(0)


def fitted(x, n_components, form, weights=None, **options):
    """Seeding by k-means, which finds the same groups whatever the dtype draws, then EM to rounding."""
    start = jaxgmm.init(KEY, x, n_components, form, method="kmeans", weights=weights)
    return jaxgmm.fit(start, x, weights, **{"tol": 0, "max_iter": 3000} | options)


def compared(x, n_components, form):
    """Worst relative error of a variance and error of the mean log-likelihood, float32 against float64 on one set."""
    x = np.asarray(x, np.float32)
    single, double = (fitted(x.astype(t), n_components, form) for t in (np.float32, np.float64))
    order = [np.lexsort(np.asarray(result.mixture.means).T) for result in (single, double)]
    a, b = (
        np.asarray(result.mixture.covariances, np.float64)[place]
        for result, place in zip((single, double), order, strict=True)
    )
    # relative to the larger of the component's variances and covariances, in the units of its own columns
    scale = np.sqrt(np.einsum("kii,kjj->kij", b, b))
    n = len(x)
    return float(np.max(np.abs(a - b) / scale)), abs(float(single.log_likelihood) - float(double.log_likelihood)) / n


def offsets():
    """Two unit-variance blobs at -3 and 3 in float32, with a common offset, or offset and scale by column."""
    generator = np.random.default_rng(0)
    blobs = generator.normal(size=(400, 2)) + np.repeat([[-3.0], [3.0]], 200, axis=0)
    data = {f"{offset:g}": blobs + offset for offset in (0.0, 1e3, 1e4, 1e5)}
    data["own: 1e5, 1e-2; scales 1, 1e-6"] = blobs * [1, 1e-6] + [1e5, 1e-2]
    data["own: -1e4, 1e7; scales 1e-1, 1e3"] = blobs * [1e-1, 1e3] + [-1e4, 1e7]
    for name, x in data.items():
        for structure in STRUCTURES:
            variance, likelihood = compared(x, 2, structure)
            yield {"offset": name, "structure": structure, "variance": variance, "mean log-likelihood": likelihood}


def units(dtype):
    """Three blobs in units from tiny to huge: labels and likelihood against those in the original unit."""
    exponents = {np.float32: (-8, -4, 4, 8), np.float64: (-12, -6, 6, 12)}[dtype]
    generator = np.random.default_rng(1)
    x = generator.normal(size=(300, 2)) @ [[1, 0.5], [0, 1]] + np.array([[0, 0], [6, 0], [0, 6]])[np.arange(300) % 3]
    scales = {f"1e{e}": np.full(2, 10.0**e) for e in exponents}
    scales[f"1e{exponents[0]}, 1e{exponents[-1]}"] = 10.0 ** np.array([exponents[0], exponents[-1]])
    for name, scale in scales.items():
        for structure in STRUCTURES:
            if structure == "spherical" and scale[0] != scale[1]:
                continue  # one variance for all columns has no meaning across units
            original, scaled = x.astype(dtype), (x * scale).astype(dtype)
            a, b = (fitted(rows, 3, structure) for rows in (original, scaled))
            shift = float(b.log_likelihood - a.log_likelihood) / len(x) + np.sum(np.log(scale))
            same = np.mean(np.asarray(a.mixture.predict(original)) == np.asarray(b.mixture.predict(scaled)))
            yield {
                "dtype": dtype.__name__,
                "scale": name,
                "structure": structure,
                "same labels": float(same),
                "mean log-likelihood": abs(float(shift)),
                "status": Status(int(b.status)).name,
            }


def tight_fits(regularization=1e-12):
    """Three components of width s in data of spread 1: the rows, and fits of them in float32 and in float64."""
    generator = np.random.default_rng(2)
    labels = np.arange(3000) % 3
    noise = generator.normal(size=(3000, 2)) @ [[1, 0.6], [0, 0.8]]
    centers = np.array([[-1.2, -0.7], [1.1, -0.4], [0.1, 1.3]])[labels]
    for width in (1.0, 0.1, 0.03, 0.01, 3e-3, 1e-3, 3e-4, 1e-4):
        for structure in STRUCTURES:
            x = (centers + width * noise).astype(np.float32)
            results = []
            for dtype in (np.float32, np.float64):
                rows = x.astype(dtype)
                start = jaxgmm.from_responsibilities(rows, np.eye(3)[labels], structure)
                options = {"tol": 0, "max_iter": 5000, "regularization": regularization}
                results.append(jaxgmm.fit(start, rows, **options))
            yield width, structure, x, *results


def tight(regularization=1e-12):
    """How far the fits of `tight_fits` are from each other, and one step of float32 from the end of float64."""
    for width, structure, x, single, double in tight_fits(regularization):
        a, b = (np.asarray(result.mixture.covariances, np.float64) for result in (single, double))
        likelihood = abs(float(single.log_likelihood) - float(double.log_likelihood)) / len(x)
        scale = np.sqrt(np.einsum("kii,kjj->kij", b, b))
        here = jax.tree.map(lambda leaf: leaf.astype(np.float32), double.mixture)
        stepped = jaxgmm.m_step(here, jaxgmm.e_step(here, x), jaxgmm.scale_of(x), regularization).covariances
        yield {
            "width / spread": f"{width:g}",
            "structure": structure,
            "variance": float(np.max(np.abs(a - b) / scale)),
            "mean log-likelihood": likelihood,
            "variance after one step": float(np.max(np.abs(np.asarray(stepped, np.float64) - b) / scale)),
            "status": Status(int(single.status)).name,
        }


def hard_data():
    """Data on which something must give: name to rows and number of components."""
    generator = np.random.default_rng(3)
    normal = generator.normal
    two = np.concatenate([normal(size=(50, 2)), normal(size=(50, 2)) + 8])
    return {
        "three points repeated, k = 5": (np.repeat([[0.0, 0], [1, 0], [0, 1]], 20, axis=0), 5),
        "all rows equal, k = 2": (np.full((30, 2), 7.5), 2),
        "one row, k = 1": (np.array([[1.0, 2.0]]), 1),
        "one row, k = 3": (np.array([[1.0, 2.0]]), 3),
        "far outlier at 1e6 sd": (np.concatenate([two, [[1e6, 1e6]]]), 3),
        "far outlier, k = 1": (np.concatenate([two, [[1e6, 1e6]]]), 1),
        "heavy duplicates": (np.concatenate([two, np.repeat(two[:1], 60, axis=0)]), 3),
        "collinear columns": (np.concatenate([two, two @ [[1.0], [2.0]]], axis=1), 2),
        "constant column": (np.concatenate([two, np.full((100, 1), 3.3)], axis=1), 2),
        "column of zeros": (np.concatenate([two, np.zeros((100, 1))], axis=1), 2),
        "d = 50, n = 20": (normal(size=(20, 50)), 3),
        "k = 200, n = 300": (normal(size=(300, 2)), 200),
        "0/1 column": (np.concatenate([two, (two[:, :1] > 4)], axis=1), 3),
        "integers in one column": (np.round(normal(size=(200, 1)) * 2), 4),
        "starts on one point": (two, 3),
        "starts with an empty component": (two, 3),
    }


def hard_start(name, x, k, structure):
    """From `init`, or with a third component that is a spike on a row or where no row is."""
    if not name.startswith("starts"):
        return jaxgmm.init(KEY, x, k, structure)
    place, width = (x[7], 1e-3) if name == "starts on one point" else ([1e4, 0], 1.0)
    variances = np.array([1.0, 1.0, width**2])
    covariances = {
        "full": variances[:, None, None] * np.eye(2),
        "tied": np.eye(2),
        "diag": variances[:, None] * np.ones(2),
        "spherical": variances,
    }[structure]
    means = np.array([[0, 0], [8, 8], place], x.dtype)
    return jaxgmm.from_parameters([0.4, 0.4, 0.2], means, covariances.astype(x.dtype), structure)


def degenerate(dtype, names=None, structures=STRUCTURES):
    """Status and soundness of fits on hard data."""
    for name, (x, k) in hard_data().items():
        for structure in structures if names is None or name in names else ():
            rows = x.astype(dtype)
            result = jaxgmm.fit(hard_start(name, rows, k, structure), rows)
            leaves = jax.tree.leaves((result.mixture, result.log_likelihood))
            history = np.asarray(result.history)[: int(result.n_iter) + 1]
            yield {
                "data": name,
                "dtype": dtype.__name__,
                "structure": structure,
                "status": Status(int(result.status)).name,
                "degenerate": f"{int(np.sum(result.degenerate_components))} of {k}",
                "iterations": int(result.n_iter),
                "NaN": any(bool(np.any(np.isnan(leaf))) for leaf in leaves),
                "finite": bool(np.isfinite(result.log_likelihood)),
                "monotone": bool(np.all(np.diff(history[1:]) >= 0)),
            }


def far_away(dtype, structures=STRUCTURES):
    """log_prob, responsibilities and gradients at rows up to 1e25 (float32) or 1e200 (float64) standard deviations."""
    distances = {np.float32: (1e4, 1e10, 1e18, 1e25), np.float64: (1e4, 1e25, 1e150, 1e200)}[dtype]
    covariances = {
        "full": np.array([[[1, 0.3], [0.3, 1]], [[4, 0], [0, 0.5]]]),
        "tied": np.eye(2),
        "diag": np.ones((2, 2)),
        "spherical": np.ones(2),
    }
    means = np.array([[0, 0], [1, 1]], dtype)
    for structure, weights in itertools.product(structures, ([0.4, 0.6], [0.0, 1.0])):
        covariance = covariances[structure].astype(dtype)
        mixture = jaxgmm.from_parameters(np.array(weights, dtype), means, covariance, structure)
        for distance in distances:
            x = jnp.asarray(np.array([[distance, 0], [-distance, distance], [0, -distance]], dtype))
            responsibilities = mixture.responsibilities(x)
            outputs = {
                "log_prob": mixture.log_prob(x),
                "responsibilities": responsibilities,
                "log_prob in x": jax.grad(lambda x, m=mixture: jnp.sum(m.log_prob(x)))(x),
                "log_prob in parameters": jax.grad(lambda m, x=x: jnp.sum(m.log_prob(x)))(mixture),
                "responsibilities in x": jax.jacrev(mixture.responsibilities)(x),
                "responsibilities in parameters": jax.jacrev(lambda m, x=x: m.responsibilities(x))(mixture),
            }
            flat = {name: ravel_pytree(value)[0] for name, value in outputs.items()}
            yield {
                "dtype": dtype.__name__,
                "structure": structure,
                "weights": str(weights),
                "distance": f"{distance:g}",
                "log_prob": float(outputs["log_prob"][0]),
                "NaN": ", ".join(name for name, value in flat.items() if not bool(jnp.all(value < jnp.inf))) or "none",
                "sum of responsibilities": float(jnp.max(jnp.abs(jnp.sum(responsibilities, axis=1) - 1))),
            }


POISON = {7: "NaN in a row", 20: "inf in a row", 33: "all rows equal", 41: "all weights 0", 63: "NaN everywhere"}


def lanes(dtype, structures=STRUCTURES):
    """64 data sets under one vmap, 5 of them poisoned: how far the others are from their solo fits."""
    generator = np.random.default_rng(4)
    x = generator.normal(size=(64, 80, 2)) + 5 * (np.arange(80) % 2)[:, None]
    weights = np.ones((64, 80))
    x[7, 3, 0], x[20, 5], x[33], x[63] = np.nan, np.inf, 2.5, np.nan
    weights[41] = 0
    x, weights = jnp.asarray(x, dtype), jnp.asarray(weights, dtype)
    keys = jax.random.split(KEY, 64)

    def pipeline(structure, key, x, weights):
        return jaxgmm.fit(jaxgmm.init(key, x, 2, structure, weights=weights), x, weights)

    for structure in structures:
        one = jax.jit(functools.partial(pipeline, structure))
        together = jax.jit(jax.vmap(functools.partial(pipeline, structure)))(keys, x, weights)
        error, different = 0.0, 0
        for lane in sorted(set(range(64)) - set(POISON)):
            solo = one(keys[lane], x[lane], weights[lane])
            different += int(solo.status != together.status[lane])
            error = max(error, float(jnp.max(jnp.abs(solo.mixture.means - together.mixture.means[lane]))))
        yield {
            "dtype": dtype.__name__,
            "structure": structure,
            "other status": different,
            "means": error,
            "NaN": any(bool(jnp.any(jnp.isnan(leaf))) for leaf in jax.tree.leaves(together.mixture)),
            **{name: Status(int(together.status[lane])).name for lane, name in POISON.items()},
        }


def ridges(n_seeds=40):
    """Fits of Old Faithful with three tied components, float32 and float64 from the same starts, where they differ."""
    x = np.loadtxt(FAITHFUL, delimiter=",", skiprows=1).astype(np.float32)
    for method in ("k-means++", "kmeans", "random_from_data", "random"):
        ends = []
        for seed in range(n_seeds):
            start = jaxgmm.init(jax.random.key(seed), x, 3, "tied", method=method)
            both = [jaxgmm.fit(pytree.cast(start, dtype), x.astype(dtype)) for dtype in (np.float32, np.float64)]
            exact = [float(jaxgmm.log_likelihood(pytree.cast(r.mixture, np.float64), x.astype(float))) for r in both]
            ends.append([*(bool(r.converged) for r in both), exact[1] - exact[0]])
        single, double, ahead = np.transpose(ends)
        yield {
            "starts": method,
            "fits": n_seeds,
            "CONVERGED in float32": int(np.sum(single)),
            "CONVERGED in float64": int(np.sum(double)),
            "float32 ends over 1 nat below": int(np.sum(ahead > 1)),
            "float64 ends over 1 nat below": int(np.sum(ahead < -1)),
            "largest difference": float(np.max(np.abs(ahead))),
        }


def weights(dtype, structures=STRUCTURES):
    """Integer weights against repeated rows from one start, with NaN in absent rows, and in another scale."""
    generator = np.random.default_rng(5)
    x = (generator.normal(size=(200, 2)) + 4 * (np.arange(200) % 2)[:, None]).astype(dtype)
    counts = generator.integers(0, 4, 200)
    repeated = np.repeat(x, counts, axis=0)
    garbage = np.where(counts[:, None] > 0, x, np.nan).astype(dtype)
    for structure in structures:
        start = jaxgmm.init(KEY, x, 2, structure, method="kmeans", weights=counts)
        options = {"tol": 1e-9, "max_iter": 500}
        reference = jaxgmm.fit(start, repeated, **options)
        variants = {
            "integer weights": (x, counts, 1.0),
            "NaN where the weight is 0": (garbage, counts, 1.0),
            "weights times 1e20": (x, counts * 1e20, 1e20),
        }
        for name, (rows, row_weights, unit) in variants.items():
            result = jaxgmm.fit(start, rows, row_weights, **options)
            gap = float(result.log_likelihood) / unit - float(reference.log_likelihood)
            yield {
                "dtype": dtype.__name__,
                "structure": structure,
                "rows": name,
                "means": float(jnp.max(jnp.abs(result.mixture.means - reference.mixture.means))),
                "mean log-likelihood": abs(gap) / len(repeated),
            }
