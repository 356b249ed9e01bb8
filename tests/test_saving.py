"""Saved mixtures: back to the bit, whole or not at all, and one clear error for a file that holds none."""

import dataclasses
import json
import os
import random
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from arrivals import Arrivals

import jaxgmm
from jaxgmm.ground.pytree import record

import cases
from cases import CASES
from tolerance import dtype

VERSION_1 = Path(__file__).parent / "data" / "version1.npz"
MIXTURE = CASES[0].mixture()
METADATA = {"columns": ["width", "höhe"], "n": 3, "scale": 0.1, "unit": None}


def same(a, b):
    """To the bit, in types, dtypes and shapes too."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mixture.npz"


@pytest.fixture
def unchecked(monkeypatch):
    """The library's own words, not the type checker's."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The bytes of a saved mixture."""
    path = tmp_path_factory.mktemp("saved") / "mixture.npz"
    jaxgmm.save(path, MIXTURE, METADATA)
    return path.read_bytes()


def test_a_mixture_comes_back_to_the_bit(case, path):
    mixture = case.mixture()
    jaxgmm.save(str(path), mixture)
    same(jaxgmm.load(str(path), types=(Arrivals,)), mixture)
    assert jaxgmm.load_metadata(path) == {}


def test_float32_stays_float32(path):
    mixture = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), MIXTURE)
    jaxgmm.save(path, mixture)
    same(jaxgmm.load(path), mixture)
    with jax.enable_x64(True):
        assert jaxgmm.load(path, dtype="float64").means.dtype == np.float64


def test_float64_is_rounded_where_it_does_no_harm(path):
    with jax.enable_x64(True):
        double = jaxgmm.from_parameters([1 / 3, 2 / 3], [[0.1], [0.2]], [0.3, 0.7], "spherical")
        jaxgmm.save(path, double)
        same(jaxgmm.load(path), double)
    with jax.enable_x64(False):
        rounded = jaxgmm.load(path)
        same(jaxgmm.load(path, dtype="float32"), rounded)
        with pytest.raises(jaxgmm.LoadError, match=r"64-bit mode is off: turn it on by .* pass dtype='float32'"):
            jaxgmm.load(path, dtype="float64")
    np.testing.assert_array_equal(rounded.means, np.asarray(double.means, np.float32))


@pytest.mark.parametrize(("mean", "fine"), [(8e3, True), (9e3, False), (-9e3, False), (1.7e9, False)])
def test_float64_is_never_rounded_where_it_matters(path, mean, fine):
    """Where the mean's rounding is a thousandth of the standard deviation, in any component that is present."""
    with jax.enable_x64(True):
        narrow = jaxgmm.from_parameters([0.5, 0.5, 0.0], [[1.0], [mean], [1e12]], [4.0, 1.0, 1.0], "spherical")
        jaxgmm.save(path, jax.tree.map(lambda leaf: leaf[None], narrow))
    with jax.enable_x64(False):
        if fine:
            assert jaxgmm.load(path).means.dtype == np.float32
            return
        with pytest.raises(jaxgmm.LoadError, match=r"narrow and far from 0.*64-bit mode is off.*dtype='float32'"):
            jaxgmm.load(path)
        assert jaxgmm.load(path, dtype="float32").means[0, 1, 0] == np.float32(mean)


def test_the_line_that_an_error_says_to_write_reads_all_digits(path):
    with jax.enable_x64(True):
        jaxgmm.save(path, jaxgmm.from_parameters([1.0], [[1.7e9 + 0.1]], [1.0], "spherical"))
    code = """
import re, sys, jax, jaxgmm
try:
    jaxgmm.load(sys.argv[1])
except jaxgmm.LoadError as error:
    exec(re.search(r"jax[.]config[.]update[(].*?[)]", str(error))[0])
print(jaxgmm.load(sys.argv[1]).means[0, 0])
"""
    plain = os.environ | {"JAX_ENABLE_X64": "0"}
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True, env=plain)
    assert float(done.stdout) == 1.7e9 + 0.1


def test_a_schema_comes_back(path):
    schema = jaxgmm.Schema(["width", "höhe"])
    jaxgmm.save(path, MIXTURE, {"unit": "cm"}, schema)
    assert jaxgmm.load_schema(path) == schema
    assert jaxgmm.load_metadata(path) == {"unit": "cm"}
    same(jaxgmm.load(path), MIXTURE)
    jaxgmm.save(path, MIXTURE)
    assert jaxgmm.load_schema(path) is None
    assert jaxgmm.load_schema(VERSION_1) == jaxgmm.Schema(["width", "height"])


