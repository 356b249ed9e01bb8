"""What variational Bayes says of parameters: against draws from the distributions, and of new rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import slow_priors as slow
from test_priors import FORMS, GIVEN, K, N, data, start

import jaxgmm
from jaxgmm import Dirichlet, NormalWishart, Prior, StickBreaking, Variational

from tolerance import assert_close, once


def found(form, weights):
    objective = Variational(Prior(weights, GIVEN))
    return jaxgmm.credible(jaxgmm.fit(start(form, data()), data(), objective=objective), data(), objective)


def posterior(told, form):
    """The same as the slow reference has it."""
    counts = np.asarray(told.counts, np.float64)
    rows = np.full(K, counts.sum()) if slow.is_tied(form) else counts
    degrees = 6.0 + rows * (2 if slow.form(form) == "spherical" else 1)
    scatters = np.asarray(told.mixture.covariances, np.float64) * degrees[:, None, None]
    return counts, degrees, scatters


@once
@pytest.mark.parametrize("form", FORMS)
def test_intervals_and_densities_are_those_of_draws(form):
    told = found(form, Dirichlet(0.7))
    counts, degrees, scatters = posterior(told, form)
    np.testing.assert_allclose(counts.sum(), N, rtol=1e-4)
    rng, many = np.random.default_rng(0), 20_000
    weights = rng.dirichlet(0.7 + counts, many)
    x = data()[:20] + 0.5
    density, means, deviations = np.zeros((many, 20)), np.zeros((many, K, 2)), np.zeros((many, K, 2))
    shared = None
    for k in range(K):
        if slow.form(form) == "full":
            drawn = scipy.stats.invwishart(degrees[k], scatters[k]).rvs(many, random_state=rng)
        else:
            size = 1 if slow.form(form) == "spherical" else 2
            gammas = scipy.stats.invgamma(degrees[k] / 2, scale=np.diag(scatters[k])[:size] / 2)
            drawn = gammas.rvs((many, size), random_state=rng)[:, :, None] * np.eye(2)
        drawn = shared = drawn if shared is None or not slow.is_tied(form) else shared
        roots = np.linalg.cholesky(drawn)
        means[:, k] = np.asarray(told.mixture.means[k]) + np.einsum(
            "nij,nj->ni", roots, rng.normal(size=(many, 2))
        ) / np.sqrt(3 + counts[k])
        deviations[:, k] = np.sqrt(np.diagonal(drawn, axis1=1, axis2=2))
        white = np.einsum("nij,nmj->nmi", np.linalg.inv(roots), x[None] - means[:, k, None])
        height = -np.log(2 * np.pi) - np.log(roots[:, 0, 0] * roots[:, 1, 1])
        density += weights[:, k, None] * np.exp(height[:, None] - np.sum(white**2, axis=2) / 2)
    intervals, errors = told.intervals(0.9), told.standard_errors()
    for name, drawn in (("weights", weights), ("means", means), ("standard_deviations", deviations)):
        width = drawn.std(axis=0)
        expected = np.quantile(drawn, [0.05, 0.95], axis=0)
        assert np.max(np.abs(np.asarray(getattr(intervals, name)) - expected) / width) < 0.08
        np.testing.assert_allclose(getattr(errors, name), width, rtol=0.04)
    # Draws of few rows in many places: the tails of a density are rare ones.
    np.testing.assert_allclose(told.log_prob(x), np.log(density.mean(axis=0)), atol=0.05)
    assert np.all(np.asarray(told.log_prob(x[:1] + 60)) > np.asarray(told.mixture.log_prob(x[:1] + 60)))


@once
def test_sticks_have_weights_of_the_same_mean_and_variance():
    told = found("full", StickBreaking(2.0))
    counts = np.asarray(told.counts, np.float64)
    rng, many = np.random.default_rng(1), 50_000
    after = counts.sum() - np.cumsum(counts)
    shares = rng.beta(1 + counts, 2 + after, (many, K))
    # The weight of the last has all that is left.
    shares[:, -1] = 1
    weights = shares * np.cumprod(np.concatenate([np.ones((many, 1)), 1 - shares[:, :-1]], axis=1), axis=1)
    np.testing.assert_allclose(told.standard_errors().weights, weights.std(axis=0), rtol=0.03)
    expected = np.quantile(weights, [0.025, 0.975], axis=0)
    np.testing.assert_allclose(told.intervals().weights, expected, atol=0.1 * weights.std(axis=0).min())


def test_a_density_of_new_rows_is_one():
    told = found("diag", Dirichlet(0.7))
    axis = np.linspace(-60, 60, 601)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    total = np.sum(np.exp(np.asarray(told.log_prob(grid), np.float64))) * (axis[1] - axis[0]) ** 2
    np.testing.assert_allclose(total, 1, atol=1e-3)


@once
def test_what_is_not_needed_is_pruned_and_said():
    x, objective = data(), Variational(Prior(components=NormalWishart(pseudo_rows=1.0)))
    best = jaxgmm.fit_restarts(jax.random.key(0), x, 6, n_restarts=8, objective=objective).best
    told = jaxgmm.credible(best, x, objective)
    assert int(told.used.sum()) == K
    assert told.kept().n_components == K
    assert np.all(np.diff(told.kept().weights) <= 0)
    table = told.to_pandas(names=["a", "b"])
    assert len(table) == K * 5
    assert np.all((table.lower < table.estimate) & (table.estimate < table.upper))
    with pytest.raises(NotImplementedError, match="takes whole rows alone, and these have labels"):
        told.log_prob(jaxgmm.rows(x[:2], labels=[0, 1]))
    with pytest.raises(NotImplementedError, match="takes whole rows alone, and these have gaps"):
        told.log_prob(jaxgmm.rows([[1.0, np.nan]], missing="nan"))
    with pytest.raises(TypeError, match=r"objective is of type Posterior; expected the jaxgmm\.Variational"):
        jaxgmm.credible(best, x, jaxgmm.Posterior())
    with pytest.raises(ValueError, match="level is 1"):
        told.intervals(1)
    light = np.full(N, 1e-6)
    nothing = jaxgmm.fit(best.mixture, x, light, objective=objective)
    with pytest.raises(RuntimeError, match="No component has the weight of half a row"):
        jaxgmm.credible(nothing, x, objective, light).kept()
    assert_close(jnp.sum(told.counts), N, "close")
    alone = jaxgmm.fit(start("full", x).take([0]), x, objective=objective)
    alone = jaxgmm.credible(alone, x, objective)
    assert alone.intervals().weights.tolist() == [[1], [1]]
    assert alone.standard_errors().weights.tolist() == [0]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tol", [1e-4, 1e-6, 0.0])
def test_fits_that_ended_are_taken(form, tol):
    weights, options = np.linspace(0.5, 1.5, N), {"regularization": 0.3, "scale": np.array([2.0, 3.0])}
    for x, objective in ((data() + 1e3, Variational()), (data(), Variational(Prior(StickBreaking(2.0), GIVEN)))):
        result = jaxgmm.fit(start(form, x), x, weights, objective=objective, tol=tol, **options)
        told = jaxgmm.credible(result, x, objective, weights, **options)
        assert_close(jnp.sum(told.counts), N, "close")


def test_a_mixture_that_is_not_at_rest_is_refused_and_why_is_said():
    x, objective = data(), Variational()
    result = jaxgmm.fit(start("full", x), x, objective=objective)
    jaxgmm.credible(result, x, objective)
    weights, firm = np.where(x[:, 0] > 1, 3.0, 1.0), NormalWishart([1.0, 2.0], 50.0, 60.0, 60.0)
    for others in (
        (x + 1, objective),
        (x[:80], objective),
        (x, objective, weights),
        (x, Variational(Prior(components=firm))),
    ):
        with pytest.raises(ValueError, match=r"not where a fit of these rows comes to rest.*weights, scale"):
            jaxgmm.credible(result, *others)
    with pytest.raises(ValueError, match="comes to rest"):
        jaxgmm.credible(result, x, objective, scale=np.array([50.0, 50.0]))
    with pytest.raises(ValueError, match="comes to rest"):
        jaxgmm.credible(result, x, objective, regularization=0.9)
    with pytest.raises(ValueError, match="comes to rest"):
        jaxgmm.credible(start("full", x), x, objective)
    short = jaxgmm.fit(result.mixture, x, objective=objective, max_iter=1)
    jaxgmm.credible(short, x, objective)
    with pytest.raises(ValueError, match="comes to rest"):
        jaxgmm.credible(jaxgmm.fit(start("full", x), x, objective=objective, max_iter=1), x, objective)
    # Where values cannot be seen, none is refused.
    assert jax.jit(lambda x: jaxgmm.credible(result, x, objective).counts)(x + 1).shape == (K,)
