"""The ontology says everything once: what the schema reads from it is whole, in words, with units, and what domain says too."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rdflib import OWL, RDF, RDFS, XSD, Graph, Namespace
from rdflib.collection import Collection
from rdflib.namespace import SKOS

from domain.link_state import LinkState
from domain.path_state import PathState
from domain.provenance import Provenance
from kg.exchange.whole import CLASSES, KINDS, class_of, columns_of, key_of
from kg.reference import reference
from kg.schema import (
    EDGE_TYPES,
    FACT_TYPES,
    LINK_STATE,
    NODE_TYPES,
    ONTOLOGY,
    PATH,
    PATH_STATE,
    PROVENANCE,
    SCORE_COSTS,
    VERSION,
    EdgeType,
    History,
    Layer,
    NodeType,
    Property,
)
from kg.tables import fact_schema, field_datatypes, node_schema

Q = Namespace("https://w3id.org/qoetwin/ontology#")
QUDT = Namespace("http://qudt.org/schema/qudt/")
UNITS = {"_ms": "MilliSEC", "_ratio": "UNITLESS", "_km": "KiloM", "_bps": "BIT-PER-SEC"}
PROPERTIES: dict[str, Property] = {
    column.name: column
    for column in (*(column for kind in KINDS for column in columns_of(kind)), *PROVENANCE)
    if column.name != "source"
}


@pytest.fixture(scope="module")
def ontology() -> Graph:
    return Graph().parse(ONTOLOGY, format="turtle")


def listed(ontology: Graph, name: str, predicate: str) -> list[str]:
    head = ontology.value(Q[name], OWL.hasKey if predicate == "hasKey" else Q[predicate])
    return [] if head is None else [str(item).removeprefix(str(Q)) for item in Collection(ontology, head)]


def test_the_schema_has_every_class_that_the_ontology_has(ontology: Graph) -> None:
    for kind, found in (
        ("NodeType", {node_type.label for node_type in NODE_TYPES}),
        ("EdgeType", {class_of(edge_type) for edge_type in EDGE_TYPES}),
        ("FactType", {fact_type.label for fact_type in FACT_TYPES}),
    ):
        assert {str(name).removeprefix(str(Q)) for name in ontology.subjects(RDF.type, Q[kind])} == found


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_has_the_key_the_properties_and_the_layer_that_the_ontology_lists(
    name: str, ontology: Graph
) -> None:
    kind = CLASSES[name]
    assert ontology.value(Q[name], Q.layer) == Q[kind.layer.value]
    carried = listed(ontology, name, "carries")
    if isinstance(kind, NodeType):
        said = [*listed(ontology, name, "hasKey"), *carried]
        assert [column.name for column in kind.columns] == said
    elif isinstance(kind, EdgeType):
        said = [*listed(ontology, name, "identity"), *carried]
        history = [column.name for column in kind.properties[len(carried) :]]
        assert [column.name for column in kind.columns[2:]] == [*said, *history]
        assert (
            history
            == {
                History.NONE: [],
                History.STATED: ["valid_from", "valid_to"],
                History.SEEN: ["first_seen", "last_seen"],
            }[kind.history]
        )
        assert (kind.owner is not None) == (kind.history is History.STATED)
        assert ontology.value(Q[name], Q["from"]) == Q[kind.source.label]
        assert ontology.value(Q[name], Q.to) == Q[kind.target.label]
    else:
        subject, identity = listed(ontology, name, "subject"), listed(ontology, name, "identity")
        key = [*subject, "window_start", "window_end", *identity]
        assert [column.name for column in kind.columns] == [*key, *carried]
        assert ontology.value(Q[name], Q.about) == Q[class_of(kind.about)]
        # The subject's columns have the datatypes of what they name.
        about = kind.about
        named = [about.key] if isinstance(about, NodeType) else [*about.ends, *about.identity]
        assert [column.datatype for column in kind.subject] == [column.datatype for column in named]


@pytest.mark.parametrize("name", sorted(PROPERTIES))
def test_a_property_is_a_datatype_property_with_one_range_defined_in_words(
    name: str, ontology: Graph
) -> None:
    assert (Q[name], RDF.type, OWL.DatatypeProperty) in ontology
    assert list(ontology.objects(Q[name], RDFS.range)) == [XSD[PROPERTIES[name].datatype.value]]
    (words,) = ontology.objects(Q[name], SKOS.definition)
    assert str(words).endswith(".")
    assert len(str(words).split()) >= 2


def test_the_ontology_has_no_property_that_nothing_carries(ontology: Graph) -> None:
    said = {str(name).removeprefix(str(Q)) for name in ontology.subjects(RDF.type, OWL.DatatypeProperty)}
    assert said == set(PROPERTIES)


@pytest.mark.parametrize("name", sorted(PROPERTIES))
def test_a_suffix_that_is_a_unit_has_that_unit_and_no_other_name_has_one(name: str, ontology: Graph) -> None:
    unit = ontology.value(Q[name], QUDT.hasUnit)
    suffix = next((suffix for suffix in UNITS if name.endswith(suffix)), None)
    if suffix is not None:
        assert str(unit).rpartition("/")[2] == UNITS[suffix]
    elif name in ("latitude", "longitude"):
        assert str(unit).endswith("/DEG")
    else:
        assert unit is None


def test_labels_and_verbs_are_defined_in_words(ontology: Graph) -> None:
    named = [
        *(node_type.label for node_type in NODE_TYPES),
        *(edge_type.name for edge_type in EDGE_TYPES),
        *(fact_type.label for fact_type in FACT_TYPES),
        "Provenance",
    ]
    for name in named:
        assert ontology.value(Q[name], SKOS.definition) is not None, name


def test_names_are_the_ones_that_neo4j_and_sqlite_are_used_to() -> None:
    for kind in KINDS:
        assert re.fullmatch(
            r"[A-Z][A-Za-z]*|[A-Z][A-Za-z]* [A-Z][A-Z_]* [A-Z][A-Za-z]*", class_of(kind).replace("-", " ")
        )
    for name in PROPERTIES:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name)


def test_layers_have_what_belongs_to_them() -> None:
    assert {kind.layer for kind in KINDS} == set(Layer)
    assert {kind.layer for kind in FACT_TYPES} == {Layer.STATE, Layer.APPLICATION}


@pytest.mark.parametrize(
    ("owner", "columns"),
    [
        (PathState, PATH_STATE.columns),
        (LinkState, LINK_STATE.columns),
        (Provenance, PROVENANCE),
    ],
)
def test_domain_and_ontology_say_the_same_of_what_both_name(
    owner: type, columns: tuple[Property, ...]
) -> None:
    assert field_datatypes(owner) == {column.name: column.datatype for column in columns}
    optional = {name for name, hint in owner.__annotations__.items() if "None" in str(hint)}
    assert optional == {column.name for column in columns if not column.required}


def test_a_key_is_never_unknown() -> None:
    for kind in KINDS:
        for column in key_of(kind):
            assert column.required or column.name == "valid_from"


def test_a_path_is_a_probe_a_target_and_a_family() -> None:
    assert PATH == ("probe_id", "target", "af")
    assert SCORE_COSTS == ("rtt_cost_points", "loss_cost_points", "jitter_cost_points")


def test_topology_has_the_keys_of_the_internet_yellow_pages() -> None:
    assert {
        node_type.label: node_type.key.name for node_type in NODE_TYPES if node_type.layer is Layer.TOPOLOGY
    } == {
        "AtlasProbe": "id",
        "AtlasMeasurement": "id",
        "IP": "ip",
        "Prefix": "prefix",
        "AS": "asn",
        "Country": "country_code",
        "Point": "position",
        "ProbeStatus": "name",
        "HostName": "name",
    }


def test_tables_have_a_column_for_each_property() -> None:
    for node_type in NODE_TYPES:
        assert node_schema(node_type).names == [column.name for column in node_type.columns]
    for fact_type in FACT_TYPES:
        assert fact_schema(fact_type).names == [column.name for column in fact_type.columns]


def test_what_is_computed_from_a_fact_is_a_fact_of_this_ontology() -> None:
    labels = {fact_type.label for fact_type in FACT_TYPES}
    assert {fact_type.derived_from for fact_type in FACT_TYPES} <= labels | {None}


def test_the_reference_page_is_fresh() -> None:
    page = Path(__file__).parents[2] / "docs" / "graph.md"
    assert page.read_text(encoding="utf-8") == reference(), "run: make docs"


def test_the_reference_page_names_everything() -> None:
    page = reference()
    assert f"version {VERSION}" in page
    for kind in KINDS:
        assert f"### {kind.table if isinstance(kind, EdgeType) else kind.label}\n" in page
    for name in PROPERTIES:
        assert f"| `{name}` |" in page
