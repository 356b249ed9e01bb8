"""Argument checks, all of them. Shapes and types raise while tracing; values are looked at outside `jit` only.

Every message says what was found, what was expected and what to do.
"""

import operator
from collections.abc import Callable, Collection, Hashable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.ground import containers, digits, forks, frames, programs, pytree
from jaxgmm.ground.digits import Extent

_ROWS_NAMED = 5
# A value that takes more letters than this is called by its type.
_SHORT = 60
# Numbers in a key of the old kind, by the generators that JAX has.
_KEY_SIZES = (2, 4)


def holds(condition: Callable[..., Any], *arrays: Any) -> bool:
    """Whether `condition(*arrays)` does, in numpy; True where values cannot be seen, being traced.

    On an accelerator it is for small arrays, which have to be fetched.
    """
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arrays)):
        return True
    return bool(condition(*jax.tree.map(np.asarray, arrays)))


def all_finite(x: Any, present: Any) -> bool:
    """Whether the present rows of x (n, d) are finite, looked at where the array is; True where they cannot be seen."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in (x, present)):
        return True
    if isinstance(x, jax.Array) and not programs.on_cpu(x):
        with jax.ensure_compile_time_eval():  # so that constants can be looked at while something else is traced
            return bool(_all_finite(x, present))
    # A sum is finite where all is, and takes a fraction of the time.
    x, present = np.asarray(x), np.asarray(present)
    with np.errstate(all="ignore"):
        return bool(np.isfinite(np.sum(x)) or np.all(np.isfinite(x).all(axis=1) | ~present))


def one_of(name: str, value: Any, known: Collection[str]) -> str:
    """`value` if it is one of the `known` strings."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name} is {found(value)}; expected one of {', '.join(map(repr, known))}.")
    return value


def found(value: Any) -> str:
    """What to say that something is: itself if it is short, and else its type."""
    text = repr(value)
    return text if len(text) <= _SHORT and "\n" not in text else f"of type {type(value).__name__}"


def count(name: str, value: Any, smallest: int = 1) -> int:
    """`value` as a Python integer not below `smallest`; it sizes an array, so it cannot be traced."""
    if isinstance(value, jax.core.Tracer):
        raise TypeError(
            f"{name} is traced by jit, vmap or grad, but it sizes arrays: mark it static (static_argnames)."
        )
    try:
        integer = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {found(value)}; expected a whole number of type int.") from None
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {value!r}; expected a whole number of type int.")
    if integer < smallest:
        raise ValueError(f"{name} is {integer}; expected at least {smallest}.")
    return integer


def present(name: str, value: Any, limit_name: str, limit: int | None) -> Bool[Array, " k"]:
    """Which of `limit` places the first `value` are. Without a limit all are, and `value` must be static."""
    if limit is None:
        return jnp.asarray(np.ones((count(name, value),), bool))
    limit = count(limit_name, limit)
    if not isinstance(value, jax.Array):
        value = count(name, value)
    elif value.ndim or not jnp.issubdtype(value.dtype, jnp.integer):
        raise TypeError(f"{name} has dtype {value.dtype} and shape {value.shape}; expected a single whole number.")
    if not holds(lambda value: 1 <= value <= limit, value):
        raise ValueError(f"{name} is {int(value)}; expected a number from 1 to {limit_name}, which is {limit}.")
    traced = isinstance(value, jax.core.Tracer)
    return jnp.arange(limit) < value if traced else jnp.asarray(np.arange(limit) < np.asarray(value))


def key(value: Any, name: str = "key") -> jax.Array:
    """`value` if it is one key of `jax.random`, of the new kind or of the old one, an array of type uint32."""
    advice = "expected a key of jax.random, such as jax.random.key(0)"
    if isinstance(value, (bool, np.bool_)) or value is None:
        raise TypeError(f"{name} is {value}; {advice}.")
    if isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} is the number {value}; expected a key: jax.random.key({value}).")
    if isinstance(value, (np.random.RandomState, np.random.Generator)):
        draw = "randint" if isinstance(value, np.random.RandomState) else "integers"
        raise TypeError(
            f"{name} is a numpy {type(value).__name__}; expected a key: jax.random.key({name}.{draw}(2**31))."
        )
    if not isinstance(value, (jax.Array, np.ndarray)):
        raise TypeError(f"{name} is of type {type(value).__name__}; {advice}.")
    is_new = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    if not is_new and (value.dtype != np.uint32 or value.ndim == 0 or value.shape[-1] not in _KEY_SIZES):
        raise TypeError(f"{name} is an array of dtype {value.dtype} and shape {value.shape}; {advice}.")
    stack = value.shape if is_new else value.shape[:-1]
    if stack:
        raise ValueError(
            f"{name} holds a stack of keys of shape {stack}; this takes a single one. Use {name}[0], or jax.vmap over "
            "the stack."
        )
    return jnp.asarray(value)


