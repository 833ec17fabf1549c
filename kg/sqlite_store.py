"""The default store: one SQLite file, in WAL mode (many readers while one writes).

Tables are made from `kg.schema`: one a node label, one a kind of edge. States and scores are kept by an integer for
the pair, in the order in which windows are read.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import repeat
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa

from domain.errors import EmptyError, StoreError
from domain.provenance import Provenance
from domain.selection import Selection
from kg.schema import (
    ASSIGNED,
    EDGE_TYPES,
    IN_COUNTRY,
    LOCATED_IN_AS,
    LOCATED_IN_POINT,
    NODE_TYPES,
    POINT,
    SCORE_KEY,
    SCORE_VALUES,
    SCORED_STATE,
    STATE_KEY,
    STATE_VALUES,
    Datatype,
    EdgeType,
    Merge,
    NodeType,
    Property,
)
from kg.selecting import within_area, within_prefixes
from kg.store import PAIR_ATTRIBUTES, Neighbour
from kg.tables import SCORE_TYPES, STATE_TYPES, TIME, arrow_type

SCHEMA_VERSION = 1

_SQL_TYPE = {
    Datatype.INTEGER: "INTEGER",
    Datatype.DOUBLE: "REAL",
    Datatype.STRING: "TEXT",
    Datatype.BOOLEAN: "INTEGER",
    Datatype.DATETIME: "INTEGER",  # microseconds since the epoch, UTC
}
_STATE_SQL = {pa.int64(): "INTEGER", pa.float64(): "REAL", pa.bool_(): "INTEGER", pa.string(): "TEXT"}


def open_home(home: Path, *, create: bool) -> SQLiteStore:
    """The SQLite graph of a home."""
    return SQLiteStore(home / "graph.sqlite", create=create)


class SQLiteStore:
    """A `kg.store.GraphStore` in one SQLite file."""

    def __init__(self, path: Path, *, create: bool) -> None:
        self._path = path
        with self._mapped("cannot open the graph", OSError):
            there = path.exists()
        if not create and not there:
            raise EmptyError(
                "there is no graph here yet",
                where=str(path),
                next_step="ingest something, then run: qoetwin graph build --window 3h",
            )
        with self._mapped("cannot open the graph", OSError):
            if create:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=30.0, isolation_level=None)
        try:
            with self._mapped("cannot open the graph"):
                self._prepare(create=create)
        except StoreError:
            self._db.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # Writing

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See `GraphStore.transaction`."""
        if self._db.in_transaction:
            yield
            return
        with self._mapped("cannot write the graph"):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                self._db.rollback()  # does nothing where SQLite has done so by itself, as on a full disk
                raise

    def upsert_nodes(self, node_type: NodeType, nodes: pa.Table) -> None:
        """See `GraphStore.upsert_nodes`."""
        columns = [p for p in node_type.columns if p.name in nodes.column_names]
        with self.transaction():
            self._db.executemany(
                _upsert(node_type.label, columns, key=(node_type.key,)), _rows(nodes, columns)
            )

    def upsert_edges(self, edge_type: EdgeType, edges: pa.Table, provenance: Provenance) -> None:
        """See `GraphStore.upsert_edges`."""
        source, target = _ends(edge_type)
        given = [p for p in edge_type.properties if p.name in edges.column_names]
        columns = [source, target, *edge_type.identity, *given]
        with self.transaction():
            for end, label in ((source, edge_type.source), (target, edge_type.target)):
                self._db.executemany(
                    f"INSERT OR IGNORE INTO {_name(label)} ({_name(_node_type(label).key.name)}) VALUES (?)",
                    ((value,) for value in edges[end.name].unique().to_pylist()),
                )
            number = self._provenance(provenance)
            statement = _upsert(edge_type.table, columns, key=_edge_key(edge_type), extra=("provenance",))
            self._db.executemany(statement, ((*row, number) for row in _rows(edges, columns)))

    def put_states(self, states: pa.Table, provenance: Provenance) -> None:
        """See `GraphStore.put_states`."""
        with self.transaction():
            number = self._provenance(provenance)
            names = ("pair", "window_s", "window_start_s", *STATE_VALUES, "provenance")
            self._db.executemany(
                _put("path_state", names, key=("window_s", "window_start_s", "pair"), kept=("provenance",)),
                zip(*self._state_key(states), *_values(states, STATE_VALUES), repeat(number), strict=False),
            )

    def put_scores(self, scores: pa.Table) -> None:
        """See `GraphStore.put_scores`."""
        with self.transaction():
            names = ("pair", "window_s", "window_start_s", "application", "origin", *SCORE_VALUES)
            values = _values(scores, ("application", "origin", *SCORE_VALUES))
            self._db.executemany(
                "INSERT OR IGNORE INTO Application (name) VALUES (?)",
                ((name,) for name in scores["application"].unique().to_pylist()),
            )
            key = ("application", "window_s", "window_start_s", "pair", "origin")
            self._db.executemany(
                _put("path_score", names, key=key), zip(*self._state_key(scores), *values, strict=True)
            )

    def _state_key(self, table: pa.Table) -> tuple[list[Any], list[Any], list[Any]]:
        """Columns pair, window_s, window_start_s of rows that have the columns of `STATE_KEY`; new pairs are numbered."""
        names = ["probe_id", "target", "af"]
        distinct = table.select(names).group_by(names).aggregate([])
        self._db.executemany(
            "INSERT OR IGNORE INTO AtlasProbe (id) VALUES (?)",
            ((probe,) for probe in distinct["probe_id"].unique().to_pylist()),
        )
        self._db.executemany(
            "INSERT OR IGNORE INTO IP (ip, af) VALUES (?, ?)",
            zip(*(distinct[name].to_pylist() for name in ("target", "af")), strict=True),
        )
        self._db.executemany(
            "INSERT OR IGNORE INTO pair (probe_id, target, af) VALUES (?, ?, ?)",
            zip(*(distinct[name].to_pylist() for name in names), strict=True),
        )
        numbers = {
            (probe, target, af): number
            for number, probe, target, af in self._db.execute("SELECT id, probe_id, target, af FROM pair")
        }
        # A key with a null has no number: the NOT NULL of the table refuses it.
        pairs = [numbers.get(key) for key in zip(*(table[name].to_pylist() for name in names), strict=True)]
        start_s = _seconds(table["window_start"])
        length_s = _seconds(table["window_end"]) - start_s
        return pairs, length_s.tolist(), start_s.tolist()

    def _provenance(self, provenance: Provenance) -> int:
        """The number under which a provenance is kept."""
        values = (
            provenance.reference_name,
            provenance.reference_org,
            provenance.reference_url_data,
            _microseconds(provenance.reference_time_fetch),
            _microseconds(provenance.reference_time_modification),
            int(provenance.synthetic),
        )
        same = " AND ".join(f"{name} IS ?" for name in _PROVENANCE)
        found = self._db.execute(f"SELECT id FROM provenance WHERE {same}", values).fetchone()
        if found is None:
            statement = (
                f"INSERT INTO provenance ({', '.join(_PROVENANCE)}) VALUES (?, ?, ?, ?, ?, ?) RETURNING id"
            )
            found = self._db.execute(statement, values).fetchone()
        return int(found[0])

    # Reading

    def nodes(self, node_type: NodeType) -> pa.Table:
        """See `GraphStore.nodes`."""
        columns = {p.name: arrow_type(p.datatype) for p in node_type.columns}
        return self._table(
            f"SELECT {_names(columns)} FROM {_name(node_type.label)} ORDER BY {_name(node_type.key.name)}",
            (),
            columns,
        )

    def edges(self, edge_type: EdgeType) -> pa.Table:
        """See `GraphStore.edges`."""
        own = (*_ends(edge_type), *edge_type.identity, *edge_type.properties)
        columns = {p.name: arrow_type(p.datatype) for p in own} | _PROVENANCE
        order = _names([*(p.name for p in (*_ends(edge_type), *edge_type.identity))])
        return self._table(
            f"SELECT {_names(columns)} FROM {_name(edge_type.table)} JOIN provenance ON id = provenance ORDER BY {order}",
            (),
            columns,
        )

    def neighbours(self, node_type: NodeType, key: int | str, *, hops: int) -> list[Neighbour]:
        """See `GraphStore.neighbours`."""
        seen: set[tuple[str, Any]] = {(node_type.label, key)}
        met: dict[tuple[str, Any, Any], Neighbour] = {}
        frontier = list(seen)
        for distance in range(1, hops + 1):
            reached: list[tuple[str, Any]] = []
            for label, value in frontier:
                for edge_type, source, target in self._edges_at(label, value):
                    met.setdefault(
                        (edge_type.table, source, target),
                        Neighbour(
                            edge=edge_type.name,
                            source_label=edge_type.source,
                            source_key=str(source),
                            target_label=edge_type.target,
                            target_key=str(target),
                            distance=distance,
                        ),
                    )
                    for end in ((edge_type.source, source), (edge_type.target, target)):
                        if end not in seen:
                            seen.add(end)
                            reached.append(end)
            frontier = reached
        return list(met.values())

    def _edges_at(self, label: str, key: int | str) -> Iterator[tuple[EdgeType, Any, Any]]:
        for edge_type in EDGE_TYPES:
            for column, end in (("source", edge_type.source), ("target", edge_type.target)):
                if end == label:
                    statement = (
                        f"SELECT DISTINCT source, target FROM {_name(edge_type.table)} WHERE {column} = ?"
                    )
                    for source, target in self._all(statement, (key,)):
                        yield edge_type, source, target

    def pairs(self, selection: Selection) -> pa.Table:
        """See `GraphStore.pairs`."""
        columns = {"probe_id": pa.int64(), "target": pa.string(), "af": pa.int64(), **dict(PAIR_ATTRIBUTES)}
        where, values = self._pair_filter(selection)
        return self._table(
            f"SELECT {_names(columns)} FROM pair_place {where} ORDER BY probe_id, target, af",
            values,
            columns,
        )

    def states(self, selection: Selection, values: Sequence[str] | None = None) -> pa.Table:
        """See `GraphStore.states`."""
        wanted = STATE_VALUES if values is None else tuple(values)
        columns = {name: STATE_TYPES[name] for name in (*STATE_KEY, *wanted)}
        where, parameters = self._state_filter(selection)
        return self._table(
            f"SELECT probe_id, target, af, window_start_s * 1000000, (window_start_s + window_s) * 1000000"
            f"{''.join(', ' + _name(name) for name in wanted)}"
            f" FROM path_state JOIN pair ON pair.id = path_state.pair {where}"
            " ORDER BY window_s, window_start_s, probe_id, target, af",
            parameters,
            columns,
        )

    def scores(self, selection: Selection, applications: Sequence[str]) -> pa.Table:
        """See `GraphStore.scores`."""
        columns = {name: SCORE_TYPES[name] for name in (*SCORE_KEY, *SCORE_VALUES)}
        columns |= {name: STATE_TYPES[name] for name in SCORED_STATE}
        where, parameters = self._state_filter(selection)
        where += " AND " if where else "WHERE "
        return self._table(
            "SELECT probe_id, target, af, window_start_s * 1000000, (window_start_s + window_s) * 1000000,"
            f" application, origin, {_names(SCORE_VALUES)}, {_names(SCORED_STATE)}"
            " FROM path_score JOIN path_state USING (window_s, window_start_s, pair)"
            f" JOIN pair ON pair.id = pair {where} application IN ({_marks(applications)})"
            " ORDER BY window_s, window_start_s, probe_id, target, af, application, origin",
            (*parameters, *applications),
            columns,
        )

    def holds_synthetic(self) -> bool:
        """See `GraphStore.holds_synthetic`."""
        return bool(self._all("SELECT max(synthetic) FROM provenance", ())[0][0])

    def counts(self) -> dict[str, int]:
        """See `GraphStore.counts`."""
        tables = [
            *(n.label for n in NODE_TYPES),
            *(e.table for e in EDGE_TYPES),
            "pair",
            "path_state",
            "path_score",
        ]
        return {table: int(self._all(f"SELECT count(*) FROM {_name(table)}", ())[0][0]) for table in tables}

    def _pair_filter(self, selection: Selection) -> tuple[str, tuple[Any, ...]]:
        clauses: list[str] = []
        values: list[Any] = []

        def among(column: str, wanted: Sequence[int | str]) -> None:
            if wanted:
                clauses.append(f"{column} IN ({_marks(wanted)})")
                values.extend(wanted)

        among("probe_id", selection.probe_ids)
        among("target", selection.targets)
        among("probe_asn", selection.asns)
        among("target_asn", selection.target_asns)
        among("probe_country", selection.countries)
        if selection.af is not None:
            among("af", (selection.af,))
        chosen: list[list[int]] = []
        if selection.area is not None:
            chosen.append(within_area(self.edges(LOCATED_IN_POINT), self.nodes(POINT), selection.area))
        if selection.prefixes:
            chosen.append(within_prefixes(self.edges(ASSIGNED), selection.prefixes))
        for probes in chosen:
            clauses.append("probe_id IN (SELECT value FROM json_each(?))")
            values.append(json.dumps(probes))
        return (f"WHERE {' AND '.join(clauses)}" if clauses else ""), tuple(values)

    def _state_filter(self, selection: Selection) -> tuple[str, tuple[Any, ...]]:
        clauses: list[str] = []
        values: list[Any] = []
        where, parameters = self._pair_filter(selection)
        if where:
            clauses.append(f"pair IN (SELECT id FROM pair_place {where})")
            values.extend(parameters)
        if selection.window_s is not None:
            clauses.append("window_s = ?")
            values.append(selection.window_s)
        if selection.start is not None:
            clauses.append("window_start_s >= ?")
            values.append(selection.start.timestamp())
        if selection.end is not None:
            clauses.append("window_start_s < ?")
            values.append(selection.end.timestamp())
        if selection.at is not None:
            clauses.append("window_start_s <= ? AND window_start_s + window_s > ?")
            values.extend((selection.at.timestamp(), selection.at.timestamp()))
        return (f"WHERE {' AND '.join(clauses)}" if clauses else ""), tuple(values)

    # The file

    def _prepare(self, *, create: bool) -> None:
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA foreign_keys = ON")
        self._db.execute("PRAGMA cache_size = -65536")
        if create and self._empty():
            self._db.execute("PRAGMA journal_mode = WAL")
            with self.transaction():
                if self._empty():  # of two that come first, one makes the tables
                    for statement in _ddl():
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        version = self._version()
        if version != SCHEMA_VERSION:
            raise StoreError(
                "the graph has another schema",
                where=str(self._path),
                found=f"version {version}",
                expected=f"version {SCHEMA_VERSION}",
                next_step="move the file away and run: qoetwin graph build",
            )

    def _empty(self) -> bool:
        return self._version() == 0 and self._all("SELECT count(*) FROM sqlite_master", ())[0][0] == 0

    def _version(self) -> int:
        return int(self._all("PRAGMA user_version", ())[0][0])

    @contextmanager
    def _mapped(self, what: str, *more: type[Exception]) -> Iterator[None]:
        faults: tuple[type[Exception], ...] = (sqlite3.Error, UnicodeDecodeError, *more)
        try:
            yield
        except faults as error:
            name = getattr(error, "sqlite_errorname", "")
            raise StoreError(
                what,
                where=str(self._path),
                found=str(error),
                expected="a SQLite database that can be read and written",
                next_step=next((step for code, step in _NEXT_STEP.items() if name.startswith(code)), None),
            ) from error

    def _all(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        with self._mapped("cannot read the graph"):
            return self._db.execute(statement, values).fetchall()

    def _table(self, statement: str, values: Sequence[Any], columns: dict[str, pa.DataType]) -> pa.Table:
        rows = self._all(statement, values)
        if not rows:
            return pa.schema(list(columns.items())).empty_table()
        arrays = [
            _column(cells, kind)
            for cells, kind in zip(zip(*rows, strict=True), columns.values(), strict=True)
        ]
        return pa.table(arrays, names=list(columns))


_NEXT_STEP = {
    "SQLITE_BUSY": "somebody else writes it; wait, and try again",
    "SQLITE_LOCKED": "somebody else writes it; wait, and try again",
    "SQLITE_FULL": "free some space, and try again",
    "SQLITE_READONLY": "give a home that may be written",
    "SQLITE_CANTOPEN": "give a home that may be written",
    "SQLITE_CORRUPT": "move the file away and run: qoetwin graph build",
    "SQLITE_NOTADB": "move the file away and run: qoetwin graph build",
}
"""SQLite's code -> what the user can do."""

_PROVENANCE: dict[str, pa.DataType] = {
    "reference_name": pa.string(),
    "reference_org": pa.string(),
    "reference_url_data": pa.string(),
    "reference_time_fetch": TIME,
    "reference_time_modification": TIME,
    "synthetic": pa.bool_(),
}


def _ddl() -> list[str]:
    """The statements that make an empty graph, from the schema."""
    statements = [
        "CREATE TABLE provenance (id INTEGER PRIMARY KEY, reference_name TEXT NOT NULL, reference_org TEXT NOT NULL,"
        " reference_url_data TEXT, reference_time_fetch INTEGER, reference_time_modification INTEGER,"
        " synthetic INTEGER NOT NULL)"
    ]
    for node_type in NODE_TYPES:
        others = "".join(f", {_declared(p)}" for p in node_type.properties)
        statements.append(
            f"CREATE TABLE {_name(node_type.label)} ({_declared(node_type.key)} NOT NULL PRIMARY KEY{others})"
        )
    for edge_type in EDGE_TYPES:
        source, target = _ends(edge_type)
        declared = [f"{_declared(p)} NOT NULL" for p in (source, target, *edge_type.identity)]
        declared += [_declared(p) for p in edge_type.properties]
        declared.append("provenance INTEGER NOT NULL REFERENCES provenance (id)")
        for end, label in ((source, edge_type.source), (target, edge_type.target)):
            declared.append(f"FOREIGN KEY ({end.name}) REFERENCES {_name(label)}")
        declared.append(f"PRIMARY KEY ({_names([p.name for p in _edge_key(edge_type)])})")
        table = _name(edge_type.table)
        statements.append(f"CREATE TABLE {table} ({', '.join(declared)}) WITHOUT ROWID")
        statements.append(f"CREATE INDEX {_name(edge_type.table + ' back')} ON {table} (target, source)")
    values = ", ".join(f"{_name(name)} {_STATE_SQL[STATE_TYPES[name]]}" for name in STATE_VALUES)
    score_values = ", ".join(f"{_name(name)} {_STATE_SQL[SCORE_TYPES[name]]}" for name in SCORE_VALUES)
    statements += [
        "CREATE TABLE pair (id INTEGER PRIMARY KEY, probe_id INTEGER NOT NULL REFERENCES AtlasProbe (id),"
        " target TEXT NOT NULL REFERENCES IP (ip), af INTEGER NOT NULL, UNIQUE (probe_id, target, af))",
        "CREATE TABLE path_state (window_s INTEGER NOT NULL, window_start_s INTEGER NOT NULL,"
        f" pair INTEGER NOT NULL REFERENCES pair (id), {values},"
        " provenance INTEGER NOT NULL REFERENCES provenance (id),"
        " PRIMARY KEY (window_s, window_start_s, pair)) WITHOUT ROWID",
        "CREATE INDEX path_state_by_pair ON path_state (pair)",
        "CREATE TABLE path_score (window_s INTEGER NOT NULL, window_start_s INTEGER NOT NULL, pair INTEGER NOT NULL,"
        f" application TEXT NOT NULL REFERENCES Application (name), origin TEXT NOT NULL, {score_values},"
        " PRIMARY KEY (application, window_s, window_start_s, pair, origin),"
        " FOREIGN KEY (window_s, window_start_s, pair) REFERENCES path_state ON DELETE CASCADE) WITHOUT ROWID",
        "CREATE INDEX path_score_by_state ON path_score (window_s, window_start_s, pair)",
        # A score of a state that has changed would be a lie: it goes, until the state is scored again.
        "CREATE TRIGGER path_state_changed AFTER UPDATE ON path_state BEGIN DELETE FROM path_score"
        " WHERE window_s = new.window_s AND window_start_s = new.window_start_s AND pair = new.pair; END",
        _pair_place(),
    ]
    return statements


def _pair_place() -> str:
    """A view of pairs with what is known of their two ends; a target's from the anchor that has its address."""
    place = _name(LOCATED_IN_POINT.table)
    network = _name(LOCATED_IN_AS.table)
    country = _name(IN_COUNTRY.table)
    assigned = _name(ASSIGNED.table)

    def end(probe: str) -> tuple[str, str]:
        joins = (
            f" LEFT JOIN {place} {probe}_at ON {probe}_at.source = {{id}}"
            f" LEFT JOIN Point {probe}_point ON {probe}_point.position = {probe}_at.target"
            f" LEFT JOIN {network} {probe}_as ON {probe}_as.source = {{id}} AND {probe}_as.af = pair.af"
            f" LEFT JOIN {country} {probe}_country ON {probe}_country.source = {{id}}"
        )
        columns = (
            f"{probe}_point.latitude AS {probe}_latitude, {probe}_point.longitude AS {probe}_longitude,"
            f" {probe}_as.target AS {probe}_asn, {probe}_country.target AS {probe}_country"
        )
        return joins, columns

    probe_joins, probe_columns = end("probe")
    target_joins, target_columns = end("target")
    return (
        f"CREATE VIEW pair_place AS SELECT pair.id, pair.probe_id, pair.target, pair.af, {probe_columns},"
        f" host.target AS target_probe_id, {target_columns} FROM pair"
        f"{probe_joins.format(id='pair.probe_id')}"
        f" LEFT JOIN (SELECT source, min(target) AS target FROM {assigned} GROUP BY source) host ON host.source = pair.target"
        f"{target_joins.format(id='host.target')}"
    )


def _ends(edge_type: EdgeType) -> tuple[Property, Property]:
    """The two ends of an edge as columns, with the datatypes of the keys they point to."""
    return (
        Property(name="source", datatype=_node_type(edge_type.source).key.datatype),
        Property(name="target", datatype=_node_type(edge_type.target).key.datatype),
    )


def _edge_key(edge_type: EdgeType) -> tuple[Property, ...]:
    source, target = _ends(edge_type)
    return (source, *edge_type.identity) if edge_type.single else (source, target, *edge_type.identity)


def _node_type(label: str) -> NodeType:
    return next(n for n in NODE_TYPES if n.label == label)


def _name(identifier: str) -> str:
    """An identifier of the schema, quoted. Only names from `kg.schema` come here, never data."""
    return '"' + identifier.replace('"', '""') + '"'


def _names(identifiers: Iterable[str]) -> str:
    return ", ".join(_name(identifier) for identifier in identifiers)


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))


