"""The lake: observations in Parquet, each result exactly once.

    <folder>/ping/day=2019-05-12/<name>.parquet          rows of PingObservation, by day of timestamp (UTC)
    <folder>/traceroute/day=2019-05-12/<name>.parquet    rows of TracerouteObservation
    <folder>/quarantine/<name>.parquet                   rows of Quarantined
    <folder>/probe/<name>.parquet                        rows of Probe, and as of when they were said

Any Parquet reader can read it. A file's name is a digest of its content; files appear whole, by renaming, and are
never changed. One writer at a time holds the folder's lock, so that what is landed is decided against what is there.
A lake of before there was a history of probes has one table of them, `probe/probes.parquet`, in which nobody said when:
it is read as of when it was written.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from domain.errors import InputError, StoreError
from ingest.batch import PING_SCHEMA, QUARANTINE_SCHEMA, SAMPLE_SCHEMA, TRACEROUTE_SCHEMA, Parsed
from ingest.probe_words import HISTORY, HISTORY_SCHEMA, PROBE_SCHEMA, WORD_SCHEMA, latest_of

_VERSION_KEY = b"qoetwin_schema"

_MISTAKES = (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException)
"""What DuckDB says of a wrong statement: ours to mend, not the lake's trouble."""

_OBSERVATION_KEY = (
    "msm_id",
    "probe_id",
    "timestamp",
    "af",
    "target",
    "target_name",
)  # the type is the folder
_SAMPLE_KEY = ("probe_id", "target", "af", "timestamp")
_QUARANTINE_KEY = ("source", "position", "raw")


class Kind(StrEnum):
    """The tables of the lake."""

    PING = "ping"
    TRACEROUTE = "traceroute"
    SAMPLE = "sample"
    QUARANTINE = "quarantine"
    PROBE = "probe"


SCHEMAS = {
    Kind.PING: PING_SCHEMA,
    Kind.TRACEROUTE: TRACEROUTE_SCHEMA,
    Kind.SAMPLE: SAMPLE_SCHEMA,
    Kind.QUARANTINE: QUARANTINE_SCHEMA,
    Kind.PROBE: WORD_SCHEMA,
}

