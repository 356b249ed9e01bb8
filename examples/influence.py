"""
What each row does to a fit
===========================

How much does each eruption of Old Faithful move a fitted mean? The plain way is a refit without each of the 272 rows. A
fit is differentiable in the row weights, so one derivative says the same to first order: the derivative in the weight
of a row is its influence, what the mean owes to that row being there.
"""

# %%
# Three components that share one covariance, in the order of their waiting times. The middle one overlaps with the
# last, so its mean is the one that single rows can move.

import time
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap

import jaxgmm
from jaxgmm import plot

N_ROWS = 272
N_RESTARTS = 20
BLUE, VERMILION, ORANGE = "#0072b2", "#d55e00", "#e69f00"
MIDDLE = 1

x = jnp.asarray(np.loadtxt(Path(__file__).parent / "data" / "faithful.csv", delimiter=",", skiprows=1)[:N_ROWS])
best = jaxgmm.fit_restarts(jax.random.key(0), x, n_components=3, form="tied", n_restarts=N_RESTARTS).best
mixture = best.mixture.take(jnp.argsort(best.mixture.means[:, 1]))

# %%
# One derivative, and as many refits as there are rows
# ----------------------------------------------------
#
# The derivative goes through the fit by the implicit function theorem, whatever the number of iterations was. Changes
# as small as those that one row makes ask for a fit that goes on to rounding: ``tol=0``. All refits are one program.


def mean_wait(weights, mixture, x):
    """Mean waiting time of the middle component, fitted to weighted rows from `mixture` on."""
    return jaxgmm.fit(mixture, x, weights, tol=0).mixture.means[MIDDLE, 1]


influence = jax.jit(jax.value_and_grad(mean_wait))


@jax.jit
def without_each(mixture, x):
    """The same mean without row i, for every i."""
    weights = jnp.ones(len(x))
    return jax.lax.map(lambda i: mean_wait(weights.at[i].set(0), mixture, x), jnp.arange(len(x)))


def timed(function, *arguments):
    """The result and the seconds of a second call; the first compiles."""
    jax.block_until_ready(function(*arguments))
    start = time.perf_counter()
    result = jax.block_until_ready(function(*arguments))
    return jax.tree.map(np.asarray, result), time.perf_counter() - start


weights = jnp.ones(len(x))
(whole, first_order), seconds = timed(influence, weights, mixture, x)
refitted, all_seconds = timed(without_each, mixture, x)
change = whole - refitted
print(f"{len(x)} eruptions, three components of one covariance; the middle one waits {whole:.2f} min")
print(f"one derivative in all row weights: {1e3 * seconds:.1f} ms; {len(x)} refits: {1e3 * all_seconds:.1f} ms")

# %%
# How close the derivative comes
# ------------------------------
#
# Correlation 0.997, slope 1.01. A weighted mean with the responsibilities held as they are has 0.81 and 1.76, because
# what a row does to the responsibilities of the others counts where components overlap.


def compared(foretold, change):
    """Correlation, slope through the origin and largest deviation, as text."""
    slope = foretold @ change / (foretold @ foretold)
    correlation = np.corrcoef(foretold, change)[0, 1]
    return f"correlation {correlation:.4f}, slope {slope:.4f}, off by {abs(change - foretold).max():.3f} min at most"


share = np.asarray(mixture.responsibilities(x))[:, MIDDLE]
held = share * (np.asarray(x)[:, 1] - whole) / share.sum()
print(f"influence against refits:          {compared(first_order, change)}")
print(f"were responsibilities held fixed:  {compared(held, change)}")
strongest = int(np.argmax(abs(change)))
print(
    f"the strongest row, ({x[strongest, 0]:.2f}, {x[strongest, 1]:.0f}) min: its influence is "
    f"{first_order[strongest]:+.3f} min, the refit says {change[strongest]:+.3f}"
)

# %%
# The picture
# -----------
#
# On the left every eruption in the colour of its influence on the mean at the cross; on the right the influences beside
# what the refits say.

figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained", width_ratios=[1.35, 1])
colors = LinearSegmentedColormap.from_list("influence", [BLUE, "#f2f2f2", VERMILION])
limit = abs(first_order).max()
order = np.argsort(abs(first_order))  # the strongest on top
shown = {"c": first_order[order], "cmap": colors, "vmin": -limit, "vmax": limit}
points = axes[0].scatter(*x[order].T, **shown, s=26, ec="0.35", lw=0.4, zorder=2)
of_each = ["black" if k == MIDDLE else "0.6" for k in range(3)]
plot.ellipses(mixture, axes[0], levels=[0.9], colors=of_each, fill=False)
axes[0].plot(*mixture.means[MIDDLE], "+", color="black", ms=11, mew=2, zorder=4)
axes[0].set(xlabel="eruption length (min)", ylabel="waiting time to the next (min)")
axes[0].set_title("What each eruption does to the mean at the cross (ellipses: 90 %)", loc="left", fontsize=10)
figure.colorbar(points, ax=axes[0], label="influence on its mean waiting time (min)")

ends = np.array([min(first_order.min(), change.min()), max(first_order.max(), change.max())]) * 1.08
axes[1].axline((0, 0), slope=1, color="0.5", lw=1, zorder=1)
axes[1].scatter(held, change, s=14, fc="none", ec=ORANGE, lw=0.8, zorder=2, label="responsibilities held fixed")
axes[1].scatter(first_order, change, s=18, color=BLUE, alpha=0.7, lw=0, zorder=3, label="through the fit")
axes[1].legend(frameon=False, loc="upper left")
axes[1].set(xlim=ends, ylim=ends, aspect="equal")
axes[1].set(xlabel="influence: one derivative (min)", ylabel="mean less that of the refit without the row (min)")
axes[1].set_title(f"One derivative against {len(x)} refits", loc="left", fontsize=10)
plt.show()
