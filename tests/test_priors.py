"""Conjugate priors and variational Bayes: laws of every objective, on every structure and on kinds of rows."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slow_priors as slow

import jaxgmm
from jaxgmm import Dirichlet, NormalWishart, Posterior, Prior, Status, StickBreaking, Variational
from jaxgmm.model.objective import objective_of, within_data
from jaxgmm.model.steps import maximize, take_statistics

from cases import CASES, NU
from tolerance import assert_close, dtype, once

KEY = jax.random.key(11)
N, K = 240, 3
GIVEN = NormalWishart([1.0, 2.0], 3.0, 6.0, [[2.0, 0.5], [0.5, 1.0]])
OBJECTIVES = {
    "MAP": Posterior(),
    "MAP, given": Posterior(Prior(Dirichlet([2.0, 3.0, 1.5]), GIVEN)),
    "VB": Variational(),
    "VB, given": Variational(Prior(StickBreaking(2.0), GIVEN)),
}
FORMS = ["full", "tied", "diag", "spherical", "tied-diag", "tied-spherical"]
CELLS = [(name, form, kind) for name in OBJECTIVES for form in FORMS for kind in ("plain", "gaps", "labels")]
# With every structure where numbers are given, and with every kind of rows; what the data decide is of scale alone.
KINDS = [("MAP, given", "full"), ("VB, given", "tied-diag")]
CELLS = [
    cell for cell in CELLS if cell[:2] in KINDS or (cell[2] == "plain" and ("given" in cell[0] or cell[1] == "full"))
]
# The largest gradient for each row where rounding hides what a step gains, as for the likelihood.
LIMIT = 3 * np.sqrt(2 * 4 * 60 * np.finfo(dtype()).eps / np.sqrt(N))


@functools.cache
def data():
    return np.asarray(CASES[0].data(N), np.float64)


def rows_of(kind, x):
    """Some of what may be known of rows, with weights."""
    weights = np.linspace(0.5, 1.5, N)
    if kind == "gaps":
        return jaxgmm.rows(x, weights, missing=np.random.default_rng(1).random((N, 2)) < 0.2)
    if kind == "labels":
        return jaxgmm.rows(x, weights, labels=np.where(np.arange(N) < 30, np.arange(N) % K, -1))
    return jaxgmm.rows(x, weights)


def start(form, x):
    """Rough groups in the order of the first column."""
    groups = np.empty(N, int)
    groups[np.argsort(data()[:, 0])] = np.arange(N) * K // N
    return jaxgmm.from_responsibilities(x, 0.8 * np.eye(K)[groups] + 0.2 / K, form)


def in_units(objective, unit, shift):
    """The same in other units, where it is in those of the data."""
    prior = objective.prior.components
    if prior.relative:
        return objective
    scatter = unit[:, None] * np.asarray(prior.scatter) * unit
    moved = dataclasses.replace(prior, mean=np.asarray(prior.mean) * unit + shift, scatter=scatter)
    return dataclasses.replace(objective, prior=dataclasses.replace(objective.prior, components=moved))


def climbed(objective, mixture, rows):
    """What a fit climbs, from its definition."""
    rows = objective.rows_of(rows)
    objective = objective.counting(jnp.sum(rows.weights))
    statistics = take_statistics(objective.read_by(mixture), rows.in_blocks(N))
    return statistics.log_likelihood + objective.penalty(mixture)


@pytest.mark.parametrize(("name", "form", "kind"), CELLS)
def test_laws(name, form, kind):
    """What is climbed never falls; its gradient is 0 at the end; units and the order of components do not matter."""
    unit, shift = np.array([8.0, 0.25]), np.array([64.0, -4.0])
    if form in ("spherical", "tied-spherical"):
        unit = np.array([8.0, 8.0])

    objective = OBJECTIVES[name]
    rows = rows_of(kind, data())
    mixture = start(form, data())
    result = jaxgmm.fit(mixture, rows, objective=objective, tol=0, max_iter=5000)
    assert int(result.status) == Status.CONVERGED
    history = np.asarray(result.history)[: int(result.n_iter) + 1]
    assert np.all(np.diff(history) >= 0)
    assert history[-1] > history[0] + 1
    assert_close(result.objective, history[-1], "exact", scale=100)
    assert_close(result.log_likelihood, jaxgmm.log_likelihood(result.mixture, rows), "exact", scale=100)
    settled = within_data(objective_of(objective, K, 2, dtype()), rows, None, jnp.ones(K, bool))

    @jax.jit
    def slope(mixture):
        free = mixture.unconstrain()
        value, gradient = jax.value_and_grad(lambda free: climbed(settled, free.constrain(), rows) / N)(free)
        return value, jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(gradient)]))

    value, steepest = slope(result.mixture)
    assert_close(N * value, result.objective, "exact", scale=100)
    assert steepest < LIMIT < 1e-2 < slope(mixture)[1]

    elsewhere = rows_of(kind, data() * unit + shift)
    moved = start(form, data() * unit + shift)
    other = jaxgmm.fit(moved, elsewhere, objective=in_units(objective, unit, shift), tol=0, max_iter=5000)
    assert_close(other.mixture.means, result.mixture.means * unit + shift, "converged", scale=64)
    spread = result.mixture.covariances * unit[:, None] * unit
    assert_close(other.mixture.covariances, spread, "converged", scale=float(np.max(spread)))
    assert_close(other.mixture.weights, result.mixture.weights, "converged")


@pytest.mark.skipif(dtype() is not np.float64, reason="a reference in float64")
@pytest.mark.parametrize(("name", "model"), sorted({case[:2] for case in slow.mclust()}))
def test_modes_are_those_of_mclust(name, model):
    """From the same start, after one step and where EM comes to rest."""
    x, structure = slow.rows_of(name), slow.MODELS[model]
    first, ends = slow.mclust()[name, model, "1"][0], slow.mclust()[name, model, "mode"]
    k = len(first.weights)
    given = slow.default_prior(x, k, structure)
    objective = Posterior(Prior(components=NormalWishart(given.mean, given.pseudo_rows, given.degrees, given.scatter)))
    begin = as_mixture(slow.start(x, k, structure), structure)
    options = {"objective": objective, "acceleration": None, "regularization": 0.0}
    once = jaxgmm.fit(begin, x, **options, max_iter=1).mixture
    result = jaxgmm.fit(begin, x, **options, tol=0, max_iter=10_000)
    for mixture, expected, limit in ((once, first, 1e-10), (result.mixture, ends[0], 1e-5)):
        np.testing.assert_allclose(mixture.weights, expected.weights, rtol=limit)
        np.testing.assert_allclose(mixture.means, expected.means, rtol=limit)
        largest = np.max(np.abs(expected.covariances), axis=(1, 2), keepdims=True)
        np.testing.assert_allclose(mixture.covariances / largest, expected.covariances / largest, atol=limit)
    np.testing.assert_allclose(result.log_likelihood, ends[1], rtol=1e-7)


def as_mixture(parameters, structure):
    """A slow reference's parameters as a mixture."""
    shared = slow.is_tied(structure)
    kept = {"full": lambda one: one, "diag": np.diag, "spherical": lambda one: one[0, 0]}[slow.form(structure)]
    covariances = [kept(one) for one in parameters.covariances]
    return jaxgmm.from_parameters(
        parameters.weights, parameters.means, covariances[0] if shared else covariances, structure
    )


