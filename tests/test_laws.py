"""Laws that hold for every family and structure in the registry, in both dtypes."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxgmm

from cases import CASES, COMPOSED, FEW, THIN, TWO_WAYS, TWO_WAYS_VARIED, WITH_NOISE, repetitions
from tolerance import assert_close, dtype, once, tolerance

KEY = jax.random.key(7)
# Coordinates that are not fitted.
KNOWN = ("components.center", "components.widths")


@pytest.fixture(params=[*CASES, WITH_NOISE], ids=lambda case: case.name)
def case(request):
    """Every registered case in turn, and clusters before noise."""
    return request.param


two_ways = pytest.mark.parametrize("case", [*TWO_WAYS, WITH_NOISE], ids=lambda case: case.name)


def leaves_close(a, b, kind, scale=1.0):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda u, v: assert_close(u, v, kind, scale), a, b)


def stacked(trees):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def permuted(case, mixture, order):
    """The mixture with its components in another order, made from dense parameters and from nothing internal."""
    clusters, places = mixture.components.clusters, order[: len(mixture.components.clusters.means)]
    clusters = jax.tree.map(lambda leaf: leaf[places] if leaf.shape[:1] == places.shape else leaf, clusters)
    return jaxgmm.Mixture(mixture.log_weights[order], mixture.components.with_clusters(clusters))


def test_density_integrates_to_one(case):
    """That of the clusters to what noise leaves them, whose own is as much wherever one looks."""
    points, volume = case.grid()
    mixture = case.mixture()
    density = np.exp(np.asarray(mixture.log_prob(points), np.float64))
    if (noise := mixture.noise_component) is None:
        assert np.sum(density * volume) == pytest.approx(1, abs=1e-4)
        return
    behind = density * np.asarray(mixture.responsibilities(points), np.float64)[:, noise]
    np.testing.assert_allclose(behind, mixture.weights[noise] / np.prod(mixture.components.widths), rtol=1e-3)
    assert np.sum((density - behind) * volume) == pytest.approx(1 - float(mixture.weights[noise]), abs=1e-4)


def test_responsibilities_sum_to_one_and_agree_with_predict(case):
    mixture, x = case.mixture(), case.data()
    responsibilities = mixture.responsibilities(x)
    assert_close(jnp.sum(responsibilities, axis=1), 1, "exact")
    np.testing.assert_array_equal(mixture.predict(x), jnp.argmax(responsibilities, axis=1))


@two_ways
def test_statistics_of_two_halves_add_up(case):
    mixture, x = case.mixture(), case.data()
    weights = jnp.linspace(0, 2, x.shape[0])
    whole = jaxgmm.e_step(mixture, x, weights)
    halves = jaxgmm.e_step(mixture, x[:300], weights[:300]) + jaxgmm.e_step(mixture, x[300:], weights[300:])
    leaves_close(halves, whole, "close")


@two_ways
def test_statistics_are_moved_to_the_means_of_another_mixture(case):
    """Responsibilities are of one mixture, places of another: the M-step is the same."""
    mixture, x = case.mixture(), case.data()
    other = jaxgmm.m_step(mixture, jaxgmm.e_step(mixture, x[150:450]), jaxgmm.scale_of(x))
    early, late = jaxgmm.e_step(mixture, x[:300]), jaxgmm.e_step(mixture, x[300:])
    if case is THIN:  # they are about the loadings as well
        with pytest.raises(NotImplementedError, match="low rank"):
            early.recentred(mixture, other)
        return
    moved = early.recentred(mixture, other) + late.recentred(mixture, other)
    expected = jaxgmm.m_step(mixture, early + late, jaxgmm.scale_of(x))
    # Steps in turn begin where they are, and end nearby.
    kind = "converged" if case in COMPOSED and case.name != "EVV" else "close"
    leaves_close(jaxgmm.m_step(other, moved, jaxgmm.scale_of(x)), expected, kind, scale=10)
    leaves_close(moved.recentred(other, mixture), early + late, "close", scale=10)


@pytest.mark.parametrize(
    ("case", "block_size"),
    [*((case, 128) for case in (*TWO_WAYS, WITH_NOISE)), *itertools.product(FEW, (1, 599))],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_blocks_do_not_matter(case, block_size):
    mixture, x = case.mixture(), case.data()
    leaves_close(jaxgmm.e_step(mixture, x, block_size=block_size), jaxgmm.e_step(mixture, x), "close")
    assert_close(
        jaxgmm.log_likelihood(mixture, x, block_size=block_size), jnp.sum(mixture.log_prob(x)), "exact", scale=10
    )


def test_em_never_lowers_the_likelihood(case):
    x = case.data()
    scale = jaxgmm.scale_of(x)

    @jax.jit
    def step(mixture):
        statistics = jaxgmm.e_step(mixture, x)
        return statistics.log_likelihood, jaxgmm.m_step(mixture, statistics, scale)

    for seed in range(5):
        mixture = case.start_from_rows(x, seed)
        previous = -np.inf
        for _ in range(30):
            value, mixture = step(mixture)
            assert float(value) >= previous - tolerance("exact") * abs(previous)
            previous = float(value)


def test_fit_climbs_and_reports_the_likelihood_of_what_it_returns(case):
    x = case.data()
    result = jaxgmm.fit(case.init(KEY, x), x)
    assert jaxgmm.Status(int(result.status)) == jaxgmm.Status.CONVERGED
    assert_close(result.log_likelihood, jaxgmm.log_likelihood(result.mixture, x), "exact", scale=100)
    history = np.asarray(result.history)[: int(result.n_iter) + 1]
    assert np.all(np.diff(history) >= 0)
    assert result.log_likelihood >= jaxgmm.log_likelihood(case.mixture(), x)


def test_gradient_is_zero_at_the_fixed_point(case):
    x = case.data()
    result = jaxgmm.fit(case.init(KEY, x), x, tol=0, max_iter=5000)

    @jax.jit
    @jax.grad
    def gradient(free):
        return jaxgmm.log_likelihood(free.constrain(), x) / x.shape[0]

    elsewhere, end = gradient(case.mixture().unconstrain()), gradient(result.mixture.unconstrain())
    # A slope g promises g^2 / 2 I per row, of information I up to 4. Rounding hides that in a mean over n rows of sums
    # of terms of up to 60 (counts of 20 times their logarithms); and three times as much.
    limit = 3 * np.sqrt(2 * 4 * 60 * np.finfo(dtype()).eps / np.sqrt(len(x)))
    assert limit < 5e-3
    assert max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(elsewhere)) > 1e-2
    assert max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(end)) < limit


def test_gradient_agrees_with_finite_differences(case):
    x = case.data(50)
    free = case.mixture().unconstrain()
    flat, rebuild = ravel_pytree(free)
    # What no fit moves has no derivative.
    moves = {name: jnp.full_like(leaf, name not in KNOWN) for name, leaf in free.coordinates.items()}
    direction = jax.random.normal(KEY, flat.shape) * ravel_pytree([*moves.values()])[0]

    @jax.jit
    @jax.value_and_grad
    def both(flat):
        return jaxgmm.log_likelihood(rebuild(flat).constrain(), x) / x.shape[0]

    def slope(step):
        return (both(flat + step * direction)[0] - both(flat - step * direction)[0]) / (2 * step)

    step = 1e-5 if dtype() is np.float64 else 1e-2
    # What the square of the step adds is taken off.
    expected = (4 * slope(step / 2) - slope(step)) / 3
    assert_close(both(flat)[1] @ direction, expected, "close", scale=100 if dtype() is np.float64 else 1)


@pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)
def test_derivatives_of_a_sum_over_blocks(case):
    """Blocks are summed together with their gradient; all derivatives are those of a single block."""
    x, weights = case.data(), jnp.linspace(0.0, 2.0, 600)
    start = case.mixture().unconstrain()
    way = jax.tree.map(lambda leaf: jnp.sin(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape), start)

    @functools.partial(jax.jit, static_argnames="block_size")
    def derivatives(block_size):
        def value(free, x, weights):
            return jaxgmm.log_likelihood(free.constrain(), x, weights, block_size=block_size)

        gradient = jax.grad(value, argnums=(0, 1, 2))
        return (
            gradient(start, x, weights),
            jax.jvp(lambda free, weights: value(free, x, weights), (start, weights), (way, weights))[1],
            jax.jvp(lambda free: gradient(free, x, weights)[0], (start,), (way,))[1],
            jax.vmap(lambda t: jax.grad(value)(jax.tree.map(lambda a, b: a + t * b, start, way), x, weights))(
                jnp.array([0.0, 0.1])
            ),
        )

    leaves_close(derivatives(64), derivatives(600), "close", scale=600)


@two_ways
@pytest.mark.parametrize("block_size", [None, 50])
def test_weights_are_repetitions(case, block_size):
    x = case.data()
    counts = repetitions(600)
    mixture = case.mixture()
    weighted = jaxgmm.e_step(mixture, x, counts, block_size=block_size)
    leaves_close(weighted, jaxgmm.e_step(mixture, np.repeat(x, counts, axis=0)), "close", scale=10)


def test_rows_without_weight_are_absent(case):
    x = np.array(case.data())
    weights = np.ones(600)
    weights[::3] = 0
    garbage = np.where(weights[:, None] > 0, x, np.nan)
    actual = jaxgmm.fit(case.init(KEY, garbage, weights=weights), garbage, weights, tol=0)
    gradient = jax.grad(lambda m: jaxgmm.log_likelihood(m, garbage, weights))(actual.mixture)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((actual.mixture, gradient)))
    assert_close(jaxgmm.log_likelihood(actual.mixture, garbage, weights), actual.log_likelihood, "exact", scale=10)
    present = x[weights > 0]
    step = jaxgmm.m_step(actual.mixture, jaxgmm.e_step(actual.mixture, present), jaxgmm.scale_of(present))
    for mixture in (actual.mixture, step):
        assert_close(jaxgmm.log_likelihood(mixture, present), actual.log_likelihood, "exact", scale=10)


@two_ways
def test_permuting_components_permutes_nothing_else(case):
    mixture, x = case.mixture(), case.data()
    order = np.array([2, 0, 1, 3])[: mixture.n_components]
    other = permuted(case, mixture, order)
    assert_close(other.log_prob(x), mixture.log_prob(x), "exact", scale=10)
    assert_close(other.responsibilities(x), mixture.responsibilities(x)[:, order], "exact", scale=10)
    stepped = jaxgmm.m_step(other, jaxgmm.e_step(other, x), jaxgmm.scale_of(x))
    expected = jaxgmm.m_step(mixture, jaxgmm.e_step(mixture, x), jaxgmm.scale_of(x))
    for name in ("weights", "means", "covariances"):
        assert_close(getattr(stepped, name), getattr(expected, name)[order], "close")


@two_ways
def test_sorted_components_are_the_same_mixture(case):
    mixture, x = case.mixture(), case.data()
    roomy = jaxgmm.Mixture(mixture.log_weights.at[1].set(-jnp.inf), mixture.components)
    last = mixture.n_columns - 1
    for given in (mixture, roomy):
        there = np.asarray(given.weights) > 0
        means = np.where(there, given.means[:, last], np.inf)
        behind, k = np.arange(3, mixture.n_components), slice(0, 3)
        for by, keys in (("weight", -np.asarray(given.log_weights)), (-1, means)):
            order = np.concatenate([np.argsort(keys[k], stable=True), behind])
            found = given.sorted(by=by)
            leaves_close(found, permuted(case, given, order), "exact")
            np.testing.assert_array_equal(found.predict(x), np.argsort(order)[np.asarray(given.predict(x))])
            leaves_close(jax.jit(lambda one, by=by: one.sorted(by))(given), found, "exact")
            assert found.n_parameters == given.n_parameters
    with pytest.raises(TypeError, match=r"by is 'width'; expected 'weight' or a column"):
        mixture.sorted(by="width")
    with pytest.raises(ValueError, match=r"by holds 9; expected 0 to"):
        mixture.sorted(by=9)


@pytest.mark.parametrize("case", [*TWO_WAYS_VARIED, WITH_NOISE], ids=lambda case: case.name)
def test_jit_is_eager(case):
    mixture, x = case.mixture(), case.data()
    with jax.disable_jit():
        eager = jaxgmm.e_step(mixture, x, block_size=200)
        scale = jaxgmm.scale_of(x)
        stepped = jaxgmm.m_step(mixture, eager, scale)
    jitted = jax.jit(lambda m, x: jaxgmm.e_step(m, x, block_size=200))(mixture, x)
    leaves_close(jitted, eager, "close")
    leaves_close(jax.jit(jaxgmm.m_step)(mixture, jitted, jax.jit(jaxgmm.scale_of)(x)), stepped, "close")


@pytest.mark.parametrize("case", [*FEW, WITH_NOISE], ids=lambda case: case.name)
def test_a_fit_under_jit_is_the_one_at_top_level(case):
    def pipeline(key, x, tol):
        return jaxgmm.fit(case.init(key, x, method="kmeans"), x, tol=tol, max_iter=20)

    leaves_close(jax.jit(pipeline)(KEY, case.data(), 1e-5), pipeline(KEY, case.data(), 1e-5), "close", scale=10)


@pytest.mark.parametrize("case", [*TWO_WAYS_VARIED, WITH_NOISE], ids=lambda case: case.name)
def test_under_jit_vmap_is_a_loop_and_stacks_of_mixtures_pass_through_it(case):
    xs, keys = jnp.stack([case.data(seed=seed) for seed in range(4)]), jax.random.split(KEY, 4)
    seeded = jax.jit(jax.vmap(lambda key, x: case.init(key, x, method="kmeans")))(keys, xs)
    fitted = jax.jit(jax.vmap(lambda mixture, x, tol: jaxgmm.fit(mixture, x, tol=tol, max_iter=20), (0, 0, None)))
    together = fitted(seeded, xs, 1e-5)
    starts = [jax.tree.map(lambda leaf, place=place: leaf[place], seeded) for place in range(4)]
    if case in FEW:  # seeding is the same for all structures
        alone = [case.init(key, x, method="kmeans") for key, x in zip(keys, xs, strict=True)]
        leaves_close(seeded, stacked(alone), "close", scale=10)
    one_by_one = [jaxgmm.fit(start, x, tol=1e-5, max_iter=20) for start, x in zip(starts, xs, strict=True)]
    assert_close(together.log_likelihood, stacked(one_by_one).log_likelihood, "exact", scale=10)
    assert_close(together.mixture.means, stacked(one_by_one).mixture.means, "converged")
    assert together.mixture.means.shape == (4, *case.mixture().means.shape)
    again = jax.vmap(lambda mixture, x: mixture.log_prob(x))(together.mixture, xs)
    assert_close(jnp.sum(again, axis=1), together.log_likelihood, "exact", scale=100)
    assert jax.vmap(lambda mixture, x: mixture.predict(x))(together.mixture, xs).shape == (4, 600)


def test_n_parameters_is_the_rank_of_the_free_coordinates(case):
    """Beside which the volume of noise counts, which is not fitted."""
    mixture = case.mixture()
    flat, rebuild = ravel_pytree(mixture.unconstrain())

    def natural(flat):
        mixture = rebuild(flat).constrain()
        return ravel_pytree((mixture.weights, mixture.means, mixture.covariances))[0]

    jacobian = np.asarray(jax.jit(jax.jacfwd(natural))(flat), np.float64)
    assert np.linalg.matrix_rank(jacobian, tol=1e-4) == mixture.n_parameters - mixture.components.n_background


def test_n_parameters_may_be_more_than_integers_of_32_bits_hold():
    k, d = 512, 2048
    factors = jax.ShapeDtypeStruct((k, d, d), np.float32)  # they would take 8 gigabytes
    components = jaxgmm.Gaussian(np.zeros((k, d), np.float32), jaxgmm.Each(jaxgmm.Tril(factors)))
    log_weights = jnp.full((k,), -np.log(k), np.float32)
    count = lambda log_weights: jaxgmm.Mixture(log_weights, components).n_parameters  # noqa: E731
    expected = k - 1 + k * d + k * d * (d + 1) // 2
    assert count(log_weights) == expected > 2**30
    assert count(log_weights.at[0].set(-np.inf)) == expected - 1 - d - d * (d + 1) // 2
    for traced in (jax.jit(count)(log_weights), jax.vmap(count)(log_weights[None])[0], count(log_weights[None])[0]):
        np.testing.assert_allclose(np.float64(traced), expected, rtol=1e-6)
    few = jaxgmm.from_parameters([0.5, 0.5], [[0.0], [1.0]], [1.0, 1.0], "spherical")
    assert jnp.issubdtype(jax.jit(lambda mixture: mixture.n_parameters)(few).dtype, jnp.integer)


def test_constrain_inverts_unconstrain_and_takes_any_numbers(case):
    mixture, x = case.mixture(), case.data()
    leaves_close(mixture.unconstrain().constrain(), mixture, "exact")
    flat, rebuild = ravel_pytree(mixture.unconstrain())
    moved = rebuild(2 * jax.random.normal(KEY, flat.shape)).constrain()
    assert_close(jnp.sum(moved.weights), 1, "exact")
    assert np.all(np.isfinite(moved.log_prob(x)))
    assert np.all(np.linalg.eigvalsh(np.asarray(moved.covariances, np.float64)) > 0)


def test_dtype_is_kept(case):
    for wanted in {np.float32, dtype()}:
        x = np.asarray(case.data(), wanted)

        def outputs(x):
            result = jaxgmm.fit(case.init(KEY, x), x, max_iter=3)
            mixture = result.mixture
            scores = mixture.log_prob(x), mixture.responsibilities(x), jaxgmm.e_step(mixture, x)
            return mixture, result.log_likelihood, result.history, mixture.sample(KEY, 3), scores

        # The families at top level too, where numbers of the host come in; what a structure adds is in the trace.
        found = [jax.eval_shape(outputs, x), *([outputs(x)] if case in FEW else [])]
        assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype(wanted)}


@once
def test_samples_recover_moments(case):
    mixture = case.mixture()
    x = np.asarray(mixture.sample(KEY, 40_000), np.float64)
    weights, means, covariances = (np.asarray(a) for a in (mixture.weights, mixture.means, mixture.covariances))
    mean = weights @ means
    covariance = np.einsum("k,kij->ij", weights, covariances) + np.cov(means.T, aweights=weights, ddof=0)
    # six standard errors of a mean and, bounded by the fourth moments of these mixtures, of a covariance
    error = 6 * np.sqrt(np.diag(covariance) / len(x))
    np.testing.assert_array_less(np.abs(x.mean(axis=0) - mean), error)
    np.testing.assert_allclose(np.cov(x.T), covariance, atol=12 * np.max(np.diag(covariance)) / np.sqrt(len(x)))


@pytest.mark.parametrize("case", FEW, ids=lambda case: case.name)
def test_gradient_through_init(case):
    """Of the means, which are the same for all structures."""
    x = case.data()
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(case.init(KEY, x).means ** 2)))(x)
    assert np.all(np.isfinite(gradient))
    assert np.any(gradient != 0)
