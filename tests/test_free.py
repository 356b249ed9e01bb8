"""Free coordinates are no mixture."""

import copy
import pickle

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest

import jaxgmm

from cases import CASES
from compilations import counted
from tolerance import assert_close, once

KEY = jax.random.key(2)


def test_all_that_can_be_asked_of_them_is_to_constrain(case):
    free = case.mixture().unconstrain()
    assert isinstance(free, jaxgmm.Free)
    verbs = {name for name in dir(free) if not name.startswith("_") and callable(getattr(free, name))}
    assert verbs == {"constrain"}
    shared = {name for name in dir(jaxgmm.Mixture) if not name.startswith("_")} & set(dir(free))
    assert shared == set()
    assert not hasattr(case.mixture(), "constrain")
    # Nor is there a part that could be asked: all below it are arrays.
    assert all(isinstance(leaf, jax.Array) for leaf in free.coordinates.values())
    assert repr(free).startswith("Free(coordinates=")
    assert "Mixture" not in repr(free)


@once
def test_whatever_takes_a_mixture_refuses_them(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # the library's own words, not the type checker's
    free, x = CASES[0].mixture().unconstrain(), jnp.zeros((5, 2))
    takers = [
        lambda: jaxgmm.fit(free, x),
        lambda: jaxgmm.log_likelihood(free, x),
        lambda: jaxgmm.e_step(free, x),
        lambda: jaxgmm.product(free, free),
        lambda: jaxgmm.kl_divergence(KEY, free, free, 10),
        lambda: jaxgmm.to_numpyro(free),
        lambda: jaxgmm.to_scipy(free),
        lambda: jaxgmm.save("nowhere.npz", free),
        lambda: jaxgmm.align(free, free),
    ]
    for take in takers:
        with pytest.raises(TypeError, match=r"Free; expected a jaxgmm.Mixture. Write \w+.constrain\(\) in its place"):
            take()


@once
def test_names_are_those_of_the_parameters():
    free = CASES[0].mixture().unconstrain()
    assert list(free.coordinates) == ["log_weights", "components.means", "components.covariance.factor.scale_tril"]
    assert [leaf.shape for leaf in free.coordinates.values()] == [(3,), (3, 2), (3, 2, 2)]


@once
def test_they_can_be_copied_and_pickled():
    free = CASES[0].mixture().unconstrain()
    for other in (copy.deepcopy(free), pickle.loads(pickle.dumps(free)), jax.tree.map(jnp.copy, free)):
        assert jax.tree.structure(other) == jax.tree.structure(free)
        assert np.all(other.constrain().means == free.constrain().means)


def test_stacks_make_stacks(case):
    mixture = case.mixture()
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), mixture, mixture.take([2, 0, 1]))
    free = jax.vmap(jaxgmm.Mixture.unconstrain)(stack)
    for back in (free.constrain(), jax.vmap(jaxgmm.Free.constrain)(free), stack.unconstrain().constrain()):
        for actual, expected in zip(jax.tree.leaves(back), jax.tree.leaves(stack), strict=True):
            assert_close(actual, expected, "exact")


@once
def test_an_optimiser_may_hold_some_of_them_by_name():
    mixture = CASES[0].mixture()
    x = mixture.sample(KEY, 50)

    def label(free):
        return jax.tree.map_with_path(
            lambda path, _: "moved" if "means" in jax.tree_util.keystr(path) else "held", free
        )

    optimizer = optax.multi_transform({"moved": optax.adam(0.1), "held": optax.set_to_zero()}, label)

    @jax.jit
    def step(free):
        slope = jax.grad(lambda free: -jnp.mean(free.constrain().log_prob(x)))(free)
        return optax.apply_updates(free, optimizer.update(slope, optimizer.init(free), free)[0])

    end = step(mixture.unconstrain()).constrain()
    assert np.all(end.means != mixture.means)
    assert_close(end.covariances, mixture.covariances, "exact")
    other = mixture.take([1, 2, 0]).unconstrain()
    with counted() as again:
        step(other)
    assert again == []
