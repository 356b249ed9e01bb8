"""What the commands print: tables for people, JSON for scripts."""

import collections
import itertools
import json as to_json
import math
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable

import jaxgmm
from jaxgmm.cli.by_kind import described, has_kinds
from jaxgmm.covariance.table import name_of
from jaxgmm.ground.programs import program

if TYPE_CHECKING:
    from jaxgmm.cli.applying import Loaded
    from jaxgmm.cli.groups import Groups
    from jaxgmm.cli.large import Fitted
    from jaxgmm.cli.selected import Selected

# Candidates and columns that are shown on a terminal, and names in one line; what goes elsewhere is never cut.
_CANDIDATES, _COLUMNS, _NAMES, _LEVELS = 10, 24, 8, 12
_WIDTH = 2**20
# Between the columns of a table.
_GAP = 2


def fitted(
    selection: jaxgmm.Selection,
    model: "Loaded",
    rows: "Selected",
    whole: "Fitted | None",
    *,
    json: bool,
    to_stderr: bool,
    unsaved: bool,
    saved: bool,
) -> None:
    """The candidates, the winner and what was left out; what came of all rows if a sample of them had the winner."""
    aside = selection.outliers if rows.whole is None else rows.whole.aside.tolist()
    if json:
        _print_json(
            {
                "best": _described(model),
                "criterion": selection.criterion,
                "candidates": list(selection.rows()),
                "outliers": [place + 1 for place in aside],
                "constants": selection.constants,
                "passed_over": None if selection.passed_over is None else str(selection.passed_over),
                "rows": rows.n,
                **({} if whole is None else {"whole": whole.told(), "sample": _sample(selection, rows)}),
                "rows_dropped": rows.dropped,
                "rows_incomplete": rows.incomplete,
                "rows_duplicated": rows.duplicates,
                "missing": rows.missing,
                "columns": rows.columns,
                "columns_unused": rows.unused,
                "noise": rows.errors,
                "labels": _classes(rows),
                "notes": [*rows.notes, *selection.notes(first=1)],
            }
        )
        return
    console = _console(stderr=to_stderr)
    _left_out(console, rows, rows.n + len(aside))
    if rows.incomplete:
        what = "1 row has" if rows.incomplete == 1 else f"{rows.incomplete} rows have"
        used = {name: n for name, n in rows.missing.items() if name in (*rows.columns, *rows.errors.values())}
        console.print(f"{what} missing entries and {_is(rows.incomplete)} fitted by what there is ({missing(used)}).")
    if rows.errors:
        exact = [name for name in rows.columns if name not in rows.errors]
        beside = f"; {_listed(exact, console)} {'is' if len(exact) == 1 else 'are'} taken as exact" if exact else ""
        console.print(f"Standard errors: {_listed(list(rows.errors.values()), console)}{beside}.")
    if rows.labels is not None:
        known = _classes(rows)["rows"]
        told = ", ".join(f"{name} ({number})" for name, number in known.items())
        n_rows = sum(known.values())
        console.print(
            f"{n_rows} of {rows.n} rows have a class in {rows.labelled}, the components in this order: {told}."
        )
    if rows.duplicates:
        what = "1 row is like another" if rows.duplicates == 1 else f"{rows.duplicates} rows are like others"
        console.print(f"{what} before in every column that is used; all of them count.")
    if whole is not None:
        n = len(rows.x) + len(selection.outliers)
        console.print(f"Chosen on a sample of {n} of {rows.n + len(aside)} rows:")
    by_family: dict[str, list[str]] = {}
    for name, family in model.metadata.get("fit", {}).get("families", {}).items():
        by_family.setdefault(family, []).append(name)
    if by_family:
        listed = (f"{family} ({_listed(names, console)})" for family, names in by_family.items())
        console.print(f"Families: {', '.join(listed)}.")
    table = _table("form", "k>", "parameters>", "log-likelihood>", f"{selection.criterion}>", "behind>", "")
    ranked = list(selection.rows())
    n_shown = _CANDIDATES if console.is_terminal else len(ranked)
    for row in ranked[:n_shown]:
        notes = [row["status"].lower()] * (row["status"] != "CONVERGED") + ["spurious"] * (not row["regular"])
        numbers = (row["log_likelihood"], row[selection.criterion], row["behind"])
        table.add_row(
            row["form"],
            *(str(row[name]) for name in ("n_components", "n_parameters")),
            *(f"{number:.2f}" for number in numbers),
            ", ".join(notes),
        )
    console.print(table)
    if len(ranked) > n_shown:
        console.print(f"... and {len(ranked) - n_shown} more; --json, or a pipe, has all.")
    for note in selection.notes(first=1):
        console.print(note)
    if selection.passed_over is not None:
        console.print("--spurious accepts such a fit, as where many rows are equal.")
    if whole is not None:
        ended = whole.told()
        console.print(
            f"Then {selection.winner.name} fitted to all {rows.n} rows: log-likelihood {ended['log_likelihood']:.2f}, "
            f"bic {ended['bic']:.2f}, {ended['status'].lower()} after {ended['n_iter']} steps."
        )
    _components(console, model)
    status = jaxgmm.Status[selection.winner.status] if whole is None else whole.status
    if status == jaxgmm.Status.DEGENERATE and selection.spurious:
        console.print("The best fit is DEGENERATE, which --spurious accepts.")
    elif status != jaxgmm.Status.CONVERGED:
        console.print(f"The best fit is {status.name}. {status.text}")
    if unsaved:
        console.print("Nothing was written; --out model.npz keeps the mixture.")
    if saved:
        console.print(f"In Python: {_hand_over(model)}")


