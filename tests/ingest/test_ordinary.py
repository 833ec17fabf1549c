"""The extension gives what the careful parser gives, bit for bit, and leaves to it whatever is odd."""

from __future__ import annotations

import ipaddress
import json
import shutil
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import ordinary
from ingest.batch import Batch, Parsed, bounds_of
from ingest.parse import parse_batch
from tests.ingest.mutations import first_lines, recorded_files

Make = Callable[..., dict[str, Any]]

pytestmark = pytest.mark.skipif(
    ordinary.library() is None,
    reason="the library of ingest.ordinary was not built; the parser is tested without it",
)


def batch_of(raws: Sequence[bytes]) -> Batch:
    data, begin, end = bounds_of(raws)
    return Batch(source="test", first_position=3, data=data, begin=begin, end=end, read_at=datetime.now(UTC))


def bits(value: object) -> object:
    """The value with its numbers as their bits, in which -0.0 is not 0.0."""
    if isinstance(value, float):
        return struct.pack("d", value)
    if isinstance(value, dict):
        return {key: bits(inner) for key, inner in value.items()}
    return [bits(inner) for inner in value] if isinstance(value, list) else value


def both_ways(raws: Sequence[bytes]) -> Parsed:
    """What the records are, parsed with the extension; without it they are the same."""
    batch = batch_of(raws)
    fast, careful = parse_batch(batch), parse_batch(batch, extension=False)
    for name in ("pings", "traceroutes", "quarantined"):
        one, other = getattr(fast, name), getattr(careful, name)
        one.validate(full=True)
        assert one.schema == other.schema
        if not one.equals(other):  # says where
            assert bits(one.to_pylist()) == bits(other.to_pylist())
    assert bits(fast.pings.to_pylist()) == bits(careful.pings.to_pylist())
    assert fast.other_types == careful.other_types
    assert fast.records == len(raws)
    return fast


def is_ordinary(record: bytes | dict[str, Any]) -> bool:
    raw = record if isinstance(record, bytes) else json.dumps(record).encode()
    both_ways([raw])
    recognised = ordinary.recognise(batch_of([raw]))
    assert recognised is not None
    return recognised.odd.size == 0


def test_ordinary_records_are_taken(ping: Make, traceroute: Make) -> None:
    assert is_ordinary(ping())
    assert is_ordinary(traceroute())
    assert is_ordinary(
        ping(result=[{"x": "*"}, {"error": "sendto failed"}, {"rtt": 0.0}, {"dup": 1, "rtt": 1, "ttl": 3}])
    )
    assert is_ordinary(
        ping(af=6, dst_addr="2001:DB8:0:0::1", src_addr="", step=None, mver="2.2.1", ttr=5091.2)
    )
    answers = [
        {"from": "192.0.2.1", "late": 3, "size": 28, "ttl": 1},
        {
            "from": "2001:db8::1",
            "rtt": 3,
            "err": "H",
            "icmpext": {"obj": [{"class": 1, "mpls": [{"exp": 0}]}]},
        },
        {"from": "2001:db8::1", "rtt": 1.25, "err": 10, "dup": True, "edst": "192.0.2.7", "flags": "SA"},
        {"x": "*"},
        {"error": "bind failed: Invalid argument"},
    ]
    assert is_ordinary(traceroute({255: answers}))
    assert is_ordinary(traceroute(result=[{"error": "connect failed", "hop": 1}]))
    assert is_ordinary(traceroute(result=[{"error": "name resolution failed (1)"}], dst_addr=...))
    assert is_ordinary(json.dumps(traceroute(), indent=1).encode() + b" \r\n")


