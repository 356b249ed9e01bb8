"""Whether two fits say the same: components matched to each other, and labels compared."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxgmm.ground import checks, known, linalg
from jaxgmm.ground.programs import program
from jaxgmm.ground.rows import block_size_for, into_blocks, sum_over_blocks
from jaxgmm.model.mixture import Mixture, check_mixture


def align(mixture: Mixture, reference: Mixture) -> Mixture:
    """`mixture` with its components in the order in which they match those of `reference`.

    The matching makes the sum of Bhattacharyya distances between matched components smallest; these distances, of the
    Gaussians with the components' means and covariances, do not depend on the units of the data. Works under `jit` and
    `vmap`. Absent components match absent ones first, and a noise component the other.

    Args:
        mixture: k components in d columns.
        reference: as many components in as many columns; any family.

    Raises:
        TypeError, ValueError: not mixtures, or of different numbers of components or columns.

    Sources: Bhattacharyya (1943), Bull. Calcutta Math. Soc. 35; Kuhn (1955), Nav. Res. Logist. Q. 2, for the matching.

    >>> import jax.numpy as jnp, jaxgmm
    >>> reference = jaxgmm.from_parameters([0.3, 0.7], [[0.0], [9.0]], [1.0, 1.0], "spherical")
    >>> [f"{weight:.1f}" for weight in jaxgmm.align(reference.take(jnp.array([1, 0])), reference).weights]
    ['0.3', '0.7']
    """
    mixture, reference = checks.common_dtype(check_mixture(mixture), check_mixture(reference))
    if mixture.components.centers.shape != reference.components.centers.shape:
        raise ValueError(
            f"mixture has {mixture.n_components} components in {mixture.n_columns} columns, reference "
            f"{reference.n_components} in {reference.n_columns}; expected the same numbers."
        )
    if mixture.noise_component != reference.noise_component:
        raise ValueError(
            "one of mixture and reference has a noise component and the other has none; expected both, or none. Write "
            "mixture.take(range(mixture.noise_component)) for the clusters alone."
        )
    return _align(mixture, reference)


def adjusted_rand_index(
    labels: Any, others: Any, *, weights: Any = None, n_labels: int | None = None
) -> Float[Array, ""]:
    """Agreement of two labellings of the same rows: 1 where they group alike, about 0 where they do so by chance.

    What the groups are called does not matter, and there may be more of them in one than in the other.

    Args:
        labels: (n,), integers from 0, as `Mixture.predict` gives them.
        others: (n,), likewise.
        weights: of the rows (n,); they count rows: one of weight 2 is two rows, one of weight 0 is none. Default ones.
        n_labels: labels are below this; must be given under `jit` and `vmap`. Static.

    Raises:
        TypeError, ValueError: labels that are not integers, of different lengths, or outside 0 … n_labels - 1, and
            weights as for `fit`.

    Source: Hubert & Arabie (1985), J. Classif. 2.

    >>> import jax.numpy as jnp, jaxgmm
    >>> float(jaxgmm.adjusted_rand_index(jnp.array([0, 0, 1, 1]), jnp.array([1, 1, 0, 0])))
    1.0
    """
    labels, others = (_labels(name, value) for name, value in (("labels", labels), ("others", others)))
    if labels.shape != others.shape:
        raise ValueError(f"labels has shape {labels.shape} and others {others.shape}; expected the same rows in both.")
    if n_labels is None:
        if any(isinstance(value, jax.core.Tracer) for value in (labels, others)):
            raise TypeError("n_labels sizes an array: under jit or vmap it must be given.")
        n_labels = 1 + int(max(np.max(labels), np.max(others)))
    n_labels = checks.count("n_labels", n_labels)
    both = jnp.stack([labels, others])
    if not checks.holds(lambda both: np.all((both >= 0) & (both < n_labels)), both):
        found = f"from {int(jnp.min(both))} to {int(jnp.max(both))}"
        raise ValueError(f"labels and others hold numbers {found}; expected 0 to {n_labels - 1}.")
    dtype = jnp.result_type(float)
    shares = known.ones(labels.size, dtype) if weights is None else known.row_weights(weights, labels.size, dtype)
    return _adjusted_rand_index(labels, others, shares, n_labels=n_labels)


def _labels(name: str, value: Any) -> Int[Array, " n"]:
    value = jnp.asarray(value)
    if not (jnp.issubdtype(value.dtype, jnp.integer) or value.dtype == bool) or value.ndim != 1:
        raise TypeError(f"{name} has dtype {value.dtype} and shape {value.shape}; expected integers, one per row.")
    return value.astype(jnp.int32)


@program(static=("n_labels",))
def _adjusted_rand_index(
    labels: Int[Array, " n"], others: Int[Array, " n"], weights: Float[Array, " n"], n_labels: int
) -> Float[Array, ""]:
    def counts(_: tuple[()], block: tuple[Array, Array, Array]) -> Float[Array, "l l"]:
        return jnp.zeros((n_labels, n_labels), weights.dtype).at[block[0], block[1]].add(block[2])

    # In blocks, as a float32 that counts by ones would stop at 2^24.
    size = block_size_for(labels.size, n_labels)
    blocks = tuple(into_blocks(array, size, "constant") for array in (labels, others, weights))
    table = sum_over_blocks(counts, (), blocks)
    total = jnp.sum(table)

    def pairs(counts: Array) -> Array:
        return jnp.sum(counts * (counts - 1) / 2)

    together, first, second = pairs(table), pairs(jnp.sum(table, axis=1)), pairs(jnp.sum(table, axis=0))
    expected = first * (second / jnp.maximum(pairs(total), 1))
    most = (first + second) / 2
    # Where both put all rows together, or all apart, they agree.
    room = most - expected
    return jnp.where(room > 0, (together - expected) / jnp.where(room > 0, room, 1), 1.0)


@program
def _align(mixture: Mixture, reference: Mixture) -> Mixture:
    import optax

    absent = mixture.log_weights == -jnp.inf, reference.log_weights == -jnp.inf
    distance = _bhattacharyya(reference, mixture)
    # More than any sum of distances between components that are there.
    far = 1 + jnp.sum(jnp.where(jnp.isfinite(distance), distance, 0))
    distance = jnp.where(absent[1][:, None] & absent[0][None, :], 0, distance)
    distance = jnp.where(absent[1][:, None] ^ absent[0][None, :], far, distance)
    if (noise := mixture.noise_component) is not None:
        # What is behind the clusters is itself.
        distance = distance.at[noise].set(far).at[:, noise].set(far).at[noise, noise].set(0)
    places, matches = optax.assignment.hungarian_algorithm(distance)
    return mixture.take(jnp.zeros_like(matches).at[places].set(matches))


def _bhattacharyya(a: Mixture, b: Mixture) -> Float[Array, "k k"]:
    """Distance of each component of `a` from each of `b`."""
    scale = jnp.sqrt(jnp.mean(jnp.diagonal(a.components.dispersions, axis1=1, axis2=2), axis=0))
    first, second = (m.components.dispersions / scale[:, None] / scale[None, :] for m in (a, b))
    middle = jnp.linalg.cholesky((first[:, None] + second[None, :]) / 2)
    gap = (a.components.centers[:, None] - b.components.centers[None, :]) / scale
    white = jax.lax.linalg.triangular_solve(middle, gap[..., None], left_side=True, lower=True)[..., 0]
    own = linalg.half_log_det(jnp.linalg.cholesky(first))[:, None] + linalg.half_log_det(jnp.linalg.cholesky(second))
    return jnp.sum(white**2, axis=-1) / 8 + linalg.half_log_det(middle) - own / 2
