"""The graph in a Neo4j server (5.26 or newer, Community is enough), through the official driver.

What is written is compared with what is there first, as columns: read the rows of the same keys, find what is new and
what changed, write that. So writing the same again is reading, and an edge that says the same keeps its provenance. All
writers lock one node, the graph's own, before they read: what they compared with is still so when they write.

`kg/neo4j_shapes.py` says how the schema lies in Neo4j, `kg/neo4j_connection.py` talks to the server.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import neo4j
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from domain.credentials import Credentials
from domain.errors import EmptyError, StoreError
from domain.provenance import Provenance
from domain.selection import Selection
from kg.neo4j_connection import Connection
from kg.neo4j_shapes import (
    GRAPH,
    KEY,
    PROVENANCE_LABEL,
    Kind,
    Rows,
    Shape,
    column,
    keys_of,
    point_text,
    quoted,
    reader,
    shape_of,
    statements,
    subject_and_window,
)
from kg.schema import (
    ASSIGNED,
    EDGE_TYPES,
    FACT_TYPES,
    IN_COUNTRY,
    LOCATED_IN_AS,
    LOCATED_IN_POINT,
    MEASURED,
    MEASURES,
    NODE_TYPES,
    PATH,
    PATH_EDGES,
    POINT,
    PROVENANCE,
    VERSION,
    WINDOW,
    Datatype,
    EdgeType,
    FactType,
    History,
    Merge,
    NodeType,
    Property,
)
from kg.selecting import within_area, within_prefixes
from kg.store import MOST_NEIGHBOURS, PAIR_ATTRIBUTES, Neighbour
from kg.tables import (
    arrow_schema,
    arrow_type,
    edge_schema,
    fact_schema,
    holding,
    node_schema,
    refuse_described,
    subjects,
)

BATCH = 10_000
"""Rows written in one transaction, about 50 MB on the server."""

PAGE = 20_000
"""Rows read in one answer of the server."""

AHEAD = 2
"""Pages that the server is asked for at a time."""

FEW = 500
"""Up to so many nodes are looked up one by one; for more, all are read."""

_SAID = Property(name="provenance", datatype=PROVENANCE[0].datatype)
"""Of a fact: the key of its (:Provenance)."""

_KEY = Property(name=KEY, datatype=PROVENANCE[0].datatype)


def _from_2(connection: Connection) -> None:
    """Since version 3 counts may be unknown, which is no property, and there are statuses, which have a constraint of their own."""
    _constrain(connection, 3)


def _from_3(connection: Connection) -> None:
    """Since version 4 there are predictions, and paths that are predicted, which have constraints of their own."""
    _constrain(connection, 4)


def _constrain(connection: Connection, version: int) -> None:
    """Make the constraints and indexes that are not there, and say which version the graph has now."""
    for statement in statements():
        connection.schema(statement)
    connection.write(
        lambda tx: tx.run(
            f"MATCH (g:{GRAPH} {{name: 'qoetwin'}}) SET g.version = $version", version=version
        ).consume()
    )


_MIGRATIONS: dict[int, Callable[[Connection], None]] = {2: _from_2, 3: _from_3}
"""Version of a kept graph -> what makes the next version of it. The first version on Neo4j was the second."""


def open_address(
    address: str,
    home: Path,  # noqa: ARG001 - every store is opened alike
    *,
    create: bool,
    credentials: Credentials | None,
) -> Neo4jStore:
    """The graph of a server.

    Args:
        address: `bolt://HOST:PORT` or `neo4j://…`, also with `+s` and `+ssc`; `/NAME` after it names the database.
        home: not used; the server keeps it all.
        create: make an empty graph where there is none.
        credentials: who we are.

    Raises:
        EmptyError: when there is no graph and `create` is False.
        StoreError: when it cannot be opened.
    """
    connection = Connection(address, credentials)
    try:
        _prepare(connection, create=create)
    except BaseException:
        connection.close()
        raise
    return Neo4jStore(connection)


def _prepare(connection: Connection, *, create: bool) -> None:
    found = connection.read(lambda tx: _graph(tx))
    if found is None and not create:
        raise EmptyError(
            "there is no graph here yet",
            where=connection.where,
            next_step="ingest something, then run: qoetwin graph build --window 3h",
        )
    if found is None:
        for statement in statements():
            connection.schema(statement)
        found = connection.write(_make_graph)
    version = found["version"]
    if version > VERSION:
        raise StoreError(
            "a graph of a newer version",
            where=connection.where,
            found=f"version {version}",
            expected=f"at most {VERSION}",
            next_step="use the qoetwin that wrote it, or a newer one",
        )
    while version < VERSION:
        if version not in _MIGRATIONS:
            raise StoreError(
                "a graph of an older version",
                where=connection.where,
                found=f"version {version}",
                expected=f"{VERSION}",
                next_step="build it again in an empty database",
            )
        _MIGRATIONS[version](connection)
        version += 1


def _graph(tx: neo4j.ManagedTransaction) -> Any:
    record = tx.run(f"MATCH (g:{GRAPH} {{name: 'qoetwin'}}) RETURN properties(g) AS g").single()
    return None if record is None else record["g"]


def _make_graph(tx: neo4j.ManagedTransaction) -> Any:
    tx.run(
        f"MERGE (g:{GRAPH} {{name: 'qoetwin'}})"
        " ON CREATE SET g.version = $version, g.revision = randomUUID(), g.synthetic = false, g.longest_window_s = 0",
        version=VERSION,
    ).consume()
    return _graph(tx)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Write:
    """A table on its way into the graph, or out of it."""

    shape: Shape
    table: pa.Table
    said: Provenance | None
    gone: bool = False


class Neo4jStore:
    """A `kg.store.GraphStore` in a Neo4j server."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._pending: list[_Write] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @property
    def connection(self) -> Connection:
        """What questions in Cypher are asked over."""
        return self._connection

    # Writing

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See `GraphStore.transaction`: writes are put off until the block ends."""
        if self._pending is not None:
            yield
            return
        self._pending = []
        try:
            yield
            pending = self._pending
        finally:
            self._pending = None
        self._perform(pending)

    def upsert_nodes(self, node_type: NodeType, nodes: pa.Table) -> None:
        """See `GraphStore.upsert_nodes`."""
        given = [p for p in node_type.columns if p.name in nodes.column_names]
        table = _typed(nodes, given)
        _refuse_null(table, (node_type.key,))
        key = pc.cast(table[node_type.key.name], pa.string())
        self._write(shape_of(node_type), _each_once(table, key, node_type.properties), None)

    def upsert_edges(self, edge_type: EdgeType, edges: pa.Table, provenance: Provenance) -> None:
        """See `GraphStore.upsert_edges`."""
        stated = edge_type.history is History.STATED
        given = [p for p in edge_type.columns if p.name in edges.column_names]
        table = _typed(edges, given)
        if stated:
            for name in ("valid_from", "valid_to"):
                if name not in table.column_names:
                    table = table.append_column(
                        name, pa.nulls(table.num_rows, arrow_type(_time(name).datatype))
                    )
        _refuse_null(table, (*edge_type.ends, *edge_type.identity))
        self._write(
            shape_of(edge_type),
            _each_once(table, keys_of(edge_type, table), edge_type.properties, whole=stated),
            provenance,
        )

    def put_facts(self, fact_type: FactType, facts: pa.Table, provenance: Provenance) -> None:
        """See `GraphStore.put_facts`."""
        table = _typed(facts, fact_type.columns)
        required = [value for value in fact_type.values if value.required]
        _refuse_null(table, (*fact_type.key, *required))
        with self.transaction():
            about = subjects(fact_type, table)
            if isinstance(fact_type.about, NodeType):
                self.upsert_nodes(fact_type.about, about)
            else:
                self.upsert_edges(fact_type.about, about, provenance)
            self._write(
                shape_of(fact_type),
                _each_once(table, keys_of(fact_type, table), fact_type.values, whole=True),
                provenance,
            )

    def delete(self, kind: EdgeType | FactType, keys: pa.Table) -> None:
        """See `GraphStore.delete`."""
        refuse_described(kind)
        table = _typed(keys, kind.key)
        self._write(shape_of(kind), table.append_column(KEY, keys_of(kind, table)), None, gone=True)

    def _write(self, shape: Shape, table: pa.Table, said: Provenance | None, *, gone: bool = False) -> None:
        if table.num_rows > 0:
            with self.transaction():
                assert self._pending is not None  # noqa: S101 - it is what a transaction has
                self._pending.append(_Write(shape=shape, table=table, said=said, gone=gone))

    def _perform(self, writes: Sequence[_Write]) -> None:
        """Write in as few transactions as hold `BATCH` rows each, in order."""
        parts = [
            (write, write.table.slice(begin, BATCH))
            for write in writes
            for begin in range(0, write.table.num_rows, BATCH)
        ]
        batch: list[tuple[_Write, pa.Table]] = []
        rows = 0
        for part in parts:
            if batch and rows + part[1].num_rows > BATCH:
                self._connection.write(_batch(batch))
                batch, rows = [], 0
            batch.append(part)
            rows += part[1].num_rows
        if batch:
            self._connection.write(_batch(batch))

    def prune(self, fact_type: FactType, before: datetime, window_s: int | None = None) -> int:
        """See `GraphStore.prune`. It is a transaction of its own for each batch, also within another."""
        shape = shape_of(fact_type)
        readers = {KEY: f"s.{KEY}"} | {p.name: shape.readers[p.name] for p in (*fact_type.subject, *WINDOW)}
        conditions, parameters = _in_time(Selection(window_s=window_s))
        conditions += ["s.window_start < $before", "s.window_end <= $before"]  # the index is of starts
        question = (
            f"MATCH {shape.pattern} WHERE {' AND '.join(conditions)}"
            f" WITH * LIMIT {BATCH} RETURN collect([{_list(readers)}])"
        )

        def work(tx: neo4j.ManagedTransaction) -> int:
            _lock(tx)
            found = _table(_value(tx, question, parameters | {"before": _plain(before)}), shape, readers)
            _delete(tx, shape, found[KEY].to_pylist())
            for derived in _derived(fact_type):
                _forget(tx, derived, fact_type, found)
            if found.num_rows > 0:
                _changed(tx, {})
            return int(found.num_rows)

        total = 0
        while (gone := self._connection.write(work)) > 0:
            total += gone
        return total

    # Reading

    def nodes(self, node_type: NodeType) -> pa.Table:
        """See `GraphStore.nodes`."""
        shape = shape_of(node_type)
        if node_type is POINT:  # places have no order to turn pages by
            rows = self._collected(f"MATCH {shape.alone} RETURN collect([{_list(shape.readers)}])", {})
            found = _table(rows, shape, shape.readers)
        else:
            found = self._pages(shape, shape.readers)
        return found.select(node_schema(node_type).names).sort_by(node_type.key.name)

    def edges(self, edge_type: EdgeType, *, at: datetime | None = None) -> pa.Table:
        """See `GraphStore.edges`."""
        found = self._pages_of_edges(edge_type, _edge_readers(edge_type))
        return _sorted_edges(found, edge_type, at)

    def _pages(
        self,
        shape: Shape,
        readers: Mapping[str, str],
        begin: str | None = None,
        conditions: Sequence[str] = (),
        parameters: Mapping[str, Any] = {},
    ) -> pa.Table:
        """All of a kind, in pages by their key; those whose key begins so (up to a bar), and of which more is true."""
        key = f"s.{quoted(shape.key)}"
        hint = f"USING INDEX s:{quoted(shape.name)}({quoted(shape.key)})"

        def between(after: Any, last: Any) -> str:
            return (
                f"{key} IS NOT NULL"
                + f" AND {key} > $after" * (after is not None)
                + f" AND {key} <= $last" * (last is not None)
            )

        def end_of_page(after: Any, until: Any) -> Any:
            """The last key of the page that begins after one; None: the page is the last. The server looks at the index only."""
            question = (
                f"MATCH {shape.alone} {hint} WHERE {between(after, until)} WITH {key} AS key ORDER BY key"
                f" SKIP {PAGE - 1} LIMIT 1 RETURN collect(key)"
            )
            found = self._collected(question, {"after": after, "last": until})
            return found[0] if found else None

        def page(after: Any, last: Any) -> Any:
            among = " AND ".join([between(after, last), *conditions])
            question = f"MATCH {shape.pattern} {hint} WHERE {among} RETURN collect([{_list(readers)}])"
            return self._collected(question, {**parameters, "after": after, "last": last})

        after, until = (None, None) if begin is None else (f"{begin}|", f"{begin}}}")  # the bar's successor
        parts: list[pa.Table] = []
        asked: deque[Future[Any]] = deque()
        # The server reads the next pages while this one becomes columns.
        with ThreadPoolExecutor(AHEAD) as ahead:
            while True:
                last = end_of_page(after, until)
                asked.append(ahead.submit(page, after, until if last is None else last))
                while asked and (last is None or len(asked) > AHEAD):
                    parts.append(_table(asked.popleft().result(), shape, readers))
                if last is None:
                    return pa.concat_tables(parts)
                after = last

    def _pages_of_edges(self, edge_type: EdgeType, readers: Mapping[str, str]) -> pa.Table:
        return self._pages(shape_of(edge_type), readers, f"{edge_type.source.label}|{edge_type.target.label}")

    def _edges_of(
        self, edge_type: EdgeType, end: str, nodes: pa.ChunkedArray, at: datetime | None
    ) -> pa.Table:
        """The edges at some nodes that hold, or held, without provenance; where there are many nodes, all of them."""
        shape = shape_of(edge_type)
        if len(nodes) > FEW:
            found = self._pages_of_edges(edge_type, shape.readers)
        else:
            number = 0 if end == "source" else 1
            node = shape_of(shape.ends[number][1]).by_key("k", f"n{number}")
            rows = self._collected(
                f"UNWIND $nodes AS k MATCH {node} WITH n{number} MATCH {shape.pattern}"
                f" WHERE {_OURS.format('s')} RETURN collect([{_list(shape.readers)}])",
                {"nodes": nodes.to_pylist()},
            )
            found = _table(rows, shape, shape.readers)
        if at is None:
            found = found.filter(pc.is_null(found["valid_to"])) if "valid_to" in found.column_names else found
        return _sorted_edges(found, edge_type, at)

    def facts(
        self,
        fact_type: FactType,
        selection: Selection = Selection(),  # noqa: B008 - frozen
        values: Sequence[str] | None = None,
        *,
        among: Mapping[str, Sequence[str]] | None = None,
        with_provenance: bool = False,
    ) -> pa.Table:
        """See `GraphStore.facts`."""
        shape = shape_of(fact_type)
        wanted = [value.name for value in fact_type.values] if values is None else list(values)
        columns = [*(p.name for p in fact_type.key), *wanted]
        columns += [p.name for p in PROVENANCE if with_provenance and p.name not in columns]
        readers = {name: shape.readers[name] for name in columns if name in shape.readers}
        if with_provenance:
            readers |= {_SAID.name: f"s.{_SAID.name}"}
        conditions, parameters = _in_time(selection)
        if selection.at is not None:
            conditions.append("s.window_start > $at - duration({seconds: $longest})")
            parameters["longest"] = self._connection.read(_graph)["longest_window_s"]
        for number, (name, allowed) in enumerate((among or {}).items()):
            conditions.append(f"s.{quoted(name)} IN $among{number}")
            parameters[f"among{number}"] = list(allowed)
        about = fact_type.about
        if isinstance(about, EdgeType) and about in PATH_EDGES and _chooses_paths(selection):
            paths = self._paths(about, selection).select(list(PATH))
            ends = [paths[name].unique() for name, _ in shape.ends]
            number = 0 if len(ends[0]) <= len(ends[1]) else 1
            if len(ends[number]) <= FEW:
                found = self._facts_of(
                    shape, readers, conditions, parameters, number, ends[number].to_pylist()
                )
            else:
                found = self._facts_by_window(shape, readers, conditions, parameters)
            found = found.join(paths, list(PATH), join_type="left semi")
        else:
            found = self._facts_by_window(shape, readers, conditions, parameters)
        if with_provenance:
            found = self._with_provenance(found)
        return _sorted_facts(found, fact_type).select(columns).cast(_fact_schema(fact_type, columns))

    def _facts_by_window(
        self, shape: Shape, readers: Mapping[str, str], conditions: list[str], parameters: dict[str, Any]
    ) -> pa.Table:
        """Facts, some windows at a time, as many as a page holds."""
        where = " AND ".join(["s.window_start IS NOT NULL", *conditions])
        times = ", ".join(reader(WINDOW[0], moment) for moment in ("start", "least", "most"))
        windows = self._collected(
            f"MATCH {shape.alone} WHERE {where} WITH s.window_start AS start,"
            " min(s.window_end) AS least, max(s.window_end) AS most, count(*) AS facts"
            f" ORDER BY start RETURN collect([{times}, facts])",
            parameters,
        )
        parts = [_table([], shape, readers)]
        for spanned in _spans(windows):
            (first, least, most, facts), (last, *_) = spanned[0], spanned[-1]
            if facts > PAGE:
                # Of one window, what its keys begin with is not asked for in each row: times cost the server most.
                same = {"window_start": first} | ({"window_end": least} if least == most else {})
                others = {name: each for name, each in readers.items() if name not in same}
                begin = "|".join(str(moment) for moment in same.values())
                found = self._pages(shape, others, begin, conditions, parameters)
                for name, moment in same.items():
                    repeated = pa.repeat(pa.scalar(moment, pa.int64()), found.num_rows)
                    found = found.append_column(name, repeated.cast(arrow_type(Datatype.DATETIME)))
                parts.append(found.select(list(readers)))
                continue
            among = " AND ".join(["s.window_start >= $first", "s.window_start <= $last", *conditions])
            rows = self._collected(
                f"MATCH {shape.pattern} USING INDEX s:{quoted(shape.name)}(window_start) WHERE {among}"
                f" RETURN collect([{_list(readers)}])",
                parameters | {"first": _moment(first), "last": _moment(last)},
            )
            parts.append(_table(rows, shape, readers))
        return pa.concat_tables(parts)

    def _facts_of(
        self,
        shape: Shape,
        readers: Mapping[str, str],
        conditions: list[str],
        parameters: dict[str, Any],
        number: int,
        nodes: Sequence[Any],
    ) -> pa.Table:
        """Facts about some of the nodes that they hang on, node by node."""
        end = shape.ends[number][1]
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        parts = [_table([], shape, readers)]
        for node in nodes:
            rows = self._collected(
                f"MATCH {shape_of(end).by_key('$node', f'n{number}')} MATCH {shape.pattern} {where}"
                f" RETURN collect([{_list(readers)}])",
                parameters | {"node": node},
            )
            parts.append(_table(rows, shape, readers))
        return pa.concat_tables(parts)

    def _with_provenance(self, facts: pa.Table) -> pa.Table:
        """Facts with the columns of their provenance; what they say of themselves counts more."""
        readers = {KEY: f"s.{KEY}"} | {p.name: reader(p, f"s.{quoted(p.name)}") for p in PROVENANCE}
        rows = self._collected(f"MATCH (s:{PROVENANCE_LABEL}) RETURN collect([{_list(readers)}])", {})
        cells = list(zip(*rows, strict=True)) if rows else [()] * len(readers)
        number = pc.index_in(facts[_SAID.name], pa.array(cells[0], pa.string()))
        for p, values in zip(PROVENANCE, cells[1:], strict=True):
            if p.name not in facts.column_names:
                facts = facts.append_column(p.name, column(list(values), p).take(number.combine_chunks()))
        return facts

    def pairs(self, selection: Selection = Selection()) -> pa.Table:  # noqa: B008 - frozen
        """See `GraphStore.pairs`."""
        return self._paths(MEASURES, selection)

    def _paths(self, edge_type: EdgeType, selection: Selection) -> pa.Table:
        """The paths of a kind (`PATH_EDGES`) selected, as `GraphStore.pairs` has them."""
        now = selection.as_of
        if selection.probe_ids:
            paths = self._edges_of(edge_type, "source", pa.chunked_array([list(selection.probe_ids)]), None)
        elif selection.targets:
            paths = self._edges_of(edge_type, "target", pa.chunked_array([list(selection.targets)]), None)
        else:
            readers = shape_of(edge_type).readers
            paths = self._pages_of_edges(
                edge_type, {name: readers[name] for name in ("source", "target", "af")}
            )
        found = paths.select(["source", "target", "af"]).rename_columns(list(PATH))
        targets, probes = found["target"].unique(), found["probe_id"].unique()
        hosts = (
            self._edges_of(ASSIGNED, "source", targets, now).group_by("source").aggregate([("target", "min")])
        )
        found = found.append_column(
            "target_probe_id", _looked_up(found["target"], hosts["source"], hosts["target_min"])
        )
        everybody = pa.chunked_array([probes, found["target_probe_id"].combine_chunks().drop_null()]).unique()
        places = self._edges_of(LOCATED_IN_POINT, "source", everybody, now)
        countries = self._edges_of(IN_COUNTRY, "source", everybody, now)
        networks = self._edges_of(LOCATED_IN_AS, "source", everybody, now)
        points = self.nodes(POINT) if len(places) > FEW else self._points(places["target"].unique())
        for end, probe in (("probe", "probe_id"), ("target", "target_probe_id")):
            position = _looked_up(found[probe], places["source"], places["target"])
            for name in ("latitude", "longitude"):
                values = _looked_up(position, points["position"], points[name])
                found = found.append_column(f"{end}_{name}", values)
            by_family = [_pair_key(networks["source"], networks["af"]), networks["target"]]
            found = found.append_column(
                f"{end}_asn", _looked_up(_pair_key(found[probe], found["af"]), *by_family)
            )
            found = found.append_column(
                f"{end}_country", _looked_up(found[probe], countries["source"], countries["target"])
            )
        found = self._chosen(found, selection, places, points, now)
        kinds = {"probe_id": pa.int64(), "target": pa.string(), "af": pa.int64()} | dict(PAIR_ATTRIBUTES)
        found = found.select(list(kinds)).cast(pa.schema(kinds.items()))
        return found.sort_by([(name, "ascending") for name in PATH])

    def _points(self, positions: pa.ChunkedArray) -> pa.Table:
        """The nodes of some places."""
        shape = shape_of(POINT)
        rows = Rows()
        key = rows.add(positions, POINT.key)
        found = self._collected(
            f"UNWIND $rows AS r MATCH {shape.by_key(key)} RETURN collect([{_list(shape.readers)}])",
            {"rows": rows.rows()},
        )
        return _table(found, shape, shape.readers)

    def _chosen(
        self,
        found: pa.Table,
        selection: Selection,
        places: pa.Table,
        points: pa.Table,
        now: datetime | None,
    ) -> pa.Table:
        """The paths that a selection asks for."""
        allowed: dict[str, Sequence[Any]] = {
            "probe_id": selection.probe_ids,
            "target": selection.targets,
            "probe_asn": selection.asns,
            "target_asn": selection.target_asns,
            "probe_country": selection.countries,
            "af": () if selection.af is None else (selection.af,),
        }
        for name, values in allowed.items():
            if values:
                wanted = pa.array(list(values), found.schema.field(name).type)
                found = found.filter(pc.is_in(found[name], wanted))
        if selection.area is not None:
            near = within_area(places, points, selection.area)
            found = found.filter(pc.is_in(found["probe_id"], pa.array(near, pa.int64())))
        if selection.prefixes:
            held = self._edges_of(ASSIGNED, "target", found["probe_id"].unique(), now)
            inside = within_prefixes(held, selection.prefixes)
            found = found.filter(pc.is_in(found["probe_id"], pa.array(inside, pa.int64())))
        return found

    def neighbours(
        self,
        node_type: NodeType,
        key: int | str,
        *,
        hops: int,
        at: datetime | None = None,
        most: int = MOST_NEIGHBOURS,
    ) -> list[Neighbour]:
        """See `GraphStore.neighbours`."""
        rows = Rows()
        start = rows.add(pa.array([key], arrow_type(node_type.key.datatype)), node_type.key)
        verbs = "|".join(dict.fromkeys(quoted(edge_type.name) for edge_type in EDGE_TYPES))
        edges = (
            f" MATCH (n)-[r:{verbs}]-() WHERE {_OURS.format('r')} AND {_holds(at)}"
            " WITH DISTINCT type(r) AS verb, startNode(r) AS a, endNode(r) AS b LIMIT $most"
        )
        columns = ["verb", *(column for end in "ab" for column in _label_and_key(end))]
        first = shape_of(node_type).by_key(start, "n")

        def work(tx: neo4j.ManagedTransaction) -> list[Neighbour]:
            parameters = {"rows": rows.rows(), "at": _plain(at), "most": most}
            begin = f"UNWIND $rows AS r MATCH {first} WITH n"
            seen: set[str] = set()
            found: dict[str, Neighbour] = {}
            for distance in range(1, hops + 1):
                last = distance == hops
                # Who the nodes are to the server is half of the answer, and only the next step asks for it.
                asked = columns if last else [*columns, "elementId(a)", "elementId(b)"]
                # Columns, and not rows: a list for each row keeps Python's garbage collector busy.
                collected = ", ".join(f"collect({column})" for column in asked)
                verbs, a, a_key, b, b_key, *ends = _record(
                    tx, f"{begin}{edges} RETURN {collected}", parameters
                )
                for verb, source, source_key, target, target_key in zip(
                    verbs, a, a_key, b, b_key, strict=True
                ):
                    source_label, target_label = NODE_TYPES[source].label, NODE_TYPES[target].label
                    source_key = _key_text(source_key)
                    target_key = _key_text(target_key)
                    edge = f"{verb}|{source_label}|{source_key}|{target_label}|{target_key}"
                    if edge not in found:
                        found[edge] = Neighbour(
                            edge=verb,
                            source_label=source_label,
                            source_key=source_key,
                            target_label=target_label,
                            target_key=target_key,
                            distance=distance,
                        )
                frontier = [node for node in dict.fromkeys(chain(*ends)) if node not in seen]
                seen |= set(frontier)
                if last or not frontier or len(found) >= most:
                    break
                begin = "MATCH (n) WHERE elementId(n) IN $frontier"
                # Edges met before may come again, and count for the limit.
                parameters = {"frontier": frontier, "at": _plain(at), "most": most + len(found)}
            return list(found.values())[:most]

        return self._connection.read(work)

    def holds_synthetic(self) -> bool:
        """See `GraphStore.holds_synthetic`."""

        def work(tx: neo4j.ManagedTransaction) -> bool:
            if not _graph(tx)["synthetic"]:  # nothing synthetic was ever written
                return False
            said = _value(tx, f"MATCH (p:{PROVENANCE_LABEL} {{synthetic: true}}) RETURN collect(p.{KEY})", {})
            for kind in (*EDGE_TYPES, *FACT_TYPES):
                shape = shape_of(kind)
                own = isinstance(kind, EdgeType) or "synthetic" in {p.name for p in shape.stored}
                condition = "s.synthetic" if own else f"s.{_SAID.name} IN $said"
                question = (
                    f"MATCH {shape.alone} WHERE s.{KEY} IS NOT NULL AND {condition} RETURN true LIMIT 1"
                )
                if tx.run(question, said=said).single() is not None:
                    return True
            return False

        return self._connection.read(work)

    def counts(self) -> dict[str, int]:
        """See `GraphStore.counts`. In a database that is shared, nodes of others count too; edges do not."""

        def work(tx: neo4j.ManagedTransaction) -> dict[str, int]:
            found: dict[str, int] = {}
            kinds: tuple[Kind, ...] = (*NODE_TYPES, *EDGE_TYPES, *FACT_TYPES)
            for kind in kinds:
                shape = shape_of(kind)
                if isinstance(kind, EdgeType):
                    labels = f"{kind.source.label}|{kind.target.label}|"
                    question = f"MATCH {shape.alone} WHERE s.{KEY} STARTS WITH $labels RETURN count(s)"
                    found[kind.table] = _value(tx, question, {"labels": labels})
                else:
                    found[kind.label] = _value(tx, f"MATCH {shape.alone} RETURN count(s)", {})
            return found

        return self._connection.read(work)

    def revision(self) -> str:
        """See `GraphStore.revision`."""
        return str(self._connection.read(_graph)["revision"])

    def _collected(self, question: str, parameters: Mapping[str, Any]) -> Any:
        return self._connection.read(lambda tx: _value(tx, question, parameters))


# Writing, inside a transaction


def _batch(parts: Sequence[tuple[_Write, pa.Table]]) -> Callable[[neo4j.ManagedTransaction], None]:
    """The unit of work that writes some tables."""

    def work(tx: neo4j.ManagedTransaction) -> None:
        _lock(tx)
        changes = [_upsert(tx, write, table) for write, table in parts]
        if any(changes):
            _changed(
                tx,
                {
                    "synthetic": any(_synthetic(write, table) for write, table in parts),
                    "longest": max(_longest_s(write, table) for write, table in parts),
                },
            )

    return work


def _lock(tx: neo4j.ManagedTransaction) -> None:
    """Wait for other writers, and keep them waiting until this transaction ends."""
    found = tx.run(f"MATCH (g:{GRAPH} {{name: 'qoetwin'}}) SET g.locked = true RETURN g.version").single()
    if found is None:
        raise StoreError(
            "the graph has gone", expected="what was there when it was opened", next_step="open it again"
        )


def _changed(tx: neo4j.ManagedTransaction, what: Mapping[str, Any]) -> None:
    tx.run(
        f"MATCH (g:{GRAPH} {{name: 'qoetwin'}}) SET g.revision = randomUUID(), g.synthetic = g.synthetic OR $synthetic,"
        " g.longest_window_s = CASE WHEN g.longest_window_s < $longest THEN $longest ELSE g.longest_window_s END",
        {"synthetic": False, "longest": 0} | dict(what),
    ).consume()


def _upsert(tx: neo4j.ManagedTransaction, write: _Write, table: pa.Table) -> bool:
    """Write the new and the changed rows of a table, or delete them; says whether there were any."""
    shape, kind = write.shape, write.shape.kind
    if write.gone:
        return _delete_rows(tx, shape, table)
    gone = False
    if isinstance(kind, EdgeType):
        for (_, node_type), end in zip(shape.ends, kind.ends, strict=True):
            nodes = pa.table({node_type.key.name: table[end.name].unique()})
            _upsert(tx, _Write(shape=shape_of(node_type), table=nodes, said=None), nodes)
        if kind.history is History.STATED:
            gone = _delete_unsaid(tx, shape, kind, table, write.table)
    given = [p for p in shape.stored if p.name in table.column_names]
    old, there = _existing(tx, shape, given, table)
    whole = isinstance(kind, FactType)
    merged = {
        p.name: (table[p.name] if whole or p.name == "valid_to" else _merged(table[p.name], old[p.name], p))
        for p in given
    }
    differs = pc.invert(there)
    for name, value in merged.items():
        differs = pc.or_(differs, _differs(value, old[name]))
    columns = {name: table[name] for name in table.column_names} | merged
    result = pa.table(columns)
    said = _said(tx, write)
    new, changed = result.filter(pc.invert(there)), result.filter(pc.and_(there, differs))
    _create(tx, shape, given, new, said)
    _set(tx, shape, given, changed, said)
    if isinstance(kind, FactType):
        written = pa.concat_tables([new, changed])
        for derived in _derived(kind):
            _forget(tx, derived, kind, written)
    return gone or new.num_rows + changed.num_rows > 0


def _key_column(shape: Shape, table: pa.Table, rows: Rows) -> str:
    """Add the key of each row; returns its expression."""
    kind = shape.kind
    if isinstance(kind, NodeType):
        return rows.add(table[shape.key], kind.key)
    return rows.add(table[KEY], _KEY)


def _existing(
    tx: neo4j.ManagedTransaction, shape: Shape, given: Sequence[Property], table: pa.Table
) -> tuple[dict[str, pa.Array], pa.Array]:
    """What is kept under the keys of a table: its properties, row by row, and whether it is there."""
    rows = Rows()
    key = _key_column(shape, table, rows)
    number = rows.add(pa.array(np.arange(table.num_rows)), _NUMBER)
    readers = {p.name: reader(p, f"s.{quoted(p.name)}") for p in given}
    found = _value(
        tx,
        f"UNWIND $rows AS r MATCH {shape.by_key(key)} RETURN collect([{_list({'': number} | readers)}])",
        {"rows": rows.rows()},
    )
    cells = list(zip(*found, strict=True)) if found else [()] * (len(given) + 1)
    place = np.full(table.num_rows, -1)
    place[list(cells[0])] = np.arange(len(found))
    there = place >= 0
    index = pa.array(place, mask=~there)
    old = {p.name: column(list(values), p).take(index) for p, values in zip(given, cells[1:], strict=True)}
    return old, pa.array(there)


_OURS = f"coalesce({{}}.{KEY}, '') <> ''"
"""That a relationship is ours, for patterns whose nodes are bound: at `IS NOT NULL` the planner may walk the index instead."""

_NUMBER = Property(name="number", datatype=MEASURES.identity[0].datatype)


def _create(
    tx: neo4j.ManagedTransaction,
    shape: Shape,
    given: Sequence[Property],
    table: pa.Table,
    said: Mapping[str, Any],
) -> None:
    if table.num_rows == 0:
        return
    rows = Rows()
    key = _key_column(shape, table, rows)
    found: list[str] = []
    for i, (name, node_type) in enumerate(shape.ends):
        end = rows.add(table[name], node_type.key)
        found.append(f"MATCH {shape_of(node_type).by_key(end, f'n{i}')}")
    values = [f"{quoted(shape.key)}: {key}"]
    values += [f"{quoted(p.name)}: {rows.add(table[p.name], p)}" for p in given]
    values += [f"{quoted(name)}: $said.{quoted(name)}" for name in said]
    new = shape.joined([f"(n{i})" for i in range(len(shape.ends))], f" {{{', '.join(values)}}}")
    statement = f"UNWIND $rows AS r {' '.join(found)} CREATE {new}"
    tx.run(statement, rows=rows.rows(), said=dict(said)).consume()


def _set(
    tx: neo4j.ManagedTransaction,
    shape: Shape,
    given: Sequence[Property],
    table: pa.Table,
    said: Mapping[str, Any],
) -> None:
    if table.num_rows == 0:
        return
    rows = Rows()
    key = _key_column(shape, table, rows)
    values = [f"s.{quoted(p.name)} = {rows.add(table[p.name], p)}" for p in given]
    values += [f"s.{quoted(name)} = $said.{quoted(name)}" for name in said]
    tx.run(
        f"UNWIND $rows AS r MATCH {shape.by_key(key)} SET {', '.join(values)}",
        rows=rows.rows(),
        said=dict(said),
    ).consume()


def _said(tx: neo4j.ManagedTransaction, write: _Write) -> dict[str, Any]:
    """The properties that say where it is from: of an edge all of them, of a fact the key of a node that has them."""
    if write.said is None:
        return {}
    said = {name: _plain(value) for name, value in asdict(write.said).items()}
    if isinstance(write.shape.kind, EdgeType):
        return {p.name: said[p.name] for p in PROVENANCE}
    key = hashlib.sha256(repr(tuple(said[p.name] for p in PROVENANCE)).encode()).hexdigest()[:32]
    tx.run(
        f"MERGE (p:{PROVENANCE_LABEL} {{{KEY}: $key}}) ON CREATE SET p += $said", key=key, said=said
    ).consume()
    return {_SAID.name: key}


def _delete(tx: neo4j.ManagedTransaction, shape: Shape, gone: Sequence[str]) -> None:
    if gone:
        detach = "" if shape.relationship else "DETACH "
        statement = f"UNWIND $gone AS k MATCH {shape.by_key('k')} {detach}DELETE s"
        tx.run(statement, gone=list(gone)).consume()


def _delete_rows(tx: neo4j.ManagedTransaction, shape: Shape, table: pa.Table) -> bool:
    """Delete edges or facts, and what is derived from them; says whether there were any."""
    _, there = _existing(tx, shape, (), table)
    gone = table.filter(there)
    _delete(tx, shape, gone[KEY].to_pylist())
    if isinstance(shape.kind, FactType):
        for derived in _derived(shape.kind):
            _forget(tx, derived, shape.kind, gone)
    return bool(gone.num_rows > 0)


def _delete_unsaid(
    tx: neo4j.ManagedTransaction, shape: Shape, kind: EdgeType, table: pa.Table, all_said: pa.Table
) -> bool:
    """Delete the edges of the owners in a table (and identity) that the whole of what is written does not say."""
    number = 0 if kind.owner == "source" else 1
    name, node_type = shape.ends[number]
    owner = [name, *(p.name for p in kind.identity)]
    owners = table.select(owner).group_by(owner).aggregate([])
    rows = Rows()
    key = rows.add(owners[name], node_type.key)
    same = " AND ".join(f"s.{quoted(p.name)} = {rows.add(owners[p.name], p)}" for p in kind.identity)
    # The other end is told by its label in a way that no index knows: the planner must begin at the owner. collect leaves nulls out.
    other = shape.ends[1 - number][1].label
    ends = ("(o)", "(x)") if number == 0 else ("(x)", "(o)")
    wanted = " AND ".join(filter(None, [f"'{other}' IN labels(x)", same]))
    found = _value(
        tx,
        f"UNWIND $rows AS r MATCH {shape_of(node_type).by_key(key, 'o')} WITH r, o"
        f" UNWIND [{ends[0]}-[s:{quoted(shape.name)}]->{ends[1]} WHERE {wanted} | s.{KEY}] AS k RETURN collect(k)",
        {"rows": rows.rows()},
    )
    kept = pa.array(found, pa.string())
    gone = kept.filter(pc.invert(pc.is_in(kept, all_said[KEY].combine_chunks()))).to_pylist()
    _delete(tx, shape, gone)
    return len(gone) > 0


def _derived(fact_type: FactType) -> list[FactType]:
    """What goes when a fact of this type changes."""
    return [
        derived
        for derived in FACT_TYPES
        if derived.derived_from == fact_type.label and derived.about is fact_type.about
    ]


def _forget(tx: neo4j.ManagedTransaction, derived: FactType, fact_type: FactType, changed: pa.Table) -> None:
    """Delete what is derived from facts that changed; where nothing is derived from any in their windows, look no further."""
    if changed.num_rows == 0:
        return
    starts = [_plain(start) for start in changed["window_start"].unique().to_pylist()]
    any_there = f"MATCH {shape_of(derived).alone} WHERE s.window_start IN $starts RETURN true LIMIT 1"
    if tx.run(any_there, starts=starts).single() is not None:
        _delete_derived(tx, derived, subject_and_window(fact_type, changed).to_pylist())


def _delete_derived(tx: neo4j.ManagedTransaction, derived: FactType, starts: Sequence[str]) -> None:
    if starts:
        shape = shape_of(derived)
        measured = " AND s.origin = $measured" if "origin" in {p.name for p in shape.stored} else ""
        detach = "" if shape.relationship else "DETACH "
        tx.run(
            f"UNWIND $starts AS start MATCH {shape.alone} {shape.by_index('s')} WHERE s.{KEY} STARTS WITH start{measured} {detach}DELETE s",
            starts=list(starts),
            measured=MEASURED,
        ).consume()


def _synthetic(write: _Write, table: pa.Table) -> bool:
    own = "synthetic" in table.column_names and bool(pc.any(table["synthetic"]).as_py())
    return own or (write.said is not None and write.said.synthetic)


def _longest_s(write: _Write, table: pa.Table) -> int:
    if not isinstance(write.shape.kind, FactType):
        return 0
    length = pc.subtract(pc.cast(table["window_end"], pa.int64()), pc.cast(table["window_start"], pa.int64()))
    return -(-int(pc.max(length).as_py()) // 1_000_000)


# Columns


def _typed(table: pa.Table, columns: Sequence[Property]) -> pa.Table:
    """The columns of the schema, with its types.

    Raises:
        StoreError: when one is not there, or has another type.
    """
    schema = arrow_schema(columns)
    try:
        return table.select(schema.names).cast(schema)
    except (KeyError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise StoreError("cannot write the graph: not its columns", found=str(error)) from error


def _refuse_null(table: pa.Table, columns: Sequence[Property]) -> None:
    for p in columns:
        if p.name not in table.column_names or table[p.name].null_count > 0:
            raise StoreError(
                "cannot write the graph: a row without what it must have",
                where=p.name,
                expected="no null there",
            )


def _time(name: str) -> Property:
    return next(p for edge_type in EDGE_TYPES for p in edge_type.properties if p.name == name)


def _each_once(
    table: pa.Table, key: pa.Array | pa.ChunkedArray, properties: Sequence[Property], *, whole: bool = False
) -> pa.Table:
    """Rows with their `key`; of rows with the same, one that says what they say one after the other."""
    if KEY in table.column_names:
        raise StoreError("cannot write the graph: a column that no store has", found=KEY)
    table = table.append_column(KEY, key)
    if len(key.unique()) == table.num_rows:
        return table
    how = {Merge.LAST: "last", Merge.LEAST: "min", Merge.GREATEST: "max"}
    kinds = {p.name: how[p.merge] for p in properties if not whole}
    skip = pc.ScalarAggregateOptions(skip_nulls=not whole)
    others = [name for name in table.column_names if name != KEY]
    merged = table.group_by(KEY, use_threads=False).aggregate(
        [(name, kinds.get(name, "last"), skip) for name in others]
    )
    return merged.rename_columns(
        [KEY if name == KEY else name.rpartition("_")[0] for name in merged.column_names]
    )


def _merged(new: pa.ChunkedArray, old: pa.Array, p: Property) -> pa.ChunkedArray:
    """A value that is written again; unknown never erases."""
    if p.merge is Merge.LAST:
        return pc.coalesce(new, old)
    choose = pc.min_element_wise if p.merge is Merge.LEAST else pc.max_element_wise
    if p.datatype is Datatype.DATETIME:  # Arrow compares no times with a zone
        return choose(pc.cast(new, pa.int64()), pc.cast(old, pa.int64())).cast(new.type)
    return choose(new, old)


def _differs(one: pa.ChunkedArray, other: pa.Array) -> pa.ChunkedArray:
    """Where two columns say another thing; unknown is the same as unknown."""
    return pc.or_(pc.xor(pc.is_null(one), pc.is_null(other)), pc.fill_null(pc.not_equal(one, other), False))


def _table(rows: Sequence[Sequence[Any]], shape: Shape, readers: Mapping[str, str]) -> pa.Table:
    """Rows that the server collected, as columns."""
    ends = dict(shape.ends)
    kept = {p.name: p for p in (*shape.stored, *PROVENANCE, _SAID, _KEY)}
    if isinstance(shape.kind, NodeType):
        kept[shape.key] = shape.kind.key
    cells = list(zip(*rows, strict=True)) if rows else [()] * len(readers)
    return pa.table(
        {
            name: column(list(values), ends[name].key if name in ends else kept[name])
            for name, values in zip(readers, cells, strict=True)
        }
    )


def _looked_up(wanted: pa.ChunkedArray, known: pa.ChunkedArray, values: pa.ChunkedArray) -> pa.ChunkedArray:
    """The value of each key, null where it is not known; of a key that is there twice the last."""
    kept = (
        pa.table({"key": known, "value": values})
        .group_by("key", use_threads=False)
        .aggregate([("value", "last")])
    )
    index = pc.index_in(wanted, kept["key"].combine_chunks(), skip_nulls=True)
    return kept["value_last"].take(index)


def _pair_key(one: pa.ChunkedArray, other: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(pc.cast(one, pa.string()), pc.cast(other, pa.string()), " ")


def _sorted_edges(found: pa.Table, edge_type: EdgeType, at: datetime | None) -> pa.Table:
    if at is not None and edge_type.history is not History.NONE:
        found = holding(found, edge_type, pa.scalar(at))
    names = [name for name in edge_schema(edge_type).names if name in found.column_names]
    order = [(p.name, "ascending") for p in (*edge_type.ends, *edge_type.identity)]
    if edge_type.history is History.STATED:  # unknown comes first
        since = pc.fill_null(pc.cast(found["valid_from"], pa.int64()), np.iinfo(np.int64).min)
        found, order = found.append_column("", since), [*order, ("", "ascending")]
    return found.sort_by(order).select(names)


def _sorted_facts(found: pa.Table, fact_type: FactType) -> pa.Table:
    length = pc.subtract(found["window_end"], found["window_start"])
    order = ["window_start", *(p.name for p in (*fact_type.subject, *fact_type.identity))]
    return found.append_column("", length).sort_by([(name, "ascending") for name in ("", *order)])


def _fact_schema(fact_type: FactType, columns: Sequence[str]) -> pa.Schema:
    own, said = fact_schema(fact_type), arrow_schema(PROVENANCE)
    return pa.schema([own.field(n) if n in own.names else said.field(n) for n in columns])


# Questions


def _record(tx: neo4j.ManagedTransaction, question: str, parameters: Mapping[str, Any]) -> Any:
    """The one row of a question."""
    return tx.run(question, dict(parameters)).single(strict=True)


def _value(tx: neo4j.ManagedTransaction, question: str, parameters: Mapping[str, Any]) -> Any:
    """The one value of a question's one row."""
    return _record(tx, question, parameters)[0]


