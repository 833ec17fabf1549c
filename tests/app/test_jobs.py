"""Jobs of the schedule: what they ask for, what lands, and what they remember, with a clock that the test moves."""

from __future__ import annotations

import bz2
import json
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.config import read_config
from app.jobs import SLICE, Outcome, Runner, atlas_of, next_run
from app.schedule_state import GRAPH, JobState, ScheduleState, held, is_held, job_lock
from app.status import status
from domain.errors import InputError, StoreError
from ingest.atlas import AtlasSource
from ingest.lake import Lake
from kg.store import GraphStore, open_store
from testbed.server import TestbedServer
from tests.app.conftest import Relay
from tests.conftest import LENGTH, START
from twin.ingestion import ingest_atlas

END = START + LENGTH
FIRST = 1_000_001
KEY = "6f1d3a52-0000-4000-8000-secretsecret"


@dataclass
class Twin:
    """A home with a schedule, whose clock stands still until it is moved."""

    home: Path
    now: datetime = END
    said: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    open_graph: Callable[[], GraphStore] | None = None

    def runner(self, text: str) -> Runner:
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "qoetwin.toml").write_text(text)
        return Runner(
            read_config(self.home / "qoetwin.toml"),
            self.home,
            self.open_graph or (lambda: open_store("sqlite", self.home, create=True)),
            now=lambda: self.now,
            say=self.said.append,
            stop=self.stop,
            # The waits between attempts are tested where they are made (tests/ingest/test_atlas_faults.py).
            open_atlas=lambda config, key: replace(atlas_of(config, key), first_wait_s=0.01),
        )

    def lake(self) -> Lake:
        return Lake(self.home / "lake")

    @property
    def state(self) -> ScheduleState:
        return ScheduleState(self.home)


@pytest.fixture
def twin(tmp_path: Path) -> Twin:
    return Twin(home=tmp_path / "home")


def source(server: Relay | TestbedServer, *lines: str, name: str = "mesh", ids: object = None) -> str:
    chosen = [FIRST, FIRST + 1] if ids is None else ids
    return "\n".join(
        [
            '[graph]\nwindow = "1h"',
            f'[atlas]\nserver = "{server.address}"\ncertificate = "{server.certificate}"',
            f'[[source]]\nname = "{name}"\nkind = "atlas"',
            *([] if chosen == [] else [f"measurements = {chosen}"]),
            *lines,
            "",
        ]
    )


def observations(lake: Lake) -> dict[str, pa.Table]:
    columns = "msm_id, probe_id, timestamp, af, target"
    return {
        table: lake.query(f"SELECT {columns} FROM {table} ORDER BY ALL")  # noqa: S608
        for table in ("ping", "traceroute")
    }


