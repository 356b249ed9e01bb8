"""The mixture as a numpyro distribution.

Mirrored, in our own words, are the checks that numpyro's test/test_distributions.py makes of each of its distributions:
test_dist_shape, test_has_rsample and test_infer_shapes; test_sample_gradient, of which there is none here;
test_log_prob and test_jit_log_likelihood, against scipy; test_log_prob_gradient, against finite differences;
test_mean_var; test_distribution_constraints; test_vmap_dist, test_vmap_validate_args and the promotion of batch shapes;
test_expand; test_mask_grad; test_dist_pytree and test_consistent_pytree; pickling, as in its test/test_pickle.py; and,
as in its test/test_distributions_mixture.py, mixtures whose weights are zero.
"""

import pickle
import sys

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import scipy.special
import scipy.stats
from numpyro.distributions.batch_util import promote_batch_shape, vmap_over
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoDelta
from numpyro.infer.util import log_density

import jaxgmm

from cases import CASES, COVARIANCES, FEW, GAUSSIANS, MEANS, WEIGHTS
from tolerance import assert_close, dtype, once

KEY = jax.random.key(0)
# One family over structures, and one without: what is the same for all structures is tried on these.
few = pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)


def stack(case):
    """Two mixtures in one: the case's, and the same components with their weights changed round."""
    mixture = case.mixture()
    other = jaxgmm.Mixture(jnp.roll(mixture.log_weights, 1), mixture.components)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), mixture, other)


def reference(case, mixture, rows):
    """Log-density (n,) from scipy's densities of the components."""
    rows, means = np.asarray(rows, float), np.asarray(mixture.means, float)
    if case.integer:
        logs = [scipy.stats.poisson(mean).logpmf(rows).sum(axis=1) for mean in means]
    else:
        pairs = zip(means, np.asarray(mixture.covariances, float), strict=True)
        logs = [scipy.stats.multivariate_normal(mean, covariance).logpdf(rows) for mean, covariance in pairs]
    return scipy.special.logsumexp(np.stack(logs, axis=1) + np.asarray(mixture.log_weights, float), axis=1)


def at(mixtures, place):
    return jax.tree.map(lambda leaf: leaf[place], mixtures)


def shape_of(function, *arguments):
    """Shape of a result, which is not computed."""
    return jax.eval_shape(function, *arguments).shape


def test_shapes(case):
    for mixture, batch_shape in ((case.mixture(), ()), (stack(case), (2,))):
        distribution = jaxgmm.to_numpyro(mixture)
        assert (distribution.batch_shape, distribution.event_shape) == (batch_shape, (2,))
        for sample_shape in ((), (3,), (4, 3)):
            rows = jax.eval_shape(lambda shape=sample_shape, d=distribution: d.sample(KEY, shape))
            assert rows.shape == distribution.shape(sample_shape) == (*sample_shape, *batch_shape, 2)
            assert rows.dtype == dtype()
            assert shape_of(distribution.log_prob, rows) == sample_shape + batch_shape
        assert (
            shape_of(lambda d=distribution: d.mean) == shape_of(lambda d=distribution: d.variance) == (*batch_shape, 2)
        )
        # values broadcast against the batch, as with numpyro's own distributions
        assert shape_of(distribution.log_prob, jnp.zeros((4, 1, 2))) == (4, *(batch_shape or (1,)))
    with pytest.raises(NotImplementedError):
        distribution.infer_shapes((2, 3))


def test_a_draw_carries_no_gradient():
    def total(mixture):
        return jnp.sum(jaxgmm.to_numpyro(mixture).sample(KEY, (3,)))

    gradient = jax.grad(total)(CASES[0].mixture())
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient))
    assert not jaxgmm.to_numpyro(CASES[0].mixture()).has_rsample
    with pytest.raises(NotImplementedError):
        jaxgmm.to_numpyro(CASES[0].mixture()).rsample(KEY)


@pytest.mark.parametrize("case", [*GAUSSIANS, CASES[-1]], ids=lambda case: case.name)
def test_log_prob(case):
    mixtures = stack(case)
    distribution = jaxgmm.to_numpyro(mixtures)
    rows = distribution.sample(KEY, (4, 3))
    value = distribution.log_prob(rows)
    for place in range(2):
        expected = reference(case, at(mixtures, place), rows[:, :, place].reshape(-1, 2)).reshape(4, 3)
        assert_close(value[:, :, place], expected, "exact", scale=10)
    alone = jaxgmm.to_numpyro(at(mixtures, 1))
    assert_close(alone.log_prob(rows[:, :, 1]), value[:, :, 1], "exact", scale=10)
    assert_close(distribution.log_prob(rows[:, :, :1])[:, :, 0], value[:, :, 0], "exact", scale=10)
    assert_close(jax.jit(lambda d, rows: d.log_prob(rows))(distribution, rows), value, "exact", scale=10)