def _list(readers: Mapping[str, str]) -> str:
    return ", ".join(readers.values())


def _edge_readers(edge_type: EdgeType) -> dict[str, str]:
    return shape_of(edge_type).readers | {p.name: reader(p, f"s.{quoted(p.name)}") for p in PROVENANCE}


def _in_time(selection: Selection) -> tuple[list[str], dict[str, Any]]:
    """Conditions on the window of `s`, and their parameters."""
    conditions: list[str] = []
    parameters: dict[str, Any] = {}
    for name, value, condition in (
        ("start", selection.start, "s.window_start >= $start"),
        ("end", selection.end, "s.window_start < $end"),
        ("at", selection.at, "s.window_start <= $at AND s.window_end > $at"),
        ("window_s", selection.window_s, "s.window_end = s.window_start + duration({seconds: $window_s})"),
    ):
        if value is not None:
            conditions.append(condition)
            parameters[name] = _plain(value)
    return conditions, parameters


def _plain(value: Any) -> Any:
    """A parameter; times by their offset from UTC, as Neo4j tells the same moment in two zones apart."""
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def _chooses_paths(selection: Selection) -> bool:
    return any(
        (
            selection.probe_ids,
            selection.targets,
            selection.asns,
            selection.target_asns,
            selection.countries,
            selection.prefixes,
            selection.area is not None,
            selection.af is not None,
        )
    )


