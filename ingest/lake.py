"""The lake: observations in Parquet, each result exactly once.

    <folder>/ping/day=2019-05-12/<name>.parquet          rows of PingObservation, by day of timestamp (UTC)
    <folder>/traceroute/day=2019-05-12/<name>.parquet    rows of TracerouteObservation
    <folder>/sample/day=2019-05-12/<name>.parquet        rows of RttSample
    <folder>/quarantine/<name>.parquet                   rows of Quarantined, and a digest of what they hold
    <folder>/probe/<name>.parquet                        rows of Probe, and as of when they were said
    <folder>/manifest.sqlite                             which of these files count (`ingest.manifest`)
    <folder>/.answers/                                   what was asked about single files (`ingest.answers`)

Any Parquet reader can read it. A file's name is a digest of its content; files appear whole, and are never changed: compaction
replaces many by one. One writer at a time holds the folder's lock, so that what is landed is decided against what is there.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from tempfile import gettempdir
from threading import Lock
from time import monotonic
from types import TracebackType
from uuid import uuid4

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tenacity import retry, retry_if_exception, stop_after_attempt

from domain.cores import usable_cores
from domain.errors import DamagedError, InputError, StoreError
from ingest.answers import forget_answers, keep_answer, read_answer
from ingest.batch import Counts, Parsed, SourceFile
from ingest.earlier_lake import adopt, earlier_files
from ingest.known_samples import read_again
from ingest.lake_files import (
    DATED,
    DIGEST,
    IDENTITY,
    SCHEMAS,
    Kind,
    damaged,
    dataset,
    identities,
    is_current,
    read,
    stage,
)
from ingest.manifest import Entry, Manifest, Staged, unwritable
from ingest.probe_words import HISTORY, HISTORY_SCHEMA, PROBE_SCHEMA, WORD_SCHEMA, latest_of
from ingest.quarantine import CHOSEN, SHOWN_BYTES, Quarantine, QuarantinedRecord, QuarantineFilter

LANDED_BYTES = 1 << 25
"""Parsed batches are gathered up to so many bytes of Arrow, and then committed together."""

LANDED_S = 10.0
"""Or for so long: what arrives slowly is safe soon."""

COMPACTED_BYTES = 1 << 23
"""Files are put together into files of about this size; one that is half as large stays as it is."""

COMPACTED_FILES = 8
"""Small files of a day that are let be before they are put together."""

_ALL = QuarantineFilter()
_COMMITS_BETWEEN = 16
_HOUR_US = 3_600_000_000
_MISTAKES = (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException)
"""What DuckDB says of a wrong statement: ours to mend, not the lake's trouble."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Landed:
    """What became of the records that were read: `results_read` is the sum of the next three.

    Attributes:
        results_read: records.
        observations: new in the lake.
        duplicates: results that were in the lake already, or came twice.
        quarantined: not understood, whether or not they were in quarantine already.
        completed: samples of tables in the lake that say more now: of the duplicates, one each said all that they did, and more.
        differing: of the duplicates, samples of tables that say otherwise than those in the lake, which stay.
        other_types, doubtful, synthetic: see `Counts`.
    """

    results_read: int = 0
    observations: int = 0
    duplicates: int = 0
    quarantined: int = 0
    completed: int = 0
    differing: int = 0
    other_types: int = 0
    doubtful: int = 0
    synthetic: int = 0

    def __add__(self, other: Landed) -> Landed:
        return Landed(
            **{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(Landed)}
        )

    @classmethod
    def of(cls, counts: Counts, observations: int, *, completed: int = 0, differing: int = 0) -> Landed:
        """Records that were read, so many of whose results are new."""
        duplicates = counts.results_read - counts.quarantined - observations
        return cls(
            observations=observations,
            duplicates=duplicates,
            completed=completed,
            differing=differing,
            **asdict(counts),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried:
    """What became of the quarantine when it was parsed again.

    Attributes:
        tried: rows that were in it.
        observations: of them, now understood and new in the lake.
        duplicates: of them, now understood, and in the lake already.
        quarantined: still not understood.
    """

    tried: int
    observations: int
    duplicates: int
    quarantined: int


def _is_gone(error: BaseException) -> bool:
    return isinstance(error, DamagedError) and error.where is not None and not Path(error.where).exists()


_while_files_move = retry(retry=retry_if_exception(_is_gone), stop=stop_after_attempt(5), reraise=True)
"""Compaction may put another file into the place of one just as it is to be opened: then the manifest is asked again."""


class Lake:
    """A folder of Parquet files.

    Args:
        folder: where it is. It is made with the first thing that lands; until then the lake is empty.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = Manifest(folder)
        self._engine: duckdb.DuckDBPyConnection | None = None
        self._starting = Lock()  # a connection serves one thread at a time; its cursors do not meet

    # Landing

    def landing(self) -> Landing:
        """A context manager that takes parsed batches, and commits them as they gather, and the rest at its end."""
        return Landing(self)

    def land(self, parsed: Parsed) -> Landed:
        """Land one parsed batch by itself; what is there already stays as it is.

        Raises:
            StoreError: when the lake cannot be read or written; nothing of the batch has landed then.
        """
        with self.landing() as landing:
            landing.add(parsed)
        return landing.landed

    def was_read(self, digest: str) -> SourceFile | None:
        """What was in a file of these bytes, when all of it is in the lake; None when it was never read to its end."""
        note = self.manifest.note_of(digest)
        if note is None:
            return None
        name, text = note
        told = json.loads(text)
        return SourceFile(
            name=name,
            digest=digest,
            counts=Counts(**told["counts"]),
            failures=tuple(InputError(**failure) for failure in told["failures"]),
        )

    def commit(self, parts: Sequence[Parsed]) -> Landed:
        """Land parsed batches together: all of them, or, when that fails, none.

        Raises:
            StoreError: when the lake cannot be read or written.
        """
        files = [part.finished for part in parts if part.finished is not None]
        with self._alone():
            new = self._stage_new(parts)
            staged = [*new.staged, *new.again.renewed]
            staged += self._stage_quarantine(pa.concat_tables([part.quarantined for part in parts]))
            if staged or files:
                read = {file.digest: (file.name, _note(file)) for file in files}
                self.manifest.commit(staged, removed=new.again.removed, touched=new.touched, read=read)
        return Landed.of(
            sum((part.counts for part in parts), Counts()),
            new.observations,
            completed=new.again.completed,
            differing=new.again.differing,
        )

    def _stage_new(self, parts: Sequence[Parsed]) -> _New:
        """Write what is new of the batches, a file a day."""
        tables = {
            Kind.PING: [part.pings for part in parts],
            Kind.TRACEROUTE: [part.traceroutes for part in parts],
            Kind.SAMPLE: [part.samples for part in parts],
        }
        touched: dict[str, list[int]] = {}
        days: list[tuple[pa.Table, Kind, str]] = []
        again = _Again()
        for kind, several in tables.items():
            table = pa.concat_tables(several)
            if table.num_rows == 0:
                continue
            ends = pc.min_max(table["timestamp"].cast(pa.int64()))
            files = self.manifest.files(kind, ends["min"].as_py(), ends["max"].as_py())
            fresh = self._fresh(table, kind, files)
            if kind is Kind.SAMPLE and fresh.num_rows < table.num_rows:
                fresh, again = self._read_again(fresh, table, files)
            if fresh.num_rows > 0:
                touched[kind] = np.unique(_times_us(fresh) // _HOUR_US).tolist()
                days += [(rows, kind, day) for day, rows in _by_day(fresh).items()]
        # Packing is most of the work, and needs no interpreter.
        with ThreadPoolExecutor(usable_cores()) as pool:
            staged = [*pool.map(lambda one: stage(one[0], one[1], one[2], self.manifest), days)]
        if again.hours:
            touched[Kind.SAMPLE] = sorted({*touched.get(Kind.SAMPLE, ()), *again.hours})
        return _New(staged=staged, touched=touched, again=again)

    def _read_again(
        self, fresh: pa.Table, table: pa.Table, files: Sequence[Entry]
    ) -> tuple[pa.Table, _Again]:
        """What samples that are not new, or come twice, add to those that are known; a file in which some say more is written anew."""
        with self._database() as database:
            found = read_again(database, fresh, table)
        # The first of several in the batch is met again as itself, which adds nothing.
        again = _Again(differing=found.differing)
        for entry, place in zip(files, self.manifest.places(files), strict=True):
            with self._database() as database:
                known = read_again(database, read(place, Kind.SAMPLE), table)
            again.completed += len(known.place)
            again.differing += known.differing
            if len(known.place) > 0:
                again.renewed.append(stage(known.table, Kind.SAMPLE, entry.day, self.manifest))
                again.removed.append(entry.path)
                again.hours |= set((_times_us(known.table)[known.place] // _HOUR_US).tolist())
        return found.table, again

    def _stage_quarantine(self, rows: pa.Table) -> list[Staged]:
        """Write the rows that are not in quarantine yet."""
        if rows.num_rows == 0:
            return []
        with self._database() as database:
            database.register("rows", rows)
            digested = database.sql(
                f"SELECT *, {DIGEST} AS digest, $now::TIMESTAMPTZ AS landed_at FROM rows",  # noqa: S608
                params={"now": datetime.now(UTC)},
            ).to_arrow_table()
        digested = digested.cast(SCHEMAS[Kind.QUARANTINE])
        fresh = self._fresh(digested, Kind.QUARANTINE, self.manifest.files(Kind.QUARANTINE))
        return [stage(fresh, Kind.QUARANTINE, None, self.manifest)] if fresh.num_rows > 0 else []

    def _fresh(self, table: pa.Table, kind: Kind, files: Sequence[Entry]) -> pa.Table:
        """The rows whose identity is neither in the files nor in an earlier row, in their order."""
        names = ", ".join(IDENTITY[kind])
        same = " AND ".join(f"new.{name} IS NOT DISTINCT FROM old.{name}" for name in IDENTITY[kind])
        numbered = table.select(list(IDENTITY[kind])).append_column(
            "row", pa.array(np.arange(table.num_rows), type=pa.int64())
        )
        places = self.manifest.places(files)
        with self._database() as database:
            database.register("batch", numbered)
            database.execute(
                f"CREATE TEMP TABLE new AS SELECT {names}, min(row) AS row FROM batch GROUP BY {names}"  # noqa: S608
            )
            try:
                if places:
                    database.register("old", identities(places, kind))
                    # What is new is held, and what is old is read past it, however much that is.
                    with _joined_as_written(database):
                        database.execute(
                            f"DELETE FROM new WHERE row IN (SELECT new.row FROM old JOIN new ON {same})"  # noqa: S608
                        )
            except _MISTAKES:
                raise
            except (duckdb.Error, pa.ArrowException, OSError) as error:
                raise self._damage(places, error) from error
            rows = database.sql("SELECT row FROM new ORDER BY row").to_arrow_table()["row"]
        return table if len(rows) == table.num_rows else table.take(rows)

    # Reading

    def files(self, kind: Kind) -> list[Path]:
        """The Parquet files of a table, sorted."""
        return self.manifest.places(self._entries(kind))

    def _entries(
        self, kind: Kind, first: datetime | None = None, last: datetime | None = None
    ) -> list[Entry]:
        """The files of a table that may hold rows of that time."""
        ends = (_epoch_us(first), _epoch_us(last)) if kind in DATED else (None, None)
        found = self.manifest.files(kind, *ends)
        if not found and not self.manifest.exists and earlier_files(self.folder):
            with self._alone():  # takes them over
                found = self.manifest.files(kind, *ends)
        return found

    def landed_at(self, kind: Kind) -> datetime | None:
        """When the newest rows of a table landed; None when it is empty."""
        return self.manifest.landed_at(kind)

    @_while_files_move
    def query(
        self,
        sql: str,
        parameters: Mapping[str, object] | None = None,
        *,
        first: datetime | None = None,
        last: datetime | None = None,
    ) -> pa.Table:
        """The answer of DuckDB over the views `ping`, `traceroute`, `sample`, `quarantine`, `probe` and `probe_word`.

        `probe` is what is known of each probe, `probe_word` all that was ever said, with its `as_of`.

        Args:
            sql: one statement; values are named `$name`.
            parameters: the values by name.
            first: files all of whose results are earlier are not opened; the statement chooses the rows.
            last: likewise those all of whose results are later.

        Raises:
            StoreError: when a file is damaged, of another version, or cannot be read.
        """
        return self._ask(
            sql, parameters, {kind: self._entries(kind, first, last) for kind in Kind if _asks(sql, kind)}
        )

    @_while_files_move
    def query_each(
        self, kind: Kind, sql: str, parameters: Mapping[str, object] | None = None
    ) -> list[pa.Table]:
        """The answers of a statement about each file of one table by itself; one about no row, if there is no file.

        A file of the lake never changes, so its answer is kept beside it, and what was asked before is not asked again.

        Raises:
            StoreError: as `query`.
        """
        said = hashlib.sha256(json.dumps([sql, parameters], sort_keys=True).encode()).hexdigest()[:32]
        kept = self.folder / ".answers" / said
        entries = self._entries(kind)
        answers = []
        for entry in entries:
            answer = read_answer(kept / Path(entry.path).name)
            if answer is None:
                answer = self._ask(sql, parameters, {kind: [entry]})
                keep_answer(kept / Path(entry.path).name, answer)
            answers.append(answer)
        forget_answers(kept, [Path(entry.path).name for entry in entries])
        return answers or [self._ask(sql, parameters, {kind: []})]

    def _ask(
        self, sql: str, parameters: Mapping[str, object] | None, entries: Mapping[Kind, Sequence[Entry]]
    ) -> pa.Table:
        places = {kind: self.manifest.places(found) for kind, found in entries.items()}
        with self._database() as database:
            for kind, files in places.items():
                name = "probe_word" if kind is Kind.PROBE else str(kind)
                database.register(name, dataset(files, kind))
                if kind is Kind.PROBE:
                    database.execute(f"CREATE TEMP VIEW probe AS {latest_of(name, 'as_of')}")
            try:
                return database.sql(sql, params=parameters).to_arrow_table()
            except _MISTAKES:
                raise
            except (duckdb.Error, pa.ArrowException, OSError) as error:
                raise self._damage([file for files in places.values() for file in files], error) from error

    def _damage(self, files: Sequence[Path], error: Exception) -> StoreError:
        """The error that names the damaged file, if it can be found, else repeats what was said."""
        for file in files:
            try:
                pq.read_table(file, page_checksum_verification=True, partitioning=None)
            except (pa.ArrowException, OSError) as damage:
                return damaged(file, damage)
        return StoreError("the lake cannot be read", where=str(self.folder), found=str(error))

    @contextmanager
    def _database(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """An empty database in memory. To start DuckDB takes longer than most of what it is asked, so one engine is kept."""
        with self._starting:
            database = self._engine_now().cursor()
        with database:
            yield database

    def _engine_now(self) -> duckdb.DuckDBPyConnection:
        try:
            if self._engine is not None:
                self._engine.execute("SELECT 1")
        except duckdb.Error:
            self._engine = None  # after a fault of its own it refuses all that follows
        if self._engine is None:
            # What does not fit into memory is put aside in a folder of its own, which it makes when there is need, and not in the
            # one that we happen to be started in. Never reach for the network: no extension is needed.
            spill = Path(gettempdir(), f"qoetwin-{uuid4().hex}")
            self._engine = duckdb.connect(
                config={
                    "autoinstall_known_extensions": False,
                    "temp_directory": str(spill),
                    # By itself it keeps what it freed: 50 MB after each landing.
                    "allocator_flush_threshold": "1MB",
                    "allocator_bulk_deallocation_flush_threshold": "1MB",
                }
            )
            self._engine.execute("SET enable_progress_bar = false")  # printing is the command line's affair
        return self._engine

    # Probes

    def probes(self) -> pa.Table:
        """What is known of each probe, field by field the latest word; rows of `Probe`, sorted by `probe_id`."""
        return self.query("SELECT * FROM probe ORDER BY probe_id").cast(PROBE_SCHEMA)

    def probe_history(self) -> pa.Table:
        """What was said to hold of probes, and from when until when.

        Consecutive equal words are one run. The first begins at null, since nobody said anything before; each ends where the
        next begins; the last ends at null. It follows from the words alone, in whatever order they were merged.

        Returns:
            Columns of `HISTORY_SCHEMA`, sorted. `relation` says which others are known: "network" (`probe_id`, `af`,
            `asn`), "place" (`probe_id`, `latitude`, `longitude`: a move of less than `BLUR_KM` from one word to the next is
            none, and the last word counts), "country" (`probe_id`, `country`), "status" (`probe_id`, `status`), "address" (`probe_id`, `af`, `address`), "prefix"
            (`af`, `address`, `prefix`).

        Raises:
            StoreError: when the lake cannot be read.
        """
        history = self.query(HISTORY)
        columns = [
            history[field.name].cast(pa.int64()).cast(field.type)
            if pa.types.is_timestamp(field.type)
            else history[field.name].cast(field.type)
            for field in HISTORY_SCHEMA
        ]
        return pa.table(columns, schema=HISTORY_SCHEMA)

    def merge_probes(self, probes: pa.Table, as_of: datetime) -> int:
        """Keep what a list says of probes. It is never forgotten; a later word replaces it, field by field; null says nothing.

        What was synthetic once stays so. The same list as of the same time is kept once.

        Args:
            probes: rows of `Probe`; of one probe the later row counts.
            as_of: when that was so, aware.

        Returns:
            Of how many probes `probes()` says something new.

        Raises:
            InputError: when the time has no zone.
            StoreError: when the lake cannot be read or written.
        """
        if as_of.tzinfo is None:
            raise InputError("a time without a zone", found=str(as_of), expected="an aware time")
        numbered = probes.append_column("row", pa.array(range(probes.num_rows), type=pa.int64()))
        with self._alone(), self._database() as database:
            places = self.files(Kind.PROBE)
            database.register("probe_word", dataset(places, Kind.PROBE))
            database.execute(f"CREATE TEMP VIEW probe AS {latest_of('probe_word', 'as_of')}")
            database.register("list", numbered)
            said = database.sql(latest_of("list", "row")).to_arrow_table().cast(PROBE_SCHEMA)
            moment = pa.repeat(pa.scalar(as_of, WORD_SCHEMA.field("as_of").type), said.num_rows)
            database.register("said", said.append_column(WORD_SCHEMA.field("as_of"), moment))
            try:
                fresh = (
                    database.sql(
                        "SELECT * REPLACE (epoch_us(as_of) AS as_of) FROM "
                        "(SELECT * FROM said EXCEPT SELECT * FROM probe_word) ORDER BY probe_id"
                    )
                    .to_arrow_table()
                    .cast(pa.schema([*PROBE_SCHEMA, pa.field("as_of", pa.int64())]))
                    .cast(WORD_SCHEMA)
                )
                database.register("fresh", fresh)
                after = latest_of("(SELECT * FROM probe_word UNION ALL SELECT * FROM fresh)", "as_of")
                answer = database.execute(
                    f"SELECT count(*) FROM ({after} EXCEPT SELECT * FROM probe)"  # noqa: S608
                ).fetchone()
            except _MISTAKES:
                raise
            except (duckdb.Error, pa.ArrowException, OSError) as error:
                raise self._damage(places, error) from error
            if fresh.num_rows > 0:
                self.manifest.commit(
                    [stage(fresh, Kind.PROBE, None, self.manifest)], touched={Kind.PROBE: [0]}, read={}
                )
        return 0 if answer is None else int(answer[0])

    # Upkeep

    def retry_quarantine(self, parse: Callable[[Sequence[bytes]], Parsed]) -> Retried:
        """Parse what is in quarantine again: what is understood now lands, and leaves it; the rest stays as it is.

        Args:
            parse: the parser; positions in what it quarantines are places in what it was given.

        Raises:
            StoreError: when the lake cannot be read or written; what was done of it so far is whole.
        """
        tried = observations = duplicates = quarantined = 0
        with self._alone():
            for entry in self.manifest.files(Kind.QUARANTINE):
                (place,) = self.manifest.places([entry])
                rows = read(place, Kind.QUARANTINE)
                parsed = parse(rows["raw"].to_pylist())
                kept = rows.take(parsed.quarantined["position"])
                landed = self._stage_new([parsed])
                new, staged = landed.observations, landed.staged
                tried += rows.num_rows
                observations += new
                duplicates += parsed.observations - new
                quarantined += kept.num_rows
                if kept.num_rows == rows.num_rows:
                    continue
                if kept.num_rows > 0:
                    staged.append(stage(kept, Kind.QUARANTINE, None, self.manifest))
                self.manifest.commit(staged, removed=[entry.path], touched=landed.touched, read={})
        return Retried(tried=tried, observations=observations, duplicates=duplicates, quarantined=quarantined)

    def quarantine(self, chosen: QuarantineFilter = _ALL, *, most: int = 100) -> Quarantine:
        """The records that were not understood, by source and position: so many of those chosen, and how many there are.

        Raises:
            StoreError: when the lake cannot be read.
        """
        found = self.query(
            f"SELECT count(*) OVER () AS total, source, position, reason, octet_length(raw) AS bytes, "  # noqa: S608
            f"raw[1:{SHOWN_BYTES}] AS beginning, epoch_us(landed_at) AS landed_us FROM quarantine WHERE {CHOSEN} "
            "ORDER BY source, position, digest LIMIT $most",
            {**chosen.parameters, "most": most},
        ).to_pylist()
        return Quarantine(
            records=tuple(
                QuarantinedRecord(
                    source=row["source"],
                    position=row["position"],
                    reason=row["reason"],
                    bytes=row["bytes"],
                    beginning=row["beginning"].decode("utf-8", "backslashreplace"),
                    landed_at=_moment(row["landed_us"]),
                )
                for row in found
            ),
            total=found[0]["total"] if found else 0,
        )

    def drop_quarantine(self, chosen: QuarantineFilter = _ALL) -> int:
        """Forget the chosen records in quarantine, all in one commit; return how many.

        Nothing is remembered of them: one that is read again comes into quarantine again.

        Raises:
            StoreError: when the lake cannot be read or written; all are still there then.
        """
        dropped = 0
        staged: list[Staged] = []
        removed: list[str] = []
        with self._alone():
            for entry in self.manifest.files(Kind.QUARANTINE):
                (place,) = self.manifest.places([entry])
                rows = read(place, Kind.QUARANTINE)
                with self._database() as database:
                    database.register("quarantine", rows)
                    flags = database.sql(
                        f"SELECT {CHOSEN} AS chosen FROM quarantine",  # noqa: S608 - words of our own
                        params=chosen.parameters,
                    )
                    kept = rows.filter(pc.invert(flags.to_arrow_table()["chosen"]))
                if kept.num_rows == rows.num_rows:
                    continue
                dropped += rows.num_rows - kept.num_rows
                removed.append(entry.path)
                if kept.num_rows > 0:
                    staged.append(stage(kept, Kind.QUARANTINE, None, self.manifest))
            if removed:
                self.manifest.commit(staged, removed=removed, touched={}, read={})
        return dropped

    def compact(self, *, least_files: int = 2) -> int:
        """Put small files of one table and day together, at least `least_files` of them at once; return how many are gone.

        Rows stay the same. Who reads the folder without the manifest may, in the instant in which files change places, see a row
        in two files.

        Raises:
            StoreError: when the lake cannot be read or written; what was done of it so far is whole.
        """
        gone = 0
        with self._alone():
            for kind in Kind:
                small: dict[str | None, list[Entry]] = {}
                for entry in self.manifest.files(kind):
                    if entry.bytes < COMPACTED_BYTES // 2:
                        small.setdefault(entry.day, []).append(entry)
                for day, entries in small.items():
                    if len(entries) < least_files:
                        continue
                    for several in _gathered(entries):
                        gone += self._put_together(kind, day, several)
        return gone

    def _put_together(self, kind: Kind, day: str | None, entries: Sequence[Entry]) -> int:
        table = pa.concat_tables([read(place, kind) for place in self.manifest.places(entries)])
        if kind in DATED:
            table = table.take(pc.sort_indices(table["timestamp"]))
        together = stage(table, kind, day, self.manifest)
        self.manifest.commit([together], removed=[entry.path for entry in entries], touched={}, read={})
        return len(entries) - 1

    def repair(self) -> list[DamagedError]:
        """Let go of files that are gone or damaged, so that the rest can be used; return what was wrong with each.

        Damaged files are moved to `<folder>/damaged`. No source file counts as read any longer, so that their records can be
        ingested again; those that are there still count as duplicates.

        Raises:
            StoreError: when a file may not be read or is of another version, or the lake cannot be written.
        """
        found: list[DamagedError] = []
        with self._alone():
            for kind in Kind:
                for entry in self.manifest.files(kind):
                    (place,) = self.manifest.places([entry])
                    try:
                        read(place, kind)
                    except DamagedError as error:
                        found.append(error)
                        self._let_go(entry, place)
        return found

    def _let_go(self, entry: Entry, place: Path) -> None:
        hours = (
            range(entry.first_us // _HOUR_US, entry.last_us // _HOUR_US + 1)
            if entry.first_us is not None and entry.last_us is not None
            else [0]
        )
        if place.exists():
            aside = self.folder / "damaged" / entry.path.replace("/", "-")
            try:
                aside.parent.mkdir(exist_ok=True)
                place.rename(aside)
            except OSError as error:
                raise unwritable(aside, error) from error
        self.manifest.commit([], removed=[entry.path], touched={entry.kind: hours}, read={}, forget_read=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else writes meanwhile; what somebody who died had begun is finished first, and what fails leaves nothing staged."""
        lock = self.folder / ".lock"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise unwritable(lock, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self.manifest.recover()
            if not self.manifest.exists and (earlier := earlier_files(self.folder)):
                if any(is_current(file, Kind(file.relative_to(self.folder).parts[0])) for file in earlier):
                    raise StoreError(
                        "the lake's manifest is gone",
                        where=str(self.folder / "manifest.sqlite"),
                        found=f"{len(earlier)} files, and nothing that says which of them count",
                        next_step="put it back from a backup, or move the lake away and ingest again",
                    )
                adopt(self.folder, earlier, self.manifest)
            try:
                yield
            except StoreError:
                self.manifest.recover()  # what was staged takes room on a disk that may be full
                raise
        finally:
            os.close(descriptor)


@dataclass(slots=True, kw_only=True)
class _Again:
    """What samples that were read again came to; see `Landed`.

    Attributes:
        renewed: files in which some say more now, and `removed` the paths of those that they take the place of.
        hours: since 1970, in which some say more.
    """

    completed: int = 0
    differing: int = 0
    renewed: list[Staged] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    hours: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class _New:
    """What is written of some batches, and the hours that it is in, by table."""

    staged: list[Staged]
    touched: dict[str, list[int]]
    again: _Again

    @property
    def observations(self) -> int:
        return sum(one.entry.rows for one in self.staged)


class Landing:
    """Gathers parsed batches and lands them; a context manager. What is gathered when it ends lands too, unless the lake itself failed.

    Attributes:
        landed: what became of all that was committed so far.
    """

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._parts: list[Parsed] = []
        self._bytes = 0
        self._since = monotonic()
        self._commits = 0
        self.landed = Landed()

    def add(self, parsed: Parsed) -> None:
        """Take a batch.

        Raises:
            StoreError: when the lake cannot be read or written; what is gathered stays gathered.
        """
        self._parts.append(parsed)
        self._bytes += sum(
            table.nbytes for table in (parsed.pings, parsed.traceroutes, parsed.samples, parsed.quarantined)
        )
        if self._bytes >= LANDED_BYTES or monotonic() - self._since >= LANDED_S:
            self.commit()

    def commit(self) -> None:
        """Land what is gathered.

        Raises:
            StoreError: when the lake cannot be read or written; what is gathered stays gathered.
        """
        if self._parts:
            self.landed += self._lake.commit(self._parts)
            self._parts, self._bytes = [], 0
            self._commits += 1
            if self._commits % _COMMITS_BETWEEN == 0:  # what lands for days does not wait for its end
                self._lake.compact(least_files=COMPACTED_FILES)
        self._since = monotonic()

    def __enter__(self) -> Landing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or not issubclass(kind, StoreError):
            self.commit()  # what a source gave before it failed is good
            self._lake.compact(least_files=COMPACTED_FILES)


@contextmanager
def _joined_as_written(database: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """The right side of a join is held, and the left side read past it. It holds for the whole engine, and so for no longer than this."""
    database.execute("SET disabled_optimizers = 'join_order,build_side_probe_side'")
    try:
        yield
    finally:
        database.execute("RESET disabled_optimizers")


def _asks(sql: str, kind: Kind) -> bool:
    """Whether a statement names a table: files of others need not be opened."""
    return re.search(rf"\b{kind}(_word)?\b", sql) is not None


def _note(file: SourceFile) -> str:
    """What is remembered of a file that was read."""
    parts = ("what", "where", "found", "expected", "next_step")
    failures = [{part: getattr(failure, part) for part in parts} for failure in file.failures]
    return json.dumps({"counts": asdict(file.counts), "failures": failures})


def _gathered(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Small files in groups of about `COMPACTED_BYTES`, each of at least two."""
    group: list[Entry] = []
    for entry in sorted(entries, key=lambda one: (one.first_us or 0, one.path)):
        if group and sum(one.bytes for one in group) + entry.bytes > COMPACTED_BYTES:
            if len(group) > 1:
                yield group
            group = []
        group.append(entry)
    if len(group) > 1:
        yield group


def _times_us(table: pa.Table) -> NDArray[np.int64]:
    """(N,) when each row began, in microseconds since 1970."""
    times: NDArray[np.int64] = table["timestamp"].cast(pa.int64()).to_numpy()
    return times


_MOST_RUNS = 256


def _by_day(table: pa.Table) -> dict[str, pa.Table]:
    """The rows of each day, in their order. Results arrive mostly day by day, and then nothing is copied."""
    days = _times_us(table) // (24 * _HOUR_US)
    starts = [0, *(np.flatnonzero(np.diff(days)) + 1).tolist(), len(days)]
    if len(starts) > _MOST_RUNS:
        order = np.argsort(days, kind="stable")
        table, days = table.take(pa.array(order)), days[order]
        starts = [0, *(np.flatnonzero(np.diff(days)) + 1).tolist(), len(days)]
    runs: dict[str, list[pa.Table]] = {}
    for start, stop in pairwise(starts):
        runs.setdefault(_day(int(days[start])), []).append(table.slice(start, stop - start))
    return {day: pa.concat_tables(several) for day, several in runs.items()}


def _day(number: int) -> str:
    return datetime.fromtimestamp(number * 86_400, tz=UTC).date().isoformat()


def _moment(us: int | None) -> datetime | None:
    return None if us is None else datetime.fromtimestamp(us / 1e6, tz=UTC)


def _epoch_us(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1e6)
