from __future__ import annotations

from dataclasses import replace
from string import ascii_uppercase

import numpy as np
import pytest

from domain.place import distance_km
from gnn.path_graph import NEAR_KM, RELATIONS, PathGraphConfig, categories, edges, path_graph
from gnn.protocols.forecast import Forecast

CONFIG = PathGraphConfig(neighbours=3)


def test_edges_join_only_pairs_that_share_what_the_type_says(arrays):
    everyone = np.ones(arrays.pairs, dtype=bool)
    found = edges(arrays, everyone, 3)
    assert tuple(found) == RELATIONS
    shared = {
        "probe": arrays.probe_end.host,
        "target": arrays.target_end.host,
        "probe_as": arrays.probe_end.asn,
        "target_as": arrays.target_end.asn,
        "probe_country": arrays.probe_end.country,
        "target_country": arrays.target_end.country,
    }
    for relation, what in shared.items():
        heard, hearer = found[relation]
        assert len(heard) > 0
        assert (what[heard] == what[hearer]).all()
        assert (heard != hearer).all()


def test_near_pairs_are_near_at_both_ends(make_arrays):
    arrays = make_arrays(probes=40, targets=10)
    heard, hearer = edges(arrays, np.ones(arrays.pairs, dtype=bool), 4)["near"]
    assert len(heard) > 0
    for one, other in zip(heard, hearer, strict=True):
        apart = [
            distance_km(end.latitude[one], end.longitude[one], end.latitude[other], end.longitude[other])
            for end in (arrays.probe_end, arrays.target_end)
        ]
        assert np.hypot(*apart) <= NEAR_KM * 1.001


@pytest.mark.parametrize("neighbours", [1, 3, 1000])
def test_no_type_gives_a_pair_more_than_k_neighbours(arrays, neighbours):
    found = edges(arrays, np.ones(arrays.pairs, dtype=bool), neighbours)
    for relation in RELATIONS:
        heard, hearer = found[relation]
        assert np.bincount(hearer, minlength=arrays.pairs).max() <= neighbours
        assert len(np.unique(np.stack([heard, hearer]), axis=1).T) == len(heard)


def test_a_group_smaller_than_k_is_joined_whole(arrays):
    heard, _ = edges(arrays, np.ones(arrays.pairs, dtype=bool), 1000)["probe"]
    assert len(heard) == 8 * 6 * 5  # 8 probes of 6 pairs, each hears the 5 others


def test_the_neighbours_kept_are_the_nearest_at_the_other_end(arrays):
    heard, hearer = edges(arrays, np.ones(arrays.pairs, dtype=bool), 1)["probe"]
    end = arrays.target_end
    pair = 1  # its target has a position
    kept = heard[hearer == pair][0]
    others = [p for p in range(6) if p != pair and np.isfinite(end.latitude[p])]
    assert kept == min(
        others,
        key=lambda p: distance_km(end.latitude[pair], end.longitude[pair], end.latitude[p], end.longitude[p]),
    )


def test_what_is_unknown_makes_no_edge(arrays):
    found = edges(arrays, np.ones(arrays.pairs, dtype=bool), 5)
    nowhere = np.flatnonzero(arrays.target_end.asn == 0)
    assert len(nowhere) > 0
    for relation in ("target_as", "near"):
        assert not np.isin(found[relation], nowhere).any()
    stateless = np.flatnonzero(arrays.probe_end.country == "")
    assert not np.isin(found["probe_country"], stateless).any()


def test_edges_do_not_depend_on_measured_values(arrays):
    question = Forecast().question(arrays, np.array([30]))
    before = path_graph(arrays, question, CONFIG).graphs[0]
    after = path_graph(replace(arrays, rtt_ms=arrays.rtt_ms[:, ::-1]), question, CONFIG).graphs[0]
    for relation in RELATIONS:
        np.testing.assert_array_equal(before[relation], after[relation])


def test_windows_asked_together_look_as_when_asked_alone(arrays):
    together = Forecast().question(arrays, np.arange(10, 20))
    many = path_graph(arrays, together, CONFIG)
    for row in (0, 4, 9):
        one = path_graph(arrays, together.part(slice(row, row + 1)), CONFIG)
        np.testing.assert_array_equal(many.numbers[row], one.numbers[0])
        graph = many.graphs[int(many.graph_of[row])]
        for relation in RELATIONS:
            np.testing.assert_array_equal(graph[relation], one.graphs[0][relation])


def test_unknown_inputs_are_nan_and_never_a_number(arrays):
    inputs = path_graph(arrays, Forecast().question(arrays, np.array([1])), CONFIG)
    unplaced = np.isnan(arrays.target_end.latitude)
    assert np.isnan(inputs.column("distance_megametres")[0, unplaced]).all()
    assert np.isnan(inputs.column("rtt_lag_2")).all()  # there is one window only
    assert np.isnan(inputs.column("rtt_same_slot_last_day")).all()


def test_hour_and_weekday_are_those_of_the_asked_window(arrays):
    inputs = path_graph(arrays, Forecast(horizon=3).question(arrays, np.array([8])), CONFIG)  # Monday 00:00
    assert inputs.column("hour_cos")[0, 0] == pytest.approx(1.0)
    assert inputs.column("weekday_sin")[0, 0] == pytest.approx(
        np.sin(2 * np.pi * 4 / 7)
    )  # epoch day 0: Thursday


def test_a_known_as_or_country_is_never_in_the_bucket_of_the_unknown(arrays):
    categories = path_graph(arrays, Forecast().question(arrays, np.array([1])), CONFIG).categories
    assert ((categories["target_as"] == 0) == (arrays.target_end.asn == 0)).all()
    assert ((categories["probe_country"] == 0) == (arrays.probe_end.country == "")).all()


def test_countries_and_as_numbers_spread_over_the_buckets(make_arrays):
    codes = np.array([one + other for one in ascii_uppercase for other in ascii_uppercase], dtype=object)
    arrays = make_arrays(probes=len(codes), targets=1, windows=2)
    asn = np.arange(3000, 3000 + len(codes))
    spread = replace(arrays, probe_end=replace(arrays.probe_end, country=codes, asn=asn))
    buckets = 256
    found = categories(spread, buckets)
    for name in ("probe_country", "probe_as"):
        share = np.bincount(found[name], minlength=buckets + 1)
        assert share[0] == 0
        assert (share[1:] > 0).mean() > 0.85  # 676 thrown at random would fill 93 %
        assert share.max() <= 8
    country = dict(zip(codes, found["probe_country"], strict=True))
    assert len({country[code] for code in ("LB", "GB", "BB")}) == 3
