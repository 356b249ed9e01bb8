"""Families of one column each, and products of families: laws of all of them, on rows that are whole, or have gaps."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import jaxgmm
from jaxgmm import Status
from jaxgmm.ground.known import in_patterns
from jaxgmm.model.init import standard, viewed
from jaxgmm.model.objective import within_data

from cases import KINDS
from compilations import counted
from tolerance import assert_close, dtype, once, tolerance

KEY = jax.random.key(11)
N = 400
COUNTS = {"poisson", "negative binomial", "bernoulli", "categorical", "multinomial"}


@pytest.fixture(params=KINDS, ids=lambda case: case.name)
def case(request):
    return request.param


def start(case, x):
    """On the way from what the rows say of themselves to even shares."""
    shares = 0.5 * case.mixture().responsibilities(x) + 0.5 / 3
    return jaxgmm.from_responsibilities(x, shares, case.options["form"])


def gaps(x):
    return np.random.default_rng(2).random(x.shape) < 0.15


def in_part(case):
    return case.name != "multinomial"


def values_of(case, size):
    """Every value of a column, or values that are close, and the length that each stands for."""
    if case.name in ("poisson", "negative binomial"):
        return np.arange(400.0), np.ones(400)
    if case.name in ("bernoulli", "categorical"):
        n = 2 if case.name == "bernoulli" else 3
        return np.arange(float(n)), np.ones(n)
    if case.name == "von mises":
        line = np.linspace(-np.pi, np.pi, size, endpoint=False)
        return line, np.full(size, 2 * np.pi / size)
    if case.name == "beta":
        edges = scipy.special.expit(np.linspace(-30, 30, size + 1))
    else:
        edges = np.exp(np.linspace(-20, 10, size + 1))
    return (edges[1:] + edges[:-1]) / 2, np.diff(edges)


def test_densities_sum_to_one(case):
    if case.name in ("multinomial", "product"):
        pytest.skip("rows of more columns than two; parts have their own")
    line, lengths = values_of(case, 700)
    points = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)
    density = np.exp(np.asarray(case.mixture().components.log_prob(jnp.asarray(points)), np.float64))
    total = np.outer(lengths, lengths).ravel() @ density
    np.testing.assert_allclose(total, 1, atol=3e-3)


def reference(name, parts, x):
    """Log-densities (n, k) as scipy has them."""
    p = {field.name: np.asarray(getattr(parts, field.name), np.float64)[:, None] for field in dataclasses.fields(parts)}
    x = np.asarray(x, np.float64)
    stats = scipy.stats
    found = {
        "poisson": lambda: stats.poisson(p["means"]).logpmf(x),
        "negative binomial": lambda: stats.nbinom(p["sizes"], p["sizes"] / (p["sizes"] + p["means"])).logpmf(x),
        "bernoulli": lambda: stats.bernoulli(scipy.special.expit(p["logits"])).logpmf(x),
        "exponential": lambda: stats.expon(scale=p["means"]).logpdf(x),
        "gamma": lambda: stats.gamma(p["shapes"], scale=p["means"] / p["shapes"]).logpdf(x),
        "beta": lambda: stats.beta(p["alphas"], p["betas"]).logpdf(x),
        "von mises": lambda: stats.vonmises(p["concentrations"], loc=p["directions"]).logpdf(x),
    }
    return found[name]().sum(axis=2).T


def test_densities_are_those_of_scipy(case):
    x = case.data(100)
    parts = case.mixture().components
    found = parts.log_prob(x)
    if case.name == "categorical":
        logs = np.asarray(parts.log_probabilities, np.float64)
        expected = np.stack([logs[:, j, np.asarray(x[:, j], int)] for j in range(2)]).sum(axis=0).T
    elif case.name == "multinomial":
        shares = np.exp(np.asarray(parts.log_probabilities, np.float64))
        shares /= shares.sum(axis=1, keepdims=True)
        rows = np.asarray(x, np.float64)
        expected = np.stack([scipy.stats.multinomial.logpmf(rows, rows.sum(axis=1).astype(int), p) for p in shares], 1)
    elif case.name == "log-normal":
        logs = np.log(np.asarray(x, np.float64))
        expected = np.stack(
            [
                scipy.stats.multivariate_normal(mean, cov).logpdf(logs)
                for mean, cov in zip(np.asarray(parts.logs.means), np.asarray(parts.logs.covariances), strict=True)
            ],
            axis=1,
        ) - logs.sum(axis=1, keepdims=True)
    elif case.name == "product":
        expected = sum(part.log_prob(x[:, np.array(of)]) for part, of in zip(parts.parts, parts.columns, strict=True))
    else:
        expected = reference(case.name, parts, x)
    assert_close(found, expected, "close", scale=float(np.max(np.abs(expected))))


@once
def test_large_numbers_keep_their_digits():
    """In float32, where the terms of a log-density are millions, and it is a few."""
    with jax.enable_x64(True):
        big = np.float64(1e6) + np.array([[-900.0], [0.0], [1500.0]])
        shares = 0.3 + np.array([[-2e-3], [0.0], [1e-3]])
        cases = [
            (jaxgmm.Poisson, (np.array([[1e6]]),), big),
            (jaxgmm.NegativeBinomial, (np.array([[1e6]]), np.array([[3e6]])), big),
            (jaxgmm.Gamma, (np.array([[1e6]]), np.array([[2e6]])), big),
            (jaxgmm.Beta, (np.array([[3e4]]), np.array([[7e4]])), shares),
            (jaxgmm.Multinomial, (np.log([[0.2, 0.3, 0.5], [0.25, 0.25, 0.5]]),), 1e6 * np.array([[0.2, 0.3, 0.5]])),
            (jaxgmm.VonMises, (np.array([[1.0]]), np.array([[1e6]])), 1 + np.array([[-2e-3], [0.0], [1e-3]])),
        ]
        # Of the rows and parameters as float32 has them.
        cases = [(family, *jax.tree.map(np.float32, (numbers, x))) for family, numbers, x in cases]
        wide = [np.asarray(family(*map(jnp.float64, numbers)).log_prob(jnp.float64(x))) for family, numbers, x in cases]
    for (family, numbers, x), expected in zip(cases, wide, strict=True):
        found = family(*map(jnp.float32, numbers)).log_prob(jnp.float32(x))
        # Shares sum to one but for a rounding, of which each count of a long row has its part.
        allowed = 1e6 * np.finfo(np.float32).eps if family is jaxgmm.Multinomial else 0.01
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=allowed, err_msg=family.__name__)


def test_statistics_of_two_halves_add_up(case):
    mixture, x = case.mixture(), case.data(N)
    for given in (jaxgmm.rows(x), *([jaxgmm.rows(x, missing=gaps(x))] if in_part(case) else [])):
        part = [jax.tree.map(lambda leaf: leaf[:150], given), jax.tree.map(lambda leaf: leaf[150:], given)]
        part = [dataclasses.replace(one, patterns=None) for one in part]
        whole = jaxgmm.e_step(mixture, given)
        halves = jaxgmm.e_step(mixture, part[0]) + jaxgmm.e_step(mixture, part[1])
        jax.tree.map(lambda a, b: assert_close(a, b, "close", scale=float(jnp.max(jnp.abs(b)) + 1)), halves, whole)


@pytest.mark.parametrize("kind", ["plain", "gaps", "labels"])
def test_steps_climb_to_where_the_gradient_is_zero(case, kind):
    if kind == "gaps" and not in_part(case):
        pytest.skip("of a part of a row of counts the total is not known")
    x = case.data(N)
    labels = np.where(np.arange(N) % 5 == 0, np.asarray(case.mixture().predict(x)), -1)
    rows = {
        "plain": lambda: jaxgmm.rows(x),
        "gaps": lambda: jaxgmm.rows(x, missing=gaps(x)),
        "labels": lambda: jaxgmm.rows(x, labels=labels),
    }[kind]()
    mixture, scale, reached = start(case, x), jaxgmm.scale_of(rows), []
    step = jax.jit(lambda mixture: jaxgmm.m_step(mixture, jaxgmm.e_step(mixture, rows), scale))
    likelihood = jax.jit(lambda mixture: jaxgmm.log_likelihood(mixture, rows))
    for _ in range(30):
        reached.append(float(likelihood(mixture)))
        mixture = step(mixture)
    size = abs(reached[-1])
    assert np.all(np.diff(reached) >= -tolerance("close") * size)
    end = jaxgmm.fit(mixture, rows, tol=0, max_iter=3000)
    assert end.status == Status.CONVERGED
    assert float(end.log_likelihood) >= reached[-1] - tolerance("close") * size
    if dtype() is np.float64:
        free = end.mixture.unconstrain()
        slopes = jax.grad(lambda free: jaxgmm.log_likelihood(free.constrain(), rows))(free).coordinates
        slopes = {name: slope for name, slope in slopes.items() if not name.endswith("unit")}
        for name, slope in slopes.items():
            assert np.max(np.abs(slope)) < 1e-5 * N, name


def test_gaps_leave_the_density_of_what_is_seen(case):
    if not in_part(case):
        with pytest.raises(NotImplementedError, match="Multinomial components have no densities of rows with gaps"):
            case.mixture().log_prob(jaxgmm.rows(case.data(5), missing=gaps(case.data(5))))
        return
    mixture, x = case.mixture(), case.data(60)
    d = x.shape[1]
    missing = np.zeros(x.shape, bool)
    missing[:20, 0] = missing[20:40, d - 1] = True
    found = mixture.log_prob(jaxgmm.rows(jnp.where(missing, jnp.nan, x), missing="nan"))
    for rows, kept in ((slice(0, 20), range(1, d)), (slice(20, 40), range(d - 1)), (slice(40, 60), range(d))):
        seen = mixture.marginal(list(kept))
        assert_close(found[rows], seen.log_prob(x[rows][:, np.array(list(kept))]), "close", scale=10)
    rows = jaxgmm.rows(x, missing=missing)
    if case.name in ("categorical", "product", "von mises"):
        with pytest.raises(NotImplementedError, match=r"(Categorical|VonMises) components have no means"):
            jaxgmm.impute(mixture, rows)
        return
    given = jaxgmm.impute(mixture, rows)
    np.testing.assert_array_equal(np.asarray(given)[~missing], np.asarray(x)[~missing])
    assert np.all(np.isfinite(given))


def test_what_is_not_seen_is_drawn_as_it_is(case):
    """Together with what is seen: as rows that are drawn whole."""
    if not in_part(case):
        return
    mixture = case.mixture()
    x = np.asarray(mixture.sample(KEY, 8000))
    missing = np.zeros(x.shape, bool)
    missing[:, 0] = True
    rows = jaxgmm.rows(np.where(missing, np.nan, x), missing="nan")
    drawn = np.asarray(jaxgmm.sample_missing(jax.random.key(2), mixture, rows))
    np.testing.assert_array_equal(drawn[:, 1:], x[:, 1:])
    for low in (True, False):
        among = (x[:, 1] < np.mean(x[:, 1])) == low
        for of in (np.cos, np.sin, lambda values: values == np.median(x[:, 0]), lambda v: v > np.median(x[:, 0])):
            found, expected = (of(values[among, 0]) for values in (drawn, x))
            assert abs(found.mean() - expected.mean()) < 5 * np.sqrt(2 * (expected.var() + 1e-3) / among.sum())


def test_conditioning_reweighs_by_what_is_known(case):
    if case.name == "multinomial":
        with pytest.raises(NotImplementedError, match="no marginal"):
            case.mixture().marginal([0])
        return
    mixture, x = case.mixture(), case.data(5)
    d = x.shape[1]
    for row in np.asarray(x):
        given = mixture.condition([d - 1], row[d - 1 :])
        whole = mixture.log_prob(row[None])[0]
        known = mixture.marginal([d - 1]).log_prob(row[None, d - 1 :])[0]
        assert_close(given.log_prob(row[None, : d - 1])[0], whole - known, "close", scale=10)


def test_free_coordinates_and_files(case, tmp_path):
    mixture = case.mixture()
    back = mixture.unconstrain().constrain()
    jax.tree.map(lambda a, b: assert_close(a, b, "close", scale=float(jnp.max(jnp.abs(b)))), back, mixture)
    jaxgmm.save(tmp_path / "m.npz", mixture)
    loaded = jaxgmm.load(tmp_path / "m.npz")
    assert jax.tree.structure(loaded) == jax.tree.structure(mixture)
    jax.tree.map(np.testing.assert_array_equal, loaded, mixture)


def test_draws_have_the_moments(case):
    if case.name == "multinomial":
        with pytest.raises(NotImplementedError, match="do not model the totals"):
            case.mixture().sample(KEY, 3)
        return
    mixture = case.mixture()
    x, labels = map(np.asarray, mixture.sample_with_labels(KEY, 6000))
    for k in range(3):
        rows = x[labels == k]
        if case.name == "categorical":
            shares = np.stack([[np.mean(rows[:, j] == level) for level in range(3)] for j in range(2)])
            np.testing.assert_allclose(shares, mixture.components.probabilities[k], atol=0.06)
            continue
        if case.name == "von mises":
            rows = np.asarray(mixture.means[k]) + np.angle(np.exp(1j * (rows - np.asarray(mixture.means[k]))))
        if case.name == "product":
            rows = rows[:, [0, 2, 3]]
            means, deviations = (np.asarray(part.components.centers)[k, [0, 2, 3]] for part in (mixture, mixture))
            deviations = np.sqrt(np.asarray(mixture.components.variances())[k, [0, 2, 3]])
        else:
            means, deviations = np.asarray(mixture.means[k]), np.sqrt(np.asarray(mixture.components.variances()[k]))
        # Five standard errors, of which tails take more.
        np.testing.assert_array_less(np.abs(rows.mean(axis=0) - means), 6 * deviations / np.sqrt(len(rows)) + 1e-6)


def test_restarts_find_the_components(case):
    x = case.data(1200)
    found = jaxgmm.fit_restarts(KEY, x, 3, case.options["form"], n_restarts=4).best
    assert found.status == Status.CONVERGED
    reached = jaxgmm.fit(case.mixture(), x).log_likelihood
    assert float(found.log_likelihood) > float(reached) - 0.5
    assert jaxgmm.bic(found.mixture, x) < jaxgmm.bic(
        jaxgmm.fit(jaxgmm.init(KEY, x, 1, case.options["form"]), x).mixture, x
    )


def test_statistics_move_to_another_mixture(case):
    """Responsibilities are of one mixture, places of another: the M-step is the same."""
    mixture, x = case.mixture(), case.data(N)
    other = jaxgmm.m_step(mixture, jaxgmm.e_step(mixture, x[100:300]), jaxgmm.scale_of(x))
    early = jaxgmm.e_step(mixture, x)
    scale = jaxgmm.scale_of(x)
    moved = jaxgmm.m_step(other, early.recentred(mixture, other), scale)
    stayed = jaxgmm.m_step(mixture, early, scale)
    jax.tree.map(lambda a, b: assert_close(a, b, "converged", scale=float(jnp.max(jnp.abs(b)))), moved, stayed)


def test_lanes_are_fits(case):
    x = case.data(120)
    xs = jnp.stack([x, x[::-1]])
    fit = functools.partial(jaxgmm.fit, start(case, x), max_iter=20)
    together, alone = jax.vmap(fit)(xs), fit(x)
    assert_close(together.log_likelihood[0], alone.log_likelihood, "close", scale=abs(float(alone.log_likelihood)))
    with counted() as compiled:
        fit(x[::-1])
    assert not compiled


WRONG = {
    "poisson": (2.5, "counts: whole numbers from 0"),
    "negative binomial": (-1.0, "counts: whole numbers from 0"),
    "bernoulli": (2.0, "0 and 1"),
    "categorical": (3.0, "whole numbers from 0 to 2"),
    "exponential": (-0.5, "not negative"),
    "gamma": (0.0, "positive numbers"),
    "log-normal": (-2.0, "positive numbers"),
    "beta": (1.0, "between 0 and 1"),
    "multinomial": (0.5, "counts: whole numbers from 0"),
}


@once
@pytest.mark.parametrize("name", WRONG)
def test_what_rows_cannot_hold_is_named(name):
    case = next(case for case in KINDS if case.name == name)
    value, words = WRONG[name]
    x = np.array(case.data(40))
    x[7, 1] = x[9, 1] = value
    message = rf"x holds {value:g} in row 7, column 1, and 1 more entries like it; .*{words}"
    form = case.options["form"]
    for call in (
        lambda: jaxgmm.init(KEY, x, 2, form),
        lambda: jaxgmm.fit(case.mixture(), x),
        lambda: case.mixture().log_prob(x),
        lambda: jaxgmm.fit_restarts(KEY, x, 2, form, n_restarts=1),
        lambda: jaxgmm.select(KEY, x, [1, 2], form, n_restarts=1),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    weights = np.ones(40)
    weights[[7, 9]] = 0
    jaxgmm.fit(case.mixture(), x, weights, max_iter=1)
    # The advice that it gives.
    if in_part(case):
        x[[7, 9], 1] = np.nan
        jaxgmm.fit(case.mixture(), jaxgmm.rows(x, missing="nan"), max_iter=1)
    impossible = jax.jit(lambda x: case.mixture().log_prob(x))(jnp.where(jnp.isnan(x), value, x))
    assert np.all(impossible[jnp.array([7, 9])] == -np.inf)
    x = np.array(case.data(40))
    x[7, 1] = value
    others = {"n_restarts": 1, "outliers": "keep"}
    for call in (
        lambda: jaxgmm.fit_batches(case.mixture(), x, max_iter=1),
        lambda: jaxgmm.fit_online(case.mixture(), x),
        lambda: jaxgmm.fit_many(KEY, x[None], 2, form, n_restarts=1),
        lambda: jaxgmm.select_many(KEY, [np.array(case.data(40)), x], [2], form, **others),
    ):
        with pytest.raises(ValueError, match=rf"holds {value:g} in row \d+, column 1; .*{words}"):
            call()


@once
def test_a_table_of_latent_classes():
    """Role conflict among 216 students: the fit that Goodman (1974), Biometrika 61, and poLCA's manual report."""
    counts = [42, 23, 6, 25, 6, 24, 7, 38, 1, 4, 1, 6, 2, 9, 2, 20]
    answers = np.array(list(itertools.product([0.0, 1.0], repeat=4)))
    weights = np.array(counts, float)
    for form in (jaxgmm.Bernoulli.form(), jaxgmm.Categorical.form(2)):
        options = {"weights": weights, "n_restarts": 8, "regularization": 0}
        found = jaxgmm.fit_restarts(KEY, answers, 2, form, **options).best
        assert abs(float(found.log_likelihood) + 504.4677) < 1e-3
        assert found.mixture.n_parameters == 9
        np.testing.assert_allclose(np.sort(np.asarray(found.mixture.weights)), [0.279, 0.721], atol=2e-3)


