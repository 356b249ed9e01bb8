"""Many data sets read at once: the numbers, what is wrong with some of them, and groups of a frame."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas
import pytest

import jaxgmm
from jaxgmm.ground.sets import read
from jaxgmm.selection.rooms import Layout, _rooms_of

from compilations import counted
from tolerance import dtype, once


def test_what_is_wrong_with_a_set_leaves_the_others_alone_and_compiles_nothing():
    rng = np.random.default_rng(0)
    xs = [rng.normal(size=(n, 2)) for n in (5, 7, 3, 0, 4)]
    xs[1][2, 0] = np.nan
    xs[2][1] = np.inf
    weights = [np.ones(len(x)) for x in xs]
    weights[2][1] = 0
    weights[4][:] = 0
    with counted() as compiled:
        given = read(xs, weights)
    assert compiled == []
    assert given.faults == {
        1: "is NaN or infinite in 1 of 7 rows",
        3: "has no rows",
        4: "has no row of positive weight",
    }
    (sets,) = given.sets
    assert sets.lengths.tolist() == [5, 7, 3, 0, 4]
    assert sets.x.dtype == dtype()
    np.testing.assert_array_equal(sets.weights > 0, np.isin(sets.owner, [0, 2]) & np.isfinite(sets.x).all(axis=1))


def test_rows_come_back_from_rooms_as_they_went_in():
    xs = [np.arange(2 * n).reshape(n, 2) + 100 * n for n in (4, 0, 2, 6)]
    (sets,) = read(xs).sets
    places = np.array([3, 1, 0, 0])
    padded = sets.in_room(sets.x, places, 8)
    assert padded.shape == (4, 8, 2)
    np.testing.assert_array_equal(sets.from_room(padded, places), np.concatenate([xs[p] for p in places]))
    assert not padded[1].any()
    some = sets.of(np.array([3, 0]), np.array([[1], [0]]))
    np.testing.assert_array_equal(some.x[:, 0], np.concatenate([xs[3][:, 1], xs[0][:, 0]]))
    least, most = sets.extremes(np.array([0, 3]))
    np.testing.assert_array_equal(most - least, [[6, 6], [10, 10]])


def test_sets_of_other_columns_are_apart():
    given = read([np.ones((2, 1)), np.ones((3, 2)), np.ones((4, 1))])
    assert [part.numbers.tolist() for part in given.sets] == [[0, 2], [1]]


def test_groups_of_a_frame_keep_their_order_and_leave_out_what_has_no_group():
    frame = pandas.DataFrame(
        {"gene": ["b", "a", None, "b", "a"], "day": [1, 1, 1, 2, 1], "u": [0.0, 1, 2, 3, 4], "w": [1.0, 2, 1, 1, 3]}
    )
    given = read(frame, "w", "gene")
    assert given.names == ("b", "a")
    assert given.schema == jaxgmm.Schema(["day", "u"])
    assert given.order.tolist() == [0, 3, 1, 4]
    np.testing.assert_array_equal(given.sets[0].x[:, 1], [0, 3, 1, 4])
    np.testing.assert_array_equal(given.sets[0].weights, [1, 1, 2, 3])
    assert read(frame, None, ["gene", "day"]).names == (("b", 1), ("a", 1), ("b", 2))
    assert read({"one": frame[["u"]], "two": frame[["u"]]}).names == ("one", "two")


@pytest.mark.parametrize(
    ("xs", "options", "error", "message"),
    [
        ([], {}, ValueError, "xs holds no data sets"),
        (pandas.DataFrame({"u": [1.0]}), {}, ValueError, "by='gene'"),
        (np.ones((2, 3)), {}, ValueError, r"xs has shape \(2, 3\)"),
        ([np.ones(3)], {}, ValueError, r"data set 0: x has shape \(3,\)"),
        ([np.ones((2, 1)), [["a"]]], {}, TypeError, r"xs\[1\] has dtype"),
        ([np.ones((2, 1))], {"weights": [np.array([1, -1])]}, ValueError, "data set 0: weights holds -1"),
        ([np.ones((2, 1))], {"weights": [np.ones(3)]}, ValueError, "data set 0: weights has shape"),
        ([np.ones((2, 1))], {"weights": []}, ValueError, "weights has 0 entries for 1"),
        (pandas.DataFrame({"u": [1.0]}), {"by": "v"}, ValueError, "no column 'v'"),
        ([np.ones((2, 1))], {"by": "v"}, TypeError, "by is given"),
        (pandas.DataFrame({"v": [1.0]}), {"by": "v"}, ValueError, "no column beside 'v'"),
        (pandas.DataFrame([[1.0, 2, 3]], columns=["v", "u", "u"]), {"by": "v"}, ValueError, "several columns 'u'"),
    ],
)
def test_what_is_no_data_set_is_refused(xs, options, error, message):
    with pytest.raises(error, match=message):
        read(xs, **options)


def test_records_say_of_all_rows_what_is_known_of_some():
    x = np.ones((2, 1), np.float32)
    some = jaxgmm.rows(x, labels=[0, -1]), jaxgmm.rows(x, noise=np.ones((2, 1, 1))), x
    (sets,) = read(list(some)).sets
    assert sets.beside.keys() == {"labels", "seen", "noise"}
    assert sets.beside["labels"].tolist() == [0, -1, -1, -1, -1, -1]
    assert sets.beside["noise"].ravel().tolist() == [0, 0, 1, 1, 0, 0]
    assert sets.beside["seen"].all()
    with pytest.raises(ValueError, match=r"made of rows of shape \(2, 1\); expected a sequence of such"):
        read(some[0])


def test_traced_sets_are_refused():
    with pytest.raises(TypeError, match=r"Use jax\.vmap of jaxgmm\.fit_restarts"):
        jax.jit(read)(jnp.ones((2, 3, 1)))


@once
def test_digits_are_looked_at_in_each_set():
    x = np.arange(5.0)[:, None]
    with jax.enable_x64(False), pytest.raises(ValueError, match="data set 1: x holds numbers of type float64"):
        read([x, x + 1e9])


def test_few_rooms_for_few_sets_and_more_for_many():
    rng = np.random.default_rng(0)
    few, many = rng.integers(3, 400, 12), rng.integers(3, 400, 20_000)
    assert _rooms_of(few, 6, 2**23) == [512]
    assert _rooms_of(many, 64, 2**33) == [512]  # where compiling takes longer
    rooms = _rooms_of(many, 64, 2**23)
    assert rooms[0] == 64
    assert len(rooms) > 2
    jobs = Layout.of(many, 64).jobs(many)
    assert np.array_equal(np.sort(np.concatenate([job.places for job in jobs])), np.arange(20_000))
    assert all(many[job.places].max() <= job.room for job in jobs)
    assert list(Layout.of(np.full(5, 77), 64).sizes) == [77]


def test_a_chunk_has_the_size_that_was_asked_for_whatever_the_number_of_sets():
    for n in (1, 5, 100):
        assert list(Layout.of(np.full(n, 50), 6, chunk_size=16).sizes.values()) == [16]
