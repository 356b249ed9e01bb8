"""The likelihood inside somebody's model: the sum of log-densities and its gradient in parameters and data."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import data
from benchmarks.harness import Contender, Row, contest, mean_log_likelihood


def points(case: str, quick: bool) -> list[Row]:
    """The one size."""
    return [{"n": 2000 if quick else 100_000, "d": 4, "k": 8}]


def run(point: Row, dtype: type, quick: bool) -> Iterator[Row]:
    """Forward, and gradient in log-weights, means, Cholesky factors and rows."""
    n, d, k = point.values()
    x, start = data.mixture(n, d, k, dtype)
    factors = np.linalg.cholesky(start.covariances)
    given = [jnp.asarray(a, dtype) for a in (np.log(start.weights), start.means, factors, x)]
    exact = mean_log_likelihood(x, start)
    reference = jax.grad(DENSITIES["numpyro"], argnums=(0, 1, 2, 3))(*given)
    scales = [float(jnp.max(jnp.abs(leaf))) for leaf in reference]

    def compiled(name: str, derivative: bool) -> Contender:
        function = jax.grad(DENSITIES[name], argnums=(0, 1, 2, 3)) if derivative else DENSITIES[name]
        run = jax.jit(function)
        return Contender(lambda _: jax.block_until_ready(run(*given)), lambda result: result)

    def error(result: tuple) -> float:
        gaps = [
            float(jnp.max(jnp.abs(lower(i, mine - other)))) / scale
            for i, (mine, other, scale) in enumerate(zip(result, reference, scales, strict=True))
        ]
        return -max(gaps)

    jax.clear_caches()
    makers = {f"{name}, forward": lambda name=name: compiled(name, False) for name in DENSITIES}
    budget = 0 if quick else 4.0
    rows = contest(makers, lambda total: -abs(float(total) / n - exact), budget=budget)
    makers = {f"{name}, gradient": lambda name=name: compiled(name, True) for name in DENSITIES}
    rows += contest(makers, error, budget=budget, equal=1e-3)
    for row in rows:
        if "log_likelihood" in row:
            # Errors, not likelihoods: of the mean log-density in nats, of gradients relative to the largest entry.
            row["error"] = -row.pop("log_likelihood")
            row["gap"] = row["error"]
            row["equal"] = row["error"] <= (1e-3 if "gradient" in row["contender"] else 1e-4)
        yield row


def lower(place: int, difference: jax.Array) -> jax.Array:
    """Of Cholesky factors (argument 2) only the lower triangle means anything."""
    return jnp.tril(difference) if place == 2 else difference


def ours(log_weights: jax.Array, means: jax.Array, scale_tril: jax.Array, x: jax.Array) -> jax.Array:
    """jaxgmm's."""
    import jaxgmm

    log_weights = jax.nn.log_softmax(log_weights)
    return jnp.sum(
        jaxgmm.Mixture(log_weights, jaxgmm.Gaussian(means, jaxgmm.Each(jaxgmm.Tril(scale_tril)))).log_prob(x)
    )


def numpyro(log_weights: jax.Array, means: jax.Array, scale_tril: jax.Array, x: jax.Array) -> jax.Array:
    """numpyro's."""
    from numpyro import distributions

    components = distributions.MultivariateNormal(means, scale_tril=scale_tril)
    return jnp.sum(
        distributions.MixtureSameFamily(distributions.Categorical(logits=log_weights), components).log_prob(x)
    )


def distrax(log_weights: jax.Array, means: jax.Array, scale_tril: jax.Array, x: jax.Array) -> jax.Array:
    """distrax's."""
    import distrax

    components = distrax.MultivariateNormalTri(means, scale_tril)
    return jnp.sum(distrax.MixtureSameFamily(distrax.Categorical(logits=log_weights), components).log_prob(x))


DENSITIES: dict[str, Callable[..., jax.Array]] = {"jaxgmm": ours, "numpyro": numpyro, "distrax": distrax}
