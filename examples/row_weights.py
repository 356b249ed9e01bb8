"""Learning which rows to trust: row weights that follow the gradient of a clean sample's likelihood through the fit.

Run with `python examples/row_weights.py [picture.png] [steps]`. A third of the training rows come from elsewhere. A few
clean rows are known, too few to fit well; they only judge the fit to the weighted training rows. One derivative of the
fit tells for every row whether more weight on it would help.

As there are more weights than clean rows, these could be fitted too closely. Two things guard against it. Rows that lie
close to each other are trusted alike: free numbers, one per row, are averaged over neighbours before they become
weights. And the clean rows are split: one half gives the gradient, the other half says when to stop. Rows that took no
part in either give the figures printed.
"""

import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Ellipse
from sklearn.metrics import roc_auc_score

import jaxgmm

BLUE, VERMILION, GREEN = "#0072b2", "#d55e00", "#009e73"  # Okabe and Ito's, told apart by all readers
FLOOR = 1e-3
REACH = 0.7  # of the average over neighbours, about the standard deviation of a component

CLEAN = jaxgmm.from_parameters(
    [0.4, 0.35, 0.25],
    [[-2.5, 0.0], [2.0, 1.5], [1.5, -2.5]],
    [[[1.0, 0.6], [0.6, 0.8]], [[0.7, -0.4], [-0.4, 0.9]], [[1.2, 0.2], [0.2, 0.3]]],
)
# A diffuse crowd about everything, and another population between the components.
ELSEWHERE = jaxgmm.from_parameters(
    [0.6, 0.4], [[0.0, 0.0], [-1.0, -3.5]], [[[12.0, 0.0], [0.0, 12.0]], [[0.5, 0.2], [0.2, 0.5]]]
)


def sampled(key, n_clean, n_elsewhere, n_known, n_test):
    """Training rows and which of them are clean, two clean halves, test rows."""
    keys = jax.random.split(key, 4)
    x = jnp.concatenate([CLEAN.sample(keys[0], n_clean), ELSEWHERE.sample(keys[1], n_elsewhere)])
    known = CLEAN.sample(keys[2], n_known)
    return x, np.arange(len(x)) < n_clean, known[::2], known[1::2], CLEAN.sample(keys[3], n_test)


def best_fit(x, weights):
    """The best of 20 starts, on the rows that have weight."""
    found = jaxgmm.fit_restarts(jax.random.key(1), x, 3, weights=weights, n_restarts=20, regularization=FLOOR)
    return found.best.mixture


def trust(free, near):
    """A weight between 0 and 1 for each row, from free numbers and the (n, n) average over neighbours."""
    return jax.nn.sigmoid(near @ free)


def loss(free, mixture, x, near, judge):
    """What clean rows lose per row under the fit to weighted rows; that fit is the next start."""
    fitted = jaxgmm.fit(mixture, x, trust(free, near), regularization=FLOOR).mixture
    return -jnp.mean(fitted.log_prob(judge)), jax.lax.stop_gradient(fitted)


def learned(mixture, x, judge, watch, test, n_steps):
    """Weights and mixture where `watch` is likeliest on the way, and the three curves of log-likelihood per row."""
    optimizer = optax.adam(0.1)
    distances = jnp.linalg.norm(x[:, None] - x, axis=2)
    near = jax.nn.softmax(-((distances / REACH) ** 2) / 2)

    @jax.jit
    def step(free, mixture, state):
        (value, fitted), gradient = jax.value_and_grad(loss, has_aux=True)(free, mixture, x, near, judge)
        change, state = optimizer.update(gradient, state)
        seen = [-value, *(jnp.mean(fitted.log_prob(rows)) for rows in (watch, test))]
        return optax.apply_updates(free, change), fitted, state, jnp.stack(seen)

    free = jnp.zeros(len(x))
    state, curves, best = optimizer.init(free), [], None
    for _ in range(n_steps):
        before = free
        free, mixture, state, seen = step(free, mixture, state)
        curves.append(np.asarray(seen))
        if best is None or seen[1] > best[0]:
            best = seen[1], trust(before, near), mixture
    return *best[1:], np.array(curves)


