from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.batch import Batch, Parsed, bounds_of
from ingest.parse import parse, parse_batch

Make = Callable[..., dict[str, Any]]


def one_ping(record: object) -> Any:
    parsed = parse([json.dumps(record).encode()], "test")
    assert parsed.quarantined.to_pylist() == []
    (row,) = parsed.pings.to_pylist()
    return row


def one_traceroute(record: object) -> Any:
    parsed = parse([json.dumps(record).encode()], "test")
    assert parsed.quarantined.to_pylist() == []
    (row,) = parsed.traceroutes.to_pylist()
    return row


def reason(record: Any) -> Any:
    parsed = parse([record], "test")
    assert (parsed.pings.num_rows, parsed.traceroutes.num_rows) == (0, 0)
    (row,) = parsed.quarantined.to_pylist()
    return row["reason"]


def counts(row: dict[str, Any]) -> tuple[int, int, int, int]:
    return row["sent"], row["received"], row["duplicates"], row["errors"]


def test_every_field_of_a_ping_arrives(ping: Make) -> None:
    assert one_ping(ping(proto="icmp", dst_addr="2001:DB8:0:0::1", af=6)) == {
        "msm_id": 1001,
        "probe_id": 7,
        "timestamp": datetime(2019, 5, 13, tzinfo=UTC),
        "stored_timestamp": datetime(2019, 5, 13, 0, 1, 40, tzinfo=UTC),
        "af": 6,
        "target": "2001:db8::1",
        "target_name": "example.org",
        "probe_address": "198.51.100.7",
        "source_address": "10.0.0.2",
        "protocol": "ICMP",
        "firmware": 4970,
        "clock_age_s": 30,
        "size_bytes": 20,
        "doubts": [],
        "synthetic": False,
        "sent": 3,
        "received": 3,
        "duplicates": 0,
        "errors": 0,
        "rtt_min_ms": 1.0,
        "rtt_avg_ms": 2.0,
        "rtt_max_ms": 3.0,
        "replies": [{"rtt_ms": rtt, "ttl": 57, "duplicate": False, "error": None} for rtt in (1.0, 3.0, 2.0)],
    }


def test_every_field_of_a_traceroute_arrives(traceroute: Make) -> None:
    answer = {"from": "2001:DB8::0:9", "rtt": "1.5", "ttl": 60, "size": 28, "err": 1, "late": 2, "dup": True}
    row = one_traceroute(traceroute({4: [{"x": "*"}, answer]}, synthetic=True))
    assert (row["end_timestamp"], row["paris_id"], row["error"]) == (
        datetime(2019, 5, 13, 0, 0, 10, tzinfo=UTC),
        3,
        None,
    )
    assert row["synthetic"] is True
    assert row["hops"] == [
        {
            "hop": 4,
            "error": None,
            "replies": [
                {"address": None, "rtt_ms": None, "ttl": None, "size_bytes": None, "icmp_error": None, "late": None, "duplicate": False},
                {"address": "2001:db8::9", "rtt_ms": 1.5, "ttl": 60, "size_bytes": 28, "icmp_error": "1", "late": 2, "duplicate": True},
            ],
        }
    ]  # fmt: skip


def test_a_lost_packet_is_loss_and_a_send_error_is_not(ping: Make) -> None:
    row = one_ping(
        ping(result=[{"rtt": 5.0}, {"x": "*"}, {"error": "sendto failed: Permission denied"}], sent=2, rcvd=1)
    )
    assert counts(row) == (2, 1, 0, 1)
    assert [reply["error"] for reply in row["replies"]] == [None, None, "sendto failed: Permission denied"]


def test_a_send_error_is_no_loss_even_where_the_count_of_sent_packets_includes_it(ping: Make) -> None:
    row = one_ping(ping(result=[{"rtt": 5.0}, {"error": "no route"}, {"error": "no route"}], sent=3, rcvd=1))
    assert counts(row) == (1, 1, 0, 2)


