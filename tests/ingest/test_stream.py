"""The stream against the testbed, which drops it, falls silent and leaves gaps: what is read is the truth."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ripe.atlas.cousteau import AtlasStream

from domain.errors import InputError, SourceError, StoreError, UnreachableError, UntrustedError
from domain.observation import ResultType
from domain.progress import unheard
from domain.window import parse_time
from ingest.atlas import AtlasSource
from ingest.batch import Parsed
from ingest.heard import Heard, Subscription
from ingest.lake import Lake, Landed
from ingest.stream import AtlasStreamed, StreamSettings, _Connection
from testbed.certificate import Certificate
from testbed.clock import Clock
from testbed.faults import Fault, FaultKind, Faults, Place
from testbed.habits import Habits
from testbed.internet import SyntheticInternet
from testbed.server import TestbedServer
from tests.ingest.as_rows import assert_same, once
from twin.ingestion import Ingested, ingest, ingest_atlas

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
        assert (job.gaps, job.ended) == ([], "time is over")
        assert job.heard_until is not None
        assert job.heard_until >= BEGIN + LASTING
        assert_the_truth_was_read(server, found)


def test_what_is_stored_while_the_first_connection_is_slow_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connect = _Connection.connect

    def slowly(connection: _Connection) -> None:
        time.sleep(1.2)  # 25 minutes by the testbed's clock
        connect(connection)

    monkeypatch.setattr(_Connection, "connect", slowly)
    with streaming() as (server, clock):
        lasting = timedelta(minutes=40)
        job = listening(server, clock, lasting=lasting, settings={"lateness": timedelta(minutes=4)})
        found = list(job.read(unheard))
        assert (job.failures, job.gaps, job.ended) == ([], [], "time is over")
        assert_the_truth_was_read(server, found, lasting=lasting)


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
    assert len(job.gaps) == 1
    assert {row["probe_id"] for row in once(found, "pings")} == set(probes)


def test_it_stops_when_it_is_told_to_and_leaves_open_gaps_to_the_next_run() -> None:
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
    assert (job.failures, job.ended) == ([], "stopped")
    assert job.heard_until is not None
    assert BEGIN <= job.heard_until < BEGIN + timedelta(minutes=1), "what is open from the beginning on"
    assert "atlas-stream" not in [thread.name for thread in threading.enumerate()]


def test_a_gap_is_filled_later_when_the_api_does_not_answer_at_first() -> None:
    answers = {(Place.RESULTS, number): Fault(kind=FaultKind.ERROR) for number in range(8)}
    faults = Faults.listed({**answers, (Place.MESSAGE, 10): DROP})
    with streaming(faults) as (server, clock):
        found = list((job := listening(server, clock)).read(unheard))
        assert job.failures == []
        assert_the_truth_was_read(server, found)


def test_a_subscription_that_is_refused_is_a_failure_and_the_others_go_on(tmp_path: Path) -> None:
    with streaming() as (server, clock):
        good = server.campaign.measurements[0].msm_id
        job = listening(
            server, clock, measurements=[77, good], lasting=timedelta(minutes=15), heard=Heard(tmp_path)
        )
        found = []
        for parsed in job.read(unheard):
            found.append(parsed)
            job.remember()
        until = Heard(tmp_path).until(server.address)
        assert until[77, None] < BEGIN + timedelta(minutes=1) < until[good, None], "nothing was heard of it"
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


# From one run to the next

Key = tuple[int, int, datetime]

ON_ITS_WAY = timedelta(minutes=8)
"""What takes half a second is so much by the clock of `streaming`; less than `lateness`, from which on the next run asks."""


def land(lake: Lake, job: AtlasStreamed) -> Ingested:
    return ingest(lake, job, at_once=True, safe=job.remember)


def in_lake(lake: Lake, start: datetime, stop: datetime) -> list[Key]:
    """Each result of a span of time as often as it is there."""
    found = lake.query(
        "SELECT msm_id, probe_id, timestamp FROM ping UNION ALL SELECT msm_id, probe_id, timestamp FROM traceroute"
    )
    keys = zip(*(found[name].to_pylist() for name in ("msm_id", "probe_id", "timestamp")), strict=True)
    return sorted(key for key in keys if start <= key[2] < stop)


def measured(
    server: TestbedServer, start: datetime, stop: datetime, stored_by: datetime | None = None
) -> list[Key]:
    """Each result of a span of time that was stored by then, once."""
    expected = [row for kind in ResultType for row in server.expected(kind, start, stop, stored_by)]
    times = (datetime.fromtimestamp(row["timestamp"], tz=BEGIN.tzinfo) for row in expected)
    return sorted(
        (row["msm_id"], row["probe_id"], moment) for row, moment in zip(expected, times, strict=True)
    )


def stopped_soon(lake: Lake, job: AtlasStreamed, stop: threading.Event) -> Ingested:
    """What lands until something did, after which it is stopped."""

    def heard() -> None:
        job.remember()
        stop.set()

    return ingest(lake, job, at_once=True, safe=heard)


def test_hours_between_two_runs_are_had_by_the_next_and_what_is_asked_for_twice_lands_once(
    tmp_path: Path,
) -> None:
    lake, heard = Lake(tmp_path / "lake"), Heard(tmp_path)
    with streaming() as (server, clock):
        stop = threading.Event()
        first = listening(server, clock, heard=heard, lasting=None, stop=stop)
        assert (first.missed, stopped_soon(lake, first, stop).failures) == ([], ())
        assert (first.ended, first.gaps) == ("stopped", [])
        until = heard.until(server.address)
        assert min(until.values()) == first.remembered
        assert len(until) == len(server.campaign.measurements)
        clock.advance(timedelta(hours=3))
        second = listening(server, clock, heard=heard, lasting=timedelta(minutes=4))
        assert {gap.start for gap in second.missed} == set(until.values())
        landed = land(lake, second)
        assert landed.failures == ()
        end = BEGIN + timedelta(hours=3)
        assert in_lake(lake, BEGIN, end) == measured(server, BEGIN, end) != []
        # What a schedule would ask for, beside or afterwards, is there already.
        ids = [one.msm_id for one in server.campaign.measurements]
        source = AtlasSource(server=server.address, verify=server.certificate)
        again = ingest_atlas(lake, source, ids, BEGIN, end).landed
        assert (again.observations, again.duplicates) == (0, len(in_lake(lake, BEGIN, end)))


def test_what_waits_to_be_read_is_not_said_to_be_heard() -> None:
    stop = threading.Event()
    found: set[Key] = set()
    with streaming() as (server, clock):
        job = listening(server, clock, since=BEGIN, lasting=None, stop=stop, settings={"batch_records": 2})
        for number, parsed in enumerate(job.read(unheard)):
            for table in (parsed.pings, parsed.traceroutes):
                names = ("msm_id", "probe_id", "timestamp")
                found |= set(zip(*(table[name].to_pylist() for name in names), strict=True))
            time.sleep(0.04)
            if number == 40:
                until = job.heard_until
                stop.set()
                break
        assert until is not None
        assert until > BEGIN
        assert set(measured(server, BEGIN, until, until - ON_ITS_WAY)) <= found


class KilledError(StoreError):
    """The end, after which nothing more is written."""


class Life:
    """So many steps of what is kept on disk, and then the end."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self) -> None:
        self.left -= 1
        if self.left <= 0:
            raise KilledError("killed")


