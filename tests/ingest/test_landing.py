"""Commits, compaction, what a commit touches, quarantine that is tried again, lakes of before, full disks, several writers."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ingest.lake
from domain.errors import SourceError, StoreError
from ingest.batch import Parsed
from ingest.lake import Lake, Landed, Retried
from ingest.lake_files import SCHEMAS, Kind
from ingest.parse import parse
from ingest.sqlite_file import SqliteFile

Make = Callable[..., dict[str, Any]]

DAY_S = 86_400
START_S = 1_557_705_600
START_HOUR = START_S // 3600


def pings(ping: Make, *places: tuple[int, int]) -> Parsed:
    """Pings of (probe, second after `START_S`)."""
    return parse(
        [ping(prb_id=probe, timestamp=START_S + second, stored_timestamp=...) for probe, second in places],
        "test",
    )


def landed_pings(lake: Lake) -> Counter[tuple[int, int]]:
    rows = lake.query("SELECT probe_id, epoch(timestamp)::BIGINT AS at_s FROM ping").to_pylist()
    return Counter((row["probe_id"], row["at_s"] - START_S) for row in rows)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every batch is a commit, and two small files are too many."""
    monkeypatch.setattr(ingest.lake, "LANDED_BYTES", 1)
    monkeypatch.setattr(ingest.lake, "COMPACTED_FILES", 2)


_places = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3 * DAY_S)), max_size=8)


@settings(max_examples=25)
@given(batches=st.lists(_places, max_size=5), at_once=st.booleans())
def test_however_results_arrive_each_is_there_once_and_all_others_count_as_duplicates(
    ping: Make,
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[list[tuple[int, int]]],
    at_once: bool,
) -> None:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    distinct = {place for places in batches for place in places}
    total = sum(map(len, batches))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest.lake, "LANDED_BYTES", 1 << 30 if at_once else 1)
        patch.setattr(ingest.lake, "COMPACTED_FILES", 2)
        with lake.landing() as landing:
            for places in batches:
                landing.add(pings(ping, *places))
    assert landing.landed == Landed(
        results_read=total, observations=len(distinct), duplicates=total - len(distinct)
    )
    assert landed_pings(lake) == Counter(distinct)


def test_small_files_of_a_day_become_one_sorted_by_time_and_nothing_else_changes(
    ping: Make, traceroute: Make, lake: Lake, eager: None
) -> None:
    with lake.landing() as landing:
        for number in (3, 1, 2):
            landing.add(pings(ping, (number, 60 * number), (number, DAY_S + 60 * number)))
        landing.add(parse([traceroute(timestamp=START_S)], "test"))
        assert [len(lake.files(kind)) for kind in (Kind.PING, Kind.TRACEROUTE)] == [6, 1]
        before = landed_pings(lake)
        head = lake.manifest.head()
    assert [len(lake.files(kind)) for kind in (Kind.PING, Kind.TRACEROUTE)] == [2, 1]
    assert sorted(lake.folder.rglob("*.parquet")) == sorted(
        file for kind in Kind for file in lake.files(kind)
    )
    assert landed_pings(lake) == before
    assert lake.manifest.touched_since(head) == {}  # there is nothing to build again
    for file in lake.files(Kind.PING):
        times = pq.read_table(file, partitioning=None)["timestamp"].to_pylist()
        assert times == sorted(times)
    assert lake.compact() == 0


def test_a_file_that_is_large_enough_is_left_alone(
    ping: Make, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2, 3):
        lake.land(pings(ping, (number, 60)))
    size = lake.files(Kind.PING)[0].stat().st_size
    monkeypatch.setattr(ingest.lake, "COMPACTED_BYTES", 2 * size - 100)
    assert lake.compact() == 0
    monkeypatch.setattr(ingest.lake, "COMPACTED_BYTES", 2 * size + 100)
    assert lake.compact() == 1
    assert len(lake.files(Kind.PING)) == 2


