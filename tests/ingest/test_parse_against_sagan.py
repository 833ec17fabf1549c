"""ripe.atlas.sagan, Atlas's own parser, as the oracle: field by field, and every difference is a row of a table that says why."""

from __future__ import annotations

import bz2
import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from ripe.atlas.sagan import PingResult, TracerouteResult
from ripe.atlas.sagan.traceroute import Packet

from ingest.parse import parse
from tests.ingest.mutations import KINDS, first_lines, recorded_files

IGNORE = PingResult.ACTION_IGNORE  # errors are compared, not logged

ABSENT = "absent"
"""Stands for a reply or hop that one of the two does not have."""

SAMPLES = {"fixtures": 57, "builtin-2019": 60, "regional-2019": 60, "mesh": 500}
"""About how many records of each file of a set are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A value that both have and that differs.

    Attributes:
        field: our name for it.
        record: the raw record, or the raw reply or hop where the field is one of those.
        ours, theirs: the values.
    """

    field: str
    record: dict[str, Any]
    ours: Any
    theirs: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A difference that is known.

    Attributes:
        name: of it.
        why: who is right, and why.
        fields: where it can be.
        holds: whether this is it.
        seen_in: sets of records in which it must occur; a row that is not true any more must go.
    """

    name: str
    why: str
    fields: tuple[str, ...]
    holds: Callable[[Found], bool]
    seen_in: tuple[str, ...]


ADDRESSES = ("target", "probe_address", "source_address", "address")
TIMES = ("rtt_avg_ms", "rtt_ms")

DIFFERENCES = (
    Difference(
        name="compressed",
        why="An address is kept in its compressed form, so that one address is one address; sagan repeats what was written.",
        fields=ADDRESSES,
        holds=lambda one: (
            one.theirs not in ("", None, ABSENT) and one.ours == ipaddress.ip_address(one.theirs).compressed
        ),
        seen_in=("hand-made",),
    ),
    Difference(
        name="no-address",
        why='Some probes write "" for an address that they do not know. Nothing is no address.',
        fields=ADDRESSES,
        holds=lambda one: one.theirs == "" and one.ours is None,
        seen_in=("fixtures",),
    ),
    Difference(
        name="stray-blank",
        why='A firmware wrote the keys " lts" and " proto"; sagan does not see their values.',
        fields=("clock_age_s", "protocol"),
        holds=lambda one: (
            one.theirs is None and one.ours in (one.record.get(" lts"), one.record.get(" proto"))
        ),
        seen_in=("fixtures",),
    ),
    Difference(
        name="not-rounded",
        why="sagan rounds to microseconds. RTTs are kept as they were measured, and the mean is computed from them.",
        fields=TIMES,
        holds=lambda one: None not in (one.ours, one.theirs) and abs(one.ours - one.theirs) <= 0.0011,
        seen_in=("builtin-2019", "regional-2019", "mesh"),
    ),
    Difference(
        name="mean-of-nothing",
        why="A hand-made record of the fixtures has a mean over no packet at all; sagan repeats it.",
        fields=("rtt_avg_ms",),
        holds=lambda one: (
            one.ours is None and one.record["rcvd"] == 0 and one.record["avg"] == one.theirs > 0
        ),
        seen_in=("fixtures",),
    ),
    Difference(
        name="zero-is-a-value",
        why="sagan takes an RTT of 0 for none and loses the TTL of that answer.",
        fields=("ttl",),
        holds=lambda one: one.record["rtt"] == 0.0 and one.theirs is None and one.ours is not None,
        seen_in=("hand-made",),
    ),
    Difference(
        name="send-errors-are-not-loss",
        why="sagan repeats the count of the record, which may hold packets that the probe could not send.",
        fields=("sent",),
        holds=lambda one: (
            one.theirs - one.ours == sum("error" in packet for packet in one.record["result"]) > 0
        ),
        seen_in=("hand-made",),
    ),
    Difference(
        name="late",
        why="sagan leaves late answers out. They prove that the hop is there; they are kept, and say that they are late.",
        fields=("reply",),
        holds=lambda one: (
            one.theirs == ABSENT and one.ours != ABSENT and one.ours["late"] == one.record["late"]
        ),
        seen_in=("fixtures", "builtin-2019", "regional-2019", "mesh"),
    ),
    Difference(
        name="not-sent",
        why="sagan makes of {error} in a hop a packet that nobody answered; nothing was sent, and the hop says the error.",
        fields=("reply",),
        holds=lambda one: one.ours == ABSENT and "error" in one.record and "from" not in one.record,
        seen_in=("hand-made",),
    ),
    Difference(
        name="error-of-the-hop",
        why="sagan does not see that the probe had trouble at this hop when the error stands among the replies.",
        fields=("hop_error",),
        holds=lambda one: (
            one.theirs is None and one.ours in [reply.get("error") for reply in one.record["result"]]
        ),
        seen_in=("hand-made",),
    ),
    Difference(
        name="error-of-all",
        why="The whole result may be [{error}], of a name that did not resolve; sagan makes a hop without a number of it.",
        fields=("hop",),
        holds=lambda one: one.ours == ABSENT and one.theirs is None and one.record.keys() == {"error"},
        seen_in=("fixtures",),
    ),
    Difference(
        name="letters",
        why="sagan puts ICMP errors into words; Atlas's letters and numbers are kept.",
        fields=("icmp_error",),
        holds=lambda one: one.theirs == Packet.ERROR_CONDITIONS.get(one.ours),
        seen_in=("fixtures", "builtin-2019", "regional-2019"),
    ),
)

HAND_MADE = (
    {
        "type": "ping", "fw": 4970, "msm_id": 1, "prb_id": 2, "timestamp": 1557705600, "af": 4, "proto": "ICMP",
        "dst_addr": "192.0.2.1", "sent": 2, "rcvd": 2, "dup": 0, "avg": 0.0, "min": 0.0, "max": 0.0, "size": 20,
        "ttl": 64, "result": [{"rtt": 0.0}, {"rtt": 0.0}],
    },
    {
        "type": "ping", "fw": 4970, "msm_id": 1, "prb_id": 2, "timestamp": 1557705600, "af": 6, "proto": "ICMP",
        "dst_addr": "2001:DB8:0::1", "sent": 3, "rcvd": 1, "dup": 0, "avg": 5.0, "min": 5.0, "max": 5.0, "size": 20,
        "result": [{"rtt": 5.0}, {"error": "no route"}, {"error": "no route"}],
    },
    {
        "type": "traceroute", "fw": 4970, "msm_id": 1, "prb_id": 2, "timestamp": 1557705600, "endtime": 1557705601, "af": 4,
        "proto": "T", "dst_addr": "192.0.2.1", "size": 40, "paris_id": 0,
        "result": [
            {"hop": 1, "result": [{"error": "bind failed"}, {"x": "*"}]},
            {"hop": 2, "result": [{"from": "192.0.2.1", "rtt": 0.0, "size": 28, "ttl": 60, "err": "h"}]},
        ],
    },
)  # fmt: skip


def records_of(name: str, recorded: Path) -> list[bytes]:
    """Records of a set: all fixtures, and a sample of every file of a recorded set."""
    if name == "hand-made":
        return [orjson.dumps(record) for record in HAND_MADE]
    sample = []
    for path in recorded_files(recorded):
        if path.parent.name == name:
            lines = first_lines(path)
            sample += lines[:: max(1, len(lines) // SAMPLES[name])]
    return sample


def rows_of(raws: list[bytes]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each ping or traceroute record beside its row."""
    parsed = parse(raws, "test")
    rows = {"ping": iter(parsed.pings.to_pylist()), "traceroute": iter(parsed.traceroutes.to_pylist())}
    for raw in raws:
        record = orjson.loads(raw)
        if record["type"] in KINDS:
            yield record, next(rows[record["type"]])
    assert [next(rest, None) for rest in rows.values()] == [None, None]


