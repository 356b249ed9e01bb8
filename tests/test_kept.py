"""Programs kept in a folder: the next process compiles nothing, however many share it."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from tolerance import once

pytestmark = once
ROOT = Path(__file__).parent.parent

WORK = """
import collections, json, sys, jax, numpy, jaxgmm
events = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **kwargs: events.update([event.rsplit("/", 1)[-1]]))
jax.numpy.arange(7)  # something is compiled before
folder = jaxgmm.keep_programs(*sys.argv[1:])
x = numpy.random.default_rng(0).normal(size=(50, 2)).astype(jax.numpy.result_type(float))
result = jaxgmm.fit(jaxgmm.init(jax.random.key(0), x, 2, "spherical"), x)
print(json.dumps({
    "folder": str(folder), "written": events["cache_misses"], "read": events["cache_hits"],
    "numbers": numpy.asarray(result.mixture.log_prob(x)).tobytes().hex(),
    "shortest": jax.config.jax_persistent_cache_min_compile_time_secs,
}))
"""


def started(*arguments, **environment):
    """A process that keeps programs; what JAX has to say of its folder is an error."""
    command = [sys.executable, "-W", "error:.*persistent compilation cache.*:UserWarning", "-c", WORK, *arguments]
    environment = {name: value for name, value in os.environ.items() if "CACHE" not in name} | environment
    # XLA may say that it assumes what the names of programs make sure of.
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "3"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)


def told(process):
    printed, complaint = process.communicate()
    assert process.returncode == 0, complaint
    assert complaint == ""
    return json.loads(printed)


def test_processes_that_share_a_folder(tmp_path):
    """Two that write it at the same time, and a third one, compute the same; the third compiles nothing."""
    folder = tmp_path / "some" / "folder"
    both = [told(process) for process in [started(str(folder)), started(str(folder))]]
    # What a process leaves that is stopped while it writes.
    (half,) = folder.glob("jit__fit-*-cache") or [None]
    half.write_bytes(half.read_bytes()[:1000])
    half.with_name(half.name.removesuffix("-cache") + "-atime").unlink()
    one, again = told(started(str(folder))), told(started(str(folder)))
    assert {one["folder"] for one in (*both, again)} == {str(folder)}
    assert min(one["written"] for one in both) > 0
    assert (one["written"], again["written"]) == (1, 0)
    assert again["read"] == one["read"] + 1 > 3
    assert len({one["numbers"] for one in (*both, one, again)}) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="each system has its own place for caches")
def test_the_folder_of_a_version(tmp_path):
    found = Path(told(started(XDG_CACHE_HOME=str(tmp_path)))["folder"])
    assert found == tmp_path / "jaxgmm" / f"jax-{metadata.version('jax')}-{metadata.version('jaxlib')}"
    assert any(found.glob("*-cache"))


def test_the_user_has_decided(tmp_path):
    environment = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "mine"), "XDG_CACHE_HOME": str(tmp_path)}
    found = told(started(str(tmp_path / "other"), **environment))
    assert found["folder"] == str(tmp_path / "mine")
    assert found["shortest"] > 0
    assert not (tmp_path / "other").exists()


def test_without_filelock(tmp_path):
    code = "import sys; sys.modules['filelock'] = None; import jaxgmm; jaxgmm.keep_programs(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert "ImportError: keep_programs needs filelock: pip install filelock." in done.stderr