def test_a_commit_touches_the_hours_of_what_is_new_in_it_and_no_other(
    ping: Make, traceroute: Make, lake: Lake
) -> None:
    lake.land(pings(ping, (1, 0), (1, 3599), (1, 7200)))
    first = lake.manifest.head()
    lake.land(pings(ping, (1, 0), (2, 3 * 3600)))  # one of them is late, the other known
    lake.land(parse([traceroute(timestamp=START_S - 1)], "test"))
    assert lake.manifest.touched_since(0) == {
        "ping": [START_HOUR, START_HOUR + 2, START_HOUR + 3],
        "traceroute": [START_HOUR - 1],
    }
    assert lake.manifest.touched_since(first) == {"ping": [START_HOUR + 3], "traceroute": [START_HOUR - 1]}
    head = lake.manifest.head()
    lake.land(pings(ping, (1, 0)))
    assert lake.manifest.head() == head
    assert lake.manifest.touched_since(head) == {}


def test_a_window_of_one_type_reads_only_its_files(ping: Make, traceroute: Make, lake: Lake) -> None:
    lake.land(pings(ping, (1, 0), (1, DAY_S), (1, 2 * DAY_S)))
    lake.land(parse([traceroute(timestamp=START_S)], "test"))
    first, _, third = lake.files(Kind.PING)
    for other in (first, third, *lake.files(Kind.TRACEROUTE)):
        other.write_bytes(b"whoever opens this fails")
    day = datetime.fromtimestamp(START_S + DAY_S, tz=UTC)
    answer = lake.query("SELECT count(*) AS n FROM ping", first=day, last=day.replace(hour=23))
    assert answer["n"].to_pylist() == [1]
    with pytest.raises(StoreError, match="damaged"):
        lake.query("SELECT count(*) AS n FROM ping")


def test_what_a_source_gave_before_it_failed_has_landed(ping: Make, lake: Lake) -> None:
    def source() -> Any:
        yield pings(ping, (1, 0))
        raise SourceError("gone")

    def run() -> None:
        with lake.landing() as landing:
            for parsed in source():
                landing.add(parsed)

    with pytest.raises(SourceError, match="gone"):
        run()
    assert landed_pings(lake) == Counter([(1, 0)])


