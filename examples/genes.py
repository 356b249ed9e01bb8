"""Ten thousand genes: which of them are switched on in some samples only? One mixture per gene, all in two calls.

Run with `python examples/genes.py [picture.png] [number of genes]`. The expression levels are simulated, so that the
answer is known: one gene in ten is bimodal.
"""

import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxgmm

COLORS = ["#0072b2", "#d55e00"]  # Okabe and Ito's blue and vermilion, told apart by all readers


def expression(rng, n_genes, n_samples):
    """Log-expression (genes, samples, 1), and which genes are bimodal."""
    bimodal = rng.random(n_genes) < 0.1
    share = rng.uniform(0.15, 0.85, n_genes)
    on = rng.random((n_genes, n_samples)) < share[:, None]
    rise = rng.uniform(2.0, 6.0, n_genes)
    level, noise = rng.normal(5.0, 1.5, n_genes), rng.gamma(5.0, 0.1, (n_genes, 1))
    x = level[:, None] + noise * (rng.normal(size=on.shape) + np.where(bimodal[:, None], on * rise[:, None], 0))
    return x[..., None].astype(np.float32), bimodal


def compared(x):
    """Two components against one by BIC for every gene (positive: two), and the fits with two."""
    fits = [jaxgmm.fit_many(jax.random.key(k), x, k, "spherical", max_components=2, history_size=2) for k in (1, 2)]
    rows = jnp.log(x.shape[1])
    scores = [fit.best.mixture.n_parameters * rows - 2 * fit.best.log_likelihood for fit in fits]
    return np.asarray(scores[0] - scores[1]), fits[1].best


def draw(path, x, bimodal, difference, fits):
    """How well the difference separates the genes, and three genes with their mixtures."""
    figure, axes = plt.subplots(1, 4, figsize=(13, 3), layout="constrained")
    bins = np.linspace(-20, 150, 60)
    for chosen, label, color in ((~bimodal, "one state", COLORS[0]), (bimodal, "two states", COLORS[1])):
        axes[0].hist(np.clip(difference[chosen], -20, 150), bins, alpha=0.7, label=label, color=color)
    axes[0].axvline(0, color="black", lw=1)
    axes[0].set(xlabel="BIC of one less BIC of two components", ylabel="genes", yscale="log")
    axes[0].legend(frameon=False)
    ranked = np.argsort(-difference)
    found = int((difference > 0).sum())
    for ax, gene in zip(axes[1:], ranked[[0, found // 2, found - 1]], strict=True):
        mixture = jax.tree.map(lambda leaf, gene=gene: leaf[gene], fits.mixture)
        line = np.linspace(x[gene].min() - 0.5, x[gene].max() + 0.5, 200)[:, None]
        ax.hist(x[gene, :, 0], 30, density=True, color="0.8")
        ax.plot(line, np.exp(mixture.log_prob(line)), color="black")
        for k, color in enumerate(COLORS):
            alone = jaxgmm.from_parameters([1.0], mixture.means[k : k + 1], mixture.covariances[k, 0], "spherical")
            ax.plot(line, mixture.weights[k] * np.exp(alone.log_prob(line)), color=color)
        ax.set(title=f"gene {gene}, {difference[gene]:.0f}", xlabel="log-expression", yticks=[])
    figure.savefig(path, dpi=110)


def main(path="out/genes.png", n_genes=10_000):
    x, bimodal = expression(np.random.default_rng(0), n_genes, 200)
    compared(x[:200])  # compiles
    start = time.perf_counter()
    difference, fits = compared(x)
    seconds = time.perf_counter() - start
    called = difference > 0
    print(
        f"{2 * n_genes} fits in {seconds:.1f} s; {np.mean(np.asarray(fits.converged)):.1%} of those with two converged"
    )
    print(f"{called.sum()} genes called bimodal: {bimodal[called].mean():.1%} of them are,", end=" ")
    print(f"and {called[bimodal].mean():.1%} of all that are were found")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    draw(path, x, bimodal, difference, fits)


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:3]))
