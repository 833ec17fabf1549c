"""Routing tables in MRT (RFC 6396, TABLE_DUMP_V2; with additional paths, RFC 8050): who announces which prefix.

Only what is needed of a table is read: of each route its prefix, and the end of its AS path.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from domain.errors import InputError, TruncatedError
from ingest.compression import read_chunks

_HEADER = struct.Struct(">IHHI")
_TABLE_DUMP, _TABLE_DUMP_V2, _BGP4MP, _BGP4MP_ET = 12, 13, 16, 17
_TYPES = (_TABLE_DUMP, _TABLE_DUMP_V2, _BGP4MP, _BGP4MP_ET)
_PEER_INDEX_TABLE = 1
_UNICAST = {2: (4, 4, 0), 4: (6, 16, 0), 8: (4, 4, 4), 10: (6, 16, 4)}
"""Subtype -> address family, bytes of an address, bytes of a path identifier."""
_LONGEST_RECORD = 1 << 26
_AS_PATH, _AS_SET, _AS_SEQUENCE = 2, 1, 2
_EXTENDED_LENGTH = 0x10


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A prefix of a routing table, and all that announce it.

    Attributes:
        family: 4 or 6.
        address: of the network, in 4 or 16 bytes.
        length: bits of the prefix.
        origins: ASes at the end of its paths, sorted; of a path that ends in a set, all of the set.
        at: seconds since the epoch; when the table was written.
    """

    family: int
    address: bytes
    length: int
    origins: tuple[int, ...]
    at: int


def is_mrt(head: bytes) -> bool:
    """Do these first bytes begin a file in MRT?"""
    return len(head) >= _HEADER.size and _HEADER.unpack_from(head)[1] in _TYPES


def read_table(path: Path) -> Iterator[Route]:
    """Read a routing table, plain or compressed, record by record.

    Raises:
        NotFoundError: when there is no such file.
        TruncatedError: when it is cut.
        InputError: when it cannot be read, is damaged, or is MRT of another kind (updates, or the table of before 2008).
    """
    for number, (at, kind, subtype, body) in enumerate(_records(path)):
        where = f"{path}, record {number}"
        if kind != _TABLE_DUMP_V2:
            raise InputError(
                "MRT that is no routing table of version 2",
                where=where,
                found=f"type {kind}",
                expected=f"type {_TABLE_DUMP_V2} (TABLE_DUMP_V2), such as the rib or bview files of Route Views and RIPE RIS",
            )
        if subtype not in _UNICAST:  # peers, multicast
            continue
        try:
            route = _route(at, subtype, body)
        except (struct.error, IndexError, ValueError) as error:
            raise InputError(
                "a damaged routing table",
                where=where,
                found=str(error),
                expected="a RIB entry as in RFC 6396, 4.3",
            ) from error
        yield route


def _records(path: Path) -> Iterator[tuple[int, int, int, bytes]]:
    """Time, type, subtype and content of each record."""
    pending, offset = b"", 0
    for chunk in read_chunks(path):
        pending, offset = pending[offset:] + chunk, 0
        while len(pending) - offset >= _HEADER.size:
            at, kind, subtype, length = _HEADER.unpack_from(pending, offset)
            if length > _LONGEST_RECORD:
                raise InputError(
                    "a damaged routing table",
                    where=str(path),
                    found=f"a record of {length} bytes",
                    expected="MRT",
                )
            end = offset + _HEADER.size + length
            if end > len(pending):
                break
            yield at, kind, subtype, pending[offset + _HEADER.size : end]
            offset = end
    if offset < len(pending):
        raise TruncatedError(
            "a file that is cut",
            where=str(path),
            found="it ends in the middle of a record",
            expected="a whole routing table",
        )


def _route(at: int, subtype: int, body: bytes) -> Route:
    family, width, path_bytes = _UNICAST[subtype]
    length = body[4]  # after a sequence number
    if length > 8 * width:
        raise ValueError(f"a prefix of {length} bits")
    size = (length + 7) // 8
    address = body[5 : 5 + size].ljust(width, b"\0")
    (entries,) = struct.unpack_from(">H", body, 5 + size)
    offset = 7 + size
    origins: set[int] = set()
    before = len(body)
    for _ in range(entries):
        offset += 6 + path_bytes  # peer, time, path
        end = offset + 2 + (body[offset] << 8 | body[offset + 1])
        if end > before:
            raise ValueError("attributes that are longer than their record")
        origins.update(_origins(body, offset + 2, end))
        offset = end
    if offset != before:
        raise ValueError(f"{before - offset} bytes after the last entry")
    number = int.from_bytes(address, "big")
    spare = 8 * width - length
    address = (number >> spare << spare).to_bytes(width, "big")  # what lies beyond the length means nothing
    return Route(family=family, address=address, length=length, origins=tuple(sorted(origins)), at=at)


def _origins(body: bytes, offset: int, end: int) -> Iterable[int]:
    """The ASes at the end of the AS path among these attributes; in this format numbers have four bytes."""
    while offset < end:
        flags, kind = body[offset], body[offset + 1]
        if flags & _EXTENDED_LENGTH:
            begin = offset + 4
            after = begin + (body[offset + 2] << 8 | body[offset + 3])
        else:
            begin = offset + 3
            after = begin + body[offset + 2]
        if after > end:
            raise ValueError("an attribute that is longer than its entry")
        if kind == _AS_PATH:
            return _last(body, begin, after)
        offset = after
    return ()


def _last(body: bytes, offset: int, end: int) -> Iterable[int]:
    found: Iterable[int] = ()
    while offset < end:
        kind, count = body[offset], body[offset + 1]
        after = offset + 2 + 4 * count
        if after > end:
            raise ValueError("an AS path that is longer than its attribute")
        if kind == _AS_SEQUENCE and count > 0:
            found = (int.from_bytes(body[after - 4 : after], "big"),)
        elif kind == _AS_SET:
            found = struct.unpack_from(f">{count}I", body, offset + 2)
        offset = after
    return found
