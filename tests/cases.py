"""The registry of cases: every law is tested on every one of them."""

import functools
import itertools
import os
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

import jaxgmm

from poisson import Poisson

# A seed by which the rows of all data of cases are shuffled: no law may depend on their order (`make test-perturbed`).
SHUFFLED = os.environ.get("ROWS_SHUFFLED")

WEIGHTS = [0.5, 0.3, 0.2]
MEANS = [[0.0, 0.0], [4.0, 3.0], [-3.0, 5.0]]
COVARIANCES = {
    "full": [[[1.0, 0.5], [0.5, 2.0]], [[1.5, -0.4], [-0.4, 0.5]], [[0.7, 0.0], [0.0, 1.2]]],
    "tied": [[1.0, 0.4], [0.4, 1.5]],
    "diag": [[1.0, 2.0], [0.5, 1.5], [0.8, 0.6]],
    "tied-diag": [1.0, 1.8],
    "spherical": [1.0, 0.6, 1.7],
    "tied-spherical": 1.2,
}


@dataclass(frozen=True)
class Case:
    """A family with its own options for `init`, and a mixture of it whose data it can be tried on."""

    name: str
    make: object
    options: dict = field(default_factory=dict)
    integer: bool = False

    def mixture(self) -> jaxgmm.Mixture:
        return self.make()

    def data(self, n: int = 600, seed: int = 0) -> jax.Array:
        x = self.mixture().sample(jax.random.key(seed), n)
        return x[np.random.default_rng(int(SHUFFLED)).permutation(n)] if SHUFFLED else x

    def init(self, key, x, n_components=3, **options):
        return jaxgmm.init(key, x, n_components, **self.options, **options)

    def grid(self):
        """Points and the volume each stands for, covering all but 1e-7 of the mixture's mass."""
        if self.integer:
            line = np.arange(60.0)
            return np.array(list(itertools.product(line, line))), 1.0
        axes = [np.linspace(low, high, 400) for low, high in ((-12, 14), (-12, 14))]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
        return points, float(np.prod([axis[1] - axis[0] for axis in axes]))


def _poisson() -> jaxgmm.Mixture:
    rates = jnp.array([[2.0, 9.0], [14.0, 3.0], [20.0, 18.0]])
    return jaxgmm.Mixture(jnp.log(jnp.array(WEIGHTS)), Poisson(rates))


CASES = [
    Case(name, functools.partial(jaxgmm.from_parameters, WEIGHTS, MEANS, covariances, name), {"covariance_type": name})
    for name, covariances in COVARIANCES.items()
] + [Case("poisson", _poisson, {"family": Poisson}, integer=True)]
