"""What every model must do, whatever its encoder: each is fitted once under each protocol, small."""

from __future__ import annotations

import inspect
from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest
import torch

from domain.errors import DataError, UnknownNameError
from gnn.audit import audit_answers
from gnn.models.graph_predictor import GraphSettings
from gnn.models.sage import Sage
from gnn.path_graph import AROUND, PathGraphConfig
from gnn.prediction import NEVER_ANSWERED, NEVER_SENT, Prediction
from gnn.predictor import Kind, counted
from gnn.protocols import PROTOCOLS, protocol_named
from gnn.protocols.forecast import Forecast
from gnn.registry import PREDICTORS, VARIANTS, predictor_class, predictor_named
from tests.gnn.anchor_mesh import FIRST_PROBE, anchor_mesh, of_pairs
from tests.gnn.conftest import synthetic_arrays

pytestmark = pytest.mark.usefixtures("rough_fits", "few_masks")

GRAPH = PathGraphConfig(neighbours=4, history=8, lags=4, buckets=16)
SMALL = GraphSettings(graph=GRAPH, hidden=8, layers=1, steps=10)
MODELS = sorted(
    name
    for name, path in PREDICTORS.items()
    if path.startswith("gnn.models.") and predictor_class(name).kind in (Kind.GNN, Kind.MLP)
)
every = pytest.mark.parametrize("name", MODELS)
every_gnn = pytest.mark.parametrize("name", [name for name in MODELS if predictor_class(name).hears])
every_protocol = pytest.mark.parametrize("under", sorted(PROTOCOLS))


@cache
def data(under):
    """Small arrays, as the protocol views them."""
    if not under.startswith("unseen"):
        return synthetic_arrays(probes=5, targets=4, windows=18)
    if under == "unseen-pair":
        return protocol_named(under).view(anchor_mesh(anchors=12, probes=0, windows=2, families=(4,)))
    # Twenty hosts, each measured with eight of the others: so few pairs of so many hosts.
    mesh = anchor_mesh(anchors=20, probes=0, windows=2, families=(4,))
    other = np.array([int(one.rsplit(".", 1)[1]) for one in mesh.target])
    return protocol_named(under).view(
        of_pairs(mesh, np.isin((other - (mesh.probe_id - FIRST_PROBE)) % 20, [1, 2, 3, 4]))
    )


def fit(name, arrays, under="forecast", *, seed=0, settings=SMALL, **more):
    protocol = protocol_named(under)
    split = protocol.splits(arrays, seed=0)[-1]
    predictor = predictor_class(name)(settings)
    learned, verdict = predictor.fit(arrays, split, protocol, seed=seed, **more)
    assert verdict.passed
    return predictor, split, learned


@cache
def fitted(name, under="forecast"):
    return fit(name, data(under), under)[:2]


def is_physical(told):
    for name in ("rtt", "jitter"):
        low, middle, high = (getattr(told, f"{name}{bound}_ms") for bound in ("_low", "", "_high"))
        known = np.isfinite(middle) & np.isfinite(low)
        assert (low[known] >= 0.0).all()
        assert (low[known] <= middle[known]).all()
        assert (middle[known] <= high[known]).all()
    for ratio in (told.any_loss_probability, told.loss_ratio):
        known = np.isfinite(ratio)
        assert ((ratio[known] >= 0.0) & (ratio[known] <= 1.0)).all()
    np.testing.assert_array_equal(told.in_range, np.isfinite(told.rtt_ms))
    np.testing.assert_array_equal(told.reason == "", told.in_range)


@every
def test_it_is_documented_cited_and_carries_its_name(name):
    kind = predictor_class(name)
    assert kind.name == name
    assert len(inspect.getdoc(kind)) > 20
    assert len(inspect.getdoc(inspect.getmodule(kind))) > 20
    assert any(year in kind.citation for year in map(str, range(1950, 2030)))
    assert predictor_named(name).kind in Kind


@every
@every_protocol
def test_under_every_protocol_it_is_audited_predicts_physical_numbers_and_answers_nothing_that_is_hidden(
    name, under
):
    arrays = data(under)
    predictor, split = fitted(name, under)  # the audit of its inputs is passed here
    told = predictor.predict(arrays, split.test)
    assert {getattr(told, field.name).shape for field in fields(Prediction)} == {
        (len(split.test), arrays.pairs)
    }
    is_physical(told)
    scored = split.test.cells(arrays).rtt
    assert told.in_range[scored].all()
    wrong = np.abs(told.rtt_ms - arrays.rtt_ms[split.test.windows])[scored]
    assert np.median(wrong) < 12.0  # ms; the paths lie between 10 and 120 ms
    few = split.test.part(slice(0, 1))
    audit_answers(predictor, arrays, few).require(name)


