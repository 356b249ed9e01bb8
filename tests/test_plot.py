"""Pictures say what the numbers say.

Those compared with `tests/baseline` are made anew by `pytest tests/test_plot.py --mpl-generate-path=tests/baseline`.
"""

import dataclasses
import sys

import jax
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import polars as pl
import pytest
from matplotlib.colors import to_hex

import jaxgmm
from jaxgmm import plot
from jaxgmm.cli import figure
from jaxgmm.plot import style

from cases import COVARIANCES, MEANS
from compilations import counted
from tolerance import assert_close, once

pytestmark = once
matplotlib.use("Agg")

# The last component has no weight, and stands where it would be seen.
WEIGHTS = [0.5, 0.35, 0.15, 0.0]
CENTERS = [[0.0, 0.0], [2.5, 2.0], [-2.5, 3.0], [9.0, 9.0]]
SHAPES = [[[1.0, 0.6], [0.6, 1.5]], [[1.5, -0.5], [-0.5, 0.5]], [[0.4, 0.0], [0.0, 1.2]], [[1.0, 0.0], [0.0, 1.0]]]
N = 150

# Root mean square over pixels, of 255 levels. The two dtypes differ by up to 2.2, where regions come from rows drawn;
# one covariance with its columns exchanged, or one component left out, makes 7 or more in every picture.
picture = pytest.mark.mpl_image_compare(
    style="default", remove_text=True, tolerance=4, savefig_kwargs={"dpi": 45, "metadata": {"Software": None}}
)


def mixture():
    return jaxgmm.from_parameters(WEIGHTS, CENTERS, SHAPES)


def rows(offset=0.0):
    rng = np.random.default_rng(0)
    labels = rng.choice(3, N, p=WEIGHTS[:3])
    noise = np.einsum("nij,nj->ni", np.linalg.cholesky(SHAPES)[labels], rng.normal(size=(N, 2)))
    return np.array(CENTERS)[labels] + noise + offset


def canvas(width=3.0, height=2.5):
    return plt.subplots(figsize=(width, height), layout="constrained")[1]


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(150, 2)) + 8 * rng.integers(0, 3, 150)[:, None]
    options = {"n_restarts": 4, "n_finalists": 1}
    return jaxgmm.select(jax.random.key(0), x, range(1, 5), ("diag", "spherical"), **options)


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def test_criterion_curves(table):
    ax = plot.criterion(table)
    curves = {line.get_label(): line for line in ax.lines if line.get_label() in ("diag", "spherical")}
    for name, line in curves.items():
        expected = [c.bic for c in table.candidates if c.form == name]
        np.testing.assert_allclose(line.get_ydata(), expected)
    assert len(curves) == 2
    assert {"chosen:\nspherical, k = 3", "reached by the\ncontinued starts"} < set(_key(ax))
    rings = [line.get_xydata().tolist() for line in ax.lines if line.get_markersize() == 14]
    assert rings == [[[3, table.winner.bic]]]
    assert "reached by the\ncontinued starts" not in _key(plot.criterion(dataclasses.replace(table, criterion="cv")))


def candidates(table, *given):
    """A table of these forms, numbers of components, criteria, and whether they are regular."""
    made = [
        dataclasses.replace(table.winner, form=form, n_components=k, bic=bic, log_likelihood=-bic, regular=regular)
        for form, k, bic, regular in given
    ]
    return dataclasses.replace(table, candidates=tuple(made))


def test_every_candidate_is_seen_or_marked_at_the_edge(table):
    near = [("full", k, 1000.0 + 10 * k, True) for k in range(3, 9)]
    far = [("full", 1, 5030.0, True), ("diag", 1, 2270.0, True), ("full", 2, np.inf, True), ("diag", 2, np.nan, False)]
    ax = plot.criterion(candidates(table, *near, *far, ("diag", 3, -8000.0, False), ("diag", 4, 1070.0, False)))
    marks = [line for line in ax.lines if len(line.get_xdata()) == 1 and line.get_markersize() != 14]
    edge = ax.get_xaxis_transform()
    at_edge = [line for line in marks if line.get_transform() == edge]
    seen = sorted(tuple(line.get_xydata()[0]) for line in marks if line not in at_edge)
    assert seen == sorted((k, bic) for _, k, bic, _ in [*near, ("diag", 4, 1070.0, False)])
    low, high = ax.get_ylim()
    assert all(low < bic < high for _, bic in seen)
    assert sorted(round(line.get_xdata()[0]) for line in at_edge) == [1, 1, 2, 2, 3]
    assert [line.get_marker() for line in at_edge if line.get_ydata()[0] == 0] == ["v"]
    (above,) = ax.child_axes
    notes = dict(zip(above.get_xticks(), [text.get_text() for text in above.get_xticklabels()], strict=True))
    assert notes == {1: "+1,240", 2: "+inf", 3: "-9,030"}


def test_what_is_lower_and_not_chosen_is_said(table):
    regular, lower, higher = ("diag", 2, 1000.0, True), ("full", 2, 900.0, False), ("full", 3, 1100.0, False)
    for given, said in (
        ([regular, lower, higher], {"chosen:\ndiag, k = 2", "spurious component:\n1 lower, but not chosen"}),
        ([regular, higher], {"chosen:\ndiag, k = 2", "spurious component:\nnot chosen"}),
        ([lower, higher], {"lowest, not sound:\nfull, k = 2", "spurious component"}),
        ([regular], {"chosen:\ndiag, k = 2"}),
    ):
        ax = plot.criterion(candidates(table, *given))
        assert {label for label in _key(ax) if "spurious" in label or "k =" in label} == said
        hollow = [line.get_ydata()[0] for line in ax.lines if line.get_markerfacecolor() == "white"]
        assert sorted(hollow) == sorted(bic for _, _, bic, sound in given if not sound)


