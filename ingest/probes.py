"""Probe metadata from the API's objects and from files: JSON in the API's forms, or CSV with a header.

Nothing is guessed: a value that cannot be one (a latitude of 200, a country of three letters) is None, and counted
where it is a position.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from domain.errors import InputError
from domain.probe import Probe
from ingest.compression import read_chunks
from ingest.probe_words import PROBE_SCHEMA

_EXPECTED = "probes or anchors as the Atlas API gives them, or a CSV file with a header (prb_id, lat, lon …)"
_ID_COLUMNS = ("prb_id", "probe_id", "id")
_MOST_BYTES = 1 << 28  # a list of all probes that there ever were has some tens of millions
_HEAD_BYTES = 1 << 10
_MOST_SEPARATORS = {b"{[,\n": 1 << 24, b",;\t| \r\n": 1 << 22}
"""What is between values in JSON and in CSV, and how often: such a list has a few millions, printed prettily ten. Each value takes up
to a hundred bytes of memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """Probes that were read, and what was found on the way.

    Attributes:
        table: rows of `Probe`, in the order of their source.
        read: objects or rows read.
        refused: of them, those that are no probe, or have no usable id; they are not in the table.
        without_position, without_as: rows of the table that lack a position, or both AS numbers.
        bad_positions: rows whose position was stated and is none; it is None in the table.
        bad_values: AS numbers, countries, addresses and prefixes that were stated and are none; each is None in the table.
    """

    table: pa.Table
    read: int
    refused: int
    without_position: int
    without_as: int
    bad_positions: int
    bad_values: int


def read_probes(path: Path) -> Probes:
    """Read a file of probes or anchors, plain or compressed, of at most 256 MiB of content.

    Raises:
        NotFoundError: when there is no such file.
        TruncatedError: when it is compressed and cut.
        InputError: when it cannot be read, is larger than any such list, or holds no probe.
    """
    content = read_whole(path, _EXPECTED)
    objects = _json_objects(content) if content[:1] in (b"[", b"{") else _csv_rows(content)
    if objects is None:
        raise InputError(
            "not a list of probes", where=str(path), found=repr(content[:40]), expected=_EXPECTED
        )
    probes = probes_table(objects)
    if probes.table.num_rows == 0:
        raise InputError(
            "a file without probes",
            where=str(path),
            found=f"{probes.read} objects, none of them a probe with an id",
            expected=_EXPECTED,
        )
    return probes


def read_whole(path: Path, expected: str) -> bytes:
    """The content of a list of probes or nodes, plain or compressed, without a byte-order mark and blanks around it.

    Raises:
        NotFoundError: when there is no such file.
        TruncatedError: when it is compressed and cut.
        InputError: when it cannot be read, or is larger than any such list.
    """
    read = bytearray()
    separators = 0
    for chunk in read_chunks(path):
        read += chunk
        json, cells = _MOST_SEPARATORS
        head = bytes(read[:_HEAD_BYTES]).lstrip(b"\xef\xbb\xbf \t\r\n")
        between = json if head.startswith((b"[", b"{")) else cells
        separators += sum(chunk.count(one) for one in between)
        if len(read) > _MOST_BYTES or separators > _MOST_SEPARATORS[between]:
            raise InputError(
                "a list that is too large",
                where=str(path),
                found=f"at least {len(read)} bytes of content, with {separators} values or more",
                expected=f"at most {_MOST_BYTES} bytes and {_MOST_SEPARATORS[between]} values; {expected}",
            )
    return bytes(read.removeprefix(b"\xef\xbb\xbf").strip())


def probes_table(objects: Iterable[object], *, least_id: int = 1) -> Probes:
    """Turn API objects (or rows of a CSV file) into a table of probes; an id below the least is none."""
    columns: dict[str, list[Any]] = {name.name: [] for name in fields(Probe)}
    read = refused = bad_positions = bad_values = 0
    for one in objects:
        read += 1
        try:
            values = _probe(one, least_id) if isinstance(one, Mapping) else None
        except RecursionError:  # a value nested a thousand levels deep is no probe's
            values = None
        if values is None:
            refused += 1
            continue
        bad_positions += values.pop("position_is_bad")
        bad_values += values.pop("bad_values")
        for name, column in columns.items():
            column.append(values[name])
    table = pa.table(columns, schema=PROBE_SCHEMA)
    return Probes(
        table=table,
        read=read,
        refused=refused,
        without_position=table.column("latitude").null_count,
        without_as=sum(
            v4 is None and v6 is None for v4, v6 in zip(columns["asn_v4"], columns["asn_v6"], strict=True)
        ),
        bad_positions=bad_positions,
        bad_values=bad_values,
    )


def _json_objects(content: bytes) -> list[object] | None:
    """The objects in any of the JSON forms; None when it is not JSON."""
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        try:
            return [orjson.loads(line) for line in content.splitlines() if line.strip()]
        except orjson.JSONDecodeError:
            return None
    if isinstance(document, dict):
        if isinstance(document.get("results"), list):  # a page of the API
            return list(document["results"])
        for table in (document.get("prb_meta"), document):  # id -> object
            if isinstance(table, dict) and table and all(str(key).isdigit() for key in table):
                return list(table.values())
        return [document]
    return list(document)