@pytest.mark.parametrize(
    ("form", "sticks"), [*((form, place % 2 == 1) for place, form in enumerate(FORMS)), ("full", True)]
)
def test_variational_bayes_is_coordinate_ascent(form, sticks):
    """The same steps and the same bound, constants and all, with counts, degrees and matrices for each component."""
    x, weights = data()[:60], np.linspace(0.5, 1.5, 60)
    prior = slow.Prior(np.array([1.0, 2.0]), 3.0, 6.0, np.array([[2.0, 0.5], [0.5, 1.0]]), 0.7)
    shares = 0.8 * np.eye(K)[np.arange(60) * K // 60] + 0.2 / K
    q = slow.variational_maximize(shares * weights[:, None], x, form, prior, sticks)
    of_weights = StickBreaking(0.7) if sticks else Dirichlet(0.7)
    objective = Variational(Prior(of_weights, GIVEN))
    mixture = maximize(
        *from_shares(form, x, shares, weights),
        jnp.zeros(2),
        objective_of(objective, K, 2, dtype()),
    )[0]
    result = jaxgmm.fit(
        mixture, x, weights, objective=objective, acceleration=None, max_iter=5, tol=0, regularization=0
    )
    history = [slow.bound(q, x, form, prior, weights)]
    for _ in range(5):
        q = slow.variational_step(q, x, form, prior, weights)
        history.append(slow.bound(q, x, form, prior, weights))
    assert_close(result.history[:6] / 60, np.array(history) / 60, "exact", scale=10)
    assert_close(result.mixture.means, q.means, "close")
    assert_close(result.mixture.covariances, q.scatters / q.degrees[:, None, None], "close")
    counted = objective_of(objective, K, 2, dtype()).counting(jnp.asarray(60.0)).counts(result.mixture)
    assert_close(counted, q.pseudo_rows - 3, "close", scale=60)


def from_shares(form, x, shares, weights):
    """A mixture, and the statistics of rows about its means in which components have these shares."""
    begin = jaxgmm.from_responsibilities(x, shares, form)
    labelled = jaxgmm.rows(x, weights, log_evidence=np.log(shares) - np.asarray(joint(begin, x)))
    return begin, jaxgmm.e_step(begin, labelled)


def joint(mixture, x):
    """log w_k p_k(x) of every row."""
    log_prob = np.asarray(mixture.components.log_prob(jnp.asarray(x)))
    return np.asarray(mixture.log_weights) + log_prob


@pytest.mark.parametrize("form", ["full", "tied"])
def test_student_t_components_have_modes_too(form):
    """Of the likelihood of rows with their scales summed out: its gradient with the prior's is 0."""
    x = data()
    begin = start(form, x)
    begin = jaxgmm.Mixture(begin.log_weights, jaxgmm.StudentT(begin.means, begin.components.covariance, NU))
    objective = OBJECTIVES["MAP, given"]
    result = jaxgmm.fit(begin, x, objective=objective, tol=0, max_iter=5000)
    history = np.asarray(result.history)[: int(result.n_iter) + 1]
    assert np.all(np.diff(history) >= 0)
    checked = objective_of(objective, K, 2, dtype())
    rows = jaxgmm.rows(x)
    gradient = jax.grad(lambda free: climbed(checked, free.constrain(), rows) / N)(result.mixture.unconstrain())
    assert max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(gradient)) < LIMIT
    with pytest.raises(NotImplementedError, match="Variational has no closed form for StudentT components"):
        jaxgmm.fit(begin, x, objective=Variational())


