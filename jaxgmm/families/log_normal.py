"""Log-normal components: positive numbers whose logarithms are normal, with any covariance of these."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.families.family import Family, Form, Kernel, Views, each_column
from jaxgmm.families.gaussian import Gaussian
from jaxgmm.families.poisson import positive_center
from jaxgmm.families.support import Support
from jaxgmm.families.told import seen_of
from jaxgmm.ground import bounds, checks
from jaxgmm.ground.pytree import ColumnIndices, Leaf, Places, record
from jaxgmm.ground.rows import Evidence

T = TypeVar("T")


@record
class LogNormal(Family):
    """Positive rows x of which log(x) is normal: p(x) = N(log(x); m_k, S_k) / prod(x).

    Fields: `logs`, a `Gaussian` of the logarithms; `unit` (d,), in the units of the data: where these lie, by which the
    floor under variances becomes one for logarithms. A fit leaves it as it is.
    """

    logs: Any
    unit: Leaf = bounds.known(positive=True)

    support: ClassVar[Support] = "positive"

    @classmethod
    def form(cls, covariance: str = "full") -> Form:
        """Log-normal components with this `covariance` of their logarithms, the name of a structure."""
        name = Gaussian.form(covariance).name
        return Form(cls, (("covariance", name),), f"LogNormal({name})")

    @classmethod
    def blank(
        cls, n_components: int, center: Float[Array, " d"], scale: Float[Array, " d"], *, covariance: str
    ) -> "LogNormal":
        center = positive_center(center, scale)
        # Of the same mean and deviation.
        wide = jnp.log1p((scale / center) ** 2)
        logs = Gaussian.blank(n_components, jnp.log(center) - wide / 2, jnp.sqrt(wide), covariance=covariance)
        return cls(logs, center)

    @classmethod
    def view(cls, x: Float[Array, "n d"], **options: Any) -> Views:
        return each_column(_log(x))

    @property
    def means(self) -> Float[Array, "*batch k d"]:
        """Expectation of each component (k, d), in the units of the data."""
        return jnp.exp(self.logs.means + self.logs.variances() / 2)

    @property
    def centers(self) -> Float[Array, "*batch k d"]:
        """Medians, (k, d)."""
        return jnp.exp(self.logs.means)

    @property
    def covariances(self) -> Float[Array, "*batch k d d"]:
        """Covariance of each component (k, d, d), in squared units of the data."""
        means = self.means
        return means[..., :, None] * means[..., None, :] * jnp.expm1(self.logs.covariances)

    def variances(self) -> Float[Array, "*batch k d"]:
        return self.means**2 * jnp.expm1(self.logs.variances())

    @property
    def whitens(self) -> bool:
        return False

    @property
    def defined_by(self) -> int:
        return int(self.logs.defined_by)

    def log_prob(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        kernel = _Kernel(self.logs)
        return kernel.log_prob(kernel.read(Evidence(x, jnp.ones_like(x[:, 0]))))

    def read(self, rows: Evidence) -> Any:
        return rows.x

    def statistics(self, x: Float[Array, "n d"], responsibilities: Float[Array, "n k"]) -> Any:
        return self.logs.statistics(_log(x), responsibilities)

    def finish(self, counts: Float[Array, " k"], sums: Any) -> Any:
        return self.logs.finish(counts, sums)

    def with_kernel(self, use: Callable[[Kernel], T]) -> T:
        found: T = self.logs.with_kernel(lambda kernel: use(_Kernel(kernel)))
        return found

    def with_kernel_of_parts(self, rows: Evidence, use: Callable[[Kernel, Evidence], T]) -> T:
        if rows.noise is not None:
            return super().with_kernel_of_parts(rows, use)

        def of(kernel: Kernel, logs: Evidence) -> T:
            return use(_Kernel(kernel), dataclasses.replace(rows, ready=logs.ready))

        found: T = self.logs.with_kernel_of_parts(dataclasses.replace(rows, x=_log(rows.x)), of)
        return found

    def needs_centring(self) -> Bool[Array, ""]:
        found: Array = self.logs.needs_centring()
        return found

    def maximize(
        self,
        counts: Float[Array, " k"],
        statistics: Any,
        alive: Bool[Array, " k"],
        floor: Float[Array, " d"],
    ) -> tuple["LogNormal", Bool[Array, " k"]]:
        logs, held = self.logs.maximize(counts, statistics, alive, self._of_logs(floor))
        return dataclasses.replace(self, logs=logs), held

    def recentred(self, counts: Float[Array, " k"], statistics: Any, other: Any) -> Any:
        return self.logs.recentred(counts, statistics, other.logs)

    def floored(self, floor: Float[Array, " d"], alive: Bool[Array, " k"]) -> tuple["LogNormal", Bool[Array, " k"]]:
        logs, held = self.logs.floored(self._of_logs(floor), alive)
        return dataclasses.replace(self, logs=logs), held

    def flat(self, scale: Float[Array, " d"], correlation: Float[Array, "d d"], share: float) -> Bool[Array, " k"]:
        return jnp.any(self.variances() < share * scale**2, axis=1)

    def sample(self, key: jax.Array, labels: Int[Array, " n"]) -> Float[Array, "n d"]:
        return jnp.exp(self.logs.sample(key, labels))

    def completed(
        self, key: jax.Array, drawn: Any, labels: Int[Array, " n"], seen: Bool[Array, "n d"]
    ) -> Float[Array, "n d"]:
        return jnp.exp(self.logs.completed(key, drawn, labels, seen))

    def information(self, weights: Float[Array, " k"]) -> "LogNormal":
        return type(self)(self.logs.information(weights), 1 / self.unit**2)

    def take(self, places: Places) -> "LogNormal":
        places = checks.places("places", places, self.logs.means.shape[0], "component")
        return dataclasses.replace(self, logs=self.logs.take(places))

    def marginal(self, columns: ColumnIndices) -> "LogNormal":
        return type(self)(self.logs.marginal(columns), self.unit[columns])

    def condition(self, given: ColumnIndices, kept: ColumnIndices, values: Float[Array, " g"]) -> "LogNormal":
        return type(self)(self.logs.condition(given, kept, _log(values)), self.unit[kept])

    def n_parameters(self, n_components: int) -> int:
        return int(self.logs.n_parameters(n_components))

    def _of_logs(self, floor: Float[Array, " d"]) -> Float[Array, " d"]:
        return floor / self.unit**2


@record
class _Read:
    """Fields: `logs`, what the kernel of these has read; `volume` (n,), sum of the logarithms that are seen."""

    logs: Any
    volume: Leaf


@record
class _Kernel(Kernel):
    """Fields: `logs`, a kernel of the logarithms."""

    logs: Any

    def read(self, rows: Evidence) -> _Read:
        logs = _log(rows.x)
        volume = jnp.sum(jnp.where(seen_of(rows), logs, 0), axis=1)
        # Where there is no logarithm, there is no row.
        outside = jnp.any((rows.x <= 0) & seen_of(rows), axis=1)
        return _Read(self.logs.read(dataclasses.replace(rows, x=logs)), jnp.where(outside, jnp.inf, volume))

    def log_prob(self, rows: _Read) -> Float[Array, "n k"]:
        return self.logs.log_prob(rows.logs) - rows.volume[:, None]

    def statistics(self, rows: _Read, responsibilities: Float[Array, "n k"]) -> Any:
        return self.logs.statistics(rows.logs, responsibilities)

    def finish(self, counts: Float[Array, " k"], sums: Any) -> Any:
        return self.logs.finish(counts, sums)

    def true_values(self, rows: _Read) -> tuple[Float[Array, "k d n"], Float[Array, "k d d n"]]:
        means, covariances = self.logs.true_values(rows.logs)
        variances = jnp.moveaxis(jnp.diagonal(covariances, axis1=1, axis2=2), -1, 1)
        found = jnp.exp(means + variances / 2)
        return found, found[:, :, None] * found[:, None, :] * jnp.expm1(covariances)

    def draws_of_true_values(self, rows: _Read, chosen: Int[Array, " n"], noise: Float[Array, "n d"]) -> Any:
        return self.logs.draws_of_true_values(rows.logs, chosen, noise)


def _log(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.log(jnp.where(x > 0, x, 1))
