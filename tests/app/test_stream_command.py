"""`qoetwin ingest stream` as users and systemd meet it: by the real clock, stopped by a signal."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from domain.errors import StoreError
from domain.window import parse_time
from ingest.heard import Heard
from ingest.lake import Lake
from testbed.internet import SyntheticInternet
from testbed.server import TestbedServer
from tests.app.conftest import Cli
from tests.app.test_jobs import observations

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def streaming() -> Iterator[TestbedServer]:
    """A testbed of now."""
    now = datetime.now(UTC).replace(microsecond=0)
    internet = SyntheticInternet.generate(3, 8, 2)
    with TestbedServer(
        internet, now - 6 * HOUR, now + HOUR, events=(), now=lambda: datetime.now(UTC)
    ) as server:
        yield server


def asked(server: TestbedServer, home: Path) -> list[object]:
    ids = [part for one in server.campaign.measurements for part in ("-m", one.msm_id)]
    where = ["--server", server.address, "--stream-server", server.address]
    trust = ["--certificate", server.certificate]
    return ["ingest", "stream", *ids, *where, *trust, "--home", home, "--format", "json"]


def remember(server: TestbedServer, home: Path, until: datetime) -> None:
    ids = [one.msm_id for one in server.campaign.measurements]
    Heard(home).keep(server.address, dict.fromkeys([(msm_id, None) for msm_id in ids], until))


def stop_when_landed(home: Path, until: datetime) -> threading.Thread:
    """Send SIGTERM to this process when all that was missed until then is in the lake."""

    def stop() -> None:
        patience_s = time.monotonic() + 30
        while time.monotonic() < patience_s:
            found = [moment for path in home.glob("stream.sqlite") for moment in known(path.parent)]
            if found and min(found) > until:
                break
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    return thread


def known(home: Path) -> list[datetime]:
    import sqlite3

    with sqlite3.connect(home / "stream.sqlite") as database:
        rows = database.execute("SELECT until_us FROM heard").fetchall()
    return [datetime.fromtimestamp(us / 1e6, tz=UTC) for (us,) in rows]


def test_what_was_missed_is_asked_for_and_a_stop_that_was_asked_for_is_none_that_failed(
    qoetwin: Cli, streaming: TestbedServer, tmp_path: Path
) -> None:
    left = datetime.now(UTC).replace(microsecond=0) - 3 * HOUR
    remember(streaming, tmp_path, left)
    thread = stop_when_landed(tmp_path, left)
    ran = qoetwin(*asked(streaming, tmp_path))
    thread.join()
    assert ran.code == 0, ran.err
    row = json.loads(ran.out)
    assert (row["ended"], row["gaps"], row["quarantined"]) == ("stopped", 1, 0)
    assert parse_time(row["heard_until"]) > left + 2 * HOUR
    assert f"asking for what was stored since {left:%Y-%m-%dT%H:%M:%SZ}, when nobody listened" in ran.err
    assert "is in the lake; listening to the same again begins there" in ran.err
    # What the API has of those hours is there, once.
    other = tmp_path / "other"
    span = ["--from", left.isoformat(), "--to", (left + 2 * HOUR).isoformat()]
    ids = [part for one in streaming.campaign.measurements for part in ("-m", one.msm_id)]
    trust = ["--server", streaming.address, "--certificate", streaming.certificate]
    both = [
        json.loads(qoetwin("ingest", "atlas", *ids, *trust, *span, "--home", home, "--format", "json").out)
        for home in (tmp_path, other)
    ]
    assert (both[0]["observations"], both[0]["duplicates"]) == (0, both[1]["observations"])
    assert both[1]["observations"] > 50
    found = observations(Lake(tmp_path / "lake"))
    assert all(table.num_rows == len(set(map(str, table.to_pylist()))) for table in found.values())


def test_a_failure_says_up_to_when_was_heard_and_what_to_do(
    qoetwin: Cli, streaming: TestbedServer, tmp_path: Path
) -> None:
    left = datetime.now(UTC).replace(microsecond=0) - 3 * HOUR
    remember(streaming, tmp_path, left)
    arguments = asked(streaming, tmp_path)
    where = arguments.index("--certificate")
    ran = qoetwin(*arguments[:where], *arguments[where + 2 :])  # nobody vouches for it then
    assert (ran.code, ran.out) == (1, "")
    lines = ran.err.splitlines()
    assert lines[-2] == (
        f"all until {left:%Y-%m-%dT%H:%M:%SZ} is in the lake; listening to the same again begins there"
    )
    assert "certificate is not trusted" in lines[-1]
    assert set(known(tmp_path)) == {left}


def test_what_is_too_long_ago_is_told(qoetwin: Cli, streaming: TestbedServer, tmp_path: Path) -> None:
    left = datetime.now(UTC).replace(microsecond=0) - 3 * HOUR
    remember(streaming, tmp_path, left)
    arguments = [*asked(streaming, tmp_path), "--catch-up", "1h", "--stream-server", "127.0.0.1:1"]
    Heard(tmp_path).keep(
        "127.0.0.1:1", {(streaming.campaign.measurements[0].msm_id, None): datetime.now(UTC) - 3 * HOUR}
    )
    thread = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM))
    thread.start()
    ran = qoetwin(*arguments)
    thread.join()
    assert ran.code == 0
    assert "is more than --catch-up; --since asks for it" in ran.err


def test_a_damaged_memory_is_one_line(qoetwin: Cli, streaming: TestbedServer, tmp_path: Path) -> None:
    (tmp_path / "stream.sqlite").write_bytes(b"no database, and long enough to be taken for one" * 10)
    ran = qoetwin(*asked(streaming, tmp_path))
    assert (ran.code, len(ran.err.splitlines())) == (1, 1)
    assert "stream.sqlite" in ran.err
    with pytest.raises(StoreError):
        Heard(tmp_path).until("atlas-stream.ripe.net")


def test_a_time_to_come_is_wrong_usage(qoetwin: Cli, streaming: TestbedServer, tmp_path: Path) -> None:
    assert qoetwin(*asked(streaming, tmp_path), "--since", "2999-01-01").code == 2
