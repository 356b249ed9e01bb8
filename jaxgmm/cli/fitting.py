"""`jaxgmm fit`."""

import dataclasses
import math
from typing import Any

import numpy as np
import pandas as pd

import jaxgmm
from jaxgmm.cli import applying, report
from jaxgmm.cli.figure import check_figure, draw
from jaxgmm.cli.layout import Layout
from jaxgmm.cli.numbers import arrays, named, numeric_columns
from jaxgmm.cli.problem import NOT_FITTED, Problem
from jaxgmm.cli.tables import Table, check_folder, opened
from jaxgmm.covariance.table import STRUCTURES
from jaxgmm.ground.padding import padded
from jaxgmm.model.mixture import order_of
from jaxgmm.selection.candidates import CRITERIA
from jaxgmm.selection.select import OUTLIERS

# Starts of each candidate, and how many of these go on to the end; the usual number depends on the size of the table.
_STARTS: dict[str, dict[str, Any]] = {
    "low": {"n_restarts": 8, "n_finalists": 1},
    "normal": {},
    "high": {"n_restarts": 200, "n_finalists": 20},
}


@dataclasses.dataclass(frozen=True)
class Selected:
    """What is fitted.

    Fields: `x` (n, d); `weights` (n,); `places` (n,), which rows of the table these are; `columns`, d names; `unused`,
    names of columns left out; `dropped`, number of rows left out, `missing` of them with nothing in a column;
    `duplicates`, rows that are like another one before them; `notes`, what was found out about the table.
    """

    x: np.ndarray
    weights: np.ndarray
    places: np.ndarray
    columns: list[str]
    unused: list[str]
    dropped: int
    missing: dict[str, int]
    duplicates: int
    notes: list[str]

    def told(self, selection: jaxgmm.Selection) -> jaxgmm.Selection:
        """The selection in the names and places of the table."""
        return dataclasses.replace(
            selection,
            schema=jaxgmm.Schema([self.columns[place] for place in selection.columns]),
            outliers=tuple(self.places[list(selection.outliers)].tolist()),
            constants={self.columns[place]: value for place, value in selection.constants.items()},
        )

    def of(self, selection: jaxgmm.Selection) -> "Selected":
        """Those of the rows and columns that the candidates were fitted to."""
        remain = np.ones(len(self.x), bool)
        remain[list(selection.outliers)] = False
        columns = [self.columns[place] for place in selection.columns]
        x = self.x[remain][:, list(selection.columns)]
        return dataclasses.replace(self, x=x, weights=self.weights[remain], places=self.places[remain], columns=columns)


