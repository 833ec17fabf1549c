"""Training: AdamW over mini-batches of windows, averaged weights, stopped by the validation windows."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from gnn.predictor import Learned, Progress

Loss = Callable[[nn.Module, HeteroData], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """How a network is trained.

    Attributes:
        epochs: at most.
        steps_an_epoch: mini-batches of an epoch.
        patience: epochs without a better validation loss before it stops.
        learning_rate, weight_decay: of AdamW (Loshchilov, Hutter, ICLR 2019); the rate rises and falls once (Smith, Topin, Super-Convergence,
            2019).
        clip: largest norm of a gradient.
        average: decay a step of the averaged weights (Polyak, Juditsky 1992) that are validated and kept.
    """

    epochs: int
    steps_an_epoch: int
    patience: int
    learning_rate: float
    weight_decay: float
    clip: float
    average: float


def train(
    network: nn.Module,
    epoch: Callable[[], Iterable[HeteroData]],
    validation: Sequence[HeteroData],
    loss: Loss,
    config: TrainingConfig,
    *,
    progress: Progress | None,
) -> Learned:
    """Train in place; the network ends with the averaged weights of its best epoch.

    Args:
        network: begins with the weights it has.
        epoch: gives the mini-batches of an epoch, with targets; fresh ones each time.
        validation: mini-batches to stop by, with targets.
        loss: of a network on a batch, one number.
        config: how.
        progress: told after each epoch.
    """
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=config.learning_rate,
        total_steps=config.epochs * config.steps_an_epoch + 1,
        pct_start=0.15,
    )
    averaged = copy.deepcopy(network).eval()
    losses: list[float] = []
    best, best_loss, step = copy.deepcopy(averaged.state_dict()), math.inf, 0
    for number in range(1, config.epochs + 1):
        network.train()
        for batch in epoch():
            optimiser.zero_grad()
            torch.autograd.backward(loss(network, batch))
            nn.utils.clip_grad_norm_(network.parameters(), config.clip)
            optimiser.step()
            schedule.step()
            step += 1
            _average(averaged, network, min(config.average, step / (step + 10.0)))
        with torch.no_grad():
            held = [float(loss(averaged, batch)) for batch in validation]
        losses.append(sum(held) / len(held))
        if progress is not None:
            progress(number, config.epochs, losses[-1])
        if losses[-1] < best_loss:
            best, best_loss = copy.deepcopy(averaged.state_dict()), losses[-1]
        elif len(losses) - 1 - losses.index(min(losses)) >= config.patience:
            break
    network.load_state_dict(best)
    network.eval()
    return Learned(
        epochs=len(losses),
        best_epoch=1 + losses.index(min(losses)),
        parameters=sum(weight.numel() for weight in network.parameters()),
        losses=tuple(losses),
    )


@contextmanager
def repeatable(seed: int) -> Iterator[torch.Generator]:
    """All of torch's randomness from one seed; its global state and modes are as before afterwards."""
    deterministic, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)
        try:
            yield torch.Generator().manual_seed(seed)
        finally:
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)


@torch.no_grad()
def _average(averaged: nn.Module, network: nn.Module, decay: float) -> None:
    for mean, weight in zip(averaged.parameters(), network.parameters(), strict=True):
        mean.lerp_(weight, 1.0 - decay)
