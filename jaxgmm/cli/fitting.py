"""`jaxgmm fit`."""

import dataclasses
import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

import jaxgmm
from jaxgmm.cli import applying, large, report
from jaxgmm.cli.figure import check_figure, draw
from jaxgmm.cli.kinds import family_of, form_together
from jaxgmm.cli.layout import Layout
from jaxgmm.cli.partial import MISSING
from jaxgmm.cli.problem import NOT_FITTED, Problem
from jaxgmm.cli.selected import Selected
from jaxgmm.cli.tables import Table, check_folder, opened
from jaxgmm.covariance.table import names_shown
from jaxgmm.families.table import ALL_MODELS, forms_of
from jaxgmm.ground.programs import program
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


FORMS = "full,tied,diag,spherical"
"""What is tried if nothing else is said."""
_INSTEAD = (
    "--spurious accepts it, as many equal rows may be a group of their own; fewer --components or --forms diag may do "
    "without, or --exclude of columns that others determine. Nothing was written."
)


@dataclasses.dataclass(frozen=True)
class FitCommand:
    """What the command was asked for."""

    data: str
    layout: Layout
    components: str | None
    forms: str | None
    criterion: str
    objective: str
    columns: list[str] | None
    exclude: list[str] | None
    weights: str | None
    labels: str | None
    noise: str | None
    noise_component: bool
    missing: str
    outliers: str
    dtype: str
    seed: int
    effort: str
    restarts: int | None
    sort: str | None
    options: dict[str, Any]
    resume: str | None
    max_seconds: float | None
    family: list[str] | None = None

    def run(self, *, out: str | None, assign: str | None, figure: str | None, prefix: str, json: bool) -> None:
        """Fit, write what was asked for, and report."""
        ks, forms = self.candidates(CRITERIA)
        if self.sort is not None and self.labels is not None:
            raise Problem("--sort and --labels both say in what order components are; leave --sort out.", 2)
        check_folders(out, assign, figure, self.resume)
        if self.resume is not None and self.resume in (out, assign, figure, self.data):
            raise Problem(f"--resume is {self.resume}, which is another file of this command; name one of its own.", 2)
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
            by_column = None
            if rows.kinds is not None:
                by_column = rows.kinds.forms(rows.columns, rows.x, rows.places)
            if len(rows.x) < max(ks):
                raise Problem(f"{table.name}: {len(rows.x)} rows; expected at least as many as components, {max(ks)}.")
            choice = None if rows.whole is None or self.resume is None else self._choice(self.resume, rows, ks, forms)
            selection = None if choice is None else choice.kept()
            if selection is None:
                made: list[Any] = self.made_of(forms, len(rows.columns))
                if by_column is not None:
                    made = [form_together([by_column[name] for name in rows.columns])]
                selection = self._select(rows, ks, made)
                sound(selection)
                if choice is not None:
                    choice.keep(selection)
            drawn, told = rows.of_columns(list(selection.columns)), rows.told(selection)
            rows = rows.noted(*rows.varying(selection.constants)).of(selection)
            if self.sort is not None:
                _check_sort(self.sort, rows.columns)  # once more, as columns of one value were left out
            fitted = None
            if rows.whole is not None:
                rows, fitted = self._fit_all(rows, selection)
            elif self.resume is not None or self.max_seconds is not None:
                rows = rows.noted("The table fits into memory: --resume and --max-seconds are for larger ones.")
            selection = told
            mixture = selection.best.mixture if fitted is None else fitted.result.mixture
            if self.objective == "variational":
                total = float(np.sum(rows.weights, dtype=np.float64)) if fitted is None else fitted.total_weight
                mixture, notes = _kept(mixture, total, len(rows.classes))
                rows = rows.noted(*notes)
            if self.sort is not None:
                mixture = mixture.sorted(rows.columns.index(self.sort) if self.sort in rows.columns else self.sort)
            metadata = self._metadata(table, rows, selection, mixture, fitted)
            if by_column is not None:
                metadata["fit"]["families"] = {name: family_of(by_column[name]) for name in rows.columns}
            loaded = applying.Loaded(out or "the model", mixture, metadata, selection.schema)
            if out is not None:
                jaxgmm.save(out, mixture, metadata, selection.schema)
            if assign is not None:
                known = applying.Known(self.missing, self.noise, rows.label_of)
                applying.assign(loaded, table, assign, self.layout, prefix, known)
        if figure is not None and (note := draw(figure, selection, mixture, drawn.record(), rows.columns)):
            rows = rows.noted(note)
        unsaved = out is None and assign is None and figure is None
        report.fitted(
            selection, loaded, rows, fitted, json=json, to_stderr=assign == "-", unsaved=unsaved, saved=out is not None
        )
        if fitted is not None and fitted.stopped == "interrupt":
            raise Problem(f"stopped; {self._after(written=not unsaved)}.", 130)

    def _select(self, rows: Selected, ks: list[int], forms: list[Any]) -> jaxgmm.Selection:
        x, weights = rows.evidence()
        return jaxgmm.select(
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

    def _choice(self, resume: str, rows: Selected, ks: list[int], forms: list[str]) -> large.Kept:
        """What the selection among a sample of the rows depends on, and where it is kept."""
        names: tuple[str, ...] = (
            "criterion",
            "objective",
            "seed",
            "effort",
            "restarts",
            "outliers",
            "missing",
            "noise_component",
        )
        names = names if self.family is None else (*names, "family")
        options = {name: getattr(self, name) for name in names}
        options |= {name: value for name, value in self.options.items() if name not in ("tol", "max_iter")}
        return large.Kept.beside(resume, {"components": ks, "forms": forms, **options}, rows)

    def _fit_all(self, rows: Selected, selection: jaxgmm.Selection) -> tuple[Selected, large.Fitted]:
        """The winner among a sample of the rows, fitted to all of them."""
        assert rows.whole is not None
        whole, fitted = large.fit_all(
            rows,
            rows.whole,
            selection,
            OBJECTIVES[self.objective],
            self.options,
            self.resume,
            self.max_seconds,
            exclude=self.outliers == "exclude" and selection.best.mixture.components.support == "real",
        )
        if fitted.status == jaxgmm.Status.DEGENERATE and not selection.spurious:
            raise Problem(
                "the fit to all rows ended on a component that sits on a few rows or on rows without width. "
                f"{_INSTEAD}",
                NOT_FITTED,
            )
        dropped = rows.dropped + rows.whole.n - whole.n - len(whole.aside)
        return dataclasses.replace(rows, whole=whole, dropped=dropped).noted(*fitted.notes), fitted

    def _after(self, *, written: bool) -> str:
        """What a fit that was interrupted has left."""
        best = "what is written is of the best mixture so far" if written else "nothing was written, for want of --out"
        if self.resume is None:
            return f"{best}; with --resume FILE the same command would go on from there"
        return f"{best}, and the same command goes on from {self.resume}"

    def candidates(self, criteria: Collection[str]) -> tuple[list[int], list[str]]:
        """Numbers of components and forms to try, once all options are known to say something."""
        ks, forms = counts(self.components or "1:10"), _forms(self.forms or FORMS)
        self._check_family()
        _known("--criterion", [self.criterion], criteria)
        _known("--objective", [self.objective], OBJECTIVES)
        if self.noise_component and self.objective == "variational":
            raise Problem("--objective variational has no noise component; leave --noise-component out, or say map.", 2)
        if self.criterion == "evidence" and self.objective != "variational":
            raise Problem("--criterion evidence is of fits that climb it; say --objective variational as well.", 2)
        _known("--missing", [self.missing], MISSING)
        _known("--outliers", [self.outliers], OUTLIERS)
        _known("--dtype", [self.dtype], ("float32", "float64"))
        _known("--effort", [self.effort], _STARTS)
        return ks, forms

    def _check_family(self) -> None:
        """Refuse options that are of numbers alone beside families."""
        if self.family is None:
            return
        beside = {
            "--forms": self.forms is not None,
            "--noise": self.noise is not None,
            "--noise-component": self.noise_component,
            f"--objective {self.objective}": self.objective != "likelihood",
        }
        if given := [option for option, there in beside.items() if there]:
            more = ", whose covariances --family names too, as in 'size*'=full" if given[0] == "--forms" else ""
            raise Problem(f"{given[0]} is of Gaussian columns alone{more}; leave it out, or --family.", 2)

    def made_of(self, forms: list[str], n_columns: int) -> list[Any]:
        """What components may be, with noise behind them if that was asked for."""
        return [jaxgmm.with_noise(form) for form in forms_of(forms, n_columns)] if self.noise_component else list(forms)

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
            seed=self.seed,
            family=self.family,
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
        self,
        table: Table,
        rows: Selected,
        selection: jaxgmm.Selection,
        mixture: jaxgmm.Mixture,
        fitted: large.Fitted | None,
    ) -> dict[str, Any]:
        best = selection.winner
        aside = selection.outliers if rows.whole is None else rows.whole.aside.tolist()
        chosen = {
            "rows": len(rows.x),
            "total_weight": float(np.sum(rows.weights, dtype=np.float64)),
            "log_likelihood": best.log_likelihood,
            "criterion_value": getattr(best, selection.criterion),
            "status": best.status,
        }
        quantiles = applying.quantiles_of(mixture, rows.x, rows.weights, rows.noise)
        return {
            "created_by": f"jaxgmm {jaxgmm.__version__}",
            **({"component_names": rows.classes} if rows.classes else {}),
            "fit": {
                "data": table.name,
                **(chosen if fitted is None else {**fitted.told(), "rows": rows.n, "sample": chosen}),
                "rows_dropped": rows.dropped,
                "rows_incomplete": rows.incomplete,
                "labels": rows.labelled,
                "noise": rows.errors,
                "outliers": [place + 1 for place in aside],
                "constants": selection.constants,
                "form": str(best.form),
                "n_components": mixture.n_clusters,
                "objective": self.objective,
                "criterion": selection.criterion,
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
            f"k = {best.n_components} is the best of them). {_INSTEAD}",
            NOT_FITTED,
        )
    return best.result


def _kept(mixture: jaxgmm.Mixture, total: float, n_classes: int) -> tuple[jaxgmm.Mixture, list[str]]:
    """The mixture without components that have less than half of so many rows, and a sentence of how many these are.

    Those of known classes stay.
    """
    weight = np.asarray(total, mixture.log_weights.dtype)
    climbed = objective_of(OBJECTIVES["variational"], mixture.n_components, mixture.n_columns, weight.dtype)
    used = np.array(_used(climbed, mixture, weight))
    if not used.any():
        return mixture, ["Every component has less than half a row, and all stay: --weights are to count rows."]
    used[:n_classes] = True
    if used.all():
        return mixture, []
    note = f"{np.sum(~used)} of {used.size} components had less than half a row and were left out."
    return mixture.take(np.flatnonzero(used)), [note]


@program
def _used(objective: Any, mixture: jaxgmm.Mixture, total: Any) -> Any:
    return of_counts(objective, mixture, total, mixture.log_weights > -np.inf).used(mixture)


def _check_sort(by: str, columns: list[str]) -> None:
    if by not in ("weight", *columns):
        raise Problem(f"--sort is {by!r}; expected weight or one of {', '.join(columns[:20])}.", 2)


def _forms(given: str) -> list[str]:
    """Names of forms, of which "mclust" stands for several."""
    names = [name.strip() for name in given.split(",") if name.strip()]
    try:
        for name in names:
            forms_of(name, 2)
    except ValueError:
        names = []
    if not names:
        raise Problem(f"--forms is {given!r}; expected some of {names_shown(quoted=False)}, or {ALL_MODELS}.", 2)
    return names


def _known(option: str, given: list[str], known: Any) -> list[str]:
    given = [name.strip() for name in given if name.strip()]
    if not given or not set(given) <= set(known):
        raise Problem(f"{option} is {','.join(given)!r}; expected some of {', '.join(known)}.", 2)
    return given
