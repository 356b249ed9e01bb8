"""
Stars with error bars
=====================

The iron and magnesium of stars, relative to each other, tell where in the Galaxy they come from: the thin disc, the
thick disc or the halo. They are measured from spectra, each with an error of its own, so a picture of many stars shows
the populations blurred, the faint stars more than the bright ones. A mixture of the rows as they are is one of the
blur. Given the errors, the same fit finds the populations behind them: extreme deconvolution (Bovy, Hogg & Roweis,
2011).

The stars here are made up, so that the truth is known.
"""

# %%
# Three populations, and errors
# -----------------------------
# A catalogue has standard errors; ``noise`` takes variances, so they are squared.

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxgmm
from jaxgmm import plot

N_STARS = 2000
N_RESTARTS = 20
SIZES = (0.25, 0.5, 1.0, 2.0)  # of the errors, where 1 is about 0.1 and 0.06 dex
SAID = (0.7, 1.5)  # errors that are said to be smaller or larger than they are
BLUE, VERMILION = "#0072b2", "#d55e00"

truth = jaxgmm.from_parameters(
    [0.62, 0.28, 0.10],
    [[0.0, 0.04], [-0.45, 0.24], [-1.2, 0.2]],
    [
        [[0.035, -0.004], [-0.004, 0.0012]],
        [[0.040, -0.004], [-0.004, 0.0012]],
        [[0.120, -0.012], [-0.012, 0.0050]],
    ],
)
keys = jax.random.split(jax.random.key(0), 4)
true, population = truth.sample_with_labels(keys[0], N_STARS)
faintness = jnp.exp(0.7 * jax.random.normal(keys[1], (N_STARS, 1)))
blur = jax.random.normal(keys[2], (N_STARS, 2))
test = truth.sample(keys[3], 20_000)


def measured(size):
    """Stars as they are measured (n, 2), and their standard errors."""
    errors = size * faintness * jnp.array([0.1, 0.06])
    return true + errors * blur, errors


def best_fit(rows):
    return jaxgmm.fit_restarts(jax.random.key(1), rows, 3, n_restarts=N_RESTARTS).best.mixture


def misses(mixture):
    """How much less log-density per star it gives to error-free stars than the truth does: the divergence from it."""
    return float(jnp.mean(truth.log_prob(test) - mixture.log_prob(test)))


x, errors = measured(1.0)
rows = jaxgmm.rows(x, noise=errors**2)
naive, deconvolved = best_fit(x), best_fit(rows)
for name, mixture in (("truth", truth), ("as measured", naive), ("with errors", deconvolved)):
    mixture = mixture.sorted(by="weight")
    widths = jnp.sqrt(jnp.diagonal(mixture.covariances, axis1=1, axis2=2))
    print(f"{name:12}  weights " + " ".join(f"{weight:.2f}" for weight in mixture.weights), end="")
    print("   widths " + ", ".join(f"{iron:.2f} x {ratio:.3f}" for iron, ratio in widths))

# %%
# How large errors have to be to matter
# -------------------------------------
# How much log-density per star a fit gives away on error-free stars. The third column is the fit to the true values,
# which no catalogue has: what is left there is due to the number of stars. Errors of 0.04 and 0.025 dex, smaller than
# the populations are wide, already cost the naive fit eight times that; given the errors, a fit hardly loses anything.
# Of which population a star is, is less clear the larger its error, by the truth as much as by the fit.
#
# The errors have to be right. Said to be half as large again as they are, they are taken out of widths which they never
# made, and the naive fit is the better one. Errors said to be too small do less harm.

sizes = {}
print(f"{'':24}{'as measured':>14}{'with errors':>14}{'error-free':>14}   populations: with errors, by the truth")
for size in SIZES:
    of_size, of_errors = measured(size)
    known = jaxgmm.rows(of_size, noise=of_errors**2)
    found = best_fit(known)
    sizes[size] = [misses(best_fit(of_size)), misses(found), misses(best_fit(true))]
    agreement = [float(jaxgmm.adjusted_rand_index(population, of.predict(known))) for of in (found, truth)]
    print(f"errors times {size:<11}" + "".join(f"{value:14.3f}" for value in sizes[size]), end="")
    print(f"   {agreement[0]:.2f}, {agreement[1]:.2f}")
for factor in SAID:
    wrongly = misses(best_fit(jaxgmm.rows(x, noise=(factor * errors) ** 2)))
    print(f"errors said to be {factor} times as large: {wrongly:.3f}")

# %%
# The stars themselves
# --------------------
# ``denoise`` draws each star towards where stars are, the more the larger its error: the mean squared error of the
# iron falls by half. ``variances`` say how sure each is.

cleaned = jaxgmm.denoise(deconvolved, rows)
for column, name in enumerate(("iron", "magnesium over iron")):
    before, after = (float(jnp.sqrt(jnp.mean((of - true)[:, column] ** 2))) for of in (x, cleaned.means))
    said = float(jnp.sqrt(jnp.mean(cleaned.variances[:, column])))
    print(f"{name:20} error {before:.3f} dex as measured, {after:.3f} denoised, said to be {said:.3f}")

# %%
# The picture
# -----------
# Above, the regions that hold 90 % of each component, and in black those of the truth. Below,
# densities along magnesium over iron, where the two discs are apart, and a few stars before and after.

figure, axes = plt.subplot_mosaic(
    [["naive", "deconvolved"], ["profile", "stars"]], figsize=(11, 8), layout="constrained"
)
look = {"xlim": (-2.1, 0.7), "ylim": (-0.25, 0.55), "xlabel": "[Fe/H] (dex)", "ylabel": "[Mg/Fe] (dex)"}
for name, mixture, color, title in (
    ("naive", naive, VERMILION, "A mixture of the stars as measured"),
    ("deconvolved", deconvolved, BLUE, "The same, given the errors"),
):
    axes[name].scatter(*x.T, s=3, color="0.6", lw=0)
    plot.ellipses(truth, axes[name], levels=[0.9], colors="black", fill=False)
    plot.ellipses(mixture, axes[name], levels=[0.9], colors=color, fill=False)
    axes[name].set(**look)
    axes[name].set_title(title, loc="left")

ratio = jnp.linspace(-0.3, 0.6, 400)[:, None]
profile = axes["profile"]
profile.hist(np.asarray(x[:, 1]), 80, range=(-0.3, 0.6), density=True, color="0.85", label="stars as measured")
for mixture, color, name in (
    (truth, "black", "truth"),
    (naive, VERMILION, "as measured"),
    (deconvolved, BLUE, "given the errors"),
):
    profile.plot(ratio[:, 0], jnp.exp(mixture.marginal([1]).log_prob(ratio)), color=color, label=name)
profile.set(xlabel="[Mg/Fe] (dex)", ylabel="density")
profile.legend(frameon=False)
profile.set_title("Thin and thick disc", loc="left")

some = np.arange(0, N_STARS, 12)
axes["stars"].scatter(*cleaned.means[some].T, s=14, color=BLUE, lw=0, zorder=3)
for before, after in zip(np.asarray(x[some]), np.asarray(cleaned.means[some]), strict=True):
    axes["stars"].plot(*np.stack([before, after]).T, color="0.7", lw=0.6, zorder=2)
axes["stars"].set(**look)
axes["stars"].set_title("Some stars: lines lead from where they are measured", loc="left")
plt.show()
