"""Clusters of any family before a background of constant density: rows that belong to nothing."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.families.family import Family, Form, Kernel
from jaxgmm.families.support import Axis
from jaxgmm.families.told import seen_of
from jaxgmm.ground import bounds, checks, linalg
from jaxgmm.ground.pytree import ColumnIndices, Leaf, Places, record
from jaxgmm.ground.rows import Evidence

T = TypeVar("T")

# Sides of the box in units of the scale of the data. Between the width of what is spread evenly, which is 3.5 of them,
# and that of a normal distribution: noise that is too dense takes the tails of clusters, too thin it is taken by them.
_SIDES = 5.0


@record
class WithNoise(Family):
    """Clusters and, as the last component, noise: of density 1 / volume everywhere, for rows that belong to nothing.

    That is no distribution, as its integral is infinite, and needs none: log p(x) = log(sum_k w_k p_k(x) + w_0 / V).
    Rows are drawn from a box of that volume, whose center and widths also stand for the noise in `means` and
    `covariances`. Of a row that is seen in some columns the density is that of the box in these, and errors of
    measurement do not change it. A fit estimates the weight of the noise, and leaves the box as it is.

    Fields: `components`, the k clusters, of another family; `center` (d,) and `widths` (d,) of the box, in the units of
    the data.

    Source: Banfield & Raftery (1993), Biometrics 49.
    """

    components: Any
    center: Leaf = bounds.known()
    widths: Leaf = bounds.known(positive=True)

    n_background: ClassVar[int] = 1

    @classmethod
    def form(cls, components: Any, *, volume: Any = None) -> Form:
        """Clusters of another `Form`, and noise of this `volume`: what `jaxgmm.with_noise` gives, of names as well.

        Raises:
            TypeError, ValueError: no form, one that has noise already, or a volume that is not positive.
            NotImplementedError: components of rows that hold whole or positive numbers.
        """
        if not isinstance(components, Form):
            raise TypeError(f"components is {components!r}; expected a form. Write jaxgmm.with_noise({components!r}).")
        if components.n_background:
            raise ValueError(f"{components.name} has a noise component already; expected a form without one.")
        if components.family.support != "real":
            raise NotImplementedError(
                f"{components.family.__name__} components are of rows that hold {components.family.support}, and a "
                "noise component is of constant density over real numbers."
            )
        if volume is not None:
            volume = _static_volume(volume)
        told = "noise" if volume is None else f"noise({volume:.12g})"
        return Form(cls, (("components", components), ("volume", volume)), f"{components.name} + {told}")

    @classmethod
    def blank(
        cls,
        n_components: int,
        center: Float[Array, " d"],
        scale: Float[Array, " d"],
        *,
        components: Form,
        volume: float | None,
        extent: Float[Array, " d"] | None = None,
    ) -> "WithNoise":
        widths = usual_sides(scale) if extent is None else jnp.maximum(extent, usual_sides(scale))
        # Its logarithm, as of many columns it may be a number that the dtype does not have.
        widths = widths if volume is None else of_volume(widths, jnp.asarray(math.log(volume), scale.dtype))
        return cls(components.blank(n_components, center, scale), center, widths)

    @classmethod
    def view(cls, x: Float[Array, "n d"], **options: Any) -> Any:
        return options["components"].view(x)

    @classmethod
    def blur(cls, **options: Any) -> float:
        return float(options["components"].blur)

    @property
    def means(self) -> Float[Array, "*batch k d"]:
        """Of the clusters, and the center of the box."""
        return jnp.concatenate([self.components.means, self.center[..., None, :]], axis=-2)

    @property
    def covariances(self) -> Float[Array, "*batch k d d"]:
        """Of the clusters, and of what is spread evenly over the box."""
        return jnp.concatenate([self.components.covariances, self._spread], axis=-3)

    @property
    def dispersions(self) -> Float[Array, "*batch k d d"]:
        return jnp.concatenate([self.components.dispersions, self._spread], axis=-3)

    def variances(self) -> Float[Array, "*batch k d"]:
        return jnp.concatenate([self.components.variances(), self.widths[..., None, :] ** 2 / 12], axis=-2)

    def axis(self, column: int) -> Axis:
        found: Axis = self.components.axis(column)
        return found

    @property
    def whitens(self) -> bool:
        return bool(self.components.whitens)

    @property
    def defined_by(self) -> int:
        return int(self.components.defined_by)

    def flat(self, scale: Float[Array, " d"], correlation: Float[Array, "d d"], share: float) -> Bool[Array, " k"]:
        return jnp.append(self.components.flat(scale, correlation, share), False)

    @property
    def clusters(self) -> Family:
        found: Family = self.components
        return found

    def with_clusters(self, clusters: Any) -> "WithNoise":
        return dataclasses.replace(self, components=clusters)

    def read(self, rows: Evidence) -> Any:
        return self._before(self.components).read(rows)

    def log_prob(self, rows: Any) -> Float[Array, "n k"]:
        return self._before(self.components).log_prob(rows)

    def statistics(self, rows: Any, responsibilities: Float[Array, "n k"]) -> Any:
        return self._before(self.components).statistics(rows, responsibilities)

    def finish(self, counts: Float[Array, " k"], sums: Any) -> Any:
        return self._before(self.components).finish(counts, sums)

    def with_kernel(self, use: Callable[[Kernel], T]) -> T:
        found: T = self.components.with_kernel(lambda kernel: use(self._before(kernel)))
        return found

    def with_kernel_of_parts(self, rows: Evidence, use: Callable[[Kernel, Evidence], T]) -> T:
        def of(kernel: Kernel, rows: Evidence) -> T:
            return use(_PartsKernel(kernel, self.center, self.widths), rows)

        found: T = self.components.with_kernel_of_parts(rows, of)
        return found

    def needs_centring(self) -> Bool[Array, ""]:
        found: Array = self.components.needs_centring()
        return found

    def maximize(
        self,
        counts: Float[Array, " k"],
        statistics: Any,
        alive: Bool[Array, " k"],
        floor: Float[Array, " d"],
    ) -> tuple["WithNoise", Bool[Array, " k"]]:
        clusters, held = self.components.maximize(counts[:-1], statistics, alive[:-1], floor)
        return self.with_clusters(clusters), jnp.append(held, False)

    def recentred(self, counts: Float[Array, " k"], statistics: Any, other: Any) -> Any:
        return self.components.recentred(counts[:-1], statistics, other.components)

    def floored(self, floor: Float[Array, " d"], alive: Bool[Array, " k"]) -> tuple["WithNoise", Bool[Array, " k"]]:
        clusters, held = self.components.floored(floor, alive[:-1])
        return self.with_clusters(clusters), jnp.append(held, False)

    def sample(self, key: jax.Array, labels: Int[Array, " n"]) -> Float[Array, "n d"]:
        for_clusters, for_noise = jax.random.split(key)
        last = self.components.means.shape[0] - 1
        rows = self.components.sample(for_clusters, jnp.minimum(labels, last))
        even = jax.random.uniform(for_noise, rows.shape, rows.dtype, -0.5, 0.5)
        return jnp.where((labels > last)[:, None], self.center + self.widths * even, rows)

    def sample_stretch(self, key: jax.Array, squares: Array, n_columns: Any, labels: Int[Array, " n"]) -> Array | None:
        """As that of the clusters; rows of the noise are infinitely far, and not stretched."""
        of_clusters = jnp.isfinite(squares)
        stretch = self.components.sample_stretch(key, jnp.where(of_clusters, squares, 0), n_columns, labels)
        return None if stretch is None else jnp.where(of_clusters, stretch, 1)

    def information(self, weights: Float[Array, " k"]) -> "WithNoise":
        # What does not move is measured by nothing; these make its coordinates free of units.
        of_box = 1 / self.widths**2
        return type(self)(self.components.information(weights[:-1]), of_box, of_box)

    def take(self, places: Places) -> Family:
        """The clusters at these places, then the noise; without it, where its own is not among places that are known.

        Raises:
            ValueError: places that name the noise, and not once and at their end.
        """
        k = self.components.means.shape[-2]
        places = checks.places("places", places, k + 1, "component")
        if not isinstance(places, jax.core.Tracer):
            places = known = np.asarray(places) % (k + 1)
            if not (known == k).any():
                found: Family = self.components.take(places)
                return found
            if (known[:-1] == k).any() or known[-1] != k or known.size == 1:
                raise ValueError(
                    f"places is {known.tolist()}, and {k} is the noise component, which stays the last; expected it "
                    "once at the end, after others, or not at all."
                )
        else:
            places %= k + 1
        # Where they are not known, there is only one number of them that fits.
        fits = (places[-1] == k) & jnp.all(places[:-1] < k)
        clusters = self.components.take(places[:-1])
        return type(self)(clusters, self.center, jnp.where(fits, self.widths, jnp.nan))

    def marginal(self, columns: ColumnIndices) -> "WithNoise":
        return type(self)(self.components.marginal(columns), self.center[columns], self.widths[columns])

    def condition(self, given: ColumnIndices, kept: ColumnIndices, values: Float[Array, " g"]) -> "WithNoise":
        return type(self)(self.components.condition(given, kept, values), self.center[kept], self.widths[kept])

    def n_parameters(self, n_components: int) -> int:
        of_clusters: int = self.components.n_parameters(n_components - 1)
        return of_clusters + 1

    @property
    def _spread(self) -> Float[Array, "*batch 1 d d"]:
        d = self.widths.shape[-1]
        variances = self.widths**2 / 12
        return (variances[..., None, :] * jnp.eye(d, dtype=variances.dtype))[..., None, :, :]

    def _before(self, kernel: Kernel) -> "_Kernel":
        return _Kernel(kernel, -jnp.sum(jnp.log(self.widths)))

    def _lacks(self, name: str) -> NoReturn:
        raise NotImplementedError(
            f"{type(self).__name__} components have no {name}: the density of the noise component has no finite "
            "integral, and a box has no image that is one. mixture.take of the other components has none."
        )


def usual_sides(scale: Float[Array, " d"]) -> Float[Array, " d"]:
    """Widths of the box in data of this scale."""
    return _SIDES * scale


def of_volume(widths: Float[Array, " d"], log_volume: Float[Array, ""]) -> Float[Array, " d"]:
    """In proportion to these widths, such that their product has this logarithm."""
    return widths * jnp.exp((log_volume - jnp.sum(jnp.log(widths))) / widths.size)


def _static_volume(volume: Any) -> float:
    try:
        number = math.nan if isinstance(volume, (str, bool)) else float(volume)
    except TypeError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ValueError(f"volume is {volume!r}; expected a positive number, known when a program is compiled.")
    return number


@record
class _Kernel(Kernel):
    """Fields: `clusters`, a kernel; `log_density` (), of the noise."""

    clusters: Any
    log_density: Leaf

    def read(self, rows: Evidence) -> Any:
        return self.clusters.read(_without_infinite(rows))

    def log_prob(self, rows: Any) -> Float[Array, "n k"]:
        return _beside(self.clusters.log_prob(rows), self.log_density)

    def statistics(self, rows: Any, responsibilities: Float[Array, "n k"]) -> Any:
        return self.clusters.statistics(rows, responsibilities[:, :-1])

    def finish(self, counts: Float[Array, " k"], sums: Any) -> Any:
        return self.clusters.finish(counts[:-1], sums)


@record
class _Parts:
    """Fields: `told`, what the clusters read of the `rows`."""

    told: Any
    rows: Any


@record
class _PartsKernel(Kernel):
    """Fields: `clusters`, a kernel of parts of rows; `center`, `widths` (d,)."""

    clusters: Any
    center: Leaf
    widths: Leaf

    def read(self, rows: Evidence) -> _Parts:
        rows = _without_infinite(rows)
        return _Parts(self.clusters.read(rows), dataclasses.replace(rows, ready=None))

    def log_prob(self, rows: _Parts) -> Float[Array, "n k"]:
        log_density = -jnp.sum(jnp.where(seen_of(rows.rows), jnp.log(self.widths), 0), axis=1)
        return _beside(self.clusters.log_prob(rows.told), log_density)

    def statistics(self, rows: _Parts, responsibilities: Float[Array, "n k"]) -> Any:
        return self.clusters.statistics(rows.told, responsibilities[:, :-1])

    def finish(self, counts: Float[Array, " k"], sums: Any) -> Any:
        return self.clusters.finish(counts[:-1], sums)

    def true_values(self, rows: _Parts) -> tuple[Float[Array, "k d n"], Float[Array, "k d d n"]]:
        means, covariances = self.clusters.true_values(rows.told)
        own = self._errors(rows.rows) + self._unseen(rows.rows, self.widths**2 / 12)
        return (
            jnp.concatenate([means, self._mean(rows.rows).T[None]]),
            jnp.concatenate([covariances, jnp.moveaxis(own, 0, -1)[None]]),
        )

    def draws_of_true_values(
        self, rows: _Parts, chosen: Int[Array, " n"], noise: Float[Array, "n d"]
    ) -> tuple[Float[Array, "n d"], Float[Array, "n d"], Float[Array, " n"]]:
        last = self.clusters.log_prob(rows.told).shape[1] - 1
        mine = chosen > last
        means, away, squares = self.clusters.draws_of_true_values(rows.told, jnp.minimum(chosen, last), noise)
        # Normal deviates become even ones.
        even = self.widths * (ndtr(noise) - 0.5)
        root = jnp.moveaxis(linalg.semidefinite_root(jnp.moveaxis(self._errors(rows.rows), 0, -1)), -1, 0)
        errors = linalg.einsum("nij,nj->ni", root, noise)
        own = jnp.where(seen_of(rows.rows), errors, even)
        return (
            jnp.where(mine[:, None], self._mean(rows.rows), means),
            jnp.where(mine[:, None], own, away),
            jnp.where(mine, jnp.inf, squares),
        )

    def _mean(self, rows: Evidence) -> Float[Array, "n d"]:
        return jnp.where(seen_of(rows), rows.x, self.center)

    def _errors(self, rows: Evidence) -> Float[Array, "n d d"]:
        """Covariance of what is seen: the rows tell it up to their errors, and nothing else does."""
        n, d = rows.x.shape
        if rows.noise is None:
            return jnp.zeros((n, d, d), rows.x.dtype)
        seen = jnp.broadcast_to(seen_of(rows), (n, d))
        if rows.noise.ndim == 3:
            return jnp.where(seen[:, :, None] & seen[:, None, :], rows.noise, 0)
        return jnp.where(seen, rows.noise, 0)[:, :, None] * jnp.eye(d, dtype=rows.x.dtype)

    def _unseen(self, rows: Evidence, variances: Float[Array, " d"]) -> Float[Array, "n d d"]:
        d = variances.size
        return jnp.where(seen_of(rows), 0, variances)[:, :, None] * jnp.eye(d, dtype=variances.dtype)


def _without_infinite(rows: Evidence) -> Evidence:
    """Rows that are infinite are none that noise could be: NaN, so that a fit with them says that it failed."""
    return dataclasses.replace(rows, x=jnp.where(jnp.all(jnp.isfinite(rows.x), axis=1, keepdims=True), rows.x, jnp.nan))


def _beside(log_prob: Float[Array, "n k"], log_density: Float[Array, "..."]) -> Float[Array, "n _"]:
    column = jnp.broadcast_to(log_density, log_prob.shape[:1]).astype(log_prob.dtype)
    return jnp.concatenate([log_prob, column[:, None]], axis=1)
