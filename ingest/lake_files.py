"""The lake's Parquet files: what is in them, how one is written whole, and how a damaged one is told."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from domain.errors import DamagedError, StoreError
from ingest.batch import PING_SCHEMA, QUARANTINE_SCHEMA, SAMPLE_SCHEMA, TRACEROUTE_SCHEMA
from ingest.manifest import Entry, Manifest, Staged, unwritable
from ingest.probe_words import WORD_SCHEMA

VERSION_KEY = b"qoetwin_schema"
"""Where a file says which columns it has: key of the schema's metadata."""


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
    Kind.QUARANTINE: pa.schema(
        [
            *QUARANTINE_SCHEMA,
            pa.field("digest", pa.string(), nullable=False),
            pa.field("landed_at", PING_SCHEMA.field("timestamp").type),
        ]
    ),
    Kind.PROBE: WORD_SCHEMA,
}

VERSIONS = {
    Kind.PING: b"ping/2",
    Kind.TRACEROUTE: b"traceroute/2",
    Kind.SAMPLE: b"sample/1",
    Kind.QUARANTINE: b"quarantine/3",
    Kind.PROBE: b"probe/3",
}

_LACKS = {b"quarantine/2": "landed_at"}
"""Earlier version that is read as it is -> the last column, which it lacks, and which is null."""

IDENTITY = {
    Kind.PING: ("msm_id", "probe_id", "timestamp", "af", "target", "target_name"),
    Kind.TRACEROUTE: ("msm_id", "probe_id", "timestamp", "af", "target", "target_name"),
    Kind.SAMPLE: ("probe_id", "target", "af", "timestamp"),
    Kind.QUARANTINE: ("digest",),
}
"""What a row is identified by, within its table: two that agree in all of it, null or not, are one.

A record that is not understood is identified by its bytes: whoever asks for it again, by another address, brings the same one.
"""

DIGEST = "sha256(CASE WHEN octet_length(raw) > 0 THEN raw ELSE encode(source || ' ' || position) END)"
"""SQL for what identifies a record that is not understood; where nothing is left of it, that is where it was missed."""

DATED = (Kind.PING, Kind.TRACEROUTE, Kind.SAMPLE)
"""Tables whose rows have a `timestamp`; they lie in a folder a day."""

_ROWS_A_GROUP = 1 << 16


def dataset(files: Sequence[Path], kind: Kind) -> ds.Dataset | pa.Table:
    """Files of one table as one; a page that has changed on disk is an error and not another number.

    Raises:
        StoreError: when one of them is damaged, or of another version.
    """
    for file in files:
        check(file, kind)
    return (
        ds.dataset([str(file) for file in files], SCHEMAS[kind], _CHECKED)
        if files
        else SCHEMAS[kind].empty_table()
    )


def identities(files: Sequence[Path], kind: Kind) -> pa.RecordBatchReader:
    """The columns `IDENTITY` of files of one table, read once, and a little at a time.

    Raises:
        StoreError: when one of them is damaged, or of another version.
    """
    for file in files:
        check(file, kind)
    columns = list(IDENTITY[kind])

    def batches() -> Iterator[pa.RecordBatch]:
        for file in files:
            with pq.ParquetFile(file, page_checksum_verification=True) as stream:
                yield from stream.iter_batches(columns=columns)

    return pa.RecordBatchReader.from_batches(
        pa.schema([SCHEMAS[kind].field(name) for name in columns]), batches()
    )


_CHECKED = ds.ParquetFileFormat(
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True)
)


