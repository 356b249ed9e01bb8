"""Covariances that few rows tell, drawn towards equal variances by as much as the rows say."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxgmm.covariance.structure import Each
from jaxgmm.covariance.tril import Tril
from jaxgmm.families.family import Kernel
from jaxgmm.ground import checks, linalg
from jaxgmm.ground.programs import program
from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.ground.rows import Evidence, sum_over_blocks
from jaxgmm.model.mixture import Mixture, check_rows
from jaxgmm.model.passes import block_size_of, of_passes, posterior, with_kernel
from jaxgmm.model.scale import scale_from


@record
class Shrunk:
    """A mixture with shrunk covariances, and by how much.

    Fields: `mixture`, k components with unrestricted covariances; `intensity` (k,), the share of the target in each,
    from 0, where a covariance is that of its rows, to 1, where it is the target; of the clusters alone, 0 of one that
    no row belongs to.
    """

    mixture: Mixture
    intensity: Leaf


def shrunk(
    mixture: Mixture,
    x: Any,
    weights: Any = None,
    *,
    method: str = "oas",
    scale: Any = None,
    regularization: Any = 1e-6,
) -> Shrunk:
    """The mixture with a covariance of each component that is estimated anew for few rows, by shrinkage.

    Sigma_k = (1 - rho_k) S_k + rho_k T_k, of the second moments S_k about the mean of component k of the rows that it
    is responsible for, N_k of them, and T_k, which has the mean variance of S_k in all columns and no correlations. It
    is meant for after a fit, and is nothing that a fit climbs: weights and means are those of the mixture, and a step
    of EM would undo it. What a fit can climb with few rows is `Posterior`.

    How far, rho_k, follows from the rows, as what is estimated to make the expected squared error of Sigma_k least.
    "oas" takes rows for normal. "ledoit-wolf" takes them for no distribution, and tells from the spread of products of
    rows how uncertain these are. Two rows on both sides of their mean have equal products, so it does not shrink two
    rows at all; the floor alone then keeps the covariance positive definite.

    Args:
        mixture: k Gaussian components of any structure, also before noise.
        x: rows (n, d), in any units, or what `jaxgmm.rows` makes of rows without gaps and noise.
        weights: weight of each row (n,), not negative; it counts rows. Default ones.
        method: "oas", Oracle Approximating Shrinkage, or "ledoit-wolf". Static.
        scale: of each column (d,), in whose units variances are equal in T_k, so that units do not matter. Default
            `jaxgmm.scale_of(x)`; with ones, of one component, covariances are scikit-learn's `oas` and `ledoit_wolf`
            of x less the component's mean, with `assume_centered`.
        regularization: floor under every covariance, relative to the square of the scale, as in `jaxgmm.m_step`.

    Returns:
        `Shrunk`: a mixture of the same components with "full" covariances, and the intensities. Differentiable in all
        of its arguments. A component that no row belongs to keeps its covariance.

    Raises:
        TypeError, ValueError: a method that is not known, or as `jaxgmm.e_step` and `jaxgmm.m_step`.
        NotImplementedError: components that are not Gaussian, rows with gaps or noise.

    Sources: Chen, Wiesel, Eldar & Hero (2010), IEEE Trans. Signal Process. 58, eq. 23, without terms in 2 / d, as in
    scikit-learn; Ledoit & Wolf (2004), J. Multivar. Anal. 88.

    >>> import jax, jax.numpy as jnp, jaxgmm
    >>> x = jax.random.normal(jax.random.key(0), (8, 10))
    >>> fitted = jaxgmm.from_parameters([1.0], x.mean(axis=0)[None], [1.0], "spherical")
    >>> found = jaxgmm.shrunk(fitted, x)
    >>> bool(found.intensity[0] > 0.5), bool(jnp.linalg.cond(found.mixture.covariances[0]) < 20)
    (True, True)
    """
    method = checks.one_of("method", method, _INTENSITIES)
    mixture, rows = check_rows(mixture, x, weights)
    if rows.partial:
        what = "gaps" if rows.noise is None else "noise"
        raise NotImplementedError(
            f"shrunk takes no rows with {what}: how uncertain their moments are depends on what is known of each. Give "
            "it the rows that are whole, or fit with objective=jaxgmm.Posterior(), which takes all."
        )
    components = mixture.components
    mixture = Mixture(mixture.log_weights, components.with_clusters(components.clusters.unrestricted()))
    dtype = mixture.log_weights.dtype
    scale = checks.scale(scale, mixture.n_columns, dtype)
    regularization = checks.scalar("regularization", regularization, dtype)
    with rows.on_devices():
        scale = scale_from(rows) if scale is None else scale
    return _shrunk(mixture, rows, scale, regularization, method=method)


@record
class _Sums:
    """Of rows. Fields: `counts` and `moments`, as `Statistics` has them; `fourth` (k,), of r |z|^4."""

    counts: Leaf
    moments: Any
    fourth: Leaf


@record
class _Relative:
    """What is known of covariances in units in which their mean variance is 1.

    Fields: `counts` (k,), rows; `square` (k,), sum of their squared entries; `excess` (k,), that of what they have
    beside the identity; `fourth` (k,), mean of |z|^4 of rows.
    """

    counts: Leaf
    square: Leaf
    excess: Leaf
    fourth: Leaf


@program(static=("method",), work=of_passes(2))
def _shrunk(
    mixture: Mixture, rows: Evidence, scale: Float[Array, " d"], regularization: Float[Array, ""], *, method: str
) -> Shrunk:
    clusters: Any = mixture.components.clusters
    d = mixture.n_columns
    # A component may be so much narrower than the data that the squares of its variances underflow.
    widths = jnp.sqrt(jnp.mean(clusters.variances() / scale**2, axis=1))
    units = widths[:, None] * scale
    sums = _take(mixture, rows, clusters.means, units)
    counts = sums.counts[: widths.size]
    tiny = jnp.finfo(counts.dtype).tiny
    # As in a step of EM; NaN counts as alive, so that it shows in the result.
    alive = ~(counts <= jnp.sum(sums.counts) * jnp.sqrt(tiny))
    n = jnp.where(alive, counts, 1)
    covariances = sums.moments.second / n[:, None, None] / units[:, :, None] / units[:, None, :]
    mean = jnp.trace(covariances, axis1=1, axis2=2) / d
    varies = ~(mean <= math.sqrt(tiny))
    mean = jnp.where(varies, mean, 1)
    relative = covariances / mean[:, None, None]
    target = jnp.eye(d, dtype=relative.dtype)
    told = _Relative(
        counts=n,
        square=jnp.sum(relative**2, axis=(1, 2)),
        excess=jnp.sum((relative - target) ** 2, axis=(1, 2)),
        fourth=sums.fourth / n / mean**2,
    )
    # Rows that all lie at the mean say nothing: the floor answers.
    intensity = jnp.where(varies, _INTENSITIES[method](told, d), 1)
    share = intensity[:, None, None]
    found = (1 - share) * relative + jnp.where(varies[:, None, None], share * target, 0)
    floor = jnp.broadcast_to(regularization, (d,))
    roots, _ = linalg.floored_cholesky((mean * widths**2)[:, None, None] * found, floor, alive)
    factor = Tril(jnp.where(alive[:, None, None], scale[:, None] * roots, clusters.structure.factor.scale_tril))
    components = mixture.components.with_clusters(clusters.moved(clusters.means, Each(factor)))
    return Shrunk(dataclasses.replace(mixture, components=components), jnp.where(alive, intensity, 0))


def _take(mixture: Mixture, rows: Evidence, means: Float[Array, "k d"], units: Float[Array, "k d"]) -> _Sums:
    k = means.shape[0]
    # Rows that are further out than the square of a square can say belong to none that is not out there as well.
    most = math.sqrt(float(jnp.finfo(means.dtype).max)) / 2**16

    def block(given: tuple[Array, Kernel, Array, Array], rows: Evidence) -> _Sums:
        log_weights, kernel, means, units = given
        seen = kernel.read(rows)
        _, responsibilities = posterior(log_weights, kernel.log_prob(seen), rows, weighted=True)
        away = (rows.x - means[:, None, :]) / units[:, None, :]
        squares = jnp.minimum(jnp.sum(away**2, axis=2), most)
        return _Sums(
            counts=jnp.sum(responsibilities, axis=0),
            moments=kernel.statistics(seen, responsibilities),
            fourth=linalg.einsum("nk,kn->k", responsibilities[:, :k], squares**2),
        )

    def take(kernel: Kernel, rows: Evidence) -> _Sums:
        sums = sum_over_blocks(block, (mixture.log_weights, kernel, means, units), rows, rows.shards)
        return dataclasses.replace(sums, moments=kernel.finish(sums.counts, sums.moments))

    blocks = rows.in_blocks(block_size_of(mixture, rows))
    return with_kernel(mixture.components, mixture.n_components, blocks, take)


def _oracle_approximating(told: _Relative, d: int) -> Float[Array, " k"]:
    error, gain = told.square + d**2, (told.counts + 1) * told.excess
    # Covariances that are their target may be drawn to it as well.
    some = ~(gain <= 0)
    return jnp.where(some, jnp.minimum(error / jnp.where(some, gain, 1), 1), 1)


def _ledoit_wolf(told: _Relative, d: int) -> Float[Array, " k"]:
    error, gain = (told.fourth - told.square) / told.counts, told.excess
    some = ~(gain <= 0)
    return jnp.where(some, jnp.clip(error / jnp.where(some, gain, 1), 0, 1), 0)


_INTENSITIES: dict[str, Callable[[_Relative, int], Array]] = {
    "oas": _oracle_approximating,
    "ledoit-wolf": _ledoit_wolf,
}
