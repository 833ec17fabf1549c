"""Probes that are old, late or wrong: the shapes of their results, and that the truth stays known."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import orjson
import pytest
from ripe.atlas.sagan import Result

from domain.errors import InputError
from domain.observation import Doubt, ResultType
from domain.window import Window, parse_time
from ingest.parse import parse
from testbed.api import Api
from testbed.campaign import Campaign
from testbed.clock import Clock
from testbed.expected import expected_results
from testbed.habits import OLD_FIRMWARE, Habits
from testbed.internet import SyntheticInternet
from testbed.weather import Weather
from tests.ingest.as_rows import assert_same, rows

START = parse_time("2026-01-05T00:00Z")
WINDOW = Window(start=START, end=START + timedelta(hours=6))
ALL = Habits(old_firmware_ratio=0.9, bad_clock_ratio=0.3, late_ratio=0.2, odd_ratio=0.5)


@pytest.fixture(scope="module")
def world() -> tuple[Campaign, Weather]:
    internet = SyntheticInternet.generate(11, 60, 3)
    campaign = Campaign.plan(internet, WINDOW, timedelta(hours=1), timedelta(hours=2), ALL)
    return campaign, Weather(internet, ())


def served(api: Api, campaign: Campaign, kind: ResultType, query: str = "") -> list[bytes]:
    found: list[bytes] = []
    for measurement in campaign.measurements:
        if measurement.type is kind:
            path = f"/api/v2/measurements/{measurement.msm_id}/results/"
            body = api.answer(path, f"format=txt{query}", "testbed.test").body
            found += (body if isinstance(body, bytes) else b"".join(body)).splitlines()
    return found


@pytest.fixture(scope="module")
def records(world: tuple[Campaign, Weather]) -> dict[ResultType, list[bytes]]:
    api = Api(*world)
    return {kind: served(api, world[0], kind) for kind in ResultType}


@pytest.mark.parametrize("kind", list(ResultType))
def test_what_is_read_of_every_firmware_s_form_is_the_truth(
    world: tuple[Campaign, Weather], records: dict[ResultType, list[bytes]], kind: ResultType
) -> None:
    parsed = parse(records[kind], "testbed")
    assert parsed.quarantined.to_pylist() == []
    far = timedelta(days=1)
    expected = expected_results(*world, kind, WINDOW.start - far, WINDOW.end + far, WINDOW.end + far)
    assert len(expected) > 500
    table = parsed.pings if kind is ResultType.PING else parsed.traceroutes
    assert_same(rows(table), expected)


def test_every_form_that_is_known_is_served(records: dict[ResultType, list[bytes]]) -> None:
    pings = {ping["fw"]: ping for ping in map(orjson.loads, records[ResultType.PING])}
    assert set(pings) == {*OLD_FIRMWARE, 5080}
    assert isinstance(pings[0]["avg"], str)
    assert {"addr", "name"} <= set(pings[1])
    assert {"af", "proto", "result", "dst_addr"}.isdisjoint(pings[1])
    assert {"addr", "af", "result"} <= set(pings[4460])
    assert "type" not in pings[4480]
    assert " proto" in pings[4700]
    assert " lts" in pings[4720]
    assert "stored_timestamp" not in pings[4910]
    assert "stored_timestamp" in pings[4970]
    assert "mver" not in pings[4970]
    assert "mver" in pings[5020]
    assert all(ping["synthetic"] is True for ping in pings.values())
    traceroutes = [orjson.loads(raw) for raw in records[ResultType.TRACEROUTE]]
    assert min(result["fw"] for result in traceroutes) >= 4460
    text = b"".join(records[ResultType.TRACEROUTE])
    for oddity in (
        b'"late"',
        b'"err":"A"',
        b'"err":10',
        b'"dup"',
        b"name resolution",
        b"bind failed",
        b"mpls",
    ):
        assert oddity in text


def test_sagan_reads_the_old_forms_too(records: dict[ResultType, list[bytes]]) -> None:
    """The official parser reads what it was written for: from firmware 4460 on, keys without stray blanks, types that are there."""
    count = 0
    for raw in (raw for found in records.values() for raw in found[::3]):
        told: dict[str, Any] = orjson.loads(raw)
        if told["fw"] >= 4460 and "type" in told and not any(key.startswith(" ") for key in told):
            result = Result.get(raw.decode())
            assert not result.is_malformed, raw
            count += 1
    assert count > 300


def test_a_clock_that_is_wrong_is_wrong_in_every_result_and_is_doubted(
    records: dict[ResultType, list[bytes]],
) -> None:
    parsed = parse(records[ResultType.PING], "testbed").pings.to_pylist()
    doubted = {row["probe_id"] for row in parsed if row["doubts"]}
    assert doubted
    stated = [row for row in parsed if row["probe_id"] in doubted and row["firmware"] >= 4550]
    assert all(Doubt.CLOCK_OUT_OF_STEP.value in row["doubts"] for row in stated)
    assert any(Doubt.CLOCK_AHEAD.value in row["doubts"] for row in stated)


def test_a_span_is_one_of_the_probe_s_own_clock(
    world: tuple[Campaign, Weather], records: dict[ResultType, list[bytes]]
) -> None:
    start_s = int(START.timestamp())
    cuts = (start_s + 3_600, start_s + 9_000)
    api, campaign = Api(*world), world[0]
    inside = served(api, campaign, ResultType.PING, f"&start={cuts[0]}&stop={cuts[1]}")
    wanted = [raw for raw in records[ResultType.PING] if cuts[0] <= orjson.loads(raw)["timestamp"] <= cuts[1]]
    assert sorted(inside) == sorted(wanted)


def test_a_result_is_there_from_when_it_is_stored(world: tuple[Campaign, Weather]) -> None:
    campaign, weather = world
    clock = Clock(START)
    api = Api(campaign, weather, clock.now)
    seen: set[bytes] = set()
    for _ in range(12):
        clock.advance(timedelta(minutes=30))
        now_s = clock.now().timestamp()
        there = served(api, campaign, ResultType.TRACEROUTE)
        stored = [orjson.loads(raw).get("stored_timestamp") for raw in there]
        assert all(moment is None or moment <= now_s for moment in stored)
        assert seen <= set(there)
        seen = set(there)
    # Some came late: they were not in the first answers for their span.
    lateness = [
        record["stored_timestamp"] - record["endtime"]
        for record in map(orjson.loads, seen)
        if 0 <= record.get("lts", -1) <= 600 and "stored_timestamp" in record
    ]
    assert max(lateness) > 600


def test_habits_that_cannot_be_are_refused() -> None:
    with pytest.raises(InputError, match="ratio"):
        Habits(late_ratio=1.5)
    with pytest.raises(InputError, match="lateness"):
        Habits(late_by_s=0)
    with pytest.raises(InputError, match="go back"):
        Clock(START).advance(timedelta(seconds=-1))
    with pytest.raises(InputError, match="time zone"):
        Clock(START.replace(tzinfo=None))
