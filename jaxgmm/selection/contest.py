"""Candidates fitted in rounds of starts, of which those without hope are given up, and put side by side."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.families.family import Form
from jaxgmm.fitting.result import FitResult, Status
from jaxgmm.ground import checks, draws, known
from jaxgmm.ground.programs import program
from jaxgmm.ground.progress import Bar
from jaxgmm.ground.rows import Evidence
from jaxgmm.ground.threads import side_by_side
from jaxgmm.model.mixture import Mixture, places_of
from jaxgmm.model.objective import Objective, of_counts, within_data
from jaxgmm.selection.candidates import Candidate
from jaxgmm.selection.criteria import aic_of, aicc_of, bic_of, evidence_of, totals
from jaxgmm.selection.outliers import Seen, beyond, standing_alone
from jaxgmm.selection.restarts import Plan, Restarts, best_of_restarts, merged

# A candidate is given up that is further behind than so many times what its own starts are apart.
_HOPE = 2.0
Pair = tuple[str | Form, int]
"""A form and a number of components."""
# Restarts of each round that a pair took part in, or why there are none.
_Raced = dict[Pair, Any]


@dataclasses.dataclass(frozen=True)
class Contest:
    """How candidates are fitted and compared, whatever rows there are."""

    plans: dict[str | Form, Plan]
    key: jax.Array
    room: int
    n_rounds: int
    criterion: str
    n_folds: int

    def candidates(self, rows: Evidence, raced: _Raced, pairs: list[Pair]) -> tuple[Candidate, ...]:
        """The rows of the table, in the order of the pairs."""
        # No number of components is 0.
        for_folds = _folded(self.key, np.uint32(0))
        folds = _folds(for_folds, np.asarray(rows.weights), self.n_folds) if self.criterion == "cv" else None
        total = total_of(rows)

        def candidate(pair: Pair) -> Candidate:
            form, k = pair
            parts = raced[pair]
            if isinstance(parts, str):
                return Candidate(form, k, error=parts)
            restarts = merged(parts, bool(self.plans[form].spurious))
            mixture = restarts.best.mixture
            p: Any = self._n_parameters(pair, mixture, total)
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
                evidence=self._evidence(rows, pair, restarts),
                error=error,
            )

        return tuple(side_by_side(candidate, pairs, in_turn=rows.shards is not None))

    def standing_alone(self, rows: Evidence, raced: _Raced, most: int) -> np.ndarray:
        """Which of the rows (n,) stand alone beside the pair that is first; none if more than `most` are far."""
        ends, total = self._ends(raced), total_of(rows)

        def place(pair: Pair) -> tuple[bool, float]:
            return not _is_regular(ends[pair]), self._estimate(pair, ends[pair], total)

        first = min(ends, key=place, default=None)
        if first is None or int(ends[first].best.status) == Status.NON_FINITE:
            return np.zeros(rows.n, bool)

        def seen(mixture: Mixture, remain: np.ndarray) -> Seen:
            with rows.on_devices():
                far, suspect, doubtful = np.asarray(beyond(mixture, rows, _by_row(rows, remain)))
            return Seen(far, suspect, doubtful, np.asarray(mixture.weights), np.asarray(mixture.components.centers))

        x, present = np.asarray(rows.x), np.asarray(rows.weights) > 0
        if rows.seen is not None:
            x = np.where(np.asarray(rows.seen), x, np.nan)
        scale = np.asarray(self.plans[first[0]].scale)
        look = standing_alone(x, present, scale, seen(ends[first].best.mixture, present), most)
        try:
            remain = next(look)
            while True:
                remain = look.send(seen(self._fitted(only(rows, remain), first, 0).best.mixture, remain))
        except StopIteration as end:
            return end.value

    def first_round(self, rows: Evidence, pairs: list[Pair], bar: Bar) -> _Raced:
        """Starts of every pair."""
        # One of each form first, so that their programs are compiled side by side.
        first = [(form, self.room) for form in self.plans]
        return self._round(rows, 0, first, bar) | self._round(rows, 0, [p for p in pairs if p not in first], bar)

    def further_rounds(self, rows: Evidence, raced: _Raced, bar: Bar) -> _Raced:
        """The same with more starts of the pairs that may still win."""
        total = total_of(rows)
        going = [pair for pair, parts in raced.items() if not isinstance(parts, str)]
        bar.expect((len(going) - len(raced)) * (self.n_rounds - 1))
        for number in range(1, self.n_rounds):
            before = len(going)
            ends = self._ends({pair: raced[pair] for pair in going})
            going = self._hopeful(ends, total)
            bar.expect((len(going) - before) * (self.n_rounds - number))
            for pair, parts in self._round(rows, number, going, bar).items():
                raced = raced | {pair: parts if isinstance(parts, str) else [*raced[pair], *parts]}
            going = [pair for pair in going if not isinstance(raced[pair], str)]
        return raced

    def _round(self, rows: Evidence, number: int, pairs: list[Pair], bar: Bar) -> _Raced:
        found: _Raced = {}
        attempt = functools.partial(self._attempt, rows, number)
        done = side_by_side(attempt, pairs, in_turn=rows.shards is not None)
        for pair, one in zip(pairs, done, strict=True):
            found[pair] = one if isinstance(one, str) else [one]
            bar.update()
        return found

    def _ends(self, raced: _Raced) -> dict[Pair, Restarts]:
        """What the pairs have reached that could be fitted."""
        parts = {pair: parts for pair, parts in raced.items() if not isinstance(parts, str)}
        return {pair: merged(some, bool(self.plans[pair[0]].spurious)) for pair, some in parts.items()}

    def _hopeful(self, ends: dict[Pair, Restarts], total: float) -> list[Pair]:
        """Pairs whose next starts may still bring them to the front."""
        values = {pair: self._estimate(pair, one, total) for pair, one in ends.items()}
        likelihoods = {pair: float(one.best.log_likelihood) for pair, one in ends.items()}
        sound = [pair for pair in ends if _is_regular(ends[pair])]
        least = min((values[pair] for pair in sound), default=math.inf)

        def hopes(pair: Pair) -> bool:
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

    def _estimate(self, pair: Pair, restarts: Restarts, total: float) -> float:
        """The criterion as far as it is known before all is done, from a likelihood in the type of the rows."""
        if self.criterion == "evidence":
            return -2 * float(restarts.best.objective)
        value, p = float(restarts.best.log_likelihood), self._n_parameters(pair, restarts.best.mixture, total)
        if self.criterion in ("bic", "icl"):
            return float(bic_of(value, p, total, np))
        return float(aicc_of(value, p, total, np) if self.criterion == "aicc" else aic_of(value, p))

    def _n_parameters(self, pair: Pair, mixture: Mixture, total: float) -> int:
        objective = self.plans[pair[0]].objective
        if objective.all_free:
            known: Any = mixture.n_parameters
            return known
        total_of_type = np.asarray(total, mixture.log_weights.dtype)
        return int(_n_parameters(objective, mixture, total_of_type, self._present(pair)))

    def _evidence(self, rows: Evidence, pair: Pair, restarts: Restarts) -> float:
        if self.criterion != "evidence":
            return math.nan
        plan = self.plans[pair[0]]
        with rows.on_devices():
            return float(_evidence_of(plan.objective, restarts.best, rows, plan.scale, self._present(pair)))

    def _attempt(self, rows: Evidence, number: int, pair: Pair) -> Restarts | str:
        try:
            made_of = self.plans[pair[0]].form
            known.check_sizes(rows.log_evidence, rows.classes, [pair[1]], "a candidate", made_of.n_background)
            known.of_components(rows, made_of.with_background(self._present(pair)))
        except ValueError as unknown:
            return str(unknown)
        try:
            return jax.block_until_ready(self._fitted(rows, pair, number))
        except jax.errors.JaxRuntimeError as failure:
            return _first_line(failure)

    def _present(self, pair: Pair) -> Bool[Array, " k"]:
        return checks.present("n_components", pair[1], "max_components", self.room)

    def _fitted(self, rows: Evidence, pair: Pair, number: int, key: jax.Array | None = None) -> Restarts:
        """A round of starts of a pair."""
        form, k = pair
        own = _folded(self.key, np.uint32(k)) if key is None else key
        own = _folded(own, np.uint32(number)) if number else own
        with rows.on_devices():
            return best_of_restarts(self.plans[form], own, rows, self._present(pair))

    def _cross_validated(
        self, rows: Evidence, folds: np.ndarray, key: jax.Array, pair: Pair, n_rounds: int
    ) -> tuple[float, str | None]:
        value = 0.0
        for fold in range(self.n_folds):
            inside, own = only(rows, folds != fold), _folded(key, np.uint32(fold))
            parts = [self._fitted(inside, pair, number, own) for number in range(n_rounds)]
            fit = merged(parts, bool(self.plans[pair[0]].spurious)).best
            if int(fit.status) == Status.NON_FINITE:
                return math.nan, f"{Status.NON_FINITE.name} without fold {fold} of the cross-validation"
            value -= 2 * totals(fit.mixture, only(rows, folds == fold))[0]
        return value, None


def only(rows: Evidence, remain: np.ndarray) -> Evidence:
    """The rows, with weight 0 where they do not remain."""
    weights = np.asarray(rows.weights)
    return dataclasses.replace(rows, weights=_by_row(rows, np.where(remain, weights, 0).astype(weights.dtype)))


def _by_row(rows: Evidence, array: np.ndarray) -> Array:
    """What has an entry for each of the rows, where they are."""
    return jnp.asarray(array) if rows.shards is None else rows.shards.place(jnp.asarray(array))


def total_of(rows: Evidence) -> float:
    """What the weights of the rows that count add up to, in float64."""
    return float(np.sum(np.asarray(rows.counted), dtype=np.float64))


def _is_regular(restarts: Restarts) -> bool:
    return bool(np.asarray(restarts.regular)[int(restarts.winner)])


def _passed_over(restarts: Restarts) -> float:
    """How much higher a start came that led to a spurious component than the best fit."""
    fine = ~np.asarray(restarts.regular) & (np.asarray(restarts.status) != Status.NON_FINITE)
    reached = np.asarray(restarts.log_likelihood, np.float64)[fine]
    return max(0.0, float(np.max(reached, initial=-np.inf)) - float(restarts.best.log_likelihood))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


@program
def _folded(key: jax.Array, number: Any) -> jax.Array:
    return jax.random.fold_in(key, number)


@program
def _evidence_of(
    objective: Objective, best: FitResult, rows: Evidence, scale: Any, present: Bool[Array, " k"]
) -> Float[Array, ""]:
    rows = objective.rows_of(rows)
    return evidence_of(within_data(objective, rows, scale, present).counting(jnp.sum(rows.weights)), best)


@program
def _n_parameters(
    objective: Objective, mixture: Mixture, total: Float[Array, ""], present: Bool[Array, " k"]
) -> Int[Array, ""] | Float[Array, ""]:
    return jnp.asarray(of_counts(objective, mixture, total, present).n_parameters(mixture))


# One program for all that is asked of a candidate: each operation outside of one would be compiled by itself.
def _without_absent(result: FitResult, k: int) -> FitResult:
    """A fit of k components in arrays that have room for more."""
    # In numpy, or every k would compile slices of its own.
    result = jax.device_get(result)
    places = places_of(result.mixture, k)
    mixture = Mixture(result.mixture.log_weights[places], result.mixture.components.take(places))
    degenerate = result.degenerate_components[places]
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
