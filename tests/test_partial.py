"""Rows of which only a part is known, gaps, noise, and all that else is known beside, against a slow reference."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pandas
import pytest
import slow_reference as reference
from arrivals import Arrivals

import jaxgmm
from jaxgmm.ground import known

from cases import NU
from compilations import counted
from tolerance import assert_close, dtype, once

KEY = jax.random.key(7)
N, D, K = 150, 4, 3
WEIGHTS = np.array([0.5, 0.3, 0.2])
MEANS = np.array([[0.0, 0.0, 0.0, 0.0], [6.0, -4.0, 2.0, 0.0], [-4.0, 6.0, 0.0, 6.0]])
FORMS = {name: name for name in reference.STRUCTURES} | {
    f"student_t {name}": jaxgmm.StudentT.form(name, nu=NU) for name in ("full", "tied", "diag")
}


@functools.cache
def values():
    """Rows, and the component that each is of."""
    rng = np.random.default_rng(20)
    roots = np.eye(D) + 0.25 * rng.normal(size=(K, D, D))
    component = rng.choice(K, N, p=WEIGHTS)
    return MEANS[component] + np.einsum("nij,nj->ni", roots[component], rng.normal(size=(N, D))), component


def gaps():
    return reference.gaps(values()[0], 0.25, seed=1)


def everything():
    """Gaps, noise, labels, weights, and log-evidence."""
    rng = np.random.default_rng(5)
    component, seen = values()[1], gaps()
    seen[3] = False
    return noisy("full") | {
        "seen": seen,
        "labels": np.where(rng.random(N) < 0.2, component, -1),
        "evidence": np.log(rng.uniform(0.2, 1.0, size=(N, K))),
        "weights": np.where(np.arange(N) % 5 == 0, 0.0, 1 + np.arange(N) % 3),
    }


def noisy(kind):
    """Rows with errors, which they have."""
    noise = reference.noises(values()[0], kind, seed=2) / 9
    return {"x": reference.noisy(values()[0], noise, seed=3), "noise": noise}


KINDS = {
    "gaps": lambda: {"x": values()[0], "seen": gaps()},
    "noise": lambda: noisy("diag"),
    "correlated noise": lambda: noisy("full"),
    "noise of some": lambda: noisy("partial"),
    "all of it": everything,
}
# Every structure with gaps and with all of it at once; what differs between kinds of noise, by kinds of factors.
CELLS = [
    (form, kind)
    for form in FORMS
    for kind in KINDS
    if (kind == "gaps" or "student" not in form) and (kind in ("gaps", "all of it") or form in ("full", "tied", "diag"))
]
cells = pytest.mark.parametrize(("form", "kind"), CELLS, ids=lambda one: one)
FEW = [("full", "gaps"), ("full", "all of it"), ("tied", "noise"), ("diag", "all of it"), ("student_t full", "gaps")]
few = pytest.mark.parametrize(("form", "kind"), FEW, ids=lambda one: one)
# Whether two ways lead to the same numbers is told by digits.
TWO_WAYS, FEW_TWO_WAYS = (
    ([cell for cell in CELLS if cell in FEW or cell[1] == "gaps"], FEW) if dtype() is np.float64 else (FEW, FEW[1:2])
)


def rows_of(kind, places=slice(None)):
    return record(**{name: array[places] for name, array in KINDS[kind]().items()})


def record(x, seen=None, noise=None, labels=None, evidence=None, weights=None):
    missing = "error" if seen is None else ~seen
    return jaxgmm.rows(x, weights, missing=missing, noise=noise, labels=labels, log_evidence=evidence)


def expected(kind):
    return reference.Rows(**KINDS[kind]())


@functools.cache
def parameters(form):
    """Of a mixture that is not where a fit ends."""
    rng = np.random.default_rng(9)
    roots = np.tril(np.eye(D) + 0.3 * rng.normal(size=(K, D, D)))
    full = roots @ np.swapaxes(roots, 1, 2)
    if form.split()[-1].startswith("tied"):
        full = np.broadcast_to(full[:1], full.shape)
    if form.split()[-1].endswith("diag"):
        full = full * np.eye(D)
    if form.endswith("spherical"):
        full = np.stack([np.mean(np.diag(one)) * np.eye(D) for one in full])
    return reference.Parameters(WEIGHTS, MEANS + 0.5, full, np.full(K, NU) if "student" in form else None)


def mixture_of(form):
    given, structure = parameters(form), form.split()[-1]
    kept = given.covariances[0] if structure.startswith("tied") else given.covariances
    if structure.endswith("diag"):
        kept = np.diagonal(kept, axis1=-2, axis2=-1)
    if structure.endswith("spherical"):
        kept = kept[..., 0, 0]
    gaussian = jaxgmm.from_parameters(given.weights, given.means, kept.copy(), structure)
    if given.dof is None:
        return gaussian
    return jaxgmm.Mixture(gaussian.log_weights, jaxgmm.StudentT(gaussian.means, gaussian.components.covariance, NU))


def step(mixture, rows):
    return jaxgmm.m_step(mixture, jaxgmm.e_step(mixture, rows), jnp.ones(D), 1e-9)


def assert_same(a, b, kind="close", scale=10.0):
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert_close(one, other, kind, scale=scale)


@cells
def test_densities_and_a_step_are_those_of_the_reference(form, kind):
    mixture, rows, want = mixture_of(form), rows_of(kind), expected(kind)
    joint = reference.log_joint(parameters(form), want)
    assert_close(mixture.log_prob(rows), np.logaddexp.reduce(joint, axis=1), "close")
    if (form, kind) in FEW:
        assert_close(mixture.responsibilities(rows), reference.responsibilities(parameters(form), want), "close")
        assert_close(jaxgmm.log_likelihood(mixture, rows), reference.log_likelihood(parameters(form), want), "close")
    after = step(mixture, rows)
    structure = form.split()[-1]
    there = reference.em_step(parameters(form), want, structure, expanded="student" in form)
    spread = after.covariances if there.dof is None else after.components.dispersions
    for found, right in ((after.weights, there.weights), (after.means, there.means), (spread, there.covariances)):
        assert_close(found, right, "close", scale=3)


@pytest.mark.parametrize(("form", "kind"), TWO_WAYS, ids=lambda one: one)
def test_traced_split_and_repeated_it_is_the_same(form, kind):
    """Under `jit`, where patterns cannot be seen; half and half is the whole; a weight is so many rows."""
    mixture, rows = mixture_of(form), rows_of(kind)
    whole = jaxgmm.e_step(mixture, rows)
    traced = jax.jit(jaxgmm.e_step)
    assert_same(traced(mixture, rows), whole)
    halves = [traced(mixture, rows_of(kind, places)) for places in (slice(0, N // 2), slice(N // 2, N))]
    assert_same(halves[0] + halves[1], whole)
    times = np.random.default_rng(0).multinomial(N, np.full(N, 1 / N))
    weighted = dataclasses.replace(rows, weights=jnp.asarray(times, dtype()))
    repeated = dataclasses.replace(rows_of(kind, np.repeat(np.arange(N), times)), weights=jnp.ones(N, dtype()))
    assert_same(traced(mixture, weighted), traced(mixture, repeated))


@few
def test_a_fit_climbs_and_comes_to_rest(form, kind):
    rows = rows_of(kind)
    result = jaxgmm.fit(mixture_of(form), rows, tol=0, max_iter=3000)
    history = np.asarray(result.history)
    history = history[~np.isnan(history)]
    assert result.status in (jaxgmm.Status.CONVERGED, jaxgmm.Status.MAX_ITER)
    assert np.all(np.diff(history) >= 0)
    assert_close(result.log_likelihood, jaxgmm.log_likelihood(result.mixture, rows), "exact", scale=100)
    free = result.mixture.unconstrain()
    slopes = jax.grad(lambda free: jaxgmm.log_likelihood(free.constrain(), rows))(free)
    size = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(slopes))
    assert size < {np.float32: 0.5, np.float64: 1e-4}[dtype()]


@pytest.mark.parametrize("form", [*reference.STRUCTURES, "student_t full"])
def test_whole_and_exact_rows_are_plain_rows(form):
    x, mixture = values()[0], mixture_of(form)
    plain = jaxgmm.e_step(mixture, x)
    assert_same(jaxgmm.e_step(mixture, jaxgmm.rows(x, missing="nan")), plain, scale=100)
    assert_same(jax.jit(lambda x: jaxgmm.e_step(mixture, jaxgmm.rows(x, missing="nan")))(x), plain, scale=100)
    if "student" not in form:
        assert_same(jaxgmm.e_step(mixture, jaxgmm.rows(x, noise=np.zeros((N, D)))), plain, scale=100)


def test_clusters_as_tight_as_digits_allow_are_taken_about_their_means():
    """Where the kernel of features would lose digits, patterns are taken by differences."""
    mixture = mixture_of("full")
    narrow = jaxgmm.from_parameters(WEIGHTS, MEANS, np.asarray(mixture.covariances) * 1e-6)
    x, component = values()
    x = MEANS[component] + (x - MEANS[component]) * 1e-3
    rows = jaxgmm.rows(np.where(gaps(), x, np.nan), missing="nan")
    given = reference.Parameters(WEIGHTS, MEANS, np.asarray(narrow.covariances, float))
    right = reference.log_density(np.asarray(rows.x, float), gaps(), None, given.means, given.covariances)
    right = np.logaddexp.reduce(np.log(WEIGHTS) + right, axis=1)
    assert_close(narrow.log_prob(rows), right, "close", scale=100)


def test_noise_far_larger_than_what_it_hides_keeps_its_digits():
    most = {np.float32: 1e3, np.float64: 1e6}[dtype()]
    x, rng = values()[0], np.random.default_rng(3)
    noise = most ** rng.uniform(-1, 1, size=(N, D))
    x = (x + np.sqrt(noise) * rng.normal(size=(N, D))).astype(dtype())
    want = reference.Rows(np.asarray(x, float), noise=noise)
    for form in ("full", "diag"):
        assert_close(
            mixture_of(form).log_prob(jaxgmm.rows(x, noise=noise)),
            np.logaddexp.reduce(reference.log_joint(parameters(form), want), axis=1),
            "close",
        )
        after = step(mixture_of(form), jaxgmm.rows(x, noise=noise))
        assert_close(after.covariances, reference.em_step(parameters(form), want, form).covariances, "close", scale=10)


@pytest.mark.parametrize(("form", "kind"), FEW_TWO_WAYS, ids=lambda one: one)
def test_vmap_is_a_loop(form, kind):
    mixture = mixture_of(form)
    parts = [rows_of(kind, np.arange(N) % 3 == place) for place in range(3)]
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)
    side_by_side = jax.vmap(lambda rows: jaxgmm.e_step(mixture, rows))(stack)
    for place, rows in enumerate(parts):
        assert_same(jax.tree.map(lambda leaf, place=place: leaf[place], side_by_side), jaxgmm.e_step(mixture, rows))


@once
@few
def test_other_values_compile_nothing(form, kind):
    mixture, rows = mixture_of(form), rows_of(kind)
    verbs = (jaxgmm.e_step, jaxgmm.fit, lambda mixture, rows: mixture.log_prob(rows), jaxgmm.denoise)
    for verb in verbs:
        verb(mixture, rows)
    order = np.random.default_rng(1).permutation(N)
    other = rows_of(kind, order)
    other = dataclasses.replace(other, x=other.x + 1)
    with counted() as compiled:
        for verb in verbs:
            verb(mixture, other)
    assert not compiled


def directions(rows):
    """Ways in which what is known may move, as a record: values that are seen, noise, and log-evidence."""
    ways = {name: getattr(rows, name) for name in ("x", "weights", "noise", "log_evidence")}
    ways = {
        name: jnp.sin(jnp.arange(1.0 * leaf.size)).reshape(leaf.shape)
        for name, leaf in ways.items()
        if leaf is not None
    }
    if rows.noise is not None and rows.noise.ndim == 3:
        ways["noise"] = ways["noise"] + jnp.swapaxes(ways["noise"], 1, 2)
    return ways


@few
def test_derivatives_of_the_likelihood_and_of_a_fit(form, kind):
    if dtype() is not np.float64:
        pytest.skip("finite differences need float64")
    rows, start = rows_of(kind), mixture_of(form)
    ways = directions(rows)
    # What an absent row would do if it were there is not told by differences.
    ways["weights"] = jnp.where(rows.weights > 0, ways["weights"], 0)
    present = {name: getattr(rows, name) for name in ways}

    def moved(by):
        return dataclasses.replace(rows, **{name: leaf + by[name] for name, leaf in present.items()})

    # A fit ends where rounding hides the rest of the way, which short steps would divide by their length.
    for step, value in (
        (1e-4, lambda by: jaxgmm.log_likelihood(start, moved(by))),
        (1e-3, lambda by: jnp.sin(jaxgmm.fit(start, moved(by), tol=1e-14, scale=jnp.ones(D)).mixture.means).sum()),
    ):
        nothing = {name: jnp.zeros_like(leaf) for name, leaf in present.items()}
        value = jax.jit(value)
        slopes = jax.grad(value)(nothing)
        for name, way in ways.items():
            far, near, back, further_back = (value(nothing | {name: by * step * way}) for by in (2, 1, -1, -2))
            expected = (8 * (near - back) - (far - further_back)) / (12 * step)
            assert_close(jnp.sum(slopes[name] * way), expected, "converged", scale=10)


def test_the_derivative_in_the_weight_of_an_absent_row_is_what_it_would_add():
    """With the label that it has, also where that is not where the row lies."""
    rows, mixture = rows_of("all of it"), mixture_of("full")
    rows = dataclasses.replace(rows, labels=jnp.where(rows.weights == 0, jnp.arange(N) % K, rows.labels))
    slopes = jax.grad(lambda weights: jaxgmm.log_likelihood(mixture, dataclasses.replace(rows, weights=weights)))(
        rows.weights
    )
    assert np.any(np.asarray(rows.weights) == 0)
    assert_close(slopes, mixture.log_prob(rows), "close")


@pytest.mark.parametrize(
    ("form", "kind"), [*FEW, ("full", "noise of some"), ("diag", "gaps"), ("spherical", "all of it")], ids=lambda x: x
)
def test_true_values_are_those_of_the_reference(form, kind):
    mixture, rows, want = mixture_of(form), rows_of(kind), expected(kind)
    means, covariances = reference.conditional(parameters(form), want)
    found = jaxgmm.denoise(mixture, rows)
    assert_close(found.means, means, "close")
    assert_close(found.covariances, covariances, "close", scale=10)
    filled = np.asarray(jaxgmm.impute(mixture, rows))
    seen = np.asarray(rows.seen) if rows.seen is not None else np.ones((N, D), bool)
    np.testing.assert_array_equal(filled[seen], np.asarray(rows.x)[seen])
    assert_close(filled[~seen], means[~seen], "close")


@once
@pytest.mark.parametrize(
    ("form", "kind"), [("full", "all of it"), ("diag", "gaps"), ("student_t full", "gaps")], ids=lambda one: one
)
def test_draws_have_the_moments_of_the_true_values(form, kind):
    mixture, rows = mixture_of(form), rows_of(kind)
    truth = jaxgmm.denoise(mixture, rows)
    keys = jax.random.split(KEY, 600)
    drawn = np.asarray(jax.jit(jax.vmap(lambda key: jaxgmm.sample_missing(key, mixture, rows)))(keys), float)
    variances = np.asarray(truth.variances, float)
    known_exactly = variances < 1e-9
    assert np.all(np.ptp(drawn, axis=0)[known_exactly] < 1e-3)
    off = (drawn.mean(axis=0) - np.asarray(truth.means)) / np.sqrt(np.maximum(variances, 1e-9) / len(keys))
    # Of some hundred entries, none is further from its expectation than five of its standard errors.
    assert np.abs(off[~known_exactly]).max() < 5
    ratios = drawn.var(axis=0)[~known_exactly] / variances[~known_exactly]
    assert 0.9 < np.median(ratios) < 1.1
    if kind == "gaps":
        np.testing.assert_array_equal(drawn[0][gaps()], np.asarray(rows.x, float)[gaps()])


def test_a_row_of_which_nothing_is_seen_has_density_one_and_counts_in_no_criterion():
    x, mixture = values()[0], mixture_of("full")
    nothing = np.full((5, D), np.nan)
    some, more = (jaxgmm.rows(part, missing="nan") for part in (x, np.concatenate([x, nothing])))
    assert np.all(np.asarray(mixture.log_prob(more))[N:] == 0)
    assert_close(mixture.responsibilities(more)[N:], np.tile(WEIGHTS, (5, 1)), "exact")
    for criterion in (jaxgmm.bic, jaxgmm.aicc, jaxgmm.log_likelihood):
        assert_close(criterion(mixture, more), criterion(mixture, some), "exact", scale=100)
    labelled = jaxgmm.rows(np.concatenate([x, nothing]), missing="nan", labels=np.append(np.full(N, -1), [0] * 5))
    assert_close(np.asarray(mixture.log_prob(labelled))[N:], np.full(5, np.log(0.5)), "exact")
    gained = jaxgmm.bic(mixture, labelled) - jaxgmm.bic(mixture, some)
    parameters = mixture.n_parameters
    assert_close(gained, -10 * np.log(0.5) + parameters * np.log((N + 5) / N), "close", scale=1e3)


def test_a_column_that_is_never_seen_stays_where_it_is():
    x = values()[0].copy()
    x[:, 2] = np.nan
    rows, mixture = jaxgmm.rows(x, missing="nan"), mixture_of("diag")
    result = jaxgmm.fit(mixture, rows)
    assert_close(result.mixture.means[:, 2], mixture.means[:, 2], "exact")
    assert_close(result.mixture.covariances[:, 2, 2], mixture.covariances[:, 2, 2], "exact", scale=10)
    others = [0, 1, 3]
    alone = jaxgmm.fit(mixture.marginal(others), x[:, others])
    assert_close(result.log_likelihood, alone.log_likelihood, "close", scale=10)
    table = jaxgmm.select(KEY, rows, 2, "diag", n_restarts=2)
    assert table.columns == (0, 1, 3)
    assert "Column 2 has no entry that is seen, and is left out." in repr(table)


def test_a_column_of_infinite_noise_is_a_gap():
    x, mixture, noise = values()[0], mixture_of("full"), np.full((N, D), 0.3)
    noise[::2, 1] = np.inf
    seen = np.isfinite(noise)
    a = jaxgmm.rows(x, noise=noise)
    b = jaxgmm.rows(np.where(seen, x, np.nan), missing="nan", noise=np.where(seen, noise, np.nan))
    assert_same(jaxgmm.e_step(mixture, a), jaxgmm.e_step(mixture, b), "exact")
    c = jaxgmm.rows(x, noise=np.where(np.eye(D, dtype=bool), noise[:, :, None], 0))
    assert_same(jaxgmm.e_step(mixture, c), jaxgmm.e_step(mixture, a))


@pytest.mark.parametrize("kind", ["gaps", "all of it"])
def test_absent_rows_may_hold_anything(kind):
    mixture, rows = mixture_of("full"), rows_of(kind)
    weights = jnp.where(jnp.arange(N) % 3 == 0, 0, rows.weights)
    gone = weights == 0

    def spoilt(leaf):
        return jnp.where(jnp.reshape(gone, (-1, *(1 for _ in leaf.shape[1:]))), jnp.nan, leaf)

    floats = [name for name in ("x", "noise", "log_evidence") if getattr(rows, name) is not None]
    bad = dataclasses.replace(rows, weights=weights, **{name: spoilt(getattr(rows, name)) for name in floats})
    good = dataclasses.replace(rows, weights=weights)
    assert_same(jaxgmm.e_step(mixture, bad), jaxgmm.e_step(mixture, good), "exact")
    fits = [jaxgmm.fit(mixture, one, max_iter=3).log_likelihood for one in (bad, good)]
    assert_close(*fits, "exact")


@once
@pytest.mark.parametrize("form", ["full", "diag", "student_t full"])
def test_seeding_and_restarts_find_what_is_there(form):
    x, component = values()
    rows = jaxgmm.rows(np.where(gaps(), x, np.nan), missing="nan")
    found = jaxgmm.fit_restarts(KEY, rows, K, FORMS[form], n_restarts=8).best
    assert jaxgmm.adjusted_rand_index(component, np.asarray(found.mixture.predict(rows))) > 0.9
    masked = jaxgmm.fit_restarts(KEY, jaxgmm.rows(x, missing=~gaps()), K, FORMS[form], n_restarts=8).best
    assert_same(masked.mixture, found.mixture, "exact")


def test_many_of_them_are_each_of_them():
    parts = [rows_of("all of it", np.arange(N) % 4 != place) for place in range(3)] + [values()[0][:60]]
    many = jaxgmm.fit_many(KEY, parts, K, "full", tol=1e-9)
    whole = [*parts[:3], jaxgmm.rows(values()[0][:60])]
    for place, rows in enumerate(whole):
        alone = jaxgmm.fit_restarts(jax.random.fold_in(KEY, place), rows, K, "full", n_restarts=1, tol=1e-9).best
        assert_close(many.best.log_likelihood[place], alone.log_likelihood, "converged", scale=1e-3)


@once
def test_many_of_them_are_chosen_for():
    parts = [rows_of("all of it", np.arange(N) % 4 != place) for place in range(3)] + [values()[0][:60]]
    table = jaxgmm.select_many(KEY, parts, (3,), "diag", n_restarts=2)
    assert np.all(table.n_components > 0)


@once
def test_a_data_set_of_which_nothing_is_seen_cannot_be_fitted():
    nothing, some = jaxgmm.rows(np.full((20, D), np.nan), missing="nan"), values()[0][:20]
    many = jaxgmm.fit_many(KEY, [nothing, some], 2, "diag")
    assert many.best.status[0] == jaxgmm.Status.NON_FINITE
    assert many.best.status[1] != jaxgmm.Status.NON_FINITE
    table = jaxgmm.select_many(KEY, [nothing, some], 1, "diag", n_restarts=1)
    assert table.status[0] == "ERROR: has no entry that is seen"


@once
def test_patterns_are_blocks_of_rows_that_lack_the_same():
    rng = np.random.default_rng(0)
    masks = rng.random((12, 70)) > 0.3
    seen = masks[rng.integers(0, 12, 5000)]
    rows = known.evidence(jaxgmm.rows(np.where(seen, 1.0, np.nan), missing="nan"))
    places = np.asarray(rows.patterns.places)
    there = places < 5000
    np.testing.assert_array_equal(np.sort(places[there]), np.arange(5000))
    for block, inside in zip(places, there, strict=True):
        assert len(np.unique(seen[block[inside]], axis=0)) <= 1
    back = rows.patterns.put_back(rows.patterns.taken(jnp.arange(5000)), 5000)
    np.testing.assert_array_equal(back, np.arange(5000))
    every_row_its_own = rng.random((5000, 70)) > 0.3
    assert known.evidence(jaxgmm.rows(np.where(every_row_its_own, 1.0, np.nan), missing="nan")).patterns is None


@once
def test_families_that_have_no_such_densities_say_so():
    x = values()[0]
    with pytest.raises(NotImplementedError, match="StudentT components have no densities of rows with noise"):
        jaxgmm.fit(mixture_of("student_t full"), jaxgmm.rows(x, noise=np.ones((N, D))))
    arrivals = jaxgmm.Mixture(jnp.zeros(1), Arrivals(jnp.ones((1, 2))))
    with pytest.raises(NotImplementedError, match="Arrivals components have no densities of rows with gaps"):
        jaxgmm.fit(arrivals, jaxgmm.rows(np.ones((10, 2)), missing="nan"))


@once
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"x is NaN or infinite in 1 of 4 rows: 0\. .*or write jaxgmm\.rows\(x, missing='nan'\) in the place of x"),
        ({"missing": "drop"}, r"missing is 'drop'; expected 'error', 'nan' where NaN stands for what is missing"),
        ({"missing": np.zeros(4, bool)}, r"missing has shape \(4,\); expected that of x, \(4, 2\)"),
        ({"missing": np.zeros((4, 2))}, r"missing is an array of dtype float64; expected truths"),
        ({"missing": "nan", "noise": np.ones(4)}, r"noise has shape \(4,\); expected \(4, 2\), a variance for each"),
        ({"missing": "nan", "noise": -np.ones((4, 2))}, r"noise is not as it must be in 4 of 4 rows.*to be squared"),
        (
            {"missing": "nan", "noise": np.tile([[1.0, 2.0], [2.0, 1.0]], (4, 1, 1))},
            r"noise is not as it must be in 3 of 4 rows.*without negative eigenvalues",
        ),
        ({"missing": "nan", "noise": np.tile(np.diag([1e12, -5.0]), (4, 1, 1))}, r"noise is not as it must be in 4"),
        ({"missing": "nan", "log_evidence": np.zeros(4)}, r"log_evidence has shape \(4,\); expected \(4, k\)"),
        (
            {"missing": "nan", "log_evidence": np.array([[0.0, 1.0], [-np.inf, -np.inf], [0, 0], [0, 0]])},
            r"log_evidence is NaN, infinite, or -inf for all components in 1 of 4 rows: 1\.",
        ),
    ],
)
def test_bad_input_is_named(given, message):
    x = np.array([[np.nan, 1.0], [1.0, 2.0], [2.0, 2.0], [3.0, 0.0]])
    with pytest.raises((TypeError, ValueError), match=message):
        jaxgmm.rows(x, **given)


@once
def test_log_evidence_is_of_these_components():
    with pytest.raises(ValueError, match="log_evidence has 2 columns, and there are 3 components"):
        jaxgmm.fit(mixture_of("full"), jaxgmm.rows(values()[0], log_evidence=np.zeros((N, 2))))


@once
def test_infinity_is_no_gap():
    x = np.array([[np.inf, 1.0], [np.nan, 2.0]])
    with pytest.raises(ValueError, match="x is NaN or infinite in 1 of 2 rows: 0"):
        jaxgmm.rows(x, missing="nan")


def test_absent_rows_may_be_known_to_be_impossible():
    """Of weight 0: a label of no component, and errors of negative variance."""
    x, mixture = values()[0], mixture_of("full")
    weights = np.ones(N)
    weights[3] = 0
    plain = jaxgmm.e_step(mixture, x, weights)
    labels, noise = np.full(N, -1), np.zeros((N, D))
    labels[3], noise[3] = 7, -1
    labelled = jaxgmm.rows(x, weights, labels=labels)
    assert_same(jaxgmm.e_step(mixture, labelled), plain)
    assert_same(jaxgmm.e_step(mixture, jaxgmm.rows(x, weights, noise=noise)), plain)
    assert_close(mixture.responsibilities(labelled)[3], WEIGHTS, "exact")


def test_numbers_beside_what_is_traced():
    x, mixture, noise = values()[0].astype(dtype()), mixture_of("full"), jnp.ones((N, D), dtype())
    missing = np.where(gaps(), x, np.nan)
    pairs = [
        (lambda noise: jaxgmm.rows(x, noise=noise), noise),
        (lambda weights: jaxgmm.rows(missing, weights, missing="nan"), jnp.ones(N, dtype())),
        (lambda mask: jaxgmm.rows(x, missing=mask), jnp.asarray(~gaps())),
    ]
    for make, given in pairs:
        value = jax.jit(lambda given, make=make: jaxgmm.log_likelihood(mixture, make(given)))(given)
        assert_close(value, jaxgmm.log_likelihood(mixture, make(np.asarray(given))), "close")


@pytest.mark.parametrize("matrix", ["zero", "one direction", "one column"])
def test_errors_without_a_density_have_derivatives(matrix):
    """In covariances of errors that are singular: none at all, in one direction, and of one column."""
    if dtype() is not np.float64:
        pytest.skip("finite differences need float64")
    along = {"zero": np.zeros(D), "one direction": np.arange(1.0, D + 1), "one column": np.eye(D)[0]}[matrix]
    x, mixture = values()[0][:20], mixture_of("full")
    noise, way = np.tile(np.outer(along, along), (20, 1, 1)), np.tile(np.eye(D), (20, 1, 1))
    value = jax.jit(lambda noise: jaxgmm.log_likelihood(mixture, jaxgmm.rows(x, noise=noise)))
    # From one side, as there are no errors on the other.
    away = [value(noise + step * way) for step in (0, 1e-4, 2e-4)]
    expected = (-3 * away[0] + 4 * away[1] - away[2]) / 2e-4
    assert_close(jnp.sum(jax.grad(value)(jnp.asarray(noise)) * way), expected, "converged", scale=10)


@jax.jit
def status_with(x, noise):
    return jaxgmm.fit(mixture_of("full"), jaxgmm.rows(x, noise=noise), max_iter=2).status


@once
@pytest.mark.parametrize("wrong", [-np.eye(D), np.diag([np.nan, 1, 1, 1]), np.eye(D) + np.nan * np.eye(D, k=1)])
def test_what_is_no_covariance_is_not_finite_under_jit(wrong):
    noise = np.tile(np.eye(D), (N, 1, 1))
    noise[0] = wrong
    assert status_with(values()[0], noise) == jaxgmm.Status.NON_FINITE


def test_errors_of_any_size_are_errors():
    """Far larger than numbers can hold beside what they hide, and of covariances that have no density."""
    small = {np.float32: 1e-30, np.float64: 1e-200}[dtype()]
    for form, covariance in (("diag", [[small, small]]), ("full", [np.eye(2) * small])):
        mixture = jaxgmm.from_parameters([1.0], [[0.0, 0.0]], covariance, form)
        for large in (1e9, 1e30):
            rows = jaxgmm.rows([[0.0, 0.0]], noise=[[large, small]])
            expected = -np.log(2 * np.pi) - (np.log(large) + np.log(2 * small)) / 2
            assert_close(mixture.log_prob(rows)[0], expected, "close")
            found = jaxgmm.denoise(mixture, rows)
            np.testing.assert_allclose(found.variances[0], [small, small / 2], rtol=1e-3)
    rng = np.random.default_rng(0)
    roots = rng.normal(size=(500, 9, 8)).astype(np.float32)
    noise, x = roots @ roots.transpose(0, 2, 1), rng.normal(size=(500, 9))
    mixture = jaxgmm.from_parameters([1.0], [np.zeros(9)], [0.1 * np.eye(9)])
    right = reference.log_density(x, np.ones((500, 9), bool), noise.astype(float), np.zeros((1, 9)), [0.1 * np.eye(9)])
    assert_close(
        mixture.log_prob(jaxgmm.rows(x.astype(dtype()), noise=noise)),
        right[:, 0],
        {np.float32: "close", np.float64: "converged"}[dtype()],
    )


@once
def test_what_is_known_of_so_many_components_is_of_no_others():
    rows = jaxgmm.rows(values()[0], log_evidence=np.zeros((N, 2)))
    table = jaxgmm.select(KEY, rows, (1, 2), "diag", n_restarts=2)
    assert table.winner.n_components == 2
    assert "log_evidence has 2 columns, one for each component, and a candidate is to try 1" in table.ranked[-1].status
    for verb in (jaxgmm.select_components, jaxgmm.select_many):
        with pytest.raises(ValueError, match=r"log_evidence has 2 columns.*is to try 1 of them"):
            verb(KEY, rows if verb is jaxgmm.select_components else [rows], [1, 2], "diag")
    with pytest.raises(ValueError, match=r"label_of_component has 3 entries.*fit_many is to try 2"):
        jaxgmm.fit_many(KEY, [jaxgmm.rows(values()[0], labels=[0] * N, label_of_component=(0, 0, 1))], 2)


@once
def test_a_record_is_complete():
    rows = jaxgmm.rows(values()[0])
    for beside in ({"noise": np.ones((N, D))}, {"missing": "nan"}, {"log_evidence": np.zeros((N, 2))}):
        with pytest.raises(TypeError, match=f"{next(iter(beside))} stands beside x, which are rows made by"):
            jaxgmm.rows(rows, **beside)


@once
def test_names_of_noise_are_not_passed_over():
    frame = pandas.DataFrame(np.ones((4, 2)), columns=["a", "b"])
    with pytest.raises(TypeError, match=r"noise has columns with names, 'a', 'b'.*schema\.rows\(frame, noise=noise\)"):
        jaxgmm.rows(np.eye(4, 2), noise=frame)


def test_one_value_far_out_does_not_set_rows_aside_in_which_its_column_is_not_seen():
    x = np.where(gaps(), values()[0], np.nan)
    x[0, 1] = np.finfo(dtype()).max ** 0.6
    table = jaxgmm.select(KEY, jaxgmm.rows(x, missing="nan"), K, "diag", n_restarts=4)
    assert table.outliers == (0,)
