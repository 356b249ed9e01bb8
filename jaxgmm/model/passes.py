"""What passes over rows are made of: which kernel, how many rows at a time, and the programs of a mixture's verbs."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxgmm.families.family import Family, Kernel
from jaxgmm.ground import draws, linalg
from jaxgmm.ground.programs import program
from jaxgmm.ground.rows import Evidence, block_size_for, map_rows

if TYPE_CHECKING:
    from jaxgmm.model.mixture import Mixture

T = TypeVar("T")

# Rows times columns times components, up to which components are their own kernel.
_FEW = 2**12
# Rows that are each solved for on their own are passed through once for every column, and are to stay in a cache that
# is smaller by so much; and so many of them in a block at least.
_SPREADS, _FEWEST = 32, 2**5


def posterior(
    log_weights: Float[Array, " k"], log_prob: Float[Array, "n k"], rows: Evidence, *, weighted: bool = False
) -> tuple[Float[Array, " n"], Float[Array, "n k"]]:
    """Log-density and responsibilities from the components' log-densities; never NaN for finite or -inf input.

    A row of a component that is known counts log w_k + log p_k. If `weighted`, the responsibilities are multiplied by
    the weights of the rows.
    """
    # Components first, so that rows lie along memory: kernels work that way, and their transpose and this one cancel.
    log_weights = log_weights[:, None]
    joint, otherwise = log_weights + log_prob.T, log_weights
    if rows.log_evidence is not None:
        beside = rows.log_evidence.T
        most = jax.lax.stop_gradient(jnp.max(beside, axis=0))
        joint, otherwise = joint + beside, otherwise + beside - jnp.where(most > -jnp.inf, most, 0)
    possible = rows.possible(log_weights.size)
    if possible is not None:
        joint, otherwise = (jnp.where(possible, part, -jnp.inf) for part in (joint, otherwise))
        # The one component that a row may be of may be absent, and still is its answer.
        otherwise = jnp.where(possible & jnp.all(otherwise == -jnp.inf, axis=0), 0, otherwise)
        # Where a label is of none, the weights answer.
        otherwise = jnp.where(jnp.any(possible, axis=0), otherwise, log_weights)
    top = jax.lax.stop_gradient(jnp.max(joint, axis=0))
    impossible = top == -jnp.inf
    joint = jnp.where(impossible, otherwise, joint)
    # Where nothing is possible the weights answer; none of them exceeds 1, so nothing needs taking off.
    top = jnp.where(impossible, 0, top)
    # Normalised by their own sum: far away, top + log(sum) rounds to steps larger than the log of a ratio.
    mass = jnp.exp(joint - top)
    total = jnp.sum(mass, axis=0)
    value = top + jnp.log(total)
    underflow = impossible | (value < -linalg.saturation(value.dtype))
    share = rows.weights / total if weighted else 1 / total
    return jnp.where(underflow, -jnp.inf, value), (mass * share).T


def block_size_of(mixture: "Mixture", rows: Evidence) -> int:
    """Rows in a block for a pass of this mixture over these: a kernel spreads a row to about k d numbers, or k d^2."""
    spreads = mixture.n_components * mixture.n_columns
    if rows.partial:
        return block_size_for(rows.n_here, _SPREADS * spreads * mixture.n_columns, fewest=_FEWEST)
    return block_size_for(rows.n_here, spreads)


def draw_labels(key: jax.Array, mixture: "Mixture", n: int) -> Int[Array, " n"]:
    """Components drawn in proportion to their weights; which ones has no derivative."""
    return draws.places(key, jax.nn.softmax(jax.lax.stop_gradient(mixture.log_weights)), n)


def few_rows(n_components: int, shape: tuple[int, ...]) -> bool:
    """Whether what makes components ready for many rows, (n, d), costs more than it saves on these."""
    n, d = shape
    return n <= d or n * d * n_components <= _FEW


def with_kernel(
    components: Family,
    n_components: int,
    rows: Evidence,
    use: Callable[[Kernel, Evidence], T],
    *,
    own: bool | None = None,
) -> T:
    """`use(kernel, rows)` of the kernel that suits a pass over these rows, which may come back with more in them.

    Whole rows are taken by the components' `own` kernel, by default where they are few.
    """
    if rows.partial:
        return components.with_kernel_of_parts(rows, use)
    if few_rows(n_components, (rows.n, rows.x.shape[-1])) if own is None else own:
        return use(components, rows)
    return components.with_kernel(lambda kernel: use(kernel, rows))


def of_passes(number: int) -> Callable[..., float]:
    """The work of so many passes of a mixture over rows, for programs that take both first."""
    return lambda mixture, rows, *others, **options: number * mixture.n_components * rows.numbers


@program(work=of_passes(1))
def log_prob_of(mixture: "Mixture", rows: Evidence) -> Float[Array, " n"]:
    """`Mixture.log_prob` of checked rows."""
    return _map_posterior(mixture, rows, lambda log_prob, responsibilities: log_prob)


@program(work=of_passes(1))
def responsibilities_of(mixture: "Mixture", rows: Evidence) -> Float[Array, "n k"]:
    """`Mixture.responsibilities` of checked rows."""
    return _map_posterior(mixture, rows, lambda log_prob, responsibilities: responsibilities)


@program(work=of_passes(1))
def predict_of(mixture: "Mixture", rows: Evidence) -> Int[Array, " n"]:
    """`Mixture.predict` of checked rows."""
    return _map_posterior(mixture, rows, lambda log_prob, responsibilities: jnp.argmax(responsibilities, axis=1))


@program(work=of_passes(1))
def entropy_of(mixture: "Mixture", rows: Evidence) -> Float[Array, " n"]:
    """`Mixture.entropy` of checked rows."""

    def of(log_prob: Array, responsibilities: Array) -> Array:
        # The logarithm of 0 must not be taken even where it is not used: its derivative is not finite.
        logarithm = jnp.log(jnp.where(responsibilities > 0, responsibilities, 1))
        return -jnp.sum(responsibilities * logarithm, axis=1)

    return _map_posterior(mixture, rows, of)


def _map_posterior(mixture: "Mixture", rows: Evidence, pick: Callable[[Array, Array], Array]) -> Array:
    def block(given: tuple[Array, Kernel], rows: Evidence) -> Array:
        log_weights, kernel = given
        return pick(*posterior(log_weights, kernel.log_prob(kernel.read(rows)), rows))

    def of(kernel: Kernel, rows: Evidence) -> Array:
        given = mixture.log_weights, kernel
        return map_rows(block, given, rows, block_size_of(mixture, rows), rows.shards)

    def of_blocks(kernel: Kernel, blocks: Evidence) -> Array:
        return jax.lax.map(jax.checkpoint(functools.partial(block, (mixture.log_weights, kernel))), blocks)

    if rows.patterns is None:
        return with_kernel(mixture.components, mixture.n_components, rows, of)
    blocks = with_kernel(mixture.components, mixture.n_components, rows.in_blocks(rows.n), of_blocks)
    return rows.patterns.put_back(blocks, rows.n)


@program(static=("n",))
def sample_of(mixture: "Mixture", key: jax.Array, n: int) -> tuple[Float[Array, "n d"], Int[Array, " n"]]:
    """`Mixture.sample_with_labels`, checked."""
    for_labels, for_rows = jax.random.split(key)
    labels = draw_labels(for_labels, mixture, n)
    return mixture.components.sample(for_rows, labels), labels
