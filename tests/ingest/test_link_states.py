"""Link states, against plain Python over the raw records."""

from __future__ import annotations

import math
import random
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
from ingest.parse import parse
from ingest.probes import probes_table, read_probes
from ingest.summarise import LINK_STATE_SCHEMA, hop_links, link_states

Make = Callable[..., dict[str, Any]]
Key = tuple[str, str, datetime]

HOUR = timedelta(hours=1)
NOON = 1557748800  # 2019-05-13T12:00Z
A, B, C = "203.0.113.1", "203.0.113.2", "203.0.113.3"


def answer(address: str, rtt_ms: float | None = 1.5, **more: Any) -> dict[str, Any]:
    timed = {} if rtt_ms is None else {"rtt": rtt_ms}
    return {"from": address, "size": 28, "ttl": 60, **timed, **more}


def states(lake: Lake, *records: Any, window: timedelta = HOUR, **bounds: Any) -> list[dict[str, Any]]:
    assert lake.land(parse(records, "test")).quarantined == 0
    table = link_states(lake, window, **bounds)
    assert table.schema == LINK_STATE_SCHEMA
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def seen_from(
    lake: Lake, traceroute: Make, ases: list[int | None], here: list[float], there: list[float]
) -> Any:
    """The state of the link A-B, seen by a probe in each of the ASes."""
    probes = [{"id": 100 + n, "asn_v4": asn} for n, asn in enumerate(ases)]
    lake.merge_probes(probes_table(probes).table, datetime(2019, 5, 1, tzinfo=UTC))
    hops = {1: [answer(A, rtt) for rtt in here], 2: [answer(B, rtt) for rtt in there]}
    (state,) = states(lake, *(traceroute(hops, prb_id=100 + n, timestamp=NOON) for n in range(len(ases))))
    return state


def test_a_window_worked_out_by_hand(traceroute: Make, lake: Lake) -> None:
    state = seen_from(lake, traceroute, [64500, 64501, 64502, None], [1.0, 2.0], [5.0, 8.0])
    # Each probe: 4, 3, 7, 6. Sixteen differences, of which ranks 8 and 9 are 4 and 6. Wilson: 16 * .2725 = 4.5, so that
    # the interval is from the 4th to the 13th.
    assert state == {
        "from_address": A,
        "to_address": B,
        "window_start": datetime(2019, 5, 13, 12, tzinfo=UTC),
        "window_end": datetime(2019, 5, 13, 13, tzinfo=UTC),
        "traceroutes": 4,
        "probes": 4,
        "asns": 3,
        "samples": 16,
        "rtt_diff_median_ms": 5.0,
        "rtt_diff_low_ms": 3.0,
        "rtt_diff_high_ms": 7.0,
        "utilisation_ratio": None,
        "synthetic": False,
    }


@pytest.mark.parametrize("ases", [[64500, 64501], [64500, 64501, 64501, 64500], [64500, 64501, None, None]])
def test_a_link_seen_by_too_few_probes_or_from_too_few_ases_has_counts_and_no_median(
    traceroute: Make, lake: Lake, ases: list[int | None]
) -> None:
    state = seen_from(lake, traceroute, ases, [1.0] * 3, [5.0] * 3)
    assert (state["probes"], state["asns"], state["samples"]) == (len(ases), 2, 9 * len(ases))
    assert [state[f"rtt_diff_{name}_ms"] for name in ("median", "low", "high")] == [None] * 3


def test_under_six_differences_the_median_is_known_and_its_interval_is_not(
    traceroute: Make, lake: Lake, tmp_path: Path
) -> None:
    few = seen_from(lake, traceroute, [1, 2, 3, 4, 5], [1.0], [5.0])
    assert (few["samples"], few["rtt_diff_median_ms"]) == (5, 4.0)
    assert (few["rtt_diff_low_ms"], few["rtt_diff_high_ms"]) == (None, None)
    enough = seen_from(Lake(tmp_path / "other"), traceroute, [1, 2, 3, 4, 5, 6], [1.0], [5.0])
    assert (enough["samples"], enough["rtt_diff_low_ms"], enough["rtt_diff_high_ms"]) == (6, 4.0, 4.0)


def test_the_as_of_a_probe_is_that_of_the_family_that_it_measured_in(traceroute: Make, lake: Lake) -> None:
    same_v4 = [{"id": n, "asn_v4": 64500, "asn_v6": 64500 + n} for n in (1, 2, 3)]
    lake.merge_probes(probes_table(same_v4).table, datetime(2019, 5, 1, tzinfo=UTC))
    four = {1: [answer(A)], 2: [answer(B)]}
    six = {1: [answer("2001:db8::1")], 2: [answer("2001:db8::2")]}
    v6 = {"af": 6, "dst_addr": "2001:db8::9", "src_addr": "2001:db8::8", "from": "2001:db8::8"}
    found = states(
        lake,
        *(traceroute(four, prb_id=n, timestamp=NOON) for n in (1, 2, 3)),
        *(traceroute(six, prb_id=n, timestamp=NOON, **v6) for n in (1, 2, 3)),
    )
    assert [(state["from_address"], state["asns"]) for state in found] == [("2001:db8::1", 3), (A, 1)]


