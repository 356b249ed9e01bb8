"""The check that nothing public goes undocumented."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from types import ModuleType

import typer
from sphinx.application import Sphinx
from sphinx.errors import SphinxError

import jaxgmm
import jaxgmm.plot
import jaxgmm.sklearn
from jaxgmm.cli.commands import app as command_line

# Where the public names of each module are documented.
PAGES = {jaxgmm: "api", jaxgmm.plot: "api", jaxgmm.sklearn: "sklearn"}


def setup(app: Sphinx) -> dict[str, bool]:
    """Run the check after every build, also one that found nothing to rebuild."""
    app.connect("build-finished", check_coverage)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def check_coverage(app: Sphinx, exception: Exception | None) -> None:
    """Fail the build unless every public name is on its page and has a docstring, its members included."""
    if exception is not None:
        return
    entries = app.env.domains.python_domain.objects.items()
    problems = []
    for module, page in PAGES.items():
        documented = {name for name, entry in entries if entry.docname == page}
        names = [f"{module.__name__}.{name}" for name in public(module)]
        problems += [f"{name}: not in docs/{page}.md" for name in names if name not in documented]
        problems += [f"{module.__name__}.{name}: no docstring" for name in undocumented(module)]
    text = app.env.doc2path("cli").read_text()
    problems += [f"{name}: not in docs/cli.md" for name in commands() if not re.search(rf"{name}(?![\w-])", text)]
    if problems:
        raise SphinxError("Undocumented public names:\n  " + "\n  ".join(problems))


def commands() -> Iterator[str]:
    """The commands of the command line, as one types them. Their options are listed from the code."""
    yield from (f"jaxgmm {name}" for name in typer.main.get_command(command_line).commands)


def public(module: ModuleType) -> list[str]:
    """What the module exports; without a list of that, the functions and classes that it defines itself."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    own = {name: thing for name, thing in vars(module).items() if getattr(thing, "__module__", "") == module.__name__}
    return [name for name, thing in own.items() if callable(thing) and not name.startswith("_")]


def undocumented(module: ModuleType) -> Iterator[str]:
    """Public names, and methods and properties of public classes, without a docstring of their own or from above."""
    for name in public(module):
        thing = getattr(module, name)
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
