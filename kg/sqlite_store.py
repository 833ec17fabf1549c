"""The default store: one SQLite file, in WAL mode (many readers while one writes).

`kg.sqlite_layout` says how it lies there. All access is through ADBC: Arrow columns are bound and read in C, and no row is
ever a Python object. The driver brings its own SQLite: no other one (Python's sqlite3) may have the same file open in the
same process, for a process has its locks on a file once, and either would let go of the other's.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import adbc_driver_manager
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from adbc_driver_sqlite import dbapi

from domain.credentials import Credentials
from domain.errors import EmptyError, StoreError
from domain.provenance import Provenance
from domain.selection import Selection
from kg.schema import (
    ASSIGNED,
    EDGE_TYPES,
    FACT_TYPES,
    IN_COUNTRY,
    LOCATED_IN_AS,
    LOCATED_IN_POINT,
    MEASURES,
    NODE_TYPES,
    PATH_EDGES,
    POINT,
    PROVENANCE,
    VERSION,
    WINDOW,
    Datatype,
    EdgeType,
    FactType,
    History,
    NodeType,
    Property,
)
from kg.selecting import within_area, within_prefixes
from kg.sqlite_layout import (
    SINCE_EVER,
    ddl,
    delete,
    derived_from,
    derived_go,
    fact_key,
    holds,
    name,
    names,
    put,
    upsert,
)
from kg.sqlite_migrations import MIGRATIONS
from kg.store import MOST_NEIGHBOURS, PAIR_ATTRIBUTES, Neighbour
from kg.tables import TIME, arrow_schema, arrow_type, refuse_described, subjects

GRAPH_NAME = "graph.sqlite"

PATIENCE_S = 30.0
"""How long a writer waits for another one."""

Columns = Mapping[str, pa.DataType]
Parameters = Sequence[int | float | str | None]

_ANY = Selection()


def open_home(
    address: str, home: Path, *, create: bool, credentials: Credentials | None = None
) -> SQLiteStore:
    """The SQLite graph of a home (see `kg.store.open_store`); there is one a home, and it asks for no password."""
    del address, credentials
    return SQLiteStore(home / GRAPH_NAME, create=create)


class SQLiteStore:
    """A `kg.store.GraphStore` in one SQLite file.

    A file of an older version is brought to this one when it is opened, in one transaction. A file that may not be
    written is read as it is.

    Args:
        path: the file.
        create: make an empty graph where there is none.
        patience_s: how long to wait for another writer.

    Raises:
        EmptyError: when there is no graph and `create` is False.
        StoreError: when it cannot be opened.
    """

    def __init__(self, path: Path, *, create: bool, patience_s: float = PATIENCE_S) -> None:
        self._path = path
        self._writing = self._reading = False
        self._last_paths: tuple[object, pa.Table] | None = None
        with self._mapped("cannot open the graph"):
            there = path.exists()
            if not there and not create:
                raise self._nothing_here()
            if create:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._read_only = there and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK))
            self._db = dbapi.connect(self._address(create=create), autocommit=True)
        try:
            self._prepare(create=create, patience_s=patience_s)
        except BaseException:
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
        if self._writing:
            yield
            return
        self._writing = True
        try:
            with self._changing_file():
                self._changes_before = self._changes()
                yield
                if self._changes() != self._changes_before:
                    self._execute("UPDATE graph SET revision = revision + 1")
        finally:
            self._writing = False

    def upsert_nodes(self, node_type: NodeType, nodes: pa.Table) -> None:
        """See `GraphStore.upsert_nodes`."""
        columns = [p for p in node_type.columns if p.name in nodes.column_names]
        self._refuse_nulls(nodes, [node_type.key.name])
        rows = self._bound(nodes, columns)
        with self.transaction():
            self._write(upsert(node_type.label, columns, (node_type.key,), provenance=False), rows)

    def upsert_edges(self, edge_type: EdgeType, edges: pa.Table, provenance: Provenance) -> None:
        """See `GraphStore.upsert_edges`."""
        stated = edge_type.history is History.STATED
        self._refuse_nulls(edges, [p.name for p in (*edge_type.ends, *edge_type.identity)])
        if stated:
            edges = _with_bounds(edges)
        rows = self._bound(edges, [p for p in edge_type.columns if p.name in edges.column_names])
        if stated:
            rows = _replaced(rows, "valid_from", pc.fill_null(rows["valid_from"], SINCE_EVER))
        with self.transaction():
            self._make_ends(edge_type, rows)
            if stated:
                self._forget_other_history(edge_type, rows)
            columns = [p for p in edge_type.columns if p.name in rows.column_names]
            statement = upsert(edge_type.table, columns, edge_type.key, provenance=True)
            self._write(
                statement, rows.append_column("provenance", self._provenance(provenance, rows.num_rows))
            )
            self._note_synthetic(provenance.synthetic)

    def _make_ends(self, edge_type: EdgeType, rows: pa.Table) -> None:
        for end, node_type in zip(edge_type.ends, (edge_type.source, edge_type.target), strict=True):
            self.upsert_nodes(node_type, pa.table({node_type.key.name: rows[end.name].unique()}))

    def _forget_other_history(self, edge_type: EdgeType, rows: pa.Table) -> None:
        """Delete the edges of the owners of these rows that are not among them."""
        key = [p.name for p in edge_type.key]
        owner = [edge_type.owner or "source", *(p.name for p in edge_type.identity)]
        table, stated = name(edge_type.table), name(f"stated {edge_type.table}")
        with self._beside_the_graph():
            self._execute(f"DROP TABLE IF EXISTS temp.{stated}")
            self._execute(f"CREATE TEMP TABLE {stated} AS SELECT {names(key)} FROM {table} LIMIT 0")
            self._write(f"INSERT INTO {stated} VALUES ({', '.join('?' * len(key))})", rows.select(key))
            self._execute(f"CREATE INDEX temp.{name('key of ' + stated)} ON {stated} ({names(key)})")
        self._execute(
            f"DELETE FROM {table} WHERE ({names(key)}) IN (SELECT {', '.join(f'edge.{name(c)}' for c in key)}"
            f" FROM (SELECT DISTINCT {names(owner)} FROM {stated}) stated"
            f" CROSS JOIN {table} edge ON {_same('edge', 'stated', owner)}"
            f" WHERE NOT EXISTS (SELECT 1 FROM {stated} kept WHERE {_same('edge', 'kept', key)}))"
        )
        self._execute(f"DROP TABLE {stated}")

    def put_facts(self, fact_type: FactType, facts: pa.Table, provenance: Provenance) -> None:
        """See `GraphStore.put_facts`."""
        self._refuse_nulls(facts, [p.name for p in fact_type.columns if p.required])
        rows = self._bound(facts, fact_type.columns)
        about = fact_type.about
        with self.transaction():
            columns: dict[str, pa.ChunkedArray] = {"window": self._window_numbers(rows)}
            if isinstance(about, EdgeType):
                columns["subject"] = self._edge_numbers(fact_type, about, rows, provenance)
            else:
                self.upsert_nodes(about, subjects(fact_type, rows))
                columns |= {p.name: rows[p.name] for p in fact_type.subject}
            for p in (*fact_type.identity, *fact_type.values):
                is_word = p.datatype is Datatype.STRING
                columns[p.name] = self._word_numbers(rows[p.name]) if is_word else rows[p.name]
            columns["provenance"] = self._provenance(provenance, rows.num_rows)
            numbered = pa.table(columns)
            # A B-tree takes rows in the order of its key several times as fast as in any other.
            ranks = [_dense(numbered[column])[1] for column in fact_key(fact_type)]
            with self._derived_going(fact_type, pc.unique(columns["window"])):
                self._write(put(fact_type), _in_order(numbered, ranks))
            own = "synthetic" in rows.column_names and pc.any(facts["synthetic"]).as_py()
            self._note_synthetic(bool(own) or provenance.synthetic)

    def prune(self, fact_type: FactType, before: datetime, window_s: int | None = None) -> int:
        """See `GraphStore.prune`. What is derived from a deleted fact, and about the same, goes with it."""
        where, values = _window_filter(Selection(window_s=window_s))
        ended = f'SELECT id FROM "window" WHERE window_end <= ? AND {where}'
        with self.transaction():
            windows = self._query(ended, {"id": pa.int64()}, (_microseconds(before), *values))["id"]
            with self._derived_going(fact_type, windows):
                self._execute(
                    f'DELETE FROM {name(fact_type.label)} WHERE "window" IN (SELECT value FROM json_each(?))',
                    (_json(windows),),
                )
                return self._number("SELECT changes()")

    def delete(self, kind: EdgeType | FactType, keys: pa.Table) -> None:
        """See `GraphStore.delete`."""
        refuse_described(kind)
        rows = self._bound(keys, kind.key)
        with self.transaction():
            if isinstance(kind, EdgeType):
                if "valid_from" in rows.column_names:
                    rows = _replaced(rows, "valid_from", pc.fill_null(rows["valid_from"], SINCE_EVER))
                same = " AND ".join(f"{name(p.name)} = ?" for p in kind.key)
                self._write(f"DELETE FROM {name(kind.table)} WHERE {same}", rows)
                return
            number = 'SELECT id FROM "window" WHERE window_start = ? AND window_end = ?'
            windows = pc.unique(self._each(number, rows.select([p.name for p in WINDOW])))
            with self._derived_going(kind, windows):
                self._write(delete(kind), rows)

    @contextmanager
    def _derived_going(self, fact_type: FactType, windows: pa.Array) -> Iterator[None]:
        """While facts of these windows change or go, what is derived from them goes with them.

        SQLite writes a table that has triggers at half the speed: they are there only where they have something to do.
        """
        triggers: dict[str, str] = {}
        for derived in derived_from(fact_type):
            some = f'SELECT 1 FROM {name(derived.label)} WHERE "window" IN (SELECT value FROM json_each(?))'
            if self._number(f"SELECT EXISTS ({some})", (_json(windows),)):
                triggers |= derived_go(fact_type, derived)
        with self._beside_the_graph():
            for statement in triggers.values():
                self._execute(statement)
        yield
        with self._beside_the_graph():
            for trigger in triggers:
                self._execute(f"DROP TRIGGER IF EXISTS temp.{trigger}")

    # Numbers for what repeats

    def _provenance(self, provenance: Provenance, times: int) -> pa.Array:
        """The number under which a provenance is kept, repeated. A new one that nothing has yet is no change of the graph."""
        values = [_bindable(getattr(provenance, p.name)) for p in PROVENANCE]
        same = " AND ".join(f"{name(p.name)} IS ?" for p in PROVENANCE)
        with self._beside_the_graph():
            self._execute(
                f"INSERT INTO provenance ({names(p.name for p in PROVENANCE)}) SELECT {', '.join('?' * len(values))}"
                f" WHERE NOT EXISTS (SELECT 1 FROM provenance WHERE {same})",
                (*values, *values),
            )
        number = self._number(f"SELECT id FROM provenance WHERE {same}", values)
        return pa.array(np.full(times, number, np.int64))

    def _window_numbers(self, rows: pa.Table) -> pa.Array:
        """The number of each row's window; new windows get one."""
        which, distinct = _distinct(rows.select([p.name for p in WINDOW]))
        self._write(
            'INSERT INTO "window" (window_start, window_end) VALUES (?, ?) ON CONFLICT DO NOTHING', distinct
        )
        return self._each('SELECT id FROM "window" WHERE window_start = ? AND window_end = ?', distinct).take(
            which
        )

    def _word_numbers(self, column: pa.ChunkedArray) -> pa.Array:
        """The number of each word; new words get one, and null has none."""
        words = column.unique().drop_null()
        distinct = pa.table({"word": words})
        self._write("INSERT INTO word (word) VALUES (?) ON CONFLICT DO NOTHING", distinct)
        return self._each("SELECT id FROM word WHERE word = ?", distinct).take(_place(column, words))

    def _edge_numbers(
        self, fact_type: FactType, about: EdgeType, rows: pa.Table, provenance: Provenance
    ) -> pa.Array:
        """The number of the edge that each row is about; new edges are made."""
        key = [p.name for p in (*about.ends, *about.identity)]
        which, distinct = _distinct(rows.select([p.name for p in fact_type.subject]))
        distinct = distinct.rename_columns(key)
        same = " AND ".join(f"{name(column)} = ?" for column in key)
        known = f"SELECT (SELECT id FROM {name(about.table)} WHERE {same})"
        numbers = self._each(known, distinct)
        if numbers.null_count:
            new = distinct.filter(pc.is_null(numbers))
            last = self._number(f"SELECT ifnull(max(id), 0) FROM {name(about.table)}")
            ids = pa.array(np.arange(last + 1, last + 1 + new.num_rows))
            numbers = pc.replace_with_mask(numbers, pc.is_null(numbers), ids)
            self._make_ends(about, new)
            self._write(
                f"INSERT INTO {name(about.table)} ({names([*key, 'id', 'provenance'])})"
                f" VALUES ({', '.join('?' * (len(key) + 2))})",
                new.append_column("id", ids).append_column(
                    "provenance", self._provenance(provenance, new.num_rows)
                ),
            )
        return numbers.take(which)

    def _note_synthetic(self, synthetic: bool) -> None:
        if synthetic:
            self._execute("UPDATE graph SET synthetic = 1 WHERE synthetic = 0")

    # Reading

    def nodes(self, node_type: NodeType) -> pa.Table:
        """See `GraphStore.nodes`."""
        columns = _types(arrow_schema(node_type.columns))
        key = name(node_type.key.name)
        return self._query(f"SELECT {names(columns)} FROM {name(node_type.label)} ORDER BY {key}", columns)

    def edges(self, edge_type: EdgeType, *, at: datetime | None = None) -> pa.Table:
        """See `GraphStore.edges`."""
        columns = _types(arrow_schema(edge_type.columns))
        read = names(columns).replace('"valid_from"', f"nullif(valid_from, {SINCE_EVER})")
        held, values = ("TRUE", ()) if at is None else holds(edge_type, _microseconds(at))
        with self._snapshot():
            found = self._query(
                f"SELECT {read}, provenance FROM {name(edge_type.table)} WHERE {held}"
                f" ORDER BY {names(p.name for p in edge_type.key)}",
                columns | {"provenance": pa.int64()},
                values,
            )
            said = self._provenances(found["provenance"])
        found = found.select(list(columns))
        for p in PROVENANCE:
            found = found.append_column(p.name, said[p.name])
        return found

    def facts(
        self,
        fact_type: FactType,
        selection: Selection = _ANY,
        values: Sequence[str] | None = None,
        *,
        among: Mapping[str, Sequence[str]] | None = None,
        with_provenance: bool = False,
    ) -> pa.Table:
        """See `GraphStore.facts`."""
        own = {p.name: p for p in fact_type.values}
        wanted = list(own) if values is None else list(values)
        wanted += [p.name for p in PROVENANCE if with_provenance and p.name not in wanted]
        from_provenance = [column for column in wanted if column not in own]
        identity = [p.name for p in fact_type.identity]
        with self._snapshot():
            windows = self._windows(selection)
            words = self._query("SELECT id, word FROM word ORDER BY word", _WORD).combine_chunks()
            about = self._about(fact_type, selection)
            where, parameters = self._fact_filter(fact_type, selection, windows, words, about, among or {})
            columns = _stored(fact_type, wanted)
            columns |= {"provenance": pa.int64()} if from_provenance else {}
            read = self._query(
                f"SELECT {names(columns)} FROM {name(fact_type.label)} WHERE {where}", columns, parameters
            )
            said = self._provenances(read["provenance"]) if from_provenance else None
        # Windows, words and edges are read in order: the place of a number among them is its rank, too.
        in_window = _place(read["window"], windows["id"])
        found = {p.name: windows[p.name].take(in_window) for p in WINDOW}
        ranks = [in_window]
        if about is None:
            for p in fact_type.subject:
                found[p.name] = read[p.name]
                ranks.append(_dense(read[p.name])[1])
        else:
            which = _place(read["subject"], about["id"])
            found |= {p.name: about[p.name].take(which) for p in fact_type.subject}
            ranks.append(which)
        for p in (*fact_type.identity, *(own[column] for column in wanted if column in own)):
            column = read[p.name]
            if p.datatype is Datatype.STRING:
                column = _place(column, words["id"])
                found[p.name] = words["word"].take(column)
            else:
                found[p.name] = column
            if p.name in identity:
                ranks.append(column)
        if said is not None:
            found |= {column: said[column] for column in from_provenance}
        table = pa.table({column: found[column] for column in (*(p.name for p in fact_type.key), *wanted)})
        return _in_order(table, ranks)

    def _windows(self, selection: Selection) -> pa.Table:
        """The windows selected, sorted: `id`, `window_start`, `window_end`."""
        where, values = _window_filter(selection)
        return self._query(
            f'SELECT id, window_start, window_end FROM "window" WHERE {where}'
            " ORDER BY window_end - window_start, window_start",
            {"id": pa.int64(), **dict.fromkeys((p.name for p in WINDOW), TIME)},
            values,
        ).combine_chunks()

    def _about(self, fact_type: FactType, selection: Selection) -> pa.Table | None:
        """The edges that facts are about, those selected if they are paths, sorted: `id` and the subject; None for nodes."""
        about = fact_type.about
        if isinstance(about, NodeType):
            return None
        if about in PATH_EDGES:
            return self._paths(about, selection, described=_needs_ends(selection)).combine_chunks()
        ends = [*about.ends, *about.identity]
        there = names(p.name for p in ends)
        columns = {p.name: arrow_type(p.datatype) for p in fact_type.subject}
        return self._query(
            f"SELECT id, {there} FROM {name(about.table)} ORDER BY {there}", {"id": pa.int64(), **columns}
        ).combine_chunks()

    def _fact_filter(
        self,
        fact_type: FactType,
        selection: Selection,
        windows: pa.Table,
        words: pa.Table,
        about: pa.Table | None,
        among: Mapping[str, Sequence[str]],
    ) -> tuple[str, list[str]]:
        """The condition on the rows of a fact's table, and its parameters."""
        conditions: list[str] = []
        parameters: list[str] = []

        def within(column: str, allowed: pa.ChunkedArray) -> None:
            conditions.append(f"{column} IN (SELECT value FROM json_each(?))")
            parameters.append(json.dumps(allowed.to_pylist()))

        some_paths = fact_type.about in PATH_EDGES and _chooses_paths(selection)
        if some_paths or _window_filter(_ANY) != _window_filter(selection):
            within('"window"', windows["id"])
        if some_paths and about is not None and isinstance(fact_type.about, EdgeType):
            # Few paths: one seek a window and path. Many: a sweep of the windows; the plus keeps the key out of it.
            paths = self._number(f"SELECT ifnull(max(id), 0) FROM {name(fact_type.about.table)}")
            within("subject" if about.num_rows * _SWEEP < paths else "+subject", about["id"])
        strings = {p.name for p in fact_type.identity if p.datatype is Datatype.STRING}
        for column, allowed in among.items():
            wanted = pa.array(allowed)
            if column in strings:
                wanted = words["id"].filter(pc.is_in(words["word"], value_set=wanted.cast(pa.string())))
            within(f"+{name(column)}", wanted)
        return " AND ".join(conditions) or "TRUE", parameters

    def pairs(self, selection: Selection = _ANY) -> pa.Table:
        """See `GraphStore.pairs`."""
        with self._snapshot():
            return self._paths(MEASURES, selection, described=True).drop_columns("id")

    def _paths(self, edge_type: EdgeType, selection: Selection, *, described: bool) -> pa.Table:
        """The paths of a kind (`PATH_EDGES`) selected, sorted: `id`, `probe_id`, `target`, `af` and, if `described`, `PAIR_ATTRIBUTES`."""
        now = selection.as_of
        conditions: list[str] = []
        parameters: list[str] = []

        def within(column: str, allowed: Sequence[int | str]) -> None:
            conditions.append(f"{column} IN (SELECT value FROM json_each(?))")
            parameters.append(json.dumps(list(allowed)))

        if selection.probe_ids:
            within("source", selection.probe_ids)
        if selection.targets:
            within("target", selection.targets)
        if selection.af is not None:
            within("af", (selection.af,))
        if selection.area is not None:
            within(
                "source", within_area(self._held(LOCATED_IN_POINT, now), self.nodes(POINT), selection.area)
            )
        if selection.prefixes:
            within("source", within_prefixes(self._held(ASSIGNED, now), selection.prefixes))
        paths = self._paths_where(edge_type, " AND ".join(conditions) or "TRUE", parameters)
        if not described:
            return paths
        paths = self._described(paths.combine_chunks(), now)
        for column, wanted in (
            ("probe_asn", selection.asns),
            ("target_asn", selection.target_asns),
            ("probe_country", selection.countries),
        ):
            if wanted:
                allowed = pa.array(wanted, paths.schema.field(column).type)
                paths = paths.filter(pc.is_in(paths[column], value_set=allowed))
        return paths

    def _paths_where(self, edge_type: EdgeType, condition: str, parameters: Sequence[str]) -> pa.Table:
        """Paths of a kind of which something is true, sorted: `id`, `probe_id`, `target`, `af`.

        Facts and pairs both begin with the same ones: the last are kept until somebody writes. What is read inside a transaction is not,
        for it may be given up.
        """
        version = self._number("PRAGMA data_version")
        asked = (version, self._changes(), edge_type.table, condition, *parameters)
        if self._last_paths is not None and self._last_paths[0] == asked and not self._writing:
            return self._last_paths[1]
        paths = self._query(
            f"SELECT id, source, target, af FROM {name(edge_type.table)} WHERE {condition} ORDER BY source, target, af",
            {"id": pa.int64(), "probe_id": pa.int64(), "target": pa.string(), "af": pa.int64()},
            parameters,
        )
        self._last_paths = None if self._writing else (asked, paths)
        return paths

    def _held(self, edge_type: EdgeType, now: datetime | None) -> pa.Table:
        """`source` and `target` of the edges that held then (None: that hold still)."""
        held, values = holds(edge_type, _microseconds(now))
        return self._query(
            f"SELECT source, target FROM {name(edge_type.table)} WHERE {held}",
            _types(arrow_schema(edge_type.ends)),
            values,
        )

    def _described(self, paths: pa.Table, now: datetime | None) -> pa.Table:
        """Paths with `PAIR_ATTRIBUTES`. Of several places, networks or countries at once the last in order counts."""
        kinds = dict(PAIR_ATTRIBUTES)

        def known(edge_type: EdgeType, what: str, by: str, columns: Columns) -> pa.Table:
            held, values = holds(edge_type, _microseconds(now))
            edges = f"SELECT {by}, {what} AS target FROM {name(edge_type.table)} WHERE {held} GROUP BY {by}"
            return self._query(edges, columns, values).combine_chunks()

        probe, country, position = pa.int64(), pa.string(), pa.string()
        hosts = known(ASSIGNED, "min(target)", "source", {"ip": pa.string(), "probe": probe})
        countries = known(IN_COUNTRY, "max(target)", "source", {"probe": probe, "country": country})
        places = known(LOCATED_IN_POINT, "max(target)", "source", {"probe": probe, "position": position})
        networks = known(
            LOCATED_IN_AS, "max(target)", "source, af", {"probe": probe, "af": pa.int64(), "asn": pa.int64()}
        )
        points = self.nodes(POINT).combine_chunks()
        point = points.take(_place(places["position"], points["position"]))
        found = {"target_probe_id": hosts["probe"].take(_place(paths["target"], hosts["ip"]))}
        for end, probes in (("probe", paths["probe_id"]), ("target", found["target_probe_id"])):
            at = _place(probes, places["probe"])
            found[f"{end}_latitude"] = point["latitude"].take(at)
            found[f"{end}_longitude"] = point["longitude"].take(at)
            found[f"{end}_country"] = countries["country"].take(_place(probes, countries["probe"]))
            asns = pa.nulls(paths.num_rows, pa.int64())
            for af in pc.unique(networks["af"]):
                of_af = networks.filter(pc.equal(networks["af"], af)).combine_chunks()
                asn = of_af["asn"].take(_place(probes, of_af["probe"]))
                asns = pc.if_else(pc.equal(paths["af"], af), asn, asns)
            found[f"{end}_asn"] = asns
        for attribute, kind in kinds.items():
            paths = paths.append_column(attribute, found[attribute].cast(kind))
        return paths

    def neighbours(
        self,
        node_type: NodeType,
        key: int | str,
        *,
        hops: int,
        at: datetime | None = None,
        most: int = MOST_NEIGHBOURS,
    ) -> list[Neighbour]:
        """See `GraphStore.neighbours`.

        Within a distance, edges come in the order of `EDGE_TYPES`, then of their ends; where there are more than `most`,
        those of the first kinds are met.
        """
        met: dict[tuple[int, int | str, int | str], int] = {}  # edge -> distance
        seen: dict[str, set[int | str]] = {known.label: set() for known in NODE_TYPES}
        frontier: dict[str, set[int | str]] = {node_type.label: {key}}
        with self._snapshot():
            for distance in range(1, hops + 1):
                for label, keys in frontier.items():
                    seen[label] |= keys
                reached: dict[str, set[int | str]] = {known.label: set() for known in NODE_TYPES}
                for edge in self._edges_at(frontier, at, most):
                    kind, source, target = edge
                    met.setdefault(edge, distance)
                    reached[EDGE_TYPES[kind].source.label].add(source)
                    reached[EDGE_TYPES[kind].target.label].add(target)
                frontier = {label: new for label, keys in reached.items() if (new := keys - seen[label])}
                if not frontier or len(met) >= most:
                    break
        return [
            Neighbour(
                edge=EDGE_TYPES[kind].name,
                source_label=EDGE_TYPES[kind].source.label,
                source_key=str(source),
                target_label=EDGE_TYPES[kind].target.label,
                target_key=str(target),
                distance=distance,
            )
            for (kind, source, target), distance in islice(met.items(), most)
        ]

    def _edges_at(
        self, frontier: Mapping[str, set[int | str]], at: datetime | None, most: int
    ) -> list[tuple[int, Any, Any]]:
        """Edges at some nodes, by label: (place in `EDGE_TYPES`, source, target), sorted; the first `most` that are found.

        One statement for all kinds of edges, which ends as soon as it has found enough.
        """
        statements: list[str] = []
        parameters: list[int | str] = []
        for kind, edge_type in enumerate(EDGE_TYPES):
            held, values = holds(edge_type, _microseconds(at))
            for column, node_type in (("source", edge_type.source), ("target", edge_type.target)):
                if node_type.label not in frontier:
                    continue
                statements.append(
                    f"SELECT {kind}, CAST(source AS TEXT), CAST(target AS TEXT) FROM {name(edge_type.table)}"
                    f" WHERE {column} IN (SELECT value FROM json_each(?)) AND {held}"
                )
                parameters += [json.dumps(sorted(frontier[node_type.label])), *values]
        rows = self._query(
            f"SELECT DISTINCT * FROM ({' UNION ALL '.join(statements)}) LIMIT ?",
            {"kind": pa.int64(), "source": pa.string(), "target": pa.string()},
            (*parameters, most),
        )
        readers = [[_READ[end.datatype] for end in edge_type.ends] for edge_type in EDGE_TYPES]
        return sorted(
            (kind, readers[kind][0](source), readers[kind][1](target))
            for kind, source, target in zip(*(column.to_pylist() for column in rows.columns), strict=True)
        )

    def holds_synthetic(self) -> bool:
        """See `GraphStore.holds_synthetic`."""
        with self._snapshot():
            if not self._number("SELECT synthetic FROM graph"):  # nothing synthetic was ever written
                return False
            own = {f.label for f in FACT_TYPES if "synthetic" in {p.name for p in f.values}}
            for table in (*(e.table for e in EDGE_TYPES), *(f.label for f in FACT_TYPES)):
                synthetic = (
                    "synthetic"
                    if table in own
                    else "provenance IN (SELECT id FROM provenance WHERE provenance.synthetic)"
                )
                if self._number(f"SELECT EXISTS (SELECT 1 FROM {name(table)} WHERE {synthetic})"):
                    return True
        return False

    def counts(self) -> dict[str, int]:
        """See `GraphStore.counts`."""
        tables = [n.label for n in NODE_TYPES] + [e.table for e in EDGE_TYPES] + [f.label for f in FACT_TYPES]
        with self._snapshot():
            return {table: self._number(f"SELECT count(*) FROM {name(table)}") for table in tables}

    def revision(self) -> str:
        """See `GraphStore.revision`: who this graph is, and how many transactions changed it."""
        found = self._query(
            "SELECT identifier, revision FROM graph", {"identifier": pa.string(), "revision": pa.int64()}
        )
        if found.num_rows != 1:
            raise StoreError(
                "cannot read the graph",
                where=str(self._path),
                found=f"{found.num_rows} rows that say which graph it is",
                expected="one",
                next_step=_NEXT_STEP["malformed"],
            )
        return f"{found['identifier'][0]}-{found['revision'][0]}"

    def _provenances(self, numbers: pa.ChunkedArray) -> pa.Table:
        """The columns of Provenance for its numbers."""
        columns = _types(arrow_schema(PROVENANCE))
        known = self._query(
            f"SELECT id, {names(columns)} FROM provenance", {"id": pa.int64(), **columns}
        ).combine_chunks()
        return known.drop_columns("id").take(_place(numbers, known["id"]))

    # The file

    def _address(self, *, create: bool) -> str:
        """The file as a URI, with what may be done to it."""
        if not self._read_only:
            mode = "mode=rwc" if create else "mode=rw"
        elif self._beside("-wal").exists() and self._beside("-wal").stat().st_size > 0:
            mode = "mode=ro"  # somebody who may write has it open: his index of the log is there to be read
        else:
            mode = "immutable=1"  # no log: SQLite would make one, and must not
        return f"{self._path.absolute().as_uri()}?{mode}"

    def _beside(self, suffix: str) -> Path:
        return self._path.with_name(self._path.name + suffix)

    def _prepare(self, *, create: bool, patience_s: float) -> None:
        for setting in (
            f"busy_timeout = {round(1000 * patience_s)}",
            "synchronous = NORMAL",
            "cache_size = -65536",
            "temp_store = MEMORY",
        ):
            self._execute(f"PRAGMA {setting}")
        if create and self._empty():
            self._execute("PRAGMA journal_mode = WAL")
            with self._changing_file():
                if self._empty():  # of two that come first, one makes the tables
                    self._make(ddl())
                    self._execute("INSERT INTO graph VALUES (?, 0, 0)", (secrets.token_hex(8),))
        elif self._empty():
            raise self._nothing_here()
        version = self._version()
        if version in MIGRATIONS and not self._read_only:
            with self._changing_file():
                if self._version() == version:
                    self._make(MIGRATIONS[version]())
        self._check_version()

    def _make(self, statements: Iterable[str]) -> None:
        for statement in statements:
            self._execute(statement)
        self._execute(f"PRAGMA user_version = {VERSION}")

    @contextmanager
    def _changing_file(self) -> Iterator[None]:
        """One transaction of SQLite."""
        self._execute("BEGIN IMMEDIATE")
        try:
            yield
            self._execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    def _check_version(self) -> None:
        version = self._version()
        if version == VERSION:
            return
        next_step = "move the file away and run: qoetwin graph build"
        if version > VERSION:
            next_step = "a newer qoetwin wrote it: update this one, or give another home"
        elif version in MIGRATIONS:
            next_step = "open it once where it may be written: that brings it to the new version"
        raise StoreError(
            "the graph has another schema",
            where=str(self._path),
            found=f"version {version}",
            expected=f"version {VERSION}",
            next_step=next_step,
        )

    def _nothing_here(self) -> EmptyError:
        return EmptyError(
            "there is no graph here yet",
            where=str(self._path),
            found=None if self._path.parent.is_dir() else "no such folder",
            next_step="name the home that has one with --home; or ingest something, then run: qoetwin graph build --window 3h",
        )

    def _empty(self) -> bool:
        return self._version() == 0 and self._number("SELECT count(*) FROM sqlite_master") == 0

    def _version(self) -> int:
        return self._number("PRAGMA user_version")

    # Statements

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """All reads inside see one state of the graph."""
        if self._writing or self._reading:
            yield
            return
        self._execute("BEGIN")
        self._reading = True
        try:
            yield
        finally:
            self._reading = False
            self._roll_back()

    def _roll_back(self) -> None:
        with suppress(StoreError):  # SQLite has done so by itself, as on a full disk
            self._execute("ROLLBACK")

    def _execute(self, statement: str, parameters: Parameters = ()) -> None:
        with self._cursor() as cursor:
            cursor.execute(statement, list(parameters))

    def _write(self, statement: str, rows: pa.Table) -> None:
        """Run a statement once a row; its parameters are the columns."""
        if rows.num_rows:  # the driver does not survive a table without rows
            with self._cursor() as cursor:
                cursor.executemany(statement, rows)

    def _each(self, statement: str, rows: pa.Table) -> pa.Array:
        """The number that a query finds for each row."""
        if not rows.num_rows:
            return pa.array([], pa.int64())
        with self._cursor() as cursor:
            cursor.execute(statement, rows)
            return cursor.fetch_arrow_table().column(0).combine_chunks()

    def _number(self, query: str, parameters: Parameters = ()) -> int:
        """The number that a query finds."""
        with self._cursor() as cursor:
            cursor.execute(query, list(parameters))
            return int(cursor.fetch_arrow_table().column(0)[0].as_py())

    def _query(self, query: str, columns: Columns, parameters: Parameters = ()) -> pa.Table:
        """What a query finds, with names and types.

        The driver takes the types from the first rows, and fails where a column that was null has a value later. So the
        first row is one of ours, of which each value has the type of its column.
        """
        first = ", ".join(_FIRST[_kept(kind)] for kind in columns.values())
        with self._cursor() as cursor:
            cursor.execute(f"SELECT {first} UNION ALL SELECT * FROM ({query})", list(parameters))
            found = cursor.fetch_arrow_table().slice(1)
            arrays = [
                found.column(place).cast(_kept(kind)).cast(kind)
                for place, kind in enumerate(columns.values())
            ]
        return pa.table(arrays, schema=pa.schema(columns.items()))

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        """A cursor; an open one would keep its state of the graph, so it is closed."""
        what = "cannot write the graph" if self._writing else "cannot read the graph"
        with (
            self._mapped(what),
            self._db.cursor(adbc_stmt_kwargs={"adbc.sqlite.query.batch_rows": 65536}) as cursor,
        ):
            yield cursor

    @contextmanager
    def _mapped(self, what: str) -> Iterator[None]:
        try:
            yield
        except (adbc_driver_manager.Error, OSError, pa.ArrowException) as error:
            found = _words(error)
            raise StoreError(
                what,
                where=str(self._path),
                found=found,
                expected="a SQLite database that can be read and written",
                next_step=next((step for word, step in _NEXT_STEP.items() if word in found), None),
            ) from error

    def _changes(self) -> int:
        """How many rows this connection has changed."""
        return self._number("SELECT total_changes()")

    @contextmanager
    def _beside_the_graph(self) -> Iterator[None]:
        """What is written inside is no change of the graph."""
        before = self._changes()
        yield
        self._changes_before += self._changes() - before

    def _refuse_nulls(self, rows: pa.Table, columns: Sequence[str]) -> None:
        for column in columns:
            if rows[column].null_count:
                row = rows.filter(pc.is_null(rows[column])).slice(0, 1).to_pylist()[0]
                raise StoreError(
                    "cannot write the graph, a row lacks what it must have",
                    where=str(self._path),
                    found=repr(row),
                    expected=f"no null in {column}",
                )

    def _bound(self, rows: pa.Table, columns: Sequence[Property]) -> pa.Table:
        """Columns as SQLite keeps them: times as microseconds, booleans as integers."""
        with self._mapped("cannot write the graph"):
            return pa.table(
                {
                    p.name: rows[p.name].cast(arrow_type(p.datatype)).cast(_kept(arrow_type(p.datatype)))
                    for p in columns
                }
            )


