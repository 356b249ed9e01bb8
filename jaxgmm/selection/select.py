"""How many components, and of what structure: every candidate fitted and compared by a criterion."""

import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from jaxgmm.families.family import Form
from jaxgmm.families.table import form_of
from jaxgmm.fitting.result import FitResult, Status
from jaxgmm.ground import checks, draws
from jaxgmm.ground.programs import program
from jaxgmm.ground.schema import Schema, schema_of
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.scale import scale_of
from jaxgmm.selection.calls import shown, side_by_side
from jaxgmm.selection.criteria import aic_of, aicc_of, bic_of, totals
from jaxgmm.selection.restarts import METHODS, Plan, Restarts, best_of_restarts

if TYPE_CHECKING:
    import pandas

CRITERIA = ("aic", "aicc", "bic", "icl", "cv")
_COLUMNS = ("form", "n_components", "n_parameters", "log_likelihood", *CRITERIA, "status", "regular")
# Fits of one model differ by so many times `tol`, which they compare with an estimate, and per unit weight.
_OPEN = 4
_FORMS = ("full", "tied", "diag", "spherical")


@dataclasses.dataclass(frozen=True, eq=False)
class Candidate:
    """One row of a `Selection`.

    Fields:
        form, n_components: what was fitted, as it was asked for.
        n_parameters: number of free parameters.
        result: the best fit, a `FitResult` of `n_components` components; None if there was an `error`.
        restarts: how all starts ended, a `Restarts` with room for more components than are present.
        regular: whether the best fit is without spurious components. Others are not chosen.
        log_likelihood: total, natural logarithm.
        aic, aicc, bic, icl: information criteria; NaN after an error. These, `log_likelihood` and `cv` are evaluated in
            float64, whatever the rows are in.
        cv: -2 times the total log-likelihood of rows held out, by k-fold cross-validation; NaN if not asked for.
        error: why there is no result, or no `cv`, if so.
    """

    form: str | Form
    n_components: int
    n_parameters: int = 0
    result: FitResult | None = None
    restarts: Restarts | None = None
    regular: bool = False
    log_likelihood: float = math.nan
    aic: float = math.nan
    aicc: float = math.nan
    bic: float = math.nan
    icl: float = math.nan
    cv: float = math.nan
    error: str | None = None

    @property
    def status(self) -> str:
        """Name of the status of the best fit, or what went wrong."""
        if self.error is not None or self.result is None:
            return f"ERROR: {self.error}"
        return Status(int(self.result.status)).name


@dataclasses.dataclass(frozen=True, eq=False)
class Selection:
    """Every candidate of `select`, and which of them the criterion prefers. Its text is a table, the best first.

    Fields: `candidates`, in the order they were asked for; `criterion`, by which lower is better; `resolution`, up to
    which two log-likelihoods are not told apart; `schema`, what the columns of the frame were called that it was made
    from, None if it was none.

    Candidates tie that have as many parameters and log-likelihoods no further apart than `resolution`; of these, the
    one that was asked for first goes first. In a single column, for instance, all structures that are not tied are one
    model, and their fits end in slightly different places: `tol` leaves that much open per unit weight. `resolution` is
    4 times that, as `tol` is compared with an estimate, or with the rounding of the rows' type where that is larger.
    """

    candidates: tuple[Candidate, ...]
    criterion: str
    resolution: float = 0.0
    schema: Schema | None = None

    @property
    def ranked(self) -> tuple[Candidate, ...]:
        """The candidates by the criterion, the best first; irregular and failed ones last."""

        def place(candidate: Candidate) -> tuple[bool, bool, float]:
            value = getattr(candidate, self.criterion)
            return math.isnan(value), not candidate.regular, value

        rest, ranked = sorted(self.candidates, key=place), []
        while rest:
            least = rest[0]
            tied = [one for one in rest if self._tie(one, least) and place(one)[:2] == place(least)[:2]]
            ranked.append(min(tied, key=self.candidates.index, default=least))
            rest.remove(ranked[-1])
        return tuple(ranked)

    def _tie(self, one: Candidate, other: Candidate) -> bool:
        gap = abs(one.log_likelihood - other.log_likelihood)
        return one.n_parameters == other.n_parameters and gap <= self.resolution

    @property
    def winner(self) -> Candidate:
        """The candidate that the criterion prefers, among those with a regular fit."""
        return self.ranked[0]

    @property
    def best(self) -> FitResult:
        """The fit of the winner, as `fit` returns it.

        Raises:
            RuntimeError: no candidate could be fitted, or has a value of the criterion.
        """
        winner = self.winner
        if winner.result is None or math.isnan(getattr(winner, self.criterion)):
            raise RuntimeError(f"No candidate could be fitted; the first one: {winner.status}")
        return winner.result

    def rows(self) -> Iterator[dict[str, Any]]:
        """The table, row by row, the best first; `behind` says how far a candidate is from the winner, 0 for a tie."""
        winner = self.winner
        for candidate in self.ranked:
            row = {name: getattr(candidate, name) for name in _COLUMNS if name != "cv" or self.criterion == "cv"}
            behind = getattr(candidate, self.criterion) - getattr(winner, self.criterion)
            yield row | {"form": str(candidate.form), "behind": 0.0 if self._tie(candidate, winner) else behind}

    def to_pandas(self) -> "pandas.DataFrame":
        """The table as a data frame (needs pandas)."""
        try:
            import pandas
        except ImportError:
            raise ImportError("to_pandas needs pandas: pip install 'jaxgmm[table]'.") from None
        return pandas.DataFrame(list(self.rows()))

    def __repr__(self) -> str:
        names = ("form", "n_components", "n_parameters", "log_likelihood", self.criterion, "behind")
        shown = ("form", "k", "parameters", "log-likelihood", self.criterion, "behind")
        cells = [[*shown, ""]]
        for row in self.rows():
            there = not math.isnan(row["log_likelihood"])
            notes = [row["status"]] * (row["status"] != Status.CONVERGED.name)
            notes += ["spurious"] * (there and not row["regular"])
            cells.append([_text(row[name]) for name in names] + [" ".join(notes)])
        widths = [max(len(line[place]) for line in cells) for place in range(len(shown))]
        lines = [
            "  ".join([line[0].ljust(widths[0]), *(line[i].rjust(widths[i]) for i in range(1, len(shown))), line[-1]])
            for line in cells
        ]
        return "\n".join(line.rstrip() for line in lines)


