"""Questions in SPARQL: they read, and nothing else; values stay values; what runs for ever is stopped."""

from __future__ import annotations

import time
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kg.sparql
from domain.errors import InputError, StoreError
from domain.progress import unheard
from domain.provenance import Provenance
from domain.selection import Selection
from kg.schema import APPLICATION, AS, ATLAS_PROBE, LOCATED_IN_AS, PATH_PREDICTION, PATH_STATE
from kg.sparql import Answer, Cell, query, refuse_what_reads_elsewhere
from kg.tables import fact_schema
from tests.contract.memory_store import MemoryStore, Tables
from tests.kg.random_graphs import HOSTILE

T0 = datetime(2019, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
SAID = Provenance(
    reference_name="atlas.ping",
    reference_org="RIPE NCC",
    reference_url_data=None,
    reference_time_fetch=T0,
    reference_time_modification=None,
    method=None,
    synthetic=False,
)


@pytest.fixture(scope="module")
def store() -> MemoryStore:
    """Two probes, one with two states; an application for every hostile text."""
    made = MemoryStore(Tables())
    made.upsert_nodes(
        ATLAS_PROBE, pa.table({"id": [1001, 1002], "name": ["one", None], "is_anchor": [True, False]})
    )
    located = {"source": [1001, 1002], "target": [64500, 64501], "af": [4, 4], "valid_from": [T0, T0]}
    made.upsert_edges(LOCATED_IN_AS, pa.table(located), SAID)
    states = [
        {
            "probe_id": 1001,
            "target": "193.0.0.1",
            "af": 4,
            "window_start": T0 + number * HOUR,
            "window_end": T0 + (number + 1) * HOUR,
            "results": 1,
            "sent": 3,
            "received": 3,
            "duplicates": 0,
            "errors": 0,
            "rtt_median_ms": 10.1 + number,
            "synthetic": False,
        }
        for number in range(2)
    ]
    made.put_facts(PATH_STATE, pa.Table.from_pylist(states, fact_schema(PATH_STATE)), SAID)
    made.upsert_nodes(APPLICATION, pa.table({"name": list(HOSTILE)}))
    return made


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def ask(store: MemoryStore, cache: Path, sparql: str, limit: int = 100, **parameters: Cell) -> Answer:
    return query(store, sparql, parameters, limit=limit, timeout_s=60.0, cache=cache, report=unheard)


def test_values_have_the_types_that_the_graph_has(store: MemoryStore, cache: Path) -> None:
    answer = ask(
        store,
        cache,
        "SELECT ?id ?name ?anchor ?asn ?rtt ?start { ?probe a :AtlasProbe ; :id ?id ; :is_anchor ?anchor ; :LOCATED_IN/:asn ?asn ."
        " OPTIONAL { ?probe :name ?name } OPTIONAL { ?state a :PathState ; :probe_id ?id ; :rtt_median_ms ?rtt ; :window_start ?start }"
        " } ORDER BY ?id ?start",
    )
    assert answer.columns == ("id", "name", "anchor", "asn", "rtt", "start")
    assert answer.rows == [
        (1001, "one", True, 64500, 10.1, T0),
        (1001, "one", True, 64500, 11.1, T0 + HOUR),
        (1002, None, False, 64501, None, None),
    ]
    assert isinstance(answer.rows[0][2], bool)
    assert not answer.cut


def test_ask_construct_and_describe_have_columns_too(store: MemoryStore, cache: Path) -> None:
    assert ask(store, cache, "ASK { ?s a :AtlasProbe }").rows == [(True,)]
    built = ask(store, cache, "CONSTRUCT { ?p :x ?id } WHERE { ?p a :AtlasProbe ; :id ?id } ")
    assert built.columns == ("subject", "predicate", "object")
    assert sorted(row[2] for row in built.rows) == [1001, 1002]
    described = ask(store, cache, "DESCRIBE id:AtlasProbe\\/1001")
    assert (
        "https://w3id.org/qoetwin/id/AtlasProbe/1001",
        "https://w3id.org/qoetwin/ontology#id",
        1001,
    ) in described.rows


def test_the_ontology_can_be_asked_what_a_property_means(store: MemoryStore, cache: Path) -> None:
    answer = ask(store, cache, "SELECT ?unit { :rtt_median_ms qudt:hasUnit ?unit ; skos:definition ?words }")
    assert answer.rows == [("http://qudt.org/vocab/unit/MilliSEC",)]


def test_predictions_can_be_selected_and_are_neither_states_nor_observations(
    store: MemoryStore, cache: Path
) -> None:
    predicted = MemoryStore(deepcopy(store._tables))
    rows = [
        {"probe_id": probe, "target": "193.0.0.1", "af": 4, "window_start": T0, "window_end": T0 + HOUR}
        | {"model": "graph-transformer", "protocol": "forecast", "rtt_ms": 12.5, "rtt_low_ms": 10.0}
        | {"rtt_high_ms": 20.0, "in_range": True, "predicted_at": T0, "synthetic": False}
        for probe in (1001, 1002)
    ]
    predicted.put_facts(PATH_PREDICTION, pa.Table.from_pylist(rows, fact_schema(PATH_PREDICTION)), SAID)
    found = ask(
        predicted,
        cache,
        "SELECT ?id ?rtt ?low ?high { ?p a :PathPrediction ; :of ?path ; :model ?model ; :rtt_ms ?rtt ; :rtt_low_ms ?low ;"
        " :rtt_high_ms ?high . ?path rdf:subject/:id ?id } ORDER BY ?id",
        model="graph-transformer",
    )
    assert found.rows == [(1001, 12.5, 10.0, 20.0), (1002, 12.5, 10.0, 20.0)]
    for measured in (
        "SELECT ?s ?r { ?s a :PathState ; :rtt_median_ms ?r } ORDER BY ?s",
        "SELECT ?s { ?s a/rdfs:subClassOf* sosa:Observation } ORDER BY ?s",
        "SELECT ?probe ?ip { ?probe :MEASURES ?ip } ORDER BY ?probe",
    ):
        rows_there = ask(predicted, cache, measured).rows
        assert rows_there == ask(store, cache, measured).rows
        assert rows_there
    never = "SELECT ?id { ?probe :PREDICTED_TO ?ip ; :id ?id FILTER NOT EXISTS { ?probe :MEASURES ?ip } }"
    assert ask(predicted, cache, never).rows == [(1002,)]


def test_rows_stop_at_the_limit_and_it_says_so(store: MemoryStore, cache: Path) -> None:
    assert len(ask(store, cache, "SELECT * { ?s ?p ?o }", limit=7).rows) == 7
    assert ask(store, cache, "SELECT * { ?s ?p ?o }", limit=7).cut
    assert not ask(store, cache, "SELECT ?s { ?s a :AtlasProbe }", limit=2).cut


def test_a_layer_is_a_named_graph(store: MemoryStore, cache: Path) -> None:
    count = "SELECT (COUNT(*) AS ?n) {} {{ ?s a ?c }}"
    everything = ask(store, cache, count.format("")).rows[0][0]
    one = ask(store, cache, count.format("FROM :NTKG")).rows[0][0]
    two = ask(store, cache, count.format("FROM :NTKG FROM :NSKG")).rows[0][0]
    assert isinstance(everything, int)
    assert isinstance(one, int)
    assert isinstance(two, int)
    assert 0 < one < two < everything
    named = ask(store, cache, "SELECT DISTINCT ?g FROM NAMED :ASKG { GRAPH ?g { ?s a ?c } }").rows
    assert named == [("https://w3id.org/qoetwin/ontology#ASKG",)]


# Parameters


@pytest.mark.parametrize(
    "sparql",
    [
        "SELECT ?p { ?p :id ?n }",
        "SELECT ?p { ?p a :AtlasProbe ; :id ?i FILTER(?i = ?n) }",
        "SELECT ?p { { ?p :id ?i FILTER(?i = ?n) } UNION { ?p :id ?i FILTER(?i = ?n && ?i < 0) } }",
        "SELECT ?p { { SELECT ?p { ?p :id ?n } } }",
        "SELECT ?p { ?p a :AtlasProbe FILTER EXISTS { ?p :id ?n } }",
        "SELECT ?p { VALUES (?p) { (id:AtlasProbe\\/1001) (id:AtlasProbe\\/1002) } ?p :id ?n }",
        "SELECT ?p (COUNT(*) AS ?c) { ?p :id ?n } GROUP BY ?p",
        "SELECT ?p ?n { ?p :id ?n } ORDER BY ?n",
        "CONSTRUCT { ?p :x 1 } WHERE { ?p :id ?n }",
    ],
)
def test_a_parameter_is_a_value_wherever_its_variable_is(
    store: MemoryStore, cache: Path, sparql: str
) -> None:
    rows = ask(store, cache, sparql, n=1001).rows
    assert [row[0] for row in rows] == ["https://w3id.org/qoetwin/id/AtlasProbe/1001"]
    assert ask(store, cache, sparql, n=7).rows == []


def test_times_numbers_and_truths_can_be_parameters(store: MemoryStore, cache: Path) -> None:
    at = "SELECT ?rtt { ?s a :PathState ; :window_start ?a ; :window_end ?b ; :rtt_median_ms ?rtt FILTER(?a <= ?at && ?at < ?b) }"
    assert ask(store, cache, at, at=T0 + HOUR).rows == [(11.1,)]
    assert ask(store, cache, "SELECT ?s { ?s :rtt_median_ms ?x }", x=10.1).rows != []
    assert ask(store, cache, "SELECT ?id { ?p :is_anchor ?yes ; :id ?id }", yes=True).rows == [(1001,)]


def test_a_parameter_that_is_not_asked_for_or_has_no_value_is_refused(
    store: MemoryStore, cache: Path
) -> None:
    with pytest.raises(InputError, match=r"no \?n"):
        ask(store, cache, "SELECT ?p { ?p :id ?i }", n=1)
    with pytest.raises(InputError, match="has no value"):
        ask(store, cache, "SELECT ?p { ?p :id ?n }", n=None)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    text=st.sampled_from(HOSTILE) | st.lists(st.sampled_from(HOSTILE), min_size=2, max_size=4).map("".join)
)
def test_hostile_text_stays_text(store: MemoryStore, cache: Path, text: str) -> None:
    rows = ask(store, cache, "SELECT ?a ?name { ?a a :Application ; :name ?name }", name=text).rows
    assert [row[1] for row in rows] == ([text] if text in HOSTILE else [])