_NEXT_STEP = {
    "locked": "somebody else writes it; wait, and try again",
    "is full": "free some space, and try again",
    "disk I/O error": "look at the disk, and try again",
    "readonly": "give a home that may be written",
    "unable to open": "give a home that may be written",
    "malformed": "move the file away and run: qoetwin graph build",
    "not a database": "move the file away and run: qoetwin graph build",
}
"""Words of SQLite's message (the driver gives no code) -> what the user can do."""

_READ = {Datatype.INTEGER: int, Datatype.STRING: str}
_FIRST = {pa.int64(): "0", pa.float64(): "0.0", pa.string(): "''"}
_WORD: Columns = {"id": pa.int64(), "word": pa.string()}
_SWEEP = 8
"""A sweep over all paths of a window costs as much as seeking one in so many of them."""


def _words(error: Exception) -> str:
    """What SQLite said, without what the driver says around it."""
    said = str(error).partition("\nquery: ")[0]
    if "failed to open" in said:  # the driver's reason is what SQLite says of a handle that is not there
        return "unable to open database file"
    return re.sub(r"^(?:[A-Z_]+: )?(?:\[SQLite\] )?(?:[Ff]ailed to \w+ query: )?", "", said)


def _kept(kind: pa.DataType) -> pa.DataType:
    """The type by which SQLite keeps a type."""
    return pa.int64() if pa.types.is_timestamp(kind) or pa.types.is_boolean(kind) else kind


