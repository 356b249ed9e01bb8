"""
Learning which rows to trust
============================

A third of the training rows come from elsewhere, and which ones is not known. What is known is a few clean rows, too
few to fit well; they only judge the fit to the weighted training rows. The fit is differentiable in its row weights, so
one derivative says of every row whether more weight on it would help, and the weights can follow it.

As there are more weights than clean rows, these could be fitted too closely. Two things guard against it. Rows that lie
close to each other are trusted alike: free numbers, one per row, are averaged over neighbours before they become
weights. And the clean rows are split: one half gives the gradient, the other half says when to stop. Rows that took no
part in either give the figures printed.
"""

# %%
# The clean rows are from a mixture of three, the others from a diffuse crowd about everything and from another
# population between the components.

import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.colors import LinearSegmentedColormap
from sklearn.metrics import roc_auc_score

import jaxgmm
from jaxgmm import plot

N_STEPS = 80
N_RESTARTS = 20
BLUE, VERMILION, GREEN = "#0072b2", "#d55e00", "#009e73"
FLOOR = 1e-3
REACH = 0.7  # of the average over neighbours, about the standard deviation of a component

clean = jaxgmm.from_parameters(
    [0.4, 0.35, 0.25],
    [[-2.5, 0.0], [2.0, 1.5], [1.5, -2.5]],
    [[[1.0, 0.6], [0.6, 0.8]], [[0.7, -0.4], [-0.4, 0.9]], [[1.2, 0.2], [0.2, 0.3]]],
)
elsewhere = jaxgmm.from_parameters(
    [0.6, 0.4], [[0.0, 0.0], [-1.0, -3.5]], [[[12.0, 0.0], [0.0, 12.0]], [[0.5, 0.2], [0.2, 0.5]]]
)
keys = jax.random.split(jax.random.key(0), 4)
x = jnp.concatenate([clean.sample(keys[0], 400), elsewhere.sample(keys[1], 200)])
is_clean = np.arange(len(x)) < 400
known = clean.sample(keys[2], 80)
judge, watch = known[::2], known[1::2]
test = clean.sample(keys[3], 10_000)
print(f"{len(x)} training rows, {np.mean(~is_clean):.0%} from elsewhere; {len(judge)} + {len(watch)} known clean rows")

# %%
# Where it starts
# ---------------
#
# Rows of weight 0 are absent: fits to all training rows, to the clean ones and to the known ones are one program, and
# differ only in weights.

rows = jnp.concatenate([x, judge, watch])
training = np.arange(len(rows)) < len(x)


def best_fit(weights):
    """The best of several starts, on the rows that have weight."""
    found = jaxgmm.fit_restarts(
        jax.random.key(1), rows, 3, weights=weights, n_restarts=N_RESTARTS, regularization=FLOOR
    )
    return found.best.mixture


equal = best_fit(training)

# %%
# Following the gradient
# ----------------------
#
# Each step fits to the rows as they are weighted now, from the last fit on, and moves the weights up the log-likelihood
# of the judging rows. The mixture of the step that is likeliest for the watching rows is kept.

distances = jnp.linalg.norm(x[:, None] - x, axis=2)
near = jax.nn.softmax(-((distances / REACH) ** 2) / 2)
optimizer = optax.adam(0.1)


def trust(free):
    """A weight between 0 and 1 for each row, from free numbers averaged over neighbours."""
    return jax.nn.sigmoid(near @ free)


def loss(free, mixture):
    """What the judging rows lose per row under the fit to weighted rows; that fit is the next start."""
    fitted = jaxgmm.fit(mixture, x, trust(free), regularization=FLOOR).mixture
    return -jnp.mean(fitted.log_prob(judge)), jax.lax.stop_gradient(fitted)


