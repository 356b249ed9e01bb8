"""
Winds
=====

Angles have no ends: 359 degrees is next to 1. Means and deviations along a line do not know of it, and a cluster of
winds from the north falls into two. Von Mises components are around a circle. With the speed of the wind beside its
direction, each in a family of its own, the winds of a coast are told apart.
"""

# %%
# A year of winds
# ---------------
# Made up, so that the answer is known: a sea breeze from the west, a land breeze at night from the east, and the cold
# wind from the north, on both sides of 0 degrees. A gauge writes down whence the wind comes, in degrees from the north,
# and its speed, which is positive and skew.

import jax
import matplotlib.pyplot as plt
import numpy as np

import jaxgmm
from jaxgmm import plot

N = 730
N_RESTARTS = 8
N_WINDS = [1, 2, 3, 4, 5]
KEY = jax.random.key(0)

rng = np.random.default_rng(0)
wind = rng.choice(3, N, p=[0.45, 0.3, 0.25])
degrees = np.degrees(rng.vonmises(np.radians([265, 90, 2])[wind], np.array([6.0, 2.5, 12.0])[wind])) % 360
speed = rng.gamma(np.array([9.0, 4.0, 12.0])[wind], np.array([5.0, 2.0, 11.0])[wind] / np.array([9.0, 4.0, 12.0])[wind])
x = np.column_stack([np.radians(degrees), speed]).astype(np.float32)

# %%
# Directions alone
# ----------------
# Radians for ``VonMises``, and for comparison degrees for Gaussians, for which there is an end to the circle, at north.

around = jaxgmm.select(KEY, x[:, :1], N_WINDS, jaxgmm.VonMises.form(), n_restarts=N_RESTARTS)
along = jaxgmm.select(KEY, degrees[:, None].astype(np.float32), N_WINDS, "full", n_restarts=N_RESTARTS)
for name, table in (("around the circle", around), ("along a line", along)):
    print(f"{name}: {table.winner.n_components} winds")
means = np.degrees(np.asarray(around.best.mixture.means)[:, 0]) % 360
print("from", ", ".join(f"{mean:.0f}" for mean in np.sort(means)), "degrees")

# %%
# Directions and speeds
# ---------------------
# A product of both: a mixed table of two columns.

form = jaxgmm.Product.form({0: jaxgmm.VonMises.form(), 1: jaxgmm.Gamma.form()})
table = jaxgmm.select(KEY, x, N_WINDS, form, n_restarts=N_RESTARTS)
winds = table.best.mixture.sorted()
agreement = {
    "directions": around.best.mixture.predict(x[:, :1]),
    "directions and speeds": winds.predict(x),
}
for name, labels in agreement.items():
    print(f"{name}: agreement with the winds {float(jaxgmm.adjusted_rand_index(wind, labels)):.2f}")

# %%
# The picture
# -----------
# A rose, as sailors have it: north is up, and east to the right. Its areas are shares, of the rows in grey and of the
# components in their colours. In the middle what is made of the degrees along a line, where the wind from the north has
# a component at either end. On the right directions and speeds, from the south over the west, the north and the east to
# the south again.

figure = plt.figure(figsize=(12, 3.9), layout="constrained")
rose = figure.add_subplot(1, 3, 1, projection="polar")
line, both = figure.add_subplot(1, 3, 2), figure.add_subplot(1, 3, 3)
rose.set_theta_zero_location("N")
rose.set_theta_direction(-1)
plot.histogram(winds.marginal([0]), x[:, :1], rose, bins=36)
rose.set_xticks(np.radians(range(0, 360, 45)), ["N", "NE", "E", "SE", "S", "SW", "W", "NW"])
plot.histogram(along.best.mixture, degrees[:, None], line, bins=36)
line.set(xlabel="direction (degrees)", xlim=(0, 360), xticks=range(0, 361, 90))
plot.assignment(winds, x, both, soft=False)
both.set(xlabel="direction", ylabel="speed (m/s)")
both.set_xticks(np.pi * np.arange(-2, 3) / 2, ["S", "W", "N", "E", "S"])
for ax, title in ((rose, "Around the circle"), (line, "Along a line"), (both, "Directions and speeds")):
    ax.get_legend().remove()
    ax.set_title(title, loc="left")
plt.show()
