"""Student-t components over every structure: against scipy, against Gaussians, and with outliers."""

import dataclasses
import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import slow_tails

import jaxgmm
from jaxgmm.ground import special

from cases import ESTIMATED, GAUSSIANS, MEANS, NU, STUDENTS, WEIGHTS
from compilations import counted
from tolerance import assert_close, dtype, once

KEY = jax.random.key(0)
float64 = pytest.mark.skipif(dtype() is np.float32, reason="of digits that float32 does not have")
estimated = pytest.mark.parametrize("case", ESTIMATED, ids=lambda case: case.name)
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
    scales = robust.components.scales(np.asarray(x))
    whitened = np.linalg.solve(np.linalg.cholesky(robust.components.dispersions[0]), (x - robust.means[0]).T)
    assert_close(scales[:, 0], 5 / (3 + np.sum(np.asarray(whitened) ** 2, axis=0)), "close")
    assert np.all(scales[300:] < 0.01)
    for wrong, message in ((x[:, :1], "x has 1 columns"), (x.at[3, 1].set(np.nan), "in 1 of 306 rows: 3")):
        with pytest.raises(ValueError, match=message):
            robust.components.scales(wrong)


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


def with_nu(mixture, nu):
    """The same with other degrees of freedom to start from."""
    components = dataclasses.replace(mixture.components, nu=jnp.full_like(mixture.components.nu, nu))
    return jaxgmm.Mixture(mixture.log_weights, components)


@functools.cache
def two_tails(n=800):
    """Rows of two components, of 3 and of 8 degrees of freedom."""
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(n, 2)) / np.sqrt(rng.gamma(nu / 2, 2 / nu, size=n))[:, None] for nu in (3.0, 8.0)]
    return np.concatenate([parts[0], parts[1] * [1.0, 0.5] + [9.0, 4.0]]).astype(dtype())


def start_of(nu, x=None):
    x = two_tails() if x is None else x
    return jaxgmm.from_responsibilities(x, np.eye(2)[(x[:, 0] > 4.5).astype(int)], jaxgmm.StudentT.form("full", nu=nu))


@jax.jit
def steps(mixture, x):
    """Log-likelihoods along forty steps of plain EM, and where they lead."""
    scale = jaxgmm.scale_of(x)

    def step(mixture, _):
        statistics = jaxgmm.e_step(mixture, x)
        return jaxgmm.m_step(mixture, statistics, scale), statistics.log_likelihood

    return jax.lax.scan(step, mixture, None, length=40)


@float64
@pytest.mark.parametrize("covariance", ["full", "tied", "VEE", "lowrank-1-spherical"])
@pytest.mark.parametrize("nu", ["each", "shared"])
def test_no_step_lowers_the_likelihood_however_far_off_it_starts(covariance, nu):
    x = np.concatenate([two_tails(100), 40 * two_tails(100)[:4]])
    flat = np.random.default_rng(1).uniform(size=x.shape)
    for rows in (x, flat):
        start = jaxgmm.init(KEY, rows, 2, jaxgmm.StudentT.form(covariance, nu=nu))
        for begins in (0.3, 4.0, 30.0, 900.0):
            _, values = steps(with_nu(start, begins), rows)
            # The first step may come from below the floor.
            assert np.all(np.diff(values)[1:] > -1e-10 * np.abs(values[-1]))