def test_what_has_no_rows_is_as_the_prior_has_it():
    """And needs no floor: three equal rows have a component, and one component none."""
    x = np.concatenate([data()[:100], np.full((3, 2), 50.0)])
    prior_mean, scatter = np.array([-300.0, 200.0]), np.array([2.0, 1.0])
    begin = jaxgmm.from_parameters([0.4, 0.3, 0.3], [[0.0, 0.0], [50.0, 50.0], prior_mean], np.ones((3, 2)), "diag")
    prior = Prior(Dirichlet(2.0), NormalWishart(prior_mean, 1e-3, 6.0, scatter))
    result = jaxgmm.fit(begin, x, objective=Posterior(prior), regularization=0)
    assert int(result.status) == Status.CONVERGED
    assert_close(result.mixture.weights, np.array([101, 4, 1]) / 106, "close")
    assert_close(result.mixture.means[2], prior_mean, "close", scale=10)
    assert_close(np.diag(result.mixture.covariances[2]), scatter / (6 + 3), "close")
    away = 1e-3 * 3 / (1e-3 + 3) * (50 - prior_mean) ** 2
    assert_close(np.diag(result.mixture.covariances[1]), (scatter + away) / (3 + 6 + 3), "close", scale=10)
    bayes = jaxgmm.fit(begin, x, objective=Variational(prior), regularization=0)
    assert int(bayes.status) == Status.CONVERGED
    assert not np.any(bayes.degenerate_components)
    assert_close(bayes.mixture.weights[2], 2 / (103 + 6), "close")
    assert_close(np.diag(bayes.mixture.covariances[2]), scatter / 6, "close")
    assert int(jaxgmm.fit(begin, x).status) == Status.DEGENERATE


