from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

from gnn import blocks
from gnn.blocks import NodeTable, in_blocks
from gnn.hearing import Table
from gnn.models.graph_predictor import GraphSettings
from gnn.path_graph import PathGraphConfig
from gnn.protocols.forecast import Forecast
from gnn.registry import PREDICTORS, predictor_class

MODELS = sorted(
    name for name, at in PREDICTORS.items() if at.startswith("gnn.models.") and name != "ensemble"
)


@pytest.fixture(scope="module")
def small(make_arrays):
    arrays = make_arrays(probes=4, targets=4, windows=30)
    return arrays, Forecast().splits(arrays, seed=0)[-1]


def _in_small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "MOST_AT_ONCE", 10)
    monkeypatch.setattr(blocks, "BLOCK", 7)


def _network(name, arrays, split, dropout):
    settings = GraphSettings(
        graph=PathGraphConfig(neighbours=4, history=12),
        hidden=8,
        dropout=dropout,
        input_dropout=dropout,
        candidate_dropout=dropout,
    )
    predictor = predictor_class(name)(settings)
    predictor._columns = predictor.inputs(arrays, split.fit.part(slice(0, 1))).columns
    predictor._constants = dict(predictor.prepare(arrays, split))
    torch.manual_seed(0)
    return predictor, predictor._untrained(predictor._columns).train()


def _loss_and_gradients(predictor, network, data):
    network.zero_grad()
    loss = predictor._loss(network, data)
    loss.backward()
    return float(loss.detach()), {
        name: weight.grad.clone() for name, weight in network.named_parameters() if weight.grad is not None
    }


@pytest.mark.parametrize("name", MODELS)
def test_in_blocks_the_loss_and_every_gradient_are_those_of_the_whole_graph(name, small, monkeypatch):
    arrays, split = small
    predictor, network = _network(name, arrays, split, dropout=0.0)
    data = predictor._labelled(arrays, split.validation.part(slice(0, 1)))
    whole, gradients = _loss_and_gradients(predictor, network, data)
    _in_small_blocks(monkeypatch)
    parted, again = _loss_and_gradients(predictor, network, data)
    assert parted == pytest.approx(whole, rel=1e-5)
    assert gradients.keys() == again.keys()
    for key, gradient in gradients.items():
        torch.testing.assert_close(again[key], gradient, rtol=1e-3, atol=1e-5)


def test_what_is_dropped_in_a_block_is_dropped_again_when_it_is_worked_out_again(small, monkeypatch):
    arrays, split = small
    _in_small_blocks(monkeypatch)
    predictor, network = _network("graph-transformer", arrays, split, dropout=0.3)
    data = predictor._labelled(arrays, split.validation.part(slice(0, 1)))

    def drawn_alike():
        torch.manual_seed(5)
        return predictor._loss(network, data)

    weight = network.loss.last.bias
    network.zero_grad()
    drawn_alike().backward()
    with torch.no_grad():
        step = torch.tensor([1e-2, 0.0])
        weight += step
        above = float(drawn_alike())
        weight -= 2.0 * step
        below = float(drawn_alike())
    assert (above - below) / 2e-2 == pytest.approx(float(weight.grad[0]), rel=0.02)


def test_what_comes_back_for_a_sum_in_blocks_scales_all_its_gradients(small, monkeypatch):
    arrays, split = small
    _in_small_blocks(monkeypatch)
    predictor, network = _network("graph-transformer", arrays, split, dropout=0.0)
    data = predictor._labelled(arrays, split.validation.part(slice(0, 1)))
    _, once = _loss_and_gradients(predictor, network, data)
    network.zero_grad()
    (3.0 * predictor._loss(network, data)).backward()
    weights = dict(network.named_parameters())
    for name, gradient in once.items():
        torch.testing.assert_close(weights[name].grad, 3.0 * gradient, rtol=1e-4, atol=1e-6)


def test_in_blocks_whose_matrices_are_multiplied_in_bfloat16_gradients_are_float32(small, monkeypatch):
    arrays, split = small
    _in_small_blocks(monkeypatch)
    predictor, network = _network("sage", arrays, split, dropout=0.1)
    data = predictor._labelled(arrays, split.validation.part(slice(0, 1)))
    with torch.autocast("cpu", dtype=torch.bfloat16):  # as a GPU would, for want of one
        predictor._loss(network, data).backward()
    gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
    assert {gradient.dtype for gradient in gradients} == {torch.float32}
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_a_step_in_blocks_leaves_nothing_behind(small, monkeypatch):
    arrays, split = small
    _in_small_blocks(monkeypatch)
    predictor, network = _network("graph-transformer", arrays, split, dropout=0.1)
    data = predictor._labelled(arrays, split.validation.part(slice(0, 1)))
    gc.collect()
    gc.disable()  # what refers to itself would stay until it is looked for, and tables are large
    try:
        predictor._loss(network, data).backward()
        assert not [one for one in gc.get_objects() if type(one) is NodeTable]
    finally:
        gc.enable()


def test_answers_in_blocks_are_those_of_the_whole_graph(small, monkeypatch):
    arrays, split = small
    predictor, network = _network("graph-transformer", arrays, split, dropout=0.1)
    predictor._network = network.eval()
    question = split.test.part(slice(0, 2))
    whole = predictor.answer(predictor.inputs(arrays, question))
    _in_small_blocks(monkeypatch)
    parted = predictor.answer(predictor.inputs(arrays, question))
    np.testing.assert_allclose(parted.rtt_ms, whole.rtt_ms, rtol=1e-5)
    np.testing.assert_allclose(parted.jitter_ms, whole.jitter_ms, rtol=1e-5)


def test_a_node_that_is_heard_from_several_blocks_gets_the_gradients_of_all(monkeypatch):
    _in_small_blocks(monkeypatch)
    said = torch.arange(24.0).reshape(12, 2).requires_grad_()
    heard = torch.tensor([[0, 12]] * 12)  # all hear the first, and nobody
    table = NodeTable(said, Table(heard, 12))
    (told,) = in_blocks(lambda own: (table.rows(own).sum(dim=1),), heard)
    told.sum().backward()
    expected = torch.zeros(12, 2)
    expected[0] = 12.0
    torch.testing.assert_close(said.grad, expected)
