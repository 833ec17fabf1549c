"""What else writes to the lake, to be killed by `tests.ingest.kills`."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import ingest.compression
import ingest.files
import ingest.lake
from ingest.batch import Counts, Parsed, SourceFile
from ingest.files import FileSource
from ingest.lake import Lake
from ingest.lake_files import Kind
from ingest.manifest import Manifest
from ingest.parse import parse
from ingest.probes import probes_table
from ingest.quarantine import QuarantineFilter
from tests.ingest.kills import (
    DAY_S,
    LAKE_PARTS,
    START_S,
    Work,
    difference,
    identity,
    landed,
    packed,
    ping,
    strays,
    traceroute,
)
from twin.ingestion import ingest_table


def _quarantined(lake: Lake) -> Counter[bytes]:
    return Counter(lake.query("SELECT raw FROM quarantine")["raw"].to_pylist())


# Quarantine that is tried again


def _not_understood_then(number: int) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Results that are understood now, the last of which is in the lake already; and records that are still not."""
    results = [ping(number, START_S + at % 2 * DAY_S + 60 * at) for at in range(4)]
    return [*results, traceroute(number, START_S)], packed({"type": "ping", "prb_id": number})


_QUARANTINES = range(5)


def _begin_retry(home: Path) -> None:
    lake = Lake(home)
    for number in _QUARANTINES:
        results, others = _not_understood_then(number)
        raws = [*packed(*results), *others]
        rows = parse([b"{" + raw for raw in raws], f"source {number}").quarantined
        raw = rows.schema.field("raw")
        lake.land(Parsed(quarantined=rows.set_column(3, raw, pa.array(raws, raw.type))))
        lake.land(parse(packed(results[-1]), "before"))


def _retry(home: Path) -> None:
    Lake(home).retry_quarantine(lambda raws: parse(raws, "quarantine"))


def _retry_underway(home: Path) -> list[str]:
    """A record is either in quarantine or understood, and always one of both."""
    lake = Lake(home)
    there, aside = landed(lake), _quarantined(lake)
    found = []
    for number in _QUARANTINES:
        results, others = _not_understood_then(number)
        found += [
            f"neither in one place nor in the other, or in both: {result}"
            for result in results[:-1]
            if there[identity(result)] + aside[packed(result)[0]] != 1
        ]
        if there[identity(results[-1])] != 1 or aside[others[0]] != 1:
            found.append(f"what was there, or is not understood, is not as it was: {number}")
    return found


def _wrong_after_retry(home: Path) -> list[str]:
    lake = Lake(home)
    every = [_not_understood_then(number) for number in _QUARANTINES]
    wanted = Counter(identity(result) for results, _ in every for result in results)
    found = difference(landed(lake), wanted)
    found += difference(_quarantined(lake), Counter(raw for _, others in every for raw in others))
    return found + strays(home)


RETRY = Work(
    name="quarantine retry",
    begin=_begin_retry,
    run=_retry,
    wrong=_wrong_after_retry,
    wrong_underway=_retry_underway,
    phases={"inside": LAKE_PARTS},
)


# Damaged files that are let go of

_DAMAGED = {0: "cut", 2: "gone", 3: "flipped", 5: "cut"}
"""Which of the days have a file that is damaged, and how."""


def _of_day(day: int) -> list[dict[str, Any]]:
    return [ping(probe, START_S + day * DAY_S + 60 * probe) for probe in range(3)]


_DAYS = range(7)
_NOTED = SourceFile(name="a file", digest="0" * 64, counts=Counts(results_read=3))


