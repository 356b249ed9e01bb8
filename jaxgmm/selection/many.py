"""One mixture for each of many data sets."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxgmm.ground import checks, containers, digits, frames
from jaxgmm.ground.programs import program
from jaxgmm.ground.rows import Evidence
from jaxgmm.selection.calls import in_chunks
from jaxgmm.selection.restarts import METHODS, Plan, Restarts, best_of_restarts

# Data sets in one call of the compiled program. Side by side they fill an accelerator, and all wait for the slowest and
# for the host: as many as spread to so many numbers, of some gigabytes.
_CHUNK, _CHUNK_ELSEWHERE, _NUMBERS_ELSEWHERE = 64, 2**14, 2**28


def fit_many(
    key: jax.Array,
    xs: Any,
    n_components: Any,
    form: Any = "full",
    *,
    max_components: int | None = None,
    weights: Any = None,
    chunk_size: int | None = None,
    progress: bool = False,
    n_restarts: int = 1,
    n_finalists: int = 4,
    screening_tol: Any = 1e-3,
    methods: Sequence[str] = METHODS,
    spurious: Any = False,
    lanes: int | None = 1,
    tol: Any = 1e-6,
    max_iter: Any = 1000,
    regularization: Any = 1e-6,
    scale: Any = None,
    objective: Any = None,
    acceleration: str | None = "anderson",
    history_size: int = 128,
    block_size: int | None = None,
) -> Restarts:
    """`fit_restarts` of each of many data sets, as a stack.

    The data sets go through one compiled program in chunks: on a GPU side by side under `vmap`, on a CPU one after the
    other on every core. A data set that cannot be fitted carries its status, and leaves the others alone. For many fits
    inside `jit`, use `jax.vmap` or `jax.lax.map` of `fit_restarts` itself.

    Args:
        key: what is drawn is drawn with this key.
        xs: an array (b, n, d), or a sequence of b arrays (n_i, d) of different lengths. Those are filled up with rows
            of weight 0 to the next power of two, one compilation for each.
        n_components: number of components, for all data sets or for each (b,).
        max_components: as for `init`; default the largest `n_components`.
        form: as for `init`.
        weights: of the rows, (b, n) or a sequence of b arrays (n_i,). Default ones.
        chunk_size: data sets in one call. Default 64 on a CPU, elsewhere as many as take some gigabytes, up to 16,384;
            fewer where there are fewer.
        progress: show a progress bar (needs tqdm).
        scale: of each column (d,), the same for all data sets; by default each has its own.

    All others are as for `fit_restarts`.

    Returns:
        `Restarts` with a leading axis b on every field.

    Raises:
        TypeError, ValueError: as for `fit_restarts`, naming the data set.

    >>> import jax, jaxgmm
    >>> xs = jax.random.normal(jax.random.key(0), (100, 50, 2))
    >>> jaxgmm.fit_many(jax.random.key(1), xs, 2, "diag").best.mixture.means.shape
    (100, 2, 2)
    """
    key = checks.key(key)
    rows, shares, lengths = _checked(xs, weights)
    counts = np.broadcast_to(np.asarray(n_components), lengths.shape)
    most = int(counts.max()) if max_components is None else checks.count("max_components", max_components)
    for count in np.unique(counts).tolist():
        checks.present("n_components", count, "max_components", most)
    plan = Plan.of(
        rows.dtype,
        (most, rows.shape[1]),
        form,
        n_restarts=n_restarts,
        n_finalists=n_finalists,
        screening_tol=screening_tol,
        methods=methods,
        spurious=spurious,
        lanes=lanes,
        tol=tol,
        max_iter=max_iter,
        regularization=regularization,
        scale=scale,
        objective=objective,
        acceleration=acceleration,
        history_size=history_size,
        block_size=block_size,
    )
    # To the next power of two, so that any lengths make few shapes.
    varied = np.any(lengths != lengths[0])
    rooms = 1 << np.ceil(np.log2(lengths)).astype(int) if varied else lengths
    on_cpu = jax.default_backend() == "cpu"
    if chunk_size is not None:
        chunk_size = checks.count("chunk_size", chunk_size)
    first = np.cumsum(lengths) - lengths
    places, parts = [], []
    for room in np.unique(rooms).tolist():
        mine = np.flatnonzero(rooms == room)
        # Rows past the last are absent, whatever they hold.
        inside = np.arange(room) < lengths[mine, None]
        taken = np.minimum(first[mine, None] + np.arange(room), len(rows) - 1)
        given = mine, rows[taken], np.where(inside, shares[taken], 0), counts[mine]
        size = min(chunk_size or _chunk_for(room * most * rows.shape[1], on_cpu), 1 << (len(mine) - 1).bit_length())
        call = functools.partial(_fit_each, plan, key, max_components=most, one_by_one=on_cpu)
        parts.append(in_chunks(call, given, size, progress, f"fits of {room} rows"))
        places.append(mine)
    back = np.argsort(np.concatenate(places))
    return jax.tree.map(lambda *leaves: jax.device_put(np.concatenate(leaves)[back]), *parts)


def _chunk_for(numbers: int, on_cpu: bool) -> int:
    """Data sets in one call, each of which spreads to so many numbers."""
    return _CHUNK if on_cpu else max(1, min(_CHUNK_ELSEWHERE, _NUMBERS_ELSEWHERE // numbers))


def _work(plan: Plan, key: jax.Array, given: tuple[Any, ...], *, max_components: int, one_by_one: bool) -> float:
    """As many as all fits of the chunk; of a whole one, which is one of many, without end."""
    return math.inf if len(given[0]) >= _CHUNK else 30.0 * plan.n_restarts * max_components * given[1].size


@program(static=("max_components", "one_by_one"), work=_work)
def _fit_each(
    plan: Plan,
    key: jax.Array,
    given: tuple[Int[Array, " b"], Float[Array, "b n d"], Float[Array, "b n"], Int[Array, " b"]],
    *,
    max_components: int,
    one_by_one: bool,
) -> Restarts:
    def one(given: tuple[Array, ...]) -> Restarts:
        number, x, weights, count = given
        return best_of_restarts(
            plan, jax.random.fold_in(key, number), Evidence(x, weights), jnp.arange(max_components) < count
        )

    return jax.lax.map(one, given) if one_by_one else jax.vmap(one)(given)


def _checked(xs: Any, weights: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows of all data sets (N, d) in one dtype, their weights (N,), and how many rows are whose."""
    if isinstance(xs, Evidence) or (isinstance(xs, (list, tuple)) and any(isinstance(x, Evidence) for x in xs)):
        raise NotImplementedError(
            "xs holds what jaxgmm.rows made, and fit_many takes arrays, with weights beside them and no labels. "
            "Call fit_restarts for each data set."
        )
    if not hasattr(xs, "__len__") or len(xs) == 0:
        raise ValueError("xs holds no data sets; expected an array (b, n, d) or a sequence of arrays (n_i, d).")
    if weights is not None and len(weights) != len(xs):
        raise ValueError(f"weights has {len(weights)} entries for {len(xs)} data sets; expected one for each.")
    sets = _plain("xs", xs) if hasattr(xs, "ndim") else [_plain(f"xs[{place}]", x) for place, x in enumerate(xs)]
    _check_same_columns(() if hasattr(xs, "ndim") else xs)
    shares = [np.ones(np.shape(x)[:1]) for x in sets] if weights is None else [_plain("weights", w) for w in weights]
    if not _are_fine(sets, shares):
        checked = []
        for place, (x, share) in enumerate(zip(sets, shares, strict=True)):
            try:
                one = checks.evidence(x, share, n_columns=np.shape(sets[0])[-1] if place else None)
                checked.append((one.x, one.weights))
            except (TypeError, ValueError) as error:
                raise type(error)(f"data set {place}: {error}") from None
        sets, shares = ([np.asarray(array) for array in arrays] for arrays in zip(*checked, strict=True))
    rows, lengths = np.concatenate(sets), np.array([len(x) for x in sets])
    dtype = checks.float_of(rows.dtype)
    return rows.astype(dtype), np.concatenate(shares).astype(dtype), lengths


