"""Artefacts: a fitted predictor on disk, as safetensors and JSON. Nothing is ever unpickled.

A folder with `model.json`, which says what it is, and `model.safetensors`, which holds every learned array. The JSON holds the
digest of the arrays, so that the two are known to belong together.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as parse_tensors
from safetensors.numpy import save as dump_tensors

from domain.errors import ArtefactError, DataError, UnknownNameError
from gnn.audit import Verdict
from gnn.predictor import Predictor
from gnn.registry import predictor_class
from kg.arrays import Ends, PathArrays

FORMAT = "qoetwin-model"
FORMAT_VERSION = 1
DESCRIPTION, TENSORS = "model.json", "model.safetensors"
UNITS = {"rtt": "ms", "jitter": "ms", "any_loss_probability": "ratio", "loss_ratio": "ratio"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a saved model says of itself.

    Attributes:
        model: name in the registry.
        config: settings of its constructor.
        columns: names of its numeric inputs, in order.
        protocol, horizon: what it was fitted for; the horizon in windows, None where the protocol has none.
        window_s: length of the windows it was fitted on.
        seed: of learning.
        data_hash: `data_hash` of the arrays it was fitted on.
        code_version: of the program that fitted it.
        audit_passed, audit_windows: verdict of the leakage audit, and how many windows it looked at.
        synthetic: True when fitted on data of the testbed.
        untimely: states that were left out, as the time of a result in them is in doubt.
    """

    model: str
    config: Mapping[str, int | float]
    columns: tuple[str, ...]
    protocol: str
    horizon: int | None
    window_s: int
    seed: int
    data_hash: str
    code_version: str
    audit_passed: bool
    audit_windows: int
    synthetic: bool
    untimely: int = 0


def card(
    predictor: Predictor,
    arrays: PathArrays,
    *,
    protocol: str,
    horizon: int | None,
    seed: int,
    verdict: Verdict,
    code_version: str,
) -> Card:
    """The card of a predictor fitted on these arrays."""
    return Card(
        model=predictor.name,
        config=predictor.config(),
        columns=predictor.columns,
        protocol=protocol,
        horizon=horizon,
        window_s=arrays.window_s,
        seed=seed,
        data_hash=data_hash(arrays),
        code_version=code_version,
        audit_passed=verdict.passed,
        audit_windows=len(verdict.windows),
        synthetic=arrays.synthetic,
        untimely=arrays.untimely,
    )


def data_hash(arrays: PathArrays) -> str:
    """SHA-256 over every array, with its name, type and shape; the same on every machine."""
    digest = hashlib.sha256()
    for name, values in _parts("", arrays):
        digest.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _parts(prefix: str, whole: PathArrays | Ends) -> list[tuple[str, NDArray[Any]]]:
    parts: list[tuple[str, NDArray[Any]]] = []
    for field in fields(whole):
        value = getattr(whole, field.name)
        name = f"{prefix}{field.name}"
        if isinstance(value, Ends):
            parts += _parts(f"{name}.", value)
            continue
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


def save(predictor: Predictor, about: Card, folder: Path) -> None:
    """Write a fitted predictor. While it cannot be written whole, a model that is already there stays as it was.

    Both files are written aside and flushed to the disk, and then take their places, arrays first. A kill between the two leaves new
    arrays beside an old description, or none: `load` refuses them, and saving again mends it.

    Args:
        predictor: fitted.
        about: its card.
        folder: is made when missing; a model in it is replaced.

    Raises:
        ArtefactError: when the folder cannot be written.
    """
    tensors = dump_tensors({name: np.array(array, order="C") for name, array in predictor.state().items()})
    described = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "units": UNITS,
        "tensors_sha256": hashlib.sha256(tensors).hexdigest(),
        **{field.name: getattr(about, field.name) for field in fields(about)},
    }
    contents = {TENSORS: tensors, DESCRIPTION: (json.dumps(described, indent=2) + "\n").encode()}
    aside = {name: folder / f"{name}.new" for name in contents}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            for name, content in contents.items():
                _write_through(aside[name], content)
            for name in contents:
                aside[name].replace(folder / name)
        finally:
            for file in aside.values():
                file.unlink(missing_ok=True)
    except OSError as error:
        raise ArtefactError("a model cannot be saved", where=str(folder), found=str(error)) from error