def grouped(
    selections: jaxgmm.Selections, rows: "Selected", groups: "Groups", *, json: bool, to_stderr: bool, unsaved: bool
) -> None:
    """How many groups have which mixture, which have none, and what was left out."""
    fitted = selections.n_components > 0
    chosen = collections.Counter(
        zip(selections.n_components[fitted].tolist(), itertools.compress(selections.form, fitted), strict=True)
    )
    statuses = collections.Counter(text.split(":")[0] for text in selections.status)
    spurious = int(np.sum(fitted & ~selections.regular))
    passed_over = int(np.sum(fitted & (selections.passed_over > 0)))
    aside = sum(map(len, selections.outliers.values()))
    if json:
        _print_json(
            {
                "groups": len(groups),
                "by": groups.labels,
                "criterion": selections.criterion,
                "fitted": int(fitted.sum()),
                "chosen": [{"form": form, "n_components": k, "groups": n} for (k, form), n in sorted(chosen.items())],
                "statuses": dict(statuses),
                "errors": [{"group": groups.entries(n), "error": text} for n, text in selections.errors.items()],
                "spurious": spurious,
                "passed_over": passed_over,
                "outliers": aside,
                "outliers_groups": len(selections.outliers),
                "rows": len(rows.weights),
                "rows_dropped": rows.dropped,
                "rows_without_group": groups.lacking,
                "missing": rows.missing | groups.missing,
                "columns": rows.columns,
                "columns_unused": rows.unused,
                "notes": rows.notes,
            }
        )
        return
    console = _console(stderr=to_stderr)
    _left_out(console, rows, len(rows.weights))
    if groups.lacking:
        what = "1 row has" if groups.lacking == 1 else f"{groups.lacking} rows have"
        console.print(f"{what} no entry in {', '.join(groups.missing)}: of no group, and left out.")
    if aside:
        where = _groups_of(len(selections.outliers))
        console.print(
            f"{'1 row' if aside == 1 else f'{aside} rows'} of {where} {'stands' if aside == 1 else 'stand'} alone and "
            f"{'is' if aside == 1 else 'are'} set aside, with weight 0 in every candidate."
        )
    console.print(
        f"{_groups_of(len(groups))} by {', '.join(groups.labels)}, {int(fitted.sum())} of them fitted. "
        f"How many have so many components, k, by {selections.criterion}:"
    )
    fitted_forms = {form for _, form in chosen}
    forms = [form for form in selections.forms if form in fitted_forms]
    table = _table("k>", *(f"{form}>" for form in forms))
    for k in sorted({k for k, _ in chosen}):
        table.add_row(str(k), *(str(chosen[k, form]) for form in forms))
    if chosen:
        console.print(table)
    if spurious:
        console.print(
            f"In {_groups_of(spurious)} every fit has a component that sits on a few rows or on rows without width: "
            "`regular` is false in the table. Fewer --components or --forms diag may do without."
        )
    if passed_over:
        console.print(
            f"In {_groups_of(passed_over)} a fit has a lower {selections.criterion} and is passed over, as a component "
            "of it sits on a few rows or on rows without width. --spurious accepts it, as where many rows are equal."
        )
    for status in jaxgmm.Status:
        if (n := statuses[status.name]) and status != jaxgmm.Status.CONVERGED:
            console.print(f"{_groups_of(n)}: {status.name}. {status.text}")
    if selections.errors:
        console.print(f"{_groups_of(len(selections.errors))} could not be fitted:")
        errors = list(selections.errors.items())
        n_shown = _NAMES if console.is_terminal else len(errors)
        for number, text in errors[:n_shown]:
            console.print(f"  {groups.name(number)}: {text}")
        if len(errors) > n_shown:
            console.print(f"  and {len(errors) - n_shown} more; the table, --json, or a pipe has all.")
    if unsaved:
        console.print("Nothing was written; --out models.parquet keeps the table.")


