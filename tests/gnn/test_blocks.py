from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

from gnn import blocks
from gnn.blocks import NodeTable, in_blocks
from gnn.hearing import Table
from gnn.models.graph_predictor import GraphSettings
from gnn.path_graph import MATES, PathGraphConfig
from gnn.protocols.forecast import Forecast
from gnn.protocols.imputation import Imputation
from gnn.registry import PREDICTORS, predictor_class
from gnn.tensors import PAIR

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


def _rows(arrays):
    """Rows of imputation: half of each window is seen, so that mates have something to say, and many are asked."""
    split = Imputation().splits(arrays, seed=0)[-1]
    return split, split.fit.part(slice(0, 4))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("most", "block"), [(10, 7), (1000, 15)])
def test_in_blocks_the_loss_and_every_gradient_are_those_of_the_whole_graph(
    name, most, block, small, monkeypatch
):
    arrays = small[0]
    split, rows = _rows(arrays)
    predictor, network = _network(name, arrays, split, dropout=0.0)
    data = predictor._labelled(arrays, rows)
    whole, gradients = _loss_and_gradients(predictor, network, data)
    monkeypatch.setattr(blocks, "MOST_AT_ONCE", most)
    monkeypatch.setattr(blocks, "BLOCK", block)
    asked = int(torch.isfinite(torch.stack([data[PAIR].rtt, data[PAIR].jitter])).any(dim=0).sum())
    assert asked >= 2 * block
    again, in_blocks = _loss_and_gradients(predictor, network, data)
    assert again == pytest.approx(whole, rel=1e-5)
    assert gradients.keys() == in_blocks.keys()
    for key, gradient in gradients.items():
        torch.testing.assert_close(in_blocks[key], gradient, rtol=1e-3, atol=1e-5)
    if name != "mlp":  # what mates say is heard
        assert all(bool(gradients[f"rtt.mate_from_mate.{side}.weight"].any()) for side in MATES)


def test_what_is_dropped_in_a_block_is_dropped_again_when_it_is_worked_out_again(small, monkeypatch):
    arrays = small[0]
    _in_small_blocks(monkeypatch)
    split, rows = _rows(arrays)
    predictor, network = _network("graph-transformer", arrays, split, dropout=0.3)
    data = predictor._labelled(arrays, rows)

    def drawn_alike():
        torch.manual_seed(5)
        return predictor._loss(network, data)

    # Features are worked out in blocks, and all that follows hears them.
    weight = network.features.linear.bias
    network.zero_grad()
    drawn_alike().backward()
    way = weight.grad / weight.grad.norm()
    with torch.no_grad():
        weight += 1e-3 * way
        above = float(drawn_alike())
        weight -= 2e-3 * way
        below = float(drawn_alike())
    assert (above - below) / 2e-3 == pytest.approx(float(weight.grad.norm()), rel=0.05)


@pytest.fixture
def parted(small, monkeypatch):
    """A network and a mini-batch whose blocks are small."""
    _in_small_blocks(monkeypatch)
    split, rows = _rows(small[0])
    predictor, network = _network("graph-transformer", small[0], split, dropout=0.0)
    return predictor, network, predictor._labelled(small[0], rows)


def test_what_comes_back_for_a_sum_in_blocks_scales_all_its_gradients(parted):
    predictor, network, data = parted
    _, once = _loss_and_gradients(predictor, network, data)
    network.zero_grad()
    (3.0 * predictor._loss(network, data)).backward()
    weights = dict(network.named_parameters())
    for name, gradient in once.items():
        torch.testing.assert_close(weights[name].grad, 3.0 * gradient, rtol=1e-4, atol=1e-6)


def test_gradients_that_are_asked_for_twice_are_refused_and_not_wrong(parted):
    predictor, network, data = parted
    loss = predictor._loss(network, data)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="a second time"):
        loss.backward()


def test_weights_that_are_frozen_stay_and_those_that_nothing_asks_have_no_gradient(parted):
    predictor, network, data = parted
    for weight in network.loss.parameters():
        weight.requires_grad_(False)
    data[PAIR].jitter = torch.full_like(data[PAIR].jitter, torch.nan)
    _, found = _loss_and_gradients(predictor, network, data)
    assert not [name for name in found if name.startswith(("loss.", "jitter."))]
    assert [name for name in found if name.startswith("rtt.")]


def test_in_blocks_whose_matrices_are_multiplied_in_bfloat16_gradients_are_nearly_the_same(parted):
    predictor, network, data = parted
    _, exact = _loss_and_gradients(predictor, network, data)
    network.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):  # as a GPU would, for want of one
        predictor._loss(network, data).backward()
    weights = dict(network.named_parameters())
    both = torch.cat(
        [torch.stack([one.flatten(), weights[name].grad.flatten()]) for name, one in exact.items()], 1
    )
    assert float((both[0] - both[1]).norm() / both[0].norm()) < 0.05


def test_a_step_in_blocks_leaves_nothing_behind(parted):
    predictor, network, data = parted
    gc.collect()
    gc.disable()  # what refers to itself would stay until it is looked for, and tables are large
    try:
        loss = predictor._loss(network, data)
        loss.backward()
        assert not [one for one in gc.get_objects() if type(one) is NodeTable]
        assert float(loss.detach()) > 0.0
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
