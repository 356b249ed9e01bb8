"""What numbers rows of a family may hold, and what to say of others."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from jaxgmm.ground import hosts
from jaxgmm.ground.rows import Evidence

Support = Literal["real", "positive", "nonnegative", "unit", "counts", "binary", "codes", "several"]
"""What numbers a column may hold; "several" where that is not the same for all."""


class Axis(NamedTuple):
    """Where the numbers of a column lie, for what is drawn or summed over them.

    Fields: `low`, `high`, the ends; `whole`, whether numbers between are whole; `around`, whether one end is next to
    the other, as those of angles are.
    """

    low: float = -np.inf
    high: float = np.inf
    whole: bool = False
    around: bool = False

    @property
    def n_levels(self) -> int | None:
        """How many numbers there are, where they can be listed."""
        return int(self.high - self.low) + 1 if self.whole and np.isfinite(self.high) else None

    @property
    def words(self) -> str:
        """What the numbers are."""
        if self.n_levels is not None:
            return f"levels from {self.low:g} to {self.high:g}"
        return "angles" if self.around else "counts" if self.whole else "numbers"


class Rule(NamedTuple):
    """Fields: `holds`, of an array; `words` for what it holds for."""

    holds: Callable[[np.ndarray], np.ndarray]
    words: str


def _whole(x: np.ndarray) -> np.ndarray:
    return (x >= 0) & (x == np.floor(x))


RULES: dict[str, Rule] = {
    "positive": Rule(lambda x: x > 0, "positive numbers"),
    "nonnegative": Rule(lambda x: x >= 0, "numbers that are not negative"),
    "unit": Rule(lambda x: (x > 0) & (x < 1), "numbers between 0 and 1, and neither of these"),
    "counts": Rule(_whole, "counts: whole numbers from 0"),
    "binary": Rule(lambda x: (x == 0) | (x == 1), "0 and 1"),
    "codes": Rule(_whole, "codes: whole numbers from 0"),
}

AXES: dict[str, Axis] = {
    "positive": Axis(0.0),
    "nonnegative": Axis(0.0),
    "unit": Axis(0.0, 1.0),
    "counts": Axis(0.0, whole=True),
    "binary": Axis(0.0, 1.0, whole=True),
    "codes": Axis(0.0, whole=True),
}


ADVICE = (
    "Give that column another family, that row weight 0, or NaN for an entry that is not known, with jaxgmm.rows(x, "
    "missing='nan')."
)


def check_support(
    components: Any,
    rows: Evidence,
    name: str = "x",
    *,
    columns: Any = None,
    advice: str = ADVICE,
) -> None:
    """Refuse rows that hold what none of the components could be of, where that can be seen.

    Components without numbers do, as `jax.eval_shape` gives them. `columns` are what the columns are called, by default
    their numbers, and `advice` is what to do, in sentences.
    """
    if components.support == "real" or hosts.is_spread(rows.x):
        return
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((rows.x, rows.weights, rows.seen))):
        return
    x = np.asarray(rows.x)
    bad = components.impossible(x)
    if bad is None:
        return
    # What is no number is told elsewhere.
    bad = bad & np.isfinite(x)
    if rows.weights is not None:
        bad = bad & (np.asarray(rows.weights) > 0)[:, None]
    if rows.seen is not None:
        bad = bad & np.asarray(rows.seen)
    if not bad.any():
        return
    row, column = (int(place) for place in np.argwhere(bad)[0])
    more = int(bad.sum()) - 1
    raise ValueError(
        f"{name} holds {x[row, column]:.9g} in row {row}, column {column if columns is None else columns[column]!r}"
        + (f", and {more} more entries like it" if more else "")
        + f"; {components.expects(column)}. {advice}"
    )
