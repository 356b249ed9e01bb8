"""A noise component: rows that belong to nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from composition import adam

import jaxgmm
from jaxgmm import Status
from jaxgmm.model.init import NOISE

from cases import COVARIANCES, MEANS, NU, WEIGHTS, WITH_NOISE, Case
from tolerance import assert_close, dtype, once

KEY = jax.random.key(3)
# A start that no test need find.
START = WITH_NOISE.start()


def reference(mixture, x, weights, n_steps):
    """EM with a column of constant density, row by row and component by component, in numpy."""
    log_w = np.asarray(mixture.log_weights, np.float64)
    means = np.array(mixture.components.clusters.means, np.float64)
    covariances = np.array(mixture.components.clusters.covariances, np.float64)
    log_volume = np.sum(np.log(np.asarray(mixture.components.widths, np.float64)))
    k, d = means.shape
    values = []
    for _ in range(n_steps + 1):
        joint = np.full((len(x), k + 1), log_w[k] - log_volume)
        for j in range(k):
            away = x - means[j]
            squares = np.sum(away * np.linalg.solve(covariances[j], away.T).T, axis=1)
            joint[:, j] = log_w[j] - (d * np.log(2 * np.pi) + np.linalg.slogdet(covariances[j])[1] + squares) / 2
        log_prob = np.logaddexp.reduce(joint, axis=1)
        values.append(np.sum(weights * log_prob))
        r = weights[:, None] * np.exp(joint - log_prob[:, None])
        final = np.exp(log_w), means.copy(), covariances.copy()
        log_w = np.log(r.sum(axis=0) / weights.sum())
        for j in range(k):
            means[j] = r[:, j] @ x / r[:, j].sum()
            away = x - means[j]
            covariances[j] = (r[:, j, None] * away).T @ away / r[:, j].sum()
    return values, *final


def test_steps_and_likelihood_are_those_of_the_formula():
    x = WITH_NOISE.data()
    weights = np.linspace(0, 2, len(x))
    n_steps = 8
    values, w, means, covariances = reference(START, np.asarray(x, np.float64), weights, n_steps)
    result = jaxgmm.fit(START, x, weights, max_iter=n_steps, tol=0, acceleration=None)
    found = result.mixture
    for actual, expected in (
        (found.weights, w),
        (found.means[:3], means),
        (found.covariances[:3], covariances),
        (result.history[: n_steps + 1] / len(x), np.array(values) / len(x)),
    ):
        assert_close(actual, expected, "close")
    for name in ("center", "widths"):
        np.testing.assert_array_equal(getattr(found.components, name), getattr(START.components, name))


def test_bic_counts_the_weight_and_the_volume():
    """As mclust does: of k components in d columns with "full" covariances, one parameter less than k and 2 more."""
    mixture, x = WITH_NOISE.mixture(), WITH_NOISE.data()
    k, d = 3, 2
    p = (k - 1) + k * d + k * d * (d + 1) // 2 + 2
    assert mixture.n_parameters == p
    assert int(jax.jit(lambda mixture: mixture.n_parameters)(mixture)) == p
    expected = -2 * np.sum(np.asarray(mixture.log_prob(x), np.float64)) + p * np.log(len(x))
    np.testing.assert_allclose(jaxgmm.bic(mixture, x), expected, rtol=1e-5)
    # A cluster that is absent takes its own along, and noise that has lost its weight nothing.
    without = dataclasses.replace(mixture, log_weights=mixture.log_weights.at[0].set(-jnp.inf))
    assert without.n_parameters == p - 1 - d - d * (d + 1) // 2
    alone = dataclasses.replace(mixture, log_weights=mixture.log_weights.at[3].set(-jnp.inf))
    assert alone.n_parameters == p == int(jax.vmap(lambda m: m.n_parameters)(jax.tree.map(lambda a: a[None], alone))[0])


def spread_out(seed, d, share, n=600, k=3):
    """Clusters of standard deviation 1 that lie apart, and a share of rows spread evenly over a box 20 wide."""
    random = np.random.default_rng(seed)
    while True:
        centers = random.uniform(-7, 7, (k, d))
        if np.min(np.linalg.norm(centers[:, None] - centers, axis=2) + 99 * np.eye(k)) > 5:
            break
    labels = np.where(random.random(n) < share, k, random.integers(k, size=n))
    noise = random.uniform(-10, 10, (n, d))
    x = np.where((labels == k)[:, None], noise, centers[np.minimum(labels, k - 1)] + random.normal(size=(n, d)))
    return x, labels, centers


@once
@pytest.mark.parametrize("d", [2, 5])
def test_restarts_find_clusters_in_noise(d):
    form = jaxgmm.with_noise("full")
    found = []
    for seed, share in enumerate((0.0, 0.05, 0.1, 0.2)):
        x, labels, centers = spread_out(seed, d, share)
        best = jaxgmm.fit_restarts(jax.random.key(seed), x, 3, form, n_restarts=12).best
        assert best.converged
        mixture = best.mixture
        gaps = np.linalg.norm(np.asarray(mixture.means)[:3, None] - centers, axis=2)
        # What the best assignment does that knows where rows were drawn from.
        truth = jaxgmm.from_parameters(np.full(3, 1 / 3), centers, np.ones(3), "spherical")
        known = jaxgmm.with_noise(truth, 20.0**d, weight=max(np.mean(labels == 3), 1e-6))
        best, reached = (
            float(jaxgmm.adjusted_rand_index(labels, one.predict(x), n_labels=4)) for one in (known, mixture)
        )
        found.append((float(mixture.weights[3]) - np.mean(labels == 3), gaps.min(axis=0).max(), reached - best))
    bias, gap, lost = np.abs(np.array(found)).T
    assert bias.max() < 0.03
    # Four standard errors of a mean in as many columns, of some 160 rows.
    assert gap.max() < 4 * np.sqrt(d / 160)
    assert lost.max() < 0.05


@once
def test_noise_far_around_a_cluster_is_as_thin_as_it_is():
    """The scale is that of the cluster, and rows far out tell how wide the box is; none of them alone does."""
    random = np.random.default_rng(0)
    x = np.concatenate([random.normal(size=(800, 2)), random.uniform(-20, 20, (200, 2))])
    form = jaxgmm.with_noise("full")
    found = jaxgmm.fit_restarts(KEY, x, 1, form, n_restarts=4).best.mixture
    np.testing.assert_allclose(found.components.widths, 40, rtol=0.1)
    np.testing.assert_allclose(found.weights[1], 0.2, atol=0.01)
    np.testing.assert_allclose(np.diagonal(found.covariances[0]), 1, atol=0.15)
    for far in (2.0, 15.0, 1e6):
        gaussian = np.concatenate([x[:799], [[far, -far]]])
        widths = np.asarray(jaxgmm.init(KEY, gaussian, 1, form).components.widths)
        np.testing.assert_allclose(widths, 5 * np.asarray(jaxgmm.scale_of(gaussian)), rtol=1e-5)


@pytest.mark.parametrize("method", ["k-means++", "kmeans", "hierarchical"])
def test_a_row_far_out_is_noise_from_the_start(method):
    """No cluster is spent on it, whichever way rows are shared out."""
    random = np.random.default_rng(3)
    clusters = np.concatenate([random.normal(size=(60, 3)), random.normal(size=(60, 3)) + 6])
    form = jaxgmm.with_noise("full")
    for far in (30.0, 1e6):
        x = jnp.asarray(np.concatenate([clusters, [[far, -far, 0]]]))
        for seed in range(3):
            found = jaxgmm.fit(jaxgmm.init(jax.random.key(seed), x, 2, form, method=method), x)
            assert found.status == Status.CONVERGED
            assert found.mixture.predict(x[-1:])[0] == 2
            np.testing.assert_allclose(np.sort(np.asarray(found.mixture.means[:2, 0])), [0, 6], atol=0.5)


@once
def test_volumes_beyond_the_dtype():
    """They are in units to the power of the columns, of which there may be many."""
    random = np.random.default_rng(0)
    x = np.repeat(np.concatenate([random.normal(size=(60, 3)), random.normal(size=(60, 3)) + 6]), 8, axis=1)
    for unit, volume in ((1.0, 1e60), (1e-3, 1e-48)):
        rows = (unit * x).astype(np.float32)
        form = jaxgmm.with_noise("diag", volume=volume)
        found = jaxgmm.fit(jaxgmm.init(KEY, rows, 2, form), rows)
        assert found.status == Status.CONVERGED
        widths = np.asarray(found.mixture.components.widths, np.float64)
        np.testing.assert_allclose(np.sum(np.log(widths)), np.log(volume), rtol=1e-4)


def test_without_noise_it_loses_its_weight_and_is_no_fault():
    x = jax.random.normal(KEY, (300, 2)).at[:150].add(9.0)
    found = jaxgmm.fit_restarts(KEY, x, 2, jaxgmm.with_noise("diag"), n_restarts=4).best
    assert found.converged
    assert float(found.mixture.weights[2]) < 0.01
    assert not found.degenerate_components[2]
    plain = jaxgmm.fit(found.mixture.take([0, 1]), x).mixture
    assert_close(found.mixture.means[:2], plain.means, "converged", scale=5)


def test_gaps_leave_the_density_of_the_columns_that_are_seen():
    mixture, x = WITH_NOISE.mixture(), np.array(WITH_NOISE.data(50))
    x[:20, 0] = np.nan
    rows = jaxgmm.rows(x, missing="nan")
    assert_close(mixture.log_prob(rows)[:20], mixture.marginal([1]).log_prob(x[:20, 1:]), "close")
    assert_close(mixture.log_prob(rows)[20:], mixture.log_prob(x[20:]), "close")
    nothing = mixture.log_prob(jaxgmm.rows(np.full((1, 2), np.nan), missing="nan"))
    assert_close(nothing, 0, "exact")


def test_errors_of_measurement_leave_it_as_it_is():
    mixture, x = WITH_NOISE.mixture(), WITH_NOISE.data(50)
    noise = np.full((50, 2), 0.3)
    wider = jaxgmm.from_parameters(mixture.weights[:3], MEANS, np.array(COVARIANCES["full"]) + 0.3 * np.eye(2))
    wider = jaxgmm.Mixture(mixture.log_weights, mixture.components.with_clusters(wider.components))
    for given in (noise, noise[:, :, None] * np.eye(2)):
        assert_close(mixture.log_prob(jaxgmm.rows(x, noise=given)), wider.log_prob(x), "close")


@pytest.mark.parametrize("kind", ["gaps", "noise", "gaps and noise"])
def test_fits_of_parts_of_rows_climb(kind):
    x = np.array(WITH_NOISE.data(200))
    if "gaps" in kind:
        x[::5, 0] = np.nan
    rows = jaxgmm.rows(x, missing="nan", noise=np.full_like(x, 0.2) if "noise" in kind else None)
    result = jaxgmm.fit(START, rows)
    assert result.converged
    history = np.asarray(result.history)[: int(result.n_iter) + 1]
    assert np.all(np.diff(history) >= 0)
    assert abs(float(result.mixture.weights[3]) - 0.15) < 0.1


def test_derivatives_of_a_fit_are_those_of_fits():
    x = WITH_NOISE.data(300)
    way = jax.random.normal(KEY, x.shape, x.dtype)
    scale = jaxgmm.scale_of(x)
    end = jaxgmm.fit(START, x, tol=0, scale=scale).mixture

    def told(t):
        result = jaxgmm.fit(end, x + t * way, tol=0, scale=scale)
        return jnp.append(result.mixture.weights, jnp.sum(result.mixture.means[:3] ** 2))

    t = 1e-4 if dtype() is np.float64 else 1e-2
    forward = jax.jvp(told, (0.0,), (1.0,))[1]
    assert_close(forward, (told(t) - told(-t)) / (2 * t), "converged", scale=5)
    assert_close(jax.jacrev(told)(0.0), forward, "close", scale=10)
    box = jax.jacrev(lambda t: jaxgmm.fit(end, x + t * way, scale=scale).mixture.components.widths)(0.0)
    np.testing.assert_array_equal(box, 0)


@once
def test_labels_may_say_that_a_row_is_noise():
    x = WITH_NOISE.data()
    labels = np.full(len(x), -1)
    labels[:60] = 3
    rows = jaxgmm.rows(x, labels=labels)
    start = jaxgmm.init(KEY, rows, 3, jaxgmm.with_noise("full", volume=400.0))
    assert float(start.weights[3]) > NOISE + 0.8 * 60 / len(x)
    result = jaxgmm.fit(start, rows)
    assert_close(result.mixture.responsibilities(rows)[:60, 3], 1, "exact")
    best = jaxgmm.fit_restarts(KEY, rows, 3, jaxgmm.with_noise("full"), n_restarts=4).best
    assert float(best.mixture.weights[3]) > 0.1
    with pytest.raises(ValueError, match="labels holds 4"):
        jaxgmm.init(KEY, jaxgmm.rows(x, labels=labels + 1), 3, jaxgmm.with_noise("full"))
    classes = jaxgmm.rows(x, labels=np.where(labels == 3, 1, labels), label_of_component=[0, 0, 0, 1])
    again = jaxgmm.init(KEY, classes, 3, jaxgmm.with_noise("full", volume=400.0))
    assert_close(again.means, start.means, "close")


@once
def test_what_else_is_known_of_rows_has_a_column_for_it():
    x = WITH_NOISE.data(100)
    evidence = jnp.zeros((100, 4)).at[:, 3].set(-jnp.inf)
    rows = jaxgmm.rows(x, log_evidence=evidence)
    assert float(jaxgmm.fit(START, rows).mixture.weights[3]) == 0
    form = jaxgmm.with_noise("diag")
    table = jaxgmm.select(KEY, rows, [3], form, n_restarts=4)
    assert table.best.mixture.n_components == 4
    with pytest.raises(ValueError, match="log_evidence has 4 columns"):
        jaxgmm.select_components(KEY, rows, [2, 3], form)


def test_a_prior_is_of_the_clusters():
    x = WITH_NOISE.data()
    objective = jaxgmm.Posterior(jaxgmm.Prior(jaxgmm.Dirichlet(2.0)))
    result = jaxgmm.fit(START, x, objective=objective, tol=0)
    assert result.converged
    assert np.all(np.diff(np.asarray(result.history)[: int(result.n_iter) + 1]) >= 0)
    # The mode of the weights, and that of a covariance, given the responsibilities.
    mixture = result.mixture
    r = np.asarray(mixture.responsibilities(x), np.float64)
    n = len(x)
    assert_close(mixture.weights, (r.sum(axis=0) + 1) / (n + 4), "converged")
    scatter = np.diag(np.asarray(jaxgmm.scale_of(x), np.float64) ** 2 / 3)  # of three clusters in two columns
    rows = np.asarray(x, np.float64)
    for j in range(3):
        count, mean = r[:, j].sum(), r[:, j] @ rows / r[:, j].sum()
        away = rows - mean
        total = (r[:, j, None] * away).T @ away + scatter
        # Beside a hundredth of a row, far from the mean.
        np.testing.assert_allclose(mixture.covariances[j], total / (count + 4 + 2 + 2), rtol=2e-3, atol=2e-3)


def test_bounds_are_those_of_the_clusters():
    x = WITH_NOISE.data()
    objective = jaxgmm.Bounded(condition=2.0)
    found = jaxgmm.fit(START, x, objective=objective).mixture
    scale = np.asarray(jaxgmm.scale_of(x), np.float64)
    spectra = np.linalg.eigvalsh(np.asarray(found.covariances, np.float64)[:3] / scale / scale[:, None])
    assert np.all(spectra[:, 1] <= 2.001 * spectra[:, 0])
    assert np.any(spectra[:, 1] >= 1.999 * spectra[:, 0])


@once
def test_what_takes_no_noise_says_so():
    x, mixture = WITH_NOISE.data(50), WITH_NOISE.mixture()
    for objective in (jaxgmm.Variational(), jaxgmm.Frozen(weights="equal"), jaxgmm.Frozen(mixture, means=True)):
        with pytest.raises(NotImplementedError, match=f"{type(objective).__name__}.*noise component"):
            jaxgmm.fit(mixture, x, objective=objective)
    for verb in (
        lambda: jaxgmm.product(mixture, mixture),
        lambda: jaxgmm.kl_divergence(KEY, mixture, mixture, 10),
        lambda: jaxgmm.bures_distance(mixture, mixture),
        lambda: mixture.affine(jnp.eye(2)),
        lambda: jaxgmm.entropy_bounds(mixture),
        lambda: jaxgmm.to_numpyro(mixture),
    ):
        with pytest.raises(NotImplementedError, match="noise component"):
            verb()


@pytest.mark.parametrize("form", ["diag", "tied"])
def test_students_and_other_structures_stand_before_it(form):
    student = jaxgmm.from_parameters(WEIGHTS, MEANS, COVARIANCES[form], form)
    student = jaxgmm.Mixture(student.log_weights, jaxgmm.StudentT(student.means, student.components.covariance, NU))
    case = Case(f"noise {form}", lambda: jaxgmm.with_noise(student, 400.0, weight=0.15))
    x = case.data(300)
    result = jaxgmm.fit(case.start(), x)
    assert result.converged
    history = np.asarray(result.history)[: int(result.n_iter) + 1]
    assert np.all(np.diff(history) >= 0)
    name = jaxgmm.with_noise(jaxgmm.StudentT.form(form, nu=NU), volume=400.0).name
    assert name == f"StudentT({form}, nu=6) + noise(400)"


def test_batches_and_streams_lead_to_the_same():
    x = WITH_NOISE.data(600)
    whole = jaxgmm.fit(START, x)
    found = jaxgmm.fit_batches(START, jaxgmm.batches(np.asarray(x), batch_size=200))
    assert_close(found.log_likelihood, whole.log_likelihood, "exact", scale=600)
    assert_close(found.mixture.weights, whole.mixture.weights, "converged")
    state = jaxgmm.fit_online(whole.mixture, np.asarray(x), batch_size=100)
    np.testing.assert_allclose(state.mixture.weights, whole.mixture.weights, atol=0.03)
    np.testing.assert_array_equal(state.mixture.components.widths, START.components.widths)


def test_gradients_lead_there_too():
    x = WITH_NOISE.data()
    end = jaxgmm.fit(START, x).mixture
    result = jaxgmm.fit_gradient(end, x, adam(), n_steps=50)
    assert result.status != jaxgmm.Status.NON_FINITE
    assert not np.any(result.degenerate_components)
    np.testing.assert_array_equal(result.mixture.components.widths, START.components.widths)
    np.testing.assert_allclose(result.mixture.weights, end.weights, atol=2e-3)


def test_files_keep_it(tmp_path):
    mixture = WITH_NOISE.mixture()
    stack = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), mixture)
    for one in (mixture, stack):
        jaxgmm.save(tmp_path / "noise.npz", one)
        found = jaxgmm.load(tmp_path / "noise.npz")
        assert jax.tree.structure(found) == jax.tree.structure(one)
        jax.tree.map(np.testing.assert_array_equal, found, one)
    for wrong in (0.0, -1.0, jnp.nan):
        components = dataclasses.replace(mixture.components, widths=mixture.components.widths.at[0].set(wrong))
        with pytest.raises(ValueError, match="cannot have"):
            jaxgmm.save(tmp_path / "wrong.npz", jaxgmm.Mixture(mixture.log_weights, components))


def test_it_stays_the_last():
    mixture, x = WITH_NOISE.mixture(), WITH_NOISE.data(50)
    assert mixture.noise_component == 3
    clusters = mixture.take([2, 0])
    assert clusters.noise_component is None
    assert_close(clusters.weights, np.array([0.2, 0.5]) / 0.7, "exact")
    some = mixture.take([2, -1])
    assert_close(some.weights, np.array([0.2 * 0.85, 0.15]) / (0.2 * 0.85 + 0.15), "exact")
    for places in ([3, 0], [3], [3, 3]):
        with pytest.raises(ValueError, match="3 is the noise component"):
            mixture.take(places)
    taken = jax.jit(lambda places: mixture.take(places).log_prob(x))
    assert_close(taken(jnp.array([1, 0, 2, 3])), mixture.log_prob(x), "exact", scale=10)
    assert np.all(np.isnan(taken(jnp.array([1, 0, 2, 2]))))
    other = mixture.take(jnp.array([1, 2, 0, 3]))
    for name in ("means", "weights"):
        assert_close(getattr(jaxgmm.align(other, mixture), name), getattr(mixture, name), "exact")
    with pytest.raises(ValueError, match="one of mixture and reference"):
        jaxgmm.align(mixture.take([0, 1, 2]), mixture.take([0, 1, 3]))


@once
def test_room_for_more_clusters_changes_nothing():
    x = WITH_NOISE.data()
    form = jaxgmm.with_noise("diag")
    roomy = jaxgmm.fit_restarts(KEY, x, 2, form, max_components=4, n_restarts=4).best
    assert np.isneginf(roomy.mixture.log_weights[2:4]).all()
    alone = jaxgmm.fit_restarts(KEY, x, 2, form, n_restarts=4).best
    assert_close(roomy.log_likelihood / 600, alone.log_likelihood / 600, "converged")
    alone = dataclasses.replace(alone, mixture=alone.mixture.sorted())
    found = roomy.mixture.sorted()
    np.testing.assert_allclose(found.weights[jnp.array([0, 1, 4])], alone.mixture.weights, atol=2e-3)
    assert int(roomy.mixture.n_parameters) == alone.mixture.n_parameters
    table = jaxgmm.select(KEY, x, [2, 3], [form, "diag"], n_restarts=4)
    mixture = table.best.mixture
    assert (table.winner.n_components, mixture.n_components, mixture.noise_component) == (3, 4, 3)
    assert {str(one.form) for one in table.candidates} == {"diag + noise", "diag"}
    assert table.outliers == ()


@once
def test_many_data_sets_say_which_rows_are_noise():
    xs = [WITH_NOISE.data(200, seed=seed) for seed in range(3)]
    found = jaxgmm.select_many(KEY, xs, [2, 3], jaxgmm.with_noise("full", volume=400.0), n_restarts=4)
    assert found.status == ("CONVERGED",) * 3
    mixture = found.mixture(0)
    assert mixture.noise_component == found.n_components[0]
    table = found.assign(xs)
    labels = np.asarray(mixture.predict(xs[0]))
    expected = np.where(labels == mixture.noise_component, -1, labels)
    np.testing.assert_array_equal(table["component"][:200], expected)
    assert not table["probability"].isna().any()
    weights = found.to_pandas(parameters=True)["weight[noise]"]
    assert_close(weights[0], mixture.weights[-1], "exact")


def test_what_is_not_known_of_a_row_of_noise_lies_in_the_box():
    """As the moments and draws of what is spread evenly."""
    clusters = jaxgmm.from_parameters([1.0], [[0.0, 0.0]], [1.0], "spherical")
    mixture = jaxgmm.with_noise(clusters, 2500.0, scale=[1.0, 1.0])
    n = 4000
    rows = jaxgmm.rows(np.tile([[20.0, np.nan]], (n, 1)), missing="nan")
    assert_close(mixture.responsibilities(rows)[:, 1], 1, "exact")
    found = jaxgmm.denoise(mixture, rows)
    assert_close(found.means[0], [20.0, 0.0], "close")
    assert_close(found.variances[0], [0.0, 50.0**2 / 12], "close")
    drawn = np.asarray(jaxgmm.sample_missing(KEY, mixture, rows)[:, 1], np.float64)
    assert np.abs(drawn).max() <= 25
    # Kolmogorov's distance of so many draws, with probability 1e-4.
    distance = np.abs(np.sort(drawn / 50 + 0.5) - (np.arange(n) + 0.5) / n).max()
    assert distance < 2.23 / np.sqrt(n)
    measured = jaxgmm.rows(np.tile([[20.0, 20.0]], (n, 1)), noise=np.tile([[4.0, 1.0]], (n, 1)))
    told = jaxgmm.denoise(mixture, measured)
    assert_close(told.means[0], [20.0, 20.0], "close")
    assert_close(told.variances[0], [4.0, 1.0], "close")
    spread = np.std(np.asarray(jaxgmm.sample_missing(KEY, mixture, measured)), axis=0)
    np.testing.assert_allclose(spread, [2.0, 1.0], rtol=0.05)


def test_rows_are_drawn_from_the_box():
    mixture = WITH_NOISE.mixture()
    x, labels = mixture.sample_with_labels(KEY, 4000)
    noise = np.asarray(x)[np.asarray(labels) == 3]
    away = (noise - np.asarray(mixture.components.center)) / np.asarray(mixture.components.widths)
    assert np.abs(away).max() <= 0.5
    assert 0.13 < len(noise) / 4000 < 0.17
    np.testing.assert_allclose(np.prod(mixture.components.widths), 400, rtol=1e-4)
    np.testing.assert_allclose(away.std(axis=0), 12**-0.5, rtol=0.05)


def test_responsibilities_have_a_column_for_it():
    x, labels = WITH_NOISE.mixture().sample_with_labels(KEY, 600)
    shares = jax.nn.one_hot(labels, 4)
    found = jaxgmm.from_responsibilities(x, shares, jaxgmm.with_noise("full"))
    assert_close(found.weights, jnp.mean(shares, axis=0), "exact")
    assert_close(found.means[1], jnp.mean(x[labels == 1], axis=0), "close")


@pytest.mark.parametrize("n", [40, 20_000])
def test_rows_that_are_infinite_or_nan_are_no_noise(n):
    """Where only a program sees them: with either kernel."""
    x = jnp.tile(WITH_NOISE.data(40), (n // 40, 1))
    for wrong in (jnp.inf, jnp.nan):
        result = jax.jit(lambda x: jaxgmm.fit(START, x, max_iter=2))(x.at[3, 1].set(wrong))
        assert int(result.status) == jaxgmm.Status.NON_FINITE
    # So far out that no cluster knows of it is not infinite.
    result = jax.jit(lambda x: jaxgmm.fit(START, x, max_iter=2))(x.at[3, 1].set(1e25))
    assert int(result.status) != jaxgmm.Status.NON_FINITE


@once
def test_vmap_is_a_loop():
    xs = jnp.stack([WITH_NOISE.data(200, seed=seed) for seed in range(3)])
    form = jaxgmm.with_noise("diag")
    together = jax.vmap(lambda x: jaxgmm.fit(jaxgmm.init(KEY, x, 3, form), x))(xs)
    assert together.mixture.components.widths.shape == (3, 2)
    assert together.mixture.means.shape == (3, 4, 2)
    assert together.mixture.covariances.shape == (3, 4, 2, 2)
    for place in range(3):
        alone = jaxgmm.fit(jaxgmm.init(KEY, xs[place], 3, form), xs[place])
        assert_close(together.log_likelihood[place], alone.log_likelihood, "exact", scale=600)


def test_volumes_are_one_program():
    mixture = jaxgmm.from_parameters(WEIGHTS, MEANS, COVARIANCES["full"])
    x = WITH_NOISE.data(100)
    likelihood = jax.jit(lambda volume: jaxgmm.log_likelihood(jaxgmm.with_noise(mixture, volume), x))
    values = [float(likelihood(volume)) for volume in (200.0, 800.0)]
    assert likelihood._cache_size() == 1
    assert values[0] != values[1]
    # Of a single row that only noise explains: log w / V.
    far = jnp.array([[1e4, 1e4]])
    for volume in (200.0, 800.0):
        one = jaxgmm.with_noise(mixture, volume, weight=0.1)
        assert_close(one.log_prob(far), np.log(0.1 / volume), "exact", scale=10)


@once
def test_arguments():
    mixture = WITH_NOISE.mixture().take([0, 1, 2])
    with pytest.raises(ValueError, match="volume is -1"):
        jaxgmm.with_noise(mixture, -1.0)
    with pytest.raises(ValueError, match="volume is 'wide'"):
        jaxgmm.with_noise("full", "wide")
    for given in ({"weight": 0.1}, {"scale": [1.0, 1.0]}):
        with pytest.raises(TypeError, match="is given with a form"):
            jaxgmm.with_noise("full", **given)
    with pytest.raises(ValueError, match=r"weight is 1; expected a number between 0 and 1"):
        jaxgmm.with_noise(mixture, weight=1.0)
    with pytest.raises(ValueError, match="noise component already"):
        jaxgmm.with_noise(WITH_NOISE.mixture())
    with pytest.raises(ValueError, match="has a noise component already"):
        jaxgmm.with_noise(jaxgmm.with_noise("full"))
    with pytest.raises(TypeError, match="scale is given with a form"):
        jaxgmm.with_noise("full", scale=[1.0, 1.0])
    with pytest.raises(TypeError, match="form is"):
        jaxgmm.with_noise(3)
    with pytest.raises(TypeError, match=r"Write jaxgmm.with_noise\('full'\)"):
        jaxgmm.WithNoise.form("full")
    from jaxgmm import Poisson

    for counts in (Poisson.form(), jaxgmm.Mixture(jnp.zeros(1), Poisson(jnp.ones((1, 2))))):
        with pytest.raises(NotImplementedError, match="Poisson components are of rows that hold counts"):
            jaxgmm.with_noise(counts)
    with pytest.raises(ValueError, match=r"form is 'mclust', which stands for 14 of them"):
        jaxgmm.with_noise("mclust")
    with pytest.raises(
        NotImplementedError, match=r"from_parameters makes Gaussian.*with_noise\(jaxgmm.from_parameters"
    ):
        jaxgmm.from_parameters(WEIGHTS, MEANS, COVARIANCES["full"], jaxgmm.with_noise("full"))