# What is refused


@pytest.mark.parametrize(
    "sparql",
    [
        "SELECT * { SERVICE <http://127.0.0.1:9/> { ?s ?p ?o } }",
        "SELECT * { service silent ?x { ?s ?p ?o } }",
        "SELECT * { \\u0053ERVICE <http://127.0.0.1:9/> { ?s ?p ?o } }",
        "SELECT * { \\U00000053\\u0065RVICE <http://127.0.0.1:9/> { ?s ?p ?o } }",
        "SELECT * { { SELECT * { ?s ?p ?o . OPTIONAL { SERVICE <http://127.0.0.1:9/> { ?s ?p ?o } } } } }",
        "SELECT * { ?s ?p ?o FILTER EXISTS { SERVICE <http://127.0.0.1:9/> { ?s ?p ?o } } }",
        "SELECT * { ?s ?p ?o FILTER(?o<?p)SERVICE<http://127.0.0.1:9/>{ ?s ?p ?o } }",
        "SELECT * { ?s ?p 'it''s' . # '\n SERVICE <http://127.0.0.1:9/> { ?s ?p ?o } }",
        'SELECT * { ?s ?p "\\"" . SERVICE <http://127.0.0.1:9/> { ?s ?p "x" } }',
        "SELECT * { # \\u000A SERVICE <http://127.0.0.1:9/> { ?s ?p ?o }\n }",
        "SELECT * WHERE { FILTER(1<'>') SERVICE <http://127.0.0.1:9/> {?s ?p ?o} FILTER(1<'>') }",
        "SELECT * WHERE { FILTER(1<'#>') SERVICE <http://127.0.0.1:9/> {?s ?p ?o} FILTER(1<'#>') }",
        "SELECT * WHERE { FILTER('a'<'>') SERVICE <http://127.0.0.1:9/> {?s ?p ?o} FILTER('a'<'>') }",
        "PREFIX : <http://127.0.0.1:9/> SELECT * { ?s ?p ?o .SERVICE:x { ?s ?p ?o } }",
        "SELECT * { ?s ?p 1SERVICE<http://127.0.0.1:9/> { ?s ?p ?o } }",
        "SELECT * { ?s ?p trueSERVICESILENT<http://127.0.0.1:9/> { ?s ?p ?o } }",
        "PREFIX a: <x#> SELECT * { ?s a:b\\' ?o . SERVICE <http://127.0.0.1:9/> { ?s a:c\\' ?o } }",
    ],
)
def test_service_is_refused_however_it_is_hidden(sparql: str) -> None:
    with pytest.raises(InputError, match="SERVICE is refused"):
        refuse_what_reads_elsewhere(sparql)


