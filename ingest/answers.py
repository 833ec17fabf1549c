"""Answers about single files of the lake, kept beside it: a file never changes, and so its answer does not either.

    <lake>/.answers/<digest of the question>/<name of the file>.parquet

All of it may be deleted at any time: what is not there is asked again.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from time import time
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

_OLD_S = 3600.0


def read_answer(path: Path) -> pa.Table | None:
    """An answer that is there and whole."""
    try:
        return pq.read_table(path, page_checksum_verification=True, partitioning=None)
    except (pa.ArrowException, OSError):
        return None  # it is asked again


def keep_answer(path: Path, answer: pa.Table) -> None:
    """Keep an answer; it appears whole. Where there is no room, or no leave to write, it is asked again the next time."""
    partial = path.with_name(f".{uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(answer, partial, compression="zstd", write_page_checksum=True)
        partial.replace(path)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def forget_answers(folder: Path, names: Collection[str]) -> None:
    """Delete answers about all other files, which are gone, where that is allowed, and what a run that died left long ago."""
    with suppress(OSError):
        for path in folder.iterdir():
            if path.name not in names and (
                not path.name.startswith(".") or time() - path.stat().st_mtime > _OLD_S
            ):
                path.unlink(missing_ok=True)
