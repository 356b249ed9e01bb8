"""What processes tell each other: answers to one question, of which all get all, in one order."""

import contextlib
import pickle
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

_DONE, _STOPPED, _FAILED = range(3)


class StoppedError(Exception):
    """There is to be no more of what is being done."""


class Alone:
    """This process, whose answers are all there are."""

    first, number = True, 1

    def ask(self, answer: Callable[[], T]) -> list[T]:
        """What `answer` says in each process."""
        return [answer()]

    def leave(self) -> None:
        """Answer no more: what is being done is stopped, in all of them."""


class Together(Alone):
    """All processes of `jax.distributed`, which ask the same at the same time.

    Whatever ends one of them, a stop or an error, it tells in the place of its answer, and ends all.
    """

    def __init__(self) -> None:
        import jax

        self.first, self.number = jax.process_index() == 0, jax.process_count()

    def ask(self, answer: Callable[[], T]) -> list[T]:
        kind: int = _DONE
        told: Any = None
        raised: Exception | None = None
        try:
            told = answer()
        except (StoppedError, KeyboardInterrupt):
            kind = _STOPPED
        except Exception as error:
            kind, told, raised = _FAILED, f"{type(error).__name__}: {error}", error
        # Of arrays and numbers that these processes themselves have made.
        try:
            all_told = _gathered(pickle.dumps((kind, told)))
        except Exception as error:
            raise RuntimeError(
                f"This process has lost the others, as if one of them had ended: {str(error).splitlines()[0]}. Start "
                "them all again; with a checkpoint, a fit goes on from where it was."
            ) from (raised or error)
        found = [pickle.loads(one) for one in all_told]
        if raised is not None:
            raise raised
        for place, (other, what) in enumerate(found):
            if other == _FAILED:
                raise RuntimeError(f"Process {place} failed, and with it all others: {what}")
        if any(other == _STOPPED for other, _ in found):
            raise StoppedError
        return [what for _, what in found]

    def leave(self) -> None:
        with contextlib.suppress(StoppedError, RuntimeError):
            self.ask(_stop)


def _stop() -> None:
    raise StoppedError


def _gathered(told: bytes) -> list[bytes]:
    """Those of all processes."""
    from jax.experimental import multihost_utils

    sizes: Any = multihost_utils.process_allgather(np.array([len(told)], np.int32))
    room = np.zeros(int(np.max(sizes)), np.uint8)
    room[: len(told)] = np.frombuffer(told, np.uint8)
    rooms: Any = multihost_utils.process_allgather(room)
    return [bytes(one[:size]) for one, size in zip(np.asarray(rooms), np.ravel(sizes).tolist(), strict=True)]
