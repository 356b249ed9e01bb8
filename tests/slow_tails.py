"""A slow, plain reference of EM for mixtures of Student-t distributions: numpy and scipy, in float64.

Peel & McLachlan (2000), Stat. Comput. 10, by their equations: no free scale, no acceleration. Degrees of freedom are
given, or solved for in each step, of each component or of all together.
"""

import numpy as np
import scipy.optimize
import scipy.special
import scipy.stats


def log_joint(x, weights, means, scales, nu):
    """Log weight and log-density (n, k)."""
    return np.stack(
        [
            np.log(w) + scipy.stats.multivariate_t(m, s, df=v).logpdf(x)
            for w, m, s, v in zip(weights, means, scales, nu, strict=True)
        ],
        axis=1,
    )


def log_likelihood(x, *parameters):
    return np.sum(scipy.special.logsumexp(log_joint(x, *parameters), axis=1))


def solved(target):
    """The nu at which log(nu / 2) - digamma(nu / 2) is the target."""

    def off(log_nu):
        half = np.exp(log_nu) / 2
        return np.log(half) - scipy.special.digamma(half) - target

    return np.exp(scipy.optimize.brentq(off, np.log(0.05), np.log(1e5), xtol=1e-13))


def em_step(x, weights, means, scales, nu, estimate):
    """`estimate` is None, "each" or "shared"."""
    d = x.shape[1]
    r = scipy.special.softmax(log_joint(x, weights, means, scales, nu), axis=1)
    counts, lack = r.sum(axis=0), np.zeros(len(nu))
    means, scales, nu = means.copy(), scales.copy(), nu.copy()
    for k in range(len(nu)):
        away = x - means[k]
        squares = np.sum(away @ np.linalg.inv(scales[k]) * away, axis=1)
        u = (nu[k] + d) / (nu[k] + squares)
        log_u = np.log(u) + scipy.special.digamma((nu[k] + d) / 2) - np.log((nu[k] + d) / 2)
        lack[k] = r[:, k] @ (u - log_u - 1)
        means[k] = (r[:, k] * u) @ x / (r[:, k] @ u)
        away = x - means[k]
        scales[k] = (away * (r[:, k] * u)[:, None]).T @ away / counts[k]
    if estimate == "each":
        nu = np.array([solved(one) for one in lack / counts])
    elif estimate == "shared":
        nu = np.full(len(nu), solved(lack.sum() / counts.sum()))
    return counts / len(x), means, scales, nu


def fit(x, *parameters, estimate=None, n_steps=3000):
    """Until a step changes nothing, to the digits that are asked for here."""
    for _ in range(n_steps):
        before, parameters = parameters, em_step(x, *parameters, estimate)
        change = np.max(np.abs(np.log(parameters[3]) - np.log(before[3])))
        change = max(change, np.max(np.abs(parameters[1] - before[1])), np.max(np.abs(parameters[2] - before[2])))
        if change < 1e-9:
            break
    return parameters
