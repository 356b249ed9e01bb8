"""Seedings: where the components of a mixture start. Each shares the rows out among the components that are present.

Rows are drawn in proportion to their weights. Distances are taken in coordinates that suit what is sought: of
standardised columns (mean 0, scale 1), in which the units of the data do not matter; whitened, in which no linear
map of the data matters; or unscaled, the columns as they come, which is what spherical covariances see.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.ground import draws, linalg, shards
from jaxgmm.ground.pytree import Leaf, record, static
from jaxgmm.ground.rows import Evidence, block_size_for, map_rows, sum_over_blocks
from jaxgmm.ground.shards import Shards


@record
class Columns:
    """Rows without gaps, and the scale they are on.

    Fields: `z` (n, d), standardised rows; `weights` (n,), of largest 1; `center` and `scale` (d,), of each column, in
    the units of the data: the mean, in which rows far out count less, and what `scale_of` gives; `labels` (n,) and
    `seen` (n, d), `classes` and `shards`, as in `Evidence`; what is not seen is 0 in `z`; `before_noise`, whether rows
    that are far from all components may be of none.
    """

    z: Leaf
    weights: Leaf
    center: Leaf
    scale: Leaf
    labels: Leaf | None = None
    seen: Leaf | None = None
    classes: tuple[int, ...] | None = static(default=None)
    shards: Shards | None = static(default=None)
    before_noise: bool = static(default=False)


_Coordinates = Callable[[Columns], Float[Array, "n d"]]
_LloydState = tuple[Array, Array, Array]
# Rows further out than so many scales count no more in a mean and in products than those that are so far out.
_FAR = 10.0
# Where there is noise, a row further than so many scales from all centers, in each column on average, says no more than
# there are such rows, and from so many on it is of none of the components.
_NEAR, _OUTSIDE = 3.0, 10.0
_LLOYD_ITERATIONS = 300
_LLOYD_TOLERANCE = 1e-4


def standardised(columns: Columns) -> Float[Array, "n d"]:
    """Every column with mean 0 and scale 1."""
    return columns.z


def unscaled(columns: Columns) -> Float[Array, "n d"]:
    """The columns in their own units, but for one common factor."""
    return columns.z * (columns.scale / jnp.max(columns.scale))


def whitened(columns: Columns) -> Float[Array, "n d"]:
    """Uncorrelated columns of variance 1; standardised ones where these depend on each other."""
    return linalg.einsum("ni,ji->nj", columns.z, linalg.tril_inverse(correlation_factor(columns)))


def correlation_factor(columns: Columns) -> Float[Array, "d d"]:
    """Cholesky factor of the covariance of the standardised columns; the identity where they depend on each other."""
    total = jnp.maximum(jnp.sum(columns.weights), jnp.finfo(columns.z.dtype).tiny)
    shares = columns.weights * influence(columns.z)
    products = summed("ni,nj->ij", columns.shards, columns.z * shares[:, None], columns.z)
    if columns.seen is not None:
        # What is not seen is 0 in z: taken for uncorrelated there, and as wide as the rest.
        unseen = (~columns.seen).astype(shares.dtype)
        products = products + jnp.diag(summed("n,nd->d", columns.shards, shares, unseen))
    return linalg.scaled_cholesky(products / total)


def summed(subscripts: str, lie: Shards | None, *arrays: Array) -> Array:
    """`linalg.einsum` of arrays with rows on axis 0, which it sums over."""

    def of_device(_: Any, arrays: tuple[Array, ...]) -> tuple[Array, tuple[()]]:
        return shards.total(lie, linalg.einsum(subscripts, *arrays)), ()

    return shards.on_each(lie, of_device, (), arrays)[0]


def influence(z: Float[Array, "n d"]) -> Float[Array, " n"]:
    """How much a standardised row counts in a mean and in products: 1, but for what is far out."""
    return jnp.minimum(1, _FAR / jnp.maximum(jnp.max(jnp.abs(z), axis=1), _FAR)) ** 2


@dataclasses.dataclass(frozen=True)
class Seeding:
    """From a key, the data and which components are present to the component of each row.

    Centers are rows, each other row belongs to the nearest. They are drawn one after the other in proportion to their
    squared distance to those before, the best of several candidates each: k-means++ in its greedy form. With
    `distinct`, any other row is as good as another. With `lloyd`, Lloyd's algorithm moves them; one without rows stays
    where it is. Or centers are `hierarchical`: the means of clusters into which rows are merged, two at a time, by
    Ward's criterion. These are up to 256 rows, or four for each component; where there are no more, every key gives the
    same. Or every row goes to a component drawn at `random`: all components start near the mean of the data, the nearer
    the more rows there are. That is a saddle of the likelihood, which a fit leaves slowly: it may need a `tol` far
    below the default to get away.

    Sources: Arthur & Vassilvitskii (2007), SODA; Lloyd (1982), IEEE Trans. Inf. Theory 28.
    """

    coordinates: _Coordinates = standardised
    distinct: bool = False
    lloyd: bool = False
    hierarchical: bool = False
    random: bool = False

    @property
    def whitens(self) -> bool:
        """Whether it takes a matrix of columns by columns."""
        return self.coordinates is whitened

    def __call__(self, key: jax.Array, columns: Columns, present: Bool[Array, " k"]) -> Int[Array, " n"]:
        return Seedings.of((self,), columns, present).labels(key, 0)


SEEDINGS: dict[str, Seeding] = {
    "kmeans": Seeding(lloyd=True),
    "kmeans_whitened": Seeding(whitened, lloyd=True),
    "kmeans_unscaled": Seeding(unscaled, lloyd=True),
    "k-means++": Seeding(),
    "random_from_data": Seeding(distinct=True),
    "hierarchical": Seeding(whitened, hierarchical=True),
    "random": Seeding(random=True),
}


@record
class Seedings:
    """Several seedings of one data set as one program, which compiles once what they have in common.

    Fields: `coordinates`, an array (n, d) for each kind of them; `seen`, as many, which of these are known, or None;
    `weights` (n,); `present` (k,); `known` (n,) and `classes`, labels and classes as in `Evidence`, and `shards`;
    `before_noise`, as in `Columns`; `methods`.
    """

    coordinates: dict[_Coordinates, Array]
    seen: dict[_Coordinates, Array] | None
    weights: Leaf
    present: Leaf
    known: Leaf | None
    methods: tuple[Seeding, ...] = static()
    classes: tuple[int, ...] | None = static(default=None)
    shards: Shards | None = static(default=None)
    before_noise: bool = static(default=False)

    @classmethod
    def of(cls, methods: Sequence[Seeding], columns: Columns, present: Bool[Array, " k"]) -> "Seedings":
        kinds = dict.fromkeys(method.coordinates for method in methods)
        coordinates, known = {kind: kind(columns) for kind in kinds}, columns.labels
        if known is not None:
            # A row of a component that is absent has nowhere to go; its likelihood of 0 will tell.
            there = present if columns.classes is None else _with_a_component(columns.classes, present)
            known = shards.on_each(columns.shards, _of_some, there, known)[1]
        seen = None
        if columns.seen is not None:
            everywhere = jnp.ones_like(columns.seen)
            seen = {kind: everywhere if kind is whitened else columns.seen for kind in kinds}
        beside = columns.classes, columns.shards, columns.before_noise
        return cls(coordinates, seen, columns.weights, present, known, tuple(methods), *beside)

    def labels(self, key: jax.Array, which: int | Int[Array, ""]) -> Int[Array, " n"]:
        """The component of each row, by the method at that place; that of a row with a label is known.

        One more than there are components for a row that is far from all, where there is noise.
        """
        found = self._found(key, which)
        # Rows of a class are among its components already.
        return found if self.known is None or self.classes else jnp.where(self.known < 0, found, self.known)

    def _found(self, key: jax.Array, which: int | Int[Array, ""]) -> Int[Array, " n"]:

        def chosen(values: Sequence[Any]) -> Any:
            if all(value is values[0] for value in values):
                return values[0]
            return jax.lax.select_n(jnp.asarray(which, jnp.int32), *map(jnp.asarray, values))

        def anywhere() -> Int[Array, " n"]:
            known = Evidence(self.weights, self.weights, self.known, classes=self.classes)
            possible = known.possible(self.present.size)
            if possible is not None and self.classes:
                drawn = jax.random.gumbel(jax.random.fold_in(key, 0), possible.shape, self.weights.dtype)
                return jnp.argmax(jnp.where(possible & self.present[:, None], drawn, -jnp.inf), axis=0)
            drawn = jax.random.randint(jax.random.fold_in(key, 0), self.weights.shape, 0, jnp.sum(self.present))
            return drawn if self.shards is None else self.shards.place(drawn)

        random = chosen([method.random for method in self.methods])
        if random is True:
            return anywhere()
        z = chosen([self.coordinates[method.coordinates] for method in self.methods])
        seen = None if self.seen is None else chosen([self.seen[method.coordinates] for method in self.methods])
        rows = Evidence(z, self.weights, self.known, seen, classes=self.classes, shards=self.shards)
        near, outside = (z.shape[1] * reach**2 if self.before_noise else None for reach in (_NEAR, _OUTSIDE))
        distinct = chosen([method.distinct for method in self.methods])
        merges = chosen([method.hierarchical for method in self.methods])

        def merged() -> Float[Array, "k d"]:
            # Who asks for no such seeding does not load it.
            from jaxgmm.model import agglomeration

            if not self.before_noise:
                return agglomeration.centers(key, rows, self.present)
            inside = jnp.sum(rows.x**2, axis=1) < z.shape[1] * (2 * _NEAR) ** 2
            return agglomeration.centers(
                key, dataclasses.replace(rows, weights=jnp.where(inside, rows.weights, 0)), self.present
            )

        def spread() -> Float[Array, "k d"]:
            return _spread(key, rows, self.present.size, distinct, near)

        if isinstance(merges, bool):
            centers = merged() if merges else spread()
        else:
            centers = jax.lax.cond(merges, merged, spread)
        moves = chosen([method.lloyd for method in self.methods])
        if moves is not False:
            centers = _lloyd(rows, centers, self.present, moves, near)
        labels = _nearest(centers, self.present, rows, outside)
        return labels if random is False else jnp.where(random, anywhere(), labels)


def _of_some(there: Bool[Array, " c"], known: Int[Array, " n"]) -> tuple[tuple[()], Int[Array, " n"]]:
    return (), jnp.where((known >= 0) & there[known], known, -1)


def _with_a_component(classes: tuple[int, ...], present: Bool[Array, " k"]) -> Bool[Array, " c"]:
    """Which classes have a component that is present."""
    return jnp.zeros((max(classes) + 1,), bool).at[np.array(classes)].max(present)


def _nearest(
    centers: Float[Array, "k d"], present: Bool[Array, " k"], rows: Evidence, limit: float | None
) -> Int[Array, " n"]:
    size = block_size_for(rows.n_here, centers.size)
    looked_at = dataclasses.replace(rows, weights=None, labels=rows.labels if rows.classes else None)  # type: ignore[arg-type]
    return map_rows(
        lambda given, rows: _assign(given[0], given[1], rows, limit), (centers, present), looked_at, size, rows.shards
    )


def _assign(
    centers: Float[Array, "k d"], present: Bool[Array, " k"], rows: Evidence, limit: float | None
) -> Int[Array, " b"]:
    """The nearest center of those that are present, and that a row may be of where classes have several.

    One more than there are for a row whose squared distance from all is above the limit, if there is one.
    """
    allowed = present[:, None]
    if rows.classes and (possible := rows.possible(present.size)) is not None:
        allowed = allowed & possible
    distance = jnp.where(allowed, _squared_distance(centers, rows.x, rows.seen), jnp.inf)
    nearest = jnp.argmin(distance, axis=0)
    return nearest if limit is None else jnp.where(jnp.min(distance, axis=0) > limit, present.size, nearest)


def _squared_distance(
    centers: Float[Array, "c d"], z: Float[Array, "n d"], seen: Bool[Array, "n d"] | None
) -> Float[Array, "c n"]:
    """From all centers; where not all columns are seen, as much as those that are let expect of all."""
    if seen is None:
        return jnp.sum((z - centers[:, None, :]) ** 2, axis=2)
    share = jnp.maximum(jnp.mean(seen, axis=1, dtype=z.dtype), jnp.finfo(z.dtype).tiny)
    return jnp.sum(jnp.where(seen, z - centers[:, None, :], 0) ** 2, axis=2) / share


def _n_candidates(n_components: int) -> int:
    return 2 + int(math.log(n_components))


def _spread(
    key: jax.Array, rows: Evidence, n_components: int, distinct: bool | Bool[Array, ""], limit: float | None
) -> Float[Array, "k d"]:
    """Rows drawn one after the other in proportion to weight times squared distance to those drawn before.

    Of several draws the one that leaves the smallest total cost is taken. Once every row is at a center, the draw is in
    proportion to weight alone. If they are only to be `distinct`, all distances are alike and the first draw is taken.
    A component that rows are known to be of has their mean, and is there from the start. That of a class with several
    is drawn among the rows of its class. No squared distance counts for more than the limit, if there is one.
    """
    shares = jax.random.uniform(key, (n_components, _n_candidates(n_components)), rows.x.dtype)

    def of_device(given: tuple[Array, Any], rows: Evidence) -> tuple[Float[Array, "k d"], tuple[()]]:
        return _spread_at(*given, rows, limit), ()

    return shards.on_each(rows.shards, of_device, (shares, distinct), rows)[0]


def _spread_at(
    shares: Float[Array, "k c"], distinct: bool | Bool[Array, ""], rows: Evidence, limit: float | None
) -> Float[Array, "k d"]:
    """`_spread` by draws at these shares of all that may be drawn; inside of `on_each`."""
    z, weights, lie = rows.x, rows.weights, rows.shards
    n_components = shares.shape[0]

    def to(centers: Float[Array, "c d"]) -> Float[Array, "c n"]:
        distance = _squared_distance(centers, z, rows.seen)
        distance = distance if limit is None else jnp.minimum(distance, limit)
        return jnp.where(distinct & (distance > 0), 1, distance)

    def step(cost: Float[Array, " n"], drawn: tuple[Array, ...]) -> tuple[Float[Array, " n"], Float[Array, " d"]]:
        shares, begins, *eligible = drawn
        own = weights if not eligible else weights * eligible[0]
        mass = own * jnp.where(own > 0, cost, 0) if eligible else own * cost
        nothing = ~shards.anywhere(lie, jnp.any(mass > 0))
        places = draws.places_at(shares, jnp.where(begins | nothing, own, mass), lie)
        costs = jnp.minimum(cost, to(shards.taken(lie, z, places)))
        best = jnp.where(begins | distinct, 0, jnp.argmin(shards.total(lie, jnp.sum(weights * costs, axis=1))))
        return costs[best], shards.taken(lie, z, places[best])

    nowhere = jnp.full(z.shape[:1], jnp.inf, z.dtype)
    begins = jnp.arange(n_components) == 0
    if rows.labels is None:
        return jax.lax.scan(step, nowhere, (shares, begins))[1]
    if rows.classes:
        of_class = (rows.labels == jnp.asarray(rows.classes, jnp.int32)[:, None]) & (weights > 0)
        some = shards.anywhere(lie, jnp.any(of_class, axis=1, keepdims=True))
        possible = jnp.where(some, of_class, rows.labels < 0)
        return jax.lax.scan(step, nowhere, (shares, begins, possible.astype(z.dtype)))[1]

    member = jax.nn.one_hot(rows.labels, n_components, dtype=z.dtype) * weights[:, None]
    known = shards.total(lie, jnp.sum(member, axis=0)) > 0
    sums = shards.total(lie, _sums(member, z, rows.seen))
    means = _ratio(*sums, jnp.zeros((n_components, z.shape[1]), z.dtype))

    def step_or_stay(cost: Float[Array, " n"], given: tuple[Any, Array, Array]) -> tuple[Float[Array, " n"], Array]:
        drawn, stays, mean = given
        after, center = step(cost, drawn)
        return jnp.where(stays, cost, after), jnp.where(stays, mean, center)

    start = jnp.min(jnp.where(known[:, None], to(means), jnp.inf), axis=0)
    return jax.lax.scan(step_or_stay, start, ((shares, begins & ~jnp.any(known)), known, means))[1]


def _sums(
    member: Float[Array, "n k"], z: Float[Array, "n d"], seen: Bool[Array, "n d"] | None
) -> tuple[Float[Array, "k _"], Float[Array, "k d"]]:
    """Weight of the rows of each component, in each column if some are not seen, and their sums."""
    if seen is None:
        return jnp.sum(member, axis=0)[:, None], linalg.einsum("nk,nd->kd", member, z)
    counts = linalg.einsum("nk,nd->kd", member, seen.astype(z.dtype))
    return counts, linalg.einsum("nk,nd->kd", member, jnp.where(seen, z, 0))


def _ratio(
    counts: Float[Array, "k _"], totals: Float[Array, "k d"], otherwise: Float[Array, "k d"]
) -> Float[Array, "k d"]:
    return jnp.where(counts > 0, totals / jnp.where(counts > 0, counts, 1), otherwise)


def _lloyd(
    rows: Evidence,
    centers: Float[Array, "k d"],
    present: Bool[Array, " k"],
    moves: bool | Bool[Array, ""],
    limit: float | None,
) -> Float[Array, "k d"]:
    """The centers after Lloyd's algorithm, if it `moves` them; a row of a component that is known stays there.

    Rows at squared distances above the limit, if there is one, move none.
    """
    dtype = centers.dtype
    blocks = rows.in_blocks(block_size_for(rows.n_here, centers.size))

    def sums(centers: Float[Array, "k d"]) -> tuple[Float[Array, "k _"], Float[Array, "k d"]]:
        def block(given: tuple[Array, Array], rows: Evidence) -> tuple[Float[Array, "k _"], Float[Array, "k d"]]:
            centers, present = given
            nearest = _assign(centers, present, rows, limit)
            if rows.labels is not None and not rows.classes:
                nearest = jnp.where(rows.labels < 0, nearest, rows.labels)
            assigned = jax.nn.one_hot(nearest, present.size, dtype=dtype) * rows.weights[:, None]
            return _sums(assigned, rows.x, rows.seen)

        return sum_over_blocks(block, (centers, present), blocks, rows.shards)

    def step(state: _LloydState) -> _LloydState:
        centers, _, iteration = state
        moved = _ratio(*sums(centers), centers)
        return moved, jnp.sum((moved - centers) ** 2), iteration + 1

    def unfinished(state: _LloydState) -> Array:
        _, shift, iteration = state
        return moves & (shift > _LLOYD_TOLERANCE) & (iteration < _LLOYD_ITERATIONS)

    return jax.lax.while_loop(unfinished, step, (centers, jnp.asarray(jnp.inf, dtype), jnp.asarray(0)))[0]
