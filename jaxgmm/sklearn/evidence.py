"""What scikit-learn's arguments say of rows, as the one record that programs take."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.utils import check_consistent_length

from jaxgmm.ground import known
from jaxgmm.ground.padding import padded
from jaxgmm.ground.rows import Evidence


def padded_rows(
    X: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    labels: Any = None,
    label_of_component: Any = None,
    noise: Any = None,
) -> Evidence:
    """Rows (n, d) filled up to one of a few lengths; NaN are gaps. It is called under JAX's setting for their dtype.

    What fills them up is seen, exact, and of weight 0, but where rows are plain and have no weights.
    """
    rows = Evidence(X, weights)  # type: ignore[arg-type]
    gaps = bool(np.isnan(X).any())
    if gaps or labels is not None or noise is not None:
        missing = "nan" if gaps else "error"
        rows = known.evidence(
            X, weights, labels, label_of_component=label_of_component, missing=missing, noise=noise, arranged=False
        )
    rows = jax.tree.map(lambda leaf: padded(np.asarray(leaf)), rows)
    if rows.seen is None:
        return rows
    rows = dataclasses.replace(rows, seen=rows.seen | (np.arange(len(rows.seen)) >= len(X))[:, None])
    return jax.tree.map(jnp.asarray, known.in_patterns(rows))


def labels_of(y: Any, X: np.ndarray, n_components: Any) -> np.ndarray | None:
    """The component of each row of X (n,), -1 where it is not known; None if y says nothing of the kind.

    As in `sklearn.semi_supervised`, -1 is a row without a label. A y without any, or of other than whole numbers from
    -1 on, is the target of some other step, which scikit-learn hands to every step of a pipeline.
    """
    y = np.asarray(y)
    if y.ndim != 1 or y.dtype.kind not in "iuf" or not np.any(y == -1) or not np.all((y >= -1) & (y == np.floor(y))):
        return None
    check_consistent_length(X, y)
    if y.max() >= n_components:
        raise ValueError(
            f"y holds -1, which marks rows without a label, and {y.max():g}; expected labels that are components, from "
            f"0 to {n_components - 1}. Increase n_components, number the labels from 0, or leave y out if it is no "
            "label."
        )
    return y.astype(np.int32)
