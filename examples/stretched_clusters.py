"""
Stretched clusters: where k-means cuts
======================================

k-means gives each row to the nearest centre. That is right for round groups of one size. Groups that are stretched, as
columns with different units and correlations make them, are cut across, and parts of neighbours are joined. A mixture
learns the shape of each group along with its place.

Shown on generated rows and on the penguins of the Palmer Archipelago. The adjusted Rand index says how well found
groups agree with the known ones: 1 for the same groups, 0 for as much as chance.
"""

# %%
# Three cigars
# ------------
#
# Each generated group is much longer than it is wide.

from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import KMeans

import jaxgmm
from jaxgmm import plot

N_ROWS = 200
N_RESTARTS = 20
COLORS = np.array(["#0072b2", "#d55e00", "#009e73"])

truth = jaxgmm.from_parameters(
    [1.0, 1.0, 1.0],
    [[0.0, 0.0], [2.0, 3.5], [1.0, -3.5]],
    [[[9.0, 3.5], [3.5, 1.7]], [[8.0, 3.0], [3.0, 1.4]], [[7.0, -1.5], [-1.5, 0.6]]],
)
keys = jax.random.split(jax.random.key(0), 3)
drawn = [np.asarray(truth.take(np.array([k])).sample(key, N_ROWS)) for k, key in enumerate(keys)]
cigars = np.concatenate(drawn), np.repeat(np.arange(3), N_ROWS)

# %%
# 342 penguins
# ------------
#
# Length and depth of the bill, length of the flipper, and body mass, of three species. Mass in grams is by far the
# largest number, and in these units k-means sees little else. So it is also given standardised columns, as is usual,
# which helps, but does not make the groups round.

path = Path(__file__).parent / "data" / "penguins.csv"
measured = np.loadtxt(path, delimiter=",", skiprows=1, usecols=range(4))
species, which = np.unique(np.loadtxt(path, delimiter=",", skiprows=1, usecols=4, dtype=str), return_inverse=True)
penguins = measured, which

# %%
# Both on both
# ------------
#
# A mixture of full covariances is the same in all units, so it is given the rows as they are.


def standardised(x):
    return (x - x.mean(axis=0)) / x.std(axis=0)


def nearest_centre(x):
    return KMeans(3, n_init=20, random_state=0).fit_predict(x)


def agreement(found, labels):
    return float(jaxgmm.adjusted_rand_index(found, labels))


found = {}
for name, (x, labels) in {"cigars": cigars, "penguins": penguins}.items():
    cut = nearest_centre(standardised(x))
    mixture = jaxgmm.fit_restarts(jax.random.key(1), x, 3, n_restarts=N_RESTARTS).best.mixture
    found[name] = cut, mixture
    print(f"{name}: adjusted Rand index of k-means {agreement(nearest_centre(x), labels):.2f},", end=" ")
    print(f"on standardised columns {agreement(cut, labels):.2f},", end=" ")
    print(f"of the mixture {agreement(mixture.predict(x), labels):.2f}")

# %%
# Wrongly grouped penguins
# ------------------------
#
# Each found group goes by the species that most of its rows have.

for name, groups in (
    ("k-means", found["penguins"][0]),
    ("mixture", np.asarray(found["penguins"][1].predict(measured))),
):
    counts = np.stack([np.bincount(which[groups == group], minlength=3) for group in range(3)])
    print(f"{name}: {int(counts.sum() - counts.max(axis=1).sum())} of {len(which)} penguins among another species")

# %%
# The picture
# -----------
#
# Known groups, what k-means makes of them, and the mixture with the ellipses that hold half and 95 % of each component.
# Of the penguins two of the four columns are shown, with the ellipses of the mixture's `marginal` in these.


def as_known(groups, labels):
    """The found groups under the numbers of the known ones that they share most rows with."""
    shared = np.stack([np.bincount(labels[groups == group], minlength=3) for group in range(3)])
    return shared.argmax(axis=1)[groups]


figure, axes = plt.subplots(2, 3, figsize=(12, 7), layout="constrained", sharex="row", sharey="row")
for row, (name, (x, labels)) in zip(axes, {"cigars": cigars, "penguins": penguins}.items(), strict=True):
    cut, mixture = found[name]
    learned = np.asarray(mixture.predict(x))
    for ax, groups in zip(row, (labels, cut, learned), strict=True):
        ax.scatter(*x[:, :2].T, s=9, lw=0, alpha=0.7, c=COLORS[as_known(groups, labels)])
    order = np.argsort([labels[learned == group].mean() for group in range(3)])
    plot.ellipses(mixture.marginal([0, 1]).take(order), row[2], colors=list(COLORS))
    row[1].set_title(f"k-means, adjusted Rand index {agreement(cut, labels):.2f}", loc="left")
    row[2].set_title(f"mixture, {agreement(learned, labels):.2f}", loc="left")
axes[0, 0].set_title("three cigars", loc="left")
axes[1, 0].set_title("three species of penguins", loc="left")
for name, color in zip(species, COLORS, strict=True):
    axes[1, 0].plot([], [], "o", color=color, label=name)
axes[1, 0].legend(frameon=False, loc="lower right")
axes[1, 0].set(ylabel="bill depth (mm)")
for ax in axes[1]:
    ax.set_xlabel("bill length (mm)")
plt.show()
