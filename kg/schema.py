"""The schema of the graph: labels, keys, properties and edges, layer by layer.

`ontology.ttl` says the same in OWL, with definitions and units; a test holds the two together, and the stores make
their tables and constraints from here. Names and keys of the topology layer are those of the Internet Yellow Pages.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum

from domain.path_state import PathState


class Layer(StrEnum):
    """The three layers of the knowledge base (AI-NDT, section III)."""

    TOPOLOGY = "NTKG"
    STATE = "NSKG"
    APPLICATION = "ASKG"


class Datatype(StrEnum):
    """Datatypes of properties, by their XML Schema names."""

    INTEGER = "integer"
    DOUBLE = "double"
    STRING = "string"
    BOOLEAN = "boolean"
    DATETIME = "dateTime"


class Merge(StrEnum):
    """What becomes of a property that is written again with another value. Unknown (null) never erases."""

    LAST = "the last one written"
    LEAST = "the least one"
    GREATEST = "the greatest one"


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """A property of a node or an edge."""

    name: str
    datatype: Datatype
    merge: Merge = Merge.LAST


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeType:
    """A kind of node, identified by one key property."""

    label: str
    layer: Layer
    key: Property
    properties: tuple[Property, ...] = ()

    @property
    def columns(self) -> tuple[Property, ...]:
        """The key, then the other properties."""
        return (self.key, *self.properties)


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeType:
    """A kind of edge, identified by its two ends and the properties in `identity`.

    Where a source has only one (`single`), the end is not part of the identity: a probe that moved has moved.
    """

    name: str
    source: str
    target: str
    layer: Layer = Layer.TOPOLOGY
    identity: tuple[Property, ...] = ()
    properties: tuple[Property, ...] = ()
    single: bool = False

    @property
    def table(self) -> str:
        """Its name in full: the same verb can join different labels."""
        return f"{self.source} {self.name} {self.target}"


def _int(name: str, merge: Merge = Merge.LAST) -> Property:
    return Property(name=name, datatype=Datatype.INTEGER, merge=merge)


def _double(name: str) -> Property:
    return Property(name=name, datatype=Datatype.DOUBLE)


def _string(name: str) -> Property:
    return Property(name=name, datatype=Datatype.STRING)


def _boolean(name: str) -> Property:
    return Property(name=name, datatype=Datatype.BOOLEAN)


ATLAS_PROBE = NodeType(
    label="AtlasProbe",
    layer=Layer.TOPOLOGY,
    key=_int("id"),
    properties=(_string("name"), _string("status"), _boolean("is_anchor"), _boolean("synthetic")),
)
ATLAS_MEASUREMENT = NodeType(
    label="AtlasMeasurement",
    layer=Layer.TOPOLOGY,
    key=_int("id"),
    properties=(_string("type"), _int("af"), _boolean("synthetic")),
)
IP = NodeType(label="IP", layer=Layer.TOPOLOGY, key=_string("ip"), properties=(_int("af"),))
PREFIX = NodeType(label="Prefix", layer=Layer.TOPOLOGY, key=_string("prefix"), properties=(_int("af"),))
AS = NodeType(label="AS", layer=Layer.TOPOLOGY, key=_int("asn"))
COUNTRY = NodeType(label="Country", layer=Layer.TOPOLOGY, key=_string("country_code"))
POINT = NodeType(
    label="Point",
    layer=Layer.TOPOLOGY,
    key=_string("position"),
    properties=(_double("latitude"), _double("longitude")),
)
HOST_NAME = NodeType(label="HostName", layer=Layer.TOPOLOGY, key=_string("name"))
APPLICATION = NodeType(label="Application", layer=Layer.APPLICATION, key=_string("name"))

NODE_TYPES: tuple[NodeType, ...] = (
    ATLAS_PROBE,
    ATLAS_MEASUREMENT,
    IP,
    PREFIX,
    AS,
    COUNTRY,
    POINT,
    HOST_NAME,
    APPLICATION,
)

ASSIGNED = EdgeType(name="ASSIGNED", source="IP", target="AtlasProbe")
LOCATED_IN_AS = EdgeType(
    name="LOCATED_IN", source="AtlasProbe", target="AS", identity=(_int("af"),), single=True
)
LOCATED_IN_POINT = EdgeType(name="LOCATED_IN", source="AtlasProbe", target="Point", single=True)
IN_COUNTRY = EdgeType(name="COUNTRY", source="AtlasProbe", target="Country", single=True)
PART_OF_MEASUREMENT = EdgeType(name="PART_OF", source="AtlasProbe", target="AtlasMeasurement")
TARGET_IP = EdgeType(name="TARGET", source="AtlasMeasurement", target="IP")
TARGET_HOST_NAME = EdgeType(name="TARGET", source="AtlasMeasurement", target="HostName")
PART_OF_PREFIX = EdgeType(name="PART_OF", source="IP", target="Prefix")
NEXT_HOP = EdgeType(
    name="NEXT_HOP",
    source="IP",
    target="IP",
    properties=(
        _int("traceroutes", Merge.GREATEST),
        Property(name="first_seen", datatype=Datatype.DATETIME, merge=Merge.LEAST),
        Property(name="last_seen", datatype=Datatype.DATETIME, merge=Merge.GREATEST),
    ),
)

EDGE_TYPES: tuple[EdgeType, ...] = (
    ASSIGNED,
    LOCATED_IN_AS,
    LOCATED_IN_POINT,
    IN_COUNTRY,
    PART_OF_MEASUREMENT,
    TARGET_IP,
    TARGET_HOST_NAME,
    PART_OF_PREFIX,
    NEXT_HOP,
)

STATE_KEY: tuple[str, ...] = ("probe_id", "target", "af", "window_start", "window_end")
"""What identifies a path state."""

STATE_VALUES: tuple[str, ...] = tuple(f.name for f in fields(PathState) if f.name not in STATE_KEY)
"""What a path state says."""

SCORE_KEY: tuple[str, ...] = (*STATE_KEY, "application", "origin")
"""What identifies a score; `origin` is `measured`, or the model that predicted the state it was made from."""

SCORE_COSTS: tuple[str, ...] = ("rtt_cost_points", "loss_cost_points", "jitter_cost_points")
"""What each metric takes away from the 100 points."""

SCORE_VALUES: tuple[str, ...] = ("score", *SCORE_COSTS, "limiting_metric", "reason", "profile")
"""What a score says; `score` is null when it is unknown, and then `reason` says why."""

SCORED_STATE: tuple[str, ...] = ("rtt_median_ms", "loss_ratio", "jitter_ms", "synthetic")
"""What a score is read with: the metrics of its state, and whether they are synthetic."""
