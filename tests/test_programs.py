"""Every program at top level and inside whatever the caller traces; how many are kept, and with which options."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgmm
from jaxgmm.ground import programs

from compilations import counted
from tolerance import assert_close, once

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(120, 2)) + 3 * (np.arange(120) % 2)[:, None]
# Each entry is compiled in many ways, so as small as it can be.
BRIEF = {"max_iter": 3, "acceleration": None}

ENTRIES = {
    "init": lambda x: jaxgmm.init(KEY, x, 2, "diag").means,
    "fit": lambda x: jaxgmm.fit(start(), x, **BRIEF).mixture.means,
    "m_step": lambda x: jaxgmm.m_step(start(), jaxgmm.e_step(start(), x), jaxgmm.scale_of(x)).means,
    "scale_of": lambda x: jaxgmm.scale_of(x),
    "log_likelihood": lambda x: jaxgmm.log_likelihood(start(), x),
    "log_prob": lambda x: start().log_prob(x),
    "fit_restarts": lambda x: (
        jaxgmm.fit_restarts(KEY, x, 2, "diag", n_restarts=2, methods=["kmeans"], **BRIEF).best.mixture.means
    ),
}


def start():
    return jaxgmm.from_parameters([0.5, 0.5], [[0.0, 0.0], [3.0, 3.0]], [[1.0, 1.0], [1.0, 1.0]], "diag")


FIRST = """
import jax, jax.numpy as jnp, sys
import jaxgmm
assert "jaxgmm.ground.programs" not in sys.modules
x = jnp.concatenate([jnp.zeros((40, 2)), jnp.ones((40, 2))]) + jnp.arange(80.0)[:, None] / 1e3
one = lambda key, x: jaxgmm.fit(jaxgmm.init(key, x, 2, "diag"), x, max_iter=3).log_likelihood
if "vmap" in "{name}":
    given, function = (jax.random.split(jax.random.key(0), 2), jnp.stack([x, x])), jax.vmap(one)
else:
    given, function = (jax.random.key(0), x), jax.grad(one, 1) if "{name}" == "grad" else one
(jax.jit(function) if "jit" in "{name}" else function)(*given)
from jaxgmm.ground import programs
assert programs.at_top_level() and not len(programs._store._programs)
one(jax.random.key(0), x)
assert len(programs._store._programs) > 0
"""


@once
@pytest.mark.parametrize("name", ["jit", "vmap", "jit of vmap", "grad"])
def test_first_used_inside_a_trace(name):
    """Modules are imported as they are needed, so it may be there that they are."""
    done = subprocess.run([sys.executable, "-c", FIRST.format(name=name)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@once
@pytest.mark.parametrize("name", ENTRIES)
def test_the_same_wherever_it_is_called(name):
    entry, x = ENTRIES[name], jnp.asarray(X)
    alone = entry(x)
    assert_close(jax.jit(entry)(x), alone, "close", scale=10)
    assert_close(jax.jit(lambda: entry(x))(), alone, "close", scale=10)
    assert_close(jax.vmap(entry)(jnp.stack([x, x]))[1], alone, "close", scale=10)
    assert_close(jax.lax.map(entry, jnp.stack([x, x]))[1], alone, "close", scale=10)
    assert jax.eval_shape(entry, x).shape == alone.shape
    slope = jax.grad(lambda x: jnp.sum(entry(x)))(x)
    assert_close(jax.grad(jax.checkpoint(lambda x: jnp.sum(entry(x))))(x), slope, "close", scale=10)
    assert_close(jnp.sum(jax.linearize(entry, x)[1](jnp.ones_like(x))), jnp.sum(slope), "converged", scale=10)


@once
def test_the_first_use_of_all_may_be_inside_jit():
    code = (
        "import jax, jaxgmm\n"
        "x = jax.random.normal(jax.random.key(0), (50, 2))\n"
        "inside = jax.jit(jax.grad(lambda x: jaxgmm.init(jax.random.key(1), x, 2).means.sum()))(x)\n"
        "from jaxgmm.ground import programs\n"
        "assert programs.at_top_level() and not jax.jit(lambda: 0 * x + programs.at_top_level())().any()\n"
        "assert (abs(jax.grad(lambda x: jaxgmm.init(jax.random.key(1), x, 2).means.sum())(x) - inside) < 1e-5).all()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


@once
def test_programs_let_go_give_their_memory_maps_back(monkeypatch):
    def maps():
        return Path("/proc/self/maps").read_text().count("\n")

    if not Path("/proc/self/maps").exists():
        pytest.skip("this system does not list them")
    monkeypatch.setattr(programs, "_store", programs._Store(5))
    seen = []
    for n in range(20, 65):
        jax.block_until_ready(jaxgmm.log_likelihood(start(), np.zeros((n, 2))))
        seen.append(maps())
    # A program takes some ten; that many shapes without a bound took hundreds.
    assert seen[-1] - seen[10] < 100


@once
def test_the_latest_programs_are_kept(monkeypatch):
    monkeypatch.setattr(programs, "_store", programs._Store(3))
    rows = [np.zeros((n, 2)) for n in (31, 32, 33)]
    for x in rows:
        start().predict(x)
    with counted() as again:
        for x in rows:
            start().predict(x)
    assert again == []


@once
def test_options_follow_from_the_work_alone():
    quick, large = programs._options(1e3, []), programs._options(1e12, [])
    assert programs._options(1e3, [jnp.ones(3), np.ones(3)]) == quick
    if jax.default_backend() == "cpu":
        assert quick["xla_backend_optimization_level"] == 0
    assert large == {}
