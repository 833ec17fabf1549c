"""Arrow tables of what the graph keeps: their schemas from the ontology, and what every store does with them alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_type_hints

import pyarrow as pa
import pyarrow.compute as pc

from kg.schema import FACT_TYPES, PROVENANCE, Datatype, EdgeType, FactType, History, NodeType, Property

TIME = pa.timestamp("us", tz="UTC")

_ARROW = {
    Datatype.INTEGER: pa.int64(),
    Datatype.DOUBLE: pa.float64(),
    Datatype.STRING: pa.string(),
    Datatype.BOOLEAN: pa.bool_(),
    Datatype.DATETIME: TIME,
}

_PYTHON = {
    "int": Datatype.INTEGER,
    "float": Datatype.DOUBLE,
    "str": Datatype.STRING,
    "bool": Datatype.BOOLEAN,
    "datetime": Datatype.DATETIME,
}


def arrow_type(datatype: Datatype) -> pa.DataType:
    """The Arrow type of a property."""
    return _ARROW[datatype]


def arrow_schema(columns: Iterable[Property]) -> pa.Schema:
    """The Arrow schema of some properties."""
    return pa.schema([(column.name, _ARROW[column.datatype]) for column in columns])


def node_schema(node_type: NodeType) -> pa.Schema:
    """Columns of `GraphStore.nodes`."""
    return arrow_schema(node_type.columns)


def edge_schema(edge_type: EdgeType) -> pa.Schema:
    """Columns of `GraphStore.edges`."""
    return arrow_schema((*edge_type.columns, *PROVENANCE))


def fact_schema(fact_type: FactType) -> pa.Schema:
    """Columns of `GraphStore.facts`, without those of Provenance."""
    return arrow_schema(fact_type.columns)


def field_datatypes(owner: type) -> dict[str, Datatype]:
    """Datatype of each field of a domain dataclass; `X | None` is an X that may be unknown."""
    hints = get_type_hints(owner)
    return {name: _PYTHON[str(getattr(_known(hint), "__name__", hint))] for name, hint in hints.items()}


def _known(hint: object) -> object:
    options = [option for option in getattr(hint, "__args__", (hint,)) if option is not type(None)]
    return options[0]


def subjects(fact_type: FactType, facts: pa.Table) -> pa.Table:
    """What facts are about, as nodes or as edges, each once.

    Returns:
        For facts about nodes the key; for facts about edges `source`, `target` and the identity.
    """
    names = [column.name for column in fact_type.subject]
    about = fact_type.about
    ends = (
        [about.key.name]
        if isinstance(about, NodeType)
        else ["source", "target", *(column.name for column in about.identity)]
    )
    return facts.select(names).group_by(names).aggregate([]).rename_columns(ends)


def described(kind: EdgeType | FactType) -> bool:
    """Whether facts are about edges of that kind."""
    return any(fact_type.about is kind for fact_type in FACT_TYPES)


def refuse_described(kind: EdgeType | FactType) -> None:
    """Raise ValueError for a kind of edge that facts are about: a store does not delete those by key."""
    if described(kind):
        raise ValueError(f"facts are about {kind}")


def holding(edges: pa.Table, edge_type: EdgeType, moment: pa.Scalar) -> pa.Table:
    """The edges that held at a moment (see `GraphStore.edges`). An unknown bound bounds nothing."""
    match edge_type.history:
        case History.STATED:
            begun = pc.fill_null(pc.less_equal(edges["valid_from"], moment), True)
            open_still = pc.fill_null(pc.greater(edges["valid_to"], moment), True)
        case History.SEEN:
            begun = pc.fill_null(pc.less_equal(edges["first_seen"], moment), True)
            open_still = pc.fill_null(pc.greater_equal(edges["last_seen"], moment), True)
        case History.NONE:
            return edges
    return edges.filter(pc.and_(begun, open_still))