def values_of(record: dict[str, Any], row: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], Any, Any]]:
    """Every value that both have: its field, the raw object that it is of, ours and theirs."""
    kind = PingResult if record["type"] == "ping" else TracerouteResult
    result = kind(record, on_error=IGNORE, on_malformation=IGNORE)
    ping = record["type"] == "ping"
    shared = {
        "msm_id": result.measurement_id, "probe_id": result.probe_id, "timestamp": result.created, "firmware": result.firmware,
        "probe_address": result.origin, "clock_age_s": result.seconds_since_sync, "protocol": result.protocol, "af": result.af,
        "target": result.destination_address, "target_name": result.destination_name,
        "size_bytes": result.packet_size if ping else result.size,
    }  # fmt: skip
    if ping:
        own = {
            "sent": result.packets_sent, "received": result.packets_received, "duplicates": result.duplicates,
            "rtt_min_ms": result.rtt_min, "rtt_avg_ms": result.rtt_average, "rtt_max_ms": result.rtt_max,
        }  # fmt: skip
    else:
        own = {
            "source_address": result.source_address,
            "end_timestamp": result.end_time,
            "paris_id": result.paris_id,
        }
    for field, theirs in (shared | own).items():
        yield field, record, row[field], theirs
    yield from (packets_of if ping else hops_of)(record, row, result)


