"""The directive `option-table`: the options of the command line, the commands that have them, and what they do."""

import typer
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from jaxgmm.cli.commands import app as command_line


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directive known."""
    app.add_directive("option-table", OptionTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class OptionTable(SphinxDirective):
    """One line for each option, in the order in which the commands bring them."""

    def run(self) -> list[nodes.Node]:
        """Write it in Markdown and let Sphinx read that."""
        users: dict[tuple[str, str], list[str]] = {}
        for name, command in typer.main.get_command(command_line).commands.items():
            for parameter in command.params:
                if parameter.param_type_name == "option" and not parameter.hidden:
                    names = ", ".join(f"`{text}`" for text in (*parameter.opts, *parameter.secondary_opts))
                    users.setdefault((names, parameter.help or ""), []).append(name)
        lines = ["| option | of | what |", "|---|---|---|"]
        lines += [f"| {names} | {', '.join(of)} | {what} |" for (names, what), of in users.items()]
        return self.parse_text_to_nodes("\n".join(lines))
