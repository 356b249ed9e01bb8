"""Mixtures as parts of larger models: gradients that stay finite, the module systems, and one mixture for each row."""

import io

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
from flax import nnx
from jax.flatten_util import ravel_pytree

import jaxgmm

from cases import CASES, COVARIANCES, FEW, MEANS, WEIGHTS
from compilations import counted
from tolerance import assert_close, dtype, once

KEY = jax.random.key(0)
GAUSSIAN = [case for case in CASES if not case.integer]


@jax.jit
def gradients(mixture, x):
    """Of the log-density and of the doubt about components, in all parameters, in free coordinates and in the row."""

    def total(mixture, free, x):
        # What is not finite stays so in a sum.
        return sum(jnp.sum(each.log_prob(x)) + jnp.sum(each.entropy(x)) for each in (mixture, free.constrain()))

    return jax.grad(total, argnums=(0, 1, 2))(mixture, mixture.unconstrain(), x)


def variants(mixture):
    """Three components; two and one that is absent; two that coincide, and a third."""
    yield "three", mixture
    yield "absent", jaxgmm.Mixture(jnp.log(jnp.array([0.6, 0.4, 0.0])), mixture.components)
    yield "coincide", mixture.take(np.array([0, 0, 1]))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_gradients_are_finite_everywhere(case):
    directions = jnp.array([[1.0, 0.5], [0.0, 1.0], [1.0, 1.0]])
    for name, mixture in variants(case.mixture()):
        deviation = jnp.sqrt(jnp.max(mixture.covariances))
        for distance in (0, 1, 1e3, 1e6, 1e15, 1e30):
            x = mixture.means[:1] + distance * deviation * directions
            x = jnp.round(x) if case.integer else x
            for rows in (x, x[:1]):  # many rows and few take different kernels
                for path, leaf in jax.tree.leaves_with_path(gradients(mixture, rows)):
                    assert np.all(np.isfinite(leaf)), (name, distance, len(rows), jax.tree_util.keystr(path))


def test_entropy_of_responsibilities(case):
    mixture, x = case.mixture(), case.data(200)
    entropy = mixture.entropy(x)
    assert_close(entropy, scipy.special.entr(np.asarray(mixture.responsibilities(x), float)).sum(axis=1), "exact")
    alone = jaxgmm.Mixture(jnp.log(jnp.array([1.0, 0.0, 0.0])), mixture.components)
    assert np.all(alone.entropy(x) == 0)
    assert_close(mixture.take(np.array([1, 1, 1])).entropy(x), np.full(200, np.log(3)), "exact")


@pytest.mark.skipif(dtype() is not np.float64, reason="finite differences need float64")
@pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)
def test_gradient_of_entropy_against_differences(case):
    mixture, x = case.mixture(), case.data(20)
    free, as_mixture = ravel_pytree(mixture.unconstrain())
    direction = jnp.cos(jnp.arange(free.size))

    @jax.jit
    def total(t):
        return jnp.sum(as_mixture(free + t * direction).constrain().entropy(x))

    expected = float(total(1e-5) - total(-1e-5)) / 2e-5
    assert float(jax.grad(total)(0.0)) == pytest.approx(expected, rel=1e-5, abs=1e-7)


@once
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_optax_climbs_in_free_coordinates(case):
    x = case.data(100)
    free = case.start().unconstrain()
    optimizer = optax.adam(0.03)

    def loss(free):
        return -jnp.mean(free.constrain().log_prob(x))

    @jax.jit
    def train(free):
        def step(state, _):
            free, moments = state
            value, gradient = jax.value_and_grad(loss)(free)
            updates, moments = optimizer.update(gradient, moments, free)
            return (optax.apply_updates(free, updates), moments), value

        return jax.lax.scan(step, (free, optimizer.init(free)), length=50)

    (end, _), losses = train(free)
    assert jax.tree.structure(end) == jax.tree.structure(free)
    assert losses[-1] < losses[0]
    mixture = end.constrain()
    assert_close(jnp.sum(mixture.weights), 1, "exact")
    assert np.all(np.linalg.eigvalsh(mixture.covariances) > 0)


def a_mixture():
    return jaxgmm.from_parameters(WEIGHTS, MEANS, COVARIANCES["full"])


