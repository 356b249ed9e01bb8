"""
Classes of incomplete rows
==========================

What species is a bird of which not all was measured? A classifier that has a density for each class can answer from any
part of a row: what is there decides, by the densities of just these columns, and nothing is filled in. How that density
is made is another question, and a criterion answers it.
"""

# %%
# Which model of the species
# --------------------------
# 342 penguins of three species. Each species may have a mixture of its own, of one to three components and three kinds
# of covariances. Or, with ``shared=True``, all species are one mixture, and a form such as "tied" is that of all their
# components. BIC chooses within both, and ``bic_`` between them: it prefers one Gaussian for each species, with one
# covariance for all, which is linear discriminant analysis.

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import KNNImputer
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import jaxgmm
from jaxgmm import plot
from jaxgmm.sklearn import MixtureClassifier

N_COMPONENTS = [1, 2, 3]
FORMS = ["full", "tied", "diag"]
N_RESTARTS = 8
N_DRAWS = 3
SHARES = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]

path = Path(__file__).parent / "data" / "penguins.csv"
table = np.loadtxt(path, delimiter=",", skiprows=1, dtype=str)
x, species = table[:, :4].astype(np.float32), table[:, 4]

options = {"forms": FORMS, "n_restarts": N_RESTARTS, "random_state": 0}
own = MixtureClassifier(N_COMPONENTS, **options).fit(x, species)
shared = MixtureClassifier(N_COMPONENTS, shared=True, **options).fit(x, species)
for name, found in (("own", own), ("shared", shared)):
    mixtures = zip(found.classes_, found.n_components_, found.forms_, strict=True)
    print(f"{name:6}  BIC {found.bic_:.0f}  ", ", ".join(f"{kind} {k} {form}" for kind, k, form in mixtures))

# %%
# Birds of which not all was measured
# -----------------------------------
# Entries of the birds held out are taken away at random. The classifier has seen whole birds and is asked about what is
# left of these; scikit-learn's are given birds whose gaps are filled by their nearest neighbours among those they were
# trained with. Where nothing is missing, discriminant analysis is the same model, and makes the same errors.

best = MixtureClassifier(N_COMPONENTS, shared=shared.bic_ < own.bic_, missing="em", **options)
filled = {
    "linear discriminant analysis": make_pipeline(StandardScaler(), KNNImputer(), LinearDiscriminantAnalysis()),
    "random forest": make_pipeline(StandardScaler(), KNNImputer(), RandomForestClassifier(200, random_state=0)),
}
methods = {"densities, by BIC": best, **filled}
rng = np.random.default_rng(0)
wrong = {name: np.zeros((len(SHARES), N_DRAWS)) for name in methods}
for draw in range(N_DRAWS):
    hidden = rng.random(x.shape)
    for train, test in StratifiedKFold(5, shuffle=True, random_state=draw).split(x, species):
        for name, method in methods.items():
            method.fit(x[train], species[train])
            for place, share in enumerate(SHARES):
                seen = np.where(hidden[test] < share, np.nan, x[test])
                wrong[name][place, draw] += np.sum(method.predict(seen) != species[test])
for name, counts in wrong.items():
    errors = " ".join(f"{value:6.1%}" for value in counts.mean(axis=1) / len(x))
    print(f"{name:30} errors {errors}")

# %%
# Where they differ
# -----------------
# On the left, the species in the two directions in which their densities differ most, by ``plot.projection``. On the
# right, what gaps cost.

chosen = min(own, shared, key=lambda found: found.bic_)
densities = chosen.mixtures_
whole = jaxgmm.from_parameters(
    np.concatenate([share * np.asarray(one.weights) for share, one in zip(chosen.priors_, densities, strict=True)]),
    np.concatenate([one.means for one in densities]),
    np.concatenate([one.covariances for one in densities]),
)
figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.6), layout="constrained")
plot.projection(whole, jaxgmm.rows(x), left)
left.set_title(f"{', '.join(chosen.classes_)}: components 0 to {whole.n_components - 1}", loc="left")
for color, (name, counts) in zip(["#0072b2", "#e69f00", "#009e73"], wrong.items(), strict=True):
    right.plot(100 * np.array(SHARES), 100 * counts.mean(axis=1) / len(x), color=color, lw=2, marker="o", label=name)
right.set(xlabel="entries that are missing (%)", ylabel="birds taken for another species (%)", ylim=(0, None))
right.legend(frameon=False)
right.set_title("What gaps cost", loc="left")
plt.show()