def test_a_table_without_a_fit_is_drawn(table):
    ax = plot.criterion(candidates(table, ("full", 1, np.nan, False), ("full", 2, np.nan, False)))
    ax.figure.canvas.draw()
    assert [text.get_text() for text in ax.child_axes[0].get_xticklabels()] == ["no value", "no value"]


def test_criterion_that_is_infinite_for_most():
    """AICc with fewer rows than parameters."""
    x = np.random.default_rng(0).normal(size=(8, 2))
    few = jaxgmm.select(jax.random.key(0), x, range(1, 5), ("diag",), criterion="aicc", n_restarts=2)
    assert sum(np.isinf(c.aicc) for c in few.candidates) > 2
    assert np.all(np.isfinite(plot.criterion(few).get_ylim()))


def test_restarts_are_sorted(table):
    restarts = table.winner.restarts
    ax = plot.restarts(restarts)
    points = np.concatenate([line.get_xydata() for line in ax.lines if line.get_label() != "best"])
    points = points[np.argsort(points[:, 0])]
    assert points[:, 0].tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(points[:, 1], np.sort(restarts.log_likelihood)[::-1])


def test_convergence_of_one_fit_and_of_a_stack(table):
    own = plt.subplots()[1]
    assert plot.convergence(table.best, own) is own
    assert len(own.lines) == 1
    stack = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), table.best)
    assert len(plot.convergence(stack).lines) == 2


def bare(ax):
    """The figure without the words that pytest-mpl leaves: they differ between versions of matplotlib."""
    for one in ax.figure.axes:
        one.set(xlabel="", ylabel="")
        if one.get_legend():
            one.get_legend().remove()
    return ax.figure


@picture
def test_picture_of_ellipses():
    return bare(plot.ellipses(mixture(), canvas()))


@picture
def test_picture_of_many_ellipses():
    rng = np.random.default_rng(0)
    means, variances = rng.uniform(-9, 9, (25, 2)), rng.uniform(0.2, 2, (25, 2))
    many = jaxgmm.from_parameters(rng.dirichlet(np.ones(25)), means, variances, "diag")
    return bare(plot.ellipses(many, canvas()))


@picture
def test_picture_of_the_density():
    return bare(plot.density(mixture(), rows(), canvas(), components=True))


@picture
def test_picture_of_a_soft_assignment():
    weights = np.where(np.arange(N) < 20, 5.0, 1.0)
    return bare(plot.assignment(mixture(), rows(), canvas(), weights=weights))


@picture
def test_picture_of_uncertainty():
    return bare(plot.uncertainty(mixture(), rows(), canvas()))


@picture
def test_picture_of_anomalies():
    return bare(plot.anomalies(mixture(), rows(), quantile=0.04, ax=canvas()))


@picture
def test_picture_of_a_histogram():
    weights = np.where(rows()[:, 0] > 2, 3.0, 1.0)
    return bare(plot.histogram(mixture().marginal([0]), rows()[:, :1], canvas(), bins=20, weights=weights))


@picture
def test_picture_of_pairs():
    x = np.concatenate([rows(), rows()[:, :1] - rows()[::-1, 1:]], axis=1)
    means = np.concatenate([CENTERS, [[0.0], [2.0], [-4.0], [0.0]]], axis=1)
    covariances = np.tile(3 * np.eye(3), (4, 1, 1))
    covariances[:, :2, :2] = SHAPES
    axes = plt.subplots(3, 3, figsize=(4, 3.5), layout="constrained")[1]
    return bare(plot.pairs(jaxgmm.from_parameters(WEIGHTS, means, covariances), x, axes=axes)[0, 0])


def gappy(share=0.25):
    """The rows with some entries missing, one of which lacks both, and errors."""
    rng = np.random.default_rng(1)
    gaps = rng.random(N)[:, None] < [share, 2 * share]
    gaps[:, 1] &= ~gaps[:, 0]
    gaps[3] = True
    noise = np.array([0.04, 0.2]) * rng.uniform(0.2, 2, (N, 1))
    return np.where(gaps, np.nan, rows()), np.where(gaps, np.nan, noise)


@picture
def test_picture_of_incomplete_rows():
    x, noise = gappy()
    return bare(plot.assignment(mixture(), jaxgmm.rows(x, missing="nan", noise=noise), canvas(), errors=True))


def marks(ax):
    """Where points are, and where ticks are along each axis."""
    points, ticks = [], ([], [])
    for found in ax.collections:
        if isinstance(found, matplotlib.collections.LineCollection):
            for column, transform in enumerate((ax.get_xaxis_transform(), ax.get_yaxis_transform())):
                if found.get_transform() is transform:
                    ticks[column].extend(segment[0][column] for segment in found.get_segments())
        elif isinstance(found, matplotlib.collections.PathCollection):
            points += found.get_offsets().tolist()
    return sorted(map(tuple, points)), sorted(ticks[0]), sorted(ticks[1])


@pytest.mark.parametrize("draw", [plot.assignment, plot.density, plot.uncertainty, plot.anomalies])
def test_incomplete_rows_are_drawn_by_what_is_seen(draw):
    x, _ = gappy()
    whole = ~np.isnan(x).any(axis=1)
    ax = plt.subplots()[1]
    draw(mixture(), jaxgmm.rows(x, missing="nan"), ax=ax)
    points, across, up = marks(ax)
    np.testing.assert_allclose(points, sorted(map(tuple, x[whole])), rtol=1e-6)
    lone = np.isnan(x[:, ::-1]) & ~np.isnan(x)
    assert lone[:, 0].sum() > 5
    np.testing.assert_allclose(across, np.sort(x[lone[:, 0], 0]), rtol=1e-6)
    np.testing.assert_allclose(up, np.sort(x[lone[:, 1], 1]), rtol=1e-6)
    # A tick is within what the axes show by themselves.
    assert ax.get_xlim()[0] <= across[0]
    assert across[-1] <= ax.get_xlim()[1]