def test_after_hours_of_downtime_the_lake_holds_each_result_once_as_if_asked_for_all_at_once(
    twin: Twin, atlas: TestbedServer, tmp_path: Path
) -> None:
    ids = [one.msm_id for one in atlas.campaign.measurements][:4]
    runner = twin.runner(source(atlas, 'every = "15m"', f'start = "{START.isoformat()}"', ids=ids))
    for hours in (0.5, 1, 14, 14.25, 48):
        twin.now = START + timedelta(hours=hours)
        assert runner.run("mesh", only_due=True) is Outcome.DONE, twin.said
    other = Lake(tmp_path / "other")
    whole = AtlasSource(server=atlas.address, verify=atlas.certificate)
    wanted = ingest_atlas(other, whole, ids, START, END)
    assert observations(twin.lake()) == observations(other)
    total = twin.state.jobs()["mesh"].total
    assert total.observations == wanted.landed.observations > 500
    assert total.duplicates > 0, "what look_back asked for again"
    assert total.results_read == total.observations + total.duplicates
    row = status(twin.home, runner.config, END).sources[0]
    assert (row["lag_s"], row["last_success"], row["last_error"]) == (0, END, None)
    assert row["next_run"] == END + timedelta(minutes=15)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(
            st.integers(60, 4 * 86_400),
            st.sampled_from(["well", "well", "refused", "unreachable", "restarted"]),
        ),
        min_size=1,
        max_size=4,
    ),
    data=st.data(),
)
def test_whatever_happens_everything_from_start_to_now_is_asked_for_in_the_end(
    relay: Relay, tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str]], data: st.DataObject
) -> None:
    relay.asked.clear()
    relay.empty = True
    twin = Twin(home=tmp_path_factory.mktemp("home"), now=START)
    ids = [FIRST, FIRST + 1, FIRST + 2]
    look_back = timedelta(hours=2)
    text = source(relay, 'every = "15m"', 'look_back = "2h"', f'start = "{START.isoformat()}"', ids=ids)
    runner = twin.runner(text)
    reached: dict[int, int] = {}
    for seconds, what in [*steps, (3600, "well")]:
        twin.now += timedelta(seconds=seconds)
        bad = data.draw(st.sampled_from(ids)) if what == "refused" else None
        relay.fails = lambda path, bad=bad, what=what: (  # type: ignore[misc]
            (404, b"{}") if f"/{bad}/" in path or what == "unreachable" else None
        )
        if what == "restarted":
            runner = twin.runner(text)
        before = len(relay.asked)
        runner.run("mesh", only_due=False)
        for number in ids:
            spans = sorted((first, last) for one, first, last in relay.asked[before:] if one == number)
            if spans:
                again = reached.get(number, spans[0][0]) - spans[0][0]
                assert 0 <= again <= look_back.total_seconds(), "no gap, and no more than look_back again"
                reached[number] = max(last + 1 for _, last in spans)
    now_s = int(twin.now.timestamp())
    for number in ids:
        at = int(START.timestamp())
        for _, first, last in sorted(span for span in relay.asked if span[0] == number):
            assert first <= at, "a gap"
            assert last - first < SLICE.total_seconds()
            at = max(at, last + 1)
        assert at == now_s
        assert twin.state.coverage("mesh")[number].until == twin.now


def test_a_measurement_that_is_refused_stays_behind_and_holds_up_no_other(twin: Twin, relay: Relay) -> None:
    runner = twin.runner(source(relay, 'every = "1h"', 'look_back = "1h"', f'start = "{START.isoformat()}"'))
    refusal = json.dumps({"error": {"title": "Not Found", "detail": "gone"}}).encode()
    relay.fails = lambda path: (404, refusal) if f"/{FIRST}/" in path else None
    assert runner.run("mesh", only_due=True) is Outcome.FAILED
    covered = twin.state.coverage("mesh")
    assert (covered[FIRST].until, covered[FIRST + 1].until) == (START, END)
    (line,) = [line for line in twin.said if "404" in line]
    assert f"/{FIRST}/" in line
    row = status(twin.home, runner.config, END).sources[0]
    assert (row["failures"], row["last_success"], row["lag_s"]) == (1, None, LENGTH.total_seconds())
    relay.fails = lambda path: None
    twin.now += timedelta(hours=1)
    assert runner.run("mesh", only_due=True) is Outcome.DONE
    assert {one.until for one in twin.state.coverage("mesh").values()} == {twin.now}
    assert runner.state.jobs()["mesh"].failures == 0
    assert "404" in (runner.state.jobs()["mesh"].error or ""), "the last error stays to be read"


def test_measurements_that_are_always_refused_delay_no_other(twin: Twin, relay: Relay) -> None:
    ids = list(range(FIRST, FIRST + 8))
    good = ids[-1]
    relay.empty = True
    relay.fails = lambda path: None if path.endswith(f"/{good}/results") else (403, b"{}")
    runner = twin.runner(source(relay, 'every = "1h"', f'start = "{START.isoformat()}"', ids=ids))
    reached = []
    for _ in range(5):
        twin.now += timedelta(hours=2)
        assert runner.run("mesh", only_due=True) is Outcome.FAILED
        reached.append(twin.state.coverage("mesh")[good].until == twin.now)
    # The first runs find out who is refused, three at a time; then those come last.
    assert reached == [False, False, True, True, True]


