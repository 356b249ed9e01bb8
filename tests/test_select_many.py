"""A choice for each of many data sets: as `select` makes it for one, whatever the others are."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pandas
import pytest

import jaxgmm
from jaxgmm.ground import programs
from jaxgmm.selection import panel
from jaxgmm.selection.components import _n_hopeful

from compilations import counted
from tolerance import dtype, once, tolerance

KEY = jax.random.key(0)
ASKED = {"n_components": range(1, 4), "forms": ("diag", "spherical"), "n_restarts": 2}


def blobs(seed, k, n=60, d=2):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) + 9 * np.eye(4, d)[np.arange(n) % k]


@pytest.fixture(scope="module")
def xs():
    sets = [blobs(0, 1), blobs(1, 2, 40), blobs(2, 3, 64), blobs(3, 2), np.zeros((30, 2)), np.ones((0, 2)), blobs(4, 2)]
    sets[3][7] = np.nan
    sets[6][5] = 1e4
    sets.append(np.insert(blobs(5, 2, d=1), 0, 4.0, axis=1))
    return sets


@pytest.fixture(scope="module")
def table(xs):
    return jaxgmm.select_many(KEY, xs, **ASKED)


def test_each_gets_its_number_of_components_or_says_why_not(table):
    assert table.n_components.tolist() == [1, 2, 3, 0, 0, 0, 2, 2]
    assert table.errors == {3: "is NaN or infinite in 1 of 60 rows", 4: "has no column that varies", 5: "has no rows"}
    assert table.outliers == {6: (5,)}
    assert [table.columns(name) for name in (0, 3, 7)] == [(0, 1), (), (1,)]
    assert table.mixture(2).means.shape == (3, 2)
    assert table.mixture(2).means.dtype == dtype()
    assert np.all(np.diff(table.mixture(2).weights) <= 0)
    with pytest.raises(RuntimeError, match="Data set 3 could not be fitted: it is NaN"):
        table.mixture(3)
    with pytest.raises(KeyError, match="no data set 'x'"):
        table.mixture("x")


def test_it_is_what_select_chooses_of_the_same_starts(xs, table):
    """The same candidates, rows set aside, likelihoods and criteria."""
    alone = jaxgmm.select(KEY, xs[6], **ASKED)
    assert (str(alone.winner.form), alone.winner.n_components) == (str(table.form[6]), table.n_components[6])
    assert alone.outliers == table.outliers[6]
    np.testing.assert_allclose(table.value[6], alone.winner.bic, rtol=tolerance("close"))
    # Of three components in two groups there are many optima.
    known = {(str(one.form), one.n_components): one.bic for one in alone.candidates}
    for place, form in enumerate(ASKED["forms"]):
        expected = [known[form, 1], known[form, 2]]
        np.testing.assert_allclose(table.values[6, place, :2], expected, rtol=tolerance("close"))
    np.testing.assert_allclose(table.behind[6], np.sort(table.values[6].ravel())[1] - table.value[6], rtol=1e-6)
    assert table.n_parameters[6] == alone.winner.n_parameters


def test_the_others_do_not_matter(xs, table):
    some = jaxgmm.select_many(KEY, {name: xs[name] for name in (0, 1)}, **ASKED)
    np.testing.assert_allclose(some.value, table.value[:2], rtol=tolerance("close"))
    assert some.names == (0, 1)


def test_nothing_is_compiled_for_other_values_or_fewer_sets(xs):
    other_key, table = jax.random.key(1), jaxgmm.select_many(KEY, xs, **ASKED)
    with counted() as compiled:
        again = jaxgmm.select_many(other_key, [x + 1 for x in xs[:4]] + xs[6:], **ASKED)
    assert compiled == []
    assert again.n_components[:3].tolist() == [1, 2, 3]
    table.to_pandas(parameters=True)
    table.assign(xs)
    # Others are faulty, of one group, have constant columns or rows that stand alone.
    turned = [np.array(x) for x in xs]
    turned[0][3], turned[1][3], turned[2][:, 0], turned[3] = np.nan, 1e5, 1.0, blobs(9, 1)
    with counted() as compiled:
        other = jaxgmm.select_many(KEY, turned, **ASKED)
        other.to_pandas(parameters=True)
        other.assign(turned)
    assert compiled == []
    assert (other.n_components > 0).tolist() == [False, True, True, True, False, False, True, True]
    assert other.outliers == {1: (3,), 6: (5,)}


def test_tables(xs, table):
    frame = table.to_pandas(parameters=True)
    assert frame.n_components.tolist() == table.n_components.tolist()
    assert frame.status[5] == "ERROR: has no rows"
    assert frame.outliers.tolist() == [0, 0, 0, 0, 0, 0, 1, 0]
    for name in (2, 7):
        mixture, columns = table.mixture(name), table.columns(name)
        sd = np.sqrt(np.diagonal(mixture.covariances, axis1=1, axis2=2))
        for component, place in np.ndindex(mixture.means.shape):
            at = f"[{component},{columns[place]}]"
            np.testing.assert_allclose(frame["mean" + at][name], mixture.means[component, place], rtol=1e-6)
            np.testing.assert_allclose(frame["sd" + at][name], sd[component, place], rtol=1e-6)
    assert np.isnan([frame["mean[0,0]"][7], frame["weight[1]"][0]]).all()
    components = table.components()
    assert components.data_set.value_counts().to_dict() == {0: 1, 1: 2, 2: 3, 6: 2, 7: 2}
    np.testing.assert_allclose(components.groupby("data_set").weight.sum(), 1, rtol=1e-6)
    assert "1 row stands alone and is set aside, in 1 of the data sets" in repr(table)


def test_rows_are_assigned_as_by_each_mixture(xs, table):
    long = table.assign(xs)
    assert len(long) == sum(map(len, xs))
    for name in (1, 7):
        mine, columns = long[long.data_set == name], list(table.columns(name))
        mixture = table.mixture(name)
        np.testing.assert_array_equal(mine.component, mixture.predict(xs[name][:, columns]))
        np.testing.assert_allclose(mine.log_density, mixture.log_prob(xs[name][:, columns]), rtol=tolerance("close"))
    assert (long.component[long.data_set == 3] == -1).all()
    with pytest.raises(ValueError, match="data set 'x'"):
        table.assign({"x": xs[0]})


def test_a_frame_with_groups(xs, table):
    names = np.repeat(["none", "two", "three"], [60, 40, 64])
    rows = np.concatenate(xs[:3])
    order = np.random.default_rng(0).permutation(len(rows))
    frame = pandas.DataFrame({"u": rows[:, 0], "gene": names, "v": rows[:, 1]}).iloc[order]
    found = jaxgmm.select_many(KEY, frame, by="gene", **ASKED)
    assert dict(zip(found.names, found.n_components.tolist(), strict=True)) == {"none": 1, "two": 2, "three": 3}
    assert list(found.to_pandas().columns[:3]) == ["gene", "form", "n_components"]
    assert found.schema == jaxgmm.Schema(["u", "v"])
    long = found.assign(frame, by="gene")
    assert long.gene.tolist() == frame.gene.tolist()
    assert long.index.equals(frame.index)
    lacking = frame.assign(gene=frame.gene.where(np.arange(len(frame)) % 2 == 0))
    half = found.assign(lacking, by="gene")
    assert half.index.equals(frame.index)
    np.testing.assert_array_equal(half.component, np.where(np.arange(len(frame)) % 2 == 0, long.component, -1))
    turned = found.assign(frame[["v", "gene", "u"]].assign(more=1.0), by="gene")
    np.testing.assert_array_equal(turned.log_density, long.log_density)
    with pytest.raises(ValueError, match="no column 'v'"):
        found.assign(frame[["u", "gene"]], by="gene")
    with pytest.raises(ValueError, match="has 3 columns; expected 2"):
        found.assign({"two": np.ones((2, 3))})
    inside = (frame.gene == "two").to_numpy()
    expected = found.mixture("two").predict(frame[["u", "v"]].to_numpy()[inside])
    np.testing.assert_array_equal(long.component[inside], expected)


def test_a_call_that_was_stopped_goes_on_from_its_parts(xs, table, tmp_path, monkeypatch):
    path, done = tmp_path / "parts", []
    program = panel._select_each

    def stopped(*given, **options):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(program(*given, **options))
        return done[-1]

    monkeypatch.setattr(panel, "_select_each", stopped)
    monkeypatch.setattr(panel, "side_by_side", map)
    with pytest.raises(KeyboardInterrupt):
        jaxgmm.select_many(KEY, xs, parts=path, **ASKED)
    assert len(done) == 2
    with open(path, "ab") as file:  # what was being written then
        file.write(b"\x40\0\0\0\0\0\0\0PK")
    monkeypatch.setattr(panel, "_select_each", program)
    again = jaxgmm.select_many(KEY, xs, parts=path, **ASKED)
    np.testing.assert_array_equal(again.value, table.value)

    def refused(*given, **options):
        assert not programs.at_top_level(), "nothing is left to be fitted"
        return program(*given, **options)

    monkeypatch.setattr(panel, "_select_each", refused)
    last = jaxgmm.select_many(KEY, xs, parts=path, **ASKED)
    np.testing.assert_array_equal(last.value, table.value)
    assert last.outliers == table.outliers
    np.testing.assert_array_equal(last.mixture(2).means, table.mixture(2).means)
    with pytest.raises(ValueError, match="holds parts of another call"):
        jaxgmm.select_many(jax.random.key(1), xs, parts=path, **ASKED)
    path.write_text("a,b")
    with pytest.raises(ValueError, match="holds no parts"):
        jaxgmm.select_many(KEY, xs, parts=path, **ASKED)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"criterion": "cv"}, "criterion is 'cv'"),
        ({"outliers": "drop"}, "outliers is 'drop'"),
        ({"n_components": []}, "nothing to try"),
        ({"n_components": [0]}, "n_components is 0"),
        ({"chunk_size": 0}, "chunk_size is 0"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        jaxgmm.select_many(KEY, [blobs(0, 1)], **(ASKED | options))


@once
def test_progress_is_shown(xs, table, capsys, monkeypatch):
    monkeypatch.setattr("jaxgmm.ground.progress._SECONDS", 0)
    jaxgmm.select_many(KEY, xs, progress=True, **ASKED)
    assert "fits of data sets: 10 of 10" in capsys.readouterr().err


def test_select_components_is_a_pure_function():
    """Under jit and vmap as outside, and as each number of components alone."""
    xs = np.stack([blobs(1, 2, 60), blobs(2, 3, 60)])

    def best(x, ks):
        return jaxgmm.select_components(KEY, x, ks, "spherical", max_components=3, n_restarts=2)

    ks = np.array([1, 2, 3, 0])
    found = jax.jit(jax.vmap(best, (0, None)))(xs, ks)
    assert np.asarray(found.n_components)[np.arange(2), found.chosen].tolist() == [2, 3]
    for place, x in enumerate(xs):
        alone = best(x, ks)
        np.testing.assert_allclose(found.criterion[place], alone.criterion, rtol=tolerance("close"))
        assert np.isinf(alone.criterion[3])
        mixture = alone.best.mixture
        np.testing.assert_allclose(
            np.min(alone.criterion), jaxgmm.bic(dataclasses.replace(mixture), x), rtol=tolerance("close")
        )


@pytest.mark.parametrize(
    ("ks", "message"),
    [([], "n_components is"), ([4], "expected numbers from 0 to 3"), (2, "whole numbers in a sequence")],
)
def test_numbers_of_components_that_are_none(ks, message):
    with pytest.raises(ValueError, match=message):
        jaxgmm.select_components(KEY, blobs(0, 1), ks, max_components=3)


def test_only_what_may_be_chosen_goes_on():
    """A fit with a spurious component is not, however low it is."""
    criterion, eligible = jnp.array([10.0, 11.0, 14.0, -50.0]), jnp.array([True, True, True, False])
    assert int(_n_hopeful(criterion, eligible, jnp.asarray(2.0))) == 2
    assert int(_n_hopeful(criterion[3:], eligible[3:], jnp.asarray(2.0))) == 1
    assert int(_n_hopeful(jnp.full(2, jnp.inf), jnp.zeros(2, bool), jnp.asarray(2.0))) == 0


def test_traced_numbers_need_room():
    with pytest.raises(TypeError, match="give max_components"):
        jax.jit(lambda ks: jaxgmm.select_components(KEY, blobs(0, 1), ks))(np.array([1, 2]))


@once
def test_the_winner_has_its_derivatives():
    """Where all rows move, the means of both components move along."""
    x = blobs(1, 2, 40, d=1)

    def means(shift):
        return jaxgmm.select_components(KEY, x + shift, [2], "spherical", n_restarts=2).best.mixture.means.sum()

    np.testing.assert_allclose(jax.grad(means)(0.0), 2, rtol=1e-3)


@once
def test_components_that_variational_bayes_does_not_use_are_left_out():
    xs, objective = [blobs(0, 1), blobs(1, 2), np.zeros((9, 2))], jaxgmm.Variational()
    options = {"objective": objective, "criterion": "evidence", "outliers": "keep", "n_restarts": 4}
    table = jaxgmm.select_many(KEY, xs, (4,), ("diag",), **options)
    kept = table.kept(objective, [60, 60, 9])
    assert table.n_components.tolist() == [4, 4, 0]
    told = [jaxgmm.credible(table.mixture(name), xs[name], objective).kept() for name in (0, 1)]
    assert kept.n_components.tolist() == [told[0].n_components, 2, 0]
    assert told[0].n_components < 4
    told = told[1]
    np.testing.assert_allclose(kept.mixture(1).means, told.means, rtol=1e-5)
    np.testing.assert_allclose(kept.mixture(1).weights, told.weights, rtol=1e-5)
    assert kept.assign(xs[:2])["component"].max() == 1
    # Where all are below, the weights count no rows.
    light = jaxgmm.select_many(KEY, xs[:1], (4,), ("diag",), weights=[np.full(60, 1e-6)], **options)
    assert light.kept(objective, [6e-5]).n_components.tolist() == [4]
    # Of a stick, they need not be the heaviest.
    stick = jaxgmm.Variational(jaxgmm.Prior(jaxgmm.StickBreaking(1.0)))
    table = jaxgmm.select_many(KEY, xs, (4,), ("diag",), **options | {"objective": stick})
    told = jaxgmm.credible(table.mixture(1), xs[1], stick).kept()
    kept = table.kept(stick, [60, 60, 9])
    assert kept.n_components[1] == told.n_components == 2
    np.testing.assert_allclose(kept.mixture(1).sorted().means, told.sorted().means, rtol=1e-5)
    with pytest.raises(TypeError, match="objective is of type Posterior"):
        table.kept(jaxgmm.Posterior(), [60, 60, 9])
    with pytest.raises(ValueError, match=r"totals has shape \(2,\); expected \(3,\)"):
        table.kept(objective, [60, 60])