def test_the_as_of_a_probe_is_the_one_it_was_in_when_the_window_ended(traceroute: Make, lake: Lake) -> None:
    def say(day: int, *ases: int) -> None:
        probes = [{"id": n, "asn_v4": asn} for n, asn in enumerate(ases, 1)]
        lake.merge_probes(probes_table(probes).table, datetime(2019, 5, day, tzinfo=UTC))

    say(1, 64500, 64501, 64502)
    say(14, 64500, 64500, 64500)  # two of them moved into the network of the first
    days = [NOON, NOON + 86_400]
    found = states(
        lake,
        *(
            traceroute({1: [answer(A)], 2: [answer(B)]}, prb_id=n, timestamp=day)
            for n in (1, 2, 3)
            for day in days
        ),
    )
    assert [state["asns"] for state in found] == [3, 1]


def test_answers_without_rtt_make_an_adjacency_and_no_difference(traceroute: Make, lake: Lake) -> None:
    (state,) = states(lake, traceroute({1: [answer(A, None)], 2: [answer(B)]}))
    assert (state["traceroutes"], state["probes"], state["samples"]) == (1, 0, 0)


def test_late_answers_and_duplicates_are_no_differences(traceroute: Make, lake: Lake) -> None:
    hops = {
        1: [answer(A, 1.0), answer(A, 50.0, late=2), answer(A, 60.0, dup=True)],
        2: [answer(B, 4.0), answer(C, 9.0, late=1)],
    }
    (state,) = states(lake, traceroute(hops))
    assert (state["to_address"], state["samples"]) == (B, 1)


def test_windows_are_aligned_and_bounded_as_those_of_paths(traceroute: Make, lake: Lake) -> None:
    records = [traceroute({1: [A], 2: [B]}, timestamp=NOON + 600 * n, synthetic=n == 17) for n in range(18)]
    (whole,) = states(lake, *records, window=timedelta(hours=3))
    assert (whole["window_start"].hour, whole["traceroutes"], whole["synthetic"]) == (12, 18, True)
    start, end = (datetime.fromtimestamp(NOON + offset, tz=UTC) for offset in (3600, 7201))
    hours = link_states(lake, HOUR, start, end).to_pylist()
    assert [(s["window_start"].hour, s["traceroutes"], s["synthetic"]) for s in hours] == [
        (13, 6, False),
        (14, 6, True),
    ]
    with pytest.raises(InputError, match="length"):
        link_states(lake, timedelta(0))
    with pytest.raises(InputError, match="zone"):
        link_states(lake, HOUR, datetime(2019, 5, 13))  # noqa: DTZ001 - the point


