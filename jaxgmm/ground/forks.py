"""Forked processes in which JAX cannot run: raised at once, where a program would wait for ever."""

import os
import sys
import threading

# Set in a process that was forked from one in which JAX had started its threads. They are not in the copy.
_without_threads = threading.Event()


def check() -> None:
    """Raise where JAX cannot run, as its threads have been left behind in the process that this one was forked from."""
    if _without_threads.is_set():
        raise RuntimeError(
            "This process was forked from one that had already used JAX, whose threads do not come along: a program "
            "here would wait for ever. Start processes by multiprocessing.get_context('spawn') or joblib's default "
            "backend, or fork before anything uses JAX. Many fits in one process: jaxgmm.fit_many uses all cores."
        )


def _after_fork() -> None:
    # Not by a function of JAX: nothing may be loaded here, and a lock it takes may have no thread left to give it back.
    bridge = sys.modules.get("jax._src.xla_bridge")
    if bridge is not None and bridge._backends:
        _without_threads.set()


if hasattr(os, "register_at_fork"):  # which Windows lacks, as it does forks
    os.register_at_fork(after_in_child=_after_fork)
