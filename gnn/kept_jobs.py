"""Kept jobs: what came of the jobs of a comparison that are through, so that one that was interrupted goes on. Nothing is unpickled.

One file a job, named by a digest of all that its figures depend on: the data, who is hidden, splits, seeds, models, settings, libraries, and
the code of this package. What is kept of another comparison is not found under that name.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_origin

import msgspec
import numpy as np

from domain.errors import ArtefactError
from gnn.comparison import Done, Job
from gnn.fingerprint import data_hash
from gnn.whole_files import write_whole

SUFFIX = ".job"
LIBRARIES = ("qoetwin", "numpy", "scipy", "scikit-learn", "torch", "torch-geometric")


@dataclass(frozen=True, slots=True)
class KeptJobs:
    """A folder of finished jobs.

    Attributes:
        folder: is made when something is kept.
    """

    folder: Path

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
            raise ArtefactError(
                "a damaged job of an interrupted comparison",
                where=str(file),
                found="another SHA-256 than it says",
                next_step=f"delete {file}, and compare again",
            )
        return msgspec.msgpack.decode(packed, type=Done, dec_hook=_unpacked)

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
        """Remove all that is kept, and the folder when nothing else is in it.

        Raises:
            ArtefactError: when it cannot be removed.
        """
        try:
            for file in self.folder.glob(f"*{SUFFIX}*"):
                file.unlink(missing_ok=True)
            if self.folder.is_dir() and not any(self.folder.iterdir()):
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
            "code": _code(),
        }
        return self.folder / (
            hashlib.sha256(json.dumps(of, sort_keys=True, default=dict).encode()).hexdigest()[:32] + SUFFIX
        )


@cache
def _code() -> str:
    """Digest of the sources of this package."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for file in sorted(here.rglob("*.py")):
        digest.update(str(file.relative_to(here)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


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