def test_a_duplicate_is_not_a_packet_and_its_rtt_is_in_no_statistic(ping: Make) -> None:
    row = one_ping(ping(result=[{"rtt": 5.0}, {"dup": 1, "rtt": 90.0}, {"x": "*"}], sent=2, rcvd=1, dup=1))
    assert counts(row) == (2, 1, 1, 0)
    assert (row["rtt_min_ms"], row["rtt_avg_ms"], row["rtt_max_ms"]) == (5.0, 5.0, 5.0)


def test_packets_that_only_the_count_knows_were_lost(ping: Make) -> None:
    assert counts(one_ping(ping(result=[], sent=3, rcvd=0, avg=None, min=None, max=None))) == (3, 0, 0, 0)


def test_an_empty_list_beside_answered_packets_is_a_summary_and_not_loss(ping: Make) -> None:
    row = one_ping(ping(result=[]))
    assert counts(row) == (3, 3, 0, 0)
    assert (row["rtt_avg_ms"], row["replies"]) == (2.0, [])


def test_an_rtt_of_zero_is_a_value(ping: Make) -> None:
    row = one_ping(ping(result=[{"rtt": 0.0}, {"rtt": 0}, {"x": "*"}], rcvd=2))
    assert counts(row) == (3, 2, 0, 0)
    assert [reply["rtt_ms"] for reply in row["replies"]] == [0.0, 0.0, None]
    assert row["rtt_avg_ms"] == 0.0


def test_minus_one_and_null_mean_no_rtt(ping: Make) -> None:
    for none in (-1, -1.0, "-1", None):
        row = one_ping(ping(result=[{"x": "*"}] * 3, rcvd=0, avg=none, min=none, max=none, ttl=...))
        assert (row["rtt_min_ms"], row["rtt_avg_ms"], row["rtt_max_ms"]) == (None, None, None)
        row = one_ping(ping(result=..., fw=1, avg=none, min=none, max=none))
        assert (row["received"], row["rtt_avg_ms"]) == (3, None)


def test_a_reply_states_its_ttl_only_where_it_differs(ping: Make) -> None:
    row = one_ping(ping(result=[{"rtt": 1.0}, {"rtt": 1.0, "ttl": 50}, {"x": "*"}]))
    assert [reply["ttl"] for reply in row["replies"]] == [57, 50, None]


def test_the_firsts_firmwares_have_only_counts_which_may_be_text() -> None:
    row = one_ping(
        {"addr": "192.0.2.1", "avg": "58.042", "dup": "1", "fw": 1, "max": "58.272", "min": "57.876",
         "msm_id": "1000192", "name": "example.org", "prb_id": 677, "rcvd": "2", "sent": "3",
         "timestamp": "1328019792", "type": "ping"}
    )  # fmt: skip
    assert counts(row) == (3, 2, 1, 0)
    assert (row["af"], row["target"], row["target_name"]) == (4, "192.0.2.1", "example.org")
    assert (row["rtt_min_ms"], row["rtt_avg_ms"], row["rtt_max_ms"]) == (57.876, 58.042, 58.272)
    assert row["replies"] == []
    assert row["protocol"] is None


def test_a_name_that_did_not_resolve_leaves_no_target(ping: Make, traceroute: Make) -> None:
    error = "name resolution failed: non-recoverable failure in name resolution (1)"
    row = one_traceroute(traceroute(dst_addr=..., dst_name="nowhere.example", result=[{"error": error}]))
    assert (row["target"], row["target_name"], row["error"], row["hops"]) == (
        None,
        "nowhere.example",
        error,
        [],
    )
    row = one_ping(ping(dst_addr=..., result=[{"error": error}], sent=0, rcvd=0, avg=-1, min=-1, max=-1))
    assert (row["target"], row["sent"], row["errors"]) == (None, 0, 1)


def test_a_hop_may_hold_an_error_in_place_of_replies_or_among_them(traceroute: Make) -> None:
    hops = [
        {"hop": 1, "error": "sendto failed"},
        {"hop": 2, "result": [{"error": "bind failed"}, {"x": "*"}]},
    ]
    row = one_traceroute(traceroute(result=hops))
    assert [(hop["error"], len(hop["replies"])) for hop in row["hops"]] == [
        ("sendto failed", 0),
        ("bind failed", 1),
    ]


