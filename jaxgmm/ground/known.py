"""What is known of rows, checked where it enters: values and gaps, weights, labels, noise, and how all that lies."""

import dataclasses
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxgmm.ground import checks, containers, hosts, programs
from jaxgmm.ground.digits import Extent
from jaxgmm.ground.patterns import Patterns
from jaxgmm.ground.rows import Evidence
from jaxgmm.ground.shards import Shards

_NO_WEIGHT = "weights are all zero; at least one row must have a positive weight."


def evidence(
    x: Any,
    weights: Any = None,
    labels: Any = None,
    *,
    label_of_component: Any = None,
    missing: Any = "error",
    noise: Any = None,
    log_evidence: Any = None,
    n_columns: int | None = None,
    extent: Callable[[bool], Extent | None] | None = None,
    weighted: bool = True,
    arranged: bool = True,
    all_of_them: bool = True,
) -> Evidence:
    """Finite rows with their weights, which take the dtype of the rows, and all else that is known of them.

    Where no weights are given they are ones, or None unless rows are to be `weighted`. Rows of weight 0 are absent:
    what they hold is not looked at. The digits of a column are compared with its own spread, or with an `extent`. `x`
    may be such a record already, with nothing beside it. Rows with gaps are `arranged` in blocks of one pattern where
    that can be seen. Where these are not `all_of_them`, none need have weight.
    """
    if isinstance(x, Evidence):
        others = {"weights": weights, "labels": labels, "noise": noise, "log_evidence": log_evidence}
        others |= {"label_of_component": label_of_component}
        beside = [name for name, given in others.items() if given is not None]
        if not isinstance(missing, str) or missing != "error":
            beside.append("missing")
        if beside:
            verb = "stand" if beside[0] in ("weights", "labels") else "stands"
            raise TypeError(f"{beside[0]} {verb} beside x, which are rows made by jaxgmm.rows: give {beside[0]} there.")
        return _again(x, n_columns, extent, weighted, arranged)
    table = checks.table("x", x, n_columns)
    if hosts.is_spread(table.array):
        given = {"weights": weights, "labels": labels, "missing": missing, "noise": noise, "log_evidence": log_evidence}
        return _in_parts(checks.data(x), given, label_of_component, extent, weighted)
    n = table.array.shape[0]
    labels = None if labels is None else row_labels(labels, n)
    dtype = checks.float_of(table.array.dtype)
    weights = None if weights is None else row_weights(weights, n, dtype, some=all_of_them)
    present = _present(weights)
    seen = _seen(table.array, missing)
    if noise is not None:
        noise, seen = _noise(noise, seen, table.array.shape, present, dtype)
    if seen is not None:
        table = table._replace(array=filled(table.array, seen, present))
    if log_evidence is not None:
        log_evidence = _log_evidence(log_evidence, n, present, dtype)
    x = table.narrowed(present, extent).finite(present)
    if weights is None and weighted:
        weights = ones(n, x.dtype)
    seen = None if seen is None else jnp.asarray(seen)
    classes = None if label_of_component is None else _classes(label_of_component, labels)
    rows = Evidence(x, weights, labels, seen, noise, log_evidence, classes=classes)
    return in_patterns(_sharded(rows, None)) if arranged else _sharded(rows, None)


def _in_parts(
    x: jax.Array,
    given: dict[str, Any],
    label_of_component: Any,
    extent: Callable[[bool], Extent | None] | None,
    weighted: bool,
) -> Evidence:
    """Rows on devices of several processes, of which each looks at its own."""
    shards = _shards_of(x)
    if shards is None:
        raise NotImplementedError(
            f"x lies on devices of several processes by {x.sharding}, and jaxgmm takes whole rows on each device; "
            "expected axis 0 sharded over axes of a mesh, as jax.sharding.PartitionSpec('rows') says."
        )

    def look() -> Evidence:
        by_row: dict[str, Any] = {
            name: value if value is None or isinstance(value, str) else hosts.own(name, value, x)
            for name, value in given.items()
        }
        return evidence(
            hosts.own("x", x, x),
            **by_row,
            label_of_component=label_of_component,
            extent=extent,
            weighted=weighted,
            arranged=False,
            all_of_them=False,
        )

    part = hosts.agreed(x, look)
    _check_some(x, part)
    rows = jax.tree.map(lambda leaf: hosts.whole(leaf, x), part)
    if part.seen is None:
        rows = dataclasses.replace(rows, x=x)
    return dataclasses.replace(rows, shards=shards)


