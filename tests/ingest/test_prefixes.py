from __future__ import annotations

import gzip
import re
import tracemalloc
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import InputError, NotFoundError, TruncatedError
from ingest.prefixes import MATCH_SCHEMA, Prefixes, read_prefixes


def read(tmp_path: Path, *lines: str, header: str = "prefix,asn") -> Prefixes:
    path = tmp_path / "prefixes.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return read_prefixes(path)


def match(prefixes: Prefixes, *addresses: str | None) -> list[tuple[Any, ...]]:
    table = prefixes.match(pa.array(addresses, pa.string()))
    assert table.schema == MATCH_SCHEMA
    return [tuple(row.values()) for row in table.to_pylist()]


def test_the_longest_prefix_that_holds_an_address_is_found_in_both_families(tmp_path: Path) -> None:
    prefixes = read(
        tmp_path,
        "0.0.0.0/0,1",
        "192.0.2.0/24,64500",
        "192.0.2.128/25,AS64501",
        "192.0.2.129/32,as64502",
        "2001:DB8::/32,64503",
        "2001:db8:0:1::/64,64504",
    )
    assert match(prefixes, "192.0.2.129", "192.0.2.130", "192.0.2.1", "8.8.8.8") == [
        ("192.0.2.1", "192.0.2.0/24", 64500),
        ("192.0.2.129", "192.0.2.129/32", 64502),
        ("192.0.2.130", "192.0.2.128/25", 64501),
        ("8.8.8.8", "0.0.0.0/0", 1),
    ]
    assert match(prefixes, "2001:db8::1", "2001:db8:0:1::1", "2001:db9::1") == [
        ("2001:db8:0:1::1", "2001:db8:0:1::/64", 64504),
        ("2001:db8::1", "2001:db8::/32", 64503),
        ("2001:db9::1", None, None),
    ]


def test_a_prefix_that_several_ases_announce_has_a_row_for_each_and_a_line_that_comes_twice_one(
    tmp_path: Path,
) -> None:
    prefixes = read(tmp_path, "192.0.2.0/24,64501", "192.0.2.0/24,64500", "192.0.2.0/24,AS64501", "")
    assert len(prefixes) == 2
    assert match(prefixes, "192.0.2.1", None, "192.0.2.1") == [
        ("192.0.2.1", "192.0.2.0/24", 64500),
        ("192.0.2.1", "192.0.2.0/24", 64501),
    ]


def test_a_list_without_a_prefix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no prefix in the list"):
        read(tmp_path)


def test_what_is_no_address_is_refused_and_nothing_matches_nothing(tmp_path: Path) -> None:
    prefixes = read(tmp_path, "198.51.100.0/24,64500")
    assert match(prefixes) == []
    assert match(prefixes, "192.0.2.1", "::1") == [("192.0.2.1", None, None), ("::1", None, None)]
    with pytest.raises(InputError, match="no address"):
        match(prefixes, "192.0.2.1", "example.org")


