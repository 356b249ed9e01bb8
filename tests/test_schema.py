"""Names of columns: made where frames enter, and asked for where a mixture meets another frame."""

import jax
import numpy as np
import pandas
import polars
import pyarrow
import pytest

import jaxgmm
from jaxgmm import Schema
from jaxgmm.sklearn import GaussianMixture

from tolerance import once

pytestmark = once
X = np.random.default_rng(0).normal(size=(60, 2)) * [1.0, 5.0] + [0.0, 20.0]
KEY = jax.random.key(0)
MIXTURE = jaxgmm.init(KEY, X, 2, "diag")
FRAME = pandas.DataFrame(X, columns=["a", "b"])
SCHEMA = Schema(["a", "b"])


def structured(columns):
    array = np.empty(len(X), [(name, float) for name in columns])
    for name in columns:
        array[name] = FRAME[name]
    return array


FRAMES = {
    "pandas": lambda columns: FRAME[columns],
    "polars": lambda columns: polars.DataFrame(FRAME.to_dict("list"))[columns],
    "pyarrow": lambda columns: pyarrow.table(FRAME).select(columns),
    "structured": structured,
}
VERBS = {
    "log_prob": lambda mixture, x: mixture.log_prob(x),
    "responsibilities": lambda mixture, x: mixture.responsibilities(x),
    "predict": lambda mixture, x: mixture.predict(x),
    "entropy": lambda mixture, x: mixture.entropy(x),
    "e_step": jaxgmm.e_step,
    "log_likelihood": jaxgmm.log_likelihood,
    "fit": jaxgmm.fit,
    "fit_gradient": lambda mixture, x: jaxgmm.fit_gradient(mixture, x, None, n_steps=1),
    "bic": jaxgmm.bic,
    "icl": jaxgmm.icl,
}


@pytest.mark.parametrize("kind", FRAMES)
def test_a_schema_finds_columns_by_name(kind):
    frame = FRAMES[kind]
    assert Schema.of(frame(["b", "a"])).names == ("b", "a")
    for columns in (["a", "b"], ["b", "a"]):
        np.testing.assert_array_equal(SCHEMA.rows(frame(columns)), X)
    np.testing.assert_array_equal(Schema(["b"]).rows(frame(["a", "b"])), X[:, 1:])
    with pytest.raises(ValueError, match="lacks the column 'a'; it has 'b', and expected are 'a', 'b'"):
        SCHEMA.rows(frame(["b"]))


@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.parametrize("verb", VERBS)
def test_verbs_of_a_mixture_refuse_names_and_say_what_to_write(kind, verb):
    with pytest.raises(TypeError, match=r"names, 'b', 'a', .* schema\.rows\(x\) .* schema = jaxgmm\.Schema\.of\(frame"):
        VERBS[verb](MIXTURE, FRAMES[kind](["b", "a"]))


def test_the_line_it_names_is_right_in_any_order():
    schema = Schema.of(FRAME)
    expected = MIXTURE.log_prob(X)
    for columns in (["a", "b"], ["b", "a"]):
        np.testing.assert_array_equal(MIXTURE.log_prob(schema.rows(FRAME[columns])), expected)


def test_what_makes_a_mixture_takes_the_order_of_the_frame():
    for kind, frame in FRAMES.items():
        found = jaxgmm.init(KEY, frame(["a", "b"]), 2, "diag")
        np.testing.assert_array_equal(found.means, MIXTURE.means, err_msg=kind)
    table = jaxgmm.select(KEY, FRAME[["b", "a"]], [1], ["diag"], n_restarts=1)
    assert table.schema == Schema(["b", "a"])
    rows = table.schema.rows(FRAME)
    np.testing.assert_allclose(table.best.log_likelihood, jaxgmm.log_likelihood(table.best.mixture, rows), rtol=1e-5)
    assert jaxgmm.select(KEY, X, [1], ["diag"], n_restarts=1).schema is None


def test_many_frames_must_agree():
    jaxgmm.fit_many(KEY, [FRAME, FRAME], 1, "diag")
    with pytest.raises(ValueError, match=r"data set 1 has the columns \['b', 'a'\].*\[schema\.rows\(x\) for x in xs\]"):
        jaxgmm.fit_many(KEY, [FRAME, FRAME[["b", "a"]]], 1, "diag")
    schema, xs = Schema.of(FRAME), [FRAME, FRAME[["b", "a"]]]
    found = jaxgmm.fit_many(KEY, [schema.rows(x) for x in xs], 1, "diag").best.mixture
    np.testing.assert_array_equal(found.means[0], found.means[1])


def test_frames_that_name_nothing_more_are_arrays():
    """One column, and columns that are numbered in order."""
    one = jaxgmm.init(KEY, X[:, :1], 1)
    for column in (FRAME[["a"]], FRAME["a"], polars.DataFrame(FRAME.to_dict("list"))["a"]):
        np.testing.assert_array_equal(one.log_prob(column), one.log_prob(X[:, :1]))
    numbered = pandas.DataFrame(X)
    np.testing.assert_array_equal(MIXTURE.log_prob(numbered), MIXTURE.log_prob(X))
    with pytest.raises(TypeError, match="names, 1, 0"):
        MIXTURE.log_prob(numbered[[1, 0]])


class Labelled(np.lib.mixins.NDArrayOperatorsMixin):
    """What an array of xarray shows of itself."""

    def __init__(self, values, names=None):
        self.values, self.dims, self.shape, self.ndim = values, ("row", "column"), values.shape, values.ndim
        self.coords = {} if names is None else {"column": np.array(names)}

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype)


