"""Functions of numbers of rows that keep their digits however many there are."""

import math
from typing import Any

import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln
from jaxtyping import Array, Float

# From here on the series has the digits of the dtype, by its number of bits.
_LARGE = {32: 6.0, 64: 40.0}
# Up to here x - log(1 + x) is taken by its series.
_NEAR = 0.125
# So far from 0 the series of digamma and its derivative have the digits of all dtypes.
_SHIFT = 16
# Steps of Newton's method, after which no digit changes.
_NEWTON = 4


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


def log_peak(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """a log(a) - a - log Gamma(a + 1), that of a Poisson count at its own rate; about -log(2 pi a) / 2, and 0 at 0."""
    large = _LARGE[jnp.finfo(a.dtype).bits]
    few, many = jnp.clip(a, jnp.finfo(a.dtype).tiny, large), jnp.maximum(a, large)
    inverse = 1 / many**2
    series = (-1 / 12 + inverse * (1 / 360 - inverse * (1 / 1260 - inverse / 1680))) / many
    series = series - jnp.log(many) / 2 - math.log(2 * math.pi) / 2
    return jnp.where(a < large, few * jnp.log(few) - few - gammaln(few + 1), series)


def log_excess(away: Float[Array, "..."], over: Float[Array, "..."], under: Float[Array, "..."]) -> Float[Array, "..."]:
    """away - log(over / under) of positive numbers whose ratio is 1 + away: not negative, about away^2 / 2 near 0."""
    # The terms of its series where the difference loses digits.
    near = jnp.abs(away) < _NEAR
    small = jnp.where(near, away, 0)
    t = small / (2 + small)
    square = t * t
    tail = 1 / 3 + square * (1 / 5 + square * (1 / 7 + square * (1 / 9 + square * (1 / 11 + square / 13))))
    return jnp.where(near, t * (small - 2 * square * tail), away - (jnp.log(over) - jnp.log(under)))


def log_less_digamma(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """log(a) - digamma(a), about 1 / (2 a) where a is large and 1 / a where it is small."""
    steps = a[..., None] + jnp.arange(_SHIFT)
    z = 1 / (a + _SHIFT)
    series = z / 2 + z**2 / 12 * (1 - z**2 * (1 / 10 - z**2 * (1 / 21 - z**2 / 20)))
    return jnp.sum(1 / steps, axis=-1) - jnp.log1p(_SHIFT / a) + series


def log_gamma_ratio(a: Float[Array, "..."], h: Any) -> Float[Array, "..."]:
    """log Gamma(a + h) - log Gamma(a) - h log(a), of h >= 0: about h (h - 1) / (2 a) where a is large."""
    above = a + h
    whole = above * log_excess(-h / above, a, above) - jnp.log1p(h / a)
    return whole + log_peak(a) - log_peak(above)


def lead_of_shape(a: Float[Array, "..."], h: Any) -> Float[Array, "..."]:
    """log(a) - digamma(a) less the same of a + h, for h > 0: positive, about h / (2 a (a + h)) where a is large."""
    return log_less_digamma(a) - log_less_digamma(a + h)


def trigamma(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """Derivative of digamma, at a > 0."""
    steps = a[..., None] + jnp.arange(_SHIFT)
    z = 1 / (a + _SHIFT)
    series = z + z**2 / 2 + z**3 * (1 / 6 - z**2 * (1 / 30 - z**2 * (1 / 42 - z**2 / 30)))
    return jnp.sum(1 / steps**2, axis=-1) + series


def trigamma_excess(a: Float[Array, "..."]) -> Float[Array, "..."]:
    """a (a trigamma(a) - 1), at a > 0: 1 near 0, and 1/2 far from there."""
    few, many = jnp.minimum(a, _SHIFT), jnp.maximum(a, _SHIFT)
    z = 1 / many
    series = 1 / 2 + z * (1 / 6 - z**2 * (1 / 30 - z**2 * (1 / 42 - z**2 / 30)))
    return jnp.where(a < _SHIFT, few * (few * trigamma(few) - 1), series)


def shape_of(excess: Float[Array, "..."]) -> Float[Array, "..."]:
    """The a at which log(a) - digamma(a) is this, positive: the shape of gamma variates by their mean log-excess.

    Source: Minka (2002), Estimating a Gamma distribution.
    """
    c = excess
    root = jnp.sqrt((c - 3) ** 2 + 24 * c)
    a = jnp.where(c < 3, (3 - c + root) / (12 * c), 2 / (root + jnp.abs(c - 3)))
    for _ in range(_NEWTON):
        # In 1 / a, of which it is nearly a line, between these slopes.
        slope = jnp.clip(trigamma_excess(a), 0.5, 1)
        a = 1 / (1 / a + (c - log_less_digamma(a)) / slope)
    return a


def shape_of_lead(lead: Float[Array, "..."], h: float, least: float, most: float) -> Float[Array, "..."]:
    """The a between `least` and `most` at which `lead_of_shape(a, h)` is this, positive, or nearest to it."""
    lead = jnp.maximum(lead, jnp.finfo(lead.dtype).tiny)
    a = 1 / lead / (1 + jnp.sqrt(1 + 2 / (h * lead)))
    for _ in range(_NEWTON):
        a = jnp.clip(a, least, most)
        here = lead_of_shape(a, h)
        # In logarithms, of which it is nearly a line; so steep, to a fifth, that roundings do not lead astray.
        about = (2 * a + h) / (a + h)
        slope = a * (trigamma(a) - 1 / a - trigamma(a + h) + 1 / (a + h)) / here
        a = a * jnp.exp((jnp.log(here) - jnp.log(lead)) / (about * jnp.clip(slope / about, 0.8, 1.2)))
    return jnp.clip(a, least, most)
