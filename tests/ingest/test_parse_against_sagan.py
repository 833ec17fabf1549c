"""ripe.atlas.sagan, Atlas's own parser, as the oracle; where it differs, the difference is asserted and explained."""

from __future__ import annotations

import bz2
import gzip
import ipaddress
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import pytest
from ripe.atlas.sagan import PingResult, TracerouteResult

from ingest.parse import parse

pytestmark = pytest.mark.recorded

IGNORE = PingResult.ACTION_IGNORE  # errors are compared, not logged

SAMPLES = (
    ("builtin-2019/ping-2019-05-08T0500.ndjson.bz2", 31),
    ("builtin-2019/traceroute-2019-05-08T0500.ndjson.bz2", 11),
    ("regional-2019/ping-2019-05-20.ndjson.bz2", 23),
    ("regional-2019/traceroute-2019-05-20.ndjson.bz2", 13),
    ("mesh/results.ndjson.gz", 5),
)


def lines(path: Path) -> list[bytes]:
    content = path.read_bytes()
    if path.suffix == ".bz2":
        content = bz2.decompress(content)
    elif path.suffix == ".gz":
        content = gzip.decompress(content)
    return content.splitlines()


def fixture_lines(recorded: Path) -> list[bytes]:
    return [line for path in sorted((recorded / "atlas" / "fixtures").iterdir()) for line in lines(path)]


