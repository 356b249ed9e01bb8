"""A progress bar, where one is asked for."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

# Between lines that say how far it is, where there is no terminal.
_SECONDS = 10
_LINE = "{desc}: {n_fmt} of {total_fmt} after {elapsed}, {remaining} left\n"


class Bar:
    """How much of a `total`, if that is known, is done; where there is no terminal, a line now and then."""

    def __init__(self, total: int | None, progress: bool, what: str) -> None:
        self._bar, self._total = None, total
        if not progress:
            return
        try:
            from tqdm.auto import tqdm
        except ImportError:
            raise ImportError("progress=True needs tqdm: pip install 'jaxgmm[progress]'.") from None
        lines = {} if sys.stderr.isatty() else {"mininterval": _SECONDS, "delay": _SECONDS, "bar_format": _LINE}
        self._bar = tqdm(total=total, desc=what, **lines)

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def say(self, what: str) -> None:
        """What it is that is being done."""
        if self._bar is not None:
            self._bar.set_description(what, refresh=False)

    def update(self, number: int = 1) -> None:
        """So many more are done."""
        if self._bar is not None:
            self._bar.update(number)

    def restart(self) -> None:
        """All is to be done again."""
        if self._bar is not None:
            self._bar.n = self._bar.last_print_n = 0
            self._bar.total = self._total

    def expect(self, number: int) -> None:
        """So many more are to be done, or fewer."""
        if self._bar is not None:
            self._bar.total += number


def shown(done: Iterable[T], total: int, progress: bool, what: str) -> Iterator[T]:
    """The same, with a progress bar if one is asked for."""
    with Bar(total, progress, what) as bar:
        for one in done:
            yield one
            bar.update()
