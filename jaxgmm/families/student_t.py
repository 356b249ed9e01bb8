"""Student-t components over any covariance structure, with degrees of freedom that are given or estimated."""

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.covariance.structure import Each, Structure
from jaxgmm.covariance.table import known_as, structure_of
from jaxgmm.families import kernels
from jaxgmm.families.family import Family, Form, Kernel
from jaxgmm.families.kernels import CentredKernel, ExpandedKernel, Moments
from jaxgmm.families.located import Located
from jaxgmm.ground import checks, linalg, pytree, special
from jaxgmm.ground.bounds import positive
from jaxgmm.ground.pytree import ColumnIndices, Leaf, Places, record, static
from jaxgmm.ground.rows import Evidence

T = TypeVar("T")
S = TypeVar("S", bound="_HeavyTailed")

# Degrees of freedom that a fit which estimates them starts from, and the fewest that it comes to.
_START, _LEAST = 10.0, 0.1
# The most of them for each column: a Gaussian component is nearer than a millionth, by the Kullback-Leibler divergence.
_MOST = 1000.0


class _HeavyTailed(Located):
    """Student-t components by fields `means`, `dispersion` and `nu`, whatever is known of the last."""

    if TYPE_CHECKING:
        means: Any
        dispersion: Any
        nu: Any

    @property
    @abstractmethod
    def _each(self) -> Float[Array, "*batch _"]:
        """Degrees of freedom of the components, (k,), or (1,) for the same of all."""

    @classmethod
    def blank(
        cls, n_components: int, center: Float[Array, " d"], scale: Float[Array, " d"], *, covariance: str, **known: Any
    ) -> Any:
        make: Any = cls
        means = jnp.broadcast_to(center, (n_components, center.size))
        return make(means, structure_of(covariance).uncorrelated(scale, n_components), **known)

    @property
    def covariances(self) -> Float[Array, "*batch k d d"]:
        """Dense covariance of each component (k, d, d), in squared units of the data; inf where nu <= 2."""
        dense, nu = self.dispersions, self._each[..., None, None]
        # Not inf times 0, where columns are uncorrelated.
        none = jnp.where(dense == 0, 0, jnp.sign(dense) * jnp.inf)
        return jnp.where(nu > 2, dense * (nu / jnp.where(nu > 2, nu - 2, 1)), none)

    @property
    def dispersions(self) -> Float[Array, "*batch k d d"]:
        return kernels.dense(self.means, self.dispersion)

    @property
    def structure(self) -> Structure:
        found: Structure = self.dispersion
        return found

    def moved(self: S, means: Float[Array, "k d"], structure: Structure) -> S:
        return self._replaced(means=means, dispersion=structure)

    def log_prob(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        return self._of(CentredKernel.of(self.means, self.dispersion, self._zeros)).log_prob(x)

    def statistics(self, x: Float[Array, "n d"], responsibilities: Float[Array, "n k"]) -> Moments:
        kernel = self._of(CentredKernel.of(self.means, self.dispersion, self._zeros))
        return kernel.finish(jnp.sum(responsibilities, axis=0), kernel.statistics(x, responsibilities))

    def scales(self, x: Any) -> Float[Array, "n k"]:
        """What rows `x` (n, d) count for in each component, given that they are of it: (nu + d) / (nu + q).

        q is the squared distance, in units of the dispersion. It is the expected factor of a row's precision: about 1
        for most rows, at most 1 + d / nu, and the smaller the further out a row is.
        """
        rows = checks.finite_data(x, self.means.shape[1]).astype(self.means.dtype)
        return self._of(CentredKernel.of(self.means, self.dispersion, self._zeros)).scales(rows)

    def with_kernel(self, use: Callable[[Kernel], T]) -> T:
        return kernels.with_kernel(self.means, self.dispersion, self._zeros, lambda distances: use(self._of(distances)))

    def with_kernel_of_parts(self, rows: Evidence, use: Callable[[Kernel, Evidence], T]) -> T:
        if rows.noise is not None:
            # The sum of a t and a normal variable has no density in closed form.
            return Family.with_kernel_of_parts(self, rows, use)
        return super().with_kernel_of_parts(rows, use)

    def log_density(self, squares: Array, half_log_det: Array, n_columns: Any) -> Array:
        nu = self._each[:, None]
        return self._by_columns(_constant, n_columns) - half_log_det - (nu + n_columns) / 2 * jnp.log1p(squares / nu)

    def influence(self, squares: Array, n_columns: Any) -> Array:
        return (self._each[:, None] + n_columns) / (self._each[:, None] + squares)

    def stretch(self, squares: Array, n_columns: Any) -> Array:
        nu = self._each[:, None]
        rest = nu + n_columns - 2
        return jnp.where(rest > 0, (nu + squares) / jnp.where(rest > 0, rest, 1), jnp.inf)

    def sample_stretch(self, key: jax.Array, squares: Array, n_columns: Any, labels: Int[Array, " n"]) -> Array:
        nu = self._at(labels)
        drawn = jax.random.loggamma(key, (nu + n_columns) / 2, squares.shape, squares.dtype)
        return (nu + squares) / 2 * jnp.exp(-drawn)

    def maximize(
        self: S, counts: Float[Array, " k"], statistics: Moments, alive: Bool[Array, " k"], floor: Float[Array, " d"]
    ) -> tuple[S, Bool[Array, " k"]]:
        if statistics.degrees is not None:
            return super().maximize(counts, statistics, alive, floor)
        mass: Any = statistics.mass
        # If precisions of rows had the scale c, and dispersions were c times as wide, c = sum of r u / sum of r would
        # be best: as many dispersions, divided by c, are these. Not along a bound, where they are the plain ones.
        ratios = jnp.where(alive, mass / counts, 1)
        scales = self.structure.free_scales(ratios, jnp.where(alive, counts * self._each, 0))
        plain, sooner = (
            super(_HeavyTailed, self).maximize(counts, dataclasses.replace(statistics, degrees=degrees), alive, floor)
            for degrees in (counts, counts * scales)
        )
        return pytree.where(jnp.any(sooner[1]), plain, sooner)

    def sample(self, key: jax.Array, labels: Int[Array, " n"]) -> Float[Array, "n d"]:
        for_noise, for_tails = jax.random.split(key)
        noise = jax.random.normal(for_noise, (labels.size, self.means.shape[1]), self.means.dtype)
        # By logarithms, as with few degrees of freedom the numbers themselves underflow.
        nu = self._at(labels)
        squares = math.log(2) + jax.random.loggamma(for_tails, nu / 2, labels.shape, noise.dtype)
        noise = noise * jnp.exp((jnp.log(nu) - squares) / 2)[:, None]
        return self.means[labels] + self.dispersion.take(labels).factor.times(noise[:, None, :])[:, 0]

    def information(self: S, weights: Float[Array, " k"]) -> S:
        # A row tells less than of a Gaussian.
        precisions, total = self._precisions(), self._each + self.means.shape[1]
        weights = weights * (total / (total + 2))
        return self.moved(weights[:, None] * precisions, self.dispersion.information(weights, precisions))

    def take(self: S, places: Places) -> S:
        places = checks.places("places", places, self.means.shape[0], "component")
        return self._replaced(means=self.means[places], dispersion=self.dispersion.take(places))

    def condition(self: S, given: ColumnIndices, kept: ColumnIndices, values: Float[Array, " g"]) -> S:
        away = values - self.means[:, given]
        shift, factor = self.dispersion.factor.condition(given, kept, away)
        white = self.dispersion.factor.marginal(given).inverse().times(away[:, None, :])[:, 0]
        # Far out in the columns that are known, the others are wider.
        wider = jnp.sqrt((self._each + linalg.clipped_square(white)) / (self._each + given.size))
        narrow = self.moved(self.means[:, kept] + shift, Each(factor.stretched(wider)))
        return narrow._replaced(nu=self.nu + given.size)

    @property
    def _zeros(self) -> Float[Array, " k"]:
        return jnp.zeros_like(self.means[:, 0])

    def _replaced(self: S, **fields: Any) -> S:
        own: Any = self
        replaced: S = dataclasses.replace(own, **fields)
        return replaced

    def _of(self, distances: CentredKernel | ExpandedKernel) -> "_Kernel":
        constant = _constant(self._each, self.means.shape[1])
        return _Kernel(distances, constant - self.dispersion.factor.half_log_det(), self._each)

    def _by_columns(self, function: Callable[[Array, Array], Array], n_columns: Any) -> Array:
        """`function(nu, columns)` of each component and of the columns that rows are seen in, (k, n)."""
        found = function(self._each[:, None], jnp.arange(self.means.shape[1] + 1))
        return found[:, jnp.atleast_1d(n_columns)]

    def _at(self, labels: Int[Array, " n"]) -> Float[Array, " n"]:
        """Degrees of freedom of rows from these components."""
        return jnp.broadcast_to(self._each, self.means.shape[:1])[labels]


@record
class StudentT(_HeavyTailed):
    """Student-t components, whose tails outliers do not move: t(x; nu, m_k, Sigma_k).

    Fields: `means` (k, d) in the units of the data; `dispersion`, a structure such as `Each(Tril(...))` of
    the matrices Sigma_k; `nu`, degrees of freedom, the same for all and static: a fit takes them as given. The
    covariance is nu / (nu - 2) Sigma, and infinite where nu <= 2. `StudentTEstimated` is of those that a fit estimates.

    A row counts for r u in the moments of a component, with u = (nu + d) / (nu + squared distance), and the scatter is
    divided by the sum of r u: EM with expanded parameters, with the same maxima and fewer steps.

    Sources: Peel & McLachlan (2000), Stat. Comput. 10; Liu, Rubin & Wu (1998), Biometrika 85.
    """

    means: Leaf
    dispersion: Structure
    nu: float = static()

    @classmethod
    def form(cls, covariance: str = "full", *, nu: Any = "each") -> Form:
        """Student-t components with this `covariance`, the name of a structure, and `nu` degrees of freedom.

        Args:
            covariance: "full" and so on, as for Gaussians.
            nu: "each" to estimate those of each component; "shared" to estimate one number for all, where components
                have few rows; or a number, which a program is compiled for.

        Raises:
            TypeError, ValueError: a name that is not known, or a `nu` that is none of these.

        >>> import jaxgmm
        >>> [jaxgmm.StudentT.form("diag", nu=nu).name for nu in (4, "each")]
        ['StudentT(diag, nu=4)', 'StudentT(diag, nu=each)']
        """
        options = (("covariance", known_as(covariance)),)
        if isinstance(nu, str) and nu in ("each", "shared"):
            return Form(StudentTEstimated, (*options, ("shared", nu == "shared")), f"StudentT({covariance}, nu={nu})")
        try:
            number = math.nan if isinstance(nu, (str, bool)) else float(nu)
        except TypeError:
            number = math.nan
        if not 0 < number < math.inf:
            raise ValueError(
                f"nu is {nu!r}; expected a positive number, known when a program is compiled, or 'each' or 'shared' to "
                "estimate the degrees of freedom of each component or of all together."
            )
        return Form(cls, (*options, ("nu", number)), f"StudentT({options[0][1]}, nu={number:.12g})")

    @property
    def _each(self) -> Float[Array, " 1"]:
        return jnp.full(1, self.nu, self.means.dtype)


@record
class StudentTEstimated(_HeavyTailed):
    """Student-t components with degrees of freedom that a fit estimates. `StudentT.form` gives them.

    Fields: `means` (k, d) and `dispersion` as of `StudentT`; `nu` (k,), or () for the same of all, positive; `shared`,
    static, whether it is the same.

    With g(a) = log(a) - digamma(a), each step solves g(nu / 2) - g((nu + d) / 2) = mean of u - 1 - log(u) over the rows
    of a component or of all. That is the maximum of a lower bound of the log-likelihood that touches it where the step
    starts, and is closer to it than that of plain EM. Dispersions follow given nu, as of `StudentT`. So no step lowers
    the likelihood.

    Steps keep nu between 0.1 and 1000 d. Where rows have no long tails, nu grows until what is still to be gained is
    below the tolerance of the fit: it is large then, says no more than that, and is no failure.

    Sources: as of `StudentT`; Hunter & Lange (2004), Am. Stat. 58, for bounds such as this one.

    >>> import jax, jaxgmm
    >>> x = jax.random.t(jax.random.key(0), 3.0, (2000, 1))
    >>> result = jaxgmm.fit(jaxgmm.init(jax.random.key(1), x, 1, jaxgmm.StudentT.form("full", nu="each")), x)
    >>> bool(2 < result.mixture.components.nu[0] < 4)
    True
    """

    means: Leaf
    dispersion: Structure
    nu: Leaf = positive()
    shared: bool = static(default=False)

    @classmethod
    def blank(
        cls, n_components: int, center: Float[Array, " d"], scale: Float[Array, " d"], *, covariance: str, **known: Any
    ) -> Any:
        nu = jnp.full(() if known["shared"] else n_components, _START, center.dtype)
        return super().blank(n_components, center, scale, covariance=covariance, nu=nu, **known)

    def maximize(
        self, counts: Float[Array, " k"], statistics: Moments, alive: Bool[Array, " k"], floor: Float[Array, " d"]
    ) -> tuple["StudentTEstimated", Bool[Array, " k"]]:
        rows: Array = jnp.where(alive, counts, 0)
        tails: Array = jnp.where(alive, jnp.asarray(statistics.tails), 0)
        if self.shared:
            rows, tails = jnp.sum(rows), jnp.sum(tails)
        d, here = self.means.shape[1], jax.lax.stop_gradient(self.nu)
        lead = jnp.where(rows > 0, tails, 1) / jnp.where(rows > 0, rows, 1)
        nu = 2 * special.shape_of_lead(lead, d / 2, _LEAST / 2, _MOST * d / 2)
        # What a leap or the start took further than that stays there.
        nu = jnp.where(nu > _LEAST, nu, jnp.minimum(here, nu))
        nu = jnp.where(nu < _MOST * d, nu, jnp.maximum(here, nu))
        stepped = self._replaced(nu=jnp.where(rows > 0, nu, self.nu))
        return super(StudentTEstimated, stepped).maximize(counts, statistics, alive, floor)

    def tails(self, squares: Array, n_columns: Any) -> Array:
        d = self.means.shape[1]
        more = self._by_columns(lambda nu, seen: special.lead_of_shape((nu + seen) / 2, (d - seen) / 2), n_columns)
        return _unevenness(self._each[:, None], squares, n_columns) + more

    def information(self, weights: Float[Array, " k"]) -> "StudentTEstimated":
        h = self.means.shape[1] / 2
        a = jnp.clip(self._each / 2, _LEAST / 2, _MOST * h)
        # As steep as what a step of EM climbs.
        told = weights * a * special.lead_of_shape(a, h) * (2 * a + h) / (a + h)
        return super().information(weights)._replaced(nu=jnp.sum(told) if self.shared else told)

    def take(self, places: Places) -> "StudentTEstimated":
        return super().take(places)._replaced(nu=self.nu if self.shared else self.nu[places])

    def n_parameters(self, n_components: int) -> int:
        return super().n_parameters(n_components) + (1 if self.shared else n_components)

    @property
    def _each(self) -> Float[Array, "*batch _"]:
        return self.nu[..., None] if self.shared else self.nu

    def _of(self, distances: CentredKernel | ExpandedKernel) -> "_Kernel":
        return dataclasses.replace(super()._of(distances), estimated=True)


@record
class _Kernel(Kernel):
    """Fields: `distances`, whose `log_prob` is minus half the squared distance; `log_normalizer` (k,) or (1,); `nu`,
    (k,) or (1,), and whether rows are asked for it.
    """

    distances: Any
    log_normalizer: Leaf
    nu: Leaf
    estimated: bool = static(default=False)

    def read(self, rows: Evidence) -> Any:
        return self.distances.read(rows)

    def log_prob(self, rows: Any) -> Float[Array, "n k"]:
        return self.log_normalizer - self._total / 2 * jnp.log1p(self._squares(rows) / self.nu)

    def statistics(self, rows: Any, responsibilities: Float[Array, "n k"]) -> tuple[Any, ...]:
        squares, tails = self._squares(rows), None
        shares = responsibilities * self._scales(squares)
        if self.estimated:
            # The density has these logarithms already: all of u - 1 - log(u) would take a pass half as long again.
            tails = jnp.sum(responsibilities * jnp.log1p(squares / self.nu), axis=0)
        return jnp.sum(shares, axis=0), self.distances.statistics(rows, shares), tails

    def finish(self, counts: Float[Array, " k"], sums: tuple[Any, ...]) -> Moments:
        mass, moments, tails = sums
        if self.estimated:
            tails = tails - counts * jnp.log1p(self.distances.means.shape[1] / self.nu) + (mass - counts)
        return dataclasses.replace(self.distances.finish(mass, moments), mass=mass, tails=tails)

    def scales(self, rows: Any) -> Float[Array, "n k"]:
        """What rows count for, given their components."""
        return self._scales(self._squares(rows))

    def _scales(self, squares: Float[Array, "n k"]) -> Float[Array, "n k"]:
        return self._total / (self.nu + squares)

    @property
    def _total(self) -> Float[Array, " _"]:
        return self.nu + self.distances.means.shape[1]

    def _squares(self, rows: Any) -> Float[Array, "n k"]:
        """Squared distances, kept finite."""
        half = -self.distances.log_prob(rows)
        return 2 * jnp.clip(half, 0, linalg.saturation(half.dtype))


def _constant(nu: Array, n_columns: Any) -> Array:
    """Logarithm of the density at its highest, but for the dispersion."""
    half = n_columns / 2
    return special.log_gamma_ratio(nu / 2, half) - half * math.log(2 * math.pi)


def _unevenness(nu: Array, squares: Array, n_columns: Any) -> Array:
    """u - 1 - log(u) of what a row counts for, u = (nu + columns) / (nu + squared distance): with digits near u = 1."""
    return (n_columns - squares) / (nu + squares) + (jnp.log1p(squares / nu) - jnp.log1p(n_columns / nu))
