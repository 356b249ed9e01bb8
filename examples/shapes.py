"""
Fourteen shapes
===============

A covariance is a volume, a shape and an orientation. Components may share each of these or have their own, and that is
what makes a mixture of many columns or few rows possible: what is shared is learnt from all rows. Which of them they
share is told by three letters, for volume, shape and orientation: E where it is equal, V where it varies, I where axes
are those of the columns.
"""

# %%
# All of them on one data set
# ---------------------------
# Bill and flipper of 342 penguins, by three components. Three species differ in where they are, and hardly in how they
# vary, so models that share much are the better ones. BIC says by how much.

from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np

import jaxgmm
from jaxgmm import plot

KEY = jax.random.key(0)
N_RESTARTS = 8
RANKS = [1, 2, 3]
LETTERS = ["EII", "VII", "EEI", "VEI", "EVI", "VVI", "EEE", "VEE", "EVE", "VVE", "EEV", "VEV", "EVV", "VVV"]

path = Path(__file__).parent / "data" / "penguins.csv"
x = np.loadtxt(path, delimiter=",", skiprows=1, usecols=(0, 2)).astype(np.float32)
x = (x - x.mean(axis=0)) / x.std(axis=0)

found = {
    name: jaxgmm.fit_restarts(KEY, x, 3, name, n_restarts=N_RESTARTS).best.mixture.sorted(by=0) for name in LETTERS
}
bic = {name: float(jaxgmm.bic(mixture, x)) for name, mixture in found.items()}
least = min(bic.values())

fig, axes = plt.subplots(2, 7, figsize=(11, 3.6), layout="constrained", sharex=True, sharey=True)
for name, ax in zip(LETTERS, axes.T.ravel(), strict=False):
    plot.assignment(found[name], x, ax)
    plot.ellipses(found[name], ax)
    ax.get_legend().remove()
    ax.set_title(f"{name} +{bic[name] - least:.0f}" if bic[name] > least else name, fontsize=9)

# %%
# The numbers of parameters, and what each costs:

for name in sorted(LETTERS, key=bic.get):
    print(f"{name}  {found[name].n_parameters:2} parameters  BIC {bic[name]:.0f}")

# %%
# Many columns, few factors
# -------------------------
# Where columns are many, even one covariance for all is too much. Here forty columns follow from two things that are
# not seen, in two groups of sixty rows. Of low rank, a covariance is what few factors explain, and noise of each
# column.

n, d = 60, 40
rng = np.random.default_rng(1)
z = rng.normal(size=(2, n, 2))
y = np.concatenate([one @ rng.normal(size=(2, d)) + rng.normal(size=d) for one in z])
y += 0.7 * rng.normal(size=y.shape)
ranks = jaxgmm.select(KEY, y.astype(np.float32), [1, 2, 3], [f"lowrank-{q}" for q in RANKS], n_restarts=N_RESTARTS)
print(ranks.to_pandas()[["form", "n_components", "n_parameters", "bic"]].head(4).to_string(index=False))

# %%
# The factors of each row, as far as the row tells them, next to what they were:

mixture = ranks.best.mixture
labels = np.asarray(mixture.predict(y))
scores = np.asarray(jaxgmm.factor_scores(mixture, y))[np.arange(2 * n), labels]
truth = np.concatenate(z)
for label in np.unique(labels):
    own = labels == label
    left, strengths, right = np.linalg.svd(scores[own].T @ truth[own])
    turned = scores[own] @ left @ right
    print(f"component {label}: correlation {np.corrcoef(turned.ravel(), truth[own].ravel())[0, 1]:.2f}")

plt.show()
