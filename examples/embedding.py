"""Handwritten digits in two columns: a linear map learned through the fits of the mixtures that tell the digits apart.

Run with `python examples/embedding.py [picture.png] [steps] [splits]`. Each digit is a mixture of two Gaussians in the
embedded rows z = x W, and W follows the gradient of how well the fitted mixtures name rows they have not seen.

The likelihood of the z would be no sound objective: it rises without end as z shrinks, and under a W held orthonormal
it asks for directions in which nothing varies. The probability of a digit given its z is unmoved by any invertible map
of z, since the volume cancels. So W can be left free, and only which plane it looks at counts.
"""

import functools
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.patches import Ellipse
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import train_test_split

import jaxgmm

# Okabe and Ito's eight and two more; the digits are also written where they are.
COLORS = ["#000000", "#e69f00", "#56b4e9", "#009e73", "#cab900", "#0072b2", "#d55e00", "#cc79a7", "#888888", "#6a3d9a"]
N_DIGITS, N_COMPONENTS = 10, 2
FLOOR = 0.01  # under the variances of a component: it must not close in on single rows


def start_of(key, z, weights):
    """A mixture for each row of `weights` (m, n)."""
    keys = jax.random.split(key, len(weights))
    return jax.vmap(lambda key, w: jaxgmm.init(key, z, N_COMPONENTS, weights=w, regularization=FLOOR))(keys, weights)


def fits(mixtures, z, weights):
    """As many fits, each to the rows that have weight in it."""
    return jax.vmap(lambda m, w: jaxgmm.fit(m, z, w, regularization=FLOOR).mixture)(mixtures, weights)


def log_posterior(mixtures, z):
    """Log-probability of each digit for each row (n, digits), all digits equally frequent."""
    return jax.nn.log_softmax(jax.vmap(lambda m: m.log_prob(z))(mixtures).T)


def loss(w, mixtures, x, labels, half):
    """Log-loss of each half of the rows under mixtures fitted to the other half; those mixtures are the next start."""
    z = x @ w
    own = jax.nn.one_hot(labels, N_DIGITS).T
    mixtures = fits(mixtures, z, jnp.concatenate([own * half, own * (1 - half)]))
    first = jax.tree.map(lambda leaf: leaf[:N_DIGITS], mixtures)
    second = jax.tree.map(lambda leaf: leaf[N_DIGITS:], mixtures)
    log_prob = jnp.where(half[:, None] > 0, log_posterior(second, z), log_posterior(first, z))
    return -jnp.mean(log_prob[jnp.arange(len(x)), labels]), jax.lax.stop_gradient(mixtures)


@functools.partial(jax.jit, static_argnames="optimizer")
def step(optimizer, w, mixtures, state, x, labels, half):
    """One step down the gradient of the loss."""
    (value, mixtures), gradient = jax.value_and_grad(loss, has_aux=True)(w, mixtures, x, labels, half)
    change, state = optimizer.update(gradient, state)
    return optax.apply_updates(w, change), mixtures, state, value


def learned(key, optimizer, w, x, labels, n_steps):
    """The maps on the way from `w`, the loss at each, and the seconds that each step took."""
    half = jnp.arange(len(x)) % 2
    own = jax.nn.one_hot(labels, N_DIGITS).T
    mixtures, state = start_of(key, x @ w, jnp.concatenate([own * half, own * (1 - half)])), optimizer.init(w)
    maps, curve, clock = [w], [], [time.perf_counter()]
    for _ in range(n_steps):
        w, mixtures, state, value = step(optimizer, w, mixtures, state, x, labels, half)
        maps.append(w)
        curve.append(float(value))
        clock.append(time.perf_counter())
    return maps, np.array(curve), np.diff(clock)


@jax.jit
def scored(key, w, x, labels, test, test_labels):
    """Mixtures fitted to all training rows, accuracy and log-loss on the test rows."""
    z = x @ w
    own = jax.nn.one_hot(labels, N_DIGITS).T
    mixtures = fits(start_of(key, z, own), z, own)
    log_prob = log_posterior(mixtures, test @ w)
    accuracy = jnp.mean(jnp.argmax(log_prob, axis=1) == test_labels)
    return mixtures, accuracy, -jnp.mean(log_prob[jnp.arange(len(test)), test_labels])