def stage(table: pa.Table, kind: Kind, day: str | None, manifest: Manifest) -> Staged:
    """Write rows to a file that is not part of the lake yet.

    Args:
        table: rows of one table, and of one day where it has days.
        kind: which table.
        day: which day.
        manifest: of the lake that it is for.

    Raises:
        StoreError: when it cannot be written; nothing is left of it then.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata({VERSION_KEY: VERSIONS[kind]}),
        sink,
        compression="zstd",
        row_group_size=_ROWS_A_GROUP,
        write_page_checksum=True,
        # RTTs hardly ever repeat: to look for repetitions, and for the least of each page, is half the cost of writing them.
        use_dictionary=[name for name, leaf in _leaves(table.schema) if not pa.types.is_floating(leaf)],
        write_statistics=[name for name, _ in _leaves(table.schema) if "." not in name],
    )
    content = sink.getvalue()
    digest = hashlib.sha256(content).hexdigest()[:32]
    path = manifest.staging / f"{kind}-{day or 'all'}-{digest}.parquet"
    try:
        manifest.staging.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError:
            path.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise unwritable(path, error) from error
    first_us, last_us = _span_us(table) if kind in DATED else (None, None)
    folder = str(kind) if day is None else f"{kind}/day={day}"
    entry = Entry(
        path=f"{folder}/{digest}.parquet",
        kind=kind,
        day=day,
        rows=table.num_rows,
        bytes=content.size,
        first_us=first_us,
        last_us=last_us,
    )
    return Staged(name=path.name, entry=entry)


def _leaves(schema: pa.Schema) -> list[tuple[str, pa.DataType]]:
    """Parquet's names and types of the columns without columns in them."""

    def below(name: str, kind: pa.DataType) -> list[tuple[str, pa.DataType]]:
        if pa.types.is_list(kind):
            return below(f"{name}.list.element", kind.value_type)
        if pa.types.is_struct(kind):
            return [leaf for field in kind for leaf in below(f"{name}.{field.name}", field.type)]
        return [(name, kind)]

    return [leaf for field in schema for leaf in below(field.name, field.type)]


def _span_us(table: pa.Table) -> tuple[int, int]:
    ends = pa.compute.min_max(table["timestamp"].cast(pa.int64()))
    return ends["min"].as_py(), ends["max"].as_py()


def check(file: Path, kind: Kind) -> None:
    """StoreError unless a file's footer is whole and says that its columns are those of this version."""
    try:
        schema = pq.read_schema(file)
    except PermissionError as error:
        raise unreadable(file, error) from error
    except (pa.ArrowException, OSError) as error:
        raise damaged(file, error) from error
    found = None if schema.metadata is None else schema.metadata.get(VERSION_KEY)
    wanted = SCHEMAS[kind]
    if found in _LACKS and wanted.names[-1] == _LACKS[found]:
        wanted = wanted.remove(len(wanted) - 1)
    elif found != VERSIONS[kind]:
        raise StoreError(
            "a file of another version in the lake",
            where=str(file),
            found="no version" if found is None else repr(found.decode("utf-8", "replace")),
            expected=repr(VERSIONS[kind].decode()),
            next_step="use the qoetwin that wrote it",
        )
    if not schema.remove_metadata().equals(wanted):
        raise damaged(file, ValueError("other columns than those of this version"))


def is_current(file: Path, kind: Kind) -> bool:
    """Whether a file says that it is of this version."""
    try:
        metadata = pq.read_schema(file).metadata
    except (pa.ArrowException, OSError):
        return False  # whoever reads it says what is wrong
    return metadata is not None and metadata.get(VERSION_KEY) == VERSIONS[kind]


def read(file: Path, kind: Kind) -> pa.Table:
    """All rows of one file.

    Raises:
        StoreError: when it is damaged, or of another version.
    """
    check(file, kind)
    try:
        table = pq.read_table(file, page_checksum_verification=True, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise damaged(file, error) from error
    for field in SCHEMAS[kind]:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table.replace_schema_metadata(None)


_REPAIR = "put the file back, or let go of it with qoetwin ingest repair, and ingest its records again"


def damaged(file: Path, error: Exception) -> DamagedError:
    """The error for a file that is not as it was written."""
    return DamagedError(
        "a damaged file in the lake",
        where=str(file),
        found=str(error).splitlines()[0],
        expected="a Parquet file as it was written",
        next_step=_REPAIR,
    )


def unreadable(path: Path, error: OSError) -> StoreError:
    """The error for what may not be read."""
    return StoreError("the lake cannot be read", where=str(path), found=error.strerror)
