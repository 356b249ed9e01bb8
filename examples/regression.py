"""Old Faithful: how long did an eruption last, if the next one was this far off? A whole distribution, not a line.

Run with `python examples/regression.py [picture.png] [number of components]`.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxgmm

DATA = Path(__file__).parent / "data" / "faithful.csv"
BLUE, VERMILION = "#0072b2", "#d55e00"  # Okabe and Ito's, told apart by all readers
FOLDS = 8


@jax.jit
def regression(mixture, wait):
    """Mean and standard deviation of the duration, for each wait until the next eruption."""

    def one(wait):
        given = mixture.condition([0], [wait])
        return given.mean[0], jnp.sqrt(given.covariance[0, 0])

    return jax.vmap(one)(wait)


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


def held_out(x, n_components):
    """Log-density of every duration given its wait, by the mixture and by the line fitted without that eighth."""
    parts = np.split(np.random.default_rng(0).permutation(len(x)), FOLDS)
    rest = np.stack([x[np.setdiff1d(np.arange(len(x)), part)] for part in parts])
    fits = jaxgmm.fit_many(jax.random.key(1), rest, n_components, n_restarts=20).best
    seen = np.stack([x[part] for part in parts])
    mixed = np.asarray(jax.vmap(log_density)(fits.mixture, seen))
    lines = [line(train) for train in rest]
    linear = [log_normal(y[:, 1], a * y[:, 0] + b, sd) for y, (a, b, sd) in zip(seen, lines, strict=True)]
    return mixed.ravel(), np.concatenate(linear)


def draw(path, x, mixture):
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
        given = mixture.condition([0], [value])
        part.fill_betweenx(duration, np.exp(given.log_prob(duration[:, None])), color=VERMILION, alpha=0.35, lw=0)
        part.plot(np.exp(given.log_prob(duration[:, None])), duration, color=VERMILION, label="mixture")
        linear = np.exp(log_normal(duration, slope * value + intercept, spread))
        part.plot(linear, duration, color=BLUE, label="least squares")
        part.set(title=f"wait of {value} min", xlabel="density (1/min)", ylim=duration[[0, -1]], xlim=(0, None))
        part.spines[["top", "right"]].set_visible(False)
    slices[0].legend(loc="upper right", frameon=False)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main(path="out/regression.png", n_components=2):
    x = np.loadtxt(DATA, delimiter=",", skiprows=1)[:, ::-1]  # the wait first
    mixed, linear = held_out(x, n_components)
    gain = mixed - linear
    print(f"Old Faithful, {len(x)} eruptions: duration from the wait, {FOLDS}-fold held-out log-density per eruption")
    print(f"least squares {linear.mean():.3f}, mixture of {n_components} {mixed.mean():.3f};", end=" ")
    print(f"the mixture gains {gain.mean():.3f} ± {gain.std() / np.sqrt(len(gain)):.3f} nats")
    mixture = jaxgmm.fit_restarts(jax.random.key(0), x, n_components, n_restarts=20).best.mixture
    for value in (55, 68, 85):
        given = mixture.condition([0], [float(value)])
        long = float(jnp.sum(jnp.where(given.means[:, 0] > 3, given.weights, 0)))
        mean, sd = float(given.mean[0]), float(jnp.sqrt(given.covariance[0, 0]))
        print(f"wait of {value} min: {mean:.2f} ± {sd:.2f} min, a long eruption with probability {long:.2f}")
    draw(path, x, mixture)


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:3]))