def test_absent_components_and_stacks_come_back(path):
    one = jaxgmm.from_parameters([1.0, 0.0, 0.0], *(CASES[0].mixture().means, np.eye(2)[None].repeat(3, axis=0)))
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves)[None], MIXTURE, one)
    jaxgmm.save(path, stack)
    found = jaxgmm.load(path)
    same(found, stack)
    assert found.log_weights.shape == (1, 2, 3)
    assert np.isneginf(found.log_weights[0, 1, 1])


@record
class Counted(Arrivals):
    """A family with fields that are not arrays, beside a record of its own."""

    unit: str = dataclasses.field(default="rows", metadata={"static": True})
    trials: int = dataclasses.field(default=1, metadata={"static": True})


def test_static_fields_come_back(path):
    counted = jaxgmm.Mixture(jnp.zeros(1), Counted(jnp.ones((1, 2)), unit="pages", trials=7))
    jaxgmm.save(path, counted)
    same(jaxgmm.load(path, types=[Counted]), counted)


def test_a_type_of_the_user_is_asked_for(path, unchecked):
    jaxgmm.save(path, arrivals_of(jnp.ones((2, 1))))
    with pytest.raises(jaxgmm.LoadError, match=r"'Arrivals' that is none of 'Gaussian', .*types=\(Arrivals,\)"):
        jaxgmm.load(path)

    class Gaussian(Arrivals):
        pass

    for wrong, exception, message in [
        ("Arrivals", TypeError, "types holds 'A'; expected"),
        ([Gaussian], TypeError, "has the name of a type of jaxgmm"),
        ([Arrivals, dataclasses.make_dataclass("Arrivals", [])], ValueError, "two classes called 'Arrivals'"),
    ]:
        with pytest.raises(exception, match=message):
            jaxgmm.load(path, types=wrong)
    with pytest.raises(ValueError, match="dtype is 'int32'; expected"):
        jaxgmm.load(path, dtype=np.int32)


def test_metadata_comes_back_as_it_was(path):
    jaxgmm.save(path, MIXTURE, METADATA)
    assert jaxgmm.load_metadata(path) == METADATA


def arrivals_of(leaf):
    return jaxgmm.Mixture(jnp.log(jnp.array([0.5, 0.5])), Arrivals(leaf))


LANES = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf * jnp.nan]), MIXTURE)
NOT_SAVED = {
    "result": (lambda: (MIXTURE.components,), TypeError, "is of type Gaussian; expected a jaxgmm.Mixture"),
    "NaN": (lambda: (arrivals_of(jnp.array([[1.0], [jnp.nan]])),), ValueError, "cannot have: NaN, infinite, or not"),
    "lane": (lambda: (LANES,), ValueError, r"not numbers summing to one, in 1 of 2 mixtures: \[1\]"),
    "weights": (lambda: (jaxgmm.Mixture(jnp.zeros(2), arrivals_of(jnp.ones((2, 1))).components),), ValueError, "sum"),
    "shapes": (lambda: (arrivals_of(jnp.ones((3, 1))),), ValueError, r"log_weights \(2,\), components.means \(3, 1\)"),
    "integers": (lambda: (arrivals_of(jnp.ones((2, 1), int)),), TypeError, "components.means has dtype int"),
    "numbers": (lambda: (arrivals_of(1.0),), TypeError, "components.means is of type float; expected an array"),
    "static": (lambda: (arrivals_of(Counted(jnp.ones(1), unit={1})),), TypeError, r"unit is \{1\}; a static field"),
    "tuples": (lambda: (MIXTURE, {"columns": ("a",)}), ValueError, "use lists for tuples"),
    "keys": (lambda: (MIXTURE, {1: "a"}), ValueError, "text for keys"),
    "no JSON": (lambda: (MIXTURE, {"x": np.ones(1)}), TypeError, "metadata cannot be written as JSON"),
    "not finite": (lambda: (MIXTURE, {"x": float("nan")}), TypeError, "metadata cannot be written as JSON"),
    "no dictionary": (lambda: (MIXTURE, ["a"]), TypeError, "metadata is of type list"),
    "schema": (lambda: (MIXTURE, None, jaxgmm.Schema(["a"])), ValueError, "schema names 1 columns; the mixture was"),
    "names": (lambda: (MIXTURE, None, ["a", "b"]), TypeError, "schema is of type list; expected a jaxgmm.Schema"),
    "too long": (lambda: (MIXTURE, {"x": "a" * 2**24}), ValueError, "metadata takes 16"),
}


