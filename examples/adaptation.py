"""
A background mixture adapted to classes
=======================================

How much can be learned from a handful of rows? A mixture of its own for each class needs dozens. But classes have much
in common, and a mixture of all rows, whatever their class, knows it already: where rows are at all, and how wide groups
are there. So speaker recognition has long fitted one *background* mixture to all speakers, and adapted it to the few
seconds that there are of one of them (Reynolds, Quatieri and Dunn, 2000).

With n_k rows of a class in component k, and c_k their mean, the adapted mean is (n_k c_k + r m_k) / (n_k + r): that of
the background counts for r rows, the *relevance factor*. It is one step of EM towards the mode of a posterior, under a
prior of its own for each component, about what the background says.
"""

# %%
# A background without labels
# ---------------------------
# Scikit-learn's handwritten digits, by sixteen principal components of one half of them. No label is used yet.

import dataclasses

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import jaxgmm
from jaxgmm import plot

N_COLUMNS = 16
N_COMPONENTS = 32
N_DRAWS = 10
N_RESTARTS = 4
SIZES = (1, 2, 5, 10, 20, 50)  # rows of each class
RELEVANCE = 8.0
SHOWN = 0  # a digit
BLUE, VERMILION, GREEN, PINK = "#0072b2", "#d55e00", "#009e73", "#cc79a7"

pixels, digits = load_digits(return_X_y=True)
x, test, y, truth = train_test_split(pixels, digits, test_size=0.5, stratify=digits, random_state=0)
center = x.mean(axis=0)
turned = np.linalg.svd(x - center, full_matrices=False)[2][:N_COLUMNS].T
x, test = (jnp.asarray((of - center) @ turned, jnp.float32) for of in (x, test))

found = jaxgmm.fit_restarts(jax.random.key(0), x, N_COMPONENTS, "diag", n_restarts=N_RESTARTS, regularization=0.01)
background = found.best.mixture

# %%
# Adaptation
# ----------
# `e_step` has what the rows of a class say: how many each component has, and the sum of how far they are from its mean.
# Where means alone are adapted, as for speakers, weights and covariances stay those of the background. Weights may be
# adapted too; those of the background count for one row in all.


def adapted(rows, weights, with_weights):
    """The background, moved towards these rows."""
    statistics = jaxgmm.e_step(background, rows, weights)
    moved = statistics.sums.first / (statistics.counts + RELEVANCE)[:, None]
    components = dataclasses.replace(background.components, means=background.means + moved)
    shares = (statistics.counts + background.weights) / (statistics.n + 1)
    return jaxgmm.Mixture(jnp.where(with_weights, jnp.log(shares), background.log_weights), components)


# %%
# Draws, numbers of rows and classes are axes of one array. Rows that are not used have weight 0. So all mixtures are
# made by one call under `vmap`.

drawn = [
    [np.random.default_rng(draw).permutation(np.flatnonzero(y == digit))[: max(SIZES)] for digit in range(10)]
    for draw in range(N_DRAWS)
]
rows = x[np.array(drawn)]  # (draws, classes, rows, columns)
used = jnp.arange(max(SIZES)) < jnp.array(SIZES)[:, None]  # (sizes, rows)
shape = (N_DRAWS, len(SIZES), 10)
all_rows = jnp.broadcast_to(rows[:, None], (*shape, *rows.shape[2:])).reshape(-1, *rows.shape[2:])
all_weights = jnp.broadcast_to(used[:, None], (*shape, used.shape[1])).reshape(-1, used.shape[1]).astype(jnp.float32)


@jax.jit
def log_densities(mixtures):
    """Of each test row under the mixture of each class (draws, sizes, classes, n)."""
    return jax.lax.map(lambda mixture: mixture.log_prob(test), mixtures).reshape(*shape, -1)


against = background.log_prob(test)
all_adapted = jax.jit(jax.vmap(adapted, in_axes=(0, 0, None)))
ratios = {
    "adapted, means alone": log_densities(all_adapted(all_rows, all_weights, False)) - against,
    "adapted, with weights": log_densities(all_adapted(all_rows, all_weights, True)) - against,
}

# %%
# From scratch
# ------------
# One Gaussian for the rows of each class alone. Plain fits to few rows end at the floor under the covariances, and say
# so. With a prior all are sound: means anywhere among the digits, and covariances about as large as those in the
# background.

