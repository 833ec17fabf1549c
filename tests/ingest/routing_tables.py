"""Routing tables in MRT, written byte by byte as RFC 6396 (4.3) and RFC 8050 have them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ipaddress import ip_network

AT = 1_600_000_000
SEQUENCE, SET, CONFEDERATION = 2, 1, 3

Path = Sequence[tuple[int, Sequence[int]]]


def record(kind: int, subtype: int, content: bytes, at: int = AT) -> bytes:
    return struct.pack(">IHHI", at, kind, subtype, len(content)) + content


def attribute(kind: int, value: bytes, *, extended: bool = False) -> bytes:
    if extended:
        return struct.pack(">BBH", 0x50, kind, len(value)) + value
    return struct.pack(">BBB", 0x40, kind, len(value)) + value


def as_path(path: Path) -> bytes:
    return b"".join(
        struct.pack(">BB", kind, len(asns)) + struct.pack(f">{len(asns)}I", *asns) for kind, asns in path
    )


def peers(count: int) -> bytes:
    each = b"".join(
        struct.pack(">B4s4sI", 2, bytes([192, 0, 2, n]), bytes([198, 51, 100, n]), 64500 + n)
        for n in range(count)
    )
    return record(
        13, 1, bytes([192, 0, 2, 1]) + struct.pack(">H", 4) + b"view" + struct.pack(">H", count) + each
    )


def rib(
    prefix: str, *paths: Path, number: int = 0, additional: bool = False, extended: bool = False
) -> bytes:
    network = ip_network(prefix)
    packed = network.network_address.packed[: (network.prefixlen + 7) // 8]
    entries = b""
    for peer, path in enumerate(paths):
        attributes = (
            attribute(1, b"\0")
            + (attribute(2, as_path(path), extended=extended) if path is not None else b"")
            + attribute(3, b"\1\2\3\4")
        )
        entries += struct.pack(">HI", peer, AT - 10) + (b"\0\0\0\7" if additional else b"")
        entries += struct.pack(">H", len(attributes)) + attributes
    subtype = {4: 2, 6: 4}[network.version] + (6 if additional else 0)
    content = struct.pack(">IB", number, network.prefixlen) + packed + struct.pack(">H", len(paths)) + entries
    return record(13, subtype, content)


def ending(*asns: int) -> Path:
    """A path of one sequence."""
    return ((SEQUENCE, (64500, *asns)),)
