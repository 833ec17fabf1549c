from __future__ import annotations

import numpy as np
import pytest
import torch

from gnn.device import CPU, best_device, mixed_precision, moved
from gnn.models.graph_predictor import GraphSettings
from gnn.path_graph import PathGraphConfig
from gnn.predictor import Lesson
from gnn.protocols.forecast import Forecast
from gnn.registry import PREDICTORS, predictor_class
from gnn.tensors import PAIR
from gnn.training import repeatable

MODELS = sorted(
    name for name, at in PREDICTORS.items() if at.startswith("gnn.models.") and name != "ensemble"
)
SMALL = GraphSettings(graph=PathGraphConfig(neighbours=4, history=12), hidden=8, steps=4)


@pytest.fixture(scope="module")
def small(make_arrays):
    arrays = make_arrays(probes=4, targets=4, windows=30)
    return arrays, Forecast().splits(arrays, seed=0)[-1]


def _learned(name, small, **given):
    arrays, split = small
    predictor = predictor_class(name)(SMALL, **given)
    predictor.learn(Lesson(arrays=arrays, split=split, protocol=Forecast(), seed=0))
    return predictor


def test_without_a_gpu_networks_run_on_the_cpu_and_nothing_is_moved_or_rounded(small):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert best_device() == CPU
    predictor = _learned("sage", small)
    data = predictor._labelled(small[0], small[1].validation.part(slice(0, 1)))
    assert moved(data, CPU) is data
    with mixed_precision(CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_every_tensor_of_a_mini_batch_is_moved(small):
    predictor = _learned("sage", small)
    data = predictor._labelled(small[0], small[1].validation.part(slice(0, 1)))
    there = moved(data, torch.device("meta"))
    stores = [there[PAIR], *(store for _, store in there.edge_items())]
    tensors = [value for store in stores for value in store.values()]
    assert len(tensors) > 10
    assert {tensor.device.type for tensor in tensors} == {"meta"}


@pytest.mark.parametrize("name", MODELS)
def test_a_network_whose_matrices_are_multiplied_in_bfloat16_still_learns_in_float32(name, small):
    predictor = _learned(name, small)
    network = predictor._fitted().train()
    data = predictor._labelled(small[0], small[1].validation.part(slice(0, 1)))
    with torch.autocast("cpu", dtype=torch.bfloat16):  # as a GPU would, for want of one
        loss = predictor._loss(network, data)
    loss.backward()
    assert torch.isfinite(loss)
    gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
    assert {gradient.dtype for gradient in gradients} == {torch.float32}
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_a_device_that_is_given_is_taken_and_answers_are_numpy_on_the_cpu(small):
    arrays, split = small
    predictor = _learned("sage", small, device=CPU)
    told = predictor.raw(arrays, split.test.part(slice(0, 1)))
    assert predictor.device == CPU
    assert told.rtt_ms.dtype == np.float64


def test_training_on_a_gpu_warns_of_kernels_without_a_repeatable_form_and_on_a_cpu_refuses_them():
    with repeatable(0, CPU):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
@pytest.mark.filterwarnings("ignore:.*deterministic")
def test_what_is_learned_on_a_gpu_answers_nearly_the_same_on_a_cpu(small):
    arrays, split = small
    there = _learned("graph-transformer", small)
    here = predictor_class("graph-transformer")(SMALL, device=CPU)
    here.restore(there.state(), there.columns)
    question = split.test.part(slice(0, 1))
    np.testing.assert_allclose(
        there.raw(arrays, question).rtt_ms, here.raw(arrays, question).rtt_ms, rtol=1e-3
    )
