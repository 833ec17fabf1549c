"""What is left out of a query's cache is what the query cannot see."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import kg.sparql
from kg.answer import Answer
from kg.sparql import PREFIXES, query
from kg.sparql_needs import needs
from kg.store import GraphStore
from tests.contract.memory_store import MemoryStore, Tables
from tests.contract.test_stores import H3, T0, facts, fill, moved, said, score, state

QUERIES = [
    "SELECT ?r { ?s a :PathState ; :rtt_median_ms ?r } ORDER BY ?r",
    "SELECT ?s ?x { ?s :probe_id ?x } ORDER BY ?s ?x",
    "SELECT ?s ?j { ?s :sent ?n OPTIONAL { ?s :jitter_ms ?j } } ORDER BY ?s",
    "SELECT ?s { ?s a :PathState FILTER NOT EXISTS { ?x :of/^:of ?s ; a :PathScore } } ORDER BY ?s",
    "SELECT ?s { ?s a :PathState MINUS { ?s :af 6 } } ORDER BY ?s",
    "SELECT ?v { { ?s :score ?v } UNION { ?s :loss_ratio ?v } } ORDER BY ?v",
    "SELECT ?c (COUNT(?s) AS ?n) { ?s a ?c } GROUP BY ?c ORDER BY ?c",
    "SELECT ?p { { SELECT ?p (MAX(?r) AS ?m) { ?s :probe_id ?p ; :rtt_median_ms ?r } GROUP BY ?p } FILTER (?m > 1) } ORDER BY ?p",
    "SELECT ?name { ?s :provenance/:reference_name ?name } ORDER BY ?name",
    "SELECT ?c { ?p :id 1 ; :COUNTRY/:country_code ?c }",
    "SELECT ?x ?y { ?x :NEXT_HOP+ ?y } ORDER BY ?x ?y",
    "SELECT (COUNT(*) AS ?n) { ?x :NEXT_HOP* ?y }",
    "SELECT ?o { <https://w3id.org/qoetwin/id/Country/LB> :country_code ?o }",
    "SELECT ?e ?f { ?e rdf:subject/:id 1 ; rdf:object ?o OPTIONAL { ?e :valid_from ?f } } ORDER BY ?e ?f",
    "ASK { ?s :score 80.0 ; :application 'voip' }",
    "CONSTRUCT { ?s :seen true } WHERE { ?s a :LinkState ; :traceroutes 3 }",
    "SELECT ?label { ?class a :FactType ; rdfs:label ?label } ORDER BY ?label",
    "SELECT (COUNT(*) AS ?n) { ?s ?p ?o }",
    "SELECT ?s { ?s !(rdf:type|:id) 1 } ORDER BY ?s",
    "SELECT ?a { ?s a :ASScore . ?s :asn ?a . ?n a :AS ; :asn ?a }",
    *re.findall(
        r"```sparql\n(.*?)```",
        (Path(__file__).parents[2] / "docs" / "questions.md").read_text(encoding="utf-8"),
        re.DOTALL,
    ),
]
GIVEN = {"at": T0.isoformat(), "before": T0.isoformat(), "country": "LB", "application": "voip", "probe": 1}


@pytest.fixture(scope="module")
def store() -> GraphStore:
    store = MemoryStore(Tables())
    fill(store)
    moved(store)
    later = {"window_start": T0 + H3, "window_end": T0 + 2 * H3}
    from kg.schema import PATH_SCORE, PATH_STATE

    store.put_facts(PATH_STATE, facts(PATH_STATE, state(**later, jitter_ms=2.0)), said("ping, later"))
    store.put_facts(PATH_SCORE, facts(PATH_SCORE, score(application="web")), said("scores"))
    return store


def ask(store: GraphStore, sparql: str, cache: Path) -> Answer:
    given = {name: value for name, value in GIVEN.items() if re.search(rf"[?$]{name}\b", sparql)}
    return query(store, sparql, given, limit=1000, timeout_s=60.0, cache=cache, report=lambda *_: None)


@pytest.mark.parametrize("sparql", QUERIES)
def test_a_query_on_what_it_needs_has_the_answer_that_it_has_on_everything(
    store: GraphStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sparql: str
) -> None:
    on_needs = ask(store, sparql, tmp_path / "needs")
    monkeypatch.setattr(kg.sparql, "needs", lambda *_: None)
    on_everything = ask(store, sparql, tmp_path / "everything")
    assert on_needs.columns == on_everything.columns
    assert sorted(map(repr, on_needs.rows)) == sorted(map(repr, on_everything.rows))


def test_a_question_about_states_needs_no_scores() -> None:
    found = needs("SELECT ?r { ?s a :PathState ; :rtt_median_ms ?r }", PREFIXES)
    assert found is not None
    assert set(found) == {"PathState"}
    assert {iri.rpartition("#")[2] for iri in found["PathState"]} == {"type", "rtt_median_ms"}


@pytest.mark.parametrize(
    "sparql",
    ["SELECT * { ?s ?p ?o }", "SELECT * { ?a :NEXT_HOP* ?b }", "DESCRIBE <x:y>", "SELECT * { ?a !:id ?b }"],
)
def test_what_may_look_at_anything_needs_everything(sparql: str) -> None:
    assert needs(sparql, PREFIXES) is None


def test_what_is_no_query_is_said_before_anything_is_made_ready(store: GraphStore, tmp_path: Path) -> None:
    from domain.errors import InputError

    with pytest.raises(InputError, match="no SPARQL query"):
        ask(store, "SELECT nonsense", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
