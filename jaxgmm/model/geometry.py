"""Parts and images of a mixture as mixtures: what the components make of themselves, with the weights that go along."""

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxgmm.ground import linalg
from jaxgmm.ground.programs import program

if TYPE_CHECKING:
    from jaxgmm.model.mixture import Mixture
else:  # whose methods these are
    Mixture = Any


def mean(mixture: Mixture) -> Float[Array, "*batch d"]:
    """Expectation of the whole."""
    return _mean_of(mixture.weights, mixture.means)


def center(mixture: Mixture) -> Float[Array, "*batch d"]:
    """The mean of the centers of components."""
    return _mean_of(mixture.weights, mixture.components.centers)


def _mean_of(weights: Float[Array, "*batch k"], means: Float[Array, "*batch k d"]) -> Float[Array, "*batch d"]:
    rough = linalg.einsum("...k,...kd->...d", weights, means)
    # Weights sum to one but for rounding, which times a far origin would show.
    return rough + linalg.einsum("...k,...kd->...d", weights, means - rough[..., None, :])


def covariance(mixture: Mixture) -> Float[Array, "*batch d d"]:
    """Law of total covariance, about the mean of the whole."""
    return _total(mixture, mixture.covariances)


def dispersion(mixture: Mixture) -> Float[Array, "*batch d d"]:
    """The same of what measures the width of components where they have no covariance."""
    return _total(mixture, mixture.components.dispersions)


def _total(mixture: Mixture, matrices: Float[Array, "*batch k d d"]) -> Float[Array, "*batch d d"]:
    away = mixture.means - mean(mixture)[..., None, :]
    # Those of absent components may be infinite.
    matrices = jnp.where(mixture.weights[..., None, None] > 0, matrices, 0)
    within = linalg.einsum("...k,...kij->...ij", mixture.weights, matrices)
    return within + linalg.einsum("...ki,...kj->...ij", mixture.weights[..., None] * away, away)


def variances(mixture: Mixture) -> Float[Array, " d"]:
    """The diagonal of that, without a matrix, about the centers of components."""
    away = mixture.components.centers - center(mixture)
    # Those of absent components may be infinite.
    within = jnp.where(mixture.weights[:, None] > 0, mixture.components.variances(), 0)
    return linalg.einsum("k,kd->d", mixture.weights, within + away**2)


@program(static=("columns",))
def marginal(mixture: Mixture, columns: tuple[int, ...]) -> Mixture:
    """Of these columns."""
    return dataclasses.replace(mixture, components=mixture.components.marginal(np.array(columns)))


@program(static=("columns",))
def condition(mixture: Mixture, values: Float[Array, " g"], columns: tuple[int, ...]) -> Mixture:
    """Of the other columns, given these."""
    given = np.array(columns)
    kept = np.setdiff1d(np.arange(mixture.n_columns), given)
    seen = mixture.components.marginal(given).log_prob(values[None])[0]
    _, log_weights = reweighed(mixture.log_weights, seen)
    return dataclasses.replace(
        mixture, log_weights=log_weights, components=mixture.components.condition(given, kept, values)
    )


@program
def affine(mixture: Mixture, matrix: Float[Array, "m d"], offset: Float[Array, " m"]) -> Mixture:
    """Of `matrix x + offset`."""
    return dataclasses.replace(mixture, components=mixture.components.affine(matrix, offset))


def reweighed(
    log_weights: Float[Array, " k"], log_factors: Float[Array, " k"]
) -> tuple[Float[Array, ""], Float[Array, " k"]]:
    """Logarithm of the sum of weights times factors, and the log-weights that result.

    Where all of them underflow, the sum is 0 and the weights stay as they are. An absent component stays absent.
    """
    joint = log_weights + log_factors
    top = jax.lax.stop_gradient(jnp.max(joint))
    underflow = top < -linalg.saturation(joint.dtype)
    joint = jnp.where(underflow, log_weights, joint)
    top = jnp.where(underflow, 0, top)
    total = jnp.log(jnp.sum(jnp.exp(joint - top)))
    return jnp.where(underflow, -jnp.inf, top + total), joint - top - total
