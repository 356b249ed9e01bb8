"""What kinds of columns a picture is of: numbers along a line, counts, levels, angles."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxgmm.families.support import Axis
from jaxgmm.model.mixture import Mixture

# What a column of levels takes up beyond the first and the last.
BESIDE = 0.6
_TURNS = [r"$-\pi$", r"$-\pi/2$", "0", r"$\pi/2$", r"$\pi$"]


def axes_of(mixture: Mixture) -> list[Axis]:
    """Where the numbers of each column lie."""
    return [mixture.components.axis(column) for column in range(mixture.n_columns)]


def turned(x: np.ndarray, axes: Sequence[Axis]) -> np.ndarray:
    """Rows (n, d) with columns that go around between their ends."""
    if not any(axis.around for axis in axes):
        return x
    x = np.array(x)
    for column, axis in enumerate(axes):
        if axis.around:
            x[:, column] = axis.low + (x[:, column] - axis.low) % (axis.high - axis.low)
    return x


def of_lines(ends: tuple[np.ndarray, np.ndarray], axes: Sequence[Axis]) -> tuple[np.ndarray, np.ndarray]:
    """The ends `near` most rows, where a column is a line on which rows may be far: no levels, and not around."""
    listed = np.array([axis.around or axis.n_levels is not None for axis in axes])
    return np.where(listed, -np.inf, ends[0]), np.where(listed, np.inf, ends[1])


def is_line(axis: Axis) -> bool:
    """Whether a column is of numbers along a line, which have a mean and a width."""
    return not axis.around and axis.n_levels is None


def check_lines(mixture: Mixture, what: str) -> None:
    """Refuse a picture of means and widths where a column has none."""
    _refuse(mixture, what, [not is_line(axis) for axis in axes_of(mixture)], "numbers along a line")


def check_levels(mixture: Mixture, what: str) -> None:
    """Refuse a map where there is nothing between the numbers of a column."""
    _refuse(mixture, what, [axis.n_levels is not None for axis in axes_of(mixture)], "numbers or angles")


def _refuse(mixture: Mixture, what: str, marks: list[bool], expected: str) -> None:
    if any(marks):
        column = marks.index(True)
        raise NotImplementedError(
            f"plot.{what} is of columns of {expected}, and column {column} holds "
            f"{mixture.components.axis(column).words}. Use plot.marginals for each column by itself, plot.profiles for "
            "what the components are like, or plot.assignment for the rows."
        )


def whole_of(axis: Axis) -> tuple[float, float]:
    """From where to where a column is shown whatever rows there are; infinite where that is for these to say."""
    if axis.n_levels is not None:
        return axis.low - BESIDE, axis.high + BESIDE
    return (axis.low, axis.high) if axis.around else (-np.inf, np.inf)


def dress(line: Any, axis: Axis) -> None:
    """All of a column of levels or angles along one of matplotlib's axes; limits and ticks from the caller stay."""
    from matplotlib.ticker import MaxNLocator

    along, free = line.axis_name, isinstance(line.get_major_locator(), MaxNLocator)
    if axis.n_levels is not None:
        low, high = axis.low - BESIDE, axis.high + BESIDE
        if free:
            line.get_major_locator().set_params(integer=True)
    elif axis.around:
        low, high = axis.low, axis.high
        if free:
            line.set_ticks(np.linspace(low, high, 5), _TURNS)
    else:
        return
    if getattr(line.axes, f"get_autoscale{along}_on")():
        line.axes.set(**{f"{along}lim": (low, high)})


def levels_of(levels: Any, names: Sequence[str] | None, axes: Sequence[Axis]) -> list[list[str] | None]:
    """Names of the levels of each column, None where none are given: for all that have as many, or by column."""
    if levels is None:
        return [None] * len(axes)
    found: list[list[str] | None] = [None] * len(axes)
    if not isinstance(levels, Mapping):
        given = [str(name) for name in levels]
        found = [given if axis.n_levels == len(given) else None for axis in axes]
        if not any(found):
            raise ValueError(f"levels holds {len(given)} names; expected as many as some column has levels.")
        return found
    for column, given in levels.items():
        known_as = list(names or ()) if isinstance(column, str) else list(range(len(axes)))
        if column not in known_as:
            raise ValueError(f"levels has column {column!r}; expected one of {known_as}, or names of the columns too.")
        place = known_as.index(column)
        if len(given) != axes[place].n_levels:
            raise ValueError(
                f"levels has {len(given)} names for column {column!r}, which holds {axes[place].words}; expected one "
                "for each level of a column that has some."
            )
        found[place] = [str(name) for name in given]
    return found
