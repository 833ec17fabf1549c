"""Who hears whom."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.place import distance_km
from gnn.inputs import NOBODY
from gnn.neighbours import RELATIONS, chord_km, heard_by, on_sphere
from tests.gnn.conftest import synthetic_arrays

ARRAYS = synthetic_arrays(windows=2)
MANY = synthetic_arrays(probes=40, targets=10, windows=2)
EVERYONE = np.ones(ARRAYS.pairs, dtype=bool)
SHARED = {
    "probe": ARRAYS.probe_end.host,
    "target": ARRAYS.target_end.host,
    "probe_as": ARRAYS.probe_end.asn,
    "target_as": ARRAYS.target_end.asn,
    "probe_country": ARRAYS.probe_end.country,
    "target_country": ARRAYS.target_end.country,
}
UNKNOWN = {"probe_as": 0, "target_as": 0, "probe_country": "", "target_country": ""}


def heard(arrays, *, k=3, near_km=500.0, speaking=None, hearing=None, **more):
    every = np.ones(arrays.pairs, dtype=bool)
    return heard_by(
        arrays,
        every if speaking is None else speaking,
        every if hearing is None else hearing,
        neighbours=k,
        near_km=near_km,
        **more,
    )


def edges(table):
    hearer, place = np.nonzero(table != NOBODY)
    return table[hearer, place], hearer


def apart_km(arrays, one, other, side):
    end = getattr(arrays, side)
    return distance_km(end.latitude[one], end.longitude[one], end.latitude[other], end.longitude[other])


def test_places_on_the_sphere_are_as_far_apart_as_on_the_map():
    place = on_sphere(MANY.probe_end)
    for one, other in ((0, 10), (30, 250), (5, 5)):
        assert chord_km(place[one], place[other]) == pytest.approx(
            apart_km(MANY, one, other, "probe_end"), abs=1e-3
        )
    assert np.isnan(on_sphere(ARRAYS.target_end)[np.isnan(ARRAYS.target_end.latitude)]).all()


def test_edges_join_only_pairs_that_share_what_the_type_says():
    found = heard(ARRAYS)
    assert tuple(found) == RELATIONS
    for relation, what in SHARED.items():
        one, hearer = edges(found[relation])
        assert len(one) > 0
        assert (what[one] == what[hearer]).all()


def test_near_pairs_are_near_at_both_ends():
    one, hearer = edges(heard(MANY, k=4)["near"])
    assert len(one) > 0
    for pair, other in zip(one, hearer, strict=True):
        apart = [apart_km(MANY, pair, other, side) for side in ("probe_end", "target_end")]
        assert np.hypot(*apart) <= 500.0 * 1.001


@given(
    st.integers(1, 60),
    st.integers(0, 2**16),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from([0.3, 1.0]),
)
@settings(max_examples=25, deadline=None)
def test_at_most_k_others_are_heard_nobody_twice_and_only_who_speaks_by_who_hears(k, seed, speak, hear):
    generator = np.random.default_rng(seed)
    speaking, hearing = generator.random(ARRAYS.pairs) < speak, generator.random(ARRAYS.pairs) < hear
    for relation, table in heard(ARRAYS, k=k, speaking=speaking, hearing=hearing).items():
        assert table.shape == (ARRAYS.pairs, k)
        one, hearer = edges(table)
        assert speaking[one].all()
        assert hearing[hearer].all()
        assert (one != hearer).all()
        assert len(np.unique(one * ARRAYS.pairs + hearer)) == len(one)
        there = table != NOBODY
        assert (there[:, :-1] >= there[:, 1:]).all()  # who is missing comes last
        if relation in SHARED:  # nobody is left out while there is room
            what = SHARED[relation]
            for pair in np.flatnonzero(hearing):
                group = speaking & (what == what[pair])
                group[pair] = False
                known = relation not in UNKNOWN or what[pair] != UNKNOWN[relation]
                assert there[pair].sum() == (min(k, group.sum()) if known else 0)


def test_the_neighbours_kept_are_the_nearest_at_the_other_end_and_unknown_places_come_last():
    end = ARRAYS.target_end
    table = heard(ARRAYS, k=5)["probe"]
    for pair in np.flatnonzero(np.isfinite(end.latitude)):
        others = np.flatnonzero((ARRAYS.probe_end.host == ARRAYS.probe_end.host[pair]) & EVERYONE)
        apart = {
            other: apart_km(ARRAYS, pair, other, "target_end") if np.isfinite(end.latitude[other]) else 1e9
            for other in others
            if other != pair
        }
        assert table[pair].tolist() == sorted(apart, key=apart.__getitem__)


def test_what_is_unknown_makes_no_edge():
    found = heard(ARRAYS, k=5)
    unplaced = np.flatnonzero(np.isnan(ARRAYS.target_end.latitude))
    assert len(unplaced) > 0
    for relation, unknown in UNKNOWN.items():
        nowhere = np.flatnonzero(SHARED[relation] == unknown)
        one, hearer = edges(found[relation])
        assert not np.isin(np.concatenate([one, hearer]), nowhere).any()
    one, hearer = edges(found["near"])
    assert not np.isin(np.concatenate([one, hearer]), unplaced).any()


def test_edges_grow_with_pairs_and_not_with_pairs_of_pairs():
    counts = []
    for probes in (20, 40, 80):
        arrays = synthetic_arrays(probes=probes, targets=10, windows=1)
        counts.append(
            sum(int((table != NOBODY).sum()) for table in heard(arrays, k=4).values()) / arrays.pairs
        )
    assert max(counts) <= 4 * len(RELATIONS)
    assert counts[2] < 1.2 * counts[1]


def test_measured_values_are_not_looked_at():
    other = replace(ARRAYS, rtt_ms=ARRAYS.rtt_ms[:, ::-1] * 3.0, sent=ARRAYS.sent[::-1])
    for relation, table in heard(ARRAYS).items():
        np.testing.assert_array_equal(table, heard(other)[relation])


def test_only_the_types_that_are_wanted_are_made_and_are_as_when_all_are():
    some = heard(ARRAYS, relations=("near", "target_as"))
    assert tuple(some) == ("target_as", "near")
    for relation, table in some.items():
        np.testing.assert_array_equal(table, heard(ARRAYS)[relation])
