"""How sure the parameters of a fit are, by refits to the same rows in other weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.ground import draws
from jaxgmm.selection import uncertainty

from compilations import counted
from tolerance import assert_close, once

KEY = jax.random.key(0)
COUNTS = np.array([120, 60])


def blobs(seed=0):
    """Two groups that are far apart, of these sizes and standard deviations, in two columns."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.normal(size=(120, 2)), 40 + 2 * rng.normal(size=(60, 2))])


def start(x):
    """The mixture that two groups far apart have, without a search for it."""
    return jaxgmm.from_responsibilities(x, np.repeat(np.eye(2), COUNTS, axis=0), "full")


X = blobs()
FIT = jaxgmm.fit(start(X), X)


@once
@pytest.mark.parametrize("method", uncertainty.METHODS)
def test_standard_errors_and_intervals_are_those_of_groups_far_apart(method):
    """Of a group on its own: s / sqrt(m) of a mean, s / sqrt(2 m) of a standard deviation; binomial for a weight."""
    found = jaxgmm.bootstrap(KEY, X, FIT, n_bootstrap=800, method=method)
    assert found.n_failed == 0
    assert found.mixtures.means.shape == (800, 2, 2)
    groups = [X[:120], X[120:]]
    spread = np.array([group.std(axis=0) for group in groups])
    # Not of a Gaussian, but of the rows there are: the bootstrap knows no family.
    fourth = np.array([np.mean((group - group.mean(axis=0)) ** 4, axis=0) for group in groups])
    errors, size = found.standard_errors(), COUNTS[:, None]
    # The standard deviation of 800 draws is known to 2.5 percent, and what is left out is of order 1 / m.
    np.testing.assert_allclose(errors.means, spread / np.sqrt(size), rtol=0.11)
    expected = np.sqrt((fourth - spread**4) / size) / (2 * spread)
    np.testing.assert_allclose(errors.standard_deviations, expected, rtol=0.14)
    np.testing.assert_allclose(errors.weights, np.sqrt(2 / 9 / 180), rtol=0.11)
    variances = np.diagonal(errors.covariances, axis1=1, axis2=2)
    np.testing.assert_allclose(variances, np.sqrt((fourth - spread**4) / size), rtol=0.14)
    low, high = found.intervals(0.9).means
    np.testing.assert_allclose((high - low) / errors.means, 2 * 1.645, rtol=0.12)
    np.testing.assert_allclose((high + low) / 2, FIT.mixture.means, atol=0.3 * np.max(errors.means))


@once
def test_intervals_hold_the_truth_as_often_as_they_say():
    inside = []
    for seed in range(1, 41):
        x = blobs(seed)
        lower, upper = jaxgmm.bootstrap(KEY, x, start(x), n_bootstrap=96).intervals(0.8).means
        truth = np.array([[0.0], [40.0]])
        inside.append((lower < truth) & (truth < upper))
    # 160 means: the share has a standard deviation of 0.03.
    assert 0.7 < np.mean(inside) < 0.9


def test_components_come_in_the_order_of_the_reference():
    turned = dataclasses.replace(FIT, mixture=FIT.mixture.take([1, 0]))
    one, other = (jaxgmm.bootstrap(KEY, X, fit, n_bootstrap=20) for fit in (FIT, turned))
    assert_close(other.mixtures.means, np.asarray(one.mixtures.means)[:, ::-1], "converged")
    assert_close(other.intervals().covariances, np.asarray(one.intervals().covariances)[:, ::-1], "converged")


@once
def test_components_that_changed_places_on_the_way_are_put_back(monkeypatch):
    fitted = uncertainty.fit_from

    def restless(mixture, rows, **options):
        result = fitted(mixture, rows, **options)
        odd = jnp.sum(rows.weights * jnp.arange(rows.n)) % 2 >= 1
        places = jnp.where(odd, jnp.array([1, 0]), jnp.array([0, 1]))
        return dataclasses.replace(result, mixture=result.mixture.take(places))

    expected = jaxgmm.bootstrap(KEY, X[:-1], FIT, n_bootstrap=20)
    monkeypatch.setattr(uncertainty, "fit_from", restless)
    monkeypatch.setattr(uncertainty, "_CHUNK", 17)  # a program of its own
    found = jaxgmm.bootstrap(KEY, X[:-1], FIT, n_bootstrap=20)
    assert_close(found.mixtures.means, expected.mixtures.means, "converged")


