"""Artefacts: a fitted predictor on disk, as safetensors and JSON. Nothing is ever unpickled.

A folder with `model.json`, which says what it is, and `model.safetensors`, which holds every learned array, those of its calibrated
intervals among them. The JSON holds the digest of the arrays, so that the two are known to belong together. The name of the
folder is whoever saves' to choose: names of models may hold a slash, and are no paths.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as parse_tensors
from safetensors.numpy import save as dump_tensors

from domain.errors import ArtefactError, DataError, UnknownNameError
from gnn.audit import Verdict
from gnn.conformal import Calibration
from gnn.fingerprint import data_hash
from gnn.predictor import CALIBRATION, REACH, Array, Calibrated, Predictor
from gnn.protocols import protocol_named
from gnn.reach import Reach
from gnn.registry import predictor_class
from gnn.whole_files import write_whole
from kg.arrays import PathArrays
from kg.schema import VERSION as ONTOLOGY_VERSION

FORMAT = "qoetwin-model"
FORMAT_VERSION = 2
DESCRIPTION, TENSORS = "model.json", "model.safetensors"
UNITS = {"rtt": "ms", "jitter": "ms", "any_loss_probability": "ratio", "loss_ratio": "ratio"}
HEADER = {
    "format": FORMAT,
    "format_version": FORMAT_VERSION,
    "ontology_version": ONTOLOGY_VERSION,
    "units": UNITS,
}
"""What is the same of every model that this version of the program reads."""

CALIBRATED = ("rtt", "jitter")

MOST_DESCRIBED, MOST_TENSORS = 16 * 1024 * 1024, 1024 * 1024 * 1024
"""Bytes of a description, and of arrays, that are read: real ones have some thousands, and some millions."""

LATEST_S = 1 << 40
"""Of times in a description."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a saved model says of itself.

    Attributes:
        model: name in the registry; of a variant, that of the variant.
        config: settings of its constructor.
        columns: names of its numeric inputs, in order.
        protocol, cases: what it was fitted for, and the protocol's cases in windows of that length: intervals are calibrated by them.
        split: which of the protocol's splits it was fitted on.
        window_s: length of the windows it was fitted on.
        seed: of learning.
        data_hash: `data_hash` of the arrays it was fitted on.
        code_version: of the program that fitted it.
        audit_passed, audit_windows: verdict of the leakage audit, and how many windows it looked at.
        audit_perturbed, audit_deleted, audit_added: how many hidden cells were, each counted as often as it was.
        synthetic: True when fitted on data of the testbed.
        untimely: states that were left out, as the time of a result in them is in doubt.
    """

    model: str
    config: Mapping[str, int | float]
    columns: tuple[str, ...]
    protocol: str
    cases: tuple[str, ...]
    split: str
    window_s: int
    seed: int
    data_hash: str
    code_version: str
    audit_passed: bool
    audit_windows: int
    audit_perturbed: int
    audit_deleted: int
    audit_added: int
    synthetic: bool
    untimely: int = 0


def card(
    predictor: Predictor,
    arrays: PathArrays,
    *,
    protocol: str,
    model: str,
    split: str,
    seed: int,
    verdict: Verdict,
    code_version: str,
) -> Card:
    """The card of a predictor fitted on these arrays.

    Args:
        predictor: fitted.
        arrays: as the protocol views them.
        protocol: name of what it was fitted for.
        model: name that it is asked for by.
        split: name of the split that it was fitted on.
        seed: of learning.
        verdict: of the audit.
        code_version: of the program.
    """
    return Card(
        model=model,
        config=predictor.config(),
        columns=predictor.columns,
        protocol=protocol,
        cases=protocol_named(protocol).cases(arrays.window_s),
        split=split,
        window_s=arrays.window_s,
        seed=seed,
        data_hash=data_hash(arrays),
        code_version=code_version,
        audit_passed=verdict.passed,
        audit_windows=len(verdict.windows),
        audit_perturbed=verdict.perturbed,
        audit_deleted=verdict.deleted,
        audit_added=verdict.added,
        synthetic=arrays.synthetic,
        untimely=arrays.untimely,
    )


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
        DataError: when the predictor is not fitted.
    """
    calibrated = predictor.calibrated
    if calibrated is None:
        raise DataError("a predictor that was not fitted", where=predictor.name, next_step="call fit first")
    state = {**predictor.state(), **calibrated.state()}
    tensors = dump_tensors({name: np.array(array, order="C") for name, array in state.items()})
    described = {
        **HEADER,
        "tensors_sha256": hashlib.sha256(tensors).hexdigest(),
        "learned_until_s": calibrated.learned_until_s,
        **{field.name: getattr(about, field.name) for field in fields(about)},
    }
    description = (json.dumps(described, indent=2) + "\n").encode()
    try:
        write_whole({folder / TENSORS: tensors, folder / DESCRIPTION: description})
    except OSError as error:
        raise ArtefactError("a model cannot be saved", where=str(folder), found=str(error)) from error


