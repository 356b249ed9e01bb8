"""Draws in proportion to weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm

WEIGHTS = np.array([0.0, 0.2, 0.0, 0.0, 0.5, 0.3, 0.0])
MEANS = np.arange(7.0)[:, None]


def test_components_come_as_often_as_their_weights_say_and_absent_ones_never():
    mixture = jaxgmm.from_parameters(WEIGHTS, MEANS, np.full(7, 1e-6), "spherical")
    n = 50_000
    x, labels = mixture.sample_with_labels(jax.random.key(0), n)
    np.testing.assert_array_equal(np.rint(x[:, 0]), labels)
    counts = np.bincount(labels, minlength=7)
    assert np.all(counts[WEIGHTS == 0] == 0)
    np.testing.assert_array_less(np.abs(counts / n - WEIGHTS), 4 * np.sqrt(WEIGHTS * (1 - WEIGHTS) / n) + 1e-9)
    np.testing.assert_array_equal(mixture.sample(jax.random.key(0), n), x)


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_not_even_at_the_ends_of_the_unit_interval(end, monkeypatch):
    """A random number may round to either when it is scaled to the sum of the weights."""
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape, dtype: jnp.full(shape, end, dtype))
    mixture = jaxgmm.from_parameters(WEIGHTS, MEANS, np.ones(7), "spherical")
    labels = mixture.sample_with_labels(jax.random.key(0), 3 + int(end))[1]
    assert np.all(labels == (5 if end else 1))


def test_rows_that_are_drawn_are_differentiable_in_means_and_covariances():
    mixture = jaxgmm.from_parameters([0.5, 0.5], [[0.0], [9.0]], [1.0, 2.0], "spherical")
    labels = mixture.sample_with_labels(jax.random.key(0), 50)[1]
    slope = jax.grad(lambda mixture: jnp.sum(mixture.sample(jax.random.key(0), 50)))(mixture)
    np.testing.assert_allclose(slope.means[:, 0], np.bincount(labels, minlength=2))
    assert np.all(slope.components.covariance.factor.scale != 0)
    assert np.all(slope.log_weights == 0)
