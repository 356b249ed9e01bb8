"""Programs kept in a folder, so that the next process need not compile them."""

import os
import sys
from importlib import metadata
from pathlib import Path

import jax

_LARGEST = 2**30


def keep_programs(folder: str | os.PathLike[str] | None = None) -> Path:
    """Keep what JAX compiles from here on in a folder, and find there what was compiled before.

    That is JAX's persistent cache, with settings that serve small programs and several processes at a time: all of what
    this process compiles is kept, the caller's own programs too, up to 1 GiB, beyond which those not used for longest
    go. Programs are found by all that they depend on, the version of XLA and the features of the processor among it, so
    that machines of different kinds may share the folder.

    jaxgmm never does this by itself. Where JAX has such a folder already, by `JAX_COMPILATION_CACHE_DIR` or the setting
    of that name, nothing is changed.

    Args:
        folder: where; made if it is not there. By default one for each version of JAX in the user's cache folder, such
            as `~/.cache/jaxgmm/jax-0.9.2-0.9.2`. A program from there is run as it is, so let nobody write there whom
            you would not let run code.

    Returns:
        The folder where programs are kept now.

    Raises:
        ImportError: without filelock, by which JAX keeps processes out of each other's way.
        OSError: the folder cannot be made or written to.
    """
    decided = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if decided is not None:
        return Path(decided)
    try:
        import filelock
    except ImportError:
        raise ImportError("keep_programs needs filelock: pip install filelock.") from None
    path = _of_this_version() if folder is None else Path(folder).absolute()
    path.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(path / ".lockfile"):
        _without_halves(path)
    for name, value in {
        "jax_compilation_cache_dir": os.fspath(path),
        "jax_compilation_cache_max_size": _LARGEST,
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }.items():
        jax.config.update(name, value)
    return path


def _without_halves(folder: Path) -> None:
    """Remove what a process that was stopped while it wrote has left: JAX would complain of it for ever.

    JAX writes the time of a program's latest use when it has written the program.
    """
    for program in folder.glob("*-cache"):
        if not program.with_name(program.name.removesuffix("-cache") + "-atime").exists():
            program.unlink()


def _of_this_version() -> Path:
    if sys.platform == "win32":
        caches = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        caches = Path.home() / "Library" / "Caches"
    else:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "jaxgmm" / f"jax-{metadata.version('jax')}-{metadata.version('jaxlib')}"
