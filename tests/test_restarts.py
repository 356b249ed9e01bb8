"""The best of many fits: what it keeps, what it refuses, and what it costs to compile."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm

from cases import CASES, THIN, VARIED
from compilations import counted
from tolerance import once, tolerance

FEW = {"n_restarts": 6, "n_finalists": 2}


@pytest.fixture(scope="module")
def faithful():
    return np.loadtxt("examples/data/faithful.csv", delimiter=",", skiprows=1)


def spiked():
    """A cloud and three rows almost in one place: the likelihood's highest peak is a component on these three."""
    x = np.random.default_rng(0).normal(size=(120, 2))
    return np.concatenate([x, [[4.0, 4.0], [4.01, 4.0], [4.0, 4.01]]])


@pytest.mark.parametrize("case", VARIED, ids=lambda case: case.name)
def test_room_for_more_components_changes_nothing(case):
    x = case.data(150)
    roomy = case.init(jax.random.key(1), x, jnp.asarray(3), max_components=5)
    assert np.all(np.isneginf(roomy.log_weights[3:]))
    assert np.all(np.isfinite(roomy.log_weights[:3]))
    compact = roomy.take(jnp.arange(3))
    assert int(roomy.n_parameters) == int(compact.n_parameters)
    found, expected = (jaxgmm.fit(mixture, x, tol=1e-8) for mixture in (roomy, compact))
    assert jaxgmm.Status(int(found.status)) == jaxgmm.Status(int(expected.status))
    assert not np.any(found.degenerate_components[3:])
    # A slow fit may stop a step earlier, with what `tol` leaves to be gained.
    left = len(x) * 1e-8 if case is THIN else 0
    np.testing.assert_allclose(found.log_likelihood, expected.log_likelihood, rtol=tolerance("exact"), atol=left)
    np.testing.assert_allclose(found.mixture.take(jnp.arange(3)).means, expected.mixture.means, rtol=0, atol=0.05)


@once
@pytest.mark.parametrize(("form", "k", "optimum"), [("full", 2, -1130.264), ("tied", 3, -1126.316)])
def test_known_optima(faithful, form, k, optimum):
    for seed in range(3):
        found = jaxgmm.fit_restarts(jax.random.key(seed), faithful, k, form)
        assert found.best.converged
        assert float(found.best.log_likelihood) == pytest.approx(optimum, abs=5e-3)


# Of two families, and with a covariance of one component or of all: which run wins does not depend on their structure.
@pytest.mark.parametrize("case", [*CASES[:2], CASES[-1]], ids=lambda case: case.name)
def test_the_best_regular_run_wins(case):
    x = case.data(150)
    found = jaxgmm.fit_restarts(jax.random.key(0), x, 3, **case.options, **FEW)
    winner = int(found.winner)
    assert found.log_likelihood.shape == found.status.shape == found.regular.shape == found.finished.shape == (6,)
    assert found.finished[winner]
    assert found.regular[winner]
    candidates = np.asarray(found.log_likelihood)[np.asarray(found.regular & found.finished)]
    assert float(found.best.log_likelihood) == np.max(candidates)
    # The start and what went before the last stage are not in its history.
    assert int(found.best.n_iter) > np.sum(np.isfinite(found.best.history)) - 1
    value = jaxgmm.log_likelihood(found.best.mixture, x)
    np.testing.assert_allclose(found.best.log_likelihood, value, rtol=tolerance("exact"))


@once
@pytest.mark.parametrize(("n_restarts", "n_finalists"), [(1, 1), (3, 1), (5, 9)])
def test_any_number_of_starts(n_restarts, n_finalists):
    x = spiked()[:120]
    found = jaxgmm.fit_restarts(jax.random.key(0), x, 2, n_restarts=n_restarts, n_finalists=n_finalists)
    assert found.log_likelihood.shape == (n_restarts,)
    assert np.all(np.isfinite(found.log_likelihood))
    assert int(found.winner) < n_restarts
    if n_finalists >= n_restarts:
        assert np.all(found.finished)


def test_a_spurious_spike_is_reported_and_not_preferred():
    x = spiked()
    options = {"methods": ["random_from_data"], "n_restarts": 60, "n_finalists": 8}
    found = jaxgmm.fit_restarts(jax.random.key(0), x, 2, **options)
    assert not np.all(found.regular)
    assert found.regular[found.winner]
    assert np.max(np.asarray(found.log_likelihood)) > found.best.log_likelihood
    asked = jaxgmm.fit_restarts(jax.random.key(0), x, 2, spurious=True, **options)
    assert not asked.regular[asked.winner]
    assert asked.best.log_likelihood > found.best.log_likelihood + 1


@once
def test_one_program_for_every_number_of_components_tolerance_and_weight():
    x = spiked()[:120]

    def call(seed, k):
        weights = np.random.default_rng(seed).uniform(1, 2, len(x))
        options = {"tol": 1e-5 * (1 + seed), "max_iter": 50 + seed, "regularization": 1e-6 * (1 + seed)}
        options |= {"screening_tol": 1e-3 * (1 + seed), "n_restarts": 6, "n_finalists": 2, "spurious": bool(seed % 2)}
        found = jaxgmm.fit_restarts(jax.random.key(seed), x, k, max_components=4, weights=weights, **options)
        return jax.block_until_ready(found)

    call(0, 3)
    with counted() as again:
        call(1, 2)
        call(2, 4)
    assert again == []