@once
def test_a_table_of_counts():
    """Deaths of women over 80 by day in The Times, 1910 to 1912: the fit that Hasselblad (1969), JASA 64, reports."""
    weights = np.array([162, 267, 271, 185, 111, 61, 27, 8, 3, 1.0])
    options = {"weights": weights, "n_restarts": 4}
    found = jaxgmm.fit_restarts(KEY, np.arange(10.0)[:, None], 2, jaxgmm.Poisson.form(), **options).best
    assert abs(float(found.log_likelihood) + 1989.946) < 2e-3
    mixture = found.mixture.sorted()
    np.testing.assert_allclose(mixture.weights, [0.640, 0.360], atol=2e-3)
    np.testing.assert_allclose(mixture.means[:, 0], [2.663, 1.256], atol=4e-3)


@once
def test_too_many_zeros_are_a_component():
    random = np.random.default_rng(0)
    x = np.where(random.random((2000, 1)) < 0.3, 0, random.poisson(4, (2000, 1))).astype(float)
    found = jaxgmm.fit_restarts(KEY, x, 2, jaxgmm.Poisson.form(), n_restarts=4).best
    assert found.status == Status.CONVERGED
    mixture = found.mixture.sorted()
    np.testing.assert_allclose(mixture.weights, [0.7, 0.3], atol=0.03)
    np.testing.assert_allclose(mixture.means[:, 0], [4, 0], atol=0.15)


