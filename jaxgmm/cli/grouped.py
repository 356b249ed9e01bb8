"""`jaxgmm fit --by`: a mixture for each group of rows."""

import dataclasses
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pandas as pd

import jaxgmm
from jaxgmm.cli import applying, report
from jaxgmm.cli.figure import check_figure, draw_groups
from jaxgmm.cli.fitting import OBJECTIVES, FitCommand, check_folders
from jaxgmm.cli.groups import Groups
from jaxgmm.cli.problem import NOT_FITTED, Problem
from jaxgmm.cli.selected import Selected
from jaxgmm.cli.tables import READ_SEPARATORS, Table, format_of, opened, writing
from jaxgmm.cli.text import Part
from jaxgmm.ground.known import filled
from jaxgmm.selection.components import CRITERIA

# Starts of each candidate of each group.
_STARTS = {"low": {"n_restarts": 2}, "normal": {"n_restarts": 8}, "high": {"n_restarts": 40}}
# Rows that are given their components at a time.
_AT_A_TIME = 2**18
# What the table of mixtures has of its own, beside the criterion and the parameters, whose names have brackets.
COLUMNS = (
    *("form", "n_components", "n_parameters", "log_likelihood", "behind"),
    *("status", "regular", "passed_over", "outliers", "columns"),
)


@dataclasses.dataclass(frozen=True)
class GroupedCommand:
    """What is asked for of each group, the columns `by` that say what is one, and the file that keeps what is done."""

    fit: FitCommand
    by: list[str]
    parts: str | None

    def run(self, *, out: str | None, assign: str | None, figure: str | None, prefix: str, json: bool) -> None:
        """Fit, write what was asked for, and report."""
        try:
            self._run(out, assign, figure, prefix, json=json)
        except KeyboardInterrupt:
            kept = f"{self.parts} keeps what is done, and the same command goes on from there"
            lost = "nothing is kept; with --parts FILE the same command would go on from what is done"
            raise Problem(f"stopped; {kept if self.parts else lost}.", 130) from None

    def _run(self, out: str | None, assign: str | None, figure: str | None, prefix: str, *, json: bool) -> None:
        ks, forms = self._candidates()
        check_folders(out, assign, figure, self.parts)
        if figure is not None:
            check_figure(figure)
        if out is not None and (kind := format_of(out, self.fit.layout)) not in (*READ_SEPARATORS, "parquet"):
            raise Problem(f"{out}: the table of mixtures has words in it, which {kind} has not; name a .parquet.", 2)
        if out == assign == "-":
            raise Problem("--out and --assign both want standard output; name a file.", 2)
        with opened(self.fit.data, self.fit.layout) as table:
            if assign is not None:
                applying.check_names(table, applying.assigned(prefix))
            rows = self.fit.rows(table, self.by)
            groups = rows.groups
            assert groups is not None
            self._check_labels(groups, prefix)
            sets, shares, places = _sets(rows, groups, weighted=self.fit.weights is not None)
            lengths = np.bincount(groups.owner[rows.places], minlength=len(groups))
            # All of them are in these now, in another order: no view of what is to be let go.
            rows = dataclasses.replace(rows, x=np.zeros((0, len(rows.columns))), places=np.zeros(0, int))
            selections = jaxgmm.select_many(
                applying.drawn_with(self.fit.seed),
                sets,
                ks,
                self.fit.made_of(forms, len(rows.columns)),
                criterion=self.fit.criterion,
                objective=OBJECTIVES[self.fit.objective],
                weights=shares,
                outliers=self.fit.outliers,
                parts=self.parts,
                progress=True,
                **self.fit.starts(_STARTS),
                **self.fit.options,
            )
            if self.fit.objective == "variational":
                selections, notes = _kept(selections, sets, shares)
                rows = dataclasses.replace(rows, notes=[*rows.notes, *notes])
            # They have rows in the table, each with a missing entry.
            what = "has no row with an entry" if self.fit.missing == "em" else "has no row without a missing entry"
            empty = {n: what for n in selections.errors if not lengths[n]}
            selections = dataclasses.replace(
                selections, schema=jaxgmm.Schema(rows.columns), errors=selections.errors | empty
            )
            if out is not None:
                self._write(selections, groups, table, out, prefix)
            if assign is not None:
                found = _assigned(selections, sets, lengths, places, len(groups.owner))
                applying.extend(table, assign, self.fit.layout, applying.assigned(prefix), _beside(table, *found))
        if figure is not None:
            draw_groups(figure, selections)
        unsaved = out is None and assign is None and figure is None
        report.grouped(selections, rows, groups, json=json, to_stderr="-" in (out, assign), unsaved=unsaved)
        if not np.any(selections.n_components):
            number, error = next(iter(selections.errors.items()))
            raise Problem(f"no group could be fitted: {groups.name(number)} {error}, ...", NOT_FITTED)

    def _candidates(self) -> tuple[list[int], list[str]]:
        fit = self.fit
        if fit.criterion == "cv":
            raise Problem(f"--criterion cv takes no --by; expected one of {', '.join(CRITERIA)}.", 2)
        if fit.labels:
            raise Problem(
                "--labels takes no --by: mixtures of groups have components in the order of their weights. Leave one "
                "of them out, or fit each group's rows by themselves.",
                2,
            )
        if fit.sort not in (None, "weight"):
            raise Problem(
                f"--sort is {fit.sort!r}; with --by, components are in the order of their weights, the heaviest first. "
                "Leave it out.",
                2,
            )
        return fit.candidates(CRITERIA)

    def _check_labels(self, groups: Groups, prefix: str) -> None:
        own = {f"{prefix}{name}" for name in (*COLUMNS, self.fit.criterion)}
        if taken := [name for name in groups.labels if name in own]:
            raise Problem(
                f"--by: the table of mixtures has a column {taken[0]!r} of its own; say --prefix for other names.", 2
            )

    def _write(self, selections: jaxgmm.Selections, groups: Groups, source: Table, out: str, prefix: str) -> None:
        """The table of mixtures; text is laid out as the rows are."""
        found = selections.to_pandas(parameters=True).drop(columns="data_set").add_prefix(prefix)
        whole = pd.concat([groups.names, found], axis=1)
        layout = source.text.recognised.layout if source.text else self.fit.layout
        kind = format_of(out, self.fit.layout, source.format if source.text else "csv")
        separator = layout.separator if kind == source.format else None
        layout = dataclasses.replace(layout, format=kind, separator=separator, header=True)
        with writing(out, layout, list(whole.columns)) as write:
            write(whole)


