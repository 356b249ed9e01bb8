"""Errors of classifiers by mixtures on rows held out, beside those of scikit-learn's, on the same folds."""

import warnings
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import RepeatedStratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from jaxgmm.covariance.table import NAMES
from jaxgmm.sklearn import MixtureClassifier

DATA = Path(__file__).parent.parent / "examples" / "data"
N_FOLDS, N_REPEATS = 5, 4
# Chosen beforehand, and the same for all data sets.
OPTIONS = {"n_restarts": 4, "random_state": 0}
FORMS = NAMES
OURS = {
    "one Gaussian": MixtureClassifier(**OPTIONS),
    "own": MixtureClassifier(range(1, 4), forms=FORMS, **OPTIONS),
    "shared": MixtureClassifier(range(1, 4), forms=FORMS, shared=True, **OPTIONS),
}
PEERS = {
    "LDA": LinearDiscriminantAnalysis(),
    # Its own limit takes the columns of "breast cancer" for dependent.
    "QDA": QuadraticDiscriminantAnalysis(tol=1e-9),
    "random forest": RandomForestClassifier(500, random_state=0),
}


def sets():
    """Rows, their classes, and what is done to rows first: fitted to those of training alone."""
    for name, load in (("iris", load_iris), ("wine", load_wine), ("breast cancer", load_breast_cancer)):
        yield name, *load(return_X_y=True), StandardScaler()
    table = np.loadtxt(DATA / "penguins.csv", delimiter=",", skiprows=1, dtype=str)
    yield "penguins", table[:, :4].astype(float), table[:, 4], StandardScaler()
    yield "digits, 20 components", *load_digits(return_X_y=True), PCA(20, random_state=0)
    yield "three parts each, drawn", *in_parts(3, 3, 4, 600), StandardScaler()


def in_parts(n_classes, n_parts, d, n):
    """Rows of classes that are so many Gaussians each, anywhere, and their classes."""
    generator = np.random.default_rng(0)
    part = generator.integers(n_classes * n_parts, size=n)
    means = 2 * generator.normal(size=(n_classes * n_parts, d))
    return means[part] + generator.normal(size=(n, d)), part % n_classes


def classification():
    """Errors in per cent, means over all folds, and how far the means of repeats are apart, as standard deviations."""
    for name, x, y, first in sets():
        folds = RepeatedStratifiedKFold(n_splits=N_FOLDS, n_repeats=N_REPEATS, random_state=0)
        errors = {method: [] for method in (*OURS, "lower BIC", *PEERS)}
        for train, test in folds.split(x, y):
            prices = {}
            for method, classifier in (OURS | PEERS).items():
                pipeline = make_pipeline(first, classifier)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ConvergenceWarning)
                    pipeline.fit(x[train], y[train])
                errors[method].append(100 * float(np.mean(pipeline.predict(x[test]) != y[test])))
                if method in ("own", "shared"):
                    prices[method] = pipeline[-1].bic_
            errors["lower BIC"].append(errors[min(prices, key=prices.get)][-1])
        columns = first.n_components if isinstance(first, PCA) else x.shape[1]
        row = {"rows": name, "n x d, classes": f"{len(x)} x {columns}, {len(np.unique(y))}"}
        for method, found in errors.items():
            by_repeat = np.array(found).reshape(N_REPEATS, N_FOLDS).mean(axis=1)
            row[method] = f"{by_repeat.mean():.1f} ± {by_repeat.std(ddof=1):.1f}"
        yield row
