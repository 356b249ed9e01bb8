"""A slow, plain reference of mixtures under conjugate priors: EM for the mode, and variational Bayes.

Only numpy and scipy, in float64, one component at a time, on complete rows x (n, d) with weights (n,).

The prior of a component: its mean is N(m, covariance / kappa), and its covariance is inverse-Wishart with nu degrees
and scatter Lambda ("full", "tied"); or each variance is inverse-gamma with shape nu/2 and rate Lambda_jj/2 ("diag",
"tied-diag"), or the one variance with shape nu/2 and rate lambda/2, where lambda is the mean of Lambda's diagonal
("spherical", "tied-spherical"). With kappa = 0 nothing is said of the means. Densities are those of covariances and
variances, not of their inverses or logarithms: so the modes are mclust's (Fraley & Raftery, 2007, Bayesian
regularization for normal mixture estimation and model-based clustering, J. Classification 24).

mclust's EM does the same in its models VVV, EEE, VVI, VII, V and E, but that VVV, V and E keep the divisor of
kappa > 0 where kappa is 0. Its EEI and EII are other estimates: EEI does not shrink the means and divides by n + nu + 2
(n + nu + 1 where kappa is 0), EII leaves the prior's scatter out.
"""

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.special
from scipy.special import betaln, digamma, gammaln, multigammaln
from slow_reference import DATA, Parameters, structured

MCLUST = Path(__file__).parent / "data" / "mclust_priors.csv"
MODELS = {"VVV": "full", "EEE": "tied", "VVI": "diag", "VII": "spherical", "V": "full", "E": "tied"}


class Prior(NamedTuple):
    """mean m (d,), pseudo_rows kappa, degrees nu, scatter Lambda (d, d); the weights are Dirichlet(concentration)."""

    mean: np.ndarray
    pseudo_rows: float
    degrees: float
    scatter: np.ndarray
    concentration: float = 1.0


def is_tied(structure):
    """Whether all components have one covariance."""
    return structure.startswith("tied")


def form(structure):
    """What one covariance is, tied or not: "full", "diag" or "spherical"."""
    return {"tied": "full"}.get(structure, structure.removeprefix("tied-"))


def shaped(scatter, structure):
    """What is known of a scatter matrix (d, d): itself, its diagonal, or its mean (of a prior) times the identity."""
    return structured(scatter, form(structure))


def default_prior(x, n_components, structure, pseudo_rows=0.01):
    """The prior of mclust: mean and variance (divisor n - 1) of all rows, the variance over k^(2/d), d + 2 degrees.

    Of diagonal and spherical covariances the scatter is the mean variance in every column.
    """
    d = x.shape[1]
    scatter = np.cov(x.T).reshape(d, d) / n_components ** (2 / d)
    if form(structure) != "full":
        scatter = np.mean(np.diag(scatter)) * np.eye(d)
    return Prior(x.mean(0), pseudo_rows, d + 2, scatter)


def start(x, n_components, structure):
    """Maximum likelihood given labels: of the rows sorted (stably) by column one, row i is in component i * k // n."""
    labels = np.empty(len(x), int)
    labels[np.argsort(x[:, 0], kind="stable")] = np.arange(len(x)) * n_components // len(x)
    counts, means, scatters = moments(np.eye(n_components)[labels], x)
    if is_tied(structure):
        covariances = [shaped(scatters.sum(0) / len(x), structure)] * n_components
    else:
        covariances = [shaped(scatters[k] / counts[k], structure) for k in range(n_components)]
    return Parameters(counts / len(x), means, np.stack(covariances))


def moments(r, x):
    """Counts (k,), means (k, d) and scatters about them (k, d, d) of rows counted r (n, k) times; 0 of no rows."""
    counts = r.sum(0)
    means, scatters = np.zeros((r.shape[1], x.shape[1])), np.zeros((r.shape[1], x.shape[1], x.shape[1]))
    for k in np.flatnonzero(counts):
        means[k] = r[:, k] @ x / counts[k]
        scatters[k] = (r[:, k, None] * (x - means[k])).T @ (x - means[k])
    return counts, means, scatters


