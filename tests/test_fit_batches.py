"""Fits that Python drives, over rows in batches: the same fit, watched, stopped, kept and taken up again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm import Status
from jaxgmm.fitting.questions import Question, statistics_of
from jaxgmm.model.objective import LIKELIHOOD

from cases import CASES, FEW
from compilations import counted
from tolerance import assert_close, once

N, SIZE = 600, 250
OBJECTIVES = {
    "Posterior": jaxgmm.Posterior(jaxgmm.Prior(jaxgmm.Dirichlet(20.0), None)),
    "Variational": jaxgmm.Variational(),
    "Frozen": jaxgmm.Frozen(weights="equal"),
}


def in_batches(x, **known):
    return jaxgmm.batches(np.asarray(x), batch_size=SIZE, **known)


def same(found, expected, n=N):
    """The point where both fits rest; how many steps it takes is for rounding to say."""
    assert int(found.status) == int(expected.status) == Status.CONVERGED
    assert_close(found.log_likelihood / n, expected.log_likelihood / n, "exact", scale=10)
    assert_close(found.objective / n, expected.objective / n, "exact", scale=10)
    assert_close(found.mixture.weights, expected.mixture.weights, "converged")
    assert_close(found.mixture.means, expected.mixture.means, "converged", scale=10)
    assert found.history.shape == expected.history.shape
    climbed = np.asarray(found.history)[: int(found.n_iter) + 1]
    assert np.all(np.diff(climbed) >= 0)


def test_it_is_the_fit_of_all_rows(case):
    x = case.data()
    scale = jaxgmm.scale_of(x)
    same(jaxgmm.fit_batches(case.start(), in_batches(x), scale=scale), jaxgmm.fit(case.start(), x, scale=scale))


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_it_climbs_what_it_is_told_to(kind):
    """With what the data decide of it taken from a sample, here of all rows."""
    case, objective = CASES[0], OBJECTIVES[kind]
    x, weights = case.data(), np.linspace(0, 3, N)
    found = jaxgmm.fit_batches(case.start(), in_batches(x, weights=weights), objective=objective)
    same(found, jaxgmm.fit(case.start(), x, weights, objective=objective))


KNOWN = {
    "weights": {"weights": 1e6 * np.linspace(0, 3, N)},
    "gaps": {"missing": np.random.default_rng(1).random((N, 2)) < 0.3},
    "labels": {"labels": np.where(np.arange(N) < 5, 1, -1)},
    "noise": {"noise": np.random.default_rng(2).uniform(0, 0.3, (N, 2))},
    "log-evidence": {"log_evidence": np.random.default_rng(3).normal(size=(N, 3))},
}


@pytest.mark.parametrize("kind", [*KNOWN, "all of it"])
def test_rows_come_with_all_that_is_known_of_them(kind):
    case = CASES[0]
    known = KNOWN.get(kind) or {name: given for one in KNOWN.values() for name, given in one.items()}
    x = np.asarray(case.data())
    expected = jaxgmm.fit(case.start(), jaxgmm.rows(x, **known), tol=1e-7)
    found = jaxgmm.fit_batches(case.start(), in_batches(x, **known), tol=1e-7)
    same(found, expected, N if "weights" not in known else N * 1.5e6)


def test_rows_of_which_nothing_is_seen_have_no_part_in_a_bound():
    x = np.concatenate([CASES[0].data(), np.full((100, 2), np.nan)])
    objective = jaxgmm.Variational()
    whole = jaxgmm.fit(CASES[0].start(), jaxgmm.rows(x, missing="nan"), objective=objective)
    same(jaxgmm.fit_batches(CASES[0].start(), in_batches(x, missing="nan"), objective=objective), whole)


@pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)
def test_batches_without_weight_and_of_any_size_change_nothing(case):
    x = np.asarray(case.data())
    weights = np.where(np.arange(N) < 300, 1, 0)
    scale = jaxgmm.scale_of(x[:300])
    expected = jaxgmm.fit(case.start(), x[:300], scale=scale)
    for size in (100, 173, 600):
        found = jaxgmm.fit_batches(case.start(), jaxgmm.batches(x, weights=weights, batch_size=size), scale=scale)
        same(found, expected, 300)


def test_a_second_fit_compiles_nothing():
    case = CASES[0]
    x = np.asarray(case.data())
    options = {"objective": OBJECTIVES["Posterior"]}
    jaxgmm.fit_batches(case.start(), in_batches(x), **options)
    with counted() as compiled:
        jaxgmm.fit_batches(case.start(), in_batches(x[::-1] + 1), tol=1e-3, max_iter=7, **options)
    assert not compiled


def test_failures_are_told():
    x = np.asarray(CASES[0].data())
    start = CASES[0].start()
    assert int(jaxgmm.fit_batches(start, in_batches(x), max_iter=2).status) == Status.MAX_ITER
    huge = x * np.asarray(np.finfo(x.dtype).max / 100, x.dtype)
    failed = jaxgmm.fit_batches(start, in_batches(huge), scale=jnp.ones(2))
    assert int(failed.status) == int(jaxgmm.fit(start, huge, scale=jnp.ones(2)).status) == Status.NON_FINITE
    assert not np.isfinite(failed.log_likelihood)
    crowded = jaxgmm.from_parameters([0.5, 0.5], [[0.0, 0.0], [500.0, 500.0]], [1.0, 1.0], "spherical")
    assert int(jaxgmm.fit_batches(crowded, in_batches(x)).status) == Status.DEGENERATE
    with pytest.raises(ValueError, match="source has 1 columns; the mixture was made for 2"):
        jaxgmm.fit_batches(start, in_batches(x[:, :1]))


@once
def test_it_can_be_watched_and_stopped():
    """By a callback, by time, and by an interrupt: what is returned is the best so far, and says so."""
    case, told = CASES[0], []
    x = np.asarray(case.data())
    whole = jaxgmm.fit_batches(case.start(0.1), in_batches(x), tol=0)
    stopped = jaxgmm.fit_batches(
        case.start(0.1), in_batches(x), tol=0, callback=lambda result: told.append(result) or len(told) == 4
    )
    assert [int(one.n_iter) for one in told] == [0, 1, 2, 3]
    assert {int(one.status) for one in told} == {Status.RUNNING}
    assert int(stopped.status) == Status.STOPPED
    assert np.array_equal(stopped.history[:4], whole.history[:4])
    assert np.isnan(stopped.history[4])
    assert_close(stopped.log_likelihood, jaxgmm.log_likelihood(stopped.mixture, x), "exact", scale=1000)
    with pytest.raises(jaxgmm.FitError, match=r"STOPPED after 3 steps\. The fit was stopped before its end"):
        stopped.raise_if_failed()
    for wrong, message in ((-1, "max_seconds is -1"), ("1", "max_seconds is '1'")):
        with pytest.raises((TypeError, ValueError), match=message):
            jaxgmm.fit_batches(case.start(0.1), in_batches(x), max_seconds=wrong)
    late = jaxgmm.fit_batches(case.start(0.1), in_batches(x), tol=0, max_seconds=0)
    assert int(late.status) == Status.STOPPED
    assert np.isnan(late.log_likelihood)
    jax.tree.map(np.testing.assert_array_equal, late.mixture, case.start(0.1))

    def parts():
        yield from (x[:300], x[300:])
        if len(told) == 7:
            os.kill(os.getpid(), signal.SIGINT)

    stopped = jaxgmm.fit_batches(
        case.start(0.1), jaxgmm.batches(parts), scale=jaxgmm.scale_of(x), tol=0, callback=lambda one: told.append(one)
    )
    assert int(stopped.status) == Status.STOPPED
    assert len(told) == 7


def bits(result):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves((result.mixture, result.history, result.n_iter))]


@pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)
def test_it_goes_on_from_a_checkpoint_to_the_same_bits(case, tmp_path):
    x, path = np.asarray(case.data()), tmp_path / "fit.npz"
    options = {"tol": 0, "max_iter": 12, "scale": jaxgmm.scale_of(x)}
    whole = jaxgmm.fit_batches(case.start(0.1), in_batches(x), **options)
    passes = []
    jaxgmm.fit_batches(
        case.start(0.1),
        in_batches(x),
        **options,
        checkpoint=path,
        callback=lambda one: len(passes.append(one) or passes) == 5,
    )
    again = jaxgmm.fit_batches(case.start(0.1), in_batches(x), **options, checkpoint=path, callback=passes.append)
    assert bits(again) == bits(whole)
    assert len(passes) == int(whole.n_iter) + 1
    # At its end there is nothing left to do, but more steps may be asked for.
    jaxgmm.fit_batches(case.start(0.1), in_batches(x), **options, checkpoint=path, callback=passes.append)
    assert len(passes) == int(whole.n_iter) + 1
    more = {**options, "max_iter": 20}
    longer = jaxgmm.fit_batches(case.start(0.1), in_batches(x), **more, checkpoint=path)
    assert bits(longer) == bits(jaxgmm.fit_batches(case.start(0.1), in_batches(x), **more))


@once
def test_a_checkpoint_of_another_fit_is_refused(tmp_path):
    x, path, start = np.asarray(CASES[0].data()), tmp_path / "fit.npz", CASES[0].start()
    jaxgmm.fit_batches(start, in_batches(x), checkpoint=path, max_iter=1)
    for what, other in {
        "rows": {"source": in_batches(x[:-1])},
        "mixture": {"mixture": CASES[0].start(0.3)},
        "regularization or scale": {"regularization": 1e-3},
        "objective": {"objective": jaxgmm.Posterior()},
        "acceleration": {"acceleration": None},
        "history_size": {"history_size": 64},
    }.items():
        given = {"mixture": start, "source": in_batches(x), "checkpoint": path} | other
        with pytest.raises(ValueError, match=f"fit.npz is the checkpoint of another fit, with other .*{what}"):
            jaxgmm.fit_batches(**given)
    jaxgmm.save(path, start)
    with pytest.raises(
        jaxgmm.LoadError, match=r"fit\.npz is of format 'jaxgmm mixture'; expected one that fit_batches"
    ):
        jaxgmm.fit_batches(start, in_batches(x), checkpoint=path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(jaxgmm.LoadError, match=r"cannot be read as the checkpoint of a fit .* remove it to begin anew"):
        jaxgmm.fit_batches(start, in_batches(x), checkpoint=path)


KILLED = """
import sys
import numpy as np
import jaxgmm

