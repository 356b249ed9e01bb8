"""The registry of cases: every law is tested on every one of them."""

import dataclasses
import functools
import os
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

import jaxgmm

from tolerance import dtype

# A seed by which the rows of all data of cases are shuffled: no law may depend on their order (`make test-perturbed`).
SHUFFLED = os.environ.get("ROWS_SHUFFLED")

WEIGHTS = [0.5, 0.3, 0.2]
MEANS = [[0.0, 0.0], [4.0, 3.0], [-3.0, 5.0]]
NU = 6.0
# Rows that the data of a case have unless a test asks for others.
N = 600
COVARIANCES = {
    "full": [[[1.0, 0.5], [0.5, 2.0]], [[1.5, -0.4], [-0.4, 0.5]], [[0.7, 0.0], [0.0, 1.2]]],
    "tied": [[1.0, 0.4], [0.4, 1.5]],
    "diag": [[1.0, 2.0], [0.5, 1.5], [0.8, 0.6]],
    "spherical": [1.0, 0.6, 1.7],
    "tied-diag": [1.0, 1.8],
    "tied-spherical": 1.2,
}
VOLUMES, ANGLES = np.array([1.0, 0.6, 0.65]), np.array([0.3, 1.0, -0.6])
SHAPES = np.array([[2.0, 0.5], [1.6, 0.625], [1.25, 0.8]])


def parsimonious(letters: str) -> np.ndarray:
    """Covariances (k, d, d) whose volume, shape and orientation are equal (E), varying (V), or along the axes (I)."""
    volume, shape, angle = (
        part if letter == "V" else np.broadcast_to(part[:1], part.shape)
        for part, letter in zip((VOLUMES, SHAPES, ANGLES), letters, strict=True)
    )
    angle = np.zeros(3) if letters[2] == "I" else angle
    axes = np.stack([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]).transpose(2, 0, 1)
    return np.einsum("kij,kj,klj->kil", axes, volume[:, None] * shape, axes)


PARSIMONIOUS = {name: parsimonious(name) for name in ("VEI", "EVI", "VEE", "EVV", "EEV", "VEV", "EVE", "VVE")}


@functools.cache
def _sample(make, seed, n):
    """Few rows are the first of many: sampling is a program for each number of them."""
    return np.asarray(make().sample(jax.random.key(seed), n))


@dataclass(frozen=True)
class Case:
    """A family with its own options for `init`, and a mixture of it whose data it can be tried on."""

    name: str
    make: object
    options: dict = field(default_factory=dict)
    integer: bool = False
    tails: float = 0.0

    def mixture(self) -> jaxgmm.Mixture:
        return self.make()

    def start(self, spread: float = 0.5) -> jaxgmm.Mixture:
        """The mixture with even weights and all components nearer to their centre, by default half as far from it: a
        fit has a way to go from there, and no seeding need be compiled for a test that is not about seeding.
        """
        mixture = self.mixture()
        means = np.asarray(mixture.components.clusters.means)
        centre = means.mean(axis=0)
        even = jnp.full_like(mixture.log_weights, -np.log(mixture.n_components))
        return jaxgmm.Mixture(even, with_means(mixture.components, centre + spread * (means - centre)))

    def start_from_rows(self, x: jax.Array, seed: int) -> jaxgmm.Mixture:
        """Another start for each seed: all components half way from rows drawn at random to the centre of all rows, as
        a count of 0 is no mean.
        """
        start = self.start()
        rows = x[np.random.default_rng(seed).choice(len(x), len(WEIGHTS), replace=False)]
        means = (rows + jnp.mean(x, axis=0)) / 2
        return jaxgmm.Mixture(start.log_weights, with_means(start.components, means))

    def data(self, n: int = N, seed: int = 0) -> jax.Array:
        x = _sample(self.make, seed, max(n, N))[:n]
        return jnp.asarray(x[np.random.default_rng(int(SHUFFLED)).permutation(n)] if SHUFFLED else x)

    def init(self, key, x, n_components=3, **options):
        return jaxgmm.init(key, x, n_components, **self.options, **options)

    def axis(self, size=400):
        """Points of one column and the length each stands for, covering all but 1e-7 of the mixture's mass."""
        if self.integer:
            return np.arange(60.0), np.ones(60)
        line, step = np.linspace(-13, 13, size, retstep=True)
        if not self.tails:
            return 1 + line, np.full(size, step)
        # Ever longer steps where tails want them.
        return 1 + np.sinh(self.tails * line) / self.tails, step * np.cosh(self.tails * line)

    def grid(self, size=400):
        """Points of two columns and the area each stands for."""
        line, lengths = self.axis(size)
        return np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2), np.outer(
            lengths, lengths
        ).ravel()


