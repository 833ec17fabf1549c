"""An hour of the schedule by a simulated clock, on an Atlas that misbehaves; then the lake is compared with the truth of the testbed.

`python -m bench.hour` for a large one, with processes that are killed and a stream that lands the same results beside; `test_hour.py` for
a small one. Nothing of the product is replaced: it is given a clock, waits that move that clock, and a graph that counts what
is written into it.
"""

from __future__ import annotations

import gzip
import multiprocessing
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from app.config import Config, read_config
from app.jobs import Outcome, Runner, atlas_of
from app.status import Status, status
from domain.observation import ResultType
from domain.provenance import Provenance
from domain.window import parse_time
from ingest.atlas import AtlasSource
from ingest.lake import Lake
from ingest.lake_files import Kind
from ingest.stream import AtlasStreamed, StreamSettings
from kg.schema import PATH_STATE, FactType
from kg.store import GraphStore, open_store
from qoe.profile import load_profile
from testbed.clock import Clock
from testbed.faults import Fault, FaultKind, Faults, Place
from testbed.habits import Habits
from testbed.internet import SyntheticInternet
from testbed.server import TestbedServer
from tests.ingest.as_rows import assert_same, rows
from tests.twin.test_refresh import content
from twin.building import build_graph, summarise_lake
from twin.ingestion import ingest

START = parse_time("2026-01-05T12:30Z")
END = START + timedelta(hours=1)
FAR = timedelta(hours=3)
"""More than clocks are wrong by (two hours) and results are late by (33 minutes) together."""

MINUTE = timedelta(minutes=1)
WINDOW = timedelta(hours=1)
PUNCTUAL = Habits(old_firmware_ratio=0.4, late_ratio=0.1, late_by_s=300, odd_ratio=0.2)
"""Little need be looked back, so what a watermark is wrong by is missed."""

OUT_OF_STEP = Habits(old_firmware_ratio=0.4, bad_clock_ratio=0.3, late_ratio=0.1, odd_ratio=0.2)
"""Clocks are wrong by up to two hours, results late by up to half an hour."""

OF_ATLAS = (
    Fault(kind=FaultKind.BUSY),
    Fault(kind=FaultKind.BUSY, retry_after="40"),
    Fault(kind=FaultKind.ERROR),
    Fault(kind=FaultKind.BAD_GATEWAY, retry_after="5"),
    Fault(kind=FaultKind.HANG, seconds=0.2),
    Fault(kind=FaultKind.DRIP, seconds=1e-5),
    Fault(kind=FaultKind.CUT),
    Fault(kind=FaultKind.WRONG_JSON),
    Fault(kind=FaultKind.SHUFFLED),
    Fault(kind=FaultKind.TWICE),
    Fault(kind=FaultKind.PAGE_TWICE),
)
OF_THE_STREAM = (
    Fault(kind=FaultKind.DROP),
    Fault(kind=FaultKind.HUSH, seconds=0.3),
    Fault(kind=FaultKind.GARBAGE),
)
TOO_LONG = Fault(kind=FaultKind.BUSY, retry_after="7200")
"""Longer than anybody waits: the measurement is refused, and asked for again by the next run."""

STOPPED_AT, DOWN_AT, DOWNTIME = 15, 30, range(35, 55)
"""Minutes of the hour: a run is stopped in its middle, Atlas is down, nothing runs."""