x = np.load(sys.argv[1])
start = jaxgmm.load(sys.argv[2])

def slowly(result):
    import time
    print(int(result.n_iter), flush=True)
    time.sleep(float(sys.argv[4]))

from jaxgmm.fitting import batches

batches._SECONDS_BETWEEN = 0
result = jaxgmm.fit_batches(start, jaxgmm.batches(x, batch_size=250), tol=0, max_iter=9, checkpoint=sys.argv[3],
                            callback=slowly)
jaxgmm.save(sys.argv[3] + ".end", result.mixture)
"""


@once
def test_a_process_that_is_killed_is_gone_on_from(tmp_path):
    """To the bits that it would have come to."""
    np.save(tmp_path / "x.npy", np.asarray(CASES[0].data()))
    jaxgmm.save(tmp_path / "start.npz", CASES[0].start(0.1))

    def run(name, pause):
        command = [sys.executable, "-c", KILLED, "x.npy", "start.npz", name, str(pause)]
        return subprocess.Popen(
            command,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        )

    with run("whole", 0) as whole, run("killed", 0.3) as killed:
        for line in killed.stdout:
            if int(line) == 4:
                killed.kill()
                break
        assert killed.wait(60) == -signal.SIGKILL
        whole.communicate(timeout=200)
    assert whole.returncode == 0
    assert not (tmp_path / "killed.end").exists()
    with run("killed", 0) as again:
        told, _ = again.communicate(timeout=200)
    assert 0 < len(told.split()) < 10
    ends = [jaxgmm.load(tmp_path / f"{name}.end") for name in ("whole", "killed")]
    jax.tree.map(np.testing.assert_array_equal, *ends)


@once
def test_reading_is_ahead_of_the_pass():
    """While batches are worked on, the next one is read, and no more: memory is for some of them."""
    x, read, ahead = np.asarray(CASES[0].data()), [], []

    def parts():
        for start in range(0, N, 20):
            read.append(start)
            yield x[start : start + 20]

    source = jaxgmm.batches(parts, batch_size=20)
    question = Question(CASES[0].mixture(), LIKELIHOOD, jnp.ones(()), jnp.zeros(()))
    read.clear()

    def watch(n):
        done = len(ahead) + 1
        deadline = time.monotonic() + 20
        while len(read) < min(done + source.workers + 1, N // 20) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
        ahead.append(len(read) - done)

    statistics_of(source, question, watch)
    assert len(ahead) == len(read) == N // 20
    assert max(ahead) == source.workers + 1


def test_sums_keep_their_digits_over_many_batches():
    """They are added in float64: no number of batches costs float32 any."""
    x = np.asarray(CASES[0].data())
    source = jaxgmm.batches([x] * 50, batch_size=7)
    question = Question(CASES[0].mixture(), LIKELIHOOD, jnp.ones(()), jnp.zeros(()))
    found = statistics_of(source, question)
    expected = 50 * float(jaxgmm.log_likelihood(CASES[0].mixture(), x))
    assert_close(float(found.log_likelihood), expected, "exact", scale=abs(expected))
    assert found.n == 50 * N


@once
def test_a_checkpoint_is_not_worth_more_than_the_fit(tmp_path, monkeypatch):
    """That none can be written is found before the first pass; where it fails later, the fit goes on and says so."""
    x, start, passes = np.asarray(CASES[0].data()), CASES[0].start(0.1), []
    with pytest.raises(OSError, match="nowhere"):
        jaxgmm.fit_batches(start, in_batches(x), checkpoint=tmp_path / "nowhere" / "fit.npz", callback=passes.append)
    assert not passes

    def full(result):
        def fail(*given):
            raise OSError("No space left on device")

        monkeypatch.setattr("jaxgmm.fitting.kept.keep", fail)

    with pytest.warns(UserWarning, match="The checkpoint could not be written, .* No space left on device"):
        found = jaxgmm.fit_batches(start, in_batches(x), checkpoint=tmp_path / "fit.npz", callback=full)
    assert int(found.status) == Status.CONVERGED


@once
def test_an_error_loses_no_step_that_was_done(tmp_path):
    x, start, path = np.asarray(CASES[0].data()), CASES[0].start(0.1), tmp_path / "fit.npz"

    def failing(result):
        if int(result.n_iter) == 4:
            raise RuntimeError("of the callback")

    with pytest.raises(RuntimeError, match="of the callback"):
        jaxgmm.fit_batches(start, in_batches(x), tol=0, checkpoint=path, callback=failing)
    steps = []
    jaxgmm.fit_batches(start, in_batches(x), tol=0, checkpoint=path, callback=lambda one: steps.append(int(one.n_iter)))
    assert steps[0] == 5


@once
def test_until_it_ends_it_is_running():
    """Whatever its components are by then."""
    crowded = jaxgmm.from_parameters([0.5, 0.5], [[0.0, 0.0], [500.0, 500.0]], [1.0, 1.0], "spherical")
    told = []
    jaxgmm.fit_batches(crowded, in_batches(CASES[0].data()), callback=lambda one: told.append(int(one.status)))
    assert set(told[:-1]) == {Status.RUNNING}
    assert told[-1] == Status.DEGENERATE


@once
def test_a_smaller_tolerance_goes_on_from_a_checkpoint(tmp_path):
    x, start, path = np.asarray(CASES[0].data()), CASES[0].start(0.1), tmp_path / "fit.npz"
    rough = jaxgmm.fit_batches(start, in_batches(x), tol=1.0, checkpoint=path)
    fine = jaxgmm.fit_batches(start, in_batches(x), tol=1e-6, checkpoint=path)
    assert int(rough.status) == int(fine.status) == Status.CONVERGED
    assert bits(fine) == bits(jaxgmm.fit_batches(start, in_batches(x), tol=1e-6))
    assert int(fine.n_iter) > int(rough.n_iter)


@once
def test_rows_are_counted_without_what_fills_batches_up():
    told = []
    question = Question(CASES[0].mixture(), LIKELIHOOD, jnp.ones(()), jnp.zeros(()))
    statistics_of(in_batches(CASES[0].data()), question, told.append)
    assert told == [250, 250, 100]


@once
def test_rows_that_change_between_passes_are_found():
    x, told = np.asarray(CASES[0].data()), []

    def growing():
        told.append(None)
        return iter([x] if len(told) < 4 else [x, x])

    with pytest.raises(ValueError, match="source has given rows of weight 1200 in a pass, and had 600 before"):
        jaxgmm.fit_batches(CASES[0].start(), jaxgmm.batches(growing), tol=0)
    once_only = iter([x[:300], x[300:]])
    with pytest.raises(ValueError, match="no rows"):
        jaxgmm.fit_batches(CASES[0].start(), lambda: once_only)


@once
def test_a_checkpoint_is_of_its_rows_to_the_bit(tmp_path):
    x, start, path = np.asarray(CASES[0].data()), CASES[0].start(), tmp_path / "fit.npz"
    options = {"scale": np.ones(2), "checkpoint": path, "max_iter": 1}
    jaxgmm.fit_batches(start, in_batches(x), **options)
    other = np.array(x)
    other[417, 1] = np.nextafter(other[417, 1], 9)
    with pytest.raises(ValueError, match="with other rows"):
        jaxgmm.fit_batches(start, in_batches(other), **options)


@once
def test_labels_that_are_none_are_named():
    x = np.asarray(CASES[0].data())
    with pytest.raises(ValueError, match="labels holds 5, which is no component that is there"):
        jaxgmm.fit_batches(CASES[0].start(), in_batches(x, labels=np.where(np.arange(N) == 400, 5, -1)))
    with pytest.raises(ValueError, match="label_of_component has 2 entries, and there are 3 components"):
        jaxgmm.fit_batches(CASES[0].start(), in_batches(x, labels=np.full(N, -1), label_of_component=(0, 1)))
    with pytest.raises(TypeError, match="callback is of type int"):
        jaxgmm.fit_batches(CASES[0].start(), in_batches(x), callback=3)