def load(folder: Path) -> tuple[Predictor, Card]:
    """Read a fitted predictor; it predicts bit for bit as the one that was saved.

    Raises:
        ArtefactError: when it is not one of ours, damaged, of another version or ontology, or not whole.
    """
    described, tensors = _read(folder)
    where = str(folder)
    for key, value in HEADER.items():
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
        cases = protocol_named(about.protocol).cases(about.window_s)
    except (SafetensorError, UnknownNameError, DataError, KeyError, TypeError, ValueError) as error:
        # The last three: types of numbers that NumPy does not have.
        raise ArtefactError("a model that cannot be read", where=where, found=str(error)) from error
    if about.cases != cases:
        raise ArtefactError(
            "a model whose protocol has other cases now",
            where=where,
            found=", ".join(about.cases),
            expected=", ".join(cases),
            next_step="train the model again with this version",
        )
    parts: dict[str, dict[str, Array]] = {"": {}, CALIBRATION: {}, REACH: {}}
    for name, values in state.items():
        of = next((prefix for prefix in (CALIBRATION, REACH) if name.startswith(prefix)), "")
        parts[of][name] = values
    predictor.restore(parts[""], about.columns)
    reach = {name.removeprefix(REACH): values for name, values in parts[REACH].items()}
    predictor.calibrated = Calibrated(
        by_name=_calibrations(parts[CALIBRATION], where),
        learned_until_s=described["learned_until_s"],
        reach=Reach.from_state(reach, where=where),
    )
    return predictor, about


def _calibrations(state: Mapping[str, Array], where: str) -> dict[str, Calibration]:
    """How the intervals of each are widened; what cannot be is refused."""
    by_name: dict[str, dict[str, Array]] = {name: {} for name in CALIBRATED}
    wrong: list[str] = []
    for full, values in state.items():
        name, _, key = full.removeprefix(CALIBRATION).partition(".")
        if name not in by_name or values.dtype != np.float64:
            wrong.append(f"{full} {values.dtype}")
        else:
            by_name[name][key] = values
    if wrong:
        raise ArtefactError(
            "a saved calibration with arrays of another name or type",
            where=where,
            found=", ".join(sorted(wrong)),
            expected=f"float64 arrays of {' and '.join(CALIBRATED)}",
        )
    found: dict[str, Calibration] = {}
    for name, own in by_name.items():
        counts = [own[key] for key in ("cases", "cells", "levels") if key in own]
        one = None
        if all(np.isfinite(values).all() for values in counts):
            one = Calibration.from_state(own, where=f"{where}, {name}")
        if one is None or not _makes_sense(one):
            raise ArtefactError(
                "a saved calibration that makes no sense",
                where=f"{where}, {name}",
                expected="finite widths, and cases and levels in order",
                next_step="train the model again",
            )
        found[name] = one
    return found