@float64
@pytest.mark.parametrize("nu", ["each", "shared", 3.0, 10.0])
def test_a_fit_is_what_plain_em_comes_to(nu):
    x, start = two_tails(150), start_of(nu, two_tails(150))
    begins = start if not isinstance(nu, str) else with_nu(start, 10.0)
    fitted = jaxgmm.fit(begins, x, tol=0)
    components = begins.components
    given = np.asarray(begins.weights), np.asarray(begins.means), np.asarray(components.dispersions)
    found = slow_tails.fit(
        x, *given, np.broadcast_to(components.nu, 2).astype(float), estimate=nu if isinstance(nu, str) else None
    )
    assert float(fitted.log_likelihood) == pytest.approx(slow_tails.log_likelihood(x, *found), rel=1e-9)
    mixture = fitted.mixture
    mine = mixture.weights, mixture.means, mixture.components.dispersions, np.broadcast_to(mixture.components.nu, 2)
    for one, other in zip(mine, found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


@float64
@pytest.mark.parametrize("nu", ["each", "shared"])
def test_where_a_fit_rests_no_coordinate_has_a_slope(nu):
    x = two_tails()
    mixture = jaxgmm.fit(start_of(nu), x, tol=0).mixture

    def value(free):
        return jaxgmm.log_likelihood(free.constrain(), x) / len(x)

    free = mixture.unconstrain()
    slope = jax.grad(value)(free).coordinates
    assert slope["components.nu"].shape == ((2,) if nu == "each" else ())
    assert all(np.max(np.abs(leaf)) < 1e-7 for name, leaf in slope.items() if name != "log_weights")


@float64
@pytest.mark.parametrize("nu", ["each", "shared"])
def test_derivatives_of_a_fit_are_what_differences_of_fits_are(nu):
    x, start = two_tails(100), start_of(nu, two_tails(100))

    def found(far):
        return jaxgmm.fit(start, jnp.asarray(x).at[0].multiply(far), tol=0).mixture.components.nu.sum()

    derivative, step = jax.grad(found)(1.0), 1e-2
    assert float(derivative) == pytest.approx(float(found(1 + step) - found(1 - step)) / (2 * step), rel=2e-3)


@pytest.mark.parametrize("begins", [4.0, 30.0])
def test_degrees_of_freedom_are_found_again(begins):
    x = two_tails()
    result = jaxgmm.fit(with_nu(start_of("each"), begins), x, tol=1e-7)
    assert result.status == jaxgmm.Status.CONVERGED
    few, many = np.asarray(result.mixture.components.nu)
    assert 2.5 < few < 3.6
    assert 6 < many < 14
    shared = jaxgmm.fit(with_nu(start_of("shared"), begins), x, tol=1e-7)
    assert few < shared.mixture.components.nu < many
    assert result.log_likelihood > shared.log_likelihood
    assert result.mixture.n_parameters == shared.mixture.n_parameters + 1 == 13


@pytest.mark.parametrize("n_columns", [1, 3])
def test_of_gaussian_rows_they_come_to_be_as_good_as_gaussian(n_columns):
    x = np.random.default_rng(3).normal(size=(1000, n_columns)).astype(dtype())
    result = jaxgmm.fit(jaxgmm.init(KEY, x, 1, jaxgmm.StudentT.form()), x)
    gaussian = jaxgmm.fit(jaxgmm.init(KEY, x, 1), x)
    assert result.status == jaxgmm.Status.CONVERGED
    assert result.n_iter < 60
    assert result.mixture.components.nu[0] > 30
    assert abs(float(result.log_likelihood - gaussian.log_likelihood)) < 1
    assert np.all(np.isfinite(result.mixture.covariances))


def test_far_out_and_on_the_mean_rows_tell_finite_numbers():
    x = np.concatenate([two_tails(50), np.full((1, 2), 1e15), np.zeros((30, 2))]).astype(dtype())
    result = jaxgmm.fit(start_of("each", x), x)
    assert result.status in (jaxgmm.Status.CONVERGED, jaxgmm.Status.DEGENERATE)
    assert np.all(np.isfinite(result.mixture.components.nu))
    assert np.all(result.mixture.components.nu >= 0.1)


@estimated
def test_densities_are_those_of_given_degrees_of_freedom(case):
    mixture, x = case.mixture(), case.data(50)
    components = mixture.components
    for place, nu in enumerate(np.broadcast_to(components.nu, 3).tolist()):
        one = components.take(np.array([place]))
        given = jaxgmm.StudentT(one.means, one.dispersion, nu)
        assert_close(one.log_prob(x), given.log_prob(x), "exact", scale=20)
        assert_close(one.covariances, given.covariances, "exact", scale=10)


@estimated
def test_halves_add_up_and_the_order_of_components_is_nothing(case):
    mixture, x = case.mixture(), case.data(200)
    whole, halves = jaxgmm.e_step(mixture, x), jaxgmm.e_step(mixture, x[:90]) + jaxgmm.e_step(mixture, x[90:])
    jax.tree.map(lambda one, other: assert_close(one, other, "close", 200), whole, halves)
    assert whole.sums.tails.shape == (3,)
    order = np.array([2, 0, 1])
    turned = mixture.take(order)
    assert_close(turned.log_prob(x), mixture.log_prob(x), "exact", scale=20)
    scale = jaxgmm.scale_of(x)
    one, other = (jaxgmm.m_step(mixture, jaxgmm.e_step(mixture, x), scale) for mixture in (mixture, turned))
    jax.tree.map(lambda one, other: assert_close(one, other, "close", 10), one.take(order), other)


@estimated
def test_a_density_is_that_of_some_columns_times_that_of_the_others_given_these(case):
    mixture = case.mixture()
    for row in case.data(5):
        known, rest = mixture.marginal([1]), mixture.condition([1], row[1:])
        both = known.log_prob(row[None, 1:]) + rest.log_prob(row[None, :1])
        assert_close(both, mixture.log_prob(row[None]), "exact", scale=20)


@estimated
def test_rows_with_gaps_tell_what_is_seen(case):
    mixture, x = case.mixture(), np.asarray(case.data(300))
    gone = np.random.default_rng(2).random(x.shape) < 0.2
    partial = jaxgmm.rows(np.where(gone, np.nan, x), missing="nan")
    only = ~gone[:, 0] & gone[:, 1]
    assert_close(mixture.log_prob(partial)[only], mixture.marginal([0]).log_prob(x[only, :1]), "exact", scale=20)
    assert_close(mixture.log_prob(partial)[gone.all(axis=1)], 0, "exact", scale=20)
    # A mask that hides nothing leads by another way to the same sums, of rows that are solved for and of patterns.
    whole = jaxgmm.e_step(mixture, x)
    seen = jaxgmm.rows(x, missing=np.zeros(x.shape, bool))
    for sums in (jaxgmm.e_step(mixture, seen), jax.jit(jaxgmm.e_step)(mixture, seen)):
        assert_close(sums.sums.tails, whole.sums.tails, "close", 100)
        assert_close(sums.sums.mass, whole.sums.mass, "close", 100)
    result = jaxgmm.fit(mixture, partial)
    history = np.asarray(result.history)
    assert result.status == jaxgmm.Status.CONVERGED
    assert np.all(np.diff(history[~np.isnan(history)])[1:] >= 0)


@float64
def test_with_gaps_a_fit_rests_where_there_is_no_slope():
    x = two_tails(200).copy()
    x[np.random.default_rng(2).random(x.shape) < 0.2] = np.nan
    partial = jaxgmm.rows(x, missing="nan")
    mixture = jaxgmm.fit(start_of("each", two_tails(200)), partial, tol=0).mixture
    slope = jax.grad(lambda free: jaxgmm.log_likelihood(free.constrain(), partial) / len(x))(mixture.unconstrain())
    assert np.max(np.abs(slope.coordinates["components.nu"])) < 1e-7


@once
@estimated
def test_draws_have_the_tails_of_their_components(case):
    mixture = case.mixture()
    for place, nu in enumerate(np.broadcast_to(mixture.components.nu, 3).tolist()):
        one = mixture.take(np.array([place]))
        x = np.asarray(one.sample(KEY, 3000), np.float64)
        deviation = np.sqrt(np.asarray(one.components.dispersions)[0, 0, 0])
        z = (x[:, 0] - float(one.means[0, 0])) / deviation
        assert scipy.stats.kstest(z, scipy.stats.t(nu).cdf).pvalue > 1e-3


@once
def test_draws_of_what_is_missing_have_the_tails_of_the_component():
    means, unit = jnp.array([[0.0, 0.0], [50.0, 0.0]]), jaxgmm.Each(jaxgmm.Scales(jnp.ones((2, 2))))
    mixture = jaxgmm.Mixture(jnp.log(jnp.full(2, 0.5)), jaxgmm.StudentTEstimated(means, unit, jnp.array([1.0, 200.0])))
    for place, nu in enumerate((1.0, 200.0)):
        x = np.stack([np.full(2000, 50.0 * place), np.full(2000, np.nan)], axis=1)
        drawn = np.asarray(jaxgmm.sample_missing(KEY, mixture, jaxgmm.rows(x, missing="nan")))[:, 1]
        stretch = math.sqrt(nu / (nu + 1))
        assert scipy.stats.kstest(drawn / stretch, scipy.stats.t(nu + 1).cdf).pvalue > 1e-3


@estimated
def test_many_at_once_are_each_alone_and_a_second_call_compiles_nothing(case):
    starts = [case.start(spread) for spread in (0.4, 0.6)]
    x = case.data(150)

    def fitted(mixture):
        return jaxgmm.fit(mixture, x, max_iter=5)

    together = jax.vmap(fitted)(jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts))
    alone = [fitted(start) for start in starts]
    for place, one in enumerate(alone):
        assert_close(together.log_likelihood[place], one.log_likelihood, "close", 100)
        assert_close(together.mixture.covariances[place], one.mixture.covariances, "converged", 10)
    again = with_nu(starts[1], 20.0)
    with counted() as compiled:
        fitted(again)
    assert not compiled


