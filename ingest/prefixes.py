"""Which AS announces which prefix, from a file; and which prefix holds an address.

The file is, plain or compressed, and told by its content:

    CSV             with the header `prefix,asn`; a prefix that several ASes announce has a line for each
    pfx2as          of CAIDA (routeviews-prefix2as): prefix, length, AS, tabs between; `1_2` are several origins, `1,2` is a set
    MRT             a routing table of Route Views or RIPE RIS (`ingest.mrt`)
    bgpdump -m      the same as text: `TABLE_DUMP2|1600000000|B|peer|AS|prefix|path|origin|…`

Who announces a prefix is at the end of the path, all of them where that is a set. A default route in a
routing table announces nothing: it says where the rest goes. A line of text has at most a MiB.
"""

from __future__ import annotations

import csv
import re
import socket
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from domain.errors import InputError, TruncatedError
from ingest.compression import read_chunks
from ingest.mrt import is_mrt, read_table

MATCH_SCHEMA = pa.schema(
    [
        pa.field("address", pa.string(), nullable=False),
        pa.field("prefix", pa.string()),
        pa.field("asn", pa.int64()),
    ]
)
"""Columns of `Prefixes.match`."""

_COLUMNS = ("prefix", "asn")
_BOM = b"\xef\xbb\xbf"
_HEAD_BYTES = 4096
_LINE_BYTES = 1 << 20
_SHOWN = 80  # of what was found, in errors
_MOST_ASN = 2**32 - 1
_BYTES = 16
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_LONGEST = {4: 32, 6: 128}

