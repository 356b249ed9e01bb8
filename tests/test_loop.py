"""The loop of a fit is cut at the pass over the rows: whoever takes the statistics may drive it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.fitting.acceleration import scheme_of
from jaxgmm.fitting.em import Climb
from jaxgmm.ground.programs import program
from jaxgmm.ground.rows import Evidence, plus
from jaxgmm.model.objective import LIKELIHOOD
from jaxgmm.model.steps import take_statistics

from cases import COMPOSED, FEW, TWO_WAYS, TWO_WAYS_VARIED
from tolerance import assert_close, dtype

BLOCK = 200
HISTORY = 64


# Compiled as `fit` itself is.
propose, accept = program(Climb.propose), program(Climb.accept)


@program
def of_part(mixture, reference, x):
    return take_statistics(mixture, Evidence(x, jnp.ones(len(x), x.dtype)).in_blocks(len(x)), reference)


def driven(start, parts, scale, acceleration="anderson", stop=None, **options):
    """A fit in Python, of rows that come in parts; stopped after so many passes, what it has by then."""
    settings = {"tol": 1e-6, "max_iter": 1000, "regularization": 1e-6} | options
    number = {name: jnp.asarray(value, dtype()) for name, value in settings.items()}
    climb = Climb(
        objective=LIKELIHOOD,
        floor=number["regularization"] * scale**2,
        unit=jnp.ones((), dtype()),
        total=jnp.asarray(sum(map(len, parts)), dtype()),
        tol=number["tol"],
        max_iter=jnp.asarray(settings["max_iter"], jnp.int32),
        scheme=scheme_of(acceleration),
    )
    state = start if hasattr(start, "status") else climb.start(start, HISTORY)
    while int(state.status) == jaxgmm.Status.RUNNING and stop != 0:
        proposal = propose(climb, state)
        each = [of_part(proposal.mixture, proposal.reference, part) for part in parts]
        total = lost = jax.tree.map(jnp.zeros_like, each[0])
        for statistics in each:
            total, lost = plus(total, lost, statistics)
        state = accept(climb, state, proposal, total)
        stop = None if stop is None else stop - 1
    return state


def same(state, result):
    """Whether all that a state holds is what `fit` returned, to the bit."""
    point = state.opened.here
    pairs = [
        (point.mixture, result.mixture),
        (state.n_iter, result.n_iter),
        (state.history, result.history),
        (state.status, result.status),
    ]
    for mine, theirs in pairs:
        jax.tree.map(np.testing.assert_array_equal, mine, theirs)


@pytest.mark.parametrize(
    ("case", "acceleration"),
    [*((case, "anderson") for case in TWO_WAYS), *((case, None) for case in FEW)],
    ids=[*(f"{case.name}-anderson" for case in TWO_WAYS), *(f"{case.name}-None" for case in FEW)],
)
def test_driven_from_python_a_fit_is_the_same_to_the_bit(case, acceleration):
    x = jnp.asarray(case.data(), dtype())
    scale, start = jaxgmm.scale_of(x), case.start(0.02)
    options = {"max_iter": 15, "tol": 1e-9}
    expected = jaxgmm.fit(
        start, x, scale=scale, block_size=BLOCK, history_size=HISTORY, acceleration=acceleration, **options
    )
    assert int(expected.n_iter) > 5
    parts = [x[first : first + BLOCK] for first in range(0, len(x), BLOCK)]
    mine = driven(start, parts, scale, acceleration, **options)
    if case in COMPOSED:
        # Their steps are long enough to be compiled otherwise beside a pass than alone.
        assert int(mine.status) == int(expected.status)
        reached = mine.history[mine.n_iter]
        assert_close(reached, expected.log_likelihood, "exact", scale=10)
        assert_close(mine.opened.here.mixture.means, expected.mixture.means, "converged")
        assert_close(mine.opened.here.mixture.covariances, expected.mixture.covariances, "converged")
    else:
        same(mine, expected)


@pytest.mark.parametrize("case", TWO_WAYS_VARIED, ids=lambda case: case.name)
def test_of_many_rows_it_is_the_same_to_rounding(case):
    """Where components are made ready for each pass, what is summed are finished statistics."""
    x = jnp.asarray(case.data(6000), dtype())
    scale, start = jaxgmm.scale_of(x), case.start()
    expected = jaxgmm.fit(start, x, scale=scale, history_size=HISTORY)
    state = driven(start, [x[:2750], x[2750:5500], x[5500:]], scale)
    assert int(state.status) == int(expected.status)
    assert_close(state.opened.here.mixture.means, expected.mixture.means, "converged")
    assert_close(state.history[int(state.n_iter)] / 6000, expected.log_likelihood / 6000, "exact", scale=10)


@pytest.mark.parametrize("case", TWO_WAYS, ids=lambda case: case.name)
def test_a_state_is_all_there_is(case):
    """Kept as arrays and taken up again, the fit goes on as if it had not stopped."""
    x = jnp.asarray(case.data(), dtype())
    scale, start = jaxgmm.scale_of(x), case.start(0.02)
    parts = [x[first : first + BLOCK] for first in range(0, len(x), BLOCK)]
    whole = driven(start, parts, scale, max_iter=12)
    paused = driven(start, parts, scale, max_iter=12, stop=5)
    assert int(paused.status) == jaxgmm.Status.RUNNING
    leaves, structure = jax.tree.flatten(paused)
    kept = jax.tree.unflatten(structure, [jnp.asarray(np.array(leaf)) for leaf in leaves])
    jax.tree.map(np.testing.assert_array_equal, driven(kept, parts, scale, max_iter=12), whole)
