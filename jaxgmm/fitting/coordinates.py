"""Coordinates for whatever moves mixtures by small steps: free, without units, with an origin nearby."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.families.family import Family
from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.model.free import Free, Named, named, unnamed
from jaxgmm.model.mixture import Mixture


@record
class Coordinates:
    """Free coordinates from one mixture, in units of the standard deviations to which one row tells them.

    So neither where the data lie nor their units matter to an optimiser, and small steps are not rounded away.

    A position in them is an array for each parameter, by its name, as in `Free`: 0 is the origin.

    Fields: `origin`, and `unit` of each coordinate, log-weights of absent components 0; `present` (k,).
    """

    origin: Free
    unit: Named
    present: Leaf

    @classmethod
    def at(cls, mixture: Mixture) -> "Coordinates":
        """With this mixture as origin."""
        information = information_of(mixture, jnp.ones_like(mixture.log_weights))
        unit = jax.tree.map(lambda leaf: 1 / jnp.sqrt(jnp.where(leaf > 0, leaf, 1)), information)
        # What is not a number is there, and says so.
        present = mixture.log_weights != -jnp.inf
        free = mixture.unconstrain()
        return cls(dataclasses.replace(free, coordinates=_finite(free.coordinates, present)), unit, present)

    @property
    def start(self) -> Named:
        """The position of the origin."""
        return jax.tree.map(jnp.zeros_like, self.origin.coordinates)

    def enter(self, mixture: Mixture) -> Named:
        """Where a mixture is."""
        free, origin = _finite(mixture.unconstrain().coordinates, self.present), self.origin.coordinates
        return jax.tree.map(lambda leaf, start, unit: (leaf - start) / unit, free, origin, self.unit)

    def held(self, position: Named) -> Named:
        """The position, but at the origin in all coordinates that belong to absent components alone."""

        made_up = unnamed(position, self.origin.layout)
        clusters = made_up.components.clusters
        kept = self.present[: clusters.centers.shape[0]] if made_up.components.n_background else self.present

        def read(place: Int[Array, ""], present: Bool[Array, ""]) -> Family:
            """Not 0 in what this component is made of."""
            one, back = jax.vjp(lambda components: components.take(place[None]), clusters)
            return back(jax.tree.map(lambda leaf: jnp.full_like(leaf, present), one))[0]

        reads = jax.vmap(read)(jnp.arange(kept.size), kept)
        clusters = jax.tree.map(lambda leaf, marks: jnp.where(jnp.any(marks > 0, axis=0), leaf, 0), clusters, reads)
        components = made_up.components.with_clusters(clusters)
        return _finite(named(dataclasses.replace(made_up, components=components)), self.present)

    def leave(self, position: Named) -> Mixture:
        """The mixture that is there."""
        origin = self.origin.coordinates
        free = jax.tree.map(lambda leaf, start, unit: start + unit * leaf, position, origin, self.unit)
        return dataclasses.replace(self.origin, coordinates=_with(free, self.present, -jnp.inf)).constrain()


def information_of(mixture: Mixture, weights: Float[Array, " k"]) -> Named:
    """How sharply rows of such weights tell each free coordinate."""
    return named(dataclasses.replace(mixture, log_weights=weights, components=mixture.components.information(weights)))


def _finite(free: Named, present: Bool[Array, " k"]) -> Named:
    return _with(free, present, 0.0)


def _with(free: Named, present: Bool[Array, " k"], absent: float) -> Named:
    """With other log-weights of absent components."""
    return free | {"log_weights": jnp.where(present, free["log_weights"], absent)}
