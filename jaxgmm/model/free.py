"""Free coordinates: what an optimiser may move anywhere."""

import collections
from typing import TYPE_CHECKING, Any

import jax

from jaxgmm.ground import bounds
from jaxgmm.ground.pytree import Leaf, record, static

if TYPE_CHECKING:
    from jaxgmm.model.mixture import Mixture

Named = collections.OrderedDict[str, Leaf]
"""Arrays by the names that they have in a mixture, in its order."""


@record
class Free:
    """Free coordinates of a mixture, as `Mixture.unconstrain` gives them: any real numbers make one again.

    A pytree for optimisers, `grad` and `vmap`, and no mixture: it has no density, and all that can be asked of it is to
    `constrain`. Log-weights are their own coordinates, positive parameters have their logarithm, Cholesky factors the
    logarithm of their diagonal.

    Fields: `coordinates`, arrays by the names of the parameters, such as "log_weights" (k,) and "components.means"
    (k, d), of the shapes that those have; `layout`, how they make up a mixture, static.

    >>> import jaxgmm
    >>> free = jaxgmm.from_parameters([1.0], [[2.0]], [1.0], "spherical").unconstrain()
    >>> list(free.coordinates)
    ['log_weights', 'components.means', 'components.covariance.factor.scale']
    >>> free.constrain().means.tolist()
    [[2.0]]
    """

    coordinates: Named
    layout: Any = static(shown=False)

    def constrain(self) -> "Mixture":
        """The mixture at these coordinates; stacked coordinates make a stack."""
        return bounds.constrain(unnamed(self.coordinates, self.layout))


def named(like: "Mixture") -> Named:
    """The leaves of a mixture, or of numbers in the places of its parameters, by their names."""
    return collections.OrderedDict(
        (jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in jax.tree.leaves_with_path(like)
    )


def unnamed(leaves: Named, layout: Any) -> "Mixture":
    """Inverse of `named`."""
    return jax.tree.unflatten(layout, list(leaves.values()))