def _declared(column: Property) -> str:
    return f"{_name(column.name)} {_SQL_TYPE[column.datatype]}"


def _upsert(
    table: str, columns: Sequence[Property], *, key: Sequence[Property], extra: Sequence[str] = ()
) -> str:
    names = [*(c.name for c in columns), *extra]
    merged = {_name(c.name): _merged(table, c) for c in columns if c not in key}
    changed = " OR ".join(f"{_name(table)}.{name} IS NOT {value}" for name, value in merged.items())
    updates = [f"{name} = {value}" for name, value in merged.items()]
    updates += [f"{_name(name)} = excluded.{_name(name)}" for name in extra]
    action = f"DO UPDATE SET {', '.join(updates)} WHERE {changed}" if merged else "DO NOTHING"
    return (
        f"INSERT INTO {_name(table)} ({_names(names)}) VALUES ({_marks(names)})"
        f" ON CONFLICT ({_names([c.name for c in key])}) {action}"
    )


def _merged(table: str, column: Property) -> str:
    """The value of a column that is written again; null never erases, in whichever order the two come."""
    old, new = f"{_name(table)}.{_name(column.name)}", f"excluded.{_name(column.name)}"
    if column.merge is Merge.LAST:
        return f"coalesce({new}, {old})"
    function = "min" if column.merge is Merge.LEAST else "max"
    return f"{function}(coalesce({old}, {new}), coalesce({new}, {old}))"


