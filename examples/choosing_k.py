"""
How many components?
====================

A criterion weighs how well a mixture fits against how many parameters it spends. They do not all ask the same question:
BIC asks which model the rows are most probable under, ICL also wants groups that can be told apart, cross-validation
asks which density foretells new rows best. Where they agree the answer is firm.

145 people whose glucose metabolism was measured in three ways (Reaven and Miller, 1979). Physicians put them into three
groups; the mixtures do not see these.
"""

# %%
# Numbers of components and structures of the covariance
# ------------------------------------------------------
#
# `select` fits every candidate from many starts. All numbers of components of one structure share one compiled program.

from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np

import jaxgmm
from jaxgmm import plot

LARGEST = 6
STRUCTURES = ("full", "tied", "diag")
TESTED = (2, 3)
N_RESTARTS = 20
N_BOOTSTRAP = 99
COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"]

path = Path(__file__).parent / "data" / "diabetes.csv"
x = np.loadtxt(path, delimiter=",", skiprows=1, usecols=range(3))
names, known = np.unique(np.loadtxt(path, delimiter=",", skiprows=1, usecols=3, dtype=str), return_inverse=True)
ks = range(1, LARGEST + 1)
table = jaxgmm.select(jax.random.key(0), x, ks, STRUCTURES, n_restarts=N_RESTARTS)

print("structure  k  parameters  log-likelihood       BIC       ICL")
for one in sorted(table.candidates, key=lambda one: one.bic)[:5]:
    print(f"{one.form:9s} {one.n_components:2d} {one.n_parameters:11d}", end=" ")
    print(f"{one.log_likelihood:15.1f} {one.bic:9.1f} {one.icl:9.1f}")

# %%
# Three criteria
# --------------
#
# BIC and ICL come with every candidate. Cross-validation fits each of them again without each fifth of the rows.

held_out = jaxgmm.select(jax.random.key(1), x, ks, ("full",), criterion="cv", n_restarts=N_RESTARTS)
full = [one for one in table.candidates if one.form == "full"]
curves = {
    "BIC": [one.bic for one in full],
    "ICL": [one.icl for one in full],
    "held-out rows": [one.cv for one in held_out.candidates],
}
for name, values in curves.items():
    print(f"{name}: {int(np.argmin(values)) + 1} full components")

# %%
# A second opinion
# ----------------
#
# The likelihood ratio test asks whether the data could have come from the components there are, by what one more gains
# in sets of rows drawn from them. Two are too few for these people. Whether three are enough is a closer call than the
# criteria tell: a fourth gains a little more than it does in 95 % of the sets drawn from three.

tests = {k: jaxgmm.likelihood_ratio_test(jax.random.key(2), x, k, n_bootstrap=N_BOOTSTRAP) for k in TESTED}
for k, test in tests.items():
    print(f"{k} against {k + 1}: statistic {test.statistic:.1f}, p = {test.p_value:.2f}", end="; ")
    print(f"without the component 95 % of drawn sets stay below {np.quantile(test.simulated, 0.95):.1f}")
winner, mixture = table.winner.n_components, table.best.mixture
agreement = float(jaxgmm.adjusted_rand_index(mixture.predict(x), known))
print(f"agreement of the {winner} groups with the physicians', adjusted Rand index: {agreement:.2f}")

# %%
# The picture
# -----------
#
# BIC over all candidates; the three criteria of full covariances, each from its best; the test of two components; and
# the winner in two of the three columns, with the ellipses that hold half and 95 % of each component.

figure, axes = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
plot.criterion(table, axes[0, 0])
axes[0, 0].set_title("BIC of all candidates", loc="left")

for (name, values), color, marker in zip(curves.items(), COLORS, "os^", strict=False):
    axes[0, 1].plot(ks, np.array(values) - np.min(values), marker=marker, color=color, label=name)
axes[0, 1].set(xlabel="number of components", ylabel="criterion above its best", xticks=ks)
axes[0, 1].set_yscale("symlog", linthresh=10)
axes[0, 1].set_ylim(bottom=-2)
axes[0, 1].legend(frameon=False, loc="lower left")
axes[0, 1].set_title("Three criteria, full covariances", loc="left")

test = tests[TESTED[0]]
axes[1, 0].hist(test.simulated, 20, color="0.75", label=f"sets drawn from {TESTED[0]} components")
axes[1, 0].axvline(test.statistic, color=COLORS[1], lw=2, label="the data")
axes[1, 0].set(xlabel="twice the log-likelihood that one more gains", ylabel="sets")
axes[1, 0].legend(frameon=False)
axes[1, 0].set_title(f"{TESTED[0]} against {TESTED[0] + 1} components", loc="left")

columns = [1, 2]
plot.ellipses(mixture.marginal(columns), axes[1, 1])
groups = np.asarray(mixture.predict(x))
for group, color in enumerate(COLORS[:winner]):
    inside = groups == group
    most = names[np.bincount(known[inside]).argmax()]
    label = f"{inside.sum()} people, of them {np.sum(names[known[inside]] == most)} {most.lower()}"
    axes[1, 1].scatter(*x[inside][:, columns].T, s=14, color=color, marker="os^DvP"[group], zorder=3, label=label)
axes[1, 1].legend(*(part[winner:] for part in axes[1, 1].get_legend_handles_labels()), frameon=False)
axes[1, 1].set(xlabel="area under the glucose curve", ylabel="area under the insulin curve")
axes[1, 1].set_title(f"The {winner} components that BIC chooses", loc="left")
plt.show()
