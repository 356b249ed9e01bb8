"""Coordinates for whatever moves mixtures by small steps: free, without units, with an origin nearby."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from jaxgmm.families.family import Family
from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.model.mixture import Mixture


@record
class Coordinates:
    """Free coordinates from one mixture, in units of the standard deviations to which one row tells them.

    So neither where the data lie nor their units matter to an optimiser, and small steps are not rounded away.

    Fields: `origin` and `unit`, mixtures of free coordinates, log-weights of absent components 0; `present` (k,).
    """

    origin: Mixture
    unit: Mixture
    present: Leaf

    @classmethod
    def at(cls, mixture: Mixture) -> "Coordinates":
        """With this mixture as origin."""
        ones = jnp.ones_like(mixture.log_weights)
        information = Mixture(ones, mixture.components.information(ones))
        unit = jax.tree.map(lambda leaf: 1 / jnp.sqrt(jnp.where(leaf > 0, leaf, 1)), information)
        present = mixture.log_weights > -jnp.inf
        return cls(_finite(mixture.unconstrain(), present), unit, present)

    def enter(self, mixture: Mixture) -> Mixture:
        """Where a mixture is."""
        free = _finite(mixture.unconstrain(), self.present)
        return jax.tree.map(lambda leaf, start, unit: (leaf - start) / unit, free, self.origin, self.unit)

    def held(self, position: Mixture) -> Mixture:
        """The position, but at the origin in all coordinates that belong to absent components alone."""

        def read(place: Int[Array, ""], present: Bool[Array, ""]) -> Family:
            """Not 0 in what this component is made of."""
            one, back = jax.vjp(lambda components: components.take(place[None]), position.components)
            return back(jax.tree.map(lambda leaf: jnp.full_like(leaf, present), one))[0]

        reads = jax.vmap(read)(jnp.arange(self.present.size), self.present)
        components = jax.tree.map(
            lambda leaf, marks: jnp.where(jnp.any(marks > 0, axis=0), leaf, 0), position.components, reads
        )
        return _finite(dataclasses.replace(position, components=components), self.present)

    def leave(self, position: Mixture) -> Mixture:
        """The mixture that is there."""
        free = jax.tree.map(lambda leaf, start, unit: start + unit * leaf, position, self.origin, self.unit)
        return dataclasses.replace(free, log_weights=jnp.where(self.present, free.log_weights, -jnp.inf)).constrain()


def _finite(free: Mixture, present: Bool[Array, " k"]) -> Mixture:
    return dataclasses.replace(free, log_weights=jnp.where(present, free.log_weights, 0))
