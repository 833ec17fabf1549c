"""SAGE: a pair hears the mean of its neighbours, one convolution an edge type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import SAGEConv

from gnn.models.graph_predictor import GraphPredictor


class SageEncoder(nn.Module):
    r"""GraphSAGE with mean aggregation over typed edges, summed over types.

    .. math::
        h_i' = h_i + \mathrm{ReLU}\,\mathrm{LN}\Bigl(W_0 h_i + \sum_r W_r \,
        \mathrm{mean}_{j \in \mathcal N_r(i)} h_j\Bigr)

    Hamilton, Ying, Leskovec: Inductive Representation Learning on Large Graphs (NeurIPS 2017), algorithm 1, with the
    sum over edge types of Schlichtkrull et al. (ESWC 2018), equation 2, and a residual connection.

    Args:
        relations: edge types.
        hidden: D.
        layers: how many hops are heard of.
        dropout: of each layer's message.
    """

    def __init__(self, *, relations: tuple[str, ...], hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.relations = relations
        self.dropout = dropout
        self.own = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(layers))
        self.heard = nn.ModuleList(
            nn.ModuleList(SAGEConv(hidden, hidden, root_weight=False, bias=False) for _ in relations)
            for _ in range(layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in range(layers))

    def forward(self, h: Tensor, adjacency: Mapping[str, Tensor]) -> Tensor:
        """(N, D) float32 and for each edge type an (N, N) CSR adjacency, row the hearer -> (N, D)."""
        for own, heard, norm in zip(self.own, self.heard, self.norms, strict=True):
            message = own(h)
            for relation, convolution in zip(self.relations, heard, strict=True):  # type: ignore[call-overload]
                if adjacency[relation].values().numel() > 0:
                    message = message + convolution(h, adjacency[relation])
            h = h + functional.dropout(torch.relu(norm(message)), self.dropout, self.training)
        return h


class Sage(GraphPredictor):
    """GraphSAGE on the path graph."""

    name: ClassVar[str] = "sage"
    citation: ClassVar[str] = (
        "Hamilton, Ying, Leskovec: Inductive Representation Learning on Large Graphs, NeurIPS 2017, arXiv:1706.02216"
    )

    def encoder(self, relations: tuple[str, ...]) -> nn.Module:
        """The graph encoder, untrained."""
        settings = self.settings
        return SageEncoder(
            relations=relations, hidden=settings.hidden, layers=settings.layers, dropout=settings.dropout
        )
