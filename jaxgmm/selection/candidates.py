"""What was tried when a model was chosen: a row for each candidate, and the table of them."""

import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from jaxgmm.families.family import Form
from jaxgmm.fitting.result import FitResult, Status
from jaxgmm.ground.schema import Schema
from jaxgmm.selection.restarts import Restarts

if TYPE_CHECKING:
    import pandas

CRITERIA = ("aic", "aicc", "bic", "icl", "cv", "evidence")
_COLUMNS = ("form", "n_components", "n_parameters", "log_likelihood", *CRITERIA, "status", "regular", "passed_over")
# What is not known unless it is asked for.
_ASKED_FOR = ("cv", "evidence")
_LISTED = 8


@dataclasses.dataclass(frozen=True, eq=False)
class Candidate:
    """One row of a `Selection`.

    Fields:
        form, n_components: what was fitted, as it was asked for.
        n_parameters: number of free parameters.
        result: the best fit, a `FitResult` of `n_components` components; None if there was an `error`.
        restarts: how all starts ended, a `Restarts` with room for more components than are present.
        regular: whether the best fit is without spurious components. Others are not chosen.
        passed_over: how much higher the log-likelihood was, at least, of a fit with a spurious component that some
            start led to; 0 if none was higher. Within the `resolution` of the selection it is none.
        log_likelihood: total, natural logarithm.
        aic, aicc, bic, icl: information criteria; NaN after an error. These, `log_likelihood` and `cv` are evaluated in
            float64, whatever the rows are in.
        cv: -2 times the total log-likelihood of rows held out, by k-fold cross-validation; NaN if not asked for.
        evidence: -2 times the bound of the log-evidence that a fit by `Variational` reached, of all orders of its
            components; NaN if not asked for.
        error: why there is no result, or no `cv`, if so.
    """

    form: str | Form
    n_components: int
    n_parameters: int = 0
    result: FitResult | None = None
    restarts: Restarts | None = None
    regular: bool = False
    passed_over: float = 0.0
    log_likelihood: float = math.nan
    aic: float = math.nan
    aicc: float = math.nan
    bic: float = math.nan
    icl: float = math.nan
    cv: float = math.nan
    evidence: float = math.nan
    error: str | None = None

    @property
    def name(self) -> str:
        """Form and number of components."""
        return f"{self.form} {self.n_components}"

    @property
    def status(self) -> str:
        """Name of the status of the best fit, or what went wrong."""
        if self.error is not None or self.result is None:
            return f"ERROR: {self.error}"
        return Status(int(self.result.status)).name


@dataclasses.dataclass(frozen=True)
class PassedOver:
    """A fit that the criterion prefers to the winner, and that is not chosen as a component of it is spurious.

    Fields: `candidate`, whose fit it is or whose starts led to it; `lower`, by how much, at least, in the criterion.
    """

    candidate: Candidate = dataclasses.field(repr=False)
    lower: float

    def __str__(self) -> str:
        start = " from another start" if self.candidate.regular else ""
        return f"{self.candidate.name}{start}, {self.lower:.2f} lower but with a spurious component"


