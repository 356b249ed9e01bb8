"""A noise component, for rows that belong to nothing."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxgmm.families.noise import WithNoise, of_volume, usual_sides
from jaxgmm.families.table import form_of
from jaxgmm.ground import checks
from jaxgmm.model import geometry
from jaxgmm.model.init import NOISE
from jaxgmm.model.mixture import Mixture, check_mixture


def with_noise(mixture: Any, volume: Any = None, *, scale: Any = None, weight: Any = None) -> Any:
    """A mixture, or a form, with one more component for rows that belong to nothing: noise of density 1 / volume.

    log p(x) = log(sum_k w_k p_k(x) + w_0 / V), with the noise as the last component. It draws nothing towards itself:
    a fit estimates its weight, and rows that no cluster explains better than 1 / V are its own. It counts two
    parameters, the weight and the volume. As its density is the same everywhere, it has no finite integral; `sample`
    draws from a box of this volume. `Mixture.noise_component` is its index.

    Args:
        mixture: k components, which become k + 1; or a form such as "full", for `init`, `fit_restarts`, `select` and
            others to make mixtures of: `n_components` then counts the clusters, and noise starts with a twentieth of
            the rows.
        volume: of the region over which noise is spread, in the units of the data to the power of d. By default that
            of a box five scales wide in each column, and of a form as wide as rows far out say, where that is wider.
            Static in a form, and traced otherwise.
        scale: of each column (d,), `jaxgmm.scale_of(x)`; by default the standard deviations of the mixture as a whole.
            Not of a form, which takes that of the rows.
        weight: of the noise to begin with, between 0 and 1, by default a twentieth; the others share the rest. Not of a
            form.

    Returns:
        A `Mixture` of k + 1 components, or a form.

    Raises:
        TypeError, ValueError: something else, noise that is there already, or numbers that are not positive.
        NotImplementedError: components of rows that hold whole or positive numbers.

    Source: Banfield & Raftery (1993), Biometrics 49.

    >>> import jax, jax.numpy as jnp, jaxgmm
    >>> cluster = jax.random.normal(jax.random.key(0), (400, 2))
    >>> x = jnp.concatenate([cluster, jax.random.uniform(jax.random.key(1), (100, 2), minval=-20, maxval=20)])
    >>> found = jaxgmm.fit_restarts(jax.random.key(2), x, 1, jaxgmm.with_noise("full"), n_restarts=4).best.mixture
    >>> found.noise_component, f"{found.weights[1]:.1f}", f"{found.covariances[0, 0, 0]:.0f}"
    (1, '0.2', '1')
    """
    if not isinstance(mixture, Mixture):
        for name, value, taken in (("scale", scale, "that of the rows"), ("weight", weight, "a twentieth of the rows")):
            if value is not None:
                raise TypeError(f"{name} is given with a form, which takes {taken}; leave it out.")
        return WithNoise.form(form_of(mixture), volume=volume)
    mixture = check_mixture(mixture)
    kind = type(mixture.components)
    if kind.n_background:
        raise ValueError("mixture has a noise component already; expected one without.")
    if kind.support != "real":
        raise NotImplementedError(
            f"{kind.__name__} components are of rows that hold {kind.support}, and a noise component is of constant "
            "density over real numbers."
        )
    dtype = mixture.log_weights.dtype
    weight = checks.scalar("weight", NOISE if weight is None else weight, dtype)
    if not checks.holds(lambda weight: 0 < weight < 1, weight):
        raise ValueError(f"weight is {float(weight):g}; expected a number between 0 and 1.")
    if volume is not None:
        volume = checks.scalar("volume", volume, dtype)
        if not checks.holds(lambda volume: 0 < volume < np.inf, volume):
            raise ValueError(f"volume is {float(volume):g}; expected a positive number.")
    scale = checks.scale(scale, mixture.n_columns, dtype)
    if scale is None:
        scale = jnp.sqrt(geometry.variances(mixture))
    log_weights = jnp.append(mixture.log_weights + jnp.log1p(-weight), jnp.log(weight))
    widths = usual_sides(scale) if volume is None else of_volume(scale, jnp.log(volume))
    return Mixture(log_weights, WithNoise(mixture.components, geometry.mean(mixture), widths))
