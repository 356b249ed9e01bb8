"""A mixture as the prior of a variational autoencoder: digits find their own places in the latent space.

With a standard normal prior all digits must share one blob. Here the prior is a Gaussian mixture, trained together with
encoder and decoder by the gradient of the evidence bound through `log_prob`, from ten components drawn at random.

Run with `python examples/latent_prior.py [picture.png] [training steps]`. Needs flax and scikit-learn.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx
from matplotlib.colors import ListedColormap
from matplotlib.patches import Ellipse
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

import jaxgmm

# Okabe and Ito's eight, with a grey and a dark red to make ten
COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#f0e442", "#999999", "#7b2d26"]
N_COMPONENTS, N_LATENT = 10, 8


class Autoencoder(nnx.Module):
    """Eight latent numbers for each image; the prior is kept in free coordinates, each of them a parameter."""

    def __init__(self, prior: jaxgmm.Mixture, rngs: nnx.Rngs):
        self.encoder = nnx.Sequential(
            nnx.Linear(64, 128, rngs=rngs), jnp.tanh, nnx.Linear(128, 2 * N_LATENT, rngs=rngs)
        )
        self.decoder = nnx.Sequential(nnx.Linear(N_LATENT, 128, rngs=rngs), jnp.tanh, nnx.Linear(128, 64, rngs=rngs))
        self.log_noise = nnx.Param(jnp.zeros(()))
        self.free = nnx.data(jax.tree.map(nnx.Param, prior.unconstrain()))

    @property
    def prior(self) -> jaxgmm.Mixture:
        return nnx.as_pure(self.free).constrain()

    def encode(self, images):
        """Mean and standard deviation (n, 8) of the latent numbers of each image."""
        mean, log_deviation = jnp.split(self.encoder(images), 2, axis=1)
        return mean, jnp.exp(log_deviation)

    def bound(self, images, key):
        """Lower bound (n,) on the log-density of each image, from one draw of its latent numbers."""
        mean, deviation = self.encode(images)
        z = mean + deviation * jax.random.normal(key, mean.shape)
        fit = jax.scipy.stats.norm.logpdf(images, self.decoder(z), jnp.exp(self.log_noise[...]))
        own = jax.scipy.stats.norm.logpdf(z, mean, deviation)
        return jnp.sum(fit, axis=1) + self.prior.log_prob(z) - jnp.sum(own, axis=1)


def trained(prior, images, n_steps, *, learn_prior):
    """An autoencoder after `n_steps` of Adam on batches of 200 images; the few parameters of the prior move faster."""
    model = Autoencoder(prior, nnx.Rngs(0))
    graph, parameters = nnx.split(model)
    kinds = jax.tree_util.tree_map_with_path(
        lambda path, _: "prior" if "free" in jax.tree_util.keystr(path) else "network", parameters
    )
    rates = {"network": 3e-3, "prior": 2e-2 if learn_prior else 0.0}
    adams = {kind: optax.adam(optax.cosine_decay_schedule(rate, n_steps)) for kind, rate in rates.items()}
    optimizer = optax.multi_transform(adams, kinds)

    def loss(parameters, images, key):
        return -jnp.mean(nnx.merge(graph, parameters).bound(images, key))

    def step(state, key):
        parameters, moments = state
        for_rows, for_draws = jax.random.split(key)
        rows = jax.random.choice(for_rows, images, (200,))
        updates, moments = optimizer.update(jax.grad(loss)(parameters, rows, for_draws), moments)
        return (optax.apply_updates(parameters, updates), moments), None

    run = jax.jit(lambda state, keys: jax.lax.scan(step, state, keys)[0])
    keys = jax.random.split(jax.random.key(1), n_steps)
    return nnx.merge(graph, run((parameters, optimizer.init(parameters)), keys)[0])


def held_out(model, images):
    """Mean over images of the bound, in nats, from 50 draws each; densities per unit from white to black."""
    keys = jax.random.split(jax.random.key(2), 50)
    bounds = nnx.jit(lambda model, images: jax.lax.map(lambda key: model.bound(images, key), keys))(model, images)
    return float(jnp.mean(bounds))


def draw(path, model, images, labels):
    """The latent space with the components of the prior, and what is decoded from each of them."""
    figure, axes = plt.subplots(1, 2, figsize=(13, 6), layout="constrained", width_ratios=[1.25, 1])
    prior, z = model.prior, np.asarray(model.encode(images)[0])
    # The plane in which the digits lie furthest apart.
    plane = LinearDiscriminantAnalysis().fit(z, labels).scalings_[:, :2]
    colors = ListedColormap(COLORS)
    points = axes[0].scatter(*(z @ plane).T, c=labels, cmap=colors, vmin=-0.5, vmax=9.5, s=9, alpha=0.8, lw=0)
    order = np.argsort(-np.asarray(prior.weights))
    for name, k in zip("abcdefghij", order, strict=True):
        mean, covariance = prior.means[k] @ plane, plane.T @ prior.covariances[k] @ plane
        variances, directions = np.linalg.eigh(covariance)
        angle = np.degrees(np.arctan2(directions[1, 1], directions[0, 1]))
        size = 4 * np.sqrt(variances[::-1])
        axes[0].add_patch(Ellipse(mean, *size, angle=angle, fill=False, ec="0.2", lw=1.3))
        tag = {"boxstyle": "circle,pad=0.25", "fc": "white", "ec": "0.2"}
        axes[0].text(*mean, name, ha="center", va="center", fontsize=10, bbox=tag, zorder=4)
    figure.colorbar(points, ax=axes[0], ticks=range(10), label="digit", shrink=0.8)
    axes[0].set_aspect("equal", adjustable="datalim")
    axes[0].set(xticks=[], yticks=[], title="Latent space in the plane where digits differ most; components at 2 sd")

    rows = []
    for place, k in enumerate(order):
        component = prior.take(np.array([k]))
        rows.append(np.asarray(model.decoder(component.sample(jax.random.key(place), 9))).reshape(9, 8, 8))
    sheet = np.pad(np.stack(rows), ((0, 0), (0, 0), (1, 1), (1, 1)))
    axes[1].imshow(sheet.transpose(0, 2, 1, 3).reshape(100, 90), cmap="Greys", vmin=0, vmax=1)
    names = [f"{name}  {prior.weights[k]:.0%}" for name, k in zip("abcdefghij", order, strict=True)]
    axes[1].set_yticks(np.arange(10) * 10 + 4.5, names)
    axes[1].tick_params(length=0)
    axes[1].set(xticks=[], title="Nine draws from each component, decoded")
    figure.savefig(path, dpi=110)


def main(path="out/latent_prior.png", n_steps=2500):
    digits = load_digits()
    images, labels = jnp.asarray(digits.data / 16, jnp.float32), digits.target
    order = np.random.default_rng(0).permutation(len(images))
    old, new = order[:1400], order[1400:]

    means = np.random.default_rng(1).normal(size=(N_COMPONENTS, N_LATENT)).astype(np.float32)
    identity = np.eye(N_LATENT, dtype=np.float32)
    mixture = jaxgmm.from_parameters(np.ones(N_COMPONENTS), means, np.tile(identity / 2, (N_COMPONENTS, 1, 1)))
    normal = jaxgmm.from_parameters(np.ones(1), 0 * means[:1], identity[None])

    with_normal = trained(normal, images[old], n_steps, learn_prior=False)
    with_mixture = trained(mixture, images[old], n_steps, learn_prior=True)
    print(f"evidence bound of {len(new)} images held out, nats per image, after {n_steps} steps on {len(old)}")
    for name, model in (("standard normal prior", with_normal), ("mixture of ten as prior", with_mixture)):
        print(f"  {name:24s} {held_out(model, images[new]):8.2f}")
    z = with_mixture.encode(images)[0]
    groups = np.asarray(with_mixture.prior.predict(z))
    agreement = float(jaxgmm.adjusted_rand_index(groups, labels))
    print(f"agreement of components and digits, adjusted Rand index: {agreement:.2f}")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    draw(path, with_mixture, images, labels)
    print(f"picture in {path}")


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:3]))
