"""The directive `composition-table`: what works with what, by trying it while the page is made."""

import sys
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

sys.path.append(str(Path(__file__).parents[2] / "tests"))
import composition


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directive known."""
    app.add_directive("composition-table", CompositionTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class CompositionTable(SphinxDirective):
    """One of the tables of `tests/composition.py`: its argument names the function."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Write it in Markdown and let Sphinx read that."""
        found = getattr(composition, self.arguments[0])()
        across = list(next(iter(found.values())))
        lines = ["| |" + "".join(f" {name} |" for name in across), "|---|" + "---|" * len(across)]
        for name, row in found.items():
            lines.append(f"| {name} |" + "".join(f" {'no' if row[key] else 'yes'} |" for key in across))
        said = {message: None for row in found.values() for message in row.values() if message}
        notes = ["", "Where there is a no, it says:", "", *(f"- {message}" for message in said)] if said else []
        return self.parse_text_to_nodes("\n".join(lines + notes))
