"""Fits, and the choice among them."""

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgmm.fitting.result import FitResult
from jaxgmm.plot import style
from jaxgmm.selection.candidates import Selection
from jaxgmm.selection.restarts import Restarts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# How far from the winner the axis of a criterion goes, in medians of how far candidates are.
_SHOWN = 4
# Of more numbers of components than this, not each has its tick, and the notes above them stand upright from half on.
_TICKS = 12
_NAMES = {"aic": "AIC", "aicc": "AICc", "bic": "BIC", "icl": "ICL", "cv": "-2 log-likelihood held out"}


def criterion(selection: Selection, ax: "Axes | None" = None) -> "Axes":
    """The criterion against the number of components, a curve for each structure, the winner ringed.

    The bands span what the continued starts of each candidate reached; a wide one says that starts matter there. Where
    the best fit has a spurious component the marker is hollow; such candidates are not chosen, even if they lie lower.
    Those too far from the winner to be shown, and those that failed, are marked at the edge, with how far the nearest
    is above it. A figure with `layout="constrained"`, as a new one has, makes room for that and for the legend.
    """
    ax = style.axes(ax)
    candidates = list(zip(selection.ranked, (row["behind"] for row in selection.rows()), strict=True))
    forms = list(dict.fromkeys(candidate.form for candidate in selection.candidates))
    bottom, top = _ends(np.array([behind for _, behind in candidates]))
    edge = ax.get_xaxis_transform()
    for place, tried in enumerate(forms):
        look: dict[str, Any] = {"color": style.color(place), "marker": style.marker(place)}
        mine = sorted((one for one in candidates if one[0].form == tried), key=lambda one: one[0].n_components)
        ks = np.array([candidate.n_components for candidate, _ in mine])
        values = np.array([getattr(candidate, selection.criterion) for candidate, _ in mine])
        ax.plot(ks, values, color=look["color"], label=str(tried), zorder=2)
        for k, value, (candidate, behind) in zip(ks, values, mine, strict=True):
            mark = look | {"ls": "", "mfc": look["color"] if candidate.regular else "white", "zorder": 3}
            if bottom <= behind <= top:
                ax.plot(k, value, **mark)
            else:
                # Side by side, as all are at the same height.
                aside = 0.8 * ((place + 0.5) / len(forms) - 0.5)
                below = behind < bottom
                mark |= {"marker": "v" if below else "^", "transform": edge, "clip_on": False}
                ax.plot(k + aside, 0 if below else 1, **mark)
        if selection.criterion != "cv":
            worst = values + [2 * _spread(candidate.restarts) for candidate, _ in mine]
            ax.fill_between(ks, values, worst, color=look["color"], alpha=0.2, lw=0, zorder=1)
    winner = selection.winner
    at = winner.n_components, getattr(winner, selection.criterion)
    ax.plot(*at, "o", ms=14, mfc="none", mec="black", mew=1.5, zorder=4)
    margin = 0.08 * (top - bottom)
    if margin > 0:
        ax.set_ylim(at[1] + bottom - margin, at[1] + top + margin)
    ax.set(xlabel="number of components", ylabel=f"{_NAMES[selection.criterion]} (lower is better)")
    ks = np.unique([candidate.n_components for candidate, _ in candidates])
    if len(ks) <= _TICKS:
        ax.set_xticks(ks)
    else:
        ax.locator_params(axis="x", integer=True)
    beyond: dict[int, float] = {}
    for candidate, behind in candidates:
        nearest = beyond.get(candidate.n_components, np.nan)
        if not bottom <= behind <= top and not abs(behind) > abs(nearest):
            beyond[candidate.n_components] = nearest if np.isnan(behind) else behind
    if beyond:
        notes = ["no value" if np.isnan(behind) else f"{behind:+,.0f}" for behind in beyond.values()]
        above = ax.secondary_xaxis("top")
        above.set_xticks(list(beyond), notes, fontsize="small", rotation=90 if len(ks) > _TICKS / 2 else 0)
        above.set_xlabel("nearest beyond the edge, relative to the chosen", fontsize="small")
    style.legend(ax, _key(selection, forms), fontsize="small")
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


def _ends(behind: np.ndarray) -> tuple[float, float]:
    """How far below and above the winner are the last candidates that are shown.

    Some, mostly those of too few components, are often so far behind that nothing else could be told apart.
    """
    finite = behind[np.isfinite(behind)]
    differ = np.abs(finite[finite != 0])
    most = _SHOWN * np.median(differ) if differ.size else 0
    shown = finite[np.abs(finite) <= most]
    return float(np.min(shown, initial=0)), float(np.max(shown, initial=0))


def _key(selection: Selection, forms: list[Any]) -> list[Any]:
    """Handles of a legend that says what the picture of a criterion is made of."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    def line(label: str, **look: Any) -> Line2D:
        return Line2D([], [], label=label, **{"color": style.NEUTRAL, **look})

    handles: list[Any] = [
        line(str(form), color=style.color(place), marker=style.marker(place)) for place, form in enumerate(forms)
    ]
    winner = selection.winner
    if np.isfinite(getattr(winner, selection.criterion)):
        chosen = "chosen" if winner.regular else "lowest, not sound"
        ring = {"ls": "", "marker": "o", "ms": 12, "mfc": "none", "mec": "black", "mew": 1.5}
        handles.append(line(f"{chosen}:\n{winner.form}, k = {winner.n_components}", **ring))
    spurious = [row["behind"] for row in selection.rows() if not (row["regular"] or np.isnan(row["behind"]))]
    if spurious:
        lower = sum(behind < 0 for behind in spurious)
        outcome = f":\n{lower} lower, but not chosen" if lower else ":\nnot chosen"
        label = "spurious component" + outcome * winner.regular
        handles.append(line(label, ls="", marker="o", mfc="white"))
    if selection.criterion != "cv":
        handles.append(Patch(color=style.NEUTRAL, alpha=0.2, lw=0, label="reached by the\ncontinued starts"))
    return handles