@pytest.mark.parametrize(
    "sparql",
    [
        "SELECT * FROM <http://example.org/> { ?s ?p ?o }",
        "SELECT * FROM NAMED <file:///etc/passwd> { ?s ?p ?o }",
        "SELECT * FROM :NTKG from x:NSKG { ?s ?p ?o }",
        "PREFIX : <http://example.org/> SELECT * FROM :NTKG { ?s ?p ?o }",
        "BASE <https://w3id.org/qoetwin/> SELECT * FROM <ontology> { ?s ?p ?o }",
        "ASK \\u0046ROM <http://example.org/> { ?s ?p ?o }",
    ],
)
def test_from_anything_but_our_own_graphs_is_refused(sparql: str) -> None:
    with pytest.raises(InputError, match="FROM another graph is refused"):
        refuse_what_reads_elsewhere(sparql)


@pytest.mark.parametrize(
    "sparql",
    [
        "INSERT DATA { <x> <y> <z> }",
        "PREFIX x: <y> DELETE WHERE { ?s ?p ?o }",
        "LOAD <http://example.org/>",
        "CLEAR ALL",
        "drop graph <x>",
        "WITH <x> DELETE { ?s ?p ?o } WHERE { ?s ?p ?o }",
        "BASE <x> CREATE GRAPH <x>",
    ],
)
def test_updates_are_refused(sparql: str) -> None:
    with pytest.raises(InputError, match="an update is refused"):
        refuse_what_reads_elsewhere(sparql)