BASE = (
    '{"msm_id":1,"prb_id":2,"timestamp":1557705600,"fw":5080,"dst_addr":"192.0.2.1","lts":30,"type":"ping","ttl":57,'
    '"size":20,"step":240,"result":[{"rtt":1.5},{"x":"*"}]}'
)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # what no JSON reader takes, or not every one
        ('"step":240', '"step":0240'), ('"step":240', '"step":240.'), ('"step":240', '"step":.5'), ('"step":240', '"step":+1'),
        ('"step":240', '"step":-'), ('"step":240', '"step":NaN'), ('"step":240', '"step":1e999'), ('"step":240', '"step":tru'),
        ('"step":240', '"step":'), ('"step":240', '"step":240,'), ('"step":240', '"step":[1,]'), ('"step":240', '"step":{"a":1,}'),
        ('"step":240', '"step":"\x01"'), ('"step":240', '"step":"é"'), ('"step":240', '"st\\u0065p":240'), ("}]}", "}]"),
        ("}]}", "}]}}"), ("}]}", "}]}\x00"), ('{"msm_id"', '\ufeff{"msm_id"'), ('"step":240', '"step":' + "1" * 400),
        ('"step":240', '"step":' + "[" * 40 + "]" * 40), ('"step":240', "'step':240"), ('"step":240', '"step":"\\"'),
        # a known value in a form that asks for a second look
        ('"msm_id":1', '"msm_id":"1"'), ('"msm_id":1', '"msm_id":1.0'), ('"msm_id":1', '"msm_id":-1'), ('"msm_id":1', '"msm_id":01'),
        ('"msm_id":1', '"msm_id":1e0'), ('"msm_id":1', '"msm_id":9223372036854775808'), ('"msm_id":1', '"msm_id":1,"msm_id":2'),
        ('"msm_id":1', '"msm_id":null'), ('"timestamp":1557705600', '"timestamp":1'), ('"timestamp":1557705600', '"timestamp":4000000000'),
        ('"lts":30', '"lts":-0'), ('"lts":30', '"lts":"30"'), ('"lts":30', '" lts":30'), ('"lts":30', '"lts":true'),
        ('"fw":5080', '"fw":4560'), ('"fw":5080', '"fw":1'), ('"fw":5080', '"proto":"icmp"'), ('"fw":5080', '"proto":null'),
        ('"fw":5080', '"addr":"192.0.2.7"'), ('"fw":5080', '"mode":"ICMP6"'), ('"fw":5080', '"name":"x"'), ('"fw":5080', '"pf":6'),
        ('"type":"ping"', '"type":"Ping"'), ('"type":"ping"', '"type":"dns"'), ('"type":"ping"', '"type":1'), (',"type":"ping"', ""),
        ('"size":20', '"synthetic":1'), ('"size":20', '"dst_name":null'), ('"size":20', '"from":"router"'), ('"size":20', '"size":[]'),
        # addresses
        ("192.0.2.1", "192.0.2.01"), ("192.0.2.1", "192.0.2.256"), ("192.0.2.1", "192.0.2"), ("192.0.2.1", "192.0.2.1."),
        ("192.0.2.1", ""), ("192.0.2.1", "::"), ("192.0.2.1", "::1"), ("192.0.2.1", "::ffff:192.0.2.1"), ("192.0.2.1", "::ffff:c000:201"),
        ("192.0.2.1", "fe80::1%eth0"), ("192.0.2.1", "2001:db8::1::2"), ("192.0.2.1", "2001:db8:::1"), ("192.0.2.1", "2001:db80g::1"),
        ("192.0.2.1", "1:2:3:4:5:6:7:8:9"), ("192.0.2.1", "1:2:3:4:5:6:7:8::"), ("192.0.2.1", "12345::1"), ("192.0.2.1", "64:ff9b::192.0.2.1"),
        # packets
        ('{"rtt":1.5}', '{"rtt":"1.5"}'), ('{"rtt":1.5}', '{"rtt":-1.5}'), ('{"rtt":1.5}', '{"rtt":-0.0}'), ('{"rtt":1.5}', '{"rtt":1e2}'),
        ('{"rtt":1.5}', '{"rtt":1000000.5}'), ('{"rtt":1.5}', '{"rtt":null}'), ('{"rtt":1.5}', "{}"), ('{"rtt":1.5}', '{"rtt":1.5,"x":"*"}'),
        ('{"rtt":1.5}', '{"rtt":1.5,"rtt":2.5}'), ('{"rtt":1.5}', '{"dup":"1","rtt":1.5}'), ('{"rtt":1.5}', '{"rtt":1.5,"ttl":"5"}'),
        ('{"x":"*"}', '{"x":1}'), ('{"x":"*"}', '{"error":{"a":1}}'), ('{"x":"*"}', "7"), ('[{"rtt":1.5},{"x":"*"}]', "[]"),
        ('[{"rtt":1.5},{"x":"*"}]', '"GET4"'), ('[{"rtt":1.5},{"x":"*"}]', "null"), ('[{"rtt":1.5},{"x":"*"}]', '[{"rtt":"?"}]'),
        (',"result":[{"rtt":1.5},{"x":"*"}]', ""), ('"result":[{', '"result":[{"hop":1},{'),
    ],
)  # fmt: skip
def test_whatever_is_odd_is_left_to_the_careful_parser(before: str, after: str) -> None:
    assert is_ordinary(BASE.encode())
    assert before in BASE
    assert not is_ordinary(BASE.replace(before, after).encode("utf-8"))