def updated(r, x, prior):
    """Counts (k,), posterior means (k, d) and scatters about the data's and the prior's mean together (k, d, d).

    The scatter of a component is W + kappa n / (kappa + n) b b', with b from the prior's mean to that of the rows.
    """
    counts, means, scatters = moments(r, x)
    for k in np.flatnonzero(counts):
        b, total = means[k] - prior.mean, counts[k] + prior.pseudo_rows
        scatters[k] += prior.pseudo_rows * counts[k] / total * np.outer(b, b)
        means[k] = (counts[k] * means[k] + prior.pseudo_rows * prior.mean) / total
    means[counts == 0] = prior.mean
    return counts, means, scatters


def log_joint(parameters, x):
    """Log weight + log-density (n, k) of each row under each component."""
    out = np.zeros((len(x), len(parameters.means)))
    for k in range(out.shape[1]):
        b = x - parameters.means[k]
        distance = np.sum(b * np.linalg.solve(parameters.covariances[k], b.T).T, 1)
        out[:, k] = -0.5 * (x.shape[1] * np.log(2 * np.pi) + np.linalg.slogdet(parameters.covariances[k])[1] + distance)
    with np.errstate(divide="ignore"):
        return np.log(parameters.weights) + out


def log_likelihood(parameters, x, weights=None):
    """The weighted log-likelihood of the rows."""
    return np.dot(ones(x, weights), scipy.special.logsumexp(log_joint(parameters, x), 1))


def ones(x, weights):
    """The weights of the rows, ones where none are given."""
    return np.ones(len(x)) if weights is None else np.asarray(weights, float)


def mclust():
    """What mclust itself gives: by (data, model, step), step "1" or "mode", the parameters and their log-likelihood."""
    with MCLUST.open() as file:
        table = list(csv.DictReader(line for line in file if not line.startswith("#")))
    out = {}
    for i in range(0, len(table), 4):  # the four quantities of one case
        log_lik, weights, means, covariances = (np.array(row["values"].split(), float) for row in table[i : i + 4])
        (k,), d = weights.shape, len(means) // len(weights)
        parameters = Parameters(weights, means.reshape(k, d), covariances.reshape(k, d, d))
        out[tuple(table[i][name] for name in ("data", "model", "step"))] = parameters, log_lik[0]
    return out


def rows_of(name):
    """The numeric columns of a data set of `mclust`, (n, d)."""
    columns = {"faithful": 2, "diabetes": 3, "galaxies": 1}[name]
    return np.loadtxt(DATA / f"{name}.csv", delimiter=",", skiprows=1, usecols=range(columns), ndmin=2)


# The mode


def em_step(parameters, x, structure, prior, weights=None):
    """One step of EM on the posterior density; a component without rows has the mode of its prior (kappa > 0)."""
    r = scipy.special.softmax(log_joint(parameters, x), 1) * ones(x, weights)[:, None]
    return maximize(r, x, structure, prior)


def maximize(r, x, structure, prior):
    """The mode of the posterior of complete data: rows counted r (n, k) times in each component."""
    (n_components, d), total = (r.shape[1], x.shape[1]), r.sum()
    counts, means, scatters = updated(r, x, prior)
    prior_scatter, with_mean = shaped(prior.scatter, structure), float(prior.pseudo_rows > 0)
    covariances = np.zeros(scatters.shape)
    for k in range(n_components):
        if is_tied(structure):  # the mean's prior counts as one row of every component
            scatter, rows = scatters.sum(0), total + with_mean * n_components
        else:
            scatter, rows = scatters[k], counts[k] + with_mean
        if form(structure) == "full":
            covariances[k] = (prior_scatter + scatter) / (prior.degrees + d + 1 + rows)
        elif form(structure) == "diag":
            covariances[k] = (prior_scatter + shaped(scatter, structure)) / (prior.degrees + 2 + rows)
        else:
            variance = (prior_scatter[0, 0] + np.trace(scatter)) / (prior.degrees + 2 + d * rows)
            covariances[k] = variance * np.eye(d)
    pseudo = prior.concentration - 1
    return Parameters((counts + pseudo) / (total + n_components * pseudo), means, covariances)


