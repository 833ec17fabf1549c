"""SAGE: a pair hears the mean of its neighbours, one convolution an edge type."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import SAGEConv

from gnn.models.graph_predictor import GraphPredictor
from gnn.tensors import padded


class TableSageConv(SAGEConv):  # type: ignore[misc]  # PyG has no types
    """PyG's `SAGEConv` with the mean, over a table of k neighbours: the same numbers, without scattering."""

    of_alone: ClassVar[bool] = False

    def over_table(self, h: Tensor, heard: Tensor, edge: Tensor | None) -> Tensor:  # noqa: ARG002  it asks no edge
        """(N, D) and (N, k) -> (N, D'). Who hears nobody gets zeros."""
        mean = functional.embedding_bag(heard, padded(h), mode="mean", padding_idx=len(h))
        out: Tensor = self.lin_l(mean)
        return out


class Sage(GraphPredictor):
    """GraphSAGE on the path graph."""

    name: ClassVar[str] = "sage"
    citation: ClassVar[str] = (
        "Hamilton, Ying, Leskovec: Inductive Representation Learning on Large Graphs, NeurIPS 2017, arXiv:1706.02216"
    )

    def convolution(self, edge_dim: int | None) -> nn.Module:  # noqa: ARG002  the mean asks no edge
        """The mean."""
        return TableSageConv(self.settings.hidden, self.settings.hidden, root_weight=False, bias=False)
