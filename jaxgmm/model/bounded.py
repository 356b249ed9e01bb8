"""Bounds on covariances beyond the floor."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxgmm.families.kernels import Moments
from jaxgmm.ground import checks
from jaxgmm.ground.pytree import record
from jaxgmm.model.mixture import Mixture, of_clusters
from jaxgmm.model.restricted import Restricted


@record
class Bounded(Restricted):
    """An `objective`, climbed among covariances that are not too wide, or not too flat.

    Bounds are on variances in every direction in units of the squared `scale_of` each column, so that the data's units
    do not matter. The lower bound is the floor, `regularization`; a component that is below it all the same, or on it,
    is degenerate. Each step takes the best covariances within bounds, which are those of an ordinary step with their
    eigenvalues cut, so that what is climbed never falls.

    Fields:
        most: (), the largest variance, such as 1 for components no wider than the data.
        condition: (), at least 1, by how much the largest variance of a component, or of all where they share it, may
            exceed its smallest one. It leaves "spherical" as it is. One of both is given.
        objective: what is climbed; None for the likelihood.
        scale: (d,), that of the columns, which a fit sets.

    Sources: Ingrassia & Rocci (2007), Comput. Stat. Data Anal. 51; Won, Lim, Kim & Rajaratnam (2013), JRSS B 75.

    >>> import jax, jaxgmm
    >>> x = jax.random.normal(jax.random.key(0), (300, 2)) * jax.numpy.array([1.0, 0.1])
    >>> x = x.at[:150].set(x[:150, ::-1])  # a cross of two flat components
    >>> start = jaxgmm.init(jax.random.key(1), x, 2)
    >>> free, round = (jaxgmm.fit(start, x, objective=one).mixture for one in (None, jaxgmm.Bounded(condition=4.0)))
    >>> [f"{jax.numpy.linalg.cond(one.covariances[0]):.0f}" for one in (free, round)]
    ['97', '4']
    """

    most: Any = None
    condition: Any = None
    objective: Any = None
    scale: Any = None

    @property
    def reshapes(self) -> bool:
        return True

    @property
    def relative(self) -> bool:
        return self.scale is None or super().relative

    def within(self, center: Float[Array, " d"], scale: Float[Array, " d"], present: Bool[Array, " k"]) -> "Bounded":
        return dataclasses.replace(super().within(center, scale, present), scale=scale)

    def checked(self, n_components: int, n_columns: int, dtype: Any) -> "Bounded":
        objective = self._climbed(n_components, n_columns, dtype)
        if (self.most is None) == (self.condition is None):
            raise ValueError("Of most and condition, one is to be given; for a lower bound there is regularization.")
        most, condition = (
            None if value is None else checks.scalar(name, value, dtype)
            for name, value in (("most", self.most), ("condition", self.condition))
        )
        if most is not None:
            if not checks.holds(lambda most: 0 < most < np.inf, most):
                raise ValueError(f"most is {float(most)}; expected a positive number, in units of the scale squared.")
            most = checks.valid(most, (most > 0) & (most < jnp.inf))
        if condition is not None:
            if not checks.holds(lambda condition: 1 <= condition < np.inf, condition):
                raise ValueError(f"condition is {float(condition)}; expected at least 1, for variances that are equal.")
            condition = checks.valid(condition, (condition >= 1) & (condition < jnp.inf))
        return Bounded(most, condition, objective, checks.scale(self.scale, n_columns, dtype))

    def sums(self, mixture: Mixture, counts: Float[Array, " k"], sums: Any) -> Any:
        sums = super().sums(mixture, counts, sums)
        return sums.by_number(of_clusters(mixture, counts)) if isinstance(sums, Moments) else sums

    def placed(self, mixture: Mixture) -> Mixture:
        clusters: Any = mixture.components.clusters
        structure = getattr(clusters, "structure", None)
        if structure is None:
            raise NotImplementedError(
                f"{type(clusters).__name__} components have no covariances that Bounded could bound."
            )

        def bounded(factor: Any) -> Any:
            least, most = None, self.most
            if self.condition is not None:
                least = _least(factor.spectrum(self.scale), self.condition)
                most = self.condition * least
            return factor.bounded(self.scale, least, most)

        within = clusters.moved(clusters.means, structure.reshaped(bounded))
        return super().placed(Mixture(mixture.log_weights, mixture.components.with_clusters(within)))


def _least(variances: Float[Array, "*b d"], condition: Float[Array, ""]) -> Float[Array, "*b"]:
    """The lower of two bounds, the upper one so many times as far, between which variances lose least likelihood.

    The loss, the sum of log e + v / e over variances v cut to e, is made of pieces, on each of which the best bound has
    a closed form.
    """
    still = jax.lax.stop_gradient(variances)
    corners = jnp.sort(jnp.concatenate([still, still / condition], axis=-1), axis=-1)
    inside = jnp.concatenate([corners[..., :1] / 2, (corners[..., 1:] + corners[..., :-1]) / 2], axis=-1)
    inside = jnp.concatenate([inside, corners[..., -1:] * 2], axis=-1)[..., :, None]
    below, above = still[..., None, :] < inside, still[..., None, :] > condition * inside
    cut = below | above
    raised = jnp.where(above, variances[..., None, :] / condition, variances[..., None, :])
    number = jnp.sum(cut, axis=-1)
    bounds = jnp.sum(jnp.where(cut, raised, 0), axis=-1) / jnp.maximum(number, 1)
    # Where nothing is cut, any bound below all will do.
    bounds = jnp.where(number > 0, bounds, corners[..., :1])
    ends = jnp.clip(variances[..., None, :], bounds[..., None], condition * bounds[..., None])
    loss = jnp.sum(jnp.log(ends) + variances[..., None, :] / ends, axis=-1)
    best = jnp.argmin(jax.lax.stop_gradient(loss), axis=-1)
    return jnp.take_along_axis(bounds, best[..., None], axis=-1)[..., 0]