@once
def test_forms_say_what_they_are_of():
    mixed = jaxgmm.Product.form({(0, 2): "diag", 1: jaxgmm.Categorical.form(3)})
    assert str(mixed) == "Product((0, 2): diag, 1: Categorical(levels=3))"
    assert mixed == jaxgmm.Product.form({(0, 2): jaxgmm.Gaussian.form("diag"), (1,): jaxgmm.Categorical.form(3)})
    assert str(mixed.of_columns([1, 2])) == "Product(1: diag, 0: Categorical(levels=3))"
    assert str(jaxgmm.Categorical.form([2, 3, 2])) == "Product((0, 2): Categorical(levels=2), 1: Categorical(levels=3))"
    assert jaxgmm.Categorical.form((3, 3)) == jaxgmm.Categorical.form(3)
    for parts, error, message in (
        ({1: "full"}, ValueError, r"parts are of the columns \[1\]; expected each of \[0, 1\] once"),
        ({0: "full", (0, 1): "diag"}, ValueError, r"columns \[0, 0, 1\]"),
        ([1], TypeError, "parts is .*; expected a mapping from columns to forms"),
        ({0: jaxgmm.with_noise("full")}, ValueError, "has a noise component; expected noise behind all parts"),
        ({"age": "full"}, TypeError, "columns is 'age'; expected a whole number"),
    ):
        with pytest.raises(error, match=message):
            jaxgmm.Product.form(parts)
    for levels in (1, 2.5, None, (2, "x")):
        with pytest.raises((TypeError, ValueError), match="levels is"):
            jaxgmm.Categorical.form(levels)
    with pytest.raises(ValueError, match="parts are of 2 columns, and the rows have 3"):
        jaxgmm.init(KEY, np.zeros((9, 3)), 2, jaxgmm.Product.form({0: "full", 1: "full"}))
    x = np.array(KINDS[3].data(20))
    with pytest.raises(NotImplementedError, match="no means and no covariances, as their codes stand for names"):
        assert KINDS[3].mixture().means is None
    x[3] = [2, 5]
    with pytest.raises(ValueError, match=r"x holds 5 in row 3, column 1; .* whole numbers from 0 to 2"):
        jaxgmm.init(KEY, x, 2, jaxgmm.Product.form({0: "full", 1: jaxgmm.Categorical.form(3)}))