def _are_fine(sets: Sequence[np.ndarray] | np.ndarray, shares: Sequence[np.ndarray]) -> bool:
    """What `checks.evidence` looks for in each, seen at once; False is no verdict yet."""
    shapes = {x.shape[1:] for x in sets}
    if len(shapes) > 1 or any(x.ndim != 2 or min(x.shape) < 1 for x in sets):
        return False
    if any(share.shape != x.shape[:1] for x, share in zip(sets, shares, strict=True)):
        return False
    rows, weights = np.concatenate(sets), np.concatenate(shares)
    if not {rows.dtype.kind, weights.dtype.kind} <= set("biuf"):
        return False
    first = np.cumsum([len(x) for x in sets]) - [len(x) for x in sets]
    kind = checks.float_of(rows.dtype)
    dtype = np.finfo(kind)
    rows_fit = np.all(np.abs(rows) <= dtype.max)
    weights_fit = np.all((weights == 0) | ((weights >= dtype.tiny) & (weights <= dtype.max)))
    totals = np.add.reduceat(weights.astype(np.float64), first)
    if not (rows_fit and weights_fit and np.all((totals > 0) & (totals <= dtype.max))):
        return False
    if not digits.holds_more(rows.dtype, kind):
        return True
    seen = rows if (weights > 0).all() else np.where(weights[:, None] > 0, rows, np.nan)
    return digits.all_kept_in_sets(seen, first, kind)


def _plain(name: str, value: Any) -> np.ndarray:
    return np.asarray(value) if isinstance(value, jax.Array) else containers.plain(name, value)


def _check_same_columns(xs: Sequence[Any]) -> None:
    """Refuse frames whose columns have other names or another order than those of the first."""
    names = [frames.names_of(x) for x in xs]
    for place, found in enumerate(names):
        if found != names[0]:
            raise ValueError(
                f"data set {place} has the columns {list(found)} and data set 0 {list(names[0])}; expected the same in "
                "the same order. Write [schema.rows(x) for x in xs] in the place of xs, with schema = "
                "jaxgmm.Schema.of(xs[0])."
            )
