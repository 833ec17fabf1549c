"""The ontology and the schema that the stores follow say the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from rdflib import OWL, RDF, RDFS, XSD, Graph, Namespace, URIRef
from rdflib.collection import Collection
from rdflib.namespace import SKOS

import kg
from domain.path_state import PathState
from domain.provenance import Provenance
from kg.schema import EDGE_TYPES, NODE_TYPES, SCORE_KEY, SCORE_VALUES, STATE_KEY
from kg.tables import SCORE_TYPES, arrow_type, field_datatypes

Q = Namespace("https://w3id.org/qoetwin/ontology#")


@pytest.fixture(scope="module")
def ontology() -> Graph:
    return Graph().parse(Path(kg.__file__).parent / "ontology.ttl")


def local(node: object) -> str:
    return str(node).removeprefix(str(Q))


def properties_of(ontology: Graph, owner: str, link: URIRef = RDFS.domain) -> dict[str, str]:
    """Name -> XML Schema datatype of the properties of a class, or of a kind of edge."""
    return {
        str(ontology.value(p, RDFS.label)): str(ontology.value(p, RDFS.range)).removeprefix(str(XSD))
        for p in ontology.subjects(link, Q[owner])
        if (p, RDF.type, OWL.DatatypeProperty) in ontology
    }


def key_of(ontology: Graph, owner: str) -> list[str]:
    (head,) = ontology.objects(Q[owner], OWL.hasKey)
    return [str(ontology.value(p, RDFS.label)) for p in Collection(ontology, head)]


def test_every_node_type_is_a_class_with_the_same_key_layer_and_properties(ontology: Graph) -> None:
    for node_type in NODE_TYPES:
        assert key_of(ontology, node_type.label) == [node_type.key.name]
        assert ontology.value(Q[node_type.label], Q.layer) == Q[node_type.layer.value]
        wanted = {p.name: p.datatype.value for p in node_type.columns}
        assert properties_of(ontology, node_type.label) == wanted


def test_every_edge_type_is_an_object_property_with_the_same_ends_and_properties(ontology: Graph) -> None:
    for edge_type in EDGE_TYPES:
        iri = Q[edge_type.table.replace(" ", ".")]
        ends = (ontology.value(iri, RDFS.domain), ontology.value(iri, RDFS.range))
        assert ends == (Q[edge_type.source], Q[edge_type.target])
        assert str(ontology.value(iri, RDFS.label)) == edge_type.name
        assert ontology.value(iri, Q.layer) == Q[edge_type.layer.value]
        wanted = {p.name: p.datatype.value for p in (*edge_type.identity, *edge_type.properties)}
        assert properties_of(ontology, local(iri), Q.appliesTo) == wanted
        identity = {str(ontology.value(p, RDFS.label)) for p in ontology.objects(iri, Q.identity)}
        assert identity == {p.name for p in edge_type.identity}
        functional = (iri, RDF.type, OWL.FunctionalProperty) in ontology
        assert functional == (edge_type.single and not edge_type.identity)


def test_the_ontology_has_no_node_or_edge_that_the_schema_lacks(ontology: Graph) -> None:
    keyed = {local(c) for c in ontology.subjects(OWL.hasKey, None)}
    assert keyed == {n.label for n in NODE_TYPES} | {"PathState", "PathScore"}
    verbs = {local(p).replace(".", " ") for p in ontology.subjects(RDF.type, OWL.ObjectProperty)}
    assert verbs == {e.table for e in EDGE_TYPES}


def test_states_and_provenance_have_the_fields_of_their_domain_classes(ontology: Graph) -> None:
    for owner in (PathState, Provenance):
        wanted = {name: datatype.value for name, datatype in field_datatypes(owner).items()}
        assert properties_of(ontology, owner.__name__) == wanted
    assert key_of(ontology, "PathState") == list(STATE_KEY)


def test_scores_have_the_columns_that_stores_keep(ontology: Graph) -> None:
    assert key_of(ontology, "PathScore") == list(SCORE_KEY)
    found = properties_of(ontology, "PathScore")
    assert list(found) == [*SCORE_KEY, *SCORE_VALUES]
    datatypes = {datatype.value: arrow_type(datatype) for datatype in field_datatypes(PathState).values()}
    assert {name: datatypes[datatype] for name, datatype in found.items()} == SCORE_TYPES


def test_everything_in_the_ontology_is_defined_in_words_and_every_time_and_ratio_has_a_unit(
    ontology: Graph,
) -> None:
    has_unit = URIRef("http://qudt.org/schema/qudt/hasUnit")
    for kind in (OWL.ObjectProperty, OWL.DatatypeProperty):
        for subject in ontology.subjects(RDF.type, kind):
            assert ontology.value(subject, SKOS.definition) is not None, subject
            if local(subject).endswith(("_ms", "_ratio")):
                assert ontology.value(subject, has_unit) is not None, subject
