"""Bounds on covariances beyond the floor."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxgmm.ground import checks
from jaxgmm.ground.pytree import record
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.objective import Objective, Variational, objective_of


@record
class Bounded(Objective):
    """An `objective`, climbed among covariances that are not too wide, or not too flat.

    Bounds are on variances in every direction in units of the squared `scale_of` each column, so that the data's units
    do not matter; the lower bound is the floor, `regularization`. Each step takes the best covariances within bounds,
    which are those of an ordinary step with their eigenvalues cut, so that what is climbed never falls.

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
    def sustains(self) -> bool:
        return bool(self.objective.sustains)

    @property
    def given(self) -> Bool[Array, " k"] | None:
        mask: Bool[Array, " k"] | None = self.objective.given
        return mask

    @property
    def widens(self) -> bool:
        return self.condition is not None

    @property
    def relative(self) -> bool:
        return self.scale is None or bool(self.objective.relative)

    def within(self, center: Float[Array, " d"], scale: Float[Array, " d"], present: Bool[Array, " k"]) -> "Bounded":
        objective = self.objective.within(center, scale, present)
        return dataclasses.replace(self, objective=objective, scale=scale)

    def counting(self, total: Float[Array, ""]) -> "Bounded":
        return dataclasses.replace(self, objective=self.objective.counting(total))

    def over(self, unit: Float[Array, ""]) -> "Bounded":
        return dataclasses.replace(self, objective=self.objective.over(unit))

    def checked(self, n_components: int, n_columns: int, dtype: Any) -> "Bounded":
        objective = objective_of(self.objective, n_components, n_columns, dtype)
        if isinstance(objective, Variational):
            raise NotImplementedError(
                "Bounded bounds parameters, and Variational has distributions of them in the place of numbers. Take "
                "Posterior as its objective."
            )
        if (self.most is None) == (self.condition is None):
            raise ValueError("Of most and condition, one is to be given; for a lower bound there is regularization.")
        most, condition = (
            None if value is None else checks.scalar(name, value, dtype)
            for name, value in (("most", self.most), ("condition", self.condition))
        )
        if most is not None and not checks.holds(lambda most: most > 0, most):
            raise ValueError(f"most is {float(most)}; expected a positive number, in units of the scale squared.")
        if condition is not None and not checks.holds(lambda condition: condition >= 1, condition):
            raise ValueError(f"condition is {float(condition)}; expected at least 1, for variances that are equal.")
        return Bounded(most, condition, objective, checks.scale(self.scale, n_columns, dtype))

    def read_by(self, mixture: Mixture) -> Mixture:
        read: Mixture = self.objective.read_by(mixture)
        return read

    def penalty(self, mixture: Mixture) -> Float[Array, ""] | None:
        value: Float[Array, ""] | None = self.objective.penalty(mixture)
        return value

    def log_weights(
        self, mixture: Mixture, counts: Float[Array, " k"], alive: Bool[Array, " k"]
    ) -> Float[Array, " k"] | None:
        weights: Float[Array, " k"] | None = self.objective.log_weights(mixture, counts, alive)
        return weights

    def sums(self, mixture: Mixture, counts: Float[Array, " k"], sums: Any) -> Any:
        return self.objective.sums(mixture, counts, sums)

    def placed(self, mixture: Mixture) -> Mixture:
        structure = getattr(mixture.components, "structure", None)
        if structure is None:
            raise NotImplementedError(
                f"{type(mixture.components).__name__} components have no covariances that Bounded could bound."
            )
        factor, least = structure.factor, None
        most = self.most
        if self.condition is not None:
            least = _least(factor.spectrum(self.scale), self.condition)
            most = self.condition * least
        components: Any = mixture.components
        bounded = components.moved(components.means, structure.of_factor(factor.bounded(self.scale, least, most)))
        placed: Mixture = self.objective.placed(Mixture(mixture.log_weights, bounded))
        return placed

    def n_parameters(self, mixture: Mixture) -> Any:
        return self.objective.n_parameters(mixture)


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