def test_gradient_of_log_prob_against_differences(case):
    rows = case.data(6).reshape(2, 3, 2)
    free = case.mixture().unconstrain()

    @jax.jit
    def value(free, rows):
        return jnp.sum(jaxgmm.to_numpyro(free.constrain()).log_prob(rows))

    gradient = jax.jit(jax.grad(value))(free, rows)
    step = 1e-2 if dtype() is np.float32 else 1e-4
    for place, (leaf, slope) in enumerate(zip(jax.tree.leaves(free), jax.tree.leaves(gradient), strict=True)):
        direction = jnp.sin(1.0 + jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape)

        def moved(size, place=place, direction=direction):
            leaves, tree = jax.tree.flatten(free)
            leaves[place] = leaves[place] + size * direction
            return value(jax.tree.unflatten(tree, leaves), rows)

        expected = (moved(step) - moved(-step)) / (2 * step)
        assert float(jnp.vdot(slope, direction)) == pytest.approx(float(expected), rel=5e-3, abs=2e-2)


@once
def test_mean_and_variance(case):
    distribution = jaxgmm.to_numpyro(stack(case))
    rows = np.asarray(distribution.sample(KEY, (20_000,)), float)
    deviation = np.sqrt(distribution.variance)
    assert np.all(np.abs(rows.mean(axis=0) - distribution.mean) < 5 * deviation / np.sqrt(20_000))
    np.testing.assert_allclose(rows.var(axis=0), distribution.variance, rtol=0.05)


def test_variance_far_from_the_origin():
    near = jaxgmm.to_numpyro(jaxgmm.from_parameters(WEIGHTS, MEANS, COVARIANCES["full"]))
    far = jaxgmm.to_numpyro(jaxgmm.from_parameters(WEIGHTS, np.array(MEANS) + 2.0**14, COVARIANCES["full"]))
    assert_close(far.variance, near.variance, "exact")
    assert_close(far.mean - 2.0**14, near.mean, "close", scale=10)


@few
def test_support(case):
    inside = case.data(3)
    outside = inside.at[0, 0].set(-0.5 if case.integer else jnp.nan)
    distribution = jaxgmm.to_numpyro(case.mixture(), validate_args=True)
    assert distribution.support.event_dim == 1
    assert distribution.is_discrete == case.integer
    assert np.all(distribution.support(inside))
    with pytest.warns(UserWarning, match="Out-of-support"):
        value = distribution.log_prob(outside)
    assert value[0] == -jnp.inf
    assert_close(value[1:], distribution.log_prob(inside)[1:], "exact")
    with pytest.warns(UserWarning, match="Out-of-support"):  # constants are looked at inside jit too
        jax.jit(lambda: distribution.log_prob(np.asarray(outside)))()
    with numpyro.validation_enabled(False):
        jaxgmm.to_numpyro(case.mixture()).log_prob(outside)


@once
def test_invalid_parameters():
    good = CASES[0].mixture()
    for bad in (jaxgmm.Mixture(good.log_weights + 1, good.components), jax.tree.map(lambda leaf: leaf * jnp.nan, good)):
        with pytest.raises(ValueError, match=r"invalid mixture parameter.*from_parameters"):
            jaxgmm.to_numpyro(bad, validate_args=True)
        with pytest.raises(ValueError, match="invalid mixture parameter"):
            jax.jit(lambda bad=bad: jaxgmm.to_numpyro(bad, validate_args=True))()
        with numpyro.validation_enabled(False):
            assert jaxgmm.to_numpyro(bad).log_prob(jnp.zeros(2)).shape == ()
    with pytest.raises(ValueError, match=r"\.components\.means has shape \(3, 2\).*leading axes"):
        jaxgmm.to_numpyro(jaxgmm.Mixture(jnp.zeros((2, 3)), good.components))
    with pytest.raises(ValueError, match="5 columns; the mixture was made for 2"):
        jaxgmm.to_numpyro(good).log_prob(jnp.zeros((3, 5)))
    with pytest.raises(RuntimeError, match="Cannot validate"):
        jax.jit(lambda mixture: jaxgmm.to_numpyro(mixture).validate_args(strict=True))(good)


