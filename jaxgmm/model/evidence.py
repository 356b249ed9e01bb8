"""What is known of rows, put together once."""

from typing import Any

from jaxgmm.ground import known
from jaxgmm.ground.rows import Evidence
from jaxgmm.model.mixture import check_unnamed


def rows(
    x: Any,
    weights: Any = None,
    *,
    missing: Any = "error",
    noise: Any = None,
    labels: Any = None,
    log_evidence: Any = None,
) -> Evidence:
    """What is known of n rows as one value, which every verb takes in the place of `x`.

    A row whose component y is known counts log w_y + log p_y(x) in the likelihood, and its responsibilities are 1
    there; all others count as ever. Labels are numbers of components, so a fit names its components after them: start
    it by `init` or `fit_restarts` of the same rows. The labels of some rows are enough, and of some components too.

    Args:
        x: rows (n, d).
        weights: weight of each row (n,), as for `fit`. Default ones.
        labels: the component that each row is known to be of (n,), whole numbers from 0 on, and -1 for the others;
            what is missing or masked counts as -1.

    Returns:
        `Evidence`, a pytree whose leaves are arrays, None for what is not given.

    Raises:
        TypeError, ValueError: arguments of the wrong kind, shape or sign, labels that are no numbers, or, outside
            `jit`, NaN or inf in rows of positive weight.

    Source: McLachlan & Peel (2000), Finite Mixture Models, section 2.19.

    >>> import jax, jax.numpy as jnp, jaxgmm
    >>> x = jnp.array([[-1.0], [0.0], [1.0], [5.0], [6.0], [7.0]])
    >>> some = jaxgmm.rows(x, labels=[-1, -1, 1, 0, -1, -1])
    >>> start = jaxgmm.init(jax.random.key(0), some, 2, "spherical")
    >>> jaxgmm.fit(start, some).mixture.predict(x).tolist()
    [1, 1, 1, 0, 0, 0]
    """
    check_unnamed(x)
    return known.evidence(x, weights, labels, missing=missing, noise=noise, log_evidence=log_evidence, arranged=False)
