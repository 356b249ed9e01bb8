"""`jaxgmm fit`."""

import dataclasses
import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

import jaxgmm
from jaxgmm.cli import applying, report
from jaxgmm.cli.figure import check_figure, draw
from jaxgmm.cli.layout import Layout
from jaxgmm.cli.partial import MISSING
from jaxgmm.cli.problem import NOT_FITTED, Problem
from jaxgmm.cli.selected import Selected
from jaxgmm.cli.tables import Table, check_folder, opened
from jaxgmm.covariance.table import STRUCTURES
from jaxgmm.ground.programs import program
from jaxgmm.model.mixture import order_of
from jaxgmm.model.objective import objective_of, of_counts
from jaxgmm.selection.candidates import CRITERIA
from jaxgmm.selection.select import OUTLIERS

# Starts of each candidate, and how many of these go on to the end; the usual number depends on the size of the table.
_STARTS: dict[str, dict[str, Any]] = {
    "low": {"n_restarts": 8, "n_finalists": 1},
    "normal": {},
    "high": {"n_restarts": 200, "n_finalists": 20},
}


OBJECTIVES: dict[str, Any] = {
    "likelihood": None,
    "map": jaxgmm.Posterior(),
    "variational": jaxgmm.Variational(),
}
"""What a fit may climb, by the names of the option."""


