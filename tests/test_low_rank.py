"""Covariances of low rank and a diagonal: factor analysers and probabilistic principal components."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

import jaxgmm
from jaxgmm import Posterior, Status
from jaxgmm.covariance.table import name_of
from jaxgmm.model.objective import objective_of, within_data

from tolerance import assert_close, dtype, tolerance

KEY = jax.random.key(8)
N, K, D, Q = 360, 3, 8, 2
NAMES = ("lowrank-2", "lowrank-2-tied-diag", "lowrank-2-spherical", "lowrank-2-tied-spherical")


@functools.cache
def data():
    rng = np.random.default_rng(4)
    return np.concatenate(
        [
            rng.normal(size=(N // K, Q)) @ rng.normal(size=(Q, D))
            + rng.normal(size=(N // K, D)) * rng.uniform(0.6, 1.0, D)
            + 3 * rng.normal(size=D)
            for _ in range(K)
        ]
    )


def start(name, x):
    return jaxgmm.from_responsibilities(x, 0.8 * np.eye(K)[np.repeat(np.arange(K), N // K)] + 0.2 / K, name)


def rows_of(kind, x):
    if kind == "gaps":
        return jaxgmm.rows(x, missing=np.random.default_rng(1).random(x.shape) < 0.1)
    return jaxgmm.rows(x)


@pytest.mark.parametrize(
    ("name", "kind", "objective"),
    [*((name, kind, None) for name in NAMES for kind in ("plain", "gaps")), ("lowrank-2", "plain", Posterior())],
    ids=str,
)
def test_laws(name, kind, objective):
    """What is climbed never falls, its gradient is 0 at the end, and the loadings are in order there."""
    rows = rows_of(kind, jnp.asarray(data()))
    result = jaxgmm.fit(start(name, jnp.asarray(data())), rows, objective=objective, tol=0, max_iter=5000)
    assert int(result.status) == Status.CONVERGED
    assert name_of(result.mixture.components.covariance) == name
    history = np.asarray(result.history)
    assert np.all(np.diff(history[~np.isnan(history)]) >= 0)
    free = result.mixture.unconstrain()
    prior = None
    if objective is not None:
        there = jnp.ones(K, bool)
        prior = within_data(objective_of(objective, K, D, rows.x.dtype), rows, jaxgmm.scale_of(data()), there)

    def value(coordinates):
        mixture = dataclasses.replace(free, coordinates=coordinates).constrain()
        return (jaxgmm.log_likelihood(mixture, rows) + (0 if prior is None else prior.penalty(mixture))) / N

    slopes = jax.grad(value)(free.coordinates)
    limit = 3 * np.sqrt(2 * 4 * 60 * np.finfo(dtype()).eps / np.sqrt(N))
    assert max(float(jnp.max(jnp.abs(leaf))) for leaf in slopes.values()) < limit
    covariance = result.mixture.components.covariance
    relative = covariance.loadings / covariance.factor.scale[:, :, None]
    lengths = jnp.einsum("kdq,kdr->kqr", relative, relative)
    assert_close(lengths * (1 - jnp.eye(Q)), 0, "close", scale=float(jnp.max(lengths)))
    assert bool(jnp.all(lengths[:, 0, 0] >= lengths[:, 1, 1]))


def test_densities_and_steps_are_those_of_the_matrices():
    """Both kernels, and rows with gaps, against densities by matrices."""
    x = jnp.asarray(data())
    mixture = start("lowrank-2", x)
    dense = jaxgmm.from_parameters(mixture.weights, mixture.means, mixture.covariances)
    assert_close(mixture.log_prob(x), dense.log_prob(x), "close")
    holes = rows_of("gaps", x)
    assert_close(mixture.log_prob(holes), dense.log_prob(holes), "close")
    expanded = jaxgmm.e_step(mixture, x).sums
    centred = mixture.components.statistics(x, mixture.responsibilities(x))
    assert_close(expanded.first, centred.first, "close", scale=100)
    assert_close(expanded.second, centred.second, "close", scale=float(jnp.max(expanded.second)))
    factor = mixture.components.covariance.factor
    white = factor.inverse().times(factor.times(jnp.broadcast_to(jnp.eye(D), (K, D, D))))
    assert_close(white, jnp.broadcast_to(jnp.eye(D), (K, D, D)), "close")
    full = dense.components.covariance.factor
    assert_close(factor.half_log_det(), full.half_log_det(), "close")
    assert_close(factor.precisions(), full.precisions(), "close")
    assert_close(factor.diagonal(), full.diagonal(), "close")
    there = mixture.components.covariance.marginal(np.array([4, 1])).factor
    assert_close(there.dense(), mixture.covariances[:, [4, 1]][:, :, [4, 1]], "close")
    assert mixture.marginal([4, 1]).components.covariance.rank == Q


def test_one_component_of_equal_noise_is_principal_components():
    """The closed form of Tipping & Bishop: noise is what the smaller eigenvalues are on average."""
    x = data()[: N // K]
    values, axes = np.linalg.eigh(np.cov(x.T, bias=True))
    noise = values[:-Q].mean()
    covariance = axes[:, -Q:] * (values[-Q:] - noise) @ axes[:, -Q:].T + noise * np.eye(D)
    best = multivariate_normal(x.mean(axis=0), covariance).logpdf(x).sum()
    result = jaxgmm.fit(jaxgmm.init(KEY, x, 1, "lowrank-2-spherical"), x, tol=0)
    assert float(result.log_likelihood) == pytest.approx(best, rel=tolerance("exact") * 10)
    assert_close(result.mixture.covariances[0], covariance, "converged")


def test_factor_analysis_ends_where_scikit_learn_does():
    from sklearn.decomposition import FactorAnalysis

    x = data()[: N // K]
    theirs = FactorAnalysis(Q, tol=1e-12, max_iter=20000, svd_method="lapack").fit(x)
    result = jaxgmm.fit(jaxgmm.init(KEY, x, 1, "lowrank-2"), x, tol=0, max_iter=20000)
    assert float(result.log_likelihood) >= theirs.score(x) * len(x) - 1e-3
    scores = jaxgmm.factor_scores(result.mixture, x)
    assert scores.shape == (N // K, 1, Q)
    if dtype() is np.float64:
        # But for a turn of the factors.
        own, other = np.asarray(scores[:, 0]), theirs.transform(x)
        left, _, right = np.linalg.svd(other.T @ own)
        np.testing.assert_allclose(own, other @ left @ right, atol=1e-2)


def test_scores_of_rows_with_gaps_are_those_of_what_is_expected_there():
    x = jnp.asarray(data())
    mixture = start("lowrank-2", x)
    assert_close(
        jaxgmm.factor_scores(mixture, jaxgmm.rows(x, missing=np.zeros(x.shape, bool))),
        jaxgmm.factor_scores(mixture, x),
        "close",
    )
    missing = np.zeros(x.shape, bool)
    missing[:, 0] = True
    given = mixture.take([0])
    filled = jaxgmm.impute(given, jaxgmm.rows(x, missing=missing))
    found = jaxgmm.factor_scores(given, jaxgmm.rows(x, missing=missing))
    assert_close(found, jaxgmm.factor_scores(given, filled), "close")
    with pytest.raises(NotImplementedError, match="no factors"):
        jaxgmm.factor_scores(start("full", x), x)


def test_a_heywood_case_is_told():
    """A column that a factor explains entirely has no noise of its own."""
    x = data().copy()
    x[:, 3] = x[:, 0]
    result = jaxgmm.fit(start("lowrank-2", x), jnp.asarray(x), max_iter=3000)
    assert int(result.status) == Status.DEGENERATE
    assert bool(jnp.all(result.degenerate_components))


def test_many_columns_take_no_matrix():
    """More columns than a matrix of them would have room for in what programs take besides the rows."""
    d, n, q = 3000, 60, 2
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(n, q)) @ rng.normal(size=(q, d)) + rng.normal(size=(n, d)) * 0.5).astype(dtype())
    x[: n // 2] += 6 * rng.normal(size=d)
    x = jnp.asarray(x)
    form, matrix = "lowrank-2", d * d * x.dtype.itemsize
    mixture = jaxgmm.init(KEY, x, 2, form)

    def taken(function, *given):
        memory = jax.jit(function).lower(*given).compile().memory_analysis()
        return memory.temp_size_in_bytes + memory.output_size_in_bytes

    assert taken(lambda x: jaxgmm.init(KEY, x, 2, form), x) < matrix / 2
    assert taken(lambda m, x: jaxgmm.fit(m, x, max_iter=5), mixture, x) < matrix / 2
    short = {"n_restarts": 2, "n_finalists": 1, "max_iter": 20}
    assert taken(lambda x: jaxgmm.fit_restarts(KEY, x, 2, form, **short), x) < matrix / 2
    found = jaxgmm.select(KEY, x, [2], [form], **short)
    groups = np.arange(n) < n // 2
    assert jaxgmm.adjusted_rand_index(groups, found.best.mixture.predict(x)) > 0.8
    assert found.best.mixture.sample(KEY, 5).shape == (5, d)


def test_names_and_ranks():
    assert str(jaxgmm.StudentT.form("lowrank-3-spherical", nu=5)) == "StudentT(lowrank-3-spherical, nu=5)"
    for name in ("lowrank", "lowrank-0", "lowrank-2-full", "lowrank-2-"):
        with pytest.raises(ValueError, match="'lowrank-2' for two factors"):
            jaxgmm.Gaussian.form(name)
    with pytest.raises(ValueError, match="rank of the covariances is 8, and there are 8 columns"):
        jaxgmm.init(KEY, jnp.asarray(data()), 2, "lowrank-8")
    with pytest.raises(NotImplementedError, match="told by their parts"):
        jaxgmm.from_parameters([1.0], np.zeros((1, D)), np.eye(D)[None], "lowrank-2")
    loadings = jnp.ones((2, 4, 1))
    noise = jaxgmm.Volumes(jnp.ones(2), jaxgmm.UnitScales(jnp.ones(4)))
    assert name_of(jaxgmm.LowRank(loadings, noise)) is None
    # No more parameters than the matrices have.
    assert jaxgmm.Gaussian.form("lowrank-3").blank(2, jnp.zeros(4), jnp.ones(4)).n_parameters(2) == 2 * (4 + 10)
    assert jaxgmm.Gaussian.form("lowrank-2").blank(3, jnp.zeros(9), jnp.ones(9)).n_parameters(3) == 3 * (9 + 17 + 9)
    assert jaxgmm.Gaussian.form("lowrank-2-tied-diag").blank(3, jnp.zeros(9), jnp.ones(9)).n_parameters(3) == (
        3 * (9 + 17) + 9
    )


def test_what_low_rank_cannot_do_is_said():
    x = jnp.asarray(data())
    mixture = start("lowrank-2", x)
    with pytest.raises(NotImplementedError, match="LowRank covariances have no distributions in closed form"):
        jaxgmm.fit(mixture, x, objective=jaxgmm.Variational())
    with pytest.raises(NotImplementedError, match="about their loadings"):
        jaxgmm.fit_online(mixture, x)
