"""A slow, plain reference of EM for Gaussian and Student-t mixtures of rows that are only partly known.

Only numpy and scipy, in float64, one row and one component at a time. Of row i are known: its values, which of them are
seen, the covariance of the noise added to its true value (an infinite variance is a gap), its weight, its label (-1 is
unknown) and a log-evidence of each component, which is added to the log-joint and not normalised.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.special
from sklearn.datasets import load_iris, load_wine

STRUCTURES = ("full", "tied", "diag", "spherical", "tied-diag", "tied-spherical")
DATA = Path(__file__).parent.parent / "examples" / "data"


class Parameters(NamedTuple):
    """A mixture: weights (k,), means (k, d), covariances (k, d, d), and of a Student-t mixture its fixed dof (k,).

    For Student-t components `covariances` are the scale matrices.
    """

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    dof: np.ndarray | None = None


@dataclass
class Rows:
    """What is known of n rows; what is left out is: all but nan seen, no noise, weights of one, nothing else known."""

    x: np.ndarray
    seen: np.ndarray | None = None
    noise: np.ndarray | None = None
    weights: np.ndarray | None = None
    labels: np.ndarray | None = None
    evidence: np.ndarray | None = None

    def __post_init__(self):
        self.x = np.asarray(self.x, float)
        n = len(self.x)
        self.seen = ~np.isnan(self.x) if self.seen is None else np.asarray(self.seen, bool)
        self.weights = np.ones(n) if self.weights is None else np.asarray(self.weights, float)
        self.labels = np.full(n, -1) if self.labels is None else np.asarray(self.labels)

    def noise_of(self, i):
        """The noise of row i, or None."""
        return None if self.noise is None else self.noise[i]


class Posterior(NamedTuple):
    """One row under one component, with m and S its mean and covariance (scale matrix), o the columns seen."""

    size: int  # the number of columns seen, d_o
    log_det: float  # of A = (S + N)_oo
    distance: float  # q = (x_o - m_o)' A^-1 (x_o - m_o)
    shift: np.ndarray  # b = S_.o A^-1 (x_o - m_o), so that E[true value | seen] = m + b
    spread: np.ndarray  # C = S - S_.o A^-1 S_o.


def posterior(x, seen, noise, mean, covariance):
    """The posterior of one row under one component; noise is None, (d,) or (d, d)."""
    d = len(mean)
    noise = np.zeros((d, d)) if noise is None else np.asarray(noise, float)
    noise = np.diag(noise) if noise.ndim == 1 else noise
    o = np.flatnonzero(seen & np.isfinite(np.diag(noise)))
    if len(o) == 0:
        return Posterior(0, 0.0, 0.0, np.zeros(d), covariance.copy())
    a = covariance[np.ix_(o, o)] + noise[np.ix_(o, o)]
    difference = x[o] - mean[o]
    solved = np.linalg.solve(a, difference)
    spread = covariance - covariance[:, o] @ np.linalg.solve(a, covariance[o, :])
    spread = (spread + spread.T) / 2
    return Posterior(len(o), np.linalg.slogdet(a)[1], difference @ solved, covariance[:, o] @ solved, spread)


def log_density(x, seen, noise, means, covariances, dof=None):
    """Log-density (n, k) of the seen values of each row under each component; 0 for a row with nothing seen."""
    out = np.zeros((len(x), len(means)))
    for i in range(len(x)):
        for k in range(len(means)):
            p = posterior(x[i], seen[i], None if noise is None else noise[i], means[k], covariances[k])
            if dof is None:
                out[i, k] = -0.5 * (p.size * np.log(2 * np.pi) + p.log_det + p.distance)
            else:
                if noise is not None:
                    raise ValueError("noise of Student-t components is not defined here")
                half = (dof[k] + p.size) / 2
                out[i, k] = scipy.special.gammaln(half) - scipy.special.gammaln(dof[k] / 2) - 0.5 * p.log_det
                out[i, k] -= p.size / 2 * np.log(np.pi * dof[k]) + half * np.log1p(p.distance / dof[k])
    return out


def log_joint(parameters, rows):
    """Log-joint (n, k): log weight + log-density + evidence, and -inf of all components but a known label."""
    density = log_density(rows.x, rows.seen, rows.noise, parameters.means, parameters.covariances, parameters.dof)
    with np.errstate(divide="ignore"):
        out = np.log(parameters.weights) + density
    if rows.evidence is not None:
        out = out + rows.evidence
    for i, label in enumerate(rows.labels):
        if label >= 0:
            out[i, np.arange(out.shape[1]) != label] = -np.inf
    return out


def log_likelihood(parameters, rows):
    """The weighted log-likelihood of the rows; a row of weight 0 counts for nothing."""
    total = 0.0
    for weight, joint in zip(rows.weights, log_joint(parameters, rows), strict=True):
        if weight > 0:
            total += weight * scipy.special.logsumexp(joint)
    return total


def responsibilities(parameters, rows):
    """Probabilities (n, k) of the components given what is known of a row; all 0 where no component is possible."""
    joint = log_joint(parameters, rows)
    out = np.zeros(joint.shape)
    for i in range(len(joint)):
        if np.max(joint[i]) > -np.inf:
            out[i] = scipy.special.softmax(joint[i])
    return out


def structured(scatter, structure):
    """The covariance of a structure (its part that is not about tying) nearest to a mean scatter."""
    if structure in ("diag", "tied-diag"):
        return np.diag(np.diag(scatter))
    if structure in ("spherical", "tied-spherical"):
        return np.mean(np.diag(scatter)) * np.eye(len(scatter))
    return (scatter + scatter.T) / 2


def floored(covariance, floor, structure):
    """The covariance raised where it is below diag(floor): eigenvalues in units of the floor are at least 1."""
    if floor is None or not np.any(floor):
        return covariance
    if structure in ("spherical", "tied-spherical"):
        return max(covariance[0, 0], np.max(floor)) * np.eye(len(covariance))
    root = np.sqrt(np.broadcast_to(floor, len(covariance)))
    values, vectors = np.linalg.eigh(covariance / np.outer(root, root))
    if values[0] >= 1:
        return covariance
    return (vectors * np.maximum(values, 1)) @ vectors.T * np.outer(root, root)


def em_step(parameters, rows, structure, floor=None, expanded=False):
    """One exact EM step on the likelihood of what is seen; `expanded` is PX-EM, of Student-t mixtures only.

    A component of no responsibility keeps its mean and covariance.
    """
    n, d = rows.x.shape
    n_components = len(parameters.means)
    r = responsibilities(parameters, rows) * rows.weights[:, None]
    means, covariances = parameters.means.copy(), parameters.covariances.copy()
    scatters = np.zeros((n_components, d, d))
    sum_r, sum_ru = np.zeros(n_components), np.zeros(n_components)
    for k in range(n_components):
        terms = []  # of each row: its weight times responsibility r, its precision u, b and C
        for i in range(n):
            if r[i, k] > 0:
                p = posterior(rows.x[i], rows.seen[i], rows.noise_of(i), parameters.means[k], parameters.covariances[k])
                dof = np.inf if parameters.dof is None else parameters.dof[k]
                u = 1.0 if dof == np.inf else (dof + p.size) / (dof + p.distance)
                terms.append((r[i, k], u, p.shift, p.spread))
        if not terms:
            continue
        sum_r[k] = sum(r_i for r_i, _, _, _ in terms)
        sum_ru[k] = sum(r_i * u for r_i, u, _, _ in terms)
        shift = sum(r_i * u * b for r_i, u, b, _ in terms) / sum_ru[k]
        means[k] = parameters.means[k] + shift
        scatters[k] = sum(r_i * (u * np.outer(b - shift, b - shift) + c) for r_i, u, b, c in terms)
    divisor = sum_r
    if structure in ("tied", "tied-diag", "tied-spherical"):
        divisor = np.full(n_components, sum_r.sum())
        scatters = np.stack([scatters.sum(0)] * n_components)
        if expanded:  # one scale of all u, whose laws differ between components in their dof
            divisor = divisor * (parameters.dof @ sum_ru) / (parameters.dof @ sum_r)
    elif expanded:
        divisor = sum_ru
    for k in range(n_components):
        if divisor[k] > 0:
            covariances[k] = floored(structured(scatters[k] / divisor[k], structure), floor, structure)
    return Parameters(r.sum(0) / r.sum(), means, covariances, parameters.dof)


def fit(parameters, rows, structure, n_steps=100, tol=0.0, floor=None, expanded=False):
    """EM until the log-likelihood per unit of weight gains less than tol; returns the parameters and all values."""
    history = [log_likelihood(parameters, rows)]
    for _ in range(n_steps):
        parameters = em_step(parameters, rows, structure, floor, expanded)
        history.append(log_likelihood(parameters, rows))
        if history[-1] - history[-2] < tol * rows.weights.sum():
            break
    return parameters, np.array(history)


def conditional(parameters, rows):
    """Mean (n, d) and covariance (n, d, d) of the true values of each row, given all that is known of it.

    Of Student-t components, nan where the covariance of a component is not finite (dof + columns seen <= 2).
    """
    n, d = rows.x.shape
    r = responsibilities(parameters, rows)
    mean, covariance = np.zeros((n, d)), np.zeros((n, d, d))
    for i in range(n):
        of_components, second = np.zeros((len(r[i]), d)), np.zeros((d, d))
        for k in np.flatnonzero(r[i]):
            m, s = parameters.means[k], parameters.covariances[k]
            p = posterior(rows.x[i], rows.seen[i], rows.noise_of(i), m, s)
            of_components[k] = m + p.shift
            factor = 1.0
            if parameters.dof is not None:
                left = parameters.dof[k] + p.size - 2
                factor = (parameters.dof[k] + p.distance) / left if left > 0 else np.nan
            second += r[i, k] * factor * p.spread
        mean[i] = r[i] @ of_components
        for k in range(len(r[i])):
            second += r[i, k] * np.outer(of_components[k] - mean[i], of_components[k] - mean[i])
        covariance[i] = second
    return mean, covariance


def start(x, n_components, seed, structure="full", dof=None):
    """A start from complete data: means at random rows, the covariance of all data, equal weights."""
    rng = np.random.default_rng(seed)
    covariance = structured(np.cov(x.T, bias=True).reshape(x.shape[1], x.shape[1]), structure)
    means = x[rng.choice(len(x), n_components, replace=False)].astype(float)
    dof = None if dof is None else np.broadcast_to(np.asarray(dof, float), n_components).copy()
    return Parameters(np.full(n_components, 1 / n_components), means, np.stack([covariance] * n_components), dof)


def cases(folder=DATA):
    """Five small data sets without gaps by name; `folder` holds faithful.csv and penguins.csv."""
    rng = np.random.default_rng(20)
    centres = np.array([[0.0, 0, 0, 0, 0], [3, -2, 1, 0, 2], [-2, 3, 0, 3, -1]])
    roots = np.eye(5) + 0.4 * rng.normal(size=(3, 5, 5))
    component = rng.choice(3, 300, p=[0.5, 0.3, 0.2])
    wine = load_wine().data
    return {
        "faithful": np.loadtxt(Path(folder) / "faithful.csv", delimiter=",", skiprows=1),
        "penguins": np.loadtxt(Path(folder) / "penguins.csv", delimiter=",", skiprows=1, usecols=range(4)),
        "iris": load_iris().data.astype(float),
        "wine": (wine - wine.mean(0)) / wine.std(0),
        "synthetic": centres[component] + np.einsum("nij,nj->ni", roots[component], rng.normal(size=(300, 5))),
    }


def gaps(x, share, seed):
    """What is seen (n, d) when a share of the entries is missing at random, at least one entry of each row seen."""
    rng = np.random.default_rng(seed)
    seen = rng.random(x.shape) >= share
    seen[np.arange(len(x)), rng.integers(x.shape[1], size=len(x))] |= ~seen.any(1)
    return seen


def noises(x, kind, seed):
    """Noise in units of the columns' spread: "diag" and "partial" variances (n, d), or "full" covariances (n, d, d).

    Of "partial" half of the rows have no noise and the others some infinite variances, but never all. On values to
    which no such noise was added, the likelihood may be highest at a singular covariance: see `noisy`.
    """
    rng = np.random.default_rng(seed)
    (n, d), scale = x.shape, x.std(0)
    if kind == "full":
        root = 0.4 * rng.normal(size=(n, d, d)) / np.sqrt(d) * scale[:, None]
        return root @ root.transpose(0, 2, 1) + 0.01 * np.diag(scale**2)
    variances = (scale * rng.uniform(0.1, 0.6, size=(n, d))) ** 2
    if kind == "partial":
        variances[~gaps(x, 0.25, seed + 1)] = np.inf
        variances[rng.permutation(n)[: n // 2]] = 0.0
    elif kind != "diag":
        raise ValueError(kind)
    return variances


def noisy(x, noise, seed):
    """The values x with a draw of their noise added, but where it is infinite."""
    rng = np.random.default_rng(seed)
    if noise.ndim == 2:
        return x + np.sqrt(np.where(np.isfinite(noise), noise, 0.0)) * rng.normal(size=x.shape)
    return x + np.stack([rng.multivariate_normal(np.zeros(x.shape[1]), v) for v in noise])
