"""The reference page of the graph, `docs/graph.md`: everything in it is from `ontology.ttl`."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pyoxigraph as ox

from kg.exchange.terms import literals
from kg.exchange.whole import KINDS, class_of, columns_of, key_of, never_null
from kg.schema import (
    NAMESPACE,
    ONTOLOGY,
    PROVENANCE,
    VERSION,
    WINDOW,
    EdgeType,
    FactType,
    History,
    Layer,
    Merge,
    NodeType,
    Property,
)
from kg.sparql import PREFIXES

_INTRODUCTION = f"""# The graph

Made from `kg/ontology.ttl` (version {VERSION}) by `make docs`; change it there.

The graph has three layers, and three kinds of things. A **node** has a label and one key. An **edge** is a verb between two nodes. A
**fact** is what is said of one node, or of one edge, in one window `[window_start, window_end)`, in UTC. What is unknown is not there:
null in tables, no property in Neo4j, no triple in RDF. Nothing is a default.

Labels, keys and edge names of the topology layer are those of the Internet Yellow Pages.

**History.** A *stated* edge holds from `valid_from` (included; unknown: since before anybody said so) until `valid_to` (not included;
unknown: it still holds); of announcements (`ORIGINATE`) only those of now are known. A *seen* edge was met by measurements at `first_seen`, at `last_seen` and perhaps between.