@dataclasses.dataclass(frozen=True)
class FitCommand:
    """What the command was asked for."""

    data: str
    layout: Layout
    components: str
    forms: str
    criterion: str
    columns: list[str] | None
    exclude: list[str] | None
    weights: str | None
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
        ks, forms = counts(self.components), _known("--forms", self.forms.split(","), STRUCTURES)
        _known("--criterion", [self.criterion], CRITERIA)
        _known("--missing", [self.missing], ("drop", "fail"))
        _known("--outliers", [self.outliers], OUTLIERS)
        _known("--dtype", [self.dtype], ("float32", "float64"))
        _known("--effort", [self.effort], _STARTS)
        for path in (out, assign, figure):
            if path not in (None, "-"):
                check_folder(path)
        if figure is not None:
            check_figure(figure)
        starts: dict[str, Any] = _STARTS[self.effort] if self.restarts is None else {"n_restarts": self.restarts}
        with opened(self.data, self.layout) as table:
            rows = self._rows(table)
            if self.sort is not None:
                _check_sort(self.sort, rows.columns)
            if len(rows.x) < max(ks):
                raise Problem(f"{table.name}: {len(rows.x)} rows; expected at least as many as components, {max(ks)}.")
            selection = jaxgmm.select(
                applying.drawn_with(self.seed),
                padded(rows.x),
                ks,
                forms,
                criterion=self.criterion,
                weights=padded(rows.weights),
                outliers=self.outliers,
                **starts,
                progress=True,
                **self.options,
            )
            sound(selection)
            drawn = rows.x[:, list(selection.columns)], rows.weights
            rows, selection = rows.of(selection), rows.told(selection)
            if self.sort is not None:
                selection = _sorted(selection, self.sort, rows.columns)
            mixture = selection.best.mixture
            metadata = self._metadata(table, rows, selection, mixture)
            loaded = applying.Loaded(out or "the model", mixture, metadata, selection.schema)
            if out is not None:
                jaxgmm.save(out, mixture, metadata, selection.schema)
            if assign is not None:
                applying.assign(loaded, table, assign, self.layout, prefix)
        if figure is not None and (note := draw(figure, selection, drawn[0], rows.columns, drawn[1])):
            rows = dataclasses.replace(rows, notes=[*rows.notes, note])
        unsaved = out is None and assign is None and figure is None
        report.fitted(
            selection, loaded, rows, json=json, to_stderr=assign == "-", unsaved=unsaved, saved=out is not None
        )

    def _rows(self, table: Table) -> Selected:
        beside = named(table, [self.weights], "--weights") if self.weights else []
        excluded = named(table, self.exclude or [], "--exclude")
        chosen = named(table, self.columns, "--columns") if self.columns else numeric_columns(table)
        chosen = [name for name in chosen if name not in (*excluded, *beside)]
        if not chosen:
            raise Problem(f"{table.name}: no columns of numbers are left among {', '.join(table.columns)}.")
        parts, remaining, missing = [], [], np.zeros(len(chosen + beside), int)
        for _, values in arrays(table, chosen + beside):
            whole = ~np.isnan(values).any(axis=1)
            remaining.append(whole)
            missing += np.sum(np.isnan(values), axis=0)
            parts.append(values[whole].astype(self.dtype))
        places = np.flatnonzero(np.concatenate(remaining))
        dropped = sum(map(len, remaining)) - len(places)
        by_column = {name: int(n) for name, n in zip(chosen + beside, missing, strict=True) if n}
        if dropped and self.missing == "fail":
            raise Problem(
                f"{table.name}: {dropped} rows have missing entries ({report.missing(by_column)}); fill them in, "
                "or say --missing drop."
            )
        joined = np.concatenate(parts)
        x, weights = joined[:, : len(chosen)], joined[:, len(chosen) :]
        weights = weights[:, 0] if beside else np.ones(len(x), self.dtype)
        if len(x) == 0:
            raise Problem(f"{table.name}: every row has a missing entry ({report.missing(by_column)}).")
        if np.any(weights < 0) or not np.any(weights > 0):
            raise Problem(f"--weights: column {beside[0]!r} has negative weights or none above 0.")
        unused = [name for name in table.columns if name not in (*chosen, *beside)]
        # By their hashes, in an eighth of the time; 0 makes one of both zeros.
        copies = int(pd.util.hash_pandas_object(pd.DataFrame(x + 0), index=False).duplicated().sum())
        return Selected(x, weights, places, chosen, unused, dropped, by_column, copies, table.told())

    def _metadata(
        self, table: Table, rows: Selected, selection: jaxgmm.Selection, mixture: jaxgmm.Mixture
    ) -> dict[str, Any]:
        best = selection.winner
        return {
            "created_by": f"jaxgmm {jaxgmm.__version__}",
            "fit": {
                "data": table.name,
                "rows": len(rows.x),
                "rows_dropped": rows.dropped,
                "outliers": [place + 1 for place in selection.outliers],
                "constants": selection.constants,
                "total_weight": float(np.sum(rows.weights, dtype=np.float64)),
                "form": best.form,
                "n_components": best.n_components,
                "log_likelihood": best.log_likelihood,
                "criterion": selection.criterion,
                "criterion_value": getattr(best, selection.criterion),
                "status": best.status,
                "seed": self.seed,
                "effort": self.effort,
                "restarts": self.restarts,
                **self.options,
            },
            "log_density_quantiles": applying.quantiles_of(mixture, rows.x, rows.weights),
        }


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


def _check_sort(by: str, columns: list[str]) -> None:
    if by not in ("weight", *columns):
        raise Problem(f"--sort is {by!r}; expected weight or one of {', '.join(columns[:20])}.", 2)


def _sorted(selection: jaxgmm.Selection, by: str, columns: list[str]) -> jaxgmm.Selection:
    """The selection with the components of its best fit in order of their weight, or of their mean in a column."""
    _check_sort(by, columns)  # once more, as columns of one value were left out
    winner, best = selection.winner, selection.best
    column = columns.index(by) if by in columns else by
    result = dataclasses.replace(
        best,
        mixture=best.mixture.sorted(column),
        degenerate_components=best.degenerate_components[order_of(best.mixture, column)],
    )
    candidates = [dataclasses.replace(one, result=result) if one is winner else one for one in selection.candidates]
    return dataclasses.replace(selection, candidates=tuple(candidates))


def _known(option: str, given: list[str], known: Any) -> list[str]:
    given = [name.strip() for name in given if name.strip()]
    if not given or not set(given) <= set(known):
        raise Problem(f"{option} is {','.join(given)!r}; expected some of {', '.join(known)}.", 2)
    return given