def draw_embedding(ax, z, labels, mixtures):
    """Rows by digit, the digit at its mean, ellipses at one standard deviation."""
    for digit, color in enumerate(COLORS):
        ax.scatter(*z[labels == digit].T, s=7, color=color, alpha=0.55, lw=0)
        ax.annotate(
            str(digit), z[labels == digit].mean(axis=0), color=color, fontsize=15, weight="bold", ha="center",
            va="center", zorder=4, bbox={"boxstyle": "circle,pad=0.12", "fc": "white", "ec": "none", "alpha": 0.75},
        )  # fmt: skip
        mixture = jax.tree.map(lambda leaf, digit=digit: leaf[digit], mixtures)
        for mean, covariance in zip(mixture.means, mixture.covariances, strict=True):
            variances, directions = np.linalg.eigh(covariance)
            angle = np.degrees(np.arctan2(directions[1, 1], directions[0, 1]))
            height, width = 2 * np.sqrt(variances)
            ax.add_patch(Ellipse(mean, width, height, angle=angle, fill=False, ec=color, lw=1.3, zorder=3))
    low, high = np.quantile(z, [0.005, 0.995], axis=0)
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xticks=[], yticks=[])
    ax.margins(0.05)


def main(path="out/embedding.png", n_steps=100, n_splits=3):
    pixels, labels = load_digits(return_X_y=True)
    names = ["PCA", "LDA", "learned"]
    optimizer = optax.adam(optax.cosine_decay_schedule(0.1, n_steps))
    table = []
    for split in range(n_splits):
        x, test, y, test_y = train_test_split(pixels, labels, train_size=1200, stratify=labels, random_state=split)
        # All three see the same 30 principal components of the training rows.
        first = PCA(30).fit(x)
        x, test = (first.transform(rows).astype(np.float32) / 10 for rows in (x, test))
        discriminants = LinearDiscriminantAnalysis(solver="eigen").fit(x, y).scalings_[:, :2]
        maps = [np.eye(30, 2, dtype=np.float32), discriminants.astype(np.float32)]
        key = jax.random.key(split)
        path_of_w, curve, seconds = learned(key, optimizer, maps[1], x, y, n_steps)
        maps.append(path_of_w[-1])
        ends = [scored(key, w, x, y, test, test_y) for w in maps]
        table.append([[float(accuracy), float(log_loss)] for _, accuracy, log_loss in ends])
        print(f"split {split}: log-loss of the halves {curve[0]:.3f} to {curve[-1]:.3f}", end=", ")
        print(f"first step {seconds[0]:.1f} s, the others {1e3 * np.median(seconds[1:]):.0f} ms each")
        if split == 0:
            steps = np.arange(0, n_steps + 1, max(1, n_steps // 15))
            held_out = [float(scored(key, path_of_w[at], x, y, test, test_y)[2]) for at in steps]
            shown = (test, test_y, maps, [mixtures for mixtures, _, _ in ends], curve, steps, held_out)
    table = np.array(table)
    for name, mean, spread in zip(names, table.mean(axis=0), np.ptp(table, axis=0), strict=True):
        print(
            f"{name:8} held-out accuracy {mean[0]:.1%} (range {spread[0]:.1%}), log-loss {mean[1]:.3f} "
            f"(range {spread[1]:.3f})"
        )

    test, test_y, maps, mixtures, curve, steps, held_out = shown
    figure, axes = plt.subplots(2, 2, figsize=(11, 9.5), layout="constrained")
    for ax, name, w, classes, (accuracy, log_loss) in zip(axes.flat, names, maps, mixtures, table[0], strict=False):
        draw_embedding(ax, np.asarray(test @ w), test_y, classes)
        ax.set_title(f"{name}: {accuracy:.1%} right, log-loss {log_loss:.3f}", loc="left")
    axes[1, 1].plot(curve, color="#0072b2", label="training rows, each half by the other's fit")
    axes[1, 1].plot(steps, held_out, "o-", ms=4, color="#d55e00", label="test rows")
    axes[1, 1].set(xlabel="step", ylabel="log-loss per row")
    axes[1, 1].set_title("Learning, from the map of LDA", loc="left")
    axes[1, 1].legend(frameon=False)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    print(f"picture in {path}")


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:4]))
