"""Calls on other threads: under the caller's settings, whatever those are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgmm.ground.threads import side_by_side

from tolerance import once

pytestmark = once


def elsewhere(function):
    """What `function` gives on a thread of its own, twice, as a thread may be used again."""
    first, second = side_by_side(lambda _: function(), range(2))
    assert first == second
    return first


SETTINGS = {
    "default_device": lambda: jax.devices("cpu")[0],
    "debug_nans": lambda: True,
    "debug_infs": lambda: True,
    "disable_jit": lambda: True,
    "enable_x64": lambda: not jax.config.jax_enable_x64,
    "default_matmul_precision": lambda: "bfloat16",
    "numpy_rank_promotion": lambda: "raise",
    "numpy_dtype_promotion": lambda: "strict",
    "default_prng_impl": lambda: "rbg",
    "check_tracer_leaks": lambda: True,
    "transfer_guard": lambda: "log",
    "transfer_guard_host_to_device": lambda: "log",
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_of_the_caller_holds_on_other_threads(name):
    read = lambda: getattr(jax.config, f"jax_{name}")  # noqa: E731
    value, before = SETTINGS[name](), read()
    assert value != before
    with getattr(jax, name)(value):
        assert elsewhere(read) == value
    assert elsewhere(read) == before


def test_what_the_settings_are_for():
    with jax.debug_nans(True), pytest.raises(FloatingPointError):
        elsewhere(lambda: jnp.log(jnp.asarray(-1.0)))
    traced = []
    with jax.disable_jit():
        elsewhere(lambda: jax.jit(lambda x: traced.append(x))(1.0))
    assert traced == [1.0, 1.0]
    with jax.numpy_rank_promotion("raise"), pytest.raises(ValueError, match="rank_promotion"):
        elsewhere(lambda: jnp.ones((2, 2)) + jnp.ones(2))
    with jax.default_prng_impl("rbg"):
        assert elsewhere(lambda: np.shape(jax.random.key_data(jax.random.key(0)))) == (4,)
