"""Run the experiments and write their tables into the pages that have them, between the marks that name them.

`make numerics`. Takes some twenty minutes. With `--print`, as on a machine whose numbers the page does not state, they
are printed instead.
"""

import argparse
import inspect
import os
import platform
import re
from pathlib import Path

import jax
import jaxlib
import numpy as np
from tabulate import tabulate

jax.config.update("jax_enable_x64", True)

import classification  # noqa: E402
import derivatives  # noqa: E402
import how_many  # noqa: E402
import shrinkage  # noqa: E402

import experiments  # noqa: E402
from bad_input import BAD_INPUT, evaluate  # noqa: E402

DOCS = Path(__file__).parent.parent / "docs"
PAGES = (DOCS / "numerics.md", DOCS / "priors.md", DOCS / "sklearn.md")
MODULES = (classification, derivatives, how_many, experiments, shrinkage)


def cell(value: object) -> object:
    """A number to two digits, a flag as a word, anything else as it is."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.2g}" if isinstance(value, float) else value


def rows_of(name: str) -> list[dict[str, object]]:
    """The rows of an experiment, in both dtypes where it takes one."""
    experiment = next(getattr(module, name) for module in MODULES if hasattr(module, name))
    if inspect.signature(experiment).parameters.keys() & {"dtype"}:
        rows = [row for dtype in (np.float32, np.float64) for row in experiment(dtype)]
    else:
        rows = list(experiment())
    # Thousands of compiled programs would use up the memory maps a process may have.
    jax.clear_caches()
    return rows


def table(name: str) -> str:
    """The table that stands between the marks of `name`."""
    if name == "machine":
        return (
            f"Python {platform.python_version()}, jax {jax.__version__}, jaxlib {jaxlib.__version__}, "
            f"numpy {np.__version__}, {jax.default_backend().upper()} ({platform.machine()}, {os.cpu_count()} cores)."
        )
    if name == "bad_input":
        rows = []
        for call, _, _ in BAD_INPUT:
            try:
                evaluate(call)
            except (TypeError, ValueError) as error:
                message = str(error).replace("|", "\\|")
                rows.append({"call": f"`{call}`", "exception": type(error).__name__, "message": message})
    else:
        rows = [{key: cell(value) for key, value in row.items()} for row in rows_of(name)]
    return tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)


def main() -> None:
    """Replace every table of the pages, or those named on the command line; or print them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("names", nargs="*", help="which tables; default all")
    parser.add_argument("--print", action="store_true", help="print them, and leave the pages as they are")
    given = parser.parse_args()
    for page in PAGES:
        text = page.read_text()
        of_page = re.findall(r"<!-- begin (\w+) -->", text)
        for name in [name for name in given.names or of_page if name in of_page]:
            if given.print:
                print(f"{name}\n{table(name)}", flush=True)
                continue
            pattern = rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)"
            text = re.sub(
                pattern, lambda found, name=name: f"{found[1]}\n{table(name)}\n\n{found[2]}", text, flags=re.S
            )
        if not given.print:
            page.write_text(text)


if __name__ == "__main__":
    main()
