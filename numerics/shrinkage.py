"""What covariances of few rows are worth to other rows: as they are, under a prior, and shrunk."""

import jax
import numpy as np

import jaxgmm

D, K, TABLES, OTHERS = 10, 3, 20, 2000
ROWS = (10, 20, 50)
# Standard deviations along the axes of each component, which lie in directions of its own: the least and the most.
SHAPES = {"1 to 1.5": (1, 1.5), "1 to 4": (1, 4), "1 to 20": (1, 20)}


def truth(rng, least, most):
    """Three components in ten columns, some standard deviations apart."""
    axes = [np.linalg.qr(rng.normal(size=(D, D)))[0] for _ in range(K)]
    covariances = [axis * np.geomspace(least, most, D) ** 2 @ axis.T for axis in axes]
    return jaxgmm.from_parameters(np.full(K, 1 / K), rng.normal(size=(K, D)) * 3 * most**0.5, covariances, "full")


def shrinkage():
    """Mean log-density of rows held out, of fits that start from the truth; means over 20 tables."""
    for name, shape in SHAPES.items():
        for n in ROWS:
            found = [_of_table(np.random.default_rng([n, seed]), n, shape) for seed in range(TABLES)]
            means = {method: np.mean([one[method] for one in found]) for method in found[0]}
            yield {"deviations": name, "rows for each": n} | {key: f"{value:.1f}" for key, value in means.items()}


def _of_table(rng, n, shape):
    mixture = truth(rng, *shape)
    few, others = (mixture.sample(jax.random.key(rng.integers(2**31)), rows) for rows in (n * K, OTHERS))
    plain = jaxgmm.fit(mixture, few).mixture
    found = {"true": mixture, "fit": plain}
    found["Posterior"] = jaxgmm.fit(mixture, few, objective=jaxgmm.Posterior()).mixture
    for method in ("oas", "ledoit-wolf"):
        found[f"fit, then {method}"] = jaxgmm.shrunk(plain, few, method=method).mixture
    return {name: float(np.mean(one.log_prob(others))) for name, one in found.items()}
