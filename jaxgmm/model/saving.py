"""Mixtures in files: arrays named by the fields that hold them, and a header that names the types of the records."""

import dataclasses
import json
import os
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgmm.covariance.apart import Shapes, Volumes
from jaxgmm.covariance.low_rank import LowRank
from jaxgmm.covariance.oriented import OwnAxes, SharedAxes
from jaxgmm.covariance.scale import Scale
from jaxgmm.covariance.scales import Scales
from jaxgmm.covariance.structure import Each, Shared
from jaxgmm.covariance.tril import Tril
from jaxgmm.covariance.unit import UnitScales, UnitTril
from jaxgmm.families.bernoulli import Bernoulli
from jaxgmm.families.beta import Beta
from jaxgmm.families.categorical import Categorical
from jaxgmm.families.exponential import Exponential
from jaxgmm.families.gamma import Gamma
from jaxgmm.families.gaussian import Gaussian
from jaxgmm.families.log_normal import LogNormal
from jaxgmm.families.multinomial import Multinomial
from jaxgmm.families.negative_binomial import NegativeBinomial
from jaxgmm.families.noise import WithNoise
from jaxgmm.families.poisson import Poisson
from jaxgmm.families.product import Product
from jaxgmm.families.student_t import StudentT, StudentTEstimated
from jaxgmm.families.von_mises import VonMises
from jaxgmm.ground import archive
from jaxgmm.ground.archive import Archive, LoadError, changed, damaged
from jaxgmm.ground.schema import Schema
from jaxgmm.model import extents
from jaxgmm.model.mixture import Mixture, no_mixture
from jaxgmm.model.soundness import fault

_FORMAT, _VERSION = "jaxgmm mixture", 2
_PARTS = (
    Gaussian,
    StudentT,
    StudentTEstimated,
    WithNoise,
    Each,
    Shared,
    Tril,
    Scales,
    Scale,
    Volumes,
    Shapes,
    UnitTril,
    UnitScales,
    OwnAxes,
    SharedAxes,
    LowRank,
    Bernoulli,
    Beta,
    Categorical,
    Exponential,
    Gamma,
    LogNormal,
    Multinomial,
    NegativeBinomial,
    Poisson,
    Product,
    VonMises,
)
_BUILT_IN: dict[str, type] = {cls.__name__: cls for cls in _PARTS}
_STRUCTURES_1 = {
    "full": ("Each", "Tril", "scale_tril"),
    "tied": ("Shared", "Tril", "scale_tril"),
    "diag": ("Each", "Scales", "scale"),
    "spherical": ("Each", "Scale", "scale"),
}
_SCALARS = (bool, int, float, str, type(None))


def save(
    path: str | os.PathLike[str],
    mixture: Mixture,
    metadata: dict[str, Any] | None = None,
    schema: Schema | None = None,
) -> None:
    """Write `mixture` to a file that `load` reads: plain arrays and a JSON header in an .npz archive, no pickle.

    Numbers are kept to the bit. The file appears whole or not at all: what was at `path` stays until it is replaced.

    Args:
        path: where, exactly; `.npz` is the usual ending.
        mixture: of any family, float32 or float64; a stack of mixtures, as `vmap` and `fit_many` give, is one file.
        metadata: what to keep beside it; anything that JSON gives back as it was.
        schema: names of its columns and their levels, for `load_schema` to give back.

    Raises:
        TypeError, ValueError: something other than a mixture, numbers that make none, such as NaN, metadata that JSON
            would change, or a schema of other columns.
        OSError: the file cannot be written.

    >>> import jaxgmm, os, tempfile
    >>> mixture = jaxgmm.from_parameters([1.0], [[0.0]], [1.0], form="spherical")
    >>> path = os.path.join(tempfile.mkdtemp(), "mixture.npz")
    >>> jaxgmm.save(path, mixture, metadata={"unit": "cm"}, schema=jaxgmm.Schema(["height"]))
    >>> jaxgmm.load(path).log_prob([[0.0]]) == mixture.log_prob([[0.0]])
    Array([ True], dtype=bool)
    >>> jaxgmm.load_schema(path)
    Schema(names=('height',))
    """
    if type(mixture) is not Mixture:
        raise TypeError(no_mixture("mixture", mixture))
    header: dict[str, Any] = {"format": _FORMAT, "version": _VERSION, "types": {}, "static": {}}
    arrays: dict[str, np.ndarray] = {}
    _take_apart(mixture, "", header, arrays)
    # With all digits that it has: what is right in them is written in them.
    with jax.enable_x64(any(array.itemsize > 4 for array in arrays.values()) or not _is_lost(np.float64)):
        found = fault(mixture)
    if found:
        raise ValueError(f"mixture {found}; expected one whose densities exist. Nothing was written.")
    header["metadata"] = _checked_metadata({} if metadata is None else metadata)
    if schema is not None:
        header["schema"] = _described(schema, mixture)
    archive.write(path, header, arrays)


