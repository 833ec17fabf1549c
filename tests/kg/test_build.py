"""What building writes: from tables as ingestion makes them, to a graph in memory."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import DataError
from domain.provenance import Provenance
from domain.selection import Selection
from ingest.probe_words import HISTORY_SCHEMA, PROBE_SCHEMA
from ingest.summarise import HOP_LINK_SCHEMA, LINK_STATE_SCHEMA, MEASUREMENT_TARGET_SCHEMA, PATH_STATE_SCHEMA
from kg.build import (
    AS_LINK_SCHEMA,
    add_as_links,
    add_centralities,
    add_end_states,
    add_hops,
    add_link_states,
    add_measurements,
    add_place_scores,
    add_prefixes,
    add_probes,
    add_states,
    as_adjacency,
    delete_other_as_links,
    end_states,
    place_scores,
    without_announced,
)
from kg.schema import (
    AS,
    AS_SCORE,
    ASSIGNED,
    ATLAS_PROBE,
    COUNTRY_SCORE,
    EDGE_TYPES,
    FACT_TYPES,
    HAD_STATUS,
    IN_COUNTRY,
    IP,
    LINK_STATE,
    LOCATED_IN_AS,
    LOCATED_IN_POINT,
    MEASURES,
    NEXT_AS,
    NEXT_HOP,
    NODE_TYPES,
    ORIGINATE,
    PART_OF_MEASUREMENT,
    PART_OF_PREFIX,
    PATH_SCORE,
    PATH_STATE,
    POINT,
    PROBE_STATE,
    TARGET_HOST_NAME,
    TARGET_IP,
    TARGET_STATE,
    EdgeType,
)
from kg.store import GraphStore
from kg.tables import fact_schema
from tests.contract.memory_store import MemoryStore, Tables

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
MATCH_SCHEMA = pa.schema([("address", pa.string()), ("prefix", pa.string()), ("asn", pa.int64())])
SAID = Provenance(
    reference_name="test",
    reference_org="test",
    reference_url_data=None,
    reference_time_fetch=None,
    reference_time_modification=None,
    method=None,
    synthetic=False,
)


OTHERS = replace(SAID, reference_name="others")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(Tables())


def rows(schema: pa.Schema, *found: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist([dict.fromkeys(schema.names) | one for one in found], schema=schema)


def edges(store: GraphStore, edge_type: EdgeType, *names: str) -> list[tuple[Any, ...]]:
    return [
        tuple(row[name] for name in ("source", "target", *names))
        for row in store.edges(edge_type).to_pylist()
    ]


def everything(store: GraphStore) -> dict[str, Any]:
    return {
        **{node_type.label: store.nodes(node_type).to_pylist() for node_type in NODE_TYPES},
        **{edge_type.table: store.edges(edge_type).to_pylist() for edge_type in EDGE_TYPES},
        **{fact_type.label: store.facts(fact_type).to_pylist() for fact_type in FACT_TYPES},
    }


# Probes


def history(*found: dict[str, Any]) -> pa.Table:
    return rows(HISTORY_SCHEMA, *({"synthetic": False} | one for one in found))


MOVED = {"relation": "network", "probe_id": 7, "af": 4}
HISTORY = history(
    MOVED | {"asn": 64500, "valid_to": NOON},
    MOVED | {"asn": 64501, "valid_from": NOON},
    {"relation": "network", "probe_id": 7, "af": 6, "asn": 64502},
    {"relation": "place", "probe_id": 7, "latitude": 33.9, "longitude": 35.5},
    {"relation": "country", "probe_id": 7, "country": "LB"},
    {"relation": "status", "probe_id": 7, "status": "Connected", "valid_to": NOON},
    {"relation": "status", "probe_id": 7, "status": "Abandoned", "valid_from": NOON},
    {"relation": "address", "probe_id": 7, "af": 4, "address": "198.18.0.7"},
    {"relation": "prefix", "af": 4, "address": "198.18.0.7", "prefix": "198.18.0.0/22"},
)
PROBES = rows(
    PROBE_SCHEMA,
    {"probe_id": 7, "name": "seven", "is_anchor": False, "synthetic": True, "host": "one machine"},
    {"probe_id": 8, "synthetic": False},
)


def test_probes_are_written_with_their_whole_history(store: MemoryStore) -> None:
    add_probes(store, PROBES, HISTORY, SAID)
    assert [tuple(row.values()) for row in store.nodes(ATLAS_PROBE).to_pylist()] == [
        (7, "seven", None, False, True, "one machine"),
        (8, None, None, None, False, None),
    ]
    assert edges(store, LOCATED_IN_AS, "af", "valid_from", "valid_to") == [
        (7, 64500, 4, None, NOON),
        (7, 64501, 4, NOON, None),
        (7, 64502, 6, None, None),
    ]
    assert edges(store, LOCATED_IN_POINT, "valid_from", "valid_to") == [(7, "POINT(35.5 33.9)", None, None)]
    assert store.nodes(POINT).to_pylist() == [
        {"position": "POINT(35.5 33.9)", "latitude": 33.9, "longitude": 35.5}
    ]
    assert edges(store, IN_COUNTRY) == [(7, "LB")]
    assert edges(store, HAD_STATUS, "valid_from", "valid_to") == [
        (7, "Abandoned", NOON, None),
        (7, "Connected", None, NOON),
    ]
    assert edges(store, ASSIGNED, "af") == [("198.18.0.7", 7, 4)]
    assert edges(store, PART_OF_PREFIX) == [("198.18.0.7", "198.18.0.0/22")]
    (address,) = store.nodes(IP).to_pylist()
    assert (address["ip"], address["af"], address["scope"]) == ("198.18.0.7", 4, "reserved")
    before = store.edges(LOCATED_IN_AS, at=NOON - HOUR)
    assert before["target"].to_pylist() == [64500, 64502]


def test_a_history_that_was_corrected_replaces_the_one_that_was_written(store: MemoryStore) -> None:
    add_probes(store, PROBES, HISTORY, SAID)
    add_probes(store, PROBES, history(MOVED | {"asn": 64509}), SAID)
    assert edges(store, LOCATED_IN_AS, "af") == [(7, 64502, 6), (7, 64509, 4)]


def test_nothing_is_written_of_what_nobody_said(store: MemoryStore) -> None:
    add_probes(store, PROBES.slice(0, 0), HISTORY.slice(0, 0), SAID)
    assert not any(everything(store).values())


# Measurements


def test_measurements_know_when_they_were_met_first_and_last(store: MemoryStore) -> None:
    def target(**changes: Any) -> dict[str, Any]:
        one = {"msm_id": 1, "type": "ping", "target": "192.0.2.1", "target_name": "example.org", "af": 4}
        return one | {"synthetic": False, "probe_id": 7, "first_seen": NOON, "last_seen": NOON} | changes

    targets = rows(
        MEASUREMENT_TARGET_SCHEMA,
        target(),
        target(probe_id=8, first_seen=NOON - HOUR, last_seen=NOON + HOUR),
        target(probe_id=8, target="192.0.2.2", target_name="192.0.2.2", last_seen=NOON + 2 * HOUR),
        target(msm_id=2, target=None, target_name="gone.example"),
    )
    add_measurements(store, targets, SAID)
    assert edges(store, PART_OF_MEASUREMENT, "first_seen", "last_seen") == [
        (7, 1, NOON, NOON),
        (7, 2, NOON, NOON),
        (8, 1, NOON - HOUR, NOON + 2 * HOUR),
    ]
    assert edges(store, TARGET_IP, "first_seen", "last_seen") == [
        (1, "192.0.2.1", NOON - HOUR, NOON + HOUR),
        (1, "192.0.2.2", NOON, NOON + 2 * HOUR),
    ]
    assert edges(store, TARGET_HOST_NAME) == [(1, "example.org"), (2, "gone.example")]


# Hops, prefixes, adjacency of ASes, centralities


def links(*pairs: tuple[str, str], count: int = 1) -> pa.Table:
    return rows(
        HOP_LINK_SCHEMA,
        *(
            {
                "from_address": one,
                "to_address": other,
                "count": count + number,
                "first_seen": NOON - number * HOUR,
                "last_seen": NOON + number * HOUR,
                "synthetic": False,
            }
            for number, (one, other) in enumerate(pairs)
        ),
    )


def matches(**origins: Any) -> pa.Table:
    """Addresses, written with `_` for `.`, and the ASes that announce their prefix."""
    return pa.Table.from_pylist(
        [
            {"address": name[1:].replace("_", "."), "prefix": prefix, "asn": asn}
            for name, (prefix, *asns) in origins.items()
            for asn in asns
        ],
        schema=MATCH_SCHEMA,
    )


LINKS = links(
    ("192.168.1.1", "198.18.0.1"),
    ("198.18.0.1", "198.18.0.2"),
    ("198.18.0.2", "198.18.4.1"),
    ("198.18.0.1", "198.18.4.1"),
    ("198.18.4.1", "198.18.8.1"),
    ("198.18.8.1", "198.18.12.1"),
    ("198.18.4.1", "198.18.0.1"),
)
MATCHES = matches(
    a192_168_1_1=("192.168.0.0/16", 64999),
    a198_18_0_1=("198.18.0.0/22", 64500),
    a198_18_0_2=("198.18.0.0/22", 64500),
    a198_18_4_1=("198.18.4.0/22", 64501),
    a198_18_8_1=("198.18.8.0/22", 64502, 64503),
    a198_18_12_1=(None, None),
)


def test_local_addresses_are_in_the_hop_graph_and_say_so(store: MemoryStore) -> None:
    add_hops(store, LINKS, SAID)
    assert ("192.168.1.1", "198.18.0.1", 1) in edges(store, NEXT_HOP, "traceroutes")
    scope = {row["ip"]: (row["af"], row["scope"]) for row in store.nodes(IP).to_pylist()}
    assert scope["192.168.1.1"] == (4, "local")
    assert scope["198.18.0.1"] == (4, "reserved")


def test_as_adjacency_needs_a_known_single_origin_at_both_ends_and_two_ases() -> None:
    found = as_adjacency(LINKS, MATCHES)
    assert found.schema == AS_LINK_SCHEMA
    assert [tuple(row.values()) for row in found.to_pylist()] == [
        (64500, 64501, 2, 3 + 4, NOON - 3 * HOUR, NOON + 3 * HOUR, False),
        (64501, 64500, 1, 7, NOON - 6 * HOUR, NOON + 6 * HOUR, False),
    ]
    assert as_adjacency(LINKS.slice(0, 0), MATCHES.slice(0, 0)) == AS_LINK_SCHEMA.empty_table()


def test_prefixes_are_written_with_all_who_announce_them_and_local_addresses_are_in_none(
    store: MemoryStore,
) -> None:
    add_prefixes(store, MATCHES, SAID)
    assert edges(store, ORIGINATE) == [
        (64500, "198.18.0.0/22"),
        (64501, "198.18.4.0/22"),
        (64502, "198.18.8.0/22"),
        (64503, "198.18.8.0/22"),
    ]
    assert edges(store, PART_OF_PREFIX) == [
        ("198.18.0.1", "198.18.0.0/22"),
        ("198.18.0.2", "198.18.0.0/22"),
        ("198.18.4.1", "198.18.4.0/22"),
        ("198.18.8.1", "198.18.8.0/22"),
    ]


def test_a_list_of_announcements_replaces_what_was_said_of_an_address_only_where_it_knows_it(
    store: MemoryStore,
) -> None:
    add_probes(store, PROBES, HISTORY, SAID)
    add_prefixes(store, matches(a198_18_0_7=(None, None)), SAID)
    assert edges(store, PART_OF_PREFIX) == [("198.18.0.7", "198.18.0.0/22")]
    add_prefixes(store, matches(a198_18_0_7=("198.18.0.0/24", 64500)), SAID)
    assert edges(store, PART_OF_PREFIX) == [("198.18.0.7", "198.18.0.0/24")]


def test_what_an_earlier_list_of_announcements_said_goes_and_what_others_said_comes_back(
    store: MemoryStore,
) -> None:
    add_prefixes(store, MATCHES, SAID)
    add_prefixes(store, matches(a198_18_0_7=("198.18.0.0/24", 64500)), SAID)
    assert edges(store, ORIGINATE) == [(64500, "198.18.0.0/24")]
    assert edges(store, PART_OF_PREFIX) == [("198.18.0.7", "198.18.0.0/24")]
    store.upsert_edges(ORIGINATE, pa.table({"source": [64599], "target": ["203.0.113.0/24"]}), OTHERS)
    of_others = matches(a198_18_4_1=("198.18.4.0/22", 64501))
    add_prefixes(store, of_others, SAID)
    add_probes(store, PROBES, without_announced(store, HISTORY, of_others), SAID)
    assert edges(store, PART_OF_PREFIX) == [("198.18.0.7", "198.18.0.0/22"), ("198.18.4.1", "198.18.4.0/22")]
    assert edges(store, ORIGINATE) == [(64501, "198.18.4.0/22"), (64599, "203.0.113.0/24")]


def test_building_with_the_same_list_again_changes_nothing_though_probes_say_another_prefix(
    store: MemoryStore,
) -> None:
    found = matches(a198_18_0_7=("198.18.0.0/24", 64500))
    kept = []
    for _ in range(2):
        add_prefixes(store, found, SAID)
        add_probes(store, PROBES, without_announced(store, HISTORY, found), SAID)
        kept.append(everything(store))
    assert edges(store, PART_OF_PREFIX) == [("198.18.0.7", "198.18.0.0/24")]
    assert kept[0] == kept[1]


def test_a_build_without_a_list_leaves_what_the_last_list_said(store: MemoryStore) -> None:
    found = matches(a198_18_0_7=("198.18.0.0/24", 64500))
    add_prefixes(store, found, SAID)
    add_probes(store, PROBES, without_announced(store, HISTORY, found), SAID)
    before = everything(store)
    add_probes(store, PROBES, without_announced(store, HISTORY, None), SAID)
    assert everything(store) == before


def test_links_between_ases_that_only_grew_are_not_deleted(store: MemoryStore) -> None:
    found = as_adjacency(LINKS, MATCHES)
    add_as_links(store, found, SAID)
    more = LINKS.set_column(2, "count", pc.add(LINKS["count"], 1))
    assert delete_other_as_links(store, as_adjacency(more, MATCHES)) == 0
    assert store.edges(NEXT_AS).num_rows == found.num_rows


def test_links_between_ases_are_those_of_the_last_list_and_an_as_without_any_is_the_centre_of_nothing(
    store: MemoryStore,
) -> None:
    add_hops(store, LINKS, SAID)
    moved = matches(a198_18_0_2=("198.18.0.0/22", 64500), a198_18_4_1=("198.18.4.0/22", 64509))
    for list_of_prefixes in (MATCHES, moved, moved):
        found = as_adjacency(LINKS, list_of_prefixes)
        delete_other_as_links(store, found)
        add_as_links(store, found, SAID)
        add_centralities(store, np.random.default_rng(0))
    assert edges(store, NEXT_AS, "links", "traceroutes") == [
        (64500, 64509, 1, 3)
    ]  # and not the larger counts of before
    assert {row["asn"]: row["degree"] for row in store.nodes(AS).to_pylist()} == {
        64500: 1,
        64501: 0,
        64509: 1,
    }


def test_a_link_between_ases_is_synthetic_if_any_of_it_is() -> None:
    synthetic = pc.equal(LINKS["to_address"], "198.18.4.1")
    mixed = LINKS.set_column(LINKS.column_names.index("synthetic"), "synthetic", synthetic)
    assert as_adjacency(mixed, MATCHES)["synthetic"].to_pylist() == [True, False]


def test_centralities_are_those_of_the_graph_without_local_addresses(store: MemoryStore) -> None:
    add_hops(store, LINKS, SAID)
    add_as_links(store, as_adjacency(LINKS, MATCHES), SAID)
    add_centralities(store, np.random.default_rng(0))
    addresses = {row["ip"]: row for row in store.nodes(IP).to_pylist()}
    assert addresses["192.168.1.1"]["degree"] is None
    assert (addresses["198.18.0.1"]["degree"], addresses["198.18.0.1"]["core_number"]) == (2, 2)
    assert addresses["198.18.4.1"]["centrality_method"] == "exact"
    assert {row["asn"]: row["degree"] for row in store.nodes(AS).to_pylist()} == {64500: 1, 64501: 1}
    assert edges(store, NEXT_AS, "links", "traceroutes")[0] == (64500, 64501, 2, 7)


# States


def state(**changes: Any) -> dict[str, Any]:
    return {
        "probe_id": 7, "target": "192.0.2.1", "af": 4, "window_start": NOON, "window_end": NOON + HOUR, "results": 2,
        "sent": 6, "received": 6, "duplicates": 0, "errors": 0, "rtt_min_ms": 1.0, "rtt_mean_ms": 2.0,
        "rtt_median_ms": 2.0, "rtt_p95_ms": None, "loss_ratio": 0.0, "jitter_ms": 0.5, "utilisation_ratio": None,
        "synthetic": False,
    } | changes  # fmt: skip


def states(*found: dict[str, Any]) -> pa.Table:
    return rows(PATH_STATE_SCHEMA, *found)


LOST = {"received": 0, "rtt_median_ms": None, "loss_ratio": 1.0, "jitter_ms": None}
UNSENT = {"sent": 0, "received": 0, "errors": 3, "rtt_median_ms": None, "loss_ratio": None, "jitter_ms": None}


def test_what_the_paths_of_a_probe_have_in_common_worked_out_by_hand() -> None:
    found = end_states(
        states(
            state(rtt_median_ms=10.0, received=5, jitter_ms=1.0),
            state(target="192.0.2.2", rtt_median_ms=30.0, jitter_ms=2.0, synthetic=True),
            state(target="192.0.2.3", rtt_median_ms=14.0, jitter_ms=None),
            state(target="192.0.2.4", **LOST),
            state(target="192.0.2.5", **UNSENT),
            state(target="2001:db8::1", af=6, **UNSENT),
        ),
        PROBE_STATE,
    )
    assert found.schema == fact_schema(PROBE_STATE)
    four, six = found.to_pylist()
    assert four == {
        "probe_id": 7,
        "af": 4,
        "window_start": NOON,
        "window_end": NOON + HOUR,
        "paths": 5,
        "paths_without_reply": 2,
        "results": 10,
        "sent": 24,
        "received": 17,
        "errors": 3,
        "rtt_median_ms": 14.0,
        "loss_ratio": 7 / 24,
        "jitter_ms": 1.5,
        "synthetic": True,
    }
    assert (six["af"], six["paths"], six["paths_without_reply"]) == (6, 1, 1)
    assert (six["rtt_median_ms"], six["loss_ratio"], six["jitter_ms"]) == (None, None, None)


def test_states_are_written_of_paths_probes_and_targets_and_a_path_knows_when_it_was_measured(
    store: MemoryStore,
) -> None:
    found = states(
        state(),
        state(probe_id=8, rtt_median_ms=4.0),
        state(window_start=NOON + HOUR, window_end=NOON + 2 * HOUR),
    )
    add_states(store, found, SAID)
    add_end_states(store, found, SAID)
    last = timedelta(microseconds=1)
    assert edges(store, MEASURES, "af", "first_seen", "last_seen") == [
        (7, "192.0.2.1", 4, NOON, NOON + 2 * HOUR - last),
        (8, "192.0.2.1", 4, NOON, NOON + HOUR - last),
    ]
    assert store.facts(PATH_STATE).num_rows == 3
    assert store.facts(PROBE_STATE)["rtt_median_ms"].to_pylist() == [2.0, 4.0, 2.0]
    assert store.facts(TARGET_STATE)["rtt_median_ms"].to_pylist() == [3.0, 2.0]
    methods = {
        fact_type.label: set(store.facts(fact_type, with_provenance=True)["method"].to_pylist())
        for fact_type in (PATH_STATE, PROBE_STATE, TARGET_STATE)
    }
    assert methods["PathState"] == {None}
    assert None not in methods["ProbeState"] | methods["TargetState"]


def test_building_twice_changes_nothing(store: MemoryStore) -> None:
    def build() -> None:
        add_probes(store, PROBES, HISTORY, SAID)
        add_hops(store, LINKS, SAID)
        add_prefixes(store, MATCHES, SAID)
        add_as_links(store, as_adjacency(LINKS, MATCHES), SAID)
        add_states(store, states(state(), state(probe_id=8, **LOST)), SAID)
        add_end_states(store, states(state(), state(probe_id=8, **LOST)), SAID)
        add_centralities(store, np.random.default_rng(0))

    build()
    before = everything(store)
    build()
    assert everything(store) == before


_some_states = st.lists(
    st.tuples(
        st.integers(1, 3),
        st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1"]),
        st.integers(0, 1),
        st.none() | st.floats(0.0, 500.0),
        st.none() | st.floats(0.0, 50.0),
        st.integers(0, 9),
    ),
    unique_by=lambda one: one[:3],
    min_size=1,
    max_size=14,
)


@settings(max_examples=30)
@given(found=_some_states, data=st.data())
def test_states_of_ends_are_what_plain_python_makes_of_paths_in_any_order(
    found: list[tuple[int, str, int, float | None, float | None, int]], data: st.DataObject
) -> None:
    paths = [
        state(
            probe_id=probe,
            target=target,
            af=6 if ":" in target else 4,
            window_start=NOON + window * HOUR,
            window_end=NOON + (window + 1) * HOUR,
            rtt_median_ms=rtt,
            jitter_ms=jitter,
            sent=9,
            received=received,
        )
        for probe, target, window, rtt, jitter, received in found
    ]
    for fact_type, key in ((PROBE_STATE, ("probe_id", "af")), (TARGET_STATE, ("target",))):
        groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
        for path in paths:
            groups[(*(path[name] for name in key), path["window_start"])].append(path)
        table = end_states(states(*paths), fact_type)
        assert table == end_states(states(*data.draw(st.permutations(paths))), fact_type)
        assert table.num_rows == len(groups)
        for row in table.to_pylist():
            group = groups[(*(row[name] for name in key), row["window_start"])]
            rtts, jitters = (
                [path[name] for path in group if path[name] is not None]
                for name in ("rtt_median_ms", "jitter_ms")
            )
            received = sum(path["received"] for path in group)
            assert (row["paths"], row["received"]) == (len(group), received)
            assert row["paths_without_reply"] == sum(path["received"] == 0 for path in group)
            assert row["rtt_median_ms"] == (pytest.approx(statistics.median(rtts)) if rtts else None)
            assert row["jitter_ms"] == (pytest.approx(statistics.fmean(jitters)) if jitters else None)
            assert row["loss_ratio"] == pytest.approx((9 * len(group) - received) / (9 * len(group)))


def test_link_states_are_facts_about_adjacent_hops(store: MemoryStore) -> None:
    one = {
        "from_address": "192.168.1.1", "to_address": "198.18.0.1", "window_start": NOON, "window_end": NOON + HOUR,
        "traceroutes": 4, "probes": 3, "asns": 3, "samples": 12, "rtt_diff_median_ms": 2.0, "rtt_diff_low_ms": 1.0,
        "rtt_diff_high_ms": 3.0, "utilisation_ratio": None, "synthetic": False,
    }  # fmt: skip
    add_link_states(store, rows(LINK_STATE_SCHEMA, one), SAID)
    assert store.facts(LINK_STATE).to_pylist() == [one]
    assert edges(store, NEXT_HOP) == [("192.168.1.1", "198.18.0.1")]
    assert {row["scope"] for row in store.nodes(IP).to_pylist()} == {"local", "reserved"}


# Scores of ASes and countries


def score(probe: int, target: str, value: float | None, *costs: float, **changes: Any) -> dict[str, Any]:
    one = dict.fromkeys(fact_schema(PATH_SCORE).names) | {
        "probe_id": probe, "target": target, "af": 4, "window_start": NOON, "window_end": NOON + HOUR,
        "application": "voip", "origin": "measured", "score": value, "profile": "p/1", "synthetic": False,
    }  # fmt: skip
    return (
        one
        | dict(zip(("rtt_cost_points", "loss_cost_points", "jitter_cost_points"), costs, strict=False))
        | changes
    )


def placed(
    probe: int, asn: int | None = None, country: str | None = None, **when: datetime
) -> list[dict[str, Any]]:
    network = {"relation": "network", "probe_id": probe, "af": 4, "asn": asn} | when
    return [network] * (asn is not None) + [
        {"relation": "country", "probe_id": probe, "country": country}
    ] * (country is not None)


WHERE = history(
    *placed(1, 64500, "LB"),
    {"relation": "network", "probe_id": 1, "af": 6, "asn": 64509},
    *placed(2, 64502, "NL", valid_to=NOON + timedelta(minutes=30)),
    *placed(2, 64500, valid_from=NOON + timedelta(minutes=30), valid_to=NOON + HOUR),
    *placed(2, 64501, valid_from=NOON + HOUR),
    *placed(3, None, "NL"),
    *placed(4, 64501),
)
"""Probe 2 moves in the middle of the hour after noon, and again at its end."""


def places(*found: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    schema = fact_schema(PATH_SCORE).append(pa.field("synthetic", pa.bool_()))
    by_as, by_country = place_scores(pa.Table.from_pylist(list(found), schema=schema), WHERE)
    assert (by_as.schema, by_country.schema) == (fact_schema(AS_SCORE), fact_schema(COUNTRY_SCORE))
    return by_as.to_pylist(), by_country.to_pylist()


def test_the_score_of_an_as_is_the_mean_over_paths_that_have_one() -> None:
    by_as, by_country = places(
        score(1, "a", 90.0, 4.0, 6.0, 0.0),
        score(1, "b", None, 99.0, reason="unknown"),
        score(2, "a", 70.0, 10.0, 10.0, 10.0, synthetic=True),
        score(3, "a", 10.0, 90.0, 0.0, 0.0),
    )
    assert by_as == [
        {
            "asn": 64500,
            "window_start": NOON,
            "window_end": NOON + HOUR,
            "application": "voip",
            "origin": "measured",
            "paths": 2,
            "paths_without_score": 1,
            "score": 80.0,
            "score_low": None,
            "score_high": None,
            "rtt_cost_points": 7.0,
            "loss_cost_points": 8.0,
            "jitter_cost_points": 5.0,
            "limiting_metric": "loss",
            "profile": "p/1",
            "synthetic": True,
        }
    ]
    lb, nl = by_country
    assert (lb["country_code"], lb["paths"], lb["paths_without_score"], lb["score"]) == ("LB", 1, 1, 90.0)
    assert (nl["country_code"], nl["paths"], nl["score"], nl["limiting_metric"]) == ("NL", 2, 40.0, "rtt")


def test_a_probe_counts_where_it_was_when_the_window_ended_in_the_family_of_the_path() -> None:
    later: dict[str, Any] = {"window_start": NOON + HOUR, "window_end": NOON + 2 * HOUR}
    by_as, _ = places(
        score(2, "a", 70.0),
        score(2, "a", 60.0, **later),
        score(1, "2001:db8::1", 50.0, af=6),
        score(4, "2001:db8::1", 50.0, af=6),
    )
    assert [(row["asn"], row["window_start"], row["score"]) for row in by_as] == [
        (64500, NOON, 70.0),
        (64501, NOON + HOUR, 60.0),
        (64509, NOON, 50.0),
    ]


def test_the_score_of_a_place_where_nobody_was_after_all_goes(store: MemoryStore) -> None:
    schema = fact_schema(PATH_SCORE).append(pa.field("synthetic", pa.bool_()))
    later: dict[str, Any] = {"window_start": NOON + HOUR, "window_end": NOON + 2 * HOUR}
    found = pa.Table.from_pylist([score(1, "a", 90.0), score(1, "a", 80.0, **later)], schema=schema)

    def build(scores: pa.Table, where: pa.Table) -> None:
        spans = [choose(scores["window_start"]).as_py() for choose in (pc.min, pc.max)]
        within = Selection(start=spans[0], end=spans[1] + HOUR, window_s=3600)
        for fact_type, one in zip((AS_SCORE, COUNTRY_SCORE), place_scores(scores, where), strict=True):
            add_place_scores(store, fact_type, one, SAID, within)

    build(found, history(*placed(1, 64500, "LB")))
    predicted = store.facts(AS_SCORE).slice(0, 1).to_pylist()
    store.put_facts(AS_SCORE, rows(fact_schema(AS_SCORE), predicted[0] | {"origin": "sage"}), SAID)
    corrected = history(*placed(1, 64501, "LB"))
    build(found.slice(1), corrected)  # only the later window is built again
    assert [
        (row["asn"], row["origin"], row["window_start"]) for row in store.facts(AS_SCORE).to_pylist()
    ] == [
        (64500, "measured", NOON),
        (64500, "sage", NOON),
        (64501, "measured", NOON + HOUR),
    ]
    build(found, history())
    assert store.facts(AS_SCORE)["origin"].to_pylist() == ["sage"]
    assert store.facts(COUNTRY_SCORE).num_rows == 0


def test_a_place_whose_paths_have_no_score_has_none_and_one_that_costs_nothing_no_limit() -> None:
    (unknown,), _ = places(score(1, "a", None))
    assert (unknown["paths"], unknown["paths_without_score"]) == (0, 1)
    assert (unknown["score"], unknown["limiting_metric"]) == (None, None)
    (perfect,), _ = places(score(1, "a", 100.0, 0.0, 0.0, 0.0))
    assert (perfect["score"], perfect["limiting_metric"]) == (100.0, None)


def test_applications_origins_and_windows_are_apart_and_profiles_never_mixed() -> None:
    later: dict[str, Any] = {"window_start": NOON + HOUR, "window_end": NOON + 2 * HOUR}
    found, _ = places(
        score(1, "a", 50.0),
        score(1, "a", 60.0, application="web"),
        score(1, "a", 70.0, origin="sage"),
        score(1, "a", 80.0, **later, profile="p/2"),
    )
    assert [(row["application"], row["origin"], row["score"]) for row in found] == [
        ("voip", "measured", 50.0),
        ("voip", "sage", 70.0),
        ("web", "measured", 60.0),
        ("voip", "measured", 80.0),
    ]
    with pytest.raises(DataError, match="several profiles"):
        places(score(1, "a", 50.0), score(2, "a", 60.0, profile="p/2"))


# The whole way from a synthetic Internet, whose truth is known


def test_the_as_links_found_are_those_of_the_truth_that_traceroutes_crossed(tmp_path: Path) -> None:
    from domain.observation import ResultType
    from domain.path_state import Pair
    from domain.window import Window
    from ingest.lake import Lake
    from ingest.parse import parse
    from ingest.prefixes import read_prefixes
    from ingest.summarise import hop_links
    from testbed.announcements import announcements_csv
    from testbed.api import Api
    from testbed.campaign import Campaign
    from testbed.events import schedule
    from testbed.internet import SyntheticInternet
    from testbed.truth import Truth
    from testbed.weather import Weather

    window = Window(start=NOON, end=NOON + timedelta(hours=12))
    internet = SyntheticInternet.generate(7, 14, 4)
    truth = Truth(internet, schedule(internet, window))
    campaign = Campaign.plan(internet, window)
    api = Api(campaign, Weather(internet, truth.events))
    results: list[dict[str, Any]] = []
    for measurement in campaign.measurements:
        if measurement.type is ResultType.TRACEROUTE:
            body = api.answer(f"/api/v2/measurements/{measurement.msm_id}/results/", "", "test").body
            results += json.loads(body if isinstance(body, bytes) else b"".join(body))
    assert len(results) > 100

    def crossed(result: dict[str, Any]) -> set[tuple[int, int]]:
        """The AS links between consecutive machines on the true route that both answered."""
        answered = {hop["hop"]: {r["from"] for r in hop["result"] if "from" in r} for hop in result["result"]}
        pair = Pair(probe_id=result["prb_id"], target=result["dst_addr"], af=result["af"])
        route = truth.route(pair, result["timestamp"])
        heard = [address in answered.get(hop, set()) for hop, address in enumerate(route, 1)]
        systems = [system_of.get(address) for address in route]
        return {
            (here[0], there[0])
            for here, there in pairwise(zip(systems, heard, strict=True))
            if here[0] is not None and there[0] is not None and here[0] != there[0] and here[1] and there[1]
        }

    system_of = {
        address: internet.systems[router.system].asn
        for router in internet.routers
        for address in (internet.router_v4[router.number], internet.router_v6[router.number])
    }
    for host in internet.hosts:
        system_of |= {a: host.asn for a in (host.address_v4, host.address_v6) if a is not None}
    expected = {link for result in results for link in crossed(result)}
    assert len(expected) > 5

    lake = Lake(tmp_path / "lake")
    lake.land(parse(results, "test"))
    path = tmp_path / "prefixes.csv"
    path.write_text(announcements_csv(internet))
    found = hop_links(lake)
    addresses = pa.chunked_array([*found["from_address"].chunks, *found["to_address"].chunks])
    announced = read_prefixes(path).match(addresses)
    assert {row["address"] for row in announced.to_pylist() if row["asn"] is None} == {"192.168.1.1"}
    adjacent = as_adjacency(found, announced)
    assert {(row["source"], row["target"]) for row in adjacent.to_pylist()} == expected
