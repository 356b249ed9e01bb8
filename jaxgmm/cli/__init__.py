"""`jaxgmm` on the command line (needs the extra `cli`)."""

import sys

_EXTRA = ("filelock", "pandas", "pyarrow", "rich", "tqdm", "typer")


def main() -> None:
    """Run the command that the arguments of the process say, and exit."""
    try:
        from jaxgmm.cli.commands import run

        run()
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        sys.exit(f"jaxgmm: the command line needs {error.name}: pip install 'jaxgmm[cli]'")