def _again(
    rows: Evidence,
    n_columns: int | None,
    extent: Callable[[bool], Extent | None] | None,
    weighted: bool,
    arranged: bool,
    all_of_them: bool = True,
) -> Evidence:
    """A record, which others may have put together, with what can be wrong with its values and weights looked at."""
    table = checks.table("x", rows.x, n_columns)
    if hosts.is_spread(rows.x):
        x = rows.x
        own = dataclasses.replace(jax.tree.map(lambda leaf: hosts.own("x", leaf, x), rows), shards=None)
        part = hosts.agreed(x, lambda: _again(own, n_columns, extent, weighted, arranged=False, all_of_them=False))
        _check_some(x, part)
        if rows.weights is None and weighted:
            rows = dataclasses.replace(rows, weights=hosts.whole(part.weights, x))
        return dataclasses.replace(rows, shards=_shards_of(x))
    n, dtype = table.array.shape[0], checks.float_of(table.array.dtype)
    weights = None if rows.weights is None else row_weights(rows.weights, n, dtype, some=all_of_them)
    labels = None if rows.labels is None else row_labels(rows.labels, n)
    present = _present(weights)
    x = table.narrowed(present, extent).finite(present)
    if weights is None and weighted:
        weights = ones(n, x.dtype)
    known = _sharded(dataclasses.replace(rows, x=x, weights=weights, labels=labels, shards=None), rows.shards)
    return in_patterns(known) if arranged else known


def _present(weights: Any) -> Any:
    """Which rows are present, None for all of them."""
    if weights is None:
        return None
    return weights > 0 if isinstance(weights, jax.core.Tracer) else np.asarray(weights) > 0


def _library(*arrays: Any) -> Any:
    """numpy, which compiles nothing, or JAX's where values cannot be seen."""
    return jnp if any(isinstance(array, jax.core.Tracer) for array in arrays) else np


def _seen(x: Any, missing: Any) -> Any:
    """Which entries of x (n, d) are known; None where all are said to be."""
    if isinstance(missing, str):
        if missing == "error":
            return None
        if missing != "nan":
            raise ValueError(
                f"missing is {missing!r}; expected 'error', 'nan' where NaN stands for what is missing, or an array of "
                "truths (n, d), True where an entry is missing."
            )
        return ~_library(x).isnan(x)
    mask = missing if isinstance(missing, jax.Array) else containers.plain("missing", missing)
    if mask.dtype != bool:
        raise TypeError(
            f"missing is an array of dtype {mask.dtype}; expected truths, True where an entry is missing, such as "
            "numpy.isnan(x)."
        )
    if mask.shape != x.shape:
        raise ValueError(f"missing has shape {mask.shape}; expected that of x, {x.shape}.")
    return ~(mask if isinstance(mask, jax.core.Tracer) else np.asarray(mask))


def filled(x: Any, seen: Any, present: Any) -> Any:
    """With a number of its own column in the place of every entry that is not seen, its least one, or 0 without any.

    Whatever looks at values alone, for their digits or their range, then finds nothing that is not there.
    """
    xp = _library(x, seen, present)
    values = xp.asarray(x)
    some = seen & xp.isfinite(values)
    some = some if present is None else some & present[:, None]
    place = xp.argmin(xp.where(some, xp.abs(values), np.inf), axis=0)
    own = xp.where(xp.any(some, axis=0), values[place, np.arange(values.shape[1])], 0).astype(values.dtype)
    shards = Shards.of(x) if isinstance(x, jax.Array) and xp is np else None
    if shards is None:
        return xp.where(seen, values, own)
    with shards.entered():
        return jnp.where(shards.place(jnp.asarray(seen)), x, own)


