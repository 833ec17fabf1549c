from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import InputError
from ingest.files import read_file
from ingest.lake import Lake
from ingest.lake_files import Kind
from ingest.parse import parse
from ingest.summarise import (
    HOP_LINK_SCHEMA,
    MEASUREMENT_TARGET_SCHEMA,
    PATH_STATE_SCHEMA,
    hop_links,
    measurement_targets,
    pings_without_pair,
    summarise,
)

Make = Callable[..., dict[str, Any]]

HOUR = timedelta(hours=1)
NOON = 1557748800  # 2019-05-13T12:00Z


def states(lake: Lake, *records: Any, window: timedelta = HOUR, **bounds: Any) -> Any:
    lake.land(parse(records, "test"))
    table = summarise(lake, window, **bounds)
    assert table.schema == PATH_STATE_SCHEMA
    return table.to_pylist()


def rtts(*values: float | None) -> list[dict[str, Any]]:
    return [{"x": "*"} if value is None else {"rtt": value} for value in values]


def test_a_window_worked_out_by_hand(ping: Make, lake: Lake) -> None:
    (state,) = states(
        lake,
        ping(timestamp=NOON, result=rtts(10.0, 14.0, 11.0), sent=3),
        ping(
            timestamp=NOON + 3599, result=[*rtts(20.0, None), {"dup": 1, "rtt": 99.0}, {"error": "x"}], sent=2
        ),
    )
    # Jitter: |14-10| and |11-14| of the first result, mean 3.5; the second has no two answers in a row.
    assert state == {
        "probe_id": 7,
        "target": "192.0.2.1",
        "af": 4,
        "window_start": datetime(2019, 5, 13, 12, tzinfo=UTC),
        "window_end": datetime(2019, 5, 13, 13, tzinfo=UTC),
        "results": 2,
        "doubtful_results": 0,
        "sent": 5,
        "received": 4,
        "duplicates": 1,
        "errors": 1,
        "rtt_min_ms": 10.0,
        "rtt_mean_ms": 13.75,
        "rtt_median_ms": 12.5,
        "rtt_p95_ms": None,
        "loss_ratio": 0.2,
        "jitter_ms": 3.5,
        "utilisation_ratio": None,
        "synthetic": False,
    }


def test_a_duplicate_between_two_packets_does_not_part_them_and_a_loss_does(ping: Make, lake: Lake) -> None:
    (one, two, three) = states(
        lake,
        ping(prb_id=1, result=[{"rtt": 1.0}, {"dup": 1, "rtt": 50.0}, {"rtt": 3.0}]),
        ping(prb_id=2, result=rtts(1.0, None, 3.0)),
        ping(prb_id=3, result=[{"rtt": 1.0}, {"error": "x"}, {"rtt": 3.0}]),
    )
    assert (one["jitter_ms"], two["jitter_ms"], three["jitter_ms"]) == (2.0, None, None)


def test_jitter_is_the_mean_over_results_and_not_over_packets(ping: Make, lake: Lake) -> None:
    (state,) = states(
        lake,
        ping(timestamp=NOON, result=rtts(1.0, 2.0, 3.0, 4.0)),
        ping(timestamp=NOON + 60, result=rtts(1.0, 8.0)),
    )
    assert state["jitter_ms"] == 4.0


def test_nothing_sent_is_no_loss_ratio_and_nothing_answered_is_all_lost(ping: Make, lake: Lake) -> None:
    unsent, lost = states(
        lake,
        ping(prb_id=1, result=[{"error": "x"}] * 3, sent=0, rcvd=0),
        ping(prb_id=2, result=rtts(None, None, None), rcvd=0),
    )
    assert (unsent["sent"], unsent["loss_ratio"], unsent["errors"]) == (0, None, 3)
    assert (lost["loss_ratio"], lost["rtt_median_ms"], lost["rtt_mean_ms"], lost["jitter_ms"]) == (
        1.0,
        None,
        None,
        None,
    )