def pairs(raws: list[bytes]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each ping or traceroute record beside its row."""
    parsed = parse(raws, "test")
    rows = {"ping": iter(parsed.pings.to_pylist()), "traceroute": iter(parsed.traceroutes.to_pylist())}
    for raw in raws:
        record = orjson.loads(raw)
        if record["type"] in rows:
            yield record, next(rows[record["type"]])
    assert [next(rest, None) for rest in rows.values()] == [None, None]


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def compressed(address: str | None) -> str | None:
    if address in (None, ""):  # some probes write "" for an address that they do not know
        return None
    return ipaddress.ip_address(address).compressed


def check_shared(record: dict[str, Any], row: dict[str, Any], result: Any) -> None:
    assert (row["msm_id"], row["probe_id"]) == (result.measurement_id, result.probe_id)
    assert row["timestamp"] == result.created
    assert row["firmware"] == result.firmware
    assert row["probe_address"] == compressed(result.origin)
    if (
        " lts" in record or " proto" in record
    ):  # a firmware's stray blank in a key: sagan does not see the value
        return
    assert row["clock_age_s"] == result.seconds_since_sync
    assert row["protocol"] == result.protocol


def check_ping(record: dict[str, Any], row: dict[str, Any]) -> None:
    result = PingResult(record, on_error=IGNORE, on_malformation=IGNORE)
    check_shared(record, row, result)
    if (
        record["fw"] == 0
    ):  # unknown to sagan, which then looks under newer firmware's names and finds the same
        assert result.is_malformed
    assert row["target"] == compressed(result.destination_address)
    assert row["target_name"] == result.destination_name
    assert row["af"] == result.af
    assert (row["sent"], row["received"]) == (result.packets_sent, result.packets_received)
    assert row["duplicates"] == result.duplicates
    if result.packets_received == 0 and result.rtt_average is not None:
        # One hand-made record has a mean over no packet at all; sagan repeats it.
        assert (record["msm_id"], record["avg"]) == (1000001, 10.002)
        assert row["rtt_avg_ms"] is None
    else:
        assert rounded(row["rtt_avg_ms"]) == pytest.approx(result.rtt_average, abs=1.1e-3)
        assert row["rtt_min_ms"] == result.rtt_min
        assert row["rtt_max_ms"] == result.rtt_max
    packets = result.packets
    assert [rounded(reply["rtt_ms"]) for reply in row["replies"]] == [packet.rtt for packet in packets]
    assert [reply["duplicate"] for reply in row["replies"]] == [packet.dup for packet in packets]
    assert [reply["ttl"] for reply in row["replies"]] == [packet.ttl for packet in packets]
    assert [reply["error"] for reply in row["replies"]] == [
        packet.get("error") for packet in record.get("result", [])
    ]


def check_traceroute(record: dict[str, Any], row: dict[str, Any]) -> None:
    result = TracerouteResult(record, on_error=IGNORE, on_malformation=IGNORE)
    check_shared(record, row, result)
    assert row["target"] == compressed(result.destination_address)
    assert row["target_name"] == result.destination_name
    assert row["source_address"] == compressed(result.source_address)
    assert row["af"] == result.af
    assert row["end_timestamp"] == result.end_time
    assert row["paris_id"] == result.paris_id
    assert row["size_bytes"] == result.size
    if row["error"] is not None:  # sagan makes a hop without a number of it
        assert [(hop.index, hop.error_message) for hop in result.hops] == [(None, row["error"])]
        assert row["hops"] == []
        return
    assert [hop["hop"] for hop in row["hops"]] == [hop.index for hop in result.hops]
    for raw, hop, theirs in zip(record["result"], row["hops"], result.hops, strict=True):
        troubles = [reply["error"] for reply in raw.get("result", []) if "error" in reply]
        if troubles:  # sagan has a packet that nobody answered; nothing was sent
            assert hop["error"] == troubles[-1]
            assert theirs.error_message is None
        else:
            assert hop["error"] == theirs.error_message
        # sagan leaves late answers out; they are kept here, and say that they are late.
        replies = [reply for reply in hop["replies"] if reply["late"] is None]
        assert len(hop["replies"]) - len(replies) == sum("late" in reply for reply in raw.get("result", []))
        packets = [packet for packet in theirs.packets if "error" not in packet.raw_data]
        assert [reply["address"] for reply in replies] == [compressed(packet.origin) for packet in packets]
        assert [rounded(reply["rtt_ms"]) for reply in replies] == [packet.rtt for packet in packets]
        assert [reply["ttl"] for reply in replies] == [packet.ttl for packet in packets]
        assert [reply["size_bytes"] for reply in replies] == [packet.size for packet in packets]


def check(raws: list[bytes]) -> int:
    count = 0
    for record, row in pairs(raws):
        (check_ping if record["type"] == "ping" else check_traceroute)(record, row)
        count += 1
    return count


def test_every_fixture_of_every_firmware_is_read_as_sagan_reads_it(recorded: Path) -> None:
    assert check(fixture_lines(recorded)) == 57


@pytest.mark.parametrize(("name", "step"), SAMPLES)
def test_a_sample_of_each_recorded_set_is_read_as_sagan_reads_it(
    recorded: Path, name: str, step: int
) -> None:
    assert check(list(islice(lines(recorded / "atlas" / name), 0, None, step))) >= 150


def test_sagan_loses_the_ttl_of_an_answer_within_no_time() -> None:
    record = {
        "type": "ping", "fw": 4970, "msm_id": 1, "prb_id": 2, "timestamp": 1557705600, "af": 4, "proto": "ICMP",
        "dst_addr": "192.0.2.1", "sent": 2, "rcvd": 2, "dup": 0, "avg": 0.0, "min": 0.0, "max": 0.0, "size": 20,
        "ttl": 64, "result": [{"rtt": 0.0}, {"rtt": 0.0}],
    }  # fmt: skip
    ((_, row),) = pairs([orjson.dumps(record)])
    assert [(packet.rtt, packet.ttl) for packet in PingResult(record).packets] == [(0.0, None)] * 2
    assert [(reply["rtt_ms"], reply["ttl"]) for reply in row["replies"]] == [(0.0, 64)] * 2


def test_sagan_takes_the_counts_of_the_record_for_packets_that_could_not_be_sent() -> None:
    record = {
        "type": "ping", "fw": 4970, "msm_id": 1, "prb_id": 2, "timestamp": 1557705600, "af": 4, "proto": "ICMP",
        "dst_addr": "192.0.2.1", "sent": 3, "rcvd": 1, "dup": 0, "avg": 5.0, "min": 5.0, "max": 5.0, "size": 20,
        "result": [{"rtt": 5.0}, {"error": "no route"}, {"error": "no route"}],
    }  # fmt: skip
    ((_, row),) = pairs([orjson.dumps(record)])
    result = PingResult(record)
    assert (result.packets_sent, result.packets_received) == (3, 1)
    assert (row["sent"], row["received"], row["errors"]) == (1, 1, 2)


@pytest.mark.parametrize("name", [name for name, _ in SAMPLES if "ping" in name or "mesh" in name])
def test_loss_is_what_a_short_count_over_the_raw_records_gives(recorded: Path, name: str) -> None:
    raws = [line for line in lines(recorded / "atlas" / name) if b'"ping"' in line]
    sent = received = 0
    for raw in raws:
        for packet in orjson.loads(raw)["result"]:
            if "dup" not in packet and "error" not in packet:
                sent += 1
                received += "rtt" in packet
    table = parse(raws, "test").pings
    assert sum(table.column("sent").to_pylist()) == sent
    assert sum(table.column("received").to_pylist()) == received


def test_the_built_in_set_has_the_counts_of_its_readme(recorded: Path) -> None:
    pings = traceroutes = 0
    addresses, probes = set(), set()
    for path in sorted((recorded / "atlas" / "builtin-2019").glob("*.bz2")):
        parsed = parse(lines(path), path.name)
        assert parsed.quarantined.num_rows == 0
        pings += parsed.pings.num_rows
        traceroutes += parsed.traceroutes.num_rows
        addresses |= set(parsed.pings.column("target").unique().to_pylist())
        probes |= set(parsed.pings.column("probe_id").unique().to_pylist())
    assert (pings, traceroutes, len(addresses), len(probes)) == (68_191, 9_089, 24, 40)