@pytest.mark.parametrize(
    "reply",
    [
        '{"from":"192.0.2.9","rtt":"1.5"}', '{"from":"192.0.2.9","late":"2"}', '{"from":null}', '{"from":""}', '{"from":"x"}', "{}", "5",
        '{"from":"192.0.2.9","err":null}', '{"from":"192.0.2.9","err":-0}', '{"from":"192.0.2.9","err":1.5}', '{"rtt":1.5}',
        '{"from":"192.0.2.9","x":"*"}', '{"x":"*","rtt":1.5}', '{"from":"192.0.2.9","from":"192.0.2.8"}', '{"error":7}',
    ],
)  # fmt: skip
def test_odd_replies_are_left_to_the_careful_parser(traceroute: Make, reply: str) -> None:
    assert is_ordinary(traceroute({3: ["192.0.2.9"]}))
    text = json.dumps(traceroute({3: ["192.0.2.9", {"x": "MARK"}]})).replace('{"x": "MARK"}', reply)
    assert not is_ordinary(text.encode())


@pytest.mark.parametrize(
    "item",
    ['{"hop":256,"result":[]}', '{"hop":"1","result":[]}', '{"hop":1}', "{}", "1", '{"hop":1,"result":7}'],
)
def test_odd_hops_are_left_to_the_careful_parser(traceroute: Make, item: str) -> None:
    text = json.dumps(traceroute(result=[{"hop": 1, "result": []}, "MARK"])).replace('"MARK"', item)
    assert not is_ordinary(text.encode())


@given(
    st.lists(
        st.floats(0, 99_999).map(repr)
        | st.decimals(0, 99_999, places=3).map(str)
        | st.from_regex(r"(0|[1-9][0-9]{0,4})(\.[0-9]{1,25})?", fullmatch=True),
        min_size=1,
        max_size=20,
    )
)
def test_numbers_are_the_doubles_nearest_to_what_is_written(numbers: list[str]) -> None:
    replies = ",".join(f'{{"rtt":{number}}}' for number in numbers)
    raw = f'{{"msm_id":1,"prb_id":2,"timestamp":1557705600,"type":"ping","result":[{replies}]}}'.encode()
    (row,) = both_ways([raw]).pings.to_pylist()
    assert [reply["rtt_ms"] for reply in row["replies"]] == [float(number) for number in numbers]


def _spelled(address: ipaddress.IPv6Address) -> st.SearchStrategy[str]:
    groups = address.exploded.split(":")
    return st.sampled_from(
        [address.compressed, address.exploded, address.exploded.upper(), ":".join(group.lstrip("0") or "0" for group in groups)]
    )  # fmt: skip


_SOME_ZEROS = st.lists(st.sampled_from([0, 0, 0, 1, 0xAB, 0xFFFF]), min_size=8, max_size=8).map(
    lambda groups: ipaddress.IPv6Address(sum(group << 16 * place for place, group in enumerate(groups)))
)


@given(
    st.ip_addresses(v=4).map(str)
    | (_SOME_ZEROS | st.ip_addresses(v=6)).flatmap(_spelled)
    | st.text("01af:.", max_size=20)
)
def test_addresses_are_compressed_as_python_does_it(address: str) -> None:
    raw = BASE.replace("192.0.2.1", address).encode()
    (row,) = both_ways([raw]).pings.to_pylist()
    try:
        assert row["target"] == ipaddress.ip_address(address).compressed
    except ValueError:
        assert row["target"] is None