def scalar(name: str, value: Any, dtype: Any) -> Float[Array, ""]:
    """A number not below 0 as an array of type `dtype`, so that its value never recompiles anything."""
    number = _number(name, value)
    if isinstance(number, jax.core.Tracer):
        return number.astype(dtype)
    with np.errstate(over="ignore"):
        cast = np.asarray(number, dtype)
    if not np.isfinite(cast) and np.isfinite(np.asarray(value, np.float64)):
        found, largest = float(np.asarray(value)), float(np.finfo(dtype).max)
        raise ValueError(f"{name} is {found:g}, beyond {cast.dtype}; expected up to {largest:g}.")
    return jnp.asarray(cast)


def valid(array: Float[Array, "..."], holds_for: Bool[Array, "..."]) -> Float[Array, "..."]:
    """NaN for traced numbers of which that does not hold, so that a fit with them does not end as if it did."""
    return jnp.where(holds_for, array, jnp.nan) if isinstance(array, jax.core.Tracer) else array


def steps(name: str, value: Any) -> Int[Array, ""]:
    """A number of steps not below 0 as an int32 array; anything beyond int32, infinity included, is its largest."""
    largest = jnp.iinfo(jnp.int32).max
    number = _number(name, value)
    if not isinstance(number, jax.core.Tracer):
        return jnp.asarray(np.int32(min(float(number), largest)))
    number = number.astype(jnp.float32)
    return jnp.where(number < largest, number, 0).astype(jnp.int32) + jnp.where(number < largest, 0, largest)


def function(name: str, value: Any) -> None:
    """Raise for what is no function, and not None either."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} is of type {type(value).__name__}; expected a function, or None.")


def seconds(name: str, value: Any) -> float:
    """A time not below 0; None is one without end."""
    if value is None:
        return float("inf")
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} is {value!r}; expected a number of seconds, or None.")
    if not value >= 0:
        raise ValueError(f"{name} is {value}; expected a number of seconds that is not negative.")
    return float(value)


def real_array(name: str, value: Any) -> Float[Array, "..."]:
    """Anything array-like as floating point of at least float32; integers and booleans take JAX's default float."""
    forks.check()  # before there is an array to wait for
    return _as_jax(_read(name, value))


def data(x: Any, n_columns: int | None = None, name: str = "x") -> Float[Array, "n d"]:
    """Rows of observations as a float array (n, d) with n, d >= 1, of `n_columns` columns where that is given."""
    return _as_jax(table(name, x, n_columns).array)


def finite_data(
    x: Any, n_columns: int | None = None, present: Array | np.ndarray | None = None, name: str = "x"
) -> Float[Array, "n d"]:
    """Rows as `data` takes them, without NaN or inf where that can be seen; rows not `present` are not looked at."""
    return table(name, x, n_columns).finite(present)


def keep_digits(name: str, value: Any, extent: Callable[[bool], Extent | None]) -> None:
    """Refuse numbers (..., d) that JAX's floats would round by what matters, compared with an `extent`."""
    array = _read(name, value)
    Table(name, array.reshape(-1, array.shape[-1]), ()).narrowed(None, extent)


def has_a_sum(numbers: Array) -> bool:
    """Whether their sum is finite; True where they cannot be seen."""
    with np.errstate(over="ignore"):
        return holds(lambda numbers: np.isfinite(np.sum(numbers)), numbers)


def none_lost(name: str, given: Any, kept: Array, advice: str) -> None:
    """Raise where numbers are `kept` as 0 or as infinite that were `given` as neither, if that can be seen."""
    given = _read(name, given)
    if given.dtype == kept.dtype or any(isinstance(array, jax.core.Tracer) for array in (given, kept)):
        return
    before, after = np.asarray(given, np.float64), np.asarray(kept)
    lost = (before > 0) & (after < np.finfo(after.dtype).tiny) | np.isfinite(before) & ~np.isfinite(after)
    if np.any(lost):
        places = np.flatnonzero(lost)
        raise ValueError(
            f"{name} holds {before.ravel()[places[0]]:g} at {places[0]}, which {after.dtype} has no number for, and "
            f"{places.size - 1} more like it. {advice}"
        )


