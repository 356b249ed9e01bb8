"""The expanded and the centred kernel agree wherever the bound lets the expanded one run."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxgmm
from jaxgmm.families.gaussian import log_normalizer
from jaxgmm.families.kernels import CentredKernel, ExpandedKernel
from jaxgmm.ground.rows import Evidence
from jaxgmm.model.passes import posterior

from compilations import equations
from tolerance import assert_close, dtype

STRUCTURES = ("full", "tied", "diag", "tied-diag", "spherical", "tied-spherical")
K, D, N = 4, 3, 500


def mixture_of(structure, width=1.0, offset=0.0, scales=(1.0, 1.0, 1.0), correlation=0.3):
    """Components about `width` wide whose means have spread 1."""
    generator = np.random.default_rng(0)
    means = generator.normal(size=(K, D)) * scales + offset
    full = width**2 * generator.uniform(0.5, 2, (K, 1, 1)) * (np.eye(D) * (1 - correlation) + correlation)
    full = full * np.outer(scales, scales)
    covariances = {
        "full": full,
        "tied": full.mean(0),
        "diag": np.einsum("kii->ki", full),
        "tied-diag": np.einsum("kii->i", full) / K,
        "spherical": np.einsum("kii->k", full) / D,
        "tied-spherical": np.einsum("kii->", full) / (K * D),
    }
    weights = generator.dirichlet(np.ones(K))
    cast = (array.astype(dtype()) for array in (weights, means, covariances[structure]))
    return jaxgmm.from_parameters(*cast, structure)


@functools.partial(jax.jit, static_argnames="kind")
def passed(kind, mixture, x):
    """Log-densities, counts and moments by one kernel."""
    components = mixture.components
    means, covariance = components.means, components.covariance
    expanded = (covariance.expanded(means),) if kind is ExpandedKernel else ()
    kernel = kind.of(means, covariance, log_normalizer(means, covariance), *expanded)
    rows = kernel.read(Evidence(x, None))
    log_prob, responsibilities = posterior(mixture.log_weights, kernel.log_prob(rows), Evidence(x, None))
    counts = jnp.sum(responsibilities, axis=0)
    moments = kernel.finish(counts, kernel.statistics(rows, responsibilities))
    return log_prob, counts, moments


@jax.jit
def covariances_of(covariance, counts, second):
    floor = jnp.zeros(D, counts.dtype)
    return covariance.maximize(counts, second, floor, jnp.ones(K, bool))[0].factor.dense()


@jax.jit
def needs_centring(mixture):
    return mixture.components.needs_centring()


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize(
    "options",
    [{}, {"offset": 1e3}, {"scales": (1e-4, 1.0, 1e4)}, {"correlation": 0.99}, {"width": 0.2}],
    ids=["plain", "offset", "scales", "correlated", "narrow"],
)
def test_kernels_agree(structure, options):
    if "spherical" in structure and "scales" in options:
        pytest.skip("one variance for all columns has no meaning across units")
    mixture = mixture_of(structure, **options)
    assert not needs_centring(mixture)
    x = mixture.sample(jax.random.key(1), N)
    expanded, centred = (passed(kind, mixture, x) for kind in (ExpandedKernel, CentredKernel))
    np.testing.assert_allclose(expanded[0], centred[0], atol=3e-4 if dtype() is np.float32 else 1e-9)
    assert_close(expanded[1], centred[1], "close")
    # moments in units of each column's own spread, as a fit uses them
    unit = np.std(x, axis=0)
    first = [np.asarray(one[2].first) / unit / N for one in (expanded, centred)]
    assert_close(*first, "close")
    a, b = (
        np.asarray(covariances_of(mixture.components.covariance, one[1], one[2].second)) for one in (expanded, centred)
    )
    assert_close(a / np.outer(unit, unit), b / np.outer(unit, unit), "close")


@pytest.mark.parametrize("structure", STRUCTURES)
def test_tight_components_are_centred(structure):
    """Where the terms of the expansion would exceed their sum by more than the dtype can spare."""
    tight = 1e-2 if dtype() is np.float32 else 1e-5
    assert needs_centring(mixture_of(structure, width=tight))
    # however far from the origin all of them are, only their distance from each other counts
    assert not needs_centring(mixture_of(structure, width=0.5, offset=1e4))


@pytest.mark.parametrize("structure", STRUCTURES)
def test_derivatives_agree(structure):
    mixture = mixture_of(structure)
    x = mixture.sample(jax.random.key(2), N)[:60]

    def total(kind, free, x):
        return jnp.sum(passed(kind, free.constrain(), x)[0])

    ours, exact = (
        ravel_pytree(jax.jit(jax.grad(functools.partial(total, kind), argnums=(0, 1)))(mixture.unconstrain(), x))[0]
        for kind in (ExpandedKernel, CentredKernel)
    )
    assert_close(ours, exact, "close", scale=10.0)


def test_the_choice_stays_a_branch_under_vmap():
    """A select would run both kernels for every lane."""
    x = jnp.zeros((50, D), dtype())
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), mixture_of("full"), mixture_of("full", width=1e-6))
    lanes = jax.vmap(
        lambda mixture: mixture.components.with_kernel(lambda kernel: kernel.log_prob(kernel.read(Evidence(x, None))))
    )
    program = jax.make_jaxpr(lanes)(stacked).jaxpr
    assert "cond" in {equation.primitive.name for equation in equations(program)}
    together = lanes(stacked)
    means, covariance = jax.tree.map(lambda a: a[0], (stacked.components.means, stacked.components.covariance))
    centred = CentredKernel.of(means, covariance, log_normalizer(means, covariance))
    # the second lane needs centring, so both get it
    assert_close(together[0], centred.log_prob(x), "exact")


def test_a_lane_of_nan_leaves_the_choice_to_the_others():
    nothing = jax.tree.map(lambda leaf: leaf * jnp.nan, mixture_of("full"))
    assert not needs_centring(nothing)
