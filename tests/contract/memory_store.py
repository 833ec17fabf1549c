"""A store in memory: what a third store is. One file, one line in `STORES`; it passes the contract, and nothing else uses it.

Written for reading, not for speed: dictionaries of rows. What it does is what the protocol says, word for word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

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
    MEASURED,
    MEASURES,
    NODE_TYPES,
    PATH_EDGES,
    PROVENANCE,
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

Row = dict[str, Any]
_HOMES: dict[Path, Tables] = {}


class Tables:
    """What is kept: key -> row, by kind."""

    def __init__(self) -> None:
        self.nodes: dict[str, dict[Any, Row]] = {node_type.label: {} for node_type in NODE_TYPES}
        self.edges: dict[str, dict[Any, Row]] = {edge_type.table: {} for edge_type in EDGE_TYPES}
        self.facts: dict[str, dict[Any, Row]] = {fact_type.label: {} for fact_type in FACT_TYPES}


def open_home(
    address: str, home: Path, *, create: bool, credentials: Credentials | None = None
) -> MemoryStore:
    """The graph of a home, for as long as the process lives."""
    if home not in _HOMES and not create:
        raise EmptyError("there is no graph here yet", where=str(home))
    return MemoryStore(_HOMES.setdefault(home, Tables()))


class MemoryStore:
    """A `kg.store.GraphStore` in dictionaries."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._writing = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        pass

    @contextmanager
    def transaction(self) -> Iterator[None]:
        if self._writing:
            yield
            return
        shown, self._writing = self._tables, True
        copy = deepcopy(shown)
        self._tables = copy
        try:
            yield
            shown.nodes, shown.edges, shown.facts = copy.nodes, copy.edges, copy.facts
        finally:
            self._tables, self._writing = shown, False

    def upsert_nodes(self, node_type: NodeType, nodes: pa.Table) -> None:
        with self.transaction():
            kept = self._tables.nodes[node_type.label]
            for row in nodes.to_pylist():
                key = _required(row, (node_type.key,))[0]
                _merge(kept.setdefault(key, {node_type.key.name: key}), row, node_type.properties)

    def upsert_edges(self, edge_type: EdgeType, edges: pa.Table, provenance: Provenance) -> None:
        with self.transaction():
            kept = self._tables.edges[edge_type.table]
            rows = edges.to_pylist()
            keys = [_required(row, (*edge_type.ends, *edge_type.identity)) for row in rows]
            for end, node_type in zip(edge_type.ends, (edge_type.source, edge_type.target), strict=True):
                self.upsert_nodes(
                    node_type, pa.table({node_type.key.name: edges[end.name].cast(arrow_type(end.datatype))})
                )
            if edge_type.history is History.STATED:
                keys = [(*key, row.get("valid_from")) for key, row in zip(keys, rows, strict=True)]
                owners = {_owner(edge_type, key) for key in keys}
                for gone in [key for key in kept if _owner(edge_type, key) in owners and key not in keys]:
                    del kept[gone]
            for key, row in zip(keys, rows, strict=True):
                names = [p.name for p in (*edge_type.ends, *edge_type.identity)]
                new = dict(zip(names, key, strict=False)) | {p.name: None for p in edge_type.properties}
                old = kept.get(key, {})
                merged = _merge(
                    dict(old) or new | {"valid_from": row.get("valid_from")}, row, edge_type.properties
                )
                if edge_type.history is History.STATED:  # the whole history is said, also that it has no end
                    merged["valid_to"] = row.get("valid_to")
                if merged != old:
                    kept[key] = merged | _said(provenance)

    def put_facts(self, fact_type: FactType, facts: pa.Table, provenance: Provenance) -> None:
        with self.transaction():
            if isinstance(fact_type.about, NodeType):
                self.upsert_nodes(fact_type.about, subjects(fact_type, facts))
            else:
                self.upsert_edges(fact_type.about, subjects(fact_type, facts), provenance)
            for row in facts.select([column.name for column in fact_type.columns]).to_pylist():
                key = _required(row, fact_type.key)
                _required(row, [value for value in fact_type.values if value.required])
                kept = self._tables.facts[fact_type.label]
                old = kept.get(key)
                if old is None or {name: old[name] for name in row} != row:
                    kept[key] = _said(provenance) | row
                    self._forget_derived(fact_type, key)

    def _forget_derived(self, fact_type: FactType, key: tuple[Any, ...]) -> None:
        subject_and_window = len(fact_type.subject) + 2
        for derived in FACT_TYPES:
            if derived.derived_from == fact_type.label and derived.about is fact_type.about:
                kept = self._tables.facts[derived.label]
                for gone in [
                    other
                    for other, row in kept.items()
                    if other[:subject_and_window] == key[:subject_and_window]
                    and row.get("origin", MEASURED) == MEASURED
                ]:
                    del kept[gone]

    def delete(self, kind: EdgeType | FactType, keys: pa.Table) -> None:
        refuse_described(kind)
        with self.transaction():
            name, tables = (
                (kind.table, self._tables.edges)
                if isinstance(kind, EdgeType)
                else (kind.label, self._tables.facts)
            )
            for row in keys.to_pylist():
                key = tuple(row[p.name] for p in kind.key)
                if tables[name].pop(key, None) is not None and isinstance(kind, FactType):
                    self._forget_derived(kind, key)

    def nodes(self, node_type: NodeType) -> pa.Table:
        rows = self._tables.nodes[node_type.label]
        return _table([rows[key] for key in sorted(rows)], node_schema(node_type))

    def edges(self, edge_type: EdgeType, *, at: datetime | None = None) -> pa.Table:
        rows = self._tables.edges[edge_type.table]
        found = _table([rows[key] for key in sorted(rows, key=_sortable)], edge_schema(edge_type))
        return found if at is None else holding(found, edge_type, pa.scalar(at))

    def facts(
        self,
        fact_type: FactType,
        selection: Selection = Selection(),  # noqa: B008 - frozen
        values: Sequence[str] | None = None,
        *,
        among: Mapping[str, Sequence[str]] | None = None,
        with_provenance: bool = False,
    ) -> pa.Table:
        wanted = [value.name for value in fact_type.values] if values is None else list(values)
        columns = [*(column.name for column in fact_type.key), *wanted]
        columns += [column.name for column in PROVENANCE if with_provenance and column.name not in columns]
        schema = pa.schema({**_types(fact_schema(fact_type)), **_types(arrow_schema(PROVENANCE))}.items())
        paths = None
        about = fact_type.about
        if isinstance(about, EdgeType) and about in PATH_EDGES:
            chosen = self._paths(about, selection).to_pylist()
            paths = {(row["probe_id"], row["target"], row["af"]) for row in chosen}
        rows = [
            row
            for row in self._tables.facts[fact_type.label].values()
            if _in_time(row, selection)
            and (paths is None or (row["probe_id"], row["target"], row["af"]) in paths)
            and all(row[name] in allowed for name, allowed in (among or {}).items())
        ]
        order = [*("window_length", "window_start"), *(p.name for p in fact_type.subject)]
        order += [p.name for p in fact_type.identity]
        rows.sort(
            key=lambda row: tuple(
                (row | {"window_length": row["window_end"] - row["window_start"]})[n] for n in order
            )
        )
        return _table(rows, pa.schema([schema.field(name) for name in columns]))

    def pairs(self, selection: Selection = Selection()) -> pa.Table:  # noqa: B008 - frozen
        return self._paths(MEASURES, selection)

    def _paths(self, edge_type: EdgeType, selection: Selection) -> pa.Table:
        now = selection.as_of

        def held(edge_type: EdgeType) -> list[Row]:
            edges = self.edges(edge_type, at=now).to_pylist()
            return edges if now is not None else [row for row in edges if row["valid_to"] is None]

        places = {row["source"]: row["target"] for row in held(LOCATED_IN_POINT)}
        countries = {row["source"]: row["target"] for row in held(IN_COUNTRY)}
        networks = {(row["source"], row["af"]): row["target"] for row in held(LOCATED_IN_AS)}
        hosts: dict[str, int] = {}
        for row in held(ASSIGNED):
            hosts[row["source"]] = min(row["target"], hosts.get(row["source"], row["target"]))
        points = self._tables.nodes["Point"]

        def end(name: str, probe: int | None, af: int) -> Row:
            point = points.get(places.get(probe), {})
            return {
                f"{name}_latitude": point.get("latitude"),
                f"{name}_longitude": point.get("longitude"),
                f"{name}_asn": networks.get((probe, af)),
                f"{name}_country": countries.get(probe),
            }

        rows = [
            {"probe_id": probe, "target": target, "af": af, "target_probe_id": hosts.get(target)}
            | end("probe", probe, af)
            | end("target", hosts.get(target), af)
            for probe, target, af in sorted(self._tables.edges[edge_type.table])
        ]
        allowed = {
            "probe_id": selection.probe_ids,
            "target": selection.targets,
            "probe_asn": selection.asns,
            "target_asn": selection.target_asns,
            "probe_country": selection.countries,
            "af": () if selection.af is None else (selection.af,),
        }
        for name, values in allowed.items():
            if values:
                rows = [row for row in rows if row[name] in values]
        if selection.area is not None:
            located = _table(held(LOCATED_IN_POINT), edge_schema(LOCATED_IN_POINT))
            near = within_area(located, _table(list(points.values()), None), selection.area)
            rows = [row for row in rows if row["probe_id"] in near]
        if selection.prefixes:
            inside = within_prefixes(_table(held(ASSIGNED), edge_schema(ASSIGNED)), selection.prefixes)
            rows = [row for row in rows if row["probe_id"] in inside]
        kinds = {"probe_id": pa.int64(), "target": pa.string(), "af": pa.int64()} | dict(PAIR_ATTRIBUTES)
        return _table(rows, pa.schema(kinds.items()))

    def neighbours(
        self,
        node_type: NodeType,
        key: int | str,
        *,
        hops: int,
        at: datetime | None = None,
        most: int = MOST_NEIGHBOURS,
    ) -> list[Neighbour]:
        found: dict[tuple[Any, ...], Neighbour] = {}
        seen = {(node_type.label, key)}
        frontier = set(seen)
        for distance in range(1, hops + 1):
            reached: set[tuple[str, Any]] = set()
            for edge_type in EDGE_TYPES:
                for row in self.edges(edge_type, at=at).to_pylist():
                    if at is None and row.get("valid_to") is not None:
                        continue
                    source, target = (
                        (edge_type.source.label, row["source"]),
                        (edge_type.target.label, row["target"]),
                    )
                    if source in frontier or target in frontier:
                        neighbour = Neighbour(
                            edge=edge_type.name,
                            source_label=source[0],
                            source_key=str(source[1]),
                            target_label=target[0],
                            target_key=str(target[1]),
                            distance=distance,
                        )
                        found.setdefault((edge_type.table, source, target), neighbour)
                        reached |= {source, target} - seen
            seen |= reached
            frontier = reached
        return list(found.values())[:most]

    def prune(self, fact_type: FactType, before: datetime, window_s: int | None = None) -> int:
        kept = self._tables.facts[fact_type.label]
        gone = [
            key
            for key, row in kept.items()
            if row["window_end"] <= before and _in_time(row, Selection(window_s=window_s))
        ]
        for key in gone:
            del kept[key]
            self._forget_derived(fact_type, key)
        return len(gone)

    def holds_synthetic(self) -> bool:
        rows = [*self._tables.edges.values(), *self._tables.facts.values()]
        return any(row["synthetic"] for kept in rows for row in kept.values())

    def counts(self) -> dict[str, int]:
        tables = self._tables
        return {name: len(kept) for name, kept in (tables.nodes | tables.edges | tables.facts).items()}

    def revision(self) -> str:
        return str(hash(repr((self._tables.nodes, self._tables.edges, self._tables.facts))))