@once
def test_columns_that_do_not_vary_are_left_out_of_products():
    case = KINDS[-1]
    x = np.array(case.data(300))
    x[:, 2] = 3
    found = jaxgmm.select(KEY, x, [3], case.options["form"], n_restarts=2)
    assert found.constants == {2: 3.0}
    assert found.best.mixture.components.columns == ((0,), (1,), (2,))
    many = jaxgmm.select_many(KEY, [x, np.array(case.data(300))], [3], case.options["form"], n_restarts=2)
    assert "is constant in column 2, and a form names columns" in many.status[0]
    assert many.status[1] == "CONVERGED"


@once
def test_components_are_matched(case):
    mixture = case.mixture()
    turned = mixture.take([2, 0, 1])
    np.testing.assert_allclose(jaxgmm.align(turned, mixture).weights, mixture.weights, rtol=1e-6)


@pytest.mark.parametrize("name", ["poisson", "negative binomial", "exponential", "gamma", "log-normal", "von mises"])
def test_gradients_are_finite_far_out(name):
    mixture = next(case for case in KINDS if case.name == name).mixture()

    @jax.jit
    def gradients(x):
        def total(free, x):
            mixture = free.constrain()
            return jnp.sum(mixture.log_prob(x)) + jnp.sum(mixture.entropy(x))

        return jax.grad(total, argnums=(0, 1))(mixture.unconstrain(), x)

    for size in (1e-15, 1.0, 1e3, 1e15, 1e30):
        x = size * jnp.array([[1.0, 2.0], [3.0, 1.0]])
        x = jnp.round(x) if name in COUNTS else x
        for path, leaf in jax.tree.leaves_with_path(gradients(x)):
            assert np.all(np.isfinite(leaf)), (size, jax.tree_util.keystr(path))