def _makes_sense(calibration: Calibration) -> bool:
    levels, widths = calibration.levels, calibration.typical_width_ms[calibration.cells > 0]
    return bool(
        (np.diff(levels) > 0.0).all()
        and (levels > 0.0).all()
        and (levels < 1.0).all()
        and (np.diff(calibration.cases) > 0).all()
        and (calibration.cells >= 0).all()
        and np.isfinite(widths).all()
        and (widths >= 0.0).all()
        and np.isfinite(calibration.least_width_ms)
        and calibration.least_width_ms >= 0.0
        and not np.isinf(calibration.factors).any()
    )


def _read(folder: Path) -> tuple[dict[str, Any], bytes]:
    try:
        described = json.loads(_content(folder / DESCRIPTION, MOST_DESCRIBED).decode("utf-8"))
        tensors = _content(folder / TENSORS, MOST_TENSORS)
    except (OSError, ValueError, RecursionError) as error:
        raise ArtefactError(
            "no readable model",
            where=str(folder),
            found=str(error),
            expected=f"{DESCRIPTION} and {TENSORS}, as saved by training",
            next_step="train it: qoetwin train MODEL --protocol PROTOCOL",
        ) from error
    if not isinstance(described, dict):
        raise ArtefactError("not a model of this format", where=str(folder), expected="a JSON object")
    return described, tensors


def _content(file: Path, most: int) -> bytes:
    """What is in a file; of what is none, such as a pipe, reading might never end.

    Raises:
        OSError: when it is no file, or cannot be read.
        ValueError: when it is too long.
    """
    if not file.is_file():
        raise FileNotFoundError(f"no file {file.name}")
    with file.open("rb") as stream:
        content = stream.read(most + 1)
    if len(content) > most:
        raise ValueError(f"{file.name} of more than {most} bytes")
    return content


_CARD_TYPES: Mapping[str, tuple[type, ...]] = {
    "model": (str,),
    "config": (dict,),
    "columns": (list,),
    "protocol": (str,),
    "cases": (list,),
    "split": (str,),
    "window_s": (int,),
    "seed": (int,),
    "data_hash": (str,),
    "code_version": (str,),
    "audit_passed": (bool,),
    "audit_windows": (int,),
    "audit_perturbed": (int,),
    "audit_deleted": (int,),
    "audit_added": (int,),
    "synthetic": (bool,),
    "untimely": (int,),
}


def _card(described: Mapping[str, Any], where: str) -> Card:
    types = {**_CARD_TYPES, "learned_until_s": (int, type(None))}
    # A flag is no number here, though Python's bool is an int.
    wrong = [name for name, kinds in types.items() if type(described.get(name, ...)) not in kinds]
    wrong += [
        name
        for name in ("columns", "cases")
        if name not in wrong and not all(isinstance(one, str) for one in described[name])
    ]
    counts = {"seed", "untimely", *(f"audit_{of}" for of in ("windows", "perturbed", "deleted", "added"))}
    wrong += [name for name in sorted(counts) if name not in wrong and described[name] < 0]
    if "window_s" not in wrong and not 1 <= described["window_s"] <= LATEST_S:
        wrong.append("window_s")
    if "learned_until_s" not in wrong and not 0 <= (described["learned_until_s"] or 0) <= LATEST_S // 4:
        wrong.append("learned_until_s")
    if "audit_passed" not in wrong and not described["audit_passed"]:
        wrong.append("audit_passed")  # such a model is not saved
    if "code_version" not in wrong and not described["code_version"].isprintable():
        wrong.append("code_version")
    extra = described.keys() - types.keys() - HEADER.keys() - {"tensors_sha256"}
    if wrong or extra:
        raise ArtefactError(
            "a model whose description is not whole",
            where=where,
            found=f"missing or wrong: {', '.join(wrong) or 'none'}; not known: {', '.join(sorted(extra)) or 'none'}",
        )
    values = {name: described[name] for name in _CARD_TYPES}
    return Card(**{**values, "columns": tuple(described["columns"]), "cases": tuple(described["cases"])})


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
