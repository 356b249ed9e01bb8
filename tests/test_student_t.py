"""Student-t components over every structure: against scipy, against Gaussians, and with outliers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import jaxgmm

from cases import GAUSSIANS, MEANS, NU, STUDENTS, WEIGHTS
from tolerance import assert_close, dtype

KEY = jax.random.key(0)
every = pytest.mark.parametrize(
    ("case", "gaussian"), [*zip(STUDENTS, GAUSSIANS, strict=True)], ids=[case.name for case in GAUSSIANS]
)


@every
def test_densities_are_scipys(case, gaussian):
    mixture, x = case.mixture(), np.asarray(case.data(50), np.float64)
    shapes = np.asarray(gaussian.mixture().covariances, np.float64)
    components = [scipy.stats.multivariate_t(mean, shape, df=NU) for mean, shape in zip(MEANS, shapes, strict=True)]
    expected = np.log(sum(w * component.pdf(x) for w, component in zip(WEIGHTS, components, strict=True)))
    assert_close(mixture.log_prob(x), expected, "exact", scale=20)
    assert_close(mixture.covariances, shapes * NU / (NU - 2), "exact", scale=10)


@every
def test_a_fit_rests_at_a_maximum_and_never_falls_on_the_way(case, gaussian):
    x = case.data()
    result = jaxgmm.fit(case.init(KEY, x), x)
    assert result.converged
    history = np.asarray(result.history)
    assert np.all(np.diff(history[~np.isnan(history)])[1:] >= 0)

    def value(free):
        return jaxgmm.log_likelihood(free.constrain(), x) / len(x)

    slope = jax.grad(value)(result.mixture.unconstrain()).coordinates
    assert all(np.max(np.abs(leaf)) < (2e-2 if dtype() is np.float32 else 5e-3) for leaf in slope.values())


@every
def test_with_many_degrees_of_freedom_they_are_gaussian(case, gaussian):
    like, x = gaussian.mixture(), gaussian.data(200)
    components = jaxgmm.StudentT(like.means, like.components.covariance, 1e6)
    wide = jaxgmm.Mixture(like.log_weights, components)
    np.testing.assert_allclose(wide.log_prob(x), like.log_prob(x), rtol=1e-3, atol=1e-3)
    one, other = (jaxgmm.e_step(mixture, x) for mixture in (wide, like))
    np.testing.assert_allclose(one.sums.second, other.sums.second, rtol=1e-3, atol=1e-1)


def test_outliers_do_not_move_them():
    x = jnp.concatenate([jax.random.normal(KEY, (300, 2)), jnp.full((6, 2), 60.0)])
    robust, gaussian = (
        jaxgmm.fit(jaxgmm.init(KEY, x, 1, form), x).mixture for form in (jaxgmm.StudentT.form("full", nu=3), "full")
    )
    assert np.all(np.abs(robust.means[0]) < 0.3)
    assert np.all(gaussian.means[0] > 1)


def test_one_component_is_the_maximum_that_scipy_finds():
    x = np.asarray(jax.random.t(KEY, 4.0, (400, 1)), np.float64) * 2 + 5
    mixture = jaxgmm.fit(jaxgmm.init(KEY, x, 1, jaxgmm.StudentT.form("full", nu=4)), x, tol=0).mixture
    _, location, scale = scipy.stats.t.fit(x[:, 0], f0=4)
    np.testing.assert_allclose(mixture.means[0, 0], location, rtol=1e-3)
    np.testing.assert_allclose(mixture.components.dispersion.factor.scale_tril[0, 0, 0], scale, rtol=1e-3)


def test_few_degrees_of_freedom_have_no_covariance():
    cauchy = jaxgmm.StudentT(jnp.zeros((1, 2)), jaxgmm.Each(jaxgmm.Scales(jnp.ones((1, 2)))), 1.0)
    np.testing.assert_array_equal(cauchy.covariances[0], [[np.inf, 0], [0, np.inf]])


@pytest.mark.parametrize("nu", [0, -1.0, float("inf"), float("nan"), "4", True])
def test_degrees_of_freedom_are_positive(nu):
    with pytest.raises(ValueError, match=r"nu is .*; expected a positive number"):
        jaxgmm.StudentT.form("full", nu=nu)


def test_a_family_in_the_place_of_a_form_is_told_what_to_write():
    with pytest.raises(TypeError, match=r"Write StudentT.form\(\.\.\.\)"):
        jaxgmm.init(KEY, jnp.zeros((5, 2)), 1, jaxgmm.StudentT)


def test_where_the_floor_binds_it_is_a_maximum_all_the_same():
    """Divided by the mass of rows instead of their number, scatters lead elsewhere along a bound."""
    x = jax.random.t(KEY, 3.0, (600, 2)).at[:, 0].set(1.0)
    start = jaxgmm.init(KEY, x, 1, jaxgmm.StudentT.form("diag", nu=3))
    result = jaxgmm.fit(start, x, tol=0)
    assert result.status == jaxgmm.Status.DEGENERATE
    history = np.asarray(result.history)
    assert np.all(np.diff(history[~np.isnan(history)])[1:] >= 0)

    def value(stretch):
        scales = result.mixture.components.dispersion.factor.scale * jnp.array([1.0, stretch])
        components = jaxgmm.StudentT(result.mixture.means, jaxgmm.Each(jaxgmm.Scales(scales)), 3.0)
        return float(jaxgmm.log_likelihood(jaxgmm.Mixture(result.mixture.log_weights, components), x))

    assert max(value(0.97), value(1.03)) < value(1.0)


def test_without_a_covariance_everything_else_is_there():
    cauchy = jaxgmm.StudentT(jnp.array([[0.0, 0.0], [9.0, 0.0]]), jaxgmm.Each(jaxgmm.Scales(jnp.ones((2, 2)))), 1.0)
    mixture = jaxgmm.Mixture(jnp.log(jnp.array([0.3, 0.7])), cauchy)
    back = jaxgmm.align(mixture.take([1, 0]), mixture)
    assert_close(back.weights, mixture.weights, "exact")
    assert mixture.affine([[1.0, 1.0]]).means.shape == (2, 1)
    assert np.all(np.isfinite(mixture.sample(KEY, 2000)))
    few = mixture.sample(KEY, 12)
    assert np.all(jaxgmm.fit_restarts(KEY, few, 1, jaxgmm.StudentT.form(nu=1), n_restarts=2).regular)


def test_degrees_of_freedom_may_be_any_number():
    four = jaxgmm.StudentT.form("full", nu=4)
    assert four == jaxgmm.StudentT.form("full", nu=np.int64(4)) == jaxgmm.StudentT.form(nu=jnp.float32(4))
    assert hash(four) != hash(jaxgmm.StudentT.form("full", nu=5))


def test_pictures_say_what_they_lack():
    """Ellipses are of covariances; a map shows as much as dispersions say."""
    plot = pytest.importorskip("jaxgmm.plot")
    components = jaxgmm.StudentT(jnp.zeros((1, 2)), jaxgmm.Each(jaxgmm.Scales(jnp.ones((1, 2)))), 1.0)
    cauchy = jaxgmm.Mixture(jnp.zeros(1), components)
    with pytest.raises(ValueError, match="without a finite covariance"):
        plot.ellipses(cauchy)
    assert_close(plot.density(cauchy).get_xlim(), (-3, 3), "exact")
