"""Pictures of every kind of column say what the numbers say."""

import dataclasses

import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats

import jaxgmm
from jaxgmm import plot
from jaxgmm.cli import figure
from jaxgmm.families.support import Axis
from jaxgmm.plot import style

from cases import KINDS
from tolerance import assert_close, once

matplotlib.use("Agg")
PRODUCT = next(case for case in KINDS if case.name == "product")
DRAWN = [case for case in KINDS if case.name != "multinomial"]


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def of(components, weights=(0.3, 0.7)):
    return jaxgmm.Mixture(jnp.log(jnp.array(weights)), components)


def logits(*shares):
    return jnp.log(jnp.array(shares)) - jnp.log1p(-jnp.array(shares))


def counts(*means):
    return of(jaxgmm.Poisson(jnp.array([[mean] for mean in means], float)))


def angles():
    return of(jaxgmm.VonMises(jnp.array([[3.0], [0.0]]), jnp.array([[8.0], [2.0]])))


def levels():
    """Two columns of three levels."""
    shares = jnp.array([[[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], [[0.1, 0.3, 0.6], [0.5, 0.3, 0.2]]])
    return of(jaxgmm.Categorical(jnp.log(shares)))


@pytest.mark.parametrize("case", KINDS, ids=lambda case: case.name)
def test_every_number_is_where_its_column_says(case):
    x = np.asarray(case.data(200), float)
    for column, values in enumerate(x.T):
        axis = case.mixture().components.axis(column)
        assert axis.low - 1e-6 <= values.min() <= values.max() <= axis.high + 1e-6
        assert axis.whole == np.all(values == np.round(values))
        assert axis.around == (case.name == "von mises")
        listed = {"categorical": 3, "bernoulli": 2}.get(case.name, 3 if case is PRODUCT and column == 1 else None)
        assert axis.n_levels == listed


def test_a_column_behind_noise_is_what_it_is_before():
    noisy = jaxgmm.with_noise(jaxgmm.from_parameters([1.0], [[0.0]], [1.0], "spherical"), 9.0)
    assert noisy.components.axis(0) == Axis()
    assert jaxgmm.with_noise(angles(), 6.0).components.axis(0).around


@once
@pytest.mark.parametrize("case", DRAWN, ids=lambda case: case.name)
def test_marginals_of_every_family(case):
    """Each panel has the density of its column, and a bar, or a part of one, for every row."""
    mixture, x = case.mixture(), np.asarray(case.data(200))
    panels = plot.marginals(mixture, x)
    panels[0].figure.canvas.draw()
    for column, ax in enumerate(panels):
        axis, part = mixture.components.axis(column), mixture.marginal([column])
        assert (ax.name == "polar") == axis.around
        if axis.n_levels is not None:
            observed, *components = ([bar.get_height() for bar in bars] for bars in ax.containers)
            assert_close(observed, np.bincount(x[:, column].astype(int), minlength=axis.n_levels) / len(x), "close")
            expected = np.exp(np.asarray(part.log_prob(np.arange(axis.n_levels, dtype=x.dtype)[:, None])))
            assert_close(np.sum(components, axis=0), expected, "close")
            continue
        places, drawn = ax.lines[0].get_data()
        drawn = drawn**2 if axis.around else drawn
        expected = np.exp(np.asarray(part.log_prob(places.astype(x.dtype)[:, None]), float))
        assert_close(drawn, expected, "close", np.max(expected))
        assert_close(np.sum([line.get_ydata() ** (1 + axis.around) for line in ax.lines[1:]], axis=0), drawn, "close")
        bars = [(bar.get_height() ** (1 + axis.around), bar.get_width()) for bar in ax.patches]
        assert_close(sum(height * width for height, width in bars), 1, "close", 30)
        if axis.whole:
            assert np.all(places == np.round(places))
    assert len({ax.figure for ax in panels}) == 1


@once
def test_levels_are_shares_of_what_is_seen():
    x = np.array([[0.0, 1.0], [0.0, np.nan], [2.0, np.nan], [1.0, 2.0]])
    weights = np.array([1.0, 1.0, 1.0, 2.0])
    names = {"b": ["low", "middle", "high"]}
    first, second = plot.marginals(levels(), jaxgmm.rows(x, weights, missing="nan"), ["a", "b"], names)
    assert_close([bar.get_height() for bar in first.containers[0]], [0.4, 0.4, 0.2], "close")
    assert_close([bar.get_height() for bar in second.containers[0]], [0, 1 / 3, 2 / 3], "close")
    assert [text.get_text() for text in second.get_xticklabels()] == ["low", "middle", "high"]
    assert [text.get_text() for text in first.get_xticklabels()] == ["0", "1", "2"]
    assert [ax.get_title("left") for ax in (first, second)] == ["a", "b"]
    colors = [matplotlib.colors.to_hex(bars[0].get_facecolor()) for bars in first.containers[1:]]
    assert colors == [color.lower() for color in style.COLORS[:2]]
    # Without rows, the components alone.
    alone = plot.marginals(levels())[0]
    assert len(alone.containers) == 2
    # One component is the mixture.
    assert [bars.get_label() for bars in plot.histogram(levels().take([0]).marginal([0])).containers] == ["mixture"]


@once
def test_few_counts_have_a_bar_each_and_many_do_not():
    rng = np.random.default_rng(0)
    few = plot.histogram(counts(2.0, 9.0), rng.poisson(6, (500, 1)).astype(float))
    places, drawn = few.lines[0].get_data()
    assert np.all(np.diff(places) == 1)
    assert_close(drawn, 0.3 * stats.poisson.pmf(places, 2) + 0.7 * stats.poisson.pmf(places, 9), "close")
    assert few.lines[0].get_marker() == "o"
    assert {round(bar.get_width(), 6) for bar in few.patches} == {1.0}
    assert few.get_ylabel() == "probability"
    wide = rng.poisson(np.where(rng.random(500) < 0.3, 20, 90_000))[:, None].astype(float)
    many = plot.histogram(counts(20.0, 90_000.0), wide)
    places, drawn = many.lines[0].get_data()
    assert len(places) < 400
    assert np.all(places == np.round(places))
    # The narrow component is not passed over, and does not decide the height of all.
    assert_close(drawn[places < 100].max(), 0.3 * stats.poisson.pmf(20, 20), "close", 100)
    widths = {round(bar.get_width(), 3) for bar in many.patches}
    assert len(widths) == 1
    assert widths.pop().is_integer()
    assert len(many.patches) <= 202
    assert many.get_ylim()[1] < 2 * max(bar.get_height() for bar in many.patches)


@once
def test_a_density_without_bound_leaves_the_rest_to_be_seen():
    rng = np.random.default_rng(0)
    steep = of(jaxgmm.Gamma(jnp.array([[1.0], [9.0]]), jnp.array([[0.2], [6.0]])))
    x = np.where(rng.random(400) < 0.3, rng.gamma(0.2, 5, 400), rng.gamma(6, 1.5, 400))[:, None] + 1e-6
    for ax in (plot.histogram(steep, x), plot.histogram(steep)):
        places, drawn = ax.lines[0].get_data()
        assert places.min() > 0
        assert np.all(np.isfinite(drawn))
        assert ax.get_ylim()[1] < drawn.max()
        assert ax.get_ylim()[1] > drawn[places > 3].max()
    both = of(jaxgmm.Beta(jnp.array([[0.5], [5.0]]), jnp.array([[0.5], [2.0]])))
    places = plot.histogram(both).lines[0].get_xdata()
    assert 0 < places.min() < places.max() < 1


@once
def test_a_rose_is_of_areas_and_closed():
    x = np.random.default_rng(0).vonmises(3.0, 2.0, (300, 1)) + 4 * np.pi
    ax = plot.histogram(angles(), x, bins=24)
    assert ax.name == "polar"
    assert_close(sum(bar.get_height() ** 2 * bar.get_width() for bar in ax.patches), 1, "close")
    assert len(ax.patches) == 24
    places, drawn = ax.lines[0].get_data()
    assert_close(np.ptp(places), 2 * np.pi, "close")
    assert_close(drawn[0], drawn[-1], "close")
    assert_close(np.trapezoid(drawn**2, places), 1, "close", 1e3)
    # The same along a line.
    line = plot.histogram(angles(), x, plt.subplots()[1], bins=24)
    np.testing.assert_allclose(line.get_xlim(), (-np.pi, np.pi))
    assert_close([bar.get_height() for bar in line.patches], [bar.get_height() ** 2 for bar in ax.patches], "close")


@once
def test_profiles_are_what_components_are_like():
    parts = (
        jaxgmm.Gaussian(jnp.array([[10.0], [20.0]]), jaxgmm.Each(jaxgmm.Scales(jnp.array([[1.0], [2.0]])))),
        jaxgmm.Poisson(jnp.array([[1.0], [5.0]])),
        jaxgmm.Bernoulli(logits([0.2], [0.9])),
        levels().components,
        jaxgmm.VonMises(jnp.array([[1.0], [-2.0]]), jnp.array([[1.0], [1.0]])),
    )
    mixture = of(jaxgmm.Product(parts, ((0,), (3,), (1,), (2, 5), (4,))))
    names, named = list("abcdef"), {1: ["no", "yes"], "c": ["low", "middle", "high"]}
    numbers, two, around, *bars = plot.profiles(mixture, names, named)
    lines = [line for line in numbers.lines if len(line.get_xdata()) == 2 and line.get_marker() != "None"]
    means, variances = np.array([[10.0, 1.0], [20.0, 5.0]]), np.array([[1.0, 1.0], [4.0, 5.0]])
    middle = np.array([0.3, 0.7]) @ means
    spread = np.sqrt(np.array([0.3, 0.7]) @ (variances + (means - middle) ** 2))
    assert_close([line.get_ydata() for line in lines], (means - middle) / spread, "close")
    assert [text.get_text() for text in numbers.get_xticklabels()] == ["a", "d"]
    assert_close([line.get_ydata()[0] for line in two.lines], [0.2, 0.9], "close")
    assert two.get_ylabel() == "probability of yes"
    assert_close([line.get_ydata()[0] for line in around.lines], np.degrees([1.0, -2.0]), "close")
    shares = np.asarray(levels().components.probabilities)
    for ax, own in zip(bars, shares, strict=True):
        assert_close([bar.get_width() for bar in ax.patches], own.ravel(), "close")
        assert_close(ax.patches[1].get_x(), own[0, 0], "close")
    assert [text.get_text() for text in bars[0].get_yticklabels()] == ["c\nlow | middle | high", "f"]
    assert [ax.get_title() for ax in bars] == ["0\n30%", "1\n70%"]
    texts = [text.get_text() for text in two.figure.axes[2].get_legend().get_texts()]
    assert texts == ["0: 30%", "1: 70%"]


@once
@pytest.mark.parametrize("case", DRAWN, ids=lambda case: case.name)
def test_profiles_of_every_family(case):
    axes = plot.profiles(case.mixture())
    axes[0].figure.canvas.draw()
    assert len(axes) == {"categorical": 3, "product": 4}.get(case.name, 1)


@once
def test_profiles_leave_out_noise_and_what_has_no_weight():
    means = np.arange(8.0).reshape(4, 2)
    some = jaxgmm.from_parameters([0.5, 0.2, 0.3, 0.0], means, np.ones((4, 2)), "diag")
    (ax,) = plot.profiles(jaxgmm.with_noise(some, 9.0))
    drawn = [line.get_ydata() for line in ax.lines if line.get_marker() != "None"]
    middle = np.array([0.5, 0.2, 0.3]) @ means[:3]
    spread = np.sqrt(1 + np.array([0.5, 0.2, 0.3]) @ (means[:3] - middle) ** 2)
    assert_close(drawn, (means[:3] - middle) / spread, "close")
    parts = plt.figure().subfigures(1, 2)
    (ax,) = plot.profiles(some, figure=parts[1])
    assert ax.figure is parts[1]


@once
def test_pairs_of_every_kind():
    x = np.asarray(PRODUCT.data(200))
    grid = plot.pairs(PRODUCT.mixture(), x, names=list("abcd"))
    grid[0, 0].figure.canvas.draw()
    for i, j in ((1, 0), (2, 1), (3, 1)):
        assert len(grid[i, j].patches) == 0
    for i, j in ((2, 0), (3, 0), (3, 2)):
        assert len(grid[i, j].patches) == 6
    # Levels are spread along their own axis alone.
    found = np.concatenate([points.get_offsets() for points in grid[1, 0].collections])
    assert_close(np.sort(found[:, 0]), np.sort(x[:, 0]), "exact", 10)
    assert np.all(np.abs(found[:, 1] - np.round(found[:, 1])) <= 0.3)
    assert np.bincount(np.round(found[:, 1]).astype(int)).tolist() == np.bincount(x[:, 1].astype(int)).tolist()


@once
def test_rows_of_levels_are_spread_and_angles_turned():
    x = np.array([[0.0, 1.0]] * 40 + [[2.0, 2.0]] * 10)
    points = np.concatenate([c.get_offsets() for c in plot.assignment(levels(), x, soft=False).collections])
    assert len(np.unique(points, axis=0)) == 50
    assert np.bincount(np.round(points[:, 0]).astype(int)).tolist() == [40, 0, 10]
    assert np.bincount(np.round(points[:, 1]).astype(int)).tolist() == [0, 40, 10]
    # Limits and ticks from the caller stay.
    own = plt.subplots()[1]
    own.set_xticks([0.0, 2.0], ["low", "high"])
    own.set_xlim(-3, 3)
    plot.assignment(levels(), x, own)
    assert [text.get_text() for text in own.get_xticklabels()] == ["low", "high"]
    assert own.get_xlim() == (-3, 3)
    product = jaxgmm.Product((angles().components, jaxgmm.Poisson(jnp.array([[2.0], [900.0]]))), ((0,), (1,)))
    ax = plot.assignment(of(product), [[1.0 + 2 * np.pi, 3.0], [-3.0, 900.0]])
    points = np.concatenate([c.get_offsets() for c in ax.collections])
    # Of many counts none is moved.
    assert_close(points[np.argsort(points[:, 1])], [[1.0, 3.0], [-3.0, 900.0]], "close")
    np.testing.assert_allclose(ax.get_xlim(), (-np.pi, np.pi))


@once
@pytest.mark.parametrize("name", ["density", "uncertainty", "anomalies"])
def test_maps_are_drawn_where_there_are_numbers(name):
    """Counts and angles; and positive numbers up to where they end, with no row beyond the edge."""
    draw = getattr(plot, name)
    product = jaxgmm.Product((angles().components, counts(2.0, 9.0).components), ((0,), (1,)))
    x = np.random.default_rng(0).poisson(5, (60, 1)) * np.array([[0.5, 1.0]])
    ax = draw(of(product), x)
    heights = np.concatenate([path.vertices[:, 1] for path in ax.collections[0].get_paths()])
    assert heights.min() >= 0
    shares = of(jaxgmm.Beta(jnp.array([[0.5, 2.0], [5.0, 3.0]]), jnp.array([[0.5, 3.0], [2.0, 1.0]])))
    rows = np.random.default_rng(0).beta(0.5, 0.5, (60, 2)) * 0.999 + 0.0005
    ax = draw(shares, rows)
    ax.figure.canvas.draw()
    assert [text.get_text() for text in ax.texts] == []
    assert np.all((np.array([ax.get_xlim(), ax.get_ylim()]) >= 0) & (np.array([ax.get_xlim(), ax.get_ylim()]) <= 1))


@once
def test_many_tables_of_any_kind():
    rng = np.random.default_rng(0)
    xs = {str(k): np.stack([rng.choice(3, 60), rng.vonmises(3, 9, 60)], axis=1).astype(np.float32) for k in range(2)}
    form = jaxgmm.Product.form({0: jaxgmm.Categorical.form(3), 1: jaxgmm.VonMises.form()})
    found = jaxgmm.select_many(jax.random.key(0), xs, 1, form, n_restarts=1)
    ax = plot.multiples(found, xs)[0]
    assert sum(len(c.get_offsets()) for c in ax.collections) == 60
    assert not ax.patches
    np.testing.assert_allclose(ax.get_ylim(), (-np.pi, np.pi))
    ax = plot.multiples(found, xs, columns=[0])[0]
    assert_close([bar.get_height() for bar in ax.containers[0]], np.bincount(xs["0"][:, 0].astype(int)) / 60, "close")
    ax = plot.multiples(found, xs, columns=[1])[0]
    np.testing.assert_allclose(ax.get_xlim(), (-np.pi, np.pi))


@once
def test_the_picture_of_the_command_line(tmp_path):
    x, mixture = jaxgmm.rows(PRODUCT.data(60)), PRODUCT.mixture()
    for columns in ([1], [1, 3], [0, 1, 3]):
        path = tmp_path / f"{len(columns)}.png"
        rows, part = x.of_columns(np.array(columns)), mixture.marginal(columns)
        alone = jaxgmm.Selection((), "bic")
        assert figure.draw(str(path), alone, part, rows, [f"c{column}" for column in columns]) is None
        assert path.stat().st_size > 5000


@once
def test_what_cannot_be_drawn_says_what_can():
    three, x = levels(), np.zeros((4, 2))
    for name in ("ellipses", "density", "uncertainty", "anomalies", "projection"):
        arguments = (three,) if name == "ellipses" else (three, x)
        with pytest.raises(NotImplementedError, match=rf"plot\.{name} .*column 0 holds levels from 0 to 2.*marginals"):
            getattr(plot, name)(*arguments)
    around = of(jaxgmm.VonMises(jnp.zeros((2, 2)), jnp.ones((2, 2))))
    with pytest.raises(NotImplementedError, match="column 0 holds angles"):
        plot.ellipses(around)
    many = jaxgmm.from_parameters([1.0], np.zeros((1, 61)), [1.0], "spherical")
    stack = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), three)
    for wrong, message in (
        (lambda: plot.marginals(three, names=["a"]), "names holds 1 names; expected 2"),
        (lambda: plot.marginals(three, names="ab"), "names holds 2 names"),
        (lambda: plot.marginals(three, levels=["a", "b"]), "levels holds 2 names; expected as many as"),
        (lambda: plot.marginals(three, levels={"a": ["x", "y", "z"]}), "levels has column 'a'"),
        (lambda: plot.marginals(three, levels={0: ["x", "y"]}), "levels has 2 names for column 0, which holds levels"),
        (lambda: plot.marginals(counts(1.0, 2.0), levels={0: ["x"]}), "column 0, which holds counts"),
        (lambda: plot.marginals(three, axes=[plt.subplots()[1]]), "axes holds 1 axes; expected 2"),
        (lambda: plot.marginals(many), "61 columns; expected up to 40"),
        (lambda: plot.profiles(many), "61 columns; expected up to 60"),
        (lambda: plot.profiles(stack), "stack of mixtures"),
        (lambda: plot.marginals(three, x + 0.5), "x holds 0.5 in row 0, column 0"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()
    logs = jaxgmm.from_parameters([1.0], [[0.0]], [999.0], "spherical").components
    with pytest.raises(ValueError, match="variances are no finite numbers"):
        plot.histogram(of(jaxgmm.LogNormal(logs, jnp.ones(1)), [1.0]))
    texts = next(case for case in KINDS if case.name == "multinomial").mixture()
    for draw in (plot.marginals, plot.profiles, plot.pairs):
        with pytest.raises(NotImplementedError, match="Multinomial"):
            draw(texts)


@once
def test_components_keep_their_colours_over_rows_and_numbers():
    """Also where one of them has no weight."""
    three = dataclasses.replace(levels(), log_weights=jnp.log(jnp.array([0.0, 1.0])))
    ax = plot.histogram(three.marginal([0]))
    assert [bars.get_label() for bars in ax.containers] == ["mixture"]
    assert_close([bar.get_height() for bar in ax.patches], [0.1, 0.3, 0.6], "close")
