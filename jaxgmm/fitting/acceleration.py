"""What the steps of EM so far tell about the way ahead: where it leads, and how much likelihood is still to come.

EM repeats theta <- M(theta). Let f = M(theta) - theta be its step, and let f have changed by y along a move x of theta.
Near a maximum the likelihood's gradient is A f and its Hessian -A (I - J), where A is the Fisher information of the
complete data and J = dM is symmetric in the metric A. So -<x, y> = <x, (I - J) x> for a few moves tells the curvature
in the directions in which EM is slow: all that is needed to leap to where its steps would end, and to say what they
would gain.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float

from jaxgmm.ground import checks, linalg
from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.model.free import Free, named
from jaxgmm.model.mixture import Mixture

# Moves remembered. More of them would reach back to where the likelihood curved differently.
_MOVES = 5
# A leap goes no further than this in the metric of the Fisher information, unless EM itself does: half its square is
# the Kullback-Leibler divergence, and further away the curvature is another one.
_RADIUS = 0.3
# After a step of EM that left less than this of the one before it, another one arrives without a leap.
_FAST = 0.3
# A step of so many roundings of the coordinates, or of a standard deviation, is none.
_ROUNDINGS = 64
# The smallest curvature (1 - rate of EM) that a leap divides by: at the start, at least, and how it changes when a leap
# is turned down or taken.
_CAUTION, _LEAST_CAUTION, _RAISE, _LOWER = 1e-3, 1e-6, 8, 2


@dataclasses.dataclass(frozen=True)
class Scheme:
    """How a fit uses what it remembers. With `leaps` it extrapolates, otherwise every step is one of EM."""

    leaps: bool


PLAIN = Scheme(leaps=False)
SCHEMES: dict[str, Scheme] = {"anderson": Scheme(leaps=True)}
"""The one table from the public names of acceleration schemes to what they do."""


def scheme_of(acceleration: str | None) -> Scheme:
    """The scheme called `acceleration`, plain EM for None; `ValueError` naming the known ones if there is none."""
    return PLAIN if acceleration is None else SCHEMES[checks.one_of("acceleration", acceleration, SCHEMES)]


@record
class Place:
    """Where a mixture and its EM step are, in free coordinates.

    Fields: `mixture` (p,); `step` (p,); `metric` (p,), the Fisher information there.
    """

    mixture: Leaf
    step: Leaf
    metric: Leaf

    @classmethod
    def of(cls, free: Float[Array, " p"], mixture: Mixture, step: Mixture) -> "Place":
        """Of a mixture whose free coordinates are known."""
        weights = mixture.weights
        information = Mixture(weights, mixture.components.information(weights))
        return cls(free, coordinates(step), ravel_pytree(information)[0])

    @classmethod
    def unmoved(cls, mixture: Mixture) -> "Place":
        """Before anything is known: at the mixture, no step taken."""
        free = coordinates(mixture)
        return cls(free, free, jnp.zeros_like(free))

    @property
    def change(self) -> Float[Array, " p"]:
        """What the EM step changes."""
        return _difference(self.step, self.mixture)

    @property
    def length(self) -> Float[Array, ""]:
        """Of the EM step, squared, in the metric."""
        return jnp.sum(self.metric * self.change**2)

    @property
    def noise(self) -> Float[Array, ""]:
        """What `length` may be of a step that is all rounding."""
        eps = _ROUNDINGS * jnp.finfo(self.metric.dtype).eps
        return eps**2 * jnp.sum(1 + self.metric * jnp.where(jnp.isfinite(self.mixture), self.mixture, 0) ** 2)


def coordinates(mixture: Mixture) -> Float[Array, " p"]:
    """The free coordinates of a mixture in one row."""
    return ravel_pytree(mixture.unconstrain())[0]


def mixture_at(free: Float[Array, " p"], like: Mixture) -> tuple[Mixture, Float[Array, " p"]]:
    """The mixture, of the same shapes as another, at free coordinates; and these as `coordinates` gives them."""
    position = Free(ravel_pytree(named(like))[1](free), jax.tree.structure(like))
    mixture = position.constrain()
    # Any numbers are log-weights, all else comes back as it was.
    return mixture, ravel_pytree(position.coordinates | {"log_weights": mixture.log_weights})[0]


@record
class Memory:
    """The latest moves between mixtures of a fit, newest first; zeros where there were none yet.

    Fields: `paths` (2, m, p), moves in free coordinates and the change of the EM step along each; `gains` (2, m), in
    log-likelihood per unit weight and as the information foretold them; `caution` (), the curvature below which leaps
    were found not to be trusted; `size` (), moves made, up to m; `leapt` (), whether the newest move was a leap.
    """

    paths: Leaf
    gains: Leaf
    caution: Leaf
    size: Leaf  # of the type of the others, so that they pack
    leapt: Leaf

    @classmethod
    def blank(cls, free: Float[Array, " p"]) -> "Memory":
        """No moves yet, between places like this one."""
        return cls(
            paths=jnp.zeros((2, _MOVES, free.size), free.dtype),
            gains=jnp.zeros((2, _MOVES), free.dtype),
            caution=jnp.asarray(_CAUTION, free.dtype),
            size=jnp.zeros((), free.dtype),
            leapt=jnp.asarray(False),
        )

    def extended(self, before: Place, after: Place, gain: Float[Array, ""] | None = None) -> "Memory":
        """With the move between two places that gained `gain`; by default, what the metric foretells."""
        move = _difference(after.mixture, before.mixture)
        old, new = before.change, after.change
        rise = jnp.sum(after.metric * (old + new) / 2 * move)

        def pushed(latest: list[Array], others: Array) -> Array:
            return jnp.concatenate([jnp.stack(latest)[:, None], others[:, :-1]], axis=1)

        return dataclasses.replace(
            self,
            paths=pushed([move, new - old], self.paths),
            gains=pushed([rise if gain is None else gain, rise], self.gains),
            size=jnp.minimum(self.size + 1, _MOVES),
        )

    def judged(self, leapt: Bool[Array, ""], taken: Bool[Array, ""], least: Float[Array, ""]) -> "Memory":
        """More cautious where a leap, over curvatures down to `least`, was turned down, less where one was taken."""
        lower = jnp.maximum(self.caution / _LOWER, _LEAST_CAUTION)
        higher = jnp.minimum(jnp.maximum(self.caution, least) * _RAISE, 1)
        caution = jnp.where(leapt, jnp.where(taken, lower, higher), self.caution)
        return dataclasses.replace(self, caution=caution, leapt=jnp.where(taken, leapt, self.leapt))


@record
class Outlook:
    """What lies ahead of a mixture.

    Fields: `leap` (p,), where EM's steps seem to lead, in free coordinates; `worthwhile` (), whether the likelihood
    rises on the way there and EM would take long; `remaining` (), log-likelihood per unit weight that EM would still
    gain, inf where it cannot be told; `least` (), the smallest curvature seen.
    """

    leap: Leaf
    worthwhile: Leaf
    remaining: Leaf
    least: Leaf

    @classmethod
    def blank(cls, free: Float[Array, " p"]) -> "Outlook":
        """Nothing known yet."""
        one = jnp.ones((), free.dtype)
        return cls(leap=free, worthwhile=jnp.asarray(False), remaining=jnp.inf * one, least=one)


def look_ahead(memory: Memory, place: Place) -> Outlook:
    """From a place, by its EM step.

    The leap is Anderson acceleration of type I: f - (I - J) times a combination of the moves is made orthogonal to all
    of them. The curvatures (Ritz values) enter by their absolute value, so that a saddle repels.

    Sources: Fang & Saad (2009), Numer. Linear Algebra Appl. 16; Dauphin et al. (2014), NeurIPS; Jamshidian & Jennrich
    (1993), JASA 88, for the metric.
    """
    f, m = place.change, _MOVES
    before = f - memory.paths[1, 0]
    vectors = jnp.concatenate([memory.paths.reshape(2 * m, -1), f[None], before[None]])
    products = linalg.einsum("ap,bp->ab", vectors * place.metric, vectors)
    xx, xy, xf = products[:m, :m], products[:m, m : 2 * m], products[:m, 2 * m]
    ff, bb = products[2 * m, 2 * m], products[2 * m + 1, 2 * m + 1]
    curvature, basis = _ritz(xx, -xy)
    steepness = jnp.abs(curvature)
    share = jnp.sum(basis * xf[:, None], axis=0)
    combination = jnp.sum(basis * (share / jnp.maximum(steepness, memory.caution)), axis=1)
    way = f + jnp.sum(combination[:, None] * (memory.paths[0] + memory.paths[1]), axis=0)
    along, square = jnp.sum(place.metric * jnp.stack([f, way]) * way, axis=1)
    length = jnp.sqrt(square)
    shrink = jnp.minimum(1, jnp.maximum(_RADIUS, jnp.sqrt(ff)) / length)
    least = jnp.min(curvature)
    slow = memory.leapt | (ff > _FAST**2 * bb)
    # The metric may be known only up to a factor, which past moves tell.
    gained, foretold = jnp.sum(memory.gains, axis=1)
    unit = gained / foretold
    sure = (memory.size >= 2) & (least > 0) & (unit > 0)
    return Outlook(
        # Adding to -inf leaves it: what EM took away stays away.
        leap=place.step + (shrink * way - f),
        worthwhile=(memory.size > 0) & (along > 0) & slow & jnp.isfinite(length),
        remaining=jnp.where(sure, unit * ff / (2 * least), jnp.inf),
        least=jnp.min(steepness),
    )


def _ritz(xx: Float[Array, "m m"], curved: Float[Array, "m m"]) -> tuple[Float[Array, " m"], Float[Array, "m m"]]:
    """Curvatures in the span of the moves x, and in the columns the combinations of moves that have them.

    From the products <x, x> and <x, (I - J) x>. Where moves are parallel or missing, the span has fewer dimensions than
    there are moves; what is left over has curvature 1, that of a direction in which one step of EM arrives.
    """
    norms = jnp.sqrt(jnp.diagonal(xx))
    scale = jnp.where(norms > 0, 1 / jnp.where(norms > 0, norms, 1), 0)
    squares, vectors = jnp.linalg.eigh(scale[:, None] * xx * scale, symmetrize_input=False)
    real = squares > jnp.finfo(xx.dtype).eps ** (2 / 3) * jnp.maximum(squares[-1], jnp.finfo(xx.dtype).tiny)
    basis = scale[:, None] * vectors * jnp.where(real, 1 / jnp.sqrt(jnp.where(real, squares, 1)), 0)
    inside = linalg.einsum("ab,ac,cd->bd", basis, curved, basis)
    beside = np.eye(len(xx), dtype=xx.dtype) * (1 - real.astype(xx.dtype))
    values, rotation = jnp.linalg.eigh((inside + inside.T) / 2 + beside, symmetrize_input=False)
    return values, linalg.einsum("ab,bc->ac", basis, rotation)


def _difference(ahead: Float[Array, " p"], behind: Float[Array, " p"]) -> Float[Array, " p"]:
    """0 where one is infinite, as the log-weight of an absent component."""
    return jnp.where(jnp.isfinite(ahead) & jnp.isfinite(behind), ahead - behind, 0)