@pytest.mark.parametrize(
    "row",
    [
        "192.0.2.0,64500",
        "192.0.2.1/24,64500",  # a bit is set beyond the length
        "192.0.2.0/33,64500",
        "2001:db8::/129,64500",
        "2001:db8::1/64,64500",
        "192.0.2/24,64500",
        "192.0.2.0/-1,64500",
        "192.0.2.0/24,0",
        "192.0.2.0/24,4294967296",
        "192.0.2.0/24,AS",
        "192.0.2.0/24,ASAS1",
        "192.0.2.0/24,-1",
        "192.0.2.0/24,64500 64501",
        "192.0.2.0/24",
        "192.0.2.0/24,64500,x",
        "192.0.2.0/²4,64500",
        "192.0.2.0\x00/24,64500",
    ],
)
def test_a_bad_row_is_one_error_that_names_its_line(tmp_path: Path, row: str) -> None:
    with pytest.raises(InputError, match="no prefix and AS number") as error:
        read(tmp_path, "192.0.2.0/24,64500", row, "192.0.2.0/24,64500")
    assert str(error.value.where).endswith("prefixes.csv, line 3")
    assert "192.0.2.0/24,64500" in str(error.value.expected)


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (b"", InputError, "no list of prefixes"),
        (b"192.0.2.0/24,64500\n", InputError, "no list of prefixes"),
        (b"asn,prefix\n64500,192.0.2.0/24\n", InputError, "no list of prefixes"),
        (b"prefix,asn,valid_from\n", InputError, "no list of prefixes"),
        (b"prefix,asn\n\xff\xfe,1\n", InputError, "no prefix and AS number"),
        (b'prefix,asn\n"192.0.2.0/24,1\n', InputError, "no list of prefixes"),
        (gzip.compress(b"prefix,asn\n192.0.2.0/24,64500\n", mtime=0)[:-9], TruncatedError, "cut"),
    ],
)
def test_a_file_that_is_no_list_of_prefixes_is_one_error(
    tmp_path: Path, content: bytes, error: type[Exception], words: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(error, match=words) as caught:
        read_prefixes(path)
    assert str(path) in str(caught.value)
    with pytest.raises(NotFoundError):
        read_prefixes(tmp_path / "none")


def test_a_compressed_file_with_a_byte_order_mark_and_spaces_is_read(tmp_path: Path) -> None:
    path = tmp_path / "packed"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbfprefix, asn\r\n192.0.2.0/24, AS64500\r\n"))
    assert match(read_prefixes(path), "192.0.2.9") == [("192.0.2.9", "192.0.2.0/24", 64500)]


def _crowded(bits: int) -> st.SearchStrategy[int]:
    """Numbers whose first bits are few enough that prefixes overlap."""
    some = st.sampled_from([0, 1, 2**63, 2**64, 2**65 - 1, 2**127, 2**128 - 1]).map(lambda n: n % 2**bits)
    return some | st.integers(0, 2**bits - 1)


_v4 = st.builds(
    lambda n, length: ip_network((IPv4Address(n), length), strict=False), _crowded(32), st.integers(0, 32)
)
_v6 = st.builds(
    lambda n, length: ip_network((IPv6Address(n), length), strict=False), _crowded(128), st.integers(0, 128)
)
_addresses = st.one_of(_crowded(32).map(IPv4Address), _crowded(128).map(IPv6Address))


@given(
    announced=st.lists(st.tuples(_v4 | _v6, st.integers(1, 3)), min_size=1, max_size=12),
    addresses=st.lists(_addresses, max_size=8),
)
def test_matches_are_those_that_ipaddress_finds_by_trying_all(
    tmp_path_factory: pytest.TempPathFactory, announced: list[tuple[Any, int]], addresses: list[Any]
) -> None:
    path = tmp_path_factory.mktemp("prefixes")
    prefixes = read(path, *(f"{prefix},{asn}" for prefix, asn in announced))
    expected = []
    for address in sorted({address.compressed for address in addresses}):
        parsed = ip_address(address)
        holding = [p for p, _ in announced if p.version == parsed.version and parsed in p]
        longest = max(holding, key=lambda p: int(p.prefixlen), default=None)
        origins: list[int | None] = sorted(
            {asn for prefix, asn in announced if longest is not None and prefix == longest}
        )
        expected += [
            (address, None if longest is None else longest.compressed, one) for one in origins or [None]
        ]
    assert match(prefixes, *(address.compressed for address in addresses)) == expected


def test_the_error_shows_the_row_as_it_was_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape("'not a prefix,64500'")):
        read(tmp_path, "not a prefix,64500")


PREFIX2AS = "192.0.2.0\t24\t64500\n198.51.100.0\t24\t64501_64502\n203.0.113.0\t24\t64503,64504\n2001:db8::\t32\t64505\n"
DUMP = (
    "TABLE_DUMP2|1600000000|B|192.0.2.1|64500|0.0.0.0/0|64500|IGP|192.0.2.1|0|0||NAG||\n"
    "TABLE_DUMP2|1600000000|B|192.0.2.1|64500|192.0.2.0/24|64500 3356 64500|IGP|192.0.2.1|0|0||NAG||\n"
    "TABLE_DUMP2|1600000001|B|192.0.2.2|64501|192.0.2.0/24|64501 64500|IGP|192.0.2.2|0|0||NAG||\n"
    "TABLE_DUMP2|1600000001|B|192.0.2.2|64501|198.51.100.0/24|64501 {64502,64501}|IGP|192.0.2.2|0|0||NAG||\n"
    "TABLE_DUMP2|1600000001|B|192.0.2.2|64501|203.0.113.0/24||IGP|192.0.2.2|0|0||NAG||\n"
    "TABLE_DUMP2|1600000001|B|192.0.2.2|64501|2001:db8::/32|64505 (65000)|IGP|192.0.2.2|0|0||NAG||\n"
)