@every
def test_a_pair_never_measured_is_out_of_range_and_gets_no_number(name):
    arrays = data("forecast")
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
    predictor, split = fitted(name)
    told = predictor.predict(changed, split.test)
    assert not told.in_range[:, :2].any()
    assert (told.reason[:, 0] == NEVER_SENT).all()
    assert (told.reason[:, 1] == NEVER_ANSWERED).all()
    for value in (told.rtt_ms, told.rtt_low_ms, told.rtt_high_ms, told.jitter_ms):
        assert np.isnan(value[:, :2]).all()
    assert np.isnan(told.any_loss_probability[:, 0]).all()
    assert np.isfinite(told.any_loss_probability[:, 1]).all()  # its loss is known


@every
def test_of_paths_whose_packets_nobody_counted_rtt_is_predicted_and_no_loss_and_no_jitter(name):
    arrays = data("forecast")
    uncounted = replace(
        arrays,
        sent=np.zeros_like(arrays.sent),
        received=np.zeros_like(arrays.received),
        jitter_ms=np.full_like(arrays.jitter_ms, np.nan),
    )
    predictor, split = fitted(name)
    told = predictor.predict(uncounted, split.test)
    assert told.in_range.all()
    for unknown in (told.any_loss_probability, told.loss_ratio, told.jitter_ms):
        assert np.isnan(unknown).all()


@every
def test_a_constant_series_is_predicted(name):
    arrays = data("forecast")
    rtt = np.where(np.isfinite(arrays.rtt_ms), 42.0, np.nan)
    constant = replace(arrays, rtt_ms=rtt, jitter_ms=np.where(np.isfinite(rtt), 0.5, np.nan))
    predictor, split, _ = fit(name, constant)
    told = predictor.predict(constant, split.test)
    np.testing.assert_allclose(told.rtt_ms, 42.0, atol=0.5)
    np.testing.assert_allclose(told.jitter_ms, 0.5, atol=0.2)
    assert (told.rtt_high_ms - told.rtt_low_ms < 2.0).all()


@every
def test_the_same_seed_gives_the_same_bits_and_torch_is_left_as_it_was(name):
    before = torch.random.get_rng_state()
    arrays, (one, split) = data("forecast"), fitted(name)
    other, _, _ = fit(name, arrays)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not torch.are_deterministic_algorithms_enabled()
    for key, value in one.state().items():
        np.testing.assert_array_equal(value, other.state()[key])
    np.testing.assert_array_equal(
        one.predict(arrays, split.test).rtt_low_ms, other.predict(arrays, split.test).rtt_low_ms
    )


@every
@pytest.mark.parametrize("under", ["imputation", "unseen-pair"])
def test_pairs_in_another_order_are_answered_in_that_order(name, under):
    arrays = data(under)
    predictor, split = fitted(name, under)
    # So many neighbours that who is left out, or comes first of equals, makes no difference.
    wide = type(predictor).configured({**predictor.config(), "neighbours": arrays.pairs})
    wide.restore(predictor.state(), predictor.columns)
    order = np.random.default_rng(0).permutation(arrays.pairs)
    question = split.test.part(slice(0, 2))
    turned = replace(
        question,
        seen_past=question.seen_past[:, order],
        seen_now=question.seen_now[:, order],
        asked=question.asked[:, order],
        held_out=None if question.held_out is None else question.held_out[:, order],
    )
    one, other = wide.raw(arrays, question), wide.raw(of_pairs(arrays, order), turned)
    for value in ("rtt_low_ms", "rtt_ms", "rtt_high_ms", "jitter_ms", "any_loss_probability", "loss_ratio"):
        np.testing.assert_allclose(
            getattr(one, value)[:, order], getattr(other, value), rtol=2e-3, atol=2e-3, err_msg=value
        )


@every
def test_the_windows_after_the_last_are_predicted(name):
    arrays = data("forecast")
    later = Forecast().ask(arrays, np.array([arrays.windows, arrays.windows + 1]))
    told = fitted(name)[0].predict(arrays, later)
    assert np.isfinite(told.rtt_ms).all()
    is_physical(told)


@every
def test_it_refuses_to_predict_before_it_was_fitted(name):
    question = Forecast().question(data("forecast"), np.array([5]))
    for ask in (predictor_class(name)(SMALL).predict, predictor_class(name)(SMALL).raw):
        with pytest.raises(DataError, match="not fitted"):
            ask(data("forecast"), question)


@every
def test_other_columns_than_those_it_was_fitted_on_are_named(name):
    predictor, split = fitted(name)
    with pytest.raises(DataError, match="probe_betweenness"):
        predictor.predict(replace(data("forecast"), centrality_names=("betweenness",)), split.test)


@every
def test_its_state_makes_it_again(name):
    predictor, split = fitted(name)
    again = type(predictor).configured(predictor.config())
    again.restore(predictor.state(), predictor.columns)
    again.calibrated = predictor.calibrated
    one, other = (each.predict(data("forecast"), split.test) for each in (predictor, again))
    for field in fields(Prediction):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


