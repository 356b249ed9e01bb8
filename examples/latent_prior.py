"""
A mixture as the prior of an autoencoder
========================================

With a standard normal prior, a variational autoencoder of handwritten digits must keep all digits in one blob. Here the
prior is a Gaussian mixture in the latent space, trained together with encoder and decoder by the gradient of the
evidence bound through `log_prob`, from ten components drawn at random. No label is used, and yet components come to
stand for digits, or for a few that look alike.
"""

# %%
# sklearn's 1797 digits of 8 by 8 pixels, 1400 of them to train on. The networks are flax's.

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx
from matplotlib.colors import ListedColormap
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

import jaxgmm
from jaxgmm import plot

N_STEPS = 2500
N_COMPONENTS, N_LATENT = 10, 8

digits = load_digits()
images, labels = jnp.asarray(digits.data / 16, jnp.float32), digits.target
order = np.random.default_rng(0).permutation(len(images))
old, new = images[order[:1400]], images[order[1400:]]

# %%
# The autoencoder
# ---------------
#
# The prior is kept in free coordinates, each of them a parameter like those of the networks, so that any step leads to
# a valid mixture again.


def arrays(tree):
    """A tree of parameters as one of their arrays."""
    return jax.tree.map(lambda leaf: leaf[...], tree, is_leaf=lambda leaf: isinstance(leaf, nnx.Param))


class Autoencoder(nnx.Module):
    """Eight latent numbers for each image."""

    def __init__(self, prior: jaxgmm.Mixture, rngs: nnx.Rngs):
        self.encoder = nnx.Sequential(
            nnx.Linear(64, 128, rngs=rngs), jnp.tanh, nnx.Linear(128, 2 * N_LATENT, rngs=rngs)
        )
        self.decoder = nnx.Sequential(nnx.Linear(N_LATENT, 128, rngs=rngs), jnp.tanh, nnx.Linear(128, 64, rngs=rngs))
        self.log_noise = nnx.Param(jnp.zeros(()))
        self.free = nnx.data(jax.tree.map(nnx.Param, prior.unconstrain()))

    @property
    def prior(self) -> jaxgmm.Mixture:
        return arrays(self.free).constrain()

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


# %%
# Training
# --------
#
# Adam on batches of 200 images. The few parameters of the prior move faster than the many of the networks; the standard
# normal, to compare with, stays as it is.


def trained(prior, *, learn_prior):
    """An autoencoder after `N_STEPS`."""
    model = Autoencoder(prior, nnx.Rngs(0))
    graph, parameters = nnx.split(model)
    kinds = jax.tree_util.tree_map_with_path(
        lambda path, _: "prior" if "free" in jax.tree_util.keystr(path) else "network", parameters
    )
    rates = {"network": 3e-3, "prior": 2e-2 if learn_prior else 0.0}
    adams = {kind: optax.adam(optax.cosine_decay_schedule(rate, N_STEPS)) for kind, rate in rates.items()}
    optimizer = optax.multi_transform(adams, kinds)

    def loss(parameters, images, key):
        return -jnp.mean(nnx.merge(graph, parameters).bound(images, key))

    def step(state, key):
        parameters, moments = state
        for_rows, for_draws = jax.random.split(key)
        rows = jax.random.choice(for_rows, old, (200,))
        updates, moments = optimizer.update(jax.grad(loss)(parameters, rows, for_draws), moments)
        return (optax.apply_updates(parameters, updates), moments), None

    run = jax.jit(lambda state, keys: jax.lax.scan(step, state, keys)[0])
    keys = jax.random.split(jax.random.key(1), N_STEPS)
    return nnx.merge(graph, run((parameters, optimizer.init(parameters)), keys)[0])


means = np.random.default_rng(1).normal(size=(N_COMPONENTS, N_LATENT)).astype(np.float32)
identity = np.eye(N_LATENT, dtype=np.float32)
mixture = jaxgmm.from_parameters(np.ones(N_COMPONENTS), means, np.tile(identity / 2, (N_COMPONENTS, 1, 1)))
normal = jaxgmm.from_parameters(np.ones(1), 0 * means[:1], identity[None])
with_normal = trained(normal, learn_prior=False)
with_mixture = trained(mixture, learn_prior=True)

# %%
# Images held out
# ---------------
#
# The evidence bound, from 50 draws for each image, and how well the components of the prior agree with the digits that
# nobody told it about.


@nnx.jit
def bounds(model, images):
    return jax.lax.map(lambda key: model.bound(images, key), jax.random.split(jax.random.key(2), 50))


print(f"evidence bound of {len(new)} images held out, nats per image, after {N_STEPS} steps on {len(old)}")
for name, model in (("standard normal prior", with_normal), ("mixture of ten as prior", with_mixture)):
    print(f"  {name:24s} {float(jnp.mean(bounds(model, new))):8.2f}")
prior, z = with_mixture.prior, np.asarray(with_mixture.encode(images)[0])
agreement = float(jaxgmm.adjusted_rand_index(prior.predict(z), labels))
print(f"agreement of components and digits, adjusted Rand index: {agreement:.2f}")

# %%
# The picture
# -----------
#
# On the left the latent space, in the plane where the digits lie furthest apart. A linear map of a Gaussian mixture is
# one too, which gives the components in that plane: `affine`. On the right what is decoded from draws of each
# component.

figure, axes = plt.subplots(1, 2, figsize=(13, 6), layout="constrained", width_ratios=[1.25, 1])
plane = LinearDiscriminantAnalysis().fit(z, labels).scalings_[:, :2]
# Okabe and Ito's eight, with a grey and a dark red to make ten
ten = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#f0e442", "#999999", "#7b2d26"]
points = axes[0].scatter(*(z @ plane).T, c=labels, cmap=ListedColormap(ten), vmin=-0.5, vmax=9.5, s=9, alpha=0.8, lw=0)
prior = prior.take(np.argsort(-np.asarray(prior.weights)))
seen = prior.affine(plane.T.astype(np.float32))
plot.ellipses(seen, axes[0], levels=[0.9], colors="0.2", fill=False)
names = "abcdefghij"[:N_COMPONENTS]
for name, mean in zip(names, seen.means, strict=True):
    tag = {"boxstyle": "circle,pad=0.25", "fc": "white", "ec": "0.2"}
    axes[0].text(*mean, name, ha="center", va="center", fontsize=10, bbox=tag, zorder=4)
figure.colorbar(points, ax=axes[0], ticks=range(10), label="digit", shrink=0.8)
axes[0].set_aspect("equal", adjustable="datalim")
axes[0].set(xticks=[], yticks=[], title="Latent space in the plane where digits differ most; components (90 %)")

drawn = [prior.take(np.array([k])).sample(jax.random.key(k), 9) for k in range(N_COMPONENTS)]
sheet = np.asarray(with_mixture.decoder(jnp.concatenate(drawn))).reshape(N_COMPONENTS, 9, 8, 8)
sheet = np.pad(sheet, ((0, 0), (0, 0), (1, 1), (1, 1))).transpose(0, 2, 1, 3).reshape(10 * N_COMPONENTS, 90)
axes[1].imshow(sheet, cmap="Greys", vmin=0, vmax=1)
shares = [f"{name}  {weight:.0%}" for name, weight in zip(names, prior.weights, strict=True)]
axes[1].set_yticks(np.arange(N_COMPONENTS) * 10 + 4.5, shares)
axes[1].tick_params(length=0)
axes[1].set(xticks=[], title="Nine draws from each component, decoded")
plt.show()
