"""Programs that XLA has compiled, kept from one run to the next."""

import contextlib
import os
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import filelock
import jax
import platformdirs
from jax.experimental.compilation_cache import compilation_cache

_LARGEST = 2**30


@contextlib.contextmanager
def kept_programs() -> Iterator[None]:
    """Inside the block, JAX keeps what it compiles in the user's cache folder, and finds there what it compiled before.

    One process at a time: two that shared the folder were seen to load programs that computed other numbers. A second
    one compiles for itself. Whoever has set `JAX_COMPILATION_CACHE_DIR` has decided already.
    """
    if jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]
        yield
        return
    folder = platformdirs.user_cache_path("jaxgmm") / f"jax-{jax.__version__}-{metadata.version('jaxlib')}"
    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(filelock.FileLock(folder / "in-use", timeout=0))
        except (OSError, filelock.Timeout):
            yield
            return
        for name, value in {
            "jax_compilation_cache_dir": os.fspath(folder),
            "jax_compilation_cache_max_size": _LARGEST,
            "jax_persistent_cache_min_compile_time_secs": 0.0,
            "jax_persistent_cache_min_entry_size_bytes": -1,
        }.items():
            jax.config.update(name, value)
        yield


def forget_programs() -> None:
    """Compile everything anew from here on, and keep nothing of what was kept."""
    folder = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    jax.clear_caches()
    if folder is not None:
        for path in Path(folder).glob("*-cache"):
            path.unlink(missing_ok=True)
