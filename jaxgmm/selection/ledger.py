"""What is taken down while something is chosen for each of many data sets, some of them more than once."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxgmm.ground.sets import Given, Sets
from jaxgmm.selection.chosen import Chosen, Stack
from jaxgmm.selection.selections import Selections


class Ledger:
    """Numbers for each of the data sets, as far as they are known; what is taken down later counts."""

    def __init__(self, given: Given, forms: Sequence[Any], tried: Sequence[int], criterion: str, by: Any) -> None:
        n = len(given.names)
        self._given, self._forms, self._tried = given, tuple(forms), tuple(tried)
        self._said: dict[str, Any] = {"criterion": criterion, "schema": given.schema, "by": by}
        self._numbers: dict[str, Any] = {
            "n_components": np.zeros(n, int),
            "n_parameters": np.zeros(n, int),
            "log_likelihood": np.full(n, np.nan),
            "value": np.full(n, np.nan),
            "behind": np.full(n, np.nan),
            "passed_over": np.zeros(n),
            "regular": np.zeros(n, bool),
        }
        self._values = np.full((n, len(forms), len(tried)), np.nan)
        self._codes, self._which, self._where = np.zeros(n, int), np.full(n, -1), np.full((n, 2), -1)
        self._stacks: list[Stack] = []
        self._outliers: dict[int, tuple[int, ...]] = {}
        self._errors: dict[int, str] = dict(given.faults)

    def chose(self, numbers: np.ndarray, columns: np.ndarray, chosen: Chosen) -> None:
        """What was chosen for the data sets of these numbers (c,), in these of their columns (c, d)."""
        fine = np.isfinite(chosen.value)
        self._values[numbers] = chosen.values
        self._codes[numbers] = chosen.status
        for number in numbers[~fine].tolist():
            self.failed(number, "no fit has a finite likelihood")
        mine = numbers[fine]
        self._which[mine] = chosen.form[fine]
        self._numbers["n_components"][mine] = np.array(self._tried)[chosen.count[fine]]
        for name in ("n_parameters", "log_likelihood", "value", "behind", "passed_over", "regular"):
            self._numbers[name][mine] = getattr(chosen, name)[fine]
        for which in np.unique(chosen.form[fine]).tolist():
            places = np.flatnonzero(fine & (chosen.form == which))
            mixture = jax.tree.map(lambda leaf, places=places: leaf[places], chosen.best[which])
            here = [np.full(len(places), len(self._stacks)), np.arange(len(places))]
            self._where[numbers[places]] = np.stack(here, axis=1)
            self._stacks.append(Stack(self._forms[which], mixture, numbers[places], columns[places]))

    def failed(self, number: int, why: str) -> None:
        """Why a data set cannot be fitted."""
        self._errors[number] = why
        self._where[number] = self._which[number] = -1
        for array in self._numbers.values():
            array[number] = np.nan if array.dtype.kind == "f" else 0
        self._numbers["passed_over"][number] = 0

    def set_aside(self, sets: Sets, alone: np.ndarray) -> None:
        """Which rows (N,) stand alone."""
        for place in np.unique(sets.owner[alone]).tolist():
            found = np.flatnonzero(alone[sets.rows(place)])
            self._outliers[int(sets.numbers[place])] = tuple(found.tolist())

    def selections(self) -> Selections:
        """The whole of it."""
        names = self._given.names
        return Selections(
            names=names,
            forms=self._forms,
            tried=self._tried,
            values=self._values,
            outliers={names[number]: found for number, found in sorted(self._outliers.items())},
            errors={names[number]: why for number, why in sorted(self._errors.items())},
            _widths=self._given.widths,
            _codes=self._codes,
            _forms=self._which,
            _stacks=self._stacks,
            _where=self._where,
            **self._numbers,
            **self._said,
        )
