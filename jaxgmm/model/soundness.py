"""Whether arrays put into a mixture make one, asked of any family through what it must provide anyway."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from jaxgmm.ground import bounds
from jaxgmm.ground.programs import program
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.steps import e_step, m_step

_LANES_NAMED = 5

_MANY = 2**13


def fault(mixture: Mixture) -> str:
    """What keeps `mixture`, one or a stack of them, from being sound, as the end of a sentence; "" if nothing does."""
    batch = mixture.log_weights.shape[:-1]
    if not _fits(mixture, batch):
        shapes = ", ".join(
            f"{jax.tree_util.keystr(path).lstrip('.')} {leaf.shape}"
            for path, leaf in jax.tree_util.tree_leaves_with_path(mixture)
        )
        return f"holds arrays whose shapes do not fit each other: {shapes}"
    # In numpy, or each shape would be a program of its own.
    lanes = jax.tree.map(lambda leaf: np.asarray(leaf).reshape(-1, *leaf.shape[len(batch) :]), mixture)
    weights, components = map(np.asarray, _sound(lanes))
    if not weights.all():
        return f"holds weights that are not numbers summing to one{_where(weights, batch)}"
    if not components.all():
        return (
            "holds parameters that its components cannot have: NaN, infinite, or not positive where they must be"
            + _where(components, batch)
        )
    return ""


def _fits(mixture: Mixture, batch: tuple[int, ...]) -> bool:
    """Whether every shape is exactly what it should be: the one that a step of EM gives back."""
    leaves = jax.tree.leaves(mixture)
    if any(leaf.shape[: len(batch)] != batch for leaf in leaves):
        return False
    single = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[len(batch) :], leaf.dtype), mixture)
    try:
        stepped = jax.eval_shape(_step, single)
        centers, variances = jax.eval_shape(lambda parts: (parts.centers, parts.variances()), single.components)
    # Arrays that a family was not written for make it raise nearly anything.
    except Exception:
        return False
    if variances.shape != centers.shape or centers.shape[:1] != single.log_weights.shape:
        return False
    return [leaf.shape for leaf in jax.tree.leaves(stepped)] == [leaf.shape for leaf in jax.tree.leaves(single)]


@program
def _step(mixture: Mixture) -> Mixture:
    # So many that every kernel takes part in it: they are never there.
    rows = jnp.zeros((_MANY + mixture.n_columns, mixture.n_columns), mixture.log_weights.dtype)
    return m_step(mixture, e_step(mixture, rows), jnp.ones_like(rows[0]))


@program
@jax.vmap
def _sound(mixture: Mixture) -> tuple[Bool[Array, ""], Bool[Array, ""]]:
    """Whether weights sum to one, and whether components are finite and come back from finite free coordinates."""
    free = bounds.unconstrain(mixture.components)
    pairs = zip(*map(jax.tree.leaves, (mixture.components, free, bounds.constrain(free))), strict=True)
    total = jax.nn.logsumexp(mixture.log_weights)
    components = jnp.stack([_returns(*leaves) for leaves in pairs])
    # What is no array says itself whether it is right: there is a density where the components are.
    there = jnp.isfinite(jnp.diagonal(mixture.components.log_prob(mixture.components.centers)))
    return jnp.abs(total) <= _rounding(total), jnp.all(components) & jnp.all(there)


def _returns(leaf: Array, free: Array, back: Array) -> Bool[Array, ""]:
    finite = jnp.all(jnp.isfinite(leaf) & jnp.isfinite(free))
    return finite & (jnp.max(jnp.abs(back - leaf)) <= _rounding(leaf) * jnp.max(jnp.abs(leaf)))


def _rounding(leaf: Array) -> float:
    return math.sqrt(jnp.finfo(leaf.dtype).eps)


def _where(good: np.ndarray, batch: tuple[int, ...]) -> str:
    """Which mixtures of a stack are not good."""
    if not batch:
        return ""
    places = np.argwhere(~good.reshape(batch)).tolist()
    shown = ", ".join(map(str, places[:_LANES_NAMED])) + (", …" if len(places) > _LANES_NAMED else "")
    return f", in {len(places)} of {good.size} mixtures: {shown}"
