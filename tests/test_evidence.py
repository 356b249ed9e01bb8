"""What is known of rows as one value: labels, alone and beside weights, in every verb."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas
import pytest

import jaxgmm

from cases import CASES, FEW, GAUSSIANS, TWO_WAYS
from compilations import counted
from tolerance import assert_close, dtype, once

KEY = jax.random.key(3)
N = 600
FULL = CASES[0]
CRITERIA = (jaxgmm.aic, jaxgmm.bic, jaxgmm.icl)


def truth(case):
    """Rows, and the component that each of them is most probably of."""
    x = case.data(N)
    return x, np.asarray(case.mixture().predict(x))


def partly(labels, share=0.3):
    """The labels of so many rows."""
    return np.where(np.random.default_rng(0).random(labels.size) < share, labels, -1)


def joint(mixture, x):
    return np.asarray(mixture.log_weights + mixture.components.log_prob(x), np.float64)


@pytest.mark.parametrize("case", TWO_WAYS, ids=lambda case: case.name)
def test_without_any_labels_nothing_changes(case):
    x, _ = truth(case)
    mixture, nothing = case.mixture(), jaxgmm.rows(x, labels=np.full(N, -1))
    assert_close(jaxgmm.log_likelihood(mixture, nothing), jaxgmm.log_likelihood(mixture, x), "exact")
    assert_close(mixture.responsibilities(nothing), mixture.responsibilities(x), "exact")
    if case in FEW:  # labels are looked at by seedings, which are the same for all structures
        starts = [case.init(KEY, rows) for rows in (nothing, x)]
        jax.tree.map(lambda a, b: assert_close(a, b, "close"), *starts)


def test_a_labelled_row_counts_what_it_and_its_component_are_worth(case):
    (x, labels), mixture = truth(case), case.mixture()
    some = partly(labels)
    rows, whole = jaxgmm.rows(x, labels=some), joint(mixture, x)
    expected = np.where(some < 0, np.logaddexp.reduce(whole, axis=1), whole[np.arange(N), some])
    assert_close(mixture.log_prob(rows), expected, "close")
    assert_close(jaxgmm.log_likelihood(mixture, rows), expected.sum(), "exact", scale=100)
    assert_close(jaxgmm.e_step(mixture, rows).log_likelihood, expected.sum(), "exact", scale=100)
    shares = np.asarray(mixture.responsibilities(rows))
    np.testing.assert_array_equal(shares[some >= 0], np.eye(3)[some[some >= 0]])
    assert_close(shares[some < 0], mixture.responsibilities(x)[some < 0], "exact")
    np.testing.assert_array_equal(np.asarray(mixture.predict(rows))[some >= 0], some[some >= 0])
    assert np.all(np.asarray(mixture.entropy(rows))[some >= 0] == 0)


@pytest.mark.parametrize("case", [*GAUSSIANS, CASES[-1]], ids=lambda case: case.name)
def test_where_all_are_labelled_one_step_is_the_maximum(case):
    x, labels = truth(case)
    rows = jaxgmm.rows(x, labels=labels)
    result = jaxgmm.fit(case.mixture(), rows)
    expected = jaxgmm.from_responsibilities(x, jax.nn.one_hot(labels, 3), **case.options)
    assert result.status == jaxgmm.Status.CONVERGED
    assert int(result.n_iter) <= 2
    jax.tree.map(lambda a, b: assert_close(a, b, "close"), result.mixture, expected)


def test_a_fit_climbs_comes_to_rest_and_keeps_the_labels(case):
    x, labels = truth(case)
    rows = jaxgmm.rows(x, np.linspace(0.5, 1.5, N), labels=partly(labels, 0.1))
    result = jaxgmm.fit(case.start(), rows, tol=0, max_iter=5000)
    history = np.asarray(result.history)[: min(int(result.n_iter) + 1, 128)]
    assert result.status == jaxgmm.Status.CONVERGED
    assert np.all(np.diff(history) >= 0)
    assert_close(result.log_likelihood, jaxgmm.log_likelihood(result.mixture, rows), "exact", scale=100)
    step = jaxgmm.m_step(result.mixture, jaxgmm.e_step(result.mixture, rows), jaxgmm.scale_of(rows))
    assert_close(step.means, result.mixture.means, "converged", scale=10)
    # The components are the labelled ones, in their order.
    assert np.mean(np.asarray(result.mixture.predict(x)) == labels) > 0.9


@once
@pytest.mark.parametrize(
    "method", ["k-means++", "kmeans", "kmeans_whitened", "random_from_data", "hierarchical", "random"]
)
def test_every_seeding_puts_a_component_where_its_labels_are(method):
    x, labels = truth(FULL)
    order = np.array([2, 0, 1])[labels]
    start = FULL.init(KEY, jaxgmm.rows(x, labels=np.where(order == 0, 0, partly(order, 0.05))), method=method)
    found = jaxgmm.fit(start, jaxgmm.rows(x, labels=partly(order, 0.05)))
    assert np.mean(np.asarray(found.mixture.predict(x)) == order) > 0.95


@once
def test_a_component_without_labels_is_found_beside_those_that_have_some():
    x, labels = truth(FULL)
    known = np.where(labels == 1, -1, partly(labels, 0.2))
    found = jaxgmm.fit_restarts(KEY, jaxgmm.rows(x, labels=known), 3, n_restarts=4).best
    assert np.mean(np.asarray(found.mixture.predict(x)) == labels) > 0.95


@pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)
def test_weights_are_repetitions_and_absent_rows_say_nothing(case):
    (x, labels), mixture = truth(case), case.mixture()
    some, times = partly(labels), np.arange(N) % 3
    weighted = jaxgmm.rows(x, times.astype(dtype()), labels=some)
    repeated = jaxgmm.rows(np.repeat(x, times, axis=0), labels=np.repeat(some, times))
    for a, b in zip(*(jax.tree.leaves(jaxgmm.e_step(mixture, rows)) for rows in (weighted, repeated)), strict=True):
        assert_close(a, b, "close", scale=10)
    spoilt = dataclasses.replace(
        weighted, x=jnp.where(times[:, None] > 0, x, jnp.nan), labels=jnp.where(times > 0, some, 2).astype(jnp.int32)
    )
    np.testing.assert_array_equal(jaxgmm.log_likelihood(mixture, spoilt), jaxgmm.log_likelihood(mixture, weighted))


@pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)
def test_blocks_do_not_matter(case):
    (x, labels), mixture = truth(case), case.mixture()
    rows = jaxgmm.rows(x, labels=partly(labels))
    for a, b in zip(
        *(jax.tree.leaves(jaxgmm.e_step(mixture, rows, block_size=size)) for size in (128, N)), strict=True
    ):
        assert_close(a, b, "close")


def test_far_from_everything_the_label_still_answers():
    mixture = FULL.mixture()
    far = jnp.full((3, 2), jnp.finfo(dtype()).max ** 0.5)
    rows = jaxgmm.rows(far, labels=[0, 1, -1])
    assert mixture.predict(rows).tolist()[:2] == [0, 1]
    assert np.all(np.isfinite(mixture.responsibilities(rows)))
    assert np.all(np.asarray(mixture.log_prob(rows)) == -np.inf)


def test_a_label_of_an_absent_component_is_refused_or_fails():
    x, labels = truth(FULL)
    rows = jaxgmm.rows(x, labels=partly(labels))
    with pytest.raises(
        ValueError, match=r"labels holds 2, which is no component that is there; expected \[0, 1\], and -1"
    ):
        jaxgmm.init(KEY, rows, 2, max_components=3)
    with pytest.raises(ValueError, match="labels holds 2"):
        jaxgmm.fit(jaxgmm.init(KEY, x, 2, max_components=3), rows)

    @jax.jit
    def unseen(k):
        return jaxgmm.fit(jaxgmm.init(KEY, rows, k, max_components=3), rows)

    assert unseen(2).status == jaxgmm.Status.NON_FINITE
    assert unseen(3).status == jaxgmm.Status.CONVERGED
    known = np.asarray(rows.labels) >= 0
    mixture = jaxgmm.init(KEY, x, 2, max_components=3)
    shares = jax.jit(lambda labels: mixture.responsibilities(jaxgmm.rows(x, labels=labels)))(rows.labels)
    np.testing.assert_array_equal(np.asarray(shares)[known], np.eye(3)[labels[known]])
    value = jax.jit(lambda labels: mixture.log_prob(jaxgmm.rows(x, labels=labels)))(rows.labels)
    np.testing.assert_array_equal(np.isneginf(value), known & (labels == 2))


def test_gradients_of_the_likelihood_and_of_a_fit():
    if dtype() is not np.float64:
        pytest.skip("finite differences need float64")
    x, labels = truth(FULL)
    some, weights = partly(labels, 0.1), jnp.linspace(0.5, 1.5, N)
    start = FULL.init(KEY, jaxgmm.rows(x, labels=some))
    ways = jnp.sin(jnp.arange(2.0 * N)).reshape(N, 2), jnp.cos(jnp.arange(1.0 * N))
    for value in (
        lambda x, weights: jaxgmm.log_likelihood(start, jaxgmm.rows(x, weights, labels=some)),
        lambda x, weights: jnp.sin(
            jaxgmm.fit(start, jaxgmm.rows(x, weights, labels=some), tol=1e-13).mixture.means
        ).sum(),
    ):
        slopes = jax.jit(jax.grad(value, argnums=(0, 1)))(x, weights)
        moved = jax.jit(lambda step, value=value: value(x + step[0] * ways[0], weights + step[1] * ways[1]))
        for place, (slope, way) in enumerate(zip(slopes, ways, strict=True)):
            step = 1e-5 * jnp.eye(2)[place]
            assert_close(jnp.sum(slope * way), (moved(step) - moved(-step)) / 2e-5, "close", scale=1e4)


def test_the_same_by_gradient():
    x, labels = truth(FULL)
    rows = jaxgmm.rows(x, labels=partly(labels))
    start = FULL.init(KEY, rows)
    by_em = jaxgmm.fit(start, rows, tol=1e-9)
    found = jaxgmm.fit_gradient(start, rows, optax.lbfgs(), n_steps=300, tol=1e-9)
    assert abs(float(found.log_likelihood - by_em.log_likelihood)) < 1e-5 * N
    few = jaxgmm.fit_gradient(start, rows, optax.adam(0.01), n_steps=5, batch_size=50, key=KEY)
    assert np.isfinite(few.log_likelihood)


def test_vmap_over_labels_is_a_loop_and_other_labels_compile_nothing():
    x, labels = truth(FULL)
    several = jnp.asarray(np.stack([partly(labels), np.full(N, -1), labels]), jnp.int32)
    mixture = FULL.mixture()
    found = jax.vmap(lambda labels: jaxgmm.log_likelihood(mixture, jaxgmm.rows(x, labels=labels)))(several)
    for value, labels in zip(found, several, strict=True):
        with counted() as compiled:
            expected = jaxgmm.log_likelihood(mixture, jaxgmm.rows(x, labels=labels))
        assert_close(value, expected, "exact", scale=10)
    assert not compiled


def test_criteria_and_selection_take_the_rows():
    x, labels = truth(FULL)
    rows, mixture = jaxgmm.rows(x, labels=partly(labels)), FULL.mixture()
    value = jaxgmm.log_likelihood(mixture, rows)
    assert_close(jaxgmm.bic(mixture, rows), 17 * np.log(N) - 2 * value, "exact", scale=10)
    assert all(np.isfinite(criterion(mixture, rows)) for criterion in CRITERIA)
    table = jaxgmm.select(KEY, rows, (2, 3), "full", n_restarts=4)
    assert table.winner.n_components == 3
    assert "labels holds 2" in table.ranked[-1].status


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a"] * 4, r"labels has dtype <U1; .* Names become numbers by numpy\.unique"),
        ([0.0, 1.5, np.nan, 1.0], r"labels holds 1\.5; expected whole numbers"),
        ([True, False, True, True], r"labels has dtype bool; expected whole numbers"),
        ([0, 2**40, -1, 0], r"labels holds 1099511627776; expected whole numbers"),
        ([0, 1], r"labels has shape \(2,\); expected one label per row of x, \(4,\)"),
        ([0, 1, -2, 0], r"labels holds -2; expected whole numbers from 0 on, and -1"),
    ],
)
def test_bad_labels(labels, message):
    with pytest.raises((TypeError, ValueError), match=message):
        jaxgmm.rows(np.eye(4), labels=labels)


@pytest.mark.parametrize(
    "labels",
    [
        np.ma.masked_array([0, 1, 1, 1], mask=[False, True, False, False]),
        np.array([0, np.nan, 1, 1]),
        [0, -1, 1, 1],
        np.array([0, -1, 1, 1], np.int8),
        pandas.Series([0, None, 1, 1], dtype="Int64"),
        pandas.Series([0, None, 1, 1]),
    ],
    ids=["masked", "NaN", "list", "int8", "nullable", "float column"],
)
def test_what_is_missing_is_not_known(labels):
    assert jaxgmm.rows(np.eye(4), labels=labels).labels.tolist() == [0, -1, 1, 1]


def test_a_hole_among_the_components_is_named():
    mixture = jaxgmm.from_parameters([0.5, 0.0, 0.5], np.eye(3), np.stack([np.eye(3)] * 3))
    with pytest.raises(ValueError, match=r"labels holds 1, which is no component that is there; expected \[0, 2\]"):
        jaxgmm.fit(mixture, jaxgmm.rows(np.eye(3), labels=[0, 1, 2]))


def test_arguments_in_a_wrong_order_are_named():
    rows = jaxgmm.rows(np.eye(2))
    with pytest.raises(TypeError, match=r"weights is of type Evidence; expected an array of real numbers"):
        jaxgmm.fit(FULL.mixture(), np.eye(2), rows)
    with pytest.raises(TypeError, match=r"x is a key of jax\.random; .* the key is first"):
        jaxgmm.fit(FULL.mixture(), KEY)


def test_names_and_what_stands_beside_are_refused():
    rows = jaxgmm.rows(np.eye(2), labels=[0, -1])
    with pytest.raises(TypeError, match=r"weights stand beside x, which are rows made by jaxgmm\.rows"):
        jaxgmm.fit(FULL.mixture(), rows, np.ones(2))
    with pytest.raises(NotImplementedError, match="likelihood_ratio_test draws rows like those of x, without"):
        jaxgmm.likelihood_ratio_test(KEY, rows, 1)
    with pytest.raises(TypeError, match=r"weights stand beside xs, some of which are rows made by jaxgmm\.rows"):
        jaxgmm.fit_many(KEY, [rows, rows], 1, weights=[np.ones(2)] * 2)
    with pytest.raises(ValueError, match="responsibilities say the same"):
        jaxgmm.from_responsibilities(rows, np.eye(2))
    with pytest.raises(TypeError, match="columns with names"):
        jaxgmm.rows(pandas.DataFrame(np.eye(2), columns=["a", "b"]))


@pytest.mark.parametrize("method", ["k-means++", "kmeans", "random_from_data", "hierarchical", "random"])
def test_a_class_may_have_several_components(method):
    x, labels = truth(FULL)
    classes = np.array([0, 1, 0])  # the first and the last group are of one class
    some = partly(classes[labels], 0.2)
    rows = jaxgmm.rows(x, labels=some, label_of_component=(0, 0, 1))
    found = jaxgmm.fit(FULL.init(KEY, rows, method=method), rows).mixture
    assert np.mean(np.array([0, 0, 1])[found.predict(x)] == classes[labels]) > 0.95
    assert np.all(np.array([0, 0, 1])[found.predict(rows)][some >= 0] == some[some >= 0])
    # Both components of the class are in use, and share its rows out.
    assert np.bincount(found.predict(x), minlength=3).min() > N / 10


def test_a_class_counts_the_sum_of_its_components():
    x, labels = truth(FULL)
    mixture, known = FULL.mixture(), partly(labels % 2)
    rows, whole = jaxgmm.rows(x, labels=known, label_of_component=(0, 1, 0)), joint(mixture, x)
    allowed = (known[:, None] < 0) | (known[:, None] == np.array([0, 1, 0]))
    assert_close(mixture.log_prob(rows), np.logaddexp.reduce(np.where(allowed, whole, -np.inf), axis=1), "close")
    many = jaxgmm.fit_many(KEY, [rows], 3, "full", max_iter=2).best.mixture
    assert_close(
        many.means[0],
        jaxgmm.fit_restarts(jax.random.fold_in(KEY, 0), rows, 3, n_restarts=1, max_iter=2).best.mixture.means,
        "close",
        scale=10,
    )


def test_log_evidence_multiplies_densities():
    """A label is log-evidence of 0 and of minus infinity; a constant in a row changes no responsibility."""
    x, labels = truth(FULL)
    mixture, some = FULL.mixture(), partly(labels)
    hard = np.where((some[:, None] < 0) | (some[:, None] == np.arange(3)), 0.0, -np.inf)
    a, b = jaxgmm.rows(x, labels=some), jaxgmm.rows(x, log_evidence=hard)
    assert_close(mixture.log_prob(a), mixture.log_prob(b), "exact")
    assert_close(mixture.responsibilities(a), mixture.responsibilities(b), "exact")
    soft = np.random.default_rng(0).normal(size=(N, 3))
    shifted = soft + np.linspace(-5, 5, N)[:, None]
    shares = [mixture.responsibilities(jaxgmm.rows(x, log_evidence=given)) for given in (soft, shifted)]
    assert_close(*shares, "close")
    far = jnp.full((2, 2), jnp.finfo(dtype()).max ** 0.5)
    answer = mixture.responsibilities(jaxgmm.rows(far, log_evidence=[[0.0, 500.0, 0.0], [-np.inf, -np.inf, 3.0]]))
    assert np.all(np.isfinite(answer))
    assert answer[1, 2] == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"label_of_component": (0, 1)}, "label_of_component is given without labels"),
        ({"labels": [0] * 4, "label_of_component": (0, -1)}, r"label_of_component is \(0, -1\); expected classes"),
        ({"labels": [0] * 4, "label_of_component": "ab"}, "expected a whole number for each component"),
    ],
)
def test_bad_classes(given, message):
    with pytest.raises((TypeError, ValueError), match=message):
        jaxgmm.rows(np.eye(4), **given)


def test_classes_are_of_these_components():
    x, labels = truth(FULL)
    with pytest.raises(ValueError, match="label_of_component has 3 entries, and there are 2 components"):
        jaxgmm.init(KEY, jaxgmm.rows(x, labels=labels, label_of_component=(0, 1, 2)), 2)
    with pytest.raises(ValueError, match=r"labels holds 2, which is no class of a component that is there"):
        jaxgmm.init(KEY, jaxgmm.rows(x, labels=labels, label_of_component=(0, 1, 1)), 3)
