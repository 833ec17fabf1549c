"""How what the schema says lies in Neo4j: labels, types, patterns, constraints and indexes.

A node is a node. An edge is a relationship of its verb. A fact about an edge is a relationship beside that edge, named
by the fact (`PATH_STATE`); a fact about a node is a node that hangs on it (`(:ProbeState)-[:OF]->(:AtlasProbe)`).
Relationships and facts have a `key`, a text that identifies them among their like; what has none is not ours.
Names come from the schema only, and are quoted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from domain.errors import StoreError
from kg.schema import (
    EDGE_TYPES,
    FACT_TYPES,
    NODE_TYPES,
    POINT,
    WINDOW,
    Datatype,
    EdgeType,
    FactType,
    NodeType,
    Property,
)
from kg.tables import TIME, arrow_type

Kind = NodeType | EdgeType | FactType

KEY = "key"
GRAPH = "QoetwinGraph"
PROVENANCE_LABEL = "Provenance"


def quoted(name: str) -> str:
    """A name of the schema, as Cypher takes it."""
    return "`" + name.replace("`", "``") + "`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How one kind lies in Neo4j.

    Attributes:
        kind: what the schema says of it.
        name: its label, or the type of its relationship.
        relationship: whether it is one.
        ends: the nodes that it hangs on: column that has their key, and their kind.
        key: name of the property that identifies it.
        stored: its other properties.
    """

    kind: Kind
    name: str
    relationship: bool
    ends: tuple[tuple[str, NodeType], ...]
    key: str
    stored: tuple[Property, ...]

    def by_key(self, value: str, variable: str = "s") -> str:
        """The pattern that finds one, as a variable, by a Cypher expression of its key."""
        found = f"{variable}:{quoted(self.name)} {{{quoted(self.key)}: {value}}}"
        pattern = f"()-[{found}]->()" if self.relationship else f"({found})"
        return f"{pattern} {self.by_index(variable)}"

    def by_index(self, variable: str) -> str:
        """The hint that a variable is sought in the index of its key.

        Left to itself the server walks the whole index, or the whole graph, for each row: it plans by counts that lag behind
        what is written, and a graph that was empty a moment ago is quickly walked.
        """
        return f"USING INDEX SEEK {variable}:{quoted(self.name)}({quoted(self.key)})"

    @property
    def alone(self) -> str:
        """The pattern of all of them, as `s`, without what they hang on."""
        return f"()-[s:{quoted(self.name)}]->()" if self.relationship else f"(s:{quoted(self.name)})"

    @property
    def pattern(self) -> str:
        """The pattern of all of them, as `s`, with what they hang on, as `n0` and `n1`."""
        return self.joined([f"(n{i}:{quoted(node.label)})" for i, (_, node) in enumerate(self.ends)])

    def joined(self, ends: list[str], properties: str = "") -> str:
        """The pattern of one that hangs on what other patterns give."""
        own = f"s:{quoted(self.name)}{properties}"
        if self.relationship:
            return f"{ends[0]}-[{own}]->{ends[1]}"
        return f"({own})-[:OF]->{ends[0]}" if ends else f"({own})"

    @property
    def readers(self) -> dict[str, str]:
        """Column -> the Cypher expression that gives it from `s`, `n0` and `n1`."""
        ends = {
            column: reader(node.key, f"n{i}.{quoted(node.key.name)}")
            for i, (column, node) in enumerate(self.ends)
        }
        own = {p.name: reader(p, f"s.{quoted(p.name)}") for p in self.stored}
        if isinstance(self.kind, NodeType):
            own = {self.key: reader(self.kind.key, f"s.{quoted(self.key)}")} | own
        return ends | own