@few
def test_vmap(case):
    mixtures = stack(case)
    made = jax.vmap(lambda mixture: jaxgmm.to_numpyro(mixture, validate_args=True))(mixtures)
    assert made.batch_shape == ()
    assert jax.vmap(lambda d: d.sample(KEY, (3,)))(made).shape == (2, 3, 2)
    stacked = jaxgmm.to_numpyro(mixtures)
    promoted = promote_batch_shape(made)
    assert promoted.batch_shape == (2,)
    assert made.batch_shape == ()
    rows = stacked.sample(KEY, (3,))
    assert_close(promoted.log_prob(rows), stacked.log_prob(rows), "exact")
    axes = vmap_over(jaxgmm.to_numpyro(case.mixture(), validate_args=True), mixture=0)
    value = jax.vmap(lambda d, rows: d.log_prob(rows), in_axes=(axes, 1), out_axes=1)(made, rows)
    assert_close(value, stacked.log_prob(rows), "exact", scale=10)


@once
def test_expand(case):
    single, stacked = jaxgmm.to_numpyro(case.mixture()), jaxgmm.to_numpyro(stack(case))
    column = jaxgmm.to_numpyro(jax.tree.map(lambda leaf: leaf[:, None], stack(case)))
    for distribution, batch_shape in ((single, (3, 2)), (stacked, (3, 2)), (column, (2, 3))):
        expanded = distribution.expand(batch_shape)
        rows = jax.eval_shape(lambda d=expanded: d.sample(KEY, (4,)))
        assert rows.shape == (4, *batch_shape, 2)
        assert shape_of(expanded.log_prob, rows) == (4, *batch_shape)
        assert shape_of(lambda d=expanded: d.mean) == (*batch_shape, 2)
        assert expanded.expand((5, *batch_shape)).batch_shape == (5, *batch_shape)
    with pytest.raises(ValueError, match="Cannot broadcast distribution"):
        stacked.expand((3,))
    assert shape_of(stacked.to_event(1).log_prob, jnp.zeros((4, 2, 2))) == (4,)


def test_expanding_draws_again_for_every_place():
    column = jaxgmm.to_numpyro(jax.tree.map(lambda leaf: leaf[:, None], stack(CASES[0])))
    rows = np.asarray(column.expand((2, 3)).sample(KEY, (4,)))
    assert len(np.unique(rows.reshape(-1, 2), axis=0)) == 24


@few
def test_pytree(case):
    distribution = jaxgmm.to_numpyro(stack(case))
    rows = distribution.sample(KEY, (4,))
    expected = distribution.log_prob(rows)
    leaves, tree = jax.tree.flatten(distribution)
    assert len(leaves) == len(jax.tree.leaves(case.mixture()))
    for same in (
        jax.tree.unflatten(tree, leaves),
        jax.jit(lambda d: d)(distribution),
        pickle.loads(pickle.dumps(distribution)),
        jax.lax.scan(lambda d, _: (d, None), distribution, jnp.arange(2))[0],
        at(jax.lax.map(lambda _: distribution, jnp.arange(2.0)), 0),
    ):
        assert same.batch_shape == (2,)
        assert_close(same.sample(KEY, (4,)), rows, "exact")
        assert_close(same.log_prob(rows), expected, "exact")


@few
def test_components_without_weight(case):
    mixture = case.mixture()
    absent = jaxgmm.Mixture(jnp.log(jnp.array([0.6, 0.4, 0.0])), mixture.components)
    distribution, alone = jaxgmm.to_numpyro(absent), jaxgmm.to_numpyro(absent.take([0, 1]))
    rows = case.data(50)
    assert_close(distribution.log_prob(rows), alone.log_prob(rows), "exact", scale=10)
    assert_close(distribution.mean, alone.mean, "exact")
    assert_close(distribution.variance, alone.variance, "exact")
    gradient = jax.grad(lambda m: jnp.sum(jaxgmm.to_numpyro(m).log_prob(rows)))(absent)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("form", COVARIANCES)
def test_agrees_with_the_mixture_that_numpyro_has(form):
    def ours(weights, means, covariances):
        return jaxgmm.to_numpyro(jaxgmm.from_parameters(weights, means, covariances, form))

    def theirs(weights, means, covariances):
        dense = jaxgmm.from_parameters(weights, means, covariances, form).covariances
        return dist.MixtureSameFamily(dist.Categorical(probs=weights), dist.MultivariateNormal(means, dense))

    parameters = jax.tree.map(jnp.asarray, (np.array(WEIGHTS), np.array(MEANS), np.array(COVARIANCES[form])))
    rows = CASES[0].data(12).reshape(3, 4, 2)

    def value_and_gradients(make):
        # The weights as numbers that are normalised, so that both mean the same by a derivative.
        def total(weights, *others):
            value = make(weights / jnp.sum(weights), *others).log_prob(rows)
            return jnp.sum(value), value

        return jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True))(*parameters)

    (_, value), gradients = value_and_gradients(ours)
    (_, expected), slopes = value_and_gradients(theirs)
    assert_close(value, expected, "exact", scale=10)
    for gradient, slope in zip(gradients, slopes, strict=True):
        assert_close(gradient, slope, "close")
    assert_close(ours(*parameters).mean, theirs(*parameters).mean, "exact")
    assert_close(ours(*parameters).variance, theirs(*parameters).variance, "exact")


