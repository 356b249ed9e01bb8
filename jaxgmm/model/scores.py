"""What a row tells of the factors of components of low rank."""

from typing import Any

from jaxtyping import Array, Float

from jaxgmm.ground import linalg
from jaxgmm.ground.programs import program
from jaxgmm.ground.rows import Evidence, map_rows
from jaxgmm.model.mixture import Mixture, check_rows
from jaxgmm.model.passes import block_size_of, of_passes
from jaxgmm.model.recovery import true_values_of


def factor_scores(mixture: Mixture, x: Any) -> Float[Array, "n k q"]:
    """The factors of each row as they are expected if it is of one component or another.

    E[z | x, k], where x = m_k + L_k z + e with standard normal factors z. They are standardised: of a component's own
    rows they have mean 0, and variance below 1 by what a row leaves open. `mixture.predict(x)` says which of the
    components to look at, and `mixture.components.covariance.loadings` what the factors do.

    Args:
        mixture: k components of low rank, such as "lowrank-2", of q factors.
        x: rows (n, d), or what `jaxgmm.rows` makes of rows with gaps or noise, whose factors follow from what is known.

    Returns:
        (n, k, q), without units. Differentiable in the mixture and the rows.

    Raises:
        TypeError, ValueError: as `Mixture.log_prob`.
        NotImplementedError: components without factors.

    Source: Thomson (1951), The Factorial Analysis of Human Ability; Bartholomew, Knott & Moustaki (2011), section 3.

    >>> import jax, jaxgmm
    >>> z = jax.random.normal(jax.random.key(0), (300, 1))
    >>> x = z * jax.numpy.array([3.0, -2.0, 1.0, 2.0]) + jax.random.normal(jax.random.key(1), (300, 4))
    >>> fitted = jaxgmm.fit(jaxgmm.init(jax.random.key(2), x, 1, "lowrank-1"), x).mixture
    >>> found = jaxgmm.factor_scores(fitted, x)[:, 0, 0]
    >>> bool(abs(jax.numpy.corrcoef(found, z[:, 0])[0, 1]) > 0.95)
    True
    """
    mixture, rows = check_rows(mixture, x, weighted=False)
    clusters = mixture.components.clusters
    structure: Any = getattr(clusters, "structure", None)
    if structure is None:
        raise NotImplementedError(f"{type(clusters).__name__} components have no factors.")
    return _scores(mixture, rows, structure.regression)


@program(work=of_passes(4))
def _scores(mixture: Mixture, rows: Evidence, regression: Float[Array, "k q d"]) -> Float[Array, "n k q"]:
    means = mixture.components.clusters.means
    if rows.partial:
        away = true_values_of(mixture, rows)[:, : len(means)] - means
        return linalg.einsum("nkd,kqd->nkq", away, regression)

    def block(given: tuple[Array, Array], rows: Evidence) -> Float[Array, "b k q"]:
        means, regression = given
        return linalg.einsum("kbd,kqd->bkq", rows.x - means[:, None, :], regression)

    return map_rows(block, (means, regression), rows, block_size_of(mixture, rows), rows.shards)