_VERSIONS = {
    Kind.PING: b"ping/2",
    Kind.TRACEROUTE: b"traceroute/2",
    Kind.SAMPLE: b"sample/1",
    Kind.QUARANTINE: b"quarantine/1",
    Kind.PROBE: b"probe/3",
}
_OLD_PROBES = {
    b"probe/1": pa.schema([field for field in PROBE_SCHEMA if field.name != "host"]),
    b"probe/2": pa.schema([field for field in WORD_SCHEMA if field.name != "host"]),
}
"""Versions of before that are read: nobody said when; and nodes had no host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Landed:
    """What became of the records that were read: `results_read` is the sum of the next three.

    Attributes:
        results_read: records.
        observations: new in the lake.
        duplicates: results that were in the lake already, or came twice.
        quarantined: not understood, whether or not they were in quarantine already.
        other_types: of the quarantined, well-formed Atlas results of another type than ping and traceroute.
        synthetic: results read that are of the testbed.
    """

    results_read: int = 0
    observations: int = 0
    duplicates: int = 0
    quarantined: int = 0
    other_types: int = 0
    synthetic: int = 0

    def __add__(self, other: Landed) -> Landed:
        return Landed(
            results_read=self.results_read + other.results_read,
            observations=self.observations + other.observations,
            duplicates=self.duplicates + other.duplicates,
            quarantined=self.quarantined + other.quarantined,
            other_types=self.other_types + other.other_types,
            synthetic=self.synthetic + other.synthetic,
        )


class Lake:
    """A folder of Parquet files.

    Args:
        folder: where it is. It is made with the first thing that lands; until then the lake is empty.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def land(self, parsed: Parsed) -> Landed:
        """Land a parsed batch; what is there already stays as it is.

        Raises:
            StoreError: when the lake cannot be read or written.
        """
        with self._alone():
            landed = sum(
                self._land_by_day(kind, table, key)
                for kind, table, key in (
                    (Kind.PING, parsed.pings, _OBSERVATION_KEY),
                    (Kind.TRACEROUTE, parsed.traceroutes, _OBSERVATION_KEY),
                    (Kind.SAMPLE, parsed.samples, _SAMPLE_KEY),
                )
            )
            self._land_new(
                Kind.QUARANTINE, parsed.quarantined, self.folder / Kind.QUARANTINE, _QUARANTINE_KEY
            )
        return Landed(
            results_read=parsed.records,
            observations=landed,
            duplicates=parsed.observations - landed,
            quarantined=parsed.quarantined.num_rows,
            other_types=parsed.other_types,
            synthetic=sum(
                pc.sum(table["synthetic"], min_count=0).as_py()
                for table in (parsed.pings, parsed.traceroutes, parsed.samples)
            ),
        )

    def files(self, kind: Kind) -> list[Path]:
        """The Parquet files of a table, sorted."""
        return _parquet_below(self.folder / kind)

    def landed_at(self, kind: Kind) -> datetime | None:
        """When the newest rows of a table landed; None when it is empty."""
        try:
            newest = max((file.stat().st_mtime for file in self.files(kind)), default=None)
        except OSError as error:
            raise _unreadable(self.folder / kind, error) from error
        return None if newest is None else datetime.fromtimestamp(newest, tz=UTC)

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        """The answer of DuckDB over the views `ping`, `traceroute`, `quarantine`, `probe` and `probe_word`.

        `probe` is what is known of each probe, `probe_word` all that was ever said, with its `as_of`.

        Args:
            sql: one statement; values are named `$name`.
            parameters: the values by name.

        Raises:
            StoreError: when a file is damaged, of another version, or cannot be read.
        """
        with _database() as database:
            for kind in Kind:
                self._view(database, kind, self.files(kind))
            try:
                return database.sql(sql, params=parameters).to_arrow_table()
            except _MISTAKES:
                raise
            except duckdb.Error as error:
                raise self._damage(error) from error

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
        with self._alone(), _database() as database:
            self._view(database, Kind.PROBE, self.files(Kind.PROBE))
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
            except duckdb.Error as error:
                raise self._damage(error) from error
            if fresh.num_rows > 0:
                self._put(fresh, Kind.PROBE, self.folder / Kind.PROBE)
        return 0 if answer is None else int(answer[0])

    def _land_by_day(self, kind: Kind, table: pa.Table, key: Sequence[str]) -> int:
        days = table.column("timestamp").cast(pa.date32())
        return sum(
            self._land_new(
                kind,
                table.filter(pc.equal(days, day)),
                self.folder / kind / f"day={day.as_py().isoformat()}",
                key,
            )
            for day in sorted(pc.unique(days), key=lambda scalar: scalar.as_py())
        )

    def _land_new(self, kind: Kind, table: pa.Table, folder: Path, key: Sequence[str]) -> int:
        """Write the rows whose key is neither in the folder nor in an earlier row; return how many."""
        if table.num_rows == 0:
            return 0
        names = ", ".join(key)
        same = " AND ".join(f"new.{name} IS NOT DISTINCT FROM old.{name}" for name in key)
        batch = table.select(list(key)).append_column("row", pa.array(range(table.num_rows), type=pa.int64()))
        with _database() as database:
            self._view(database, kind, _parquet_below(folder))
            database.register("batch", batch)
            try:
                fresh = database.sql(
                    f"WITH new AS (SELECT {names}, min(row) AS row FROM batch GROUP BY {names}) "  # noqa: S608
                    f"SELECT row FROM new ANTI JOIN {kind} AS old ON {same} ORDER BY row"
                ).to_arrow_table()
            except _MISTAKES:
                raise
            except duckdb.Error as error:
                raise self._damage(error) from error
        if fresh.num_rows == 0:
            return 0
        self._put(table.take(fresh.column("row")), kind, folder)
        return int(fresh.num_rows)

    def _put(self, table: pa.Table, kind: Kind, folder: Path) -> None:
        """Make a file appear, whole, under a digest of its content."""
        sink = pa.BufferOutputStream()
        versioned = table.replace_schema_metadata({_VERSION_KEY: _VERSIONS[kind]})
        pq.write_table(versioned, sink, compression="zstd", write_page_checksum=True)
        content = sink.getvalue()
        name = hashlib.sha256(content).hexdigest()[:32]
        target = folder / f"{name}.parquet"
        partial = folder / f".{name}.partial"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                with partial.open("wb") as stream:
                    stream.write(content)
                    stream.flush()
                    os.fsync(stream.fileno())
                partial.replace(target)
            except OSError:
                partial.unlink(missing_ok=True)
                raise
            _sync_folder(folder)
        except OSError as error:
            raise _unwritable(target, error) from error

    def _view(self, database: duckdb.DuckDBPyConnection, kind: Kind, files: Sequence[Path]) -> None:
        name = "probe_word" if kind is Kind.PROBE else str(kind)
        old = [file for file in files if _check(file, kind) != _VERSIONS[kind]]
        current = [str(file) for file in files if file not in old]
        try:
            rows = ds.dataset(current, SCHEMAS[kind], _CHECKED) if current else SCHEMAS[kind].empty_table()
            if old:
                rows = pa.concat_tables([rows.to_table() if current else rows, *map(_of_now, old)])
            database.register(name, rows)
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise self._damage(error) from error
        if kind is Kind.PROBE:
            database.execute(f"CREATE VIEW probe AS {latest_of(name, 'as_of')}")

    def _damage(self, error: Exception) -> StoreError:
        """The error that names the damaged file, if it can be found, else repeats what DuckDB said."""
        for kind in Kind:
            for file in self.files(kind):
                try:
                    pq.read_table(file, page_checksum_verification=True, partitioning=None)
                except (pa.ArrowException, OSError) as damage:
                    return _damaged(file, damage)
        return StoreError("the lake cannot be read", where=str(self.folder), found=str(error))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        lock = self.folder / ".lock"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise _unwritable(lock, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


@contextmanager
def _database() -> Iterator[duckdb.DuckDBPyConnection]:
    # What does not fit into memory is put aside in a folder of its own, and not in the one that we happen to be started
    # in. Never reach for the network: no extension is needed.
    with (
        TemporaryDirectory(prefix="qoetwin-") as spill,
        duckdb.connect(config={"autoinstall_known_extensions": False, "temp_directory": spill}) as database,
    ):
        database.execute("SET enable_progress_bar = false")  # printing is the command line's affair
        yield database


def _of_now(file: Path) -> pa.Table:
    """A table of probes of a version before; one in which nobody said when is as of when the file was written."""
    table = pq.read_table(file, page_checksum_verification=True, partitioning=None)
    written = pa.scalar(datetime.fromtimestamp(file.stat().st_mtime, tz=UTC), WORD_SCHEMA.field("as_of").type)
    unsaid = {"as_of": written, "host": pa.scalar(None, pa.string())}
    for name, value in unsaid.items():
        if name not in table.column_names:
            table = table.append_column(name, pa.repeat(value, table.num_rows))
    return table.select(WORD_SCHEMA.names).cast(WORD_SCHEMA)


_CHECKED = ds.ParquetFileFormat(
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True)
)
"""A page that has changed on disk is an error and not another number; DuckDB's own reader does not look."""