@pytest.mark.parametrize("objective", [Posterior(Prior(Dirichlet(2.0))), Variational(Prior(StickBreaking()))])
def test_absent_components_are_no_part_of_it(objective):
    x = data()
    two = start("full", x).take([0, 1])
    nobody = jnp.full(2, -jnp.inf, two.log_weights.dtype)
    apart = two.take(np.array([0, 0, 1, 1]))
    log_weights = jnp.stack([two.log_weights[0], nobody[0], two.log_weights[1], nobody[1]])
    four = dataclasses.replace(apart, log_weights=log_weights)
    alone, among = (jaxgmm.fit(one, x, objective=objective) for one in (two, four))
    assert_close(among.objective, alone.objective, "exact", scale=1000)
    assert_close(among.mixture.weights, np.array(alone.mixture.weights)[[0, 0, 1, 1]] * [1, 0, 1, 0], "converged")
    assert_close(among.mixture.means[::2], alone.mixture.means, "converged")
    assert jax.tree.all(jax.tree.map(lambda leaf: bool(jnp.all(leaf < jnp.inf)), among.mixture))


def test_numbers_of_a_prior_are_traced():
    """Side by side as alone, by one program."""
    x, begin, traces = data()[:100], start("diag", data()).take([0, 2]), []

    def fitted(a, rows):
        traces.append(None)
        prior = Prior(Dirichlet(a), NormalWishart(pseudo_rows=rows))
        return jaxgmm.fit(begin, x, objective=Variational(prior), max_iter=50)

    alone = jax.jit(fitted)
    numbers = jnp.array([1.0, 5.0, 50.0]), jnp.array([0.1, 1.0, 10.0])
    together = jax.jit(jax.vmap(fitted))(*numbers)
    for place in range(3):
        one = alone(*(number[place] for number in numbers))
        assert_close(together.objective[place], one.objective, "exact", scale=100)
        assert_close(together.mixture.means[place], one.mixture.means, "converged")
    assert len(traces) == 2


@pytest.mark.skipif(dtype() is not np.float64, reason="finite differences need float64")
@pytest.mark.parametrize("name", ["MAP", "VB"])
def test_derivatives_in_the_prior_and_the_rows_are_those_of_refits(name):
    x = jnp.asarray(data()[:150])
    way = jnp.asarray(np.random.default_rng(0).normal(size=x.shape))
    begin = start("full", data())

    def readout(t):
        # What the data decide has its part in the derivative of the one, and every number given in that of the other.
        if name == "MAP":
            objective = Posterior(Prior(Dirichlet(3.0 + t), NormalWishart(pseudo_rows=2.0 + t, degrees=6.0 + 3 * t)))
        else:
            given = NormalWishart(jnp.array([1.0 + t, 2.0]), 2.0, 6.0 + t, (1 + t) * jnp.eye(2))
            objective = Variational(Prior(Dirichlet(2.0 + t), given))
        found = jaxgmm.fit(begin, x + 0.1 * t * way, objective=objective, tol=0, max_iter=5000)
        return jnp.stack([jnp.sum(jnp.sin(found.mixture.means)), found.mixture.covariances[0, 0, 1], found.objective])

    step = 5e-3
    compiled = jax.jit(readout)
    near, far = (compiled(times * step) - compiled(-times * step) for times in (1, 2))
    expected = (8 * near - far) / (12 * step)
    derivative = jax.jit(jax.jacrev(readout))(0.0)
    np.testing.assert_allclose(derivative, expected, rtol=1e-5, atol=1e-5)
    assert np.all(np.abs(expected) > 1e-3)