def test_quantiles_need_every_packets_rtt_and_enough_of_them(ping: Make, lake: Lake) -> None:
    summary = {"result": ..., "fw": 1, "avg": 6.0, "min": 5.0, "max": 7.0}
    enough = [ping(prb_id=1, timestamp=NOON + n, result=rtts(*map(float, range(1, 11)))) for n in range(2)]
    few, mixed, bare, many = states(
        lake,
        *enough[:1],
        ping(prb_id=2, timestamp=NOON, result=rtts(1.0, 2.0, 3.0)),
        ping(prb_id=2, timestamp=NOON + 1, **summary),
        ping(prb_id=3, timestamp=NOON, **summary | {"avg": None}),
        *(record | {"prb_id": 4} for record in enough),
    )
    assert (few["rtt_median_ms"], few["rtt_p95_ms"]) == (5.5, None)
    assert (mixed["rtt_median_ms"], mixed["rtt_mean_ms"], mixed["rtt_min_ms"]) == (None, 4.0, 1.0)
    assert (bare["rtt_mean_ms"], bare["rtt_min_ms"], bare["received"]) == (None, 5.0, 3)
    assert many["rtt_p95_ms"] == pytest.approx(10.0)


def test_windows_are_aligned_and_never_summarised_in_part(ping: Make, lake: Lake) -> None:
    records = [ping(timestamp=NOON + 600 * n) for n in range(18)]
    day = states(lake, *records, window=timedelta(hours=3))
    assert [(state["window_start"].hour, state["results"]) for state in day] == [(12, 18)]
    start, end = (datetime.fromtimestamp(NOON + offset, tz=UTC) for offset in (3600, 7201))
    hours = summarise(lake, HOUR, start=start, end=end).to_pylist()
    assert [(state["window_start"].hour, state["results"]) for state in hours] == [(13, 6), (14, 6)]


def test_states_are_sorted_and_a_synthetic_result_marks_its_window(ping: Make, lake: Lake) -> None:
    found = states(
        lake,
        ping(prb_id=9, timestamp=NOON),
        ping(prb_id=2, timestamp=NOON, dst_addr="192.0.2.9"),
        ping(prb_id=2, timestamp=NOON),
        ping(prb_id=2, timestamp=NOON + 1, synthetic=True),
        ping(prb_id=9, timestamp=NOON - 1),
    )
    keys = [(state["window_start"], state["probe_id"], state["target"]) for state in found]
    assert keys == sorted(keys)
    assert [state["synthetic"] for state in found] == [False, True, False, False]


def test_pings_that_belong_to_no_pair_are_counted(ping: Make, lake: Lake) -> None:
    assert len(states(lake, ping(), ping(dst_addr=...), ping(dst_addr=..., af=..., src_addr=...))) == 1
    assert pings_without_pair(lake) == 2


def test_an_empty_lake_gives_empty_tables(lake: Lake) -> None:
    assert summarise(lake, HOUR).schema == PATH_STATE_SCHEMA
    assert hop_links(lake).schema == HOP_LINK_SCHEMA
    assert measurement_targets(lake).schema == MEASUREMENT_TARGET_SCHEMA
    assert summarise(lake, HOUR).num_rows + hop_links(lake).num_rows + pings_without_pair(lake) == 0


def test_a_window_without_length_and_a_time_without_zone_are_refused(lake: Lake) -> None:
    with pytest.raises(InputError, match="length"):
        summarise(lake, timedelta(0))
    with pytest.raises(InputError, match="zone"):
        summarise(lake, HOUR, start=datetime(2019, 5, 13))  # noqa: DTZ001 - the point


_packet = st.one_of(
    st.floats(0.0, 900.0).map(lambda rtt: {"rtt": rtt}),
    st.just({"x": "*"}),
    st.just({"error": "sendto failed"}),
    st.floats(0.0, 900.0).map(lambda rtt: {"dup": 1, "rtt": rtt}),
)


@settings(max_examples=12)
@given(results=st.lists(st.lists(_packet, max_size=9), min_size=1, max_size=6))
def test_a_window_is_what_plain_python_makes_of_its_packets(
    ping: Make, tmp_path_factory: pytest.TempPathFactory, results: list[list[dict[str, Any]]]
) -> None:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    records = [
        ping(timestamp=NOON + n, result=packets, sent=..., rcvd=0) for n, packets in enumerate(results)
    ]
    (state,) = states(lake, *records)
    check(state, [by_hand(record) for record in records])


