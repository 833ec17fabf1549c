"""What every registered predictor must do."""

from __future__ import annotations

import inspect
from dataclasses import fields, replace

import numpy as np
import pytest

from domain.errors import DataError, UnknownNameError
from gnn.models.graph_predictor import GraphSettings
from gnn.path_graph import PathGraphConfig
from gnn.prediction import NEVER_ANSWERED, NEVER_SENT, Prediction
from gnn.predictor import Kind, counted
from gnn.protocols.forecast import Forecast
from gnn.registry import PREDICTORS, predictor_class, predictor_named

SMALL = GraphSettings(graph=PathGraphConfig(neighbours=4), hidden=8, epochs=2)


def small(name):
    kind = predictor_class(name)
    return kind(SMALL) if kind.kind is Kind.GNN else kind()


def fitted(name, arrays, seed=0):
    predictor = small(name)
    split = Forecast().split(arrays)
    predictor.fit(arrays, split, seed=seed)
    return predictor, split


def of_kind(kind):
    return [name for name in sorted(PREDICTORS) if predictor_class(name).kind is kind]


every = pytest.mark.parametrize("name", sorted(PREDICTORS))
every_baseline = pytest.mark.parametrize("name", of_kind(Kind.BASELINE))
every_gnn = pytest.mark.parametrize("name", of_kind(Kind.GNN))


@every
def test_it_is_documented_cited_and_carries_its_name(name):
    kind = predictor_class(name)
    assert kind.name == name
    assert len(inspect.getdoc(kind)) > 20
    assert any(year in kind.citation for year in map(str, range(1950, 2030)))
    assert predictor_named(name).kind in Kind


@every
def test_it_predicts_physical_numbers_in_order_for_every_known_pair(name, arrays):
    predictor, split = fitted(name, arrays)
    told = predictor.predict(arrays, split.test)
    assert {getattr(told, field.name).shape for field in fields(Prediction)} == {
        (len(split.test), arrays.pairs)
    }
    assert told.in_range.all()
    assert (told.reason == "").all()
    for name_ms in ("rtt", "jitter"):
        low, middle, high = (getattr(told, f"{name_ms}{bound}_ms") for bound in ("_low", "", "_high"))
        assert (low >= 0.0).all()
        assert (low <= middle).all()
        assert (middle <= high).all()
    for ratio in (told.any_loss_probability, told.loss_ratio):
        assert ((ratio >= 0.0) & (ratio <= 1.0)).all()
    wrong = np.abs(told.rtt_ms - arrays.rtt_ms[split.test.windows])
    assert np.nanmedian(wrong) < 10.0  # ms; the paths lie between 10 and 120 ms


@every
def test_a_pair_never_measured_is_out_of_range_and_gets_no_number(name, arrays):
    sent, rtt = arrays.sent.copy(), arrays.rtt_ms.copy()
    sent[:, 0] = 0
    rtt[:, :2] = np.nan  # pair 0 was never sent to, pair 1 never answered
    changed = replace(
        arrays,
        sent=sent,
        received=np.where(np.isfinite(rtt), arrays.received, 0),
        rtt_ms=rtt,
        jitter_ms=np.where(np.isfinite(rtt), arrays.jitter_ms, np.nan),
    )
    predictor, split = fitted(name, changed)
    told = predictor.predict(changed, split.test)
    assert not told.in_range[:, :2].any()
    assert (told.reason[:, 0] == NEVER_SENT).all()
    assert (told.reason[:, 1] == NEVER_ANSWERED).all()
    for value in (told.rtt_ms, told.rtt_low_ms, told.rtt_high_ms, told.jitter_ms):
        assert np.isnan(value[:, :2]).all()
    assert np.isnan(told.any_loss_probability[:, 0]).all()
    assert np.isfinite(told.any_loss_probability[:, 1]).all()  # its loss is known


@every
def test_of_paths_whose_packets_nobody_counted_rtt_is_predicted_and_no_loss_and_no_jitter(name, arrays):
    uncounted = replace(
        arrays,
        sent=np.zeros_like(arrays.sent),
        received=np.zeros_like(arrays.received),
        jitter_ms=np.full_like(arrays.jitter_ms, np.nan),
    )
    predictor, split = fitted(name, uncounted)
    told = predictor.predict(uncounted, split.test)
    assert told.in_range.all()
    assert np.nanmedian(np.abs(told.rtt_ms - arrays.rtt_ms[split.test.windows])) < 10.0
    for unknown in (told.any_loss_probability, told.loss_ratio, told.jitter_ms):
        assert np.isnan(unknown).all()


