"""Calls with bad input, and the error each must give: exception and a pattern its message starts with."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxgmm

KEY = jax.random.key(0)
X = np.round(np.random.default_rng(0).normal(size=(60, 2)) * 8) + 20 * (np.arange(60) % 2)[:, None]
MIXTURE = jaxgmm.init(KEY, X, 2)


def with_hole(value: float) -> np.ndarray:
    """X with `value` in rows 3 and 11."""
    x = X.copy()
    x[[3, 11]] = value
    return x


def evaluate(call: str) -> Any:
    """What `call` returns, or raises."""
    names = {"jax": jax, "jnp": jnp, "np": np, "optax": optax, "jaxgmm": jaxgmm, "key": KEY, "x": X, "mixture": MIXTURE}
    return eval(call, names | {"with_hole": with_hole})


BAD_INPUT: list[tuple[str, type[Exception], str]] = [
    ("jaxgmm.init(key, [['a', 'b']], 1)", TypeError, "x has dtype <U1; expected real numbers"),
    ("mixture.predict(x.astype(object))", TypeError, "x has dtype object; expected real numbers"),
    ("jaxgmm.fit(mixture, x + 1j)", TypeError, "x has dtype complex128"),
    ("jaxgmm.fit(mixture, [[1.0], [1.0, 2.0]])", TypeError, "x cannot be read as an array"),
    ("jaxgmm.fit(mixture, x[:, 0])", ValueError, r"x has shape \(60,\); expected two axes.*x\[:, None\]"),
    ("mixture.log_prob(x[None])", ValueError, r"x has shape \(1, 60, 2\); expected two axes.*x\.reshape\(-1, 2\)"),
    ("mixture.log_prob(x[:0])", ValueError, r"x has shape \(0, 2\); expected at least one row"),
    ("jaxgmm.init(key, x[:, :0], 2)", ValueError, r"x has shape \(60, 0\); expected at least"),
    ("jaxgmm.fit(mixture, x[:, :1])", ValueError, "x has 1 columns; the mixture was made for 2"),
    (
        "jaxgmm.fit(mixture, with_hole(np.nan))",
        ValueError,
        r"x is NaN or infinite in 2 of 60 rows: 3, 11\. Row 3 holds \[nan, nan\]\. Remove",
    ),
    ("jaxgmm.init(key, with_hole(np.inf), 2)", ValueError, "x is NaN or infinite in 2 of 60 rows: 3, 11"),
    ("mixture.log_prob(with_hole(np.nan))", ValueError, "x is NaN or infinite"),
    ("jaxgmm.init(key, x, 0)", ValueError, "n_components is 0; expected at least 1"),
    ("jaxgmm.init(key, x, 2.0)", TypeError, r"n_components is 2\.0; expected a whole number of type int"),
    ("jaxgmm.init(key, x, True)", TypeError, "n_components is True; expected a whole number"),
    ("jax.jit(lambda k: jaxgmm.init(key, x, k))(2)", TypeError, "n_components is traced by jit"),
    (
        "jaxgmm.init(key, x, 2, 'diagonal')",
        ValueError,
        "form is 'diagonal'; expected one of 'full', 'tied', 'diag', 'tied-diag', 'spherical', 'tied-spherical'",
    ),
    (
        "jaxgmm.init(key, x, 2, method='kmeans++')",
        ValueError,
        r"method is 'kmeans\+\+'; expected one of 'kmeans', 'kmeans_whitened'",
    ),
    (
        "jaxgmm.fit(mixture, x, np.ones(3))",
        ValueError,
        r"weights has shape \(3,\); expected one weight per row of x, \(60,\)",
    ),
    (
        "jaxgmm.fit(mixture, x, -np.ones(60))",
        ValueError,
        "weights is negative or not finite in 60 of 60 rows: 0, 1, 2, 3, 4, …",
    ),
    ("jaxgmm.e_step(mixture, x, with_hole(np.nan)[:, 0])", ValueError, "weights is negative or not finite"),
    ("jaxgmm.init(key, x, 2, weights=np.zeros(60))", ValueError, "weights are all zero"),
    (
        "jaxgmm.fit(mixture, x.astype('f4'), np.geomspace(1e-50, 1.0, 60))",
        ValueError,
        r"weights holds 1e-50 at 0, which float32 has no number for, and 14 more like it\. Divide all of them",
    ),
    ("jaxgmm.fit(mixture, x.astype('f4'), np.full(60, 1e-50))", ValueError, "weights holds 1e-50 at 0, which float32"),
    ("jaxgmm.init(key, x.astype('f4'), 2, weights=np.full(60, 1e39))", ValueError, r"weights holds 1e\+39 at 0"),
    (
        "jaxgmm.fit(mixture, x.astype('f4'), np.full(60, 3e38, 'f4'))",
        ValueError,
        r"weights add up to more than float32 can hold\. Divide all of them by one number",
    ),
    ("jaxgmm.fit(mixture, x, tol=-1.0)", ValueError, r"tol is -1; expected a number not below 0"),
    ("jaxgmm.fit(mixture, x, tol=np.nan)", ValueError, "tol is nan; expected a number"),
    ("jaxgmm.fit(mixture, x, max_iter=-3)", ValueError, "max_iter is -3"),
    ("jaxgmm.m_step(mixture, jaxgmm.e_step(mixture, x), jaxgmm.scale_of(x), -1.0)", ValueError, "regularization is"),
    ("jaxgmm.fit(mixture, x, tol=[0.001, 0.0001])", ValueError, r"tol has shape \(2,\); expected a single number"),
    ("jaxgmm.e_step(mixture, x, block_size=0)", ValueError, "block_size is 0; expected at least 1"),
    ("jaxgmm.fit(mixture, x, history_size=0)", ValueError, "history_size is 0"),
    ("jaxgmm.init(7, x, 2)", TypeError, r"key is the number 7; expected a key: jax\.random\.key\(7\)"),
    (
        "mixture.sample(None, 3)",
        TypeError,
        r"key is None; expected a key of jax\.random, such as jax\.random\.key\(0\)",
    ),
    ("mixture.sample_with_labels(jnp.array(0), 3)", TypeError, r"key is an array of dtype int.. and shape \(\)"),
    (
        "jaxgmm.fit_restarts(np.random.RandomState(0), x, 2)",
        TypeError,
        r"key is a numpy RandomState; expected a key: jax\.random\.key\(key\.randint\(2\*\*31\)\)",
    ),
    (
        "jaxgmm.fit_many(np.random.default_rng(0), x[None], 2)",
        TypeError,
        r"key is a numpy Generator; expected a key: jax\.random\.key\(key\.integers\(2\*\*31\)\)",
    ),
    ("jaxgmm.select(True, x)", TypeError, "key is True; expected a key"),
    ("jaxgmm.stability('0', x, 2)", TypeError, "key is of type str; expected a key"),
    ("jaxgmm.likelihood_ratio_test(0, x, 1)", TypeError, "key is the number 0"),
    ("jaxgmm.kl_divergence(np.int64(3), mixture, mixture, 9)", TypeError, r"jax\.random\.key\(3\)"),
    ("jaxgmm.to_numpyro(mixture).sample(5)", TypeError, "key is the number 5"),
    (
        "jaxgmm.fit_gradient(mixture, x, optax.sgd(0.1), n_steps=1, batch_size=2, key=1)",
        TypeError,
        "key is the number 1",
    ),
    (
        "jaxgmm.init(jax.random.split(key, 3), x, 2)",
        ValueError,
        r"key holds a stack of keys of shape \(3,\); this takes a single one. Use key\[0\], or jax\.vmap",
    ),
    ("jaxgmm.init(jax.random.PRNGKey(0)[None], x, 2)", ValueError, r"key holds a stack of keys of shape \(1,\)"),
    ("jaxgmm.select(key, x, 2.5)", TypeError, r"n_components is 2\.5; expected a whole number"),
    ("jaxgmm.select(key, x, 'three')", TypeError, "n_components is 'three'; expected a whole number"),
    ("jaxgmm.select(key, x, 2, 3)", TypeError, "form is 3; expected one of 'full'"),
    ("jaxgmm.select(key, x, 2, [x])", TypeError, "form is of type .*; expected one of 'full'"),
    ("jaxgmm.init(key, x, np.zeros((99, 2)))", TypeError, "n_components is of type ndarray; expected a whole number"),
    ("jaxgmm.bootstrap(key, mixture, x)", TypeError, "fit is of type .*; expected a FitResult, a Mixture or a form"),
    ("mixture.take([0, 2])", ValueError, "places holds 2; expected 0 to 1, or -2 to -1 from the end"),
    ("mixture.components.take(np.array([-3]))", ValueError, "places holds -3; expected 0 to 1"),
    (
        "mixture.take(np.array([True, False]))",
        TypeError,
        r"places has dtype bool.*Use jax\.numpy\.flatnonzero\(places\)",
    ),
    ("mixture.take(['a'])", TypeError, "places has dtype <U1; expected whole numbers, such as"),
    ("mixture.take([0.0])", TypeError, "places has dtype float64; expected whole numbers"),
    ("mixture.take(1)", ValueError, r"places has shape \(\); expected \(j,\).*Use \[1\] for a single component"),
    ("mixture.take([])", ValueError, r"places has shape \(0,\); expected \(j,\), at least one"),
    (
        "jaxgmm.from_parameters([1.0, 0.0], x[:2], [1.0, 1.0], 'spherical').take([1])",
        ValueError,
        r"places is \[1\], where all components are absent",
    ),
    ("mixture.sample(key, -1)", ValueError, "n is -1; expected at least 1"),
    ("jaxgmm.fit(x, mixture)", TypeError, "mixture is of type ndarray; expected a jaxgmm.Mixture"),
    ("jaxgmm.m_step(mixture, x, jaxgmm.scale_of(x))", TypeError, "statistics is of type ndarray"),
    (
        "jax.vmap(lambda k: jaxgmm.init(k, x, 2))(jax.random.split(key, 3)).log_prob(x)",
        ValueError,
        r"a stack of mixtures of shape \(3,\).*jax\.vmap",
    ),
    (
        "jax.tree.map(lambda a: a * jnp.nan, mixture).log_prob(x)",
        ValueError,
        "mixture holds NaN or infinite parameters",
    ),
    ("jaxgmm.from_responsibilities(x, np.ones((3, 2)))", ValueError, "responsibilities has 3 rows and x has 60"),
    ("jaxgmm.from_responsibilities(x, -np.ones((60, 2)))", ValueError, "responsibilities is negative in 60 of 60 rows"),
    (
        "jaxgmm.from_parameters([1.0], [[0.0], [1.0]], [1.0, 1.0], 'spherical')",
        ValueError,
        r"weights has shape \(1,\); expected \(2,\)",
    ),
    (
        "jaxgmm.from_parameters([1.0, -1.0], [[0.0], [1.0]], [1.0, 1.0], 'spherical')",
        ValueError,
        r"weights is \[1\.0, -1\.0\]; expected finite numbers >= 0",
    ),
    (
        "jaxgmm.from_parameters([1.0], [[0.0, 0.0]], np.eye(2))",
        ValueError,
        r"covariances has shape \(2, 2\); expected \(1, 2, 2\) for form 'full'",
    ),
    (
        "jaxgmm.from_parameters([1.0], [[0.0, 0.0]], [[[1.0, 2.0], [2.0, 1.0]]])",
        ValueError,
        r"covariances\[0\] is \[\[1\.0, 2\.0\], \[2\.0, 1\.0\]\], which is not positive definite",
    ),
    (
        "jaxgmm.from_parameters([1.0], [[0.0, 0.0]], np.zeros((2, 2)), 'tied')",
        ValueError,
        "covariances is .* which is not positive definite",
    ),
    (
        "jaxgmm.from_parameters([1.0], [[0.0, 0.0]], [[1.0, 0.0]], 'diag')",
        ValueError,
        r"covariances\[0\] is .* which is not positive definite",
    ),
    (
        "jaxgmm.from_parameters([1.0], [[0.0, 0.0]], [[[1.0, 0.5], [0.0, 1.0]]])",
        ValueError,
        r"covariances differs from its transpose by up to 0\.5",
    ),
    ("jax.jit(lambda t: jaxgmm.fit(mixture, with_hole(np.nan), tol=t))(0.001)", ValueError, "x is NaN or infinite"),
]
