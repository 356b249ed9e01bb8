"""Covariances that are a diagonal and a few directions more, without a matrix of columns by columns."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxgmm.covariance.root import Root
from jaxgmm.covariance.tril import Tril
from jaxgmm.ground import linalg
from jaxgmm.ground.pytree import ColumnIndices, Leaf, record


@record
class Spiked(Root):
    """Sigma_k = L_k L_k^T + diag(s_k^2), of k components, with much fewer columns in L_k than rows.

    Fields: `loadings` L (k, d, q) and `scale` s (k, d), in the units of the data.

    With U = diag(1 / s) L and U^T U = V diag(t) V^T, everything follows from the q eigenvalues t: the roots are
    diag(s) (1 + U V diag(g) V^T U^T), symmetric but for the units.
    """

    loadings: Leaf
    scale: Leaf

    @property
    def batch(self) -> str:
        return "k"

    def dense(self) -> Float[Array, "k d d"]:
        spikes = linalg.einsum("kiq,kjq->kij", self.loadings, self.loadings)
        return spikes + (self.scale**2)[:, :, None] * jnp.eye(self.scale.shape[1], dtype=self.scale.dtype)

    def tril(self) -> Tril:
        diagonal = self.scale[:, :, None] * jnp.eye(self.scale.shape[1], dtype=self.scale.dtype)
        return Tril(linalg.lower_factor(jnp.concatenate([self.loadings, diagonal], axis=2)))

    def inverse(self) -> "Whitening":
        spikes, lengths = self.spikes
        stretch = jnp.sqrt(1 + lengths)
        return Whitening(self.scale, spikes, 1 / (stretch * (1 + stretch)))

    def times(self, vectors: Float[Array, "k n d"]) -> Float[Array, "k n d"]:
        spikes, lengths = self.spikes
        along = linalg.einsum("knd,kdq->knq", vectors, spikes) / (1 + jnp.sqrt(1 + lengths))[:, None, :]
        return self.scale[:, None, :] * (vectors + linalg.einsum("knq,kdq->knd", along, spikes))

    def half_log_det(self) -> Float[Array, " k"]:
        _, lengths = self.spikes
        return jnp.sum(jnp.log(self.scale), axis=1) + jnp.sum(jnp.log1p(lengths), axis=1) / 2

    def diagonal(self) -> Float[Array, "k d"]:
        return self.scale**2 + jnp.sum(self.loadings**2, axis=2)

    def precisions(self) -> Float[Array, "k d"]:
        spikes, lengths = self.spikes
        # Of a column that the others tell nearly all of, little is left.
        left = 1 - jnp.sum(spikes**2 / (1 + lengths)[:, None, :], axis=2)
        return jnp.maximum(left, jnp.finfo(left.dtype).eps) / self.scale**2

    def above(self, floor: Float[Array, " d"]) -> Bool[Array, " k"]:
        return jnp.all(self.scale**2 > floor, axis=1)

    def marginal(self, columns: ColumnIndices) -> "Spiked":
        return Spiked(self.loadings[:, columns], self.scale[:, columns])

    def stretched(self, by: Float[Array, " k"]) -> "Spiked":
        return Spiked(by[:, None, None] * self.loadings, by[:, None] * self.scale)

    @property
    def spikes(self) -> tuple[Float[Array, "k d q"], Float[Array, "k q"]]:
        """U V, whose columns are orthogonal, and their squared lengths, the longest first."""
        relative = self.loadings / self.scale[:, :, None]
        lengths, turn = linalg.eigh(linalg.einsum("kiq,kir->kqr", relative, relative))
        turn = turn[:, :, ::-1]
        return linalg.einsum("kiq,kqr->kir", relative, turn), jnp.maximum(lengths[:, ::-1], 0)


@record
class Whitening:
    """The inverse of a root: (1 - W diag(h) W^T) diag(1 / s). Fields: `scale`, `spikes`, W, and `shrinks`, h."""

    scale: Leaf
    spikes: Leaf
    shrinks: Leaf

    def times(self, vectors: Float[Array, "k n d"]) -> Float[Array, "k n d"]:
        """White coordinates of vectors, each of its component."""
        white = vectors / self.scale[:, None, :]
        along = linalg.einsum("knd,kdq->knq", white, self.spikes) * self.shrinks[:, None, :]
        return white - linalg.einsum("knq,kdq->knd", along, self.spikes)


def waves(n_columns: int, rank: int) -> np.ndarray:
    """Orthogonal columns (d, q) of length sqrt(d) to start from: cosines, in none of which a column has no part."""
    place = (np.arange(n_columns)[:, None] + 0.5) * (np.arange(rank) + 1)
    return np.sqrt(2) * np.cos(np.pi * place / n_columns)