def responsibilities(value: Any, x: Float[Array, "n d"], weights: Float[Array, " n"]) -> Float[Array, "n k"]:
    """Finite shares (n, k) of the rows of `x` in its dtype, not negative; rows without weight are not looked at."""
    shares = data(value, name="responsibilities")
    shares = shares if shares.dtype == x.dtype else shares.astype(x.dtype)
    if shares.shape[0] != x.shape[0]:
        raise ValueError(f"responsibilities has {shares.shape[0]} rows and x has {x.shape[0]}; expected one per row.")
    present = weights > 0 if isinstance(weights, jax.core.Tracer) else np.asarray(weights) > 0
    finite_data(shares, present=present, name="responsibilities")
    if not holds(lambda shares, weights: np.all((shares >= 0) | (weights == 0)[:, None]), shares, weights):
        bad = np.any(np.asarray(shares) < 0, axis=1) & (np.asarray(weights) > 0)
        raise ValueError(f"responsibilities is negative in {first_rows(bad, shares)}")
    return shares


def columns(name: str, value: Any, n_columns: int) -> tuple[int, ...]:
    """Different columns of `n_columns`, at least one, counted from the front; they size arrays, so they are static."""
    if isinstance(value, jax.core.Tracer):
        raise TypeError(
            f"{name} is traced by jit, vmap or grad, but it sizes arrays: mark it static (static_argnames)."
        )
    try:
        found = [operator.index(column) for column in value]
    except TypeError:
        raise TypeError(f"{name} is {value!r}; expected whole numbers in a sequence, such as [0, 2].") from None
    if not found:
        raise ValueError(f"{name} is empty; expected at least one of the mixture's {n_columns} columns.")
    if wrong := [column for column in found if not -n_columns <= column < n_columns]:
        raise ValueError(f"{name} holds {wrong[0]}; expected 0 to {n_columns - 1}, or -{n_columns} to -1 from the end.")
    chosen = tuple(column % n_columns for column in found)
    if twice := [column for column in chosen if chosen.count(column) > 1]:
        raise ValueError(
            f"{name} is {found}, which names column {twice[0]} more than once; expected each at most once."
        )
    return chosen


def places(name: str, value: Any, size: int, each: str) -> Int[Array, " j"] | Int[np.ndarray, " j"]:
    """Whole numbers (j,) that are places of `size` ones, or -1 backwards, where that can be seen."""
    if not isinstance(value, jax.Array):
        try:
            value = np.asarray(value)
        except Exception as error:
            raise TypeError(f"{name} cannot be read as an array: {error}") from error
    if value.dtype == bool:
        raise TypeError(f"{name} has dtype bool; expected whole numbers. Use jax.numpy.flatnonzero({name}).")
    if value.ndim != 1 or value.size == 0:
        advice = f" Use [{value}] for a single {each}." if value.ndim == 0 and value.dtype.kind in "iu" else ""
        raise ValueError(f"{name} has shape {value.shape}; expected (j,), at least one, such as [0, 2].{advice}")
    if not jnp.issubdtype(value.dtype, jnp.integer):
        raise TypeError(f"{name} has dtype {value.dtype}; expected whole numbers, such as [0, 2].")
    if not holds(lambda found: np.all((found >= -size) & (found < size)), value):
        wrong = next(place for place in np.asarray(value).tolist() if not -size <= place < size)
        raise ValueError(f"{name} holds {wrong}; expected 0 to {size - 1}, or -{size} to -1 from the end.")
    return value


def vector(name: str, value: Any, size: int, each: str) -> Float[Array, " size"]:
    """As many numbers as there are of `each`, finite where that can be seen."""
    vector = real_array(name, value)
    if vector.shape != (size,):
        raise ValueError(f"{name} has shape {vector.shape}; expected ({size},), one for each {each}.")
    if not holds(lambda vector: np.all(np.isfinite(vector)), vector):
        raise ValueError(f"{name} is {vector.tolist()}; expected finite numbers.")
    return vector


def scale(value: Any, n_columns: int, dtype: Any) -> Float[Array, " d"] | None:
    """The scale of each column in `dtype`, positive where that can be seen; None where none is given."""
    if value is None:
        return None
    scale = real_array("scale", value)
    scale = scale if scale.dtype == dtype else scale.astype(dtype)
    if scale.shape != (n_columns,):
        raise ValueError(
            f"scale has shape {scale.shape}; expected ({n_columns},), one for each column, as jaxgmm.scale_of(x) gives."
        )
    if not holds(lambda scale: np.all((scale > 0) & (scale < np.inf)), scale):
        raise ValueError(f"scale is {scale.tolist()}; expected positive numbers, as jaxgmm.scale_of(x) gives.")
    return scale


