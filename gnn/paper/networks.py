"""The four networks of the paper, with PyG's own layers, and how they are trained (sections III-4 and III-5)."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import ChebConv, ResGatedGraphConv, SAGEConv, TransformerConv

from gnn.device import one_thread
from gnn.paper.probe_graph import ProbeGraph
from gnn.training import repeatable
from kg.arrays import Floats, Ints

HEADS = 4


def _transformer(features: int, hidden: int) -> nn.Module:
    """Shi et al., Masked Label Prediction (IJCAI 2021). The degree, by which it knows where it is in the graph, is a feature."""
    layer: nn.Module = TransformerConv(features, hidden // HEADS, heads=HEADS)
    return layer


def _cheb(features: int, hidden: int) -> nn.Module:
    """Defferrard et al., Convolutional Neural Networks on Graphs with Fast Localized Spectral Filtering (NeurIPS 2016)."""
    layer: nn.Module = ChebConv(features, hidden, K=3)
    return layer


def _res_gated(features: int, hidden: int) -> nn.Module:
    """Bresson, Laurent, Residual Gated Graph ConvNets (2017), arXiv:1711.07553."""
    layer: nn.Module = ResGatedGraphConv(features, hidden)
    return layer


def _sage(features: int, hidden: int) -> nn.Module:
    """Hamilton, Ying, Leskovec, Inductive Representation Learning on Large Graphs (NeurIPS 2017); all neighbours, none sampled."""
    layer: nn.Module = SAGEConv(features, hidden)
    return layer


NETWORKS: Mapping[str, Callable[[int, int], nn.Module]] = MappingProxyType(
    {"graph-transformer": _transformer, "cheb-net": _cheb, "res-gated-gcn": _res_gated, "sage": _sage}
)
"""Model -> its layer, of F features to D. Each gives a node its own features beside what it hears, so each can copy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RaceConfig:
    """How networks are made and trained: all four alike.

    Attributes:
        hidden, layers, dropout: 64 and 3 as in the prototype; its dropout of .3 is for three times as many nodes.
        epochs: at most, each one step on the whole graph.
        patience: epochs without a better validation loss before it stops.
        learning_rate, weight_decay: of AdamW (Loshchilov, Hutter, ICLR 2019).
        plateau: epochs without a better validation loss before ReduceLROnPlateau halves the rate.
        clip: largest norm of a gradient.
    """

    hidden: int = 64
    layers: int = 3
    dropout: float = 0.1
    epochs: int = 200
    patience: int = 20
    learning_rate: float = 0.005
    weight_decay: float = 1e-4
    plateau: int = 8
    clip: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What came of one training.

    Attributes:
        told: (N, 2) of all nodes, in the paper's units.
        epochs: the epoch whose weights were kept.
        seconds: of training.
        parameters: learned numbers.
    """

    told: Floats
    epochs: int
    seconds: float
    parameters: int


class ProbeNetwork(nn.Module):
    r"""Layers of one convolution on the probe graph, then a head for both targets.

    .. math::
        h_i' = h_i + \mathrm{ReLU}\,\mathrm{LN}\,\mathrm{conv}(h)_i

    the first layer without :math:`h_i`, whose width is another.

    Args:
        layer: makes the convolution, of F features to D.
        features: F.
        config: D, layers and dropout.
    """

    def __init__(self, layer: Callable[[int, int], nn.Module], features: int, config: RaceConfig) -> None:
        super().__init__()
        hidden, self.dropout = config.hidden, config.dropout
        widths = [features] + [hidden] * (config.layers - 1)
        self.layers = nn.ModuleList(layer(width, hidden) for width in widths)
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in widths)
        self.head = nn.Sequential(nn.Linear(hidden, hidden // 2), nn.ReLU(), nn.Linear(hidden // 2, 2))

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """(N, F) float32 and (2, E) int64 -> (N, 2) in the paper's units."""
        h = x
        for number, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            message = functional.dropout(torch.relu(norm(layer(h, edges))), self.dropout, self.training)
            h = message if number == 0 else h + message
        out: Tensor = self.head(h)
        return out


def trained(
    model: str, graph: ProbeGraph, train: Ints, validation: Ints, config: RaceConfig, *, seed: int
) -> Trained:
    """Train one network on the whole graph: losses of the training nodes, stopped by the validation nodes.

    Args:
        model: a name among `NETWORKS`.
        graph: every node is heard, also those that are scored.
        train: numbers of the nodes that are learned.
        validation: numbers of the nodes that it is stopped by.
        config: how.
        seed: of weights and dropout.
    """
    x = torch.from_numpy(graph.features.astype(np.float32))
    y = torch.from_numpy(graph.targets.astype(np.float32))
    edges = torch.from_numpy(graph.edges)
    learned, held = torch.from_numpy(train), torch.from_numpy(validation)
    with one_thread(), repeatable(seed):
        network = ProbeNetwork(NETWORKS[model], x.shape[1], config)
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.5, patience=config.plateau)
        began = time.perf_counter()
        best, best_loss, best_epoch = copy.deepcopy(network.state_dict()), math.inf, 0
        for epoch in range(1, config.epochs + 1):
            network.train()
            optimiser.zero_grad()
            torch.autograd.backward(_squared_error(network(x, edges), y, learned))
            nn.utils.clip_grad_norm_(network.parameters(), config.clip)
            optimiser.step()
            network.eval()
            with torch.no_grad():
                loss = float(_squared_error(network(x, edges), y, held))
            schedule.step(loss)
            if loss < best_loss:
                best, best_loss, best_epoch = copy.deepcopy(network.state_dict()), loss, epoch
            elif epoch - best_epoch >= config.patience:
                break
        seconds = time.perf_counter() - began
        network.load_state_dict(best)
        with torch.no_grad():
            told = network(x, edges).numpy().astype(np.float64)
    return Trained(
        told=told,
        epochs=best_epoch,
        seconds=seconds,
        parameters=sum(weight.numel() for weight in network.parameters()),
    )


def _squared_error(told: Tensor, y: Tensor, nodes: Tensor) -> Tensor:
    """MSE over what is known of these nodes."""
    known = torch.isfinite(y[nodes])
    return functional.mse_loss(told[nodes][known], y[nodes][known])