def _types(schema: pa.Schema) -> dict[str, pa.DataType]:
    return dict(zip(schema.names, schema.types, strict=True))


def _microseconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(pa.scalar(moment, TIME).value)


def _stored(fact_type: FactType, wanted: Sequence[str]) -> dict[str, pa.DataType]:
    """The columns of a fact's table that tell the key and the values wanted; words and windows are numbers there."""
    kinds = {p.name: arrow_type(p.datatype) for p in fact_type.subject}
    for p in (*fact_type.identity, *fact_type.values):
        kinds[p.name] = pa.int64() if p.datatype is Datatype.STRING else arrow_type(p.datatype)
    values = [p.name for p in fact_type.values if p.name in wanted]
    return {column: kinds.get(column, pa.int64()) for column in (*fact_key(fact_type), *values)}


def _window_filter(selection: Selection) -> tuple[str, tuple[int, ...]]:
    """The condition on windows that a selection makes, and its parameters."""
    length = None if selection.window_s is None else selection.window_s * 1_000_000
    conditions = {
        "window_end - window_start = ?": (length,),
        "window_start >= ?": (_microseconds(selection.start),),
        "window_start < ?": (_microseconds(selection.end),),
        "window_start <= ? AND window_end > ?": (_microseconds(selection.at),) * 2,
    }
    used = {condition: values for condition, values in conditions.items() if values[0] is not None}
    return " AND ".join(used) or "TRUE", tuple(
        value for values in used.values() for value in values if value is not None
    )


