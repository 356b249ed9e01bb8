"""Old Faithful: how much does each eruption move a fitted mean? One derivative, against a refit without each row.

Run with `python examples/influence.py [picture.png] [number of rows]`. The fit is differentiable in the row weights:
the derivative in the weight of a row is its influence, to first order what the mean owes to that row being there.
"""

import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Ellipse

import jaxgmm

DATA = Path(__file__).parent / "data" / "faithful.csv"
# Okabe and Ito's, told apart by all readers
BLUE, VERMILION, ORANGE, BLACK = "#0072b2", "#d55e00", "#e69f00", "black"
MIDDLE = 1  # the component looked at, in the order of waiting times


def best_fit(x):
    """Three components that share one covariance, sorted by waiting time."""
    best = jaxgmm.fit_restarts(jax.random.key(0), x, n_components=3, covariance_type="tied", n_restarts=20).best
    return best.mixture.take(jnp.argsort(best.mixture.means[:, 1]))


def mean_wait(weights, mixture, x):
    """Mean waiting time of the middle component, fitted to weighted rows from `mixture` on."""
    # Changes as small as those that one row makes ask for a fit that goes on to rounding: tol=0.
    return jaxgmm.fit(mixture, x, weights, tol=0).mixture.means[MIDDLE, 1]


influence = jax.jit(jax.grad(mean_wait))


@jax.jit
def without_each(mixture, x):
    """The same mean without row i, for every i: as many refits, one program."""
    weights = jnp.ones(len(x))
    return jax.lax.map(lambda i: mean_wait(weights.at[i].set(0), mixture, x), jnp.arange(len(x)))


def timed(function, *arguments):
    """The result and the seconds of a second call; the first compiles."""
    jax.block_until_ready(function(*arguments))
    start = time.perf_counter()
    result = jax.block_until_ready(function(*arguments))
    return np.asarray(result), time.perf_counter() - start


def compared(foretold, change):
    """Correlation, slope through the origin and largest deviation, as text."""
    slope = foretold @ change / (foretold @ foretold)
    correlation = np.corrcoef(foretold, change)[0, 1]
    return f"correlation {correlation:.4f}, slope {slope:.4f}, off by {abs(change - foretold).max():.3f} min at most"


def draw(path, x, mixture, first_order, held, change):
    """The rows coloured by influence, and influence against refits."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained", width_ratios=[1.35, 1])
    colors = LinearSegmentedColormap.from_list("influence", [BLUE, "#f2f2f2", VERMILION])
    limit = abs(first_order).max()
    order = np.argsort(abs(first_order))  # the strongest on top
    points = axes[0].scatter(
        *x[order].T, c=first_order[order], cmap=colors, vmin=-limit, vmax=limit, s=26, ec="0.35", lw=0.4, zorder=2
    )
    for k, (mean, covariance) in enumerate(zip(mixture.means, mixture.covariances, strict=True)):
        variances, directions = np.linalg.eigh(covariance)
        angle = np.degrees(np.arctan2(directions[1, 1], directions[0, 1]))
        height, width = 4 * np.sqrt(variances)
        look = {"ec": BLACK, "lw": 1.8} if k == MIDDLE else {"ec": "0.6", "lw": 1, "ls": "--"}
        axes[0].add_patch(Ellipse(mean, width, height, angle=angle, fill=False, zorder=3, **look))
    axes[0].plot(*mixture.means[MIDDLE], "+", color=BLACK, ms=11, mew=2, zorder=4)
    axes[0].set(xlabel="eruption length (min)", ylabel="waiting time to the next (min)")
    axes[0].set_title("What each eruption does to the mean at the cross (ellipses: 2 sd)", loc="left", fontsize=10)
    figure.colorbar(points, ax=axes[0], label="influence on its mean waiting time (min)")

    ends = np.array([min(first_order.min(), change.min()), max(first_order.max(), change.max())]) * 1.08
    axes[1].axline((0, 0), slope=1, color="0.5", lw=1, zorder=1)
    axes[1].scatter(held, change, s=14, fc="none", ec=ORANGE, lw=0.8, zorder=2, label="responsibilities held fixed")
    axes[1].scatter(first_order, change, s=18, color=BLUE, alpha=0.7, lw=0, zorder=3, label="through the fit")
    axes[1].legend(frameon=False, loc="upper left")
    axes[1].set(xlim=ends, ylim=ends, aspect="equal")
    axes[1].set(xlabel="influence: one derivative (min)", ylabel="mean less that of the refit without the row (min)")
    axes[1].set_title(f"One derivative against {len(x)} refits", loc="left", fontsize=10)
    figure.savefig(path, dpi=120)


def main(path="out/influence.png", n_rows=272):
    x = jnp.asarray(np.loadtxt(DATA, delimiter=",", skiprows=1)[:n_rows])
    mixture = best_fit(x)
    weights = jnp.ones(len(x))
    whole = float(mean_wait(weights, mixture, x))
    first_order, seconds = timed(influence, weights, mixture, x)
    refitted, all_seconds = timed(without_each, mixture, x)
    change = whole - refitted
    share = np.asarray(mixture.responsibilities(x))[:, MIDDLE]
    held = share * (np.asarray(x)[:, 1] - whole) / share.sum()

    print(f"Old Faithful, {len(x)} eruptions, three components of one covariance; the middle one waits {whole:.2f} min")
    print(f"one derivative in all row weights: {1e3 * seconds:.1f} ms; {len(x)} refits: {1e3 * all_seconds:.1f} ms")
    print(f"influence against refits:          {compared(first_order, change)}")
    print(f"were responsibilities held fixed:  {compared(held, change)}")
    strongest = int(np.argmax(abs(change)))
    print(
        f"the strongest row, ({x[strongest, 0]:.2f}, {x[strongest, 1]:.0f}) min: its influence is "
        f"{first_order[strongest]:+.3f} min, the refit says {change[strongest]:+.3f}"
    )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    draw(path, np.asarray(x), mixture, first_order, held, change)
    print(f"picture in {path}")


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:3]))
