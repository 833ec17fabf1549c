"""Files that are whole: written aside, flushed to the disk, and only then put in their place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def write_whole(contents: Mapping[Path, bytes]) -> None:
    """Write files, or leave those that are there as they were.

    All are written aside, and then take their places in order. A kill before that leaves the old ones, one between two of
    them a new one beside an old one: whoever writes several must know what belongs together.

    Args:
        contents: file -> what shall be in it; folders are made when missing.

    Raises:
        OSError: when one cannot be written; nothing is left aside.
    """
    aside = {file: file.with_name(f"{file.name}.new") for file in contents}
    try:
        for file, content in contents.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            with aside[file].open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        for file in contents:
            aside[file].replace(file)
    finally:
        for file in aside.values():
            if file.parent.is_dir():
                file.unlink(missing_ok=True)
