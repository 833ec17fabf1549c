"""What is in quarantine can leave it: it is chosen as it is listed, dropped in one commit, and comes again when it is read again."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ingest.lake
from domain.errors import InputError, StoreError
from ingest.batch import QUARANTINE_SCHEMA, Parsed
from ingest.lake import Lake
from ingest.lake_files import Kind
from ingest.parse import parse
from ingest.quarantine import QuarantineFilter

Make = Callable[..., dict[str, Any]]
SOURCES = ("a.ndjson", "b.ndjson", "it's; DROP TABLE quarantine --")
REASONS = ("the file is cut: no end of it", "not JSON", "Not JSON; 100% of it_")


def rejected(*records: tuple[str, str, bytes]) -> Parsed:
    """Records (source, reason, bytes) that were not understood."""
    rows = [
        {"source": source, "position": number, "reason": reason, "raw": raw}
        for number, (source, reason, raw) in enumerate(records)
    ]
    return Parsed(quarantined=pa.Table.from_pylist(rows, QUARANTINE_SCHEMA))


def landed(lake: Lake, moment: datetime, *records: tuple[str, str, bytes]) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return moment

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest.lake, "datetime", Clock)
        lake.land(rejected(*records))


NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
_records = st.lists(
    st.tuples(st.sampled_from(SOURCES), st.sampled_from(REASONS), st.integers(0, 2)), max_size=6
)
_filters = st.builds(
    QuarantineFilter,
    source=st.none() | st.sampled_from([*SOURCES, "none.ndjson"]),
    reason=st.none() | st.sampled_from(["cut", "json", "%", "_", "nothing such"]),
    before=st.none() | st.integers(-1, 3).map(lambda hour: NOON + timedelta(hours=hour)),
)


@settings(max_examples=15, deadline=None)
@given(records=_records, chosen=_filters, compacted=st.booleans())
def test_what_is_listed_is_what_is_dropped_and_the_rest_stays_as_it_is(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[tuple[str, str, int]],
    chosen: QuarantineFilter,
    compacted: bool,
) -> None:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    for number, (source, reason, hour) in enumerate(records):
        landed(lake, NOON + timedelta(hours=hour), (source, reason, str(number).encode()))
    if compacted:
        lake.compact()  # which file a record is in decides nothing
    wanted = {
        str(number)
        for number, (source, reason, hour) in enumerate(records)
        if (chosen.source is None or source == chosen.source)
        and (chosen.reason is None or chosen.reason.lower() in reason.lower())
        and (chosen.before is None or NOON + timedelta(hours=hour) < chosen.before)
    }
    whole = lake.quarantine(most=100)
    found = lake.quarantine(chosen, most=100)
    assert {one.beginning for one in found.records} == wanted
    assert found.total == len(wanted) == len(found.records)
    assert lake.quarantine(chosen, most=1).total == (len(wanted) if records else 0)
    head = lake.manifest.head()
    assert lake.drop_quarantine(chosen) == len(wanted)
    assert lake.manifest.head() - head == bool(wanted), "one commit, or none"
    left = lake.quarantine(most=100)
    assert left.records == tuple(one for one in whole.records if one.beginning not in wanted)
    assert lake.manifest.touched_since(head) == {}, "no window is built again for it"
    assert lake.drop_quarantine(chosen) == 0
    assert set(lake.folder.rglob("*.parquet")) == {file for kind in Kind for file in lake.files(kind)}


def test_a_record_that_was_dropped_and_is_read_again_comes_into_quarantine_again(
    ping: Make, lake: Lake
) -> None:
    parsed = parse([ping(), {"type": "ping"}], "test")
    lake.land(parsed)
    assert lake.drop_quarantine() == 1
    assert lake.query("SELECT count(*) AS n FROM ping")["n"].to_pylist() == [1]
    again = lake.land(parsed)
    assert (again.duplicates, again.quarantined, lake.quarantine().total) == (1, 1, 1)


def test_when_a_record_came_into_quarantine_stays_known_when_it_is_tried_again_and_put_together(
    ping: Make, lake: Lake
) -> None:
    raw = json.dumps({"type": "ping"}).encode()
    landed(lake, NOON, ("a", "bad", raw), ("a", "now it is understood", json.dumps(ping()).encode()))
    landed(lake, NOON + timedelta(hours=1), ("b", "bad", b"{"))
    lake.retry_quarantine(lambda raws: parse(raws, "again"))
    lake.compact()
    assert [one.landed_at for one in lake.quarantine().records] == [NOON, NOON + timedelta(hours=1)]


def of_version_2(lake: Lake) -> None:
    """Write the quarantine as a qoetwin wrote it that did not say when."""
    for file in lake.files(Kind.QUARANTINE):
        table = pq.read_table(file, partitioning=None).drop_columns(["landed_at"])
        pq.write_table(table.replace_schema_metadata({b"qoetwin_schema": b"quarantine/2"}), file)


def test_a_quarantine_that_does_not_say_when_is_read_and_time_chooses_none_of_it(lake: Lake) -> None:
    lake.land(rejected(("a", "bad", b"1"), ("b", "bad", b"2")))
    of_version_2(lake)
    lake.land(rejected(("a", "bad", b"1"), ("a", "bad", b"3")))
    assert [one.landed_at is None for one in lake.quarantine().records] == [True, False, True]
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert lake.drop_quarantine(QuarantineFilter(before=tomorrow)) == 1
    assert lake.drop_quarantine(QuarantineFilter(source="a")) == 1
    lake.compact()
    assert [one.beginning for one in lake.quarantine().records] == ["2"]
    assert lake.drop_quarantine() == 1


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(InputError, match="without a zone"):
        QuarantineFilter(before=datetime(2026, 1, 1))  # noqa: DTZ001


def test_a_damaged_file_is_named_and_nothing_is_dropped(lake: Lake) -> None:
    lake.land(rejected(("a", "bad", b"1")))
    lake.land(rejected(("b", "bad", b"2")))
    bad = lake.files(Kind.QUARANTINE)[1]
    content = bad.read_bytes()
    bad.write_bytes(content[:40])
    with pytest.raises(StoreError, match=bad.name):
        lake.drop_quarantine()
    bad.write_bytes(content)
    assert lake.quarantine().total == 2


@pytest.mark.parametrize(
    "work",
    [
        lambda lake: lake.drop_quarantine(QuarantineFilter(source="a")),
        lambda lake: lake.retry_quarantine(lambda raws: parse(raws, "again")),
    ],
    ids=["drop", "retry"],
)
def test_a_full_disk_keeps_nothing_of_what_was_begun_and_all_of_what_was_there(
    lake: Lake, ping: Make, monkeypatch: pytest.MonkeyPatch, work: Callable[[Lake], object]
) -> None:
    for moment in (0, 1):
        understood = json.dumps(ping(timestamp=1557705600 + moment)).encode()
        lake.land(rejected(("a", "bad", understood), ("b", "bad", b"%d" % moment)))
    before = sorted(path for path in lake.folder.rglob("*.parquet") if path.is_file())
    sync, calls = os.fsync, []

    def full_at_the_second_file(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_at_the_second_file)
        with pytest.raises(StoreError, match="No space left on device"):
            work(lake)
    assert sorted(path for path in lake.folder.rglob("*.parquet") if path.is_file()) == before
    assert not list((lake.folder / ".staging").iterdir())
    assert lake.quarantine().total == 4
    work(lake)
    assert lake.quarantine().total == 2


def test_any_reader_of_parquet_finds_when_a_record_came_into_quarantine(lake: Lake) -> None:
    landed(lake, NOON, ("a", "bad", b"1"))
    with duckdb.connect() as database:
        question = "SELECT epoch(landed_at) FROM read_parquet(?)"
        answer = database.execute(question, [str(lake.files(Kind.QUARANTINE)[0])]).fetchone()
    assert answer == (NOON.timestamp(),)


def drop(folder: Path, lines: int | None = None) -> int:
    """Drop a source, and be killed after so many lines of what writes the lake, if there are so many; return how many there were."""
    ran = 0

    def at_a_line(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal ran
        if event == "line":
            if ran == lines:
                os.kill(os.getpid(), signal.SIGKILL)
            ran += 1
        return at_a_line

    def belongs(frame: FrameType) -> bool:
        file, function = frame.f_code.co_filename, frame.f_code.co_name
        return file.endswith(("ingest/manifest.py", "ingest/lake_files.py")) or function == "drop_quarantine"

    before = sys.gettrace()
    sys.settrace(lambda frame, event, argument: at_a_line if belongs(frame) else None)
    try:
        Lake(folder).drop_quarantine(QuarantineFilter(source="a"))
    finally:
        sys.settrace(before)
    return ran


def some_of_two_sources(folder: Path) -> Lake:
    lake = Lake(folder)
    lake.land(rejected(("a", "bad", b"1"), ("b", "bad", b"2")))
    lake.land(rejected(("a", "bad", b"3")))
    return lake


def test_killed_at_any_line_all_is_dropped_or_nothing_and_the_next_run_drops_it(tmp_path: Path) -> None:
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["ingest.lake", "tests.ingest.test_quarantine"])
    lines = drop(some_of_two_sources(tmp_path / "whole").folder)
    states = set()
    points = [0, lines // 3, 2 * lines // 3, *(lines - left for left in (40, 30, 20, 14, 8, 2))]
    for point in points:
        lake = some_of_two_sources(tmp_path / str(point))
        child = processes.Process(target=drop, args=(lake.folder, point))
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        left = {one.beginning for one in Lake(lake.folder).quarantine().records}
        assert left in ({"1", "2", "3"}, {"2"})
        states.add(len(left))
        assert lake.drop_quarantine(QuarantineFilter(source="a")) == len(left) - 1
        assert [one.beginning for one in lake.quarantine().records] == ["2"]
        assert set(lake.folder.rglob("*.parquet")) == set(lake.files(Kind.QUARANTINE))
    assert states == {1, 3}, "some were killed before the commit, and some after it"