**Provenance.** Every edge and every fact says whose word it is, in the properties of [Provenance](#provenance).

## How it looks

| | in Cypher (Neo4j) | in SPARQL | in Python |
|---|---|---|---|
| a node | `(:AtlasProbe {{id: 1001}})` | `?probe a :AtlasProbe ; :id 1001` | `store.nodes(ATLAS_PROBE)` |
| an edge | `(:AtlasProbe)-[:LOCATED_IN {{af: 4}}]->(:AS)` | `?probe :LOCATED_IN ?as`, as long as it holds | `store.edges(LOCATED_IN_AS)` |
| what an edge says | properties of the relationship | `?edge a :AtlasProbe-LOCATED_IN-AS ; rdf:subject ?probe ; rdf:object ?as ; :valid_from ?since` | columns of that table |
| a fact about an edge | a relationship beside it: `-[s:PATH_STATE]->` | `?state a :PathState ; :of ?edge ; :probe_id 1001 ; :rtt_median_ms ?rtt` | `store.facts(PATH_STATE)` |
| a fact about a node | `(:ProbeState)-[:OF]->(:AtlasProbe)` | `?state a :ProbeState ; :of ?probe` | `store.facts(PROBE_STATE)` |
| a prediction, about a path of its own | `-[p:PATH_PREDICTION]->`, beside `PREDICTED_TO` | `?prediction a :PathPrediction ; :of ?path ; :model "sage"` | `store.facts(PATH_PREDICTION)` |
| whose word | properties of the relationship or node | `?state :provenance ?p . ?p :reference_name ?name` | columns of that table |

A file in RDF names the ontology and its version, and says how many nodes, edges and facts it holds:
`id:graph a owl:Ontology ; owl:imports <https://w3id.org/qoetwin/ontology> ; owl:versionInfo "{VERSION}" ; :resources 42`. One that
does not say so is taken for one that was cut, and is refused.

SQLite has a table a label, kind of edge and fact; ask it through one of these. In SPARQL each layer is a named graph (`:NTKG`, `:NSKG`,
`:ASKG`); a query that names none asks all of them, and the ontology. These prefixes are known:
"""


def reference() -> str:
    """The page, as Markdown."""
    return (
        "\n".join([_INTRODUCTION, *_prefixes(), *_layers(), *_provenance(), *_properties()]).rstrip() + "\n"
    )


def _prefixes() -> Iterator[str]:
    yield "```sparql"
    yield from (f"PREFIX {name}: <{iri}>" for name, iri in PREFIXES.items())
    yield "```\n"


class _Words:
    """What the ontology says in words, by local name."""

    def __init__(self) -> None:
        self.definitions: dict[str, str] = {}
        self.units: dict[str, str] = {}
        self.labels: dict[str, str] = {}
        self.like: dict[str, list[str]] = {}
        for triple in ox.parse(path=str(ONTOLOGY), format=ox.RdfFormat.TURTLE):
            if not isinstance(triple.subject, ox.NamedNode) or isinstance(
                triple.object, (ox.BlankNode, ox.Triple)
            ):
                continue
            name, said = triple.subject.value.removeprefix(NAMESPACE), triple.object.value
            match re.split("[#/]", triple.predicate.value)[-1]:
                case "definition":
                    self.definitions[name] = said
                case "hasUnit":
                    self.units[name] = said.rpartition("/")[2]
                case "label":
                    self.labels[name] = said
                case "subClassOf" | "subPropertyOf" if not said.startswith(NAMESPACE):
                    self.like.setdefault(name, []).append(_short(said))


_NAMESPACES = {
    "http://www.w3.org/2003/01/geo/wgs84_pos#": "wgs",
    "http://www.opengis.net/ont/geosparql#": "geo",
    "http://www.w3.org/2006/time#": "time",
    **{iri: name for name, iri in PREFIXES.items() if name},
}


def _short(iri: str) -> str:
    namespace = next((namespace for namespace in _NAMESPACES if iri.startswith(namespace)), "")
    return f"`{_NAMESPACES[namespace]}:{iri.removeprefix(namespace)}`" if namespace else f"<{iri}>"


def _layers() -> Iterator[str]:
    words = _Words()
    for layer in Layer:
        yield f"## {layer.value}: {words.labels[layer.value]}\n"
        for kind in KINDS:
            if kind.layer is not layer:
                continue
            yield f"### {kind.table if isinstance(kind, EdgeType) else kind.label}\n"
            yield " ".join(_said(kind, words)) + "\n"
            columns = literals(kind)
            if columns:
                yield from _table(kind, columns)


def _said(kind: NodeType | EdgeType | FactType, words: _Words) -> Iterator[str]:
    """Sentences about a kind."""
    name = kind.name if isinstance(kind, EdgeType) else kind.label
    yield words.definitions[name]
    like = words.like.get(class_of(kind), []) + words.like.get(name, [])
    match kind:
        case NodeType():
            yield f"Key: `{kind.key.name}`."
        case EdgeType():
            told = [f"`{column.name}`" for column in key_of(kind)[2:]]
            yield "One " + " and ".join(["pair of ends", *told]) + " is one edge."
            if kind.history is History.STATED:
                owner = kind.source if kind.owner == "source" else kind.target
                yield f"Stated: whoever states it for one {owner.label} states all of that {owner.label}'s."
            elif kind.history is History.SEEN:
                yield "Seen."
        case FactType():
            about = kind.about.table if isinstance(kind.about, EdgeType) else kind.about.label
            yield f"About one {about}."
            if kind.derived_from is not None:
                yield f"Derived from {kind.derived_from}."
    if like:
        yield f"A kind of {', '.join(dict.fromkeys(like))}."


def _table(kind: NodeType | EdgeType | FactType, columns: tuple[Property, ...]) -> Iterator[str]:
    key = {column.name for column in key_of(kind)}
    known = never_null(kind)
    yield "| property | datatype | key | known |"
    yield "|---|---|---|---|"
    for column in columns:
        is_known = "always" if column.name in known else ""
        yield f"| [`{column.name}`](#properties) | {column.datatype} | {'key' if column.name in key else ''} | {is_known} |"
    yield ""


def _provenance() -> Iterator[str]:
    words = _Words()
    yield "## Provenance\n"
    yield words.definitions["Provenance"] + "\n"
    yield "| property | datatype | known |"
    yield "|---|---|---|"
    for column in PROVENANCE:
        yield f"| [`{column.name}`](#properties) | {column.datatype} | {'always' if column.required else ''} |"
    yield ""


def _properties() -> Iterator[str]:
    words = _Words()
    found = {column.name: column for kind in KINDS for column in columns_of(kind)}
    found |= {column.name: column for column in (*WINDOW, *PROVENANCE)}
    yield "## Properties\n"
    yield "Units are suffixes, and QUDT's. Where a property is written again with another value, the last one counts, if nothing else is said.\n"
    yield "| property | datatype | unit | what it is |"
    yield "|---|---|---|---|"
    for name in sorted(found.keys() - {"source", "target"} | {"target"}):
        meaning = words.definitions[name]
        merge = found[name].merge
        if merge is not Merge.LAST:
            meaning += f" The {merge.value.lower()} counts."
        if name in words.like:
            meaning += f" A kind of {', '.join(words.like[name])}."
        yield f"| `{name}` | {found[name].datatype} | {words.units.get(name, '')} | {meaning} |"