def test_what_arrives_slowly_is_safe_soon(ping: Make, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(ingest.lake, "monotonic", lambda: now[0])
    with lake.landing() as landing:
        landing.add(pings(ping, (1, 0)))
        assert landed_pings(lake) == Counter()
        now[0] = ingest.lake.LANDED_S
        landing.add(pings(ping, (1, 1)))
        assert landed_pings(lake) == Counter([(1, 0), (1, 1)])


def test_quarantine_tried_again_lands_what_is_understood_now_once_and_keeps_the_rest_as_it_is(
    ping: Make, lake: Lake
) -> None:
    known, new, bad = (json.dumps(one).encode() for one in (ping(), ping(prb_id=8), {"type": "ping"}))
    lake.land(parse([known], "test"))

    def understands_nothing(raws: Sequence[bytes]) -> Parsed:
        return parse([b"{" + raw for raw in raws], "a file")

    rows = understands_nothing([known, new, bad]).quarantined
    raws = pa.array([known, new, bad], pa.binary())
    lake.land(Parsed(quarantined=rows.set_column(3, rows.schema.field("raw"), raws)))
    before = lake.query("SELECT reason FROM quarantine ORDER BY position")["reason"].to_pylist()
    assert all("not JSON" in reason for reason in before)

    def now(raws: Sequence[bytes]) -> Parsed:
        return parse(raws, "again")

    assert lake.retry_quarantine(now) == Retried(tried=3, observations=1, duplicates=1, quarantined=1)
    (left,) = lake.query("SELECT source, position, raw, reason FROM quarantine").to_pylist()
    assert (left["source"], left["position"], left["raw"]) == ("a file", 2, bad)
    assert left["reason"] == before[2]
    assert sorted(lake.query("SELECT probe_id FROM ping")["probe_id"].to_pylist()) == [7, 8]
    head = lake.manifest.head()
    assert lake.retry_quarantine(now) == Retried(tried=1, observations=0, duplicates=0, quarantined=1)
    assert lake.manifest.head() == head


def earlier(lake: Lake, kind: Kind, version: bytes, table: pa.Table) -> Path:
    """A file of a lake of before the manifest."""
    folder = lake.folder / kind / "day=2019-05-13" if kind in ("ping", "traceroute") else lake.folder / kind
    folder.mkdir(parents=True)
    path = folder / "earlier.parquet"
    pq.write_table(table.replace_schema_metadata({b"qoetwin_schema": version}), path)
    return path


def test_a_lake_of_before_the_manifest_is_taken_over_with_its_doubts(
    ping: Make, traceroute: Make, lake: Lake
) -> None:
    records = [ping(), ping(prb_id=8, lts=601), traceroute(endtime=START_S - 1), {"type": "ping"}]
    parsed = parse(records, "test")
    files = [
        earlier(lake, Kind.PING, b"ping/1", parsed.pings.drop_columns(["doubts"])),
        earlier(lake, Kind.TRACEROUTE, b"traceroute/1", parsed.traceroutes.drop_columns(["doubts"])),
        earlier(lake, Kind.QUARANTINE, b"quarantine/1", parsed.quarantined),
    ]
    for kind, rows in ((Kind.PING, parsed.pings), (Kind.TRACEROUTE, parsed.traceroutes)):
        (file,) = Lake(lake.folder).files(kind)
        assert pq.read_table(file, partitioning=None).to_pylist() == rows.to_pylist()
        assert pq.read_schema(file).remove_metadata() == SCHEMAS[kind]
    assert not any(file.exists() for file in files)
    assert lake.land(parsed) == Landed(results_read=4, duplicates=3, quarantined=1, doubtful=2)
    assert lake.query("SELECT count(*) AS n FROM quarantine")["n"].to_pylist() == [1]


def test_a_lake_of_before_is_taken_over_also_when_who_began_to_was_killed_before_the_commit(
    ping: Make, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = parse([ping()], "test").pings.drop_columns(["doubts"])
    before = earlier(lake, Kind.PING, b"ping/1", rows)

    def die(self: SqliteFile, database: sqlite3.Connection) -> None:
        create(self, database)
        raise KeyboardInterrupt

    create = SqliteFile._bring_up
    with monkeypatch.context() as patch:
        patch.setattr(SqliteFile, "_bring_up", die)
        with pytest.raises(KeyboardInterrupt):
            lake.files(Kind.PING)
    assert (lake.folder / "manifest.sqlite").stat().st_size > 0
    assert Lake(lake.folder).query("SELECT count(*) AS n FROM ping")["n"].to_pylist() == [1]
    assert not before.exists()


def test_an_unknown_file_where_a_lake_of_before_would_be_is_named_and_nothing_is_taken_over(
    ping: Make, lake: Lake
) -> None:
    rows = parse([ping()], "test").pings
    good = earlier(lake, Kind.PING, b"ping/1", rows.drop_columns(["doubts"]))
    bad = earlier(lake, Kind.TRACEROUTE, b"ping/1", rows)
    with pytest.raises(StoreError, match="unknown version") as error:
        lake.query("SELECT * FROM ping")
    assert error.value.where == str(bad)
    assert good.exists()
    assert not lake.manifest.exists


def test_a_lake_of_a_later_version_is_refused(ping: Make, lake: Lake) -> None:
    lake.land(parse([ping()], "test"))
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('PRAGMA user_version = 99')",
            str(lake.folder / "manifest.sqlite"),
        ],
        check=True,
    )
    with pytest.raises(StoreError, match="version 99"):
        lake.query("SELECT * FROM ping")


def test_a_manifest_that_is_none_is_one_clear_error(ping: Make, lake: Lake) -> None:
    (lake.folder / "manifest.sqlite").write_bytes(b"not a database, but long enough to look like one" * 30)
    with pytest.raises(StoreError, match="manifest cannot be used") as error:
        lake.land(parse([ping()], "test"))
    assert error.value.where == str(lake.folder / "manifest.sqlite")