def shown(model: "Loaded", *, json: bool) -> None:
    """The mixture, and how it was fitted."""
    if json:
        _print_json(_described(model) | {"metadata": model.metadata})
        return
    console = _console()
    components: Any = model.mixture.components
    clusters = components.clusters
    kind = " ".join([type(clusters).__name__, name_of(getattr(clusters, "structure", None)) or ""]).strip()
    noisy, d = model.mixture.noise_component is not None, model.mixture.n_columns
    k = f"{model.mixture.n_clusters} components{' and noise' if noisy else ''}"
    console.print(f"{model.name}: {k} over {d} columns, {kind}, {model.mixture.log_weights.dtype}.")
    how = model.metadata.get("fit")
    if isinstance(how, dict):
        sample = how.get("sample")
        value = ("bic", how["bic"]) if sample else (how["criterion"], how["criterion_value"])
        chosen = f" Chosen on a sample of {sample['rows']} of them by {how['criterion']}." if sample else ""
        console.print(
            f"Fitted to {how['rows']} rows of {how['data']}: log-likelihood {how['log_likelihood']:.2f}, "
            f"{value[0]} {value[1]:.2f}, {how['status'].lower()}.{chosen}"
        )
    _components(console, model)


def scored(summary: dict[str, Any], *, json: bool) -> None:
    """How many anomalies there were; for people beside the table, which may be on standard output."""
    if json:
        _print_json(summary)
        return
    noted(summary["notes"])
    lacking = f", {summary['rows_missing']} with missing entries" if summary["rows_missing"] else ""
    console = _console(stderr=True)
    console.print(
        f"{summary['anomalies']} of {summary['rows']} rows{lacking}: log-density below {summary['threshold']:.6g}."
    )
    if n := summary["rows_not_compared"]:
        console.print(
            f"{n} {'row has' if n == 1 else 'rows have'} missing entries and a log-density of fewer columns, which is "
            "not compared with that of whole rows; --threshold compares all."
        )


def imputed(summary: dict[str, Any], *, json: bool) -> None:
    """How many entries were filled; for people beside the table, which may be on standard output."""
    if json:
        _print_json(summary)
        return
    noted(summary["notes"])
    entries, n = summary["entries"], summary["rows"]
    rows = "1 row" if n == 1 else f"{n} rows"
    _console(stderr=True).print(
        f"Filled the missing entries of {rows} ({missing(entries)})." if n else "There are no missing entries to fill."
    )


def noted(notes: list[str]) -> None:
    """What was found out about a table, beside one that may be on standard output."""
    for note in notes:
        _console(stderr=True).print(note)


def missing(by_column: dict[str, int]) -> str:
    """Missing entries by column, those with the most first."""
    return ", ".join(f"{name} {number}" for name, number in sorted(by_column.items(), key=lambda item: -item[1]))