def _noise(value: Any, seen: Any, shape: tuple[int, int], present: Any, dtype: Any) -> tuple[Array, Any]:
    """Variances or covariances of errors, and which entries are seen: not those whose error has infinite variance."""
    noise: Any = checks.real_array("noise", value)
    given = noise.dtype
    noise = noise if given == dtype else noise.astype(dtype)
    n, d = shape
    if noise.shape not in ((n, d), (n, d, d)):
        raise ValueError(
            f"noise has shape {noise.shape}; expected {(n, d)}, a variance for each entry of x, or {(n, d, d)}, a "
            "covariance matrix for each row."
        )
    traced = isinstance(noise, jax.core.Tracer)
    xp = jnp if traced else _library(seen, present)
    noise = noise if traced or xp is jnp else np.asarray(noise)
    variances = noise if noise.ndim == 2 else xp.diagonal(noise, axis1=1, axis2=2)
    if xp is np and np.any(np.isinf(variances) & np.isfinite(_variances(value))):
        raise ValueError(
            f"noise holds finite variances that {dtype} has no number for. Give x and its noise in another unit, or "
            "inf for entries that are as good as missing."
        )
    seen = xp.ones(shape, bool) if seen is None else seen
    seen = seen & (variances < np.inf) | seen & xp.isnan(variances)
    told = seen if noise.ndim == 2 else seen[:, :, None] & seen[:, None, :]
    noise = xp.where(told, noise, 0)
    if xp is np:
        _check_noise(noise, np.ones(n, bool) if present is None else present, given)
    return jnp.asarray(noise), seen


def _variances(value: Any) -> np.ndarray:
    """As they were given (n, d)."""
    given = np.asarray(value) if isinstance(value, jax.Array) else containers.plain("noise", value)
    return given if given.ndim == 2 else np.diagonal(given, axis1=1, axis2=2)


def _check_noise(noise: np.ndarray, present: np.ndarray, given: Any) -> None:
    """Raise for what cannot be variances, or covariance matrices that were given with digits of such a type."""
    if noise.ndim == 2:
        bad = ~(noise >= 0).all(axis=1) & present
        wanted = "variances of the errors, in squared units of x; standard errors are to be squared"
    else:
        bad = ~np.isfinite(noise).all(axis=(1, 2)) & present
        bad |= (np.diagonal(noise, axis1=1, axis2=2) < 0).any(axis=1) & present
        sound = np.where((present & ~bad)[:, None, None], noise, 0)
        largest = np.maximum(np.abs(sound).max(axis=(1, 2)), np.finfo(noise.dtype).tiny)[:, None, None]
        rounding = 1e3 * max(float(np.finfo(dtype).eps) for dtype in (noise.dtype, given))
        uneven = np.abs(sound - np.swapaxes(sound, 1, 2)) > rounding * largest
        least = np.linalg.eigvalsh(np.asarray(sound / largest, np.float64))[:, 0]
        bad |= uneven.any(axis=(1, 2)) | (least < -rounding)
        wanted = "symmetric matrices without negative eigenvalues"
    if bad.any():
        raise ValueError(f"noise is not as it must be in {checks.first_rows(bad, noise)} Expected {wanted}.")


def _log_evidence(value: Any, n: int, present: Any, dtype: Any) -> Float[Array, "n k"]:
    given = checks.real_array("log_evidence", value)
    given = given if given.dtype == dtype else given.astype(dtype)
    if given.ndim != 2 or given.shape[0] != n:
        raise ValueError(
            f"log_evidence has shape {given.shape}; expected ({n}, k), a number for each row and component."
        )
    if _library(given, present) is np:
        array = np.asarray(given)
        bad: Any = ~((array < np.inf).all(axis=1) & (array > -np.inf).any(axis=1))
        bad = bad if present is None else bad & present
        if bad.any():
            raise ValueError(
                f"log_evidence is NaN, infinite, or -inf for all components in {checks.first_rows(bad, array)} "
                "Expected logarithms of probabilities or densities, at least one of them in a row finite."
            )
    return given


def in_patterns(rows: Evidence) -> Evidence:
    """Rows with gaps, arranged in blocks of one pattern, where that can be seen and rows are exact and in one place."""
    if rows.seen is None or rows.noise is not None or rows.shards is not None or rows.patterns is not None:
        return rows
    if isinstance(rows.seen, jax.core.Tracer):
        return rows
    return dataclasses.replace(rows, patterns=Patterns.of(np.asarray(rows.seen)))


def _sharded(rows: Evidence, known: Shards | None) -> Evidence:
    """The rows with how they lie on devices: what can be seen, or else what was `known` where a record was made."""
    shards = _shards_of(rows.x)
    if shards is None and isinstance(rows.x, jax.core.Tracer) and known is not None and rows.n % known.number == 0:
        shards = known
    if shards is None:
        return rows
    return dataclasses.replace(jax.tree.map(shards.place, rows), shards=shards)