def test_the_key_decides_and_nothing_compiles_again():
    first, elsewhere, other_key = jaxgmm.bootstrap(KEY, X, FIT, n_bootstrap=20), start(X), jax.random.key(1)
    jaxgmm.fit(elsewhere, X)  # what is refitted from a mixture is fitted first
    with counted() as again:
        longer = jaxgmm.bootstrap(KEY, X, FIT, n_bootstrap=37)
        other = jaxgmm.bootstrap(other_key, 3 * X, elsewhere, n_bootstrap=20, tol=1e-5, max_iter=50)
        by_weights = jaxgmm.bootstrap(KEY, X, FIT, n_bootstrap=20, method="weighted", weights=np.full(180, 2.0))
    assert again == []
    np.testing.assert_array_equal(longer.mixtures.means[:20], first.mixtures.means)
    np.testing.assert_array_equal(longer.log_likelihood[:20], first.log_likelihood)
    assert np.mean(np.asarray(other.mixtures.weights) == np.asarray(first.mixtures.weights)) < 0.5
    # As many rows again: errors of 1 / sqrt(2).
    narrower = by_weights.standard_errors().means / first.standard_errors().means
    assert 0.5 < np.median(narrower) < 0.95


def test_weights_count_rows():
    """Whatever the method: drawn weights add up to theirs, absent rows stay absent, and one of weight 2 is two rows."""
    weights = np.array([0.0, 3.0, 1.0, 2.0, 0.0])
    for draw in uncertainty.METHODS.values():
        drawn = draw(np.random.default_rng(0), weights, 4000)
        assert drawn.dtype == weights.dtype
        np.testing.assert_allclose(drawn.sum(axis=1), 6, rtol=1e-6)
        assert np.all(drawn[:, [0, 4]] == 0)
        np.testing.assert_allclose(drawn.mean(axis=0), weights, atol=0.1)
        variances = weights * (6 - weights) / 6
        ratio = drawn.var(axis=0)[1:4] / variances[1:4]
        assert np.all((ratio > 0.9 * ratio[0]) & (ratio < 1.1 * ratio[0]))
    assert np.all(uncertainty._dirichlet(np.random.default_rng(0), np.full(9, 1e-3, np.float32), 50) >= 0)


def test_refits_that_fail_take_no_part():
    found = jaxgmm.bootstrap(KEY, X, FIT, n_bootstrap=30)
    status = np.array(found.status)
    status[3], status[7] = jaxgmm.Status.NON_FINITE, jaxgmm.Status.DEGENERATE
    means = np.array(found.mixtures.means)
    means[[3, 7]] = np.nan
    components = dataclasses.replace(found.mixtures.components, means=jnp.asarray(means))
    some = dataclasses.replace(
        found, mixtures=dataclasses.replace(found.mixtures, components=components), status=jnp.asarray(status)
    )
    assert (found.n_failed, some.n_failed) == (0, 2)
    rest = np.delete(means, [3, 7], axis=0)
    np.testing.assert_allclose(some.standard_errors().means, rest.std(axis=0, ddof=1), rtol=1e-5)
    np.testing.assert_allclose(some.intervals().means, np.quantile(rest, [0.025, 0.975], axis=0), rtol=1e-5)
    none = dataclasses.replace(found, status=jnp.full(30, jaxgmm.Status.DEGENERATE))
    assert none.n_failed == 30
    assert np.all(np.isnan(none.intervals().means))


@once
def test_a_component_on_few_rows_fails_in_many_refits():
    """Three rows of which often one is drawn alone, or none."""
    x = np.concatenate([X[:57], [[40.0, 40.0], [40.5, 40.0], [40.0, 40.7]]])
    fit = jaxgmm.fit(jaxgmm.from_responsibilities(x, np.eye(2)[np.repeat([0, 1], [57, 3])], "full"), x)
    found = jaxgmm.bootstrap(KEY, x, fit, n_bootstrap=64)
    assert found.n_failed > 10
    assert np.all(np.isfinite(found.standard_errors().covariances))
    assert jaxgmm.bootstrap(KEY, x, fit, n_bootstrap=64, method="weighted").n_failed < found.n_failed


def test_absent_components_stay_absent():
    pandas = pytest.importorskip("pandas")
    one = FIT.mixture
    three = jaxgmm.Mixture(jnp.insert(one.log_weights, 1, -jnp.inf), one.components.take(jnp.array([0, 0, 1])))
    found = jaxgmm.bootstrap(KEY, X, three, n_bootstrap=20)
    assert found.n_failed == 0
    assert np.all(np.asarray(found.mixtures.weights)[:, 1] == 0)
    errors = found.standard_errors()
    assert np.all(np.isnan(errors.means[1]))
    assert np.all(np.isfinite(errors.means[np.array([0, 2])]))
    table = found.to_pandas(names=["wide", "high"])
    assert isinstance(table, pandas.DataFrame)
    assert table["component"].unique().tolist() == [0, 2]
    assert table["parameter"].tolist() == 2 * ["weight", "mean", "mean", "sd", "sd"]
    assert table["column"].fillna("none").tolist() == 2 * ["none", "wide", "high", "wide", "high"]
    numbers = table[["estimate", "standard_error", "lower", "upper"]].to_numpy()
    assert np.all(np.isfinite(numbers))
    # Columns of the table say what the records say.
    assert numbers[6, 0] == found.reference.mixture.means[2, 0]
    assert numbers[4, 1] == errors.standard_deviations[0, 1]
    assert numbers[6, 2:].tolist() == found.intervals().means[:, 2, 0].tolist()
    assert found.to_pandas()["column"].tolist() == 2 * [None, 0, 1, 0, 1]  # whole numbers


