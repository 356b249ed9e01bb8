"""What forms are meant by names."""

from typing import Any

from jaxgmm.covariance.table import LETTERS, known_as, names_shown
from jaxgmm.families.family import Family, Form
from jaxgmm.families.gaussian import Gaussian
from jaxgmm.ground import checks

ALL_MODELS = "mclust"
"""What stands for all structures of volume, shape and orientation."""
_SEVERAL = {ALL_MODELS: len(LETTERS)}


def forms_of(given: Any, n_columns: int) -> list[Form | str]:
    """The forms that are meant, each once and letters by their names: one or several, or "mclust" among them.

    Raises:
        ValueError, TypeError: as `form_of`.
    """
    found: dict[Form, Form | str] = {}
    for asked in listed(given):
        several = [asked]
        if isinstance(asked, str) and asked == ALL_MODELS:
            # Of one column there is but the volume.
            several = ["EII", "VII"] if n_columns == 1 else list(LETTERS)
        for one in several:
            meant = form_of(one)
            found.setdefault(meant, meant.name if isinstance(one, str) else one)
    return list(found.values())


def listed(value: Any) -> list[Any]:
    """What there is several of, or one."""
    try:
        return [value] if isinstance(value, str) else list(value)
    except TypeError:
        return [value]


def form_of(form: Any) -> Form:
    """The form that is meant: one, or the name of a covariance structure of Gaussians.

    Raises:
        ValueError: a name that is not known, or stands for several.
        TypeError: something else.
    """
    if isinstance(form, str):
        if form in _SEVERAL:
            raise ValueError(
                f"form is {form!r}, which stands for {_SEVERAL[form]} of them, and this takes a single one; expected "
                "one such as 'VVE'. select, select_many and the command line take it for all."
            )
        return Gaussian.form(known_as(form, "form"))
    if isinstance(form, Form):
        return form
    advice = f" Write {form.__name__}.form(...)." if isinstance(form, type) and issubclass(form, Family) else ""
    raise TypeError(
        f"form is {checks.found(form)}; expected one of {names_shown()}, or what a family's `form` "
        f"gives, such as StudentT.form('full', nu=4).{advice}"
    )