@every
def test_what_it_sees_is_counted_from_its_own_inputs(name):
    arrays, predictor = data("forecast"), predictor_class(name)(SMALL)
    asked = Forecast().question(arrays, np.array([2, 15]))
    nodes, edges = counted(predictor, arrays, asked)
    assert nodes == sum(int(arrays.measured[:until].any(axis=0).sum()) for until in (2, 15))
    inputs = predictor.inputs(arrays, asked)
    wanted = {}
    for graph in inputs.graph_of:
        for relation, table in inputs.graphs[int(graph)].items():
            wanted[relation] = wanted.get(relation, 0) + int((table >= 0).sum())
    assert edges == wanted
    assert (sum(edges.values()) > 0) == predictor.hears


@pytest.mark.parametrize("name", ["sage", "mlp"])
def test_nothing_to_learn_from_is_said(name):
    arrays = data("forecast")
    lost = replace(
        arrays,
        rtt_ms=np.full_like(arrays.rtt_ms, np.nan),
        jitter_ms=np.full_like(arrays.jitter_ms, np.nan),
        received=np.zeros_like(arrays.received),
    )
    with pytest.raises(DataError, match="nothing to learn from"):
        fit(name, lost)


def test_progress_is_told_after_every_epoch():
    told = []
    _, _, learned = fit(
        "sage", data("forecast"), progress=lambda epoch, of, loss: told.append((epoch, of, loss))
    )
    assert [epoch for epoch, _, _ in told] == list(range(1, learned.epochs + 1))
    assert tuple(loss for *_, loss in told) == learned.losses
    assert learned.best_epoch == 1 + int(np.argmin(learned.losses))
    assert learned.parameters > 0


def test_where_no_validation_cell_is_asked_a_tenth_of_the_rows_says_when_to_stop():
    arrays, protocol = data("unseen-pair"), protocol_named("unseen-pair")
    split = protocol.splits(arrays, seed=0)[-1]
    nothing = replace(split.validation, asked=np.zeros_like(split.validation.asked))
    learned, _ = Sage(SMALL).fit(arrays, replace(split, validation=nothing), protocol, seed=0)
    assert len(set(learned.losses)) == learned.epochs
    assert min(learned.losses) > 0.0  # of no cell it would be 0, each time


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_rtt_may_be_regressed_as_a_difference_or_itself(variant):
    arrays = data("forecast")
    predictor, split, _ = fit("sage", arrays, settings=replace(SMALL, **VARIANTS[variant]))
    told = predictor.predict(arrays, split.test)
    assert told.in_range.all()
    is_physical(told)
    assert predictor_named(f"sage/{variant}").config() != predictor_named("sage").config()


def test_what_is_pointed_at_is_no_difference_so_residuals_change_nothing_there():
    arrays = data("forecast")
    predictor, split, _ = fit("sage", arrays, settings=replace(SMALL, residual=False))
    np.testing.assert_array_equal(
        predictor.predict(arrays, split.test).rtt_ms, fitted("sage")[0].predict(arrays, split.test).rtt_ms
    )


def other_pairs_changed(under):
    """A question, and arrays in which all that is seen of its first window is another."""
    arrays, split = data(under), fitted("mlp", under)[1]
    question = split.test.part(slice(0, 1))
    window = int(question.windows[0])
    rtt, jitter = arrays.rtt_ms.copy(), arrays.jitter_ms.copy()
    rtt[window, question.seen_now[0]] += 40.0
    jitter[window, question.seen_now[0]] += 4.0
    return question, replace(arrays, rtt_ms=rtt, jitter_ms=jitter)


def test_a_model_without_a_graph_sees_no_other_pair_of_the_window():
    question, changed = other_pairs_changed("imputation")
    arrays, (predictor, _) = data("imputation"), fitted("mlp", "imputation")
    inputs = predictor.inputs(arrays, question)
    assert not [name for name in inputs.columns if name.startswith(AROUND)]
    assert (inputs.graphs, dict(inputs.edge_numbers)) == (({},), {})
    one, other = predictor.raw(arrays, question), predictor.raw(changed, question)
    asked = question.asked
    for field in fields(Prediction):
        np.testing.assert_array_equal(getattr(one, field.name)[asked], getattr(other, field.name)[asked])


@every_gnn
def test_a_model_with_a_graph_does(name):
    question, changed = other_pairs_changed("imputation")
    predictor, _ = fitted(name, "imputation")
    one, other = predictor.raw(data("imputation"), question), predictor.raw(changed, question)
    moved = np.abs(one.rtt_ms - other.rtt_ms)[question.asked]
    assert np.nanmax(moved) > 1.0


def test_settings_out_of_their_range_are_named():
    for wrong in ({"hidden": 0}, {"dropout": 1.0}, {"learning_rate": -1.0}, {"steps": 0}):
        with pytest.raises(DataError, match=next(iter(wrong))):
            GraphSettings(**wrong)
    settings = GraphSettings(graph=GRAPH, hidden=8, residual=False)
    assert GraphSettings.from_names(settings.by_name()) == settings


def test_an_unknown_model_or_variant_is_named():
    for wrong in ("oracle", "sage/oracle", "last-value/plain/plain"):
        with pytest.raises(UnknownNameError, match=r"oracle|plain"):
            predictor_named(wrong)
