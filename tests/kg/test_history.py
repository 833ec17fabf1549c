"""What changed between two times: appeared, vanished, changed."""

from __future__ import annotations

import pytest

from kg.history import Change, Differences, counts_at, differences
from kg.schema import IN_COUNTRY, PATH_PREDICTION, PATH_SCORE, PATH_STATE
from kg.store import GraphStore
from tests.contract.memory_store import MemoryStore, Tables
from tests.contract.test_stores import H3, T0, edges, facts, fill, link, moved, prediction, said, score, state

LATER = {"window_start": T0 + H3, "window_end": T0 + 2 * H3}


@pytest.fixture
def store() -> GraphStore:
    """A graph in which a probe has moved, and in which a second window was measured, otherwise than the first."""
    store = MemoryStore(Tables())
    fill(store)
    moved(store)
    rows = [state(**LATER, rtt_median_ms=31.0), state(**LATER, probe_id=2)]
    store.put_facts(PATH_STATE, facts(PATH_STATE, *rows), said("ping"))
    store.put_facts(PATH_SCORE, facts(PATH_SCORE, score(**LATER, score=55.0)), said("scores"))
    return store


def of(found: Differences, kind: str) -> list[tuple[Change, str, str | None, object, object]]:
    return [
        (row.change, row.subject, row.property, row.before, row.after)
        for row in found.rows
        if row.type == kind
    ]


def test_a_graph_compared_with_itself_has_no_difference(store: GraphStore) -> None:
    found = differences(store, T0 + H3, T0 + H3, most=10)
    assert (found.rows, found.counts) == ([], {})


def test_an_owner_whose_other_end_is_another_has_changed(store: GraphStore) -> None:
    found = differences(store, T0 - H3, T0, most=10)
    assert of(found, "AtlasProbe COUNTRY Country") == [(Change.CHANGED, "AtlasProbe 1", None, "LB", "SY")]


def test_a_hop_that_is_seen_later_has_appeared_and_the_other_way_round_it_has_vanished(
    store: GraphStore,
) -> None:
    hop = "192.0.2.9 -> 192.0.2.1"
    there = differences(store, T0 - H3, T0, most=10)
    back = differences(store, T0, T0 - H3, most=10)
    assert of(there, "IP NEXT_HOP IP") == [(Change.APPEARED, hop, None, None, "seen")]
    assert of(back, "IP NEXT_HOP IP") == [(Change.VANISHED, hop, None, "seen", None)]


def test_paths_measured_in_one_of_two_windows_appear_or_vanish_and_those_in_both_change(
    store: GraphStore,
) -> None:
    found = differences(store, T0, T0 + H3, most=10)
    assert of(found, "PathState") == [
        (Change.APPEARED, "2 192.0.2.1 4", None, None, 11.0),
        (Change.VANISHED, "1 2001:db8::1 6", None, 11.0, None),
        (Change.CHANGED, "1 192.0.2.1 4", "rtt_median_ms", 11.0, 31.0),
    ]
    assert of(found, "PathScore") == [(Change.CHANGED, "1 192.0.2.1 4 voip", "score", 80.0, 55.0)]


def test_the_largest_changes_come_first_and_those_left_out_are_counted(store: GraphStore) -> None:
    targets = [f"198.51.100.{n}" for n in range(5)]
    rows = [state(target=target) for target in targets]
    rows += [state(**LATER, target=target, rtt_median_ms=11.0 + n) for n, target in enumerate(targets)]
    rows += [state(target="203.0.113.1"), state(**LATER, target="203.0.113.1", rtt_median_ms=None)]
    store.put_facts(PATH_STATE, facts(PATH_STATE, *rows), said("ping"))
    found = differences(store, T0, T0 + H3, most=3)
    changed = [row for row in of(found, "PathState") if row[0] is Change.CHANGED]
    assert [row[1] for row in changed] == ["1 203.0.113.1 4", "1 192.0.2.1 4", "1 198.51.100.4 4"]
    assert found.counts[("PathState", Change.CHANGED)] == 6


def test_windows_of_different_lengths_are_not_compared(store: GraphStore) -> None:
    hour = state(**LATER | {"window_end": T0 + H3 + H3 / 3}, target="2001:db8::1", af=6)
    store.put_facts(PATH_STATE, facts(PATH_STATE, hour), said("ping"))
    found = of(differences(store, T0, T0 + H3, most=10), "PathState")
    assert (Change.APPEARED, "1 2001:db8::1 6", None, None, 11.0) in found
    assert (Change.VANISHED, "1 2001:db8::1 6", None, 11.0, None) in found


def test_counts_at_a_time_are_of_what_held_then(store: GraphStore) -> None:
    store.upsert_edges(IN_COUNTRY, edges(IN_COUNTRY, link(9, "FR", valid_from=T0 + H3)), said("probes"))
    before, then = counts_at(store, T0 - H3), counts_at(store, T0)
    assert (before["AtlasProbe COUNTRY Country"], then["AtlasProbe COUNTRY Country"]) == (2, 2)
    assert counts_at(store, T0 + H3)["AtlasProbe COUNTRY Country"] == 3
    assert (before["IP NEXT_HOP IP"], then["IP NEXT_HOP IP"]) == (0, 1)
    assert (before["PathState"], then["PathState"]) == (0, 2)


def test_what_was_predicted_is_not_compared(store: GraphStore) -> None:
    before = differences(store, T0, T0 + H3, most=10)
    rows = [prediction(rtt_ms=99.0), prediction(**LATER), prediction(**LATER, probe_id=2)]
    store.put_facts(PATH_PREDICTION, facts(PATH_PREDICTION, *rows), said("a model"))
    assert differences(store, T0, T0 + H3, most=10) == before