def _left_out(console: Console, rows: "Selected", n_remain: int) -> None:
    """What was found out about a table, and what of it is not used."""
    for note in rows.notes:
        console.print(note)
    if rows.unused:
        console.print(f"Columns not used: {_listed(rows.unused, console)}.")
    if rows.dropped:
        what = "nothing to fit" if rows.partial else "missing entries"
        what = f"1 row with {what} is" if rows.dropped == 1 else f"{rows.dropped} rows with {what} are"
        columns = "" if rows.partial else f" ({missing(rows.missing)})"
        console.print(f"{what} left out; {n_remain} remain{columns}.")


def _is(number: int) -> str:
    return "is" if number == 1 else "are"


def _classes(rows: "Selected") -> Any:
    """The classes of the rows that are fitted, in the order of the components, and how many rows have each."""
    if rows.labels is None:
        return None
    return {"column": rows.labelled, "rows": rows.classed}


def _sample(selection: jaxgmm.Selection, rows: "Selected") -> dict[str, Any]:
    """Which rows the candidates were compared on."""
    return {"rows": len(rows.x), "outliers": [place + 1 for place in selection.outliers]}


def _groups_of(number: int) -> str:
    return "1 group" if number == 1 else f"{number} groups"


def _hand_over(model: "Loaded") -> str:
    """Lines of Python, in one, that read the mixture with all its digits, whatever JAX is set to."""
    mode = 'import jax; jax.config.update("jax_enable_x64", True); '
    double = model.mixture.log_weights.dtype == np.float64
    named = model.schema is not None and model.schema.has_levels
    schema = f"; schema = jaxgmm.load_schema({model.name!r})" if named else ""
    return f"{mode if double else ''}import jaxgmm; mixture = jaxgmm.load({model.name!r}){schema}"


def _components(console: Console, model: "Loaded") -> None:
    """A row for each component: its weight, and mean and standard deviation in each column.

    Of columns of every kind, a column for each component.
    On a terminal, columns that do not fit beside each other stand below each other.
    """
    if has_kinds(model):
        _columns_by_kind(console, model)
        return
    weights, means, covariances = _parameters(model.mixture)
    deviations = np.sqrt(np.diagonal(covariances, axis1=-2, axis2=-1)).T.tolist()
    means = means.T.tolist()
    noise = model.mixture.noise_component
    labels = ["-1, noise" if place == noise else str(place) for place in range(len(weights))]
    fixed = [
        ("component", model.component_names or labels),
        ("weight", [f"{weight:.4f}" for weight in weights]),
    ]
    n_shown = _COLUMNS if console.is_terminal else len(model.columns)
    left = [
        (
            name,
            [
                "" if component == noise else _measured(mean, sd)
                for component, (mean, sd) in enumerate(zip(means[place], deviations[place], strict=True))
            ],
        )
        for place, name in enumerate(model.columns[:n_shown])
    ]
    _beside(console, fixed, left)
    if len(model.columns) > n_shown:
        console.print(f"... and {len(model.columns) - n_shown} more columns; --json, or a pipe, has all.")


def _columns_by_kind(console: Console, model: "Loaded") -> None:
    """A row for each column, or for each of its levels: what it is like in each component."""
    weights = np.asarray(model.mixture.weights)
    names = model.component_names or [str(place) for place in range(len(weights))]
    rows = [("weight", "", [f"{weight:.4f}" for weight in weights])]
    columns = list(described(model).items())
    n_shown = _COLUMNS if console.is_terminal else len(columns)
    for name, found in columns[:n_shown]:
        if "mean" in found:
            rows.append((name, "", [_measured(*pair) for pair in zip(found["mean"], found["sd"], strict=True)]))
            continue
        levels, shares = found["levels"], found["probabilities"]
        most = _LEVELS if console.is_terminal else len(levels)
        # Of truths one of two says all.
        first = 1 if len(levels) == 2 and all(level in (0, 1) for level in levels) else 0
        for place in range(first, min(len(levels), most)):
            head = name if place == first else ""
            rows.append((head, str(levels[place]), [f"{share:.3f}" for share in shares[:, place]]))
        if len(levels) > most:
            rows.append(("", f"and {len(levels) - most} more", [""] * len(weights)))
    fixed = [("column", [row[0] for row in rows]), ("level", [row[1] for row in rows])]
    if not any(fixed[1][1]):
        fixed = fixed[:1]
    left = [(name, [row[2][place] for row in rows]) for place, name in enumerate(names)]
    _beside(console, fixed, left, justified="")
    if len(columns) > n_shown:
        console.print(f"... and {len(columns) - n_shown} more columns; --json, or a pipe, has all.")


