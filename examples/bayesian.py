"""Old Faithful with uncertainty: the posterior of a mixture's parameters, by NUTS with numpyro.

The mixture is built inside the model from sampled weights, means and covariances, and observed through `to_numpyro`.
The likelihood does not change when components trade places, so the posterior has a copy of itself for every order of
them. The model keeps one: the means of the eruption length are ordered. Then draws of all chains mean the same by
"component 1", and R-hat measures mixing, not labels. Sorting the draws afterwards, by `mixture.take`, comes to the same
where components lie as far apart as these; where they overlap, chains pass through places where labels mix.

Run with `python examples/bayesian.py [picture.png] [draws per chain]`. Needs numpyro.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
from matplotlib.patches import Ellipse
from numpyro.diagnostics import summary
from numpyro.infer import MCMC, NUTS

import jaxgmm

DATA = Path(__file__).parent / "data" / "faithful.csv"
COLORS = ["#0072b2", "#d55e00"]  # Okabe and Ito's blue and vermilion, told apart by all readers
N_CHAINS = 4


def model(x):
    """Two Gaussians in standardised units."""
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.ones(2)))
    # Ordered independent normals: their density on the ordered half, which a transform of them would not have.
    length = numpyro.sample("length", dist.ImproperUniform(dist.constraints.ordered_vector, (), (2,)))
    numpyro.factor("length_prior", jnp.sum(dist.Normal(0, 2).log_prob(length)))
    with numpyro.plate("components", 2):
        waiting = numpyro.sample("waiting", dist.Normal(0, 2))
        scales = numpyro.sample("scales", dist.HalfNormal(1).expand((2,)).to_event(1))
        correlations = numpyro.sample("correlations", dist.LKJCholesky(2, 2.0))
    factors = scales[:, :, None] * correlations
    covariances = factors @ jnp.swapaxes(factors, 1, 2)
    mixture = jaxgmm.from_parameters(weights, jnp.stack([length, waiting], axis=1), covariances)
    numpyro.deterministic("means", mixture.means)
    numpyro.deterministic("covariances", mixture.covariances)
    with numpyro.plate("rows", len(x)):
        numpyro.sample("x", jaxgmm.to_numpyro(mixture), obs=x)


def in_units(draws, center, scale):
    """Draws (chains, draws, ...) of the parameters in minutes."""
    return {
        "weights": np.asarray(draws["weights"]),
        "means": center + scale * np.asarray(draws["means"]),
        "covariances": scale[:, None] * scale * np.asarray(draws["covariances"]),
    }


def table(draws, fit):
    """A line for each parameter: maximum likelihood, posterior mean and deviation, R-hat, effective sample size."""
    known = {"weights": fit.weights, "means": fit.means, "covariances": fit.covariances}
    lines = [f"{'':28s}{'maximum':>9s}{'posterior':>11s}{'sd':>8s}{'R-hat':>8s}{'effective':>11s}"]
    columns = ("length", "waiting")
    for name, statistics in summary(draws).items():
        for place in np.ndindex(statistics["mean"].shape):
            if name == "covariances" and place[1] < place[2]:
                continue
            label = " ".join([name.removesuffix("s"), str(place[0] + 1), *(columns[column] for column in place[1:])])
            values = [statistics[key][place] for key in ("mean", "std", "r_hat", "n_eff")]
            value = float(known[name][place])
            lines.append("{:28s}{:9.3f}{:11.3f}{:8.3f}{:8.3f}{:11.0f}".format(label, value, *values))
    return "\n".join(lines)


def draw(path, x, draws, fit):
    """Ellipses of posterior draws over the data, the means they have, and the trace of one weight."""
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.4), layout="constrained", width_ratios=[1.3, 1, 1])
    together = {name: values.reshape(-1, *values.shape[2:]) for name, values in draws.items()}
    chosen = np.random.default_rng(0).choice(len(together["weights"]), min(60, len(together["weights"])), replace=False)
    axes[0].plot(*x.T, ".", color="0.55", ms=4)
    for k, color in enumerate(COLORS):
        for mean, covariance in zip(together["means"][chosen, k], together["covariances"][chosen, k], strict=True):
            axes[0].add_patch(ellipse(mean, covariance, fill=False, ec=color, lw=0.8, alpha=0.25))
        axes[0].add_patch(ellipse(fit.means[k], fit.covariances[k], fill=False, ec="black", lw=1.4, ls=(0, (4, 2))))
        means = together["means"][:, k] - np.asarray(fit.means[k])
        deviation = means.std(axis=0)
        axes[1].plot(*(means / deviation).T, ".", color=color, ms=2, alpha=0.4, zorder=2 - k)
        axes[1].plot(
            [], [], "o", color=color, label=f"component {k + 1}, sd {deviation[0]:.3f} and {deviation[1]:.2f} min"
        )
    for chain, color in zip(draws["weights"][:, :, 0], (*COLORS, "#009e73", "#cc79a7"), strict=True):
        axes[2].plot(chain, color=color, lw=0.5)
    axes[2].axhline(float(fit.weights[0]), color="black", lw=1.2, ls=(0, (4, 2)))
    axes[0].plot([], [], color="0.4", lw=0.8, label="60 draws, 2 sd")
    axes[0].plot([], [], color="black", lw=1.4, ls=(0, (4, 2)), label="maximum likelihood")
    axes[0].set(xlabel="eruption length (min)", ylabel="waiting time to the next (min)")
    axes[0].set_title("Where the components may be", loc="left")
    axes[1].plot(0, 0, "+", color="black", ms=12, mew=2, zorder=3)
    axes[1].set(xlabel="mean length", ylabel="mean waiting time", xlim=(-4, 4), ylim=(-4, 5.5))
    axes[1].set_title("Means, from maximum likelihood in sd", loc="left")
    axes[2].set(xlabel="draw", ylabel="weight of component 1")
    axes[2].set_title(f"The {len(draws['means'])} chains", loc="left")
    for ax in axes[:2]:
        ax.legend(frameon=False, loc="upper left")
    figure.savefig(path, dpi=120)


def ellipse(mean, covariance, **style):
    """Two standard deviations of a Gaussian."""
    variances, directions = np.linalg.eigh(covariance)
    angle = np.degrees(np.arctan2(directions[1, 1], directions[0, 1]))
    return Ellipse(mean, 4 * np.sqrt(variances[1]), 4 * np.sqrt(variances[0]), angle=angle, **style)


def main(path="out/bayesian.png", n_draws=250):
    x = np.loadtxt(DATA, delimiter=",", skiprows=1)
    center, scale = x.mean(axis=0), x.std(axis=0)
    lengths = {"num_warmup": n_draws, "num_samples": n_draws, "num_chains": N_CHAINS}
    mcmc = MCMC(NUTS(model), **lengths, chain_method="vectorized", progress_bar=False)
    mcmc.run(jax.random.key(0), (x - center) / scale)
    draws = in_units(mcmc.get_samples(group_by_chain=True), center, scale)

    fit = jaxgmm.fit(jaxgmm.init(jax.random.key(1), x, 2), x).mixture
    fit = fit.take(jnp.argsort(fit.means[:, 0]))
    print(f"Old Faithful, {len(x)} eruptions; {N_CHAINS} chains of {n_draws} draws after as many of warm-up\n")
    print(table(draws, fit))
    print(f"\n{int(np.sum(mcmc.get_extra_fields()['diverging']))} divergent transitions")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    draw(path, x, draws, fit)
    print(f"picture in {path}")


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:3]))
