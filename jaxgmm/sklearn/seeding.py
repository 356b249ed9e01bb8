"""Which component each row starts in, or how much of each, by the names of scikit-learn's `init_params`.

Rows are drawn with scikit-learn's own functions in its own order, so that a `random_state` means the same start.
"""

from collections.abc import Callable

import numpy as np
from sklearn.cluster import KMeans, kmeans_plusplus
from sklearn.metrics import pairwise_distances_argmin

from jaxgmm.model import seeding as own

Seeding = Callable[[np.random.RandomState, np.ndarray, np.ndarray | None, int], np.ndarray]
"""From randomness, rows (n, d), weights (n,) or None and k, to the component of each row (n,), -1 for none, or its
shares (n, k)."""


def kmeans(random: np.random.RandomState, X: np.ndarray, weights: np.ndarray | None, k: int) -> np.ndarray:
    """The clusters that k-means finds."""
    return KMeans(n_clusters=k, n_init=1, random_state=random).fit(X, sample_weight=weights).labels_


def kmeans_plus_plus(random: np.random.RandomState, X: np.ndarray, weights: np.ndarray | None, k: int) -> np.ndarray:
    """Places of k rows that k-means++ draws."""
    return kmeans_plusplus(X, k, random_state=random, sample_weight=weights)[1]


def random_from_data(random: np.random.RandomState, X: np.ndarray, weights: np.ndarray | None, k: int) -> np.ndarray:
    """Places of k distinct rows."""
    share = None if weights is None else weights.astype(np.float64) / weights.sum(dtype=np.float64)
    return random.choice(len(X), size=k, replace=False, p=share)


def with_nearest(draw: Seeding) -> Seeding:
    """Each row with the nearest of the rows that are drawn."""

    def seeding(random: np.random.RandomState, X: np.ndarray, weights: np.ndarray | None, k: int) -> np.ndarray:
        return pairwise_distances_argmin(X, X[draw(random, X, weights, k)])

    return seeding


def alone(draw: Seeding) -> Seeding:
    """The rows that are drawn, and no others: a component of each, and -1 for the rest."""

    def seeding(random: np.random.RandomState, X: np.ndarray, weights: np.ndarray | None, k: int) -> np.ndarray:
        labels = np.full(len(X), -1)
        labels[draw(random, X, weights, k)] = np.arange(k)
        return labels

    return seeding


def anywhere(random: np.random.RandomState, X: np.ndarray, weights: np.ndarray | None, k: int) -> np.ndarray:
    """Each row a little in every component."""
    shares = random.uniform(size=(len(X), k))
    return shares / shares.sum(axis=1, keepdims=True)


INIT_PARAMS = frozenset(own.SEEDINGS)
"""The names that there are: those of scikit-learn, and of the library's own seedings."""

SEEDINGS: dict[str, Seeding] = {
    "kmeans": kmeans,
    "k-means++": with_nearest(kmeans_plus_plus),
    "random_from_data": with_nearest(random_from_data),
    "random": anywhere,
}
"""Of components that are nothing without rows."""

SEEDINGS_WITH_PRIOR: dict[str, Seeding] = SEEDINGS | {
    "k-means++": alone(kmeans_plus_plus),
    "random_from_data": alone(random_from_data),
}
"""Of components that are something on a single row, or on none."""