def _beside(
    console: Console, fixed: list[tuple[str, list[str]]], left: list[tuple[str, list[str]]], justified: str = ">"
) -> None:
    """Columns beside those that are `fixed`, as many as fit; the others below each other, each with these."""
    while left:
        width = sum(map(_width, fixed)) - _GAP
        beside = 1 + sum(width + sum(map(_width, left[:n])) <= console.width for n in range(2, len(left) + 1))
        shown, left = [*fixed, *left[:beside]], left[beside:]
        table = _table(*(f"{name}{justified}" for name, _ in fixed), *(f"{name}>" for name, _ in shown[len(fixed) :]))
        for row in zip(*(cells for _, cells in shown), strict=True):
            table.add_row(*row)
        console.print(table)


def _width(column: tuple[str, list[str]]) -> int:
    name, cells = column
    return _GAP + max(cell_len(text) for text in (name, *cells))


def _described(model: "Loaded") -> dict[str, Any]:
    if has_kinds(model):
        return {
            "n_components": model.mixture.n_clusters,
            "columns": model.columns,
            **({"component_names": model.component_names} if model.component_names else {}),
            "weights": np.asarray(model.mixture.weights),
            "parameters": described(model),
            **({"fit": model.metadata["fit"]} if "fit" in model.metadata else {}),
        }
    weights, means, covariances = _parameters(model.mixture)
    components: Any = model.mixture.components
    k = model.mixture.n_clusters
    noise = {"weight": weights[k], "center": components.center, "widths": components.widths} if k < len(weights) else {}
    return {
        "n_components": k,
        "columns": model.columns,
        **({"component_names": model.component_names[:k]} if model.component_names else {}),
        "weights": weights[:k],
        "means": means[:k],
        "covariances": covariances[:k],
        **({"noise": {name: np.asarray(value) for name, value in noise.items()}} if noise else {}),
        **({"fit": model.metadata["fit"]} if "fit" in model.metadata else {}),
    }


def _parameters(mixture: jaxgmm.Mixture) -> Any:
    """Weights, means and dense covariances, in numpy."""
    return jax.device_get(_read(mixture))


@program
def _read(mixture: jaxgmm.Mixture) -> tuple[jax.Array, jax.Array, jax.Array]:
    return mixture.weights, mixture.means, mixture.covariances


def _measured(mean: float, deviation: float) -> str:
    """A mean to two digits of its standard deviation."""
    size = math.floor(math.log10(deviation)) if 0 < deviation < math.inf else 0
    if deviation == math.inf:
        return f"{mean:.4g} ± inf"
    if not -4 <= size <= 6:
        return f"{mean:.4g} ± {deviation:.2g}"
    digits = max(1 - size, 0)
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def _table(*columns: str) -> RichTable:
    table = RichTable(box=None, header_style="bold", pad_edge=False)
    for name in columns:
        table.add_column(name.removesuffix(">"), justify="right" if name.endswith(">") else "left", no_wrap=True)
    return table


def _console(*, stderr: bool = False) -> Console:
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=False)
    if not console.is_terminal:
        console.width = _WIDTH
    return console


def _listed(names: list[str], console: Console) -> str:
    shown = names[:_NAMES] if console.is_terminal else names
    return ", ".join(shown) + (f" and {len(names) - len(shown)} more" if len(names) > len(shown) else "")


def _print_json(value: Any) -> None:
    print(to_json.dumps(_plain(value), allow_nan=False))


def _plain(value: Any) -> Any:
    """Arrays as lists, and what JSON has no number for as null."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