@pytest.mark.parametrize("size", [1e2, 1e4, 1e6])
@pytest.mark.parametrize("mean", [0.01, 0.3])
def test_narrow_shares_are_estimated_at_once(size, mean):
    """The M-step is the maximum, from wherever it starts, as far as digits of sums about another place go."""
    truth = jaxgmm.Mixture(jnp.zeros(1), jaxgmm.Beta(_one(mean * size), _one((1 - mean) * size)))
    x = jnp.clip(truth.sample(KEY, 4000), 1e-6, 1 - 1e-6)
    for start in (truth, jaxgmm.Mixture(jnp.zeros(1), jaxgmm.Beta(_one(1.0), _one(2.0)))):
        stepped = start
        for _ in range(1 if dtype() is np.float64 else 2):
            stepped = jaxgmm.m_step(stepped, jaxgmm.e_step(stepped, x), jaxgmm.scale_of(x), 0)
        least = float(jaxgmm.log_likelihood(truth, x)) - tolerance("close") * 4e4
        assert float(jaxgmm.log_likelihood(stepped, x)) >= least
        # Four standard errors of the logarithm of a precision.
        found = stepped.components
        assert abs(np.log(float(found.alphas[0, 0] + found.betas[0, 0]) / size)) < 4 * np.sqrt(2 / 4000)


