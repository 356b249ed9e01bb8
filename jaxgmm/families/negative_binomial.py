"""Negative binomial components: counts that vary more than at a constant rate."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.families.columnwise import Columnwise
from jaxgmm.families.family import Views
from jaxgmm.families.poisson import Poisson, least, positive_center, whole
from jaxgmm.families.support import Support
from jaxgmm.ground import special
from jaxgmm.ground.bounds import positive
from jaxgmm.ground.pytree import Leaf, record


@record
class NegativeBinomial(Columnwise):
    """Independent counts, Poisson at rates that vary as gamma variates do: of variance m + m^2 / r.

    Fields: `means` (k, d), m; `sizes` (k, d), r, without units: the larger, the nearer to Poisson. A fit keeps sizes
    below the means, or 1, over sqrt(eps) of the dtype, where there is no difference any more.

    A fit takes the rates as what is not known, with a free scale: EM with expanded parameters, of which each step is
    one pass, and none lowers the likelihood.

    Source: Liu, Rubin & Wu (1998), Biometrika 85, for the expansion.
    """

    means: Leaf = positive()
    sizes: Leaf = positive()

    support: ClassVar[Support] = "counts"
    discrete: ClassVar[bool] = True

    @classmethod
    def blank(cls, n_components: int, center: Float[Array, " d"], scale: Float[Array, " d"]) -> "NegativeBinomial":
        means = jnp.broadcast_to(positive_center(center, scale), (n_components, center.size))
        return cls(means, jnp.ones_like(means))

    @classmethod
    def view(cls, x: Float[Array, "n d"], **options: Any) -> Views:
        return Poisson.view(x)

    @property
    def centers(self) -> Float[Array, "*batch k d"]:
        return jnp.round(self.means)

    def variances(self) -> Float[Array, "*batch k d"]:
        return self.means * (1 + self.means / self.sizes)

    def log_density(self, x: Float[Array, "d n"]) -> Float[Array, "k d n"]:
        m, r = self.means[:, :, None], self.sizes[:, :, None]
        some = jnp.maximum(x, 1)
        total = some + r
        # By what the two parts of a binomial lack of their most likely numbers.
        share = (m - some) * r / (r + m)
        lacks = some * special.log_excess(share / some, m / (r + m), 1 / (1 + r / some))
        lacks = lacks + r * special.log_excess(-share / r, r / (r + m), 1 / (1 + some / r))
        peak = special.log_peak(some) + special.log_peak(r) - special.log_peak(total) - jnp.log1p(some / r)
        found = jnp.where(x > 0, peak - lacks, -r * jnp.log1p(m / r))
        return jnp.where(whole(x), found, -jnp.inf)

    def terms(self, x: Float[Array, "d n"]) -> tuple[Float[Array, "..."], ...]:
        m, r = self.means[:, :, None], self.sizes[:, :, None]
        # Expectations of the rate over the mean, less 1, and of its log-excess.
        away = (x - m) / (m + r)
        return x, away, special.log_excess(away, x + r, m + r) + special.log_less_digamma(x + r)

    def estimated(
        self, mass: Float[Array, "k _"], sums: tuple[Float[Array, "k d"], ...], floor: Float[Array, " d"]
    ) -> tuple["NegativeBinomial", Bool[Array, "k d"]]:
        means, away, excess = (one / mass for one in sums)
        means = least(means, floor)
        most = _most(means)
        sizes = special.shape_of(
            jnp.maximum(excess - special.log_excess(away, 1 + away, jnp.ones_like(away)), 0.4 / most)
        )
        return type(self)(means, jnp.minimum(sizes, most)), jnp.zeros(means.shape, bool)

    def floored(
        self, floor: Float[Array, " d"], alive: Bool[Array, " k"]
    ) -> tuple["NegativeBinomial", Bool[Array, " k"]]:
        means = least(self.means, floor)
        return type(self)(means, jnp.minimum(self.sizes, _most(means))), jnp.zeros(alive.shape, bool)

    def sample(self, key: jax.Array, labels: Int[Array, " n"]) -> Float[Array, "n d"]:
        for_rates, for_counts = jax.random.split(key)
        sizes = self.sizes[labels]
        rates = jnp.exp(jax.random.loggamma(for_rates, sizes)) / sizes * self.means[labels]
        return jax.random.poisson(for_counts, rates).astype(rates.dtype)

    def information(self, weights: Float[Array, " k"]) -> "NegativeBinomial":
        told = weights[:, None] * self.means * self.sizes / (self.means + self.sizes)
        # A row tells less of the size than of the mean, and ever less the larger it is.
        return type(self)(told, told / (1 + self.sizes))

    def n_parameters(self, n_components: int) -> int:
        return 2 * n_components * self.n_columns


def _most(means: Float[Array, "k d"]) -> Float[Array, "k d"]:
    """The sizes from which on variances are those of Poisson components but for half the digits."""
    return jnp.maximum(means, 1) / float(jnp.finfo(means.dtype).eps) ** 0.5