def packets_of(
    record: dict[str, Any], row: dict[str, Any], result: Any
) -> Iterator[tuple[str, dict[str, Any], Any, Any]]:
    raws = record.get("result", [])
    for raw, ours, theirs in zip(raws, row["replies"], result.packets, strict=True):
        yield "rtt_ms", raw, ours["rtt_ms"], theirs.rtt
        yield "ttl", raw, ours["ttl"], theirs.ttl
        yield "duplicate", raw, ours["duplicate"], theirs.dup
        yield "error", raw, ours["error"], raw.get("error")


def hops_of(
    record: dict[str, Any], row: dict[str, Any], result: Any
) -> Iterator[tuple[str, dict[str, Any], Any, Any]]:
    ours_left = iter(row["hops"])
    for raw, theirs in zip(record["result"], result.hops, strict=True):
        ours = next(ours_left) if "hop" in raw else None
        yield "hop", raw, ABSENT if ours is None else ours["hop"], theirs.index
        yield "hop_error", raw, row["error"] if ours is None else ours["error"], theirs.error_message
        if ours is not None:
            yield from replies_of(raw.get("result", []), ours, theirs)
    assert next(ours_left, None) is None


def replies_of(
    raws: list[dict[str, Any]], hop: dict[str, Any], theirs: Any
) -> Iterator[tuple[str, dict[str, Any], Any, Any]]:
    ours_left, theirs_left = iter(hop["replies"]), iter(theirs.packets)
    for raw in raws:
        reply = ABSENT if "error" in raw else next(ours_left)
        packet = ABSENT if "late" in raw else next(theirs_left)
        if reply == ABSENT or packet == ABSENT:
            yield "reply", raw, reply, packet
            continue
        yield "address", raw, reply["address"], packet.origin
        yield "rtt_ms", raw, reply["rtt_ms"], packet.rtt
        yield "ttl", raw, reply["ttl"], packet.ttl
        yield "size_bytes", raw, reply["size_bytes"], packet.size
        yield "icmp_error", raw, reply["icmp_error"], packet.error_message
        yield "duplicate", raw, reply["duplicate"], bool(raw.get("dup"))  # sagan has none
    assert [next(ours_left, None), next(theirs_left, None)] == [None, None]


@pytest.mark.recorded
@pytest.mark.parametrize(
    ("name", "at_least"),
    [("fixtures", 57), ("builtin-2019", 500), ("regional-2019", 2000), ("mesh", 500), ("hand-made", 3)],
)
def test_records_of_every_set_are_read_as_sagan_reads_them_but_for_what_the_table_says(
    recorded: Path, name: str, at_least: int
) -> None:
    records, seen = 0, set()
    for record, row in rows_of(records_of(name, recorded)):
        records += 1
        for field, raw, ours, theirs in values_of(record, row):
            if ours == theirs and (ours is None) == (theirs is None):
                continue
            found = Found(field=field, record=raw, ours=ours, theirs=theirs)
            reasons = [known.name for known in DIFFERENCES if field in known.fields and known.holds(found)]
            assert len(reasons) == 1, f"{reasons}: {found}"
            seen.update(reasons)
    assert records >= at_least
    assert {known.name for known in DIFFERENCES if name in known.seen_in} - seen == set()


@pytest.mark.recorded
@pytest.mark.parametrize("name", ["fixtures", "builtin-2019", "regional-2019", "mesh"])
def test_loss_is_what_a_short_count_over_the_raw_records_gives(recorded: Path, name: str) -> None:
    raws = [
        line for path in recorded_files(recorded) if path.parent.name == name for line in first_lines(path)
    ]
    sent = received = duplicates = errors = 0
    for record in map(orjson.loads, raws):
        if record["type"] != "ping":
            continue
        packets = record.get("result")
        if not packets:
            sent, received = sent + int(record["sent"]), received + int(record["rcvd"])
        for packet in packets or []:
            duplicates += "dup" in packet
            errors += "error" in packet
            sent += "dup" not in packet and "error" not in packet
            received += "rtt" in packet and "dup" not in packet
    pings = parse(raws, "test").pings
    columns = [pings.column(column).to_pylist() for column in ("sent", "received", "duplicates", "errors")]
    assert [sum(column) for column in columns] == [sent, received, duplicates, errors]


@pytest.mark.recorded
def test_the_built_in_set_has_the_counts_of_its_readme(recorded: Path) -> None:
    pings = traceroutes = 0
    addresses, probes = set(), set()
    for path in sorted((recorded / "atlas" / "builtin-2019").glob("*.bz2")):
        parsed = parse(bz2.decompress(path.read_bytes()).splitlines(), path.name)
        assert parsed.quarantined.num_rows == 0
        pings += parsed.pings.num_rows
        traceroutes += parsed.traceroutes.num_rows
        addresses |= set(parsed.pings.column("target").unique().to_pylist())
        probes |= set(parsed.pings.column("probe_id").unique().to_pylist())
    assert (pings, traceroutes, len(addresses), len(probes)) == (68_191, 9_089, 24, 40)