inside = jnp.mean(jnp.diagonal(background.covariances, axis1=1, axis2=2), axis=0)
prior = jaxgmm.Prior(components=jaxgmm.NormalWishart(jnp.zeros(N_COLUMNS), 0.01, N_COLUMNS + 2, inside))
for name, objective in (("own, plain", None), ("own, with a prior", jaxgmm.Posterior(prior))):
    fits = jaxgmm.fit_many(
        jax.random.key(1), all_rows, 1, "full", weights=all_weights, n_restarts=1, n_finalists=1, objective=objective
    ).best
    ratios[name] = log_densities(fits.mixture) - against
    sound = np.asarray(fits.status).reshape(shape) == jaxgmm.Status.CONVERGED
    print(f"{name:24} fits that are sound" + "".join(f"{share:8.0%}" for share in sound.mean(axis=(0, 2))))

# %%
# Accuracy
# --------
# The class of the largest ratio. Means alone do badly here, however many rows there are. Speakers differ in how they
# say the same sounds, so all of them use all components of a background, each a little moved. Digits differ in which
# components they use. With weights, one row of each digit is enough for three of five test rows, and ten for six of
# seven.
#
# But a prior hands down what many rows know as well, and here it does so better: a digit is nearly one Gaussian, and
# what matters most is how wide that is. One Gaussian cannot follow classes of many groups, as adapted mixtures can.

accuracy = {name: np.mean(np.argmax(of, axis=2) == truth, axis=2) for name, of in ratios.items()}  # (draws, sizes)
print(f"\n{'rows of each class':24}" + "".join(f"{size:8}" for size in SIZES))
for name, values in accuracy.items():
    print(f"{name:24}" + "".join(f"{value:8.1%}" for value in values.mean(axis=0)))

# %%
# Is it this digit?
# -----------------
# Whether a row is of a class that it is said to be of is told by one threshold for all rows. Here the ratio matters: a
# row that is unusual for all digits has a low density under each of them, and the background takes that out. Adapted
# mixtures live on it, as all that they share with the background cancels. The equal error rate is where as many true
# claims are refused as false ones are believed.


def equal_error_rate(scores):
    """Of claims (classes, n), all of which are made of each row."""
    true = np.arange(10)[:, None] == truth
    ordered = true.ravel()[np.argsort(scores, axis=None, kind="stable")]
    refused = np.cumsum(ordered) / ordered.sum()
    believed = 1 - np.cumsum(~ordered) / (~ordered).sum()
    place = np.argmin(np.abs(refused - believed))
    return (refused[place] + believed[place]) / 2


print(f"\n{'equal error rate':24}" + "".join(f"{size:8}" for size in SIZES))
for name in ("adapted, with weights", "own, with a prior"):
    for told, shift in (("density", against), ("ratio", 0.0)):
        by_size = [
            np.mean([equal_error_rate(np.asarray(of[size] + shift)) for of in ratios[name]])
            for size in range(len(SIZES))
        ]
        print(f"{name.split(',')[0] + ', by the ' + told:24}" + "".join(f"{value:8.1%}" for value in by_size))

# %%
# All adapted mixtures have their components in the same order. So their means, one below the other, are a single vector
# for a class or for one recording, whatever its length: a *supervector*, for classifiers that want vectors.
#
# The picture
# -----------
# On the left, lines through the mean of all draws, and bands from the worst to the best. On the right, the first two
# columns: components of the background, and how ten rows move those that they are near.

figure, (left, right) = plt.subplots(1, 2, figsize=(12.5, 5), layout="constrained")
for (name, values), color in zip(accuracy.items(), (PINK, VERMILION, "0.5", BLUE), strict=True):
    left.plot(SIZES, 100 * values.mean(axis=0), "o-", color=color, label=name)
    left.fill_between(SIZES, *(100 * end(values, axis=0) for end in (np.min, np.max)), color=color, alpha=0.15, lw=0)
left.set(xscale="log", xlabel="rows of each class", ylabel="accuracy (%)", xticks=SIZES, xticklabels=SIZES)
left.minorticks_off()
left.legend(frameon=False, loc="lower right")
left.set_title("Ten digits, from few rows of each", loc="left")

some = rows[0, SHOWN, :10]
of_some = adapted(some, None, True)
heavy = np.flatnonzero(np.asarray(of_some.weights) > 0.02)
right.scatter(*np.asarray(x[:, :2]).T, s=3, color="0.75", lw=0)
plot.ellipses(background.marginal([0, 1]), right, levels=[0.5], colors="0.6", fill=False)
plot.ellipses(of_some.marginal([0, 1]).take(heavy), right, levels=[0.5], colors=VERMILION, fill=False)
for before, after in zip(background.means[heavy, :2], of_some.means[heavy, :2], strict=True):
    right.annotate("", after, before, arrowprops={"arrowstyle": "->", "color": VERMILION, "shrinkA": 0, "shrinkB": 0})
right.scatter(*np.asarray(some[:, :2]).T, s=30, color="black", zorder=3)
right.set(xlabel="first column", ylabel="second column")
right.set_title(f"Ten rows of digit {SHOWN}, and the background that they move (grey)", loc="left")
plt.show()
