"""Files that appear whole or not at all."""

import contextlib
import os
import secrets
from collections.abc import Iterator


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[str]:
    """The path of a draft, to be written inside the block, which then takes the place of what is at `path`.

    If the block fails, what was there stays and the draft is gone. The draft ends like `path`, as some writers go by
    that.
    """
    target = os.path.realpath(path)
    folder, name = os.path.split(target)
    draft = os.path.join(folder, f".jaxgmm-{secrets.token_hex(8)}-{name}")
    try:
        yield draft
        with open(draft, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(draft, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
        raise
