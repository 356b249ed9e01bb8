"""How sure the parameters of a fit are: refits to the same rows with other weights, matched to it."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxgmm.families.family import Family, Form
from jaxgmm.fitting.em import fit as fit_from
from jaxgmm.fitting.result import FitResult, Status
from jaxgmm.ground import checks, draws, known
from jaxgmm.ground.programs import program
from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.ground.rows import Evidence
from jaxgmm.ground.tables import pandas_for
from jaxgmm.model.mixture import Mixture, check_rows, check_stack, present_clusters
from jaxgmm.model.objective import Objective, objective_of, within_data
from jaxgmm.model.scale import scale_from
from jaxgmm.selection.agreement import align
from jaxgmm.selection.calls import in_chunks
from jaxgmm.selection.restarts import fit_restarts

if TYPE_CHECKING:
    import pandas

_COLUMNS = ("component", "parameter", "column", "estimate", "standard_error", "lower", "upper")
# Refits in one call of the compiled program, whatever their number, so that another number compiles nothing. Side by
# side they fill an accelerator; there, as many as spread to so many numbers, and on a CPU have so many weights.
_CHUNK, _CHUNK_ELSEWHERE = 16, 1024
_WEIGHTS, _NUMBERS_ELSEWHERE = 2**24, 2**28
# Refits and steps of each that a program is made for: one call of it is one of many.
_REFITS, _STEPS = 1000, 20


@record
class Parameters:
    """Numbers for each parameter of a mixture, such as its standard error.

    Fields: `weights` (k,); `means` (k, d); `standard_deviations` (k, d), of each column in each component;
    `covariances` (k, d, d), or None where only each column is told of. Intervals have one more axis in front, for the
    lower end and the upper one. NaN for a component that is absent.
    """

    weights: Leaf
    means: Leaf
    standard_deviations: Leaf
    covariances: Leaf | None


@record
class Bootstrap:
    """Outcome of `bootstrap`: a fit, and those to the same rows with weights drawn for each.

    Fields:
        reference: the `FitResult` that the refits start from.
        mixtures: a stack of b mixtures, the components of each in the order of the reference.
        log_likelihood: (b,), total, of each refit, of the rows in the weights that were drawn for it.
        status: (b,), a code of `Status` for each.

    Refits that are `NON_FINITE` or `DEGENERATE` take no part in standard errors and intervals. Where they are many,
    these are too narrow: the number of components is not supported by rows like these.
    """

    reference: FitResult
    mixtures: Mixture
    log_likelihood: Leaf
    status: Leaf

    @property
    def n_failed(self) -> int:
        """Number of refits that take no part."""
        return int(np.sum(~self._fine))

    def standard_errors(self) -> Parameters:
        """Standard deviation over the refits of every parameter."""
        return self._over_refits(lambda values: np.std(values, axis=0, ddof=1))

    def intervals(self, level: Any = 0.95) -> Parameters:
        """Percentile intervals of every parameter: quantiles of the refits that leave out as many at each end.

        Args:
            level: share of the refits inside, between 0 and 1.

        Raises:
            TypeError, ValueError: another level.
        """
        tail = (1 - level_of(level)) / 2
        return self._over_refits(lambda values: np.quantile(values, [tail, 1 - tail], axis=0))

    def to_pandas(self, level: Any = 0.95, names: Sequence[Any] | None = None) -> "pandas.DataFrame":
        """The weight, the means and the standard deviations of each component, as a data frame (needs pandas).

        A row for each: `component`, `parameter` ("weight", "mean" or "sd"), `column`, which a weight has none of,
        `estimate`, that of the reference, `standard_error`, `lower` and `upper`, the ends of the interval. Absent
        components are left out.

        Args:
            level: of the intervals.
            names: of the columns (d,), such as `schema.names`; by default their numbers.

        Raises:
            TypeError, ValueError: another level, or another number of names.
        """
        mixture = self.reference.mixture
        present = np.flatnonzero(np.asarray(mixture.log_weights) > -np.inf)
        return parameter_table(mixture, self.standard_errors(), self.intervals(level), present, names)

    @property
    def _fine(self) -> np.ndarray:
        return ~np.isin(np.asarray(self.status), (Status.NON_FINITE, Status.DEGENERATE))

    def _over_refits(self, summary: Callable[[np.ndarray], np.ndarray]) -> Parameters:
        """The summary over the leading axis of every parameter; NaN if fewer than two refits take part."""
        fine, there = self._fine, np.asarray(self.reference.mixture.log_weights) > -np.inf
        enough = np.sum(fine) > 1

        def over(values: np.ndarray) -> Array:
            # In float64: differences of numbers that share their first digits.
            found = summary(values.astype(np.float64)[fine if enough else slice(None)])
            known = enough & there.reshape((-1,) + (1,) * (values.ndim - 2))
            return jnp.asarray(np.where(known, found, np.nan).astype(values.dtype))

        return jax.tree.map(over, _parameters(self.mixtures))


def bootstrap(
    key: jax.Array,
    x: Any,
    fit: Any,
    n_components: int | None = None,
    *,
    n_bootstrap: int = 999,
    method: str = "resample",
    weights: Any = None,
    progress: bool = False,
    n_restarts: int | None = None,
    tol: Any = 1e-6,
    max_iter: Any = 1000,
    regularization: Any = 1e-6,
    scale: Any = None,
    objective: Any = None,
    acceleration: str | None = "anderson",
    block_size: int | None = None,
) -> Bootstrap:
    """How sure the parameters of a fit are: standard errors and intervals by refits to reweighted rows.

    Every refit starts from the fit, so that it ends at the same optimum, moved, where the rows support one; its
    components are then matched to those of the fit as `align` does. The refits go through one compiled program in
    chunks: on a GPU side by side, on a CPU on every core. The floor of covariances is that of the original rows.

    Args:
        key: what is drawn is drawn with this key. The first refits are the same whatever their number.
        x: rows (n, d), the ones that `fit` was made from. With labels, as from `rows`, components keep their numbers.
        fit: a `FitResult`; a `Mixture`, which is first fitted to the end; or a form as for `init`, for the best fit of
            `fit_restarts`.
        n_components: number of components of a form; none of a fit, which has them already.
        n_bootstrap: number of refits, b.
        method: "resample" draws as many rows with replacement as the weights count, as an equal number of rows again;
            "weighted" gives each row a share of Dirichlet's distribution, so that no row, and no small group of them,
            is left out.
        weights: of the rows (n,); they count rows: one of weight 2 is two rows, one of weight 0 is none. Default ones.
        progress: show a progress bar (needs tqdm).
        n_restarts: starts for a form, as for `fit_restarts`; default 200.
        tol, max_iter, regularization, scale, objective, acceleration, block_size: as for `fit`, for all fits.

    Returns:
        `Bootstrap`, with `standard_errors`, `intervals` and a table, `to_pandas`.

    Raises:
        TypeError, ValueError: as for `fit` and `fit_restarts`, a number of components missing or too many, fewer than
            two refits, or an unknown method.
        FitError: a fit that is `NON_FINITE`.

    Sources: Efron (1979), Ann. Stat. 7; Newton & Raftery (1994), JRSS B 56, for the weighted likelihood bootstrap;
    O'Hagan, Murphy, Scrucca & Gormley (2019), Comput. Stat. 34, for both in mixtures.

    >>> import jax, jaxgmm
    >>> x = jax.random.normal(jax.random.key(0), (200, 1)).at[:100].add(8.0)
    >>> best = jaxgmm.fit_restarts(jax.random.key(1), x, 2, n_restarts=8).best
    >>> found = jaxgmm.bootstrap(jax.random.key(2), x, best, n_bootstrap=199)
    >>> [f"{error:.1f}" for error in found.standard_errors().means[:, 0]]  # 1 / sqrt(100)
    ['0.1', '0.1']
    """
    key = checks.key(key)
    n_bootstrap = checks.count("n_bootstrap", n_bootstrap, 2)
    draw = METHODS[checks.one_of("method", method, METHODS)]
    options = {
        "tol": tol,
        "max_iter": max_iter,
        "regularization": regularization,
        "scale": scale,
        "objective": objective,
        "acceleration": acceleration,
        "block_size": block_size,
    }
    reference, rows = _reference(key, x, weights, fit, n_components, n_restarts, options)
    if int(reference.status) == Status.NON_FINITE:
        reference.raise_if_failed()
    mixture, rows = check_rows(reference.mixture, rows, scored=False)
    dtype, k, d = rows.x.dtype, mixture.n_components, mixture.n_columns
    given = np.asarray(rows.weights)
    if (counted := given.sum(dtype=np.float64)) < 2:
        raise ValueError(
            f"weights add up to {counted:g}, and they count rows, as many of which are drawn again; expected at least "
            "2. Multiply weights that are shares by the number of rows."
        )
    on_cpu = jax.default_backend() == "cpu"
    scale = scale_from(rows) if scale is None else checks.scale(scale, d, dtype)
    climbed = objective_of(objective, k, d, dtype)
    call = functools.partial(
        _refits,
        mixture,
        rows,
        tol=checks.scalar("tol", tol, dtype),
        max_iter=checks.steps("max_iter", max_iter),
        regularization=checks.scalar("regularization", regularization, dtype),
        scale=scale,
        objective=within_data(climbed, rows, scale, present_clusters(mixture)),
        acceleration=acceleration,
        block_size=block_size,
        one_by_one=on_cpu,
    )

    def refits(seeds: np.ndarray) -> tuple[Mixture, Array, Array]:
        drawn = [draw(np.random.default_rng(seed), given, 1)[0] for seed in seeds]
        return call(shares=np.stack(drawn))

    # A generator for each, so that no more weights are there at a time than are looked at.
    seeds = draws.on_the_host(key).integers(2**63, size=n_bootstrap)
    most = (_CHUNK, _WEIGHTS // rows.n) if on_cpu else (_CHUNK_ELSEWHERE, _NUMBERS_ELSEWHERE // (rows.n * k * d))
    found = in_chunks(refits, seeds, max(1, min(most)), progress, "refits")
    return Bootstrap(reference, *jax.device_put(found))


def parameter_table(
    mixture: Mixture, error: Parameters, ends: Parameters, components: np.ndarray, names: Sequence[Any] | None
) -> "pandas.DataFrame":
    """Weight, means and standard deviations of these components of a mixture, as a data frame."""
    names = list(range(mixture.n_columns) if names is None else names)
    if len(names) != mixture.n_columns:
        raise ValueError(f"names has {len(names)} entries; expected one for each of {mixture.n_columns} columns.")
    estimate = _parameters(mixture)
    table: dict[str, list[Any]] = {name: [] for name in _COLUMNS}

    def add(component: int, parameter: str, column: Any, field: str, place: tuple[int, ...]) -> None:
        numbers = [getattr(estimate, field), getattr(error, field), *getattr(ends, field)]
        values = component, parameter, column, *(float(number[place]) for number in numbers)
        for name, value in zip(_COLUMNS, values, strict=True):
            table[name].append(value)

    for component in components.tolist():
        add(component, "weight", None, "weights", (component,))
        if component == mixture.noise_component:
            continue
        for parameter, field in (("mean", "means"), ("sd", "standard_deviations")):
            for place, name in enumerate(names):
                add(component, parameter, name, field, (component, place))
    # Numbers of columns stay whole beside the weights, which have none.
    return pandas_for("to_pandas").DataFrame({**table, "column": np.array(table["column"], object)})


def _reference(
    key: jax.Array,
    x: Any,
    weights: Any,
    fit: Any,
    n_components: int | None,
    n_restarts: int | None,
    options: dict[str, Any],
) -> tuple[FitResult, Evidence]:
    """The fit that is asked about, and the checked rows."""
    made = isinstance(fit, (FitResult, Mixture))
    if not made:
        if hasattr(fit, "best"):
            raise TypeError(
                f"fit is of type {type(fit).__name__}; expected one fit of it. Write fit.best in its place."
            )
        if not isinstance(fit, (str, Form)) and not (isinstance(fit, type) and issubclass(fit, Family)):
            raise TypeError(
                f"fit is of type {type(fit).__name__}; expected a FitResult, a Mixture or a form such as 'full'. The "
                "rows, x, come before it."
            )
        if n_components is None:
            raise ValueError(
                f"fit is the form {fit!r}, and n_components is missing; expected how many there are of it."
            )
        rows = known.unsharded(known.evidence(x, weights), "bootstrap")
        starts: dict[str, Any] = {} if n_restarts is None else {"n_restarts": n_restarts}
        key = jax.random.fold_in(key, 0)
        return fit_restarts(key, rows, n_components, fit, **starts, **options).best, rows
    mixture = fit.mixture if isinstance(fit, FitResult) else fit
    if shape := check_stack(mixture, "fit"):
        raise ValueError(
            f"fit is a stack of shape {shape}; this takes a single one. Write jax.tree.map(lambda leaf: leaf[0], fit) "
            "for the first."
        )
    for name, value in (("n_components", n_components), ("n_restarts", n_restarts)):
        if value is not None:
            raise ValueError(
                f"{name} is {value!r}, and fit is a {type(fit).__name__}, which has its components already; leave "
                f"{name} out, or give a form, such as 'full', in the place of fit."
            )
    mixture, rows = check_rows(mixture, x, weights, scored=False)
    rows = known.unsharded(rows, "bootstrap")
    return (fit if isinstance(fit, FitResult) else fit_from(mixture, rows, **options)), rows


def _dirichlet(generator: np.random.Generator, weights: np.ndarray, n_draws: int) -> np.ndarray:
    """Weights (n_draws, n) of Dirichlet's distribution with these parameters, times their sum."""
    mass = weights.astype(np.float64)
    drawn = generator.standard_gamma(mass, (n_draws, mass.size))
    # Weights far below 1 make draws near the smallest number, or all 0.
    largest = np.max(drawn, axis=1, keepdims=True)
    drawn = drawn / np.where(largest > 0, largest, 1)
    total = np.sum(drawn, axis=1, keepdims=True)
    drawn = (drawn * (mass.sum() / np.where(total > 0, total, 1))).astype(weights.dtype)
    # What the dtype has no number of full length for is next to nothing, and is flushed to it in some places only.
    return np.where(drawn < np.finfo(drawn.dtype).tiny, 0, drawn)


