"""Graphs of whatever the ontology allows, and of texts that no format likes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from domain.provenance import Provenance
from kg.exchange.whole import CLASSES, KINDS, Kind, key_of
from kg.schema import EDGE_TYPES, FACT_TYPES, NODE_TYPES, PROVENANCE, Datatype, EdgeType, NodeType, Property
from kg.store import GraphStore
from kg.tables import arrow_schema
from tests.contract.memory_store import MemoryStore, Tables

HOSTILE = (
    *(
        '"',
        "'",
        "\\",
        "\n",
        "\r",
        "\r\n",
        "\t",
        "\x00",
        "\x01",
        "\x7f",
        "\u2028",
        "\ufffe",
        "\U0001f600",
        "é",
    ),
    *(
        "]]>",
        "<!--",
        "&amp;",
        "<",
        ",",
        ";",
        "=1+1",
        "_x0041_",
        "_x",
        '"^^<x>',
        "> ",
        "%2F",
        "/",
        "..",
        ".",
        "::1",
    ),
    *("", " ", "NULL", "'; DROP TABLE x --", "} DELETE {?s ?p ?o} WHERE {", "`) DETACH DELETE (n"),
)

texts = st.lists(st.sampled_from(HOSTILE) | st.text(max_size=3), max_size=3).map("".join)
times = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)).map(lambda time: time.replace(tzinfo=UTC))  # noqa: DTZ001
VALUES: dict[Datatype, st.SearchStrategy[Any]] = {
    Datatype.INTEGER: st.integers(0, 9) | st.integers(-(2**63), 2**63 - 1),
    Datatype.DOUBLE: st.floats(allow_nan=False),
    Datatype.STRING: texts,
    Datatype.BOOLEAN: st.booleans(),
    Datatype.DATETIME: times,
}


def rows(kind: Kind, *, most: int = 3) -> st.SearchStrategy[pa.Table]:
    """Some rows of a kind, without provenance; each key once."""
    keys = [column.name for column in key_of(kind)]

    def value(column: Property) -> st.SearchStrategy[Any]:
        known = VALUES[column.datatype]
        needed = column.required or (column.name in keys and column.name != "valid_from")
        return known if needed else st.none() | known

    one = st.fixed_dictionaries({column.name: value(column) for column in kind.columns})
    many = st.lists(one, max_size=most, unique_by=lambda row: tuple(row[key] for key in keys))
    return many.map(lambda found: pa.Table.from_pylist(found, arrow_schema(kind.columns)))


provenances = st.builds(
    Provenance,
    **{
        column.name: VALUES[column.datatype] if column.required else st.none() | VALUES[column.datatype]
        for column in PROVENANCE
    },
)


@st.composite
def graphs(draw: st.DrawFn) -> MemoryStore:
    """A small graph in memory."""
    store = MemoryStore(Tables())
    for name in sorted(draw(st.sets(st.sampled_from(sorted(CLASSES)), min_size=1, max_size=5))):
        kind = CLASSES[name]
        if isinstance(kind, NodeType):
            store.upsert_nodes(kind, draw(rows(kind)))
            continue
        for provenance in draw(st.lists(provenances, max_size=2)):
            if isinstance(kind, EdgeType):
                store.upsert_edges(kind, draw(rows(kind)), provenance)
            else:
                store.put_facts(kind, draw(rows(kind)), provenance)
    return store


def content(store: GraphStore) -> dict[str, list[dict[str, Any]]]:
    """All that a store keeps, in an order."""
    found = {node_type.label: store.nodes(node_type) for node_type in NODE_TYPES}
    found |= {edge_type.table: store.edges(edge_type) for edge_type in EDGE_TYPES}
    found |= {fact_type.label: store.facts(fact_type, with_provenance=True) for fact_type in FACT_TYPES}
    assert len(found) == len(KINDS)
    return {name: table.to_pylist() for name, table in found.items()}