def by_hand(
    records: list[dict[str, Any]], asn_of: dict[tuple[int, int], int | None], window_s: int
) -> dict[Key, dict[str, Any]]:
    """What plain Python makes of raw records of which every reply is an answer or a `*`."""
    traces: dict[Key, int] = defaultdict(int)
    samples: dict[Key, list[tuple[float, int, int | None]]] = defaultdict(list)
    for record in records:
        hops: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for hop in record["result"]:
            good = [r for r in hop.get("result", []) if "from" in r and "late" not in r and "dup" not in r]
            hops[hop.get("hop")] += good
        start = datetime.fromtimestamp(record["timestamp"] // window_s * window_s, tz=UTC)
        met = set()
        for number in hops:
            if number + 1 not in hops or number + 1 == 255:
                continue
            for here in hops[number]:
                for there in hops[number + 1]:
                    key = (here["from"], there["from"], start)
                    if here["from"] == there["from"]:
                        continue
                    met.add(key)
                    if "rtt" in here and "rtt" in there:
                        probe = record["prb_id"]
                        asn = asn_of.get((probe, record["af"]))
                        samples[key].append((there["rtt"] - here["rtt"], probe, asn))
        for key in met:
            traces[key] += 1
    found = {}
    for key, traceroutes in traces.items():
        differences = sorted(difference for difference, _, _ in samples[key])
        probes = {probe for _, probe, _ in samples[key]}
        asns = {asn for _, _, asn in samples[key] if asn is not None}
        known = len(probes) >= 3 and len(asns) >= 3
        n, z = len(differences), statistics.NormalDist().inv_cdf(0.975)
        low = 0
        if n > 0:
            p = 0.5
            centre, spread = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
            low = math.floor(n * (centre - spread) / (1 + z**2 / n))
        found[key] = {
            "traceroutes": traceroutes,
            "probes": len(probes),
            "asns": len(asns),
            "samples": n,
            "rtt_diff_median_ms": statistics.median(differences) if known else None,
            "rtt_diff_low_ms": differences[low - 1] if known and low >= 1 else None,
            "rtt_diff_high_ms": differences[-low] if known and low >= 1 else None,
        }
    return found


def compare(found: list[dict[str, Any]], expected: dict[Key, dict[str, Any]]) -> None:
    assert {(s["from_address"], s["to_address"], s["window_start"]) for s in found} == set(expected)
    for state in found:
        wanted = expected[state["from_address"], state["to_address"], state["window_start"]]
        assert {name: state[name] for name in wanted} == wanted


_reply = st.one_of(
    st.builds(answer, st.sampled_from([A, B, C]), st.none() | st.floats(0.0, 400.0)),
    st.builds(lambda a, rtt: answer(a, rtt, late=2), st.sampled_from([A, B, C]), st.floats(0.0, 400.0)),
    st.just({"x": "*"}),
)
_hops = st.dictionaries(
    st.sampled_from([1, 2, 3, 4, 5, 254, 255]), st.lists(_reply, min_size=1, max_size=4), max_size=5
)


@settings(max_examples=25)
@given(traces=st.lists(st.tuples(st.integers(1, 6), st.integers(0, 7200), _hops), min_size=1, max_size=12))
def test_link_states_are_what_plain_python_makes_of_the_records(
    traceroute: Make, tmp_path_factory: pytest.TempPathFactory, traces: list[tuple[int, int, Any]]
) -> None:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    probes = [{"id": n, "asn_v4": 64500 + n % 4 if n < 6 else None} for n in range(1, 7)]
    lake.merge_probes(probes_table(probes).table, datetime(2019, 5, 1, tzinfo=UTC))
    records = [
        traceroute(dict(sorted(hops.items())), prb_id=probe, timestamp=NOON + late, msm_id=5001 + n)
        for n, (probe, late, hops) in enumerate(traces)
    ]
    asn_of = {(one["id"], 4): one["asn_v4"] for one in probes}
    found = states(lake, *records)
    compare(found, by_hand(records, asn_of, 3600))  # type: ignore[arg-type]
    links = {(row["from_address"], row["to_address"]): row["count"] for row in hop_links(lake).to_pylist()}
    counted: dict[tuple[str, str], int] = defaultdict(int)
    for state in found:
        counted[state["from_address"], state["to_address"]] += state["traceroutes"]
    assert links == counted


def test_the_order_in_which_traceroutes_land_changes_no_bit(traceroute: Make, tmp_path: Path) -> None:
    records = [
        traceroute(
            {1: [answer(A, n / 7), answer(C, n / 3)], 2: [answer(B, math.pi * n)]},
            prb_id=n,
            timestamp=NOON + n,
        )
        for n in range(12)
    ]
    probes = probes_table([{"id": n, "asn_v4": 64500 + n} for n in range(1, 12)]).table
    tables = []
    for turn in range(4):
        lake = Lake(tmp_path / str(turn))
        lake.merge_probes(probes, datetime(2019, 5, 1, tzinfo=UTC))
        random.Random(turn).shuffle(records)  # noqa: S311 - no secret
        for record in records:  # a file each, read by several threads
            lake.land(parse([record], "test"))
        tables.append(link_states(lake, HOUR))
    assert all(table == tables[0] for table in tables)


@pytest.mark.parametrize("samples", [6, 9, 27, 100, 300])
def test_the_interval_covers_the_true_median_in_19_of_20_cases(samples: int) -> None:
    """Of independent differences: P(rank low <= number below the median < rank high), binomial, exact."""
    n, z = samples, 1.959963984540054
    low = math.floor(
        n * (0.5 + z * z / 2 / n - z * math.sqrt(0.25 / n + z * z / 4 / n / n)) / (1 + z * z / n)
    )
    covered = sum(math.comb(n, below) for below in range(low, n + 1 - low)) / 2**n
    assert 0.95 <= covered < 0.99


@pytest.mark.recorded
def test_recorded_links_are_what_plain_python_makes_of_the_raw_records(recorded: Path, lake: Lake) -> None:
    raws = [
        raw
        for batch in read_file(recorded / "atlas" / "regional-2019" / "traceroute-2019-05-13.ndjson.bz2")
        for raw in batch.records
    ]
    lake.land(parse(raws, "test"))
    table = read_probes(recorded / "atlas" / "probes" / "probes.csv.gz").table
    lake.merge_probes(table, datetime(2019, 5, 1, tzinfo=UTC))
    asn_of = {(row["probe_id"], af): row[f"asn_v{af}"] for row in lake.probes().to_pylist() for af in (4, 6)}
    records = [orjson.loads(raw) for raw in raws]  # type: ignore[arg-type] # of a file they are bytes
    found = link_states(lake, timedelta(hours=3)).to_pylist()
    compare(found, by_hand(records, asn_of, 3 * 3600))
    assert sum(state["rtt_diff_median_ms"] is not None for state in found) > 20