def test_a_form_is_fitted_first_and_labels_number_its_components():
    labels = np.where(np.arange(180) % 3 == 0, np.repeat([1, 0], COUNTS), -1)
    rows = jaxgmm.rows(X, labels=labels)
    found = jaxgmm.bootstrap(KEY, rows, "full", 2, n_bootstrap=20, n_restarts=2)
    assert found.reference.converged
    assert_close(found.reference.mixture.means, FIT.mixture.means[::-1], "converged", scale=40)
    assert np.all(np.asarray(found.mixtures.means)[:, 0] > 30)


def test_side_by_side_is_the_same():
    """As on an accelerator."""
    shares = np.stack([draws.resampled(np.random.default_rng(seed), np.ones(180, X.dtype), 1)[0] for seed in (0, 1)])
    dtype = FIT.mixture.means.dtype
    options = {"tol": 1e-6, "regularization": 1e-6, "scale": jaxgmm.scale_of(X)}
    given = jax.tree.map(lambda value: jnp.asarray(value, dtype), {"shares": shares, **options})
    rows = jaxgmm.rows(jnp.asarray(X, dtype), jnp.ones(180, dtype))
    static = {"objective": jaxgmm.Objective(), "acceleration": "anderson", "block_size": None}
    one, other = (
        uncertainty._refits(FIT.mixture, rows, **given, **static, max_iter=jnp.int32(99), one_by_one=one_by_one)
        for one_by_one in (True, False)
    )
    assert_close(other[0].means, one[0].means, "converged")
    assert other[2].tolist() == one[2].tolist() == [jaxgmm.Status.CONVERGED] * 2


@once
def test_what_cannot_be():
    def call(*arguments, **options):
        return jaxgmm.bootstrap(KEY, *arguments, **options)

    stack = jax.tree.map(lambda leaf: leaf[None], FIT)
    for arguments, options, kind, words in [
        ((X[:, :1], FIT), {}, ValueError, "columns"),
        ((X, FIT), {"n_bootstrap": 1}, ValueError, "n_bootstrap is 1; expected at least 2"),
        ((X, FIT), {"method": "jackknife"}, ValueError, "expected one of 'resample', 'weighted'"),
        ((X, FIT), {"weights": np.full(180, 1 / 180)}, ValueError, "weights add up to 1, and they count rows"),
        ((X, "full"), {}, ValueError, "fit is the form 'full', and n_components is missing"),
        ((FIT.mixture, X), {}, TypeError, r"^fit is of type ndarray; expected a FitResult, a Mixture or a form"),
        ((FIT.mixture, X), {"n_components": 2}, TypeError, "^fit is of type ndarray; expected"),
        ((X, FIT, 2), {}, ValueError, "n_components is 2, and fit is a FitResult"),
        ((X, FIT.mixture), {"n_restarts": 4}, ValueError, "n_restarts is 4, and fit is a Mixture"),
        ((X, "round", 2), {}, ValueError, "form is 'round'"),
        ((X, 3, 2), {}, TypeError, "^fit is of type int; expected a FitResult, a Mixture or a form"),
        ((X, stack), {}, ValueError, r"fit is a stack of shape \(1,\)"),
        ((X, jaxgmm.fit_restarts(KEY, X, 2, n_restarts=1)), {}, TypeError, "Write fit.best"),
    ]:
        with pytest.raises(kind, match=words):
            call(*arguments, **options)
    with pytest.raises(jaxgmm.FitError, match="NON_FINITE after"):
        call(X, dataclasses.replace(FIT, status=jnp.int32(jaxgmm.Status.NON_FINITE)))
    # What the words advise.
    first = jax.tree.map(lambda leaf: leaf[0], stack)
    found = call(X, first, n_bootstrap=2)
    for level in (0, 1, 95, np.nan):
        with pytest.raises(ValueError, match="expected a number between 0 and 1"):
            found.intervals(level)
    with pytest.raises(TypeError, match="level is '95%'"):
        found.intervals("95%")
    with pytest.raises(ValueError, match="names has 3 entries; expected one for each of 2 columns"):
        found.to_pandas(names=["a", "b", "c"])


@once
def test_a_table_of_starts():
    found = jaxgmm.fit_restarts(KEY, X, 2, n_restarts=6)
    table = found.to_pandas()
    assert table["start"].tolist() == list(range(6))
    assert np.flatnonzero(table["winner"]).tolist() == [int(found.winner)]
    assert table["log_likelihood"].tolist() == found.log_likelihood.tolist()
    assert table["status"].tolist() == [jaxgmm.Status(code).name for code in found.status.tolist()]
    assert table["finished"].tolist() == found.finished.tolist()
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), found).to_pandas()
    assert many.columns.tolist() == ["data_set", *table.columns]
    assert many["data_set"].tolist() == 6 * [0] + 6 * [1]
    assert many["regular"].tolist() == 2 * found.regular.tolist()
