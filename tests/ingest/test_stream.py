"""The stream against the testbed, which drops it, falls silent and leaves gaps: what is read is the truth."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from ripe.atlas.cousteau import AtlasStream

from domain.errors import InputError, SourceError, UnreachableError, UntrustedError
from domain.observation import ResultType
from domain.progress import unheard
from domain.window import parse_time
from ingest.atlas import AtlasSource
from ingest.batch import Parsed
from ingest.stream import AtlasStreamed, StreamSettings
from testbed.certificate import Certificate
from testbed.clock import Clock
from testbed.faults import Fault, FaultKind, Faults, Place
from testbed.habits import Habits
from testbed.internet import SyntheticInternet
from testbed.server import TestbedServer
from tests.ingest.as_rows import assert_same, once

START = parse_time("2026-01-05T00:00Z")
BEGIN = START + timedelta(hours=2)
LASTING = timedelta(minutes=20)
INTERNET = SyntheticInternet.generate(3, 8, 2)
DROP, GARBAGE = Fault(kind=FaultKind.DROP), Fault(kind=FaultKind.GARBAGE)
KEY = "0123-not-a-real-key"


@contextmanager
def streaming(faults: Faults | None = None, **more: Any) -> Iterator[tuple[TestbedServer, Clock]]:
    """A testbed whose clock goes more than 1,000 times as fast as ours, from `BEGIN` on, until it is left."""
    clock, left = Clock(BEGIN), threading.Event()

    def run() -> None:
        while not left.wait(0.008):
            clock.advance(timedelta(seconds=10))

    settings: dict[str, Any] = {
        "events": (),
        "ping_interval": timedelta(minutes=5),
        "traceroute_interval": timedelta(minutes=10),
        "faults": faults,
        "now": clock.now,
    }
    thread = threading.Thread(target=run)
    with TestbedServer(INTERNET, START, START + timedelta(hours=12), **{**settings, **more}) as server:
        thread.start()
        try:
            yield server, clock
        finally:
            left.set()
            thread.join()


def listening(server: TestbedServer, clock: Clock, **more: Any) -> AtlasStreamed:
    quick = {"batch_s": 0.1, "first_wait_s": 0.01, "silence_s": 0.6}
    settings = StreamSettings(server=server.address, **{**quick, **more.pop("settings", {})})
    arguments: dict[str, Any] = {"lasting": LASTING, "now": clock.now, **more}
    ids = [measurement.msm_id for measurement in server.campaign.measurements]
    source = AtlasSource(
        server=server.address,
        verify=server.certificate,
        timeout_s=2.0,
        first_wait_s=0.0,
        api_key=KEY,
    )
    return AtlasStreamed(
        arguments.pop("source", source), arguments.pop("measurements", ids), settings=settings, **arguments
    )


def assert_the_truth_was_read(
    server: TestbedServer,
    found: list[Parsed],
    *,
    lasting: timedelta = LASTING,
    slack: timedelta = timedelta(minutes=4),
) -> None:
    """Everything that was measured after the beginning and had the time to be stored is there, once, as it was."""
    start, stop = BEGIN, BEGIN + lasting - slack

    def inside(row: dict[str, Any]) -> bool:
        return bool(start.timestamp() <= row["timestamp"] < stop.timestamp())

    for kind, name in ((ResultType.PING, "pings"), (ResultType.TRACEROUTE, "traceroutes")):
        assert_same([row for row in once(found, name) if inside(row)], server.expected(kind, start, stop))


def test_cousteau_s_own_class_hears_the_testbed() -> None:
    with streaming() as (server, _):
        stream = AtlasStream(base_url=f"https://{server.address}")
        stream.connect = lambda: None  # it trusts no certificate but the system's
        import websocket

        stream.ws = websocket.create_connection(
            stream.url, sslopt={"ca_certs": str(server.certificate)}, timeout=5
        )
        heard: list[dict[str, Any]] = []
        stream.bind(stream.EVENT_NAME_RESULTS, heard.append)
        stream.subscribe(stream.STREAM_TYPE_RESULT, msm=server.campaign.measurements[0].msm_id)
        stream.timeout(seconds=0.7)
        stream.disconnect()
    assert {result["msm_id"] for result in heard} == {server.campaign.measurements[0].msm_id}


def test_a_stream_without_trouble_brings_everything_once() -> None:
    with streaming() as (server, clock):
        job = listening(server, clock)
        found = list(job.read(unheard))
        assert job.failures == []
        assert [gap.reason for gap in job.gaps] == ["what was on its way when time was over"]
        assert job.gaps[0].end - job.gaps[0].start < timedelta(minutes=5)
        assert job.heard_until is not None
        assert job.heard_until >= BEGIN + LASTING
        assert_the_truth_was_read(server, found)


@pytest.mark.parametrize(
    "fault", [DROP, GARBAGE, Fault(kind=FaultKind.HUSH, seconds=1.0)], ids=lambda f: f.kind
)
def test_a_stream_that_breaks_ends_with_the_truth(fault: Fault) -> None:
    faults = Faults.listed({(Place.MESSAGE, number): fault for number in (3, 20, 21, 45)})
    with streaming(faults) as (server, clock):
        job = listening(server, clock)
        found = list(job.read(unheard))
        assert faults.met
        assert any("the connection broke" in gap.reason for gap in job.gaps)
        assert job.failures == []
        assert_the_truth_was_read(server, found)


def test_the_fastest_way_to_lose_results_loses_none() -> None:
    """Connections refused, dropped and silent, old firmware, results minutes late, and an API that answers badly at times."""
    broken = [
        Fault(kind=kind) for kind in (FaultKind.BUSY, FaultKind.ERROR, FaultKind.CUT, FaultKind.WRONG_JSON)
    ]
    faults = Faults.seeded(5, 0.1, [*broken, DROP, GARBAGE, Fault(kind=FaultKind.HUSH, seconds=0.8)])
    habits = Habits(old_firmware_ratio=0.3, late_ratio=0.2, late_by_s=420, odd_ratio=0.2)
    with streaming(faults, habits=habits) as (server, clock):
        lasting = timedelta(minutes=30)
        job = listening(server, clock, lasting=lasting, settings={"lateness": timedelta(minutes=20)})
        found = list(job.read(unheard))
        assert job.failures == []
        assert {place for place, _, _ in faults.met} >= {Place.MESSAGE}
        assert_the_truth_was_read(server, found, lasting=lasting, slack=timedelta(minutes=11))


def test_a_reader_that_is_too_slow_costs_no_memory_and_no_results() -> None:
    with streaming() as (server, clock):
        job = listening(server, clock, settings={"most_waiting": 6, "batch_records": 4})
        found = []
        for parsed in job.read(unheard):
            found.append(parsed)
            time.sleep(0.15 if len(found) < 10 else 0.0)
        assert any("more came than was read" in gap.reason for gap in job.gaps)
        assert_the_truth_was_read(server, found)


def test_what_was_stored_since_the_last_run_comes_too() -> None:
    with streaming() as (server, clock):
        job = listening(server, clock, since=BEGIN - timedelta(hours=1), lasting=timedelta(minutes=4))
        found = list(job.read(unheard))
        times = [row["timestamp"] for row in once(found, "pings")]
    assert min(times) < (BEGIN - timedelta(minutes=50)).timestamp()
    assert job.gaps[0].reason == "before the stream began"


def test_only_the_probes_that_are_asked_for_are_heard() -> None:
    probes = [INTERNET.hosts[4].probe_id, INTERNET.hosts[5].probe_id]
    with streaming(Faults.listed({(Place.MESSAGE, 5): DROP})) as (server, clock):
        job = listening(server, clock, probes=probes)
        found = list(job.read(unheard))
    assert len(job.gaps) == 2
    assert {row["probe_id"] for row in once(found, "pings")} == set(probes)


def test_it_stops_when_it_is_told_to_and_says_which_gaps_are_left() -> None:
    stop = threading.Event()
    with streaming() as (server, clock):
        job = listening(server, clock, lasting=None, stop=stop, settings={"settling": timedelta(hours=10)})
        begun = 0.0
        for number, _ in enumerate(job.read(unheard)):
            if number == 1:
                server.drop_streams()
            if job.gaps and not stop.is_set():
                begun = time.monotonic()
                stop.set()
        assert time.monotonic() - begun < 5.0
    assert [failure.what for failure in job.failures] == ["a gap in the stream that was not filled"]
    assert job.heard_until == job.gaps[0].start
    assert "atlas-stream" not in [thread.name for thread in threading.enumerate()]


def test_a_gap_is_filled_later_when_the_api_does_not_answer_at_first() -> None:
    answers = {(Place.RESULTS, number): Fault(kind=FaultKind.ERROR) for number in range(8)}
    faults = Faults.listed({**answers, (Place.MESSAGE, 10): DROP})
    with streaming(faults) as (server, clock):
        found = list((job := listening(server, clock)).read(unheard))
        assert job.failures == []
        assert_the_truth_was_read(server, found)


def test_a_subscription_that_is_refused_is_a_failure_and_the_others_go_on() -> None:
    with streaming() as (server, clock):
        good = server.campaign.measurements[0].msm_id
        job = listening(server, clock, measurements=[77, good], lasting=timedelta(minutes=15))
        found = list(job.read(unheard))
    assert [failure.what for failure in job.failures] == [
        "Atlas has nothing there",
        "the stream refuses a subscription",
    ]
    assert {row["msm_id"] for row in once(found, "pings")} == {good}


def test_nobody_there_is_told_after_the_attempts_and_the_gap_is_named() -> None:
    faults = Faults.seeded(1, 1.0, [Fault(kind=FaultKind.BAD_GATEWAY)], [Place.CONNECTION])
    with streaming(faults) as (server, clock):
        job = listening(server, clock, settings={"attempts": 3})
        with pytest.raises(SourceError, match=r"refuses the connection.*status 502"):
            list(job.read(unheard))
        assert [failure.found for failure in job.failures] == ["the stream refuses the connection"]
        gone = listening(server, clock, settings={"attempts": 2})
    with pytest.raises(UnreachableError, match="does not answer"):
        list(gone.read(unheard))


@pytest.mark.parametrize("kind", [Certificate.EXPIRED, Certificate.OTHER_HOST])
def test_a_certificate_that_is_not_good_is_told_at_once(kind: Certificate) -> None:
    with streaming(certificate=kind) as (server, clock):
        job = listening(server, clock, settings={"first_wait_s": 60.0})
        with pytest.raises(UntrustedError, match="certificate"):
            list(job.read(unheard))


def test_the_key_never_leaves_for_the_stream_and_is_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with streaming(Faults.listed({(Place.MESSAGE, 3): DROP})) as (server, clock):
        job = listening(server, clock, lasting=timedelta(minutes=12))
        found = list(job.read(unheard))
    assert KEY not in caplog.text
    assert KEY not in repr(job) + repr(vars(job)) + repr(found)


def test_what_cannot_be_listened_to_is_refused() -> None:
    source = AtlasSource()
    with pytest.raises(InputError, match="no measurement"):
        AtlasStreamed(source, [], lasting=timedelta(hours=1))
    with pytest.raises(InputError, match="without an end"):
        AtlasStreamed(source, [1001])
    with pytest.raises(InputError, match="bound"):
        StreamSettings(most_waiting=0)
