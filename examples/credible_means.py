"""
Where the means may lie
=======================

A fit is one mixture, however few rows it is of. Variational Bayes says how sure its parameters are: given the rows, the
mean of a component has a Student-t distribution. So there is a region in which it lies with a probability of 95 %.

Does it hold what it promises? Here the truth is known, and many data sets can be drawn from it.
"""

# %%
# Few rows and many
# -----------------
# Given n_k rows, and with the default prior in d columns, precisions of "full" components have d + 2 + n_k degrees of
# freedom, and the mean has a t distribution of n_k + 3 of them about its expectation. Its region is an ellipse of the
# shape of the component, smaller by the root of the n_k rows.

import jax
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import f

import jaxgmm
from jaxgmm import plot

SIZES = (30, 100, 1000)
N_SETS = 200
LEVEL = 0.95
COLORS = ["#0072b2", "#d55e00", "#009e73"]
OBJECTIVE = jaxgmm.Variational()

truth = jaxgmm.from_parameters(
    [0.5, 0.3, 0.2],
    [[0.0, 0.0], [4.0, 1.0], [1.5, 4.0]],
    [[[1.0, 0.5], [0.5, 1.0]], [[1.0, -0.6], [-0.6, 1.0]], [[1.5, 0.0], [0.0, 0.3]]],
)


@jax.jit
def told(truth, x):
    """Of many sets of rows; from the truth, so that components stay in its order."""
    return jax.vmap(lambda x: jaxgmm.credible(jaxgmm.fit(truth, x, objective=OBJECTIVE), x, OBJECTIVE))(x)


def regions(found):
    """Matrices (..., k, d, d) of ellipses: the region is where the squared distance that they give is at most 1."""
    d = found.mixture.means.shape[-1]
    rows, freedom = np.asarray(found.counts) + 0.01, np.asarray(found.counts) + 3
    size = d * f.ppf(LEVEL, d, freedom) * (freedom + d - 1) / freedom / rows
    return np.asarray(found.mixture.covariances) * size[..., None, None]


# %%
# How often they hold the truth
# -----------------------------
# Data sets of one size are lanes of one call. Where components hardly touch, the regions hold the true means as often
# as they should, and with few rows more often: the default prior expects components as wide as all rows are, and ten
# rows do not quite talk it out of that. Where components overlap, the regions are too narrow: variational Bayes takes
# parameters and the components of rows to be independent of each other, so it does not know that rows would change
# hands if the means moved. More rows do not mend that; `bootstrap` moves rows and means together.

sets, many = {}, {}
print(f"regions of {LEVEL:.0%} hold the true mean of component" + "".join(f"{k + 1:8}" for k in range(3)))
for name, times in (("overlap", 1.0), ("hardly touch", 2.0)):
    apart = jaxgmm.from_parameters(truth.weights, times * truth.means, truth.covariances)
    for n in SIZES:
        x = apart.sample(jax.random.key(2), N_SETS * n).reshape(N_SETS, n, 2)
        found = told(apart, x)
        away = np.asarray(found.mixture.means - apart.means)
        inside = np.linalg.solve(regions(found), away[..., None])[..., 0]
        held = np.mean(np.sum(inside * away, axis=-1) <= 1, axis=0)
        print(f"   {name + ',':13} {n:6} rows, {N_SETS} data sets{'':11}" + "".join(f"{share:8.1%}" for share in held))
        if times == 1:
            sets[n], many[n] = x[0], jax.tree.map(lambda leaf: leaf[0], found)

# %%
# The picture
# -----------
# The components by the ellipses that hold 90 % of their rows; filled, the regions of their means; crosses, the true
# means.

figure, panels = plt.subplots(1, len(SIZES), figsize=(13, 4.2), layout="constrained", sharey=True, squeeze=False)
for ax, (n, found) in zip(panels.flat, many.items(), strict=True):
    ax.scatter(*sets[n].T, s=5, color="0.6", lw=0)
    plot.ellipses(found.mixture, ax, levels=[0.9], colors=COLORS, fill=False)
    angle = np.linspace(0, 2 * np.pi, 100)
    for mean, matrix, color in zip(found.mixture.means, regions(found), COLORS, strict=True):
        edge = np.asarray(mean) + np.stack([np.cos(angle), np.sin(angle)], axis=1) @ np.linalg.cholesky(matrix).T
        ax.fill(*edge.T, color=color, alpha=0.5, lw=0, zorder=3)
    ax.plot(*truth.means.T, "+", color="black", ms=9, mew=1.2, zorder=4)
    ax.set(xlim=(-4, 8), ylim=(-3.5, 6.5))
    ax.set_title(f"{n} rows", loc="left")
plt.show()
