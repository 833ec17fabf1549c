from __future__ import annotations

from dataclasses import replace
from string import ascii_uppercase

import numpy as np
import pytest

from domain.errors import DataError
from gnn.inputs import NOBODY
from gnn.mates import EDGE_COLUMNS
from gnn.neighbours import RELATIONS
from gnn.path_graph import AROUND, MATES, PathGraphConfig, categories, path_graph
from gnn.protocols.forecast import Forecast
from gnn.protocols.imputation import Imputation
from gnn.protocols.unseen_pair import UnseenPair
from tests.gnn.anchor_mesh import anchor_mesh

CONFIG = PathGraphConfig(neighbours=3)
MESH = UnseenPair().view(anchor_mesh(anchors=12, probes=0, windows=3))


def half_hidden(arrays, window, seed=0):
    hidden = np.random.default_rng(seed).random((1, arrays.pairs)) < 0.5
    return Imputation().question(arrays, np.array([window]), hidden)


def test_edges_do_not_depend_on_measured_values(arrays):
    question = Forecast().question(arrays, np.array([30]))
    before = path_graph(arrays, question, CONFIG).graphs[0]
    after = path_graph(replace(arrays, rtt_ms=arrays.rtt_ms[:, ::-1]), question, CONFIG).graphs[0]
    for relation in RELATIONS:
        np.testing.assert_array_equal(before[relation], after[relation])


def test_windows_asked_together_look_as_when_asked_alone(arrays):
    together = Forecast().question(arrays, np.arange(10, 20), np.arange(1, 11))
    many = path_graph(arrays, together, CONFIG)
    for row in (0, 4, 9):
        one = path_graph(arrays, together.part(slice(row, row + 1)), CONFIG)
        np.testing.assert_allclose(many.numbers[row], one.numbers[0], rtol=1e-5, atol=1e-6)
        graph = many.graphs[int(many.graph_of[row])]
        for relation in RELATIONS:
            np.testing.assert_array_equal(graph[relation], one.graphs[0][relation])
        for side in MATES:
            np.testing.assert_allclose(
                many.edge_numbers[side][row], one.edge_numbers[side][0], rtol=1e-4, atol=1e-4
            )
        lags = one.values["lag_ms"].shape[2]
        np.testing.assert_array_equal(many.values["lag_ms"][row, :, :lags], one.values["lag_ms"][0])
        assert np.isnan(many.values["lag_ms"][row, :, lags:]).all()
        np.testing.assert_array_equal(
            many.values["lag_age_days"][row, :, :lags], one.values["lag_age_days"][0]
        )


def test_a_pair_speaks_once_something_of_it_is_seen_now_or_before(arrays):
    rtt, sent = arrays.rtt_ms.copy(), arrays.sent.copy()
    rtt[:20, :3], sent[:20, :3] = np.nan, 0  # first measured in window 20
    changed = replace(arrays, rtt_ms=rtt, sent=sent, received=np.minimum(arrays.received, sent))
    seen = half_hidden(changed, 20).seen_now[0] & changed.measured[20]
    graph = path_graph(changed, half_hidden(changed, 20), PathGraphConfig(neighbours=50)).graphs[0]
    heard = np.unique(np.concatenate([table.ravel() for table in graph.values()]))
    first = np.arange(3)
    assert set(first[np.isin(first, heard)]) == set(first[seen[:3]])
    assert 0 < seen[:3].sum() < 3
    assert np.isin(np.arange(3, arrays.pairs), heard).all()


def test_an_age_is_how_long_before_the_asked_window_a_window_began(arrays):
    inputs = path_graph(arrays, Forecast().question(arrays, np.array([9]), 3), CONFIG)
    lag, age = inputs.values["lag_ms"][0], inputs.values["lag_age_days"][0]
    for number in range(lag.shape[1]):
        np.testing.assert_array_equal(lag[:, number], arrays.rtt_ms[6 - number])
        np.testing.assert_allclose(age[:, number], (9 - (6 - number)) * arrays.window_s / 86400.0)


def test_what_is_seen_of_the_window_itself_is_of_pairs_that_are_not_asked(arrays):
    question = half_hidden(arrays, 30)
    inputs = path_graph(arrays, question, CONFIG)
    asked = question.asked[0]
    np.testing.assert_allclose(
        inputs.column("now_log_rtt_ms")[0, ~asked], np.log1p(arrays.rtt_ms[30, ~asked]), rtol=1e-6
    )
    for name in inputs.columns:
        if name.startswith("now_"):
            assert np.isnan(inputs.column(name)[0, asked]).all()
    assert np.isnan(inputs.values["now_ms"][0, asked]).all()


