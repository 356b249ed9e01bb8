"""How many components, and of what structure: every candidate fitted and compared by a criterion."""

import dataclasses
import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from jaxgmm.families.family import Form
from jaxgmm.families.table import form_of
from jaxgmm.fitting.result import FitResult, Status
from jaxgmm.ground import checks, draws
from jaxgmm.ground.programs import program
from jaxgmm.ground.rows import Evidence
from jaxgmm.ground.schema import Schema, schema_of
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.scale import scale_of
from jaxgmm.selection.calls import Bar, side_by_side
from jaxgmm.selection.candidates import CRITERIA, Candidate, Selection
from jaxgmm.selection.criteria import aic_of, aicc_of, bic_of, totals
from jaxgmm.selection.outliers import standing_alone
from jaxgmm.selection.restarts import LANES, METHODS, Plan, Restarts, best_of_restarts, merged

OUTLIERS = ("exclude", "keep")
# Fits of one model differ by so many times `tol`, which they compare with an estimate, and per unit weight.
_OPEN = 4
_FORMS = ("full", "tied", "diag", "spherical")
# Starts by default, of up to so many numbers; fewer of more, and starts after which candidates are compared.
_STARTS, _NUMBERS, _ROUND = 40, 2**18, 4
# A candidate is given up that is further behind than so many times what its own starts are apart.
_HOPE = 2.0
# So often are rows looked for that stand alone, each of which may hide others.
_LOOKS = 5
_Pair = tuple[str | Form, int]
# Restarts of each round that a pair took part in, or why there are none.
_Raced = dict[_Pair, Any]


