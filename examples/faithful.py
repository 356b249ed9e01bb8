"""Old Faithful: fit a mixture of two Gaussians to the geyser's eruptions, print it and draw it.

Run with `make demo`, or `python examples/faithful.py [picture.png]`.
"""

import sys
from pathlib import Path

import jax
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Ellipse

import jaxgmm

DATA = Path(__file__).parent / "data" / "faithful.csv"
COLORS = ["#0072b2", "#d55e00"]  # Okabe and Ito's blue and vermilion, told apart by all readers


def longest_first(mixture):
    """The mixture with its components in the order of their first mean, whatever order the fit left them in."""
    return mixture.take((-mixture.means[:, 0]).argsort())


def summary(result, mixture):
    """The fit in a few lines of text."""
    status = jaxgmm.Status(int(result.status))
    lines = [
        f"status          {status.name.lower()} after {int(result.n_iter)} iterations: {status.text}",
        f"log-likelihood  {float(result.log_likelihood):.3f}",
    ]
    for weight, mean, covariance in zip(mixture.weights, mixture.means, mixture.covariances, strict=True):
        rows = [" ".join(f"{value:8.3f}" for value in row) for row in np.asarray(covariance)]
        lines.append(f"weight {weight:.3f}    mean [{mean[0]:.3f} min, {mean[1]:.2f} min]    covariance [{rows[0]}]")
        lines.append(" " * 61 + f"[{rows[1]}]")
    return "\n".join(lines)


def draw(ax, mixture, x):
    """Points coloured by responsibility over density contours, ellipses at one and two standard deviations."""
    low, high = x.min(axis=0), x.max(axis=0)
    margin = 0.12 * (high - low)
    axes = [np.linspace(a, b, 200) for a, b in zip(low - margin, high + margin, strict=True)]
    grid = np.stack(np.meshgrid(*axes), axis=-1)
    log_density = np.asarray(mixture.log_prob(grid.reshape(-1, 2))).reshape(200, 200)
    # Each contour has half the density of the one inside it.
    levels = log_density.max() - np.log(2) * np.arange(10, -1, -1)
    ax.contourf(*axes, log_density, levels=levels, cmap="Greys", alpha=0.4)
    ax.contour(*axes, log_density, levels=levels, colors="0.65", linewidths=0.4, linestyles="solid")

    shades = LinearSegmentedColormap.from_list("responsibility", [COLORS[0], "#f0e442", COLORS[1]])
    second = mixture.responsibilities(x)[:, 1]
    points = ax.scatter(*x.T, c=second, cmap=shades, vmin=0, vmax=1, s=18, edgecolor="0.2", linewidth=0.3, zorder=3)

    for color, mean, covariance in zip(COLORS, mixture.means, mixture.covariances, strict=True):
        variances, directions = np.linalg.eigh(covariance)
        angle = np.degrees(np.arctan2(directions[1, 1], directions[0, 1]))
        for sigmas, style in ((1, "-"), (2, (0, (5, 2)))):
            height, width = 2 * sigmas * np.sqrt(variances)
            ax.add_patch(Ellipse(mean, width, height, angle=angle, fill=False, ec=color, ls=style, lw=1.6, zorder=4))
        ax.plot(*mean, marker="+", color=color, ms=9, mew=2, zorder=5)
    for sigmas, style in ((1, "-"), (2, (0, (5, 2)))):
        ax.plot([], [], color="0.3", ls=style, lw=1.6, label=f"{sigmas} sd")
    ax.legend(loc="upper left", frameon=False)
    ax.set_xlim(axes[0][[0, -1]])
    ax.set_ylim(axes[1][[0, -1]])
    return points


def main(path="out/faithful.png"):
    """Fit, print, draw."""
    x = np.loadtxt(DATA, delimiter=",", skiprows=1)
    result = jaxgmm.fit_restarts(jax.random.key(0), x, n_components=2, n_restarts=20).best
    mixture = longest_first(result.mixture)
    print(f"Old Faithful, {x.shape[0]} eruptions, two Gaussian components, best of 20 starts\n")
    print(summary(result, mixture))

    matplotlib.use("agg")
    figure, ax = plt.subplots(figsize=(7, 5), layout="constrained")
    points = draw(ax, mixture, x)
    ax.set(xlabel="eruption length (min)", ylabel="waiting time to the next (min)")
    ax.set_title("Two kinds of eruption at Old Faithful", loc="left")
    figure.colorbar(points, label="responsibility of the component of short eruptions", ticks=[0, 0.5, 1])
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    print(f"\npicture in {path}")


if __name__ == "__main__":
    main(*sys.argv[1:])
