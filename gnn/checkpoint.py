"""Checkpoints: a training that was interrupted goes on from its last epoch, and ends with the same bits. Nothing is unpickled.

A folder with a file for each network that is learned, `NAME.training.safetensors`: arrays, and in its header what training it is, the numbers
beside the arrays, and a digest of both. A file is replaced in one step, so that a kill at any moment leaves the last epoch whole, or the one before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as dump_tensors

from domain.errors import ArtefactError
from gnn.whole_files import write_whole

ENDING = ".training.safetensors"
FORMAT = "qoetwin-training 1"

Tensors: TypeAlias = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Where a training is kept, and which training it is.

    Attributes:
        folder: of one command, and no other.
        name: of the model.
        of: model, settings, fingerprints of the data, seed: all that the weights depend on. Plain values, as JSON has them.
    """

    folder: Path
    name: str
    of: Mapping[str, Any]

    @property
    def file(self) -> Path:
        """Where it is kept."""
        return self.folder / f"{self.name}{ENDING}"

    def write(self, numbers: Mapping[str, Any], tensors: Tensors) -> None:
        """Keep this, in place of what was kept before.

        Raises:
            ArtefactError: when the folder cannot be written.
        """
        state = json.dumps({"format": FORMAT, "of": self.of, "numbers": numbers}, sort_keys=True)
        content = dump_tensors(
            {name: np.array(array, order="C") for name, array in tensors.items()},
            metadata={"state": state, "sha256": _digest(state, tensors)},
        )
        try:
            write_whole({self.file: content})
        except OSError as error:
            raise ArtefactError(
                "a training cannot be kept", where=str(self.folder), found=str(error)
            ) from error

    def read(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
        """The numbers and arrays of the last `write`; None where there was none.

        Raises:
            ArtefactError: when what is kept is of another training, or damaged.
        """
        file = self.file
        if not file.exists():
            return None
        try:
            with safe_open(file, framework="np") as opened:
                header = opened.metadata() or {}
                tensors = {name: np.array(opened.get_tensor(name)) for name in opened.keys()}  # noqa: SIM118  no mapping
            state = header["state"]
            described = json.loads(state)
            kept, of, numbers = described["format"], dict(described["of"]), dict(described["numbers"])
            whole = header["sha256"] == _digest(state, tensors)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise self.damaged(str(error)) from error
        if not whole:
            raise self.damaged("another SHA-256 of its arrays than it says")
        wanted = json.loads(json.dumps(self.of))
        other = sorted(name for name in wanted.keys() | of.keys() if wanted.get(name) != of.get(name))
        if kept != FORMAT or other:
            raise ArtefactError(
                "a folder that keeps another training",
                where=str(file),
                found=f"another {', '.join(other)}" if other else repr(kept),
                expected="the training that was interrupted",
                next_step=f"give the new training another folder, or delete {self.folder}",
            )
        return numbers, tensors

    def damaged(self, found: str) -> ArtefactError:
        """The error of a training that cannot go on."""
        return ArtefactError(
            "a damaged checkpoint: the interrupted training cannot go on",
            where=str(self.file),
            found=found,
            next_step=f"delete {self.file}, and train from the start",
        )


def discard(folder: Path) -> None:
    """Remove all trainings that are kept there, when what they are for is through, and the folder when nothing else is in it.

    Raises:
        ArtefactError: when it cannot be removed.
    """
    try:
        for file in (*folder.glob(f"*{ENDING}"), *folder.glob(f"*{ENDING}.new")):
            file.unlink(missing_ok=True)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    except OSError as error:
        raise ArtefactError("a checkpoint cannot be removed", where=str(folder), found=str(error)) from error


def _digest(state: str, tensors: Tensors) -> str:
    digest = hashlib.sha256(state.encode())
    for name in sorted(tensors):
        values = np.ascontiguousarray(tensors[name])
        digest.update(f"\n{name} {values.dtype.str} {np.shape(tensors[name])}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()