@pytest.mark.parametrize("mean", [0.3, 0.01, 0.97])
@pytest.mark.parametrize("narrow", [1e-2, 1e-3])
def test_narrow_shares_are_found_from_the_start(mean, narrow):
    """Though components are blank far from them at first, and sums about those places lack digits."""
    deviation = narrow * min(mean, 1 - mean)
    x = np.random.default_rng(1).normal(mean, deviation, (2000, 1)).astype(dtype())
    found = jaxgmm.fit(jaxgmm.init(KEY, x, 1, jaxgmm.Beta.form()), x)
    total = mean * (1 - mean) / deviation**2 - 1
    expected = scipy.stats.beta(mean * total, (1 - mean) * total).logpdf(x.astype(float)).sum()
    assert float(found.log_likelihood) > expected - 0.1
    assert float(found.log_likelihood) < expected + 10


def test_rows_without_any_spread_are_told():
    """By the floor where numbers are measured, in words and with a likelihood that is one."""
    for case in KINDS:
        x = np.repeat(np.asarray(case.data(3))[:1], 50, axis=0)
        found = jaxgmm.fit(jaxgmm.init(KEY, x, 1, case.options["form"]), x)
        expected = Status.CONVERGED if case.name in COUNTS | {"exponential"} else Status.DEGENERATE
        assert found.status == expected, case.name
        assert -400 * x.shape[1] < float(found.log_likelihood) < 1e4, case.name
    for share in (1e-6, 0.3, 0.7, 0.999):
        x = np.full((50, 1), share)
        found = jaxgmm.fit(jaxgmm.init(KEY, x, 1, jaxgmm.Beta.form()), x)
        assert found.status == Status.DEGENERATE
        assert float(found.log_likelihood) > 500


@pytest.mark.parametrize(
    ("mean", "size"), [(3, 0.5), (3, 50), (1e3, 20), (1e3, 1e4), (1e6, 10), (1e6, 1e5), (1e6, 1e9)]
)
def test_counts_of_any_size_vary_as_they_do(mean, size):
    random = np.random.default_rng(1)
    x = random.poisson(random.gamma(size, mean / size, (2000, 1))).astype(dtype())
    found = jaxgmm.fit(jaxgmm.init(KEY, x, 1, jaxgmm.NegativeBinomial.form()), x)
    assert found.status == Status.CONVERGED
    truth = scipy.stats.nbinom(size, size / (size + mean)).logpmf(x.astype(float)).sum()
    # What two parameters gain, by chance, over the truth.
    assert -0.1 < float(found.log_likelihood) - truth < 8


def _one(value):
    return jnp.full((1, 1), value)


def test_rates_of_other_sizes_stay():
    """What is the least rate is no matter of how far the column spreads."""
    truth = jaxgmm.Mixture(jnp.log(jnp.array([0.5, 0.5])), jaxgmm.Poisson(jnp.array([[0.2], [8000.0]])))
    x = truth.sample(KEY, 1000)
    for components in (truth.components, jaxgmm.NegativeBinomial(truth.means, jnp.full((2, 1), 50.0))):
        found = jaxgmm.fit(jaxgmm.Mixture(truth.log_weights, components), x)
        np.testing.assert_allclose(found.mixture.means[:, 0], [0.2, 8000], rtol=0.2)


