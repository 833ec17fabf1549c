"""GraphTransformer: a pair attends to those it hears, knowing where in the graph it is and what the edge says."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import TransformerConv

from gnn.blocks import NodeTable, in_blocks
from gnn.hearing import Table
from gnn.models.graph_predictor import GraphPredictor
from gnn.models.typed_layers import Neighbourhood


class TableTransformerConv(TransformerConv):  # type: ignore[misc]  # PyG has no types
    r"""PyG's `TransformerConv`, over a table of k neighbours in place of a list of edges: the same numbers, without scattering.

    .. math::
        h_i' = \sum_j \alpha_{ij} (W_3 h_j + W_6 e_{ij}), \quad
        \alpha_{ij} = \mathrm{softmax}_j \frac{(W_1 h_i)^\top (W_2 h_j + W_6 e_{ij})}{\sqrt d}

    Shi et al., Masked Label Prediction: Unified Message Passing Model for Semi-Supervised Classification (IJCAI 2021), equations 3 to 5.
    """

    of_alone: ClassVar[bool] = False

    def over_table(self, h: Tensor, heard: Table, edge: Tensor | None, asked: Tensor | None = None) -> Tensor:
        """(N, D), a table of B by k, (B, k, E) or None, and who these B are, None for all -> (B, heads x channels).

        Who hears nobody gets zeros.
        """
        channels, nobody = self.out_channels, len(h)
        queries = self.lin_query(h if asked is None else h[asked])
        keys, values = (
            [NodeTable(one, heard) for one in linear(h).chunk(self.heads, dim=1)]
            for linear in (self.lin_key, self.lin_value)
        )
        of_edge = () if edge is None else self.lin_edge.weight.chunk(self.heads)

        def attend(queries: Tensor, heard: Tensor, edge: Tensor | None) -> tuple[Tensor]:
            there = (heard < nobody)[:, None, :]
            own = queries.chunk(self.heads, dim=1)
            score = torch.stack(
                [
                    (key.rows(heard) * query[:, None, :]).sum(dim=-1)
                    for query, key in zip(own, keys, strict=True)
                ],
                dim=1,
            )
            if edge is not None:
                # q (W e) as (q W) e: what W makes of each edge is never held.
                asking = [query @ weight for query, weight in zip(own, of_edge, strict=True)]
                score = score + torch.stack(asking, dim=1) @ edge.transpose(1, 2)
            alpha = torch.softmax((score / math.sqrt(channels)).masked_fill(~there, -1e9), dim=2) * there
            alpha = functional.dropout(alpha, p=self.dropout, training=self.training)
            told = [value.sums(heard, one) for value, one in zip(values, alpha.unbind(dim=1), strict=True)]
            if edge is not None:
                of_edges = (alpha @ edge).unbind(dim=1)
                told = [
                    one + sums @ weight.T for one, sums, weight in zip(told, of_edges, of_edge, strict=True)
                ]
            return (torch.cat(told, dim=1),)

        return in_blocks(attend, queries, heard.heard, edge)[0]


class DegreeEncoding(nn.Module):
    """Says where in the graph a node is: how many it hears of each type, as a share of the most.

    After the structural encodings of Ying et al., Do Transformers Really Perform Badly for Graph Representation? (NeurIPS 2021), section
    3.1.1. Eigenvectors of the Laplacian (Dwivedi, Bresson 2021) are of one graph, and each window has another.

    Args:
        relations: edge types.
        hidden: D.
    """

    def __init__(self, *, relations: tuple[str, ...], hidden: int) -> None:
        super().__init__()
        self.relations = relations
        self.linear = nn.Linear(len(relations), hidden, bias=False)

    def forward(self, h: Tensor, around: Neighbourhood) -> Tensor:
        """(N, D) -> (N, D), what is added to the features."""
        degree = [(around[relation].heard.heard < len(h)).float().mean(dim=1) for relation in self.relations]
        out: Tensor = self.linear(torch.stack(degree, dim=-1))
        return out


class GraphTransformer(GraphPredictor):
    """Attention on the path graph."""

    name: ClassVar[str] = "graph-transformer"
    citation: ClassVar[str] = (
        "Shi, Huang, Feng, Zhong, Wang, Sun: Masked Label Prediction: Unified Message Passing Model for Semi-Supervised "
        "Classification, IJCAI 2021, arXiv:2009.03509"
    )

    asks_edges: ClassVar[bool] = True

    def convolution(self, edge_dim: int | None) -> nn.Module:
        """Attention with `settings.heads` heads."""
        hidden, heads = self.settings.hidden, self.settings.heads
        made = TableTransformerConv(
            hidden, hidden // heads, heads=heads, edge_dim=edge_dim, root_weight=False, bias=False
        )
        del made.lin_skip  # PyG makes it also where nothing asks it
        return made

    def positional_encoding(self, relations: tuple[str, ...]) -> nn.Module:
        """How much each node hears, by edge type."""
        return DegreeEncoding(relations=relations, hidden=self.settings.hidden)
