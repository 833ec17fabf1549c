"""Files that are there whole or not at all, compressed if their name says so."""

from __future__ import annotations

import gzip
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from domain.errors import InputError, NotFoundError


@contextmanager
def written(path: Path) -> Iterator[IO[bytes]]:
    """A file to write. It takes its name when the block ends well; else nothing is left, and what was there stays.

    Raises:
        InputError: when it cannot be written, or something that is no file is there.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise InputError("something else is there", where=str(path), expected="nothing, or a file to replace")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            os.fchmod(handle, 0o666 & ~_umask())
            with os.fdopen(handle, "wb") as plain:
                if path.suffix == ".gz":
                    # Fast, and the same bytes for the same graph: no name, no time.
                    with gzip.GzipFile("", "wb", compresslevel=3, fileobj=plain, mtime=0) as packed:
                        yield cast(IO[bytes], packed)
                else:
                    yield plain
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError(
            "cannot write the file", where=str(path), found=error.strerror or str(error)
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def required(path: Path, *, folder: bool = False) -> None:
    """Refuse a path at which there is no file, or no folder.

    Raises:
        NotFoundError: when there is none.
    """
    if not (path.is_dir() if folder else path.is_file()):
        raise NotFoundError("there is no such folder" if folder else "there is no such file", where=str(path))
