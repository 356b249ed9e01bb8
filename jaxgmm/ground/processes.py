"""What processes tell each other: answers to one question, of which all get all, in one order."""

import contextlib
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

_DONE, _STOPPED, _INTERRUPTED, _FAILED = range(4)


class StoppedError(Exception):
    """There is to be no more of what is being done."""


class Alone:
    """This process, whose answers are all there are.

    Attributes: `first`, whether it is the first of all; their `number`; `interrupted`, whether Ctrl-C was pressed here
    while it was `held`.
    """

    first, number, interrupted = True, 1, False

    def ask(self, answer: Callable[[], T]) -> list[T]:
        """What `answer` says in each process."""
        return [answer()]

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Inside, Ctrl-C waits until it can be told to all others with an answer, if there are others."""
        yield


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
        raised: BaseException | None = None
        try:
            told = answer()
            if self.interrupted:
                kind, told = _STOPPED, None
            # Of arrays and numbers that these processes themselves have made.
            said = pickle.dumps((kind, told))
        except StoppedError:
            said = pickle.dumps((_STOPPED, None))
        except KeyboardInterrupt as error:
            said, raised = pickle.dumps((_INTERRUPTED, "KeyboardInterrupt")), error
        except Exception as error:
            said, raised = pickle.dumps((_FAILED, f"{type(error).__name__}: {error}")), error
        try:
            all_said = _gathered(said)
        except Exception as error:
            what = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise RuntimeError(
                f"This process has lost the others, as if one of them had ended: {what}. Start them all again; with a "
                "checkpoint, a fit goes on from where it was."
            ) from (raised or error)
        if raised is not None:
            raise raised
        found = [pickle.loads(one) for one in all_said]
        for place, (other, what) in enumerate(found):
            if other in (_FAILED, _INTERRUPTED):
                raise RuntimeError(f"Process {place} failed, and with it all others: {what}")
        if any(other == _STOPPED for other, _ in found):
            raise StoppedError
        return [what for _, what in found]

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield  # no thread but the main one hears of Ctrl-C
            return

        def remember(*_: Any) -> None:
            self.interrupted = True

        before = signal.signal(signal.SIGINT, remember)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
            self.interrupted = False


def _gathered(told: bytes) -> list[bytes]:
    """Those of all processes."""
    from jax.experimental import multihost_utils

    sizes: Any = multihost_utils.process_allgather(np.array([len(told)], np.int32))
    room = np.zeros(int(np.max(sizes)), np.uint8)
    room[: len(told)] = np.frombuffer(told, np.uint8)
    rooms: Any = multihost_utils.process_allgather(room)
    return [bytes(one[:size]) for one, size in zip(np.asarray(rooms), np.ravel(sizes).tolist(), strict=True)]