def test_an_update_behind_a_query_is_no_query(store: MemoryStore, cache: Path) -> None:
    with pytest.raises(InputError, match="this is no SPARQL query"):
        ask(store, cache, "SELECT * { ?s ?p ?o } ; DELETE WHERE { ?s ?p ?o }")


@pytest.mark.parametrize(
    "sparql",
    [
        "SELECT ?s { ?s :name 'FROM <y>' }",
        "SELECT ?s { ?s :nobody ?service } #SERVICE",
        "PREFIX my: <http://x/SERVICE/FROM/> SELECT ?from { ?s my:service ?from }",
        'SELECT ?s { ?s :name """an "quoted" FROM""" }',
        "SELECT ?s { ?s <http://x/SERVICE> ?delete . ?s :name 'x'@from }",
    ],
)
def test_words_in_texts_names_and_comments_are_no_keywords(
    store: MemoryStore, cache: Path, sparql: str
) -> None:
    assert ask(store, cache, sparql).rows == []


def test_what_is_no_sparql_is_one_line_with_its_place(store: MemoryStore, cache: Path) -> None:
    with pytest.raises(InputError, match=r"this is no SPARQL query; found error at 1:"):
        ask(store, cache, "SELECT ?s { ?s ?p }")


def test_a_query_that_would_run_for_ever_is_stopped(store: MemoryStore, cache: Path) -> None:
    ask(store, cache, "ASK {}")
    begun = time.monotonic()
    forever = "SELECT (COUNT(*) AS ?n) { ?a ?b ?c . ?d ?e ?f . ?g ?h ?i . ?j ?k ?l . ?m ?n2 ?o }"
    with pytest.raises(InputError, match=r"took too long and was stopped; found more than 0\.5 s"):
        query(store, forever, {}, limit=10, timeout_s=0.5, cache=cache, report=unheard)
    assert time.monotonic() - begun < 10


def test_a_query_that_would_take_all_memory_is_stopped(store: MemoryStore, cache: Path) -> None:
    ask(store, cache, "ASK {}")
    greedy = "SELECT DISTINCT ?x { ?a ?b ?c . ?d ?e ?f . ?g ?h ?i . BIND(CONCAT(STR(?b), STR(?d), STR(?h), STR(?c), STR(?f)) AS ?x) }"
    with pytest.raises(InputError, match=r"the query was stopped.*of memory"):
        query(
            store,
            greedy + " ORDER BY ?x",
            {},
            limit=10,
            timeout_s=120,
            cache=cache,
            report=unheard,
            memory_bytes=200 * 1024**2,
        )


# The cache


def test_a_changed_graph_is_asked_anew_and_old_caches_go(tmp_path: Path) -> None:
    store = MemoryStore(Tables())
    count = "SELECT (COUNT(*) AS ?n) { ?s a :AS }"
    for number in range(1, 5):
        store.upsert_nodes(AS, pa.table({"asn": [number]}))
        assert ask(store, tmp_path, count).rows == [(number,)]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_graph_that_did_not_change_is_not_read_again(
    store: MemoryStore, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(store, cache, "ASK {}")

    def read(*_: Any) -> None:
        raise AssertionError("it was read again")

    monkeypatch.setattr(kg.sparql, "pieces", read)
    assert ask(store, cache, "ASK {}").rows == [(True,)]


def test_a_selection_says_which_facts_are_asked(store: MemoryStore, tmp_path: Path) -> None:
    count = "SELECT (COUNT(*) AS ?n) { ?s a :PathState }"
    for selection, expected in ((Selection(), 2), (Selection(at=T0), 1)):
        answer = query(
            store, count, {}, limit=1, timeout_s=60, cache=tmp_path, report=unheard, selection=selection
        )
        assert answer.rows == [(expected,)]


def test_a_cache_that_cannot_be_written_is_one_line(store: MemoryStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write the graph's cache"):
        ask(store, tmp_path / "file" / "cache", "ASK {}")


def test_a_damaged_cache_says_what_to_delete(store: MemoryStore, tmp_path: Path) -> None:
    ask(store, tmp_path, "ASK {}")
    (folder,) = tmp_path.iterdir()
    for path in folder.iterdir():
        path.write_bytes(b"damaged")
    with pytest.raises(StoreError, match="delete that folder"):
        ask(store, tmp_path, "ASK {}")
