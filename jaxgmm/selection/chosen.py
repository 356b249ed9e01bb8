"""The candidates of many data sets put side by side, as a `Selection` puts those of one."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxgmm.model.mixture import Mixture
from jaxgmm.selection.components import ComponentSelection

# What likelihoods are not told apart by, in what fits leave open.
_OPEN = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Chosen:
    """What the criterion prefers for each of some data sets.

    Fields: `form` and `count` (c,), places in what was asked for; `value` (c,), of the criterion, infinite where no
    candidate has one; `behind` (c,), how far the next candidate is behind; `passed_over` (c,), by how much, at least, a
    fit with a spurious component is lower; `n_parameters`, `log_likelihood`, `status`, `regular` (c,), of the winner;
    `values` (c, f, m), of all candidates; `best`, for each form the mixtures of its own winners.
    """

    form: np.ndarray
    count: np.ndarray
    value: np.ndarray
    behind: np.ndarray
    passed_over: np.ndarray
    n_parameters: np.ndarray
    log_likelihood: np.ndarray
    status: np.ndarray
    regular: np.ndarray
    values: np.ndarray
    best: tuple[Mixture, ...]

    @classmethod
    def of(cls, found: Sequence[ComponentSelection], open_: np.ndarray, *, spurious: bool) -> "Chosen":
        """From what was found for each form, where likelihoods may be off by so much (c,)."""

        def all_of(name: str) -> np.ndarray:
            """Of every candidate (c, f, m), in the order they were asked for."""
            return np.stack([getattr(one, name) for one in found], axis=1)

        values, regular = all_of("criterion").astype(np.float64), all_of("regular")
        n, _, m = values.shape
        resolution = _OPEN * open_[:, None]
        flat = values.reshape(n, -1)
        p, likelihood = (all_of(name).reshape(n, -1) for name in ("n_parameters", "log_likelihood"))
        eligible = np.isfinite(flat) & (regular.reshape(n, -1) | spurious)
        eligible = np.where(eligible.any(axis=1, keepdims=True), eligible, np.isfinite(flat))
        each = np.arange(n)
        compared = np.where(eligible, flat, np.inf)
        least = np.argmin(compared, axis=1)
        close = np.abs(likelihood - likelihood[each, least][:, None]) <= resolution
        tied = eligible & close & (p == p[each, least][:, None])
        winner = np.where(tied.any(axis=1), np.argmax(tied, axis=1), least)
        value = flat[each, winner]
        others = np.where(tied, np.inf, compared)
        others[each, winner] = np.inf
        higher = all_of("passed_over").reshape(n, -1)
        with np.errstate(invalid="ignore"):
            behind = np.maximum(np.min(others, axis=1) - value, 0)
            lower = np.max(value[:, None] - np.where(higher > resolution, flat - 2 * higher, flat), axis=1)
        fine = np.isfinite(value)
        return cls(
            form=winner // m,
            count=winner % m,
            value=value,
            behind=np.where(np.isfinite(behind), behind, np.nan),
            passed_over=np.where(fine & (lower > 2 * resolution[:, 0]), lower, 0),
            n_parameters=p[each, winner],
            log_likelihood=likelihood[each, winner],
            status=all_of("status").reshape(n, -1)[each, winner],
            regular=regular.reshape(n, -1)[each, winner],
            values=values,
            best=tuple(one.best.mixture for one in found),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Stack:
    """Mixtures of one form in as many columns: of the data sets `numbers` (c,), in their `columns` (c, d)."""

    form: Any
    mixture: Mixture
    numbers: np.ndarray
    columns: np.ndarray
