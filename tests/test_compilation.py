"""Compiling is behaviour: a second call with the same shapes compiles nothing, whatever else changed."""

import jax
import numpy as np
import pytest

import jaxgmm

from cases import VARIED
from compilations import counted
from tolerance import once

pytestmark = once


def data(seed):
    return np.random.default_rng(seed).normal(size=(120, 2)) + 5


def everything(seed, options, integer=False):
    """Each public entry point once, with values that all depend on the seed."""
    x = np.round(np.abs(data(seed))) if integer else data(seed)
    weights, key = np.random.default_rng(seed).uniform(1, 2, 120), jax.random.key(seed)
    positive = 1 + seed
    mixture = jaxgmm.init(key, x, 3, weights=weights, regularization=1e-6 * positive, **options)
    outputs = [
        mixture,
        jaxgmm.from_responsibilities(x, mixture.responsibilities(x), "diag", weights=weights),
        jaxgmm.from_parameters([1, positive], [[0.0, seed], [1.0, 1.0]], [1.0, positive], "spherical"),
        jaxgmm.e_step(mixture, x, weights),
        jaxgmm.m_step(mixture, jaxgmm.e_step(mixture, x, weights), jaxgmm.scale_of(x, weights), 1e-6 * positive),
        jaxgmm.log_likelihood(mixture, x, weights),
        jaxgmm.fit(mixture, x, weights, tol=1e-4 * positive, max_iter=5 + seed, regularization=1e-7 * positive),
        mixture.log_prob(x),
        mixture.predict(x),
        mixture.sample(key, 10),
        mixture.weights,
        mixture.means,
        mixture.covariances,
    ]
    jax.block_until_ready(outputs)


@pytest.mark.parametrize("case", VARIED, ids=lambda case: case.name)
def test_second_call_compiles_nothing(case):
    with counted() as first:
        everything(0, case.options, case.integer)
    with counted() as second:
        everything(1, case.options, case.integer)
    assert len(first) > 0
    assert second == []


def test_kinds_of_numbers_do_not_matter():
    x, key = data(0), jax.random.key(0)
    mixture = jaxgmm.init(key, x, 2)
    jaxgmm.fit(mixture, x, tol=1e-3, max_iter=5)
    jaxgmm.fit(mixture, x, tol=np.float32(1e-4), max_iter=np.int64(7))
    with counted() as again:
        jaxgmm.fit(mixture, x, tol=np.float32(1e-5), max_iter=np.int64(9))
        jaxgmm.fit(mixture, x, tol=0.5, max_iter=3)
    assert again == []


def test_one_compilation_for_a_fit():
    x = np.random.default_rng(0).normal(size=(137, 2))
    mixture = jaxgmm.init(jax.random.key(0), x, 2)
    mixture.log_prob(x)  # what checking the arguments needs is compiled here
    with counted() as fitting:
        jaxgmm.fit(mixture, x, tol=1e-3, max_iter=5)
    assert len(fitting) <= 3
