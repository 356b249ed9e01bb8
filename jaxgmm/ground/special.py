"""Functions of numbers of rows that keep their digits however many there are."""

import math

import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln
from jaxtyping import Array, Float

# From here on the series has the digits of the dtype, by its number of bits.
_LARGE = {32: 6.0, 64: 40.0}


def excess(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """a digamma(a) - log Gamma(a) - a, which grows as log(a) / 2 while its terms grow as a log(a)."""
    large = _LARGE[jnp.finfo(a.dtype).bits]
    few = jnp.minimum(a, large)
    many = jnp.maximum(a, large)
    inverse = 1 / many**2
    series = (-1 / 6 + inverse * (1 / 90 - inverse * (1 / 210 - inverse / 210))) / many
    series = series + jnp.log(many) / 2 - (1 + math.log(2 * math.pi)) / 2
    return jnp.where(a < large, few * digamma(few) - gammaln(few) - few, series)


def dirichlet_divergence(a: Float[Array, "... k"], prior: Float[Array, "... k"]) -> Float[Array, "..."]:
    """KL divergence between two Dirichlet distributions, from that of parameters `a` to the prior.

    A place where both are 0 takes no part.
    """
    there = a > 0
    a, prior = jnp.where(there, a, 1), jnp.where(there, prior, 1)
    total, total_prior = (jnp.sum(jnp.where(there, one, 0), axis=-1) for one in (a, prior))
    each = excess(a) - prior * digamma(a) + gammaln(prior)
    whole = excess(total) - total_prior * digamma(total) + gammaln(total_prior)
    return jnp.sum(jnp.where(there, each, 0), axis=-1) - whole


def wishart_divergence(
    degrees: Float[Array, " k"],
    prior: Float[Array, ""],
    dimension: int,
    blocks: int,
    log_det_ratio: Float[Array, " k"],
    trace: Float[Array, " k"],
) -> Float[Array, " k"]:
    """KL divergence between so many pairs of Wishart distributions of this dimension.

    From W(degrees, (degrees S)^-1) to W(prior, L^-1), with the `trace` of L S^-1 and the logarithm of |L| / |S|, both
    over all blocks.
    """
    spread = log_expectation(degrees, dimension)
    halves = (degrees[:, None] - jnp.arange(dimension)) / 2
    below = jnp.arange(dimension) / 2
    each = excess(halves) + below * digamma(halves) + gammaln((prior - jnp.arange(dimension)) / 2)
    constant = dimension * prior / 2 * math.log(2) - dimension * (dimension - 1) / 4
    own = jnp.sum(each, axis=1) - prior / 2 * spread + constant
    return blocks * own - prior / 2 * log_det_ratio + trace / 2


def log_expectation(degrees: Float[Array, " k"], dimension: int) -> Float[Array, " k"]:
    """E[log |P|] - log |E[P]| of a matrix P with a Wishart distribution of so many degrees of freedom."""
    halves = (degrees[:, None] - jnp.arange(dimension)) / 2
    return jnp.sum(digamma(halves) - jnp.log(degrees / 2)[:, None], axis=1)