def test_without_a_covariance_it_is_infinite_for_these_components_alone():
    means, unit = jnp.zeros((2, 2)), jaxgmm.Each(jaxgmm.Scales(jnp.ones((2, 2))))
    found = jaxgmm.StudentTEstimated(means, unit, jnp.array([1.5, 4.0])).covariances
    np.testing.assert_array_equal(found, [[[np.inf, 0], [0, np.inf]], [[2, 0], [0, 2]]])
    slope = jax.grad(lambda nu: jaxgmm.StudentTEstimated(means, unit, nu).covariances[1].sum())(jnp.array([1.5, 4.0]))
    assert_close(slope, [0, -1.0], "exact")


@float64
def test_where_covariances_are_held_the_tails_are_the_most_likely_ones():
    """A free scale would mend them at the cost of the tails."""
    x = two_tails()
    start = start_of("each")
    wide = start.affine(2 * np.eye(2))
    values = jaxgmm.Mixture(
        start.log_weights,
        jaxgmm.StudentTEstimated(start.means, wide.components.dispersion, start.components.nu),
    )
    for objective in (jaxgmm.Frozen(values, covariances=True), jaxgmm.Bounded(most=0.02)):
        result = jaxgmm.fit(values, x, tol=0, objective=objective)
        history = np.asarray(result.history)
        assert np.all(np.diff(history[~np.isnan(history)])[1:] >= 0)
        slope = jax.grad(lambda free: jaxgmm.log_likelihood(free.constrain(), x) / len(x))(result.mixture.unconstrain())
        assert np.max(np.abs(slope.coordinates["components.nu"])) < 1e-6
        assert np.max(np.abs(slope.coordinates["components.dispersion.factor.scale_tril"])) > 1e-3