def _shards_of(x: Array) -> Shards | None:
    """How the rows lie on devices, none of which has columns of them alone."""
    shards = Shards.of(x)
    if shards is None and Shards.splits_rows(x):
        raise NotImplementedError(
            "x is sharded along its columns alone, on a mesh whose types of axes are explicit, and jaxgmm takes whole "
            "rows on each device. Shard axis 0 instead, as jax.sharding.reshard(x, jax.sharding.PartitionSpec('rows')) "
            "does on a mesh with an axis of that name, or make the mesh with axis_types of jax.sharding.AxisType.Auto."
        )
    return shards


def in_one_process(rows: Evidence, verb: str) -> Evidence:
    """The rows, for a `verb` that looks at their values outside of programs."""
    if hosts.is_spread(rows.x):
        raise NotImplementedError(
            f"x lies on devices of several processes, and jaxgmm.{verb} looks at the values of all rows in one. Call "
            "it with a sample that every process has, or compare fits by jaxgmm.fit_restarts and "
            "jaxgmm.select_components, which take such rows."
        )
    return rows


def unsharded(rows: Evidence, verb: str) -> Evidence:
    """The rows, for a `verb` that looks at all of them at once and knows of no devices."""
    rows = in_one_process(rows, verb)
    if rows.shards is None:
        return rows
    if rows.shards.explicit:
        axes = ", ".join(map(repr, rows.shards.axes))
        raise NotImplementedError(
            f"x is sharded over {axes} of a mesh whose types of axes are explicit, and jaxgmm.{verb} takes rows of one "
            "device. Call it with a sample of them, such as numpy.asarray(x)[:10_000], and go on by jaxgmm.fit, which "
            "takes sharded rows; or make the mesh with axis_types of jax.sharding.AxisType.Auto."
        )
    return dataclasses.replace(rows, shards=None)


def shares_of(rows: Evidence, value: Any) -> Float[Array, "n k"]:
    """Shares of components in the rows, checked, where these are."""
    if not hosts.is_spread(x := rows.x):
        given = checks.responsibilities(value, x, rows.weights)
        return given if rows.shards is None else rows.shards.place(given)

    def look() -> Array:
        mine, weights = (jnp.asarray(hosts.own("x", leaf, x)) for leaf in (x, rows.weights))
        return checks.responsibilities(hosts.own("responsibilities", value, x), mine, weights)

    return hosts.whole(hosts.agreed(x, look), x)


def row_labels(value: Any, n: int) -> Int[Array, " n"]:
    """The component of each of n rows, -1 where it is not known."""
    traced = isinstance(value, jax.core.Tracer)
    if not isinstance(value, jax.Array):
        try:
            value = containers.plain("labels", value)
        except TypeError as error:
            raise TypeError(f"{error} Names become numbers by numpy.unique(labels, return_inverse=True)[1].") from None
    given = value if traced else np.asarray(value)
    if given.dtype.kind not in ("iu" if traced else "iuf"):
        raise TypeError(f"labels has dtype {given.dtype}; expected whole numbers, the component of each row.")
    if given.shape != (n,):
        raise ValueError(f"labels has shape {given.shape}; expected one label per row of x, ({n},).")
    if traced:
        return value.astype(jnp.int32)
    whole = np.where(np.isnan(given), -1, given) if given.dtype.kind == "f" else given
    wrong = whole[~((whole >= -1) & (whole <= np.iinfo(np.int32).max) & (whole == np.floor(whole)))]
    if wrong.size:
        raise ValueError(
            f"labels holds {wrong[0]}; expected whole numbers from 0 on, and -1 or NaN where none is known."
        )
    return jnp.asarray(whole.astype(np.int32))


def _classes(value: Any, labels: Any) -> tuple[int, ...]:
    """The class of each component, where rows have labels."""
    if labels is None:
        raise ValueError("label_of_component is given without labels; expected labels, the class of each row.")
    try:
        classes = tuple(operator.index(one) for one in value)
    except TypeError:
        raise TypeError(
            f"label_of_component is {value!r}; expected a whole number for each component, such as (0, 0, 1)."
        ) from None
    if not classes or min(classes) < 0:
        raise ValueError(f"label_of_component is {value!r}; expected classes from 0 on, one for each component.")
    return classes


