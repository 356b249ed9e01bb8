"""
A distribution for every answer: regression by a mixture
========================================================

How long did an eruption of Old Faithful last, if the next one came this much later? A line gives one number and one
error for all waits. A mixture fitted to both columns together, conditioned on the wait, gives a whole distribution for
each wait: its mean bends, its width changes, and where both kinds of eruption are possible it has two peaks.

Both are compared by the log-density of durations they have not seen.
"""

# %%
# The data are the 272 eruptions of Azzalini and Bowman (1990), the wait first, since it is what is given.

from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxgmm

N_COMPONENTS = 2
N_RESTARTS = 20
N_FOLDS = 8
BLUE, VERMILION = "#0072b2", "#d55e00"

x = np.loadtxt(Path(__file__).parent / "data" / "faithful.csv", delimiter=",", skiprows=1)[:, ::-1]

# %%
# Held-out durations
# ------------------
#
# The density of a duration given its wait is the joint density over that of the wait alone, which is a mixture too:
# `marginal`. A row of weight 0 is absent from a fit, so the fits without one eighth of the rows each, and the fit to
# all of them, are one call of `fit_many` on the same rows with nine sets of weights.


@jax.jit
def log_density(mixture, x):
    """Logarithm of the density of each duration given its wait."""
    return mixture.log_prob(x) - mixture.marginal([0]).log_prob(x[:, :1])


def line(x):
    """Least squares: slope, intercept and standard deviation."""
    slope, intercept = np.polyfit(x[:, 0], x[:, 1], 1)
    return slope, intercept, np.std(x[:, 1] - slope * x[:, 0] - intercept)


def log_normal(value, mean, sd):
    return -0.5 * ((value - mean) / sd) ** 2 - np.log(sd * np.sqrt(2 * np.pi))


parts = np.split(np.random.default_rng(0).permutation(len(x)), N_FOLDS)
weights = np.ones((N_FOLDS + 1, len(x)))
for part, row in zip(parts, weights, strict=False):
    row[part] = 0
same_rows = np.broadcast_to(x, (len(weights), *x.shape))
fits = jaxgmm.fit_many(jax.random.key(0), same_rows, N_COMPONENTS, weights=weights, n_restarts=N_RESTARTS).best.mixture
without_part, mixture = (jax.tree.map(lambda leaf, at=at: leaf[at], fits) for at in (slice(0, N_FOLDS), N_FOLDS))

seen = np.stack([x[part] for part in parts])
mixed = np.asarray(jax.vmap(log_density)(without_part, seen)).ravel()
lines = [line(x[row > 0]) for row in weights[:-1]]
linear = np.concatenate([log_normal(y[:, 1], a * y[:, 0] + b, sd) for y, (a, b, sd) in zip(seen, lines, strict=True)])
gain = mixed - linear
print(f"{len(x)} eruptions, {N_FOLDS}-fold held-out log-density per eruption:")
print(f"least squares {linear.mean():.3f}, mixture of {N_COMPONENTS} {mixed.mean():.3f};", end=" ")
print(f"the mixture gains {gain.mean():.3f} ± {gain.std() / np.sqrt(len(gain)):.3f} nats")

# %%
# Conditioning
# ------------
#
# `condition` puts a value in for some columns and gives the mixture of the others, with new weights: after a wait of 55
# minutes a short eruption is all but certain, after 85 a long one. At 68 minutes it can be either, which one mean and
# one standard deviation cannot say.

for value in (55, 68, 85):
    given = mixture.condition([0], [float(value)])
    long = float(jnp.sum(jnp.where(given.means[:, 0] > 3, given.weights, 0)))
    mean, sd = float(given.mean[0]), float(jnp.sqrt(given.covariance[0, 0]))
    print(f"wait of {value} min: {mean:.2f} ± {sd:.2f} min, a long eruption with probability {long:.2f}")

# %%
# The picture
# -----------
#
# `condition` can be mapped like any function of JAX: the curve of the mean is 240 conditional mixtures.


@jax.jit
def regression(mixture, wait):
    """Mean and standard deviation of the duration, for each wait until the next eruption."""

    def one(wait):
        given = mixture.condition([0], [wait])
        return given.mean[0], jnp.sqrt(given.covariance[0, 0])

    return jax.vmap(one)(wait)


wait, duration = np.linspace(41, 98, 240), np.linspace(1.2, 5.6, 240)
grid = np.stack(np.meshgrid(wait, duration), axis=-1)
density = np.exp(log_density(mixture, grid.reshape(-1, 2))).reshape(grid.shape[:2])
mean, sd = (np.asarray(part) for part in regression(mixture, wait))
slope, intercept, spread = line(x)

figure, (ax, *slices) = plt.subplots(1, 4, figsize=(13, 4.2), layout="constrained", width_ratios=[3.2, 1, 1, 1])
shown = ax.pcolormesh(wait, duration, density, cmap="Greys", vmax=1.4, shading="gouraud", rasterized=True)
ax.scatter(*x.T, s=9, color="white", edgecolor="0.25", linewidth=0.5, zorder=3)
ax.plot(wait, mean, color=VERMILION, lw=2, label="mixture: mean")
for side in (-2, 2):
    label = "mixture: mean ± 2 sd" if side > 0 else None
    ax.plot(wait, mean + side * sd, color=VERMILION, lw=1.2, ls=(0, (4, 2)), label=label)
ax.plot(wait, slope * wait + intercept, color=BLUE, lw=1.5, label="least squares")
ax.set(
    xlabel="wait until the next eruption (min)",
    ylabel="duration of the eruption (min)",
    xlim=wait[[0, -1]],
    ylim=duration[[0, -1]],
)
ax.set_title("Density of the duration, given the wait that followed", loc="left")
ax.legend(loc="lower right", framealpha=0.9)
figure.colorbar(shown, ax=ax, label="density (1/min)", extend="max")
for part, value in zip(slices, (55, 68, 85), strict=True):
    given = np.exp(mixture.condition([0], [value]).log_prob(duration[:, None]))
    part.fill_betweenx(duration, given, color=VERMILION, alpha=0.35, lw=0)
    part.plot(given, duration, color=VERMILION, label="mixture")
    linear = np.exp(log_normal(duration, slope * value + intercept, spread))
    part.plot(linear, duration, color=BLUE, label="least squares")
    part.set(title=f"wait of {value} min", xlabel="density (1/min)", ylim=duration[[0, -1]], xlim=(0, None))
    part.spines[["top", "right"]].set_visible(False)
slices[0].legend(loc="upper right", frameon=False)
plt.show()