def _begin_repair(home: Path) -> None:
    lake = Lake(home / "lake")
    for day in _DAYS:
        lake.land(parse(packed(*_of_day(day)), "test"))
    lake.land(Parsed(finished=_NOTED))
    files = lake.files(Kind.PING)
    (home / "head").write_text(str(lake.manifest.head()))
    kept = home / "damaged as they were"
    kept.mkdir()
    for day, how in _DAMAGED.items():
        whole = files[day].read_bytes()
        if how == "gone":
            files[day].unlink()
            continue
        broken = whole[: len(whole) // 2] if how == "cut" else whole[:60] + bytes(99) + whole[159:]
        files[day].write_bytes(broken)
        (kept / files[day].relative_to(lake.folder).as_posix().replace("/", "-")).write_bytes(broken)


def _repair(home: Path) -> None:
    Lake(home / "lake").repair()


def _repair_underway(home: Path) -> list[str]:
    """What is not damaged is part of the lake; what is damaged is kept, in its place or aside."""
    lake = Lake(home / "lake")
    named = lake.files(Kind.PING)
    days = {file.parent.name for file in named if file.exists()}
    good = {_folder(day) for day in _DAYS if day not in _DAMAGED}
    found = [f"good files that are no part of the lake: {good - days}"] if good - days else []
    there = {file.name: file.read_bytes() for file in (home / "lake" / "damaged").glob("*")}
    there |= {
        file.relative_to(lake.folder).as_posix().replace("/", "-"): file.read_bytes()
        for file in named
        if file.exists()
    }
    return found + [
        f"a damaged file that is not kept: {kept.name}"
        for kept in (home / "damaged as they were").iterdir()
        if there.get(kept.name) != kept.read_bytes()
    ]


def _folder(day: int) -> str:
    return f"day={datetime.fromtimestamp(START_S + day * DAY_S, tz=UTC).date()}"


def _wrong_after_repair(home: Path) -> list[str]:
    lake = Lake(home / "lake")
    found = _repair_underway(home)
    aside = [home / "lake" / "damaged" / file.name for file in (home / "damaged as they were").iterdir()]
    found += strays(lake.folder, *aside)
    found += difference(
        landed(lake), Counter(identity(one) for day in _DAYS if day not in _DAMAGED for one in _of_day(day))
    )
    if lake.was_read(_NOTED.digest) is not None:
        found.append("a file still counts as read, though what was in it may be gone")
    touched = lake.manifest.touched_since(int((home / "head").read_text())).get("ping", [])
    gone = {one["timestamp"] // 3600 for day in _DAMAGED for one in _of_day(day)}
    if set(touched) != gone:
        found.append(f"hours whose windows are to be built again: {touched}, and not {sorted(gone)}")
    again = [one for day in _DAYS for one in _of_day(day)]
    lake.land(parse(packed(*again), "again"))
    return found + difference(landed(lake), Counter(map(identity, again)))


REPAIR = Work(
    name="repair",
    begin=_begin_repair,
    run=_repair,
    wrong=_wrong_after_repair,
    wrong_underway=_repair_underway,
    phases={"inside": LAKE_PARTS},
)


# Compaction that is asked for

_SMALL = range(5)


def _small(number: int) -> list[dict[str, Any]]:
    at_s = START_S + 60 * number
    return [ping(number, at_s), ping(number, at_s + DAY_S), traceroute(number, at_s)]


def _begin_compact(home: Path) -> None:
    lake = Lake(home)
    for number in _SMALL:
        lake.land(parse([*packed(*_small(number)), b"{%d" % number], "test"))
        lake.merge_probes(*_list(number))


def _compact(home: Path) -> None:
    Lake(home).compact()


def _compact_underway(home: Path) -> list[str]:
    lake = Lake(home)
    return [
        *difference(landed(lake), Counter(identity(one) for number in _SMALL for one in _small(number))),
        *difference(_quarantined(lake), Counter(b"{%d" % number for number in _SMALL)),
        *difference(_words(lake), Counter(word for number in _SMALL for word in _words_of(number))),
    ]


def _wrong_after_compact(home: Path) -> list[str]:
    lake = Lake(home)
    found = [*_compact_underway(home), *strays(home)]
    files = {str(kind): len(lake.files(kind)) for kind in Kind}
    if files != {"ping": 2, "traceroute": 1, "sample": 0, "quarantine": 1, "probe": 1}:
        found.append(f"not put together: {files}")
    return found


COMPACT = Work(
    name="compact",
    begin=_begin_compact,
    run=_compact,
    wrong=_wrong_after_compact,
    wrong_underway=_compact_underway,
    phases={"inside": LAKE_PARTS},
)


# A lake of before the manifest


def _earlier_parsed() -> Parsed:
    made = [one for day in range(3) for probe in range(4) for one in _both(probe, day)]
    return parse([*packed(*made), b"{broken"], "test")


def _both(probe: int, day: int) -> list[dict[str, Any]]:
    at_s = START_S + day * DAY_S + probe
    return [ping(probe, at_s) | {"lts": 601 * (probe % 2)}, traceroute(probe, at_s)]


def _earlier_files() -> Iterator[tuple[str, pa.Table]]:
    parsed = _earlier_parsed()
    for kind, table in ((Kind.PING, parsed.pings), (Kind.TRACEROUTE, parsed.traceroutes)):
        for day in range(3):
            start = datetime.fromtimestamp(START_S + day * DAY_S, tz=UTC)
            own = table.filter(
                pc.and_(
                    pc.greater_equal(table["timestamp"], start),
                    pc.less(table["timestamp"], start + timedelta(1)),
                )
            )
            yield f"{kind}/{_folder(day)}", _of_version(own.drop_columns(["doubts"]), f"{kind}/1")
    yield "quarantine", _of_version(parsed.quarantined, "quarantine/1")
    words = probes_table([{"id": 5, "country_code": "LB"}]).table.drop_columns(["host"])
    yield "probe", _of_version(words, "probe/1")


def _of_version(table: pa.Table, version: str) -> pa.Table:
    return table.replace_schema_metadata({b"qoetwin_schema": version.encode()})


def _begin_taking_over(home: Path) -> None:
    for folder, table in _earlier_files():
        (home / folder).mkdir(parents=True, exist_ok=True)
        pq.write_table(table, home / folder / "earlier.parquet")


def _take_over(home: Path) -> None:
    lake = Lake(home)
    lake.files(Kind.PING)  # also who only reads takes over
    lake.land(_earlier_parsed())  # but who writes clears up after who was killed


def _taking_over_underway(home: Path) -> list[str]:
    """Until all is taken over at once, all lies where it was."""
    if Manifest(home).head() > 0:
        return _not_taken_over(home)
    there = {file.parent.relative_to(home).as_posix() for file in home.rglob("earlier.parquet")}
    return [] if there == {folder for folder, _ in _earlier_files()} else [f"of the files, only {there}"]


def _not_taken_over(home: Path) -> list[str]:
    lake, parsed = Lake(home), _earlier_parsed()
    found = []
    for kind, wanted in (("ping", parsed.pings), ("traceroute", parsed.traceroutes)):
        rows = lake.query(f"SELECT * FROM {kind} ORDER BY timestamp, probe_id").cast(wanted.schema)  # noqa: S608
        if rows.to_pylist() != wanted.sort_by("timestamp").to_pylist():
            found.append(f"{kind}: {rows.num_rows} rows that are not those of before")
    found += difference(_quarantined(lake), Counter([b"{broken"]))
    words = lake.query("SELECT probe_id, country FROM probe_word").to_pylist()
    return found + ([] if words == [{"probe_id": 5, "country": "LB"}] else [f"probes: {words}"])


def _wrong_after_taking_over(home: Path) -> list[str]:
    lake = Lake(home)
    found = [*_not_taken_over(home), *strays(home)]
    again = lake.land(_earlier_parsed())
    return found + ([] if again.observations == 0 else [f"landed again: {again}"])


TAKING_OVER = Work(
    name="taking over",
    begin=_begin_taking_over,
    run=_take_over,
    wrong=_wrong_after_taking_over,
    wrong_underway=_taking_over_underway,
    phases={"inside": LAKE_PARTS},
)


# Lists of probes

_LISTS = range(4)


def _list(number: int) -> tuple[pa.Table, datetime]:
    objects = [{"id": probe, "asn_v4": 64_500 + number + probe, "country_code": "LB"} for probe in (1, 2, 3)]
    return probes_table(objects).table, datetime(2019, 5, 13 + number, tzinfo=UTC)


def _words_of(number: int) -> list[tuple[int, int, int]]:
    return [(probe, 64_500 + number + probe, 13 + number) for probe in (1, 2, 3)]


def _words(lake: Lake) -> Counter[tuple[int, int, int]]:
    rows = lake.query("SELECT probe_id, asn_v4, day(as_of) AS day FROM probe_word").to_pylist()
    return Counter((row["probe_id"], row["asn_v4"], row["day"]) for row in rows)


def _load_probes(home: Path) -> None:
    lake = Lake(home)
    for number in _LISTS:
        lake.merge_probes(*_list(number))


def _loading_underway(home: Path) -> list[str]:
    """The first lists, each whole, and nothing of the others."""
    words = _words(Lake(home))
    wholes = [
        Counter(word for one in range(number) for word in _words_of(one)) for number in range(len(_LISTS) + 1)
    ]
    return [] if words in wholes else [f"parts of lists: {words}"]


def _wrong_after_loading(home: Path) -> list[str]:
    lake = Lake(home)
    found = difference(_words(lake), Counter(word for number in _LISTS for word in _words_of(number)))
    return found + strays(home)


PROBES = Work(
    name="probes load",
    run=_load_probes,
    wrong=_wrong_after_loading,
    wrong_underway=_loading_underway,
    phases={"inside": LAKE_PARTS},
)


# Files that count as read

_FILES = range(5)
_IN_A_FILE = 20


def _in_file(number: int) -> list[dict[str, Any]]:
    made = [ping(number, START_S + at % 2 * DAY_S + 60 * at, 1.5 * at) for at in range(_IN_A_FILE - 2)]
    return [*made, traceroute(number, START_S), {"type": "ping", "prb_id": number}]


def _begin_files(home: Path) -> None:
    folder = home / "in"
    folder.mkdir()
    lines = [b"".join(line + b"\n" for line in packed(*_in_file(number))) for number in _FILES]
    middle = lines[2].index(b"\n", len(lines[2]) // 2) + 1
    (folder / "0").write_bytes(lines[0])
    (folder / "1").write_bytes(gzip.compress(lines[1]))
    (folder / "2").write_bytes(bz2.compress(lines[2][:middle]) + bz2.compress(lines[2][middle:]))
    with tarfile.open(folder / "3", "w") as archive:
        third = len(lines[3]) // 3
        cuts = [0, lines[3].index(b"\n", third) + 1, len(lines[3])]
        for begin, end in pairwise(cuts):
            info = tarfile.TarInfo(str(begin))
            info.size = end - begin
            archive.addfile(info, io.BytesIO(lines[3][begin:end]))
    (folder / "4").write_bytes(lines[4][:-20])  # the last record is one that nobody would understand


def _ingest_files(home: Path) -> None:
    ingest.lake.LANDED_BYTES, ingest.lake.COMPACTED_FILES = 4_000, 3
    ingest.files._SMALLEST_BATCH_BYTES, ingest.files._IN_FLIGHT_BYTES = 1 << 10, 1 << 10
    ingest.compression._INFLATED_BYTES = 1 << 10
    _read_files(home)


def _read_files(home: Path) -> Sequence[SourceFile]:
    """Land the files; return those that were known."""
    lake = Lake(home / "lake")
    source = FileSource(
        sorted((home / "in").iterdir()), is_known=lambda digest: lake.was_read(digest) is not None
    )
    with lake.landing() as landing:
        for parsed in source.read():
            landing.add(parsed)
    return source.known


def _files_underway(home: Path) -> list[str]:
    """What counts as read is in the lake, all of it, and nothing is there twice."""
    lake = Lake(home / "lake")
    there = landed(lake)
    sources = Counter(lake.query("SELECT source FROM quarantine")["source"].to_pylist())
    wanted = Counter(identity(one) for number in _FILES for one in _in_file(number) if "timestamp" in one)
    found = [f"too much: {there - wanted}"] if there - wanted else []
    for number in _FILES:
        digest = hashlib.sha256((home / "in" / str(number)).read_bytes()).hexdigest()
        read = lake.was_read(digest)
        if read is None:
            continue
        own = Counter({one: count for one, count in wanted.items() if one[1] == number})
        if own - there or sum(many for name, many in sources.items() if name[0] == str(number)) != 1:
            found.append(f"counts as read, and is not wholly in the lake: {number}, {own - there}")
        if read.counts != Counts(results_read=_IN_A_FILE, quarantined=1, doubtful=read.counts.doubtful):
            found.append(f"counts of what was read: {read}")
    return found


def _wrong_after_files(home: Path) -> list[str]:
    lake = Lake(home / "lake")
    wanted = Counter(identity(one) for number in _FILES for one in _in_file(number) if "timestamp" in one)
    found = [*_files_underway(home), *strays(lake.folder), *difference(landed(lake), wanted)]
    head = lake.manifest.head()
    known = _read_files(home)
    if len(known) != len(_FILES) or lake.manifest.head() != head:
        found.append(f"read again, though they were read: all but {[file.name for file in known]}")
    return found


FILES = Work(
    name="files",
    begin=_begin_files,
    run=_ingest_files,
    wrong=_wrong_after_files,
    wrong_underway=_files_underway,
    phases={"files": (("ingest/files.py", ()),), "inside": LAKE_PARTS},
)

# A table that is read again, with a column more and rows more


_SAMPLES = 40


def _table(path: Path, rows: range, *, minima: bool) -> Path:
    names = ["probe_id", "target_id", "af", "timestamp", "rtt_avg_ms", *(["rtt_min_ms"] if minima else [])]
    lines = [
        ["1", "2", "4", str(START_S + number % 4 * DAY_S + number), "9.5", *(["9.25"] if minima else [])]
        for number in rows
    ]
    path.write_text("\n".join(",".join(line) for line in [names, *lines]) + "\n")
    return path


def _read_table(home: Path, rows: range, *, minima: bool) -> None:
    with TemporaryDirectory() as folder:
        table = _table(Path(folder, "table.csv"), rows, minima=minima)
        done = ingest_table(Lake(home), table, columns={}, constants={})
    assert done.failures == ()


def _samples(lake: Lake) -> dict[int, list[tuple[float, float | None]]]:
    found: dict[int, list[tuple[float, float | None]]] = {}
    for row in lake.query(
        "SELECT epoch(timestamp)::BIGINT AS at_s, rtt_avg_ms, rtt_min_ms FROM sample"
    ).to_pylist():
        found.setdefault(row["at_s"], []).append((row["rtt_avg_ms"], row["rtt_min_ms"]))
    return found


def _wrong_samples(home: Path, rows: range, said: Sequence[tuple[float, float | None]]) -> list[str]:
    found = _samples(Lake(home))
    wanted = {START_S + number % 4 * DAY_S + number for number in rows}
    return [
        f"a sample that is lost, there twice, or says what nobody said: {at_s} {found.get(at_s)}"
        for at_s in sorted(wanted)
        if len(found.get(at_s, ())) != 1 or found[at_s][0] not in said
    ]


def _begin_table(home: Path) -> None:
    _read_table(home, range(_SAMPLES), minima=False)


def _table_again(home: Path) -> None:
    _read_table(home, range(2 * _SAMPLES), minima=True)


def _wrong_after_table(home: Path) -> list[str]:
    return _wrong_samples(home, range(2 * _SAMPLES), [(9.5, 9.25)]) + strays(home)


def _table_underway(home: Path) -> list[str]:
    return _wrong_samples(home, range(_SAMPLES), [(9.5, None), (9.5, 9.25)])


TABLE = Work(
    name="table read again",
    begin=_begin_table,
    run=_table_again,
    wrong=_wrong_after_table,
    wrong_underway=_table_underway,
    phases={"inside": LAKE_PARTS},
)


# Quarantine that is let go of


def _wrong_after_drop(home: Path) -> list[str]:
    wanted = Counter(_not_understood_then(number)[1][0] for number in _QUARANTINES)
    return difference(_quarantined(Lake(home)), wanted) + strays(home)


def _begin_drop(home: Path) -> None:
    for number in _QUARANTINES:
        kept, dropped = _not_understood_then(number)[1][0], b'{"type": "ping", "drop": %d}' % number
        for raw, source in ((kept, "kept"), (dropped, "dropped")):
            Lake(home).land(parse([raw], source))


def _drop_underway(home: Path) -> list[str]:
    """All of those that are dropped are there, or none."""
    there = Lake(home).quarantine(QuarantineFilter(source="dropped")).total
    return [] if there in (0, len(_QUARANTINES)) else [f"dropped in part: {there}"]


def _drop(home: Path) -> None:
    Lake(home).drop_quarantine(QuarantineFilter(source="dropped"))


DROP = Work(
    name="quarantine drop",
    begin=_begin_drop,
    run=_drop,
    wrong=_wrong_after_drop,
    wrong_underway=_drop_underway,
    phases={"inside": LAKE_PARTS},
)


WORKS = (RETRY, REPAIR, COMPACT, TAKING_OVER, PROBES, FILES, TABLE, DROP)