def test_a_missing_type_is_told_from_the_shape(ping: Make, traceroute: Make) -> None:
    records = [
        ping(type=...),
        ping(type=..., result=..., fw=1),
        traceroute(type=...),
        traceroute(type=..., result=[{"error": "x"}]),
    ]
    parsed = parse(records, "test")
    assert (parsed.pings.num_rows, parsed.traceroutes.num_rows) == (2, 2)
    assert "the keys" in reason({"msm_id": 1, "prb_id": 1, "timestamp": 1557705600})


def test_a_missing_address_family_is_told_from_the_address(ping: Make) -> None:
    assert one_ping(ping(af=...))["af"] == 4
    assert one_ping(ping(af=..., dst_addr="2001:db8::1"))["af"] == 6
    assert one_ping(ping(af=..., dst_addr=..., src_addr="fe80::1"))["af"] == 6
    assert one_ping(ping(af=..., dst_addr=..., src_addr=...))["af"] is None


def test_keys_with_a_stray_leading_blank_are_read(ping: Make) -> None:
    row = one_ping({" proto": "ICMP", " lts": 87, **ping(proto=..., lts=...)})
    assert (row["protocol"], row["clock_age_s"]) == ("ICMP", 87)


def test_an_optional_field_of_a_wrong_type_is_none(ping: Make) -> None:
    row = one_ping(
        ping(fw="new", lts=True, size=[20], proto=6, src_addr=7, stored_timestamp=5, dst_name={}, ttl=1e300)
        | {"from": "not an address"}
    )
    for name in (
        "firmware",
        "clock_age_s",
        "size_bytes",
        "protocol",
        "source_address",
        "stored_timestamp",
        "target_name",
    ):
        assert row[name] is None, name
    assert row["probe_address"] is None
    assert one_ping(ping(lts=-1))["clock_age_s"] is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"msm_id": ...}, "msm_id"),
        ({"msm_id": True}, "msm_id"),
        ({"msm_id": 2**63}, "msm_id"),
        ({"prb_id": -4}, "prb_id"),
        ({"prb_id": 1.5}, "prb_id"),
        ({"timestamp": 1262303999}, "timestamp"),
        ({"timestamp": 4102444800}, "timestamp"),
        ({"timestamp": "yesterday"}, "timestamp"),
        ({"result": "GET4", "sent": ...}, "list"),
        ({"result": [7], "rcvd": ...}, "[7]"),
        ({"result": [{"rtt": "?"}], "sent": -1}, "sent -1"),
        ({"result": ..., "sent": ...}, "sent"),
        ({"result": ..., "sent": 10**12}, "sent"),
        ({"result": ..., "rcvd": 4}, "rcvd 4"),
        ({"result": [], "rcvd": 4}, "rcvd 4"),
    ],
)  # fmt: skip
def test_a_ping_that_is_not_understood_is_kept_whole_with_the_reason(
    ping: Make, changes: dict[str, Any], words: str
) -> None:
    raw = json.dumps(ping(**changes)).encode()
    parsed = parse([json.dumps(ping()).encode(), raw], "some file")
    assert parsed.pings.num_rows == 1
    (row,) = parsed.quarantined.to_pylist()
    assert (row["source"], row["position"], row["raw"]) == ("some file", 1, raw)
    assert words in row["reason"]
    assert "found" in row["reason"]
    assert "expected" in row["reason"]
    assert parsed.other_types == 0


ODD_PACKETS = (
    7, None, [], {}, {"rtt": 1.0, "error": "x"}, {"rtt": 1.0, "x": "*"}, {"rtt": -0.5}, {"rtt": 1000001.0}, {"rtt": "nan"},
    {"rtt": "inf"}, {"rtt": True}, {"rtt": "1_0"}, {"rtt": None}, {"rtt": []}, {"rtt": {"a": 1}},
)  # fmt: skip


@pytest.mark.parametrize("packet", ODD_PACKETS)
def test_a_packet_that_is_not_understood_is_left_out_and_its_record_says_so(ping: Make, packet: Any) -> None:
    row = one_ping(ping(result=[{"rtt": 2.0}, packet, {"x": "*"}]))
    assert counts(row) == (2, 1, 0, 0)
    assert [reply["rtt_ms"] for reply in row["replies"]] == [2.0, None]
    assert row["rtt_avg_ms"] == 2.0
    assert row["doubts"] == ["partly-understood"]