@pytest.mark.parametrize("kind", NOT_SAVED)
def test_what_cannot_be_saved_leaves_no_file(kind, path, unchecked):
    arguments, exception, message = NOT_SAVED[kind]
    with pytest.raises(exception, match=message):
        jaxgmm.save(path, *arguments())
    assert os.listdir(path.parent) == []


def test_saving_inside_jit_says_so(path):
    with pytest.raises(TypeError, match="call it on what jit"):
        jax.jit(lambda mixture: jaxgmm.save(path, mixture))(MIXTURE)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_what_was_there(step, path, saved, monkeypatch):
    path.write_bytes(saved)

    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="disk full"):
        jaxgmm.save(path, CASES[3].mixture())
    assert path.read_bytes() == saved
    assert os.listdir(path.parent) == [path.name]


def test_a_link_stays_a_link_and_one_mixture_is_always_the_same_bytes(path, saved):
    link = path.parent / "latest.npz"
    link.symlink_to(path)
    jaxgmm.save(link, MIXTURE, METADATA)
    assert link.is_symlink()
    assert path.read_bytes() == saved
    assert path.stat().st_mode == VERSION_1.parent.stat().st_mode & 0o666 | 0o100000  # as open makes it


def test_a_missing_file_is_a_missing_file(path):
    with pytest.raises(FileNotFoundError):
        jaxgmm.load(path)


def test_version_1_is_still_read():
    mixture = jaxgmm.load(VERSION_1)
    assert mixture.weights.tolist() == [0.25, 0.75, 0.0]
    assert mixture.means.tolist() == [[0.5, -2.0], [8.0, 4.0], [1.0, 1.0]]
    assert mixture.covariances.tolist() == [[[1.0, 0.5], [0.5, 4.25]], [[4.0, 0.0], [0.0, 0.25]], [[1, 0], [0, 1]]]
    assert mixture.means.dtype == np.float32
    assert jaxgmm.load_metadata(VERSION_1) == {"columns": ["width", "height"]}


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("kept", ["float32", "float64"])
def test_every_structure_of_version_1_is_still_read(kind, kept):
    path = VERSION_1.parent / f"version1_{kind}_{kept}.npz"
    mixture = jaxgmm.load(path)
    expected = jaxgmm.from_parameters(cases.WEIGHTS, cases.MEANS, cases.COVARIANCES[kind], kind)
    if mixture.weights.ndim > 1:
        assert mixture.weights.shape == (2, 3)
        mixture = jax.tree.map(lambda leaf: leaf[1], mixture)
    # float32 as it was written, whatever it is read into.
    rounding = 8 * np.finfo(np.float32 if dtype() is np.float32 else kept).eps
    for name in ("weights", "means", "covariances"):
        np.testing.assert_allclose(getattr(mixture, name), getattr(expected, name), rtol=rounding, atol=rounding)
    assert jaxgmm.load_schema(path) == (None if kind == "tied" else jaxgmm.Schema(["a", "b"]))


def contents(data, path):
    """The header and the arrays of a file, by numpy and json alone."""
    path.write_bytes(data)
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    return json.loads(arrays.pop("header").tobytes()), arrays


def written(header, arrays, path):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    np.savez(path, header=np.frombuffer(text, np.uint8), **arrays)


def test_a_file_is_read_and_written_without_jaxgmm(path, saved):
    header, arrays = contents(saved, path)
    assert list(header["types"].values()) == ["Gaussian", "Each", "Tril"]
    np.testing.assert_array_equal(arrays["components.means"], MIXTURE.means)
    arrays["components.means"] = np.asfortranarray(arrays["components.means"] + 1)
    written(header, arrays, path)
    np.testing.assert_array_equal(jaxgmm.load(path).means, MIXTURE.means + 1)


MEANS, FACTOR = "components.means", "components.covariance.factor.scale_tril"


def array(name, change):
    return lambda header, arrays: (header, arrays | {name: change(arrays[name])})


def entry(**changes):
    return lambda header, arrays: (header | changes, arrays)


def types(**changes):
    return lambda header, arrays: (header | {"types": header["types"] | changes}, arrays)