def test_ticks_have_the_colour_that_their_entry_says():
    x = np.array([[-2.5, np.nan], [np.nan, 0.0], [0.0, 0.0], [2.5, 2.0]])
    ax = plot.assignment(mixture(), jaxgmm.rows(x, missing="nan"), soft=False)
    across, up = (found for found in ax.collections if isinstance(found, matplotlib.collections.LineCollection))
    assert [to_hex(found.get_colors()[0]) for found in (across, up)] == [
        style.COLORS[2].lower(),
        style.COLORS[0].lower(),
    ]


def test_a_histogram_is_of_the_entries_that_are_seen():
    x = rows()[:, :1].copy()
    x[::3] = np.nan
    one = mixture().marginal([0])
    heights = [
        [patch.get_height() for patch in plot.histogram(one, given, bins=10).patches]
        for given in (jaxgmm.rows(x, missing="nan"), x[~np.isnan(x[:, 0])])
    ]
    assert heights[0] == heights[1]
    x3, gaps = np.concatenate([x, rows()], axis=1), np.zeros((N, 3), bool)
    gaps[:, 0] = np.isnan(x[:, 0])
    means = np.concatenate([CENTERS, [[0.0], [2.0], [-4.0], [0.0]]], axis=1)
    three = jaxgmm.from_parameters(WEIGHTS, means, np.tile(3 * np.eye(3), (4, 1, 1)))
    grid = plot.pairs(three, jaxgmm.rows(x3, missing=gaps))
    assert len(marks(grid[1, 0])[2]) == gaps[:, 0].sum()
    assert len(marks(grid[2, 1])[0]) == N


def test_errors_are_as_long_as_one_of_them():
    x = np.array([[0.0, 1.0], [2.0, 2.0], [1.0, np.nan]])
    variances = np.array([[4.0, 1.0], [0.25, 0.0], [1.0, 1.0]])
    bars = jaxgmm.rows(x, missing="nan", noise=variances)
    ax = plot.assignment(mixture(), bars, errors=True)
    (found,) = (c for c in ax.collections if c.get_transform() == ax.transData and hasattr(c, "get_segments"))
    lengths = [np.ptp(segment, axis=0).tolist() for segment in found.get_segments()]
    assert lengths == [[4.0, 0.0], [0.0, 2.0], [1.0, 0.0], [0.0, 0.0]]
    full = jaxgmm.rows(x[:2], noise=[[[4.0, 0.0], [0.0, 1.0]], [[2.5, 1.5], [1.5, 2.5]]])
    ax = plot.assignment(mixture(), full, errors=True)
    (found,) = (c for c in ax.collections if isinstance(c, matplotlib.collections.EllipseCollection))
    np.testing.assert_allclose(found.get_widths(), [4.0, 4.0], rtol=1e-6)
    np.testing.assert_allclose(found.get_heights(), [2.0, 2.0], rtol=1e-6)
    np.testing.assert_allclose(found.get_angles() % 180, [0.0, 45.0], atol=1e-3)
    assert len(plot.assignment(mixture(), bars).collections) == len(plot.assignment(mixture(), x[:2]).collections) + 1


def three_columns():
    """A mixture in three columns and rows of it, in which its components lie apart along none of them."""
    rotation = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))[0]
    rest = np.random.default_rng(5).normal(size=(N, 1))
    flat = jaxgmm.from_parameters(
        WEIGHTS,
        np.concatenate([CENTERS, np.zeros((4, 1))], axis=1),
        [[[*row, 0.0] for row in shape] + [[0.0, 0.0, 9.0]] for shape in SHAPES],
    )
    return flat.affine(rotation), np.concatenate([rows(), 3 * rest], axis=1) @ rotation.T


@picture
def test_picture_of_a_projection():
    solid, x = three_columns()
    gaps = np.random.default_rng(6).random(x.shape) < 0.1
    return bare(plot.projection(solid, jaxgmm.rows(x, missing=gaps), canvas()))


def test_a_projection_shows_rows_and_components_where_they_are():
    solid, x = three_columns()
    found = jaxgmm.projection(solid)
    z = x @ np.asarray(found.matrix).T + np.asarray(found.offset)
    ax = plot.projection(solid, pd.DataFrame(x, columns=["a", "b", "c"]), soft=False)
    np.testing.assert_allclose(marks(ax)[0], sorted(map(tuple, z)), rtol=1e-4, atol=1e-5)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("first direction", "second direction")
    flat = solid.affine(found.matrix, found.offset)
    centers = sorted({tuple(map(float, patch.center)) for patch in ax.patches})
    np.testing.assert_allclose(centers, sorted(map(tuple, np.asarray(flat.means)[:3])), rtol=1e-5)
    # Without rows, the components alone.
    assert len(plot.projection(solid).patches) == 6
    # A row is of the colour that it has in all columns, and hollow where it is expected to be if entries are missing.
    gaps = np.zeros(x.shape, bool)
    gaps[::5, 1] = gaps[1] = True
    known = jaxgmm.rows(x, missing=gaps)
    ax = plot.projection(solid, known, soft=False)
    kinds = [len(found.get_facecolors()) > 0 for found in ax.collections]
    hollow = np.concatenate(
        [found.get_offsets() for found, filled in zip(ax.collections, kinds, strict=True) if not filled]
    )
    expected = np.asarray(jaxgmm.impute(solid, known))[::5] @ np.asarray(found.matrix).T + np.asarray(found.offset)
    np.testing.assert_allclose(sorted(map(tuple, hollow)), sorted(map(tuple, expected)), rtol=1e-4, atol=1e-5)
    # One row of which nothing is seen is nowhere.
    assert len(marks(ax)[0]) == N - 1
    labels = np.asarray(solid.predict(known))
    colors = {to_hex(one.get_edgecolors()[0]) for one, filled in zip(ax.collections, kinds, strict=True) if not filled}
    assert colors == {style.COLORS[label].lower() for label in labels[::5]}


