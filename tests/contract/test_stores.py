"""The contract that every store of the graph keeps. A store joins by being in `kg.store.STORES`."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.errors import DataError, EmptyError, StoreError
from domain.provenance import Provenance
from domain.selection import Area, Selection
from kg.arrays import path_arrays
from kg.predictions import put_predictions
from kg.schema import (
    AS_SCORE,
    ASSIGNED,
    ATLAS_PROBE,
    COUNTRY,
    EDGE_TYPES,
    FACT_TYPES,
    HOST_NAME,
    IN_COUNTRY,
    IP,
    LINK_STATE,
    LOCATED_IN_AS,
    LOCATED_IN_POINT,
    MEASURES,
    METRIC,
    NEXT_HOP,
    NODE_TYPES,
    PATH_PREDICTION,
    PATH_SCORE,
    PATH_STATE,
    POINT,
    PREDICTED_TO,
    PROBE_STATE,
    REQUIRES,
    TARGET_HOST_NAME,
    EdgeType,
    FactType,
    NodeType,
    Property,
)
from kg.store import GraphStore, Neighbour
from kg.tables import arrow_schema, described, fact_schema
from tests.contract.memory_store import MemoryStore, Tables
from tests.places import Place

T0 = datetime(2019, 5, 12, 9, tzinfo=UTC)
H3 = timedelta(hours=3)
FETCHED = datetime(2026, 1, 1, tzinfo=UTC)
SHARED_STORE = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def said(name: str, *, synthetic: bool = False) -> Provenance:
    return Provenance(
        reference_name=name,
        reference_org="test",
        reference_url_data=None,
        reference_time_fetch=FETCHED,
        reference_time_modification=None,
        method=None,
        synthetic=synthetic,
    )


def state(**changes: Any) -> dict[str, Any]:
    return {
        "probe_id": 1,
        "target": "192.0.2.1",
        "af": 4,
        "window_start": T0,
        "window_end": T0 + H3,
        "results": 1,
        "sent": 3,
        "received": 2,
        "duplicates": 0,
        "errors": 0,
        "rtt_min_ms": 10.0,
        "rtt_mean_ms": 11.0,
        "rtt_median_ms": 11.0,
        "rtt_p95_ms": None,
        "loss_ratio": 1 / 3,
        "jitter_ms": None,
        "utilisation_ratio": None,
        "synthetic": False,
    } | changes


def score(**changes: Any) -> dict[str, Any]:
    return (
        {name: state()[name] for name in ("probe_id", "target", "af", "window_start", "window_end")}
        | {"application": "voip", "origin": "measured", "score": 80.0, "score_low": None, "score_high": None}
        | {"rtt_cost_points": 1.0, "loss_cost_points": 19.0, "jitter_cost_points": 0.0}
        | {"limiting_metric": "loss", "reason": None, "profile": "p"}
        | changes
    )


def prediction(**changes: Any) -> dict[str, Any]:
    return (
        {name: state()[name] for name in ("probe_id", "target", "af", "window_start", "window_end")}
        | {"model": "graph-transformer", "protocol": "forecast"}
        | {"rtt_ms": 12.0, "rtt_low_ms": 9.0, "rtt_high_ms": 15.5}
        | {"jitter_ms": None, "jitter_low_ms": None, "jitter_high_ms": None}
        | {"any_loss_probability": 0.25, "loss_ratio": 0.01, "in_range": True, "reason": None}
        | {"predicted_at": FETCHED, "trained_until": T0 - H3, "seen_until": T0, "data_hash": "5f2a"}
        | {"synthetic": False}
        | changes
    )


def facts(fact_type: FactType, *rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), fact_schema(fact_type))


def nodes(node_type: NodeType, *rows: dict[str, Any]) -> pa.Table:
    return table(node_type.columns, rows)


def edges(edge_type: EdgeType, *rows: dict[str, Any]) -> pa.Table:
    return table(edge_type.columns, rows)


def table(columns: tuple[Property, ...], rows: tuple[dict[str, Any], ...]) -> pa.Table:
    """Rows as a table of the columns that any of them has."""
    given_names = {name for row in rows for name in row}
    return pa.Table.from_pylist(list(rows), arrow_schema(c for c in columns if c.name in given_names))


def link(source: Any, target: Any, **more: Any) -> dict[str, Any]:
    return {"source": source, "target": target, **more}


def place_probe(store: GraphStore, probe: int, position: str, country: str, asn: int, by: str) -> None:
    store.upsert_nodes(ATLAS_PROBE, nodes(ATLAS_PROBE, {"id": probe}))
    longitude, latitude = map(float, position.removeprefix("POINT(").removesuffix(")").split())
    store.upsert_nodes(
        POINT, nodes(POINT, {"position": position, "latitude": latitude, "longitude": longitude})
    )
    store.upsert_edges(LOCATED_IN_POINT, edges(LOCATED_IN_POINT, link(probe, position)), said(by))
    store.upsert_edges(IN_COUNTRY, edges(IN_COUNTRY, link(probe, country)), said(by))
    store.upsert_edges(LOCATED_IN_AS, edges(LOCATED_IN_AS, link(probe, asn, af=4)), said(by))


def places(store: GraphStore) -> None:
    """A probe in Beirut, and an anchor in Amsterdam with two addresses."""
    place_probe(store, 1, "POINT(35.5 33.9)", "LB", 64500, "probes")
    place_probe(store, 2, "POINT(4.9 52.4)", "NL", 64501, "probes")
    store.upsert_edges(
        LOCATED_IN_AS,
        edges(LOCATED_IN_AS, link(2, 64501, af=4), link(2, 64502, af=6)),
        said("probes"),
    )
    store.upsert_edges(
        ASSIGNED,
        edges(ASSIGNED, link("192.0.2.1", 2, af=4), link("2001:db8::1", 2, af=6)),
        said("probes"),
    )


def hop(source: str, target: str, traceroutes: int, first: datetime, last: datetime) -> pa.Table:
    return edges(NEXT_HOP, link(source, target, traceroutes=traceroutes, first_seen=first, last_seen=last))


def fill(store: GraphStore) -> None:
    """Something of everything: what is measured, and predictions, one of a pair that never was."""
    fill_without_predictions(store)
    unseen = prediction(probe_id=2, target="192.0.2.9", protocol="unseen-pair", in_range=False, reason="far")
    store.put_facts(PATH_PREDICTION, facts(PATH_PREDICTION, prediction(), unseen), said("a model"))


def fill_without_predictions(store: GraphStore) -> None:
    places(store)
    store.put_facts(PATH_STATE, facts(PATH_STATE, state(), state(target="2001:db8::1", af=6)), said("ping"))
    store.put_facts(PATH_SCORE, facts(PATH_SCORE, score()), said("scores"))
    store.upsert_edges(NEXT_HOP, hop("192.0.2.9", "192.0.2.1", 3, T0, T0 + H3), said("traceroute"))
    window = {"window_start": T0, "window_end": T0 + H3}
    store.put_facts(
        LINK_STATE,
        facts(
            LINK_STATE,
            {"from_address": "192.0.2.9", "to_address": "192.0.2.1", **window}
            | {"traceroutes": 3, "probes": 3, "asns": 3, "samples": 27, "rtt_diff_median_ms": -0.25}
            | {
                "rtt_diff_low_ms": -0.5,
                "rtt_diff_high_ms": 0.0,
                "utilisation_ratio": None,
                "synthetic": False,
            },
        ),
        said("traceroute"),
    )
    store.put_facts(
        PROBE_STATE,
        facts(
            PROBE_STATE,
            {"probe_id": 1, "af": 4, **window, "paths": 1, "paths_without_reply": 0, "results": 1, "sent": 3}
            | {"received": 2, "errors": 0, "rtt_median_ms": 11.0, "loss_ratio": 1 / 3, "jitter_ms": None}
            | {"synthetic": False},
        ),
        said("ping"),
    )
    store.put_facts(
        AS_SCORE,
        facts(
            AS_SCORE,
            {"asn": 64500, **window, "application": "voip", "origin": "measured", "paths": 1}
            | {"paths_without_score": 0, "score": 80.0, "score_low": None, "score_high": None}
            | {"rtt_cost_points": 1.0, "loss_cost_points": 19.0, "jitter_cost_points": 0.0}
            | {"limiting_metric": "loss", "profile": "p", "synthetic": False},
        ),
        said("scores"),
    )
    store.upsert_nodes(METRIC, nodes(METRIC, {"name": "rtt", "unit": "ms"}))
    store.upsert_edges(
        REQUIRES,
        edges(REQUIRES, link("voip", "rtt", profile="p", weight_ratio=0.3, worst=500.0, citation="a paper")),
        said("profile"),
    )


def everything(store: GraphStore) -> list[pa.Table]:
    """All that a store holds."""
    return [
        *(store.nodes(node_type) for node_type in NODE_TYPES),
        *(store.edges(edge_type) for edge_type in EDGE_TYPES),
        *(store.facts(fact_type, with_provenance=True) for fact_type in FACT_TYPES),
        store.pairs(),
    ]


# What is empty, what is there, what stays


def test_an_empty_graph_answers_with_empty_tables_of_the_schema_s_columns(store: GraphStore) -> None:
    assert [found.num_rows for found in everything(store)] == [0] * len(everything(store))
    assert set(store.counts().values()) == {0}
    for fact_type in FACT_TYPES:
        assert store.facts(fact_type).schema.equals(fact_schema(fact_type))
    assert not store.holds_synthetic()


def test_writing_everything_twice_changes_nothing(store: GraphStore) -> None:
    fill(store)
    once, counts = everything(store), store.counts()
    fill(store)
    assert everything(store) == once
    assert store.counts() == counts


def test_what_is_written_is_there_after_opening_again(place: Place) -> None:
    with place.open() as store:
        fill(store)
        written = everything(store)
    with place.open(create=False) as store:
        assert everything(store) == written


def test_where_no_graph_is_opening_one_to_read_says_so(place: Place) -> None:
    with pytest.raises(EmptyError, match="no graph here"):
        place.open(create=False)


def test_counts_name_every_label_edge_and_fact(store: GraphStore) -> None:
    fill(store)
    counts = store.counts()
    assert list(counts) == [
        *(n.label for n in NODE_TYPES),
        *(e.table for e in EDGE_TYPES),
        *(f.label for f in FACT_TYPES),
    ]
    assert (counts["AtlasProbe"], counts["IP NEXT_HOP IP"], counts["PathState"]) == (2, 1, 2)


def test_the_revision_changes_with_the_graph_and_is_the_same_for_every_reader(place: Place) -> None:
    with place.open() as store:
        empty = store.revision()
        fill(store)
        filled = store.revision()
        with place.open(create=False) as reader:
            assert reader.revision() == filled
        store.put_facts(PATH_STATE, facts(PATH_STATE, state(rtt_median_ms=99.0)), said("ping"))
        assert len({empty, filled, store.revision()}) == 3


# Nodes and edges


def test_null_never_erases_what_is_known_of_a_node_or_an_edge(store: GraphStore) -> None:
    fill(store)
    store.upsert_nodes(ATLAS_PROBE, nodes(ATLAS_PROBE, {"id": 2, "name": "anchor", "is_anchor": True}))
    before = everything(store)
    store.upsert_nodes(ATLAS_PROBE, nodes(ATLAS_PROBE, {"id": 2, "name": None, "is_anchor": None}))
    store.upsert_edges(
        NEXT_HOP, edges(NEXT_HOP, link("192.0.2.9", "192.0.2.1", traceroutes=None)), said("another")
    )
    assert everything(store) == before


def test_the_ends_of_an_edge_and_what_a_fact_is_about_are_made_if_new(store: GraphStore) -> None:
    store.upsert_edges(TARGET_HOST_NAME, edges(TARGET_HOST_NAME, link(7, "example.org")), said("ping"))
    assert store.nodes(HOST_NAME)["name"].to_pylist() == ["example.org"]
    store.put_facts(PATH_STATE, facts(PATH_STATE, state()), said("ping"))
    assert store.nodes(IP)["ip"].to_pylist() == ["192.0.2.1"]
    (path,) = store.edges(MEASURES).to_pylist()
    assert (path["source"], path["target"], path["af"], path["reference_name"]) == (1, "192.0.2.1", 4, "ping")


def test_an_edge_that_says_the_same_keeps_the_provenance_it_came_with_and_one_that_changes_takes_the_new(
    store: GraphStore,
) -> None:
    requires = {"profile": "p", "weight_ratio": 0.3}
    store.upsert_edges(REQUIRES, edges(REQUIRES, link("voip", "rtt", **requires)), said("first"))
    store.upsert_edges(REQUIRES, edges(REQUIRES, link("voip", "rtt", **requires)), said("second"))
    assert store.edges(REQUIRES)["reference_name"].to_pylist() == ["first"]
    requires["weight_ratio"] = 0.4
    store.upsert_edges(REQUIRES, edges(REQUIRES, link("voip", "rtt", **requires)), said("third"))
    assert store.edges(REQUIRES)["reference_name"].to_pylist() == ["third"]


@given(seen=st.permutations([(3, 0, 2), (5, 1, 9), (4, 4, 5)]))
@settings(SHARED_STORE, max_examples=6)
def test_the_order_in_which_hops_are_seen_does_not_matter(
    store: GraphStore, seen: list[tuple[int, int, int]]
) -> None:
    for traceroutes, first, last in seen:
        span = (T0 + timedelta(days=first), T0 + timedelta(days=last))
        store.upsert_edges(NEXT_HOP, hop("192.0.2.9", "192.0.2.1", traceroutes, *span), said("traceroute"))
    (edge,) = store.edges(NEXT_HOP).to_pylist()
    assert (edge["traceroutes"], edge["first_seen"], edge["last_seen"]) == (5, T0, T0 + timedelta(days=9))


def test_every_edge_and_fact_says_who_said_it_and_whether_it_is_synthetic(store: GraphStore) -> None:
    fill(store)
    assert not store.holds_synthetic()
    store.upsert_edges(NEXT_HOP, hop("198.18.0.1", "198.18.0.2", 1, T0, T0), said("testbed", synthetic=True))
    assert store.holds_synthetic()
    for found in (
        *(store.edges(edge_type) for edge_type in EDGE_TYPES),
        *(store.facts(fact_type, with_provenance=True) for fact_type in FACT_TYPES),
    ):
        assert found["reference_name"].null_count == found["synthetic"].null_count == 0
    by_source = {row["source"]: row["synthetic"] for row in store.edges(NEXT_HOP).to_pylist()}
    assert by_source == {"192.0.2.9": False, "198.18.0.1": True}


def test_a_provenance_comes_back_whole(store: GraphStore) -> None:
    whole = Provenance(
        reference_name="atlas.ping",
        reference_org="RIPE NCC",
        reference_url_data="https://atlas.ripe.net/api/v2/measurements/1001/results/",
        reference_time_fetch=FETCHED,
        reference_time_modification=T0 + timedelta(microseconds=1),
        method='median of "answered" packets',
        synthetic=True,
    )
    store.upsert_edges(NEXT_HOP, hop("192.0.2.9", "192.0.2.1", 3, T0, T0), whole)
    store.put_facts(PATH_STATE, facts(PATH_STATE, state(synthetic=True)), whole)
    for found in (store.edges(NEXT_HOP), store.facts(PATH_STATE, with_provenance=True)):
        (row,) = found.to_pylist()
        assert {name: row[name] for name in asdict(whole)} == asdict(whole)


# Facts


def test_a_written_state_is_read_back_equal_and_nothing_is_made_up(store: GraphStore) -> None:
    later = state(window_start=T0 + H3, window_end=T0 + 2 * H3, received=0, loss_ratio=1.0)
    written = facts(PATH_STATE, state(), later)
    store.put_facts(PATH_STATE, written, said("ping"))
    assert store.facts(PATH_STATE) == written
    assert store.facts(PATH_STATE, values=("sent", "jitter_ms")).column_names[-2:] == ["sent", "jitter_ms"]


def test_a_fact_written_again_is_replaced_whole_also_by_nulls(store: GraphStore) -> None:
    store.put_facts(PATH_STATE, facts(PATH_STATE, state()), said("first"))
    store.put_facts(PATH_STATE, facts(PATH_STATE, state(rtt_median_ms=None, sent=0)), said("second"))
    (row,) = store.facts(PATH_STATE, with_provenance=True).to_pylist()
    assert (row["rtt_median_ms"], row["sent"], row["reference_name"]) == (None, 0, "second")


def test_the_score_of_a_state_that_changes_goes_until_it_is_scored_again(store: GraphStore) -> None:
    fill(store)
    store.put_facts(PATH_SCORE, facts(PATH_SCORE, score(target="2001:db8::1", af=6)), said("scores"))
    store.put_facts(PATH_STATE, facts(PATH_STATE, state(rtt_median_ms=99.0)), said("ping"))
    assert store.facts(PATH_STATE, Selection(af=4))["rtt_median_ms"].to_pylist() == [99.0]
    assert store.facts(PATH_SCORE)["target"].to_pylist() == ["2001:db8::1"]


def test_what_a_model_predicted_stays_when_the_measured_state_changes(store: GraphStore) -> None:
    rows = [score(), score(origin="sage", score=70.0)]
    store.put_facts(PATH_STATE, facts(PATH_STATE, state()), said("ping"))
    store.put_facts(PATH_SCORE, facts(PATH_SCORE, *rows), said("scores"))
    store.put_facts(PATH_STATE, facts(PATH_STATE, state(rtt_median_ms=99.0)), said("ping"))
    assert store.facts(PATH_SCORE)["origin"].to_pylist() == ["sage"]


def test_a_state_written_again_unchanged_keeps_its_score_and_its_provenance(store: GraphStore) -> None:
    fill(store)
    store.put_facts(PATH_STATE, facts(PATH_STATE, state()), said("ping, read again"))
    assert store.facts(PATH_SCORE)["score"].to_pylist() == [80.0]
    by_target = store.facts(PATH_STATE, Selection(af=4), with_provenance=True)
    assert by_target["reference_name"].to_pylist() == ["ping"]


def test_scores_of_several_applications_and_models_live_side_by_side(store: GraphStore) -> None:
    store.put_facts(PATH_STATE, facts(PATH_STATE, state()), said("ping"))
    rows = [score(), score(application="web"), score(origin="sage", score=70.0, score_low=60.0)]
    store.put_facts(PATH_SCORE, facts(PATH_SCORE, *rows), said("scores"))
    assert store.facts(PATH_SCORE).num_rows == 3
    web = store.facts(PATH_SCORE, among={"application": ["web", "video"]})
    assert web["application"].to_pylist() == ["web"]
    predicted = store.facts(PATH_SCORE, among={"application": ["voip"], "origin": ["sage"]})
    assert predicted["score_low"].to_pylist() == [60.0]


def test_windows_of_two_lengths_live_side_by_side(store: GraphStore) -> None:
    store.put_facts(PATH_STATE, facts(PATH_STATE, state(), state(window_end=T0 + H3 / 3)), said("ping"))
    assert store.facts(PATH_STATE).num_rows == 2
    assert store.facts(PATH_STATE, Selection(window_s=3600)).num_rows == 1


def test_a_window_is_half_open(store: GraphStore) -> None:
    fill(store)
    for fact_type in (PATH_STATE, LINK_STATE, PROBE_STATE, AS_SCORE, PATH_PREDICTION):
        assert store.facts(fact_type, Selection(at=T0)).num_rows > 0
        assert store.facts(fact_type, Selection(at=T0 + H3)).num_rows == 0
        assert store.facts(fact_type, Selection(start=T0, end=T0)).num_rows == 0
        assert store.facts(fact_type, Selection(start=T0, end=T0 + timedelta(seconds=1))).num_rows > 0


def test_facts_come_by_window_then_subject_then_identity_whatever_the_order_they_were_written_in(
    store: GraphStore,
) -> None:
    rows = [
        score(probe_id=probe, application=application, window_start=T0 + n * H3, window_end=T0 + (n + 1) * H3)
        for n in (1, 0)
        for probe in (10, 9)
        for application in ("web", "voip")
    ]
    store.put_facts(PATH_SCORE, facts(PATH_SCORE, *rows), said("scores"))
    found = store.facts(PATH_SCORE, values=())
    key = ("window_start", "probe_id", "target", "af", "application", "origin")
    assert found.to_pylist() == sorted(found.to_pylist(), key=lambda row: tuple(row[name] for name in key))
    assert found.num_rows == 8


def test_pruning_deletes_the_windows_that_ended_by_then_and_nothing_else(store: GraphStore) -> None:
    rows = [state(window_start=T0 + n * H3, window_end=T0 + (n + 1) * H3) for n in range(3)]
    hour = state(window_end=T0 + H3 / 3)
    store.put_facts(PATH_STATE, facts(PATH_STATE, *rows, hour), said("ping"))
    store.put_facts(PATH_SCORE, facts(PATH_SCORE, score()), said("scores"))
    assert store.prune(PATH_STATE, T0 + 2 * H3, window_s=10800) == 2
    left = store.facts(PATH_STATE)
    assert left["window_start"].to_pylist() == [T0, T0 + 2 * H3]
    assert store.facts(PATH_SCORE).num_rows == 0  # the score of a state that is gone is the score of nothing
    assert store.edges(MEASURES).num_rows == 1
    assert store.prune(PATH_STATE, T0 + 2 * H3) == 1
    assert store.prune(PATH_STATE, T0 + 2 * H3) == 0


def test_what_is_deleted_by_key_goes_with_what_is_derived_from_it_and_nothing_else_does(
    store: GraphStore,
) -> None:
    later = {"window_start": T0 + H3, "window_end": T0 + 2 * H3}
    store.put_facts(PATH_STATE, facts(PATH_STATE, state(), state(**later)), said("ping"))
    store.put_facts(
        PATH_SCORE, facts(PATH_SCORE, score(), score(**later), score(origin="sage")), said("scores")
    )
    absent = state(probe_id=99, window_start=T0 - H3, window_end=T0)
    store.delete(PATH_STATE, facts(PATH_STATE, state(), absent))
    assert store.facts(PATH_STATE)["window_start"].to_pylist() == [T0 + H3]
    left = store.facts(PATH_SCORE)
    assert list(zip(left["window_start"].to_pylist(), left["origin"].to_pylist(), strict=True)) == [
        (T0, "sage"),  # a prediction stays what was predicted
        (T0 + H3, "measured"),
    ]
    store.delete(PATH_SCORE, facts(PATH_SCORE, score(**later), score(application="web")))
    assert store.facts(PATH_SCORE)["origin"].to_pylist() == ["sage"]
    assert store.edges(MEASURES).num_rows == 1


DELETABLE = [kind for kind in (*EDGE_TYPES, *FACT_TYPES) if not described(kind)]


@pytest.mark.parametrize("kind", DELETABLE, ids=lambda kind: getattr(kind, "table", None) or kind.label)
def test_every_kind_can_be_deleted_by_key_also_twice_in_one_table(
    store: GraphStore, kind: EdgeType | FactType
) -> None:
    fill(store)
    reference = MemoryStore(Tables())
    fill(reference)
    read = store.edges if isinstance(kind, EdgeType) else store.facts
    key = read(kind).slice(0, 1).select([p.name for p in kind.key])  # type: ignore[arg-type]
    for one in (store, reference):
        one.delete(kind, pa.concat_tables([key, key]))
    assert everything(store) == everything(reference)


def test_edges_are_deleted_by_key_and_deleting_what_is_not_there_is_no_change(store: GraphStore) -> None:
    moved(store)
    before = store.revision()
    key = [link(1, "SY", valid_from=T0 + H3), link(7, "LB", valid_from=None)]
    store.delete(IN_COUNTRY, edges(IN_COUNTRY, *key))
    assert (store.edges(IN_COUNTRY).num_rows, store.revision()) == (2, before)
    store.delete(IN_COUNTRY, edges(IN_COUNTRY, link(1, "LB", valid_from=None)))
    assert store.edges(IN_COUNTRY)["target"].to_pylist() == ["SY"]
    assert store.revision() != before
    assert {row["country_code"] for row in store.nodes(COUNTRY).to_pylist()} == {"LB", "SY"}


def test_a_deletion_that_a_transaction_gives_up_has_not_happened(store: GraphStore) -> None:
    moved(store)

    def give_up() -> None:
        with store.transaction():
            store.delete(IN_COUNTRY, edges(IN_COUNTRY, link(1, "LB", valid_from=None)))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        give_up()
    assert store.edges(IN_COUNTRY).num_rows == 2


@pytest.mark.parametrize("edge_type", [*filter(described, EDGE_TYPES)], ids=lambda kind: str(kind.name))
def test_edges_that_facts_are_about_are_not_deleted_by_key(store: GraphStore, edge_type: EdgeType) -> None:
    with pytest.raises(ValueError, match="facts are about"):
        store.delete(edge_type, store.edges(edge_type))


def test_a_provenance_under_which_nothing_new_is_said_is_no_change(store: GraphStore) -> None:
    fill(store)
    before = store.revision()
    store.upsert_edges(IN_COUNTRY, store.edges(IN_COUNTRY), said("read again"))
    assert store.revision() == before


# Predictions


def test_a_written_prediction_is_read_back_equal(store: GraphStore) -> None:
    unsure = prediction(target="2001:db8::1", af=6, in_range=False, reason="no path from that AS was seen")
    unknown = prediction(probe_id=2) | dict.fromkeys(p.name for p in PATH_PREDICTION.values if not p.required)
    written = facts(PATH_PREDICTION, prediction(), unsure, unknown)
    put_predictions(store, written, said("a model"))
    assert store.facts(PATH_PREDICTION) == written
    known = {row["ip"]: (row["af"], row["scope"]) for row in store.nodes(IP).to_pylist()}
    assert known == {"192.0.2.1": (4, "reserved"), "2001:db8::1": (6, "reserved")}


def test_predictions_of_several_models_and_protocols_live_side_by_side(store: GraphStore) -> None:
    rows = [prediction(), prediction(model="last-value", rtt_ms=14.0), prediction(protocol="imputation")]
    put_predictions(store, facts(PATH_PREDICTION, *rows), said("models"))
    put_predictions(store, facts(PATH_PREDICTION, prediction(model="sage")), said("another"))
    found = store.facts(PATH_PREDICTION, values=("rtt_ms",))
    assert list(zip(*(found[n].to_pylist() for n in ("model", "protocol")), strict=True)) == [
        *(("graph-transformer", "forecast"), ("graph-transformer", "imputation")),
        *(("last-value", "forecast"), ("sage", "forecast")),
    ]
    own = store.facts(PATH_PREDICTION, among={"model": ["last-value"], "protocol": ["forecast"]})
    assert own["rtt_ms"].to_pylist() == [14.0]


def test_writing_predictions_twice_changes_nothing_and_a_new_one_replaces_the_old_one(
    store: GraphStore,
) -> None:
    fill_without_predictions(store)
    predictions = facts(PATH_PREDICTION, prediction(), prediction(probe_id=2, target="192.0.2.9"))
    put_predictions(store, predictions, said("a model"))
    once, revision = everything(store), store.revision()
    put_predictions(store, predictions, said("a model, run again"))
    assert (everything(store), store.revision()) == (once, revision)
    again = prediction(rtt_ms=13.0, predicted_at=FETCHED + H3, any_loss_probability=None)
    put_predictions(store, facts(PATH_PREDICTION, again), said("a model"))
    found = store.facts(PATH_PREDICTION, Selection(probe_ids=(1,)))
    assert found == facts(PATH_PREDICTION, again)


def test_what_is_predicted_changes_nothing_of_what_is_measured(store: GraphStore) -> None:
    fill_without_predictions(store)

    def measured() -> list[pa.Table]:
        tables = [store.edges(edge_type) for edge_type in EDGE_TYPES if edge_type is not PREDICTED_TO]
        tables += [store.facts(f, with_provenance=True) for f in FACT_TYPES if f is not PATH_PREDICTION]
        return [*tables, store.pairs(), store.pairs(Selection(af=6))]

    before, arrays = measured(), path_arrays(store, Selection())
    later = {"window_start": T0 + H3, "window_end": T0 + 2 * H3}
    rows = [prediction(), prediction(**later), prediction(probe_id=2, target="192.0.2.9")]
    put_predictions(store, facts(PATH_PREDICTION, *rows, prediction(model="sage")), said("a model"))
    assert measured() == before
    assert store.edges(PREDICTED_TO).select(["source", "target", "af"]).to_pylist() == [
        {"source": 1, "target": "192.0.2.1", "af": 4},
        {"source": 2, "target": "192.0.2.9", "af": 4},
    ]
    after = path_arrays(store, Selection())
    for name in ("window_start_s", "probe_id", "target", "af", "rtt_ms", "jitter_ms", "sent", "received"):
        np.testing.assert_array_equal(getattr(after, name), getattr(arrays, name))
    assert store.facts(PATH_STATE, Selection(probe_ids=(2,))).num_rows == 0


def test_a_prediction_stays_when_what_was_measured_changes_or_goes(store: GraphStore) -> None:
    fill(store)
    predicted = store.facts(PATH_PREDICTION, with_provenance=True)
    store.put_facts(PATH_STATE, facts(PATH_STATE, state(rtt_median_ms=99.0)), said("ping"))
    assert store.facts(PATH_PREDICTION, with_provenance=True) == predicted
    store.delete(PATH_STATE, facts(PATH_STATE, state()).select(KEY))
    store.prune(PATH_STATE, T0 + H3)
    assert store.facts(PATH_STATE).num_rows == 0
    assert store.facts(PATH_PREDICTION, with_provenance=True) == predicted


def test_predictions_of_windows_that_ended_are_pruned_and_nothing_measured_is(store: GraphStore) -> None:
    fill(store)
    later = prediction(window_start=T0 + H3, window_end=T0 + 2 * H3)
    put_predictions(store, facts(PATH_PREDICTION, later), said("a model"))
    assert store.prune(PATH_PREDICTION, T0 + H3) == 2
    assert store.facts(PATH_PREDICTION) == facts(PATH_PREDICTION, later)
    assert store.facts(PATH_STATE).num_rows == 2


def test_a_prediction_says_itself_that_it_is_synthetic_and_so_does_its_path(store: GraphStore) -> None:
    fill(store)
    put_predictions(
        store,
        facts(PATH_PREDICTION, prediction(probe_id=3), prediction(probe_id=4, synthetic=True)),
        said("m"),
    )
    assert store.holds_synthetic()
    by_probe = {row["source"]: row["synthetic"] for row in store.edges(PREDICTED_TO).to_pylist()}
    assert by_probe == {1: False, 2: False, 3: False, 4: True}


# History


def moved(store: GraphStore) -> None:
    """A probe that moved, on a day that is known."""
    rows = [link(1, "LB", valid_to=T0), link(1, "SY", valid_from=T0)]
    store.upsert_edges(IN_COUNTRY, edges(IN_COUNTRY, *rows), said("probes"))


def test_stated_edges_are_the_whole_history_of_their_owner(store: GraphStore) -> None:
    store.upsert_edges(IN_COUNTRY, edges(IN_COUNTRY, link(1, "LB"), link(2, "NL")), said("first"))
    moved(store)
    found = store.edges(IN_COUNTRY).to_pylist()
    assert [(row["source"], row["target"], row["valid_from"], row["valid_to"]) for row in found] == [
        (1, "LB", None, T0),
        (1, "SY", T0, None),
        (2, "NL", None, None),
    ]
    store.upsert_edges(IN_COUNTRY, edges(IN_COUNTRY, link(1, "LB")), said("it never moved"))
    found = store.edges(IN_COUNTRY).to_pylist()
    assert [(row["target"], row["valid_to"]) for row in found] == [("LB", None), ("NL", None)]


def test_a_place_that_is_returned_to_is_there_twice(store: GraphStore) -> None:
    rows = [
        link(1, "LB", valid_to=T0),
        link(1, "SY", valid_from=T0, valid_to=T0 + H3),
        link(1, "LB", valid_from=T0 + H3),
    ]
    store.upsert_edges(IN_COUNTRY, edges(IN_COUNTRY, *rows), said("probes"))
    assert store.edges(IN_COUNTRY)["target"].to_pylist() == ["LB", "LB", "SY"]
    for moment, country in ((T0 - H3, "LB"), (T0, "SY"), (T0 + H3, "LB")):
        assert store.edges(IN_COUNTRY, at=moment)["target"].to_pylist() == [country]


def test_an_owner_has_a_history_for_each_identity(store: GraphStore) -> None:
    store.upsert_edges(LOCATED_IN_AS, edges(LOCATED_IN_AS, link(1, 64500, af=4)), said("probes"))
    store.upsert_edges(LOCATED_IN_AS, edges(LOCATED_IN_AS, link(1, 64501, af=6)), said("probes"))
    assert store.edges(LOCATED_IN_AS)["target"].to_pylist() == [64500, 64501]
    two_behind_one_address = edges(ASSIGNED, link("192.0.2.1", 1, af=4), link("192.0.2.1", 2, af=4))
    store.upsert_edges(ASSIGNED, two_behind_one_address, said("probes"))
    store.upsert_edges(ASSIGNED, edges(ASSIGNED, link("192.0.2.7", 2, af=4)), said("probes"))
    found = store.edges(ASSIGNED).select(["source", "target"]).to_pylist()
    assert found == [{"source": "192.0.2.1", "target": 1}, {"source": "192.0.2.7", "target": 2}]


def test_edges_at_a_time_are_those_that_held_then(store: GraphStore) -> None:
    moved(store)
    store.upsert_edges(NEXT_HOP, hop("192.0.2.9", "192.0.2.1", 3, T0, T0 + H3), said("traceroute"))

    def held(moment: datetime) -> tuple[list[str], int]:
        return store.edges(IN_COUNTRY, at=moment)["target"].to_pylist(), store.edges(
            NEXT_HOP, at=moment
        ).num_rows

    before, at, after = held(T0 - timedelta(microseconds=1)), held(T0 + H3), held(T0 + 2 * H3)
    assert (before, at, after) == ((["LB"], 0), (["SY"], 1), (["SY"], 0))


def test_pairs_are_where_their_probe_was_at_the_time_that_is_asked_about(store: GraphStore) -> None:
    moved(store)
    store.put_facts(PATH_STATE, facts(PATH_STATE, state()), said("ping"))
    for selection, country in (
        (Selection(), "SY"),
        (Selection(at=T0 - H3), "LB"),
        (Selection(at=T0), "SY"),
        (Selection(end=T0), "LB"),
        (Selection(start=T0 - H3), "SY"),
    ):
        assert store.pairs(selection)["probe_country"].to_pylist() == [country], selection
    assert store.facts(PATH_STATE, Selection(at=T0, countries=("LB",))).num_rows == 0
    assert store.facts(PATH_STATE, Selection(at=T0, countries=("SY",))).num_rows == 1


def test_neighbours_at_a_time_are_reached_over_edges_that_held_then(store: GraphStore) -> None:
    moved(store)
    assert {n.target_key for n in store.neighbours(ATLAS_PROBE, 1, hops=1)} == {"SY"}
    assert {n.target_key for n in store.neighbours(ATLAS_PROBE, 1, hops=1, at=T0 - H3)} == {"LB"}


# Paths


@pytest.mark.parametrize(
    ("fact_type", "row"), [(PATH_STATE, state), (PATH_PREDICTION, prediction)], ids=["states", "predictions"]
)
def test_every_filter_keeps_what_it_names_and_nothing_else(
    store: GraphStore, fact_type: FactType, row: Callable[..., dict[str, Any]]
) -> None:
    places(store)
    rows = [row(), row(probe_id=2, target="198.51.100.7"), row(target="2001:db8::1", af=6)]
    store.put_facts(fact_type, facts(fact_type, *rows), said("ping"))

    def found(selection: Selection) -> set[tuple[int, str]]:
        keys = {(row["probe_id"], row["target"]) for row in store.facts(fact_type, selection).to_pylist()}
        pairs = {(row["probe_id"], row["target"]) for row in store.pairs(selection).to_pylist()}
        assert pairs == (
            keys if fact_type is PATH_STATE else set()
        )  # what was only predicted was not measured
        return keys

    a, b, c = (1, "192.0.2.1"), (2, "198.51.100.7"), (1, "2001:db8::1")
    assert found(Selection()) == {a, b, c}
    assert found(Selection(probe_ids=(2, 77))) == {b}
    assert found(Selection(targets=("192.0.2.1",))) == {a}
    assert found(Selection(asns=(64500,))) == {a}  # the probe's IPv6 network is not known
    assert found(Selection(target_asns=(64502,))) == {c}  # an anchor's address is in the AS of its family
    assert found(Selection(countries=("LB", "FR"))) == {a, c}
    assert found(Selection(area=Area(latitude=52.0, longitude=5.0, radius_km=100.0))) == {b}
    assert found(Selection(prefixes=("192.0.2.0/24", "2001:db8:1::/48"))) == {b}
    assert found(Selection(prefixes=("2001:db8::/32",), targets=("192.0.2.1",))) == set()
    assert found(Selection(af=6)) == {c}
    assert found(Selection(countries=("LB",), af=4)) == {a}


def test_pairs_know_their_ends_and_leave_the_unknown_null(store: GraphStore) -> None:
    places(store)
    rows = facts(PATH_STATE, state(), state(probe_id=3, target="198.51.100.7"))
    store.put_facts(PATH_STATE, rows, said("ping"))
    known, unknown = store.pairs().to_pylist()
    assert (known["probe_country"], known["target_country"], known["target_probe_id"]) == ("LB", "NL", 2)
    assert (known["probe_latitude"], known["target_longitude"], known["target_asn"]) == (33.9, 4.9, 64501)
    assert {value for name, value in unknown.items() if name not in ("probe_id", "target", "af")} == {None}


def test_neighbours_come_nearest_first_and_no_further_than_asked(store: GraphStore) -> None:
    fill(store)
    near = store.neighbours(ATLAS_PROBE, 2, hops=1)
    far = store.neighbours(ATLAS_PROBE, 2, hops=2)
    assert {n.distance for n in near} == {1}
    assert [n.distance for n in far] == sorted(n.distance for n in far)
    assert ("IP", "192.0.2.1", "ASSIGNED") in {(n.source_label, n.source_key, n.edge) for n in near}
    assert ("NEXT_HOP", "192.0.2.9") in {(n.edge, n.source_key) for n in far}
    assert ("NEXT_HOP", "192.0.2.9") not in {(n.edge, n.source_key) for n in near}
    assert store.neighbours(ATLAS_PROBE, 12345, hops=2) == []


def test_a_walk_stops_at_as_many_edges_as_it_may_meet_and_keeps_the_nearest(store: GraphStore) -> None:
    rows = [link(probe, "LB") for probe in range(1, 31)]
    store.upsert_edges(IN_COUNTRY, edges(IN_COUNTRY, *rows), said("probes"))
    found = store.neighbours(ATLAS_PROBE, 7, hops=2, most=10)
    assert len(found) == 10
    first = Neighbour(
        edge="COUNTRY",
        source_label="AtlasProbe",
        source_key="7",
        target_label="Country",
        target_key="LB",
        distance=1,
    )
    assert found[0] == first
    assert len(store.neighbours(COUNTRY, "LB", hops=1)) == 30


def test_arrays_hold_every_state_once_and_the_unmeasured_as_unknown(store: GraphStore) -> None:
    fill(store)
    later = state(
        window_start=T0 + 3 * H3, window_end=T0 + 4 * H3, received=0, rtt_median_ms=None, loss_ratio=1.0
    )
    store.put_facts(PATH_STATE, facts(PATH_STATE, later), said("ping"))
    arrays = path_arrays(store, Selection())
    assert (arrays.windows, arrays.pairs, arrays.window_s) == (4, 2, 10800)
    v4 = arrays.af.tolist().index(4)
    assert arrays.sent[:, v4].tolist() == [3, 0, 0, 3]
    assert arrays.rtt_ms[0, v4] == 11.0
    assert (arrays.rtt_ms[1:, v4] != arrays.rtt_ms[1:, v4]).all()  # NaN
    assert arrays.loss_ratio[3, v4] == 1.0
    assert arrays.target_end.host.tolist() == [2, 2]  # the anchor's two addresses are one host
    assert arrays.probe_end.country.tolist() == ["LB", "LB"]


def test_arrays_of_what_may_not_be_in_doubt_neither_hold_nor_know_what_is(store: GraphStore) -> None:
    fill(store)
    known = path_arrays(store, Selection(), timely=True)
    windows = [{"window_start": T0 + n * H3, "window_end": T0 + (n + 1) * H3} for n in (1, 2)]
    doubtful = [
        state(**windows[0], doubtful_results=1, rtt_median_ms=99.0),
        state(**windows[1], doubtful_results=3, target="198.51.100.1"),
    ]
    store.put_facts(PATH_STATE, facts(PATH_STATE, *doubtful), said("ping"))
    arrays = path_arrays(store, Selection(), timely=True)
    assert (known.untimely, arrays.untimely) == (0, 2)
    assert arrays.target.tolist() == known.target.tolist()
    for name in ("window_start_s", "rtt_ms", "sent", "received"):
        np.testing.assert_array_equal(getattr(arrays, name), getattr(known, name))
    every = path_arrays(store, Selection())
    assert (every.pairs, every.untimely, every.doubtful, arrays.doubtful) == (3, 0, 2, 0)
    store.delete(PATH_STATE, facts(PATH_STATE, state(), state(target="2001:db8::1", af=6)).select(KEY))
    with pytest.raises(EmptyError, match="found 2 states, all of results whose time is in doubt"):
        path_arrays(store, Selection(), timely=True)


KEY = [p.name for p in PATH_STATE.key]


def test_arrays_know_an_rtt_whose_packets_were_not_counted_and_no_loss_of_it(store: GraphStore) -> None:
    fill(store)
    uncounted = dict.fromkeys(("sent", "received", "duplicates", "errors", "loss_ratio"))
    one = state(target="node:7", **uncounted)
    half = state(target="node:8", **uncounted | {"sent": 3})
    store.put_facts(PATH_STATE, facts(PATH_STATE, one, half), said("table"))
    arrays = path_arrays(store, Selection())
    node = arrays.target.tolist().index("node:7")
    assert arrays.rtt_ms[0, node] == 11.0
    assert arrays.measured.all()
    assert (arrays.sent[0, node], arrays.received[0, node]) == (0, 0)
    assert arrays.sent[0, arrays.target.tolist().index("node:8")] == 0
    assert np.isnan(arrays.loss_ratio[0, node])


def test_nodes_that_name_one_host_are_one_machine_in_both_roles(store: GraphStore) -> None:
    fill(store)
    named = [{"id": number, "host": "a machine"} for number in (1, 3)]
    store.upsert_nodes(ATLAS_PROBE, nodes(ATLAS_PROBE, *named))
    store.upsert_edges(ASSIGNED, edges(ASSIGNED, link("node:3", 3, af=4)), said("table"))
    store.put_facts(PATH_STATE, facts(PATH_STATE, state(probe_id=2, target="node:3")), said("table"))
    arrays = path_arrays(store, Selection())
    to_node = arrays.target.tolist().index("node:3")
    assert (arrays.probe_end.host[to_node], arrays.target_end.host[to_node]) == (2, 1)
    assert set(arrays.probe_end.host.tolist()) == {1, 2}


def test_arrays_for_a_forecast_know_nobody_s_later_country(store: GraphStore) -> None:
    fill(store)
    moved(store)  # at T0, from LB to SY
    before = path_arrays(store, Selection(af=4), topology_before=T0).probe_end.country
    after = path_arrays(store, Selection(af=4), topology_before=T0 + H3).probe_end.country
    assert (before.tolist(), after.tolist()) == (["LB"], ["SY"])


def test_arrays_for_a_forecast_know_only_hops_seen_before(store: GraphStore) -> None:
    fill(store)
    central = {"ip": "192.0.2.1", "degree": 1, "pagerank": 0.5, "core_number": 1}
    store.upsert_nodes(IP, nodes(IP, central))
    known = path_arrays(store, Selection(af=4)).target_end.centrality
    hidden = path_arrays(store, Selection(af=4), topology_before=T0).target_end.centrality
    assert known[0, 0] == 1.0
    assert hidden[0, 0] != hidden[0, 0]  # NaN


def test_a_span_of_years_with_nothing_in_it_is_refused_and_does_not_fill_memory(store: GraphStore) -> None:
    short = timedelta(seconds=1)
    rows = [
        state(window_start=start, window_end=start + short)
        for start in (datetime(2012, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC))
    ]
    store.put_facts(PATH_STATE, facts(PATH_STATE, *rows), said("ping"))
    with pytest.raises(DataError, match="--from and --to"):
        path_arrays(store, Selection())


# Transactions, readers, writers


def test_a_transaction_that_fails_leaves_nothing_of_itself_behind(store: GraphStore) -> None:
    fill(store)
    before = everything(store)

    def half() -> None:
        with store.transaction():
            store.put_facts(PATH_STATE, facts(PATH_STATE, state(rtt_median_ms=99.0)), said("ping"))
            place_probe(store, 77, "POINT(0.0 0.0)", "FR", 64510, "probes")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert everything(store) == before


def test_what_was_read_in_a_transaction_that_was_given_up_is_forgotten(store: GraphStore) -> None:
    fill(store)
    before = store.pairs()

    def give_up() -> None:
        with store.transaction():
            store.put_facts(PATH_STATE, facts(PATH_STATE, state(target="192.0.2.99")), said("ping"))
            store.pairs()
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        give_up()
    assert store.pairs() == before
    store.put_facts(PATH_STATE, facts(PATH_STATE, state(target="192.0.2.98")), said("ping"))
    assert store.pairs().num_rows == before.num_rows + 1


def test_a_reader_sees_the_graph_while_another_writes_and_all_of_a_transaction_or_nothing(
    place: Place,
) -> None:
    with place.open() as writer, place.open(create=False) as reader:
        fill(writer)
        before = everything(reader)
        assert before == everything(writer)
        with writer.transaction():
            writer.put_facts(PATH_STATE, facts(PATH_STATE, state(rtt_median_ms=99.0)), said("ping"))
            assert everything(reader) == before
            writer.put_facts(PATH_SCORE, facts(PATH_SCORE, score(score=1.0)), said("scores"))
            assert everything(reader) == before
        assert reader.facts(PATH_SCORE, Selection(af=4))["score"].to_pylist() == [1.0]


def test_many_may_open_a_new_graph_at_once(place: Place) -> None:
    def opened(_: int) -> dict[str, int]:
        with place.open() as store:
            return store.counts()

    with ThreadPoolExecutor(4) as pool:
        assert all(set(counts.values()) == {0} for counts in pool.map(opened, range(12)))


def test_two_may_write_at_once_and_neither_s_word_is_lost(place: Place) -> None:
    def write(number: int) -> None:
        with place.open() as store:
            rows = [state(probe_id=probe, results=number) for probe in range(number, 60, 2)]
            shared = [link(1, f"192.0.2.{n}", af=4) for n in range(40)]
            for _ in range(3):
                store.put_facts(PATH_STATE, facts(PATH_STATE, *rows), said("ping"))
                store.upsert_edges(MEASURES, edges(MEASURES, *shared), said("ping"))

    if place.address == "memory":
        pytest.skip("dictionaries have one writer at a time")
    place.open().close()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, (0, 1)))
    with place.open() as store:
        found = store.facts(PATH_STATE)
        assert found["probe_id"].to_pylist() == list(range(60))
        assert found["results"].to_pylist() == [n % 2 for n in range(60)]
        assert store.edges(MEASURES).num_rows == 60 + 40 - 1


def test_an_error_that_is_not_the_store_s_passes_through_a_transaction_unchanged(store: GraphStore) -> None:
    def broken() -> None:
        with store.transaction():
            raise BrokenPipeError("stderr")

    with pytest.raises(BrokenPipeError):
        broken()


def test_a_refused_write_leaves_nothing_behind(store: GraphStore) -> None:
    broken = facts(PATH_STATE, state(), state(probe_id=5)).set_column(
        0, "probe_id", pa.array([1, None], pa.int64())
    )
    before = everything(store)
    with pytest.raises(StoreError):
        store.put_facts(PATH_STATE, broken, said("ping"))
    assert everything(store) == before


# Bad input, and whatever else may come

hostile = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
    st.sampled_from(
        [
            "'; DROP TABLE pair; --",
            '"',
            "\n",
            "}) DETACH DELETE n //",
            "?",
            "%",
            "NULL",
            "', 1); --",
            " ",
            "\\",
            "`",
            "$name",
            "<a>",
            "\\u0027",
            "{}",
            "${x}",
            "'}) RETURN 1 //",
        ]
    ),
)


@given(name=hostile)
@settings(SHARED_STORE, max_examples=40)
def test_a_hostile_name_stays_a_name(store: GraphStore, name: str) -> None:
    store.upsert_edges(TARGET_HOST_NAME, edges(TARGET_HOST_NAME, link(1, name)), said(name))
    assert name in store.nodes(HOST_NAME)["name"].to_pylist()
    found = store.edges(TARGET_HOST_NAME).select(["source", "target", "reference_name"]).to_pylist()
    assert name in {row["target"] for row in found}
    store.put_facts(
        PATH_SCORE, facts(PATH_SCORE, score(application=name, origin=name, reason=name)), said(name)
    )
    (kept,) = store.facts(PATH_SCORE, among={"application": [name]}, with_provenance=True).to_pylist()
    assert {kept[key] for key in ("application", "origin", "reason", "reference_name")} == {name}
    assert store.facts(PATH_STATE, Selection(targets=(name,), countries=(name,))).num_rows == 0
    assert any(n.target_key == name for n in store.neighbours(HOST_NAME, name, hops=1))


moments = st.sampled_from([None, T0, T0 + H3, T0 + 2 * H3])
small = st.integers(1, 3)
addresses = st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1"])
numbers = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False), st.just(-0.0))


def lists_of(row: st.SearchStrategy[dict[str, Any]], *unique: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Up to four rows, no two with the same key."""
    return st.lists(row, min_size=1, max_size=4, unique_by=lambda r: tuple(r[name] for name in unique))


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Whole histories of the countries of one or two probes."""
    rows = []
    for probe in draw(st.lists(small, min_size=1, max_size=2, unique=True)):
        changes = [None, *sorted(draw(st.sets(st.sampled_from([T0, T0 + H3, T0 + 2 * H3])))), None]
        for begin, end in pairwise(changes):
            rows.append(
                link(probe, draw(st.sampled_from(["LB", "SY", "NL"])), valid_from=begin, valid_to=end)
            )
    return rows


writes = st.one_of(
    st.tuples(
        st.just(ATLAS_PROBE),
        lists_of(
            st.fixed_dictionaries(
                {
                    "id": small,
                    "name": st.one_of(st.none(), hostile),
                    "is_anchor": st.sampled_from([None, True, False]),
                }
            ),
            "id",
        ),
    ),
    st.tuples(st.just(IN_COUNTRY), histories()),
    st.tuples(
        st.just(NEXT_HOP),
        lists_of(
            st.fixed_dictionaries(
                {"source": addresses, "target": addresses, "traceroutes": st.one_of(st.none(), small)}
                | {"first_seen": moments, "last_seen": moments}
            ),
            "source",
            "target",
        ),
    ),
    st.tuples(
        st.just(PATH_STATE),
        lists_of(
            st.builds(
                lambda **changes: state(**changes), probe_id=small, target=addresses, rtt_median_ms=numbers
            ),
            "probe_id",
            "target",
        ),
    ),
    st.tuples(
        st.just(PATH_PREDICTION),
        lists_of(
            st.builds(
                lambda **changes: prediction(**changes),
                probe_id=small,
                target=addresses,
                model=st.sampled_from(["sage", "measured"]),
                rtt_ms=numbers,
                reason=st.one_of(st.none(), hostile),
            ),
            "probe_id",
            "target",
            "model",
        ),
    ),
    st.tuples(
        st.just(PATH_SCORE),
        lists_of(
            st.builds(
                lambda **changes: score(**changes),
                probe_id=small,
                target=addresses,
                application=st.sampled_from(["voip", "web"]),
                score=numbers,
                reason=st.one_of(st.none(), hostile),
            ),
            "probe_id",
            "target",
            "application",
        ),
    ),
)


def write(
    store: GraphStore, kind: NodeType | EdgeType | FactType, rows: list[dict[str, Any]], by: str
) -> None:
    if isinstance(kind, NodeType):
        store.upsert_nodes(kind, nodes(kind, *rows))
    elif isinstance(kind, EdgeType):
        store.upsert_edges(kind, edges(kind, *rows), said(by))
    else:
        store.put_facts(kind, facts(kind, *rows), said(by))


def delete(store: GraphStore, kind: NodeType | EdgeType | FactType, rows: list[dict[str, Any]]) -> None:
    """Delete the rows; what is not deleted by key stays."""
    if isinstance(kind, FactType):
        store.delete(kind, facts(kind, *rows))
    elif kind is IN_COUNTRY:
        store.delete(IN_COUNTRY, edges(IN_COUNTRY, *rows))


@given(steps=st.lists(st.tuples(writes, st.booleans()), max_size=8))
@settings(SHARED_STORE, max_examples=30)
def test_whatever_is_written_a_store_holds_what_the_one_in_memory_holds(
    place: Place, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest, steps: list[Any]
) -> None:
    fresh = Place(address=place.address, home=tmp_path_factory.mktemp("any"), credentials=place.credentials)
    if place.address.startswith("bolt"):
        request.getfixturevalue("neo4j_server").clear()
    with fresh.open() as store:
        reference = MemoryStore(Tables())
        for number, ((kind, rows), gone) in enumerate(steps):
            for one in (store, reference):
                if gone:
                    delete(one, kind, rows)
                else:
                    write(one, kind, rows, str(number))
        for found, expected in zip(everything(store), everything(reference), strict=True):
            assert found == expected
        assert store.counts() == reference.counts()
        for selection in (Selection(at=T0), Selection(end=T0 + H3, countries=("LB", "SY"))):
            assert store.pairs(selection) == reference.pairs(selection)
            for fact_type in (PATH_STATE, PATH_PREDICTION):
                assert store.facts(fact_type, selection) == reference.facts(fact_type, selection)
        for at in (None, T0 + H3):
            for hops in (1, 2):
                assert set(store.neighbours(ATLAS_PROBE, 1, hops=hops, at=at)) == set(
                    reference.neighbours(ATLAS_PROBE, 1, hops=hops, at=at)
                )