def log_prior(parameters, structure, prior):
    """The logarithm of the prior's density up to a constant; without the means' part where kappa is 0."""
    total, (n_components, d) = 0.0, parameters.means.shape
    for k in range(n_components):
        covariance = parameters.covariances[k]
        b, log_det = parameters.means[k] - prior.mean, np.linalg.slogdet(covariance)[1]
        if prior.pseudo_rows > 0:
            total -= 0.5 * (log_det + prior.pseudo_rows * b @ np.linalg.solve(covariance, b))
        if k == 0 or not is_tied(structure):
            power = {"full": prior.degrees + d + 1, "diag": prior.degrees + 2, "spherical": (prior.degrees + 2) / d}
            trace = np.trace(np.linalg.solve(covariance, shaped(prior.scatter, structure)))
            total -= 0.5 * (power[form(structure)] * log_det + trace / (d if form(structure) == "spherical" else 1))
    return total + np.sum(scipy.special.xlogy(prior.concentration - 1, parameters.weights))


def log_posterior(parameters, x, structure, prior, weights=None):
    """The logarithm of the posterior density up to a constant, which EM never lowers."""
    return log_likelihood(parameters, x, weights) + log_prior(parameters, structure, prior)


def fit(parameters, x, structure, prior, weights=None, n_steps=10_000, tol=1e-12):
    """EM until no parameter moves by more than tol in units of the columns' spread; returns also all log-posteriors."""
    history, spread = [log_posterior(parameters, x, structure, prior, weights)], x.std(0)
    for _ in range(n_steps):
        old, parameters = parameters, em_step(parameters, x, structure, prior, weights)
        history.append(log_posterior(parameters, x, structure, prior, weights))
        moved = (
            parameters.weights - old.weights,
            (parameters.means - old.means) / spread,
            (parameters.covariances - old.covariances) / np.outer(spread, spread),
        )
        if max(np.max(np.abs(part)) for part in moved) <= tol:
            break
    return parameters, np.array(history)


# Variational Bayes


class Variational(NamedTuple):
    """The posterior of the parameters: weights and components, of which each mean is N(means, covariance / kappa).

    The precision matrix is Wishart with `degrees` and the inverse of `scatters` as its scale ("full"); or each
    precision is gamma with shape degrees/2 and rate scatters_jj/2 ("diag", "spherical": one of all columns).
    `weights` is alpha (k,) of a Dirichlet, or the parameters (k, 2) of the betas of stick-breaking, of which the last
    is no 1: some weight is left for components after the last.
    """

    weights: np.ndarray
    pseudo_rows: np.ndarray  # (k,)
    means: np.ndarray  # (k, d)
    degrees: np.ndarray  # (k,)
    scatters: np.ndarray  # (k, d, d)


def prior_weights(n_components, prior, sticks=False):
    """The weights' prior in the form of `Variational.weights`: Dirichlet(a, a, ...), or Beta(1, a) of every stick."""
    if sticks:
        return np.stack([np.ones(n_components), np.full(n_components, prior.concentration)], 1)
    return np.full(n_components, float(prior.concentration))


def variational_maximize(r, x, structure, prior, sticks=False):
    """The posterior of the parameters when rows are counted r (n, k) times in each component (kappa > 0)."""
    n_components, d = r.shape[1], x.shape[1]
    counts, means, scatters = updated(r, x, prior)
    weights = prior_weights(n_components, prior, sticks)
    weights = weights + (np.stack([counts, counts.sum() - np.cumsum(counts)], 1) if sticks else counts)
    rows = np.full(n_components, counts.sum()) if is_tied(structure) else counts
    if is_tied(structure):
        scatters = np.stack([scatters.sum(0)] * n_components)
    if form(structure) == "spherical":
        scatters, rows = np.stack([np.trace(scatter) * np.eye(d) for scatter in scatters]), d * rows
    scatters = np.stack([shaped(prior.scatter + scatter, structure) for scatter in scatters])
    return Variational(weights, prior.pseudo_rows + counts, means, prior.degrees + rows, scatters)


def expected_log_weights(weights):
    """E log weight (k,) of a Dirichlet, or of stick-breaking."""
    if weights.ndim == 1:
        return digamma(weights) - digamma(weights.sum())
    taken, left = (digamma(weights) - digamma(weights.sum(1))[:, None]).T
    return taken + np.concatenate([[0.0], np.cumsum(left)[:-1]])


def expected_log_det(degrees, scatter, structure):
    """E log det of a precision matrix."""
    d = len(scatter)
    if form(structure) == "full":
        halves = (degrees - np.arange(d)) / 2
        return np.sum(digamma(halves)) + d * np.log(2) - np.linalg.slogdet(scatter)[1]
    return np.sum(digamma(degrees / 2) - np.log(np.diag(scatter) / 2))


