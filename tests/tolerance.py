"""The one table of tolerances, by dtype. A test names what kind of equality it states."""

import jax.numpy as jnp
import numpy as np
import pytest

TOLERANCES = {
    # a few roundings of numbers of order one
    "exact": {np.float32: 2e-5, np.float64: 1e-12},
    # sums over rows, factorisations, a quadrature
    "close": {np.float32: 1e-3, np.float64: 1e-8},
    # where an iteration ends: the likelihood is flat, so parameters hold half its digits
    "converged": {np.float32: 2e-2, np.float64: 1e-5},
}


def dtype() -> type:
    """The floating point type the suite runs in."""
    return np.dtype(jnp.result_type(float)).type


# For what depends on no dtype: counts of programs, programs kept on disk, bytes of scratch, pictures of given numbers,
# what the package holds, errors, containers and names of columns, settings of threads, forks, the precision that
# products ask for, and the estimator, which takes the dtype of its data whatever JAX is set to. And for what has the
# same limits in both, to which float32 keeps: shares of draws, groups that are found, optima known to a few digits.
once = pytest.mark.skipif(dtype() is not np.float32, reason="the same whatever the dtype, so run once")


def tolerance(kind: str) -> float:
    return TOLERANCES[kind][dtype()]


def assert_close(actual, expected, kind: str, scale: float = 1.0) -> None:
    """Equal to the tolerance of `kind`, relative to the numbers and to `scale`."""
    np.testing.assert_allclose(actual, expected, rtol=tolerance(kind), atol=tolerance(kind) * scale)