def full_row_rank(name: str, value: Any, spread: Float[Array, " d"]) -> Float[Array, "m d"]:
    """A matrix with independent rows, where that can be seen, for columns that spread by so much."""
    matrix, n_columns = finite_data(value, name=name), spread.size
    if matrix.shape[1] != n_columns or matrix.shape[0] > n_columns:
        raise ValueError(
            f"{name} has shape {matrix.shape}; expected {n_columns} columns, as the mixture has, and no more rows than "
            "columns: beyond that, the result would have no density."
        )

    def independent(matrix: np.ndarray, spread: np.ndarray) -> Any:
        rows = matrix * spread
        length = np.max(np.abs(rows), axis=1, keepdims=True)
        values = np.linalg.svd(rows / np.where(length > 0, length, 1), compute_uv=False)
        return values[-1] > 4 * n_columns * np.finfo(matrix.dtype).eps

    if not holds(independent, matrix, spread):
        raise ValueError(
            f"{name} has rows that depend on each other, so the result would be singular, without a density; expected "
            f"full row rank. Drop rows of {matrix.tolist()} that follow from others."
        )
    return matrix


def symmetric(name: str, matrices: Float[Array, "*batch d d"]) -> Float[Array, "*batch d d"]:
    """The matrices, symmetric to rounding where that can be seen."""

    def gap(matrices: np.ndarray) -> Any:
        return np.max(np.abs(matrices - np.swapaxes(matrices, -1, -2)))

    def close(matrices: np.ndarray) -> Any:
        return gap(matrices) <= 1e3 * np.finfo(matrices.dtype).eps * np.max(np.abs(matrices))

    if not holds(close, matrices):
        found = float(gap(np.asarray(matrices)))
        raise ValueError(f"{name} differs from its transpose by up to {found:g}; expected symmetric matrices.")
    return matrices


def positive_definite(name: str, covariances: Float[Array, "..."], half_log_det: Float[Array, "..."]) -> None:
    """Raise for covariances, in the shape their structure takes, whose log-determinant did not come out finite."""
    if not holds(lambda half_log_det: np.all(np.isfinite(half_log_det)), half_log_det):
        place = tuple(np.argwhere(~np.isfinite(np.asarray(half_log_det)))[0].tolist())
        found = f"{name}{list(place) if place else ''} is {np.asarray(covariances)[place].tolist()}"
        raise ValueError(
            f"{found}, which is not positive definite. Variances and eigenvalues must be > 0; add a small multiple of "
            "the identity, or drop columns that depend on each other."
        )


