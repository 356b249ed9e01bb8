"""Online EM: rows that are seen once, a batch at a time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import Status

from cases import CASES, FEW
from compilations import counted
from tolerance import assert_close, dtype, once

N, SIZE = 12_000, 200


@functools.cache
def drawn(name):
    (case,) = (case for case in CASES if case.name == name)
    return np.asarray(case.mixture().sample(jax.random.key(5), N)).astype(dtype())


def many(case):
    return drawn(case.name)


@pytest.mark.parametrize("case", [CASES[0], CASES[1], CASES[3], *CASES[-2:]], ids=lambda case: case.name)
def test_one_pass_comes_close_to_the_optimum(case):
    """As close as a fit to the rows that still count."""
    x = many(case)
    found = jaxgmm.fit_online(case.start(), x, batch_size=SIZE)
    best = jaxgmm.fit(case.start(), x).mixture
    assert int(found.status) == Status.RUNNING
    assert float(found.weight) == N
    gap = float(jaxgmm.log_likelihood(best, x) - jaxgmm.log_likelihood(found.mixture, x)) / N
    # That of a fit to as many rows as count in its average is expected to be half the parameters over these.
    share = (SIZE / N) ** 0.6
    counting = SIZE * (2 - share) / share
    assert 0 <= gap < 3 * best.n_parameters / (2 * counting)


@pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)
def test_with_all_rows_alike_it_is_em_of_a_single_batch(case):
    """The first step of all rows is one of EM."""
    x = case.data()
    scale = jaxgmm.scale_of(x)
    start = case.start()
    found = jaxgmm.online_step(jaxgmm.online(start, scale), x)
    expected = jaxgmm.m_step(start, jaxgmm.e_step(start, x), scale)
    assert_close(found.mixture.means, expected.means, "close")
    assert_close(found.mixture.weights, expected.weights, "close")
    assert_close(found.statistics.log_likelihood, jaxgmm.log_likelihood(start, x) / len(x), "exact", scale=10)


@pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)
def test_averages_are_those_of_the_rows(case):
    """Of decay 1, all count alike: as long as the mixture is not to move, statistics are those of all rows."""
    x, weights = np.asarray(case.data()), np.linspace(0, 2, 600)
    state = jaxgmm.online(case.start(), jaxgmm.scale_of(x))
    few = case.start().n_parameters // 3
    for start in range(0, 3 * few, few):
        state = jaxgmm.online_step(state, x[start : start + few], weights[start : start + few])
    jax.tree.map(np.testing.assert_array_equal, state.mixture, case.start())
    expected = jaxgmm.e_step(case.start(), x[: 3 * few], weights[: 3 * few])
    total = float(jnp.sum(weights[: 3 * few]))
    assert_close(state.weight, total, "exact", scale=total)
    jax.tree.map(
        lambda found, whole: assert_close(found, np.asarray(whole) / total, "close", scale=10),
        state.statistics,
        expected,
    )


def test_weights_may_have_any_scale():
    """How many rows there were decides when the mixture moves, not what they weigh."""
    case = CASES[0]
    x = np.asarray(case.data()).reshape(3, 200, 2)
    ends = []
    for unit in (1.0, 1e-6):
        state = jaxgmm.online(case.start(), jaxgmm.scale_of(x.reshape(-1, 2)))
        for batch in x:
            state = jaxgmm.online_step(state, batch, np.full(200, unit))
        ends.append(state)
    assert float(ends[1].n) == 600
    assert_close(ends[1].weight, 600e-6, "exact", scale=1e-3)
    assert_close(ends[1].mixture.means, ends[0].mixture.means, "close", scale=10)


def test_rows_without_weight_and_batches_without_any_change_nothing():
    case = CASES[0]
    x = np.asarray(case.data())
    state = jaxgmm.online_step(jaxgmm.online(case.start(), jaxgmm.scale_of(x)), x[:300])
    weights = np.where(np.arange(600) < 300, 1, 0)
    again = jaxgmm.online_step(
        jaxgmm.online(case.start(), jaxgmm.scale_of(x)), np.where(weights[:, None], x, 1e9), weights
    )
    assert_close(again.mixture.means, state.mixture.means, "close")
    assert float(again.weight) == 300
    whole = jax.jit(jaxgmm.online_step)(again, x, np.zeros(600, x.dtype))
    assert int(whole.status) == Status.RUNNING
    assert_close(whole.mixture.means, again.mixture.means, "exact", scale=10)
    assert float(whole.weight) == 300


def test_what_cannot_be_taken_is_marked_and_left_out():
    case = CASES[0]
    x = jnp.asarray(case.data())
    state = jaxgmm.online_step(jaxgmm.online(case.start(), jaxgmm.scale_of(x)), x)
    bad = jax.jit(jaxgmm.online_step)(state, x.at[3, 0].set(jnp.nan))
    assert int(bad.status) == Status.NON_FINITE
    jax.tree.map(np.testing.assert_array_equal, (bad.mixture, bad.weight), (state.mixture, state.weight))
    after = jaxgmm.online_step(bad, x)
    assert int(after.status) == Status.NON_FINITE
    assert float(after.weight) == 1200
    with pytest.raises(ValueError, match="x is NaN or infinite"):
        jaxgmm.online_step(state, x.at[3, 0].set(jnp.nan))


@once
def test_data_that_drift_are_followed_by_a_short_memory():
    rng = np.random.default_rng(0)
    start = jaxgmm.from_parameters([0.5, 0.5], [[-1.0], [6.0]], [1.0, 1.0], "spherical")
    ends = {}
    for memory in (2000.0, np.inf):
        state = jaxgmm.online(start, jnp.ones(1))
        for step in range(60):
            x = rng.normal(size=(200, 1)) + np.where(rng.random((200, 1)) < 0.5, 0.1 * step, 8 + 0.1 * step)
            state = jaxgmm.online_step(state, x.astype(np.float32), decay=1.0, memory=memory)
        ends[memory] = np.sort(np.asarray(state.mixture.means).ravel())
    assert np.all(np.abs(ends[2000.0] - [5.0, 13.0]) < 0.4)
    assert np.all(np.abs(ends[np.inf] - [3.0, 11.0]) < 0.6)


OBJECTIVES = {
    "Posterior": jaxgmm.Posterior(
        jaxgmm.Prior(jaxgmm.Dirichlet(800.0), jaxgmm.NormalWishart([1.0, 2.0], 1.0, 300.0, 300 * np.eye(2)))
    ),
    "Variational": jaxgmm.Variational(),
    "Frozen": jaxgmm.Frozen(weights="equal"),
    "Bounded": jaxgmm.Bounded(most=0.2),
}


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_it_climbs_what_it_is_told_to(kind):
    x, objective = many(CASES[0]), OBJECTIVES[kind]
    scale = jaxgmm.scale_of(x)
    plain = jaxgmm.fit(CASES[0].start(), x).mixture
    expected = jaxgmm.fit(CASES[0].start(), x, scale=scale, objective=objective).mixture
    found = jaxgmm.fit_online(CASES[0].start(), x, batch_size=SIZE, scale=scale, objective=objective).mixture
    away = np.abs(np.asarray(found.weights) - expected.weights).max()
    assert away < 0.03  # of some two thousand rows that count
    assert np.abs(np.asarray(found.covariances) - expected.covariances).max() < 0.2
    if kind != "Variational":
        moved = jax.tree.map(
            lambda a, b: np.abs(np.asarray(a) - b).max(),
            (plain.weights, plain.covariances),
            (expected.weights, expected.covariances),
        )
        assert max(moved) > 0.05


def test_steps_stand_in_programs_of_the_callers():
    """Scanned, and many at once: the same as one by one."""
    case = CASES[0]
    x = jnp.asarray(case.data()).reshape(3, 200, 2)
    begin = jaxgmm.online(case.start(), jaxgmm.scale_of(x.reshape(-1, 2)))
    one_by_one = begin
    for batch in x:
        one_by_one = jaxgmm.online_step(one_by_one, batch)
    scanned, _ = jax.jit(lambda state, x: jax.lax.scan(lambda s, b: (jaxgmm.online_step(s, b), None), state, x))(
        begin, x
    )
    assert_close(scanned.mixture.means, one_by_one.mixture.means, "close", scale=10)
    lanes = jax.vmap(lambda batch: jaxgmm.online_step(begin, batch))(x)
    assert_close(lanes.mixture.means[1], jaxgmm.online_step(begin, x[1]).mixture.means, "close", scale=10)
    other = x[1] + 1
    with counted() as compiled:
        jaxgmm.online_step(one_by_one, other, decay=0.9, memory=100, regularization=1e-3)
    assert not compiled


@once
def test_a_stream_is_gone_through_once():
    """All of its rows, the first part too; and it can be ended."""
    x, taken = many(CASES[0])[:2000], []

    def stream():
        for start in range(0, 2000, 130):
            taken.append(start)
            yield jaxgmm.rows(x[start : start + 130], np.full(len(x[start : start + 130]), 2.0))

    found = jaxgmm.fit_online(CASES[0].start(), stream(), batch_size=SIZE)
    assert taken == list(range(0, 2000, 130))
    assert float(found.weight) == 4000
    empty_first = (part for part in (x[:0], x[:1000], x[1000:]))
    assert float(jaxgmm.fit_online(CASES[0].start(), empty_first, batch_size=SIZE).weight) == 2000
    steps = []
    jaxgmm.fit_online(
        CASES[0].start(),
        x,
        batch_size=SIZE,
        callback=lambda state: len(steps.append(float(state.weight)) or steps) == 3,
    )
    assert steps == [200, 400, 600]
    assert float(jaxgmm.fit_online(CASES[0].start(), x, batch_size=SIZE, max_seconds=0).weight) == 200
    with pytest.raises(ValueError, match="source has no rows"):
        jaxgmm.fit_online(CASES[0].start(), iter([]))
    with pytest.raises(TypeError, match=r"state is of type Mixture; expected what jaxgmm\.online or online_step gives"):
        jaxgmm.online_step(CASES[0].start(), x)
    with pytest.raises(TypeError, match="scale is None"):
        jaxgmm.online(CASES[0].start(), None)


@once
def test_numbers_that_say_nothing_are_refused():
    state, x = jaxgmm.online(CASES[0].start(), jnp.ones(2)), CASES[0].data()
    for given, message in (
        ({"decay": 0.2}, r"decay is 0\.2; expected a number from 0\.5 to 1"),
        ({"decay": 2}, r"decay is 2; expected a number from 0\.5 to 1"),
        ({"memory": 0}, "memory is 0; expected a positive number"),
        ({"memory": np.nan}, "memory is"),
    ):
        with pytest.raises(ValueError, match=message):
            jaxgmm.online_step(state, x, **given)
    traced = jax.jit(lambda memory: jaxgmm.online_step(state, x, memory=memory))(0.0)
    assert int(traced.status) == Status.NON_FINITE


@pytest.mark.skipif(dtype() is np.float64, reason="nothing is rounded")
def test_digits_that_the_mixture_needs_are_not_lost():
    start = jaxgmm.from_parameters([0.5, 0.5], [[1e7], [1e7]], [1e-3, 2e-3], "spherical")
    x = 1e7 + 1e-3 * np.random.default_rng(0).normal(size=(500, 1))
    with pytest.raises(ValueError, match="float64 in column 0 that float32 rounds by"):
        jaxgmm.fit_online(start, x, scale=[1e-3])