class Equinox(eqx.Module):
    """A linear map into the space of a mixture."""

    linear: eqx.nn.Linear
    prior: jaxgmm.Free

    def __call__(self, x):
        return self.prior.constrain().log_prob(jax.vmap(self.linear)(x))


def test_in_an_equinox_module():
    x = jnp.asarray(CASES[0].data(30))
    model = Equinox(eqx.nn.Linear(2, 2, key=KEY), a_mixture().unconstrain())

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def loss(model, x):
        return -jnp.mean(model(x))

    value, gradient = loss(model, x)
    assert isinstance(gradient.prior, jaxgmm.Free)
    assert jax.tree.structure(gradient) == jax.tree.structure(eqx.filter(model, eqx.is_inexact_array))
    moved = eqx.apply_updates(model, jax.tree.map(lambda leaf: -1e-3 * leaf, gradient))
    assert loss(moved, x)[0] < value

    # the mixture held, the rest trained
    held = eqx.tree_at(lambda tree: tree.prior, jax.tree.map(lambda _: True, model), replace=False)
    trained, fixed = eqx.partition(model, held)
    assert jax.tree.leaves(trained.prior) == []
    assert_close(eqx.combine(trained, fixed)(x), model(x), "exact")

    file = io.BytesIO()
    eqx.tree_serialise_leaves(file, model)
    file.seek(0)
    blank = eqx.filter_eval_shape(Equinox, eqx.nn.Linear(2, 2, key=KEY), a_mixture().unconstrain())
    assert_close(eqx.tree_deserialise_leaves(file, blank)(x), model(x), "exact")


def arrays(tree):
    """A tree of parameters as one of their arrays."""
    return jax.tree.map(lambda leaf: leaf[...], tree, is_leaf=lambda leaf: isinstance(leaf, nnx.Param))


class Flax(nnx.Module):
    """The same in flax: each leaf of the mixture is a parameter."""

    def __init__(self, prior, rngs):
        self.linear = nnx.Linear(2, 2, rngs=rngs)
        self.prior = nnx.data(jax.tree.map(nnx.Param, prior.unconstrain()))

    def __call__(self, x):
        return arrays(self.prior).constrain().log_prob(self.linear(x))


def test_in_a_flax_module():
    x = jnp.asarray(CASES[0].data(30))
    model = Flax(a_mixture(), nnx.Rngs(0))
    graph, state = nnx.split(model)
    assert len(jax.tree.leaves(state)) == 2 + len(jax.tree.leaves(a_mixture()))
    assert_close(nnx.merge(graph, state)(x), model(x), "exact")

    optimizer = nnx.Optimizer(model, optax.sgd(1e-3), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        value, gradient = nnx.value_and_grad(lambda model: -jnp.mean(model(x)))(model)
        optimizer.update(model, gradient)
        return value

    before = arrays(model.prior)
    first, second = step(model, optimizer), step(model, optimizer)
    assert second < first
    after = arrays(model.prior)
    assert isinstance(after, jaxgmm.Free)
    assert all(np.any(a != b) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True))


@pytest.mark.parametrize("case", GAUSSIAN, ids=lambda case: case.name)
def test_one_mixture_for_each_row(case):
    template = case.mixture()
    start, as_mixture = ravel_pytree(template.unconstrain())
    heads = start + 0.3 * jax.random.normal(KEY, (7, start.size), dtype())
    rows = case.data(7)

    @jax.jit
    def log_prob(heads, rows):
        return jax.vmap(lambda head, row: as_mixture(head).constrain().log_prob(row[None])[0])(heads, rows)

    value = log_prob(heads, rows)
    for head, row, expected in zip(heads, rows, value, strict=True):
        assert_close(as_mixture(head).constrain().log_prob(row[None])[0], expected, "exact", scale=10)
    others = heads + 1
    with counted() as again:
        log_prob(others, rows)
    assert again == []

    # The coordinates above the diagonal of a factor do nothing, and all others something.
    slope = jax.jit(jax.jacrev(lambda heads: jnp.sum(log_prob(heads, rows))))(heads)
    idle = np.all(np.asarray(slope) == 0, axis=0)
    factors = [leaf for name, leaf in template.unconstrain().coordinates.items() if name.endswith("scale_tril")]
    assert idle.sum() == sum(leaf.size * (leaf.shape[-1] - 1) // (2 * leaf.shape[-1]) for leaf in factors)
    assert not np.any(start[idle])
