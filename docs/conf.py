"""Sphinx configuration, and the check that nothing public goes undocumented."""

import ast
import inspect
import textwrap
from collections.abc import Iterator

from sphinx.application import Sphinx
from sphinx.errors import SphinxError

import jaxgmm

project = "jaxgmm"
version = release = jaxgmm.__version__
exclude_patterns = ["_build"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]

html_theme = "furo"
html_title = f"jaxgmm {version}"

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

# Docstrings put names and shapes between single backticks.
default_role = "code"
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Fields", "params_style")]
# Docstrings state shapes and units; the annotations would say the same once more, at length.
autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"


def setup(app: Sphinx) -> None:
    """Run the check after every build, also one that found nothing to rebuild."""
    app.connect("build-finished", check_coverage)
    app.connect("autodoc-process-docstring", keep_first_line, priority=400)


def keep_first_line(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Keep napoleon, which comes next, from reading the first line of a property as `type: description`."""
    if what == "property":
        lines[:0] = ["..", ""]  # an empty comment


def check_coverage(app: Sphinx, exception: Exception | None) -> None:
    """Fail the build unless every public name is on the page `api` and has a docstring, its members included."""
    if exception is not None:
        return
    documented = {name for name, entry in app.env.domains.python_domain.objects.items() if entry.docname == "api"}
    problems = [f"jaxgmm.{name}: not in docs/api.md" for name in jaxgmm.__all__ if f"jaxgmm.{name}" not in documented]
    problems += [f"jaxgmm.{name}: no docstring" for name in undocumented()]
    if problems:
        raise SphinxError("Undocumented public names:\n  " + "\n  ".join(problems))


def undocumented() -> Iterator[str]:
    """Public names, and methods and properties of public classes, without a docstring of their own or from above."""
    for name in jaxgmm.__all__:
        thing = getattr(jaxgmm, name)
        if not inspect.getdoc(thing):
            yield name
        if inspect.isclass(thing):
            yield from (f"{name}.{member}" for member in public_members(thing) if not member_doc(thing, member))


def public_members(cls: type) -> set[str]:
    """Methods and properties that the library defines on `cls` or on a class above it."""
    return {
        name
        for base in library_bases(cls)
        for name, value in vars(base).items()
        if not name.startswith("_") and (inspect.isroutine(value) or isinstance(value, property))
    }


def member_doc(cls: type, name: str) -> str | None:
    """Docstring of a member; one that a base class declares for type checkers only is read from its source."""
    if doc := inspect.getdoc(getattr(cls, name)):
        return doc
    for base in library_bases(cls):
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(base)))):
            if isinstance(node, ast.FunctionDef) and node.name == name and (doc := ast.get_docstring(node)):
                return doc
    return None


def library_bases(cls: type) -> list[type]:
    """`cls` and the classes above it that belong to the library."""
    return [base for base in cls.__mro__ if base.__module__.startswith("jaxgmm.")]