@float64
def test_along_a_bound_scatters_are_divided_by_the_number_of_rows():
    """Divided by their mass, those that no bound holds would rest elsewhere."""
    x = two_tails()
    start = jaxgmm.from_responsibilities(x, np.eye(2)[(x[:, 0] > 4.5).astype(int)], jaxgmm.StudentT.form("diag", nu=3))
    mixture = jaxgmm.fit(start, x, tol=0, objective=jaxgmm.Bounded(most=0.1)).mixture
    variances = (mixture.components.dispersion.factor.scale / jaxgmm.scale_of(x)) ** 2
    bound = np.abs(variances - 0.1) < 1e-9
    slope = jax.grad(lambda free: jaxgmm.log_likelihood(free.constrain(), x) / len(x))(mixture.unconstrain())
    slope = slope.coordinates["components.dispersion.factor.scale"]
    np.testing.assert_array_equal(bound, [[False, True], [False, False]])
    assert slope[0, 1] > 1e-3
    assert np.max(np.abs(slope[~bound])) < 1e-6


def test_a_component_that_is_held_as_a_whole_keeps_its_degrees_of_freedom():
    x, start = two_tails(), start_of("each")
    objective = jaxgmm.Frozen(start, components=[True, False])
    fitted = jaxgmm.fit(start, x, objective=objective).mixture
    assert fitted.components.nu[0] == start.components.nu[0]
    assert abs(fitted.components.nu[1] - start.components.nu[1]) > 0.1
    assert objective.n_parameters(fitted) == fitted.n_parameters - 6 == 7
    shared = start_of("shared")
    with pytest.raises(ValueError, match="components share a number that is estimated"):
        jaxgmm.fit(shared, x, objective=jaxgmm.Frozen(shared, components=[True, False]))


@float64
def test_beside_a_prior_of_covariances_they_are_the_most_likely_ones():
    x = two_tails()
    result = jaxgmm.fit(start_of("each"), x, tol=0, objective=jaxgmm.Posterior())
    slope = jax.grad(lambda free: jaxgmm.log_likelihood(free.constrain(), x) / len(x))(result.mixture.unconstrain())
    assert np.max(np.abs(slope.coordinates["components.nu"])) < 1e-6


