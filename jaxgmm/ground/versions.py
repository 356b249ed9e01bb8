"""Versions of JAX under which programs may not return."""

import warnings


def warn_of_hangs(jaxlib: str) -> None:
    """Warn if this version of jaxlib is one of those that jaxgmm's requirements exclude.

    On a CPU they cut large batches of factorisations and solves into pieces for the very threads that wait for them.
    """
    if (0, 10) <= tuple(int(part) for part in jaxlib.split(".")[:2]) < (0, 11) or jaxlib.startswith("0.11.0"):
        warnings.warn(
            f"jaxlib {jaxlib} is installed, under which a program that factorises many matrices may wait for ever on a "
            "CPU, at no use of it, as all of 0.10.0 to 0.11.0 do. Install another: pip install -U "
            "'jax!=0.10.*,!=0.11.0' 'jaxlib!=0.10.*,!=0.11.0' (0.9.2 on Python 3.11).",
            RuntimeWarning,
            stacklevel=2,
        )
