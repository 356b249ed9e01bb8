"""Where a mixture starts: a seeding gives responsibilities, an M-step makes the mixture."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.families.family import Form, Kernel
from jaxgmm.families.table import form_of
from jaxgmm.ground import checks, known, linalg, shards
from jaxgmm.ground.programs import program
from jaxgmm.ground.rows import Evidence, block_size_for, into_blocks, sum_over_blocks
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.objective import LIKELIHOOD, Objective
from jaxgmm.model.passes import few_rows, with_kernel
from jaxgmm.model.scale import floor_of, spread_of
from jaxgmm.model.seeding import SEEDINGS, Columns, influence, summed
from jaxgmm.model.statistics import Statistics
from jaxgmm.model.steps import finish, maximize

# Share of the whole data, relative to its own, that a component seeded on too few rows is started with.
_BACKGROUND = 0.1
# Share of the rows that noise is started with.
NOISE = 0.05
# Scales from the center of the data, beyond which rows say no more of how far noise is spread.
_OUTERMOST = 20.0
# Rows times columns times components, up to which seeding takes its statistics by the components' own kernel.
_OWN_KERNEL = 2**20

_Seeded = tuple[Mixture, Float[Array, " k"], Bool[Array, " k"]]


def init(
    key: jax.Array,
    x: Any,
    n_components: Any,
    form: Any = "full",
    *,
    max_components: int | None = None,
    method: str = "k-means++",
    weights: Any = None,
    regularization: Any = 1e-6,
    scale: Any = None,
) -> Mixture:
    """A mixture to start a fit from: rows are shared out among components, then one M-step.

    Seeding standardises the columns, so the units of the data do not matter, unless its name says otherwise: whitened
    coordinates are free of any linear map of the data, unscaled ones are in the units of the data. A component that
    received too few rows for its parameters starts with a tenth of its weight spread over the whole data.

    Args:
        key: what is drawn is drawn with this key.
        x: rows (n, d), in any units. Under `jit`, rows that hold NaN or inf take no part; `fit` reports them.
        n_components: number of components, k >= 1. Static, unless `max_components` is given.
        form: what the components are: the name of a covariance structure of Gaussians, "full", "tied", "diag",
            "tied-diag", "spherical" or "tied-spherical", one that shares volume, shape or axes, such as "VEE", or of
            low rank, such as "lowrank-2"; or what a family's `form` gives, such as `StudentT.form("full", nu=4)`, or
            `with_noise` of any of these. Static.
        max_components: number of components the arrays have room for. Given this, `n_components` is traced: one program
            serves every number up to it, and `vmap` takes several at once. The components past the first
            `n_components` are absent: their log-weight is -inf, and they stay absent in `fit`. Static.
        method: "k-means++", "kmeans", "kmeans_whitened", "kmeans_unscaled", "random_from_data", "hierarchical" or
            "random". "hierarchical" merges up to 256 rows, drawn by their weights, by Ward's criterion on whitened
            coordinates; where there are no more rows, every key gives the same start. Static.
        weights: weight of each row (n,), not negative; 0 means the row is absent. Default ones.
        regularization: floor under the covariances, as in `m_step`.
        scale: of each column (d,), as in `fit`.

    Raises:
        TypeError, ValueError: arguments of the wrong kind, shape or sign, unknown names, or, outside `jit`, NaN or inf.

    >>> import jax, jaxgmm
    >>> x = jax.random.normal(jax.random.key(0), (100, 2))
    >>> jaxgmm.init(jax.random.key(1), x, 3, "diag").means.shape
    (3, 2)
    """
    rows, made_of = known.evidence(x, weights), form_of(form)
    made_of.check(rows)
    with rows.on_devices():
        present = checks.present("n_components", n_components, "max_components", max_components)
        return _init(
            checks.key(key),
            known.of_components(rows, made_of.with_background(present)),
            checks.scalar("regularization", regularization, rows.x.dtype),
            present,
            checks.scale(scale, rows.x.shape[1], rows.x.dtype),
            form=made_of,
            method=checks.one_of("method", method, SEEDINGS),
        )


def from_responsibilities(
    x: Any,
    responsibilities: Any,
    form: Any = "full",
    *,
    weights: Any = None,
    regularization: Any = 1e-6,
    scale: Any = None,
) -> Mixture:
    """The mixture that one M-step makes of given responsibilities, for instance a clustering that is already known.

    Args:
        x: rows (n, d).
        responsibilities: (n, k), not negative; how much of each row belongs to each component, to one of noise in the
            last column. For labels, use `jax.nn.one_hot(labels, k)`.
        form, weights, regularization, scale: as for `init`, which treats small components alike.

    Raises:
        TypeError, ValueError: as for `init`, and responsibilities that do not fit `x`.

    >>> import jax, jaxgmm
    >>> x = jax.random.normal(jax.random.key(0), (100, 2))
    >>> labels = x[:, 0] > 0
    >>> jaxgmm.from_responsibilities(x, jax.nn.one_hot(labels.astype(int), 2)).means.shape
    (2, 2)
    """
    rows, made_of = known.evidence(x, weights), form_of(form)
    made_of.check(rows)
    if rows.labels is not None:
        raise ValueError("x has labels, and responsibilities say the same of every row; expected one of them.")
    given = known.shares_of(rows, responsibilities)
    regularization = checks.scalar("regularization", regularization, rows.x.dtype)
    scale = checks.scale(scale, rows.x.shape[1], rows.x.dtype)
    with rows.on_devices():
        return _from_responsibilities(rows, given, regularization, scale, form=made_of)


@program(
    static=("form", "method"),
    work=lambda key, rows, regularization, present, scale, **kind: 5 * present.size * rows.numbers,
)
def _init(
    key: jax.Array,
    rows: Evidence,
    regularization: Float[Array, ""],
    present: Bool[Array, " k"],
    scale: Float[Array, " d"] | None,
    *,
    form: Form,
    method: str,
) -> Mixture:
    rows, columns = standard(rows, scale)
    floor = floor_of(columns.scale, regularization)
    # Which rows go where is decided, not differentiated.
    seeded = seedable(*jax.lax.stop_gradient((columns, rows.x)), form, present.size)
    labels = SEEDINGS[method](key, seeded, present)
    return from_labels(rows, columns, labels, present, floor, form=form)


def seedable(columns: Columns, x: Float[Array, "n d"], form: Form, n_components: int) -> Columns:
    """The columns as seedings of so many clusters take them: rows of known noise are of none of these."""
    columns = viewed(columns, x, form)
    if not form.n_background:
        return columns
    columns = dataclasses.replace(columns, before_noise=True)
    if columns.labels is None:
        return columns
    classes = None if columns.classes is None else columns.classes[:n_components]
    noise = _is_noise(columns.labels, columns.classes, n_components)
    labels, weights = jnp.where(noise, -1, columns.labels), jnp.where(noise, 0, columns.weights)
    return dataclasses.replace(columns, labels=labels, weights=weights, classes=classes)


def viewed(columns: Columns, x: Float[Array, "n d"], form: Form) -> Columns:
    """The columns in coordinates that suit the components, each of which counts for as much as a column of its own."""
    view = form.view(x)
    if view is None:
        return columns
    weights, tiny = columns.weights, jnp.finfo(columns.z.dtype).tiny
    parts, known = [], []
    for places, coordinates in view:
        seen = None if columns.seen is None else columns.seen[:, places]

        def mean(values: Float[Array, "n c"], seen: Any = seen) -> Float[Array, " c"]:
            """Of each column, over the rows in which it is seen."""
            if seen is None:
                return summed("n,nd->d", columns.shards, weights, values) / jnp.maximum(jnp.sum(weights), tiny)
            shares = jnp.where(seen, weights[:, None], 0)
            total = summed("n,nd->d", columns.shards, weights, seen.astype(weights.dtype))
            return summed("nd,nd->d", columns.shards, shares, values) / jnp.maximum(total, tiny)

        if seen is not None:
            coordinates = jnp.where(seen[:, :, None], coordinates, 0)
        centers = [mean(coordinates[:, :, place]) for place in range(coordinates.shape[2])]
        away = coordinates - jnp.stack(centers, axis=-1)
        away = away if seen is None else jnp.where(seen[:, :, None], away, 0)
        spread = mean(jnp.sum(away**2, axis=2))
        away = away / jnp.sqrt(jnp.where(spread > 0, spread, 1))[:, None]
        parts.append(jnp.reshape(away, (away.shape[0], -1)))
        if seen is not None:
            known.append(jnp.repeat(seen, coordinates.shape[2], axis=1))
    z = jnp.concatenate(parts, axis=1)
    even = jnp.ones(z.shape[1], z.dtype)
    every = jnp.concatenate(known, axis=1) if known else None
    return dataclasses.replace(columns, z=z, center=jnp.zeros_like(even), scale=even, seen=every)


def _is_noise(labels: Int[Array, " n"], classes: tuple[int, ...] | None, n_components: int) -> Bool[Array, " n"]:
    return labels == (n_components if classes is None else classes[n_components])


@program(static=("form",))
def _from_responsibilities(
    rows: Evidence,
    responsibilities: Float[Array, "n k"],
    regularization: Float[Array, ""],
    scale: Float[Array, " d"] | None,
    *,
    form: Form,
) -> Mixture:
    rows, columns = standard(rows, scale)
    floor = floor_of(columns.scale, regularization)
    return from_shares(rows, columns, responsibilities, floor, form=form)


def standard(rows: Evidence, scale: Float[Array, " d"] | None = None) -> tuple[Evidence, Columns]:
    """Rows without gaps, and as seedings take them; a row that holds NaN or inf has weight 0.

    On their own scale unless another one is given.
    """
    x = rows.x
    weights = jnp.where(jnp.all(jnp.isfinite(x), axis=1), rows.weights, 0)
    largest = jnp.max(weights)
    weights = weights / jnp.where(largest > 0, largest, 1)
    stand_in = jnp.where(largest > 0, _of_first(rows, x, weights), 0)
    x = jnp.where(weights[:, None] > 0, x, stand_in)
    rows = dataclasses.replace(rows, x=x, weights=weights)
    alone = Evidence(x, weights, seen=rows.seen, shards=rows.shards)
    spread = spread_of(alone.in_blocks(block_size_for(rows.n_here, x.shape[1])))
    scale = spread.scale if scale is None else scale
    away = x - spread.center if rows.seen is None else jnp.where(rows.seen, x - spread.center, 0)
    shares = weights * influence(away / scale)
    tiny = jnp.finfo(x.dtype).tiny
    if rows.seen is None:
        total = jnp.maximum(jnp.sum(shares), tiny)
    else:
        total = jnp.maximum(summed("n,nd->d", rows.shards, shares, rows.seen.astype(x.dtype)), tiny)
    center = spread.center + summed("n,nd->d", rows.shards, shares, away) / total
    z = (x - center) / scale
    if rows.seen is not None:
        z = jnp.where(rows.seen, z, 0)
    if rows.noise is not None:
        weights = weights / _excess(rows.noise, scale)
    if rows.seen is not None:
        weights = jnp.where(jnp.any(rows.seen, axis=1), weights, 0)
    return rows, Columns(z, weights, center, scale, rows.labels, rows.seen, rows.classes, rows.shards)


def _of_first(rows: Evidence, x: Float[Array, "n d"], weights: Float[Array, " n"]) -> Float[Array, " d"]:
    """The first row of weight."""

    def of_device(_: Any, given: tuple[Array, Array]) -> tuple[Array, tuple[()]]:
        return shards.first_of(rows.shards, given[0], given[1] > 0), ()

    return shards.on_each(rows.shards, of_device, (), (x, weights))[0]


def _excess(noise: Float[Array, "n ..."], scale: Float[Array, " d"]) -> Float[Array, " n"]:
    """By how much errors spread rows more than the data do, at least 1: seedings look at those that tell most."""
    variances = noise if noise.ndim == 2 else jnp.diagonal(noise, axis1=1, axis2=2)
    return (1 + jnp.max(variances / scale / scale, axis=1)) ** 2


def from_shares(
    rows: Evidence,
    columns: Columns,
    shares: Float[Array, "n k"],
    floor: Float[Array, " d"],
    objective: Objective = LIKELIHOOD,
    *,
    form: Form,
) -> Mixture:
    """The mixture in which the components, all of them present, have these shares in the rows, noise the last."""
    present = jnp.ones(shares.shape[1:], bool)
    return _from_rule(rows, columns, shares, lambda given: given, present, floor, form, objective)


def from_labels(
    rows: Evidence,
    columns: Columns,
    labels: Int[Array, " n"],
    present: Bool[Array, " k"],
    floor: Float[Array, " d"],
    objective: Objective = LIKELIHOOD,
    *,
    form: Form,
) -> Mixture:
    """The mixture in which row i belongs to the component `labels[i]`, of those that are present.

    Of a form with noise, this has a share in every row, and all of rows of none of these, which have the next label.
    """
    size = present.size
    if form.n_background and columns.labels is not None:
        labels = jnp.where(_is_noise(columns.labels, columns.classes, size), size, labels)

    def rule(labels: Int[Array, " b"]) -> Float[Array, "b _"]:
        shares = jax.nn.one_hot(labels, size, dtype=rows.x.dtype)
        if form.blur:
            shares = (1 - form.blur) * shares + form.blur * present / jnp.sum(present)
        if not form.n_background:
            return shares
        return before_noise(shares, labels == size)

    return _from_rule(rows, columns, labels, rule, form.with_background(present), floor, form, objective)


def extent_of(columns: Columns) -> Float[Array, " d"]:
    """How wide a box rows far out tell (d,), in the units of the data.

    By the ratio of fourth to second moments, in which these count most, and which is W^2 / (20 / 3) of rows that are
    spread evenly over a width W. The one row that is farthest out in a column is left out of both, so that no single
    one decides, and none counts for further out than so many scales.
    """
    squares = jnp.clip(columns.z, -_OUTERMOST, _OUTERMOST) ** 2
    farthest = jnp.max(columns.weights[:, None] * squares**2, axis=0)
    second = summed("n,nd->d", columns.shards, columns.weights, squares) - jnp.sqrt(farthest)
    fourth = summed("n,nd->d", columns.shards, columns.weights, squares**2) - farthest
    tiny = jnp.finfo(second.dtype).tiny
    return jnp.sqrt(20 / 3 * jnp.maximum(fourth, tiny) / jnp.maximum(second, tiny)) * columns.scale


def before_noise(shares: Float[Array, "n k"], noise: Bool[Array, " n"] | None = None) -> Float[Array, "n _"]:
    """Shares of clusters and, in the last column, of noise, which starts with some of every row, and all of its own."""
    own = jnp.full(shares.shape[:1], NOISE, shares.dtype)
    own = (own if noise is None else jnp.where(noise, 1, own))[:, None]
    return jnp.concatenate([(1 - own) * shares, own], axis=1)


def _from_rule(
    rows: Evidence,
    columns: Columns,
    given: Array,
    rule: Callable[[Array], Array],
    present: Bool[Array, " k"],
    floor: Float[Array, " d"],
    form: Form,
    objective: Objective = LIKELIHOOD,
) -> Mixture:
    """The mixture in which `rule`, of blocks of what is `given` (n, ...), gives the responsibilities (b, k)."""
    shape, dtype = rows.x.shape, rows.x.dtype
    even = present / jnp.sum(present).astype(dtype)
    extent = extent_of(columns) if form.n_background else None
    blank = form.blank(present.size - form.n_background, columns.center, columns.scale, extent)
    size = block_size_for(rows.n_here, present.size * shape[1])
    if rows.patterns is None:
        blocks = rows.in_blocks(size), _given_in_blocks(rows, given, size)
    else:
        blocks = rows.in_blocks(size), rows.patterns.taken(given)

    def again(state: _Seeded, pass_number: Int[Array, ""]) -> _Seeded:
        mixture, share, degenerate = state
        background = jnp.where(degenerate & (pass_number == 2), _BACKGROUND * jnp.maximum(share, even), 0)

        def take(kernel: Kernel, blocked: Evidence) -> Statistics:
            def block(parameters: tuple[Kernel, Array], block: tuple[Evidence, Array]) -> Statistics:
                (kernel, background), (rows, given) = parameters, block
                weight = rows.weights[:, None]
                shares = jnp.where(weight > 0, (rule(given) + background) * weight, 0)
                sums = kernel.statistics(kernel.read(rows), shares)
                return Statistics(jnp.sum(shares, axis=0), sums, jnp.zeros((), dtype), jnp.sum(rows.weights))

            return finish(kernel, sum_over_blocks(block, (kernel, background), (blocked, blocks[1]), blocked.shards))

        # Up to three passes over so few numbers are taken sooner than another kernel is compiled.
        own = present.size * rows.x.size <= _OWN_KERNEL
        statistics = with_kernel(mixture.components, mixture.n_components, blocks[0], take, own=own)
        mixture, degenerate = maximize(mixture, statistics, floor, objective)
        return mixture, statistics.counts / jnp.where(statistics.n > 0, statistics.n, 1), degenerate & present

    def step(state: _Seeded, pass_number: Int[Array, ""]) -> tuple[_Seeded, None]:
        mixture, _, degenerate = state
        needed = (pass_number == 0) | jnp.any(degenerate)
        # Where a pass costs less than finding out, it is taken.
        known_in_part = rows.partial or few_rows(present.size, shape)
        tight = True if known_in_part else mixture.components.needs_centring()
        needed = needed | ((pass_number == 1) & tight)
        return jax.lax.cond(linalg.any_lane(needed), lambda: again(state, pass_number), lambda: state), None

    start = Mixture(jnp.log(even), blank), even, jnp.zeros(present.shape, bool)
    # The first pass finds the means; a second takes moments about them where these need it, as tight components in
    # float32 do; a third lends a background to what came out degenerate.
    (mixture, _, _), _ = jax.lax.scan(step, start, jnp.arange(3))
    return mixture


def _given_in_blocks(rows: Evidence, given: Array, size: int) -> Array:
    """What is given (n, ...) for each of the rows, in blocks as these are."""

    def of_device(_: Any, given: Array) -> tuple[tuple[()], Array]:
        return (), into_blocks(given, size, "edge")

    return shards.on_each(rows.shards, of_device, (), given)[1]
