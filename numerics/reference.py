"""EM and the derivative of its fixed point in numpy alone, in float64: by complex steps, in rows without units.

A mixture is a vector: weights, means and covariances one after the other. Nothing here is shared with the library, and
nothing iterates where a matrix can be solved: k, d and n are small.
"""

import numpy as np

TINY_STEP = 1e-30


def packed(weights, means, covariances, structure):
    """The vector of a mixture whose covariances are dense (k, d, d)."""
    kept = {
        "full": covariances,
        "tied": covariances[0],
        "diag": np.einsum("kii->ki", covariances),
        "spherical": covariances[:, 0, 0],
    }[structure]
    return np.concatenate([weights, means.ravel(), kept.ravel()])


def unpacked(theta, k, d, structure):
    """Weights (..., k), means (..., k, d) and dense covariances (..., k, d, d) of vectors (..., p)."""
    lead = theta.shape[:-1]
    weights, means, rest = np.split(theta, [k, k + k * d], axis=-1)
    eye = np.eye(d)
    covariances = {
        "full": lambda: rest.reshape(*lead, k, d, d),
        "tied": lambda: np.repeat(rest.reshape(*lead, 1, d, d), k, axis=-3),
        "diag": lambda: rest.reshape(*lead, k, d)[..., None] * eye,
        "spherical": lambda: rest[..., None, None] * eye,
    }[structure]()
    return weights, means.reshape(*lead, k, d), covariances


def contributions(theta, x, k, structure):
    """What each row adds to the statistics: responsibility times [1, x, x x^T], (n, k, 1 + d + d^2)."""
    d = x.shape[1]
    weights, means, covariances = unpacked(theta, k, d, structure)
    away = x[:, None, :] - means
    precisions = np.linalg.inv(covariances)
    squares = np.einsum("nki,kij,nkj->nk", away, precisions, away)
    joint = np.log(weights) - np.log(np.linalg.det(covariances)) / 2 - squares / 2
    shares = np.exp(joint - np.max(joint.real, axis=1, keepdims=True))
    shares = shares / np.sum(shares, axis=1, keepdims=True)
    features = np.concatenate([np.ones_like(x[:, :1]), x, (x[:, :, None] * x[:, None, :]).reshape(len(x), -1)], axis=1)
    return shares[:, :, None] * features[:, None, :]


def maximised(statistics, d, structure):
    """The vector of the M-step, for statistics (..., k, 1 + d + d^2)."""
    lead = statistics.shape[:-2]
    counts, sums, squares = np.split(statistics, [1, 1 + d], axis=-1)
    means = sums / counts
    moments = squares.reshape(*sums.shape, d) / counts[..., None]
    covariances = moments - means[..., :, None] * means[..., None, :]
    total = np.sum(counts, axis=-2, keepdims=True)
    share = counts / total
    kept = {
        "full": lambda: covariances,
        "tied": lambda: np.sum(share[..., None] * covariances, axis=-3),
        "diag": lambda: np.einsum("...ii->...i", covariances),
        "spherical": lambda: np.einsum("...ii->...", covariances) / d,
    }[structure]()
    return np.concatenate([share[..., 0], means.reshape(*lead, -1), kept.reshape(*lead, -1)], axis=-1)


def step(theta, x, k, structure):
    """One step of EM."""
    return maximised(np.sum(contributions(theta, x, k, structure), axis=0), x.shape[1], structure)


def jacobian(theta, x, k, structure):
    """Of the step in the vector, (p, p)."""
    ways = np.eye(theta.size) * TINY_STEP * 1j
    return np.stack([step(theta + way, x, k, structure).imag for way in ways], axis=1) / TINY_STEP


def rested(theta, x, k, structure, n_steps=20):
    """Where Newton's steps lead from a vector near rest, and how large the last of them was; inf if there is none."""
    for _ in range(n_steps):
        try:
            missing = step(theta, x, k, structure) - theta
            move = np.linalg.solve(np.eye(theta.size) - jacobian(theta, x, k, structure), missing)
        except np.linalg.LinAlgError:
            return theta, np.inf
        theta = theta + move
        if np.max(np.abs(move)) < 1e-12:
            break
    return theta, float(np.max(np.abs(move)))


def derivative(theta, x, k, structure):
    """Of the point of rest in the weights of rows (p, n) and in the rows (p, n, d)."""
    d = x.shape[1]
    each = contributions(theta, x, k, structure)
    total = np.sum(each, axis=0)
    by_weight = maximised(total + 1j * TINY_STEP * each, d, structure).imag / TINY_STEP
    by_row = []
    for way in np.eye(d) * TINY_STEP * 1j:
        moved = contributions(theta, x + way, k, structure).imag
        by_row.append(maximised(total + 1j * moved, d, structure).imag / TINY_STEP)
    away = np.eye(theta.size) - jacobian(theta, x, k, structure)
    rows = np.stack(by_row, axis=1).reshape(-1, theta.size).T
    return np.linalg.solve(away, by_weight.T), np.linalg.solve(away, rows).reshape(-1, *x.shape)
