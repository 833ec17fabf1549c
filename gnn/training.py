"""Training: AdamW over mini-batches of windows, averaged weights, stopped by the validation windows.

After each epoch all that a training is made of can be kept (`gnn.checkpoint`): it goes on from there with the same bits.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.data import HeteroData

from domain.errors import ArtefactError
from gnn.checkpoint import Checkpoint
from gnn.device import CPU, mixed_precision, moved
from gnn.predictor import Learned, Progress
from gnn.shared_work import clock_s
from gnn.state import checked

Network = TypeVar("Network", bound=nn.Module)
Loss = Callable[[Network, HeteroData], Tensor]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Where a training is kept after each epoch, and the generators that its epochs draw from, besides torch's own.

    Attributes:
        checkpoint: the place.
        order: of the mini-batches.
        masks: of what is hidden.
    """

    checkpoint: Checkpoint
    order: torch.Generator
    masks: np.random.Generator


def train(
    network: Network,
    epoch: Callable[[int], Iterable[HeteroData]],
    validation: Iterable[HeteroData],
    loss: Loss[Network],
    config: TrainingConfig,
    *,
    progress: Progress | None,
    device: torch.device = CPU,
    kept: Kept | None = None,
) -> Learned:
    """Train in place; the network ends with the averaged weights of its best epoch.

    Args:
        network: begins with the weights it has, or with those that were kept.
        epoch: gives the mini-batches of an epoch, counted from 0, with targets.
        validation: mini-batches to stop by, with targets; gone through after each epoch.
        loss: of a network on a batch, one number.
        config: how.
        progress: told after each epoch, when it is kept; of epochs that were kept before it is not told again.
        device: where the network is; mini-batches are moved there one at a time.
        kept: where an interrupted training goes on from; None keeps nothing.

    Raises:
        ArtefactError: when what is kept is of another training, or damaged, or cannot be written.
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
    best = copy.deepcopy(averaged.state_dict())
    run = _Run(
        networks={"network": network, "averaged": averaged},
        best=best,
        optimiser=optimiser,
        schedule=schedule,
        device=device,
    )

    def error_of(batch: HeteroData) -> float:
        return float(loss(averaged, moved(batch, device)))

    began = clock_s()
    losses, step, before_s = ([], 0, 0.0) if kept is None else run.resumed(kept)
    while len(losses) < config.epochs and _since_best(losses) < config.patience:
        network.train()
        for batch in epoch(len(losses)):
            optimiser.zero_grad()
            with mixed_precision(device):
                error = loss(network, moved(batch, device))
            torch.autograd.backward(error)
            nn.utils.clip_grad_norm_(network.parameters(), config.clip)
            optimiser.step()
            schedule.step()
            step += 1
            _average(averaged, network, min(config.average, step / (step + 10.0)))
            del batch, error  # a large one, and all that was worked out of it, before the next is made
        with torch.no_grad():
            held = list(map(error_of, validation))  # none is held while the next is made
        lowest = min((one for one in losses if not math.isnan(one)), default=math.inf)
        losses.append(sum(held) / len(held))
        if losses[-1] < lowest:
            for name, weight in averaged.state_dict().items():
                best[name].copy_(weight)
        if kept is not None:
            run.keep(kept, losses, step, before_s + clock_s() - began)
        if progress is not None:
            progress(len(losses), config.epochs, losses[-1])
    network.load_state_dict(best)
    network.eval()
    return Learned(
        epochs=len(losses),
        best_epoch=1 + _best(losses),
        parameters=sum(weight.numel() for weight in network.parameters()),
        losses=tuple(losses),
        seconds=before_s or None,
    )


def _best(losses: list[float]) -> int:
    """Number of the best epoch, counted from 0; one without a number is never better."""
    return min(range(len(losses)), key=lambda number: (math.isnan(losses[number]), losses[number]))


def _since_best(losses: list[float]) -> int:
    return len(losses) - 1 - _best(losses) if losses else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """All that changes while a network is trained, besides the losses and what is drawn."""

    networks: Mapping[str, nn.Module]
    best: Mapping[str, Tensor]
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    device: torch.device

    def keep(self, kept: Kept, losses: list[float], step: int, seconds: float) -> None:
        """Write it all down, and how long it took."""
        tensors = {
            **self._weights(),
            "random.torch": torch.get_rng_state(),
            "random.order": kept.order.get_state(),
        }
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        optimiser = self.optimiser.state_dict()
        for number, of in optimiser["state"].items():
            tensors |= {f"optimiser.{number}.{name}": value for name, value in of.items()}
        numbers = {
            "losses": losses,
            "step": step,
            "seconds": seconds,
            "groups": optimiser["param_groups"],
            "schedule": self.schedule.state_dict(),
            "masks": kept.masks.bit_generator.state,
        }
        kept.checkpoint.write(numbers, {name: tensor.cpu().numpy() for name, tensor in tensors.items()})

    def resumed(self, kept: Kept) -> tuple[list[float], int, float]:
        """Take back what is kept: the losses up to there, the steps and the seconds; none where nothing is kept."""
        found = kept.checkpoint.read()
        if found is None:
            return [], 0, 0.0
        numbers, arrays = found
        try:
            return self._restored(kept, numbers, arrays)
        except (ArtefactError, KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
            raise kept.checkpoint.damaged(f"{type(error).__name__} {error}") from error

    def _weights(self) -> dict[str, Tensor]:
        own = {
            f"{which}.{name}": weight
            for which, network in self.networks.items()
            for name, weight in network.state_dict().items()
        }
        return own | {f"best.{name}": weight for name, weight in self.best.items()}

    def _restored(
        self, kept: Kept, numbers: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> tuple[list[float], int, float]:
        moments = {name: values for name, values in arrays.items() if name.startswith("optimiser.")}
        states = {name: values for name, values in arrays.items() if name.startswith("random.")}
        expected = {name: weight.cpu().numpy() for name, weight in self._weights().items()}
        checked(
            {name: values for name, values in arrays.items() if name not in moments.keys() | states.keys()},
            expected,
            where=str(kept.checkpoint.folder),
        )
        for name, weight in self._weights().items():
            weight.copy_(torch.from_numpy(arrays[name]))
        of: dict[int, dict[str, Tensor]] = {}
        for name, values in moments.items():
            _, number, moment = name.split(".")
            of.setdefault(int(number), {})[moment] = torch.from_numpy(values)
        self.optimiser.load_state_dict({"state": of, "param_groups": numbers["groups"]})
        schedule = numbers["schedule"]
        if schedule.keys() != self.schedule.state_dict().keys():
            raise KeyError("schedule")
        self.schedule.load_state_dict(schedule)
        kept.masks.bit_generator.state = numbers["masks"]
        kept.order.set_state(torch.from_numpy(states["random.order"]))
        torch.set_rng_state(torch.from_numpy(states["random.torch"]))
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(torch.from_numpy(states["random.cuda"]), self.device)
        return [float(loss) for loss in numbers["losses"]], int(numbers["step"]), float(numbers["seconds"])


@contextmanager
def repeatable(seed: int, device: torch.device = CPU) -> Iterator[torch.Generator]:
    """All of torch's randomness from one seed; its global state and modes are as before afterwards.

    On a CPU the same seed and as many threads give the same bits. On a GPU some kernels, such as sums over scattered rows, have no form that is
    the same in every run: there torch warns of those, and the last digits may differ.
    """
    deterministic, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
        try:
            yield torch.Generator().manual_seed(seed)
        finally:
            torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)


@torch.no_grad()
def _average(averaged: nn.Module, network: nn.Module, decay: float) -> None:
    for mean, weight in zip(averaged.parameters(), network.parameters(), strict=True):
        mean.lerp_(weight, 1.0 - decay)
