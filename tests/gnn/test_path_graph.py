from __future__ import annotations

from dataclasses import replace
from string import ascii_uppercase

import numpy as np
import pytest

from domain.place import distance_km
from gnn.path_graph import RELATIONS, PathGraphConfig, categories, edges, path_graph
from gnn.protocols.forecast import Forecast

CONFIG = PathGraphConfig(neighbours=3)


def test_edges_join_only_pairs_that_share_what_the_type_says(arrays):
    everyone = np.ones(arrays.pairs, dtype=bool)
    found = edges(arrays, everyone, CONFIG)
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
    heard, hearer = edges(arrays, np.ones(arrays.pairs, dtype=bool), PathGraphConfig(neighbours=4))["near"]
    assert len(heard) > 0
    for one, other in zip(heard, hearer, strict=True):
        apart = [
            distance_km(end.latitude[one], end.longitude[one], end.latitude[other], end.longitude[other])
            for end in (arrays.probe_end, arrays.target_end)
        ]
        assert np.hypot(*apart) <= CONFIG.near_km * 1.001


@pytest.mark.parametrize("neighbours", [1, 3, 1000])
def test_no_type_gives_a_pair_more_than_k_neighbours(arrays, neighbours):
    found = edges(arrays, np.ones(arrays.pairs, dtype=bool), PathGraphConfig(neighbours=neighbours))
    for relation in RELATIONS:
        heard, hearer = found[relation]
        assert np.bincount(hearer, minlength=arrays.pairs).max() <= neighbours
        assert len(np.unique(np.stack([heard, hearer]), axis=1).T) == len(heard)


def test_a_group_smaller_than_k_is_joined_whole(arrays):
    heard, _ = edges(arrays, np.ones(arrays.pairs, dtype=bool), PathGraphConfig(neighbours=1000))["probe"]
    assert len(heard) == 8 * 6 * 5  # 8 probes of 6 pairs, each hears the 5 others


def test_the_neighbours_kept_are_the_nearest_at_the_other_end(arrays):
    heard, hearer = edges(arrays, np.ones(arrays.pairs, dtype=bool), PathGraphConfig(neighbours=1))["probe"]
    end = arrays.target_end
    pair = 1  # its target has a position
    kept = heard[hearer == pair][0]
    others = [p for p in range(6) if p != pair and np.isfinite(end.latitude[p])]
    assert kept == min(
        others,
        key=lambda p: distance_km(end.latitude[pair], end.longitude[pair], end.latitude[p], end.longitude[p]),
    )


def test_what_is_unknown_makes_no_edge(arrays):
    found = edges(arrays, np.ones(arrays.pairs, dtype=bool), PathGraphConfig(neighbours=5))
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


@pytest.fixture
def one_pair(make_arrays):
    """Three days of eight windows of one pair; only windows 1, 9, 12, 13, 15 and 16 are measured."""
    arrays = make_arrays(probes=1, targets=1, windows=24)
    rtt, jitter = np.full((24, 1), np.nan), np.full((24, 1), np.nan)
    sent, lost = np.zeros((24, 1), dtype=np.int64), np.zeros((24, 1), dtype=np.int64)
    rows = [16, 15, 13, 12, 9, 1]
    rtt[rows, 0] = [108.0, 112.0, 98.0, 100.0, 130.0, 140.0]
    jitter[rows, 0] = [3.0, 7.0, 1.0, 2.0, 9.0, 13.0]
    sent[rows, 0], lost[rows, 0] = 10, [2, 0, 0, 5, 0, 0]
    return replace(arrays, rtt_ms=rtt, jitter_ms=jitter, sent=sent, received=sent - lost)


