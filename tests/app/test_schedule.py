"""`qoetwin schedule` and `qoetwin status` as users, cron, systemd and kill meet them."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.schedule_state import SCHEDULER, ScheduleState, is_held
from app.scheduler import stopped_by_signals
from ingest.atlas import AtlasSource
from ingest.batch import Batch
from ingest.lake import Lake
from ingest.parse import parse_batch
from testbed.server import TestbedServer
from tests.app.conftest import Cli, Relay
from tests.app.test_jobs import FIRST, observations, source
from tests.conftest import START
from twin.ingestion import ingest_atlas

ROOT = Path(__file__).parents[2]
BEGIN = f'start = "{START.isoformat()}"'
STATUS_KEYS = [
    "source",
    "kind",
    "running",
    "last_success",
    "lag_s",
    "results_read",
    "observations",
    "duplicates",
    "quarantined",
    "last_results_read",
    "last_observations",
    "next_run",
    "failures",
    "last_error",
    "last_error_at",
    "passed_over",
    "last_passed_over",
    "interrupted",
]


def home_with(folder: Path, text: str) -> Path:
    home = folder / "home"
    home.mkdir()
    (home / "qoetwin.toml").write_text(text)
    return home


def started(*arguments: object, first: str = "") -> subprocess.Popen[str]:
    """The real command in a process of its own, in which something was done `first`."""
    return subprocess.Popen(
        [sys.executable, "-c", f"{first}\nfrom app.cli import main; main()", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    until = time.monotonic() + 60
    while not what():
        assert time.monotonic() < until, "it does not come to pass"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.02)


def test_a_job_that_is_killed_in_the_middle_loses_nothing_and_doubles_nothing(
    relay: Relay, qoetwin: Cli, tmp_path: Path
) -> None:
    ids = [FIRST, FIRST + 1, FIRST + 2]
    end = datetime.now(UTC).replace(microsecond=0)  # the real clock decides up to when is asked
    start = end - timedelta(hours=30)
    internet = relay.atlas.truth.internet
    with TestbedServer(internet, start, end, traceroute_interval=timedelta(hours=12)) as recent:
        relay.atlas = recent
        home = home_with(tmp_path, source(relay, 'every = "15m"', f'start = "{start.isoformat()}"', ids=ids))
        # A day is five answers, as slices begin small: the first of all three has landed, and of the second a part.
        relay.hangs_after = 17
        running = started("schedule", "--once", "--home", home)
        state = ScheduleState(home)
        wait_for(lambda: len(relay.asked) == 17, running)
        wait_for(lambda: any(one.until > start for one in state.coverage("mesh").values()), running)
        running.send_signal(signal.SIGKILL)
        running.communicate()
        assert {one.until - start for one in state.coverage("mesh").values()} == {timedelta(days=1)}
        row = json.loads(qoetwin("status", "--home", home, "--format", "json").out)["sources"][0]
        assert (row["running"], row["interrupted"]) == (False, True)
        relay.hangs_after = None
        relay.released.set()
        assert qoetwin("schedule", "--once", "--home", home).code == 0
        assert min(first for _, first, _ in relay.asked[17:]) > start.timestamp(), "not from the start again"
        other = Lake(tmp_path / "other")
        whole = AtlasSource(server=recent.address, verify=recent.certificate)
        ingest_atlas(other, whole, ids, start, end)
        assert observations(Lake(home / "lake")) == observations(other)


def test_two_schedulers_share_the_jobs_and_sigterm_ends_them_well(
    relay: Relay, tmp_path: Path, qoetwin: Cli
) -> None:
    relay.hangs_after = 1
    text = source(relay, 'every = "1s"', BEGIN)
    home = home_with(
        tmp_path, f'{text}[[source]]\nname = "in"\nkind = "files"\npath = "nowhere"\nevery = "1d"\n'
    )
    one = started("schedule", "--home", home)
    wait_for(lambda: len(relay.asked) == 1, one)
    assert is_held(home, SCHEDULER, shared=True)
    rows = json.loads(qoetwin("status", "--home", home, "--format", "json").out)
    assert rows["scheduler_running"] is True
    assert {row["source"]: row["running"] for row in rows["sources"]} == {"mesh": True, "in": False}
    # Beside it, --once leaves the job that is running to it, and goes on with the other.
    once = qoetwin("schedule", "--once", "--home", home)
    assert "mesh: is running in another process" in once.err
    assert once.err.count("in:") > 0
    two = started("schedule", "--home", home)
    assert two.stderr is not None
    said = [two.stderr.readline() for _ in range(2)]
    assert any("another scheduler" in line for line in said), said
    assert any("mesh: is running in another process" in line for line in said), said
    for process in (one, two):
        told = time.monotonic()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
        assert process.returncode == 0, err
        assert time.monotonic() - told < 8
        assert out == ""
        assert "Traceback" not in err
    assert len(relay.asked) == 1
    assert not is_held(home, SCHEDULER, shared=True)


def test_work_that_cannot_be_interrupted_does_not_keep_a_process_that_is_told_to_stop(
    relay: Relay, tmp_path: Path
) -> None:
    slow = "import time, app.jobs, app.scheduler\napp.scheduler.GRACE_S = 0.5\n"
    slow += "def refresh(*_, **__):\n    print('building', flush=True)\n    time.sleep(60)\napp.jobs.refresh_graph = refresh"
    home = home_with(tmp_path, source(relay, 'every = "1h"'))
    Lake(home / "lake").land(parse_batch(some_pings(relay)))
    for arguments, code in (([], 0), (["--once"], 1)):
        running = started("schedule", *arguments, "--home", home, first=slow)
        assert running.stdout is not None
        assert running.stdout.readline() == "building\n"
        told = time.monotonic()
        running.send_signal(signal.SIGTERM)
        _, err = running.communicate(timeout=20)
        assert (running.returncode, "Traceback" in err) == (code, False), err
        assert time.monotonic() - told < 10


def some_pings(relay: Relay) -> Batch:
    atlas = AtlasSource(server=relay.address, verify=relay.certificate)
    (batch,) = atlas.results(FIRST, START, START + timedelta(hours=1))
    return batch


def test_the_second_signal_ends_at_once() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    said: list[str] = []
    with stopped_by_signals(said.append) as stop:
        assert not stop.is_set()
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()
        assert {signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)} == {signal.SIG_DFL}
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert said == ["SIGTERM: stopping"]


def test_once_runs_each_job_and_fails_when_one_failed(relay: Relay, qoetwin: Cli, tmp_path: Path) -> None:
    text = source(relay, 'every = "1d"', 'look_back = "1h"')
    home = home_with(
        tmp_path, f'{text}[[source]]\nname = "in"\nkind = "files"\npath = "nowhere"\nevery = "1d"\n'
    )
    ran = qoetwin("schedule", "--once", "--home", home)
    assert ran.code == 1
    assert "in: no such file or directory" in ran.err
    asked = len(relay.asked)
    assert asked >= 2
    assert qoetwin("schedule", "--once", "--only", "mesh", "--home", home).code == 0, "due or not"
    asked, before = len(relay.asked), asked
    assert asked > before
    assert qoetwin("status", "--home", home).code == 0
    assert qoetwin("status", "--home", home, "--check").code == 1
    wrong = qoetwin("schedule", "--once", "--only", "msh", "--home", home)
    assert (wrong.code, "expected mesh" in wrong.err) == (1, True)
    assert qoetwin("schedule", "--only", "mesh", "--home", home).code == 2
    wrong = qoetwin("schedule", "--once", "--store", "mysql", "--home", home)
    assert (wrong.code, "no such store" in wrong.err) == (1, True)
    assert len(relay.asked) == asked


def test_a_configuration_elsewhere_is_named_and_one_that_is_missing_is_told(
    qoetwin: Cli, tmp_path: Path
) -> None:
    missing = qoetwin("schedule", "--once", "--home", tmp_path)
    assert missing.code == 1
    assert "qoetwin.toml" in missing.err
    (tmp_path / "mine.toml").write_text(
        '[[source]]\nname = "in"\nkind = "files"\npath = "box"\nevery = "1d"\n'
    )
    (tmp_path / "box").mkdir()
    config = ["--config", tmp_path / "mine.toml"]
    home = tmp_path / "home"
    assert qoetwin("schedule", "--once", *config, "--home", home).code == 0
    assert json.loads(qoetwin("status", *config, "--home", home, "--format", "json").out)["sources"][0][
        "last_success"
    ]
    assert qoetwin("status", "--config", tmp_path / "no.toml", "--home", home).code == 1
    # Without its configuration, what ran is still there, and is due at no time.
    (row,) = json.loads(qoetwin("status", "--home", home, "--format", "json").out)["sources"]
    assert (row["source"], row["next_run"], row["failures"]) == ("in", None, 0)


def test_status_says_the_same_in_every_format(qoetwin: Cli, relay: Relay, tmp_path: Path) -> None:
    home = home_with(tmp_path, source(relay, 'every = "1d"', 'look_back = "1h"'))
    empty = json.loads(qoetwin("status", "--home", home, "--format", "json").out)
    assert (empty["lake_head"], empty["sources"][0]["last_success"]) == (0, None)
    relay.fails = lambda path: (404, b'{"error": {"title": "Not Found", "detail": "gone"}}')
    assert qoetwin("schedule", "--once", "--home", home).code == 1
    whole = json.loads(qoetwin("status", "--home", home, "--format", "json").out)
    (row,) = whole["sources"]
    assert list(row) == STATUS_KEYS
    for form in ("ndjson", "csv", "table"):
        text = qoetwin("status", "--home", home, "--format", form).out
        if form == "ndjson":
            (other,) = [json.loads(line) for line in text.splitlines()]
            assert {name: value for name, value in other.items() if name != "lag_s"} == {
                name: value for name, value in row.items() if name != "lag_s"
            }
        elif form == "csv":
            (cells,) = list(csv.DictReader(io.StringIO(text)))
            assert (list(cells), cells["last_error"]) == (STATUS_KEYS, row["last_error"])
        else:
            assert "mesh" in text
            assert "gone" in text
            assert "scheduler_running" in text


def test_status_of_a_home_without_a_schedule_says_what_is_there(
    qoetwin: Cli, built: Path, tmp_path: Path
) -> None:
    found = json.loads(qoetwin("status", "--home", built, "--format", "json").out)
    assert found["ping_rows"] > 1000
    assert found["lake_head"] > 0
    assert (found["sources"], found["scheduler_running"]) == ([], False)
    assert qoetwin("status", "--home", built, "--check").code == 0
    assert qoetwin("status", "--home", tmp_path / "nothing", "--format", "csv").out == ""
    assert not (tmp_path / "nothing").exists()


def test_status_says_when_a_graph_was_built_by_hand(qoetwin: Cli, records: Path, tmp_path: Path) -> None:
    qoetwin("ingest", "files", records / "results.ndjson.bz2", "--home", tmp_path)
    before = datetime.now(UTC).replace(microsecond=0)
    assert qoetwin("graph", "build", "--window", "1h", "--home", tmp_path).code == 0
    found = json.loads(qoetwin("status", "--home", tmp_path, "--format", "json").out)
    assert before <= datetime.fromisoformat(found["graph_built_at"]) <= datetime.now(UTC)
    assert (found["graph_lake_head"], found["sources"]) == (found["lake_head"], [])
    assert found["graph_windows_until"] == "2026-01-07T00:00:00Z"


@pytest.mark.parametrize("form", ["table", "json", "csv", "ndjson"])
def test_a_damaged_memory_is_one_line(qoetwin: Cli, tmp_path: Path, form: str) -> None:
    (tmp_path / "schedule.sqlite").write_bytes(b"no database, and long enough to be taken for one" * 10)
    ran = qoetwin("status", "--home", tmp_path, "--format", form)
    assert ran.code == 1
    assert len(ran.err.splitlines()) == 1
    assert "schedule.sqlite" in ran.err