@dataclasses.dataclass(frozen=True)
class FitCommand:
    """What the command was asked for."""

    data: str
    layout: Layout
    components: str | None
    forms: str
    criterion: str
    objective: str
    columns: list[str] | None
    exclude: list[str] | None
    weights: str | None
    labels: str | None
    noise: str | None
    missing: str
    outliers: str
    dtype: str
    seed: int
    effort: str
    restarts: int | None
    sort: str | None
    options: dict[str, Any]

    def run(self, *, out: str | None, assign: str | None, figure: str | None, prefix: str, json: bool) -> None:
        """Fit, write what was asked for, and report."""
        ks, forms = self.candidates(CRITERIA)
        if self.sort is not None and self.labels is not None:
            raise Problem("--sort and --labels both say in what order components are; leave --sort out.", 2)
        check_folders(out, assign, figure)
        if figure is not None:
            check_figure(figure)
        with opened(self.data, self.layout) as table:
            if assign is not None:
                applying.check_names(table, applying.assigned(prefix))
            rows = self.rows(table)
            if self.sort is not None:
                _check_sort(self.sort, rows.columns)
            if self.labels is not None:
                ks = self._with_classes(ks, rows)
            if len(rows.x) < max(ks):
                raise Problem(f"{table.name}: {len(rows.x)} rows; expected at least as many as components, {max(ks)}.")
            x, weights = rows.evidence()
            selection = jaxgmm.select(
                applying.drawn_with(self.seed),
                x,
                ks,
                forms,
                criterion=self.criterion,
                objective=OBJECTIVES[self.objective],
                weights=weights,
                outliers=self.outliers,
                **self.starts(_STARTS),
                progress=True,
                **self.options,
            )
            sound(selection)
            drawn = rows.of_columns(list(selection.columns))
            rows, selection = rows.of(selection), rows.told(selection)
            if self.objective == "variational":
                selection, notes = _kept(selection, rows)
                rows = dataclasses.replace(rows, notes=[*rows.notes, *notes])
            if self.sort is not None:
                selection = _sorted(selection, self.sort, rows.columns)
            mixture = selection.best.mixture
            metadata = self._metadata(table, rows, selection, mixture)
            loaded = applying.Loaded(out or "the model", mixture, metadata, selection.schema)
            if out is not None:
                jaxgmm.save(out, mixture, metadata, selection.schema)
            if assign is not None:
                known = applying.Known(self.missing, self.noise, rows.every_label)
                applying.assign(loaded, table, assign, self.layout, prefix, known)
        if figure is not None and (note := draw(figure, selection, drawn.record(), rows.columns)):
            rows = dataclasses.replace(rows, notes=[*rows.notes, note])
        unsaved = out is None and assign is None and figure is None
        report.fitted(
            selection, loaded, rows, json=json, to_stderr=assign == "-", unsaved=unsaved, saved=out is not None
        )

    def candidates(self, criteria: Collection[str]) -> tuple[list[int], list[str]]:
        """Numbers of components and forms to try, once all options are known to say something."""
        ks, forms = counts(self.components or "1:10"), _known("--forms", self.forms.split(","), STRUCTURES)
        _known("--criterion", [self.criterion], criteria)
        _known("--objective", [self.objective], OBJECTIVES)
        if self.criterion == "evidence" and self.objective != "variational":
            raise Problem("--criterion evidence is of fits that climb it; say --objective variational as well.", 2)
        _known("--missing", [self.missing], MISSING)
        _known("--outliers", [self.outliers], OUTLIERS)
        _known("--dtype", [self.dtype], ("float32", "float64"))
        _known("--effort", [self.effort], _STARTS)
        return ks, forms

    def starts(self, by_effort: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        """How many starts each candidate gets."""
        return by_effort[self.effort] if self.restarts is None else {"n_restarts": self.restarts}

    def rows(self, table: Table, by: list[str] | None = None) -> Selected:
        """The rows and columns that are fitted."""
        return Selected.read(
            table,
            columns=self.columns,
            exclude=self.exclude,
            weights=self.weights,
            missing=self.missing,
            dtype=self.dtype,
            by=by,
            noise=self.noise,
            labels=self.labels,
        )

    def _with_classes(self, ks: list[int], rows: Selected) -> list[int]:
        """Numbers of components of which each class has one: as many as there are classes, if nothing else was said."""
        n = len(rows.classes)
        if self.components is None:
            return [n]
        if ks[0] < n:
            raise Problem(
                f"--components is {self.components!r}; expected {n} or more, as --labels {rows.labelled} has {n} "
                f"classes with a component each: {', '.join(rows.classes[:20])}{', ...' if n > 20 else ''}.",
                2,
            )
        return ks

    def _metadata(
        self, table: Table, rows: Selected, selection: jaxgmm.Selection, mixture: jaxgmm.Mixture
    ) -> dict[str, Any]:
        best = selection.winner
        quantiles = applying.quantiles_of(mixture, rows.x, rows.weights, rows.noise)
        return {
            "created_by": f"jaxgmm {jaxgmm.__version__}",
            **({"component_names": rows.classes} if rows.classes else {}),
            "fit": {
                "data": table.name,
                "rows": len(rows.x),
                "rows_dropped": rows.dropped,
                "rows_incomplete": rows.incomplete,
                "labels": rows.labelled,
                "noise": rows.errors,
                "outliers": [place + 1 for place in selection.outliers],
                "constants": selection.constants,
                "total_weight": float(np.sum(rows.weights, dtype=np.float64)),
                "form": best.form,
                "n_components": mixture.n_components,
                "log_likelihood": best.log_likelihood,
                "objective": self.objective,
                "criterion": selection.criterion,
                "criterion_value": getattr(best, selection.criterion),
                "status": best.status,
                "seed": self.seed,
                "effort": self.effort,
                "restarts": self.restarts,
                **self.options,
            },
            **({} if quantiles is None else {"log_density_quantiles": quantiles}),
        }


def check_folders(*paths: str | None) -> None:
    """Refuse files that could not be written."""
    for path in paths:
        if path not in (None, "-"):
            check_folder(path)


def counts(text: str) -> list[int]:
    """Numbers of components: `3`, `2,4,6`, `1:10` with both ends, or several of these."""
    found: list[int] = []
    try:
        for part in text.split(","):
            first, _, last = part.partition(":")
            found += range(int(first), int(last or first) + 1)
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise Problem(f"--components is {text!r}; expected numbers from 1 on, such as 3, 2,4,6 or 1:10.", 2)
    return sorted(set(found))


def sound(selection: jaxgmm.Selection) -> jaxgmm.FitResult:
    """The fit of the winner, if it is one that one can go on with."""
    best = selection.winner
    if best.result is None:
        raise Problem(f"no fit succeeded: {best.error}", NOT_FITTED)
    status = jaxgmm.Status(int(best.result.status))
    if status == jaxgmm.Status.NON_FINITE or not math.isfinite(best.log_likelihood):
        raise Problem(f"no fit has a finite likelihood: {status.text}", NOT_FITTED)
    if not (best.regular or selection.spurious):
        raise Problem(
            f"every fit has a component that sits on a few rows or on rows without width ({best.form}, "
            f"k = {best.n_components} is the best of them). --spurious accepts it, as many equal rows may be a group "
            "of their own; fewer --components or --forms diag may do without, or --exclude of columns that others "
            "determine. Nothing was written.",
            NOT_FITTED,
        )
    return best.result


def _kept(selection: jaxgmm.Selection, rows: Selected) -> tuple[jaxgmm.Selection, list[str]]:
    """The selection without the components of its best fit that have less than half a row, and how many these are.

    Those of known classes stay.
    """
    mixture = selection.best.mixture
    total = np.asarray(np.sum(rows.weights, dtype=np.float64), mixture.log_weights.dtype)
    climbed = objective_of(OBJECTIVES["variational"], mixture.n_components, mixture.n_columns, total.dtype)
    used = np.array(_used(climbed, mixture, total))
    if not used.any():
        return selection, ["Every component has less than half a row, and all stay: --weights are to count rows."]
    used[: len(rows.classes)] = True
    if used.all():
        return selection, []
    note = f"{np.sum(~used)} of {used.size} components had less than half a row and were left out."
    return _taken(selection, np.flatnonzero(used)), [note]


@program
def _used(objective: Any, mixture: jaxgmm.Mixture, total: Any) -> Any:
    return of_counts(objective, mixture, total, mixture.log_weights > -np.inf).used(mixture)


def _check_sort(by: str, columns: list[str]) -> None:
    if by not in ("weight", *columns):
        raise Problem(f"--sort is {by!r}; expected weight or one of {', '.join(columns[:20])}.", 2)


def _sorted(selection: jaxgmm.Selection, by: str, columns: list[str]) -> jaxgmm.Selection:
    """The selection with the components of its best fit in order of their weight, or of their mean in a column."""
    _check_sort(by, columns)  # once more, as columns of one value were left out
    column = columns.index(by) if by in columns else by
    return _taken(selection, np.asarray(order_of(selection.best.mixture, column)))


def _taken(selection: jaxgmm.Selection, places: np.ndarray) -> jaxgmm.Selection:
    """The selection with these components of its best fit, in this order."""
    winner, best = selection.winner, selection.best
    result = dataclasses.replace(
        best, mixture=best.mixture.take(places), degenerate_components=best.degenerate_components[places]
    )
    candidates = [dataclasses.replace(one, result=result) if one is winner else one for one in selection.candidates]
    return dataclasses.replace(selection, candidates=tuple(candidates))


def _known(option: str, given: list[str], known: Any) -> list[str]:
    given = [name.strip() for name in given if name.strip()]
    if not given or not set(given) <= set(known):
        raise Problem(f"{option} is {','.join(given)!r}; expected some of {', '.join(known)}.", 2)
    return given
