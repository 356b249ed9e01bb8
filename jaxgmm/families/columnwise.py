"""Components whose columns are independent of each other: a density of every entry, and sums over rows for each."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxgmm.families.family import Family, Kernel
from jaxgmm.families.told import seen_of
from jaxgmm.ground import linalg
from jaxgmm.ground.pytree import ColumnIndices, Leaf, record
from jaxgmm.ground.rows import Evidence

T = TypeVar("T")
S = TypeVar("S", bound="Columnwise")


@record
class Entries:
    """A block of rows, columns first, so that rows lie along memory.

    Fields: `x` (d, n), where unseen any number that the column may hold; `seen` (d, n) or (d, 1), None where all are.
    """

    x: Leaf
    seen: Leaf | None = None


@record
class EntrySums:
    """Sums over rows by component and column, but for what is not seen.

    Fields: `sums`, a tuple of (k, d, ...), of what the family's `terms` are; `mass` (k, d), weight of the rows that are
    seen, None where these are the counts in every column.
    """

    sums: Any
    mass: Leaf | None = None


class Uncorrelated(Family):
    """Components of which nothing is estimated that is between columns."""

    discrete: ClassVar[bool] = False
    """Whether rows are counted, and not measured: then no component is too narrow, and there is no floor to hold it."""

    @abstractmethod
    def variances(self) -> Float[Array, "*batch k d"]:
        """Variance of each component in each column."""

    @property
    def dispersions(self) -> Float[Array, "*batch k d d"]:
        variances = self.variances()
        return variances[..., None] * jnp.eye(variances.shape[-1], dtype=variances.dtype)

    @property
    def leaps_are_floored(self) -> bool:
        return self.discrete

    @property
    def defined_by(self) -> int:
        return 1

    @property
    def whitens(self) -> bool:
        return False

    def flat(self, scale: Float[Array, " d"], correlation: Float[Array, "d d"], share: float) -> Bool[Array, " k"]:
        narrow = jnp.any(self.variances() < share * scale**2, axis=1)
        return jnp.zeros_like(narrow) if self.discrete else narrow


class Columnwise(Uncorrelated):
    """Components under which the columns of a row are independent of each other.

    A family gives the density of an entry, the terms whose sums over rows its parameters follow from, and how; all of
    it by component and column. Rows with gaps then are those entries that are seen.
    """

    linear: ClassVar[bool] = True
    """Whether numbers lie on a line, on which they have a mean."""

    @abstractmethod
    def log_density(self, x: Float[Array, "d n"]) -> Float[Array, "k d n"]:
        """Log-density of each entry under each component; -inf where impossible, never NaN for finite ones."""

    @abstractmethod
    def terms(self, x: Float[Array, "d n"]) -> tuple[Float[Array, "..."], ...]:
        """What `estimated` is to have the sums of: arrays (d, n), or (k, d, n) where components see it differently."""

    @abstractmethod
    def estimated(
        self: S, mass: Float[Array, "k _"], sums: tuple[Float[Array, "k d"], ...], floor: Float[Array, " d"]
    ) -> tuple[S, Bool[Array, "k d"]]:
        """The most likely parameters of `mass` rows, where this is positive, and which of them the `floor` holds.

        `sums` are those of `terms` over rows, by responsibility.
        """

    def pseudo_terms(self, mean: Float[Array, " d"]) -> tuple[Float[Array, "d ..."], ...]:
        """Terms of an entry of each column that is even where probabilities are, and elsewhere `mean`."""
        self._cannot_be_pseudo()

    def log_density_of_terms(self, terms: tuple[Float[Array, "d ..."], ...]) -> Float[Array, "k d"]:
        """Expected log-density of an entry by its terms, up to a constant, where it is linear in these."""
        self._cannot_be_pseudo()

    @property
    def covariances(self) -> Float[Array, "*batch k d d"]:
        """Dense covariance of each component (k, d, d), in squared units of the data: a diagonal."""
        return self.dispersions

    def log_prob(self, x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        return self.log_prob_of(Entries(x.T))

    def statistics(self, x: Float[Array, "n d"], responsibilities: Float[Array, "n k"]) -> EntrySums:
        return self.sums_of(Entries(x.T), responsibilities)

    def log_prob_of(self, rows: Entries) -> Float[Array, "n k"]:
        """Of rows that are seen in part."""
        each = self.log_density(rows.x)
        return jnp.sum(each if rows.seen is None else jnp.where(rows.seen, each, 0), axis=1).T

    def sums_of(self, rows: Entries, responsibilities: Float[Array, "n k"]) -> EntrySums:
        """Statistics of rows that are seen in part."""
        sums = tuple(_summed(responsibilities, _where_seen(rows, term)) for term in self.terms(rows.x))
        if rows.seen is None:
            return EntrySums(sums)
        seen = jnp.broadcast_to(rows.seen, rows.x.shape).astype(rows.x.dtype)
        return EntrySums(sums, _summed(responsibilities, seen))

    def with_kernel_of_parts(self, rows: Evidence, use: Callable[[Kernel, Evidence], T]) -> T:
        if rows.noise is not None:
            return super().with_kernel_of_parts(rows, use)
        return use(_Seen(self), rows)

    def maximize(
        self: S,
        counts: Float[Array, " k"],
        statistics: EntrySums,
        alive: Bool[Array, " k"],
        floor: Float[Array, " d"],
    ) -> tuple[S, Bool[Array, " k"]]:
        # A column of which the rows of a component show nothing tells nothing.
        mass = counts[:, None] if statistics.mass is None else statistics.mass
        told = alive[:, None] & ~(mass <= counts[:, None] * jnp.sqrt(jnp.finfo(mass.dtype).tiny))
        found, held = self.estimated(jnp.where(told, mass, 1), statistics.sums, floor)

        def of(new: Array, old: Array) -> Array:
            return jnp.where(jnp.reshape(told, told.shape + (1,) * (new.ndim - 2)), new, old)

        return jax.tree.map(of, found, self), jnp.any(held & told, axis=1)

    def with_pseudo_rows(
        self, counts: Float[Array, " k"], sums: EntrySums, rows: Float[Array, " k"], mean: Float[Array, " d"]
    ) -> EntrySums:
        mass = counts[:, None] if sums.mass is None else sums.mass
        more = [jnp.tensordot(rows, term, axes=0) for term in self.pseudo_terms(mean)]
        return EntrySums(tuple(map(jnp.add, sums.sums, more)), mass + rows[:, None])

    def log_density_of_pseudo_row(self, mean: Float[Array, " d"]) -> Float[Array, " k"]:
        return jnp.sum(self.log_density_of_terms(self.pseudo_terms(mean)), axis=1)

    def completed(
        self, key: jax.Array, drawn: tuple[()], labels: Int[Array, " n"], seen: Bool[Array, "n d"]
    ) -> Float[Array, "n d"]:
        return self.sample(key, labels)

    def marginal(self: S, columns: ColumnIndices) -> S:
        return jax.tree.map(lambda leaf: leaf[:, columns], self)

    def condition(self: S, given: ColumnIndices, kept: ColumnIndices, values: Float[Array, " g"]) -> S:
        return self.marginal(kept)


@record
class _Seen(Kernel):
    """Rows of which not all entries are seen. Fields: `components`."""

    components: Any

    def read(self, rows: Evidence) -> Entries:
        return Entries(rows.x.T, seen_of(rows).T)

    def log_prob(self, rows: Entries) -> Float[Array, "n k"]:
        found: Array = self.components.log_prob_of(rows)
        return found

    def statistics(self, rows: Entries, responsibilities: Float[Array, "n k"]) -> EntrySums:
        found: EntrySums = self.components.sums_of(rows, responsibilities)
        return found

    def true_values(self, rows: Entries) -> tuple[Float[Array, "k d n"], Float[Array, "k d d n"]]:
        if not self.components.linear:
            raise NotImplementedError(
                f"{type(self.components).__name__} components have no means on a line, to put where nothing is seen; "
                "expected rows with gaps, which all but impute takes."
            )
        means, variances = self.components.means[:, :, None], self.components.variances()[:, :, None]
        seen: Any = jnp.broadcast_to(rows.seen, rows.x.shape)  # type: ignore[arg-type]
        variances = jnp.where(seen, 0, variances)
        return jnp.where(seen, rows.x, means), variances[:, :, None] * jnp.eye(seen.shape[0])[:, :, None]

    def draws_of_true_values(self, rows: Entries, chosen: Int[Array, " n"], noise: Float[Array, "n d"]) -> tuple[()]:
        # What is seen says nothing of the other columns of a component.
        return ()


def _where_seen(rows: Entries, values: Float[Array, "..."]) -> Float[Array, "..."]:
    return values if rows.seen is None else jnp.where(rows.seen, values, 0)


def _summed(responsibilities: Float[Array, "n k"], term: Float[Array, "..."]) -> Float[Array, "k d"]:
    """Over rows, by responsibility, of a term (d, n), or (k, d, n) of each component."""
    if term.ndim == 2:
        return linalg.einsum("nk,dn->kd", responsibilities, term)
    return jnp.sum(responsibilities.T[:, None, :] * term, axis=2)