@pytest.mark.parametrize("result", [[packet] for packet in ODD_PACKETS] + ["GET4", 7, {"rtt": 1.0}])
def test_where_no_packet_is_understood_the_counts_of_the_record_are(ping: Make, result: Any) -> None:
    row = one_ping(ping(result=result))
    assert (counts(row), row["rtt_avg_ms"], row["replies"]) == ((3, 3, 0, 0), 2.0, [])
    assert row["doubts"] == ["partly-understood"]


def test_an_answer_to_a_packet_that_was_answered_may_have_an_odd_rtt(ping: Make) -> None:
    row = one_ping(ping(result=[{"rtt": 2.0}, {"dup": 1, "rtt": -3}]))
    assert (counts(row), row["doubts"]) == ((1, 1, 1, 0), [])
    assert row["replies"][1]["rtt_ms"] is None


@pytest.mark.parametrize(
    "changes",
    [
        {"sent": -1}, {"sent": 10**12}, {"sent": 7}, {"rcvd": "many"}, {"dup": []}, {"avg": -2}, {"avg": "fast"}, {"min": {}},
        {"max": 1e308}, {"step": None}, {"msm_name": 5}, {"group_id": [[]]},
    ],
)  # fmt: skip
def test_counts_and_statistics_say_nothing_where_packets_do(ping: Make, changes: dict[str, Any]) -> None:
    assert one_ping(ping(**changes)) == one_ping(ping())


@pytest.mark.parametrize("odd", [-1, "fast", True, [], 2e6])
def test_statistics_of_a_summary_that_are_odd_are_none(ping: Make, odd: Any) -> None:
    row = one_ping(ping(result=..., min=odd, dup=odd if odd != -1 else None))
    assert (counts(row), row["rtt_min_ms"], row["rtt_avg_ms"]) == ((3, 3, 0, 0), None, 2.0)


@pytest.mark.parametrize(
    "result",
    [None, {}, "GET4", [3], [{}], [{"hop": "x", "result": []}], [{"hop": 256, "result": []}], [{"hop": 1}], [[[]]]],
)  # fmt: skip
def test_a_traceroute_that_is_not_understood_leaves_its_neighbours_as_they_are(
    traceroute: Make, result: Any
) -> None:
    parsed = parse([traceroute(), traceroute(result=result), traceroute()], "test")
    before, after = parsed.traceroutes.to_pylist()
    assert before == after == one_traceroute(traceroute())
    assert parsed.quarantined.column("position").to_pylist() == [1]


@pytest.mark.parametrize(
    "item",
    [3, {}, {"hop": "x", "result": []}, {"hop": -1, "result": []}, {"hop": 1}, {"hop": 2, "result": 7}],
)
def test_a_hop_that_is_not_understood_is_left_out_and_its_record_says_so(traceroute: Make, item: Any) -> None:
    hop = {"hop": 1, "result": [{"x": "*"}]}
    row = one_traceroute(traceroute(result=[hop, item]))
    assert (len(row["hops"]), row["doubts"]) == (1, ["partly-understood"])


@pytest.mark.parametrize(
    "reply",
    [5, {}, {"rtt": 3.0}, {"from": "router", "rtt": 3.0}, {"from": 7}, {"from": ""}, {"x": "*", "rtt": 1.0}],
)
def test_a_reply_that_is_not_understood_is_left_out_and_its_record_says_so(
    traceroute: Make, reply: Any
) -> None:
    row = one_traceroute(traceroute({1: [{"x": "*"}, reply, "192.0.2.9"]}))
    assert [one["address"] for one in row["hops"][0]["replies"]] == [None, "192.0.2.9"]
    assert row["doubts"] == ["partly-understood"]


