"""
A stream that drifts
====================

Rows that arrive without end can be kept by nobody, and what they are like changes. Online EM sees each batch once and
moves the mixture with it. How fast it forgets is one number, ``memory``, and there is a best one: too long, and the
mixture is that of last week; too short, and it is that of a few rows.

Here are three groups of readings whose levels wander, and one of them jumps half way.
"""

# %%
# The stream
# ----------
# A batch at a time, with what the levels were at that time, which a fit does not know.

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import jaxgmm

N_BATCHES = 600
SIZE = 100
MEMORIES = [100.0, 400.0, 1_600.0, 6_400.0, np.inf]  # rows after which earlier ones count 1 / e
SHOWN = [100.0, 1_600.0, np.inf]
COLORS = ["#e69f00", "#0072b2", "#d55e00"]

rng = np.random.default_rng(3)
levels = np.array([0.0, 5.0, 10.0]) + np.cumsum(rng.normal(scale=0.03, size=(N_BATCHES, 3)), axis=0)
levels[N_BATCHES // 2 :, 2] += 3.0  # a sensor is replaced
groups = rng.choice(3, size=(N_BATCHES, SIZE), p=[0.5, 0.3, 0.2])
stream = np.take_along_axis(levels, groups.reshape(N_BATCHES, -1), axis=1) + rng.normal(size=groups.shape)
stream = jnp.asarray(stream[:, :, None], jnp.float32)  # (batches, rows, 1)

# %%
# Five memories at once
# ---------------------
# A step is a pure function of a state and a batch, so the whole stream is one ``scan``, and all memories are its lanes.
# Each batch is scored before it is learned, by a mixture that has not seen it. With a ``decay`` of 1, rows count alike
# as long as they are remembered.

first = stream[0]
start = jaxgmm.init(jax.random.key(0), first, 3, "tied-spherical", method="kmeans")
scale = jaxgmm.scale_of(first)


@jax.jit
@jax.vmap
def followed(memory):
    """Means (batches, 3) in order, and the log-likelihood per row of each batch before it was learned."""

    def step(state, batch):
        score = jnp.mean(state.mixture.log_prob(batch))
        state = jaxgmm.online_step(state, batch, decay=1.0, memory=memory)  # all in memory count alike
        return state, (jnp.sort(state.mixture.means[:, 0]), score)

    return jax.lax.scan(step, jaxgmm.online(start, scale), stream[1:])[1]


means, scores = followed(jnp.asarray(MEMORIES, jnp.float32))

# %%
# What to remember
# ----------------
# The score decides without the truth being known, and agrees with it: the memory that scores best is also nearest to
# the levels.

errors = np.sqrt(np.mean((np.asarray(means) - levels[None, 1:]) ** 2, axis=(1, 2)))
for memory, score, error in zip(MEMORIES, np.mean(np.asarray(scores), axis=1), errors, strict=True):
    print(f"memory {memory:8,.0f} rows   score {score:.3f} per row   levels off by {error:.2f}")

# %%
# The picture
# -----------
# Thick and grey, the levels. A short memory trembles; one without end is an average of all there has been, and long
# after the jump it is still on its way.

figure, panels = plt.subplots(1, 2, figsize=(12.5, 4.4), layout="constrained", width_ratios=[1.7, 1])
time = np.arange(1, N_BATCHES)
panels[0].plot(time, levels[1:], color="0.82", lw=7, solid_capstyle="round")
for memory, color in zip(SHOWN, COLORS, strict=True):
    name = "without end" if np.isinf(memory) else f"{memory:,.0f} rows"
    lines = panels[0].plot(time, means[MEMORIES.index(memory)], color=color, lw=1.1)
    lines[0].set_label(name)
panels[0].set(xlabel="batch", ylabel="mean of a component", xlim=(0, N_BATCHES))
panels[0].legend(title="memory", loc="upper left", frameon=False)
places = np.arange(len(MEMORIES))
panels[1].plot(places, np.mean(np.asarray(scores), axis=1), "o-", color="black")
panels[1].set_xticks(places, ["no end" if np.isinf(one) else f"{one:,.0f}" for one in MEMORIES])
panels[1].set(xlabel="memory (rows)", ylabel="log-likelihood of a row before it was learned")
plt.show()