def by_hand(record: dict[str, Any]) -> tuple[list[float | None], int]:
    """The RTTs of a record's packets in their order, None where there is none; and how many were lost."""
    packets = [packet for packet in record["result"] if "dup" not in packet]
    return [packet.get("rtt") for packet in packets], sum("x" in packet for packet in packets)


def check(state: dict[str, Any], results: list[tuple[list[float | None], int]]) -> None:
    answered = sorted(rtt for packets, _ in results for rtt in packets if rtt is not None)
    lost = sum(count for _, count in results)
    jitters = []
    for packets, _ in results:
        steps = [
            abs(packets[at + 1] - packets[at])  # type: ignore[operator]
            for at in range(len(packets) - 1)
            if packets[at] is not None and packets[at + 1] is not None
        ]
        if steps:
            jitters.append(sum(steps) / len(steps))

    def same(value: float | None, expected: float | None) -> bool:
        return value is None if expected is None else value == pytest.approx(expected, rel=1e-9, abs=1e-9)

    assert (state["results"], state["sent"], state["received"]) == (
        len(results),
        len(answered) + lost,
        len(answered),
    )
    assert same(state["rtt_min_ms"], answered[0] if answered else None)
    assert same(state["rtt_mean_ms"], math.fsum(answered) / len(answered) if answered else None)
    assert same(state["rtt_median_ms"], statistics.median(answered) if answered else None)
    p95 = statistics.quantiles(answered, n=20, method="inclusive")[18] if len(answered) >= 20 else None
    assert same(state["rtt_p95_ms"], p95)
    assert same(state["loss_ratio"], lost / (lost + len(answered)) if lost + len(answered) else None)
    assert same(state["jitter_ms"], math.fsum(jitters) / len(jitters) if jitters else None)


