"""
Twenty thousand fits in two calls
=================================

Which of ten thousand genes are switched on in some samples only? Each gene is a small data set of its own, 200 numbers,
and asks for two fits: one component, two components, and which of them BIC prefers. A loop in Python pays its overhead
twenty thousand times. `fit_many` compiles one program and sends all data sets through it.

The expression levels are simulated, so that the answer is known: one gene in ten is bimodal.
"""

# %%
# Genes differ in level, noise, and, where there are two states, in the share of samples in the upper one and how far up
# it is.

import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.mixture import GaussianMixture

import jaxgmm
from jaxgmm import plot

N_GENES = 10_000
N_SAMPLES = 200
N_LOOPED = 100
BLUE, VERMILION = "#0072b2", "#d55e00"

rng = np.random.default_rng(0)
bimodal = rng.random(N_GENES) < 0.1
share = rng.uniform(0.15, 0.85, N_GENES)
on = rng.random((N_GENES, N_SAMPLES)) < share[:, None]
rise = rng.uniform(2.0, 6.0, N_GENES)
level, noise = rng.normal(5.0, 1.5, N_GENES), rng.gamma(5.0, 0.1, (N_GENES, 1))
x = level[:, None] + noise * (rng.normal(size=on.shape) + np.where(bimodal[:, None], on * rise[:, None], 0))
x = x[..., None].astype(np.float32)

# %%
# All fits
# --------
#
# One component and two are one program too, with room for two components, so that compiling happens once. The result
# is a stack: every field has a leading axis of genes. A component that closed in on a few samples is no second state,
# whatever its likelihood; `regular` says where there is none such.


def compared(x):
    """Two components against one by BIC for every gene (positive: two), and the fits with two."""
    one, two = (jaxgmm.fit_many(jax.random.key(k), x, k, "spherical", max_components=2, history_size=2) for k in (1, 2))
    scores = [
        fits.best.mixture.n_parameters * jnp.log(x.shape[1]) - 2 * fits.best.log_likelihood for fits in (one, two)
    ]
    return np.asarray(scores[0] - scores[1]), two


compared(x[:200])  # compiles
start = time.perf_counter()
difference, fits = compared(x)
seconds = time.perf_counter() - start
regular = np.asarray(fits.regular)[:, 0]
called = (difference > 0) & regular
print(
    f"{2 * N_GENES} fits in {seconds:.1f} s; {np.mean(np.asarray(fits.best.converged)):.1%} of those with two converged"
)
print(f"{called.sum()} genes called bimodal: {bimodal[called].mean():.1%} of them are,", end=" ")
print(f"and {called[bimodal].mean():.1%} of all that are were found")
print(f"{np.sum((difference > 0) & ~regular)} more have a component on a few samples only")
apart = [np.median(rise[bimodal & chosen]) for chosen in (called, ~called)]
print(f"states found lie {apart[0]:.1f} noise standard deviations apart, those missed {apart[1]:.1f} (medians)")

# %%
# The same in a loop
# ------------------
#
# scikit-learn, with its own defaults, on the first hundred genes only. What all of them would take is that time a
# hundred times over, not measured.

start = time.perf_counter()
looped = [
    np.subtract(*(GaussianMixture(k, covariance_type="spherical", random_state=0).fit(gene).bic(gene) for k in (1, 2)))
    for gene in x[:N_LOOPED]
]
loop_seconds = time.perf_counter() - start
in_all = loop_seconds * N_GENES / N_LOOPED
same = np.mean((np.array(looped) > 0) == (difference > 0)[:N_LOOPED])
print(f"a loop over scikit-learn: {loop_seconds:.2f} s for {N_LOOPED} genes, {in_all:.0f} s if scaled to all,", end=" ")
print(f"{in_all / seconds:.0f} times as long; it calls {same:.0%} of these genes the same")

# %%
# The picture
# -----------
#
# Most genes of one state lie well below 0, most of two states far above. Three genes that were called bimodal: the
# clearest, one in the middle, and the last one.

figure, axes = plt.subplots(1, 4, figsize=(13, 3.2), layout="constrained")
bins = np.linspace(-20, 150, 60)
for chosen, label, color in ((~bimodal, "one state", BLUE), (bimodal, "two states", VERMILION)):
    axes[0].hist(np.clip(difference[chosen], -20, 150), bins, alpha=0.7, label=label, color=color)
axes[0].axvline(0, color="black", lw=1)
axes[0].set(xlabel="BIC of one less BIC of two components", ylabel="genes", yscale="log")
axes[0].legend(frameon=False)
ranked = np.argsort(np.where(called, -difference, np.inf))[: called.sum()]
for ax, gene in zip(axes[1:], ranked[[0, len(ranked) // 2, -1]], strict=True):
    mixture = jax.tree.map(lambda leaf, gene=gene: leaf[gene], fits.best.mixture)
    plot.histogram(mixture, x[gene], ax, bins=30)
    ax.set(title=f"gene {gene}, {difference[gene]:.0f}", xlabel="log-expression")
    if legend := ax.get_legend():
        legend.remove()
plt.show()