@once
def test_under_vmap_each_lane_is_as_alone_and_a_bad_one_is_told():
    xs = np.stack([spiked()[:120], spiked()[:120] + 5, np.full((120, 2), np.nan)])
    keys = jax.random.split(jax.random.key(0), 3)
    run = lambda key, x: jaxgmm.fit_restarts(key, x, 2, "diag", **FEW)  # noqa: E731
    stacked = jax.vmap(run)(keys, jnp.asarray(xs))
    assert int(stacked.best.status[2]) == jaxgmm.Status.NON_FINITE
    assert not np.any(stacked.regular[2])
    for lane in (0, 1):
        alone = run(keys[lane], xs[lane])
        np.testing.assert_allclose(stacked.best.log_likelihood[lane], alone.best.log_likelihood, rtol=1e-4)
        assert int(stacked.best.status[lane]) == int(alone.best.status)


@once
@pytest.mark.parametrize(("n_restarts", "n_finalists"), [(2, 2), (6, 2)])
def test_where_every_start_fails_one_of_them_is_the_winner(n_restarts, n_finalists):
    """And says so, alone or in a lane: what is kept for want of a run never wins."""
    fine = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    xs = np.stack([fine, np.full_like(fine, np.nan), fine * 1e25, fine])
    weights = np.array([1, 1, 1, 0], np.float32)[:, None].repeat(40, axis=1)
    run = jax.jit(
        lambda x, weights: jaxgmm.fit_restarts(
            jax.random.key(0), x, 2, "diag", weights=weights, n_restarts=n_restarts, n_finalists=n_finalists
        )
    )
    lanes = jax.vmap(run)(xs, weights)
    assert int(lanes.best.status[0]) != jaxgmm.Status.NON_FINITE
    for failed in (run(xs[2], weights[2]), *(lane(lanes, place) for place in (1, 2, 3))):
        assert int(failed.best.status) == jaxgmm.Status.NON_FINITE
        assert not np.isfinite(failed.best.log_likelihood)
        assert 0 <= int(failed.winner) < n_restarts
        assert bool(failed.finished[failed.winner])
        assert np.all(np.asarray(failed.status) == jaxgmm.Status.NON_FINITE)
        assert not np.any(np.isfinite(failed.log_likelihood))


def lane(tree, place):
    return jax.tree.map(lambda leaf: leaf[place], tree)


@once
def test_component_counts_under_vmap():
    x = np.concatenate([spiked()[:60], spiked()[60:120] + 9])
    run = lambda k: jaxgmm.fit_restarts(jax.random.key(0), x, k, "diag", max_components=3, **FEW).best  # noqa: E731
    results = jax.vmap(run)(jnp.arange(1, 4))
    scores = jax.vmap(lambda result: jaxgmm.bic(result.mixture, x))(results)
    assert int(jnp.argmin(scores)) == 1


@once
def test_lanes_side_by_side_find_the_same():
    x = spiked()[:120]
    found = [jaxgmm.fit_restarts(jax.random.key(0), x, 2, "diag", lanes=lanes, **FEW) for lanes in (1, 6)]
    assert found[0].log_likelihood.shape == found[1].log_likelihood.shape
    np.testing.assert_allclose(found[0].best.log_likelihood, found[1].best.log_likelihood, rtol=1e-4)


@once
def test_memory_does_not_grow_with_the_number_of_starts():
    x = jnp.asarray(spiked()[:120])

    def temporary(n_restarts):
        run = lambda key, x: jaxgmm.fit_restarts(key, x, 2, "diag", n_restarts=n_restarts, lanes=1)  # noqa: E731
        return jax.jit(run).lower(jax.random.key(0), x).compile().memory_analysis().temp_size_in_bytes

    assert temporary(4000) < temporary(40) + 4000 * 100


@once
def test_derivatives_are_those_of_the_winner():
    x = jnp.concatenate([jnp.asarray(spiked()[:60]), jnp.asarray(spiked()[60:120]) + 9])
    key = jax.random.key(0)
    best = jaxgmm.fit_restarts(key, x, 2, "diag", tol=0, **FEW).best

    def through_restarts(x):
        return jnp.sum(jaxgmm.fit_restarts(key, x, 2, "diag", tol=0, **FEW).best.mixture.means ** 2)

    def through_fit(x):
        return jnp.sum(jaxgmm.fit(best.mixture, x, tol=0).mixture.means ** 2)

    np.testing.assert_allclose(jax.grad(through_restarts)(x), jax.grad(through_fit)(x), rtol=1e-2, atol=1e-3)


@once
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": "kmeans"}, "methods is 'kmeans'"),
        ({"methods": ["nonsense"]}, "methods is 'nonsense'"),
        ({"n_restarts": 0}, "n_restarts is 0"),
        ({"n_components": 5, "max_components": 4}, "n_components is 5; expected a number from 1 to max_components"),
        ({"acceleration": "nonsense"}, "acceleration"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        jaxgmm.fit_restarts(jax.random.key(0), spiked(), **({"n_components": 2} | options))


def test_an_option_that_does_not_exist():
    with pytest.raises(TypeError, match="n_init"):
        jaxgmm.fit_restarts(jax.random.key(0), spiked(), 2, n_init=10)


def test_number_of_components_of_the_wrong_kind():
    with pytest.raises(TypeError, match="single whole number"):
        jaxgmm.init(jax.random.key(0), spiked(), jnp.array([1.0]), max_components=4)