def with_means(components, means):
    """The same clusters in other places."""
    return components.with_clusters(dataclasses.replace(components.clusters, means=jnp.asarray(means)))


def _with_noise() -> jaxgmm.Mixture:
    gaussian = jaxgmm.from_parameters(WEIGHTS, MEANS, COVARIANCES["full"])
    return jaxgmm.with_noise(gaussian, volume=400.0, weight=0.15)


def _poisson() -> jaxgmm.Mixture:
    rates = jnp.array([[2.0, 9.0], [14.0, 3.0], [20.0, 18.0]])
    return jaxgmm.Mixture(jnp.log(jnp.array(WEIGHTS)), jaxgmm.Poisson(rates))


def _student_t(covariance: str = "full") -> jaxgmm.Mixture:
    gaussian = jaxgmm.from_parameters(WEIGHTS, MEANS, COVARIANCES[covariance], covariance)
    return jaxgmm.Mixture(gaussian.log_weights, jaxgmm.StudentT(gaussian.means, gaussian.components.covariance, NU))


def _student_t_estimated(covariance: str, nu: jax.Array, *, shared: bool) -> jaxgmm.Mixture:
    given = _student_t(covariance)
    components = given.components
    estimated = jaxgmm.StudentTEstimated(components.means, components.dispersion, nu, shared)
    return jaxgmm.Mixture(given.log_weights, estimated)


def _student_t_each() -> jaxgmm.Mixture:
    return _student_t_estimated("full", jnp.array([4.0, 12.0, 7.0]), shared=False)


def _student_t_shared() -> jaxgmm.Mixture:
    return _student_t_estimated("tied", jnp.array(NU), shared=True)


def _thin() -> jaxgmm.Mixture:
    loadings = jnp.array([[[1.0], [0.5]], [[-0.3], [0.9]], [[0.8], [0.8]]])
    noise = jaxgmm.Each(jaxgmm.Scale(jnp.array([0.9, 0.6, 0.7]), 2))
    components = jaxgmm.Gaussian(jnp.array(MEANS), jaxgmm.LowRank(loadings, noise))
    return jaxgmm.Mixture(jnp.log(jnp.array(WEIGHTS)), components)


def _gaussian(name, covariances) -> Case:
    make = functools.partial(jaxgmm.from_parameters, WEIGHTS, MEANS, covariances, name)
    return Case(name, make, {"form": name})


GAUSSIANS = [_gaussian(name, covariances) for name, covariances in COVARIANCES.items()]
STUDENTS = [
    Case(
        f"student_t {name}", functools.partial(_student_t, name), {"form": jaxgmm.StudentT.form(name, nu=NU)}, tails=0.4
    )
    for name in COVARIANCES
]
# Degrees of freedom that are estimated: laws of them stand with the other tests of these components.
ESTIMATED = [
    Case("student_t each", _student_t_each, {"form": jaxgmm.StudentT.form("full", nu="each")}, tails=0.4),
    Case("student_t shared", _student_t_shared, {"form": jaxgmm.StudentT.form("tied", nu="shared")}, tails=0.4),
]
THIN = Case("lowrank-1-spherical", _thin, {"form": "lowrank-1-spherical"})
# Of every part that covariances are composed of, one; all compositions have laws in a place of their own.
COMPOSED = [_gaussian(name, PARSIMONIOUS[name]) for name in ("VEE", "EVV", "VEV", "EVE")]
POISSON = Case("poisson", _poisson, {"form": jaxgmm.Poisson.form()}, integer=True)
CASES = [*GAUSSIANS, *COMPOSED, THIN, STUDENTS[0], POISSON]
# Three clusters before a fourth component that is none, which has a place in the laws and tests of its own.
WITH_NOISE = Case("with noise", _with_noise, {"form": jaxgmm.with_noise("full", volume=400.0)})
# Of two families: what is the same for all structures is tried on these.
FEW = [CASES[0], CASES[-1]]
# Every family, and every part that structures are made of, though not all with all: covariances of one component or of
# all; whole, of columns, or one number.
VARIED = [case for case in CASES if case.name not in ("tied", "diag", "tied-spherical", "EVV", "VEV", "EVE")]

# Whether two ways lead to the same numbers is told by digits: for all cases, or those that vary, in the dtype that has
# more of them, for two families in the other. What rounding makes of a law is tried on all in both.
TWO_WAYS, TWO_WAYS_VARIED = (CASES, VARIED) if dtype() is np.float64 else (FEW, FEW)


def repetitions(n):
    """How often each of n rows is there, some of them not at all: n rows again, so that both ways are one program."""
    return np.random.default_rng(0).multinomial(n, np.full(n, 1 / n))