def test_mask_keeps_what_is_missing_out_of_gradients():
    rows = CASES[0].data(6).at[2].set(jnp.nan)

    def total(mixture):
        mask = jnp.all(jnp.isfinite(rows), axis=-1)
        return jnp.sum(jaxgmm.to_numpyro(mixture).mask(mask).log_prob(rows))

    value, gradient = jax.value_and_grad(total)(CASES[0].mixture())
    assert_close(value, jnp.sum(CASES[0].mixture().log_prob(jnp.delete(rows, 2, axis=0))), "exact", scale=10)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def line(rows):
    """A mixture in one column with everything but its two means known; these are ordered."""
    means = numpyro.sample("means", dist.TransformedDistribution(dist.Normal(0, 10).expand((2,)).to_event(1), ORDERED))
    mixture = jaxgmm.from_parameters([0.4, 0.6], means[:, None], [1.0, 1.0], "spherical")
    with numpyro.plate("rows", len(rows)):
        numpyro.sample("x", jaxgmm.to_numpyro(mixture), obs=rows)


ORDERED = dist.transforms.OrderedTransform()
ROWS = np.asarray(jaxgmm.from_parameters([0.4, 0.6], [[-3.0], [3.0]], [1.0, 1.0], "spherical").sample(KEY, 200))


def test_in_a_model():
    means = jnp.array([-2.0, 2.5])
    prior = dist.TransformedDistribution(dist.Normal(0, 10).expand((2,)).to_event(1), ORDERED)
    mixture = jaxgmm.from_parameters([0.4, 0.6], means[:, None], [1.0, 1.0], "spherical")
    value, trace = log_density(line, (ROWS,), {}, {"means": means})
    assert_close(value, prior.log_prob(means) + jnp.sum(mixture.log_prob(ROWS)), "exact")
    assert trace["x"]["fn"].batch_shape == (200,)

    def generate():
        with numpyro.plate("rows", 7):
            return numpyro.sample("x", jaxgmm.to_numpyro(mixture))

    with numpyro.handlers.trace() as trace, numpyro.handlers.seed(rng_seed=KEY):
        rows = generate()
    assert rows.shape == (7, 1)
    assert np.unique(rows).size == 7
    assert_close(trace["x"]["fn"].log_prob(rows), mixture.log_prob(rows), "exact")


@once
def test_variational_inference_climbs_to_the_maximum():
    start = jaxgmm.from_parameters([0.4, 0.6], [[-1.0], [1.0]], [1.0, 1.0], "spherical")
    svi = SVI(line, AutoDelta(line), numpyro.optim.Adam(0.1), Trace_ELBO())
    result = svi.run(KEY, 150, ROWS, progress_bar=False)
    means = np.asarray(result.params["means_auto_loc"])

    def negative(means):
        return -log_density(line, (ROWS,), {}, {"means": means})[0]

    assert np.all(np.abs(means - [-3.0, 3.0]) < 0.5)
    assert np.linalg.norm(jax.grad(negative)(means)) < 0.05 * np.linalg.norm(jax.grad(negative)(start.means[:, 0]))


@once
def test_nuts_finds_the_means():
    mcmc = MCMC(NUTS(line), num_warmup=100, num_samples=200, progress_bar=False)
    mcmc.run(KEY, ROWS)
    draws = np.asarray(mcmc.get_samples()["means"])
    best = np.array([ROWS[ROWS < 0].mean(), ROWS[ROWS > 0].mean()])
    error = 1 / np.sqrt([(ROWS < 0).sum(), (ROWS > 0).sum()])
    assert np.all(np.abs(draws.mean(axis=0) - best) < error)
    np.testing.assert_allclose(draws.std(axis=0), error, rtol=0.3)


@once
def test_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "jaxgmm.adapters.numpyro_distribution")
    monkeypatch.setitem(sys.modules, "numpyro.distributions", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxgmm\[numpyro\]'"):
        jaxgmm.to_numpyro(CASES[0].mixture())
