"""The numpyro distribution itself, in a module of its own: its base class is there only where numpyro is."""

import copy
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool
from numpyro.distributions import Distribution, constraints
from numpyro.distributions.batch_util import promote_batch_shape
from numpyro.distributions.util import validate_sample

from jaxgmm.ground import checks, pytree
from jaxgmm.ground.programs import program
from jaxgmm.model.mixture import Mixture, check_stack

_SUPPORTS = {
    "real": constraints.real_vector,
    "nonnegative": constraints.independent(constraints.nonnegative, 1),
    "counts": constraints.independent(constraints.nonnegative_integer, 1),
    "codes": constraints.independent(constraints.nonnegative_integer, 1),
    "positive": constraints.independent(constraints.positive, 1),
    "unit": constraints.independent(constraints.unit_interval, 1),
    "binary": constraints.independent(constraints.boolean, 1),
    # Which numbers is another matter in each column.
    "several": constraints.real_vector,
}


class _Valid(constraints.Constraint):
    """Mixtures without NaN whose weights sum to one."""

    def __call__(self, x: Any) -> Bool[Array, ""]:
        return _is_valid(x)

    def tree_flatten(self) -> Any:
        return (), ((), {})


class MixtureDistribution(Distribution):
    """A mixture, or a stack of mixtures, as a numpyro distribution over rows; made by `jaxgmm.to_numpyro`."""

    arg_constraints = {"mixture": _Valid()}  # noqa: RUF012, as numpyro has it
    pytree_data_fields = ("mixture",)

    def __init__(self, mixture: Mixture, *, validate_args: bool | None = None) -> None:
        batch_shape = check_stack(mixture)
        self.mixture = mixture
        super().__init__(batch_shape=batch_shape, event_shape=(mixture.n_columns,), validate_args=validate_args)

    @constraints.dependent_property(event_dim=1)
    def support(self) -> Any:
        """The values that components of this family can take."""
        return _SUPPORTS[self.mixture.components.support]

    @validate_sample
    def log_prob(self, value: Any, intermediates: Any = None) -> Array:
        """Log-density of rows (..., d), which broadcast against the batch shape."""
        return _log_prob(self.mixture, jnp.asarray(value))

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Array:
        """Independent rows (*sample_shape, *batch_shape, d), without gradient to the parameters."""
        return _sample(self.mixture, checks.key(key), sample_shape=tuple(sample_shape))

    @property
    def mean(self) -> Array:
        """Expectation of each column, sum_k w_k m_k."""
        return _moments(self.mixture)[0]

    @property
    def variance(self) -> Array:
        """Variance of each column, sum_k w_k (s_k^2 + (m_k - m)^2)."""
        return _moments(self.mixture)[1]

    def validate_args(self, strict: bool = True) -> None:
        """Raise `ValueError` for parameters that are seen not to be valid."""
        try:
            super().validate_args(strict)
        except ValueError as error:
            raise ValueError(
                f"{error} It holds NaN or infinite parameters, or weights that do not sum to one: make it with "
                "from_parameters."
            ) from None


@promote_batch_shape.register
def _(distribution: MixtureDistribution) -> MixtureDistribution:
    """What came out of `vmap` or numpyro's `scan`, where leaves gained axes that the batch shape does not know of."""
    promoted = copy.copy(distribution)
    promoted._batch_shape = _batch_shape(distribution.mixture)
    return promoted


def _batch_shape(mixture: Mixture) -> tuple[int, ...]:
    # The leaves' own, because they may have gained axes since the distribution was made.
    return mixture.log_weights.shape[:-1]


def _flat(mixture: Mixture) -> Mixture:
    """A stack with all its leading axes in one."""
    n_axes = len(_batch_shape(mixture))
    return jax.tree.map(lambda leaf: leaf.reshape((-1, *leaf.shape[n_axes:])), mixture)


@program
def _is_valid(mixture: Mixture) -> Bool[Array, ""]:
    total = jax.nn.logsumexp(mixture.log_weights, axis=-1)
    return pytree.without_nan(mixture) & jnp.all(jnp.abs(total) < jnp.sqrt(jnp.finfo(total.dtype).eps))


@program
def _log_prob(mixture: Mixture, value: Array) -> Array:
    # Inside jit, a row that numpyro would call out of support is no error of ours.
    batch_shape = _batch_shape(mixture)
    if not batch_shape:
        return mixture.log_prob(value.reshape((-1, *value.shape[-1:]))).reshape(value.shape[:-1])
    shape = jnp.broadcast_shapes(value.shape[:-1], batch_shape)
    rows = jnp.broadcast_to(value, shape + value.shape[-1:]).reshape((-1, math.prod(batch_shape), *value.shape[-1:]))
    return jax.vmap(Mixture.log_prob, in_axes=(0, 1), out_axes=1)(_flat(mixture), rows).reshape(shape)


@program(static=("sample_shape",))
def _sample(mixture: Mixture, key: Any, *, sample_shape: tuple[int, ...]) -> Array:
    mixture = jax.lax.stop_gradient(mixture)
    batch_shape, n = _batch_shape(mixture), math.prod(sample_shape)
    if not batch_shape:
        rows = mixture.sample(key, n)
    else:
        keys = jax.random.split(key, math.prod(batch_shape))
        rows = jax.vmap(lambda mixture, key: mixture.sample(key, n), out_axes=1)(_flat(mixture), keys)
    return rows.reshape((*sample_shape, *batch_shape, rows.shape[-1]))


@program
def _moments(mixture: Mixture) -> tuple[Array, Array]:
    def of(mixture: Mixture) -> tuple[Array, Array]:
        return mixture.mean, jnp.diagonal(mixture.covariance)

    batch_shape = _batch_shape(mixture)
    moments = jax.vmap(of)(_flat(mixture)) if batch_shape else of(mixture)
    return jax.tree.map(lambda moment: moment.reshape((*batch_shape, moment.shape[-1])), moments)