def _a(*values) -> jax.Array:
    return jnp.asarray(np.array(values, float))


def _logits(*values) -> jax.Array:
    return jnp.asarray(np.log(values) - np.log1p(-np.array(values)))


def _log_normal() -> jaxgmm.LogNormal:
    roots = np.linalg.cholesky(np.array([[[1, 0.5], [0.5, 2]], [[0.3, 0], [0, 0.2]], [[0.1, 0], [0, 0.1]]]))
    logs = jaxgmm.Gaussian(_a([0, 0], [2, 1], [-1, 3]), jaxgmm.Each(jaxgmm.Tril(jnp.asarray(roots))))
    return jaxgmm.LogNormal(logs, _a(1, 1))


def _product() -> jaxgmm.Product:
    gaussian = jaxgmm.Gaussian(_a([0, 0], [4, 3], [-3, 5]), jaxgmm.Each(jaxgmm.Scales(jnp.ones((3, 2)))))
    shares = jaxgmm.Categorical(jnp.log(_a([[0.7, 0.2, 0.1]], [[0.1, 0.8, 0.1]], [[0.2, 0.1, 0.7]])))
    return jaxgmm.Product((gaussian, shares, jaxgmm.Poisson(_a([2], [9], [20]))), ((0, 2), (1,), (3,)))


_MADE = {
    "poisson": (lambda: jaxgmm.Poisson(_a([2, 9], [14, 3], [20, 18])), jaxgmm.Poisson.form()),
    "negative binomial": (
        lambda: jaxgmm.NegativeBinomial(_a([2, 9], [14, 3], [40, 38]), _a([1, 2], [5, 3], [10, 8])),
        jaxgmm.NegativeBinomial.form(),
    ),
    "bernoulli": (
        lambda: jaxgmm.Bernoulli(_logits([0.1, 0.9], [0.9, 0.2], [0.5, 0.5])),
        jaxgmm.Bernoulli.form(),
    ),
    "categorical": (
        lambda: jaxgmm.Categorical(
            jnp.log(
                _a(
                    [[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]],
                    [[0.1, 0.8, 0.1], [0.3, 0.4, 0.3]],
                    [[0.2, 0.1, 0.7], [0.9, 0.05, 0.05]],
                )
            )
        ),
        jaxgmm.Categorical.form(3),
    ),
    "exponential": (lambda: jaxgmm.Exponential(_a([1, 9], [14, 0.3], [40, 38])), jaxgmm.Exponential.form()),
    "gamma": (
        lambda: jaxgmm.Gamma(_a([2, 9], [14, 3], [40, 38]), _a([1, 2], [5, 3], [10, 80])),
        jaxgmm.Gamma.form(),
    ),
    "log-normal": (_log_normal, jaxgmm.LogNormal.form("full")),
    "beta": (lambda: jaxgmm.Beta(_a([2, 9], [14, 3], [0.7, 0.5]), _a([1, 2], [5, 30], [0.8, 0.6])), jaxgmm.Beta.form()),
    "von mises": (
        lambda: jaxgmm.VonMises(_a([2, -1], [-1, 3], [0, 1]), _a([1, 5], [5, 3], [10, 80])),
        jaxgmm.VonMises.form(),
    ),
    "multinomial": (
        lambda: jaxgmm.Multinomial(jnp.log(_a([0.7, 0.1, 0.1, 0.1], [0.1, 0.6, 0.2, 0.1], [0.25, 0.25, 0.25, 0.25]))),
        jaxgmm.Multinomial.form(),
    ),
    "product": (
        _product,
        jaxgmm.Product.form({(0, 2): "diag", 1: jaxgmm.Categorical.form(3), 3: jaxgmm.Poisson.form()}),
    ),
}


def _of_kind(components) -> jaxgmm.Mixture:
    return jaxgmm.Mixture(jnp.log(jnp.array(WEIGHTS)), components())


class LongRows(Case):
    """Rows of counts with totals of their own, which a mixture does not draw."""

    def data(self, n: int = N, seed: int = 0) -> jax.Array:
        random = np.random.default_rng(seed)
        shares = np.exp(np.asarray(self.mixture().components.log_probabilities, np.float64))
        labels = random.choice(3, n, p=WEIGHTS)
        totals = random.integers(20, 60, n)
        return jnp.asarray(
            np.array(
                [
                    random.multinomial(total, shares[k] / shares[k].sum())
                    for total, k in zip(totals, labels, strict=True)
                ],
                float,
            )
        )


# Families beside those with a location and a covariance, which have laws in a place of their own.
KINDS = [
    (LongRows if name == "multinomial" else Case)(name, functools.partial(_of_kind, components), {"form": form})
    for name, (components, form) in _MADE.items()
]