def test_what_has_no_projection_is_refused():
    with pytest.raises(ValueError, match=r"1 column; .*plot\.histogram"):
        plot.projection(mixture().marginal([0]))
    with pytest.raises(ValueError, match="one component"):
        plot.projection(mixture().take([0]), rows())


def test_rows_without_anything_to_draw_are_refused():
    nothing = jaxgmm.rows(np.full((3, 2), np.nan), missing="nan")
    with pytest.raises(ValueError, match="no row with an entry that is seen"):
        plot.assignment(mixture(), nothing)
    half = jaxgmm.rows([[0.0, np.nan], [np.nan, 1.0]], missing="nan")
    with pytest.raises(ValueError, match="no row whose entries are all seen"):
        plot.anomalies(mixture(), half)
    assert plot.anomalies(mixture(), half, threshold=-5.0).get_legend() is not None


@pytest.mark.parametrize("structure", COVARIANCES)
def test_an_ellipse_holds_its_share(structure):
    """Of each component in turn, as counted in rows drawn from it."""
    some = jaxgmm.from_parameters([0.2, 0.3, 0.5], MEANS, COVARIANCES[structure], structure)
    patches = plot.ellipses(some, levels=(0.9, 0.4)).patches
    normal = np.random.default_rng(0).normal(size=(20_000, 2))
    found = {}
    for patch in patches:
        outline = patch.get_patch_transform().transform_path(patch.get_path())
        for place in range(3):
            drawn = np.asarray(some.means[place]) + normal @ np.linalg.cholesky(some.covariances[place]).T
            if np.allclose(patch.center, some.means[place], atol=1e-5):
                found.setdefault(place, []).append(outline.contains_points(drawn).mean())
    assert sorted(found) == [0, 1, 2]
    for shares in found.values():
        np.testing.assert_allclose(sorted(shares), [0.4, 0.9], atol=0.015)


def test_an_ellipse_of_columns_in_units_far_apart():
    units, shape = np.array([1e-4, 1e6]), np.array([[1.0, 0.9], [0.9, 1.0]])
    scaled = jaxgmm.from_parameters([1.0], [[0.0, 0.0]], [shape * np.outer(units, units)])
    (patch,) = plot.ellipses(scaled, levels=[0.9]).patches
    outline = patch.get_patch_transform().transform_path(patch.get_path())
    drawn = np.random.default_rng(0).normal(size=(20_000, 2)) @ np.linalg.cholesky(shape).T
    outline = matplotlib.path.Path(outline.vertices / units, outline.codes)
    assert_close(outline.contains_points(drawn).mean(), 0.9, "close")


def test_ellipses_of_any_family(case):
    patches = plot.ellipses(case.mixture(), levels=[0.5]).patches
    centers = sorted(tuple(patch.center) for patch in patches)
    assert_close(centers, sorted(tuple(np.asarray(mean, float)) for mean in case.mixture().means), "exact", 10)


def test_absent_components_are_not_drawn():
    ax = plot.ellipses(mixture())
    assert len(ax.patches) == 2 * 3
    assert ax.get_xlim()[1] < 9
    assert plot.density(mixture()).get_xlim()[1] < 9
    lines = plot.histogram(mixture().marginal([0])).lines
    assert [line.get_label() for line in lines] == ["mixture", "component 0", "component 1", "component 2"]


def test_a_larger_weight_is_stronger():
    widths = {patch.get_label(): patch.get_linewidth() for patch in plot.ellipses(mixture(), levels=[0.5]).patches}
    assert widths["component 0"] > widths["component 1"] > widths["component 2"]


def test_components_keep_their_colours_and_many_have_none():
    edges = {patch.get_label(): to_hex(patch.get_edgecolor()) for patch in plot.ellipses(mixture()).patches}
    for line in plot.histogram(mixture().marginal([0])).lines[1:]:
        assert edges[line.get_label()] == line.get_color().lower()
    many = jaxgmm.from_parameters(np.ones(50), np.arange(100.0).reshape(50, 2), np.ones(50), "spherical")
    assert {to_hex(patch.get_edgecolor()) for patch in plot.ellipses(many).patches} == {style.NEUTRAL}
    assert {to_hex(patch.get_edgecolor()) for patch in plot.ellipses(many, colors="red").patches} == {"#ff0000"}


def test_regions_hold_their_mass():
    """Riemann sum of the density over the inside of each contour."""
    levels = (0.3, 0.6, 0.95)
    ax = plt.subplots()[1]
    ax.set(xlim=(-8, 9), ylim=(-7, 9))
    plot.density(mixture(), ax=ax, levels=levels)
    x, y = np.linspace(-8, 9, 301), np.linspace(-7, 9, 299)
    points = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    mass = np.exp(np.asarray(mixture().log_prob(points), float)) * (x[1] - x[0]) * (y[1] - y[0])
    # What is inside of the outer contour of a step is inside, whatever the steps on top of it.
    inside = [mass[path.contains_points(points)].sum() for path in _filled(ax)]
    np.testing.assert_allclose(inside[::-1], levels, atol=0.01)


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e5])
def test_maps_far_from_the_origin(offset):
    """The contour of the density at one standard deviation is where it should be, closer than float32 numbers are."""
    unit = jaxgmm.from_parameters([1.0], [[offset, offset]], [1.0], "spherical")
    ax = plot.anomalies(unit, rows(offset).astype(np.float32), threshold=-np.log(2 * np.pi) - 0.5)
    lines = [path.vertices for c in ax.collections if c.get_linestyle()[0][1] for path in c.get_paths()]
    radius = np.linalg.norm(np.concatenate(lines) - offset, axis=1)
    np.testing.assert_allclose(radius, 1, atol=1e-3)