@pytest.mark.recorded
def test_recorded_windows_are_what_plain_python_makes_of_the_raw_records(recorded: Path, lake: Lake) -> None:
    raws = [
        raw
        for batch in read_file(recorded / "atlas" / "builtin-2019" / "ping-2019-05-01T0500.ndjson.bz2")
        for raw in batch.records
    ]
    lake.land(parse(raws, "test"))
    windows: dict[tuple[int, str, int], list[tuple[list[float | None], int]]] = defaultdict(list)
    for raw in raws:
        record = orjson.loads(raw)
        key = (record["prb_id"], record["dst_addr"], record["timestamp"] // 3600 * 3600)
        windows[key].append(by_hand(record))
    found = summarise(lake, HOUR).to_pylist()
    assert len(found) == len(windows)
    for state in found:
        check(state, windows[state["probe_id"], state["target"], int(state["window_start"].timestamp())])
    assert sum(state["rtt_p95_ms"] is not None for state in found) > 100


def links(lake: Lake, *records: Any) -> dict[tuple[str, str], int]:
    assert lake.land(parse(records, "test")).quarantined == 0
    table = hop_links(lake)
    assert table.schema == HOP_LINK_SCHEMA
    return {(row["from_address"], row["to_address"]): row["count"] for row in table.to_pylist()}


def test_every_address_of_a_hop_is_linked_to_every_one_of_the_next(traceroute: Make, lake: Lake) -> None:
    record = traceroute({1: ["10.0.0.1", "10.0.0.2", "10.0.0.1"], 2: ["10.0.1.1", {"x": "*"}, "10.0.1.2"]})
    assert links(lake, record) == {
        ("10.0.0.1", "10.0.1.1"): 1,
        ("10.0.0.1", "10.0.1.2"): 1,
        ("10.0.0.2", "10.0.1.1"): 1,
        ("10.0.0.2", "10.0.1.2"): 1,
    }


def test_what_breaks_a_chain_of_hops(traceroute: Make, lake: Lake) -> None:
    late = {"from": "10.9.9.9", "late": 2, "ttl": 60, "size": 28}
    duplicate = {"from": "10.8.8.8", "rtt": 1.0, "dup": True}
    record = traceroute(
        {
            1: ["10.0.0.1"],
            2: [{"x": "*"}] * 3,  # nobody: 1 and 3 are not neighbours
            3: ["10.0.0.3", late],
            4: ["10.0.0.4", duplicate],
            5: ["10.0.0.4"],  # no address is its own neighbour
            7: ["10.0.0.7"],  # no hop 6
            254: ["10.0.0.54"],
            255: ["10.0.0.55"],  # the last, far jump
        }
    )
    assert links(lake, record) == {("10.0.0.3", "10.0.0.4"): 1}


def test_a_link_counts_traceroutes_and_knows_when_it_was_seen(traceroute: Make, lake: Lake) -> None:
    loop = {1: ["10.0.0.1"], 2: ["10.0.0.2"], 3: ["10.0.0.1"], 4: ["10.0.0.2"]}
    first, second = traceroute(loop), traceroute(loop, timestamp=NOON, synthetic=True)
    assert links(lake, first, second) == {("10.0.0.1", "10.0.0.2"): 2, ("10.0.0.2", "10.0.0.1"): 2}
    row = hop_links(lake).to_pylist()[0]
    assert (row["first_seen"], row["last_seen"]) == (
        datetime(2019, 5, 13, tzinfo=UTC),
        datetime(2019, 5, 13, 12, tzinfo=UTC),
    )
    assert row["synthetic"] is True


def test_links_of_many_files_add_up_and_files_that_are_not_new_are_not_counted_again(
    traceroute: Make, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    hops = {1: ["10.0.0.1"], 2: ["10.0.0.2"]}
    counted = []
    ask = Lake._ask
    monkeypatch.setattr(
        Lake,
        "_ask",
        lambda self, sql, given, entries: counted.append(entries) or ask(self, sql, given, entries),
    )
    for number in range(4):
        assert links(lake, traceroute(hops, timestamp=NOON + number, synthetic=number == 2)) == {
            ("10.0.0.1", "10.0.0.2"): number + 1
        }
    assert [len(entries[Kind.TRACEROUTE]) for entries in counted] == [1, 1, 1, 1]
    apart = hop_links(lake)
    answers = sorted((lake.folder / ".answers").rglob("*.parquet"))
    answers[0].write_bytes(answers[0].read_bytes()[:-9])  # no answer any more, and so asked again
    assert hop_links(lake).equals(apart)
    lake.compact()
    assert hop_links(lake).equals(apart)
    assert len(counted) == 6
    assert len(list((lake.folder / ".answers").rglob("*.parquet"))) == 1


def test_targets_are_listed_once_by_measurement_and_probe_with_when_they_were_measured_first_and_last(
    ping: Make, traceroute: Make, lake: Lake
) -> None:
    lake.land(parse([ping(), ping(timestamp=NOON), ping(prb_id=8), traceroute(dst_addr=...)], "test"))
    table = measurement_targets(lake)
    assert table.schema == MEASUREMENT_TARGET_SCHEMA
    midnight, noon = datetime(2019, 5, 13, tzinfo=UTC), datetime(2019, 5, 13, 12, tzinfo=UTC)
    assert [tuple(row.values()) for row in table.to_pylist()] == [
        (1001, "ping", "192.0.2.1", "example.org", 4, False, 7, midnight, noon),
        (1001, "ping", "192.0.2.1", "example.org", 4, False, 8, midnight, midnight),
        (5001, "traceroute", None, "192.0.2.1", 4, False, 7, midnight, midnight),
    ]


@given(order=st.permutations(range(12)))
@settings(max_examples=8)
def test_the_order_in_which_results_land_changes_no_bit_of_a_state(
    order: list[int], ping: Make, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def summary(sequence: list[int]) -> Any:
        lake = Lake(tmp_path_factory.mktemp("lake"))
        for number in sequence:  # a file each, read by several threads
            replies = [{"rtt": 0.1 + number / 7}, {"rtt": 0.3 * number + 1 / 3}, {"rtt": math.pi}]
            lake.land(parse([ping(timestamp=NOON + number, result=replies, sent=3)], "test"))
        return summarise(lake, HOUR)

    assert summary(order) == summary(list(range(12)))
