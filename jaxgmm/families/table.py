"""The tables from public names to families and forms."""

from typing import Any

from jaxgmm.covariance.table import STRUCTURES
from jaxgmm.families.family import Family, Form
from jaxgmm.families.gaussian import Gaussian
from jaxgmm.families.noise import WithNoise
from jaxgmm.families.student_t import StudentT
from jaxgmm.ground import checks

FAMILIES: dict[str, type[Family]] = {"Gaussian": Gaussian, "StudentT": StudentT, "WithNoise": WithNoise}
"""Those that a saved mixture may name."""


def form_of(form: Any) -> Form:
    """The form that is meant: one, or the name of a covariance structure of Gaussians.

    Raises:
        ValueError: a name that is not known.
        TypeError: something else.
    """
    if isinstance(form, str):
        return Gaussian.form(checks.one_of("form", form, STRUCTURES))
    if isinstance(form, Form):
        return form
    advice = f" Write {form.__name__}.form(...)." if isinstance(form, type) and issubclass(form, Family) else ""
    raise TypeError(
        f"form is {checks.found(form)}; expected one of {', '.join(map(repr, STRUCTURES))}, or what a family's `form` "
        f"gives, such as StudentT.form('full', nu=4).{advice}"
    )
