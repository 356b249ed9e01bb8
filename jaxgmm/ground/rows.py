"""What is known of rows, and sums and maps over them in memory that grows with a block of them, not with n."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.ground import shards as lying
from jaxgmm.ground.patterns import Patterns
from jaxgmm.ground.pytree import Leaf, record, static
from jaxgmm.ground.shards import Shards

T = TypeVar("T")

# So many times as long as a whole row takes one with gaps in a block of its pattern, and, for each column, one alone.
_WITH_GAPS, _ALONE = 4, 2

# Numbers one block may spread to inside a kernel, and its fewest and most rows. On a CPU a few megabytes, which stay in
# the cache: matrix products want at least some hundred rows at a time, and gain nothing from more than two thousand. An
# accelerator starts every operation of a block anew, which takes it as long as its work on some thousand rows.
_ON_CPU, _ELSEWHERE = (2**20, 2**8, 2**11), (2**24, 2**11, 2**17)


def block_size_for(n: int, numbers_per_row: int, fewest: int | None = None) -> int:
    """Rows in a block when each row spreads to `numbers_per_row` numbers: near a fixed budget, with little padding."""
    numbers, least, most = _ON_CPU if jax.default_backend() == "cpu" else _ELSEWHERE
    target = min(most, max(fewest or least, numbers // max(1, numbers_per_row)))
    if n <= 2 * target:
        return n
    # Whole vector registers and cache lines, whatever the dtype.
    line = min(64, target)
    sizes = range(target - target % line, target // 2, -line * max(1, target // 2**13))
    return min(sizes, key=lambda size: max(-n % size, n // 64))


@record
class Evidence:
    """What is known of n rows; what is known of none of them is None, and costs nothing.

    Fields: `x` (n, d), in the units of the data; `weights` (n,), 0 for a row that is absent; `labels` (n,), the
    component that a row is known to be of, or its class, -1 where that is not known; `seen` (n, d), which entries are
    known, the others hold any number; `noise`, variances (n, d) or covariances (n, d, d) of the errors of the entries,
    in squared units of the data; `log_evidence` (n, k), logarithms of how probable what else is known of a row is under
    each component. In blocks, each has one more axis in front, and `seen` is (blocks, 1, d) where all rows of a block
    have one pattern; `ready`, what a kernel has found out about each of these. `patterns`, such blocks of the rows. No
    leaves, but part of the record's type: `classes`, that of each component, None where each is its own; `shards`,
    which of several devices have which rows.
    """

    x: Leaf
    weights: Leaf
    labels: Leaf | None = None
    seen: Leaf | None = None
    noise: Leaf | None = None
    log_evidence: Leaf | None = None
    ready: Any = dataclasses.field(repr=False, default=None)
    patterns: Patterns | None = dataclasses.field(repr=False, default=None)
    classes: tuple[int, ...] | None = static(shown=False, default=None)
    shards: Shards | None = static(shown=False, default=None)

    @property
    def partial(self) -> bool:
        """Whether entries may be unseen or inexact, so that components are asked for densities of parts of rows."""
        return self.seen is not None or self.noise is not None

    @property
    def patterned(self) -> bool:
        """Whether they are in blocks of one pattern of gaps each."""
        return self.noise is None and self.seen is not None and self.x.ndim == 3 and self.seen.shape[1] == 1

    @property
    def n(self) -> int:
        """Number of rows, with what fills up the last of blocks."""
        return math.prod(self.x.shape[:-1])

    @property
    def numbers(self) -> float:
        """How many there are in whole rows that take as long to pass over as these."""
        each = 1 if not self.partial else _WITH_GAPS if self.patterns is not None else _ALONE * self.x.shape[-1]
        return float(each * self.x.size)

    @property
    def n_here(self) -> int:
        """How many of them each device has."""
        return self.n if self.shards is None else self.n // self.shards.number

    @property
    def counted(self) -> Float[Array, " n"]:
        """Weights of the rows that criteria count: something is seen of them, or their component is known."""
        if self.seen is None:
            return self.weights
        told = jnp.any(self.seen, axis=-1)
        told = told if self.labels is None else told | (self.labels >= 0)
        return jnp.where(told, self.weights, 0)

    @property
    def told(self) -> "Evidence":
        """The same, of which rows count alone of which something is known: the others have weight 0."""
        if self.seen is None or self.log_evidence is not None:
            return self
        return dataclasses.replace(self, weights=self.counted)

    def divided(self, unit: Float[Array, ""]) -> "Evidence":
        """The same, with all weights divided by it."""
        return dataclasses.replace(self, weights=self.weights / unit)

    def on_devices(self) -> contextlib.AbstractContextManager[Any]:
        """Where programs are called that loop over passes."""
        return contextlib.nullcontext() if self.shards is None else self.shards.entered()

    def in_blocks(self, block_size: int) -> "Evidence":
        """The same, so many rows at a time; what fills up the last block has weight 0.

        Rows of weight 0 are absent: a row that is present stands in for whatever they hold, NaN included. Not so for
        derivatives in the weights, which say what an absent row would do if it were there. They are NaN where a row is
        not finite, or so far out that its square is not.
        """
        if self.shards is None:
            return _blocks(self, block_size)
        return self.shards.apply(lambda _, rows: ((), _blocks(rows, block_size)), (), self)[1]

    def without_patterns(self) -> "Evidence":
        """The same rows, to be taken as they come: for where some of them are picked, or columns."""
        return dataclasses.replace(self, patterns=None)

    def drawn(self, places: Int[Array, " draws"]) -> "Evidence":
        """The rows at these places, on every device the same."""
        shards = self.shards

        def of_device(places: Array, rows: Evidence) -> tuple[Evidence, tuple[()]]:
            if shards is not None:
                places = places - shards.here() * self.n_here
                places = jnp.where((places >= 0) & (places < self.n_here), places, -1)
            return jax.tree.map(lambda leaf: lying.taken(shards, leaf, places), rows), ()

        rows = lying.on_each(shards, of_device, places, self.without_patterns())[0]
        return dataclasses.replace(rows, shards=None)

    def of_columns(self, columns: Any) -> "Evidence":
        """What is known of these columns alone."""
        seen = None if self.seen is None else self.seen[:, columns]
        noise = self.noise
        if noise is not None:
            noise = noise[:, columns] if noise.ndim == 2 else noise[:, columns][:, :, columns]
        return dataclasses.replace(self, x=self.x[:, columns], seen=seen, noise=noise, patterns=None)

    @property
    def first_row(self) -> Float[Array, " d"]:
        """Of rows in blocks."""
        if self.shards is None:
            return self.x[0, 0]
        shards = self.shards
        return shards.apply(lambda _, x: (shards.first(jnp.asarray(True), x[0, 0]), ()), (), self.x)[0]

    def possible(self, n_components: int) -> Bool[Array, "k n"] | None:
        """Which components each row may be of; None where all may be of any."""
        if self.labels is None:
            return None
        own = jnp.arange(n_components) if self.classes is None else jnp.asarray(self.classes, jnp.int32)
        return (self.labels < 0) | (self.labels == own[:, None])


def _blocks(rows: Evidence, block_size: int) -> Evidence:
    """The rows of one device in blocks."""
    x, weights = _with_stand_ins(rows.shards, rows.x, rows.weights)
    noise, log_evidence = _noise_where_absent(rows.noise, weights), rows.log_evidence
    if log_evidence is not None:
        log_evidence = jnp.where((weights > 0)[:, None] | (log_evidence < jnp.inf), log_evidence, 0)
    rows = dataclasses.replace(rows, x=x, weights=weights, noise=noise, log_evidence=log_evidence)
    if rows.patterns is None:
        others = dataclasses.replace(rows, weights=None)  # type: ignore[arg-type]
        blocks = jax.tree.map(lambda array: into_blocks(array, block_size, "edge"), others)
        return dataclasses.replace(blocks, weights=into_blocks(weights, block_size, "constant"))
    patterns = rows.patterns
    blocks = jax.tree.map(patterns.taken, rows.without_patterns())
    there = patterns.places < rows.n
    return dataclasses.replace(blocks, weights=jnp.where(there, blocks.weights, 0), seen=blocks.seen[:, :1])


def _noise_where_absent(noise: Array | None, weights: Float[Array, " n"]) -> Array | None:
    """0 for what is none in rows that are absent; what is some says what they would do if they were there."""
    if noise is None:
        return None
    variances = noise if noise.ndim == 2 else jnp.diagonal(noise, axis1=1, axis2=2)
    sound = jnp.all((variances >= 0) & (variances < jnp.inf), axis=1)
    if noise.ndim == 3:
        sound = sound & jnp.all(jnp.isfinite(noise), axis=(1, 2))
    return jnp.where(jnp.reshape((weights > 0) | sound, (-1, *(1 for _ in noise.shape[1:]))), noise, 0)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _with_stand_ins(shards: Shards | None, x: Float[Array, "n d"], weights: Float[Array, " n"]) -> tuple[Array, Array]:
    present = weights[:, None] > 0
    stand_in = x[jnp.argmax(weights > 0)]
    if shards is not None:
        stand_in = shards.first(jnp.any(present), stand_in)
    return jnp.where(present, x, stand_in), weights


def _with_stand_ins_jvp(
    shards: Shards | None, primals: tuple[Array, Array], tangents: tuple[Any, Any]
) -> tuple[Any, Any]:
    (given, dx), dweights = (primals[0], tangents[0]), tangents[1]
    x, weights = _with_stand_ins(shards, *primals)
    # Squares are summed over columns and doubled on the way.
    bound = math.sqrt(float(jnp.finfo(x.dtype).max) / 2**16)
    seen = (primals[1] > 0) | jnp.all(jnp.abs(given) < bound, axis=1)
    if not _stays(dx):
        dx = jnp.where(seen[:, None], dx, 0)
    if not _stays(dweights):
        x, dweights = jnp.where(seen[:, None], given, x), unknown(~seen, dweights)
    return (x, weights), (dx, dweights)


_with_stand_ins.defjvp(_with_stand_ins_jvp, symbolic_zeros=True)


def unknown(where: Bool[Array, " n"], tangent: Float[Array, " n"]) -> Float[Array, " n"]:
    """The tangent, but NaN `where` what it is multiplied by is not known; 0 stays 0.

    NaN times 0 would be NaN: that nothing is known of one entry must not take away what is known of the others.
    """

    def forward(_: Any, tangent: Array) -> Array:
        return jnp.where(where & (tangent != 0), jnp.nan, tangent)

    def reverse(_: Any, cotangent: Array) -> Array:
        return jnp.where(where, jnp.nan, cotangent)

    # The one linear function of JAX that says for itself what it is forward and in reverse.
    return jax.lax.custom_linear_solve(lambda tangent: tangent, tangent, solve=forward, transpose_solve=reverse)


def into_blocks(array: Array, block_size: int, padding: str) -> Array:
    """(n, ...) as (blocks, block_size, ...), the last block filled up as `jnp.pad` does in mode `padding`."""
    n = array.shape[0]
    blocks = math.ceil(n / block_size)
    if short := blocks * block_size - n:
        array = jnp.pad(array, [(0, short)] + [(0, 0)] * (array.ndim - 1), mode=padding)
    return array.reshape((blocks, block_size, *array.shape[1:]))


def sum_over_blocks(function: Callable[[Any, Any], T], parameters: Any, blocks: Any, shards: Shards | None = None) -> T:
    """Sum of `function(parameters, block)` over the leading axis of the arrays in `blocks`, a tree of floats.

    The sum is compensated (Kahan, 1965), so its error does not grow with the number of blocks, and its derivative
    recomputes each block instead of storing it. Where the blocks lie in `shards`, each device sums its own, and
    `function` may close over nothing that is traced.
    """
    if shards is None and _is_single(blocks):
        return function(parameters, jax.tree.map(lambda array: array[0], blocks))

    def kept(parameters: Any, block: Any) -> tuple[T, None]:
        return jax.checkpoint(functools.partial(function, parameters))(block), None

    return _scan(kept, parameters, blocks, shards)[0]


def total_over_blocks(
    function: Callable[[Any, Any], Float[Array, ""]], parameters: Any, blocks: Any, shards: Shards | None = None
) -> Float[Array, ""]:
    """`sum_over_blocks` of a single number, whose gradient comes from the same pass.

    The gradient adds up over blocks like the number itself. Taken along, value and gradient cost one pass, as the
    gradient of `sum_over_blocks` alone costs three. `function` may close over nothing that is traced.
    """
    if shards is None and _is_single(blocks):
        return function(parameters, jax.tree.map(lambda array: array[0], blocks))
    return _total(function, shards, parameters, blocks)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _total(
    function: Callable[[Any, Any], Array], shards: Shards | None, parameters: Any, blocks: Any
) -> Float[Array, ""]:
    return _scan(lambda parameters, block: (function(parameters, block), None), parameters, blocks, shards)[0]


def _total_and_tangent(
    function: Callable[[Any, Any], Array],
    shards: Shards | None,
    primals: tuple[Any, Any],
    tangents: tuple[Any, Any],
) -> tuple[Array, Array]:
    parameters, structure = jax.tree.flatten(primals[0])
    moves, ways = (jax.tree.leaves(tangent, is_leaf=_stays) for tangent in tangents)
    moving = [place for place, move in enumerate(moves) if not _stays(move)]
    rows = [place for place, way in enumerate(ways) if not _stays(way)]

    def of(parameters: list[Array], block: Any) -> tuple[Any, Any]:
        leaves, of_block = jax.tree.flatten(block)

        def value(some: list[Array], others: list[Array]) -> Array:
            given = _replaced(parameters, moving, some), _replaced(leaves, rows, others)
            return function(jax.tree.unflatten(structure, given[0]), jax.tree.unflatten(of_block, given[1]))

        start = [parameters[place] for place in moving], [leaves[place] for place in rows]
        number, (gradient, by_row) = jax.value_and_grad(value, argnums=(0, 1))(*start)
        return (number, gradient), by_row

    (total, gradient), by_row = _scan(of, parameters, primals[1], shards)
    slopes = [*zip(gradient, (moves[place] for place in moving), strict=True)]
    slopes += zip(by_row, (ways[place] for place in rows), strict=True)
    return total, sum((jnp.sum(slope * way) for slope, way in slopes), jnp.zeros_like(total))


_total.defjvp(_total_and_tangent, symbolic_zeros=True)


def _stays(tangent: Any) -> bool:
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)


def _replaced(leaves: list[Array], places: list[int], new: list[Array]) -> list[Array]:
    found = dict(zip(places, new, strict=True))
    return [found.get(place, leaf) for place, leaf in enumerate(leaves)]


def _is_single(blocks: Any) -> bool:
    return jax.tree.leaves(blocks)[0].shape[0] == 1


def _scan(
    function: Callable[[Any, Any], tuple[T, Any]], parameters: Any, blocks: Any, shards: Shards | None
) -> tuple[T, Any]:
    """Compensated sum over blocks of the first that `function` returns, and a stack of the second."""
    if shards is None:
        return _scan_here(function, parameters, blocks)

    def of_device(parameters: Any, blocks: Any) -> tuple[T, Any]:
        total, kept = _scan_here(function, parameters, blocks)
        return shards.total(total), kept

    return shards.apply(of_device, parameters, blocks)


def _scan_here(function: Callable[[Any, Any], tuple[T, Any]], parameters: Any, blocks: Any) -> tuple[T, Any]:
    def step(carry: tuple[T, T], block: Any) -> tuple[tuple[T, T], Any]:
        value, kept = function(parameters, block)
        return plus(*carry, value), kept

    first = jax.tree.map(lambda array: array[0], blocks)
    shape = jax.eval_shape(lambda block: function(parameters, block)[0], first)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shape)
    (total, _), kept = jax.lax.scan(step, (zeros, zeros), blocks)
    return total, kept


def plus(total: T, lost: T, value: T) -> tuple[T, T]:
    """One more number in a compensated sum: the total, and what it lost to rounding, which start as zeros."""
    value = jax.tree.map(jnp.subtract, value, lost)
    grown = jax.tree.map(jnp.add, total, value)
    lost = jax.tree.map(lambda g, t, v: jnp.where(jnp.isfinite(g), (g - t) - v, 0), grown, total, value)
    return grown, lost


def map_rows(
    function: Callable[[Any, Any], T], parameters: Any, rows: Any, block_size: int, shards: Shards | None = None
) -> T:
    """`function(parameters, block)` of blocks of arrays (b, ...) -> tree of (b, ...), put together again to (n, ...).

    Where the rows lie in `shards`, each device takes its own, and `function` may close over nothing that is traced.
    """

    def of_device(parameters: Any, rows: Any) -> T:
        n = jax.tree.leaves(rows)[0].shape[0]
        if n <= block_size:
            return function(parameters, rows)
        blocks = jax.tree.map(lambda array: into_blocks(array, block_size, "edge"), rows)
        out = jax.lax.map(jax.checkpoint(functools.partial(function, parameters)), blocks)
        return jax.tree.map(lambda array: array.reshape((-1, *array.shape[2:]))[:n], out)

    if shards is None:
        return of_device(parameters, rows)
    return shards.apply(lambda parameters, rows: ((), of_device(parameters, rows)), parameters, rows)[1]