def test_rows_that_come_once_tell_them_too():
    x = np.random.default_rng(0).permutation(two_tails())
    mixture = start_of("each")
    for _ in range(3):
        mixture = jaxgmm.fit_online(mixture, x, batch_size=50).mixture
    few, many = np.asarray(mixture.components.nu)
    assert 2.5 < few < 4.5
    assert 6 < many < 14


@once
@pytest.mark.parametrize("nu", ["all", "4", None, [3, 4], "EACH"])
def test_what_is_not_to_be_estimated_is_named(nu):
    with pytest.raises(ValueError, match=r"nu is .*; expected a positive number, .* or 'each' or 'shared'"):
        jaxgmm.StudentT.form("full", nu=nu)


@once
def test_forms_say_what_is_estimated():
    names = [jaxgmm.StudentT.form("diag", nu=nu).name for nu in ("each", "shared", 4)]
    assert names == ["StudentT(diag, nu=each)", "StudentT(diag, nu=shared)", "StudentT(diag, nu=4)"]
    each = jaxgmm.StudentT.form("full")
    assert each == jaxgmm.StudentT.form("full", nu="each") == jaxgmm.StudentT.form()
    assert len({each, jaxgmm.StudentT.form("full", nu="shared"), jaxgmm.StudentT.form("full", nu=10)}) == 3


@estimated
def test_files_hold_them(case, tmp_path):
    path, mixture = tmp_path / "mixture.npz", case.mixture()
    jaxgmm.save(path, mixture)
    back = jaxgmm.load(path)
    assert type(back.components) is type(mixture.components)
    assert back.components.nu.shape == mixture.components.nu.shape
    jax.tree.map(np.testing.assert_array_equal, mixture, back)


@once
def test_files_of_given_degrees_of_freedom_are_what_they_were(tmp_path):
    """Written by hand, as the first version of these components did."""
    path = tmp_path / "mixture.npz"
    header = {
        "format": "jaxgmm mixture",
        "version": 2,
        "types": {
            "components": "StudentT",
            "components.dispersion": "Each",
            "components.dispersion.factor": "Tril",
        },
        "static": {"components.nu": 4.0},
        "metadata": {},
    }
    arrays = {
        "log_weights": np.zeros(1, np.float32),
        "components.means": np.zeros((1, 2), np.float32),
        "components.dispersion.factor.scale_tril": np.eye(2, dtype=np.float32)[None],
    }
    np.savez(path, header=np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays)
    mixture = jaxgmm.load(path)
    assert type(mixture.components) is jaxgmm.StudentT
    assert mixture.components.nu == 4.0
    jaxgmm.save(tmp_path / "again.npz", mixture)
    with np.load(tmp_path / "again.npz") as file:
        assert json.loads(file["header"].tobytes()) == header


@pytest.mark.parametrize("n_columns", [1, 2, 7, 40])
def test_the_constant_keeps_its_digits_however_many_degrees_of_freedom(n_columns):
    """Against products of factors that keep them, and logarithms of gamma functions where they are small."""
    a = np.geomspace(0.05, 4e4, 60).astype(dtype())
    found = special.log_gamma_ratio(jnp.asarray(a), n_columns / 2)
    wide = a.astype(np.float64)
    if n_columns % 2:
        rest = scipy.special.gammaln(wide + 0.5) - scipy.special.gammaln(wide) - np.log(wide) / 2
        # As their difference loses digits.
        series = -1 / (8 * wide) + 1 / (192 * wide**3) - 1 / (640 * wide**5) + 17 / (14336 * wide**7)
        rest = np.where(wide > 30, series, rest)
        factors = wide[:, None] + 0.5 + np.arange(n_columns // 2)
    else:
        rest, factors = 0, wide[:, None] + np.arange(n_columns // 2)
    expected = rest + np.sum(np.log(factors / wide[:, None]), axis=1)
    assert_close(found, expected, "exact", scale=1)
    slope = jax.vmap(jax.grad(lambda a: special.log_gamma_ratio(a, n_columns / 2)))(jnp.asarray(a))
    half = n_columns / 2
    expected = scipy.special.digamma(wide + half) - scipy.special.digamma(wide) - half / wide
    np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=1e-5)
