"""ResGatedGCN: a pair opens a gate to each that it hears."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import ResGatedGraphConv

from gnn.blocks import NodeTable, in_blocks
from gnn.hearing import Table
from gnn.models.graph_predictor import GraphPredictor


class TableResGatedConv(ResGatedGraphConv):  # type: ignore[misc]  # PyG has no types
    r"""PyG's `ResGatedGraphConv`, over a table of k neighbours: the same numbers, without scattering.

    .. math::
        h_i' = \sum_j \sigma(W_3 [h_i, e_{ij}] + W_4 [h_j, e_{ij}]) \odot W_2 [h_j, e_{ij}]
    """

    of_alone: ClassVar[bool] = False

    def over_table(self, h: Tensor, heard: Table, edge: Tensor | None, asked: Tensor | None = None) -> Tensor:
        """(N, D), a table of B by k, (B, k, E) or None, and who these B are, None for all -> (B, D').

        Who hears nobody gets zeros.
        """
        own, theirs, nobody = slice(0, h.shape[1]), slice(h.shape[1], None), len(h)

        def of_nodes(linear: nn.Module) -> Tensor:
            return functional.linear(h, linear.weight[:, own], linear.bias)  # type: ignore[index, arg-type]

        key = of_nodes(self.lin_key)
        key = key if asked is None else key[asked]
        said = [NodeTable(of_nodes(linear), heard) for linear in (self.lin_query, self.lin_value)]

        def open_gates(key: Tensor, heard: Tensor, edge: Tensor | None) -> tuple[Tensor]:
            there = (heard < nobody)[:, :, None]
            key = key[:, None, :]
            query, value = (table.rows(heard) for table in said)
            if edge is not None:
                told = [
                    functional.linear(edge, linear.weight[:, theirs])
                    for linear in (self.lin_key, self.lin_query, self.lin_value)
                ]
                key, query, value = key + told[0], query + told[1], value + told[2]
            return ((torch.sigmoid(key + query) * value * there).sum(dim=1),)

        return in_blocks(open_gates, key, heard.heard, edge)[0]


class ResGatedGcn(GraphPredictor):
    """Gated convolutions on the path graph."""

    name: ClassVar[str] = "res-gated-gcn"
    citation: ClassVar[str] = "Bresson, Laurent: Residual Gated Graph ConvNets, 2017, arXiv:1711.07553"

    asks_edges: ClassVar[bool] = True

    def convolution(self, edge_dim: int | None) -> nn.Module:
        """Gates."""
        hidden = self.settings.hidden
        return TableResGatedConv(hidden, hidden, edge_dim=edge_dim, root_weight=False, bias=False)