@dataclasses.dataclass(frozen=True, eq=False)
class Selection:
    """Every candidate of `select`, and which of them the criterion prefers. Its text is a table, the best first.

    Fields:
        candidates: in the order they were asked for.
        criterion: by which lower is better.
        resolution: up to which two log-likelihoods are not told apart.
        schema: what the columns of the mixtures were called in the frame that was given, None if it was none.
        outliers: places of the rows that stand alone. They have weight 0 in every candidate.
        columns: places of the columns that were fitted, all but the constant ones.
        constants: the value, or the level, of each column that is constant and was left out, by its name or its place.
        spurious: whether a fit with a spurious component may be chosen.

    Candidates tie that have as many parameters and log-likelihoods no further apart than `resolution`; of these, the
    one that was asked for first goes first. In a single column, for instance, all structures that are not tied are one
    model, and their fits end in slightly different places: `tol` leaves that much open per unit weight. `resolution` is
    4 times that, as `tol` is compared with an estimate, or with the rounding of the rows' type where that is larger.
    """

    candidates: tuple[Candidate, ...]
    criterion: str
    resolution: float = 0.0
    schema: Schema | None = None
    outliers: tuple[int, ...] = ()
    columns: tuple[int, ...] = ()
    constants: dict[Any, Any] = dataclasses.field(default_factory=dict)
    spurious: bool = False

    @property
    def ranked(self) -> tuple[Candidate, ...]:
        """The candidates by the criterion, the best first; irregular and failed ones last."""

        def place(candidate: Candidate) -> tuple[bool, bool, float]:
            value = self._value(candidate)
            return math.isnan(value), not (candidate.regular or self.spurious), value

        rest, ranked = sorted(self.candidates, key=place), []
        while rest:
            least = rest[0]
            tied = [one for one in rest if self._tie(one, least) and place(one)[:2] == place(least)[:2]]
            ranked.append(min(tied, key=self.candidates.index, default=least))
            rest.remove(ranked[-1])
        return tuple(ranked)

    @property
    def winner(self) -> Candidate:
        """The candidate that the criterion prefers, among those with a regular fit if there are any."""
        return self.ranked[0]

    @property
    def best(self) -> FitResult:
        """The fit of the winner, as `fit` returns it.

        Raises:
            RuntimeError: no candidate could be fitted, or has a value of the criterion.
        """
        winner = self.winner
        if winner.result is None or math.isnan(self._value(winner)):
            raise RuntimeError(f"No candidate could be fitted; the first one: {winner.status}")
        return winner.result

    @property
    def passed_over(self) -> PassedOver | None:
        """The fit of the lowest criterion that was not chosen as a component is spurious; None if none is lower."""
        found = [PassedOver(one, self._value(self.winner) - self._lowest(one)) for one in self.candidates]
        lower = [one for one in found if one.lower > 2 * self.resolution]
        return max(lower, key=lambda one: one.lower, default=None)

    def rows(self) -> Iterator[dict[str, Any]]:
        """The table, row by row, the best first; `behind` says how far a candidate is from the winner, 0 for a tie."""
        winner = self.winner
        for candidate in self.ranked:
            names = [name for name in _COLUMNS if name not in _ASKED_FOR or name == self.criterion]
            row = {name: getattr(candidate, name) for name in names}
            behind = self._value(candidate) - self._value(winner)
            yield row | {"form": str(candidate.form), "behind": 0.0 if self._tie(candidate, winner) else behind}

    def notes(self, first: int = 0) -> Iterator[str]:
        """What the table does not say: a sentence for what was left out, set aside or passed over.

        Rows are counted from `first`.
        """
        for name, value in self.constants.items():
            which = "every row but those set aside" if self.outliers else "every row"
            shown = f"{value:g}" if isinstance(value, float) else repr(value)
            what = "has no entry that is seen" if shown == "nan" else f"is {shown} in {which}"
            yield f"Column {name!r} {what}, and is left out."
        if self.outliers:
            places = ", ".join(str(place + first) for place in self.outliers[:_LISTED])
            places += ", ..." if len(self.outliers) > _LISTED else ""
            what = (
                "1 row stands alone and is"
                if len(self.outliers) == 1
                else f"{len(self.outliers)} rows stand alone and are"
            )
            yield f"{what} set aside, with weight 0 in every candidate: {places}, counted from {first}."
        if lacking := [f"{one.name} below {less.name}" for less, one in self._falls()]:
            more = ", ..." if len(lacking) > _LISTED else ""
            yield f"Likelihoods that more starts would raise: {', '.join(lacking[:_LISTED])}{more}."
        if self.passed_over is not None:
            yield f"Passed over: {self.passed_over}."

    def _falls(self) -> Iterator[tuple[Candidate, Candidate]]:
        """Candidates with a lower likelihood than those of the same form with fewer components next to them."""
        by_form: dict[Any, list[Candidate]] = {}
        for one in sorted(self.candidates, key=lambda one: one.n_components):
            # Of what climbs something else, the likelihood may fall.
            climbs = one.result is None or float(one.result.objective) == float(one.result.log_likelihood)
            if climbs and not math.isnan(one.log_likelihood):
                by_form.setdefault(one.form, []).append(one)
        for mine in by_form.values():
            for less, one in itertools.pairwise(mine):
                if less.regular and one.log_likelihood < less.log_likelihood - self.resolution:
                    yield less, one

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
        return "\n".join([line.rstrip() for line in lines] + list(self.notes()))

    def _value(self, candidate: Candidate) -> float:
        return getattr(candidate, self.criterion)

    def _lowest(self, candidate: Candidate) -> float:
        """The criterion at the highest likelihood that is known, spurious or not."""
        asked = self.criterion in _ASKED_FOR
        known = 0.0 if asked or candidate.passed_over <= self.resolution else candidate.passed_over
        return self._value(candidate) - 2 * known

    def _tie(self, one: Candidate, other: Candidate) -> bool:
        gap = abs(one.log_likelihood - other.log_likelihood)
        return one.n_parameters == other.n_parameters and gap <= self.resolution


def _text(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)
