"""How far a mixture reaches, in numpy: what tells which digits of rows and of parameters it needs."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxgmm.ground import digits
from jaxgmm.ground.digits import Extent
from jaxgmm.ground.programs import program
from jaxgmm.model import geometry

if TYPE_CHECKING:
    from jaxgmm.model.mixture import Mixture
else:  # whose checks these are
    Mixture = Any


def of_whole(mixture: Mixture) -> Extent | None:
    """Mean and standard deviation of the mixture as a whole, (d,) each; None where they are traced."""
    if _is_traced(mixture):
        return None
    # Or it would become part of what is being traced.
    with jax.ensure_compile_time_eval():
        mean, deviation = _mean_and_deviation(mixture)
    return Extent(np.asarray(mean, np.float64), np.asarray(deviation, np.float64))


def about(means: Any, mixture: Mixture) -> Extent | None:
    """Standard deviations of the components about `means` (k, d) that they were given; None where they are traced."""
    return None if _is_traced(mixture) else Extent(np.asarray(means, np.float64), _components(mixture)[1])


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


def _components(mixture: Mixture) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations of the components (..., k, d), with all the digits that they have."""
    with jax.enable_x64(True), jax.ensure_compile_time_eval():
        wide = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), mixture)
        variances = jnp.diagonal(wide.covariances, axis1=-2, axis2=-1)
        return np.asarray(wide.means, np.float64), np.sqrt(np.asarray(variances, np.float64))


def _is_traced(mixture: Mixture) -> bool:
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(mixture))


@program
def _mean_and_deviation(mixture: Mixture) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
    return geometry.mean(mixture), jnp.sqrt(jnp.diagonal(geometry.covariance(mixture)))