@cache
def shape_of(kind: Kind) -> Shape:
    """How a kind lies in Neo4j."""
    if isinstance(kind, NodeType):
        return Shape(
            kind=kind, name=kind.label, relationship=False, ends=(), key=kind.key.name, stored=kind.properties
        )
    if isinstance(kind, EdgeType):
        return Shape(
            kind=kind,
            name=kind.name,
            relationship=True,
            ends=(("source", kind.source), ("target", kind.target)),
            key=KEY,
            stored=(*kind.identity, *kind.properties),
        )
    about = kind.about
    nodes = (about,) if isinstance(about, NodeType) else (about.source, about.target)
    ends = tuple((column.name, node) for column, node in zip(kind.subject, nodes, strict=False))
    return Shape(
        kind=kind,
        name=kind.label if isinstance(about, NodeType) else upper_snake(kind.label),
        relationship=isinstance(about, EdgeType),
        ends=ends,
        key=KEY,
        stored=(*kind.subject[len(nodes) :], *WINDOW, *kind.identity, *kind.values),
    )


def upper_snake(label: str) -> str:
    """The type of a relationship that is named by a label.

    >>> upper_snake("PathState"), upper_snake("ASScore")
    ('PATH_STATE', 'AS_SCORE')
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", label).upper()


def statements() -> list[str]:
    """What makes the constraints and indexes of the schema; where they are already, nothing happens."""
    made = [
        f"CREATE CONSTRAINT IF NOT EXISTS FOR (s:{quoted(label)}) REQUIRE s.{quoted(key)} IS UNIQUE"
        for label, key in unique_nodes()
    ]
    made += [
        f"CREATE CONSTRAINT IF NOT EXISTS FOR ()-[s:{quoted(name)}]-() REQUIRE s.{quoted(KEY)} IS UNIQUE"
        for name in unique_relationships()
    ]
    for fact_type in FACT_TYPES:
        shape = shape_of(fact_type)
        pattern = f"()-[s:{quoted(shape.name)}]-()" if shape.relationship else f"(s:{quoted(shape.name)})"
        made.append(f"CREATE INDEX IF NOT EXISTS FOR {pattern} ON (s.{quoted(WINDOW[0].name)})")
    return made


def unique_nodes() -> list[tuple[str, str]]:
    """Label and property of each node key."""
    kept = [shape_of(kind) for kind in (*NODE_TYPES, *FACT_TYPES)]
    keys = [(shape.name, shape.key) for shape in kept if not shape.relationship]
    return [*keys, (PROVENANCE_LABEL, KEY), (GRAPH, "name")]


def unique_relationships() -> list[str]:
    """Types of relationships that have a unique `key`."""
    shapes = [shape_of(kind) for kind in (*EDGE_TYPES, *FACT_TYPES)]
    return list(dict.fromkeys(shape.name for shape in shapes if shape.relationship))


# Keys


def keys_of(kind: EdgeType | FactType, table: pa.Table) -> pa.Array:
    """The `key` of each row: its parts, with a bar between them.

    Several kinds of edges share a verb, and so a type: the labels at the ends come first. Of facts the window comes
    first, so that those of a window lie next to each other in the index of keys. Times are microseconds since the
    epoch, an unknown one (a stated edge's `valid_from`) is empty.
    """
    parts: list[pa.ChunkedArray | pa.Scalar] = []
    if isinstance(kind, EdgeType):
        parts += [pa.scalar(kind.source.label), pa.scalar(kind.target.label)]
        columns = kind.key
    else:
        columns = (*WINDOW, *kind.subject, *kind.identity)
    parts += [_text(table[column.name], column) for column in columns]
    return _one(pc.binary_join_element_wise(*parts, "|"))


def subject_and_window(fact_type: FactType, table: pa.Table) -> pa.Array:
    """What the keys begin with of all facts, of whatever kind, about the same subject and window."""
    parts = [_text(table[column.name], column) for column in (*WINDOW, *fact_type.subject)]
    return _one(pc.binary_join_element_wise(*parts, "", "|"))


def _text(column: pa.ChunkedArray, prop: Property) -> pa.ChunkedArray:
    if prop.datatype is Datatype.STRING:  # whatever a name holds, two keys are equal only where all parts are
        escaped = pc.replace_substring(pc.cast(column, pa.string()), "\\", "\\\\")
        return pc.replace_substring(escaped, "|", "\\|")
    number = pc.cast(column, TIME).cast(pa.int64()) if prop.datatype is Datatype.DATETIME else column
    return pc.fill_null(pc.cast(number, pa.string()), "")


def _one(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


# Values: what the driver is slow with goes as plain numbers, and becomes what it is on the server


class Rows:
    """Columns on their way to `UNWIND $rows AS r`, and the expressions that give their values there."""

    def __init__(self) -> None:
        self._columns: list[list[object]] = []

    def add(self, column: pa.ChunkedArray | pa.Array, prop: Property) -> str:
        """Add a column; returns the Cypher expression of its value."""
        at = f"r[{len(self._columns)}]"
        if prop.datatype is Datatype.DATETIME:
            # A Python datetime takes the driver 60 us, two integers take it .2 us.
            since = _one(pc.cast(pc.cast(column, TIME), pa.int64()))
            unknown = since.is_null().to_numpy(zero_copy_only=False)
            seconds, rest = np.divmod(since.fill_null(0).to_numpy(zero_copy_only=False), 1_000_000)
            self._columns += [pa.array(part, mask=unknown).to_pylist() for part in (seconds, rest * 1000)]
            nanoseconds = f"r[{len(self._columns) - 1}]"
            return f"CASE WHEN {at} IS NULL THEN null ELSE datetime.fromepoch({at}, {nanoseconds}) END"
        if prop is POINT.key:
            self._columns.append(_coordinates(column))
            return f"point({{longitude: {at}[0], latitude: {at}[1]}})"
        self._columns.append(pc.cast(column, arrow_type(prop.datatype)).to_pylist())
        return at

    def rows(self) -> list[tuple[object, ...]]:
        """The rows."""
        return list(zip(*self._columns, strict=True))


def reader(prop: Property, expression: str) -> str:
    """The Cypher expression that gives a value as the driver is quick with: times as microseconds, a place as two numbers."""
    if prop.datatype is Datatype.DATETIME:  # epochSeconds is off by one before 1970
        return f"{expression}.epochMillis * 1000 + {expression}.microsecond % 1000"
    if prop is POINT.key:
        return f"[{expression}.longitude, {expression}.latitude]"
    return expression


def column(cells: list[object], prop: Property, node_type: NodeType | None = None) -> pa.Array:
    """A column of what `reader` gave."""
    if prop is POINT.key or node_type is POINT:
        return pa.array([point_text(*cell) for cell in cells], pa.string())  # type: ignore[misc]
    if prop.datatype is Datatype.DATETIME:
        return pa.array(cells, pa.int64()).cast(TIME)
    return pa.array(cells, arrow_type(prop.datatype))


def _coordinates(column: pa.ChunkedArray | pa.Array) -> list[object]:
    """Longitude and latitude of each place; IYP keeps places as points."""
    found: list[object] = []
    for text in column.to_pylist():
        match = re.fullmatch(r"POINT\((\S+) (\S+)\)", text)
        try:
            place = None if match is None else (float(match[1]), float(match[2]))
        except ValueError:
            place = None
        if place is None or point_text(*place) != text or not _on_earth(*place):
            raise StoreError(
                "a place that Neo4j cannot keep",
                found=repr(text),
                expected="POINT(longitude latitude), each number as short as it can be, such as POINT(35.5 33.9)",
            )
        found.append(place)
    return found


def _on_earth(longitude: float, latitude: float) -> bool:
    return abs(longitude) <= 180 and abs(latitude) <= 90  # false also of what is no number


def point_text(longitude: float, latitude: float) -> str:
    """A place as Well-Known Text."""
    return f"POINT({longitude!r} {latitude!r})"