JUNK = b'{"type":"ping","prb_id":7,"msm_id":"a word"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    """How large it is.

    Attributes:
        probes, anchors: of the Internet.
        ping_interval, traceroute_interval: of its measurements.
        habits: of probes and results.
        step: so many minutes at a time it is looked what is due; divides 5.
        every: rhythm of the jobs of results and files.
        answer_s: real seconds for an answer: one that drips is not waited for.
        faults: share of requests for results that meet one; of listings, three times as many.
        kills: how many runs are killed in their middle, each in a process of its own.
        stream: whether a stream lands some of the same results beside.
        seed: of all of it.
    """

    probes: int = 8
    anchors: int = 2
    ping_interval: timedelta = timedelta(minutes=4)
    traceroute_interval: timedelta = timedelta(minutes=12)
    habits: Habits = PUNCTUAL
    step: int = 5
    every: timedelta = timedelta(minutes=30)
    answer_s: float = 0.5
    faults: float = 0.12
    kills: int = 0
    stream: bool = False
    seed: int = 4

    @property
    def look_back(self) -> timedelta:
        """As little as finds everything: what clocks are behind by and what results are late by, together."""
        return timedelta(seconds=self.habits.most_skew_s + self.habits.longest_until_stored_s) + MINUTE


class Trouble:
    """What goes wrong with which request: some by chance, and all of them while Atlas is down.

    Attributes:
        outage: whether it is down.
        then: is called, once, at the so many-th request for results from when it was set.
    """

    def __init__(self, hour: Hour) -> None:
        self.outage = False
        self.then: tuple[int, Callable[[], None]] | None = None
        ratios = {Place.RESULTS: hour.faults, Place.LISTING: 3 * hour.faults, Place.MESSAGE: 0.01}
        self._chance = {
            place: Faults.seeded(hour.seed, ratio, (*OF_ATLAS, *OF_THE_STREAM), [place])
            for place, ratio in ratios.items()
            if hour.faults > 0.0
        }

    def fault(self, place: Place, number: int) -> Fault | None:
        """A plan of faults."""
        if place is Place.RESULTS and self.then is not None:
            left, act = self.then
            self.then = (left - 1, act) if left > 1 else None
            if left == 1:
                act()
        if self.outage and place in (Place.RESULTS, Place.LISTING):
            return Fault(kind=FaultKind.BAD_GATEWAY)
        if place is Place.RESULTS and number == 17 and self._chance:
            return TOO_LONG
        return self._chance[place].next(place) if place in self._chance else None


class Watched:
    """A graph of which it is noted which windows were written, and how many path states."""

    def __init__(self, store: GraphStore, written: Counter[datetime]) -> None:
        self._store = store
        self._written = written

    def put_facts(self, fact_type: FactType, facts: pa.Table, provenance: Provenance) -> None:
        """What the graph does, noted."""
        if fact_type is PATH_STATE:
            self._written.update(facts["window_start"].to_pylist())
        self._store.put_facts(fact_type, facts, provenance)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def __enter__(self) -> Watched:
        self._store.__enter__()
        return self

    def __exit__(self, *how: Any) -> None:
        self._store.__exit__(*how)


def configuration(server: TestbedServer, every: timedelta, look_back: timedelta) -> str:
    """A `qoetwin.toml`: pings by ids (one measurement in two sources), traceroutes by a filter, files, probes."""
    pings = [one.msm_id for one in server.campaign.measurements if (one.type, one.af) == (ResultType.PING, 4)]
    half = len(pings) // 2 + 1
    results = f'look_back = "{_length(look_back)}"\nstart = "{(START - FAR).isoformat()}"'
    return f"""
[graph]
window = "{_length(WINDOW)}"

[atlas]
server = "{server.address}"
certificate = "{server.certificate}"

[[source]]
name = "pings"
kind = "atlas"
measurements = {pings[:half]}
every = "{_length(every)}"
{results}

[[source]]
name = "more-pings"
kind = "atlas"
measurements = {pings[half - 1 :]}
every = "{_length(every)}"
{results}

[[source]]
name = "traceroutes"
kind = "atlas"
filter = {{ type = "traceroute", status = 2 }}
cron = "*/{every // MINUTE} * * * *"
{results}

[[source]]
name = "incoming"
kind = "files"
path = "incoming"
every = "{_length(every)}"

