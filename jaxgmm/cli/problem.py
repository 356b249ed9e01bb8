"""What can be wrong with what a user gave, in one line each."""


class Problem(Exception):
    """Ends the program with this line and this exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


NOT_FITTED = 3
"""Exit code where the data are fine and no fit of them is."""
