"""A Gaussian mixture from parameters the user has."""

from typing import Any

import jax
import numpy as np

from jaxgmm.covariance.kinds import Kind
from jaxgmm.covariance.table import structure_of
from jaxgmm.families.gaussian import Gaussian
from jaxgmm.families.table import form_of
from jaxgmm.ground import checks
from jaxgmm.ground.shares import log_shares
from jaxgmm.model import extents
from jaxgmm.model.mixture import Mixture


def from_parameters(weights: Any, means: Any, covariances: Any, form: Any = "full") -> Mixture:
    """A Gaussian mixture with the given parameters.

    Args:
        weights: mixing proportions (k,), not negative; divided by their sum.
        means: (k, d), in the units of the data.
        covariances: in squared units of the data, by form: "full" (k, d, d), "tied" (d, d), "diag" (k, d),
            "spherical" (k,), "tied-diag" (d,), "tied-spherical" (), and (k, d, d) for those that share volume, shape or
            orientation, such as "VEE".
        form: one of these names, or a form of `Gaussian`.

    Raises:
        ValueError: shapes that do not fit each other and, outside `jit`, weights that are negative or all zero,
            numbers that are not finite, a covariance that is not symmetric positive definite, or covariances that do
            not share what the form says that they do.
        NotImplementedError: a form of other components.

    >>> import jaxgmm
    >>> mixture = jaxgmm.from_parameters([0.3, 0.7], [[0.0, 0.0], [4.0, 4.0]], [[1.0, 1.0], [2.0, 0.5]], "diag")
    >>> mixture.covariances.shape
    (2, 2, 2)
    """
    made_of = form_of(form)
    if made_of.n_background:
        raise NotImplementedError(
            f"from_parameters makes Gaussian components, and form is {made_of}; write "
            "jaxgmm.with_noise(jaxgmm.from_parameters(...)) of the form without noise."
        )
    if made_of.family is not Gaussian:
        raise NotImplementedError(
            f"from_parameters makes Gaussian components, and form is {made_of}; make a Mixture of log-weights and "
            f"jaxgmm.{made_of.family.__name__}(...)."
        )
    structure = structure_of(str(dict(made_of.options)["covariance"]))
    given_means, means = means, checks.data(means, name="means")
    given, weights = weights, checks.real_array("weights", weights)
    covariances = checks.real_array("covariances", covariances)
    n_components, n_columns = means.shape
    if weights.shape != (n_components,):
        raise ValueError(f"weights has shape {weights.shape}; expected ({n_components},), one for each row of means.")
    expected = structure.covariances_shape(n_components, n_columns)
    if covariances.shape != expected:
        raise ValueError(
            f"covariances has shape {covariances.shape}; expected {expected} for form {str(made_of)!r} "
            f"and means of shape {means.shape}."
        )
    weights, means, covariances = checks.common_dtype(weights, means, covariances)
    checks.none_lost("weights", given, weights, "Set those to 0 that belong to no component.")
    if not checks.holds(lambda w: np.all((w >= 0) & (w < np.inf)) and np.any(w > 0), weights):
        raise ValueError(f"weights is {weights.tolist()}; expected finite numbers >= 0, at least one of them positive.")
    if not checks.has_a_sum(weights):
        raise ValueError(f"weights is {weights.tolist()}, whose sum is infinite in {weights.dtype}; divide them by it.")
    checks.finite_data(means, name="means")
    covariance = structure.from_covariances(covariances, n_columns)
    checks.positive_definite("covariances", covariances, covariance.factor.half_log_det())
    mixture = Mixture(log_shares(weights), Gaussian(means, covariance))
    _check_form(mixture, covariances, structure, str(made_of))
    checks.keep_digits("means", given_means, lambda rough: extents.about(given_means, covariances, structure))
    return mixture


def _check_form(mixture: Mixture, covariances: Any, structure: Kind, form: str) -> None:
    """Refuse matrices that are none of a structure with fewer parameters, which would be others in it."""
    if not structure.shares_in_part:
        return
    matrices = covariances, mixture.covariances
    if any(isinstance(array, jax.core.Tracer) for array in matrices):  # of numbers too, where a derivative is taken
        return
    given, held = (np.asarray(array, np.float64) for array in matrices)
    unit = np.sqrt(given.diagonal(axis1=1, axis2=2))
    off = np.abs(held - given) / unit[:, :, None] / unit[:, None, :]
    if not np.all(off <= np.sqrt(np.finfo(mixture.means.dtype).eps)):
        worst = int(np.argmax(off.max(axis=(1, 2))))
        raise ValueError(
            f"covariances share less than form {form!r} says: the nearest that do differ from that of component "
            f"{worst} by {off[worst].max():.2g} of the variances. Give them as form 'full'."
        )