[[source]]
name = "who"
kind = "probes"
every = "30m"
"""


def _length(length: timedelta) -> str:
    return f"{int(length.total_seconds()) // 60}m"


class Play:
    """One hour.

    Args:
        hour: how large.
        folder: where the home is made.

    Attributes:
        atlas: what the schedule asks.
        archive: the same without faults; files of its results lie about.
        wrong: what is not as it should be.
    """

    def __init__(self, hour: Hour, folder: Path) -> None:
        self.hour = hour
        self.home = folder / "home"
        self.incoming = self.home / "incoming"
        self.incoming.mkdir(parents=True)
        self.clock = Clock(START)
        self.trouble = Trouble(hour)
        self.faults = Faults(self.trouble.fault)
        self.stop = threading.Event()
        self.said: list[str] = []
        self.wrong: list[str] = []
        self.outcomes: Counter[Outcome] = Counter()
        self.written: Counter[datetime] = Counter()
        self.refreshes: list[tuple[int, int]] = []
        self.kept: set[bytes] = set()
        self.windows: set[datetime] = set()
        self.known = [_Known(), _Known()]
        internet = SyntheticInternet.generate(hour.seed, hour.probes, hour.anchors)
        testbed = partial(
            TestbedServer,
            internet,
            START,
            END,
            events=(),
            habits=hour.habits,
            ping_interval=hour.ping_interval,
            traceroute_interval=hour.traceroute_interval,
            now=self.clock.now,
        )
        self.atlas = testbed(faults=self.faults, most_page_size=3)
        self.archive = testbed()

    @property
    def lake(self) -> Lake:
        return Lake(self.home / "lake")

    def runner(self) -> Runner:
        """The schedule, as it comes up."""
        return runner_of(
            self.home,
            now=self.clock.now,
            sleep=self.clock.sleep,
            stop=self.stop,
            say=self.said.append,
            written=self.written,
            answer_s=self.hour.answer_s,
        )

    def run(self, runner: Runner, jobs: Callable[[Runner], list[Outcome]] = Runner.run_due) -> list[Outcome]:
        """Run what is due, and look whether the graph was built where, and only where, something new landed."""
        self.written.clear()
        outcomes = jobs(runner)
        self.outcomes.update(outcomes)
        if not outcomes:
            return outcomes
        now = _Known.of(self.lake)
        windows = set(self.written)
        self.windows |= windows
        if windows:
            self.refreshes.append((len(windows), len(self.windows)))
        # What a stream lands meanwhile may have missed the graph: it is seen from the time before.
        touched = self.known[0 if self.hour.stream else -1].touched(now)
        if touched is not None and not windows <= touched:
            self.wrong.append(f"built without need: {sorted(windows - touched)}")
        if outcomes[-1] is Outcome.DONE:  # else it is due for the graph still
            self.known = [self.known[-1], now]
        return outcomes

    def file(self, name: str, *, cut: bool = False, junk: bool = False) -> None:
        """Put what the archive has by now of pings over IPv6 into a file."""
        source = AtlasSource(server=self.archive.address, verify=self.archive.certificate)
        records = [
            record
            for one in self.archive.campaign.measurements
            if (one.type, one.af) == (ResultType.PING, 6)
            for batch in source.results(one.msm_id, START - FAR, END + FAR)
            for record in batch.records
        ]
        self.kept.update(records)
        if ".ndjson" in name:
            data = b"\n".join(records) + b"\n"
        else:
            data = b"[" + b",".join([*records, *([JUNK] if junk else [])]) + b"]"
        if name.endswith(".gz"):
            data = gzip.compress(data, 1)
        (self.incoming / name).write_bytes(data[: len(data) // 2] if cut else data)

    # The hour

    def play(self) -> dict[str, Any]:
        """Play it; say what was met."""
        begun = time.monotonic()
        with self.atlas, self.archive:
            (self.home / "qoetwin.toml").write_text(
                configuration(self.atlas, self.hour.every, self.hour.look_back)
            )
            with self._streaming() if self.hour.stream else _nothing():
                kills = self._minutes()
            finished = self._finished()
            before = len(self.wrong)
            results = self._compare()
            is_the_truth = len(self.wrong) == before
        with open_store("sqlite", self.home, create=False) as kept:
            self._compare_graphs(kept)
        met = Counter(_named(fault) for _, _, fault in self.faults.met)
        return {
            "results": results,
            "requests": {place: self.faults.asked(place) for place in Place if self.faults.asked(place)},
            "faults_met": dict(sorted(met.items())),
            "faults_not_met": sorted(self._all_faults() - met.keys()),
            "outcomes": dict(sorted(self.outcomes.items())),
            "kills": kills,
            "runs_at_the_end": finished,
            "refreshes": len(self.refreshes),
            "windows_written": sum(one for one, _ in self.refreshes),
            "windows_if_built_anew_each_time": sum(there for _, there in self.refreshes),
            "seconds": round(time.monotonic() - begun, 1),
            "lake_is_the_truth": is_the_truth,
            "wrong": self.wrong,
        }

    def _minutes(self) -> int:
        runner = self.runner()
        kills = 0
        for minute in range(0, 61, self.hour.step):
            self.clock.advance(max(timedelta(0), START + minute * MINUTE - self.clock.now()))
            self._files_of(minute)
            if minute in DOWNTIME:
                continue
            if minute == DOWNTIME.stop:
                runner = self.runner()
            if minute == STOPPED_AT:
                self._stopped(runner)
            if minute == DOWN_AT:
                self._down(runner)
            if kills < self.hour.kills and minute % 4 == 2:
                kills += self._killed(2 + 2 * kills)
            self.run(runner)
        if kills < self.hour.kills:
            self.wrong.append(f"only {kills} processes were killed")
        return kills

    def _files_of(self, minute: int) -> None:
        match minute:
            case 30:
                self.file("a.ndjson.gz", cut=True)
            case 40:
                self.file("a.ndjson.gz")
            case 45:
                self.file("b.json.gz", junk=True)

    def _stopped(self, runner: Runner) -> None:
        """A run is told to stop while Atlas is being asked; the next one goes on from there."""
        self.trouble.then = (1, self.stop.set)
        outcomes = self.run(runner, Runner.run_all)
        self.stop.clear()
        self.wrong += twice(self.lake)
        if Outcome.STOPPED not in outcomes:
            self.wrong.append(f"nothing was stopped: {outcomes}")
        if not any(row["interrupted"] for row in self.status(runner.config).sources):
            self.wrong.append("status knows of no run that was interrupted")

    def _killed(self, requests: int) -> int:
        """A process that is killed in the middle of its jobs, when it has asked so often."""
        processes = multiprocessing.get_context("forkserver")
        processes.set_forkserver_preload(["tests.app.hour"])
        asked = threading.Event()
        self.trouble.then = (requests, asked.set)
        child = processes.Process(target=run_once, args=(self.home, self.clock.now()))
        child.start()
        while not asked.wait(0.01) and child.is_alive():
            pass
        time.sleep(0.003 * requests)  # not always while it waits for an answer
        child.kill()
        child.join()
        self.trouble.then = None
        self.wrong += twice(self.lake)
        if child.exitcode not in (0, -signal.SIGKILL):
            self.wrong.append(f"a process ended with {child.exitcode}")
        return int(child.exitcode == -signal.SIGKILL)

    def _down(self, runner: Runner) -> None:
        """While Atlas is down, runs fail, and status says so; files are read all the same."""
        self.trouble.outage = True
        outcomes = self.run(runner, Runner.run_all)
        self.trouble.outage = False
        found = self.status(runner.config)
        silent = [
            row["source"]
            for row in found.sources
            if row["kind"] == "atlas" and not (row["failures"] and "502" in str(row["last_error"]))
        ]
        if not found.failing or silent or Outcome.FAILED not in outcomes:
            self.wrong.append(f"status does not say that Atlas is down: {silent} {outcomes}")

    def _finished(self) -> int:
        """When all clocks have come to the end and all is stored, ask a last time, until nothing fails; faults go on."""
        self.clock.advance(max(timedelta(0), END + FAR - self.clock.now()))
        self.file("c.json")
        runner = self.runner()
        runs = 1
        while set(self.run(runner, Runner.run_all)) != {Outcome.DONE} and runs < 10:
            runs += 1
        now = self.clock.now()
        found = self.status(runner.config)
        for row in found.sources:
            lag_s, success = row["lag_s"], row["last_success"]
            well = row["failures"] == 0 and not row["interrupted"] and not row["running"]
            if not (well and isinstance(success, datetime) and success >= END + FAR):
                self.wrong.append(f"status does not say that all is well: {row}")
            if not (isinstance(lag_s, int) and 0 <= lag_s <= (now - END - FAR).total_seconds() + 1):
                self.wrong.append(f"behind: {row}")
        head = self.lake.manifest.head()
        if (found.failing, found.home["graph_lake_head"]) != (False, head):
            self.wrong.append(f"status: {found.home}")
        if not self.hour.stream and not self.hour.kills:  # of these nobody counts what landed
            total = sum(int(str(row["observations"])) for row in found.sources)
            rows = int(str(found.home["ping_rows"])) + int(str(found.home["traceroute_rows"]))
            if total != rows:
                self.wrong.append(f"{total} observations counted, {rows} in the lake")
        return runs

    def status(self, config: Config) -> Status:
        """What `qoetwin status` shows now."""
        return status(self.home, config, self.clock.now())

    @contextmanager
    def _streaming(self) -> Iterator[None]:
        """While inside, a stream brings pings as they are stored into the same lake."""
        source = AtlasSource(
            server=self.atlas.address, verify=self.atlas.certificate, timeout_s=5.0, first_wait_s=0.0
        )
        ended = threading.Event()
        streamed = AtlasStreamed(
            replace(source, sleep=lambda _: ended.wait(0.01)),
            [one.msm_id for one in self.atlas.campaign.measurements if one.type is ResultType.PING],
            stop=ended,
            settings=StreamSettings(
                server=self.atlas.address, batch_s=0.2, first_wait_s=0.0, attempts=1_000, silence_s=2.0
            ),
            now=self.clock.now,
        )
        failures: list[BaseException] = []

        def listen() -> None:
            try:
                landed = ingest(self.lake, streamed, at_once=True).landed
                self.said.append(f"stream: {landed.observations} new, {landed.duplicates} known")
                if landed.results_read == 0:
                    self.wrong.append("the stream brought nothing")
            except Exception as error:  # noqa: BLE001 - it is told
                failures.append(error)

        thread = threading.Thread(target=listen, name="stream")
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.wrong += [f"stream: {error!r}" for error in failures]

    def _all_faults(self) -> set[str]:
        stream = OF_THE_STREAM if self.hour.stream else ()
        return {_named(fault) for fault in (*OF_ATLAS, TOO_LONG, *stream)}

    # The truth

    def _compare(self) -> dict[str, int]:
        """Look whether the lake holds what is true, each once, and nothing else; say how much it is."""
        counts = {}
        for kind in ResultType:
            found = rows(self.lake.query(f"SELECT * FROM {kind}"))  # noqa: S608
            wanted = self.atlas.expected(kind, START - FAR, END + FAR)
            counts[f"{kind}s"] = len(wanted)
            here, there = Counter(map(_identity, found)), Counter(map(_identity, wanted))
            if here != there:
                self.wrong.append(f"{kind}: too many {_some(here - there)}, missing {_some(there - here)}")
                continue
            try:
                assert_same(found, wanted)
            except AssertionError as error:
                self.wrong.append(f"{kind}: {error}")
        quarantined = self.lake.query("SELECT source, raw FROM quarantine").to_pylist()
        counts["quarantined"] = len(quarantined)
        for row in quarantined:
            cut = row["source"].endswith("a.ndjson.gz") and any(
                one.startswith(row["raw"]) for one in self.kept
            )
            if not cut and not (row["source"].endswith("b.json.gz") and row["raw"] == JUNK):
                self.wrong.append(f"quarantine: {row}")
        if sum(row["raw"] == JUNK for row in quarantined) != 1 or len(quarantined) > 2:
            self.wrong.append(f"quarantine: {len(quarantined)} records")
        return counts

    def _compare_graphs(self, kept: GraphStore) -> None:
        with open_store("sqlite", self.home / "anew", create=True) as fresh:
            build_graph(summarise_lake(self.lake, WINDOW), fresh, load_profile())
            here, there = content(kept), content(fresh)
        for name in here:
            if here[name] != there[name]:
                self.wrong.append(
                    f"graph: {name}: {len(here[name])} kept up, {len(there[name])} built at once, "
                    f"{len(set(here[name]) ^ set(there[name]))} differ"
                )


def runner_of(
    home: Path,
    *,
    now: Callable[[], datetime],
    sleep: Callable[[float], None],
    stop: threading.Event,
    say: Callable[[str], None],
    written: Counter[datetime],
    answer_s: float,
) -> Runner:
    """The schedule of a home, by a clock of one's own."""

    def open_atlas(config: Config, key: str | None) -> AtlasSource:
        return replace(atlas_of(config, key), sleep=sleep, timeout_s=5.0, answer_timeout_s=answer_s)

    return Runner(
        read_config(home / "qoetwin.toml"),
        home,
        lambda: Watched(open_store("sqlite", home, create=True), written),  # type: ignore[arg-type, return-value]
        now=now,
        say=say,
        stop=stop,
        open_atlas=open_atlas,
    )


