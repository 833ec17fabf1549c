"""A lake of before there was a manifest: its files are taken over, with what their rows did not say then."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from domain.errors import StoreError
from domain.observation import CLOCK_IN_STEP_S, CLOCK_TOLERANCE_S, Doubt
from ingest.lake_files import DIGEST, SCHEMAS, VERSION_KEY, Kind, damaged, stage
from ingest.manifest import Manifest, Staged

_DOUBTS = f"""list_filter([
    CASE WHEN epoch(timestamp) > epoch(stored_timestamp) + {CLOCK_TOLERANCE_S} THEN '{Doubt.CLOCK_AHEAD}' END,
    CASE WHEN clock_age_s > {CLOCK_IN_STEP_S} THEN '{Doubt.CLOCK_OUT_OF_STEP}' END,
    {{ends_before_start}}
], lambda doubt: doubt IS NOT NULL)"""

_PLAIN_SQL = {
    b"ping/1": f"SELECT *, {_DOUBTS.format(ends_before_start='NULL')} AS doubts FROM rows",  # noqa: S608 - words of our own
    b"traceroute/1": "SELECT *, "  # noqa: S608 - words of our own
    + _DOUBTS.format(
        ends_before_start=f"CASE WHEN end_timestamp < timestamp THEN '{Doubt.ENDS_BEFORE_START}' END"
    )
    + " AS doubts FROM rows",
    b"quarantine/1": f"SELECT *, {DIGEST} AS digest, $written::TIMESTAMPTZ AS landed_at FROM rows",  # noqa: S608 - words of our own
    b"probe/1": "SELECT *, $written::TIMESTAMPTZ AS as_of, NULL AS host FROM rows",
    b"probe/2": "SELECT *, NULL AS host FROM rows",
}
"""Version of a file -> SQL for its rows as they are now. In tables of probes and of quarantine of version 1 nobody said when: it is when the file was written."""


def earlier_files(folder: Path) -> list[Path]:
    """Files of a lake that has no manifest yet, sorted."""
    return sorted(path for kind in Kind for path in (folder / kind).glob("**/*.parquet"))


def adopt(folder: Path, files: Sequence[Path], manifest: Manifest) -> None:
    """Make them part of the lake, in one commit.

    Raises:
        StoreError: when one is damaged or of a version that is not known; nothing has changed then.
    """
    staged: list[Staged] = []
    for file in files:
        kind = Kind(file.relative_to(folder).parts[0])
        day = file.parent.name.removeprefix("day=") if file.parent.name.startswith("day=") else None
        staged.append(stage(_as_now(file, kind), kind, day, manifest))
    manifest.commit(
        staged,
        removed=[file.relative_to(folder).as_posix() for file in files],
        touched={},
        read={},
    )


def _as_now(file: Path, kind: Kind) -> pa.Table:
    try:
        rows = pq.read_table(file, page_checksum_verification=True, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise damaged(file, error) from error
    version = (rows.schema.metadata or {}).get(VERSION_KEY)
    if version not in _PLAIN_SQL or not version.startswith(f"{kind}/".encode()):
        raise StoreError(
            "a file of an unknown version in the lake",
            where=str(file),
            found=repr(version),
            expected=f"one of {', '.join(known.decode() for known in _PLAIN_SQL)}",
            next_step="move it away, and ingest its records again",
        )
    written = datetime.fromtimestamp(file.stat().st_mtime, tz=UTC)
    with duckdb.connect() as database:
        database.register("rows", rows.replace_schema_metadata(None))
        named = {"written": written} if version in (b"probe/1", b"quarantine/1") else None
        now = database.sql(_PLAIN_SQL[version], params=named).to_arrow_table()
    # DuckDB gives times in the zone of the machine.
    return now.select(SCHEMAS[kind].names).cast(SCHEMAS[kind])