def test_what_is_odd_in_a_reply_is_none_and_the_reply_is_kept(traceroute: Make) -> None:
    odd = {"from": "192.0.2.9", "rtt": -3.0, "ttl": "high", "size": [], "err": {"a": 1}, "dup": None}
    late = {"from": "192.0.2.9", "rtt": 3.0, "late": "very"}
    row = one_traceroute(traceroute({1: [odd, late]}))
    none = {"rtt_ms": None, "ttl": None, "size_bytes": None, "late": None, "duplicate": False}
    assert row["hops"][0]["replies"] == [
        {"address": "192.0.2.9", **none, "icmp_error": '{"a": 1}'},
        {"address": "192.0.2.9", **none, "icmp_error": None},
    ]
    assert row["doubts"] == []


def test_a_ping_that_is_not_understood_leaves_its_neighbours_as_they_are(ping: Make) -> None:
    parsed = parse([ping(), ping(result=[{"rtt": 1.0}], prb_id=None), ping()], "test")
    before, after = parsed.pings.to_pylist()
    assert before == after == one_ping(ping())


@pytest.mark.parametrize(
    ("changes", "doubts"),
    [
        ({"lts": 600}, []),
        ({"lts": 601}, ["clock-out-of-step"]),
        ({"lts": -1}, ["clock-out-of-step"]),
        ({"lts": ...}, []),
        ({"stored_timestamp": 1557705540}, []),
        ({"stored_timestamp": 1557705539}, ["clock-ahead"]),
        ({"stored_timestamp": ...}, []),
        ({"timestamp": 4000000000, "stored_timestamp": ..., "lts": -1}, ["clock-ahead", "clock-out-of-step"]),
        ({"timestamp": 4000000000, "stored_timestamp": 4000000000}, ["clock-ahead"]),
        ({"stored_timestamp": 1657705600}, []),
        ({"result": [{"rtt": 1.0}, 7], "lts": 700}, ["clock-out-of-step", "partly-understood"]),
    ],
)
def test_a_result_whose_clock_is_doubtful_is_kept_and_says_so(
    ping: Make, changes: dict[str, Any], doubts: list[str]
) -> None:
    assert one_ping(ping(**changes))["doubts"] == doubts


@pytest.mark.parametrize(
    ("end", "doubts"), [(1557705600, []), (1557705599, ["ends-before-start"]), (..., [])]
)
def test_a_traceroute_that_ends_before_it_began_is_kept_and_says_so(
    traceroute: Make, end: Any, doubts: list[str]
) -> None:
    assert one_traceroute(traceroute(endtime=end))["doubts"] == doubts


@pytest.mark.parametrize("extension", [True, False])
def test_the_mean_is_the_sum_from_left_to_right_on_every_python(ping: Make, extension: bool) -> None:
    data, begin, end = bounds_of(
        [json.dumps(ping(result=[{"rtt": 0.1}, {"rtt": 0.2}, {"rtt": 0.3}])).encode()]
    )
    batch = Batch(source="a", first_position=0, data=data, begin=begin, end=end, read_at=datetime.now(UTC))
    (row,) = parse_batch(batch, extension=extension).pings.to_pylist()
    assert row["rtt_avg_ms"] == (0.1 + 0.2 + 0.3) / 3 != 0.6 / 3


def test_the_text_of_the_first_firmwares_traceroute_is_read_hop_by_hop() -> None:
    # The example of the Atlas documentation, with what the command writes besides answers.
    row = one_traceroute(
        {"from": "2001:67c:2e8:13:220:4aff:fec6:cc1e", "fw": 1, "msm_id": 6001, "prb_id": 21, "timestamp": 1338816126,
         "result": "traceroute to k.root (2001:7fd::1), 32 hops max, 16 byte packets NEWLINE"
                   " 1 2001:67c:2e8:13::2 1.907 ms 1.909 ms 1.945 ms NEWLINE 2 * * * NEWLINE"
                   " 3 2001:7f8:1::a502:5152:1 14.162 ms * 2001:7F8:1::2 2.0 ms !H NEWLINE"
                   " 4 k.root (2001:7fd::1) 1.876 ms 1.872 ms 1.878 ms NEWLINE"}
    )  # fmt: skip
    assert (row["target"], row["target_name"], row["af"]) == ("2001:7fd::1", "k.root", 6)
    assert [hop["hop"] for hop in row["hops"]] == [1, 2, 3, 4]
    first, second, third, fourth = (
        [(reply["address"], reply["rtt_ms"], reply["icmp_error"]) for reply in hop["replies"]]
        for hop in row["hops"]
    )
    assert first == [("2001:67c:2e8:13::2", rtt, None) for rtt in (1.907, 1.909, 1.945)]
    assert second == [(None, None, None)] * 3
    assert third == [
        ("2001:7f8:1::a502:5152:1", 14.162, None),
        (None, None, None),
        ("2001:7f8:1::2", 2.0, "H"),
    ]
    assert fourth == [("2001:7fd::1", rtt, None) for rtt in (1.876, 1.872, 1.878)]
    assert row["doubts"] == []


