"""Tables of anybody's RTT samples, and of the nodes between which they were measured.

Samples are CSV (any of `, ; |` or tab between cells, plain or compressed) with a header, Parquet, or a square matrix, all told by
their content. A column that has another name there is named (`--column NAME=THEIRS`), and one that is not there is stated
(`--set NAME=VALUE`). What is neither is unknown.

    probe_id target_id   who measured whom: the id of a node, or its `name` or `address` where a file of nodes gives them
    af                   4 or 6
    timestamp            ISO 8601 (UTC where no offset is said), or seconds, milliseconds, microseconds or nanoseconds since 1970; of
                         the years 1990 to 2099
    rtt_avg_ms           mean RTT; empty where nothing came back
    rtt_min_ms rtt_max_ms rtt_mdev_ms    of the same packets; optional, as are all below
    sent received lost   packets; `received` is `sent` less `lost` where only that is there
    utilisation_ratio    used over available bandwidth, 0 to 1

Each `_ms` may be `_s` or `_us` instead: seconds, microseconds. A duration (`PT0.0123S` of ISO 8601, as perfSONAR writes it, or Parquet's own)
says its unit itself. Where `;` is between cells, `12,5` is a number too. A matrix has the columns `row`, `column` and `value`, and unless said
otherwise they are `probe_id`, `target_id` and `rtt_avg_ms`; rows and columns are what its first column and first line call them alike, or, where it
is of numbers only, numbered from 0.

Nodes are CSV or Parquet:

    id                   a whole number, 0 or more
    lat lon              WGS84 degrees
    asn country prefix address is_anchor host name    optional; a country is a code or a name; nodes of one `host` are one machine

A row that is not understood goes into quarantine, as JSON. A node's measurement of itself is kept, with the doubt `of-itself`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from domain.errors import InputError, NotFoundError, TruncatedError
from domain.number import many
from domain.observation import CLOCK_TOLERANCE_S, NODE, Doubt
from domain.progress import Report
from ingest.batch import BATCH_BYTES, QUARANTINE_SCHEMA, SAMPLE_SCHEMA, Parsed
from ingest.compression import read_chunks
from ingest.countries import country_code
from ingest.places import distance_sql, faster_than_light_sql
from ingest.probe_words import PROBE_SCHEMA
from ingest.probes import probes_table, read_whole

RTTS = ("rtt_min_ms", "rtt_avg_ms", "rtt_max_ms", "rtt_mdev_ms")
COUNTS = ("sent", "received", "lost")
NEEDED = ("probe_id", "target_id", "af", "timestamp", "rtt_avg_ms")
SAMPLE_NAMES = (*NEEDED, *(name for name in RTTS if name not in NEEDED), *COUNTS, "utilisation_ratio")
"""Names of the columns of samples; each `_ms` may be `_s` or `_us`."""

NODE_NAMES = ("id", "lat", "lon", "asn", "country", "prefix", "address", "is_anchor", "host", "name")
"""Names of the columns of nodes."""

_UNITS = {"_s": "* 1000.0", "_us": "/ 1000.0"}
"""What an RTT may be in instead of `_ms` -> SQL that makes it milliseconds."""
_IN_OTHER_UNITS = {name.removesuffix("_ms") + unit: name for name in RTTS for unit in _UNITS}
_OTHER_NAMES = {"lat": "latitude", "lon": "longitude"}
_MATRIX = {"probe_id": "row", "target_id": "column", "rtt_avg_ms": "value"}
_DELIMITERS = ",\t;|"
_UNKNOWN = ("", "na", "n/a", "nan", "-nan", "null", "none", "u", "-", "*", r"\n")
"""How tables say that they do not know."""

_ROWS = 1 << 18
_LONGEST_RECORD = 1 << 20
"""Bytes of a line of CSV, and of what may be in quotes over several lines; what is longer is no table of RTTs."""
_PARQUET_BYTES = 1 << 26
"""Bytes of the rows of Parquet that are read at once."""
_GROUP_BYTES = 1 << 30
"""Bytes of a row group of Parquet, as it says itself, before it is compressed."""
_NODES_BYTES, _NODES_VALUES = 1 << 28, 1 << 22
"""Of a Parquet file of nodes, as of one in CSV."""
_LONGEST_ROW = 1 << 24
"""Bytes of a row of a matrix: some millions of nodes."""
_FIRST, _END = datetime(1990, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
"""When anybody may have measured: what is outside is another number, or another unit."""
_BOM = b"\xef\xbb\xbf"
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_HOW_TO_NUMBER = "number the nodes from 0 in a column id of a file of nodes (--nodes), which names them in a column name or address"

_NODE_SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("latitude", pa.float64()),
        pa.field("longitude", pa.float64()),
        pa.field("address_v4", pa.string()),
        pa.field("address_v6", pa.string()),
        pa.field("host", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """The nodes of a table.

    Attributes:
        probes: rows of `domain.probe.Probe`, with the AS and the prefix of both families.
        not_understood: values of the file that are none, each with its row and column; they are None.
        unread: columns of the file that nobody named, and that have no names of ours.
        earlier: rows of `Probe`, of nodes of which something is known already. It holds where the file is silent.
    """

    probes: pa.Table = field(default_factory=PROBE_SCHEMA.empty_table)
    not_understood: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    earlier: pa.Table = field(default_factory=PROBE_SCHEMA.empty_table)

    @property
    def known(self) -> pa.Table:
        """What is known of each node, rows of `Probe`; what stands for an address is none."""
        found: dict[int, dict[str, Any]] = {}
        for row in (*self.earlier.to_pylist(), *self.probes.to_pylist()):
            for name in ("address_v4", "address_v6"):
                row[name] = None if str(row[name]).startswith(NODE) else row[name]
            if None in (row["latitude"], row["longitude"]):  # a position is one word
                del row["latitude"], row["longitude"]
            told = {name: value for name, value in row.items() if value is not None}
            found[row["probe_id"]] = found.get(row["probe_id"], {}) | told
        return pa.Table.from_pylist(list(found.values()), PROBE_SCHEMA)

    def of(self, measured: Mapping[int, set[int]]) -> pa.Table:
        """The nodes that took part, as rows of `Probe`.

        Args:
            measured: address family -> ids of the nodes that measured, or were measured, in it. A node without an address of a
                family gets `node:ID` for it, so that it is known as a target; one without metadata is known by its id.
        """
        every = sorted(set().union(*measured.values()))
        said = self.probes.filter(pa.array(np.isin(self.probes["probe_id"].to_numpy(), every)))
        others = sorted(set(every) - set(said["probe_id"].to_pylist()))
        table = pa.concat_tables([said, probes_table([{"id": one} for one in others], least_id=0).table])
        known = {row["probe_id"]: row for row in self.known.to_pylist()}
        rows = table.to_pylist()
        for row in rows:
            for family in (4, 6):
                if row["probe_id"] not in measured.get(family, ()):
                    row[f"asn_v{family}"] = None
                elif known.get(row["probe_id"], {}).get(f"address_v{family}") is None:
                    row[f"address_v{family}"] = f"{NODE}{row['probe_id']}"
        return pa.Table.from_pylist(rows, PROBE_SCHEMA)


NO_NODES = Nodes()


def check_names(columns: Mapping[str, str], constants: Mapping[str, str]) -> None:
    """Are these names of columns?

    Raises:
        InputError: when one is not, or when one is both named and stated.
    """
    for name in (*columns, *constants):
        if name not in SAMPLE_NAMES and name not in NODE_NAMES and name not in _IN_OTHER_UNITS:
            raise InputError(
                "no column of a table",
                found=repr(name),
                expected=f"of samples {', '.join(SAMPLE_NAMES)} (_s for _ms: seconds, _us: microseconds); of nodes {', '.join(NODE_NAMES)}",
            )
    if both := sorted(columns.keys() & constants.keys()):
        raise InputError(
            "a column that is both named and stated", found=both[0], expected="--column or --set, not both"
        )


def read_nodes(path: Path, columns: Mapping[str, str], constants: Mapping[str, str]) -> Nodes:
    """Read a file of nodes.

    Args:
        path: CSV or Parquet.
        columns: name of a column -> what it is called there; see `check_names`.
        constants: name of a column -> what holds of every node.

    Raises:
        NotFoundError: when there is no such file.
        InputError: when it is none, lacks `id`, `lat` or `lon`, or has an id that is no whole number, or twice.
    """
    header, decimal_comma, rows = _node_rows(path)
    place: dict[str, str] = {}
    for name in NODE_NAMES:
        theirs = columns.get(name, name)
        if name not in columns and name not in header:
            theirs = _OTHER_NAMES.get(name, name)
        if theirs in header:
            place[name] = theirs
        elif name in columns or (name in ("id", "lat", "lon") and name not in constants):
            raise _lacks(path, name, columns.get(name, name), header)
    objects: list[dict[str, Any]] = []
    stated: list[dict[str, Any]] = []
    seen = set()
    for number, row in enumerate(rows):
        node = {name: row[theirs] for name, theirs in place.items()} | {
            name: value for name, value in constants.items() if name in NODE_NAMES
        }
        word = str(node["id"]).strip()
        if re.fullmatch(r"\d{1,15}(\.0+)?", word, re.ASCII) is None:
            raise InputError(
                "a node whose id is no whole number",
                where=f"{path}, row {number}",
                found=repr(word),
                expected="0, 1, 2 …",
                next_step=_HOW_TO_NUMBER,
            )
        identity = int(word.partition(".")[0])
        if identity in seen:
            raise InputError(
                "two nodes of one id",
                where=f"{path}, row {number}",
                found=word,
                expected="a row for each node",
            )
        seen.add(identity)
        stated.append(dict(node))
        for name in ("lat", "lon"):
            node[name] = _with_point(node[name]) if decimal_comma else node[name]
        if isinstance(node.get("country"), str):
            node["country"] = country_code(node["country"]) or node["country"]
        asn, address, prefix = (node.pop(name, None) for name in ("asn", "address", "prefix"))
        told = {
            f"{name}_v{family}": value
            for name, value in (("address", address), ("prefix", prefix))
            for family in (4, 6)
            if (":" in str(value)) == (family == 6)
        }
        objects.append(node | told | {"asn_v4": asn, "asn_v6": asn})
    if not objects:
        raise InputError("a file without nodes", where=str(path), expected="a row for each node")
    table = probes_table(objects, least_id=0).table
    return Nodes(
        probes=table,
        not_understood=tuple(_not_understood(stated, table)),
        unread=tuple(name for name in header if name and name not in place.values()),
    )


_NODE_FIELDS = {
    ("lat", "lon"): ("latitude",),
    ("asn",): ("asn_v4",),
    ("country",): ("country",),
    ("address",): ("address_v4", "address_v6"),
    ("prefix",): ("prefix_v4", "prefix_v6"),
    ("is_anchor",): ("is_anchor",),
}
"""Columns of nodes whose values may be none -> the fields of `Probe` that they become."""


def _not_understood(stated: Sequence[Mapping[str, Any]], table: pa.Table) -> Iterator[str]:
    """The values that were stated and are null in the table."""
    for number, (node, row) in enumerate(zip(stated, table.to_pylist(), strict=True)):
        for names, known in _NODE_FIELDS.items():
            words = ["" if node.get(name) is None else str(node[name]).strip() for name in names]
            is_stated = any(word.lower() not in _UNKNOWN for word in words) and (*names, *words) != (
                "asn",
                "0",
            )
            if is_stated and all(row[name] is None for name in known):
                told = ", ".join(f"{name} {word!r}" for name, word in zip(names, words, strict=True))
                yield f"row {number}: {told}"


def _with_point(word: Any) -> Any:
    """A number that was written with a comma."""
    return word.replace(",", ".") if isinstance(word, str) else word


def _node_rows(path: Path) -> tuple[list[str], bool, Iterator[Mapping[str, Any]]]:
    """Names of the columns, whether numbers may be written with a comma, and the rows."""
    if _is_parquet(path):
        with _parquet_errors(path), _Parquet(path) as file:
            batches = list(_of_nodes(path, file.batches()))
            table = pa.Table.from_batches(batches, None if batches else pa.schema(file.columns))
        return [*table.column_names, *file.nested], False, iter(table.to_pylist())
    content = read_whole(path, "CSV in UTF-8, or Parquet").removeprefix(_BOM)
    try:
        text = content.decode("utf-8")
        header = _header(text.partition("\n")[0])
        lines = csv.reader(io.StringIO(text), delimiter=header.delimiter, strict=True)
        next(lines, None)
        rows = [row for row in lines if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            "not a table of nodes", where=str(path), found=str(error), expected="CSV in UTF-8, or Parquet"
        ) from error
    for number, row in enumerate(rows):
        if len(row) != len(header.names):
            raise InputError(
                "a row of another length than the header",
                where=f"{path}, row {number}",
                found=f"{len(row)} cells",
                expected=f"{len(header.names)}",
            )
    named = (dict(zip(header.names, row, strict=True)) for row in rows)
    return header.names, header.decimal_comma, named


class TableSource:
    """A file of RTT samples. It is read once.

    Args:
        path: CSV, Parquet or a matrix.
        nodes: between which they were measured.
        columns: name of a column -> what it is called there; see `check_names`.
        constants: name of a column -> what holds of every sample.

    Attributes:
        failures: a file that is cut.
        measured: address family -> ids of the nodes that took part.
        faster_than_light: samples that are, between the places of their nodes.
        of_itself: samples in which a node, or a host, measured itself.
        unread: columns that nobody named, and that are no names of ours.
        first_refused: where the first row that is no sample is, and why it is none; None without one.

    Raises:
        InputError: when a constant is no value of its column.
    """

    def __init__(
        self,
        path: Path,
        *,
        nodes: Nodes = NO_NODES,
        columns: Mapping[str, str],
        constants: Mapping[str, str],
    ) -> None:
        self.path = path
        self.failures: list[InputError] = []
        self.measured: dict[int, set[int]] = {4: set(), 6: set()}
        self.faster_than_light = 0
        self.of_itself = 0
        self.unread: tuple[str, ...] = ()
        self.first_refused: str | None = None
        self._nodes = nodes
        self._known = nodes.known
        self._columns = {name: theirs for name, theirs in columns.items() if name not in NODE_NAMES}
        self._constants = {name: value for name, value in constants.items() if name not in NODE_NAMES}
        self._read_at = datetime.now(UTC)

    def read(self, report: Report) -> Iterator[Parsed]:
        """Give the samples, batch by batch.

        Raises:
            NotFoundError: when there is no such file.
            InputError: when it is no table, lacks a column, or when no row of its first batch is a sample; nothing has been given then.
        """
        report("reading the table", 0, None)
        read = 0
        with (
            TemporaryDirectory(prefix="qoetwin-") as spill,
            duckdb.connect(
                config={"autoinstall_known_extensions": False, "temp_directory": spill}
            ) as database,
        ):
            for setting in ("TimeZone = 'UTC'", "enable_progress_bar = false"):
                database.execute(f"SET {setting}")
            database.register("nodes", _as_nodes(self._known))
            database.register("names", self._names())
            for rows in self._rows():
                parsed = self._parsed(database, rows)
                if self.first_refused is None and parsed.quarantined.num_rows > 0:
                    first = parsed.quarantined.take(
                        [pc.index(parsed.quarantined["position"], pc.min(parsed.quarantined["position"]))]
                    )
                    self.first_refused = f"row {first['position'][0]}: {first['reason'][0]}"
                if read == 0 and parsed.observations == 0 and parsed.records > 0:
                    raise self._no_sample(rows, parsed)
                read += parsed.records
                yield parsed
                report("reading the table", read, None)
        if read == 0:
            raise InputError("a table without rows", where=str(self.path), expected="a row for each sample")

    def nodes(self) -> pa.Table:
        """The nodes that took part in what was read, as rows of `Probe`."""
        return self._nodes.of(self.measured)

    def without_position(self) -> int:
        """How many of the nodes that took part have no position that is known."""
        placed = self._known.filter(pc.is_valid(self._known["latitude"]))["probe_id"].to_pylist()
        return len(set().union(*self.measured.values()) - set(placed))

    # Rows

    def _rows(self) -> Iterator[_Rows]:
        if _is_parquet(self.path):
            return self._parquet()
        return self._text()

    def _parquet(self) -> Iterator[_Rows]:
        position = 0
        with _parquet_errors(self.path), _Parquet(self.path) as file:
            for batch in file.batches():
                yield _Rows(
                    names=batch.schema.names,
                    nested=file.nested,
                    table=pa.Table.from_batches([batch]),
                    position=np.arange(position, position + batch.num_rows),
                )
                position += batch.num_rows

    def _text(self) -> Iterator[_Rows]:
        line, second = [*islice(_lines(self.path), 2), "", ""][:2]
        if not line:
            return
        header = _header(line)
        if all(_NUMBER.fullmatch(name) or name.lower() in _UNKNOWN[1:] for name in header.names):
            yield from self._matrix()
            return
        if self._is_labelled(header):
            lines = islice(header.cells_of(_lines(self.path)), 1, None)
            yield from self._square(header.names[1:], lines, decimal_comma=header.decimal_comma)
            return
        if (why := _no_text(line)) is not None:
            raise InputError(
                "not a table",
                where=str(self.path),
                found=why,
                expected="CSV in UTF-8, or Parquet",
                next_step="save it as CSV in UTF-8; results of Atlas are for: qoetwin ingest files",
            )
        if header.delimiter == " " and re.match(r"\d+: ", second):  # as rrdtool fetch writes it
            header = replace(header, names=["timestamp", *header.names])
        position = 0
        blocks = _Blocks(self.path, header.delimiter)
        for unclosed, block in blocks:
            others = [
                (position + number, "a quote that is not closed", line)
                for number, line in enumerate(unclosed)
            ]
            position += len(others)
            rows = _csv_rows(self.path, block, header, position)
            position += len(rows.position) + len(rows.other_lengths)
            yield replace(rows, other_lengths=(*others, *rows.other_lengths))
        if blocks.cut is not None:
            self.failures.append(blocks.cut)
            cut = str(blocks.cut.found)
            yield replace(
                _csv_rows(self.path, b"", header, position),
                other_lengths=((position, f"the file is cut: {cut}", blocks.tail),),
                cut=cut,
            )

    def _matrix(self) -> Iterator[_Rows]:
        """The cells of a square matrix, row by row; it is read twice, since it is square only when all of it is."""
        lengths: list[int] = []
        for line in _lines(self.path):
            lengths.append(len(_cells(line)))
            if len(lengths) > lengths[0] or lengths[-1] != lengths[0]:
                break  # what follows cannot make it square
        if not lengths or set(lengths) != {len(lengths)}:
            raise InputError(
                "a table of numbers without a header, which is no square matrix either",
                where=str(self.path),
                found=f"{len(lengths)} rows of {min(lengths, default=0)} to {max(lengths, default=0)} cells",
                expected="a header with the names of columns, or as many rows as columns",
            )
        labels = [str(number) for number in range(len(lengths))]
        lines = ([labels[number], *_cells(line)] for number, line in enumerate(_lines(self.path)))
        yield from self._square(labels, lines, decimal_comma=False)

    def _is_labelled(self, header: _Header) -> bool:
        """Whether this is a square matrix whose first line names its columns, and whose first column names its rows alike."""
        labels = header.names[1:]
        asked = {*NEEDED, *_IN_OTHER_UNITS, *self._columns.values()} - set(_MATRIX.values())
        if len(labels) < 2 or len(set(labels)) < len(labels) or not asked.isdisjoint(header.names):
            return False
        missing = set(labels)
        diagonal = set()
        for line in islice(header.cells_of(_lines(self.path)), 1, None):
            if len(line) != len(header.names) or line[0] not in missing:
                return False
            missing.remove(line[0])
            diagonal.add(line[len(labels) - len(missing)])
        if diagonal == {""} and all(_NUMBER.fullmatch(label) for label in labels):
            # It can as well be a matrix of numbers without names, and without its diagonal.
            return set(labels) <= set(map(str, self._known["probe_id"].to_pylist()))
        return not missing

    def _square(
        self, labels: list[str], lines: Iterator[list[str]], *, decimal_comma: bool
    ) -> Iterator[_Rows]:
        """The cells of lines, each after the label of its row."""
        size = len(labels)
        together = max(1, _ROWS // size)
        for first in range(0, size, together):
            cells = list(islice(lines, together))
            table = pa.table(
                {
                    "c0": pa.array(np.repeat([line[0] for line in cells], size)),
                    "c1": pa.chunked_array([pa.array(labels)] * len(cells)),
                    "c2": pa.array([cell for line in cells for cell in line[1:]]),
                }
            )
            yield _Rows(
                names=list(_MATRIX.values()),
                table=table,
                position=np.arange(first * size, first * size + table.num_rows),
                is_matrix=True,
                decimal_comma=decimal_comma,
            )

    # What they mean

    def _names(self) -> pa.Table:
        """Words by which samples may name a node, each of one node only."""
        found = self._known
        words: dict[str, set[int]] = {}
        for column in ("name", "address_v4", "address_v6"):
            for node, word in zip(found["probe_id"].to_pylist(), found[column].to_pylist(), strict=True):
                if word is not None:
                    words.setdefault(word, set()).add(node)
        single = {word: min(nodes) for word, nodes in words.items() if len(nodes) == 1}
        return pa.table(
            {"word": pa.array(single.keys(), pa.string()), "id": pa.array(single.values(), pa.int64())}
        )

    def _told(self, rows: _Rows) -> dict[str, str]:
        """Name of a column -> SQL for its words in these rows, where it is there."""
        told: dict[str, str] = {}
        usual = _MATRIX if rows.is_matrix else {}
        given = {**self._columns, **self._constants}
        read = set()
        for name in (*SAMPLE_NAMES, *_IN_OTHER_UNITS):
            if name in self._constants:
                told[name] = "$" + name
                continue
            others = {other for other, in_ms in _IN_OTHER_UNITS.items() if in_ms == name}
            theirs = self._columns.get(name, name)
            if name not in self._columns and name in usual and others.isdisjoint(given):
                theirs = usual[name]
            if rows.names.count(theirs) == 1:
                place = rows.names.index(theirs)
                is_duration = pa.types.is_duration(rows.table.schema.field(place).type)
                told[name] = f"CAST(batch.c{place} AS VARCHAR)"
                if is_duration:
                    told[name] = f"'PT' || epoch(batch.c{place}) || 'S'"
                read.add(place)
            elif theirs in rows.names or name in self._columns:
                raise _lacks(self.path, name, theirs, rows.names)
        units = {name: [name] for name in SAMPLE_NAMES}
        for other, name in _IN_OTHER_UNITS.items():
            units[name].append(other)
        for several in units.values():
            if len(both := [name for name in several if name in told]) > 1:
                raise InputError(
                    "one RTT in two units",
                    where=str(self.path),
                    found=" and ".join(both),
                    expected="one of them",
                )
        for name in NEEDED:
            if told.keys().isdisjoint(units[name]):
                raise _lacks(self.path, name, name, rows.names)
        unread = [name for place, name in enumerate(rows.names) if place not in read]
        self.unread = tuple(name for name in (*unread, *rows.nested) if name)
        return told

    def _parsed(self, database: duckdb.DuckDBPyConnection, rows: _Rows) -> Parsed:
        told = self._told(rows)
        table = rows.table.rename_columns(_numbered(rows.names))
        constants = {name: value for name, value in self._constants.items() if name in told}
        try:
            database.register("batch", table.append_column("row", pa.array(np.arange(table.num_rows))))
            found = database.sql(
                _meaning(told, decimal_comma=rows.decimal_comma),
                params=constants | {"read_at_us": _epoch_us(self._read_at)},
            ).to_arrow_table()
            database.unregister("batch")
        except (
            duckdb.DataError,
            duckdb.NotSupportedError,
            duckdb.InternalError,
            duckdb.FatalException,
        ) as error:
            raise InputError(
                "a table with values that are not understood",
                where=str(self.path),
                found=str(error).splitlines()[0],
                expected="numbers, words and times",
            ) from error
        good = found.filter(pc.is_null(found["reason"]))
        bad = found.filter(pc.is_valid(found["reason"]))
        self.of_itself += int(pc.sum(good["of_itself"], min_count=0).as_py())
        for family, ids in self.measured.items():
            own = good.filter(pc.equal(good["af"], family))
            for column in ("probe_id", "target_id"):
                ids.update(own[column].unique().to_pylist())
        samples = _samples(good)
        self.faster_than_light += int(pc.sum(good["is_faster_than_light"], min_count=0).as_py())
        return Parsed(samples=samples, quarantined=self._quarantined(rows, bad), cut=rows.cut)

    def _quarantined(self, rows: _Rows, bad: pa.Table) -> pa.Table:
        row = bad["row"].to_numpy()
        names = _keys(rows.names)
        columns = [_values(column) for column in rows.table.take(pa.array(row)).columns]
        raw = [_as_json(dict(zip(names, cells, strict=True))) for cells in zip(*columns, strict=True)]
        lengths = rows.other_lengths
        source = self.path.name.encode("utf-8", "backslashreplace").decode()
        return pa.table(
            [
                pa.repeat(source, len(raw) + len(lengths)),
                pa.array(
                    [*rows.position[row].tolist(), *(position for position, _, _ in lengths)], pa.int64()
                ),
                pa.array([*bad["reason"].to_pylist(), *(reason for _, reason, _ in lengths)], pa.string()),
                pa.array([*raw, *(text for _, _, text in lengths)], pa.binary()),
            ],
            schema=QUARANTINE_SCHEMA,
        )

    def _no_sample(self, rows: _Rows, parsed: Parsed) -> InputError:
        reason = parsed.quarantined["reason"][0].as_py()
        return InputError(
            "not RTT samples",
            where=str(self.path),
            found=f"no sample in {many(parsed.records, 'row')}; the first: {self.first_refused}",
            expected=f"samples in the columns {', '.join(rows.names[:20])}",
            next_step=_HOW_TO_NUMBER
            if "of no node" in reason
            else "say which column is which with --column NAME=THEIRS, and what holds of all rows with --set NAME=VALUE",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    names: list[str]
    delimiter: str

    @property
    def decimal_comma(self) -> bool:
        """Whether `12,5` is a number: who writes so has `;` between cells, and who has `;` there writes so."""
        return self.delimiter == ";"

    def cells_of(self, lines: Iterable[str]) -> Iterator[list[str]]:
        """The cells of lines; none of a line with a quote that is not closed."""
        for line in lines:
            try:
                cells = next(
                    csv.reader([line.removeprefix("\ufeff").strip("\r")], delimiter=self.delimiter), []
                )
            except csv.Error:
                cells = []
            yield [cell.strip() for cell in cells if cell.strip() or self.delimiter != " "]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """R rows of a table.

    Attributes:
        names: of the columns, as the file has them.
        table: (R,) the columns, in that order.
        position: (R,) zero-based number of each row in the file.
        nested: names of the columns of the file that are not read: lists, structs, maps.
        other_lengths: rows that have more or fewer cells than the header, or a quote that is not closed: position, reason, text.
        is_matrix: the rows are cells of a matrix.
        decimal_comma: numbers may be written with a comma.
        cut: why the file ends after these.
    """

    names: list[str]
    table: pa.Table
    position: np.ndarray[tuple[int], np.dtype[np.int64]]
    nested: tuple[str, ...] = ()
    other_lengths: tuple[tuple[int, str, bytes], ...] = ()
    is_matrix: bool = False
    decimal_comma: bool = False
    cut: str | None = None


class _Parquet:
    """A Parquet file in batches of bounded size, whatever its cells inflate to; columns of lists, structs and maps are not read.

    Words are read as the dictionaries that they are in the file, and are written out for a few rows at a time.

    Attributes:
        nested: names of the columns that are not read.

    Raises:
        InputError: when a row group says more than `_GROUP_BYTES`, or when a row is longer than a line of CSV may be.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with pq.ParquetFile(path) as file:
            nested = {one.name for one in file.schema_arrow if pa.types.is_nested(one.type)}
            # columns are asked for by their path, in which a.b is b of a as well
            nested |= {one.name for one in file.schema_arrow if one.name.partition(".")[0] in nested}
            self.columns = [one for one in file.schema_arrow if one.name not in nested]
            metadata = file.metadata
        self.nested = tuple(sorted(nested))
        self._most_rows = _ROWS
        shared = set()  # words that share their beginnings, which have no dictionary
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            chunks = [group.column(place) for place in range(group.num_columns)]
            chunks = [one for one in chunks if one.path_in_schema.partition(".")[0] not in nested]
            size = sum(one.total_uncompressed_size for one in chunks)
            if size > _GROUP_BYTES:
                raise self._too_large("a row group of Parquet that is too large", size, _GROUP_BYTES)
            for one in chunks:
                if "DELTA_BYTE_ARRAY" in one.encodings:
                    shared.add(one.path_in_schema)
                    self._most_rows = min(
                        self._most_rows, _GROUP_BYTES // max(one.total_uncompressed_size, 1)
                    )
        words = [one.name for one in self.columns if _is_words(one.type) and one.name not in shared]
        self._file = pq.ParquetFile(path, page_checksum_verification=True, read_dictionary=words)

    def __enter__(self) -> _Parquet:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Rows of about `_PARQUET_BYTES` at most, without dictionaries."""
        width = sum(_width(one.type) for one in self.columns)
        if width > _LONGEST_RECORD:
            raise self._too_large("a row that is too long for a table", width, _LONGEST_RECORD)
        most = max(1, min(_ROWS, _PARQUET_BYTES // max(width, 1), self._most_rows))
        names = list(dict.fromkeys(one.name for one in self.columns)) if self.nested else None
        for batch in self._file.iter_batches(batch_size=most, columns=names):
            batch.validate(full=True)  # what is no UTF-8 would end DuckDB, and Python's reading of it
            yield from self._written_out(batch)

    def _written_out(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        size = np.zeros(batch.num_rows, np.int64)
        for column in batch.columns:
            if _is_words(column.type):
                is_listed = pa.types.is_dictionary(column.type)
                words = column.dictionary if is_listed else column
                if pa.types.is_string_view(words.type) or pa.types.is_binary_view(words.type):
                    words = words.cast(pa.large_binary())
                lengths = pc.binary_length(words)
                lengths = lengths.take(column.indices) if is_listed else lengths
                size += pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False)
        if (longest := size.max(initial=0)) > _LONGEST_RECORD:
            raise self._too_large("a row that is too long for a table", longest, _LONGEST_RECORD)
        ends = np.cumsum(size)
        begin = 0
        while begin < batch.num_rows:
            before = ends[begin - 1] if begin > 0 else 0
            end = int(np.searchsorted(ends, before + _PARQUET_BYTES, side="right"))  # a row is shorter
            part = batch.slice(begin, end - begin)
            columns = [
                one.dictionary_decode() if pa.types.is_dictionary(one.type) else one for one in part.columns
            ]
            yield pa.RecordBatch.from_arrays(columns, names=part.schema.names)
            begin = end

    def _too_large(self, what: str, found: int, most: int) -> InputError:
        return InputError(
            what, where=str(self._path), found=f"{found} bytes", expected=f"at most {most} bytes"
        )


def _is_words(of: pa.DataType) -> bool:
    """Whether values of this type have no fixed length."""
    value = of.value_type if pa.types.is_dictionary(of) else of
    return any(
        is_one(value)
        for is_one in (
            pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view,
            pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view,
        )
    )  # fmt: skip


def _width(of: pa.DataType) -> int:
    """Bytes of a value, or of what stands for one; nulls have 1 bit."""
    if _is_words(of):
        return 8
    return (
        max(1, (of.value_type if pa.types.is_dictionary(of) else of).bit_width // 8) if of != pa.null() else 1
    )


def _of_nodes(path: Path, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """As much as a list of nodes may have, in bytes and in values (of which each takes up to a hundred bytes in Python)."""
    size = values = 0
    for batch in batches:
        size += batch.nbytes
        values += batch.num_rows * batch.num_columns
        if size > _NODES_BYTES or values > _NODES_VALUES:
            raise InputError(
                "a list that is too large",
                where=str(path),
                found=f"at least {size} bytes of content, with {values} values or more",
                expected=f"at most {_NODES_BYTES} bytes and {_NODES_VALUES} values; a row for each node",
            )
        yield batch


class _Blocks:
    """What follows the header of a CSV file, in blocks of whole records; afterwards `cut` and `tail` say how it ended.

    A record ends at the end of a line that is in no quotes, and as in `pyarrow.csv` quotes are what a cell begins with. Where a
    quote is not closed before the end of the file, or in `_LONGEST_RECORD` bytes, its line is none, and reading goes on after it.

    Yields:
        The lines with such a quote that come before a block, and the block, which may be empty.

    Raises:
        InputError: at a line of more than `_LONGEST_RECORD` bytes.
    """

    def __init__(self, path: Path, delimiter: str) -> None:
        self.cut: TruncatedError | None = None
        self.tail = b""
        self._path = path
        between = re.escape(delimiter).encode()
        cell = rb'(?:"(?:[^"]++|"")*+"|(?!"))[^%b\r\n]*+' % between
        self._cell = re.compile(cell)
        self._records = re.compile(rb"(?:(?:%b[%b\r])*+%b\n)*+" % (cell, between, cell))

    def __iter__(self) -> Iterator[tuple[list[bytes], bytes]]:
        pending = bytearray()
        unclosed: list[bytes] = []
        begun = False
        try:
            for chunk in read_chunks(self._path):
                pending += chunk
                if not begun:
                    pending = pending.lstrip()
                    line, begun_here, rest = pending.partition(b"\n")
                    self._check(line)
                    if not begun_here:
                        continue
                    begun, pending = True, rest
                begin, scanned = 0, bytearray()
                while len(pending) - begin >= BATCH_BYTES:
                    if (end := self._end(pending, begin, scanned)) > begin:
                        yield unclosed, bytes(pending[begin:end])
                        unclosed, begin = [], end
                    if len(pending) - begin <= _LONGEST_RECORD:
                        break
                    unclosed.append(self._first_line(pending, begin))
                    begin += len(unclosed[-1]) + 1
                del pending[:begin]
        except TruncatedError as error:
            end = self._end(pending, 0, bytearray())
            self.cut, self.tail = error, bytes(pending[end:])
            del pending[end:]
        if not begun:
            return
        if pending and not pending.endswith(b"\n"):
            pending += b"\n"
        begin, scanned = 0, bytearray()
        while begin < len(pending):
            if (end := self._end(pending, begin, scanned)) > begin:
                yield unclosed, bytes(pending[begin:end])
                unclosed, begin = [], end
            else:
                unclosed.append(self._first_line(pending, begin))
                begin += len(unclosed[-1]) + 1
        if unclosed:
            yield unclosed, b""

    def _end(self, text: bytearray, begin: int, scanned: bytearray) -> int:
        """Where the last whole record from `begin` ends; `begin` where none does.

        Args:
            text: what was read.
            begin: where a line begins.
            scanned: empty at first for a text, and then kept for it: where cells begin from which the end of a record was looked for.
        """
        if text.find(b'"', begin) < 0:
            end = max(text.rfind(b"\n", begin) + 1, begin)
        elif not scanned:
            found = self._records.match(text, begin)
            end = begin if found is None else found.end()
            scanned.extend(bytes(len(text) + 1))  # a quote is not closed, if anything is left
        else:
            end = begin
            while (after := self._record_end(text, end, scanned)) > end:
                end = after
        while end - begin > _LONGEST_RECORD:
            line_end = text.rfind(b"\n", begin, begin + _LONGEST_RECORD + 1)
            if line_end < 0:
                self._check(text[begin:end].partition(b"\n")[0])
            begin = line_end + 1
        return end

    def _record_end(self, text: bytearray, begin: int, scanned: bytearray) -> int:
        """Where the record that begins here ends, or a later one before the next quote; `begin` where none does.

        From a cell that was met before there is no end, else reading had gone on after it. Cells in quotes that begin at two places
        share no byte (a quote that opens one closes the other), so that all calls for a text take time in proportion to it.
        """
        quote = text.find(b'"', begin)
        if (plain := text.rfind(b"\n", begin, quote if quote >= 0 else len(text)) + 1) > begin:
            return plain
        at = begin
        while not scanned[at]:
            scanned[at] = 1
            cell = self._cell.match(text, at)
            if cell is None or cell.end() == len(text):
                break
            at = cell.end() + 1
            if text[cell.end()] == ord("\n"):
                return at
        return begin

    def _first_line(self, text: bytearray, begin: int) -> bytes:
        line_end = text.find(b"\n", begin)
        line = text[begin : line_end if line_end >= 0 else len(text)]
        self._check(line)
        return bytes(line)

    def _check(self, line: bytearray) -> None:
        if len(line) > _LONGEST_RECORD:
            raise _too_long(self._path, line, _LONGEST_RECORD)


def _lines(path: Path) -> Iterator[str]:
    """The lines of a text file that are not blank.

    Raises:
        InputError: at a line of more than `_LONGEST_ROW` bytes.
    """
    pending = bytearray()
    for chunk in read_chunks(path):
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            line = bytes(pending + end) if pending else end
            pending.clear()
            if line.strip():
                yield line.decode("utf-8", "backslashreplace")
        pending += rest
        if len(pending) > _LONGEST_ROW:
            raise _too_long(path, pending, _LONGEST_ROW)
    if pending.strip():
        yield pending.decode("utf-8", "backslashreplace")


def _too_long(path: Path, line: bytearray, longest: int) -> InputError:
    return InputError(
        "a line that is too long for a table",
        where=str(path),
        found=f"{bytes(line[:40])!r}…",
        expected=f"lines of {longest} bytes at most",
    )


def _cells(line: str) -> list[str]:
    return [cell for cell in re.split(r"[\s,;|]+", line.strip().removeprefix("\ufeff")) if cell]


def _header(line: str) -> _Header:
    """The cells of the first line, and what is between them: the delimiter that is most often there."""
    delimiter = max(_DELIMITERS, key=line.count)
    if line.count(delimiter) == 0 and len(line.split()) > 1:
        delimiter = " "
    try:
        cells = next(
            csv.reader([line.removeprefix("\ufeff").strip("\r\n ").removeprefix("#")], delimiter=delimiter),
            [],
        )
    except csv.Error:
        cells = [line]  # no header: the column that is missing will be named
    return _Header(
        names=[cell.strip() for cell in cells if cell.strip() or delimiter != " "], delimiter=delimiter
    )


def _numbered(names: list[str]) -> list[str]:
    return [f"c{number}" for number in range(len(names))]


def _keys(names: list[str]) -> list[str]:
    """A key for each column: its name, and its number too where it has none or another column has the same."""
    keys: dict[str, None] = {}
    own = set(names)
    for number, name in enumerate(names):
        key = name or f"column {number}"
        while key in keys or (key != name and key in own):
            key += f" (column {number})"
        keys[key] = None
    return list(keys)


def _csv_rows(path: Path, block: bytes, header: _Header, position: int) -> _Rows:
    """Parse a block of whole records."""
    if not block.isascii():  # a letter of another alphabet is no reason to lose the numbers beside it
        block = block.decode("utf-8", "backslashreplace").encode()
    names = _numbered(header.names)
    if not block.strip():
        nothing = pa.table({name: pa.array([], pa.string()) for name in names})
        return _Rows(
            names=header.names, table=nothing, position=np.arange(0), decimal_comma=header.decimal_comma
        )
    others: list[tuple[int, str, bytes]] = []

    def other(row: pa_csv.InvalidRow) -> str:
        reason = f"{row.actual_columns} cells, and {row.expected_columns} in the header"
        others.append((position + row.number - 1, reason, row.text.encode()))
        return "skip"

    try:
        table = pa_csv.read_csv(
            io.BytesIO(block),
            # rows are numbered where one thread reads them
            read_options=pa_csv.ReadOptions(use_threads=False, column_names=names, block_size=len(block) + 1),
            parse_options=pa_csv.ParseOptions(
                delimiter=header.delimiter, newlines_in_values=True, invalid_row_handler=other
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        raise InputError(
            "not a table", where=str(path), found=str(error), expected="CSV in UTF-8, or Parquet"
        ) from error
    whole = np.arange(position, position + table.num_rows + len(others))
    return _Rows(
        names=header.names,
        table=table,
        position=np.setdiff1d(whole, [number for number, _, _ in others]),
        other_lengths=tuple(others),
        decimal_comma=header.decimal_comma,
    )


def _meaning(told: Mapping[str, str], *, decimal_comma: bool) -> str:
    """SQL over `batch`, `nodes` and `names`: what each row means, or in `reason` why it means nothing.

    Args:
        told: name of a column -> SQL for its words.
        decimal_comma: whether numbers may be written with a comma.
    """
    unknown = ", ".join(f"'{word}'" for word in _UNKNOWN)

    def word(name: str) -> str:
        if name not in told:
            return f"NULL::VARCHAR AS {name}"
        text = f"trim({told[name]}::VARCHAR)"
        if decimal_comma:
            is_one = f"regexp_full_match({text}, '[+-]?[0-9]*,[0-9]+([eE][+-]?[0-9]+)?')"
            text = f"CASE WHEN {is_one} THEN replace({text}, ',', '.') ELSE {text} END"
        return f"CASE WHEN lower({text}) NOT IN ({unknown}) THEN {text} END AS {name}"

    def number(name: str) -> str:
        return (
            f"(CASE WHEN isfinite(TRY_CAST(word.{name} AS DOUBLE)) THEN TRY_CAST(word.{name} AS DOUBLE) END)"
        )

    def whole(name: str) -> str:
        return (
            f"(CASE WHEN regexp_full_match(word.{name}, '[0-9]{{1,15}}([.]0+)?')"
            f" THEN CAST(split_part(word.{name}, '.', 1) AS BIGINT) END)"
        )

    def count(name: str) -> str:
        """However it is written: rrdtool writes 2.0000000000e+00."""
        return f"(CASE WHEN {number(name)} = floor({number(name)}) AND {number(name)} BETWEEN 0 AND 1e15 THEN {number(name)}::BIGINT END)"

    def rtt_ms(name: str) -> str:
        unit = _UNITS[name[name.rindex("_") :]] if name in _IN_OTHER_UNITS else ""
        seconds = (
            f"TRY_CAST(nullif(regexp_extract(word.{name}, '^PT([0-9]+([.][0-9]+)?)S$', 1), '') AS DOUBLE)"
        )
        return f"coalesce({seconds} * 1000.0, {number(name)} {unit})"

    forms = {name: (name, *(other for other, of in _IN_OTHER_UNITS.items() if of == name)) for name in RTTS}
    numbers = [
        f"{rtt_ms(next((one for one in several if one in told), name))} AS {name}"
        for name, several in forms.items()
    ]
    numbers += [f"{number('utilisation_ratio')} AS utilisation_ratio"]
    numbers += [f"{count(name)} AS {name}" for name in ("af", *COUNTS)]
    doubts = ", ".join(
        f"CASE WHEN {condition} THEN ['{doubt}'] ELSE [] END"
        for doubt, condition in (  # sorted
            (Doubt.CLOCK_AHEAD, f"timestamp_us > $read_at_us + {CLOCK_TOLERANCE_S * 1_000_000}"),
            (Doubt.FASTER_THAN_LIGHT, "is_faster_than_light"),
            (Doubt.OF_ITSELF, "of_itself"),
        )
    )

    def wrong(name: str, condition: str, words: str) -> str:
        return f"CASE WHEN {condition} THEN '{name}: ' || word.{name} || ' {words}' END"

    reasons = [
        *(
            f"CASE WHEN word.{name} IS NULL THEN 'no {name}' END"
            for name in NEEDED
            if not name.startswith("rtt")
        ),
        *(
            wrong(name, f"typed.{name} IS NULL", "is the id, name or address of no node")
            for name in ("probe_id", "target_id")
        ),
        wrong("af", "typed.af IS NULL OR typed.af NOT IN (4, 6)", "is neither 4 nor 6"),
        wrong(
            "timestamp",
            "timestamp_us IS NULL",
            "is neither ISO 8601 nor a time since 1970, in the years 1990 to 2099",
        ),
        *(
            wrong(one, f"{rtt_ms(one)} IS NULL OR {rtt_ms(one)} < 0", "is no number of 0 or more")
            for several in forms.values()
            for one in several
            if one in told
        ),
        *(wrong(name, f"typed.{name} IS NULL", "is no whole number of 0 or more") for name in COUNTS),
        wrong(
            "utilisation_ratio",
            "typed.utilisation_ratio IS NULL OR typed.utilisation_ratio NOT BETWEEN 0 AND 1",
            "is not between 0 and 1",
        ),
        "CASE WHEN typed.received NOT BETWEEN 0 AND typed.sent OR typed.received < 0 THEN 'more packets received, or lost, than sent' END",
        "CASE WHEN typed.received = 0 AND typed.rtt_avg_ms IS NOT NULL THEN 'an RTT, and no packet received' END",
        "CASE WHEN typed.rtt_min_ms > coalesce(typed.rtt_avg_ms, typed.rtt_max_ms) OR typed.rtt_avg_ms > typed.rtt_max_ms"
        " THEN 'least, mean and greatest RTT are not in this order' END",
    ]
    since = "TRY_CAST(rtrim(word.timestamp, ':') AS DOUBLE)"  # 1595116800: of rrdtool
    basic = r"'^([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})', '\1-\2-\3T\4:\5:\6'"
    iso = f"regexp_replace(replace(word.timestamp, ',', '.'), {basic})"
    return f"""
    WITH word AS (
        SELECT row, {", ".join(word(name) for name in (*SAMPLE_NAMES, *_IN_OTHER_UNITS))} FROM batch
    ),
    typed AS (
        SELECT row, {", ".join(numbers)},
            coalesce({whole("probe_id")}, prober.id) AS probe_id,
            coalesce({whole("target_id")}, probed.id) AS target_id,
            CASE
                WHEN {since} BETWEEN 1e8 AND 5e18 THEN
                    CAST(round({since} * CASE
                        WHEN {since} >= 1e17 THEN 1e-3
                        WHEN {since} >= 1e14 THEN 1
                        WHEN {since} >= 1e11 THEN 1e3
                        ELSE 1e6 END) AS BIGINT)
                WHEN regexp_matches(word.timestamp, '^[0-9]{{4}}-?[0-9]{{2}}-?[0-9]{{2}}') AND {since} IS NULL THEN
                    epoch_us(TRY_CAST({iso} AS TIMESTAMPTZ))
            END AS timestamp_us
        FROM word
        LEFT JOIN names AS prober ON prober.word = word.probe_id
        LEFT JOIN names AS probed ON probed.word = word.target_id
    ),
    counted AS (
        SELECT * REPLACE (
            coalesce(received, sent - lost) AS received,
            CASE WHEN timestamp_us >= {_epoch_us(_FIRST)} AND timestamp_us < {_epoch_us(_END)} THEN timestamp_us END
                AS timestamp_us
        ) FROM typed
    ),
    placed AS (
        SELECT typed.*,
            coalesce(CASE af WHEN 4 THEN there.address_v4 ELSE there.address_v6 END, '{NODE}' || target_id) AS target,
            coalesce({faster_than_light_sql("coalesce(rtt_min_ms, rtt_avg_ms)", distance_sql("here", "there"))}, false)
                AS is_faster_than_light,
            typed.probe_id = target_id OR coalesce(here.host = there.host, false) AS of_itself
        FROM counted AS typed
        LEFT JOIN nodes AS here ON here.id = typed.probe_id
        LEFT JOIN nodes AS there ON there.id = target_id
    ),
    judged AS (
        SELECT typed.*, nullif(concat_ws('; ', {", ".join(reasons)}), '') AS why
        FROM placed AS typed JOIN word ON word.row = typed.row
    )
    SELECT * EXCLUDE (why, of_itself, is_faster_than_light), list_concat({doubts}) AS doubts, why AS reason,
        of_itself, is_faster_than_light
    FROM judged
    ORDER BY row
    """  # noqa: S608 - names of our own


def _samples(good: pa.Table) -> pa.Table:
    """Rows of `RttSample`."""
    known = {
        "timestamp": good["timestamp_us"].cast(pa.int64()),
        "synthetic": pa.repeat(False, good.num_rows),
    }
    columns = [known[name] if name in known else good[name] for name in SAMPLE_SCHEMA.names]
    return pa.table(
        [column.cast(field.type) for column, field in zip(columns, SAMPLE_SCHEMA, strict=True)],
        schema=SAMPLE_SCHEMA,
    )


def _values(column: pa.ChunkedArray) -> list[Any]:
    """What Python has no value for, such as a year of six digits, is given as Arrow writes it."""
    try:
        return list(column.to_pylist())
    except (OverflowError, ValueError, LookupError):
        lists = [column.slice(row, 1).combine_chunks().to_string() for row in range(len(column))]
        return [text[1:-1].strip() for text in lists]


def _as_nodes(probes: pa.Table) -> pa.Table:
    """Where each node is, its addresses, its host; of rows of `Probe`."""
    columns = [probes["probe_id" if name == "id" else name] for name in _NODE_SCHEMA.names]
    return pa.table(columns, schema=_NODE_SCHEMA)


def _no_text(line: str) -> str | None:
    """What a first line is of, when it is of no table."""
    if line.startswith((r"\xff\xfe", r"\xfe\xff")):
        return "text in UTF-16"
    return {"{": "JSON", "[": "JSON", "<": "XML"}.get(line.lstrip("\ufeff").strip()[:1])


def _as_json(row: Mapping[str, Any]) -> bytes:
    return orjson.dumps(row, default=str, option=orjson.OPT_NON_STR_KEYS)


def _is_parquet(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(4) == b"PAR1"
    except FileNotFoundError as error:
        raise NotFoundError("no such file", where=str(path)) from error
    except OSError as error:
        raise InputError("a file that cannot be read", where=str(path), found=error.strerror) from error


@contextmanager
def _parquet_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            "a Parquet file that cannot be read", where=str(path), found=str(error).splitlines()[0]
        ) from error


def _lacks(path: Path, name: str, theirs: str, header: list[str]) -> InputError:
    there = f"the columns {', '.join(map(repr, header[:20]))}"
    if header.count(theirs) > 1:
        return InputError(
            "a column that is there twice", where=str(path), found=repr(theirs), expected="once"
        )
    if name != theirs:
        return InputError(
            "a column that is not there",
            where=str(path),
            found=there,
            expected=f"{theirs!r}, named for {name}",
        )
    return InputError(
        "a column that is needed and not there",
        where=str(path),
        found=there,
        expected=name,
        next_step=f"write --column {name}=THEIRS, or --set {name}=VALUE where it is the same for all",
    )


def _epoch_us(moment: datetime) -> int:
    return (moment - datetime.fromtimestamp(0, tz=UTC)) // timedelta(microseconds=1)
