"""The schema of the graph, read from `ontology.ttl`: node types, edge types and fact types, layer by layer.

Nothing is said here that the ontology says: change it there, and tables, constraints and pages follow. This module gives
names to what code speaks of.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pyoxigraph as ox

ONTOLOGY = Path(__file__).parent / "ontology.ttl"
NAMESPACE = "https://w3id.org/qoetwin/ontology#"


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

    LAST = "Last"
    LEAST = "Least"
    GREATEST = "Greatest"


class History(StrEnum):
    """How an edge knows when it holds."""

    NONE = "None"
    STATED = "Stated"
    SEEN = "Seen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Property:
    """A property of a node, an edge or a fact."""

    name: str
    datatype: Datatype
    merge: Merge = Merge.LAST
    required: bool = False


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
    """A kind of edge, identified by its two ends, the properties in `identity` and, if stated, `valid_from`.

    Attributes:
        name: the verb.
        source, target: the two ends.
        history: `STATED` edges have `valid_from` and `valid_to`, `SEEN` ones `first_seen` and `last_seen`.
        owner: of stated edges "source" or "target": the end whose history they are. Writing some edges of an owner (and
            identity) writes all of its history: a probe that moved has moved.
    """

    name: str
    layer: Layer
    source: NodeType
    target: NodeType
    identity: tuple[Property, ...] = ()
    properties: tuple[Property, ...] = ()
    history: History = History.NONE
    owner: str | None = None

    @property
    def table(self) -> str:
        """Its name in full: the same verb can join different labels."""
        return f"{self.source.label} {self.name} {self.target.label}"

    @property
    def ends(self) -> tuple[Property, Property]:
        """The columns `source` and `target`, with the datatypes of the keys of the nodes there."""
        return (
            Property(name="source", datatype=self.source.key.datatype, required=True),
            Property(name="target", datatype=self.target.key.datatype, required=True),
        )

    @property
    def key(self) -> tuple[Property, ...]:
        """What identifies an edge: ends, identity and, if stated, `valid_from`."""
        since = [p for p in self.properties if p.name == "valid_from"]
        return (*self.ends, *self.identity, *since)

    @property
    def columns(self) -> tuple[Property, ...]:
        """Ends, identity, properties; those of its history are the last two of them."""
        return (*self.ends, *self.identity, *self.properties)


@dataclass(frozen=True, slots=True, kw_only=True)
class FactType:
    """What is said of one node, or of one edge, in one window.

    Attributes:
        label: its name.
        about: kind of node or edge.
        subject: columns that identify that node (its key) or edge (source, target, identity).
        identity: further columns of its key, next to the window's.
        values: what it says.
        derived_from: the fact that it is computed from. Where both are about the same, it goes when that one changes or
            goes; but if it has an `origin`, only what is `MEASURED`: a prediction stays what was predicted.
    """

    label: str
    layer: Layer
    about: NodeType | EdgeType
    subject: tuple[Property, ...]
    identity: tuple[Property, ...]
    values: tuple[Property, ...]
    derived_from: str | None = None

    @property
    def key(self) -> tuple[Property, ...]:
        """Subject, window, identity."""
        return (*self.subject, *WINDOW, *self.identity)

    @property
    def columns(self) -> tuple[Property, ...]:
        """The key, then the values."""
        return (*self.key, *self.values)


class _Ontology:
    """What the ontology says, by subject."""

    def __init__(self, path: Path) -> None:
        self._said: dict[str, list[tuple[str, str]]] = {}
        for triple in ox.parse(path=path, format=ox.RdfFormat.TURTLE):
            subject, predicate = _local(triple.subject), _local(triple.predicate)
            self._said.setdefault(subject, []).append((predicate, _local(triple.object)))

    def of_kind(self, kind: str) -> Iterator[str]:
        """Names of the classes of that kind, in the order of the file."""
        return (name for name, said in self._said.items() if ("type", kind) in said)

    def one(self, name: str, predicate: str) -> str | None:
        """The object, or None."""
        return next((found for said, found in self._said[name] if said == predicate), None)

    def properties(self, name: str, predicate: str) -> tuple[Property, ...]:
        """The properties in a list, in order."""
        required = set(self._list(self.one(name, "required")))
        return tuple(
            Property(
                name=item,
                datatype=Datatype(self.one(item, "range") or ""),
                merge=Merge(self.one(item, "merge") or Merge.LAST),
                required=item in required or predicate != "carries",
            )
            for item in self._list(self.one(name, predicate))
        )

    def _list(self, head: str | None) -> Iterator[str]:
        while head is not None and head != "nil":
            first = self.one(head, "first")
            assert first is not None, head  # noqa: S101 - a Turtle parser makes no list without it
            yield first
            head = self.one(head, "rest")

    def node_types(self) -> dict[str, NodeType]:
        return {
            name: NodeType(
                label=name,
                layer=Layer(self.one(name, "layer") or ""),
                key=self.properties(name, "hasKey")[0],
                properties=self.properties(name, "carries"),
            )
            for name in self.of_kind("NodeType")
        }

    def edge_types(self, nodes: dict[str, NodeType]) -> dict[str, EdgeType]:
        found: dict[str, EdgeType] = {}
        for name in self.of_kind("EdgeType"):
            source, target = self.one(name, "from") or "", self.one(name, "to") or ""
            history = History(self.one(name, "history") or History.NONE)
            owner = self.one(name, "owner")
            found[name] = EdgeType(
                name=self.one(name, "verb") or "",
                layer=Layer(self.one(name, "layer") or ""),
                source=nodes[source],
                target=nodes[target],
                identity=self.properties(name, "identity"),
                properties=(*self.properties(name, "carries"), *self._times(history)),
                history=history,
                owner=None if owner is None else "source" if owner == source else "target",
            )
        return found

    def _times(self, history: History) -> tuple[Property, ...]:
        names = {
            History.NONE: (),
            History.STATED: ("valid_from", "valid_to"),
            History.SEEN: ("first_seen", "last_seen"),
        }
        return tuple(
            Property(
                name=name, datatype=Datatype.DATETIME, merge=Merge(self.one(name, "merge") or Merge.LAST)
            )
            for name in names[history]
        )

    def fact_types(self, nodes: dict[str, NodeType], edges: dict[str, EdgeType]) -> dict[str, FactType]:
        return {
            name: FactType(
                label=name,
                layer=Layer(self.one(name, "layer") or ""),
                about=(nodes | edges)[self.one(name, "about") or ""],
                subject=self.properties(name, "subject"),
                identity=self.properties(name, "identity"),
                values=self.properties(name, "carries"),
                derived_from=self.one(name, "derivedFrom"),
            )
            for name in self.of_kind("FactType")
        }


def _local(term: object) -> str:
    """A term without its namespace; what is no IRI, as it is."""
    if not isinstance(term, ox.NamedNode):
        return str(term)
    return term.value.rpartition("#")[2].rpartition("/")[2]


WINDOW: tuple[Property, ...] = (
    Property(name="window_start", datatype=Datatype.DATETIME, required=True),
    Property(name="window_end", datatype=Datatype.DATETIME, required=True),
)
"""The window of a fact, half-open."""

_ontology = _Ontology(ONTOLOGY)
_nodes = _ontology.node_types()
_edges = _ontology.edge_types(_nodes)
_facts = _ontology.fact_types(_nodes, _edges)

VERSION = int((_ontology.one("ontology", "versionInfo") or "").strip('"'))
"""Version of the ontology, and of what stores keep."""

NODE_TYPES: tuple[NodeType, ...] = tuple(_nodes.values())
EDGE_TYPES: tuple[EdgeType, ...] = tuple(_edges.values())
FACT_TYPES: tuple[FactType, ...] = tuple(_facts.values())
PROVENANCE: tuple[Property, ...] = _ontology.properties("Provenance", "carries")
"""What every edge and every fact says of where it is from."""

ATLAS_PROBE = _nodes["AtlasProbe"]
ATLAS_MEASUREMENT = _nodes["AtlasMeasurement"]
IP = _nodes["IP"]
PREFIX = _nodes["Prefix"]
AS = _nodes["AS"]
COUNTRY = _nodes["Country"]
POINT = _nodes["Point"]
HOST_NAME = _nodes["HostName"]
PROBE_STATUS = _nodes["ProbeStatus"]
APPLICATION = _nodes["Application"]
METRIC = _nodes["Metric"]

ASSIGNED = _edges["IP-ASSIGNED-AtlasProbe"]
LOCATED_IN_AS = _edges["AtlasProbe-LOCATED_IN-AS"]
LOCATED_IN_POINT = _edges["AtlasProbe-LOCATED_IN-Point"]
IN_COUNTRY = _edges["AtlasProbe-COUNTRY-Country"]
HAD_STATUS = _edges["AtlasProbe-STATUS-ProbeStatus"]
PART_OF_PREFIX = _edges["IP-PART_OF-Prefix"]
ORIGINATE = _edges["AS-ORIGINATE-Prefix"]
PART_OF_MEASUREMENT = _edges["AtlasProbe-PART_OF-AtlasMeasurement"]
TARGET_IP = _edges["AtlasMeasurement-TARGET-IP"]
TARGET_HOST_NAME = _edges["AtlasMeasurement-TARGET-HostName"]
NEXT_HOP = _edges["IP-NEXT_HOP-IP"]
NEXT_AS = _edges["AS-NEXT_AS-AS"]
MEASURES = _edges["AtlasProbe-MEASURES-IP"]
PREDICTED_TO = _edges["AtlasProbe-PREDICTED_TO-IP"]
REQUIRES = _edges["Application-REQUIRES-Metric"]

PATH_STATE = _facts["PathState"]
PROBE_STATE = _facts["ProbeState"]
TARGET_STATE = _facts["TargetState"]
LINK_STATE = _facts["LinkState"]
PATH_PREDICTION = _facts["PathPrediction"]
PATH_SCORE = _facts["PathScore"]
AS_SCORE = _facts["ASScore"]
COUNTRY_SCORE = _facts["CountryScore"]

PATH: tuple[str, ...] = tuple(p.name for p in PATH_STATE.subject)
"""What identifies a path: probe, target, family."""

PATH_EDGES: tuple[EdgeType, ...] = (MEASURES, PREDICTED_TO)
"""The edges that are paths: measured ones, and predicted ones. A path can be both, and then has both edges."""

SCORE_COSTS: tuple[str, ...] = tuple(p.name for p in PATH_SCORE.values if p.name.endswith("_cost_points"))
"""What each metric takes away from the 100 points."""

MEASURED = "measured"
"""Origin of what was made from measured states; any other is the model that predicted them."""