def _parquet_below(folder: Path) -> list[Path]:
    """The Parquet files below a folder, sorted; none where there is no folder. One that cannot be read is an error."""

    def fail(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise _unreadable(Path(error.filename), error) from error

    return sorted(
        Path(above) / name
        for above, _, names in os.walk(folder, onerror=fail)
        for name in names
        if name.endswith(".parquet")
    )


def _check(file: Path, kind: Kind) -> bytes:
    """The version of a file; StoreError unless its footer is whole and it is one that is read."""
    try:
        schema = pq.read_schema(file)
        metadata = schema.metadata
    except PermissionError as error:
        raise _unreadable(file, error) from error
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error
    found: bytes | None = None if metadata is None else metadata.get(_VERSION_KEY)
    columns = {_VERSIONS[kind]: SCHEMAS[kind]}
    if kind is Kind.PROBE:
        columns |= _OLD_PROBES
    if found is None or found not in columns:
        raise StoreError(
            "a file of another version in the lake",
            where=str(file),
            found="no version" if found is None else repr(found.decode("utf-8", "replace")),
            expected=repr(_VERSIONS[kind].decode()),
            next_step="move the file away and ingest its records again",
        )
    if not schema.remove_metadata().equals(columns[found]):
        raise _damaged(file, ValueError("other columns than those of this version"))
    return found


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _damaged(file: Path, error: Exception) -> StoreError:
    return StoreError(
        "a damaged file in the lake",
        where=str(file),
        found=str(error).splitlines()[0],
        expected="a Parquet file as it was written",
        next_step="remove the file and ingest its records again",
    )


def _unreadable(path: Path, error: OSError) -> StoreError:
    return StoreError("the lake cannot be read", where=str(path), found=error.strerror)


def _unwritable(path: Path, error: OSError) -> StoreError:
    return StoreError(
        "the lake cannot be written",
        where=str(path),
        found=error.strerror,
        next_step="free some space, or give a folder that may be written",
    )
