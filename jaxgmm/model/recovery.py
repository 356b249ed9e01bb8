"""What a mixture says of the entries of rows that are not known, or not exactly."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxgmm.families.family import Kernel
from jaxgmm.ground import checks, linalg
from jaxgmm.ground.programs import program
from jaxgmm.ground.pytree import Leaf, record
from jaxgmm.ground.rows import Evidence, map_rows
from jaxgmm.model.mixture import Mixture, check_rows
from jaxgmm.model.passes import block_size_of, of_passes, posterior, with_kernel


@record
class TrueValues:
    """What is known of the true values of rows: their distribution is a mixture, of which these are the moments.

    Fields: `means` (n, d), in the units of the data; `covariances` (n, d, d), in squared units.
    """

    means: Leaf
    covariances: Leaf

    @property
    def variances(self) -> Float[Array, "n d"]:
        """Of each entry alone (n, d), in squared units of the data."""
        return jnp.diagonal(self.covariances, axis1=-2, axis2=-1)


def denoise(mixture: Mixture, x: Any) -> TrueValues:
    """Means and covariances of the true values of rows, given all that is known of them.

    A row with noise is drawn towards where the mixture has rows, the more the larger its noise is; an entry that is not
    seen is told by those that are. Both by every component, in proportion to its responsibility (law of total
    covariance). What is seen and exact is as it is, with variance 0.

    Args:
        mixture: k components in d columns, with a location and a covariance structure.
        x: what `jaxgmm.rows` makes of n rows with gaps or noise, or rows (n, d).

    Returns:
        `TrueValues`, differentiable in the mixture, the entries that are seen, and the noise. Covariances are infinite
        where those of Student-t components are.

    Raises:
        TypeError, ValueError: as `Mixture.log_prob`.
        NotImplementedError: a family that takes no rows with gaps, or with noise.

    Source: Bovy, Hogg & Roweis (2011), Ann. Appl. Stat. 5.

    >>> import jaxgmm
    >>> mixture = jaxgmm.from_parameters([1.0], [[0.0]], [1.0], "spherical")
    >>> found = jaxgmm.denoise(mixture, jaxgmm.rows([[2.0]], noise=[[1.0]]))
    >>> float(found.means[0, 0]), float(found.variances[0, 0])
    (1.0, 0.5)
    """
    return _denoise(*_partial(mixture, x))


def impute(mixture: Mixture, x: Any) -> Float[Array, "n d"]:
    """The rows with their gaps filled: with the expectation of each entry that is not seen, given those that are.

    That is the best guess of a single value by squared error, and no draw: rows that are filled so spread less than the
    data. `sample_missing` draws; `denoise` says how sure each value is.

    Args:
        mixture: k components in d columns, with a location and a covariance structure.
        x: what `jaxgmm.rows(x, missing="nan")` makes of n rows, or such with noise, of which entries that are seen
            stay as they are all the same.

    Returns:
        (n, d), in the units of the data.

    Raises:
        TypeError, ValueError, NotImplementedError: as `denoise`.

    >>> import jax.numpy as jnp, jaxgmm
    >>> rising = [[1.0, 0.9], [0.9, 1.0]]
    >>> mixture = jaxgmm.from_parameters([0.5, 0.5], [[0.0, 0.0], [9.0, 3.0]], rising, "tied")
    >>> x = jaxgmm.rows(jnp.array([[1.0, jnp.nan], [9.0, jnp.nan], [2.0, 0.0]]), missing="nan")
    >>> [f"{value:.2f}" for value in jaxgmm.impute(mixture, x)[:, 1]]
    ['0.90', '3.00', '0.00']
    """
    mixture, rows = _partial(mixture, x)
    return _impute(mixture, rows)


def sample_missing(key: jax.Array, mixture: Mixture, x: Any) -> Float[Array, "n d"]:
    """The rows with their gaps filled by a draw of what is not known of each, given what is: multiple imputation.

    Analyse several such tables and put their answers together (Rubin's rules), and the answer is as unsure as it should
    be. Where rows have noise, the true values of all their entries are drawn.

    Args:
        key: what is drawn is drawn with this key.
        mixture, x: as for `impute`.

    Returns:
        (n, d), in the units of the data.

    Raises:
        TypeError, ValueError, NotImplementedError: as `denoise`.

    Source: Rubin (1987), Multiple Imputation for Nonresponse in Surveys.

    >>> import jax, jax.numpy as jnp, jaxgmm
    >>> mixture = jaxgmm.from_parameters([1.0], [[0.0, 0.0]], [[[1.0, 0.6], [0.6, 1.0]]])
    >>> x = jaxgmm.rows(jnp.tile(jnp.array([1.0, jnp.nan]), (10_000, 1)), missing="nan")
    >>> drawn = jaxgmm.sample_missing(jax.random.key(0), mixture, x)
    >>> f"{drawn[:, 1].mean():.1f} {drawn[:, 1].std():.1f}"
    '0.6 0.8'
    """
    mixture, rows = _partial(mixture, x)
    return _sample_missing(mixture, rows, checks.key(key))


def true_values_of(mixture: Mixture, rows: Evidence) -> Float[Array, "n k d"]:
    """Expectations of the true values of rows that are known in part, under each component."""

    def block(given: tuple[Array, Kernel], rows: Evidence) -> Array:
        kernel = given[1]
        return jnp.moveaxis(kernel.true_values(kernel.read(rows))[0], 2, 0)

    return _over(mixture, dataclasses.replace(rows.without_patterns(), seen=_seen(rows)), block)


def _partial(mixture: Any, x: Any) -> tuple[Mixture, Evidence]:
    """Mixture and rows, checked, and such that each row is solved for on its own."""
    mixture, rows = check_rows(mixture, x, weighted=False)
    return mixture, dataclasses.replace(rows.without_patterns(), seen=_seen(rows))


def _seen(rows: Evidence) -> Bool[Array, "n d"]:
    return jnp.ones_like(rows.x, bool) if rows.seen is None else rows.seen


@program(work=of_passes(4))
def _denoise(mixture: Mixture, rows: Evidence) -> TrueValues:
    def block(given: tuple[Array, Kernel], rows: Evidence) -> tuple[Array, Array]:
        log_weights, kernel = given
        known = kernel.read(rows)
        responsibilities = posterior(log_weights, kernel.log_prob(known), rows)[1]
        means, covariances = kernel.true_values(known)
        mean = linalg.einsum("nk,kdn->nd", responsibilities, means)
        away = means - mean.T
        # Far out, components may be infinite that have no share.
        within = jnp.where(responsibilities.T[:, None, None] > 0, covariances, 0)
        within = linalg.einsum("nk,kijn->nij", responsibilities, within)
        between = linalg.einsum("kin,kjn->nij", responsibilities.T[:, None] * away, away)
        covariance = within + between
        variances = jnp.diagonal(covariance, axis1=1, axis2=2)
        # What is known exactly is so but for rounding.
        covariance = (
            covariance + jnp.eye(mean.shape[1], dtype=mean.dtype) * (jnp.maximum(variances, 0) - variances)[:, None]
        )
        if rows.noise is not None:
            return mean, covariance
        seen = _seen(rows)
        return jnp.where(seen, rows.x, mean), jnp.where(seen[:, :, None] | seen[:, None, :], 0, covariance)

    return TrueValues(*_over(mixture, rows, block))


@program(work=of_passes(4))
def _impute(mixture: Mixture, rows: Evidence) -> Float[Array, "n d"]:
    def block(given: tuple[Array, Kernel], rows: Evidence) -> Array:
        log_weights, kernel = given
        known = kernel.read(rows)
        responsibilities = posterior(log_weights, kernel.log_prob(known), rows)[1]
        means = linalg.einsum("nk,kdn->nd", responsibilities, kernel.true_values(known)[0])
        return jnp.where(_seen(rows), rows.x, means)

    return _over(mixture, rows, block)


@program(work=of_passes(4))
def _sample_missing(mixture: Mixture, rows: Evidence, key: jax.Array) -> Float[Array, "n d"]:
    for_components, for_values, for_tails = jax.random.split(key, 3)
    noise = jax.random.normal(for_values, rows.x.shape, rows.x.dtype)
    chances = jax.random.gumbel(for_components, (rows.n, mixture.n_components), rows.x.dtype)
    if rows.shards is not None:
        noise, chances = rows.shards.place(noise), rows.shards.place(chances)

    def block(given: Any, drawn: tuple[Evidence, Array, Array]) -> tuple[Any, Array]:
        (log_weights, kernel), (rows, noise, chances) = given, drawn
        known = kernel.read(rows)
        responsibilities = posterior(log_weights, kernel.log_prob(known), rows)[1]
        chosen = jnp.argmax(jnp.log(responsibilities) + chances, axis=1)
        return kernel.draws_of_true_values(known, chosen, noise), chosen

    told = (*_over(mixture, rows, block, noise, chances), _seen(rows))
    if rows.shards is not None:
        # As many numbers as the noise had before it was placed.
        told = jax.tree.map(rows.shards.everywhere, told)
    drawn = mixture.components.completed(for_tails, *told)
    if rows.shards is not None:
        drawn = rows.shards.place(drawn)
    return jnp.where(_seen(rows), rows.x, drawn) if rows.noise is None else drawn


def _over(mixture: Mixture, rows: Evidence, block: Any, *beside: Array) -> Any:
    def of(kernel: Any, rows: Evidence) -> Any:
        given = mixture.log_weights, kernel
        return map_rows(block, given, (rows, *beside) if beside else rows, block_size_of(mixture, rows), rows.shards)

    return with_kernel(mixture.components, mixture.n_components, rows, of)