def expected_log_joint(q, x, structure):
    """E log weight + E log-density (n, k) of each row under each component."""
    out, d = np.zeros((len(x), len(q.means))), x.shape[1]
    for k in range(out.shape[1]):
        b = x - q.means[k]
        distance = q.degrees[k] * np.sum(b * np.linalg.solve(q.scatters[k], b.T).T, 1) + d / q.pseudo_rows[k]
        log_det = expected_log_det(q.degrees[k], q.scatters[k], structure)
        out[:, k] = 0.5 * (log_det - d * np.log(2 * np.pi) - distance)
    return expected_log_weights(q.weights) + out


def variational_step(q, x, structure, prior, weights=None):
    """One step of coordinate ascent: the responsibilities given q, then q given them."""
    r = scipy.special.softmax(expected_log_joint(q, x, structure), 1) * ones(x, weights)[:, None]
    return variational_maximize(r, x, structure, prior, q.weights.ndim == 2)


def weights_divergence(q, p):
    """The divergence KL(q || p) of two Dirichlets, or of betas."""
    if q.ndim == 1:
        constants = gammaln(q.sum()) - gammaln(q).sum() - gammaln(p.sum()) + gammaln(p).sum()
        return constants + np.sum((q - p) * expected_log_weights(q))
    logs = digamma(q) - digamma(q.sum(1))[:, None]
    return np.sum(betaln(*p.T) - betaln(*q.T)) + np.sum((q - p) * logs)


def precision_divergence(degrees, scatter, prior, structure):
    """The divergence KL(q || p) of the precision of one covariance."""
    p_scatter = shaped(prior.scatter, structure)
    trace = degrees * np.diag(np.linalg.solve(scatter, p_scatter - scatter))
    if form(structure) == "full":
        log_det = expected_log_det(degrees, scatter, structure)
        return (
            0.5 * ((degrees - prior.degrees) * log_det + np.sum(trace))
            + 0.5 * (degrees * np.linalg.slogdet(scatter)[1] - prior.degrees * np.linalg.slogdet(p_scatter)[1])
            - 0.5 * (degrees - prior.degrees) * len(scatter) * np.log(2)
            - multigammaln(degrees / 2, len(scatter))
            + multigammaln(prior.degrees / 2, len(scatter))
        )
    total = 0.0
    for j in range(1 if form(structure) == "spherical" else len(scatter)):
        shape, p_shape = degrees / 2, prior.degrees / 2
        rate, p_rate = scatter[j, j] / 2, p_scatter[j, j] / 2
        total += (shape - p_shape) * (digamma(shape) - np.log(rate)) + trace[j] / 2
        total += shape * np.log(rate) - gammaln(shape) - p_shape * np.log(p_rate) + gammaln(p_shape)
    return total


def divergence(q, structure, prior):
    """The divergence KL(q || prior) of all parameters."""
    n_components, d = q.means.shape
    total = weights_divergence(q.weights, prior_weights(n_components, prior, q.weights.ndim == 2))
    for k in range(n_components):
        ratio, b = prior.pseudo_rows / q.pseudo_rows[k], q.means[k] - prior.mean
        distance = q.degrees[k] * b @ np.linalg.solve(q.scatters[k], b)
        total += 0.5 * (d * (ratio - 1 - np.log(ratio)) + prior.pseudo_rows * distance)
        if k == 0 or not is_tied(structure):
            total += precision_divergence(q.degrees[k], q.scatters[k], prior, structure)
    return total


def bound(q, x, structure, prior, weights=None):
    """The lower bound of the log-evidence, all constants included, at q and the best responsibilities given q."""
    joint = expected_log_joint(q, x, structure)
    return np.dot(ones(x, weights), scipy.special.logsumexp(joint, 1)) - divergence(q, structure, prior)


def variational_fit(q, x, structure, prior, weights=None, n_steps=10_000, tol=1e-12):
    """Coordinate ascent until the bound gains no more than tol of itself; returns q and all bounds."""
    history = [bound(q, x, structure, prior, weights)]
    for _ in range(n_steps):
        q = variational_step(q, x, structure, prior, weights)
        history.append(bound(q, x, structure, prior, weights))
        if history[-1] - history[-2] <= tol * abs(history[-1]):
            break
    return q, np.array(history)
