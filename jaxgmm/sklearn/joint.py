"""The joint distribution of the columns of a table, and what it says of entries that are missing."""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from jaxgmm.fitting.result import FitResult, Status
from jaxgmm.ground.rows import Evidence
from jaxgmm.model import extents
from jaxgmm.model.mixture import Mixture
from jaxgmm.model.recovery import denoise, impute, sample_missing
from jaxgmm.selection.restarts import fit_restarts
from jaxgmm.selection.select import select
from jaxgmm.sklearn.evidence import padded_rows

# More starts find nothing else where there is one component.
_ONE = 1


@dataclasses.dataclass(frozen=True)
class Joint:
    """A mixture of the columns that vary. The others tell nothing, and nothing tells them.

    Fields: `kept`, the mixture in numpy and as exact as the table, None if no column varies; `columns` (m,), places of
    those that it is of; `constants` (d,), the value of each other column, NaN where it has none.
    """

    kept: Any
    columns: np.ndarray
    constants: np.ndarray

    @property
    def mixture(self) -> Mixture | None:
        """The mixture as JAX holds it here; errors as of `held_here`."""
        return None if self.kept is None else held_here("mixture_", self.kept)

    @property
    def n_components(self) -> int:
        """How many components there are."""
        return 0 if self.kept is None else self.kept.n_components

    @classmethod
    def fitted(
        cls,
        table: np.ndarray,
        weights: np.ndarray,
        *,
        n_components: Any,
        form: Any,
        n_restarts: int,
        regularization: float,
        random_state: Any,
    ) -> "Joint":
        """The likeliest of so many components, or of as many as BIC prefers; NaN in the table (n, d) are gaps.

        Raises:
            ValueError: no fit has led to numbers that are finite.

        Warns:
            ConvergenceWarning: the fit has not converged, or a component has no width of its own in some direction.
        """
        constants = constant_columns(table, weights)
        columns = np.flatnonzero(np.isnan(constants) & ~np.isnan(table[weights > 0]).all(axis=0))
        if not columns.size:
            return cls(None, columns, constants)
        seed = check_random_state(random_state).randint(np.iinfo(np.int32).max)
        with jax.enable_x64(table.dtype == np.float64):
            key, rows = jax.random.key(seed), padded_rows(table[:, columns], weights)
            if np.ndim(n_components):
                found = select(key, rows, n_components, (form,), n_restarts=n_restarts, regularization=regularization)
                best = found.best
                for place, value in found.constants.items():
                    constants[columns[place]] = value
                columns = columns[list(found.columns)]
            else:
                n_restarts = n_restarts if n_components > 1 else _ONE
                best = fit_restarts(
                    key, rows, n_components, form, n_restarts=n_restarts, regularization=regularization
                ).best
            _tell(best)
            return cls(jax.tree.map(np.asarray, best.mixture), columns, constants)

    def imputed(self, table: np.ndarray) -> np.ndarray:
        """The table with the expectation of each entry that is missing, given those of its row that are not."""
        return self._with(table, impute)

    def drawn(self, table: np.ndarray, seed: int) -> np.ndarray:
        """The table with a draw of what is missing in each row."""
        return self._with(table, lambda mixture, rows: sample_missing(jax.random.key(seed), mixture, rows))

    def variances(self, table: np.ndarray) -> np.ndarray:
        """Of each entry (n, d), given those of its row that are there; 0 of these, and NaN where nothing is known."""
        found = self._with(table, lambda mixture, rows: denoise(mixture, rows).variances)
        found[:, np.setdiff1d(np.arange(found.shape[1]), self.columns)] *= 0
        return found

    def _with(self, table: np.ndarray, verb: Callable[[Mixture, Evidence], Any]) -> np.ndarray:
        """The table with constants for what is missing, and in the columns of the mixture what the verb says."""
        dtype = np.result_type(table, self.constants)
        table = np.where(np.isnan(table), self.constants, table).astype(dtype, copy=False)
        if self.kept is not None:
            with jax.enable_x64(dtype == np.float64):
                mixture = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), self.kept)
                rows = padded_rows(table[:, self.columns])
                table[:, self.columns] = np.asarray(verb(mixture, rows))[: len(table)]
        return table


def held_here(name: str, kept: Mixture) -> Mixture:
    """A mixture that is kept in numpy as JAX holds it here.

    Raises:
        ValueError: in float32 it would lose digits that its components need.
    """
    extents.check_digits(name, kept)
    mixture: Mixture = jax.tree.map(jnp.asarray, kept)
    return mixture


def constant_columns(table: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The one value of each column of the rows that are present, NaN where it has several or none."""
    table = table[weights > 0]
    seen = ~np.isnan(table)
    least, most = (of(np.where(seen, table, end), axis=0) for of, end in ((np.min, np.inf), (np.max, -np.inf)))
    return np.where(least == most, least, np.nan)


def _tell(best: FitResult) -> None:
    status = Status(int(best.status))
    if status == Status.CONVERGED:
        return
    found = f"The fit of the mixture ended as {status.name} after {int(best.n_iter)} steps. "
    if status == Status.NON_FINITE:
        raise ValueError(found + "Look for extreme values in X.")
    advice = "Try fewer components, more n_restarts, a form with fewer parameters, or a larger regularization."
    warnings.warn(found + advice, ConvergenceWarning, stacklevel=5)