def test_the_past_of_a_pair_is_what_a_pencil_says(one_pair):
    config = PathGraphConfig(history=5, lags=2, moves=2, rtt_unit_ms=60.0, jitter_unit_ms=5.0)
    inputs = path_graph(one_pair, Forecast().question(one_pair, np.array([17])), config)
    # The five latest windows are 16, 15, 14 (not measured), 13, 12; weights halve every two windows, or every eight.
    two, eight = (0.5 ** (np.array([0.0, 1.0, 3.0, 4.0]) / half_life) for half_life in (2.0, 8.0))

    def mean(weights, values):
        return float((weights * values).sum() / weights.sum())

    # Of RTT the latest value is the base, 108; the median is 104. Of jitter the base is the median, 2.5.
    rtt, jitter = np.array([108.0, 112.0, 98.0, 100.0]), np.array([3.0, 7.0, 1.0, 2.0])
    wanted = {
        "base_rtt_ms": 108.0,
        "log_base_rtt_ms": np.log(109.0),
        "log_rtt_spread_ms": np.log(1.0 + 5.0),  # of 4, 8, 6, 4
        "base_jitter_ms": 2.5,
        "log_base_jitter_ms": np.log(3.5),
        "log_jitter_spread_ms": np.log(1.0 + 1.0),  # of 0.5, 4.5, 1.5, 0.5
    }
    moved = {
        "rtt_lag_1": 0.0,
        "rtt_lag_2": 4.0,
        "rtt_same_slot_last_day": 22.0,
        "rtt_same_slot_median": 27.0,
        "rtt_median_recent": 2.0,
        "rtt_median": -4.0,
        "rtt_least": -10.0,
        "rtt_most": 4.0,
        "rtt_mean_half_life_2": mean(two, rtt) - 108.0,
        "rtt_mean_half_life_8": mean(eight, rtt) - 108.0,
        "rtt_lag_1_move": 4.0,
        "rtt_lag_2_move": 8.0,
        "jitter_lag_1": 0.5,
        "jitter_lag_2": 4.5,
        "jitter_same_slot_last_day": 6.5,
        "jitter_same_slot_median": 8.5,
        "jitter_median_recent": 2.5,
        "jitter_median": 0.0,
        "jitter_least": -1.5,
        "jitter_most": 4.5,
        "jitter_mean_half_life_2": mean(two, jitter) - 2.5,
        "jitter_mean_half_life_8": mean(eight, jitter) - 2.5,
        "jitter_lag_1_move": 0.5,
        "jitter_lag_2_move": 4.5,
    }
    wanted |= {name: np.arcsinh(by / (60.0 if name.startswith("rtt") else 5.0)) for name, by in moved.items()}
    wanted |= {
        "loss_lag_1": 0.2,
        "loss_lag_2": 0.0,
        "any_loss_lag_1": 1.0,
        "any_loss_lag_2": 0.0,
        "loss_mean_half_life_2": mean(two, np.array([0.2, 0.0, 0.0, 0.5])),
        "loss_mean_half_life_8": mean(eight, np.array([0.2, 0.0, 0.0, 0.5])),
        "any_loss_mean_half_life_2": mean(two, np.array([1.0, 0.0, 0.0, 1.0])),
        "any_loss_mean_half_life_8": mean(eight, np.array([1.0, 0.0, 0.0, 1.0])),
        "any_loss_frequency": 2.5 / 7.0,
        "log_windows_since_answer": 0.0,
        "log_windows_seen": np.log(7.0),
    }
    found = {name: inputs.column(name)[0, 0] for name in wanted}
    assert found == pytest.approx(wanted, abs=1e-12)
    past = [
        name
        for name in inputs.columns
        if name.startswith(("rtt", "jitter", "loss", "any_loss", "log_w", "base"))
    ]
    assert set(past) <= wanted.keys()  # a new column wants a number here


def test_windows_since_the_last_answer_are_counted(one_pair):
    asked = Forecast().question(one_pair, np.array([12, 15, 20]))
    waited = path_graph(one_pair, asked, CONFIG).column("log_windows_since_answer")[:, 0]
    np.testing.assert_allclose(waited, np.log([1.0 + 2.0, 1.0 + 1.0, 1.0 + 3.0]))
