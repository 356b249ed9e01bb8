"""
An embedding learned through fits
=================================

Handwritten digits in two columns. Each digit is a mixture of two Gaussians in the embedded rows :math:`z = x W`, and W
follows the gradient of how well the fitted mixtures name rows they have not seen: a derivative through twenty fits at
each step.

The likelihood of the z would be no sound objective: it rises without end as z shrinks, and under a W held orthonormal
it asks for directions in which nothing varies. The probability of a digit given its z is unmoved by any invertible map
of z, since the volume cancels. So W can be left free, and only which plane it looks at counts.
"""

# %%
# Three splits of sklearn's digits. All maps see the same 30 principal components of the training rows.

import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import train_test_split

import jaxgmm
from jaxgmm import plot

# A step takes the derivatives of twenty fits. In float32, now and then one of them has not come near enough to rest to
# have any.
jax.config.update("jax_enable_x64", True)

N_STEPS = 100
N_SPLITS = 3
N_TRAIN = 1200
N_DIGITS, N_COMPONENTS = 10, 2
FLOOR = 0.01  # under the variances of a component: it must not close in on single rows

pixels, digits = load_digits(return_X_y=True)
splits = []
for split in range(N_SPLITS):
    x, test, y, test_y = train_test_split(pixels, digits, train_size=N_TRAIN, stratify=digits, random_state=split)
    first = PCA(30).fit(x)
    splits.append([*(first.transform(rows).astype(np.float64) / 10 for rows in (x, test)), y, test_y])

# %%
# The loss
# --------
#
# The rows are in two halves. Each half is named by mixtures fitted to the other one; its log-loss is what W is to
# lower. The fits of all digits and both halves are one `vmap` over row weights, and each step starts from the fits of
# the last one.


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


def of_halves(y):
    """Which rows are of each digit in the first half, then in the second (2 digits, n), and which half a row is in."""
    half = jnp.arange(len(y)) % 2
    own = jax.nn.one_hot(y, N_DIGITS).T
    return jnp.concatenate([own * half, own * (1 - half)]), half


def loss(w, mixtures, x, y):
    """Log-loss of each half of the rows under mixtures fitted to the other half; those mixtures are the next start."""
    z, (own, half) = x @ w, of_halves(y)
    mixtures = fits(mixtures, z, own)
    first = jax.tree.map(lambda leaf: leaf[:N_DIGITS], mixtures)
    second = jax.tree.map(lambda leaf: leaf[N_DIGITS:], mixtures)
    log_prob = jnp.where(half[:, None] > 0, log_posterior(second, z), log_posterior(first, z))
    return -jnp.mean(log_prob[jnp.arange(len(x)), y]), jax.lax.stop_gradient(mixtures)


optimizer = optax.adam(optax.cosine_decay_schedule(0.1, N_STEPS))


@jax.jit
def step(w, mixtures, state, x, y):
    (value, mixtures), gradient = jax.value_and_grad(loss, has_aux=True)(w, mixtures, x, y)
    change, state = optimizer.update(gradient, state)
    return optax.apply_updates(w, change), mixtures, state, value


@jax.jit
def scored(key, w, x, y, test, test_y):
    """Mixtures fitted to all training rows, accuracy and log-loss on the test rows."""
    z, own = x @ w, jax.nn.one_hot(y, N_DIGITS).T
    mixtures = fits(start_of(key, z, own), z, own)
    log_prob = log_posterior(mixtures, test @ w)
    accuracy = jnp.mean(jnp.argmax(log_prob, axis=1) == test_y)
    return mixtures, accuracy, -jnp.mean(log_prob[jnp.arange(len(test)), test_y])


# %%
# Learning, from where linear discriminants are
# ---------------------------------------------
#
# Both maps that W is compared with see only means and covariances of the rows (PCA) or of the digits (LDA, which also
# takes all digits to have the same covariance).

names = ["PCA", "LDA", "learned"]
table = []
for split, (x, test, y, test_y) in enumerate(splits):
    discriminants = LinearDiscriminantAnalysis(solver="eigen").fit(x, y).scalings_[:, :2].astype(np.float64)
    key, w = jax.random.key(split), discriminants
    mixtures, state = start_of(key, x @ w, of_halves(y)[0]), optimizer.init(w)
    way, curve, clock = [w], [], [time.perf_counter()]
    for _ in range(N_STEPS):
        w, mixtures, state, value = step(w, mixtures, state, x, y)
        way.append(w)
        curve.append(float(value))
        clock.append(time.perf_counter())
    seconds = np.diff(clock)
    maps = [np.eye(30, 2, dtype=np.float64), discriminants, w]
    ends = [scored(key, one, x, y, test, test_y) for one in maps]
    table.append([[float(accuracy), float(log_loss)] for _, accuracy, log_loss in ends])
    print(f"split {split}: log-loss of the halves {curve[0]:.3f} to {curve[-1]:.3f}", end=", ")
    print(f"first step {seconds[0]:.1f} s, the others {1e3 * np.median(seconds[1:]):.0f} ms each")
    if split == 0:
        steps = np.arange(0, N_STEPS + 1, max(1, N_STEPS // 15))
        held_out = [float(scored(key, way[at], x, y, test, test_y)[2]) for at in steps]
        shown = (curve, [(np.asarray(test @ one), fitted) for one, (fitted, *_) in zip(maps, ends, strict=True)])
table = np.array(table)
for name, mean, spread in zip(names, table.mean(axis=0), np.ptp(table, axis=0), strict=True):
    print(f"{name:8} held-out accuracy {mean[0]:.1%} (range {spread[0]:.1%}),", end=" ")
    print(f"log-loss {mean[1]:.3f} (range {spread[1]:.3f})")

# %%
# The picture
# -----------
#
# The test rows of the first split in each map, with the two components of each digit.

# Okabe and Ito's eight and two more; the digits are also written where they are.
ten = ["#000000", "#e69f00", "#56b4e9", "#009e73", "#cab900", "#0072b2", "#d55e00", "#cc79a7", "#888888", "#6a3d9a"]
figure, axes = plt.subplots(2, 2, figsize=(11, 9.5), layout="constrained")
curve, embedded = shown
labels = splits[0][3]
for ax, name, (z, mixtures), (accuracy, log_loss) in zip(axes.flat, names, embedded, table[0], strict=False):
    for digit, color in enumerate(ten):
        ax.scatter(*z[labels == digit].T, s=7, color=color, alpha=0.55, lw=0)
        look = {"boxstyle": "circle,pad=0.12", "fc": "white", "ec": "none", "alpha": 0.75}
        at = z[labels == digit].mean(axis=0)
        ax.text(*at, str(digit), color=color, fontsize=15, weight="bold", ha="center", va="center", bbox=look, zorder=4)
        mixture = jax.tree.map(lambda leaf, digit=digit: leaf[digit], mixtures)
        plot.ellipses(mixture, ax, levels=[0.5], colors=color, fill=False)
    low, high = np.quantile(z, [0.005, 0.995], axis=0)
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xticks=[], yticks=[])
    ax.set_title(f"{name}: {accuracy:.1%} right, log-loss {log_loss:.3f}", loc="left")
axes[1, 1].plot(curve, color="#0072b2", label="training rows, each half by the other's fit")
axes[1, 1].plot(steps, held_out, "o-", ms=4, color="#d55e00", label="test rows")
axes[1, 1].set(xlabel="step", ylabel="log-loss per row")
axes[1, 1].set_title("Learning, from the map of LDA", loc="left")
axes[1, 1].legend(frameon=False)
plt.show()