CHANGED = {
    "one mean less": (array(MEANS, lambda a: a[:2]), r"fit each other: .*components.means \(2, 2\)"),
    "one column less": (array(MEANS, lambda a: a[:, :1]), "shapes do not fit"),
    "one column in all": (array(FACTOR, lambda a: a[:, :1, :1]), "shapes do not fit"),
    "one factor for all": (array(FACTOR, lambda a: a[:1]), "shapes do not fit"),
    "no component": (lambda h, arrays: (h, {name: a[:0] for name, a in arrays.items()}), "shapes do not fit"),
    "no axis": (array("log_weights", lambda a: a[0]), "shapes do not fit"),
    "a stack of one array": (array("log_weights", lambda a: a[None]), "shapes do not fit"),
    "two stacks": (
        lambda h, arrays: (h, {name: np.stack([a] * (2 if a.ndim == 1 else 3)) for name, a in arrays.items()}),
        r"do not fit each other: log_weights \(2, 3\), components.means \(3, 3, 2\)",
    ),
    "NaN mean": (array(MEANS, lambda a: a * np.nan), "components cannot have"),
    "infinite mean": (array(MEANS, lambda a: a - np.inf), "components cannot have"),
    "negative diagonal": (array(FACTOR, lambda a: -a), "components cannot have"),
    "zero diagonal": (array(FACTOR, lambda a: a * (1 - np.eye(2, dtype=a.dtype))), "components cannot have"),
    "above the diagonal": (array(FACTOR, lambda a: a + np.triu(np.ones_like(a), 1)), "components cannot have"),
    "weights of two": (array("log_weights", lambda a: a + np.log(2).astype(a.dtype)), "summing to one"),
    "no weights": (array("log_weights", lambda a: a - np.inf), "summing to one"),
    "integers": (array(MEANS, lambda a: a.astype(int)), "'components.means' of type '<i8' instead of '<f4' or '<f8'"),
    "half": (array(MEANS, lambda a: a.astype(np.float16)), "of type '<f2'"),
    "big endian": (array(MEANS, lambda a: a.astype(">f8")), "of type '>f8'"),
    "text": (array(MEANS, lambda a: np.array("mean")), "of type '<U4'"),
    "objects": (array(MEANS, lambda a: np.array([print], object)), "of type '.O'"),
    "missing": (lambda h, arrays: (h, {MEANS: arrays[MEANS]}), "has no array 'log_weights'"),
    "extra": (lambda h, arrays: (h, arrays | {"extra": np.ones(1)}), "has 'extra.npy', which is no part"),
    "extra type": (types(extra="Tril"), "has 'extra', which is no part"),
    "extra static": (entry(static={"components.n": 3}), "has 'components.n', which is no part"),
    "unknown type": (types(components="Weibull"), "a type 'Weibull' that is none of"),
    "type in a wrong place": (types(components="Tril"), "has no array 'components.scale_tril'"),
    "array for a type": (types(**{"components": "Scales"}), "has no array 'components.scale'"),
    "no name": (types(components=3), "in the place of the name"),
    "other format": (entry(format="recipe"), "is of format 'recipe', not"),
    "newer": (entry(version=3), "version 3, and this jaxgmm reads versions up to 2: upgrade"),
    "version 0": (entry(version=0), "has the format version 0"),
    "version as text": (entry(version="1"), "has the format version '1'"),
    "no types": (entry(types=[]), "has no object 'types'"),
    "no metadata": (entry(metadata=None), "has no object 'metadata'"),
    "no object": (lambda h, arrays: ([h], arrays), "is no JSON object"),
    "no JSON": (lambda h, arrays: (b"{", arrays), "cannot be read as a saved mixture"),
    "no UTF-8": (lambda h, arrays: (b"\xff", arrays), "cannot be read as a saved mixture"),
    "no number": (entry(metadata={"x": float("nan")}), "NaN is no JSON"),
    "deep": (lambda h, arrays: (b"[" * 100_000, arrays), "cannot be read as a saved mixture"),
}


@pytest.mark.parametrize("kind", CHANGED)
def test_a_changed_file_gets_one_clear_error(kind, path, saved, unchecked):
    change, message = CHANGED[kind]
    written(*change(*contents(saved, path)), path)
    with pytest.raises(jaxgmm.LoadError, match=rf"mixture.npz .*{message}"):
        jaxgmm.load(path)


