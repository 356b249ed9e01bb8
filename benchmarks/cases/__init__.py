"""The cases: each module has `points(quick)`, what is measured, and `run(point, dtype, quick)`, which yields rows.

Every point runs in a process of its own. A name maps to a module and to the part of it that the case is.
"""

import importlib
from types import ModuleType

CASES = {
    "grid": "iteration",
    "structures": "iteration",
    "whole_fit": "whole_fit",
    "many_fits": "many_fits",
    "panel": "panel",
    "restarts": "restarts",
    "optimum": "optimum",
    "choice": "choice",
    "recovery": "recovery",
    "photometry": "photometry",
    "memory": "memory",
    "large": "large",
    "acceleration": "acceleration",
    "gradient": "gradient",
    "derivative": "derivative",
    "likelihood": "likelihood",
    "partial": "partial",
    "bayesian": "bayesian",
    "cold_start": "cold_start",
    "growth": "growth",
}
# Where only one dtype says something.
DTYPES = {
    "memory": ("float32",),
    "large": ("float32",),
    "acceleration": ("float64",),
    "choice": ("float32",),
    "panel": ("float32",),
    "recovery": ("float32",),
    "gradient": ("float64",),
    "cold_start": ("float32",),
}


def dtypes_of(case: str) -> tuple[str, ...]:
    """The dtypes that a case is measured in."""
    return DTYPES.get(case, ("float32", "float64"))


def module_of(case: str) -> ModuleType:
    """The module of a case; imports what it measures, so only where it is run."""
    return importlib.import_module(f"benchmarks.cases.{CASES[case]}")
