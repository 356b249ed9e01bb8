"""The compiled programs of the library: how each is compiled, and how long it is kept.

Every function that the library compiles is a `program`. Called at top level, outside any trace, each kind of arguments
gets a program of its own. XLA's options follow from the size of its work, so that a small fit does not wait for machine
code that only a large one gains from. Only so many of them are kept: JAX itself never lets one go, and some hundred
large ones use up the memory maps of a process. Inside a trace of the caller's, a program is an ordinary `jax.jit`.
"""

import collections
import concurrent.futures
import functools
import inspect
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.extend.core
import jaxlib
import numpy as np

from jaxgmm.ground import forks, versions

versions.warn_of_hangs(jaxlib.__version__)  # type: ignore[attr-defined]

# Programs kept at a time. A fit takes some hundred of the 65,530 memory maps that Linux gives a process.
_KEPT = 100
# Multiplications, over all passes of a call, up to which machine code serves best that compiles in a quarter of the
# time and runs at a quarter of the speed, and up to which such that compiles in half and runs at two thirds.
_SMALL, _MEDIUM = 2e7, 3e8

_trace_state = getattr(jax.extend.core, "get_opaque_trace_state", None) or jax.core.get_opaque_trace_state
# In a thread of its own nothing is being traced, as it may be here: names are imported where they are first used.
with concurrent.futures.ThreadPoolExecutor(1) as _pool:
    _TOP_LEVEL = _pool.submit(_trace_state, convention="flax").result()


def at_top_level() -> bool:
    """Whether nothing is being traced here, neither by `jit` nor by any other transformation."""
    return bool(_trace_state(convention="flax") == _TOP_LEVEL)


def program(
    function: Callable[..., Any] | None = None, *, static: Sequence[str] = (), work: Callable[..., float] | None = None
) -> Any:
    """`function` compiled; a decorator, with or without arguments.

    Args:
        function: takes and returns trees of arrays.
        static: names of arguments that are compiled in, and hashable.
        work: of the same arguments, how many multiplications a call takes, by their shapes alone. By default as many as
            the arguments have entries.
    """
    if function is None:
        return functools.partial(program, static=static, work=work)
    return functools.wraps(function)(_Program(function, tuple(static), work or _entries))


class _Program:
    def __init__(self, function: Callable[..., Any], static: tuple[str, ...], work: Callable[..., float]) -> None:
        self._function, self._static, self._work = function, static, work
        self._signature = inspect.signature(function)
        self._traced = jax.jit(function, static_argnames=static)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        forks.check()
        if not at_top_level():
            return self._traced(*args, **kwargs)
        given = self._signature.bind(*args, **kwargs).arguments
        fixed = tuple(given[name] for name in self._static if name in given)
        leaves, tree = jax.tree.flatten([value for name, value in given.items() if name not in self._static])
        options = _options(float(self._work(*args, **kwargs)), leaves)
        key = (self, fixed, tree, tuple(map(_kind, leaves)), tuple(options.items()))
        return _store.get(key, lambda: self._compiled(options))(*args, **kwargs)

    def _compiled(self, options: dict[str, Any]) -> Callable[..., Any]:
        # A function of its own: what JAX keeps for it goes with it.
        @functools.wraps(self._function)
        def own(*args: Any, **kwargs: Any) -> Any:
            return self._function(*args, **kwargs)

        return jax.jit(own, static_argnames=self._static, compiler_options=options or None)


class _Store:
    """The programs used latest."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._programs: collections.OrderedDict[Hashable, Callable[..., Any]] = collections.OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
        with self._lock:
            if key not in self._programs:
                self._programs[key] = make()
                while len(self._programs) > self.size:
                    self._programs.popitem(last=False)
            self._programs.move_to_end(key)
            return self._programs[key]


_store = _Store(_KEPT)


def _kind(leaf: Any) -> Hashable:
    """All that a program may depend on of an argument, but for settings of JAX, which `jit` looks at."""
    return getattr(leaf, "shape", None), getattr(leaf, "dtype", type(leaf))


def _entries(*args: Any, **kwargs: Any) -> float:
    return float(sum(np.size(leaf) for leaf in jax.tree.leaves((args, kwargs)) if hasattr(leaf, "shape")))


def _options(work: float, leaves: list[Any]) -> dict[str, Any]:
    """What XLA is told. The same for the same shapes, so that the same call gives the same bits."""
    if work > _MEDIUM or jax.default_backend() != "cpu" or not all(map(on_cpu, leaves)):
        return {}
    level: dict[str, Any] = {"xla_backend_optimization_level": 0 if work <= _SMALL else 1}
    if jax.__version_info__ < (0, 11):
        return level | {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}
    # Later ones have no other way to emit fused loops, and level 1 takes them as long as the default.
    return level if work <= _SMALL else {}


def on_cpu(leaf: Any) -> bool:
    """Whether nothing of it is on an accelerator."""
    return not isinstance(leaf, jax.Array) or all(device.platform == "cpu" for device in leaf.devices())
