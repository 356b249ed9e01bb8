"""One unrestricted covariance matrix shared by all components."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxgmm.covariance.expansion import Expandable, Expansion, LinearFrame
from jaxgmm.ground import bijectors, checks, factors, linalg
from jaxgmm.ground.pytree import Columns, Leaf, Places, record


@record
class Tied(Expandable):
    """One unrestricted covariance matrix shared by all components: Sigma = L L^T.

    Fields: `scale_tril` (d, d), the lower Cholesky factor in the units of the data.
    """

    scale_tril: Leaf

    @classmethod
    def from_covariances(cls, covariances: Float[Array, "d d"]) -> "Tied":
        return cls(jnp.linalg.cholesky(checks.symmetric("covariances", covariances)))

    @classmethod
    def isotropic(cls, scale: Float[Array, " d"], n_components: int) -> "Tied":
        return cls(jnp.diag(scale))

    @staticmethod
    def covariances_shape(n_components: int, n_columns: int) -> tuple[int, ...]:
        return (n_columns, n_columns)

    def dense(self, n_components: int, n_columns: int) -> Float[Array, "k d d"]:
        covariance = linalg.einsum("ij,lj->il", self.scale_tril, self.scale_tril)
        return jnp.broadcast_to(covariance, (n_components, n_columns, n_columns))

    def inverse_factor(self) -> Float[Array, "d d"]:
        return linalg.tril_inverse(self.scale_tril)

    @staticmethod
    def whiten(inverse_factor: Float[Array, "d d"], differences: Float[Array, "k n d"]) -> Float[Array, "k n d"]:
        return linalg.einsum("kni,ji->knj", differences, inverse_factor)

    def half_log_det(self, n_columns: int) -> Float[Array, ""]:
        return linalg.half_log_det(self.scale_tril)

    def color(self, noise: Float[Array, "n d"], labels: Array) -> Float[Array, "n d"]:
        return linalg.einsum("ij,nj->ni", self.scale_tril, noise)

    @staticmethod
    def scatter(differences: Float[Array, "k n d"], responsibilities: Float[Array, "n k"]) -> Float[Array, "d d"]:
        weighted = differences * responsibilities.T[:, :, None]
        return linalg.einsum("kni,knj->ij", weighted, differences)

    def frame(self, means: Float[Array, "k d"]) -> LinearFrame:
        return LinearFrame.of(jax.lax.stop_gradient(jnp.mean(means, axis=0)), self.scale_tril)

    @staticmethod
    def squares(coordinates: Float[Array, "d n"]) -> Float[Array, "1 n"]:
        return jnp.sum(coordinates**2, axis=0, keepdims=True)

    def expand(self, frame: LinearFrame, means: Float[Array, "k d"]) -> Expansion:
        # The frame is the covariance itself, so distances in it are Euclidean.
        return Expansion(
            constant=-jnp.sum(means**2, axis=1) / 2,
            linear=means,
            quadratic=jnp.full((means.shape[0], 1), -0.5, means.dtype),
            steepest=jnp.ones((), means.dtype),
            cancellation=jnp.sqrt(jnp.sum((means**2 + 1) ** 2, axis=1)),
        )

    @staticmethod
    def spread(coordinates: Float[Array, "d n"], weights: Float[Array, " n"]) -> Float[Array, "d d"]:
        return linalg.einsum("in,jn->ij", coordinates * weights, coordinates)

    @staticmethod
    def second(
        frame: LinearFrame,
        means: Float[Array, "k d"],
        counts: Float[Array, " k"],
        first: Float[Array, "k d"],
        squares: Float[Array, "k 1"],
        spread: Float[Array, "d d"],
    ) -> Float[Array, "d d"]:
        half = linalg.einsum("ki,kj->ij", first - counts[:, None] * means / 2, means)
        return linalg.einsum("ij,jl,ml->im", frame.factor, spread - half - half.T, frame.factor)

    def maximize(
        self,
        counts: Float[Array, " k"],
        scatter: Float[Array, "d d"],
        floor: Float[Array, " d"],
        alive: Bool[Array, " k"],
    ) -> tuple["Tied", Bool[Array, " k"]]:
        # The components' total weight, not n: rows may carry weights, and may belong to none of these components.
        weight = jnp.where(jnp.any(alive), jnp.sum(jnp.where(alive, counts, 0)), 1)
        factor, held = linalg.floored_cholesky(scatter / weight, floor, jnp.any(alive))
        return type(self)(jnp.where(jnp.any(alive), factor, self.scale_tril)), held & alive

    def floored(self, floor: Float[Array, " d"], alive: Bool[Array, " k"]) -> tuple["Tied", Bool[Array, " k"]]:
        factor, lifted = linalg.floored_cholesky(self.dense(1, floor.size)[0], floor, jnp.any(alive))
        return type(self)(jnp.where(lifted, factor, self.scale_tril)), lifted & alive

    def scale_trils(self, n_components: int, n_columns: int) -> Float[Array, "k d d"]:
        return jnp.broadcast_to(self.scale_tril, (n_components, n_columns, n_columns))

    def marginal(self, columns: Columns, n_components: int, n_columns: int) -> "Tied":
        return type(self)(linalg.lower_factor(self.scale_tril[columns]))

    def condition(
        self, given: Columns, kept: Columns, differences: Float[Array, "k g"]
    ) -> tuple[Float[Array, "k h"], "Tied"]:
        own, slope, rest = factors.split(self.scale_tril[np.concatenate([given, kept])], given.size)
        return _regressed(own, slope, differences), type(self)(rest)

    def affine(self, matrix: Float[Array, "m d"], n_components: int, n_columns: int) -> "Tied":
        return type(self)(linalg.lower_factor(linalg.einsum("md,de->me", matrix, self.scale_tril)))

    def plus(self, other: "Tied", n_components: int, n_columns: int) -> "Tied":
        return type(self)(factors.combined(self.scale_tril, other.scale_tril))

    def fuse(self, other: "Tied", gaps: Float[Array, "k d"]) -> tuple[Float[Array, "k d"], "Tied"]:
        own, slope, rest = factors.fused(self.scale_tril, other.scale_tril)
        return _regressed(own, slope, gaps), type(self)(rest)

    def relative_entropy(self, other: "Tied", n_components: int, n_columns: int) -> Float[Array, ""]:
        return factors.relative_entropy(self.scale_tril, other.scale_tril)

    def squared_bures(self, other: "Tied", n_components: int, n_columns: int) -> Float[Array, ""]:
        return factors.squared_bures(self.scale_tril, other.scale_tril)

    def unconstrain(self) -> "Tied":
        return type(self)(bijectors.tril_to_free(self.scale_tril))

    def constrain(self) -> "Tied":
        return type(self)(bijectors.free_to_tril(self.scale_tril))

    def information(self, weights: Float[Array, " k"], precisions: Float[Array, "k d"]) -> "Tied":
        # every row tells the one matrix, whichever component it belongs to
        return type(self)(jnp.sum(weights) * linalg.tril_information(self.scale_tril, precisions[0]))

    def take(self, places: Places) -> "Tied":
        return self

    @staticmethod
    def n_parameters(n_components: int, n_columns: int) -> int:
        return n_columns * (n_columns + 1) // 2


def _regressed(
    own: Float[Array, "g g"], slope: Float[Array, "h g"], differences: Float[Array, "k g"]
) -> Float[Array, "k h"]:
    white = linalg.einsum("ij,kj->ki", linalg.tril_inverse(own), differences)
    return linalg.einsum("hg,kg->kh", slope, white)
