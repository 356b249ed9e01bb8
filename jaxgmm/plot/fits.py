"""Fits, and the choice among them."""

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgmm.fitting.result import FitResult
from jaxgmm.plot import style
from jaxgmm.selection.candidates import Selection
from jaxgmm.selection.restarts import Restarts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# How far above the winner the axis of a criterion goes, in medians of what candidates are behind.
_SHOWN = 4
_NAMES = {"aic": "AIC", "aicc": "AICc", "bic": "BIC", "icl": "ICL", "cv": "-2 log-likelihood held out"}


def criterion(selection: Selection, ax: "Axes | None" = None) -> "Axes":
    """The criterion against the number of components, a curve for each structure, the winner ringed.

    The bands span what the continued starts of each candidate reached; a wide one says that starts matter there. Where
    the best fit has a spurious component the marker is hollow. Candidates far behind may lie above the picture.
    """
    ax = style.axes(ax)
    structures = list(dict.fromkeys(candidate.form for candidate in selection.candidates))
    for place, structure in enumerate(structures):
        color, marker = style.color(place), style.marker(place)
        mine = [c for c in selection.candidates if c.form == structure and c.restarts is not None]
        mine.sort(key=lambda candidate: candidate.n_components)
        ks = np.array([candidate.n_components for candidate in mine])
        values = np.array([getattr(candidate, selection.criterion) for candidate in mine])
        ax.plot(ks, values, color=color, label=structure or "", zorder=2)
        for k, value, candidate in zip(ks, values, mine, strict=True):
            ax.plot(k, value, marker, color=color, mfc=color if candidate.regular else "white", zorder=3)
        if selection.criterion != "cv":
            worst = [value + 2 * _spread(one.restarts) for value, one in zip(values, mine, strict=True)]
            ax.fill_between(ks, values, worst, color=color, alpha=0.2, lw=0, zorder=1)
    winner = selection.winner
    at = winner.n_components, getattr(winner, selection.criterion)
    ax.plot(*at, "o", ms=14, mfc="none", mec="black", mew=1.5, zorder=4)
    ax.annotate(f"{winner.form or ''} k = {at[0]}", at, (0, -18), textcoords="offset points", ha="center")
    ax.set(xlabel="number of components", ylabel=f"{_NAMES[selection.criterion]} (lower is better)")
    ax.locator_params(axis="x", integer=True)
    # Too few components are often so far behind that nothing else could be told apart.
    behind = np.array([row["behind"] for row in selection.rows()])
    behind = behind[np.isfinite(behind)]
    most = _SHOWN * np.median(behind) if behind.size else 0
    if 0 < most < np.max(behind):
        ax.set_ylim(at[1] - 0.2 * most, at[1] + most)
    else:
        ax.margins(y=0.2)
    if len(structures) > 1:
        ax.legend(frameon=False)
    return ax


def restarts(restarts: Restarts, ax: "Axes | None" = None) -> "Axes":
    """The log-likelihood that every start reached, sorted, and which of them won.

    Crosses have a spurious component, rings were not continued to convergence.
    """
    ax = style.axes(ax)
    value, regular, finished = (
        np.asarray(leaf) for leaf in (restarts.log_likelihood, restarts.regular, restarts.finished)
    )
    order = np.argsort(-value)
    rank = np.empty_like(order)
    rank[order] = np.arange(1, order.size + 1)
    kinds: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
        "converged": (regular & finished, {"marker": "o", "color": style.COLORS[0]}),
        "not continued": (regular & ~finished, {"marker": "o", "mfc": "white", "color": style.COLORS[0]}),
        "spurious": (~regular, {"marker": "x", "color": style.COLORS[1]}),
    }
    for label, (chosen, look) in kinds.items():
        if chosen.any():
            ax.plot(rank[chosen], value[chosen], ls="", label=label, **look)
    winner = int(restarts.winner)
    ax.plot(rank[winner], value[winner], "o", ms=14, mfc="none", mec="black", mew=1.5, ls="", label="best")
    ax.set(xlabel="start, by rank", ylabel="log-likelihood")
    ax.legend(frameon=False)
    return ax


def convergence(result: FitResult, ax: "Axes | None" = None) -> "Axes":
    """What was still to be gained before every step of a fit, on a log axis; a line for each fit of a stack."""
    ax = style.axes(ax)
    histories = np.atleast_2d(np.asarray(result.history, float))
    opacity = max(0.2, 1 / len(histories))
    for history, value in zip(histories, np.atleast_1d(np.asarray(result.log_likelihood, float)), strict=True):
        gap = value - history[np.isfinite(history)]
        ax.plot(np.arange(gap.size)[gap > 0], gap[gap > 0], ".-", color=style.COLORS[0], alpha=opacity)
    ax.set(xlabel="step", ylabel="log-likelihood still to be gained", yscale="log")
    return ax


def _spread(restarts: Restarts | None) -> float:
    """How far the worst of the continued regular starts stayed behind the best."""
    if restarts is None:
        return 0.0
    chosen = np.asarray(restarts.regular & restarts.finished)
    values = np.asarray(restarts.log_likelihood)[chosen]
    return float(np.max(values) - np.min(values)) if values.size else 0.0
