"""The data that contenders are timed on: drawn from known mixtures, or made to look like galaxy photometry."""

from typing import NamedTuple

import numpy as np

STRUCTURES = ("full", "tied", "diag", "spherical")
# Distance between means of two components, in typical standard deviations: neighbours share some rows.
DISTANCE = 4.0


class Parameters(NamedTuple):
    """Parameters of a Gaussian mixture in plain numpy, covariances dense whatever the structure."""

    weights: np.ndarray  # (k,)
    means: np.ndarray  # (k, d)
    covariances: np.ndarray  # (k, d, d)


def compact(covariances: np.ndarray, structure: str) -> np.ndarray:
    """Dense covariances (k, d, d) in the shape that sklearn, tgmm and jaxgmm share for a structure."""
    return {
        "full": lambda: covariances,
        "tied": lambda: covariances[0],
        "diag": lambda: np.diagonal(covariances, axis1=1, axis2=2).copy(),
        "spherical": lambda: covariances[:, 0, 0].copy(),
    }[structure]()


def dense(covariances: np.ndarray, structure: str, k: int, d: int) -> np.ndarray:
    """The inverse of `compact`, in float64."""
    given = np.asarray(covariances, np.float64)
    return {
        "full": lambda: given,
        "tied": lambda: np.broadcast_to(given, (k, d, d)),
        "diag": lambda: given[..., None] * np.eye(d),
        "spherical": lambda: given.reshape(k, 1, 1) * np.eye(d),
    }[structure]()


def truth(generator: np.random.Generator, d: int, k: int, structure: str = "full") -> Parameters:
    """A random mixture of moderately overlapping components: eigenvalues 0.3 to 3, means `DISTANCE` apart."""
    values = np.exp(generator.uniform(np.log(0.3), np.log(3.0), size=(k, d)))
    rotations = np.linalg.qr(generator.normal(size=(k, d, d)))[0]
    covariances = {
        "full": lambda: np.einsum("kij,kj,klj->kil", rotations, values, rotations),
        "tied": lambda: np.broadcast_to((rotations[0] * values[0]) @ rotations[0].T, (k, d, d)),
        "diag": lambda: values[..., None] * np.eye(d),
        "spherical": lambda: values[:, :1, None] * np.eye(d),
    }[structure]()
    means = generator.normal(scale=DISTANCE / np.sqrt(2 * d), size=(k, d))
    return Parameters(generator.dirichlet(np.full(k, 5.0)), means, covariances)


def sample(generator: np.random.Generator, n: int, parameters: Parameters, dtype: type) -> np.ndarray:
    """n rows of a mixture in random order, drawn a block at a time, so that little more than the rows is held."""
    factors = np.linalg.cholesky(parameters.covariances)
    x = np.empty((n, parameters.means.shape[1]), dtype)
    for start in range(0, n, 1 << 16):
        rows = x[start : start + (1 << 16)]
        labels = generator.choice(len(parameters.weights), size=len(rows), p=parameters.weights)
        for component in np.unique(labels):
            mine = labels == component
            noise = generator.normal(size=(np.count_nonzero(mine), x.shape[1]))
            rows[mine] = parameters.means[component] + noise @ factors[component].T
    return x


def near(generator: np.random.Generator, parameters: Parameters, structure: str) -> Parameters:
    """A start for EM some steps away from the truth: means moved by a fifth of a deviation, covariances by a factor."""
    weights = parameters.weights * generator.uniform(0.8, 1.25, parameters.weights.shape)
    deviations = np.sqrt(np.diagonal(parameters.covariances, axis1=1, axis2=2))
    means = parameters.means + 0.2 * deviations * generator.normal(size=parameters.means.shape)
    factors = generator.uniform(0.8, 1.25, (len(weights), 1, 1))
    covariances = parameters.covariances * (factors[0] if structure == "tied" else factors)
    return Parameters(weights / weights.sum(), means, covariances)


def mixture(n: int, d: int, k: int, dtype: type, structure: str = "full") -> tuple[np.ndarray, Parameters]:
    """Rows (n, d) of a random mixture, and parameters near it. The same numbers on every call, up to the dtype."""
    generator = np.random.default_rng([n, d, k, STRUCTURES.index(structure)])
    parameters = truth(generator, d, k, structure)
    return sample(generator, n, parameters, dtype), near(generator, parameters, structure)


def photometry(n: int, dtype: type, n_bands: int = 8) -> np.ndarray:
    """Galaxy photometry in the manner of a survey: (n, 2 n_bands - 1), one magnitude per band and the colours between.

    Four populations (red sequence, blue cloud, dusty, stars) in `n_bands` bands: counts rise steeply towards faint
    magnitudes up to the limit of the survey; each population has a spectral slope, a break at a band that moves with
    redshift, and intrinsic scatter. Noise grows tenfold from bright to faint, so the colours open like a funnel, and
    colours are differences of measurements other than those of the magnitudes (another aperture), so that no column is
    a combination of others.
    """
    generator = np.random.default_rng(7)
    population = generator.choice(4, size=n, p=[0.3, 0.45, 0.15, 0.1])
    faint = 24.5 - generator.exponential(1.3, size=n)
    redshift = np.where(population == 3, 0.0, generator.gamma(3.0, 0.2, size=n))
    slope = np.array([0.28, 0.08, 0.40, 0.18])[population] + 0.03 * generator.normal(size=n)
    height = np.array([1.2, 0.35, 0.6, 0.0])[population] * np.exp(0.15 * generator.normal(size=n))
    bands = np.arange(n_bands)
    place = 1.0 + 3.5 * redshift
    break_ = height[:, None] / (1 + np.exp(2.5 * (bands - place[:, None])))
    # The temperature of stars bends their colours; galaxies keep their slope.
    bend = np.where(population == 3, generator.choice([-0.03, 0.05], size=n), 0.0)[:, None] * (bands - 3.5) ** 2
    magnitudes = faint[:, None] - slope[:, None] * (bands - 3.5) + break_ + bend
    noise = 0.02 + 0.2 * 10 ** (0.4 * (magnitudes - 25.0))
    noise = np.minimum(noise, 0.6)
    total = magnitudes + noise * generator.normal(size=magnitudes.shape)
    aperture = magnitudes + 0.7 * noise * generator.normal(size=magnitudes.shape)
    return np.hstack([total, aperture[:, :-1] - aperture[:, 1:]]).astype(dtype)