def _write_through(file: Path, content: bytes) -> None:
    with file.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def load(folder: Path) -> tuple[Predictor, Card]:
    """Read a fitted predictor; it predicts bit for bit as the one that was saved.

    Raises:
        ArtefactError: when it is not one of ours, damaged, of another version, or not whole.
    """
    described, tensors = _read(folder)
    where = str(folder)
    wanted = {"format": FORMAT, "format_version": FORMAT_VERSION, "units": UNITS}
    for key, value in wanted.items():
        if described.get(key) != value:
            raise ArtefactError(
                "not a model of this format",
                where=where,
                found=f"{key} {described.get(key)!r}",
                expected=repr(value),
                next_step="train the model again with this version",
            )
    if described.get("tensors_sha256") != hashlib.sha256(tensors).hexdigest():
        raise ArtefactError(
            "a damaged model: its arrays are not those that it was saved with",
            where=where,
            found=f"another SHA-256 of {TENSORS} than {DESCRIPTION} says; saving may have been cut short",
            next_step="train it again",
        )
    about = _card(described, where)
    try:
        state = parse_tensors(tensors)
        predictor = _made(predictor_class(about.model), about.config, where)
    except (SafetensorError, UnknownNameError, DataError) as error:
        raise ArtefactError("a model that cannot be read", where=where, found=str(error)) from error
    predictor.restore(state, about.columns)
    return predictor, about


def _read(folder: Path) -> tuple[dict[str, Any], bytes]:
    try:
        described = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        tensors = (folder / TENSORS).read_bytes()
    except (OSError, ValueError) as error:
        raise ArtefactError(
            "no readable model",
            where=str(folder),
            found=str(error),
            expected=f"{DESCRIPTION} and {TENSORS}, as saved by training",
        ) from error
    if not isinstance(described, dict):
        raise ArtefactError("not a model of this format", where=str(folder), expected="a JSON object")
    return described, tensors


_CARD_TYPES: Mapping[str, tuple[type, ...]] = {
    "model": (str,),
    "config": (dict,),
    "columns": (list,),
    "protocol": (str,),
    "horizon": (int, type(None)),
    "window_s": (int,),
    "seed": (int,),
    "data_hash": (str,),
    "code_version": (str,),
    "audit_passed": (bool,),
    "audit_windows": (int,),
    "synthetic": (bool,),
    "untimely": (int,),
}


def _card(described: Mapping[str, Any], where: str) -> Card:
    described = {"untimely": 0} | dict(described)  # before there was a rule, none was left out
    wrong = [name for name, types in _CARD_TYPES.items() if not isinstance(described.get(name, ...), types)]
    extra = described.keys() - _CARD_TYPES.keys() - {"format", "format_version", "units", "tensors_sha256"}
    if wrong or extra:
        raise ArtefactError(
            "a model whose description is not whole",
            where=where,
            found=f"missing or wrong: {', '.join(wrong) or 'none'}; not known: {', '.join(sorted(extra)) or 'none'}",
        )
    values = {name: described[name] for name in _CARD_TYPES}
    return Card(**{**values, "columns": tuple(str(name) for name in described["columns"])})


def _made(kind: type[Predictor], config: Mapping[str, int | float], where: str) -> Predictor:
    """The unfitted predictor with these settings, which must be exactly the ones its kind has."""
    usual = kind().config()
    typed = config.keys() == usual.keys() and all(
        type(config[name]) is type(value) for name, value in usual.items()
    )
    if not typed:
        raise ArtefactError(
            "a model with other settings than its kind has",
            where=where,
            found=", ".join(f"{name}={value}" for name, value in sorted(config.items())) or "none",
            expected=", ".join(sorted(usual)) or "none",
        )
    return kind.configured(config)
