"""Multinomial components: long rows of counts, of which only the proportions tell."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.families.bernoulli import shares_above
from jaxgmm.families.columnwise import Uncorrelated
from jaxgmm.families.family import Views, each_column
from jaxgmm.families.support import Support
from jaxgmm.ground import linalg, special
from jaxgmm.ground.bounds import log_simplex
from jaxgmm.ground.pytree import Leaf, record

# The least share of a column, of an even one.
_LEAST = 1e-6
_NO_MOMENTS = (
    "Multinomial components have no means and no covariances, as the totals of rows are not modelled; expected "
    "mixture.components.probabilities, (k, d)."
)


@record
class Multinomial(Uncorrelated):
    """Rows of counts, given their totals: N! / prod(x_j!) prod(p_j^x_j). What the totals are is not modelled.

    Fields: `log_probabilities` (k, d), natural logarithms.

    A fit keeps probabilities at a millionth of an even share or above it, whatever `regularization` is, so that no row
    is impossible for a column that was 0 in all rows of a component.
    """

    log_probabilities: Leaf = log_simplex()

    support: ClassVar[Support] = "counts"
    discrete: ClassVar[bool] = True

    @classmethod
    def blank(cls, n_components: int, center: Float[Array, " d"], scale: Float[Array, " d"]) -> "Multinomial":
        return cls(jnp.full((n_components, center.size), -np.log(center.size), center.dtype))

    @classmethod
    def view(cls, x: Float[Array, "n d"], **options: Any) -> Views:
        # Of roots of shares the variance is about the same, whatever these are.
        total = jnp.maximum(jnp.sum(x, axis=1, keepdims=True), 1)
        return each_column(jnp.sqrt(jnp.maximum(x, 0) / total))

    @property
    def probabilities(self) -> Float[Array, "*batch k d"]:
        """Of each column, (k, d): they sum to one."""
        return jnp.exp(self.log_probabilities)

    @property
    def means(self) -> Array:
        """There are none, as totals are not modelled."""
        raise NotImplementedError(_NO_MOMENTS)

    @property
    def covariances(self) -> Array:
        """There are none."""
        raise NotImplementedError(_NO_MOMENTS)

    @property
    def centers(self) -> Float[Array, "*batch k d"]:
        logs = self.log_probabilities
        return jax.nn.one_hot(jnp.argmax(logs, axis=-1), logs.shape[-1], dtype=logs.dtype)

    def variances(self) -> Float[Array, "*batch k d"]:
        return self.probabilities * (1 - self.probabilities)

    def log_prob(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        total = jnp.sum(x, axis=1, keepdims=True)
        peak = jnp.sum(special.log_peak(x), axis=1, keepdims=True) - special.log_peak(total)
        # What a row lacks under shares in the middle of all components, and what each of these has beside them: so that
        # long rows keep their digits. What has no probability is beyond all others, and times 0 is 0.
        logs = jnp.maximum(self.log_probabilities, -2 * linalg.saturation(x.dtype))
        middle = jax.nn.log_softmax(jnp.max(logs, axis=0))
        some, expected = jnp.where(x > 0, x, 1), total * jnp.exp(middle)
        away = (expected - some) / some
        lacks = jnp.where(x > 0, some * special.log_excess(away, expected, some), expected)
        beside = linalg.einsum("nd,kd->nk", x, logs - middle)
        found = peak - jnp.sum(lacks, axis=1, keepdims=True) + beside
        whole = jnp.all((x >= 0) & (x == jnp.floor(x)), axis=1, keepdims=True)
        return jnp.where(whole & (total > 0), found, jnp.where(whole, 0, -jnp.inf))

    def statistics(self, x: Float[Array, "n d"], responsibilities: Float[Array, "n k"]) -> Float[Array, "k d"]:
        return linalg.einsum("nk,nd->kd", responsibilities, x)

    def maximize(
        self,
        counts: Float[Array, " k"],
        statistics: Float[Array, "k d"],
        alive: Bool[Array, " k"],
        floor: Float[Array, " d"],
    ) -> tuple["Multinomial", Bool[Array, " k"]]:
        total = jnp.sum(statistics, axis=1, keepdims=True)
        told = alive[:, None] & (total > 0)
        logs = _levelled(statistics / jnp.where(told, total, 1))
        return type(self)(jnp.where(told, logs, self.log_probabilities)), jnp.zeros(alive.shape, bool)

    def floored(self, floor: Float[Array, " d"], alive: Bool[Array, " k"]) -> tuple["Multinomial", Bool[Array, " k"]]:
        return type(self)(_levelled(self.probabilities)), jnp.zeros(alive.shape, bool)

    def with_pseudo_rows(
        self,
        counts: Float[Array, " k"],
        sums: Float[Array, "k d"],
        rows: Float[Array, " k"],
        mean: Float[Array, " d"],
    ) -> Float[Array, "k d"]:
        return sums + rows[:, None] / sums.shape[1]

    def log_density_of_pseudo_row(self, mean: Float[Array, " d"]) -> Float[Array, " k"]:
        return jnp.mean(self.log_probabilities, axis=1)

    def sample(self, key: jax.Array, labels: Int[Array, " n"]) -> Float[Array, "n d"]:
        raise NotImplementedError("Multinomial components do not model the totals of rows, and so draw none.")

    def information(self, weights: Float[Array, " k"]) -> "Multinomial":
        return type(self)(weights[:, None] * self.probabilities)

    def n_parameters(self, n_components: int) -> int:
        return n_components * (self.n_columns - 1)


def _levelled(shares: Float[Array, "k d"]) -> Float[Array, "k d"]:
    """Logarithms of shares, none of which is below the least."""
    least = jnp.asarray(_LEAST / shares.shape[1], shares.dtype)
    return jnp.log(shares_above(shares, least))