def test_uncertainty_is_certain_for_one_component_and_full_between_two_equal_ones():
    two = jaxgmm.from_parameters([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], [1.0, 1.0], "spherical")
    for measure, most in (("entropy", 1.0), ("error", 0.5)):
        ax = plot.uncertainty(two, measure=measure)
        assert ax.collections[0].get_clim() == (0, most)
    one = two.take([0])
    assert len(_filled(plot.uncertainty(one))[1].vertices) == 0


def test_rows_are_marked_by_their_component():
    x = rows()
    ax = plot.assignment(mixture(), x, soft=False)
    shown = {to_hex(c.get_facecolor()[0]): len(c.get_offsets()) for c in ax.collections}
    counts = np.bincount(mixture().predict(x))
    assert shown == {style.COLORS[place].lower(): counts[place] for place in range(3)}
    assert len({c.get_paths()[0].vertices.tobytes() for c in ax.collections}) == 3
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["0", "1", "2"]


def test_colours_are_blended_by_responsibility():
    ends = style.blend(np.eye(2), style.COLORS[:2])
    np.testing.assert_allclose([matplotlib.colors.to_rgb(color) for color in style.COLORS[:2]], ends, atol=1e-6)
    # White and blue in Oklab, and the way back from half between, as Ottosson (2020) gives them.
    halfway = np.mean([[1.0, 0.0, 0.0], [0.452014, -0.032457, -0.311528]], axis=0)
    to_cones = [
        [1, 0.3963377774, 0.2158037573],
        [1, -0.1055613458, -0.0638541728],
        [1, -0.0894841775, -1.2914855480],
    ]
    to_linear = [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
    expected = 1.055 * (np.array(to_linear) @ (to_cones @ halfway) ** 3) ** (1 / 2.4) - 0.055
    np.testing.assert_allclose(
        style.blend(np.array([[0.5, 0.5]]), ("white", "blue"))[0], np.minimum(expected, 1), atol=1e-4
    )


def test_many_rows_are_thinned_out_in_the_same_way():
    x = np.tile(rows(), (100, 1)) + np.random.default_rng(1).normal(size=(100 * N, 2))
    first, second = (plot.assignment(mixture(), x).collections for _ in range(2))
    assert len(first) == 1
    assert len(first[0].get_offsets()) == 10_000
    np.testing.assert_array_equal(first[0].get_offsets(), second[0].get_offsets())
    assert first[0].get_rasterized()


def test_anomalies_are_the_least_probable_rows():
    x, threshold = rows(), -6.0
    values = np.asarray(mixture().log_prob(x))
    for options, least in (({"threshold": threshold}, values < threshold), ({"quantile": 0.1}, _lowest(values, 15))):
        ax = plot.anomalies(mixture(), x, **options)
        marked = ax.collections[-1].get_offsets()
        assert_close(marked[np.lexsort(marked.T)], x[least][np.lexsort(x[least].T)], "exact", 10)
        assert f"{least.sum()} of {N} rows" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_anomalies_by_weight():
    """A row of a tenth of the weight is that of the quantile, not one of N."""
    x = rows()
    weights = np.ones(N)
    weights[np.argsort(mixture().log_prob(x))[1]] = N / 9
    ax = plot.anomalies(mixture(), x, quantile=0.05, weights=weights)
    assert len(ax.collections[-1].get_offsets()) == 1


def test_histogram_honours_weights():
    x, weights = rows()[:, :1], np.arange(N) % 3
    ax = plot.histogram(mixture().marginal([0]), x, bins=12, weights=weights)
    expected = np.histogram(np.repeat(x[:, 0], weights), np.histogram_bin_edges(x[weights > 0], 12), density=True)[0]
    assert_close([patch.get_height() for patch in ax.patches], expected, "close")


def test_histogram_finds_thin_components():
    thin = jaxgmm.from_parameters([0.5, 0.5], [[0.0], [1e3]], [1e-6, 1e-6], "spherical")
    assert_close(np.max(plot.histogram(thin).lines[0].get_ydata()), 0.5 / np.sqrt(2e-6 * np.pi), "close")


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_columns_of_a_frame_are_named(frame):
    x = frame(dict(zip(("width", "length"), rows().T, strict=True)))
    for ax in (plot.assignment(mixture(), x), plot.anomalies(mixture(), x)):
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("width", "length")
    axes = plot.pairs(mixture(), x)
    assert (axes[1, 0].get_xlabel(), axes[1, 0].get_ylabel()) == ("width", "length")
    assert plot.pairs(mixture(), x, names=["a", "b"])[1, 1].get_xlabel() == "b"
    assert plot.histogram(mixture().marginal([1]), x[["length"]]).get_xlabel() == "length"


@pytest.mark.parametrize("name", ["ellipses", "density", "assignment", "uncertainty", "anomalies"])
def test_the_axes_given_are_drawn_on_and_returned(name):
    own = canvas()
    arguments = (mixture(),) if name == "ellipses" else (mixture(), rows())
    assert getattr(plot, name)(*arguments, ax=own) is own
    assert own.has_data()
    assert len(plt.get_fignums()) == 1


def test_a_map_under_rows_covers_the_axes():
    ax = plot.assignment(mixture(), 3 * rows())
    limits = ax.get_xlim(), ax.get_ylim()
    plot.density(mixture(), ax=ax)
    np.testing.assert_allclose((ax.get_xlim(), ax.get_ylim()), limits, rtol=1e-6)


def test_rows_of_weight_zero_are_left_out():
    x = rows()
    x[0] = np.nan
    weights = np.ones(N)
    weights[0] = 0
    shown = plot.assignment(mixture(), x, weights=weights).collections
    assert sum(len(c.get_offsets()) for c in shown) == N - 1
    with pytest.raises(ValueError, match="NaN or infinite in 1 of 150 rows: 0"):
        plot.assignment(mixture(), x)


def test_what_cannot_be_drawn():
    three = jaxgmm.from_parameters([1.0], [[0.0, 0.0, 0.0]], [1.0], "spherical")
    stack = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), mixture())
    wide = jaxgmm.from_parameters([1.0], [np.zeros(13)], [1.0], "spherical")
    for wrong, message in (
        (lambda: plot.ellipses(three), r"3 columns; expected 2. Use plot.pairs, or two columns: mixture.marginal"),
        (lambda: plot.assignment(three, np.zeros((1, 3))), "Use plot.pairs"),
        (lambda: plot.density(mixture().marginal([0])), "plot.histogram"),
        (lambda: plot.histogram(mixture()), r"2 columns; expected 1. Use plot.histogram for one column, or mixture"),
        (lambda: plot.pairs(mixture().marginal([0])), "1 columns; expected 2 to 12. Use plot.histogram"),
        (lambda: plot.pairs(wide), r"13 columns; expected 2 to 12. Choose some: mixture.marginal"),
        (lambda: plot.ellipses(stack), r"stack of mixtures of shape \(2,\).*leaf\[0\]"),
        (lambda: plot.ellipses(mixture(), levels=(0.5, 1.0)), "levels is .* between 0 and 1"),
        (lambda: plot.ellipses(mixture(), colors=("red", "blue")), "colors holds 2 colours; expected one, or 4"),
        (lambda: plot.pairs(mixture(), names=["a"]), "names holds 1 names; expected 2"),
        (lambda: plot.pairs(mixture(), axes=np.empty((3, 2))), r"axes has shape \(3, 2\); expected \(2, 2\)"),
        (lambda: plot.uncertainty(mixture(), measure="doubt"), "expected one of 'entropy', 'error'"),
        (lambda: plot.anomalies(mixture(), rows(), quantile=1.5), "quantile is 1.5; expected a share"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()
    assert not plt.get_fignums()


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r'pip install "jaxgmm\[plot\]"'):
        plot.ellipses(mixture())


def spoilt(*far):
    """Rows of which the first are these."""
    x = np.tile(rows(), (4, 1))
    x[: len(far)] = far
    return x


def notes(ax):
    return sorted(text.get_text() for text in ax.texts)


def limits(ax):
    return np.array([ax.get_xlim(), ax.get_ylim()])


@pytest.mark.parametrize("far", [1e3, 9e11])
@pytest.mark.parametrize("name", ["density", "assignment", "uncertainty", "anomalies"])
def test_one_far_row_does_not_decide_the_axes(name, far):
    """Nor does its component, or one that takes up all."""
    around = jaxgmm.from_parameters(
        [*WEIGHTS[:3], 0.01, 0.01],
        [*CENTERS[:3], [far, -far], [far / 2, -far / 2]],
        [*SHAPES[:3], (1 + 1e-3 * far) ** 2 * np.eye(2), far**2 * np.eye(2)],
    )
    ax = getattr(plot, name)(around, spoilt((far, -far)))
    plot.ellipses(around, ax)
    plot.assignment(around, spoilt((far, -far)), ax)
    ax.figure.canvas.draw()
    assert np.all(np.abs(limits(ax)) < 8)
    assert np.all(np.abs(np.diff(limits(ax))) > 6)
    assert notes(ax) == [r"1 row $\searrow$"]


def test_far_rows_are_counted_once_where_they_are():
    sides = [(across, up) for across in (-1e3, 0, 1e3) for up in (-1e3, 0, 1e3) if across or up]
    ax = plot.assignment(mixture(), spoilt(*sides, (0, 1e3)))
    assert len(notes(ax)) == 8
    assert r"2 rows $\uparrow$" in notes(ax)
    assert notes(ax).count(r"1 row $\searrow$") == 1
    own = canvas()
    own.set(xlim=(-2e3, 2e3), ylim=(2e3, -2e3))
    plot.assignment(mixture(), spoilt(*sides), own)
    assert notes(own) == []
    assert limits(own).tolist() == [[-2e3, 2e3], [2e3, -2e3]]
    own.set(ylim=(500, -500))
    plot.assignment(mixture(), spoilt((0, 1e3)), own)
    assert notes(own) == [r"1 row $\downarrow$"]


@pytest.mark.parametrize("far", [1e3, 9e11])
def test_far_rows_of_one_column(far):
    ax = plot.histogram(mixture().marginal([0]), spoilt((-far, 0), (-far, 0))[:, :1])
    assert notes(ax) == [r"$\leftarrow$ 2 rows"]
    assert np.all(np.abs(ax.get_xlim()) < 8)
    area = sum(patch.get_height() * patch.get_width() for patch in ax.patches)
    assert_close(area, 1 - 2 / (4 * N), "close")
    grid = plot.pairs(mixture(), spoilt((-far, 0), (-far, 0)))
    assert [notes(one) for one in grid.ravel()] == [[r"$\leftarrow$ 2 rows"], [], [], []]
    assert np.all(np.abs(grid[1, 0].get_xlim()) < 8)


def test_no_row_is_far_that_is_only_in_the_tail():
    rng = np.random.default_rng(0)
    mostly_zeros = np.where(np.arange(400) % 50, 0.0, 1 + rng.exponential(size=400))
    small_cluster = np.where(np.arange(400) % 50, 0.0, 1e4) + rng.normal(size=400)
    for column in (mostly_zeros, small_cluster, rng.lognormal(size=400), rng.exponential(size=400)):
        x = np.stack([column, rng.normal(size=400)], axis=1)
        ax = plot.assignment(mixture(), x)
        assert notes(ax) == []
        low, high = ax.get_xlim()
        assert low <= column.min() < column.max() <= high
    # Of a few rows, none is far from most.
    assert notes(plot.assignment(mixture(), [[0.0, 0.0], [0.1, 0.1], [9.0, 9.0]])) == []


def test_ellipses_much_larger_than_the_rows_are_cut():
    for scale, cut in ((2.0, False), (1e10, True)):
        wide = jaxgmm.from_parameters([0.5, 0.5], [[0.0, 0.0], [0.0, 0.0]], [1.0, scale**2], "spherical")
        ax = plot.assignment(wide, rows())
        before = limits(ax)
        plot.ellipses(wide, ax)
        assert np.allclose(before, limits(ax)) == cut
        assert len(ax.patches) == 4
        axes = plot.pairs(wide, rows())
        assert np.all(np.abs(axes[1, 0].get_xlim()) < 8)


def test_bars_can_be_told_apart():
    rng = np.random.default_rng(0)
    x = np.where(np.arange(500) % 5, 1e-9, 1.0) * rng.normal(size=500)
    for bins in ("auto", "fd"):
        assert len(plot.histogram(mixture().marginal([0]), x[:, None], bins=bins).patches) <= 200


@pytest.mark.parametrize("variance", [1e-12, 1e-34])
def test_a_constant_column(variance):
    shapes = np.tile(np.diag([1.0, variance]), (2, 1, 1))
    flat = jaxgmm.from_parameters([0.5, 0.5], [[0.0, 5.0], [8.0, 5.0]], shapes)
    x = np.stack([rows()[:, 0], np.full(N, 5.0)], axis=1)
    plot.pairs(flat, x)[0, 0].figure.canvas.draw()
    plot.anomalies(flat, x).figure.canvas.draw()


def test_the_picture_of_the_command_line_says_which_columns(table, tmp_path):
    names = [f"column{place}" for place in range(8)]
    x = np.random.default_rng(0).normal(size=(50, 8))
    x[0, 0] = 9e11
    for d in (2, 8):
        wide = jaxgmm.from_parameters([0.5, 0.5], np.zeros((2, d)), np.ones((2, d)), "diag")
        result = dataclasses.replace(table.best, mixture=wide)
        drawn = dataclasses.replace(
            table, candidates=(dataclasses.replace(table.winner, result=result), *table.candidates)
        )
        path = str(tmp_path / f"{d}.svg")
        with matplotlib.rc_context({"svg.fonttype": "none"}):
            note = figure.draw(path, drawn, drawn.best.mixture, jaxgmm.rows(x[:, :d]), names[:d])
        text = (tmp_path / f"{d}.svg").read_text()
        assert ("6 of 8 columns" in text) == (d == 8)
        assert note is None if d < 8 else f"{path} shows 6 of 8 columns, without column6, column7: " in note


@pytest.fixture(scope="module")
def panel():
    """Data sets of one to three groups along a diagonal, the last ones with a row far out, a gap, and none."""
    rng = np.random.default_rng(0)
    xs = {
        f"set {place}": rng.normal(size=(64, 2)) + 9 * rng.integers(0, 1 + place % 3, 64)[:, None] for place in range(9)
    }
    xs["far"] = np.concatenate([rng.normal(size=(63, 2)), [[90.0, -90.0]]])
    xs["gap"] = np.where(np.arange(128).reshape(64, 2) == 7, np.nan, rng.normal(size=(64, 2)))
    xs["none"] = np.zeros((0, 2))
    return jaxgmm.select_many(jax.random.key(0), xs, range(1, 4), "spherical", n_restarts=4), xs


def bars(ax):
    """Heights by label."""
    labels = dict(zip(ax.get_xticks().tolist(), (text.get_text() for text in ax.get_xticklabels()), strict=True))
    heights = dict.fromkeys(labels.values(), 0)
    for bar in ax.patches:
        heights[labels[bar.get_x() + bar.get_width() / 2]] += int(bar.get_height())
    return heights


def test_every_data_set_is_in_one_bar(panel):
    found, _ = panel
    ax = plot.selections(found)
    assert bars(ax) == {"1": 4, "2": 3, "3": 3, "ERROR": 2}
    assert notes(ax) == ["2", "3", "3", "4"]
    assert ax.get_legend() is None


def test_twenty_thousand_data_sets(panel):
    found, _ = panel
    b = 20_000
    many = dataclasses.replace(
        found,
        names=tuple(range(b)),
        forms=("full", "diag"),
        tried=tuple(range(1, 11)),
        n_components=np.where(np.arange(b) < 5, 0, 1 + np.arange(b) % 10),
        regular=np.arange(b) % 100 > 0,
        errors=dict.fromkeys(range(5), "has no rows"),
        _codes=np.where(np.arange(b) % 1000 == 1, jaxgmm.Status.MAX_ITER, jaxgmm.Status.CONVERGED),
        _forms=np.where(np.arange(b) < 5, -1, np.arange(b) // 10 % 2),
    )
    ax = plot.selections(many)
    expected = {str(k): 2000 for k in range(1, 11)} | {"1": 1800, "2": 1980}
    assert bars(ax) == expected | {"3": 1999, "4": 1999, "5": 1999, "MAX_ITER": 19, "not regular": 199, "ERROR": 5}
    assert {"2,000", "199", "5"} < set(notes(ax))
    assert _key(ax) == ["full", "diag"]
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert not any(one.overlaps(other) for place, one in enumerate(boxes) for other in boxes[:place])
    assert max(box.y1 for box in boxes) < ax.get_window_extent().y1


def shown(axes):
    """Name and number of components above each of the axes."""
    return [(ax.get_title("left"), ax.get_title("right")) for ax in axes]


def test_data_sets_side_by_side(panel):
    found, xs = panel
    axes = plot.multiples(found, xs, n=6)
    assert sorted(k for _, k in shown(axes)) == ["k = 1", "k = 1", "k = 2", "k = 2", "k = 3", "k = 3"]
    for ax, (name, k) in zip(axes, shown(axes), strict=True):
        assert k == f"k = {found.mixture(name).n_components}"
        assert len(ax.patches) == 2 * found.mixture(name).n_components
        labels = np.asarray(found.mixture(name).predict(np.delete(xs[name], found.outliers.get(name, ()), axis=0)))
        points = {to_hex(c.get_facecolor()[0]): len(c.get_offsets()) for c in ax.collections if len(c.get_offsets())}
        counts = np.bincount(labels, minlength=found.mixture(name).n_components)
        assert points == {style.COLORS[place].lower(): count for place, count in enumerate(counts)}
    unsure = [name for name, _ in shown(plot.multiples(found, xs, choose="unsure", n=4))]
    assert unsure == [found.names[place] for place in np.argsort(found.behind)[:4]]
    every = plot.multiples(found, xs, n=100)
    assert len(every) == 10


def test_data_sets_with_troubles_side_by_side(panel):
    found, xs = panel
    own = np.array([canvas() for _ in range(4)])
    far, gap, none = plot.multiples(found, xs, ["far", "gap", "none"], axes=own)
    assert shown([far, gap, none]) == [("far", "k = 1"), ("gap", "no fit"), ("none", "no fit")]
    assert notes(far) == [r"1 row $\searrow$"]
    assert np.all(np.abs(limits(far)) < 8)
    assert gap.get_xlabel() == "is NaN or infinite in 1 of 64 rows"
    assert sum(len(c.get_offsets()) for c in gap.collections) == 63
    assert none.get_xlabel() == "has no rows"
    assert not own[3].axison


def test_rows_set_aside_are_crosses(panel):
    found, xs = panel
    near = dataclasses.replace(found, outliers={"set 0": (3,)})
    (ax,) = plot.multiples(near, xs, ["set 0"])
    assert ax.collections[-1].get_offsets().tolist() == [xs["set 0"][3].astype(np.float32).tolist()]
    assert sum(len(c.get_offsets()) for c in ax.collections) == 64
    assert [text.get_text() for legend in ax.figure.legends for text in legend.get_texts()] == ["set aside"]


def test_one_column_of_many_data_sets(panel):
    found, xs = panel
    axes = plot.multiples(found, xs, ["set 2", "set 0"], columns=[1])
    assert [len(ax.lines) for ax in axes] == [4, 1]
    assert [ax.get_xlabel() for ax in axes] == ["column 1", "column 1"]
    expected = np.exp(found.mixture("set 0").marginal([1]).log_prob(axes[1].lines[0].get_xdata()[:, None]))
    assert_close(axes[1].lines[0].get_ydata(), expected, "close")


def test_data_sets_of_other_lengths_share_programs(panel):
    """And of other numbers of components."""
    found, xs = panel
    ragged = {name: xs[name][: 30 + 3 * place] for place, name in enumerate(found.names[:9])}
    assert {1, 2, 3} == {found.mixture(name).n_components for name in ragged}
    with counted() as seen:
        plot.multiples(found, ragged, list(ragged))
    assert 1 <= len(seen) <= 6, len(seen)


def test_many_data_sets_that_cannot_be_drawn(panel):
    found, xs = panel
    frame = pd.DataFrame({"b": [1.0, 2.0, 3.0], "a": [1.0, 2.0, 4.0], "name": "x"})
    named = dataclasses.replace(found, schema=jaxgmm.Schema(["a", "b"]))
    for wrong, message in (
        (lambda: plot.multiples(found, xs, choose="best"), "choose is 'best'; expected one of 'even', 'unsure'"),
        (lambda: plot.multiples(found, xs, ["set 77"]), "selections has no data set 'set 77'"),
        (lambda: plot.multiples(found, {"set 1": xs["set 1"]}, ["set 0"]), "xs has no data set 'set 0'"),
        (lambda: plot.multiples(found, xs, columns=[0, 1, 2]), r"columns is \[0, 1, 2\]; expected one or two"),
        (lambda: plot.multiples(named, xs, columns=["c"]), r"expected one or two, by their places or names: 'a', 'b'"),
        (lambda: plot.multiples(found, xs, ["set 0"], columns=[2]), "data set 'set 0' has no column 2 that was fitted"),
        (lambda: plot.multiples(found, xs, columns=[2]), "no mixture of these columns"),
        (lambda: plot.multiples(found, xs, ["set 0", "set 1"], axes=[canvas()]), "axes holds 1 axes; expected 2"),
        (lambda: plot.multiples(named, frame, by="name"), r"xs has the columns \['b', 'a'\]; expected .* \['a', 'b'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()


def _key(ax):
    """What the legend says."""
    return [text.get_text() for text in ax.get_legend().get_texts()]


def _filled(ax):
    """Outlines of the steps of a map, from the lowest."""
    return ax.collections[0].get_paths()


def _lowest(values, n):
    return np.isin(np.arange(values.size), np.argsort(values)[:n])


def test_rows_of_noise_are_grey_and_have_no_ellipse():
    clusters = jaxgmm.from_parameters([0.5, 0.5], [[0.0, 0.0], [6.0, 6.0]], [1.0, 1.0], "spherical")
    noisy = jaxgmm.with_noise(clusters, 900.0)
    x = np.array([[0.0, 0.0], [6.0, 6.0], [-8.0, 9.0]])
    ax = plot.assignment(noisy, x, canvas(), soft=False)
    plot.ellipses(noisy, ax=ax)
    colors = {to_hex(color) for scatter in ax.collections for color in scatter.get_facecolors()}
    assert colors == {style.COLORS[0].lower(), style.COLORS[1].lower(), style.NOISE}
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["0", "1", "-1, noise"]
    # Two levels of each cluster.
    assert len([patch for patch in ax.patches if isinstance(patch, matplotlib.patches.Ellipse)]) == 4
    curve = plot.histogram(noisy.marginal([0]), x[:, :1], ax=canvas())
    assert [line.get_label() for line in curve.lines] == ["mixture", "component 0", "component 1"]
    assert plot.pairs(noisy, x).shape == (2, 2)
    plt.close("all")
