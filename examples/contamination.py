"""
Rows that belong to nothing
===========================

A Gaussian component has to explain every row that it is given, however far out, and its mean and covariance follow. Two
families take that better: Student-t components have tails for such rows, and a noise component takes them away from the
clusters. What each of them costs where there are none, and what it saves where there are many, is counted here.
"""

# %%
# Three clusters in two columns, and up to every fifth row spread evenly over a box that is several times as wide as all
# of them. The data sets of one share are fitted in one call of ``fit_many`` each, with the number of clusters given.

import itertools

import jax
import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import linear_sum_assignment

import jaxgmm
from jaxgmm import plot

SHARES = [0.0, 0.02, 0.05, 0.1, 0.15, 0.2]  # of the rows that belong to nothing
N_SETS = 20
N_ROWS = 300
N_RESTARTS = 8
FORMS = {
    "Gaussian": "full",
    "Student-t, nu = 3": jaxgmm.StudentT.form("full", nu=3),
    "Gaussian and noise": jaxgmm.with_noise("full"),
}
COLORS = dict(zip(FORMS, ("#0072b2", "#d55e00", "#009e73"), strict=True))

truth = jaxgmm.from_parameters(
    [0.4, 0.35, 0.25],
    [[0.0, 0.0], [5.0, 2.0], [1.0, 6.0]],
    [[[1.0, 0.5], [0.5, 1.0]], [[1.5, -0.6], [-0.6, 0.8]], [[0.6, 0.0], [0.0, 1.2]]],
)


def contaminated(share):
    """Data sets (b, n, d), and which cluster each row is of, -1 for none."""
    rng = np.random.default_rng(0)
    x, labels = (np.array(drawn) for drawn in truth.sample_with_labels(jax.random.key(1), N_SETS * N_ROWS))
    x, labels = x.reshape(N_SETS, N_ROWS, 2), labels.reshape(N_SETS, N_ROWS)
    gone = np.arange(N_ROWS) < round(share * N_ROWS)
    x[:, gone] = rng.uniform(-20, 25, (N_SETS, gone.sum(), 2))
    return x.astype(np.float32), np.where(gone, -1, labels)


def errors(mixture):
    """Of the means of the clusters, root mean square, where each cluster has the truth that is nearest in all."""
    means, wanted = np.asarray(mixture.means)[: mixture.n_clusters], np.asarray(truth.means)
    squares = np.sum((means[:, None] - wanted) ** 2, axis=2)
    return np.sqrt(squares[linear_sum_assignment(squares)].mean())


# %%
# How far off they are
# --------------------
# The error of the means, in the units of the columns, in which clusters are about 1 wide; and the adjusted Rand index
# of the rows that belong to a cluster, 1 where all of them are where they should be. Medians over data sets.

fits, error, agreement = {}, {}, {}
for name, share in itertools.product(FORMS, SHARES):
    x, labels = contaminated(share)
    stack = jaxgmm.fit_many(jax.random.key(0), x, 3, FORMS[name], n_restarts=N_RESTARTS).best.mixture
    each = [jax.tree.map(lambda leaf, place=place: leaf[place], stack) for place in range(N_SETS)]
    fits[name, share] = each[0], x[0]
    error[name, share] = [errors(mixture) for mixture in each]
    agreement[name, share] = [
        float(jaxgmm.adjusted_rand_index(own[own >= 0], np.asarray(mixture.predict(rows))[own >= 0]))
        for mixture, rows, own in zip(each, x, labels, strict=True)
    ]
for what, values in (("error of the means", error), ("adjusted Rand index", agreement)):
    print(f"{what:20}" + "".join(f"{share:8.0%}" for share in SHARES))
    for name in FORMS:
        print(f"{name:20}" + "".join(f"{np.median(values[name, share]):8.2f}" for share in SHARES))

# %%
# The picture
# -----------
# Medians, and from the first to the third quartile. With Gaussians alone, one component gives up its cluster and takes
# the rows that belong to nothing, as soon as there are six of them. Tails bear up to every tenth. Noise bears all of
# these; rows spread evenly are what it is made for. Where there are none, it costs nothing that could be seen.

figure, panels = plt.subplots(1, 2, figsize=(11.5, 4), layout="constrained")
for ax, values in zip(panels, (error, agreement), strict=True):
    for name, color in COLORS.items():
        low, middle, high = np.quantile([values[name, share] for share in SHARES], (0.25, 0.5, 0.75), axis=1)
        ax.fill_between(100 * np.array(SHARES), low, high, color=color, alpha=0.15, lw=0)
        ax.plot(100 * np.array(SHARES), middle, "o-", color=color, label=name)
    ax.set_xlabel("rows that belong to nothing (%)")
panels[0].set(ylabel="error of the means", yscale="log", yticks=(0.1, 0.2, 0.5, 1, 2, 5))
panels[0].yaxis.set_major_formatter("{x:g}")
panels[0].yaxis.set_minor_formatter("")
panels[1].set(ylabel="adjusted Rand index of the others", ylim=(None, 1.01))
panels[0].set_title("Where the clusters are", loc="left")
panels[1].set_title("Which rows are in them", loc="left")
figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)

# %%
# The first of the data sets with the most such rows, as each family sees it: ellipses hold 50 and 95 % of a component,
# and what is grey is noise.

figure, panels = plt.subplots(1, 3, figsize=(12, 3.9), layout="constrained", sharex=True, sharey=True)
for ax, name in zip(panels, FORMS, strict=True):
    mixture, rows = fits[name, SHARES[-1]]
    plot.assignment(mixture, rows, ax, soft=False)
    plot.ellipses(mixture, ax, fill=False)
    ax.get_legend().remove()
    ax.set(xlim=(-21, 26), ylim=(-21, 26))
    ax.set_title(name, loc="left")
plt.show()