class MortalLake(Lake):
    life: Life

    def commit(self, parts: Sequence[Parsed]) -> Landed:
        self.life.step()
        landed = super().commit(parts)
        self.life.step()
        return landed


class MortalHeard(Heard):
    life: Life

    def keep(self, server: str, until: Mapping[Subscription, datetime]) -> None:
        self.life.step()
        super().keep(server, until)
        self.life.step()


def test_whoever_dies_between_any_two_steps_remembers_no_more_than_the_lake_has_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    lake, heard = MortalLake(tmp_path / "lake"), MortalHeard(tmp_path)
    faults = Faults.listed({(Place.MESSAGE, number): DROP for number in range(30, 900, 60)})
    with streaming(faults) as (server, clock):
        # From BEGIN on, until something can remember that.
        since: dict[str, Any] = {"since": BEGIN}
        for steps in (1, 2, 3, 4, 5, 6, 7, 9, 12, 16):
            lake.life = heard.life = Life(steps)
            job = listening(server, clock, heard=heard, lasting=None, stop=threading.Event(), **since)
            with pytest.raises(KilledError):
                land(lake, job)
            until = heard.until(server.address)
            for (msm_id, _), moment in until.items():
                owed = {
                    key for key in measured(server, BEGIN, moment, moment - ON_ITS_WAY) if key[0] == msm_id
                }
                assert owed <= set(in_lake(lake, BEGIN, moment))
            if until:
                since = {}
            clock.advance(timedelta(minutes=5))
        assert max(until.values()) > BEGIN + timedelta(minutes=30)
        lake.life = heard.life = Life(1_000_000)
        end = clock.now()
        assert land(lake, listening(server, clock, heard=heard, lasting=timedelta(minutes=4))).failures == ()
        assert in_lake(lake, BEGIN, end) == measured(server, BEGIN, end)


