"""
A network whose output is a mixture
===================================

The inverse problem of Bishop (1994): :math:`x = y + 0.3 \\sin(2 \\pi y)` plus noise is given, and y is asked for. Up to
three y lead to the same x. A network trained on squared errors answers with their average, which is none of them. A
mixture density network answers with their distribution.

The network is equinox's. Its outputs move the free coordinates of a mixture, so that any output is a valid mixture, and
the loss is `log_prob`.
"""

# %%
# A thousand rows to learn from, ten thousand to compare by.

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

import jaxgmm

N_STEPS = 2500
BLUE, VERMILION = "#0072b2", "#d55e00"


def inverse_problem(key, n):
    """Rows x (n, 1) and what they came from, y (n, 1)."""
    for_y, for_noise = jax.random.split(key)
    y = jax.random.uniform(for_y, (n, 1))
    return y + 0.3 * jnp.sin(2 * jnp.pi * y) + 0.05 * jax.random.normal(for_noise, (n, 1)), y


keys = jax.random.split(jax.random.key(0), 4)
x, y = inverse_problem(keys[0], 1000)
x_new, y_new = inverse_problem(keys[1], 10_000)

# %%
# The two networks
# ----------------
#
# `unconstrain` gives the free coordinates of a mixture as a pytree, and their `constrain` leads back. The template is
# where the untrained network starts from: one component low, one in the middle, one high.


class DensityNetwork(eqx.Module):
    """A mixture for each x: the network moves the free coordinates of a template."""

    template: jax.Array
    network: eqx.nn.MLP
    as_mixture: Callable = eqx.field(static=True)

    def __init__(self, template: jaxgmm.Mixture, key: jax.Array):
        self.template, self.as_mixture = ravel_pytree(template.unconstrain())
        self.network = eqx.nn.MLP(1, self.template.size, width_size=32, depth=2, activation=jnp.tanh, key=key)

    def __call__(self, x: jax.Array) -> jaxgmm.Mixture:
        return self.as_mixture(self.template + self.network(x)).constrain()

    def log_prob(self, x: jax.Array, y: jax.Array) -> jax.Array:
        """Log-density of each row of y (n, 1) given its row of x (n, 1)."""
        return jax.vmap(lambda x, y: self(x).log_prob(y[None])[0])(x, y)


class LeastSquares(eqx.Module):
    """One Gaussian of constant width about the output of a network: what squared errors amount to."""

    network: eqx.nn.MLP
    log_deviation: jax.Array

    def __init__(self, key: jax.Array):
        self.network = eqx.nn.MLP(1, 1, width_size=32, depth=2, activation=jnp.tanh, key=key)
        self.log_deviation = jnp.zeros(())

    def log_prob(self, x: jax.Array, y: jax.Array) -> jax.Array:
        """Log-density of each row of y (n, 1) given its row of x (n, 1)."""
        return jax.scipy.stats.norm.logpdf(y, jax.vmap(self.network)(x), jnp.exp(self.log_deviation))[:, 0]


template = jaxgmm.from_parameters(jnp.ones(3), jnp.array([[0.1], [0.5], [0.9]]), jnp.full(3, 0.04), "spherical")

# %%
# Training
# --------
#
# Both are trained in the same way, by Adam on the log-density of y.


def trained(model, x, y):
    """The model after `N_STEPS` of Adam on its log-likelihood."""
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, N_STEPS))
    arrays, rest = eqx.partition(model, eqx.is_inexact_array)

    def loss(arrays):
        return -jnp.mean(eqx.combine(arrays, rest).log_prob(x, y))

    def step(state, _):
        arrays, moments = state
        updates, moments = optimizer.update(jax.grad(loss)(arrays), moments)
        return (optax.apply_updates(arrays, updates), moments), None

    run = jax.jit(lambda state: jax.lax.scan(step, state, length=N_STEPS)[0])
    return eqx.combine(run((arrays, optimizer.init(arrays)))[0], rest)


network = trained(DensityNetwork(template, keys[2]), x, y)
average = trained(LeastSquares(keys[3]), x, y)

print(f"mean log-density of {len(x_new)} new rows, in nats, after {N_STEPS} steps on {len(x)} rows")
for name, model in (("least squares", average), ("mixture density", network)):
    print(f"  {name:16s} {float(jnp.mean(eqx.filter_jit(type(model).log_prob)(model, x_new, y_new))):7.3f}")
mixture = network(jnp.array([0.5]))
answers = [f"{mean:.2f} ({weight:.0%})" for weight, mean in zip(mixture.weights, mixture.means[:, 0], strict=True)]
print(f"answers at x = 0.5: {', '.join(answers)}")

# %%
# The picture
# -----------
#
# The least-squares network runs through the middle of the fold, its band wide enough to hold all branches. The mixture
# follows each branch, and gives a branch more weight where more y lead to that x. Shown is the root of the density,
# which lets weak branches be seen beside strong ones.

figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained", sharex=True, sharey=True)
line = jnp.linspace(-0.05, 1.05, 240)[:, None]
center, deviation = np.asarray(jax.vmap(average.network)(line)), float(jnp.exp(average.log_deviation))
axes[0].plot(x, y, ".", color="0.6", ms=3)
axes[0].plot(line, center, color=VERMILION, lw=2, label="mean")
band = center[:, 0] - 2 * deviation, center[:, 0] + 2 * deviation
axes[0].fill_between(line[:, 0], *band, color=VERMILION, alpha=0.15, lw=0, label="2 sd")
axes[0].set_title("A least-squares network: one answer for each x", loc="left")

mixtures = jax.jit(jax.vmap(network))(line)
levels = jnp.linspace(-0.15, 1.15, 261)[:, None]
density = np.exp(jax.vmap(lambda mixture: mixture.log_prob(levels))(mixtures)).T
axes[1].pcolormesh(line[:, 0], levels[:, 0], np.sqrt(density), cmap="Blues", shading="nearest", rasterized=True)
axes[1].plot(x, y, ".", color="0.25", ms=2, alpha=0.35)
weights, means = np.asarray(mixtures.weights), np.asarray(mixtures.means)[:, :, 0]
axes[1].plot(line, np.where(weights > 0.15, means, np.nan), ".", color=VERMILION, ms=3.5)
axes[1].plot([], [], ".", color=VERMILION, label="means of components with more than 15 %")
axes[1].set_title("A mixture density network: a distribution for each x", loc="left")
for ax in axes:
    ax.set(xlabel="x", ylabel="y", xlim=(-0.05, 1.05), ylim=(-0.15, 1.15))
    ax.legend(frameon=False, loc="upper left")
plt.show()
