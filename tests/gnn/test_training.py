from __future__ import annotations

import gc
import weakref

import torch
from torch import nn
from torch_geometric.data import HeteroData

from gnn.training import TrainingConfig, train

CONFIG = TrainingConfig(
    epochs=2, steps_an_epoch=3, patience=2, learning_rate=1e-3, weight_decay=0.0, clip=1.0, average=0.9
)


def test_a_mini_batch_and_all_that_came_of_it_are_let_go_of_before_the_next_is_made():
    gone: list[bool] = []

    class Kept(torch.autograd.Function):
        """Stands for what is worked out of a mini-batch, and kept for its gradients."""

        @staticmethod
        def forward(ctx, x):
            ctx.large = nn.Module()
            refs.append(weakref.ref(ctx.large))
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient

    refs: list[weakref.ref] = []

    def batches(count):
        for _ in range(count):
            gone.append(all(one() is None for one in refs))
            made = [HeteroData()]
            refs.append(weakref.ref(made[0]))
            yield made.pop()

    class Again:
        def __iter__(self):
            return batches(2)

    network = nn.Linear(1, 1)
    gc.disable()  # nothing is left to it
    try:
        train(
            network,
            lambda _: batches(3),
            Again(),
            lambda own, _: Kept.apply(own(torch.ones(1, 1))).sum(),
            CONFIG,
            progress=None,
        )
    finally:
        gc.enable()
    assert gone == [True] * 10