FAST = """
import sys, threading, time
from datetime import timedelta
from pathlib import Path
from ingest.atlas import AtlasSource
from ingest.heard import Heard
from ingest.lake import Lake
from ingest.stream import AtlasStreamed, StreamSettings
from domain.window import parse_time
from twin.ingestion import ingest

home, server, certificate, begin, begun_s, *ids = sys.argv[1:]
source = AtlasSource(server=server, verify=Path(certificate))
settings = StreamSettings(server=server, batch_s=0.05, first_wait_s=0.01)
job = AtlasStreamed(
    source, list(map(int, ids)), stop=threading.Event(), heard=Heard(Path(home)), settings=settings,
    now=lambda: parse_time(begin) + timedelta(seconds=600 * (time.time() - float(begun_s))),
)
ingest(Lake(Path(home) / "lake"), job, at_once=True, safe=job.remember)
"""


def test_a_process_that_is_killed_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    begun_s = time.time()

    def now() -> datetime:
        """A time that every process can tell, and that is 600 times as fast as ours."""
        return BEGIN + timedelta(seconds=600 * (time.time() - begun_s))

    with TestbedServer(
        INTERNET, START, START + timedelta(hours=24), ping_interval=timedelta(minutes=5), events=(), now=now
    ) as server:
        ids = [one.msm_id for one in server.campaign.measurements]
        command = [tmp_path, server.address, server.certificate, BEGIN.isoformat(), begun_s, *ids]
        heard, lake = Heard(tmp_path), Lake(tmp_path / "lake")
        for after_s in (0.01, 0.2):
            before = heard.until(server.address)
            running = subprocess.Popen(
                [sys.executable, "-c", FAST, *map(str, command)],
                env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
                stderr=subprocess.PIPE,
            )
            until_s = time.monotonic() + 30
            while heard.until(server.address) in ({}, before):
                assert running.poll() is None, running.communicate()
                assert time.monotonic() < until_s
                time.sleep(0.01)
            time.sleep(after_s)
            running.send_signal(signal.SIGKILL)
            running.communicate()
        settings = StreamSettings(server=server.address, batch_s=0.05, first_wait_s=0.01)
        source = AtlasSource(server=server.address, verify=server.certificate)
        end = now().replace(microsecond=0)  # results are told to the second
        last = AtlasStreamed(
            source, ids, lasting=timedelta(minutes=4), heard=heard, settings=settings, now=now
        )
        assert last.missed
        assert land(lake, last).failures == ()
        begun = min(key[2] for key in in_lake(lake, START, end))
        assert in_lake(lake, begun, end) == measured(server, begun, end) != []


def test_a_stop_does_not_wait_for_an_api_that_hangs(tmp_path: Path) -> None:
    stop, heard = threading.Event(), Heard(tmp_path)
    faults = Faults.seeded(1, 1.0, [Fault(kind=FaultKind.HANG, seconds=30.0)], [Place.RESULTS])
    with streaming(faults) as (server, clock):
        msm_id = server.campaign.measurements[0].msm_id
        since: dict[Subscription, datetime] = {(msm_id, None): BEGIN - timedelta(hours=1)}
        address = server.address
        heard.keep(address, since)
        source = AtlasSource(server=server.address, verify=server.certificate, timeout_s=20.0)
        more: dict[str, Any] = {"measurements": [msm_id], "lasting": None, "stop": stop, "heard": heard}
        job = listening(server, clock, source=source, **more)
        threading.Timer(1.0, stop.set).start()
        begun = time.monotonic()
        land(Lake(tmp_path / "lake"), job)
        assert time.monotonic() - begun < 5.0
    assert (job.ended, job.failures) == ("stopped", [])
    assert heard.until(address) == since


