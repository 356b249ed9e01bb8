"""How far a mixture reaches, in numpy: what tells which digits of rows and of parameters it needs."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxgmm.covariance.kinds import Kind
from jaxgmm.ground import digits
from jaxgmm.ground.digits import Extent
from jaxgmm.ground.programs import program
from jaxgmm.model import geometry

if TYPE_CHECKING:
    from jaxgmm.model.mixture import Mixture
else:  # whose checks these are
    Mixture = Any


def of_whole(mixture: Mixture, rough: bool = False) -> Extent | None:
    """Mean and standard deviation of the mixture as a whole, (d,) each; None where they are traced.

    A `rough` one is of the means alone, in numpy: it reaches less far, and nothing is compiled for it.
    """
    if _is_traced(mixture):
        return None
    if rough:
        weights, means = (np.asarray(array, np.float64) for array in (mixture.log_weights, mixture.components.centers))
        weights = np.exp(weights)[:, None] / np.sum(np.exp(weights))
        # What is absent may be anywhere.
        mean = np.sum(weights * np.where(weights > 0, means, 0), axis=0)
        return Extent(mean, np.sqrt(np.sum(weights * np.where(weights > 0, means - mean, 0) ** 2, axis=0)))
    # Or it would become part of what is being traced.
    with jax.ensure_compile_time_eval():
        mean, deviation = _mean_and_deviation(mixture)
    return Extent(np.asarray(mean, np.float64), np.asarray(deviation, np.float64))


def about(means: Any, covariances: Any, structure: Kind) -> Extent | None:
    """Standard deviations of components about `means` (k, d), None where they are traced.

    Of covariances in the shape in which the structure takes them.
    """
    if any(isinstance(array, jax.core.Tracer) for array in (means, covariances)):
        return None
    means, covariances = (np.asarray(array, np.float64) for array in (means, covariances))
    return Extent(means, np.broadcast_to(np.sqrt(structure.variances(covariances)), means.shape))


def needs_float64(mixture: Mixture) -> bool:
    """Whether float32 would round the mean of a component, of one mixture or of a stack, by what it can tell apart."""
    means, deviations = _components(mixture)
    present = np.asarray(mixture.log_weights)[..., None] > -np.inf
    return bool(np.any(digits.faint(means, deviations, np.float32) & present))


def check_digits(name: str, mixture: Mixture) -> None:
    """Refuse a float64 mixture that needs its digits where JAX would take it for one of float32."""
    size = jnp.result_type(float).itemsize
    if all(leaf.dtype.itemsize <= size for leaf in jax.tree.leaves(mixture)) or _is_traced(mixture):
        return
    if needs_float64(mixture):
        raise ValueError(
            f"{name} holds numbers of type float64 that float32 does not tell apart, as its components are narrow and "
            "far from 0, and JAX's 64-bit mode is off. Turn it on, jax.config.update('jax_enable_x64', True)."
        )


def check_shift(name: str, mixture: Mixture, matrix: Any, offset: Any, image: Mixture) -> None:
    """Refuse an offset of which, or beside which, the means of the image lose digits that its components need."""
    matrix, offset, before = (np.asarray(array, np.float64) for array in (matrix, offset, mixture.means))
    means, deviations = _components(image)
    eps = float(jnp.finfo(image.means.dtype).eps)
    # In this order, or the same digits would be lost here.
    lost = np.abs((means - offset) - before @ matrix.T)
    # A sum of products has roundings of its own.
    mine = lost > digits.SHARE / 2 * deviations + 2 * eps * matrix.shape[1] * (np.abs(before) @ np.abs(matrix.T))
    if not (mine & (np.asarray(image.log_weights)[:, None] > -np.inf)).any():
        return
    component, row = (int(place) for place in np.argwhere(mine)[0])
    narrow = image.means.dtype != np.float64
    raise ValueError(
        f"{name} holds {offset[row]:.9g} for row {row}, beside which {image.means.dtype} rounds the mean of component "
        f"{component} by {lost[component, row]:.3g}, and its standard deviation is {deviations[component, row]:.3g}: "
        + ("turn on JAX's 64-bit mode, jax.config.update('jax_enable_x64', True), or " if narrow else "")
        + "leave an offset out."
    )


def _components(mixture: Mixture) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations of the components (..., k, d), with all the digits that they have."""
    with jax.enable_x64(True), jax.ensure_compile_time_eval():
        wide = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), mixture)
        variances = wide.components.variances()
        return np.asarray(wide.components.centers, np.float64), np.sqrt(np.asarray(variances, np.float64))


def _is_traced(mixture: Mixture) -> bool:
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(mixture))


@program
def _mean_and_deviation(mixture: Mixture) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
    return geometry.center(mixture), jnp.sqrt(geometry.variances(mixture))