def _csv_rows(content: bytes) -> list[object] | None:
    """The rows, empty cells left out; None when it is not CSV with a column of probe ids.

    A row with more or fewer cells than the header is None: of a row that was cut, the last cell may be half a number.
    """
    try:
        text = io.TextIOWrapper(io.BytesIO(content), "utf-8", newline="")
        reader = csv.DictReader(text, strict=True)
        names = reader.fieldnames
        if names is None or not any(name in names for name in _ID_COLUMNS):
            return None
        return [
            None
            if None in row or None in row.values()
            else {key: value for key, value in row.items() if value}
            for row in reader
        ]
    except (UnicodeDecodeError, csv.Error):
        return None


def _probe(one: Mapping[str, Any], least_id: int) -> dict[str, Any] | None:
    """The values of `Probe`'s fields, and how many were stated that are none; None when it is no probe."""
    # Results and measurements have ids too; only an object without a type may be taken for a probe.
    if "msm_id" in one or str(one.get("type") or "probe").lower() not in ("probe", "anchor"):
        return None
    is_anchor_object = "fqdn" in one
    probe_id = _whole(one.get("probe") if is_anchor_object else _first(one, *_ID_COLUMNS))
    if probe_id is None or probe_id < least_id:
        return None
    latitude, longitude = _number(_first(one, "latitude", "lat")), _number(_first(one, "longitude", "lon"))
    stated = latitude is not None or longitude is not None
    geometry = one.get("geometry")
    if isinstance(geometry, Mapping):
        coordinates = geometry.get("coordinates")
        if isinstance(coordinates, list) and len(coordinates) >= 2:  # GeoJSON: longitude first
            stated = True
            longitude, latitude = _number(coordinates[0]), _number(coordinates[1])
    good = (
        latitude is not None and longitude is not None and abs(latitude) <= 90.0 and abs(longitude) <= 180.0
    )
    status = _first(one, "status_name", "status")
    told = {field: _first(one, *keys) for field, (keys, _) in _STATED.items()}
    values = {field: read(told[field]) for field, (_, read) in _STATED.items()}
    return {
        "probe_id": probe_id,
        "latitude": latitude if good else None,
        "longitude": longitude if good else None,
        **values,
        "is_anchor": True if is_anchor_object else _truth(one.get("is_anchor")),
        "name": _text(_first(one, "fqdn", "name", "description")),
        "status": _text(status.get("name") if isinstance(status, Mapping) else status),
        "host": _text(one.get("host")),
        "synthetic": _truth(one.get("synthetic")) is True,
        "position_is_bad": stated and not good,
        # An empty word, or an AS 0, is how lists say that they do not know.
        "bad_values": sum(
            values[field] is None and word not in (None, "", 0, "0") for field, word in told.items()
        ),
    }


def _first(one: Mapping[str, Any], *keys: str) -> Any:
    for key in keys:
        if one.get(key) is not None:
            return one[key]
    return None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _whole(value: Any) -> int | None:
    number = _number(value)
    return int(number) if number is not None and number.is_integer() and abs(number) < 2**53 else None


def _asn(value: Any) -> int | None:
    asn = _whole(value.upper().removeprefix("AS") if isinstance(value, str) else value)
    return asn if asn is not None and 0 < asn < 2**32 else None


def _truth(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in ("true", "1", "yes"):
        return True
    return False if word in ("false", "0", "no") else None


def _text(value: Any) -> str | None:
    if not isinstance(value, str) or not value.strip():
        return None
    return value.strip().encode("utf-8", "backslashreplace").decode()


def _country(value: Any) -> str | None:
    code = value.strip().upper() if isinstance(value, str) else ""
    return code if len(code) == 2 and code.isascii() and code.isalpha() else None


def _address(value: Any, version: int) -> str | None:
    try:
        address = ip_address(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return address.compressed if address is not None and address.version == version else None


def _prefix(value: Any, version: int) -> str | None:
    try:
        prefix = ip_network(value, strict=False) if isinstance(value, str) else None
    except ValueError:
        return None
    return prefix.compressed if prefix is not None and prefix.version == version else None


_STATED: dict[str, tuple[tuple[str, ...], Callable[[Any], Any]]] = {
    "asn_v4": (("asn_v4", "as_v4"), _asn),
    "asn_v6": (("asn_v6", "as_v6"), _asn),
    "country": (("country_code", "country"), _country),
    "address_v4": (("address_v4", "ip_v4"), partial(_address, version=4)),
    "address_v6": (("address_v6", "ip_v6"), partial(_address, version=6)),
    "prefix_v4": (("prefix_v4",), partial(_prefix, version=4)),
    "prefix_v6": (("prefix_v6",), partial(_prefix, version=6)),
}
"""Field of `Probe` -> the names that lists have for it, and what reads its value; None when that is none."""
