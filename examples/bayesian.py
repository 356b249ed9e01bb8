"""
The posterior of a mixture by NUTS
==================================

How far may the fitted weights, means and covariances of Old Faithful's two kinds of eruption be trusted? Here the
mixture is built inside a numpyro model, from sampled weights, means and covariances, and observed through `to_numpyro`.

The likelihood does not change when components trade places, so the posterior has a copy of itself for every order of
them. The model keeps one: the means of the eruption length are ordered. Then draws of all chains mean the same by
"component 1", and R-hat measures mixing, not labels. Sorting the draws afterwards, by `mixture.take`, comes to the same
where components lie as far apart as these; where they overlap, chains pass through places where labels mix.
"""

# %%
# The eruptions in standardised units, for which the priors are written.

from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.diagnostics import summary
from numpyro.infer import MCMC, NUTS

import jaxgmm
from jaxgmm import plot

N_DRAWS = 250
N_CHAINS = 4
COLORS = ["#0072b2", "#d55e00"]

x = np.loadtxt(Path(__file__).parent / "data" / "faithful.csv", delimiter=",", skiprows=1)
center, scale = x.mean(axis=0), x.std(axis=0)

# %%
# The model
# ---------
#
# The two mean lengths are independent normals, ordered. That is a factor on an improper prior over ordered vectors; a
# transform that orders two normals would have another density there.


def model(x):
    """Two Gaussians in standardised units."""
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.ones(2)))
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


lengths = {"num_warmup": N_DRAWS, "num_samples": N_DRAWS, "num_chains": N_CHAINS}
mcmc = MCMC(NUTS(model), **lengths, chain_method="vectorized", progress_bar=False)
mcmc.run(jax.random.key(0), (x - center) / scale)
draws = mcmc.get_samples(group_by_chain=True)
draws = {
    "weights": np.asarray(draws["weights"]),
    "means": center + scale * np.asarray(draws["means"]),
    "covariances": scale[:, None] * scale * np.asarray(draws["covariances"]),
}

# %%
# Beside maximum likelihood
# -------------------------
#
# A line for each parameter, in minutes: the maximum of the likelihood, posterior mean and standard deviation, R-hat and
# the effective number of draws.

fit = jaxgmm.fit(jaxgmm.init(jax.random.key(1), x, 2), x).mixture
fit = fit.take(jnp.argsort(fit.means[:, 0]))
known = {"weights": fit.weights, "means": fit.means, "covariances": fit.covariances}

print(f"Old Faithful, {len(x)} eruptions; {N_CHAINS} chains of {N_DRAWS} draws after as many of warm-up\n")
print(f"{'':28s}{'maximum':>9s}{'posterior':>11s}{'sd':>8s}{'R-hat':>8s}{'effective':>11s}")
for name, statistics in summary(draws).items():
    for place in np.ndindex(statistics["mean"].shape):
        if name == "covariances" and place[1] < place[2]:
            continue
        columns = (("length", "waiting")[column] for column in place[1:])
        label = " ".join([name.removesuffix("s"), str(place[0] + 1), *columns])
        values = [statistics[key][place] for key in ("mean", "std", "r_hat", "n_eff")]
        print("{:28s}{:9.3f}{:11.3f}{:8.3f}{:8.3f}{:11.0f}".format(label, float(known[name][place]), *values))
print(f"\n{int(np.sum(mcmc.get_extra_fields()['diverging']))} divergent transitions")

# %%
# The picture
# -----------
#
# Each thin ellipse is one draw of a component, the black ones are maximum likelihood. The posterior of the means is
# close to normal about the maximum, as it should be for 272 rows in two groups that hardly touch.

figure, axes = plt.subplots(1, 3, figsize=(14, 4.4), layout="constrained", width_ratios=[1.3, 1, 1])
together = {name: values.reshape(-1, *values.shape[2:]) for name, values in draws.items()}
chosen = np.random.default_rng(0).choice(N_CHAINS * N_DRAWS, min(60, N_CHAINS * N_DRAWS), replace=False)
axes[0].plot(*x.T, ".", color="0.55", ms=4)
drawn = jaxgmm.from_parameters(*(np.concatenate(values[chosen]) for values in together.values()))
plot.ellipses(drawn, axes[0], levels=[0.9], colors=COLORS * len(chosen), fill=False)
for patch in axes[0].patches:
    patch.set(alpha=0.25, lw=0.8)
plot.ellipses(fit, axes[0], levels=[0.9], colors="black", fill=False)
for k, color in enumerate(COLORS):
    means = together["means"][:, k] - np.asarray(fit.means[k])
    deviation = means.std(axis=0)
    axes[1].plot(*(means / deviation).T, ".", color=color, ms=2, alpha=0.4, zorder=2 - k)
    label = f"component {k + 1}, sd {deviation[0]:.3f} and {deviation[1]:.2f} min"
    axes[1].plot([], [], "o", color=color, label=label)
for chain, color in zip(draws["weights"][:, :, 0], (*COLORS, "#009e73", "#cc79a7"), strict=True):
    axes[2].plot(chain, color=color, lw=0.5)
axes[2].axhline(float(fit.weights[0]), color="black", lw=1.2, ls=(0, (4, 2)))
axes[0].set(xlabel="eruption length (min)", ylabel="waiting time to the next (min)")
axes[0].set_title("60 draws of the components (90 %)", loc="left")
axes[1].plot(0, 0, "+", color="black", ms=12, mew=2, zorder=3)
axes[1].set(xlabel="mean length", ylabel="mean waiting time", xlim=(-4, 4), ylim=(-4, 5.5))
axes[1].set_title("Means, from maximum likelihood in sd", loc="left")
axes[1].legend(frameon=False, loc="upper left")
axes[2].set(xlabel="draw", ylabel="weight of component 1")
axes[2].set_title(f"The {N_CHAINS} chains", loc="left")
plt.show()
