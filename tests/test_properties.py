"""Laws on data that hypothesis makes up: shapes, scales, offsets, weights, duplicates, structures."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jaxgmm
from jaxgmm import Status

from tolerance import dtype

STRUCTURES = ["full", "tied", "diag", "spherical"]
SHAPES = [(1, 1), (2, 3), (40, 2)]  # few, since each shape compiles
quick = settings(max_examples=10, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def datasets(draw):
    """Rows, weights, k and a structure; rows may be duplicated, columns constant, offsets large."""
    n, d = draw(st.sampled_from(SHAPES))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    limit = 6 if dtype() is np.float32 else 12
    scale = 10.0 ** generator.uniform(-limit, limit, d)
    x = generator.normal(size=(n, d)) * scale
    x += draw(st.sampled_from([0.0, 1.0, 1e3])) * scale * generator.normal(size=d)
    if draw(st.booleans()):
        x = x[generator.integers(0, n, n)]
    if draw(st.booleans()):
        x[:, 0] = draw(st.sampled_from([0.0, 3.0])) * scale[0]
    weights = draw(st.sampled_from(["ones", "integers", "any"]))
    weights = {
        "ones": np.ones(n),
        "integers": generator.integers(0, 3, n).astype(float),
        "any": generator.exponential(size=n) * 10.0 ** generator.uniform(-6, 6),
    }[weights]
    if not weights.any():
        weights[0] = 1
    return x.astype(dtype()), weights.astype(dtype()), draw(st.sampled_from([1, 3])), draw(st.sampled_from(STRUCTURES))


@quick
@given(datasets(), st.sampled_from(["k-means++", "random"]))
def test_a_fit_is_sound_on_anything(dataset, method):
    x, weights, k, structure = dataset
    start = jaxgmm.init(jax.random.key(0), x, k, structure, method=method, weights=weights)
    result = jaxgmm.fit(start, x, weights, max_iter=50)
    status = Status(int(result.status))
    assert status in {Status.CONVERGED, Status.MAX_ITER, Status.DEGENERATE}
    assert all(not np.any(np.isnan(leaf)) for leaf in jax.tree.leaves(result.mixture))
    assert np.isfinite(result.log_likelihood)
    history = np.asarray(result.history)[1 : int(result.n_iter) + 1]
    assert np.all(np.diff(history) >= 0)
    assert abs(float(jnp.sum(result.mixture.weights)) - 1) < 1e-5
    assert bool(jnp.any(result.degenerate_components)) == (status == Status.DEGENERATE)


@quick
@given(datasets(), st.integers(-4, 4))
def test_units_do_not_matter(dataset, exponent):
    """A power of two scales numbers without rounding, so even the rounding must be the same."""
    x, weights, k, structure = dataset
    unit = dtype()(2.0) ** dtype()(exponent)
    results = []
    for rows in (x, x * unit):
        start = jaxgmm.init(jax.random.key(0), rows, k, structure, weights=weights)
        results.append(jaxgmm.fit(start, rows, weights, max_iter=10))
    a, b = results
    if np.all(np.ptp(x, axis=0) > 0):  # a column of zeros has no unit
        np.testing.assert_allclose(
            a.mixture.means * unit, b.mixture.means, rtol=1e-4, atol=1e-3 * np.abs(x).max() * unit
        )
        np.testing.assert_array_equal(a.mixture.predict(x), b.mixture.predict(x * unit))


@quick
@given(datasets())
def test_scores_are_never_nan(dataset):
    x, weights, k, structure = dataset
    mixture = jaxgmm.init(jax.random.key(0), x, k, structure, weights=weights)
    far = x * dtype()(1e8)
    for rows in (x, far):
        assert not np.any(np.isnan(mixture.log_prob(rows)))
        np.testing.assert_allclose(np.sum(mixture.responsibilities(rows), axis=1), 1, rtol=1e-5)
        gradient = jax.grad(lambda rows, m=mixture: jnp.sum(m.log_prob(rows)))(jnp.asarray(rows))
        assert not np.any(np.isnan(gradient))