@pytest.mark.parametrize("kind", [Posterior, Variational])
def test_numbers_that_only_a_trace_knows_are_no_success(kind):
    """What is refused where it is seen."""
    x, begin = data()[:100], start("full", data())
    sound = {"a": 2.0, "rows": 1.0, "degrees": 5.0, "scatter": np.eye(2)}

    @jax.jit
    def fitted(a, rows, degrees, scatter):
        prior = Prior(Dirichlet(a), NormalWishart(pseudo_rows=rows, degrees=degrees, scatter=scatter))
        return jaxgmm.fit(begin, x, objective=kind(prior)).status

    assert int(fitted(**sound)) == Status.CONVERGED
    wrong = {
        "a": [0.0, np.nan, np.inf, 0.5] if kind is Posterior else [0.0, -1.0, np.nan],
        "rows": [-1.0, np.nan, np.inf],
        "degrees": [0.5, np.nan, np.inf],
        "scatter": [0 * np.eye(2), -np.eye(2), np.full((2, 2), np.nan), np.array([[1.0, 2.0], [2.0, 1.0]])],
    }
    for name, values in wrong.items():
        for value in values:
            assert int(fitted(**sound | {name: value})) == Status.NON_FINITE, (name, value)


def test_rows_of_which_nothing_is_seen_have_no_part():
    """Nor in the bound, nor in what a component is known by; a label alone is something."""
    x = data()[:100]
    begin, objective = start("full", data()), OBJECTIVES["VB, given"]
    more = np.concatenate([x, np.full((50, 2), np.nan)])
    alone = jaxgmm.fit(begin, jaxgmm.rows(x, missing=np.zeros_like(x, bool)), objective=objective)
    beside = jaxgmm.fit(begin, jaxgmm.rows(more, missing="nan"), objective=objective)
    assert_close(beside.objective / N, alone.objective / N, "close")
    assert_close(beside.mixture.weights, alone.mixture.weights, "converged")
    told = [
        jaxgmm.credible(fit, rows, objective) for fit, rows in ((alone, x), (beside, jaxgmm.rows(more, missing="nan")))
    ]
    assert_close(told[1].standard_errors().means, told[0].standard_errors().means, "converged")
    labels = np.concatenate([np.full(100, -1), np.zeros(50, int)])
    known = jaxgmm.fit(begin, jaxgmm.rows(more, missing="nan", labels=labels), objective=objective)
    assert known.mixture.weights[0] > beside.mixture.weights[0] + 0.1


def test_the_likelihood_keeps_its_digits_beside_a_firm_prior():
    x, begin = data(), start("full", data())
    result = jaxgmm.fit(begin, x, objective=Posterior(Prior(Dirichlet(1e8), GIVEN)))
    assert_close(result.log_likelihood, jaxgmm.log_likelihood(result.mixture, x), "exact", scale=100)


def test_components_without_rows_are_no_parameters():
    """So that forms with many of them are not passed over."""
    x, objective = data(), OBJECTIVES["VB"]
    far = [[0.0, 0.0], [4.0, 3.0], [-3.0, 5.0], [100.0, 100.0], [-100.0, 100.0]]
    begin = jaxgmm.from_parameters(np.full(5, 0.2), far, np.ones((5, 2)), "diag")
    mixture = jaxgmm.fit(begin, x, objective=objective).mixture
    settled = jaxgmm.credible(mixture, x, objective).objective
    assert mixture.n_parameters == 4 + 5 * 4
    assert settled.n_parameters(mixture) == 2 + 3 * 4


@once
def test_the_number_of_components_is_found_and_every_driver_climbs_the_bound():
    x = data()
    objective = Variational(Prior(components=NormalWishart(pseudo_rows=1.0)))
    best = jaxgmm.fit_restarts(KEY, x, 6, n_restarts=8, objective=objective).best
    assert int(np.sum(N * np.asarray(best.mixture.weights) > 1)) == K
    begin = best.mixture.take(np.argsort(-np.asarray(best.mixture.weights))[:K])
    by_em = jaxgmm.fit(begin, x, objective=objective)
    import optax

    by_gradient = jaxgmm.fit_gradient(begin, x, optax.lbfgs(), n_steps=200, objective=objective)
    assert_close(by_gradient.objective / N, by_em.objective / N, "close")
    assert_close(by_gradient.log_likelihood / N, by_em.log_likelihood / N, "close")


