"""One unrestricted covariance matrix per component."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxgmm.covariance.structure import Structure
from jaxgmm.ground import bijectors, checks, linalg
from jaxgmm.ground.pytree import Leaf, record


@record
class Full(Structure):
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

    @staticmethod
    def total(scatter: Float[Array, "k d d"], n_columns: int) -> Float[Array, " d"]:
        return jnp.sum(jnp.diagonal(scatter, axis1=-2, axis2=-1), axis=0)

    def maximize(
        self,
        counts: Float[Array, " k"],
        scatter: Float[Array, "k d d"],
        shift: Float[Array, "k d"],
        floor: Float[Array, " d"],
        alive: Bool[Array, " k"],
    ) -> tuple["Full", Bool[Array, " k"]]:
        covariances = scatter / counts[:, None, None] - shift[:, :, None] * shift[:, None, :]
        factor, held = linalg.floored_cholesky(covariances, floor)
        return type(self)(jnp.where(alive[:, None, None], factor, self.scale_tril)), held & alive

    def unconstrain(self) -> "Full":
        return type(self)(bijectors.tril_to_free(self.scale_tril))

    def constrain(self) -> "Full":
        return type(self)(bijectors.free_to_tril(self.scale_tril))

    def information(self, weights: Float[Array, " k"], precisions: Float[Array, "k d"]) -> "Full":
        return type(self)(weights[:, None, None] * linalg.tril_information(self.scale_tril, precisions))

    @staticmethod
    def n_parameters(n_components: int, n_columns: int) -> int:
        return n_components * n_columns * (n_columns + 1) // 2