def test_firmware_4400_has_other_names_for_the_same_things() -> None:
    shared = {
        "fw": 4400,
        "msm_id": 1001,
        "prb_id": 21,
        "timestamp": 1338816126,
        "addr": "2001:7fd::1",
        "name": "k.root",
    }
    row = one_ping(
        shared
        | {"mode": "ICMP6", "srcaddr": "2001:DB8::2", "sent": 3, "rcvd": 2, "dup": 0, "size": 64, "ttl": 60}
        | {"avg": 2.1, "min": 2.0, "max": 2.2, "result": [{"rtt": 2.0}, {"x": "*"}, {"rtt": 2.2, "ttl": 61}]}
    )
    assert (row["target"], row["target_name"], row["source_address"]) == (
        "2001:7fd::1",
        "k.root",
        "2001:db8::2",
    )
    assert (row["protocol"], row["af"], row["size_bytes"], counts(row)) == ("ICMP", 6, None, (3, 2, 0, 0))
    row = one_traceroute(
        shared | {"mode": "UDP4", "paris-id": 5, "addr": None, "pf": 6, "endtime": 1338816130}
        | {"result": [{"hop": 1, "result": [{"x": "*"}]}]}
    )  # fmt: skip
    assert (row["protocol"], row["paris_id"], row["af"], row["target"]) == ("UDP", 5, 6, None)


def test_the_name_that_a_value_has_today_counts_where_a_record_has_both(ping: Make) -> None:
    row = one_ping(ping(addr="192.0.2.99", name="old.example", pf=6, srcaddr="192.0.2.98", mode="UDP6"))
    assert row == one_ping(ping())


def test_the_size_of_a_ping_is_its_payload_in_every_firmware(ping: Make) -> None:
    def size(**changes: Any) -> Any:
        return one_ping(ping(**changes))["size_bytes"]

    assert (size(fw=4570, size=12), size(fw=4560, size=20), size(fw=4460, size=20)) == (12, 12, 12)
    assert (size(fw=4560, size=20, proto="UDP"), size(fw=4400, size=20), size(fw=1, size=56)) == (
        20,
        None,
        None,
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"avg": 2.0', b'"avg": NaN'),
        (b'"max": 3.0', b'"max": -Infinity'),
        (b'"Ping"', b'"Pi\xffng"'),
        (b'"Ping"', b'"Pi\x00\nng"'),
        (b'"Ping"', b'"Pi\\ud800ng"'),
        (b'"step": 240', b'"step": 1e999'),
        (b'"step": 240', b'"step": ' + b"9" * 400),
    ],
)
def test_a_record_that_is_nearly_json_is_read_where_it_is_good(
    ping: Make, before: bytes, after: bytes
) -> None:
    raw = json.dumps(ping()).encode()
    assert before in raw
    parsed = parse([raw.replace(before, after)], "test")
    assert parsed.pings.to_pylist() == [one_ping(ping())]


def test_a_packet_without_a_number_for_its_rtt_is_left_out(ping: Make) -> None:
    raw = json.dumps(ping()).encode().replace(b'"rtt": 1.0', b'"rtt": NaN')
    (row,) = parse([raw], "test").pings.to_pylist()
    assert (counts(row), row["doubts"]) == ((2, 2, 0, 0), ["partly-understood"])


def test_other_atlas_results_are_counted_by_themselves() -> None:
    records = [
        {"type": kind, "msm_id": 1, "prb_id": 2, "timestamp": 1557705600, "result": "…"}
        for kind in ("dns", "sslcert", "ntp", "http", "wifi")
    ]
    parsed = parse([*records, {"type": "dns"}, b"[1]", b"7", b"{", b"\xff\x00"], "test")
    assert (parsed.other_types, parsed.quarantined.num_rows, parsed.observations) == (5, 10, 0)
    reasons = parsed.quarantined.column("reason").to_pylist()
    assert all("another type" in one for one in reasons[:5])
    assert "msm_id" in reasons[5]


