"""Answers about single files of the lake, kept beside it: a file never changes, and so its answer does not either.

    <lake>/.answers/<digest of the question>/<name of the file>.parquet

All of it may be deleted at any time: what is not there is asked again.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from ingest.manifest import unwritable


def read_answer(path: Path) -> pa.Table | None:
    """An answer that is there and whole."""
    try:
        return pq.read_table(path, page_checksum_verification=True, partitioning=None)
    except (pa.ArrowException, OSError):
        return None  # it is asked again


def keep_answer(path: Path, answer: pa.Table) -> None:
    """Keep an answer; it appears whole.

    Raises:
        StoreError: when it cannot be written.
    """
    partial = path.with_name(f".{uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(answer, partial, compression="zstd", write_page_checksum=True)
        partial.replace(path)
    except PermissionError:
        return  # who may only read the lake asks again
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise unwritable(path, error) from error


def forget_answers(folder: Path, names: Collection[str]) -> None:
    """Delete answers about all other files, which are gone, and what a run that died left.

    Raises:
        StoreError: when they cannot be deleted.
    """
    try:
        for path in folder.iterdir() if folder.exists() else ():
            if path.name not in names:
                path.unlink(missing_ok=True)
    except PermissionError:
        return  # whoever may write does it
    except OSError as error:
        raise unwritable(folder, error) from error