def _put(table: str, names: Sequence[str], *, key: Sequence[str], kept: Sequence[str] = ()) -> str:
    """Write rows whole; a row that says the same already is left alone, and keeps what is in `kept`."""
    values = [name for name in names if name not in key and name not in kept]
    old = ", ".join(f"{_name(table)}.{_name(name)}" for name in values)
    new = ", ".join(f"excluded.{_name(name)}" for name in values)
    updates = ", ".join(f"{_name(name)} = excluded.{_name(name)}" for name in (*values, *kept))
    return (
        f"INSERT INTO {_name(table)} ({_names(names)}) VALUES ({_marks(names)})"
        f" ON CONFLICT ({_names(key)}) DO UPDATE SET {updates} WHERE ({old}) IS NOT ({new})"
    )


def _rows(table: pa.Table, columns: Sequence[Property]) -> Iterator[tuple[Any, ...]]:
    return zip(*_values(table, [c.name for c in columns]), strict=True)


def _values(table: pa.Table, names: Sequence[str]) -> list[list[Any]]:
    """Columns as Python lists that SQLite takes: times as microseconds."""
    return [
        (
            table[name].cast(TIME).cast(pa.int64())
            if pa.types.is_timestamp(table.schema.field(name).type)
            else table[name]
        ).to_pylist()
        for name in names
    ]


def _column(cells: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(kind):
        return pa.array(cells, pa.int64()).cast(kind)
    if pa.types.is_boolean(kind):
        return pa.array(cells, pa.int64()).cast(kind)
    return pa.array(cells, kind)


def _seconds(column: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.asarray(column.cast(TIME).cast(pa.int64()).to_numpy() // 1_000_000)


def _microseconds(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1_000_000)
