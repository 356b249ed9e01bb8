"""What the commands print: tables for people, JSON for scripts."""

import json as to_json
import math
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table as RichTable

import jaxgmm
from jaxgmm.covariance.table import name_of
from jaxgmm.ground.programs import program

if TYPE_CHECKING:
    from jaxgmm.cli.applying import Loaded
    from jaxgmm.cli.fitting import Selected

# Candidates, and columns of the data, that a table for people shows.
_CANDIDATES, _COLUMNS = 10, 8
# Where there is no terminal that says how wide it is.
_WIDTH = 160


def fitted(
    selection: jaxgmm.Selection, model: "Loaded", rows: "Selected", *, json: bool, to_stderr: bool, unsaved: bool
) -> None:
    """The candidates, the winner and what was left out."""
    if json:
        _print_json(
            {
                "best": _described(model),
                "criterion": selection.criterion,
                "candidates": list(selection.rows()),
                "outliers": selection.outliers,
                "constants": selection.constants,
                "rows": len(rows.x),
                "rows_dropped": rows.dropped,
                "columns": rows.columns,
                "columns_unused": rows.unused,
            }
        )
        return
    console = _console(stderr=to_stderr)
    if rows.dropped:
        console.print(f"{rows.dropped} rows with missing entries are left out; {len(rows.x)} remain.")
    if rows.unused:
        console.print(f"Columns not used: {_listed(rows.unused)}.")
    table = _table("form", "k>", "parameters>", "log-likelihood>", f"{selection.criterion}>", "behind>", "")
    ranked = list(selection.rows())
    for row in ranked[:_CANDIDATES]:
        notes = [row["status"].lower()] * (row["status"] != "CONVERGED") + ["spurious"] * (not row["regular"])
        numbers = (row["log_likelihood"], row[selection.criterion], row["behind"])
        table.add_row(
            row["form"],
            *(str(row[name]) for name in ("n_components", "n_parameters")),
            *(f"{number:.2f}" for number in numbers),
            ", ".join(notes),
        )
    console.print(table)
    if len(ranked) > _CANDIDATES:
        console.print(f"... and {len(ranked) - _CANDIDATES} more.")
    for note in selection.notes(first=1):
        console.print(note)
    _components(console, model)
    status = jaxgmm.Status[selection.winner.status]
    if status != jaxgmm.Status.CONVERGED:
        console.print(f"The best fit is {status.name}. {status.text}")
    if unsaved:
        console.print("Nothing was written; --out model.npz keeps the mixture.")


def shown(model: "Loaded", *, json: bool) -> None:
    """The mixture, and how it was fitted."""
    if json:
        _print_json(_described(model) | {"metadata": model.metadata})
        return
    console = _console()
    components: Any = model.mixture.components
    kind = " ".join([type(components).__name__, name_of(getattr(components, "structure", None)) or ""]).strip()
    k, d = model.mixture.n_components, model.mixture.n_columns
    console.print(f"{model.name}: {k} components over {d} columns, {kind}, {model.mixture.log_weights.dtype}.")
    how = model.metadata.get("fit")
    if isinstance(how, dict):
        console.print(
            f"Fitted to {how['rows']} rows of {how['data']}: log-likelihood {how['log_likelihood']:.2f}, "
            f"{how['criterion']} {how['criterion_value']:.2f}, {how['status'].lower()}."
        )
    _components(console, model)


def scored(summary: dict[str, Any], *, json: bool) -> None:
    """How many anomalies there were; for people beside the table, which may be on standard output."""
    if json:
        _print_json(summary)
        return
    missing = f", {summary['rows_missing']} with missing entries" if summary["rows_missing"] else ""
    _console(stderr=True).print(
        f"{summary['anomalies']} of {summary['rows']} rows{missing}: log-density below {summary['threshold']:.6g}."
    )


def _components(console: Console, model: "Loaded") -> None:
    """A row for each component: its weight, and mean and standard deviation in each column."""
    names = model.columns[:_COLUMNS]
    weights, means, covariances = _parameters(model.mixture)
    deviations = np.sqrt(np.diagonal(covariances, axis1=-2, axis2=-1))
    table = _table("component>", "weight>", *(f"{name}>" for name in names))
    for place, weight in enumerate(weights):
        cells = [_measured(mean, sd) for mean, sd in zip(means[place], deviations[place], strict=True)]
        table.add_row(str(place), f"{weight:.4f}", *cells[:_COLUMNS])
    console.print(table)
    if len(model.columns) > _COLUMNS:
        console.print(f"... and {len(model.columns) - _COLUMNS} more columns.")


def _described(model: "Loaded") -> dict[str, Any]:
    weights, means, covariances = _parameters(model.mixture)
    return {
        "n_components": model.mixture.n_components,
        "columns": model.columns,
        "weights": weights,
        "means": means,
        "covariances": covariances,
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
    console = Console(stderr=stderr, highlight=False, soft_wrap=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=_WIDTH)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_COLUMNS]) + (", ..." if len(names) > _COLUMNS else "")


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
