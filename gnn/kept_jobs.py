"""Kept jobs: what came of the jobs of a comparison that are through, so that one that was interrupted goes on. Nothing is unpickled.

One file a job, named by a digest of all that its figures depend on: the data, who is hidden, splits, seeds, models, settings, libraries, the
code, and whether there is a GPU. What is kept of another comparison is not found under that name.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_origin

import msgspec
import numpy as np

from domain.errors import ArtefactError
from gnn.comparison import Done, Job
from gnn.fingerprint import code_hash, data_hash
from gnn.predictor import Kind
from gnn.registry import predictor_class
from gnn.whole_files import write_whole

LIBRARIES = ("numpy", "scipy", "scikit-learn", "torch", "torch-geometric")
LOCK = "lock"
"""File of the folder that one comparison holds at a time."""


class KeptJobs:
    """Finished jobs in a folder, kept by this code.

    Args:
        folder: where they are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._code = code_hash()  # now: sources may change before the last job is through
        self._own: set[Path] = set()

    def read(self, job: Job) -> Done | None:
        """What came of a job; None where it is not kept.

        Raises:
            ArtefactError: when what is kept is damaged, or cannot be read.
        """
        file = self._file(job)
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ArtefactError("a kept job cannot be read", where=str(file), found=str(error)) from error
        digest, packed = content[:32], content[32:]
        if hashlib.sha256(packed).digest() != digest:
            raise _damaged(file, "another SHA-256 than it says")
        try:
            return msgspec.msgpack.decode(packed, type=Done, dec_hook=_unpacked)
        except (msgspec.MsgspecError, ValueError, TypeError) as error:
            raise _damaged(file, str(error)) from error

    def write(self, job: Job, done: Done) -> None:
        """Keep what came of a job.

        Raises:
            ArtefactError: when it cannot be written.
        """
        packed = msgspec.msgpack.encode(done, enc_hook=_packed)
        file = self._file(job)
        try:
            write_whole({file: hashlib.sha256(packed).digest() + packed})
        except OSError as error:
            raise ArtefactError("a job cannot be kept", where=str(file), found=str(error)) from error

    def discard(self) -> None:
        """Remove the jobs that were asked for here, whoever wrote them, and the folder when nothing else is in it.

        Raises:
            ArtefactError: when they cannot be removed.
        """
        try:
            for file in (*self._own, self.folder / LOCK):
                file.unlink(missing_ok=True)
            if not any(self.folder.iterdir()):
                self.folder.rmdir()
        except OSError as error:
            raise ArtefactError(
                "kept jobs cannot be removed", where=str(self.folder), found=str(error)
            ) from error

    def _file(self, job: Job) -> Path:
        of = {
            "data": data_hash(job.arrays),
            "protocol": job.protocol.name,
            "split": [job.split, job.split_seed],
            "seed": job.seed,
            "models": job.models,
            "settings": dict(job.overrides),
            "profile": asdict(job.profile),
            "libraries": {name: version(name) for name in LIBRARIES},
            "code": self._code,
            "device": _device(job),
        }
        digest = hashlib.sha256(json.dumps(of, sort_keys=True, default=dict).encode()).hexdigest()
        file = self.folder / f"{digest[:32]}.job"
        self._own.add(file)
        return file


def _damaged(file: Path, found: str) -> ArtefactError:
    return ArtefactError(
        "a damaged job of an interrupted comparison",
        where=str(file),
        found=found,
        next_step=f"delete {file}, and compare again",
    )


@contextmanager
def kept_jobs(folder: Path) -> Iterator[KeptJobs]:
    """Keep jobs in a folder, alone; left without an error, all that was kept of them is removed.

    Raises:
        ArtefactError: when the folder cannot be written to, or somebody else keeps jobs there at the time.
    """
    lock = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ArtefactError("jobs cannot be kept", where=str(folder), found=str(error)) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ArtefactError(
                "another comparison is being written there",
                where=str(folder.parent),
                next_step="wait for it, or choose another folder",
            ) from error
        except OSError as error:
            raise ArtefactError(
                "jobs cannot be kept: this file system has no locks",
                where=str(folder),
                found=str(error),
                next_step="choose a folder on another one",
            ) from error
        kept = KeptJobs(folder)
        yield kept
        kept.discard()
    finally:
        os.close(descriptor)


def _device(job: Job) -> str:
    """Where its networks run; torch is imported for these only."""
    if all(predictor_class(name).kind is Kind.BASELINE for name in job.models):
        return "cpu"
    from gnn.device import best_device

    return best_device().type


def _packed(value: Any) -> Any:
    """Arrays of numbers as type, shape and bytes."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a job does not hold {type(value).__name__}")


def _unpacked(kind: type, packed: Any) -> Any:
    if get_origin(kind) is not np.ndarray:
        raise TypeError(f"a job does not hold {kind}")
    of, shape, content = packed
    return np.frombuffer(content, dtype=of).reshape(shape).copy()
