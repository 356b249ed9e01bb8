"""What goes in: everything that is numbers works, everything else gets one clear error."""

import contextlib

import jax
import jax.numpy as jnp
import jaxtyping
import ml_dtypes
import numpy as np
import pandas
import polars
import pytest

import jaxgmm
from jaxgmm import Status

from bad_input import BAD_INPUT, KEY, MIXTURE, X, evaluate
from tolerance import assert_close, dtype

KINDS = {
    "list": X.tolist(),
    "tuple of tuples": tuple(map(tuple, X)),
    "int64": X.astype(np.int64),
    "int8": X.astype(np.int8),
    "Fortran order": np.asfortranarray(X),
    "not contiguous": np.repeat(X, 2, axis=0)[::2],
    "reversed": X[::-1][::-1],
    "big endian": X.astype(">f8"),
    "float16": X.astype(np.float16),
    "bfloat16": X.astype(ml_dtypes.bfloat16),
    "jax bfloat16": jnp.asarray(X, jnp.bfloat16),
    "jax int32": jnp.asarray(X, jnp.int32),
    "longdouble": X.astype(np.longdouble),
    "pandas": pandas.DataFrame(X, columns=["a", "b"]),
    "pandas integers": pandas.DataFrame(X.astype(int)),
    "polars": polars.DataFrame(X, schema=["a", "b"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_of_any_kind(kind):
    given = KINDS[kind]
    mixture = jaxgmm.init(KEY, given, 2)
    given = jaxgmm.Schema.of(given).rows(given) if kind in ("pandas", "polars") else given
    result = jaxgmm.fit(mixture, given)
    expected = jaxgmm.fit(MIXTURE, X)
    np.testing.assert_allclose(result.log_likelihood, expected.log_likelihood, rtol=1e-6)
    assert_close(MIXTURE.log_prob(given), MIXTURE.log_prob(X), "exact")  # scoring integers does not round scores
    assert result.mixture.log_prob(given).dtype in (np.float32, dtype())


def test_read_only_input_is_not_written():
    x = X.copy()
    x.flags.writeable = False
    jaxgmm.fit(jaxgmm.init(KEY, x, 2), x)
    np.testing.assert_array_equal(x, X)


def test_booleans_are_zero_and_one():
    flags = X > 10
    mixture = jaxgmm.init(KEY, flags, 2, "spherical")
    assert_close(mixture.log_prob(flags), mixture.log_prob(flags.astype(float)), "exact")


@pytest.mark.parametrize(("call", "exception", "message"), BAD_INPUT, ids=[call for call, _, _ in BAD_INPUT])
def test_bad_input_gets_one_clear_error(call, exception, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # the library's own words, not the type checker's
    with pytest.raises(exception, match=f"(?s){message}"):
        evaluate(call)


@pytest.mark.parametrize("given", [1e-50, 1e39])
def test_numbers_that_float32_does_not_have_are_refused_and_not_changed(given):
    """Where JAX computes in float32; in float64 they are what they are."""
    wide = dtype() is np.float64
    calls = [lambda: jaxgmm.from_parameters(np.array([given, 1.0]), np.zeros((2, 1)), np.ones(2), "spherical")]
    if given > 1:
        calls += [
            lambda: jaxgmm.fit(MIXTURE, X, tol=given, max_iter=1),
            lambda: jaxgmm.fit(MIXTURE, X, regularization=given, max_iter=1),
        ]
    else:
        assert wide or jaxgmm.fit(MIXTURE, X, tol=given, max_iter=1).n_iter == 1
    for call in calls:
        with contextlib.nullcontext() if wide else pytest.raises(ValueError, match=r"(?i)float32"):
            call()
    jaxgmm.fit(MIXTURE, X, max_iter=1e39, tol=np.inf)


def test_fit_many_refuses_weights_and_rows_that_float32_does_not_have():
    xs = np.stack([X, X]).astype(np.float32)
    weights = np.ones((2, 60))
    for given, message in ((1e-50, "data set 1: weights holds 1e-50 at 3"), (1e39, "data set 1: weights holds 1e")):
        weights[1, 3] = given
        with pytest.raises(ValueError, match=message):
            jaxgmm.fit_many(KEY, xs, 2, weights=weights)
    if dtype() is np.float32:
        with pytest.raises(ValueError, match=r"data set 0: x holds .* float32 cannot hold"):
            jaxgmm.fit_many(KEY, [X * 1e39, X], 2)


def test_keys_of_the_old_kind_are_keys_and_so_are_traced_ones():
    old = jax.random.PRNGKey(0)
    rows = MIXTURE.sample(KEY, 3)
    np.testing.assert_array_equal(MIXTURE.sample(old, 3), rows)
    for keys in (jnp.stack([old, old]), jnp.stack([KEY, KEY])):
        assert_close(jax.vmap(lambda key: MIXTURE.sample(key, 3))(keys)[1], rows, "exact")
        assert_close(jax.jit(lambda key: MIXTURE.sample(key, 3))(keys[1]), rows, "exact")


def test_raise_if_failed():
    result = jaxgmm.fit(MIXTURE, X)
    assert result.raise_if_failed() is result
    short = jaxgmm.fit(MIXTURE, X, tol=0, max_iter=1)
    with pytest.raises(jaxgmm.FitError, match=r"MAX_ITER after 1 steps.*raise max_iter") as caught:
        short.raise_if_failed()
    assert caught.value.result is short
    spike = jaxgmm.fit(jaxgmm.init(KEY, np.repeat(X[:2], 5, axis=0), 3), np.repeat(X[:2], 5, axis=0))
    with pytest.raises(jaxgmm.FitError, match=r"DEGENERATE.*fewer components.*Components \[0, 1, 2\] of 3"):
        spike.raise_if_failed()
    with pytest.raises(TypeError, match="call it on what jit or vmap returns"):
        jax.jit(lambda x: jaxgmm.fit(MIXTURE, x).raise_if_failed().log_likelihood)(X)


def test_raise_if_failed_names_the_lanes():
    xs = jnp.stack([jnp.asarray(X), jnp.asarray(X).at[0].set(jnp.nan), jnp.asarray(X)])
    results = jax.vmap(lambda x: jaxgmm.fit(MIXTURE, x))(xs)
    with pytest.raises(jaxgmm.FitError, match=r"(?s)1 of 3 fits did not converge.*NON_FINITE in 1: \[1\]"):
        results.raise_if_failed()
    assert [Status(int(code)).name for code in results.status] == ["CONVERGED", "NON_FINITE", "CONVERGED"]