Numbers = NDArray[np.uint64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefixes:
    """P announcements, each once. IPv4 is kept in the topmost 32 of 128 bits.

    Attributes:
        family: (P,) 4 or 6.
        high, low: (P,) the upper and the lower 64 bits of the network's address.
        length: (P,) bits of the prefix.
        asn: (P,) who announces it.
        at: when it was so, where the file says it: routing tables do.
    """

    family: Ints
    high: Numbers
    low: Numbers
    length: Ints
    asn: Ints
    at: datetime | None = None

    def __len__(self) -> int:
        return int(self.family.shape[0])

    def match(self, addresses: pa.Array | pa.ChunkedArray) -> pa.Table:
        """The longest prefix that holds each address.

        Args:
            addresses: (N,) IPv4 and IPv6 addresses; null ones and repetitions are passed over.

        Returns:
            Columns of `MATCH_SCHEMA`, sorted by address and AS: for each distinct address a row for each AS that announces the
            longest prefix that holds it, or one row with nulls.

        Raises:
            InputError: when one of them is no address.
        """
        distinct = np.array(sorted(addresses.drop_null().unique().to_pylist()), dtype=object)
        family, high, low = _bits(distinct)
        found: dict[str, list[NDArray[np.generic]]] = {"row": [], "at": []}
        for af in _FAMILIES:
            left = np.flatnonzero(family == af)
            for length in np.unique(self.length[self.family == af])[::-1]:
                chosen = np.flatnonzero((self.family == af) & (self.length == length))
                networks = _key(self.high[chosen], self.low[chosen])
                order = np.argsort(networks, kind="stable")
                wanted = _key(*_masked(high[left], low[left], np.full(left.shape, length)))
                first = np.searchsorted(networks, wanted, "left", sorter=order)
                count = np.searchsorted(networks, wanted, "right", sorter=order) - first
                found["row"].append(np.repeat(left, count))
                found["at"].append(chosen[order[_ranges(first, count)]])
                left = left[count == 0]
            found["row"].append(left)
            found["at"].append(np.full(left.shape, -1))
        row, at = (np.concatenate(parts).astype(np.int64) for parts in found.values())
        order = np.lexsort((np.where(at < 0, 0, self._asn_at(at)), row))
        row, at = row[order], at[order]
        unknown = at < 0
        return pa.table(
            [
                pa.array(distinct[row], pa.string()),
                self._words(at),
                pa.array(self._asn_at(at), pa.int64(), mask=unknown),
            ],
            schema=MATCH_SCHEMA,
        )

    def _asn_at(self, at: Ints) -> Ints:
        return np.append(self.asn, 0)[at]  # -1 is the last

    def _words(self, at: Ints) -> pa.Array:
        """The prefixes at those places, as Python's ipaddress compresses them; null at -1."""
        distinct, place = np.unique(at, return_inverse=True)
        words = [None if one < 0 else self._word(int(one)) for one in distinct]
        return pa.array(words, pa.string()).take(pa.array(place))

    def _word(self, at: int) -> str:
        number = int(self.high[at]) << 64 | int(self.low[at])
        address = IPv4Address(number >> 96) if self.family[at] == 4 else IPv6Address(number)
        return f"{address.compressed}/{self.length[at]}"


def read_prefixes(path: Path) -> Prefixes:
    """Read a file of announced prefixes.

    Args:
        path: CSV, pfx2as, MRT or text of bgpdump; AS numbers as `64500` or `AS64500`.

    Raises:
        NotFoundError: when there is no such file.
        TruncatedError: when it is cut.
        InputError: when it cannot be read, is none of these, has no row, or a row that is no prefix and AS number; the
            error names the line.
    """
    head = _head(path)
    every = _of_table(path) if is_mrt(head) else _of_text(path, head)
    if len(every) == 0:
        raise InputError(
            "no prefix in the list",
            where=str(path),
            found="no row, or default routes only",
            expected="a row for each prefix",
        )
    columns = (every.family, every.high, every.low, every.length, every.asn)
    order = np.lexsort(columns[::-1])
    once = np.full(order.shape, True)  # the same announcement twice says nothing more
    once[1:] = np.any([column[order][1:] != column[order][:-1] for column in columns], axis=0)
    kept = order[once]
    family, high, low, length, asn = (column[kept] for column in columns)
    return Prefixes(family=family, high=high, low=low, length=length, asn=asn, at=every.at)


class _Gathered:
    """Announcements, one by one."""

    def __init__(self) -> None:
        self._packed = bytearray()
        self._families, self._lengths, self._asns = array("b"), array("h"), array("q")

    def add(self, family: int, address: bytes, length: int, asns: Iterable[int]) -> None:
        """Add what several ASes announce."""
        for asn in asns:
            self._packed += address.ljust(_BYTES, b"\0")
            self._families.append(family)
            self._lengths.append(length)
            self._asns.append(asn)

    def prefixes(self, at: int | None) -> Prefixes:
        """All of it, as of seconds since the epoch."""
        halves = np.frombuffer(bytes(self._packed), ">u8").astype(np.uint64).reshape(-1, 2)
        return Prefixes(
            family=np.array(self._families, np.int64),
            high=halves[:, 0],
            low=halves[:, 1],
            length=np.array(self._lengths, np.int64),
            asn=np.array(self._asns, np.int64),
            at=None if at is None else datetime.fromtimestamp(at, UTC),
        )


def _of_table(path: Path) -> Prefixes:
    gathered, at = _Gathered(), None
    for route in read_table(path):
        at = route.at if at is None else max(at, route.at)
        if route.length > 0:
            gathered.add(route.family, route.address, route.length, filter(None, route.origins))
    return gathered.prefixes(at)


def _of_text(path: Path, head: bytes) -> Prefixes:
    line = head.removeprefix(_BOM).partition(b"\n")[0]
    if line.startswith(b"TABLE_DUMP"):
        read = _dumped
    elif re.match(rb"[0-9A-Fa-f:.]+\t\d+\t", line):
        read = _prefix2as
    else:
        read = _listed
    gathered, at = _Gathered(), None
    seen: set[tuple[str, str]] = set()  # in a routing table every peer says the same
    for said in read(path):
        if said.at is not None and (at is None or said.at > at):
            at = said.at
        if (said.prefix, said.origins) in seen:
            continue
        seen.add((said.prefix, said.origins))
        network = _network(said.prefix)
        numbers = (
            [_asn(word) for word in re.split("[_,]", said.origins)]
            if said.origins or not said.may_lack
            else []
        )
        if network is None or None in numbers:
            raise InputError(
                "no prefix and AS number",
                where=f"{path}, line {said.line}",
                found=repr(f"{said.prefix},{said.origins}"[:_SHOWN]),
                expected="such as 192.0.2.0/24,64500 or 2001:db8::/32,AS64500",
            )
        family, address, length = network
        gathered.add(family, address, length, (number for number in numbers if number is not None))
    return gathered.prefixes(at)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """A line of a list: a prefix, the ASes that announce it with `_` or `,` between, and perhaps when."""

    line: int
    prefix: str
    origins: str
    at: int | None = None
    may_lack: bool = False


def _head(path: Path) -> bytes:
    head = b""
    try:
        for chunk in read_chunks(path):
            head += chunk
            if len(head) >= _HEAD_BYTES:
                break
    except TruncatedError:
        if not head:
            raise
    return head


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number, from 1, and text of each line that is not blank.

    Raises:
        InputError: at a line that is longer than any.
    """
    begun, number = bytearray(), 0
    for chunk in chain(read_chunks(path), [b"\n"]):
        lines = chunk.split(b"\n")
        lines[0] = bytes(begun + lines[0]) if len(lines) > 1 and begun else lines[0]
        rest = lines.pop()
        for line in lines:
            number += 1
            _check_length(path, number, line)
            if number == 1:
                line = line.removeprefix(_BOM)
            if line.strip():
                yield number, line.decode("utf-8", "backslashreplace")
        if lines:
            begun.clear()
        begun += rest
        _check_length(path, number + 1, begun)


def _check_length(path: Path, number: int, line: bytes | bytearray) -> None:
    if len(line) > _LINE_BYTES:
        raise InputError(
            "a line that is too long",
            where=f"{path}, line {number}",
            found=repr(line[:_SHOWN].decode("utf-8", "backslashreplace")[:_SHOWN]),
            expected=f"lines of at most {_LINE_BYTES} bytes",
        )


def _prefix2as(path: Path) -> Iterator[_Said]:
    """CAIDA's form."""
    for number, line in _lines(path):
        address, _, rest = line.strip().partition("\t")
        length, _, origins = rest.partition("\t")
        yield _Said(line=number, prefix=f"{address}/{length}", origins=origins.strip("{}"))


def _dumped(path: Path) -> Iterator[_Said]:
    """The form of `bgpdump -m`; the path's confederations, in brackets, are not its end."""
    for number, line in _lines(path):
        cells = line.split("|")
        at = _time(cells[1]) if len(cells) > 1 else None
        if not cells[0].startswith("TABLE_DUMP") or len(cells) < 7 or at is None:
            raise InputError(
                "no line of a routing table",
                where=f"{path}, line {number}",
                found=repr(line[:_SHOWN]),
                expected="TABLE_DUMP2|time|B|peer|AS|prefix|path|…",
            )
        if cells[5].endswith("/0"):
            continue
        hops = [hop for hop in cells[6].split() if hop[0] not in "(["]
        yield _Said(
            line=number,
            prefix=cells[5],
            origins=hops[-1].strip("{}") if hops else "",
            at=at,
            may_lack=True,
        )


def without_as(matches: pa.Table) -> int:
    """How many addresses have no AS: nobody, or several, announce their longest prefix.

    Args:
        matches: see `Prefixes.match`.
    """
    origins = matches.group_by("address").aggregate([("asn", "count")])
    return int(pc.sum(pc.not_equal(origins["asn_count"], 1), min_count=0).as_py())


def _listed(path: Path) -> Iterator[_Said]:
    """CSV with a header."""
    expected = "CSV in UTF-8 with the header prefix,asn; or pfx2as of CAIDA, a routing table in MRT, or as bgpdump -m writes it"
    number = 0

    def lines() -> Iterator[str]:
        nonlocal number
        for at, line in _lines(path):
            number = at
            yield from line.splitlines()  # also where a line ends as on old Macs

    try:
        reader = csv.reader(lines(), strict=True)
        header = tuple(cell.strip() for cell in next(reader, ()))
        if header != _COLUMNS:
            raise InputError(
                "no list of prefixes",
                where=str(path),
                found=repr(",".join(header)[:_SHOWN]),
                expected=expected,
            )
        for row in reader:
            if len(row) == len(_COLUMNS):
                yield _Said(line=number, prefix=row[0].strip(), origins=row[1].strip())
            elif row:
                yield _Said(line=number, prefix=",".join(row)[:_SHOWN], origins="")
    except csv.Error as error:  # also of a cell that is longer than any, where a quote is not closed
        raise InputError(
            "no list of prefixes", where=f"{path}, line {number}", found=str(error), expected=expected
        ) from error


def _network(prefix: str) -> tuple[int, bytes, int] | None:
    """Family, address in 16 bytes, length; None when it is no prefix, or has bits set beyond its length."""
    address, slash, length = prefix.partition("/")
    family = 6 if ":" in address else 4
    try:
        packed = socket.inet_pton(_FAMILIES[family], address)
    except (OSError, ValueError):  # ValueError: a null byte
        return None
    if (
        not slash
        or not (length.isascii() and length.isdigit() and len(length) <= 3)
        or int(length) > _LONGEST[family]
    ):
        return None
    bits = int(length)
    if int.from_bytes(packed, "big") & ((1 << (_LONGEST[family] - bits)) - 1):
        return None
    return family, packed.ljust(_BYTES, b"\0"), bits


def _time(value: str) -> int | None:
    """Seconds since the epoch, a number of 32 bits in MRT."""
    if not (value.isascii() and value.isdigit() and len(value) <= 10):
        return None
    return int(value) if int(value) < 2**32 else None


def _asn(value: str) -> int | None:
    digits = value[2:] if value[:2].upper() == "AS" else value
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 10):
        return None
    return int(digits) if 0 < int(digits) <= _MOST_ASN else None


