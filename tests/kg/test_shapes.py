"""Shapes and ontology say the same; and what is wrong with a graph is found, by the fast way what pyshacl finds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyshacl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from rdflib import RDF, SH, XSD, Graph, Namespace

import kg.check
from domain.progress import unheard
from domain.provenance import Provenance
from domain.selection import Selection
from kg.check import SHAPES, Finding, Shapes, check
from kg.exchange.nquads import lines
from kg.exchange.terms import BASE, Describer, literals
from kg.exchange.whole import CLASSES, class_of, key_of, pieces
from kg.schema import (
    ATLAS_PROBE,
    LINK_STATE,
    LOCATED_IN_AS,
    LOCATED_IN_POINT,
    NEXT_HOP,
    PATH_PREDICTION,
    PATH_SCORE,
    PATH_STATE,
    POINT,
    PROVENANCE,
    EdgeType,
    FactType,
    NodeType,
)
from kg.tables import fact_schema
from tests.contract.memory_store import MemoryStore, Tables
from tests.kg.random_graphs import graphs

Q = Namespace("https://w3id.org/qoetwin/ontology#")
T0 = datetime(2019, 1, 1, tzinfo=UTC)
SAID = Provenance(
    reference_name="atlas.ping",
    reference_org="RIPE NCC",
    reference_url_data=None,
    reference_time_fetch=T0,
    reference_time_modification=None,
    method=None,
    synthetic=False,
)
STATE: dict[str, Any] = {
    "probe_id": 1001,
    "target": "193.0.0.1",
    "af": 4,
    "window_start": T0,
    "window_end": T0 + timedelta(hours=1),
    "results": 15,
    "sent": 45,
    "received": 44,
    "duplicates": 0,
    "errors": 0,
    "rtt_min_ms": 10.0,
    "rtt_mean_ms": 12.0,
    "rtt_median_ms": 11.0,
    "rtt_p95_ms": 20.0,
    "loss_ratio": 1 / 45,
    "jitter_ms": 0.5,
    "synthetic": False,
}
SCORE: dict[str, Any] = {
    key: STATE[key] for key in ("probe_id", "target", "af", "window_start", "window_end")
} | {
    "application": "voip",
    "origin": "measured",
    "score": 81.25,
    "limiting_metric": "rtt",
    "profile": "ai-ndt 1",
}
PREDICTION: dict[str, Any] = {
    key: STATE[key] for key in ("probe_id", "target", "af", "window_start", "window_end")
} | {
    "model": "graph-transformer",
    "protocol": "forecast",
    "rtt_ms": 12.0,
    "rtt_low_ms": 9.0,
    "rtt_high_ms": 15.0,
    "jitter_ms": 1.0,
    "jitter_low_ms": 0.5,
    "jitter_high_ms": 2.0,
    "any_loss_probability": 0.25,
    "loss_ratio": 0.01,
    "in_range": True,
    "predicted_at": T0,
    "trained_until": T0,
    "seen_until": T0,
    "data_hash": "5f2a",
    "synthetic": False,
}


@pytest.fixture(scope="module")
def shapes() -> Graph:
    return Graph().parse(SHAPES, format="turtle")


def property_shapes(shapes: Graph, name: str) -> dict[str, list[Any]]:
    """Path -> the property shapes of a class."""
    (shape,) = shapes.subjects(SH.targetClass, Q[name])
    found: dict[str, list[Any]] = {}
    for part in shapes.objects(shape, SH.property):
        path = str(shapes.value(part, SH.path))
        found.setdefault(path.removeprefix(str(Q)).removeprefix(str(RDF)), []).append(part)
    return found


def test_every_class_has_a_shape_and_every_shape_a_class(shapes: Graph) -> None:
    targets = {str(target).removeprefix(str(Q)) for target in shapes.objects(None, SH.targetClass)}
    assert targets == {*CLASSES, "Provenance"}


@pytest.mark.parametrize("name", [*CLASSES, "Provenance"])
def test_shapes_have_the_properties_of_the_ontology_with_its_datatypes_and_what_is_required(
    name: str, shapes: Graph
) -> None:
    kind = CLASSES.get(name)
    said = PROVENANCE if kind is None else literals(kind)
    links = {
        NodeType: set(),
        EdgeType: {"subject", "predicate", "object", "provenance"},
        FactType: {"of", "provenance"},
        type(None): set(),
    }[type(kind)]
    found = property_shapes(shapes, name)
    assert set(found) == {column.name for column in said} | links
    keys = {column.name for column in key_of(kind)} - {"valid_from"} if kind is not None else set()
    for column in said:
        datatypes = {shapes.value(part, SH.datatype) for part in found[column.name]} - {None}
        assert datatypes == {XSD[column.datatype.value]}
        known = any(shapes.value(part, SH.minCount) is not None for part in found[column.name])
        assert known == (column.required or column.name in keys), column.name
        assert any(shapes.value(part, SH.maxCount) is not None for part in found[column.name])


@pytest.mark.parametrize("name", [name for name, kind in CLASSES.items() if not isinstance(kind, NodeType)])
def test_ends_of_edges_and_subjects_of_facts_are_of_the_class_that_the_ontology_says(
    name: str, shapes: Graph
) -> None:
    kind, found = CLASSES[name], property_shapes(shapes, name)

    def cls(path: str) -> str:
        (part,) = found[path]
        return str(shapes.value(part, SH["class"])).removeprefix(str(Q))

    assert cls("provenance") == "Provenance"
    if isinstance(kind, EdgeType):
        assert (cls("subject"), cls("object")) == (kind.source.label, kind.target.label)
        assert shapes.value(found["predicate"][0], SH.hasValue) == Q[kind.name]
    if isinstance(kind, FactType):
        assert cls("of") == class_of(kind.about)


def test_every_shape_of_a_property_says_in_words_what_it_asks_for(shapes: Graph) -> None:
    for part in shapes.subjects(RDF.type, SH.PropertyShape):
        assert len(str(shapes.value(part, SH.message)).split()) > 3, part


def test_the_fast_way_knows_every_constraint_of_the_shapes() -> None:
    assert Shapes().unknown == set()


def good() -> MemoryStore:
    store = MemoryStore(Tables())
    store.upsert_nodes(
        POINT, pa.table({"position": ["POINT(4.9 52.37)"], "latitude": [52.37], "longitude": [4.9]})
    )
    store.upsert_edges(LOCATED_IN_POINT, pa.table({"source": [1001], "target": ["POINT(4.9 52.37)"]}), SAID)
    store.put_facts(PATH_STATE, pa.Table.from_pylist([STATE], fact_schema(PATH_STATE)), SAID)
    store.put_facts(PATH_SCORE, pa.Table.from_pylist([SCORE], fact_schema(PATH_SCORE)), SAID)
    predictions = pa.Table.from_pylist([PREDICTION], fact_schema(PATH_PREDICTION))
    store.put_facts(PATH_PREDICTION, predictions, SAID)
    return store


def found_in(store: MemoryStore) -> list[Finding]:
    return check(store, report=unheard)


def test_nothing_is_wrong_with_a_good_graph() -> None:
    assert found_in(good()) == []
    assert found_in(MemoryStore(Tables())) == []


@pytest.mark.parametrize(
    ("change", "what", "found", "expected"),
    [
        ({"received": 46}, "received is not negative, and not more than were sent", "46", "at most sent"),
        ({"loss_ratio": 1.5}, "loss_ratio is 0 to 1", "1.5", "1.0 or less"),
        ({"loss_ratio": float("nan")}, "loss_ratio is 0 to 1", "nan", "or"),
        ({"rtt_min_ms": -1.0}, "rtt_min_ms is not negative", "-1.0", "0.0 or more"),
        (
            {"rtt_median_ms": 30.0},
            "rtt_median_ms is not negative, and not above the 95th",
            "30.0",
            "at most rtt_p95_ms",
        ),
        ({"window_end": T0}, "window_start is before window_end", "2019-01-01", "less than window_end"),
        ({"af": 5}, "af is 4 or 6", "5", "one of 4, 6"),
        ({"probe_id": -1}, "probe_id is a number that is not negative", "-1", "0 or more"),
        ({"doubtful_results": 16}, "doubtful_results is not negative, and not more", "16", "at most results"),
        ({"target": "nowhere!"}, "target is an address", "nowhere!", "of the form"),
    ],
)
def test_a_state_that_cannot_be_is_found_with_its_place(
    change: dict[str, Any], what: str, found: str, expected: str
) -> None:
    store = good()
    store.put_facts(PATH_STATE, pa.Table.from_pylist([STATE | change], fact_schema(PATH_STATE)), SAID)
    finding = next(
        one for one in found_in(store) if one.where.startswith("PathState/") and one.what.startswith(what)
    )
    assert finding.where.startswith(f"PathState/{(STATE | change)['probe_id']}/")
    assert found in (finding.found or "")
    assert expected in finding.expected


@pytest.mark.parametrize(
    ("change", "found", "expected"),
    [
        ({"any_loss_probability": 1.5}, "1.5", "1.0 or less"),
        ({"loss_ratio": -0.5}, "-0.5", "0.0 or more"),
        ({"rtt_low_ms": -1.0}, "-1.0", "0.0 or more"),
        ({"rtt_low_ms": 13.0}, "13.0", "at most rtt_high_ms and rtt_ms"),
        ({"rtt_ms": None, "rtt_low_ms": 16.0}, "16.0", "at most rtt_high_ms and rtt_ms"),
        ({"rtt_ms": 16.0}, "16.0", "at most rtt_high_ms"),
        ({"jitter_low_ms": 1.5}, "1.5", "at most jitter_high_ms and jitter_ms"),
        ({"jitter_ms": 2.5}, "2.5", "at most jitter_high_ms"),
        ({"model": ""}, "", "at least 1 letters"),
    ],
)
def test_a_prediction_outside_its_interval_or_its_scale_is_found(
    change: dict[str, Any], found: str, expected: str
) -> None:
    store = good()
    rows = [PREDICTION | change]
    store.put_facts(PATH_PREDICTION, pa.Table.from_pylist(rows, fact_schema(PATH_PREDICTION)), SAID)
    (finding,) = found_in(store)
    assert finding.where.startswith("PathPrediction/1001/193.0.0.1/4/")
    assert (finding.found, finding.expected) == (found, expected)


def test_a_score_beyond_its_scale_is_found() -> None:
    store = good()
    store.put_facts(
        PATH_SCORE, pa.Table.from_pylist([SCORE | {"score": 101.0}], fact_schema(PATH_SCORE)), SAID
    )
    assert [finding.found for finding in found_in(store)] == ["101.0"]


def test_an_end_that_is_not_in_the_graph_is_found() -> None:
    store = good()
    del store._tables.nodes["AtlasProbe"][1001]
    findings = found_in(store)
    assert {finding.where.partition("/")[0] for finding in findings} == {
        "AtlasProbe-LOCATED_IN-Point",
        "AtlasProbe-MEASURES-IP",
        "AtlasProbe-PREDICTED_TO-IP",
    }
    assert {finding.found for finding in findings} == {"AtlasProbe/1001"}


def test_a_fact_about_an_edge_that_is_not_in_the_graph_is_found() -> None:
    store = good()
    link = {
        "from_address": "193.0.0.1",
        "to_address": "193.0.0.2",
        "window_start": T0,
        "window_end": T0 + timedelta(hours=1),
        "traceroutes": 9,
        "probes": 1,
        "asns": 1,
        "samples": 9,
        "synthetic": False,
    }
    store.put_facts(LINK_STATE, pa.Table.from_pylist([link], fact_schema(LINK_STATE)), SAID)
    store._tables.edges[NEXT_HOP.table].clear()
    (finding,) = found_in(store)
    assert finding.where.startswith("LinkState/193.0.0.1/193.0.0.2/")
    assert finding.found == "IP-NEXT_HOP-IP/193.0.0.1/193.0.0.2"


def test_a_place_of_which_no_position_is_known_is_found() -> None:
    store = good()
    store.upsert_edges(LOCATED_IN_POINT, pa.table({"source": [1002], "target": ["POINT(1 2)"]}), SAID)
    assert {finding.what for finding in found_in(store)} == {
        "latitude is never unknown.",
        "longitude is never unknown.",
    }


def test_a_provenance_that_says_nothing_is_found_once() -> None:
    store = good()
    nobody = Provenance(**{name: getattr(SAID, name) for name in SAID.__slots__} | {"reference_org": ""})
    located = {"source": [1, 2, 3], "target": [64500, 64500, 64500], "af": [4, 4, 4]}
    store.upsert_edges(LOCATED_IN_AS, pa.table(located), nobody)
    (finding,) = found_in(store)
    assert finding.where.startswith("Provenance/")
    assert finding.what == "reference_org is not empty, once at most."


def test_of_hundreds_with_one_fault_the_first_are_named_and_the_rest_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kg.check, "MOST_JUDGED", 5)
    monkeypatch.setattr(kg.check, "SAMPLE", 1)
    store = good()
    store.upsert_nodes(ATLAS_PROBE, pa.table({"id": list(range(-50, 0))}))
    findings = found_in(store)
    more = [finding for finding in findings if finding.found == "45 more"]
    assert len(findings) == 6
    assert [finding.where for finding in more] == ["AtlasProbe"]


def test_a_constraint_that_the_fast_way_does_not_know_is_left_to_pyshacl_for_every_row(
    tmp_path: Path,
) -> None:
    path = tmp_path / "shapes.ttl"
    path.write_text(
        SHAPES.read_text()
        + "s:id sh:disjoint :name .\ns:AS-shape sh:not s:nobody .\ns:nobody a sh:NodeShape ; sh:targetNode :nobody ."
    )
    shapes = Shapes(path)
    assert {"AtlasProbe", "AtlasMeasurement", "AS"} <= set(shapes.unknown)
    store = MemoryStore(Tables())
    store.upsert_nodes(ATLAS_PROBE, pa.table({"id": list(range(1, 100))}))
    piece = next(piece for piece in pieces(store, Selection(), unheard) if piece[0] is ATLAS_PROBE)
    assert shapes.suspicious(piece, kg.check.There()) == (list(range(99)), 0)


def by_pyshacl_alone(store: MemoryStore) -> set[tuple[str, str | None]]:
    """Resource and value of everything that pyshacl finds in the whole graph."""
    describer = Describer()
    text = b"".join(
        lines(block, graphs=False)
        for piece in pieces(store, Selection(), unheard)
        for block in describer.blocks(piece)
    )
    _, results, _ = pyshacl.validate(
        Graph().parse(data=text, format="nt"), shacl_graph=Graph().parse(SHAPES, format="turtle")
    )
    assert isinstance(results, Graph)
    found = set()
    for result in results.subjects(RDF.type, SH.ValidationResult):
        value = results.value(result, SH.value)
        focus = str(results.value(result, SH.focusNode)).removeprefix(BASE)
        found.add((focus, None if value is None else str(value).removeprefix(BASE)))
    return found


@settings(
    max_examples=12,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # pyshacl is too slow to look for the smallest
    suppress_health_check=[HealthCheck.too_slow],
)
@given(store=graphs())
def test_the_fast_way_finds_what_pyshacl_finds_in_the_whole_graph(store: MemoryStore) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kg.check, "SAMPLE", 1)
        patch.setattr(kg.check, "MOST_JUDGED", 10**6)
        found = {(finding.where, finding.found) for finding in found_in(store)}
    assert found == by_pyshacl_alone(store)
