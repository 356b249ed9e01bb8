"""The Kullback-Leibler divergence by drawing, which converges to it whatever the mixtures."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgmm.ground import checks
from jaxgmm.ground.programs import program
from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.model.mixture import Mixture, check_pair
from jaxgmm.model.passes import draw_labels


@record
class Estimate:
    """A value found by drawing.

    Fields: `value` (); `standard_error` (), of the value, which falls with the root of the number of draws.
    """

    value: Leaf
    standard_error: Leaf


def kl_divergence(key: jax.Array, p: Mixture, q: Mixture, n: int) -> Estimate:
    """Kullback-Leibler divergence from p to q, in nats: the mean of log p(x) - log q(x) over `n` rows drawn from p.

    Its expectation is the divergence itself, and its gradient's expectation the divergence's gradient in all parameters
    of both mixtures: components move the rows they drew, and weights count them. (As far as the family's `sample` is
    differentiable, as that of Gaussians is.) The same key gives the same rows, so differences of two estimates with one
    key are sharper than either.

    Args:
        key: what is drawn is drawn with this key.
        p: where rows are drawn from.
        q: what they are compared with; of the same columns and family.
        n: number of rows, at least 2. Static.

    Raises:
        TypeError, ValueError: not mixtures, of different columns or families, or a bad `n`.

    Source: Hershey & Olsen (2007), ICASSP, section 2.

    >>> import jax, jaxgmm
    >>> p = jaxgmm.from_parameters([1.0], [[0.0]], [1.0], "spherical")
    >>> q = jaxgmm.from_parameters([1.0], [[1.0]], [1.0], "spherical")  # (1 - 0)^2 / 2 away
    >>> found = jaxgmm.kl_divergence(jax.random.key(0), p, q, 10_000)
    >>> bool(abs(found.value - 0.5) < 3 * found.standard_error), f"{found.standard_error:.2f}"
    (True, '0.01')
    """
    p, q = check_pair(p, q)
    return _kl_divergence(checks.key(key), p, q, checks.count("n", n, smallest=2))


@program(static=("n",))
def _kl_divergence(key: jax.Array, p: Mixture, q: Mixture, n: int) -> Estimate:
    for_labels, for_rows = jax.random.split(key)
    labels = draw_labels(for_labels, p, n)
    x = p.components.sample(for_rows, labels)
    gain = p.log_prob(x) - q.log_prob(x)
    value = jnp.mean(gain)
    away = gain - value
    error = jnp.where(jnp.isfinite(value), jnp.sqrt(jnp.sum(away**2) / (n - 1) / n), jnp.inf)
    return Estimate(value + _through_weights(p, labels, away), error)


def _through_weights(p: Mixture, labels: Array, away: Float[Array, " n"]) -> Float[Array, ""]:
    """Zero, with the derivative that the mean has because other weights would draw other components."""
    chosen = p.log_weights[labels]
    # From the mean of the others: the share of a row in the mean of all would take 1 / n off the derivative.
    away = away * (away.size / (away.size - 1))
    away = jax.lax.stop_gradient(jnp.where(jnp.isfinite(away), away, 0))
    return jnp.mean((chosen - jax.lax.stop_gradient(chosen)) * away)
