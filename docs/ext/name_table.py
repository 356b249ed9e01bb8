"""The directive `name-table`: a line for each name, with what it takes, what it gives and what for, from the code."""

import inspect
import re
import typing

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import jaxgmm
import jaxgmm.plot
import jaxgmm.sklearn


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directive known."""
    app.add_directive("name-table", NameTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class NameTable(SphinxDirective):
    """A table of the names that its lines hold, such as `fit` or `Mixture.log_prob`."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Write it in Markdown and let Sphinx read that."""
        lines = ["| name | gives | what |", "|---|---|---|"]
        for name in filter(None, map(str.strip, self.content)):
            lines.append(f"| {link(name)} | {gives(found(name))} | {first_line(found(name))} |")
        return self.parse_text_to_nodes("\n".join(lines))


def found(name: str) -> object:
    """What the name stands for."""
    thing: object = jaxgmm
    for part in name.split("."):
        thing = inspect.getattr_static(thing, part) if inspect.isclass(thing) else getattr(thing, part)
    return getattr(thing, "__func__", thing)


def link(name: str) -> str:
    """The name, linked, with its arguments that have no default."""
    thing = found(name)
    if isinstance(thing, property) or inspect.isclass(thing):
        return f"{{py:obj}}`{name} <jaxgmm.{name}>`"
    parameters = list(inspect.signature(thing).parameters.values())
    parameters = [p for p in parameters if p.name not in ("self", "cls")]
    asked = [p.name for p in parameters if p.default is p.empty and p.kind != p.VAR_KEYWORD]
    more = ", …" if len(asked) < len(parameters) else ""
    return f"{{py:obj}}`{name} <jaxgmm.{name}>` `({', '.join(asked)}{more})`"


def gives(thing: object) -> str:
    """The type of the result, or its shape where it is an array."""
    if inspect.isclass(thing):
        return ""
    function = thing.fget if isinstance(thing, property) else thing
    return shape(inspect.signature(function).return_annotation)


def shape(annotation: object) -> str:
    """(n, k) of an annotated array, or the name of another type."""
    dims = getattr(annotation, "dim_str", None)
    if dims is not None:
        axes = [axis for axis in dims.split() if not axis.startswith("*")]
        return f"({', '.join(axes)}{',' if len(axes) == 1 else ''})"
    if typing.get_origin(annotation) is tuple:
        return ", ".join(map(shape, typing.get_args(annotation)))
    if annotation in (None, inspect.Signature.empty):
        return ""
    text = annotation.__name__ if type(annotation) is type else str(annotation)
    return f"`{re.sub(r'[A-Za-z_]+[.]', '', text)}`"


def first_line(thing: object) -> str:
    """What the docstring begins with."""
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ").split(" Raises ")[0]
