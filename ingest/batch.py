"""What passes between a source, the parser and the lake: raw records, and what became of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from domain.errors import InputError
from domain.observation import PingObservation, Quarantined, RttSample, TracerouteObservation
from ingest.columns import schema_of

BATCH_BYTES = 1 << 23
"""About how many bytes of records are parsed at a time: it bounds memory, and makes the work of a batch small beside them."""

PING_SCHEMA = schema_of(PingObservation)
TRACEROUTE_SCHEMA = schema_of(TracerouteObservation)
SAMPLE_SCHEMA = schema_of(RttSample)
QUARANTINE_SCHEMA = schema_of(Quarantined)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many records there were, and of what kinds.

    Attributes:
        results_read: records.
        quarantined: not understood.
        other_types: of the quarantined, well-formed Atlas results of another type than ping and traceroute (dns, http …).
        doubtful: results that are not trusted in everything (`domain.observation.Doubt`).
        synthetic: results of the testbed.
    """

    results_read: int = 0
    quarantined: int = 0
    other_types: int = 0
    doubtful: int = 0
    synthetic: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            **{one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(Counts)}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file that was read to its end.

    Attributes:
        name: as it is shown.
        digest: of its bytes as they lie on disk, compressed or not; the same bytes need not be read again.
        counts: what was in it.
        failures: what was wrong with it; what was whole was given.
    """

    name: str
    digest: str
    counts: Counts = field(default_factory=Counts)
    failures: tuple[InputError, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """N raw records of one source, in its order, as bytes of JSON.

    Attributes:
        source: file name or address, as it is shown and kept in quarantine.
        first_position: zero-based number, in that source, of the first record.
        data: bytes that hold the records.
        begin, end: (N,) where in `data` each record begins and ends.
        read_at: when they were read, aware: no result can be of later.
        cut: the reason when the source ends in the middle of itself after these records.
        tail: what was left of the record in the middle of which it ends.
        finished: the file, when these are its last records.
    """

    source: str
    first_position: int
    data: bytes
    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    read_at: datetime
    cut: str | None = None
    tail: bytes = b""
    finished: SourceFile | None = None

    def __len__(self) -> int:
        return int(self.begin.shape[0])

    @property
    def records(self) -> list[bytes]:
        """Each record by itself."""
        return [
            self.data[begin:end] for begin, end in zip(self.begin.tolist(), self.end.tolist(), strict=True)
        ]


def bounds_of(records: Iterable[bytes]) -> tuple[bytes, NDArray[np.int64], NDArray[np.int64]]:
    """Records one after the other, a line each: the bytes, and where each record begins and ends."""
    listed = list(records)
    lengths = np.fromiter(map(len, listed), dtype=np.int64, count=len(listed))
    end = np.cumsum(lengths + 1) - 1
    return b"\n".join(listed), end - lengths, end


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """What became of a batch: every record is in exactly one of the tables.

    Attributes:
        pings: rows of `PingObservation`.
        traceroutes: rows of `TracerouteObservation`.
        samples: rows of `RttSample`.
        quarantined: rows of `Quarantined`.
        other_types: how many of the quarantined are well-formed Atlas results of another type (dns, http …).
        cut: the reason when the source ends in the middle of itself; that tail is then the last quarantined row.
        finished: the file, when these are its last records.
    """

    pings: pa.Table = field(default_factory=PING_SCHEMA.empty_table)
    traceroutes: pa.Table = field(default_factory=TRACEROUTE_SCHEMA.empty_table)
    samples: pa.Table = field(default_factory=SAMPLE_SCHEMA.empty_table)
    quarantined: pa.Table = field(default_factory=QUARANTINE_SCHEMA.empty_table)
    other_types: int = 0
    cut: str | None = None
    finished: SourceFile | None = None

    @property
    def records(self) -> int:
        """How many records there were."""
        return self.observations + int(self.quarantined.num_rows)

    @property
    def observations(self) -> int:
        """How many of them were understood."""
        return int(self.pings.num_rows + self.traceroutes.num_rows + self.samples.num_rows)

    @property
    def counts(self) -> Counts:
        """The records, counted."""
        tables = (self.pings, self.traceroutes, self.samples)
        return Counts(
            results_read=self.records,
            quarantined=int(self.quarantined.num_rows),
            other_types=self.other_types,
            doubtful=sum(_many(pc.greater(pc.list_value_length(table["doubts"]), 0)) for table in tables),
            synthetic=sum(_many(table["synthetic"]) for table in tables),
        )


def _many(flags: pa.ChunkedArray) -> int:
    return int(pc.sum(flags, min_count=0).as_py())
