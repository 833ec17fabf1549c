from __future__ import annotations

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from domain.errors import StoreError
from ingest.batch import Parsed
from ingest.files import parse_file
from ingest.lake import Lake, Landed
from ingest.lake_files import Kind
from ingest.parse import parse
from ingest.probes import probes_table, read_probes

Make = Callable[..., dict[str, Any]]

THEN = datetime(2019, 5, 13, tzinfo=UTC)


def content(lake: Lake) -> dict[str, tuple[int, bytes]]:
    """Every file below the lake, with its modification time and its bytes; the lock has none."""
    return {
        str(path.relative_to(lake.folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(lake.folder.rglob("*"))
        if path.is_file()
    }


def land(lake: Lake, *records: Any, source: str = "test") -> Landed:
    return lake.land(parse(records, source))


def test_a_result_lies_under_the_day_of_its_timestamp_in_utc(
    ping: Make, traceroute: Make, lake: Lake
) -> None:
    land(lake, ping(timestamp=1557705599), ping(timestamp=1557705600), traceroute(), {"type": "?"})
    days = sorted(str(path.parent.relative_to(lake.folder)) for path in lake.folder.rglob("*.parquet"))
    assert days == ["ping/day=2019-05-12", "ping/day=2019-05-13", "quarantine", "traceroute/day=2019-05-13"]


def test_landing_twice_changes_nothing_not_even_a_file(ping: Make, traceroute: Make, lake: Lake) -> None:
    records = [ping(), ping(prb_id=8), traceroute(), b"{broken", ping(dst_addr=..., af=..., src_addr=...)]
    first = land(lake, *records)
    assert first == Landed(results_read=5, observations=4, duplicates=0, quarantined=1)
    before = content(lake)
    assert land(lake, *records) == Landed(results_read=5, observations=0, duplicates=4, quarantined=1)
    assert content(lake) == before


def test_a_result_that_comes_twice_in_a_batch_lands_once(ping: Make, lake: Lake) -> None:
    assert land(lake, ping(), ping(), ping()) == Landed(results_read=3, observations=1, duplicates=2)


def test_results_that_differ_in_any_part_of_their_identity_all_land(
    ping: Make, traceroute: Make, lake: Lake
) -> None:
    records = [
        ping(), ping(msm_id=2), ping(prb_id=9), ping(timestamp=1557705601), ping(dst_addr="192.0.2.2"),
        ping(dst_name="other"), ping(dst_addr=...), ping(dst_addr=..., af=6), ping(dst_addr=..., dst_name=...),
        traceroute(msm_id=1001, dst_name="example.org"),
    ]  # fmt: skip
    assert land(lake, *records).observations == len(records)
    assert land(lake, *records).observations == 0


def test_quarantine_keeps_a_record_once_whoever_brings_it_again(lake: Lake) -> None:
    land(lake, b"{a", b"{a")
    land(lake, b"{a", b"{b")
    assert land(lake, b"{a", source="https://elsewhere?start=7").quarantined == 1
    rows = lake.query("SELECT source, position, raw FROM quarantine ORDER BY ALL").to_pylist()
    assert [(row["source"], row["position"], row["raw"]) for row in rows] == [
        ("test", 0, b"{a"),
        ("test", 1, b"{b"),
    ]


def test_of_records_of_which_nothing_is_left_each_is_kept(lake: Lake) -> None:
    for source in ("one", "other", "one"):
        cut = parse([], source).quarantined
        row = pa.table(
            {"source": [source], "position": [3], "reason": ["cut"], "raw": [b""]}, schema=cut.schema
        )
        lake.land(Parsed(quarantined=row))
    assert lake.query("SELECT source FROM quarantine ORDER BY ALL")["source"].to_pylist() == ["one", "other"]


def test_what_is_read_back_is_what_was_parsed(ping: Make, traceroute: Make, lake: Lake) -> None:
    parsed = parse(
        [ping(), ping(result=..., prb_id=8), traceroute(), traceroute(prb_id=9, result=[])], "test"
    )
    lake.land(parsed)
    for kind, table in ((Kind.PING, parsed.pings), (Kind.TRACEROUTE, parsed.traceroutes)):
        (file,) = lake.files(kind)
        assert pq.read_table(file, partitioning=None).to_pylist() == table.to_pylist()
        assert pq.read_schema(file).remove_metadata() == table.schema


def test_duckdb_and_pandas_read_the_lake_without_us(ping: Make, lake: Lake) -> None:
    land(lake, ping(), ping(prb_id=8))
    with duckdb.connect() as database:
        answer = database.execute(
            "SELECT probe_id, replies[1].rtt_ms FROM read_parquet(?) ORDER BY 1",
            [f"{lake.folder}/ping/**/*.parquet"],
        )
        assert answer.fetchall() == [(7, 1.0), (8, 1.0)]
    assert pa.parquet.read_table(lake.folder / "ping").num_rows == 2


def test_two_writers_at_once_land_each_result_once(ping: Make, lake: Lake) -> None:
    records = [ping(prb_id=number) for number in range(1, 40)]
    with ThreadPoolExecutor(4) as pool:
        landed = list(pool.map(lambda _: land(Lake(lake.folder), *records), range(4)))
    assert sum(one.observations for one in landed) == 39
    assert lake.query("SELECT count(*) AS n FROM ping").column("n").to_pylist() == [39]


def test_threads_share_one_lake(ping: Make, lake: Lake) -> None:
    def work(number: int) -> int:
        landed = land(lake, ping(prb_id=1 + number % 7)).observations
        assert lake.query("SELECT count(*) AS n FROM ping")["n"][0].as_py() > 0
        return landed

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(56))) == 7


