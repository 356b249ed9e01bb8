"""
Drawing new digits from a density
=================================

A mixture is a density: rows can be drawn from it, and rows that it has not seen tell how good it is. Here it learns
handwritten digits, scikit-learn's ``digits`` of 8 x 8 pixels, without being told which digit is which.

The comparison is with a kernel density estimate, whose bandwidth is tuned on the same held-out rows. Two questions: how
probable are new digits under each density, and how far are drawn digits from those that it was given?
"""

# %%
# Digits to learn from, to choose by, to judge by
# -----------------------------------------------
# Twenty principal components of the training rows keep most of what varies. Both densities live there.

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KernelDensity, NearestNeighbors

import jaxgmm

N_COLUMNS = 20
N_COMPONENTS = (1, 10, 20, 40)
FLOORS = (0.05, 0.15)  # under the variances, relative to those of the data
N_RESTARTS = 2
N_DRAWN = 600

pixels, _ = load_digits(return_X_y=True)
train, rest = train_test_split(pixels, train_size=1000, random_state=0)
choose, judge = train_test_split(rest, test_size=0.5, random_state=0)
components = PCA(N_COLUMNS, random_state=0).fit(train)
x, x_choose, x_judge = (components.transform(rows).astype(np.float32) for rows in (train, choose, judge))
print(f"{components.explained_variance_ratio_.sum():.0%} of the variance in {N_COLUMNS} of 64 columns")

# %%
# Tuning both
# -----------
# The number of components and the floor under the variances are those of the highest likelihood of rows held out.
# Neither needs a compilation of its own: with ``max_components`` both are traced.

curves = {}
for floor in FLOORS:
    for k in N_COMPONENTS:
        result = jaxgmm.fit_restarts(
            jax.random.key(k),
            x,
            k,
            "full",
            max_components=max(N_COMPONENTS),
            n_restarts=N_RESTARTS,
            n_finalists=N_RESTARTS,
            methods=("k-means++",),
            regularization=floor,
            tol=1e-4,
        ).best
        curves[floor, k] = float(jnp.mean(result.mixture.log_prob(x_choose))), result.mixture
(floor, k), (_, mixture) = max(curves.items(), key=lambda item: item[1][0])
bandwidths = np.geomspace(2, 12, 25)
kernels = {width: KernelDensity(bandwidth=width).fit(x) for width in bandwidths}
heights = [kernels[width].score(x_choose) / len(x_choose) for width in bandwidths]
kernel = kernels[bandwidths[int(np.argmax(heights))]]
print(f"mixture of {k} components, floor {floor}; kernel bandwidth {kernel.bandwidth:.2f}")

# %%
# Held-out likelihood
# -------------------
# Of rows that took no part in fitting or tuning. Both densities are far ahead of a single Gaussian, and near each
# other: the mixture leads by 0.43 per digit, twice the standard error of that. It does so with 20 components, where the
# kernel density keeps all of its 1000 rows.

values = {"mixture": np.asarray(mixture.log_prob(x_judge)), "kernels": kernel.score_samples(x_judge)}
single = np.asarray(curves[FLOORS[0], N_COMPONENTS[0]][1].log_prob(x_judge))
for name, value in (*values.items(), (f"{N_COMPONENTS[0]} component", single)):
    print(f"{name:12} log-likelihood per new digit {value.mean():.2f}")
difference = values["mixture"] - values["kernels"]
error = difference.std() / np.sqrt(len(difference))
print(f"the mixture is ahead by {difference.mean():.2f} +- {error:.2f}")

# %%
# How new?
# --------
# What a kernel density draws is a training row and noise of the bandwidth in all twenty directions, so that nearly all
# its digits are equally far from the training rows, 14 or so, as far as the typical real one. Real digits vary more:
# some are much like one seen before, some like none. The mixture's vary as much, but lie further out than real ones do,
# perhaps because the floor also widens a component in directions in which its digits hardly vary.

drawn = {
    "mixture": np.asarray(mixture.sample(jax.random.key(1), N_DRAWN)),
    "kernels": kernel.sample(N_DRAWN, random_state=0),
    "real": x_judge,
}
neighbours = NearestNeighbors(n_neighbors=1).fit(x)
gaps = {name: neighbours.kneighbors(rows)[0][:, 0] for name, rows in drawn.items()}
for name, gap in gaps.items():
    low, middle, high = np.quantile(gap, [0.05, 0.5, 0.95])
    print(f"{name:12} distance to the nearest training row {middle:.1f}, nine in ten from {low:.1f} to {high:.1f}")


def sheet(rows, n=8):
    """`n` by `n` of these rows as one picture."""
    images = np.clip(components.inverse_transform(rows[: n * n]), 0, 16).reshape(n, n, 8, 8)
    return np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1))).transpose(0, 2, 1, 3).reshape(n * 10, n * 10)


figure, axes = plt.subplot_mosaic(
    [["real", "mixture", "kernels"], ["tuning", "gaps", "gaps"]],
    figsize=(11.5, 7.4),
    height_ratios=[1.6, 1],
    layout="constrained",
)
titles = {"real": "Real, not seen", "mixture": "Drawn from the mixture", "kernels": "Drawn from the kernel density"}
for name, title in titles.items():
    axes[name].imshow(sheet(drawn[name]), cmap="gray_r")
    axes[name].set(xticks=[], yticks=[])
    axes[name].set_title(title, loc="left")
BLUE, VERMILION, GREEN = "#0072b2", "#d55e00", "#009e73"
for one, style in zip(FLOORS, (":", "--", "-"), strict=False):
    line = [curves[one, k][0] for k in N_COMPONENTS]
    axes["tuning"].plot(N_COMPONENTS, line, style, marker="o", ms=4, color=BLUE, label=f"floor {one}")
axes["tuning"].axhline(max(heights), color=VERMILION, label="kernels, tuned")
axes["tuning"].set(xlabel="components", ylabel="held-out log-likelihood", ylim=(max(heights) - 4, None))
axes["tuning"].legend(frameon=False, fontsize=8)
axes["tuning"].set_title("Tuning", loc="left")
bins = np.linspace(0, max(gap.max() for gap in gaps.values()), 40)
for (name, gap), color in zip(gaps.items(), (BLUE, VERMILION, GREEN), strict=True):
    axes["gaps"].hist(gap, bins, density=True, histtype="step", lw=2, color=color, label=titles[name])
axes["gaps"].set(xlabel="distance to the nearest training digit", yticks=[])
axes["gaps"].legend(frameon=False)
axes["gaps"].set_title("How new they are", loc="left")
plt.show()
