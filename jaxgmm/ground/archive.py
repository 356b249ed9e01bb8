"""Files of arrays beside a header in JSON: zip archives of .npy members, like numpy's own .npz, and never a pickle.

Members are stored, not compressed. So what a file says it holds cannot exceed what it has, and no small file unfolds
into a large one.
"""

import contextlib
import io
import json
import math
import os
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np

from jaxgmm.ground import files

_HEADER = "header"
_LARGEST_HEADER = 2**24
_BYTES, FLOATS = ("|u1",), ("<f4", "<f8")
_AGAIN = "load another copy of it, or save the mixture again"


class LoadError(ValueError):
    """A file that no mixture can be loaded from: damaged, foreign, of a newer format, or of types that are not known.

    Its message is one sentence: what was found in which file, and what to do.
    """


def write(path: str | os.PathLike[str], header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write the whole file or nothing: a draft beside it takes its place once it is on disk."""
    text = json.dumps(header, allow_nan=False, separators=(",", ":")).encode()
    if len(text) > _LARGEST_HEADER:
        raise ValueError(f"metadata takes {len(text)} bytes as JSON; expected no more than {_LARGEST_HEADER}.")
    members = {_HEADER: np.frombuffer(text, np.uint8), **arrays}
    with files.replacing(path) as draft, zipfile.ZipFile(draft, "x") as archive:
        for name, array in members.items():
            # Without a date, so that one mixture is always the same bytes.
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), _to_npy(array))


@contextlib.contextmanager
def reading(path: str | os.PathLike[str], what: str = "a saved mixture", instead: str = _AGAIN) -> Iterator["Archive"]:
    """The file at `path`, opened. Whatever goes wrong inside the block leaves as a `LoadError` that names the file.

    It says what this cannot be read as, and what to do instead.
    """
    with open(path, "rb") as file:
        try:
            yield Archive(file)
        except LoadError as error:
            raise LoadError(f"{os.fspath(path)} {error}") from error.__cause__
        # A damaged file makes zipfile, json and numpy raise nearly anything.
        except Exception as error:
            found = str(error) or type(error).__name__
            raise LoadError(f"{os.fspath(path)} cannot be read as {what} ({found}): {instead}.") from error


class Archive:
    """A file being read: its header, and its arrays by name."""

    def __init__(self, file: BinaryIO) -> None:
        self._zip = zipfile.ZipFile(file)
        members = self._zip.infolist()
        self._unread = {member.filename for member in members}
        self._old_names: dict[str, str] = {}
        if len(self._unread) < len(members):
            raise damaged("has two members of one name")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise LoadError("is compressed, which saved mixtures are not: write it with numpy.savez instead.")
        claimed, size = sum(member.file_size for member in members), os.fstat(file.fileno()).st_size
        if claimed > size:
            raise damaged(f"claims to hold {claimed} bytes and has {size}")

    def header(self) -> dict[str, Any]:
        """What was written as the header."""
        name = f"{_HEADER}.npy"
        if name not in self._unread:
            raise LoadError(f"has no member {name!r}: jaxgmm.save did not write it.")
        if self._zip.getinfo(name).file_size > 2 * _LARGEST_HEADER:
            raise damaged(f"has a header of more than {_LARGEST_HEADER} bytes")
        header = json.loads(self.array(_HEADER, _BYTES).tobytes(), parse_constant=_no_number)
        if not isinstance(header, dict):
            raise damaged("has a header that is no JSON object")
        return header

    def array(self, name: str, dtypes: tuple[str, ...] = FLOATS) -> np.ndarray:
        """The array `name`, read-only, if it is of one of `dtypes`; it counts as read."""
        member = f"{self._old_names.get(name, name)}.npy"
        if member not in self._unread:
            raise changed(f"has no array {name!r}")
        self._unread.remove(member)
        return _from_npy(name, self._zip.read(member), dtypes)

    def shape(self, name: str) -> tuple[int, ...]:
        """That of an array, which does not count as read by this."""
        unread = set(self._unread)
        shape = self.array(name).shape
        self._unread = unread
        return shape

    def called(self, name: str, old_name: str) -> None:
        """Find the array `name` by the name that it had in an earlier format."""
        self._old_names[name] = old_name

    def unread(self) -> list[str]:
        """Names of the members that nobody asked for."""
        return sorted(self._unread)


def damaged(found: str) -> LoadError:
    """The error for a file that was right once, and now is as `found` says."""
    return LoadError(f"{found}: it is damaged, so {_AGAIN}.")


def changed(found: str) -> LoadError:
    """The error for a file that does not hold what its types have fields for."""
    return LoadError(f"{found}: it is damaged, or a class has changed since it was saved, so {_AGAIN}.")


def _to_npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def _from_npy(name: str, data: bytes, dtypes: tuple[str, ...]) -> np.ndarray:
    stream = io.BytesIO(data)
    if (version := np.lib.format.read_magic(stream)) != (1, 0):
        raise damaged(f"has the array {name!r} in version {version} of the .npy format instead of (1, 0)")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.str not in dtypes:
        raise damaged(f"has the array {name!r} of type {dtype.str!r} instead of {' or '.join(map(repr, dtypes))}")
    size = len(data) - stream.tell()
    if math.prod(shape) * dtype.itemsize != size:
        raise damaged(f"has {size} bytes for the array {name!r} of type {dtype.str!r} and shape {shape}")
    return np.ndarray(shape, dtype, data, stream.tell(), order="F" if fortran_order else "C")


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