@once
def test_codes_are_names():
    """Which of them stand for what changes nothing."""
    x = np.random.default_rng(0).choice([0.0, 99.0], (500, 2), p=[0.6, 0.4])
    other = np.where(x == 99, 1, x)
    found = []
    for rows, codes in ((x, [0, 99]), (other, [0, 1])):
        mixture = jaxgmm.init(KEY, rows, 1, jaxgmm.Categorical.form(100))
        found.append(np.asarray(mixture.components.probabilities)[0][:, codes])
        assert abs(found[-1].sum(axis=1) - 1).max() < 1e-5
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_no_probability_is_no_nan():
    x = jnp.array([[0.0, 2.0], [1.0, 0.0]])
    logs = jnp.log(jnp.array([[[1.0, 0.0, 0.0], [0.2, 0.3, 0.5]]]))
    np.testing.assert_allclose(jaxgmm.Categorical(logs).log_prob(x)[0, 0], np.log(0.5), rtol=1e-5)
    seen = jaxgmm.Mixture(jnp.zeros(1), jaxgmm.Categorical(logs)).log_prob(x)
    assert np.isneginf(seen[1])
    long = jaxgmm.Multinomial(jnp.log(jnp.array([[1.0, 0.0], [0.5, 0.5]])))
    found = long.log_prob(jnp.array([[3.0, 0.0], [2.0, 1.0]]))
    np.testing.assert_allclose(found[0], [0, 3 * np.log(0.5)], atol=1e-5)
    assert found[1, 0] < -1e30


@once
def test_seedings_see_rows_as_they_are():
    """To the last bit, far from 0 and beside columns of any scale."""
    x = np.random.default_rng(0).integers(0, 5, (300, 3)).astype(np.float32)
    x = np.where(np.random.default_rng(1).random(x.shape) < 0.1, np.nan, x)
    rows = jaxgmm.rows(x, missing="nan")
    gapless, columns = jax.jit(standard)(rows)
    seen = viewed(columns, gapless.x, jaxgmm.Categorical.form(5))
    distance = np.asarray(seen.z).reshape(300, 3, 5)
    there = ~np.isnan(x)
    # Rows of one level are in one place, and those of two are apart.
    for column in range(3):
        places = [distance[there[:, column] & (x[:, column] == level), column] for level in range(5)]
        assert all(np.ptp(place, axis=0).max() < 1e-6 for place in places)
        assert min(np.abs(places[i][0] - places[j][0]).max() for i in range(5) for j in range(i)) > 0.5
    assert np.all(distance[~there] == 0)


@once
@pytest.mark.parametrize("name", ["log-normal", "product", "gamma"])
def test_blocks_of_one_pattern_are_rows_alone(name):
    case = next(case for case in KINDS if case.name == name)
    x = np.array(case.data(1200), np.float64)
    missing = np.zeros(x.shape, bool)
    missing[:500, 0] = missing[900:, 1] = True
    alone = jaxgmm.rows(x, missing=missing)
    mixture, rows = case.mixture(), in_patterns(alone)
    assert rows.patterns is not None
    found, expected = (jaxgmm.e_step(mixture, given) for given in (rows, alone))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-2), found, expected)
    np.testing.assert_allclose(mixture.log_prob(rows), mixture.log_prob(alone), rtol=1e-4, atol=1e-4)


@once
def test_probabilities_stay_at_the_floor_and_the_rest_goes_on():
    """A leap below it is put back, and does not end a fit."""
    random = np.random.default_rng(0)
    kinds = random.integers(2, size=800)
    shares = np.array([[0.9, 0.8, 0.7, 0.0, 0.3], [0.2, 0.3, 0.1, 0.5, 0.4]])
    x = (random.random((800, 5)) < shares[kinds]).astype(float)
    for seed in range(3):
        found = jaxgmm.fit(jaxgmm.init(jax.random.key(seed), x, 2, jaxgmm.Bernoulli.form()), x, tol=0)
        logits = np.abs(np.asarray(found.mixture.components.logits, float))
        assert logits.max() <= np.log(2e6) + 1e-3
        again = jaxgmm.fit(found.mixture, x, tol=0, acceleration=None)
        assert float(again.log_likelihood) - float(found.log_likelihood) < 1e-2


PRIORS = {
    "poisson": jaxgmm.PseudoRows(3.0, [2.0, 5.0]),
    "bernoulli": jaxgmm.PseudoRows(3.0),
    "categorical": jaxgmm.PseudoRows(3.0),
    "multinomial": jaxgmm.PseudoRows(3.0),
    "exponential": jaxgmm.PseudoRows(3.0),
    "product": jaxgmm.ProductPrior.of(
        {1: jaxgmm.PseudoRows(2.0), 3: jaxgmm.PseudoRows(), (0, 2): jaxgmm.NormalWishart()}
    ),
}


