"""Profiles: how much each metric matters to each application. They are data, read from TOML and checked."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from domain.application import Application
from domain.errors import InputError, NotFoundError

_PROFILES = Path(__file__).parent / "profiles"


class Metric(StrEnum):
    """What an application feels of a path."""

    RTT = "rtt"
    LOSS = "loss"
    JITTER = "jitter"


UNITS: Mapping[Metric, str] = {Metric.RTT: "rtt_ms", Metric.LOSS: "loss_ratio", Metric.JITTER: "jitter_ms"}
"""Metric -> the name, with its unit, under which a profile states it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Weights and anchors of every application.

    Attributes:
        name, version: what a score says it was made with.
        source: where the weights and the anchors are from.
        anchors: metric -> the value, in its unit, from which it has cost all of its weight.
        weights: application -> metric -> share of the score, 0..1, summing to one.
    """

    name: str
    version: int
    source: str
    anchors: Mapping[Metric, float]
    weights: Mapping[Application, Mapping[Metric, float]]

    @property
    def label(self) -> str:
        """Name and version, as scores carry them."""
        return f"{self.name} v{self.version}"


def load_profile(name: str = "table-i") -> Profile:
    """Read a profile that comes with qoetwin.

    Raises:
        NotFoundError: when there is none of that name.
        InputError: when it is not a profile; says which entry.
    """
    known = sorted(path.stem for path in _PROFILES.glob("*.toml"))
    if name not in known:
        raise NotFoundError("no such QoE profile", found=repr(name), expected=" or ".join(known))
    return read_profile(_PROFILES / f"{name}.toml")


def read_profile(path: Path) -> Profile:
    """Read a profile from a TOML file.

    Raises:
        InputError: when it cannot be read or is not a profile; says which entry.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError("not a readable QoE profile", where=path.name, found=str(error)) from error
    anchors = _table(data, "anchors", path)
    applications = _table(data, "applications", path)
    version = data.get("version")
    if not isinstance(version, int) or isinstance(version, bool):
        raise _bad(path, "version", version, "a whole number")
    return Profile(
        name=_text(data, "name", path),
        version=version,
        source=f"{_text(applications, 'source', path)} {_text(anchors, 'source', path)}",
        anchors={metric: _positive(anchors, unit, path, "anchors") for metric, unit in UNITS.items()},
        weights={application: _weights(applications, application, path) for application in Application},
    )


def _weights(applications: Mapping[str, object], application: Application, path: Path) -> dict[Metric, float]:
    where = f"applications.{application}"
    table = _table(applications, application, path)
    unknown = sorted(set(table) - set(Metric))
    if unknown:
        raise _bad(path, f"{where}.{unknown[0]}", unknown[0], "rtt, loss or jitter")
    weights = {metric: _share(table, metric, path, where) for metric in Metric}
    if not math.isclose(sum(weights.values()), 1.0, abs_tol=1e-9):
        raise _bad(path, where, f"weights that sum to {sum(weights.values()):g}", "a sum of 1")
    return weights


def _share(table: Mapping[str, object], name: str, path: Path, where: str) -> float:
    value = table.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0.0 <= value <= 1.0:
        raise _bad(path, f"{where}.{name}", value, "a number from 0 to 1")
    return float(value)


def _positive(table: Mapping[str, object], name: str, path: Path, where: str) -> float:
    value = table.get(name)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(float(str(value))) or float(str(value)) <= 0.0:
        raise _bad(path, f"{where}.{name}", value, "a number above 0")
    return float(str(value))


def _table(data: Mapping[str, object], name: str, path: Path) -> dict[str, object]:
    value = data.get(name)
    if not isinstance(value, dict):
        raise _bad(path, name, value, "a table")
    return value


def _text(data: Mapping[str, object], name: str, path: Path) -> str:
    value = data.get(name)
    if not isinstance(value, str) or value == "":
        raise _bad(path, name, value, "a text")
    return value


def _bad(path: Path, entry: str, found: object, expected: str) -> InputError:
    return InputError(
        "not a QoE profile", where=f"{path.name}, {entry}", found=repr(found), expected=expected
    )
