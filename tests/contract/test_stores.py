"""The contract that every store of the graph keeps. A store joins by being in `kg.store.STORES`."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.errors import DataError
from domain.provenance import Provenance
from domain.selection import Area, Selection
from kg.arrays import path_arrays
from kg.build import add_probes
from kg.schema import (
    ATLAS_PROBE,
    EDGE_TYPES,
    HOST_NAME,
    IN_COUNTRY,
    LOCATED_IN_AS,
    LOCATED_IN_POINT,
    NEXT_HOP,
    NODE_TYPES,
    TARGET_HOST_NAME,
)
from kg.store import STORES, GraphStore, open_store
from kg.tables import SCORE_TYPES, STATE_TYPES, TIME

T0 = datetime(2019, 5, 12, 9, tzinfo=UTC)
H3 = timedelta(hours=3)
FETCHED = datetime(2026, 1, 1, tzinfo=UTC)


def said(name: str, *, synthetic: bool = False) -> Provenance:
    return Provenance(
        reference_name=name,
        reference_org="test",
        reference_url_data=None,
        reference_time_fetch=FETCHED,
        reference_time_modification=None,
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
        "synthetic": False,
    } | changes


def states(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), pa.schema(list(STATE_TYPES.items())))


def score(**changes: Any) -> dict[str, Any]:
    row = {
        k: v for k, v in state().items() if k in ("probe_id", "target", "af", "window_start", "window_end")
    }
    return (
        row
        | {"application": "voip", "origin": "measured", "score": 80.0}
        | {"rtt_cost_points": 1.0, "loss_cost_points": 19.0, "jitter_cost_points": 0.0}
        | {"limiting_metric": "loss", "reason": None, "profile": "p"}
        | changes
    )


def scores(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), pa.schema(list(SCORE_TYPES.items())))


def probes(*rows: dict[str, Any]) -> pa.Table:
    names = "latitude longitude asn_v4 asn_v6 country address_v4 address_v6 prefix_v4 prefix_v6 is_anchor name status"
    empty: dict[str, Any] = dict.fromkeys(names.split())
    kinds = {
        "probe_id": pa.int64(),
        "latitude": pa.float64(),
        "longitude": pa.float64(),
        "asn_v4": pa.int64(),
        "asn_v6": pa.int64(),
        "is_anchor": pa.bool_(),
        "synthetic": pa.bool_(),
    }
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in ("probe_id", *empty, "synthetic")])
    return pa.Table.from_pylist([empty | {"synthetic": False} | row for row in rows], schema)


BEIRUT = {"probe_id": 1, "latitude": 33.9, "longitude": 35.5, "asn_v4": 64500, "country": "LB"}
ANCHOR = {
    "probe_id": 2,
    "latitude": 52.4,
    "longitude": 4.9,
    "asn_v4": 64501,
    "asn_v6": 64502,
    "country": "NL",
    "address_v4": "192.0.2.1",
    "address_v6": "2001:db8::1",
    "is_anchor": True,
}


@pytest.fixture(params=list(STORES))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GraphStore]:
    with open_store(request.param, tmp_path, create=True) as opened:
        yield opened


def everything(store: GraphStore) -> list[pa.Table]:
    """All that a store holds."""
    return [
        *(store.nodes(node_type) for node_type in NODE_TYPES),
        *(store.edges(edge_type) for edge_type in EDGE_TYPES),
        store.pairs(Selection()),
        store.states(Selection()),
        store.scores(Selection(), ("voip", "web")),
    ]


def fill(store: GraphStore) -> None:
    add_probes(store, probes(BEIRUT, ANCHOR), said("probes"))
    store.put_states(states(state(), state(target="2001:db8::1", af=6)), said("ping"))
    store.put_scores(scores(score()))
    store.upsert_edges(NEXT_HOP, hop("192.0.2.9", "192.0.2.1", 3, T0, T0 + H3), said("traceroute"))


def hop(source: str, target: str, traceroutes: int, first: datetime, last: datetime) -> pa.Table:
    row = {"source": source, "target": target, "traceroutes": traceroutes}
    table = pa.Table.from_pylist([row])
    return table.append_column("first_seen", pa.array([first], TIME)).append_column(
        "last_seen", pa.array([last], TIME)
    )


def test_an_empty_graph_answers_with_empty_tables(store: GraphStore) -> None:
    assert [table.num_rows for table in everything(store)] == [0] * len(everything(store))
    assert set(store.counts().values()) == {0}


def test_writing_everything_twice_changes_nothing(store: GraphStore) -> None:
    fill(store)
    once, counts = everything(store), store.counts()
    fill(store)
    assert everything(store) == once
    assert store.counts() == counts


def test_a_written_state_is_read_back_equal_and_nothing_is_made_up(store: GraphStore) -> None:
    written = states(state(), state(window_start=T0 + H3, window_end=T0 + 2 * H3, received=0, loss_ratio=1.0))
    store.put_states(written, said("ping"))
    assert store.states(Selection()).select(written.column_names) == written


def test_a_state_written_again_is_replaced_and_its_score_goes_until_it_is_scored_again(
    store: GraphStore,
) -> None:
    fill(store)
    store.put_states(states(state(rtt_median_ms=99.0)), said("ping"))
    assert store.states(Selection(af=4))["rtt_median_ms"].to_pylist() == [99.0]
    assert store.scores(Selection(), ("voip",)).num_rows == 0


def test_a_state_written_again_unchanged_keeps_its_score(store: GraphStore) -> None:
    fill(store)
    store.put_states(states(state()), said("ping, read again"))
    assert store.scores(Selection(), ("voip",))["score"].to_pylist() == [80.0]


def test_windows_of_two_lengths_live_side_by_side(store: GraphStore) -> None:
    store.put_states(states(state(), state(window_end=T0 + timedelta(hours=1))), said("ping"))
    assert store.states(Selection()).num_rows == 2
    assert store.states(Selection(window_s=3600)).num_rows == 1


def test_a_window_is_half_open(store: GraphStore) -> None:
    store.put_states(states(state()), said("ping"))
    assert store.states(Selection(at=T0)).num_rows == 1
    assert store.states(Selection(at=T0 + H3)).num_rows == 0
    assert store.states(Selection(start=T0, end=T0)).num_rows == 0
    assert store.states(Selection(start=T0, end=T0 + timedelta(seconds=1))).num_rows == 1


def test_every_filter_keeps_what_it_names_and_nothing_else(store: GraphStore) -> None:
    add_probes(store, probes(BEIRUT, ANCHOR), said("probes"))
    from_beirut = state()
    from_anchor = state(probe_id=2, target="198.51.100.7")
    v6 = state(target="2001:db8::1", af=6)
    store.put_states(states(from_beirut, from_anchor, v6), said("ping"))

    def found(selection: Selection) -> set[tuple[int, str]]:
        table, pairs = store.states(selection), store.pairs(selection)
        keys = {(row["probe_id"], row["target"]) for row in table.to_pylist()}
        assert keys == {(row["probe_id"], row["target"]) for row in pairs.to_pylist()}
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
    add_probes(store, probes(BEIRUT, ANCHOR), said("probes"))
    store.put_states(states(state(), state(probe_id=3, target="198.51.100.7")), said("ping"))
    known, unknown = store.pairs(Selection()).to_pylist()
    assert (known["probe_country"], known["target_country"], known["target_probe_id"]) == ("LB", "NL", 2)
    assert (known["probe_latitude"], known["target_longitude"], known["target_asn"]) == (33.9, 4.9, 64501)
    assert {value for name, value in unknown.items() if name not in ("probe_id", "target", "af")} == {None}


def test_null_never_erases_what_is_known(store: GraphStore) -> None:
    add_probes(store, probes(ANCHOR), said("probes"))
    before = everything(store)
    add_probes(store, probes({"probe_id": 2}), said("a list of ids"))
    assert everything(store) == before


def test_a_probe_that_moved_has_one_place_and_the_word_of_who_said_so(store: GraphStore) -> None:
    add_probes(store, probes(BEIRUT), said("first"))
    add_probes(store, probes(BEIRUT | {"latitude": 34.4, "country": "SY", "asn_v4": 64509}), said("second"))
    for edge_type in (LOCATED_IN_POINT, IN_COUNTRY, LOCATED_IN_AS):
        edges = store.edges(edge_type)
        assert edges.num_rows == 1
        assert edges["reference_name"].to_pylist() == ["second"]


def test_every_edge_says_who_said_it_and_whether_it_is_synthetic(store: GraphStore) -> None:
    fill(store)
    assert not store.holds_synthetic()
    store.upsert_edges(NEXT_HOP, hop("198.18.0.1", "198.18.0.2", 1, T0, T0), said("testbed", synthetic=True))
    assert store.holds_synthetic()
    for edge_type in EDGE_TYPES:
        edges = store.edges(edge_type)
        assert edges["reference_name"].null_count == edges["synthetic"].null_count == 0
    by_source = {row["source"]: row["synthetic"] for row in store.edges(NEXT_HOP).to_pylist()}
    assert by_source == {"192.0.2.9": False, "198.18.0.1": True}


@given(facts=st.permutations([(3, 0, 2), (5, 1, 9), (4, 4, 5)]))
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_order_in_which_hops_are_seen_does_not_matter(
    store: GraphStore, facts: list[tuple[int, int, int]]
) -> None:
    for traceroutes, first, last in facts:
        span = (T0 + timedelta(days=first), T0 + timedelta(days=last))
        store.upsert_edges(NEXT_HOP, hop("192.0.2.9", "192.0.2.1", traceroutes, *span), said("traceroute"))
    (edge,) = store.edges(NEXT_HOP).to_pylist()
    assert (edge["traceroutes"], edge["first_seen"], edge["last_seen"]) == (5, T0, T0 + timedelta(days=9))


hostile = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
    st.sampled_from(
        ["'; DROP TABLE pair; --", '"', "\n", "}) DETACH DELETE n //", "?", "%", "NULL", "', 1); --", " "]
    ),
)


@given(name=hostile)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_hostile_name_stays_a_name(store: GraphStore, name: str) -> None:
    edges = pa.table({"source": pa.array([1], pa.int64()), "target": pa.array([name], pa.string())})
    store.upsert_edges(TARGET_HOST_NAME, edges, said(name))
    assert name in store.nodes(HOST_NAME)["name"].to_pylist()
    assert {"source": 1, "target": name} in store.edges(TARGET_HOST_NAME).select(
        ["source", "target"]
    ).to_pylist()
    store.states(Selection(targets=(name,), countries=(name,)))


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


def test_arrays_hold_every_state_once_and_the_unmeasured_as_unknown(store: GraphStore) -> None:
    fill(store)
    later = state(
        window_start=T0 + 3 * H3, window_end=T0 + 4 * H3, received=0, rtt_median_ms=None, loss_ratio=1.0
    )
    store.put_states(states(later), said("ping"))
    arrays = path_arrays(store, Selection())
    assert (arrays.windows, arrays.pairs, arrays.window_s) == (4, 2, 10800)
    v4 = arrays.af.tolist().index(4)
    assert arrays.sent[:, v4].tolist() == [3, 0, 0, 3]
    assert arrays.rtt_ms[0, v4] == 11.0
    assert (arrays.rtt_ms[1:, v4] != arrays.rtt_ms[1:, v4]).all()  # NaN
    assert arrays.loss_ratio[3, v4] == 1.0
    assert arrays.target_end.host.tolist() == [2, 2]  # the anchor's two addresses are one host
    assert arrays.probe_end.country.tolist() == ["LB", "LB"]


def test_arrays_for_a_forecast_know_only_hops_seen_before(store: GraphStore) -> None:
    fill(store)
    known = path_arrays(store, Selection(af=4)).target_end.centrality
    hidden = path_arrays(store, Selection(af=4), topology_before=T0).target_end.centrality
    assert known[0, 0] == 1.0
    assert hidden[0, 0] != hidden[0, 0]  # NaN


def test_what_is_written_is_there_after_opening_again(tmp_path: Path) -> None:
    for name in STORES:
        home = tmp_path / name
        with open_store(name, home, create=True) as store:
            fill(store)
            written = everything(store)
        with open_store(name, home, create=False) as store:
            assert everything(store) == written


def test_a_reader_sees_the_graph_while_another_writes(tmp_path: Path) -> None:
    for name in STORES:
        home = tmp_path / name
        with open_store(name, home, create=True) as writer, open_store(name, home, create=False) as reader:
            fill(writer)
            assert everything(reader) == everything(writer)


def test_a_transaction_that_fails_leaves_nothing_of_itself_behind(store: GraphStore) -> None:
    fill(store)
    before = everything(store)

    def half() -> None:
        with store.transaction():
            store.put_states(states(state(rtt_median_ms=99.0)), said("ping"))
            add_probes(store, probes({"probe_id": 77}), said("probes"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert everything(store) == before


def test_a_reader_sees_all_of_a_transaction_or_nothing(tmp_path: Path) -> None:
    for name in STORES:
        home = tmp_path / name
        with open_store(name, home, create=True) as writer, open_store(name, home, create=False) as reader:
            fill(writer)
            before = everything(reader)
            with writer.transaction():
                writer.put_states(states(state(rtt_median_ms=99.0)), said("ping"))
                assert everything(reader) == before
                writer.put_scores(scores(score(score=1.0)))
                assert everything(reader) == before
            assert reader.scores(Selection(af=4), ("voip",))["score"].to_pylist() == [1.0]


def test_many_may_open_a_new_graph_at_once(tmp_path: Path) -> None:
    def opened(number: int) -> dict[str, int]:
        with open_store("sqlite", tmp_path / str(number // 4), create=True) as store:
            return store.counts()

    with ThreadPoolExecutor(4) as pool:
        assert all(set(counts.values()) == {0} for counts in pool.map(opened, range(40)))


def test_an_error_that_is_not_the_store_s_passes_through_a_transaction_unchanged(store: GraphStore) -> None:
    def broken() -> None:
        with store.transaction():
            raise BrokenPipeError("stderr")

    with pytest.raises(BrokenPipeError):
        broken()


def test_a_refused_write_leaves_nothing_behind(store: GraphStore) -> None:
    broken = states(state(), state(probe_id=5)).set_column(0, "probe_id", pa.array([1, None], pa.int64()))
    before = everything(store)
    with pytest.raises(Exception, match="cannot write the graph"):
        store.put_states(broken, said("ping"))
    assert everything(store) == before


def test_a_span_of_years_with_nothing_in_it_is_refused_and_does_not_fill_memory(store: GraphStore) -> None:
    short = timedelta(seconds=1)
    rows = [
        state(window_start=start, window_end=start + short)
        for start in (datetime(2012, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC))
    ]
    store.put_states(states(*rows), said("ping"))
    with pytest.raises(DataError, match="--from and --to"):
        path_arrays(store, Selection())