def test_a_stop_does_not_wait_for_a_connection_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.stream._END_S", 0.3)
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it is connected to, and says nothing
        server = f"127.0.0.1:{silent.getsockname()[1]}"
        source = AtlasSource(server=server, timeout_s=60.0)
        settings = StreamSettings(server=server, batch_s=0.1)
        job = AtlasStreamed(source, [1], stop=stop, heard=Heard(tmp_path), settings=settings)
        begun = job.heard_until
        threading.Timer(0.5, stop.set).start()
        begun_s = time.monotonic()
        land(Lake(tmp_path / "lake"), job)
        assert time.monotonic() - begun_s < 5.0
        assert (job.ended, job.failures, job.gaps) == ("stopped", [], [])
        assert Heard(tmp_path).until(server) == {(1, None): begun}, "the next run asks from there on"
        (left,) = [thread for thread in threading.enumerate() if thread.name == "atlas-stream"]
        assert left.daemon
    left.join(10.0)  # its connection is gone now
    assert not left.is_alive()


def known_by(
    tmp_path: Path, known: dict[Subscription, timedelta], probes: Sequence[int] = (), **more: Any
) -> AtlasStreamed:
    """A stream of measurements 1 and 2 that begins at `BEGIN`, where it is known what was heard until so long before."""
    heard = Heard(tmp_path)
    heard.keep("atlas-stream.ripe.net", {one: BEGIN - ago for one, ago in known.items()})
    heard.keep("elsewhere", {(2, None): BEGIN - timedelta(hours=9)})
    settings = StreamSettings(catch_up=timedelta(days=2))
    return AtlasStreamed(
        AtlasSource(),
        [1, 2],
        probes,
        stop=threading.Event(),
        heard=heard,
        settings=settings,
        now=lambda: BEGIN,
        **more,
    )


HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("known", "probes", "asked"),
    [
        ({}, (), []),
        ({(1, None): HOUR}, (), [(1, (), 1)]),  # 2 is new, and 3 not listened to now
        ({(1, None): HOUR, (2, None): 3 * HOUR, (3, None): HOUR}, (), [(1, (), 1), (2, (), 3)]),
        ({(1, None): HOUR}, (8, 9), [(1, (8, 9), 1)]),  # all of them were heard, so these were
        ({(1, None): 3 * HOUR, (1, 9): HOUR}, (8, 9), [(1, (8,), 3), (1, (9,), 1)]),
        ({(1, 9): HOUR}, (8, 9), [(1, (9,), 1)]),  # 8 is new
        ({(1, 8): 2 * HOUR, (1, 9): HOUR}, (), [(1, (8,), 2), (1, (9,), 1)]),  # all others are new
        ({(1, None): -HOUR}, (), [(1, (), 48)]),  # by a clock that was wrong
        ({(1, None): -timedelta(seconds=1)}, (), [(1, (), 0.25)]),  # it was set back a little
        ({(1, None): 100 * HOUR}, (), [(1, (), 48)]),
    ],
)
def test_what_was_listened_to_before_goes_on_from_where_it_was_left(
    tmp_path: Path, known: dict[Subscription, timedelta], probes: tuple[int, ...], asked: list[object]
) -> None:
    job = known_by(tmp_path, known, probes)
    found = [(*of, (gap.end - gap.start) / HOUR) for gap in job.missed for of in gap.asked]
    assert sorted(found) == asked
    assert {gap.end for gap in job.missed} <= {BEGIN}


def test_what_is_longer_ago_than_is_caught_up_with_is_told_and_since_asks_for_it(tmp_path: Path) -> None:
    known: dict[Subscription, timedelta] = {(1, None): 100 * HOUR}
    job = known_by(tmp_path, known)
    assert [(gap.start, gap.end) for gap in job.too_long_ago] == [(BEGIN - 100 * HOUR, BEGIN - 48 * HOUR)]
    job = known_by(tmp_path, known, since=BEGIN - 200 * HOUR)
    assert job.too_long_ago == []
    assert {(gap.start, *gap.asked) for gap in job.missed} == {
        (BEGIN - 200 * HOUR, (1, ())),
        (BEGIN - 200 * HOUR, (2, ())),
    }
    job = known_by(
        tmp_path, known, since=BEGIN - HOUR
    )  # what was missed before that is asked for all the same
    assert {(gap.start, *gap.asked) for gap in job.missed} == {
        (BEGIN - 48 * HOUR, (1, ())),
        (BEGIN - HOUR, (2, ())),
    }
    assert len(job.too_long_ago) == 1