def select(
    key: jax.Array,
    x: Any,
    n_components: Iterable[int] | int = range(1, 11),
    forms: Sequence[str | Form] | str | Form = _FORMS,
    *,
    criterion: str = "bic",
    weights: Any = None,
    n_folds: int = 5,
    outliers: str = "exclude",
    progress: bool = False,
    n_restarts: int | None = None,
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

    Starts come in rounds of about 4 on a CPU, and of 64 elsewhere. After each, a candidate is given up that is further
    behind the first by the criterion than twice what the better half of its own starts are apart.

    A component on a single row has whatever likelihood the floor of variances allows, so no criterion can compare it.
    Rows that stand alone are therefore found once, beside the fit that the criterion prefers, have weight 0 in every
    candidate, and are listed: so all candidates are compared on the same rows. Constant columns, which no mixture can
    tell anything by, are left out and listed.

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
        outliers: "exclude" rows that stand alone, some 8 standard deviations or more from every component of the fit
            that is first, with no more than d others near them, or 4 where d is larger; or "keep" them.
        progress: show a progress bar (needs tqdm); where there is no terminal, a line now and then.
        n_restarts: number of starts of each candidate that is not given up, rounded up to whole rounds. Default 40;
            fewer, but at least 8, where x holds more than 2^18 numbers.
        scale: of each column (d,), for all candidates and folds: the floor is a part of what is compared. Default that
            of the rows.

    All others are as for `fit_restarts`.

    Raises:
        TypeError, ValueError: as for `fit_restarts`, an unknown criterion, nothing to try, no column that varies, or
            one that spreads by too little or too much for squares in its type.

    >>> import jax, jaxgmm
    >>> x = jax.random.normal(jax.random.key(0), (300, 2)).at[:100].add(7.0)
    >>> table = jaxgmm.select(jax.random.key(1), x.at[0].set(1e4), range(1, 4), ("spherical",), n_restarts=4)
    >>> table.winner.n_components, table.outliers
    (2, (0,))
    >>> print(table.best.mixture.means.shape)
    (2, 2)
    """
    criterion = checks.one_of("criterion", criterion, CRITERIA)
    outliers = checks.one_of("outliers", outliers, OUTLIERS)
    key = checks.key(key)
    schema = schema_of(x)
    rows = checks.unsharded(checks.evidence(x, weights), "select")
    ks = [checks.count("n_components", k) for k in _listed(n_components)]
    # As they were asked for, each once.
    forms = list({form_of(form): form for form in reversed(_listed(forms))}.values())[::-1]
    if not ks or not forms:
        raise ValueError("n_components and forms hold nothing to try; expected at least one of each.")
    whole, dtype = rows, rows.x.dtype
    given = checks.scale(scale, rows.x.shape[1], dtype)
    n_restarts = _starts(rows.x.size) if n_restarts is None else checks.count("n_restarts", n_restarts)
    n_rounds = max(1, n_restarts // (_ROUND if jax.default_backend() == "cpu" else LANES))
    n_finalists = math.ceil(checks.count("n_finalists", n_finalists) / n_rounds)
    n_folds = checks.count("n_folds", n_folds, 2)

    def contest_of(rows: Evidence, columns: list[int]) -> _Contest:
        planned = functools.partial(
            Plan.of,
            dtype,
            (max(ks), len(columns)),
            n_restarts=math.ceil(n_restarts / n_rounds),
            n_finalists=n_finalists,
            screening_tol=screening_tol,
            methods=methods,
            spurious=spurious,
            lanes=lanes,
            tol=tol,
            max_iter=max_iter,
            regularization=regularization,
            scale=scale_of(rows) if given is None else np.asarray(given)[columns],
            objective=objective,
            acceleration=acceleration,
            history_size=history_size,
            block_size=block_size,
        )
        return _Contest({form: planned(form) for form in forms}, key, max(ks), n_rounds, criterion, n_folds)

    pairs = [(form, k) for form in forms for k in ks]
    alone = _without_squares(whole) if outliers == "exclude" else np.zeros(rows.n, bool)
    whole = _only(whole, ~alone) if alone.any() else whole
    with Bar(len(pairs) * n_rounds, progress, "fits") as bar:
        # After the first round and, as another candidate may be first then, after the last.
        for looks in reversed(range(_LOOKS + 1)):
            columns, constants = _varying(whole, schema)
            rows = whole if not constants else _of_columns(whole, columns)
            contest = contest_of(rows, columns)
            looking = outliers == "exclude" and looks > 0
            raced = contest.first_round(rows, pairs, bar)
            more = contest.standing_alone(rows, raced) if looking else alone & ~alone
            if not more.any():
                raced = contest.further_rounds(rows, raced, bar)
                more = contest.standing_alone(rows, raced) if looking else more
            if not more.any():
                break
            alone |= more
            whole = _only(whole, ~alone)
            bar.restart()
    least = max(float(contest.plans[forms[0]].tol), float(jnp.finfo(dtype).eps))
    return Selection(
        contest.candidates(rows, raced, pairs),
        criterion,
        _OPEN * least * _total(rows),
        Schema([schema.names[place] for place in columns]) if schema is not None else None,
        outliers=tuple(np.flatnonzero(alone).tolist()),
        columns=tuple(columns),
        constants=constants,
        spurious=bool(spurious),
    )


@dataclasses.dataclass(frozen=True)
class _Contest:
    """How candidates are fitted and compared, whatever rows there are."""

    plans: dict[str | Form, Plan]
    key: jax.Array
    room: int
    n_rounds: int
    criterion: str
    n_folds: int

    def candidates(self, rows: Evidence, raced: _Raced, pairs: list[_Pair]) -> tuple[Candidate, ...]:
        """The rows of the table, in the order of the pairs."""
        # No number of components is 0.
        for_folds = _folded(self.key, np.uint32(0))
        folds = _folds(for_folds, np.asarray(rows.weights), self.n_folds) if self.criterion == "cv" else None
        total = _total(rows)

        def candidate(pair: _Pair) -> Candidate:
            form, k = pair
            parts = raced[pair]
            if isinstance(parts, str):
                return Candidate(form, k, error=parts)
            restarts = merged(parts, bool(self.plans[form].spurious))
            mixture = restarts.best.mixture
            p: Any = mixture.n_parameters
            value, completed, held_out, error = math.nan, math.nan, math.nan, None
            try:
                # What a failed fit leaves may have a likelihood in float64, which says nothing about the candidate.
                if int(restarts.best.status) != Status.NON_FINITE:
                    value, completed = totals(mixture, rows)
                    if folds is not None:
                        held_out, error = self._cross_validated(rows, folds, for_folds, pair, len(parts))
            except jax.errors.JaxRuntimeError as failure:
                return Candidate(form, k, error=_first_line(failure))
            return Candidate(
                form=form,
                n_components=k,
                n_parameters=p,
                result=_without_absent(restarts.best, k),
                restarts=restarts,
                regular=_is_regular(restarts),
                passed_over=_passed_over(restarts),
                log_likelihood=value,
                aic=float(aic_of(value, p)),
                aicc=float(aicc_of(value, p, total, np)),
                bic=float(bic_of(value, p, total, np)),
                icl=float(bic_of(completed, p, total, np)),
                cv=held_out,
                error=error,
            )

        return tuple(side_by_side(candidate, pairs))

    def standing_alone(self, rows: Evidence, raced: _Raced) -> np.ndarray:
        """Which of the rows stand alone beside the pair that is first."""
        ends, total = self._ends(raced), _total(rows)

        def place(pair: _Pair) -> tuple[bool, float]:
            return not _is_regular(ends[pair]), self._estimate(ends[pair], total)

        first = min(ends, key=place, default=None)
        if first is None or int(ends[first].best.status) == Status.NON_FINITE:
            return np.zeros(rows.n, bool)

        def refit(remain: np.ndarray) -> Mixture:
            return self._fitted(_only(rows, remain), first, 0).best.mixture

        return standing_alone(ends[first].best.mixture, rows, self.plans[first[0]].scale, refit)

    def first_round(self, rows: Evidence, pairs: list[_Pair], bar: Bar) -> _Raced:
        """Starts of every pair."""
        # One of each form first, so that their programs are compiled side by side.
        first = [(form, self.room) for form in self.plans]
        return self._round(rows, 0, first, bar) | self._round(rows, 0, [p for p in pairs if p not in first], bar)

    def further_rounds(self, rows: Evidence, raced: _Raced, bar: Bar) -> _Raced:
        """The same with more starts of the pairs that may still win."""
        total = _total(rows)
        going = [pair for pair, parts in raced.items() if not isinstance(parts, str)]
        bar.shorten((len(raced) - len(going)) * (self.n_rounds - 1))
        for number in range(1, self.n_rounds):
            before = len(going)
            ends = self._ends({pair: raced[pair] for pair in going})
            going = self._hopeful(ends, total)
            bar.shorten((before - len(going)) * (self.n_rounds - number))
            for pair, parts in self._round(rows, number, going, bar).items():
                raced = raced | {pair: parts if isinstance(parts, str) else [*raced[pair], *parts]}
            going = [pair for pair in going if not isinstance(raced[pair], str)]
        return raced

    def _round(self, rows: Evidence, number: int, pairs: list[_Pair], bar: Bar) -> _Raced:
        found: _Raced = {}
        done = side_by_side(functools.partial(self._attempt, rows, number), pairs)
        for pair, one in zip(pairs, done, strict=True):
            found[pair] = one if isinstance(one, str) else [one]
            bar.update()
        return found

    def _ends(self, raced: _Raced) -> dict[_Pair, Restarts]:
        """What the pairs have reached that could be fitted."""
        parts = {pair: parts for pair, parts in raced.items() if not isinstance(parts, str)}
        return {pair: merged(some, bool(self.plans[pair[0]].spurious)) for pair, some in parts.items()}

    def _hopeful(self, ends: dict[_Pair, Restarts], total: float) -> list[_Pair]:
        """Pairs whose next starts may still bring them to the front."""
        values = {pair: self._estimate(one, total) for pair, one in ends.items()}
        likelihoods = {pair: float(one.best.log_likelihood) for pair, one in ends.items()}
        sound = [pair for pair in ends if _is_regular(ends[pair])]
        least = min((values[pair] for pair in sound), default=math.inf)

        def hopes(pair: _Pair) -> bool:
            reached = np.asarray(ends[pair].log_likelihood, np.float64)
            reached = reached[np.isfinite(reached)]
            if not reached.size:
                return True
            # Those that were not continued may be so far from where they would have ended.
            short = total * float(self.plans[pair[0]].screening_tol)
            apart = float(np.max(reached) - np.median(reached))
            # More components can do what fewer do: a start that does is still to be found.
            fewer = [likelihoods[other] for other in sound if other[0] == pair[0] and other[1] < pair[1]]
            lacks = max(0.0, max(fewer, default=-math.inf) - likelihoods[pair])
            return not values[pair] - least > 2 * (_HOPE * max(apart, lacks) + short)

        return [pair for pair in ends if hopes(pair)]

    def _estimate(self, restarts: Restarts, total: float) -> float:
        """The criterion as far as it is known before all is done, from a likelihood in the type of the rows."""
        value, p = float(restarts.best.log_likelihood), restarts.best.mixture.n_parameters
        if self.criterion in ("bic", "icl"):
            return float(bic_of(value, p, total, np))
        return float(aicc_of(value, p, total, np) if self.criterion == "aicc" else aic_of(value, p))

    def _attempt(self, rows: Evidence, number: int, pair: _Pair) -> Restarts | str:
        try:
            checks.labelled_components(rows, self._present(pair))
        except ValueError as unknown:
            return str(unknown)
        try:
            return jax.block_until_ready(self._fitted(rows, pair, number))
        except jax.errors.JaxRuntimeError as failure:
            return _first_line(failure)

    def _present(self, pair: _Pair) -> Bool[Array, " k"]:
        return checks.present("n_components", pair[1], "max_components", self.room)

    def _fitted(self, rows: Evidence, pair: _Pair, number: int, key: jax.Array | None = None) -> Restarts:
        """A round of starts of a pair."""
        form, k = pair
        own = _folded(self.key, np.uint32(k)) if key is None else key
        own = _folded(own, np.uint32(number)) if number else own
        return best_of_restarts(self.plans[form], own, rows, self._present(pair))

    def _cross_validated(
        self, rows: Evidence, folds: np.ndarray, key: jax.Array, pair: _Pair, n_rounds: int
    ) -> tuple[float, str | None]:
        value = 0.0
        for fold in range(self.n_folds):
            inside, own = _only(rows, folds != fold), _folded(key, np.uint32(fold))
            parts = [self._fitted(inside, pair, number, own) for number in range(n_rounds)]
            fit = merged(parts, bool(self.plans[pair[0]].spurious)).best
            if int(fit.status) == Status.NON_FINITE:
                return math.nan, f"{Status.NON_FINITE.name} without fold {fold} of the cross-validation"
            value -= 2 * totals(fit.mixture, _only(rows, folds == fold))[0]
        return value, None


def _starts(size: int) -> int:
    """Of each candidate where the rows hold so many numbers."""
    return max(2 * _ROUND, min(_STARTS, _STARTS * _NUMBERS // max(size, 1)))


def _varying(rows: Evidence, schema: Schema | None) -> tuple[list[int], dict[Any, float]]:
    """Places of the columns that vary, and the values of the others, by name or place."""
    x = np.asarray(rows.x)[np.asarray(rows.weights) > 0]
    least, most = np.min(x, axis=0), np.max(x, axis=0)
    constant = most - least <= 4 * np.finfo(x.dtype).eps * np.abs(least)
    if constant.all():
        raise ValueError(
            f"x has no column that varies: every row is {x[0].tolist()}. There is nothing that a mixture could tell."
        )
    names = range(x.shape[1]) if schema is None else schema.names
    info = np.finfo(x.dtype)
    with np.errstate(over="ignore", under="ignore"):
        wrong = ~constant & ~((most - least > 2**8 * np.sqrt(info.tiny)) & (most - least < np.sqrt(info.max) / 2**4))
    if wrong.any():
        place = int(np.argmax(wrong))
        raise ValueError(
            f"x spreads by {most[place] - least[place]:.3g} in column {names[place]!r}, whose square is none that "
            f"{x.dtype} can hold: give it in another unit."
        )
    constants = {name: float(value) for name, value, one in zip(names, least, constant, strict=True) if one}
    return np.flatnonzero(~constant).tolist(), constants


def _without_squares(rows: Evidence) -> np.ndarray:
    """Which rows, if they are few, are so far out that the squares of their distances are not finite, (n,)."""
    x = np.asarray(rows.x)
    present = np.asarray(rows.weights) > 0
    far = present & np.any(np.abs(np.where(present[:, None], x, 0)) > np.sqrt(np.finfo(x.dtype).max) / 2**8, axis=1)
    return far if np.sum(far) <= x.shape[1] + np.sum(present) // 100 else np.zeros_like(far)


def _of_columns(rows: Evidence, columns: list[int]) -> Evidence:
    return dataclasses.replace(rows, x=jnp.asarray(np.asarray(rows.x)[:, columns]))


def _only(rows: Evidence, remain: np.ndarray) -> Evidence:
    """The rows, with weight 0 where they do not remain."""
    weights = np.asarray(rows.weights)
    return dataclasses.replace(rows, weights=jnp.asarray(np.where(remain, weights, 0).astype(weights.dtype)))


def _total(rows: Evidence) -> float:
    return float(np.sum(np.asarray(rows.weights), dtype=np.float64))


def _is_regular(restarts: Restarts) -> bool:
    return bool(np.asarray(restarts.regular)[int(restarts.winner)])


def _passed_over(restarts: Restarts) -> float:
    """How much higher a start came that led to a spurious component than the best fit."""
    fine = ~np.asarray(restarts.regular) & (np.asarray(restarts.status) != Status.NON_FINITE)
    reached = np.asarray(restarts.log_likelihood, np.float64)[fine]
    return max(0.0, float(np.max(reached, initial=-np.inf)) - float(restarts.best.log_likelihood))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


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