def test_the_list_of_caida_is_read_with_all_its_origins(tmp_path: Path) -> None:
    path = tmp_path / "routeviews.pfx2as.gz"
    path.write_bytes(gzip.compress(PREFIX2AS.encode()))
    prefixes = read_prefixes(path)
    assert prefixes.at is None
    assert match(prefixes, "192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1") == [
        ("192.0.2.1", "192.0.2.0/24", 64500),
        ("198.51.100.1", "198.51.100.0/24", 64501),
        ("198.51.100.1", "198.51.100.0/24", 64502),
        ("2001:db8::1", "2001:db8::/32", 64505),
        ("203.0.113.1", "203.0.113.0/24", 64503),
        ("203.0.113.1", "203.0.113.0/24", 64504),
    ]


def test_a_routing_table_as_text_is_read_without_its_default_route(tmp_path: Path) -> None:
    path = tmp_path / "rib.txt"
    path.write_text(DUMP)
    prefixes = read_prefixes(path)
    assert prefixes.at is not None
    assert prefixes.at.timestamp() == 1600000001
    assert match(prefixes, "192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1") == [
        ("192.0.2.1", "192.0.2.0/24", 64500),
        ("198.51.100.1", "198.51.100.0/24", 64501),
        ("198.51.100.1", "198.51.100.0/24", 64502),
        ("2001:db8::1", "2001:db8::/32", 64505),
        ("203.0.113.1", None, None),
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (PREFIX2AS + "192.0.2.0\t33\t1\n", 5),
        (PREFIX2AS + "192.0.2.0\t24\t\n", 5),
        (PREFIX2AS + "192.0.2.0\n", 5),
        (DUMP + "BGP4MP|1600000001|A|192.0.2.2|64501|203.0.113.0/24|1|IGP\n", 7),
        (DUMP + "TABLE_DUMP2|1600000001|B|192.0.2.2|64501|203.0.113.0/24|x|IGP\n", 7),
    ],
)
def test_a_line_that_is_no_announcement_is_named(tmp_path: Path, text: str, line: int) -> None:
    path = tmp_path / "list"
    path.write_text(text)
    with pytest.raises(InputError, match=f"line {line}"):
        read_prefixes(path)


@pytest.mark.parametrize(
    ("content", "what", "line"),
    [
        pytest.param(b"prefix,asn\n" + b"9" * (40 << 20), "a line that is too long", 2, id="a long line"),
        pytest.param(
            b'prefix,asn\n"' + b"192.0.2.0/24\n" * (3 << 20), "no list of prefixes", 9000, id="an open quote"
        ),
        pytest.param(
            b"192.0.2.0\t24\t1\n" + b"1_" * (20 << 20), "a line that is too long", 2, id="many origins"
        ),
        pytest.param(
            b"192.0.2.0\t24\t1\n192.0.2.0\t" + b"9" * 5000 + b"\t1\n",
            "no prefix and AS number",
            2,
            id="a length",
        ),
        pytest.param(
            b"prefix,asn\n192.0.2.0/24," + b"9" * 5000, "no prefix and AS number", 2, id="an AS number"
        ),
        pytest.param(
            b"TABLE_DUMP2|1600000000|B|192.0.2.1|1|192.0.2.0/24|1\nTABLE_DUMP2|"
            + b"9" * 5000
            + b"|B|192.0.2.1|1|192.0.2.0/24|1",
            "no line of a routing table",
            2,
            id="a time of many digits",
        ),
        pytest.param(
            b"TABLE_DUMP2|99999999999999999|B|192.0.2.1|1|192.0.2.0/24|1",
            "no line of a routing table",
            1,
            id="a time that never comes",
        ),
    ],
)
def test_a_hostile_list_is_one_short_line_and_is_not_read_into_memory(
    tmp_path: Path, content: bytes, what: str, line: int
) -> None:
    path = tmp_path / "list"
    path.write_bytes(gzip.compress(content, 1))
    tracemalloc.start()
    with pytest.raises(InputError) as error:
        read_prefixes(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert what == error.value.what
    told = re.fullmatch(rf"{re.escape(str(path))}, line (\d+)", str(error.value.where))
    assert told is not None
    assert int(told[1]) == line or (line > 2 and int(told[1]) > line)
    assert len(error.value.line()) < 450
    assert peak < 16 << 20