@pytest.mark.parametrize(("case", "place"), [(CASES[1], "scale_tril"), (CASES[2], "scale")], ids=["tied", "diag"])
def test_an_array_that_would_only_broadcast_is_refused(case, place, path, unchecked):
    jaxgmm.save(path, case.mixture())
    header, arrays = contents(path.read_bytes(), path)
    name = f"components.covariance.factor.{place}"
    written(header, arrays | {name: arrays[name][..., :1]}, path)
    with pytest.raises(jaxgmm.LoadError, match="shapes do not fit each other"):
        jaxgmm.load(path)


def npy(descr, shape):
    """The beginning of a .npy member that promises more than follows."""
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def zipped(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as file:
        for name, data in members:
            file.writestr(name, data)


def one_name_twice(path, data):
    with pytest.warns(UserWarning, match="Duplicate name"):
        zipped(path, [("header.npy", b"")] * 2)


def huge_member(path, data):
    place = data.index(b"PK\x01\x02") + 24  # the size in the first entry of the archive's directory
    path.write_bytes(data[:place] + b"\xf0\xff\xff\xff" + data[place + 4 :])


FOREIGN = {
    "empty": (lambda path, data: path.write_bytes(b""), "not a zip file"),
    "text": (lambda path, data: path.write_bytes(b"width,height\n1,2\n"), "not a zip file"),
    "other arrays": (lambda path, data: np.savez(path, x=np.ones(3)), "jaxgmm.save did not write it"),
    "other zip": (lambda path, data: zipped(path, [("header.npy", b"hello")]), "cannot be read"),
    "bomb": (
        lambda path, data: zipped(path, [("header.npy", bytes(10**7))], compression=zipfile.ZIP_DEFLATED),
        "is compressed, which saved mixtures are not",
    ),
    "huge member": (huge_member, r"claims to hold 42\d{8} bytes and has"),
    "huge array": (lambda path, data: zipped(path, [("header.npy", npy("|u1", (10**12,)))]), "has 0 bytes for the"),
    "negative": (lambda path, data: zipped(path, [("header.npy", npy("|u1", (-2, -2)) + b"1234")]), "cannot be read"),
    "one name twice": (one_name_twice, "two members of one name"),
    "long header": (
        lambda path, data: zipped(path, [("header.npy", bytes(2**25 + 1))]),
        "has a header of more than 16777216 bytes",
    ),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_file_gets_one_clear_error(kind, path, saved):
    write, message = FOREIGN[kind]
    write(path, saved)
    with pytest.raises(jaxgmm.LoadError, match=rf"mixture.npz .*{message}"):
        jaxgmm.load(path)


def test_a_file_cut_short_is_never_loaded(path, saved, unchecked):
    for length in range(len(saved)):
        path.write_bytes(saved[:length])
        with pytest.raises(jaxgmm.LoadError):
            jaxgmm.load(path)


def test_a_damaged_file_gives_the_error_or_the_same_mixture(path, saved, unchecked):
    """Every byte changed, by one bit or by all, then pieces moved about."""
    flips = [(1 << i % 9) % 256 or 255 for i in range(len(saved))]
    damaged = [saved[:i] + bytes([saved[i] ^ flip]) + saved[i + 1 :] for i, flip in enumerate(flips)]
    draw = random.Random(0)
    for _ in range(300):
        here, there, length = draw.randrange(len(saved)), draw.randrange(len(saved)), draw.randrange(1, 40)
        damaged.append(saved[:here] + saved[there : there + length] + saved[here + draw.choice([0, length]) :])
    loaded = 0
    for data in damaged:
        path.write_bytes(data)
        try:
            found = jaxgmm.load(path)
        except jaxgmm.LoadError:
            continue
        same(found, MIXTURE)
        loaded += 1
    assert 0 < loaded < len(damaged) / 4


def test_numbers_beyond_float32_are_no_mixture_in_float32(path):
    with jax.enable_x64(True):
        jaxgmm.save(path, jaxgmm.from_parameters([1.0], [[1e60]], [1.0], "spherical"))
    with pytest.raises(jaxgmm.LoadError, match="components cannot have"):
        jaxgmm.load(path, dtype="float32")


def test_a_mixture_of_numpy_arrays_is_saved(path):
    jaxgmm.save(path, jax.tree.map(np.asarray, MIXTURE))
    same(jaxgmm.load(path), MIXTURE)