@every
def test_a_constant_series_is_predicted(name, arrays):
    rtt = np.where(np.isfinite(arrays.rtt_ms), 42.0, np.nan)
    constant = replace(arrays, rtt_ms=rtt, jitter_ms=np.where(np.isfinite(rtt), 0.5, np.nan))
    predictor, split = fitted(name, constant)
    told = predictor.predict(constant, split.test)
    np.testing.assert_allclose(told.rtt_ms, 42.0, atol=0.5)
    np.testing.assert_allclose(told.jitter_ms, 0.5, atol=0.2)
    assert (told.rtt_high_ms - told.rtt_low_ms < 2.0).all()


@every_baseline
def test_ten_times_the_rtt_is_ten_times_the_prediction_of_a_baseline(name, arrays):
    tenfold = replace(arrays, rtt_ms=10.0 * arrays.rtt_ms, jitter_ms=10.0 * arrays.jitter_ms)
    predictor, split = fitted(name, arrays)
    other, _ = fitted(name, tenfold)
    one, ten = predictor.predict(arrays, split.test), other.predict(tenfold, split.test)
    for field in ("rtt_ms", "rtt_low_ms", "rtt_high_ms", "jitter_ms", "jitter_high_ms"):
        np.testing.assert_allclose(10.0 * getattr(one, field), getattr(ten, field), rtol=1e-9)
    np.testing.assert_array_equal(one.any_loss_probability, ten.any_loss_probability)


@every
def test_the_same_seed_gives_the_same_bits_and_torch_is_left_as_it_was(name, arrays):
    import torch

    before = torch.random.get_rng_state()
    one, split = fitted(name, arrays, seed=3)
    other, _ = fitted(name, arrays, seed=3)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not torch.are_deterministic_algorithms_enabled()
    np.testing.assert_array_equal(
        one.predict(arrays, split.test).rtt_ms, other.predict(arrays, split.test).rtt_ms
    )


@every
def test_the_window_after_the_last_is_predicted(name, arrays):
    predictor, _ = fitted(name, arrays)
    told = predictor.predict(arrays, Forecast().question(arrays, np.array([arrays.windows])))
    assert np.isfinite(told.rtt_ms).all()


@every
def test_it_refuses_to_predict_before_it_was_fitted(name, arrays):
    with pytest.raises(DataError):
        small(name).predict(arrays, Forecast().question(arrays, np.array([5])))


@every
def test_pairs_measured_only_once_are_nothing_to_learn_from(name, make_arrays):
    arrays = make_arrays(probes=4, targets=5, windows=20)
    once = np.arange(arrays.windows)[:, None] == np.arange(arrays.pairs)[None, :]
    single = replace(
        arrays,
        rtt_ms=np.where(once, 10.0, np.nan),
        jitter_ms=np.where(once, 1.0, np.nan),
        sent=np.where(once, 3, 0),
        received=np.where(once, 3, 0),
    )
    with pytest.raises(DataError, match="nothing to learn from"):
        fitted(name, single)


@every
def test_all_loss_is_nothing_to_learn_rtt_from(name, arrays):
    lost = replace(
        arrays,
        rtt_ms=np.full_like(arrays.rtt_ms, np.nan),
        jitter_ms=np.full_like(arrays.jitter_ms, np.nan),
        received=np.zeros_like(arrays.received),
    )
    with pytest.raises(DataError, match="nothing to learn from"):
        fitted(name, lost)


@every
def test_what_it_sees_is_counted_from_its_own_inputs(name, arrays):
    predictor = small(name)
    asked = Forecast().question(arrays, np.array([2, 30]))
    nodes, edges = counted(predictor, arrays, asked)
    assert nodes == sum(int((arrays.sent[:until] > 0).any(axis=0).sum()) for until in (2, 30))
    inputs = predictor.inputs(arrays, asked)
    graphs = [inputs.graphs[int(graph)] for graph in inputs.graph_of]
    assert edges == {relation: sum(graph[relation].shape[1] for graph in graphs) for relation in graphs[0]}
    assert (sum(edges.values()) > 0) == (predictor.kind is Kind.GNN)
    if predictor.kind is Kind.GNN:
        fewer = predictor_class(name)(GraphSettings(graph=PathGraphConfig(neighbours=1)))
        assert sum(counted(fewer, arrays, asked)[1].values()) < sum(edges.values())


def test_an_unknown_model_is_named():
    with pytest.raises(UnknownNameError, match="oracle"):
        predictor_named("oracle")