@once
def test_fits_are_compared_by_their_evidence():
    """Of numbers of components and of forms, with all orders of components counted."""
    x, objective = data(), Variational(Prior(Dirichlet(1.0), NormalWishart(pseudo_rows=1.0)))
    brief = {"n_restarts": 8, "objective": objective, "criterion": "evidence"}
    chosen = jaxgmm.select(KEY, x, (2, 3, 4), "full", outliers="keep", **brief)
    assert chosen.winner.n_components == K
    orders = np.log(6) + float(chosen.best.objective)
    assert_close(chosen.winner.evidence / N, -2 * orders / N, "close")
    alone = jaxgmm.select_components(KEY, x, jnp.array([2, 3, 4]), **brief)
    assert int(alone.n_components[alone.chosen]) == K
    assert_close(alone.criterion[1] / N, chosen.winner.evidence / N, "close")
    with pytest.raises(ValueError, match="criterion is 'evidence', and the objective is the likelihood; expected"):
        jaxgmm.select(KEY, x, (2, 3), criterion="evidence")


@pytest.mark.parametrize(
    ("objective", "error", "message"),
    [
        (Posterior(2.0), TypeError, "prior is of type float; expected a jaxgmm.Prior"),
        (Posterior(Prior(2.0)), TypeError, "prior.weights is of type float; expected a jaxgmm.Dirichlet"),
        (Posterior(Prior(NormalWishart())), TypeError, "prior.weights is of type NormalWishart; expected a jaxgmm"),
        (
            Posterior(Prior(components=NormalWishart)),
            TypeError,
            "prior.components is the class NormalWishart; expected",
        ),
        (Posterior(Prior(components=NormalWishart(pseudo_rows=np.inf))), ValueError, "pseudo_rows is inf; expected a"),
        (
            Posterior(Prior(components=NormalWishart(degrees=np.inf))),
            ValueError,
            "degrees is inf; expected more than 1",
        ),
        (Posterior(Prior(components=Dirichlet())), TypeError, "prior.components is of type Dirichlet; expected a j"),
        (
            Posterior(Prior(components=2.0)),
            TypeError,
            "prior.components is of type float; expected a jaxgmm.Normal",
        ),
        (Posterior(Prior(StickBreaking())), TypeError, "StickBreaking, whose posterior has no mode"),
        (Variational(Prior(components=None)), TypeError, "components is None, and Variational integrates"),
        (Variational(Prior(Dirichlet(0.0))), ValueError, "concentration is 0.0; expected positive numbers"),
        (Variational(Prior(StickBreaking([1.0, 2.0]))), ValueError, r"concentration has shape \(2,\)"),
        (Variational(Prior(components=NormalWishart(pseudo_rows=0))), ValueError, "pseudo_rows is 0.0; expected a pos"),
        (Posterior(Prior(components=NormalWishart(degrees=1.0))), ValueError, "degrees is 1.0; expected more than 1"),
        (Posterior(Prior(components=NormalWishart([1.0]))), ValueError, r"mean has shape \(1,\); expected \(2,\)"),
        (Posterior(Prior(components=NormalWishart(scatter=-1.0))), ValueError, "scatter is not positive definite"),
        (Posterior(Prior(components=NormalWishart(scatter=[1.0]))), ValueError, r"scatter has shape \(1,\); expected"),
    ],
)
def test_what_is_no_prior(objective, error, message):
    with pytest.raises(error, match=message):
        jaxgmm.fit(CASES[0].mixture(), data(), objective=objective)


@pytest.mark.parametrize("objective", [Posterior(), Variational()])
def test_components_that_the_prior_does_not_know(objective):
    case = CASES[-1]
    with pytest.raises(NotImplementedError, match="Poisson components have no means and covariances"):
        jaxgmm.fit_restarts(KEY, case.data(), 3, **case.options, objective=objective)
    with pytest.raises(NotImplementedError, match="Poisson components have no means and covariances"):
        jaxgmm.fit(case.mixture(), case.data(), objective=objective)