def load(path: str | os.PathLike[str], types: Iterable[type] = (), dtype: Any = None) -> Mixture:
    """The mixture that `save` wrote to `path`, to the bit.

    A file names types and never code: families and structures of your own are found among `types`.

    Args:
        path: the file.
        types: families and covariance structures that are not part of jaxgmm, such as `(Arrivals,)`.
        dtype: "float32" or "float64" to have all numbers of that type; by default they have the type they were saved
            in. While JAX's 64-bit mode is off, float64 becomes float32 where that does no harm: where, in each column
            of each component, the rounding of the mean is below a thousandth of the standard deviation.

    Raises:
        LoadError: the file is damaged, no saved mixture, of a newer format, names a type that is not known, or holds
            float64 that cannot be rounded without harm, while JAX's 64-bit mode is off and `dtype` does not say
            "float32".
        OSError: there is no such file, or it may not be read.
    """
    known = _known(types)
    if dtype is not None and np.dtype(dtype).str not in archive.FLOATS:
        raise ValueError(f"dtype is {np.dtype(dtype).name!r}; expected 'float32' or 'float64'.")
    with archive.reading(path) as source:
        header = _checked_header(source)
        if header["version"] == 1:
            _from_version_1(header, source)
        mixture = _put_together(Mixture, "", header, source, known)
        if left := [*source.unread(), *header["types"], *header["static"]]:
            raise changed(f"has {left[0]!r}, which is no part of the mixture")
        mixture = _as_jax(mixture, dtype)
        if found := fault(mixture):
            raise damaged(found)
    return mixture


def load_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The `metadata` that `save` was given, `{}` if none. Raises as `load` does; arrays and types are not looked at."""
    with archive.reading(path) as source:
        return _checked_header(source)["metadata"]


def load_schema(path: str | os.PathLike[str]) -> Schema | None:
    """The schema that `save` was given, None if it was given none; raises as `load` does.

    Of a file that the command line wrote, it has the columns that the metadata name.
    """
    with archive.reading(path) as source:
        header = _checked_header(source)
        if "schema" in header:
            return _schema_in(header["schema"])
        names = header["metadata"].get("columns")
        named = isinstance(names, list) and all(isinstance(name, str) for name in names)
        return Schema(names) if named and 0 < len(set(names)) == len(names) else None


def _take_apart(record: Any, prefix: str, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Put what the fields of `record` hold into `header` and `arrays`."""
    for field in dataclasses.fields(record):
        place, value = prefix + field.name, getattr(record, field.name)
        if field.metadata.get("static"):
            if not _is_plain(value):
                raise TypeError(f"mixture.{place} is {value!r}; a static field can be saved if it is a number or text.")
            header["static"][place] = value
        elif isinstance(value, (jax.Array, np.ndarray)):
            arrays[place] = _as_numpy(place, value)
        elif dataclasses.is_dataclass(value):
            header["types"][place] = _name_of(type(value))
            _take_apart(value, f"{place}.", header, arrays)
        elif isinstance(value, tuple) and all(map(dataclasses.is_dataclass, value)):
            header["types"][place] = [_name_of(type(part)) for part in value]
            for number, part in enumerate(value):
                _take_apart(part, f"{place}.{number}.", header, arrays)
        else:
            raise TypeError(f"mixture.{place} is of type {type(value).__name__}; expected an array or a record.")


def _put_together(cls: type, prefix: str, header: dict[str, Any], source: Archive, known: dict[str, type]) -> Any:
    """A record of type `cls` from what `_take_apart` put into the header and the arrays, which it takes out."""
    values = {}
    for field in dataclasses.fields(cls):
        place = prefix + field.name
        if field.metadata.get("static"):
            value = _as_tuples(header["static"].get(place, {}))
            if not _is_plain(value):
                raise changed(f"has no number or text for {place!r}")
            values[field.name] = value
            header["static"].pop(place)
        elif place in header["types"]:
            named = header["types"].pop(place)
            if isinstance(named, list):
                parts = [_type_called(name, known) for name in named]
                values[field.name] = tuple(
                    _put_together(part, f"{place}.{number}.", header, source, known)
                    for number, part in enumerate(parts)
                )
            else:
                inner = _type_called(named, known)
                values[field.name] = _put_together(inner, f"{place}.", header, source, known)
        else:
            values[field.name] = source.array(place)
    return cls(**values)


def _is_plain(value: Any) -> bool:
    """Whether it is a number or text, or several in a tuple."""
    return all(map(_is_plain, value)) if isinstance(value, tuple) else isinstance(value, _SCALARS)


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def _checked_header(source: Archive) -> dict[str, Any]:
    header = source.header()
    if header.get("format") != _FORMAT:
        raise LoadError(
            f"is of format {header.get('format')!r}, not {_FORMAT!r}: it is no file that jaxgmm.save wrote."
        )
    version = header.get("version")
    if type(version) is not int or version < 1:
        raise damaged(f"has the format version {version!r}")
    if version > _VERSION:
        raise LoadError(
            f"has format version {version}, and this jaxgmm reads versions up to {_VERSION}: upgrade jaxgmm to load it."
        )
    for part in ("types", "static", "metadata"):
        if not isinstance(header.get(part), dict):
            raise damaged(f"has no object {part!r} in its header")
    return header


