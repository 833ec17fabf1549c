"""MLP: the same features, heads and training without the graph. What a graph model gains over it, the graph gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from gnn.models.graph_predictor import GraphPredictor
from gnn.models.typed_layers import Neighbourhood
from gnn.predictor import Kind


class MlpEncoder(nn.Module):
    """Layers with a residual connection, wide enough to have as many parameters as a graph encoder.

    Args:
        hidden: D.
        layers: how many.
        widening: hidden features of a layer, as a multiple of D.
        dropout: of each layer's output.
    """

    def __init__(self, *, hidden: int, layers: int, widening: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.wide = nn.ModuleList(nn.Linear(hidden, widening * hidden) for _ in range(layers))
        self.narrow = nn.ModuleList(nn.Linear(widening * hidden, hidden) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(layers))

    def forward(self, h: Tensor, around: Neighbourhood) -> Tensor:  # noqa: ARG002  it hears nobody
        """(N, D) -> (N, D)."""
        for wide, narrow, norm in zip(self.wide, self.narrow, self.norms, strict=True):
            h = h + functional.dropout(
                torch.relu(norm(narrow(torch.relu(wide(h))))), self.dropout, self.training
            )
        return h


class Mlp(GraphPredictor):
    """The ablation: everything but the graph. It sees no column that tells of other pairs in the window, and points at no mate.

    What mates tell is in the base of pairs without a past, as for all models: without it nothing could be said of these.
    """

    name: ClassVar[str] = "mlp"
    kind: ClassVar[Kind] = Kind.MLP
    effort: ClassVar[int] = 3
    citation: ClassVar[str] = (
        "Gorishniy, Rubachev, Khrulkov, Babenko: Revisiting Deep Learning Models for Tabular Data, NeurIPS 2021, arXiv:2106.11959"
    )
    hears: ClassVar[bool] = False

    def encoder(self, relations: tuple[str, ...], edge_dims: Mapping[str, int]) -> nn.Module:  # noqa: ARG002
        """The encoder, untrained."""
        settings = self.settings
        return MlpEncoder(
            hidden=settings.hidden,
            layers=settings.layers,
            widening=settings.widening,
            dropout=settings.dropout,
        )