@settings(max_examples=60)
@given(st.data())
def test_rows_keep_the_order_of_the_batch_whoever_parsed_them(
    ping: Make, traceroute: Make, data: st.DataObject
) -> None:
    kinds = data.draw(
        st.lists(
            st.sampled_from(["ping", "odd ping", "traceroute", "odd traceroute", "dns", "none"]), max_size=30
        )
    )
    make: dict[str, Callable[[int], dict[str, Any]]] = {
        "ping": lambda number: ping(prb_id=number),
        "odd ping": lambda number: ping(prb_id=str(number)),
        "traceroute": lambda number: traceroute(prb_id=number),
        "odd traceroute": lambda number: traceroute({1: ["192.0.2.1", 7]}, prb_id=number),
        "dns": lambda number: ping(prb_id=number, type="dns"),
        "none": lambda number: {"prb_id": number},
    }
    parsed = both_ways([json.dumps(make[kind](number)).encode() for number, kind in enumerate(kinds)])
    for table, words in ((parsed.pings, "ping"), (parsed.traceroutes, "traceroute")):
        assert table.column("probe_id").to_pylist() == [
            number for number, kind in enumerate(kinds) if kind.endswith(words)
        ]
    positions = [number + 3 for number, kind in enumerate(kinds) if kind in ("dns", "none")]
    assert parsed.quarantined.column("position").to_pylist() == positions


def test_an_empty_batch_and_bounds_outside_the_data_do_no_harm(ping: Make) -> None:
    assert both_ways([]).records == 0
    batch = batch_of([json.dumps(ping()).encode()])
    for begin, end in ((0, 10**9), (-1, 5), (5, 2), (2**62, 2**62 + 1)):
        outside = Batch(
            source="test", first_position=0, data=batch.data, begin=np.array([begin]), end=np.array([end]), read_at=batch.read_at
        )  # fmt: skip
        recognised = ordinary.recognise(outside)
        assert recognised is not None
        assert recognised.odd.tolist() == [0]


def test_columns_outlive_what_they_came_from_and_threads_do_not_meet(ping: Make, traceroute: Make) -> None:
    raws = [json.dumps(make(prb_id=number)).encode() for number in range(500) for make in (ping, traceroute)]
    batch = batch_of(raws)
    expected = parse_batch(batch, extension=False)
    with ThreadPoolExecutor(4) as pool:
        tables = list(pool.map(lambda _: parse_batch(batch).traceroutes, range(16)))
    assert all(table.equals(expected.traceroutes) for table in tables)


def test_other_threads_run_while_the_library_works(ping: Make) -> None:
    raw = json.dumps(ping()).encode()
    many = 300_000
    batch = Batch(
        source="test", first_position=0, data=raw, begin=np.zeros(many, np.int64), end=np.full(many, len(raw)), read_at=datetime.now(UTC)
    )  # fmt: skip
    done = threading.Event()
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        while not done.wait(0.001):
            ticks += 1

    thread = threading.Thread(target=tick)
    thread.start()
    ordinary.recognise(batch)
    done.set()
    thread.join()
    assert ticks > 3  # of some hundred; none while the interpreter's lock is held


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the library's folder, which is then the one that is used."""
    folder = tmp_path / "ordinary"
    shutil.copytree(Path(ordinary.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(ordinary, "_FOLDER", folder)
    ordinary._loaded.cache_clear()
    yield folder
    ordinary._loaded.cache_clear()


def test_a_library_that_is_older_than_its_sources_is_not_used(elsewhere: Path, ping: Make) -> None:
    (elsewhere / "src" / "record.rs").write_text("changed", encoding="utf-8")
    with pytest.warns(RuntimeWarning, match="older than its sources; run `make install`"):
        assert ordinary.library() is None
    assert ordinary.recognise(batch_of([json.dumps(ping()).encode()])) is None


def test_a_library_without_sources_is_that_of_a_wheel_and_is_used(elsewhere: Path) -> None:
    shutil.rmtree(elsewhere / "src")
    (elsewhere / "Cargo.toml").unlink()
    path = ordinary.library()
    assert path is not None
    assert path.parent == elsewhere


def test_a_file_that_is_no_library_is_not_used(elsewhere: Path) -> None:
    path = ordinary._file()
    assert path is not None
    path.write_bytes(b"\x7fELF")
    with pytest.warns(RuntimeWarning, match="cannot be loaded"):
        assert ordinary.library() is None


@pytest.mark.recorded
def test_recorded_records_of_every_set_are_ordinary_and_the_same_both_ways(recorded: Path) -> None:
    taken = total = 0
    for path in recorded_files(recorded):
        raws = first_lines(path)
        step = 1 if path.parent.name == "fixtures" else 23
        both_ways(raws[::step])
        if path.parent.name != "fixtures":
            recognised = ordinary.recognise(batch_of(raws))
            assert recognised is not None
            taken += len(raws) - recognised.odd.size
            total += len(raws)
    assert total > 50_000
    assert taken / total >= 0.99
