from __future__ import annotations

import bz2
import signal
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import InputError, TruncatedError
from ingest.mrt import Route, read_table
from ingest.prefixes import read_prefixes
from tests.ingest.routing_tables import AT, CONFEDERATION, SEQUENCE, SET, ending, peers, record, rib


def routes(tmp_path: Path, *records: bytes) -> list[tuple[str, tuple[int, ...]]]:
    path = tmp_path / "rib"
    path.write_bytes(peers(3) + b"".join(records))
    return [(f"{ip_address(route.address)}/{route.length}", route.origins) for route in read_table(path)]


def test_the_origin_of_a_route_is_the_end_of_its_path_in_both_families(tmp_path: Path) -> None:
    assert routes(
        tmp_path,
        rib("192.0.2.0/24", ending(3356, 64501), ending(64501)),
        rib("2001:db8::/32", ending(64502), extended=True),
        rib("10.0.0.0/9", ending(64503), additional=True),
        rib("2001:db8:1::/48", ending(64504), additional=True),
    ) == [
        ("192.0.2.0/24", (64501,)),
        ("2001:db8::/32", (64502,)),
        ("10.0.0.0/9", (64503,)),
        ("2001:db8:1::/48", (64504,)),
    ]


def test_several_origins_and_sets_are_all_said_and_confederations_are_no_origin(tmp_path: Path) -> None:
    assert routes(
        tmp_path,
        rib("192.0.2.0/24", ending(64502), ending(64501)),
        rib("198.51.100.0/24", ((SEQUENCE, (1, 2)), (SET, (64503, 64504)))),
        rib("203.0.113.0/24", ((SEQUENCE, (1, 64505)), (CONFEDERATION, (65000,)))),
        rib("10.0.0.0/8", ()),
    ) == [
        ("192.0.2.0/24", (64501, 64502)),
        ("198.51.100.0/24", (64503, 64504)),
        ("203.0.113.0/24", (64505,)),
        ("10.0.0.0/8", ()),
    ]


def test_a_table_says_when_it_was_and_a_default_route_announces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rib.bz2"
    table = peers(2) + rib("0.0.0.0/0", ending(64500)) + rib("192.0.2.0/24", ending(64501), ending(64501))
    path.write_bytes(bz2.compress(table))
    prefixes = read_prefixes(path)
    assert prefixes.at is not None
    assert prefixes.at.timestamp() == AT
    found = prefixes.match(pa.array(["192.0.2.7", "8.8.8.8"])).to_pylist()
    assert [(row["address"], row["prefix"], row["asn"]) for row in found] == [
        ("192.0.2.7", "192.0.2.0/24", 64501),
        ("8.8.8.8", None, None),
    ]


def test_a_table_that_is_cut_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "rib"
    first = peers(1)
    table = first + rib("192.0.2.0/24", ending(64501))
    for length in range(len(first) + 1, len(table)):
        path.write_bytes(table[:length])
        with pytest.raises(TruncatedError, match="ends in the middle of a record"):
            list(read_table(path))


def test_updates_and_tables_of_the_first_version_are_refused(tmp_path: Path) -> None:
    for kind in (12, 16):
        with pytest.raises(InputError, match=f"no routing table of version 2.*record 1; found type {kind}"):
            routes(tmp_path, record(kind, 1, b"\0" * 20))


@given(at=st.integers(12, 60), byte=st.integers(0, 255))
def test_a_damaged_entry_is_one_clear_error_or_other_numbers_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, at: int, byte: int
) -> None:
    damaged = bytearray(rib("192.0.2.0/24", ending(64501), ending(64502)))
    damaged[at] = byte
    path = tmp_path_factory.mktemp("rib") / "rib"
    path.write_bytes(peers(2) + bytes(damaged))
    try:
        found = list(read_table(path))
    except InputError as error:
        assert "record 1" in str(error)  # noqa: PT017
    else:
        assert len(found) == 1


NETWORKS = st.one_of(
    st.builds(lambda n, length: ip_network((IPv4Address(n), length), strict=False), st.integers(0, 2**32 - 1), st.integers(0, 32)),
    st.builds(lambda n, length: ip_network((IPv6Address(n), length), strict=False), st.integers(0, 2**128 - 1), st.integers(0, 128)),
)  # fmt: skip
PATHS = st.lists(
    st.tuples(st.sampled_from([SEQUENCE, SET]), st.lists(st.integers(1, 2**32 - 1), min_size=1, max_size=4)),
    min_size=1,
    max_size=3,
)


@given(table=st.lists(st.tuples(NETWORKS, st.lists(PATHS, min_size=1, max_size=3)), min_size=1, max_size=4))
def test_routes_are_those_that_mrtparse_reads(tmp_path_factory: pytest.TempPathFactory, table: Any) -> None:
    handler = signal.getsignal(signal.SIGPIPE)
    from mrtparse import Reader

    signal.signal(signal.SIGPIPE, handler)  # importing it makes broken connections deadly

    path = tmp_path_factory.mktemp("rib") / "rib"
    path.write_bytes(peers(3) + b"".join(rib(str(network), *paths) for network, paths in table))
    expected = []
    for entry in Reader(str(path)):
        if "rib_entries" not in entry.data:
            continue
        origins: set[int] = set()
        for one in entry.data["rib_entries"]:
            (segments,) = (
                a["value"] for a in one["path_attributes"] if next(iter(a["type"].values())) == "AS_PATH"
            )
            kind, asns = next(iter(segments[-1]["type"])), list(map(int, segments[-1]["value"]))
            origins.update(asns if kind == SET else asns[-1:])
        network = ip_network(
            f"{entry.data['prefix']}/{entry.data['length']}"
        )  # it writes some in another way
        expected.append((str(network), tuple(sorted(origins))))

    def told(route: Route) -> tuple[str, tuple[int, ...]]:
        return f"{ip_address(route.address)}/{route.length}", route.origins

    assert [told(route) for route in read_table(path)] == expected