def _json(numbers: pa.Array) -> str:
    return json.dumps(numbers.to_pylist())


def _needs_ends(selection: Selection) -> bool:
    """Whether it takes what is known of their ends to choose paths."""
    return bool(selection.asns or selection.target_asns or selection.countries)


def _chooses_paths(selection: Selection) -> bool:
    return bool(
        _needs_ends(selection)
        or selection.probe_ids
        or selection.targets
        or selection.prefixes
        or selection.area is not None
        or selection.af is not None
    )


def _place(values: pa.ChunkedArray, among: pa.ChunkedArray) -> pa.ChunkedArray:
    """Where each value is among distinct ones; null where it is not."""
    return pc.index_in(values, value_set=among, skip_nulls=True)


def _dense(column: pa.ChunkedArray) -> tuple[pa.Array, pa.Array]:
    """The distinct values of a column, sorted, and for each row which of them it is."""
    values = column.unique()
    values = values.take(pc.sort_indices(values))
    return values, pc.index_in(column, value_set=values)


def _distinct(rows: pa.Table) -> tuple[pa.Array, pa.Table]:
    """For each row which of the distinct ones it is, and those, sorted."""
    codes = np.zeros(rows.num_rows, np.int64)
    for column in rows.columns:
        values, ranks = _dense(column)
        # made dense after each column, codes are less than the number of rows: no product overflows
        _, first, codes = np.unique(
            codes * len(values) + ranks.to_numpy(), return_index=True, return_inverse=True
        )
    return pa.array(codes), rows.take(first)


def _in_order(table: pa.Table, ranks: Sequence[pa.ChunkedArray]) -> pa.Table:
    """The table sorted by those ranks, the first of them first; rows of equal rank keep their order."""
    keys = [rank.to_numpy() for rank in ranks]
    order = np.lexsort(keys[::-1])
    if (order[1:] > order[:-1]).all():
        return table
    return table.take(order)


def _with_bounds(edges: pa.Table) -> pa.Table:
    """Stated edges with both bounds of their validity; what is not said is unknown."""
    for column in ("valid_from", "valid_to"):
        if column not in edges.column_names:
            edges = edges.append_column(column, pa.nulls(edges.num_rows, TIME))
    return edges


def _replaced(table: pa.Table, column: str, values: pa.ChunkedArray) -> pa.Table:
    return table.set_column(table.column_names.index(column), column, values)


def _same(one: str, other: str, columns: Sequence[str]) -> str:
    return " AND ".join(f"{one}.{name(column)} = {other}.{name(column)}" for column in columns)


def _bindable(value: datetime | bool | str | None) -> int | str | None:
    """A value of Provenance as SQLite keeps it."""
    if isinstance(value, datetime):
        return _microseconds(value)
    return int(value) if isinstance(value, bool) else value
