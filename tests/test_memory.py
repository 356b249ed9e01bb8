"""Memory of a pass over the rows grows with the block, not with n."""

import functools

import jax
import jax.numpy as jnp
import pytest

import jaxgmm
from jaxgmm.ground.rows import block_size_for

from tolerance import once

pytestmark = once
K, D = 16, 8


def scratch_bytes(function, n):
    """Bytes the compiled program needs beyond its arguments and results."""
    mixture = jaxgmm.from_parameters(jnp.ones(K), jnp.ones((K, D)), jnp.ones((K, D)), "diag")
    x = jax.ShapeDtypeStruct((n, D), jnp.zeros(()).dtype)
    return jax.jit(function).lower(mixture, x).compile().memory_analysis().temp_size_in_bytes


def total(mixture, x):
    return jaxgmm.log_likelihood(mixture, x, block_size=512)


@pytest.mark.parametrize(
    ("function", "columns"),
    [
        # numbers of scratch allowed per row of data: a gradient reads the rows again, a fit keeps its weights
        (functools.partial(jaxgmm.e_step, block_size=512), 2),
        (total, 2),
        (jax.grad(total), 2),
        (lambda mixture, x: jaxgmm.fit(mixture, x, block_size=512).log_likelihood, 3 + D),
        (lambda mixture, x: mixture.log_prob(x), 2),
    ],
    ids=["e_step", "log_likelihood", "gradient", "fit", "log_prob"],
)
def test_scratch_memory_does_not_grow_with_components(function, columns):
    small, large = 512 * 64, 512 * 256
    grown = scratch_bytes(function, large) - scratch_bytes(function, small)
    per_row = grown / (large - small) / jnp.zeros(()).dtype.itemsize
    assert per_row <= columns + D
    assert per_row < K * D / 4


@pytest.mark.parametrize("numbers", [4, 128, 2048, 2**17])
@pytest.mark.parametrize("n", [200_000, 1_000_000, 12_345_678])
def test_an_accelerator_takes_more_rows_at_a_time(n, numbers, monkeypatch):
    """It starts every operation of a block anew; but what a pass takes stays bounded, and little of it is padding."""
    on_cpu = block_size_for(n, numbers)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    size = block_size_for(n, numbers)
    assert 8 * on_cpu <= size <= 2**18
    assert size * numbers <= max(2**25, 2**12 * numbers)
    assert -n % size <= n // 64


def test_precision_of_the_sum_does_not_depend_on_the_blocks():
    """A float32 total over 10,000 blocks, against the same numbers added in float64."""
    x = jax.random.normal(jax.random.key(0), (80_000, 1), jnp.float32) + 3
    mixture = jaxgmm.from_parameters([1.0], [[3.0]], [1.0], "spherical")
    exact = float(jnp.sum(jnp.asarray(mixture.log_prob(x), jnp.float32).astype(float)))
    assert float(jaxgmm.log_likelihood(mixture, x, block_size=8)) == pytest.approx(exact, rel=3e-7)


def test_drawing_does_not_spread_rows_to_components():
    k, n = 1000, 20_000
    mixture = jaxgmm.from_parameters(jnp.ones(k), jnp.zeros((k, 1)), jnp.ones(k), "spherical")
    draw = jax.jit(lambda mixture, key: mixture.sample_with_labels(key, n))
    temporary = draw.lower(mixture, jax.random.key(0)).compile().memory_analysis().temp_size_in_bytes
    assert temporary < 100 * n