def test_around_is_the_mean_over_the_mates_of_what_is_seen_now(arrays):
    inputs = path_graph(arrays, half_hidden(arrays, 30), CONFIG)
    for side in MATES:
        table = inputs.graphs[0][side]
        for name in ("rtt_move", "jitter_move", "loss", "any_loss"):
            now, around = inputs.column(f"now_{name}")[0], inputs.column(f"{AROUND}{side}_{name}")[0]
            for pair, mates in enumerate(table):
                known = [now[mate] for mate in mates if mate != NOBODY and np.isfinite(now[mate])]
                wanted = np.mean(known) if known else np.nan
                np.testing.assert_allclose(around[pair], wanted, rtol=1e-5, atol=1e-6)


def test_the_base_of_a_pair_without_a_past_is_what_its_mates_tell_those_with_little_spread_first():
    split = UnseenPair().splits(MESH, seed=0)[0]
    question = split.test.part(slice(0, 1))
    inputs = path_graph(MESH, question, CONFIG)
    offset, spread = (EDGE_COLUMNS.index(name) for name in ("offset_ms", "spread_ms"))
    for pair in np.flatnonzero(question.asked[0]):
        told = []
        for side in MATES:
            for place, mate in enumerate(inputs.graphs[int(inputs.graph_of[0])][side][pair]):
                if mate != NOBODY:
                    edge = inputs.edge_numbers[side][0, pair, place]
                    told.append(
                        (inputs.values["now_ms"][0, mate] + edge[offset], 1.0 / (edge[spread] + 1.0) ** 2)
                    )
        total, running = sum(weight for _, weight in told), 0.0
        for value, weight in sorted(told):  # noqa: B007  the value is read below
            running += weight
            if running >= total / 2.0:
                break
        assert inputs.column("base_rtt_ms")[0, pair] == pytest.approx(value, rel=1e-5)


def test_what_is_hidden_of_a_pair_that_was_never_met_changes_nothing_of_its_inputs():
    split = UnseenPair().splits(MESH, seed=0)[0]
    question = split.test.part(slice(0, 1))
    before = path_graph(MESH, question, CONFIG)
    rtt = np.where(question.hidden(MESH, 0), 7.0 + 3.0 * MESH.rtt_ms, MESH.rtt_ms)
    after = path_graph(replace(MESH, rtt_ms=rtt), question, CONFIG)
    for one, other in zip(before.of_row(0), after.of_row(0), strict=True):
        assert one[:2] == other[:2]
        np.testing.assert_array_equal(one[2], other[2])


def test_more_single_windows_than_the_history_holds_are_refused():
    with pytest.raises(DataError, match="9 lags, 3 moves"):
        PathGraphConfig(history=8, lags=9)
    with pytest.raises(DataError, match="neighbours"):
        PathGraphConfig(neighbours=0)


def test_unknown_inputs_are_nan_and_never_a_number(arrays):
    inputs = path_graph(arrays, Forecast().question(arrays, np.array([1])), CONFIG)
    unplaced = np.isnan(arrays.target_end.latitude)
    assert np.isnan(inputs.column("distance_megametres")[0, unplaced]).all()
    assert np.isnan(inputs.column("rtt_lag_2")).all()  # there is one window only
    assert np.isnan(inputs.column("rtt_same_slot_last_day")).all()


def test_hour_and_weekday_are_those_of_the_asked_window(arrays):
    inputs = path_graph(arrays, Forecast().question(arrays, np.array([8]), 3), CONFIG)  # Monday 00:00
    assert inputs.column("hour_cos")[0, 0] == pytest.approx(1.0)
    # Day 0 of the epoch was a Thursday.
    assert inputs.column("weekday_sin")[0, 0] == pytest.approx(np.sin(2 * np.pi * 4 / 7), rel=1e-6)
    assert inputs.column("log_horizon")[0, 0] == pytest.approx(np.log(3.0))


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
        "log_horizon": 0.0,
    }
    found = {name: inputs.column(name)[0, 0] for name in wanted}
    assert found == pytest.approx(wanted, rel=1e-5, abs=1e-6)
    past = [
        name
        for name in inputs.columns
        if name.startswith(("rtt", "jitter", "loss", "any_loss", "log_w", "base"))
    ]
    assert set(past) <= wanted.keys()  # a new column wants a number here


def test_windows_since_the_last_answer_are_counted(one_pair):
    asked = Forecast().question(one_pair, np.array([12, 15, 20]))
    waited = path_graph(one_pair, asked, CONFIG).column("log_windows_since_answer")[:, 0]
    np.testing.assert_allclose(waited, np.log([1.0 + 2.0, 1.0 + 1.0, 1.0 + 3.0]), rtol=1e-6)
