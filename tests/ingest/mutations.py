"""Real records, damaged at random, and what of them must still be understood."""

from __future__ import annotations

import bz2
import gzip
import json
import math
import random
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

KINDS = ("ping", "traceroute")


FIRST_BYTES = 1 << 20
"""How much of a large recorded file the tests look at: they look at every file."""


@cache
def first_lines(path: Path) -> list[bytes]:
    """The first records of a recorded file, a line each."""
    content = path.read_bytes()
    if path.suffix == ".bz2":
        content = bz2.BZ2Decompressor().decompress(content, FIRST_BYTES)
    elif path.suffix == ".gz":
        return gzip.decompress(content).splitlines()
    whole = content if len(content) < FIRST_BYTES else content[: content.rindex(b"\n")]
    return whole.splitlines()


def recorded_files(recorded: Path) -> list[Path]:
    """Every file of recorded results."""
    return sorted(path for path in (recorded / "atlas").glob("*/*") if ".ndjson" in path.suffixes)


def mutated(lines: list[bytes], count: int, seed: int) -> Iterator[bytes]:
    """`count` records, each damaged in one to three ways; the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311
    for _ in range(count):
        record = chance.choice(lines)
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            record = chance.choice(_DAMAGES)(record, chance)
        yield record


def _flip_bytes(record: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(record)
    for _ in range(chance.choice((1, 1, 2, 8))):
        if damaged:
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def _put_bytes(record: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(record) + 1)
    put = chance.choice(
        (b" ", b"\r\n", b"0", b"-", b"e5", b'"', b",", b"}", b"]", b"\\", b"\\u0000", b"\x00", b"\xc3\xa9", b"null", b"1" * 400)
    )  # fmt: skip
    return record[:at] + put + record[at + chance.choice((0, len(put))) :]


def _cut(record: bytes, chance: random.Random) -> bytes:
    return record[: chance.randrange(len(record) + 1)]


def _repeat_a_key(record: bytes, chance: random.Random) -> bytes:
    key = chance.choice(("msm_id", "type", "rtt", "timestamp", "result", "from", "x", "hop", "lts"))
    value = chance.choice(("1", "null", '"ping"', "[]", "1557705600", '"192.0.2.1"', "1.5"))
    places = [place for place in range(len(record)) if record[place : place + 1] == b"{"]
    at = chance.choice(places) + 1 if places else 0
    return record[:at] + f'"{key}":{value},'.encode() + record[at:]


def _write_otherwise(record: bytes, chance: random.Random) -> bytes:
    value = _value(record)
    if value is None:
        return record
    return json.dumps(
        value,
        indent=chance.choice((None, 1)),
        ensure_ascii=chance.random() < 0.5,
        sort_keys=chance.random() < 0.5,
    ).encode("utf-8", "surrogatepass")


def _drop(record: bytes, chance: random.Random) -> bytes:
    def drop(container: Any, key: Any) -> None:
        del container[key]

    return _changed(record, chance, drop)


def _replace(record: bytes, chance: random.Random) -> bytes:
    def replace(container: Any, key: Any) -> None:
        container[key] = chance.choice(_VALUES)(container[key], chance)

    return _changed(record, chance, replace)


def _rename(record: bytes, chance: random.Random) -> bytes:
    def rename(container: Any, key: Any) -> None:
        if isinstance(container, dict):
            container[chance.choice((f" {key}", key.upper(), "", "name", "é", "addr", "mode"))] = (
                container.pop(key)
            )

    return _changed(record, chance, rename)


def _nest(record: bytes, chance: random.Random) -> bytes:
    depth = chance.choice((10, 40, 100, 1100, 20_000))
    opening, closing = chance.choice((("[", "]"), ('{"a":', "}")))
    deep = f"{opening * depth}1{closing * depth}".encode()
    return _replace_text(record, chance, deep)


def _replace_text(record: bytes, chance: random.Random, text: bytes) -> bytes:
    mark = f"mark-{chance.randrange(10**9)}"

    def replace(container: Any, key: Any) -> None:
        container[key] = mark

    return _changed(record, chance, replace).replace(f'"{mark}"'.encode(), text)


def _value(record: bytes) -> Any:
    try:
        return json.loads(record)
    except (ValueError, RecursionError):
        return None


def _changed(record: bytes, chance: random.Random, change: Callable[[Any, Any], None]) -> bytes:
    """The record with one value changed, wherever in it."""
    value = _value(record)
    container: Any = value
    while isinstance(container, dict | list) and container:
        key = (
            chance.choice(list(container))
            if isinstance(container, dict)
            else chance.randrange(len(container))
        )
        inner = container[key]
        if not isinstance(inner, dict | list) or not inner or chance.random() < 0.3:
            change(container, key)
            break
        container = inner
    else:
        return record
    return json.dumps(value, separators=chance.choice(((",", ":"), (", ", ": ")))).encode()


_VALUES: tuple[Callable[[Any, random.Random], Any], ...] = (
    lambda value, _: str(value),
    lambda value, _: [value],
    lambda value, _: {"value": value},
    lambda value, _: value * 1.0 if isinstance(value, int) else 7,
    lambda value, chance: value + chance.choice((1, -1)) if isinstance(value, int) else value,
    lambda *_: None,
    lambda *_: True,
    lambda *_: "",
    lambda *_: "::1%é",
    lambda *_: "2001:DB8::0:1",
    lambda *_: "::ffff:192.0.2.1",
    lambda *_: -1,
    lambda *_: 0,
    lambda *_: 0.0,
    lambda *_: 2**70,
    lambda *_: -(10**300),
    lambda *_: 10**18,
    lambda *_: 1e308,
    lambda *_: 1e-7,
    lambda *_: math.nan,
    lambda *_: -math.inf,
    lambda _, chance: chance.uniform(0, 1000),
)

_DAMAGES = (
    _flip_bytes, _put_bytes, _cut, _repeat_a_key, _write_otherwise, _drop, _drop, _replace, _replace, _replace, _rename, _nest,
)  # fmt: skip


def must_be_understood(record: bytes) -> bool:
    """Whether what a result needs is certainly there: plain types, plain values. Written from the issue, not from the parser."""
    value = _value(record)
    if not isinstance(value, dict) or any(key.startswith(" ") for key in value):
        return False
    for key, low, high in (
        ("msm_id", 0, 2**63 - 1), ("prb_id", 0, 2**63 - 1), ("timestamp", 1_262_304_000, 4_102_444_799)
    ):  # fmt: skip
        if type(value.get(key)) is not int or not low <= value[key] <= high:
            return False
    result = value.get("result")
    items = [item for item in result if isinstance(item, dict)] if isinstance(result, list) else []
    if value.get("type") == "ping":
        sent, received = value.get("sent"), value.get("rcvd")
        counted = type(sent) is int and type(received) is int and 0 <= received <= sent <= 1000
        return counted or any(
            (item.keys() == {"x"} and item["x"] == "*") or _answered(item) for item in items
        )
    return value.get("type") == "traceroute" and any(
        type(item.get("hop")) is int and 0 <= item["hop"] <= 255 and isinstance(item.get("result"), list)
        for item in items
    )


def _answered(packet: dict[str, Any]) -> bool:
    return packet.keys() == {"rtt"} and type(packet["rtt"]) is float and 0.0 <= packet["rtt"] <= 10_000.0