def _from_version_1(header: dict[str, Any], source: Archive) -> None:
    """In the words of version 2: there, a structure is a factor and how it is shared."""
    for place, name in list(header["types"].items()):
        if name not in _STRUCTURES_1:
            continue
        sharing, factor, field = _STRUCTURES_1[name]
        header["types"] |= {place: sharing, f"{place}.factor": factor}
        source.called(f"{place}.factor.{field}", f"{place}.{field}")
        if factor == "Scale":
            owner = place.rpartition(".")[0]
            header["static"][f"{place}.factor.n_columns"] = source.shape(f"{owner}.means")[-1]


def _checked_metadata(metadata: Any) -> dict[str, Any]:
    if not isinstance(metadata, dict):
        raise TypeError(f"metadata is of type {type(metadata).__name__}; expected a dictionary.")
    try:
        back = json.loads(json.dumps(metadata, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(
            f"metadata cannot be written as JSON: {error}. Convert it to text, numbers and lists."
        ) from error
    if back != metadata:
        raise ValueError(
            f"metadata would come back as {back!r} instead of {metadata!r}: use lists for tuples, and text for keys."
        )
    return back


def _known(types: Iterable[type]) -> dict[str, type]:
    known = dict(_BUILT_IN)
    for cls in types:
        if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
            raise TypeError(f"types holds {cls!r}; expected families and structures, which are classes made by record.")
        if known.setdefault(_name_of(cls), cls) is not cls:
            raise ValueError(f"types holds two classes called {cls.__name__!r}; a file could mean either. Rename one.")
    return known


def _name_of(cls: type) -> str:
    """What a file calls this type: built-in ones by their public name, all others by that of the class."""
    for name, built_in in _BUILT_IN.items():
        if cls is built_in:
            return name
    if cls.__name__ in _BUILT_IN:
        raise TypeError(f"the class {cls.__qualname__} has the name of a type of jaxgmm; rename it to tell them apart.")
    return cls.__name__


def _type_called(name: Any, known: dict[str, type]) -> type:
    if not isinstance(name, str):
        raise damaged(f"has {name!r} in the place of the name of a type")
    if name not in known:
        raise LoadError(
            f"holds a type {name!r} that is none of {', '.join(map(repr, known))}: "
            f"pass its class, as in load(path, types=({name},))."
        )
    return known[name]


def _as_numpy(place: str, leaf: jax.Array | np.ndarray) -> np.ndarray:
    if isinstance(leaf, jax.core.Tracer):
        raise TypeError("save needs numbers that are known: call it on what jit, vmap or grad returns.")
    array = np.array(leaf, order="C")
    if array.dtype.str not in archive.FLOATS:
        raise TypeError(f"mixture.{place} has dtype {array.dtype}; expected float32 or float64. Convert it first.")
    return array


def _as_jax(mixture: Mixture, dtype: Any) -> Mixture:
    """The same mixture in arrays of JAX, of type `dtype` or, by default, the type they have or are as good in."""
    if dtype is None and any(_is_lost(leaf.dtype) for leaf in jax.tree.leaves(mixture)):
        # Looked at in the digits it was saved with.
        with jax.enable_x64(True):
            if found := fault(mixture):
                raise damaged(found)
        if extents.needs_float64(mixture):
            raise LoadError(
                "holds float64 numbers that float32 does not tell apart, as their components are narrow and far from "
                "0, and JAX's 64-bit mode is off. Turn it on first, in a line before this one: "
                "jax.config.update('jax_enable_x64', True). Or pass dtype='float32' to round them nevertheless; "
                "densities and predictions are then others."
            )
        dtype = np.float32

    def converted(leaf: np.ndarray) -> jax.Array:
        wanted = leaf.dtype if dtype is None else np.dtype(dtype)
        if _is_lost(wanted):
            raise LoadError(
                "cannot be loaded as float64, as JAX's 64-bit mode is off: turn it on by "
                "jax.config.update('jax_enable_x64', True), or pass dtype='float32' to round it."
            )
        with np.errstate(over="ignore"):  # what became infinite is found out with the other faults
            return jnp.asarray(leaf.astype(wanted))

    return jax.tree.map(converted, mixture)


def _is_lost(dtype: Any) -> bool:
    """Whether JAX, in its present mode, would take numbers of this type for others."""
    return jax.dtypes.canonicalize_dtype(dtype) != dtype


def _described(schema: Any, mixture: Mixture) -> dict[str, Any]:
    if not isinstance(schema, Schema):
        raise TypeError(f"schema is of type {type(schema).__name__}; expected a jaxgmm.Schema.")
    if len(schema.names) != mixture.n_columns:
        raise ValueError(f"schema names {len(schema.names)} columns; the mixture was made for {mixture.n_columns}.")
    levels = [None if own is None else list(own) for own in schema.levels]
    return {"names": list(schema.names), **({"levels": levels} if schema.has_levels else {})}


def _schema_in(said: Any) -> Schema:
    try:
        return Schema(said["names"], said.get("levels"))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise damaged(f"has a schema that is none: {error}") from error