def test_a_measurement_that_is_added_and_a_start_that_is_moved_back_are_caught_up_with(
    twin: Twin, relay: Relay
) -> None:
    later = START + timedelta(hours=24)

    def asked_from(text: str) -> dict[int, datetime]:
        relay.asked.clear()
        assert twin.runner(text).run("mesh", only_due=False) is Outcome.DONE
        return {
            number: datetime.fromtimestamp(min(first for one, first, _ in relay.asked if one == number), UTC)
            for number in {one for one, _, _ in relay.asked}
        }

    lines = ['every = "1h"', 'look_back = "1h"']
    begin = f'start = "{later.isoformat()}"'
    assert asked_from(source(relay, *lines, begin, ids=[FIRST])) == {FIRST: later}
    back = END - timedelta(hours=1)
    both = asked_from(source(relay, *lines, begin, ids=[FIRST, FIRST + 1]))
    assert both == {FIRST: back, FIRST + 1: later}
    begin = f'start = "{START.isoformat()}"'
    assert set(asked_from(source(relay, *lines, begin)).values()) == {START}
    assert set(asked_from(source(relay, *lines, begin)).values()) == {back}
    # Of a probe that is added the past is wanted too; of one that is dropped nothing.
    some = [*lines, begin, "probes = [500001, 500002]"]
    assert set(asked_from(source(relay, *some)).values()) == {back}, "they were in all probes"
    more = [*lines, begin, "probes = [500001, 500002, 500003]"]
    assert set(asked_from(source(relay, *more)).values()) == {START}
    assert set(asked_from(source(relay, *some)).values()) == {back}


def test_without_a_start_the_first_run_asks_for_look_back(twin: Twin, relay: Relay) -> None:
    twin.runner(source(relay, 'every = "1h"', 'look_back = "3h"')).run("mesh", only_due=True)
    assert min(first for _, first, _ in relay.asked) == int((END - timedelta(hours=3)).timestamp())


def test_what_a_filter_names_is_asked_for_and_what_it_names_no_longer_until_its_last_results_are_in(
    twin: Twin, relay: Relay
) -> None:
    relay.listing = [
        {"id": FIRST, "type": "ping"},
        {"id": FIRST + 1, "type": "dns"},
        {"id": FIRST + 2, "type": "traceroute"},
    ]
    runner = twin.runner(source(relay, 'every = "1h"', "filter = { af = 4 }", 'look_back = "2h"', ids=[]))
    runner.run("mesh", only_due=True)
    assert {number for number, _, _ in relay.asked} == {FIRST, FIRST + 2}
    del relay.listing[0]
    for hours, wanted in (
        (1, {FIRST, FIRST + 2}),
        (1, {FIRST, FIRST + 2}),
        (1, {FIRST + 2}),
        (1, {FIRST + 2}),
    ):
        relay.asked.clear()
        twin.now += timedelta(hours=hours)
        runner.run("mesh", only_due=True)
        assert {number for number, _, _ in relay.asked} == wanted
    assert twin.state.coverage("mesh").keys() == {FIRST + 2}


