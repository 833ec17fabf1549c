"""The paper's set-up: copying wins, networks copy, and without the answer little is left."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from domain.errors import DataError
from domain.progress import unheard
from gnn.paper.networks import RaceConfig
from gnn.paper.probe_graph import ANSWERS, HONEST_NEIGHBOURS, LEAKY_FEATURES, Features, probe_graph
from gnn.paper.race import QUICK, node_masks, race
from tests.gnn.conftest import synthetic_arrays

ARRAYS = synthetic_arrays(probes=50, targets=5, windows=8)
"""50 probes and 5 targets: 55 hosts."""

LEAKY, HONEST = probe_graph(ARRAYS, Features.LEAKY), probe_graph(ARRAYS, Features.HONEST)
SHORT = RaceConfig(hidden=8, layers=2, epochs=5)
NETWORKS = ("graph-transformer", "cheb-net", "res-gated-gcn", "sage")


@pytest.fixture(scope="module")
def run():
    return race(ARRAYS, seeds=[0, 1], report=unheard, config=QUICK)


@pytest.fixture(scope="module")
def rows(run):
    return {(row["model"], row["features"]): row for row in run.plain()["ours"]}


def _silent(arrays, hosts):
    """The same, where all that these hosts sent or were sent was lost."""
    of = np.isin(arrays.probe_end.host, hosts) | np.isin(arrays.target_end.host, hosts)
    return replace(
        arrays,
        rtt_ms=np.where(of, np.nan, arrays.rtt_ms),
        jitter_ms=np.where(of, np.nan, arrays.jitter_ms),
        received=np.where(of, 0, arrays.received),
    )


def test_copying_the_input_is_perfect(rows):
    row = rows["copying the input", "copy"]
    assert row["r2"] == pytest.approx(1.0)
    assert row["mae"] == pytest.approx(0.0)


def test_copying_what_was_clipped_as_a_feature_is_nearly_as_good(rows):
    assert rows["copying the clipped input", "copy"]["r2"] > 0.8


@pytest.mark.parametrize("model", [*NETWORKS, "linear regression"])
def test_a_model_that_has_the_answer_among_its_inputs_beats_itself_without(rows, model):
    leaky, honest = rows[model, "leaky"], rows[model, "honest"]
    assert leaky["r2"] > honest["r2"] + 0.2
    assert leaky["mae"] < honest["mae"]
    assert leaky["mae_ms"] < honest["mae_ms"]


def test_the_mean_of_the_training_nodes_explains_nothing(rows):
    assert rows["mean of the training nodes", "honest"]["r2"] <= 0.0


def test_the_warning_the_quoted_figures_and_the_mark_of_synthetic_data_come_with_the_rows(run):
    plain = run.plain()
    assert plain["warning"].startswith("DO NOT READ THESE FIGURES AS ACCURACY")
    assert plain["synthetic"]
    assert "SYNTHETIC" in plain["set"]
    assert [(one["model"], one["r2"], one["mae"]) for one in plain["quoted"]] == [
        ("GraphTransformer", 0.9763, 0.0750),
        ("ChebNet", 0.9697, None),
        ("ResGatedGCN", None, None),
        ("SAGE", None, None),
    ]
    assert {row["features"] for row in plain["ours"]} == {"leaky", "honest", "copy"}
    for row in plain["ours"]:
        assert {"r2", "mae", "rmse", "huber", "epochs", "mae_ms", "seconds", "parameters"} < row.keys()


def test_epochs_seconds_and_parameters_are_of_networks(rows):
    for model in NETWORKS:
        assert rows[model, "leaky"]["epochs"] >= 1
        assert rows[model, "leaky"]["seconds"] > 0.0
        assert rows[model, "leaky"]["parameters"] > rows[model, "honest"]["parameters"]


def test_the_conclusion_says_what_copying_explains_and_what_is_left_without_the_answer(run, rows):
    said = run.concluded
    assert said.startswith("Do not read these figures as accuracy")
    assert "Copying the input explains 100.0 % " in said
    for features in ("leaky", "honest"):
        best = max((rows[model, features]["r2"], model) for model in NETWORKS)
        assert f"{best[1]}, explains {'nothing' if best[0] <= 0 else f'{100 * best[0]:.1f} %'}" in said
    assert said.endswith("all of that is the answer among the inputs.") == (
        max(rows[model, "honest"]["r2"] for model in NETWORKS) <= 0.0
    )


@pytest.mark.parametrize("nodes", [20, 55, 247, 989])
def test_masks_are_disjoint_cover_all_nodes_and_are_60_20_20(nodes):
    masks = node_masks(nodes, seed=3)
    every = np.concatenate([masks.train, masks.validation, masks.test])
    np.testing.assert_array_equal(np.sort(every), np.arange(nodes))
    assert [len(masks.train), len(masks.validation), len(masks.test)] == pytest.approx(
        [0.6 * nodes, 0.2 * nodes, 0.2 * nodes], abs=1.0
    )


def test_the_same_seed_draws_the_same_masks_and_another_seed_others():
    np.testing.assert_array_equal(node_masks(55, seed=1).test, node_masks(55, seed=1).test)
    assert (node_masks(55, seed=1).test != node_masks(55, seed=2).test).any()


def test_the_same_seed_gives_the_same_race_bit_for_bit_and_progress_is_told_before_each_training():
    both = race(ARRAYS, seeds=[0, 1], report=unheard, config=SHORT)
    heard = []
    again = race(ARRAYS, seeds=[1], report=lambda *said: heard.append(said), config=SHORT)
    for row, other in zip(again.rows, both.rows, strict=True):
        assert row.r2_by_seed == other.r2_by_seed[1:]
    assert [(done, total) for _, done, total in heard] == [(done, 8) for done in range(9)]


def test_the_answer_is_a_feature_of_the_leaky_graph_only():
    assert LEAKY.columns == LEAKY_FEATURES
    assert not set(HONEST.columns) & set(ANSWERS)
    np.testing.assert_array_equal(LEAKY.targets, HONEST.targets)


def test_honest_features_and_edges_do_not_change_with_any_rtt_jitter_or_loss():
    generator = np.random.default_rng(0)
    other = replace(
        ARRAYS,
        rtt_ms=ARRAYS.rtt_ms * generator.uniform(0.1, 9.0, size=ARRAYS.rtt_ms.shape),
        jitter_ms=ARRAYS.jitter_ms * 3.0,
        received=ARRAYS.received // 2,
    )
    changed = probe_graph(other, Features.HONEST)
    np.testing.assert_array_equal(changed.features, HONEST.features)
    np.testing.assert_array_equal(changed.edges, HONEST.edges)
    leaky = probe_graph(other, Features.LEAKY)
    assert leaky.edges.shape != LEAKY.edges.shape or (leaky.edges != LEAKY.edges).any()


def test_leaky_edges_go_both_ways_and_join_nearly_all_and_honest_ones_are_few():
    pairs = set(zip(*LEAKY.edges.tolist(), strict=True))
    assert len(pairs) == LEAKY.edges.shape[1]
    assert pairs == {(b, a) for a, b in pairs}
    assert all(a != b for a, b in pairs)
    assert len(pairs) > 0.8 * LEAKY.nodes * (LEAKY.nodes - 1)
    assert np.bincount(HONEST.edges[1]).max() == HONEST_NEIGHBOURS


def test_a_capped_graph_keeps_the_most_alike_and_says_that_it_is_capped():
    few = probe_graph(ARRAYS, Features.LEAKY, most_edges=5 * LEAKY.nodes)
    assert few.capped
    assert not LEAKY.capped
    assert np.bincount(few.edges[1]).max() == 5
    apart = [np.abs(np.diff(graph.rtt_ms[graph.edges], axis=0)).mean() for graph in (few, LEAKY)]
    assert apart[0] < apart[1]
    degree, neighbours = few.columns.index("degree"), few.columns.index("neighbours")
    np.testing.assert_array_equal(LEAKY.features[:, degree], LEAKY.features[:, neighbours])


def test_targets_come_back_in_ms_where_they_are_not_clipped():
    inside = np.abs(LEAKY.targets[:, 0]) < 2.0
    np.testing.assert_allclose(LEAKY.scale.rtt_ms(LEAKY.targets)[inside], LEAKY.rtt_ms[inside])
    assert np.abs(LEAKY.targets).max() <= 3.0


def test_hosts_that_never_answered_are_left_out_and_counted():
    graph = probe_graph(_silent(ARRAYS, [3, 4, 5]), Features.LEAKY)
    assert graph.left_out == 3
    assert not np.isin(graph.host, [3, 4, 5]).any()


def test_too_few_hosts_are_an_error_that_says_how_many_there_are():
    with pytest.raises(DataError, match="14 hosts with an RTT"):
        race(synthetic_arrays(), seeds=[0], report=unheard, config=SHORT)
    with pytest.raises(DataError, match="0 hosts with an RTT"):
        race(_silent(ARRAYS, ARRAYS.probe_end.host), seeds=[0], report=unheard, config=SHORT)


def test_a_race_without_a_seed_is_an_error():
    with pytest.raises(DataError, match="needs a seed"):
        race(ARRAYS, seeds=[], report=unheard, config=SHORT)


def test_without_places_networks_and_packet_counts_it_races_on_rtt_alone_and_fills_features_with_means():
    nowhere = {"latitude": np.full(ARRAYS.pairs, np.nan), "longitude": np.full(ARRAYS.pairs, np.nan)}
    nobody = nowhere | {"asn": np.zeros(ARRAYS.pairs, dtype=np.int64)}
    blind = replace(
        ARRAYS,
        probe_end=replace(ARRAYS.probe_end, **nobody),
        target_end=replace(ARRAYS.target_end, **nobody),
        sent=np.zeros_like(ARRAYS.sent),
        received=np.zeros_like(ARRAYS.received),
    )
    found = race(blind, seeds=[0], report=unheard, config=SHORT)
    assert found.targets == 1
    assert found.filled == 4 * 55  # three of a place and one of loss
    assert "RTT only" in found.described
    assert all(math.isfinite(row.mae) and math.isfinite(row.mae_ms) for row in found.rows)
    assert probe_graph(blind, Features.HONEST).edges.shape == (2, 0)
