"""Low rank and a diagonal: mixtures of factor analysers, and of probabilistic principal components."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxgmm.covariance.expansion import Expanded, ScaledFrame, digits_limit, scaled_expansion
from jaxgmm.covariance.factor import Wishart
from jaxgmm.covariance.root import Root
from jaxgmm.covariance.spiked import Spiked
from jaxgmm.covariance.structure import Expandable, masked
from jaxgmm.ground import linalg
from jaxgmm.ground.pytree import ColumnIndices, Leaf, Places, record

# Of what a row tells of a column, where a factor explains nearly nothing.
_LEAST = 1e-2
# A log-density is of the size of its columns, so many times.
_SIZE = 8


@record
class LowRank(Expandable):
    """Covariances L_k L_k^T + Psi_k: what few factors explain, and noise of each column for itself.

    A row of component k is m_k + L_k z + e, with q standard normal factors z and noise e of variances Psi_k. Nothing is
    ever a matrix of columns by columns.

    Fields: `loadings` (k, d, q), L_k, in the units of the data, whose columns are orthogonal in units of the noise and
    the longest first; `noise`, a structure of independent columns: `Each(Scales(...))` for factor analysis,
    `Each(Scale(...))` for probabilistic principal components, and `Shared` ones for noise that all components have.

    Second moments are kept as (k, d, 1 + q): of each column, and of each column with the factors as they are expected
    given the row. A step is one of EM in which the factors may have any covariance, which is then taken into the
    loadings. It never lowers the likelihood. The floor is one under the noise, so that a column which the factors
    explain entirely, a Heywood case, is told as what is held by it.

    Sources: Ghahramani & Hinton (1996), CRG-TR-96-1; Tipping & Bishop (1999), Neural Comput. 11; Liu, Rubin & Wu
    (1998), Biometrika 85, for the covariance of the factors.
    """

    loadings: Leaf
    noise: Any

    @property
    def factor(self) -> Spiked:
        """Roots of the covariances, without a matrix."""
        scale = self.noise.factor.deviations()
        return Spiked(self.loadings, jnp.broadcast_to(scale, self.loadings.shape[:2]))

    @property
    def rank(self) -> int:
        """Number of factors."""
        return int(self.loadings.shape[-1])

    def of_factor(self, factor: Root) -> Any:
        # What has another structure is of Cholesky factors.
        return super().of_factor(factor.tril())

    def marginal(self, columns: ColumnIndices) -> "LowRank":
        return LowRank(self.loadings[:, columns], self.noise.marginal(columns))

    def scatter(
        self, differences: Float[Array, "k n d"], responsibilities: Float[Array, "n k"]
    ) -> Float[Array, "k d _"]:
        factors = linalg.einsum("knd,kqd->knq", differences, self.regression)
        squares = linalg.einsum("nk,knd->kd", responsibilities, differences**2)
        crossed = linalg.einsum("knd,knq->kdq", differences, factors * responsibilities.T[:, :, None])
        return jnp.concatenate([squares[:, :, None], crossed], axis=2)

    def unwhitened(self, second: Float[Array, "k d d"]) -> Float[Array, "k d _"]:
        root = self.factor.tril().scale_tril
        return self.gathered(linalg.einsum("kij,kjl,kml->kim", root, second, root))

    def gathered(self, second: Float[Array, "k d d"]) -> Float[Array, "k d _"]:
        squares = jnp.diagonal(second, axis1=1, axis2=2)
        crossed = linalg.einsum("kij,kqj->kiq", second, self.regression)
        return jnp.concatenate([squares[:, :, None], crossed], axis=2)

    def maximize(
        self,
        counts: Float[Array, " k"],
        scatter: Float[Array, "k d _"],
        floor: Float[Array, " d"],
        alive: Bool[Array, " k"],
    ) -> tuple["LowRank", Bool[Array, " k"]]:
        q, there = self.rank, alive[:, None, None]
        moments = masked(scatter, alive) / counts[:, None, None]
        squares, crossed = moments[:, :, 0], moments[:, :, 1:]
        # Second moments of the factors given the rows.
        root, _ = self._posterior
        inverse = linalg.tril_inverse(root)
        left = linalg.einsum("kji,kjl->kil", inverse, inverse)
        within = left + linalg.einsum("kqd,kdr->kqr", self.regression, crossed)
        spread = linalg.cholesky(jnp.where(there, within, jnp.eye(q, dtype=within.dtype)))
        away = linalg.einsum("kdq,krq->kdr", crossed, linalg.tril_inverse(spread))
        rest = jnp.maximum(squares - jnp.sum(away**2, axis=2), 0)
        white = masked(rest * counts[:, None], alive) / self.factor.scale**2
        noise, held = self.noise.maximize(counts, self.noise.unwhitened(white), floor, alive)
        found = LowRank(jnp.where(there, away, self.loadings), noise)._in_order(self)
        return LowRank(jnp.where(there, found.loadings, self.loadings), noise), held

    def free_scales(self, ratios: Float[Array, " k"], weights: Float[Array, " k"]) -> Float[Array, " k"]:
        # Its M-step is no maximum, but one step towards it, from these very covariances.
        return jnp.ones_like(ratios)

    def floored(self, floor: Float[Array, " d"], alive: Bool[Array, " k"]) -> tuple["LowRank", Bool[Array, " k"]]:
        noise, held = self.noise.floored(floor, alive)
        return LowRank(self.loadings, noise), held

    def information(self, weights: Float[Array, " k"], precisions: Float[Array, "k d"]) -> "LowRank":
        root, _ = self._posterior
        # A factor is not seen itself, and less is told of its loadings than of a column.
        explained = jnp.maximum(1 - jnp.sum(linalg.tril_inverse(root) ** 2, axis=1), _LEAST)
        variances = self.factor.scale**2
        own = jnp.mean((variances * precisions) ** 2)
        noise = jax.tree.map(lambda leaf: own * leaf, self.noise.information(weights, 1 / variances))
        return LowRank(weights[:, None, None] * precisions[:, :, None] * explained[:, None, :], noise)

    def take(self, places: Places) -> "LowRank":
        return LowRank(self.loadings[places], self.noise.take(places))

    def n_parameters(self, n_components: int) -> int:
        d, q = self.loadings.shape[-2:]
        factors = n_components * (d * q - q * (q - 1) // 2)
        # No more than there are of any covariances: of few columns, factors and noise are not told apart.
        return min(factors + self.noise.n_parameters(n_components), n_components * (d * (d + 1) // 2))

    @property
    def wishart(self) -> Wishart:
        # That of any covariance, where this one has a density too; its rows have factors as all others.
        return Wishart(self.loadings.shape[1], 1, 1)

    def portions(self, present: Bool[Array, " k"]) -> Float[Array, " k"]:
        return present.astype(self.loadings.dtype)

    def pooled(self, counts: Float[Array, " k"]) -> Float[Array, " k"]:
        self._has_mode_alone()

    @property
    def about_means(self) -> bool:
        return False

    @property
    def whitens(self) -> bool:
        return False

    def defined_by(self, n_columns: int) -> int:
        return self.rank + 1

    def flat(self, scale: Float[Array, " d"], share: float) -> Bool[Array, " k"]:
        # By what is left of a column that all others tell: other directions would take a matrix.
        return jnp.any(self.factor.precisions() * scale**2 > 1 / share, axis=1)

    def expanded(self, means: Float[Array, "k d"]) -> Expanded:
        factor, center = self.factor, jnp.mean(means, axis=0)
        unit = jnp.sqrt(jnp.mean(factor.diagonal() + (means - center) ** 2, axis=0))
        frame = ScaledFrame(*jax.lax.stop_gradient((center, unit)))
        inside = frame.enter(means).T
        towards = self._posterior[1] * frame.scale
        along = linalg.einsum("kqd,kd->kq", towards, inside)
        scale = factor.scale / frame.scale
        plain = scaled_expansion(scale, inside)
        terms = (inside**2 + factor.diagonal() / frame.scale**2) / scale**2
        _, lengths = factor.spikes
        lost = jnp.sqrt(jnp.sum(terms**2, axis=1)) + jnp.sum(along**2, axis=1) + jnp.sum(lengths, axis=1)
        # Less than the roundings of a log-density of so many columns is not told anyway.
        least = max(1.0, _SIZE * means.shape[1] / digits_limit(means.dtype))
        expansion = dataclasses.replace(
            plain,
            constant=plain.constant + jnp.sum(along**2, axis=1) / 2,
            linear=plain.linear - linalg.einsum("kq,kqd->kd", along, towards),
            cancellation=lost / least,
        )
        return Expanded(frame, inside, expansion, jnp.reshape(towards, (-1, towards.shape[2])))

    def squares(self, coordinates: Float[Array, "d n"]) -> Float[Array, "d n"]:
        return coordinates**2

    def spread(
        self, coordinates: Float[Array, "d n"], responsibilities: Float[Array, "n k"], projected: Float[Array, "_ n"]
    ) -> Float[Array, "k q d"]:
        """Second moments about 0 of the coordinates with what the factors make of them."""
        k, q = responsibilities.shape[1], self.rank
        weighted = jnp.reshape(projected, (k, q, -1)) * responsibilities.T[:, None, :]
        crossed = linalg.einsum("pn,dn->pd", jnp.reshape(weighted, (k * q, -1)), coordinates)
        return jnp.reshape(crossed, (k, q, -1))

    def second(
        self,
        frame: ScaledFrame,
        means: Float[Array, "k d"],
        counts: Float[Array, " k"],
        first: Float[Array, "k d"],
        squares: Float[Array, "k d"],
        spread: Float[Array, "k q d"],
    ) -> Float[Array, "k d _"]:
        root, towards = self._posterior
        towards = towards * frame.scale
        away = first - counts[:, None] * means
        seen, moved = (linalg.einsum("kqd,kd->kq", towards, one) for one in (means, away))
        crossed = spread - seen[:, :, None] * first[:, None, :] - moved[:, :, None] * means[:, None, :]
        crossed = linalg.einsum("krd,krq->kdq", crossed, linalg.tril_inverse(root))
        plain = squares - means * (first + away)
        return jnp.concatenate([frame.leave_moments(plain)[:, :, None], frame.scale[:, None] * crossed], axis=2)

    @property
    def regression(self) -> Float[Array, "k q d"]:
        """What the factors are expected to be, of differences of a row from the mean."""
        root, towards = self._posterior
        return linalg.einsum("krq,krd->kqd", linalg.tril_inverse(root), towards)

    @property
    def _posterior(self) -> tuple[Float[Array, "k q q"], Float[Array, "k q d"]]:
        """A root C of the precision of the factors given a row, C C^T = 1 + L^T Psi^-1 L, and C^-1 L^T Psi^-1."""
        scale = self.factor.scale[:, :, None]
        relative = self.loadings / scale
        precision = jnp.eye(self.rank, dtype=relative.dtype) + linalg.einsum("kdq,kdr->kqr", relative, relative)
        root = linalg.cholesky(precision)
        return root, linalg.einsum("kqr,kdr->kqd", linalg.tril_inverse(root), relative / scale)

    def _in_order(self, like: "LowRank") -> "LowRank":
        """The same covariances by loadings that are orthogonal in units of the noise, and face as those of another."""
        spikes, _ = self.factor.spikes
        loadings = spikes * self.factor.scale[:, :, None]
        along = jnp.sum(spikes * like.loadings / self.factor.scale[:, :, None], axis=1, keepdims=True)
        return LowRank(jnp.where(along < 0, -loadings, loadings), self.noise)
