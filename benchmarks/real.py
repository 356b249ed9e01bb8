"""Small real data sets, and the best likelihoods known for them."""

import csv
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent.parent / "examples" / "data"


def load(name: str) -> np.ndarray:
    """Rows of a data set by name, known labels left out. For `digits` and `cancer` no optima are known."""
    from sklearn import datasets, decomposition

    match name:
        case "iris":
            return datasets.load_iris().data
        case "wine":
            return datasets.load_wine().data
        case "digits":
            return decomposition.PCA(4, random_state=0).fit_transform(datasets.load_digits().data)
        case "cancer":
            return datasets.load_breast_cancer().data[:, [0, 1, 4, 6, 8]]
    with (FOLDER / f"{name}.csv").open() as file:
        rows = list(csv.DictReader(file))
    return np.array([[float(value) for column, value in row.items() if column != "label"] for row in rows])


def best_known() -> dict[tuple[str, str], dict[int, float]]:
    """Total log-likelihood by data set and structure, then by number of components."""
    found: dict[tuple[str, str], dict[int, float]] = {}
    with (FOLDER / "best_known.csv").open() as file:
        for row in csv.DictReader(file):
            optimum = found.setdefault((row["dataset"], row["covariance_type"]), {})
            optimum[int(row["k"])] = float(row["log_likelihood"])
    return found