def test_coordinates_of_an_axis_are_names():
    x = np.random.default_rng(1).normal(size=(30, 2)) + np.array([0.0, 9.0])
    named, turned = Labelled(x, ["a", "b"]), Labelled(x[:, ::-1], ["b", "a"])
    schema, mixture = jaxgmm.Schema.of(named), jaxgmm.init(jax.random.key(0), named, 1)
    np.testing.assert_array_equal(schema.rows(turned), x)
    for given in (named, turned):
        with pytest.raises(TypeError, match=r"names, .* Write schema\.rows\(x\)"):
            mixture.log_prob(given)
    assert mixture.log_prob(Labelled(x)).shape == (30,)
    assert mixture.log_prob(Labelled(x, [0, 1])).shape == (30,)
    with pytest.raises(TypeError, match=r"names holds 400 of type int.*x\.assign_coords"):
        jaxgmm.Schema.of(Labelled(x, [400, 410]))


def test_the_estimator_has_a_schema():
    fitted = GaussianMixture(2, random_state=0).fit(FRAME)
    assert fitted.schema_ == SCHEMA
    with pytest.raises(ValueError, match="same order"):  # scikit-learn's own check
        fitted.score_samples(FRAME[["b", "a"]])
    assert GaussianMixture(2, random_state=0).fit(X).schema_ is None
    assert not hasattr(GaussianMixture(), "schema_")


def test_a_schema_is_a_value():
    assert Schema(("a", "b")) == SCHEMA
    assert len({SCHEMA, Schema(["a", "b"]), Schema(["b", "a"])}) == 2


@pytest.mark.parametrize(
    ("make", "exception", "message"),
    [
        (lambda: Schema("ab"), TypeError, "names is 'ab'; expected texts in a sequence"),
        (lambda: Schema([]), ValueError, "names is empty"),
        (lambda: Schema(["a", "a"]), ValueError, "names holds 'a' more than once"),
        (lambda: Schema.of(X), TypeError, r"has no names of columns.*Schema\(\['width', 'height'\]\)"),
        (lambda: Schema.of(pandas.DataFrame(X)), TypeError, "has no names of columns"),
        (lambda: Schema.of(FRAME.set_axis([3, 7], axis=1)), TypeError, r"holds 3 of type int.*set_axis\(\[str\(name\)"),
        (lambda: SCHEMA.rows(X), TypeError, "is of type ndarray, whose columns have no names"),
        (lambda: SCHEMA.rows(FRAME[["a", "a", "b"]]), ValueError, "several columns 'a'; expected one"),
        (lambda: SCHEMA.rows(FRAME.assign(b="text")), TypeError, "column 'b' of frame has dtype"),
    ],
)
def test_names_that_cannot_be(make, exception, message):
    with pytest.raises(exception, match=message):
        make()


GAPS = np.zeros(X.shape, bool)
GAPS[[3, 7], 0], GAPS[[3, 9], 1] = True, True
NOISE = np.abs(X) / 10
NOISE[11, 1] = np.inf


def holed(values, kind):
    """The values with what each library has for what is missing, and its columns the other way round."""
    lists = {"b": 1, "a": 0}
    lists = {name: [None if gap else value for value, gap in zip(values[:, at], GAPS[:, at], strict=True)]
             for name, at in lists.items()}  # fmt: skip
    return {
        "Float64": lambda: pandas.DataFrame(lists).astype("Float64"),
        "float[pyarrow]": lambda: pandas.DataFrame(lists).astype("double[pyarrow]"),
        "NaN": lambda: pandas.DataFrame(lists, dtype=float),
        "polars": lambda: polars.DataFrame(lists),
        "pyarrow": lambda: pyarrow.table(lists),
    }[kind]()


@pytest.mark.parametrize("kind", ["Float64", "float[pyarrow]", "NaN", "polars", "pyarrow"])
def test_what_a_frame_lacks_is_a_gap_and_noise_is_found_by_name(kind):
    labels = np.where(np.arange(60) % 3 == 0, 1, -1)
    frame, noise = holed(X, kind), holed(NOISE, kind)
    found = SCHEMA.rows(frame, missing="nan", noise=noise, labels=labels)
    expected = jaxgmm.rows(X, missing=GAPS, noise=NOISE, labels=labels)
    assert isinstance(found, jaxgmm.Evidence)
    np.testing.assert_array_equal(found.seen, ~GAPS & np.isfinite(NOISE))
    for name in ("seen", "noise", "labels", "weights"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    np.testing.assert_array_equal(MIXTURE.log_prob(found), MIXTURE.log_prob(expected))
    assert "missing='nan'" in _refusal(lambda: SCHEMA.rows(frame, labels=labels))
    # As an array it is what it was, and the record may be made of that as well.
    np.testing.assert_array_equal(SCHEMA.rows(frame), np.where(GAPS, np.nan, X))
    again = jaxgmm.rows(SCHEMA.rows(frame), missing="nan")
    np.testing.assert_array_equal(SCHEMA.rows(frame, missing="nan").x, again.x)


def test_other_things_known_beside_a_frame():
    mask = pandas.DataFrame(GAPS[:, ::-1], columns=["b", "a"])
    known = {"weights": np.arange(60.0), "log_evidence": np.zeros((60, 2))}
    found = SCHEMA.rows(FRAME[["b", "a"]], missing=mask, **known)
    np.testing.assert_array_equal(found.seen, ~GAPS)
    np.testing.assert_array_equal(found.weights, known["weights"])
    assert found.log_evidence.shape == (60, 2)
    with pytest.raises(ValueError, match="noise lacks the column 'a'"):
        SCHEMA.rows(FRAME, noise=FRAME[["b"]] ** 2)


def _refusal(call):
    with pytest.raises(ValueError, match="NaN") as refused:
        call()
    return str(refused.value)
