"""Numbers of more digits than JAX's floats: rounded where it does not matter, and never where it does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.mixture

import jaxgmm
from jaxgmm.ground import digits
from jaxgmm.sklearn import from_sklearn

from tolerance import once

# Each of them says which dtype JAX is set to.
pytestmark = once
KEY = jax.random.key(0)
NEAR = np.random.default_rng(0).normal(size=(300, 2)) * [1.0, 30.0]
FAR = NEAR + np.array([0.0, 1.7e9])
WAY_OUT = r"x64', True\).*subtract an offset"
MAKERS = {
    "init": lambda x: jaxgmm.init(KEY, x, 2, "diag"),
    "from_responsibilities": lambda x: jaxgmm.from_responsibilities(x, np.ones((len(x), 1)), "diag"),
    "fit": lambda x: jaxgmm.fit(jaxgmm.from_parameters([1.0], [[0.0, 1.7e9]], [[1.0, 1e18]], "diag"), x),
    "fit_gradient": lambda x: jaxgmm.fit_gradient(
        jaxgmm.from_parameters([1.0], [[0.0, 1.7e9]], [[1.0, 1e18]], "diag"), x, None, n_steps=1
    ),
    "fit_restarts": lambda x: jaxgmm.fit_restarts(KEY, x, 1, "diag"),
    "fit_many": lambda x: jaxgmm.fit_many(KEY, [x, x], 1, "diag"),
    "select": lambda x: jaxgmm.select(KEY, x, [1], ["diag"]),
    "stability": lambda x: jaxgmm.stability(KEY, x, 1, "diag"),
    "bootstrap": lambda x: jaxgmm.bootstrap(KEY, x, "diag", 1),
    "likelihood_ratio_test": lambda x: jaxgmm.likelihood_ratio_test(KEY, x, 1, "diag"),
}
SCORERS = {
    "log_prob": lambda mixture, x: mixture.log_prob(x),
    "log_prob of a row": lambda mixture, x: mixture.log_prob(x[:1]),
    "predict": lambda mixture, x: mixture.predict(x),
    "entropy": lambda mixture, x: mixture.entropy(x),
    "responsibilities": lambda mixture, x: mixture.responsibilities(x),
    "e_step": jaxgmm.e_step,
    "log_likelihood": jaxgmm.log_likelihood,
    "bic": jaxgmm.bic,
    "icl": jaxgmm.icl,
    "condition": lambda mixture, x: mixture.condition([1], x[0, 1:]),
}


def at(mean, deviation):
    """A mixture whose means float32 can hold."""
    return jaxgmm.from_parameters([1.0], [[0.0, float(np.float32(mean))]], [[1.0, deviation**2]], "diag")


@pytest.fixture
def default_mode():
    with jax.enable_x64(False):
        yield


@pytest.mark.parametrize("verb", MAKERS)
def test_rows_that_would_lose_their_digits_are_refused(verb, default_mode):
    with pytest.raises(ValueError, match=rf"column 1 that float32 rounds by .* its standard deviation is .*{WAY_OUT}"):
        MAKERS[verb](FAR)


@pytest.mark.parametrize("verb", SCORERS)
def test_scored_rows_need_the_digits_of_the_mixture(verb, default_mode):
    with pytest.raises(ValueError, match=rf"float32 rounds by .* the mixture's standard deviation there.*{WAY_OUT}"):
        SCORERS[verb](at(1.7e9, 30.0), FAR)
    SCORERS[verb](at(0.0, 30.0), NEAR)
    SCORERS[verb](at(1.7e9, 1e6), FAR)


@pytest.mark.parametrize(("x64", "offset"), [(False, FAR.min(axis=0)), (True, 0.0)], ids=["offset", "x64"])
def test_both_ways_out_lead_out(x64, offset):
    with jax.enable_x64(x64):
        mixture = MAKERS["fit_restarts"](FAR - offset).best.mixture
        np.testing.assert_allclose(np.sqrt(mixture.covariances[0, 1, 1]), FAR[:, 1].std(), rtol=1e-3)


def test_a_far_row_is_compared_with_its_distance(default_mode):
    far = at(0.0, 1.0).log_prob([[0.0, 1e9 + 1]])
    np.testing.assert_allclose(far, -0.5e18, rtol=1e-6)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.arange(300)[:, None] + 10**9, "type int64 in column 0 that float32 rounds"),
        (np.arange(300, dtype=np.uint32)[:, None] + np.uint32(2**31), "type uint32"),
        ((np.arange(300)[:, None] + 10**9).tolist(), "type int64"),
        (NEAR[:, :1] * 1e-50, r"float32 takes for 0, and it spreads by .*take them in a smaller unit"),
        (NEAR[:, :1] * 1e50, r"float32 cannot hold.*take them in a larger unit"),
        (FAR[:, 1:].astype(np.longdouble), "rounds by"),
    ],
)
def test_numbers_of_other_kinds_that_do_not_fit(x, message, default_mode):
    with pytest.raises(ValueError, match=message):
        jaxgmm.init(KEY, x, 1)


def test_float64_of_jax_is_looked_at_too():
    with jax.enable_x64(True):
        x, mixture = jnp.asarray(FAR), jaxgmm.from_parameters([1.0], [[0.0, 1.7e9]], [[1.0, 900.0]], "diag")
    with jax.enable_x64(False):
        with pytest.raises(ValueError, match="float32 rounds"):
            jaxgmm.init(KEY, x, 1)
        with pytest.raises(ValueError, match="mixture holds numbers of type float64 that float32 does not tell apart"):
            mixture.log_prob(NEAR)


def test_integers_have_more_digits_than_float64():
    x = np.arange(300)[:, None] + 2**62
    with jax.enable_x64(True):
        with pytest.raises(ValueError, match="type int64 in column 0 that float64 rounds by"):
            jaxgmm.init(KEY, x, 1)
        assert jaxgmm.init(KEY, x - x.min(axis=0), 1).means[0, 0] == 149.5


@pytest.mark.parametrize(
    "x",
    [
        NEAR + 1e3,
        np.column_stack([NEAR, np.full(300, 0.1)]),
        np.column_stack([NEAR, 0.1 * (1 + 2.0**-52 * (np.arange(300) % 5))]),
        np.column_stack([NEAR, np.full(300, 16777217)]),
        np.arange(300)[:, None] + 2**23,
        2.0**30 + 128 * np.arange(300)[:, None],
        NEAR.astype(np.float32) + np.float32(1.7e9),
    ],
    ids=["offset", "constant", "constant to rounding", "constant integer", "integers", "representable", "float32"],
)
def test_what_loses_nothing_that_matters_is_taken(x, default_mode):
    assert jaxgmm.init(KEY, x, 1, "diag").n_columns == x.shape[1]


def test_absent_rows_are_not_looked_at(default_mode):
    x, weights = np.concatenate([NEAR, FAR]), np.repeat([1.0, 0.0], 300)
    np.testing.assert_array_equal(jaxgmm.init(KEY, x, 1, weights=weights).means.shape, (1, 2))
    jaxgmm.fit_many(KEY, [x], 1, weights=[weights])
    # a row that is present and far off widens the column, and one that is absent does not
    with pytest.raises(ValueError, match="float32 rounds"):
        jaxgmm.init(KEY, np.concatenate([FAR, NEAR]), 1, weights=weights)


def test_parameters_keep_their_digits_too(default_mode):
    with pytest.raises(ValueError, match=f"means holds .* column 1 that float32 rounds.*{WAY_OUT}"):
        jaxgmm.from_parameters([1.0], [[0.0, 1.7e9 + 1]], [[1.0, 900.0]], "diag")
    fitted = sklearn.mixture.GaussianMixture(1).fit(FAR)
    with pytest.raises(ValueError, match=f"means_ holds .* column 1 that float32 rounds.*{WAY_OUT}"):
        from_sklearn(fitted)
    with jax.enable_x64(True):
        assert from_sklearn(fitted).means[0, 1] == fitted.means_[0, 1]


def test_constants_inside_jit_are_looked_at_and_traced_rows_are_not(default_mode):
    mixture = at(1.7e9, 30.0)
    with pytest.raises(ValueError, match="float32 rounds"):
        jax.jit(lambda scale: scale * mixture.log_prob(FAR))(1.0)
    assert jax.jit(mixture.log_prob)(jnp.asarray(NEAR)).shape == (300,)
    assert jax.jit(lambda mixture: mixture.log_prob(NEAR))(mixture).shape == (300,)


@pytest.mark.parametrize("n", [1, 63, 64, 129, 1000, 9000])
def test_quick_looks_agree_with_numpy(n):
    x = np.random.default_rng(n).normal(size=(n, 3)) + np.array([0.0, 1e4, -1e7])
    for of in (np.minimum, np.maximum):
        np.testing.assert_array_equal(digits._over_rows(of, x), of.reduce(x, axis=0))
    mean, deviation = digits._extent(x)
    np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(deviation, x.std(axis=0), rtol=1e-6)
