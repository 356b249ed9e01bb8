"""
A survey with gaps
==================

In a survey of many questions or measurements, few rows have all of them. Leaving out every row with a gap leaves few
rows, and filling gaps with means makes rows that nobody measured. A mixture needs neither: each row counts by what is
known of it, and what the columns tell of each other, in each cluster, says the rest.

The data are 342 penguins of three species in the Palmer archipelago, with four measurements each. Some entries are
removed, first at random and then not, and the species, which no method is told, say what is still found of them.
"""

# %%
# Two ways to lose entries
# ------------------------
# *At random*, every entry has the same chance. *By size*, long bills, long flippers and heavy birds go first, as when a
# scale ends at five kilograms: that an entry is missing then tells of the entry itself, and no method here knows of it.

import csv
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

import jaxgmm
from jaxgmm import plot

N_DRAWS = 3
N_RESTARTS = 10
SHARES = (0.1, 0.2, 0.3, 0.4)  # of the entries that are missing

with open(Path(__file__).parent / "data" / "penguins.csv") as file:
    names, *lines = csv.reader(file)
x = np.array([[float(entry) for entry in line[:4]] for line in lines], np.float32)
species = np.unique([line[4] for line in lines], return_inverse=True)[1]
standard = (x - x.mean(axis=0)) / x.std(axis=0)


def at_random(rng, share):
    return rng.random(x.shape) < share


def by_size(rng, share):
    """So that the share is right, the largest of noisy copies go."""
    noisy = standard + 0.6 * rng.logistic(size=x.shape)
    return noisy > np.quantile(noisy, 1 - share)


def best_fit(rows, weights=None):
    return jaxgmm.fit_restarts(jax.random.key(0), rows, 3, weights=weights, n_restarts=N_RESTARTS).best.mixture


def found_in(rows):
    return best_fit(rows).predict(rows)


def of_complete_rows(gaps):
    """A mixture of the complete rows, asked about all of them."""
    rows = jaxgmm.rows(gaps, missing="nan")
    return best_fit(np.nan_to_num(gaps), np.isfinite(gaps).all(axis=1)).predict(rows)


methods = {
    "gaps as they are": lambda gaps: found_in(jaxgmm.rows(gaps, missing="nan")),
    "complete rows only": of_complete_rows,
    "filled by regressions": lambda gaps: found_in(
        IterativeImputer(max_iter=30, tol=0.01, random_state=0).fit_transform(gaps)
    ),
    "filled by neighbours": lambda gaps: found_in(KNNImputer().fit_transform(gaps)),
    "filled with means": lambda gaps: found_in(SimpleImputer().fit_transform(gaps)),
}

# %%
# What is found of the species
# ----------------------------
# The adjusted Rand index of clusters and species, over all rows: 1 is the same partition, 0 chance. Whatever the
# method, a row with two of its four entries tells less of its species.
#
# Where a fifth or less is removed at random, a fit to the complete rows alone is nearly as good, if it is then asked
# about the rows with gaps: two rows in five are enough for three clusters. Judged by the complete rows alone, in the
# last line, it has the highest index of all, and no answer for the others. Where more is removed, or by size, rows with
# gaps are worth having.

whole = float(jaxgmm.adjusted_rand_index(species, found_in(x)))
print(f"without gaps: {whole:.3f}")
agreement = {}


def note(removal, name, share, rows, labels):
    value = float(jaxgmm.adjusted_rand_index(species[rows], labels[rows]))
    agreement.setdefault((removal, name), {share: [] for share in SHARES})[share].append(value)


for removal in (at_random, by_size):
    for share in SHARES:
        for draw in range(N_DRAWS):
            gaps = np.where(removal(np.random.default_rng(draw), share), np.nan, x)
            for name, labels_of in methods.items():
                labels = np.asarray(labels_of(gaps))
                note(removal.__name__, name, share, np.arange(len(x)), labels)
                if name == "complete rows only":
                    note(removal.__name__, "  of these rows alone", share, np.isfinite(gaps).all(axis=1), labels)
for removal in ("at_random", "by_size"):
    print(f"{removal.replace('_', ' '):24}" + "".join(f"{share:8.0%}" for share in SHARES))
    for name in [*methods, "  of these rows alone"]:
        print(f"{name:24}" + "".join(f"{np.mean(agreement[removal, name][share]):8.3f}" for share in SHARES))

# %%
# What is found of the birds' mass
# --------------------------------
# Means tell more plainly what goes wrong. The mean mass of all penguins, when three entries in ten are missing: what is
# seen, and what the mixture says. Removed at random, both are right. Removed by size, the entries that are seen are too
# light by far. The mixture knows that a bird with long flippers is heavy, and mends a part of that. It cannot mend all:
# among birds that are alike in all that is seen, the heavier ones are missing.

gone = {removal.__name__: removal(np.random.default_rng(0), 0.3) for removal in (at_random, by_size)}
fits = {}
print(f"mean mass of all: {x[:, 3].mean():.0f} g")
for name, missing in gone.items():
    gaps = np.where(missing, np.nan, x)
    fits[name] = best_fit(jaxgmm.rows(gaps, missing="nan"))
    seen, said = np.nanmean(gaps[:, 3]), float(fits[name].mean[3])
    complete = np.isfinite(gaps).all(axis=1)
    print(f"{name.replace('_', ' ')}: {complete.sum()} complete rows; seen {seen:.0f} g, by the mixture {said:.0f} g")

# %%
# The picture
# -----------
# Below, flippers and mass with three in ten entries removed at random: rows that have both entries, by species, and the
# regions that hold 90 % of each component. Filled with means, the rows make a cross, and components follow it.

COLORS = dict(zip(methods, ("#0072b2", "black", "#009e73", "#e69f00", "#d55e00"), strict=True))
figure, axes = plt.subplot_mosaic(
    [["at_random", "by_size"], ["gaps", "means"]], figsize=(11, 8.4), layout="constrained"
)
for removal, title in (("at_random", "Entries removed at random"), ("by_size", "Large entries removed first")):
    axes[removal].axhline(whole, color="0.6", lw=1, ls=":")
    for name, color in COLORS.items():
        values = [np.mean(agreement[removal, name][share]) for share in SHARES]
        axes[removal].plot(100 * np.array(SHARES), values, "o-", color=color, label=name)
    axes[removal].set(xlabel="entries that are missing (%)", ylabel="agreement with the species", ylim=(0, 1))
    axes[removal].set_title(title, loc="left")
axes["by_size"].legend(frameon=False)

gaps = np.where(gone["at_random"], np.nan, x)
filled = SimpleImputer().fit_transform(gaps)
for name, mixture, shown, title in (
    ("gaps", fits["at_random"], gaps, "Gaps as they are"),
    ("means", best_fit(filled), filled, "Filled with means"),
):
    for kind, color in enumerate(("#0072b2", "#d55e00", "#009e73")):
        axes[name].scatter(*shown[species == kind][:, 2:].T, s=9, color=color, alpha=0.6, lw=0)
    plot.ellipses(mixture.marginal([2, 3]), axes[name], levels=[0.9], colors="black", fill=False)
    axes[name].set(xlim=(165, 240), ylim=(2400, 6600), xlabel="flipper length (mm)", ylabel="mass (g)")
    axes[name].set_title(title, loc="left")
plt.show()