@jax.jit
def step(free, mixture, state):
    (value, fitted), gradient = jax.value_and_grad(loss, has_aux=True)(free, mixture)
    change, state = optimizer.update(gradient, state)
    seen = [-value, *(jnp.mean(fitted.log_prob(rows)) for rows in (watch, test))]
    return optax.apply_updates(free, change), fitted, state, jnp.stack(seen)


start = time.perf_counter()
free, mixture, curves, most = jnp.zeros(len(x)), equal, [], -np.inf
state = optimizer.init(free)
for _ in range(N_STEPS):
    before = free
    free, mixture, state, seen = step(free, mixture, state)
    curves.append(np.asarray(seen))
    if seen[1] > most:
        most, weights, learned = seen[1], np.asarray(trust(before)), mixture
curves = np.array(curves)
print(f"{N_STEPS} steps in {time.perf_counter() - start:.1f} s, compiling included", end="; ")
print(f"best for the rows that say when to stop at step {np.argmax(curves[:, 1])}")

# %%
# What it is worth
# ----------------
#
# The learned weights lead past the fit to the few known rows alone, and most of the way from the fit to everything to
# the fit to all clean rows, had these been known.

named = {
    "equal weights": equal,
    "learned weights": learned,
    "the known clean rows only": best_fit(~training),
    "learned weights, and known rows": best_fit(np.concatenate([weights, np.ones(len(rows) - len(x))])),
    "all clean training rows": best_fit(np.arange(len(rows)) < is_clean.sum()),
    "the truth": clean,
}
print("log-likelihood per test row:")
reached = {name: float(jnp.mean(fitted.log_prob(test))) for name, fitted in named.items()}
for name, value in reached.items():
    print(f"  {name:33}{value:.4f}")
print(f"AUC of the weights for telling clean rows from others: {roc_auc_score(is_clean, weights):.3f}")

# %%
# The picture
# -----------
#
# Rows that lie where clean rows never are lose their weight. Those of the diffuse crowd that fell among the clean ones
# keep it, and do little harm there.

figure, axes = plt.subplots(1, 3, figsize=(14, 4.6), layout="constrained", width_ratios=[1.35, 0.9, 1.1])
colors = LinearSegmentedColormap.from_list("weight", [VERMILION, "#f0e442", BLUE])
look = {"c": weights, "cmap": colors, "vmin": 0, "vmax": 1, "lw": 0.3, "ec": "0.3", "zorder": 2}
points = axes[0].scatter(*x.T, s=6 + 24 * weights, **look)
lines = []
for fitted, color, label in ((equal, "0.5", "equal weights"), (learned, "black", "learned weights")):
    plot.ellipses(fitted, axes[0], levels=[0.9], colors=color, fill=False)
    lines.extend(axes[0].plot([], [], color=color, lw=1.8, label=f"components (90 %), {label}"))
axes[0].set(xlim=(-8, 8), ylim=(-8, 10.5), aspect="equal")
axes[0].legend(handles=lines, loc="upper left", framealpha=0.9)
figure.colorbar(points, ax=axes[0], label="learned weight")

bins = np.linspace(0, 1, 26)
axes[1].hist([weights[is_clean], weights[~is_clean]], bins, stacked=True, color=[BLUE, VERMILION])
axes[1].legend(["clean", "from elsewhere"], frameon=False, loc="upper center")
axes[1].set(xlabel="learned weight", ylabel="training rows")

labels = ("clean rows that give the gradient", "clean rows that say when to stop", "test rows")
for curve, color, label in zip(curves.T, ("#e69f00", GREEN, BLUE), labels, strict=True):
    axes[2].plot(curve, color=color, label=label)
axes[2].axvline(np.argmax(curves[:, 1]), color="0.6", lw=1)
oracle = reached["all clean training rows"]
axes[2].axhline(oracle, color=BLUE, lw=1, ls=":", label="test rows, fit to all clean training rows")
axes[2].set(xlabel="step", ylabel="log-likelihood per row")
axes[2].legend(frameon=False, fontsize=9)
plt.show()
