"""Bounds in closed form on what has none for mixtures: the Kullback-Leibler divergence and the entropy.

The entropy and the cross-entropy are expectations of the logarithm of a sum. Jensen's inequality takes the expectation
inside, and leaves the integrals of products of components (`log_overlap`). The variational inequality keeps it outside,
and leaves the divergences of components (`relative_entropy`).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgmm.ground.programs import program
from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.model.mixture import Mixture, check_mixture, check_pair

# Alternations of the variational upper bound; it holds after any number of them.
_ALTERNATIONS = 30


@record
class Bounds:
    """What a number lies between.

    Fields: `lower` (), `upper` ().
    """

    lower: Leaf
    upper: Leaf


def kl_bounds(p: Mixture, q: Mixture) -> Bounds:
    """Lower and upper bound on the Kullback-Leibler divergence from p to q, in nats, in closed form.

    With components p_a of weights w, q_b of weights v, their entropies H, their divergences D and overlaps
    z(f, g) = integral of f g::

        lower = sum_a w_a [log sum_a' w_a' e^-D(p_a, p_a') - log sum_b v_b z(p_a, q_b) - H(p_a)], or 0 if more
        upper = sum_a w_a [log sum_a' w_a' z(p_a, p_a') - log sum_b v_b e^-D(p_a, q_b) + H(p_a)], or
                sum_ab f_ab [log(f_ab / g_ab) + D(p_a, q_b)] if less

    The last one is the variational bound, with f and g the best two tables of joint weights that sum to w over b and to
    v over a. It is 0 for p = q.

    Args:
        p, q: mixtures of the same columns and family. Where both have one structure, pairs of components are compared
            in it; otherwise as "full".

    Raises:
        TypeError, ValueError: not mixtures, or of different columns or families.
        NotImplementedError: a family without these closed forms.

    Sources: Durrieu, Thiran & Kelly (2012), ICASSP, for the first two; Hershey & Olsen (2007), ICASSP, section 8, for
    the last.

    >>> import jaxgmm
    >>> p = jaxgmm.from_parameters([0.5, 0.5], [[0.0], [6.0]], [1.0, 1.0], "spherical")
    >>> q = jaxgmm.from_parameters([0.5, 0.5], [[0.0], [8.0]], [1.0, 1.0], "spherical")
    >>> bounds = jaxgmm.kl_bounds(p, q)  # about half of (8 - 6)^2 / 2
    >>> f"{bounds.lower:.2f} {bounds.upper:.2f}"
    '0.35 1.00'
    """
    return _kl_bounds(*check_pair(p, q))


def entropy_bounds(p: Mixture) -> Bounds:
    """Lower and upper bound on the differential entropy -E[log p(x)] of a mixture, in nats, in closed form.

    In the terms of `kl_bounds`::

        lower = -sum_a w_a log sum_a' w_a' z(p_a, p_a')
        upper = sum_a w_a [H(p_a) - log sum_a' w_a' e^-D(p_a, p_a')]

    Where components lie far apart, the upper bound is exact. As every differential entropy does, these depend on the
    units of the data.

    Raises:
        TypeError, ValueError: not a mixture.
        NotImplementedError: a family without these closed forms.

    Sources: Huber, Bailey, Durrant-Whyte & Hanebeck (2008), MFI, theorem 2, for the lower one; Kolchinsky & Tracey
    (2017), Entropy 19, for the upper one.

    >>> import jaxgmm
    >>> p = jaxgmm.from_parameters([0.5, 0.5], [[0.0], [20.0]], [1.0, 1.0], "spherical")
    >>> bounds = jaxgmm.entropy_bounds(p)  # that of one Gaussian, 1.419, and log 2
    >>> f"{bounds.lower:.3f} {bounds.upper:.3f}"
    '1.959 2.112'
    """
    return _entropy_bounds(check_mixture(p, "p"))


@program
def _kl_bounds(p: Mixture, q: Mixture) -> Bounds:
    own, (low, high) = p.components.differential_entropy(), _self_information(p)
    divergence = p.components.relative_entropy(q.components)
    at_most = _log_sums(p.components.log_overlap(q.components), q)
    at_least = _log_sums(-divergence, q) - own
    lower = jnp.sum(p.weights * (low - at_most))
    upper = jnp.sum(p.weights * (high - at_least))
    return Bounds(jnp.maximum(lower, 0), jnp.minimum(upper, _variational(p, q, divergence)))


@program
def _entropy_bounds(p: Mixture) -> Bounds:
    low, high = _self_information(p)
    return Bounds(-jnp.sum(p.weights * high), -jnp.sum(p.weights * low))


def _self_information(p: Mixture) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
    """Bounds on the expectation of log p(x) in each component of p."""
    low = _log_sums(-p.components.relative_entropy(p.components), p) - p.components.differential_entropy()
    return low, _log_sums(p.components.log_overlap(p.components), p)


def _log_sums(values: Float[Array, "k l"], q: Mixture) -> Float[Array, " k"]:
    return jax.nn.logsumexp(values + q.log_weights, axis=1)


def _variational(p: Mixture, q: Mixture, divergence: Float[Array, "k l"]) -> Float[Array, ""]:
    """The least found of sum f [log(f / g) + D]; the best f for a given g = v r, r a share of each b, is put in."""

    def alternate(log_shares: Float[Array, "k l"], _: None) -> tuple[Float[Array, "k l"], None]:
        rows = jax.nn.log_softmax(log_shares + q.log_weights - divergence, axis=1)
        joint = jnp.where(q.log_weights > -jnp.inf, p.log_weights[:, None] + rows, p.log_weights[:, None])
        # Shares of an absent component are its neighbours' limit: they are never counted, but must not be NaN.
        return jnp.maximum(jax.nn.log_softmax(joint, axis=0), jnp.finfo(joint.dtype).min / 4), None

    start = jnp.broadcast_to(p.log_weights[:, None], divergence.shape)
    start = jnp.maximum(start, jnp.finfo(start.dtype).min / 4)
    log_shares, _ = jax.lax.scan(alternate, start, length=_ALTERNATIONS)
    sums = jax.nn.logsumexp(log_shares + q.log_weights - divergence, axis=1)
    present = p.log_weights > -jnp.inf
    return jnp.sum(p.weights * (jnp.where(present, p.log_weights, 0) - jnp.where(present, sums, 0)))