_Window = tuple[int, int, int, int]
"""Start of windows, their least and their greatest end, and how many facts they have."""


def _spans(windows: Sequence[_Window]) -> Iterator[list[_Window]]:
    """Neighbouring windows that fit in a page together; one that alone is too many is alone."""
    span: list[_Window] = []
    total = 0
    for window in windows:
        if span and total + window[-1] > PAGE:
            yield span
            span, total = [], 0
        span.append(window)
        total += window[-1]
    if span:
        yield span


def _moment(microseconds: int) -> datetime:
    moment: datetime = pa.scalar(microseconds, arrow_type(WINDOW[0].datatype)).as_py()
    return moment.astimezone(UTC)


def _holds(at: datetime | None) -> str:
    """Whether the relationship `r` holds at `$at`; None: stated ones still, others whenever."""
    if at is None:
        return "r.valid_to IS NULL"
    return (
        "(r.valid_from IS NULL OR r.valid_from <= $at) AND (r.valid_to IS NULL OR r.valid_to > $at)"
        " AND (r.first_seen IS NULL OR r.first_seen <= $at) AND (r.last_seen IS NULL OR r.last_seen >= $at)"
    )


def _label_and_key(node: str) -> tuple[str, str]:
    """Which of `NODE_TYPES` a node is, and its key."""
    label = " ".join(f"WHEN {node}:{quoted(n.label)} THEN {i}" for i, n in enumerate(NODE_TYPES))
    key = " ".join(
        f"WHEN {node}:{quoted(n.label)} THEN {reader(n.key, f'{node}.{quoted(n.key.name)}')}"
        for n in NODE_TYPES
    )
    return f"CASE {label} END", f"CASE {key} END"


def _key_text(key: Any) -> str:
    """A node's key, as `_label_and_key` gave it, as text; a place is a list there."""
    return point_text(*key) if isinstance(key, list) else str(key)