METHODS: dict[str, Callable[[np.random.Generator, np.ndarray, int], np.ndarray]] = {
    "resample": draws.resampled,
    "weighted": _dirichlet,
}
"""Ways to draw weights that are as good as those of the rows."""


def _work(mixture: Mixture, rows: Evidence, **options: Any) -> float:
    return float(_REFITS * _STEPS * mixture.n_components * rows.numbers)


@program(static=("acceleration", "block_size", "one_by_one"), work=_work)
def _refits(
    mixture: Mixture,
    rows: Evidence,
    *,
    shares: Float[Array, "b n"],
    tol: Float[Array, ""],
    max_iter: Int[Array, ""],
    regularization: Float[Array, ""],
    scale: Float[Array, " d"],
    objective: Objective,
    acceleration: str | None,
    block_size: int | None,
    one_by_one: bool,
) -> tuple[Mixture, Float[Array, " b"], Int[Array, " b"]]:
    """Fits from the mixture in each of the weights: aligned to it, their log-likelihood, and their status."""

    def one(own: Float[Array, " n"]) -> tuple[Mixture, Array, Array]:
        result = fit_from(
            mixture,
            dataclasses.replace(rows, weights=own),
            tol=tol,
            max_iter=max_iter,
            regularization=regularization,
            scale=scale,
            objective=objective,
            acceleration=acceleration,
            history_size=1,
            block_size=block_size,
        )
        # Labels number the components.
        found = align(result.mixture, mixture) if rows.labels is None else result.mixture
        return found, result.log_likelihood, result.status

    return jax.lax.map(one, shares) if one_by_one else jax.vmap(one)(shares)


def _parameters(mixture: Mixture) -> Parameters:
    """Of a mixture or a stack, in numpy."""
    numbers: Any = jax.device_get((mixture.weights, mixture.means, mixture.covariances))
    weights, means, covariances = numbers
    return Parameters(weights, means, np.sqrt(np.diagonal(covariances, axis1=-2, axis2=-1)), covariances)


def level_of(value: Any) -> float:
    """The level of intervals, checked."""
    if not isinstance(value, (int, float, np.number)):
        raise TypeError(f"level is {value!r}; expected a number between 0 and 1, such as 0.95.")
    if not 0 < value < 1:
        raise ValueError(f"level is {value!r}; expected a number between 0 and 1, such as 0.95.")
    return float(value)
