"""Agglomerative clustering of a sample of the rows by Ward's criterion, which is the likelihood of equal spheres.

Clusters start as single rows. Two are merged at a time, those whose sum of squared distances to their mean grows least
by it: by w_a w_b / (w_a + w_b) |m_a - m_b|², with weights w and means m. Merging never brings a cluster nearer to
another than both its parts were, so clusters that are nearest to each other may be merged at once, wherever that is in
the order of the costs. A chain of nearest neighbours finds them in about three times as many passes over the clusters
as there are rows, and the whole tree serves every number of clusters.

Sources: Ward (1963), J. Am. Stat. Assoc. 58; Murtagh & Raftery (1984), Pattern Recognition 17; Fraley (1998), SIAM J.
Sci. Comput. 20; Müllner (2011), arXiv:1109.2378.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.ground import draws, linalg, shards
from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.ground.rows import Evidence

# Rows that are clustered, and how many of them at least for each component.
SAMPLE = 256
_EACH = 4
# An end of the loop where rounding should keep the chain from its own.
_STEPS = 4


@record
class Tree:
    """Which cluster is merged into which. Fields: `parent` (s,), itself where it is merged into none; `cost` (s,)."""

    parent: Leaf
    cost: Leaf


@record
class _Chain:
    """Clusters as they are now, and a chain of them, each the nearest to the one before.

    Fields: `means` (s, d), `weights` (s,) and `tags` (s,); `waiting` (s,), whether one may still be merged; `links`
    (s,), of which the first `length` count; the `tree` so far; `steps`.
    """

    means: Leaf
    weights: Leaf
    tags: Leaf
    waiting: Leaf
    links: Leaf
    length: Leaf
    tree: Tree
    steps: Leaf


def centers(key: jax.Array, rows: Evidence, present: Bool[Array, " k"]) -> Float[Array, "k d"]:
    """Means of the clusters, one for each component that is present; infinite for one that is left without.

    Rows are drawn in proportion to their weights without replacement, and stand for those that are not. Rows of one
    component are one cluster from the start, which may take in others but those of another component. Those of a class
    with several components are clustered on their own.
    """
    waits = jax.random.exponential(key, rows.weights.shape, rows.x.dtype)
    waits = waits if rows.shards is None else rows.shards.place(waits)

    def of_device(present: Bool[Array, " k"], given: tuple[Evidence, Array]) -> tuple[Float[Array, "k d"], tuple[()]]:
        return _centers_at(*given, present), ()

    return shards.on_each(rows.shards, of_device, present, (rows, waits))[0]


def _centers_at(rows: Evidence, waits: Float[Array, " n"], present: Bool[Array, " k"]) -> Float[Array, "k d"]:
    """`centers`, where rows are drawn that have waited least; inside of `on_each`."""
    lie, numbers = rows.shards, jnp.arange(present.size, dtype=jnp.int32)
    size = max(SAMPLE, 2 ** math.ceil(math.log2(_EACH * present.size)))
    if rows.labels is None:
        means, weights, _ = _sampled(rows, waits, rows.weights, size)
        tags = jnp.full(weights.shape, -1, jnp.int32)
        source = jnp.full(present.shape, -1, jnp.int32)
    elif rows.classes:
        classes = jnp.asarray(rows.classes, jnp.int32)
        member = jax.nn.one_hot(rows.labels + 1, max(rows.classes) + 2, dtype=rows.x.dtype)
        total = shards.total(lie, linalg.einsum("n,nc->c", rows.weights, member))
        # As many of every class.
        rates = rows.weights / jnp.where(total > 0, total, 1)[rows.labels + 1]
        means, weights, tags = _sampled(rows, waits, rates, size)
        there = jnp.any((tags == classes[:, None]) & (weights > 0), axis=1)
        source = jnp.where(there, classes, -1)
    else:
        member = jax.nn.one_hot(rows.labels, present.size, dtype=rows.x.dtype) * rows.weights[:, None]
        counts, totals = shards.total(lie, (jnp.sum(member, axis=0), linalg.einsum("nk,nd->kd", member, rows.x)))
        means, weights, tags = _sampled(rows, waits, jnp.where(rows.labels < 0, rows.weights, 0), size)
        means = jnp.concatenate([means, totals / jnp.where(counts > 0, counts, 1)[:, None]])
        weights = jnp.concatenate([weights, counts])
        tags = jnp.concatenate([jnp.full(tags.shape, -1, jnp.int32), numbers])
        source = jnp.where(counts > 0, numbers, -1)
    source = jnp.where(present, source, -2)
    on_their_own = bool(rows.classes)
    keep = jnp.sum(source[:, None] == tags, axis=0) if on_their_own else jnp.sum(present)
    cluster = clusters(tree(means, weights, tags, on_their_own), weights, tags if on_their_own else None, keep)
    return _means(cluster, means, weights, tags, source)


def _sampled(
    rows: Evidence, waits: Float[Array, " n"], rates: Float[Array, " n"], size: int
) -> tuple[Float[Array, "s d"], Float[Array, " s"], Int[Array, " s"]]:
    """Rows, with weights by which they stand for all, and labels; each of which comes first at its own rate.

    A row of weight w that comes before the first one that is left out, at time t, had the chance 1 - exp(-rate t) to do
    so: w over that is unbiased for sums over all rows (Cohen & Kaplan 2007, PODC). All rows are taken where there are
    no more.
    """
    lie = rows.shards
    arrivals = jnp.where(rates > 0, waits / jnp.where(rates > 0, rates, 1), jnp.inf)
    places, next_one = draws.earliest(arrivals, size, lie)
    labels = jnp.full(rates.shape, -1, jnp.int32) if rows.labels is None else rows.labels
    x, weights, rates, labels = (shards.taken(lie, leaf, places) for leaf in (rows.x, rows.weights, rates, labels))
    chance = jnp.where(jnp.isfinite(next_one), -jnp.expm1(-rates * next_one), 1)
    return x, jnp.where(rates > 0, weights / jnp.where(rates > 0, chance, 1), 0), labels


def tree(
    means: Float[Array, "s d"], weights: Float[Array, " s"], tags: Int[Array, " s"], on_their_own: bool = False
) -> Tree:
    """How clusters are merged that start with these means and weights, until no two may be; those without weight never.

    Of clusters with tags other than -1, no two are merged; or `on_their_own`, those with the same tag alone.
    """
    numbers = jnp.arange(weights.size, dtype=jnp.int32)

    def step(state: _Chain) -> _Chain:
        means, weights, tags, waiting, links = state.means, state.weights, state.tags, state.waiting, state.links
        begun = state.length > 0
        links = jnp.where(begun | (numbers > 0), links, jnp.argmax(waiting).astype(jnp.int32))
        length = jnp.where(begun, state.length, 1)
        tip, before = links[length - 1], links[jnp.maximum(length - 2, 0)]
        allowed = tags == tags[tip] if on_their_own else (tags < 0) | (tags[tip] < 0)
        allowed = allowed & waiting & (numbers != tip)
        both = weights + weights[tip]
        cost = weights * weights[tip] / jnp.where(both > 0, both, 1) * jnp.sum((means - means[tip]) ** 2, axis=1)
        cost = jnp.where(allowed, cost, jnp.inf)
        nearest = jnp.argmin(cost).astype(jnp.int32)
        gone = ~waiting[tip]  # as rounding alone can bring about
        alone = ~gone & ~(cost[nearest] < jnp.inf)
        merge = ~gone & ~alone & (length > 1) & (cost[before] <= cost[nearest])
        further = ~gone & ~alone & ~merge
        into, lost = merge & (numbers == before), merge & (numbers == tip)
        mean = means[before] + (means[tip] - means[before]) * (weights[tip] / jnp.where(both > 0, both, 1)[before])
        return _Chain(
            means=jnp.where(into[:, None], mean, means),
            weights=jnp.where(into, both, weights),
            tags=jnp.where(into, jnp.maximum(tags, tags[tip]), tags),
            waiting=waiting & ~lost & ~(alone & (numbers == tip)),
            links=jnp.where(further & (numbers == length), nearest, links),
            length=jnp.where(further, jnp.minimum(length + 1, numbers.size), length - jnp.where(merge, 2, 1)),
            tree=Tree(jnp.where(lost, before, state.tree.parent), jnp.where(lost, cost[before], state.tree.cost)),
            steps=state.steps + 1,
        )

    def unfinished(state: _Chain) -> Bool[Array, ""]:
        return jnp.any(state.waiting) & (state.steps < _STEPS * numbers.size)

    nothing = jnp.zeros((), jnp.int32)
    leaves = Tree(numbers, jnp.full(weights.shape, -jnp.inf, weights.dtype))
    start = _Chain(means, weights, tags, weights > 0, jnp.zeros_like(numbers), nothing, leaves, nothing)
    return jax.lax.while_loop(unfinished, step, start).tree


def clusters(
    tree: Tree, weights: Float[Array, " s"], groups: Int[Array, " s"] | None, keep: Int[Array, "*s"]
) -> Int[Array, " s"]:
    """The cluster of each, as the number of one in it, once so many are left, or as few as there are.

    With `groups`, which share no tree, `keep` is how many are left of the group of each.
    """
    numbers = jnp.arange(weights.size, dtype=jnp.int32)
    merged = tree.parent != numbers
    alike = True if groups is None else groups == groups[:, None]
    ends = jnp.sum(~merged & (weights > 0) & alike, axis=-1)
    dearer = (tree.cost > tree.cost[:, None]) | ((tree.cost == tree.cost[:, None]) & (numbers > numbers[:, None]))
    undone = merged & (jnp.sum(merged & alike & dearer, axis=1) < keep - ends)
    found = jnp.where(undone, numbers, tree.parent)
    for _ in range(math.ceil(np.log2(max(2, weights.size)))):
        found = found[found]
    return found


def _means(
    cluster: Int[Array, " s"],
    means: Float[Array, "s d"],
    weights: Float[Array, " s"],
    tags: Int[Array, " s"],
    source: Int[Array, " k"],
) -> Float[Array, "k d"]:
    """That of a cluster with the tag of its `source` for each component, the first for the first of them."""
    first = (cluster == jnp.arange(weights.size)) & (weights > 0)
    tag = jnp.full(tags.shape, -1, tags.dtype).at[cluster].max(tags)
    possible = first & (tag == source[:, None])
    alike = source == source[:, None]
    place = jnp.sum(jnp.tril(alike, -1), axis=1, keepdims=True)
    mine = possible & (jnp.cumsum(possible, axis=1) - 1 == place)
    member = jnp.where(mine[:, cluster], weights, 0)
    total = jnp.sum(member, axis=1, keepdims=True)
    return jnp.where(total > 0, linalg.einsum("ks,sd->kd", member, means) / jnp.where(total > 0, total, 1), jnp.inf)
