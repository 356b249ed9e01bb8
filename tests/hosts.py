"""One of several processes that share rows: what test_hosts.py runs, `hosts.py WHAT PROCESS PROCESSES PORT`.

Every process makes all rows, hands in its own part of them, and compares with what it computes of all by itself.
"""

import os
import signal
import sys
import time

import jax

HEARTBEAT = 10


def joined(process, processes, port):
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        f"127.0.0.1:{port}",
        processes,
        process,
        initialization_timeout=60,
        heartbeat_timeout_seconds=HEARTBEAT,
        shutdown_timeout_seconds=30,
    )


def laid(array):
    """The array, each process with its own part of the rows; as many for each, so that 3 at the end may be left."""
    import numpy as np
    from jax.sharding import NamedSharding, PartitionSpec

    mesh = jax.make_mesh((jax.device_count(),), ("rows",))
    part = np.array_split(np.asarray(array), jax.process_count())[jax.process_index()]
    return jax.make_array_from_process_local_data(NamedSharding(mesh, PartitionSpec("rows")), part)


def data(n=800):
    import numpy as np

    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 2)) + 6.0 * rng.integers(0, 2, (n, 1))


def same(actual, expected, name):
    import numpy as np

    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-8, atol=1e-8, err_msg=name)


def raises(call, kind, *parts):
    """What all processes raise: the one at `parts[0]` says what it found, the others that it did."""
    import pytest

    process, mine = parts
    expected = mine if jax.process_index() == process else f"not as it must be in process {process}"
    with pytest.raises(kind, match=expected):
        call()


def check_as_one_process():
    import numpy as np

    import jaxgmm

    key, x = jax.random.key(0), data()
    n = len(x)
    rng = np.random.default_rng(1)
    gaps = np.where(rng.random(x.shape) < 0.2, np.nan, x)
    labels = np.where(np.arange(n) % 9 == 0, (x[:, 0] > 3).astype(int), -1)
    # All rows of the last process but some are absent.
    weights = rng.uniform(0.5, 1.5, n) * (np.arange(n) < n - n // jax.process_count() + 3)
    noise = rng.uniform(0, 1, x.shape)
    known = {"missing": "nan", "weights": weights, "labels": labels, "noise": noise}

    def verbs(x, rows):
        start = jaxgmm.init(key, x, 2, "diag", method="kmeans")
        fitted = jaxgmm.fit(start, x)
        reached = jaxgmm.log_likelihood(fitted.mixture, rows)
        restarts = jaxgmm.fit_restarts(key, x, 2, "diag", n_restarts=4, n_finalists=4).log_likelihood
        return start, fitted.mixture, reached, restarts, jaxgmm.init(key, rows, 2, "diag")

    laid_out = {name: value if isinstance(value, str) else laid(value) for name, value in known.items()}
    found = verbs(laid(x), jaxgmm.rows(laid(gaps), **laid_out))
    expected = verbs(x, jaxgmm.rows(gaps, **known))
    same(found, expected, "verbs")
    # What has an entry for each row is the same in every process, or lies as they do.
    whole = jaxgmm.rows(laid(x), weights=weights, labels=labels)
    same(
        jaxgmm.init(key, whole, 2, "diag"), jaxgmm.init(key, jaxgmm.rows(x, weights, labels=labels), 2, "diag"), "whole"
    )
    shares = np.eye(2)[(x[:, 0] > 3).astype(int)]
    of_shares = jaxgmm.from_responsibilities(laid(x), laid(shares), "diag")
    same(of_shares, jaxgmm.from_responsibilities(x, shares, "diag"), "shares")
    lies = found[1].log_prob(laid(x))
    own = np.concatenate([np.asarray(shard.data) for shard in lies.addressable_shards])
    everywhere = np.asarray(jaxgmm.Mixture(*jax.device_get((found[1].log_weights, found[1].components))).log_prob(x))
    same(own, np.array_split(everywhere, jax.process_count())[jax.process_index()], "log_prob")


def check_all_raise_or_none():
    import numpy as np
    import pytest

    import jaxgmm

    x, key = data(), jax.random.key(0)
    last = jax.process_count() - 1
    broken, unseen = x.copy(), x.copy()
    broken[-1, 0], unseen[-1] = np.inf, np.nan
    raises(lambda: jaxgmm.init(key, laid(broken), 2), ValueError, last, "NaN or infinite in 1 of")
    absent = (np.arange(len(x)) < len(x) - 1).astype(x.dtype)
    rows = jaxgmm.rows(laid(broken), laid(absent))
    assert np.isfinite(jaxgmm.scale_of(rows)).all()
    negative = np.where(absent > 0, absent, -1)
    raises(lambda: jaxgmm.rows(laid(x), laid(negative)), ValueError, last, "weights is negative")
    unknown = np.where(absent > 0, -1, 2)
    labelled = jaxgmm.rows(laid(x), labels=laid(unknown))
    raises(lambda: jaxgmm.init(key, labelled, 2), ValueError, last, "labels holds 2")
    # No process has a row of weight, and all say so.
    with pytest.raises(ValueError, match="weights are all zero"):
        jaxgmm.rows(laid(x), laid(np.zeros(len(x))))
    with pytest.raises(ValueError, match=r"has shape .* expected weights for all of them"):
        jaxgmm.rows(laid(x), np.ones(5))
    for name in ("select", "stability"):
        with pytest.raises(NotImplementedError, match=f"jaxgmm.{name} looks at the values of all rows"):
            getattr(jaxgmm, name)(key, laid(x), 2)


def check_no_rows_travel():
    import sharded

    import jaxgmm

    x, key = data(), jax.random.key(0)
    rows = jaxgmm.rows(laid(x))
    for call in (
        lambda rows: jaxgmm.init(key, rows, 2, "diag"),
        lambda rows: jaxgmm.fit(jaxgmm.from_parameters([0.5, 0.5], x[:2], [1.0, 1.0], "spherical"), rows),
    ):
        sharded.only_sums(jax.jit(call).lower(rows).compile(), len(x) // jax.process_count())


def killed():
    """One process ends in the middle of a fit; what the others are told, and when."""
    import jaxgmm

    x = laid(data())
    start = jaxgmm.init(jax.random.key(0), x, 2, "diag")
    fitted = jaxgmm.fit(start, x, tol=0, max_iter=3)
    jax.block_until_ready(fitted)
    print("ready", flush=True)
    for number in range(10**6):
        if number == 3 and jax.process_index() == jax.process_count() - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        began = time.time()
        try:
            jax.block_until_ready(jaxgmm.fit(start, x, tol=0, max_iter=3))
        except Exception as error:
            print(f"after {time.time() - began:.2f} s: {error}", flush=True)
            # Not by the barrier at which processes that end well meet.
            os._exit(3)


if __name__ == "__main__":
    joined(*map(int, sys.argv[2:]))
    if sys.argv[1] == "killed":
        killed()
    else:
        for check in (check_all_raise_or_none, check_no_rows_travel, check_as_one_process):
            check()
            print(check.__name__, flush=True)
