"""
Quickstart: two kinds of eruption
=================================

A mixture of two Gaussians for the eruptions of Old Faithful: how long each lasted, and how long the wait for the next
one was. Fit it, look at what came out, ask it about an eruption, draw it. `make demo` runs this page.
"""

# %%
# The data
# --------
#
# 272 eruptions with two columns, both in minutes (Azzalini and Bowman, 1990). Rows may be NumPy or JAX arrays or a
# frame; there is nothing to scale beforehand.

from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np

import jaxgmm
from jaxgmm import plot

x = np.loadtxt(Path(__file__).parent / "data" / "faithful.csv", delimiter=",", skiprows=1)
print(f"{len(x)} eruptions, means of {x.mean(axis=0).round(2)} min")

# %%
# The fit
# -------
#
# One start can end in a local optimum, so `fit_restarts` takes the best of several. The log-likelihood it reaches,
# -1130.264, is the best one known for these data.

result = jaxgmm.fit_restarts(jax.random.key(0), x, n_components=2, n_restarts=20).best
status = jaxgmm.Status(int(result.status))
print(f"{status.name.lower()} after {int(result.n_iter)} iterations: {status.text}")
print(f"log-likelihood {float(result.log_likelihood):.3f}")

# %%
# The mixture
# -----------
#
# What was fitted is a `Mixture`: weights, means and covariances. Components come in no order of their own; `take` puts
# them in one, here the long eruptions first.

mixture = result.mixture.take((-result.mixture.means[:, 0]).argsort())
for weight, mean, covariance in zip(mixture.weights, mixture.means, mixture.covariances, strict=True):
    sd, correlation = np.sqrt(np.diagonal(covariance)), covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    print(
        f"weight {weight:.3f}, length {mean[0]:.3f} ± {sd[0]:.3f} min, wait {mean[1]:.2f} ± {sd[1]:.2f} min,", end=" "
    )
    print(f"correlation {correlation:.2f}")

# %%
# It answers questions about rows: which component they come from, how certain that is, how probable they are at all.

row = np.array([[3.0, 65.0]])
share, log_density = mixture.responsibilities(row)[0], float(mixture.log_prob(row)[0])
rarer = np.mean(np.asarray(mixture.log_prob(x)) < log_density)
print(f"3 min and a wait of 65 min: a long eruption with probability {share[0]:.2f};", end=" ")
print(f"{rarer:.1%} of the eruptions seen are less probable")

# %%
# The picture
# -----------
#
# The shaded regions hold half, 80 % and 95 % of the fitted probability, the ellipses 95 % of each component. The
# colour of a point mixes those of the components in proportion to its responsibilities; here nearly all are certain.

figure, ax = plt.subplots(figsize=(7.5, 5), layout="constrained")
plot.density(mixture, ax=ax, colorbar=False)
plot.ellipses(mixture, ax, levels=[0.95], fill=False)
plot.assignment(mixture, x, ax)
ax.set(xlabel="eruption length (min)", ylabel="waiting time to the next (min)")
ax.set_title("Two kinds of eruption at Old Faithful", loc="left")

out = Path("out") / "faithful.png"
out.parent.mkdir(exist_ok=True)
figure.savefig(out, dpi=150)
print(f"picture in {out}")
plt.show()