def test_a_baseline_is_had_without_torch():
    import subprocess
    import sys

    code = (
        "import sys; from gnn.registry import predictor_named; import gnn.evaluation, gnn.artefact; "
        "predictor_named('last-value'); predictor_named('seasonal-median'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_last_value_is_the_latest_value_however_old(arrays):
    predictor, split = fitted("last-value", arrays)
    told = predictor.predict(arrays, split.test).rtt_ms
    for row, window in enumerate(split.test.windows):
        for pair in (0, 7):
            past = arrays.rtt_ms[:window, pair]
            assert told[row, pair] == past[np.isfinite(past)][-1]


def test_seasonal_median_is_the_median_of_the_slot_over_earlier_days(arrays):
    predictor, split = fitted("seasonal-median", arrays)
    told = predictor.predict(arrays, split.test).rtt_ms
    for row, window in enumerate(split.test.windows):
        earlier = arrays.rtt_ms[window % 8 : window : 8]  # eight windows of 3 h a day
        np.testing.assert_allclose(told[row], np.nanmedian(earlier, axis=0))


def lossy_pair(arrays, losses):
    """One pair that loses so many of ten packets in each window; None is not measured."""
    lost = np.array([0 if loss is None else loss for loss in losses])[:, None]
    sent = np.array([0 if loss is None else 10 for loss in losses])[:, None]
    return replace(
        arrays, window_start_s=arrays.window_start_s[: len(losses)], sent=sent, received=sent - lost
    )


def test_the_loss_of_last_value_follows_on_what_the_latest_window_had(arrays):
    losses = [0, 0, 3, None, 2, 0, 0, 4, 0]
    changed = lossy_pair(arrays, losses)
    question = Forecast().question(changed, np.arange(1, 10))
    probability, ratio = predictor_class("last-value")().loss(changed, question)
    np.testing.assert_allclose(ratio[:, 0], [0, 0, 0.3, 0.3, 0.2, 0, 0, 0.4, 0])
    # No loss was followed by 0, 3, 0, 4: half of four. Loss was followed by 2, 0, 0: a third.
    assert probability[-1, 0] == pytest.approx((2 + 0.5) / (4 + 1))
    assert probability[-2, 0] == pytest.approx((1 + 0.5) / (2 + 1))  # the last 0 is not seen yet
    assert probability[0, 0] == 0.5  # nothing has followed yet


def test_the_loss_of_seasonal_median_is_that_of_the_slot_and_falls_back(arrays):
    losses = [1, 0, 0, None, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, None]  # two days of eight windows
    changed = lossy_pair(arrays, losses)
    question = Forecast().question(changed, np.array([3, 11, 16]))
    probability, ratio = predictor_class("seasonal-median")().loss(changed, question)
    np.testing.assert_allclose(ratio[:, 0], [0.1 / 3, 0.4 / 10, 0.2])
    np.testing.assert_allclose(probability[:, 0], [1.5 / 4, 2.5 / 11, 2.5 / 3])


@every_baseline
def test_any_loss_of_a_baseline_is_never_certain_and_its_own(name, arrays):
    predictor, split = fitted(name, arrays)
    told = predictor.predict(arrays, split.test).any_loss_probability
    assert ((told > 0.0) & (told < 1.0)).all()
    for other in of_kind(Kind.BASELINE):
        if other != name:
            beside = fitted(other, arrays)[0].predict(arrays, split.test)
            assert not np.array_equal(told, beside.any_loss_probability)
            assert not np.array_equal(predictor.predict(arrays, split.test).loss_ratio, beside.loss_ratio)


@every_gnn
def test_progress_is_told_after_every_epoch(name, arrays):
    told = []
    split = Forecast().split(arrays)
    learned, _ = small(name).fit(
        arrays, split, seed=0, progress=lambda epoch, of, loss: told.append((epoch, of, loss))
    )
    assert [(epoch, of) for epoch, of, _ in told] == [(1, 2), (2, 2)]
    assert tuple(loss for *_, loss in told) == learned.losses
    assert learned.parameters > 0


@every_gnn
def test_other_columns_than_those_it_was_fitted_on_are_named(name, arrays):
    predictor, split = fitted(name, arrays)
    with pytest.raises(DataError, match="probe_betweenness"):
        predictor.predict(replace(arrays, centrality_names=("betweenness",)), split.test)


@every_gnn
def test_the_graph_lets_it_hear_of_what_other_paths_of_a_probe_suffer(name, make_arrays):
    """Synthetic: each path is seldom measured, so that a spell of its probe is known from the probe's other paths."""
    arrays = make_arrays(probes=16, targets=8, windows=60, unmeasured=0.8, persistence=0.92)
    split = Forecast().split(arrays)
    cells, truth = split.test.cells(arrays), arrays.rtt_ms[split.test.windows]
    errors = {}
    for neighbours in (0, 8):
        network = predictor_class(name)(
            GraphSettings(graph=PathGraphConfig(neighbours=neighbours), hidden=16, epochs=15)
        )
        network.fit(arrays, split, seed=0)
        errors[neighbours] = np.abs(network.predict(arrays, split.test).rtt_ms - truth)[cells.rtt].mean()
    assert errors[8] < 0.95 * errors[0]