@pytest.mark.parametrize("name", PRIORS)
def test_modes_are_where_the_posterior_is_flat(name):
    """And each step climbs to there, whatever is known of the rows."""
    case = next(case for case in KINDS if case.name == name)
    x = case.data(60)
    rows = jaxgmm.rows(x, np.linspace(0, 2, 60), missing=gaps(x) if in_part(case) else "error")
    objective = jaxgmm.Posterior(jaxgmm.Prior(jaxgmm.Dirichlet(2.0), PRIORS[name]))
    begin = start(case, x)
    options = {"objective": objective, "tol": 0, "acceleration": None, "history_size": 40}
    reached = np.asarray(jaxgmm.fit(begin, rows, max_iter=40, **options).history)
    reached = reached[np.isfinite(reached)]
    assert np.all(np.diff(reached) >= -tolerance("close") * np.abs(reached[-1]))
    end = jaxgmm.fit(begin, rows, max_iter=3000, objective=objective, tol=0)
    assert end.status == Status.CONVERGED
    assert float(end.objective) >= reached[-1] - tolerance("close") * 100
    if dtype() is not np.float64:
        return
    settled = within_data(objective.checked(3, x.shape[1], x.dtype), rows, None, jnp.ones(3, bool))

    def total(free):
        mixture = free.constrain()
        return jaxgmm.log_likelihood(mixture, rows) + settled.penalty(mixture)

    assert_close(total(end.mixture.unconstrain()), end.objective, "close", scale=100)
    for slope in jax.tree.leaves(jax.grad(total)(end.mixture.unconstrain())):
        assert np.max(np.abs(slope)) < 1e-4


def test_pseudo_rows_are_rows():
    """A component of one cluster is as with so many rows more, which no component loses."""
    x = np.array([[1.0, 2.0], [1.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    everyone = np.ones((4, 1))

    def mode(form, **prior):
        objective = jaxgmm.Posterior(jaxgmm.Prior(components=jaxgmm.PseudoRows(**prior)))
        return jaxgmm.fit(jaxgmm.from_responsibilities(x, everyone, form), x, objective=objective).mixture.components

    shares = mode(jaxgmm.Categorical.form(3), rows=2.0).probabilities[0]
    np.testing.assert_allclose(shares, (np.array([[0, 4, 0], [1, 2, 1]]) + 2 / 3) / 6, rtol=1e-5)
    np.testing.assert_allclose(mode(jaxgmm.Poisson.form(), rows=4.0, mean=[3.0, 1.0]).means, [[2, 1]], rtol=1e-5)
    np.testing.assert_allclose(mode(jaxgmm.Exponential.form(), rows=4.0, mean=[3.0, 1.0]).means, [[2, 1]], rtol=1e-5)
    long = mode(jaxgmm.Multinomial.form(), rows=2.0).probabilities[0]
    np.testing.assert_allclose(long, [5 / 10, 5 / 10], rtol=1e-5)
    x = (x > 0).astype(float)
    np.testing.assert_allclose(mode(jaxgmm.Bernoulli.form(), rows=2.0).means, [[5 / 6, 4 / 6]], rtol=1e-5)


@once
def test_priors_that_do_not_suit_are_refused():
    x = np.ones((9, 2))
    for form, components, error, message in (
        (jaxgmm.Gamma.form(), jaxgmm.PseudoRows(), NotImplementedError, "Gamma components have no conjugate prior"),
        (
            "full",
            jaxgmm.PseudoRows(),
            NotImplementedError,
            "Gaussian components have no conjugate prior for PseudoRows",
        ),
        (jaxgmm.Poisson.form(), jaxgmm.NormalWishart(), NotImplementedError, r"components=jaxgmm.PseudoRows\(\)\)"),
        (jaxgmm.Poisson.form(), jaxgmm.PseudoRows(0.0), ValueError, "rows is 0.0; expected a positive number"),
        (jaxgmm.Poisson.form(), jaxgmm.ProductPrior.of({0: jaxgmm.PseudoRows()}), ValueError, "each of the 2 once"),
        (
            jaxgmm.Poisson.form(),
            jaxgmm.ProductPrior.of({0: jaxgmm.PseudoRows(), 1: jaxgmm.PseudoRows()}),
            ValueError,
            "Poisson components have the parts none; expected a prior of each part",
        ),
    ):
        start = jaxgmm.from_responsibilities(x, np.ones((9, 1)), form)
        with pytest.raises(error, match=message):
            jaxgmm.fit(start, x, objective=jaxgmm.Posterior(jaxgmm.Prior(components=components)))
    start = jaxgmm.from_responsibilities(x, np.ones((9, 1)), jaxgmm.Poisson.form())
    with pytest.raises(NotImplementedError, match="expected Posterior with PseudoRows"):
        jaxgmm.fit(start, x, objective=jaxgmm.Variational(jaxgmm.Prior(components=jaxgmm.PseudoRows())))
    for wrong in (3, {}, {0: "full"}, {0: jaxgmm.PseudoRows}):
        with pytest.raises(TypeError, match=r"priors (is|holds)"):
            jaxgmm.ProductPrior.of(wrong)
