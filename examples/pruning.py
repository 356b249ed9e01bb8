"""
How many are left of ten
========================

Variational Bayes integrates over all parameters, so a component that explains few rows has to pay for its mean and its
covariance. Started with ten components, a fit gives up those that do not pay. What one costs is decided by the prior.
So it pays to see how the answer moves with it: here over four decades of each of three numbers.

The velocities of 82 galaxies are a classic of this question (Roeder, 1990); three to seven groups have been seen in
them.
"""

# %%
# One call for each number
# ------------------------
# Numbers of a prior are traced, and a fit from many starts is one program. So all values are lanes of one call.

from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxgmm

ROOM = 10
N_RESTARTS = 16
N_VALUES = 13  # of each number, over four decades
SHOWN = (0.01, 0.1, 1.0)  # of the scatter
COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442", "#000000", "0.4", "0.7"]

x = np.loadtxt(Path(__file__).parent / "data" / "galaxies.csv", skiprows=1)[:, None]  # thousands of km/s
spread = float(jaxgmm.scale_of(x)[0]) ** 2
usual = {
    "concentration": 1 / ROOM,
    "pseudo_rows": 0.01,
    "scatter": 1.0,
}  # the defaults, the scatter over scale_of squared


@jax.jit
@jax.vmap
def climb(concentration, pseudo_rows, scatter):
    """The best optimum of the bound that is found with this prior, and the rows of each component (k,)."""
    components = jaxgmm.NormalWishart(pseudo_rows=pseudo_rows, scatter=spread * scatter)
    objective = jaxgmm.Variational(jaxgmm.Prior(jaxgmm.Dirichlet(concentration), components))
    best = jaxgmm.fit_restarts(jax.random.key(1), x, ROOM, n_restarts=N_RESTARTS, objective=objective).best
    return best.mixture, best.objective, jaxgmm.credible(best, x, objective).counts


values = np.geomspace(1e-3, 10, N_VALUES, dtype=np.float32)
same = {name: np.full(N_VALUES, value, np.float32) for name, value in usual.items()}
found = {name: climb(**(same | {name: values})) for name in usual}

# %%
# What is left
# ------------
# How many components have at least a row's weight, and how far the bound is below the best of the line: by that, the
# rows themselves say which prior they speak for. The concentration hardly matters before it nears 1; beyond, it pays to
# have many components of equal weight. Pseudo-rows hold means together, so many of them leave fewer groups. What
# decides is the scatter, the size that components are expected to have: with a tenth of the default and less, the
# galaxies in the middle are two groups. Where the heaps jump between one value and the next, several optima have nearly
# the same bound.

for name, (_, bound, counts) in found.items():
    left = np.sum(np.asarray(counts) >= 1, axis=1)
    print(f"{name:14}" + "".join(f"{value:8.3g}" for value in values[::3]))
    print(f"{'   left':14}" + "".join(f"{number:8}" for number in left[::3]))
    print(f"{'   bound':14}" + "".join(f"{value:8.1f}" for value in (bound - bound.max())[::3]) + "\n")

# %%
# The picture
# -----------
# Above, the rows in heaps, from the heaviest component down, with the numbers of components above them; dotted, the
# default. Below, the densities and the components for three values of the scatter.

figure, panels = plt.subplots(2, 3, figsize=(12.5, 7), layout="constrained")
titles = {
    "concentration": "Concentration of Dirichlet",
    "pseudo_rows": "Pseudo-rows",
    "scatter": "Scatter over the default",
}
for ax, (name, (_, _, counts)) in zip(panels[0], found.items(), strict=True):
    ordered = -np.sort(-np.asarray(counts), axis=1)
    ax.stackplot(values, np.where(ordered >= 1, ordered, 0).T, colors=COLORS, edgecolor="white", lw=0.4)
    ax.axvline(usual[name], color="black", ls=":", lw=1.2)
    ax.set(xscale="log", xlim=(values[0], values[-1]), ylim=(0, len(x)), ylabel="rows", xlabel=titles[name])
    for value, number in zip(values[::2], np.sum(ordered >= 1, axis=1)[::2], strict=True):
        ax.annotate(f"{number}", (value, 1.02), xycoords=("data", "axes fraction"), ha="center")
grid = np.linspace(5, 38, 600, dtype=np.float32)[:, None]
mixtures, _, counts = found["scatter"]
for ax, value in zip(panels[1], SHOWN, strict=True):
    place = int(np.argmin(np.abs(np.log(values / value))))
    mixture = jax.tree.map(lambda leaf, place=place: leaf[place], mixtures)
    ax.hist(x[:, 0], 40, range=(5, 38), density=True, color="0.85")
    parts = np.exp(mixture.components.log_prob(jnp.asarray(grid)) + mixture.log_weights)
    order = np.argsort(-np.asarray(counts[place]))
    for k, color in zip(order[: int(np.sum(np.asarray(counts[place]) >= 1))], COLORS, strict=False):
        ax.plot(grid[:, 0], parts[:, k], color=color, lw=1.5)
    ax.plot(grid[:, 0], np.exp(mixture.log_prob(grid)), color="black", lw=0.8)
    ax.set(xlabel="velocity (1000 km/s)", ylabel="density", ylim=(0, 0.27))
    number = int(np.sum(np.asarray(counts[place]) >= 1))
    ax.set_title(f"Scatter {values[place]:.3g} of the default: {number} left", loc="left")
plt.show()