def test_questions_after_a_landing_are_planned_as_before_it(ping: Make, lake: Lake) -> None:
    asked = "SELECT current_setting('disabled_optimizers') AS without"
    before = lake.query(asked)["without"].to_pylist()
    for _ in range(2):  # the second is held against what is there
        land(lake, ping())
    assert lake.query(asked)["without"].to_pylist() == before


def test_a_batch_lands_whole_or_not_at_all_and_the_next_run_completes_it(
    ping: Make, traceroute: Make, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [ping(), ping(timestamp=1557792000, stored_timestamp=...), traceroute()]
    sync, calls = os.fsync, []

    def die_at_the_second_file(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 1:
            raise KeyboardInterrupt
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", die_at_the_second_file)
        with pytest.raises(KeyboardInterrupt):
            land(lake, *records)
    assert lake.query("SELECT count(*) AS n FROM ping").column("n").to_pylist() == [0]
    assert land(lake, *records) == Landed(results_read=3, observations=3)
    assert not list((lake.folder / ".staging").iterdir())


def test_what_is_committed_and_not_yet_in_its_place_is_read_and_brought_there_by_the_next_run(
    ping: Make, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("ingest.manifest.Manifest._move", lambda manifest: None)  # killed just after the commit
        land(lake, ping())
    assert not list(lake.folder.glob("ping/**/*.parquet"))
    assert lake.query("SELECT count(*) AS n FROM ping").column("n").to_pylist() == [1]
    assert land(lake, ping()) == Landed(results_read=1, duplicates=1)
    (file,) = lake.folder.glob("ping/**/*.parquet")
    assert lake.files(Kind.PING) == [file]


def test_a_full_disk_is_a_store_error_and_leaves_nothing(
    ping: Make, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        land(lake, ping())
    assert [path.name for path in lake.folder.rglob("*") if path.is_file()] == [".lock"]
    monkeypatch.undo()
    assert land(lake, ping()).observations == 1


def test_a_folder_that_cannot_be_written_is_a_store_error(ping: Make, lake: Lake) -> None:
    (lake.folder / "ping").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        land(lake, ping())
    with pytest.raises(StoreError, match="cannot be written"):
        land(Lake(lake.folder / "ping" / "lake"), ping())


def test_a_lake_is_empty_until_something_lands_and_its_folder_is_made_then(
    tmp_path: Path, ping: Make
) -> None:
    lake = Lake(tmp_path / "home" / "lake")
    assert lake.query("SELECT * FROM ping").num_rows == 0
    assert not lake.folder.exists()
    land(lake, ping())
    assert lake.query("SELECT * FROM ping").num_rows == 1


def test_a_lake_that_has_lost_a_file_says_so_and_can_be_repaired_and_filled_again(
    ping: Make, lake: Lake
) -> None:
    land(lake, ping(), ping(timestamp=1557792000))
    gone, kept = lake.files(Kind.PING)
    gone.unlink()
    with pytest.raises(StoreError, match="damaged") as error:
        lake.query("SELECT * FROM ping")
    assert error.value.where == str(gone)
    assert [found.where for found in lake.repair()] == [str(gone)]
    assert lake.repair() == []
    assert lake.files(Kind.PING) == [kept]
    assert land(lake, ping(), ping(timestamp=1557792000)).observations == 1
    assert lake.files(Kind.PING) == [gone, kept]


@pytest.mark.parametrize("damage", ["cut", "footer", "page", "empty"])
def test_a_damaged_file_is_named(ping: Make, lake: Lake, damage: str) -> None:
    land(lake, ping(), ping(timestamp=1557792000))
    broken = lake.files(Kind.PING)[1]
    whole = broken.read_bytes()
    flipped = whole[:60] + bytes(255 - byte for byte in whole[60:160]) + whole[160:]
    broken.write_bytes(
        {"cut": whole[: len(whole) // 2], "footer": whole[:-20] + bytes(20), "page": flipped, "empty": b""}[
            damage
        ]
    )
    with pytest.raises(StoreError, match="damaged") as error:
        lake.query("SELECT * FROM ping")
    assert error.value.where == str(broken)
    assert [found.where for found in lake.repair()] == [str(broken)]
    assert lake.query("SELECT count(*) AS n FROM ping")["n"].to_pylist() == [1]
    assert len(list((lake.folder / "damaged").iterdir())) == 1


def test_a_single_bit_that_changed_in_the_data_is_never_another_number(ping: Make, lake: Lake) -> None:
    land(lake, *(ping(prb_id=probe, result=[{"rtt": probe * 1.1}]) for probe in range(1, 200)))
    (file,) = lake.files(Kind.PING)
    whole = file.read_bytes()
    truth = lake.query("SELECT * FROM ping ORDER BY probe_id")
    footer = int.from_bytes(whole[-8:-4], "little") + 8
    refused = 0
    for offset in range(4, len(whole) - footer, 97):
        file.write_bytes(whole[:offset] + bytes([whole[offset] ^ 0x10]) + whole[offset + 1 :])
        try:
            read = lake.query("SELECT * FROM ping ORDER BY probe_id")
        except StoreError:
            refused += 1
        else:
            assert read == truth
    assert refused > 10


@pytest.mark.parametrize("version", [None, b"ping/0", b"traceroute/1"])
def test_a_file_of_another_version_is_refused(ping: Make, lake: Lake, version: bytes | None) -> None:
    land(lake, ping())
    (file,) = lake.files(Kind.PING)
    table = pq.read_table(file, partitioning=None)
    pq.write_table(table.replace_schema_metadata(version and {b"qoetwin_schema": version}), file)
    for use in (lambda: lake.query("SELECT 1 FROM ping"), lambda: land(lake, ping())):
        with pytest.raises(StoreError, match="another version") as error:
            use()
        assert error.value.where == str(file)


def test_a_folder_whose_name_looks_like_a_pattern_is_a_folder(ping: Make, tmp_path: Path) -> None:
    folder = tmp_path / "a[b]*?{c}'"
    folder.mkdir()
    (tmp_path / "ab").mkdir()
    lake = Lake(folder)
    assert land(lake, ping()).observations == 1
    assert land(lake, ping()).observations == 0


def test_probes_merge_field_by_field_and_null_never_erases(lake: Lake) -> None:
    full = {
        "id": 5,
        "latitude": 1.0,
        "longitude": 2.0,
        "asn_v4": 64500,
        "country_code": "LB",
        "is_anchor": False,
    }
    assert lake.merge_probes(probes_table([full, {"id": 6, "asn_v6": 64501}]).table, THEN) == 2
    known = lake.probes()
    assert lake.merge_probes(probes_table([{"id": 5, "country_code": "LB"}]).table, THEN) == 0
    assert lake.probes() == known
    assert (
        lake.merge_probes(probes_table([{"id": 5, "asn_v4": 64511}, {"id": 5, "asn_v4": 64512}]).table, THEN)
        == 1
    )
    first, second = lake.probes().to_pylist()
    assert (first["latitude"], first["asn_v4"], first["country"]) == (1.0, 64512, "LB")
    assert (second["probe_id"], second["asn_v6"], second["latitude"]) == (6, 64501, None)


def test_a_probe_that_was_synthetic_once_stays_so(lake: Lake) -> None:
    lake.merge_probes(
        probes_table([{"id": 5, "latitude": 1.0, "longitude": 2.0, "synthetic": True}]).table, THEN
    )
    lake.merge_probes(probes_table([{"id": 5, "country_code": "LB"}]).table, THEN)
    assert lake.probes().column("synthetic").to_pylist() == [True]


@pytest.mark.recorded
def test_the_recorded_sets_land_once_with_the_counts_of_their_readme(recorded: Path, lake: Lake) -> None:
    folder = recorded / "atlas" / "regional-2019"
    files = [
        folder / f"{kind}-2019-05-{day}.ndjson.bz2" for kind in ("ping", "traceroute") for day in (13, 14)
    ]

    def run() -> Landed:
        return sum((lake.land(parsed) for file in files for parsed in parse_file(file)), Landed())

    # 428 results of probes whose clocks were out of step, and three traceroutes during which a clock was set back.
    assert run() == Landed(results_read=20410, observations=20410, doubtful=428)
    before = content(lake)
    assert run() == Landed(results_read=20410, duplicates=20410, doubtful=428)
    assert content(lake) == before
    probes = read_probes(recorded / "atlas" / "probes" / "probes.csv.gz")
    assert (probes.read, probes.table.num_rows - probes.without_position) == (21756, 18477)
    assert lake.merge_probes(probes.table, THEN) == 21756
    assert lake.merge_probes(probes.table, THEN) == 0
