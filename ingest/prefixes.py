"""Which AS announces which prefix, from a file; and which prefix holds an address.

The file is CSV with the header `prefix,asn`, plain or compressed. A prefix that several ASes announce has a line for each.
"""

from __future__ import annotations

import csv
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from domain.errors import InputError
from ingest.compression import read_chunks

MATCH_SCHEMA = pa.schema(
    [
        pa.field("address", pa.string(), nullable=False),
        pa.field("prefix", pa.string()),
        pa.field("asn", pa.int64()),
    ]
)
"""Columns of `Prefixes.match`."""

_COLUMNS = ("prefix", "asn")
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
    """

    family: Ints
    high: Numbers
    low: Numbers
    length: Ints
    asn: Ints

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
        path: CSV with the header `prefix,asn`; AS numbers as `64500` or `AS64500`.

    Raises:
        NotFoundError: when there is no such file.
        TruncatedError: when it is compressed and cut.
        InputError: when it cannot be read, has another header, no row, or a row that is no prefix and AS number; the
            error names the line.
    """
    packed, lengths, families, asns = bytearray(), [], [], []
    for line, prefix, asn in _rows(path):
        network = _network(prefix)
        number = _asn(asn)
        if network is None or number is None:
            raise InputError(
                "no prefix and AS number",
                where=f"{path}, line {line}",
                found=repr(f"{prefix},{asn}"),
                expected="such as 192.0.2.0/24,64500 or 2001:db8::/32,AS64500",
            )
        family, address, length = network
        packed += address
        families.append(family)
        lengths.append(length)
        asns.append(number)
    if not asns:
        raise InputError(
            "no prefix in the list", where=str(path), found="a header only", expected="a row for each prefix"
        )
    halves = np.frombuffer(bytes(packed), ">u8").astype(np.uint64).reshape(-1, 2)
    every = Prefixes(
        family=np.array(families, np.int64),
        high=halves[:, 0],
        low=halves[:, 1],
        length=np.array(lengths, np.int64),
        asn=np.array(asns, np.int64),
    )
    order = np.lexsort([every.asn, every.length, every.low, every.high, every.family])
    once = np.full(order.shape, True)  # the same line twice says nothing more
    once[1:] = np.any(
        [
            column[order][1:] != column[order][:-1]
            for column in (every.family, every.high, every.low, every.length, every.asn)
        ],
        axis=0,
    )
    kept = order[once]
    return Prefixes(
        family=every.family[kept],
        high=every.high[kept],
        low=every.low[kept],
        length=every.length[kept],
        asn=every.asn[kept],
    )


def without_as(matches: pa.Table) -> int:
    """How many addresses have no AS: nobody, or several, announce their longest prefix.

    Args:
        matches: see `Prefixes.match`.
    """
    origins = matches.group_by("address").aggregate([("asn", "count")])
    return int(pc.sum(pc.not_equal(origins["asn_count"], 1), min_count=0).as_py())


def _rows(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line number, prefix, AS number, as they are written."""
    expected = "CSV in UTF-8 with the header prefix,asn"
    content = b"".join(read_chunks(path)).removeprefix(b"\xef\xbb\xbf")
    try:
        reader = csv.reader(content.decode("utf-8").splitlines(), strict=True)
        header = tuple(cell.strip() for cell in next(reader, ()))
        if header != _COLUMNS:
            raise InputError(
                "no list of prefixes", where=str(path), found=repr(",".join(header)[:80]), expected=expected
            )
        for row in reader:
            if len(row) == len(_COLUMNS):
                yield reader.line_num, row[0].strip(), row[1].strip()
            elif row:
                yield reader.line_num, ",".join(row)[:80], ""
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            "no list of prefixes", where=str(path), found=str(error), expected=expected
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