def select(
    key: jax.Array,
    x: Any,
    n_components: Iterable[int] | int = range(1, 11),
    forms: Sequence[str | Form] | str | Form = _FORMS,
    *,
    criterion: str = "bic",
    weights: Any = None,
    n_folds: int = 5,
    progress: bool = False,
    n_restarts: int = 40,
    n_finalists: int = 4,
    screening_tol: Any = 1e-3,
    methods: Sequence[str] = METHODS,
    spurious: Any = False,
    lanes: int | None = None,
    tol: Any = 1e-6,
    max_iter: Any = 1000,
    regularization: Any = 1e-6,
    scale: Any = None,
    objective: Any = None,
    acceleration: str | None = "anderson",
    history_size: int = 128,
    block_size: int | None = None,
) -> Selection:
    """The best number of components and form by a criterion, and all that it was chosen from.

    Every candidate is fitted by `fit_restarts`. Each form is compiled once: the numbers of components share one
    program that has room for the largest. A candidate that fails has its own row, and the others go on.

    Args:
        key: what is drawn is drawn with this key.
        x: rows (n, d), an array or a frame, whose names the selection keeps.
        n_components: numbers of components to try, or one.
        forms: what the components may be, or one of it; each as `form` of `init`.
        criterion: "aic", "aicc", "bic", "icl", or "cv" for the log-likelihood of held-out rows by cross-validation.
            Lower is better for all of them.
        weights: of the rows (n,); they count rows, as in `bic`. Default ones.
        n_folds: number of folds of "cv". The rows of positive weight are dealt out at random, each with its weight. A
            candidate that cannot be fitted to one of the folds has no `cv`, and says so as its status.
        progress: show a progress bar (needs tqdm).
        scale: of each column (d,), for all candidates and folds: the floor is a part of what is compared. Default that
            of the rows.

    All others are as for `fit_restarts`; fewer starts, as many candidates are far from the winner.

    Raises:
        TypeError, ValueError: as for `fit_restarts`, and an unknown criterion or nothing to try.

    >>> import jax, jaxgmm
    >>> x = jax.random.normal(jax.random.key(0), (300, 2)).at[:100].add(7.0)
    >>> table = jaxgmm.select(jax.random.key(1), x, range(1, 4), ("spherical",), n_restarts=4)
    >>> table.winner.n_components
    2
    >>> print(table.best.mixture.means.shape)
    (2, 2)
    """
    criterion = checks.one_of("criterion", criterion, CRITERIA)
    key = checks.key(key)
    schema = schema_of(x)
    rows = checks.unsharded(checks.evidence(x, weights), "select")
    ks = [checks.count("n_components", k) for k in _listed(n_components)]
    # As they were asked for, each once.
    forms = list({form_of(form): form for form in reversed(_listed(forms))}.values())[::-1]
    if not ks or not forms:
        raise ValueError("n_components and forms hold nothing to try; expected at least one of each.")
    dtype, given = rows.x.dtype, np.asarray(rows.weights)
    scale = scale_of(rows) if scale is None else scale
    planned = functools.partial(
        Plan.of,
        dtype,
        (max(ks), rows.x.shape[1]),
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
    plans = {form: planned(form) for form in forms}
    # No number of components is 0.
    for_folds = _folded(key, np.uint32(0))
    folds = _folds(for_folds, given, checks.count("n_folds", n_folds, 2)) if criterion == "cv" else None
    total = float(np.sum(given, dtype=np.float64))

    def candidate(form: str | Form, k: int) -> Candidate:
        present = checks.present("n_components", k, "max_components", max(ks))
        own = _folded(key, np.uint32(k))
        try:
            checks.labelled_components(rows, present)
        except ValueError as unknown:
            return Candidate(form, k, error=str(unknown))
        try:
            restarts = jax.block_until_ready(best_of_restarts(plans[form], own, rows, present))
            mixture = restarts.best.mixture
            p, value, completed, held_out, error = mixture.n_parameters, math.nan, math.nan, math.nan, None
            # What a failed fit leaves may have a likelihood in float64, which says nothing about the candidate.
            if restarts.best.status != Status.NON_FINITE:
                value, completed = totals(mixture, rows)
                if folds is not None:
                    held_out, error = cross_validated(form, present)
            return Candidate(
                form=form,
                n_components=k,
                n_parameters=p,
                result=_without_absent(restarts.best, k),
                restarts=restarts,
                regular=bool(np.asarray(restarts.regular)[restarts.winner]),
                log_likelihood=value,
                aic=float(aic_of(value, p)),
                aicc=float(aicc_of(value, p, total, np)),
                bic=float(bic_of(value, p, total, np)),
                icl=float(bic_of(completed, p, total, np)),
                cv=held_out,
                error=error,
            )
        except jax.errors.JaxRuntimeError as error:
            return Candidate(form, k, error=str(error).splitlines()[0])

    def cross_validated(form: str | Form, present: Bool[Array, " k"]) -> tuple[float, str | None]:
        value = 0.0
        for fold in range(n_folds):
            inside = dataclasses.replace(rows, weights=jnp.asarray(np.where(folds == fold, 0, given)))
            fit = best_of_restarts(plans[form], _folded(for_folds, np.uint32(fold)), inside, present).best
            if fit.status == Status.NON_FINITE:
                return math.nan, f"{Status.NON_FINITE.name} without fold {fold} of the cross-validation"
            outside = dataclasses.replace(rows, weights=rows.weights - inside.weights)
            value -= 2 * totals(fit.mixture, outside)[0]
        return value, None

    wanted = [(form, k) for form in forms for k in ks]
    # One of each form first, so that their programs are compiled side by side.
    first = [(form, max(ks)) for form in forms]
    rest = [pair for pair in wanted if pair not in first]
    done = (one for part in (first, rest) for one in side_by_side(lambda pair: candidate(*pair), part))
    found = dict(zip(first + rest, shown(done, len(wanted), progress, "candidates"), strict=True))
    least = max(float(plans[forms[0]].tol), float(jnp.finfo(dtype).eps))
    return Selection(tuple(found[pair] for pair in wanted), criterion, _OPEN * least * total, schema)


def _listed(value: Any) -> list[Any]:
    """What there is several of, or one."""
    try:
        return [value] if isinstance(value, str) else list(value)
    except TypeError:
        return [value]


@program
def _folded(key: jax.Array, number: Any) -> jax.Array:
    return jax.random.fold_in(key, number)


# One program for all that is asked of a candidate: each operation outside of one would be compiled by itself.
def _without_absent(result: FitResult, k: int) -> FitResult:
    """A fit of k components in arrays that have room for more."""
    # In numpy, or every k would compile slices of its own.
    result = jax.device_get(result)
    mixture = Mixture(result.mixture.log_weights[:k], result.mixture.components.take(np.arange(k)))
    degenerate = result.degenerate_components[:k]
    return jax.device_put(dataclasses.replace(result, mixture=mixture, degenerate_components=degenerate))


def _folds(key: jax.Array, weights: np.ndarray, n_folds: int) -> np.ndarray:
    """Which of the folds each row is in that is present; these are dealt out evenly, the others are in none, -1."""
    present = np.flatnonzero(weights > 0)
    if present.size < n_folds:
        raise ValueError(
            f"n_folds is {n_folds} and x has {present.size} rows of positive weight; expected no more folds than rows."
        )
    folds = np.full(weights.size, -1)
    folds[draws.on_the_host(key).permutation(present)] = np.arange(present.size) % n_folds
    return folds


def _text(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)
