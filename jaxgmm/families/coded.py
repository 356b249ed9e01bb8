"""Codes of names, which are no numbers to the forms that take them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxgmm.families.family import Form
from jaxgmm.families.table import form_of
from jaxgmm.ground import levels
from jaxgmm.ground.schema import Schema

# A code that no column of names has, and counts may have.
_NO_CODE = 2.0**20


def check_levels(forms: Sequence[Any], schema: Schema, name: str = "x") -> None:
    """Refuse forms that take codes of names for numbers, of rows with this schema.

    Raises:
        ValueError: there is one, with its column and what to write.
    """
    places = [place for place, own in enumerate(schema.levels) if own is not None]
    for form in forms if places else []:
        takes = takes_numbers(form_of(form), len(schema.names))
        if wrong := [place for place in places if takes[place]]:
            column, own = schema.names[wrong[0]], schema.levels[wrong[0]] or ()
            raise ValueError(
                f"{name} holds names in column {column!r} ({levels.shown(own)}), and {form} has numbers there. Write "
                f"jaxgmm.table_form({name}) for the form, which gives each column a family by its kind, or leave out "
                "columns of names."
            )


def takes_numbers(form: Form, n_columns: int) -> np.ndarray:
    """Whether each column may hold any number, or any count, and not only codes of so many levels."""
    bad = form.by_shapes(n_columns).impossible(np.full((1, n_columns), _NO_CODE))
    return np.ones(n_columns, bool) if bad is None else ~bad[0]