def _sets(rows: Selected, groups: Groups, *, weighted: bool) -> tuple[list[Any], list[np.ndarray] | None, np.ndarray]:
    """The rows of each group, in the order of the table, their weights if they have any, and where all these stand.

    As records where they have gaps or errors, which have the weights in them.
    """
    owner = groups.owner[rows.places]
    order = np.argsort(owner, kind="stable")
    ends = np.cumsum(np.bincount(owner, minlength=len(groups)))[:-1]
    sets, shares = np.split(rows.x[order], ends), np.split(rows.weights[order], ends)
    if not rows.incomplete and rows.noise is None:
        return sets, shares if weighted else None, rows.places[order]
    noise = [None] * len(sets) if rows.noise is None else np.split(rows.noise[order], ends)
    records = [_record(*one) for one in zip(sets, shares, noise, strict=True)]
    return records, None, rows.places[order]


def _kept(
    selections: jaxgmm.Selections, sets: list[Any], shares: list[np.ndarray] | None
) -> tuple[jaxgmm.Selections, list[str]]:
    """The same without components that have less than half a row, and how many these are."""
    totals = np.zeros(len(sets))
    for number, (name, x) in enumerate(zip(selections.names, sets, strict=True)):
        weights = x.weights if isinstance(x, jaxgmm.Evidence) else np.ones(len(x)) if shares is None else shares[number]
        aside = list(selections.outliers.get(name, ()))
        totals[number] = np.sum(weights, dtype=np.float64) - np.sum(np.asarray(weights)[aside], dtype=np.float64)
    kept = selections.kept(OBJECTIVES["variational"], totals)
    fewer = kept.n_components < selections.n_components
    if not fewer.any():
        return kept, []
    before, after = (int(np.sum(one.n_components[fewer])) for one in (selections, kept))
    where = "1 group" if np.sum(fewer) == 1 else f"{np.sum(fewer)} groups"
    return kept, [f"{before - after} of {before} components in {where} had less than half a row and were left out."]


def _record(x: np.ndarray, weights: np.ndarray, noise: np.ndarray | None) -> jaxgmm.Evidence:
    """What is known of the rows of a group, in numpy; what is wrong with it is for others to say."""
    seen: Any = ~np.isnan(x)
    values: Any = filled(x, seen, None) if len(x) else x
    given: Any = weights
    return jaxgmm.Evidence(values, given, seen=seen, noise=cast(Any, noise))


def _assigned(
    selections: jaxgmm.Selections, sets: list[Any], lengths: np.ndarray, places: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Component and probability of n rows, -1 and NaN where there is none; those of the groups are at `places`."""
    component, probability = np.full(n, -1, np.int32), np.full(n, np.nan)
    ends = np.cumsum(lengths)
    # Some groups at a time, as there are several numbers for each row.
    for part in np.split(np.arange(len(sets)), np.flatnonzero(np.diff(ends // _AT_A_TIME)) + 1):
        found = selections.assign({int(number): sets[number] for number in part})
        here = places[ends[part[0]] - lengths[part[0]] : ends[part[-1]]]
        component[here], probability[here] = found["component"], found["probability"]
    return component, probability


def _beside(table: Table, component: np.ndarray, probability: np.ndarray) -> Iterator[tuple[Part, list[pd.Series]]]:
    """Parts of the table, with what there is for each of their rows."""
    start = 0
    for part in table.parts():
        here = slice(start, start := start + len(part.frame))
        whole = ~np.isnan(probability[here])
        columns = pd.Series(component[here], dtype="Int64"), pd.Series(probability[here], dtype="Float64")
        yield part, [column.where(whole, pd.NA) for column in columns]