def draw_mixture(ax, mixture, color, style, label):
    """Ellipses at two standard deviations."""
    for mean, covariance in zip(mixture.means, mixture.covariances, strict=True):
        variances, directions = np.linalg.eigh(covariance)
        angle = np.degrees(np.arctan2(directions[1, 1], directions[0, 1]))
        height, width = 4 * np.sqrt(variances)
        ax.add_patch(Ellipse(mean, width, height, angle=angle, fill=False, ec=color, ls=style, lw=1.8, zorder=4))
    ax.plot([], [], color=color, ls=style, lw=1.8, label=label)


def draw(path, x, clean, weights, mixtures, curves, oracle):
    """Rows by weight with the components before and after, the weights of both kinds, and the curves."""
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.6), layout="constrained", width_ratios=[1.35, 0.9, 1.1])
    colors = LinearSegmentedColormap.from_list("weight", [VERMILION, "#f0e442", BLUE])
    look = {"c": weights, "cmap": colors, "vmin": 0, "vmax": 1, "lw": 0.3, "ec": "0.3", "zorder": 2}
    points = axes[0].scatter(*x.T, s=6 + 24 * weights, **look)
    draw_mixture(axes[0], mixtures[0], "0.45", "--", "components, equal weights")
    draw_mixture(axes[0], mixtures[1], "black", "-", "components, learned weights")
    axes[0].set(xlim=(-8, 8), ylim=(-8, 10.5), aspect="equal")
    axes[0].legend(loc="upper left", fontsize=9, edgecolor="none", framealpha=0.9)
    figure.colorbar(points, ax=axes[0], label="learned weight")

    bins = np.linspace(0, 1, 26)
    axes[1].hist([weights[clean], weights[~clean]], bins, stacked=True, color=[BLUE, VERMILION])
    axes[1].legend(["clean", "from elsewhere"], frameon=False, loc="upper center")
    axes[1].set(xlabel="learned weight", ylabel="training rows")

    labels = ("clean rows that give the gradient", "clean rows that say when to stop", "test rows")
    for curve, color, label in zip(curves.T, ("#e69f00", GREEN, BLUE), labels, strict=True):
        axes[2].plot(curve, color=color, label=label)
    axes[2].axvline(np.argmax(curves[:, 1]), color="0.6", lw=1)
    axes[2].axhline(oracle, color=BLUE, lw=1, ls=":", label="test rows, fit to all clean training rows")
    axes[2].set(xlabel="step", ylabel="log-likelihood per row")
    axes[2].legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=110)


def main(path="out/row_weights.png", n_steps=80):
    x, clean, judge, watch, test = sampled(jax.random.key(0), 400, 200, 80, 10_000)
    # Rows of weight 0 are absent: fits to all training rows, to the clean ones and to the known ones are one program.
    rows = jnp.concatenate([x, judge, watch])
    training = np.arange(len(rows)) < len(x)
    equal = best_fit(rows, training)
    start = time.perf_counter()
    weights, mixture, curves = learned(equal, x, judge, watch, test, n_steps)
    seconds = time.perf_counter() - start
    oracle = best_fit(rows, np.arange(len(rows)) < clean.sum())
    alone = best_fit(rows, ~training)
    together = best_fit(rows, np.concatenate([weights, np.ones(len(rows) - len(x))]))
    weights = np.asarray(weights)
    print(f"{len(x)} training rows, {np.mean(~clean):.0%} from elsewhere; {len(judge)} + {len(watch)} known clean rows")
    print(f"{n_steps} steps in {seconds:.1f} s, compiling included", end="; ")
    print(f"best for the rows that say when to stop at step {np.argmax(curves[:, 1])}")
    print("log-likelihood per test row:")
    named = {
        "equal weights": equal,
        "learned weights": mixture,
        "the known clean rows only": alone,
        "learned weights, and known rows": together,
        "all clean training rows": oracle,
        "the truth": CLEAN,
    }
    for name, fitted in named.items():
        print(f"  {name:33}{float(jnp.mean(fitted.log_prob(test))):.4f}")
    print(f"AUC of the weights for telling clean rows from others: {roc_auc_score(clean, weights):.3f}")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    draw(path, np.asarray(x), clean, weights, (equal, mixture), curves, float(jnp.mean(oracle.log_prob(test))))
    print(f"picture in {path}")


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:3]))