def common_dtype(*trees: Any) -> tuple[Any, ...]:
    """The arguments with all their leaves in the widest of their floating point types."""
    leaves = [leaf for leaf in jax.tree.leaves(trees) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    dtype = jnp.result_type(*(leaf.dtype for leaf in leaves))
    return tuple(pytree.cast(tree, dtype) for tree in trees)


def _number(name: str, value: Any) -> Float[Array, ""]:
    number = real_array(name, value)
    if number.ndim:
        raise ValueError(f"{name} has shape {number.shape}; expected a single number.")
    if not holds(lambda number: number >= 0, number):
        raise ValueError(f"{name} is {float(number):g}; expected a number not below 0.")
    return number


@programs.program
def _all_finite(x: Array, present: Array | np.ndarray) -> Array:
    return jnp.all(jnp.all(jnp.isfinite(x), axis=1) | ~present)


def float_of(dtype: Any) -> Any:
    """The floating point type in which JAX holds numbers of this type."""
    if dtype == np.longdouble:
        dtype = np.dtype(np.float64)
    wide = jnp.promote_types(dtype, jnp.float32) if jnp.issubdtype(dtype, jnp.floating) else jnp.result_type(float)
    return jax.dtypes.canonicalize_dtype(wide)


def first_rows(bad: np.ndarray, array: Any) -> str:
    """Which rows are `bad` (n,), the first of them by number, and what that one holds."""
    rows = np.flatnonzero(bad)
    shown = ", ".join(map(str, rows[:_ROWS_NAMED])) + (", …" if rows.size > _ROWS_NAMED else "")
    return f"{rows.size} of {bad.size} rows: {shown}. Row {rows[0]} holds {np.asarray(array)[rows[0]].tolist()}."


class Table(NamedTuple):
    """Rows (n, d) as they were given, of any real type, and names of their columns, if they have some."""

    name: str
    array: Any
    labels: tuple[Hashable, ...]

    def narrowed(self, present: Any, extent: Callable[[bool], Extent | None] | None) -> "Table":
        """In JAX's floating point, if that has the digits to tell the entries of every column apart.

        Nothing is looked at where JAX's numbers have all of them, or where rows or what they are compared with are
        traced, which an `extent` says by None. It is asked for one that may be too short first, which costs less.
        """
        name, array, labels = self
        dtype = float_of(array.dtype)
        if isinstance(array, jax.core.Tracer) or not digits.holds_more(array.dtype, dtype):
            return self
        kept = None if present is None or isinstance(present, jax.core.Tracer) else np.asarray(present)
        given = np.asarray(array)
        if extent is None:
            return self._replace(array=digits.narrowed(name, given, dtype, kept, None, labels))
        rough = extent(True)
        if rough is None:
            return self
        try:
            return self._replace(array=digits.narrowed(name, given, dtype, kept, rough, labels))
        except ValueError:
            return self._replace(array=digits.narrowed(name, given, dtype, kept, extent(False), labels))

    def finite(self, present: Any = None) -> Float[Array, "n d"]:
        """As an array of JAX, found to hold no NaN or inf in rows that are present, where that can be seen."""
        name, x = self.name, _as_jax(self.array)
        present = np.ones((), bool) if present is None else present
        if not all_finite(x, present):
            advice = "Remove them, or give them weight 0." if name == "x" else ""
            if advice and np.isnan(np.asarray(x, float)[np.asarray(present) & np.ones(len(x), bool)]).any():
                advice = (
                    "Remove them, give them weight 0, or write jaxgmm.rows(x, missing='nan') in the place of x, which "
                    "takes what is there of them."
                )
            good = np.isfinite(np.asarray(x, float))
            bad = ~good.all(axis=1) & np.asarray(present)
            column = np.flatnonzero(~good[np.flatnonzero(bad)[0]])[0]
            where = f" That is column {self.labels[column]!r}; what is missing counts as NaN." if self.labels else ""
            raise ValueError(f"{name} is NaN or infinite in {first_rows(bad, x)}{where} {advice}".rstrip())
        return x


def table(name: str, x: Any, n_columns: int | None) -> Table:
    """Rows as they were given, of two axes, and of so many columns where that is known."""
    array = _read(name, x)
    if array.ndim == 1 and frames.is_column(x):
        array = array[:, None]
    if array.ndim != 2:
        given = name if hasattr(x, "ndim") else f"numpy.asarray({name})"
        advice = (
            f"Use {given}[:, None] if it is one column, {given}[None, :] if it is one row." if array.ndim == 1 else ""
        )
        if array.ndim > 2:
            advice = (
                f"Use {given}.reshape(-1, {array.shape[-1]}) if the last axis has the columns, as that of an image."
            )
        raise ValueError(f"{name} has shape {array.shape}; expected two axes, (rows, columns). {advice}".rstrip())
    if array.shape[0] < 1 or array.shape[1] < 1:
        raise ValueError(f"{name} has shape {array.shape}; expected at least one row and one column.")
    if n_columns is not None and array.shape[1] != n_columns:
        raise ValueError(f"{name} has {array.shape[1]} columns; the mixture was made for {n_columns}.")
    return Table(name, array, frames.names_of(x))


def _read(name: str, value: Any) -> Any:
    """Real numbers as they are: an array of JAX, or one of numpy in native byte order."""
    if not isinstance(value, jax.Array):
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
            try:
                value = jnp.asarray(value)
            except Exception as error:
                raise TypeError(f"{name} cannot be read as an array: {error}") from error
        else:
            value = containers.plain(name, value)
            if value.dtype.kind in "biuf":
                # JAX reads native byte order only.
                value = value.astype(value.dtype.newbyteorder("="), copy=False)
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        raise TypeError(
            f"{name} is a key of jax.random; expected real numbers. Where both are taken, the key is first."
        )
    if not containers.is_real(value.dtype):
        raise TypeError(f"{name} has dtype {value.dtype}; expected real numbers, such as {name}.real.")
    return value


def _as_jax(value: Any) -> Float[Array, "..."]:
    dtype = float_of(value.dtype)
    if isinstance(value, jax.core.Tracer):
        return value.astype(dtype)
    # So that a constant stays one, and can be looked at; whether it fits is for others to say.
    with jax.ensure_compile_time_eval(), np.errstate(over="ignore"):
        return jnp.asarray(value if isinstance(value, jax.Array) else np.asarray(value, dtype), dtype)