_WRITER = """
import sys
from pathlib import Path
from ingest.lake import Lake
from tests.ingest import kills
kills.ingest_all(Path(sys.argv[1]))
"""


def test_two_processes_at_once_on_one_lake_land_each_result_once(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)], cwd=root) for _ in range(2)]
    assert [writer.wait() for writer in writers] == [0, 0]
    from tests.ingest import kills

    assert kills.problems(tmp_path) == []


_FILL = """
import json, sys
from pathlib import Path
from domain.errors import StoreError
from ingest.lake import Lake
from ingest.parse import parse
lake = Lake(Path(sys.argv[1]) / "lake")
ballast = Path(sys.argv[1]) / "ballast"
ballast.write_bytes(bytes(600_000))
def batch(number):
    return parse([{"type": "ping", "msm_id": 1, "prb_id": probe, "timestamp": 1557705600 + number, "dst_addr": "192.0.2.1",
                   "result": [{"rtt": probe * 1.7 + number}]} for probe in range(2000)], "test")
landed = 0
for number in range(100):
    try:
        landed += lake.land(batch(number)).observations
    except StoreError as error:
        print(error.line(), file=sys.stderr)
        break
there = lake.query("SELECT count(*) AS n FROM ping")["n"].to_pylist()[0]
ballast.unlink()
again = sum(lake.land(batch(one)).observations for one in range(number + 1))
print(json.dumps([landed, there, again, lake.query("SELECT count(*) AS n FROM ping")["n"].to_pylist()[0], number]))
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare, which makes a small disk to fill")
def test_a_disk_that_is_full_loses_nothing_and_the_next_run_goes_on(tmp_path: Path) -> None:
    small = f"mount -t tmpfs -o size=1m tmpfs {tmp_path} && exec {sys.executable} -c '{_FILL}' {tmp_path}"
    root = Path(__file__).parents[2]
    done = subprocess.run(["unshare", "-rm", "sh", "-c", small], cwd=root, capture_output=True, text=True)
    if done.returncode != 0 and "unshare" in done.stderr:
        pytest.skip(f"no small disk can be made here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    landed, there, again, finally_there, number = json.loads(done.stdout)
    assert there >= landed > 0  # a commit that is done may still have failed to move its files
    assert there + again == finally_there == 2000 * (number + 1)
    assert "No space left" in done.stderr or "full" in done.stderr


def test_polars_like_readers_find_whole_files_and_only_those_of_the_lake(ping: Make, lake: Lake) -> None:
    lake.land(pings(ping, (1, 0), (2, DAY_S)))
    stray = lake.folder / ".staging" / "ping-2019-05-13-x.parquet"
    stray.write_bytes(b"half a file of a run that died")
    with duckdb.connect() as database:
        found = database.execute(
            "SELECT count(*), min(day)::VARCHAR FROM read_parquet(?, hive_partitioning = true)",
            [f"{lake.folder}/ping/**/*.parquet"],
        ).fetchone()
    assert found == (2, "2019-05-13")
    assert pq.read_table(lake.folder / "ping").num_rows == 2
    assert np.unique(pq.read_table(lake.folder / "ping")["day"].to_pylist()).tolist() == [
        "2019-05-13",
        "2019-05-14",
    ]
    lake.land(pings(ping, (3, 0)))
    assert not stray.exists()


def test_a_manifest_that_is_gone_or_empty_is_told_and_no_new_lake_is_begun_over_the_old(
    ping: Make, lake: Lake
) -> None:
    lake.land(parse([ping()], "test"))
    for lose in (Path.unlink, lambda path: path.write_bytes(b"")):
        manifest = (lake.folder / "manifest.sqlite").read_bytes()
        lose(lake.folder / "manifest.sqlite")
        for use in (lambda: lake.query("SELECT * FROM ping"), lambda: lake.land(parse([ping()], "test"))):
            with pytest.raises(StoreError, match="manifest is gone"):
                use()
        (lake.folder / "manifest.sqlite").write_bytes(manifest)
    assert lake.land(parse([ping()], "test")).duplicates == 1