def _bits(addresses: NDArray[np.object_]) -> tuple[Ints, Numbers, Numbers]:
    """(N,) family, upper and lower 64 bits of addresses."""
    packed, families = bytearray(), []
    for address in addresses:
        family = 6 if ":" in address else 4
        try:
            packed += socket.inet_pton(_FAMILIES[family], address).ljust(_BYTES, b"\0")
        except (OSError, ValueError) as error:
            raise InputError(
                "no address", found=repr(address), expected="IPv4 or IPv6, as ipaddress compresses it"
            ) from error
        families.append(family)
    halves = np.frombuffer(bytes(packed), ">u8").astype(np.uint64).reshape(-1, 2)
    return np.array(families, np.int64), halves[:, 0], halves[:, 1]


def _masked(high: Numbers, low: Numbers, length: Ints) -> tuple[Numbers, Numbers]:
    """The first `length` of 128 bits, the others 0."""
    every = np.uint64(2**64 - 1)

    def mask(bits: Ints) -> Numbers:
        kept = np.clip(bits, 0, 64).astype(np.uint64)
        # A shift by 64 is not defined: none of the bits is a case of its own.
        return np.where(kept == 0, np.uint64(0), every << ((np.uint64(64) - kept) % np.uint64(64)))

    return high & mask(length), low & mask(length - 64)


def _key(high: Numbers, low: Numbers) -> NDArray[np.bytes_]:
    """128 bits as one sortable value."""
    both = np.stack([high, low], axis=1).astype(">u8")
    return np.ascontiguousarray(both).view(f"S{_BYTES}").ravel()


def _ranges(first: Ints, count: Ints) -> Ints:
    """`first[i], first[i] + 1, … first[i] + count[i] - 1` for every i, one after the other."""
    ends = np.cumsum(count)
    return np.arange(int(count.sum())) - np.repeat(ends - count, count) + np.repeat(first, count)
