"""
Classes of a survey
===================

What kinds of people answered a survey? Its questions are of every kind: how often, yes or no, how old, how many, how
far. Each is a column with a family of its own, and a mixture of their products has the kinds of people as components:
latent classes. Few answered all of it, and every answer that was given counts.
"""

# %%
# A survey with gaps
# ------------------
# It is made up, so that the answer is known: how 1500 people get about, in four kinds. Two of ten answers are not
# given.

import jax
import matplotlib.pyplot as plt
import numpy as np

import jaxgmm
from jaxgmm import plot

N = 1500
N_RESTARTS = 4
N_CLASSES = [1, 2, 3, 4, 5, 6]
MISSING = 0.2
YES = ("no", "yes")
LEVELS = ("never", "rarely", "sometimes", "often", "always")
KINDS = ["drivers", "commuters by train", "cyclists", "stay at home"]

rng = np.random.default_rng(0)
kind = rng.choice(4, N, p=[0.4, 0.25, 0.2, 0.15])


def how_often(*middles):
    """Answers around a middle for each kind, from 0 for never to 4 for always."""
    return np.clip(np.round(rng.normal(np.array(middles)[kind], 0.9)), 0, 4)


def yes(*shares):
    return rng.random(N) < np.array(shares)[kind]


columns = {
    "by car": how_often(3.6, 1.2, 0.8, 1.5),
    "by bus": how_often(0.4, 2.0, 1.0, 1.8),
    "by train": how_often(0.6, 3.5, 1.2, 0.3),
    "by bicycle": how_often(0.9, 1.4, 3.6, 0.5),
    "on foot": how_often(1.2, 2.2, 2.5, 2.8),
    "has a car": yes(0.97, 0.5, 0.3, 0.45),
    "has a season ticket": yes(0.05, 0.85, 0.3, 0.15),
    "has children": yes(0.55, 0.35, 0.45, 0.1),
    "age": rng.normal(np.array([46, 39, 34, 71])[kind], 9),
    "trips a week": rng.negative_binomial(8, 8 / (8 + np.array([14, 12, 16, 4])[kind])),
    "longest trip (km)": rng.lognormal(np.log([25, 40, 7, 4])[kind], 0.5),
}
names = list(columns)
answers = np.column_stack(list(columns.values())).astype(np.float32)
given = np.where(rng.random(answers.shape) < MISSING, np.nan, answers)
rows = jaxgmm.rows(given, missing="nan")
complete = np.isfinite(given).all(axis=1)
print(f"{len(given)} people, {complete.sum()} of whom answered everything")

# %%
# A family for each kind of question, and the number of classes by BIC:

form = jaxgmm.Product.form(
    {
        (0, 1, 2, 3, 4): jaxgmm.Categorical.form(5),
        (5, 6, 7): jaxgmm.Bernoulli.form(),
        8: "diag",
        9: jaxgmm.NegativeBinomial.form(),
        10: jaxgmm.LogNormal.form("diag"),
    }
)
table = jaxgmm.select(jax.random.key(0), rows, N_CLASSES, form, n_restarts=N_RESTARTS)
classes = table.best.mixture.sorted()
print(table.to_pandas()[["n_components", "n_parameters", "bic"]].head(3).to_string(index=False))
print(f"{classes.n_components} classes, agreement with the kinds", end=" ")
print(f"{float(jaxgmm.adjusted_rand_index(kind, classes.predict(rows))):.2f}")

# %%
# The same from the complete rows alone, and asked about all of them:

some = jaxgmm.fit_restarts(jax.random.key(0), answers[complete], len(KINDS), form, n_restarts=N_RESTARTS).best.mixture
print(f"from complete rows {float(jaxgmm.adjusted_rand_index(kind, some.predict(rows))):.2f}")

# %%
# What the classes are like
# -------------------------
# ``plot.profiles`` has a line for each class: how far its means are from those of all, in standard deviations, and its
# probabilities of yes; and bars of how often it answered what.

levels = dict.fromkeys(names[:5], LEVELS) | dict.fromkeys(names[5:8], YES)
plot.profiles(classes, names, levels)

# %%
# How well they fit
# -----------------
# Every column by itself: what was answered, and what the classes make of it. Of levels there are two bars, the answers
# and beside them the classes, one on the other.

plot.marginals(classes, rows, names, levels)

# %%
# One who did not say much
# ------------------------
# A class may be told from any part of the answers, and what is missing is told by the class:

someone = np.full((1, len(names)), np.nan, np.float32)
someone[0, names.index("age")], someone[0, names.index("has a car")] = 68, 0
told = np.asarray(classes.responsibilities(jaxgmm.rows(someone, missing="nan")))[0]
print("68 years old and without a car:", ", ".join(f"class {k} {share:.0%}" for k, share in enumerate(told)))
plt.show()
