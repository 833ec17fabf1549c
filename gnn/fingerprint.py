"""Fingerprints of what is learned from, and by which code: the same on every machine, another as soon as one value differs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnn.protocols.protocol import Question
from kg.arrays import Ends, PathArrays


def data_hash(arrays: PathArrays) -> str:
    """SHA-256 over every array, with its name, type and shape."""
    return _digest(_parts("", arrays))


def question_hash(question: Question) -> str:
    """SHA-256 over everything that a question asks and shows."""
    return _digest(_parts("", question))


def arrays_hash(*several: NDArray[Any]) -> str:
    """SHA-256 over arrays of numbers, bit for bit, in their order."""
    return _digest([(str(number), array) for number, array in enumerate(several)])


@cache
def code_hash() -> str:
    """SHA-256 over the sources that figures depend on, as they were when it was first asked for."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for room in ("domain", "kg", "qoe", "gnn"):
        for file in sorted((root / room).rglob("*.py")):
            digest.update(f"{file.relative_to(root)}\n".encode() + file.read_bytes() + b"\n")
    return digest.hexdigest()


def _digest(parts: list[tuple[str, NDArray[Any]]]) -> str:
    digest = hashlib.sha256()
    for name, values in parts:
        digest.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _parts(prefix: str, whole: PathArrays | Ends | Question) -> list[tuple[str, NDArray[Any]]]:
    parts: list[tuple[str, NDArray[Any]]] = []
    for field in fields(whole):
        value = getattr(whole, field.name)
        name = f"{prefix}{field.name}"
        if isinstance(value, Ends):
            parts += _parts(f"{name}.", value)
            continue
        if value is None:
            continue  # named, it would be an array of a type that no file has
        values = np.asarray(value)
        if values.dtype == object or values.dtype.kind == "U":
            # Lengths vary with the platform's strings; JSON does not.
            values = np.frombuffer(
                json.dumps([str(text) for text in values.tolist()]).encode(), dtype=np.uint8
            )
        elif values.dtype.kind == "f":
            values = np.where(np.isnan(values), np.nan, values) + 0.0  # one NaN, one zero
        parts.append((name, values.astype(values.dtype.newbyteorder("<"))))
    return parts