def run_once(home: Path, now: datetime) -> None:
    """Run every job once, by a clock that stands still."""
    runner_of(
        home,
        now=lambda: now,
        sleep=lambda _: None,
        stop=threading.Event(),
        say=lambda _: None,
        written=Counter(),
        answer_s=5.0,
    ).run_all()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """How many results of each hour a lake holds, and when it last heard of probes."""

    hours: Mapping[datetime, int] = field(default_factory=dict)
    probes_at: datetime | None = None

    @classmethod
    def of(cls, lake: Lake) -> _Known:
        """What a lake holds now."""
        found = lake.query(
            "SELECT time_bucket(INTERVAL 1 HOUR, timestamp) AS hour, count(*) AS n FROM "
            "(SELECT timestamp FROM ping UNION ALL SELECT timestamp FROM traceroute) GROUP BY ALL"
        ).to_pylist()
        return cls(hours={row["hour"]: row["n"] for row in found}, probes_at=lake.landed_at(Kind.PROBE))

    def touched(self, later: _Known) -> set[datetime] | None:
        """The hours of which more is known later; None when more is known of probes, which is about every hour."""
        if self.probes_at != later.probes_at:
            return None
        return {hour for hour, count in later.hours.items() if self.hours.get(hour, 0) < count}


def twice(lake: Lake) -> list[str]:
    """Results that a reader of the lake sees twice; at no time should there be one."""
    return [
        f"{kind} twice: {row}"
        for kind in ResultType
        for row in lake.query(
            "SELECT msm_id, probe_id, timestamp, target, count(*) AS n "  # noqa: S608
            f"FROM {kind} GROUP BY ALL HAVING n > 1"
        ).to_pylist()
    ]


def _identity(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("msm_id", "probe_id", "timestamp"))


def _some(rows: Counter[tuple[Any, ...]]) -> str:
    return f"{rows.total()}: {list(rows)[:5]}"


def _named(fault: Fault) -> str:
    return fault.kind if fault.retry_after is None else f"{fault.kind}, Retry-After: {fault.retry_after}"


@contextmanager
def _nothing() -> Iterator[None]:
    yield