def test_a_filter_that_names_too_many_is_refused(
    twin: Twin, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.jobs.MOST_MEASUREMENTS", 3)
    relay.listing = [{"id": FIRST + number, "type": "ping"} for number in range(4)]
    runner = twin.runner(source(relay, 'every = "1h"', "filter = { aff = 4 }", ids=[]))
    assert runner.run("mesh", only_due=True) is Outcome.FAILED
    assert "names too many" in twin.said[1]
    assert relay.asked == []


def test_a_job_runs_in_one_place_at_a_time(twin: Twin, relay: Relay) -> None:
    runner = twin.runner(source(relay, 'every = "1h"'))
    with held(twin.home, job_lock("mesh")):
        assert is_held(twin.home, job_lock("mesh"))
        assert status(twin.home, runner.config, END).sources[0]["running"] is True
        assert [runner.run("mesh", only_due=only_due) for only_due in (True, False)] == [
            Outcome.ELSEWHERE
        ] * 2
    assert relay.asked == []
    assert twin.said == ["mesh: is running in another process; left to it"]
    other = twin.runner(source(relay, 'every = "1h"'))
    assert other.run("mesh", only_due=True) is Outcome.DONE
    assert runner.run("mesh", only_due=True) is Outcome.NOT_DUE, "the other one has done it"


def test_a_graph_that_cannot_be_written_is_told_and_tried_again_and_results_go_on_landing(
    twin: Twin, atlas: TestbedServer
) -> None:
    def down() -> GraphStore:
        raise StoreError("the server does not answer", where="bolt://neo4j:7687")

    twin.open_graph = down
    runner = twin.runner(source(atlas, 'every = "1h"', f'start = "{START.isoformat()}"'))
    twin.now = START + timedelta(hours=6)
    assert runner.run_due() == [Outcome.DONE, Outcome.FAILED]
    twin.now += timedelta(hours=6)
    assert runner.run_due() == [Outcome.DONE, Outcome.FAILED]
    found = status(twin.home, runner.config, twin.now)
    assert (found.home["graph_failures"], found.home["graph_built_at"]) == (2, None)
    assert "bolt://neo4j:7687" in str(found.home["graph_last_error"])
    assert found.failing
    assert "graph: the server does not answer: bolt://neo4j:7687" in twin.said
    runner._open_graph = lambda: open_store("sqlite", twin.home, create=True)
    assert runner.refresh() is Outcome.DONE
    found = status(twin.home, runner.config, twin.now)
    assert not found.failing
    assert found.home["graph_lake_head"] == found.home["lake_head"] == twin.lake().manifest.head()
    assert found.home["graph_windows_until"] == twin.now
    with open_store("sqlite", twin.home, create=False) as store:
        assert store.counts()["PathState"] > 0


def test_a_defect_in_one_job_is_told_and_stops_no_other(
    twin: Twin, atlas: TestbedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("oops")

    monkeypatch.setattr("app.jobs.sync_probes", broken)
    text = source(atlas, 'every = "1h"') + '[[source]]\nname = "who"\nkind = "probes"\nevery = "1d"\n'
    assert twin.runner(text).run_due() == [Outcome.DONE, Outcome.FAILED, Outcome.DONE]
    assert any("defect of qoetwin: who; found RuntimeError: oops" in line for line in twin.said)


WATCHED = '[[source]]\nname = "in"\nkind = "files"\npath = "incoming"\nevery = "1h"\n'


def watched(twin: Twin) -> tuple[Runner, Path, Callable[[], tuple[Outcome, list[str]]]]:
    """A folder that is watched; and what runs it an hour later, and says how that ended and what it said of files."""
    folder = twin.home / "incoming"
    folder.mkdir(parents=True)
    runner = twin.runner(WATCHED)

    def run() -> tuple[Outcome, list[str]]:
        twin.now += timedelta(hours=1)
        twin.said.clear()
        outcome = runner.run("in", only_due=True)
        return outcome, [line for line in twin.said if str(folder) in line]

    return runner, folder, run


def test_what_in_a_folder_is_none_of_results_is_told_once_and_again_when_it_changes_and_fails_nothing(
    twin: Twin, records: Path
) -> None:
    runner, folder, run = watched(twin)
    (folder / "README.txt").write_text("nothing of ours")
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "probes.json").write_bytes((records / "probes.json").read_bytes())
    (folder / "good.ndjson.bz2").write_bytes((records / "results.ndjson.bz2").read_bytes())
    outcome, told = run()
    assert outcome is Outcome.DONE
    assert len(told) == 3
    assert all(line.startswith("in: passed over: not ") for line in told)
    assert twin.state.jobs()["in"].last.observations > 1000, "all else has landed"
    for _ in range(2):
        assert run() == (Outcome.DONE, [])
        row = status(twin.home, runner.config, twin.now).sources[0]
        assert (row["failures"], row["last_error"], row["passed_over"]) == (0, None, 3)
    (folder / "README.txt").write_text("nothing of ours, once more")
    (folder / "picture.png").unlink()
    outcome, (line,) = run()
    assert (outcome, "README.txt" in line) == (Outcome.DONE, True)
    row = status(twin.home, runner.config, twin.now).sources[0]
    assert row["passed_over"] == 2
    assert "README.txt" in str(row["last_passed_over"])
    # Of what becomes results, nothing is said any longer.
    (folder / "README.txt").write_text(json.dumps({"type": "ping", "msm_id": 1, "prb_id": 1, "timestamp": 1767571200, "af": 4, "dst_addr": "192.0.2.1", "result": []}))  # fmt: skip
    (folder / "probes.json").unlink()
    assert run() == (Outcome.DONE, [])
    row = status(twin.home, runner.config, twin.now).sources[0]
    assert (row["last_observations"], row["passed_over"], row["last_passed_over"]) == (1, 0, None)


def test_what_another_version_passed_over_is_looked_at_again(
    twin: Twin, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder, run = watched(twin)
    (folder / "README.txt").write_text("nothing of ours")
    assert len(run()[1]) == 1
    monkeypatch.setattr("app.jobs.version", lambda _: "99")
    assert [len(run()[1]) for _ in range(2)] == [1, 0]


def test_a_file_that_is_being_written_is_looked_at_again_as_often_as_it_grows(
    twin: Twin, records: Path
) -> None:
    runner, folder, run = watched(twin)
    whole = bz2.decompress((records / "results.ndjson.bz2").read_bytes())
    part = folder / "results.part"
    part.write_bytes(b"")
    outcome, (line,) = run()
    assert (outcome, "an empty file" in line) == (Outcome.DONE, True)
    landed = []
    for length in (100, 50_000):  # in the middle of the first record; and of a later one
        part.write_bytes(whole[:length])
        outcome, (line,) = run()
        assert (outcome, "results.part" in line) == (Outcome.FAILED, True), "so that it is soon tried again"
        assert (runner.next_run("in") - twin.now) == timedelta(minutes=1 if length == 100 else 2)
        landed.append(twin.state.jobs()["in"].last.observations)
    part.rename(folder / "results.ndjson")
    (folder / "results.ndjson").write_bytes(whole)
    assert run() == (Outcome.DONE, [])
    assert landed[0] == 0 < landed[1]
    wanted = len(whole.splitlines())
    assert landed[1] + twin.state.jobs()["in"].last.observations == wanted


def test_a_part_of_a_file_that_never_grows_fails_once(twin: Twin, records: Path) -> None:
    _, folder, run = watched(twin)
    whole = (records / "results.ndjson.bz2").read_bytes()
    (folder / "a.part").write_bytes(whole[:100])
    assert [(outcome, len(told)) for outcome, told in (run(), run(), run())] == [
        (Outcome.FAILED, 1), (Outcome.DONE, 0), (Outcome.DONE, 0),
    ]  # fmt: skip


def test_a_file_that_may_not_be_read_fails_until_it_may(twin: Twin, records: Path) -> None:
    _, folder, run = watched(twin)
    (folder / "a").symlink_to("/proc/self/mem")  # whose first byte nobody can read
    (folder / "b").write_bytes((records / "results.ndjson.bz2").read_bytes())
    for _ in range(2):
        outcome, told = run()
        assert (outcome, len(told)) == (Outcome.FAILED, 1)
    (folder / "a").unlink()
    assert run() == (Outcome.DONE, [])


def test_new_files_of_a_folder_are_read_and_one_that_is_cut_is_told(twin: Twin, records: Path) -> None:
    whole = (records / "results.ndjson.bz2").read_bytes()
    folder = twin.home / "incoming"
    folder.mkdir(parents=True)
    text = WATCHED
    runner = twin.runner(text)
    assert runner.run("in", only_due=True) is Outcome.DONE, "a folder may be empty"
    (folder / "a.ndjson.bz2").write_bytes(whole[: len(whole) // 2])
    twin.now += timedelta(hours=1)
    assert runner.run("in", only_due=True) is Outcome.FAILED
    assert any("a.ndjson.bz2" in line and "whole" in line for line in twin.said)
    (folder / "a.ndjson.bz2").write_bytes(whole)
    twin.now += timedelta(hours=1)
    assert runner.run("in", only_due=True) is Outcome.DONE
    twin.now += timedelta(hours=1)
    before = observations(twin.lake())
    assert runner.run("in", only_due=True) is Outcome.DONE
    assert observations(twin.lake()) == before
    assert twin.state.jobs()["in"].last.observations == 0
    missing = twin.runner(text.replace("incoming", "nowhere"))
    assert missing.run("in", only_due=False) is Outcome.FAILED


def test_probes_are_asked_for_once_there_are_some(twin: Twin, atlas: TestbedServer) -> None:
    text = source(atlas, 'every = "1h"') + '[[source]]\nname = "who"\nkind = "probes"\nevery = "1d"\n'
    runner = twin.runner(text)
    assert runner.run("who", only_due=True) is Outcome.DONE
    runner.run("mesh", only_due=True)
    assert runner.run("who", only_due=False) is Outcome.DONE
    assert twin.lake().probes().num_rows > 5


def test_told_to_stop_while_the_server_is_silent_it_lands_what_it_has_and_knows_how_far_it_came(
    twin: Twin, relay: Relay
) -> None:
    relay.hangs_after = 12  # a day of one is five answers, as slices begin small: in the middle of the third
    ids = list(range(FIRST, FIRST + 6))
    runner = twin.runner(source(relay, 'every = "1h"', f'start = "{START.isoformat()}"', ids=ids))
    outcomes: list[Outcome] = []
    worker = threading.Thread(target=lambda: outcomes.append(runner.run("mesh", only_due=True)))
    worker.start()
    until = monotonic() + 20
    while len(relay.asked) < 12 and monotonic() < until:
        pass
    told = monotonic()
    twin.stop.set()
    worker.join(10)
    assert monotonic() - told < 5
    assert outcomes == [Outcome.STOPPED]
    covered = {number for number, one in twin.state.coverage("mesh").items() if one.until > START}
    asked = {number for number, _, _ in relay.asked}
    assert covered <= asked == set(ids[:3])
    landed = set(
        twin.lake().query("SELECT msm_id FROM ping UNION SELECT msm_id FROM traceroute")["msm_id"].to_pylist()
    )
    assert covered <= landed
    row = status(twin.home, runner.config, END).sources[0]
    assert (row["interrupted"], row["next_run"]) == (True, END), "it is due at once"
    relay.released.set()
    relay.hangs_after = None
    twin.stop.clear()
    assert runner.run_due() == [Outcome.DONE, Outcome.DONE]
    wanted = sum(table.num_rows for table in observations(twin.lake()).values())
    assert wanted == twin.state.jobs()["mesh"].total.observations > 0


def test_the_key_is_nowhere_but_in_the_header(
    twin: Twin, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QOETWIN_ATLAS_KEY", KEY)
    runner = twin.runner(source(relay, 'every = "1h"', f'start = "{START.isoformat()}"'))
    told = json.dumps({"error": {"title": "Forbidden", "detail": f"your key {KEY} may not"}}).encode()
    for answer in ((403, told), (200, f'["{KEY}'.encode()), (400, told)):
        relay.fails = lambda path, answer=answer: answer  # type: ignore[misc]
        assert runner.run("mesh", only_due=False) is Outcome.FAILED
    relay.fails = lambda path: None
    assert runner.run_all() == [Outcome.DONE, Outcome.DONE]
    assert set(relay.keys) == {f"Key {KEY}"}
    found = status(twin.home, runner.config, END)
    for shown in (*twin.said, found, runner.config, runner.state.jobs()):
        assert KEY not in repr(shown)
    assert any("***" in line for line in twin.said)
    for path in twin.home.rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path


# What is said, and remembered


def test_a_line_says_that_a_job_begins_and_one_how_it_ended_what_landed_and_when_it_is_next(
    twin: Twin, atlas: TestbedServer
) -> None:
    runner = twin.runner(source(atlas, 'every = "15m"', f'start = "{START.isoformat()}"'))
    assert runner.run_due() == [Outcome.DONE, Outcome.DONE]
    begins, ended, graph_begins, graph_ended = twin.said
    landed = twin.state.jobs()["mesh"].last
    assert (begins, graph_begins) == ("mesh: begins", "graph: begins")
    assert ended == (
        f"mesh: done in 0.0 s: {landed.results_read} results read, {landed.observations} new, "
        f"{landed.duplicates} known, 0 not understood; next 2026-01-07T00:15:00Z"
    )
    assert graph_ended.startswith("graph: done in 0.0 s: ")
    assert graph_ended.endswith(" to 2026-01-07T00:00:00Z")
    twin.said.clear()
    assert runner.run_all() == [Outcome.DONE, Outcome.DONE]
    assert len(twin.said) == 2, "of a graph that need not be built nothing is said"
    assert "next" not in twin.said[1], "whoever runs it once plans it himself"


def test_a_memory_of_before_files_were_passed_over_is_taken_over(twin: Twin, atlas: TestbedServer) -> None:
    text = source(atlas, 'every = "15m"', f'start = "{START.isoformat()}"')
    twin.runner(text).run("mesh", only_due=True)
    known = (twin.state.jobs(), twin.state.coverage("mesh"))
    with sqlite3.connect(twin.home / "schedule.sqlite", isolation_level=None) as database:
        database.execute("DROP TABLE passed_over")
        database.execute("PRAGMA user_version = 1")
    database.close()
    assert twin.state.passed_over("mesh") == {}
    assert (twin.state.jobs(), twin.state.coverage("mesh")) == known


def test_a_graph_that_was_built_by_hand_counts_as_built_and_mends_no_failure_of_the_schedule(
    tmp_path: Path,
) -> None:
    state = ScheduleState(tmp_path)
    state.graph_failed(START, "down")
    state.graph_built(END, 7, END, by_hand=True)
    graph = state.graph()
    assert (graph.built_at, graph.head, graph.until, graph.failures) == (END, 7, END, 1)
    state.graph_built(END, 8, None)
    graph = state.graph()
    assert (graph.head, graph.until, graph.failures) == (8, END, 0)


# When a job is due


def job(**known: object) -> JobState:
    return JobState(name="mesh", kind="atlas", known_at=START, **known)  # type: ignore[arg-type]


def test_a_job_is_due_once_however_many_times_went_by_and_failures_are_tried_again_ever_later(
    tmp_path: Path,
) -> None:
    text = '[[source]]\nname = "a"\nkind = "files"\npath = "x"\n'
    (tmp_path / "q.toml").write_text(f'{text}every = "1h"\n')
    every = read_config(tmp_path / "q.toml").source[0]
    (tmp_path / "q.toml").write_text(f'{text}cron = "0 3 * * *"\n')
    cron = read_config(tmp_path / "q.toml").source[0]
    hour, minute = timedelta(hours=1), timedelta(minutes=1)
    now = START + 10 * hour
    three = START + 3 * hour
    assert next_run(every, None, now) is None
    assert next_run(every, job(), now) == START, "at once"
    assert next_run(cron, job(), START + hour) == three, "not before its time"
    well = job(started_at=START, ended_at=START + 2 * minute, succeeded_at=START + 2 * minute)
    assert next_run(every, well, now) == START + hour
    assert next_run(cron, well, now) == three, "missed, and so it is due"
    at_three = job(started_at=three, ended_at=three)
    assert next_run(cron, at_three, now) == three + 24 * hour
    cut_short = job(started_at=START + 2 * hour, ended_at=START + hour)
    assert next_run(cron, cut_short, now) == START + 2 * hour, "it did not come to its end"
    ahead = job(started_at=START + 100 * hour, ended_at=START + 100 * hour)
    assert next_run(every, ahead, now) == now, "the clock was wrong"
    failed = [job(started_at=START, ended_at=START, failures=count) for count in range(1, 9)]
    waits = [(next_run(every, one, now) or now) - START for one in failed]
    assert waits == [minute * min(2**count, 60) for count in range(8)]


def test_nothing_is_written_by_looking(tmp_path: Path) -> None:
    found = status(tmp_path / "home", None, END)
    assert (found.sources, found.failing) == ([], False)
    assert found.home["lake_head"] == found.home["ping_rows"] == 0
    assert not (tmp_path / "home").exists()
    assert not is_held(tmp_path / "home", GRAPH)


@pytest.mark.parametrize(
    "path", [".", "..", "../link", "locks", "lake/ping", "schedule.sqlite", "stream.sqlite", "box/.."]
)
def test_a_source_of_files_that_reads_the_home_itself_is_refused(twin: Twin, path: str) -> None:
    twin.home.with_name("link").symlink_to(twin.home)
    text = f'[[source]]\nname = "in"\nkind = "files"\npath = "{path}"\nevery = "1h"\n'
    with pytest.raises(InputError, match=r"our own files: \[\[source\]\] 'in' path"):
        twin.runner(text)
    assert [one.name for one in twin.home.iterdir()] == ["qoetwin.toml"]
    twin.runner(text.replace(path, "incoming"))