def test_the_tail_of_a_cut_source_is_the_last_quarantined_record(ping: Make) -> None:
    data, begin, end = bounds_of([json.dumps(ping()).encode()])
    batch = Batch(
        source="a", first_position=40, data=data, begin=begin, end=end, read_at=datetime.now(UTC),
        cut="the file is cut", tail=b'{"af',
    )  # fmt: skip
    parsed = parse_batch(batch)
    assert parsed.quarantined.to_pylist() == [
        {"source": "a", "position": 41, "reason": "the file is cut", "raw": b'{"af'}
    ]
    assert (parsed.cut, parsed.records) == ("the file is cut", 2)


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(), max_size=8)
    | st.sampled_from(
        ["ping", "traceroute", "192.0.2.1", "2001:db8::1", "-1", "nan", "1e400", "*", "\ud800", "::1%\ud800"]
    ),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["rtt", "x", "error", "dup", "hop", "result", "from", "late", "err", "ttl", " a"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


def whole(parsed: Parsed) -> bool:
    for table in (parsed.pings, parsed.traceroutes, parsed.quarantined):
        table.validate(full=True)
    return parsed.records == 1


@settings(max_examples=150)
@given(data=st.data())
def test_a_mutated_record_never_breaks_the_parser_and_is_counted(
    ping: Make, traceroute: Make, data: st.DataObject
) -> None:
    record = data.draw(st.sampled_from([ping(), traceroute(), traceroute(type=...), ping(type=...)]))
    place = data.draw(st.sampled_from(["top", "inside"]))
    if place == "top":
        record[data.draw(st.sampled_from(sorted(record)))] = data.draw(_json)
    else:
        items = [dict(item) for item in record["result"]]
        items[0][data.draw(st.sampled_from(["rtt", "hop", "result", "error", "dup"]))] = data.draw(_json)
        record["result"] = items
    assert whole(parse([record], "test"))
    if not any(isinstance(value, float) and not math.isfinite(value) for value in record.values()):
        assert whole(parse([json.dumps(record).encode()], "test"))


@settings(max_examples=200)
@given(cut=st.integers(0, 400), put=st.binary(max_size=3))
def test_mutated_bytes_never_break_the_parser_and_are_counted(ping: Make, cut: int, put: bytes) -> None:
    raw = orjson.dumps(ping())
    assert whole(parse([raw[:cut] + put + raw[cut + len(put) :]], "test"))


@pytest.mark.parametrize("where", ["error", "rtt", "result", "msm_id", "msm_name", "record"])
@pytest.mark.parametrize("depth", [100, 1020, 100_000])
def test_deep_nesting_takes_away_no_more_than_what_is_nested(ping: Make, where: str, depth: int) -> None:
    deep = "[" * depth + "]" * depth
    text = {
        "error": json.dumps(ping(result=["DEEP"])).replace('"DEEP"', f'{{"error": {deep}}}'),
        "rtt": json.dumps(ping(result=["DEEP"])).replace('"DEEP"', f'{{"rtt": {deep}}}'),
        "result": json.dumps(ping(result="DEEP")).replace('"DEEP"', deep),
        "msm_id": json.dumps(ping(msm_id="DEEP")).replace('"DEEP"', deep),
        "msm_name": json.dumps(ping(msm_name="DEEP")).replace('"DEEP"', deep),
        "record": deep,
    }[where]
    parsed = parse([json.dumps(ping()).encode(), text.encode(), json.dumps(ping(prb_id=8)).encode()], "test")
    assert parsed.records == 3
    assert parsed.pings.column("probe_id").to_pylist()[:: parsed.pings.num_rows - 1] == [7, 8]
    assert parsed.pings.num_rows == (2 if where in ("msm_id", "record") else 3)
    for row in parsed.quarantined.to_pylist():
        assert (row["raw"], row["position"]) == (text.encode(), 1)
