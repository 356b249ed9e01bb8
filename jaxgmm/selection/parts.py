"""A file to which what is done of a long call is appended, and from which the same call goes on."""

import hashlib
import io
import os
import struct
import threading
import zipfile
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np

_MARK = b"jaxgmm parts 1\n"
_LENGTH = struct.Struct("<Q")


class Parts:
    """Arrays by name. What a process that was stopped had begun to write is left out when the file is read again.

    The file holds a mark, the digest of the question, and for each part its length and an .npz archive. It is locked by
    nothing: one process writes it at a time.

    Raises:
        ValueError: the file is none of these, or of another question.
    """

    def __init__(self, path: str | os.PathLike[str], question: Iterable[bytes]) -> None:
        self._lock, self._known = threading.Lock(), {}
        digest = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in question)).digest()
        head = _MARK + digest
        self._file: BinaryIO = open(path, "a+b")  # noqa: SIM115
        self._file.seek(0)
        found, end = self._file.read(len(head)), 0
        if found == head:
            end = len(head)
            while (part := self._next()) is not None:
                name, arrays, length = part
                self._known[name] = arrays
                end += length
        elif not head.startswith(found):
            kind = found.startswith(_MARK)
            why = "holds parts of another call: of other rows, options, key or versions" if kind else "holds no parts"
            self._file.close()
            raise ValueError(f"parts: {os.fspath(path)} {why}. Name another file, or delete this one.")
        # What was cut off goes, and what is added comes at the end.
        self._file.truncate(end)
        if not end:
            self._file.write(head)
        self._file.flush()

    def __enter__(self) -> "Parts":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def get(self, name: str) -> list[np.ndarray] | None:
        """What was added under that name, in this process or an earlier one."""
        return self._known.get(name)

    def add(self, name: str, arrays: list[np.ndarray]) -> None:
        """Write it, whole or not at all as far as a reader can see."""
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, name=np.array(name), **{f"a{i}": a for i, a in enumerate(arrays)})
        data = buffer.getvalue()
        with self._lock:
            self._file.write(_LENGTH.pack(len(data)) + data)
            self._file.flush()

    def _next(self) -> tuple[str, list[np.ndarray], int] | None:
        head = self._file.read(_LENGTH.size)
        if len(head) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack(head)
        data = self._file.read(length)
        if len(data) < length:
            return None
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                arrays = [archive[f"a{place}"] for place in range(len(archive.files) - 1)]
                return str(archive["name"]), arrays, _LENGTH.size + length
        except (ValueError, KeyError, OSError, zipfile.BadZipFile):
            return None