def _merge(kept: Row, new: Row, properties: Sequence[Property]) -> Row:
    """Write the known values of a row into the one that is kept."""
    for p in properties:
        old, value = kept.get(p.name), new.get(p.name)
        if value is None or old is None or p.merge is Merge.LAST:
            kept[p.name] = old if value is None else value
        else:
            kept[p.name] = min(old, value) if p.merge is Merge.LEAST else max(old, value)
    return kept


def _owner(edge_type: EdgeType, key: tuple[Any, ...]) -> tuple[Any, ...]:
    return (key[0 if edge_type.owner == "source" else 1], key[2 : 2 + len(edge_type.identity)])


def _required(row: Row, columns: Sequence[Property]) -> tuple[Any, ...]:
    values = tuple(row[column.name] for column in columns)
    if None in values:
        raise StoreError("a row without its key", found=repr(row), expected="no null there")
    return values


def _said(provenance: Provenance) -> Row:
    return {column.name: getattr(provenance, column.name) for column in PROVENANCE}


def _in_time(row: Row, selection: Selection) -> bool:
    start, end = row["window_start"], row["window_end"]
    return (
        (selection.start is None or start >= selection.start)
        and (selection.end is None or start < selection.end)
        and (selection.at is None or start <= selection.at < end)
        and (selection.window_s is None or end - start == timedelta(seconds=selection.window_s))
    )


def _table(rows: Sequence[Row], schema: pa.Schema | None) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema)


def _types(schema: pa.Schema) -> dict[str, pa.DataType]:
    return {column.name: column.type for column in schema}


def _sortable(key: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple((value is not None, value) for value in key)
