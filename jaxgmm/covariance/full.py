"""One unrestricted covariance matrix per component."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxgmm.covariance.expansion import Expandable, Expansion, LinearFrame
from jaxgmm.ground import bijectors, checks, factors, linalg
from jaxgmm.ground.pytree import Columns, Leaf, record


@record
class Full(Expandable):
    """One unrestricted covariance matrix per component: Sigma_k = L_k L_k^T.

    Fields: `scale_tril` (k, d, d), lower Cholesky factors in the units of the data.
    """

    scale_tril: Leaf

    @classmethod
    def from_covariances(cls, covariances: Float[Array, "k d d"]) -> "Full":
        return cls(jnp.linalg.cholesky(checks.symmetric("covariances", covariances)))

    @classmethod
    def isotropic(cls, scale: Float[Array, " d"], n_components: int) -> "Full":
        return cls(jnp.broadcast_to(jnp.diag(scale), (n_components, scale.size, scale.size)))

    @staticmethod
    def covariances_shape(n_components: int, n_columns: int) -> tuple[int, ...]:
        return (n_components, n_columns, n_columns)

    def dense(self, n_components: int, n_columns: int) -> Float[Array, "k d d"]:
        return linalg.einsum("kij,klj->kil", self.scale_tril, self.scale_tril)

    def inverse_factor(self) -> Float[Array, "k d d"]:
        return linalg.tril_inverse(self.scale_tril)

    @staticmethod
    def whiten(inverse_factor: Float[Array, "k d d"], differences: Float[Array, "k n d"]) -> Float[Array, "k n d"]:
        return linalg.einsum("kni,kji->knj", differences, inverse_factor)

    def half_log_det(self, n_columns: int) -> Float[Array, " k"]:
        return linalg.half_log_det(self.scale_tril)

    def color(self, noise: Float[Array, "n d"], labels: Array) -> Float[Array, "n d"]:
        return linalg.einsum("nij,nj->ni", self.scale_tril[labels], noise)

    @staticmethod
    def scatter(differences: Float[Array, "k n d"], responsibilities: Float[Array, "n k"]) -> Float[Array, "k d d"]:
        weighted = differences * responsibilities.T[:, :, None]
        return linalg.einsum("kni,knj->kij", weighted, differences)

    def frame(self, means: Float[Array, "k d"]) -> LinearFrame:
        center = jnp.mean(means, axis=0)
        away = means - center
        rows = jnp.concatenate([away[:, None, :], jnp.swapaxes(self.scale_tril, -1, -2)], axis=1)
        spread = linalg.einsum("kri,krj->ij", rows, rows) / means.shape[0]
        return LinearFrame.of(*jax.lax.stop_gradient((center, linalg.scaled_cholesky(spread))))

    @staticmethod
    def squares(coordinates: Float[Array, "d n"]) -> Float[Array, "q n"]:
        row, column = _pairs(coordinates.shape[0])
        return coordinates[row] * coordinates[column]

    def expand(self, frame: LinearFrame, means: Float[Array, "k d"]) -> Expansion:
        row, column = _pairs(means.shape[1])
        whitening = linalg.einsum("kij,jl->kil", self.inverse_factor(), frame.factor)
        white = linalg.einsum("kij,kj->ki", whitening, means)
        precision = linalg.einsum("kji,kjl->kil", whitening, whitening)
        factor = linalg.einsum("ij,kjl->kil", frame.inverse, self.scale_tril)
        size = jnp.sqrt(means**2 + jnp.sum(factor**2, axis=2))
        terms = precision * size[:, :, None] * size[:, None, :]
        return Expansion(
            constant=-jnp.sum(white**2, axis=1) / 2,
            linear=linalg.einsum("kji,kj->ki", whitening, white),
            quadratic=precision[:, row, column] * np.where(row == column, -0.5, -1).astype(precision.dtype),
            steepest=jnp.max(jnp.diagonal(precision, axis1=1, axis2=2)),
            cancellation=jnp.sqrt(jnp.sum(terms**2, axis=(1, 2))),
        )

    @staticmethod
    def second(
        frame: LinearFrame,
        means: Float[Array, "k d"],
        counts: Float[Array, " k"],
        first: Float[Array, "k d"],
        squares: Float[Array, "k q"],
        spread: Any,
    ) -> Float[Array, "k d d"]:
        row, column = _pairs(means.shape[1])
        place = np.zeros((means.shape[1],) * 2, int)
        place[row, column] = place[column, row] = np.arange(row.size)
        # About the means: S - s m^T - m s^T + N m m^T, as one symmetric pair of products.
        half = (first - counts[:, None] * means / 2)[:, :, None] * means[:, None, :]
        moments = squares[:, place] - half - jnp.swapaxes(half, 1, 2)
        return linalg.einsum("ij,kjl,ml->kim", frame.factor, moments, frame.factor)

    def maximize(
        self,
        counts: Float[Array, " k"],
        scatter: Float[Array, "k d d"],
        floor: Float[Array, " d"],
        alive: Bool[Array, " k"],
    ) -> tuple["Full", Bool[Array, " k"]]:
        factor, held = linalg.floored_cholesky(scatter / counts[:, None, None], floor, alive)
        return type(self)(jnp.where(alive[:, None, None], factor, self.scale_tril)), held & alive

    def floored(self, floor: Float[Array, " d"], alive: Bool[Array, " k"]) -> tuple["Full", Bool[Array, " k"]]:
        factor, lifted = linalg.floored_cholesky(self.dense(alive.size, floor.size), floor, alive)
        return type(self)(jnp.where(lifted[:, None, None], factor, self.scale_tril)), lifted

    def scale_trils(self, n_components: int, n_columns: int) -> Float[Array, "k d d"]:
        return self.scale_tril

    def marginal(self, columns: Columns, n_components: int, n_columns: int) -> "Full":
        return type(self)(linalg.lower_factor(self.scale_tril[:, columns]))

    def condition(
        self, given: Columns, kept: Columns, differences: Float[Array, "k g"]
    ) -> tuple[Float[Array, "k h"], "Full"]:
        rows = self.scale_tril[:, np.concatenate([given, kept])]
        own, slope, rest = factors.split(rows, given.size)
        return linalg.einsum("kij,kj->ki", slope, factors.solve(own, differences)), type(self)(rest)

    def affine(self, matrix: Float[Array, "m d"], n_components: int, n_columns: int) -> "Full":
        return type(self)(linalg.lower_factor(linalg.einsum("md,kde->kme", matrix, self.scale_tril)))

    def plus(self, other: "Full", n_components: int, n_columns: int) -> "Full":
        return type(self)(factors.combined(self.scale_tril, other.scale_tril))

    def fuse(self, other: "Full", gaps: Float[Array, "k d"]) -> tuple[Float[Array, "k d"], "Full"]:
        own, slope, rest = factors.fused(self.scale_tril, other.scale_tril)
        return linalg.einsum("kij,kj->ki", slope, factors.solve(own, gaps)), type(self)(rest)

    def relative_entropy(self, other: "Full", n_components: int, n_columns: int) -> Float[Array, " k"]:
        return factors.relative_entropy(self.scale_tril, other.scale_tril)

    def squared_bures(self, other: "Full", n_components: int, n_columns: int) -> Float[Array, " k"]:
        return factors.squared_bures(self.scale_tril, other.scale_tril)

    def unconstrain(self) -> "Full":
        return type(self)(bijectors.tril_to_free(self.scale_tril))

    def constrain(self) -> "Full":
        return type(self)(bijectors.free_to_tril(self.scale_tril))

    def information(self, weights: Float[Array, " k"], precisions: Float[Array, "k d"]) -> "Full":
        return type(self)(weights[:, None, None] * linalg.tril_information(self.scale_tril, precisions))

    @staticmethod
    def n_parameters(n_components: int, n_columns: int) -> int:
        return n_components * n_columns * (n_columns + 1) // 2


def _pairs(n_columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the upper triangle, diagonal included."""
    return np.triu_indices(n_columns)