def check_sizes(
    log_evidence: Any, classes: tuple[int, ...] | None, sizes: Any, verb: str, n_background: int = 0
) -> None:
    """Raise where what is known of rows is of so many components, and others are to be tried.

    That is, of clusters of these sizes and what is behind them.
    """
    if log_evidence is not None:
        name, size, what = "log_evidence", log_evidence.shape[-1], "columns"
    elif classes is not None:
        name, size, what = "label_of_component", len(classes), "entries"
    else:
        return
    if other := [k for k in sizes if k not in (0, size - n_background)]:
        beside = " and one of noise" if n_background else ""
        raise ValueError(
            f"{name} has {size} {what}, one for each component, and {verb} is to try {other[0]} of them{beside}; "
            f"expected n_components = {size - n_background} alone."
        )


def of_components(rows: Evidence, present: Any) -> Evidence:
    """The rows, if what is known of their components fits these: labels those that are present, (k,), if it shows."""
    size = present.shape[0]
    if rows.log_evidence is not None and rows.log_evidence.shape[-1] != size:
        raise ValueError(
            f"log_evidence has {rows.log_evidence.shape[-1]} columns, and there are {size} components; expected one "
            "for each component."
        )
    if rows.classes is not None and len(rows.classes) != size:
        raise ValueError(
            f"label_of_component has {len(rows.classes)} entries, and there are {size} components; expected one for "
            "each component."
        )
    if rows.labels is None or any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((rows, present))):
        return rows
    if hosts.is_spread(x := rows.x):
        own = dataclasses.replace(jax.tree.map(lambda leaf: hosts.own("x", leaf, x), rows), shards=None)
        hosts.agreed(x, lambda: of_components(own, present))
        return rows
    labels, there = np.asarray(rows.labels), np.flatnonzero(np.asarray(present))
    if rows.classes is not None:
        there = np.unique(np.array(rows.classes)[there])
    seen = labels[(labels >= 0) & (True if rows.weights is None else np.asarray(rows.weights) > 0)]
    unknown, what = np.setdiff1d(seen, there), "component" if rows.classes is None else "class of a component"
    if unknown.size:
        among = there.tolist() if there.size < 9 else f"some of {there.size} from {there[0]} to {there[-1]}"
        raise ValueError(
            f"labels holds {unknown[0]}, which is no {what} that is there; expected {among}, and -1 where none is "
            "known."
        )
    return rows


def _check_some(x: jax.Array, part: Evidence) -> None:
    """Raise in all processes where none has a row with weight."""
    if part.weights is not None and not hosts.anywhere(x, bool(np.any(np.asarray(part.weights) > 0))):
        raise ValueError(_NO_WEIGHT)


def row_weights(value: Any, n: int, dtype: Any, *, some: bool = True) -> Float[Array, " n"]:
    """Weights of n rows in `dtype`, not negative and with a total, and none of them lost on the way there.

    All may be 0 unless `some` must be more.
    """
    weights = checks.real_array("weights", value)
    weights = weights if weights.dtype == dtype else weights.astype(dtype)
    if weights.shape != (n,):
        raise ValueError(f"weights has shape {weights.shape}; expected one weight per row of x, ({n},).")
    checks.none_lost(
        "weights", value, weights, "Divide all of them by one number, and set those to 0 that need not count."
    )
    if not checks.holds(lambda w: np.all((w >= 0) & (w < np.inf)), weights):
        bad = ~((np.asarray(weights) >= 0) & (np.asarray(weights) < np.inf))
        raise ValueError(f"weights is negative or not finite in {checks.first_rows(bad, weights)}")
    if some and not checks.holds(lambda w: np.any(w > 0), weights):
        raise ValueError(_NO_WEIGHT)
    if not checks.has_a_sum(weights):
        raise ValueError(f"weights add up to more than {weights.dtype} can hold. Divide all of them by one number.")
    return weights


def ones(n: int, dtype: Any) -> Float[Array, " n"]:
    """The weights of rows where none are given."""
    array = jnp.asarray(np.ones(n, dtype))
    # Behind a barrier, or XLA would spend seconds on folding what is computed from a constant of n numbers.
    return array if programs.at_top_level() else jax.lax.optimization_barrier(array)
